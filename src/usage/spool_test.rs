use std::collections::HashSet;

use proptest::prelude::*;

use super::super::leftover::Pending;
use super::*;

/// Everything that processes that are gone left, as it is read a few at a time.
fn left(spool: &Spool) -> Vec<Pending> {
    spool.leftovers().unwrap().iter_mut().flat_map(read).collect()
}

fn read(leftover: &mut Leftover) -> Vec<Pending> {
    while leftover.survey().unwrap() {}
    let mut all = Vec::new();
    loop {
        let some = leftover.next(3).unwrap();
        assert!(some.len() <= 3);
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

fn ids(records: &[Pending]) -> Vec<u128> {
    records.iter().map(|record| record.id).collect()
}

fn ended(batch: &UsageBatch) -> Vec<u128> {
    batch.iter().map(|(id, _)| id).collect()
}

/// A request that begins while no other is under way.
fn begin(spool: &Spool, id: u128) -> io::Result<Begun> {
    spool.confirm_now(spool.begin(id, b"begun")?)
}

#[test]
fn records_come_in_the_order_of_their_ends_and_once() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 1 << 20).unwrap();
    let mut begun: Vec<_> = (1..=3).map(|id| Some(begin(&spool, id).unwrap())).collect();
    for id in [2, 1] {
        spool.end(id, begun[id as usize - 1].take(), format!("record {id}").as_bytes()).unwrap();
    }
    assert_eq!(spool.waiting(), 2);
    let (first, _) = spool.next(1).unwrap();
    assert_eq!(first.iter().collect::<Vec<_>>(), [(2, &b"record 2"[..]), (1, b"record 1")], "from memory all that there are");
    let (again, place) = spool.next(1).unwrap();
    assert_eq!(ended(&again), [2], "until it is taken it is offered again");
    spool.taken(place, 1).unwrap();
    spool.end(3, begun[2].take(), b"record 3").unwrap();
    let (rest, place) = spool.next(10).unwrap();
    assert_eq!(ended(&rest), [1, 3]);
    spool.taken(place, 2).unwrap();
    assert_eq!((spool.next(10).unwrap().0.len(), spool.waiting()), (0, 0));
    spool.end(4, None, b"record 4").unwrap();
    assert_eq!(ended(&spool.next(10).unwrap().0), [4], "and from memory again");
}

#[test]
fn what_begins_together_is_written_together() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 1 << 20).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = spool.writer.lock().written;
    runtime.block_on(async {
        let begun: Vec<_> = (1..=8).map(|id| spool.begin(id, b"begun").unwrap()).collect();
        assert_eq!(spool.writer.lock().written, before, "nothing is written before somebody waits for it");
        futures::future::join_all(begun.into_iter().map(|begun| spool.confirm(begun)))
            .await
            .into_iter()
            .for_each(|begun| drop(begun.unwrap()));
    });
    drop(spool);
    let next = Spool::open(dir.path(), "b", 1 << 20).unwrap();
    let orphans = ids(&left(&next));
    assert_eq!(orphans, (1..=8).collect::<Vec<_>>());
}

#[test]
fn what_a_dead_process_left_is_found_and_what_a_living_one_holds_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let dead = Spool::open(dir.path(), "dead", 64).unwrap();
    let mut last = None;
    for id in 1..=20 {
        let begun = begin(&dead, id).unwrap();
        match id {
            ..=15 => dead.end(id, Some(begun), b"record").unwrap(),
            16 => last = Some(begun),
            _ => {}
        }
        dead.flush().unwrap();
    }
    // A kill: the end frame was only gathered, so this request began and never ended.
    dead.end(16, last, b"never written").unwrap();
    drop(dead);
    let living = Spool::open(dir.path(), "living", 64).unwrap();
    let _under_way = begin(&living, 99).unwrap();
    let next = Spool::open(dir.path(), "next", 64).unwrap();
    let mut leftovers = next.leftovers().unwrap();
    assert_eq!(leftovers.len(), 1);
    let (orphans, records): (Vec<_>, Vec<_>) = read(&mut leftovers[0]).into_iter().partition(|record| record.orphan);
    assert_eq!(ids(&records), (1..=15).collect::<Vec<_>>());
    assert_eq!(ids(&orphans), (16..=20).collect::<Vec<_>>());
    assert!(Spool::open(dir.path(), "third", 64).unwrap().leftovers().unwrap().is_empty(), "one process takes them, not two");
    for leftover in leftovers {
        leftover.done().unwrap();
    }
    drop(living);
    assert_eq!(ids(&left(&next)), [99]);
}

#[test]
fn files_are_deleted_when_nobody_needs_them() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 200).unwrap();
    let files = || fs::read_dir(dir.path()).unwrap().count();
    let stream = begin(&spool, 0).unwrap();
    for id in 1..=50 {
        let begun = begin(&spool, id).unwrap();
        spool.end(id, Some(begun), b"record").unwrap();
        spool.flush().unwrap();
    }
    let full = files();
    let (records, place) = spool.next(1000).unwrap();
    spool.taken(place, records.len()).unwrap();
    assert_eq!((records.len(), files()), (50, full), "the stream's beginning is in the first file");
    spool.end(0, Some(stream), b"record").unwrap();
    let (records, place) = spool.next(1000).unwrap();
    spool.taken(place, records.len()).unwrap();
    assert_eq!((ended(&records), files()), (vec![0], 1));
}

#[test]
fn a_file_that_a_kill_cut_is_read_up_to_the_cut() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 1 << 20).unwrap();
    for id in 1..=3 {
        spool.end(id, None, &[id as u8; 100]).unwrap();
    }
    spool.flush().unwrap();
    let written = spool.writer.lock().written as usize;
    drop(spool);
    let file = fs::read_dir(dir.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(&file).unwrap()[..written].to_vec();
    for cut in 0..bytes.len() {
        fs::write(&file, &bytes[..cut]).unwrap();
        let whole = cut / (bytes.len() / 3);
        let next = Spool::open(dir.path(), &format!("n{cut}"), 1 << 20).unwrap();
        let found = ids(&left(&next));
        assert_eq!(found, (1..=whole as u128).collect::<Vec<_>>(), "cut at {cut}");
        drop(next);
        fs::remove_file(path(dir.path(), &format!("n{cut}"), 0)).unwrap();
    }
    let mut flipped = bytes.clone();
    flipped[HEAD + 5] ^= 1;
    fs::write(&file, flipped).unwrap();
    let next = Spool::open(dir.path(), "z", 1 << 20).unwrap();
    let mut leftovers = next.leftovers().unwrap();
    assert_eq!((read(&mut leftovers[0]), leftovers[0].broken()), (Vec::new(), 1), "what was changed is not a record");
}

#[test]
fn what_was_left_is_read_a_piece_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let dead = Spool::open(dir.path(), "dead", 1 << 30).unwrap();
    let _never_over = begin(&dead, 100).unwrap();
    for id in 0..20 {
        let begun = begin(&dead, id).unwrap();
        dead.end(id, Some(begun), &vec![7; MAX_PAYLOAD]).unwrap();
    }
    dead.flush().unwrap();
    drop(dead);
    let next = Spool::open(dir.path(), "next", 1 << 20).unwrap();
    let mut leftover = next.leftovers().unwrap().remove(0);
    while leftover.survey().unwrap() {}
    let mut found = Vec::new();
    loop {
        let some = leftover.next(1000).unwrap();
        if some.is_empty() {
            break;
        }
        let bytes: usize = some.iter().map(|record| record.payload.len()).sum();
        assert!(bytes <= PIECE, "{bytes} bytes of 20 MiB in memory");
        found.extend(ids(&some));
    }
    assert_eq!((found[0], &found[1..]), (100, &(0..20).collect::<Vec<_>>()[..]));
}

#[test]
fn a_record_longer_than_a_frame_is_refused_and_the_next_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 1 << 30).unwrap();
    assert!(spool.end(1, None, &vec![0; MAX_PAYLOAD + 1]).is_err());
    for id in 2..10 {
        spool.end(id, None, &vec![7; MAX_PAYLOAD]).unwrap();
    }
    let (records, _) = spool.next(100).unwrap();
    assert_eq!(ended(&records), (2..10).collect::<Vec<_>>(), "more than memory keeps, beyond one piece of the file");
}

#[test]
fn a_disk_that_takes_nothing_refuses_beginnings_and_keeps_only_so_many_ends() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 1 << 30).unwrap();
    let good = std::mem::replace(&mut spool.writer.lock().file, Arc::new(File::open(path(dir.path(), "a", 0)).unwrap()));
    for id in 1..=100 {
        assert!(begin(&spool, id).is_err());
    }
    assert_eq!(spool.writer.lock().gathered.len(), 0, "what was refused is not written later");
    let together: Vec<_> = (101..=103).map(|id| spool.begin(id, b"begun").unwrap()).collect();
    spool.end(999, None, b"record").unwrap();
    for begun in together {
        assert!(spool.confirm_now(begun).is_err(), "every one of them is told");
    }
    let left = {
        let writer = spool.writer.lock();
        (writer.under_way, writer.open.len(), writer.failed.len())
    };
    assert_eq!(left, (0, 0, 0));
    for id in 1000..1100 {
        let _ = spool.end(id, None, &vec![7; MAX_PAYLOAD]);
    }
    assert!(matches!(spool.end(1100, None, b"record"), Err(EndError::Lost(_))), "more than may wait");
    let waiting = spool.writer.lock().gathered.len();
    assert!((1..=MAX_GATHERED + 2 * MAX_PAYLOAD).contains(&waiting), "{waiting}");
    spool.writer.lock().file = good;
    let (records, _) = spool.next(1000).unwrap();
    assert!(ended(&records).len() > 1 && ended(&records).iter().all(|id| *id >= 999), "what was kept arrives");
}

#[test]
fn a_disk_that_refused_much_is_left_alone_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 1 << 30).unwrap();
    let good = std::mem::replace(&mut spool.writer.lock().file, Arc::new(File::open(path(dir.path(), "a", 0)).unwrap()));
    assert!(matches!(spool.end(1, None, &vec![7; GATHER]), Err(EndError::Waits(_))));
    // It takes everything again, which nobody knows before the rest is over.
    spool.writer.lock().file = good;
    assert!(matches!(spool.end(2, None, b"record"), Err(EndError::Waits(_))));
    assert!(begin(&spool, 3).is_err());
    assert_eq!(spool.writer.lock().written, 0);
    std::thread::sleep(REST);
    spool.end(4, None, b"record").unwrap();
    assert!(spool.writer.lock().written > 0);
    assert_eq!(ended(&spool.next(10).unwrap().0), [1, 2, 4]);
}

#[derive(Debug, Clone)]
enum Step {
    Begin,
    End(usize),
    Flush,
    Take(usize),
    Kill,
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens and whenever the process is killed: every request that began is delivered, nothing else is, and a record
    /// that was delivered as ended never is an orphan.
    #[test]
    fn nothing_is_lost_and_nothing_is_invented(steps in proptest::collection::vec(prop_oneof![
        4 => Just(Step::Begin), 4 => (0_usize..8).prop_map(Step::End), 1 => Just(Step::Flush),
        1 => (1_usize..10).prop_map(Step::Take), 1 => Just(Step::Kill)
    ], 1..200)) {
        let dir = tempfile::tempdir().unwrap();
        let mut run = 0;
        let mut spool = Spool::open(dir.path(), "r0", 300).unwrap();
        let (mut next, mut open) = (0_u128, Vec::new());
        let (mut begun, mut done, mut orphans) = (HashSet::new(), HashSet::new(), HashSet::new());
        for step in steps.into_iter().chain([Step::Kill]) {
            match step {
                Step::Begin => {
                    next += 1;
                    open.push((next, begin(&spool, next).unwrap()));
                    begun.insert(next);
                }
                Step::End(at) if !open.is_empty() => {
                    let (id, begun) = open.remove(at % open.len());
                    spool.end(id, Some(begun), b"record").unwrap();
                }
                Step::End(_) => {}
                Step::Flush => spool.flush().unwrap(),
                Step::Take(limit) => {
                    let (records, place) = spool.next(limit).unwrap();
                    done.extend(ended(&records));
                    spool.taken(place, records.len()).unwrap();
                }
                Step::Kill => {
                    run += 1;
                    drop(spool);
                    open.clear();
                    spool = Spool::open(dir.path(), &format!("r{run}"), 300).unwrap();
                    for mut leftover in spool.leftovers().unwrap() {
                        for record in read(&mut leftover) {
                            if record.orphan { orphans.insert(record.id); } else { done.insert(record.id); }
                        }
                        leftover.done().unwrap();
                    }
                }
            }
        }
        prop_assert!(done.is_subset(&begun) && orphans.is_subset(&begun));
        prop_assert_eq!(&(&done | &orphans), &begun);
        prop_assert!(done.is_disjoint(&orphans), "an orphan that had ended");
    }
}

#[test]
fn a_file_that_cannot_be_sealed_is_written_on_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 100).unwrap();
    (1..=9).for_each(|id| spool.end(id, None, b"record").unwrap());
    spool.writer.lock().write().unwrap();
    // What cannot be written cannot be cut to its length either.
    let unwritable = Arc::new(File::open(path(dir.path(), "a", 0)).unwrap());
    let writable = std::mem::replace(&mut spool.writer.lock().file, unwritable);
    assert!(spool.flush().is_err());
    spool.writer.lock().file = writable;
    spool.end(10, None, b"record").unwrap();
    spool.flush().unwrap();
    spool.end(11, None, b"record").unwrap();
    // As after a time in which the store was unavailable.
    spool.writer.lock().recent_from = None;
    let (records, place) = spool.next(100).unwrap();
    assert_eq!(ended(&records), (1..=11).collect::<Vec<_>>());
    spool.taken(place, records.len()).unwrap();
    assert_eq!((fs::read_dir(dir.path()).unwrap().count(), spool.broken()), (1, 0));
}

#[test]
fn a_record_that_cannot_be_read_is_counted_and_hides_no_other_file() {
    let dir = tempfile::tempdir().unwrap();
    let spool = Spool::open(dir.path(), "a", 100).unwrap();
    for id in 1..=10 {
        spool.end(id, None, b"record").unwrap();
        spool.flush().unwrap();
    }
    let file = OpenOptions::new().write(true).open(path(dir.path(), "a", 0)).unwrap();
    file.write_all_at(b"?", (HEAD + 6 + HEAD) as u64).unwrap();
    spool.writer.lock().recent_from = None;
    let (records, place) = spool.next(100).unwrap();
    assert_eq!(ended(&records), [1, 5, 6, 7, 8, 9, 10], "the second is broken, and the file goes on to the fourth");
    assert_eq!(spool.broken(), 1);
    spool.taken(place, records.len()).unwrap();
    drop(spool);
    let next = Spool::open(dir.path(), "b", 100).unwrap();
    let mut leftovers = next.leftovers().unwrap();
    assert!(leftovers.iter_mut().all(|leftover| !read(leftover).is_empty() && leftover.broken() == 0), "what is taken is gone");
}
