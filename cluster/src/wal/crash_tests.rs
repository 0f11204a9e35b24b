//! Crashes of the log: every one that a short script can suffer, and many random ones of long lives.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha12Rng;

use nethical_protocol::ids::GroupId;

use super::model::{Driver, History, State, Step, open, random_step, read_state, small_options};
use super::{WalEntry, WalOptions};
use crate::world::memory::{DiskImage, DiskLatency, MemoryDisk};
use crate::world::real::RealClock;
use crate::world::{Clock, Scope};

/// A disk at one instant, with what had been asked for and acknowledged.
struct Moment {
    image: DiskImage,
    asked: usize,
    acked: usize,
    flushed: BTreeMap<GroupId, usize>,
}

fn entries(state: &State, group: GroupId, count: u64, term: u64) -> Step {
    let next = state.get(&group).map_or(0, |group| group.next());
    let entry = |index| WalEntry { term, index, payload: payload(index, term) };
    Step::Append(group, (next..next + count).map(entry).collect())
}

fn payload(index: u64, term: u64) -> Bytes {
    Bytes::from(vec![index as u8 ^ term as u8; 200 + index as usize % 7 * 40])
}

/// Room for batches of several sectors.
fn script_options() -> WalOptions {
    WalOptions { segment_bytes: 4_096, batch_bytes_max: 2_048, ..small_options() }
}

/// Appends, votes, cuts, purges and a group that is forgotten, so that segments are used again.
async fn play_script(driver: &Driver) {
    let (a, b) = (GroupId(0), GroupId(7));
    let latest = || driver.history.lock().latest().clone();
    let last = |group| latest().get(&group).map_or(0, |group| group.next()).saturating_sub(1);
    driver.ask(Step::Vote(a, 1)).await;
    for round in 0..16 {
        driver.ask(entries(&latest(), a, 2, round)).await;
        driver.commit(a);
        driver.ask(entries(&latest(), b, 1, round)).await;
        driver.settle().await;
        driver.ask(Step::Vote(b, round)).await;
        driver.ask(Step::Truncate(a, Some(last(a) - 1))).await;
        driver.ask(entries(&latest(), a, 1, round + 1)).await;
        driver.settle().await;
        match round % 3 {
            0 => driver.ask(Step::Purge(a, last(a) - 1)).await,
            1 => driver.ask(Step::Purge(b, last(b))).await,
            _ => driver.ask(Step::Forget(b)).await,
        }
        driver.commit(a);
        driver.ask(entries(&latest(), a, 3, round + 1)).await;
        driver.settle().await;
    }
}

async fn record_script() -> (Vec<Moment>, History) {
    let (disk, scope) = (MemoryDisk::new(), Scope::new([3; 32]));
    // Syncs take time, so that the log and its mark are on their way to the disk together.
    let micros = Duration::from_micros;
    let latency = DiskLatency { access: micros(0)..micros(200), sync: micros(100)..micros(900) };
    disk.set_latency(Arc::new(RealClock::new()), latency, 3);
    let history = Arc::new(Mutex::new(History::new(State::new())));
    let moments = Arc::new(Mutex::new(Vec::new()));
    let (seen, progress) = (moments.clone(), history.clone());
    disk.watch(move |image| {
        let history = progress.lock();
        let (asked, acked, flushed) = (history.asked(), history.acked, history.flushed.clone());
        seen.lock().push(Moment { image, asked, acked, flushed });
    });
    let wal = scope.enter(open(&disk, &scope, script_options())).await.0;
    let driver = Driver { wal, history: history.clone() };
    scope.enter(play_script(&driver)).await;
    disk.unwatch();
    let stats = driver.wal.stats();
    assert!(
        stats.sequence > 20 && stats.live_segments + stats.free_segments < stats.written_bytes / 4_096,
        "{stats:?}"
    );
    scope.kill();
    let moments = std::mem::take(&mut *moments.lock());
    (moments, std::mem::take(&mut *history.lock()))
}

/// Opens what a crash left, compares it, writes on, crashes again and compares once more.
async fn survive(image: DiskImage, history: &mut History, moment: &Moment, context: &str) {
    let disk = MemoryDisk::from_image(image);
    let scope = Scope::new([4; 32]);
    let (wal, recovered) = open(&disk, &scope, script_options()).await;
    assert!(!recovered.has_lost(), "{context}: an honest disk was called a liar: {recovered:?}");
    let found = read_state(&wal, &recovered).await;
    let states = history.states.split_off(moment.asked + 1);
    (history.acked, history.flushed) = (moment.acked, moment.flushed.clone());
    history.matched(&found, &recovered, context);
    history.states.extend(states);

    let group = GroupId(9);
    let again = WalEntry { term: 1, index: 0, payload: Bytes::from_static(b"life goes on") };
    wal.append(group, vec![again.clone()], Box::new(|result| result.unwrap())).await;
    wal.flush().await.unwrap();
    scope.kill();
    disk.power_off();
    let scope = Scope::new([5; 32]);
    let (wal, recovered) = open(&disk.reincarnate(), &scope, script_options()).await;
    assert!(!recovered.has_lost(), "{context}, then another: {recovered:?}");
    assert_eq!(wal.read(group, 0..1).await.unwrap(), [again], "{context}, then another");
    let mut later = read_state(&wal, &recovered).await;
    later.remove(&group);
    assert_eq!(later, found, "{context}, then another");
    scope.kill();
}

#[tokio::test(start_paused = true)]
async fn every_legal_crash_of_a_script_leaves_all_that_was_acknowledged_and_nothing_impossible() {
    let (moments, mut history) = record_script().await;
    let mut crashes = 0;
    for (number, moment) in moments.iter().enumerate() {
        for (crash, image) in moment.image.crashes().into_iter().enumerate() {
            let context = format!("moment {number}, crash {crash}");
            survive(image, &mut history, moment, &context).await;
            crashes += 1;
        }
    }
    assert!(crashes > 1_000, "only {crashes} crashes");
}

/// Appends one entry and gives the disk at every instant of that.
async fn append_watched(disk: &MemoryDisk, entry: WalEntry) -> Vec<DiskImage> {
    let (scope, images) = (Scope::new([6; 32]), Arc::new(Mutex::new(Vec::new())));
    let (wal, _) = open(disk, &scope, script_options()).await;
    let seen = images.clone();
    disk.watch(move |image| seen.lock().push(image));
    wal.append(GroupId(0), vec![entry], Box::new(|result| result.unwrap())).await;
    wal.flush().await.unwrap();
    disk.unwatch();
    scope.kill();
    std::mem::take(&mut *images.lock())
}

#[tokio::test]
async fn a_torn_batch_that_was_cut_never_completes_the_one_written_in_its_place() {
    let entry = |index, byte| WalEntry { term: 1, index, payload: Bytes::from(vec![byte; 900]) };
    let disk = MemoryDisk::new();
    // The first batch ends such that the mark of the next one fills a sector and its entry begins with another.
    let first = WalEntry { term: 1, index: 0, payload: Bytes::from(vec![0; 512 - 56 - 64 - 32 - 64]) };
    append_watched(&disk, first).await;
    let (mut cut, mut seen) = (0, 0);
    for torn in append_watched(&disk, entry(1, 1)).await.iter().flat_map(DiskImage::crashes) {
        let disk = MemoryDisk::from_image(torn);
        let (wal, _) = open(&disk, &Scope::new([7; 32]), script_options()).await;
        if wal.last(GroupId(0)) == Some((1, 1)) {
            continue;
        }
        cut += 1;
        for image in append_watched(&disk, entry(1, 2)).await.iter().flat_map(DiskImage::crashes) {
            let (wal, recovered) = open(&MemoryDisk::from_image(image), &Scope::new([7; 32]), script_options()).await;
            assert!(!recovered.has_lost(), "{recovered:?}");
            let found = wal.read(GroupId(0), 1..2).await.unwrap();
            assert!(found.is_empty() || found == [entry(1, 2)], "the entry that was cut is back");
            seen += 1;
        }
    }
    assert!(cut > 3 && seen > 30, "{cut} cut, {seen} seen");
}

/// One life of a node: random changes until a random instant.
async fn live(driver: &Driver, clock: &RealClock, dice: &mut ChaCha12Rng, term: u64) {
    let until = clock.now() + Duration::from_micros(dice.random_range(0..60_000));
    while clock.now() < until {
        for _ in 0..dice.random_range(1..6) {
            let step = random_step(driver.history.lock().latest(), dice, term);
            driver.ask(step).await;
            if dice.random_ratio(1, 3) {
                driver.commit(GroupId(dice.random_range(0..3)));
            }
        }
        clock.sleep(Duration::from_micros(dice.random_range(0..6_000))).await;
    }
}

async fn many_lives(seed: u64) -> (u64, u64) {
    let mut dice = ChaCha12Rng::seed_from_u64(seed);
    let (mut disk, clock) = (MemoryDisk::new(), Arc::new(RealClock::new()));
    let latency = DiskLatency {
        access: Duration::ZERO..Duration::from_micros(300),
        sync: Duration::from_micros(100)..Duration::from_millis(5),
    };
    disk.set_latency(clock.clone(), latency, seed);
    let (mut state, mut sequence, mut segments) = (State::new(), 0, 0);
    let mut committed = Vec::new();
    for life in 0..6 {
        let context = format!("seed {seed}, life {life}");
        let scope = Scope::new([life as u8; 32]);
        let (wal, recovered) = open(&disk, &scope, small_options()).await;
        assert!(!recovered.has_lost(), "{context}: {recovered:?}");
        if life == 0 {
            assert!(recovered.groups.is_empty());
        }
        let history = Arc::new(Mutex::new(History::new(state.clone())));
        for (group, found) in &recovered.groups {
            if found.committed.is_some() {
                // Numbers begin anew with each life, so the old position is replaced by one from its beginning.
                committed.push(*group);
            }
        }
        let driver = Driver { wal, history: history.clone() };
        committed.drain(..).for_each(|group| driver.commit(group));
        scope.enter(driver.settle()).await;
        scope.enter(live(&driver, &clock, &mut dice, life)).await;
        let stats = driver.wal.stats();
        (sequence, segments) = (stats.sequence, stats.live_segments + stats.free_segments);
        scope.kill();
        // Else only the process dies and the page cache survives.
        if dice.random_ratio(3, 4) {
            disk.crash(&mut dice);
        }
        disk = disk.reincarnate();
        let scope = Scope::new([77; 32]);
        let (wal, recovered) = open(&disk, &scope, small_options()).await;
        assert!(!recovered.has_lost(), "{context}: {recovered:?}");
        let found = read_state(&wal, &recovered).await;
        history.lock().matched(&found, &recovered, &context);
        state = found;
        scope.kill();
        disk = disk.reincarnate();
    }
    (sequence, segments)
}

#[tokio::test(start_paused = true)]
async fn random_lives_and_crashes_agree_with_the_naive_model() {
    let (mut sequences, mut segments) = (0, 0);
    for seed in 0..150 {
        let (sequence, most) = many_lives(seed).await;
        sequences += sequence;
        segments = segments.max(most);
    }
    assert!(sequences > 3_000, "only {sequences} batches");
    assert!(segments < 60, "{segments} segments: nothing is used again");
}

#[tokio::test(start_paused = true)]
async fn the_same_seed_writes_the_same_bytes() {
    async fn run() -> (State, u64, u64) {
        let (disk, clock) = (MemoryDisk::new(), RealClock::new());
        let (scope, mut dice) = (Scope::new([8; 32]), ChaCha12Rng::seed_from_u64(5));
        let (wal, _) = open(&disk, &scope, small_options()).await;
        let history = Arc::new(Mutex::new(History::new(State::new())));
        let driver = Driver { wal, history };
        scope.enter(live(&driver, &clock, &mut dice, 1)).await;
        scope.enter(driver.settle()).await;
        scope.kill();
        let (state, counts) = (driver.history.lock().latest().clone(), disk.counts());
        (state, counts.written_bytes, counts.syncs)
    }
    assert_eq!(run().await, run().await);
}
