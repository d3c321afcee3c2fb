//! Prompts given as token ids instead of text, which cannot be read without the model's vocabulary.

use super::scan::Scan;

/// Whether a request passes text as token ids: a list of numbers, or of such lists, as prompt or input, or a member named
/// as token ids. `false` if the body is not JSON.
pub fn token_ids(body: &[u8]) -> bool {
    let Ok(mut scan) = Scan::new(body) else { return false };
    let mut found = false;
    let read = scan.object(|scan, key| {
        match &*key.text {
            "prompt" | "input" | "inputs" | "text_1" | "text_2" | "query" | "documents" | "suffix" | "tokens" | "token_ids"
            | "prompt_token_ids" | "input_ids" => found |= numbers(scan)?,
            _ => scan.skip()?,
        }
        Ok(())
    });
    found && read.is_ok()
}

/// Whether a value is a list that contains a number, directly or in one of its lists.
fn numbers(scan: &mut Scan<'_>) -> Result<bool, super::ParseError> {
    if scan.peek() != Some(b'[') {
        return scan.skip().map(|()| false);
    }
    let mut found = false;
    scan.array(|scan| {
        found |= match scan.peek() {
            Some(b'[') => numbers(scan)?,
            first => {
                scan.skip()?;
                matches!(first, Some(b'-' | b'0'..=b'9'))
            }
        };
        Ok(())
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_the_place_of_words_are_seen_and_words_are_not() {
        for (body, expected) in [
            (r#"{"model":"m","prompt":[464,3290]}"#, true),
            (r#"{"input":[["a"],[464,3290]],"model":"m"}"#, true),
            (r#"{"prompt_token_ids":[1]}"#, true),
            (r#"{"prompt":"464"}"#, false),
            (r#"{"input":["464","3290"],"dimensions":3}"#, false),
            (r#"{"input":[{"type":"text","n":[1]}],"logit_bias":{"1":2},"stop":[1]}"#, false),
            (r#"{"prompt":[]}"#, false),
            ("no json", false),
            ("[1,2]", false),
        ] {
            assert_eq!(token_ids(body.as_bytes()), expected, "{body}");
        }
        let deep = format!(r#"{{"input":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(!token_ids(deep.as_bytes()), "too deep to be JSON");
    }
}
