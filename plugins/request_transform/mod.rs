//! Changes requests by rule: headers towards the provider, tags, members of the JSON body, model names.

use std::borrow::Cow;

use crate::plugin::prelude::*;

mod config;

use config::{Config, FieldValue, Rules};

/// The manifest, as printed by `plugins show request_transform`.
pub static MANIFEST: Manifest = Manifest {
    name: "request_transform",
    version: "1.0.0",
    author: "Odock",
    category: "transformation",
    kind: "transform",
    summary: "Sets and removes headers, tags and JSON fields of requests, and resolves model aliases.",
    gates: &[Gate::PreRoute, Gate::PreUpstream],
    styles: &[Style::Sequential],
    needs: &[Need::ReadRequest, Need::WriteRequest, Need::Headers, Need::Tags, Need::Storage(StorageScope::Organisations)],
    streams: false,
    evidence: &[
        ("model_alias", "the alias that was called and the model it stands for"),
        ("fields", "how many members of the body were set or removed"),
        ("headers", "how many headers were set or removed"),
        ("without_value", "what was not set because a placeholder had no value for this request"),
    ],
    codes: &[],
    config_schema: schema_of::<Config>,
    build: |cx| {
        let config: Config = cx.parse()?;
        Ok(Arc::new(RequestTransform { rules: config.compile(&cx.host)?, host: cx.host.clone() }))
    },
};

struct RequestTransform {
    rules: Rules,
    host: Host,
}

/// The changes to a request: all are rendered before any is made.
#[derive(Default)]
struct Changes {
    headers: Vec<(String, String)>,
    tags: Vec<(String, String)>,
    body: Option<String>,
    fields: usize,
    without_value: Vec<String>,
}

impl RequestTransform {
    fn changes(&self, cx: &View<'_>) -> Result<Changes, PluginError> {
        let mut changes = Changes::default();
        for (name, template) in &self.rules.set_headers {
            match template.render_header(cx, &self.host)? {
                Some(value) => changes.headers.push((name.clone(), value)),
                None => changes.without_value.push(format!("headers.{name}")),
            }
        }
        for (key, template) in &self.rules.tags {
            match template.render(cx, &self.host)? {
                Some(value) => changes.tags.push((key.clone(), value)),
                None => changes.without_value.push(format!("tags.{key}")),
            }
        }
        if !self.rules.set_fields.is_empty() || !self.rules.remove_fields.is_empty() {
            self.edit_body(cx, &mut changes)?;
        }
        Ok(changes)
    }

    fn edit_body(&self, cx: &View<'_>, changes: &mut Changes) -> Result<(), PluginError> {
        let body = cx.body()?;
        if body.is_empty() {
            return Ok(());
        }
        let text = std::str::from_utf8(body).ok().filter(|text| is_object(text));
        let text = text.ok_or_else(|| PluginError::failed("the body is not a JSON object"))?.trim();
        let mut body = Cow::Borrowed(text);
        for pointer in &self.rules.remove_fields {
            if let Some(new) = pointer.remove(&body) {
                body = Cow::Owned(new);
                changes.fields += 1;
            }
        }
        for (place, (pointer, value)) in self.rules.set_fields.iter().enumerate() {
            let value = match value {
                FieldValue::Json(json) => Some(json.clone()),
                FieldValue::Text(template) => template.render(cx, &self.host)?.map(|text| Value::from(text).to_string()),
            };
            match value {
                None => changes.without_value.push(format!("fields.{place}")),
                Some(value) => {
                    if let Some(new) = pointer.set(&body, &value) {
                        body = Cow::Owned(new);
                        changes.fields += 1;
                    }
                }
            }
        }
        if let Cow::Owned(body) = body {
            changes.body = Some(body);
        }
        Ok(())
    }

    fn notes(&self, cx: &View<'_>, changes: &Changes) {
        let headers = changes.headers.len() + self.rules.remove_headers.len();
        for (key, count) in [("fields", changes.fields), ("headers", headers)] {
            if count > 0 {
                cx.note(key, count.to_string());
            }
        }
        if !changes.without_value.is_empty() {
            cx.note("without_value", changes.without_value.join(" "));
        }
    }
}

fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

macro_rules! write_changes {
    ($self:ident, $cx:ident) => {{
        let changes = $self.changes($cx)?;
        $self.notes($cx, &changes);
        for name in &$self.rules.remove_headers {
            $cx.remove_header(name)?;
        }
        for (name, value) in &changes.headers {
            $cx.set_header(name, value)?;
        }
        for (key, value) in changes.tags {
            $cx.tag(key, value)?;
        }
        if let Some(body) = changes.body {
            $cx.set_body(body)?;
        }
    }};
}

#[async_trait]
impl Plugin for RequestTransform {
    async fn pre_route(&self, cx: &mut PreRoute<'_>) -> PluginResult {
        let alias = cx.model().and_then(|model| self.rules.model_alias.get_key_value(model));
        if let Some((from, to)) = alias {
            cx.note("model_alias", format!("{from}={to}"));
            cx.set_model(to.as_str())?;
        }
        write_changes!(self, cx);
        Ok(Verdict::Next)
    }

    async fn pre_upstream(&self, cx: &mut PreUpstream<'_>) -> PluginResult {
        write_changes!(self, cx);
        Ok(Verdict::Next)
    }
}
