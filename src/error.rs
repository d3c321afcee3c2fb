//! Refusals as callers see them: one [`Denial`] value, whichever part of the gateway refused, and the one table of stable
//! codes from which `explain`, the README and the golden bodies are derived.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

/// A stable code with its default status and text. Codes are a contract: callers' scripts match on them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// The value of `error.code`.
    pub code: &'static str,
    /// The HTTP status it is sent with unless a plugin chose another.
    pub status: u16,
    /// The value of `error.message`; never contains anything from the request.
    pub message: &'static str,
    /// When the code is used, for `explain` and the README.
    pub meaning: &'static str,
    /// What the caller or the operator can do.
    pub remedy: &'static str,
}

macro_rules! codes {
    ($($konst:ident = $status:literal $code:literal, $message:literal, $meaning:literal, $remedy:literal;)*) => {
        $(#[doc = $meaning] pub const $konst: &Code = &Code { code: $code, status: $status, message: $message, meaning: $meaning, remedy: $remedy };)*
        /// Every code the gateway itself can answer with, ordered by status.
        pub const ALL: &[&Code] = &[$($konst),*];
    };
}

/// The table of codes, one line each; every list of codes elsewhere is derived from it.
pub mod codes {
    use super::Code;
    codes! {
        BAD_FRAMING = 400 "invalid_request_framing", "the request is framed ambiguously",
            "The request head could be read in two ways: Content-Length with Transfer-Encoding, or two Content-Length fields. (What is no HTTP at all, a bare CR or a folded line, is answered with an empty 400.)",
            "Send exactly one of Content-Length or Transfer-Encoding: chunked, and no line folding.";
        INVALID_BODY = 400 "invalid_request_body", "the request body could not be read",
            "The body ended early, or its bytes are not what its framing promised.", "Send the whole body; check proxies between the caller and the gateway.";
        INVALID_MCP_REF = 400 "invalid_mcp_ref", "the path names no MCP server",
            "A path such as `/v1/mcp/` has no server in it.", "Call `/v1/mcp/NAME`.";
        MCP_HEADER_MISMATCH = 400 "mcp_header_mismatch", "HeaderMismatch: the Mcp-Method or Mcp-Name header does not say what the body says",
            "A header that repeats what an MCP message asks for names another method, tool, prompt or resource than its body, or the body has several messages. JSON-RPC code -32001.", "Send the headers as the body has them, or leave them out.";
        INVALID_REQUEST = 400 "invalid_request", "the request is not valid for this endpoint",
            "The body is not the JSON this endpoint takes. A guarded route refuses what it cannot parse.", "Compare the body with the provider's API reference.";
        MODEL_NOT_FOUND = 400 "model_not_found", "no such model",
            "The organisation has no model of this name.", "Use a model name of the organisation; `organisations[].models` lists them.";
        PROVIDER_NOT_CONFIGURED = 400 "provider_not_configured", "the model has no provider",
            "The model names no provider that the configuration knows.", "Set `provider` of the model.";
        PROVIDER_KEY_NOT_CONFIGURED = 400 "provider_api_key_not_configured", "the provider has no usable credential",
            "The provider needs a credential and none is configured.", "Set `api_key` of the provider.";
        PROVIDER_TYPE_UNSUPPORTED = 400 "provider_type_unsupported", "this endpoint cannot be served by the model's provider",
            "The provider's type has no such endpoint.", "Call an endpoint of the provider's family.";
        PROVIDER_NOT_ALLOWED = 400 "provider_not_allowed", "the model belongs to another provider family",
            "A native endpoint was called with a model of another family.", "Call the endpoint of the model's own family.";
        UNAUTHORIZED = 401 "unauthorized", "missing or unknown API key",
            "The key is missing, malformed or unknown.", "Send a virtual key as `Authorization: Bearer`, `x-api-key` or `x-goog-api-key`.";
        KEY_EXPIRED = 401 "api_key_expired", "API key has expired",
            "The key is known and past its expiry.", "Rotate the key, or move its expiry.";
        KEY_REVOKED = 401 "api_key_revoked", "API key has been revoked",
            "The key is known and revoked.", "Unrevoke it, or use another.";
        BUDGET_EXCEEDED = 402 "budget_exceeded", "budget exceeded",
            "A budget of the organisation, team, user or key has no room for what this request may cost; `scope` and `name` say whose and which, `cap`, `settled`, `reserved`, `estimate` (nano-USD) and `resets_at` how it stands.", "Raise the budget, wait for its next window, or ask for fewer tokens.";
        MCP_GUARDRAIL_BLOCK = 403 "mcp_guardrail_block", "the MCP server's rules do not permit this",
            "The tool is blocked or not among the allowed ones, or a blocked keyword stands in the request.", "Compare `allowed_tools`, `blocked_tools` and `blocked_keywords` of the server.";
        MCP_NOT_ALLOWED = 403 "mcp_not_allowed", "MCP server not allowed",
            "The MCP server exists in the organisation and is not granted to this key, or is for another team or key.", "Grant the server to the key.";
        MODEL_NOT_ALLOWED = 403 "model_not_allowed", "model not allowed",
            "The model exists in the organisation and is not granted to this key.", "Grant the model to the key.";
        IP_NOT_ALLOWED = 403 "ip_not_allowed", "address not allowed",
            "A network policy refuses the caller's address.", "Call from an allowed network.";
        PROVIDER_DISABLED = 403 "provider_disabled", "the provider is switched off",
            "The provider of the model is disabled.", "Enable it, or use a model of another provider.";
        SAFETY_BLOCKED = 403 "safety_blocked", "blocked by content safety",
            "SafetySec blocked the content.", "The evidence record of the request id names the module.";
        PLUGIN_BLOCKED = 403 "plugin_blocked", "blocked by policy",
            "A plugin of the route's chain refused and named no code of its own.", "The evidence record of the request id names the plugin.";
        MCP_NOT_FOUND = 404 "mcp_not_found", "no such MCP server",
            "The organisation has no MCP server of this name, or it is switched off.", "Use a name of `organisations[].mcp_servers`.";
        ROUTE_NOT_FOUND = 404 "route_not_found", "no such route",
            "No route of this listener matches host, path, method and headers.", "Check the path; `routes` lists what is served.";
        METHOD_NOT_ALLOWED = 405 "method_not_allowed", "method not allowed",
            "The path exists and not for this method.", "Use the documented method.";
        REQUEST_TIMEOUT = 408 "request_timeout", "the request body did not arrive in time",
            "The whole body must arrive within `server.body_timeout`.", "Send faster, or raise the timeout.";
        BODY_TOO_LARGE = 413 "request_too_large", "the request body is larger than this gateway accepts",
            "The body exceeds `server.max_request_body`.", "Send less, or raise the limit.";
        RATE_LIMITED = 429 "rate_limit_exceeded", "rate limit exceeded",
            "A policy of the gateway, the organisation, the team, the key or the model refuses; `scope`, `limit` and `reason` say which.", "Wait for the time in Retry-After, or ask the operator for a higher limit.";
        QUOTA_EXCEEDED = 429 "quota_exceeded", "quota exceeded",
            "A quota of the organisation, team, user or key has no room for what this request may use; `scope`, `limit` and `name` say which, `cap`, `settled`, `reserved`, `estimate` and `resets_at` how it stands.", "Wait for the time in Retry-After, or raise the quota.";
        CALLER_GONE = 499 "client_closed_request", "the caller went away",
            "The connection was closed before the answer was complete. Seen in evidence and metrics, never on the wire.", "Nothing to do on the gateway.";
        INTERNAL = 500 "internal_error", "internal error",
            "A defect of the gateway.", "Report it with the request id.";
        MCP_AUTH_ERROR = 502 "mcp_auth_error", "the MCP server's credential is not available",
            "The server asks for a credential and the reference in `auth` could not be resolved.", "Set the variable or file that `auth` refers to.";
        MCP_UPSTREAM_FAILED = 502 "mcp_upstream_error", "the MCP server could not be reached or gave an unusable answer",
            "The server did not answer, or the answer broke off before anything was sent.", "Look at the server, at `endpoint_url` and at gateway_provider_errors_total.";
        UPSTREAM_FAILED = 502 "upstream_error", "the provider could not be reached or gave an unusable answer",
            "No candidate answered, or the answer broke off before anything was sent.", "Look at the provider's status and at gateway_provider_errors_total.";
        ANSWER_TOO_LARGE = 502 "held_response_too_large", "the answer is larger than this gateway may hold for inspection",
            "The route's chain must read the whole answer and it exceeds `server.max_held_response`.", "Raise the limit, or set `held_response: {overflow: allow}` on the route.";
        ANSWER_UNREADABLE = 502 "upstream_unreadable", "the answer could not be decoded for inspection",
            "The route's chain or SafetySec must read the answer, and its encoding is unknown or broken, it is only a part of one, or it is not the JSON or the text that it says it is.", "Let the provider answer with identity or gzip.";
        OVERLOADED = 503 "overloaded", "the gateway is at its limit, try again",
            "More requests are in flight than `server.max_concurrent_requests`.", "Retry after the time in Retry-After; scale out.";
        PLUGIN_UNAVAILABLE = 503 "plugin_unavailable", "a required check is unavailable",
            "A plugin with `on_error: deny` failed, panicked or ran out of time.", "Look at gateway_plugin_errors_total, or set `on_error: allow`.";
        STORE_UNAVAILABLE = 503 "store_unavailable", "a required store is unavailable",
            "A store that the decision needs did not answer. Never shown as 401.", "Restore the store; the gateway recovers by itself.";
        UPSTREAM_TIMEOUT = 504 "upstream_timeout", "the provider did not answer in time",
            "The provider exceeded its `timeout`.", "Raise the timeout of the provider, or retry.";
    }

    /// Finds a code by its name.
    pub fn find(code: &str) -> Option<&'static Code> {
        ALL.iter().copied().find(|c| c.code == code)
    }
}

/// A refusal, ready to be sent: a status of 4xx or 5xx, a stable code and a text that is safe to show.
///
/// It is rendered in one place (`proxy::respond`) in the caller's own dialect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    status: u16,
    /// Stable and machine-readable, `[a-z0-9_]`.
    pub code: Cow<'static, str>,
    /// For people; contains nothing of prompt, answer, key or rule.
    pub message: Cow<'static, str>,
    /// After what time a retry makes sense; sent as `Retry-After` in whole seconds, rounded up.
    pub retry_after: Option<Duration>,
    /// Which scope refused (`api_key`, `organisation`, …), where that matters.
    pub scope: Option<&'static str>,
    /// The policy field that refused (`requests_per_minute`, …).
    pub limit: Option<&'static str>,
    /// The specific code behind a general one (`rpm_exceeded`, …).
    pub reason: Option<&'static str>,
    /// The state of the budget or quota that refused.
    pub room: Option<Box<Room>>,
}

/// The state of a budget or quota that refuses. Amounts are in its unit: nano-USD, tokens, requests or milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Room {
    /// The name of the budget or quota.
    pub name: String,
    /// The most that its window may hold.
    pub cap: i64,
    /// What finished requests have used.
    pub settled: i64,
    /// What requests under way have reserved.
    pub reserved: i64,
    /// What this request would reserve.
    pub estimate: i64,
    /// The end of the window, RFC 3339.
    pub resets_at: String,
}

impl Denial {
    /// The denial for a code, with its default status and text.
    pub fn of(code: &Code) -> Self {
        Self {
            status: code.status,
            code: Cow::Borrowed(code.code),
            message: Cow::Borrowed(code.message),
            retry_after: None,
            scope: None,
            limit: None,
            reason: None,
            room: None,
        }
    }

    /// A denial with a plugin's own status, code and text. A status outside 400–599 becomes 403, an empty or malformed code
    /// becomes `plugin_blocked`: a typo in a plugin must not turn a refusal into a success.
    pub fn custom(status: u16, code: &str, message: &str) -> Self {
        let mut denial = Self::of(codes::PLUGIN_BLOCKED);
        if (400..=599).contains(&status) {
            denial.status = status;
        }
        let well_formed =
            !code.is_empty() && code.len() <= 64 && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
        if well_formed {
            denial.code = Cow::Owned(code.to_owned());
        }
        if !message.is_empty() {
            denial.message = Cow::Owned(message.chars().filter(|c| !c.is_control()).take(300).collect());
        }
        denial
    }

    /// The HTTP status, always 400–599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Replaces the text by a more specific one.
    pub fn with_message(mut self, message: impl Into<Cow<'static, str>>) -> Self {
        self.message = message.into();
        self
    }

    /// Sets the time after which a retry makes sense.
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// `Retry-After` in whole seconds, rounded up.
    pub fn retry_after_seconds(&self) -> Option<u64> {
        self.retry_after.map(|d| d.as_secs() + u64::from(d.subsec_nanos() > 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_by_status_and_safe_to_send() {
        let mut seen = std::collections::HashSet::new();
        for pair in codes::ALL.windows(2) {
            assert!(pair[0].status <= pair[1].status, "{} stands before {}", pair[0].code, pair[1].code);
        }
        for code in codes::ALL {
            assert!(seen.insert(code.code), "{} twice", code.code);
            assert!((400..=599).contains(&code.status));
            assert_eq!(Denial::custom(code.status, code.code, code.message), Denial::of(code));
        }
    }

    #[test]
    fn a_plugin_cannot_abort_into_a_success() {
        for status in [0, 100, 200, 302, 399, 600, 999] {
            assert_eq!(Denial::custom(status, "", "").status(), 403);
        }
        let odd = Denial::custom(451, "Has Space", "line\nbreak");
        assert_eq!((odd.status(), odd.code.as_ref(), odd.message.as_ref()), (451, "plugin_blocked", "linebreak"));
    }

    #[test]
    fn retry_after_is_rounded_up() {
        let denial = Denial::of(codes::OVERLOADED).with_retry_after(Duration::from_millis(1200));
        assert_eq!(denial.retry_after_seconds(), Some(2));
    }
}
