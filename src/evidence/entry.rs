//! The entries that hold the log together: openings, recoveries and signed checkpoints. Fields are declared in alphabetical
//! order, which makes their JSON canonical.

use serde::{Deserialize, Serialize};

use super::key::{PublicKey, Signer};
use super::line::{Hash, hex, unhex};

/// Every signed message begins with this domain separator, so that no signature is valid in another context.
const DOMAIN: &[u8] = b"odock-edge evidence checkpoint v1\0";

/// The members that every entry has.
#[derive(Debug, Clone, Deserialize)]
pub struct Head {
    /// `open`, `resumed`, `recovered`, `overlap`, `request`, `execution`, `delivery` or `checkpoint`.
    pub kind: String,
    /// Its sequence number in the log.
    pub seq: u64,
    /// The request it is about.
    pub request_id: Option<String>,
}

impl Head {
    /// Reads these members of an entry of any kind.
    pub fn parse(entry: &[u8]) -> Option<Self> {
        serde_json::from_slice(entry).ok()
    }
}

/// The first line of every file.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Open {
    /// When the file was opened.
    pub at: String,
    /// The public key of the checkpoints that follow, hex.
    pub key: String,
    /// `open`.
    pub kind: String,
    /// Name of the previous file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_file: Option<String>,
    /// Hash of the previous file's last line, hex; zeros in the first file.
    pub previous_hash: String,
    /// Sequence number in the log.
    pub seq: u64,
    /// Version of the gateway that wrote it.
    pub software: String,
}

/// A process continues an existing file: `resumed` after an orderly shutdown, otherwise `recovered`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resume {
    /// When it continued.
    pub at: String,
    /// The public key of the checkpoints that follow, hex.
    pub key: String,
    /// `resumed` or `recovered`.
    pub kind: String,
    /// Number of bytes after the last valid line that are not part of one: what a kill or a full disk left.
    pub lost_bytes: u64,
    /// SHA-256 of these bytes, hex. The bytes stay in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lost_sha256: Option<String>,
    /// Sequence number in the log.
    pub seq: u64,
}

/// Why a checkpoint was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A process began to write.
    Open,
    /// The configured number of records since the last checkpoint was reached.
    Count,
    /// The configured time since the last checkpoint passed.
    Time,
    /// The file is full; the next one follows.
    Rotate,
    /// The process ends; nothing follows.
    Close,
}

/// A signature over the log up to this line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Checkpoint {
    /// When it was signed.
    pub at: String,
    /// Number of records that this process has dropped so far.
    pub dropped: u64,
    /// The public key that checks the signature, hex.
    pub key: String,
    /// `checkpoint`.
    pub kind: String,
    /// Why it was written.
    pub reason: Reason,
    /// Number of records that this process has written so far.
    pub records: u64,
    /// Sequence number in the log.
    pub seq: u64,
    /// Ed25519 signature over the domain separator, the previous line's hash and this entry without `signature`, hex.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
}

impl Checkpoint {
    /// Signs for the log up to `previous`.
    ///
    /// # Errors
    /// None in practice, see [`super::line::Link::push`].
    pub fn sign(mut self, previous: &Hash, signer: &Signer) -> Result<Self, serde_json::Error> {
        self.signature = None;
        self.signature = Some(hex(&signer.sign(&self.message(previous)?)));
        Ok(self)
    }

    /// Reads a checkpoint, and checks that it is canonical and that one of these keys signed it for the log up to
    /// `previous`.
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

/// A copy of the last checkpoint in a file of its own beside the log, replaced with every checkpoint. A log that does not
/// reach its anchor was truncated.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// The checkpoint's entry, exactly as in the log.
    pub checkpoint: String,
    /// The file that holds it.
    pub file: String,
    /// Its line in that file, from 1.
    pub line: u64,
    /// Hash of the line before it, hex.
    pub previous: String,
}

impl Anchor {
    /// The name of the anchor's file.
    pub const FILE: &'static str = "checkpoint.json";

    /// Checks the signature. Returns the checkpoint and the hash of its line.
    pub fn verify(&self, keys: &[PublicKey]) -> Result<(Checkpoint, Hash), &'static str> {
        let previous = unhex(self.previous.as_bytes()).ok_or("the hash cannot be read")?;
        let checkpoint = Checkpoint::verify(self.checkpoint.as_bytes(), &previous, keys)?;
        Ok((checkpoint, super::line::linked(&previous, self.checkpoint.as_bytes())))
    }
}
