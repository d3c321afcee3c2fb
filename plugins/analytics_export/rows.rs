//! The tables, and the statements that fill them.

use crate::plugin::prelude::*;

/// Statements that create the tables where they do not exist.
pub(super) const CREATE: [&str; 4] = [
    "CREATE TABLE IF NOT EXISTS requests (
        request_id text PRIMARY KEY, at timestamptz NOT NULL, event text NOT NULL, route text, endpoint text,
        organisation text, team text, user_id text, api_key text, model text, provider text, provider_model text,
        status bigint, code text, stream boolean, attempts bigint, duration_ms bigint, overhead_us bigint,
        bytes_in bigint, bytes_out bigint, input_tokens bigint, output_tokens bigint, cached_tokens bigint,
        reasoning_tokens bigint, total_tokens bigint, findings jsonb, tags jsonb)",
    "CREATE INDEX IF NOT EXISTS requests_by_time ON requests (at)",
    "CREATE TABLE IF NOT EXISTS decisions (
        request_id text NOT NULL, number bigint NOT NULL, at timestamptz NOT NULL, plugin text NOT NULL, gate text NOT NULL,
        decision text NOT NULL, mode text NOT NULL, changed boolean NOT NULL, code text,
        PRIMARY KEY (request_id, number))",
    "CREATE INDEX IF NOT EXISTS decisions_by_time ON decisions (at, plugin)",
];

/// Rows in one statement; PostgreSQL allows at most 65,535 parameters.
const ROWS: usize = 200;

/// The columns of `requests`: name, member of the event, and type.
const REQUEST: [(&str, &str, Kind); 27] = [
    ("request_id", "request_id", Kind::Text),
    ("at", "at", Kind::Time),
    ("event", "event", Kind::Text),
    ("route", "route", Kind::Text),
    ("endpoint", "endpoint", Kind::Text),
    ("organisation", "organisation.id", Kind::Text),
    ("team", "team.id", Kind::Text),
    ("user_id", "user.id", Kind::Text),
    ("api_key", "key.id", Kind::Text),
    ("model", "model", Kind::Text),
    ("provider", "provider", Kind::Text),
    ("provider_model", "provider_model", Kind::Text),
    ("status", "status", Kind::Int),
    ("code", "code", Kind::Text),
    ("stream", "stream", Kind::Flag),
    ("attempts", "attempts", Kind::Int),
    ("duration_ms", "duration_ms", Kind::Int),
    ("overhead_us", "overhead_us", Kind::Int),
    ("bytes_in", "bytes_in", Kind::Int),
    ("bytes_out", "bytes_out", Kind::Int),
    ("input_tokens", "usage.input_tokens", Kind::Int),
    ("output_tokens", "usage.output_tokens", Kind::Int),
    ("cached_tokens", "usage.cached_tokens", Kind::Int),
    ("reasoning_tokens", "usage.reasoning_tokens", Kind::Int),
    ("total_tokens", "usage.total_tokens", Kind::Int),
    ("findings", "findings", Kind::Json),
    ("tags", "tags", Kind::Json),
];

/// The columns of `decisions` that are filled from an entry of `plugins`.
const DECISION: [(&str, &str, Kind); 6] = [
    ("plugin", "name", Kind::Text),
    ("gate", "gate", Kind::Text),
    ("decision", "decision", Kind::Text),
    ("mode", "mode", Kind::Text),
    ("changed", "changed", Kind::Flag),
    ("code", "code", Kind::Text),
];

#[derive(Debug, Clone, Copy)]
enum Kind {
    Text,
    Int,
    Flag,
    Time,
    Json,
}

impl Kind {
    /// The SQL for a parameter of this type.
    fn parameter(self, number: usize) -> String {
        match self {
            Self::Text => format!("${number}"),
            Self::Int => format!("CAST(${number} AS bigint)"),
            Self::Flag => format!("CAST(${number} AS boolean)"),
            Self::Time => format!("CAST(${number} AS timestamptz)"),
            Self::Json => format!("CAST(${number} AS jsonb)"),
        }
    }

    fn value(self, value: Option<&Value>) -> SqlValue {
        let text = |text: &str| SqlValue::Text(text.to_owned());
        match (self, value) {
            (Self::Json, Some(value)) if !value.is_null() => SqlValue::Text(value.to_string()),
            (_, Some(Value::String(value))) => text(value),
            // Every parameter is sent as text and cast in the statement, so that a column accepts `NULL` and numbers alike.
            (_, Some(Value::Number(value))) => text(&value.to_string()),
            (_, Some(Value::Bool(value))) => text(if *value { "true" } else { "false" }),
            _ => SqlValue::Null,
        }
    }
}

/// An event, parsed.
pub(super) struct Row(Value);

impl Row {
    /// Parses a delivered event.
    pub fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        (value["request_id"].is_string() && value["at"].is_string()).then_some(Self(value))
    }

    fn at(&self, path: &str) -> Option<&Value> {
        path.split('.').try_fold(&self.0, |value, name| value.get(name))
    }
}

/// The statements that insert rows, each row once.
pub(super) fn insert(rows: &[Row], decisions: bool) -> Vec<(String, Vec<SqlValue>)> {
    let mut statements = Vec::new();
    for some in rows.chunks(ROWS) {
        let kinds = REQUEST.map(|(column, _, kind)| (column, kind));
        let values = some.iter().map(|row| REQUEST.iter().map(|(_, path, kind)| kind.value(row.at(path))).collect());
        statements.push(statement("requests", &kinds, values.collect()));
    }
    let made: Vec<Vec<SqlValue>> = rows.iter().filter(|_| decisions).flat_map(decided).collect();
    let kinds: Vec<(&str, Kind)> = [("request_id", Kind::Text), ("number", Kind::Int), ("at", Kind::Time)]
        .into_iter()
        .chain(DECISION.iter().map(|(column, _, kind)| (*column, *kind)))
        .collect();
    for some in made.chunks(ROWS) {
        statements.push(statement("decisions", &kinds, some.to_vec()));
    }
    statements
}

fn decided(row: &Row) -> Vec<Vec<SqlValue>> {
    let plugins = row.0["plugins"].as_array().into_iter().flatten().enumerate();
    let values = plugins.map(|(number, entry)| {
        let whose = [Kind::Text.value(row.at("request_id")), SqlValue::Text(number.to_string()), Kind::Time.value(row.at("at"))];
        whose.into_iter().chain(DECISION.iter().map(|(_, name, kind)| kind.value(entry.get(name)))).collect()
    });
    values.collect()
}

fn statement(table: &str, columns: &[(&str, Kind)], rows: Vec<Vec<SqlValue>>) -> (String, Vec<SqlValue>) {
    let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
    let mut number = 0;
    let tuples: Vec<String> = rows
        .iter()
        .map(|_| {
            let parameters: Vec<String> = columns
                .iter()
                .map(|(_, kind)| {
                    number += 1;
                    kind.parameter(number)
                })
                .collect();
            format!("({})", parameters.join(", "))
        })
        .collect();
    let text = format!("INSERT INTO {table} ({}) VALUES {} ON CONFLICT DO NOTHING", names.join(", "), tuples.join(", "));
    (text, rows.into_iter().flatten().collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_one_row_and_one_for_each_decision() {
        let body = json!({"request_id": "r1", "at": "2026-01-01T00:00:00Z", "event": "request.completed", "status": 200, "stream": false,
                          "usage": {"input_tokens": 7}, "plugins": [{"name": "a", "gate": "pre_route", "decision": "allowed"}, {"name": "b"}]});
        let row = || Row::read(body.to_string().as_bytes()).unwrap();
        let statements = insert(&[row(), row()], true);
        assert_eq!(statements.len(), 2);
        let (text, values) = &statements[0];
        assert_eq!(values.len(), 2 * REQUEST.len());
        assert!(text.ends_with("CAST($54 AS jsonb)) ON CONFLICT DO NOTHING"), "{text}");
        assert_eq!(values[12], SqlValue::Text("200".into()));
        assert_eq!(statements[1].1.len(), 4 * 9);
        assert_eq!(insert(&[row()], false).len(), 1);
        assert!(Row::read(b"{}").is_none());
    }
}
