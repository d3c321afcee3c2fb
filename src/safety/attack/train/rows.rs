//! Labelled texts, as they come in JSON lines.

use serde::Deserialize;
use serde::de::Error as _;

use super::super::super::normal;
use super::super::model::{INJECTION, JAILBREAK};

/// What a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// No attack.
    Benign,
    /// No attack, and the words of a system message.
    System,
    /// Injection, extraction, or hidden instructions.
    Injection,
    /// Jailbreak.
    Jailbreak,
}

impl Label {
    /// Whether it stands for an attack.
    pub const fn attack(self) -> bool {
        matches!(self, Self::Injection | Self::Jailbreak)
    }

    /// Whether a head learns from it: what another head looks for is neither an attack nor innocent to this one.
    pub(super) fn teaches(self, head: usize) -> bool {
        match self {
            Self::Benign | Self::System => true,
            Self::Injection => head == INJECTION,
            Self::Jailbreak => head == JAILBREAK,
        }
    }
}

/// A labelled text.
#[derive(Debug, Clone)]
pub struct Row {
    /// The text, folded as `normal::fold` does.
    pub text: String,
    /// What it says under its veils, as `normal::views` finds it: weighed, not learnt from.
    pub views: Vec<String>,
    /// What it is.
    pub label: Label,
    /// Texts of one cluster are near-duplicates and never on both sides of a split.
    pub cluster: String,
    /// Where it is from.
    pub source: String,
    /// How much it counts.
    pub weight: f32,
    /// Whether it is only there to learn from: written or changed by us, it says nothing about how often we are wrong.
    pub aid: bool,
}

impl Row {
    /// Which of so many parts it is in, by its cluster (FNV-1a, which stays the same).
    pub(super) fn fold(&self, folds: usize) -> usize {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        (self.cluster.bytes().fold(0xcbf2_9ce4_8422_2325, hash) % folds as u64) as usize
    }
}

/// A line is no labelled text.
#[derive(Debug, thiserror::Error)]
#[error("no labelled text: {0}")]
pub struct RowError(#[from] serde_json::Error);

/// A line as written; members that mean nothing here are passed over.
#[derive(Deserialize)]
struct Line {
    /// Of a row about leaks, the text is the answer.
    #[serde(alias = "response")]
    text: String,
    label: Option<i8>,
    /// Present in rows about leaks.
    system: Option<serde::de::IgnoredAny>,
    /// Present in rows about personal data.
    spans: Option<serde::de::IgnoredAny>,
    /// Present in rows about values and credentials.
    #[serde(rename = "type")]
    sort: Option<serde::de::IgnoredAny>,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    role: String,
    #[serde(default)]
    source: String,
    #[serde(default)]
    cluster: String,
    train_ok: Option<bool>,
    /// Names the row this one was made from.
    base_id: Option<String>,
}

impl Row {
    /// Reads a line `{text, label, kind?, role?, source?, cluster?, train_ok?}`: label 1 is an attack, 0 is none, and what
    /// has another label or `train_ok: false` is passed over. A kind that begins with `jailbreak` goes to that head, and
    /// `role: system` or a kind that ends with `sysprompt` says that the text is a system message.
    ///
    /// Labelled rows of other sorts (`safety eval` knows them by the same fields) are innocent texts about other things:
    /// personal data, credentials, answers without a leak. They are learnt from as such, and say nothing about how often
    /// prompts are taken for attacks.
    ///
    /// # Errors
    /// The line is not such an object.
    pub fn from_line(line: &str) -> Result<Option<Self>, RowError> {
        let line: Line = serde_json::from_str(line)?;
        if line.train_ok == Some(false) {
            return Ok(None);
        }
        if line.spans.is_some() || line.sort.is_some() || line.system.is_some() {
            if line.system.is_some() && line.label != Some(0) {
                return Ok(None);
            }
            let (text, views) = forms(&line.text);
            let cluster = if line.cluster.is_empty() { text.clone() } else { line.cluster };
            return Ok(Some(Self { text, views, label: Label::Benign, cluster, source: line.source, weight: OTHER, aid: true }));
        }
        let label = match line.label.ok_or_else(|| serde_json::Error::missing_field("label"))? {
            1 if line.kind.starts_with("jailbreak") => Label::Jailbreak,
            1 => Label::Injection,
            0 if line.role == "system" || line.kind.ends_with("sysprompt") => Label::System,
            0 => Label::Benign,
            _ => return Ok(None),
        };
        let (text, views) = forms(&line.text);
        let cluster = if line.cluster.is_empty() { text.clone() } else { line.cluster };
        Ok(Some(Self { text, views, label, cluster, source: line.source, weight: 1.0, aid: line.base_id.is_some() }))
    }
}

/// How much a text that was written down for another question counts.
const OTHER: f32 = 0.25;

/// A text folded, and what it says under its veils.
pub fn forms(raw: &str) -> (String, Vec<String>) {
    let folded = normal::fold(raw);
    let views = normal::views(raw, &folded).found.into_iter().map(|view| view.text).collect();
    (folded.text().to_owned(), views)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_what_is_passed_over() {
        let label = |line: &str| Row::from_line(line).expect("a good line").map(|row| row.label);
        assert_eq!(label(r#"{"text": "a", "label": 1, "kind": "jailbreak"}"#), Some(Label::Jailbreak));
        assert_eq!(label(r#"{"text": "a", "label": 1, "kind": "indirect", "other": 7}"#), Some(Label::Injection));
        assert_eq!(label(r#"{"text": "a", "label": 0, "kind": "benign_sysprompt"}"#), Some(Label::System));
        assert_eq!(label(r#"{"text": "a", "label": 0, "role": "system"}"#), Some(Label::System));
        assert_eq!(label(r#"{"text": "a", "label": -1}"#), None);
        assert_eq!(label(r#"{"text": "a", "label": 0, "train_ok": false}"#), None);
        assert!(Row::from_line("{}").is_err());
    }

    #[test]
    fn texts_are_folded() {
        let row = Row::from_line(r#"{"text": "IGNORE", "label": 1}"#).expect("a good line").expect("an attack");
        assert_eq!(row.text, "ignore");
    }
}
