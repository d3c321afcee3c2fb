//! Signatures of Standard Webhooks: `v1` is HMAC-SHA256, `v1a` is Ed25519, both over `id.timestamp.body` in Base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::signature::Ed25519KeyPair;
use ring::{hmac, signature};

use crate::plugin::prelude::*;

/// A signing secret.
pub(super) enum Signer {
    Shared(hmac::Key),
    Own(Ed25519KeyPair),
}

impl Signer {
    /// Parses a secret in its distributed form: `whsec_` and base64 of 24 to 64 bytes; or `whsk_` and base64 of an Ed25519
    /// key of 32 bytes or, with its public half appended, 64.
    pub fn read(text: &str) -> Result<Self, &'static str> {
        let text = text.trim();
        if let Some(shared) = text.strip_prefix("whsec_") {
            let bytes = STANDARD.decode(shared).map_err(|_| "what follows `whsec_` is not Base64")?;
            if !(24..=64).contains(&bytes.len()) {
                return Err("a secret has 24 to 64 bytes");
            }
            return Ok(Self::Shared(hmac::Key::new(hmac::HMAC_SHA256, &bytes)));
        }
        let own = text.strip_prefix("whsk_").ok_or("a secret begins with `whsec_` or `whsk_`")?;
        let bytes = STANDARD.decode(own).map_err(|_| "what follows `whsk_` is not Base64")?;
        let pair = match bytes.len() {
            32 => Ed25519KeyPair::from_seed_unchecked(&bytes),
            64 => Ed25519KeyPair::from_seed_and_public_key(&bytes[..32], &bytes[32..]),
            _ => return Err("a signing key has 32 or 64 bytes"),
        };
        pair.map(Self::Own).map_err(|_| "the two halves of the key do not belong together")
    }

    /// One signature, with its version.
    pub fn sign(&self, id: &str, timestamp: &str, body: &[u8]) -> String {
        let head = format!("{id}.{timestamp}.");
        match self {
            Self::Shared(key) => {
                let mut context = hmac::Context::with_key(key);
                context.update(head.as_bytes());
                context.update(body);
                format!("v1,{}", STANDARD.encode(context.sign().as_ref()))
            }
            Self::Own(pair) => {
                let mut message = head.into_bytes();
                message.extend_from_slice(body);
                let signed: signature::Signature = pair.sign(&message);
                format!("v1a,{}", STANDARD.encode(signed.as_ref()))
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};

    /// The example of the specification's reference libraries.
    #[test]
    fn a_known_signature() {
        let signer = Signer::read("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signed = signer.sign("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", br#"{"test": 2432232314}"#);
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_signature_that_anybody_can_check() {
        let seed = [7; 32];
        let signer = Signer::read(&format!("whsk_{}", STANDARD.encode(seed))).unwrap();
        let signed = signer.sign("msg_1", "1614265330", b"{}");
        let bytes = STANDARD.decode(signed.strip_prefix("v1a,").unwrap()).unwrap();
        let pair = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap();
        UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref()).verify(b"msg_1.1614265330.{}", &bytes).unwrap();
    }

    #[test]
    fn other_texts_are_no_secrets() {
        for text in ["", "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_!", "whsec_AAAA", "whsk_AAAA", "whpk_AAAA"] {
            assert!(Signer::read(text).is_err(), "{text}");
        }
    }
}
