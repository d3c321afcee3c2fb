//! Settings that a process takes from its configuration only at its start. A reload does not change them, and warns if they
//! differ.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Serialize;

use crate::config::sections::Root;

/// What not even an upgrade changes: the place where processes meet for it.
pub(super) const UPGRADE_SOCK: &str = "server.upgrade_sock";

/// Digests of the settings taken at start, by the names they have in the file.
pub(super) struct Taken(BTreeMap<&'static str, u64>);

impl Taken {
    /// The digests for a configuration. Certificate files are read, because their contents are taken at the start too.
    pub fn of(root: &Root) -> Self {
        let server = &root.server;
        let files = server.tls.iter().flat_map(|tls| [&tls.cert, &tls.key]).map(|path| fs::read(path).unwrap_or_default());
        Self(BTreeMap::from([
            ("server.listen", digest(&server.listen)),
            ("server.tls", digest(&(&server.tls, files.collect::<Vec<_>>()))),
            ("server.threads", digest(&server.threads)),
            (UPGRADE_SOCK, digest(&server.upgrade_sock)),
            ("server.drain", digest(&server.drain)),
            ("admin.listen", digest(&root.admin.listen)),
            ("log", digest(&root.log)),
            ("evidence", digest(&root.evidence)),
            ("state", digest(&root.state)),
            ("records", digest(&root.records)),
            ("governance.usage_spool", digest(&root.governance.usage_spool)),
            ("governance.key_hash_secret", digest(&root.governance.key_hash_secret)),
            ("outbox", digest(&root.outbox)),
            ("plugin_runtime.async_queue_size", digest(&root.plugin_runtime.async_queue_size)),
            ("plugin_runtime.async_workers", digest(&root.plugin_runtime.async_workers)),
        ]))
    }

    /// The names of the settings that differ from another configuration's.
    pub fn differing(&self, other: &Self) -> Vec<&'static str> {
        self.0.iter().filter(|(name, digest)| other.0.get(*name) != Some(digest)).map(|(name, _)| *name).collect()
    }
}

fn digest(settings: &impl Serialize) -> u64 {
    let mut hasher = DefaultHasher::new();
    serde_json::to_string(settings).unwrap_or_default().hash(&mut hasher);
    hasher.finish()
}
