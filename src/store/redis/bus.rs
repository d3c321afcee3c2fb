//! The bus over Redis Pub/Sub: one connection that listens, opened for the first listener and reopened whenever it is lost.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::StreamExt;
use parking_lot::Mutex;
use redis::RedisResult;
use redis::aio::{PubSubSink, PubSubStream};
use tokio::sync::broadcast;

use super::RedisState;
use super::link::Link;
use crate::store::bus::{InvalidationBus, Notice, Subscription, WAITING};
use crate::store::{Reach, StateError};

const CHANNEL: &str = "odock:cache-invalidation";
/// How often a quiet connection is pinged, and how long the answer may take.
const HEARTBEAT: Duration = Duration::from_secs(1);
/// Between two connections, of which the first did not last; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(20);
const MAX_PAUSE: Duration = Duration::from_secs(1);

/// The listeners of this process. One task serves all of them, and ends with the last one.
pub(super) struct Hub {
    notices: broadcast::Sender<Notice>,
    listening: Mutex<bool>,
}

impl Hub {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { notices: broadcast::channel(WAITING).0, listening: Mutex::new(false) })
    }

    /// Whether the last listener is gone. If so, notes that the task ends: the next listener starts another.
    fn deserted(&self) -> bool {
        let mut listening = self.listening.lock();
        *listening = self.notices.receiver_count() > 0;
        !*listening
    }
}

#[async_trait]
impl InvalidationBus for RedisState {
    async fn publish(&self, message: &str) -> Result<(), StateError> {
        self.link.ask::<i64>(redis::cmd("PUBLISH").arg(CHANNEL).arg(message)).await.map(|_| ())
    }

    fn subscribe(&self) -> Subscription {
        let mut listening = self.hub.listening.lock();
        let subscription = Subscription::new(self.hub.notices.subscribe());
        if !std::mem::replace(&mut *listening, true) {
            tokio::spawn(listen(Arc::clone(&self.link), Guard(Arc::clone(&self.hub))));
        }
        subscription
    }
}

#[async_trait]
impl Reach for RedisState {
    async fn reach(&self) -> Result<(), StateError> {
        self.ping().await
    }
}

/// Notes that the task no longer runs, even when its runtime drops it.
struct Guard(Arc<Hub>);

impl Drop for Guard {
    fn drop(&mut self) {
        *self.0.listening.lock() = false;
    }
}

async fn listen(link: Arc<Link>, hub: Guard) {
    let mut pause = MIN_PAUSE;
    while !hub.0.deserted() {
        if let Ok(Ok((sink, stream))) = tokio::time::timeout(link.connect_timeout(), connect(&link)).await {
            let _ = hub.0.notices.send(Notice::Gap);
            let began = Instant::now();
            forward(&hub.0, sink, stream).await;
            // One that breaks at once is no better than none.
            if began.elapsed() >= MAX_PAUSE {
                pause = MIN_PAUSE;
                continue;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn connect(link: &Link) -> RedisResult<(PubSubSink, PubSubStream)> {
    let (mut sink, stream) = link.client().await?.get_async_pubsub().await?.split();
    sink.subscribe(CHANNEL).await?;
    Ok((sink, stream))
}

/// Passes messages on to the listeners until the connection is lost or no listener is left.
async fn forward(hub: &Hub, mut sink: PubSubSink, mut stream: PubSubStream) {
    let mut heartbeat = tokio::time::interval(HEARTBEAT);
    loop {
        tokio::select! {
            message = stream.next() => {
                let Some(message) = message else { return };
                let notice = match message.get_payload::<String>() {
                    Ok(text) => Notice::Message(text.into()),
                    // Not a message of the gateway's. Listeners cannot read it, so they are told to read everything anew.
                    Err(_) => Notice::Gap,
                };
                let _ = hub.notices.send(notice);
            }
            _ = heartbeat.tick() => {
                let alive = tokio::time::timeout(HEARTBEAT, sink.ping::<redis::Value>()).await;
                if !matches!(alive, Ok(Ok(_))) || hub.notices.receiver_count() == 0 {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::link::tests::server;
    use super::*;

    #[tokio::test]
    async fn a_connection_that_breaks_at_once_is_not_made_again_without_a_pause() {
        let (link, made) = server(|text| {
            let subscribed = format!("*3\r\n$9\r\nsubscribe\r\n${}\r\n{CHANNEL}\r\n:1\r\n", CHANNEL.len());
            if text.contains("SUBSCRIBE") { (subscribed, false) } else { ("+OK\r\n".to_owned(), true) }
        })
        .await;
        let hub = Hub::new();
        let mut notices = hub.notices.subscribe();
        let listening = tokio::spawn(listen(link, Guard(Arc::clone(&hub))));
        assert!(matches!(notices.recv().await, Ok(Notice::Gap)), "it was subscribed");
        tokio::time::sleep(Duration::from_millis(400)).await;
        listening.abort();
        let made = made.load(std::sync::atomic::Ordering::Relaxed);
        assert!((2..8).contains(&made), "{made} connections in 400 ms");
    }
}
