//! Resolves names off the request path. While a name is in use, its last addresses are used and one task for all requests
//! refreshes them; if the resolver fails, the last addresses stay in use, because a provider that was there a moment ago most
//! likely still is. A request waits for the resolver only if the name has not been used for a long while, and never longer
//! than for a connection.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use tokio::sync::Mutex;

/// How long addresses are used without a refresh.
const FRESH: Duration = Duration::from_secs(10);
/// How long addresses are used while a refresh runs. Older ones are not trusted: the request waits for the resolver.
const STALE: Duration = Duration::from_secs(300);

/// The address of one configured host. Cheap to ask: an IP needs no look-up, and a name in use costs one atomic load.
pub struct Address {
    fixed: Option<SocketAddr>,
    name: Arc<Name>,
    turn: AtomicUsize,
}

struct Name {
    host: String,
    port: u16,
    /// How long a look-up may take.
    patience: Duration,
    last: ArcSwapOption<Answer>,
    /// Held during a look-up that requests wait for, so that they share it.
    first: Mutex<()>,
    /// Whether a refresh is running.
    again: AtomicBool,
}

struct Answer {
    addresses: Vec<SocketAddr>,
    asked: Instant,
}

impl Address {
    /// An address by IP or by name; nothing is looked up yet. A look-up may take up to `patience`.
    pub fn new(host: &str, port: u16, patience: Duration) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let fixed = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        let name = Name {
            host: bare.to_owned(),
            port,
            patience,
            last: ArcSwapOption::empty(),
            first: Mutex::default(),
            again: AtomicBool::new(false),
        };
        Self { fixed, name: Arc::new(name), turn: AtomicUsize::new(0) }
    }

    /// The next address, round-robin where the name has several.
    ///
    /// # Errors
    /// The name was never resolved, and the resolver failed or took too long.
    pub async fn next(&self) -> io::Result<SocketAddr> {
        if let Some(fixed) = self.fixed {
            return Ok(fixed);
        }
        let last = self.name.last.load();
        if let Some(answer) = last.as_ref() {
            let age = answer.asked.elapsed();
            if age < STALE {
                if age >= FRESH {
                    self.name.ask_again();
                }
                return Ok(self.pick(answer));
            }
        }
        let began = Instant::now();
        match self.name.wait(began).await {
            Ok(answer) => Ok(self.pick(&answer)),
            Err(error) => last.as_ref().map(|answer| self.pick(answer)).ok_or(error),
        }
    }

    fn pick(&self, answer: &Answer) -> SocketAddr {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer.addresses[turn % answer.addresses.len()]
    }
}

impl Name {
    /// Starts a refresh in a task of its own, unless one is running.
    fn ask_again(self: &Arc<Self>) {
        if self.again.swap(true, Ordering::AcqRel) {
            return;
        }
        let name = Arc::clone(self);
        tokio::spawn(async move {
            if let Err(error) = name.look_up().await
                && let Some(answer) = name.last.load_full()
            {
                log::warn!(target: "upstream", host = name.host.as_str(); "the last addresses stay in use: {error}");
                // Makes the next refresh due when these addresses have been in use for another `FRESH`.
                let addresses = answer.addresses.clone();
                let asked = answer.asked + FRESH.min(answer.asked.elapsed());
                name.last.store(Some(Arc::new(Answer { addresses, asked })));
            }
            name.again.store(false, Ordering::Release);
        });
    }

    /// Addresses from a look-up that began after `began`, whichever request started it.
    async fn wait(&self, began: Instant) -> io::Result<Arc<Answer>> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "the name was not resolved in time");
        let asked = async {
            let _alone = self.first.lock().await;
            match self.last.load_full().filter(|answer| answer.asked >= began) {
                Some(answer) => Ok(answer),
                None => self.look_up().await,
            }
        };
        tokio::time::timeout(self.patience, asked).await.unwrap_or_else(|_| Err(late()))
    }

    async fn look_up(&self) -> io::Result<Arc<Answer>> {
        let asked = Instant::now();
        let found = tokio::time::timeout(self.patience, tokio::net::lookup_host((self.host.as_str(), self.port))).await;
        let addresses: Vec<SocketAddr> = found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??.collect();
        if addresses.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        let answer = Arc::new(Answer { addresses, asked });
        self.last.store(Some(Arc::clone(&answer)));
        Ok(answer)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    #[tokio::test]
    async fn an_ip_needs_no_lookup_and_a_name_goes_round() {
        let v6 = Address::new("[::1]", 8000, PATIENCE).next().await;
        assert_eq!(v6.ok(), Some("[::1]:8000".parse().unwrap_or_else(|_| unreachable!())));
        let named = Address::new("localhost", 80, PATIENCE).next().await;
        assert!(named.is_ok_and(|a| a.ip().is_loopback() && a.port() == 80));
    }

    #[tokio::test]
    async fn an_old_answer_is_used_while_one_task_asks_for_another() {
        let address = Address::new("localhost", 80, PATIENCE);
        let old: SocketAddr = ([192, 0, 2, 1], 80).into();
        let asked = Instant::now().checked_sub(FRESH).unwrap();
        address.name.last.store(Some(Arc::new(Answer { addresses: vec![old], asked })));
        assert_eq!(address.next().await.ok(), Some(old), "nobody waits");
        assert!(address.name.again.load(Ordering::Acquire));
        for _ in 0..500 {
            if !address.name.again.load(Ordering::Acquire) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(address.next().await.is_ok_and(|a| a.ip().is_loopback()));
    }

    /// A request waits no longer than for a connection, even behind others that wait already.
    #[tokio::test]
    async fn a_look_up_is_waited_for_no_longer_than_a_connection() {
        let address = Address::new("localhost", 80, Duration::from_millis(50));
        let _somebody = address.name.first.lock().await;
        let began = Instant::now();
        let error = address.next().await.err().map(|error| error.kind());
        assert_eq!(error, Some(io::ErrorKind::TimedOut));
        assert!((50..2000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    }
}
