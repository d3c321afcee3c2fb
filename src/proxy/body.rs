//! Reads the whole request body before routing: bounded in bytes and in time, without trusting the declared length.

use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, EXPECT};
use pingora_proxy::Session;

use crate::error::{Denial, codes};

/// The most memory that is allocated up front because of `Content-Length` (bytes).
const FIRST_ALLOCATION: usize = 256 * 1024;

/// Why the body could not be read.
pub enum ReadError {
    /// Answer with this denial and close the connection, because the rest of the body is still on its way.
    Denied(Denial),
    /// The caller went away; there is nobody to answer.
    CallerGone,
}

/// Reads the body of at most `limit` bytes within `deadline`.
///
/// A caller that waits for `100 Continue` gets it here: Pingora would only relay the upstream's, and the upstream is not
/// contacted before the body is known. The time spent waiting for the body is added to `waited`.
pub async fn read(session: &mut Session, limit: usize, deadline: Duration, waited: &mut Duration) -> Result<Bytes, ReadError> {
    let claimed = session.req_header().headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<u64>().ok());
    if claimed.is_some_and(|n| n > limit as u64) {
        return Err(too_large(limit));
    }
    if session.as_mut().is_body_empty() {
        return Ok(Bytes::new());
    }
    if session.req_header().headers.contains_key(EXPECT) && session.as_mut().write_continue_response().await.is_err() {
        return Err(ReadError::CallerGone);
    }
    // The deadline below covers the whole body: no timer for each read.
    session.as_mut().set_read_timeout(None);
    let mut whole = pin!(read_all(session, limit, claimed));
    // Most bodies arrive with their heads: no timer is set up for a body that is already here.
    if let Poll::Ready(result) = futures::poll!(whole.as_mut()) {
        return result;
    }
    let began = Instant::now();
    let read = tokio::time::timeout(deadline, whole).await;
    *waited += began.elapsed();
    match read {
        Ok(result) => result,
        Err(_) => Err(ReadError::Denied(Denial::of(codes::REQUEST_TIMEOUT))),
    }
}

async fn read_all(session: &mut Session, limit: usize, claimed: Option<u64>) -> Result<Bytes, ReadError> {
    let Some(first) = next(session).await? else { return Ok(Bytes::new()) };
    if first.len() > limit {
        return Err(too_large(limit));
    }
    // Most small bodies are one chunk, which needs no copy.
    let Some(second) = next(session).await? else { return Ok(first) };
    let mut whole = BytesMut::with_capacity((claimed.unwrap_or(0) as usize).min(FIRST_ALLOCATION).max(first.len() + second.len()));
    whole.extend_from_slice(&first);
    let mut chunk = Some(second);
    while let Some(bytes) = chunk {
        if whole.len() + bytes.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&bytes);
        chunk = next(session).await?;
    }
    Ok(whole.freeze())
}

async fn next(session: &mut Session) -> Result<Option<Bytes>, ReadError> {
    match session.as_mut().read_request_body().await {
        Ok(chunk) => Ok(chunk),
        Err(error) => match error.etype() {
            pingora::ErrorType::ConnectionClosed | pingora::ErrorType::ReadError | pingora::ErrorType::H2Error => {
                Err(ReadError::CallerGone)
            }
            pingora::ErrorType::ReadTimedout => Err(ReadError::Denied(Denial::of(codes::REQUEST_TIMEOUT))),
            _ => Err(ReadError::Denied(Denial::of(codes::INVALID_BODY))),
        },
    }
}

fn too_large(limit: usize) -> ReadError {
    ReadError::Denied(
        Denial::of(codes::BODY_TOO_LARGE)
            .with_message(format!("the request body is larger than this gateway accepts (limit: {limit} bytes)")),
    )
}
