//! What a log says of the logs that overlapping processes keep below its directory: nobody would miss a whole one otherwise.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::entry::Anchor;
use super::key::PublicKey;
use super::line::{Hash, hex, unhex};

/// There is another log below this one, and it goes at least so far.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overlap {
    /// When.
    pub at: String,
    /// Its directory, `overlap-N`.
    pub directory: String,
    /// Hash of the line of its last checkpoint by then, hex; none where no checkpoint of it could be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hash: Option<String>,
    /// `overlap`.
    pub kind: String,
    /// The number of that checkpoint in its own log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reaches: Option<u64>,
    /// Number in this log.
    pub seq: u64,
}

impl Overlap {
    /// What is known of the log in this directory, if its last checkpoint is signed by the key.
    pub fn of(at: String, directory: &Path, key: &PublicKey, seq: u64) -> Self {
        let anchor = fs::read(directory.join(Anchor::FILE)).ok().and_then(|bytes| serde_json::from_slice::<Anchor>(&bytes).ok());
        let last = anchor.and_then(|anchor| anchor.verify(std::slice::from_ref(key)).ok());
        Self {
            at,
            directory: directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            hash: last.as_ref().map(|(_, hash)| hex(hash)),
            kind: "overlap".to_owned(),
            reaches: last.map(|(point, _)| point.seq),
            seq,
        }
    }

    /// A line that must stand in it: its number and its hash.
    pub fn mark(&self) -> Option<(u64, Hash)> {
        Some((self.reaches?, unhex(self.hash.as_deref()?.as_bytes())?))
    }
}
