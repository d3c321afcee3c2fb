//! Principals, keys, journal, and the stores as a whole.

use std::collections::BTreeMap;
use std::time::Duration;

use super::databases::{Say, databases, postgres, sqlite};
use crate::store::LeaseId;
use crate::store::records::{
    Grant, Journal, JournalEntry, KeyFilter, KeyOwner, KeyRow, MemberRow, Migrated, ModelRow, NewKey, OrganisationRow, Page, Principals,
    RecordError, RecordStore, Resource, Rotation, VirtualKeys,
};
use crate::store::sql::{Options, SqlRecords};

fn model(name: &str) -> Grant {
    Grant { resource: Resource::Model, name: name.into() }
}

fn mcp(name: &str) -> Grant {
    Grant { resource: Resource::McpServer, name: name.into() }
}

fn new_key(n: u32, owner: KeyOwner) -> NewKey {
    let mut fingerprint = [0; 32];
    fingerprint[..4].copy_from_slice(&n.to_be_bytes());
    NewKey {
        id: format!("key{n:07}"),
        organisation: "acme".into(),
        name: format!("k{n}"),
        owner,
        fingerprint,
        hint: "sk_…50ae".into(),
        expires: Some(1_900_000_000_000),
        timezone: Some("Europe/Berlin".into()),
        policies: r#"{"ip":{}}"#.into(),
        grants: vec![mcp("files"), model("gpt"), model("claude")],
        created: 1_800_000_000_000,
    }
}

#[tokio::test]
async fn migrations_are_applied_once_by_whoever_comes_first() {
    let mut all = vec![sqlite()];
    all.extend(postgres().await);
    for database in all {
        let (a, b) = tokio::join!(database.records.migrate(), database.other.migrate());
        let mut done = [a.unwrap(), b.unwrap()];
        done.sort_by_key(|migrated| migrated.from);
        assert_eq!(done, [Migrated { from: 0, to: 4 }, Migrated { from: 4, to: 4 }], "{}", database.name);
        database.records.ping().await.unwrap();
    }
}

#[tokio::test]
async fn principals_are_put_replaced_and_listed_by_name() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let metadata = BTreeMap::from([("cost_centre".to_owned(), "4711 \"ä\"".to_owned())]);
        let acme = OrganisationRow { id: "o1".into(), name: "acme".into(), metadata };
        records.put_organisation(&OrganisationRow { name: "old".into(), ..acme.clone() }).await.unwrap();
        records.put_organisation(&acme).await.unwrap();
        let taken = records.put_organisation(&OrganisationRow { id: "o2".into(), ..acme.clone() }).await;
        assert!(matches!(taken, Err(RecordError::Conflict(_))), "{name}: {taken:?}");
        assert_eq!(database.other.organisations().await.unwrap(), [acme], "{name}");

        let row =
            |id: &str, name: &str| MemberRow { organisation: "o1".into(), id: id.into(), name: name.into(), metadata: BTreeMap::new() };
        for team in [row("t2", "support"), row("t1", "research")] {
            records.put_team(&team).await.unwrap();
            records.put_user(&team).await.unwrap();
        }
        assert_eq!(records.teams("o1").await.unwrap(), [row("t1", "research"), row("t2", "support")], "{name}");
        assert_eq!(records.users("o1").await.unwrap().len(), 2, "{name}");
        assert_eq!(records.teams("o2").await.unwrap(), [], "{name}");

        let gpt = ModelRow {
            organisation: "o1".into(),
            name: "gpt".into(),
            slug: "gpt-4.1".into(),
            provider: "openai".into(),
            document: "{}".into(),
        };
        records.put_model(&gpt).await.unwrap();
        let changed = ModelRow { document: r#"{"pricing":{}}"#.into(), ..gpt };
        records.put_model(&changed).await.unwrap();
        assert_eq!(records.models("o1").await.unwrap(), [changed], "{name}");
    }
}

#[tokio::test]
async fn a_key_lives_through_rotation_and_revocation() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let new = new_key(1, KeyOwner::Team("t1".into()));
        let made = records.create_key(&new).await.unwrap();
        let mut grants = new.grants.clone();
        grants.sort();
        let expected = KeyRow {
            id: new.id.clone(),
            organisation: "acme".into(),
            name: "k1".into(),
            owner: KeyOwner::Team("t1".into()),
            fingerprint: new.fingerprint,
            hint: new.hint.clone(),
            expires: new.expires,
            timezone: new.timezone.clone(),
            revoked: false,
            policies: new.policies.clone(),
            rotations: 0,
            created: new.created,
            version: 1,
            grants,
        };
        assert_eq!(made, expected, "{name}");
        for twin in [
            NewKey { name: "x".into(), fingerprint: [9; 32], ..new.clone() },
            NewKey { id: "x".into(), fingerprint: [9; 32], ..new.clone() },
            NewKey { id: "x".into(), name: "x".into(), ..new.clone() },
        ] {
            assert!(matches!(records.create_key(&twin).await, Err(RecordError::Conflict(_))), "{name}");
        }

        let rotation = Rotation {
            fingerprint: [7; 32],
            hint: "sk_…ffff".into(),
            expires: None,
            timezone: Some("Asia/Tokyo".into()),
            at: 5,
            by: "ada".into(),
        };
        let rotated = database.other.rotate_key(&new.id, &rotation).await.unwrap().unwrap();
        let after = KeyRow {
            fingerprint: [7; 32],
            hint: "sk_…ffff".into(),
            expires: None,
            timezone: rotation.timezone.clone(),
            rotations: 1,
            version: 2,
            ..expected
        };
        assert_eq!(rotated, after, "{name}: id, owner and grants stay, and what failed counted no version");
        assert_eq!(records.key_by_fingerprint(&new.fingerprint).await.unwrap(), None, "{name}: the old secret is dead");
        assert_eq!(records.key_by_fingerprint(&[7; 32]).await.unwrap(), Some(after.clone()), "{name}");
        let history = records.rotations(&new.id).await.unwrap();
        assert_eq!((history.len(), history[0].previous_expires, history[0].by.as_str()), (1, new.expires, "ada"), "{name}");

        assert!(records.revoke_key(&new.id, true).await.unwrap().unwrap().revoked, "{name}");
        assert!(!records.revoke_key(&new.id, false).await.unwrap().unwrap().revoked, "{name}");
        let granted =
            records.change_grants(&new.id, &[model("o3"), model("gpt")], &[model("claude"), model("none")]).await.unwrap().unwrap();
        assert_eq!(granted.grants, [model("gpt"), model("o3"), mcp("files")], "{name}");
        let policed = records.set_key_policies(&new.id, "{}").await.unwrap().unwrap();
        assert_eq!((policed.policies.as_str(), policed.version), ("{}", 6), "{name}");
        assert_eq!(database.other.key(&new.id).await.unwrap(), Some(policed), "{name}");

        assert_eq!(records.key("nobody").await.unwrap(), None, "{name}");
        assert_eq!(records.revoke_key("nobody", true).await.unwrap(), None, "{name}");
        assert_eq!(records.rotate_key("nobody", &rotation).await.unwrap(), None, "{name}");
        assert_eq!(records.change_grants("nobody", &[model("x")], &[]).await.unwrap(), None, "{name}");
    }
}

#[tokio::test]
async fn keys_are_listed_by_page_by_filter_and_by_change() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        for n in 0..250 {
            let owner = match n % 3 {
                0 => KeyOwner::Organisation,
                1 => KeyOwner::Team("t1".into()),
                _ => KeyOwner::User("u1".into()),
            };
            let mut key = new_key(n, owner);
            key.grants = if n < 5 { vec![model("rare")] } else { vec![model("gpt")] };
            records.create_key(&key).await.unwrap();
        }
        let (mut seen, mut page) = (Vec::new(), Page::first(120));
        loop {
            let keys = records.keys(&KeyFilter::default(), &page).await.unwrap();
            let Some(last) = keys.last() else { break };
            page.after = Some(last.id.clone());
            assert!(keys.iter().all(|key| key.grants.len() == 1), "{name}: every key with its grants");
            seen.extend(keys.into_iter().map(|key| key.id));
        }
        assert_eq!((seen.len(), seen.is_sorted()), (250, true), "{name}");
        let count = async |filter: KeyFilter| records.keys(&filter, &Page::first(1000)).await.unwrap().len();
        assert_eq!(count(KeyFilter { team: Some("t1".into()), ..KeyFilter::default() }).await, 83, "{name}");
        assert_eq!(count(KeyFilter { granted: Some(model("rare")), ..KeyFilter::default() }).await, 5, "{name}");
        assert_eq!(count(KeyFilter { organisation: Some("other".into()), ..KeyFilter::default() }).await, 0, "{name}");
        assert_eq!(count(KeyFilter { revoked: Some(true), ..KeyFilter::default() }).await, 0, "{name}");

        // A reader that has read up to a version sees every later change, once.
        let all = database.other.keys_since(0, 1000).await.unwrap();
        assert_eq!((all.len(), all.last().unwrap().version), (250, 250), "{name}");
        records.revoke_key("key0000007", true).await.unwrap();
        records.change_grants("key0000003", &[model("gpt")], &[]).await.unwrap();
        let changed: Vec<String> = database.other.keys_since(250, 1000).await.unwrap().into_iter().map(|key| key.id).collect();
        assert_eq!(changed, ["key0000007", "key0000003"], "{name}");
    }
}

/// Two processes change keys at once: no version is used twice, and a reader that continues from the last version misses
/// none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_become_visible_in_their_order() {
    for database in databases().await {
        let writers: Vec<_> = [database.records.clone(), database.other.clone()]
            .into_iter()
            .enumerate()
            .map(|(writer, records)| {
                tokio::spawn(async move {
                    for n in 0..40 {
                        records.create_key(&new_key(writer as u32 * 1000 + n, KeyOwner::Organisation)).await.unwrap();
                    }
                })
            })
            .collect();
        let (mut read, mut seen) = (0, 0);
        while seen < 80 {
            for key in database.other.keys_since(read, 7).await.unwrap() {
                assert_eq!(key.version, read + 1, "{}", database.name);
                (read, seen) = (key.version, seen + 1);
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_journal_keeps_what_nobody_closed() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let entry = |n: u128, replica: &str, expires| JournalEntry {
            lease: LeaseId(n << 100 | n),
            replica: replica.into(),
            opened: n as i64,
            expires,
            body: format!(r#"{{"n":{n}}}"#),
        };
        let entries: Vec<JournalEntry> = (1..=1200).map(|n| entry(n, if n % 2 == 0 { "a" } else { "b" }, 1000 + n as i64)).collect();
        records.open_entries(&entries).await.unwrap();
        records.open_entries(&[entry(1, "b", 9999)]).await.unwrap();
        let closed: Vec<LeaseId> = entries[3..].iter().map(|entry| entry.lease).collect();
        records.close_entries(&closed).await.unwrap();
        records.close_entries(&closed).await.unwrap();
        let other = &database.other;
        assert_eq!(other.abandoned(1003, None, 10).await.unwrap(), [entry(2, "a", 1002)], "{name}: the first was extended");
        assert_eq!(other.abandoned(0, Some("b"), 10).await.unwrap(), [entry(1, "b", 9999), entry(3, "b", 1003)], "{name}");
        assert_eq!(other.abandoned(i64::MAX, None, 2).await.unwrap().len(), 2, "{name}");
    }
}

#[tokio::test]
async fn an_embedded_store_is_its_owners_and_survives_being_opened_again() {
    use std::os::unix::fs::PermissionsExt;
    let database = sqlite();
    database.records.migrate().await.unwrap();
    database.records.create_key(&new_key(1, KeyOwner::Organisation)).await.unwrap();
    let path = database.folder.as_ref().unwrap().path().join("deep/odock.db");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    database.records.close().await;
    database.other.close().await;
    let again = SqlRecords::embedded(&path, Options::default()).unwrap();
    assert_eq!(again.migrate().await.unwrap(), Migrated { from: 4, to: 4 });
    assert!(again.key("key0000001").await.unwrap().is_some());
}

#[tokio::test]
async fn lost_connections_are_typed_errors_at_worst_and_are_made_again() {
    let Some(database) = postgres().await else { return };
    database.records.migrate().await.unwrap();
    let admin = sqlx::PgPool::connect(database.address.as_deref().unwrap()).await.unwrap();
    for _ in 0..3 {
        admin
            .execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
            )
            .await;
        for _ in 0..2 {
            match database.records.organisations().await {
                Ok(_) | Err(RecordError::Unavailable(_)) => {}
                Err(other) => panic!("{other:?}"),
            }
        }
        database.records.organisations().await.unwrap();
    }
}

#[tokio::test]
async fn an_absent_server_is_unavailable_and_wrong_addresses_are_refused_unseen() {
    let options = Options { timeout: Duration::from_millis(300), ..Options::default() };
    let absent = SqlRecords::postgres("postgres://ada:hunter2@127.0.0.1:1/odock", options).unwrap();
    let error = absent.ping().await.unwrap_err();
    assert!(matches!(error, RecordError::Unavailable(_)), "{error:?}");
    assert!(!format!("{error} {absent:?}").contains("hunter2"));
    for wrong in ["", "mysql://a/b", "postgres://:hunter2@[", "odock.db"] {
        let error = SqlRecords::postgres(wrong, Options::default()).unwrap_err();
        assert!(matches!(error, RecordError::Invalid(_)) && !error.to_string().contains("hunter2"), "{wrong}");
    }
}
