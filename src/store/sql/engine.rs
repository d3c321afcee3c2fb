//! The two engines: pools, transactions, migrations, and the meaning of their errors.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Connection, Postgres, SqlSafeStr, Sqlite, Transaction};

use super::Options;
use super::row::Row;
use super::statement::{Statement, Value};
use crate::store::records::{Migrated, RecordError};

/// An engine with its connections.
#[derive(Debug, Clone)]
pub(super) enum Engine {
    /// Only one connection writes: SQLite allows one writer, and waiting for it in the pool is fairer than at SQLite's
    /// lock.
    Sqlite {
        reader: SqlitePool,
        writer: SqlitePool,
    },
    Postgres(PgPool),
}

/// A transaction. Dropped before its commit, it has no effect.
pub(super) enum Writing {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// Binds the values of a statement for one engine.
macro_rules! bound {
    ($statement:expr, $numbered:literal) => {{
        let (text, values) = $statement.parts($numbered);
        let mut query = sqlx::query(AssertSqlSafe(text));
        for value in values {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::Flag(value) => query.bind(value),
            };
        }
        query
    }};
}

impl Engine {
    pub fn sqlite(path: &Path, options: Options) -> Result<Self, RecordError> {
        let unusable = |_| RecordError::Unavailable("the file of the record store cannot be made".into());
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(unusable)?;
        }
        // SQLite would create it readable for all users.
        std::fs::OpenOptions::new().append(true).create(true).mode(0o600).open(path).map_err(unusable)?;
        let file = SqliteConnectOptions::new()
            .filename(path)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(options.timeout)
            // Rows arrive from a thread of their own: a large buffer makes the two threads wait for each other less often.
            .row_buffer_size(1024);
        let pool = |connections, file: SqliteConnectOptions| {
            SqlitePoolOptions::new().max_connections(connections).acquire_timeout(options.timeout).connect_lazy_with(file)
        };
        // The writer creates the journal, without which a reader that came first could not read.
        Ok(Self::Sqlite { reader: pool(options.connections.max(1), file.clone()), writer: pool(1, file) })
    }

    pub fn postgres(address: &str, options: Options) -> Result<Self, RecordError> {
        let server = Self::server(address)?;
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(1))
            .acquire_timeout(options.timeout)
            .max_lifetime(Duration::from_secs(30 * 60))
            .connect_lazy_with(server);
        Ok(Self::Postgres(pool))
    }

    /// Parses the address of a PostgreSQL server.
    pub fn server(address: &str) -> Result<PgConnectOptions, RecordError> {
        let form = RecordError::Invalid("an address is postgres://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE");
        if !address.starts_with("postgres://") && !address.starts_with("postgresql://") {
            return Err(form);
        }
        PgConnectOptions::from_str(address).map(|server| server.application_name("odock-edge")).map_err(|_| form)
    }

    /// The rows of a query that changes nothing.
    pub async fn fetch(&self, statement: Statement) -> Result<Vec<Row>, RecordError> {
        Ok(match self {
            Self::Sqlite { reader, .. } => rows(bound!(statement, false).fetch_all(reader).await)?,
            Self::Postgres(pool) => rows(bound!(statement, true).fetch_all(pool).await)?,
        })
    }

    /// Runs a statement that changes something. Returns how many rows it touched.
    pub async fn execute(&self, statement: Statement) -> Result<u64, RecordError> {
        match self {
            Self::Sqlite { writer, .. } => bound!(statement, false).execute(writer).await.map(|done| done.rows_affected()).map_err(failed),
            Self::Postgres(pool) => bound!(statement, true).execute(pool).await.map(|done| done.rows_affected()).map_err(failed),
        }
    }

    /// Runs a statement that changes something and returns rows.
    pub async fn change(&self, statement: Statement) -> Result<Vec<Row>, RecordError> {
        Ok(match self {
            Self::Sqlite { writer, .. } => rows(bound!(statement, false).fetch_all(writer).await)?,
            Self::Postgres(pool) => rows(bound!(statement, true).fetch_all(pool).await)?,
        })
    }

    /// Begins a transaction that writes.
    pub async fn begin(&self) -> Result<Writing, RecordError> {
        Ok(match self {
            // A deferred transaction asks for the lock only at its first write, and fails there at once if another process
            // holds it.
            Self::Sqlite { writer, .. } => Writing::Sqlite(writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?),
            Self::Postgres(pool) => Writing::Postgres(pool.begin().await.map_err(failed)?),
        })
    }

    pub fn is_embedded(&self) -> bool {
        matches!(self, Self::Sqlite { .. })
    }

    pub async fn migrate(&self) -> Result<Migrated, RecordError> {
        let migrations = |texts: [(&'static str, &'static str); 4]| -> Vec<Migration> {
            let migration = |(version, (name, text)): (i64, (&'static str, &'static str))| {
                Migration::new(version, name.into(), MigrationType::Simple, text.into_sql_str(), false)
            };
            (1..).zip(texts).map(migration).collect()
        };
        match self {
            Self::Sqlite { writer, .. } => {
                // Its own lock, since SQLite has none that spans reading the version and migrating.
                let mut connection = writer.acquire().await.map_err(failed)?;
                let migrator = Migrator::with_migrations(migrations([
                    ("records", include_str!("migrations/sqlite/0001_records.sql")),
                    ("outbox", include_str!("migrations/sqlite/0002_outbox.sql")),
                    ("usage", include_str!("migrations/sqlite/0003_usage.sql")),
                    ("outbox keys", include_str!("migrations/sqlite/0004_outbox_keys.sql")),
                ]));
                let mut locked = connection.begin_with("BEGIN IMMEDIATE").await.map_err(failed)?;
                let done = apply(migrator, &mut *locked).await?;
                locked.commit().await.map_err(failed)?;
                Ok(done)
            }
            Self::Postgres(pool) => {
                let mut connection = pool.acquire().await.map_err(failed)?;
                let migrator = Migrator::with_migrations(migrations([
                    ("records", include_str!("migrations/postgres/0001_records.sql")),
                    ("outbox", include_str!("migrations/postgres/0002_outbox.sql")),
                    ("usage", include_str!("migrations/postgres/0003_usage.sql")),
                    ("outbox keys", include_str!("migrations/postgres/0004_outbox_keys.sql")),
                ]));
                apply(migrator, &mut *connection).await
            }
        }
    }

    pub async fn close(&self) {
        match self {
            Self::Sqlite { reader, writer } => {
                reader.close().await;
                writer.close().await;
            }
            Self::Postgres(pool) => pool.close().await,
        }
    }
}

/// Applies missing migrations. A version that is not known here was written by a newer build, and is an error.
async fn apply<C>(migrator: Migrator, connection: &mut C) -> Result<Migrated, RecordError>
where
    C: Migrate,
{
    let table = "_sqlx_migrations";
    connection.lock().await.map_err(migration_failed)?;
    let outcome = async {
        connection.ensure_migrations_table(table).await.map_err(migration_failed)?;
        let before = connection.list_applied_migrations(table).await.map_err(migration_failed)?;
        let from = before.iter().map(|m| m.version).max().unwrap_or(0);
        let known = migrator.iter().map(|m| m.version).max().unwrap_or(0);
        if from > known {
            return Err(RecordError::Refused("it was written by a newer build".into()));
        }
        for migration in migrator.iter() {
            match before.iter().find(|applied| applied.version == migration.version) {
                None => {
                    connection.apply(table, migration).await.map_err(migration_failed)?;
                }
                Some(applied) if applied.checksum != migration.checksum => {
                    return Err(RecordError::Refused(format!("its migration {} is not ours", applied.version).into()));
                }
                Some(_) => {}
            }
        }
        Ok(Migrated { from, to: known })
    }
    .await;
    let unlocked = connection.unlock().await.map_err(migration_failed);
    outcome.and_then(|done| unlocked.map(|()| done))
}

impl Writing {
    pub async fn execute(&mut self, statement: Statement) -> Result<u64, RecordError> {
        match self {
            Self::Sqlite(tx) => bound!(statement, false).execute(&mut **tx).await.map(|done| done.rows_affected()).map_err(failed),
            Self::Postgres(tx) => bound!(statement, true).execute(&mut **tx).await.map(|done| done.rows_affected()).map_err(failed),
        }
    }

    pub async fn fetch(&mut self, statement: Statement) -> Result<Vec<Row>, RecordError> {
        Ok(match self {
            Self::Sqlite(tx) => rows(bound!(statement, false).fetch_all(&mut **tx).await)?,
            Self::Postgres(tx) => rows(bound!(statement, true).fetch_all(&mut **tx).await)?,
        })
    }

    pub async fn commit(self) -> Result<(), RecordError> {
        match self {
            Self::Sqlite(tx) => tx.commit().await.map_err(failed),
            Self::Postgres(tx) => tx.commit().await.map_err(failed),
        }
    }
}

fn rows<R: Into<Row>>(found: Result<Vec<R>, sqlx::Error>) -> Result<Vec<Row>, RecordError> {
    found.map(|rows| rows.into_iter().map(Into::into).collect()).map_err(failed)
}

/// The meaning of a driver's error. The server's texts are left out: they may quote values.
pub(super) fn failed(error: sqlx::Error) -> RecordError {
    match &error {
        sqlx::Error::Database(database) if database.is_unique_violation() => RecordError::Conflict("a row with the same identity"),
        sqlx::Error::Database(database) => {
            let code = database.code().unwrap_or_default();
            let gone = match database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>() {
                // Connection exceptions, shutdown, too many connections, read-only after a failover.
                Some(_) => ["08", "57P", "53", "25006"].iter().any(|class| code.starts_with(class)),
                // SQLITE_BUSY and SQLITE_LOCKED, with their extended codes.
                None => code.parse::<u32>().is_ok_and(|code| matches!(code & 0xff, 5 | 6)),
            };
            // Data that the column or PostgreSQL itself has no room for, and constraints.
            let value = ["22", "23", "54"].iter().any(|class| code.starts_with(class));
            let of_postgres = database.try_downcast_ref::<sqlx::postgres::PgDatabaseError>().is_some();
            let why = format!("code {code}").into();
            match gone {
                true => RecordError::Unavailable(why),
                false if value && of_postgres => RecordError::Value(why),
                false => RecordError::Refused(why),
            }
        }
        sqlx::Error::Io(error) => RecordError::Unavailable(error.kind().to_string().into()),
        sqlx::Error::Tls(_) => RecordError::Unavailable("TLS failed".into()),
        sqlx::Error::PoolTimedOut => RecordError::Unavailable("no connection in time".into()),
        sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => RecordError::Unavailable("closed".into()),
        sqlx::Error::Configuration(_) => RecordError::Invalid("the address of the record store"),
        _ => RecordError::Refused("an answer of another shape".into()),
    }
}

fn migration_failed(error: MigrateError) -> RecordError {
    match error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => failed(error),
        MigrateError::Dirty(version) => RecordError::Refused(format!("its migration {version} was interrupted").into()),
        _ => RecordError::Refused("its migrations cannot be read".into()),
    }
}
