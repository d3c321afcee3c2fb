//! A route's compiled chain: which steps run at which gate, checked against the plugins' manifests.

use std::fmt::Write as _;
use std::sync::Arc;

use super::{Draft, Facts, Gate, Step, Style};
use crate::plugin::{Instance, Manifest, Need};
use crate::telemetry::Metrics;

/// The steps of all gates. Compiled when a configuration is loaded, shared by all requests of its routes.
#[derive(Debug)]
pub struct Chain {
    /// 16 hex digits of a SHA-256 over everything that decides what the chain does; part of evidence and receipts.
    pub id: String,
    gates: [Stage; 4],
    /// A step at `post_upstream` reads answers, whole or frame by frame.
    reads: bool,
    /// How many executions a request has at most.
    steps: usize,
    max_parallel: usize,
}

/// The steps of one gate.
#[derive(Debug, Default)]
pub struct Stage {
    /// Steps that run one after the other.
    pub sequential: Vec<Arc<Step>>,
    /// Steps that run concurrently.
    pub parallel: Vec<Arc<Step>>,
    /// Steps that run from the queue; at `post_response` only.
    pub background: Vec<Arc<Step>>,
}

impl Stage {
    /// All steps, in the order in which they run.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Step>> {
        self.sequential.iter().chain(&self.parallel).chain(&self.background)
    }
}

/// What the steps at `post_upstream` do with the body of one answer, see [`Chain::readers`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Readers {
    /// A step whose verdict counts reads it: what that step cannot read may not leave.
    pub enforces: bool,
    /// One of those must have it whole: it is held.
    pub holds: bool,
    /// A step that only observes wants it whole: it gets a copy when the answer is over.
    pub watches: bool,
    /// A step that only observes wants the stream's frames as they pass.
    pub follows: bool,
}

/// What a chain is compiled from.
#[derive(Debug)]
pub struct ChainSpec {
    /// In the order of [`Gate::ALL`].
    pub gates: [StageSpec; 4],
    /// How many parallel steps of a gate may be under way at a time, at least 1.
    pub max_parallel: usize,
}

impl Default for ChainSpec {
    fn default() -> Self {
        Self { gates: Default::default(), max_parallel: 4 }
    }
}

impl ChainSpec {
    /// The instances of one gate.
    pub fn stage(&mut self, gate: Gate) -> &mut StageSpec {
        &mut self.gates[gate.index()]
    }
}

/// The instances of one gate, by style.
#[derive(Debug, Default)]
pub struct StageSpec {
    /// Instances that run one after the other.
    pub sequential: Vec<Arc<Instance>>,
    /// Instances that run concurrently.
    pub parallel: Vec<Arc<Instance>>,
    /// Instances that run from the queue.
    pub background: Vec<Arc<Instance>>,
}

/// A plugin is listed at a gate or in a style that its manifest does not declare.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Misplaced {
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub help: String,
}

/// Checks that a plugin may be listed at this gate in this style.
///
/// # Errors
/// What the manifest lacks, for the diagnostic at the plugin's place in the YAML.
pub fn placement(manifest: &Manifest, gate: Gate, style: Style) -> Result<(), Misplaced> {
    let list = |names: Vec<&str>| names.join(", ");
    let name = manifest.name;
    if !manifest.gates.contains(&gate) {
        return Err(Misplaced {
            message: format!("plugin `{name}` does not run at {}", gate.as_str()),
            help: format!("it runs at {}", list(manifest.gates.iter().map(|g| g.as_str()).collect())),
        });
    }
    if !manifest.styles.contains(&style) {
        return Err(Misplaced {
            message: format!("plugin `{name}` cannot run {}", style.as_str()),
            help: format!("it can run {}", list(manifest.styles.iter().map(|s| s.as_str()).collect())),
        });
    }
    if style == Style::Background && gate != Gate::PostResponse {
        return Err(Misplaced {
            message: format!("nothing runs in the background at {}", gate.as_str()),
            help: "list it at post_response".to_owned(),
        });
    }
    if style == Style::Background && !manifest.needs.contains(&Need::Background) {
        return Err(Misplaced {
            message: format!("plugin `{name}` does not ask to run in the background"),
            help: "its manifest lacks the need `background`".to_owned(),
        });
    }
    Ok(())
}

impl Default for Chain {
    /// The empty chain.
    fn default() -> Self {
        Self { id: digest(""), gates: Default::default(), reads: false, steps: 0, max_parallel: 1 }
    }
}

impl Chain {
    /// Compiles a chain and resolves the counters of its steps.
    ///
    /// # Errors
    /// The first instance that [`placement`] refuses.
    pub fn compile(spec: ChainSpec, metrics: &Metrics) -> Result<Self, Misplaced> {
        let mut effective = String::new();
        let mut gates: [Stage; 4] = Default::default();
        for (gate, from) in Gate::ALL.into_iter().zip(spec.gates) {
            let stage = &mut gates[gate.index()];
            let lists = [
                (Style::Sequential, from.sequential, &mut stage.sequential),
                (Style::Parallel, from.parallel, &mut stage.parallel),
                (Style::Background, from.background, &mut stage.background),
            ];
            for (style, instances, steps) in lists {
                for instance in instances {
                    placement(instance.manifest, gate, style)?;
                    let _ = writeln!(effective, "{} {} {}", gate.as_str(), style.as_str(), instance.fingerprint);
                    let counters = metrics.plugin(&instance.name, gate.as_str());
                    steps.push(Arc::new(Step::new(instance, gate, style, counters)));
                }
            }
        }
        // A background step has a second execution, for being enqueued.
        let steps = gates.iter().map(|stage| stage.all().count() + stage.background.len()).sum();
        let reads = gates[Gate::PostUpstream.index()].all().any(|step| step.reads_answers() || step.instance().manifest.streams);
        Ok(Self { id: digest(&effective), gates, reads, steps, max_parallel: spec.max_parallel.max(1) })
    }

    /// The steps of a gate.
    pub fn stage(&self, gate: Gate) -> &Stage {
        &self.gates[gate.index()]
    }

    /// Whether no step runs at this gate.
    pub fn is_empty(&self, gate: Gate) -> bool {
        self.stage(gate).all().next().is_none()
    }

    /// Whether a step at this gate may call other hosts.
    pub fn calls_out(&self, gate: Gate) -> bool {
        self.stage(gate).all().any(|step| step.instance().needs.contains(Need::Network))
    }

    /// The steps of a gate for `check`, one line each, with the settings that decide whether a step can block.
    pub fn describe(&self, gate: Gate) -> Vec<String> {
        let line = |step: &Arc<Step>| {
            let instance = step.instance();
            let mut line = format!("{} {}", instance.name, step.style().as_str());
            if *instance.name != *instance.manifest.name {
                let _ = write!(line, " use {}", instance.manifest.name);
            }
            let (mode, on_error) = (instance.mode.as_str(), instance.on_error.as_str());
            let _ = write!(line, " {mode} on_error {on_error} timeout {:?}", instance.timeout);
            if instance.rollout < 100 {
                let _ = write!(line, " rollout {}%", instance.rollout);
            }
            if !instance.for_everybody {
                line.push_str(" scoped");
            }
            line
        };
        self.stage(gate).all().map(line).collect()
    }

    /// What the steps that run for this request do with the body of its answer. Who is not meant by a step's scope or
    /// rollout is answered as if the step were not there.
    pub fn readers(&self, facts: &Facts, draft: &Draft, streamed: bool) -> Readers {
        let mut readers = Readers::default();
        if !self.reads {
            return readers;
        }
        for step in self.stage(Gate::PostUpstream).all() {
            let frames = streamed && step.instance().manifest.streams;
            let whole = step.reads_answers() && !frames;
            if !(whole || frames) || step.admit(facts, draft).is_err() {
                continue;
            }
            if step.observes() {
                readers.watches |= whole;
                readers.follows |= frames;
            } else {
                readers.enforces = true;
                readers.holds |= whole;
            }
        }
        readers
    }

    /// Whether a step reads the answer's body and cannot do so frame by frame, so that even a stream must be held for it.
    pub fn needs_response_body(&self) -> bool {
        self.stage(Gate::PostUpstream).all().any(|step| step.reads_answers() && !step.instance().manifest.streams)
    }

    /// The steps that filter streams, in order.
    pub fn streams(&self) -> impl Iterator<Item = &Arc<Step>> {
        self.stage(Gate::PostUpstream).all().filter(|step| step.instance().manifest.streams)
    }

    pub(super) fn steps(&self) -> usize {
        self.steps
    }

    pub(super) fn max_parallel(&self) -> usize {
        self.max_parallel
    }
}

fn digest(text: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().take(8).fold(String::with_capacity(16), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
