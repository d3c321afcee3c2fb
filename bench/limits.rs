//! What does a decision cost? Measures limits of one to four scopes, two budgets, the usage record, and key lookups among a
//! million keys, all in one process.
//!
//! `cargo bench --bench limits -- [--quick] [--instructions] [--keys N]`. Times are nanoseconds per decision. With
//! `--instructions` each case also runs under valgrind's callgrind, twice with different numbers of rounds, and the
//! difference is reported. Ratios are relative to the limits of one scope.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "its output is a table for people")]

use std::error::Error;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use async_trait::async_trait;
use clap::Parser;
use odock_edge::budget::{Account, Actual, BudgetEntry, Past, Reservation, Window, Worst};
use odock_edge::identity::{Homes, KeyHasher, Keyring, Keys};
use odock_edge::limit::{Course, Policy, Receipt, Scope, ScopePlan};
use odock_edge::store::memory::MemoryState;
use odock_edge::store::records::RecordStore;
use odock_edge::store::sql::{Options, SqlRecords};
use odock_edge::store::{Charge, Decisions, End, LeaseId, Stands, StateError, StateKey, Whole};
use odock_edge::telemetry::Metrics;
use odock_edge::usage::{AtMost, Books, Who};
use sqlx::Connection;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[derive(Parser)]
struct Args {
    /// A tenth of the rounds, and of the keys.
    #[arg(long)]
    quick: bool,
    /// Counts instructions too; needs valgrind.
    #[arg(long)]
    instructions: bool,
    /// Keys in the record store.
    #[arg(long)]
    keys: Option<usize>,
    /// Runs one case so many times and prints nothing.
    #[arg(long, hide = true, num_args = 2, value_names = ["CASE", "ROUNDS"])]
    only: Option<Vec<String>>,
    /// Cargo passes this to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A policy whose limits are never reached, so that the checks are measured and not refusals.
const POLICY: &str =
    "{ratelimit: {requests: {per_second: 900000, per_minute: 50000000}, tokens: {per_minute: 900000000000}, concurrency: {max: 100000}}}";
const SCOPES: [(Scope, &str); 4] = [(Scope::Organisation, "acme"), (Scope::Team, "t1"), (Scope::ApiKey, "k1"), (Scope::Model, "gpt")];
const CASES: [&str; 7] = ["1 scope", "2 scopes", "3 scopes", "4 scopes", "2 budgets", "4 scopes and 2 budgets", "usage record"];
/// Rounds of a case.
const ROUNDS: u64 = 300_000;

/// A history without usage.
struct Nothing;

#[async_trait]
impl Past for Nothing {
    async fn used(&self, _: &Account, _: Window) -> std::result::Result<i64, StateError> {
        Ok(0)
    }
}

struct World {
    state: MemoryState,
    /// The limits of no scope, of the first, of the first two, and so on.
    courses: Vec<Arc<Course>>,
    accounts: Vec<Arc<Account>>,
    books: Books,
    _folder: tempfile::TempDir,
}

impl World {
    fn new() -> Result<Self> {
        let policy: Policy = serde_yaml::from_str(POLICY)?;
        let plan = |(scope, owner): &(Scope, &str)| ScopePlan::new(*scope, "acme", owner, &policy).map(Arc::new);
        let plans: Vec<_> = SCOPES.iter().filter_map(plan).collect();
        let courses = (0..=plans.len()).map(|scopes| Arc::new(Course::new(None, &plans[..scopes], None))).collect();
        let account = |text: &str, owner: &str| -> Result<Arc<Account>> {
            let entry: BudgetEntry = serde_yaml::from_str(text)?;
            Ok(Arc::new(Account::of_budget(&entry, "acme", owner)?.ok_or("the budget is not active")?))
        };
        let accounts = vec![
            account("{name: all, period: MONTHLY, amount: 4000000}", "acme")?,
            account("{name: key, owner: {type: APIKEY, name: k1}, period: DAILY, amount: 4000000}", "k1")?,
        ];
        let folder = tempfile::tempdir()?;
        let books = Books::open(Some(folder.path()), Metrics::new()?.governance())?;
        Ok(Self { state: MemoryState::default(), courses, accounts, books, _folder: folder })
    }

    /// One request of a case, from the decision to the release.
    async fn request(&self, case: usize, number: u64, now: i64) -> Result<()> {
        let lease = LeaseId(u128::from(number) << 64 | 0x5eed);
        let (scopes, budgets) = match case {
            0..=3 => (case + 1, false),
            4 => (0, true),
            5 => (4, true),
            _ => return self.record(number).await,
        };
        let course = &self.courses[scopes];
        let worst = Worst { tokens_in: 350, tokens_out: 100, cost: 550_000 };
        let accounts: &[Arc<Account>] = if budgets { &self.accounts } else { &[] };
        let made = match Reservation::of_open(accounts, lease, now, &worst) {
            Some(made) => made,
            None => Reservation::open(&self.state, &Nothing, accounts, lease, now, &worst).await?,
        };
        let mut stands = Stands::default();
        let expires_in = Duration::from_secs(900);
        let meters = course.meters().ok_or("limits that nothing changes are granted at once")?;
        let granted = made.with_holds(|holds| self.state.grant(lease, &Whole { meters, tokens: 500, holds, expires_in }, &mut stands));
        let at = granted.ok_or("nothing is near its limit, and it was refused")?;
        let mut receipt = Receipt::default();
        receipt.granted(lease, Arc::clone(course), 500, at);
        std::hint::black_box(course.standings(&stands));
        let actual = Actual { tokens_in: 200, tokens_out: 20, cost: 240_000, ..Actual::default() };
        let lent = receipt.lent(220).ok_or("what was granted at once is ended at once")?;
        let close =
            |charges: &[Charge<'_>], released: &[&StateKey]| self.state.close(lease, &lent, &End { charges, released, ..End::default() });
        made.with_end(Some(&actual), close).ok_or("what was granted at once is ended at once")?;
        Ok(())
    }

    /// The cost of journaling a request until it is on disk.
    async fn record(&self, number: u64) -> Result<()> {
        let who = Who {
            organisation: "acme",
            key: "acme/app",
            team: None,
            user: None,
            provider: Some("openai"),
            model: Some("gpt-4.1"),
            route: "openai",
            endpoint: "/v1/chat/completions",
            stream: false,
            trace_id: None,
        };
        let most = AtMost { tokens_in: 350, tokens_out: 100, cost: 550_000 };
        self.books.begin(u128::from(number), &who, micros() / 1000, most).await?;
        Ok(())
    }
}

fn micros() -> i64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

fn run(case: usize, rounds: u64) -> Result<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let world = World::new()?;
    runtime.block_on(async {
        let now = micros();
        world.request(case, u64::MAX, now).await?;
        let started = Instant::now();
        for number in 0..rounds {
            world.request(case, number, now).await?;
        }
        Ok(started.elapsed())
    })
}

/// Instructions per round: the difference between many and few rounds.
fn instructions(case: usize) -> Result<f64> {
    let counted = |rounds: u64| -> Result<f64> {
        let this = std::env::current_exe()?;
        let out = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(this)
            .args(["--only", &case.to_string(), &rounds.to_string()])
            .output()?;
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        let line = said.lines().find_map(|line| line.split_once("Collected :")).ok_or("valgrind counted nothing")?;
        Ok(line.1.trim().parse()?)
    };
    let (few, many) = (200, 2200);
    Ok((counted(many)? - counted(few)?) / ((many - few) as f64))
}

fn main() -> Result<()> {
    let args = Args::parse();
    if let Some(only) = &args.only {
        let [case, rounds] = only.as_slice() else { return Err("a case and its rounds".into()) };
        run(case.parse()?, rounds.parse()?)?;
        return Ok(());
    }
    let rounds = if args.quick { ROUNDS / 10 } else { ROUNDS };
    println!("{:<28} {:>10} {:>8} {:>14}", "decision", "ns", "×", "instructions");
    let mut first = None;
    for (case, name) in CASES.iter().enumerate() {
        let nanos = (0..3).map(|_| run(case, rounds)).collect::<Result<Vec<_>>>()?.into_iter().min().unwrap_or_default().as_nanos() as f64
            / rounds as f64;
        let one = *first.get_or_insert(nanos);
        let counted = if args.instructions { format!("{:.0}", instructions(case)?) } else { "-".to_owned() };
        println!("{name:<28} {nanos:>10.0} {:>8.2} {counted:>14}", nanos / one);
    }
    keys(args.keys.unwrap_or(if args.quick { 100_000 } else { 1_000_000 }))
}

/// Resident memory in MiB.
fn memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("odd /proc/self/status")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

fn secret(number: usize) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, &number.to_le_bytes());
    let digits: String = digest.as_ref()[..24].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sk_{digits}")
}

/// A random-looking identifier, as real ones are.
fn id(number: usize) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, format!("id {number}").as_bytes());
    let digits: String = digest.as_ref()[..12].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("key_{digits}")
}

/// Measures a start with this many keys in the record store, and lookups among them.
fn keys(count: usize) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("odock.db");
        let hashing = KeyHasher::new(&[7; 32]);
        let records = Arc::new(SqlRecords::embedded(&path, Options::default())?);
        records.migrate().await?;
        fill(&path, &hashing, count).await?;
        let before = memory()?;
        let started = Instant::now();
        let ring = Arc::new(Keyring::new(KeyHasher::new(&[7; 32]), Arc::new(homes()?), Duration::from_secs(900)));
        tokio::spawn(ring.clone().follow(records, Arc::new(MemoryState::default()), folder.path().join("keys")));
        while !ring.is_ready() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let took = started.elapsed();
        let settled = memory()? - before;
        println!(
            "\n{} keys: read in {:.2} s, {settled:.0} MiB, {:.0} bytes a key",
            ring.table().len(),
            took.as_secs_f64(),
            settled * 1048576.0 / count as f64
        );
        tokio::time::sleep(Duration::from_secs(5)).await;
        let known = Keys::default();
        for (what, from) in [("known", 0), ("known, again", 0), ("unknown", count)] {
            let step = (count / 100_000).max(1);
            let secrets: Vec<String> = (0..100_000.min(count)).map(|n| secret(from + n * step)).collect();
            let now = SystemTime::now();
            let mut times: Vec<u64> = Vec::with_capacity(secrets.len());
            let mut found = 0;
            for secret in &secrets {
                let at = Instant::now();
                found += usize::from(ring.authenticate(&known, secret.as_bytes(), now).is_ok());
                times.push(u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX));
            }
            times.sort_unstable();
            let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default();
            println!("{what:<14} {found:>7} found, p50 {} ns, p99 {} ns, p99.9 {} ns", at(500), at(990), at(999));
        }
        Ok(())
    })
}

/// Writes keys like `keys create`, many at a time.
async fn fill(path: &std::path::Path, hashing: &KeyHasher, count: usize) -> Result<()> {
    let mut connection = sqlx::SqliteConnection::connect(&format!("sqlite://{}", path.display())).await?;
    let mut tx = connection.begin().await?;
    for from in (0..count).step_by(2000) {
        let numbers: Vec<usize> = (from..(from + 2000).min(count)).collect();
        let row = "(?, 'acme', ?, NULL, NULL, ?, 'sk_…', NULL, NULL, 0, '{}', 0, 0, ?)";
        let rows = vec![row; numbers.len()].join(", ");
        let text = format!(
            "INSERT INTO api_keys (id, organisation, name, team, user_id, fingerprint, hint, expires, timezone, revoked, policies, rotations, created, version) VALUES {rows}"
        );
        let mut insert = sqlx::query(sqlx::AssertSqlSafe(text));
        for n in &numbers {
            let fingerprint = hashing.fingerprint(secret(*n).as_bytes()).to_vec();
            insert = insert.bind(id(*n)).bind(format!("k{n}")).bind(fingerprint).bind(*n as i64 + 1);
        }
        insert.execute(&mut *tx).await?;
        let rows = vec!["(?, 0, 'gpt')"; numbers.len()].join(", ");
        let mut insert = sqlx::query(sqlx::AssertSqlSafe(format!("INSERT INTO key_grants (key_id, resource, name) VALUES {rows}")));
        for n in &numbers {
            insert = insert.bind(id(*n));
        }
        insert.execute(&mut *tx).await?;
    }
    sqlx::query("UPDATE key_version SET n = ?").bind(count as i64).execute(&mut *tx).await?;
    tx.commit().await?;
    Ok(())
}

/// The one organisation that owns the keys.
fn homes() -> Result<Homes> {
    use odock_edge::identity::{Home, Organisation};
    let organisation = Arc::new(Organisation { id: "acme".into(), name: "acme".into(), metadata: Default::default() });
    let home = Home {
        organisation,
        teams: Default::default(),
        users: Default::default(),
        models: Arc::new(["gpt".to_owned()].into_iter().collect()),
        granted: Default::default(),
        mcp_servers: Default::default(),
        granted_servers: Default::default(),
        plan: None,
        team_plans: Default::default(),
        accounts: Vec::new(),
    };
    Ok([("acme".into(), home)].into_iter().collect())
}
