//! Limits, budgets and quotas on the path of a request: what is asked at which gate, what the request holds from then on,
//! and what is given back when it is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use futures::FutureExt;
use http::HeaderMap;
use http::header::MaxSizeReached;

use super::ask::{Due, ask};
use super::context::Context;
use super::holding::{Held, Holding, Holdings, RENEWAL, SETTLED, done_at_once, go_on, tell};
use super::quantities::{Reserved, estimate, quantities};
use crate::budget::{self, Account, Actual, Reservation, Worst};
use crate::config::{GovernanceSettings, Snapshot};
use crate::error::{Denial, codes};
use crate::gate::{Decision, End, Exchange, Guarded, RequestId, Shadowed, Unenforced};
use crate::identity::Caller;
use crate::limit::{Ask, Fields, Panel, Stage, Standings};
use crate::route::McpServer;
use crate::store::records::UsageRecord;
use crate::store::{LeaseId, MAX_COUNT, StateError, StateStore};
use crate::telemetry::{GovernanceMetrics, Sparse};
use crate::usage::{AtMost, Begun, Books, Cost, How, Pricing, Quantities, Ran, Who};
use crate::wire::{Dialect, Endpoint, Insertion, UsageSource, Wants, method_name};

/// The most tokens of prompt or answer that are asked for: what a request names may be more than any store can count, and no
/// limit reaches this far.
const MOST_TOKENS: u64 = MAX_COUNT as u64 / 4;

/// Requests that the usage spool did not take.
static UNRECORDED: Sparse = Sparse::new();

/// Where requests are counted. One for the process, whatever configurations come and go.
pub struct Governor {
    /// Counters, leases and reservations.
    pub state: Arc<dyn StateStore>,
    /// Usage records, and what had been used before the counters began.
    pub books: Books,
    /// What was decided.
    pub metrics: Arc<GovernanceMetrics>,
    /// What requests in flight hold, so that it can be renewed.
    holdings: Holdings,
    /// Settlements that a remote store has not answered yet.
    settling: Arc<AtomicI64>,
}

/// What a gate is asked about: the request's configuration, its id, and what it holds so far.
pub struct Turn<'a> {
    /// The configuration the request runs on.
    pub snapshot: &'a Snapshot,
    /// The request.
    pub id: RequestId,
    /// What it holds; nothing for who has no limits.
    pub governed: &'a mut Option<Box<Governed>>,
    /// A shared store may be asked later: there will be a later question, the body is short, and nobody is called before.
    pub later: bool,
    /// A key will be looked at.
    pub keyed: bool,
}

/// What decoding found in a body that steers the request, for as long as the body is the caller's own.
#[derive(Debug, Clone, Default)]
pub struct Steering {
    /// Where the model stands.
    pub model_span: Option<std::ops::Range<usize>>,
    /// The family of providers that the body names.
    pub provider: Option<String>,
    /// How a stream would be asked for its usage.
    pub ask_usage: Option<Insertion>,
    /// How much is asked for.
    pub wants: Wants,
}

/// The governed side of one request, from its key to its end.
#[derive(Default)]
pub struct Governed {
    /// What it has, until that is put among the holdings.
    own: Held,
    holding: Option<(Holding, Arc<Held>)>,
    /// What it had before its body was read.
    waiting: Option<Holding>,
    standings: Standings,
    pub(super) pricing: Option<Arc<Pricing>>,
    pub(super) worst: Worst,
    /// Pictures that are made, texts that are embedded.
    units: u64,
    /// The MCP server that is called, and how many of its tools.
    tools: Option<(Arc<McpServer>, u64)>,
    /// It is on disk that there is this request.
    begun: Option<Begun>,
    recorded: bool,
    /// Its tokens were looked at.
    weighed: bool,
    /// Its answer is made after it is over.
    background: bool,
    pub(super) due: Due,
    /// Checks that were skipped because a store did not answer, and refusals of policies in shadow mode.
    pub(super) unenforced: Unenforced,
    pub(super) shadowed: Vec<Shadowed>,
    /// What the request cost, when it is over.
    pub cost: Option<Cost>,
}

impl Governed {
    /// The header fields that tell how the limits stand.
    pub fn headers(&self, dialect: Dialect) -> Fields {
        crate::limit::headers(self.standings.iter(), dialect, SystemTime::now)
    }

    /// Puts the same fields into a head.
    ///
    /// # Errors
    /// There are too many fields.
    pub fn insert_headers(&self, head: &mut HeaderMap, dialect: Dialect) -> Result<(), MaxSizeReached> {
        crate::limit::insert_headers(head, self.standings.iter(), dialect, SystemTime::now)
    }

    /// What it holds and how its limits stand, until it is renewed.
    pub(super) fn own(&mut self) -> Result<(&mut Held, &mut Standings), StateError> {
        match self.holding {
            None => Ok((&mut self.own, &mut self.standings)),
            Some(_) => Err(StateError::Invalid("a request was asked again after it was admitted")),
        }
    }
}

impl Governor {
    /// Counts in this store.
    pub fn new(state: Arc<dyn StateStore>, books: Books, metrics: Arc<GovernanceMetrics>) -> Self {
        Self { state, books, metrics, holdings: Holdings::default(), settling: Arc::default() }
    }

    /// The bus on which replicas tell one another of changes.
    pub fn bus(&self) -> &dyn StateStore {
        self.state.as_ref()
    }

    /// With model and tokens known: the model's policy, tokens of every scope, then budgets and quotas.
    ///
    /// # Errors
    /// A policy, budget or quota refuses, or cannot be asked.
    pub async fn last(
        &self,
        turn: Turn<'_>,
        exchange: &Exchange,
        caller: &Caller,
        read: Option<Steering>,
        tools: Option<(Arc<McpServer>, u64)>,
    ) -> Result<(), Denial> {
        let terms = &caller.terms;
        let name = exchange.facts.provider.as_ref().and(exchange.draft.model.as_deref());
        let model = name.and_then(|name| turn.snapshot.models.get(&caller.organisation.id, name));
        let server = tools.as_ref().map(|(server, _)| Arc::clone(server));
        let of_model = match &server {
            Some(server) => server.limits.as_ref(),
            None => model.and_then(|model| model.limits.as_ref()),
        };
        let global = turn.snapshot.policy.as_ref();
        // Where nothing is limited and nothing kept there is nothing to find out.
        let limited = global.is_some() || of_model.is_some() || !terms.scopes.is_empty() || !terms.accounts.is_empty();
        if !limited && !self.books.keeps_any() {
            return Ok(());
        }
        let settings = &turn.snapshot.governance;
        let body = &exchange.draft.body;
        let Wants { max_tokens: asked, choices, inputs, calls, background } = match read {
            Some(read) => read.wants,
            None if server.is_some() => Wants::default(),
            // Plugins have changed the body since it was decoded: what leaves is what is counted.
            None => crate::wire::head(exchange.facts.endpoint, body).map(|head| head.wants).unwrap_or_default(),
        };
        // Who only asks how many tokens a prompt has uses none of them.
        let counts_only = exchange.facts.endpoint == Endpoint::CountTokens;
        let tokens_in = if server.is_some() || counts_only { 0 } else { budget::input_tokens(body).min(MOST_TOKENS) };
        let tokens_out = match exchange.facts.endpoint {
            Endpoint::Embeddings | Endpoint::Mcp | Endpoint::CountTokens => 0,
            _ => budget::output_tokens(asked, choices, model.map_or(0, |model| model.max_output_tokens)).min(MOST_TOKENS),
        };
        let pricing = model.filter(|_| !counts_only).and_then(|model| model.pricing.as_ref());
        let governed = turn.governed.get_or_insert_default();
        governed.weighed = true;
        governed.background = background;
        governed.pricing = pricing.cloned();
        governed.tools = tools;
        // What a price of other units is not for is not counted by it.
        let kind = pricing.and_then(|pricing| pricing.unit_kind.as_deref());
        governed.units = match exchange.facts.endpoint {
            Endpoint::Images | Endpoint::ImageEdits if matches!(kind, None | Some("images")) => choices.unwrap_or(1).clamp(1, MOST_TOKENS),
            Endpoint::Embeddings if matches!(kind, None | Some("inputs")) => inputs.unwrap_or(0),
            _ => 0,
        };
        let cost = match governed.tool_cost(body.len() as u64, 0) {
            Some(cost) => cost.total,
            None => pricing.map_or(0, |pricing| pricing.at_most(tokens_in, tokens_out, governed.units, calls)),
        };
        governed.worst = Worst { tokens_in, tokens_out, cost: cost.min(MAX_COUNT) };
        let ask = Ask {
            address: Some(exchange.facts.client_ip),
            body: Some(body.len() as u64),
            // Of each answer, as the member of the request; what is reserved is for all of them.
            max_tokens: Some(if tokens_out == 0 { 0 } else { asked.unwrap_or_else(|| model.map_or(0, |model| model.max_output_tokens)) }),
            tokens: Some(tokens_in.saturating_add(tokens_out)),
            ..ask(turn.id)
        };
        let scopes = || global.into_iter().chain(&terms.scopes).chain(of_model);
        let tokens = tokens_in.saturating_add(tokens_out);
        // Who breaks a limit of the head is told of that one, whatever refuses here: see `overdue`.
        self.admitted(Stage::Final, &ask, of_model.map(Arc::as_ref).into_iter(), scopes().map(Arc::as_ref), &mut governed.shadowed)?;
        if !self.state.is_remote() && governed.due.is_all(turn.snapshot, caller) {
            let course = terms.course(global, of_model);
            if self.granted(course, tokens, &terms.accounts, &ask, governed, settings) {
                governed.due = Due::default();
                self.hold(governed, turn.id, settings);
                return self.begin(governed, exchange, caller, ask.now, settings).await;
            }
        }
        let apart = global.filter(|_| !self.state.spans_tags());
        if let Some(global) = apart {
            // In a cluster the gateway's own counters lie elsewhere.
            let mut panel = Panel::of(1);
            panel.tokens(global, tokens, ask.now);
            self.decide(&panel, None, &ask, governed, settings).await?;
        }
        let mut panel = Panel::of(
            governed.due.count(turn.snapshot, Some(caller)) + of_model.map_or(0, |model| model.requests().len()) + scopes().count(),
        );
        std::mem::take(&mut governed.due).of(turn.snapshot, Some(caller), ask.now, &mut panel);
        if let Some(model) = of_model {
            panel.requests(Stage::Final, model, ask.now);
        }
        for plan in scopes().skip(usize::from(apart.is_some())) {
            panel.tokens(plan, tokens, ask.now);
        }
        self.with_accounts(&panel, &terms.accounts, &ask, governed, settings).await?;
        self.hold(governed, turn.id, settings);
        self.begin(governed, exchange, caller, ask.now, settings).await
    }

    /// Puts on disk that there is this request. What cannot be put on record does not leave.
    async fn begin(
        &self,
        governed: &mut Governed,
        exchange: &Exchange,
        caller: &Caller,
        now: i64,
        settings: &GovernanceSettings,
    ) -> Result<(), Denial> {
        let most = AtMost { tokens_in: governed.worst.tokens_in, tokens_out: governed.worst.tokens_out, cost: governed.worst.cost };
        let id = u128::from_be_bytes(exchange.facts.id.0);
        match self.books.begin(id, &who(exchange, caller), now / 1000, most).await {
            Ok(begun) => {
                governed.begun = begun;
                governed.recorded = true;
                Ok(())
            }
            Err(error) => {
                self.metrics.store_errors.inc();
                let goes_on = settings.allow_on_store_error;
                if let Some(more) = UNRECORDED.due() {
                    let then = if goes_on { "let through" } else { "refused" };
                    log::error!(target: "usage", more; "a request could not be put on record and is {then}: {error}");
                }
                governed.unenforced.usage = goes_on;
                let refused = || Denial::of(codes::STORE_UNAVAILABLE).with_retry_after(Duration::from_secs(1));
                if goes_on { Ok(()) } else { Err(refused()) }
            }
        }
    }

    /// From here on what the request holds is renewed until it is over.
    fn hold(&self, governed: &mut Governed, id: RequestId, settings: &GovernanceSettings) {
        let every = governed.own.receipt.renew_every();
        if every.is_some() || governed.own.reservation.is_some() {
            let mut held = std::mem::take(&mut governed.own);
            held.ttl = settings.reservation_ttl;
            held.every = every.map_or(RENEWAL, |every| every.min(RENEWAL));
            let held = Arc::new(held);
            governed.holding = Some((self.holdings.put(id.0[15], Arc::clone(&held)), held));
        }
        if let Some(waiting) = governed.waiting.take() {
            self.holdings.take(waiting);
        }
    }

    /// The same while its body is read and plugins have their turn, which may take longer than a lease.
    pub(super) fn wait(&self, governed: &mut Governed, id: RequestId, settings: &GovernanceSettings) {
        let Some(every) = governed.own.receipt.renew_every() else { return };
        let held = Held::of(governed.own.receipt.clone(), settings.reservation_ttl, every.min(RENEWAL));
        governed.waiting = Some(self.holdings.put(id.0[15], Arc::new(held)));
    }

    /// Renews what requests in flight hold, for as long as the process runs.
    pub async fn renew(&self) {
        let mut extended = tokio::time::Instant::now();
        let mut every = Duration::ZERO;
        let mut renewed = extended;
        loop {
            self.holdings.pause().await;
            // Between two rounds of all there may be several of those whose leases are short.
            let all = renewed.elapsed() >= RENEWAL;
            // Reservations live for minutes: a sign of life every quarter of that is enough.
            let due = all && extended.elapsed() >= every;
            if all {
                renewed = tokio::time::Instant::now();
            }
            let (failed, shortest) = self.holdings.renew(self.state.as_ref(), all, due).await;
            self.metrics.store_errors.inc_by(failed);
            if !all {
                continue;
            }
            every = shortest.map_or(Duration::ZERO, |shortest| shortest / 4);
            if due {
                extended = tokio::time::Instant::now();
            }
        }
    }

    /// Compares counters that may have missed something with the usage records, for as long as the process runs.
    pub async fn compare(&self) {
        let settled = if self.state.is_remote() { SETTLED } else { Duration::from_secs(1) };
        self.books.doubts().watch(self.state.as_ref(), &self.books, settled).await;
    }

    /// Releases what processes that are gone had reserved, of these organisations.
    pub async fn reap(&self, organisations: impl IntoIterator<Item = Arc<str>>) {
        for organisation in organisations {
            match self.state.reap(&organisation, 1000).await {
                Ok(0) => {}
                Ok(released) => log::info!(target: "governance", released; "reservations ran out and were released"),
                Err(_) => self.metrics.store_errors.inc(),
            }
        }
    }

    /// Pays what a process that is gone had reserved in these accounts for a request.
    ///
    /// # Errors
    /// When the store does not answer; repeated, it changes nothing.
    pub async fn charge(&self, accounts: &[Arc<Account>], record: &UsageRecord) -> Result<(), StateError> {
        // An id that is no number is none of ours: nothing was reserved under it.
        let Ok(id) = u128::from_str_radix(&record.request_id, 16) else { return Ok(()) };
        let reservation = Reservation::of_orphan(accounts, LeaseId(id), record.at.saturating_mul(1000));
        let actual = Actual {
            tokens_in: record.input_tokens,
            tokens_out: record.output_tokens,
            cost: record.cost_nanos.unwrap_or(0),
            ..Actual::default()
        };
        let (_, crossed) = reservation.settle(self.state.as_ref(), &actual).await?;
        crossed.iter().for_each(|crossing| tell(&crossing.notice(), &self.metrics));
        Ok(())
    }

    /// The request is over: slots go back, estimates are corrected, the reservation is paid or released. Waits for nobody:
    /// what a remote store has to be asked goes on beside the next requests.
    pub fn finished(&self, cx: &mut Context, exchange: &mut Exchange, took: Duration) {
        let owed = owes(cx, exchange.outcome.end) && exchange.outcome.usage.source != UsageSource::Failed;
        if owed {
            let reserved = cx.governed.as_deref().and_then(Governed::reserved);
            estimate(exchange, reserved, cx.live.snapshot.governance.missing_usage);
        }
        let Some(governed) = cx.governed.as_deref_mut() else {
            if self.books.keeps_any() {
                self.refused(cx, exchange, took);
            }
            return;
        };
        exchange.outcome.unenforced = governed.unenforced;
        exchange.outcome.shadowed = std::mem::take(&mut governed.shadowed);
        let exchange = &*exchange;
        let shared = governed.holding.take().map(|(holding, held)| (self.holdings.take(holding), held).1);
        if let Some(waiting) = governed.waiting.take() {
            self.holdings.take(waiting);
        }
        let left = cx.attempts > 0;
        let settings = &cx.live.snapshot.governance;
        let used = governed.used(exchange, owed);
        // What the server sent, not what the caller got: that may be a refusal of this gateway's own.
        let bytes = (exchange.outcome.bytes_in, exchange.outcome.bytes_received);
        governed.cost = match governed.tool_cost(bytes.0, bytes.1) {
            Some(cost) => Some(cost).filter(|_| owed),
            None => governed.pricing.as_ref().map(|pricing| pricing.cost(&used)),
        };
        let actual = Actual {
            tokens_in: used.input.saturating_add(used.embeddings),
            tokens_out: used.output,
            cost: governed.cost.map_or(0, |cost| cost.total),
            // The same that the records are asked for when a counter begins anew.
            error: exchange.outcome.status >= 400 && exchange.outcome.end != End::Blocked,
            latency: took,
        };
        let begun = governed.begun.take();
        self.end(governed, begun, exchange, &used, &actual, settings);
        let held = shared.as_deref().unwrap_or(&governed.own);
        if held.is_empty() {
            return;
        }
        let tokens = if left { actual.tokens_in.saturating_add(actual.tokens_out).min(MOST_TOKENS) } else { 0 };
        let paid = left.then_some(&actual);
        // The state of this process answers at once: nothing has to outlive the request.
        if !self.state.is_remote()
            && (held.close(self.state.as_ref(), tokens, paid, &self.metrics)
                || done_at_once(held.give_back(self.state.as_ref(), tokens, paid, &self.metrics).map(drop)))
        {
            return;
        }
        let held = shared.unwrap_or_else(|| Arc::new(std::mem::take(&mut governed.own)));
        self.settle(held, tokens, left.then_some(actual));
    }

    /// What was held goes back beside the next requests; an orderly end waits for it.
    fn settle(&self, held: Arc<Held>, tokens: u64, paid: Option<Actual>) {
        let (state, metrics, settling) = (Arc::clone(&self.state), Arc::clone(&self.metrics), Arc::clone(&self.settling));
        let doubts = Arc::clone(self.books.doubts());
        self.settling.fetch_add(1, Ordering::AcqRel);
        go_on(async move {
            if !held.give_back(state.as_ref(), tokens, paid.as_ref(), &metrics).await
                && let Some(reservation) = held.reservation.as_ref().filter(|_| paid.is_some())
            {
                doubts.unpaid(reservation);
            }
            settling.fetch_sub(1, Ordering::AcqRel);
        });
    }

    /// A request is over that no route took: what the gateway's own policy counted goes back.
    pub fn left(&self, cx: &mut Context) {
        let Some(mut governed) = cx.governed.take() else { return };
        let held = std::mem::take(&mut governed.own);
        if !held.is_empty() {
            self.settle(Arc::new(held), 0, None);
        }
    }

    /// A request that held nothing: it was refused before it could, or nobody asked anything of it.
    fn refused(&self, cx: &Context, exchange: &Exchange, took: Duration) {
        let actual = Actual { latency: took, ..Actual::default() };
        self.end(&Governed::default(), None, exchange, &Quantities::default(), &actual, &cx.live.snapshot.governance);
    }

    /// The usage record of a request whose key is known.
    fn end(
        &self,
        governed: &Governed,
        begun: Option<Begun>,
        exchange: &Exchange,
        used: &Quantities,
        actual: &Actual,
        settings: &GovernanceSettings,
    ) {
        let (facts, outcome) = (&exchange.facts, &exchange.outcome);
        let Some(caller) = &facts.caller else { return };
        if !governed.recorded && !settings.record_denials {
            return;
        }
        let how = How {
            at: facts.received_at + actual.latency,
            status: outcome.status,
            end: outcome.end.as_str(),
            code: outcome.denial.as_ref().map(|denial| denial.code.as_ref()),
            source: outcome.usage.source.as_str(),
            latency: actual.latency,
            overhead: Duration::from_micros(outcome.overhead_us),
            used: *used,
            total_tokens: outcome.usage.total.max(actual.tokens_in.saturating_add(actual.tokens_out)),
            cost: governed.cost,
            pricing: governed.pricing.as_deref(),
            attempts: outcome.attempts,
            provider_request_id: outcome.provider_request_id.as_deref(),
            user_agent: facts.user_agent.as_deref(),
            bytes: (outcome.bytes_in, outcome.bytes_out, outcome.bytes_received),
            upstream: outcome.upstream_ms.map_or(Duration::ZERO, |ms| Duration::from_secs_f64(ms / 1e3)),
            requested_model: facts.requested_model.as_deref(),
            method: method_name(&facts.method),
            refused_by: outcome.denial.as_ref().map_or((None, None), |denial| (denial.scope, denial.limit)),
            gate: outcome.denial.as_ref().and_then(|denial| refused_at(exchange, &denial.code)),
            safety: exchange.safety.as_deref().and_then(Guarded::strictest),
            tools: governed.tools.as_ref().map(|(server, _)| (server.transport.as_str(), server.pricing.unwrap_or_default())),
            tags: &exchange.draft.tags,
        };
        let plugins = exchange.executions.iter().map(|one| Ran { plugin: &one.plugin, gate: one.gate.as_str(), took: one.took });
        self.books.end(u128::from_be_bytes(facts.id.0), begun, &who(exchange, caller), &how, plugins);
    }

    /// Settlements that are on their way; an orderly end waits for them.
    pub fn settling(&self) -> i64 {
        self.settling.load(Ordering::Acquire)
    }
}

impl Governed {
    /// What calling tools costs, if they have a price: calls, the request's bytes, the answer's.
    pub(super) fn tool_cost(&self, bytes_in: u64, bytes_out: u64) -> Option<Cost> {
        let (server, calls) = self.tools.as_ref()?;
        let [tool, input, output] = server.pricing?.parts(*calls, bytes_in, bytes_out);
        let total = tool.saturating_add(input).saturating_add(output);
        Some(Cost { tool, input, output, total, ..Cost::default() })
    }

    /// What was reserved of tokens, if they were looked at.
    fn reserved(&self) -> Option<Reserved> {
        let Worst { tokens_in, tokens_out, .. } = self.worst;
        (self.weighed && self.tools.is_none()).then_some(Reserved { tokens_in, tokens_out, later: self.background })
    }

    /// What the request used, as far as anybody knows.
    fn used(&self, exchange: &Exchange, owed: bool) -> Quantities {
        if !owed || exchange.facts.endpoint == Endpoint::CountTokens {
            return Quantities::default();
        }
        if let Some((_, tools)) = &self.tools {
            return Quantities { tool_calls: *tools, units: *tools, ..Quantities::default() };
        }
        quantities(&exchange.outcome.usage, exchange.facts.endpoint, self.units)
    }
}

/// Whether whoever was called did what it was asked: only that costs.
fn answered(upstream_status: u16) -> bool {
    (200..300).contains(&upstream_status)
}

/// Whether the work of whoever was called is to be paid: it did what it was asked, or it was asked and nobody waited for its
/// answer, who then does not know what it did. A refusal, and a connection that failed, are free.
fn owes(cx: &Context, end: End) -> bool {
    let asked = cx.pre_upstream_done && cx.attempts > 0;
    answered(cx.upstream_status) || asked && cx.upstream_status == 0 && matches!(end, End::ClientAbort | End::Timeout)
}

/// The gate at which a plugin refused with this code.
fn refused_at(exchange: &Exchange, code: &str) -> Option<&'static str> {
    let refused = |one: &&crate::gate::Execution| {
        (one.decision == Decision::Blocked || one.decision.is_failure()) && one.code.as_deref() == Some(code)
    };
    exchange.executions.iter().rev().find(refused).map(|one| one.gate.as_str())
}

/// Whose request it is and what for.
fn who<'a>(exchange: &'a Exchange, caller: &'a Caller) -> Who<'a> {
    let facts = &exchange.facts;
    Who {
        organisation: &caller.organisation.id,
        key: &caller.key_id,
        team: caller.team.as_ref().map(|team| &*team.id),
        user: caller.user.as_ref().map(|user| &*user.id),
        provider: facts.provider.as_deref(),
        // Only a model that was found has a name of ours.
        model: match facts.endpoint {
            Endpoint::Mcp => facts.slug.as_deref(),
            _ => facts.provider.as_ref().and(exchange.draft.model.as_deref()),
        },
        route: &facts.route,
        endpoint: facts.endpoint.as_str(),
        stream: facts.stream,
        trace_id: facts.trace_id.as_deref(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::limit::{Field, Outcome};

    #[test]
    fn decisions_are_counted_under_their_own_words() {
        let (stages, modules, decisions) = GovernanceMetrics::words();
        for stage in [Stage::PreAuth, Stage::Early, Stage::Final, Stage::PostFlight] {
            assert_eq!(stages.get(stage as usize), Some(&stage.as_str()));
        }
        let fields = [Field::Network, Field::RequestBytes, Field::MaxTokens, Field::Concurrency];
        for field in fields.into_iter().chain([Field::Burst, Field::PerSecond, Field::PerMinute, Field::TokensPerMinute]) {
            assert_eq!(modules.get(field as usize), Some(&field.module()));
        }
        for outcome in [Outcome::Allow, Outcome::Reject, Outcome::Shadow] {
            assert_eq!(decisions.get(outcome as usize), Some(&outcome.as_str()));
        }
    }
}
