//! How many tokens an exchange used, as the provider told it or, failing that, as its text suggests.

use memchr::memmem;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

use super::endpoint::Dialect;
use super::texts::{Kind, stream_texts};

/// Where the numbers of a [`Usage`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageSource {
    /// The provider said so.
    Provider,
    /// Derived from the length of the text, four bytes a token: an answer that broke off, or a silent provider.
    Estimated,
    /// Nothing is known.
    #[default]
    None,
}

impl UsageSource {
    /// The stable name used in evidence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimated => "estimated",
            Self::None => "none",
        }
    }
}

/// Tokens of one exchange, normalised over dialects: `input` includes `cached`, `output` includes `reasoning`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt, cached ones included.
    pub input: u64,
    /// Tokens of the answer, reasoning included.
    pub output: u64,
    /// Tokens of the prompt that the provider read from its cache.
    pub cached: u64,
    /// Tokens of the answer that were reasoning.
    pub reasoning: u64,
    /// What the provider calls the total, else `input + output`.
    pub total: u64,
    /// Who says so.
    pub source: UsageSource,
}

/// The numbers one JSON told; a member it did not tell is `None`.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    input: Option<u64>,
    output: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    total: Option<u64>,
}

/// The members of an answer or stream event below which usage stands.
#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    usage: Option<&'a RawValue>,
    #[serde(borrow, rename = "usageMetadata")]
    usage_metadata: Option<&'a RawValue>,
    /// Responses: the events of a stream carry the whole answer here.
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    /// Anthropic: `message_start` carries the answer here.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// The unified endpoint tells its counts without a wrapper.
    #[serde(borrow)]
    input_tokens: Option<&'a RawValue>,
    #[serde(borrow)]
    output_tokens: Option<&'a RawValue>,
}

impl Told {
    fn read(json: &[u8]) -> Option<Self> {
        // Most events of a stream say nothing about usage: two searches are cheaper than a parse.
        if memmem::find(json, b"sage").is_none() && memmem::find(json, b"_tokens").is_none() {
            return None;
        }
        if let Some(usage) = last_member(json, b"\"usage\":") {
            return Some(Self::from_usage(&usage));
        }
        let outer: Envelope<'_> = serde_json::from_slice(json).ok()?;
        if let Some(told) = Self::from_envelope(&outer) {
            return Some(told);
        }
        let inner = [outer.response, outer.message].into_iter().flatten().map(RawValue::get).find(|raw| raw.starts_with('{'))?;
        Self::from_envelope(&serde_json::from_str(inner).ok()?)
    }

    fn from_envelope(envelope: &Envelope<'_>) -> Option<Self> {
        let read = |raw: &RawValue| serde_json::from_str::<Value>(raw.get()).ok().filter(Value::is_object);
        if let Some(usage) = envelope.usage.and_then(read) {
            return Some(Self::from_usage(&usage));
        }
        if let Some(usage) = envelope.usage_metadata.and_then(read) {
            return Some(Self::from_gemini(&usage));
        }
        let plain = |raw: Option<&RawValue>| raw.and_then(|raw| serde_json::from_str(raw.get()).ok());
        let (input, output) = (plain(envelope.input_tokens), plain(envelope.output_tokens));
        (input.is_some() || output.is_some()).then_some(Self { input, output, ..Self::default() })
    }

    /// The `usage` object of OpenAI (both spellings), Anthropic and everything compatible.
    fn from_usage(usage: &Value) -> Self {
        let detail = |names: [&str; 2], member| names.iter().find_map(|name| count(usage.get(name)?, member));
        let mut told = Self {
            input: count(usage, "prompt_tokens").or_else(|| count(usage, "input_tokens")),
            output: count(usage, "completion_tokens").or_else(|| count(usage, "output_tokens")),
            cached: detail(["prompt_tokens_details", "input_tokens_details"], "cached_tokens"),
            reasoning: detail(["completion_tokens_details", "output_tokens_details"], "reasoning_tokens"),
            total: count(usage, "total_tokens"),
        };
        let (read, written) = (count(usage, "cache_read_input_tokens"), count(usage, "cache_creation_input_tokens"));
        if read.is_some() || written.is_some() {
            // Anthropic counts what it cached apart from `input_tokens`.
            let apart = read.unwrap_or(0).saturating_add(written.unwrap_or(0));
            told.input = match told.input {
                Some(input) => Some(input.saturating_add(apart)),
                None => Some(apart).filter(|apart| *apart > 0),
            };
            told.cached = read;
        }
        told
    }

    /// Gemini's `usageMetadata`.
    fn from_gemini(usage: &Value) -> Self {
        let reasoning = count(usage, "thoughtsTokenCount");
        let sum = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (None, None) => None,
            (a, b) => Some(a.unwrap_or(0).saturating_add(b.unwrap_or(0))),
        };
        Self {
            input: sum(count(usage, "promptTokenCount"), count(usage, "toolUsePromptTokenCount")),
            output: sum(count(usage, "candidatesTokenCount"), reasoning),
            cached: count(usage, "cachedContentTokenCount"),
            reasoning,
            total: count(usage, "totalTokenCount"),
        }
    }

    /// Providers repeat growing counts (Anthropic's deltas, Gemini's chunks, vLLM's continuous usage), so the
    /// largest of each is the last word, whatever order events come in.
    fn join(&mut self, other: Self) {
        for (mine, new) in [
            (&mut self.input, other.input),
            (&mut self.output, other.output),
            (&mut self.cached, other.cached),
            (&mut self.reasoning, other.reasoning),
            (&mut self.total, other.total),
        ] {
            *mine = (*mine).max(new);
        }
    }

    fn usage(self) -> Usage {
        let (input, output) = (self.input.unwrap_or(0), self.output.unwrap_or(0));
        let sum = input.saturating_add(output);
        Usage {
            input,
            output,
            cached: self.cached.unwrap_or(0),
            reasoning: self.reasoning.unwrap_or(0),
            total: self.total.unwrap_or(sum).max(sum),
            source: UsageSource::Provider,
        }
    }

    fn is_empty(&self) -> bool {
        self.input.is_none() && self.output.is_none() && self.total.is_none()
    }
}

/// The object behind this name if it stands at the top of the document and nothing but scalars follow it, as it does in
/// most answers: then the rest of the document need not be read. `None` says nothing, only that it must be.
fn last_member(json: &[u8], name: &[u8]) -> Option<Value> {
    let at = memmem::rfind(json, name)?;
    // Within a string the quote of the name would be escaped.
    if !matches!(json[..at].iter().rev().find(|b| !b.is_ascii_whitespace()), Some(b',' | b'{')) {
        return None;
    }
    let rest = &json[at + name.len()..];
    let mut values = serde_json::Deserializer::from_slice(rest).into_iter::<Value>();
    let value = values.next()?.ok().filter(Value::is_object)?;
    let after = rest.get(values.byte_offset()..)?.trim_ascii_end();
    let (last, between) = after.split_last()?;
    // One closing brace and no other bracket: the object that ends here is the document.
    let top = *last == b'}' && !between.iter().any(|b| matches!(b, b'{' | b'}' | b'[' | b']'));
    top.then_some(value)
}

/// A count, written as a whole number or, by some servers, as a float.
fn count(object: &Value, member: &str) -> Option<u64> {
    let value = object.get(member)?;
    value.as_u64().or_else(|| value.as_f64().filter(|n| *n >= 0.0).map(|n| n.round() as u64))
}

/// Dialects whose bodies can tell usage. A plain route's JSON means what its service wants it to mean.
fn metered(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini)
}

/// The usage a whole answer tells; [`UsageSource::None`] when it tells none.
pub fn from_body(dialect: Dialect, body: &[u8]) -> Usage {
    if !metered(dialect) {
        return Usage::default();
    }
    match Told::read(body) {
        Some(told) if !told.is_empty() => told.usage(),
        _ => Usage::default(),
    }
}

/// An estimate from bytes of text, four a token, for an exchange whose provider told nothing.
pub fn estimate(input_bytes: usize, output_bytes: usize) -> Usage {
    let tokens = |bytes: usize| (bytes as u64).div_ceil(4);
    let (input, output) = (tokens(input_bytes), tokens(output_bytes));
    if input + output == 0 {
        return Usage::default();
    }
    Usage { input, output, total: input + output, source: UsageSource::Estimated, ..Usage::default() }
}

/// Collects usage from the events of a stream.
#[derive(Debug, Clone)]
pub struct UsageStream {
    dialect: Dialect,
    told: Told,
    /// The last word on the answer's length was heard, not only an opening count.
    closed: bool,
    /// Bytes of fragments seen, for the estimate.
    text: usize,
}

impl UsageStream {
    /// A collector for a stream of this dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, told: Told::default(), closed: false, text: 0 }
    }

    /// Takes the name and the `data` of one event.
    pub fn event(&mut self, event: Option<&str>, data: &str) {
        if !metered(self.dialect) {
            return;
        }
        let Some(told) = Told::read(data.as_bytes()) else {
            self.text = self.text.saturating_add(fragment_bytes(data));
            return;
        };
        // Anthropic opens with the input and a first output token; only `message_delta` tells the real output.
        let opening = event == Some("message_start") || event.is_none() && memmem::find(data.as_bytes(), b"\"message_start\"").is_some();
        self.closed |= told.output.is_some() && !opening;
        self.told.join(told);
        if !self.closed {
            self.text = self.text.saturating_add(fragment_bytes(data));
        }
    }

    /// What is known so far. While the provider has not told the output, it is estimated from the text that passed;
    /// a stream that breaks off is never free.
    pub fn usage(&self) -> Usage {
        if self.told.is_empty() {
            return estimate(0, self.text);
        }
        let mut usage = self.told.usage();
        if !self.closed {
            let estimated = estimate(0, self.text).output;
            if estimated > usage.output {
                usage.output = estimated;
                usage.total = usage.input.saturating_add(estimated);
                usage.source = UsageSource::Estimated;
            }
        }
        usage
    }
}

/// Bytes of the fragments of one event.
fn fragment_bytes(data: &str) -> usize {
    let mut bytes = 0;
    let _ = stream_texts(data.as_bytes(), &mut |text| {
        if text.channel.is_some() && text.kind != Kind::Structural {
            bytes += text.text.len();
        }
    });
    bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn counts(usage: Usage) -> [u64; 5] {
        [usage.input, usage.output, usage.cached, usage.reasoning, usage.total]
    }

    #[test]
    fn bodies() {
        use Dialect::{Anthropic, Gemini, Mcp, OpenAi};
        for (dialect, body, expected) in [
            (
                OpenAi,
                r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
                [10, 5, 4, 2, 15],
            ),
            (
                OpenAi,
                r#"{"output":[],"usage":{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}}}"#,
                [10, 5, 4, 2, 15],
            ),
            (OpenAi, r#"{"data":[],"usage":{"prompt_tokens":8.0,"total_tokens":8,"prompt_tokens_details":null}}"#, [8, 0, 0, 0, 8]),
            (OpenAi, r#"{"content":"hi","input_tokens":3,"output_tokens":4}"#, [3, 4, 0, 0, 7]),
            (
                Anthropic,
                r#"{"usage":{"input_tokens":10,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"output_tokens":5}}"#,
                [13, 5, 2, 0, 18],
            ),
            (
                Gemini,
                r#"{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":3,"cachedContentTokenCount":4,"totalTokenCount":18}}"#,
                [10, 8, 4, 3, 18],
            ),
            (Mcp, r#"{"usage":{"prompt_tokens":1}}"#, [0; 5]),
            (OpenAi, r#"{"usage":null}"#, [0; 5]),
            (OpenAi, r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}]}"#, [0; 5]),
            (OpenAi, "usage", [0; 5]),
        ] {
            let usage = from_body(dialect, body.as_bytes());
            assert_eq!(counts(usage), expected, "{body}");
            assert_eq!(usage.source, if expected == [0; 5] { UsageSource::None } else { UsageSource::Provider }, "{body}");
        }
    }

    fn stream(dialect: Dialect, events: &[&str]) -> Usage {
        let mut stream = UsageStream::new(dialect);
        events.iter().for_each(|event| stream.event(None, event));
        stream.usage()
    }

    #[test]
    fn streams() {
        let chat = [
            r#"{"choices":[{"index":0,"delta":{"content":"Hello"}}],"usage":null}"#,
            r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"completion_tokens_details":{"reasoning_tokens":2}}}"#,
            "[DONE]",
        ];
        let usage = stream(Dialect::OpenAi, &chat);
        assert_eq!((counts(usage), usage.source), ([10, 5, 0, 2, 15], UsageSource::Provider));

        let responses = [
            r#"{"type":"response.output_text.delta","delta":"Hello"}"#,
            r#"{"type":"response.completed","response":{"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15}}}"#,
        ];
        assert_eq!(counts(stream(Dialect::OpenAi, &responses)), [10, 5, 0, 0, 15]);

        let messages = [
            r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":2,"cache_creation_input_tokens":0,"output_tokens":1}}}"#,
            r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello, you there"}}"#,
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
        ];
        assert_eq!(counts(stream(Dialect::Anthropic, &messages)), [12, 5, 2, 0, 17]);
        let cut = stream(Dialect::Anthropic, &messages[..2]);
        assert_eq!((counts(cut), cut.source), ([12, 4, 2, 0, 16], UsageSource::Estimated));
    }

    #[test]
    fn a_silent_stream_is_estimated_and_an_empty_one_is_nothing() {
        let usage = stream(Dialect::OpenAi, &[r#"{"choices":[{"index":0,"delta":{"content":"12345"}}]}"#]);
        assert_eq!((usage.output, usage.source), (2, UsageSource::Estimated));
        assert_eq!(stream(Dialect::OpenAi, &["[DONE]"]), Usage::default());
        assert_eq!(stream(Dialect::Plain, &["x"]), Usage::default());
    }

    proptest! {
        #[test]
        fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200), data in any::<String>(), n in any::<f64>()) {
            for dialect in Dialect::ALL {
                let _ = from_body(*dialect, &body);
                let near = format!(r#"{{"usage":{{"prompt_tokens":{n:e},"completion_tokens":{},"input_tokens":[]}},"m":{data:?}}}"#, u64::MAX);
                let _ = from_body(*dialect, near.as_bytes());
                let _ = stream(*dialect, &[&data, &near, &near]);
            }
        }
    }
}
