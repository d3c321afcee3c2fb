//! Personal data and secrets in an answer that its request does not contain.
//!
//! `sensitive_redaction` replaces them, this module scores them: a provider's key or a private key is a leak wherever it
//! comes from. Passwords and unnamed tokens occur in every other code sample, and a single address or number is what many
//! questions ask for, so they score low; but an answer with the data of many people looks like a dumped table. Network
//! addresses identify nobody and are ignored, and so are mail addresses in domains that are reserved for examples.

use super::NAME;
use crate::safety::entity::{Entity, Find, Kind, Shared};
use crate::safety::fingerprint::{Fingerprints, values};
use crate::safety::{Finding, Findings};

const KEY: f32 = 0.6;
const FAINT: f32 = 0.2;
/// The score of the value that completes a crowd.
const CROWD: f32 = 0.55;
/// This many different personal values are the data of many people. Further ones are not reported.
pub const MANY: usize = 10;
/// Most different secrets that are reported.
const MOST: usize = 32;

/// The values that an answer has contained so far.
#[derive(Debug, Default)]
pub struct Told {
    secrets: Vec<u64>,
    personal: Vec<u64>,
}

impl Told {
    /// The finding for a value, if any: each value counts once.
    pub fn judge(&mut self, find: Find, value: &str, asked: Option<&Fingerprints>) -> Option<Finding> {
        let Kind::BuiltIn(entity) = find.kind else { return None };
        let (told, most, score) = match entity {
            Entity::IpAddress => return None,
            Entity::Email if reserved(value) => return None,
            Entity::Email | Entity::Phone | Entity::CreditCard | Entity::Iban | Entity::UsSsn => {
                let score = if self.personal.len() + 1 == MANY { CROWD } else { FAINT };
                (&mut self.personal, MANY, score)
            }
            Entity::Password | Entity::Token => (&mut self.secrets, MOST, FAINT),
            _ => (&mut self.secrets, MOST, KEY),
        };
        let number = values::number(entity, value);
        if told.len() == most || told.contains(&number) || asked.is_some_and(|asked| asked.has_value(number)) {
            return None;
        }
        told.push(number);
        Some(Finding { module: NAME, category: "sensitive_output".into(), span: find.span, score, redact: false })
    }
}

/// Whether a domain is reserved (RFC 2606).
fn reserved(address: &str) -> bool {
    let domain = address.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let mut labels = domain.rsplit('.');
    match labels.next() {
        Some("example" | "test" | "invalid" | "localhost") => true,
        Some("com" | "net" | "org") => labels.next() == Some("example"),
        _ => false,
    }
}

/// Looks for values in an answer that arrives in pieces.
#[derive(Debug)]
pub struct Watch {
    stream: Shared,
    /// Number of bytes passed to the stream.
    at: usize,
    told: Told,
    /// The unsettled end of the text, and its offset.
    tail: String,
    from: usize,
    finds: Vec<Find>,
}

impl Watch {
    /// At the beginning of an answer.
    pub fn new(stream: Shared) -> Self {
        Self { stream, at: 0, told: Told::default(), tail: String::new(), from: 0, finds: Vec::new() }
    }

    /// Takes the next piece. Returns how far the text is settled.
    pub fn feed(&mut self, piece: &str, asked: Option<&Fingerprints>, out: &mut Findings) -> usize {
        self.tail.push_str(piece);
        let Self { stream, at, finds, .. } = self;
        let settled = stream.feed(*at, piece, |find| finds.push(find));
        *at += piece.len();
        self.judge(asked, out);
        let mut past = settled.saturating_sub(self.from).min(self.tail.len());
        while !self.tail.is_char_boundary(past) {
            past -= 1;
        }
        self.tail.drain(..past);
        self.from += past;
        settled
    }

    /// Ends the text.
    pub fn finish(&mut self, asked: Option<&Fingerprints>, out: &mut Findings) {
        let Self { stream, finds, .. } = self;
        stream.finish(|find| finds.push(find));
        self.judge(asked, out);
    }

    fn judge(&mut self, asked: Option<&Fingerprints>, out: &mut Findings) {
        for find in self.finds.drain(..) {
            let place = find.span.start.saturating_sub(self.from)..find.span.end.saturating_sub(self.from);
            let value = self.tail.get(place).unwrap_or_default();
            out.extend(self.told.judge(find, value, asked));
        }
    }
}
