//! `safety eval`: measures the guard's accuracy and speed on labelled texts.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use super::super::{FAILED, OK, print, tell};
use super::Choice;
use crate::gateway::Builder;
use crate::safety::eval::{self, Report};

const EXAMPLES: &str = r#"Rows are known by their fields:
  {"text", "label"}                        attack (1), none (0), not scored (-1)
  {"system", "response", "label"}          does the answer leak the system text?
  {"text", "spans": [{start, end, type}]}  personal data, in characters; "scored_types" limits what is scored
  {"text", "type", "label"}                one value, valid or not
  {"text", "type", "kind", "label"}        credentials
"kind", "source", "lang", "transform" and "type" are reported one by one. Attacks and leaks count as found from a
score of 0.5, values and credentials where the guard would redact.

Examples:
  odock-edge safety eval my-prompts.jsonl
  odock-edge safety eval *.jsonl --json report.json -c conf/odock.yaml"#;

/// Arguments of `safety eval`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Labelled JSON lines
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write the report as JSON as well
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    choice: Choice,
}

/// Evaluates the files. Returns 1 when a file or a line could not be evaluated.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let engine = match super::engine(&args.choice, builder) {
        Ok(engine) => engine,
        Err(code) => return code,
    };
    let (mut report, mut code) = (Report { files: Vec::new() }, OK);
    for path in &args.files {
        let name = path.display().to_string();
        let opened = File::open(path).map_err(|error| format!("{name}: {error}"));
        match opened.and_then(|file| eval::file(&engine, &name, BufReader::new(file))) {
            Ok(files) => {
                for complaint in files.iter().filter_map(|file| file.unreadable.as_ref()) {
                    tell(&format!("odock-edge: {complaint}"));
                    code = FAILED;
                }
                report.files.extend(files);
            }
            Err(error) => {
                tell(&error);
                code = FAILED;
            }
        }
    }
    if print(&report.table()) != OK {
        return FAILED;
    }
    if let Some(path) = &args.json {
        let written = serde_json::to_vec_pretty(&report).map_err(std::io::Error::other).and_then(|json| std::fs::write(path, json));
        if let Err(error) = written {
            tell(&format!("{}: {error}", path.display()));
            return FAILED;
        }
    }
    code
}
