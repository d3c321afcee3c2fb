//! `evidence`: shows what the log says about a request, and verifies that the log is intact.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use super::{FAILED, INVALID_CONFIG, OK, named_configuration, print, tell, tell_diagnostics};
use crate::config;
use crate::evidence::{End, PublicKey, Report, show, summary, verify_directory, verify_files};
use crate::plugin::Roster;

/// Most findings that are printed: people do not read more.
const SHOWN: usize = 50;

const EXAMPLES: &str = "Examples:
  odock-edge evidence show 4bf92f3577b34da6a3ce929d0e0e4736 --dir var/evidence
  odock-edge evidence verify --dir var/evidence
  odock-edge evidence verify var/evidence/evidence-000007.jsonl --key audit/signing.pub";

/// Arguments of `evidence`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand)]
enum Action {
    /// Print the record of a request and of the plugins that ran for it later, as JSON
    Show {
        /// The gateway's id of the request, 32 hex digits; `x-request-id` of its answer
        request_id: String,
        #[command(flatten)]
        place: Place,
    },
    /// Find edits, deletions, reorderings and cuts; exit 0 if there are none
    Verify {
        /// Files of one log
        #[arg(value_name = "FILE", required_unless_present_any = ["dir", "config"], conflicts_with_all = ["dir", "config"])]
        files: Vec<PathBuf>,
        #[command(flatten)]
        place: Place,
        /// Public keys to check signatures with, as in `signing.pub`; a copy from another machine proves the most
        #[arg(long, value_name = "FILE")]
        key: Option<PathBuf>,
        /// Accept that the beginning or the end is not here
        #[arg(long)]
        partial: bool,
    },
}

#[derive(clap::Args)]
struct Place {
    /// The evidence directory
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    dir: Option<PathBuf>,
    /// The configuration that names the evidence directory; that of ODOCK_CONFIG, else ./var/evidence
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Shows or verifies. Returns 0 when the request was found or the log is intact, 1 otherwise.
pub fn run(args: Args) -> i32 {
    let done = match args.action {
        Action::Show { request_id, place } => place.directory().and_then(|dir| shown(&dir, &request_id)),
        Action::Verify { files, place, key, partial } => verified(&files, &place, key.as_deref(), partial),
    };
    done.unwrap_or_else(|code| code)
}

impl Place {
    fn directory(&self) -> Result<PathBuf, i32> {
        if let Some(dir) = &self.dir {
            return Ok(dir.clone());
        }
        let Some(file) = &named_configuration(self.config.as_ref()) else {
            return Ok(PathBuf::from("./var/evidence"));
        };
        match config::load(file, &Roster::bundled()) {
            Ok(loaded) => Ok(loaded.config.sections().evidence.path.clone()),
            Err(diagnostics) => {
                tell_diagnostics(&diagnostics);
                tell("`--dir` names the evidence directory without a configuration");
                Err(INVALID_CONFIG)
            }
        }
    }
}

fn failed(place: &Path) -> impl Fn(std::io::Error) -> i32 {
    move |error| {
        tell(&format!("{}: {error}", place.display()));
        FAILED
    }
}

fn shown(dir: &Path, request_id: &str) -> Result<i32, i32> {
    let request_id = request_id.trim().to_ascii_lowercase();
    let found = show(dir, &request_id).map_err(failed(dir))?;
    if found.is_empty() {
        tell(&format!("{}: nothing about request {request_id}; records appear some 20 ms after the answer", dir.display()));
        return Err(FAILED);
    }
    let mut text = String::new();
    for found in &found {
        let _ = writeln!(text, "{:#}", found.entry);
    }
    let printed = print(&text);
    // The summary is for people and goes to stderr, below the data.
    for found in &found {
        tell(&format!("\n{}:{}\n{}", found.file.display(), found.line, summary(&found.entry).trim_end()));
    }
    Ok(printed)
}

fn verified(files: &[PathBuf], place: &Place, key: Option<&Path>, partial: bool) -> Result<i32, i32> {
    let keys = key.map(|path| std::fs::read_to_string(path).map(|text| PublicKey::list(&text)).map_err(failed(path))).transpose()?;
    if keys.as_ref().is_some_and(Vec::is_empty) {
        tell("the key file names no key; a line reads `ed25519` and 64 hex digits");
        return Err(FAILED);
    }
    let reports = if let Some(first) = files.first() {
        let report = verify_files(files, keys.as_deref(), partial).map_err(failed(first))?;
        let name = if files.len() == 1 { first.display().to_string() } else { format!("{} files", files.len()) };
        vec![(name, report)]
    } else {
        let dir = place.directory()?;
        let reports = verify_directory(&dir, keys.as_deref(), partial).map_err(failed(&dir))?;
        reports.into_iter().map(|(dir, report)| (dir.display().to_string(), report)).collect()
    };
    let printed = print(&reports.iter().map(|(name, report)| written(name, report)).collect::<String>());
    let intact = reports.iter().all(|(_, report)| report.intact());
    Ok(if intact && printed == OK { OK } else { FAILED })
}

/// The report as text: one finding per line, `file:line: fault: detail`, then a summary of what is intact.
fn written(name: &str, report: &Report) -> String {
    let mut text = String::new();
    for finding in report.findings.iter().take(SHOWN) {
        let _ = writeln!(text, "{}:{}: {}: {}", finding.file.display(), finding.line, finding.fault, finding.detail);
    }
    if report.findings.len() > SHOWN {
        let _ = writeln!(text, "and {} more", report.findings.len() - SHOWN);
    }
    for note in &report.notes {
        let _ = writeln!(text, "note: {note}");
    }
    let verdict = match (report.intact(), report.end) {
        (false, _) => "NOT INTACT",
        (true, End::Closed) => "intact, closed",
        (true, End::Rotated) => "intact up to its rotation",
        (true, End::Open { .. }) => "intact, still open",
    };
    let Report { files, lines, requests, executions, checkpoints, .. } = report;
    let _ = writeln!(
        text,
        "{name}: {verdict}; {files} files, {lines} lines, {requests} requests, {executions} later executions, {checkpoints} signed checkpoints"
    );
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn exit(line: &[&str]) -> i32 {
        run(Line::try_parse_from([&["evidence"], line].concat()).unwrap().args)
    }

    #[test]
    fn what_is_missing_or_damaged_fails() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence-000001.jsonl");
        std::fs::write(&path, "no evidence\n").unwrap();
        let (dir, path) = (dir.path().to_str().unwrap(), path.to_str().unwrap());
        assert_eq!(exit(&["verify", path]), FAILED);
        assert_eq!(exit(&["verify", "--dir", dir]), FAILED);
        assert_eq!(exit(&["verify", "--key", path, path]), FAILED);
        assert_eq!(exit(&["show", "00", "--dir", dir]), FAILED);
        assert_eq!(exit(&["show", "00", "--dir", "/nonexistent"]), FAILED);
    }

    #[test]
    fn verify_wants_to_know_what() {
        assert!(Line::try_parse_from(["evidence", "verify"]).is_err());
        assert!(Line::try_parse_from(["evidence", "verify", "--dir", "a", "b"]).is_err());
    }
}
