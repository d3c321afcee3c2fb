//! Redis as fleets run it: a cluster, and a master that Sentinels watch.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::engines::{Engine, RedisServer, START};
use crate::store::redis::{Options, RedisState};
use crate::store::{Clock, InvalidationBus, ManualClock, Notice, RiskPolicy, RiskSessions, RiskUpdate, StateStore};

const POLICY: RiskPolicy = RiskPolicy { half_life: Duration::ZERO, ttl: Duration::from_secs(60), threshold: 1.0 };

/// A cluster of three masters, as one engine.
pub fn cluster() -> Option<Engine> {
    let servers: Vec<RedisServer> =
        (0..3).map(|_| RedisServer::start_with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "2000"])).collect::<Option<_>>()?;
    for (server, slots) in servers.iter().zip([("0", "5460"), ("5461", "10922"), ("10923", "16383")]) {
        let _: String = server.ask(&["CLUSTER", "ADDSLOTSRANGE", slots.0, slots.1]);
        let _: String = server.ask(&["CLUSTER", "MEET", "127.0.0.1", &servers[0].port.to_string()]);
    }
    let ready = |server: &RedisServer| {
        let info: String = server.ask(&["CLUSTER", "INFO"]);
        info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")
    };
    let deadline = Instant::now() + Duration::from_secs(20);
    while !servers.iter().all(ready) {
        assert!(Instant::now() < deadline, "the cluster does not come up");
        std::thread::sleep(Duration::from_millis(50));
    }
    let clock = Arc::new(ManualClock::at(START));
    let address = format!("redis+cluster://127.0.0.1:{},127.0.0.1:{}", servers[0].port, servers[1].port);
    let open = || -> Arc<dyn StateStore> {
        let clock = Some(Arc::clone(&clock) as Arc<dyn Clock>);
        Arc::new(RedisState::open(&address, Options { timeout: Duration::from_secs(5), clock, ..Options::default() }).unwrap())
    };
    Some(Engine { name: "cluster", state: open(), other: open(), clock, server: None, _nodes: servers })
}

/// A process that ends with the test.
struct Sentinel(Child, #[expect(dead_code, reason = "its folder goes with it")] tempfile::TempDir);

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sentinel(master: u16) -> (Sentinel, u16) {
    let folder = tempfile::tempdir().unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config = folder.path().join("sentinel.conf");
    let text = format!(
        "port {port}\nbind 127.0.0.1\nsentinel monitor main 127.0.0.1 {master} 1\nsentinel down-after-milliseconds main 500\n\
         sentinel failover-timeout main 3000\n"
    );
    std::fs::write(&config, text).unwrap();
    let child = ["redis-server", "valkey-server"]
        .iter()
        .find_map(|program| Command::new(program).arg(&config).arg("--sentinel").stdin(Stdio::null()).stdout(Stdio::null()).spawn().ok())
        .unwrap();
    (Sentinel(child, folder), port)
}

/// The master dies; the replica that Sentinel promotes is found without a restart, by calls and by listeners.
#[tokio::test]
async fn a_promoted_replica_is_found() {
    let Some(mut master) = RedisServer::start() else { return };
    let replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &master.port.to_string()]).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    let linked = || replica.ask::<String>(&["INFO", "replication"]).contains("master_link_status:up");
    while !linked() {
        assert!(Instant::now() < deadline, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let (_sentinel, port) = sentinel(master.port);
    let options = Options { timeout: Duration::from_millis(500), ..Options::default() };
    let state = RedisState::open(&format!("redis+sentinel://127.0.0.1:{port}/main"), options).unwrap();
    let update = RiskUpdate { add: 0.25, ..RiskUpdate::default() };
    while state.record("aa", update, &POLICY).await.is_err() {
        assert!(Instant::now() < deadline, "the master is not found");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let mut listener = state.subscribe();
    assert_eq!(listener.next().await, Some(Notice::Gap));
    // Sentinel first has to learn of the replica, for which it asks the master every ten seconds.
    let known = |port: u16| {
        let client = redis::Client::open(("127.0.0.1", port)).unwrap();
        let found: Vec<redis::Value> =
            redis::cmd("SENTINEL").arg("replicas").arg("main").query(&mut client.get_connection().unwrap()).unwrap();
        !found.is_empty()
    };
    while !known(port) {
        assert!(Instant::now() < deadline + Duration::from_secs(15), "Sentinel does not hear of the replica");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    master.kill();
    let deadline = Instant::now() + Duration::from_secs(30);
    let found = loop {
        match state.record("aa", update, &POLICY).await {
            Ok(found) => break found,
            Err(error) => assert!(Instant::now() < deadline, "the new master is not found: {error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(found.requests >= 2, "the replica had what the master had: {found:?}");
    let heard = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let _ = state.publish("key:1").await;
            if let Ok(Some(Notice::Message(text))) = tokio::time::timeout(Duration::from_millis(300), listener.next()).await {
                return text;
            }
        }
    });
    assert_eq!(&*heard.await.unwrap(), "key:1");
}
