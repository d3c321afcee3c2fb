//! Turns signals in a conversation into an offer or a workflow: the first rule that applies is reported to an external
//! system and, optionally, named to the caller in a header. Bodies are never changed.

use std::num::NonZeroUsize;
use std::time::Instant;

use crate::plugin::prelude::*;

mod config;
mod signals;

use config::{Config, Rules};
use signals::Signals;
use wire::{Form, Kind, Parts};

/// The manifest, as printed by `plugins show recommendation`.
pub static MANIFEST: Manifest = Manifest {
    name: "recommendation",
    version: "1.0.0",
    author: "Odock",
    category: "analytics",
    kind: "workflow",
    summary: "Turns signals of a conversation into offers and workflow events; tells names and counts, changes no body.",
    gates: &[Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::Headers, Need::Deliver, Need::Network, Need::Secrets],
    // Only the request and the head of the answer are read, so streams pass.
    streams: false,
    evidence: &[
        ("offer", "name of the rule that applied"),
        ("delivery", "id of the event that was handed to the outbox"),
        ("resting", "`true` where the same was offered to the same caller a short while ago and nothing was said"),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| {
        let rules = cx.parse::<Config>()?.compile(&cx.host)?;
        let resting = Remembered::new(NonZeroUsize::new(RESTING).unwrap_or(NonZeroUsize::MIN));
        let languages = Remembered::new(NonZeroUsize::new(UNDER_WAY).unwrap_or(NonZeroUsize::MIN));
        Ok(Arc::new(Recommendation { rules, resting, languages, digester: Digester::new(None), host: cx.host.clone() }))
    },
};

/// Most recent offers that are remembered in order not to repeat them; the oldest are dropped first.
const RESTING: usize = 100_000;
/// Most requests under way whose language is kept until their answer; the oldest are dropped first.
const UNDER_WAY: usize = 16_384;
/// Languages of older requests are dropped.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);
/// A request with more texts gives no signals.
const MOST_TEXTS: usize = 16_384;

struct Recommendation {
    rules: Rules,
    /// Recent offers by recipient.
    resting: Remembered<()>,
    /// The languages of requests under way, since the request's head is no longer available with the answer.
    languages: Remembered<String>,
    digester: Digester,
    host: Host,
}

impl Recommendation {
    /// Whether an offer may be made to this caller now. If so, it is not made again for the configured time.
    fn is_due(&self, cx: &View<'_>, offer: &str) -> bool {
        if self.rules.rest.is_zero() {
            return true;
        }
        let caller = cx.caller();
        let organisation = caller.map_or(&b""[..], |caller| caller.organisation.id.as_bytes());
        let who = caller.map_or(&b""[..], |caller| caller.user.as_ref().map_or(&caller.key_id, |user| &user.id).as_bytes());
        let (key, now) = (self.digester.of(&[offer.as_bytes(), organisation, who]), Instant::now());
        if self.resting.get(&key, now).is_some() {
            return false;
        }
        self.resting.keep(key, (), now, self.rules.rest);
        true
    }

    /// Dispatches the offer to the outbox.
    fn tell(&self, cx: &View<'_>, offer: &str, signals: &Signals) -> Result<(), PluginError> {
        let Some(deliver) = &self.rules.deliver else { return Ok(()) };
        let mut data = serde_json::Map::new();
        data.insert("offer".into(), offer.into());
        data.insert("route".into(), cx.route().into());
        data.insert("model".into(), cx.model().into());
        data.insert("signals".into(), signals.told());
        let name = format!("{}_{offer}", self.host.instance());
        let event = Event::of_plugin("recommendation.offered", &name, cx.request_id(), cx.caller(), self.host.now(), data);
        let body = event.cloud(&self.rules.source).to_string();
        let delivery = Delivery::new(deliver.system(), "application/cloudevents+json", body).with_id(event.id).about(cx.request_id());
        let delivery = match cx.caller() {
            // The offers to one caller are delivered in order.
            Some(caller) => delivery.ordered_by(format!("{}/{}", caller.organisation.id, caller.key_id)),
            None => delivery,
        };
        let id = self.host.deliver(delivery)?;
        cx.note("delivery", id.to_string());
        cx.external(deliver.system(), Some(id.to_string()));
        Ok(())
    }
}

#[async_trait]
impl Plugin for Recommendation {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if self.rules.asks_for_languages
            && let Some(language) = cx.header("accept-language").and_then(signals::language)
        {
            self.languages.keep(self.digester.of(&[&cx.request_id().0]), language, Instant::now(), LONGEST_REQUEST);
        }
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let language = match self.rules.asks_for_languages {
            true => self.languages.take(&self.digester.of(&[&cx.request_id().0]), Instant::now()),
            false => None,
        };
        // No offer is made with a failed answer.
        if !(200..=299).contains(&cx.status()) {
            return Ok(Verdict::Next);
        }
        let body = cx.body()?;
        let form = Form::of(cx.dialect(), None, body);
        let parts = Parts::of(body, form, false, MOST_TEXTS, |kind| matches!(kind, Kind::Content | Kind::Input));
        // What cannot be parsed (an upload) gives no signals.
        let Ok(parts) = parts else { return Ok(Verdict::Next) };
        let signals = Signals::of(&parts, &self.rules, language);
        let Some(offer) = self.rules.offers.iter().find(|offer| offer.when.holds(cx, &signals)) else { return Ok(Verdict::Next) };
        cx.note("offer", offer.name.as_str());
        if !self.is_due(cx, &offer.name) {
            cx.note("resting", "true");
            return Ok(Verdict::Next);
        }
        self.tell(cx, &offer.name, &signals)?;
        if let Some(header) = &self.rules.header
            && cx.response_header(header).is_none()
        {
            cx.set_response_header(header, &offer.name)?;
        }
        Ok(Verdict::Next)
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        match &self.rules.deliver {
            Some(destination) => destination.deliver(&self.host, delivery).await,
            None => Delivered::dead("nothing is delivered any more"),
        }
    }
}
