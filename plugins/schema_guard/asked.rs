//! The schema that a request wants its answer to follow.

use crate::plugin::prelude::*;

/// The schema in a request's body, if any: `response_format` of chat completions, `text.format` of responses,
/// `output_format` or `output_config.format` of Anthropic's messages, `responseJsonSchema` of Gemini.
pub fn schema(dialect: Dialect, body: &[u8]) -> Option<Value> {
    // Most requests have none and are not parsed.
    memchr::memmem::find(body, b"chema")?;
    let mut body: Value = serde_json::from_slice(body).ok()?;
    let places: &[&str] = match dialect {
        Dialect::OpenAi => &["/response_format/json_schema/schema", "/text/format/schema"],
        Dialect::Anthropic => &["/output_format/schema", "/output_config/format/schema"],
        Dialect::Gemini => &["/generationConfig/responseJsonSchema", "/generation_config/response_json_schema"],
        Dialect::Mcp | Dialect::Plain => &[],
    };
    places.iter().find_map(|place| body.pointer_mut(place).map(Value::take)).filter(|schema| !schema.is_null())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn schemas_of_every_dialect() {
        for (dialect, body) in [
            (Dialect::OpenAi, r#"{"response_format":{"type":"json_schema","json_schema":{"name":"x","schema":{"type":"object"}}}}"#),
            (Dialect::OpenAi, r#"{"text":{"format":{"type":"json_schema","name":"x","schema":{"type":"object"}}}}"#),
            (Dialect::Anthropic, r#"{"output_format":{"type":"json_schema","schema":{"type":"object"}}}"#),
            (Dialect::Gemini, r#"{"generationConfig":{"responseJsonSchema":{"type":"object"}}}"#),
        ] {
            assert_eq!(schema(dialect, body.as_bytes()), Some(json!({"type": "object"})), "{body}");
        }
        for body in [r#"{"response_format":{"type":"json_object"}}"#, r#"{"messages":[{"content":"a schema"}]}"#, "schema"] {
            assert_eq!(schema(Dialect::OpenAi, body.as_bytes()), None, "{body}");
        }
    }
}
