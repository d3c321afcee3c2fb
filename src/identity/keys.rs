//! Virtual keys of the configuration, stored as the SHA-256 of their secret only.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use super::Caller;
use crate::error::{Denial, codes};

/// A key of the configuration. Its secret is not part of this and cannot be recovered from it.
#[derive(Debug, Clone)]
pub struct KeyRecord {
    /// The caller that the key stands for.
    pub caller: Arc<Caller>,
    /// The instant from which on the key is refused.
    pub expires: Option<SystemTime>,
    /// Whether the operator has switched the key off; takes precedence over expiry.
    pub revoked: bool,
}

/// All keys by the SHA-256 of their secret. The timing of a lookup reveals nothing useful about a secret, because a caller
/// cannot choose a digest bit by bit.
pub type Keys = HashMap<[u8; 32], KeyRecord>;

/// The SHA-256 of a secret, by which a key is stored and looked up.
pub fn fingerprint(secret: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, secret);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

/// Finds the caller of a presented secret.
///
/// # Errors
/// `unauthorized` for an unknown or empty secret, `api_key_revoked`, `api_key_expired`.
pub fn authenticate(keys: &Keys, secret: &[u8], now: SystemTime) -> Result<Arc<Caller>, Denial> {
    if secret.is_empty() {
        return Err(Denial::of(codes::UNAUTHORIZED));
    }
    let record = keys.get(&fingerprint(secret)).ok_or_else(|| Denial::of(codes::UNAUTHORIZED))?;
    if record.revoked {
        return Err(Denial::of(codes::KEY_REVOKED));
    }
    if record.expires.is_some_and(|at| now >= at) {
        return Err(Denial::of(codes::KEY_EXPIRED));
    }
    Ok(Arc::clone(&record.caller))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::identity::{KeyKind, Organisation};
    use std::time::Duration;

    fn record(expires: Option<SystemTime>, revoked: bool) -> KeyRecord {
        let organisation = Arc::new(Organisation { id: "acme".into(), name: "acme".into(), metadata: Default::default() });
        let caller = Caller {
            key_id: "k1".into(),
            key_name: "k1".into(),
            kind: KeyKind::Organisation,
            organisation,
            team: None,
            user: None,
            models: Default::default(),
            mcp_servers: Default::default(),
            terms: Arc::default(),
        };
        KeyRecord { caller: Arc::new(caller), expires, revoked }
    }

    #[test]
    fn each_state_of_a_key_has_its_own_code() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let past = now - Duration::from_secs(1);
        let keys: Keys = [
            (fingerprint(b"good"), record(Some(now + Duration::from_secs(1)), false)),
            (fingerprint(b"old"), record(Some(past), false)),
            (fingerprint(b"off"), record(Some(past), true)),
        ]
        .into();
        assert_eq!(&*authenticate(&keys, b"good", now).unwrap().key_id, "k1");
        let code = |secret: &[u8]| authenticate(&keys, secret, now).unwrap_err().code;
        assert_eq!(code(b"old"), "api_key_expired");
        assert_eq!(code(b"off"), "api_key_revoked");
        assert_eq!(code(b"none"), "unauthorized");
        assert_eq!(code(b""), "unauthorized");
        assert_eq!(fingerprint(b"abc")[..4], [0xba, 0x78, 0x16, 0xbf]);
    }
}
