//! The table of keys as a file, for a start without the record store. It contains no secrets, only fingerprints and grants, and
//! is sealed so that nobody without the hashing key can add a key to it.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::hasher::{KeyHasher, hex};
use super::table::{Entry, KeyTable};

/// Where a new file is written before it takes the place of the one before.
pub(super) fn draft(path: &Path) -> PathBuf {
    path.with_extension(format!("{}.new", std::process::id()))
}

/// Writes the table in place of what was there: one key a line, then the seal. Its time is `as_of`, when the table was true:
/// what changes while it is written may be missing in it.
pub(super) fn save(path: &Path, table: &KeyTable, hasher: &KeyHasher, as_of: SystemTime) -> io::Result<()> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let draft = draft(path);
    let mut body = Vec::with_capacity(table.len() * 256);
    table.entries(|entry| {
        serde_json::to_writer(&mut body, entry)?;
        body.push(b'\n');
        Ok(())
    })?;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let mut out = BufWriter::new(file);
    out.write_all(&body)?;
    writeln!(out, "{}", hex(&hasher.fingerprint(&body)))?;
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.set_modified(as_of)?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}

/// Marks the file as up to date, by its modification time.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    File::options().write(true).open(path)?.set_modified(SystemTime::now())
}

/// Reads the file into the table; returns as of when it was up to date.
pub(super) fn load(path: &Path, table: &KeyTable, hasher: &KeyHasher) -> io::Result<SystemTime> {
    let modified = std::fs::metadata(path)?.modified()?;
    let bytes = std::fs::read(path)?;
    let bad = || io::Error::new(io::ErrorKind::InvalidData, "is not sealed with the hashing key");
    let seal = bytes.len().checked_sub(65).ok_or_else(bad)?;
    let (body, tag) = bytes.split_at(seal);
    let mut expected = [0; 32];
    for (byte, digits) in expected.iter_mut().zip(tag.chunks(2)) {
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        *byte = u8::from_str_radix(digits, 16).map_err(|_| bad())?;
    }
    if !hasher.vouches(body, &expected) {
        return Err(bad());
    }
    for line in body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        table.put(serde_json::from_slice::<Entry>(line)?);
    }
    Ok(modified)
}
