//! Whose turn it is at an answer that passes, and who reads it.

use super::*;
use crate::gate::Readers;

/// Who only observes waits for the copy of an answer that nobody holds; everybody else has their turn at its head, and who is
/// not meant is skipped there. Each has one turn.
#[tokio::test]
async fn at_an_answer_that_passes_each_step_has_one_turn() {
    let with = |act: &str, arg: &str, change: &dyn Fn(&mut InstanceSpec)| {
        let mut spec = spec(act, arg);
        change(&mut spec);
        build(&PUPPET, spec)
    };
    let observes = |spec: &mut InstanceSpec| spec.mode = Mode::Observe;
    let (later, beside) = (with("rewrite", "later", &observes), with("abort", "beside", &observes));
    let nobody = with("", "nobody", &|spec| (spec.rollout, spec.mode) = (0, Mode::Observe));
    let none = with("rewrite", "none", &|spec| spec.rollout = 0);
    static HEADS: Manifest = Manifest { name: "heads", needs: &[Need::Headers], ..manifest_of(&PUPPET) };
    let heads = build(&HEADS, spec("", "heads"));
    let chain = chain(Gate::PostUpstream, vec![later, nobody, none, heads], vec![beside]);
    let mut ex = exchange("k");
    let readers = chain.readers(&ex.facts, &ex.draft, false);
    assert_eq!(readers, Readers { watches: true, ..Default::default() });
    ex.draft.response = Some(Response { status: 200, headers: HeaderMap::new(), body: None });
    for turn in [Turn::Head { streamed: false }, Turn::Copy { streamed: false }] {
        let mut seen = ex.draft.response.take().unwrap();
        seen.body = (turn != Turn::Head { streamed: false }).then(|| Bytes::from_static(b"answer"));
        ex.draft.response = Some(seen);
        assert_eq!(run_turn(&chain, Gate::PostUpstream, &mut ex, &HeaderMap::new(), turn).await, Verdict::Next);
    }
    let ran: Vec<_> = ex.executions.iter().map(|e| (&*e.plugin, e.decision.as_str())).collect();
    let head = [("-nobody", "skipped_rollout"), ("rewrite-none", "skipped_rollout"), ("-heads", "allowed")];
    assert_eq!(ran, [&head[..], &[("rewrite-later", "would_change"), ("abort-beside", "would_block")]].concat());
}

#[test]
fn readers_are_those_who_run_for_the_request() {
    static STREAMS: Manifest = Manifest { name: "streams", streams: true, ..manifest_of(&PUPPET) };
    let ex = exchange("k");
    for (manifest, streamed, whole, frames) in
        [(&PUPPET, false, true, false), (&PUPPET, true, true, false), (&STREAMS, false, true, false), (&STREAMS, true, false, true)]
    {
        for (mode, rollout) in [(Mode::Enforce, 100), (Mode::Observe, 100), (Mode::Enforce, 0)] {
            let mut spec = spec("", "x");
            (spec.mode, spec.rollout) = (mode, rollout);
            let readers = chain(Gate::PostUpstream, vec![build(manifest, spec)], vec![]).readers(&ex.facts, &ex.draft, streamed);
            let (enforces, observes) = (mode == Mode::Enforce && rollout > 0, mode == Mode::Observe);
            let wanted = Readers { enforces, holds: enforces && whole, watches: observes && whole, follows: observes && frames };
            assert_eq!(readers, wanted, "{} {mode:?} {rollout} {streamed}", manifest.name);
        }
    }
}
