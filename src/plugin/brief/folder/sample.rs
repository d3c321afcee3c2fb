//! The sample data of cases and example: a request and an answer, a configuration in which every part has something to do, and
//! what templates and external systems see of them.

use serde_json::{Map, Value, json};

use super::super::design::{Told, metadata};
use super::super::{Datum, Traffic};
use super::{Plan, asking};
use crate::wire::Endpoint;

/// The request id that the harness uses.
const REQUEST_ID: &str = "07070707070707070707070707070707";
/// The value of all metadata in the cases.
pub const STORED: &str = "enterprise";
/// The tool that the cases call.
pub const TOOL: &str = "deploy";

impl Plan<'_> {
    pub(super) fn is_mcp(&self) -> bool {
        self.design.tools || self.brief.traffic_type == [Traffic::Mcp]
    }

    pub(super) fn path(&self) -> &'static str {
        if self.is_mcp() { "/v1/mcp/tools" } else { "/v1/chat/completions" }
    }

    pub(super) fn request(&self, text: &str) -> Value {
        if self.is_mcp() {
            return json!({"path": self.path(), "body": self.call(TOOL, text)});
        }
        json!({"body": {"model": "gpt-4o", "messages": [{"role": "user", "content": text}]}})
    }

    pub(super) fn call(&self, tool: &str, text: &str) -> Value {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": {"note": text}}})
    }

    pub(super) fn response(&self, text: &str) -> Value {
        if self.is_mcp() {
            return json!({"body": {"jsonrpc": "2.0", "id": 1, "result": {"content": [{"type": "text", "text": text}]}}});
        }
        json!({"body": {"choices": [{"index": 0, "message": {"role": "assistant", "content": text}}]}})
    }

    /// The value of a template in the cases.
    pub(super) fn value_of(&self, template: &str, signalled: bool) -> Option<String> {
        let inner = template.trim_matches(['{', '}']);
        Some(match inner {
            "trace.id|request.id" | "request.id" => REQUEST_ID.to_owned(),
            "caller.team.name" => "support".to_owned(),
            "caller.user.name" => "ada".to_owned(),
            "caller.key_name" => "key-1".to_owned(),
            "organisation.name" => "acme".to_owned(),
            "model" if self.is_mcp() => return None,
            "model" => "gpt-4o".to_owned(),
            "provider" => "mock".to_owned(),
            "route" => "default".to_owned(),
            "endpoint" => self.endpoint().to_owned(),
            "tag.signals" if signalled => self.signals().first()?.0.clone(),
            "tag.signals" => return None,
            _ => STORED.to_owned(),
        })
    }

    pub(super) fn endpoint(&self) -> &'static str {
        Endpoint::of(&http::Method::POST, self.path()).0.as_str()
    }

    pub(super) fn values(&self, templates: &std::collections::BTreeMap<String, String>, signalled: bool) -> Value {
        let known = templates.iter().filter_map(|(name, template)| Some((name.clone(), json!(self.value_of(template, signalled)?))));
        Value::Object(known.collect())
    }

    /// A configuration in which every part has something to do.
    pub(super) fn case_config(&self) -> Value {
        let url = |told: &Told| format!("https://{}/v1/events", case_host(told));
        self.config_with(&url)
    }

    /// The configuration, with the addresses of external systems from `url`.
    pub(super) fn config_with(&self, url: &dyn Fn(&Told) -> String) -> Value {
        let design = self.design;
        let mut config = Map::new();
        let mut put = |key: &str, value: Value| config.insert(key.to_owned(), value);
        if design.tools {
            put("tools", json!([TOOL]));
        }
        if design.require {
            let required = design.scopes.iter().map(|scope| (format!("{{{}.plan}}", metadata(*scope)), json!([STORED])));
            put("require", Value::Object(required.collect()));
        }
        if design.uses_words() {
            put("words", json!(self.words()));
        }
        if design.uses_signals() {
            put("signals", Value::Object(self.signals().into_iter().map(|(name, words)| (name, json!(words))).collect()));
        }
        if design.reroutes {
            put("models", json!({"gpt-4o": "gpt-4o-mini"}));
        }
        if let Some(asked) = design.asked.as_ref().filter(|_| design.asks()) {
            put("ask", receiver(asked, url));
        }
        for (member, headers) in [
            ("headers", design.request.as_ref().map(|(_, side)| &side.headers)),
            ("response_headers", design.answer.as_ref().map(|side| &side.headers)),
        ] {
            if let Some(headers) = headers.filter(|headers| !headers.is_empty()) {
                put(member, json!(headers));
            }
        }
        if !design.tags.is_empty() {
            put("tags", json!(design.tags));
        }
        if let Some(told) = &design.told {
            put("deliver", receiver(told, url));
        }
        Value::Object(config)
    }

    /// The document that an external system gets in a case, as far as it is known there.
    pub(super) fn document(&self, told: &Told, text: Option<&str>, over: bool) -> Value {
        let mut document = Map::new();
        for datum in &told.leaves {
            let Some((member, _)) = asking::member(*datum, text.is_some(), over) else { continue };
            let value = match datum {
                Datum::RequestId => json!(REQUEST_ID),
                Datum::Organisation => json!("acme"),
                Datum::Team => json!("support"),
                Datum::User => json!("ada"),
                Datum::Key => json!("key-1"),
                Datum::Address => json!("192.0.2.1"),
                Datum::Route => json!("default"),
                Datum::Endpoint => json!(self.endpoint()),
                Datum::Model => {
                    if self.is_mcp() {
                        Value::Null
                    } else {
                        json!("gpt-4o")
                    }
                }
                Datum::Provider => json!("mock"),
                Datum::McpServer | Datum::McpTool => json!(self.path()),
                Datum::Tags => json!({}),
                Datum::Status => json!(200),
                Datum::Outcome => json!("complete"),
                Datum::Tokens => json!({"input": 0, "output": 0}),
                Datum::Decisions => json!([]),
                Datum::RequestContent | Datum::ResponseContent | Datum::McpArguments => json!(text),
                _ => Value::Null,
            };
            document.insert(member.to_owned(), value);
        }
        Value::Object(document)
    }
}

fn receiver(told: &Told, url: &dyn Fn(&Told) -> String) -> Value {
    match &told.secret {
        Some(secret) => json!({"url": url(told), "token": secret}),
        None => json!({"url": url(told)}),
    }
}

/// The host name of an external system in the cases.
pub fn case_host(told: &Told) -> String {
    format!("{}.example", told.name.to_ascii_lowercase().replace(['_', '.'], "-"))
}
