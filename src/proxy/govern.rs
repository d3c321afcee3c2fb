//! Limits, budgets and quotas on the path of a request: what each gate asks, what the request holds from then on, and what is
//! released or paid when it is over.

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

/// The cap of token estimates: a request may name more tokens than a store can count, and no limit is this high.
const MOST_TOKENS: u64 = MAX_COUNT as u64 / 4;

/// Throttles the log line about requests that the usage spool did not take.
static UNRECORDED: Sparse = Sparse::new();

/// Counts requests against limits, budgets and quotas. One per process, across all configurations.
pub struct Governor {
    /// Counters, leases and reservations.
    pub state: Arc<dyn StateStore>,
    /// Usage records, and the amounts that counters begin with after they were lost.
    pub books: Books,
    /// Counters of decisions, for Prometheus.
    pub metrics: Arc<GovernanceMetrics>,
    /// What the requests in flight hold, so that it can be renewed.
    holdings: Holdings,
    /// Settlements that a remote store has not confirmed yet.
    settling: Arc<AtomicI64>,
}

/// What every stage of governance needs of a request: its configuration, its id, and what it holds so far.
pub struct Turn<'a> {
    /// The configuration the request runs on.
    pub snapshot: &'a Snapshot,
    /// The id of the request.
    pub id: RequestId,
    /// What the request holds; `None` while no limit applied to it.
    pub governed: &'a mut Option<Box<Governed>>,
    /// Whether the counters of the head may be deferred: a later question follows, the body is short, and no plugin at
    /// `pre_route` calls other hosts.
    pub later: bool,
    /// The route requires a key.
    pub keyed: bool,
}

/// What decoding found in the body. Valid only as long as no plugin has changed the body.
#[derive(Debug, Clone, Default)]
pub struct Steering {
    /// The byte range of the model's name in the body.
    pub model_span: Option<std::ops::Range<usize>>,
    /// The provider family that the body names.
    pub provider: Option<String>,
    /// What to insert to have the provider report a stream's usage.
    pub ask_usage: Option<Insertion>,
    /// How much is asked for.
    pub wants: Wants,
}

/// The governance of one request, from its first limit to its end.
#[derive(Default)]
pub struct Governed {
    /// What the request holds, until [`Governor::hold`] moves it into `holding`.
    own: Held,
    holding: Option<(Holding, Arc<Held>)>,
    /// Keeps the slots of the head renewed while the body is read and plugins run.
    waiting: Option<Holding>,
    standings: Standings,
    pub(super) pricing: Option<Arc<Pricing>>,
    pub(super) worst: Worst,
    /// How many images are generated or texts embedded, if they have a price.
    units: u64,
    /// The MCP server that is called, and the number of tool calls.
    tools: Option<(Arc<McpServer>, u64)>,
    /// The entry that the usage spool has written for this request, to be completed at its end.
    begun: Option<Begun>,
    recorded: bool,
    /// Token estimates in `worst` are valid.
    weighed: bool,
    /// Its answer is made after it is over.
    background: bool,
    pub(super) due: Due,
    /// Checks that were skipped because a store did not answer.
    pub(super) unenforced: Unenforced,
    /// Refusals of policies in shadow mode.
    pub(super) shadowed: Vec<Shadowed>,
    /// What the request cost; known when it is over.
    pub cost: Option<Cost>,
}

impl Governed {
    /// The rate-limit headers of the answer, in the caller's dialect.
    pub fn headers(&self, dialect: Dialect) -> Fields {
        crate::limit::headers(self.standings.iter(), dialect, SystemTime::now)
    }

    /// Writes the rate-limit headers into a head.
    ///
    /// # Errors
    /// There are too many fields.
    pub fn insert_headers(&self, head: &mut HeaderMap, dialect: Dialect) -> Result<(), MaxSizeReached> {
        crate::limit::insert_headers(head, self.standings.iter(), dialect, SystemTime::now)
    }

    /// The receipt and the standings, which can be changed only until [`Governor::hold`].
    pub(super) fn own(&mut self) -> Result<(&mut Held, &mut Standings), StateError> {
        match self.holding {
            None => Ok((&mut self.own, &mut self.standings)),
            Some(_) => Err(StateError::Invalid("a request was asked again after it was admitted")),
        }
    }
}

impl Governor {
    /// Creates a governor that counts in this store.
    pub fn new(state: Arc<dyn StateStore>, books: Books, metrics: Arc<GovernanceMetrics>) -> Self {
        Self { state, books, metrics, holdings: Holdings::default(), settling: Arc::default() }
    }

    /// The bus on which replicas announce changes to one another.
    pub fn bus(&self) -> &dyn StateStore {
        self.state.as_ref()
    }

    /// The last stage, with model and tokens known: the model's policy, the tokens of every scope, then budgets and quotas.
    ///
    /// # Errors
    /// A policy, budget or quota refuses, or its store does not answer.
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
        // Nothing is limited and no usage is recorded: no estimate is needed.
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
        // Counting the tokens of a prompt uses none of them.
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
        // A price per unit of another kind does not apply to these.
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
            // The limit is per answer, like the member of the request; the reservation covers all answers.
            max_tokens: Some(if tokens_out == 0 { 0 } else { asked.unwrap_or_else(|| model.map_or(0, |model| model.max_output_tokens)) }),
            tokens: Some(tokens_in.saturating_add(tokens_out)),
            ..ask(turn.id)
        };
        let scopes = || global.into_iter().chain(&terms.scopes).chain(of_model);
        let tokens = tokens_in.saturating_add(tokens_out);
        // A head limit that refuses takes precedence over the refusal found here: see `overdue`.
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
            // In a cluster the gateway-wide counters lie on another node and are asked by themselves.
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

    /// Records in the usage spool that the request begins. A request that cannot be recorded is refused, unless the
    /// configuration lets it through.
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

    /// Moves what the request holds to the holdings, where it is renewed until the request is over.
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

    /// Keeps the slots of the head renewed while the body is read and plugins run, which may take longer than a lease.
    pub(super) fn wait(&self, governed: &mut Governed, id: RequestId, settings: &GovernanceSettings) {
        let Some(every) = governed.own.receipt.renew_every() else { return };
        let held = Held::of(governed.own.receipt.clone(), settings.reservation_ttl, every.min(RENEWAL));
        governed.waiting = Some(self.holdings.put(id.0[15], Arc::new(held)));
    }

    /// Renews what the requests in flight hold, for as long as the process runs.
    pub async fn renew(&self) {
        let mut extended = tokio::time::Instant::now();
        let mut every = Duration::ZERO;
        let mut renewed = extended;
        loop {
            self.holdings.pause().await;
            // Short leases are renewed in rounds of their own, between two rounds of everything.
            let all = renewed.elapsed() >= RENEWAL;
            // Reservations live for minutes: extending them after every quarter of that time is enough.
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

    /// Settles what a process that is gone had reserved in these accounts for the request of this record.
    ///
    /// # Errors
    /// The store does not answer. Settling again after an error does not charge twice.
    pub async fn charge(&self, accounts: &[Arc<Account>], record: &UsageRecord) -> Result<(), StateError> {
        // Our ids are hexadecimal numbers: nothing was reserved under any other id.
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

    /// The request is over: slots are released, token estimates corrected, the reservation paid or released. Never waits: what
    /// has to be asked of a remote store continues in a task of its own.
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
        // The bytes that the server sent, not those that the caller received, which may be a refusal of this gateway's own.
        let bytes = (exchange.outcome.bytes_in, exchange.outcome.bytes_received);
        governed.cost = match governed.tool_cost(bytes.0, bytes.1) {
            Some(cost) => Some(cost).filter(|_| owed),
            None => governed.pricing.as_ref().map(|pricing| pricing.cost(&used)),
        };
        let actual = Actual {
            tokens_in: used.input.saturating_add(used.embeddings),
            tokens_out: used.output,
            cost: governed.cost.map_or(0, |cost| cost.total),
            // The same definition by which errors are summed from the records when a counter is seeded.
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
        // The in-process store answers at once: no task is needed.
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

    /// The end of a request that no route took: releases what the gateway-wide policy counted.
    pub fn left(&self, cx: &mut Context) {
        let Some(mut governed) = cx.governed.take() else { return };
        let held = std::mem::take(&mut governed.own);
        if !held.is_empty() {
            self.settle(Arc::new(held), 0, None);
        }
    }

    /// The end of a request that held nothing, because it was refused early or nothing applied to it.
    fn refused(&self, cx: &Context, exchange: &Exchange, took: Duration) {
        let actual = Actual { latency: took, ..Actual::default() };
        self.end(&Governed::default(), None, exchange, &Quantities::default(), &actual, &cx.live.snapshot.governance);
    }

    /// Writes the usage record of a request whose key is known.
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

    /// Settlements that are still on their way; an orderly shutdown waits for them.
    pub fn settling(&self) -> i64 {
        self.settling.load(Ordering::Acquire)
    }
}

impl Governed {
    /// The cost of the MCP tool calls, if the server has a price: per call, per request byte and per answer byte.
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

/// Whether the upstream's work has to be paid: it succeeded, or the caller left or a timeout passed before it answered, so
/// that the work may have been done. Refusals by the upstream and failed connections are free.
fn owes(cx: &Context, end: End) -> bool {
    let asked = cx.pre_upstream_done && cx.attempts > 0;
    answered(cx.upstream_status) || asked && cx.upstream_status == 0 && matches!(end, End::ClientAbort | End::Timeout)
}

/// The gate at which a plugin refused with this code, if one did.
fn refused_at(exchange: &Exchange, code: &str) -> Option<&'static str> {
    let refused = |one: &&crate::gate::Execution| {
        (one.decision == Decision::Blocked || one.decision.is_failure()) && one.code.as_deref() == Some(code)
    };
    exchange.executions.iter().rev().find(refused).map(|one| one.gate.as_str())
}

/// The caller of a request and what it called, for its usage record.
fn who<'a>(exchange: &'a Exchange, caller: &'a Caller) -> Who<'a> {
    let facts = &exchange.facts;
    Who {
        organisation: &caller.organisation.id,
        key: &caller.key_id,
        team: caller.team.as_ref().map(|team| &*team.id),
        user: caller.user.as_ref().map(|user| &*user.id),
        provider: facts.provider.as_deref(),
        // A requested model that was not found must not appear as one of ours.
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
