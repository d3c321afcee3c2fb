//! Bounds the work that a schema can cause. The operator's schemas are trusted; one in a request may be written to keep a
//! thread busy for ever, and validation cannot be interrupted. So only schemas with bounded work are used: all references
//! are internal and none is recursive, and the schema with all references expanded is small.

use std::collections::HashMap;

use crate::plugin::prelude::*;

/// Most nodes of a schema with every reference expanded.
const MOST_NODES: u64 = 10_000;
/// Most nested levels of a schema, including references.
const DEEPEST: usize = 64;

/// Most bytes of a schema.
const LONGEST: usize = 64 << 10;
/// Most patterns in a schema, since each is compiled.
const MOST_PATTERNS: usize = 50;

/// Whether a schema may be used, or the reason why not; `text` is its serialised form.
pub fn check(schema: &Value, text: &str) -> Result<(), &'static str> {
    if text.len() > LONGEST || text.matches("\"pattern").count() > MOST_PATTERNS {
        return Err("too_large");
    }
    let mut walk = Walk { root: schema, known: HashMap::new() };
    let nodes = walk.nodes(schema, 0)?;
    if nodes > MOST_NODES { Err("too_large") } else { Ok(()) }
}

struct Walk<'s> {
    root: &'s Value,
    /// Size of the target of each reference; `None` while it is being computed, which detects recursion.
    known: HashMap<&'s str, Option<u64>>,
}

impl<'s> Walk<'s> {
    fn nodes(&mut self, value: &'s Value, depth: usize) -> Result<u64, &'static str> {
        if depth > DEEPEST {
            return Err("too_large");
        }
        let mut sum = 1u64;
        match value {
            Value::Array(items) => {
                for item in items {
                    sum = sum.saturating_add(self.nodes(item, depth + 1)?);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let size = match (name.as_str(), member) {
                        ("$ref", Value::String(target)) => self.target(target, depth)?,
                        // Another base URI, or a reference that depends on the path to it.
                        ("$id" | "id" | "$dynamicRef" | "$recursiveRef", Value::String(_)) => return Err("foreign"),
                        ("patternProperties", Value::Object(patterns)) if patterns.len() > MOST_PATTERNS => return Err("too_large"),
                        // Definitions count where they are referenced.
                        ("$defs" | "definitions", Value::Object(_)) if depth == 0 => 1,
                        _ => self.nodes(member, depth + 1)?,
                    };
                    sum = sum.saturating_add(size);
                }
            }
            _ => {}
        }
        if sum > MOST_NODES { Err("too_large") } else { Ok(sum) }
    }

    fn target(&mut self, target: &'s str, depth: usize) -> Result<u64, &'static str> {
        match self.known.get(target) {
            Some(Some(size)) => return Ok(*size),
            Some(None) => return Err("recursive"),
            None => {}
        }
        let pointer = target.strip_prefix('#').ok_or("foreign")?;
        if pointer.contains('%') || !(pointer.is_empty() || pointer.starts_with('/')) {
            return Err("foreign");
        }
        let place = self.root.pointer(pointer).ok_or("malformed")?;
        self.known.insert(target, None);
        let size = self.nodes(place, depth + 1)?;
        self.known.insert(target, Some(size));
        Ok(size)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_could_run_for_ever_is_not_asked() {
        let mut doubling = serde_json::Map::new();
        doubling.insert("d0".into(), json!({"type": "string"}));
        for n in 1..40 {
            let before = json!({"$ref": format!("#/$defs/d{}", n - 1)});
            doubling.insert(format!("d{n}"), json!({"allOf": [before, before]}));
        }
        let mut deep = json!({"type": "string"});
        for _ in 0..70 {
            deep = json!({"items": deep});
        }
        for (schema, why) in [
            (json!({"allOf": [{"$ref": "#"}]}), "recursive"),
            (json!({"$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/a"}}}}, "$ref": "#/$defs/a"}), "recursive"),
            (json!({"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "items": {"$ref": "#/$defs/a"}}), "recursive"),
            (json!({"$defs": doubling, "$ref": "#/$defs/d39"}), "too_large"),
            (json!({"enum": vec![1; 10_001]}), "too_large"),
            (deep, "too_large"),
            (json!({"$ref": "https://example.com/schema.json"}), "foreign"),
            (json!({"$ref": "file:///etc/passwd"}), "foreign"),
            (json!({"$ref": "#anchor"}), "foreign"),
            (json!({"$id": "https://example.com/", "type": "object"}), "foreign"),
            (json!({"$dynamicRef": "#node"}), "foreign"),
            (json!({"$ref": "#/nowhere"}), "malformed"),
            (json!({"description": "x".repeat(LONGEST)}), "too_large"),
            (json!({"items": vec![json!({"pattern": "a"}); 51]}), "too_large"),
        ] {
            assert_eq!(check(&schema, &schema.to_string()), Err(why), "{schema}");
        }
    }

    #[test]
    fn what_people_write_is_asked() {
        for schema in [
            json!({"type": "object", "properties": {"id": {"type": "string"}, "total": {"type": "number"}}, "required": ["id"]}),
            json!({"$defs": {"step": {"type": "string"}}, "type": "array", "items": {"anyOf": [{"$ref": "#/$defs/step"}, {"$ref": "#/$defs/step"}]}}),
            json!(true),
        ] {
            assert_eq!(check(&schema, &schema.to_string()), Ok(()), "{schema}");
        }
    }
}
