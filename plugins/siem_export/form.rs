//! Conversion of events to OCSF 1.2 (API Activity 6003, Detection Finding 2004) and the Elastic Common Schema 8.

use crate::plugin::prelude::*;

/// The form of an event.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    /// As it is.
    #[default]
    Native,
    /// Open Cybersecurity Schema Framework.
    Ocsf,
    /// Elastic Common Schema.
    Ecs,
}

impl Form {
    /// The event in this form.
    pub fn write(self, event: &Event, source: &str) -> Value {
        match self {
            Self::Native => event.native(),
            Self::Ocsf => ocsf(event, source),
            Self::Ecs => ecs(event, source),
        }
    }
}

/// The outcome of an event: ECS's word, and OCSF's `status_id`.
fn went(event: &Event) -> (&'static str, u8) {
    match event.kind {
        "request.completed" => ("success", 1),
        "request.refused" | "request.failed" | "request.aborted" => ("failure", 2),
        _ => ("unknown", 0),
    }
}

fn text<'e>(event: &'e Event, path: &[&str]) -> Option<&'e str> {
    let (first, rest) = path.split_first()?;
    rest.iter().try_fold(event.data.get(*first)?, |value, name| value.get(*name))?.as_str()
}

fn millis(event: &Event) -> u64 {
    let since = event.at.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Removes members without a value, so that there is no `null`.
fn pruned(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().map(|(name, value)| (name, pruned(value)));
            Value::Object(kept.filter(|(_, value)| !value.is_null() && value.as_object().is_none_or(|map| !map.is_empty())).collect())
        }
        Value::Array(items) => Value::Array(items.into_iter().map(pruned).collect()),
        other => other,
    }
}

fn ocsf(event: &Event, source: &str) -> Value {
    let finding = event.kind == "security.finding" || event.kind.ends_with("threshold");
    let (status, status_id) = went(event);
    let severity_id = if finding || event.kind == "request.refused" { 3 } else { 1 };
    let actor = json!({
        "user": { "uid": text(event, &["user", "id"]), "name": text(event, &["user", "name"]),
                  "credential_uid": text(event, &["key", "id"]),
                  "org": { "uid": text(event, &["organisation", "id"]), "name": text(event, &["organisation", "name"]),
                           "ou_uid": text(event, &["team", "id"]), "ou_name": text(event, &["team", "name"]) } },
    });
    let metadata = json!({
        "uid": event.id, "version": "1.2.0", "log_name": event.kind, "correlation_uid": text(event, &["trace_id"]),
        "product": { "name": "Odock Edge", "vendor_name": "Odock", "uid": source, "version": env!("CARGO_PKG_VERSION") },
    });
    let classes = if finding {
        json!({
            "class_uid": 2004, "class_name": "Detection Finding", "category_uid": 2, "category_name": "Findings",
            "activity_id": 1, "activity_name": "Create", "type_uid": 200_401, "type_name": "Detection Finding: Create",
            "finding_info": { "uid": event.id, "title": event.kind, "created_time": millis(event), "types": categories(event) },
        })
    } else {
        json!({
            "class_uid": 6003, "class_name": "API Activity", "category_uid": 6, "category_name": "Application Activity",
            "activity_id": 99, "activity_name": text(event, &["endpoint"]), "type_uid": 600_399, "type_name": "API Activity: Other",
            "api": { "operation": text(event, &["endpoint"]), "service": { "name": text(event, &["provider"]) },
                     "request": { "uid": event.subject },
                     "response": { "code": event.data.get("status"), "error": text(event, &["code"]) } },
            "http_request": { "http_method": text(event, &["method"]) },
            "src_endpoint": { "name": source },
            "duration": event.data.get("duration_ms"),
        })
    };
    let mut all = json!({
        "time": millis(event), "severity_id": severity_id, "severity": if severity_id == 3 { "Medium" } else { "Informational" },
        "status": status, "status_id": status_id, "metadata": metadata, "actor": actor,
        "unmapped": event.data,
    });
    if let (Value::Object(all), Value::Object(classes)) = (&mut all, classes) {
        all.extend(classes);
    }
    pruned(all)
}

fn categories(event: &Event) -> Vec<String> {
    let findings = event.data.get("findings").and_then(Value::as_array).into_iter().flatten();
    let mut found: Vec<String> =
        findings.filter_map(|finding| finding["categories"].as_object()).flat_map(|map| map.keys().cloned()).collect();
    found.sort_unstable();
    found.dedup();
    found
}

fn ecs(event: &Event, source: &str) -> Value {
    let (outcome, _) = went(event);
    let finding = event.kind == "security.finding";
    let kind = if finding || event.kind.ends_with("threshold") { "alert" } else { "event" };
    pruned(json!({
        "@timestamp": event.time(),
        "ecs": { "version": "8.11.0" },
        "event": { "id": event.id, "kind": kind, "action": event.kind, "outcome": outcome, "dataset": "odock.gateway",
                   "category": if finding { ["intrusion_detection"] } else { ["api"] },
                   "type": if event.kind == "request.refused" { ["denied"] } else { ["info"] },
                   "code": text(event, &["code"]),
                   "duration": event.data.get("duration_ms").and_then(Value::as_u64).map(|ms| ms.saturating_mul(1_000_000)) },
        "observer": { "vendor": "Odock", "product": "Odock Edge", "name": source, "version": env!("CARGO_PKG_VERSION") },
        "organization": { "id": text(event, &["organisation", "id"]), "name": text(event, &["organisation", "name"]) },
        "user": { "id": text(event, &["user", "id"]), "name": text(event, &["user", "name"]) },
        "group": { "id": text(event, &["team", "id"]), "name": text(event, &["team", "name"]) },
        "trace": { "id": text(event, &["trace_id"]) },
        "http": { "request": { "id": text(event, &["request_id"]), "method": text(event, &["method"]) },
                  "response": { "status_code": event.data.get("status") } },
        "odock": event.data,
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn event(kind: &'static str, data: Value) -> Event {
        let Value::Object(data) = data else { unreachable!() };
        let at = std::time::UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let organisation = Some("acme".into());
        Event { id: "req_1".into(), kind, at, subject: "1".into(), organisation, key: None, user: None, request: None, data }
    }

    #[test]
    fn a_refused_request_in_the_words_of_others() {
        let event = event("request.refused", json!({"status": 403, "code": "safety_blocked", "endpoint": "chat", "duration_ms": 7}));
        let ocsf = Form::Ocsf.write(&event, "edge");
        assert_eq!((&ocsf["class_uid"], &ocsf["type_uid"], &ocsf["time"]), (&json!(6003), &json!(600_399), &json!(1_700_000_000_123_u64)));
        assert_eq!((&ocsf["api"]["response"]["code"], &ocsf["status_id"]), (&json!(403), &json!(2)));
        assert!(!ocsf.to_string().contains("null"));
        let ecs = Form::Ecs.write(&event, "edge");
        assert_eq!((&ecs["event"]["outcome"], &ecs["event"]["duration"]), (&json!("failure"), &json!(7_000_000)));
        assert_eq!(ecs["@timestamp"], "2023-11-14T22:13:20.123000Z");
        assert!(ecs.get("user").is_none(), "nothing is said of what is not known");
    }

    #[test]
    fn a_finding_names_its_categories_once() {
        let findings = json!({"findings": [{"categories": {"email": 2, "iban": 1}}, {"categories": {"email": 1}}]});
        let ocsf = Form::Ocsf.write(&event("security.finding", findings), "edge");
        assert_eq!((&ocsf["class_uid"], &ocsf["finding_info"]["types"]), (&json!(2004), &json!(["email", "iban"])));
    }
}
