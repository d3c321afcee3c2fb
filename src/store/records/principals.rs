//! Organisations, their teams, users and models.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::RecordError;

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganisationRow {
    /// Stable identifier.
    pub id: String,
    /// Unique name.
    pub name: String,
    /// Free-form metadata of the operator.
    pub metadata: BTreeMap<String, String>,
}

/// A team or a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// Identifier of the organisation.
    pub organisation: String,
    /// Stable identifier, unique within the organisation and its kind.
    pub id: String,
    /// Name, unique within the organisation and its kind.
    pub name: String,
    /// Free-form metadata of the operator.
    pub metadata: BTreeMap<String, String>,
}

/// A model of an organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelRow {
    /// Identifier of the organisation.
    pub organisation: String,
    /// The name that callers send, unique within the organisation.
    pub name: String,
    /// The name that the provider is sent.
    pub slug: String,
    /// Name of the provider.
    pub provider: String,
    /// Everything else (pricing, policies, capabilities), a JSON object.
    pub document: String,
}

/// Principals in the store. Putting a row replaces the one with the same identifier (models: the same name).
#[async_trait]
pub trait Principals: Send + Sync + 'static {
    /// Puts an organisation.
    ///
    /// # Errors
    /// When the store does not answer; [`RecordError::Conflict`] when another one has the name.
    async fn put_organisation(&self, row: &OrganisationRow) -> Result<(), RecordError>;
    /// Puts a team; see [`Self::put_organisation`].
    ///
    /// # Errors
    /// As for [`Self::put_organisation`].
    async fn put_team(&self, row: &MemberRow) -> Result<(), RecordError>;
    /// Puts a user; see [`Self::put_organisation`].
    ///
    /// # Errors
    /// As for [`Self::put_organisation`].
    async fn put_user(&self, row: &MemberRow) -> Result<(), RecordError>;
    /// Puts a model.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn put_model(&self, row: &ModelRow) -> Result<(), RecordError>;
    /// All organisations by name.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn organisations(&self) -> Result<Vec<OrganisationRow>, RecordError>;
    /// The teams of an organisation by name.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn teams(&self, organisation: &str) -> Result<Vec<MemberRow>, RecordError>;
    /// The users of an organisation by name.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn users(&self, organisation: &str) -> Result<Vec<MemberRow>, RecordError>;
    /// The models of an organisation by name.
    ///
    /// # Errors
    /// When the store does not answer.
    async fn models(&self, organisation: &str) -> Result<Vec<ModelRow>, RecordError>;
}
