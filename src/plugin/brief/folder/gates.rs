//! The generated methods for the gates.

use std::fmt::Write as _;

use super::super::design::Side;
use super::Plan;
use crate::gate::Gate;

impl Plan<'_> {
    /// Writes the trait implementation, with one method per gate.
    pub(super) fn plugin(&self, code: &mut String) {
        let design = self.design;
        self.rules(code);
        code.push_str("}\n\n");
        let _ = write!(code, "#[async_trait]\nimpl Plugin for {} {{\n", self.type_name());
        let mut methods = Vec::new();
        if let Some((gate, side)) = &design.request {
            methods.push(self.request_method(*gate, side));
        }
        if let Some(side) = &design.answer {
            methods.push(self.answer_method(side));
        }
        if design.told.is_some() {
            methods.push(self.deliver_methods());
        } else if design.notes_end {
            methods.push("    async fn post_response(&self, cx: &PostResponse<'_>) -> Result<(), PluginError> {\n        cx.note(\"end\", cx.outcome().end.as_str());\n        Ok(())\n    }\n".to_owned());
        }
        code.push_str(&methods.join("\n"));
        code.push_str("}\n");
    }

    /// Writes the methods of the rules that decide.
    fn rules(&self, code: &mut String) {
        let design = self.design;
        if design.refuses() {
            code.push_str(
                "\n    fn refuse(&self) -> Verdict {\n        let Config { status, code, message, .. } = &self.config;\n        Verdict::Abort(Box::new(Denial::custom(*status, code, message)))\n    }\n",
            );
        }
        if design.tools {
            code.push_str(TOOLS);
        }
        if design.require {
            code.push_str(REQUIRE);
        }
        if design.hours {
            code.push_str(HOURS);
        }
        if design.uses_signals() {
            code.push_str(SIGNALS);
        }
        if self.attaches() {
            code.push_str(RENDERED);
        }
    }

    fn request_method(&self, gate: Gate, side: &Side) -> String {
        let design = self.design;
        let (method, view) = if gate == Gate::PreRoute { ("pre_route", "PreRoute") } else { ("pre_upstream", "PreUpstream") };
        let mut body = String::new();
        if design.tools {
            body.push_str("        if !self.concerns(cx.body()?) {\n            return Ok(Verdict::Next);\n        }\n");
        }
        if design.reroutes {
            body.push_str(
                "        if let Some((from, to)) = cx.model().and_then(|model| self.config.models.get_key_value(model)) {\n            cx.note(\"model\", format!(\"{from}={to}\"));\n            cx.set_model(to.as_str())?;\n        }\n",
            );
        }
        if design.require {
            body.push_str("        if let Some(rule) = self.missing(cx)? {\n            cx.note(\"rule\", rule);\n            return Ok(self.refuse());\n        }\n");
        }
        if design.hours {
            body.push_str("        if !self.is_open() {\n            cx.note(\"rule\", \"hours\");\n            return Ok(self.refuse());\n        }\n");
        }
        self.content_steps(&mut body, side, "cx.body()?", "cx.set_body");
        self.attach_steps(&mut body, &side.headers, "headers", "cx.set_header", true);
        let used = if body.is_empty() { "_cx" } else { "cx" };
        format!("    async fn {method}(&self, {used}: &mut {view}<'_>) -> PluginResult {{\n{body}        Ok(Verdict::Next)\n    }}\n")
    }

    fn answer_method(&self, side: &Side) -> String {
        let mut body = String::new();
        if side.reads() {
            body.push_str("        let Some(answer) = cx.response_body()?.cloned() else { return Ok(Verdict::Next) };\n");
        }
        self.content_steps(&mut body, side, "&answer", "cx.set_response_body");
        self.attach_steps(&mut body, &side.headers, "response_headers", "cx.set_response_header", self.design.request.is_none());
        format!(
            "    async fn post_upstream(&self, cx: &mut PostUpstream<'_>) -> PluginResult {{\n{body}        Ok(Verdict::Next)\n    }}\n"
        )
    }

    /// Writes words, signals, replacement and question, in that order, so that nothing is asked for a refused request.
    fn content_steps(&self, body: &mut String, side: &Side, from: &str, set: &str) {
        if side.reads() {
            let head = if from == "&answer" { "cx.response_header" } else { "cx.header" };
            let _ = writeln!(body, "        let parts = texts(cx, {from}, {head}(\"content-type\"))?;");
        }
        if side.words {
            body.push_str(
                "        if self.words.is_match(&said(&parts)) {\n            cx.note(\"rule\", \"words\");\n            return Ok(self.refuse());\n        }\n",
            );
        }
        if side.signals {
            body.push_str("        let found = self.noticed(&said(&parts));\n        if !found.is_empty() {\n");
            body.push_str("            cx.note(\"signals\", found.iter().map(|(name, times)| format!(\"{name}={times}\")).collect::<Vec<_>>().join(\" \"));\n");
            if self.design.tags_signals {
                body.push_str("            cx.tag(\"signals\", found.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(\"+\"))?;\n");
            }
            body.push_str("        }\n");
        }
        if side.replaces {
            let _ = write!(
                body,
                "        if let Some((body, count)) = replaced(&parts, &self.words, &self.config.replacement)? {{\n            cx.note(\"replaced\", count.to_string());\n            {set}(body)?;\n        }}\n"
            );
        }
        if side.asks {
            let text = if side.tells_text { "Some(said(&parts))".to_owned() } else { "None".to_owned() };
            let text = if self.tells_any_text() { format!(", {text}") } else { String::new() };
            if self.design.asked.as_ref().is_some_and(|asked| asked.informs) {
                let _ = write!(
                    body,
                    "        for (key, value) in self.ask(cx{text}).await? {{\n            cx.tag(key, value)?;\n        }}\n"
                );
            } else {
                let _ = write!(body, "        if !self.ask(cx{text}).await? {{\n            return Ok(self.refuse());\n        }}\n");
            }
        }
    }

    pub(super) fn tells_any_text(&self) -> bool {
        self.design.sides().any(|side| side.tells_text)
    }

    fn attach_steps(&self, body: &mut String, headers: &std::collections::BTreeMap<String, String>, member: &str, set: &str, tags: bool) {
        let tags = tags && !self.design.tags.is_empty();
        if headers.is_empty() && !tags {
            return;
        }
        if !headers.is_empty() {
            let _ = writeln!(body, "        let headers = self.rendered(&self.{member}, cx)?;");
        }
        if tags {
            body.push_str("        let tags = self.rendered(&self.tags, cx)?;\n");
        }
        let count = match (headers.is_empty(), tags) {
            (false, true) => "headers.len() + tags.len()",
            (false, false) => "headers.len()",
            _ => "tags.len()",
        };
        let _ = writeln!(body, "        cx.note(\"set\", ({count}).to_string());");
        if !count.contains('+') {
            *body = body.replace(&format!("({count}).to_string()"), &format!("{count}.to_string()"));
        }
        if !headers.is_empty() {
            let _ = write!(body, "        for (name, value) in &headers {{\n            {set}(name, value)?;\n        }}\n");
        }
        if tags {
            body.push_str("        for (name, value) in tags {\n            cx.tag(name, value)?;\n        }\n");
        }
    }
}

const TOOLS: &str = r#"
    /// Whether the request calls a tool it is about.
    fn concerns(&self, body: &Bytes) -> bool {
        if self.config.tools.is_empty() {
            return true;
        }
        let call: Value = serde_json::from_slice(body).unwrap_or_default();
        let tool = call.pointer("/params/name").and_then(Value::as_str).unwrap_or_default();
        call.get("method").and_then(Value::as_str) == Some("tools/call") && self.config.tools.iter().any(|known| known == tool)
    }
"#;

const REQUIRE: &str = r#"
    /// The first thing the caller must have and has not.
    fn missing(&self, cx: &View<'_>) -> Result<Option<String>, PluginError> {
        for (place, (template, values)) in self.require.iter().enumerate() {
            let value = template.render(cx, &self.host)?;
            if !value.is_some_and(|value| values.contains(&value)) {
                return Ok(Some(format!("require.{place}")));
            }
        }
        Ok(None)
    }
"#;

const HOURS: &str = r#"
    fn is_open(&self) -> bool {
        let since = self.host.now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (self.config.from_hour..self.config.until_hour).contains(&(since.as_secs() / 3600 % 24))
    }
"#;

const SIGNALS: &str = r#"
    /// The signals that occur, and how often.
    fn noticed(&self, text: &str) -> Vec<(&str, usize)> {
        let counted = self.signals.iter().map(|(name, words)| (name.as_str(), words.find_iter(text).count()));
        counted.filter(|(_, times)| *times > 0).collect()
    }
"#;

const RENDERED: &str = r#"
    /// What has a value for this request; what has none, or one that no head can carry, is noted.
    fn rendered<'t>(&self, templates: &'t [(String, Template)], cx: &View<'_>) -> Result<Vec<(&'t str, String)>, PluginError> {
        let mut values = Vec::new();
        let mut without = Vec::new();
        for (name, template) in templates {
            let value = template.render(cx, &self.host)?.filter(|value| value.bytes().all(|b| (0x20..0x7f).contains(&b)));
            match value {
                Some(value) => values.push((name.as_str(), value)),
                None => without.push(name.as_str()),
            }
        }
        if !without.is_empty() {
            cx.note("without_value", without.join(" "));
        }
        Ok(values)
    }
"#;
