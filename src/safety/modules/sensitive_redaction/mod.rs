//! Sensitive redaction: personal data and secrets are replaced by markers, on the way to the provider and back.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Blueprint;
use crate::safety::entity::{Detector, Entity, Find, Kind as Sort, Own, Pattern, Shared, Stream};
use crate::safety::{Category, Finding, Findings, ModuleError, OnError, Order, Passage, Phase, SafetyModule, Scanner, Settled};
use crate::wire::Kind;

/// The name in configuration, findings, metrics and evidence.
pub const NAME: &str = "sensitive_redaction";

/// Most custom patterns: each one is run over every text.
const MOST_PATTERNS: usize = 100;

/// Its description for the engine.
pub static BLUEPRINT: Blueprint = Blueprint {
    name: NAME,
    question: "Is there personal data or a secret in the text?",
    weight: 0.0,
    on_error: OnError::Deny,
    pure: true,
    build: |config| {
        let settings: Settings = Settings::deserialize(config).map_err(|error| error.to_string())?;
        Ok(Arc::new(SensitiveRedaction::new(&settings).map_err(|error| error.to_string())?))
    },
};

/// What the operator can say about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// The built-in kinds to look for; all of them unless given.
    pub entities: Vec<Entity>,
    /// Kinds that are left alone, of those in `entities`.
    pub except: Vec<Entity>,
    /// Kinds of your own.
    pub patterns: Vec<Pattern>,
    /// Whether names, descriptions and schemas of tools are read as well.
    pub tool_definitions: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { entities: Entity::ALL.to_vec(), except: Vec::new(), patterns: Vec::new(), tool_definitions: false }
    }
}

/// The module.
#[derive(Debug)]
pub struct SensitiveRedaction {
    rules: Arc<Rules>,
    tool_definitions: bool,
}

/// What stays the same from one text to the next.
#[derive(Debug)]
struct Rules {
    detector: Arc<Detector>,
    /// Categories of the custom patterns, by index.
    own: Vec<Category>,
}

impl SensitiveRedaction {
    /// The module with these settings.
    ///
    /// # Errors
    /// A pattern is wrong; the error names it and the reason.
    pub fn new(settings: &Settings) -> Result<Self, ModuleError> {
        if settings.patterns.len() > MOST_PATTERNS {
            return Err(ModuleError(format!("patterns: at most {MOST_PATTERNS}; one pattern can have alternatives")));
        }
        let mut own = Vec::with_capacity(settings.patterns.len());
        for (place, pattern) in settings.patterns.iter().enumerate() {
            let taken = Entity::ALL.iter().any(|entity| entity.as_str() == pattern.name)
                || settings.patterns.iter().take(place).any(|other| other.name == pattern.name);
            if taken {
                return Err(ModuleError(format!("patterns[{place}].name: this name is taken")));
            }
            own.push(Own::new(pattern).map_err(|(member, error)| ModuleError(format!("patterns[{place}].{member}: {error}")))?);
        }
        let categories = own.iter().map(|own| Cow::Owned(own.name().to_owned())).collect();
        let chosen = settings.entities.iter().copied().filter(|entity| !settings.except.contains(entity));
        if own.is_empty() && chosen.clone().next().is_none() {
            let which = if settings.entities.is_empty() { "entities" } else { "except" };
            return Err(ModuleError(format!("{which}: nothing is left to look for; leave it out, or switch the module off")));
        }
        let rules = Rules { detector: Arc::new(Detector::new(chosen, own)), own: categories };
        Ok(Self { rules: Arc::new(rules), tool_definitions: settings.tool_definitions })
    }
}

impl Rules {
    fn finding(&self, find: Find) -> Finding {
        let category = match find.kind {
            Sort::BuiltIn(entity) => Cow::Borrowed(entity.as_str()),
            Sort::Own(place) => self.own.get(place).cloned().unwrap_or(Cow::Borrowed("own")),
        };
        Finding { module: NAME, category, span: find.span, score: 0.0, redact: true }
    }
}

impl SafetyModule for SensitiveRedaction {
    fn name(&self) -> &'static str {
        NAME
    }

    fn phases(&self) -> &'static [Phase] {
        &[Phase::PreUpstream, Phase::PostUpstream]
    }

    fn order(&self) -> Order {
        Order::Sequential
    }

    fn reads(&self, passage: &Passage<'_>) -> bool {
        match passage.kind {
            Kind::Structural => false,
            Kind::ToolDefinition => self.tool_definitions,
            _ => true,
        }
    }

    fn scan(&self, passage: &Passage<'_>, out: &mut Findings) -> Result<(), ModuleError> {
        let rules = &self.rules;
        if rules.detector.plain() {
            out.extend(passage.values().iter().map(|find| rules.finding(find.clone())));
        } else {
            out.extend(rules.detector.scan(passage.text).into_iter().map(|find| rules.finding(find)));
        }
        Ok(())
    }

    fn scanner(&self, first: &Passage<'_>) -> Option<Box<dyn Scanner>> {
        let (rules, detector) = (Arc::clone(&self.rules), &self.rules.detector);
        Some(match detector.plain() {
            true => Box::new(SharedReader { shared: first.arriving(detector), at: 0, rules }),
            false => Box::new(Reader { stream: Stream::new(Arc::clone(detector)), rules }),
        })
    }
}

/// Scans one text of a streamed answer, sharing the detector pass with other modules.
struct SharedReader {
    shared: Shared,
    at: usize,
    rules: Arc<Rules>,
}

impl Scanner for SharedReader {
    fn feed(&mut self, fragment: &str, out: &mut Findings) -> Settled {
        let Self { shared, at, rules } = self;
        let settled = shared.feed(*at, fragment, |find| out.push(rules.finding(find)));
        *at += fragment.len();
        settled
    }

    fn finish(&mut self, out: &mut Findings) {
        self.shared.finish(|find| out.push(self.rules.finding(find)));
    }
}

/// Scans one text of a streamed answer.
struct Reader {
    stream: Stream,
    rules: Arc<Rules>,
}

impl Scanner for Reader {
    fn feed(&mut self, fragment: &str, out: &mut Findings) -> Settled {
        self.stream.feed(fragment, |find| out.push(self.rules.finding(find)))
    }

    fn finish(&mut self, out: &mut Findings) {
        self.stream.finish(|find| out.push(self.rules.finding(find)));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::safety::{Side, redact};
    use crate::wire::Role;
    use serde_json::json;

    fn passage(text: &str, kind: Kind) -> Passage<'_> {
        Passage::new(text, Side::Request, kind, Role::User)
    }

    fn redacted(config: &serde_json::Value, text: &str) -> String {
        let module = (BLUEPRINT.build)(config).unwrap();
        let mut found = Findings::new();
        module.scan(&passage(text, Kind::Content), &mut found).unwrap();
        assert!(found.iter().all(|finding| finding.redact && finding.score == 0.0));
        redact::redacted(text, &redact::merged(found.into_iter().map(|finding| (finding.span, finding.category)).collect()))
    }

    #[test]
    fn values_become_markers() {
        let text = "mail ada@example.com, card 4111 1111 1111 1111, pw: Kestrel7Fog!";
        assert_eq!(redacted(&json!({}), text), "mail [REDACTED:email], card [REDACTED:credit_card], pw: [REDACTED:password]");
        assert_eq!(redacted(&json!({"entities": ["email"]}), text), "mail [REDACTED:email], card 4111 1111 1111 1111, pw: Kestrel7Fog!");
        assert_eq!(
            redacted(&json!({"except": ["email", "password"]}), text),
            "mail ada@example.com, card [REDACTED:credit_card], pw: Kestrel7Fog!"
        );
    }

    #[test]
    fn markers_are_left_alone() {
        let text = "mail ada@example.com, password: Kestrel7Fog!, api_key = 8Jq2mXv9Lk4TnW7zRb3c, +49 30 1234567";
        let once = redacted(&json!({}), text);
        assert_eq!(once.matches("[REDACTED:").count(), 4);
        assert_eq!(redacted(&json!({}), &once), once);
    }

    #[test]
    fn own_patterns_have_their_names() {
        let config = json!({"patterns": [{"name": "case_number", "regex": r"\bCASE-\d{4,}\b", "max_length": 16}]});
        assert_eq!(redacted(&config, "see CASE-20241."), "see [REDACTED:case_number].");
    }

    #[test]
    fn wrong_settings_say_what_is_wrong() {
        let error = |config: serde_json::Value| (BLUEPRINT.build)(&config).err().unwrap();
        assert!(error(json!({"patterns": [{"name": "x", "regex": "("}]})).starts_with("patterns[0].regex: "));
        assert!(error(json!({"patterns": [{"name": "email", "regex": "a"}]})).starts_with("patterns[0].name: "));
        assert_eq!(
            error(json!({"patterns": [{"name": "x", "regex": "a"}, {"name": "y", "regex": "a("}]})),
            "patterns[1].regex: unclosed group"
        );
        let many: Vec<_> = (0..=MOST_PATTERNS).map(|n| json!({"name": format!("n{n}"), "regex": "a"})).collect();
        assert!(error(json!({"patterns": many})).starts_with("patterns: at most 100"));
        assert!(error(json!({"entities": []})).starts_with("entities: nothing is left"));
        assert!(error(json!({"entities": ["email"], "except": ["email"]})).starts_with("except: nothing is left"));
        let own = json!({"entities": [], "patterns": [{"name": "x", "regex": "xyz"}]});
        assert_eq!(redacted(&own, "xyz to ada@example.com"), "[REDACTED:x] to ada@example.com", "patterns of one's own are enough");
        assert!(error(json!({"entities": ["mail"]})).contains("unknown variant"));
        assert!(error(json!({"entity": []})).contains("unknown field"));
    }

    #[test]
    fn vocabulary_is_not_read() {
        let module = SensitiveRedaction::new(&Settings::default()).unwrap();
        for kind in Kind::ALL {
            assert_eq!(module.reads(&passage("", *kind)), !matches!(kind, Kind::Structural | Kind::ToolDefinition));
        }
    }
}
