//! The configuration under `config:`, and its compiled form.

use std::num::NonZeroUsize;
use std::time::Instant;

use super::bounded;
use crate::plugin::prelude::*;

/// Configuration of `schema_guard`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The operator's schemas: an answer must follow every one that is for it.
    schemas: Vec<Entry>,
    /// Whether answers must follow the schema that their request asks for.
    from_request: bool,
    /// What is mended instead of refused.
    repair: Repair,
    /// The status of refusals: 502, because the provider gave an unusable answer, or 422, which clients do not try again.
    status: Option<u16>,
}

/// A schema of the operator.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// For evidence.
    name: String,
    /// For which models; all without.
    #[serde(default)]
    models: Vec<Glob>,
    /// For which routes; all without.
    #[serde(default)]
    routes: Vec<Glob>,
    /// JSON Schema: drafts 4 to 2020-12 by `$schema`, 2020-12 without. References lead inside of it alone.
    schema: Value,
}

/// What is mended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Repair {
    /// Nothing.
    #[default]
    None,
    /// JSON in one Markdown code fence is taken out of it.
    Fences,
}

/// Number of requests' schemas that are kept compiled, and for how long.
const KEPT: usize = 1024;
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// Largest compiled pattern in the operator's schemas and in requests' schemas, in bytes.
const LARGEST_PATTERN: usize = 1 << 20;
const LARGEST_PATTERN_ASKED: usize = 64 << 10;

/// A compiled schema.
pub struct Schema {
    pub name: String,
    models: Vec<Glob>,
    routes: Vec<Glob>,
    validator: jsonschema::Validator,
}

/// The compiled schema of a request, or the reason why it is not used.
pub type Asked = Arc<Result<Arc<Schema>, &'static str>>;

/// The compiled configuration.
pub struct Rules {
    pub schemas: Vec<Arc<Schema>>,
    pub from_request: bool,
    pub repair: Repair,
    pub status: u16,
    kept: Remembered<Asked>,
    digester: Digester,
}

impl Config {
    /// Compiles the operator's schemas.
    pub fn compile(self) -> Result<Rules, BuildError> {
        if self.schemas.is_empty() && !self.from_request {
            return Err(BuildError::at("", "no schemas, and none of requests either: there is nothing to check"));
        }
        let mut schemas: Vec<Arc<Schema>> = Vec::with_capacity(self.schemas.len());
        for (place, entry) in self.schemas.into_iter().enumerate() {
            let at = format!("schemas.{place}");
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
            if entry.name.is_empty() || entry.name.len() > 64 || !entry.name.bytes().all(plain) || entry.name == "request" {
                return Err(BuildError::at(format!("{at}.name"), "a name is 1-64 characters of [A-Za-z0-9_.-], and not `request`"));
            }
            if schemas.iter().any(|known| known.name == entry.name) {
                return Err(BuildError::at(format!("{at}.name"), "this name is taken"));
            }
            let validator = validator(&entry.schema, LARGEST_PATTERN).map_err(|error| BuildError::at(format!("{at}.schema"), error))?;
            schemas.push(Arc::new(Schema { name: entry.name, models: entry.models, routes: entry.routes, validator }));
        }
        let status = self.status.unwrap_or(super::MISMATCH.status);
        if ![422, 502].contains(&status) {
            return Err(BuildError::at("status", "422 or 502"));
        }
        let kept = Remembered::new(NonZeroUsize::new(KEPT).unwrap_or(NonZeroUsize::MIN));
        Ok(Rules { schemas, from_request: self.from_request, repair: self.repair, status, kept, digester: Digester::new(None) })
    }
}

/// Compiles a schema. Patterns run in linear time, and nothing is fetched.
fn validator(schema: &Value, largest_pattern: usize) -> Result<jsonschema::Validator, String> {
    let patterns = jsonschema::PatternOptions::regex().size_limit(largest_pattern);
    jsonschema::options().with_pattern_options(patterns).build(schema).map_err(|error| error.to_string())
}

impl Rules {
    /// The schema of a request, compiled once.
    pub fn asked(&self, schema: Value, now: Instant) -> Asked {
        let text = schema.to_string();
        let key = self.digester.of(&[text.as_bytes()]);
        if let Some(kept) = self.kept.get(&key, now) {
            return kept;
        }
        let compiled = bounded::check(&schema, &text).and_then(|()| {
            let validator = validator(&schema, LARGEST_PATTERN_ASKED).map_err(|_| "malformed")?;
            Ok(Arc::new(Schema { name: "request".to_owned(), models: Vec::new(), routes: Vec::new(), validator }))
        });
        let asked = Arc::new(compiled);
        self.kept.keep(key, Arc::clone(&asked), now, KEPT_FOR);
        asked
    }
}

impl Schema {
    /// Whether the schema applies to answers of this model on this route.
    pub fn is_for(&self, model: Option<&str>, route: &str) -> bool {
        let any = |globs: &[Glob], name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
        any(&self.models, model.unwrap_or_default()) && any(&self.routes, route)
    }

    /// Checks a value. The error is the first violated keyword, which is part of the schema and reveals nothing of the
    /// answer.
    pub fn check(&self, value: &Value) -> Result<(), &'static str> {
        self.validator.validate(value).map_err(|error| keyword(error.kind().keyword()))
    }
}

/// The name as a known keyword of JSON Schema.
fn keyword(name: &str) -> &'static str {
    const KNOWN: [&str; 34] = [
        "additionalItems",
        "additionalProperties",
        "allOf",
        "anyOf",
        "const",
        "contains",
        "contentEncoding",
        "contentMediaType",
        "dependencies",
        "dependentRequired",
        "dependentSchemas",
        "else",
        "enum",
        "exclusiveMaximum",
        "exclusiveMinimum",
        "false",
        "format",
        "if",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minProperties",
        "minimum",
        "multipleOf",
        "not",
        "oneOf",
        "pattern",
        "required",
        "type",
        "uniqueItems",
    ];
    KNOWN.into_iter().find(|known| *known == name).unwrap_or("other")
}
