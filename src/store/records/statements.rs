//! Statements that a plugin with the `postgres` scope may run on the server that keeps the records.

use async_trait::async_trait;

use super::RecordError;

/// A parameter or a result value of a statement.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    /// `NULL`. As a parameter it has the type `text`: for another type, write `CAST($1 AS bigint)`.
    Null,
    /// `bigint`; smaller integers are converted to it.
    Int(i64),
    /// `double precision`; `real` is converted to it.
    Float(f64),
    /// `text`; `varchar`, `char` and `name` are converted to it. For other types write `CAST(column AS text)`, `CAST($1 AS
    /// jsonb)`.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `boolean`.
    Flag(bool),
}

/// Runs single statements, each in a transaction of its own.
#[async_trait]
pub trait Statements: Send + Sync + 'static {
    /// Runs a statement with the parameters `$1`, `$2`, …. Returns how many rows it touched. Names without a schema refer
    /// to `schema`, which is created by the first call.
    ///
    /// # Errors
    /// When the store does not answer; [`RecordError::Refused`] for a statement the server does not take,
    /// [`RecordError::Value`] for a value, and [`RecordError::Conflict`] for a row that is there already.
    async fn execute(&self, schema: &str, text: &str, values: &[SqlValue]) -> Result<u64, RecordError>;

    /// Runs a statement that returns rows, at most `limit` of them; otherwise as [`Self::execute`].
    ///
    /// # Errors
    /// As [`Self::execute`]; [`RecordError::Refused`] for more rows than `limit`, and for columns of a type that
    /// [`SqlValue`] lacks.
    async fn query(&self, schema: &str, text: &str, values: &[SqlValue], limit: usize) -> Result<Vec<Vec<SqlValue>>, RecordError>;
}
