//! The document that is sent: `{"input": {…}}`, as OPA's Data API expects it.

use super::config::Rules;
use crate::plugin::prelude::*;
use wire::{Parts, Role};

/// What is to be judged.
#[derive(Debug, Clone, Copy)]
pub enum Phase<'a> {
    /// A request on its way to the provider.
    Request { gate: Gate },
    /// An answer on its way to the caller.
    Response { status: u16, content_type: Option<&'a str> },
}

/// The texts of the body, and whether they are sent themselves or as digests.
pub struct Texts<'a> {
    pub parts: &'a Parts,
    pub content: bool,
}

/// Everything on which the ruling may depend; a cached ruling is stored under this.
pub fn input(cx: &View<'_>, rules: &Rules, phase: Phase<'_>, body: &Bytes, texts: Option<Texts<'_>>) -> Value {
    let tags: serde_json::Map<String, Value> = cx.tags().iter().map(|(key, value)| (key.clone(), value.as_str().into())).collect();
    let mut input = json!({
        "version": 1,
        "caller": cx.caller().map(Subject::of),
        "route": cx.route(),
        "endpoint": cx.endpoint().as_str(),
        "dialect": cx.dialect().as_str(),
        "method": cx.method().as_str(),
        "path": cx.path(),
        "model": cx.model(),
        "provider": cx.provider(),
        "stream": cx.streaming(),
        "client_ip": cx.client_ip(),
        "tags": tags,
        "bytes": body.len(),
    });
    match phase {
        Phase::Request { gate } => {
            input["phase"] = "request".into();
            input["gate"] = gate.as_str().into();
        }
        Phase::Response { status, content_type } => {
            input["phase"] = "response".into();
            input["gate"] = Gate::PostUpstream.as_str().into();
            input["status"] = status.into();
            input["content_type"] = content_type.into();
        }
    }
    if let Some(Texts { parts, content }) = texts {
        let texts = parts.parts.iter().map(|part| {
            let mut text = json!({
                "path": part.path,
                "role": role(part.role),
                "kind": part.kind.as_str(),
                "bytes": part.text.len(),
                "digest": rules.digester.text(part.text.as_bytes()),
            });
            if content {
                text["text"] = part.text.as_str().into();
            }
            text
        });
        input["texts"] = texts.collect();
    }
    input
}

/// Adds the request's id and the instance to the document.
pub fn with_id(mut input: Value, id: RequestId, instance: &str) -> Value {
    input["request_id"] = id.to_string().into();
    input["instance"] = instance.into();
    json!({ "input": input })
}

fn role(role: Role) -> Option<&'static str> {
    match role {
        Role::Unknown => None,
        Role::System => Some("system"),
        Role::User => Some("user"),
        Role::Assistant => Some("assistant"),
        Role::Tool => Some("tool"),
    }
}
