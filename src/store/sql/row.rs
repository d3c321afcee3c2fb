//! A row of either engine, read column by column.

use sqlx::postgres::PgRow;
use sqlx::sqlite::SqliteRow;
use sqlx::{ColumnIndex, Decode, Type};

use crate::store::records::RecordError;

/// A row, and the position of the next column. Columns are read in the order in which they were selected.
pub(super) struct Row {
    row: Either,
    next: usize,
}

enum Either {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

impl From<SqliteRow> for Row {
    fn from(row: SqliteRow) -> Self {
        Self { row: Either::Sqlite(row), next: 0 }
    }
}

impl From<PgRow> for Row {
    fn from(row: PgRow) -> Self {
        Self { row: Either::Postgres(row), next: 0 }
    }
}

fn get<'r, R: sqlx::Row, T>(row: &'r R, at: usize) -> Result<T, RecordError>
where
    usize: ColumnIndex<R>,
    T: Decode<'r, R::Database> + Type<R::Database>,
{
    row.try_get(at).map_err(|_| RecordError::Refused(format!("column {at} is not what was written").into()))
}

macro_rules! column {
    ($(#[$doc:meta])* $name:ident, $kind:ty) => {
        $(#[$doc])*
        pub fn $name(&mut self) -> Result<$kind, RecordError> {
            let at = self.next;
            self.next += 1;
            match &self.row {
                Either::Sqlite(row) => get(row, at),
                Either::Postgres(row) => get(row, at),
            }
        }
    };
}

impl Row {
    column!(int, i64);
    column!(maybe_int, Option<i64>);
    column!(text, String);
    column!(maybe_text, Option<String>);
    column!(bytes, Vec<u8>);
    column!(flag, bool);

    /// A count as `u64`.
    pub fn count(&mut self) -> Result<u64, RecordError> {
        Ok(u64::try_from(self.int()?).unwrap_or(0))
    }

    /// A count as `u32`.
    pub fn small(&mut self) -> Result<u32, RecordError> {
        Ok(u32::try_from(self.int()?).unwrap_or(u32::MAX))
    }
}
