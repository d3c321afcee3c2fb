//! Virtual keys made at run time. The secret itself is never stored: only the fingerprint by which it is looked up, and a
//! hint for people.

use async_trait::async_trait;

use super::{Page, RecordError};

/// On whose behalf a key acts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOwner {
    /// The organisation as a whole.
    Organisation,
    /// A team, by its identifier.
    Team(String),
    /// A user, by its identifier.
    User(String),
}

/// What a key may be granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resource {
    /// A model.
    Model,
    /// An MCP server.
    McpServer,
}

/// One grant: a resource of the key's organisation by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Grant {
    /// Its kind.
    pub resource: Resource,
    /// Its name.
    pub name: String,
}

/// A key to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Stable identifier.
    pub id: String,
    /// Identifier of the organisation.
    pub organisation: String,
    /// Name for people, unique within the organisation.
    pub name: String,
    /// On whose behalf it acts.
    pub owner: KeyOwner,
    /// The fingerprint by which the secret is looked up: its keyed hash.
    pub fingerprint: [u8; 32],
    /// How people recognise the secret, such as `sk_…50ae`.
    pub hint: String,
    /// When the key expires: it is refused from this moment on.
    pub expires: Option<i64>,
    /// IANA name of the zone in which the expiry was meant.
    pub timezone: Option<String>,
    /// Its policies, a JSON object.
    pub policies: String,
    /// Its initial grants.
    pub grants: Vec<Grant>,
    /// When it was made.
    pub created: i64,
}

/// A stored key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRow {
    /// Stable identifier; survives rotation.
    pub id: String,
    /// Identifier of the organisation.
    pub organisation: String,
    /// Name for people.
    pub name: String,
    /// On whose behalf it acts.
    pub owner: KeyOwner,
    /// The fingerprint by which the secret is looked up.
    pub fingerprint: [u8; 32],
    /// How people recognise the secret.
    pub hint: String,
    /// When the key expires: it is refused from this moment on.
    pub expires: Option<i64>,
    /// IANA name of the zone in which the expiry was meant.
    pub timezone: Option<String>,
    /// Switched off by the operator.
    pub revoked: bool,
    /// Its policies, a JSON object.
    pub policies: String,
    /// Number of times its secret was replaced.
    pub rotations: u32,
    /// When it was made.
    pub created: i64,
    /// Increases with every change of any key, in the order in which changes become visible: a reader that has read up to a
    /// version has missed no change.
    pub version: i64,
    /// Its grants, sorted.
    pub grants: Vec<Grant>,
}

/// The current state of a changed key, as far as a gateway needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyChange {
    /// See [`KeyRow::version`].
    pub version: i64,
    /// Stable identifier.
    pub id: String,
    /// Identifier of the organisation.
    pub organisation: String,
    /// Name for people.
    pub name: String,
    /// On whose behalf it acts.
    pub owner: KeyOwner,
    /// The fingerprint by which the secret is looked up.
    pub fingerprint: [u8; 32],
    /// When the key expires: it is refused from this moment on.
    pub expires: Option<i64>,
    /// Switched off by the operator.
    pub revoked: bool,
    /// Its policies, a JSON object.
    pub policies: String,
    /// Its grants, sorted.
    pub grants: Vec<Grant>,
}

/// A new secret for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// The fingerprint of the new secret.
    pub fingerprint: [u8; 32],
    /// How people recognise the new secret.
    pub hint: String,
    /// The new expiry.
    pub expires: Option<i64>,
    /// The zone that it was given in.
    pub timezone: Option<String>,
    /// When.
    pub at: i64,
    /// The person or system that asked for it, as free text.
    pub by: String,
}

/// A past rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRow {
    /// When it was made.
    pub at: i64,
    /// The hint of the previous secret.
    pub previous_hint: String,
    /// The previous expiry.
    pub previous_expires: Option<i64>,
    /// The expiry from then on.
    pub expires: Option<i64>,
    /// The person or system that asked for it, as free text.
    pub by: String,
}

/// Which keys to list. The default lists all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Only of this organisation.
    pub organisation: Option<String>,
    /// Only of this team.
    pub team: Option<String>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only revoked keys, or only those not revoked.
    pub revoked: Option<bool>,
    /// Only keys with this grant.
    pub granted: Option<Grant>,
}

/// A store of keys.
#[async_trait]
pub trait VirtualKeys: Send + Sync + 'static {
    /// Makes a key.
    ///
    /// # Errors
    /// When the store does not answer; [`RecordError::Conflict`] when its id, name or fingerprint is taken.
    async fn create_key(&self, key: &NewKey) -> Result<KeyRow, RecordError>;
    /// The key with this id.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn key(&self, id: &str) -> Result<Option<KeyRow>, RecordError>;
    /// The key with this fingerprint.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn key_by_fingerprint(&self, fingerprint: &[u8; 32]) -> Result<Option<KeyRow>, RecordError>;
    /// A page of keys, sorted by id.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn keys(&self, filter: &KeyFilter, page: &Page) -> Result<Vec<KeyRow>, RecordError>;
    /// Keys changed after a version, sorted by version, at most `limit`. Start with 0, and continue with the last version
    /// read.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn keys_since(&self, version: i64, limit: u32) -> Result<Vec<KeyChange>, RecordError>;
    /// Replaces the secret and the expiry; everything else stays. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer; [`RecordError::Conflict`] when another key has the fingerprint.
    async fn rotate_key(&self, id: &str, rotation: &Rotation) -> Result<Option<KeyRow>, RecordError>;
    /// The rotations of a key, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn rotations(&self, id: &str) -> Result<Vec<RotationRow>, RecordError>;
    /// Revokes a key, or undoes that. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn revoke_key(&self, id: &str, revoked: bool) -> Result<Option<KeyRow>, RecordError>;
    /// Replaces the policies of a key, a JSON object. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn set_key_policies(&self, id: &str, policies: &str) -> Result<Option<KeyRow>, RecordError>;
    /// Adds and removes grants; adding one that exists or removing one that does not has no effect. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn change_grants(&self, id: &str, add: &[Grant], remove: &[Grant]) -> Result<Option<KeyRow>, RecordError>;
}
