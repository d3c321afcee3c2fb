//! The table of all keys made at run time, in memory.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use parking_lot::{Mutex, RwLock, RwLockUpgradableReadGuard};
use serde::{Deserialize, Serialize};

use super::home::{Homes, Kept};
use crate::identity::{Caller, KeyEntry, KeyKind, Terms, fingerprint};
use crate::store::records::{KeyChange, KeyOwner, Resource};

const SHARDS: usize = 64;
/// The number of pooled texts or grant sets from which on unused ones are removed.
const POOLED: usize = 4096;

/// The result of looking up a fingerprint.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// No key has it, or what the key refers to is gone.
    Unknown,
    /// The key is switched off.
    Revoked,
    /// The key has expired.
    Expired,
    /// The caller that the key stands for.
    Caller(Arc<Caller>),
}

/// A key as it is read from the store or the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub fingerprint: [u8; 32],
    pub id: String,
    pub name: String,
    pub organisation: String,
    pub kind: u8,
    pub owner: Option<String>,
    pub policies: Option<String>,
    pub models: Vec<String>,
    pub mcp_servers: Vec<String>,
    pub expires: Option<i64>,
    pub revoked: bool,
}

impl From<KeyChange> for Entry {
    fn from(key: KeyChange) -> Self {
        let (mut models, mut mcp_servers) = (Vec::new(), Vec::new());
        for grant in key.grants {
            match grant.resource {
                Resource::Model => models.push(grant.name),
                Resource::McpServer => mcp_servers.push(grant.name),
            }
        }
        let (kind, owner) = match key.owner {
            KeyOwner::Organisation => (0, None),
            KeyOwner::Team(team) => (1, Some(team)),
            KeyOwner::User(user) => (2, Some(user)),
        };
        Self {
            fingerprint: key.fingerprint,
            id: key.id,
            name: key.name,
            organisation: key.organisation,
            kind,
            owner,
            policies: Some(key.policies).filter(|policies| policies != "{}" && !policies.is_empty()),
            models,
            mcp_servers,
            expires: key.expires,
            revoked: key.revoked,
        }
    }
}

type Names = Arc<HashSet<String>>;

/// What many keys have in common: a million keys have few owners and few sets of grants.
struct Common {
    organisation: Arc<str>,
    kind: KeyKind,
    owner: Option<Arc<str>>,
    models: Names,
    mcp_servers: Names,
    /// The terms of the last caller that was built from this, to be shared.
    terms: Mutex<Option<Arc<Terms>>>,
}

/// The key under which a [`Common`] is pooled.
#[derive(PartialEq, Eq, Hash)]
struct Traits {
    organisation: String,
    kind: u8,
    owner: Option<String>,
    models: Vec<String>,
    mcp_servers: Vec<String>,
}

/// A key as it is kept.
struct Slot {
    id: Arc<str>,
    name: Arc<str>,
    common: Arc<Common>,
    policies: Option<Arc<str>>,
    expires: i64,
    revoked: bool,
    /// The number of the last full reading that contained it.
    reading: u8,
    /// The caller that the key stands for. It is built beforehand, so that a first use costs no more than a second one; for a
    /// key with policies of its own it is built at its first use, because it then takes more memory than the key.
    caller: OnceLock<Option<Arc<Caller>>>,
}

/// Uses a part of the fingerprint as its hash: fingerprints are keyed hashes already, so no caller can cause collisions.
#[derive(Default)]
struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }
    // Other bytes than those that choose the shard.
    fn write(&mut self, bytes: &[u8]) {
        let mut word = [0; 8];
        let start = bytes.get(8..16).unwrap_or(bytes);
        let n = start.len().min(8);
        word[..n].copy_from_slice(&start[..n]);
        self.0 = u64::from_le_bytes(word);
    }
}

/// Slots are boxed, because up to half of a map's places are empty.
type Shard = HashMap<Fingerprint, Box<Slot>, BuildHasherDefault<AsIs>>;

#[derive(PartialEq, Eq, Clone, Copy)]
struct Fingerprint([u8; 32]);

impl std::hash::Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0);
    }
}

/// The fingerprints of keys by id, and the pools of what keys share.
#[derive(Default)]
struct Register {
    places: HashMap<[u8; 16], Fingerprint>,
    texts: HashSet<Arc<str>>,
    common: HashMap<Traits, Arc<Common>>,
}

/// All keys made at run time.
pub struct KeyTable {
    shards: Vec<RwLock<Shard>>,
    register: Mutex<Register>,
    homes: ArcSwap<Homes>,
    reading: AtomicU8,
    count: AtomicUsize,
}

impl KeyTable {
    /// An empty table for this configuration.
    pub fn new(homes: Arc<Homes>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            register: Mutex::default(),
            homes: ArcSwap::new(homes),
            reading: AtomicU8::new(0),
            count: AtomicUsize::new(0),
        }
    }

    /// The number of keys.
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Rebuilds the callers of all keys for another configuration. Lookups go on meanwhile.
    pub fn rehome(&self, homes: Arc<Homes>) {
        self.homes.store(Arc::clone(&homes));
        let mut strays = 0_usize;
        for shard in &self.shards {
            let found = shard.upgradable_read();
            let callers: Vec<_> = found.values().map(|slot| ready(&homes, slot)).collect();
            strays += found.values().filter(|slot| !slot.revoked && is_stray(&homes, &slot.common)).count();
            let mut shard = RwLockUpgradableReadGuard::upgrade(found);
            shard.values_mut().zip(callers).for_each(|(slot, caller)| slot.caller = caller);
        }
        if strays > 0 {
            log::warn!(target: "keys", keys = strays; "keys made at run time are refused: the configuration has no such organisation, team or user (`keys list` says which)");
        }
    }

    fn shard(&self, fingerprint: &Fingerprint) -> &RwLock<Shard> {
        &self.shards[usize::from(fingerprint.0[0]) % SHARDS]
    }

    /// Looks up a fingerprint at this time (ms since the Unix epoch). Revoked takes precedence over expired.
    pub(super) fn find(&self, fingerprint: [u8; 32], now: i64) -> Found {
        let fingerprint = Fingerprint(fingerprint);
        let shard = self.shard(&fingerprint).read();
        let Some(slot) = shard.get(&fingerprint) else { return Found::Unknown };
        if slot.revoked {
            return Found::Revoked;
        }
        if now >= slot.expires {
            return Found::Expired;
        }
        slot.caller
            .get_or_init(|| caller(&self.homes.load(), slot))
            .as_ref()
            .map_or(Found::Unknown, |caller| Found::Caller(Arc::clone(caller)))
    }

    /// The key with this id, for components that do not have its secret.
    pub fn by_id(&self, id: &str) -> Option<KeyEntry> {
        let place = *self.register.lock().places.get(&place_of(id))?;
        let shard = self.shard(&place).read();
        let slot = shard.get(&place)?;
        let caller = Arc::clone(slot.caller.get_or_init(|| caller(&self.homes.load(), slot)).as_ref()?);
        Some(KeyEntry { caller, revoked: slot.revoked })
    }

    /// Begins to read all keys anew; [`KeyTable::end_reading`] removes those that were not among them.
    pub(super) fn begin_reading(&self) {
        self.reading.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes every key that was not put since [`KeyTable::begin_reading`].
    pub(super) fn end_reading(&self) {
        let reading = self.reading.load(Ordering::Relaxed);
        let mut left = 0;
        for shard in &self.shards {
            let mut shard = shard.write();
            shard.retain(|_, slot| slot.reading == reading);
            left += shard.len();
        }
        let mut register = self.register.lock();
        register.places.retain(|_, place| self.shard(place).read().contains_key(place));
        self.count.store(left, Ordering::Relaxed);
    }

    /// Adds a key or replaces its previous state.
    pub(super) fn put(&self, entry: Entry) {
        let mut register = self.register.lock();
        let place = Fingerprint(entry.fingerprint);
        let id = place_of(&entry.id);
        let policies = entry.policies.map(|policies| register.text(policies));
        let traits = Traits {
            organisation: entry.organisation,
            kind: entry.kind,
            owner: entry.owner,
            models: entry.models,
            mcp_servers: entry.mcp_servers,
        };
        let mut slot = Box::new(Slot {
            id: entry.id.into(),
            name: entry.name.into(),
            common: register.common(traits),
            policies,
            expires: entry.expires.unwrap_or(i64::MAX),
            revoked: entry.revoked,
            reading: self.reading.load(Ordering::Relaxed),
            caller: OnceLock::new(),
        });
        let before = register.places.insert(id, place);
        let mut shard = self.shard(&place).write();
        // With the shard locked: a concurrent `rehome` either sees this key or has stored its homes already.
        slot.caller = ready(&self.homes.load(), &slot);
        if shard.insert(place, slot).is_none() {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        drop(shard);
        // The fingerprint of a rotated key's previous secret is removed.
        if let Some(before) = before.filter(|before| *before != place)
            && self.shard(&before).write().remove(&before).is_some()
        {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Passes all keys to `each`, locking one shard at a time.
    pub(super) fn entries(&self, mut each: impl FnMut(&Entry) -> std::io::Result<()>) -> std::io::Result<()> {
        let list = |names: &Names| names.iter().cloned().collect();
        for shard in &self.shards {
            let some: Vec<Entry> = shard
                .read()
                .iter()
                .map(|(fingerprint, slot)| Entry {
                    fingerprint: fingerprint.0,
                    id: slot.id.to_string(),
                    name: slot.name.to_string(),
                    organisation: slot.common.organisation.to_string(),
                    kind: slot.common.kind as u8,
                    owner: slot.common.owner.as_deref().map(str::to_owned),
                    policies: slot.policies.as_deref().map(str::to_owned),
                    models: list(&slot.common.models),
                    mcp_servers: list(&slot.common.mcp_servers),
                    expires: (slot.expires != i64::MAX).then_some(slot.expires),
                    revoked: slot.revoked,
                })
                .collect();
            some.iter().try_for_each(&mut each)?;
        }
        Ok(())
    }
}

/// A short digest of an id, which takes less memory than the id.
fn place_of(id: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&fingerprint(id.as_bytes())[..16]);
    short
}

impl Register {
    fn text(&mut self, text: String) -> Arc<str> {
        if let Some(found) = self.texts.get(text.as_str()) {
            return Arc::clone(found);
        }
        if self.texts.len() >= POOLED && self.texts.len().is_power_of_two() {
            self.texts.retain(|text| Arc::strong_count(text) > 1);
        }
        let text: Arc<str> = text.into();
        self.texts.insert(Arc::clone(&text));
        text
    }

    fn common(&mut self, mut traits: Traits) -> Arc<Common> {
        traits.models.sort_unstable();
        traits.mcp_servers.sort_unstable();
        if let Some(found) = self.common.get(&traits) {
            return Arc::clone(found);
        }
        if self.common.len() >= POOLED && self.common.len().is_power_of_two() {
            self.common.retain(|_, common| Arc::strong_count(common) > 1);
        }
        let names = |names: &[String]| -> Names { Arc::new(names.iter().cloned().collect()) };
        let common = Arc::new(Common {
            organisation: self.text(traits.organisation.clone()),
            kind: match traits.kind {
                1 => KeyKind::Team,
                2 => KeyKind::User,
                _ => KeyKind::Organisation,
            },
            owner: traits.owner.clone().map(|owner| self.text(owner)),
            models: names(&traits.models),
            mcp_servers: names(&traits.mcp_servers),
            terms: Mutex::default(),
        });
        self.common.insert(traits, Arc::clone(&common));
        common
    }
}

/// The caller of a key if it is built beforehand, see [`Slot::caller`].
fn ready(homes: &Homes, slot: &Slot) -> OnceLock<Option<Arc<Caller>>> {
    match slot.policies {
        Some(_) => OnceLock::new(),
        None => OnceLock::from(caller(homes, slot)),
    }
}

/// Whether the owner of keys is not configured.
fn is_stray(homes: &Homes, common: &Common) -> bool {
    homes.get(&common.organisation).is_none_or(|home| !home.has(common.kind, common.owner.as_deref()))
}

/// What a key stands for under this configuration.
fn caller(homes: &Homes, slot: &Slot) -> Option<Arc<Caller>> {
    let common = &slot.common;
    let key = Kept {
        id: &slot.id,
        name: &slot.name,
        kind: common.kind,
        owner: common.owner.as_deref(),
        policies: slot.policies.as_deref(),
        models: &common.models,
        mcp_servers: &common.mcp_servers,
    };
    let mut caller = homes.get(&common.organisation)?.caller(&key)?;
    // Usually all keys of an owner have equal terms; sharing them saves memory.
    let mut terms = common.terms.lock();
    match &*terms {
        Some(known) if known.is(&caller.terms) => caller.terms = Arc::clone(known),
        _ => *terms = Some(Arc::clone(&caller.terms)),
    }
    Some(Arc::new(caller))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "table_test.rs"]
mod tests;
