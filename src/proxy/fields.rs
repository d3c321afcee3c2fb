//! The header fields of an answer: those that end at this gateway, and those that plugins change.

use http::header::{ACCEPT_RANGES, CONNECTION, CONTENT_RANGE, CONTENT_TYPE, ETAG, MaxSizeReached};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use pingora::Result;
use pingora_http::ResponseHeader;

use super::respond;
use crate::gate::HeaderEdit;

/// What is said of the bytes of a body (RFC 9110 §8.8.3, §14.3; RFC 9530; RFC 1864): of other bytes it would be wrong.
pub const BYTES: [HeaderName; 6] = [
    ETAG,
    ACCEPT_RANGES,
    HeaderName::from_static("content-md5"),
    HeaderName::from_static("digest"),
    HeaderName::from_static("content-digest"),
    HeaderName::from_static("repr-digest"),
];

/// Takes out what is not the caller's to see and puts our request id in, and what `tell` adds.
///
/// # Errors
/// Pingora refuses the reason phrase that it parsed itself, or there are too many fields.
pub fn clean_head(
    head: &mut ResponseHeader,
    from_provider: bool,
    id: &HeaderValue,
    tell: impl FnOnce(&mut HeaderMap) -> std::result::Result<(), MaxSizeReached>,
) -> Result<()> {
    // Pingora keeps the spelling of every field name beside the map and parses a name again for each change. Names are
    // case-insensitive (RFC 9110 §5.1); without the spelling this change and those that follow cost a fraction.
    fields(head, |fields| {
        let lists = fields.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
        // Connection options that are not field names.
        let named = lists.flat_map(|v| v.split(',')).map(str::trim).filter(|name| !matches!(*name, "keep-alive" | "close"));
        let nominated: Vec<HeaderName> = named.filter_map(|name| name.parse().ok()).filter(|name| *name != CONNECTION).collect();
        let unwanted: Vec<HeaderName> =
            fields.keys().filter(|name| ends_here(name.as_str(), from_provider) || nominated.contains(name)).cloned().collect();
        for name in &unwanted {
            fields.remove(name);
        }
        fields.insert(respond::REQUEST_ID, id.clone());
        tell(fields)
    })?
    .map_err(|_| pingora::Error::explain(pingora::ErrorType::InvalidHTTPHeader, "too many fields"))
}

/// Gives `work` the plain map of a head's fields. Afterwards the head keeps no spelling of names any more.
///
/// # Errors
/// Pingora refuses the reason phrase that it parsed itself.
pub fn fields<T>(head: &mut ResponseHeader, work: impl FnOnce(&mut HeaderMap) -> T) -> Result<T> {
    let reason = head.get_reason_phrase().filter(|reason| Some(*reason) != head.status.canonical_reason()).map(str::to_owned);
    let empty = ResponseHeader::from(http::Response::new(()).into_parts().0);
    let mut parts = http::response::Parts::from(std::mem::replace(head, empty));
    let done = work(&mut parts.headers);
    *head = ResponseHeader::from(parts);
    if reason.is_some() {
        head.set_reason_phrase(reason.as_deref())?;
    }
    Ok(done)
}

/// Takes out what is said of the bytes of a body that will leave as others.
///
/// # Errors
/// Pingora refuses the reason phrase that it read itself.
pub fn forget_bytes(head: &mut ResponseHeader) -> Result<()> {
    if BYTES.iter().any(|name| head.headers.contains_key(name)) {
        fields(head, |fields| BYTES.iter().for_each(|name| drop(fields.remove(name))))?;
    }
    Ok(())
}

/// Whether an answer is only a part of what was asked for, though nobody asked for a part.
pub fn is_part(head: &ResponseHeader) -> bool {
    let told = || head.status != StatusCode::RANGE_NOT_SATISFIABLE && head.headers.contains_key(CONTENT_RANGE);
    // Both names: the older one stands in servers still.
    let names = [&b"multipart/byteranges"[..], b"multipart/x-byteranges"];
    let is = |v: &HeaderValue, name: &[u8]| v.as_bytes().get(..name.len()).is_some_and(|t| t.eq_ignore_ascii_case(name));
    let several = || head.headers.get(CONTENT_TYPE).is_some_and(|v| names.iter().any(|name| is(v, name)));
    head.status == StatusCode::PARTIAL_CONTENT || told() || several()
}

/// Whether a field of the upstream's head ends at this gateway: it describes the upstream's connection (RFC 9110 §7.6.1), the
/// gateway's account at the provider, or the provider's host, which callers would take for the gateway's, or it is in the
/// gateway's own words.
fn ends_here(name: &str, from_provider: bool) -> bool {
    match name {
        "keep-alive" | "proxy-connection" | "proxy-authenticate" | "trailer" | "te" | "odock-receipt" => true,
        // Parts of an answer are not asked for there.
        "accept-ranges" => from_provider,
        "openai-organization" | "openai-project" | "set-cookie" | "alt-svc" | "strict-transport-security" => from_provider,
        _ => from_provider && (name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")),
    }
}

/// Applies the changes that plugins asked for.
///
/// # Errors
/// Pingora refuses a name or a value.
pub fn apply_edits(head: &mut ResponseHeader, edits: &[HeaderEdit]) -> Result<()> {
    for edit in edits {
        match edit {
            HeaderEdit::Set(name, value) => head.insert_header(name.clone(), value.clone())?,
            HeaderEdit::Remove(name) => {
                head.remove_header(name);
            }
        }
    }
    Ok(())
}
