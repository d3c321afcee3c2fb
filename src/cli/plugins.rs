//! `plugins list|show`: what this build can run, derived from the manifests.

use std::fmt::Write;

use clap::Subcommand;

use super::{FAILED, print, tell};
use crate::gateway::Builder;
use crate::plugin::Manifest;

/// Arguments of `plugins`.
#[derive(clap::Args)]
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
}

/// Runs the command.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let roster = builder.roster();
    match &args.command {
        Command::List => print(&roster.iter().map(line).collect::<String>()),
        Command::Show { name } => match roster.find(name) {
            Some(manifest) => print(&page(manifest)),
            None => {
                let known: Vec<_> = roster.iter().map(|m| m.name).collect();
                tell(&format!("no plugin {name}; this build has {}", known.join(", ")));
                FAILED
            }
        },
    }
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
        if manifest.streams { "frame by frame" } else { "held until complete" }
    );
    text.push_str("evidence:\n");
    for (key, meaning) in manifest.evidence {
        let _ = writeln!(text, "  {key:<20} {meaning}");
    }
    let schema = serde_json::to_string_pretty(&(manifest.config_schema)()).unwrap_or_default();
    let _ = writeln!(text, "\nconfiguration (JSON Schema):\n{schema}");
    text
}
