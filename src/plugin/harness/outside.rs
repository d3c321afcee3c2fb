//! The network of a case.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use parking_lot::Mutex;

use super::{Reply, bytes, head};
use crate::plugin::host::{Egress, HostError, HttpResponse, Outbound, Resolver};

/// External systems: answers with the replies of the case, and records the calls.
pub(super) struct Outside {
    replies: Mutex<VecDeque<Reply>>,
    sent: Mutex<Vec<Sent>>,
}

/// A call: its URL, headers and body.
pub(super) type Sent = (String, HeaderMap, Bytes);

impl Outside {
    pub(super) fn new(replies: &[Reply]) -> Self {
        Self { replies: Mutex::new(replies.iter().cloned().collect()), sent: Mutex::default() }
    }

    pub(super) fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut *self.sent.lock())
    }
}

#[async_trait]
impl Egress for Outside {
    async fn send(&self, _: SocketAddr, tls: Option<&str>, out: Outbound) -> Result<HttpResponse, HostError> {
        let scheme = if tls.is_some() { "https" } else { "http" };
        self.sent.lock().push((format!("{scheme}://{}{}", out.authority, out.path_and_query), out.headers, out.body));
        let reply = self.replies.lock().pop_front().filter(|reply| !reply.unreachable);
        let reply = reply.ok_or(HostError::Unreachable)?;
        tokio::time::sleep(Duration::from_millis(reply.after_ms)).await;
        let headers = head(&reply.headers).map_err(|_| HostError::Broken("the case's headers"))?;
        Ok(HttpResponse { status: reply.status, headers, body: bytes(&reply.body) })
    }
}

/// A resolver that resolves every name to one public address.
pub(super) struct Somewhere;

#[async_trait]
impl Resolver for Somewhere {
    async fn resolve(&self, _: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::from(([8, 8, 8, 8], port))])
    }
}
