//! Token probabilities in an answer: they repeat the text token by token, so they must be removed wherever the text is
//! redacted.

/// The body with every list of token probabilities emptied: they repeat the text in pieces that no module reads. `None` if
/// there is no such list.
pub fn without_probabilities(body: &[u8]) -> Option<Vec<u8>> {
    const NAME: &[u8] = b"\"logprobs\"";
    let mut out = Vec::new();
    let mut at = 0;
    // Within a string the quotes would be escaped, so this always is a member's name.
    while let Some(found) = memchr::memmem::find(body.get(at..).unwrap_or_default(), NAME) {
        let after = at + found + NAME.len();
        let rest = body.get(after..).unwrap_or_default();
        let value = rest.iter().position(|b| !b.is_ascii_whitespace() && *b != b':').unwrap_or(rest.len());
        let mut values = serde_json::Deserializer::from_slice(rest.get(value..).unwrap_or_default()).into_iter::<serde::de::IgnoredAny>();
        let len = if values.next().is_some_and(|read| read.is_ok()) { values.byte_offset() } else { 0 };
        let empty: &[u8] = match rest.get(value) {
            Some(b'{') => b"null",
            Some(b'[') => b"[]",
            _ => rest.get(value..value + len).unwrap_or_default(),
        };
        out.extend_from_slice(body.get(at..after + value).unwrap_or_default());
        out.extend_from_slice(empty);
        at = after + value + len;
    }
    if out.is_empty() {
        return None;
    }
    out.extend_from_slice(body.get(at..).unwrap_or_default());
    Some(out)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_go_and_everything_else_stays() {
        let body = br#"{"a":"say \"logprobs\": {","choices":[{"logprobs": {"content":[{"token":"se"}]},"x":1}],"logprobs":[[1]],"y":null}"#;
        let expected = br#"{"a":"say \"logprobs\": {","choices":[{"logprobs": null,"x":1}],"logprobs":[],"y":null}"#;
        assert_eq!(without_probabilities(body).as_deref(), Some(&expected[..]));
        assert_eq!(without_probabilities(br#"{"a":1}"#), None);
        assert_eq!(without_probabilities(br#"{"logprobs":null}"#).as_deref(), Some(&br#"{"logprobs":null}"#[..]));
    }
}
