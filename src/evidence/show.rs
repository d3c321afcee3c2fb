//! Finding what the log says about one request.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::entry::Head;
use super::read::{entries, files_below};

/// One entry about the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Where it stands.
    pub file: PathBuf,
    /// Its line there, counted from 1.
    pub line: u64,
    /// The entry.
    pub entry: serde_json::Value,
}

/// Every entry of a request, the request's own first: its record and the executions that ended later. The logs that
/// overlapping processes left below the directory are searched too. Nothing is verified.
///
/// # Errors
/// What the file system says.
pub fn show(directory: &Path, request_id: &str) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    entries(&files_below(directory)?, request_id, &mut |written| {
        if Head::parse(written.entry).is_some_and(|head| head.request_id.as_deref() == Some(request_id))
            && let Ok(entry) = serde_json::from_slice(written.entry)
        {
            found.push(Found { file: written.file.to_owned(), line: written.line, entry });
        }
    })?;
    Ok(found)
}

/// The directory and those that overlapping processes made below it.
///
/// # Errors
/// What the file system says.
pub fn logs(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = vec![directory.to_owned()];
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(|name| name.starts_with("overlap-")) && entry.file_type()?.is_dir() {
            logs.push(entry.path());
        }
    }
    logs.sort_unstable();
    Ok(logs)
}
