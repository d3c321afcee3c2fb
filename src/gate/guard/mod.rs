//! SafetySec at the gates: one route's engine with its scopes, its counters and the caller's session. Everything that
//! waits or counts is here; what is found, and what that means, is decided in [`crate::safety`].

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

/// Bodies from here on are read on a thread of their own, so that no other request waits for them.
const LARGE: usize = 256 * 1024;

/// In the place of a module: every module of a phase looked and found nothing.
const EVERY_MODULE: &str = "every_module";
/// The same of those that have no entry of their own.
const EVERY_OTHER: &str = "every_other";

/// What SafetySec keeps of one request.
#[derive(Debug, Clone, Default)]
pub struct Guarded {
    /// What each module did, in order.
    pub readings: Vec<Reading>,
    /// The session, once somebody needed it.
    session: Option<SessionKey>,
    /// What the request said, for modules that compare answers with it.
    asked: Option<Arc<Fingerprints>>,
    /// The store knows of this request.
    counted: bool,
    /// The request was blocked.
    blocked: bool,
    /// Something was redacted.
    redacted: bool,
    /// Members whose findings the session is still to be told of.
    flags: u32,
}

impl Guarded {
    /// The module whose reading came to most, and what that was; `None` if nothing was found and nothing failed.
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

/// SafetySec as it is in force on one route. A route without one costs nothing.
#[derive(Debug)]
pub struct Guard {
    engine: Arc<Engine>,
    /// For whom each member runs.
    scopes: Vec<Scope>,
    scoped: bool,
    sessions: Arc<Sessions>,
    modules: Vec<[Option<ModuleMetrics>; 6]>,
    decisions: [DecisionMetrics; 6],
    texts: [TextMetrics; 6],
    /// A module compares answers with what was asked.
    compares: bool,
    /// Modules look at answers, but only at what tools say in them.
    tools_alone: bool,
    scores_answers: bool,
}

impl Guard {
    /// The guard of a route; `scopes` by the engine's members. `None` if nothing would ever run.
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

    /// Something is carried out here, not only observed.
    pub fn enforces(&self) -> bool {
        self.engine.mode() == Mode::Security
    }

    /// A module wants to see answers.
    pub fn reads_answers(&self) -> bool {
        self.engine.runs_at(Phase::PostUpstream)
    }

    /// A module wants to see the answers of this API.
    pub fn reads_answers_of(&self, dialect: Dialect) -> bool {
        self.reads_answers() && (!self.tools_alone || dialect == Dialect::Mcp)
    }

    /// `pre_auth` and `post_auth`: what is known before the body is read. The caller's session begins anew once the key is
    /// known.
    ///
    /// # Errors
    /// The request must not go on.
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

    /// `pre_upstream`: the body as it would be sent. Redacts it in the draft.
    ///
    /// # Errors
    /// The request must not go on. `must_read` says that a body nobody can read is one of those.
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

    /// `pre_upstream` of the query: its values, decoded. Nothing in a query is replaced, so what would be is refused; tokens
    /// without a name are left alone, as pages and signatures are such.
    ///
    /// # Errors
    /// The request must not go on.
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

    /// `post_upstream` of an answer that was held: the body as it is to leave.
    ///
    /// # Errors
    /// Nothing of the answer may leave, also because nobody can read it.
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
                // Who lets pass what cannot be read has it looked at as text, as far as it is.
                match std::str::from_utf8(&body) {
                    Ok(text) => self.order(ex, Phase::PostUpstream, Side::Response).plain(text, Kind::Content, Role::Assistant),
                    Err(_) => return Ok(body),
                }
            }
        };
        self.rule(ex, &look.judgement, Side::Response, began).await?;
        Ok(look.redacted.unwrap_or(body))
    }

    /// The guard of one streamed answer; `None` if nobody looks at it.
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

    /// Puts on record what a stream's guard did.
    pub fn streamed(&self, ex: &mut Exchange, stream: StreamGuard) {
        let (judgement, decision, score, began) = stream.settle();
        self.write(ex, &judgement, &decision, score, Side::Response, began);
        let kept = guarded(ex);
        kept.blocked |= decision.action == SafetyAction::Block;
        kept.redacted |= decision.action == SafetyAction::Redact;
    }

    /// The end of a request: the phases `stream` and `post_response`, and the session's counts.
    pub fn over(&self, ex: &mut Exchange, streamed: bool) {
        if ex.safety.is_none() {
            // It ended before anyone looked at it, so it belongs to no session.
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
        // A panic outside of modules, whose own are caught, is a defect; the body then was not read.
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

    /// Which members run for this request.
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

    /// Asks the session where something was found, decides, and puts it on record.
    async fn rule(&self, ex: &mut Exchange, judgement: &Judgement, side: Side, began: Instant) -> Result<Decision, Denial> {
        let risk = self.engine.risk(judgement);
        let mut score = None;
        let mut gone = false;
        // What adds no score, as an address that is redacted, decides nothing: nobody waits for the store to hear of it.
        let weighs = !risk.is_none();
        if !weighs {
            guarded(ex).flags |= risk.flags;
        } else {
            let session = self.session(ex);
            // A request that was counted on its way in is not counted again on the answer's way out.
            let counted = std::mem::replace(&mut guarded(ex).counted, true);
            if risk.counts() {
                match self.sessions.add(session, risk, !counted).await {
                    Ok(said) => score = said,
                    Err(StoreGone) => gone = true,
                }
            } else {
                // Faint signs block nobody: who asks does not wait for the store to hear of them.
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

    /// Evidence and counters of a judgement. `score` is the session's where it was asked, which may have given no answer.
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
        // Who looked and found nothing is one entry of a phase: nearly every request is like that.
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

    /// A member's failure closes the gate.
    fn must_hold(&self, member: usize) -> bool {
        self.engine
            .members()
            .get(member)
            .is_some_and(|member| self.engine.mode_of(member) == Mode::Security && member.policy.on_error == OnError::Deny)
    }
}

/// What SafetySec keeps of a request; made when it is first needed, so that unguarded ones carry nothing.
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
