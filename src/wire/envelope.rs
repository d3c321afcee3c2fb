//! The form of a [`Denial`] in each dialect: as a whole answer, or as the last event of a stream.
//!
//! OpenAI's SDKs parse the superset object `{code, message, type, param, request_id, scope?, limit?, reason?,
//! retry_after?}`, extended by the state of the budget that refused (`name`, `cap`, `settled`, `reserved`, `estimate`,
//! `resets_at`). The other dialects carry the same members in their own envelope.

use bytes::Bytes;
use serde::Serialize;
use serde_json::value::RawValue;

use super::endpoint::{Dialect, Endpoint};
use super::sse;
use crate::error::{Denial, Room, codes};

const JSON: &str = "application/json";
/// The error code `HeaderMismatch` of the Model Context Protocol (SEP-2243).
const HEADER_MISMATCH: i32 = -32001;

/// The members that every dialect carries, in the order in which they are written.
#[derive(Serialize)]
struct Members<'a> {
    code: &'a str,
    message: &'a str,
    #[serde(rename = "type")]
    kind: &'a str,
    param: Option<()>,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<u64>,
    /// The state of the budget that refused.
    #[serde(flatten)]
    room: Option<&'a Room>,
}

impl<'a> Members<'a> {
    fn of(denial: &'a Denial, request_id: &'a str, kind: &'a str) -> Self {
        Self {
            code: &denial.code,
            message: &denial.message,
            kind,
            param: None,
            request_id,
            scope: denial.scope,
            limit: denial.limit,
            reason: denial.reason,
            retry_after: denial.retry_after_seconds(),
            room: denial.room.as_deref(),
        }
    }
}

/// OpenAI's envelope, `{"error": …}`.
#[derive(Serialize)]
struct Plain<'a> {
    error: Members<'a>,
}

/// Anthropic's envelope, `{"type":"error","error":…,"request_id"}`.
#[derive(Serialize)]
struct Anthropic<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    error: Members<'a>,
    request_id: &'a str,
}

/// Google's error model, `google.rpc.Status` in JSON.
#[derive(Serialize)]
struct Gemini<'a> {
    error: Status<'a>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u16,
    message: &'a str,
    status: &'static str,
    details: Vec<Detail<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Detail<'a> {
    Info {
        #[serde(rename = "@type")]
        url: &'static str,
        /// `google.rpc.ErrorInfo` requires upper case here; the metadata has the code unchanged.
        reason: String,
        domain: &'static str,
        metadata: Metadata<'a>,
    },
    Retry {
        #[serde(rename = "@type")]
        url: &'static str,
        #[serde(rename = "retryDelay")]
        retry_delay: String,
    },
}

/// `google.rpc.ErrorInfo.metadata` holds strings only.
#[derive(Serialize)]
struct Metadata<'a> {
    code: &'a str,
    request_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scope: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    retry_after: Option<String>,
}

/// The envelope of JSON-RPC 2.0.
#[derive(Serialize)]
struct JsonRpc<'a> {
    jsonrpc: &'static str,
    id: Option<&'a RawValue>,
    error: JsonRpcError<'a>,
}

#[derive(Serialize)]
struct JsonRpcError<'a> {
    /// The HTTP status, which is outside of the range −32768…−32000 that JSON-RPC and MCP reserve; or the code that MCP
    /// defines for the error.
    code: i32,
    message: &'a str,
    data: Members<'a>,
}

/// The `error` event of the Responses API. Its members are at the top level; `error` beside them makes SDKs raise an
/// exception.
#[derive(Serialize)]
struct ResponsesEvent<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    sequence_number: u64,
    code: &'a str,
    message: &'a str,
    param: Option<()>,
    error: Members<'a>,
}

/// The body of a denial and its content type. `jsonrpc_id` is the raw JSON of the request's id, see [`jsonrpc_id`]; `None`
/// is written as null.
pub fn render(dialect: Dialect, denial: &Denial, request_id: &str, jsonrpc_id: Option<&str>) -> (&'static str, Bytes) {
    (JSON, Bytes::from(body(dialect, denial, request_id, jsonrpc_id)))
}

/// The event that ends a stream which was denied after its head had been sent. No `[DONE]` follows it.
pub fn stream_error(dialect: Dialect, endpoint: Endpoint, denial: &Denial, request_id: &str, jsonrpc_id: Option<&str>) -> Bytes {
    let event = match (dialect, endpoint) {
        (Dialect::Anthropic, _) => Some("error"),
        (Dialect::Mcp, _) => Some("message"),
        (Dialect::OpenAi, Endpoint::Responses) => {
            let event = ResponsesEvent {
                kind: "error",
                sequence_number: 0,
                code: &denial.code,
                message: &denial.message,
                param: None,
                error: Members::of(denial, request_id, openai_type(denial)),
            };
            return sse::encode(Some("error"), &json(&event));
        }
        _ => None,
    };
    sse::encode(event, &body(dialect, denial, request_id, jsonrpc_id))
}

fn body(dialect: Dialect, denial: &Denial, request_id: &str, jsonrpc_id: Option<&str>) -> String {
    match dialect {
        Dialect::OpenAi | Dialect::Plain => json(&Plain { error: Members::of(denial, request_id, openai_type(denial)) }),
        Dialect::Anthropic => {
            let error = Members::of(denial, request_id, anthropic_type(denial));
            json(&Anthropic { kind: "error", error, request_id })
        }
        Dialect::Gemini => json(&Gemini { error: status(denial, request_id) }),
        Dialect::Mcp => json(&JsonRpc {
            jsonrpc: "2.0",
            id: jsonrpc_id.and_then(|id| serde_json::from_str(id).ok()),
            error: JsonRpcError {
                code: if denial.code == codes::MCP_HEADER_MISMATCH.code { HEADER_MISMATCH } else { denial.status().into() },
                message: &denial.message,
                data: Members::of(denial, request_id, openai_type(denial)),
            },
        }),
    }
}

/// Structs of strings and numbers always serialise; the fallback only avoids a panic.
fn json<T: Serialize>(value: &T) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| r#"{"error":{"code":"internal_error","message":"internal error"}}"#.to_owned())
}

fn status<'a>(denial: &'a Denial, request_id: &'a str) -> Status<'a> {
    let retry = denial.retry_after_seconds();
    let mut details = vec![Detail::Info {
        url: "type.googleapis.com/google.rpc.ErrorInfo",
        reason: denial.code.to_ascii_uppercase(),
        domain: "odock.edge",
        metadata: Metadata {
            code: &denial.code,
            request_id,
            scope: denial.scope,
            limit: denial.limit,
            reason: denial.reason,
            retry_after: retry.map(|seconds| seconds.to_string()),
        },
    }];
    if let Some(seconds) = retry {
        details.push(Detail::Retry { url: "type.googleapis.com/google.rpc.RetryInfo", retry_delay: format!("{seconds}s") });
    }
    Status { code: denial.status(), message: &denial.message, status: google_status(denial), details }
}

/// OpenAI's error `type` for a status.
fn openai_type(denial: &Denial) -> &'static str {
    match denial.status() {
        401 => "authentication_error",
        402 => "insufficient_quota",
        403 => "permission_error",
        429 => "rate_limit_error",
        500.. => "server_error",
        _ => "invalid_request_error",
    }
}

/// Anthropic's error `type` for a status.
fn anthropic_type(denial: &Denial) -> &'static str {
    match denial.status() {
        401 => "authentication_error",
        402 => "billing_error",
        403 => "permission_error",
        404 => "not_found_error",
        408 | 504 => "timeout_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        503 if denial.code == crate::error::codes::OVERLOADED.code => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    }
}

/// The name in `google.rpc.Code` for a status.
fn google_status(denial: &Denial) -> &'static str {
    match denial.status() {
        401 => "UNAUTHENTICATED",
        402 | 403 => "PERMISSION_DENIED",
        404 => "NOT_FOUND",
        405 => "UNIMPLEMENTED",
        408 | 504 => "DEADLINE_EXCEEDED",
        409 => "ABORTED",
        429 => "RESOURCE_EXHAUSTED",
        499 => "CANCELLED",
        502 | 503 => "UNAVAILABLE",
        500.. => "INTERNAL",
        _ => "INVALID_ARGUMENT",
    }
}

/// The raw JSON of a JSON-RPC request's `id`, to be echoed: only if it is a string or a number.
pub fn jsonrpc_id(body: &[u8]) -> Option<&str> {
    #[derive(serde::Deserialize)]
    struct Call<'a> {
        #[serde(borrow)]
        id: Option<&'a RawValue>,
    }
    let id = serde_json::from_slice::<Call<'_>>(body).ok()?.id?.get();
    (id.len() <= 256 && !id.starts_with(['{', '[', 't', 'f', 'n'])).then_some(id)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::error::codes;
    use serde_json::Value;
    use std::path::Path;
    use std::time::Duration;

    const ID: &str = "0123456789abcdef0123456789abcdef";

    fn denials() -> Vec<(String, Denial)> {
        let mut all: Vec<_> = codes::ALL.iter().map(|code| (code.code.to_owned(), Denial::of(code))).collect();
        let mut limited = Denial::custom(429, "rate_limit_exceeded", "rate limit exceeded").with_retry_after(Duration::from_secs(30));
        limited.scope = Some("api_key");
        limited.limit = Some("requests_per_minute");
        limited.reason = Some("rpm_exceeded");
        all.push(("with_every_member".to_owned(), limited));
        all
    }

    /// One file per dialect and code. `UPDATE_GOLDEN=1` rewrites them.
    #[test]
    fn goldens() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/errors");
        let update = std::env::var_os("UPDATE_GOLDEN").is_some();
        let mut expected_files = std::collections::BTreeSet::new();
        for dialect in Dialect::ALL {
            let folder = root.join(dialect.as_str());
            if update {
                std::fs::create_dir_all(&folder).unwrap();
            }
            for (name, denial) in denials() {
                let (content_type, body) = render(*dialect, &denial, ID, Some("7"));
                let event = stream_error(*dialect, Endpoint::Other, &denial, ID, Some("7"));
                let responses = match dialect {
                    Dialect::OpenAi => stream_error(*dialect, Endpoint::Responses, &denial, ID, None),
                    _ => Bytes::new(),
                };
                let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                let golden = format!(
                    "HTTP {}\ncontent-type: {content_type}\n\n{}\n\nstream:\n{}{}",
                    denial.status(),
                    text(&body),
                    text(&event),
                    text(&responses)
                );
                let file = folder.join(format!("{name}.txt"));
                if update {
                    std::fs::write(&file, &golden).unwrap();
                }
                let found = std::fs::read_to_string(&file).unwrap_or_default();
                assert_eq!(found, golden, "{}: UPDATE_GOLDEN=1 rewrites it", file.display());
                expected_files.insert(file);
            }
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                assert!(expected_files.contains(&path), "{}: no such code any more", path.display());
            }
        }
    }

    #[test]
    fn every_dialect_tells_code_message_and_request_id() {
        for dialect in Dialect::ALL {
            for (name, denial) in denials() {
                let (_, body) = render(*dialect, &denial, ID, None);
                let body: Value = serde_json::from_slice(&body).unwrap();
                let error = &body["error"];
                assert_eq!(error["message"], denial.message.as_ref(), "{name}");
                let (code, id) = match dialect {
                    Dialect::Gemini => (&error["details"][0]["metadata"]["code"], &error["details"][0]["metadata"]["request_id"]),
                    Dialect::Mcp => (&error["data"]["code"], &error["data"]["request_id"]),
                    _ => (&error["code"], &error["request_id"]),
                };
                assert_eq!((code.as_str(), id.as_str()), (Some(denial.code.as_ref()), Some(ID)), "{dialect:?} {name}");
            }
        }
    }

    #[test]
    fn hostile_text_cannot_leave_its_string() {
        let denial = Denial::of(codes::PLUGIN_BLOCKED).with_message("\"}\n\ndata: [DONE]\r\n\u{2028}");
        for dialect in Dialect::ALL {
            let event = stream_error(*dialect, Endpoint::Responses, &denial, ID, Some("}"));
            let mut parser = sse::Parser::new(1 << 16);
            let events: Vec<_> = parser.push(&event).map(Result::unwrap).collect();
            assert_eq!(events.len(), 1);
            assert!(serde_json::from_str::<Value>(&events[0].data).is_ok());
        }
    }

    #[test]
    fn the_id_of_a_call_is_echoed_as_it_was() {
        assert_eq!(jsonrpc_id(br#"{"id": 12345678901234567890.5, "method":"x"}"#), Some("12345678901234567890.5"));
        assert_eq!(jsonrpc_id(br#"{"id":"a\u0062"}"#), Some(r#""a\u0062""#));
        for body in [&br#"{"id":null}"#[..], br#"{"id":{}}"#, br#"{"method":"x"}"#, b"[]", b"\xff"] {
            assert_eq!(jsonrpc_id(body), None);
        }
    }
}
