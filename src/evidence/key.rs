//! The Ed25519 key that signs checkpoints, and the public keys that check them.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use ring::rand::SystemRandom;
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::line::{hex, unhex};
use crate::config::SigningKey;

/// The file of public keys in the evidence directory: `ed25519 HEX`, one per line, the current key last.
pub const PUBLIC_FILE: &str = "signing.pub";

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The key file cannot be read or created.
    #[error("signing key {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: io::Error,
    },
    /// Other users may read the private key.
    #[error("signing key {0}: other users may read it; set its mode to 0600")]
    Exposed(PathBuf),
    /// Not an Ed25519 key in PKCS#8.
    #[error("signing key: not an Ed25519 private key in PKCS#8 (DER, PEM or base64)")]
    Malformed,
}

/// Signs with the private key, and never reveals it.
pub struct Signer {
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Signer({})", self.public().to_hex())
    }
}

impl Signer {
    /// Reads the configured key. A key file that does not exist is created, with mode 0600.
    ///
    /// # Errors
    /// A file that cannot be read or created, or that other users may read; bytes that are not a key.
    pub fn load(key: &SigningKey) -> Result<Self, KeyError> {
        match key {
            SigningKey::Given(secret) => Self::parse(secret.expose().as_bytes()),
            SigningKey::File(path) => {
                let failed = |source| KeyError::File { path: path.clone(), source };
                match fs::read(path) {
                    Ok(bytes) if exposed(path).map_err(failed)? => {
                        drop(zeroize::Zeroizing::new(bytes));
                        Err(KeyError::Exposed(path.clone()))
                    }
                    Ok(bytes) => Self::parse(&zeroize::Zeroizing::new(bytes)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path),
                    Err(error) => Err(failed(error)),
                }
            }
        }
    }

    /// Parses PKCS#8 as DER, PEM or base64.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        const SEQUENCE: u8 = 0x30;
        let der = if bytes.first() == Some(&SEQUENCE) && std::str::from_utf8(bytes).is_err() {
            zeroize::Zeroizing::new(bytes.to_vec())
        } else {
            let text = std::str::from_utf8(bytes).map_err(|_| KeyError::Malformed)?;
            zeroize::Zeroizing::new(base64(text).ok_or(KeyError::Malformed)?)
        };
        // `maybe_unchecked` also accepts version 1 keys without the public half, which is what OpenSSL writes.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).map_err(|_| KeyError::Malformed)?;
        Ok(Self { pair })
    }

    fn make(path: &Path) -> Result<Self, KeyError> {
        let failed = |source| KeyError::File { path: path.to_owned(), source };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(failed)?;
        }
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| KeyError::Malformed)?;
        // The file is complete before it gets its name: of two processes that start at once, both use the key that was
        // first.
        let draft = path.with_extension(format!("{:08x}.new", rand::random::<u32>()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft).map_err(failed)?;
        file.write_all(der.as_ref()).and_then(|()| file.sync_all()).map_err(failed)?;
        let linked = fs::hard_link(&draft, path);
        fs::remove_file(&draft).map_err(failed)?;
        match linked {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(failed(error)),
            _ => Self::parse(&zeroize::Zeroizing::new(fs::read(path).map_err(failed)?)),
        }
    }

    /// The Ed25519 signature of a message.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature.copy_from_slice(self.pair.sign(message).as_ref());
        signature
    }

    /// The public key that verifies these signatures.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Appends the public key to the [`PUBLIC_FILE`] of a directory, unless it is the last one there.
    ///
    /// # Errors
    /// Errors of the file system.
    pub fn publish(&self, directory: &Path) -> io::Result<()> {
        let path = directory.join(PUBLIC_FILE);
        let known = match fs::read_to_string(&path) {
            Ok(text) => PublicKey::list(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        if known.last() == Some(&self.public()) {
            return Ok(());
        }
        let mut file = OpenOptions::new().append(true).create(true).mode(0o644).open(path)?;
        writeln!(file, "ed25519 {}", self.public().to_hex())
    }
}

fn exposed(path: &Path) -> io::Result<bool> {
    // Credentials from systemd have mode 0400 or 0440 in a directory that other users cannot enter; so only "others" count.
    Ok(fs::metadata(path)?.permissions().mode() & 0o007 != 0)
}

/// Verifies signatures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Parses 64 hex digits.
    pub fn from_hex(digits: &str) -> Option<Self> {
        unhex(digits.as_bytes()).map(Self)
    }

    /// The key as 64 hex digits.
    pub fn to_hex(self) -> String {
        hex(&self.0)
    }

    /// Every key of a [`PUBLIC_FILE`]; other lines are ignored.
    pub fn list(text: &str) -> Vec<Self> {
        text.lines().filter_map(|line| Self::from_hex(line.trim().strip_prefix("ed25519 ")?.trim())).collect()
    }

    /// Whether this key made the signature of the message.
    pub fn verify(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

/// Decodes standard base64, with or without padding; line breaks and PEM lines are skipped.
fn base64(text: &str) -> Option<Vec<u8>> {
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let lines = text.lines().filter(|line| !line.starts_with("-----"));
    let digits: zeroize::Zeroizing<String> = lines.flat_map(str::split_ascii_whitespace).collect::<String>().into();
    GeneralPurpose::new(&STANDARD, padding).decode(digits.as_bytes()).ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_key_is_made_once_and_kept_from_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("signing.pk8");
        let made = Signer::load(&SigningKey::File(path.clone())).unwrap();
        let read = Signer::load(&SigningKey::File(path.clone())).unwrap();
        assert_eq!(made.public(), read.public());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(read.public().verify(b"text", &made.sign(b"text")) && !read.public().verify(b"texT", &made.sign(b"text")));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Signer::load(&SigningKey::File(path)), Err(KeyError::Exposed(_))));
    }

    #[test]
    fn who_starts_at_the_same_time_has_the_same_key() {
        for _ in 0..20 {
            let dir = tempfile::tempdir().unwrap();
            let key = SigningKey::File(dir.path().join("signing.pk8"));
            let start = std::sync::Barrier::new(4);
            let keys: Vec<PublicKey> = std::thread::scope(|scope| {
                let load = || {
                    start.wait();
                    Signer::load(&key).unwrap().public()
                };
                let all: Vec<_> = (0..4).map(|_| scope.spawn(load)).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|one| *one == keys[0]), "{keys:?}");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "drafts are gone");
        }
    }

    #[test]
    fn public_keys_are_listed_with_the_current_one_last() {
        let dir = tempfile::tempdir().unwrap();
        let keys = ["a", "b"].map(|name| Signer::load(&SigningKey::File(dir.path().join(name))).unwrap());
        for key in [&keys[0], &keys[0], &keys[1], &keys[1]] {
            key.publish(dir.path()).unwrap();
        }
        let listed = PublicKey::list(&fs::read_to_string(dir.path().join(PUBLIC_FILE)).unwrap());
        assert_eq!(listed, keys.map(|key| key.public()));
    }

    #[test]
    fn a_key_that_openssl_wrote_is_read() {
        // The private key of RFC 8410, 10.3.
        let pem =
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
        let public = Signer::parse(pem.as_bytes()).unwrap().public().to_hex();
        assert_eq!(public, "19bf44096984cdfe8541bac167dc3b96c85086aa30b6b6cb0c5c38ad703166e1");
        assert!(matches!(Signer::parse(b"no key"), Err(KeyError::Malformed)));
    }
}
