//! Errors of providers inside of streams.

use serde_json::Value;

/// Whether the data of an event is a provider's error, in any dialect.
pub fn tells_error(data: &str) -> bool {
    if !data.contains("error") && !data.contains("failed") {
        return false;
    }
    let Ok(Value::Object(event)) = serde_json::from_str::<Value>(data) else { return false };
    let kind = event.get("type").and_then(Value::as_str);
    event.get("error").is_some_and(|error| !error.is_null()) || matches!(kind, Some("error" | "response.failed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_told_from_words_about_them() {
        assert!(tells_error(r#"{"error":{"message":"overloaded"}}"#));
        assert!(tells_error(r#"{"type":"error","error":{"type":"overloaded_error"}}"#));
        assert!(tells_error(r#"{"type":"response.failed","response":{}}"#));
        assert!(!tells_error(r#"{"error":null,"choices":[{"delta":{"content":"an error"}}]}"#));
        assert!(!tells_error(r#"{"choices":[{"delta":{"content":"it failed"}}]}"#));
        assert!(!tells_error("error"));
    }
}
