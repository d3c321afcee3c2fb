//! The gateway of a test: the real binary with the test's configuration, on free loopback ports, killed on drop.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::client::{self, Request, Response};

/// The key in the usual configuration, which contains only its SHA-256.
pub const KEY: &str = "sk_test_4f1c2a90b7d84e6f";
/// A key of the same organisation without grants.
pub const KEY_WITHOUT_GRANTS: &str = "sk_test_ungranted_0001";
pub const KEY_EXPIRED: &str = "sk_test_expired_0001";
pub const KEY_REVOKED: &str = "sk_test_revoked_0001";
/// A key of another organisation.
pub const KEY_ELSEWHERE: &str = "sk_test_elsewhere_0001";
/// The credential that the gateway presents to the provider instead of the caller's key.
pub const PROVIDER_KEY: &str = "sk-provider-7781aa";

/// How long a start may take: the debug binary on a machine with two cores that runs other tests as well.
const START: Duration = Duration::from_secs(60);
/// How long a test waits for what must happen. It happens long before; but a machine may be slow, and do other things.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A free port from below the ephemeral range, so that no outgoing connection of another test takes it before the gateway
/// binds it.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 300) as u16 * 64;
    loop {
        let port = 12_000 + (base - 12_000 + NEXT.fetch_add(1, Ordering::Relaxed)) % 20_000;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

pub fn sha256_hex(text: &str) -> String {
    ring::digest::digest(&ring::digest::SHA256, text.as_bytes()).as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

/// The configuration of a test; every member is YAML text in block or flow form.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The port of the provider `mock`, which serves the models `fast` and `secret`; `claude` is configured, too.
    pub upstream: u16,
    /// Lines under `server:`.
    pub server: String,
    /// Further lines of the provider `mock`, and the scheme of its address.
    pub provider: String,
    pub base_scheme: Option<&'static str>,
    /// The type of the provider `mock`; by default `openai`.
    pub base_kind: Option<&'static str>,
    /// Items of `plugins:`, one flow mapping each.
    pub plugins: Vec<String>,
    /// Lines of `chains.default`, e.g. `pre_route: {sequential: [a]}`.
    pub chain: Vec<String>,
    /// Further chains, e.g. `mine: {pre_route: {sequential: [a]}}`.
    pub chains: Vec<String>,
    /// Members of the route `llm`, in flow form.
    pub route: String,
    /// Further items of `routes:`, one flow mapping each.
    pub routes: Vec<String>,
    /// Further top-level sections.
    pub more: String,
    /// Members of `evidence`, in flow form.
    pub evidence: String,
    /// Members of `governance`, in flow form; if empty, no usage is kept.
    pub governance: String,
    /// Members of `state`, in flow form.
    pub state: String,
    /// Members of `records`, in flow form.
    pub records: String,
    /// Further members of `admin:`, in flow form.
    pub operators: String,
    /// The gateway's own policy, in flow form.
    pub policies: String,
    /// Lines of the organisation `acme`: policies, budgets, quotas.
    pub acme: Vec<String>,
    /// Further members of the team `support`, of the model `fast` and of the key `main`, in flow form.
    pub team: String,
    pub fast: String,
    pub main: String,
    /// The log level.
    pub log: Option<&'static str>,
    /// Whether the fault-injecting plugins of the tests are linked in.
    pub faults: bool,
    pub env: Vec<(String, String)>,
}

impl Setup {
    pub fn to(upstream: u16) -> Self {
        Self { upstream, ..Self::default() }
    }

    pub fn plugin(mut self, item: impl Into<String>) -> Self {
        self.plugins.push(item.into());
        self
    }

    pub fn chain(mut self, line: impl Into<String>) -> Self {
        self.chain.push(line.into());
        self
    }

    /// Adds a route under `/NAME/` to the test's plain upstream; `more` are further members, e.g. `, retries: 3`.
    pub fn plain(mut self, name: &str, chain: &str, more: &str) -> Self {
        let upstream = self.upstream;
        self.routes.push(format!(
            "{{name: {name}, match: {{path_prefix: /{name}/}}, chain: {chain}, on_unparsed: allow, upstream: {{addresses: [\"127.0.0.1:{upstream}\"]}}{more}}}"
        ));
        self
    }

    /// Adds a route to the models for requests with the header `x-case: NAME`, with a chain of that name.
    pub fn case(mut self, name: &str, chain: &str) -> Self {
        self.chains.push(format!("{name}: {chain}"));
        self.routes.push(format!("{{name: {name}, match: {{path: /v1/chat/completions, headers: {{x-case: {name}}}}}, chain: {name}}}"));
        self
    }

    pub fn faults(mut self) -> Self {
        self.faults = true;
        self
    }

    /// The configuration file.
    pub fn yaml(&self, port: u16, admin: u16, dir: &Path) -> String {
        let upstream = self.upstream;
        let dir = dir.display();
        let indent = |text: &str, by: &str| text.lines().map(|l| format!("{by}{l}\n")).collect::<String>();
        let list = |items: &[String]| items.iter().map(|i| format!("  - {i}\n")).collect::<String>();
        let key = sha256_hex;
        let chain = if self.chain.is_empty() { "    {}\n".to_owned() } else { self.chain.iter().map(|l| format!("    {l}\n")).collect() };
        let plugins = if self.plugins.is_empty() { "plugins: []\n".to_owned() } else { format!("plugins:\n{}", list(&self.plugins)) };
        let more = |members: &str| if members.is_empty() { String::new() } else { format!(", {members}") };
        let route = more(&self.route);
        let section = |name: &str, members: &str| if members.is_empty() { String::new() } else { format!("{name}: {{{members}}}\n") };
        format!(
            "version: 1\n\
             server:\n  listen: [\"127.0.0.1:{port}\"]\n  upgrade_sock: \"{dir}/upgrade.sock\"\n{server}\
             admin: {{listen: \"127.0.0.1:{admin}\"{operators}}}\n\
             log: {{format: json, level: {level}}}\n\
             evidence: {{path: \"{dir}/evidence\"{evidence}}}\n\
             governance: {{usage_spool: \"{dir}/usage\", {governance}}}\n\
             records: {{{records}}}\n\
             {stores}\
             providers:\n\
             \x20 - name: mock\n    type: {kind}\n    base_url: \"{scheme}://{host}:{upstream}\"\n    api_key: {{env: MOCK_PROVIDER_KEY}}\n{provider}\
             \x20 - {{name: claude, type: anthropic, base_url: \"http://127.0.0.1:{upstream}\", api_key: {{env: MOCK_PROVIDER_KEY}}}}\n\
             \x20 - {{name: off, type: openai, enabled: false, base_url: \"http://127.0.0.1:{upstream}\", api_key: {{env: MOCK_PROVIDER_KEY}}}}\n\
             organisations:\n\
             \x20 - name: acme\n\
             {acme}\
             \x20   teams: [{{name: support{team}}}]\n\
             \x20   models:\n\
             \x20     - {{name: fast, provider: mock, slug: real-model-1{fast}}}\n\
             \x20     - {{name: secret, provider: mock, slug: real-model-2}}\n\
             \x20     - {{name: claude-fast, provider: claude, slug: claude-real-1}}\n\
             \x20     - {{name: switched-off, provider: off}}\n\
             \x20   api_keys:\n\
             \x20     - {{name: main, sha256: \"{main}\", models: [fast, claude-fast, switched-off]{main_more}}}\n\
             \x20     - {{name: bare, sha256: \"{bare}\", models: []}}\n\
             \x20     - {{name: old, sha256: \"{old}\", models: [fast], expiry: \"2020-01-01T00:00:00Z\"}}\n\
             \x20     - {{name: gone, sha256: \"{gone}\", models: [fast], revoked: true}}\n\
             \x20 - name: elsewhere\n\
             \x20   models: [{{name: theirs, provider: mock, slug: real-model-3}}]\n\
             \x20   api_keys: [{{name: other, sha256: \"{elsewhere}\", models: [theirs]}}]\n\
             {plugins}\
             chains:\n  default:\n{chain}{chains}\
             routes:\n\
             \x20 - {{name: llm, match: {{path_prefix: /v1/}}, chain: default{route}}}\n{routes}{more}",
            server = indent(&self.server, "  "),
            operators = more(&self.operators),
            evidence = more(&self.evidence),
            governance = if self.governance.is_empty() { "usage: false" } else { &self.governance },
            records = if self.records.is_empty() { format!("path: \"{dir}/odock.db\"") } else { self.records.clone() },
            stores = section("state", &self.state) + &section("policies", &self.policies),
            acme = self.acme.iter().map(|l| format!("    {l}\n")).collect::<String>(),
            team = more(&self.team),
            fast = more(&self.fast),
            main_more = more(&self.main),
            level = self.log.unwrap_or("info"),
            scheme = self.base_scheme.unwrap_or("http"),
            host = if self.base_scheme == Some("https") { "localhost" } else { "127.0.0.1" },
            kind = self.base_kind.unwrap_or("openai"),
            provider = indent(&self.provider, "    "),
            main = key(KEY),
            bare = key(KEY_WITHOUT_GRANTS),
            old = key(KEY_EXPIRED),
            gone = key(KEY_REVOKED),
            elsewhere = key(KEY_ELSEWHERE),
            chains = self.chains.iter().map(|l| format!("  {l}\n")).collect::<String>(),
            routes = list(&self.routes),
            more = self.more,
        )
    }

    /// Writes the file, starts the gateway and waits until it is ready.
    pub async fn start(self) -> Edge {
        let dir = tempfile::tempdir().unwrap();
        let (port, admin) = (free_port(), free_port());
        let file = dir.path().join("odock.yaml");
        std::fs::write(&file, self.yaml(port, admin, dir.path())).unwrap();
        let (child, output) = self.spawn(&file, dir.path());
        let mut edge = Edge { port, admin, file, dir, child, output };
        edge.wait_ready().await;
        edge
    }

    fn spawn(&self, file: &Path, dir: &Path) -> (Child, Arc<Mutex<Vec<u8>>>) {
        let args = ["run".to_owned(), "-c".to_owned(), file.display().to_string()];
        let mut command = if self.faults { crate::faults::command(&args) } else { binary() };
        if !self.faults {
            command.args(&args);
        }
        command.env("MOCK_PROVIDER_KEY", PROVIDER_KEY).envs(self.env.iter().cloned()).current_dir(dir);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        collect(child.stdout.take().unwrap(), output.clone());
        collect(child.stderr.take().unwrap(), output.clone());
        (child, output)
    }
}

/// The binary under test: the one built with the tests, or the one that `ODOCK_EDGE_BINARY` names, for measurements of an
/// optimised build.
pub fn binary() -> Command {
    Command::new(std::env::var_os("ODOCK_EDGE_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_odock-edge").into()))
}

/// Runs a command of the binary to its end. Returns exit code, stdout and stderr.
pub fn cli(args: &[&str]) -> (i32, String, String) {
    let out = binary().args(args).env("MOCK_PROVIDER_KEY", PROVIDER_KEY).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (out.status.code().unwrap_or(-1), text(&out.stdout), text(&out.stderr))
}

fn collect(mut from: impl Read + Send + 'static, into: Arc<Mutex<Vec<u8>>>) {
    std::thread::spawn(move || {
        let mut block = [0_u8; 8192];
        while let Ok(n) = from.read(&mut block) {
            if n == 0 {
                return;
            }
            into.lock().unwrap().extend_from_slice(&block[..n]);
        }
    });
}

/// A running gateway.
pub struct Edge {
    pub port: u16,
    pub admin: u16,
    pub file: PathBuf,
    pub dir: tempfile::TempDir,
    child: Child,
    output: Arc<Mutex<Vec<u8>>>,
}

impl Edge {
    async fn wait_ready(&mut self) {
        let end = Instant::now() + START;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!(
                    "the gateway ended with {status} instead of getting ready:\n{}\n{}",
                    self.log(),
                    std::fs::read_to_string(&self.file).unwrap()
                );
            }
            if self.ready().await && tokio::net::TcpStream::connect(("127.0.0.1", self.port)).await.is_ok() {
                return;
            }
            assert!(Instant::now() < end, "the gateway was not ready within {START:?}:\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Kills the process as a power failure would, and starts another with the same files.
    pub async fn killed_and_started_again(&mut self, setup: &Setup) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        (self.child, self.output) = setup.spawn(&self.file, self.dir.path());
        self.wait_ready().await;
    }

    pub async fn ready(&self) -> bool {
        let Ok(io) = tokio::net::TcpStream::connect(("127.0.0.1", self.admin)).await else { return false };
        drop(io);
        let answer = client::Http1::connect(self.admin).await.send(&Request::new("GET", "/readyz")).await;
        answer.is_some_and(|a| a.status == 200)
    }

    pub async fn send(&self, request: &Request) -> Response {
        client::send(self.port, request).await
    }

    /// Everything that it has written to stdout and stderr.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.output.lock().unwrap()).into_owned()
    }

    /// Waits until the log contains `text` more than `before` times.
    pub async fn logged(&self, text: &str, before: usize) {
        let found = eventually(PATIENCE, || self.log().matches(text).count() > before).await;
        assert!(found, "not logged: {text}\n{}", self.log());
    }

    pub async fn admin(&self, path: &str) -> Response {
        client::send(self.admin, &Request::new("GET", path)).await
    }

    pub async fn metrics(&self) -> String {
        self.admin("/metrics").await.text()
    }

    /// The sum of a metric over the series whose line contains every one of `labels`.
    pub async fn metric(&self, name: &str, labels: &[&str]) -> f64 {
        let text = self.metrics().await;
        let series = text.lines().filter(|l| l.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
        series.filter(|l| labels.iter().all(|label| l.contains(label))).filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// The id of the serving process; after an upgrade, not the one that was started.
    pub async fn pid(&self) -> u64 {
        self.admin("/version").await.json()["pid"].as_u64().unwrap()
    }

    pub async fn config_hash(&self) -> String {
        self.admin("/version").await.json()["config_hash"].as_str().unwrap().to_owned()
    }

    /// Sends a signal to the started process, or to the given successor.
    pub fn signal(&self, name: &str, pid: Option<u64>) {
        let pid = pid.unwrap_or_else(|| u64::from(self.child.id()));
        let status = Command::new("kill").arg(format!("-{name}")).arg(pid.to_string()).status().unwrap();
        assert!(status.success(), "kill -{name} {pid}");
    }

    /// Waits for the started process to end. Returns its exit code, and how long that took.
    pub async fn ended(&mut self, within: Duration) -> Option<(i32, Duration)> {
        let from = Instant::now();
        while from.elapsed() < within {
            if let Some(status) = self.child.try_wait().unwrap() {
                return Some((status.code().unwrap_or(-1), from.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        None
    }

    /// Overwrites the configuration file; the ports stay the same.
    pub fn rewrite(&self, setup: &Setup) {
        std::fs::write(&self.file, setup.yaml(self.port, self.admin, self.dir.path())).unwrap();
    }

    pub fn evidence_dir(&self) -> PathBuf {
        self.dir.path().join("evidence")
    }

    /// The evidence files, including those of processes that overlapped during an upgrade.
    pub fn evidence_files(&self) -> Vec<PathBuf> {
        fn logs(at: &Path, out: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(at).into_iter().flatten().flatten() {
                let path = entry.path();
                match path.is_dir() {
                    true => logs(&path, out),
                    false if path.extension().is_some_and(|x| x == "jsonl") => out.push(path),
                    false => {}
                }
            }
        }
        let mut files = Vec::new();
        logs(&self.evidence_dir(), &mut files);
        files.sort();
        files
    }

    /// The evidence as text.
    pub fn evidence(&self) -> String {
        self.evidence_files().iter().map(|f| std::fs::read_to_string(f).unwrap_or_default()).collect()
    }

    /// All evidence entries, without their hashes.
    pub fn evidence_entries(&self) -> Vec<serde_json::Value> {
        self.evidence().lines().map(|l| serde_json::from_str::<serde_json::Value>(l).unwrap()["entry"].take()).collect()
    }

    /// The evidence entry of a request; waits for the writer.
    pub async fn record(&self, request_id: &str) -> serde_json::Value {
        let find = || self.evidence().lines().find(|l| l.contains(request_id)).map(str::to_owned);
        assert!(eventually(PATIENCE, || find().is_some()).await, "no evidence of {request_id}:\n{}", self.log());
        let line: serde_json::Value = serde_json::from_str(&find().unwrap()).unwrap();
        line["entry"].clone()
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // After an upgrade the gateway is not a child of this test; it is found by the test's configuration file.
        let file = self.file.display().to_string();
        for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|n| n.parse::<u32>().ok()) else { continue };
            let cmdline = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            if pid != std::process::id() && String::from_utf8_lossy(&cmdline).contains(&file) {
                let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).stderr(Stdio::null()).status();
            }
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail = log.lines().rev().take(60).collect::<Vec<_>>();
            eprintln!("--- the last lines of the gateway's output");
            tail.iter().rev().for_each(|l| eprintln!("{}", l.chars().take(400).collect::<String>()));
        }
    }
}

/// The same for what can only be asked of the gateway.
pub async fn comes_true(within: Duration, mut yes: impl AsyncFnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !yes().await {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    true
}

/// Asks until the answer is yes or the time is over.
pub async fn eventually(within: Duration, mut yes: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + within;
    while !yes() {
        if Instant::now() > end {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    true
}
