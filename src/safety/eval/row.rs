//! Labelled rows in any of the supported formats, which are recognised by their fields.

use std::ops::Range;

use serde_json::{Map, Value};

/// A labelled row.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The text to scan.
    pub text: String,
    /// The label.
    pub truth: Truth,
    /// The groups in which it counts besides the total: (dimension, name).
    pub groups: Vec<(&'static str, String)>,
}

/// The label of a text.
#[derive(Debug, Clone, PartialEq)]
pub enum Truth {
    /// Whether it is an attack; `system` if it is a system message.
    Attack { attack: bool, system: bool },
    /// Whether it leaks, as an answer to this system text.
    Leak { system: String, leaks: bool },
    /// The values in it; with `scored`, only these types are labelled.
    Entities { values: Vec<Entity>, scored: Option<Vec<String>> },
    /// A single value of this type, valid or not.
    Single { kind: String, valid: bool },
    /// Whether it contains a credential.
    Secret { secret: bool },
    /// It has no label that is scored.
    Unscored,
}

/// A labelled value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entity {
    /// Its type, in upper case.
    pub kind: String,
    /// Its range in bytes.
    pub span: Range<usize>,
}

/// The format of rows; its name appears in reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// `text`, `label`; `kind`, `source`, `lang`, `transform` as groups.
    Attacks,
    /// `system`, `response`, `label`.
    Leakage,
    /// `text`, `spans` without a label.
    Entities,
    /// `text`, `type`, `label`.
    Values,
    /// `text`, `type`, `kind`, `label`, and maybe `spans`.
    Secrets,
}

impl Format {
    /// The name in reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Attacks => "attacks",
            Self::Leakage => "leakage",
            Self::Entities => "personal data",
            Self::Values => "single values",
            Self::Secrets => "secrets",
        }
    }

    /// The format of a row, by its fields.
    pub fn of(row: &Map<String, Value>) -> Option<Self> {
        let has = |name: &str| row.contains_key(name);
        Some(match () {
            () if has("system") && has("response") && has("label") => Self::Leakage,
            () if !has("text") => return None,
            () if has("spans") && !has("label") => Self::Entities,
            () if has("type") && has("label") && has("kind") => Self::Secrets,
            () if has("type") && has("label") => Self::Values,
            () if has("label") => Self::Attacks,
            () => return None,
        })
    }
}

impl Row {
    /// Parses a line. The error names the problem without quoting the line.
    ///
    /// # Errors
    /// When it is not a JSON object, or has the fields of no format.
    pub fn read(line: &str) -> Result<(Format, Self), String> {
        let value: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        let row = value.as_object().ok_or("not an object")?;
        let format = Format::of(row).ok_or("has the fields of no known format: text and label, text and spans, or system and response")?;
        let text = |name: &str| row.get(name).and_then(Value::as_str).map(str::to_owned);
        let label = || row.get("label").and_then(Value::as_i64).ok_or("label is no number");
        let mut groups = Vec::new();
        for name in ["kind", "source", "lang", "transform", "type"] {
            if let Some(value) = text(name) {
                groups.push((name, value));
            }
        }
        let (body, truth) = match format {
            Format::Attacks => {
                let system = text("kind").is_some_and(|kind| kind.contains("sysprompt")) || text("role").as_deref() == Some("system");
                let truth = match label()? {
                    label @ 0..=1 => Truth::Attack { attack: label == 1, system },
                    _ => Truth::Unscored,
                };
                (text("text"), truth)
            }
            Format::Leakage => {
                (text("response"), Truth::Leak { system: text("system").ok_or("system is no string")?, leaks: label()? == 1 })
            }
            Format::Entities => {
                let text = text("text").ok_or("text is no string")?;
                let scored = row.get("scored_types").and_then(Value::as_array);
                let scored = scored.map(|types| types.iter().filter_map(Value::as_str).map(str::to_owned).collect());
                (Some(text.clone()), Truth::Entities { values: entities(&text, row.get("spans"))?, scored })
            }
            Format::Values => (text("text"), Truth::Single { kind: text("type").ok_or("type is no string")?, valid: label()? == 1 }),
            Format::Secrets => (text("text"), Truth::Secret { secret: label()? == 1 }),
        };
        Ok((format, Self { text: body.ok_or("the text is no string")?, truth, groups }))
    }
}

/// Converts spans, which count characters, to byte ranges.
fn entities(text: &str, spans: Option<&Value>) -> Result<Vec<Entity>, &'static str> {
    let spans = spans.and_then(Value::as_array).ok_or("spans is no list")?;
    let mut bytes: Vec<usize> = text.char_indices().map(|(at, _)| at).collect();
    bytes.push(text.len());
    let place = |span: &Value, name: &str| {
        let characters = usize::try_from(span.get(name)?.as_u64()?).ok()?;
        bytes.get(characters).copied()
    };
    let mut values: Vec<Entity> = Vec::with_capacity(spans.len());
    for span in spans {
        let kind = span.get("type").and_then(Value::as_str).ok_or("a span has no type")?.to_owned();
        let (Some(start), Some(end)) = (place(span, "start"), place(span, "end")) else {
            return Err("a span lies outside of the text");
        };
        let value = Entity { kind, span: start..end.max(start) };
        // Some data sets list a value several times; it can be found only once.
        if !values.contains(&value) {
            values.push(value);
        }
    }
    Ok(values)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_format_is_known_by_its_fields() {
        for (line, format) in [
            (r#"{"text":"a","label":1,"kind":"injection","source":"s","lang":"en"}"#, Format::Attacks),
            (r#"{"text":"a","label":0,"transform":"leet"}"#, Format::Attacks),
            (r#"{"system":"s","response":"r","label":0,"kind":"clean"}"#, Format::Leakage),
            (
                r#"{"text":"é a@b.de","spans":[{"start":2,"end":8,"type":"EMAIL"}],"scored_types":null,"kind":"synthetic"}"#,
                Format::Entities,
            ),
            (r#"{"text":"a","type":"PHONE","label":1}"#, Format::Values),
            (r#"{"text":"a","label":1,"type":"aws","kind":"rule_example","spans":null}"#, Format::Secrets),
        ] {
            assert_eq!(Row::read(line).unwrap().0, format, "{line}");
        }
        let (_, row) = Row::read(r#"{"text":"é a@b.de","spans":[{"start":2,"end":8,"type":"EMAIL"}],"scored_types":["EMAIL"]}"#).unwrap();
        let value = Entity { kind: "EMAIL".to_owned(), span: 3..9 };
        assert_eq!(row.truth, Truth::Entities { values: vec![value], scored: Some(vec!["EMAIL".to_owned()]) });
    }

    #[test]
    fn what_is_no_row_says_why_and_quotes_nothing() {
        for line in
            ["", "[]", r#"{"text":"secret"}"#, r#"{"text":"secret","spans":[{"start":0,"end":99,"type":"X"}]}"#, r#"{"text":4,"label":1}"#]
        {
            let error = Row::read(line).unwrap_err();
            assert!(!error.is_empty() && !error.contains("secret"), "{error}");
        }
        assert_eq!(Row::read(r#"{"text":"a","label":-1}"#).unwrap().1.truth, Truth::Unscored);
    }
}
