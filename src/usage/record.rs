//! The usage record of a request, as it waits in the spool: what the product keeps of a call, never a text of it.
//!
//! It is written by hand into a buffer for every request, and read back with serde when a batch goes to the store.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Cost, Pricing, Quantities};
use crate::store::records::UsageRecord;
use crate::wire::object::{Object, Page};

/// Whose request it is and what for: what is known when it begins.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// Identifier of the organisation.
    pub organisation: &'a str,
    /// Identifier of the key.
    pub key: &'a str,
    /// Identifier of the team, for keys of a team.
    pub team: Option<&'a str>,
    /// Identifier of the user, for keys of a user.
    pub user: Option<&'a str>,
    /// Name of the provider.
    pub provider: Option<&'a str>,
    /// Name of the model.
    pub model: Option<&'a str>,
    /// Name of the route.
    pub route: &'a str,
    /// Name of the endpoint.
    pub endpoint: &'a str,
    /// The answer is a stream.
    pub stream: bool,
    /// W3C trace id.
    pub trace_id: Option<&'a str>,
}

/// How it went: what is known when it is over.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// When it ended.
    pub at: SystemTime,
    /// The status the caller got; 0 for none.
    pub status: u16,
    /// How it ended.
    pub end: &'a str,
    /// The code of the refusal.
    pub code: Option<&'a str>,
    /// Whence the numbers are.
    pub source: &'a str,
    /// From its head to its end.
    pub latency: Duration,
    /// What of it was ours.
    pub overhead: Duration,
    /// What it used.
    pub used: Quantities,
    /// All tokens, as the provider counts them.
    pub total_tokens: u64,
    /// What that cost.
    pub cost: Option<Cost>,
    /// The price it was computed with.
    pub pricing: Option<&'a Pricing>,
    /// Attempts at providers.
    pub attempts: u32,
    /// The provider's own id.
    pub provider_request_id: Option<&'a str>,
    /// The caller's software.
    pub user_agent: Option<&'a str>,
    /// Bytes of the request's and the answer's body.
    pub bytes: (u64, u64),
}

/// What a request may take at most, for the record of one whose process dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
pub struct AtMost {
    /// Tokens of the prompt.
    pub tokens_in: u64,
    /// Tokens of the answer.
    pub tokens_out: u64,
    /// Nano-USD.
    pub cost: i64,
}

/// Appends what is known when a request begins.
pub fn begin(who: &Who<'_>, at: SystemTime, most: AtMost, out: &mut Vec<u8>) {
    let mut page = Page::new(out);
    let mut entry = Object::open(&mut page);
    entry.number("at", millis(at));
    identity(&mut entry, who);
    let mut limit = entry.object("at_most");
    limit.number("cost", most.cost.max(0).unsigned_abs());
    limit.number("tokens_in", most.tokens_in);
    limit.number("tokens_out", most.tokens_out);
    limit.close();
    entry.close();
}

/// Appends the record. `plugins` are the names of those that ran.
pub fn end<'a>(who: &Who<'_>, how: &How<'_>, plugins: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    let mut page = Page::new(out);
    let mut entry = Object::open(&mut page);
    entry.number("at", millis(how.at));
    identity(&mut entry, who);
    entry.number("status", how.status.into());
    entry.word("end", how.end);
    entry.text_if("code", how.code);
    entry.word("source", how.source);
    entry.number("latency_ms", how.latency.as_millis().try_into().unwrap_or(u64::MAX));
    entry.number("overhead_us", how.overhead.as_micros().try_into().unwrap_or(u64::MAX));
    let used = &how.used;
    entry.number("input", used.input.saturating_add(used.embeddings));
    entry.number("cached", used.cached);
    entry.number("output", used.output);
    entry.number("reasoning", used.reasoning);
    entry.number("total", how.total_tokens);
    entry.number("units", used.units);
    if let Some(cost) = how.cost {
        entry.number("cost", cost.total.max(0).unsigned_abs());
    }
    entry.text_if("provider_request_id", how.provider_request_id);
    let list = entry.member("plugins");
    list.put(b"[");
    for (place, name) in plugins.enumerate() {
        if place > 0 {
            list.put(b",");
        }
        list.string(name);
    }
    list.put(b"]");
    let mut details = entry.object("details");
    self::details(&mut details, who, how);
    details.close();
    entry.close();
}

fn identity(entry: &mut Object<'_, '_>, who: &Who<'_>) {
    entry.text("organisation", who.organisation);
    entry.text("key", who.key);
    entry.text_if("team", who.team);
    entry.text_if("user", who.user);
    entry.text_if("provider", who.provider);
    entry.text_if("model", who.model);
    entry.text("route", who.route);
    entry.word("endpoint", who.endpoint);
    entry.flag("stream", who.stream);
    entry.text_if("trace_id", who.trace_id);
}

/// Tokens by class, what they cost and the circumstances (product.md §14.3, §14.4, §14.6).
fn details(details: &mut Object<'_, '_>, who: &Who<'_>, how: &How<'_>) {
    let used = &how.used;
    let mut tokens = details.object("tokens");
    tokens.number("prompt_tokens", used.input);
    tokens.number("completion_tokens", used.output);
    tokens.number("cached_tokens", used.cached);
    tokens.number("reasoning_tokens", used.reasoning);
    tokens.number("embeddings_tokens", used.embeddings);
    tokens.number("total_tokens", how.total_tokens);
    tokens.close();
    if let (Some(cost), Some(pricing)) = (how.cost, how.pricing) {
        let mut billing = details.object("billing");
        for (name, nanos) in [
            ("input_cost_nanos_usd", cost.input),
            ("cached_input_cost_nanos_usd", cost.cached_input),
            ("output_cost_nanos_usd", cost.output),
            ("embeddings_cost_nanos_usd", cost.embeddings),
            ("tool_cost_nanos_usd", cost.tool),
            ("units_cost_nanos_usd", cost.units),
            ("total_cost_nanos_usd", cost.total),
        ] {
            if nanos != 0 {
                billing.number(name, nanos.max(0).unsigned_abs());
            }
        }
        // The price as it was: it may have changed when somebody asks.
        let mut price = billing.object("pricing_nanos_usd_per_1k");
        price.number("input", pricing.input.text_cost_per_1k_tokens.0.max(0).unsigned_abs());
        price.number("output", pricing.output.text_cost_per_1k_tokens.0.max(0).unsigned_abs());
        price.number("cached_input_discount_percent", pricing.cached_input_discount_percent.into());
        price.close();
        billing.close();
    }
    let mut metadata = details.object("metadata");
    metadata.word("mode", if who.stream { "stream" } else { "unary" });
    metadata.text("route", who.route);
    metadata.number("attempts", how.attempts.into());
    metadata.number("request_bytes", how.bytes.0);
    metadata.number("response_bytes", how.bytes.1);
    metadata.text_if("user_agent", how.user_agent);
    metadata.close();
}

fn millis(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis().try_into().unwrap_or(u64::MAX))
}

/// What [`begin`] and [`end`] wrote.
#[derive(Debug, Deserialize)]
struct Written {
    at: i64,
    organisation: String,
    key: String,
    team: Option<String>,
    user: Option<String>,
    provider: Option<String>,
    model: Option<String>,
    endpoint: String,
    stream: bool,
    trace_id: Option<String>,
    #[serde(default)]
    at_most: AtMost,
    #[serde(default)]
    status: u16,
    end: Option<String>,
    code: Option<String>,
    source: Option<String>,
    #[serde(default)]
    latency_ms: u64,
    #[serde(default)]
    overhead_us: u64,
    #[serde(default)]
    input: u64,
    #[serde(default)]
    cached: u64,
    #[serde(default)]
    output: u64,
    #[serde(default)]
    reasoning: u64,
    #[serde(default)]
    total: u64,
    #[serde(default)]
    units: u64,
    cost: Option<i64>,
    provider_request_id: Option<String>,
    #[serde(default)]
    plugins: Vec<String>,
    details: Option<Box<RawValue>>,
}

/// The row of a record that was read back.
///
/// # Errors
/// It is none of ours.
pub fn row(id: u128, payload: &[u8]) -> Result<UsageRecord, serde_json::Error> {
    let read: Written = serde_json::from_slice(payload)?;
    Ok(UsageRecord {
        request_id: format!("{id:032x}"),
        at: read.at,
        organisation: read.organisation,
        key: read.key,
        team: read.team,
        user: read.user,
        provider: read.provider,
        model: read.model,
        endpoint: read.endpoint,
        stream: read.stream,
        status: read.status,
        end: read.end.unwrap_or_default(),
        code: read.code,
        usage_source: read.source.unwrap_or_default(),
        latency_ms: read.latency_ms,
        overhead_us: read.overhead_us,
        input_tokens: read.input,
        cached_tokens: read.cached,
        output_tokens: read.output,
        reasoning_tokens: read.reasoning,
        total_tokens: read.total,
        units: read.units,
        cost_nanos: read.cost,
        provider_request_id: read.provider_request_id,
        trace_id: read.trace_id,
        details: read.details.map_or_else(|| "{}".to_owned(), |details| details.get().to_owned()),
        plugins: read.plugins,
    })
}

/// The row of a request whose process died: nobody knows what it used, so it is charged what it had reserved.
///
/// # Errors
/// It is none of ours.
pub fn orphan(id: u128, payload: &[u8]) -> Result<UsageRecord, serde_json::Error> {
    let most = serde_json::from_slice::<Written>(payload)?.at_most;
    let mut record = row(id, payload)?;
    record.end = "killed".to_owned();
    record.usage_source = "reservation".to_owned();
    (record.input_tokens, record.output_tokens) = (most.tokens_in, most.tokens_out);
    record.total_tokens = most.tokens_in.saturating_add(most.tokens_out);
    record.cost_nanos = (most.cost > 0).then_some(most.cost);
    Ok(record)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn who() -> Who<'static> {
        Who {
            organisation: "acme",
            key: "acme/app",
            team: Some("support"),
            user: None,
            provider: Some("openai"),
            model: Some("gpt \"4\""),
            route: "openai",
            endpoint: "chat_completions",
            stream: true,
            trace_id: None,
        }
    }

    #[test]
    fn what_is_written_is_what_the_store_gets() {
        let pricing: Pricing =
            serde_yaml::from_str("{input: {text_cost_per_1k_tokens: 0.002}, output: {text_cost_per_1k_tokens: 0.008}}").unwrap();
        let used = Quantities { input: 15, output: 644, ..Quantities::default() };
        let how = How {
            at: UNIX_EPOCH + Duration::from_millis(1_780_000_000_123),
            status: 200,
            end: "complete",
            code: None,
            source: "provider",
            latency: Duration::from_millis(6617),
            overhead: Duration::from_micros(23),
            used,
            total_tokens: 659,
            cost: Some(pricing.cost(&used)),
            pricing: Some(&pricing),
            attempts: 1,
            provider_request_id: Some("req_1"),
            user_agent: Some("curl/8"),
            bytes: (100, 2000),
        };
        let mut out = Vec::new();
        end(&who(), &how, ["pii_mask", "audit_log"].into_iter(), &mut out);
        let row = row(7, &out).unwrap();
        assert_eq!((row.request_id.as_str(), row.at, row.status), ("00000000000000000000000000000007", 1_780_000_000_123, 200));
        assert_eq!((row.team.as_deref(), row.user, row.model.as_deref()), (Some("support"), None, Some("gpt \"4\"")));
        assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens, row.cost_nanos), (15, 644, 659, Some(5_182_000)));
        assert_eq!((row.latency_ms, row.overhead_us, row.plugins), (6617, 23, vec!["pii_mask".into(), "audit_log".into()]));
        let details: serde_json::Value = serde_json::from_str(&row.details).unwrap();
        assert_eq!(details["tokens"]["completion_tokens"], 644);
        assert_eq!(details["billing"]["output_cost_nanos_usd"], 5_152_000);
        assert_eq!(details["billing"]["pricing_nanos_usd_per_1k"]["input"], 2_000_000);
        assert_eq!(details["metadata"]["mode"], "stream");
    }

    #[test]
    fn an_orphan_is_charged_what_it_had_reserved() {
        let mut out = Vec::new();
        begin(&who(), UNIX_EPOCH + Duration::from_secs(1), AtMost { tokens_in: 10, tokens_out: 20, cost: 30 }, &mut out);
        let row = orphan(7, &out).unwrap();
        assert_eq!((row.end.as_str(), row.usage_source.as_str(), row.status), ("killed", "reservation", 0));
        assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens, row.cost_nanos), (10, 20, 30, Some(30)));
    }
}
