//! An external system that a plugin calls with JSON: its address, credential and timeout, and what its answers mean for a
//! delivery. What the operator has not granted is refused when the configuration is loaded.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;

use super::delivery::{Delivered, Delivery, retry_after};
use super::host::{Host, HttpRequest};
use super::manifest::BuildError;
use crate::config::Span;

/// The largest answer that is read (bytes).
const LARGEST_ANSWER: usize = 1 << 20;
/// The longest pause that a receiver can ask for.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 3600);

/// A place outside, as it is written in a plugin's configuration.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Receiver {
    /// Where to post; its host and port in `grant.network`.
    pub url: String,
    /// Name of a secret in `grant.secrets` that is sent as the credential.
    #[serde(default)]
    pub token: Option<String>,
    /// The field it is sent in. In `authorization` it is a bearer token, elsewhere it stands by itself.
    #[serde(default = "authorization")]
    pub token_header: String,
    /// How long to wait for the answer.
    #[serde(default = "call_timeout")]
    pub timeout: Span,
}

fn authorization() -> String {
    "authorization".to_owned()
}

fn call_timeout() -> Span {
    Span::seconds(5)
}

/// An external system that may be called.
#[derive(Debug, Clone)]
pub struct Destination {
    url: String,
    system: String,
    credential: Option<(HeaderName, HeaderValue)>,
    timeout: Duration,
}

impl Receiver {
    /// Checks address and credential; `at` is the dotted path of the section, empty for the top level of a plugin's configuration.
    ///
    /// # Errors
    /// A host or secret that is not granted, or a header that cannot be sent.
    pub fn open(&self, at: &str, host: &Host) -> Result<Destination, BuildError> {
        let path = |key: &str| if at.is_empty() { key.to_owned() } else { format!("{at}.{key}") };
        host.may_fetch(&self.url).map_err(|error| BuildError::at(path("url"), error.to_string()))?;
        let system = self.url.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default().to_owned();
        let credential = match &self.token {
            None => None,
            Some(name) => {
                let field = HeaderName::from_bytes(self.token_header.as_bytes())
                    .map_err(|_| BuildError::at(path("token_header"), "not a header name"))?;
                let secret = host.secret(name).map_err(|error| BuildError::at(path("token"), error.to_string()))?;
                let text = if field == "authorization" { format!("Bearer {}", secret.expose()) } else { secret.expose().to_owned() };
                let value = HeaderValue::from_str(&text);
                let mut value = value.map_err(|_| BuildError::at(path("token"), "the secret is not a header value"))?;
                value.set_sensitive(true);
                Some((field, value))
            }
        };
        Ok(Destination { url: self.url.clone(), system, credential, timeout: self.timeout.0 })
    }
}

impl Destination {
    /// Host and port, for evidence.
    pub fn system(&self) -> &str {
        &self.system
    }

    /// A `POST` of a JSON text, with the credential.
    pub fn post(&self, body: impl Into<Bytes>) -> HttpRequest {
        let mut request = HttpRequest::post_json(self.url.as_str(), body);
        request.timeout = self.timeout;
        request.max_response = LARGEST_ANSWER;
        if let Some((name, value)) = &self.credential {
            request.headers.insert(name.clone(), value.clone());
        }
        request
    }

    /// Sends a delivery, with its id as `Idempotency-Key`. A status of 2xx means that it was taken; 408, 425, 429 and 5xx are
    /// tried again, after the `Retry-After` of the receiver; 410 disables the receiver; other statuses give the delivery up.
    pub async fn deliver(&self, host: &Host, delivery: &Delivery) -> Delivered {
        let mut request = self.post(delivery.body.clone());
        let Ok(id) = HeaderValue::from_str(delivery.id.as_str()) else { return Delivered::dead("the id is not a header value") };
        request.headers.insert(HeaderName::from_static("idempotency-key"), id);
        if let Ok(media) = HeaderValue::from_str(&delivery.content_type) {
            request.headers.insert(http::header::CONTENT_TYPE, media);
        }
        let answer = match host.fetch(request).await {
            Ok(answer) => answer,
            Err(error) => return Delivered::of_error(&error),
        };
        let why = format!("status {}", answer.status);
        match answer.status {
            200..=299 => Delivered::done(),
            408 | 425 | 429 | 500..=599 => {
                let after = retry_after(&answer.headers, host.now()).map(|after| after.min(LONGEST_PAUSE));
                Delivered::Retry { after, why: why.into() }
            }
            410 => Delivered::Disable { why: why.into() },
            _ => Delivered::dead(why),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_granted_is_told_at_load() {
        let receiver: Receiver = serde_json::from_str(r#"{"url":"https://crm.test/"}"#).unwrap();
        assert_eq!(receiver.open("deliver", &Host::detached()).unwrap_err().path, "deliver.url");
    }
}
