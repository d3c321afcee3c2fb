//! Notifies an external system of events, signed according to Standard Webhooks, and retried until they are delivered.

use crate::plugin::prelude::*;

mod filter;
mod sign;

use filter::{Kinds, OrderBy};
use sign::Signer;

/// The manifest, as printed by `plugins show webhook`.
pub static MANIFEST: Manifest = Manifest {
    name: "webhook",
    version: "1.0.0",
    author: "Odock",
    category: "integration",
    kind: "export",
    summary: "Sends signed events about requests, findings and budgets to a URL; facts and counts, never content.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Background, Style::Parallel, Style::Sequential],
    needs: &[Need::Background, Need::Deliver, Need::Network, Need::Notices, Need::Secrets],
    streams: false,
    evidence: &[("events", "how many events were handed to the outbox")],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| {
        let config: Config = cx.parse()?;
        cx.host.may_fetch(&config.url).map_err(|error| BuildError::at("url", error.to_string()))?;
        let signers = config.secrets.iter().enumerate().map(|(place, name)| {
            let at = |message: String| BuildError::at(format!("secrets.{place}"), message);
            let secret = cx.host.secret(name).map_err(|error| at(error.to_string()))?;
            Signer::read(secret.expose()).map_err(|message| at(message.to_owned()))
        });
        let signers: Vec<Signer> = signers.collect::<Result<_, _>>()?;
        if signers.is_empty() {
            return Err(BuildError::at("secrets", "an unsigned webhook could come from anybody: name a secret"));
        }
        let kinds = Kinds::of(&config.events)?;
        let destination = config.url.split("://").nth(1).and_then(|rest| rest.split(['/', '?']).next()).unwrap_or_default().to_owned();
        Ok(Arc::new(Webhook { kinds, destination, signers, config, host: cx.host.clone() }))
    },
};

/// Configuration of `webhook`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Config {
    /// Where to post; its host and port in `grant.network`.
    url: String,
    /// Names of secrets in `grant.secrets`: `whsec_…` (HMAC-SHA256) or `whsk_…` (Ed25519). Every one signs, so that a new one
    /// can be known to the receiver before the old one goes.
    secrets: Vec<String>,
    /// Which events; all without. `*` stands for any run of characters.
    #[serde(default)]
    events: Vec<Glob>,
    /// Events that have this in common are sent one after the other, in the order in which they happened.
    #[serde(default)]
    order_by: OrderBy,
    /// `source` of the events.
    #[serde(default = "source")]
    source: String,
    /// How long to wait for the answer.
    #[serde(default = "timeout")]
    timeout: Span,
}

fn source() -> String {
    "odock-edge".to_owned()
}

fn timeout() -> Span {
    Span::seconds(15)
}

struct Webhook {
    config: Config,
    kinds: Kinds,
    /// Host and port, the destination's name in evidence and the outbox.
    destination: String,
    signers: Vec<Signer>,
    host: Host,
}

impl Webhook {
    /// Dispatches an event. Returns its id if it was sent to the outbox.
    fn tell(&self, event: &Event) -> Result<Option<DeliveryId>, HostError> {
        if !self.kinds.contain(event.kind) {
            return Ok(None);
        }
        let body = event.cloud(&self.config.source).to_string();
        let mut delivery = Delivery::new(self.destination.as_str(), "application/cloudevents+json", body).with_id(event.id.as_str());
        delivery.request = event.request;
        delivery.ordering_key = self.config.order_by.key(event);
        self.host.deliver(delivery).map(Some)
    }
}

#[async_trait]
impl Plugin for Webhook {
    fn is_prompt(&self) -> bool {
        true
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        Ok(Event::told(cx, self.destination.as_str(), |event| self.tell(event))?)
    }

    async fn notice(&self, notice: &Notice) -> Result<(), PluginError> {
        self.tell(&Event::of_notice(notice))?;
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        let now = self.host.now();
        let seconds = now.duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs()).to_string();
        let id = delivery.id.as_str();
        let signatures: Vec<String> = self.signers.iter().map(|signer| signer.sign(id, &seconds, &delivery.body)).collect();
        let mut request = HttpRequest::new(Method::POST, self.config.url.as_str());
        request.timeout = self.config.timeout.0;
        request.max_response = 64 << 10;
        request.body = delivery.body.clone();
        for (name, text) in [
            ("content-type", delivery.content_type.as_ref()),
            ("webhook-id", id),
            ("webhook-timestamp", &seconds),
            ("webhook-signature", &signatures.join(" ")),
        ] {
            let Ok(value) = HeaderValue::from_str(text) else { return Delivered::dead(format!("{name} is not a header value")) };
            request.headers.insert(HeaderName::from_static(name), value);
        }
        let answer = match self.host.fetch(request).await {
            Ok(answer) => answer,
            Err(error) => return Delivered::of_error(&error),
        };
        let why = format!("status {}", answer.status);
        match answer.status {
            200..=299 => Delivered::done(),
            410 => Delivered::Disable { why: why.into() },
            429 | 502..=504 => Delivered::Retry { after: retry_after(&answer.headers, now), why: why.into() },
            // A redirect is a failure: a payload signed for one address must not be sent to another.
            _ => Delivered::retry(why),
        }
    }
}
