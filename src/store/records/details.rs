//! The details of a usage record as JSON, built only when a record is read (product.md §14.3, §14.4, §14.6, §14.8).

use serde_json::{Map, Value, json};

use super::packed::{Billing, Parts, Usage};

/// The `endpoint` of requests to MCP servers.
const MCP: &str = "mcp";
/// Side and member name of each price in [`super::More::prices`], by position.
pub(super) const PRICES: [(&str, &str); 17] = [
    ("input", "text_cost_per_1k_tokens"),
    ("input", "image_cost_per_1k_tokens"),
    ("input", "audio_cost_per_1k_tokens"),
    ("input", "video_cost_per_1k_tokens"),
    ("input", "reasoning_cost_per_1k_tokens"),
    ("output", "text_cost_per_1k_tokens"),
    ("output", "image_cost_per_1k_tokens"),
    ("output", "audio_cost_per_1k_tokens"),
    ("output", "video_cost_per_1k_tokens"),
    ("output", "reasoning_cost_per_1k_tokens"),
    ("", "cached_write_cost_per_1k_tokens"),
    ("", "embeddings_cost_per_1k_tokens"),
    ("tools", "definition_cost_per_1k_tokens"),
    ("tools", "input_cost_per_1k_tokens"),
    ("tools", "output_cost_per_1k_tokens"),
    ("tools", "cost_per_call"),
    ("", "units_cost_per_1k"),
];
/// The same for the prices of an MCP server.
const MCP_PRICES: [&str; 3] = ["callNanosUsd", "inputByteNanosUsd", "outputByteNanosUsd"];

/// The whole details object.
pub(super) fn json(parts: &Parts<'_>, usage: &Usage<'_>) -> String {
    let mut details = Map::new();
    details.insert("tokens".into(), tokens(parts, usage));
    if let Some(bill) = &parts.billing {
        details.insert("billing".into(), billing(bill, parts, usage));
    }
    details.insert("metadata".into(), metadata(parts, usage));
    if usage.endpoint == MCP {
        details.insert("mcp".into(), mcp(parts, usage));
    }
    Value::Object(details).to_string()
}

fn tokens(parts: &Parts<'_>, usage: &Usage<'_>) -> Value {
    let mut tokens = json!({
        "prompt_tokens": usage.input_tokens.saturating_sub(parts.embeddings_tokens),
        "completion_tokens": usage.output_tokens,
        "cached_tokens": usage.cached_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "embeddings_tokens": parts.embeddings_tokens,
        "total_tokens": usage.total_tokens,
        "tools": {"call_count": parts.more.kinds[7]},
        "input_details": sides(parts, usage)[0],
        "output_details": sides(parts, usage)[1],
        "units": usage.units,
    });
    if let Some(kind) = parts.more.unit_kind {
        tokens["unit_kind"] = json!(kind);
    }
    tokens
}

/// The tokens of the prompt and of the answer by kind.
fn sides(parts: &Parts<'_>, usage: &Usage<'_>) -> [Value; 2] {
    let [image, audio, video, cache_write, out_image, out_audio, out_video, _] = parts.more.kinds;
    let text = |all: u64, others: &[u64]| others.iter().fold(all, |left, n| left.saturating_sub(*n));
    let prompt = usage.input_tokens.saturating_sub(parts.embeddings_tokens);
    [
        json!({"text": text(prompt, &[image, audio, video]), "image": image, "audio": audio, "video": video,
               "cached": usage.cached_tokens, "cache_write": cache_write}),
        json!({"text": text(usage.output_tokens, &[out_image, out_audio, out_video, usage.reasoning_tokens]), "image": out_image,
               "audio": out_audio, "video": out_video, "reasoning": usage.reasoning_tokens}),
    ]
}

fn billing(b: &Billing, parts: &Parts<'_>, usage: &Usage<'_>) -> Value {
    let mut billing = Map::new();
    for (name, nanos) in [
        ("input", b.input),
        ("cached_input", b.cached_input),
        ("output", b.output),
        ("embeddings", b.embeddings),
        ("tool", b.tool),
        ("units", b.units),
        ("total", b.total),
    ] {
        billing.insert(format!("{name}_cost_usd"), usd(nanos).into());
        billing.insert(format!("{name}_cost_nanos_usd"), nanos.into());
    }
    let told = tokens(parts, usage);
    for total in ["prompt_tokens", "completion_tokens", "cached_tokens", "total_tokens", "input_details", "output_details", "tools"] {
        billing.insert(total.into(), told[total].clone());
    }
    if usage.endpoint == MCP {
        billing["tools"]["mcp_costs_nanos"] = json!({usage.model.unwrap_or_default(): b.total});
    }
    // The price at the time of the request; it may have changed since. Tools have no price per token.
    if b.input_per_1k > 0 || b.output_per_1k > 0 {
        billing.insert(
            "pricing_nanos_usd_per_1k".into(),
            json!({"input": b.input_per_1k, "output": b.output_per_1k, "cached_input_discount_percent": b.cached_discount_percent}),
        );
    }
    if usage.endpoint != MCP && parts.more.prices.iter().any(|price| *price > 0) {
        let mut pricing = json!({"cached_input_discount_percent": b.cached_discount_percent});
        // Prices are stored plus one, so that 0 stands for "no price" and a price of zero is still one.
        for ((side, member), price) in PRICES.iter().zip(parts.more.prices) {
            if let Some(nanos) = price.checked_sub(1) {
                let place = if side.is_empty() { &mut pricing } else { &mut pricing[*side] };
                place[*member] = usd(nanos).into();
            }
        }
        billing.insert("pricing".into(), pricing);
    }
    billing.into()
}

fn metadata(parts: &Parts<'_>, usage: &Usage<'_>) -> Value {
    let more = &parts.more;
    let mut metadata = json!({
        "mode": if usage.stream { "stream" } else { "unary" },
        "streaming": usage.stream,
        "route": parts.route,
        "endpoint": usage.endpoint,
        "attempts": parts.attempts,
        "request_bytes": parts.request_bytes,
        "response_bytes": parts.response_bytes,
        "gateway_overhead_ms": millis(usage.overhead_us),
    });
    for (name, value) in
        [("user_agent", parts.user_agent), ("trace_id", usage.trace_id), ("requested_model", more.requested_model), ("method", more.method)]
    {
        if let Some(value) = value {
            metadata[name] = json!(value);
        }
    }
    if usage.stream {
        metadata["stream_status"] = json!(usage.end);
        let before = (usage.overhead_us / 1000).saturating_add(more.upstream_ms);
        metadata["stream_duration_ms"] = json!(usage.latency_ms.saturating_sub(before));
    }
    if let Some(code) = usage.code {
        let mut denied = json!({"code": code});
        for (name, value) in [("gate", more.gate.or_else(|| gate_of(code))), ("scope", more.scope), ("limit", more.limit)] {
            if let Some(value) = value {
                denied[name] = json!(value);
            }
        }
        metadata["denied"] = denied;
    }
    if let (Some(module), Some(decision)) = (more.safety_module, more.safety_decision) {
        metadata["safety"] = json!({"module": module, "decision": decision});
    }
    let tags: Map<String, Value> = more.tags().map(|(name, value)| (name.to_owned(), value.into())).collect();
    if !tags.is_empty() {
        metadata["tags"] = tags.into();
    }
    if !more.runs.is_empty() {
        metadata["plugins"] = plugins(more.runs());
    }
    metadata
}

/// How long each plugin took: every execution, and sums by phase and by plugin.
fn plugins<'a>(runs: impl Iterator<Item = (&'a str, &'a str, u64)>) -> Value {
    let (mut executions, mut phases, mut names) = (Vec::new(), Map::new(), Map::new());
    let add = |sums: &mut Map<String, Value>, name: &str, us: u64| {
        let before = sums.get(name).and_then(Value::as_f64).unwrap_or_default();
        sums.insert(name.to_owned(), json!(((before + millis(us)) * 1000.0).round() / 1000.0));
    };
    for (plugin, phase, us) in runs {
        executions.push(json!({"plugin": plugin, "phase": phase, "ms": millis(us)}));
        add(&mut phases, phase, us);
        add(&mut names, plugin, us);
    }
    json!({"executions": executions, "by_phase_ms": phases, "by_plugin_ms": names})
}

fn mcp(parts: &Parts<'_>, usage: &Usage<'_>) -> Value {
    let more = &parts.more;
    let tag = |wanted: &str| more.tags().find(|(name, _)| *name == wanted).map(|(_, value)| value);
    let mut mcp = json!({
        "mcp_slug": usage.model,
        "rpc_method": tag("mcp_method"),
        "tool_name": tag("mcp_tool"),
        "transport": more.transport,
        "status_code": usage.status,
        "latency_ms": usage.latency_ms,
        "tool_call_count": usage.units,
        "in_bytes": parts.request_bytes,
        "out_bytes": more.received_bytes,
    });
    if let Some(b) = &parts.billing {
        mcp["cost_nanos_usd"] = json!(b.total);
        let prices = MCP_PRICES.iter().zip(more.prices).map(|(name, price)| ((*name).to_owned(), price.saturating_sub(1).into()));
        mcp["pricing"] = prices.collect::<Map<String, Value>>().into();
        mcp["pricing_breakdown"] =
            json!({"call_nanos_usd": b.tool, "input_nanos_usd": b.input, "output_nanos_usd": b.output, "total_nanos_usd": b.total});
    }
    mcp
}

/// The gate that refuses with a code, unless it is a plugin's code.
fn gate_of(code: &str) -> Option<&'static str> {
    Some(match code {
        "rate_limit_exceeded" | "ip_not_allowed" => "ratelimit",
        "budget_exceeded" | "quota_exceeded" => "budget",
        "safety_blocked" => "safety",
        "model_not_found" | "model_not_allowed" | "mcp_not_found" | "mcp_not_allowed" => "access",
        "mcp_guardrail_block" | "mcp_header_mismatch" => "mcp",
        "overloaded" => "concurrency",
        _ => return None,
    })
}

#[allow(clippy::cast_precision_loss)] // microseconds of a request are far below 2^52
fn millis(us: u64) -> f64 {
    us as f64 / 1000.0
}

/// Nano-USD as a decimal number of USD, exact.
fn usd(nanos: u64) -> String {
    let fraction = format!("{:09}", nanos % 1_000_000_000);
    let digits = 2.max(fraction.trim_end_matches('0').len());
    format!("{}.{}", nanos / 1_000_000_000, &fraction[..digits])
}
