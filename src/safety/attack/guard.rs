//! A module of the engine: one head of the detector, and a floor of literal phrases.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::{Finding, Findings, ModuleError, Order, Passage, Phase, SafetyModule, Side};
use super::detector::{Detector, FAINTEST};
use super::floor::{FLOOR, Floor};
use crate::wire::{Kind, Role};

/// What the operator can say about either module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Phrases of one's own that leave a faint signal, as those of the product do. Case, accents and disguises do not matter.
    pub phrases: Vec<String>,
    /// A file of weights that `odock-edge safety train` wrote, instead of those of the gateway. Read with the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<String>,
}

/// Checks every text of a request for one kind of attack and, optionally, what tools return.
#[derive(Debug)]
pub struct Guard {
    name: &'static str,
    head: usize,
    detector: Arc<Detector>,
    floor: Floor,
    /// Whether it reads tool results in answers too, which are those of MCP servers.
    tools: bool,
}

impl Guard {
    /// A module that uses this head; its floor are these phrases and the operator's.
    ///
    /// # Errors
    /// When compiled-in data is malformed, or when the settings name a weights file: such files are read with the
    /// configuration, which then calls [`Self::with`].
    pub fn new(name: &'static str, head: usize, phrases: &[&str], settings: &Settings) -> Result<Self, ModuleError> {
        if settings.weights.is_some() {
            return Err(ModuleError("weights: are read where a configuration file is loaded".to_owned()));
        }
        let detector = Detector::shipped().map_err(|error| ModuleError(error.to_string()))?;
        Self::with(name, head, phrases, settings, detector)
    }

    /// [`Self::new`] with a given detector.
    ///
    /// # Errors
    /// When there are more phrases than an automaton can hold.
    pub fn with(
        name: &'static str,
        head: usize,
        phrases: &[&str],
        settings: &Settings,
        detector: Arc<Detector>,
    ) -> Result<Self, ModuleError> {
        let floor = Floor::new(phrases.iter().copied().chain(settings.phrases.iter().map(String::as_str)))
            .map_err(|error| ModuleError(error.to_string()))?;
        Ok(Self { name, head, detector, floor, tools: false })
    }

    /// Makes the module read tool results in answers, where they are the answer itself, as from an MCP server.
    #[must_use]
    pub fn reading_tools(self) -> Self {
        Self { tools: true, ..self }
    }

    fn finding(&self, category: &'static str, span: Range<usize>, score: f32) -> Finding {
        Finding { module: self.name, category: Cow::Borrowed(category), span, score, redact: false }
    }

    /// The first literal phrase in any form of the text.
    fn phrase(&self, passage: &Passage<'_>) -> Option<Range<usize>> {
        let normal = passage.normal();
        let folded = normal.folded();
        let plain = self.floor.find(folded.text()).map(|found| folded.original(found));
        plain.or_else(|| normal.views().found.iter().find(|view| self.floor.find(&view.text).is_some()).map(|view| view.source.clone()))
    }
}

impl SafetyModule for Guard {
    fn name(&self) -> &'static str {
        self.name
    }

    fn phases(&self) -> &'static [Phase] {
        if self.tools { &[Phase::PreUpstream, Phase::PostUpstream] } else { &[Phase::PreUpstream] }
    }

    fn order(&self) -> Order {
        Order::Parallel
    }

    fn reads(&self, passage: &Passage<'_>) -> bool {
        let side = passage.side == Side::Request || self.tools && passage.role == Role::Tool;
        side && passage.kind != Kind::Structural
    }

    /// Whoever asks the same detector: its heads have most of their weights in common.
    fn kin(&self) -> Option<u64> {
        Some(self.detector.id())
    }

    fn certainty(&self, passage: &Passage<'_>) -> f32 {
        passage.weighed(&self.detector)[self.head].margin
    }

    fn scan(&self, passage: &Passage<'_>, out: &mut Findings) -> Result<(), ModuleError> {
        if let Some(span) = self.phrase(passage) {
            out.push(self.finding("literal_phrase", span, FLOOR));
        }
        let hit = &passage.weighed(&self.detector)[self.head];
        if hit.score >= FAINTEST {
            out.push(self.finding(hit.family, hit.span.clone(), hit.score));
        }
        Ok(())
    }
}
