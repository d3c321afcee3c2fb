//! What the operator grants an instance.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

use super::manifest::{Manifest, Need, NeedSet, StorageScope};
use super::network::HostRule;
use crate::identity::Secret;

/// The grants of an instance. The needs in its manifest are granted by listing the plugin and can be withdrawn one by one;
/// hosts, directories, secrets and storage scopes have to be named.
#[derive(Clone, Default)]
pub struct Granted {
    withdrawn: Vec<Need>,
    network: Vec<HostRule>,
    files: Vec<PathBuf>,
    secrets: HashMap<String, Secret>,
    storage: Vec<StorageScope>,
}

impl Granted {
    /// No grants beyond those of listing the plugin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Withdraws a need (`grant: {headers: false}`).
    pub fn without(mut self, need: Need) -> Self {
        self.withdrawn.push(need);
        self
    }

    /// Grants a host.
    pub fn network(mut self, rule: HostRule) -> Self {
        self.network.push(rule);
        self
    }

    /// Grants the files under a directory.
    pub fn directory(mut self, path: PathBuf) -> Self {
        self.files.push(path);
        self
    }

    /// Grants a secret under the name by which the plugin asks for it.
    pub fn secret(mut self, name: impl Into<String>, secret: Secret) -> Self {
        self.secrets.insert(name.into(), secret);
        self
    }

    /// Grants a storage scope.
    pub fn storage(mut self, scope: StorageScope) -> Self {
        self.storage.push(scope);
        self
    }

    pub(crate) fn rules(&self) -> &[HostRule] {
        &self.network
    }

    pub(crate) fn directories(&self) -> &[PathBuf] {
        &self.files
    }

    pub(crate) fn find_secret(&self, name: &str) -> Option<&Secret> {
        self.secrets.get(name)
    }

    pub(crate) fn may_read(&self, scope: StorageScope) -> bool {
        self.storage.contains(&scope)
    }

    /// The manifest's needs that are granted.
    pub(super) fn needs(&self, manifest: &Manifest) -> NeedSet {
        let mut needs = manifest.need_set();
        for need in &self.withdrawn {
            needs.remove(*need);
        }
        for need in manifest.needs {
            if let Need::Storage(scope) = need
                && !self.may_read(*scope)
            {
                needs.remove(*need);
            }
        }
        needs
    }

    /// A description for the instance's fingerprint. Of secrets it contains only the names.
    pub(super) fn describe(&self) -> String {
        let mut secrets: Vec<&str> = self.secrets.keys().map(String::as_str).collect();
        secrets.sort_unstable();
        format!("{:?} {:?} {:?} {:?}", self.network, self.files, secrets, self.storage)
    }
}

impl fmt::Debug for Granted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Granted({})", self.describe())
    }
}
