//! Marketing wants to count how often our product names are mentioned in prompts, without reading prompts.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use std::collections::BTreeMap;

use odock_edge::plugin::prelude::*;

/// What `plugins show product_mentions` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "product_mentions",
    version: "0.1.0",
    author: "marketing-analytics",
    category: "custom",
    kind: "audit",
    summary: "Marketing wants to count how often our product names are mentioned in prompts, without reading prompts.",
    gates: &[Gate::PreUpstream],
    styles: &[Style::Parallel],
    needs: &[Need::ReadRequest],
    streams: false,
    evidence: &[("signals", "the signals and how often each was found, never the words around them")],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(ProductMentions::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `product_mentions`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// Signals, each with the words that stand for it.
    signals: BTreeMap<String, Vec<String>>,
}

struct ProductMentions {
    signals: Vec<(String, regex::Regex)>,
}

impl ProductMentions {
    fn build(config: Config, _host: Host) -> Result<Self, BuildError> {
        if config.signals.is_empty() {
            return Err(BuildError::at("signals", "names no signal"));
        }
        let mut signals = Vec::new();
        for (name, words) in &config.signals {
            signals.push((name.clone(), any_of(&format!("signals.{name}"), words)?));
        }
        Ok(Self { signals })
    }

    /// The signals that occur, and how often.
    fn noticed(&self, text: &str) -> Vec<(&str, usize)> {
        let counted = self.signals.iter().map(|(name, words)| (name.as_str(), words.find_iter(text).count()));
        counted.filter(|(_, times)| *times > 0).collect()
    }
}

#[async_trait]
impl Plugin for ProductMentions {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let parts = texts(cx, cx.body()?, cx.header("content-type"))?;
        let found = self.noticed(&said(&parts));
        if !found.is_empty() {
            cx.note("signals", found.iter().map(|(name, times)| format!("{name}={times}")).collect::<Vec<_>>().join(" "));
        }
        Ok(Verdict::Next)
    }
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
