//! What the head of an answer says about its body, and how a body that is not JSON is treated: on a guarded route nothing
//! leaves that was not read in the way in which its recipient will read it.

use crate::wire::{Dialect, Endpoint, Form};

/// What is known of an answer beside its body.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The HTTP status.
    pub status: u16,
    /// The value of `content-type`, if it is text.
    pub content_type: Option<&'a str>,
    /// Whether an answer that cannot be read is refused (`on_unparsed: deny`).
    pub must_read: bool,
}

/// The form of a body that is neither JSON nor JSON lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unparsed {
    /// Text, which is read as it is.
    Text,
    /// Sound or images, which contain nothing to read.
    Media,
    /// The recipient would read it in a form in which the guard cannot.
    Unreadable,
}

impl Claim<'_> {
    /// The form of a body that is not JSON.
    pub(super) fn unparsed(&self, dialect: Dialect, endpoint: Endpoint, body: &[u8]) -> Unparsed {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Unparsed::Text;
        }
        let form = Form::of(dialect, self.content_type, body);
        if form == Form::Media {
            return Unparsed::Media;
        }
        // UTF-16 counts as unreadable too; its ASCII letters have a zero byte beside them.
        if std::str::from_utf8(body).is_err() || body.contains(&0) || !self.in_utf8() {
            return Unparsed::Unreadable;
        }
        // A transcript may begin with `[music]` without being JSON; an API, on the other hand, answers 200 with JSON alone.
        let api = !matches!(endpoint, Endpoint::Audio | Endpoint::Other) && dialect != Dialect::Plain;
        let json = if form == Form::Json { self.names_json() || opens_json(body) } else { false };
        // An error page of a load balancer in front of the provider is text, whatever content type it names.
        let own_words = !(200..300).contains(&self.status) && !opens_json(body);
        if (json && !own_words) || (api && self.status == 200) { Unparsed::Unreadable } else { Unparsed::Text }
    }

    /// Whether the declared charset, if any, encodes ASCII as UTF-8 does.
    fn in_utf8(&self) -> bool {
        let name = self.content_type.unwrap_or_default().to_ascii_lowercase();
        let Some((_, charset)) = name.split_once("charset=") else { return true };
        let charset = charset.trim_start_matches('"');
        ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-", "windows-125"].iter().any(|known| charset.starts_with(known))
    }

    fn names_json(&self) -> bool {
        self.content_type.is_some_and(|name| name.to_ascii_lowercase().contains("json"))
    }
}

/// Whether a body begins like a JSON object, a string, or an array whose first value is not a bare word.
fn opens_json(body: &[u8]) -> bool {
    let mut marks = body.iter().filter(|b| !b.is_ascii_whitespace());
    match marks.next() {
        Some(b'{' | b'"') => true,
        Some(b'[') => matches!(marks.next(), None | Some(b'{' | b'[' | b'"' | b']' | b'-' | b'0'..=b'9')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_would_take_for_json_is_unreadable_and_text_is_text() {
        use Unparsed::{Media, Text, Unreadable};
        let cases: [(u16, &str, Endpoint, &[u8], Unparsed); 18] = [
            (200, "application/json", Endpoint::ChatCompletions, b"{\"a\":\"x", Unreadable),
            (200, "application/json", Endpoint::ChatCompletions, b"oops", Unreadable),
            (200, "application/problem+json; charset=utf-8", Endpoint::Other, b"oops", Unreadable),
            (200, "text/plain", Endpoint::ChatCompletions, b"oops", Unreadable),
            (200, "text/plain", Endpoint::Mcp, b"data: {}", Unreadable),
            (202, "text/plain", Endpoint::Mcp, b"Accepted", Text),
            (502, "text/html", Endpoint::ChatCompletions, b"<html>Bad gateway", Text),
            (502, "application/json", Endpoint::ChatCompletions, b"Bad gateway", Text),
            (502, "application/json", Endpoint::ChatCompletions, b"{\"error\":", Unreadable),
            (502, "text/html", Endpoint::ChatCompletions, b"\xff", Unreadable),
            (200, "text/plain", Endpoint::Audio, b"[music] good morning", Text),
            (200, "text/plain", Endpoint::Audio, b"[{\"a\":", Unreadable),
            (200, "audio/mpeg", Endpoint::Audio, b"\xff\xfb", Media),
            (200, "audio/mpeg", Endpoint::ChatCompletions, b"{\xff", Unreadable),
            (200, "application/octet-stream", Endpoint::Other, b"\x00\xff", Unreadable),
            (200, "application/json", Endpoint::ChatCompletions, b" \n", Text),
            (502, "text/html; charset=\"UTF-7\"", Endpoint::ChatCompletions, b"+ADw-", Unreadable),
            (502, "text/html; charset=UTF-8", Endpoint::ChatCompletions, b"<\0p\0", Unreadable),
        ];
        for (status, name, endpoint, body, expected) in cases {
            let claim = Claim { status, content_type: Some(name), must_read: true };
            let said = claim.unparsed(Dialect::OpenAi, endpoint, body);
            assert_eq!(said, expected, "{status} {name} {}", String::from_utf8_lossy(body));
        }
        let plain = |name, body: &[u8]| {
            let claim = Claim { status: 200, content_type: name, must_read: true };
            claim.unparsed(Dialect::Plain, Endpoint::Other, body)
        };
        assert_eq!(plain(Some("text/html"), b"{ not json"), Text);
        assert_eq!(plain(None, b"{ not json"), Unreadable);
        assert_eq!(plain(Some("text/html"), b"\xff"), Unreadable);
    }
}
