//! Whether traffic should come here, and how the stores stand on which that depends. The stores are asked when somebody wants
//! to know, at most once a second: a gateway that is told to be left alone must find out that it need not be any more.

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

/// For how long an answer of a store holds.
const FRESH: Duration = Duration::from_secs(1);
/// A store that takes longer is away.
const PATIENCE: Duration = Duration::from_millis(500);

/// What readiness is judged by. One for the process.
pub struct Readiness {
    /// Set when traffic is accepted, cleared when draining.
    pub accepting: Arc<AtomicBool>,
    /// Keys made at run time.
    pub keyring: Option<Arc<Keyring>>,
    /// Counters and sessions.
    pub state: Arc<dyn StateStore>,
    /// What was used.
    pub books: Books,
    /// How the stores stood when they were asked last.
    asked: Mutex<Option<(Instant, Stores)>>,
}

/// How the stores stand: whether they answer. What is not used is `None`.
#[derive(Clone, Copy)]
struct Stores {
    state: bool,
    records: Option<bool>,
}

/// How the process stands.
pub struct Standing {
    /// `ok`, or why no traffic should come: `starting`, `draining`, `state_unavailable`.
    pub status: &'static str,
    stores: Stores,
}

impl Readiness {
    /// Nothing was asked yet.
    pub fn new(accepting: Arc<AtomicBool>, keyring: Option<Arc<Keyring>>, state: Arc<dyn StateStore>, books: Books) -> Self {
        Self { accepting, keyring, state, books, asked: Mutex::default() }
    }

    /// How the process stands under this configuration.
    ///
    /// Keys made at run time are read at start: until then their holders are better served elsewhere. A record store that is
    /// away ends the reading too, and is told and no more, for usage waits in its spool. Without its state a gateway that has
    /// limits to hold and may not let them pass refuses nearly everybody.
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

    /// Whoever comes while they are asked waits for the same answer.
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
