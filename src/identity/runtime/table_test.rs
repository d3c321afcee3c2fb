use std::time::Duration;

use super::*;
use crate::identity::runtime::Home;
use crate::identity::{Organisation, Team};
use crate::store::records::Grant;

fn homes(models: &[&str], teams: &[&str]) -> Arc<Homes> {
    let team = |id: &&str| {
        (Arc::from(*id), Arc::new(Team { id: (*id).into(), organisation: "acme".into(), name: (*id).into(), metadata: Default::default() }))
    };
    let home = Home {
        organisation: Arc::new(Organisation { id: "acme".into(), name: "acme".into(), metadata: Default::default() }),
        teams: teams.iter().map(team).collect(),
        users: Default::default(),
        models: Arc::new(models.iter().map(|name| (*name).to_owned()).collect()),
        granted: HashMap::from([("key_granted".to_owned(), vec!["fast".to_owned()])]),
        mcp_servers: Default::default(),
        granted_servers: Default::default(),
        plan: None,
        team_plans: Default::default(),
        accounts: Vec::new(),
    };
    Arc::new([("acme".into(), home)].into_iter().collect())
}

fn key(id: &str, secret: u8) -> KeyChange {
    KeyChange {
        version: 1,
        id: id.to_owned(),
        organisation: "acme".to_owned(),
        name: format!("name of {id}"),
        owner: KeyOwner::Organisation,
        fingerprint: [secret; 32],
        expires: None,
        revoked: false,
        policies: "{}".to_owned(),
        grants: vec![
            Grant { resource: Resource::Model, name: "gpt".to_owned() },
            Grant { resource: Resource::McpServer, name: "files".to_owned() },
        ],
    }
}

fn table(keys: impl IntoIterator<Item = KeyChange>) -> KeyTable {
    let table = KeyTable::new(homes(&["gpt", "fast"], &["support"]));
    keys.into_iter().for_each(|key| table.put(key.into()));
    table
}

fn caller(table: &KeyTable, secret: u8) -> Option<Arc<Caller>> {
    match table.find([secret; 32], 1000) {
        Found::Caller(caller) => Some(caller),
        Found::Unknown | Found::Revoked | Found::Expired => None,
    }
}

#[test]
fn a_key_stands_for_its_owner_and_its_grants_of_each_kind() {
    let all = Grant { resource: Resource::Model, name: "*".to_owned() };
    let table = table([
        KeyChange { owner: KeyOwner::Team("support".to_owned()), ..key("key_a", 1) },
        KeyChange { grants: vec![all], ..key("key_b", 2) },
        KeyChange { grants: Vec::new(), ..key("key_granted", 3) },
        KeyChange { owner: KeyOwner::Team("gone".to_owned()), ..key("key_c", 4) },
        KeyChange { owner: KeyOwner::User("gone".to_owned()), ..key("key_d", 5) },
        KeyChange { organisation: "gone".to_owned(), ..key("key_e", 6) },
        KeyChange { policies: "{\"what\": 1}".to_owned(), ..key("key_f", 7) },
        KeyChange { policies: "{\"ratelimit\": {\"requests\": {\"per_minute\": 5}}}".to_owned(), ..key("key_g", 8) },
    ]);
    let one = caller(&table, 1).unwrap();
    assert_eq!((&*one.key_id, &*one.key_name, one.kind), ("key_a", "name of key_a", KeyKind::Team));
    assert_eq!(one.team.as_ref().map(|team| &*team.id), Some("support"));
    assert!(one.may_use_model("gpt") && !one.may_use_model("fast") && !one.may_use_model("files") && one.mcp_servers.contains("files"));
    assert!(caller(&table, 2).is_some_and(|all| all.may_use_model("gpt") && all.may_use_model("fast")));
    assert!(caller(&table, 3).is_some_and(|granted| granted.may_use_model("fast") && !granted.may_use_model("gpt")));
    for (secret, why) in [(4, "its team is gone"), (5, "its user"), (6, "its organisation"), (7, "its policies cannot be read")] {
        assert!(matches!(table.find([secret; 32], 1000), Found::Unknown), "{why}");
    }
    assert_eq!(caller(&table, 8).map(|limited| limited.terms.scopes.len()), Some(1));
}

#[test]
fn revoked_wins_over_expired_and_expiry_is_an_instant() {
    let table =
        table([KeyChange { expires: Some(1000), ..key("key_a", 1) }, KeyChange { expires: Some(1000), revoked: true, ..key("key_b", 2) }]);
    assert!(matches!(table.find([1; 32], 999), Found::Caller(_)));
    assert!(matches!(table.find([1; 32], 1000), Found::Expired));
    assert!(matches!(table.find([2; 32], 2000), Found::Revoked));
    assert!(matches!(table.find([3; 32], 0), Found::Unknown));
}

#[test]
fn a_rotated_key_has_one_secret_and_its_identifier_finds_it() {
    let table = table([key("key_a", 1), key("key_b", 2)]);
    table.put(key("key_a", 9).into());
    assert_eq!(table.len(), 2);
    assert!(caller(&table, 1).is_none() && caller(&table, 9).is_some() && caller(&table, 2).is_some());
    assert_eq!(table.by_id("key_a").map(|entry| entry.caller.key_id.to_string()), Some("key_a".to_owned()));
    table.put(KeyChange { revoked: true, ..key("key_b", 2) }.into());
    assert!(table.by_id("key_b").is_some_and(|entry| entry.revoked));
    assert!(table.by_id("key_none").is_none());
}

#[test]
fn what_a_reading_of_all_keys_does_not_find_is_gone() {
    let table = table([key("key_a", 1), key("key_b", 2)]);
    table.begin_reading();
    table.put(key("key_b", 2).into());
    table.put(key("key_c", 3).into());
    assert!(caller(&table, 1).is_some(), "it is served while the reading lasts");
    table.end_reading();
    assert!(caller(&table, 1).is_none() && table.by_id("key_a").is_none());
    assert_eq!((table.len(), table.is_empty(), caller(&table, 3).is_some()), (2, false, true));
}

#[test]
fn another_configuration_changes_what_keys_stand_for() {
    let table = table([KeyChange { owner: KeyOwner::Team("support".to_owned()), ..key("key_a", 1) }, key("key_b", 2)]);
    assert!(caller(&table, 1).is_some());
    table.rehome(homes(&["gpt"], &[]));
    assert!(caller(&table, 1).is_none() && caller(&table, 2).is_some());
    table.rehome(homes(&["gpt"], &["support"]));
    assert!(caller(&table, 1).is_some());
}

#[test]
fn what_is_written_to_the_file_is_what_was_put() {
    let first = table((0..100).map(|n| KeyChange { expires: Some(i64::from(n) + 1), ..key(&format!("key_{n}"), n) }));
    let second = table([]);
    first
        .entries(|entry| {
            second.put(entry.clone());
            Ok(())
        })
        .unwrap();
    assert_eq!(second.len(), 100);
    for n in 0..100 {
        let now = i64::from(n);
        assert!(matches!(second.find([n; 32], now), Found::Caller(_)) && matches!(second.find([n; 32], now + 1), Found::Expired), "{n}");
    }
}

/// Keys are looked up while they change: a reader sees a key as it was before or after a change, and never misses it.
#[test]
fn a_key_is_found_while_it_changes() {
    let table = table((0..50).map(|n| key(&format!("key_{n}"), n)));
    std::thread::scope(|threads| {
        let readers: Vec<_> = (0..2).map(|_| threads.spawn(|| (0..20_000).all(|n| caller(&table, (n % 50) as u8).is_some()))).collect();
        for _ in 0..200 {
            (0..50).for_each(|n| table.put(key(&format!("key_{n}"), n).into()));
            std::thread::sleep(Duration::from_micros(10));
        }
        assert!(readers.into_iter().all(|reader| reader.join().is_ok_and(|all| all)));
    });
}
