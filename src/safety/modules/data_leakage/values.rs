//! Personal data and secrets in an answer that its request does not hold.
//!
//! `sensitive_redaction` replaces them, here they count: a key of a provider or a private key is a leak wherever it comes
//! from. Passwords and nameless tokens stand in every other sample of code, and one address or number is what many a
//! question asks for, so they are noted faintly; but an answer with the data of many people looks like a dumped table.
//! Network addresses say nothing about anyone and are passed over, and so are mail addresses of domains that are reserved
//! for examples.

use super::NAME;
use crate::safety::entity::{Entity, Find, Kind, Shared};
use crate::safety::fingerprint::{Fingerprints, values};
use crate::safety::{Finding, Findings};

const KEY: f32 = 0.6;
const FAINT: f32 = 0.2;
/// The score of the value that makes them many.
const CROWD: f32 = 0.55;
/// So many different personal values are the data of many people. More are not noted.
pub const MANY: usize = 10;
/// So many different secrets are noted.
const MOST: usize = 32;

/// What an answer has told so far.
#[derive(Debug, Default)]
pub struct Told {
    secrets: Vec<u64>,
    personal: Vec<u64>,
}

impl Told {
    /// What to make of a find: each value counts once.
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

/// Domains that belong to nobody (RFC 2606).
fn reserved(address: &str) -> bool {
    let domain = address.rsplit('@').next().unwrap_or_default().to_ascii_lowercase();
    let mut labels = domain.rsplit('.');
    match labels.next() {
        Some("example" | "test" | "invalid" | "localhost") => true,
        Some("com" | "net" | "org") => labels.next() == Some("example"),
        _ => false,
    }
}

/// The same for an answer that arrives in pieces.
#[derive(Debug)]
pub struct Watch {
    stream: Shared,
    /// So much of the text was shown.
    at: usize,
    told: Told,
    /// What is not settled of the text, and where that begins.
    tail: String,
    from: usize,
    finds: Vec<Find>,
}

impl Watch {
    /// At the beginning of an answer.
    pub fn new(stream: Shared) -> Self {
        Self { stream, at: 0, told: Told::default(), tail: String::new(), from: 0, finds: Vec::new() }
    }

    /// Takes the next piece and says how far the text is settled.
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

    /// The text has ended.
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
