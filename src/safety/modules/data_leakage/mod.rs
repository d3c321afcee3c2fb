//! Data leakage: answers that disclose system prompts, the operator's canaries, secrets in system text, or the request
//! itself.

mod canary;
mod escape;
mod island;
mod reader;
mod scan;
mod trail;
mod values;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Blueprint;
use crate::safety::entity::{Detector, Entity};
use crate::safety::fingerprint::table::Table;
use crate::safety::fingerprint::{Memory, reading, skeleton};
use crate::safety::{Findings, ModuleError, OnError, Order, Passage, Phase, SafetyModule, Scanner, Side};
use crate::wire::{Kind, Role};
use canary::{Canaries, Canary};
use scan::LeakScanner;
use values::Told;

/// The name in configuration, findings, metrics and evidence.
pub const NAME: &str = "data_leakage";

/// Its description for the engine.
pub static BLUEPRINT: Blueprint = Blueprint {
    name: NAME,
    question: "Does the answer repeat system text, a canary or what it was asked?",
    weight: 1.0,
    on_error: OnError::Allow,
    pure: false,
    build: |config| {
        let settings: Settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
        Ok(Arc::new(DataLeakage::new(&settings).map_err(|error| error.to_string())?))
    },
};

/// What the operator can say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Strings that stand in no text but secret ones: whoever sees one in an answer knows that something leaked. At least
    /// four letters or digits each.
    pub canaries: Vec<String>,
    /// Sentences of system prompts that answers may repeat: a greeting, a disclaimer, a refusal.
    pub public: Vec<String>,
    /// Whether personal data and secrets count that an answer holds and its request does not.
    pub sensitive_output: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { canaries: Vec::new(), public: Vec::new(), sensitive_output: true }
    }
}

/// The module.
#[derive(Debug)]
pub struct DataLeakage {
    rules: Arc<Rules>,
}

/// What stays the same from one answer to the next.
#[derive(Debug)]
struct Rules {
    canaries: Canaries,
    public: Table,
    /// The detector of personal data and secrets, if these count.
    values: Option<Arc<Detector>>,
    /// What was computed from system texts before.
    memory: Memory,
}

impl DataLeakage {
    /// The module with these settings.
    ///
    /// # Errors
    /// A canary is too short or too long to look for; the error names it by its position, without quoting it.
    pub fn new(settings: &Settings) -> Result<Self, ModuleError> {
        skeleton::prepare();
        let mut canaries = Vec::new();
        for (n, text) in settings.canaries.iter().enumerate() {
            let all = Canary::all(text);
            canaries.extend(all.ok_or_else(|| ModuleError(format!("canaries[{n}] must have 4 to 256 letters or digits")))?);
        }
        let mut public = Table::for_up_to(settings.public.iter().map(|text| text.len() / 4).sum());
        for text in &settings.public {
            let mut window = reading::Window::default();
            reading::words(text, |word, _, _| {
                if let Some(shingle) = window.push(word) {
                    public.insert(shingle);
                }
            });
        }
        let values = settings.sensitive_output.then(|| Arc::new(Detector::new(Entity::ALL, Vec::new())));
        Ok(Self { rules: Arc::new(Rules { canaries: Canaries::new(canaries), public, values, memory: Memory::default() }) })
    }
}

impl SafetyModule for DataLeakage {
    fn name(&self) -> &'static str {
        NAME
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::PostUpstream]
    }

    fn order(&self) -> Order {
        Order::Parallel
    }

    fn reads(&self, passage: &Passage<'_>) -> bool {
        // System text and tools that an answer tells of are no words of the model: a provider repeats what it was asked with.
        // What a tool's server says of itself is its own.
        let repeated = passage.role == Role::System || passage.kind == Kind::ToolDefinition && passage.role != Role::Tool;
        passage.side == Side::Response && passage.kind != Kind::Structural && !repeated
    }

    fn scan(&self, passage: &Passage<'_>, out: &mut Findings) -> Result<(), ModuleError> {
        let mut scanner = LeakScanner::of_a_whole(&self.rules, passage.asked);
        scanner.feed(passage.text, out);
        scanner.finish(out);
        if self.rules.values.is_some() {
            let mut told = Told::default();
            for find in passage.values() {
                let value = passage.text.get(find.span.clone()).unwrap_or_default();
                out.extend(told.judge(find.clone(), value, passage.asked.map(AsRef::as_ref)));
            }
        }
        Ok(())
    }

    fn compares(&self) -> bool {
        true
    }

    fn scanner(&self, first: &Passage<'_>) -> Option<Box<dyn Scanner>> {
        Some(Box::new(LeakScanner::new(&self.rules, first)))
    }
}
