//! What plugins with a storage grant may look up: the configured organisations, teams, users, keys and models, without secrets.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Caller, Home, Homes, Organisation, Team, User};

/// A virtual key as plugins with the `api_keys` scope see it.
#[derive(Debug, Clone)]
pub struct KeyEntry {
    /// The caller that the key stands for, with its grants.
    pub caller: Arc<Caller>,
    /// Whether the operator has switched the key off.
    pub revoked: bool,
}

/// A model as plugins with the `models` scope see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelEntry {
    /// The model's name for callers.
    pub name: Arc<str>,
    /// The model's name at the provider.
    pub slug: Arc<str>,
    /// The name of the provider.
    pub provider: Arc<str>,
    /// The id of the organisation.
    pub organisation: Arc<str>,
}

/// All callers and models of one snapshot. Lookups are by organisation first, so that a plugin acting for one tenant has to
/// name another one to see it.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    organisations: Vec<Arc<Organisation>>,
    teams: Vec<Arc<Team>>,
    users: Vec<Arc<User>>,
    api_keys: HashMap<Arc<str>, KeyEntry>,
    models: Vec<Arc<ModelEntry>>,
    homes: Arc<Homes>,
}

impl Directory {
    /// Builds the directory; the order of the slices is kept for listings.
    pub fn new(
        organisations: Vec<Arc<Organisation>>,
        teams: Vec<Arc<Team>>,
        users: Vec<Arc<User>>,
        api_keys: Vec<KeyEntry>,
        models: Vec<Arc<ModelEntry>>,
    ) -> Self {
        let api_keys = api_keys.into_iter().map(|k| (Arc::clone(&k.caller.key_id), k)).collect();
        Self { organisations, teams, users, api_keys, models, homes: Arc::default() }
    }

    /// Adds what keys made at run time need of each organisation.
    pub fn with_homes(mut self, homes: Arc<Homes>) -> Self {
        self.homes = homes;
        self
    }

    /// What keys made at run time need of an organisation (by its id).
    pub fn home(&self, organisation: &str) -> Option<&Home> {
        self.homes.get(organisation)
    }

    /// All organisations.
    pub fn organisations(&self) -> &[Arc<Organisation>] {
        &self.organisations
    }

    /// The organisation of this id or name.
    pub fn organisation(&self, id: &str) -> Option<&Arc<Organisation>> {
        self.organisations.iter().find(|o| &*o.id == id || &*o.name == id)
    }

    /// The teams of an organisation (by its id).
    pub fn teams<'a>(&'a self, organisation: &str) -> impl Iterator<Item = &'a Arc<Team>> {
        self.teams.iter().filter(move |t| &*t.organisation == organisation)
    }

    /// The team of this id or name within an organisation.
    pub fn team(&self, organisation: &str, id: &str) -> Option<&Arc<Team>> {
        self.teams(organisation).find(|t| &*t.id == id || &*t.name == id)
    }

    /// The users of an organisation (by its id).
    pub fn users<'a>(&'a self, organisation: &str) -> impl Iterator<Item = &'a Arc<User>> {
        self.users.iter().filter(move |u| &*u.organisation == organisation)
    }

    /// The user of this id or name within an organisation.
    pub fn user(&self, organisation: &str, id: &str) -> Option<&Arc<User>> {
        self.users(organisation).find(|u| &*u.id == id || &*u.name == id)
    }

    /// The key of this id.
    pub fn api_key(&self, id: &str) -> Option<&KeyEntry> {
        self.api_keys.get(id)
    }

    /// All keys of the configuration file.
    pub fn api_keys(&self) -> impl Iterator<Item = &KeyEntry> {
        self.api_keys.values()
    }

    /// The models of an organisation (by its id).
    pub fn models<'a>(&'a self, organisation: &str) -> impl Iterator<Item = &'a Arc<ModelEntry>> {
        self.models.iter().filter(move |m| &*m.organisation == organisation)
    }

    /// The model of this name within an organisation.
    pub fn model(&self, organisation: &str, name: &str) -> Option<&Arc<ModelEntry>> {
        self.models(organisation).find(|m| &*m.name == name)
    }
}
