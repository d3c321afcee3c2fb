//! What a plugin with a storage grant may look up: the configured world, one group at a time, without secrets.

use std::sync::Arc;

use super::host::HostError;
use super::manifest::{Need, NeedSet, StorageScope};
use crate::identity::{Directory, KeyEntry, ModelEntry, Organisation, Team, User};

/// Scoped, read-only access to what is stored.
#[derive(Clone)]
pub struct Storage {
    granted: NeedSet,
    directory: Arc<Directory>,
}

impl Storage {
    pub(crate) fn new(granted: NeedSet, directory: Arc<Directory>) -> Self {
        Self { granted, directory }
    }

    fn scope(&self, scope: StorageScope) -> Result<&Directory, HostError> {
        if self.granted.contains(Need::Storage(scope)) { Ok(&self.directory) } else { Err(HostError::NotGranted(scope.as_str())) }
    }

    /// The organisation of this id or name.
    ///
    /// # Errors
    /// Without the scope `organisations`.
    pub fn organisation(&self, id: &str) -> Result<Option<&Arc<Organisation>>, HostError> {
        Ok(self.scope(StorageScope::Organisations)?.organisation(id))
    }

    /// The team of this id or name within an organisation (by its id).
    ///
    /// # Errors
    /// Without the scope `teams`.
    pub fn team(&self, organisation: &str, id: &str) -> Result<Option<&Arc<Team>>, HostError> {
        Ok(self.scope(StorageScope::Teams)?.team(organisation, id))
    }

    /// The user of this id or name within an organisation (by its id).
    ///
    /// # Errors
    /// Without the scope `users`.
    pub fn user(&self, organisation: &str, id: &str) -> Result<Option<&Arc<User>>, HostError> {
        Ok(self.scope(StorageScope::Users)?.user(organisation, id))
    }

    /// The key of this id.
    ///
    /// # Errors
    /// Without the scope `api_keys`.
    pub fn api_key(&self, id: &str) -> Result<Option<&KeyEntry>, HostError> {
        Ok(self.scope(StorageScope::ApiKeys)?.api_key(id))
    }

    /// The model of this name within an organisation (by its id).
    ///
    /// # Errors
    /// Without the scope `models`.
    pub fn model(&self, organisation: &str, name: &str) -> Result<Option<&Arc<ModelEntry>>, HostError> {
        Ok(self.scope(StorageScope::Models)?.model(organisation, name))
    }

    /// The names of the models granted to a key (by its id), sorted; `None` for an unknown key.
    ///
    /// # Errors
    /// Without the scope `model_access`.
    pub fn model_access(&self, key_id: &str) -> Result<Option<Vec<&str>>, HostError> {
        Ok(self.scope(StorageScope::ModelAccess)?.model_access(key_id))
    }
}
