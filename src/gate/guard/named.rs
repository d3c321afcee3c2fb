//! Values whose name says what they are: `{"password": "tR7!kq9Zp2"}` in the input of a tool. Alone the value is a word like
//! any other, so modules read it together with the name of its member.

use std::ops::Range;

use crate::safety::{Category, entity};
use crate::wire::Text;

/// A longer name is a text, and a longer value tells by itself what it is.
const MOST_BYTES: usize = 256;

/// A value that modules read behind its name.
#[derive(Debug)]
pub(super) struct Named {
    /// Length of what stands before the value in the text that modules read.
    lead: usize,
    length: usize,
}

impl Named {
    /// What modules read of a value that stands directly behind the `name` of its member; `None` where the name says nothing.
    /// `json` is what both stand in; their spans count from `at` before it.
    pub fn read(json: &[u8], at: usize, name: &Text<'_>, value: &Text<'_>) -> Option<(String, Self)> {
        if !name.key || value.key || value.channel.is_some() || name.text.len().max(value.text.len()) > MOST_BYTES {
            return None;
        }
        // `": "` at the most: a value further away has another name.
        let between = json.get(name.span.end.checked_sub(at)?..value.span.start.checked_sub(at)?)?.strip_prefix(b"\"")?.trim_ascii();
        let quote = match between.strip_prefix(b":")?.trim_ascii() {
            b"" => "",
            b"\"" => "\"",
            _ => return None,
        };
        if !entity::says_what(&name.text) {
            return None;
        }
        let text = format!("\"{}\":{quote}{}{quote}", name.text, value.text);
        let lead = text.len() - quote.len() - value.text.len();
        Some((text, Self { lead, length: value.text.len() }))
    }

    /// The value in what modules read.
    pub fn value<'t>(&self, read: &'t str) -> &'t str {
        read.get(self.lead..self.lead + self.length).unwrap_or_default()
    }

    /// Where spans of what modules read stand in the value.
    pub fn spans(&self, read: &[(Range<usize>, Category)]) -> Vec<(Range<usize>, Category)> {
        let place = |at: usize| at.saturating_sub(self.lead).min(self.length);
        let spans = read.iter().map(|(span, category)| (place(span.start)..place(span.end), category.clone()));
        spans.filter(|(span, _)| !span.is_empty()).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn only_a_name_that_says_what_its_value_is_stands_before_it() {
        let read = |json: &str| {
            let mut texts = Vec::new();
            let body = format!(r#"{{"metadata":{json}}}"#);
            crate::wire::texts_and_numbers(body.as_bytes(), &mut |text| texts.push(Text { text: text.text.into_owned().into(), ..text }))
                .unwrap();
            let pair = texts.windows(2).filter_map(|pair| Named::read(body.as_bytes(), 0, &pair[0], &pair[1])).map(|(text, _)| text);
            pair.collect::<Vec<_>>()
        };
        assert_eq!(read(r#"{"password" : "tR7!kq9Zp2", "note": "x"}"#), [r#""password":"tR7!kq9Zp2""#]);
        assert_eq!(read(r#"{"ssn":"219099942"}"#), [r#""ssn":"219099942""#]);
        assert_eq!(read(r#"{"note":"password","x":{"password":{"a":"b"}}}"#), [""; 0]);
    }

    #[test]
    fn spans_are_those_of_the_value() {
        let named = Named { lead: 12, length: 5 };
        let spans = named.spans(&[(2..4, "x".into()), (10..14, "y".into()), (15..18, "z".into())]);
        assert_eq!(spans, [(0..2, "y".into()), (3..5, "z".into())]);
    }
}
