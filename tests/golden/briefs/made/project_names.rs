//! Code names of unreleased projects are replaced by a neutral word in prompts and in answers.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// What `plugins show project_names` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "project_names",
    version: "0.1.0",
    author: "product-security",
    category: "custom",
    kind: "transform",
    summary: "Code names of unreleased projects are replaced by a neutral word in prompts and in answers.",
    gates: &[Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::WriteRequest, Need::ReadResponse, Need::WriteResponse],
    streams: false,
    evidence: &[("replaced", "how many texts were changed")],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(ProjectNames::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `project_names`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The words that are replaced: whole words, upper and lower case alike.
    words: Vec<String>,
    /// What stands in their place.
    replacement: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { words: Vec::new(), replacement: "[removed]".to_owned() }
    }
}

struct ProjectNames {
    config: Config,
    words: regex::Regex,
}

impl ProjectNames {
    fn build(config: Config, _host: Host) -> Result<Self, BuildError> {
        let words = any_of("words", &config.words)?;
        Ok(Self { config, words })
    }
}

#[async_trait]
impl Plugin for ProjectNames {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        let parts = texts(cx, cx.body()?, cx.header("content-type"))?;
        if let Some((body, count)) = replaced(&parts, &self.words, &self.config.replacement)? {
            cx.note("replaced", count.to_string());
            cx.set_body(body)?;
        }
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let Some(answer) = cx.response_body()?.cloned() else { return Ok(Verdict::Next) };
        let parts = texts(cx, &answer, cx.response_header("content-type"))?;
        if let Some((body, count)) = replaced(&parts, &self.words, &self.config.replacement)? {
            cx.note("replaced", count.to_string());
            cx.set_response_body(body)?;
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

/// The body with the words replaced, and in how many texts; nothing if there were none.
fn replaced(parts: &wire::Parts, words: &regex::Regex, by: &str) -> Result<Option<(Bytes, usize)>, PluginError> {
    let mut edits = Vec::new();
    for (place, part) in parts.parts.iter().enumerate().filter(|(_, part)| !part.key) {
        let found: Vec<_> = words.find_iter(&part.text).map(|hit| (hit.range(), by.to_owned())).collect();
        if !found.is_empty() {
            edits.push((place, found));
        }
    }
    if edits.is_empty() {
        return Ok(None);
    }
    let body = parts.rewrite(&edits).map_err(|why| PluginError::failed(why.to_string()))?;
    Ok(Some((body, edits.len())))
}
