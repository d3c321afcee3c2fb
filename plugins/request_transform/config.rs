//! The configuration under `config:`, and its compiled form.

use std::collections::BTreeMap;

use crate::plugin::prelude::*;
use wire::Pointer;

/// Configuration of `request_transform`. Texts may hold placeholders such as `{caller.team.name}`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Fields of the head towards the provider.
    headers: Headers,
    /// Tags for evidence and usage.
    #[serde(alias = "metadata")]
    tags: Tags,
    /// Members of the JSON body, by JSON pointer.
    fields: Fields,
    /// Other names for models, resolved at `pre_route` and before grants are checked.
    model_alias: BTreeMap<String, String>,
}

/// Changes of the head.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Headers {
    /// Name and value.
    set: BTreeMap<String, String>,
    /// Names.
    remove: Vec<String>,
}

/// Tags.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Tags {
    /// Key and value.
    set: BTreeMap<String, String>,
}

/// Changes of the body.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Fields {
    /// JSON pointer and value: a text with placeholders, or any other JSON as it is.
    set: BTreeMap<String, Value>,
    /// JSON pointers.
    remove: Vec<String>,
}

/// A value in `fields.set`.
#[derive(Debug)]
pub enum FieldValue {
    /// Rendered for each request.
    Text(Template),
    /// Literal JSON.
    Json(String),
}

/// The compiled configuration.
#[derive(Debug)]
pub struct Rules {
    pub set_headers: Vec<(String, Template)>,
    pub remove_headers: Vec<String>,
    pub tags: Vec<(String, Template)>,
    pub set_fields: Vec<(Pointer, FieldValue)>,
    pub remove_fields: Vec<Pointer>,
    pub model_alias: BTreeMap<String, String>,
}

/// Members of a body that steer the request; the gateway has read them before this plugin runs.
const STEERING: [&str; 2] = ["model", "stream"];

impl Config {
    /// Compiles all templates; `host` says which facts may be read.
    pub fn compile(self, host: &Host) -> Result<Rules, BuildError> {
        let template = |path: String, text: &str| Template::compile(text, host).map_err(|error| BuildError::at(path, error));
        let mut set_headers = Vec::new();
        for (name, text) in &self.headers.set {
            let path = format!("headers.set.{name}");
            header_name(&path, name)?;
            let value = template(path.clone(), text)?;
            if value.literal().is_some_and(|text| HeaderValue::from_str(text).is_err()) {
                return Err(BuildError::at(path, "not a header value"));
            }
            set_headers.push((name.clone(), value));
        }
        for (place, name) in self.headers.remove.iter().enumerate() {
            header_name(&format!("headers.remove.{place}"), name)?;
        }
        let mut tags = Vec::new();
        for (key, text) in &self.tags.set {
            let path = format!("tags.set.{key}");
            let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
            if key.is_empty() || key.len() > 64 || !key.bytes().all(plain) {
                return Err(BuildError::at(path, "a tag's key is 1-64 characters of [A-Za-z0-9_.-]"));
            }
            tags.push((key.clone(), template(path, text)?));
        }
        let mut set_fields = Vec::new();
        for (text, value) in self.fields.set {
            let path = format!("fields.set.{text}");
            let value = match value {
                Value::String(text) => FieldValue::Text(template(path.clone(), &text)?),
                json => FieldValue::Json(json.to_string()),
            };
            set_fields.push((pointer(path, &text)?, value));
        }
        let mut remove_fields = Vec::new();
        for (place, text) in self.fields.remove.iter().enumerate() {
            remove_fields.push(pointer(format!("fields.remove.{place}"), text)?);
        }
        for (from, to) in &self.model_alias {
            if from.is_empty() || to.is_empty() {
                return Err(BuildError::at(format!("model_alias.{from}"), "a model has a name"));
            }
            if self.model_alias.contains_key(to) && from != to {
                return Err(BuildError::at(format!("model_alias.{from}"), format!("`{to}` is an alias itself")));
            }
        }
        let remove_headers = self.headers.remove;
        Ok(Rules { set_headers, remove_headers, tags, set_fields, remove_fields, model_alias: self.model_alias })
    }
}

fn header_name(path: &str, name: &str) -> Result<(), BuildError> {
    if HeaderName::from_bytes(name.as_bytes()).is_err() {
        return Err(BuildError::at(path, "not a header name"));
    }
    if is_the_gateways(name) {
        return Err(BuildError::at(path, "credentials and framing are the gateway's own"));
    }
    Ok(())
}

fn pointer(path: String, text: &str) -> Result<Pointer, BuildError> {
    let Some(pointer) = Pointer::parse(text) else {
        return Err(BuildError::at(path, "a JSON pointer begins with /, such as /metadata/team"));
    };
    match pointer.first() {
        "model" => Err(BuildError::at(path, "the model is changed by `model_alias`, so that grants are checked")),
        name if STEERING.contains(&name) => Err(BuildError::at(path, format!("`{name}` is the caller's to say"))),
        _ => Ok(pointer),
    }
}
