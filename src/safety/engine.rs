//! The engine: runs the configured modules over the passages of one phase, and combines what they find.
//!
//! Modules run in the order sequential, parallel, background. All of them see the original text, and redactions are carried
//! out together at the end. Nothing here waits: the caller fetches the session's score and passes it to [`Engine::decide`],
//! so that the gateway, `safety scan` and tests run the same code.

use std::any::Any;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::num::NonZeroUsize;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::cache::Verdicts;
use super::modules::{self, Blueprint};
use super::policy::{Action, Policy, SessionRule};
use super::{Category, Finding, Findings, Kinds, Mode, ModuleError, Order, Passage, Phase, SafetyModule};
use crate::wire::Kind;

/// Bit mask of the members that scan a request, by their position in the engine.
pub type Admitted = u64;
/// All members.
pub const EVERYONE: Admitted = u64::MAX;

/// The most that a module says of what another tells of in its stead.
const RETOLD: f32 = 0.45;

/// A module that was built, shared by every engine that uses it.
pub struct Built {
    /// Its description.
    pub blueprint: &'static Blueprint,
    /// The module.
    pub module: Arc<dyn SafetyModule>,
    /// Identifies this build of the module with this configuration.
    ruleset: u64,
}

impl Built {
    /// Builds a module from its configuration.
    ///
    /// # Errors
    /// The module's error about its configuration.
    pub fn new(blueprint: &'static Blueprint, config: &Value) -> Result<Self, String> {
        let module = catch_unwind(|| (blueprint.build)(config)).map_err(|_| "panicked while it was built".to_owned())??;
        let mut hasher = DefaultHasher::new();
        (env!("CARGO_PKG_VERSION"), blueprint.name, config.to_string()).hash(&mut hasher);
        Ok(Self { blueprint, module, ruleset: hasher.finish() })
    }

    /// A module of a test or of another program.
    pub fn of(blueprint: &'static Blueprint, module: Arc<dyn SafetyModule>) -> Self {
        let mut hasher = DefaultHasher::new();
        blueprint.name.hash(&mut hasher);
        Self { blueprint, module, ruleset: hasher.finish() }
    }

    /// The policy that applies if nothing is configured.
    pub fn policy(&self) -> Policy {
        Policy {
            mode: Mode::Security,
            action: Action::Auto,
            weight: self.blueprint.weight,
            threshold: 0.5,
            on_error: self.blueprint.on_error,
            kinds: None,
        }
    }
}

impl std::fmt::Debug for Built {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Built({})", self.blueprint.name)
    }
}

/// A module with its policy.
#[derive(Debug, Clone)]
pub struct Member {
    /// The module.
    pub built: Arc<Built>,
    /// The operator's policy.
    pub policy: Policy,
}

impl Member {
    /// The module's name.
    pub fn name(&self) -> &'static str {
        self.built.blueprint.name
    }

    /// Whether it scans a passage.
    pub fn reads(&self, passage: &Passage<'_>) -> bool {
        let Some(kinds) = &self.policy.kinds else { return self.built.module.reads(passage) };
        if !kinds.contains(&passage.kind) {
            return false;
        }
        // The operator's choice of kinds replaces the module's own. Side and role stay the module's choice.
        self.built.module.reads(passage) || {
            let mut plain = passage.clone();
            plain.kind = Kind::Content;
            self.built.module.reads(&plain)
        }
    }
}

/// Modules with a mode and a session rule. Immutable, and shared by requests.
#[derive(Debug)]
pub struct Engine {
    mode: Mode,
    rule: SessionRule,
    members: Vec<Member>,
    /// Positions of members by phase, in the order in which they run.
    plan: [Vec<usize>; 6],
    /// By member: who may tell of a finding in its stead, a bit each by their place.
    stand_ins: Vec<Admitted>,
    verdicts: Option<Arc<Verdicts>>,
    ruleset: u64,
}

/// The findings of all modules in the passages of one phase.
#[derive(Debug, Clone)]
pub struct Judgement {
    /// The phase.
    pub phase: Phase,
    /// The findings in each passage, by index; empty if nothing was found anywhere.
    pub found: Vec<Findings>,
    /// The run of each module, in the order in which they ran.
    pub runs: Vec<Run>,
    /// Number of texts that were scanned, without those whose verdict was cached.
    pub read: u32,
    /// Number of texts with a cached verdict. Modules that neither are pure nor [compare](SafetyModule::compares) scanned
    /// these too.
    pub remembered: u32,
    /// Identifies the passages: two judgements with the same name are about the same texts. 0 without a cache.
    pub name: u128,
}

/// What one module did over all passages of a phase.
#[derive(Debug, Clone)]
pub struct Run {
    /// The module's position in the engine.
    pub member: usize,
    /// The module's name.
    pub module: &'static str,
    /// The highest score of its findings, 0 to 1.
    pub peak: f32,
    /// The highest score outside of texts [said before](Passage::said_before).
    pub fresh: f32,
    /// Whether the passage being scanned was said before.
    before: bool,
    /// Number of findings by category, in the order of first occurrence. Never text.
    pub counts: Vec<(Category, u32)>,
    /// Number of spans that it wants redacted.
    pub redactions: u32,
    /// In what kinds of text it found something.
    pub kinds: Kinds,
    /// Why it could not look at everything.
    pub failure: Option<Failure>,
    /// Time that it took.
    pub took: Duration,
}

/// Why a module could not scan a passage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// The module returned an error.
    Error(String),
    /// The module panicked. The payload may quote the text, so it is dropped unread.
    Panicked,
}

impl Failure {
    /// A text that is safe to record.
    pub fn text(&self) -> &str {
        match self {
            Self::Error(text) => text,
            Self::Panicked => "panicked",
        }
    }
}

impl Run {
    pub(super) fn new(member: usize, module: &'static str) -> Self {
        Self {
            member,
            module,
            peak: 0.0,
            fresh: 0.0,
            before: false,
            counts: Vec::new(),
            redactions: 0,
            kinds: Kinds::default(),
            failure: None,
            took: Duration::ZERO,
        }
    }

    /// Takes note of a finding in a text of this kind.
    pub fn note(&mut self, finding: &Finding, kind: Kind) {
        self.kinds.insert(kind);
        if finding.score.is_finite() {
            let score = finding.score.clamp(0.0, 1.0);
            self.peak = self.peak.max(score);
            if !self.before {
                self.fresh = self.fresh.max(score);
            }
        }
        self.redactions += u32::from(finding.redact);
        match self.counts.iter_mut().find(|(category, _)| *category == finding.category) {
            Some((_, count)) => *count += 1,
            None => self.counts.push((finding.category.clone(), 1)),
        }
    }

    /// Adds the result of another scan of the same stream.
    pub fn absorb(&mut self, other: Run, counted: bool) {
        self.failure = other.failure.or(self.failure.take());
        self.peak = self.peak.max(other.peak);
        self.fresh = self.fresh.max(other.fresh);
        self.took += other.took;
        self.kinds.join(other.kinds);
        if counted {
            self.redactions += other.redactions;
            for (category, count) in other.counts {
                match self.counts.iter_mut().find(|(mine, _)| *mine == category) {
                    Some((_, mine)) => *mine += count,
                    None => self.counts.push((category, count)),
                }
            }
        }
    }

    /// Removes the findings of a category.
    pub fn forget(&mut self, category: &str) {
        self.counts.retain(|(name, _)| name != category);
        if self.counts.is_empty() {
            self.redactions = 0;
            self.kinds = Kinds::default();
        }
    }

    /// Whether it found anything.
    pub fn found(&self) -> bool {
        !self.counts.is_empty()
    }
}

/// Most modules in an engine; a configuration with more is refused.
pub const MOST_MODULES: usize = 64;

impl Engine {
    /// An engine of these members. `verdicts` is the cache of findings.
    pub fn new(mode: Mode, rule: SessionRule, members: Vec<Member>, verdicts: Option<Arc<Verdicts>>) -> Self {
        let mut plan: [Vec<usize>; 6] = Default::default();
        let mut hasher = DefaultHasher::new();
        for (place, member) in members.iter().enumerate().take(MOST_MODULES) {
            member.built.ruleset.hash(&mut hasher);
            member.policy.kinds.hash(&mut hasher);
            if mode == Mode::Noop || member.policy.mode == Mode::Noop {
                continue;
            }
            for phase in member.built.module.phases() {
                plan[*phase as usize].push(place);
            }
        }
        for places in &mut plan {
            places.sort_by_key(|place| match members.get(*place).map(|m| m.built.module.order()) {
                Some(Order::Sequential) => 0,
                Some(Order::Parallel) => 1,
                Some(Order::Background) | None => 2,
            });
        }
        let stands_in = |member: &Member, other: &Member| {
            let bound = |member: &Member| mode.min(member.policy.mode);
            member.built.module.kin().is_some_and(|kin| other.built.module.kin() == Some(kin))
                && bound(other) >= bound(member)
                && other.policy.does_at_least(&member.policy)
        };
        let stand_ins: Vec<Admitted> = members
            .iter()
            .enumerate()
            .map(|(place, member)| {
                let others = members.iter().enumerate().take(MOST_MODULES).filter(|(at, other)| *at != place && stands_in(member, other));
                others.fold(0, |bits, (at, _)| bits | 1 << at)
            })
            .collect();
        stand_ins.hash(&mut hasher);
        Self { mode, rule, members, plan, stand_ins, verdicts, ruleset: hasher.finish() }
    }

    /// Every built-in module with its defaults, in mode `security`, without a cache: the engine of `safety scan` without a
    /// configuration.
    ///
    /// # Errors
    /// When a module cannot be built with its defaults, which is a defect.
    pub fn default_pack() -> Result<Self, String> {
        let mut members = Vec::new();
        for blueprint in modules::BUILT_IN {
            let built = Built::new(blueprint, &Value::Object(serde_json::Map::new())).map_err(|e| format!("{}: {e}", blueprint.name))?;
            let policy = built.policy();
            members.push(Member { built: Arc::new(built), policy });
        }
        Ok(Self::new(Mode::Security, SessionRule::default(), members, None))
    }

    /// The mode.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The session rule.
    pub fn rule(&self) -> &SessionRule {
        &self.rule
    }

    /// The members.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Whether any module runs at a phase.
    pub fn runs_at(&self, phase: Phase) -> bool {
        !self.plan[phase as usize].is_empty()
    }

    /// The members that run at a phase, in order.
    pub fn at(&self, phase: Phase) -> impl Iterator<Item = (usize, &Member)> {
        self.plan[phase as usize].iter().filter_map(|place| Some((*place, self.members.get(*place)?)))
    }

    /// The effective mode of a member: the lower of its own and the engine's.
    pub fn mode_of(&self, member: &Member) -> Mode {
        self.mode.min(member.policy.mode)
    }

    /// Scans passages with all members.
    pub fn judge(&self, phase: Phase, passages: &[Passage<'_>]) -> Judgement {
        self.judge_for(phase, passages, EVERYONE)
    }

    /// Scans passages with the admitted members.
    pub fn judge_for(&self, phase: Phase, passages: &[Passage<'_>], admitted: Admitted) -> Judgement {
        let background = |member: &Member| member.built.module.order() == Order::Background;
        let late = matches!(phase, Phase::Stream | Phase::PostResponse);
        let team: Vec<(usize, &Member)> =
            self.at(phase).filter(|(place, member)| admitted >> place & 1 == 1 && (late || !background(member))).collect();
        let runs = team.iter().map(|(place, m)| Run::new(*place, m.name())).collect();
        let mut judgement = Judgement { phase, found: Vec::new(), runs, read: 0, remembered: 0, name: 0 };
        let compares = team.iter().any(|(_, member)| !member.built.blueprint.pure && member.built.module.compares());
        for (number, passage) in passages.iter().enumerate().filter(|(_, passage)| !passage.text.is_empty()) {
            let asked = passage.asked.and_then(|asked| asked.name()).filter(|_| compares);
            let mut look = Memo { verdicts: self.verdicts.as_deref(), key: 0, asked: asked.is_some() };
            if let Some(verdicts) = look.verdicts {
                let asked = asked.map_or(0, |name| name as u64 ^ (name >> 64) as u64);
                look.key = verdicts.key(passage, self.ruleset ^ admitted.rotate_left(7) ^ asked);
                judgement.name = next_name(judgement.name, look.key);
            }
            judgement.runs.iter_mut().for_each(|run| run.before = passage.before);
            let (found, remembered) = self.look(passage, &team, &mut judgement.runs, look);
            judgement.read += u32::from(!remembered);
            judgement.remembered += u32::from(remembered);
            if !found.is_empty() {
                judgement.found.resize_with(number, Vec::new);
                judgement.found.push(found);
            }
        }
        judgement
    }

    /// Scans one passage with every member that reads it. Returns the findings, and whether they came from the cache.
    fn look(&self, passage: &Passage<'_>, team: &[(usize, &Member)], runs: &mut [Run], memo: Memo<'_>) -> (Findings, bool) {
        let mut found = Findings::new();
        let known = memo.verdicts.and_then(|verdicts| verdicts.get(memo.key));
        if let Some(known) = &known {
            for finding in known.iter() {
                if let Some(run) = runs.iter_mut().find(|run| run.module == finding.module) {
                    run.note(finding, passage.kind);
                }
                found.push(finding.clone());
            }
        }
        let mut fresh = Findings::new();
        let mut whole = true;
        let mut started = None;
        for ((place, member), run) in team.iter().zip(runs.iter_mut()) {
            let remembered = memo.holds(member);
            if known.is_some() && remembered || !member.reads(passage) {
                continue;
            }
            let since = started.unwrap_or_else(Instant::now);
            let into = if remembered { &mut fresh } else { &mut found };
            let before = into.len();
            let result = guarded(|| {
                member.built.module.scan(passage, into)?;
                if into.len() > before && self.told_by_another(*place, member, passage, team) {
                    into.iter_mut().skip(before).for_each(|finding| finding.score = finding.score.min(RETOLD));
                }
                Ok(())
            });
            into.iter().skip(before).for_each(|finding| run.note(finding, passage.kind));
            if let Err(failure) = result {
                whole &= !remembered;
                run.failure = Some(failure);
            }
            let now = Instant::now();
            run.took += now - since;
            started = Some(now);
        }
        if let (Some(verdicts), None, true) = (memo.verdicts, &known, whole) {
            verdicts.put(memo.key, &fresh);
        }
        found.append(&mut fresh);
        (found, known.is_some())
    }

    /// Whether somebody who looks at the passage too, and may do as much about it, is surer of what this member found: one
    /// attack then is one finding, and its caller not twice as suspect.
    fn told_by_another(&self, place: usize, member: &Member, passage: &Passage<'_>, team: &[(usize, &Member)]) -> bool {
        let stand_ins = self.stand_ins.get(place).copied().unwrap_or_default();
        let mut others = team.iter().filter(|(at, other)| stand_ins >> at & 1 == 1 && other.reads(passage));
        let sure = |member: &Member| member.built.module.certainty(passage);
        others.any(|(at, other)| if *at < place { sure(other) >= sure(member) } else { sure(other) > sure(member) })
    }

    /// Whether anything would be done to a text besides looking at it: redacting or blocking.
    pub fn acts(&self, phase: Phase, admitted: Admitted) -> bool {
        self.at(phase)
            .any(|(place, m)| admitted >> place & 1 == 1 && self.mode_of(m) == Mode::Security && m.policy.action != Action::Observe)
    }
}

/// The cache entry of one passage.
#[derive(Clone, Copy)]
struct Memo<'a> {
    verdicts: Option<&'a Verdicts>,
    key: u128,
    /// Whether the key includes the request to which the passage is an answer.
    asked: bool,
}

impl Memo<'_> {
    /// Whether a member's findings are part of the cache entry.
    fn holds(self, member: &Member) -> bool {
        member.built.blueprint.pure || self.asked && member.built.module.compares()
    }
}

/// Extends the name of a list of passages by the key of the next one. Keys are secret and as good as random, so one step of
/// a polynomial distinguishes lists.
fn next_name(before: u128, key: u128) -> u128 {
    before.wrapping_mul(0x2360_ed05_1fc6_5da4_4385_df64_9fcc_f645).wrapping_add(key).max(1)
}

/// Runs a module's code and turns a panic into a failure of this module alone.
///
/// # Errors
/// When the module could not scan.
pub fn guarded<T>(work: impl FnOnce() -> Result<T, ModuleError>) -> Result<T, Failure> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) => Err(Failure::Error(error.0)),
        Err(payload) => {
            // The payload may quote the text: it is dropped unread.
            drop::<Box<dyn Any + Send>>(payload);
            Err(Failure::Panicked)
        }
    }
}

/// A cache of this many verdicts; `None` for 0.
pub fn verdicts(capacity: usize) -> Option<Arc<Verdicts>> {
    NonZeroUsize::new(capacity).map(|capacity| Arc::new(Verdicts::new(capacity)))
}

#[cfg(test)]
#[path = "engine_test.rs"]
pub(crate) mod tests;
