//! `keys`: virtual keys made at run time.

use std::path::PathBuf;

use clap::{Args as Group, Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::{FAILED, INVALID_CONFIG, print, tell, tell_diagnostics};
use crate::config::{self, RecordsSettings, StateSettings};
use crate::gateway::Builder;
use crate::identity::{CHANGED, Desk, DeskError, GrantChange, Issued, KeyAsk, KeyHasher, RotateAsk, describe, rotation};
use crate::store::InvalidationBus;
use crate::store::records::{KeyFilter, Page, RecordStore, VirtualKeys};
use crate::store::redis::{self, RedisState};
use crate::store::sql::{Options, SqlRecords};

const EXAMPLES: &str = "Examples:
  odock-edge keys create -c conf/odock.yaml --organisation acme --name app --team support --model fast
  odock-edge keys create -c conf/odock.yaml --organisation acme --name ci --model '*' --expiry 2027-01-31 --timezone Europe/Vienna
  odock-edge keys list -c conf/odock.yaml --format json
  odock-edge keys rotate -c conf/odock.yaml key_4f1c2a90b7d84e6f4f1c2a90
  odock-edge keys revoke -c conf/odock.yaml key_4f1c2a90b7d84e6f4f1c2a90
  odock-edge keys grant -c conf/odock.yaml key_4f1c2a90b7d84e6f4f1c2a90 --model secret

A secret is printed by create and rotate and never again. Running gateways know a change at once over Redis, else within
seconds.";

/// The exit code for unusable values, the same as clap's.
const WRONG_USAGE: i32 = 2;

/// Arguments of `keys`.
#[derive(Group)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
    /// The configuration file; its `records` say which store
    #[arg(short, long, env = "ODOCK_CONFIG", value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// How it is written
    #[arg(long, value_enum, default_value_t = Format::Table, global = true)]
    format: Format,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    Table,
    Json,
}

#[derive(Subcommand)]
enum Action {
    /// Make a key and print its secret, this once
    Create(Create),
    /// List keys, without their secrets
    List {
        /// Only of this organisation, by its id
        #[arg(long, value_name = "ID")]
        organisation: Option<String>,
        /// Only revoked keys
        #[arg(long)]
        revoked: bool,
    },
    /// Show a key and every rotation of it, newest first
    Show {
        /// Identifier of the key
        id: String,
    },
    /// Say why a secret cannot be shown again
    Reveal {
        /// Identifier of the key
        id: String,
    },
    /// Replace the secret in place; grants, budgets and identifier stay, the old secret dies
    Rotate {
        /// Identifier of the key
        id: String,
        /// The new expiry: a moment (2027-01-31T12:00:00Z), a day or local time of --timezone, or never; without it the old one
        #[arg(long, value_name = "TIME")]
        expiry: Option<String>,
        /// IANA name of a time zone
        #[arg(long, value_name = "ZONE")]
        timezone: Option<String>,
        /// Who asked, for the history
        #[arg(long, value_name = "NAME")]
        by: Option<String>,
    },
    /// Refuse the key from now on
    Revoke {
        /// Identifier of the key
        id: String,
    },
    /// Accept a revoked key again
    Unrevoke {
        /// Identifier of the key
        id: String,
    },
    /// Grant models and MCP servers
    Grant {
        /// Identifier of the key
        id: String,
        #[command(flatten)]
        grants: Grants,
    },
    /// Take grants back
    RevokeGrant {
        /// Identifier of the key
        id: String,
        #[command(flatten)]
        grants: Grants,
    },
}

#[derive(Group)]
struct Create {
    /// The organisation, by name or id
    #[arg(long, value_name = "NAME")]
    organisation: String,
    /// Unique within the organisation
    #[arg(long)]
    name: String,
    /// ORGANISATION, TEAM or USER; without it what --team and --user say
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// The team of a key of type TEAM
    #[arg(long, value_name = "NAME")]
    team: Option<String>,
    /// The user of a key of type USER
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// A moment (2027-01-31T12:00:00Z), or a day or local time of --timezone
    #[arg(long, value_name = "TIME")]
    expiry: Option<String>,
    /// IANA name of a time zone
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// A policy document as JSON
    #[arg(long, value_name = "JSON")]
    policies: Option<String>,
    #[command(flatten)]
    grants: Grants,
}

#[derive(Group)]
struct Grants {
    /// A model, or '*' for all of the organisation; may be repeated
    #[arg(long = "model", value_name = "NAME")]
    models: Vec<String>,
    /// An MCP server; may be repeated
    #[arg(long = "mcp-server", value_name = "NAME")]
    mcp_servers: Vec<String>,
}

impl Grants {
    fn change(&self) -> Result<GrantChange, DeskError> {
        if self.models.is_empty() && self.mcp_servers.is_empty() {
            return Err(DeskError::Invalid("name at least one --model or --mcp-server".to_owned()));
        }
        Ok(GrantChange { models: self.models.clone(), mcp_servers: self.mcp_servers.clone() })
    }
}

/// Runs the command. Returns 0 on success.
pub fn run(args: &Args, builder: &Builder) -> i32 {
    let Some(file) = &args.config else {
        tell("odock-edge: which configuration? Give -c FILE or ODOCK_CONFIG");
        return WRONG_USAGE;
    };
    let read = config::load(file, &builder.roster()).and_then(|loaded| {
        let config = loaded.config;
        Ok((config.records_settings()?, config.state_settings()?, config.virtual_keys()?, args.action.is_taken(&config)))
    });
    let (records, state, found, taken) = match read {
        Ok(read) => read,
        Err(diagnostics) => {
            tell_diagnostics(&diagnostics);
            return INVALID_CONFIG;
        }
    };
    if taken {
        tell("odock-edge: a key of the configuration has this name");
        return WRONG_USAGE;
    }
    let Some((settings, homes)) = found else {
        tell("odock-edge: keys made at run time are switched off, or have no `governance.key_hash_secret`; see `check`");
        return FAILED;
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let failed = |error: &dyn std::fmt::Display| (FAILED, error.to_string());
    let done = runtime.map_err(|error| failed(&error)).and_then(|runtime| {
        runtime.block_on(async {
            let hasher = KeyHasher::of(&settings.hashing).map_err(|error| failed(&error))?;
            let store = match &records {
                RecordsSettings::Embedded(path) => SqlRecords::embedded(path, Options::default()),
                RecordsSettings::Postgres(address) => SqlRecords::postgres(address.expose(), Options::default()),
            };
            let store = store.map_err(|error| failed(&error))?;
            let desk = Desk { records: &store, hasher: &hasher, homes: &homes };
            let migrated = store.migrate().await.map_err(DeskError::from);
            let answer = match migrated {
                Ok(_) => act(&args.action, &desk, &store).await.map_err(|error| (args.action.code_of(&error), error.to_string())),
                Err(error) => Err((FAILED, error.to_string())),
            };
            store.close().await;
            if answer.is_ok() && args.action.changes() {
                announce(&state).await;
            }
            answer
        })
    });
    match done {
        Ok(answer) => print(&written(&answer, args.format)),
        Err((code, error)) => {
            tell(&format!("odock-edge: {error}"));
            code
        }
    }
}

impl Action {
    /// The exit code for a failure: values from which no key can be made are wrong usage.
    fn code_of(&self, error: &DeskError) -> i32 {
        if matches!((self, error), (Self::Create(_), DeskError::Invalid(_))) { WRONG_USAGE } else { FAILED }
    }

    /// Whether a key in the configuration file has the same name as the one to be made. With two of one name, reports would
    /// be ambiguous.
    fn is_taken(&self, config: &config::Config) -> bool {
        let Self::Create(create) = self else { return false };
        config.sections().organisations.iter().any(|home| {
            let meant = home.name == create.organisation || home.id.as_ref() == Some(&create.organisation);
            meant && home.api_keys.iter().any(|key| key.name == create.name)
        })
    }

    fn changes(&self) -> bool {
        !matches!(self, Self::List { .. } | Self::Show { .. } | Self::Reveal { .. })
    }
}

/// Notifies running gateways if there is a bus between processes. Otherwise they find the change in the store.
async fn announce(state: &StateSettings) {
    let StateSettings::Redis(address) = state else { return };
    let told = match RedisState::open(address.expose(), redis::Options::default()) {
        Ok(bus) => bus.publish(CHANGED).await.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = told {
        tell(&format!("odock-edge: gateways hear of it within seconds instead of at once: {error}"));
    }
}

async fn act(action: &Action, desk: &Desk<'_>, store: &SqlRecords) -> Result<Value, DeskError> {
    Ok(match action {
        Action::Create(create) => {
            let policies = create.policies.as_deref().map_or(Ok(Default::default()), serde_json::from_str);
            let policies = policies.map_err(|error| DeskError::Invalid(format!("--policies: {error}")))?;
            let ask = KeyAsk {
                organisation: create.organisation.clone(),
                name: create.name.clone(),
                kind: create.kind.clone(),
                team: create.team.clone(),
                user: create.user.clone(),
                expiry: create.expiry.clone(),
                timezone: create.timezone.clone(),
                models: create.grants.models.clone(),
                mcp_servers: create.grants.mcp_servers.clone(),
                policies,
            };
            issued(&desk.create(&ask).await?)
        }
        Action::List { organisation, revoked } => {
            let filter = KeyFilter { organisation: organisation.clone(), revoked: revoked.then_some(true), ..KeyFilter::default() };
            let mut page = Page::first(1000);
            let mut all = Vec::new();
            loop {
                let keys = store.keys(&filter, &page).await?;
                all.extend(keys.iter().map(|key| desk.shown(key)));
                match keys.last() {
                    Some(last) if keys.len() as u64 == u64::from(page.limit) => page.after = Some(last.id.clone()),
                    _ => break,
                }
            }
            Value::Array(all)
        }
        Action::Show { id } => {
            let mut shown = desk.shown(&desk.key(id).await?);
            shown["history"] = store.rotations(id).await?.iter().map(rotation).collect();
            shown
        }
        Action::Reveal { id } => {
            let key = desk.key(id).await?;
            let why = format!(
                "the secret of `{}` ({}) was shown when it was made and is kept as a keyed hash only; `keys rotate` makes another",
                key.id, key.hint
            );
            return Err(DeskError::Invalid(why));
        }
        Action::Rotate { id, expiry, timezone, by } => {
            let ask = RotateAsk { expiry: expiry.clone(), timezone: timezone.clone(), by: by.clone() };
            issued(&desk.rotate(id, &ask).await?)
        }
        Action::Revoke { id } => describe(&desk.revoke(id, true).await?),
        Action::Unrevoke { id } => describe(&desk.revoke(id, false).await?),
        Action::Grant { id, grants } => describe(&desk.grant(id, &grants.change()?).await?),
        Action::RevokeGrant { id, grants } => describe(&desk.revoke_grant(id, &grants.change()?).await?),
    })
}

fn issued(issued: &Issued) -> Value {
    let mut shown = describe(&issued.key);
    shown["key"] = json!(issued.secret.expose());
    shown
}

fn written(answer: &Value, format: Format) -> String {
    const COLUMNS: [&str; 10] = ["id", "organisation", "name", "type", "team", "user", "hint", "state", "expiry", "models"];
    if matches!(format, Format::Json) {
        return format!("{answer:#}\n");
    }
    let cell = |value: &Value| match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    };
    let Value::Array(keys) = answer else {
        // For a single key: a line for each member, the secret last.
        let members = answer.as_object().into_iter().flatten().filter(|(name, _)| !["key", "history"].contains(&name.as_str()));
        let mut text: String = members.map(|(name, value)| format!("{name:<13} {}\n", cell(value))).collect();
        for rotated in answer["history"].as_array().into_iter().flatten() {
            let [at, hint, by] = ["at", "previous_hint", "by"].map(|member| cell(&rotated[member]));
            text.push_str(&format!("{:<13} {at} by {by}, was {hint}\n", "rotated"));
        }
        if let Some(secret) = answer["key"].as_str() {
            text.push_str(&format!("{:<13} {secret}\n", "key"));
        }
        return text;
    };
    let rows: Vec<Vec<String>> = std::iter::once(COLUMNS.iter().map(|name| (*name).to_owned()).collect())
        .chain(keys.iter().map(|key| COLUMNS.iter().map(|name| cell(&key[*name])).collect()))
        .collect();
    let width = |column: usize| rows.iter().map(|row: &Vec<String>| row[column].chars().count()).max().unwrap_or_default();
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>().join("  ");
        format!("{}\n", cells.trim_end())
    };
    rows.iter().map(line).collect()
}
