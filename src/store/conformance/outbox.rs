//! The outbox: no message is leased to two senders, none is lost, and ordering keys keep their order.

use super::databases::databases;
use crate::store::records::{
    Depth, MessageFilter, MessageLease, NewMessage, Origin, Outbox, OutboxMessage, RecordStore, Settled, Standing,
};

fn message(n: u32) -> NewMessage {
    NewMessage {
        topic: "hook".into(),
        dedup: format!("m{n}"),
        destination: "crm".into(),
        ordering: None,
        content_type: "text/plain".into(),
        request: Some("ab".into()),
        body: vec![0, n as u8],
        created: 50,
        due: 100,
    }
}

fn lease<'a>(sender: &'a str, now: i64, until: i64, limit: u32) -> MessageLease<'a> {
    MessageLease { topic: "hook", except: &[], only: None, sender, now, until, limit }
}

fn names(messages: &[OutboxMessage]) -> Vec<(&str, u32)> {
    messages.iter().map(|m| (m.dedup.as_str(), m.attempt)).collect()
}

fn dedup(name: &str) -> MessageFilter {
    MessageFilter { dedup: Some(name.into()), ..MessageFilter::default() }
}

#[tokio::test]
async fn a_message_is_sent_by_one_sender_until_somebody_says_what_became_of_it() {
    for database in databases().await {
        let (records, other, name) = (&database.records, &database.other, database.name);
        assert_eq!(records.put_messages(&[message(1), message(2), message(3)], None).await.unwrap(), 3, "{name}");
        assert_eq!(records.put_messages(&[message(3), message(4)], None).await.unwrap(), 1, "{name}: one was there");
        assert_eq!(records.lease_messages(lease("s1", 99, 200, 10)).await.unwrap(), [], "{name}: not before it is due");
        let mail = MessageLease { topic: "mail", ..lease("s1", 150, 200, 10) };
        assert_eq!(records.lease_messages(mail).await.unwrap(), [], "{name}: another topic");
        assert_eq!(records.next_due(&["hook", "mail"], 99).await.unwrap(), Some(100), "{name}");

        let mine = records.lease_messages(lease("s1", 150, 200, 3)).await.unwrap();
        assert_eq!(names(&mine), [("m1", 1), ("m2", 1), ("m3", 1)], "{name}");
        let expected = OutboxMessage {
            id: mine[0].id,
            topic: "hook".into(),
            dedup: "m1".into(),
            destination: "crm".into(),
            ordering: None,
            content_type: "text/plain".into(),
            request: Some("ab".into()),
            body: vec![0, 1],
            created: 50,
            attempt: 1,
        };
        assert_eq!(mine[0], expected, "{name}");
        let leased = MessageFilter { standing: Some(Standing::Leased), ..MessageFilter::default() };
        assert_eq!(other.messages(&leased, 150, 0, 10).await.unwrap().len(), 3, "{name}");
        assert_eq!(other.drop_messages(&dedup("m1"), 150).await.unwrap(), 0, "{name}: a sender has it");
        assert_eq!(other.lease_messages(lease("s2", 150, 300, 10)).await.unwrap().len(), 1, "{name}: only what nobody has");
        assert_eq!(records.next_due(&["hook"], 100).await.unwrap(), None, "{name}: what is due waits for something else");
        let settled = [(mine[0].id, Settled::Sent), (mine[1].id, Settled::Retry(400, "status 500".into()))];
        assert_eq!(records.settle_messages("s1", &settled).await.unwrap(), 2, "{name}");
        assert_eq!(records.settle_messages("s1", &settled).await.unwrap(), 0, "{name}: once");

        // The lease of the third message ran out and another sender has it; what the first sender reports of it no longer
        // counts.
        let taken = other.lease_messages(lease("s2", 250, 500, 10)).await.unwrap();
        assert_eq!(names(&taken), [("m3", 2)], "{name}");
        assert_eq!(records.settle_messages("s1", &[(taken[0].id, Settled::Sent)]).await.unwrap(), 0, "{name}");
        assert_eq!(other.settle_messages("s2", &[(taken[0].id, Settled::Dead(260, "status 410".into()))]).await.unwrap(), 1, "{name}");
        let depth = Depth { topic: "hook".into(), pending: 2, dead: 1, oldest: Some(50) };
        assert_eq!(records.depths().await.unwrap(), [depth], "{name}");
        let row = &records.messages(&dedup("m3"), 250, 0, 10).await.unwrap()[0];
        assert_eq!((row.standing, row.why.as_str(), row.attempts, row.size), (Standing::Dead, "status 410", 2, 2), "{name}");
        let dead = MessageFilter { standing: Some(Standing::Dead), ..MessageFilter::default() };
        assert_eq!(records.retry_messages(&dead, 600).await.unwrap(), 1, "{name}");
        assert_eq!(records.retry_messages(&dead, 600).await.unwrap(), 0, "{name}");
        let again = other.lease_messages(lease("s3", 600, 700, 10)).await.unwrap();
        assert_eq!(names(&again), [("m2", 2), ("m3", 1), ("m4", 2)], "{name}");

        // A message that was given back, or whose sender died, has not used up an attempt.
        assert_eq!(other.settle_messages("s3", &[(again[0].id, Settled::Back)]).await.unwrap(), 1, "{name}");
        assert_eq!(records.release_messages("s3").await.unwrap(), 2, "{name}");
        assert_eq!(names(&other.lease_messages(lease("s4", 600, 650, 10)).await.unwrap()), [("m2", 2), ("m3", 1), ("m4", 2)], "{name}");
        assert_eq!(records.bury_messages(&dedup("m2"), 700, "asked").await.unwrap(), 1, "{name}");
        let dropped = records.drop_oldest(700, 1).await.unwrap();
        assert_eq!((dropped.len(), dropped[0].dedup.as_str()), (1, "m3"), "{name}: the oldest that is not given up");
        assert_eq!(records.drop_messages(&MessageFilter::default(), 700).await.unwrap(), 2, "{name}");
        assert_eq!(records.depths().await.unwrap(), [], "{name}");
    }
}

/// What counts is when it was given up, not when it came to be: the attempts in between may take days.
#[tokio::test]
async fn what_was_given_up_is_kept_from_then_on() {
    for database in databases().await {
        let (records, other, name) = (&database.records, &database.other, database.name);
        records.put_messages(&[message(1), message(2), message(3)], None).await.unwrap();
        let mine = records.lease_messages(lease("s1", 100, 200, 2)).await.unwrap();
        // The second was given up by a build that did not say when.
        let settled = [(mine[0].id, Settled::Dead(1000, "never".into())), (mine[1].id, Settled::Dead(0, "never".into()))];
        records.settle_messages("s1", &settled).await.unwrap();
        assert_eq!(records.bury_messages(&dedup("m3"), 2000, "asked").await.unwrap(), 1, "{name}");
        let dropped =
            async |before| -> Vec<String> { other.drop_dead(before, 10).await.unwrap().into_iter().map(|row| row.dedup).collect() };
        assert_eq!(dropped(50).await, [""; 0], "{name}");
        assert_eq!(dropped(1000).await, ["m2"], "{name}: it came to be at 50");
        assert_eq!(dropped(1001).await, ["m1"], "{name}");
        assert_eq!(dropped(2000).await, [""; 0], "{name}");
        assert_eq!(dropped(2001).await, ["m3"], "{name}");
    }
}

#[tokio::test]
async fn what_was_taken_over_is_known_with_it() {
    for database in databases().await {
        let (records, other, name) = (&database.records, &database.other, database.name);
        assert_eq!(records.taken_over("r1").await.unwrap(), 0, "{name}");
        let origin = |number, at| Some(Origin { run: "r1", number, at });
        records.put_messages(&[message(1), message(2)], origin(2, 10)).await.unwrap();
        records.put_messages(&[message(3)], origin(3, 20)).await.unwrap();
        assert_eq!(other.taken_over("r1").await.unwrap(), 3, "{name}");
        other.forget_origin("r2", 20).await.unwrap();
        assert_eq!(other.taken_over("r1").await.unwrap(), 3, "{name}");
        other.forget_origin("r2", 21).await.unwrap();
        assert_eq!(other.taken_over("r1").await.unwrap(), 0, "{name}");
    }
}

#[tokio::test]
async fn destinations_are_left_out_or_asked_for() {
    for database in databases().await {
        let to = |n: u32, destination: &str| NewMessage { destination: destination.into(), ..message(n) };
        let (records, name) = (&database.records, database.name);
        records.put_messages(&[to(1, "a"), to(2, "b"), to(3, "c"), to(4, "a")], None).await.unwrap();
        let only = MessageLease { only: Some("b"), ..lease("s", 100, 200, 10) };
        assert_eq!(names(&records.lease_messages(only).await.unwrap()), [("m2", 1)], "{name}");
        let except = MessageLease { except: &["a", "b"], ..lease("s", 100, 200, 10) };
        assert_eq!(names(&records.lease_messages(except).await.unwrap()), [("m3", 1)], "{name}");
        let of_a = MessageFilter { destination: Some("a".into()), ..MessageFilter::default() };
        assert_eq!(records.bury_messages(&of_a, 100, "gone").await.unwrap(), 2, "{name}");
        assert_eq!(records.lease_messages(lease("s", 100, 200, 10)).await.unwrap(), [], "{name}");
    }
}

#[tokio::test]
async fn of_a_key_only_the_beginning_is_given_out() {
    for database in databases().await {
        let keyed = |n: u32, key: &str| NewMessage { ordering: Some(key.into()), ..message(n) };
        let (records, other, name) = (&database.records, &database.other, database.name);
        let all = [keyed(1, "k"), keyed(2, "k"), keyed(3, "l"), keyed(4, "k"), message(5), keyed(6, "l")];
        records.put_messages(&all, None).await.unwrap();
        let first = records.lease_messages(lease("s1", 100, 200, 3)).await.unwrap();
        assert_eq!(names(&first), [("m1", 1), ("m2", 1), ("m3", 1)], "{name}");
        let rest = other.lease_messages(lease("s2", 100, 200, 10)).await.unwrap();
        assert_eq!(names(&rest), [("m5", 1)], "{name}: the rest of both keys waits");
        let settled = [(first[0].id, Settled::Retry(300, String::new())), (first[1].id, Settled::Back), (first[2].id, Settled::Sent)];
        records.settle_messages("s1", &settled).await.unwrap();
        assert_eq!(names(&other.lease_messages(lease("s2", 110, 200, 10)).await.unwrap()), [("m6", 1)], "{name}: k waits for its first");
        assert_eq!(names(&records.lease_messages(lease("s1", 300, 400, 2)).await.unwrap()), [("m1", 2), ("m2", 1)], "{name}");
        // Given up, it holds nobody up.
        records.settle_messages("s1", &[(first[0].id, Settled::Dead(300, String::new())), (first[1].id, Settled::Sent)]).await.unwrap();
        assert_eq!(names(&records.lease_messages(lease("s1", 300, 400, 1)).await.unwrap()), [("m4", 1)], "{name}");
    }
}

/// The cost of a lease does not grow with the number of messages that wait: a quadratic search would not end in time.
#[tokio::test]
async fn keys_with_thousands_are_leased_as_quickly_as_any() {
    for database in databases().await {
        let (records, name) = (&database.records, database.name);
        let keyed = |n: u32, key: &str| NewMessage { ordering: Some(key.into()), ..message(n) };
        let all: Vec<NewMessage> = (0..20_000).map(|n| keyed(n, ["k", "l"][n as usize % 2])).chain([message(20_000)]).collect();
        for some in all.chunks(2_000) {
            records.put_messages(some, None).await.unwrap();
        }
        let began = std::time::Instant::now();
        let first = records.lease_messages(lease("s1", 100, 200, 8)).await.unwrap();
        assert_eq!(names(&first), (0..8).map(|n| (all[n].dedup.as_str(), 1)).collect::<Vec<_>>(), "{name}");
        // Key `k` waits for its first message, the other key's messages are leased; the message without a key waits for
        // neither.
        let settled: Vec<(i64, Settled)> =
            first.iter().filter(|m| m.ordering.as_deref() == Some("k")).map(|m| (m.id, Settled::Back)).collect();
        records.settle_messages("s1", &settled).await.unwrap();
        let retry = records.lease_messages(lease("s1", 100, 200, 1)).await.unwrap();
        assert_eq!(names(&retry), [("m0", 1)], "{name}");
        records.settle_messages("s1", &[(retry[0].id, Settled::Retry(500, String::new()))]).await.unwrap();
        let other = records.lease_messages(lease("s2", 100, 200, 8)).await.unwrap();
        assert_eq!(names(&other), [("m20000", 1)], "{name}");
        let took = began.elapsed();
        assert!(took < std::time::Duration::from_secs(3), "{name}: {took:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_senders_have_one_message_and_keys_stay_in_order() {
    for database in databases().await {
        let name = database.name;
        let some = |n: u32| NewMessage {
            dedup: n.to_string(),
            due: 0,
            ordering: (!n.is_multiple_of(3)).then(|| format!("k{}", n % 7)),
            ..message(n)
        };
        let messages: Vec<NewMessage> = (0..300).map(some).collect();
        database.records.put_messages(&messages, None).await.unwrap();
        let sent = std::sync::Arc::new(parking_lot::Mutex::new(Vec::new()));
        let senders: Vec<_> = (0..6)
            .map(|sender| {
                let records = if sender % 2 == 0 { database.records.clone() } else { database.other.clone() };
                let sent = sent.clone();
                tokio::spawn(async move {
                    let sender = format!("s{sender}");
                    while records.depths().await.unwrap().iter().any(|depth| depth.pending > 0) {
                        let some = records.lease_messages(lease(&sender, 1, 100, 7)).await.unwrap();
                        // A message counts as sent before the sender settles it.
                        sent.lock().extend(some.iter().map(|m| (m.ordering.clone(), m.dedup.parse::<u32>().unwrap())));
                        let settled: Vec<_> = some.iter().map(|m| (m.id, Settled::Sent)).collect();
                        records.settle_messages(&sender, &settled).await.unwrap();
                    }
                })
            })
            .collect();
        for sender in senders {
            sender.await.unwrap();
        }
        let sent = std::mem::take(&mut *sent.lock());
        let mut all: Vec<u32> = sent.iter().map(|(_, n)| *n).collect();
        all.sort_unstable();
        assert_eq!(all, (0..300).collect::<Vec<_>>(), "{name}");
        for key in (0..7).map(|k| Some(format!("k{k}"))) {
            let of_key: Vec<u32> = sent.iter().filter(|(other, _)| *other == key).map(|(_, n)| *n).collect();
            assert!(of_key.is_sorted(), "{name} {key:?}: {of_key:?}");
        }
        database.records.ping().await.unwrap();
    }
}
