//! The only place that writes an answer of the gateway's own: every denial, in the caller's dialect.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, Method};
use pingora_http::ResponseHeader;
use pingora_proxy::Session;

use crate::error::Denial;
use crate::gate::RequestId;
use crate::limit::Fields;
use crate::wire::{Dialect, envelope};

/// Ours, on every answer.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Head and body of a denial.
///
/// # Errors
/// When Pingora refuses the header values; they are numbers and hex, so it does not.
pub fn render(
    denial: &Denial,
    dialect: Dialect,
    id: &RequestId,
    jsonrpc_id: Option<&serde_json::value::RawValue>,
) -> pingora::Result<(ResponseHeader, Bytes)> {
    let id = id.to_string();
    let (content_type, body) = envelope::render(dialect, denial, &id, jsonrpc_id.map(|v| v.get()));
    let mut head = ResponseHeader::build(denial.status(), Some(6))?;
    head.insert_header(CONTENT_TYPE, content_type)?;
    head.insert_header(CONTENT_LENGTH, body.len())?;
    head.insert_header(REQUEST_ID, id)?;
    head.insert_header(CACHE_CONTROL, "no-store")?;
    if let Some(seconds) = denial.retry_after_seconds() {
        head.insert_header(RETRY_AFTER, seconds)?;
    }
    Ok((head, body))
}

/// Puts fields of our own into a head, in place of those of the same name.
///
/// # Errors
/// When Pingora refuses the values; they are ASCII, so it does not.
pub fn tell(head: &mut ResponseHeader, fields: Fields) -> pingora::Result<()> {
    fields.into_iter().try_for_each(|(name, value)| head.insert_header(name, value))
}

/// Sends a denial with these fields. With `close` the connection ends afterwards, because the caller is still sending a
/// body.
///
/// # Errors
/// The caller is gone.
pub async fn deny(
    session: &mut Session,
    denial: &Denial,
    dialect: Dialect,
    id: &RequestId,
    close: bool,
    fields: Fields,
) -> pingora::Result<()> {
    let (mut head, body) = render(denial, dialect, id, None)?;
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
