//! The requests for which an instance runs.

use serde::{Deserialize, Serialize};

use crate::gate::Facts;
use crate::wire::Endpoint;
use crate::wire::endpoint::server_in_path;

/// For whom an instance runs: every list that is not empty must have a match. Entries are names or ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scope {
    /// Organisations.
    pub organisations: Vec<String>,
    /// Teams.
    pub teams: Vec<String>,
    /// Users.
    pub users: Vec<String>,
    /// Virtual keys.
    pub api_keys: Vec<String>,
    /// Models, by the organisation's names.
    pub models: Vec<String>,
    /// MCP servers.
    pub mcp_servers: Vec<String>,
    /// Routes.
    pub routes: Vec<String>,
}

impl Scope {
    /// The scope entry that admits the request (the narrowest; `None` if nothing is listed), or an error if it is outside.
    pub(crate) fn admits(&self, facts: &Facts, model: Option<&str>) -> Result<Option<String>, OutOfScope> {
        let caller = facts.caller.as_deref();
        let organisation = caller.map(|c| (&*c.organisation.id, &*c.organisation.name));
        let team = caller.and_then(|c| c.team.as_ref()).map(|t| (&*t.id, &*t.name));
        let user = caller.and_then(|c| c.user.as_ref()).map(|u| (&*u.id, &*u.name));
        let key = caller.map(|c| (&*c.key_id, &*c.key_name));
        let server = mcp_server(facts);
        let rules = [
            ("routes", &self.routes, Some((&*facts.route, &*facts.route))),
            ("organisations", &self.organisations, organisation),
            ("models", &self.models, model.map(|m| (m, m))),
            ("mcp_servers", &self.mcp_servers, server.map(|s| (s, s))),
            ("teams", &self.teams, team),
            ("users", &self.users, user),
            ("api_keys", &self.api_keys, key),
        ];
        let mut narrowest = None;
        for (kind, allowed, here) in rules {
            if allowed.is_empty() {
                continue;
            }
            let entry = here.and_then(|(id, name)| allowed.iter().find(|entry| *entry == id || *entry == name)).ok_or(OutOfScope)?;
            narrowest = Some((kind, entry));
        }
        Ok(narrowest.map(|(kind, entry)| format!("{kind}:{entry}")))
    }

    /// Whether nothing is listed, so that the instance runs for all requests.
    pub fn is_everybody(&self) -> bool {
        *self == Self::default()
    }
}

/// The request is outside the scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfScope;

/// The MCP server that is called: its name once it is known, before that the name in the path.
fn mcp_server(facts: &Facts) -> Option<&str> {
    if facts.endpoint != Endpoint::Mcp {
        return None;
    }
    facts.slug.as_deref().or_else(|| server_in_path(&facts.path).map(|(server, _)| server))
}
