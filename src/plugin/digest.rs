//! Digests of texts: a text can be recognised without revealing anything of it. With a key, only its holders can test guesses
//! against a digest.

use ring::{digest, hmac};

use crate::identity::Secret;

/// SHA-256 over parts, or HMAC-SHA-256 with a key.
#[derive(Debug, Clone)]
pub struct Digester(Option<hmac::Key>);

impl Digester {
    /// A digester with this key, if any.
    pub fn new(key: Option<&Secret>) -> Self {
        Self(key.map(|key| hmac::Key::new(hmac::HMAC_SHA256, key.expose().as_bytes())))
    }

    /// The digest of several parts. Their lengths are included, so that moving bytes between parts changes it.
    pub fn of(&self, parts: &[&[u8]]) -> [u8; 32] {
        let mut out = [0; 32];
        let lengths = parts.iter().map(|part| (part.len() as u64).to_be_bytes());
        match &self.0 {
            None => {
                let mut context = digest::Context::new(&digest::SHA256);
                lengths.zip(parts).for_each(|(length, part)| {
                    context.update(&length);
                    context.update(part);
                });
                out.copy_from_slice(context.finish().as_ref());
            }
            Some(key) => {
                let mut context = hmac::Context::with_key(key);
                lengths.zip(parts).for_each(|(length, part)| {
                    context.update(&length);
                    context.update(part);
                });
                out.copy_from_slice(context.sign().as_ref());
            }
        }
        out
    }

    /// The digest of one text as `sha256:<hex>`, or `hmac-sha256:<hex>` with a key. It covers the text's bytes alone, so that
    /// others can compute it too.
    pub fn text(&self, text: &[u8]) -> String {
        let (name, digest) = match &self.0 {
            None => ("sha256", hex(digest::digest(&digest::SHA256, text).as_ref())),
            Some(key) => ("hmac-sha256", hex(hmac::sign(key, text).as_ref())),
        };
        format!("{name}:{digest}")
    }
}

/// Lowercase hex.
pub fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn parts_and_keys_make_a_difference() {
        let plain = Digester::new(None);
        let keyed = Digester::new(Some(&Secret::new("a key of some length".into())));
        assert_ne!(plain.of(&[b"ab", b"c"]), plain.of(&[b"a", b"bc"]));
        assert_ne!(plain.of(&[b"ab"]), keyed.of(&[b"ab"]));
        assert_eq!(plain.text(b"abc"), "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert!(keyed.text(b"abc").starts_with("hmac-sha256:"));
    }
}
