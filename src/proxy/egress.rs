//! Outgoing HTTP for plugins, over Pingora's own connector with its TLS and connection pool. Which hosts may be called, and at
//! which address, is decided in `plugin::network`; nothing is resolved here.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
use pingora::{ErrorType, RetryType};
use pingora_http::RequestHeader;

use super::outlet;
use crate::plugin::host::Outbound;
use crate::plugin::outlet::{Mail, Place, Relay, Transmission};
use crate::plugin::{Egress, HostError, HttpResponse};

/// Sends plugins' requests over Pingora's client pool.
pub struct PingoraEgress {
    connector: Connector,
}

impl PingoraEgress {
    /// Creates a connection pool of its own, apart from the one that carries callers' requests.
    pub fn new() -> Self {
        Self { connector: Connector::new(None) }
    }

    /// One call over a connection to `peer`, which lies ready for `home` afterwards.
    async fn once(&self, peer: &HttpPeer, home: &HttpPeer, request: &Outbound) -> Result<HttpResponse, Failed> {
        let unreachable = |_| Failed::from(HostError::Unreachable);
        let (mut session, reused) = self.connector.get_http_session(peer).await.map_err(unreachable)?;
        session.set_read_timeout(Some(request.timeout));
        session.set_write_timeout(Some(request.timeout));
        let answer = exchange(&mut session, request).await.map_err(|failed| Failed { stale: failed.stale && reused, ..failed })?;
        self.connector.release_http_session(session, home, home.options.idle_timeout).await;
        Ok(answer)
    }
}

impl Default for PingoraEgress {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Egress for PingoraEgress {
    async fn send(&self, address: SocketAddr, tls_host: Option<&str>, request: Outbound) -> Result<HttpResponse, HostError> {
        let mut peer = HttpPeer::new(address, tls_host.is_some(), tls_host.unwrap_or_default().to_owned());
        peer.options.connection_timeout = Some(request.timeout);
        peer.options.total_connection_timeout = Some(request.timeout);
        peer.options.read_timeout = Some(request.timeout);
        peer.options.write_timeout = Some(request.timeout);
        match self.once(&peer, &peer, &request).await {
            Err(Failed { stale: true, .. }) => {
                // In a group that nothing is released to, a connection is always a new one.
                let mut new = peer.clone();
                new.group_key = 1;
                Ok(self.once(&new, &peer, &request).await?)
            }
            done => Ok(done?),
        }
    }

    async fn transmit(&self, place: &Place, transmission: &Transmission) -> Result<(), HostError> {
        outlet::transmit(place, transmission).await
    }

    async fn mail(&self, place: &Place, relay: &Relay, mail: &Mail) -> Result<Option<String>, HostError> {
        outlet::mail(place, relay, mail).await
    }
}

/// Why there is no answer.
struct Failed {
    error: HostError,
    /// The connection ended before anything of an answer came: if it had lain idle, the other end had closed it by then.
    stale: bool,
}

impl From<HostError> for Failed {
    fn from(error: HostError) -> Self {
        Self { error, stale: false }
    }
}

impl From<Failed> for HostError {
    fn from(failed: Failed) -> Self {
        failed.error
    }
}

async fn exchange(session: &mut HttpSession, request: &Outbound) -> Result<HttpResponse, Failed> {
    let broken = |what: &'static str| {
        move |error: Box<pingora::Error>| {
            let ended = matches!(error.retry, RetryType::ReusedOnly) || *error.etype() == ErrorType::WriteError;
            Failed { error: HostError::Broken(what), stale: ended }
        }
    };
    let mut head = RequestHeader::build(request.method.clone(), request.path_and_query.as_bytes(), Some(request.headers.len() + 2))
        .map_err(|_| HostError::BadUrl("path"))?;
    for (name, value) in &request.headers {
        head.append_header(name.clone(), value.clone()).map_err(|_| HostError::BadHeader(name.to_string()))?;
    }
    head.insert_header(http::header::HOST, request.authority.as_str()).map_err(|_| HostError::BadUrl("host"))?;
    head.insert_header(http::header::CONTENT_LENGTH, request.body.len()).map_err(|_| HostError::BadHeader("content-length".to_owned()))?;
    session.write_request_header(Box::new(head)).await.map_err(broken("head"))?;
    if !request.body.is_empty() {
        session.write_request_body(request.body.clone(), true).await.map_err(broken("body"))?;
    }
    session.finish_request_body().await.map_err(broken("body"))?;
    session.read_response_header().await.map_err(broken("answer"))?;
    let Some(head) = session.response_header() else { return Err(HostError::Broken("answer").into()) };
    let (status, headers) = (head.status.as_u16(), head.headers.clone());
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await.map_err(|_| HostError::Broken("answer body"))? {
        if body.len() + chunk.len() > request.max_response {
            return Err(HostError::TooLarge.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpResponse { status, headers, body: Bytes::from(body) })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    fn post(body: &str) -> Outbound {
        Outbound {
            method: http::Method::POST,
            authority: "service".into(),
            path_and_query: "/".into(),
            headers: http::HeaderMap::new(),
            body: Bytes::copy_from_slice(body.as_bytes()),
            timeout: Duration::from_secs(5),
            max_response: 1024,
        }
    }

    /// A service that says nothing more on a connection that has lain idle: it ends it with the request that comes too late.
    #[tokio::test]
    async fn a_connection_that_the_other_end_gave_up_is_no_failure() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let served = tokio::spawn(async move {
            let mut seen = Vec::new();
            for _ in 0..3 {
                let (mut connection, _) = listener.accept().await.unwrap();
                let mut bytes = [0; 1024];
                let n = connection.read(&mut bytes).await.unwrap();
                seen.push(bytes[..n].ends_with(b"hello"));
                if seen.len() < 3 {
                    connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                    let _ = connection.read(&mut bytes).await;
                }
            }
            seen
        });
        let egress = PingoraEgress::new();
        for _ in 0..2 {
            assert_eq!(egress.send(address, None, post("hello")).await.unwrap().body, "ok");
        }
        // On the second connection the answer to this call is its end, and so it is on the new one.
        assert!(matches!(egress.send(address, None, post("hello")).await, Err(HostError::Broken(_))));
        assert_eq!(served.await.unwrap(), [true; 3]);
    }
}
