//! Reading a log without verifying it, for reports; whether the log is intact is for `verify` to say.

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::line::Line;
use super::log::files;
use super::show::logs;

/// Every file of the log in this directory and of the logs that overlapping processes left below it.
///
/// # Errors
/// Errors of the file system.
pub fn files_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for log in logs(directory)? {
        found.extend(files(&log)?.into_iter().map(|(_, path)| path));
    }
    Ok(found)
}

/// One entry of a log, as it stands there.
#[derive(Debug, Clone, Copy)]
pub struct Written<'a> {
    /// Where.
    pub file: &'a Path,
    /// Its line there, counted from 1.
    pub line: u64,
    /// JSON.
    pub entry: &'a [u8],
}

/// Hands every entry of the files that holds `text` to `each`; lines that are none are passed over.
///
/// # Errors
/// What the file system says.
pub fn entries(paths: &[PathBuf], text: &str, each: &mut dyn FnMut(Written<'_>)) -> io::Result<()> {
    let needle = memchr::memmem::Finder::new(text.as_bytes());
    let mut bytes = Vec::new();
    for file in paths {
        let mut reader = BufReader::with_capacity(1 << 16, File::open(file)?);
        for line in 1.. {
            bytes.clear();
            if reader.read_until(b'\n', &mut bytes)? == 0 {
                break;
            }
            if needle.find(&bytes).is_none() {
                continue;
            }
            if let Some(found) = Line::parse(bytes.strip_suffix(b"\n").unwrap_or(&bytes)) {
                each(Written { file, line, entry: found.entry });
            }
        }
    }
    Ok(())
}
