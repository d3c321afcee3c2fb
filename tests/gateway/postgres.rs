//! Keys and usage on PostgreSQL, through the binary, also while the server is unavailable.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{self, Request};
use crate::edge::{Edge, KEY, PATIENCE, Setup, comes_true, eventually};
use crate::upstream::Upstream;

const TOKEN: &str = "token-of-the-operator-0001";
const PRICED: &str = "max_output_tokens: 100, pricing: {input: {text_cost_per_1k_tokens: 1}, output: {text_cost_per_1k_tokens: 2}}";

/// A server of the test's own that can be stopped and started again.
pub struct Postgres {
    programs: PathBuf,
    folder: PathBuf,
}

impl Postgres {
    /// `None` where it is not installed.
    pub fn start() -> Option<Self> {
        let in_path = std::env::var_os("PATH").into_iter().flat_map(|path| std::env::split_paths(&path).collect::<Vec<_>>());
        let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
        let Some(programs) = versions.chain(in_path).find(|folder| folder.join("pg_ctl").is_file()) else {
            eprintln!("SKIPPED on postgres: pg_ctl is not installed (tests/run installs it)");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("odock-pg-").tempdir().unwrap().keep();
        let this = Self { programs, folder };
        if root() {
            assert!(Command::new("chown").arg("postgres").arg(&this.folder).status().unwrap().success());
        }
        this.run("initdb", &["-D", "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"]);
        this.up();
        Some(this)
    }

    /// PostgreSQL refuses to run as root.
    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.programs.join(program);
        let mut command = Command::new(if root() { "runuser" } else { "env" });
        if root() {
            command.args(["-u", "postgres", "--"]);
        }
        command.arg(&program).args(arguments).current_dir(&self.folder).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        assert!(command.status().unwrap().success(), "{} {arguments:?}", program.display());
    }

    pub fn up(&self) {
        let options = format!("-k {} -c listen_addresses= -c fsync=off", self.folder.display());
        self.run("pg_ctl", &["-D", "data", "-w", "-l", "log", "-o", &options, "start"]);
    }

    pub fn down(&self) {
        self.run("pg_ctl", &["-D", "data", "-w", "-m", "immediate", "stop"]);
    }

    pub fn address(&self) -> String {
        format!("postgres://postgres@localhost/postgres?host={}", self.folder.display())
    }

    /// A file of the test's in the server's folder, which goes with it.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.folder.join("data/postmaster.pid").exists() {
            self.down();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    String::from_utf8_lossy(&id.stdout).trim() == "0"
}

fn setup(upstream: &Upstream, server: &Postgres) -> Setup {
    Setup {
        governance: "usage: true, key_hash_secret: {env: HASHING}".into(),
        records: "kind: postgres, url: {env: RECORDS}".into(),
        operators: "token: {env: ADMIN_TOKEN}".into(),
        fast: PRICED.into(),
        env: vec![
            ("RECORDS".into(), server.address()),
            ("HASHING".into(), "0123456789abcdef0123456789abcdef".into()),
            ("ADMIN_TOKEN".into(), TOKEN.into()),
        ],
        ..Setup::to(upstream.port)
    }
}

/// A command of the gateway's with the environment of the setup.
fn command(edge: &Edge, server: &Postgres, arguments: &[&str]) -> Value {
    let file = edge.file.display().to_string();
    let mut command = crate::edge::binary();
    command.args(arguments).args(["-c", &file, "--format", "json"]).env("RECORDS", server.address());
    command.env("HASHING", "0123456789abcdef0123456789abcdef").env("ADMIN_TOKEN", TOKEN);
    let done = command.output().unwrap();
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

async fn asked(edge: &Edge, query: &str) -> client::Response {
    let mut request = Request::post(&format!("/v1/usage{query}"), String::new()).bearer(TOKEN);
    request.method = "GET".to_owned();
    client::send(edge.admin, &request).await
}

async fn requests(edge: &Edge) -> u64 {
    let answer = asked(edge, "").await;
    if answer.status == 200 { answer.json()["data"][0]["requests"].as_u64().unwrap() } else { 0 }
}

async fn made(edge: &Edge, server: &Postgres, name: &str) -> String {
    let made = command(edge, server, &["keys", "create", "--organisation", "acme", "--name", name, "--model", "fast"]);
    let secret = made["key"].as_str().unwrap().to_owned();
    let from = Instant::now();
    while edge.send(&Request::chat(&secret, "fast", false)).await.status != 200 {
        assert!(from.elapsed() < PATIENCE, "{}", edge.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    secret
}

#[tokio::test]
async fn keys_and_usage_are_kept_and_asked_for() {
    let Some(server) = Postgres::start() else { return };
    let upstream = Upstream::start().await;
    let edge = setup(&upstream, &server).start().await;
    let secret = made(&edge, &server, "app").await;
    let before = upstream.count() as u64;
    for _ in 0..4 {
        assert_eq!(edge.send(&Request::chat(&secret, "fast", false)).await.status, 200);
    }
    assert_eq!(edge.send(&Request::chat(KEY, "fast", false)).await.status, 200);
    let mut there = 0;
    let all = async || {
        there = requests(&edge).await;
        there == before + 5
    };
    assert!(comes_true(PATIENCE, all).await, "{there} of {}: {}", before + 5, edge.log());
    // The command and the API answer the same.
    let by_key = asked(&edge, "?by=key&provider=mock").await.json()["data"].clone();
    assert_eq!(by_key, command(&edge, &server, &["usage", "--by", "key", "--provider", "mock"]));
    assert_eq!(by_key.as_array().map(Vec::len), Some(2), "{by_key}");
    let page = asked(&edge, "?list=2").await.json();
    let next = page["next"].as_str().unwrap().to_owned();
    let rest = asked(&edge, &format!("?list=100&after={next}")).await.json();
    assert_eq!(rest["data"].as_array().unwrap().len() as u64, before + 3);
    let csv = asked(&edge, "?by=model&format=csv").await;
    assert!(csv.header("content-type").is_some_and(|kind| kind.starts_with("text/csv")));
    assert!(csv.text().starts_with("model,requests,") && csv.text().contains("\nfast,"), "{}", csv.text());
    assert_eq!(asked(&edge, "?from=2000-01-01&until=2000-01-02").await.json()["data"][0]["requests"], 0);
    assert_eq!((asked(&edge, "?colour=red").await.status, asked(&edge, "?list=0&by=key").await.status), (400, 400));
    let mut stranger = Request::post("/v1/usage", String::new()).bearer("wrong");
    stranger.method = "GET".to_owned();
    assert_eq!(client::send(edge.admin, &stranger).await.status, 401);
}

#[tokio::test]
async fn while_it_is_away_nothing_is_lost_and_afterwards_all_is_as_before() {
    let Some(server) = Postgres::start() else { return };
    let upstream = Upstream::start().await;
    let edge = setup(&upstream, &server).start().await;
    let secret = made(&edge, &server, "app").await;
    server.down();
    let (from, mut times) = (Instant::now(), Vec::new());
    while from.elapsed() < Duration::from_secs(8) {
        let at = Instant::now();
        for key in [&secret, KEY] {
            let answer = edge.send(&Request::chat(key, "fast", false)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        times.push(at.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let unknown = edge.send(&Request::chat(&format!("sk_{}", "0".repeat(48)), "fast", false)).await;
    assert_eq!((unknown.status, unknown.code().as_str()), (503, "store_unavailable"), "it may have been made since");
    assert_eq!(asked(&edge, "").await.status, 503);
    times.sort_unstable();
    assert!(times[times.len() * 99 / 100] < Duration::from_millis(500), "{:?}", times.last());
    assert!(edge.metric("gateway_usage_queue_depth", &[]).await >= times.len() as f64);
    server.up();
    let sent = upstream.count() as u64;
    let from = Instant::now();
    while requests(&edge).await != sent {
        assert!(from.elapsed() < PATIENCE, "{} of {sent}: {}", requests(&edge).await, edge.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let _later = made(&edge, &server, "later").await;
    let depth = || edge.log().matches("the record store answers again").count();
    assert!(eventually(PATIENCE, || depth() > 0).await, "{}", edge.log());
}
