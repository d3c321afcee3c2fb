//! Statements of others: what a plugin with the `postgres` scope may run on the server that keeps the records.

use async_trait::async_trait;

use super::RecordError;

/// A value that goes into a statement or comes out of it.
#[derive(Debug, Clone, PartialEq)]
pub enum SqlValue {
    /// `NULL`. As a parameter it is one of type `text`: where another type is wanted, write `CAST($1 AS bigint)`.
    Null,
    /// `bigint`; smaller integers come out as it.
    Int(i64),
    /// `double precision`; `real` comes out as it.
    Float(f64),
    /// `text`; `varchar`, `char` and `name` come out as it. Other types: `CAST(column AS text)`, `CAST($1 AS jsonb)`.
    Text(String),
    /// `bytea`.
    Bytes(Vec<u8>),
    /// `boolean`.
    Flag(bool),
}

/// Runs single statements, each in a transaction of its own.
#[async_trait]
pub trait Statements: Send + Sync + 'static {
    /// Runs a statement whose parameters are `$1`, `$2`, … and says how many rows it touched. Names without a schema are
    /// those of `schema`, which is made with the first call.
    ///
    /// # Errors
    /// When the store does not answer; [`RecordError::Refused`] for a statement the server does not take,
    /// [`RecordError::Value`] for a value, and [`RecordError::Conflict`] for a row that is there already.
    async fn execute(&self, schema: &str, text: &str, values: &[SqlValue]) -> Result<u64, RecordError>;

    /// The same for one that returns rows, at most `limit` of them.
    ///
    /// # Errors
    /// As [`Self::execute`]; [`RecordError::Refused`] for more rows, and for columns of a type that [`SqlValue`] has not.
    async fn query(&self, schema: &str, text: &str, values: &[SqlValue], limit: usize) -> Result<Vec<Vec<SqlValue>>, RecordError>;
}
