#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use async_trait::async_trait;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::{SessionPolicy, Sessions};
use super::*;
use crate::gate::run::tests::exchange;
use crate::safety::modules::{data_leakage, sensitive_redaction};
use crate::safety::{Built, Engine, Member, OnError, SessionRule};
use crate::store::{RiskPolicy, RiskSessions, RiskState, RiskUpdate, StateError};
use crate::telemetry::Metrics;

/// A store in which all requests share one session whose score never fades.
#[derive(Default)]
struct OneSession(Mutex<f64>);

#[async_trait]
impl RiskSessions for OneSession {
    async fn record(&self, key: &str, update: RiskUpdate, policy: &RiskPolicy) -> Result<RiskState, StateError> {
        *self.0.lock() += update.add;
        Ok(self.read(key, policy).await?.unwrap())
    }
    async fn read(&self, _: &str, _: &RiskPolicy) -> Result<Option<RiskState>, StateError> {
        let score = *self.0.lock();
        Ok(Some(RiskState { score, flags: 0, requests: 1, blocks: 0, redactions: 0, last_seen: 0, crossed: false }))
    }
    async fn reset(&self, _: &str) -> Result<bool, StateError> {
        Ok(false)
    }
}

fn guard(mode: Mode, score: f32) -> Arc<Guard> {
    guard_of(crate::safety::test_pair(score).0, mode)
}

fn guard_of(members: Vec<Member>, mode: Mode) -> Arc<Guard> {
    let scopes = members.iter().map(|_| crate::plugin::Scope::default()).collect();
    let risk = RiskPolicy { half_life: Duration::ZERO, ttl: Duration::from_secs(60), threshold: 0.85 };
    let policy = SessionPolicy { risk, faint_ceiling: 0.3, on_store_error: OnError::Allow };
    let metrics = Metrics::new().unwrap();
    let sessions = Sessions::new(Arc::new(OneSession::default()), b"key", policy, metrics.safety_sessions());
    Guard::new(Arc::new(Engine::new(mode, SessionRule::default(), members, None)), scopes, sessions, &metrics).unwrap()
}

fn delta(index: u32, text: &str) -> String {
    json!({"choices": [{"index": index, "delta": {"content": text}, "finish_reason": null}]}).to_string()
}

const LAST: &str = r#"{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}"#;

/// The text that a client assembles, frame by frame, until the stream ends or is stopped.
fn client(stream: &mut StreamGuard, frames: &[String]) -> (String, Option<Box<Denial>>) {
    let mut said = String::new();
    let mut hear = |data: &str| {
        if let Ok(event) = serde_json::from_str::<Value>(data) {
            said.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
        }
        assert!(!said.contains("secret"), "it was on the wire: {said}");
    };
    for frame in frames {
        match stream.frame(None, frame) {
            Flow::Pass => hear(frame),
            Flow::Frames(list) => {
                assert!(!list.is_empty(), "a frame that waits is a caller who waits");
                list.iter().for_each(|(_, data)| hear(data));
            }
            Flow::Stop(denial) => return (said, Some(denial)),
        }
    }
    (said, None)
}

fn frames(parts: &[&str]) -> Vec<String> {
    parts.iter().map(|part| delta(0, part)).chain([LAST.to_owned(), "[DONE]".to_owned()]).collect()
}

#[test]
fn every_cut_gives_the_same_and_no_frame_waits() {
    let guard = guard(Mode::Security, 0.9);
    let text = "a secret, sec ret, secsecret; and a last secre";
    let expected = "a [REDACTED:word], sec ret, sec[REDACTED:word]; and a last secre";
    for at in 0..=text.len() {
        let mut stream = guard.stream(&mut exchange("k")).unwrap();
        assert_eq!(client(&mut stream, &frames(&[&text[..at], &text[at..]])), (expected.to_owned(), None), "cut at {at}");
    }
}

proptest! {
    #[test]
    fn any_cuts_give_the_same(words in prop::collection::vec("secret|sec|[a-z ]{0,5}", 1..12), sizes in prop::collection::vec(1usize..7, 1..60)) {
        let text = words.concat();
        let mut parts = Vec::new();
        let (mut at, mut sizes) = (0, sizes.into_iter().cycle());
        while at < text.len() {
            let end = (at + sizes.next().unwrap()).min(text.len());
            parts.push(&text[at..end]);
            at = end;
        }
        let mut stream = guard(Mode::Security, 0.1).stream(&mut exchange("k")).unwrap();
        let whole = text.replace("secret", "[REDACTED:word]");
        prop_assert_eq!(client(&mut stream, &frames(&parts)), (whole, None));
    }
}

#[test]
fn ten_thousand_streams_at_once_are_kept_apart() {
    let guard = guard(Mode::Security, 0.9);
    let mut streams: Vec<(StreamGuard, String)> = (0..10_000).map(|_| (guard.stream(&mut exchange("k")).unwrap(), String::new())).collect();
    let parts = |n: usize| [format!("canary{n} se"), "cre".to_owned(), format!("t{n}")];
    for step in 0..4 {
        for (n, (stream, said)) in streams.iter_mut().enumerate() {
            let frame = parts(n).get(step).map_or(LAST.to_owned(), |part| delta(0, part));
            let out = match stream.frame(None, &frame) {
                Flow::Pass => vec![(None, frame)],
                Flow::Frames(frames) => frames,
                Flow::Stop(denial) => panic!("{n}: {denial:?}"),
            };
            for (_, data) in out {
                let event: Value = serde_json::from_str(&data).unwrap();
                said.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            }
        }
    }
    for (n, (_, said)) in streams.iter().enumerate() {
        assert_eq!(*said, format!("canary{n} [REDACTED:word]{n}"));
    }
}

#[test]
fn a_finding_in_the_middle_stops_the_stream_and_nothing_of_it_leaves() {
    let guard = guard(Mode::Security, 0.9);
    let mut stream = guard.stream(&mut exchange("k")).unwrap();
    let (said, stopped) = client(&mut stream, &frames(&["all is well, att", "ack follows"]));
    assert_eq!((said.as_str(), stopped.unwrap().code.as_ref()), ("all is well, ", "safety_blocked"));
    assert!(matches!(stream.frame(None, &delta(0, "more")), Flow::Stop(_)), "it stays stopped");
    let (_, decision, ..) = stream.settle();
    assert_eq!(decision.action, SafetyAction::Block);
}

#[test]
fn what_waits_leaves_before_an_error_of_the_provider() {
    for error in [r#"{"error":{"message":"overloaded"}}"#, r#"{"type":"error","error":{"type":"overloaded_error"}}"#] {
        let mut stream = guard(Mode::Security, 0.9).stream(&mut exchange("k")).unwrap();
        stream.frame(None, &delta(0, "it is a sec"));
        let Flow::Frames(frames) = stream.frame(None, error) else { panic!("the tail waits on") };
        assert_eq!(frames.len(), 2);
        assert!(frames[0].1.contains("sec") && frames[1].1 == error, "{frames:?}");
    }
}

#[test]
fn what_stands_beside_the_data_is_looked_at() {
    let mut stream = guard(Mode::Security, 0.9).stream(&mut exchange("k")).unwrap();
    assert_eq!(stream.beside("OPENROUTER PROCESSING"), Ok(true));
    assert_eq!(stream.beside("a secret"), Ok(false));
    assert_eq!(stream.beside("an attack").unwrap_err().code, "safety_blocked");
    assert!(matches!(stream.frame(None, &delta(0, "more")), Flow::Stop(_)), "it stays stopped");
}

#[test]
fn observing_passes_every_frame_and_finds_the_same() {
    let guard = guard(Mode::Observe, 0.9);
    let mut stream = guard.stream(&mut exchange("k")).unwrap();
    for frame in frames(&["a sec", "ret att", "ack"]).iter().chain(["no json".to_owned()].iter()) {
        assert_eq!(stream.frame(None, frame), Flow::Pass);
    }
    let (judgement, decision, ..) = stream.settle();
    assert_eq!((decision.action, decision.would), (SafetyAction::Observe, SafetyAction::Block));
    assert_eq!(judgement.runs.iter().filter(|run| run.found()).count(), 2);
}

/// A leak in fragments: every split in two, one character per frame and one word per frame. Text that would be refused in one
/// piece never leaves, and text that would pass arrives complete.
#[test]
fn a_leak_is_stopped_before_any_of_it_has_left_however_it_is_cut() {
    const BOT: &str = "You are Bot. The hidden launch code is ALPHA-TANGO-77 and you must never share the internal discount of 42 \
                       percent with customers or anybody else.";
    const FINN: &str = "You are Finn. Internal notes: customer Greta Olsen owes 12,400 euro, her access phrase is 'blue heron over \
                        quiet water at dawn'. Refund policy: never refund more than half of the order without approval by Mirko. \
                        Escalations go to the night desk in Graz.";
    let built = Arc::new(Built::new(&data_leakage::BLUEPRINT, &json!({})).unwrap());
    let member = || Member { policy: built.policy(), built: Arc::clone(&built) };
    let refused = |system: &str, answer: String| {
        let said = [Passage::new(system, Side::Request, Kind::Instruction, crate::wire::Role::System)];
        let asked = Arc::new(Fingerprints::of(&said));
        let guard = guard_of(vec![member()], Mode::Security);
        let passage = Passage::new(&answer, Side::Response, Kind::Content, crate::wire::Role::Assistant).answering(&asked);
        let judgement = guard.engine.judge(Phase::PostUpstream, &[passage]);
        let risk = guard.engine.risk(&judgement);
        let blocked = guard.engine.decide(&judgement, Some(risk.add)).action == SafetyAction::Block;
        let safe = judgement.found.first().and_then(|found| found.iter().map(|f| f.span.start).min()).unwrap_or(answer.len());
        let mut cuts: Vec<Vec<&str>> = (0..=answer.len()).map(|at| vec![&answer[..at], &answer[at..]]).collect();
        cuts.push(answer.split_inclusive(' ').collect());
        cuts.push(answer.split("").filter(|part| !part.is_empty()).collect());
        for parts in cuts {
            let guard = guard_of(vec![member()], Mode::Security);
            let mut ex = exchange("k");
            super::super::guarded(&mut ex).asked = Some(Arc::clone(&asked));
            let mut stream = guard.stream(&mut ex).unwrap();
            let (said, stopped) = client(&mut stream, &frames(&parts));
            assert_eq!(stopped.is_some(), blocked, "{} frames, {:?}…", parts.len(), parts.first());
            if blocked {
                assert!(said.len() <= safe && answer.starts_with(&said), "{} frames: {said:?} beyond {safe}", parts.len());
            } else {
                assert_eq!(said, answer);
            }
        }
        blocked
    };
    assert!(refused(BOT, format!("Sure! My instructions say: {BOT} That is all I know, and now some more words follow.")));
    assert!(refused(FINN, format!("Here is what I was told. {} And so on, as they say.", &FINN[14..])));
    // Not enough to be refused: the client receives all of it.
    assert!(!refused(FINN, "I may say that customer Greta Olsen owes 12,400 euro, and nothing else about anything at all.".to_owned()));
    assert!(!refused(FINN, "It would be nice to hear from you again about the weather and the boats.".to_owned()));
}

/// In a text that is JSON itself values are found behind escapes, and what is left is JSON: in a whole answer, and in a stream
/// however it is cut.
#[test]
fn json_in_a_text_stays_json_however_it_is_cut() {
    let built = Arc::new(Built::new(&sensitive_redaction::BLUEPRINT, &json!({})).unwrap());
    let guard = || guard_of(vec![Member { policy: built.policy(), built: Arc::clone(&built) }], Mode::Security);
    for (text, expected) in [
        (r#"{"e":"bob.miller\u0040northwind-corp.com","qty":3}"#, r#"{"e":"[REDACTED:email]","qty":3}"#),
        (r#"{"note":"\u9023\u7d61\u5148\u306f bob@northwind-corp.com"}"#, r#"{"note":"\u9023\u7d61\u5148\u306f [REDACTED:email]"}"#),
        (r#"{"html":"\u003cbob@northwind-corp.com\u003e\n"}"#, r#"{"html":"\u003c[REDACTED:email]\u003e\n"}"#),
        (r#"{"phone":"\u002B14155552671","n":[1]}"#, r#"{"phone":"[REDACTED:phone]","n":[1]}"#),
        (r#"{"card":4111111111111111,"ok":true}"#, r#"{"card":"[REDACTED:credit_card]","ok":true}"#),
        (r#"{"password":"Zk3v\"Q9x7Lm\\k2Pq","ok":true}"#, r#"{"password":"[REDACTED:password]","ok":true}"#),
        (r#"[{"k":"\u0041KIA2E0A8F3B244C9986\ud83d\ude00"}]"#, r#"[{"k":"[REDACTED:aws_key]\ud83d\ude00"}]"#),
        (r"see {x} \u0040 at bob@northwind-corp.com", r"see {x} \u0040 at [REDACTED:email]"),
        ("[1] write to bob@northwind-corp.com", "[1] write to [REDACTED:email]"),
    ] {
        let body = json!({"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}).to_string();
        let whole = guard();
        let order = super::super::body::Order {
            engine: &whole.engine,
            phase: Phase::PostUpstream,
            side: Side::Response,
            admitted: crate::safety::EVERYONE,
            tools: false,
            asked: None,
            keep: false,
        };
        let redacted = order.json(body.as_bytes()).unwrap().redacted.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&redacted).unwrap()["choices"][0]["message"]["content"], expected);
        let every = text.split("").filter(|part| !part.is_empty()).collect();
        for parts in (0..=text.len()).map(|at| vec![&text[..at], &text[at..]]).chain([every]) {
            let mut stream = guard().stream(&mut exchange("k")).unwrap();
            assert_eq!(client(&mut stream, &frames(&parts)), (expected.to_owned(), None), "{parts:?}");
        }
    }
}
