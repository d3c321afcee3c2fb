//! How many tokens a request may use, estimated before a provider has counted them.

/// An upper estimate of the tokens in a request body, from its bytes alone. ASCII counts as three bytes a token, where current
/// tokenizers take about four for English and three for code; other scripts count as two bytes a token, where they take two
/// to four. The JSON syntax is counted too, which makes up for the tokens that providers add per message.
pub fn input_tokens(body: &[u8]) -> u64 {
    // Most bodies are pure ASCII, which vectorised code finds out quickly.
    let other = if body.is_ascii() { 0 } else { body.iter().filter(|byte| !byte.is_ascii()).count() as u64 };
    let ascii = body.len() as u64 - other;
    ascii.div_ceil(3) + other.div_ceil(2)
}

/// The most tokens that the answer may have: `choices` times what the request allows for one answer, or else the model's own
/// maximum.
pub fn output_tokens(asked: Option<u64>, choices: Option<u64>, model: u64) -> u64 {
    asked.unwrap_or(model).saturating_mul(choices.unwrap_or(1).max(1))
}

/// What is counted for an answer that reported no usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingUsage {
    /// The reserved amount.
    Worst,
    /// An estimate from the answer's length.
    Estimate,
    /// Nothing.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_above_what_tokenizers_say() {
        // Token counts of the o200k encoding for texts of this kind, rounded up.
        assert!(input_tokens(b"The quick brown fox jumps over the lazy dog.") >= 10);
        assert!(input_tokens("Быстрая бурая лиса перепрыгивает через ленивую собаку.".as_bytes()) >= 20);
        assert!(input_tokens("敏捷的棕色狐狸跳过了懒狗。".as_bytes()) >= 14);
        assert_eq!(input_tokens(b""), 0);
    }

    #[test]
    fn an_answer_takes_what_was_asked_or_what_the_model_can() {
        assert_eq!(output_tokens(Some(100), None, 4096), 100);
        assert_eq!(output_tokens(None, Some(3), 4096), 12_288);
        assert_eq!(output_tokens(Some(7), Some(0), 4096), 7);
        assert_eq!(output_tokens(Some(u64::MAX), Some(2), 1), u64::MAX);
    }
}
