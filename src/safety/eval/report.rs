//! What an evaluation came to, as JSON and as a table.

use std::fmt::Write;

use serde::Serialize;

use super::tally::Line;

/// All files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Each file, in the order they were given; a file of two formats is there twice.
    pub files: Vec<FileReport>,
}

/// The rows of one format in one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileReport {
    /// As it was given.
    pub file: String,
    /// What its rows ask.
    pub format: &'static str,
    /// Rows that were scored.
    pub rows: u64,
    /// Rows that were not: labelled as neither, or not readable.
    pub skipped: u64,
    /// The first line that could not be read, and why; the report of a file's first format has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Bytes of text that were looked at.
    pub bytes: u64,
    /// Seconds that looking took.
    pub seconds: f64,
    /// 10⁶ bytes a second, on one thread.
    pub mb_per_s: f64,
    /// The whole first, then every group.
    pub lines: Vec<Line>,
}

impl Report {
    /// For people.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for file in &self.files {
            let _ = writeln!(
                text,
                "{}: {}, {} rows ({} not scored), {:.1} MB/s",
                file.file, file.format, file.rows, file.skipped, file.mb_per_s
            );
            let _ = writeln!(
                text,
                "  {:<10} {:<28} {:>7} {:>7} {:>7} {:>7} {:>10} {:>7} {:>7} {:>7}",
                "by", "name", "found", "missed", "false", "quiet", "precision", "recall", "F1", "FPR"
            );
            for line in &file.lines {
                let name: String = line.name.chars().take(28).collect();
                let _ = writeln!(
                    text,
                    "  {:<10} {name:<28} {:>7} {:>7} {:>7} {:>7} {:>10} {:>7} {:>7} {:>7}",
                    line.by,
                    line.tp,
                    line.missed,
                    line.fp,
                    line.tn,
                    figure(line.precision),
                    figure(line.recall),
                    figure(line.f1),
                    figure(line.false_positive_rate)
                );
            }
            text.push('\n');
        }
        text
    }
}

fn figure(share: Option<f64>) -> String {
    share.map_or_else(|| "-".to_owned(), |share| format!("{share:.4}"))
}
