//! The generated code that calls external systems: a question whose answer counts, or a delivery through the outbox.

use std::fmt::Write as _;

use super::super::Datum;
use super::super::design::Told;
use super::{Plan, literal};

impl Plan<'_> {
    /// Writes the method that asks, if the design has one.
    pub(super) fn questions(&self, code: &mut String) {
        let Some(asked) = self.design.asked.as_ref().filter(|_| self.design.asks()) else { return };
        let (argument, text) = if self.tells_any_text() { (", text: Option<String>", true) } else { ("", false) };
        let (sort, doc) = match asked.informs {
            true => ("Vec<(String, String)>", "what is to be attached"),
            false => ("bool", "whether the request may go on"),
        };
        let _ = write!(code, "\n    /// Asks {}: {doc}.\n", asked.name);
        let _ = writeln!(code, "    async fn ask(&self, cx: &View<'_>{argument}) -> Result<{sort}, PluginError> {{");
        code.push_str(&document(asked, text, false));
        code.push_str("        let answer = self.host.fetch(self.ask.post(document.to_string())).await?;\n");
        let _ = write!(
            code,
            "        if answer.status != 200 {{\n            return Err(PluginError::failed(format!(\"{{}} answered {{}}\", self.ask.system(), answer.status)));\n        }}\n        let answer: Value = serde_json::from_slice(&answer.body).map_err(|_| PluginError::failed(\"its answer is not JSON\"))?;\n        cx.external({}, answer.get(\"id\").and_then(Value::as_str).map(str::to_owned));\n",
            literal(&asked.name)
        );
        code.push_str(if asked.informs { INFORMED } else { DECIDED });
    }

    /// The methods that submit a delivery to the outbox and send it.
    pub(super) fn deliver_methods(&self) -> String {
        let Some(told) = &self.design.told else { return String::new() };
        let system = literal(&told.name);
        let mut code = String::from("    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {\n");
        code.push_str(&document(told, false, true));
        let _ = writeln!(
            code,
            "        let delivery = Delivery::new({system}, \"application/json\", document.to_string()).about(cx.request_id());"
        );
        let _ = writeln!(code, "        cx.external({system}, Some(self.host.deliver(delivery)?.to_string()));\n        Ok(())\n    }}\n");
        code.push_str(
            "    async fn deliver(&self, delivery: &Delivery) -> Delivered {\n        self.deliver.deliver(&self.host, delivery).await\n    }\n",
        );
        code
    }
}

const INFORMED: &str = r#"        let tags = answer.get("tags").and_then(Value::as_object).ok_or_else(|| PluginError::failed("its answer has no `tags`"))?;
        cx.note("answer", tags.len().to_string());
        Ok(tags.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect())
    }
"#;

const DECIDED: &str = r#"        // An answer that says neither is no permission.
        let allow = answer.get("allow").and_then(Value::as_bool).ok_or_else(|| PluginError::failed("its answer has no `allow`"))?;
        cx.note("answer", if allow { "allow" } else { "deny" });
        Ok(allow)
    }
"#;

/// The JSON document that is sent: these fields and no others.
fn document(told: &Told, text: bool, over: bool) -> String {
    let mut members = String::new();
    let mut seen = Vec::new();
    for datum in &told.leaves {
        let Some((member, value)) = member(*datum, text, over) else { continue };
        if !seen.contains(&member) {
            seen.push(member);
            let _ = writeln!(members, "            \"{member}\": {value},");
        }
    }
    let caller = if members.contains("caller.") { "        let caller = cx.caller();\n" } else { "" };
    format!("{caller}        let document = json!({{\n{members}        }});\n")
}

/// The member and its Rust expression for a datum; `None` if it is not known at that time or must not leave.
pub fn member(datum: Datum, text: bool, over: bool) -> Option<(&'static str, &'static str)> {
    Some(match datum {
        Datum::RequestId => ("request_id", "cx.request_id().to_string()"),
        Datum::Organisation => ("organisation", "caller.map(|caller| caller.organisation.name.to_string())"),
        Datum::Team => ("team", "caller.and_then(|caller| caller.team.as_ref()).map(|team| team.name.to_string())"),
        Datum::User => ("user", "caller.and_then(|caller| caller.user.as_ref()).map(|user| user.name.to_string())"),
        Datum::Key => ("api_key", "caller.map(|caller| caller.key_name.to_string())"),
        Datum::Address => ("client_ip", "cx.client_ip().map(|ip| ip.to_string())"),
        Datum::Route => ("route", "cx.route()"),
        Datum::Endpoint => ("endpoint", "cx.endpoint().as_str()"),
        Datum::Model => ("model", "cx.model()"),
        Datum::Provider => ("provider", "cx.provider()"),
        Datum::McpServer | Datum::McpTool if !over => ("path", "cx.path()"),
        Datum::TraceId if !over => ("trace_id", "cx.trace_id()"),
        Datum::RequestContent | Datum::ResponseContent | Datum::McpArguments if text => ("text", "text"),
        Datum::Tags if over => ("tags", "(cx.tags().iter().cloned().collect::<std::collections::BTreeMap<_, _>>())"),
        Datum::Status if over => ("status", "cx.status()"),
        Datum::Outcome if over => ("end", "cx.outcome().end.as_str()"),
        Datum::Tokens if over => ("tokens", "{\"input\": cx.outcome().usage.input, \"output\": cx.outcome().usage.output}"),
        Datum::Latency if over => ("upstream_ms", "cx.outcome().upstream_ms"),
        Datum::Decisions if over => (
            "decisions",
            "cx.executions().iter().map(|step| json!({\"plugin\": &*step.plugin, \"decision\": step.decision.as_str()})).collect::<Vec<_>>()",
        ),
        _ => return None,
    })
}
