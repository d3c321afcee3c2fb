//! Collects all findings about a configuration, with their positions.

use super::Config;
use super::diagnostic::{Diagnostic, Severity};

/// Findings about one configuration, in the order in which they were made.
pub(super) struct Problems<'c> {
    config: &'c Config,
    found: Vec<Diagnostic>,
}

impl<'c> Problems<'c> {
    pub(super) fn new(config: &'c Config) -> Self {
        Self { config, found: Vec::new() }
    }

    /// Adds an error about the value at `path`.
    pub(super) fn error(&mut self, path: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, path, false, message.into())
    }

    /// Adds an error about the key at `path`.
    pub(super) fn key_error(&mut self, path: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Error, path, true, message.into())
    }

    /// Adds a warning about the value at `path`.
    pub(super) fn warn(&mut self, path: &str, message: impl Into<String>) -> &mut Diagnostic {
        self.add(Severity::Warning, path, false, message.into())
    }

    /// Adds an error about an environment variable.
    pub(super) fn error_in_environment(&mut self, variable: &str, message: String) {
        self.found.push(in_environment(Severity::Error, variable, message));
    }

    /// Adds a warning about an environment variable without effect.
    pub(super) fn warn_in_environment(&mut self, variable: &str, message: String) {
        self.found.push(in_environment(Severity::Warning, variable, message));
    }

    /// Whether there is an error.
    pub(super) fn refused(&self) -> bool {
        self.found.iter().any(|d| d.severity == Severity::Error)
    }

    /// All findings, sorted by position.
    pub(super) fn into_found(mut self) -> Vec<Diagnostic> {
        self.found.sort_by(|a, b| (&a.file, a.line, a.column, a.severity).cmp(&(&b.file, b.line, b.column, b.severity)));
        self.found.dedup();
        self.found
    }

    fn add(&mut self, severity: Severity, path: &str, key: bool, message: String) -> &mut Diagnostic {
        let (file, at) = self.config.locate(path, key);
        let (line, column) = (at.line, at.column);
        let diagnostic = Diagnostic { severity, file, line, column, path: path.to_owned(), message, help: None };
        let index = self.found.len();
        self.found.push(diagnostic);
        &mut self.found[index]
    }
}

fn in_environment(severity: Severity, variable: &str, message: String) -> Diagnostic {
    Diagnostic { severity, file: format!("environment {variable}"), line: 1, column: 1, path: String::new(), message, help: None }
}

impl Diagnostic {
    /// Adds advice on how to correct the finding.
    pub(super) fn help(&mut self, help: impl Into<Option<String>>) {
        self.help = help.into();
    }
}
