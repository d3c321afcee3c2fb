//! Enforces structured answers: the model's reply is validated against the JSON Schema of the operator or of the request,
//! repaired where that is safe, and otherwise refused.

use std::time::Instant;

use crate::plugin::prelude::*;

mod answers;
mod asked;
mod bounded;
mod config;

use answers::Answer;
use config::{Config, Repair, Rules, Schema};
use wire::{Form, Kind, Parts};

/// The manifest, as printed by `plugins show schema_guard`.
pub static MANIFEST: Manifest = Manifest {
    name: "schema_guard",
    version: "1.0.0",
    author: "Odock",
    category: "quality",
    kind: "policy",
    summary: "Checks structured answers against a JSON Schema of the operator or of the request.",
    gates: &[Gate::PostUpstream],
    styles: &[Style::Sequential, Style::Parallel],
    needs: &[Need::ReadRequest, Need::ReadResponse, Need::WriteResponse, Need::Block],
    // An answer is valid or invalid as a whole, so the gateway holds streams for this plugin.
    streams: false,
    evidence: &[
        ("schema", "names of the schemas that were asked for; `request` for the caller's own"),
        ("answers", "how many answers were checked"),
        ("invalid", "how many did not follow a schema"),
        ("keyword", "the keyword of the schema that the first one broke, or `json`"),
        ("repaired", "how many were taken out of a code fence"),
        ("unchecked", "why the request's own schema was not asked: `recursive`, `too_large`, `foreign`, `malformed`"),
    ],
    codes: &[MISMATCH],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(SchemaGuard { rules: cx.parse::<Config>()?.compile()? })),
};

/// An answer with more texts is invalid.
const MOST_TEXTS: usize = 16_384;

/// An answer does not follow the schema.
const MISMATCH: Code = Code {
    code: "schema_mismatch",
    status: 502,
    message: "the model's answer does not follow the schema it was asked for",
    meaning: "A structured answer does not follow the JSON Schema of the operator or of the request.",
    remedy: "Ask again, or look at the schema: evidence names the keyword that was broken. `repair: fences` mends JSON in a code fence.",
};

struct SchemaGuard {
    rules: Rules,
}

/// Why an answer is invalid.
struct Wrong {
    keyword: &'static str,
}

impl SchemaGuard {
    /// The schemas that an answer must follow.
    fn schemas(&self, cx: &PostUpstream<'_>) -> Result<Vec<Arc<Schema>>, PluginError> {
        let mut schemas: Vec<Arc<Schema>> =
            self.rules.schemas.iter().filter(|schema| schema.is_for(cx.model(), cx.route())).map(Arc::clone).collect();
        if self.rules.from_request
            && let Some(asked) = asked::schema(cx.dialect(), cx.body()?)
        {
            let kept = self.rules.asked(asked, Instant::now());
            match &*kept {
                Ok(schema) => schemas.push(Arc::clone(schema)),
                Err(why) => cx.note("unchecked", *why),
            }
        }
        Ok(schemas)
    }
}

/// Checks a reply against all schemas.
fn check(text: &str, schemas: &[Arc<Schema>]) -> Result<(), Wrong> {
    let value: Value = serde_json::from_str(text).map_err(|_| Wrong { keyword: "json" })?;
    for schema in schemas {
        schema.check(&value).map_err(|keyword| Wrong { keyword })?;
    }
    Ok(())
}

/// The content of a text that has exactly one Markdown code fence; text around the fence is dropped.
fn unfenced(text: &str) -> Option<std::ops::Range<usize>> {
    let start = text.len() - text.trim_start().len();
    let body = text.trim();
    let inside = body.strip_prefix("```")?.strip_suffix("```")?;
    let line = inside.find('\n')?;
    let language = inside.get(..line)?.trim();
    if !language.is_empty() && !language.eq_ignore_ascii_case("json") || inside.contains("\n```") {
        return None;
    }
    let from = start + 3 + line + 1;
    Some(from..start + 3 + inside.len())
}

#[async_trait]
impl Plugin for SchemaGuard {
    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        if !(200..=299).contains(&cx.status()) {
            return Ok(Verdict::Next);
        }
        let schemas = self.schemas(cx)?;
        if schemas.is_empty() {
            return Ok(Verdict::Next);
        }
        let Some(body) = cx.response_body()?.cloned() else {
            return Err(PluginError::NotPossible("the answer is streamed and was not held"));
        };
        cx.note("schema", schemas.iter().map(|schema| schema.name.as_str()).collect::<Vec<_>>().join(" "));
        let media = cx.response_header("content-type");
        let events = media.is_some_and(|media| wire::sse::is_event_stream(media.as_bytes()));
        let parts = Parts::of(&body, Form::of(cx.dialect(), media, &body), events, MOST_TEXTS, |kind| kind == Kind::Content);
        let parts = parts.map_err(|error| PluginError::failed(error.to_string()))?;
        let answers = answers::of(cx.dialect(), &body, &parts);
        cx.note("answers", answers.len().to_string());
        let (mut edits, mut wrong) = (Vec::new(), Vec::new());
        for Answer { text, part } in &answers {
            let Err(found) = check(text, &schemas) else { continue };
            let inside = unfenced(text).filter(|_| self.rules.repair == Repair::Fences);
            let mended = inside.filter(|inside| text.get(inside.clone()).is_some_and(|inside| check(inside, &schemas).is_ok()));
            match (mended, part) {
                (Some(inside), Some(part)) => {
                    edits.push((*part, vec![(0..inside.start, String::new()), (inside.end..text.len(), String::new())]));
                }
                _ => wrong.push(found),
            }
        }
        if let Some(first) = wrong.first() {
            cx.note("invalid", wrong.len().to_string());
            cx.note("keyword", first.keyword);
            return Ok(Verdict::Abort(Box::new(Denial::custom(self.rules.status, MISMATCH.code, MISMATCH.message))));
        }
        if !edits.is_empty() {
            cx.note("repaired", edits.len().to_string());
            let mended = parts.rewrite(&edits).map_err(|error| PluginError::failed(error.to_string()))?;
            cx.set_response_body(mended)?;
        }
        Ok(Verdict::Next)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn only_a_text_that_is_one_fence_is_unfenced() {
        for (text, inside) in
            [("```json\n{}\n```", "{}\n"), ("\n ```\n[1]```\n", "[1]"), ("```JSON \n{\"a\":\"`\"}\n```", "{\"a\":\"`\"}\n")]
        {
            assert_eq!(text.get(unfenced(text).unwrap()), Some(inside), "{text:?}");
        }
        for text in
            ["{}", "Here: ```json\n{}\n```", "```{}```", "```python\n{}\n```", "```json\n{}\n```\nand\n```json\n{}\n```", "```", "``````"]
        {
            assert_eq!(unfenced(text), None, "{text:?}");
        }
    }
}
