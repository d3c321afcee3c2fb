//! The outbox.

use async_trait::async_trait;

use super::SqlRecords;
use super::row::Row;
use super::statement::{Statement, Value};
use crate::store::records::{DeadMessage, Depth, NewMessage, Outbox, OutboxMessage, RecordError};

const ROWS: usize = 500;

fn read(row: &mut Row) -> Result<OutboxMessage, RecordError> {
    Ok(OutboxMessage { id: row.int()?, topic: row.text()?, dedup: row.text()?, body: row.bytes()?, attempt: row.small()? })
}

impl SqlRecords {
    /// Changes a message that this sender still has.
    async fn owned(&self, statement: Statement) -> Result<bool, RecordError> {
        Ok(self.within(self.engine.execute(statement)).await? > 0)
    }
}

#[async_trait]
impl Outbox for SqlRecords {
    async fn put_messages(&self, messages: &[NewMessage]) -> Result<u64, RecordError> {
        if messages.is_empty() {
            return Ok(0);
        }
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let mut new = 0;
            for some in messages.chunks(ROWS) {
                let mut statement = Statement::fixed("INSERT INTO outbox (topic, dedup, body, due) VALUES ");
                statement.rows(some.iter().map(|message| -> [Value; 4] {
                    [(&message.topic).into(), (&message.dedup).into(), message.body.as_slice().into(), message.due.into()]
                }));
                statement.push(" ON CONFLICT (topic, dedup) DO NOTHING");
                new += tx.execute(statement).await?;
            }
            tx.commit().await?;
            Ok(new)
        })
        .await
    }

    async fn lease_messages(&self, topic: &str, sender: &str, now: i64, until: i64, limit: u32) -> Result<Vec<OutboxMessage>, RecordError> {
        let statement = self.engine.choose(
            "UPDATE outbox SET sender = $1, leased_until = $2, attempts = attempts + 1 WHERE id IN (SELECT id FROM outbox \
             WHERE topic = $3 AND NOT dead AND due <= $4 AND leased_until <= $4 ORDER BY id LIMIT $5) \
             RETURNING id, topic, dedup, body, attempts",
            "UPDATE outbox SET sender = $1, leased_until = $2, attempts = attempts + 1 WHERE id IN (SELECT id FROM outbox \
             WHERE topic = $3 AND NOT dead AND due <= $4 AND leased_until <= $4 ORDER BY id LIMIT $5 FOR UPDATE SKIP LOCKED) \
             RETURNING id, topic, dedup, body, attempts",
        );
        let statement = statement.value(sender).value(until).value(topic).value(now).value(limit.max(1));
        let mut rows = self.within(self.engine.change(statement)).await?;
        let mut messages = rows.iter_mut().map(read).collect::<Result<Vec<_>, _>>()?;
        messages.sort_unstable_by_key(|message| message.id);
        Ok(messages)
    }

    async fn acknowledge(&self, id: i64, sender: &str) -> Result<bool, RecordError> {
        self.owned(Statement::fixed("DELETE FROM outbox WHERE id = $1 AND sender = $2 AND NOT dead").value(id).value(sender)).await
    }

    async fn retry_message(&self, id: i64, sender: &str, due: i64, why: &str) -> Result<bool, RecordError> {
        let text = "UPDATE outbox SET due = $1, why = $2, sender = NULL, leased_until = 0 WHERE id = $3 AND sender = $4 AND NOT dead";
        self.owned(Statement::fixed(text).value(due).value(why).value(id).value(sender)).await
    }

    async fn bury_message(&self, id: i64, sender: &str, why: &str) -> Result<bool, RecordError> {
        let text = "UPDATE outbox SET dead = TRUE, why = $1, sender = NULL, leased_until = 0 WHERE id = $2 AND sender = $3 AND NOT dead";
        self.owned(Statement::fixed(text).value(why).value(id).value(sender)).await
    }

    async fn dead_messages(&self, topic: &str, after: i64, limit: u32) -> Result<Vec<DeadMessage>, RecordError> {
        let text = "SELECT id, topic, dedup, body, attempts, why FROM outbox WHERE topic = $1 AND dead AND id > $2 ORDER BY id LIMIT $3";
        let mut rows = self.within(self.engine.fetch(Statement::fixed(text).value(topic).value(after).value(limit.max(1)))).await?;
        rows.iter_mut().map(|row| Ok(DeadMessage { message: read(row)?, why: row.text()? })).collect()
    }

    async fn revive_message(&self, id: i64, due: i64) -> Result<bool, RecordError> {
        let text = "UPDATE outbox SET dead = FALSE, attempts = 0, due = $1, why = '' WHERE id = $2 AND dead";
        self.owned(Statement::fixed(text).value(due).value(id)).await
    }

    async fn depth(&self, topic: &str) -> Result<Depth, RecordError> {
        let text = "SELECT CAST(COALESCE(SUM(CASE WHEN dead THEN 0 ELSE 1 END), 0) AS BIGINT), \
                    CAST(COALESCE(SUM(CASE WHEN dead THEN 1 ELSE 0 END), 0) AS BIGINT) FROM outbox WHERE topic = $1";
        let mut rows = self.within(self.engine.fetch(Statement::fixed(text).value(topic))).await?;
        let Some(row) = rows.first_mut() else { return Ok(Depth::default()) };
        Ok(Depth { pending: row.count()?, dead: row.count()? })
    }
}
