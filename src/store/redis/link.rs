//! The connection to the server, reopened when it breaks.
//!
//! A call that finds no connection starts to open one and waits for it within its own timeout. While the server is known to
//! be away, calls fail at once instead of waiting, and one attempt at a time to connect runs in the background.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cluster_async::ClusterConnection;
use redis::{AsyncConnectionConfig, Client, Cmd, ErrorKind, FromRedisValue, RedisError, RedisResult, ScriptInvocation, ServerErrorKind};
use tokio::sync::watch;

use super::address::Target;
use super::decisions;
use crate::store::StateError;

/// Pause after a first failed attempt to connect; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_millis(500);
/// Number of commands that may wait to be written. Beyond it, calls wait.
const PIPELINE: usize = 1024;

/// The connection of one store.
pub(super) struct Link {
    target: Target,
    timeout: Duration,
    connect_timeout: Duration,
    slot: Mutex<Slot>,
}

#[derive(Clone)]
enum Connection {
    Server(MultiplexedConnection),
    Cluster(ClusterConnection),
}

enum Slot {
    /// Since when, and how long to wait before the next if this one is of no use either.
    Up {
        connection: Connection,
        since: Instant,
        pause: Duration,
        generation: u64,
    },
    Connecting {
        done: watch::Receiver<()>,
        generation: u64,
    },
    Down {
        until: Instant,
        pause: Duration,
        why: Cow<'static, str>,
        generation: u64,
    },
}

impl Slot {
    fn generation(&self) -> u64 {
        match self {
            Self::Up { generation, .. } | Self::Connecting { generation, .. } | Self::Down { generation, .. } => *generation,
        }
    }
}

impl Link {
    pub fn new(target: Target, timeout: Duration, connect_timeout: Duration) -> Arc<Self> {
        let slot = Slot::Down { until: Instant::now(), pause: MIN_PAUSE, why: "not yet connected".into(), generation: 0 };
        Arc::new(Self { target, timeout, connect_timeout, slot: Mutex::new(slot) })
    }

    /// Runs a script, by its digest if the server knows it.
    pub async fn run<T: FromRedisValue>(self: &Arc<Self>, call: &ScriptInvocation<'_>) -> Result<T, StateError> {
        self.within_time(Work::Script(call)).await
    }

    /// Runs a command.
    pub async fn ask<T: FromRedisValue>(self: &Arc<Self>, command: &Cmd) -> Result<T, StateError> {
        self.within_time(Work::Command(command)).await
    }

    async fn within_time<T: FromRedisValue>(self: &Arc<Self>, work: Work<'_>) -> Result<T, StateError> {
        let mut used = None;
        match tokio::time::timeout(self.timeout, self.attempt(work, &mut used)).await {
            Ok(result) => result,
            Err(_) => {
                // No answer may mean that the other end of the connection is gone: the next call opens a new one.
                if let Some(generation) = used {
                    self.forget(generation);
                }
                Err(StateError::Timeout(self.timeout))
            }
        }
    }

    async fn attempt<T: FromRedisValue>(self: &Arc<Self>, work: Work<'_>, used: &mut Option<u64>) -> Result<T, StateError> {
        let mut repeated = false;
        loop {
            let (mut connection, generation) = self.connection().await?;
            *used = Some(generation);
            let error = match work.run(&mut connection).await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            if lost(&error) {
                if error.is_io_error() {
                    self.forget(generation);
                } else {
                    self.give_up(generation, reason(&error));
                }
                // Once more on a new connection: mostly the old one had died while nobody used it. A decision taken
                // twice counts on the safe side, and reservations know their own.
                if !std::mem::replace(&mut repeated, true) {
                    continue;
                }
            }
            return Err(typed(&error));
        }
    }

    async fn connection(self: &Arc<Self>) -> Result<(Connection, u64), StateError> {
        loop {
            let mut done = {
                let mut slot = self.slot.lock();
                match &*slot {
                    Slot::Up { connection, generation, .. } => return Ok((connection.clone(), *generation)),
                    Slot::Connecting { done, .. } => done.clone(),
                    Slot::Down { until, why, .. } if Instant::now() < *until => return Err(StateError::Unavailable(why.clone())),
                    Slot::Down { pause, generation, .. } => {
                        let (announce, done) = watch::channel(());
                        let attempt = Attempt { link: Arc::clone(self), pause: *pause, generation: generation + 1, _announce: announce };
                        *slot = Slot::Connecting { done: done.clone(), generation: attempt.generation };
                        // Not awaited here: this call may time out before the connection is open.
                        tokio::spawn(attempt.run());
                        done
                    }
                }
            };
            // The sender is dropped when the attempt is over, whatever its outcome.
            let _ = done.changed().await;
        }
    }

    /// Gives up the connection of this generation if it is still the current one.
    fn forget(&self, generation: u64) {
        let mut slot = self.slot.lock();
        if slot.generation() == generation && matches!(*slot, Slot::Up { .. }) {
            *slot = Slot::Down { until: Instant::now(), pause: MIN_PAUSE, why: "the connection was lost".into(), generation };
        }
    }

    /// The same where the server answers and is of no use, as while it loads or as a replica: a call may find another server
    /// behind the address, but not every call anew.
    fn give_up(&self, generation: u64, why: Cow<'static, str>) {
        let mut slot = self.slot.lock();
        let (since, pause) = match &*slot {
            Slot::Up { since, pause, generation: current, .. } if *current == generation => (*since, *pause),
            _ => return,
        };
        let (wait, pause) = match since.elapsed() < MAX_PAUSE {
            true => (pause, (pause * 2).min(MAX_PAUSE)),
            false => (Duration::ZERO, MIN_PAUSE),
        };
        *slot = Slot::Down { until: Instant::now() + wait, pause, why, generation };
    }

    async fn connect(&self) -> RedisResult<Connection> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.connect_timeout))
            .set_response_timeout(None) // each call has its own
            .set_pipeline_buffer_size(PIPELINE);
        let mut server = match &self.target {
            Target::Single(client) => client.get_multiplexed_async_connection_with_config(&config).await?,
            Target::Sentinel(client) => client.lock().await.get_async_connection_with_config(&config).await?,
            Target::Cluster(client, _) => return client.get_async_connection().await.map(Connection::Cluster),
        };
        // Without this, each of the first calls to a server that does not know the scripts would send them.
        decisions::load(&mut server).await;
        Ok(Connection::Server(server))
    }

    pub fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(..))
    }

    pub fn connect_timeout(&self) -> Duration {
        self.connect_timeout
    }

    /// A client for the server to listen to. In a cluster every node receives what is published on any.
    pub async fn client(&self) -> RedisResult<Client> {
        match &self.target {
            Target::Single(client) => Ok(Client::clone(client)),
            Target::Sentinel(client) => client.lock().await.async_get_client().await,
            Target::Cluster(_, nodes) => {
                for node in nodes {
                    if let Ok(mut connection) = node.get_multiplexed_async_connection().await
                        && redis::cmd("PING").query_async::<()>(&mut connection).await.is_ok()
                    {
                        return Ok(node.clone());
                    }
                }
                Err((ErrorKind::ClusterConnectionNotFound, "no node answers").into())
            }
        }
    }
}

/// One attempt to connect. If it is dropped unfinished, as by a runtime that shuts down, the next call may try.
struct Attempt {
    link: Arc<Link>,
    pause: Duration,
    generation: u64,
    _announce: watch::Sender<()>,
}

impl Attempt {
    async fn run(self) {
        let why = match tokio::time::timeout(self.link.connect_timeout, self.link.connect()).await {
            Ok(Ok(connection)) => {
                let (since, pause) = (Instant::now(), self.pause);
                *self.link.slot.lock() = Slot::Up { connection, since, pause, generation: self.generation };
                return;
            }
            Ok(Err(error)) => reason(&error),
            Err(_) => "no connection in time".into(),
        };
        self.fail(why);
    }

    fn fail(&self, why: Cow<'static, str>) {
        let mut slot = self.link.slot.lock();
        if matches!(&*slot, Slot::Connecting { generation, .. } if *generation == self.generation) {
            let pause = (self.pause * 2).min(MAX_PAUSE);
            *slot = Slot::Down { until: Instant::now() + self.pause, pause, why, generation: self.generation };
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        self.fail("connecting was given up".into());
    }
}

/// What a call runs on the server.
#[derive(Clone, Copy)]
enum Work<'a> {
    Script(&'a ScriptInvocation<'a>),
    Command(&'a Cmd),
}

impl Work<'_> {
    async fn run<T: FromRedisValue>(self, connection: &mut Connection) -> RedisResult<T> {
        match (self, connection) {
            (Self::Script(call), Connection::Server(c)) => call.invoke_async(c).await,
            (Self::Script(call), Connection::Cluster(c)) => call.invoke_async(c).await,
            (Self::Command(command), Connection::Server(c)) => command.query_async(c).await,
            (Self::Command(command), Connection::Cluster(c)) => command.query_async(c).await,
        }
    }
}

/// Whether the connection is unusable after this error. A master that became a replica still answers, but is no use either.
fn lost(error: &RedisError) -> bool {
    error.is_unrecoverable_error()
        || error.is_io_error()
        || matches!(error.kind(), ErrorKind::Server(ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading))
}

fn typed(error: &RedisError) -> StateError {
    match error.kind() {
        ErrorKind::Io
        | ErrorKind::ClusterConnectionNotFound
        | ErrorKind::MasterNameNotFoundBySentinel
        | ErrorKind::NoValidReplicasFoundBySentinel => StateError::Unavailable(reason(error)),
        ErrorKind::Server(
            ServerErrorKind::ReadOnly
            | ServerErrorKind::MasterDown
            | ServerErrorKind::BusyLoading
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::TryAgain
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask,
        ) => StateError::Unavailable(reason(error)),
        ErrorKind::Server(ServerErrorKind::CrossSlot) => StateError::Invalid("the keys of one decision have different tags"),
        _ => StateError::Refused(reason(error)),
    }
}

/// The kind of an error and the server's error code. Details are left out: they may quote keys and arguments.
fn reason(error: &RedisError) -> Cow<'static, str> {
    match error.code() {
        Some(code) => format!("{} ({code})", error.category()).into(),
        None => error.category().to_owned().into(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that answers every command the same way, with what was read of it before, and whether it stays; and how
    /// many connections were made to it.
    pub async fn server(answer: impl Fn(&str) -> (String, bool) + Copy + Send + 'static) -> (Arc<Link>, Arc<AtomicUsize>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = Client::open(format!("redis://{}", listener.local_addr().unwrap())).unwrap();
        let made = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&made);
        tokio::spawn(async move {
            while let Ok((mut connection, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let (mut bytes, mut before) = (vec![0; 1 << 16], *b"\r\n");
                    while let Ok(n @ 1..) = connection.read(&mut bytes).await {
                        let (answer, stays) = answer(&String::from_utf8_lossy(&bytes[..n]));
                        let mut answers = String::new();
                        for byte in &bytes[..n] {
                            if *byte == b'*' && before == *b"\r\n" {
                                answers.push_str(&answer);
                            }
                            before = [before[1], *byte];
                        }
                        if connection.write_all(answers.as_bytes()).await.is_err() || !stays {
                            return;
                        }
                    }
                });
            }
        });
        let second = Duration::from_secs(1);
        (Link::new(Target::Single(Box::new(client)), second, second), made)
    }

    #[tokio::test]
    async fn a_server_that_answers_and_is_of_no_use_is_not_connected_to_by_every_call() {
        let (link, made) = server(|_| ("-READONLY You can't write against a read only replica.\r\n".to_owned(), true)).await;
        let began = Instant::now();
        let mut calls = 0;
        while began.elapsed() < Duration::from_millis(400) {
            let error = link.ask::<i64>(redis::cmd("PUBLISH").arg("a").arg("b")).await.unwrap_err();
            assert!(matches!(&error, StateError::Unavailable(why) if why.contains("READONLY")), "{error:?}");
            calls += 1;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let made = made.load(Ordering::Relaxed);
        assert!((2..10).contains(&made), "{made} connections for {calls} calls");
    }
}
