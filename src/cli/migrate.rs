//! `migrate`: brings the schema of the record store up to date, so that the gateway's own account needs no right to do so.

use std::path::PathBuf;

use super::{FAILED, INVALID_CONFIG, print, tell, tell_diagnostics};
use crate::config::{self, RecordsSettings};
use crate::gateway::Builder;
use crate::store::records::{Migrated, RecordError, RecordStore};
use crate::store::sql::{Options, SqlRecords};

/// Arguments of `migrate`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  odock-edge migrate -c conf/odock.yaml    what `run` does by itself at its start; done already, nothing happens")]
pub struct Args {
    /// The configuration file; its `records` say which store
    #[arg(short, long, env = "ODOCK_CONFIG", value_name = "FILE")]
    config: PathBuf,
}

/// Migrates. Returns 0 when the schema is current afterwards.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let settings = match config::load(&args.config, &builder.roster()).and_then(|loaded| loaded.config.records_settings()) {
        Ok(settings) => settings,
        Err(diagnostics) => {
            tell_diagnostics(&diagnostics);
            return INVALID_CONFIG;
        }
    };
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(migrate(&settings)).map_err(|error| error.to_string()));
    match done {
        Ok(Migrated { from, to }) if from == to => print(&format!("the record store is at version {to}; nothing to do\n")),
        Ok(Migrated { from: 0, to }) => print(&format!("the record store was made at version {to}\n")),
        Ok(Migrated { from, to }) => print(&format!("the record store was brought from version {from} to {to}\n")),
        Err(error) => {
            tell(&format!("odock-edge: {error}"));
            FAILED
        }
    }
}

async fn migrate(settings: &RecordsSettings) -> Result<Migrated, RecordError> {
    let store = match settings {
        RecordsSettings::Embedded(path) => SqlRecords::embedded(path, Options::default())?,
        RecordsSettings::Postgres(address) => SqlRecords::postgres(address.expose(), Options::default())?,
    };
    let done = store.migrate().await;
    store.close().await;
    done
}
