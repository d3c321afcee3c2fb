#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use proptest::prelude::*;
use serde_json::Value as Json;

fn all(body: &[u8], stream: bool) -> Vec<Text<'_>> {
    let mut out = Vec::new();
    walk(body, Way { stream, ..Way::default() }, &mut |text| out.push(text)).unwrap();
    out
}

/// `kind role text` of every text that is not structural.
fn told(body: &str) -> Vec<String> {
    all(body.as_bytes(), false)
        .into_iter()
        .filter(|t| t.kind != Kind::Structural && !t.key)
        .map(|t| format!("{} {:?} {}", t.kind.as_str(), t.role, t.text))
        .collect()
}

/// `lane outer.inner text` of every fragment.
fn fragments(data: &str) -> Vec<String> {
    all(data.as_bytes(), true)
        .into_iter()
        .filter_map(|t| t.channel.map(|c| format!("{:?} {}.{} {} {}", c.lane, c.outer, c.inner, t.kind.as_str(), t.text)))
        .collect()
}

#[test]
fn chat_request() {
    let body = r#"{"model":"m","messages":[
        {"role":"system","content":"sys"},
        {"content":"late","role":"developer"},
        {"role":"user","name":"bob","content":[{"type":"text","text":"hi \"you\""},
            {"type":"image_url","image_url":{"url":"https://x/y","detail":"low"}},
            {"type":"image_url","image_url":{"url":"data:image/png;base64,AA"}},
            {"type":"file","file":{"filename":"f.pdf","file_data":"AA"}}]},
        {"role":"assistant","content":null,"tool_calls":[{"id":"c1","type":"function","function":{"name":"fn","arguments":"{\"a\":1}"}}]},
        {"role":"tool","tool_call_id":"c1","content":"result"}],
        "tools":[{"type":"function","function":{"name":"fn","description":"does","parameters":{"type":"object","properties":{"type":{"type":"string","description":"deep"}}}}}],
        "metadata":{"k":"v"},"user":"u-1","brand_new":["x"]}"#;
    assert_eq!(
        told(body),
        [
            "instruction System sys",
            "instruction System late",
            "metadata User bob",
            "content User hi \"you\"",
            "metadata User https://x/y",
            "file_name User f.pdf",
            "tool_arguments Assistant {\"a\":1}",
            "tool_result Tool result",
            "tool_definition Unknown fn",
            "tool_definition Unknown does",
            "tool_definition Unknown deep",
            "metadata Unknown v",
            "metadata Unknown u-1",
            "metadata Unknown x",
        ]
    );
}

#[test]
fn messages_request() {
    let body = r#"{"model":"m","system":[{"type":"text","text":"sys","cache_control":{"type":"ephemeral","x":"cc"}}],"messages":[
        {"role":"user","content":[
            {"tool_use_id":"t","content":[{"type":"text","text":"res"}],"type":"tool_result"},
            {"type":"document","title":"doc.txt","context":"ctx","source":{"data":"plain words","media_type":"text/plain","type":"text"}},
            {"type":"image","source":{"type":"base64","media_type":"image/png","data":"AA=="}}]},
        {"role":"assistant","content":[{"type":"thinking","thinking":"hm","signature":"s"},{"type":"tool_use","id":"t","name":"fn","input":{"to":["bob"]}}]}]}"#;
    assert_eq!(
        told(body),
        [
            "instruction System sys",
            "metadata System cc",
            "tool_result Tool res",
            "file_name User doc.txt",
            "content User ctx",
            "content User plain words",
            "content Assistant hm",
            "metadata Assistant fn",
            "tool_arguments Assistant bob",
        ]
    );
    assert!(all(body.as_bytes(), false).iter().any(|t| t.key && t.text == "to" && t.kind == Kind::ToolArguments));
}

#[test]
fn other_requests() {
    assert_eq!(
        told(
            r#"{"instructions":"sys","input":[{"role":"user","content":[{"type":"input_text","text":"q"},{"type":"input_file","filename":"f","file_data":"x"}]},
            {"type":"function_call","name":"fn","arguments":"{}"},{"type":"function_call_output","call_id":"c","output":"res"}],"text":{"format":{"type":"json_schema","name":"n"}}}"#
        ),
        [
            "instruction System sys",
            "content User q",
            "file_name User f",
            "metadata Unknown fn",
            "tool_arguments Unknown {}",
            "tool_result Tool res",
            "tool_definition Unknown n"
        ]
    );
    assert_eq!(told(r#"{"input":["a","b"],"model":"m"}"#), ["input Unknown a", "input Unknown b"]);
    assert_eq!(told(r#"{"prompt":"a","suffix":"b"}"#), ["input Unknown a", "input Unknown b"]);
    assert_eq!(
        told(
            r#"{"systemInstruction":{"parts":[{"text":"sys"}]},"contents":[{"parts":[{"text":"q"},{"functionResponse":{"name":"fn","response":{"r":"res"}}}],"role":"user"},
            {"role":"model","parts":[{"functionCall":{"name":"fn","args":{"a":"arg"}}}]}]}"#
        ),
        ["instruction System sys", "content User q", "metadata User fn", "tool_result User res", "tool_arguments Assistant arg"]
    );
    assert_eq!(
        told(
            r#"{"jsonrpc":"2.0","id":"i","method":"tools/call","params":{"name":"fn","arguments":{"a":{"b":["arg"]}},"_meta":{"m":"x"}}}"#
        ),
        ["tool_arguments Unknown arg", "metadata Unknown x"]
    );
    assert_eq!(
        told(r#"[{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"res"}],"structuredContent":{"x":"y"}}}]"#),
        ["tool_result Tool res", "tool_result Tool y"]
    );
}

#[test]
fn answers() {
    assert_eq!(
        told(
            r#"{"id":"x","choices":[{"index":0,"message":{"role":"assistant","content":"a","refusal":"no","reasoning_content":"think",
            "tool_calls":[{"id":"c","type":"function","function":{"name":"fn","arguments":"{}"}}]},"finish_reason":"stop","logprobs":{"content":[{"token":"a","logprob":-0.1}]}}],"usage":{"total_tokens":3}}"#
        ),
        ["content Assistant a", "content Assistant no", "content Assistant think", "tool_arguments Assistant {}", "metadata Assistant a"]
    );
    assert_eq!(
        told(
            r#"{"type":"message","role":"assistant","content":[{"type":"text","text":"a"},{"type":"tool_use","name":"fn","input":{"x":"y"}}],"stop_reason":"end_turn"}"#
        ),
        ["content Assistant a", "metadata Assistant fn", "tool_arguments Assistant y"]
    );
    assert_eq!(
        told(r#"{"output":[{"type":"message","role":"assistant","content":[{"type":"output_text","text":"a"}]}]}"#),
        ["content Assistant a"]
    );
    assert_eq!(told(r#"{"candidates":[{"content":{"parts":[{"text":"a"}],"role":"model"}}]}"#), ["content Assistant a"]);
    assert_eq!(told(r#"{"choices":[{"text":"a","index":0}]}"#), ["content Assistant a"]);
    assert_eq!(told(r#"{"data":[{"object":"embedding","embedding":[0.1,-2e-3],"index":0},{"x\n":"after"}]}"#), ["metadata Unknown after"]);
    assert_eq!(
        told(r#"{"data":[{"embedding":["hid\n",{"text":"den"}],"x":"aft\ner"}]}"#),
        ["metadata Unknown hid\n", "metadata Unknown den", "metadata Unknown aft\ner"]
    );
}

#[test]
fn what_stands_for_a_word_is_one_or_somebodys_text() {
    let body = r#"{"id":"chatcmpl-1","object":"chat.completion","status":"in progress, ask bob","model":"gpt-4o-2024-08-06",
        "choices":[{"finish_reason":"stop","message":{"role":"assistant","content":"a","tool_calls":[{"id":"c 1","function":{"name":"f"}}]}}],
        "usage":{"prompt_tokens":1,"Bob Miller":2},"bob@example.org":3,"data":[{"status":"ZEBRA-7781","b64_json":"QUJD"}],"detail":"no"}"#;
    let seen = all(body.as_bytes(), false).into_iter().filter(|t| t.kind != Kind::Structural);
    let told: Vec<String> = seen.map(|t| format!("{} {}", if t.key { "key" } else { t.kind.as_str() }, t.text)).collect();
    assert_eq!(
        told,
        ["metadata in progress, ask bob", "content a", "metadata c 1", "key Bob Miller", "key bob@example.org", "metadata ZEBRA-7781"]
    );
}

#[test]
fn stream_fragments_have_channels() {
    for (data, expected) in [
        (r#"{"choices":[{"index":1,"delta":{"role":"assistant","content":"a"}}]}"#, vec!["Text 1.0 content a"]),
        (
            r#"{"choices":[{"delta":{"content":"a"},"index":2},{"delta":{"reasoning_content":"b"}}]}"#,
            vec!["Text 2.0 content a", "Reasoning 1.0 content b"],
        ),
        (
            r#"{"choices":[{"index":0,"delta":{"tool_calls":[{"function":{"name":"f","arguments":"{\"a"},"index":3}]}}]}"#,
            vec!["Arguments 0.3 tool_arguments {\"a"],
        ),
        (r#"{"choices":[{"index":0,"text":"a"}]}"#, vec!["Text 0.0 content a"]),
        (r#"{"type":"content_block_delta","index":4,"delta":{"type":"text_delta","text":"a"}}"#, vec!["Text 4.0 content a"]),
        (
            r#"{"delta":{"partial_json":"{","type":"input_json_delta"},"index":5,"type":"content_block_delta"}"#,
            vec!["Arguments 5.0 tool_arguments {"],
        ),
        (r#"{"type":"content_block_delta","index":1,"delta":{"type":"thinking_delta","thinking":"a"}}"#, vec!["Reasoning 1.0 content a"]),
        (r#"{"type":"content_block_start","index":1,"content_block":{"type":"text","text":"a"}}"#, vec!["Text 1.0 content a"]),
        (r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"}}"#, vec![]),
        (r#"{"content_index":1,"delta":"a","output_index":2,"type":"response.output_text.delta"}"#, vec!["Text 2.1 content a"]),
        (r#"{"type":"response.function_call_arguments.delta","output_index":2,"delta":"{"}"#, vec!["Arguments 2.0 tool_arguments {"]),
        (r#"{"type":"response.audio.delta","delta":"AAAA"}"#, vec![]),
        (r#"{"type":"response.output_text.done","output_index":2,"content_index":0,"text":"whole"}"#, vec![]),
        (
            r#"{"candidates":[{"content":{"parts":[{"text":"a"},{"text":"b","thought":true}],"role":"model"}}]}"#,
            vec!["Text 0.0 content a", "Reasoning 0.0 content b"],
        ),
    ] {
        assert_eq!(fragments(data), expected, "{data}");
    }
}

#[test]
fn whole_texts_of_stream_events_are_seen_too() {
    for data in [
        r#"{"type":"response.output_text.done","text":"canary"}"#,
        r#"{"type":"response.function_call_arguments.done","arguments":"canary"}"#,
        r#"{"type":"response.output_item.done","item":{"type":"message","content":[{"type":"output_text","text":"canary"}]}}"#,
        r#"{"type":"response.content_part.done","part":{"type":"output_text","text":"canary"}}"#,
        r#"{"type":"response.completed","response":{"output":[{"content":[{"text":"canary"}]}]}}"#,
        r#"{"type":"message_start","message":{"role":"assistant","content":[{"type":"text","text":"canary"}]}}"#,
    ] {
        assert!(
            all(data.as_bytes(), true).iter().any(|t| t.text == "canary" && matches!(t.kind, Kind::Content | Kind::ToolArguments)),
            "{data}"
        );
    }
}

#[test]
fn conflicting_roles_are_nobodys_and_floods_stay_bounded() {
    assert_eq!(told(r#"{"messages":[{"role":"system","content":"a","role":"user"}]}"#), ["content Unknown a"]);
    let many = format!(r#"{{"messages":[{{"content":[{}"z"],"role":"user"}}]}}"#, "\"x\",".repeat(5000));
    let texts = all(many.as_bytes(), false);
    assert_eq!(texts.len(), 5002);
    assert_eq!(texts[0].role, Role::Unknown);
    assert_eq!(texts[5000].role, Role::User);
}

fn word() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        proptest::sample::select(vec![
            "messages",
            "content",
            "role",
            "type",
            "text",
            "tool_calls",
            "function",
            "arguments",
            "delta",
            "choices",
            "index",
            "data",
            "embedding",
            "input",
            "params",
            "result",
            "source",
            "url",
            "system",
            "user",
            "tool_result",
            "metadata",
            "tools",
            "response",
            "candidates",
            "parts",
            "message",
            "tool",
            "a\nb",
            "",
        ])
        .prop_map(str::to_owned),
    ]
}

fn json() -> impl Strategy<Value = Json> {
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::from),
        any::<i32>().prop_map(Json::from),
        (-1e9..1e9f64).prop_map(Json::from),
        word().prop_map(Json::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Json::from),
            proptest::collection::btree_map(word(), inner, 0..6).prop_map(|m| Json::Object(m.into_iter().collect())),
        ]
    })
}

fn strings(json: &Json, out: &mut Vec<String>) {
    match json {
        Json::String(s) => out.push(s.clone()),
        Json::Array(items) => items.iter().for_each(|item| strings(item, out)),
        Json::Object(members) => members.values().for_each(|value| strings(value, out)),
        _ => {}
    }
}

proptest! {
    #[test]
    fn every_string_is_seen_once_where_it_stands(json in json(), pretty in any::<bool>(), stream in any::<bool>()) {
        let body = if pretty { serde_json::to_vec_pretty(&json) } else { serde_json::to_vec(&json) }.unwrap();
        let texts = all(&body, stream);
        let mut last = 0;
        for text in &texts {
            prop_assert!(text.span.start > last || last == 0, "in order");
            last = text.span.end;
            let quoted: String = serde_json::from_slice(&body[text.span.start - 1..text.span.end + 1]).unwrap();
            prop_assert_eq!(&quoted, text.text.as_ref());
        }
        let (mut expected, mut seen) = (Vec::new(), Vec::new());
        strings(&json, &mut expected);
        seen.extend(texts.iter().filter(|t| !t.key).map(|t| t.text.clone().into_owned()));
        prop_assert_eq!(seen, expected);
    }

    #[test]
    fn a_splice_changes_the_named_strings_and_nothing_else(json in json(), new in any::<String>(), pick in any::<u64>()) {
        let body = serde_json::to_vec(&json).unwrap();
        let texts = all(&body, false);
        let chosen = |at: usize| pick >> (at % 64) & 1 == 1 && !texts[at].key;
        let edits: Vec<_> = (0..texts.len()).filter(|at| chosen(*at)).map(|at| (texts[at].span.clone(), new.clone())).collect();
        let out = super::super::splice(&body, &edits).unwrap();
        let parsed: Json = serde_json::from_slice(&out).unwrap();
        let (mut before, mut after) = (Vec::new(), Vec::new());
        strings(&json, &mut before);
        strings(&parsed, &mut after);
        let mut values = 0;
        for (at, text) in texts.iter().enumerate() {
            if text.key {
                continue;
            }
            let expected = if chosen(at) { &new } else { &before[values] };
            prop_assert_eq!(&after[values], expected);
            values += 1;
        }
        prop_assert_eq!(values, after.len());
    }

    #[test]
    fn raw_texts_are_the_same_texts_as_they_are_written(json in json(), deep in any::<bool>()) {
        let json = if deep { serde_json::json!({"messages": [{"role": "user", "content": json}], "tools": json}) } else { json };
        let body = serde_json::to_vec(&json).unwrap();
        let mut raw = Vec::new();
        super::super::raw_texts(&body, &mut |text| raw.push(text)).unwrap();
        let told = all(&body, false);
        prop_assert_eq!(raw.len(), told.len());
        for (raw, told) in raw.into_iter().zip(told) {
            prop_assert_eq!(raw.text.as_bytes(), &body[raw.span.clone()]);
            let same = Text { text: told.text.clone(), ..raw };
            prop_assert_eq!(same, told);
        }
    }

    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..300), stream in any::<bool>()) {
        let _ = walk(&body, Way { stream, ..Way::default() }, &mut |_| {});
    }

    #[test]
    fn never_panics_near_json(body in r#"([{}\[\]",:0-9\\u]|"(role|content|data|embedding|messages|delta)":){0,40}"#, stream in any::<bool>()) {
        let _ = walk(body.as_bytes(), Way { stream, ..Way::default() }, &mut |_| {});
    }

    #[test]
    fn head_accepts_what_the_walk_accepts(body in r#"\{"(a|model|data|input)":([{}\[\]",:0-9\\ud]){0,20}\}"#) {
        if super::super::head(crate::wire::Endpoint::ChatCompletions, body.as_bytes()).is_ok() {
            let walked = walk(body.as_bytes(), Way::default(), &mut |_| {});
            prop_assert!(walked.is_ok());
        }
    }
}
