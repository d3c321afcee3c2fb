//! The plugins' filters of one streamed answer: every event passes through all of them, in order, before it is sent.
//!
//! As at the gates, an observing filter changes nothing, a failing filter is treated as `on_error` says, and a filter may do
//! what its instance was granted. Held frames are also kept here, so that a filter that fails with `on_error: allow` does not
//! lose any part of the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::HeaderMap;

use super::step::Failure;
use super::{Chain, Decision, Exchange, Execution, Step, Style};
use crate::error::Denial;
use crate::plugin::view::{Access, PostUpstream, View};
use crate::plugin::{Frame, Need, OwnedFrame, PluginError, StreamFilter, StreamVerdict, Verdict};
use crate::wire::Dialect;

/// How much a filter may hold back (bytes of `data`).
const MAX_HELD: usize = 1 << 20;

/// What is sent for one event of the provider's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameVerdict {
    /// The event as it came.
    Pass,
    /// This `data` in its place, under the same `event`.
    Replace(String),
    /// Nothing.
    Hold,
    /// These frames, for the event and for all that were held.
    Emit(Vec<OwnedFrame>),
    /// Nothing more: the stream ends with an error event.
    Abort(Box<Denial>),
}

/// The filters of one stream.
pub struct StreamChain {
    dialect: Dialect,
    lanes: Vec<Lane>,
    denial: Option<Box<Denial>>,
    finished: bool,
}

/// An event between two filters.
enum Passing {
    /// The event as it came.
    Untouched,
    /// The frames that earlier filters put in its place.
    Frames(Vec<OwnedFrame>),
}

impl StreamChain {
    /// Creates the filters of the chain's streaming steps; `None` if no step filters this stream.
    pub fn start(chain: &Chain, ex: &mut Exchange) -> Option<Self> {
        let mut this = Self { dialect: ex.facts.dialect, lanes: Vec::new(), denial: None, finished: false };
        for step in chain.streams() {
            // A step that does not run for this request was recorded as skipped at the gate.
            let Ok(scope) = step.admit(&ex.facts, &ex.draft) else { continue };
            let started = Instant::now();
            let mut execution = step.entry(&ex.facts, started);
            execution.scope = scope;
            let instance = step.instance();
            let headers = HeaderMap::new();
            let cx = PostUpstream(View::new(&ex.facts, &headers, Access::Shared(&ex.draft), instance.needs));
            let made = if instance.needs.contains(Need::ReadResponse) {
                catch_unwind(AssertUnwindSafe(|| instance.filter(&cx))).map_err(|_| Failure::Panicked)
            } else {
                Err(Failure::Error(PluginError::NotGranted(Need::ReadResponse.as_str())))
            };
            execution.notes = cx.0.close(false).notes;
            let mut lane = Lane::new(Arc::clone(step), execution);
            match made {
                Ok(None) => continue,
                Ok(Some(filter)) => lane.filter = Some(filter),
                Err(failure) => this.denial = this.denial.or(lane.fail(failure)),
            }
            lane.took = started.elapsed();
            this.lanes.push(lane);
        }
        if this.lanes.is_empty() { None } else { Some(this) }
    }

    /// Whether bytes of the stream may leave other than they came, or it may be ended.
    pub fn acts(&self) -> bool {
        self.denial.is_some() || self.lanes.iter().any(|lane| !lane.step.observes())
    }

    /// Shows one event to the filters: its `data` and its `event`. After [`Self::finish`] nothing leaves any more: an
    /// event behind the end of a stream would be one that nobody looked at.
    pub fn frame(&mut self, data: &str, event: Option<&str>) -> FrameVerdict {
        if let Some(denial) = &self.denial {
            return FrameVerdict::Abort(denial.clone());
        }
        if self.finished {
            return FrameVerdict::Hold;
        }
        let mut passing = Passing::Untouched;
        for lane in &mut self.lanes {
            let next = match passing {
                Passing::Untouched => lane.frame(Frame { event, data, dialect: self.dialect }),
                Passing::Frames(frames) => lane.frames(frames, self.dialect).map(Passing::Frames),
            };
            passing = match next {
                Ok(passing) => passing,
                Err(denial) => {
                    self.denial = Some(denial.clone());
                    return FrameVerdict::Abort(denial);
                }
            };
        }
        match passing {
            Passing::Untouched => FrameVerdict::Pass,
            Passing::Frames(mut frames) => match frames.pop() {
                None => FrameVerdict::Hold,
                Some((name, data)) if frames.is_empty() && name.as_deref() == event => FrameVerdict::Replace(data),
                Some(last) => {
                    frames.push(last);
                    FrameVerdict::Emit(frames)
                }
            },
        }
    }

    /// The end of the stream: returns what the filters still held, in order; a second call returns nothing. Check
    /// [`Self::denial`] afterwards, because a filter may have failed or refused at the end.
    pub fn finish(&mut self) -> Vec<OwnedFrame> {
        if std::mem::replace(&mut self.finished, true) || self.denial.is_some() {
            return Vec::new();
        }
        let mut frames = Vec::new();
        for lane in &mut self.lanes {
            match lane.frames(frames, self.dialect).and_then(|seen| lane.finish(seen)) {
                Ok(out) => frames = out,
                Err(denial) => {
                    self.denial = Some(denial);
                    return Vec::new();
                }
            }
        }
        frames
    }

    /// Why the stream must end with an error; `None` if it need not.
    pub fn denial(&self) -> Option<&Denial> {
        self.denial.as_deref()
    }

    /// Adds the executions of the filters.
    pub fn settle(self, executions: &mut Vec<Execution>) {
        executions.extend(self.lanes.into_iter().map(Lane::settle));
    }
}

/// One filter and its execution.
struct Lane {
    step: Arc<Step>,
    filter: Option<Box<dyn StreamFilter>>,
    held: Vec<OwnedFrame>,
    held_bytes: usize,
    execution: Execution,
    decision: Decision,
    took: Duration,
    notes: Vec<(&'static str, String)>,
}

impl Lane {
    fn new(step: Arc<Step>, execution: Execution) -> Self {
        Self {
            step,
            filter: None,
            held: Vec::new(),
            held_bytes: 0,
            execution,
            decision: Decision::Allowed,
            took: Duration::ZERO,
            notes: Vec::new(),
        }
    }

    /// Runs the filter under the panic guard. A verdict that it was not granted is a failure. Without a filter, everything passes.
    fn ask(&mut self, frame: Frame<'_>) -> Result<StreamVerdict, Failure> {
        let Some(filter) = &mut self.filter else { return Ok(StreamVerdict::Pass) };
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| filter.frame(frame)));
        self.took += started.elapsed();
        let verdict = result.map_err(|_| Failure::Panicked)?.map_err(Failure::Error)?;
        let need = match &verdict {
            StreamVerdict::Pass => return Ok(verdict),
            StreamVerdict::Abort(_) => Need::Block,
            StreamVerdict::Replace(_) | StreamVerdict::Hold | StreamVerdict::Emit(_) => Need::WriteResponse,
        };
        if !self.step.instance().needs.contains(need) {
            return Err(Failure::Error(PluginError::NotGranted(need.as_str())));
        }
        if need == Need::WriteResponse && self.step.style() != Style::Sequential {
            return Err(Failure::Error(PluginError::NotGranted("writing from a parallel step")));
        }
        Ok(verdict)
    }

    /// Passes one frame through the filter. A filter that fails with `on_error: allow` releases the frames it held.
    fn frame(&mut self, frame: Frame<'_>) -> Result<Passing, Box<Denial>> {
        let own = |frame: Frame<'_>| (frame.event.map(str::to_owned), frame.data.to_owned());
        let verdict = match self.ask(frame) {
            Ok(verdict) => verdict,
            Err(failure) => {
                return match self.fail(failure) {
                    Some(denial) => Err(denial),
                    None if self.held.is_empty() => Ok(Passing::Untouched),
                    None => {
                        let mut released = std::mem::take(&mut self.held);
                        released.push(own(frame));
                        Ok(Passing::Frames(released))
                    }
                };
            }
        };
        if self.step.observes() {
            self.observed(verdict);
            return Ok(Passing::Untouched);
        }
        match verdict {
            StreamVerdict::Abort(denial) => {
                self.retire();
                self.decision = Decision::Blocked;
                self.execution.code = Some(denial.code.clone());
                Err(denial)
            }
            StreamVerdict::Hold => {
                self.held_bytes += frame.data.len();
                self.held.push(own(frame));
                if self.held_bytes <= MAX_HELD {
                    return Ok(Passing::Frames(Vec::new()));
                }
                let failure = Failure::Error(PluginError::NotPossible("more is held back than may be"));
                match self.fail(failure) {
                    Some(denial) => Err(denial),
                    None => Ok(Passing::Frames(std::mem::take(&mut self.held))),
                }
            }
            StreamVerdict::Pass => Ok(Passing::Untouched),
            StreamVerdict::Replace(data) if data == frame.data => Ok(Passing::Untouched),
            StreamVerdict::Replace(data) => {
                self.changed();
                Ok(Passing::Frames(vec![(frame.event.map(str::to_owned), data)]))
            }
            StreamVerdict::Emit(frames) => {
                let mut was = std::mem::take(&mut self.held);
                was.push(own(frame));
                self.held_bytes = 0;
                if frames != was {
                    self.changed();
                }
                Ok(Passing::Frames(frames))
            }
        }
    }

    fn frames(&mut self, frames: Vec<OwnedFrame>, dialect: Dialect) -> Result<Vec<OwnedFrame>, Box<Denial>> {
        let mut out = Vec::with_capacity(frames.len());
        for (event, data) in frames {
            match self.frame(Frame { event: event.as_deref(), data: &data, dialect })? {
                Passing::Untouched => out.push((event, data)),
                Passing::Frames(frames) => out.extend(frames),
            }
        }
        Ok(out)
    }

    fn finish(&mut self, mut out: Vec<OwnedFrame>) -> Result<Vec<OwnedFrame>, Box<Denial>> {
        let Some(filter) = &mut self.filter else { return Ok(out) };
        let started = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| filter.finish()));
        self.took += started.elapsed();
        let writes = self.step.instance().needs.contains(Need::WriteResponse) && self.step.style() == Style::Sequential;
        let result = match result {
            Err(_) => Err(Failure::Panicked),
            Ok(Err(error)) => Err(Failure::Error(error)),
            Ok(Ok(rest)) if !rest.is_empty() && !writes => Err(Failure::Error(PluginError::NotGranted(Need::WriteResponse.as_str()))),
            Ok(Ok(rest)) => Ok(rest),
        };
        match result {
            Ok(_) if self.step.observes() => {}
            Ok(rest) => {
                if rest != self.held {
                    self.changed();
                }
                self.held.clear();
                out.extend(rest);
            }
            Err(failure) => match self.fail(failure) {
                Some(denial) => return Err(denial),
                None => out.append(&mut self.held),
            },
        }
        self.retire();
        Ok(out)
    }

    /// Records what an observing filter would have done. Its refusal would have ended the stream, so the filter sees no more of it.
    fn observed(&mut self, verdict: StreamVerdict) {
        match verdict {
            StreamVerdict::Pass | StreamVerdict::Hold => {}
            StreamVerdict::Replace(_) | StreamVerdict::Emit(_) => self.decision = Decision::WouldChange,
            StreamVerdict::Abort(denial) => {
                self.decision = Decision::WouldBlock;
                self.execution.code = Some(denial.code);
                self.retire();
            }
        }
    }

    /// Ends the filter after a failure; returns the denial if `on_error` refuses.
    fn fail(&mut self, failure: Failure) -> Option<Box<Denial>> {
        self.retire();
        self.decision = self.step.failed(&failure, &mut self.execution);
        match self.step.verdict_of_failure(&mut self.execution) {
            Verdict::Next => None,
            Verdict::Abort(denial) => Some(denial),
        }
    }

    fn changed(&mut self) {
        self.decision = Decision::Changed;
        self.execution.changed_response = true;
    }

    /// Ends the filter after collecting its notes.
    fn retire(&mut self) {
        if let Some(mut filter) = self.filter.take() {
            self.notes = catch_unwind(AssertUnwindSafe(|| filter.notes())).unwrap_or_default();
        }
    }

    fn settle(mut self) -> Execution {
        self.retire();
        self.execution.notes.append(&mut self.notes);
        self.execution.took = self.took;
        let step = self.step;
        step.count(&mut self.execution, self.decision);
        self.execution
    }
}

#[cfg(test)]
#[path = "stream_test.rs"]
mod tests;
