//! How many tokens an exchange used, as the provider told it or, failing that, as its text suggests.

use memchr::{memmem, memrchr_iter};

use super::endpoint::Dialect;
use super::head::ParseError;
use super::scan::{Scalar, Scan};
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
    /// Tokens of the prompt that the provider wrote to its cache.
    pub cache_write: u64,
    /// Tokens of the prompt that are no text.
    pub input_kinds: Kinds,
    /// Tokens of the answer that are no text.
    pub output_kinds: Kinds,
    /// Calls of tools that the provider itself carried out, where its usage tells them.
    pub calls: u64,
    /// What the provider calls the total, else `input + output`.
    pub total: u64,
    /// Who says so.
    pub source: UsageSource,
}

/// Tokens of one side that are no text; all of them are in the side's total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    /// Pictures.
    pub image: u64,
    /// Sound.
    pub audio: u64,
    /// Moving pictures.
    pub video: u64,
}

/// The numbers one JSON told; a member it did not tell is `None`.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    input: Option<u64>,
    output: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    cache_write: Option<u64>,
    /// Of the prompt and of the answer: images, sound, moving pictures.
    kinds: [[Option<u64>; 3]; 2],
    calls: Option<u64>,
    total: Option<u64>,
}

/// The numbers of a usage object under the names that providers give them.
#[derive(Debug, Default)]
struct Names {
    told: Told,
    /// Anthropic: prompt tokens read from the cache and written to it.
    cache: [Option<u64>; 2],
    /// Gemini: prompt tokens of tools, and answer tokens that were thoughts.
    apart: [Option<u64>; 2],
}

impl Told {
    /// What an answer or a stream event tells.
    fn read(json: &[u8]) -> Option<Self> {
        if let Some(told) = Self::at_the_end(json) {
            return Some(told);
        }
        // Most events of a stream say nothing about usage: two searches are cheaper than a walk.
        if memmem::find(json, b"sage").is_none() && memmem::find(json, b"_tokens").is_none() {
            return None;
        }
        let mut scan = Scan::new(json).ok()?;
        let told = Self::of_answer(&mut scan, true).ok()?;
        scan.end().ok().and(told)
    }

    /// The usage object if it stands at the top of the document and nothing but scalars follow it, as it does in most
    /// answers: then the rest of the document need not be read. `None` says nothing, only that it must be.
    fn at_the_end(json: &[u8]) -> Option<Self> {
        const NAME: &[u8] = b"\"usage\":";
        // The letter is rare at the end of an answer, and a search for one letter is the fastest there is.
        let at = memrchr_iter(b'u', json).find_map(|u| u.checked_sub(1).filter(|at| json[*at..].starts_with(NAME)))?;
        // Within a string the quote of the name would be escaped.
        if !matches!(json[..at].iter().rev().find(|b| !b.is_ascii_whitespace()), Some(b',' | b'{')) {
            return None;
        }
        let rest = &json[at + NAME.len()..];
        let mut scan = Scan::new(rest).ok()?;
        let told = Self::of_usage(&mut scan).ok()??;
        let (last, between) = scan.rest().trim_ascii_end().split_last()?;
        // One closing brace and no other bracket: the object that ends here is the document.
        let top = *last == b'}' && !between.iter().any(|b| matches!(b, b'{' | b'}' | b'[' | b']'));
        top.then_some(told)
    }

    /// Walks over an answer or an event. `outer` when its `response` (Responses: events carry the whole answer there) or
    /// `message` (Anthropic: `message_start` does) may tell it too.
    fn of_answer(scan: &mut Scan<'_>, outer: bool) -> Result<Option<Self>, ParseError> {
        let (mut usage, mut inner) = (None, None);
        // The unified endpoint tells its counts without a wrapper.
        let mut plain = Self::default();
        if scan.peek() != Some(b'{') {
            return scan.skip().map(|()| None);
        }
        scan.object(|scan, name| {
            match name.text.as_ref() {
                "usage" | "usageMetadata" => usage = Self::of_usage(scan)?.or(usage),
                "response" | "message" if outer => inner = Self::of_answer(scan, false)?.or(inner),
                "input_tokens" => plain.input = count(&scan.scalar()?),
                "output_tokens" => plain.output = count(&scan.scalar()?),
                _ => scan.skip()?,
            }
            Ok(())
        })?;
        Ok(usage.or(Some(plain).filter(|plain| !plain.is_empty())).or(inner))
    }

    /// The usage object of OpenAI (both spellings), Anthropic, Gemini and everything compatible; `None` if it is none.
    fn of_usage(scan: &mut Scan<'_>) -> Result<Option<Self>, ParseError> {
        if scan.peek() != Some(b'{') {
            return scan.skip().map(|()| None);
        }
        let mut names = Names::default();
        scan.object(|scan, name| {
            let Names { told, cache, apart } = &mut names;
            let place = match name.text.as_ref() {
                "prompt_tokens" | "input_tokens" | "promptTokenCount" => &mut told.input,
                "completion_tokens" | "output_tokens" | "candidatesTokenCount" => &mut told.output,
                "total_tokens" | "totalTokenCount" => &mut told.total,
                "cachedContentTokenCount" => &mut told.cached,
                "toolUsePromptTokenCount" => &mut apart[0],
                "thoughtsTokenCount" => &mut apart[1],
                "cache_read_input_tokens" => &mut cache[0],
                "cache_creation_input_tokens" => &mut cache[1],
                "prompt_tokens_details" | "input_tokens_details" => {
                    return details(scan, &mut told.kinds[0], "cached_tokens", &mut told.cached);
                }
                "completion_tokens_details" | "output_tokens_details" => {
                    return details(scan, &mut told.kinds[1], "reasoning_tokens", &mut told.reasoning);
                }
                "server_tool_use" => return calls(scan, &mut told.calls),
                _ => return scan.skip(),
            };
            *place = count(&scan.scalar()?).or(*place);
            Ok(())
        })?;
        Ok(Some(names.told()))
    }

    /// Providers repeat growing counts (Anthropic's deltas, Gemini's chunks, vLLM's continuous usage), so the
    /// largest of each is the last word, whatever order events come in.
    fn join(&mut self, other: Self) {
        for (mine, new) in [
            (&mut self.input, other.input),
            (&mut self.output, other.output),
            (&mut self.cached, other.cached),
            (&mut self.reasoning, other.reasoning),
            (&mut self.cache_write, other.cache_write),
            (&mut self.calls, other.calls),
            (&mut self.total, other.total),
        ] {
            *mine = (*mine).max(new);
        }
        for (mine, new) in self.kinds.iter_mut().flatten().zip(other.kinds.iter().flatten()) {
            *mine = (*mine).max(*new);
        }
    }

    fn usage(self) -> Usage {
        let (input, output) = (self.input.unwrap_or(0), self.output.unwrap_or(0));
        let sum = input.saturating_add(output);
        let kinds = |[image, audio, video]: [Option<u64>; 3]| Kinds {
            image: image.unwrap_or(0),
            audio: audio.unwrap_or(0),
            video: video.unwrap_or(0),
        };
        Usage {
            input,
            output,
            cached: self.cached.unwrap_or(0),
            reasoning: self.reasoning.unwrap_or(0),
            cache_write: self.cache_write.unwrap_or(0),
            input_kinds: kinds(self.kinds[0]),
            output_kinds: kinds(self.kinds[1]),
            calls: self.calls.unwrap_or(0),
            total: self.total.unwrap_or(sum).max(sum),
            source: UsageSource::Provider,
        }
    }

    fn is_empty(&self) -> bool {
        self.input.is_none() && self.output.is_none() && self.total.is_none()
    }
}

impl Names {
    fn told(self) -> Told {
        let Self { mut told, cache: [read, written], apart: [tools, thoughts] } = self;
        let sum = |counts: &[Option<u64>]| counts.iter().flatten().copied().reduce(u64::saturating_add);
        // Anthropic counts what it cached apart from the input, Gemini what tools were given and what was thought.
        told.input = sum(&[told.input, read, written, tools]).filter(|sum| told.input.is_some() || *sum > 0);
        told.output = sum(&[told.output, thoughts]);
        told.cached = read.or(told.cached);
        told.cache_write = written;
        told.reasoning = thoughts.or(told.reasoning);
        told
    }
}

/// Reads the counts of an object of details, one of them of the side's own, or walks over what is none.
fn details(scan: &mut Scan<'_>, kinds: &mut [Option<u64>; 3], own: &str, place: &mut Option<u64>) -> Result<(), ParseError> {
    if scan.peek() != Some(b'{') {
        return scan.skip();
    }
    scan.object(|scan, name| {
        let value = scan.scalar()?;
        let place = match name.text.as_ref() {
            "image_tokens" => &mut kinds[0],
            "audio_tokens" => &mut kinds[1],
            "video_tokens" => &mut kinds[2],
            name if name == own => &mut *place,
            _ => return Ok(()),
        };
        *place = count(&value).or(*place);
        Ok(())
    })
}

/// Adds up Anthropic's counts of the requests that its own tools made.
fn calls(scan: &mut Scan<'_>, place: &mut Option<u64>) -> Result<(), ParseError> {
    if scan.peek() != Some(b'{') {
        return scan.skip();
    }
    scan.object(|scan, _| {
        if let Some(more) = count(&scan.scalar()?) {
            *place = Some(place.unwrap_or(0).saturating_add(more));
        }
        Ok(())
    })
}

/// A count, written as a whole number or, by some servers, as a float.
fn count(value: &Scalar<'_>) -> Option<u64> {
    let Scalar::Number(number) = value else { return None };
    number.parse().ok().or_else(|| number.parse().ok().filter(|n: &f64| *n >= 0.0).map(|n| n.round() as u64))
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
    /// An event was seen, and one with text that is no fragment as anybody knows it.
    began: bool,
    odd: bool,
}

impl UsageStream {
    /// A collector for a stream of this dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, told: Told::default(), closed: false, text: 0, began: false, odd: false }
    }

    /// Takes the name and the `data` of one event. Says whether it told anything of usage.
    pub fn event(&mut self, event: Option<&str>, data: &str) -> bool {
        if !metered(self.dialect) {
            return false;
        }
        let Some(told) = Told::read(data.as_bytes()) else {
            self.fragments(data);
            return false;
        };
        // Anthropic opens with the input and a first output token; only `message_delta` tells the real output.
        let opening = event == Some("message_start") || event.is_none() && memmem::find(data.as_bytes(), b"\"message_start\"").is_some();
        self.closed |= told.output.is_some() && !opening;
        self.told.join(told);
        if !self.closed {
            self.fragments(data);
        }
        !told.is_empty()
    }

    /// Counts the fragments of one event.
    fn fragments(&mut self, data: &str) {
        let (text, odd) = (&mut self.text, &mut self.odd);
        let read = stream_texts(data.as_bytes(), &mut |part| match part.channel {
            _ if part.kind == Kind::Structural => {}
            Some(_) => *text = text.saturating_add(part.text.len()),
            None => *odd = true,
        });
        self.began |= read.is_ok();
    }

    /// What is known so far. While the provider has not told the output, it is estimated from the text that passed;
    /// a stream that breaks off is never free.
    pub fn usage(&self) -> Usage {
        if self.told.is_empty() {
            // Of an answer that broke off before its first word it is known that it has none.
            return match estimate(0, self.text) {
                Usage { source: UsageSource::None, .. } if self.began && !self.odd => {
                    Usage { source: UsageSource::Estimated, ..Usage::default() }
                }
                estimated => estimated,
            };
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

/// Whether an event is the one with which OpenAI's chats and completions answer `stream_options.include_usage`: usage, and no
/// choice that it would be about.
pub fn stands_alone(data: &str) -> bool {
    let Ok(mut scan) = Scan::new(data.as_bytes()) else { return false };
    let (mut no_choice, mut usage) = (false, false);
    let read = scan.object(|scan, name| match name.text.as_ref() {
        "choices" if scan.peek() == Some(b'[') => {
            no_choice = true;
            scan.array(|scan| {
                no_choice = false;
                scan.skip()
            })
        }
        "usage" => {
            usage = scan.peek() == Some(b'{');
            scan.skip()
        }
        _ => scan.skip(),
    });
    read.is_ok() && no_choice && usage
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
        for event in events {
            stream.event(None, event);
        }
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
        let usage = stream(Dialect::OpenAi, &[r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#]);
        assert_eq!((counts(usage), usage.source), ([0; 5], UsageSource::Estimated), "broken off before its first word");
        assert_eq!(stream(Dialect::OpenAi, &["[DONE]"]), Usage::default());
        assert_eq!(stream(Dialect::Plain, &["x"]), Usage::default());
    }

    #[test]
    fn the_last_chunk_of_a_chat_stands_alone() {
        for (data, alone) in [
            (r#"{"id":"1","choices":[],"usage":{"prompt_tokens":1}}"#, true),
            (r#"{"usage":{"prompt_tokens":1},"choices":[ ]}"#, true),
            (r#"{"choices":[],"usage":null}"#, false),
            (r#"{"choices":[],"prompt_filter_results":[]}"#, false),
            (r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#, false),
            (r#"{"choices":null,"usage":{"prompt_tokens":1}}"#, false),
            (r#"{"usage":{"prompt_tokens":1}}"#, false),
            ("[DONE]", false),
        ] {
            assert_eq!(stands_alone(data), alone, "{data}");
        }
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
