//! The vocabulary of a brief's structured fields.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which traffic a brief is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Traffic {
    /// Everything.
    #[serde(alias = "all")]
    Any,
    /// Every call of a model.
    #[serde(alias = "models")]
    Llm,
    /// Chat, messages, responses.
    Chat,
    /// Text completion.
    Completions,
    /// Embeddings.
    Embeddings,
    /// Images.
    Images,
    /// Sound.
    Audio,
    /// Streamed answers.
    #[serde(alias = "streaming")]
    Streams,
    /// Calls of MCP servers.
    #[serde(alias = "tools")]
    Mcp,
}

/// When something has to happen, in the product's public words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Moment {
    /// Before bytes leave for the provider.
    #[serde(alias = "before")]
    BeforeUpstream,
    /// After the provider answered, before the caller sees it.
    #[serde(alias = "after_upstream_response", alias = "on_answer")]
    AfterUpstream,
    /// When everything is over.
    #[serde(alias = "after", alias = "evidence")]
    AfterResponse,
    /// The writer does not know.
    Unsure,
}

/// What a plugin does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Refuses.
    #[serde(alias = "deny", alias = "refuse", alias = "allow")]
    Block,
    /// Refuses from an amount on.
    #[serde(alias = "cap", alias = "throttle")]
    Limit,
    /// Removes sensitive values.
    #[serde(alias = "mask")]
    Redact,
    /// Changes content in another way.
    #[serde(alias = "rewrite", alias = "mutate")]
    Transform,
    /// Sets headers.
    #[serde(alias = "headers")]
    SetHeaders,
    /// Attaches tags, which go to usage and evidence.
    #[serde(alias = "tags", alias = "enrich")]
    Tag,
    /// Puts something on record.
    #[serde(alias = "observe", alias = "count", alias = "inspect")]
    Note,
    /// Asks a system outside before it goes on.
    #[serde(alias = "approve")]
    Ask,
    /// Tells a system outside.
    #[serde(alias = "notify", alias = "export", alias = "send")]
    Deliver,
    /// Chooses another model or provider.
    #[serde(alias = "route")]
    Reroute,
}

/// What a system outside is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemKind {
    /// A security information system.
    Siem,
    /// Long-term storage.
    #[serde(alias = "storage")]
    Archive,
    /// Anything that takes HTTP events.
    Webhook,
    /// Mail.
    #[serde(alias = "mail")]
    Email,
    /// A chat system people read.
    Chat,
    /// A warehouse or analytics product.
    #[serde(alias = "warehouse", alias = "database")]
    Analytics,
    /// A policy decision point.
    #[serde(alias = "policy")]
    PolicyEngine,
    /// A service that finds what must not leave.
    Dlp,
    /// A system in which people approve.
    Approval,
    /// Tickets and change requests.
    Ticketing,
    /// Customer data.
    Crm,
    /// Who is who.
    Identity,
    /// Something else.
    #[default]
    Other,
}

/// What a system outside does for a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemRole {
    /// Its answer decides.
    Decides,
    /// Its answer is attached.
    Informs,
    /// It is told.
    Receives,
}

macro_rules! data {
    ($($(#[$doc:meta])* $name:ident = $text:literal),* $(,)?) => {
        /// A thing that can be known about a request.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
        pub enum Datum {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl Datum {
            /// The spelling in a brief.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }
    };
}
data! {
    /// Name of the organisation.
    Organisation = "caller.organisation",
    /// Name of the team.
    Team = "caller.team",
    /// Name of the user.
    User = "caller.user",
    /// Name of the key.
    Key = "caller.key",
    /// The caller's address.
    Address = "caller.address",
    /// What is stored about the organisation beside its name.
    OrganisationMetadata = "organisation.metadata",
    /// What is stored about the team.
    TeamMetadata = "team.metadata",
    /// What is stored about the user.
    UserMetadata = "user.metadata",
    /// The gateway's id of the request.
    RequestId = "request.id",
    /// The trace it belongs to.
    TraceId = "request.trace",
    /// The route.
    Route = "request.route",
    /// Which API.
    Endpoint = "request.endpoint",
    /// The model.
    Model = "request.model",
    /// The provider.
    Provider = "request.provider",
    /// What is said to the model, or to a tool.
    RequestContent = "request.content",
    /// The caller's headers.
    RequestHeaders = "request.headers",
    /// How large it is, in bytes or tokens asked for.
    RequestSize = "request.size",
    /// How often somebody calls.
    RequestRate = "request.rate",
    /// How many calls are under way.
    Concurrency = "request.concurrency",
    /// The answer's status.
    Status = "response.status",
    /// What the model, or the tool, says.
    ResponseContent = "response.content",
    /// The provider's headers.
    ResponseHeaders = "response.headers",
    /// Tokens.
    Tokens = "usage.tokens",
    /// Money.
    Cost = "usage.cost",
    /// How many requests over days or months.
    Requests = "usage.requests",
    /// How long it took.
    Latency = "usage.latency",
    /// How it ended.
    Outcome = "outcome",
    /// What plugins and controls decided.
    Decisions = "decisions",
    /// What earlier steps attached.
    Tags = "tags",
    /// The MCP server.
    McpServer = "mcp.server",
    /// The tool.
    McpTool = "mcp.tool",
    /// What a tool is called with.
    McpArguments = "mcp.arguments",
    /// How a server describes its tools.
    McpDescription = "mcp.description",
    /// Whether a provider answers, how fast, at what price.
    ProviderHealth = "provider.health",
    /// The clock.
    Time = "time",
}

impl Datum {
    /// Whether it is text that people or models wrote.
    pub fn is_content(self) -> bool {
        matches!(self, Self::RequestContent | Self::ResponseContent | Self::McpArguments)
    }

    /// Stored beside the caller's name.
    pub fn is_metadata(self) -> bool {
        matches!(self, Self::OrganisationMetadata | Self::TeamMetadata | Self::UserMetadata)
    }
}

/// Something that a plugin changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Texts of the request.
    RequestContent,
    /// Texts of the answer.
    ResponseContent,
    /// The model.
    Model,
    /// A header sent to the provider.
    RequestHeader(String),
    /// A header sent to the caller.
    ResponseHeader(String),
    /// A tag.
    Tag(String),
}

impl Write {
    /// All forms, for messages.
    pub const FORMS: &str = "request.content, response.content, request.model, request.header.NAME, response.header.NAME, tag.NAME";

    fn parse(text: &str) -> Option<Self> {
        let named = |prefix: &str| text.strip_prefix(prefix).filter(|name| !name.is_empty()).map(str::to_owned);
        match text {
            "request.content" => Some(Self::RequestContent),
            "response.content" => Some(Self::ResponseContent),
            "request.model" => Some(Self::Model),
            _ => named("request.header.")
                .map(|name| Self::RequestHeader(name.to_ascii_lowercase()))
                .or_else(|| named("response.header.").map(|name| Self::ResponseHeader(name.to_ascii_lowercase())))
                .or_else(|| named("tag.").map(Self::Tag)),
        }
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RequestContent => f.write_str("request.content"),
            Self::ResponseContent => f.write_str("response.content"),
            Self::Model => f.write_str("request.model"),
            Self::RequestHeader(name) => write!(f, "request.header.{name}"),
            Self::ResponseHeader(name) => write!(f, "response.header.{name}"),
            Self::Tag(name) => write!(f, "tag.{name}"),
        }
    }
}

impl<'de> Deserialize<'de> for Write {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("what can be written is {}", Self::FORMS)))
    }
}

impl Serialize for Write {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl JsonSchema for Write {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Write".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(request\\.content|response\\.content|request\\.model|request\\.header\\..+|response\\.header\\..+|tag\\..+)$"
        })
    }
}
