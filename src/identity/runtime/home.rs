//! The part of a configuration from which the caller of a key made at run time is built.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::hasher::is_digit;
use crate::budget::Account;
use crate::identity::{Caller, KeyKind, Organisation, Team, Terms, User};
use crate::limit::{Policy, Scope, ScopePlan};

/// All organisations by id.
pub type Homes = HashMap<Arc<str>, Home>;

/// One organisation, with everything that its keys refer to.
#[derive(Debug, Clone)]
pub struct Home {
    /// The tenant.
    pub organisation: Arc<Organisation>,
    /// Its teams by id.
    pub teams: HashMap<Arc<str>, Arc<Team>>,
    /// Its users by id.
    pub users: HashMap<Arc<str>, Arc<User>>,
    /// The names of its models.
    pub models: Arc<HashSet<String>>,
    /// Models that the configuration grants to keys, by the id of the key.
    pub granted: HashMap<String, Vec<String>>,
    /// The names of its MCP servers.
    pub mcp_servers: HashSet<String>,
    /// MCP servers that the configuration grants to keys, by the id of the key.
    pub granted_servers: BTreeMap<String, Vec<String>>,
    /// The organisation's policy.
    pub plan: Option<Arc<ScopePlan>>,
    /// The policies of its teams, by the team's id.
    pub team_plans: HashMap<Arc<str>, Arc<ScopePlan>>,
    /// All its budgets and quotas, of every owner.
    pub accounts: Vec<Arc<Account>>,
}

/// A key in the form in which the table keeps it.
pub(super) struct Kept<'a> {
    pub id: &'a Arc<str>,
    pub name: &'a Arc<str>,
    pub kind: KeyKind,
    /// The id of its team or user.
    pub owner: Option<&'a str>,
    pub policies: Option<&'a str>,
    pub models: &'a Arc<HashSet<String>>,
    pub mcp_servers: &'a Arc<HashSet<String>>,
}

impl Home {
    /// Whether a key of this sort has its owner here, which is its identifier.
    pub(super) fn has(&self, kind: KeyKind, owner: Option<&str>) -> bool {
        match (kind, owner) {
            (KeyKind::Organisation, _) => true,
            (KeyKind::Team, owner) => owner.is_some_and(|team| self.teams.contains_key(team)),
            (KeyKind::User, owner) => owner.is_some_and(|user| self.users.contains_key(user)),
        }
    }

    /// The principal that a key stands for; `None` when its team or user is gone or its policies cannot be read, and then
    /// the key is refused.
    pub(super) fn caller(&self, key: &Kept<'_>) -> Option<Caller> {
        let (mut team, mut user) = (None, None);
        match key.kind {
            KeyKind::Organisation => {}
            KeyKind::Team => team = Some(self.teams.get(key.owner?)?.clone()),
            KeyKind::User => user = Some(self.users.get(key.owner?)?.clone()),
        }
        let own = match key.policies {
            None => None,
            Some(text) => {
                let policy = serde_json::from_str::<Policy>(text)
                    .inspect_err(
                        |error| log::error!(target: "keys", key = &**key.id; "the policies of a key cannot be read, it is refused: {error}"),
                    )
                    .ok()?;
                ScopePlan::new(Scope::ApiKey, &self.organisation.id, key.id, &policy).map(Arc::new)
            }
        };
        let of_team = team.as_ref().and_then(|team| self.team_plans.get(&team.id).cloned());
        let scopes = [self.plan.clone(), of_team, own];
        let models = match self.granted.get(&**key.id) {
            _ if key.models.contains("*") => Arc::clone(&self.models),
            Some(more) => Arc::new(key.models.iter().chain(more).cloned().collect()),
            None => Arc::clone(key.models),
        };
        Some(Caller {
            key_id: Arc::clone(key.id),
            key_name: Arc::clone(key.name),
            kind: key.kind,
            organisation: Arc::clone(&self.organisation),
            terms: Arc::new(Terms::of(&self.accounts, scopes, key.id, (team.as_deref(), user.as_deref()))),
            team,
            user,
            models,
            mcp_servers: match self.granted_servers.get(&**key.id) {
                Some(more) => Arc::new(key.mcp_servers.iter().chain(more).cloned().collect()),
                None => Arc::clone(key.mcp_servers),
            },
        })
    }
}

/// Whether an id has the form of those made at run time: `key_` and 24 hex digits.
pub fn is_minted_id(id: &str) -> bool {
    id.strip_prefix("key_").is_some_and(|digits| digits.len() == 24 && digits.as_bytes().iter().all(is_digit))
}
