//! YAML text to typed values, with the position of every value.
//!
//! `serde_yaml` does the typing. By itself it accepts duplicate keys in free-form maps and loses positions, so a pass over
//! the events of the same text comes first: it refuses duplicate and merge keys, tags, several documents and alias bombs,
//! bounds size and depth, and records line and column of every path.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span};
use serde::de::DeserializeOwned;

use super::diagnostic::{Diagnostic, Severity, suggestion};

/// Largest file, in bytes.
const MAX_BYTES: usize = 4 << 20;
/// Deepest nesting.
const MAX_DEPTH: usize = 32;
/// Most values, with the values behind every alias counted again.
const MAX_NODES: usize = 200_000;
/// Number of findings after which the pass stops.
const MAX_FINDINGS: usize = 50;

/// A position: line and column, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub line: usize,
    pub column: usize,
}

impl Position {
    const START: Self = Self { line: 1, column: 1 };

    fn of(span: &Span) -> Self {
        Self { line: span.start.line(), column: span.start.col() + 1 }
    }
}

/// A text with the position of every key and value in it.
#[derive(Debug, Clone)]
pub(super) struct Source {
    file: String,
    keys: HashMap<String, Position>,
    values: HashMap<String, Position>,
}

impl Source {
    /// Reads the structure of a text.
    pub(super) fn read(file: &str, text: &str) -> Result<Self, Vec<Diagnostic>> {
        let mut source = Self { file: file.to_owned(), keys: HashMap::new(), values: HashMap::new() };
        if text.len() > MAX_BYTES {
            return Err(vec![source.finding(Position::START, "", format!("the file is larger than {MAX_BYTES} bytes"))]);
        }
        let mut walk = Walk::new(&mut source);
        if let Err(stop) = walk.run(text) {
            walk.findings.push(stop);
        }
        let findings = walk.findings;
        if findings.is_empty() { Ok(source) } else { Err(findings) }
    }

    /// Types the text.
    pub(super) fn parse<T: DeserializeOwned>(&self, text: &str) -> Result<T, Diagnostic> {
        serde_yaml::from_str(text).map_err(|e| self.untyped(&e))
    }

    /// The name of the file in diagnostics.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// The position of the value at a path, or of its nearest existing parent.
    pub(super) fn position(&self, path: &str) -> Position {
        let mut path = path;
        loop {
            if let Some(at) = self.values.get(path) {
                return *at;
            }
            match parent(path) {
                Some(up) => path = up,
                None => return Position::START,
            }
        }
    }

    /// The position of the key at a path.
    pub(super) fn key_position(&self, path: &str) -> Position {
        self.keys.get(path).copied().unwrap_or_else(|| self.position(path))
    }

    fn finding(&self, at: Position, path: &str, message: String) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message,
            help: None,
        }
    }

    /// Rewrites serde_yaml's message: the path first, no quoted values, and a suggestion for misspelt names.
    fn untyped(&self, error: &serde_yaml::Error) -> Diagnostic {
        let mut text = error.to_string();
        if let Some(location) = error.location() {
            let tail = format!(" at line {} column {}", location.line(), location.column());
            text = text.replace(&tail, "");
        }
        let (path, message) = match text.split_once(": ") {
            Some((path, rest)) if self.values.contains_key(path) => (path.to_owned(), rest.to_owned()),
            _ => (String::new(), text),
        };
        let at = error.location().map_or_else(|| self.position(&path), |l| Position { line: l.line(), column: l.column() });
        let message = in_one_case(without_values(&message));
        let help = misspelt(&message);
        Diagnostic { help, ..self.finding(at, &path, message) }
    }
}

/// The path one level up.
fn parent(path: &str) -> Option<&str> {
    if path.is_empty() {
        return None;
    }
    Some(&path[..path.rfind(['.', '[']).unwrap_or(0)])
}

/// Removes quoted strings from serde's message: one may be a credential in the wrong place.
fn without_values(message: &str) -> String {
    let mut out = String::with_capacity(message.len());
    let mut rest = message;
    while let Some(start) = rest.find("string \"") {
        out.push_str(&rest[..start]);
        out.push_str("a string");
        let after = &rest[start + 8..];
        let mut escaped = false;
        let end = after.find(|c: char| {
            let hit = c == '"' && !escaped;
            escaped = c == '\\' && !escaped;
            hit
        });
        rest = end.map_or("", |e| &after[e + 1..]);
    }
    out.push_str(rest);
    out
}

/// Shortens serde's "unknown variant `x`, expected one of `a`, `A`, `b`", which lists names in both cases, to names in the
/// case of the written value.
fn in_one_case(message: String) -> String {
    let Some((head, list)) = message.split_once(", expected one of ").filter(|(head, _)| head.starts_with("unknown variant ")) else {
        return message;
    };
    let capital = |name: &str| name.contains(|c: char| c.is_ascii_uppercase());
    let wanted = capital(head.rsplit_once(' ').map_or("", |(_, written)| written));
    let mut kept: Vec<&str> = Vec::new();
    for name in list.split(", ") {
        match kept.iter_mut().find(|before| before.eq_ignore_ascii_case(name)) {
            Some(before) if capital(name) == wanted => *before = name,
            Some(_) => {}
            None => kept.push(name),
        }
    }
    format!("{head}, expected one of {}", kept.join(", "))
}

/// A suggestion from the names in serde's "unknown field `x`, expected one of `a`, `b`".
fn misspelt(message: &str) -> Option<String> {
    if !message.starts_with("unknown ") {
        return None;
    }
    let mut names = message.split('`').skip(1).step_by(2);
    let written = names.next()?;
    let known: Vec<&str> = names.collect();
    suggestion(written, known.iter().copied())
}

/// An open map or list.
enum Frame {
    Map { path: String, seen: HashSet<String>, key: Option<String>, anchor: usize, began: usize },
    List { path: String, next: usize, anchor: usize, began: usize },
}

struct Walk<'s> {
    source: &'s mut Source,
    open: Vec<Frame>,
    findings: Vec<Diagnostic>,
    /// Number of values so far, with the values behind every alias counted again.
    nodes: usize,
    /// Number of values that each anchor stands for.
    anchors: HashMap<usize, usize>,
    documents: usize,
}

impl<'s> Walk<'s> {
    fn new(source: &'s mut Source) -> Self {
        Self { source, open: Vec::new(), findings: Vec::new(), nodes: 0, anchors: HashMap::new(), documents: 0 }
    }

    fn run(&mut self, text: &str) -> Result<(), Diagnostic> {
        let mut parser = Parser::new_from_str(text);
        while let Some(event) = parser.next_event() {
            let (event, span) = event.map_err(|e| self.unreadable(&e))?;
            self.event(event, &span)?;
            if self.findings.len() >= MAX_FINDINGS {
                break;
            }
        }
        Ok(())
    }

    fn unreadable(&self, error: &ScanError) -> Diagnostic {
        let at = Position { line: error.marker().line(), column: error.marker().col() + 1 };
        self.source.finding(at, "", format!("not YAML: {}", error.info()))
    }

    fn event(&mut self, event: Event<'_>, span: &Span) -> Result<(), Diagnostic> {
        let at = Position::of(span);
        match event {
            Event::DocumentStart(_) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.source.finding(at, "", "one file holds one document".into()));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.no_tag(tag.is_some(), at);
                if self.wants_key() {
                    self.key(&text, style, at);
                } else {
                    self.value(at)?;
                    self.anchors.insert(anchor, 1);
                }
            }
            Event::Alias(id) => {
                if self.wants_key() {
                    return Err(self.source.finding(at, "", "an alias cannot be a key".into()));
                }
                let path = self.value(at)?;
                let Some(size) = self.anchors.get(&id) else {
                    return Err(self.source.finding(at, &path, "an alias cannot stand inside of its own anchor".into()));
                };
                self.nodes = self.nodes.saturating_add(*size);
                self.bounded(at)?;
            }
            Event::MappingStart(anchor, tag) => {
                self.no_tag(tag.is_some(), at);
                let path = self.collection(at)?;
                let began = self.nodes;
                self.open.push(Frame::Map { path, seen: HashSet::new(), key: None, anchor, began });
            }
            Event::SequenceStart(anchor, tag) => {
                self.no_tag(tag.is_some(), at);
                let path = self.collection(at)?;
                let began = self.nodes;
                self.open.push(Frame::List { path, next: 0, anchor, began });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                if let Some(Frame::Map { anchor, began, .. } | Frame::List { anchor, began, .. }) = self.open.pop() {
                    self.anchors.insert(anchor, self.nodes - began + 1);
                }
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn wants_key(&self) -> bool {
        matches!(self.open.last(), Some(Frame::Map { key: None, .. }))
    }

    fn no_tag(&mut self, tagged: bool, at: Position) {
        if tagged {
            let finding = self.source.finding(at, "", "tags (`!name`) mean nothing here".into());
            self.findings.push(finding);
        }
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: Position) {
        let Some(Frame::Map { path, seen, key, .. }) = self.open.last_mut() else { return };
        let full = if path.is_empty() { text.to_owned() } else { format!("{path}.{text}") };
        *key = Some(full.clone());
        if text == "<<" && style == ScalarStyle::Plain {
            let mut finding = self.source.finding(at, &full, "merge keys (`<<`) are not part of YAML 1.2 and not accepted".into());
            finding.help = Some("write the members out; an alias may stand for a whole value".into());
            self.findings.push(finding);
        } else if !seen.insert(text.to_owned()) {
            let first = self.source.key_position(&full);
            let message = format!("`{text}` is written twice, first in line {}", first.line);
            let mut finding = self.source.finding(at, &full, message);
            finding.help = Some("keep one of the two".into());
            self.findings.push(finding);
        } else {
            self.source.keys.insert(full, at);
        }
    }

    /// Begins a collection and returns its path.
    fn collection(&mut self, at: Position) -> Result<String, Diagnostic> {
        if self.wants_key() {
            return Err(self.source.finding(at, "", "a key must be a plain word".into()));
        }
        let path = self.value(at)?;
        if self.open.len() >= MAX_DEPTH {
            return Err(self.source.finding(at, &path, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        Ok(path)
    }

    /// Begins a value and returns its path.
    fn value(&mut self, at: Position) -> Result<String, Diagnostic> {
        self.nodes += 1;
        self.bounded(at)?;
        let path = match self.open.last_mut() {
            None => String::new(),
            Some(Frame::Map { key, .. }) => key.take().unwrap_or_default(),
            Some(Frame::List { path, next, .. }) => {
                *next += 1;
                format!("{path}[{}]", *next - 1)
            }
        };
        self.source.values.entry(path.clone()).or_insert(at);
        Ok(path)
    }

    fn bounded(&self, at: Position) -> Result<(), Diagnostic> {
        if self.nodes > MAX_NODES {
            return Err(self.source.finding(at, "", format!("more than {MAX_NODES} values, counting what aliases repeat")));
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        let found = Source::read("f", text).unwrap_err();
        found.iter().map(|d| format!("{}:{} {}", d.line, d.column, d.message)).collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn every_value_has_a_place() {
        let source = Source::read("f", "a:\n  - b: 1\n    c: [x, y]\n# é\n\"d\": {e: 2}\n").unwrap();
        let at = |path| (source.position(path).line, source.position(path).column);
        assert_eq!(at("a[0].b"), (2, 8));
        assert_eq!(at("a[0].c[1]"), (3, 12));
        assert_eq!(at("a[0].c[7]"), (3, 8));
        assert_eq!(at("d.e"), (5, 10));
        assert_eq!(source.key_position("d.e").column, 7);
    }

    #[test]
    fn what_serde_yaml_lets_through_is_refused() {
        assert_eq!(
            refused("a: {x: 1, x: 2}\nb: 1\nb: 2\n"),
            "1:11 `x` is written twice, first in line 1; 3:1 `b` is written twice, first in line 2"
        );
        assert!(refused("a: &a {x: 1}\nb: {<<: *a}\n").contains("2:5 merge keys"));
        assert!(refused("a: !env X\n").contains("tags"));
        assert!(refused("a: 1\n---\nb: 2\n").contains("one document"));
        assert!(refused("? [a]\n: 1\n").contains("plain word"));
        assert!(refused(&"[".repeat(40)).contains("nested deeper"));
        assert!(refused("a: &a [*a]\n").contains("own anchor"));
        assert!(refused("a: [1\n").contains("not YAML"));
    }

    #[test]
    fn alias_bombs_are_counted_before_they_go_off() {
        let mut text = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n");
        for i in 1..9 {
            let row = vec![format!("*a{}", i - 1); 10].join(",");
            text.push_str(&format!("a{i}: &a{i} [{row}]\n"));
        }
        assert!(refused(&text).contains("aliases repeat"));
    }

    #[test]
    fn messages_of_the_typing_pass_quote_no_value() {
        let text = "a: sk-secret\n";
        let source = Source::read("f", text).unwrap();
        let found = source.parse::<HashMap<String, u32>>(text).unwrap_err();
        assert_eq!((found.line, found.column, found.path.as_str()), (1, 4, "a"));
        assert_eq!(found.message, "invalid type: a string, expected u32");
    }
}
