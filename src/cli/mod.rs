//! The command line. Data goes to stdout, everything else to stderr; exit codes are 0 ok, 1 failed at run time, 2 usage,
//! 78 invalid configuration (`EX_CONFIG`, which systemd knows by name).

mod check;
mod completions;
mod demo;
mod evidence;
mod explain;
mod keys;
mod migrate;
mod mock_provider;
mod outbox;
mod plugins;
mod run;
mod safety;
mod schema;
mod usage;

use std::io::Write;

use clap::{Parser, Subcommand};

use crate::config::{Diagnostic, Severity};
use crate::gateway::{Builder, Gateway};
use crate::plugin::Manifest;

/// Success.
pub const OK: i32 = 0;
/// A failure at run time.
pub const FAILED: i32 = 1;
/// The configuration is invalid (sysexits.h `EX_CONFIG`).
pub const INVALID_CONFIG: i32 = 78;

const EXAMPLES: &str = "Examples:
  odock-edge demo                          a gateway, a mock provider and a key; nothing else needed
  odock-edge check -c conf/odock.yaml      every error of a configuration, with file:line:column
  odock-edge run -c conf/odock.yaml        serve
  odock-edge explain model_not_allowed     what a code means and what to do
  odock-edge safety eval prompts.jsonl     how good the guard is on your own texts
  odock-edge keys create -c conf/odock.yaml --organisation acme --name app --model fast
  odock-edge usage -c conf/odock.yaml --by team   what was used, and what it cost
  odock-edge evidence verify var/evidence/*.jsonl";

/// The edge data plane of the Odock AI gateway.
#[derive(Parser)]
#[command(name = "odock-edge", version, about, after_help = EXAMPLES, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve traffic
    Run(run::Args),
    /// Check a configuration completely without opening anything
    Check(check::Args),
    /// Run a gateway against a built-in mock provider and print requests to try
    Demo(demo::Args),
    /// Serve as a scripted OpenAI- and Anthropic-shaped provider, for tests and trials
    MockProvider(mock_provider::Args),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Explain a code of an error answer; without one, list them all
    Explain(explain::Args),
    /// Make, list, rotate, revoke and grant virtual keys
    Keys(keys::Args),
    /// Bring the record store up to date
    Migrate(migrate::Args),
    /// List what waits to be delivered or was given up, send it anew or remove it
    Outbox(outbox::Args),
    /// List and show plugins, make them from a brief, evaluate them, report on them
    Plugins(plugins::Args),
    /// Judge texts or measure the guard on labelled ones
    Safety(safety::Args),
    /// Show or verify evidence
    Evidence(evidence::Args),
    /// Print what was used, by whom, and what it cost
    Usage(usage::Args),
    /// Print shell completions
    Completions(completions::Args),
}

/// Runs the command line of this process, with the bundled plugins and the given ones. Returns the exit code.
pub fn main_with(plugins: Vec<&'static Manifest>) -> i32 {
    main_from(std::env::args_os(), plugins)
}

/// [`main_with`] with given arguments, beginning with the program's name.
pub fn main_from(arguments: impl IntoIterator<Item = std::ffi::OsString>, plugins: Vec<&'static Manifest>) -> i32 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to stdout, errors to stderr.
            let _ = error.print();
            return error.exit_code();
        }
    };
    let builder = plugins.into_iter().fold(Gateway::builder(), Builder::plugin);
    let status = match cli.command {
        Command::Run(args) => run::run(args, builder),
        Command::Check(args) => check::run(&args, &builder),
        Command::Demo(args) => demo::run(args, builder),
        Command::MockProvider(args) => mock_provider::run(args),
        Command::Schema => schema::run(&builder),
        Command::Explain(args) => explain::run(&args, &builder.roster()),
        Command::Keys(args) => keys::run(&args, &builder),
        Command::Migrate(args) => migrate::run(&args, &builder),
        Command::Outbox(args) => outbox::run(&args, &builder),
        Command::Plugins(args) => plugins::run(&args, &builder),
        Command::Safety(args) => safety::run(&args, &builder),
        Command::Evidence(args) => evidence::run(args),
        Command::Usage(args) => usage::run(&args, &builder),
        Command::Completions(args) => completions::run(&args),
    };
    log::logger().flush();
    status
}

/// Writes data to stdout. A reader that closes early (`| head`) is not a failure.
fn print(text: &str) -> i32 {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => OK,
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => OK,
        Err(_) => FAILED,
    }
}

/// Writes a message for people to stderr.
fn tell(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

fn tell_diagnostics(diagnostics: &[Diagnostic]) {
    for diagnostic in diagnostics {
        tell(&diagnostic.to_string());
    }
    let errors = diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count();
    let errors = if errors == 1 { "1 error".to_owned() } else { format!("{errors} errors") };
    tell(&format!("{errors}; nothing was changed"));
}

/// The configuration named on the command line, or in `ODOCK_CONFIG`; for commands that can do without one.
fn named_configuration(given: Option<&std::path::PathBuf>) -> Option<std::path::PathBuf> {
    given.cloned().or_else(|| std::env::var_os("ODOCK_CONFIG").filter(|path| !path.is_empty()).map(Into::into))
}
