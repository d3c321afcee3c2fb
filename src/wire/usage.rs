//! The number of tokens that an exchange used: as the provider reported it or, failing that, estimated from its text.

use memchr::{memmem, memrchr_iter};

use super::endpoint::Dialect;
use super::failure;
use super::head::ParseError;
use super::scan::{Scalar, Scan};
use super::texts::{Kind, stream_texts};

/// Where the numbers of a [`Usage`] come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum UsageSource {
    /// Reported by the provider.
    Provider,
    /// Estimated from the length of the text, four bytes a token: the answer broke off, or the provider reported nothing.
    Estimated,
    /// Nothing is known.
    #[default]
    None,
    /// The answer is a failure, whatever its status: nothing was used.
    Failed,
}

impl UsageSource {
    /// The stable name used in evidence.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Provider => "provider",
            Self::Estimated => "estimated",
            Self::None | Self::Failed => "none",
        }
    }
}

/// Tokens of one exchange, normalised across dialects: `input` includes `cached`, `output` includes `reasoning`.
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
    /// Tokens of the prompt that are not text.
    pub input_kinds: Kinds,
    /// Tokens of the answer that are not text.
    pub output_kinds: Kinds,
    /// Calls of the provider's own tools, as far as its usage reports them.
    pub calls: u64,
    /// The total that the provider reported, otherwise `input + output`.
    pub total: u64,
    /// Where the numbers come from.
    pub source: UsageSource,
}

/// Tokens of the prompt or the answer that are not text; all are included in its total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kinds {
    /// Images.
    pub image: u64,
    /// Audio.
    pub audio: u64,
    /// Video.
    pub video: u64,
}

/// The numbers reported by one JSON; members that were absent are `None`.
#[derive(Debug, Clone, Copy, Default)]
struct Told {
    input: Option<u64>,
    output: Option<u64>,
    cached: Option<u64>,
    reasoning: Option<u64>,
    cache_write: Option<u64>,
    /// For the prompt and the answer: images, audio, video.
    kinds: [[Option<u64>; 3]; 2],
    calls: Option<u64>,
    total: Option<u64>,
}

/// The numbers of a usage object, under the names that providers use.
#[derive(Debug, Default)]
struct Names {
    told: Told,
    /// Anthropic: prompt tokens read from the cache and written to it.
    cache: [Option<u64>; 2],
    /// Gemini: prompt tokens for tools, and answer tokens that were reasoning.
    apart: [Option<u64>; 2],
}

impl Told {
    /// Reads the usage in an answer or a stream event.
    fn read(json: &[u8]) -> Option<Self> {
        if let Some(told) = Self::at_the_end(json) {
            return Some(told);
        }
        // Most events of a stream contain no usage: two searches are cheaper than a walk.
        if memmem::find(json, b"sage").is_none() && memmem::find(json, b"_tokens").is_none() {
            return None;
        }
        let mut scan = Scan::new(json).ok()?;
        let told = Self::of_answer(&mut scan, true).ok()?;
        scan.end().ok().and(told)
    }

    /// Reads the usage object if it is a top-level member and only scalars follow it, as in most answers; then the rest of
    /// the document need not be read. `None` only means that it must be.
    fn at_the_end(json: &[u8]) -> Option<Self> {
        const NAME: &[u8] = b"\"usage\":";
        // The letter is rare at the end of an answer, and a search for a single byte is the fastest.
        let at = memrchr_iter(b'u', json).find_map(|u| u.checked_sub(1).filter(|at| json[*at..].starts_with(NAME)))?;
        // Within a string the quote of the name would be escaped.
        if !matches!(json[..at].iter().rev().find(|b| !b.is_ascii_whitespace()), Some(b',' | b'{')) {
            return None;
        }
        let rest = &json[at + NAME.len()..];
        let mut scan = Scan::new(rest).ok()?;
        let told = Self::of_usage(&mut scan).ok()??;
        let (last, between) = scan.rest().trim_ascii_end().split_last()?;
        // One closing brace and no other bracket follow: the usage object is a member of the document's top level.
        let top = *last == b'}' && !between.iter().any(|b| matches!(b, b'{' | b'}' | b'[' | b']'));
        top.then_some(told)
    }

    /// Walks over an answer or an event. With `outer`, its `response` (events of the Responses API contain the whole
    /// answer) or `message` (Anthropic's `message_start`) may contain the usage, too.
    fn of_answer(scan: &mut Scan<'_>, outer: bool) -> Result<Option<Self>, ParseError> {
        let (mut usage, mut inner) = (None, None);
        // The unified endpoint reports its counts without a wrapper.
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

    /// Reads the usage object of OpenAI (both spellings), Anthropic, Gemini and compatible providers; `None` if the value
    /// is not an object.
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

    /// Merges two reports. Providers repeat growing counts (Anthropic's deltas, Gemini's chunks, vLLM's continuous usage),
    /// so the largest of each count is final, whatever the order of events.
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
        let (input, told) = (self.input.unwrap_or(0), self.output.unwrap_or(0));
        let sum = input.saturating_add(told);
        // What is in the total and in none of its parts is nobody's prompt: some count so what was thought, some tell the
        // total alone.
        let output = told.saturating_add(self.total.unwrap_or(sum).saturating_sub(sum));
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
            total: input.saturating_add(output),
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
        // Anthropic counts cached tokens apart from the input; Gemini counts tokens for tools and for reasoning apart.
        told.input = sum(&[told.input, read, written, tools]).filter(|sum| told.input.is_some() || *sum > 0);
        told.output = sum(&[told.output, thoughts]);
        told.cached = read.or(told.cached);
        told.cache_write = written;
        told.reasoning = thoughts.or(told.reasoning);
        told
    }
}

/// Reads an object of details: the counts by kind, and one count with the side's own name. Other values are skipped.
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

/// Adds up Anthropic's counts of requests that its own tools made.
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

/// Dialects whose bodies may contain usage. The JSON of a plain route has no meaning here.
fn metered(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::OpenAi | Dialect::Anthropic | Dialect::Gemini)
}

/// The usage that a whole answer reports; [`UsageSource::None`] if it reports none.
pub fn from_body(dialect: Dialect, body: &[u8]) -> Usage {
    if !metered(dialect) {
        return Usage::default();
    }
    match Told::read(body).filter(|told| !told.is_empty()).map(Told::usage) {
        Some(usage) if usage.total > 0 => usage,
        _ if failure::is_error(body) => Usage::failed(),
        told => told.unwrap_or_default(),
    }
}

/// An estimate from bytes of text, four a token, for a provider that reported nothing.
pub fn estimate(input_bytes: usize, output_bytes: usize) -> Usage {
    let tokens = |bytes: usize| (bytes as u64).div_ceil(4);
    let (input, output) = (tokens(input_bytes), tokens(output_bytes));
    if input + output == 0 {
        return Usage::default();
    }
    Usage { input, output, total: input + output, source: UsageSource::Estimated, ..Usage::default() }
}

impl Usage {
    fn failed() -> Self {
        Self { source: UsageSource::Failed, ..Self::default() }
    }

    /// The same of a request that has no tokens but its prompt's: what was told in sum is what that has.
    pub fn of_prompt(self) -> Self {
        Self { input: self.input.saturating_add(self.output), output: 0, ..self }
    }
}

/// Collects usage from the events of a stream.
#[derive(Debug, Clone)]
pub struct UsageStream {
    dialect: Dialect,
    told: Told,
    /// Whether the final count of the output was reported, and not only an opening one.
    closed: bool,
    /// Bytes of fragments seen, for the estimate; and of those that came after the last word.
    text: usize,
    after: usize,
    /// An event was a failure.
    failed: bool,
    /// An event was seen, and one with text that is no fragment as anybody knows it.
    began: bool,
    odd: bool,
}

impl UsageStream {
    /// A collector for a stream of this dialect.
    pub fn new(dialect: Dialect) -> Self {
        Self { dialect, told: Told::default(), closed: false, text: 0, after: 0, failed: false, began: false, odd: false }
    }

    /// Takes the name and the `data` of an event. Returns whether it reported any usage.
    pub fn event(&mut self, event: Option<&str>, data: &str) -> bool {
        if !metered(self.dialect) {
            return false;
        }
        let Some(told) = Told::read(data.as_bytes()) else {
            self.fragments(data);
            return false;
        };
        // Anthropic's first event reports the input and one output token; only `message_delta` reports the real output.
        let opening = event == Some("message_start") || event.is_none() && memmem::find(data.as_bytes(), b"\"message_start\"").is_some();
        let counted = told.output.is_some() && !opening;
        self.closed |= counted;
        self.told.join(told);
        // Who counts while it speaks has counted what it says there, unless it says that it said nothing.
        if counted && told.output != Some(0) {
            self.after = 0;
        } else {
            self.fragments(data);
        }
        !told.is_empty()
    }

    /// Whether an event of the stream was a failure.
    pub fn failed(&self) -> bool {
        self.failed
    }

    /// Counts the fragments of one event.
    fn fragments(&mut self, data: &str) {
        let before = self.text;
        let (text, odd) = (&mut self.text, &mut self.odd);
        let read = stream_texts(data.as_bytes(), &mut |part| match part.channel {
            _ if part.kind == Kind::Structural => {}
            Some(_) => *text = text.saturating_add(part.text.len()),
            None => *odd = true,
        });
        self.began |= read.is_ok();
        self.after = self.after.saturating_add(self.text - before);
        // What says something is no failure, and most events do.
        if self.text == before && !self.failed {
            self.failed = failure::tells_error(data);
        }
    }

    /// The usage so far. Unless the provider has reported the output, it is estimated from the text that passed: a stream
    /// that breaks off is never free.
    pub fn usage(&self) -> Usage {
        if self.failed && self.text == 0 && self.told.usage().total == 0 {
            return Usage::failed();
        }
        if self.told.is_empty() {
            // An answer that broke off before its first word is known to have used no output.
            return match estimate(0, self.text) {
                Usage { source: UsageSource::None, .. } if self.began && !self.odd => {
                    Usage { source: UsageSource::Estimated, ..Usage::default() }
                }
                estimated => estimated,
            };
        }
        let mut usage = self.told.usage();
        // An answer may go on behind the last that was told of it.
        let estimated = match self.closed {
            true if self.after == 0 => return usage,
            true => usage.output.saturating_add(estimate(0, self.after).output),
            false => estimate(0, self.text).output,
        };
        if estimated > usage.output {
            usage.output = estimated;
            usage.total = usage.input.saturating_add(estimated);
            usage.source = UsageSource::Estimated;
        }
        usage
    }
}

/// Whether an event is OpenAI's answer to `stream_options.include_usage`: usage without any choice.
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
#[path = "usage_test.rs"]
mod tests;
