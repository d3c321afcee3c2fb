//! Labels each request with its origin (tenant, project, billing, trace): as tags for evidence and usage, as headers and
//! metadata towards the provider, and as headers towards the caller.

use std::borrow::Cow;

use crate::plugin::prelude::*;

mod config;

use config::{Config, Existing, Member, Rules};

/// The manifest, as printed by `plugins show request_enrichment`.
pub static MANIFEST: Manifest = Manifest {
    name: "request_enrichment",
    version: "1.0.0",
    author: "Odock",
    category: "enrichment",
    kind: "transform",
    summary: "Adds tenant, project, billing and trace metadata: tags, headers to the provider and the caller, members of the body.",
    gates: &[Gate::PreRoute, Gate::PreUpstream, Gate::PostUpstream],
    styles: &[Style::Sequential],
    needs: &[
        Need::ReadRequest,
        Need::WriteRequest,
        Need::Headers,
        Need::Tags,
        Need::Storage(StorageScope::Organisations),
        Need::Storage(StorageScope::Teams),
        Need::Storage(StorageScope::Users),
        Need::Storage(StorageScope::Models),
    ],
    // Only the head of the answer is changed, so streams pass.
    streams: false,
    evidence: &[
        ("added", "how many tags, headers and members were added"),
        ("kept", "names that were left as they were, because the caller or an earlier step had said something there"),
        ("without_value", "names that were left out because a placeholder had no value for this request"),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| Ok(Arc::new(RequestEnrichment { rules: cx.parse::<Config>()?.compile(&cx.host)?, host: cx.host.clone() })),
};

struct RequestEnrichment {
    rules: Rules,
    host: Host,
}

/// What was added, by name and never by value.
#[derive(Default)]
struct Tally {
    added: usize,
    kept: Vec<String>,
    without_value: Vec<String>,
}

impl Tally {
    fn tell(self, cx: &View<'_>) {
        if self.added > 0 {
            cx.note("added", self.added.to_string());
        }
        for (key, names) in [("kept", self.kept), ("without_value", self.without_value)] {
            if !names.is_empty() {
                cx.note(key, names.join(" "));
            }
        }
    }
}

impl RequestEnrichment {
    /// The value of an entry, unless there already is one or its facts are unknown.
    fn value(
        &self,
        cx: &View<'_>,
        name: String,
        template: &Template,
        taken: bool,
        tally: &mut Tally,
    ) -> Result<Option<String>, PluginError> {
        if taken && self.rules.existing == Existing::Keep {
            tally.kept.push(name);
            return Ok(None);
        }
        let value = template.render(cx, &self.host)?;
        match &value {
            Some(_) => tally.added += 1,
            None => tally.without_value.push(name),
        }
        Ok(value)
    }

    fn tags(&self, cx: &View<'_>, tally: &mut Tally) -> Result<Vec<(String, String)>, PluginError> {
        let mut tags = Vec::with_capacity(self.rules.tags.len());
        for (key, template) in &self.rules.tags {
            let taken = cx.tags().iter().any(|(known, _)| known == key);
            if let Some(value) = self.value(cx, format!("tags.{key}"), template, taken, tally)? {
                tags.push((key.clone(), value));
            }
        }
        Ok(tags)
    }

    fn headers(
        &self,
        cx: &View<'_>,
        kind: &str,
        headers: &[(String, Template)],
        taken: impl Fn(&str) -> bool,
        tally: &mut Tally,
    ) -> Result<Vec<(String, String)>, PluginError> {
        let mut out = Vec::with_capacity(headers.len());
        for (name, template) in headers {
            if taken(name) && self.rules.existing == Existing::Keep {
                tally.kept.push(format!("{kind}.{name}"));
                continue;
            }
            match template.render_header(cx, &self.host)? {
                Some(value) => {
                    tally.added += 1;
                    out.push((name.clone(), value));
                }
                None => tally.without_value.push(format!("{kind}.{name}")),
            }
        }
        Ok(out)
    }

    /// The body with metadata, if the dialect has a place for it.
    fn body(&self, cx: &View<'_>, tally: &mut Tally) -> Result<Option<String>, PluginError> {
        let members = self.rules.members(cx.dialect(), cx.endpoint());
        if members.is_empty() {
            return Ok(None);
        }
        let body = cx.body()?;
        let text = std::str::from_utf8(body).ok().map(str::trim).filter(|text| text.starts_with('{'));
        let known = text.and_then(|text| serde_json::from_str::<Known>(text).ok());
        let (Some(text), Some(known)) = (text, known) else {
            return Err(PluginError::failed("the body is not a JSON object that takes metadata"));
        };
        let mut body = Cow::Borrowed(text);
        for Member { name, pointer, template } in members {
            if let Some(value) = self.value(cx, name.clone(), template, known.has(name), tally)?
                && let Some(new) = pointer.set(&body, &Value::from(value).to_string())
            {
                body = Cow::Owned(new);
            }
        }
        Ok(match body {
            Cow::Owned(body) => Some(body),
            Cow::Borrowed(_) => None,
        })
    }
}

/// The members of a body that take metadata.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Known {
    metadata: Option<serde_json::Map<String, Value>>,
    user: Option<Value>,
}

impl Known {
    fn has(&self, name: &str) -> bool {
        match name.strip_prefix("metadata.") {
            Some(key) => self.metadata.as_ref().is_some_and(|members| members.contains_key(key)),
            None => self.user.is_some() || self.metadata.as_ref().is_some_and(|members| members.contains_key("user_id")),
        }
    }
}

macro_rules! enrich_request {
    ($self:ident, $cx:ident) => {{
        let mut tally = Tally::default();
        let tags = $self.tags($cx, &mut tally)?;
        let headers = $self.headers($cx, "headers", &$self.rules.headers, |name| $cx.header(name).is_some(), &mut tally)?;
        let body = $self.body($cx, &mut tally)?;
        for (key, value) in tags {
            $cx.tag(key, value)?;
        }
        for (name, value) in &headers {
            $cx.set_header(name, value)?;
        }
        if let Some(body) = body {
            $cx.set_body(body)?;
        }
        tally.tell($cx);
    }};
}

#[async_trait]
impl Plugin for RequestEnrichment {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        enrich_request!(self, cx);
        Ok(Verdict::Next)
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        enrich_request!(self, cx);
        Ok(Verdict::Next)
    }

    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {
        let mut tally = Tally::default();
        let taken = |name: &str| cx.response_header(name).is_some();
        let headers = self.headers(cx, "response_headers", &self.rules.response_headers, taken, &mut tally)?;
        for (name, value) in &headers {
            cx.set_response_header(name, value)?;
        }
        tally.tell(cx);
        Ok(Verdict::Next)
    }
}
