//! Errors of providers inside of answers that look like successes.

use serde_json::Value;

/// Whether the `data` of an event is a provider's error, in any dialect.
pub fn tells_error(data: &str) -> bool {
    if !data.contains("error") && !data.contains("failed") {
        return false;
    }
    let Ok(Value::Object(event)) = serde_json::from_str::<Value>(data) else { return false };
    let kind = event.get("type").and_then(Value::as_str);
    event.get("error").is_some_and(|error| !error.is_null()) || matches!(kind, Some("error" | "response.failed"))
}

/// Whether a whole answer is a provider's error and nothing else: one that answers as well has something to be paid for.
pub fn is_error(body: &[u8]) -> bool {
    const ANSWERS: [&str; 5] = ["choices", "content", "output", "candidates", "data"];
    let Ok(Value::Object(answer)) = serde_json::from_slice::<Value>(body) else { return false };
    let failed = answer.get("error").is_some_and(|error| match error {
        Value::Object(_) => true,
        Value::String(error) => !error.is_empty(),
        _ => false,
    });
    failed && !ANSWERS.iter().any(|name| answer.get(*name).and_then(Value::as_array).is_some_and(|parts| !parts.is_empty()))
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

    #[test]
    fn an_answer_that_is_an_error_is_told_from_one_that_has_one() {
        for (body, is) in [
            (r#"{"error":{"message":"overloaded"}}"#, true),
            (r#"{"error":"overloaded","choices":[]}"#, true),
            (r#"{"status":"failed","error":{"code":"server_error"},"output":[],"usage":null}"#, true),
            (r#"{"status":"completed","error":null,"output":[{}]}"#, false),
            (r#"{"error":{"message":"cut"},"choices":[{"message":{"content":"so far"}}]}"#, false),
            (r#"{"error":""}"#, false),
            (r#"{"choices":[{"message":{"content":"{\"error\":{}}"}}]}"#, false),
            ("[]", false),
            ("error", false),
        ] {
            assert_eq!(is_error(body.as_bytes()), is, "{body}");
        }
    }
}
