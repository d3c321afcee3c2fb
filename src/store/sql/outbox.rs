//! The outbox.

use async_trait::async_trait;

use super::engine::Writing;
use super::row::Row;
use super::statement::{Conditions, Statement, Value};
use super::{SqlRecords, lease};
use crate::store::records::{
    Depth, MessageFilter, MessageLease, MessageRow, NewMessage, Origin, Outbox, OutboxMessage, RecordError, Settled, Standing,
};

/// Most rows in one statement.
const ROWS: usize = 250;
/// Senders lease one after the other: each must see what the one before took, or messages of one key could be sent out of
/// order.
const LOCK: &str = "SELECT CAST(pg_advisory_xact_lock(7306497211203) AS TEXT)";

const MESSAGE: &str = "id, topic, dedup, destination, ordering, content_type, request, body, created, attempts";

fn message(row: &mut Row) -> Result<OutboxMessage, RecordError> {
    Ok(OutboxMessage {
        id: row.int()?,
        topic: row.text()?,
        dedup: row.text()?,
        destination: row.text()?,
        ordering: row.maybe_text()?,
        content_type: row.text()?,
        request: row.maybe_text()?,
        body: row.bytes()?,
        created: row.int()?,
        attempt: row.small()?,
    })
}

const ROW: &str =
    "id, topic, dedup, destination, ordering, request, created, due, attempts, dead, leased_until, why, CAST(LENGTH(body) AS BIGINT)";

fn row(row: &mut Row, now: i64) -> Result<MessageRow, RecordError> {
    let mut found = MessageRow {
        id: row.int()?,
        topic: row.text()?,
        dedup: row.text()?,
        destination: row.text()?,
        ordering: row.maybe_text()?,
        request: row.maybe_text()?,
        created: row.int()?,
        due: row.int()?,
        attempts: row.small()?,
        standing: Standing::Pending,
        why: String::new(),
        size: 0,
    };
    let (dead, leased_until) = (row.flag()?, row.int()?);
    found.standing = match found.attempts {
        _ if dead => Standing::Dead,
        _ if leased_until > now => Standing::Leased,
        0 => Standing::Pending,
        _ => Standing::Retrying,
    };
    (found.why, found.size) = (row.text()?, row.count()?);
    Ok(found)
}

/// Adds the conditions of a filter and, if `free`, that the message is not leased.
fn filtered(statement: &mut Statement, filter: &MessageFilter, now: i64, free: bool) -> Conditions {
    let mut conditions = Conditions::default();
    for (column, value) in [("topic", &filter.topic), ("destination", &filter.destination), ("dedup", &filter.dedup)] {
        if let Some(value) = value {
            conditions.and(statement, column).push(" = ").bind(value);
        }
    }
    match filter.standing {
        None => {}
        Some(Standing::Dead) => {
            conditions.and(statement, "dead = TRUE");
        }
        Some(Standing::Leased) => {
            conditions.and(statement, "dead = FALSE AND leased_until > ").bind(now);
        }
        Some(Standing::Pending) => {
            conditions.and(statement, "dead = FALSE AND attempts = 0 AND leased_until <= ").bind(now);
        }
        Some(Standing::Retrying) => {
            conditions.and(statement, "dead = FALSE AND attempts > 0 AND leased_until <= ").bind(now);
        }
    }
    if free {
        conditions.and(statement, "leased_until <= ").bind(now);
    }
    conditions
}

/// Settles messages with the same kind of outcome.
async fn each(tx: &mut Writing, begin: &'static str, sender: &str, ids: &[i64]) -> Result<u64, RecordError> {
    let mut count = 0;
    for some in ids.chunks(ROWS) {
        let mut statement = Statement::fixed(begin);
        statement.bind(sender).push(" AND dead = FALSE AND id IN (").list(some.iter().copied()).push(")");
        count += tx.execute(statement).await?;
    }
    Ok(count)
}

#[async_trait]
impl Outbox for SqlRecords {
    async fn put_messages(&self, messages: &[NewMessage], origin: Option<Origin<'_>>) -> Result<u64, RecordError> {
        if messages.is_empty() && origin.is_none() {
            return Ok(0);
        }
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let mut new = 0;
            for some in messages.chunks(ROWS) {
                let mut statement = Statement::fixed(
                    "INSERT INTO outbox (topic, dedup, destination, ordering, content_type, request, body, created, due) VALUES ",
                );
                statement.rows(some.iter().map(|message| -> [Value; 9] {
                    [
                        (&message.topic).into(),
                        (&message.dedup).into(),
                        (&message.destination).into(),
                        (&message.ordering).into(),
                        (&message.content_type).into(),
                        (&message.request).into(),
                        message.body.as_slice().into(),
                        message.created.into(),
                        message.due.into(),
                    ]
                }));
                statement.push(" ON CONFLICT (topic, dedup) DO NOTHING");
                new += tx.execute(statement).await?;
            }
            if let Some(origin) = origin {
                let text = "INSERT INTO outbox_origins (run, number, at) VALUES ($1, $2, $3) \
                            ON CONFLICT (run) DO UPDATE SET number = excluded.number, at = excluded.at";
                tx.execute(Statement::fixed(text).value(origin.run).value(origin.number).value(origin.at)).await?;
            }
            tx.commit().await?;
            Ok(new)
        })
        .await
    }

    async fn taken_over(&self, run: &str) -> Result<u64, RecordError> {
        let statement = Statement::fixed("SELECT number FROM outbox_origins WHERE run = $1").value(run);
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        rows.first_mut().map_or(Ok(0), Row::count)
    }

    async fn forget_origin(&self, run: &str, before: i64) -> Result<(), RecordError> {
        let statement = Statement::fixed("DELETE FROM outbox_origins WHERE run = $1 OR at < $2").value(run).value(before);
        self.within(self.engine.execute(statement)).await.map(|_| ())
    }

    async fn lease_messages(&self, wish: MessageLease<'_>) -> Result<Vec<OutboxMessage>, RecordError> {
        let mut rows = self
            .within(async {
                let mut tx = self.engine.begin().await?;
                if !self.engine.is_embedded() {
                    tx.fetch(Statement::fixed(LOCK)).await?;
                }
                let ids = lease::chosen(&mut tx, &wish).await?;
                if ids.is_empty() {
                    tx.commit().await?;
                    return Ok(Vec::new());
                }
                let mut statement = Statement::fixed("UPDATE outbox SET sender = ");
                statement.bind(wish.sender).push(", leased_until = ").bind(wish.until);
                statement.push(", attempts = attempts + 1 WHERE id IN (").list(ids).push(") RETURNING ").push(MESSAGE);
                let rows = tx.fetch(statement).await?;
                tx.commit().await?;
                Ok(rows)
            })
            .await?;
        let mut messages = rows.iter_mut().map(message).collect::<Result<Vec<_>, _>>()?;
        messages.sort_unstable_by_key(|message| message.id);
        Ok(messages)
    }

    async fn settle_messages(&self, sender: &str, settled: &[(i64, Settled)]) -> Result<u64, RecordError> {
        if settled.is_empty() {
            return Ok(0);
        }
        let of = |kind: &Settled| -> Vec<i64> { settled.iter().filter(|(_, settled)| settled == kind).map(|(id, _)| *id).collect() };
        let (sent, back) = (of(&Settled::Sent), of(&Settled::Back));
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let mut count = each(&mut tx, "DELETE FROM outbox WHERE sender = ", sender, &sent).await?;
            let undo = "UPDATE outbox SET sender = NULL, leased_until = 0, attempts = attempts - 1 WHERE sender = ";
            count += each(&mut tx, undo, sender, &back).await?;
            for (id, settled) in settled {
                let (dead, due, why) = match settled {
                    Settled::Sent | Settled::Back => continue,
                    Settled::Retry(due, why) => (false, *due, why),
                    Settled::Dead(at, why) => (true, *at, why),
                };
                let text = "UPDATE outbox SET dead = $1, due = $2, why = $3, sender = NULL, leased_until = 0 \
                            WHERE id = $4 AND sender = $5 AND dead = FALSE";
                count += tx.execute(Statement::fixed(text).value(dead).value(due).value(why).value(*id).value(sender)).await?;
            }
            tx.commit().await?;
            Ok(count)
        })
        .await
    }

    async fn release_messages(&self, sender: &str) -> Result<u64, RecordError> {
        let text = "UPDATE outbox SET sender = NULL, leased_until = 0, attempts = attempts - 1 WHERE sender = $1 AND dead = FALSE";
        self.within(self.engine.execute(Statement::fixed(text).value(sender))).await
    }

    async fn next_due(&self, topics: &[&str], after: i64) -> Result<Option<i64>, RecordError> {
        if topics.is_empty() {
            return Ok(None);
        }
        let mut statement = Statement::fixed("SELECT MIN(due) FROM outbox WHERE dead = FALSE AND due > ");
        statement.bind(after).push(" AND topic IN (").list(topics.iter().copied()).push(")");
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        rows.first_mut().map_or(Ok(None), Row::maybe_int)
    }

    async fn messages(&self, filter: &MessageFilter, now: i64, after: i64, limit: u32) -> Result<Vec<MessageRow>, RecordError> {
        let mut statement = Statement::fixed("SELECT ");
        statement.push(ROW).push(" FROM outbox");
        let mut conditions = filtered(&mut statement, filter, now, false);
        conditions.and(&mut statement, "id > ").bind(after);
        statement.push(" ORDER BY id LIMIT ").bind(limit.max(1));
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        rows.iter_mut().map(|found| row(found, now)).collect()
    }

    async fn retry_messages(&self, filter: &MessageFilter, now: i64) -> Result<u64, RecordError> {
        let mut statement = Statement::fixed("UPDATE outbox SET dead = FALSE, attempts = 0, why = '', due = ");
        statement.bind(now);
        filtered(&mut statement, filter, now, true);
        self.within(self.engine.execute(statement)).await
    }

    async fn bury_messages(&self, filter: &MessageFilter, now: i64, why: &str) -> Result<u64, RecordError> {
        let mut statement = Statement::fixed("UPDATE outbox SET dead = TRUE, due = ");
        statement.bind(now).push(", why = ").bind(why);
        let mut conditions = filtered(&mut statement, filter, now, true);
        conditions.and(&mut statement, "dead = FALSE");
        self.within(self.engine.execute(statement)).await
    }

    async fn drop_messages(&self, filter: &MessageFilter, now: i64) -> Result<u64, RecordError> {
        let mut statement = Statement::fixed("DELETE FROM outbox");
        filtered(&mut statement, filter, now, true);
        self.within(self.engine.execute(statement)).await
    }

    async fn drop_oldest(&self, now: i64, limit: u32) -> Result<Vec<MessageRow>, RecordError> {
        let mut statement =
            Statement::fixed("DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE dead = FALSE AND leased_until <= ");
        statement.bind(now).push(" ORDER BY id LIMIT ").bind(limit).push(") RETURNING ").push(ROW);
        let mut rows = self.within(self.engine.change(statement)).await?;
        rows.iter_mut().map(|found| row(found, now)).collect()
    }

    async fn drop_dead(&self, before: i64, limit: u32) -> Result<Vec<MessageRow>, RecordError> {
        // Builds before wrote no time when they gave one up.
        let mut statement = Statement::fixed(
            "DELETE FROM outbox WHERE id IN (SELECT id FROM outbox WHERE dead = TRUE AND CASE WHEN due > 0 THEN due ELSE created END < ",
        );
        statement.bind(before).push(" ORDER BY id LIMIT ").bind(limit).push(") RETURNING ").push(ROW);
        let mut rows = self.within(self.engine.change(statement)).await?;
        rows.iter_mut().map(|found| row(found, before)).collect()
    }

    async fn depths(&self) -> Result<Vec<Depth>, RecordError> {
        let text = "SELECT topic, CAST(SUM(CASE WHEN dead THEN 0 ELSE 1 END) AS BIGINT), CAST(SUM(CASE WHEN dead THEN 1 ELSE 0 END) AS BIGINT), \
                    MIN(CASE WHEN dead THEN NULL ELSE created END) FROM outbox GROUP BY topic ORDER BY topic";
        let mut rows = self.within(self.engine.fetch(Statement::fixed(text))).await?;
        let read = |row: &mut Row| Ok(Depth { topic: row.text()?, pending: row.count()?, dead: row.count()?, oldest: row.maybe_int()? });
        rows.iter_mut().map(read).collect()
    }
}
