#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use super::*;
use crate::gate::run::tests::exchange;
use crate::gate::{ChainSpec, Gate};
use crate::plugin::{BuildContext, BuildError, Instance, InstanceSpec, Manifest, Mode, OnError, Plugin, SharedHost};
use crate::telemetry::Metrics;

/// A filter that answers each frame with the verdict named in the frame.
struct Filter {
    held: Vec<OwnedFrame>,
    name: String,
}

impl StreamFilter for Filter {
    fn frame(&mut self, frame: Frame<'_>) -> Result<StreamVerdict, PluginError> {
        let own = (frame.event.map(str::to_owned), frame.data.to_owned());
        match frame.data {
            "hold" => {
                self.held.push(own);
                Ok(StreamVerdict::Hold)
            }
            "emit" => {
                self.held.push(own);
                Ok(StreamVerdict::Emit(std::mem::take(&mut self.held)))
            }
            "drop" => Ok(StreamVerdict::Emit(Vec::new())),
            "abort" => Ok(StreamVerdict::Abort(Box::new(Denial::custom(403, "leak", "")))),
            "error" => Err(PluginError::failed("it broke")),
            "panic" => panic!("on purpose"),
            "large" => Ok(StreamVerdict::Hold),
            data if data.starts_with("add") => Ok(StreamVerdict::Replace(format!("{data}-{}", self.name))),
            data if data.len() > 1000 => Ok(StreamVerdict::Hold),
            _ => Ok(StreamVerdict::Pass),
        }
    }

    fn finish(&mut self) -> Result<Vec<OwnedFrame>, PluginError> {
        if self.name == "broken" {
            return Err(PluginError::failed("it broke"));
        }
        Ok(std::mem::take(&mut self.held))
    }

    fn notes(&mut self) -> Vec<(&'static str, String)> {
        vec![("name", self.name.clone())]
    }
}

struct Filtering(String);

#[async_trait::async_trait]
impl Plugin for Filtering {
    fn stream(&self, _: &PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        match self.0.as_str() {
            "absent" => None,
            "crash" => panic!("on purpose"),
            name => Some(Box::new(Filter { held: Vec::new(), name: name.to_owned() })),
        }
    }
}

fn make(cx: &BuildContext<'_>) -> Result<Arc<dyn Plugin>, BuildError> {
    Ok(Arc::new(Filtering(cx.name.to_owned())))
}

static FILTER: Manifest = Manifest {
    name: "filter",
    version: "1.0.0",
    author: "Odock",
    category: "test",
    kind: "privacy",
    summary: "Filters.",
    gates: &[Gate::PostUpstream],
    styles: &[Style::Sequential, Style::Parallel],
    needs: &[Need::ReadResponse, Need::WriteResponse, Need::Block],
    streams: true,
    evidence: &[],
    codes: &[],
    config_schema: || serde_json::json!({}),
    build: make,
};

static READER: Manifest = Manifest { needs: &[Need::ReadResponse], ..manifest_of(&FILTER) };

const fn manifest_of(of: &Manifest) -> Manifest {
    Manifest { ..*of }
}

struct Run {
    out: Vec<String>,
    end: Option<String>,
    executions: Vec<Execution>,
}

type Step4<'a> = (&'a str, &'static Manifest, OnError, Mode);

fn run_styled(style: Style, steps: &[Step4<'_>], frames: &[&str]) -> Run {
    let mut spec = ChainSpec::default();
    for (name, manifest, on_error, mode) in steps {
        let mut of = InstanceSpec::new(*name);
        (of.on_error, of.mode) = (*on_error, *mode);
        let instance = Instance::build(manifest, of, &SharedHost::offline(), Arc::default()).unwrap();
        let stage = spec.stage(Gate::PostUpstream);
        if style == Style::Parallel { stage.parallel.push(instance) } else { stage.sequential.push(instance) }
    }
    let chain = Chain::compile(spec, &Metrics::new().unwrap()).unwrap();
    assert!(!chain.needs_response_body());
    let mut ex = exchange("k");
    let mut stream = StreamChain::start(&chain, &mut ex).unwrap();
    let mut out = Vec::new();
    let mut end = None;
    for frame in frames {
        match stream.frame(frame, None) {
            FrameVerdict::Pass => out.push((*frame).to_owned()),
            FrameVerdict::Replace(data) => out.push(data),
            FrameVerdict::Hold => {}
            FrameVerdict::Emit(frames) => out.extend(frames.into_iter().map(|f| f.1)),
            FrameVerdict::Abort(denial) => end = Some(denial.code.to_string()),
        }
    }
    out.extend(stream.finish().into_iter().map(|f| f.1));
    assert!(stream.finish().is_empty());
    assert!(!matches!(stream.frame("behind the end", None), FrameVerdict::Pass));
    end = end.or(stream.denial().map(|d| d.code.to_string()));
    let mut executions = Vec::new();
    stream.settle(&mut executions);
    Run { out, end, executions }
}

fn run(steps: &[Step4<'_>], frames: &[&str]) -> Run {
    run_styled(Style::Sequential, steps, frames)
}

const DENY: OnError = OnError::Deny;
const ALLOW: OnError = OnError::Allow;
const ENFORCE: Mode = Mode::Enforce;

#[test]
fn a_filter_that_refuses_or_fails_leaves_its_notes() {
    for frame in ["abort", "error", "panic"] {
        let seen = run(&[("a", &FILTER, DENY, ENFORCE)], &["x", frame]);
        assert!(seen.end.is_some(), "{frame}");
        assert_eq!(seen.executions[0].notes, [("name", "a".to_owned())], "{frame}");
    }
}

#[test]
fn frames_go_through_all_filters_in_order() {
    let a: Step4<'_> = ("a", &FILTER, DENY, ENFORCE);
    let b: Step4<'_> = ("b", &FILTER, DENY, ENFORCE);
    let seen = run(&[a, b], &["x", "add", "hold", "y", "emit", "drop", "hold"]);
    assert_eq!(seen.out, ["x", "add-a-b", "y", "hold", "emit", "hold"]);
    assert_eq!(seen.end, None);
    assert!(seen.executions.iter().all(|e| e.decision == Decision::Changed && e.changed_response));
    assert_eq!(seen.executions[1].notes, [("name", "b".to_owned())]);
    assert_eq!(run(&[b, a], &["add"]).out, ["add-b-a"]);
    let untouched = run(&[a], &["hold", "emit", "x", "hold"]);
    assert_eq!(untouched.out, ["hold", "emit", "x", "hold"]);
    assert_eq!(untouched.executions[0].decision, Decision::Allowed, "held back and sent as it came");
}

#[test]
fn a_refusal_ends_the_stream_for_good() {
    let seen = run(&[("a", &FILTER, DENY, ENFORCE)], &["x", "abort", "y", "hold"]);
    assert_eq!((seen.out, seen.end.as_deref()), (vec!["x".to_owned()], Some("leak")));
    assert_eq!(seen.executions[0].decision, Decision::Blocked);
    assert_eq!(seen.executions[0].code.as_deref(), Some("leak"));
}

#[test]
fn a_failing_filter_means_what_on_error_says() {
    for (frame, decision) in [("error", Decision::Error), ("panic", Decision::Panicked)] {
        let denied = run(&[("a", &FILTER, DENY, ENFORCE)], &["x", "hold", frame, "y"]);
        assert_eq!((denied.out, denied.end.as_deref()), (vec!["x".to_owned()], Some("plugin_unavailable")));
        assert_eq!(denied.executions[0].decision, decision);
        let allowed = run(&[("a", &FILTER, ALLOW, ENFORCE)], &["x", "hold", frame, "y", "add"]);
        assert_eq!(allowed.out, ["x", "hold", frame, "y", "add"], "nothing is lost with it");
        assert_eq!((allowed.end, allowed.executions[0].decision), (None, decision));
    }
    let broken = run(&[("broken", &FILTER, DENY, ENFORCE)], &["x", "hold"]);
    assert_eq!((broken.out, broken.end.as_deref()), (vec!["x".to_owned()], Some("plugin_unavailable")));
    assert_eq!(run(&[("broken", &FILTER, ALLOW, ENFORCE)], &["x", "hold"]).out, ["x", "hold"]);
    let crash = run(&[("crash", &FILTER, DENY, ENFORCE)], &["x"]);
    assert_eq!((crash.out.len(), crash.end.as_deref()), (0, Some("plugin_unavailable")));
    assert_eq!(run(&[("crash", &FILTER, ALLOW, ENFORCE)], &["x"]).out, ["x"]);
}

#[test]
fn what_is_held_back_is_bounded() {
    let frame = "l".repeat(300 * 1024);
    let frames = [frame.as_str(); 5];
    assert_eq!(run(&[("a", &FILTER, DENY, ENFORCE)], &frames).end.as_deref(), Some("plugin_unavailable"));
    assert_eq!(run(&[("a", &FILTER, ALLOW, ENFORCE)], &frames).out.len(), 5);
}

#[test]
fn an_observing_filter_changes_nothing() {
    let frames = ["x", "add", "hold", "emit", "drop", "panic", "y"];
    let seen = run(&[("a", &FILTER, DENY, Mode::Observe)], &frames);
    assert_eq!((seen.out, seen.end), (frames.map(str::to_owned).to_vec(), None));
    assert_eq!(seen.executions[0].decision, Decision::Panicked);
    let seen = run(&[("a", &FILTER, DENY, Mode::Observe)], &["add", "abort", "add"]);
    assert_eq!(seen.out, ["add", "abort", "add"]);
    assert_eq!((seen.executions[0].decision, seen.executions[0].code.as_deref()), (Decision::WouldBlock, Some("leak")));
    let seen = run(&[("broken", &FILTER, DENY, Mode::Observe)], &["x", "add"]);
    assert_eq!((seen.out, seen.end), (vec!["x".to_owned(), "add".to_owned()], None));
}

#[test]
fn a_filter_does_what_it_was_granted() {
    for frame in ["add", "hold", "drop", "abort"] {
        let denied = run(&[("a", &READER, DENY, ENFORCE)], &[frame]);
        assert_eq!((denied.out.len(), denied.end.as_deref()), (0, Some("plugin_unavailable")), "{frame}");
        assert_eq!(run(&[("a", &READER, ALLOW, ENFORCE)], &[frame]).out, [frame]);
    }
    let steps = [("a", &FILTER, DENY, ENFORCE)];
    assert_eq!(run_styled(Style::Parallel, &steps, &["x", "abort"]).end.as_deref(), Some("leak"));
    assert_eq!(run_styled(Style::Parallel, &steps, &["add"]).end.as_deref(), Some("plugin_unavailable"));
}

#[test]
fn nobody_filters_nothing() {
    assert!(StreamChain::start(&Chain::default(), &mut exchange("k")).is_none());
}
