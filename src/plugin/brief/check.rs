//! Errors in a brief that its schema cannot express.

use super::{Action, Brief, Write};
use crate::plugin::network::Target;

/// Rust keywords, which cannot be used because a plugin's folder is a module.
const KEYWORDS: [&str; 39] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else", "enum", "extern",
    "fn", "for", "if", "impl", "in", "let", "loop", "macro", "match", "mod", "move", "mut", "pub", "ref", "return", "static", "struct",
    "super", "trait", "type", "unsafe", "use", "where", "while",
];

/// Something in a brief from which no plugin can be built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flaw {
    /// Its place, such as `external_systems[0].url`.
    pub path: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// Finds everything that is wrong with the brief.
pub fn check(brief: &Brief) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let mut flaw = |path: String, message: &str, help: &str| {
        flaws.push(Flaw { path, message: message.to_owned(), help: help.to_owned() });
    };
    let lower = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    let name = brief.name.as_str();
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.bytes().all(lower) || name.len() > 48 {
        flaw("name".into(), "is not the name of a folder", "[a-z][a-z0-9_]*, at most 48 characters, such as team_headers");
    } else if KEYWORDS.contains(&name) || ["roster", "tests"].contains(&name) {
        flaw("name".into(), "is a word with a meaning of its own", "add a second word, such as team_use");
    }
    if brief.goal.split_whitespace().count() < 3 {
        flaw("goal".into(), "says too little", "one sentence: who wants what, and what happens if it is missing");
    }
    for (at, system) in brief.external_systems.iter().enumerate() {
        let here = |member: &str| format!("external_systems[{at}].{member}");
        if let Some(url) = &system.url
            && Target::parse(url).is_err()
        {
            flaw(
                here("url"),
                "is not a URL the gateway would call",
                "https://host[:port]/path, without user, escapes in the host, or fragment",
            );
        }
        if let Some(secret) = &system.secret
            && (secret.is_empty() || !secret.bytes().all(|b| lower(b) || b == b'-'))
        {
            flaw(here("secret"), "is not the name of a secret", "the name under `secrets` of the configuration, never the secret itself");
        }
        if !system.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b)) || system.name.is_empty() {
            flaw(here("name"), "is not a name", "letters, digits, `_`, `-`, `.`");
        }
    }
    for (at, write) in brief.data_fields.writes.iter().enumerate() {
        let (name, sort) = match write {
            Write::RequestHeader(name) | Write::ResponseHeader(name) => (name, "header"),
            Write::Tag(name) => (name, "tag"),
            _ => continue,
        };
        let header = sort == "header";
        let fits = |b: u8| if header { b.is_ascii_alphanumeric() || b == b'-' } else { b.is_ascii_alphanumeric() || b"_-.".contains(&b) };
        if name.len() > 64 || !name.bytes().all(fits) {
            flaw(format!("data_fields.writes[{at}]"), &format!("is not the name of a {sort}"), "letters, digits and `-`");
        } else if header && crate::plugin::view::is_the_gateways(name) {
            flaw(
                format!("data_fields.writes[{at}]"),
                "is a header of the gateway's own",
                "credentials, framing and forwarding are not a plugin's to set",
            );
        }
    }
    for (signal, words) in &brief.data_fields.words {
        if signal.is_empty() || signal.len() > 40 || !signal.bytes().all(lower) || words.iter().all(|word| word.trim().is_empty()) {
            flaw(format!("data_fields.words.{signal}"), "is not a signal", "a name of [a-z0-9_] with the words that stand for it");
        }
    }
    let visible = &brief.visible_behaviour;
    if visible.status.is_some_and(|status| !(400..=599).contains(&status)) {
        flaw("visible_behaviour.status".into(), "is not the status of a refusal", "400 to 599; 403 if in doubt");
    }
    if visible.code.as_ref().is_some_and(|code| code.is_empty() || code.len() > 64 || !code.bytes().all(lower)) {
        flaw("visible_behaviour.code".into(), "is not a code", "[a-z0-9_]+, such as approval_missing");
    }
    if !(1..=100).contains(&brief.rollout.percent) {
        flaw("rollout.percent".into(), "is not a share of keys", "1 to 100");
    }
    if brief.action_model.contains(&Action::Ask) && brief.external_systems.is_empty() {
        flaw("action_model".into(), "`ask` has nobody to ask", "name the system under external_systems");
    }
    if brief.action_model.contains(&Action::Deliver) && brief.external_systems.is_empty() {
        flaw("action_model".into(), "`deliver` has nobody to tell", "name the system under external_systems");
    }
    flaws
}
