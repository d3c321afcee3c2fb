//! Everything a request needs, immutable.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::settings::{AdminSettings, EvidenceSettings, LogSettings, PluginSettings, ServerSettings};
use crate::gate::Chain;
use crate::identity::{Directory, Keys};
use crate::route::{Models, Provider, Router};

/// One loaded configuration. A request pins one snapshot from its first byte to its last; a reload makes another.
#[derive(Debug)]
pub struct Snapshot {
    /// SHA-256 (hex) over the effective configuration, for evidence and `/version`. Secrets are not part of it.
    pub hash: String,
    /// The listener for callers.
    pub server: ServerSettings,
    /// The listener for operators.
    pub admin: AdminSettings,
    /// Logging.
    pub log: LogSettings,
    /// The evidence log.
    pub evidence: EvidenceSettings,
    /// The queue behind background plugins.
    pub plugins: PluginSettings,
    /// Routes, ordered for lookup.
    pub routes: Router,
    /// Compiled chains by name.
    pub chains: BTreeMap<String, Arc<Chain>>,
    /// Virtual keys by the hash of their secret.
    pub keys: Keys,
    /// Models by organisation and name.
    pub models: Models,
    /// Providers by name.
    pub providers: HashMap<Arc<str>, Arc<Provider>>,
    /// Principals and models for plugins.
    pub directory: Arc<Directory>,
}
