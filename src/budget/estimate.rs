//! How many tokens a request may take, before anybody counted them.

/// Tokens of a request body, at most as far as one can tell from its bytes: three bytes of ASCII a token, where the
/// tokenizers in use take about four of English and three of code, and a token for every two bytes of other scripts,
/// where they take one for two to four. The JSON around the words is counted too, which makes up for what providers add a
/// message.
pub fn input_tokens(body: &[u8]) -> u64 {
    // Nearly every body is ASCII, which vector code sees at once.
    let other = if body.is_ascii() { 0 } else { body.iter().filter(|byte| !byte.is_ascii()).count() as u64 };
    let ascii = body.len() as u64 - other;
    ascii.div_ceil(3) + other.div_ceil(2)
}

/// Tokens of the answer at most: what the request allows for each of `choices` answers, or what the model can say at once.
pub fn output_tokens(asked: Option<u64>, choices: Option<u64>, model: u64) -> u64 {
    asked.unwrap_or(model).saturating_mul(choices.unwrap_or(1).max(1))
}

/// What is counted for an answer that told no usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingUsage {
    /// What was reserved.
    Worst,
    /// What its length suggests.
    Estimate,
    /// Nothing.
    Nothing,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_above_what_tokenizers_say() {
        // Counts of o200k for texts of the kind, rounded up.
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
