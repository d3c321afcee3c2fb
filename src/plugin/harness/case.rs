//! The format of case files.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::gate::{Gate, Style};
use crate::plugin::{Mode, Need, OnError, StorageScope};

/// One request for one instance, and the expected result.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows.
    pub name: String,
    /// The instance's `config`.
    #[serde(default)]
    pub config: Value,
    /// The operator's grants.
    #[serde(default)]
    pub grant: Grants,
    /// The storage scopes that the operator grants.
    #[serde(default)]
    pub storage_access: Vec<StorageScope>,
    /// `deny` or `allow`.
    #[serde(default)]
    pub on_error: OnError,
    /// `enforce` or `observe`.
    #[serde(default)]
    pub mode: Mode,
    /// The timeout in milliseconds; 1000 by default.
    pub timeout_ms: Option<u64>,
    /// The style in which it is listed; by default the first that its manifest has for the gate.
    pub style: Option<Style>,
    /// The caller.
    #[serde(default)]
    pub caller: CallerCase,
    /// The route's name.
    pub route: Option<String>,
    /// The provider that was chosen.
    pub provider: Option<String>,
    /// The request.
    #[serde(default)]
    pub request: RequestCase,
    /// The gates to run, in order; by default all gates of the manifest.
    pub gates: Option<Vec<Gate>>,
    /// The provider's answer.
    pub response: Option<ResponseCase>,
    /// The answers of external systems, call by call; after the last one, none is reachable.
    #[serde(default)]
    pub replies: Vec<Reply>,
    /// Notices after the gates.
    #[serde(default)]
    pub notices: Vec<NoticeCase>,
    /// The expected result.
    #[serde(default)]
    pub expect: Expect,
    /// A need that is withheld to see whether the case uses it.
    #[serde(skip)]
    pub(super) withheld: Option<Need>,
}

/// `grant:` of a case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// Hosts, as in a configuration.
    pub network: Vec<String>,
    /// Secrets with their values.
    pub secrets: BTreeMap<String, String>,
    /// `false` withdraws the need `headers`.
    pub headers: Option<bool>,
}

/// The caller.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallerCase {
    /// `true` for a route without authentication.
    pub anonymous: bool,
    /// Name and id of the key; `key-1` by default.
    pub key: Option<String>,
    /// Name and id of the organisation; `acme` by default.
    pub organisation: Option<String>,
    /// The organisation's metadata.
    pub metadata: BTreeMap<String, String>,
    /// Name and id of the team.
    pub team: Option<String>,
    /// The team's metadata.
    pub team_metadata: BTreeMap<String, String>,
    /// Name and id of the user.
    pub user: Option<String>,
    /// The user's metadata.
    pub user_metadata: BTreeMap<String, String>,
    /// The models that the key may use.
    pub models: Vec<String>,
}

/// The request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestCase {
    /// The method; `POST` by default.
    pub method: Option<String>,
    /// The path; `/v1/chat/completions` by default.
    pub path: Option<String>,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body: a text as it is, anything else as JSON. `model` and `stream` of a JSON body become facts.
    pub body: Value,
}

/// The answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseCase {
    /// The status; 200 by default.
    pub status: Option<u16>,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body, as for requests.
    pub body: Value,
    /// The events of a streamed answer.
    pub stream: Option<Vec<FrameCase>>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FrameCase {
    /// `event:`.
    pub event: Option<String>,
    /// `data:`.
    pub data: String,
}

/// The answer of an external system.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: BTreeMap<String, String>,
    /// The body, as for requests.
    pub body: Value,
    /// The delay before the answer (ms).
    pub after_ms: u64,
    /// Whether the system is unreachable.
    pub unreachable: bool,
}

/// A notice.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeCase {
    /// `budget.threshold` or `quota.threshold`.
    pub event: String,
    /// The id of the occurrence.
    #[serde(default)]
    pub id: String,
    /// The id of the organisation.
    pub organisation: Option<String>,
    /// The name of what it concerns.
    #[serde(default)]
    pub subject: String,
    /// Facts by name.
    #[serde(default)]
    pub facts: serde_json::Map<String, Value>,
}

/// The expected result; what is missing is not checked.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// `next` (the default) or `abort`.
    pub verdict: Option<String>,
    /// The code of the refusal.
    pub code: Option<String>,
    /// The status of the refusal.
    pub status: Option<u16>,
    /// A part of the error with which the configuration is refused; nothing runs then.
    pub build_error: Option<String>,
    /// The decision of the last execution.
    pub decision: Option<String>,
    /// The request body: a text byte for byte, anything else as JSON.
    pub body: Option<Value>,
    /// The model in use.
    pub model: Option<String>,
    /// All edits of the head sent to the provider; `null` is a removal.
    pub headers: Option<BTreeMap<String, Option<String>>>,
    /// All edits of the head sent to the caller.
    pub response_headers: Option<BTreeMap<String, Option<String>>>,
    /// All tags.
    pub tags: Option<BTreeMap<String, String>>,
    /// The answer's body.
    pub response_body: Option<Value>,
    /// The answer's events.
    pub response_stream: Option<Vec<FrameCase>>,
    /// Notes; others may be there too.
    pub notes: BTreeMap<String, String>,
    /// The calls to external systems, in order.
    pub sent: Option<Vec<SentCase>>,
    /// The deliveries that were submitted, with the results of one attempt each.
    pub deliveries: Option<Vec<DeliveryCase>>,
}

/// One delivery.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryCase {
    /// The destination.
    pub destination: Option<String>,
    /// The ordering key.
    pub ordering_key: Option<String>,
    /// The body.
    pub body: Option<Value>,
    /// The result: `done`, `retry`, `dead` or `disable`.
    pub outcome: Option<String>,
}

/// One call to an external system.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentCase {
    /// The whole URL.
    pub url: String,
    /// Headers; others may be there too.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Option<Value>,
}
