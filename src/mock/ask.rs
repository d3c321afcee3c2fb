//! The parts of a request body that the provider reads: one pass that borrows, and decodes strings only where they are
//! used.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

/// The members that matter, for all endpoints at once.
#[derive(Default, serde::Deserialize)]
pub struct Ask<'a> {
    #[serde(borrow)]
    model: Option<&'a RawValue>,
    #[serde(borrow, default)]
    messages: Vec<Message<'a>>,
    #[serde(borrow)]
    prompt: Option<&'a RawValue>,
    #[serde(borrow)]
    pub input: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    #[serde(borrow)]
    instructions: Option<&'a RawValue>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    pub dimensions: Option<usize>,
    #[serde(borrow)]
    pub mock: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(serde::Deserialize)]
struct Message<'a> {
    #[serde(borrow)]
    role: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

/// A part of a message's content, an item of `input`, or a content block of Anthropic.
#[derive(serde::Deserialize)]
struct Part<'a> {
    #[serde(borrow)]
    text: Option<Text<'a>>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
}

#[derive(serde::Deserialize)]
struct Tool<'a> {
    #[serde(borrow)]
    name: Option<Text<'a>>,
    #[serde(borrow)]
    function: Option<Function<'a>>,
}

#[derive(serde::Deserialize)]
struct Function<'a> {
    #[serde(borrow)]
    name: Text<'a>,
}

impl<'a> Ask<'a> {
    /// Parses a body; `None` if it is not a JSON object of these shapes.
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    /// The raw JSON of `model`.
    pub fn model_json(&self) -> &'a str {
        self.model.map_or("\"mock-model\"", RawValue::get)
    }

    /// System text of the Responses API, which answers repeat, as the JSON it came in.
    pub fn instructions_json(&self) -> &'a str {
        self.instructions.map_or("null", RawValue::get)
    }

    /// The tools, which such answers repeat too.
    pub fn tools_json(&self) -> &'a str {
        self.tools.map_or("[]", RawValue::get)
    }

    pub fn streams(&self) -> bool {
        self.stream == Some(true)
    }

    pub fn include_usage(&self) -> bool {
        self.stream_options.as_ref().and_then(|options| options.include_usage) == Some(true)
    }

    /// The text of the last message that is not the assistant's, of `prompt`, or of the last item of `input`.
    pub fn last_text(&self) -> Cow<'a, str> {
        let last = self.messages.iter().rev().find(|m| m.role.as_ref().is_none_or(|r| r.0 != "assistant"));
        let item = || {
            self.input
                .map(|input| serde_json::from_str::<Vec<&RawValue>>(input.get()).ok().and_then(|mut items| items.pop()).unwrap_or(input))
        };
        last.and_then(|m| m.content).or(self.prompt).or_else(item).map_or(Cow::Borrowed(""), text_of)
    }

    /// Whether the last message is a user's, rather than a tool's result.
    fn ends_with_user(&self) -> bool {
        match self.messages.last() {
            Some(last) => {
                last.role.as_ref().is_none_or(|role| role.0 == "user")
                    && last.content.is_none_or(|content| !content.get().contains("\"tool_result\""))
            }
            None => self.input.is_some_and(|input| !input.get().contains("\"function_call_output\"")),
        }
    }

    /// The tool to call: the one that the text names, or the first. `None` when no tool should be called.
    pub fn called_tool(&self, text: &str) -> Option<String> {
        let tools = self.tools?;
        if !text.contains("call tool") || !self.ends_with_user() {
            return None;
        }
        let tools: Vec<Tool<'_>> = serde_json::from_str(tools.get()).ok()?;
        let names = || tools.iter().filter_map(|t| t.function.as_ref().map(|f| &f.name).or(t.name.as_ref()));
        names().find(|name| text.contains(name.0.as_ref())).or_else(|| names().next()).map(|name| name.0.to_string())
    }

    /// Input tokens: one for every four bytes of content, rounded up. Not a tokenizer, but deterministic.
    pub fn tokens(&self) -> usize {
        let messages: usize = self.messages.iter().filter_map(|m| m.content).map(|c| c.get().len()).sum();
        let other: usize = [self.prompt, self.input].into_iter().flatten().map(|raw| raw.get().len()).sum();
        (messages + other).div_ceil(4)
    }

    /// The texts of `input`, one for each requested embedding.
    pub fn inputs(&self) -> Vec<Cow<'a, str>> {
        let Some(input) = self.input else { return vec![Cow::Borrowed("")] };
        match serde_json::from_str::<Vec<Text<'a>>>(input.get()) {
            Ok(texts) => texts.into_iter().map(|text| text.0).collect(),
            Err(_) => vec![text_of(input)],
        }
    }
}

/// The text of a string or of a content part; for an array, the texts of all parts, one per line.
fn text_of(raw: &RawValue) -> Cow<'_, str> {
    let json = raw.get();
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<Text<'_>>(json).map_or(Cow::Borrowed(""), |text| text.0),
        Some(b'[') => {
            let parts: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
            Cow::Owned(parts.into_iter().map(text_of).collect::<Vec<_>>().join("\n"))
        }
        Some(b'{') => match serde_json::from_str::<Part<'_>>(json) {
            Ok(Part { text: Some(text), .. }) => text.0,
            Ok(part) => part.content.or(part.output).map_or(Cow::Borrowed(""), text_of),
            Err(_) => Cow::Borrowed(""),
        },
        _ => Cow::Borrowed(""),
    }
}

/// A string, borrowed from the body unless it has escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrow;
        impl<'de> Visitor<'de> for Borrow {
            type Value = Cow<'de, str>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }
        deserializer.deserialize_str(Borrow).map(Text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn last(body: &str) -> String {
        Ask::parse(body.as_bytes()).unwrap().last_text().into_owned()
    }

    #[test]
    fn finds_the_text_to_answer_in_every_shape() {
        assert_eq!(last(r#"{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}"#), "a");
        assert_eq!(last(r#"{"messages":[{"role":"user","content":[{"type":"text","text":"a\n"},{"type":"text","text":"b"}]}]}"#), "a\n\nb");
        assert_eq!(last(r#"{"messages":[{"role":"user","content":[{"type":"tool_result","content":"22 C"}]}]}"#), "22 C");
        assert_eq!(last(r#"{"prompt":"p"}"#), "p");
        assert_eq!(last(r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"i"}]}]}"#), "i");
        assert_eq!(last(r#"{"input":["a","b"]}"#), "b");
        assert_eq!(last("{}"), "");
        assert!(Ask::parse(b"[1").is_none());
    }

    #[test]
    fn calls_a_tool_only_when_a_person_asks() {
        let tools = r#""tools":[{"type":"function","function":{"name":"weather"}},{"name":"mail"}]"#;
        let ask = |messages: &str| format!(r#"{{"messages":{messages},{tools}}}"#);
        let called = |body: &str| Ask::parse(body.as_bytes()).and_then(|a| a.called_tool(&a.last_text()));
        assert_eq!(called(&ask(r#"[{"role":"user","content":"call tool now"}]"#)).as_deref(), Some("weather"));
        assert_eq!(called(&ask(r#"[{"role":"user","content":"call tool mail"}]"#)).as_deref(), Some("mail"));
        assert_eq!(called(&ask(r#"[{"role":"user","content":"hello"}]"#)), None);
        assert_eq!(called(&ask(r#"[{"role":"user","content":"call tool"},{"role":"tool","content":"call tool"}]"#)), None);
    }
}
