//! Finding what the log says about one request.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::entry::Head;
use super::line::Line;
use super::log::files;

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
    for directory in logs(directory)? {
        for (_, path) in files(&directory)? {
            search(&path, request_id, &mut found)?;
        }
    }
    Ok(found)
}

fn search(path: &Path, request_id: &str, found: &mut Vec<Found>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(1 << 16, File::open(path)?);
    let (mut text, mut number) = (Vec::new(), 0);
    let needle = memchr::memmem::Finder::new(request_id.as_bytes());
    loop {
        text.clear();
        if reader.read_until(b'\n', &mut text)? == 0 {
            return Ok(());
        }
        number += 1;
        if needle.find(&text).is_none() {
            continue;
        }
        let line = Line::parse(text.strip_suffix(b"\n").unwrap_or(&text));
        let Some(entry) = line.map(|line| line.entry) else { continue };
        if Head::parse(entry).is_some_and(|head| head.request_id.as_deref() == Some(request_id))
            && let Ok(entry) = serde_json::from_slice(entry)
        {
            found.push(Found { file: path.to_owned(), line: number, entry });
        }
    }
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
