//! The vaults of an instance, one for each organisation, and the tokens of requests that wait for their answer.

use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::sync::{OnceLock, Weak};
use std::time::Instant;

use super::minted::Minted;
use super::shelf::AsGiven;
use super::token::Mint;
use super::vault::Vault;
use crate::plugin::prelude::*;

/// Most requests under way whose tokens are kept for their answer; the oldest are dropped first.
const UNDER_WAY: usize = 16_384;
/// Tokens of older requests are dropped.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

/// The vaults of all instances with the same name, key and bounds, so that a reloaded configuration continues with the
/// values of the running one.
pub struct Vaults {
    secret: Vec<u8>,
    ttl: Duration,
    capacity: usize,
    by_organisation: parking_lot::RwLock<HashMap<Arc<str>, Arc<Vault>>>,
    /// A request's id is random and made by the gateway, so it needs no hashing.
    under_way: parking_lot::Mutex<HashMap<RequestId, Left, BuildHasherDefault<AsGiven>>>,
}

/// What a request keeps for its answer.
pub struct Left {
    since: Instant,
    /// Its tokens.
    pub minted: Minted,
    /// The vault of its organisation, if it has one.
    pub vault: Option<Arc<Vault>>,
}

/// What two instances must have in common to share vaults: name, digest of the key, TTL, capacity.
type Identity = (String, Vec<u8>, Duration, usize);

static SHARED: parking_lot::Mutex<Vec<(Identity, Weak<Vaults>)>> = parking_lot::Mutex::new(Vec::new());
static PROCESS_KEY: OnceLock<[u8; 32]> = OnceLock::new();

impl Vaults {
    /// The vaults for this key, or for the key of the process.
    pub fn of(instance: &str, secret: Option<&str>, ttl: Duration, capacity: usize) -> Result<Arc<Self>, BuildError> {
        let secret = match secret {
            Some(secret) => secret.as_bytes().to_vec(),
            None => process_key()?.to_vec(),
        };
        let digest = ring::digest::digest(&ring::digest::SHA256, &secret).as_ref().to_vec();
        let identity = (instance.to_owned(), digest, ttl, capacity);
        let mut shared = SHARED.lock();
        shared.retain(|(_, vaults)| vaults.strong_count() > 0);
        if let Some(vaults) = shared.iter().find(|(i, _)| *i == identity).and_then(|(_, v)| v.upgrade()) {
            return Ok(vaults);
        }
        let vaults = Arc::new(Self {
            secret,
            ttl,
            capacity,
            by_organisation: parking_lot::RwLock::default(),
            under_way: parking_lot::Mutex::default(),
        });
        shared.push((identity, Arc::downgrade(&vaults)));
        Ok(vaults)
    }

    /// The vault of an organisation; callers without one share a vault that is never read.
    pub fn vault(&self, organisation: Option<&Arc<str>>) -> Arc<Vault> {
        let name = organisation.map_or("", |id| id);
        if let Some(vault) = self.by_organisation.read().get(name) {
            return vault.clone();
        }
        let mut vaults = self.by_organisation.write();
        let new = || Arc::new(Vault::new(Mint::for_organisation(&self.secret, name), self.capacity, self.ttl));
        vaults.entry(name.into()).or_insert_with(new).clone()
    }

    /// Keeps the tokens of a request for its answer.
    pub fn leave(&self, request: RequestId, minted: Minted, vault: Option<Arc<Vault>>, since: Instant) {
        if minted.is_empty() {
            return;
        }
        let mut under_way = self.under_way.lock();
        if under_way.len() >= UNDER_WAY {
            under_way.retain(|_, left| since.saturating_duration_since(left.since) < LONGEST_REQUEST);
        }
        if under_way.len() >= UNDER_WAY
            && let Some(oldest) = under_way.iter().min_by_key(|(_, left)| left.since).map(|(id, _)| *id)
        {
            under_way.remove(&oldest);
        }
        under_way.insert(request, Left { since, minted, vault });
    }

    /// Removes and returns what [`Self::leave`] kept.
    pub fn take(&self, request: RequestId) -> Option<Left> {
        self.under_way.lock().remove(&request)
    }
}

fn process_key() -> Result<[u8; 32], BuildError> {
    if let Some(key) = PROCESS_KEY.get() {
        return Ok(*key);
    }
    let mut key = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut key)
        .map_err(|_| BuildError::at("key", "the system has no random numbers"))?;
    Ok(*PROCESS_KEY.get_or_init(|| key))
}
