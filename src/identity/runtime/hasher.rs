//! The generation of secrets, and the keyed hash by which they are stored.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use crate::config::HashingKey;
use crate::identity::Secret;

/// The prefix of every secret.
const PREFIX: &str = "sk_";
/// The number of hex digits of a secret: 192 bits.
const DIGITS: usize = 48;

/// HMAC-SHA-256 (RFC 2104) under a key that is not in the record store, so that a reader of the store cannot test guesses.
pub struct KeyHasher(hmac::Key);

impl std::fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyHasher")
    }
}

impl KeyHasher {
    /// A hasher with the key that the settings name.
    ///
    /// # Errors
    /// The key's file cannot be used.
    pub fn of(key: &HashingKey) -> io::Result<Self> {
        match key {
            HashingKey::Given(secret) => Ok(Self::new(secret.expose().as_bytes())),
            HashingKey::File(path) => {
                Self::kept_in(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
            }
        }
    }

    /// A hasher with this key, which must be the same on every replica that shares a record store.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// A hasher with the key in a file, which is created with mode 0600 if it is missing.
    ///
    /// # Errors
    /// The file cannot be read or created, is readable by other users, or is too short.
    pub fn kept_in(path: &Path) -> io::Result<Self> {
        let mut bytes = zeroize::Zeroizing::new(Vec::new());
        match File::open(path) {
            Ok(mut file) => {
                if file.metadata()?.permissions().mode() & 0o077 != 0 {
                    return Err(io::Error::new(io::ErrorKind::PermissionDenied, "other users may read it; set its mode to 0600"));
                }
                file.read_to_end(&mut bytes)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Self::made(path),
            Err(error) => return Err(error),
        }
        if bytes.len() < 32 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "is shorter than 32 bytes"));
        }
        Ok(Self::new(&bytes))
    }

    fn made(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let bytes = zeroize::Zeroizing::new(random::<32>()?);
        // Written completely before it gets its name, so that two processes starting at the same time agree on the first one.
        let draft = path.with_extension(format!("{}.new", std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
        file.write_all(&*bytes)?;
        file.sync_all()?;
        let linked = std::fs::hard_link(&draft, path);
        std::fs::remove_file(&draft)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Self::kept_in(path),
        }
    }

    /// The hash of a secret, by which its key is looked up.
    pub fn fingerprint(&self, secret: &[u8]) -> [u8; 32] {
        let tag = hmac::sign(&self.0, secret);
        let mut out = [0; 32];
        out.copy_from_slice(tag.as_ref());
        out
    }

    /// Whether `tag` is the hash of these bytes, compared in constant time.
    pub fn vouches(&self, bytes: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.0, bytes, tag).is_ok()
    }
}

/// A new secret, and the hint by which people recognise it, such as `sk_11…50ae`.
///
/// # Errors
/// The system's random number generator failed.
pub fn mint() -> io::Result<(Secret, String)> {
    let digits = hex(&random::<{ DIGITS / 2 }>()?);
    let hint = format!("{PREFIX}{}…{}", &digits[..2], &digits[DIGITS - 4..]);
    Ok((Secret::new(format!("{PREFIX}{digits}")), hint))
}

/// A new id for a key.
///
/// # Errors
/// The system's random number generator failed.
pub(super) fn mint_id() -> io::Result<String> {
    Ok(format!("key_{}", hex(&random::<12>()?)))
}

/// Whether this has the form of a secret from [`mint`]. Nothing else needs to be hashed.
pub(super) fn is_minted(secret: &[u8]) -> bool {
    secret.len() == PREFIX.len() + DIGITS && secret.starts_with(PREFIX.as_bytes()) && secret[PREFIX.len()..].iter().all(is_digit)
}

pub(super) fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(byte)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| io::Error::other("the system has no randomness"))?;
    Ok(bytes)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn secrets_have_their_form_and_are_new_each_time() {
        let (one, hint) = mint().unwrap();
        assert!(is_minted(one.expose().as_bytes()), "{}", one.expose().len());
        assert_eq!(hint.chars().count(), 10);
        assert!(one.expose().ends_with(hint.rsplit('…').next().unwrap()));
        assert_ne!(one, mint().unwrap().0);
        for other in ["", "sk_", "sk_4f", &one.expose().to_uppercase(), &one.expose()[1..]] {
            assert!(!is_minted(other.as_bytes()), "{other}");
        }
    }

    #[test]
    fn the_key_in_a_file_is_made_once_and_never_open_to_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/odock.db.key");
        let made = KeyHasher::kept_in(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(made.fingerprint(b"a"), KeyHasher::kept_in(&path).unwrap().fingerprint(b"a"));
        assert!(made.vouches(b"a", &made.fingerprint(b"a")) && !made.vouches(b"b", &made.fingerprint(b"a")));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(KeyHasher::kept_in(&path).unwrap_err().kind(), io::ErrorKind::PermissionDenied);
    }
}
