//! Statements of plugins, on PostgreSQL only: an embedded store belongs to the process alone.

use async_trait::async_trait;
use futures::TryStreamExt;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Column, Postgres, Row, Transaction, TypeInfo, ValueRef};

use super::SqlRecords;
use super::engine::{Engine, failed};
use crate::store::records::{RecordError, SqlValue, Statements};

const ELSEWHERE: RecordError = RecordError::Invalid("the record store is not PostgreSQL");
/// Longest name of a schema in PostgreSQL.
const NAME: usize = 63;

/// A query with its values bound.
fn bound(text: &str, values: &[SqlValue]) -> Query<'static, Postgres, PgArguments> {
    let mut query = sqlx::query(AssertSqlSafe(text.to_owned()));
    for value in values {
        query = match value.clone() {
            SqlValue::Null => query.bind(None::<String>),
            SqlValue::Int(value) => query.bind(value),
            SqlValue::Float(value) => query.bind(value),
            SqlValue::Text(value) => query.bind(value),
            SqlValue::Bytes(value) => query.bind(value),
            SqlValue::Flag(value) => query.bind(value),
        };
    }
    query
}

fn read(row: &PgRow) -> Result<Vec<SqlValue>, RecordError> {
    let value = |at: usize| -> Result<SqlValue, RecordError> {
        if row.try_get_raw(at).map_err(failed)?.is_null() {
            return Ok(SqlValue::Null);
        }
        Ok(match row.column(at).type_info().name() {
            "BOOL" => SqlValue::Flag(row.try_get(at).map_err(failed)?),
            "INT2" => SqlValue::Int(row.try_get::<i16, _>(at).map_err(failed)?.into()),
            "INT4" => SqlValue::Int(row.try_get::<i32, _>(at).map_err(failed)?.into()),
            "INT8" => SqlValue::Int(row.try_get(at).map_err(failed)?),
            "FLOAT4" => SqlValue::Float(row.try_get::<f32, _>(at).map_err(failed)?.into()),
            "FLOAT8" => SqlValue::Float(row.try_get(at).map_err(failed)?),
            "TEXT" | "VARCHAR" | "CHAR" | "BPCHAR" | "NAME" => SqlValue::Text(row.try_get(at).map_err(failed)?),
            "BYTEA" => SqlValue::Bytes(row.try_get(at).map_err(failed)?),
            other => return Err(RecordError::Refused(format!("a column of type {other}; write CAST(… AS text)").into())),
        })
    };
    (0..row.len()).map(value).collect()
}

impl SqlRecords {
    /// A transaction in which names without a schema refer to `schema`.
    async fn within_schema(&self, schema: &str) -> Result<Transaction<'static, Postgres>, RecordError> {
        let Engine::Postgres(pool) = &self.engine else { return Err(ELSEWHERE) };
        let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
        if schema.is_empty() || schema.len() > NAME || !schema.bytes().all(plain) {
            return Err(RecordError::Invalid("a schema is named by up to 63 lowercase letters, digits and underscores"));
        }
        let new = !self.schemas.lock().contains(schema);
        if new {
            // If two processes create it at once, PostgreSQL may report a conflict to the second one.
            let made = sqlx::query(AssertSqlSafe(format!("CREATE SCHEMA IF NOT EXISTS \"{schema}\""))).execute(pool).await;
            match made.map_err(failed) {
                Ok(_) | Err(RecordError::Conflict(_)) => self.schemas.lock().insert(schema.to_owned()),
                Err(error) => return Err(error),
            };
        }
        let mut tx = pool.begin().await.map_err(failed)?;
        // Without a timeout, a statement that waits for a lock would keep its connection for good.
        let millis = self.timeout.as_millis();
        let settings = format!("SET LOCAL search_path TO \"{schema}\"; SET LOCAL statement_timeout TO {millis}");
        sqlx::raw_sql(AssertSqlSafe(settings)).execute(&mut *tx).await.map_err(failed)?;
        Ok(tx)
    }
}

#[async_trait]
impl Statements for SqlRecords {
    async fn execute(&self, schema: &str, text: &str, values: &[SqlValue]) -> Result<u64, RecordError> {
        self.within(async {
            let mut tx = self.within_schema(schema).await?;
            let done = bound(text, values).execute(&mut *tx).await.map_err(failed)?;
            tx.commit().await.map_err(failed)?;
            Ok(done.rows_affected())
        })
        .await
    }

    async fn query(&self, schema: &str, text: &str, values: &[SqlValue], limit: usize) -> Result<Vec<Vec<SqlValue>>, RecordError> {
        self.within(async {
            let mut tx = self.within_schema(schema).await?;
            let mut found = Vec::new();
            let mut rows = bound(text, values).fetch(&mut *tx);
            while let Some(row) = rows.try_next().await.map_err(failed)? {
                if found.len() >= limit {
                    return Err(RecordError::Refused("more rows than were asked for".into()));
                }
                found.push(read(&row)?);
            }
            drop(rows);
            tx.commit().await.map_err(failed)?;
            Ok(found)
        })
        .await
    }
}
