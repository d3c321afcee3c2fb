//! A new binary takes over from the running one: no request fails, no stream is cut off, and the evidence is complete.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::edge::{Edge, PATIENCE, Setup, cli, eventually};
use crate::lifecycle::{follow, load, streaming, wait_for};

/// The process that took over: the first to answer that is none of those before. They answer as well for a while.
async fn successor(edge: &Edge, before: &[u64]) -> u64 {
    let end = Instant::now() + PATIENCE * 2;
    loop {
        assert!(Instant::now() < end, "nobody took over from {before:?}\n{}", edge.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
        if let Ok(Some(pid)) = tokio::time::timeout(Duration::from_secs(2), asked(edge)).await
            && !before.contains(&pid)
        {
            return pid;
        }
    }
}

async fn asked(edge: &Edge) -> Option<u64> {
    let io = tokio::net::TcpStream::connect(("127.0.0.1", edge.admin)).await.ok()?;
    drop(io);
    let answer = crate::client::Http1::connect(edge.admin).await.send(&crate::client::Request::new("GET", "/version")).await?;
    serde_json::from_slice::<serde_json::Value>(&answer.body).ok()?["pid"].as_u64()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_upgrades_under_load_fail_nothing_and_cut_no_stream() {
    let upstream = streaming(60, Duration::from_millis(200)).await;
    let edge = Setup::to(upstream.port).start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4).map(|_| tokio::spawn(load(edge.port, stop.clone()))).collect();
    let mut processes = vec![edge.pid().await];
    let mut followers = Vec::new();
    for round in 0..5 {
        let opened = Arc::new(AtomicUsize::new(0));
        followers.extend((0..40).map(|_| tokio::spawn(follow(edge.port, opened.clone()))));
        wait_for(&opened, 40, &edge).await;
        edge.signal("USR2", processes.last().copied());
        processes.push(successor(&edge, &processes).await);
        // However slow the machine is: there is a load between any two.
        let requests = upstream.count();
        assert!(eventually(PATIENCE, || upstream.count() >= requests + 20).await, "nothing goes on after upgrade {round}");
    }
    stop.store(true, Ordering::Relaxed);
    let mut total = 0;
    for caller in callers {
        let (sent, failed) = caller.await.unwrap();
        assert!(failed.is_empty(), "{} of {sent} failed: {:?}\n{}", failed.len(), &failed[..failed.len().min(3)], edge.log());
        total += sent;
    }
    assert!(total >= 100, "{total} requests are no load");
    for follower in followers {
        assert_eq!(follower.await.unwrap(), Ok(63), "a stream was cut");
    }
    let pid = processes[5];
    edge.signal("TERM", Some(pid));
    for pid in processes {
        let gone = || !std::path::Path::new(&format!("/proc/{pid}/stat")).exists() || zombie(pid);
        assert!(eventually(PATIENCE, gone).await, "process {pid} stays\n{}", edge.log());
    }
    let (code, out, err) = cli(&["evidence", "verify", "--dir", &edge.evidence_dir().display().to_string()]);
    assert_eq!(code, 0, "evidence of six processes verifies: {out}{err}");
    let records = edge.evidence().lines().filter(|l| l.contains("\"kind\":\"request\"")).count();
    assert_eq!(records, total + 200, "one record a request");
}

/// An upgraded process whose parent is gone is reaped by whoever adopted it, in its own time.
fn zombie(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|s| s.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

/// An address that the new process could not open is found before the old one lets go of its own.
#[tokio::test]
async fn an_upgrade_to_an_address_in_use_is_called_off() {
    let upstream = crate::upstream::Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let pid = edge.pid().await;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let occupied = std::net::TcpListener::bind(("127.0.0.1", taken)).unwrap();
    let good = std::fs::read_to_string(&edge.file).unwrap();
    let ours = format!("\"127.0.0.1:{}\"", edge.port);
    assert!(good.contains(&ours), "{good}");
    std::fs::write(&edge.file, good.replacen(&ours, &format!("{ours}, \"127.0.0.1:{taken}\""), 1)).unwrap();
    edge.signal("USR2", None);
    edge.logged(&format!("this process stays: the new configuration listens on 127.0.0.1:{taken}"), 0).await;
    assert_eq!(edge.pid().await, pid);
    assert_eq!(edge.send(&crate::client::Request::chat(crate::edge::KEY, "fast", false)).await.status, 200);
    // Free again, the same file is taken over.
    drop(occupied);
    edge.signal("USR2", None);
    let next = successor(&edge, &[pid]).await;
    assert!(std::net::TcpStream::connect(("127.0.0.1", taken)).is_ok(), "the added address is not served\n{}", edge.log());
    edge.signal("TERM", Some(next));
}

/// Listeners go to the place that was named at the start: a successor that waits elsewhere would get none of them.
#[tokio::test]
async fn an_upgrade_that_would_meet_elsewhere_is_called_off() {
    let upstream = crate::upstream::Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let pid = edge.pid().await;
    let good = std::fs::read_to_string(&edge.file).unwrap();
    let moved = good.replacen("/upgrade.sock", "/moved.sock", 1);
    assert_ne!(good, moved);
    std::fs::write(&edge.file, moved).unwrap();
    edge.signal("HUP", None);
    edge.logged("hands over at its old place", 0).await;
    edge.signal("USR2", None);
    edge.logged("put it back, or restart", 0).await;
    // Whoever starts a successor by hand is told the same place.
    edge.signal("QUIT", None);
    edge.logged("no process waits at ", 0).await;
    assert_eq!(edge.pid().await, pid);
    assert_eq!(edge.send(&crate::client::Request::chat(crate::edge::KEY, "fast", false)).await.status, 200);
    std::fs::write(&edge.file, &good).unwrap();
    edge.signal("USR2", None);
    let next = successor(&edge, &[pid]).await;
    edge.signal("TERM", Some(next));
}

/// A new binary that cannot start leaves the old one serving.
#[tokio::test]
async fn an_upgrade_to_a_bad_configuration_is_called_off() {
    let upstream = crate::upstream::Upstream::start().await;
    let edge = Setup::to(upstream.port).start().await;
    let pid = edge.pid().await;
    std::fs::write(&edge.file, "version: [1\n").unwrap();
    edge.signal("USR2", None);
    edge.logged("this process stays", 0).await;
    assert_eq!(edge.pid().await, pid);
    assert_eq!(edge.send(&crate::client::Request::chat(crate::edge::KEY, "fast", false)).await.status, 200);
}
