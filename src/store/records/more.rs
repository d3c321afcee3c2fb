//! The fields that packed usage records have had since version 2 of their format: circumstances that are rarely read and
//! that many records lack.

use super::packed::{Read, maybe, number, text};

/// The fields added in version 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct More<'a> {
    /// The model that the caller asked for, if another one answered.
    pub requested_model: Option<&'a str>,
    /// The HTTP method.
    pub method: Option<&'a str>,
    /// What the record's units are, such as pages or images.
    pub unit_kind: Option<&'a str>,
    /// The transport to the MCP server.
    pub transport: Option<&'a str>,
    /// The owner whose limit refused.
    pub scope: Option<&'a str>,
    /// The limit that refused.
    pub limit: Option<&'a str>,
    /// The gate at which a plugin refused.
    pub gate: Option<&'a str>,
    /// The SafetySec module with the most severe decision…
    pub safety_module: Option<&'a str>,
    /// …and that decision.
    pub safety_decision: Option<&'a str>,
    /// From the start of the upstream's work to the head of its answer, milliseconds.
    pub upstream_ms: u64,
    /// Bytes of the upstream's answer.
    pub received_bytes: u64,
    /// Tokens of images, audio and video in the prompt; tokens written to the provider's cache; tokens of images, audio and
    /// video in the answer; tool calls.
    pub kinds: [u64; 8],
    /// The tags, as written by [`tag`].
    pub tags: &'a [u8],
    /// The plugin executions, as written by [`run`].
    pub runs: &'a [u8],
    /// The prices in force in nano-USD, each stored plus one, so that 0 stands for "no price": those of a model in the
    /// order of `details::PRICES`, or the three of an MCP server.
    pub prices: [u64; 17],
}

impl<'a> More<'a> {
    pub(super) fn pack(&self, out: &mut Vec<u8>) {
        for value in [
            self.requested_model,
            self.method,
            self.unit_kind,
            self.transport,
            self.scope,
            self.limit,
            self.gate,
            self.safety_module,
            self.safety_decision,
        ] {
            maybe(out, value);
        }
        number(out, self.upstream_ms);
        number(out, self.received_bytes);
        for n in self.kinds {
            number(out, n);
        }
        for blob in [self.tags, self.runs] {
            number(out, blob.len() as u64);
            out.extend_from_slice(blob);
        }
        // Trailing positions without a price are left out.
        let priced = self.prices.iter().rposition(|price| *price > 0).map_or(0, |last| last + 1);
        out.push(priced as u8);
        for price in &self.prices[..priced] {
            number(out, *price);
        }
    }

    pub(super) fn unpack(read: &mut Read<'a>) -> Option<Self> {
        let mut more = Self::default();
        for field in [
            &mut more.requested_model,
            &mut more.method,
            &mut more.unit_kind,
            &mut more.transport,
            &mut more.scope,
            &mut more.limit,
            &mut more.gate,
            &mut more.safety_module,
            &mut more.safety_decision,
        ] {
            *field = read.maybe()?;
        }
        more.upstream_ms = read.number()?;
        more.received_bytes = read.number()?;
        for field in &mut more.kinds {
            *field = read.number()?;
        }
        for field in [&mut more.tags, &mut more.runs] {
            *field = read.blob()?;
        }
        let priced = usize::from(read.byte()?);
        for field in more.prices.get_mut(..priced)? {
            *field = read.number()?;
        }
        Some(more)
    }

    /// The tags that plugins attached: name and value.
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let mut read = Read(self.tags);
        std::iter::from_fn(move || Some((read.text()?, read.text()?)))
    }

    /// The plugin executions: plugin, gate and microseconds.
    pub fn runs(&self) -> impl Iterator<Item = (&'a str, &'a str, u64)> + use<'a> {
        let mut read = Read(self.runs);
        std::iter::from_fn(move || Some((read.text()?, read.text()?, read.number()?)))
    }
}

/// Appends a tag to the bytes of [`More::tags`].
pub fn tag(out: &mut Vec<u8>, name: &str, value: &str) {
    text(out, name);
    text(out, value);
}

/// Appends an execution to the bytes of [`More::runs`].
pub fn run(out: &mut Vec<u8>, plugin: &str, gate: &str, micros: u64) {
    text(out, plugin);
    text(out, gate);
    number(out, micros);
}
