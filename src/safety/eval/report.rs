//! The results of an evaluation, as JSON and as a table.

use std::fmt::Write;

use serde::Serialize;

use super::tally::Line;

/// The reports for all files.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// In the order in which the files were given; a file with two formats has two reports.
    pub files: Vec<FileReport>,
}

/// The rows of one format in one file.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileReport {
    /// Name of the file, as given.
    pub file: String,
    /// The format of its rows.
    pub format: &'static str,
    /// Rows that were scored.
    pub rows: u64,
    /// Rows that were not scored: labelled as neither, or unreadable.
    pub skipped: u64,
    /// The first unreadable line and the reason; in the report of the file's first format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<String>,
    /// Bytes of scanned text.
    pub bytes: u64,
    /// Seconds of scanning.
    pub seconds: f64,
    /// Speed in 10⁶ bytes per second, on one thread.
    pub mb_per_s: f64,
    /// The figures: overall first, then for each group.
    pub lines: Vec<Line>,
}

impl Report {
    /// A table for people.
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
