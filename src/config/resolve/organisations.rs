//! `organisations`: principals, models, virtual keys.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use super::governance::{self, Accounts};
use super::{absent, mcp, unique};
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{ApiKeyEntry, KeyType, ModelGrant, OrganisationEntry};
use crate::identity::{
    Caller, Directory, Home, Homes, KeyEntry, KeyKind, KeyRecord, Keys, ModelEntry, Organisation, Team, Terms, User, fingerprint,
    is_minted_id,
};
use crate::limit::{Scope, ScopePlan};
use crate::route::{McpServers, Model, Models, Provider, ProviderKind};

/// All organisations, resolved.
pub(super) struct World {
    pub directory: Arc<Directory>,
    pub keys: Keys,
    pub models: Models,
    pub mcp_servers: McpServers,
    /// What applies to keys made at run time, by organisation.
    pub homes: Arc<Homes>,
}

type Providers = HashMap<Arc<str>, Arc<Provider>>;

#[derive(Default)]
struct Builder {
    organisations: Vec<Arc<Organisation>>,
    teams: Vec<Arc<Team>>,
    users: Vec<Arc<User>>,
    entries: Vec<KeyEntry>,
    listed: Vec<Arc<ModelEntry>>,
    keys: Keys,
    models: Models,
    mcp_servers: McpServers,
    key_ids: HashSet<String>,
}

/// The principals of one organisation, by name and id.
pub(super) struct Members {
    pub organisation: Arc<Organisation>,
    pub teams: BTreeMap<String, Arc<Team>>,
    pub users: BTreeMap<String, Arc<User>>,
    models: HashSet<String>,
    /// Plans of the organisation and, by id, of its teams.
    plans: Plans,
}

#[derive(Default)]
struct Plans {
    organisation: Option<Arc<ScopePlan>>,
    teams: HashMap<Arc<str>, Arc<ScopePlan>>,
}

pub(super) fn resolve(config: &Config, providers: &Providers, problems: &mut Problems<'_>) -> World {
    let mut builder = Builder::default();
    let mut taken = Taken::default();
    let mut homes = Homes::new();
    for (index, entry) in config.root.organisations.iter().enumerate() {
        let here = format!("organisations[{index}]");
        let id = taken.claim(&entry.name, entry.id.as_deref(), &here, "organisation", problems);
        let organisation = Arc::new(Organisation { id, name: entry.name.as_str().into(), metadata: entry.metadata.clone() });
        builder.organisations.push(Arc::clone(&organisation));
        let members = builder.members(organisation, entry, &here, config, providers, problems);
        let accounts = governance::accounts(entry, &members, &here, problems);
        mcp::resolve(entry, &members, &here, config, &mut builder.mcp_servers, problems);
        for (number, key) in entry.api_keys.iter().enumerate() {
            builder.key(key, entry, &members, &accounts, &format!("{here}.api_keys[{number}]"), problems);
        }
        homes.insert(Arc::clone(&members.organisation.id), home(entry, &members, &accounts));
        let mut key_names = HashSet::new();
        for (number, key) in entry.api_keys.iter().enumerate() {
            unique(&mut key_names, &key.name, &format!("{here}.api_keys[{number}].name"), "key", problems);
        }
    }
    let Builder { organisations, teams, users, entries, listed, keys, models, mcp_servers, .. } = builder;
    let homes = Arc::new(homes);
    let directory = Directory::new(organisations, teams, users, entries, listed).with_homes(Arc::clone(&homes));
    World { directory: Arc::new(directory), keys, models, mcp_servers, homes }
}

/// The names and ids in use. A name must not equal another member's id, so that an entry of a scope, which may be either,
/// is unambiguous.
#[derive(Default)]
struct Taken {
    names: HashSet<String>,
    ids: HashSet<String>,
}

impl Taken {
    /// Checks name and id, and returns the id, which defaults to the name.
    fn claim(&mut self, name: &str, id: Option<&str>, here: &str, what: &str, problems: &mut Problems<'_>) -> Arc<str> {
        let fresh = unique(&mut self.names, name, &format!("{here}.name"), what, problems);
        match id {
            Some(id) => {
                unique(&mut self.ids, id, &format!("{here}.id"), &format!("{what} with the id"), problems);
                id.into()
            }
            None => {
                if !self.ids.insert(name.to_owned()) && fresh {
                    problems.error(&format!("{here}.name"), format!("another {what} has the id `{name}`"));
                }
                name.into()
            }
        }
    }
}

impl Builder {
    fn members(
        &mut self,
        organisation: Arc<Organisation>,
        entry: &OrganisationEntry,
        here: &str,
        config: &Config,
        providers: &Providers,
        problems: &mut Problems<'_>,
    ) -> Members {
        let mut members =
            Members { organisation, teams: BTreeMap::new(), users: BTreeMap::new(), models: HashSet::new(), plans: Plans::default() };
        let home = Arc::clone(&members.organisation.id);
        members.plans.organisation = governance::plan(Scope::Organisation, &home, &home, &entry.policies, here, problems);
        let mut taken = Taken::default();
        for (number, team) in entry.teams.iter().enumerate() {
            let at = format!("{here}.teams[{number}]");
            let id = taken.claim(&team.name, team.id.as_deref(), &at, "team", problems);
            let made = Arc::new(Team {
                id: Arc::clone(&id),
                name: team.name.as_str().into(),
                organisation: Arc::clone(&home),
                metadata: team.metadata.clone(),
            });
            if let Some(plan) = governance::plan(Scope::Team, &home, &id, &team.policies, &at, problems) {
                members.plans.teams.insert(Arc::clone(&id), plan);
            }
            members.teams.insert(id.to_string(), Arc::clone(&made));
            members.teams.insert(team.name.clone(), Arc::clone(&made));
            self.teams.push(made);
        }
        let mut taken = Taken::default();
        for (number, user) in entry.users.iter().enumerate() {
            let at = format!("{here}.users[{number}]");
            let id = taken.claim(&user.name, user.id.as_deref(), &at, "user", problems);
            let made = Arc::new(User {
                id: Arc::clone(&id),
                name: user.name.as_str().into(),
                organisation: Arc::clone(&home),
                metadata: user.metadata.clone(),
            });
            members.users.insert(id.to_string(), Arc::clone(&made));
            members.users.insert(user.name.clone(), Arc::clone(&made));
            self.users.push(made);
        }
        for (number, model) in entry.models.iter().enumerate() {
            let at = format!("{here}.models[{number}]");
            if model.name.is_empty() || model.name.len() > 256 || model.name.chars().any(|c| c.is_control() || c.is_whitespace()) {
                problems.error(&format!("{at}.name"), "a name of a model is 1 to 256 characters without spaces");
            } else if !members.models.insert(model.name.clone()) {
                problems.error(&format!("{at}.name"), format!("model `{}` exists already", model.name));
            }
            let slug: Arc<str> = model.slug.as_deref().unwrap_or(&model.name).into();
            if slug.is_empty() {
                problems.error(&format!("{at}.slug"), "must not be empty");
            }
            let name: Arc<str> = model.name.as_str().into();
            let Some(provider) = providers.get(model.provider.as_str()) else {
                // If the provider exists in the file but could not be resolved, its error was reported already.
                let known = config.root.providers.iter().map(|p| p.name.as_str());
                if !known.clone().any(|n| n == model.provider) {
                    absent(&format!("{at}.provider"), "provider", &model.provider, known, problems);
                }
                continue;
            };
            self.listed.push(Arc::new(ModelEntry {
                name: Arc::clone(&name),
                slug: Arc::clone(&slug),
                provider: Arc::clone(&provider.name),
                organisation: Arc::clone(&home),
            }));
            for (position, key) in model.api_keys.iter().enumerate() {
                if !is_minted_id(key) && !entry.api_keys.iter().any(|k| k.name == *key || k.id.as_ref() == Some(key)) {
                    absent(&format!("{at}.api_keys[{position}]"), "key", key, entry.api_keys.iter().map(|k| k.name.as_str()), problems);
                }
            }
            if model.pricing.as_ref().is_some_and(|pricing| pricing.cached_input_discount_percent > 100) {
                problems.error(&format!("{at}.pricing.cached_input_discount_percent"), "is 0 to 100");
            }
            if provider.kind == ProviderKind::Gemini {
                let message = format!(
                    "no endpoint serves models of a {} provider yet: `{}` is listed and every call of it is refused",
                    provider.kind.as_str(),
                    model.name
                );
                problems
                    .warn(&format!("{at}.provider"), message)
                    .help("Gemini's OpenAI-compatible address serves them as a provider of type `custom`".to_owned());
            }
            let tells_calls = provider.kind == ProviderKind::Anthropic;
            for (field, why) in model.pricing.iter().flat_map(|pricing| pricing.uncharged(tells_calls)) {
                problems.warn(&format!("{at}.pricing.{field}"), why);
            }
            let made = Model {
                limits: governance::plan(Scope::Model, &home, &name, &model.policies, &at, problems),
                name,
                slug,
                provider: Arc::clone(provider),
                pricing: model.pricing.clone().map(Arc::new),
                max_output_tokens: model.max_output_tokens.max(1),
            };
            self.models.insert(Arc::clone(&home), Arc::new(made));
        }
        members
    }

    fn key(
        &mut self,
        entry: &ApiKeyEntry,
        organisation: &OrganisationEntry,
        members: &Members,
        accounts: &Accounts,
        here: &str,
        problems: &mut Problems<'_>,
    ) {
        let id = governance::key_id(entry, members);
        if id.is_empty() || id.len() > 128 || id.chars().any(|c| c.is_control() || c.is_whitespace()) {
            problems.error(&format!("{here}.id"), "an id is 1 to 128 characters without spaces");
        } else if !self.key_ids.insert(id.clone()) {
            problems.error(&format!("{here}.id"), format!("another key has the id `{id}`"));
        }
        let (team, user) = principal(entry, members, here, problems);
        let models = granted(entry, organisation, members, here, problems);
        let names_it = |key: &String| *key == entry.name || entry.id.as_ref() == Some(key);
        let servers = mcp::granted(&entry.mcp_servers, names_it, organisation, &format!("{here}.mcp_servers"), problems);
        if let Some(expiry) = &entry.expiry
            && expiry.at <= SystemTime::now()
        {
            problems.warn(&format!("{here}.expiry"), "has passed; the key is refused");
        }
        let Some(digest) = digest(&entry.sha256, here, problems) else { return };
        let kind = match entry.kind {
            KeyType::Organisation => KeyKind::Organisation,
            KeyType::Team => KeyKind::Team,
            KeyType::User => KeyKind::User,
        };
        let own = governance::plan(Scope::ApiKey, &members.organisation.id, &id, &entry.policies, here, problems);
        let of_team = team.as_ref().and_then(|team| members.plans.teams.get(&team.id).cloned());
        let scopes = [members.plans.organisation.clone(), of_team, own];
        let caller = Arc::new(Caller {
            terms: Arc::new(Terms::of(&accounts.0, scopes, &id, (team.as_deref(), user.as_deref()))),
            key_id: id.into(),
            key_name: entry.name.as_str().into(),
            kind,
            organisation: Arc::clone(&members.organisation),
            team,
            user,
            models: Arc::new(models),
            mcp_servers: Arc::new(servers),
        });
        self.entries.push(KeyEntry { caller: Arc::clone(&caller), revoked: entry.revoked });
        let record = KeyRecord { caller, expires: entry.expiry.as_ref().map(|e| e.at), revoked: entry.revoked };
        if self.keys.insert(digest, record).is_some() {
            problems.error(&format!("{here}.sha256"), "another key has the same secret");
        }
    }
}

/// What applies to the organisation's keys that are made at run time: principals, grants, plans and accounts.
fn home(entry: &OrganisationEntry, members: &Members, accounts: &Accounts) -> Home {
    let mut granted: HashMap<String, Vec<String>> = HashMap::new();
    for model in &entry.models {
        for key in model.api_keys.iter().filter(|key| is_minted_id(key)) {
            granted.entry(key.clone()).or_default().push(model.name.clone());
        }
    }
    Home {
        organisation: Arc::clone(&members.organisation),
        teams: members.teams.values().map(|team| (Arc::clone(&team.id), Arc::clone(team))).collect(),
        users: members.users.values().map(|user| (Arc::clone(&user.id), Arc::clone(user))).collect(),
        models: Arc::new(members.models.clone()),
        granted,
        mcp_servers: entry.mcp_servers.iter().map(|server| server.name.clone()).collect(),
        granted_servers: mcp::granted_at_run_time(entry),
        plan: members.plans.organisation.clone(),
        team_plans: members.plans.teams.clone(),
        accounts: accounts.0.clone(),
    }
}

/// The team or user that the key's type requires. Naming any other is an error.
fn principal(entry: &ApiKeyEntry, members: &Members, here: &str, problems: &mut Problems<'_>) -> (Option<Arc<Team>>, Option<Arc<User>>) {
    if entry.team.is_some() && entry.kind != KeyType::Team {
        problems.key_error(&format!("{here}.team"), "only a key of type team has a team").help("write `type: team`".to_owned());
    }
    if entry.user.is_some() && entry.kind != KeyType::User {
        problems.key_error(&format!("{here}.user"), "only a key of type user has a user").help("write `type: user`".to_owned());
    }
    match (entry.kind, entry.team.as_deref(), entry.user.as_deref()) {
        (KeyType::Team, Some(name), _) => {
            let found = members.teams.get(name);
            if found.is_none() {
                absent(&format!("{here}.team"), "team", name, members.teams.keys().map(String::as_str), problems);
            }
            (found.cloned(), None)
        }
        (KeyType::User, _, Some(name)) => {
            let found = members.users.get(name);
            if found.is_none() {
                absent(&format!("{here}.user"), "user", name, members.users.keys().map(String::as_str), problems);
            }
            (None, found.cloned())
        }
        (KeyType::Team, None, _) => {
            problems.error(here, "a key of type team needs `team`");
            (None, None)
        }
        (KeyType::User, _, None) => {
            problems.error(here, "a key of type user needs `user`");
            (None, None)
        }
        (KeyType::Organisation, ..) => (None, None),
    }
}

/// The models granted to a key: those that it names, and those that name it.
fn granted(
    entry: &ApiKeyEntry,
    organisation: &OrganisationEntry,
    members: &Members,
    here: &str,
    problems: &mut Problems<'_>,
) -> HashSet<String> {
    let names_it = |key: &String| *key == entry.name || entry.id.as_ref() == Some(key);
    let from_models = organisation.models.iter().filter(|model| model.api_keys.iter().any(names_it)).map(|model| model.name.clone());
    match &entry.models {
        ModelGrant::All => members.models.clone(),
        ModelGrant::Names(names) => {
            let from_models: HashSet<String> = from_models.collect();
            if names.is_empty() && from_models.is_empty() {
                problems.warn(here, "the key may use no model").help("list them under `models`, or write '*'".to_owned());
            }
            for (number, name) in names.iter().enumerate() {
                if !members.models.contains(name) {
                    let known = members.models.iter().map(String::as_str);
                    absent(&format!("{here}.models[{number}]"), "model", name, known, problems);
                }
            }
            names.iter().cloned().chain(from_models).collect()
        }
    }
}

/// Parses a digest of 32 bytes from hex.
fn digest(text: &str, here: &str, problems: &mut Problems<'_>) -> Option<[u8; 32]> {
    let path = format!("{here}.sha256");
    let mut bytes = [0u8; 32];
    let well = text.len() == 64
        && text.is_ascii()
        && bytes.iter_mut().enumerate().all(|(i, byte)| match u8::from_str_radix(&text[2 * i..2 * i + 2], 16) {
            Ok(value) => {
                *byte = value;
                !text[2 * i..].starts_with('+')
            }
            Err(_) => false,
        });
    if !well {
        problems
            .error(&path, "expected 64 hex digits")
            .help("write the SHA-256 of the secret, never the secret: printf %s \"$KEY\" | sha256sum".to_owned());
        return None;
    }
    if bytes == fingerprint(b"") || bytes == fingerprint(b"\n") {
        problems.error(&path, "is the SHA-256 of nothing").help("the variable was probably empty".to_owned());
        return None;
    }
    Some(bytes)
}
