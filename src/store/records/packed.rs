//! The compact binary form of a usage record, in which it waits in the spool and is kept by the embedded store.
//!
//! Every request writes one, so it is written directly: numbers as LEB128, texts with their length before them, and only
//! those details that cannot be derived from other fields. The JSON of the details is built when a record is read.

use super::more::More;
use super::{UsageRecord, details};

/// The version of the format that this build writes.
const VERSION: u8 = 2;
/// The previous version, without [`More`].
const FIRST: u8 = 1;
const STREAM: u8 = 1;
const PRICED: u8 = 2;
const TEXT_DETAILS: u8 = 4;

/// A usage record that borrows its texts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Usage<'a> {
    /// When the request ended, milliseconds since the Unix epoch.
    pub at: i64,
    /// Whether the answer was a stream.
    pub stream: bool,
    /// The status sent to the caller.
    pub status: u16,
    /// From the first byte of the request to its end, milliseconds.
    pub latency_ms: u64,
    /// The gateway's own share of that time, microseconds.
    pub overhead_us: u64,
    /// Tokens read, cached ones included.
    pub input_tokens: u64,
    /// Tokens read from the provider's cache.
    pub cached_tokens: u64,
    /// Tokens written, reasoning included.
    pub output_tokens: u64,
    /// Output tokens for reasoning, which the caller does not see.
    pub reasoning_tokens: u64,
    /// All tokens billed.
    pub total_tokens: u64,
    /// Units that are not tokens.
    pub units: u64,
    /// What it cost, nano-USD; `None` without a price.
    pub cost_nanos: Option<i64>,
    /// Identifier of the organisation.
    pub organisation: &'a str,
    /// Identifier of the key.
    pub key: &'a str,
    /// Identifier of the team.
    pub team: Option<&'a str>,
    /// Identifier of the user.
    pub user: Option<&'a str>,
    /// The provider.
    pub provider: Option<&'a str>,
    /// The model.
    pub model: Option<&'a str>,
    /// The endpoint.
    pub endpoint: &'a str,
    /// How the request ended.
    pub end: &'a str,
    /// The code of the refusal, if it was refused.
    pub code: Option<&'a str>,
    /// Where the token numbers come from.
    pub usage_source: &'a str,
    /// The provider's own id.
    pub provider_request_id: Option<&'a str>,
    /// W3C trace id.
    pub trace_id: Option<&'a str>,
    /// The rest of the record.
    pub details: Details<'a>,
    /// Names of the plugins that ran, each followed by a line feed.
    pub plugins: &'a str,
}

/// The details of a record, as JSON or as the fields from which the JSON is built.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "one lives while a record is written: a box would cost each request an allocation")]
pub enum Details<'a> {
    /// The JSON object.
    Text(&'a str),
    /// The fields.
    Parts(Parts<'a>),
}

impl Default for Details<'_> {
    fn default() -> Self {
        Self::Text("{}")
    }
}

/// The circumstances of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Parts<'a> {
    /// Name of the route.
    pub route: &'a str,
    /// The caller's `User-Agent`.
    pub user_agent: Option<&'a str>,
    /// Number of attempts at providers.
    pub attempts: u64,
    /// Bytes of the request's body.
    pub request_bytes: u64,
    /// Bytes of the answer's body.
    pub response_bytes: u64,
    /// Tokens of embeddings, part of the input tokens.
    pub embeddings_tokens: u64,
    /// The cost by class and the prices in force.
    pub billing: Option<Billing>,
    /// The fields since version 2.
    pub more: More<'a>,
}

/// The cost of a request and the prices of 1,000 tokens at that time, all in nano-USD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Billing {
    /// Cost of input tokens.
    pub input: u64,
    /// Cost of cached input tokens.
    pub cached_input: u64,
    /// Cost of output tokens.
    pub output: u64,
    /// Cost of embeddings.
    pub embeddings: u64,
    /// Cost of tools.
    pub tool: u64,
    /// Cost of units.
    pub units: u64,
    /// Total cost.
    pub total: u64,
    /// The price of 1,000 input tokens.
    pub input_per_1k: u64,
    /// The price of 1,000 output tokens.
    pub output_per_1k: u64,
    /// The discount on cached input tokens, percent.
    pub cached_discount_percent: u64,
}

pub(super) fn number(out: &mut Vec<u8>, mut n: u64) {
    // Most numbers are small.
    if n < 0x80 {
        return out.push(n as u8);
    }
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

/// A buffer on the stack for consecutive numbers, so that they are appended to the record in one go.
struct Numbers {
    bytes: [u8; Self::MOST],
    len: usize,
}

impl Numbers {
    /// More than the consecutive numbers of one record need.
    const MOST: usize = 192;

    fn new() -> Self {
        Self { bytes: [0; Self::MOST], len: 0 }
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.len) {
            *place = byte;
            self.len += 1;
        }
    }

    fn number(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.byte(n as u8 | 0x80);
            n >>= 7;
        }
        self.byte(n as u8);
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[..self.len]);
    }
}

pub(super) fn text(out: &mut Vec<u8>, text: &str) {
    number(out, text.len() as u64 + 1);
    out.extend_from_slice(text.as_bytes());
}

pub(super) fn maybe(out: &mut Vec<u8>, value: Option<&str>) {
    match value {
        Some(value) => text(out, value),
        None => out.push(0),
    }
}

impl<'a> Usage<'a> {
    /// Appends the record.
    pub fn pack(&self, out: &mut Vec<u8>) {
        let flag = |on: bool, bit: u8| if on { bit } else { 0 };
        let written = matches!(self.details, Details::Text(_));
        out.reserve(320);
        let mut head = Numbers::new();
        head.byte(VERSION);
        head.byte(flag(self.stream, STREAM) | flag(self.cost_nanos.is_some(), PRICED) | flag(written, TEXT_DETAILS));
        // Times before 1970 and negative costs do not occur; they would be written as 0.
        head.number(self.at.max(0).unsigned_abs());
        for n in [
            u64::from(self.status),
            self.latency_ms,
            self.overhead_us,
            self.input_tokens,
            self.cached_tokens,
            self.output_tokens,
            self.reasoning_tokens,
            self.total_tokens,
            self.units,
        ] {
            head.number(n);
        }
        if let Some(cost) = self.cost_nanos {
            head.number(cost.max(0).unsigned_abs());
        }
        head.write(out);
        text(out, self.organisation);
        text(out, self.key);
        for value in [self.team, self.user, self.provider, self.model] {
            maybe(out, value);
        }
        text(out, self.endpoint);
        text(out, self.end);
        maybe(out, self.code);
        text(out, self.usage_source);
        maybe(out, self.provider_request_id);
        maybe(out, self.trace_id);
        text(out, self.plugins);
        match &self.details {
            Details::Text(json) => text(out, json),
            Details::Parts(parts) => parts.pack(out),
        }
    }

    /// Reads a record; `None` if another build wrote it in an unknown format.
    pub fn unpack(bytes: &'a [u8]) -> Option<Self> {
        let mut read = Read(bytes);
        let version = read.byte()?;
        if version != VERSION && version != FIRST {
            return None;
        }
        let flags = read.byte()?;
        let (at, status) = (i64::try_from(read.number()?).ok()?, u16::try_from(read.number()?).ok()?);
        let mut usage = Usage { at, status, stream: flags & STREAM != 0, ..Usage::default() };
        for field in [
            &mut usage.latency_ms,
            &mut usage.overhead_us,
            &mut usage.input_tokens,
            &mut usage.cached_tokens,
            &mut usage.output_tokens,
            &mut usage.reasoning_tokens,
            &mut usage.total_tokens,
            &mut usage.units,
        ] {
            *field = read.number()?;
        }
        if flags & PRICED != 0 {
            usage.cost_nanos = Some(i64::try_from(read.number()?).ok()?);
        }
        usage.organisation = read.text()?;
        usage.key = read.text()?;
        for field in [&mut usage.team, &mut usage.user, &mut usage.provider, &mut usage.model] {
            *field = read.maybe()?;
        }
        usage.endpoint = read.text()?;
        usage.end = read.text()?;
        usage.code = read.maybe()?;
        usage.usage_source = read.text()?;
        usage.provider_request_id = read.maybe()?;
        usage.trace_id = read.maybe()?;
        usage.plugins = read.text()?;
        usage.details = match flags & TEXT_DETAILS {
            0 => Details::Parts(Parts::unpack(&mut read, version)?),
            _ => Details::Text(read.text()?),
        };
        Some(usage)
    }

    /// The `at` of a packed record, without reading the rest.
    pub fn at(bytes: &[u8]) -> Option<i64> {
        let mut read = Read(bytes);
        matches!(read.byte()?, VERSION | FIRST).then_some(())?;
        read.byte()?;
        i64::try_from(read.number()?).ok()
    }

    /// The names of the plugins that ran.
    pub fn ran(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        self.plugins.split_terminator('\n')
    }

    /// The record as an owned row.
    pub fn row(&self, id: u128) -> UsageRecord {
        let own = |text: Option<&str>| text.map(str::to_owned);
        UsageRecord {
            request_id: format!("{id:032x}"),
            at: self.at,
            organisation: self.organisation.to_owned(),
            key: self.key.to_owned(),
            team: own(self.team),
            user: own(self.user),
            provider: own(self.provider),
            model: own(self.model),
            endpoint: self.endpoint.to_owned(),
            stream: self.stream,
            status: self.status,
            end: self.end.to_owned(),
            code: own(self.code),
            usage_source: self.usage_source.to_owned(),
            latency_ms: self.latency_ms,
            overhead_us: self.overhead_us,
            input_tokens: self.input_tokens,
            cached_tokens: self.cached_tokens,
            output_tokens: self.output_tokens,
            reasoning_tokens: self.reasoning_tokens,
            total_tokens: self.total_tokens,
            units: self.units,
            cost_nanos: self.cost_nanos,
            provider_request_id: own(self.provider_request_id),
            trace_id: own(self.trace_id),
            details: match &self.details {
                Details::Text(json) => (*json).to_owned(),
                Details::Parts(parts) => details::json(parts, self),
            },
            plugins: self.ran().map(str::to_owned).collect(),
        }
    }

    /// A row as a borrowed record. `plugins` is the buffer in which the names of plugins are joined.
    pub fn of_row(row: &'a UsageRecord, plugins: &'a mut String) -> Self {
        for name in &row.plugins {
            plugins.push_str(name);
            plugins.push('\n');
        }
        Usage {
            at: row.at,
            stream: row.stream,
            status: row.status,
            latency_ms: row.latency_ms,
            overhead_us: row.overhead_us,
            input_tokens: row.input_tokens,
            cached_tokens: row.cached_tokens,
            output_tokens: row.output_tokens,
            reasoning_tokens: row.reasoning_tokens,
            total_tokens: row.total_tokens,
            units: row.units,
            cost_nanos: row.cost_nanos,
            organisation: &row.organisation,
            key: &row.key,
            team: row.team.as_deref(),
            user: row.user.as_deref(),
            provider: row.provider.as_deref(),
            model: row.model.as_deref(),
            endpoint: &row.endpoint,
            end: &row.end,
            code: row.code.as_deref(),
            usage_source: &row.usage_source,
            provider_request_id: row.provider_request_id.as_deref(),
            trace_id: row.trace_id.as_deref(),
            details: Details::Text(&row.details),
            plugins,
        }
    }
}

impl<'a> Parts<'a> {
    fn pack(&self, out: &mut Vec<u8>) {
        text(out, self.route);
        maybe(out, self.user_agent);
        let mut numbers = Numbers::new();
        for n in [self.attempts, self.request_bytes, self.response_bytes, self.embeddings_tokens] {
            numbers.number(n);
        }
        numbers.byte(self.billing.is_some().into());
        if let Some(b) = &self.billing {
            for n in [b.input, b.cached_input, b.output, b.embeddings, b.tool, b.units, b.total] {
                numbers.number(n);
            }
            for n in [b.input_per_1k, b.output_per_1k, b.cached_discount_percent] {
                numbers.number(n);
            }
        }
        numbers.write(out);
        self.more.pack(out);
    }

    fn unpack(read: &mut Read<'a>, version: u8) -> Option<Self> {
        let mut parts = Self { route: read.text()?, user_agent: read.maybe()?, ..Self::default() };
        for field in [&mut parts.attempts, &mut parts.request_bytes, &mut parts.response_bytes, &mut parts.embeddings_tokens] {
            *field = read.number()?;
        }
        if read.byte()? != 0 {
            let mut b = Billing::default();
            for field in [&mut b.input, &mut b.cached_input, &mut b.output, &mut b.embeddings, &mut b.tool, &mut b.units, &mut b.total] {
                *field = read.number()?;
            }
            for field in [&mut b.input_per_1k, &mut b.output_per_1k, &mut b.cached_discount_percent] {
                *field = read.number()?;
            }
            parts.billing = Some(b);
        }
        if version != FIRST {
            parts.more = More::unpack(read)?;
        }
        Some(parts)
    }
}

/// The unread rest of a packed record.
pub(super) struct Read<'a>(pub &'a [u8]);

impl<'a> Read<'a> {
    pub fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut n = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            n |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(n);
            }
        }
        None
    }

    pub fn maybe(&mut self) -> Option<Option<&'a str>> {
        let Some(length) = usize::try_from(self.number()?).ok()?.checked_sub(1) else { return Some(None) };
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok().map(Some)
    }

    pub fn text(&mut self) -> Option<&'a str> {
        self.maybe()?
    }

    pub fn blob(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        let (blob, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(blob)
    }
}

/// Packed records under way to the store, in the order in which the requests ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UsageBatch {
    bytes: Vec<u8>,
    records: usize,
}

/// Bytes before each record: the request id and the length.
const HEAD: usize = 16 + 4;

impl UsageBatch {
    /// Appends the packed record of a request.
    pub fn push(&mut self, id: u128, packed: &[u8]) {
        self.bytes.extend_from_slice(&id.to_le_bytes());
        self.bytes.extend_from_slice(&u32::try_from(packed.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.bytes.extend_from_slice(packed);
        self.records += 1;
    }

    /// The batch whose [`Self::bytes`] these are.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        let records = Each(&bytes).count();
        Self { bytes, records }
    }

    /// Number of records.
    pub fn len(&self) -> usize {
        self.records
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// All records with their ids, in the form of the spool.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// [`Self::bytes`], owned.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// Request ids with their packed records.
    pub fn iter(&self) -> impl Iterator<Item = (u128, &[u8])> {
        Each(&self.bytes)
    }
}

struct Each<'a>(&'a [u8]);

impl<'a> Iterator for Each<'a> {
    type Item = (u128, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.0.split_at_checked(HEAD)?;
        let id = u128::from_le_bytes(head[..16].try_into().ok()?);
        let length = u32::from_le_bytes(head[16..].try_into().ok()?) as usize;
        let (packed, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((id, packed))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
#[path = "packed_test.rs"]
mod tests;
