//! Records in SQL: a SQLite file in this process, or PostgreSQL for a fleet.
//!
//! Statements are written once for both; the differences (pools, how a transaction begins, how a sender takes its messages)
//! are in [`engine`]. Migrations are files beside this one, applied in order by [`RecordStore::migrate`].

mod blocks;
mod engine;
mod journal;
mod keys;
mod lease;
mod outbox;
mod principals;
mod raw;
mod row;
mod statement;
mod usage;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::records::{Migrated, RecordError, RecordStore};
use engine::Engine;
use statement::Statement;

/// Connections and timeout of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Most connections. SQLite reads over all of them and writes over one more.
    pub connections: u32,
    /// Timeout of one call, including the wait for a connection.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: 8, timeout: Duration::from_secs(5) }
    }
}

/// The record store in a SQL engine.
#[derive(Debug, Clone)]
pub struct SqlRecords {
    engine: Engine,
    timeout: Duration,
    /// Schemas of plugins that are known to exist.
    schemas: Arc<Mutex<HashSet<String>>>,
}

impl SqlRecords {
    /// The embedded store in this file. File and folders are created if missing, readable by their owner only.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn embedded(path: &Path, options: Options) -> Result<Self, RecordError> {
        Ok(Self { engine: Engine::sqlite(path, options)?, timeout: options.timeout, schemas: Arc::default() })
    }

    /// The server at `postgres://[user[:password]@]host[:port]/database[?sslmode=…]`. It is connected to with the first
    /// call, so a server that is away is not an error here.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] for an address of another form.
    pub fn postgres(address: &str, options: Options) -> Result<Self, RecordError> {
        Ok(Self { engine: Engine::postgres(address, options)?, timeout: options.timeout, schemas: Arc::default() })
    }

    /// Checks that an address has the form of a PostgreSQL address, without connecting.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] when it has not.
    pub fn names_a_server(address: &str) -> Result<(), RecordError> {
        Engine::server(address).map(|_| ())
    }

    /// Closes all connections once their work is done. Afterwards an embedded store is a single file, without a journal
    /// beside it.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// Runs a call under the timeout.
    async fn within<T>(&self, call: impl Future<Output = Result<T, RecordError>>) -> Result<T, RecordError> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(result) => result,
            Err(_) => Err(RecordError::Unavailable("no answer in time".into())),
        }
    }
}

#[async_trait]
impl RecordStore for SqlRecords {
    async fn migrate(&self) -> Result<Migrated, RecordError> {
        // Two processes that create the same file at once can collide at a lock that SQLite does not wait for.
        let deadline = tokio::time::Instant::now() + self.timeout;
        loop {
            match self.engine.migrate().await {
                Err(RecordError::Unavailable(_)) if self.engine.is_embedded() && tokio::time::Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                Ok(done) if self.engine.is_embedded() => return self.pack_rows().await.map(|()| done),
                done => return done,
            }
        }
    }

    async fn ping(&self) -> Result<(), RecordError> {
        self.within(async { self.engine.fetch(Statement::fixed("SELECT 1")).await.map(|_| ()) }).await
    }
}
