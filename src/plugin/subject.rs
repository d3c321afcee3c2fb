//! The caller as external systems see it: names and ids, no secrets and nothing of the traffic.

use serde::Serialize;

use crate::identity::Caller;

/// The caller, for a document that leaves the gateway.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Subject<'a> {
    /// The virtual key, without its secret.
    pub key: Named<'a>,
    /// On whose behalf the key acts.
    pub kind: &'static str,
    /// The tenant.
    pub organisation: Named<'a>,
    /// The team, for keys of a team.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub team: Option<Named<'a>>,
    /// The user, for keys of a user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<Named<'a>>,
}

/// Something with an id and a name.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Named<'a> {
    /// The stable id.
    pub id: &'a str,
    /// The name, for people.
    pub name: &'a str,
}

impl<'a> Subject<'a> {
    /// The parts of a caller that may be told to external systems.
    pub fn of(caller: &'a Caller) -> Self {
        Self {
            key: Named { id: &caller.key_id, name: &caller.key_name },
            kind: caller.kind.as_str(),
            organisation: Named { id: &caller.organisation.id, name: &caller.organisation.name },
            team: caller.team.as_ref().map(|team| Named { id: &team.id, name: &team.name }),
            user: caller.user.as_ref().map(|user| Named { id: &user.id, name: &user.name }),
        }
    }
}
