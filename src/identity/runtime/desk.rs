//! Operations on keys made at run time, shared by the command line and the admin listener.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::{Value, json};

use super::hasher::{KeyHasher, mint, mint_id};
use super::home::{Home, Homes};
use crate::identity::{KeyKind, Secret};
use crate::limit::Policy;
use crate::store::records::{Grant, KeyOwner, KeyRow, NewKey, RecordError, RecordStore, Resource, Rotation, RotationRow};

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The request is invalid; says why.
    #[error("{0}")]
    Invalid(String),
    /// There is no key with this id.
    #[error("there is no key `{0}` made at run time")]
    NoKey(String),
    /// A key of the organisation has this name.
    #[error("the organisation has a key `{0}` already, active or revoked: give another name")]
    Taken(String),
    /// The record store does not answer.
    #[error(transparent)]
    Store(#[from] RecordError),
    /// The system's random number generator failed.
    #[error("no secret could be made: {0}")]
    Chance(#[from] std::io::Error),
}

/// The request to create a key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyAsk {
    /// The organisation, by name or identifier.
    pub organisation: String,
    /// The name of the key, unique within the organisation.
    pub name: String,
    /// `ORGANISATION`, `TEAM` or `USER`, in either case; if missing, it follows from `team` and `user`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// The team of a key of type team, by name or id.
    pub team: Option<String>,
    /// The user of a key of type user, by name or id.
    pub user: Option<String>,
    /// The expiry: RFC 3339, or a day or local time in `timezone`.
    pub expiry: Option<String>,
    /// IANA name of the time zone of `expiry`; UTC by default.
    pub timezone: Option<String>,
    /// The models that the key may use; `*` for all.
    #[serde(default)]
    pub models: Vec<String>,
    /// The MCP servers that the key may use.
    #[serde(default)]
    pub mcp_servers: Vec<String>,
    /// The policies of the key.
    #[serde(default)]
    pub policies: Policy,
}

/// The value of `expiry` for a key that does not expire.
const NEVER: &str = "never";

/// The request for a new secret of a key.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotateAsk {
    /// The new expiry; if missing, the previous one stays; `never` removes it.
    pub expiry: Option<String>,
    /// IANA name of the zone of `expiry`; UTC by default.
    pub timezone: Option<String>,
    /// The author of the rotation, for the history.
    pub by: Option<String>,
}

/// The request to add or remove grants.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrantChange {
    /// Names of models, or `*`.
    pub models: Vec<String>,
    /// Names of MCP servers.
    pub mcp_servers: Vec<String>,
}

/// A key with its new secret, which is shown only now.
pub struct Issued {
    /// The secret. It is not stored anywhere.
    pub secret: Secret,
    /// The key.
    pub key: KeyRow,
}

/// Carries out operations under one configuration.
pub struct Desk<'a> {
    /// The store of keys.
    pub records: &'a dyn RecordStore,
    /// The hash by which secrets are stored.
    pub hasher: &'a KeyHasher,
    /// The configured organisations.
    pub homes: &'a Homes,
}

impl Desk<'_> {
    /// Creates a key.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub async fn create(&self, ask: &KeyAsk) -> Result<Issued, DeskError> {
        let home = self.home(&ask.organisation)?;
        let well = (1..=64).contains(&ask.name.len()) && ask.name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b));
        if !well {
            return Err(invalid("a name of a key is 1 to 64 letters, digits, `_`, `-` or `.`"));
        }
        let owner = owner(ask, home)?;
        let grants = grants(home, &GrantChange { models: ask.models.clone(), mcp_servers: ask.mcp_servers.clone() })?;
        let (expires, timezone) = expiry(ask.expiry.as_deref(), ask.timezone.as_deref())?;
        ask.policies.check().map_err(DeskError::Invalid)?;
        let policies = if ask.policies.is_default() { "{}".to_owned() } else { json!(ask.policies).to_string() };
        let (secret, hint) = mint()?;
        let new = NewKey {
            id: mint_id()?,
            organisation: home.organisation.id.to_string(),
            name: ask.name.clone(),
            owner,
            fingerprint: self.hasher.fingerprint(secret.expose().as_bytes()),
            hint,
            expires,
            timezone,
            policies,
            grants,
            created: now(),
        };
        match self.records.create_key(&new).await {
            Ok(key) => Ok(Issued { secret, key }),
            Err(RecordError::Conflict(_)) => Err(DeskError::Taken(ask.name.clone())),
            Err(error) => Err(error.into()),
        }
    }

    /// Replaces the secret of a key; the previous one is refused from then on.
    ///
    /// # Errors
    /// See [`DeskError`]; a revoked key cannot be rotated.
    pub async fn rotate(&self, id: &str, ask: &RotateAsk) -> Result<Issued, DeskError> {
        let before = self.key(id).await?;
        if before.revoked {
            return Err(invalid("the key is revoked; unrevoke it first"));
        }
        let (expires, timezone) = match ask.expiry.as_deref() {
            None if before.expires.is_some_and(|at| at <= now()) => {
                return Err(invalid("the key has expired: say until when the new secret is good, or `never`"));
            }
            None => (before.expires, before.timezone),
            Some(NEVER) => (None, before.timezone),
            Some(told) => expiry(Some(told), ask.timezone.as_deref())?,
        };
        let (secret, hint) = mint()?;
        let fingerprint = self.hasher.fingerprint(secret.expose().as_bytes());
        let by = ask.by.clone().unwrap_or_else(|| "operator".to_owned());
        let rotation = Rotation { fingerprint, hint, expires, timezone, at: now(), by };
        let key = self.records.rotate_key(id, &rotation).await?.ok_or_else(|| DeskError::NoKey(id.to_owned()))?;
        Ok(Issued { secret, key })
    }

    /// The key with this id.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub async fn key(&self, id: &str) -> Result<KeyRow, DeskError> {
        self.records.key(id).await?.ok_or_else(|| DeskError::NoKey(id.to_owned()))
    }

    /// Switches a key off or on again.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub async fn revoke(&self, id: &str, revoked: bool) -> Result<KeyRow, DeskError> {
        self.records.revoke_key(id, revoked).await?.ok_or_else(|| DeskError::NoKey(id.to_owned()))
    }

    /// Adds grants. What is granted must exist in the organisation.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub async fn grant(&self, id: &str, change: &GrantChange) -> Result<KeyRow, DeskError> {
        let key = self.key(id).await?;
        let add = grants(self.home(&key.organisation)?, change)?;
        self.records.change_grants(id, &add, &[]).await?.ok_or_else(|| DeskError::NoKey(id.to_owned()))
    }

    /// Removes grants, including those for models and servers that no longer exist.
    ///
    /// # Errors
    /// See [`DeskError`].
    pub async fn revoke_grant(&self, id: &str, change: &GrantChange) -> Result<KeyRow, DeskError> {
        let remove: Vec<_> = named(change).collect();
        self.records.change_grants(id, &[], &remove).await?.ok_or_else(|| DeskError::NoKey(id.to_owned()))
    }

    /// A key as JSON, with the state `ownerless` where the configuration has no such organisation, team or user: gateways refuse
    /// it then.
    pub fn shown(&self, key: &KeyRow) -> Value {
        let mut shown = describe(key);
        let (kind, owner) = match &key.owner {
            KeyOwner::Organisation => (KeyKind::Organisation, None),
            KeyOwner::Team(team) => (KeyKind::Team, Some(team.as_str())),
            KeyOwner::User(user) => (KeyKind::User, Some(user.as_str())),
        };
        let there = self.homes.get(key.organisation.as_str()).is_some_and(|home| home.has(kind, owner));
        if !there && shown["state"] == "active" {
            shown["state"] = json!("ownerless");
        }
        shown
    }

    fn home(&self, organisation: &str) -> Result<&Home, DeskError> {
        let named = || self.homes.values().find(|home| &*home.organisation.name == organisation);
        self.homes.get(organisation).or_else(named).ok_or_else(|| invalid(&format!("there is no organisation `{organisation}`")))
    }
}

fn owner(ask: &KeyAsk, home: &Home) -> Result<KeyOwner, DeskError> {
    let kind = match (ask.kind.as_deref().map(str::to_ascii_uppercase).as_deref(), &ask.team, &ask.user) {
        (Some("ORGANISATION"), None, None) | (None, None, None) => KeyKind::Organisation,
        (Some("TEAM") | None, Some(_), None) => KeyKind::Team,
        (Some("USER") | None, None, Some(_)) => KeyKind::User,
        (Some("ORGANISATION" | "TEAM" | "USER") | None, ..) => {
            return Err(invalid("a key of type team has a team, one of type user a user, one of type organisation neither"));
        }
        (Some(other), ..) => return Err(invalid(&format!("`{other}` is none of ORGANISATION, TEAM and USER"))),
    };
    Ok(match kind {
        KeyKind::Organisation => KeyOwner::Organisation,
        KeyKind::Team => {
            let name = ask.team.as_deref().unwrap_or_default();
            let found = home.teams.get(name).or_else(|| home.teams.values().find(|team| &*team.name == name));
            KeyOwner::Team(found.ok_or_else(|| invalid(&format!("there is no team `{name}`")))?.id.to_string())
        }
        KeyKind::User => {
            let name = ask.user.as_deref().unwrap_or_default();
            let found = home.users.get(name).or_else(|| home.users.values().find(|user| &*user.name == name));
            KeyOwner::User(found.ok_or_else(|| invalid(&format!("there is no user `{name}`")))?.id.to_string())
        }
    })
}

fn named(change: &GrantChange) -> impl Iterator<Item = Grant> + '_ {
    let of = |resource| move |name: &String| Grant { resource, name: name.clone() };
    change.models.iter().map(of(Resource::Model)).chain(change.mcp_servers.iter().map(of(Resource::McpServer)))
}

fn grants(home: &Home, change: &GrantChange) -> Result<Vec<Grant>, DeskError> {
    if let Some(unknown) = change.models.iter().find(|name| *name != "*" && !home.models.contains(*name)) {
        return Err(invalid(&format!("the organisation has no model `{unknown}`")));
    }
    if let Some(unknown) = change.mcp_servers.iter().find(|name| !home.mcp_servers.contains(*name)) {
        return Err(invalid(&format!("the organisation has no MCP server `{unknown}`")));
    }
    Ok(named(change).collect())
}

/// Parses an expiry (ms since the Unix epoch), and returns the time zone it was given in.
fn expiry(text: Option<&str>, timezone: Option<&str>) -> Result<(Option<i64>, Option<String>), DeskError> {
    let zone = jiff::tz::TimeZone::get(timezone.unwrap_or("UTC"))
        .map_err(|_| invalid(&format!("`{}` is no time zone; an example is Europe/Vienna", timezone.unwrap_or_default())))?;
    let Some(text) = text else { return Ok((None, timezone.map(str::to_owned))) };
    let at = match text.parse::<jiff::Timestamp>() {
        Ok(at) => at,
        Err(_) => text
            .parse::<jiff::civil::DateTime>()
            .and_then(|local| local.to_zoned(zone))
            .map_err(|_| invalid("an expiry is such as 2027-01-31T12:00:00Z, or 2027-01-31 or 2027-01-31T12:00 in its time zone"))?
            .timestamp(),
    };
    if at.as_millisecond() <= now() {
        return Err(invalid("the expiry has passed"));
    }
    Ok((Some(at.as_millisecond()), timezone.map(str::to_owned)))
}

/// A key as JSON, without its fingerprint.
pub fn describe(key: &KeyRow) -> Value {
    let (kind, team, user) = match &key.owner {
        KeyOwner::Organisation => ("ORGANISATION", None, None),
        KeyOwner::Team(team) => ("TEAM", Some(team), None),
        KeyOwner::User(user) => ("USER", None, Some(user)),
    };
    let names = |resource| key.grants.iter().filter(move |grant| grant.resource == resource).map(|grant| &grant.name).collect::<Vec<_>>();
    let time = |millis: i64| jiff::Timestamp::from_millisecond(millis).ok().map(|at| at.to_string());
    let state = match key {
        key if key.revoked => "revoked",
        key if key.expires.is_some_and(|at| at <= now()) => "expired",
        _ => "active",
    };
    json!({
        "id": key.id,
        "organisation": key.organisation,
        "name": key.name,
        "type": kind,
        "team": team,
        "user": user,
        "hint": key.hint,
        "state": state,
        "expiry": key.expires.and_then(time),
        "timezone": key.timezone,
        "revoked": key.revoked,
        "rotations": key.rotations,
        "created": time(key.created),
        "models": names(Resource::Model),
        "mcp_servers": names(Resource::McpServer),
        "policies": serde_json::from_str::<Value>(&key.policies).unwrap_or_default(),
    })
}

/// A rotation as JSON, times in RFC 3339.
pub fn rotation(row: &RotationRow) -> Value {
    let time = |millis: i64| jiff::Timestamp::from_millisecond(millis).ok().map(|at| at.to_string());
    json!({
        "at": time(row.at),
        "by": row.by,
        "previous_hint": row.previous_hint,
        "previous_expiry": row.previous_expires.and_then(time),
        "expiry": row.expires.and_then(time),
    })
}

fn invalid(why: &str) -> DeskError {
    DeskError::Invalid(why.to_owned())
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
