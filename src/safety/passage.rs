//! One text as modules see it.

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
    /// The text as written.
    pub text: &'a str,
    /// The side it comes from.
    pub side: Side,
    /// What the text is for.
    pub kind: Kind,
    /// The role of its author.
    pub role: Role,
    /// For a passage of an answer: the fingerprints of the request.
    pub asked: Option<&'a Arc<Fingerprints>>,
    /// Whether it was said before: it is sent again with every turn of a conversation.
    pub before: bool,
    normal: Normal<'a>,
    /// The result of one detector, with that detector's id.
    weighed: OnceLock<(u64, Hits)>,
    values: OnceLock<Vec<Find>>,
    /// The shared detector pass for a text that this passage begins.
    arriving: OnceLock<Shared>,
}

impl<'a> Passage<'a> {
    /// A passage of the given side.
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

    /// Its normal forms; computed once for all modules.
    pub fn normal(&self) -> &Normal<'a> {
        &self.normal
    }

    /// How much it looks like an attack; computed once for all modules with the same detector, which they share unless
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

    /// The personal data and secrets of every built-in kind in it; computed once for all modules.
    pub fn values(&self) -> &[Find] {
        self.values.get_or_init(|| entity::Detector::new(Entity::ALL, Vec::new()).scan(self.text))
    }

    /// A detector pass for these values in an arriving text that begins with this passage, shared by all modules.
    /// `detector` must look for every built-in kind and nothing else.
    pub fn arriving(&self, detector: &Arc<entity::Detector>) -> Shared {
        self.arriving.get_or_init(|| Shared::new(detector)).clone()
    }

    /// Marks whether the passage was said before: such text adds nothing more to a session.
    #[must_use]
    pub fn said_before(self, before: bool) -> Self {
        Self { before, ..self }
    }

    /// Marks the passage as part of the answer to this request.
    #[must_use]
    pub fn answering(mut self, asked: &'a Arc<Fingerprints>) -> Self {
        self.asked = Some(asked);
        self
    }
}
