//! Read access to stored data for plugins with a storage grant, by scope and without secrets, and access to the stores
//! themselves for plugins that were granted them by name.
//!
//! The data of the configuration, and the keys made at run time, are in memory and answered at once. Counters and records are
//! asked of their stores, which takes a round trip and can fail; plugins should do that off the request's path.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::host::HostError;
use super::manifest::{Need, NeedSet, StorageScope};
use crate::budget::Account;
use crate::identity::{Directory, Home, KeyEntry, Keyring, ModelEntry, Organisation, Team, User};
use crate::limit::Policy;
use crate::store::records::{RecordError, RecordStore, Statements, UsageBy, UsageFilter, UsageSum};
use crate::store::{StateKey, StateStore, Values};

pub use crate::store::records::SqlValue;

/// The most rows of one query.
const ROWS: usize = 10_000;
/// The longest name of a value, and the longest value (bytes).
const NAME: usize = 256;
const VALUE: usize = 1 << 20;

/// The stores of the process, which are registered one by one as it starts. Cheap to clone.
#[derive(Clone, Default)]
pub struct Stores(Arc<Opened>);

#[derive(Default)]
struct Opened {
    keyring: OnceLock<Arc<Keyring>>,
    state: OnceLock<Arc<dyn StateStore>>,
    records: OnceLock<Arc<dyn RecordStore>>,
    statements: OnceLock<Arc<dyn Statements>>,
    values: OnceLock<Arc<dyn Values>>,
}

// There is one of each for the life of a process: the first one registered stays.
impl Stores {
    /// Registers the keys made at run time.
    pub fn offer_keyring(&self, keyring: Arc<Keyring>) {
        let _ = self.0.keyring.set(keyring);
    }

    /// Registers the store of counters and reservations.
    pub fn offer_state(&self, state: Arc<dyn StateStore>) {
        let _ = self.0.state.set(state);
    }

    /// Registers the record store.
    pub fn offer_records(&self, records: Arc<dyn RecordStore>) {
        let _ = self.0.records.set(records);
    }

    /// Registers PostgreSQL, if it is the record store.
    pub fn offer_statements(&self, statements: Arc<dyn Statements>) {
        let _ = self.0.statements.set(statements);
    }

    /// Registers Redis, if it is the state store.
    pub fn offer_values(&self, values: Arc<dyn Values>) {
        let _ = self.0.values.set(values);
    }

    /// The record store; `None` until it was reached for the first time.
    pub fn records(&self) -> Option<&Arc<dyn RecordStore>> {
        self.0.records.get()
    }
}

/// The state of a budget or quota.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetStanding {
    /// The name of the budget or quota.
    pub name: Arc<str>,
    /// `budget` or `quota`.
    pub kind: &'static str,
    /// What is counted, such as `COST` (nano-USD) or `REQUESTS`.
    pub metric: &'static str,
    /// `ORG`, `TEAM`, `USER` or `APIKEY`.
    pub owner: &'static str,
    /// The id of the owner.
    pub owner_id: Arc<str>,
    /// The current window, start and end in microseconds since the Unix epoch.
    pub window: (i64, i64),
    /// The most that the window may hold, without rollover from the previous one.
    pub limit: i64,
    /// The used amount.
    pub used: i64,
    /// The amount reserved by requests under way.
    pub reserved: i64,
}

/// A policy that applies to a key, with its scope.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyInForce {
    /// `organisation`, `team` or `api_key`.
    pub scope: &'static str,
    /// The policy.
    pub policy: Policy,
}

/// Access to stored data, limited to the granted scopes.
#[derive(Clone)]
pub struct Storage {
    granted: NeedSet,
    directory: Arc<Directory>,
    stores: Stores,
    /// The instance whose namespace in the stores is used.
    instance: Arc<str>,
}

impl Storage {
    pub(crate) fn new(granted: NeedSet, directory: Arc<Directory>, stores: Stores, instance: Arc<str>) -> Self {
        Self { granted, directory, stores, instance }
    }

    fn scope(&self, scope: StorageScope) -> Result<&Directory, HostError> {
        if self.granted.contains(Need::Storage(scope)) { Ok(&self.directory) } else { Err(HostError::NotGranted(scope.as_str())) }
    }

    /// The organisation of this id or name.
    ///
    /// # Errors
    /// Without the scope `organisations`.
    pub fn organisation(&self, id: &str) -> Result<Option<&Arc<Organisation>>, HostError> {
        Ok(self.scope(StorageScope::Organisations)?.organisation(id))
    }

    /// The team of this id or name within an organisation (by its id).
    ///
    /// # Errors
    /// Without the scope `teams`.
    pub fn team(&self, organisation: &str, id: &str) -> Result<Option<&Arc<Team>>, HostError> {
        Ok(self.scope(StorageScope::Teams)?.team(organisation, id))
    }

    /// The user of this id or name within an organisation (by its id).
    ///
    /// # Errors
    /// Without the scope `users`.
    pub fn user(&self, organisation: &str, id: &str) -> Result<Option<&Arc<User>>, HostError> {
        Ok(self.scope(StorageScope::Users)?.user(organisation, id))
    }

    /// The key of this id, from the configuration or made at run time.
    ///
    /// # Errors
    /// Without the scope `api_keys`.
    pub fn api_key(&self, id: &str) -> Result<Option<KeyEntry>, HostError> {
        self.scope(StorageScope::ApiKeys)?;
        Ok(self.key(id))
    }

    fn key(&self, id: &str) -> Option<KeyEntry> {
        let made = || self.stores.0.keyring.get()?.table().by_id(id);
        self.directory.api_key(id).cloned().or_else(made)
    }

    /// The model of this name within an organisation (by its id).
    ///
    /// # Errors
    /// Without the scope `models`.
    pub fn model(&self, organisation: &str, name: &str) -> Result<Option<&Arc<ModelEntry>>, HostError> {
        Ok(self.scope(StorageScope::Models)?.model(organisation, name))
    }

    /// The names of the models granted to a key (by its id), sorted; `None` for an unknown key.
    ///
    /// # Errors
    /// Without the scope `model_access`.
    pub fn model_access(&self, key_id: &str) -> Result<Option<Vec<String>>, HostError> {
        self.scope(StorageScope::ModelAccess)?;
        Ok(self.key(key_id).map(|key| {
            let mut names: Vec<String> = key.caller.models.iter().cloned().collect();
            names.sort_unstable();
            names
        }))
    }

    /// The policies of organisation, team and key that apply to a key (by its id), in that order; `None` for an unknown key.
    ///
    /// # Errors
    /// Without the scope `policies`.
    pub fn policies(&self, key_id: &str) -> Result<Option<Vec<PolicyInForce>>, HostError> {
        self.scope(StorageScope::Policies)?;
        let said = |key: KeyEntry| {
            let scopes = key.caller.terms.scopes.iter();
            scopes.map(|plan| PolicyInForce { scope: plan.scope.as_str(), policy: plan.policy().clone() }).collect()
        };
        Ok(self.key(key_id).map(said))
    }

    /// The state of an organisation's (by its id) active budgets and quotas in their current windows; `None` for an unknown
    /// organisation.
    ///
    /// # Errors
    /// Without the scope `budgets`, or if the state store does not answer.
    pub async fn budgets(&self, organisation: &str) -> Result<Option<Vec<BudgetStanding>>, HostError> {
        let Some(home) = self.scope(StorageScope::Budgets)?.home(organisation) else { return Ok(None) };
        let Home { accounts, .. } = home;
        let state = self.stores.0.state.get().ok_or(HostError::Store("state store"))?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX));
        let open: Vec<(&Arc<Account>, _)> = accounts.iter().filter_map(|account| Some((account, account.window(now)?))).collect();
        let keys: Vec<&StateKey> = open.iter().map(|(_, open)| &open.key).collect();
        let counted = state.counters(&keys).await.map_err(|_| HostError::Store("state store"))?;
        let standing = open.iter().zip(counted).map(|((account, open), counted)| BudgetStanding {
            name: Arc::clone(&account.name),
            kind: account.kind.as_str(),
            metric: account.metric.as_str(),
            owner: account.owner.as_str(),
            owner_id: Arc::clone(&account.owner_id),
            window: (open.window.start, open.window.end),
            limit: open.limit,
            used: counted.used,
            reserved: counted.reserved,
        });
        Ok(Some(standing.collect()))
    }

    /// Sums over the usage records of an organisation (by its id), the most expensive first. The organisation in the filter is
    /// ignored.
    ///
    /// # Errors
    /// Without the scope `usage`, or if the record store does not answer.
    pub async fn usage(&self, organisation: &str, filter: &UsageFilter, by: UsageBy) -> Result<Vec<UsageSum>, HostError> {
        self.scope(StorageScope::Usage)?;
        let records = self.stores.records().ok_or(HostError::Store("record store"))?;
        let filter = UsageFilter { organisation: Some(organisation.to_owned()), ..filter.clone() };
        records.sum_usage(&filter, by).await.map_err(|_| HostError::Store("record store"))
    }

    /// The PostgreSQL server of the record store, in a schema of the instance's own.
    ///
    /// # Errors
    /// Without the scope `postgres`, or if the record store is not PostgreSQL or was not opened yet.
    pub fn postgres(&self) -> Result<Tables, HostError> {
        self.scope(StorageScope::Postgres)?;
        let statements = self.stores.0.statements.get().ok_or(HostError::Store("record store"))?;
        Ok(Tables { statements: Arc::clone(statements), schema: schema(&self.instance) })
    }

    /// The Redis server of the state store, in a namespace of the instance's own.
    ///
    /// # Errors
    /// Without the scope `redis`, or if the state store is not Redis.
    pub fn redis(&self) -> Result<Shelf, HostError> {
        self.scope(StorageScope::Redis)?;
        let values = self.stores.0.values.get().ok_or(HostError::Store("state store"))?;
        Ok(Shelf { values: Arc::clone(values), tag: format!("plugin:{}", self.instance) })
    }
}

/// `plugin_` and the instance's name, as an identifier that PostgreSQL accepts without quotes.
fn schema(instance: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '_' };
    let mut name: String = "plugin_".chars().chain(instance.chars().map(plain)).collect();
    name.truncate(63);
    name
}

/// Tables on PostgreSQL. Statements take their values as parameters `$1`, `$2`, …. Unqualified names are in the instance's own
/// schema, `plugin_NAME`, which is created at its first use.
#[derive(Clone)]
pub struct Tables {
    statements: Arc<dyn Statements>,
    schema: String,
}

impl Tables {
    /// The instance's schema.
    pub fn schema(&self) -> &str {
        &self.schema
    }

    /// Runs one statement in a transaction of its own; returns the number of affected rows.
    ///
    /// # Errors
    /// [`HostError::Sql`] with what the server says, as far as it quotes no value; [`HostError::SqlValue`] where a value is what
    /// it does not take.
    pub async fn execute(&self, text: &str, values: &[SqlValue]) -> Result<u64, HostError> {
        self.statements.execute(&self.schema, text, values).await.map_err(|error| refused(&error))
    }

    /// The rows of one statement, at most 10,000.
    ///
    /// # Errors
    /// As for [`Self::execute`]; also for more rows, and for columns of types that [`SqlValue`] lacks.
    pub async fn query(&self, text: &str, values: &[SqlValue]) -> Result<Vec<Vec<SqlValue>>, HostError> {
        self.statements.query(&self.schema, text, values, ROWS).await.map_err(|error| refused(&error))
    }
}

fn refused(error: &RecordError) -> HostError {
    let text = error.to_string();
    if matches!(error, RecordError::Value(_)) { HostError::SqlValue(text) } else { HostError::Sql(text) }
}

/// Values on Redis, under names that are the instance's own. Every one ends with its time to live.
#[derive(Clone)]
pub struct Shelf {
    values: Arc<dyn Values>,
    tag: String,
}

impl Shelf {
    fn key(&self, name: &str) -> Result<StateKey, HostError> {
        if name.len() > NAME { Err(HostError::Store("a name is too long")) } else { Ok(StateKey::new(&self.tag, name)) }
    }

    /// The value of this name.
    ///
    /// # Errors
    /// The server does not answer, or the name is too long.
    pub async fn get(&self, name: &str) -> Result<Option<Vec<u8>>, HostError> {
        self.values.get(&self.key(name)?).await.map_err(|_| HostError::Store("state store"))
    }

    /// Sets a value of at most 1 MiB.
    ///
    /// # Errors
    /// The server does not answer, or the name or value is too long.
    pub async fn set(&self, name: &str, value: &[u8], ttl: Duration) -> Result<(), HostError> {
        if value.len() > VALUE {
            return Err(HostError::Store("a value is too long"));
        }
        self.values.set(&self.key(name)?, value, ttl).await.map_err(|_| HostError::Store("state store"))
    }

    /// Adds to a number (0 if there is none) and returns the result; its time to live starts anew.
    ///
    /// # Errors
    /// The server does not answer, the name is too long, or the value is not a number.
    pub async fn increment(&self, name: &str, by: i64, ttl: Duration) -> Result<i64, HostError> {
        self.values.increment(&self.key(name)?, by, ttl).await.map_err(|_| HostError::Store("state store"))
    }

    /// Removes a value; returns whether there was one.
    ///
    /// # Errors
    /// The server does not answer, or the name is too long.
    pub async fn remove(&self, name: &str) -> Result<bool, HostError> {
        self.values.remove(&self.key(name)?).await.map_err(|_| HostError::Store("state store"))
    }
}
