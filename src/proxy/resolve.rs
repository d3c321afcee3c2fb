//! Names to addresses, beside the request path: a looked-up address is used for [`FRESH`] and then asked for again, and a
//! resolver that fails leaves the last answer in use, because a provider that was there a moment ago most likely still is.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How long an answer is used without asking again.
const FRESH: Duration = Duration::from_secs(10);

/// The address of one configured host. Cheap to ask: an IP needs no look-up, a name is one atomic load while fresh.
pub struct Address {
    host: String,
    port: u16,
    fixed: Option<SocketAddr>,
    last: ArcSwapOption<Answer>,
    turn: AtomicUsize,
}

struct Answer {
    addresses: Vec<SocketAddr>,
    asked: Instant,
}

impl Address {
    /// An address by IP or by name; nothing is looked up yet.
    pub fn new(host: &str, port: u16) -> Self {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let fixed = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port));
        Self { host: bare.to_owned(), port, fixed, last: ArcSwapOption::empty(), turn: AtomicUsize::new(0) }
    }

    /// The next address, going round where the name has several.
    ///
    /// # Errors
    /// The resolver's own error, when the name was never resolved.
    pub async fn next(&self) -> io::Result<SocketAddr> {
        if let Some(fixed) = self.fixed {
            return Ok(fixed);
        }
        let last = self.last.load();
        if let Some(answer) = last.as_ref()
            && answer.asked.elapsed() < FRESH
        {
            return Ok(self.pick(answer));
        }
        match tokio::net::lookup_host((self.host.as_str(), self.port)).await {
            Ok(found) => {
                let answer = Arc::new(Answer { addresses: found.collect(), asked: Instant::now() });
                if answer.addresses.is_empty() {
                    return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
                }
                let picked = self.pick(&answer);
                self.last.store(Some(answer));
                Ok(picked)
            }
            Err(error) => last.as_ref().map(|answer| self.pick(answer)).ok_or(error),
        }
    }

    fn pick(&self, answer: &Answer) -> SocketAddr {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        answer.addresses[turn % answer.addresses.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_ip_needs_no_lookup_and_a_name_goes_round() {
        let v6 = Address::new("[::1]", 8000).next().await;
        assert_eq!(v6.ok(), Some("[::1]:8000".parse().unwrap_or_else(|_| unreachable!())));
        let named = Address::new("localhost", 80).next().await;
        assert!(named.is_ok_and(|a| a.ip().is_loopback() && a.port() == 80));
    }
}
