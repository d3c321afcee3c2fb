//! Usage records as rows: the form in PostgreSQL, and that of the embedded store in earlier builds.

use async_trait::async_trait;

use super::SqlRecords;
use super::blocks::packed;
use super::engine::Writing;
use super::row::Row;
use super::statement::{Conditions, Statement, Value};
use crate::store::records::{RecordError, Usage, UsageBatch, UsageBy, UsageFilter, UsageRecord, UsageRecords, UsageSum};

const COLUMNS: &str = "request_id, at, organisation, key_id, team, user_id, provider, model, endpoint, stream, status, ended, code, \
                       usage_source, latency_ms, overhead_us, input_tokens, cached_tokens, output_tokens, reasoning_tokens, \
                       total_tokens, units, cost_nanos, provider_request_id, trace_id, details, plugins";
/// Most rows in one statement; both engines accept at most some ten thousand values.
const ROWS: usize = 200;
const MOST_GROUPS: u32 = 10_000;

fn values(record: &UsageRecord) -> [Value; 27] {
    [
        (&record.request_id).into(),
        record.at.into(),
        (&record.organisation).into(),
        (&record.key).into(),
        (&record.team).into(),
        (&record.user).into(),
        (&record.provider).into(),
        (&record.model).into(),
        (&record.endpoint).into(),
        record.stream.into(),
        u32::from(record.status).into(),
        (&record.end).into(),
        (&record.code).into(),
        (&record.usage_source).into(),
        record.latency_ms.into(),
        record.overhead_us.into(),
        record.input_tokens.into(),
        record.cached_tokens.into(),
        record.output_tokens.into(),
        record.reasoning_tokens.into(),
        record.total_tokens.into(),
        record.units.into(),
        record.cost_nanos.into(),
        (&record.provider_request_id).into(),
        (&record.trace_id).into(),
        (&record.details).into(),
        record.plugins.join(",").into(),
    ]
}

fn read(row: &mut Row) -> Result<UsageRecord, RecordError> {
    Ok(UsageRecord {
        request_id: row.text()?,
        at: row.int()?,
        organisation: row.text()?,
        key: row.text()?,
        team: row.maybe_text()?,
        user: row.maybe_text()?,
        provider: row.maybe_text()?,
        model: row.maybe_text()?,
        endpoint: row.text()?,
        stream: row.flag()?,
        status: u16::try_from(row.int()?).unwrap_or(0),
        end: row.text()?,
        code: row.maybe_text()?,
        usage_source: row.text()?,
        latency_ms: row.count()?,
        overhead_us: row.count()?,
        input_tokens: row.count()?,
        cached_tokens: row.count()?,
        output_tokens: row.count()?,
        reasoning_tokens: row.count()?,
        total_tokens: row.count()?,
        units: row.count()?,
        cost_nanos: row.maybe_int()?,
        provider_request_id: row.maybe_text()?,
        trace_id: row.maybe_text()?,
        details: row.text()?,
        plugins: row.text()?.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect(),
    })
}

/// Writes records. Returns the ids of those that were new.
async fn append(tx: &mut Writing, records: &[UsageRecord]) -> Result<Vec<String>, RecordError> {
    let mut statement = Statement::fixed("INSERT INTO usage_records (");
    statement.push(COLUMNS).push(") VALUES ").rows(records.iter().map(values));
    statement.push(" ON CONFLICT (request_id) DO NOTHING RETURNING request_id");
    let mut rows = tx.fetch(statement).await?;
    let mut new = rows.iter_mut().map(Row::text).collect::<Result<Vec<_>, _>>()?;
    new.sort_unstable();
    let ran: Vec<[Value; 3]> = records
        .iter()
        .filter(|record| new.binary_search(&record.request_id).is_ok())
        .flat_map(|record| record.plugins.iter().map(|plugin| [plugin.into(), record.at.into(), (&record.request_id).into()]))
        .collect();
    for some in ran.chunks(ROWS) {
        let mut statement = Statement::fixed("INSERT INTO usage_plugins (plugin, at, request_id) VALUES ");
        statement.rows(some.iter().cloned()).push(" ON CONFLICT DO NOTHING");
        tx.execute(statement).await?;
    }
    Ok(new)
}

/// The oldest records, at most `limit`.
pub(super) async fn oldest(tx: &mut Writing, limit: u32) -> Result<Vec<UsageRecord>, RecordError> {
    let mut statement = Statement::fixed("SELECT ");
    statement.push(COLUMNS).push(" FROM usage_records ORDER BY at, request_id LIMIT ").bind(limit);
    tx.fetch(statement).await?.iter_mut().map(read).collect()
}

/// Deletes rows.
pub(super) async fn remove(tx: &mut Writing, rows: &[UsageRecord]) -> Result<(), RecordError> {
    for some in rows.chunks(ROWS) {
        for text in ["DELETE FROM usage_plugins WHERE request_id IN (", "DELETE FROM usage_records WHERE request_id IN ("] {
            let mut statement = Statement::fixed(text);
            statement.list(some.iter().map(|row| &row.request_id)).push(")");
            tx.execute(statement).await?;
        }
    }
    Ok(())
}

/// Adds the conditions of a filter on `u`, and on `p` where it concerns plugins.
fn filter(statement: &mut Statement, filter: &UsageFilter, by: UsageBy) -> Conditions {
    statement.push(" FROM usage_records u");
    if filter.plugin.is_some() || by == UsageBy::Plugin {
        statement.push(" JOIN usage_plugins p ON p.at = u.at AND p.request_id = u.request_id");
    }
    let mut conditions = Conditions::default();
    let columns = [
        ("u.organisation", &filter.organisation),
        ("u.key_id", &filter.key),
        ("u.team", &filter.team),
        ("u.user_id", &filter.user),
        ("u.provider", &filter.provider),
        ("u.model", &filter.model),
        ("p.plugin", &filter.plugin),
    ];
    for (column, wanted) in columns {
        if let Some(wanted) = wanted {
            conditions.and(statement, column).push(" = ").bind(wanted);
        }
    }
    if let Some(from) = filter.from {
        conditions.and(statement, "u.at >= ").bind(from);
    }
    if let Some(until) = filter.until {
        conditions.and(statement, "u.at < ").bind(until);
    }
    if filter.accepted {
        conditions.and(statement, r#"(u.ended = 'killed' OR strpos(u.details, '"attempts":0') = 0)"#);
    }
    if filter.failed {
        conditions.and(statement, "u.status >= 400 AND u.ended <> 'blocked'");
    }
    conditions
}

#[async_trait]
impl UsageRecords for SqlRecords {
    async fn append_usage(&self, records: &[UsageRecord]) -> Result<u64, RecordError> {
        if records.is_empty() {
            return Ok(0);
        }
        if self.engine.is_embedded() {
            return self.append_blocks(&packed(records)).await;
        }
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let mut new = 0;
            for some in records.chunks(ROWS) {
                new += append(&mut tx, some).await?.len() as u64;
            }
            tx.commit().await?;
            Ok(new)
        })
        .await
    }

    async fn append_packed(&self, batch: UsageBatch) -> Result<u64, RecordError> {
        if self.engine.is_embedded() {
            return self.append_blocks(&batch).await;
        }
        let row = |(id, packed)| {
            let read = Usage::unpack(packed).map(|usage| usage.row(id));
            if read.is_none() {
                log::error!(target: "usage", "a usage record of another form was left out");
            }
            read
        };
        let rows: Vec<UsageRecord> = batch.iter().filter_map(row).collect();
        self.append_usage(&rows).await
    }

    async fn usage(&self, wanted: &UsageFilter, after: Option<(i64, &str)>, limit: u32) -> Result<Vec<UsageRecord>, RecordError> {
        if self.engine.is_embedded() {
            return self.list_blocks(wanted, after, limit).await;
        }
        let mut statement = Statement::fixed("SELECT ");
        for (n, column) in COLUMNS.split(", ").enumerate() {
            statement.push(if n == 0 { "u." } else { ", u." }).push(column.trim());
        }
        let mut conditions = filter(&mut statement, wanted, UsageBy::Nothing);
        if let Some((at, id)) = after {
            conditions.and(&mut statement, "(u.at, u.request_id) < (").bind(at).push(", ").bind(id).push(")");
        }
        statement.push(" ORDER BY u.at DESC, u.request_id DESC LIMIT ").bind(limit.max(1));
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        rows.iter_mut().map(read).collect()
    }

    async fn sum_usage(&self, wanted: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>, RecordError> {
        if self.engine.is_embedded() {
            return self.sum_blocks(wanted, by).await;
        }
        let group = match by {
            UsageBy::Nothing => "CAST(NULL AS TEXT)",
            UsageBy::Organisation => "u.organisation",
            UsageBy::Key => "u.key_id",
            UsageBy::Team => "u.team",
            UsageBy::User => "u.user_id",
            UsageBy::Provider => "u.provider",
            UsageBy::Model => "u.model",
            UsageBy::Plugin => "p.plugin",
            UsageBy::Status => "CAST(u.status AS TEXT)",
            UsageBy::Day => "",
        };
        let mut statement = match by {
            UsageBy::Day => Statement::fixed("SELECT to_char(to_timestamp(u.at / 1000) AT TIME ZONE 'UTC', 'YYYY-MM-DD') AS grouped"),
            _ => {
                let mut statement = Statement::fixed("SELECT ");
                statement.push(group).push(" AS grouped");
                statement
            }
        };
        statement.push(", COUNT(*)");
        let sums = [
            "CASE WHEN u.status >= 400 THEN 1 ELSE 0 END",
            "u.input_tokens",
            "u.cached_tokens",
            "u.output_tokens",
            "u.reasoning_tokens",
            "u.total_tokens",
            "u.units",
            "u.cost_nanos",
            "u.latency_ms",
        ];
        for sum in sums {
            statement.push(", CAST(COALESCE(SUM(").push(sum).push("), 0) AS BIGINT)");
        }
        filter(&mut statement, wanted, by);
        statement.push(" GROUP BY 1 ORDER BY 10 DESC, 2 DESC, 1 LIMIT ").bind(MOST_GROUPS);
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        let read = |row: &mut Row| {
            Ok(UsageSum {
                group: row.maybe_text()?,
                requests: row.count()?,
                errors: row.count()?,
                input_tokens: row.count()?,
                cached_tokens: row.count()?,
                output_tokens: row.count()?,
                reasoning_tokens: row.count()?,
                total_tokens: row.count()?,
                units: row.count()?,
                cost_nanos: row.int()?,
                latency_ms: row.count()?,
            })
        };
        let mut sums: Vec<UsageSum> = rows.iter_mut().map(read).collect::<Result<_, RecordError>>()?;
        if by == UsageBy::Nothing && sums.is_empty() {
            sums.push(UsageSum::default());
        }
        Ok(sums)
    }

    async fn forget_usage(&self, before: i64, limit: u32) -> Result<u64, RecordError> {
        if self.engine.is_embedded() {
            return self.forget_blocks(before, limit).await;
        }
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let text = "DELETE FROM usage_records WHERE request_id IN \
                        (SELECT request_id FROM usage_records WHERE at < $1 ORDER BY at, request_id LIMIT $2) RETURNING request_id, at";
            let mut rows = tx.fetch(Statement::fixed(text).value(before).value(limit.max(1))).await?;
            let gone: Vec<(String, i64)> = rows.iter_mut().map(|row| Ok((row.text()?, row.int()?))).collect::<Result<_, RecordError>>()?;
            for some in gone.chunks(ROWS) {
                let mut statement = Statement::fixed("DELETE FROM usage_plugins WHERE at < ");
                statement.bind(before).push(" AND request_id IN (").list(some.iter().map(|(id, _)| id)).push(")");
                tx.execute(statement).await?;
            }
            tx.commit().await?;
            Ok(gone.len() as u64)
        })
        .await
    }
}
