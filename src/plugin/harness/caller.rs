//! The caller of a case, and the directory that plugins with storage grants see.

use std::sync::Arc;

use super::CallerCase;
use crate::identity::{Caller, Directory, KeyEntry, KeyKind, ModelEntry, Organisation, Team, User};

impl CallerCase {
    pub(super) fn build(&self) -> Option<Arc<Caller>> {
        if self.anonymous {
            return None;
        }
        let organisation: Arc<str> = self.organisation.as_deref().unwrap_or("acme").into();
        let key: Arc<str> = self.key.as_deref().unwrap_or("key-1").into();
        let named = |name: &String| -> Arc<str> { name.as_str().into() };
        let team = self.team.as_ref().map(named).map(|name| Team {
            id: name.clone(),
            name,
            organisation: organisation.clone(),
            metadata: self.team_metadata.clone(),
        });
        let user = self.user.as_ref().map(named).map(|name| User {
            id: name.clone(),
            name,
            organisation: organisation.clone(),
            metadata: self.user_metadata.clone(),
        });
        let kind = match (&team, &user) {
            (Some(_), _) => KeyKind::Team,
            (None, Some(_)) => KeyKind::User,
            (None, None) => KeyKind::Organisation,
        };
        Some(Arc::new(Caller {
            key_id: key.clone(),
            key_name: key,
            kind,
            organisation: Arc::new(Organisation { id: organisation.clone(), name: organisation, metadata: self.metadata.clone() }),
            team: team.map(Arc::new),
            user: user.map(Arc::new),
            models: Arc::new(self.models.iter().cloned().collect()),
            mcp_servers: Default::default(),
            terms: Arc::default(),
        }))
    }

    pub(super) fn directory(&self, caller: &Option<Arc<Caller>>) -> Directory {
        let Some(caller) = caller else { return Directory::default() };
        let model = |name: &String| {
            Arc::new(ModelEntry {
                name: name.as_str().into(),
                slug: name.as_str().into(),
                provider: "provider".into(),
                organisation: caller.organisation.id.clone(),
            })
        };
        Directory::new(
            vec![caller.organisation.clone()],
            caller.team.iter().cloned().collect(),
            caller.user.iter().cloned().collect(),
            vec![KeyEntry { caller: caller.clone(), revoked: false }],
            self.models.iter().map(model).collect(),
        )
    }
}
