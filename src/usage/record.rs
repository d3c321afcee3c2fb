//! The usage record of a request: what the product keeps of a call, never a text of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::{Cost, Pricing, Quantities};
use crate::store::records::{Billing, Details, Parts, Usage};

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AtMost {
    /// Tokens of the prompt.
    pub tokens_in: u64,
    /// Tokens of the answer.
    pub tokens_out: u64,
    /// Nano-USD.
    pub cost: i64,
}

/// Appends the record of a request that begins, as it stands if its process dies: nobody knows then what it used, so it is
/// charged what it had reserved. `at` in milliseconds since the Unix epoch.
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

/// Appends the record. `plugins` are the names of those that ran.
pub fn end<'a>(who: &Who<'_>, how: &How<'_>, plugins: impl Iterator<Item = &'a str>, out: &mut Vec<u8>) {
    let used = &how.used;
    let mut names = String::new();
    for name in plugins {
        names.push_str(name);
        names.push('\n');
    }
    // Tools have no price by the token.
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

fn nanos(nanos: i64) -> u64 {
    nanos.max(0).unsigned_abs()
}

fn millis(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis().try_into().unwrap_or(i64::MAX))
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
        let row = Usage::unpack(&out).unwrap().row(7);
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
    fn one_whose_process_dies_is_charged_what_it_had_reserved() {
        let mut out = Vec::new();
        begin(&who(), 1000, AtMost { tokens_in: 10, tokens_out: 20, cost: 30 }, &mut out);
        let row = Usage::unpack(&out).unwrap().row(7);
        assert_eq!((row.end.as_str(), row.usage_source.as_str(), row.status), ("killed", "reservation", 0));
        assert_eq!((row.input_tokens, row.output_tokens, row.total_tokens, row.cost_nanos), (10, 20, 30, Some(30)));
    }
}
