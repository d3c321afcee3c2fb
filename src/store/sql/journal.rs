//! The journal of reservations.

use async_trait::async_trait;

use super::SqlRecords;
use super::row::Row;
use super::statement::{Statement, Value};
use crate::store::LeaseId;
use crate::store::records::{Journal, JournalEntry, RecordError};

const ROWS: usize = 500;

fn read(row: &mut Row) -> Result<JournalEntry, RecordError> {
    let lease = u128::from_str_radix(&row.text()?, 16).map_err(|_| RecordError::Refused("a lease is not what was written".into()))?;
    Ok(JournalEntry { lease: LeaseId(lease), replica: row.text()?, opened: row.int()?, expires: row.int()?, body: row.text()? })
}

#[async_trait]
impl Journal for SqlRecords {
    async fn open_entries(&self, entries: &[JournalEntry]) -> Result<(), RecordError> {
        if entries.is_empty() {
            return Ok(());
        }
        self.within(async {
            let mut tx = self.engine.begin().await?;
            for some in entries.chunks(ROWS) {
                let mut statement = Statement::fixed("INSERT INTO journal (lease, replica, opened, expires, body) VALUES ");
                statement.rows(some.iter().map(|entry| -> [Value; 5] {
                    [
                        entry.lease.to_string().into(),
                        (&entry.replica).into(),
                        entry.opened.into(),
                        entry.expires.into(),
                        (&entry.body).into(),
                    ]
                }));
                statement.push(" ON CONFLICT (lease) DO UPDATE SET expires = excluded.expires");
                tx.execute(statement).await?;
            }
            tx.commit().await
        })
        .await
    }

    async fn close_entries(&self, leases: &[LeaseId]) -> Result<(), RecordError> {
        self.within(async {
            for some in leases.chunks(ROWS) {
                let mut statement = Statement::fixed("DELETE FROM journal WHERE lease IN (");
                statement.list(some.iter().map(ToString::to_string)).push(")");
                self.engine.execute(statement).await?;
            }
            Ok(())
        })
        .await
    }

    async fn abandoned(&self, before: i64, replica: Option<&str>, limit: u32) -> Result<Vec<JournalEntry>, RecordError> {
        let mut statement = Statement::fixed("SELECT lease, replica, opened, expires, body FROM journal WHERE expires < ");
        statement.bind(before);
        if let Some(replica) = replica {
            statement.push(" OR replica = ").bind(replica);
        }
        statement.push(" ORDER BY opened, lease LIMIT ").bind(limit.max(1));
        let mut rows = self.within(self.engine.fetch(statement)).await?;
        rows.iter_mut().map(read).collect()
    }
}
