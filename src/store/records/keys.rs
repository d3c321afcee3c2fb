//! Virtual keys made at run time. The secret is never here: only what it is looked up by, and a hint for people.

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
    /// What the secret is looked up by: its keyed hash.
    pub fingerprint: [u8; 32],
    /// What people recognise the secret by, such as `sk_…50ae`.
    pub hint: String,
    /// The instant from which it is refused.
    pub expires: Option<i64>,
    /// IANA name of the zone in which the expiry was meant.
    pub timezone: Option<String>,
    /// Its policies, a JSON object.
    pub policies: String,
    /// What it is granted from the start.
    pub grants: Vec<Grant>,
    /// When it is made.
    pub created: i64,
}

/// A key as it is kept.
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
    /// What the secret is looked up by.
    pub fingerprint: [u8; 32],
    /// What people recognise the secret by.
    pub hint: String,
    /// The instant from which it is refused.
    pub expires: Option<i64>,
    /// IANA name of the zone in which the expiry was meant.
    pub timezone: Option<String>,
    /// Switched off by the operator.
    pub revoked: bool,
    /// Its policies, a JSON object.
    pub policies: String,
    /// How often its secret was replaced.
    pub rotations: u32,
    /// When it was made.
    pub created: i64,
    /// Grows with every change of any key in the order in which changes become visible: who has read up to a version
    /// has missed nothing.
    pub version: i64,
    /// What it is granted, in order.
    pub grants: Vec<Grant>,
}

/// What a gateway has to know of a key that was changed.
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
    /// What the secret is looked up by.
    pub fingerprint: [u8; 32],
    /// The instant from which it is refused.
    pub expires: Option<i64>,
    /// Switched off by the operator.
    pub revoked: bool,
    /// Its policies, a JSON object.
    pub policies: String,
    /// What it is granted, in order.
    pub grants: Vec<Grant>,
}

/// A new secret for a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// What the new secret is looked up by.
    pub fingerprint: [u8; 32],
    /// What people recognise it by.
    pub hint: String,
    /// The new expiry.
    pub expires: Option<i64>,
    /// The zone that it was given in.
    pub timezone: Option<String>,
    /// When.
    pub at: i64,
    /// Who asked for it, for people.
    pub by: String,
}

/// A past rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationRow {
    /// When.
    pub at: i64,
    /// What the secret before was recognised by.
    pub previous_hint: String,
    /// The expiry before.
    pub previous_expires: Option<i64>,
    /// The expiry since.
    pub expires: Option<i64>,
    /// Who asked for it.
    pub by: String,
}

/// Which keys to list. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyFilter {
    /// Only of this organisation.
    pub organisation: Option<String>,
    /// Only of this team.
    pub team: Option<String>,
    /// Only of this user.
    pub user: Option<String>,
    /// Only revoked ones, or only others.
    pub revoked: Option<bool>,
    /// Only those granted this.
    pub granted: Option<Grant>,
}

/// Where keys are kept.
#[async_trait]
pub trait VirtualKeys: Send + Sync + 'static {
    /// Makes a key.
    ///
    /// # Errors
    /// When the store does not answer; [`RecordError::Conflict`] when its id, name or fingerprint is taken.
    async fn create_key(&self, key: &NewKey) -> Result<KeyRow, RecordError>;
    /// The key of this id.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn key(&self, id: &str) -> Result<Option<KeyRow>, RecordError>;
    /// The key that is looked up by this.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn key_by_fingerprint(&self, fingerprint: &[u8; 32]) -> Result<Option<KeyRow>, RecordError>;
    /// Keys by their ids.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn keys(&self, filter: &KeyFilter, page: &Page) -> Result<Vec<KeyRow>, RecordError>;
    /// Keys changed after a version, by version: 0 reads all, the last version read reads on.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn keys_since(&self, version: i64, limit: u32) -> Result<Vec<KeyChange>, RecordError>;
    /// Replaces the secret and the expiry; everything else stays. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer; [`RecordError::Conflict`] when the fingerprint is taken.
    async fn rotate_key(&self, id: &str, rotation: &Rotation) -> Result<Option<KeyRow>, RecordError>;
    /// The rotations of a key, newest first.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn rotations(&self, id: &str) -> Result<Vec<RotationRow>, RecordError>;
    /// Switches a key off or on again. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn revoke_key(&self, id: &str, revoked: bool) -> Result<Option<KeyRow>, RecordError>;
    /// Replaces the policies of a key, a JSON object. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn set_key_policies(&self, id: &str, policies: &str) -> Result<Option<KeyRow>, RecordError>;
    /// Grants and takes back; what is granted already or not at all stays so. `None`: no such key.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn change_grants(&self, id: &str, add: &[Grant], remove: &[Grant]) -> Result<Option<KeyRow>, RecordError>;
}
