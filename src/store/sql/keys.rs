//! Virtual keys.

use async_trait::async_trait;

use super::SqlRecords;
use super::engine::Writing;
use super::row::Row;
use super::statement::{Conditions, Statement, Value};
use crate::store::records::{
    Grant, KeyChange, KeyFilter, KeyOwner, KeyRow, NewKey, Page, RecordError, Resource, Rotation, RotationRow, VirtualKeys,
};

const COLUMNS: &str = "id, organisation, name, team, user_id, fingerprint, hint, expires, timezone, revoked, policies, rotations, \
                       created, version";

/// Changed keys with their grants, as one JSON text in one row. All keys, perhaps a million, are read at every start;
/// passing a row of many columns for each key and another for each grant would take several times as long as the query
/// itself.
const CHANGES_SQLITE: &str = "\
    SELECT json_group_array(json_array(k.version, k.id, k.organisation, k.name, k.team, k.user_id, hex(k.fingerprint), k.expires, \
    k.revoked, k.policies, json((SELECT json_group_array(json_array(g.resource, g.name)) FROM key_grants g WHERE g.key_id = k.id)))) \
    FROM (SELECT * FROM api_keys WHERE version > $1 ORDER BY version LIMIT $2) k";
const CHANGES_POSTGRES: &str = "\
    SELECT coalesce(json_agg(json_build_array(k.version, k.id, k.organisation, k.name, k.team, k.user_id, encode(k.fingerprint, 'hex'), \
    k.expires, k.revoked::int, k.policies, coalesce((SELECT json_agg(json_build_array(g.resource, g.name)) FROM key_grants g \
    WHERE g.key_id = k.id), '[]'::json))), '[]'::json)::text \
    FROM (SELECT * FROM api_keys WHERE version > $1 ORDER BY version LIMIT $2) k";

/// A changed key in that text, in the order of its columns.
type Change = (i64, String, String, String, Option<String>, Option<String>, String, Option<i64>, i64, String, Vec<(i64, String)>);

fn changes(text: &str) -> Result<Vec<KeyChange>, RecordError> {
    let lost = || RecordError::Refused("changed keys are not what was written".into());
    let change = |(version, id, organisation, name, team, user, digits, expires, revoked, policies, grants): Change| {
        let owner = match (team, user) {
            (Some(team), _) => KeyOwner::Team(team),
            (None, Some(user)) => KeyOwner::User(user),
            (None, None) => KeyOwner::Organisation,
        };
        let mut fingerprint = [0; 32];
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else { return None };
        if pairs.len() != fingerprint.len() {
            return None;
        }
        for (byte, pair) in fingerprint.iter_mut().zip(pairs) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
        let resource = |number| if number == 0 { Resource::Model } else { Resource::McpServer };
        let mut grants: Vec<Grant> = grants.into_iter().map(|(number, name)| Grant { resource: resource(number), name }).collect();
        grants.sort_unstable();
        Some(KeyChange { version, id, organisation, name, owner, fingerprint, expires, revoked: revoked != 0, policies, grants })
    };
    let read: Vec<Change> = serde_json::from_str(text).map_err(|_| lost())?;
    let mut all = read.into_iter().map(change).collect::<Option<Vec<KeyChange>>>().ok_or_else(lost)?;
    all.sort_by_key(|change| change.version);
    Ok(all)
}

fn number(resource: Resource) -> i64 {
    match resource {
        Resource::Model => 0,
        Resource::McpServer => 1,
    }
}

fn read(row: &mut Row) -> Result<KeyRow, RecordError> {
    let (id, organisation, name) = (row.text()?, row.text()?, row.text()?);
    let owner = match (row.maybe_text()?, row.maybe_text()?) {
        (Some(team), _) => KeyOwner::Team(team),
        (None, Some(user)) => KeyOwner::User(user),
        (None, None) => KeyOwner::Organisation,
    };
    let fingerprint = row.bytes()?.try_into().map_err(|_| RecordError::Refused("a fingerprint is not what was written".into()))?;
    Ok(KeyRow {
        id,
        organisation,
        name,
        owner,
        fingerprint,
        hint: row.text()?,
        expires: row.maybe_int()?,
        timezone: row.maybe_text()?,
        revoked: row.flag()?,
        policies: row.text()?,
        rotations: row.small()?,
        created: row.int()?,
        version: row.int()?,
        grants: Vec::new(),
    })
}

/// The query for the grants of these keys; for many keys it reads all between the first and the last id.
fn grants_of(keys: &[KeyRow]) -> Option<Statement> {
    let first = keys.iter().map(|key| &key.id).min()?;
    let last = keys.iter().map(|key| &key.id).max()?;
    // A few keys are listed. For many, which are mostly a page, the span between them is read: it holds little else.
    let mut statement = Statement::fixed("SELECT key_id, resource, name FROM key_grants WHERE key_id ");
    if keys.len() <= 100 {
        statement.push("IN (").list(keys.iter().map(|key| &key.id)).push(")");
    } else {
        statement.push("BETWEEN ").bind(first).push(" AND ").bind(last);
    }
    statement.push(" ORDER BY key_id, resource, name");
    Some(statement)
}

/// Adds the grants to their keys. Rows of other keys are skipped.
fn add_grants(keys: &mut [KeyRow], rows: Vec<Row>) -> Result<(), RecordError> {
    let mut places: Vec<(String, usize)> = keys.iter().enumerate().map(|(at, key)| (key.id.clone(), at)).collect();
    places.sort_unstable();
    for mut row in rows {
        let id = row.text()?;
        let resource = if row.int()? == 0 { Resource::Model } else { Resource::McpServer };
        if let Ok(found) = places.binary_search_by(|(place, _)| place.as_str().cmp(&id)) {
            keys[places[found].1].grants.push(Grant { resource, name: row.text()? });
        }
    }
    Ok(())
}

/// The version number for the change that this transaction makes.
async fn next_version(tx: &mut Writing) -> Result<i64, RecordError> {
    let mut rows = tx.fetch(Statement::fixed("UPDATE key_version SET n = n + 1 RETURNING n")).await?;
    rows.first_mut().ok_or(RecordError::Refused("the version of keys is lost".into()))?.int()
}

async fn key_within(tx: &mut Writing, id: &str) -> Result<Option<KeyRow>, RecordError> {
    let mut statement = Statement::fixed("SELECT ");
    statement.push(COLUMNS).push(" FROM api_keys WHERE id = ").bind(id);
    let mut rows = tx.fetch(statement).await?;
    let Some(row) = rows.first_mut() else { return Ok(None) };
    let mut keys = [read(row)?];
    if let Some(statement) = grants_of(&keys) {
        let rows = tx.fetch(statement).await?;
        add_grants(&mut keys, rows)?;
    }
    let [key] = keys;
    Ok(Some(key))
}

async fn add(tx: &mut Writing, id: &str, grants: &[Grant]) -> Result<(), RecordError> {
    for some in grants.chunks(1000) {
        let mut statement = Statement::fixed("INSERT INTO key_grants (key_id, resource, name) VALUES ");
        statement.rows(some.iter().map(|grant| -> [Value; 3] { [id.into(), number(grant.resource).into(), (&grant.name).into()] }));
        statement.push(" ON CONFLICT DO NOTHING");
        tx.execute(statement).await?;
    }
    Ok(())
}

impl SqlRecords {
    async fn select(&self, statement: Statement) -> Result<Vec<KeyRow>, RecordError> {
        let mut rows = self.engine.fetch(statement).await?;
        let mut keys = rows.iter_mut().map(read).collect::<Result<Vec<_>, _>>()?;
        if let Some(statement) = grants_of(&keys) {
            add_grants(&mut keys, self.engine.fetch(statement).await?)?;
        }
        Ok(keys)
    }

    async fn one(&self, column: &str, value: Value) -> Result<Option<KeyRow>, RecordError> {
        let mut statement = Statement::fixed("SELECT ");
        statement.push(COLUMNS).push(" FROM api_keys WHERE ").push(column).push(" = ").bind(value);
        self.within(async { Ok(self.select(statement).await?.pop()) }).await
    }

    /// Changes one column of a key and gives the key a new version.
    async fn set(&self, id: &str, column: &str, value: Value) -> Result<Option<KeyRow>, RecordError> {
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let mut statement = Statement::fixed("UPDATE api_keys SET version = ");
            statement.bind(next_version(&mut tx).await?).push(", ").push(column).push(" = ").bind(value);
            statement.push(" WHERE id = ").bind(id);
            if tx.execute(statement).await? == 0 {
                return Ok(None);
            }
            let key = key_within(&mut tx, id).await?;
            tx.commit().await?;
            Ok(key)
        })
        .await
    }
}

#[async_trait]
impl VirtualKeys for SqlRecords {
    async fn create_key(&self, key: &NewKey) -> Result<KeyRow, RecordError> {
        let (team, user) = match &key.owner {
            KeyOwner::Organisation => (None, None),
            KeyOwner::Team(team) => (Some(team.clone()), None),
            KeyOwner::User(user) => (None, Some(user.clone())),
        };
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let version = next_version(&mut tx).await?;
            let mut statement = Statement::fixed("INSERT INTO api_keys (");
            statement.push(COLUMNS).push(") VALUES ");
            let row: [Value; 14] = [
                (&key.id).into(),
                (&key.organisation).into(),
                (&key.name).into(),
                (&team).into(),
                (&user).into(),
                key.fingerprint.as_slice().into(),
                (&key.hint).into(),
                key.expires.into(),
                (&key.timezone).into(),
                false.into(),
                (&key.policies).into(),
                0i64.into(),
                key.created.into(),
                version.into(),
            ];
            statement.rows([row]);
            tx.execute(statement).await?;
            add(&mut tx, &key.id, &key.grants).await?;
            let made = key_within(&mut tx, &key.id).await?;
            tx.commit().await?;
            made.ok_or(RecordError::Refused("a key that was just made is not there".into()))
        })
        .await
    }

    async fn key(&self, id: &str) -> Result<Option<KeyRow>, RecordError> {
        self.one("id", id.into()).await
    }

    async fn key_by_fingerprint(&self, fingerprint: &[u8; 32]) -> Result<Option<KeyRow>, RecordError> {
        self.one("fingerprint", fingerprint.as_slice().into()).await
    }

    async fn keys(&self, filter: &KeyFilter, page: &Page) -> Result<Vec<KeyRow>, RecordError> {
        let mut statement = Statement::fixed("SELECT ");
        statement.push(COLUMNS).push(" FROM api_keys");
        let mut conditions = Conditions::default();
        for (column, wanted) in [("organisation", &filter.organisation), ("team", &filter.team), ("user_id", &filter.user)] {
            if let Some(wanted) = wanted {
                conditions.and(&mut statement, column).push(" = ").bind(wanted);
            }
        }
        if let Some(revoked) = filter.revoked {
            conditions.and(&mut statement, "revoked = ").bind(revoked);
        }
        if let Some(grant) = &filter.granted {
            let within = conditions.and(&mut statement, "id IN (SELECT key_id FROM key_grants WHERE resource = ");
            within.bind(number(grant.resource)).push(" AND name = ").bind(&grant.name).push(")");
        }
        if let Some(after) = &page.after {
            conditions.and(&mut statement, "id > ").bind(after);
        }
        statement.push(" ORDER BY id LIMIT ").bind(page.limit.max(1));
        self.within(self.select(statement)).await
    }

    async fn keys_since(&self, version: i64, limit: u32) -> Result<Vec<KeyChange>, RecordError> {
        let statement = Statement::fixed(if self.engine.is_embedded() { CHANGES_SQLITE } else { CHANGES_POSTGRES });
        let rows = self.within(self.engine.fetch(statement.value(version).value(limit.max(1)))).await?;
        match rows.into_iter().next() {
            Some(mut row) => changes(&row.text()?),
            None => Ok(Vec::new()),
        }
    }

    async fn rotate_key(&self, id: &str, rotation: &Rotation) -> Result<Option<KeyRow>, RecordError> {
        self.within(async {
            let mut tx = self.engine.begin().await?;
            // Incrementing the version locks its row, so no other transaction changes keys until this one ends.
            let version = next_version(&mut tx).await?;
            let Some(before) = key_within(&mut tx, id).await? else { return Ok(None) };
            let number = before.rotations + 1;
            let mut history =
                Statement::fixed("INSERT INTO key_rotations (key_id, n, at, previous_hint, previous_expires, expires, actor) VALUES ");
            let row: [Value; 7] = [
                id.into(),
                number.into(),
                rotation.at.into(),
                (&before.hint).into(),
                before.expires.into(),
                rotation.expires.into(),
                (&rotation.by).into(),
            ];
            history.rows([row]);
            tx.execute(history).await?;
            let change = Statement::fixed(
                "UPDATE api_keys SET fingerprint = $1, hint = $2, expires = $3, timezone = $4, rotations = $5, version = $6 WHERE id = $7",
            );
            let change =
                change.value(rotation.fingerprint.as_slice()).value(&rotation.hint).value(rotation.expires).value(&rotation.timezone);
            tx.execute(change.value(number).value(version).value(id)).await?;
            let key = key_within(&mut tx, id).await?;
            tx.commit().await?;
            Ok(key)
        })
        .await
    }

    async fn rotations(&self, id: &str) -> Result<Vec<RotationRow>, RecordError> {
        let text = "SELECT at, previous_hint, previous_expires, expires, actor FROM key_rotations WHERE key_id = $1 ORDER BY n DESC";
        let mut rows = self.within(self.engine.fetch(Statement::fixed(text).value(id))).await?;
        let read = |row: &mut Row| {
            Ok(RotationRow {
                at: row.int()?,
                previous_hint: row.text()?,
                previous_expires: row.maybe_int()?,
                expires: row.maybe_int()?,
                by: row.text()?,
            })
        };
        rows.iter_mut().map(read).collect()
    }

    async fn revoke_key(&self, id: &str, revoked: bool) -> Result<Option<KeyRow>, RecordError> {
        self.set(id, "revoked", revoked.into()).await
    }

    async fn set_key_policies(&self, id: &str, policies: &str) -> Result<Option<KeyRow>, RecordError> {
        self.set(id, "policies", policies.into()).await
    }

    async fn change_grants(&self, id: &str, grants: &[Grant], remove: &[Grant]) -> Result<Option<KeyRow>, RecordError> {
        self.within(async {
            let mut tx = self.engine.begin().await?;
            let version = next_version(&mut tx).await?;
            let touched = Statement::fixed("UPDATE api_keys SET version = $1 WHERE id = $2").value(version).value(id);
            if tx.execute(touched).await? == 0 {
                return Ok(None);
            }
            for grant in remove {
                let statement = Statement::fixed("DELETE FROM key_grants WHERE key_id = $1 AND resource = $2 AND name = $3");
                tx.execute(statement.value(id).value(number(grant.resource)).value(&grant.name)).await?;
            }
            add(&mut tx, id, grants).await?;
            let key = key_within(&mut tx, id).await?;
            tx.commit().await?;
            Ok(key)
        })
        .await
    }
}
