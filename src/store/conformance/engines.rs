//! The state stores that a test runs on.

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::fleets::cluster;
use crate::store::memory::{Capacity, MemoryState};
use crate::store::redis::{Options, RedisState};
use crate::store::{Clock, ManualClock, StateStore};

/// Where the clocks of the tests start, in microseconds since the Unix epoch: a time at which no window begins.
pub const START: i64 = 1_800_000_017_123_456;

/// An empty engine.
pub struct Engine {
    pub name: &'static str,
    pub state: Arc<dyn StateStore>,
    /// The same data through another connection, as another replica sees it.
    pub other: Arc<dyn StateStore>,
    pub clock: Arc<ManualClock>,
    pub server: Option<RedisServer>,
    /// Servers that must live as long as the engine.
    pub _nodes: Vec<RedisServer>,
}

/// Every engine that can be run here, each with a clock that the test controls.
pub fn engines() -> Vec<Engine> {
    let mut engines = vec![memory()];
    engines.extend(redis(Duration::from_secs(5)));
    engines
}

/// [`engines`] and a Redis cluster, which takes seconds to start: for tests that depend on where keys are stored.
pub fn engines_and_cluster() -> Vec<Engine> {
    let mut engines = engines();
    engines.extend(cluster());
    engines
}

pub fn memory() -> Engine {
    let clock = Arc::new(ManualClock::at(START));
    let state: Arc<dyn StateStore> = Arc::new(MemoryState::with_clock(Capacity::default(), Arc::clone(&clock) as Arc<dyn Clock>));
    Engine { name: "memory", other: Arc::clone(&state), state, clock, server: None, _nodes: Vec::new() }
}

/// The result of a call to the memory engine, whose futures never wait.
pub fn ready<T>(call: impl Future<Output = T>) -> T {
    futures::FutureExt::now_or_never(call).unwrap()
}

pub fn redis(timeout: Duration) -> Option<Engine> {
    let server = RedisServer::start()?;
    let clock = Arc::new(ManualClock::at(START));
    let open = || -> Arc<dyn StateStore> { Arc::new(server.open(timeout, Some(Arc::clone(&clock) as Arc<dyn Clock>))) };
    Some(Engine { name: "redis", state: open(), other: open(), clock, server: Some(server), _nodes: Vec::new() })
}

/// A Redis server of the test's own; it ends when this is dropped.
pub struct RedisServer {
    process: Child,
    folder: tempfile::TempDir,
    pub port: u16,
}

impl RedisServer {
    /// Starts a server; `None` when Redis is not installed.
    pub fn start() -> Option<Self> {
        Self::start_with(&[])
    }

    /// [`Self::start`] with further settings.
    pub fn start_with(more: &[&str]) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let process = spawn(folder.path(), port, more)?;
        let mut server = Self { process, folder, port };
        server.wait();
        Some(server)
    }

    pub fn open(&self, timeout: Duration, clock: Option<Arc<dyn Clock>>) -> RedisState {
        let options = Options { timeout, clock, ..Options::default() };
        RedisState::open(&format!("redis://127.0.0.1:{}", self.port), options).unwrap()
    }

    /// Runs a command on the server directly.
    pub fn ask<T: redis::FromRedisValue>(&self, command: &[&str]) -> T {
        let client = redis::Client::open(("127.0.0.1", self.port)).unwrap();
        let mut cmd = redis::cmd(command[0]);
        cmd.arg(&command[1..]);
        cmd.query(&mut client.get_connection().unwrap()).unwrap()
    }

    /// Kills the server, as a crash would. Its data is lost.
    pub fn kill(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Starts it again on the same port, empty.
    pub fn restart(&mut self) {
        self.process = spawn(self.folder.path(), self.port, &[]).unwrap();
        self.wait();
    }

    /// Asserts that every key has a TTL: one without would stay for ever.
    pub fn assert_every_key_expires(&self) {
        let keys: Vec<String> = self.ask(&["KEYS", "*"]);
        assert!(!keys.is_empty(), "nothing was stored");
        for key in keys {
            let ttl: i64 = self.ask(&["PTTL", &key]);
            assert!(ttl > 0, "{key} has no TTL");
        }
    }

    fn wait(&mut self) {
        for _ in 0..500 {
            if std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return;
            }
            assert!(self.process.try_wait().unwrap().is_none(), "redis-server ended");
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("redis-server does not listen");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(folder: &Path, port: u16, more: &[&str]) -> Option<Child> {
    let port = port.to_string();
    let arguments = ["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--daemonize", "no"];
    for program in ["redis-server", "valkey-server"] {
        let started =
            Command::new(program).args(arguments).args(more).current_dir(folder).stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        match started {
            Ok(child) => return Some(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => panic!("{program}: {error}"),
        }
    }
    assert!(std::env::var_os("TEST_PEERS").is_none_or(|value| value != "required"), "neither redis-server nor valkey-server is installed");
    let _ = writeln!(std::io::stderr(), "SKIPPED on redis: neither redis-server nor valkey-server is installed (tests/run installs it)");
    None
}
