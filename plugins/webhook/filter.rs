//! Which events, and what keeps them in order.

use crate::plugin::prelude::*;

/// The kinds of events that are sent.
pub(super) struct Kinds(Vec<&'static str>);

impl Kinds {
    /// The kinds that patterns name; all without any. A pattern that names none is a mistake.
    pub fn of(patterns: &[Glob]) -> Result<Self, BuildError> {
        let all = EVENTS.map(|(kind, _)| kind);
        if let Some(place) = patterns.iter().position(|pattern| !all.iter().any(|kind| pattern.matches(kind))) {
            return Err(BuildError::at(format!("events.{place}"), format!("names no event; there are {}", all.join(", "))));
        }
        let wanted = |kind: &&str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(kind));
        Ok(Self(all.into_iter().filter(wanted).collect()))
    }

    /// Whether a kind is sent.
    pub fn contain(&self, kind: &str) -> bool {
        self.0.contains(&kind)
    }
}

/// What events have in common that are sent in order.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum OrderBy {
    /// In no order, which is fastest.
    #[default]
    None,
    /// The organisation.
    Organisation,
    /// The virtual key.
    ApiKey,
    /// The user.
    User,
}

impl OrderBy {
    /// What an event has to have in common with others.
    pub fn key(self, event: &Event) -> Option<String> {
        match self {
            Self::None => None,
            Self::Organisation => event.organisation.clone(),
            Self::ApiKey => event.key.clone(),
            Self::User => event.user.clone(),
        }
    }
}
