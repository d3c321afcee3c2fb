//! References to secrets.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::identity::Secret;

/// A reference to a secret: `{env: NAME}`, `{file: PATH}` or `{credential: NAME}` (systemd's `LoadCredential`). A literal
/// secret is accepted only with `allow_inline_secrets: true`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretRef {
    /// An environment variable.
    Env(String),
    /// A file; a final line break is not part of the secret.
    File(String),
    /// A file with this name in `$CREDENTIALS_DIRECTORY`.
    Credential(String),
    /// A literal secret in the configuration.
    Inline(Secret),
}

const EXPECTED: &str = "a reference to a secret: {env: NAME}, {file: PATH} or {credential: NAME}";

struct Reference;

impl<'de> Visitor<'de> for Reference {
    type Value = SecretRef;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<SecretRef, E> {
        Ok(SecretRef::Inline(Secret::new(text.to_owned())))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        let Some((key, value)) = map.next_entry::<String, String>()? else {
            return Err(A::Error::custom(format_args!("expected {EXPECTED}")));
        };
        let reference = match key.as_str() {
            "env" => SecretRef::Env(value),
            "file" => SecretRef::File(value),
            "credential" => SecretRef::Credential(value),
            other => return Err(A::Error::unknown_field(other, &["env", "file", "credential"])),
        };
        if map.next_key::<String>()?.is_some() {
            return Err(A::Error::custom("a secret has one source: env, file or credential"));
        }
        Ok(reference)
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reference)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (key, value) = match self {
            Self::Env(name) => ("env", name),
            Self::File(path) => ("file", path),
            Self::Credential(name) => ("credential", name),
            Self::Inline(_) => return serializer.serialize_str("[secret]"),
        };
        serializer.collect_map([(key, value)])
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": EXPECTED,
            "type": ["object", "string"],
            "properties": { "env": {"type": "string"}, "file": {"type": "string"}, "credential": {"type": "string"} },
            "additionalProperties": false,
            "minProperties": 1,
            "maxProperties": 1
        })
    }
}
