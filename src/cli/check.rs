//! `check`: builds the whole snapshot of a configuration, without opening any listener, store or connection.

use std::path::PathBuf;

use serde_json::json;

use super::{FAILED, INVALID_CONFIG, OK, print, tell, tell_diagnostics};
use crate::config::{self, Diagnostic, Severity, Snapshot};
use crate::gate::Gate;
use crate::gateway::{Builder, hindrances};
use crate::plugin::SharedHost;
use crate::route::Overflow;
use crate::telemetry::Metrics;

const EXAMPLES: &str = "Examples:
  odock-edge check -c conf/odock.yaml                  every error with its place, or what each route's chain does
  odock-edge check -c conf/odock.yaml --format json    the same for an editor or a pipeline

Nothing is opened: no port, no store, no provider; of files only those that the configuration names. 78 says that
`run` would not start with this file; what only this machine lacks, as TLS files, is a warning.";

/// Arguments of `check`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file
    #[arg(short, long, env = "ODOCK_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// How to report
    #[arg(long, value_enum, default_value = "text")]
    format: Format,
}

#[derive(Clone, Copy, PartialEq, clap::ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Checks the file. Returns 0 if `run` would start with it, 78 otherwise.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let roster = builder.roster();
    let host = SharedHost::offline();
    let metrics = match Metrics::new() {
        Ok(metrics) => metrics,
        Err(error) => {
            tell(&error.to_string());
            return FAILED;
        }
    };
    let built = config::load(&args.config, &roster).and_then(|loaded| {
        let snapshot = Snapshot::build(&loaded.config, &roster, &host, &metrics)?;
        let (errors, here): (Vec<_>, Vec<_>) =
            hindrances(&loaded.config, snapshot.server.tls.as_ref()).into_iter().partition(|found| found.severity == Severity::Error);
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok((snapshot, [loaded.warnings, here].concat()))
    });
    match (built, args.format) {
        (Ok((snapshot, warnings)), Format::Text) => {
            for warning in &warnings {
                tell(&warning.to_string());
            }
            print(&summary(&snapshot, &args.config))
        }
        (Ok((snapshot, warnings)), Format::Json) => {
            let report = json!({"valid": true, "config_hash": snapshot.hash, "errors": [], "warnings": listed(&warnings)});
            print(&format!("{report}\n"));
            OK
        }
        (Err(diagnostics), Format::Text) => {
            tell_diagnostics(&diagnostics);
            INVALID_CONFIG
        }
        (Err(diagnostics), Format::Json) => {
            let (errors, warnings): (Vec<_>, Vec<_>) = diagnostics.into_iter().partition(|found| found.severity == Severity::Error);
            print(&format!("{}\n", json!({"valid": false, "errors": listed(&errors), "warnings": listed(&warnings)})));
            INVALID_CONFIG
        }
    }
}

fn listed(found: &[Diagnostic]) -> Vec<serde_json::Value> {
    found.iter().map(as_json).collect()
}

fn as_json(d: &Diagnostic) -> serde_json::Value {
    json!({"file": d.file, "line": d.line, "column": d.column, "path": d.path, "message": d.message, "help": d.help})
}

/// A summary of the configuration, with the effective value of every setting that decides whether a guard holds.
fn summary(snapshot: &Snapshot, path: &std::path::Path) -> String {
    use std::fmt::Write;
    let mut text = format!("{}: valid, hash {}\n", path.display(), &snapshot.hash[..16]);
    for route in snapshot.routes.routes() {
        let _ = writeln!(
            text,
            "route {}: auth {}, retries {}, held overflow {}",
            route.name,
            if route.auth { "required" } else { "none" },
            route.retries,
            match route.held_overflow {
                Overflow::Deny => "deny",
                Overflow::Allow => "allow",
            }
        );
        for gate in Gate::ALL {
            for step in route.chain.describe(gate) {
                let _ = writeln!(text, "  {:<13} {step}", gate.as_str());
            }
        }
    }
    let _ =
        writeln!(text, "{} keys, {} models, {} providers", snapshot.keys.len(), snapshot.models.iter().count(), snapshot.providers.len());
    text
}
