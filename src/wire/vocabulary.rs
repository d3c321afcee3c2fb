//! What the words of a protocol look like. A value that stands where such a word belongs, and looks otherwise, is what
//! somebody wrote: a `status` may be a sentence, an `id` an address.

/// What belongs somewhere that nobody's text does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Vocabulary {
    /// A word of a list, with few digits: `completed`, `image/svg+xml`, `MAX_TOKENS`.
    Word,
    /// The same with a date in it: `web_search_20250305`.
    Type,
    /// A name that a machine made: `chatcmpl-Ab1`, `meta-llama/Llama-3.1-8B`, `2.0`.
    Id,
    /// Encoded bytes, however long.
    Data,
}

/// Longer ones are no words.
const LONGEST_WORD: usize = 64;
/// Longer ones are no ids.
const LONGEST_ID: usize = 512;
/// As many digits in a row may be a payment card.
const CARD: std::ops::Range<usize> = 13..17;

impl Vocabulary {
    /// Whether a text is one of these.
    pub(super) fn has(self, text: &str) -> bool {
        match self {
            Self::Word => is_word(text, 3),
            Self::Type => is_word(text, 8),
            Self::Id => is_id(text),
            Self::Data => {
                memchr::memchr2(b' ', b'@', text.as_bytes()).is_none()
                    || text.as_bytes().get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"data:"))
            }
        }
    }
}

/// Letters, with at most so many digits among them; capitals have none, as keys and canaries do.
fn is_word(text: &str, most: u32) -> bool {
    let (mut digits, mut capitals) = (0, 0);
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'_' | b'-' | b'.' | b'/' | b'+' => {}
            b'A'..=b'Z' => capitals += 1,
            b'0'..=b'9' => digits += 1,
            _ => return false,
        }
    }
    text.len() <= LONGEST_WORD
        && digits <= most
        && (capitals == 0 || digits == 0)
        && text.bytes().next().is_none_or(|first| first.is_ascii_alphabetic())
}

/// Letters, digits and what parts them. Digits in groups are a phone number or the like, as many as of a card one.
fn is_id(text: &str) -> bool {
    let (mut letters, mut marks) = (false, false);
    for byte in text.bytes() {
        match byte {
            b'0'..=b'9' => {}
            b'a'..=b'z' | b'A'..=b'Z' => letters = true,
            b'-' | b'_' | b'.' | b':' | b'/' | b'+' | b'=' | b'|' | b'~' | b'#' => marks = true,
            _ => return false,
        }
    }
    let number = if marks { text.len() <= 6 } else { !CARD.contains(&text.len()) };
    text.len() <= LONGEST_ID && (letters || number)
}

/// Whether the name of a member is one that a program gave it, and not what somebody wrote.
pub(super) fn is_name(name: &str) -> bool {
    let mut digits = 0;
    let mut fits = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'-' | b'.' | b'/' | b'$' => true,
        b'0'..=b'9' => {
            digits += 1;
            true
        }
        _ => false,
    };
    let all = name.bytes().all(&mut fits);
    all && name.len() <= LONGEST_WORD && (digits <= 3 || digits == name.len() && digits < CARD.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_protocols_are_told_from_what_people_write() {
        for word in ["", "completed", "in_progress", "low", "PYTHON", "OUTCOME_OK", "en-US", "pcm16", "application/json", "HMAC-SHA"] {
            assert!(Vocabulary::Word.has(word), "{word}");
        }
        for kind in ["web_search_20250305", "response.code_interpreter_call_code.delta", "string", "OBJECT", "date-time"] {
            assert!(Vocabulary::Type.has(kind), "{kind}");
        }
        for id in ["chatcmpl-Ab12Cd34", "msg_01XyZ", "gpt-4o-2024-08-06", "meta-llama/Llama-3.1-8B", "2.0", "7", "1450000000000000000"] {
            assert!(Vocabulary::Id.has(id), "{id}");
        }
        assert!(Vocabulary::Data.has(&"QUJD+/==\r\n".repeat(99)) && Vocabulary::Data.has("Data:text/plain,two words"));
        for name in ["prompt_tokens", "x-ms-id", "$ref", "50256", "addressLine2"] {
            assert!(is_name(name), "{name}");
        }
        for text in [
            "not found",
            "bob@example.org",
            "+14155552671",
            "415-555-2671",
            "4111111111111111",
            "4111-1111-1111-1111",
            "Grüße",
            "passwort:ä",
        ] {
            assert!(!Vocabulary::Word.has(text) && !Vocabulary::Type.has(text) && !Vocabulary::Id.has(text) && !is_name(text), "{text}");
        }
        for text in ["ZEBRA-QUARTZ-7781-LANTERN", "sk-proj-Ab1Cd2Ef3", "AKIAIOSFODNN7EXAMPLE"] {
            assert!(!Vocabulary::Word.has(text) && !Vocabulary::Type.has(text), "{text}");
        }
        assert!(!Vocabulary::Data.has("write to bob@example.org") && !Vocabulary::Data.has("bob@example.org"));
    }
}
