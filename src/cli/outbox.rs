//! `outbox`: lists deliveries that wait or were given up, and retries or removes them.

use std::fmt::Write;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{FAILED, INVALID_CONFIG, print, tell, tell_diagnostics};
use crate::config::{self, RecordsSettings};
use crate::gateway::Builder;
use crate::store::records::{MessageFilter, MessageRow, Outbox, RecordError, Standing};
use crate::store::sql::{Options, SqlRecords};

const EXAMPLES: &str = "Examples:
  odock-edge outbox list -c conf/odock.yaml                                what waits and what was given up
  odock-edge outbox list -c conf/odock.yaml --state dead --format json
  odock-edge outbox retry -c conf/odock.yaml --instance crm --state dead   everything that was given up, anew
  odock-edge outbox drop -c conf/odock.yaml --id req_0a1b2c                one delivery, for good";

/// Number of deliveries that are fetched at once.
const PAGE: u32 = 500;

/// Arguments of `outbox`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// List deliveries, oldest first; deliveries of instances that are configured no more are among them
    List {
        #[command(flatten)]
        which: Which,
        /// At most so many
        #[arg(long, value_name = "N", default_value_t = 1000)]
        limit: u32,
        /// How they are written
        #[arg(long, value_enum, default_value_t = Format::Table)]
        format: Format,
    },
    /// Send deliveries anew, from their first attempt
    Retry(Which),
    /// Remove deliveries
    Drop(Which),
}

#[derive(clap::Args)]
struct Which {
    /// The configuration file; its `records` say which store
    #[arg(short, long, env = "ODOCK_CONFIG", value_name = "FILE")]
    config: PathBuf,
    /// Only of this plugin instance
    #[arg(long, value_name = "NAME")]
    instance: Option<String>,
    /// Only for this destination
    #[arg(long, value_name = "NAME")]
    destination: Option<String>,
    /// Only in this state
    #[arg(long, value_enum)]
    state: Option<State>,
    /// Only the delivery of this id
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// Every delivery; without any other choice `retry` and `drop` want to be told
    #[arg(long)]
    all: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum State {
    /// Waits for its first attempt
    Pending,
    /// Waits for another attempt
    Retrying,
    /// Under way
    Leased,
    /// Given up
    Dead,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Format {
    Table,
    Json,
}

impl Which {
    fn filter(&self) -> MessageFilter {
        MessageFilter {
            topic: self.instance.clone(),
            destination: self.destination.clone(),
            dedup: self.id.clone(),
            standing: self.state.map(|state| match state {
                State::Pending => Standing::Pending,
                State::Retrying => Standing::Retrying,
                State::Leased => Standing::Leased,
                State::Dead => Standing::Dead,
            }),
        }
    }
}

impl What {
    fn which(&self) -> &Which {
        match self {
            Self::List { which, .. } | Self::Retry(which) | Self::Drop(which) => which,
        }
    }
}

/// Runs the command. Returns 0 when the store answered and, for `retry` and `drop`, at least one delivery matched.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let which = args.what.which();
    if !matches!(args.what, What::List { .. }) && !which.all && which.filter() == MessageFilter::default() {
        tell("odock-edge: which deliveries? Name an --instance, --destination, --state or --id, or say --all");
        return 2;
    }
    let settings = match config::load(&which.config, &builder.roster()).and_then(|loaded| loaded.config.records_settings()) {
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
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| error.to_string());
    let done = runtime.and_then(|runtime| runtime.block_on(act(&args.what, &settings)).map_err(|error| error.to_string()));
    match (done, &args.what) {
        (Ok(Done::Rows(rows)), What::List { format, .. }) => print(&match format {
            Format::Table => table(&rows),
            Format::Json => format!("{:#}\n", rows.iter().map(object).collect::<Value>()),
        }),
        (Ok(Done::Rows(_)), _) => FAILED,
        (Ok(Done::Count(count)), _) => {
            tell(&format!("{count} deliveries"));
            if count > 0 { super::OK } else { FAILED }
        }
        (Err(error), _) => {
            tell(&format!("odock-edge: {error}"));
            FAILED
        }
    }
}

enum Done {
    Rows(Vec<MessageRow>),
    Count(u64),
}

async fn act(what: &What, settings: &RecordsSettings) -> Result<Done, RecordError> {
    let store = match settings {
        RecordsSettings::Embedded(path) => SqlRecords::embedded(path, Options::default())?,
        RecordsSettings::Postgres(address) => SqlRecords::postgres(address.expose(), Options::default())?,
    };
    let (filter, now) = (what.which().filter(), now());
    let done = match what {
        What::Retry(_) => store.retry_messages(&filter, now).await.map(Done::Count),
        What::Drop(_) => store.drop_messages(&filter, now).await.map(Done::Count),
        What::List { limit, .. } => {
            let mut rows: Vec<MessageRow> = Vec::new();
            loop {
                let left = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX)).min(PAGE);
                let after = rows.last().map_or(0, |row| row.id);
                let some = if left == 0 { Vec::new() } else { store.messages(&filter, now, after, left).await? };
                if some.is_empty() {
                    break Ok(Done::Rows(rows));
                }
                rows.extend(some);
            }
        }
    };
    store.close().await;
    done
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn time(millis: i64) -> String {
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| "-".to_owned(), |at| format!("{at:.0}"))
}

fn object(row: &MessageRow) -> Value {
    json!({
        "id": row.dedup,
        "instance": row.topic,
        "destination": row.destination,
        "ordering_key": row.ordering,
        "request_id": row.request,
        "state": row.standing.as_str(),
        "attempts": row.attempts,
        "created": time(row.created),
        "due": if row.standing == Standing::Dead { Value::Null } else { time(row.due).into() },
        "error": row.why,
        "bytes": row.size,
    })
}

fn table(rows: &[MessageRow]) -> String {
    const NAMES: [&str; 8] = ["created", "instance", "destination", "state", "attempts", "due", "id", "error"];
    let cells: Vec<[String; 8]> = rows
        .iter()
        .map(|row| {
            let due = if row.standing == Standing::Dead { "-".to_owned() } else { time(row.due) };
            let attempts = row.attempts.to_string();
            let state = row.standing.as_str().to_owned();
            [time(row.created), row.topic.clone(), row.destination.clone(), state, attempts, due, row.dedup.clone(), row.why.clone()]
        })
        .collect();
    let mut out = String::new();
    for row in [&NAMES.map(str::to_owned)].into_iter().chain(&cells) {
        for (at, cell) in row.iter().enumerate() {
            let width = cells.iter().map(|row| row[at].chars().count()).chain([NAMES[at].len()]).max().unwrap_or(0);
            let _ = write!(out, "{cell:<width$}  ");
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
    }
    if cells.is_empty() {
        out.push_str("nothing\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_says_how_each_delivery_stands() {
        let row = MessageRow {
            id: 7,
            topic: "crm".into(),
            dedup: "req_1".into(),
            destination: "crm.test".into(),
            ordering: None,
            request: None,
            created: 0,
            due: 1000,
            attempts: 3,
            standing: Standing::Dead,
            why: "status 500".into(),
            size: 9,
        };
        let lines: Vec<String> = table(std::slice::from_ref(&row)).lines().map(str::to_owned).collect();
        assert_eq!(lines.len(), 2);
        assert!(lines[1].starts_with("1970-01-01T00:00:00Z  crm ") && lines[1].ends_with("req_1  status 500"), "{lines:#?}");
        assert_eq!(object(&row)["due"], Value::Null);
        assert!(table(&[]).ends_with("nothing\n"));
    }
}
