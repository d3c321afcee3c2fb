//! From signals in a conversation, such as talk of cancelling, an offer is recommended to the application and a workflow is told.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use std::collections::BTreeMap;

use odock_edge::plugin::prelude::*;

/// What `plugins show offer_signals` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "offer_signals",
    version: "0.1.0",
    author: "customer-success",
    category: "custom",
    kind: "delivery",
    summary: "From signals in a conversation, such as talk of cancelling, an offer is recommended to the application and a workflow is told.",
    gates: &[Gate::PreUpstream, Gate::PostUpstream, Gate::PostResponse],
    styles: &[Style::Sequential, Style::Background],
    needs: &[Need::ReadRequest, Need::Tags, Need::Headers, Need::Network, Need::Background, Need::Deliver],
    streams: false,
    evidence: &[
        ("signals", "the signals and how often each was found, never the words around them"),
        ("set", "how many headers and tags were set"),
        ("without_value", "what was not set because it has no value for this request"),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(OfferSignals::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `offer_signals`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Signals, each with the words that stand for it.
    signals: BTreeMap<String, Vec<String>>,
    /// Headers towards the caller, with templates of their values.
    response_headers: BTreeMap<String, String>,
    /// The system that is told.
    deliver: Option<Receiver>,
}

struct OfferSignals {
    signals: Vec<(String, regex::Regex)>,
    response_headers: Vec<(String, Template)>,
    deliver: Destination,
    host: Host,
}

impl OfferSignals {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        if config.signals.is_empty() {
            return Err(BuildError::at("signals", "names no signal"));
        }
        let mut signals = Vec::new();
        for (name, words) in &config.signals {
            signals.push((name.clone(), any_of(&format!("signals.{name}"), words)?));
        }
        let response_headers = templates("response_headers", &config.response_headers, &host)?;
        let deliver = config.deliver.as_ref().ok_or_else(|| BuildError::at("deliver", "names no system"))?.open("deliver", &host)?;
        Ok(Self { signals, response_headers, deliver, host })
    }

    /// The signals that occur, and how often.
    fn noticed(&self, text: &str) -> Vec<(&str, usize)> {
        let counted = self.signals.iter().map(|(name, words)| (name.as_str(), words.find_iter(text).count()));
        counted.filter(|(_, times)| *times > 0).collect()
    }

    /// What has a value for this request; what has none, or one that no head can carry, is noted.
    fn rendered<'t>(&self, templates: &'t [(String, Template)], cx: &View<'_>) -> Result<Vec<(&'t str, String)>, PluginError> {
        let mut values = Vec::new();
        let mut without = Vec::new();
        for (name, template) in templates {
            let value = template.render(cx, &self.host)?.filter(|value| value.bytes().all(|b| (0x20..0x7f).contains(&b)));
            match value {
                Some(value) => values.push((name.as_str(), value)),
                None => without.push(name.as_str()),
            }
        }
        if !without.is_empty() {
            cx.note("without_value", without.join(" "));
        }
        Ok(values)
    }
}

#[async_trait]
impl Plugin for OfferSignals {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let parts = texts(cx, cx.body()?, cx.header("content-type"))?;
        let found = self.noticed(&said(&parts));
        if !found.is_empty() {
            cx.note("signals", found.iter().map(|(name, times)| format!("{name}={times}")).collect::<Vec<_>>().join(" "));
            cx.tag("signals", found.iter().map(|(name, _)| *name).collect::<Vec<_>>().join("+"))?;
        }
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let headers = self.rendered(&self.response_headers, cx)?;
        cx.note("set", headers.len().to_string());
        for (name, value) in &headers {
            cx.set_response_header(name, value)?;
        }
        Ok(Verdict::Next)
    }

    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {
        let caller = cx.caller();
        let document = json!({
            "request_id": cx.request_id().to_string(),
            "organisation": caller.map(|caller| caller.organisation.name.to_string()),
            "tags": (cx.tags().iter().cloned().collect::<std::collections::BTreeMap<_, _>>()),
            "model": cx.model(),
        });
        let delivery = Delivery::new("journeys", "application/json", document.to_string()).about(cx.request_id());
        cx.external("journeys", Some(self.host.deliver(delivery)?.to_string()));
        Ok(())
    }

    async fn deliver(&self, delivery: &Delivery) -> Delivered {
        self.deliver.deliver(&self.host, delivery).await
    }
}

fn compiled(at: &str, text: &str, host: &Host) -> Result<Template, BuildError> {
    Template::compile(text, host).map_err(|why| BuildError::at(at, why))
}

fn templates(at: &str, texts: &BTreeMap<String, String>, host: &Host) -> Result<Vec<(String, Template)>, BuildError> {
    texts.iter().map(|(name, text)| Ok((name.clone(), compiled(&format!("{at}.{name}"), text, host)?))).collect()
}

/// Any of these words, as whole words.
fn any_of(at: &str, words: &[String]) -> Result<regex::Regex, BuildError> {
    let words: Vec<String> = words.iter().map(|word| regex::escape(word.trim())).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err(BuildError::at(at, "names no word"));
    }
    let pattern = format!(r"(?i)\b(?:{})\b", words.join("|"));
    regex::Regex::new(&pattern).map_err(|why| BuildError::at(at, why.to_string()))
}

/// The texts of a body: of JSON, of plain text, or of a stream that was held.
fn texts(cx: &View<'_>, body: &Bytes, media: Option<&str>) -> Result<wire::Parts, PluginError> {
    let events = media.is_some_and(|media| wire::sse::is_event_stream(media.as_bytes()));
    let form = wire::Form::of(cx.dialect(), media, body);
    let parts = wire::Parts::of(body, form, events, 16_384, |kind| kind != wire::Kind::Structural);
    parts.map_err(|why| PluginError::failed(why.to_string()))
}

/// All of it, one text a line.
fn said(parts: &wire::Parts) -> String {
    parts.parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n")
}
