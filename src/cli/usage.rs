//! `usage`: prints usage and cost, as sums or as single records.

use std::path::PathBuf;

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::{FAILED, INVALID_CONFIG, print, tell, tell_diagnostics};
use crate::config::{self, RecordsSettings};
use crate::gateway::Builder;
use crate::store::records::{RecordError, UsageBy, UsageFilter, UsageRecords};
use crate::store::sql::{Options, SqlRecords};
use crate::usage::{Table, by_name, moment, named};

const EXAMPLES: &str = "Examples:
  odock-edge usage -c conf/odock.yaml                                  the sum of everything that is kept
  odock-edge usage -c conf/odock.yaml --by team --from 2026-11-01      this month, team by team
  odock-edge usage -c conf/odock.yaml --by day --key acme/support-desk --format csv
  odock-edge usage -c conf/odock.yaml --list 20 --format json          the newest records as they are";

/// Arguments of `usage`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The configuration file; its `records` say which store
    #[arg(short, long, env = "ODOCK_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// One line for each
    #[arg(long, value_parser = by())]
    by: Option<UsageBy>,
    /// The newest records instead of sums, at most so many
    #[arg(long, value_name = "N", conflicts_with = "by", value_parser = clap::value_parser!(u32).range(1..))]
    list: Option<u32>,
    /// From this moment on: 2026-11-01, or 2026-11-01T12:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    from: Option<i64>,
    /// Before this moment
    #[arg(long, value_name = "TIME", value_parser = moment)]
    until: Option<i64>,
    /// Only of this organisation, by its id or the name that it ends with
    #[arg(long, value_name = "ID")]
    organisation: Option<String>,
    /// Only of this key, by its id or the name that it ends with
    #[arg(long, value_name = "ID")]
    key: Option<String>,
    /// Only of this team, by its id or the name that it ends with
    #[arg(long, value_name = "ID")]
    team: Option<String>,
    /// Only of this user, by its id or the name that it ends with
    #[arg(long, value_name = "ID")]
    user: Option<String>,
    /// Only of this model
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Only of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only of requests in which this plugin ran
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Table,
    Json,
    Csv,
}

/// The names of what sums are told apart by.
fn by() -> impl TypedValueParser<Value = UsageBy> {
    let described = |(name, by): (&'static str, UsageBy)| {
        let name = PossibleValue::new(name);
        match by {
            UsageBy::Plugin => name.help("A request counts for each plugin that ran"),
            UsageBy::Day => name.help("Days of UTC"),
            _ => name,
        }
    };
    PossibleValuesParser::new(UsageBy::NAMED.map(described)).map(|name: String| by_name(&name).unwrap_or(UsageBy::Nothing))
}

impl Format {
    fn write(self, table: &Table) -> String {
        match self {
            Self::Table => table.aligned(),
            Self::Json => format!("{:#}\n", table.json()),
            Self::Csv => table.csv(),
        }
    }
}

/// Prints usage. Returns 0 when the store answered, even if there was none.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let settings = match config::load(&args.config, &builder.roster()).and_then(|loaded| loaded.config.records_settings()) {
        Ok(settings) => settings,
        Err(diagnostics) => {
            tell_diagnostics(&diagnostics);
            return INVALID_CONFIG;
        }
    };
    if let RecordsSettings::Embedded(path) = &settings
        && !path.exists()
    {
        tell(&format!("odock-edge: {}: there is no record store yet; `run` or `migrate` makes it", path.display()));
        return FAILED;
    }
    let done = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(table(args, &settings)).map_err(|error| error.to_string()));
    match done {
        Ok(table) => print(&args.format.write(&table)),
        Err(error) => {
            tell(&format!("odock-edge: {error}"));
            FAILED
        }
    }
}

async fn table(args: &Args, settings: &RecordsSettings) -> Result<Table, RecordError> {
    let store = match settings {
        RecordsSettings::Embedded(path) => SqlRecords::embedded(path, Options::default())?,
        RecordsSettings::Postgres(address) => SqlRecords::postgres(address.expose(), Options::default())?,
    };
    let mut filter = UsageFilter {
        organisation: args.organisation.clone(),
        key: args.key.clone(),
        team: args.team.clone(),
        user: args.user.clone(),
        provider: args.provider.clone(),
        model: args.model.clone(),
        plugin: args.plugin.clone(),
        from: args.from,
        until: args.until,
        ..UsageFilter::default()
    };
    let unfiltered = UsageFilter { from: args.from, until: args.until, ..UsageFilter::default() };
    let mut found = ask(args, &store, &filter).await;
    if filter != unfiltered && found.as_ref().is_ok_and(Table::is_of_nothing) {
        // An unknown name must not look like a known one without usage.
        match named(&store, &mut filter).await {
            Ok(unknown) if unknown.is_empty() => found = ask(args, &store, &filter).await,
            Ok(unknown) => unknown.iter().for_each(|unknown| tell(&format!("odock-edge: {unknown}"))),
            Err(error) => found = Err(error),
        }
    }
    store.close().await;
    found
}

async fn ask(args: &Args, store: &SqlRecords, filter: &UsageFilter) -> Result<Table, RecordError> {
    match (args.list, args.by) {
        (Some(limit), _) => store.usage(filter, None, limit).await.map(|records| Table::of_records(&records)),
        (None, by) => {
            let by = by.unwrap_or(UsageBy::Nothing);
            store.sum_usage(filter, by).await.map(|sums| Table::of_sums(by, &sums))
        }
    }
}
