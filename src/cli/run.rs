//! `run`: serve traffic.

use std::path::PathBuf;

use super::{FAILED, INVALID_CONFIG, OK, tell, tell_diagnostics};
use crate::config;
use crate::gateway::{Builder, GatewayError};
use crate::telemetry;

const EXAMPLES: &str = "Examples:
  odock-edge run -c /etc/odock/odock.yaml
  ODOCK_CONFIG=/etc/odock/odock.yaml odock-edge run

Signals: SIGHUP reads the file again (a wrong one changes nothing), SIGTERM ends what is open and stops, SIGUSR2 hands the
listeners to a new binary without losing a connection.";

/// Arguments of `run`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file
    #[arg(short, long, env = "ODOCK_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Take the listeners over from the running process (SIGUSR2 does this by itself)
    #[arg(long)]
    upgrade: bool,
}

/// Serves until the process is told to stop.
pub fn run(args: Args, builder: Builder) -> i32 {
    // The format of the log is configured in this file, so errors before it is read go to stderr as plain text.
    let loaded = match config::load(&args.config, &builder.roster()) {
        Ok(loaded) => loaded,
        Err(diagnostics) => {
            tell_diagnostics(&diagnostics);
            return INVALID_CONFIG;
        }
    };
    let log = loaded.config.log_settings();
    // A logger that exists already is no reason not to serve.
    let _ = telemetry::log::init(log.format, &log.level);
    serve(&args.config, args.upgrade, builder)
}

/// Builds the gateway and runs it; shared with `demo`.
pub fn serve(config: &std::path::Path, upgrade: bool, builder: Builder) -> i32 {
    match builder.build(config, upgrade) {
        Ok(gateway) => {
            gateway.run();
            OK
        }
        Err(GatewayError::Config(diagnostics)) => {
            tell_diagnostics(&diagnostics);
            INVALID_CONFIG
        }
        Err(error) => {
            tell(&format!("odock-edge: {error}"));
            FAILED
        }
    }
}
