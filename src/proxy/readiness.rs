//! Whether traffic should come here, and the state of the stores on which that depends. The stores are probed when readiness
//! is asked for, at most once a second, so that a gateway taken out of rotation notices without traffic when they are back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::config::Snapshot;
use crate::identity::Keyring;
use crate::store::StateStore;
use crate::store::records::RecordStore;
use crate::usage::Books;

/// How long the result of a probe is reused.
const FRESH: Duration = Duration::from_secs(1);
/// A store that does not answer within this time counts as unavailable.
const PATIENCE: Duration = Duration::from_millis(500);

/// What readiness depends on. One per process.
pub struct Readiness {
    /// Set once traffic is accepted, cleared while draining.
    pub accepting: Arc<AtomicBool>,
    /// Keys made at run time.
    pub keyring: Option<Arc<Keyring>>,
    /// The store of counters and sessions.
    pub state: Arc<dyn StateStore>,
    /// The usage records.
    pub books: Books,
    /// The result of the last probe, and when it was made.
    asked: Mutex<Option<(Instant, Stores)>>,
}

/// Whether each store answers; `None` for a store that is not used.
#[derive(Clone, Copy)]
struct Stores {
    state: bool,
    records: Option<bool>,
}

/// The state of the process and its stores.
pub struct Standing {
    /// `ok`, or why no traffic should come: `starting`, `draining`, `state_unavailable`.
    pub status: &'static str,
    stores: Stores,
}

impl Readiness {
    /// Creates it without probing any store yet.
    pub fn new(accepting: Arc<AtomicBool>, keyring: Option<Arc<Keyring>>, state: Arc<dyn StateStore>, books: Books) -> Self {
        Self { accepting, keyring, state, books, asked: Mutex::default() }
    }

    /// The state of the process under this configuration.
    ///
    /// Until the keys made at run time have been read, their holders are better served by another replica. An unavailable record
    /// store ends that wait too and is reported without affecting readiness, because usage waits in the spool. Without
    /// its state store a gateway that has limits and does not allow requests on store errors would refuse nearly all of them.
    pub async fn standing(&self, snapshot: &Snapshot) -> Standing {
        let stores = self.stores().await;
        let refuses = !stores.state && !snapshot.governance.allow_on_store_error && snapshot.limits_any();
        let status = if self.keyring.as_ref().is_some_and(|ring| !ring.is_ready()) {
            "starting"
        } else if !self.accepting.load(Ordering::Acquire) {
            "draining"
        } else if refuses {
            "state_unavailable"
        } else {
            "ok"
        };
        Standing { status, stores }
    }

    /// Probes the stores, unless that was done a moment ago; concurrent calls share one probe.
    async fn stores(&self) -> Stores {
        let mut asked = self.asked.lock().await;
        if let Some((at, stores)) = &*asked
            && at.elapsed() < FRESH
        {
            return *stores;
        }
        let records = self.books.records().or(self.keyring.as_ref().and_then(|ring| ring.records()));
        let (state, records) = tokio::join!(timeout(PATIENCE, self.state.reach()), self.reach(records));
        let stores = Stores { state: matches!(state, Ok(Ok(()))), records };
        *asked = Some((Instant::now(), stores));
        stores
    }

    async fn reach(&self, records: Option<&Arc<dyn RecordStore>>) -> Option<bool> {
        match records {
            Some(records) => Some(matches!(timeout(PATIENCE, records.ping()).await, Ok(Ok(())))),
            None => (self.books.keeps_any() || self.keyring.is_some()).then_some(false),
        }
    }
}

impl Standing {
    /// Whether traffic should come.
    pub fn is_ready(&self) -> bool {
        self.status == "ok"
    }

    /// The stores by name, with `ok` or `unavailable`.
    fn named(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let word = |there: bool| if there { "ok" } else { "unavailable" };
        [("state", Some(self.stores.state)), ("records", self.stores.records)]
            .into_iter()
            .filter_map(move |(name, there)| Some((name, word(there?))))
    }

    /// `{"status", "state", "records"}`
    pub fn json(&self) -> Value {
        let members = std::iter::once(("status", self.status)).chain(self.named());
        Value::Object(members.map(|(name, word)| (name.to_owned(), word.into())).collect::<Map<_, _>>())
    }

    /// One line for the process, and one a store.
    pub fn text(&self) -> String {
        let first = if self.is_ready() { "ready" } else { self.status };
        self.named().fold(format!("{first}\n"), |text, (name, word)| text + name + ": " + word + "\n")
    }
}
