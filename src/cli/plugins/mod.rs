//! `plugins`: lists the plugins of this build, and covers the life of a plugin: from a brief to a folder, from a folder to
//! an evaluation, from observing to enforcing.

mod brief;
mod checklist;
mod evaluate;
mod new;
mod report;
mod tally;

use std::fmt::Write;

use clap::Subcommand;

use super::{FAILED, print, tell};
use crate::gateway::Builder;
use crate::plugin::{Manifest, Need, Roster};

const EXAMPLES: &str = "Examples:
  odock-edge plugins brief > brief.yaml                    what is wanted, field by field
  odock-edge plugins new --brief brief.yaml --dry-run      a plugin, or the control it belongs to, and why
  odock-edge plugins new --brief brief.yaml                writes plugins/<name>/
  odock-edge plugins evaluate audit_log -c conf/odock.yaml --answers answers.yaml
  odock-edge plugins report corporate_dlp --since 24h -c conf/odock.yaml";

/// Arguments of `plugins`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the plugins of this build
    List,
    /// Show one: gates, needs, evidence and the schema of its configuration
    Show {
        /// Its name
        name: String,
    },
    /// Print a commented design brief to fill in
    Brief,
    /// Say where a brief belongs, and where that is a plugin write its folder
    New(new::Args),
    /// Fill in the evaluation checklist of a plugin; exit 1 while something is open or more is asked for than is used
    Evaluate(evaluate::Args),
    /// Compare what an observing plugin would have done with what happened
    Report(report::Args),
}

/// How to print.
#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Runs the command.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let roster = builder.roster();
    match &args.command {
        Command::List => print(&roster.iter().map(line).collect::<String>()),
        Command::Show { name } => find(&roster, name).map_or_else(|code| code, |manifest| print(&page(manifest))),
        Command::Brief => brief::run(),
        Command::New(args) => new::run(args),
        Command::Evaluate(args) => evaluate::run(args, &roster),
        Command::Report(args) => report::run(args, &roster),
    }
}

/// The plugin with this name; otherwise prints the known ones and returns the exit code.
fn find(roster: &Roster, name: &str) -> Result<&'static Manifest, i32> {
    roster.find(name).ok_or_else(|| {
        let known: Vec<_> = roster.iter().map(|m| m.name).collect();
        tell(&format!("no plugin {name}; this build has {}", known.join(", ")));
        FAILED
    })
}

fn gates(manifest: &Manifest) -> String {
    manifest.gates.iter().map(|g| g.as_str()).collect::<Vec<_>>().join(", ")
}

fn line(manifest: &'static Manifest) -> String {
    format!("{:<20} {:<8} {:<10} {:<28} {}\n", manifest.name, manifest.version, manifest.kind, gates(manifest), manifest.summary)
}

fn page(manifest: &Manifest) -> String {
    let mut text = format!("{} {} ({}, {})\n{}\n\n", manifest.name, manifest.version, manifest.category, manifest.author, manifest.summary);
    let styles: Vec<_> = manifest.styles.iter().map(|s| s.as_str()).collect();
    let needs: Vec<String> = manifest.needs.iter().map(|n| n.as_str().to_owned()).collect();
    let _ = writeln!(
        text,
        "gates:    {}\nstyles:   {}\nneeds:    {}\nstreams:  {}\n",
        gates(manifest),
        styles.join(", "),
        needs.join(", "),
        match (manifest.streams, manifest.needs.contains(&Need::ReadResponse)) {
            (true, _) => "frame by frame",
            (false, true) => "held until complete",
            (false, false) => "not read",
        }
    );
    text.push_str("evidence:\n");
    for (key, meaning) in manifest.evidence {
        let _ = writeln!(text, "  {key:<20} {meaning}");
    }
    if !manifest.codes.is_empty() {
        text.push_str("\ncodes of refusals:\n");
    }
    for code in manifest.codes {
        let _ = writeln!(text, "  {} {:<20} {}", code.status, code.code, code.meaning);
    }
    let schema = serde_json::to_string_pretty(&(manifest.config_schema)()).unwrap_or_default();
    let _ = writeln!(text, "\nconfiguration (JSON Schema):\n{schema}");
    text
}
