//! Finding the log's entries about one request.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::entry::Head;
use super::read::{entries, files_below};

/// One entry about the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The file that holds it.
    pub file: PathBuf,
    /// Its line in that file, from 1.
    pub line: u64,
    /// The entry.
    pub entry: serde_json::Value,
}

/// Every entry about a request: its record first, then the executions that ended later. Logs that overlapping processes
/// left below the directory are searched too. Nothing is verified.
///
/// # Errors
/// Errors of the file system.
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

/// The directory, and those that overlapping processes made below it.
///
/// # Errors
/// Errors of the file system.
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
