//! SafetySec at the gates: one route's engine with its scopes, its counters and the caller's session. Everything that waits
//! or counts is here; what is found, and what follows from it, is decided in [`crate::safety`].

mod body;
mod claim;
mod file;
mod frame;
mod joint;
mod named;
mod record;
mod risk;
mod stream;

pub use claim::Claim;
pub use record::{Level, Outcome, Reading, side};
pub use risk::{SessionKey, SessionPolicy, Sessions, StoreGone};
pub use stream::{Flow, StreamGuard};

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Exchange;
use crate::error::{Denial, codes};
use crate::plugin::Scope;
use crate::safety::fingerprint::Fingerprints;
use crate::safety::{
    Admitted, Decision, EVERYONE, Engine, Failure, Judgement, Kinds, Member, Mode, OnError, Order as Style, Passage, Phase, SafetyAction,
    Side,
};
use crate::telemetry::{DecisionMetrics, Metrics, ModuleMetrics, TextMetrics};
use crate::wire::{Dialect, Endpoint, Kind, Role};
use body::{Look, Order, Unreadable};
use claim::Unparsed;
use risk::Noted;

/// Bodies of at least this many bytes are read on a thread of their own, so that they delay no other request.
const LARGE: usize = 256 * 1024;

/// The name of the one reading of a phase in which no module found anything.
const EVERY_MODULE: &str = "every_module";
/// The name of the reading that stands for the modules of a phase that found nothing, beside those that did.
const EVERY_OTHER: &str = "every_other";

/// SafetySec's state for one request.
#[derive(Debug, Clone, Default)]
pub struct Guarded {
    /// The results of the modules, in order.
    pub readings: Vec<Reading>,
    /// The key of the caller's session, once it was needed.
    session: Option<SessionKey>,
    /// Fingerprints of the request, for modules that compare the answer with it.
    asked: Option<Arc<Fingerprints>>,
    /// Whether the session store has counted this request already.
    counted: bool,
    /// Whether the request or its answer was blocked.
    blocked: bool,
    /// Whether anything was redacted.
    redacted: bool,
    /// Members with findings that the session store has not been told about yet.
    flags: u32,
}

impl Guarded {
    /// The module with the most severe reading, and what that was; `None` if nothing was found and nothing failed.
    pub fn strictest(&self) -> Option<(&'static str, &'static str)> {
        let rank = |outcome: Outcome| match outcome {
            Outcome::Done(action) => action as u8 * 3 + 2,
            Outcome::Would(action) => action as u8 * 3 + 1,
            Outcome::Error | Outcome::Panicked => 6,
        };
        let notable = self.readings.iter().filter(|reading| reading.outcome.is_notable());
        notable.max_by_key(|reading| rank(reading.outcome)).map(|reading| (reading.module, reading.outcome.as_str()))
    }
}

/// SafetySec as configured for one route. A route without it has no guard.
#[derive(Debug)]
pub struct Guard {
    engine: Arc<Engine>,
    /// The scope of each member.
    scopes: Vec<Scope>,
    scoped: bool,
    sessions: Arc<Sessions>,
    modules: Vec<[Option<ModuleMetrics>; 6]>,
    decisions: [DecisionMetrics; 6],
    texts: [TextMetrics; 6],
    /// Whether a module compares answers with the request.
    compares: bool,
    /// Whether modules read only the tools' parts of answers, not the model's.
    tools_alone: bool,
    scores_answers: bool,
}

impl Guard {
    /// Creates the guard of a route; `scopes` are in the order of the engine's members. `None` if no module would ever run.
    pub fn new(engine: Arc<Engine>, scopes: Vec<Scope>, sessions: Arc<Sessions>, metrics: &Metrics) -> Option<Arc<Self>> {
        if !Phase::ALL.iter().any(|phase| engine.runs_at(*phase)) {
            return None;
        }
        let modules = engine.members().iter().enumerate().map(|(place, member)| {
            Phase::ALL.map(|phase| {
                let runs = engine.at(phase).any(|(at, _)| at == place);
                runs.then(|| metrics.safety_module(member.name(), phase.as_str()))
            })
        });
        let modules = modules.collect();
        let compares = engine.at(Phase::PostUpstream).any(|(_, member)| !member.built.blueprint.pure);
        let models = |member: &Member| {
            let words = |role| Kind::ALL.iter().any(|kind| member.reads(&Passage::new("", Side::Response, *kind, role)));
            words(Role::Assistant) || words(Role::Unknown)
        };
        let tools_alone = engine.at(Phase::PostUpstream).all(|(_, member)| !models(member));
        let scores_answers = engine.at(Phase::PostUpstream).any(|(_, member)| member.built.module.order() == Style::Parallel);
        Some(Arc::new(Self {
            modules,
            decisions: Phase::ALL.map(|phase| metrics.safety_decisions(phase.as_str())),
            texts: Phase::ALL.map(|phase| metrics.safety_texts(phase.as_str())),
            compares,
            tools_alone,
            scores_answers,
            scoped: scopes.iter().any(|scope| !scope.is_everybody()),
            engine,
            scopes,
            sessions,
        }))
    }

    /// Whether findings are acted on, not only observed.
    pub fn enforces(&self) -> bool {
        self.engine.mode() == Mode::Security
    }

    /// Whether a module reads answers.
    pub fn reads_answers(&self) -> bool {
        self.engine.runs_at(Phase::PostUpstream)
    }

    /// Whether a module reads the answers of this API.
    pub fn reads_answers_of(&self, dialect: Dialect) -> bool {
        self.reads_answers() && (!self.tools_alone || dialect == Dialect::Mcp)
    }

    /// `pre_auth` and `post_auth`: what is known before the body is read. The caller's session begins anew once the key is
    /// known.
    ///
    /// # Errors
    /// The request is refused.
    pub async fn head(&self, phase: Phase, ex: &mut Exchange) -> Result<(), Denial> {
        if !self.engine.runs_at(phase) {
            return Ok(());
        }
        let (path, agent) = (ex.facts.path.clone(), ex.facts.user_agent.clone().unwrap_or_default());
        let passages = [path.as_str(), &agent].map(|text| Passage::new(text, Side::Request, Kind::Metadata, Role::Unknown));
        let began = Instant::now();
        let judgement = self.engine.judge_for(phase, &passages, self.admitted(ex));
        guarded(ex).session = None;
        self.rule(ex, &judgement, Side::Request, began).await.map(|_| ())
    }

    /// `pre_upstream`: reads the body as it would be sent, and redacts it in the draft.
    ///
    /// # Errors
    /// The request is refused; with `must_read` also because its body cannot be read.
    pub async fn request(self: &Arc<Self>, ex: &mut Exchange, must_read: bool) -> Result<(), Denial> {
        let body = ex.draft.body.clone();
        if body.is_empty() || !self.engine.runs_at(Phase::PreUpstream) && !self.compares {
            return Ok(());
        }
        let began = Instant::now();
        if matches!(ex.facts.endpoint, Endpoint::Completions | Endpoint::Embeddings | Endpoint::Task) && crate::wire::token_ids(&body) {
            if must_read && self.enforces() {
                return Err(Denial::of(codes::INVALID_REQUEST).with_message("token ids cannot be read here: send the text"));
            }
            ex.draft.tags.push(("safety".to_owned(), "request_unread".to_owned()));
        }
        let Ok(Look { judgement, redacted, asked }) = self.look(ex, Phase::PreUpstream, Side::Request, body).await else {
            if must_read && self.enforces() {
                return Err(Denial::of(codes::INVALID_REQUEST));
            }
            ex.draft.tags.push(("safety".to_owned(), "request_unread".to_owned()));
            return Ok(());
        };
        guarded(ex).asked = asked;
        self.rule(ex, &judgement, Side::Request, began).await?;
        if let Some(body) = redacted {
            ex.draft.body = body;
        }
        Ok(())
    }

    /// `pre_upstream` for the query: reads its decoded values. Nothing in a query can be replaced, so a value that would be
    /// redacted is refused. Tokens without a recognisable issuer are ignored, because page cursors and signatures look like them.
    ///
    /// # Errors
    /// The request is refused.
    pub async fn query(&self, ex: &mut Exchange, query: &str) -> Result<(), Denial> {
        if query.is_empty() || !self.engine.runs_at(Phase::PreUpstream) {
            return Ok(());
        }
        let began = Instant::now();
        let values: Vec<String> = file::query_values(query).filter(|value| !value.is_empty()).collect();
        let passages: Vec<Passage<'_>> =
            values.iter().map(|value| Passage::new(value, Side::Request, Kind::Input, Role::Unknown)).collect();
        let mut judgement = self.engine.judge_for(Phase::PreUpstream, &passages, self.admitted(ex));
        let token = crate::safety::entity::Entity::Token.as_str();
        for run in &mut judgement.runs {
            run.forget(token);
        }
        self.rule(ex, &judgement, Side::Request, began).await?;
        let named = |finding: &crate::safety::Finding| finding.category != token;
        let hidden = judgement.found.iter().map(|found| found.iter().filter(|f| named(f)).cloned().collect::<Vec<_>>());
        if self.enforces() && hidden.into_iter().any(|found| !self.engine.spans(&found).is_empty()) {
            guarded(ex).blocked = true;
            return Err(Denial::of(codes::SAFETY_BLOCKED));
        }
        Ok(())
    }

    /// `post_upstream` for an answer that was held: returns the body to send.
    ///
    /// # Errors
    /// The answer is refused, possibly because it cannot be read.
    pub async fn answer(self: &Arc<Self>, ex: &mut Exchange, body: Bytes, claim: Claim<'_>) -> Result<Bytes, Denial> {
        if body.is_empty() || !self.reads_answers() {
            return Ok(body);
        }
        let began = Instant::now();
        let look = match self.look(ex, Phase::PostUpstream, Side::Response, body.clone()).await {
            Ok(look) => look,
            Err(Unreadable) => {
                let said = claim.unparsed(ex.facts.dialect, ex.facts.endpoint, &body);
                if said == Unparsed::Unreadable && claim.must_read && self.enforces() {
                    return Err(Denial::of(codes::ANSWER_UNREADABLE));
                }
                if said != Unparsed::Text {
                    ex.draft.tags.push(("safety".to_owned(), "answer_unread".to_owned()));
                }
                // A body that may pass unread is still read as text, if it is UTF-8.
                match std::str::from_utf8(&body) {
                    Ok(text) => self.order(ex, Phase::PostUpstream, Side::Response).plain(text, Kind::Content, Role::Assistant),
                    Err(_) => return Ok(body),
                }
            }
        };
        self.rule(ex, &look.judgement, Side::Response, began).await?;
        Ok(look.redacted.unwrap_or(body))
    }

    /// The guard of one streamed answer; `None` if no module reads answers.
    pub fn stream(self: &Arc<Self>, ex: &mut Exchange) -> Option<StreamGuard> {
        if !self.reads_answers() {
            return None;
        }
        let (admitted, began) = (self.admitted(ex), ex.facts.received.elapsed());
        let session = self.session(ex);
        let known = if self.scores_answers && self.enforces() { Some(self.sessions.ask(session)) } else { None };
        let asked = ex.safety.as_ref().and_then(|kept| kept.asked.clone());
        let tools = from_tools(ex, Side::Response);
        Some(StreamGuard::new(Arc::clone(self), admitted, tools, asked, session, known, began))
    }

    /// Records the results of a stream's guard.
    pub fn streamed(&self, ex: &mut Exchange, stream: StreamGuard) {
        let (judgement, decision, score, began) = stream.settle();
        self.write(ex, &judgement, &decision, score, Side::Response, began);
        let kept = guarded(ex);
        kept.blocked |= decision.action == SafetyAction::Block;
        kept.redacted |= decision.action == SafetyAction::Redact;
    }

    /// The end of a request: runs the phases `stream` and `post_response`, and notes the request for its session.
    pub fn over(&self, ex: &mut Exchange, streamed: bool) {
        if ex.safety.is_none() {
            // SafetySec has not seen the request, so it belongs to no session.
            return;
        }
        for (phase, due) in [(Phase::Stream, streamed), (Phase::PostResponse, true)] {
            if due && self.engine.runs_at(phase) {
                let began = ex.facts.received.elapsed();
                let judgement = self.engine.judge_for(phase, &[], self.admitted(ex));
                let decision = self.engine.decide(&judgement, Some(0.0));
                self.write(ex, &judgement, &decision, None, Side::Response, began);
            }
        }
        let session = self.session(ex);
        let kept = guarded(ex);
        let Guarded { counted, blocked, redacted, flags, .. } = *kept;
        self.sessions.note(session, Noted { counted, blocked, redacted, flags });
    }

    async fn look(self: &Arc<Self>, ex: &Exchange, phase: Phase, side: Side, body: Bytes) -> Result<Look, Unreadable> {
        if body.len() < LARGE {
            return self.order(ex, phase, side).json(&body);
        }
        let this = Arc::clone(self);
        let (admitted, tools, asked) = (self.admitted(ex), from_tools(ex, side), self.asked(ex, side));
        let work = move || {
            let keep = this.compares && side == Side::Request;
            Order { engine: &this.engine, phase, side, admitted, tools, asked, keep }.json(&body)
        };
        // Panics of modules are caught inside; any other panic is a defect, and the body then counts as unread.
        tokio::task::spawn_blocking(work).await.unwrap_or(Err(Unreadable))
    }

    fn order(&self, ex: &Exchange, phase: Phase, side: Side) -> Order<'_> {
        let keep = self.compares && side == Side::Request;
        let (admitted, tools) = (self.admitted(ex), from_tools(ex, side));
        Order { engine: &self.engine, phase, side, admitted, tools, asked: self.asked(ex, side), keep }
    }

    fn asked(&self, ex: &Exchange, side: Side) -> Option<Arc<Fingerprints>> {
        ex.safety.as_ref().filter(|_| side == Side::Response).and_then(|kept| kept.asked.clone())
    }

    /// The members whose scope includes this request.
    fn admitted(&self, ex: &Exchange) -> Admitted {
        if !self.scoped {
            return EVERYONE;
        }
        let model = ex.draft.model.as_deref();
        let inside = |scope: &Scope| scope.admits(&ex.facts, model).is_ok();
        self.scopes.iter().enumerate().filter(|(_, scope)| inside(scope)).fold(0, |admitted, (place, _)| admitted | 1 << place)
    }

    fn session(&self, ex: &mut Exchange) -> SessionKey {
        let known = ex.safety.as_ref().and_then(|kept| kept.session);
        let session = known.unwrap_or_else(|| self.sessions.fingerprint(&ex.facts));
        guarded(ex).session = Some(session);
        session
    }

    /// Adds the findings to the session, decides, and records the result.
    async fn rule(&self, ex: &mut Exchange, judgement: &Judgement, side: Side, began: Instant) -> Result<Decision, Denial> {
        let risk = self.engine.risk(judgement);
        let mut score = None;
        let mut gone = false;
        // Findings without a score, such as an address that is redacted, cannot change the decision: the store is not waited for.
        let weighs = !risk.is_none();
        if !weighs {
            guarded(ex).flags |= risk.flags;
        } else {
            let session = self.session(ex);
            // The request is counted once, not again for its answer.
            let counted = std::mem::replace(&mut guarded(ex).counted, true);
            if risk.counts() {
                match self.sessions.add(session, risk, !counted).await {
                    Ok(said) => score = said,
                    Err(StoreGone) => gone = true,
                }
            } else {
                // Faint signs cannot block: the store is told without waiting for it.
                score = self.sessions.add_faint(session, risk, !counted);
            }
        }
        let decision = self.engine.decide(judgement, score);
        let began = began.saturating_duration_since(ex.facts.received);
        let level = weighs.then_some(score);
        self.write(ex, judgement, &decision, level, side, began);
        let kept = guarded(ex);
        kept.blocked |= decision.action == SafetyAction::Block;
        kept.redacted |= decision.action == SafetyAction::Redact;
        match () {
            () if decision.action == SafetyAction::Block => Err(Denial::of(codes::SAFETY_BLOCKED)),
            () if decision.unavailable => Err(Denial::of(codes::PLUGIN_UNAVAILABLE)),
            () if gone && self.enforces() && risk.counts() => Err(Denial::of(codes::STORE_UNAVAILABLE)),
            () => Ok(decision),
        }
    }

    /// Writes the readings and counters of a judgement. `score` is `Some` if the session was asked, and `Some(None)` if it did
    /// not answer.
    fn write(
        &self,
        ex: &mut Exchange,
        judgement: &Judgement,
        decision: &Decision,
        score: Option<Option<f64>>,
        side: Side,
        began: Duration,
    ) {
        let phase = judgement.phase;
        self.decisions[phase as usize].decided(word(decision));
        self.texts[phase as usize].shown(judgement.read, judgement.remembered);
        let threshold = self.engine.rule().block_threshold;
        let level = score.map(|score| score.map_or(Level::Unknown, |score| Level::of(score, threshold)));
        let kept = guarded(ex);
        let first = kept.readings.len();
        let mut quiet: Option<Duration> = None;
        for (run, ruling) in judgement.runs.iter().zip(&decision.of) {
            let outcome = match &run.failure {
                Some(Failure::Panicked) => Outcome::Panicked,
                Some(Failure::Error(_)) => Outcome::Error,
                None if ruling.enforced => Outcome::Done(ruling.action),
                None => Outcome::Would(ruling.action),
            };
            if let Some(Some(metrics)) = self.modules.get(run.member).map(|phases| &phases[phase as usize]) {
                metrics.ran(outcome.index(), run.redactions, run.took);
            }
            if let Some(failure) = &run.failure {
                log::warn!(target: "safety", security_module = run.module, phase = phase.as_str(); "the module could not look: {}", failure.text());
            }
            if !outcome.is_notable() {
                *quiet.get_or_insert_default() += run.took;
                continue;
            }
            kept.readings.push(Reading {
                module: run.module,
                phase,
                side,
                outcome,
                categories: run.counts.clone(),
                kinds: run.kinds,
                reason: ruling.reason,
                score: run.peak,
                session: level.filter(|_| run.peak > 0.0),
                error: run.failure.as_ref().map(|failure| failure.text().to_owned().into()),
                started: began,
                took: run.took,
            });
        }
        // All modules of a phase that found nothing share one reading; nearly every request has only such modules.
        if let Some(took) = quiet {
            let module = if kept.readings.len() == first { EVERY_MODULE } else { EVERY_OTHER };
            kept.readings.push(Reading {
                module,
                phase,
                side,
                outcome: Outcome::Done(SafetyAction::Allow),
                categories: Vec::new(),
                kinds: Kinds::default(),
                reason: "nothing found",
                score: 0.0,
                session: None,
                error: None,
                started: began,
                took,
            });
        }
    }

    /// Whether a failure of this member refuses the request.
    fn must_hold(&self, member: usize) -> bool {
        self.engine
            .members()
            .get(member)
            .is_some_and(|member| self.engine.mode_of(member) == Mode::Security && member.policy.on_error == OnError::Deny)
    }
}

/// SafetySec's state for a request, created when first needed, so that unguarded requests have none.
fn guarded(ex: &mut Exchange) -> &mut Guarded {
    ex.safety.get_or_insert_default()
}

/// Whether these are the words of a server of tools.
fn from_tools(ex: &Exchange, side: Side) -> bool {
    side == Side::Response && ex.facts.dialect == Dialect::Mcp
}

/// One word for a phase's decision; what only would have been says so.
fn word(decision: &Decision) -> &'static str {
    match (decision.action, decision.would) {
        (SafetyAction::Block, _) => "block",
        _ if decision.unavailable => "unavailable",
        (SafetyAction::Redact, _) => "redact",
        (SafetyAction::Observe, SafetyAction::Block) => "would_block",
        (SafetyAction::Observe, SafetyAction::Redact) => "would_redact",
        (action, _) => action.as_str(),
    }
}
