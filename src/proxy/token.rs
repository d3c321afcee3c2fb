//! Access tokens for MCP servers, by the client credentials grant of OAuth 2.0 (RFC 6749 §4.4). A token is kept until shortly
//! before it expires; requests that need one while it is fetched share that fetch.

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::egress::PingoraEgress;
use super::resolve::Address;
use crate::plugin::Egress;
use crate::plugin::host::Outbound;
use crate::route::ClientCredentials;

/// How long a fetch may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The largest answer of a token endpoint (bytes).
const LARGEST: usize = 64 * 1024;
/// The lifetime of a token whose answer does not state one.
const LIFETIME: Duration = Duration::from_secs(300);
/// The longest time for which a token is kept: the stated number of seconds may be more than a clock can represent.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// After a failed fetch, the failure is the answer for this long.
const REST: Duration = Duration::from_secs(1);

/// Why there is no token. Contains nothing of what was sent or received.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The reference to the client's secret could not be resolved.
    #[error("the client's secret is not available")]
    Secret,
    /// The token endpoint did not answer.
    #[error("the token endpoint could not be reached")]
    Unreachable,
    /// The answer contains no token.
    #[error("the token endpoint answered with status {0} and no token")]
    Refused(u16),
}

/// The access tokens of one MCP server.
pub struct Tokens {
    grant: ClientCredentials,
    address: Address,
    egress: Arc<PingoraEgress>,
    last: Mutex<Option<Fetched>>,
}

struct Fetched {
    token: Result<HeaderValue, TokenError>,
    begun: Instant,
    ended: Instant,
    until: Instant,
}

/// The answer of a token endpoint (RFC 6749 §5.1).
#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Tokens {
    /// Creates it without fetching a token yet.
    pub fn new(grant: ClientCredentials, egress: Arc<PingoraEgress>) -> Self {
        Self { address: Address::new(&grant.token_url.host, grant.token_url.port, TIMEOUT), grant, egress, last: Mutex::default() }
    }

    /// The value of `Authorization`, fetched if none is valid.
    ///
    /// # Errors
    /// No token can be obtained. For a second after that the same error is returned without another fetch.
    pub async fn current(&self) -> Result<HeaderValue, TokenError> {
        let came = Instant::now();
        let mut last = self.last.lock().await;
        // Whoever came while it was fetched waited for that fetch, and gets what came of it.
        if let Some(fetched) = last.as_ref().filter(|fetched| came <= fetched.ended || Instant::now() < fetched.until) {
            return fetched.token.clone();
        }
        let begun = Instant::now();
        let fetched = self.fetch().await;
        let ended = Instant::now();
        let (token, until) = match fetched {
            // Its life began when it was made, which is not before it was asked for.
            Ok((token, lifetime)) => (Ok(token), begun + lifetime),
            Err(error) => {
                log::warn!(target: "mcp", token_host = self.grant.token_url.host.as_str(); "no access token: {error}");
                (Err(error), ended + REST)
            }
        };
        *last = Some(Fetched { token: token.clone(), begun, ended, until });
        token
    }

    /// The server refused this token: the next request fetches another, unless this one was fetched within the last second.
    pub async fn refused(&self, token: &HeaderValue) {
        let mut last = self.last.lock().await;
        if last.as_ref().is_some_and(|fetched| fetched.token.as_ref() == Ok(token) && fetched.begun.elapsed() > REST) {
            *last = None;
        }
    }

    /// The form of a token request (RFC 6749 §4.4.2).
    fn form(&self) -> Bytes {
        let mut form = form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "client_credentials");
        for (name, value) in [("scope", &self.grant.scope), ("audience", &self.grant.audience)] {
            if let Some(value) = value {
                form.append_pair(name, value);
            }
        }
        Bytes::from(form.finish())
    }

    async fn fetch(&self) -> Result<(HeaderValue, Duration), TokenError> {
        let secret = self.grant.client_secret.as_ref().ok_or(TokenError::Secret)?;
        let encoded = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
        // RFC 6749 §2.3.1: both halves are form-encoded before they are joined.
        let pair = format!("{}:{}", encoded(&self.grant.client_id), encoded(secret.expose()));
        let mut headers = HeaderMap::new();
        let mut basic = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair))).map_err(|_| TokenError::Secret)?;
        basic.set_sensitive(true);
        headers.insert(AUTHORIZATION, basic);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let url = &self.grant.token_url;
        let request = Outbound {
            method: Method::POST,
            authority: url.authority(),
            path_and_query: self.grant.path.clone(),
            headers,
            body: self.form(),
            timeout: TIMEOUT,
            max_response: LARGEST,
        };
        let address = self.address.next().await.map_err(|_| TokenError::Unreachable)?;
        let sent = self.egress.send(address, url.tls.then_some(url.host.as_str()), request);
        let answer =
            tokio::time::timeout(TIMEOUT, sent).await.map_err(|_| TokenError::Unreachable)?.map_err(|_| TokenError::Unreachable)?;
        let refused = || TokenError::Refused(answer.status);
        if answer.status != 200 {
            return Err(refused());
        }
        let granted: Granted = serde_json::from_slice(&answer.body).map_err(|_| refused())?;
        let mut token = HeaderValue::from_str(&format!("Bearer {}", granted.access_token)).map_err(|_| refused())?;
        token.set_sensitive(true);
        Ok((token, kept(granted.expires_in)))
    }
}

/// How long a token is used, given its stated lifetime: a tenth of it, at most 30 seconds, is left unused, so that a token does
/// not expire on its way.
fn kept(expires_in: Option<u64>) -> Duration {
    let lifetime = expires_in.map_or(LIFETIME, Duration::from_secs).min(LONGEST);
    lifetime.saturating_sub((lifetime / 10).min(Duration::from_secs(30)))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::identity::Secret;
    use crate::route::BaseUrl;

    /// An endpoint that takes longer to fail than a failure is remembered from its beginning on.
    #[tokio::test]
    async fn who_waited_for_a_fetch_that_failed_does_not_fetch_again() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fetches = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&fetches);
        tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                seen.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(REST + Duration::from_millis(100)).await;
                drop(connection);
            }
        });
        let grant = ClientCredentials {
            token_url: BaseUrl::parse(&format!("http://127.0.0.1:{port}")).unwrap(),
            path: "/token".into(),
            client_id: "gateway".into(),
            client_secret: Some(Secret::new("secret".to_owned())),
            scope: None,
            audience: None,
        };
        let tokens = Tokens::new(grant, Arc::new(PingoraEgress::new()));
        let all = futures::future::join_all((0..5).map(|_| tokens.current())).await;
        assert_eq!(all, vec![Err(TokenError::Unreachable); 5]);
        assert_eq!(tokens.current().await, Err(TokenError::Unreachable), "and a moment later");
        assert_eq!(fetches.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn no_life_of_a_token_is_longer_than_a_clock_can_count() {
        for told in [i64::MAX as u64, u64::MAX] {
            assert_eq!(kept(Some(told)), LONGEST - Duration::from_secs(30));
            assert!(Instant::now().checked_add(kept(Some(told))).is_some());
        }
        assert_eq!(kept(Some(100)), Duration::from_secs(90));
        assert_eq!(kept(None), Duration::from_secs(270));
    }
}
