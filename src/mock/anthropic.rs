//! Answers in Anthropic's shapes.

use bytes::Bytes;

use super::ask::Ask;
use super::reply::{Answer, Body, Content, Quoted, Reply, json};

fn whole(status: u16, body: Vec<u8>) -> Answer {
    Answer { status, content_type: "application/json", id_header: "request-id", body: Body::Whole(body.into()) }
}

/// The error object for a status.
pub fn error(status: u16, message: &str) -> Answer {
    let kind = match status {
        401 => "authentication_error",
        403 => "permission_error",
        404 => "not_found_error",
        413 => "request_too_large",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        500.. => "api_error",
        _ => "invalid_request_error",
    };
    let mut out = Vec::with_capacity(160);
    json!(
        &mut out,
        r#"{"type":"error","error":{"type":"#,
        Quoted(kind),
        r#","message":"#,
        Quoted(message),
        r#"},"request_id":"req_mock"}"#
    );
    whole(status, out)
}

/// `/v1/messages/count_tokens`
pub fn count_tokens(ask: &Ask<'_>) -> Answer {
    let mut out = Vec::with_capacity(32);
    json!(&mut out, r#"{"input_tokens":"#, ask.tokens(), "}");
    whole(200, out)
}

/// `/v1/messages`
pub fn message(ask: &Ask<'_>, reply: &Reply) -> Answer {
    if ask.streams() {
        let body = Body::Events(message_events(ask, reply));
        return Answer { status: 200, content_type: "text/event-stream", id_header: "request-id", body };
    }
    let mut out = Vec::with_capacity(512 + reply.output_tokens() * 4);
    json!(&mut out, r#"{"id":"msg_mock","type":"message","role":"assistant","model":"#, ask.model_json(), r#","content":["#);
    let stop = match &reply.content {
        Content::Text(text) => {
            json!(&mut out, r#"{"type":"text","text":"#, Quoted(text), "}");
            "end_turn"
        }
        Content::ToolCall { name, arguments } => {
            json!(&mut out, r#"{"type":"tool_use","id":"toolu_mock","name":"#, Quoted(name), r#","input":"#, arguments.as_str(), "}");
            "tool_use"
        }
    };
    json!(&mut out, r#"],"stop_reason":"#, Quoted(stop), r#","stop_sequence":null,"usage":{"input_tokens":"#, reply.input_tokens);
    json!(&mut out, r#","output_tokens":"#, reply.output_tokens(), "}}");
    whole(200, out)
}

fn message_events(ask: &Ask<'_>, reply: &Reply) -> Vec<Bytes> {
    let event = |name: &str, rest: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::with_capacity(192);
        json!(&mut out, "event: ", name, "\ndata: {\"type\":", Quoted(name));
        rest(&mut out);
        json!(&mut out, "}\n\n");
        Bytes::from(out)
    };
    let start = |out: &mut Vec<u8>| {
        json!(out, r#","message":{"id":"msg_mock","type":"message","role":"assistant","model":"#, ask.model_json());
        json!(
            out,
            r#","content":[],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":"#,
            reply.input_tokens,
            r#","output_tokens":1}}"#
        );
    };
    let (delta, member, stop) = match reply.content {
        Content::Text(_) => ("text_delta", r#","text":"#, "end_turn"),
        Content::ToolCall { .. } => ("input_json_delta", r#","partial_json":"#, "tool_use"),
    };
    let mut events = Vec::with_capacity(16);
    events.push(event("message_start", &start));
    events.push(event("content_block_start", &|out| {
        json!(out, r#","index":0,"content_block":"#);
        match &reply.content {
            Content::Text(_) => json!(out, r#"{"type":"text","text":""}"#),
            Content::ToolCall { name, .. } => {
                json!(out, r#"{"type":"tool_use","id":"toolu_mock","name":"#, Quoted(name), r#","input":{}}"#)
            }
        }
    }));
    events.push(event("ping", &|_| {}));
    for piece in reply.pieces() {
        events.push(event("content_block_delta", &|out| {
            json!(out, r#","index":0,"delta":{"type":"#, Quoted(delta), member, Quoted(piece), "}");
        }));
    }
    events.push(event("content_block_stop", &|out| json!(out, r#","index":0"#)));
    events.push(event("message_delta", &|out| {
        json!(
            out,
            r#","delta":{"stop_reason":"#,
            Quoted(stop),
            r#","stop_sequence":null},"usage":{"output_tokens":"#,
            reply.output_tokens(),
            "}"
        );
    }));
    events.push(event("message_stop", &|_| {}));
    events
}
