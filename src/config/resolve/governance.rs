//! Policies, budgets and quotas: resolves their owners, and compiles them into the plans of keys and models.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::absent;
use super::organisations::Members;
use super::process::positive;
use super::secrets;
use crate::budget::{Account, AccountError, AccountKind, MissingUsage, Owner, OwnerKind};
use crate::config::Config;
use crate::config::problems::Problems;
use crate::config::sections::{ApiKeyEntry, Certainty, OnStoreError, OrganisationEntry, RecordsKind, StateKind};
use crate::config::settings::{GovernanceSettings, HashingKey, KeySettings};
use crate::identity::is_minted_id;
use crate::limit::{Policy, Scope, ScopePlan};

/// The accounts of one organisation with their owners. Budgets come first: if several accounts have no room, the first is
/// reported.
pub(super) struct Accounts(pub Vec<Arc<Account>>);

/// Resolves the owner of every budget and quota of an organisation.
pub(super) fn accounts(entry: &OrganisationEntry, members: &Members, here: &str, problems: &mut Problems<'_>) -> Accounts {
    let mut found = Vec::new();
    let mut seen = HashSet::new();
    for (number, budget) in entry.budgets.iter().enumerate() {
        let at = format!("{here}.budgets[{number}]");
        let Some(owner) = owner(&budget.owner, entry, members, &at, problems) else { continue };
        note(Account::of_budget(budget, &members.organisation.id, &owner), &at, "amount", &mut seen, &mut found, problems);
    }
    for (number, quota) in entry.quotas.iter().enumerate() {
        let at = format!("{here}.quotas[{number}]");
        let Some(owner) = owner(&quota.owner, entry, members, &at, problems) else { continue };
        note(Account::of_quota(quota, &members.organisation.id, &owner), &at, "limit", &mut seen, &mut found, problems);
    }
    Accounts(found)
}

fn note(
    made: Result<Option<Account>, AccountError>,
    at: &str,
    amount: &str,
    seen: &mut HashSet<(AccountKind, OwnerKind, Arc<str>, Arc<str>)>,
    found: &mut Vec<Arc<Account>>,
    problems: &mut Problems<'_>,
) {
    match made {
        Ok(None) => {}
        Ok(Some(account)) => {
            if !seen.insert((account.kind, account.owner, Arc::clone(&account.owner_id), Arc::clone(&account.name))) {
                let message = format!("this owner has another {} `{}`", account.kind.as_str(), account.name);
                problems.error(&format!("{at}.name"), message).help("they would share one counter; give it another name".to_owned());
            }
            found.push(Arc::new(account));
        }
        Err(error) => {
            let member = match &error {
                AccountError::Schedule(_) => "schedule",
                AccountError::Zero | AccountError::TooLarge | AccountError::TooLargeToDouble => amount,
                AccountError::Threshold => "thresholds",
            };
            problems.error(&format!("{at}.{member}"), error.to_string());
        }
    }
}

/// The identifier of the owner that an account names.
fn owner(owner: &Owner, entry: &OrganisationEntry, members: &Members, at: &str, problems: &mut Problems<'_>) -> Option<Arc<str>> {
    let path = format!("{at}.owner");
    let name = match (owner.kind, owner.name.as_deref()) {
        (OwnerKind::Org, None) => return Some(Arc::clone(&members.organisation.id)),
        (OwnerKind::Org, Some(_)) => {
            problems.error(&path, "the organisation is this one; it takes no name");
            return None;
        }
        (kind, None) => {
            problems.error(&path, format!("an owner of type {} needs `name`", kind.as_str()));
            return None;
        }
        (_, Some(name)) => name,
    };
    match owner.kind {
        OwnerKind::Org => None,
        OwnerKind::Team => {
            let found = members.teams.get(name).map(|team| Arc::clone(&team.id));
            if found.is_none() {
                absent(&format!("{path}.name"), "team", name, members.teams.keys().map(String::as_str), problems);
            }
            found
        }
        OwnerKind::User => {
            let found = members.users.get(name).map(|user| Arc::clone(&user.id));
            if found.is_none() {
                absent(&format!("{path}.name"), "user", name, members.users.keys().map(String::as_str), problems);
            }
            found
        }
        // Keys made at run time come and go without a change of the file, so their ids are accepted unchecked.
        OwnerKind::ApiKey if is_minted_id(name) => Some(name.into()),
        OwnerKind::ApiKey => {
            let found = entry.api_keys.iter().find(|key| key.name == name || key.id.as_deref() == Some(name));
            if found.is_none() {
                absent(&format!("{path}.name"), "key", name, entry.api_keys.iter().map(|key| key.name.as_str()), problems);
            }
            found.map(|key| key_id(key, members).into())
        }
    }
}

/// The identifier of a key: as written, or derived from its name.
pub(super) fn key_id(entry: &ApiKeyEntry, members: &Members) -> String {
    entry.id.clone().unwrap_or_else(|| format!("{}/{}", members.organisation.id, entry.name))
}

/// Compiles the policy of one scope of an organisation into a plan.
pub(super) fn plan(
    scope: Scope,
    organisation: &str,
    owner: &str,
    policy: &Policy,
    at: &str,
    problems: &mut Problems<'_>,
) -> Option<Arc<ScopePlan>> {
    for (number, overlay) in policy.overlays.iter().enumerate() {
        if overlay.from.is_some_and(|from| from >= overlay.until) {
            problems.error(format!("{at}.policies.overlays[{number}].until").trim_start_matches('.'), "lies before its `from`");
        }
        if overlay.scale_percent == 0 {
            problems.error(format!("{at}.policies.overlays[{number}].scale_percent").trim_start_matches('.'), "is 1 to 10000");
        }
    }
    if let Err(error) = policy.check() {
        problems.error(format!("{at}.policies").trim_start_matches('.'), error);
    }
    ScopePlan::new(scope, organisation, owner, policy).map(Arc::new)
}

/// Settings of `governance`: what happens to requests when a store, a price or a usage report is missing.
pub(super) fn settings(config: &Config, problems: &mut Problems<'_>) -> GovernanceSettings {
    let written = &config.root.governance;
    if written.reservation_ttl.0 < Duration::from_secs(30) {
        problems.error("governance.reservation_ttl", "must be at least 30s: reservations of long requests are renewed every quarter of it");
    }
    if written.unknown_price == Certainty::Estimate {
        problems.error("governance.unknown_price", "is deny or allow: there is nothing to estimate a price from");
    }
    positive("governance.usage_retention", written.usage_retention, problems);
    remembered(config, problems);
    GovernanceSettings {
        keys: keys(config, problems),
        invalidation_secret: written
            .invalidation_secret
            .as_ref()
            .and_then(|reference| secrets::require(reference, "governance.invalidation_secret", config, problems)),
        allow_on_store_error: written.on_store_error == OnStoreError::Allow,
        refuse_unpriced: written.unknown_price == Certainty::Deny,
        missing_usage: match written.missing_usage {
            Certainty::Deny => MissingUsage::Worst,
            Certainty::Estimate => MissingUsage::Estimate,
            Certainty::Allow => MissingUsage::Nothing,
        },
        reservation_ttl: written.reservation_ttl.0,
        usage_retention: written.usage_retention.0,
        usage_spool: written.usage.then(|| written.usage_spool.clone()),
        record_denials: written.record_denials,
    }
}

/// Counters that begin anew are told what the records say: those must reach as far back as any window does.
fn remembered(config: &Config, problems: &mut Problems<'_>) {
    let written = &config.root.governance;
    let organisations = || config.root.organisations.iter();
    let budgets = organisations().flat_map(|entry| &entry.budgets).map(|budget| (budget.period, &budget.schedule));
    let quotas = organisations().flat_map(|entry| &entry.quotas).map(|quota| (quota.period, &quota.schedule));
    let active = budgets.chain(quotas).filter(|(_, schedule)| schedule.active);
    // The window before is read as well where it leaves something over.
    let days =
        active.map(|(period, schedule)| (period.longest_days() * if schedule.rollover { 2 } else { 1 }, period)).max_by_key(|it| it.0);
    let Some((days, period)) = days else { return };
    if written.usage {
        if written.usage_retention.0 < Duration::from_secs(days * 86_400) {
            let message = format!("is shorter than what a {} budget or quota reads after a restart: {days}d", period.as_str());
            let help = "counters that begin anew are told what the usage records say; keep them for as long".to_owned();
            problems.error("governance.usage_retention", message).help(help);
        }
    } else if config.root.state.kind == StateKind::Embedded {
        let finding = problems.warn("governance.usage", "every start begins budgets and quotas anew: no usage record says what was used");
        finding.help("set `governance.usage: true`, or share counters: `state: {kind: redis}`".to_owned());
    }
}

/// Keys made at run time.
fn keys(config: &Config, problems: &mut Problems<'_>) -> Option<KeySettings> {
    let written = &config.root.governance;
    if !written.virtual_keys {
        return None;
    }
    positive("governance.key_grace", written.key_grace, problems);
    let records = &config.root.records;
    let hashing = match (&written.key_hash_secret, records.kind) {
        (Some(reference), _) => {
            let secret = secrets::require(reference, "governance.key_hash_secret", config, problems)?;
            if secret.expose().len() < 32 {
                problems.error("governance.key_hash_secret", "is shorter than 32 bytes").help("make one: openssl rand -hex 32".to_owned());
            }
            HashingKey::Given(secret)
        }
        (None, RecordsKind::Embedded) => HashingKey::File({
            let mut path = records.path.clone().into_os_string();
            path.push(".key");
            path.into()
        }),
        (None, RecordsKind::Postgres) => {
            let finding = problems.warn("records", "keys made at run time are not known: replicas must hash under one secret");
            finding.help("give `governance.key_hash_secret`, or set `governance.virtual_keys: false`".to_owned());
            return None;
        }
    };
    let mut file = written.usage_spool.clone().into_os_string();
    file.push(".keys");
    Some(KeySettings { hashing, grace: written.key_grace.0, file: file.into() })
}

/// The plan of the gateway's own policy. Its counters have a tag of their own, since it is checked before the organisation
/// is known.
pub(super) fn global(config: &Config, problems: &mut Problems<'_>) -> Option<Arc<ScopePlan>> {
    plan(Scope::Global, "global", "gateway", &config.root.policies, "", problems)
}
