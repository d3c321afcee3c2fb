use super::*;
use proptest::prelude::*;

fn counts(usage: Usage) -> [u64; 5] {
    [usage.input, usage.output, usage.cached, usage.reasoning, usage.total]
}

#[test]
fn bodies() {
    use Dialect::{Anthropic, Gemini, Mcp, OpenAi};
    for (dialect, body, expected) in [
        (
            OpenAi,
            r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}}"#,
            [10, 5, 4, 2, 15],
        ),
        (
            OpenAi,
            r#"{"output":[],"usage":{"input_tokens":10,"output_tokens":5,"input_tokens_details":{"cached_tokens":4},"output_tokens_details":{"reasoning_tokens":2}}}"#,
            [10, 5, 4, 2, 15],
        ),
        (OpenAi, r#"{"data":[],"usage":{"prompt_tokens":8.0,"total_tokens":8,"prompt_tokens_details":null}}"#, [8, 0, 0, 0, 8]),
        (OpenAi, r#"{"content":"hi","input_tokens":3,"output_tokens":4}"#, [3, 4, 0, 0, 7]),
        (
            Anthropic,
            r#"{"usage":{"input_tokens":10,"cache_creation_input_tokens":1,"cache_read_input_tokens":2,"output_tokens":5}}"#,
            [13, 5, 2, 0, 18],
        ),
        (
            Gemini,
            r#"{"usageMetadata":{"promptTokenCount":10,"candidatesTokenCount":5,"thoughtsTokenCount":3,"cachedContentTokenCount":4,"totalTokenCount":18}}"#,
            [10, 8, 4, 3, 18],
        ),
        // What is in the total alone is not free.
        (OpenAi, r#"{"usage":{"total_tokens":1000}}"#, [0, 1000, 0, 0, 1000]),
        (OpenAi, r#"{"usage":{"prompt_tokens":100,"completion_tokens":100,"total_tokens":1000}}"#, [100, 900, 0, 0, 1000]),
        (Mcp, r#"{"usage":{"prompt_tokens":1}}"#, [0; 5]),
        (OpenAi, r#"{"usage":null}"#, [0; 5]),
        (OpenAi, r#"{"choices":[{"message":{"content":"\"usage\":{\"prompt_tokens\":9}"}}]}"#, [0; 5]),
        (OpenAi, "usage", [0; 5]),
    ] {
        let usage = from_body(dialect, body.as_bytes());
        assert_eq!(counts(usage), expected, "{body}");
        assert_eq!(usage.source, if expected == [0; 5] { UsageSource::None } else { UsageSource::Provider }, "{body}");
    }
}

fn stream(dialect: Dialect, events: &[&str]) -> Usage {
    let mut stream = UsageStream::new(dialect);
    for event in events {
        stream.event(None, event);
    }
    stream.usage()
}

#[test]
fn streams() {
    let chat = [
        r#"{"choices":[{"index":0,"delta":{"content":"Hello"}}],"usage":null}"#,
        r#"{"choices":[],"usage":{"prompt_tokens":10,"completion_tokens":5,"total_tokens":15,"completion_tokens_details":{"reasoning_tokens":2}}}"#,
        "[DONE]",
    ];
    let usage = stream(Dialect::OpenAi, &chat);
    assert_eq!((counts(usage), usage.source), ([10, 5, 0, 2, 15], UsageSource::Provider));

    let responses = [
        r#"{"type":"response.output_text.delta","delta":"Hello"}"#,
        r#"{"type":"response.completed","response":{"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15}}}"#,
    ];
    assert_eq!(counts(stream(Dialect::OpenAi, &responses)), [10, 5, 0, 0, 15]);

    let messages = [
        r#"{"type":"message_start","message":{"content":[],"usage":{"input_tokens":10,"cache_read_input_tokens":2,"cache_creation_input_tokens":0,"output_tokens":1}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hello, you there"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":5}}"#,
    ];
    assert_eq!(counts(stream(Dialect::Anthropic, &messages)), [12, 5, 2, 0, 17]);
    let cut = stream(Dialect::Anthropic, &messages[..2]);
    assert_eq!((counts(cut), cut.source), ([12, 4, 2, 0, 16], UsageSource::Estimated));
}

#[test]
fn a_silent_stream_is_estimated_and_an_empty_one_is_nothing() {
    let usage = stream(Dialect::OpenAi, &[r#"{"choices":[{"index":0,"delta":{"content":"12345"}}]}"#]);
    assert_eq!((usage.output, usage.source), (2, UsageSource::Estimated));
    let usage = stream(Dialect::OpenAi, &[r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#]);
    assert_eq!((counts(usage), usage.source), ([0; 5], UsageSource::Estimated), "broken off before its first word");
    assert_eq!(stream(Dialect::OpenAi, &["[DONE]"]), Usage::default());
    assert_eq!(stream(Dialect::Plain, &["x"]), Usage::default());
}

#[test]
fn an_answer_that_goes_on_behind_its_usage_is_estimated() {
    let said = |text: &str| format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"{text}"}}}}]}}"#);
    let (said, first) = (said(&"a".repeat(400)), r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":0}}"#);
    let usage = stream(Dialect::OpenAi, &[first, &said]);
    assert_eq!((counts(usage), usage.source), ([5, 100, 0, 0, 105], UsageSource::Estimated));
    let last = r#"{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":7}}"#;
    let usage = stream(Dialect::OpenAi, &[first, &said, last]);
    assert_eq!((counts(usage), usage.source), ([5, 7, 0, 0, 12], UsageSource::Provider));
    let usage = stream(Dialect::OpenAi, &[first, &said, last, &said]);
    assert_eq!((counts(usage), usage.source), ([5, 107, 0, 0, 112], UsageSource::Estimated));
    // Who says of every piece how long the answer is by then.
    let counting = |n: u64| {
        let usage = format!(r#""usage":{{"prompt_tokens":5,"completion_tokens":{n}}}"#);
        format!(r#"{{"choices":[{{"index":0,"delta":{{"content":"aaaaaaaa"}}}}],{usage}}}"#)
    };
    let usage = stream(Dialect::OpenAi, &[&counting(1), &counting(2)]);
    assert_eq!((counts(usage), usage.source), ([5, 2, 0, 0, 7], UsageSource::Provider));
    assert_eq!(stream(Dialect::OpenAi, &[&counting(0), &counting(0)]).output, 4, "who says that it says nothing");
}

#[test]
fn a_failure_is_no_answer() {
    let failure = r#"{"error":{"message":"overloaded"}}"#;
    for events in [&[failure][..], &[r#"{"choices":[{"index":0,"delta":{"role":"assistant"}}]}"#, failure]] {
        assert_eq!(stream(Dialect::OpenAi, events), Usage::failed());
    }
    let responses = [
        r#"{"type":"response.created","response":{"error":null}}"#,
        r#"{"type":"response.failed","response":{"error":{"code":"server_error"},"usage":null}}"#,
    ];
    assert_eq!(stream(Dialect::OpenAi, &responses), Usage::failed());
    assert_ne!(stream(Dialect::OpenAi, &responses[..1]), Usage::failed());
    let said = r#"{"choices":[{"index":0,"delta":{"content":"12345678"}}]}"#;
    let usage = stream(Dialect::OpenAi, &[said, failure]);
    assert_eq!((usage.output, usage.source), (2, UsageSource::Estimated), "what was said is paid");
    assert_eq!(from_body(Dialect::OpenAi, failure.as_bytes()), Usage::failed());
    let zero = br#"{"error":{"message":"overloaded"},"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}}"#;
    assert_eq!(from_body(Dialect::OpenAi, zero), Usage::failed());
    let told = br#"{"error":{"message":"cut"},"usage":{"prompt_tokens":3,"completion_tokens":0}}"#;
    assert_eq!(from_body(Dialect::OpenAi, told).source, UsageSource::Provider);
}

#[test]
fn the_last_chunk_of_a_chat_stands_alone() {
    for (data, alone) in [
        (r#"{"id":"1","choices":[],"usage":{"prompt_tokens":1}}"#, true),
        (r#"{"usage":{"prompt_tokens":1},"choices":[ ]}"#, true),
        (r#"{"choices":[],"usage":null}"#, false),
        (r#"{"choices":[],"prompt_filter_results":[]}"#, false),
        (r#"{"choices":[{"index":0}],"usage":{"prompt_tokens":1}}"#, false),
        (r#"{"choices":null,"usage":{"prompt_tokens":1}}"#, false),
        (r#"{"usage":{"prompt_tokens":1}}"#, false),
        ("[DONE]", false),
    ] {
        assert_eq!(stands_alone(data), alone, "{data}");
    }
}

proptest! {
    #[test]
    fn never_panics(body in proptest::collection::vec(any::<u8>(), 0..200), data in any::<String>(), n in any::<f64>()) {
        for dialect in Dialect::ALL {
            let _ = from_body(*dialect, &body);
            let near = format!(r#"{{"usage":{{"prompt_tokens":{n:e},"completion_tokens":{},"input_tokens":[]}},"m":{data:?}}}"#, u64::MAX);
            let _ = from_body(*dialect, near.as_bytes());
            let _ = stream(*dialect, &[&data, &near, &near]);
        }
    }
}
