//! Which events are sent, and which of them in order.

use crate::plugin::prelude::*;

/// The kinds of events that are sent.
pub(super) struct Kinds(Vec<&'static str>);

impl Kinds {
    /// The kinds that patterns match; all kinds without patterns. A pattern that matches none is an error.
    pub fn of(patterns: &[Glob]) -> Result<Self, BuildError> {
        let all = EVENTS.map(|(kind, _)| kind);
        if let Some(place) = patterns.iter().position(|pattern| !all.iter().any(|kind| pattern.matches(kind))) {
            return Err(BuildError::at(format!("events.{place}"), format!("names no event; there are {}", all.join(", "))));
        }
        let wanted = |kind: &&str| patterns.is_empty() || patterns.iter().any(|pattern| pattern.matches(kind));
        Ok(Self(all.into_iter().filter(wanted).collect()))
    }

    /// Whether events of a kind are sent.
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
    /// The ordering key of an event: events with the same key are sent in order.
    pub fn key(self, event: &Event) -> Option<String> {
        match self {
            Self::None => None,
            Self::Organisation => event.organisation.clone(),
            Self::ApiKey => event.key.clone(),
            Self::User => event.user.clone(),
        }
    }
}
