//! Changes other than redaction: made if the operator permits them, otherwise a failure.

use super::config::Permit;
use super::ruling::Ruling;
use crate::plugin::prelude::*;
use wire::Pointer;

/// The changes to be made.
#[derive(Debug, Default)]
pub struct Changes {
    pub model: Option<String>,
    pub headers: Vec<(String, String)>,
    pub tags: Vec<(String, String)>,
    pub body: Option<Bytes>,
    /// Whether members of the body are changed.
    pub sets_members: bool,
    /// Number of changes, without redactions.
    pub count: usize,
}

/// Checks all changes before any is made. `redacted` is the body after redaction, if there was any.
pub fn plan(permit: &Permit, ruling: &Ruling, redacted: Option<Bytes>, body: &Bytes, may_route: bool) -> Result<Changes, PluginError> {
    let mut changes = Changes { body: redacted, ..Changes::default() };
    let Some(transform) = &ruling.transform else { return Ok(changes) };
    let refused = |what: &'static str| Err(PluginError::failed(what));
    if let Some(model) = &transform.model {
        if !permit.model || !may_route {
            return refused("the callout changes the model, which is not permitted here");
        }
        changes.model = Some(model.clone());
    }
    for (name, value) in &transform.headers {
        if !permit.headers.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return refused("the callout sets a header that is not permitted");
        }
        changes.headers.push((name.clone(), value.clone()));
    }
    for (key, value) in &transform.tags {
        if !permit.tags.contains(key) {
            return refused("the callout attaches a tag that is not permitted");
        }
        changes.tags.push((key.clone(), value.clone()));
    }
    if !transform.fields.is_empty() {
        let body = changes.body.as_ref().unwrap_or(body);
        let mut text = std::str::from_utf8(body).ok().filter(|text| text.trim_start().starts_with('{')).map(|text| text.trim().to_owned());
        for (pointer, value) in &transform.fields {
            let below = |root: &String| pointer == root || pointer.strip_prefix(root.as_str()).is_some_and(|rest| rest.starts_with('/'));
            let read = Pointer::parse(pointer).filter(|_| permit.fields.iter().any(below));
            let Some(read) = read else { return refused("the callout changes a member that is not permitted") };
            let Some(before) = &text else { return refused("the callout changes members of a body that is not a JSON object") };
            let after = if value.is_null() { read.remove(before) } else { read.set(before, &value.to_string()) };
            if after.is_some() {
                text = after;
            }
        }
        changes.sets_members = true;
        changes.body = text.map(Bytes::from);
    }
    changes.count = usize::from(changes.model.is_some()) + changes.headers.len() + changes.tags.len() + transform.fields.len();
    Ok(changes)
}
