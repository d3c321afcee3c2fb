//! Values as flow YAML, in the form in which people write it.

use serde_json::Value;

/// A value on one line; texts are quoted only if necessary.
pub fn flow(value: &Value) -> String {
    match value {
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            let members: Vec<String> = map.iter().map(|(key, value)| format!("{}: {}", scalar(key), flow(value))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        Value::Array(list) => format!("[{}]", list.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::String(text) => scalar(text),
        other => other.to_string(),
    }
}

/// A text as a YAML scalar, quoted if it would be read as something else.
pub fn scalar(text: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"_-./".contains(&b);
    let word = text.bytes().all(plain) && text.starts_with(|c: char| c.is_ascii_alphabetic());
    let means_another = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_ascii_lowercase().as_str());
    if word && !means_another { text.to_owned() } else { Value::String(text.to_owned()).to_string() }
}
