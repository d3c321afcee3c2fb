//! The fields of an event. There is none for a body, a header or a credential, so no configuration can log these.

use crate::plugin::prelude::*;

macro_rules! fields {
    ($($name:ident $text:literal $meaning:literal;)*) => {
        /// One thing an event can say.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Field {
            $(#[doc = $meaning] $name,)*
        }

        impl Field {
            /// The name in configuration, log and evidence.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }
        }

    };
}

fields! {
    RequestId "request_id" "The gateway's id of the request.";
    Route "route" "The route.";
    Endpoint "endpoint" "Which API was called.";
    Organisation "organisation" "Name of the caller's organisation.";
    Team "team" "Name of the caller's team.";
    User "user" "Name of the caller's user.";
    ApiKey "api_key" "Name of the virtual key, never its secret.";
    Model "model" "The model in force.";
    Provider "provider" "The provider that was chosen.";
    ClientIp "client_ip" "The caller's address.";
    Stream "stream" "Whether the answer is streamed.";
    Status "status" "The status the caller got.";
    Code "code" "The code of the refusal.";
    End "end" "In what way it ended.";
    Attempts "attempts" "Attempts at providers.";
    InputTokens "input_tokens" "Tokens of the prompt.";
    OutputTokens "output_tokens" "Tokens of the answer.";
    UpstreamMs "upstream_ms" "Milliseconds spent waiting for the provider.";
    OverheadUs "overhead_us" "Microseconds that were the gateway's.";
    BytesIn "bytes_in" "Body bytes from the caller.";
    BytesOut "bytes_out" "Body bytes to the caller.";
    Tags "tags" "Tags that steps attached.";
    Plugins "plugins" "What the steps of the chain decided.";
}

impl Field {
    /// The default fields of an event.
    pub const USUAL: [Self; 14] = [
        Self::RequestId,
        Self::Route,
        Self::Endpoint,
        Self::Organisation,
        Self::Team,
        Self::User,
        Self::ApiKey,
        Self::Model,
        Self::Provider,
        Self::Stream,
        Self::Status,
        Self::Code,
        Self::InputTokens,
        Self::OutputTokens,
    ];

    /// Whether the evidence record already contains this field, so that a note would only repeat it. Of the caller, the
    /// record contains ids, not names.
    pub fn is_on_record(self) -> bool {
        !matches!(self, Self::Organisation | Self::Team | Self::User | Self::ApiKey | Self::ClientIp)
    }

    fn of_caller(self, caller: &Caller) -> Option<Said<'_>> {
        let name = match self {
            Self::Organisation => Some(&caller.organisation.name),
            Self::Team => caller.team.as_ref().map(|team| &team.name),
            Self::User => caller.user.as_ref().map(|user| &user.name),
            Self::ApiKey => Some(&caller.key_name),
            _ => None,
        };
        name.map(|name| Said::Text(name))
    }

    /// The field's value while the request is being processed.
    pub fn of_request<'v>(self, cx: &'v View<'_>) -> Option<Said<'v>> {
        match self {
            Self::RequestId => Some(Said::Id(cx.request_id())),
            Self::Route => Some(Said::Text(cx.route())),
            Self::Endpoint => Some(Said::Text(cx.endpoint().as_str())),
            Self::Model => cx.model().filter(|name| is_a_name(name)).map(Said::Text),
            Self::Provider => cx.provider().map(Said::Text),
            Self::ClientIp => cx.client_ip().map(|ip| Said::Made(ip.to_string())),
            Self::Stream => Some(Said::flag(cx.streaming())),
            Self::Tags => tags(cx.tags()),
            _ => cx.caller().and_then(|caller| self.of_caller(caller)),
        }
    }

    /// The field's value after the request is over.
    pub fn of_outcome<'v>(self, cx: &'v PostResponse<'_>) -> Option<Said<'v>> {
        let outcome = cx.outcome();
        match self {
            Self::RequestId => Some(Said::Id(cx.request_id())),
            Self::Route => Some(Said::Text(cx.route())),
            Self::Endpoint => Some(Said::Text(cx.endpoint().as_str())),
            Self::Model => cx.model().filter(|name| is_a_name(name)).map(Said::Text),
            Self::Provider => cx.provider().map(Said::Text),
            Self::ClientIp => cx.client_ip().map(|ip| Said::Made(ip.to_string())),
            Self::Stream => Some(Said::flag(cx.streaming())),
            Self::Tags => tags(cx.tags()),
            Self::Status => Some(Said::Made(cx.status().to_string())),
            Self::Code => outcome.denial.as_ref().map(|denial| Said::Text(&denial.code)),
            Self::End => Some(Said::Text(outcome.end.as_str())),
            Self::Attempts => Some(Said::Made(outcome.attempts.to_string())),
            Self::InputTokens => Some(Said::Made(outcome.usage.input.to_string())),
            Self::OutputTokens => Some(Said::Made(outcome.usage.output.to_string())),
            Self::UpstreamMs => outcome.upstream_ms.map(|ms| Said::Made(format!("{ms:.1}"))),
            Self::OverheadUs => Some(Said::Made(outcome.overhead_us.to_string())),
            Self::BytesIn => Some(Said::Made(outcome.bytes_in.to_string())),
            Self::BytesOut => Some(Said::Made(outcome.bytes_out.to_string())),
            Self::Plugins => {
                let said = cx.executions().iter().map(|e| format!("{}@{}={}", e.plugin, e.gate.as_str(), e.decision.as_str()));
                Some(said.collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty()).map(Said::Made)
            }
            Self::Organisation | Self::Team | Self::User | Self::ApiKey => cx.caller().and_then(|caller| self.of_caller(caller)),
        }
    }
}

/// A field's value; mostly borrowed from the request.
pub enum Said<'v> {
    Text(&'v str),
    Id(RequestId),
    Made(String),
}

impl Said<'_> {
    fn flag(value: bool) -> Self {
        Self::Text(if value { "true" } else { "false" })
    }

    /// Writes the value as a field of a log line.
    pub fn tell(&self, name: &str, line: &mut LogFields<'_, '_>) {
        match self {
            Self::Text(text) => line.text(name, text),
            Self::Id(id) => line.hex(name, &id.0),
            Self::Made(text) => line.text(name, text),
        }
    }

    /// The value as an owned text.
    pub fn into_text(self) -> String {
        match self {
            Self::Text(text) => text.to_owned(),
            Self::Id(id) => id.to_string(),
            Self::Made(text) => text,
        }
    }
}

fn tags(tags: &[(String, String)]) -> Option<Said<'static>> {
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!pairs.is_empty()).then(|| Said::Made(pairs.join(" ")))
}

/// Whether a text looks like a name. Until a model is resolved its name is whatever the caller wrote, and only what looks
/// like a name is logged.
fn is_a_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:/@+".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(plain)
}
