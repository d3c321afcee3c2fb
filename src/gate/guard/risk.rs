//! The caller's risk session: its key, what findings add to its score, and counts that are sent to the store now and then.
//!
//! A request waits for the store only when something was found. That a clean request took place is noted here and sent about
//! once a second, for all requests of a session together; when too many sessions are noted, counts are lost, never scores.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use parking_lot::Mutex;
use ring::hmac;

use super::super::Facts;
use crate::safety::{OnError, Risk};
use crate::store::{RiskPolicy, RiskSessions, RiskUpdate};
use crate::telemetry::{SessionMetrics, Sparse, address};

/// Throttles the log line about a session store that does not answer.
static UNANSWERED: Sparse = Sparse::new();

/// How many sessions may have unsent counts.
const PENDING: usize = 16 * 1024;
const SHARDS: usize = 16;

/// The key of a session: 128 bits of a keyed hash, from which neither address nor key nor user agent can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 16]);

impl SessionKey {
    /// The session's name in the store: 32 hex digits.
    pub fn hex(&self) -> String {
        let digit = |value: u8| char::from(if value < 10 { b'0' + value } else { b'a' + value - 10 });
        self.0.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
    }
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    requests: u32,
    blocks: u32,
    redactions: u32,
    flags: u32,
}

/// What one request adds to its session's counts, besides itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noted {
    /// Whether the store has counted the request already.
    pub counted: bool,
    pub blocked: bool,
    pub redacted: bool,
    /// Members with findings that add no score.
    pub flags: u32,
}

/// The configuration of sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionPolicy {
    /// How long the store remembers a session, and how fast its score fades.
    pub risk: RiskPolicy,
    /// See [`crate::safety::SessionRule::faint_ceiling`].
    pub faint_ceiling: f64,
    /// Whether a request is refused when the store does not answer.
    pub on_store_error: OnError,
}

/// The sessions, under one configuration.
pub struct Sessions {
    store: Arc<dyn RiskSessions>,
    key: hmac::Key,
    policy: SessionPolicy,
    metrics: SessionMetrics,
    pending: [Mutex<HashMap<SessionKey, Counts>>; SHARDS],
}

/// The store did not answer, and the configuration refuses requests then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreGone;

impl Sessions {
    /// Sessions in a store. `secret` keys the fingerprints; replicas that share a store must share it too.
    pub fn new(store: Arc<dyn RiskSessions>, secret: &[u8], policy: SessionPolicy, metrics: SessionMetrics) -> Arc<Self> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Arc::new(Self { store, key, policy, metrics, pending: Default::default() })
    }

    /// The session of a request. It differs before and after the key is known.
    pub fn fingerprint(&self, facts: &Facts) -> SessionKey {
        let mut context = hmac::Context::with_key(&self.key);
        match facts.client_ip {
            // A host usually has a whole /64 of IPv6 addresses.
            Some(IpAddr::V6(ip)) if ip.to_ipv4_mapped().is_none() => {
                context.update(b"6");
                context.update(ip.octets().get(..8).unwrap_or_default());
            }
            Some(ip) => {
                context.update(b"4");
                address::written(ip, |text| context.update(text.as_bytes()));
            }
            None => context.update(b"-"),
        }
        for part in [facts.caller.as_ref().map(|caller| &*caller.key_id), facts.user_agent.as_deref()] {
            // Each part is preceded by its length, so that no two inputs hash alike.
            context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            context.update(part.unwrap_or_default().as_bytes());
        }
        let tag = context.sign();
        SessionKey(tag.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Adds a risk to the session and returns its score; `None` if the store did not answer and the request goes on. `first`
    /// counts the request as well.
    ///
    /// # Errors
    /// The store did not answer, and the configuration refuses requests then.
    pub async fn add(&self, key: SessionKey, risk: Risk, first: bool) -> Result<Option<f64>, StoreGone> {
        let name = key.hex();
        let state = self.store.record(&name, self.update(risk, u32::from(first)), &self.policy.risk).await;
        self.answered(state.map(|state| state.score))
    }

    /// Adds a risk without waiting, in the middle of a stream. An in-memory store answers at once. A remote store is told in a
    /// task of its own, and the returned score is the `known` one raised by the risk.
    pub fn add_now(self: &Arc<Self>, key: SessionKey, risk: Risk, known: f64, threshold: &crate::safety::SessionRule) -> f64 {
        self.tell_now(key, self.update(risk, 0)).unwrap_or_else(|| risk.onto(known, threshold))
    }

    /// Adds a risk that cannot block, without waiting; returns the score if the store answered at once. `first` counts the request
    /// as well.
    pub fn add_faint(self: &Arc<Self>, key: SessionKey, risk: Risk, first: bool) -> Option<f64> {
        self.tell_now(key, self.update(risk, u32::from(first)))
    }

    fn tell_now(self: &Arc<Self>, key: SessionKey, update: RiskUpdate) -> Option<f64> {
        let this = Arc::clone(self);
        let mut call = Box::pin(async move {
            let name = key.hex();
            this.store.record(&name, update, &this.policy.risk).await.map(|state| state.score)
        });
        if let Some(answer) = (&mut call).now_or_never() {
            return self.answered(answer).ok().flatten();
        }
        let this = Arc::clone(self);
        tokio::spawn(async move { this.answered(call.await).ok() });
        None
    }

    /// Asks for the score without waiting. The returned value is 0 until the store has answered.
    pub fn ask(self: &Arc<Self>, key: SessionKey) -> Arc<Mutex<f64>> {
        let score = Arc::new(Mutex::new(0.0));
        let (this, into) = (Arc::clone(self), Arc::clone(&score));
        let mut call = Box::pin(async move {
            let name = key.hex();
            let state = this.store.read(&name, &this.policy.risk).await;
            if let Ok(Some(said)) = this.answered(state.map(|state| state.map_or(0.0, |state| state.score))) {
                *into.lock() = said;
            }
        });
        if (&mut call).now_or_never().is_none() {
            tokio::spawn(call);
        }
        score
    }

    fn update(&self, risk: Risk, requests: u32) -> RiskUpdate {
        let Risk { add, before, faint, flags } = risk;
        // Earlier messages raise the score up to a ceiling, as faint signs do, but up to a higher one.
        let (faint, faint_ceiling) = match before > 0.0 {
            true => (before.max(faint), before.max(if faint > 0.0 { self.policy.faint_ceiling } else { 0.0 })),
            false => (faint, self.policy.faint_ceiling),
        };
        RiskUpdate { add, faint, faint_ceiling, flags, requests, blocks: 0, redactions: 0 }
    }

    fn answered(&self, answer: Result<f64, crate::store::StateError>) -> Result<Option<f64>, StoreGone> {
        match answer {
            Ok(score) => Ok(Some(score)),
            Err(error) => {
                self.metrics.failed();
                if let Some(more) = UNANSWERED.due() {
                    log::warn!(target: "safety", more; "the session store did not answer: {error}");
                }
                if self.policy.on_store_error == OnError::Deny { Err(StoreGone) } else { Ok(None) }
            }
        }
    }

    /// Notes a request, to be sent to the store with the next [`Self::tell`].
    pub(super) fn note(&self, key: SessionKey, request: Noted) {
        let Noted { counted, blocked, redacted, flags } = request;
        if counted && !blocked && !redacted && flags == 0 {
            return;
        }
        let mut shard = self.pending[usize::from(key.0[0]) % SHARDS].lock();
        if shard.len() >= PENDING / SHARDS && !shard.contains_key(&key) {
            return;
        }
        let counts = shard.entry(key).or_default();
        counts.requests = counts.requests.saturating_add(u32::from(!counted));
        counts.blocks = counts.blocks.saturating_add(u32::from(blocked));
        counts.redactions = counts.redactions.saturating_add(u32::from(redacted));
        counts.flags |= flags;
    }

    /// Sends the noted counts to the store.
    pub async fn tell(&self) {
        for shard in &self.pending {
            let noted = std::mem::take(&mut *shard.lock());
            for (key, Counts { requests, blocks, redactions, flags }) in noted {
                let update = RiskUpdate { blocks, redactions, flags, ..self.update(Risk::default(), requests) };
                if let Err(error) = self.store.record(&key.hex(), update, &self.policy.risk).await {
                    self.metrics.failed();
                    log::debug!(target: "safety", "counts of a session were lost: {error}");
                    // The store is unavailable: the remaining counts would each wait for a timeout.
                    return;
                }
            }
        }
    }

    /// Sends the noted counts every second, until all other owners of the sessions are gone.
    pub async fn keep_telling(this: std::sync::Weak<Self>) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let Some(sessions) = this.upgrade() else { return };
            sessions.tell().await;
        }
    }
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sessions({:?})", self.policy)
    }
}
