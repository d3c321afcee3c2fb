//! Where a plain upstream is: names are asked for again for as long as the configuration is in force, so that an upstream may
//! move, and a resolver that is away for a while keeps no configuration from being loaded.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use pingora_load_balancing::Backend;
use pingora_load_balancing::discovery::ServiceDiscovery;

/// Between two look-ups of names that have an address.
const AGAIN: Duration = Duration::from_secs(10);
/// The same where one has none yet.
const SOON: Duration = Duration::from_secs(1);
/// How long a look-up may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The addresses of one upstream. Cheap to clone.
#[derive(Clone)]
pub(super) struct Addresses(Arc<[Entry]>);

struct Entry {
    /// `HOST:PORT` as configured.
    written: String,
    weight: usize,
    /// The address in use.
    last: Mutex<Option<SocketAddr>>,
}

impl Addresses {
    /// Addresses as configured, with their weights: looks every name up once, and waits for that. A name without an address gets one when it has one.
    ///
    /// # Errors
    /// What is no `HOST:PORT`, by the address.
    pub fn of<'a>(written: impl Iterator<Item = (&'a str, usize)>) -> Result<Self, (String, io::Error)> {
        let entry = |(written, weight): (&str, usize)| {
            let last = match written.to_socket_addrs() {
                Ok(mut found) => found.next(),
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Err((written.to_owned(), error)),
                Err(error) => {
                    log::warn!(target: "upstream", address = written; "there is no address yet: {error}");
                    None
                }
            };
            Ok(Entry { written: written.to_owned(), weight, last: Mutex::new(last) })
        };
        written.map(entry).collect::<Result<_, _>>().map(Self)
    }

    /// When to look up again; `None` where no name is.
    pub fn again(&self) -> Option<Duration> {
        let named = |entry: &&Entry| entry.written.parse::<SocketAddr>().is_err();
        let missing = self.0.iter().any(|entry| entry.last.lock().is_none());
        self.0.iter().any(|entry| named(&entry)).then_some(if missing { SOON } else { AGAIN })
    }

    /// Looks every name up again. An address stays in use for as long as its name has it, or nobody can say.
    pub async fn look_up(&self) {
        for entry in self.0.iter() {
            let found = tokio::time::timeout(PATIENCE, tokio::net::lookup_host(entry.written.as_str())).await;
            match found.map_err(|_| io::Error::from(io::ErrorKind::TimedOut)).flatten() {
                Ok(found) => {
                    let found: Vec<SocketAddr> = found.collect();
                    let mut last = entry.last.lock();
                    if last.is_none_or(|last| !found.contains(&last)) {
                        *last = found.first().copied().or(*last);
                    }
                }
                Err(error) => log::warn!(target: "upstream", address = entry.written.as_str(); "not resolved again: {error}"),
            }
        }
    }
}

#[async_trait]
impl ServiceDiscovery for Addresses {
    /// Those in use; nothing is waited for.
    async fn discover(&self) -> pingora::Result<(BTreeSet<Backend>, HashMap<u64, bool>)> {
        let mut backends = BTreeSet::new();
        for entry in self.0.iter() {
            let last = *entry.last.lock();
            if let Some(address) = last {
                backends.insert(Backend::new_with_weight(&address.to_string(), entry.weight)?);
            }
        }
        Ok((backends, HashMap::new()))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn addresses(written: &str) -> Result<Addresses, String> {
        Addresses::of([(written, 3)].into_iter()).map_err(|(address, _)| address)
    }

    async fn known(addresses: &Addresses) -> Vec<SocketAddr> {
        addresses.discover().await.unwrap().0.iter().map(|backend| *backend.addr.as_inet().unwrap()).collect()
    }

    #[tokio::test]
    async fn a_name_is_followed_and_its_address_kept_while_it_has_it() {
        let local = addresses("localhost:80").unwrap();
        let first = known(&local).await;
        assert!(first[0].ip().is_loopback());
        assert_eq!((first.len(), local.again()), (1, Some(AGAIN)));
        local.look_up().await;
        assert_eq!(known(&local).await, first);
        // As after it moved.
        *local.0[0].last.lock() = Some(([192, 0, 2, 1], 80).into());
        local.look_up().await;
        assert!(known(&local).await[0].ip().is_loopback());
        assert_eq!(addresses("192.0.2.1:80").unwrap().again(), None);
    }

    #[tokio::test]
    async fn a_name_without_an_address_waits_for_one() {
        let nowhere = addresses("a..b:80").unwrap();
        assert_eq!((known(&nowhere).await, nowhere.again()), (Vec::new(), Some(SOON)));
        *nowhere.0[0].last.lock() = Some(([192, 0, 2, 1], 80).into());
        nowhere.look_up().await;
        assert_eq!(known(&nowhere).await.len(), 1, "a resolver that knows nothing takes nothing away");
        assert_eq!(addresses("no-port").err().as_deref(), Some("no-port"));
    }
}
