//! The JSON Schema of the file, including plugin configurations, and the search for unknown keys with it.

use std::collections::BTreeSet;

use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::diagnostic::{Diagnostic, Severity, suggestion};
use super::sections::Root;
use super::yaml::Source;
use crate::plugin::Roster;

/// The schema (draft 7) for editors; it includes the `config` of every known plugin.
pub fn schema(roster: &Roster) -> Value {
    let mut schema = sections();
    let mut rules = Vec::new();
    let mut manifests: Vec<_> = roster.iter().collect();
    manifests.sort_by_key(|m| m.name);
    for manifest in manifests {
        let name = format!("plugin:{}", manifest.name);
        let config = hoisted((manifest.config_schema)(), &name, &mut schema);
        schema["definitions"][&name] = config;
        rules.push(json!({
            "if": { "anyOf": [
                { "required": ["use"], "properties": { "use": { "const": manifest.name } } },
                { "not": { "required": ["use"] }, "required": ["name"], "properties": { "name": { "const": manifest.name } } }
            ] },
            "then": { "properties": { "config": { "$ref": format!("#/definitions/{name}") } } }
        }));
    }
    if !rules.is_empty() {
        schema["definitions"]["PluginEntry"]["allOf"] = Value::Array(rules);
    }
    schema
}

/// The schema of the sections, without plugin configurations.
fn sections() -> Value {
    SchemaSettings::draft07().into_generator().into_root_schema_for::<Root>().to_value()
}

/// Moves the definitions of a plugin's schema to the file's own, under names that cannot clash.
fn hoisted(mut config: Value, name: &str, schema: &mut Value) -> Value {
    if let Value::Object(map) = &mut config {
        map.remove("$schema");
        for section in ["definitions", "$defs"] {
            if let Some(Value::Object(inner)) = map.remove(section) {
                for (key, mut value) in inner {
                    redirect(&mut value, name);
                    schema["definitions"][format!("{name}.{key}")] = value;
                }
            }
        }
    }
    redirect(&mut config, name);
    config
}

fn redirect(value: &mut Value, name: &str) {
    match value {
        Value::Object(map) => {
            for (key, member) in map.iter_mut() {
                match member {
                    Value::String(target) if key == "$ref" => {
                        let bare = target.rsplit('/').next().unwrap_or_default();
                        *target = format!("#/definitions/{name}.{bare}");
                    }
                    _ => redirect(member, name),
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(|member| redirect(member, name)),
        _ => {}
    }
}

/// Every key that the schema does not know. Typing alone would stop at the first.
pub(super) fn unknown_keys(source: &Source, text: &str) -> Vec<Diagnostic> {
    unknown_keys_of(source, text, &sections())
}

/// Every key that another schema does not know.
pub(super) fn unknown_keys_of(source: &Source, text: &str, schema: &Value) -> Vec<Diagnostic> {
    let Ok(value) = source.parse::<Value>(text) else { return Vec::new() };
    let mut found: Vec<Diagnostic> = unknown_in(schema, &value)
        .into_iter()
        .map(|unknown| {
            let at = source.key_position(&unknown.path);
            Diagnostic {
                severity: Severity::Error,
                file: source.file().to_owned(),
                line: at.line,
                column: at.column,
                path: unknown.path,
                message: format!("unknown key `{}`", unknown.key),
                help: unknown.help,
            }
        })
        .collect();
    found.sort_by_key(|d| (d.line, d.column));
    found
}

/// A key that the schema does not know.
pub(super) struct Unknown {
    /// Path from the root of the value.
    pub path: String,
    pub key: String,
    pub help: Option<String>,
}

/// Every key of a value that a schema does not know.
pub(super) fn unknown_in(schema: &Value, value: &Value) -> Vec<Unknown> {
    let mut search = Search { root: schema, found: Vec::new() };
    search.visit(schema, value, String::new(), 0);
    search.found
}

struct Search<'s> {
    root: &'s Value,
    found: Vec<Unknown>,
}

impl<'s> Search<'s> {
    fn visit(&mut self, schema: &'s Value, value: &Value, path: String, depth: usize) {
        if depth > 64 {
            return;
        }
        match value {
            Value::Object(members) => self.object(schema, members, &path, depth),
            Value::Array(list) => {
                let shapes = self.shapes(schema, 0);
                if let Some(items) = shapes.iter().find_map(|s| s.get("items")) {
                    for (index, item) in list.iter().enumerate() {
                        self.visit(items, item, format!("{path}[{index}]"), depth + 1);
                    }
                }
            }
            _ => {}
        }
    }

    fn object(&mut self, schema: &'s Value, members: &Map<String, Value>, path: &str, depth: usize) {
        let shapes: Vec<&Value> = self
            .shapes(schema, 0)
            .into_iter()
            .filter(|s| s.get("properties").is_some() || s.get("additionalProperties").is_some())
            .collect();
        let known: BTreeSet<&str> =
            shapes.iter().filter_map(|s| s.get("properties")?.as_object()).flat_map(Map::keys).map(String::as_str).collect();
        let closed = !shapes.is_empty() && shapes.iter().all(|s| s.get("additionalProperties") == Some(&Value::Bool(false)));
        for (key, member) in members {
            let at = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            let own = shapes.iter().find_map(|s| s.get("properties")?.get(key));
            let other = shapes.iter().find_map(|s| s.get("additionalProperties").filter(|a| a.is_object()));
            match own.or(other) {
                Some(inner) => self.visit(inner, member, at, depth + 1),
                None if closed => {
                    let help = suggestion(key, known.iter().copied());
                    self.found.push(Unknown { path: at, key: key.clone(), help });
                }
                None => {}
            }
        }
    }

    /// The schemas that may apply to a value: references are followed, alternatives listed.
    fn shapes(&self, schema: &'s Value, depth: usize) -> Vec<&'s Value> {
        if depth > 16 {
            return Vec::new();
        }
        let mut shapes = vec![schema];
        if let Some(Value::String(target)) = schema.get("$ref")
            && let Some(found) = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
        {
            shapes.extend(self.shapes(found, depth + 1));
        }
        for way in ["anyOf", "oneOf", "allOf"] {
            for option in schema.get(way).and_then(Value::as_array).into_iter().flatten() {
                shapes.extend(self.shapes(option, depth + 1));
            }
        }
        shapes
    }
}
