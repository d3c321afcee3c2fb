//! Which messages of the outbox a sender gets: of each key its beginning, of those without a key the oldest.
//!
//! How long this takes depends on how many are given out and on how many keys wait, not on how many messages do: an index
//! leads from key to key, and of each only the beginning is looked at.

use super::engine::Writing;
use super::row::Row;
use super::statement::Statement;
use crate::store::records::{MessageLease, RecordError};

/// Keys whose beginnings are asked for at once.
const KEYS: usize = 100;

/// Their ids, oldest first.
pub(super) async fn chosen(tx: &mut Writing, lease: &MessageLease<'_>) -> Result<Vec<i64>, RecordError> {
    let mut ids = unordered(tx, lease).await?;
    for some in open_keys(tx, lease).await?.chunks(KEYS) {
        ids.extend(beginnings(tx, lease, some).await?);
    }
    // Cut by age, a beginning stays one.
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

/// The keys whose first message may be given out now, those that have waited longest first.
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

/// Of each key the messages up to the first that is in hand, waits for another time, or goes elsewhere: with that and the order
/// of ids, what is given out of a key is always its beginning.
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
    // The key, its destination, and whether its beginning goes on.
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

/// It is due, nobody has it, and its destination is asked for. The sign keeps the index by time out of this: in the order of ids
/// the first that fit are found without sorting all that are due.
fn free(statement: &mut Statement, lease: &MessageLease<'_>) {
    statement.push(" AND +o.due <= ").bind(lease.now).push(" AND o.leased_until <= ").bind(lease.now);
    if let Some(only) = lease.only {
        statement.push(" AND o.destination = ").bind(only);
    }
    if !lease.except.is_empty() {
        statement.push(" AND o.destination NOT IN (").list(lease.except.iter().copied()).push(")");
    }
}
