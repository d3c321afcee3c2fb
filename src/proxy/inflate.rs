//! Decodes answers that the provider encoded although no encoding was asked for: whole, or as they arrive.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::write::{MultiGzDecoder, ZlibDecoder};
use http::HeaderValue;

use crate::error::{Denial, codes};

/// Encoded bytes that are decoded at a time, which bounds the output of one step.
const PIECE: usize = 4096;

/// A streaming decoder of one `content-encoding`.
pub(super) enum Inflate {
    Gzip(MultiGzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

/// The bytes are not in the encoding that the header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Broken;

impl Inflate {
    /// The decoder for a `content-encoding`; `None` for an unsupported one.
    pub fn of(encoding: &HeaderValue) -> Option<Self> {
        match encoding.as_bytes().to_ascii_lowercase().as_slice() {
            b"gzip" | b"x-gzip" => Some(Self::Gzip(MultiGzDecoder::new(Vec::new()))),
            b"deflate" => Some(Self::Deflate(ZlibDecoder::new(Vec::new()))),
            _ => None,
        }
    }

    /// Decodes a chunk and calls `f` with the output of each step, as far as the decoder can produce it already.
    ///
    /// # Errors
    /// [`Broken`].
    pub fn each(&mut self, chunk: &[u8], mut f: impl FnMut(Vec<u8>)) -> Result<(), Broken> {
        for piece in chunk.chunks(PIECE) {
            let out = match self {
                Self::Gzip(decoder) => step(decoder, piece).map(|()| std::mem::take(decoder.get_mut())),
                Self::Deflate(decoder) => step(decoder, piece).map(|()| std::mem::take(decoder.get_mut())),
            };
            f(out.map_err(|_| Broken)?);
        }
        Ok(())
    }
}

fn step(decoder: &mut impl Write, piece: &[u8]) -> std::io::Result<()> {
    decoder.write_all(piece)?;
    decoder.flush()
}

/// Decodes a whole body. An unsupported encoding and a body that decodes to more than `cap` bytes are refused: a guard must
/// see what the caller would see.
pub(super) fn decoded(encodings: &[HeaderValue], body: Bytes, cap: usize) -> std::result::Result<Bytes, Box<Denial>> {
    let unreadable = || Box::new(Denial::of(codes::ANSWER_UNREADABLE));
    let encoding = match encodings {
        [] => return Ok(body),
        [encoding] => encoding,
        _ => return Err(unreadable()),
    };
    let mut text = Vec::new();
    let limit = cap as u64 + 1;
    let read = match encoding.as_bytes().to_ascii_lowercase().as_slice() {
        b"identity" => return Ok(body),
        _ if body.is_empty() => return Ok(body),
        b"gzip" | b"x-gzip" => flate2::read::MultiGzDecoder::new(&body[..]).take(limit).read_to_end(&mut text),
        b"deflate" => flate2::read::ZlibDecoder::new(&body[..]).take(limit).read_to_end(&mut text),
        _ => return Err(unreadable()),
    };
    read.map_err(|_| unreadable())?;
    if text.len() > cap {
        return Err(Box::new(Denial::of(codes::ANSWER_TOO_LARGE)));
    }
    Ok(Bytes::from(text))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;

    #[test]
    fn what_was_flushed_comes_out_at_once_however_it_is_cut() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(b"data: one\n\n").unwrap();
        encoder.flush().unwrap();
        let first = encoder.get_ref().len();
        encoder.write_all(b"data: two\n\n").unwrap();
        let all = encoder.finish().unwrap();
        for size in [1, 3, first, all.len()] {
            let mut inflate = Inflate::of(&HeaderValue::from_static("GZip")).unwrap();
            let (mut out, mut early) = (Vec::new(), 0);
            let mut fed = 0;
            for chunk in all.chunks(size) {
                inflate.each(chunk, |piece| out.extend(piece)).unwrap();
                fed += chunk.len();
                if fed == first {
                    early = out.len();
                }
            }
            assert_eq!(out, b"data: one\n\ndata: two\n\n", "{size}");
            assert!(early == 11 || first % size != 0, "{size}: {early}");
        }
    }

    #[test]
    fn what_is_not_in_it_is_broken_and_others_are_unknown() {
        let mut inflate = Inflate::of(&HeaderValue::from_static("gzip")).unwrap();
        assert_eq!(inflate.each(b"data: plain text, and more of it", |_| {}), Err(Broken));
        assert!(Inflate::of(&HeaderValue::from_static("br")).is_none());
    }
}
