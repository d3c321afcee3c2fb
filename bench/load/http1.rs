//! The minimum of HTTP/1.1 that a load generator needs: sends fixed bytes, and finds the end of the answer.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use memchr::memmem;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The prefix of an event's data in a stream.
const EVENT: &[u8] = b"data: ";

/// A kept connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// One answer.
pub struct Exchange {
    pub status: u16,
    /// From the first byte of the request to the first one of the answer's body.
    pub first: Duration,
    /// From the first byte of the request to the last one of the answer.
    pub whole: Duration,
}

enum Framing {
    Length(usize),
    Chunked,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: Vec::with_capacity(64 << 10) })
    }

    /// Sends `request` and reads the whole answer.
    pub async fn exchange(&mut self, request: &[u8]) -> io::Result<Exchange> {
        self.follow(request, |_| {}).await
    }

    /// [`Self::exchange`] that also calls `event` for each event of a stream, with the time since the previous event, or
    /// since the request.
    pub async fn follow(&mut self, request: &[u8], mut event: impl FnMut(Duration)) -> io::Result<Exchange> {
        self.buffer.clear();
        let begun = Instant::now();
        self.stream.write_all(request).await?;
        let end = loop {
            self.read().await?;
            if let Some(at) = memmem::find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
        };
        let (status, framing) = parse_head(&self.buffer[..end])?;
        let mut first = None;
        let mut at = end;
        let (mut counted, mut last) = (end, begun);
        loop {
            let now = Instant::now();
            let new = &self.buffer[counted.saturating_sub(EVENT.len() - 1).max(end)..];
            for _ in memmem::find_iter(new, EVENT) {
                event(now - last);
                last = now;
            }
            counted = self.buffer.len();
            if self.buffer.len() > end && first.is_none() {
                first = Some(begun.elapsed());
            }
            let done = match framing {
                Framing::Length(length) => self.buffer.len() >= end + length,
                Framing::Chunked => self.skip_chunks(&mut at)?,
            };
            if done {
                let whole = begun.elapsed();
                return Ok(Exchange { status, first: first.unwrap_or(whole), whole });
            }
            self.read().await?;
        }
    }

    /// Sends `request` and closes the connection: at once, or when the answer begins.
    pub async fn abandon(mut self, request: &[u8], at_once: bool) -> io::Result<()> {
        self.stream.write_all(request).await?;
        if !at_once {
            self.read().await?;
        }
        Ok(())
    }

    /// The last answer, for error messages.
    pub fn answer(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    async fn read(&mut self) -> io::Result<()> {
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Moves `at` over complete chunks; `true` after the last one.
    fn skip_chunks(&self, at: &mut usize) -> io::Result<bool> {
        loop {
            let rest = &self.buffer[(*at).min(self.buffer.len())..];
            let Some(line) = memmem::find(rest, b"\r\n") else { return Ok(false) };
            let digits = std::str::from_utf8(&rest[..line]).ok().and_then(|line| line.split(';').next());
            let size = digits.and_then(|d| usize::from_str_radix(d.trim(), 16).ok()).ok_or_else(|| io::Error::other("bad chunk"))?;
            let next = line + 2 + size + 2;
            if rest.len() < next {
                return Ok(false);
            }
            *at += next;
            if size == 0 {
                return Ok(true);
            }
        }
    }
}

fn parse_head(head: &[u8]) -> io::Result<(u16, Framing)> {
    let head = std::str::from_utf8(head).map_err(io::Error::other)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok());
    let mut framing = None;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        if name.eq_ignore_ascii_case("content-length") {
            framing = value.trim().parse().ok().map(Framing::Length);
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            framing = Some(Framing::Chunked);
        }
    }
    match (status, framing) {
        (Some(status), Some(framing)) => Ok((status, framing)),
        _ => Err(io::Error::other("the answer is not framed")),
    }
}
