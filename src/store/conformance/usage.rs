//! Usage records.

use proptest::prelude::*;

use super::databases::{databases, sqlite};
use crate::store::records::{RecordStore, Usage, UsageBatch, UsageBy, UsageFilter, UsageRecord, UsageRecords, UsageSum};

const DAY: i64 = 86_400_000;

fn record(n: u64) -> UsageRecord {
    UsageRecord {
        request_id: format!("{n:032x}"),
        at: n as i64 * 1000,
        organisation: "acme".into(),
        key: format!("k{}", n % 3),
        team: (n % 3 == 1).then(|| "t1".to_owned()),
        provider: Some("openai".into()),
        model: Some(if n.is_multiple_of(2) { "gpt".into() } else { "o3".into() }),
        endpoint: "/v1/chat/completions".into(),
        stream: n.is_multiple_of(2),
        status: if n.is_multiple_of(10) { 502 } else { 200 },
        end: "complete".into(),
        usage_source: "provider".into(),
        latency_ms: n,
        input_tokens: 100,
        output_tokens: n,
        total_tokens: 100 + n,
        cost_nanos: (!n.is_multiple_of(4)).then_some(n as i64 * 1_000_000_007),
        details: r#"{"tokens":{}}"#.into(),
        plugins: if n.is_multiple_of(5) { vec!["pii_mask".into(), "audit_log".into()] } else { vec!["audit_log".into()] },
        ..UsageRecord::default()
    }
}

#[tokio::test]
async fn a_record_is_written_once_and_comes_back_as_it_was() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let batch: Vec<UsageRecord> = (0..700).map(record).collect();
        assert_eq!(records.append_usage(&batch).await.unwrap(), 700, "{name}");
        let again = UsageRecord { cost_nanos: Some(1), plugins: vec!["other".into()], ..record(7) };
        assert_eq!(database.other.append_usage(&[again, record(700)]).await.unwrap(), 1, "{name}: what is there stays");
        assert_eq!(records.append_usage(&batch).await.unwrap(), 0, "{name}: a replay writes nothing");
        assert_eq!(records.append_usage(&[]).await.unwrap(), 0, "{name}");

        let (mut seen, mut after): (Vec<UsageRecord>, Option<(i64, String)>) = (Vec::new(), None);
        loop {
            let cursor = after.as_ref().map(|(at, id)| (*at, id.as_str()));
            let page = records.usage(&UsageFilter::default(), cursor, 300).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some((last.at, last.request_id.clone()));
            seen.extend(page);
        }
        seen.reverse();
        assert_eq!(seen, (0..=700).map(record).collect::<Vec<_>>(), "{name}");
    }
}

#[tokio::test]
async fn records_are_found_and_summed_by_what_they_have_in_common() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let batch: Vec<UsageRecord> = (0..100).map(record).collect();
        records.append_usage(&batch).await.unwrap();
        let key = UsageFilter { key: Some("k1".into()), from: Some(10_000), until: Some(50_000), ..UsageFilter::default() };
        let expected: Vec<&UsageRecord> = batch.iter().rev().filter(|r| r.key == "k1" && (10_000..50_000).contains(&r.at)).collect();
        assert_eq!(records.usage(&key, None, 100).await.unwrap().iter().collect::<Vec<_>>(), expected, "{name}");
        let masked = UsageFilter { plugin: Some("pii_mask".into()), ..UsageFilter::default() };
        assert_eq!(records.usage(&masked, None, 100).await.unwrap().len(), 20, "{name}");

        let by = async |by| -> Vec<(Option<String>, u64)> {
            let sums = records.sum_usage(&UsageFilter::default(), by).await.unwrap();
            sums.into_iter().map(|sum| (sum.group, sum.requests)).collect()
        };
        let some = |name: &str| Some(name.to_owned());
        assert_eq!(by(UsageBy::Model).await, [(some("o3"), 50), (some("gpt"), 50)], "{name}: the dearest first");
        let mut teams = by(UsageBy::Team).await;
        teams.sort();
        assert_eq!(teams, [(None, 67), (some("t1"), 33)], "{name}");
        let mut plugins = by(UsageBy::Plugin).await;
        plugins.sort();
        assert_eq!(plugins, [(some("audit_log"), 100), (some("pii_mask"), 20)], "{name}");
        let mut statuses = by(UsageBy::Status).await;
        statuses.sort();
        assert_eq!(statuses, [(some("200"), 90), (some("502"), 10)], "{name}");
        assert_eq!(by(UsageBy::Day).await, [(some("1970-01-01"), 100)], "{name}");
        let nobody = UsageFilter { organisation: Some("other".into()), ..UsageFilter::default() };
        assert_eq!(records.sum_usage(&nobody, UsageBy::Nothing).await.unwrap(), [UsageSum::default()], "{name}");
        assert_eq!(records.sum_usage(&nobody, UsageBy::Key).await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn what_was_accepted_and_what_failed_is_told_apart() {
    let details = |attempts: u32| format!(r#"{{"metadata":{{"attempts":{attempts},"user_agent":"\\"attempts\\":0"}}}}"#);
    let rows = [
        // (status, end, attempts): answered, refused before, withheld, failed, refused late in the day, killed, gone.
        (200, "complete", 1),
        (429, "blocked", 0),
        (200, "complete", 0),
        (403, "blocked", 1),
        (500, "upstream_error", 10),
        (0, "killed", 0),
        (499, "client_abort", 2),
    ];
    let row = |(n, (status, end, attempts)): (usize, (u16, &str, u32))| UsageRecord {
        status,
        end: end.into(),
        details: details(attempts),
        ..record(n as u64)
    };
    let rows: Vec<UsageRecord> = rows.into_iter().enumerate().map(row).collect();
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        assert_eq!(records.append_usage(&rows).await.unwrap(), 7, "{name}");
        for (accepted, failed, expected) in [(false, false, 7), (true, false, 5), (true, true, 2), (false, true, 2)] {
            let filter = UsageFilter { accepted, failed, ..UsageFilter::default() };
            let sums = records.sum_usage(&filter, UsageBy::Nothing).await.unwrap();
            assert_eq!(sums[0].requests, expected, "{name}: {accepted} {failed}");
        }
    }
}

#[tokio::test]
async fn what_is_old_is_forgotten_a_part_at_a_time() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let batch: Vec<UsageRecord> = (0..50).map(|n| UsageRecord { at: n as i64 * DAY, ..record(n) }).collect();
        records.append_usage(&batch).await.unwrap();
        assert_eq!(records.forget_usage(30 * DAY, 20).await.unwrap(), 20, "{name}");
        assert_eq!(records.forget_usage(30 * DAY, 20).await.unwrap(), 10, "{name}");
        assert_eq!(records.forget_usage(30 * DAY, 20).await.unwrap(), 0, "{name}");
        let left = records.usage(&UsageFilter::default(), None, 100).await.unwrap();
        assert_eq!((left.len(), left.last().unwrap().at), (20, 30 * DAY), "{name}");
        let plugins = records.sum_usage(&UsageFilter::default(), UsageBy::Plugin).await.unwrap();
        assert_eq!(plugins.iter().map(|sum| sum.requests).max(), Some(20), "{name}");
    }
}

/// Several processes replay overlapping batches: every record is stored once, and the sum is exact.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replays_at_once_count_every_request_once() {
    for database in databases().await {
        let writers: Vec<_> = (0..6u64)
            .map(|writer| {
                let records = if writer % 2 == 0 { database.records.clone() } else { database.other.clone() };
                tokio::spawn(async move {
                    let mut new = 0;
                    for batch in 0..5 {
                        // All processes write in the same order, as a queue does: with crossing orders PostgreSQL would
                        // have to break deadlocks.
                        let some: Vec<UsageRecord> = (batch * 60 + writer..batch * 60 + 100).map(record).collect();
                        new += records.append_usage(&some).await.unwrap();
                    }
                    new
                })
            })
            .collect();
        let mut new = 0;
        for writer in writers {
            new += writer.await.unwrap();
        }
        let sum = &database.records.sum_usage(&UsageFilter::default(), UsageBy::Nothing).await.unwrap()[0];
        let cost: i64 = (0..340).filter_map(|n| record(n).cost_nanos).sum();
        assert_eq!((new, sum.requests, sum.cost_nanos), (340, 340, cost), "{}", database.name);
    }
}

/// Sums are exact, whatever was recorded.
#[test]
fn sums_are_exact() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(costs in prop::collection::vec((0i64..1 << 50, 0u64..1 << 40, 0u64..4), 1..60))| {
        runtime.block_on(async {
            let database = sqlite();
            database.records.migrate().await.unwrap();
            let batch: Vec<UsageRecord> = costs.iter().enumerate().map(|(n, (cost, tokens, key))| UsageRecord {
                cost_nanos: Some(*cost), total_tokens: *tokens, key: format!("k{key}"), ..record(n as u64)
            }).collect();
            database.records.append_usage(&batch).await.unwrap();
            let sums = database.records.sum_usage(&UsageFilter::default(), UsageBy::Key).await.unwrap();
            prop_assert_eq!(sums.iter().map(|s| s.cost_nanos).sum::<i64>(), costs.iter().map(|(cost, ..)| cost).sum::<i64>());
            for sum in sums {
                let of = |n: &&UsageRecord| Some(&n.key) == sum.group.as_ref();
                prop_assert_eq!(sum.total_tokens, batch.iter().filter(of).map(|r| r.total_tokens).sum::<u64>());
            }
            Ok(())
        })?;
    });
}

/// What the embedded store does differently must not show: batches with overlapping times are listed as one, and old
/// records are removed from blocks that also hold young ones.
#[tokio::test]
async fn blocks_are_not_seen_from_outside() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        for batch in 0..10u64 {
            let some: Vec<UsageRecord> = (0..90).map(|n| record(n * 10 + batch)).collect();
            assert_eq!(records.append_usage(&some).await.unwrap(), 90, "{name}");
        }
        let newest = records.usage(&UsageFilter::default(), None, 7).await.unwrap();
        assert_eq!(newest, (893..900).rev().map(record).collect::<Vec<_>>(), "{name}");
        let after = (890_000, newest[6].request_id.as_str());
        let next = records.usage(&UsageFilter { until: Some(889_000), ..UsageFilter::default() }, Some(after), 3).await.unwrap();
        assert_eq!(next, (886..889).rev().map(record).collect::<Vec<_>>(), "{name}");
        assert_eq!(records.forget_usage(450_000, 10_000).await.unwrap(), 450, "{name}");
        let left = records.usage(&UsageFilter::default(), None, 1000).await.unwrap();
        assert_eq!((left.len(), left.last()), (450, Some(&record(450))), "{name}");
        assert_eq!(records.append_usage(&[record(500), record(900)]).await.unwrap(), 1, "{name}: what was moved is still known");
    }
}

#[tokio::test]
async fn packed_records_are_the_same_records() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let (mut batch, mut expected) = (UsageBatch::default(), Vec::new());
        for n in 0..20u64 {
            let (mut plugins, mut packed) = (String::new(), Vec::new());
            let row = record(n);
            Usage::of_row(&row, &mut plugins).pack(&mut packed);
            batch.push(u128::from(n), &packed);
            expected.push(row);
        }
        batch.push(77, b"of another build");
        assert_eq!(records.append_packed(batch.clone()).await.unwrap(), 20, "{name}");
        assert_eq!(records.append_packed(batch).await.unwrap(), 0, "{name}: a replay writes nothing");
        expected.reverse();
        assert_eq!(records.usage(&UsageFilter::default(), None, 100).await.unwrap(), expected, "{name}");
    }
}
