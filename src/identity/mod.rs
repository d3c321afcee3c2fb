//! Who calls: organisations, teams, users, and the virtual keys that act for them.
//!
//! Everything here is resolved when the configuration is loaded, or follows the record store in the background, and is shared
//! by reference. No request waits for a database.

mod directory;
mod keys;
mod runtime;
mod secret;
mod terms;

pub use directory::{Directory, KeyEntry, ModelEntry};
pub use keys::{KeyRecord, Keys, authenticate, fingerprint};
pub use runtime::{
    ALL_AGAIN, CHANGED, Desk, DeskError, GrantChange, Home, Homes, Issued, KeyAsk, KeyHasher, KeyTable, Keyring, RotateAsk, describe,
    is_minted_id, rotation,
};
pub use secret::Secret;
pub use terms::Terms;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// A tenant. The callers of one organisation cannot see anything of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Organisation {
    /// Stable identifier, unique in the process.
    pub id: Arc<str>,
    /// Unique name, as used in scopes and evidence.
    pub name: Arc<str>,
    /// Free text of the operator, visible to plugins with the `organisations` storage scope.
    pub metadata: BTreeMap<String, String>,
}

/// A group of people or applications within an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Team {
    /// Stable identifier, unique within the organisation.
    pub id: Arc<str>,
    /// Name, unique within the organisation.
    pub name: Arc<str>,
    /// The organisation it belongs to.
    pub organisation: Arc<str>,
    /// Free text of the operator.
    pub metadata: BTreeMap<String, String>,
}

/// A person or a service account within an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// Stable identifier, unique within the organisation.
    pub id: Arc<str>,
    /// Name, unique within the organisation.
    pub name: Arc<str>,
    /// The organisation it belongs to.
    pub organisation: Arc<str>,
    /// Free text of the operator.
    pub metadata: BTreeMap<String, String>,
}

/// On whose behalf a virtual key acts; its team and user follow from this alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// The organisation as a whole; never attributed to a team or user.
    Organisation,
    /// One team.
    Team,
    /// One user.
    User,
}

impl KeyKind {
    /// The name in configuration, evidence and plugin views.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Team => "team",
            Self::User => "user",
        }
    }
}

/// The authenticated caller of a request: what its key stands for and what the key was granted.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Stable identifier of the key; survives rotation. Never the secret.
    pub key_id: Arc<str>,
    /// Name of the key, for people.
    pub key_name: Arc<str>,
    /// On whose behalf the key acts.
    pub kind: KeyKind,
    /// The tenant.
    pub organisation: Arc<Organisation>,
    /// Set for keys of kind [`KeyKind::Team`].
    pub team: Option<Arc<Team>>,
    /// Set for keys of kind [`KeyKind::User`].
    pub user: Option<Arc<User>>,
    /// The names of the organisation's models that this key may use; a `*` in the configuration is expanded when it is loaded.
    pub models: Arc<HashSet<String>>,
    /// The names of the organisation's MCP servers that this key may use.
    pub mcp_servers: Arc<HashSet<String>>,
    /// The limits and budgets that apply to the key.
    pub terms: Arc<Terms>,
}

impl Caller {
    /// Whether the model of this name was granted to the key.
    pub fn may_use_model(&self, name: &str) -> bool {
        self.models.contains(name)
    }

    /// Whether the MCP server of this name was granted to the key.
    pub fn may_use_server(&self, name: &str) -> bool {
        self.mcp_servers.contains(name)
    }
}
