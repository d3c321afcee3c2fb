//! Which messages of the outbox a sender gets: of each ordering key the first ones, and the oldest of those without a key.
//!
//! The cost depends on the number of messages leased and of keys that wait, not on the number of messages: an index leads
//! from key to key, and only the first messages of each are read.

use super::engine::Writing;
use super::row::Row;
use super::statement::Statement;
use crate::store::records::{MessageLease, RecordError};

/// Number of keys whose first messages are read at once.
const KEYS: usize = 100;

/// The ids of the messages to lease, oldest first.
pub(super) async fn chosen(tx: &mut Writing, lease: &MessageLease<'_>) -> Result<Vec<i64>, RecordError> {
    let mut ids = unordered(tx, lease).await?;
    for some in open_keys(tx, lease).await?.chunks(KEYS) {
        ids.extend(beginnings(tx, lease, some).await?);
    }
    // Cutting the sorted ids off keeps, of every key, its first messages.
    ids.sort_unstable();
    ids.truncate(usize::try_from(lease.limit.max(1)).unwrap_or(usize::MAX));
    Ok(ids)
}

async fn unordered(tx: &mut Writing, lease: &MessageLease<'_>) -> Result<Vec<i64>, RecordError> {
    let mut statement = Statement::fixed("SELECT o.id FROM outbox o WHERE o.dead = FALSE AND o.ordering IS NULL AND o.topic = ");
    statement.bind(lease.topic);
    free(&mut statement, lease);
    statement.push(" ORDER BY o.id LIMIT ").bind(lease.limit.max(1));
    tx.fetch(statement).await?.iter_mut().map(Row::int).collect()
}

/// The keys whose first message can be leased now, the longest waiting first.
async fn open_keys(tx: &mut Writing, lease: &MessageLease<'_>) -> Result<Vec<String>, RecordError> {
    let mut statement = Statement::fixed("WITH RECURSIVE keys(k) AS (SELECT (SELECT ordering FROM outbox WHERE topic = ");
    statement.bind(lease.topic).push(" AND dead = FALSE AND ordering IS NOT NULL ORDER BY ordering LIMIT 1) UNION ALL ");
    statement.push("SELECT (SELECT ordering FROM outbox WHERE topic = ").bind(lease.topic);
    statement.push(" AND dead = FALSE AND ordering > keys.k ORDER BY ordering LIMIT 1) FROM keys WHERE keys.k IS NOT NULL) ");
    statement.push("SELECT keys.k FROM keys JOIN outbox o ON o.id = (SELECT id FROM outbox WHERE topic = ").bind(lease.topic);
    statement.push(" AND dead = FALSE AND ordering = keys.k ORDER BY id LIMIT 1) WHERE keys.k IS NOT NULL");
    free(&mut statement, lease);
    statement.push(" ORDER BY o.id LIMIT ").bind(lease.limit.max(1));
    tx.fetch(statement).await?.iter_mut().map(Row::text).collect()
}

/// The first messages of each key, up to one that is leased, not due yet, or for another destination than the one before
/// it. So a key's messages are always leased from its first one on, without a gap.
async fn beginnings(tx: &mut Writing, lease: &MessageLease<'_>, keys: &[String]) -> Result<Vec<i64>, RecordError> {
    let mut statement = Statement::fixed("");
    for (place, key) in keys.iter().enumerate() {
        statement.push(if place == 0 { "SELECT * FROM " } else { " UNION ALL SELECT * FROM " });
        statement.push("(SELECT ordering, id, destination, due, leased_until FROM outbox WHERE topic = ").bind(lease.topic);
        statement.push(" AND dead = FALSE AND ordering = ").bind(key.as_str());
        statement.push(" ORDER BY id LIMIT ").bind(lease.limit.max(1)).push(") s");
    }
    statement.push(" ORDER BY 1, 2");
    let mut ids = Vec::new();
    // The current key, its destination, and whether its run of leasable messages continues.
    let mut beginning: Option<(String, String, bool)> = None;
    for row in &mut tx.fetch(statement).await? {
        let (key, id, destination, due, leased_until) = (row.text()?, row.int()?, row.text()?, row.int()?, row.int()?);
        let goes_on = match &beginning {
            Some((known, there, goes_on)) if *known == key => *goes_on && *there == destination,
            _ => true,
        };
        let goes_on = goes_on && due <= lease.now && leased_until <= lease.now;
        if goes_on {
            ids.push(id);
        }
        beginning = Some((key, destination, goes_on));
    }
    Ok(ids)
}

/// Adds conditions: the message is due, not leased, and its destination is asked for. The unary `+` keeps SQLite from using
/// the index by time: in the order of ids the first matches are found without sorting all due messages.
fn free(statement: &mut Statement, lease: &MessageLease<'_>) {
    statement.push(" AND +o.due <= ").bind(lease.now).push(" AND o.leased_until <= ").bind(lease.now);
    if let Some(only) = lease.only {
        statement.push(" AND o.destination = ").bind(only);
    }
    if !lease.except.is_empty() {
        statement.push(" AND o.destination NOT IN (").list(lease.except.iter().copied()).push(")");
    }
}
