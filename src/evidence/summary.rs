//! A short summary for operators: what was decided about a request, why, and whether anything was changed.

use std::fmt::Write as _;

use serde_json::Value;

/// Three lines about a request's record, or one about an entry that followed it.
pub fn summary(entry: &Value) -> String {
    match text(entry, "kind") {
        "request" => of_request(entry),
        "delivery" => format!("later     {} {} to {}\n", text(entry, "plugin"), text(entry, "state"), text(entry, "destination")),
        _ => format!("later     {}\n", of_execution(&entry["execution"])),
    }
}

fn of_request(entry: &Value) -> String {
    let refused = entry["code"].as_str();
    let mut lines = match refused {
        Some(code) => format!("decision  refused {} {code} (end={})\n", entry["status"], text(entry, "end")),
        None => format!("decision  passed, {} (end={})\n", entry["status"], text(entry, "end")),
    };
    let mut why: Vec<String> = list(entry, "safety").filter(|reading| reading["action"] != "allow").map(of_reading).collect();
    why.extend(list(entry, "executions").filter(|execution| tells(execution)).map(of_execution));
    let limit = ["scope", "budget", "limit", "reason"].into_iter().filter_map(|name| entry[name].as_str());
    let limit = limit.collect::<Vec<_>>().join(" ");
    if !limit.is_empty() {
        why.insert(0, limit);
    }
    let shadow = list(entry, "shadow").map(|one| format!("{} {} would refuse (shadow)", text(one, "scope"), text(one, "limit")));
    why.extend(shadow);
    why.extend(list(entry, "unenforced").filter_map(Value::as_str).map(of_unenforced));
    if why.is_empty() {
        let own = "said by the gateway itself; `odock-edge explain` tells of the code";
        why.push(if refused.is_some() { own } else { "nothing was found, and no plugin objected" }.to_owned());
    }
    why.iter().enumerate().for_each(|(place, line)| {
        let _ = writeln!(lines, "{:<9} {line}", if place == 0 { "why" } else { "" });
    });
    let changed = |what: &str| {
        let by = list(entry, "safety").filter(|reading| reading["visible"] == what).map(|reading| text(reading, "module"));
        let by = by.chain(list(entry, "executions").filter(|execution| execution["visible"] == what).map(|e| text(e, "plugin")));
        let by = by.collect::<Vec<_>>().join(", ");
        if by.is_empty() { "no".to_owned() } else { format!("by {by}") }
    };
    let sent = entry["stream"] == true && entry["bytes_out"].as_u64() > Some(0) && matches!(entry["status"].as_u64(), Some(200..300));
    let answer = match refused {
        // A stream that had begun has its status, and its beginning.
        Some(_) if sent => "its beginning was sent, the refusal cut it off".to_owned(),
        Some(_) => "the refusal stands in its place".to_owned(),
        None => changed("answer_changed"),
    };
    let _ = writeln!(lines, "changed   request: {}; answer: {answer}", changed("request_changed"));
    lines
}

fn of_unenforced(word: &str) -> String {
    let what = match word {
        "limits" => "limits, budgets and quotas were not asked",
        "usage" => "no usage was recorded",
        other => other,
    };
    format!("{what}: a store did not answer, and on_store_error lets requests through")
}

fn of_reading(reading: &Value) -> String {
    let mut line = format!("{} {}: {}", text(reading, "module"), text(reading, "phase"), text(reading, "action"));
    let found = reading["categories"].as_object().into_iter().flatten().map(|(category, count)| format!("{category} {count}"));
    let found = found.collect::<Vec<_>>().join(", ");
    if !found.is_empty() {
        let _ = write!(line, " ({found})");
    }
    let kinds = list(reading, "kinds").filter_map(Value::as_str).collect::<Vec<_>>().join(", ");
    if !kinds.is_empty() {
        let _ = write!(line, " in {kinds}");
    }
    if let Some(score) = reading["score"].as_f64() {
        let _ = write!(line, ", score {score}");
    }
    for name in ["error", "reason"] {
        if let Some(said) = reading[name].as_str() {
            let _ = write!(line, "; {said}");
        }
    }
    line
}

/// Whether an execution did something worth a mention.
fn tells(execution: &Value) -> bool {
    !matches!(text(execution, "action"), "allowed" | "enqueued" | "skipped_scope" | "skipped_rollout")
}

fn of_execution(execution: &Value) -> String {
    let mut line = format!("{} {}: {}", text(execution, "plugin"), text(execution, "moment"), text(execution, "action"));
    if execution["mode"] == "observe" {
        line.push_str(" (observed only)");
    }
    for name in ["code", "error"] {
        if let Some(said) = execution[name].as_str() {
            let _ = write!(line, "; {said}");
        }
    }
    line
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or("-")
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> {
    value[name].as_array().into_iter().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_request_is_told_in_three_lines() {
        let blocked = json!({"kind": "request", "status": 403, "code": "safety_blocked", "end": "blocked", "executions": [
            {"plugin": "audit", "moment": "pre_route", "action": "allowed", "visible": "none"},
            {"plugin": "mask", "moment": "pre_upstream", "action": "changed", "visible": "request_changed"}],
            "safety": [{"module": "jailbreak", "phase": "pre_upstream", "action": "block", "categories": {"persona": 2},
            "kinds": ["content", "tool_result"], "score": 0.97, "reason": "over", "visible": "refused"}, {"module": "every_other", "action": "allow"}]});
        assert_eq!(
            summary(&blocked),
            "decision  refused 403 safety_blocked (end=blocked)\n\
             why       jailbreak pre_upstream: block (persona 2) in content, tool_result, score 0.97; over\n\
             \x20         mask pre_upstream: changed\n\
             changed   request: by mask; answer: the refusal stands in its place\n"
        );
        let begun = json!({"kind": "request", "status": 200, "stream": true, "bytes_out": 90, "code": "safety_blocked", "end": "blocked"});
        assert!(summary(&begun).ends_with("answer: its beginning was sent, the refusal cut it off\n"), "{}", summary(&begun));
        let stopped =
            json!({"kind": "request", "status": 403, "stream": true, "bytes_out": 90, "code": "safety_blocked", "end": "blocked"});
        assert!(summary(&stopped).ends_with("answer: the refusal stands in its place\n"), "{}", summary(&stopped));
        let limited = json!({"kind": "request", "status": 402, "code": "budget_exceeded", "end": "refused", "budget": "month",
            "scope": "team", "limit": "COST"});
        assert!(summary(&limited).contains("why       team month COST\n"), "{}", summary(&limited));
        let unasked = json!({"kind": "request", "status": 200, "end": "complete", "unenforced": ["limits"]});
        assert!(summary(&unasked).contains("why       limits, budgets and quotas were not asked: a store"), "{}", summary(&unasked));
        let shadowed = json!({"kind": "request", "status": 200, "shadow": [{"scope": "api_key", "limit": "rpm"}]});
        assert!(summary(&shadowed).contains("why       api_key rpm would refuse (shadow)\n"), "{}", summary(&shadowed));
        let plain = json!({"kind": "request", "status": 200, "end": "complete"});
        assert_eq!(
            summary(&plain),
            "decision  passed, 200 (end=complete)\nwhy       nothing was found, and no plugin objected\nchanged   request: no; answer: no\n"
        );
    }
}
