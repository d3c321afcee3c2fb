//! What a case file holds.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::gate::{Gate, Style};
use crate::plugin::{Mode, Need, OnError, StorageScope};

/// One request for one instance, and what should come of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What the case shows.
    pub name: String,
    /// The instance's `config`.
    #[serde(default)]
    pub config: Value,
    /// What the operator grants.
    #[serde(default)]
    pub grant: Grants,
    /// Storage scopes the operator grants.
    #[serde(default)]
    pub storage_access: Vec<StorageScope>,
    /// `deny` or `allow`.
    #[serde(default)]
    pub on_error: OnError,
    /// `enforce` or `observe`.
    #[serde(default)]
    pub mode: Mode,
    /// Milliseconds; 1000 without.
    pub timeout_ms: Option<u64>,
    /// How it is listed; `sequential`, or what the manifest has.
    pub style: Option<Style>,
    /// Who calls.
    #[serde(default)]
    pub caller: CallerCase,
    /// The route's name.
    pub route: Option<String>,
    /// The provider that was chosen.
    pub provider: Option<String>,
    /// The request.
    #[serde(default)]
    pub request: RequestCase,
    /// The gates to run, in order; all of the manifest's without.
    pub gates: Option<Vec<Gate>>,
    /// The provider's answer.
    pub response: Option<ResponseCase>,
    /// What systems outside answer, call by call; none is reachable when they run out.
    #[serde(default)]
    pub replies: Vec<Reply>,
    /// What happens apart from requests, after the gates.
    #[serde(default)]
    pub notices: Vec<NoticeCase>,
    /// What should come of it.
    #[serde(default)]
    pub expect: Expect,
    /// A need that is taken away to see whether it matters.
    #[serde(skip)]
    pub(super) withheld: Option<Need>,
}

/// `grant:` of a case.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// As in a configuration.
    pub network: Vec<String>,
    /// Secrets with their values.
    pub secrets: BTreeMap<String, String>,
    /// `false` takes the need away.
    pub headers: Option<bool>,
}

/// Who calls.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CallerCase {
    /// `true`: a route without authentication.
    pub anonymous: bool,
    /// Name and id of the key; `key-1` without.
    pub key: Option<String>,
    /// Name and id of the organisation; `acme` without.
    pub organisation: Option<String>,
    /// Its metadata.
    pub metadata: BTreeMap<String, String>,
    /// Name and id of the team.
    pub team: Option<String>,
    /// Its metadata.
    pub team_metadata: BTreeMap<String, String>,
    /// Name and id of the user.
    pub user: Option<String>,
    /// Its metadata.
    pub user_metadata: BTreeMap<String, String>,
    /// The models it may use.
    pub models: Vec<String>,
}

/// The request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RequestCase {
    /// `POST` without.
    pub method: Option<String>,
    /// `/v1/chat/completions` without.
    pub path: Option<String>,
    /// The head.
    pub headers: BTreeMap<String, String>,
    /// A text is taken as it is, anything else as JSON; `model` and `stream` of JSON become facts.
    pub body: Value,
}

/// The answer.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ResponseCase {
    /// 200 without.
    pub status: Option<u16>,
    /// The head.
    pub headers: BTreeMap<String, String>,
    /// The body, as for requests.
    pub body: Value,
    /// The events, of a streamed answer.
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

/// What a system outside answers.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The head.
    pub headers: BTreeMap<String, String>,
    /// The body, as for requests.
    pub body: Value,
    /// Milliseconds before it answers.
    pub after_ms: u64,
    /// It cannot be reached.
    pub unreachable: bool,
}

/// Something that no request shows.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoticeCase {
    /// `budget.threshold` or `quota.threshold`.
    pub event: String,
    /// The same for the same happening.
    #[serde(default)]
    pub id: String,
    /// The tenant's id.
    pub organisation: Option<String>,
    /// What it is about.
    #[serde(default)]
    pub subject: String,
    /// Facts by name.
    #[serde(default)]
    pub facts: serde_json::Map<String, Value>,
}

/// What should come of it; what is left out may be anything.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Expect {
    /// `next` (without) or `abort`.
    pub verdict: Option<String>,
    /// The code of the refusal.
    pub code: Option<String>,
    /// The status of the refusal.
    pub status: Option<u16>,
    /// A part of why the configuration is refused; then nothing runs.
    pub build_error: Option<String>,
    /// The decision of the last entry.
    pub decision: Option<String>,
    /// The request body: a text byte for byte, anything else as JSON.
    pub body: Option<Value>,
    /// The model in force.
    pub model: Option<String>,
    /// Edits of the head towards the provider, all of them; `null` is a removal.
    pub headers: Option<BTreeMap<String, Option<String>>>,
    /// Edits of the head towards the caller, all of them.
    pub response_headers: Option<BTreeMap<String, Option<String>>>,
    /// Tags, all of them.
    pub tags: Option<BTreeMap<String, String>>,
    /// The answer's body.
    pub response_body: Option<Value>,
    /// The answer's events.
    pub response_stream: Option<Vec<FrameCase>>,
    /// Notes, at least these.
    pub notes: BTreeMap<String, String>,
    /// What was sent outside, call by call.
    pub sent: Option<Vec<SentCase>>,
    /// What was handed to the outbox, and what became of one attempt at it.
    pub deliveries: Option<Vec<DeliveryCase>>,
}

/// One delivery.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeliveryCase {
    /// Its destination.
    pub destination: Option<String>,
    /// Its ordering key.
    pub ordering_key: Option<String>,
    /// Its body.
    pub body: Option<Value>,
    /// `done`, `retry`, `dead` or `disable`.
    pub outcome: Option<String>,
}

/// One call to a system outside.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SentCase {
    /// The whole URL.
    pub url: String,
    /// Fields, at least these.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Option<Value>,
}
