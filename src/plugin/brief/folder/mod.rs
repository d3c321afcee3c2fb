//! Generates the folder of a plugin for a brief: code that does what the brief asks for in its simplest correct form, cases
//! that prove it, and pages for review.

mod asking;
mod cases;
mod code;
mod flow;
mod gates;
mod pages;
mod sample;

use super::{Brief, Classification, Design};

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The path inside the folder.
    pub path: String,
    /// The contents.
    pub text: String,
}

/// All files of the folder except the brief itself, sorted by path.
pub fn folder(brief: &Brief, classification: &Classification, design: &Design) -> Vec<File> {
    let plan = Plan { brief, classification, design };
    let mut files = vec![
        plan.file("mod.rs", plan.code()),
        plan.file("README.md", plan.readme()),
        plan.file("example.yaml", plan.example()),
        plan.file("acceptance.md", plan.acceptance()),
        plan.file("rollout.md", plan.rollout()),
    ];
    files.extend(plan.cases().into_iter().map(|(name, text)| plan.file(&format!("cases/{name}.yaml"), text)));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    files
}

/// Everything from which the files are generated.
struct Plan<'a> {
    brief: &'a Brief,
    classification: &'a Classification,
    design: &'a Design,
}

impl Plan<'_> {
    fn file(&self, path: &str, text: String) -> File {
        File { path: path.to_owned(), text }
    }

    /// The name of the plugin's type: `team_headers` becomes `TeamHeaders`.
    fn type_name(&self) -> String {
        let capital = |word: &str| {
            let mut letters = word.chars();
            letters.next().map(|first| first.to_ascii_uppercase().to_string() + letters.as_str()).unwrap_or_default()
        };
        self.brief.name.split('_').map(capital).collect()
    }

    /// The goal's first sentence on one line.
    fn summary(&self) -> String {
        let goal = self.brief.goal.split_whitespace().collect::<Vec<_>>().join(" ");
        let end = goal.find(". ").map_or(goal.len(), |at| at + 1);
        let text: String = goal[..end].chars().take(160).collect();
        let text = text.trim_end_matches('.').to_owned();
        text + "."
    }

    fn status(&self) -> u16 {
        self.brief.visible_behaviour.status.unwrap_or(403)
    }

    fn refusal_code(&self) -> String {
        self.brief.visible_behaviour.code.clone().unwrap_or_else(|| format!("{}_refused", self.brief.name))
    }

    fn message(&self) -> String {
        self.brief.visible_behaviour.message.clone().unwrap_or_else(|| "a rule of this gateway refuses the request".to_owned())
    }

    fn owner(&self) -> &str {
        self.brief.owner.as_deref().unwrap_or("nobody yet")
    }

    /// The signals with their words: those of the brief, or an example.
    fn signals(&self) -> Vec<(String, Vec<String>)> {
        let words = &self.brief.data_fields.words;
        match words.is_empty() {
            false => words.iter().map(|(name, words)| (name.clone(), words.clone())).collect(),
            true => vec![("signal".to_owned(), vec!["lighthouse".to_owned()])],
        }
    }

    /// The words of all signals.
    fn words(&self) -> Vec<String> {
        self.signals().into_iter().flat_map(|(_, words)| words).filter(|word| !word.trim().is_empty()).collect()
    }
}

/// A text as a Rust literal.
fn literal(text: &str) -> String {
    let plain: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    format!("{plain:?}")
}
