//! `safety scan|eval|train`: runs the gateway's guard over the operator's own texts, before it guards traffic.

mod eval;
mod scan;
mod train;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Subcommand;

use super::{FAILED, INVALID_CONFIG, named_configuration, tell, tell_diagnostics};
use crate::config;
use crate::gateway::Builder;
use crate::safety::{Engine, Mode};

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
    /// Make weights for the attack model from your own labelled JSON lines
    Train(train::Args),
}

/// Runs the command.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    match &args.command {
        Command::Scan(args) => scan::run(args, builder),
        Command::Eval(args) => eval::run(args, builder),
        Command::Train(args) => train::run(args),
    }
}

/// Whose judgement.
#[derive(clap::Args)]
pub struct Choice {
    /// Judge as this configuration does; without one and without ODOCK_CONFIG, with every module at its defaults
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Of the configuration's routes this one instead of the first
    #[arg(long, value_name = "NAME", requires = "config")]
    route: Option<String>,
}

/// The engine of a configuration, or one with the default modules; otherwise the exit code.
fn engine(choice: &Choice, builder: &Builder) -> Result<Arc<Engine>, i32> {
    let Some(path) = &named_configuration(choice.config.as_ref()) else {
        return Engine::default_pack().map(Arc::new).map_err(|error| {
            tell(&error);
            FAILED
        });
    };
    let found = config::load(path, &builder.roster()).and_then(|loaded| loaded.config.safety_engine(choice.route.as_deref()));
    let engine = found.map_err(|diagnostics| {
        tell_diagnostics(&diagnostics);
        INVALID_CONFIG
    })?;
    if engine.mode() == Mode::Noop {
        tell("safety.mode is noop: nothing is looked at; SAFETY_ENGINE_MODE=security judges as if it were on");
    }
    Ok(engine)
}
