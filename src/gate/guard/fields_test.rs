//! Every member of every dialect that can carry text: its text is seen by the engine, and replaced there and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use serde_json::{Value, json};

use super::Order;
use crate::safety::{EVERYONE, Engine, Mode, Phase, SafetyAction, SessionRule, Side};
use crate::wire::Kind;

/// The marker that the table puts at every place where text can stand.
const HERE: &str = "here";

fn requests() -> Vec<(&'static str, Value)> {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string", "description": HERE, "enum": [HERE]}}});
    vec![
        (
            "chat",
            json!({"model": "m", "user": HERE, "stop": [HERE], "metadata": {"k": HERE}, "prediction": {"type": "content", "content": HERE},
                "messages": [
                    {"role": "system", "content": HERE},
                    {"role": "developer", "content": [{"type": "text", "text": HERE}]},
                    {"role": "user", "name": HERE, "content": HERE},
                    {"content": [{"text": HERE, "type": "text"}, {"type": "image_url", "image_url": {"url": HERE, "detail": "low"}},
                        {"type": "file", "file": {"filename": HERE, "file_data": "AA"}}], "role": "user"},
                    {"role": "assistant", "content": HERE, "refusal": HERE, "reasoning_content": HERE, "tool_calls": [
                        {"id": "c", "type": "function", "function": {"name": "f", "arguments": HERE}},
                        {"id": "d", "type": "custom", "custom": {"name": "g", "input": HERE}}]},
                    {"role": "assistant", "content": null, "function_call": {"name": "f", "arguments": HERE}},
                    {"role": "assistant", "content": [{"type": "refusal", "refusal": HERE}], "audio": {"id": "a", "transcript": HERE}},
                    {"role": "tool", "tool_call_id": "c", "content": HERE},
                    {"role": "tool", "tool_call_id": "d", "content": [{"type": "text", "text": HERE}]},
                    {"role": "function", "name": "f", "content": HERE}],
                "tools": [{"type": "function", "function": {"name": "f", "description": HERE, "parameters": schema}},
                    {"type": "custom", "custom": {"name": "g", "description": HERE, "format": {"type": "grammar", "grammar": {"definition": HERE}}}}],
                "functions": [{"name": "f", "description": HERE, "parameters": schema}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "n", "description": HERE, "schema": schema}},
                "web_search_options": {"user_location": {"approximate": {"city": HERE}}},
                "member_of_tomorrow": {"deep": [HERE], "detail": HERE, "status": HERE, "id": HERE, "signature": HERE}}),
        ),
        ("completions", json!({"model": "m", "prompt": HERE, "suffix": HERE, "user": HERE})),
        ("completions", json!({"model": "m", "prompt": [HERE, HERE]})),
        ("embeddings", json!({"model": "m", "input": HERE, "user": HERE})),
        ("embeddings", json!({"model": "m", "input": [HERE, HERE]})),
        ("responses", json!({"model": "m", "input": HERE, "instructions": HERE})),
        ("responses", json!({"model": "m", "input": [HERE]})),
        (
            "responses",
            json!({"model": "m", "metadata": {"k": HERE}, "user": HERE, "prompt": {"id": "p", "variables": {"v": HERE}},
                "input": [
                    {"role": "user", "content": HERE},
                    {"type": "message", "role": "developer", "content": [{"type": "input_text", "text": HERE}]},
                    {"role": "user", "content": [{"type": "input_text", "text": HERE}, {"type": "input_file", "filename": HERE, "file_url": HERE},
                        {"type": "input_image", "image_url": HERE}]},
                    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": HERE,
                        "annotations": [{"type": "url_citation", "title": HERE, "url": HERE}]}, {"type": "refusal", "refusal": HERE}]},
                    {"type": "function_call", "call_id": "c", "name": "f", "arguments": HERE},
                    {"type": "function_call_output", "call_id": "c", "output": HERE},
                    {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": HERE}]},
                    {"type": "custom_tool_call", "call_id": "d", "name": "g", "input": HERE},
                    {"type": "custom_tool_call_output", "call_id": "d", "output": HERE},
                    {"type": "reasoning", "summary": [{"type": "summary_text", "text": HERE}], "content": [{"type": "reasoning_text", "text": HERE}]},
                    {"type": "web_search_call", "action": {"type": "search", "query": HERE}},
                    {"type": "file_search_call", "queries": [HERE], "results": [{"filename": HERE, "text": HERE}]},
                    {"type": "code_interpreter_call", "code": HERE, "outputs": [{"type": "logs", "logs": HERE}]},
                    {"type": "local_shell_call", "action": {"type": "exec", "command": [HERE], "env": {"K": HERE}}},
                    {"type": "mcp_call", "name": "f", "arguments": HERE, "output": HERE, "error": HERE},
                    {"type": "mcp_list_tools", "tools": [{"name": "f", "description": HERE, "input_schema": schema}]}],
                "tools": [{"type": "function", "name": "f", "description": HERE, "parameters": schema},
                    {"type": "mcp", "server_label": "s", "server_description": HERE, "server_url": HERE}],
                "text": {"format": {"type": "json_schema", "name": "n", "description": HERE, "schema": schema}}}),
        ),
        ("messages", json!({"model": "m", "system": HERE, "messages": [{"role": "user", "content": HERE}]})),
        (
            "messages",
            json!({"model": "m", "system": [{"type": "text", "text": HERE}], "metadata": {"user_id": HERE}, "stop_sequences": [HERE],
                "messages": [
                    {"role": "user", "content": [{"type": "text", "text": HERE, "citations": [{"type": "char_location", "cited_text": HERE, "document_title": HERE}]},
                        {"type": "document", "title": HERE, "context": HERE, "source": {"type": "text", "media_type": "text/plain", "data": HERE}},
                        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": HERE}]}},
                        {"type": "document", "source": {"type": "url", "url": HERE}},
                        {"type": "search_result", "source": HERE, "title": HERE, "content": [{"type": "text", "text": HERE}]},
                        {"type": "image", "source": {"type": "url", "url": HERE}}]},
                    {"role": "assistant", "content": [{"type": "thinking", "thinking": HERE, "signature": "s"},
                        {"type": "tool_use", "id": "t", "name": "f", "input": {"a": HERE, "b": [{"c": HERE}]}},
                        {"type": "server_tool_use", "id": "u", "name": "web_search", "input": {"query": HERE}}]},
                    {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": HERE},
                        {"type": "tool_result", "tool_use_id": "t", "content": [{"type": "text", "text": HERE},
                            {"type": "document", "title": HERE, "source": {"type": "text", "media_type": "text/plain", "data": HERE}}]}]}],
                "tools": [{"name": "f", "description": HERE, "input_schema": schema}]}),
        ),
        (
            "gemini",
            json!({"systemInstruction": {"parts": [{"text": HERE}]},
                "contents": [
                    {"role": "user", "parts": [{"text": HERE}, {"fileData": {"mimeType": "text/plain", "fileUri": HERE, "displayName": HERE}}]},
                    {"parts": [{"functionCall": {"name": "f", "args": {"a": HERE, "b": {"c": [HERE]}}}}, {"executableCode": {"language": "PYTHON", "code": HERE}},
                        {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": HERE}}, {"text": HERE, "thought": true}], "role": "model"},
                    {"role": "user", "parts": [{"functionResponse": {"name": "f", "response": {"result": HERE, "more": [HERE]}}}]}],
                "tools": [{"functionDeclarations": [{"name": "f", "description": HERE, "parameters": schema}]}],
                "generationConfig": {"stopSequences": [HERE], "responseSchema": schema}, "labels": {"k": HERE}}),
        ),
        ("gemini", json!({"system_instruction": {"parts": {"text": HERE}}, "contents": {"parts": {"text": HERE}}})),
        (
            "mcp",
            json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call",
                "params": {"name": "f", "arguments": {"a": HERE, "b": {"c": [HERE]}}, "_meta": {"m": HERE}}}),
        ),
        ("mcp", json!({"jsonrpc": "2.0", "id": 1, "method": "resources/read", "params": {"uri": HERE}})),
        ("mcp", json!({"jsonrpc": "2.0", "id": 1, "method": "prompts/get", "params": {"name": "p", "arguments": {"a": HERE}}})),
        (
            "mcp",
            json!([{"jsonrpc": "2.0", "id": 1, "method": "sampling/createMessage", "params": {"systemPrompt": HERE,
                "messages": [{"role": "user", "content": {"type": "text", "text": HERE}}]}},
                {"jsonrpc": "2.0", "id": 2, "method": "elicitation/create", "params": {"message": HERE, "requestedSchema": schema}},
                {"jsonrpc": "2.0", "id": 3, "method": "completion/complete", "params": {"argument": {"name": "a", "value": HERE}}}]),
        ),
    ]
}

fn answers() -> Vec<(&'static str, Value)> {
    vec![
        (
            "chat",
            json!({"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": HERE, "refusal": HERE, "reasoning_content": HERE,
                "annotations": [{"type": "url_citation", "url_citation": {"title": HERE, "url": HERE}}], "audio": {"data": "AA", "transcript": HERE},
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": HERE}}]}}]}),
        ),
        ("completions", json!({"choices": [{"index": 0, "text": HERE}]})),
        (
            "responses",
            json!({"id": "r", "instructions": HERE, "output_text": HERE, "error": {"message": HERE},
                "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": HERE}, {"type": "refusal", "refusal": HERE}]},
                    {"type": "function_call", "name": "f", "arguments": HERE}, {"type": "reasoning", "summary": [{"type": "summary_text", "text": HERE}]},
                    {"type": "mcp_call", "arguments": HERE, "output": HERE}]}),
        ),
        (
            "messages",
            json!({"type": "message", "role": "assistant", "content": [{"type": "text", "text": HERE}, {"type": "thinking", "thinking": HERE, "signature": "s"},
                {"type": "tool_use", "id": "t", "name": "f", "input": {"a": [HERE]}},
                {"type": "web_search_tool_result", "tool_use_id": "u", "content": [{"type": "web_search_result", "title": HERE, "url": HERE}]}]}),
        ),
        (
            "gemini",
            json!({"candidates": [{"index": 0, "finishMessage": HERE, "content": {"role": "model", "parts": [{"text": HERE}, {"functionCall": {"name": "f", "args": {"a": HERE}}}]},
                "groundingMetadata": {"webSearchQueries": [HERE], "groundingChunks": [{"web": {"uri": HERE, "title": HERE}}]}}]}),
        ),
        (
            "mcp",
            json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": HERE}, {"type": "resource_link", "uri": HERE, "description": HERE},
                {"type": "resource", "resource": {"uri": HERE, "mimeType": "text/plain", "text": HERE}}], "structuredContent": {"a": [HERE]}, "_meta": {"m": HERE}}}),
        ),
        ("mcp", json!({"jsonrpc": "2.0", "id": 1, "error": {"code": -32000, "message": HERE, "data": {"why": [HERE], "detail": HERE}}})),
        ("mcp", json!({"jsonrpc": "2.0", "id": 1, "result": {"resources": [{"uri": HERE, "name": HERE, "description": HERE}]}})),
        ("plain", json!({"detail": HERE, "type": HERE, "data": [{"status": HERE, "object": HERE}]})),
        ("mcp", json!({"jsonrpc": "2.0", "id": 1, "result": {"contents": [{"uri": HERE, "text": HERE}]}})),
        (
            "mcp",
            json!({"jsonrpc": "2.0", "id": 1, "result": {"description": HERE, "messages": [{"role": "user", "content": {"type": "text", "text": HERE}}]}}),
        ),
        (
            "mcp",
            json!({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "f", "title": HERE, "description": HERE,
                "inputSchema": {"type": "object", "properties": {"a": {"description": HERE}}}}]}}),
        ),
        ("mcp", json!({"jsonrpc": "2.0", "id": 1, "result": {"serverInfo": {"name": "s", "title": HERE}, "instructions": HERE}})),
    ]
}

/// The JSON pointers of all places with the marker.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::String(text) if text == HERE => out.push(at.to_owned()),
        Value::Array(items) => items.iter().enumerate().for_each(|(n, item)| places(item, &format!("{at}/{n}"), out)),
        Value::Object(members) => members.iter().for_each(|(name, item)| places(item, &format!("{at}/{name}"), out)),
        _ => {}
    }
}

fn engine() -> Engine {
    let (mut members, _) = crate::safety::test_pair(0.9);
    for member in &mut members {
        // The configuration of an operator who wants tool definitions read.
        member.policy.kinds = Some(Kind::ALL.iter().copied().filter(|kind| *kind != Kind::Structural).collect());
    }
    Engine::new(Mode::Security, SessionRule::default(), members, None)
}

#[test]
fn a_canary_is_seen_and_replaced_wherever_text_can_stand() {
    let engine = Arc::new(engine());
    let mut count = 0;
    for (side, phase, bodies) in [(Side::Request, Phase::PreUpstream, requests()), (Side::Response, Phase::PostUpstream, answers())] {
        for (dialect, body) in bodies {
            let mut all = Vec::new();
            places(&body, "", &mut all);
            assert!(!all.is_empty(), "{dialect} has no place");
            for place in all {
                count += 1;
                let mut with = body.clone();
                *with.pointer_mut(&place).unwrap() = json!("the attack: \"secret\"\n");
                let order = Order { engine: &engine, phase, side, admitted: EVERYONE, tools: false, asked: None, keep: false };
                let look = order.json(&serde_json::to_vec(&with).unwrap()).unwrap();
                assert_eq!(engine.decide(&look.judgement, Some(1.0)).action, SafetyAction::Block, "{dialect} {side:?} {place}");
                let redacted = look.redacted.unwrap_or_else(|| panic!("{dialect} {side:?} {place} is not seen"));
                let left: Value = serde_json::from_slice(&redacted).unwrap();
                *with.pointer_mut(&place).unwrap() = json!("the attack: \"[REDACTED:word]\"\n");
                assert_eq!(left, with, "{dialect} {side:?} {place}");
            }
        }
    }
    assert!(count > 170, "{count} places");
}

#[test]
fn card_numbers_that_are_numbers_or_names_of_members_become_words() {
    let engine = Arc::new(Engine::default_pack().unwrap());
    let card = 4_539_578_763_621_486_u64;
    let redacted = |phase, side, body: Value| -> Value {
        let order = Order { engine: &engine, phase, side, admitted: EVERYONE, tools: false, asked: None, keep: false };
        let look = order.json(&serde_json::to_vec(&body).unwrap()).unwrap();
        look.redacted.map_or(body, |redacted| serde_json::from_slice(&redacted).unwrap())
    };
    let call = |input: Value| json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "pay", "input": input}]}]});
    let input = json!({"card": card, "others": [1, card, 12], "4539-5787-6362-1486": 7, "at": 1_767_225_600_000_u64, "no": card + 1});
    let gone = "[REDACTED:credit_card]";
    let left = json!({"card": gone, "others": [1, gone, 12], gone: 7, "at": 1_767_225_600_000_u64, "no": card + 1});
    assert_eq!(redacted(Phase::PreUpstream, Side::Request, call(input.clone())), call(left.clone()));
    let result = |content: Value| json!({"jsonrpc": "2.0", "id": 4_539_578_763_621_486_u64, "result": {"content": [], "structuredContent": content}});
    assert_eq!(redacted(Phase::PostUpstream, Side::Response, result(input)), result(left));
}

/// A value is read together with the name of its member wherever JSON is free: the name alone says that it is a secret.
#[test]
fn values_are_known_by_the_names_of_their_members() {
    let engine = Arc::new(Engine::default_pack().unwrap());
    let redacted = |phase, side, body: Value| -> Value {
        let order = Order { engine: &engine, phase, side, admitted: EVERYONE, tools: false, asked: None, keep: false };
        let look = order.json(&serde_json::to_vec(&body).unwrap()).unwrap();
        look.redacted.map_or(body, |redacted| serde_json::from_slice(&redacted).unwrap())
    };
    let call = |input: Value| {
        let block = json!({"type": "tool_use", "id": "t", "name": "pay", "input": input});
        json!({"model": "m", "max_tokens": 9, "messages": [{"role": "assistant", "content": [block]}], "metadata": input})
    };
    let said =
        json!({"password": "tR7!kq9Zp2", "db": {"passwd": "tR7!kq9Zp2"}, "ssn": "219099942", "note": "tR7!kq9Zp2", "n": "219099942"});
    let password = "[REDACTED:password]";
    let left =
        json!({"password": password, "db": {"passwd": password}, "ssn": "[REDACTED:us_ssn]", "note": "tR7!kq9Zp2", "n": "219099942"});
    assert_eq!(redacted(Phase::PreUpstream, Side::Request, call(said.clone())), call(left.clone()));
    let ask =
        |arguments: Value| json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": arguments}});
    assert_eq!(redacted(Phase::PreUpstream, Side::Request, ask(said.clone())), ask(left.clone()));
    let result = |content: Value| json!({"jsonrpc": "2.0", "id": 1, "result": {"content": [], "structuredContent": content}});
    assert_eq!(redacted(Phase::PostUpstream, Side::Response, result(said)), result(left));
}
