//! Sends an answer: whole, as a stream, compressed, or broken by one of the faults in [`Fault`].

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};

use super::reply::{Answer, Body};
use super::socket::Socket;
use super::switches::{Fault, Switches};

/// How long a stalled answer is kept open at most.
const STALL: Duration = Duration::from_secs(600);
/// Pause before a reset, so that what was sent arrives first.
const BEFORE_RESET: Duration = Duration::from_millis(20);
const GARBAGE: &[u8] = b"\x16\x03\x01 this is not HTTP \xff\xfe\r\n\r\n";

fn head(answer: &Answer, gzip: bool, number: u64) -> pingora::Result<Box<ResponseHeader>> {
    let mut head = ResponseHeader::build_no_case(answer.status, Some(8))?;
    head.insert_header(header::CONTENT_TYPE, HeaderValue::from_static(answer.content_type))?;
    head.insert_header(answer.id_header, format!("req_mock_{number:08}"))?;
    if gzip {
        head.insert_header(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))?;
    }
    if matches!(answer.status, 429 | 503 | 529) {
        head.insert_header(header::RETRY_AFTER, HeaderValue::from_static("1"))?;
    }
    match &answer.body {
        Body::Whole(body) => head.insert_header(header::CONTENT_LENGTH, HeaderValue::from(body.len()))?,
        Body::Events(_) => {
            head.insert_header(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"))?;
            head.insert_header(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"))?;
        }
    }
    Ok(Box::new(head))
}

/// Compresses a body with gzip. Each event is flushed, so that a reader can decode it before the next one arrives.
pub fn compressed(body: Body) -> Body {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    match body {
        Body::Whole(body) => {
            let _ = encoder.write_all(&body);
            Body::Whole(encoder.finish().unwrap_or_default().into())
        }
        Body::Events(events) => {
            let mut out: Vec<Bytes> = Vec::with_capacity(events.len() + 1);
            for event in events {
                let _ = encoder.write_all(&event).and_then(|()| encoder.flush());
                out.push(std::mem::take(encoder.get_mut()).into());
            }
            out.push(encoder.finish().unwrap_or_default().into());
            Body::Events(out)
        }
    }
}

/// Sends a complete answer.
pub async fn whole(session: &mut ServerSession, answer: Answer, switches: &Switches, number: u64) -> pingora::Result<()> {
    write(session, answer, switches, number, false).await
}

/// Sends an answer with a fault, which also ends the connection.
pub async fn broken(mut session: ServerSession, answer: Answer, switches: &Switches, number: u64, fault: Fault) {
    match fault {
        Fault::Stall => return stall(&mut session).await,
        Fault::ResetBeforeHead => return break_off(session, Breakage::Reset).await,
        Fault::Garbage => return break_off(session, Breakage::Garbage).await,
        Fault::ResetMidBody | Fault::Truncate | Fault::StallMidBody | Fault::CloseKeepalive => {}
    }
    if write(&mut session, answer, switches, number, true).await.is_ok() {
        match fault {
            Fault::ResetMidBody => break_off(session, Breakage::Reset).await,
            Fault::StallMidBody => stall_with_half(session).await,
            _ => break_off(session, Breakage::Close).await,
        }
    }
}

/// Sends the answer; with `half`, only the first half of its body, and without an end.
async fn write(session: &mut ServerSession, answer: Answer, switches: &Switches, number: u64, half: bool) -> pingora::Result<()> {
    let head = head(&answer, switches.gzip == Some(true), number)?;
    session.write_response_header(head).await?;
    match answer.body {
        Body::Whole(body) if half => session.write_response_body(body.slice(..body.len() / 2), false).await,
        Body::Whole(body) => session.write_response_body(body, true).await,
        Body::Events(events) => {
            let last = if half { events.len() / 2 } else { events.len() };
            for (index, event) in events.into_iter().take(last).enumerate() {
                if let (Some(delay), true) = (switches.chunk_delay(), index > 0) {
                    sleep(delay).await;
                }
                session.write_response_body(event, false).await?;
            }
            if half { Ok(()) } else { session.write_response_body(Bytes::new(), true).await }
        }
    }
}

/// The ways in which a connection breaks.
enum Breakage {
    Reset,
    Close,
    Garbage,
}

async fn break_off(session: ServerSession, breakage: Breakage) {
    let mut stream = match session {
        ServerSession::H1(session) => session.into_inner(),
        // In HTTP/2 only the stream breaks, since the connection carries others.
        mut other => return other.shutdown().await,
    };
    if matches!(breakage, Breakage::Garbage) {
        let _ = stream.write_all(GARBAGE).await;
    }
    let _ = stream.flush().await;
    if let Breakage::Reset = breakage {
        sleep(BEFORE_RESET).await;
        if let Ok(socket) = stream.into_any().downcast::<Socket>() {
            socket.reset();
        }
    }
}

/// Sends nothing more until the peer gives up.
async fn stall(session: &mut ServerSession) {
    let _ = timeout(STALL, session.read_body_or_idle(true)).await;
}

/// Flushes the buffer of a half-sent answer, so that the peer receives it while nothing more follows.
async fn stall_with_half(session: ServerSession) {
    match session {
        ServerSession::H1(session) => {
            let mut stream = session.into_inner();
            let _ = stream.flush().await;
            let mut byte = [0_u8; 1];
            let _ = timeout(STALL, stream.read(&mut byte)).await;
        }
        mut other => stall(&mut other).await,
    }
}
