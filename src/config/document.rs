//! Documents beside the configuration, such as a plugin's brief: parsed as strictly, and with line and column in every
//! diagnostic.

use std::path::Path;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::de::DeserializeOwned;

use super::diagnostic::{Diagnostic, Severity};
use super::schema::unknown_keys_of;
use super::text_of;
use super::yaml::Source;

/// A document, with the position of every value in it.
#[derive(Debug, Clone)]
pub struct Document<T> {
    /// The typed document.
    pub value: T,
    /// The text as written.
    pub text: String,
    source: Source,
}

impl<T: DeserializeOwned + JsonSchema> Document<T> {
    /// Reads a file.
    ///
    /// # Errors
    /// What is wrong with its form: all unknown and duplicate keys at once, otherwise the first wrong type.
    pub fn read(path: &Path) -> Result<Self, Vec<Diagnostic>> {
        let text = text_of(path).map_err(|diagnostic| vec![diagnostic])?;
        Self::parse(&path.display().to_string(), text)
    }

    /// Parses a text. `file` is its name in diagnostics.
    ///
    /// # Errors
    /// As for [`Self::read`].
    pub fn parse(file: &str, text: String) -> Result<Self, Vec<Diagnostic>> {
        let source = Source::read(file, &text)?;
        let schema = SchemaSettings::draft07().into_generator().into_root_schema_for::<T>().to_value();
        let unknown = unknown_keys_of(&source, &text, &schema);
        if !unknown.is_empty() {
            return Err(unknown);
        }
        let value = source.parse(&text).map_err(|diagnostic| vec![diagnostic])?;
        Ok(Self { value, text, source })
    }
}

impl<T> Document<T> {
    /// A diagnostic about the value at a path, such as `systems[0].url`.
    pub fn error(&self, path: &str, message: impl Into<String>, help: impl Into<String>) -> Diagnostic {
        let at = self.source.position(path);
        Diagnostic {
            severity: Severity::Error,
            file: self.source.file().to_owned(),
            line: at.line,
            column: at.column,
            path: path.to_owned(),
            message: message.into(),
            help: Some(help.into()),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[derive(Debug, serde::Deserialize, JsonSchema)]
    #[serde(deny_unknown_fields)]
    struct Note {
        title: String,
        #[serde(default)]
        lines: Vec<String>,
    }

    #[test]
    fn what_is_wrong_has_a_place() {
        let read = |text: &str| Document::<Note>::parse("f", text.to_owned());
        let good = read("title: a\nlines:\n  - b\n  - c\n").unwrap();
        assert_eq!((good.value.title.as_str(), good.value.lines.len()), ("a", 2));
        let error = good.error("lines[1]", "is wrong", "write d");
        assert_eq!(error.to_string(), "f:4:5: error: lines[1]: is wrong\n  help: write d");
        let unknown = read("titel: a\n").unwrap_err();
        assert_eq!((unknown[0].line, unknown[0].help.as_deref()), (1, Some("did you mean `title`?")));
        assert!(read("title: a\ntitle: b\n").is_err() && read("title: [1]\n").is_err());
    }
}
