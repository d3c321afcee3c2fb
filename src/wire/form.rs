//! The form of a body: JSON, plain text, or media.

use super::Dialect;

/// How a body is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As JSON.
    Json,
    /// As a single text.
    Text,
    /// Not at all: audio, images.
    Media,
}

impl Form {
    /// Determines the form from the content type and the first byte. In model APIs only the byte counts: providers parse a
    /// body whatever its declared type.
    pub fn of(dialect: Dialect, content_type: Option<&str>, body: &[u8]) -> Self {
        if content_type == Some("application/json") {
            return Self::Json;
        }
        let media = content_type.map(|t| t.trim_start().to_ascii_lowercase()).unwrap_or_default();
        if media.contains("json") {
            return Self::Json;
        }
        let opens = matches!(body.iter().find(|b| !b.is_ascii_whitespace()), Some(b'{' | b'['));
        if opens && dialect != Dialect::Plain {
            return Self::Json;
        }
        if ["audio/", "image/", "video/"].iter().any(|kind| media.starts_with(kind)) {
            return Self::Media;
        }
        if opens && !media.starts_with("text/") { Self::Json } else { Self::Text }
    }
}
