//! The signals that end this process, by draining it or by handing its listeners to a successor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use pingora::server::{ShutdownSignal, ShutdownSignalWatch};
use tokio::signal::unix::{SignalKind, signal};

use super::{Shared, notify};

/// How long a new process may take to start before an upgrade is given up.
const UPGRADE_PATIENCE: Duration = Duration::from_secs(20);

/// The signals that end this process.
pub(super) struct Signals {
    pub(super) shared: Arc<Shared>,
}

#[async_trait]
impl ShutdownSignalWatch for Signals {
    async fn recv(&self) -> ShutdownSignal {
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::user_defined2(), SignalKind::quit()];
        let [Ok(mut terminate), Ok(mut interrupt), Ok(mut replace), Ok(mut hand_over)] = kinds.map(signal) else {
            log::error!(target: "start", "signals cannot be handled; stopping");
            return ShutdownSignal::FastShutdown;
        };
        loop {
            tokio::select! {
                _ = terminate.recv() => return ShutdownSignal::GracefulTerminate,
                _ = interrupt.recv() => return ShutdownSignal::GracefulTerminate,
                // The new process was started from outside, with --upgrade.
                _ = hand_over.recv() => {
                    if self.shared.upgrade_sock.exists() {
                        return ShutdownSignal::GracefulUpgrade;
                    }
                    log::error!(target: "upgrade", "this process stays: no process waits at {}", self.shared.upgrade_sock.display());
                }
                _ = replace.recv() => match self.start_successor().await {
                    Ok(pid) => {
                        notify(&[sd_notify::NotifyState::MainPid(pid)]);
                        return ShutdownSignal::GracefulUpgrade;
                    }
                    Err(reason) => log::error!(target: "upgrade", "this process stays: {reason}"),
                },
            }
        }
    }
}

impl Signals {
    /// Starts the binary that is now at this process's path, and waits until it is ready to take the listeners.
    async fn start_successor(&self) -> Result<u32, String> {
        let shared = self.shared.clone();
        let checked = tokio::task::spawn_blocking(move || {
            let _runtime = tokio::runtime::Handle::current().enter();
            shared.replaceable()
        });
        checked.await.map_err(|error| error.to_string())??;
        let sock = &self.shared.upgrade_sock;
        let _ = std::fs::remove_file(sock);
        let binary = std::env::args_os().next().ok_or("no program name")?;
        let mut child = tokio::process::Command::new(binary)
            .arg("run")
            .arg("--config")
            .arg(&self.shared.config)
            .arg("--upgrade")
            .stdin(std::process::Stdio::null())
            .spawn()
            .map_err(|e| e.to_string())?;
        let pid = child.id().ok_or("the new process is gone")?;
        let deadline = Instant::now() + UPGRADE_PATIENCE;
        while !sock.exists() {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("the new process ended with {status}"));
            }
            if Instant::now() > deadline {
                let _ = child.kill().await;
                return Err("the new process did not come up in time".to_owned());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The socket exists a moment before the new process listens on it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the new process ended with {status}"));
        }
        log::info!(target: "upgrade", pid = pid; "handing over");
        Ok(pid)
    }
}
