//! The entries that hold the log together: openings, recoveries and signed checkpoints. Fields stand in the order of the
//! alphabet, which makes their JSON canonical.

use serde::{Deserialize, Serialize};

use super::key::{PublicKey, Signer};
use super::line::{Hash, hex, unhex};

/// What is signed begins with this, so that no signature of ours means anything elsewhere.
const DOMAIN: &[u8] = b"odock-edge evidence checkpoint v1\0";

/// What any entry says about itself.
#[derive(Debug, Clone, Deserialize)]
pub struct Head {
    /// `open`, `resumed`, `recovered`, `overlap`, `request`, `execution`, `delivery` or `checkpoint`.
    pub kind: String,
    /// Its number in the log.
    pub seq: u64,
    /// The request it speaks of.
    pub request_id: Option<String>,
}

impl Head {
    /// Reads the head of an entry, whatever its kind.
    pub fn parse(entry: &[u8]) -> Option<Self> {
        serde_json::from_slice(entry).ok()
    }
}

/// First line of every file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// When.
    pub at: String,
    /// The public key of the checkpoints that follow, hex.
    pub key: String,
    /// `open`.
    pub kind: String,
    /// The file before this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_file: Option<String>,
    /// Hash of that file's last line, hex; zeros in the first file.
    pub previous_hash: String,
    /// Number in the log.
    pub seq: u64,
    /// The writer's version.
    pub software: String,
}

/// A process goes on with a file: `resumed` after an orderly end, otherwise `recovered`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// When.
    pub at: String,
    /// The public key of the checkpoints that follow, hex.
    pub key: String,
    /// `resumed` or `recovered`.
    pub kind: String,
    /// How many bytes after the last whole line are no line: what a kill or a full disk left.
    pub lost_bytes: u64,
    /// SHA-256 of those bytes, hex. They stay where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_sha256: Option<String>,
    /// Number in the log.
    pub seq: u64,
}

/// Why a checkpoint was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A process began to write.
    Open,
    /// So many records since the last one.
    Count,
    /// So much time since the last one.
    Time,
    /// The next file follows.
    Rotate,
    /// The process ends; nothing follows.
    Close,
}

/// A signature over everything up to here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// When.
    pub at: String,
    /// Records this process has had to drop so far.
    pub dropped: u64,
    /// The public key, hex.
    pub key: String,
    /// `checkpoint`.
    pub kind: String,
    /// Why now.
    pub reason: Reason,
    /// Records this process has written so far.
    pub records: u64,
    /// Number in the log.
    pub seq: u64,
    /// Ed25519 over the domain, the previous line's hash and this entry without its signature, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Checkpoint {
    /// Signs for everything up to `previous`.
    ///
    /// # Errors
    /// None in practice, see [`super::line::Link::push`].
    pub fn sign(mut self, previous: &Hash, signer: &Signer) -> Result<Self, serde_json::Error> {
        self.signature = None;
        self.signature = Some(hex(&signer.sign(&self.message(previous)?)));
        Ok(self)
    }

    /// Reads a checkpoint and checks that it is canonical and signed by one of these keys for everything up to `previous`.
    pub fn verify(entry: &[u8], previous: &Hash, keys: &[PublicKey]) -> Result<Self, &'static str> {
        let signed: Self = serde_json::from_slice(entry).map_err(|_| "the checkpoint cannot be read")?;
        if serde_json::to_vec(&signed).ok().as_deref() != Some(entry) {
            return Err("the checkpoint is not in canonical form");
        }
        let key = keys.iter().find(|key| key.to_hex() == signed.key).ok_or("the checkpoint is signed by an unknown key")?;
        let signature = signed.signature.as_deref().and_then(|digits| unhex::<64>(digits.as_bytes()));
        let signature = signature.ok_or("the checkpoint has no signature")?;
        let unsigned = Self { signature: None, ..signed.clone() };
        let message = unsigned.message(previous).map_err(|_| "the checkpoint cannot be read")?;
        if key.verify(&message, &signature) { Ok(signed) } else { Err("the signature does not fit") }
    }

    fn message(&self, previous: &Hash) -> Result<Vec<u8>, serde_json::Error> {
        let mut message = DOMAIN.to_vec();
        message.extend_from_slice(previous);
        serde_json::to_writer(&mut message, self)?;
        Ok(message)
    }
}

/// The last checkpoint once more, in a file of its own beside the log, replaced whenever one is written. A log that does
/// not reach it was cut.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The checkpoint's entry, as it stands in the log.
    pub checkpoint: String,
    /// The file it stands in.
    pub file: String,
    /// Its line there, counted from 1.
    pub line: u64,
    /// Hash of the line before it, hex.
    pub previous: String,
}

impl Anchor {
    /// The file's name.
    pub const FILE: &'static str = "checkpoint.json";

    /// Checks the signature; gives the checkpoint and the hash of its line.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(Checkpoint, Hash), &'static str> {
        let previous = unhex(self.previous.as_bytes()).ok_or("the hash cannot be read")?;
        let checkpoint = Checkpoint::verify(self.checkpoint.as_bytes(), &previous, keys)?;
        Ok((checkpoint, super::line::linked(&previous, self.checkpoint.as_bytes())))
    }
}
