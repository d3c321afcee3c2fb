//! Counts words with a meaning for the business in requests and answers, streams included, and reports them as tags,
//! evidence and events. Only counts are reported, never content.

use std::num::NonZeroUsize;
use std::time::Instant;

use crate::plugin::prelude::*;

mod config;
mod stream;

use config::{Config, Rules};
use stream::Watch;
use wire::{Form, Kind, Parts};

/// The manifest, as printed by `plugins show keyword_events`.
pub static MANIFEST: Manifest = Manifest {
    name: "keyword_events",
    version: "1.0.0",
    author: "Odock",
    category: "analytics",
    kind: "analytics",
    summary: "Counts words of business interest in requests and answers; tells tags, evidence and systems outside, never content.",
    gates: &[Gate::PreUpstream, Gate::PostUpstream, Gate::PostResponse],
    styles: &[Style::Sequential, Style::Parallel, Style::Background],
    needs: &[Need::ReadRequest, Need::ReadResponse, Need::Tags, Need::Background, Need::Deliver, Need::Network, Need::Secrets],
    streams: true,
    evidence: &[
        ("request", "how often each event was seen in the request, such as `churn=2 refund=1`"),
        ("answer", "how often each event was seen in the answer"),
        ("delivery", "id of the event that was handed to the outbox"),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| {
        let rules = cx.parse::<Config>()?.compile(&cx.host)?;
        let under_way = Arc::new(Remembered::new(NonZeroUsize::new(UNDER_WAY).unwrap_or(NonZeroUsize::MIN)));
        Ok(Arc::new(KeywordEvents { rules: Arc::new(rules), under_way, host: cx.host.clone() }))
    },
};

/// Most requests under way whose counts are kept; the oldest are dropped first.
const UNDER_WAY: usize = 16_384;
/// Counts of older requests are dropped.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);
/// A body with more texts is not counted.
const MOST_TEXTS: usize = 16_384;

/// Number of occurrences of each event, by its index in the configuration.
#[derive(Clone)]
struct Counts {
    request: Vec<u32>,
    answer: Vec<u32>,
}

type UnderWay = Remembered<Counts>;

struct KeywordEvents {
    rules: Arc<Rules>,
    under_way: Arc<UnderWay>,
    host: Host,
}

/// The key of a request in the map of requests under way.
fn place(id: RequestId) -> [u8; 32] {
    let mut key = [0; 32];
    for (to, from) in key.iter_mut().zip(id.0) {
        *to = from;
    }
    key
}

/// Adds to the counts of a request. Nothing is stored for a request without occurrences.
fn keep(under_way: &UnderWay, id: RequestId, events: usize, add: impl FnOnce(&mut Counts)) {
    let (key, now) = (place(id), Instant::now());
    let mut counts = under_way.take(&key, now).unwrap_or_else(|| Counts { request: vec![0; events], answer: vec![0; events] });
    add(&mut counts);
    under_way.keep(key, counts, now, LONGEST_REQUEST);
}

impl KeywordEvents {
    /// Notes the occurrences in evidence, and returns them as tags.
    fn tell(&self, cx: &View<'_>, side: &'static str, counts: &[u32]) -> Vec<(String, String)> {
        if counts.iter().all(|count| *count == 0) {
            return Vec::new();
        }
        cx.note(side, self.rules.summary(counts));
        match self.rules.tags {
            true => self.rules.seen(counts).map(|(name, count)| (format!("keyword.{side}.{name}"), count.to_string())).collect(),
            false => Vec::new(),
        }
    }
}

/// Attaches tags, which only sequential steps can do; in parallel ones the notes must suffice.
macro_rules! attach {
    ($cx:ident, $tags:expr) => {
        for (key, value) in $tags {
            match $cx.tag(key, value) {
                Err(PluginError::NotGranted(_)) => break,
                other => other?,
            }
        }
    };
}

#[async_trait]
impl Plugin for KeywordEvents {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let body = cx.body()?.clone();
        let form = Form::of(cx.dialect(), cx.header("content-type"), &body);
        let parts = Parts::of(&body, form, false, MOST_TEXTS, |kind| matches!(kind, Kind::Content | Kind::Input));
        // What cannot be parsed (an upload) contains no words.
        let Ok(parts) = parts else { return Ok(Verdict::Next) };
        let counts = self.rules.of_request(&parts);
        let tags = self.tell(cx, "request", &counts);
        if counts.iter().any(|count| *count > 0) {
            keep(&self.under_way, cx.request_id(), self.rules.events.len(), |known| known.request = counts);
        }
        attach!(cx, tags);
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        // Streams are the filter's business, also where they are held for another step.
        let events = cx.response_header("content-type").is_some_and(|media| wire::sse::is_event_stream(media.as_bytes()));
        let Some(body) = cx.response_body()?.filter(|_| !events).cloned() else { return Ok(Verdict::Next) };
        let form = Form::of(cx.dialect(), cx.response_header("content-type"), &body);
        let parts = Parts::of(&body, form, false, MOST_TEXTS, |kind| kind == Kind::Content);
        let Ok(parts) = parts else { return Ok(Verdict::Next) };
        let counts = self.rules.of_answer(&parts);
        let tags = self.tell(cx, "answer", &counts);
        if counts.iter().any(|count| *count > 0) {
            keep(&self.under_way, cx.request_id(), self.rules.events.len(), |known| known.answer = counts);
        }
        attach!(cx, tags);
        Ok(Verdict::Next)
    }

    fn stream(&self, cx: &PostUpstream<'_>) -> Option<Box<dyn StreamFilter>> {
        if !self.rules.looks_at_answers() {
            return None;
        }
        Some(Box::new(Watch::new(Arc::clone(&self.rules), Arc::clone(&self.under_way), cx.request_id())))
    }

    fn is_prompt(&self) -> bool {
        true
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let Some(counts) = self.under_way.take(&place(cx.request_id()), Instant::now()) else { return Ok(()) };
        let Some(deliver) = &self.rules.deliver else { return Ok(()) };
        let sides = |place: usize| {
            let count = |counts: &[u32]| counts.get(place).copied().unwrap_or(0);
            (count(&counts.request), count(&counts.answer))
        };
        let seen = self.rules.events.iter().enumerate().map(|(place, event)| (event.name.as_str(), sides(place)));
        let seen = seen.filter(|(_, (request, answer))| request + answer > 0);
        let words: serde_json::Map<String, Value> =
            seen.map(|(name, (request, answer))| (name.to_owned(), json!({ "request": request, "answer": answer }))).collect();
        let mut data = serde_json::Map::new();
        data.insert("words".into(), words.into());
        data.insert("route".into(), cx.route().into());
        data.insert("model".into(), cx.model().into());
        data.insert("status".into(), cx.status().into());
        let event = Event::of_plugin("keyword.seen", self.host.instance(), cx.request_id(), cx.caller(), self.host.now(), data);
        let body = event.cloud(&self.rules.source).to_string();
        let delivery = Delivery::new(deliver.system(), "application/cloudevents+json", body).with_id(event.id).about(cx.request_id());
        let id = self.host.deliver(delivery)?;
        cx.note("delivery", id.to_string());
        cx.external(deliver.system(), Some(id.to_string()));
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        match &self.rules.deliver {
            Some(destination) => destination.deliver(&self.host, delivery).await,
            None => Delivered::dead("nothing is delivered any more"),
        }
    }
}
