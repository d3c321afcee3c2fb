//! What an event can say. There is no field for a body, a header or a credential, so no configuration can ask for one.

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

        /// The notes of the manifest: the event's own name, then every field.
        pub const EVIDENCE: &[(&str, &str)] = &[("event", "`request` or `response`"), $(($text, $meaning),)*];
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
    /// What an event says without configuration.
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

    fn of_caller(self, caller: &Caller) -> Option<String> {
        match self {
            Self::Organisation => Some(caller.organisation.name.to_string()),
            Self::Team => caller.team.as_ref().map(|team| team.name.to_string()),
            Self::User => caller.user.as_ref().map(|user| user.name.to_string()),
            Self::ApiKey => Some(caller.key_name.to_string()),
            _ => None,
        }
    }

    /// The value while the request is on its way in.
    pub fn of_request(self, cx: &View<'_>) -> Option<String> {
        match self {
            Self::RequestId => Some(cx.request_id().to_string()),
            Self::Route => Some(cx.route().to_owned()),
            Self::Endpoint => Some(cx.endpoint().as_str().to_owned()),
            Self::Model => cx.model().filter(|name| is_a_name(name)).map(str::to_owned),
            Self::Provider => cx.provider().map(str::to_owned),
            Self::ClientIp => cx.client_ip().map(|ip| ip.to_string()),
            Self::Stream => Some(cx.streaming().to_string()),
            Self::Tags => tags(cx.tags()),
            _ => cx.caller().and_then(|caller| self.of_caller(caller)),
        }
    }

    /// The value when everything is over.
    pub fn of_outcome(self, cx: &PostResponse<'_>) -> Option<String> {
        let outcome = cx.outcome();
        match self {
            Self::RequestId => Some(cx.request_id().to_string()),
            Self::Route => Some(cx.route().to_owned()),
            Self::Endpoint => Some(cx.endpoint().as_str().to_owned()),
            Self::Model => cx.model().filter(|name| is_a_name(name)).map(str::to_owned),
            Self::Provider => cx.provider().map(str::to_owned),
            Self::ClientIp => cx.client_ip().map(|ip| ip.to_string()),
            Self::Stream => Some(cx.streaming().to_string()),
            Self::Tags => tags(cx.tags()),
            Self::Status => Some(cx.status().to_string()),
            Self::Code => outcome.denial.as_ref().map(|denial| denial.code.to_string()),
            Self::End => Some(outcome.end.as_str().to_owned()),
            Self::Attempts => Some(outcome.attempts.to_string()),
            Self::InputTokens => Some(outcome.usage.input.to_string()),
            Self::OutputTokens => Some(outcome.usage.output.to_string()),
            Self::UpstreamMs => outcome.upstream_ms.map(|ms| format!("{ms:.1}")),
            Self::OverheadUs => Some(outcome.overhead_us.to_string()),
            Self::BytesIn => Some(outcome.bytes_in.to_string()),
            Self::BytesOut => Some(outcome.bytes_out.to_string()),
            Self::Plugins => {
                let said = cx.executions().iter().map(|e| format!("{}@{}={}", e.plugin, e.gate.as_str(), e.decision.as_str()));
                Some(said.collect::<Vec<_>>().join(" ")).filter(|text| !text.is_empty())
            }
            Self::Organisation | Self::Team | Self::User | Self::ApiKey => cx.caller().and_then(|caller| self.of_caller(caller)),
        }
    }
}

fn tags(tags: &[(String, String)]) -> Option<String> {
    let pairs: Vec<String> = tags.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!pairs.is_empty()).then(|| pairs.join(" "))
}

/// Until a model is resolved its name is whatever the caller wrote: only what looks like a name is repeated.
fn is_a_name(text: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._:/@+".contains(&b);
    !text.is_empty() && text.len() <= 128 && text.bytes().all(plain)
}
