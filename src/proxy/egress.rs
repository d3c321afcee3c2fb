//! The way out for plugins: Pingora's own connector, so that outgoing calls share its TLS, its pools and its pinned
//! addresses. Who may be called is decided in `plugin::network`; here the address is already chosen.

use std::net::SocketAddr;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use pingora::connectors::http::Connector;
use pingora::protocols::http::client::HttpSession;
use pingora::upstreams::peer::HttpPeer;
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
    /// A pool of its own, apart from the one that carries callers' requests.
    pub fn new() -> Self {
        Self { connector: Connector::new(None) }
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
        let (mut session, _) = self.connector.get_http_session(&peer).await.map_err(|_| HostError::Unreachable)?;
        session.set_read_timeout(Some(request.timeout));
        session.set_write_timeout(Some(request.timeout));
        let answer = exchange(&mut session, request).await?;
        self.connector.release_http_session(session, &peer, peer.options.idle_timeout).await;
        Ok(answer)
    }

    async fn transmit(&self, place: &Place, transmission: &Transmission) -> Result<(), HostError> {
        outlet::transmit(place, transmission).await
    }

    async fn mail(&self, place: &Place, relay: &Relay, mail: &Mail) -> Result<Option<String>, HostError> {
        outlet::mail(place, relay, mail).await
    }
}

async fn exchange(session: &mut HttpSession, request: Outbound) -> Result<HttpResponse, HostError> {
    let broken = |what: &'static str| move |_: Box<pingora::Error>| HostError::Broken(what);
    let mut head = RequestHeader::build(request.method, request.path_and_query.as_bytes(), Some(request.headers.len() + 2))
        .map_err(|_| HostError::BadUrl("path"))?;
    for (name, value) in &request.headers {
        head.append_header(name.clone(), value.clone()).map_err(|_| HostError::BadHeader(name.to_string()))?;
    }
    head.insert_header(http::header::HOST, request.authority.as_str()).map_err(|_| HostError::BadUrl("host"))?;
    head.insert_header(http::header::CONTENT_LENGTH, request.body.len()).map_err(|_| HostError::BadHeader("content-length".to_owned()))?;
    session.write_request_header(Box::new(head)).await.map_err(broken("head"))?;
    if !request.body.is_empty() {
        session.write_request_body(request.body, true).await.map_err(broken("body"))?;
    }
    session.finish_request_body().await.map_err(broken("body"))?;
    session.read_response_header().await.map_err(broken("answer"))?;
    let Some(head) = session.response_header() else { return Err(HostError::Broken("answer")) };
    let (status, headers) = (head.status.as_u16(), head.headers.clone());
    let mut body = BytesMut::new();
    while let Some(chunk) = session.read_response_body().await.map_err(broken("answer body"))? {
        if body.len() + chunk.len() > request.max_response {
            return Err(HostError::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(HttpResponse { status, headers, body: Bytes::from(body) })
}
