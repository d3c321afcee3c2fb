//! What plugins keep in the gateway's stores: statements on PostgreSQL, values on Redis.

use std::time::Duration;

use super::databases::{postgres, sqlite};
use super::engines::RedisServer;
use crate::store::records::{RecordError, SqlValue, Statements};
use crate::store::{StateError, StateKey, Values};

#[tokio::test]
async fn statements_of_others_have_a_schema_of_their_own() {
    let nowhere = sqlite().records.execute("plugin_a", "SELECT 1", &[]).await;
    assert!(matches!(nowhere, Err(RecordError::Invalid(_))), "{nowhere:?}");
    let Some(database) = postgres().await else { return };
    let (records, other) = (&database.records, &database.other);
    let table = "CREATE TABLE IF NOT EXISTS facts (id bigint PRIMARY KEY, what text, share double precision, raw bytea, good boolean)";
    let (one, two) = tokio::join!(records.execute("plugin_a", table, &[]), other.execute("plugin_b", table, &[]));
    assert_eq!((one, two), (Ok(0), Ok(0)));
    let row =
        [SqlValue::Int(7), SqlValue::Text("it's $1".into()), SqlValue::Float(0.5), SqlValue::Bytes(vec![0, 255]), SqlValue::Flag(true)];
    let insert = "INSERT INTO facts VALUES ($1, $2, $3, $4, $5)";
    assert_eq!(records.execute("plugin_a", insert, &row).await, Ok(1));
    assert!(matches!(records.execute("plugin_a", insert, &row).await, Err(RecordError::Conflict(_))));
    let nul = [&[SqlValue::Int(9), SqlValue::Text("a\0b".into())], &row[2..]].concat();
    assert!(matches!(records.execute("plugin_a", insert, &nul).await, Err(RecordError::Value(_))));
    let nulls = "INSERT INTO facts VALUES (8, $1, CAST($2 AS double precision))";
    assert_eq!(records.execute("plugin_a", nulls, &[SqlValue::Null, SqlValue::Null]).await, Ok(1));
    let all = "SELECT id, what, share, raw, good FROM facts ORDER BY id";
    let empty = vec![SqlValue::Int(8), SqlValue::Null, SqlValue::Null, SqlValue::Null, SqlValue::Null];
    assert_eq!(other.query("plugin_a", all, &[], 2).await, Ok(vec![row.to_vec(), empty]));
    assert_eq!(other.query("plugin_b", all, &[], 10).await, Ok(Vec::new()), "a table of the same name is another table");
    assert!(matches!(other.query("plugin_a", all, &[], 1).await, Err(RecordError::Refused(_))), "more than was asked for");
    let odd = other.query("plugin_a", "SELECT now()", &[], 1).await;
    assert!(matches!(&odd, Err(RecordError::Refused(why)) if why.contains("CAST")), "{odd:?}");
    for schema in ["", "a\"b", "Public", &"a".repeat(64)] {
        assert!(matches!(records.execute(schema, "SELECT 1", &[]).await, Err(RecordError::Invalid(_))), "{schema}");
    }
}

#[tokio::test]
async fn values_end_with_their_time() {
    let Some(server) = RedisServer::start() else { return };
    let values = server.open(Duration::from_secs(5), None);
    let key = |name: &str| StateKey::new("plugin:a", name);
    let minute = Duration::from_secs(60);
    assert_eq!(values.get(&key("x")).await, Ok(None));
    values.set(&key("x"), &[0, 1, 255], minute).await.unwrap();
    assert_eq!(values.get(&key("x")).await, Ok(Some(vec![0, 1, 255])));
    assert_eq!(values.increment(&key("n"), 5, minute).await, Ok(5));
    assert_eq!(values.increment(&key("n"), -2, minute).await, Ok(3));
    assert!(matches!(values.increment(&key("x"), 1, minute).await, Err(StateError::Refused(_))));
    server.assert_every_key_expires();
    assert_eq!((values.remove(&key("x")).await, values.remove(&key("x")).await), (Ok(true), Ok(false)));
    values.set(&key("brief"), b"1", Duration::from_millis(30)).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(values.get(&key("brief")).await, Ok(None));
}
