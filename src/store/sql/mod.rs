//! Records in SQL: a SQLite file in this process, or PostgreSQL for a fleet.
//!
//! Statements are written once for both; what differs (pools, how a transaction begins, how a sender takes its messages)
//! is in [`engine`]. Migrations are files beside this one, applied in order by [`RecordStore::migrate`].

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

/// How the engine is used.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Connections at most. SQLite reads over all of them and writes over one.
    pub connections: u32,
    /// How long a call may take, with waiting for a connection.
    pub timeout: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { connections: 8, timeout: Duration::from_secs(5) }
    }
}

/// Records in a SQL engine.
#[derive(Debug, Clone)]
pub struct SqlRecords {
    engine: Engine,
    timeout: Duration,
    /// Schemas of others that are there.
    schemas: Arc<Mutex<HashSet<String>>>,
}

impl SqlRecords {
    /// The embedded store in this file; file and folders are made if there are none, readable by their owner only.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn embedded(path: &Path, options: Options) -> Result<Self, RecordError> {
        Ok(Self { engine: Engine::sqlite(path, options)?, timeout: options.timeout, schemas: Arc::default() })
    }

    /// The server at `postgres://[user[:password]@]host[:port]/database[?sslmode=…]`. It is connected to with the first
    /// call; a server that is away is no error here.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] for an address of another form.
    pub fn postgres(address: &str, options: Options) -> Result<Self, RecordError> {
        Ok(Self { engine: Engine::postgres(address, options)?, timeout: options.timeout, schemas: Arc::default() })
    }

    /// Whether an address has the form of a PostgreSQL server's; nobody is asked.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] when it has not.
    pub fn names_a_server(address: &str) -> Result<(), RecordError> {
        Engine::server(address).map(|_| ())
    }

    /// Closes all connections after what is under way. An embedded store is one file without a journal beside it then.
    pub async fn close(&self) {
        self.engine.close().await;
    }

    /// Runs a call for as long as a call may take.
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
        // Two processes that make one file at once meet where SQLite does not wait for a lock.
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
