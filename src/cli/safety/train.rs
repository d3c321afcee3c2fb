//! `safety train`: trains weights of the attack model on the operator's own labelled texts.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::super::{FAILED, print, tell};
use crate::safety::attack::train::{Options, Row, train};

const EXAMPLES: &str = r#"Rows are JSON lines: {"text", "label"} with label 1 for an attack and 0 for none; other labels are passed over. "kind"
(jailbreak, benign_sysprompt, …), "source" and "cluster" help: rows of one cluster are near-duplicates and never on both
sides of a split. Rows with "train_ok": false are not learnt from. The grammars of this build are learnt from as well.
Labelled rows about personal data, credentials and leaks (see safety eval) are learnt from as texts that are no attack.
The same rows give the same bytes on every machine.

Examples:
  odock-edge safety train mine.jsonl --out weights.bin
  odock-edge safety train mine.jsonl ../shared/data/injection.dev.jsonl --out weights.bin"#;

/// Arguments of `safety train`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Labelled JSON lines
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where to write the weights
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
}

/// Trains. Returns 1 when a file cannot be read, has no usable rows, or the weights cannot be written.
pub fn run(args: &Args) -> i32 {
    match weights(args) {
        Ok(summary) => print(&summary),
        Err(error) => {
            tell(&error);
            FAILED
        }
    }
}

fn weights(args: &Args) -> Result<String, String> {
    let mut rows = Vec::new();
    for path in &args.files {
        read(path, &mut rows)?;
    }
    let attacks = rows.iter().filter(|row| row.label.attack()).count();
    if attacks == 0 || attacks == rows.len() {
        return Err("the rows must hold attacks and texts that are none".to_owned());
    }
    let summary = format!("{} rows, {attacks} attacks\n", rows.len());
    let model = train(rows, &Options::default()).map_err(|error| error.to_string())?;
    let bytes = model.as_bytes();
    std::fs::write(&args.out, bytes).map_err(|error| format!("{}: {error}", args.out.display()))?;
    Ok(format!("{summary}{}: {} bytes\n", args.out.display(), bytes.len()))
}

/// Adds the rows of a file that are usable for training.
fn read(path: &Path, rows: &mut Vec<Row>) -> Result<(), String> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for (number, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(|error| format!("{}: {error}", path.display()))?;
        if line.trim().is_empty() {
            continue;
        }
        rows.extend(Row::from_line(&line).map_err(|error| format!("{}:{}: {error}", path.display(), number + 1))?);
    }
    Ok(())
}
