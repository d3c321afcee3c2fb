//! Notifications to the service manager: ready, reloading, and the main process (sd_notify(3), systemd.service(5)).

use std::time::Duration;

use tokio::net::UnixDatagram;

use crate::edge::{Edge, Setup};
use crate::upstream::Upstream;

struct Manager {
    socket: UnixDatagram,
    _dir: tempfile::TempDir,
}

impl Manager {
    async fn start(upstream: &Upstream) -> (Self, Edge) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let mut setup = Setup::to(upstream.port);
        setup.env.push(("NOTIFY_SOCKET".into(), path.display().to_string()));
        let edge = setup.start().await;
        (Self { socket, _dir: dir }, edge)
    }

    /// The next message that contains `text`; others are passed over.
    async fn told(&self, text: &str) -> String {
        let next = async {
            loop {
                let mut buffer = [0_u8; 1024];
                let length = self.socket.recv(&mut buffer).await.unwrap();
                let message = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if message.contains(text) {
                    return message;
                }
            }
        };
        tokio::time::timeout(Duration::from_secs(20), next).await.unwrap_or_else(|_| panic!("never told {text}"))
    }
}

#[tokio::test]
async fn ready_and_reloading_are_announced() {
    let upstream = Upstream::start().await;
    let (manager, edge) = Manager::start(&upstream).await;
    manager.told("READY=1").await;
    edge.signal("HUP", None);
    let reloading = manager.told("RELOADING=1").await;
    // Without the clock systemd ignores the message, and `systemctl reload` hangs.
    assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    manager.told("READY=1").await;
    // A reload that fails is over as well: the old configuration is ready.
    std::fs::write(&edge.file, "version: [1\n").unwrap();
    edge.signal("HUP", None);
    manager.told("RELOADING=1").await;
    manager.told("READY=1").await;
}

#[tokio::test]
async fn an_upgrade_names_the_new_main_process() {
    let upstream = Upstream::start().await;
    let (manager, edge) = Manager::start(&upstream).await;
    manager.told("READY=1").await;
    edge.signal("USR2", None);
    let message = manager.told("MAINPID=").await;
    let pid: u64 = message.lines().find_map(|l| l.strip_prefix("MAINPID=")).unwrap().parse().unwrap();
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
    let cmdline = String::from_utf8_lossy(&cmdline);
    assert!(cmdline.contains(&edge.file.display().to_string()), "{cmdline}");
}
