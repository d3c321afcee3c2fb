//! The configuration under `config:`, and its compiled form.

use std::num::NonZeroUsize;

use super::ruling::{Offsets, Ruling};
use crate::plugin::prelude::*;
use wire::{Kind, Pointer};

/// Configuration of `http_callout`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where to ask, e.g. `https://opa.internal:8181/v1/data/odock/request`; its host and port in `grant.network`.
    url: String,
    /// What leaves the gateway.
    #[serde(default)]
    send: Send,
    /// Which texts are shown, or digested; all kinds without.
    #[serde(default = "every_kind")]
    texts: Vec<TextKind>,
    /// The most text of one body that is let out, bytes; a body with more is a failure, never a part of it.
    #[serde(default = "most_content")]
    max_content: usize,
    /// Name of a secret in `grant.secrets` that is sent as the credential.
    token: Option<String>,
    /// The field it is sent in. In `authorization` it is a bearer token, elsewhere it stands by itself.
    #[serde(default = "authorization")]
    token_header: String,
    /// Name of a secret in `grant.secrets`: digests are HMACs under it, so that nobody can try texts out against them.
    digest_key: Option<String>,
    /// How long to wait for the answer. The instance's `timeout` counts as well.
    #[serde(default = "call_timeout")]
    timeout: Span,
    /// What `start` and `end` of a span count.
    #[serde(default)]
    offsets: Offsets,
    /// What stands in place of a redacted span that names nothing else.
    #[serde(default = "replacement")]
    replacement: String,
    /// Whether the caller is told the reason of a refusal.
    #[serde(default = "yes")]
    show_reason: bool,
    /// What of a `transform` is done; anything else in one is a failure.
    #[serde(default)]
    permit: Permit,
    /// How long rulings are remembered.
    #[serde(default)]
    remember: Remember,
    /// What is done with streamed answers.
    #[serde(default)]
    streams: Streams,
}

/// What leaves the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Send {
    /// Who calls what; nothing about the body but its length.
    Facts,
    /// The same with the digest of each text.
    #[default]
    Digests,
    /// The same with the texts themselves.
    Content,
}

/// What is done with streamed answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Streams {
    /// They are held until there is a ruling.
    #[default]
    Hold,
    /// Requests for them are refused with `stream_not_allowed`.
    Refuse,
}

/// A kind of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TextKind {
    /// Words of a user or a model.
    Content,
    /// Arguments of tool calls.
    ToolArguments,
    /// What tools answered.
    ToolResult,
    /// Names, descriptions and schemas of tools.
    ToolDefinition,
    /// System and developer text.
    Instruction,
    /// Input of endpoints without messages.
    Input,
    /// Names of files.
    FileName,
    /// Anything else a person can have written.
    Metadata,
}

impl TextKind {
    const ALL: [Self; 8] = [
        Self::Content,
        Self::ToolArguments,
        Self::ToolResult,
        Self::ToolDefinition,
        Self::Instruction,
        Self::Input,
        Self::FileName,
        Self::Metadata,
    ];

    fn kind(self) -> Kind {
        match self {
            Self::Content => Kind::Content,
            Self::ToolArguments => Kind::ToolArguments,
            Self::ToolResult => Kind::ToolResult,
            Self::ToolDefinition => Kind::ToolDefinition,
            Self::Instruction => Kind::Instruction,
            Self::Input => Kind::Input,
            Self::FileName => Kind::FileName,
            Self::Metadata => Kind::Metadata,
        }
    }
}

/// What of a `transform` is done.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Permit {
    /// Another model, at `pre_route`.
    pub model: bool,
    /// Tags with these keys.
    pub tags: Vec<String>,
    /// Headers of these names: towards the provider on the way in, towards the caller on the way back.
    pub headers: Vec<String>,
    /// Members of the body at and below these JSON pointers.
    pub fields: Vec<String>,
}

/// How long rulings are remembered.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Remember {
    /// `0s`: not at all.
    ttl: Span,
    /// How many; the one unused for longest goes first.
    capacity: usize,
}

impl Default for Remember {
    fn default() -> Self {
        Self { ttl: Span::seconds(0), capacity: 10_000 }
    }
}

fn every_kind() -> Vec<TextKind> {
    TextKind::ALL.to_vec()
}

fn most_content() -> usize {
    1 << 20
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn call_timeout() -> Span {
    Span::seconds(5)
}

fn replacement() -> String {
    "[redacted]".to_owned()
}

fn yes() -> bool {
    true
}

/// A cache of rulings.
pub struct Memory {
    pub kept: Remembered<Arc<Ruling>>,
    pub ttl: Duration,
}

/// The compiled configuration.
pub struct Rules {
    pub destination: Destination,
    pub send: Send,
    kinds: Vec<Kind>,
    pub most_content: usize,
    pub digester: Digester,
    pub offsets: Offsets,
    pub replacement: String,
    pub show_reason: bool,
    pub permit: Permit,
    pub memory: Option<Memory>,
    pub streams: Streams,
}

impl Config {
    /// Compiles the configuration, and checks everything that can be checked before there is a request.
    pub fn compile(self, cx: &BuildContext<'_>) -> Result<Rules, BuildError> {
        let host = &cx.host;
        let receiver = Receiver { url: self.url, token: self.token, token_header: self.token_header, timeout: self.timeout };
        let destination = receiver.open("", host)?;
        let secret = |key: &str, name: &str| host.secret(name).map_err(|error| BuildError::at(key, error.to_string()));
        let digest_key = self.digest_key.as_ref().map(|name| secret("digest_key", name)).transpose()?;
        if digest_key.as_ref().is_some_and(|key| key.expose().len() < 16) {
            return Err(BuildError::at("digest_key", "the secret is shorter than 16 bytes"));
        }
        for (place, pointer) in self.permit.fields.iter().enumerate() {
            let first = Pointer::parse(pointer).map(|pointer| pointer.first().to_owned());
            match first.as_deref() {
                None => return Err(BuildError::at(format!("permit.fields.{place}"), "a JSON pointer begins with /")),
                Some("model" | "stream") => {
                    return Err(BuildError::at(format!("permit.fields.{place}"), "model and stream steer the request: permit `model`"));
                }
                Some(_) => {}
            }
        }
        if self.texts.is_empty() {
            return Err(BuildError::at("texts", "no kind of text; to show none, `send: facts`"));
        }
        let capacity = NonZeroUsize::new(self.remember.capacity).filter(|capacity| capacity.get() <= 1_000_000);
        let capacity = capacity.ok_or_else(|| BuildError::at("remember.capacity", "1 to 1000000"))?;
        let ttl = self.remember.ttl.0;
        let memory = (!ttl.is_zero()).then(|| Memory { kept: Remembered::new(capacity), ttl });
        Ok(Rules {
            destination,
            send: self.send,
            kinds: self.texts.iter().map(|kind| kind.kind()).collect(),
            most_content: self.max_content,
            digester: Digester::new(digest_key.as_ref()),
            offsets: self.offsets,
            replacement: self.replacement,
            show_reason: self.show_reason,
            permit: self.permit,
            memory,
            streams: self.streams,
        })
    }
}

impl Rules {
    /// Whether texts of this kind are sent.
    pub fn takes(&self, kind: Kind) -> bool {
        self.kinds.contains(&kind)
    }
}
