//! The usage record of a request: its caller, quantities, cost and result, and never a text of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Cost, Pricing, Quantities};
use crate::budget::NanoUsd;
use crate::route::McpPricing;
use crate::store::records::{self, Billing, Details, More, Parts, Usage};

/// The caller of a request and what it called: everything that is known when the request begins.
#[derive(Debug, Clone, Copy)]
pub struct Who<'a> {
    /// The id of the organisation.
    pub organisation: &'a str,
    /// The id of the key.
    pub key: &'a str,
    /// The id of the team, for keys of a team.
    pub team: Option<&'a str>,
    /// The id of the user, for keys of a user.
    pub user: Option<&'a str>,
    /// The name of the provider.
    pub provider: Option<&'a str>,
    /// The name of the model.
    pub model: Option<&'a str>,
    /// The name of the route.
    pub route: &'a str,
    /// The name of the endpoint.
    pub endpoint: &'a str,
    /// Whether the answer is a stream.
    pub stream: bool,
    /// The W3C trace id.
    pub trace_id: Option<&'a str>,
}

/// The course of a request: everything that is known only when it is over.
#[derive(Debug, Clone, Copy)]
pub struct How<'a> {
    /// When the request ended.
    pub at: SystemTime,
    /// The status sent to the caller; 0 if none was.
    pub status: u16,
    /// How the request ended.
    pub end: &'a str,
    /// The code of the refusal.
    pub code: Option<&'a str>,
    /// Where the quantities come from.
    pub source: &'a str,
    /// From the request's head to its end.
    pub latency: Duration,
    /// The part of `latency` that the gateway itself took.
    pub overhead: Duration,
    /// The quantities that were used.
    pub used: Quantities,
    /// The total of tokens as the provider counts them.
    pub total_tokens: u64,
    /// The cost of the quantities.
    pub cost: Option<Cost>,
    /// The prices from which the cost was computed.
    pub pricing: Option<&'a Pricing>,
    /// Attempts at providers.
    pub attempts: u32,
    /// The provider's own id for the request.
    pub provider_request_id: Option<&'a str>,
    /// The caller's `user-agent`.
    pub user_agent: Option<&'a str>,
    /// Body bytes: from the caller, to the caller, and received from the upstream.
    pub bytes: (u64, u64, u64),
    /// From the start of the upstream's work to the head of its answer.
    pub upstream: Duration,
    /// The model that was asked for.
    pub requested_model: Option<&'a str>,
    /// The HTTP method.
    pub method: &'a str,
    /// The scope and the field of the limit that refused.
    pub refused_by: (Option<&'a str>, Option<&'a str>),
    /// The gate at which a plugin refused.
    pub gate: Option<&'a str>,
    /// The SafetySec module with the most severe reading, and what that was.
    pub safety: Option<(&'a str, &'a str)>,
    /// The transport of the MCP server, and its prices.
    pub tools: Option<(&'a str, McpPricing)>,
    /// The tags that steps attached.
    pub tags: &'a [(String, String)],
}

/// A plugin's execution at a gate.
#[derive(Debug, Clone, Copy)]
pub struct Ran<'a> {
    /// The name of the plugin instance.
    pub plugin: &'a str,
    /// The gate at which it ran.
    pub gate: &'a str,
    /// How long it ran.
    pub took: Duration,
}

/// The most that a request may use, for the record of a request whose process dies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtMost {
    /// Input tokens.
    pub tokens_in: u64,
    /// Output tokens.
    pub tokens_out: u64,
    /// Cost (nano-USD).
    pub cost: i64,
}

/// Appends the record of a request that begins. It counts if the process dies before the request ends: its usage is unknown
/// then, so the reserved amounts are charged. `at` in milliseconds since the Unix epoch.
pub fn begin(who: &Who<'_>, at: i64, most: AtMost, out: &mut Vec<u8>) {
    let usage = Usage {
        at,
        end: "killed",
        usage_source: "reservation",
        input_tokens: most.tokens_in,
        output_tokens: most.tokens_out,
        total_tokens: most.tokens_in.saturating_add(most.tokens_out),
        cost_nanos: (most.cost > 0).then_some(most.cost),
        details: Details::Parts(Parts { route: who.route, ..Parts::default() }),
        ..of(who)
    };
    usage.pack(out);
}

/// Appends the record of a request that is over. `plugins` are the executions of its plugins.
pub fn end<'a>(who: &Who<'_>, how: &How<'_>, plugins: impl Iterator<Item = Ran<'a>>, out: &mut Vec<u8>) {
    let used = &how.used;
    let (mut names, mut runs, mut tags) = (String::new(), Vec::new(), Vec::new());
    for ran in plugins {
        records::run(&mut runs, ran.plugin, ran.gate, ran.took.as_micros().try_into().unwrap_or(u64::MAX));
        // In usage, a plugin that ran at several gates is listed once.
        if !names.split_terminator('\n').any(|name| name == ran.plugin) {
            names.push_str(ran.plugin);
            names.push('\n');
        }
    }
    for (name, value) in how.tags {
        records::tag(&mut tags, name, value);
    }
    // MCP tools have no price per token.
    let per_1k = |side: fn(&Pricing) -> i64| how.pricing.map_or(0, |pricing| nanos(side(pricing)));
    let billing = how.cost.map(|cost| Billing {
        input: nanos(cost.input),
        cached_input: nanos(cost.cached_input),
        output: nanos(cost.output),
        embeddings: nanos(cost.embeddings),
        tool: nanos(cost.tool),
        units: nanos(cost.units),
        total: nanos(cost.total),
        input_per_1k: per_1k(|pricing| pricing.input.text_cost_per_1k_tokens.0),
        output_per_1k: per_1k(|pricing| pricing.output.text_cost_per_1k_tokens.0),
        cached_discount_percent: how.pricing.map_or(0, |pricing| pricing.cached_input_discount_percent.into()),
    });
    let usage = Usage {
        at: millis(how.at),
        status: how.status,
        end: how.end,
        code: how.code,
        usage_source: how.source,
        latency_ms: how.latency.as_millis().try_into().unwrap_or(u64::MAX),
        overhead_us: how.overhead.as_micros().try_into().unwrap_or(u64::MAX),
        input_tokens: used.input.saturating_add(used.embeddings),
        cached_tokens: used.cached,
        output_tokens: used.output,
        reasoning_tokens: used.reasoning,
        total_tokens: how.total_tokens,
        units: used.units,
        cost_nanos: how.cost.map(|cost| cost.total),
        provider_request_id: how.provider_request_id,
        plugins: &names,
        details: Details::Parts(Parts {
            route: who.route,
            user_agent: how.user_agent,
            attempts: how.attempts.into(),
            request_bytes: how.bytes.0,
            response_bytes: how.bytes.1,
            embeddings_tokens: used.embeddings,
            billing,
            more: More {
                requested_model: how.requested_model.filter(|asked| who.model != Some(*asked)),
                method: Some(how.method),
                unit_kind: how.pricing.filter(|_| used.units > 0).and_then(|pricing| pricing.unit_kind.as_deref()),
                transport: how.tools.map(|(transport, _)| transport),
                scope: how.refused_by.0,
                limit: how.refused_by.1,
                gate: how.gate,
                safety_module: how.safety.map(|(module, _)| module),
                safety_decision: how.safety.map(|(_, decision)| decision),
                upstream_ms: how.upstream.as_millis().try_into().unwrap_or(u64::MAX),
                received_bytes: how.bytes.2,
                kinds: [
                    used.input_image,
                    used.input_audio,
                    used.input_video,
                    used.cache_write,
                    used.output_image,
                    used.output_audio,
                    used.output_video,
                    used.tool_calls,
                ],
                tags: &tags,
                runs: &runs,
                prices: prices(how),
            },
        }),
        ..of(who)
    };
    usage.pack(out);
}

fn of<'a>(who: &Who<'a>) -> Usage<'a> {
    Usage {
        organisation: who.organisation,
        key: who.key,
        team: who.team,
        user: who.user,
        provider: who.provider,
        model: who.model,
        endpoint: who.endpoint,
        stream: who.stream,
        trace_id: who.trace_id,
        ..Usage::default()
    }
}

/// The prices in force, in the form of [`More::prices`].
fn prices(how: &How<'_>) -> [u64; 17] {
    let mut prices = [0; 17];
    if how.cost.is_none() {
        return prices;
    }
    if let Some((_, tools)) = how.tools {
        let own = [tools.call_nanos_usd, tools.input_byte_nanos_usd, tools.output_byte_nanos_usd];
        prices.iter_mut().zip(own).for_each(|(place, price)| *place = price.saturating_add(1));
        return prices;
    }
    let Some(pricing) = how.pricing else { return prices };
    let there = |price: NanoUsd| nanos(price.0).saturating_add(1);
    let maybe = |price: Option<NanoUsd>| price.map_or(0, there);
    // For tools, a price of zero cannot be told from one that is not configured.
    let written = |price: NanoUsd| if price.0 > 0 { there(price) } else { 0 };
    let (input, output, tools) = (&pricing.input, &pricing.output, &pricing.tools);
    [
        there(input.text_cost_per_1k_tokens),
        maybe(input.image_cost_per_1k_tokens),
        maybe(input.audio_cost_per_1k_tokens),
        maybe(input.video_cost_per_1k_tokens),
        maybe(input.reasoning_cost_per_1k_tokens),
        there(output.text_cost_per_1k_tokens),
        maybe(output.image_cost_per_1k_tokens),
        maybe(output.audio_cost_per_1k_tokens),
        maybe(output.video_cost_per_1k_tokens),
        maybe(output.reasoning_cost_per_1k_tokens),
        maybe(pricing.cached_write_cost_per_1k_tokens),
        maybe(pricing.embeddings_cost_per_1k_tokens),
        written(tools.definition_cost_per_1k_tokens),
        written(tools.input_cost_per_1k_tokens),
        written(tools.output_cost_per_1k_tokens),
        written(tools.cost_per_call),
        maybe(pricing.units_cost_per_1k),
    ]
}

fn nanos(nanos: i64) -> u64 {
    nanos.max(0).unsigned_abs()
}

fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

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
            bytes: (100, 2000, 2100),
            upstream: Duration::from_millis(400),
            requested_model: Some("best"),
            method: "POST",
            refused_by: (None, None),
            gate: None,
            safety: Some(("pii", "redact")),
            tools: None,
            tags: &[("tenant".to_owned(), "acme-eu".to_owned())],
        };
        let mut out = Vec::new();
        let ran = |plugin, gate| Ran { plugin, gate, took: Duration::from_micros(1500) };
        let plugins = [ran("pii_mask", "pre_upstream"), ran("audit_log", "pre_route"), ran("pii_mask", "post_upstream")];
        end(&who(), &how, plugins.into_iter(), &mut out);
        let row = Usage::unpack(&out).unwrap().row(7);
        assert_eq!((row.request_id.as_str(), row.at, row.status), ("00000000000000000000000000000007", 1_780_000_000_123, 200));
        assert_eq!((row.team.as_deref(), row.user, row.model.as_deref()), (Some("support"), None, Some("gpt \"4\"")));
        assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens, row.cost_nanos), (15, 644, 659, Some(5_182_000)));
        assert_eq!((row.latency_ms, row.overhead_us, row.plugins), (6617, 23, vec!["pii_mask".into(), "audit_log".into()]));
        let details: serde_json::Value = serde_json::from_str(&row.details).unwrap();
        assert_eq!(details["tokens"]["completion_tokens"], 644);
        assert_eq!(details["billing"]["output_cost_nanos_usd"], 5_152_000);
        assert_eq!(details["billing"]["pricing_nanos_usd_per_1k"]["input"], 2_000_000);
        assert_eq!((&details["billing"]["output_cost_usd"], &details["billing"]["tool_cost_usd"]), (&json!("0.005152"), &json!("0.00")));
        assert_eq!(details["billing"]["pricing"]["output"], json!({"text_cost_per_1k_tokens": "0.008"}));
        let metadata = &details["metadata"];
        assert_eq!(
            (&metadata["mode"], &metadata["streaming"], &metadata["stream_status"]),
            (&json!("stream"), &json!(true), &json!("complete"))
        );
        assert_eq!((&metadata["stream_duration_ms"], &metadata["requested_model"]), (&json!(6217), &json!("best")));
        assert_eq!((&metadata["tags"], &metadata["safety"]["module"]), (&json!({"tenant": "acme-eu"}), &json!("pii")));
        assert_eq!(metadata["plugins"]["by_plugin_ms"], json!({"pii_mask": 3.0, "audit_log": 1.5}));
        assert_eq!(metadata["plugins"]["by_phase_ms"]["pre_route"], 1.5);
    }

    #[test]
    fn one_whose_process_dies_is_charged_what_it_had_reserved() {
        let mut out = Vec::new();
        begin(&who(), 1000, AtMost { tokens_in: 10, tokens_out: 20, cost: 30 }, &mut out);
        let row = Usage::unpack(&out).unwrap().row(7);
        assert_eq!((row.end.as_str(), row.usage_source.as_str(), row.status), ("killed", "reservation", 0));
        assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens, row.cost_nanos), (10, 20, 30, Some(30)));
    }
}
