//! Syslog messages (RFC 5424).

use crate::plugin::prelude::*;

/// A message `<PRI>1 TIME HOST APP PROCID MSGID - MSG` with the event as JSON.
pub(super) fn message(delivery: &Delivery, source: &str, facility: u8) -> Vec<u8> {
    let event: Value = serde_json::from_slice(&delivery.body).unwrap_or_default();
    // The place of the kind in native, ECS and OCSF events.
    let kind = ["/event", "/event/action", "/metadata/log_name"].iter().find_map(|place| event.pointer(place)?.as_str());
    let kind = kind.unwrap_or("event");
    // 6: informational; 4: warning, for refusals and findings; 3: error, for failures.
    let severity = match kind {
        _ if kind.contains("refused") || kind.contains("finding") || kind.contains("threshold") => 4,
        _ if kind.contains("failed") => 3,
        _ => 6,
    };
    let priority = u16::from(facility) * 8 + severity;
    let at = ["at", "@timestamp"].iter().find_map(|name| event[*name].as_str()).map(str::to_owned);
    let at = at.unwrap_or_else(|| {
        let millis = event["time"].as_u64().map(|millis| std::time::UNIX_EPOCH + Duration::from_millis(millis));
        Rfc3339(millis.unwrap_or(delivery.created)).to_string()
    });
    let mut out = format!("<{priority}>1 {at} {} odock-edge {} {} - ", name(source, 255), std::process::id(), name(kind, 32)).into_bytes();
    out.extend_from_slice(&delivery.body);
    out
}

/// A message preceded by its length, for streams (RFC 6587).
pub(super) fn counted(message: Vec<u8>) -> Bytes {
    [format!("{} ", message.len()).as_bytes(), &message].concat().into()
}

/// Printable ASCII without spaces, as required for header fields.
fn name(text: &str, most: usize) -> String {
    let name: String = text.chars().map(|c| if c.is_ascii_graphic() { c } else { '_' }).take(most).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_what_the_standard_says() {
        let body = r#"{"event":"request.refused","at":"2026-01-31T23:59:59.123456Z"}"#;
        let delivery = Delivery::new("log:514", "application/json", body);
        let text = String::from_utf8(message(&delivery, "edge 1", 13)).unwrap();
        let pattern = r"^<108>1 2026-01-31T23:59:59\.123456Z edge_1 odock-edge \d+ request\.refused - \{";
        assert!(regex::Regex::new(pattern).unwrap().is_match(&text), "{text}");
        assert!(text.ends_with(body));
        let body = r#"{"class_uid":6003,"time":1700000000123,"type_name":"API Activity: Other","metadata":{"log_name":"request.failed"}}"#;
        let text = String::from_utf8(message(&Delivery::new("log:514", "application/json", body), "edge", 13)).unwrap();
        assert!(text.starts_with("<107>1 2023-11-14T22:13:20.123000Z edge odock-edge "), "{text}");
        assert!(text.contains(" request.failed - {"), "{text}");
        assert_eq!(counted(b"abc".to_vec()), "3 abc");
    }
}
