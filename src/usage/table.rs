//! Usage for people and programs: columns and rows, shown as a table, JSON or CSV.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::budget::NanoUsd;
use crate::limit::Moment;
use crate::store::records::{UsageBy, UsageRecord, UsageSum};

/// Columns and rows. Every value is a number, a text, `null` or a list.
#[derive(Debug, Clone)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Value>>,
    /// Additional members of each row's JSON, which the columns do not contain.
    details: Vec<Value>,
}

impl Table {
    /// A table of sums, one row per group.
    pub fn of_sums(by: UsageBy, sums: &[UsageSum]) -> Self {
        let by = column(by);
        let counted = ["requests", "errors", "input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens", "units"];
        let columns = Some(by).filter(|by| !by.is_empty()).into_iter().chain(counted).chain(["cost_usd", "mean_latency_ms"]).collect();
        let row = |sum: &UsageSum| {
            let group = (!by.is_empty()).then(|| json!(sum.group));
            let mean = sum.latency_ms.checked_div(sum.requests).unwrap_or_default();
            let numbers = [
                sum.requests,
                sum.errors,
                sum.input_tokens,
                sum.cached_tokens,
                sum.output_tokens,
                sum.reasoning_tokens,
                sum.total_tokens,
                sum.units,
            ];
            group.into_iter().chain(numbers.map(Value::from)).chain([json!(NanoUsd(sum.cost_nanos).to_string()), json!(mean)]).collect()
        };
        Self { columns, rows: sums.iter().map(row).collect(), details: Vec::new() }
    }

    /// Whether no request is counted or listed.
    pub fn is_of_nothing(&self) -> bool {
        let requests = self.columns.iter().position(|column| *column == "requests");
        self.rows.iter().all(|row| requests.and_then(|at| row.get(at)) == Some(&json!(0)))
    }

    /// A table of records.
    pub fn of_records(records: &[UsageRecord]) -> Self {
        let columns = vec![
            "at",
            "request_id",
            "organisation",
            "key",
            "team",
            "user",
            "provider",
            "model",
            "endpoint",
            "stream",
            "status",
            "end",
            "code",
            "usage_source",
            "input_tokens",
            "cached_tokens",
            "output_tokens",
            "reasoning_tokens",
            "total_tokens",
            "units",
            "cost_usd",
            "latency_ms",
            "overhead_us",
            "provider_request_id",
            "trace_id",
            "plugins",
        ];
        let row = |r: &UsageRecord| {
            let at = u64::try_from(r.at).map_or(std::time::UNIX_EPOCH, |at| std::time::UNIX_EPOCH + std::time::Duration::from_millis(at));
            vec![
                json!(crate::telemetry::time::Rfc3339(at).to_string()),
                json!(r.request_id),
                json!(r.organisation),
                json!(r.key),
                json!(r.team),
                json!(r.user),
                json!(r.provider),
                json!(r.model),
                json!(r.endpoint),
                json!(r.stream),
                json!(r.status),
                json!(r.end),
                json!(r.code),
                json!(r.usage_source),
                json!(r.input_tokens),
                json!(r.cached_tokens),
                json!(r.output_tokens),
                json!(r.reasoning_tokens),
                json!(r.total_tokens),
                json!(r.units),
                json!(r.cost_nanos.map(|nanos| NanoUsd(nanos).to_string())),
                json!(r.latency_ms),
                json!(r.overhead_us),
                json!(r.provider_request_id),
                json!(r.trace_id),
                json!(r.plugins),
            ]
        };
        // Details that the gateway wrote are JSON; any others are shown as text.
        let details = records.iter().map(|r| serde_json::from_str(&r.details).unwrap_or_else(|_| json!(r.details)));
        let details = records.iter().zip(details).map(|(r, details)| derived(r, details)).collect();
        Self { columns, rows: records.iter().map(row).collect(), details }
    }

    /// A JSON list of objects.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().enumerate().map(|(at, row)| {
            let mut object: serde_json::Map<String, Value> =
                self.columns.iter().map(|name| (*name).to_owned()).zip(row.iter().cloned()).collect();
            if let Some(Value::Object(members)) = self.details.get(at) {
                object.extend(members.clone());
            }
            Value::Object(object)
        });
        Value::Array(rows.collect())
    }

    /// CSV by RFC 4180, with line feeds only.
    pub fn csv(&self) -> String {
        let mut out = self.columns.join(",") + "\n";
        for row in &self.rows {
            let cells = row.iter().map(|value| {
                let text = shown(value);
                // A spreadsheet must not interpret a name as a formula.
                let text = if value.is_string() && text.starts_with(['=', '+', '-', '@']) { format!("'{text}") } else { text };
                if text.contains(['"', ',', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
            });
            out.push_str(&(cells.collect::<Vec<_>>().join(",") + "\n"));
        }
        out
    }

    /// Columns aligned for reading.
    pub fn aligned(&self) -> String {
        let cells: Vec<Vec<String>> =
            self.rows.iter().map(|row| row.iter().map(|v| if v.is_null() { "-".into() } else { shown(v) }).collect()).collect();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, name)| cells.iter().map(|row| row[at].chars().count()).chain([name.len()]).max().unwrap_or(0))
            .collect();
        let mut out = String::new();
        let names = self.columns.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        for (number, row) in [&names].into_iter().chain(&cells).enumerate() {
            let mut line = String::new();
            for (at, cell) in row.iter().enumerate() {
                let width = widths[at];
                // Numbers are right-aligned.
                let right = self.rows.first().is_some_and(|row| row[at].is_number() || self.columns[at] == "cost_usd");
                let _ = if right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
            }
            out.push_str(line.trim_end());
            out.push('\n');
            if number == 0 && cells.is_empty() {
                out.push_str("nothing\n");
            }
        }
        out
    }
}

/// Adds members to a record's JSON that follow from others (product.md §14.2, §14.6).
fn derived(r: &UsageRecord, mut details: Value) -> Value {
    let time = |at: i64| {
        let at = std::time::Duration::from_millis(u64::try_from(at).unwrap_or_default());
        json!(crate::telemetry::time::Rfc3339(std::time::UNIX_EPOCH + at).to_string())
    };
    let mut requested = json!(r.model);
    if let Some(Value::Object(metadata)) = details.get_mut("metadata") {
        if let Some(asked) = metadata.get("requested_model") {
            requested = asked.clone();
        }
        metadata.insert("received_at".to_owned(), time(r.at.saturating_sub_unsigned(r.latency_ms)));
        metadata.insert("completed_at".to_owned(), time(r.at));
        metadata.insert(
            "odock".to_owned(),
            json!({
                "schema_version": "usage_metadata_v1",
                "request_id": r.request_id,
                "organization_id": r.organisation,
                "provider": r.provider,
                "model": r.model,
                "endpoint": r.endpoint,
                "http_status": r.status,
                "trace_id": r.trace_id,
            }),
        );
    }
    json!({
        "id": r.request_id,
        "requested_model": requested,
        "billable_tokens": r.total_tokens,
        "cost_nanos_usd": r.cost_nanos,
        "details": details,
    })
}

/// The name of the column of groups; empty for a single sum.
fn column(by: UsageBy) -> &'static str {
    UsageBy::NAMED.iter().find(|(_, known)| *known == by).map_or("", |(name, _)| name)
}

/// What sums are told apart by, by its name.
pub fn by_name(name: &str) -> Option<UsageBy> {
    UsageBy::NAMED.iter().find(|(known, _)| *known == name).map(|(_, by)| *by)
}

/// A day or an RFC 3339 moment, in milliseconds since the Unix epoch.
///
/// # Errors
/// A message that says what was expected.
pub fn moment(text: &str) -> Result<i64, String> {
    let whole = if text.len() == 10 { format!("{text}T00:00:00Z") } else { text.to_owned() };
    let read: Result<Moment, serde_json::Error> = serde_json::from_value(Value::String(whole));
    read.map(|at| at.0 / 1000).map_err(|_| "expected a day such as 2026-11-01, or a moment such as 2026-11-01T12:00:00Z".to_owned())
}

fn shown(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Array(list) => list.iter().map(shown).collect::<Vec<_>>().join(" "),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_ways_to_write_the_same() {
        let sums = [UsageSum {
            group: Some("=a,\"b\"".into()),
            requests: 2,
            errors: 1,
            cost_nanos: 2_000_000,
            latency_ms: 30,
            ..UsageSum::default()
        }];
        let table = Table::of_sums(UsageBy::Key, &sums);
        let header =
            "key,requests,errors,input_tokens,cached_tokens,output_tokens,reasoning_tokens,total_tokens,units,cost_usd,mean_latency_ms";
        assert_eq!(table.csv(), format!("{header}\n\"'=a,\"\"b\"\"\",2,1,0,0,0,0,0,0,0.002,15\n"));
        let json = table.json();
        assert_eq!((&json[0]["key"], &json[0]["requests"], &json[0]["cost_usd"]), (&json!("=a,\"b\""), &json!(2), &json!("0.002")));
        let lines: Vec<String> = table.aligned().lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0].find("cost_usd").map(|at| at + 8), lines[1].find("0.002").map(|at| at + 5), "{lines:#?}");
        assert!(Table::of_sums(UsageBy::Nothing, &[]).aligned().ends_with("nothing\n"));
    }

    #[test]
    fn days_and_moments() {
        assert_eq!(moment("1970-01-02"), Ok(86_400_000));
        assert_eq!(moment("1970-01-01T01:00:00+01:00"), Ok(0));
        assert!(moment("yesterday").is_err());
    }
}
