//! The generated `mod.rs`: manifest, configuration and build. The methods for the gates are in [`super::gates`], the calls of
//! external systems in [`super::asking`].

use std::fmt::Write as _;

use super::{Plan, literal};
use crate::gate::{Gate, Style};
use crate::plugin::{Need, StorageScope};

impl Plan<'_> {
    pub(super) fn code(&self) -> String {
        let mut code = format!(
            "//! {}\n//!\n//! Begun by `odock-edge plugins new` from `brief.yaml`; from here on it is its owner's.\n\nuse odock_edge::plugin::prelude::*;\n\n",
            self.summary()
        );
        self.refusal(&mut code);
        self.manifest(&mut code);
        self.config(&mut code);
        self.instance(&mut code);
        self.questions(&mut code);
        self.plugin(&mut code);
        self.readers(&mut code);
        code
    }

    fn kind(&self) -> &'static str {
        let design = self.design;
        match () {
            () if design.refuses() => "policy",
            () if design.sides().any(|side| side.replaces) || design.reroutes => "transform",
            () if design.told.is_some() => "delivery",
            () if !design.tags.is_empty() || design.sides().any(|side| !side.headers.is_empty()) => "enrichment",
            () => "audit",
        }
    }

    /// The notes that the plugin leaves in evidence: key and meaning.
    pub(super) fn notes(&self) -> Vec<(&'static str, &'static str)> {
        let design = self.design;
        let all = [
            ("rule", "which rule refused", design.require || design.hours || design.sides().any(|side| side.words)),
            ("answer", "what the system that was asked said", design.asks()),
            ("signals", "the signals and how often each was found, never the words around them", design.uses_signals()),
            ("replaced", "how many texts were changed", design.sides().any(|side| side.replaces)),
            ("model", "the model that was asked for and the one chosen", design.reroutes),
            ("set", "how many headers and tags were set", self.attaches()),
            ("without_value", "what was not set because it has no value for this request", self.attaches()),
            ("end", "how the request ended", design.notes_end),
        ];
        all.into_iter().filter(|(_, _, used)| *used).map(|(key, meaning, _)| (key, meaning)).collect()
    }

    pub(super) fn attaches(&self) -> bool {
        !self.design.tags.is_empty() || self.design.sides().any(|side| !side.headers.is_empty())
    }

    /// Writes the code of its refusals, with the default status and text.
    fn refusal(&self, code: &mut String) {
        if !self.design.refuses() {
            return;
        }
        let whom = self.brief.owner.as_deref().unwrap_or("the operator of the gateway");
        let _ = write!(
            code,
            "/// Its refusals, where the configuration says nothing else.\nconst REFUSED: Code = Code {{\n    code: {},\n    status: {},\n    message: {},\n    meaning: {},\n    remedy: {},\n}};\n\n",
            literal(&self.refusal_code()),
            self.status(),
            literal(&self.message()),
            literal(&self.summary()),
            literal(&format!("Ask {whom}; the evidence record of the request id has what `{}` noted.", self.brief.name)),
        );
    }

    fn manifest(&self, code: &mut String) {
        let gates: Vec<&str> = self.design.places.iter().map(|place| gate_name(place.gate)).collect();
        let mut styles: Vec<&str> = Vec::new();
        for style in self.design.places.iter().map(|place| style_name(place.style)) {
            if !styles.contains(&style) {
                styles.push(style);
            }
        }
        let needs: Vec<String> = self.design.needs.iter().map(|need| need_name(*need)).collect();
        let _ = write!(
            code,
            "/// What `plugins show {name}` prints.\npub static MANIFEST: Manifest = Manifest {{\n    name: \"{name}\",\n    version: \"0.1.0\",\n    author: {author},\n    category: \"custom\",\n    kind: \"{kind}\",\n    summary: {summary},\n    gates: &[{gates}],\n    styles: &[{styles}],\n    needs: &[{needs}],\n    streams: false,\n",
            name = self.brief.name,
            author = literal(self.owner()),
            kind = self.kind(),
            summary = literal(&self.summary()),
            gates = gates.join(", "),
            styles = styles.join(", "),
            needs = needs.join(", "),
        );
        let notes: Vec<String> = self.notes().iter().map(|(key, meaning)| format!("({}, {})", literal(key), literal(meaning))).collect();
        code.push_str(&fitted("    evidence: &[", &notes, "],", ""));
        let _ = write!(
            code,
            "    codes: &[{}],\n    config_schema: schema_of::<Config>,\n    build: |cx| Ok(Arc::new({}::build(cx.parse()?, cx.host.clone())?)),\n}};\n\n",
            if self.design.refuses() { "REFUSED" } else { "" },
            self.type_name()
        );
    }

    fn config(&self, code: &mut String) {
        let design = self.design;
        let maps = design.require || self.attaches() || design.reroutes || design.uses_signals();
        if maps {
            *code = code.replace(
                "use odock_edge::plugin::prelude::*;\n",
                "use std::collections::BTreeMap;\n\nuse odock_edge::plugin::prelude::*;\n",
            );
        }
        let _ = write!(
            code,
            "/// Configuration of `{}`.\n#[derive(Debug, Deserialize, JsonSchema)]\n#[serde(default, deny_unknown_fields)]\nstruct Config {{\n",
            self.brief.name
        );
        let mut defaults: Vec<(String, String)> = Vec::new();
        let mut field = |doc: &str, name: &str, sort: &str, default: &str| {
            let _ = write!(code, "    /// {doc}\n    {name}: {sort},\n");
            defaults.push((name.to_owned(), default.to_owned()));
        };
        if design.tools {
            field("The tools whose calls it is about; every request without.", "tools", "Vec<String>", "Vec::new()");
        }
        if design.require {
            field(
                "Templates with the values one of which each must have, such as `\"{organisation.metadata.plan}\": [enterprise]`.",
                "require",
                "BTreeMap<String, Vec<String>>",
                "BTreeMap::new()",
            );
        }
        if design.hours {
            field("The first hour of the day in which it lets requests pass, UTC.", "from_hour", "u64", "0");
            field("The hour after the last.", "until_hour", "u64", "24");
        }
        if design.uses_words() {
            let doc = if design.sides().any(|side| side.words) {
                "The words that must not occur: whole words, upper and lower case alike."
            } else {
                "The words that are replaced: whole words, upper and lower case alike."
            };
            field(doc, "words", "Vec<String>", "Vec::new()");
        }
        if design.sides().any(|side| side.replaces) {
            field("What stands in their place.", "replacement", "String", "\"[removed]\".to_owned()");
        }
        if design.uses_signals() {
            field("Signals, each with the words that stand for it.", "signals", "BTreeMap<String, Vec<String>>", "BTreeMap::new()");
        }
        if design.reroutes {
            field(
                "The model that is asked for, and the one that is taken in its place.",
                "models",
                "BTreeMap<String, String>",
                "BTreeMap::new()",
            );
        }
        if design.asks() {
            field("The system that is asked.", "ask", "Option<Receiver>", "None");
        }
        if design.request.as_ref().is_some_and(|(_, side)| !side.headers.is_empty()) {
            field(
                "Headers towards the provider, with templates of their values.",
                "headers",
                "BTreeMap<String, String>",
                "BTreeMap::new()",
            );
        }
        if design.answer.as_ref().is_some_and(|side| !side.headers.is_empty()) {
            field(
                "Headers towards the caller, with templates of their values.",
                "response_headers",
                "BTreeMap<String, String>",
                "BTreeMap::new()",
            );
        }
        if !design.tags.is_empty() {
            field("Tags, with templates of their values.", "tags", "BTreeMap<String, String>", "BTreeMap::new()");
        }
        if design.told.is_some() {
            field("The system that is told.", "deliver", "Option<Receiver>", "None");
        }
        if design.refuses() {
            field("Status of a refusal.", "status", "u16", "REFUSED.status");
            field("Code of a refusal.", "code", "String", "REFUSED.code.to_owned()");
            field("Text of a refusal.", "message", "String", "REFUSED.message.to_owned()");
        }
        code.push_str("}\n\n");
        let derived = ["Vec::new()", "BTreeMap::new()", "None"];
        if defaults.iter().all(|(_, default)| derived.contains(&default.as_str())) {
            *code = code.replace("#[derive(Debug, Deserialize, JsonSchema)]", "#[derive(Debug, Default, Deserialize, JsonSchema)]");
            *code = code.replace("struct Config {\n}\n", "struct Config {}\n");
            return;
        }
        let defaults: Vec<String> = defaults.into_iter().map(|(name, default)| format!("{name}: {default}")).collect();
        let made = fitted("        Self {", &defaults, "}", " ");
        let _ = write!(code, "impl Default for Config {{\n    fn default() -> Self {{\n{made}    }}\n}}\n\n");
    }

    /// Writes the plugin's type and how it is built.
    fn instance(&self, code: &mut String) {
        let design = self.design;
        let name = self.type_name();
        let request_headers = design.request.as_ref().is_some_and(|(_, side)| !side.headers.is_empty());
        let answer_headers = design.answer.as_ref().is_some_and(|side| !side.headers.is_empty());
        let keeps_config = self.keeps_config();
        let mut fields = String::new();
        let mut steps = String::new();
        let mut members: Vec<&str> = Vec::new();
        if design.require {
            fields.push_str("    require: Vec<(Template, Vec<String>)>,\n");
            steps.push_str("        if config.require.is_empty() {\n            return Err(BuildError::at(\"require\", \"names nothing that a caller must have\"));\n        }\n        let mut require = Vec::new();\n        for (text, values) in &config.require {\n            require.push((compiled(&format!(\"require.{text}\"), text, &host)?, values.clone()));\n        }\n");
            members.push("require");
        }
        if design.hours {
            steps.push_str("        if config.from_hour > 23 || config.until_hour > 24 {\n            return Err(BuildError::at(\"until_hour\", \"hours are 0 to 23, and 24 for the end of the day\"));\n        }\n");
        }
        if design.uses_words() {
            fields.push_str("    words: regex::Regex,\n");
            steps.push_str("        let words = any_of(\"words\", &config.words)?;\n");
            members.push("words");
        }
        if design.uses_signals() {
            fields.push_str("    signals: Vec<(String, regex::Regex)>,\n");
            steps.push_str("        if config.signals.is_empty() {\n            return Err(BuildError::at(\"signals\", \"names no signal\"));\n        }\n        let mut signals = Vec::new();\n        for (name, words) in &config.signals {\n            signals.push((name.clone(), any_of(&format!(\"signals.{name}\"), words)?));\n        }\n");
            members.push("signals");
        }
        for (used, member) in [(request_headers, "headers"), (answer_headers, "response_headers"), (!design.tags.is_empty(), "tags")] {
            if used {
                let _ = writeln!(fields, "    {member}: Vec<(String, Template)>,");
                let _ = writeln!(steps, "        let {member} = templates(\"{member}\", &config.{member}, &host)?;");
                members.push(member);
            }
        }
        for (used, member) in [(design.asks(), "ask"), (design.told.is_some(), "deliver")] {
            if used {
                let _ = writeln!(fields, "    {member}: Destination,");
                let _ = writeln!(
                    steps,
                    "        let {member} = config.{member}.as_ref().ok_or_else(|| BuildError::at(\"{member}\", \"names no system\"))?.open(\"{member}\", &host)?;"
                );
                members.push(member);
            }
        }
        let host = design.require || design.hours || self.attaches() || design.asks() || design.told.is_some();
        let host_name = if host { "host" } else { "_host" };
        if !host {
            steps = steps.replace("&host", "&_host");
        }
        let _ = write!(
            code,
            "struct {name} {{\n{}{fields}{}}}\n\n",
            if keeps_config { "    config: Config,\n" } else { "" },
            if host { "    host: Host,\n" } else { "" }
        );
        let mut made: Vec<&str> = Vec::new();
        if keeps_config {
            made.push("config");
        }
        made.extend(members);
        if host {
            made.push("host");
        }
        let config_name = if keeps_config || steps.contains("config.") { "config" } else { "_config" };
        let made = if made.is_empty() { "Self {}".to_owned() } else { format!("Self {{ {} }}", made.join(", ")) };
        let _ = write!(
            code,
            "impl {name} {{\n    fn build({config_name}: Config, {host_name}: Host) -> Result<Self, BuildError> {{\n{steps}        Ok({made})\n    }}\n"
        );
    }

    /// Whether the methods for the gates use the configuration.
    fn keeps_config(&self) -> bool {
        let design = self.design;
        design.tools || design.hours || design.sides().any(|side| side.replaces) || design.reroutes || design.refuses()
    }

    /// Writes the free functions that its parts need.
    fn readers(&self, code: &mut String) {
        let design = self.design;
        if design.require || self.attaches() {
            code.push_str(COMPILED);
        }
        if self.attaches() {
            code.push_str(TEMPLATES);
        }
        if design.uses_words() || design.uses_signals() {
            code.push_str(ANY_OF);
        }
        if design.reads_text() {
            code.push_str(TEXTS);
        }
        if design.sides().any(|side| side.words || side.signals || side.tells_text) {
            code.push_str(SAID);
        }
        if design.sides().any(|side| side.replaces) {
            code.push_str(REPLACED);
        }
    }
}

const COMPILED: &str = r#"
fn compiled(at: &str, text: &str, host: &Host) -> Result<Template, BuildError> {
    Template::compile(text, host).map_err(|why| BuildError::at(at, why))
}
"#;

const TEMPLATES: &str = r#"
fn templates(at: &str, texts: &BTreeMap<String, String>, host: &Host) -> Result<Vec<(String, Template)>, BuildError> {
    texts.iter().map(|(name, text)| Ok((name.clone(), compiled(&format!("{at}.{name}"), text, host)?))).collect()
}
"#;

const ANY_OF: &str = r#"
/// Any of these words, as whole words.
fn any_of(at: &str, words: &[String]) -> Result<regex::Regex, BuildError> {
    let words: Vec<String> = words.iter().map(|word| regex::escape(word.trim())).filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        return Err(BuildError::at(at, "names no word"));
    }
    let pattern = format!(r"(?i)\b(?:{})\b", words.join("|"));
    regex::Regex::new(&pattern).map_err(|why| BuildError::at(at, why.to_string()))
}
"#;

const TEXTS: &str = r#"
/// The texts of a body: of JSON, of plain text, or of a stream that was held.
fn texts(cx: &View<'_>, body: &Bytes, media: Option<&str>) -> Result<wire::Parts, PluginError> {
    let events = media.is_some_and(|media| wire::sse::is_event_stream(media.as_bytes()));
    let form = wire::Form::of(cx.dialect(), media, body);
    let parts = wire::Parts::of(body, form, events, 16_384, |kind| kind != wire::Kind::Structural);
    parts.map_err(|why| PluginError::failed(why.to_string()))
}
"#;

const SAID: &str = r#"
/// All of it, one text a line.
fn said(parts: &wire::Parts) -> String {
    parts.parts.iter().map(|part| part.text.as_str()).collect::<Vec<_>>().join("\n")
}
"#;

const REPLACED: &str = r#"
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
"#;

/// On one line if that fits, otherwise with one item per line.
fn fitted(head: &str, items: &[String], tail: &str, pad: &str) -> String {
    let line = match items.is_empty() {
        true => format!("{head}{tail}"),
        false => format!("{head}{pad}{}{pad}{tail}", items.join(", ")),
    };
    if line.len() <= 140 {
        return line + "\n";
    }
    let indent = head.len() - head.trim_start().len();
    let items: String = items.iter().map(|item| format!("{:width$}{item},\n", "", width = indent + 4)).collect();
    format!("{head}\n{items}{:indent$}{tail}\n", "")
}

pub fn gate_name(gate: Gate) -> &'static str {
    match gate {
        Gate::PreRoute => "Gate::PreRoute",
        Gate::PreUpstream => "Gate::PreUpstream",
        Gate::PostUpstream => "Gate::PostUpstream",
        Gate::PostResponse => "Gate::PostResponse",
    }
}

fn style_name(style: Style) -> &'static str {
    match style {
        Style::Sequential => "Style::Sequential",
        Style::Parallel => "Style::Parallel",
        Style::Background => "Style::Background",
    }
}

fn need_name(need: Need) -> String {
    let scope = |scope: StorageScope| match scope {
        StorageScope::Teams => "Teams",
        StorageScope::Users => "Users",
        _ => "Organisations",
    };
    match need {
        Need::ReadRequest => "Need::ReadRequest".into(),
        Need::WriteRequest => "Need::WriteRequest".into(),
        Need::ReadResponse => "Need::ReadResponse".into(),
        Need::WriteResponse => "Need::WriteResponse".into(),
        Need::Block => "Need::Block".into(),
        Need::Tags => "Need::Tags".into(),
        Need::Headers => "Need::Headers".into(),
        Need::Network => "Need::Network".into(),
        Need::Secrets => "Need::Secrets".into(),
        Need::Storage(group) => format!("Need::Storage(StorageScope::{})", scope(group)),
        Need::Deliver => "Need::Deliver".into(),
        _ => "Need::Background".into(),
    }
}
