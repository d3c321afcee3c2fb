//! The caller's session: whose it is, what findings add to it, and the counts that are told to the store now and then.
//!
//! Only a finding asks the store while a request waits. That a clean request took place is noted here and told about once
//! a second for all requests of a session together; a session that has more than it can hold loses counts, never scores.

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

/// Requests whose session nobody knows.
static UNANSWERED: Sparse = Sparse::new();

/// Sessions whose counts may wait.
const PENDING: usize = 16 * 1024;
const SHARDS: usize = 16;

/// Names a session: 128 bits of a keyed hash. Neither address nor key nor user agent can be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionKey([u8; 16]);

impl SessionKey {
    /// As the store knows it.
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

/// What one request leaves to be told about, besides that it took place.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Noted {
    /// The store knows of the request already.
    pub counted: bool,
    pub blocked: bool,
    pub redacted: bool,
    /// Members that found something which adds no score.
    pub flags: u32,
}

/// What configuration decides about sessions.
#[derive(Debug, Clone, Copy)]
pub struct SessionPolicy {
    /// How sessions are remembered.
    pub risk: RiskPolicy,
    /// See [`crate::safety::SessionRule::faint_ceiling`].
    pub faint_ceiling: f64,
    /// What it means that the store does not answer.
    pub on_store_error: OnError,
}

/// Sessions of one configuration.
pub struct Sessions {
    store: Arc<dyn RiskSessions>,
    key: hmac::Key,
    policy: SessionPolicy,
    metrics: SessionMetrics,
    pending: [Mutex<HashMap<SessionKey, Counts>>; SHARDS],
}

/// The store did not answer, and the request must not go on without it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreGone;

impl Sessions {
    /// Sessions in a store. `secret` makes fingerprints; replicas that share a store must share it.
    pub fn new(store: Arc<dyn RiskSessions>, secret: &[u8], policy: SessionPolicy, metrics: SessionMetrics) -> Arc<Self> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        Arc::new(Self { store, key, policy, metrics, pending: Default::default() })
    }

    /// Whose session a request belongs to. Before the key is known it is another one than after.
    pub fn fingerprint(&self, facts: &Facts) -> SessionKey {
        let mut context = hmac::Context::with_key(&self.key);
        match facts.client_ip {
            // Who has one address of an IPv6 network usually has all of it.
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
            // With its length, so that no two inputs run together.
            context.update(&part.map_or(u64::MAX, |part| part.len() as u64).to_le_bytes());
            context.update(part.unwrap_or_default().as_bytes());
        }
        let tag = context.sign();
        SessionKey(tag.as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Adds a risk to the session and says its score. `None` if the store does not say and that is no reason to stop.
    /// `first` counts the request as well.
    ///
    /// # Errors
    /// The store does not answer, and configuration says that this closes the gate.
    pub async fn add(&self, key: SessionKey, risk: Risk, first: bool) -> Result<Option<f64>, StoreGone> {
        let name = key.hex();
        let state = self.store.record(&name, self.update(risk, u32::from(first)), &self.policy.risk).await;
        self.answered(state.map(|state| state.score))
    }

    /// The same where nobody can wait, as in the middle of a stream: a store in memory answers at once; one that does not
    /// is told meanwhile, and the score is what was `known` before and the risk.
    pub fn add_now(self: &Arc<Self>, key: SessionKey, risk: Risk, known: f64, threshold: &crate::safety::SessionRule) -> f64 {
        self.tell_now(key, self.update(risk, 0)).unwrap_or_else(|| risk.onto(known, threshold))
    }

    /// The same of a risk that cannot block, with the score if the store said it at once. `first` counts the request as well.
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

    /// Asks for the score without waiting; it is there when it has come.
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
        // What was said before lifts as faint signs do, only higher.
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

    /// Notes that a request took place, for the next [`Self::tell`].
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

    /// Tells the store what was noted.
    pub async fn tell(&self) {
        for shard in &self.pending {
            let noted = std::mem::take(&mut *shard.lock());
            for (key, Counts { requests, blocks, redactions, flags }) in noted {
                let update = RiskUpdate { blocks, redactions, flags, ..self.update(Risk::default(), requests) };
                if let Err(error) = self.store.record(&key.hex(), update, &self.policy.risk).await {
                    self.metrics.failed();
                    log::debug!(target: "safety", "counts of a session were lost: {error}");
                    // The store is away: the others would only wait for it in turn.
                    return;
                }
            }
        }
    }

    /// Tells the store every second for as long as someone else holds the sessions.
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
