//! The only place that writes the gateway's own answers: every denial, in the caller's dialect.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::response::Parts as RespParts;
use http::{HeaderName, Method};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::error::Denial;
use crate::gate::RequestId;
use crate::limit::Fields;
use crate::wire::{Dialect, envelope};

/// The gateway's request id, on every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Tells SDKs whether to retry a refused request where they would do so by status alone (the SDKs of OpenAI and Anthropic
/// obey it).
const SHOULD_RETRY: HeaderName = HeaderName::from_static("x-should-retry");

/// Head and body of a denial. The ids are the gateway's own and, if known, that of the caller's JSON-RPC message as it stands
/// in the body.
///
/// # Errors
/// Pingora refuses a header value; they are numbers and hex, so it does not.
pub fn render(denial: &Denial, dialect: Dialect, (id, theirs): (&RequestId, Option<&str>)) -> pingora::Result<(ResponseHeader, Bytes)> {
    let id = id.to_string();
    let (content_type, body) = envelope::render(dialect, denial, &id, theirs);
    let mut head = ResponseHeader::build(denial.status(), Some(6))?;
    head.insert_header(CONTENT_TYPE, content_type)?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(REQUEST_ID, id)?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    if denial.status() == 401 {
        // RFC 9110 §11.6.1: a 401 names the scheme in which to send credentials.
        head.insert_header(WWW_AUTHENTICATE, "Bearer")?;
    }
    if let Some(seconds) = denial.retry_after_seconds() {
        head.insert_header(RETRY_AFTER, seconds)?;
    } else if denial.status() == 429 {
        // Waiting does not help a request that is too large for its limit; SDKs would retry it twice.
        head.insert_header(SHOULD_RETRY, "false")?;
    }
    Ok((head, body))
}

/// Writes the gateway's own fields into a head, replacing fields of the same name.
///
/// # Errors
/// Pingora refuses a value; they are ASCII, so it does not.
pub fn tell(head: &mut ResponseHeader, fields: Fields) -> pingora::Result<()> {
    if fields.is_empty() {
        return Ok(());
    }
    if head.has_case() || head.get_reason_phrase() != head.status.canonical_reason() {
        return fields.into_iter().try_for_each(|(name, value)| head.insert_header(name, value));
    }
    // Every answer under a limit has eight of these fields. Inserted into the plain map of a head that keeps no spelling they
    // cost little; Pingora's `insert_header` parses every name again.
    let empty = ResponseHeader::build_no_case(head.status, Some(0))?;
    let mut parts = RespParts::from(std::mem::replace(head, empty));
    let full = |_| pingora::Error::explain(pingora::ErrorType::InvalidHTTPHeader, "too many fields");
    parts.headers.try_reserve(fields.len()).map_err(full)?;
    for (name, value) in fields {
        parts.headers.try_insert(name, value).map_err(full)?;
    }
    *head = ResponseHeader::from(parts);
    Ok(())
}

/// Sends a denial with additional fields. With `close` the connection ends afterwards, because the caller is still sending
/// its body.
///
/// # Errors
/// The caller is gone.
pub async fn deny(
    session: &mut Session,
    denial: &Denial,
    dialect: Dialect,
    ids: (&RequestId, Option<&str>),
    close: bool,
    fields: Fields,
) -> pingora::Result<()> {
    let (mut head, body) = render(denial, dialect, ids)?;
    tell(&mut head, fields)?;
    if close {
        session.set_keepalive(None);
    }
    send(session, head, body).await
}

/// Sends an answer of the gateway's own.
///
/// # Errors
/// The caller is gone.
pub async fn send(session: &mut Session, head: ResponseHeader, body: Bytes) -> pingora::Result<()> {
    let bodiless = session.req_header().method == Method::HEAD || body.is_empty();
    session.write_response_header(Box::new(head), bodiless).await?;
    if !bodiless {
        session.write_response_body(Some(body), true).await?;
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn fields_take_the_place_of_others_and_the_rest_of_a_head_stays() {
        let fields = || -> Fields { vec![(HeaderName::from_static("ratelimit"), HeaderValue::from_static("ours"))] };
        let heads = [ResponseHeader::build(404, None).unwrap(), ResponseHeader::build_no_case(404, None).unwrap(), {
            let mut named = ResponseHeader::build_no_case(404, None).unwrap();
            named.set_reason_phrase(Some("Gone Fishing")).unwrap();
            named
        }];
        for mut head in heads {
            let (reason, case) = (head.get_reason_phrase().map(str::to_owned), head.has_case());
            head.insert_header("X-Theirs", "kept").unwrap();
            head.insert_header("RateLimit", "theirs").unwrap();
            tell(&mut head, fields()).unwrap();
            tell(&mut head, Fields::new()).unwrap();
            assert_eq!((head.status.as_u16(), head.get_reason_phrase(), head.has_case()), (404, reason.as_deref(), case));
            assert_eq!(
                (&head.headers["x-theirs"], &head.headers["ratelimit"], head.headers.len()),
                (&HeaderValue::from_static("kept"), &HeaderValue::from_static("ours"), 2)
            );
        }
    }
}
