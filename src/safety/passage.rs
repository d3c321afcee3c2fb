//! One text as the modules see it.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use super::attack::{Detector, Hits};
use super::entity::{self, Entity, Find, Shared};
use super::fingerprint::Fingerprints;
use super::normal::Normal;
use crate::wire::{Kind, Role};

/// Whose words are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// What goes to the provider.
    Request,
    /// What comes from it.
    Response,
}

/// One text of a request or an answer, decoded from its JSON.
#[derive(Debug, Clone)]
pub struct Passage<'a> {
    /// What it says, as written.
    pub text: &'a str,
    /// Whose words.
    pub side: Side,
    /// What it is for.
    pub kind: Kind,
    /// Whose it is.
    pub role: Role,
    /// For a passage of an answer: what the request said.
    pub asked: Option<&'a Arc<Fingerprints>>,
    /// It comes again with every turn of a conversation.
    pub before: bool,
    normal: Normal<'a>,
    /// What one detector said, and which.
    weighed: OnceLock<(u64, Hits)>,
    values: OnceLock<Vec<Find>>,
    /// The same of a text that this is the beginning of.
    arriving: OnceLock<Shared>,
}

impl<'a> Passage<'a> {
    /// A passage of one side's words.
    pub fn new(text: &'a str, side: Side, kind: Kind, role: Role) -> Self {
        Self {
            text,
            side,
            kind,
            role,
            asked: None,
            before: false,
            normal: Normal::new(text),
            weighed: OnceLock::new(),
            values: OnceLock::new(),
            arriving: OnceLock::new(),
        }
    }

    /// What it really says; worked out once for all modules that ask.
    pub fn normal(&self) -> &Normal<'a> {
        &self.normal
    }

    /// How much it looks like an attack; worked out once for all modules that ask the same detector, as they do unless
    /// their weights are the operator's own.
    pub fn weighed(&self, detector: &Detector) -> Cow<'_, Hits> {
        // Whoever runs the application wrote its instructions; a tool's server writes its own.
        let system = self.role == Role::System || self.kind == Kind::Instruction && self.role != Role::Tool;
        let weigh = || detector.weigh(&self.normal, system);
        match self.weighed.get_or_init(|| (detector.id(), weigh())) {
            (id, hits) if *id == detector.id() => Cow::Borrowed(hits),
            _ => Cow::Owned(weigh()),
        }
    }

    /// Personal data and secrets of every built-in kind; worked out once for all modules that ask.
    pub fn values(&self) -> &[Find] {
        self.values.get_or_init(|| entity::Detector::new(Entity::ALL, Vec::new()).scan(self.text))
    }

    /// Who finds those values in a text that arrives and begins with this passage, for all modules that ask. `detector` looks
    /// for every built-in kind and nothing else.
    pub fn arriving(&self, detector: &Arc<entity::Detector>) -> Shared {
        self.arriving.get_or_init(|| Shared::new(detector)).clone()
    }

    /// The same passage, known to come again with every turn or not: what was said before adds nothing to a session anew.
    #[must_use]
    pub fn said_before(self, before: bool) -> Self {
        Self { before, ..self }
    }

    /// The same passage of an answer to this request.
    #[must_use]
    pub fn answering(mut self, asked: &'a Arc<Fingerprints>) -> Self {
        self.asked = Some(asked);
        self
    }
}
