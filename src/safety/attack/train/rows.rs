//! Labelled texts, read from JSON lines.

use serde::Deserialize;
use serde::de::Error as _;

use super::super::super::normal;
use super::super::model::{INJECTION, JAILBREAK};

/// The label of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Label {
    /// Innocent.
    Benign,
    /// An innocent system message.
    System,
    /// Prompt injection, extraction, or hidden instructions.
    Injection,
    /// A jailbreak.
    Jailbreak,
}

impl Label {
    /// Whether the label means an attack.
    pub const fn attack(self) -> bool {
        matches!(self, Self::Injection | Self::Jailbreak)
    }

    /// Whether a head learns from a row with this label: the other head's attacks are neither positive nor negative
    /// examples.
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
    /// The text, folded by `normal::fold`.
    pub text: String,
    /// The texts found under disguises by `normal::views`: scored, but not learnt from.
    pub views: Vec<String>,
    /// Its label.
    pub label: Label,
    /// Texts of one cluster are near-duplicates, and are never on both sides of a split.
    pub cluster: String,
    /// Where it comes from.
    pub source: String,
    /// Its weight in training.
    pub weight: f32,
    /// Whether it serves only training: generated or changed, it says nothing about how often real texts are misjudged.
    pub aid: bool,
}

impl Row {
    /// The fold that the row is in, by its cluster (FNV-1a, which never changes).
    pub(super) fn fold(&self, folds: usize) -> usize {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        (self.cluster.bytes().fold(0xcbf2_9ce4_8422_2325, hash) % folds as u64) as usize
    }
}

/// Why a line is not a labelled text.
#[derive(Debug, thiserror::Error)]
#[error("no labelled text: {0}")]
pub struct RowError(#[from] serde_json::Error);

/// A line as written; unknown members are ignored.
#[derive(Deserialize)]
struct Line {
    /// In rows about leaks the text is the answer.
    #[serde(alias = "response")]
    text: String,
    label: Option<i8>,
    /// Only in rows about leaks.
    system: Option<serde::de::IgnoredAny>,
    /// Only in rows about personal data.
    spans: Option<serde::de::IgnoredAny>,
    /// Only in rows about values and credentials.
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
    /// Id of the row from which this one was derived.
    base_id: Option<String>,
}

impl Row {
    /// Parses a line `{text, label, kind?, role?, source?, cluster?, train_ok?}`. Label 1 is an attack, 0 is none; `None`
    /// for other labels and for `train_ok: false`. A kind that begins with `jailbreak` is for that head; `role: system` or
    /// a kind that ends with `sysprompt` marks a system message.
    ///
    /// Labelled rows for other questions (recognised by the same fields as in `safety eval`) are innocent texts about
    /// personal data, credentials, or answers without a leak. They are learnt from as such, but are not used to calibrate
    /// how often prompts are taken for attacks.
    ///
    /// # Errors
    /// When the line is not such an object.
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

/// The weight of a text that was written for another question.
const OTHER: f32 = 0.25;

/// A text folded, and the texts found under its disguises.
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
