//! Refuses requests whose framing can be read in two ways, before anything else reads them (RFC 9112 §6.1, §6.3).
//!
//! Pingora follows the letter of the RFC and lets `Transfer-Encoding` override `Content-Length`. A gateway in front of servers
//! of many makers refuses instead, because the next hop may choose the other reading.

use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use pingora_proxy::Session;

/// Whether the head is framed in exactly one way.
pub fn is_sound(session: &Session) -> bool {
    let headers = &session.req_header().headers;
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    if let Some(first) = lengths.next() {
        let digits = !first.is_empty() && first.as_bytes().iter().all(u8::is_ascii_digit);
        if !digits || lengths.next().is_some() {
            return false;
        }
    }
    if !headers.contains_key(TRANSFER_ENCODING) {
        return true;
    }
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let only_chunked = codings.next().is_some_and(|v| v.as_bytes().eq_ignore_ascii_case(b"chunked")) && codings.next().is_none();
    // Pingora has already removed `Content-Length` if `Transfer-Encoding` was present: only the raw head still shows it.
    let raw_length = session.as_downstream().as_http1().is_some_and(|h1| has_field(&h1.get_headers_raw_bytes(), b"content-length"));
    only_chunked && !headers.contains_key(CONTENT_LENGTH) && !raw_length
}

/// Whether the raw head has a line that starts with this field name, in any case.
fn has_field(head: &[u8], name: &[u8]) -> bool {
    head.split(|b| *b == b'\n').skip(1).any(|line| {
        line.len() > name.len() && line[..name.len()].eq_ignore_ascii_case(name) && matches!(line[name.len()], b':' | b' ' | b'\t')
    })
}

#[cfg(test)]
mod tests {
    use super::has_field;

    #[test]
    fn finds_a_field_only_at_the_start_of_a_line_after_the_request_line() {
        assert!(has_field(b"POST / HTTP/1.1\r\nHost: a\r\nCONTENT-length: 3\r\n\r\n", b"content-length"));
        assert!(!has_field(b"POST /content-length: HTTP/1.1\r\nX: content-length: 3\r\n\r\n", b"content-length"));
        assert!(!has_field(b"content-length: 3\r\n\r\n", b"content-length"));
        assert!(!has_field(b"GET / HTTP/1.1\r\ncontent-lengthy: 3\r\n\r\n", b"content-length"));
    }
}
