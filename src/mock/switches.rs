//! The switches with which a request controls the provider: delays, sizes, statuses, faults.

use std::time::Duration;

use clap::ValueEnum;
use serde_json::value::RawValue;

use crate::wire::percent;

/// The prefix of the names in headers and in the query.
pub const PREFIX: &str = "x-mock-";
/// Largest size in bytes to which answers can be padded.
const MAX_SIZE: usize = 64 << 20;

/// Ways in which an answer goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Fault {
    /// The connection is reset before anything is answered.
    ResetBeforeHead,
    /// The connection is reset in the middle of the body.
    ResetMidBody,
    /// Nothing is ever answered.
    Stall,
    /// The head and half of the body come, then nothing.
    StallMidBody,
    /// The answer is not HTTP.
    Garbage,
    /// Half of the body comes, then an orderly close.
    Truncate,
    /// A whole answer that promises keep-alive, then a close.
    CloseKeepalive,
}

/// The switches; `None` leaves what was set before.
#[derive(Debug, Clone, Default, PartialEq, clap::Args)]
pub struct Switches {
    /// Wait before the head of the answer (ms).
    #[arg(long, value_name = "MS")]
    pub latency_ms: Option<u64>,
    /// Wait between the events of a stream (ms).
    #[arg(long, value_name = "MS")]
    pub chunk_delay_ms: Option<u64>,
    /// Pieces a streamed answer comes in (default 8).
    #[arg(long, value_name = "N")]
    pub chunks: Option<usize>,
    /// Answer with this status; 400 and above carry an error body.
    #[arg(long, value_name = "STATUS", value_parser = clap::value_parser!(u16).range(200..=599))]
    pub status: Option<u16>,
    /// Let the answer go wrong.
    #[arg(long, value_name = "FAULT")]
    pub fault: Option<Fault>,
    /// Compress the answer with gzip, asked for or not.
    #[arg(long, num_args = 0..=1, default_missing_value = "true")]
    pub gzip: Option<bool>,
    /// Pad the answer's text to this many bytes.
    #[arg(long, value_name = "BYTES")]
    pub size: Option<usize>,
    /// Answer with this text instead of a derived one.
    #[arg(long, value_name = "TEXT")]
    pub answer: Option<String>,
}

/// An unknown switch, or a value that it does not accept; an error, so that a typo in a test is noticed.
#[derive(Debug, PartialEq, Eq)]
pub struct BadSwitch(pub String);

impl Switches {
    pub fn latency(&self) -> Option<Duration> {
        self.latency_ms.filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    pub fn chunk_delay(&self) -> Option<Duration> {
        self.chunk_delay_ms.filter(|ms| *ms > 0).map(Duration::from_millis)
    }

    /// Sets a switch by its name without the prefix; `_` and `-` are equivalent.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), BadSwitch> {
        fn number<T: std::str::FromStr>(slot: &mut Option<T>, value: &str) -> bool {
            *slot = value.trim().parse().ok();
            slot.is_some()
        }
        let fits = match name.replace('_', "-").as_str() {
            "latency-ms" => number(&mut self.latency_ms, value),
            "chunk-delay-ms" => number(&mut self.chunk_delay_ms, value),
            "chunks" => number(&mut self.chunks, value),
            "size" => number(&mut self.size, value) && self.size.is_some_and(|n| n <= MAX_SIZE),
            "status" => number(&mut self.status, value) && self.status.is_some_and(|s| (200..=599).contains(&s)),
            "fault" => {
                self.fault = Fault::from_str(value.trim(), true).ok();
                self.fault.is_some()
            }
            "gzip" => {
                self.gzip = match value {
                    "1" | "true" => Some(true),
                    "0" | "false" => Some(false),
                    _ => None,
                };
                self.gzip.is_some()
            }
            "answer" => {
                self.answer = Some(value.to_owned());
                true
            }
            _ => false,
        };
        if fits { Ok(()) } else { Err(BadSwitch(format!("mock switch {name} cannot be {value:?}"))) }
    }

    /// Applies `x-mock-*` headers and query parameters. Values are percent-decoded.
    pub fn read(&mut self, headers: &http::HeaderMap, query: Option<&str>) -> Result<(), BadSwitch> {
        for (name, value) in headers {
            if let Some(name) = name.as_str().strip_prefix(PREFIX) {
                self.set(name, &percent_decoded(value.as_bytes()))?;
            }
        }
        for member in query.into_iter().flat_map(|query| query.split('&')) {
            if let Some(member) = member.strip_prefix(PREFIX) {
                let (name, value) = member.split_once('=').unwrap_or((member, "1"));
                self.set(name, &percent_decoded(value.replace('+', " ").as_bytes()))?;
            }
        }
        Ok(())
    }

    /// Applies the `mock` object of a JSON body. Values are taken literally.
    pub fn read_object(&mut self, object: &RawValue) -> Result<(), BadSwitch> {
        let members: serde_json::Map<String, serde_json::Value> =
            serde_json::from_str(object.get()).map_err(|_| BadSwitch("`mock` must be an object".to_owned()))?;
        for (name, value) in &members {
            match value.as_str() {
                Some(text) => self.set(name, text)?,
                None => self.set(name, &value.to_string())?,
            }
        }
        Ok(())
    }
}

/// Decodes percent escapes (`%41`); a `%` that begins no escape is kept.
fn percent_decoded(raw: &[u8]) -> String {
    String::from_utf8_lossy(&percent::lenient(raw)).into_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn headers_query_and_body_speak_of_the_same_switches() {
        let mut switches = Switches::default();
        let mut headers = http::HeaderMap::new();
        headers.insert("x-mock-latency-ms", "5".parse().unwrap());
        headers.insert("x-mock-answer", "caf%C3%A9 50% off".parse().unwrap());
        headers.insert("content-type", "application/json".parse().unwrap());
        switches.read(&headers, Some("a=b&x-mock-fault=reset-mid-body&x-mock-gzip")).unwrap();
        let object: Box<RawValue> = serde_json::from_str(r#"{"status": 429, "chunk_delay_ms": 3}"#).unwrap();
        switches.read_object(&object).unwrap();
        assert_eq!(switches.latency(), Some(Duration::from_millis(5)));
        assert_eq!(switches.answer.as_deref(), Some("café 50% off"));
        assert_eq!((switches.fault, switches.gzip), (Some(Fault::ResetMidBody), Some(true)));
        assert_eq!((switches.status, switches.chunk_delay_ms), (Some(429), Some(3)));
    }

    #[test]
    fn a_typo_is_told() {
        for (name, value) in [("latencyms", "5"), ("status", "42"), ("fault", "explode"), ("size", "999999999999")] {
            assert!(Switches::default().set(name, value).is_err(), "{name}");
        }
    }
}
