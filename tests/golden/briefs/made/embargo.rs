//! What is under embargo must be talked about in neither direction, and at night nothing is to be asked at all.
//!
//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.

use odock_edge::plugin::prelude::*;

/// Its refusals, where the configuration says nothing else.
const REFUSED: Code = Code {
    code: "under_embargo",
    status: 451,
    message: "this is under embargo",
    meaning: "What is under embargo must be talked about in neither direction, and at night nothing is to be asked at all.",
    remedy: "Ask press-office; the evidence record of the request id has what `embargo` noted.",
};

/// What `plugins show embargo` prints.
pub static MANIFEST: Manifest = Manifest {
    name: "embargo",
    version: "0.1.0",
    author: "press-office",
    category: "custom",
    kind: "policy",
    summary: "What is under embargo must be talked about in neither direction, and at night nothing is to be asked at all.",
    gates: &[Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::ReadResponse, Need::Block],
    streams: false,
    evidence: &[("rule", "which rule refused")],
    codes: &[REFUSED],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(Embargo::build(cx.parse()?, cx.host.clone())?)),
};

/// Configuration of `embargo`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct Config {
    /// The first hour of the day in which it lets requests pass, UTC.
    from_hour: u64,
    /// The hour after the last.
    until_hour: u64,
    /// The words that must not occur: whole words, upper and lower case alike.
    words: Vec<String>,
    /// Status of a refusal.
    status: u16,
    /// Code of a refusal.
    code: String,
    /// Text of a refusal.
    message: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            from_hour: 0,
            until_hour: 24,
            words: Vec::new(),
            status: REFUSED.status,
            code: REFUSED.code.to_owned(),
            message: REFUSED.message.to_owned(),
        }
    }
}

struct Embargo {
    config: Config,
    words: regex::Regex,
    host: Host,
}

impl Embargo {
    fn build(config: Config, host: Host) -> Result<Self, BuildError> {
        if config.from_hour > 23 || config.until_hour > 24 {
            return Err(BuildError::at("until_hour", "hours are 0 to 23, and 24 for the end of the day"));
        }
        let words = any_of("words", &config.words)?;
        Ok(Self { config, words, host })
    }

    fn refuse(&self) -> Verdict {
        let Config { status, code, message, .. } = &self.config;
        Verdict::Abort(Box::new(Denial::custom(*status, code, message)))
    }

    fn is_open(&self) -> bool {
        let since = self.host.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (self.config.from_hour..self.config.until_hour).contains(&(since.as_secs() / 3600 % 24))
    }
}

#[async_trait]
impl Plugin for Embargo {
    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        if !self.is_open() {
            cx.note("rule", "hours");
            return Ok(self.refuse());
        }
        let parts = texts(cx, cx.body()?, cx.header("content-type"))?;
        if self.words.is_match(&said(&parts)) {
            cx.note("rule", "words");
            return Ok(self.refuse());
        }
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let Some(answer) = cx.response_body()?.cloned() else { return Ok(Verdict::Next) };
        let parts = texts(cx, &answer, cx.response_header("content-type"))?;
        if self.words.is_match(&said(&parts)) {
            cx.note("rule", "words");
            return Ok(self.refuse());
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
