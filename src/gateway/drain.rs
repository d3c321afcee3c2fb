//! The end of the process: requests are awaited, then cut; queued work is finished; records are written.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;

/// After the last request, time for answers on their way into the socket.
const LINGER: Duration = Duration::from_millis(100);
/// After the drain time, time to record the requests that were cut.
const CUTTING: Duration = Duration::from_secs(1);
/// How long each of usage, evidence and settlements may take at the end.
const CLOSING: Duration = Duration::from_secs(5);
/// How long ending takes at most beyond `server.drain`: cutting, background jobs, deliveries, sessions, settlements, usage and
/// evidence, one after another. A supervisor should kill the process only later.
pub const TAIL: Duration = Duration::from_secs(22);

impl Shared {
    /// Waits until no request is in flight and all queued work is done, at most for the drain time and [`TAIL`], and ends the
    /// process: Pingora itself would always sleep for the whole grace period.
    pub(super) async fn drain(&self) {
        let deadline = Instant::now() + self.drain;
        self.ready.store(false, Ordering::Release);
        tokio::time::sleep(LINGER).await;
        while self.flights.count() > 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let cut = self.flights.count();
        if cut > 0 {
            log::warn!(target: "shutdown", requests = cut; "the drain time is over, requests are cut");
            self.flights.cut();
            let recorded = Instant::now() + CUTTING;
            while self.flights.count() > 0 && Instant::now() < recorded {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let left = self.background.drain(deadline.saturating_duration_since(Instant::now()).max(Duration::from_secs(1))).await;
        if left > 0 {
            log::warn!(target: "shutdown", jobs = left; "background jobs were not finished");
        }
        self.deliver_last(deadline).await;
        let sessions = self.live.load().sessions.clone();
        if tokio::time::timeout(Duration::from_secs(1), sessions.tell()).await.is_err() {
            log::warn!(target: "shutdown", "counts of risk sessions were not told in time");
        }
        let settled = Instant::now() + CLOSING;
        while self.governor.settling() > 0 && Instant::now() < settled {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if tokio::time::timeout(CLOSING, self.governor.books.close()).await.is_err() {
            log::warn!(target: "shutdown", "the record store did not take all usage in time; the rest waits in the spool");
        }
        if !self.evidence.close(CLOSING) {
            log::warn!(target: "shutdown", "evidence was not written in time");
        }
        tokio::time::sleep(LINGER).await;
        log::info!(target: "shutdown", "drained");
        log::logger().flush();
        std::process::exit(0);
    }
}
