//! Answers in OpenAI's shapes.

use bytes::Bytes;

use super::ask::Ask;
use super::reply::{Answer, Body, Content, Quoted, Reply, json};

const JSON: &str = "application/json";
const DONE: Bytes = Bytes::from_static(b"data: [DONE]\n\n");

/// A complete, not streamed answer in this dialect.
pub fn whole(status: u16, body: Vec<u8>) -> Answer {
    Answer { status, content_type: JSON, id_header: "x-request-id", body: Body::Whole(body.into()) }
}

fn events(events: Vec<Bytes>) -> Answer {
    Answer { status: 200, content_type: "text/event-stream", id_header: "x-request-id", body: Body::Events(events) }
}

/// The error object for a status.
pub fn error(status: u16, message: &str) -> Answer {
    let (kind, code) = match status {
        401 => ("invalid_request_error", "invalid_api_key"),
        404 => ("invalid_request_error", "not_found"),
        429 => ("rate_limit_error", "rate_limit_exceeded"),
        500.. => ("server_error", "server_error"),
        _ => ("invalid_request_error", "bad_request"),
    };
    let mut out = Vec::with_capacity(160);
    json!(
        &mut out,
        r#"{"error":{"message":"#,
        Quoted(message),
        r#","type":"#,
        Quoted(kind),
        r#","param":null,"code":"#,
        Quoted(code),
        "}}"
    );
    whole(status, out)
}

pub fn models() -> Answer {
    let body = r#"{"object":"list","data":[{"id":"mock-model","object":"model","created":1700000000,"owned_by":"mock"}]}"#;
    whole(200, body.into())
}

fn usage(out: &mut Vec<u8>, reply: &Reply) {
    let (input, output) = (reply.input_tokens, reply.output_tokens());
    json!(out, r#"{"prompt_tokens":"#, input, r#","completion_tokens":"#, output, r#","total_tokens":"#, input + output, "}");
}

/// `/v1/chat/completions`
pub fn chat(ask: &Ask<'_>, reply: &Reply) -> Answer {
    if ask.streams() { events(chat_events(ask, reply)) } else { whole(200, chat_json(ask, reply)) }
}

fn chat_json(ask: &Ask<'_>, reply: &Reply) -> Vec<u8> {
    let mut out = Vec::with_capacity(512 + reply.output_tokens() * 4);
    json!(&mut out, r#"{"id":"chatcmpl-mock","object":"chat.completion","created":1700000000,"model":"#, ask.model_json());
    json!(&mut out, r#","choices":[{"index":0,"message":{"role":"assistant","content":"#);
    let finish = match &reply.content {
        Content::Text(text) => {
            json!(&mut out, Quoted(text), r#","refusal":null}"#);
            "stop"
        }
        Content::ToolCall { name, arguments } => {
            json!(&mut out, r#"null,"tool_calls":[{"id":"call_mock","type":"function","function":{"name":"#, Quoted(name));
            json!(&mut out, r#","arguments":"#, Quoted(arguments), "}}]}");
            "tool_calls"
        }
    };
    json!(&mut out, r#","logprobs":null,"finish_reason":"#, Quoted(finish), r#"}],"usage":"#);
    usage(&mut out, reply);
    json!(&mut out, "}");
    out
}

fn chat_events(ask: &Ask<'_>, reply: &Reply) -> Vec<Bytes> {
    let chunk = |delta: &dyn Fn(&mut Vec<u8>), finish: &str| {
        let mut out = Vec::with_capacity(256);
        json!(&mut out, r#"data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"model":"#, ask.model_json());
        json!(&mut out, r#","choices":[{"index":0,"delta":"#);
        delta(&mut out);
        json!(&mut out, r#","finish_reason":"#, finish, "}]}\n\n");
        Bytes::from(out)
    };
    let mut events = Vec::with_capacity(16);
    match &reply.content {
        Content::Text(_) => {
            events.push(chunk(&|out| json!(out, r#"{"role":"assistant","content":""}"#), "null"));
            events.extend(reply.pieces().map(|piece| chunk(&|out| json!(out, r#"{"content":"#, Quoted(piece), "}"), "null")));
            events.push(chunk(&|out| json!(out, "{}"), "\"stop\""));
        }
        Content::ToolCall { name, .. } => {
            let open = |out: &mut Vec<u8>| {
                json!(
                    out,
                    r#"{"role":"assistant","content":null,"tool_calls":[{"index":0,"id":"call_mock","type":"function","function":{"name":"#
                );
                json!(out, Quoted(name), r#","arguments":""}}]}"#);
            };
            events.push(chunk(&open, "null"));
            events.extend(reply.pieces().map(|piece| {
                chunk(&|out| json!(out, r#"{"tool_calls":[{"index":0,"function":{"arguments":"#, Quoted(piece), "}}]}"), "null")
            }));
            events.push(chunk(&|out| json!(out, "{}"), "\"tool_calls\""));
        }
    }
    if ask.include_usage() {
        let mut out = Vec::with_capacity(256);
        json!(&mut out, r#"data: {"id":"chatcmpl-mock","object":"chat.completion.chunk","created":1700000000,"model":"#, ask.model_json());
        json!(&mut out, r#","choices":[],"usage":"#);
        usage(&mut out, reply);
        json!(&mut out, "}\n\n");
        events.push(out.into());
    }
    events.push(DONE);
    events
}

/// `/v1/completions`
pub fn completion(ask: &Ask<'_>, reply: &Reply) -> Answer {
    let Content::Text(text) = &reply.content else { return error(400, "tools are not for this endpoint") };
    let object = |text: &str, finish: &str, with_usage: bool| {
        let mut out = Vec::with_capacity(256 + text.len());
        json!(&mut out, r#"{"id":"cmpl-mock","object":"text_completion","created":1700000000,"model":"#, ask.model_json());
        json!(&mut out, r#","choices":[{"index":0,"text":"#, Quoted(text), r#","logprobs":null,"finish_reason":"#, finish, "}]");
        if with_usage {
            json!(&mut out, r#","usage":"#);
            usage(&mut out, reply);
        }
        json!(&mut out, "}");
        out
    };
    if !ask.streams() {
        return whole(200, object(text, "\"stop\"", true));
    }
    let event = |object: Vec<u8>| Bytes::from([b"data: ", object.as_slice(), b"\n\n"].concat());
    let mut all: Vec<Bytes> = reply.pieces().map(|piece| event(object(piece, "null", false))).collect();
    all.push(event(object("", "\"stop\"", ask.include_usage())));
    all.push(DONE);
    events(all)
}

/// `/v1/responses`
pub fn response(ask: &Ask<'_>, reply: &Reply) -> Answer {
    let item = output_item(reply);
    let object = |status: &str, done: bool| {
        let mut out = Vec::with_capacity(512 + item.len());
        json!(&mut out, r#"{"id":"resp_mock","object":"response","created_at":1700000000,"status":"#, Quoted(status));
        json!(&mut out, r#","error":null,"incomplete_details":null,"instructions":"#, ask.instructions_json());
        json!(&mut out, r#","model":"#, ask.model_json(), r#","tools":"#, ask.tools_json(), r#","output":["#);
        if done {
            out.extend_from_slice(&item);
            let (input, output) = (reply.input_tokens, reply.output_tokens());
            json!(
                &mut out,
                r#"],"usage":{"input_tokens":"#,
                input,
                r#","input_tokens_details":{"cached_tokens":0},"output_tokens":"#,
                output
            );
            json!(&mut out, r#","output_tokens_details":{"reasoning_tokens":0},"total_tokens":"#, input + output, "}}");
        } else {
            json!(&mut out, r#"],"usage":null}"#);
        }
        out
    };
    if !ask.streams() {
        return whole(200, object("completed", true));
    }
    let delta_name = match reply.content {
        Content::Text(_) => "response.output_text.delta",
        Content::ToolCall { .. } => "response.function_call_arguments.delta",
    };
    let mut number = 0;
    let mut event = |name: &str, rest: &[u8]| {
        let mut out = Vec::with_capacity(128 + rest.len());
        json!(&mut out, "event: ", name, "\ndata: {\"type\":", Quoted(name), r#","sequence_number":"#, number as usize, ",");
        out.extend_from_slice(rest);
        json!(&mut out, "}\n\n");
        number += 1;
        Bytes::from(out)
    };
    let member = |name: &str, value: &[u8]| [name.as_bytes(), value].concat();
    let mut all = vec![event("response.created", &member(r#""response":"#, &object("in_progress", false)))];
    for piece in reply.pieces() {
        let mut rest = Vec::with_capacity(96 + piece.len());
        json!(&mut rest, r#""item_id":"item_mock","output_index":0,"content_index":0,"delta":"#, Quoted(piece));
        all.push(event(delta_name, &rest));
    }
    all.push(event("response.output_item.done", &member(r#""output_index":0,"item":"#, &item)));
    all.push(event("response.completed", &member(r#""response":"#, &object("completed", true))));
    events(all)
}

fn output_item(reply: &Reply) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    match &reply.content {
        Content::Text(text) => {
            json!(
                &mut out,
                r#"{"id":"item_mock","type":"message","status":"completed","role":"assistant","content":[{"type":"output_text","text":"#
            );
            json!(&mut out, Quoted(text), r#","annotations":[]}]}"#);
        }
        Content::ToolCall { name, arguments } => {
            json!(&mut out, r#"{"id":"item_mock","type":"function_call","status":"completed","call_id":"call_mock","name":"#, Quoted(name));
            json!(&mut out, r#","arguments":"#, Quoted(arguments), "}");
        }
    }
    out
}

/// `/v1/embeddings`: vectors derived from the text, with a length of at most one.
pub fn embeddings(ask: &Ask<'_>) -> Answer {
    let dimensions = ask.dimensions.unwrap_or(8).clamp(1, 4096);
    let mut out = Vec::with_capacity(256);
    json!(&mut out, r#"{"object":"list","data":["#);
    for (index, text) in ask.inputs().iter().enumerate() {
        json!(&mut out, if index > 0 { "," } else { "" }, r#"{"object":"embedding","index":"#, index, r#","embedding":["#);
        let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        for dimension in 0..dimensions {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let sign = if state & 1 == 0 { "0." } else { "-0." };
            json!(&mut out, if dimension > 0 { "," } else { "" }, sign, 1_000 + (state >> 33) as usize % 9_000);
        }
        json!(&mut out, "]}");
    }
    let tokens = ask.tokens();
    json!(&mut out, r#"],"model":"#, ask.model_json(), r#","usage":{"prompt_tokens":"#, tokens, r#","total_tokens":"#, tokens, "}}");
    whole(200, out)
}
