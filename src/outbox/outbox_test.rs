#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::*;
use crate::gate::{Gate, Style};
use crate::plugin::{Delivered, InstanceSpec, Manifest, Need, Plugin, SharedHost};
use crate::store::records::{MessageFilter, Outbox as _, RecordStore, Standing};
use crate::store::sql::{Options, SqlRecords};
use crate::telemetry::Metrics;

/// A plugin whose results are scripted by the body of each delivery: one word for each attempt.
struct Scripted {
    seen: Mutex<Vec<(String, u32)>>,
    together: Mutex<Vec<usize>>,
    batch: usize,
}

static SEEN: Mutex<BTreeMap<String, Arc<Scripted>>> = Mutex::new(BTreeMap::new());

struct Sender(Arc<Scripted>);

#[async_trait]
impl Plugin for Sender {
    fn batch(&self) -> usize {
        self.0.batch
    }

    async fn deliver_all(&self, deliveries: &[Delivery]) -> Vec<Delivered> {
        self.0.together.lock().push(deliveries.len());
        let mut results = Vec::new();
        for delivery in deliveries {
            self.0.seen.lock().push((delivery.id.to_string(), delivery.attempt));
            let script = String::from_utf8(delivery.body.to_vec()).unwrap();
            let word = script.split_ascii_whitespace().nth(delivery.attempt as usize - 1).unwrap_or("done").to_owned();
            results.push(match word.as_str() {
                "done" => Delivered::done(),
                "retry" => Delivered::retry("not now"),
                "dead" => Delivered::dead("never"),
                "panic" => panic!("on purpose"),
                "sleep" => std::future::pending().await,
                "silent" => return results,
                other => panic!("{other}"),
            });
        }
        results
    }
}

static MANIFEST: Manifest = Manifest {
    name: "sender",
    version: "1.0.0",
    author: "Odock",
    category: "test",
    kind: "export",
    summary: "Sends by a script.",
    gates: &[Gate::PostResponse],
    styles: &[Style::Sequential],
    needs: &[Need::Deliver],
    streams: false,
    evidence: &[],
    codes: &[],
    config_schema: || serde_json::json!({}),
    build: |cx| Ok(Arc::new(Sender(SEEN.lock()[cx.name].clone()))),
};

pub(super) struct World {
    pub outbox: Outbox,
    pub records: Arc<SqlRecords>,
    script: Arc<Scripted>,
    pub instance: Arc<Instance>,
    pub settings: Arc<OutboxSettings>,
    folder: tempfile::TempDir,
}

impl Senders for World {
    fn settings(&self) -> Arc<OutboxSettings> {
        self.settings.clone()
    }

    fn instances(&self) -> Vec<Arc<Instance>> {
        vec![self.instance.clone()]
    }

    fn loads(&self) -> u64 {
        1
    }
}

pub(super) fn world(name: &str, batch: usize) -> World {
    let folder = tempfile::tempdir().unwrap();
    let usual = SendSettings {
        schedule: vec![Duration::ZERO, Duration::from_millis(1), Duration::from_millis(1), Duration::from_millis(1)],
        timeout: Duration::from_millis(100),
        failures: 1000,
        pause: Duration::from_secs(1),
    };
    let settings = Arc::new(OutboxSettings {
        path: folder.path().join("outbox"),
        max_pending: 1000,
        on_full: OnFull::Deny,
        in_flight: 8,
        keep_dead: Duration::from_secs(3600),
        usual,
        instances: HashMap::new(),
    });
    let outbox = Outbox::new(settings.clone(), Metrics::new().unwrap().outbox());
    let script = Arc::new(Scripted { seen: Mutex::default(), together: Mutex::default(), batch });
    SEEN.lock().insert(name.to_owned(), script.clone());
    let shared = SharedHost::offline().with_dispatch(Arc::new(outbox.clone()));
    let instance = Instance::build(&MANIFEST, InstanceSpec::new(name), &shared, Arc::default()).unwrap();
    let records = Arc::new(SqlRecords::embedded(&folder.path().join("odock.db"), Options::default()).unwrap());
    World { outbox, records, script, instance, settings, folder }
}

pub(super) fn delivery(id: &str, script: &'static str) -> Delivery {
    Delivery::new("there", "text/plain", script).with_id(id)
}

impl World {
    /// Dispatches the deliveries and runs the worker until it is idle.
    async fn sent(self: &Arc<Self>, deliveries: Vec<Delivery>) -> Vec<(String, u32)> {
        for delivery in deliveries {
            self.outbox.dispatch(&self.instance.name, &delivery, false).unwrap();
        }
        let worker = tokio::spawn(Worker::new(self.outbox.clone(), self.records.clone(), self.clone()).run());
        for _ in 0..1000 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let waiting = self.records.depths().await.is_ok_and(|depths| depths.iter().all(|depth| depth.pending == 0));
            let left = std::fs::read_dir(&self.settings.path).unwrap().flatten();
            let taken_over = left.into_iter().all(|file| file.file_name().to_string_lossy().starts_with(&self.outbox.0.run));
            if waiting && taken_over && self.outbox.spool().unwrap().waiting() == 0 {
                break;
            }
        }
        self.outbox.close(Instant::now());
        worker.await.unwrap();
        self.script.seen.lock().clone()
    }
}

#[tokio::test]
async fn whatever_a_plugin_does_a_delivery_ends_sent_or_given_up() {
    let world = Arc::new(world("whatever", 1));
    let scripts = ["done", "retry done", "panic done", "sleep done", "silent done", "dead", "retry retry retry retry"];
    let mut seen = world.sent(scripts.iter().zip(["a", "b", "c", "d", "e", "f", "g"]).map(|(s, id)| delivery(id, s)).collect()).await;
    seen.sort();
    let attempts = |id: &str| seen.iter().filter(|(other, _)| other == id).map(|(_, attempt)| *attempt).collect::<Vec<_>>();
    assert_eq!(attempts("a"), [1]);
    for id in ["b", "c", "d", "e"] {
        assert_eq!(attempts(id), [1, 2], "{id}");
    }
    assert_eq!((attempts("f"), attempts("g")), (vec![1], vec![1, 2, 3, 4]));
    let dead = MessageFilter { standing: Some(Standing::Dead), ..MessageFilter::default() };
    let rows = world.records.messages(&dead, 0, 0, 10).await.unwrap();
    let why: Vec<(&str, &str)> = rows.iter().map(|row| (row.dedup.as_str(), row.why.as_str())).collect();
    assert_eq!(why, [("f", "never"), ("g", "given up after 4 attempts: not now")]);
    assert!(!spool::any(&world.folder.path().join("outbox")), "an orderly end leaves no files");
}

#[tokio::test]
async fn a_key_is_sent_in_order_and_one_that_fails_holds_back_those_behind_it() {
    let world = Arc::new(world("ordered", 1));
    let keyed = |id: &str, key: &str, script| delivery(id, script).ordered_by(key);
    let some = vec![
        keyed("a1", "a", "retry done"),
        keyed("b1", "b", "done"),
        keyed("a2", "a", "dead"),
        keyed("a3", "a", "panic done"),
        keyed("a4", "a", "done"),
    ];
    let seen = world.sent(some).await;
    let of_a: Vec<(&str, u32)> = seen.iter().filter(|(id, _)| id.starts_with('a')).map(|(id, n)| (id.as_str(), *n)).collect();
    assert_eq!(of_a, [("a1", 1), ("a1", 2), ("a2", 1), ("a3", 1), ("a3", 2), ("a4", 1)]);
}

#[tokio::test]
async fn a_plugin_gets_as_many_as_it_wants_at_once() {
    let world = Arc::new(world("together", 10));
    let ids: Vec<String> = (0..25).map(|n| format!("m{n:02}")).collect();
    let seen = world.sent(ids.iter().map(|id| delivery(id, "done")).collect()).await;
    assert_eq!(seen.into_iter().map(|(id, _)| id).collect::<std::collections::BTreeSet<_>>(), ids.into_iter().collect());
    let together = world.script.together.lock().clone();
    assert!(together.iter().all(|count| *count <= 10) && together.len() < 10, "{together:?}");
}

#[tokio::test]
async fn what_a_dead_process_left_is_taken_over_once() {
    let world = Arc::new(world("left", 1));
    for n in 0..200 {
        world.outbox.dispatch("left", &delivery(&format!("m{n}"), "done"), false).unwrap();
    }
    // The first process dies after the store has taken some entries and before the spool records that.
    world.records.migrate().await.unwrap();
    let entries = world.outbox.spool().unwrap().next(50).unwrap().0;
    let messages: Vec<_> = entries.iter().filter_map(|entry| message::read(&entry.payload)).collect();
    let origin = crate::store::records::Origin { run: &world.outbox.0.run, number: 50, at: 0 };
    world.records.put_messages(&messages, Some(origin)).await.unwrap();
    let sent = MessageFilter { topic: Some("left".into()), ..MessageFilter::default() };
    assert_eq!(world.records.drop_messages(&sent, 0).await.unwrap(), 50, "they were sent already");
    let next = World {
        outbox: Outbox::new(world.settings.clone(), Metrics::new().unwrap().outbox()),
        records: world.records.clone(),
        script: world.script.clone(),
        instance: world.instance.clone(),
        settings: world.settings.clone(),
        folder: tempfile::tempdir().unwrap(),
    };
    let path = world.folder.path().join("outbox");
    // A dead process would have released its lock. Here the process lives on, so the locked files are removed by name.
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        let copy = file.with_file_name(format!("copy-{}", file.file_name().unwrap().to_str().unwrap()));
        std::fs::copy(&file, &copy).unwrap();
        std::fs::remove_file(&file).unwrap();
        let own = file.file_name().unwrap().to_str().unwrap().to_owned();
        std::fs::rename(&copy, path.join(own)).unwrap();
    }
    let seen = Arc::new(next).sent(Vec::new()).await;
    assert_eq!(seen.len(), 150, "what was taken over is not taken again");
    assert_eq!((seen[0].0.as_str(), seen[149].0.as_str()), ("m50", "m199"));
}

#[tokio::test]
async fn an_outbox_that_is_full_takes_nothing_it_could_not_keep() {
    let world = world("full", 1);
    for n in 0..1000 {
        world.outbox.dispatch("full", &delivery(&format!("m{n}"), ""), false).unwrap();
    }
    assert_eq!(world.outbox.dispatch("full", &delivery("more", ""), false), Err(HostError::OutboxFull));
    assert_eq!(world.outbox.dispatch("full", &delivery("more", ""), true), Ok(()), "who observes sends nothing");
    assert_eq!(world.outbox.waiting(), 1000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_bounded_while_the_store_is_away_whatever_is_dropped() {
    let world = world("bounded", 1);
    for (on_full, most) in [(OnFull::DropOldest, 2 * 3 + worker::CARRIED), (OnFull::DropNewest, 3)] {
        let path = world.folder.path().join(format!("{on_full:?}"));
        let settings = OutboxSettings { path, max_pending: 3, on_full, ..(*world.settings).clone() };
        // No worker runs, so nothing leaves the files, as while the store is unreachable.
        let outbox = Outbox::new(Arc::new(settings), Metrics::new().unwrap().outbox());
        for n in 0..most + 20 {
            outbox.dispatch("bounded", &delivery(&n.to_string(), "done"), false).unwrap();
        }
        assert_eq!(outbox.waiting(), most as u64, "{on_full:?}");
    }
}

/// As after an upgrade: the old process drains while the new one already works.
#[tokio::test]
async fn what_another_process_leaves_later_is_taken_over() {
    let world = Arc::new(world("later", 1));
    let other = Outbox::new(world.settings.clone(), Metrics::new().unwrap().outbox());
    other.dispatch("later", &delivery("m1", "done"), false).unwrap();
    let worker = tokio::spawn(Worker::new(world.outbox.clone(), world.records.clone(), world.clone()).run());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(world.script.seen.lock().is_empty(), "it lives");
    drop(other);
    for _ in 0..3000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        if !world.script.seen.lock().is_empty() {
            break;
        }
    }
    world.outbox.close(Instant::now() + Duration::from_secs(1));
    worker.await.unwrap();
    assert_eq!(*world.script.seen.lock(), [("m1".to_owned(), 1)]);
}
