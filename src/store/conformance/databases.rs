//! The record stores that a test runs on.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use crate::store::records::RecordStore;
use crate::store::sql::{Options, SqlRecords};

/// One engine with an empty, current schema.
pub struct Database {
    pub name: &'static str,
    pub records: SqlRecords,
    /// The same data through another set of connections.
    pub other: SqlRecords,
    /// The folder with the file of the embedded store.
    pub folder: Option<tempfile::TempDir>,
    /// The address of the PostgreSQL server.
    pub address: Option<String>,
}

/// Every engine that can be run here, migrated.
pub async fn databases() -> Vec<Database> {
    let mut found = vec![sqlite()];
    found.extend(postgres().await);
    for database in &found {
        database.records.migrate().await.unwrap();
    }
    found
}

pub fn sqlite() -> Database {
    let folder = tempfile::tempdir().unwrap();
    let open = || SqlRecords::embedded(&folder.path().join("deep/odock.db"), Options::default()).unwrap();
    Database { name: "sqlite", records: open(), other: open(), folder: Some(folder), address: None }
}

pub async fn postgres() -> Option<Database> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let socket = SERVER.as_ref()?.folder.display();
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let of = |database: &str| format!("postgres://postgres@localhost/{database}?host={socket}");
    sqlx::PgPool::connect(&of("postgres")).await.unwrap().execute(&format!("CREATE DATABASE {name}")).await;
    let options = Options { connections: 4, timeout: Duration::from_secs(20) };
    let open = || SqlRecords::postgres(&of(&name), options).unwrap();
    Some(Database { name: "postgres", records: open(), other: open(), folder: None, address: Some(of(&name)) })
}

/// Runs a statement on the server directly, past the store.
pub trait Say {
    #[allow(async_fn_in_trait, reason = "of the tests alone")]
    async fn execute(&self, text: &str);
}

impl Say for sqlx::PgPool {
    async fn execute(&self, text: &str) {
        sqlx::query(sqlx::AssertSqlSafe(text.to_owned())).execute(self).await.unwrap();
    }
}

/// One PostgreSQL for all tests of this process.
static SERVER: LazyLock<Option<Server>> = LazyLock::new(Server::start);

struct Server {
    folder: PathBuf,
    /// Closing this end of the pipe ends the server, so it also ends when this process crashes.
    _alive: Mutex<(Child, ChildStdin)>,
}

/// The script that runs PostgreSQL: `$1` is the folder of its programs, `$2` an empty folder. PostgreSQL refuses to run as
/// root.
const KEEPER: &str = r#"
run() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }
if [ "$(id -u)" = 0 ]; then chown postgres "$2"; fi
cd "$2" || exit 1
run "$1/initdb" -D "$2/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >"$2/log" 2>&1 || { cat "$2/log" >&2; exit 1; }
run "$1/postgres" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=300 >>"$2/log" 2>&1 &
cat >/dev/null
kill -QUIT "$(head -n 1 "$2/data/postmaster.pid")"
wait
cd /
rm -rf "$2"
"#;

impl Server {
    fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let _ = writeln!(std::io::stderr(), "SKIPPED on postgres: initdb and postgres are not installed (tests/run installs them)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("odock-pg-").tempdir().unwrap().keep();
        let mut keeper = Command::new("sh")
            .args(["-c", KEEPER, "keeper"])
            .args([&programs, &folder])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let alive = keeper.stdin.take().unwrap();
        for _ in 0..600 {
            if std::os::unix::net::UnixStream::connect(folder.join(".s.PGSQL.5432")).is_ok() {
                return Some(Self { folder, _alive: Mutex::new((keeper, alive)) });
            }
            assert!(keeper.try_wait().unwrap().is_none(), "PostgreSQL ended");
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("PostgreSQL does not start");
    }
}

/// The folder of PostgreSQL's programs, which Debian keeps out of `PATH`.
fn programs() -> Option<PathBuf> {
    let in_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    in_path.chain(versions).find(|folder: &PathBuf| ["initdb", "postgres"].iter().all(|name| Path::is_file(&folder.join(name))))
}
