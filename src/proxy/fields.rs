//! The fields of an answer's head: what ends at this gateway, and what plugins change.

use http::header::{CONNECTION, MaxSizeReached};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::Result;
use pingora_http::ResponseHeader;

use super::respond;
use crate::gate::HeaderEdit;

/// Takes out what is not the caller's to see and puts our request id in, and what `tell` adds.
///
/// # Errors
/// Pingora refuses the reason phrase that it read itself, or there are too many fields.
pub fn clean_head(
    head: &mut ResponseHeader,
    from_provider: bool,
    id: &HeaderValue,
    tell: impl FnOnce(&mut HeaderMap) -> std::result::Result<(), MaxSizeReached>,
) -> Result<()> {
    // Pingora keeps the spelling of every name beside the fields and parses a name again for each change. Names have no case
    // (RFC 9110 §5.1): without the spelling this change, and those that follow on the way out, cost a fraction.
    fields(head, |fields| {
        let lists = fields.get_all(CONNECTION).iter().filter_map(|v| v.to_str().ok());
        // These two name no field.
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

/// Works on the fields of a head themselves.
///
/// # Errors
/// Pingora refuses the reason phrase that it read itself.
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

/// Whether a field of the upstream's head ends at this gateway: it describes the upstream's connection (RFC 9110 §7.6.1), the
/// gateway's account at the provider, or the provider's host, which callers would take for the gateway's.
fn ends_here(name: &str, from_provider: bool) -> bool {
    match name {
        "keep-alive" | "proxy-connection" | "proxy-authenticate" | "trailer" | "te" => true,
        "openai-organization" | "openai-project" | "set-cookie" | "alt-svc" | "strict-transport-security" => from_provider,
        _ => from_provider && (name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")),
    }
}

/// Makes the changes that plugins asked for.
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
