//! `kill -9` of a process that writes to the embedded store.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::store::records::{KeyOwner, NewKey, RecordStore, UsageBy, UsageFilter, UsageRecord, UsageRecords, VirtualKeys};
use crate::store::sql::{Options, SqlRecords};

const FILE: &str = "ODOCK_TEST_CRASH_FILE";
const BATCH: u64 = 50;

fn record(n: u64) -> UsageRecord {
    UsageRecord {
        request_id: format!("{n:032x}"),
        at: n as i64,
        organisation: "acme".into(),
        key: "k".into(),
        cost_nanos: Some(n as i64),
        details: "{}".into(),
        plugins: vec!["audit_log".into()],
        ..UsageRecord::default()
    }
}

/// The process that is killed: it writes batches and keys for ever, and prints each batch when it is stored. Does nothing
/// unless the parent test sets the environment variable.
#[test]
fn writer() {
    let Some(file) = std::env::var_os(FILE) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let records = SqlRecords::embedded(Path::new(&file), Options::default()).unwrap();
        let start = records.sum_usage(&UsageFilter::default(), UsageBy::Nothing).await.unwrap()[0].requests;
        assert_eq!(start % BATCH, 0, "a batch is written as a whole or not at all");
        for batch in start / BATCH.. {
            let some: Vec<UsageRecord> = (batch * BATCH..(batch + 1) * BATCH).map(record).collect();
            records.append_usage(&some).await.unwrap();
            let mut fingerprint = [0; 32];
            fingerprint[..8].copy_from_slice(&batch.to_be_bytes());
            let key = NewKey {
                id: format!("key{batch}"),
                organisation: "acme".into(),
                name: format!("key{batch}"),
                owner: KeyOwner::Organisation,
                fingerprint,
                hint: String::new(),
                expires: None,
                timezone: None,
                policies: "{}".into(),
                grants: Vec::new(),
                created: 0,
            };
            // The key may already exist: the crash can fall between storing it and printing the batch.
            let _ = records.create_key(&key).await;
            eprintln!("written {batch}");
        }
    });
}

#[tokio::test]
async fn what_was_written_survives_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("odock.db");
    let open = || SqlRecords::embedded(&file, Options::default()).unwrap();
    open().migrate().await.unwrap();
    let mut told = 0;
    for round in 1..=3u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &format!("{}::writer", module_path!().split_once("::").unwrap().1), "--nocapture"])
            .env(FILE, &file)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        for line in BufReader::new(child.stderr.take().unwrap()).lines() {
            if let Some(batch) = line.unwrap().strip_prefix("written ") {
                told = batch.parse::<u64>().unwrap() + 1;
            }
            if told >= round * 20 {
                break;
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(told >= round * 20, "the writer ended by itself");

        let records = open();
        let sum = &records.sum_usage(&UsageFilter::default(), UsageBy::Nothing).await.unwrap()[0];
        assert!(sum.requests >= told * BATCH, "{} of {} records are there", sum.requests, told * BATCH);
        assert_eq!(sum.requests % BATCH, 0, "a batch is there as a whole or not at all");
        let n = sum.requests as i64;
        assert_eq!(sum.cost_nanos, n * (n - 1) / 2, "the sum is that of the records");
        let plugins = records.sum_usage(&UsageFilter::default(), UsageBy::Plugin).await.unwrap();
        assert_eq!(plugins[0].requests, sum.requests);
        assert!(records.keys_since(0, 100_000).await.unwrap().len() as u64 >= told);
        let pool = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display())).await.unwrap();
        let (verdict,): (String,) = sqlx::query_as("PRAGMA integrity_check").fetch_one(&pool).await.unwrap();
        assert_eq!(verdict, "ok");
    }
}
