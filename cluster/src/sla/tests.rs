//! The monitor against a model that keeps every sample; windows that slide, clocks that jump, bounds.

use std::time::Duration;

use proptest::prelude::*;

use nethical_protocol::limits::SLA_TENANTS_MAX;
use nethical_protocol::sla::{SlaStatus, SlaTargets};

use super::histogram::{bin_of, fastest, percentile, slowest};
use super::*;

/// One note, as the model remembers it.
#[derive(Debug, Clone)]
struct Sample {
    at_s: u64,
    decided: u64,
    failed: u64,
    us: u64,
}

fn answered(tenant: &str, sample: &Sample) -> Answered {
    let took = Duration::from_micros(sample.us);
    Answered { tenant: tenant.to_owned(), decided: sample.decided, failed: sample.failed, took }
}

fn note(monitor: &Monitor, tenant: &str, at_s: u64, decided: u64, failed: u64, us: u64) -> bool {
    monitor.note(Duration::from_secs(at_s), &answered(tenant, &Sample { at_s, decided, failed, us }), true)
}

fn counted(monitor: &Monitor, at_s: u64, tenant: &str) -> Counted {
    monitor.0.lock().get(tenant).expect("it was counted").counted(Duration::from_secs(at_s))
}

/// What a window holds, by going through all samples: those of the running slot and the slots before it.
fn model(samples: &[Sample], now_s: u64, (slots, width_s): (usize, u64)) -> (u64, u64, Vec<u64>) {
    let inside = |sample: &&Sample| sample.at_s / width_s + slots as u64 > now_s / width_s;
    let held: Vec<&Sample> = samples.iter().filter(inside).collect();
    let failed = held.iter().map(|sample| sample.failed).sum();
    let mut latencies: Vec<u64> =
        held.iter().flat_map(|sample| std::iter::repeat_n(sample.us, sample.decided as usize)).collect();
    latencies.sort_unstable();
    (latencies.len() as u64 + failed, failed, latencies)
}

fn samples() -> impl Strategy<Value = Vec<(u64, u64, u64, u64)>> {
    // Steps between notes from none to more than a window of each length; latencies from nothing to beyond the last bin.
    let step = prop_oneof![8 => 0..40u64, 4 => 0..700u64, 2 => 0..90_000u64, 1 => 0..4_000_000u64];
    let us = prop_oneof![4 => 0..400_000u64, 2 => 0..2_000u64, 1 => 0..40_000_000u64];
    prop::collection::vec((step, 0..4u64, 0..2u64, us), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_window_is_that_of_a_model_with_all_samples(steps in samples(), later in 0..5_000u64) {
        let monitor = Monitor::default();
        let (mut kept, mut at_s) = (Vec::new(), 7);
        for (step, decided, failed, us) in steps {
            at_s += step;
            let sample = Sample { at_s, decided, failed, us };
            monitor.note(Duration::from_secs(at_s), &answered("t", &sample), true);
            kept.push(sample);
            for now_s in [at_s, at_s + later] {
                let windows = counted(&monitor, now_s, "t").windows;
                for (window, shape) in windows.iter().zip(SLOTS) {
                    let (all, bad, latencies) = model(&kept, now_s, shape);
                    prop_assert_eq!((window.answered, window.failed), (all, bad));
                    for percent in [50, 95, 99] {
                        let rank = (latencies.len() * percent).div_ceil(100).max(1);
                        let exact = latencies.get(rank - 1).copied();
                        let bin = percentile(&window.bins, percent as u64);
                        prop_assert_eq!(bin, exact.map(bin_of));
                        if let (Some(bin), Some(exact)) = (bin, exact.filter(|us| *us < 33_000_000)) {
                            prop_assert!(fastest(bin) <= exact && exact <= slowest(bin));
                            prop_assert!(slowest(bin) - exact < 64.max(exact / 16 + 1), "{} for {}", slowest(bin), exact);
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn nodes_add_up_to_what_one_node_would_have_counted(parts in prop::collection::vec((0..3usize, 0..5u64, 0..3u64, 0..900_000u64), 1..60)) {
        let (whole, nodes) = (Monitor::default(), [Monitor::default(), Monitor::default(), Monitor::default()]);
        for (place, decided, failed, us) in parts {
            note(&whole, "t", 1_000, decided, failed, us);
            note(&nodes[place], "t", 1_000, decided, failed, us);
        }
        let (now, ask) = (Duration::from_secs(1_001), SlaAskV1 { tenant: None, after: String::new() });
        let sent: Vec<Bytes> = nodes.iter().map(|node| encode(&node.page(now, &ask))).collect();
        let pages: Vec<_> = sent.iter().map(|bytes| rkyv::from_bytes::<Vec<SlaCountsV1>, Error>(bytes).expect("it reads")).collect();
        let (sums, more) = merge(&pages);
        prop_assert!(!more);
        prop_assert_eq!(sums.get("t"), Some(&counted(&whole, 1_001, "t")));
    }

    #[test]
    fn bytes_of_a_peer_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = rkyv::from_bytes::<SlaAskV1, Error>(&bytes);
        if let Ok(page) = rkyv::from_bytes::<Vec<SlaCountsV1>, Error>(&bytes) {
            merge(&[page.clone(), page]);
        }
    }
}

#[test]
fn windows_slide_by_a_slot_and_end() {
    let monitor = Monitor::default();
    note(&monitor, "t", 10, 1, 0, 100);
    note(&monitor, "t", 40, 1, 1, 100);
    let short = |at_s| counted(&monitor, at_s, "t").windows[0].answered;
    assert_eq!([short(40), short(299), short(300), short(329), short(330)], [3, 3, 2, 2, 0]);
    let all = |at_s| counted(&monitor, at_s, "t").windows.map(|window| window.answered);
    assert_eq!(all(3_599), [0, 3, 3]);
    assert_eq!(all(3_600), [0, 0, 3]);
    assert_eq!(all(30 * 86_400 - 1), [0, 0, 3]);
    assert_eq!(all(30 * 86_400), [0, 0, 0]);
}

#[test]
fn a_time_that_goes_back_counts_in_the_newest_slot_and_a_leap_empties_the_rest() {
    let monitor = Monitor::default();
    note(&monitor, "t", 1_000, 5, 0, 100);
    note(&monitor, "t", 3, 0, 5, 100);
    let held = counted(&monitor, 3, "t");
    assert_eq!((held.windows[0].answered, held.windows[0].failed, held.since_s), (10, 5, 0));
    // Thousands of years: only the slots that there are get emptied.
    note(&monitor, "t", u64::MAX / 4, 1, 0, 100);
    assert_eq!(counted(&monitor, u64::MAX / 4, "t").windows.map(|window| window.answered), [1, 1, 1]);
    assert_eq!(counted(&monitor, u64::MAX / 4, "t").windows.map(|window| window.failed), [0, 0, 0]);
}

#[test]
fn counters_stop_at_their_end_instead_of_beginning_anew() {
    let monitor = Monitor::default();
    note(&monitor, "t", 1, u64::MAX, u64::MAX, 100);
    note(&monitor, "t", 1, u64::MAX, 1, 100);
    let mut held = counted(&monitor, 1, "t");
    assert_eq!((held.windows[0].answered, held.windows[0].failed), (u64::MAX, u64::MAX));
    SlaCountsV1::new("t".into(), &held.clone()).add_to(&mut held);
    let view = judge::judge("t".into(), &held, SlaTargets::default());
    assert_eq!((view.status, view.windows[0].availability_ppm), (SlaStatus::Breached, Some(0)));
}

#[test]
fn tenants_are_bounded_and_only_a_known_one_takes_an_idle_ones_place() {
    let monitor = Monitor::default();
    for place in 0..SLA_TENANTS_MAX as u64 {
        assert!(note(&monitor, &format!("t{place:04}"), place, 1, 0, 100));
    }
    let busy = SLA_TENANTS_MAX as u64 - 1;
    let full = |at_s, name: &str, known| {
        let sample = Sample { at_s, decided: 1, failed: 0, us: 100 };
        monitor.note(Duration::from_secs(at_s), &answered(name, &sample), known)
    };
    // The first was counted at 0 and is idle from 300 on.
    assert!(!full(299, "new", true), "nobody is idle");
    assert!(!full(busy, "unheard-of", false), "unknown names take free places only");
    assert!(full(busy, "new", true));
    let held = monitor.0.lock();
    assert_eq!(held.len(), SLA_TENANTS_MAX);
    assert!(held.contains_key("new") && !held.contains_key("t0000") && held.contains_key("t0001"));
}

#[test]
fn pages_follow_each_other_through_all_names_of_all_nodes() {
    let nodes = [Monitor::default(), Monitor::default()];
    for place in 0..350u64 {
        note(&nodes[(place % 3 == 0) as usize], &format!("t{place:03}"), 1, 1, 0, 100);
        note(&nodes[0], &format!("t{place:03}"), 1, 0, u64::from(place % 7 == 0), 100);
    }
    let (mut after, mut seen) = (String::new(), Vec::new());
    loop {
        let ask = SlaAskV1 { tenant: None, after: after.clone() };
        let pages: Vec<_> = nodes.iter().map(|node| node.page(Duration::from_secs(2), &ask)).collect();
        let (sums, more) = merge(&pages);
        assert!(sums.len() <= SLA_PAGE_MAX);
        seen.extend(sums.iter().map(|(name, sum)| (name.clone(), sum.windows[2].answered)));
        match sums.keys().next_back().filter(|_| more) {
            Some(last) => after = last.clone(),
            None => break,
        }
    }
    let all: Vec<_> = (0..350u64).map(|place| (format!("t{place:03}"), 1 + u64::from(place % 7 == 0))).collect();
    assert_eq!(seen, all);
}

/// A tenant with these answers in each window, all decisions of one latency.
fn with(month: (u64, u64), hour: (u64, u64), short: (u64, u64), us: u64) -> Counted {
    let counts = |(answered, failed): (u64, u64)| {
        let mut counts = Counts::default();
        counts.add(answered, failed, [(bin_of(us), answered - failed)]);
        counts
    };
    Counted { windows: [counts(short), counts(hour), counts(month)], since_s: 100 }
}

#[test]
fn a_promise_stands_as_its_budget_says() {
    let judged = |month, hour, short| judge::judge("t".into(), &with(month, hour, short, 1_000), SlaTargets::default());
    let status = |month| judged(month, (0, 0), (0, 0)).availability;
    assert_eq!(status((99, 99)), SlaStatus::Unknown, "too few to say");
    assert_eq!(status((100, 0)), SlaStatus::Ok);
    assert_eq!(
        status((100, 1)),
        SlaStatus::Warning,
        "one failure is the whole budget of few answers, and none beyond it"
    );
    assert_eq!(status((100, 2)), SlaStatus::Breached);
    assert_eq!(status((100_000, 75)), SlaStatus::Ok);
    assert_eq!(status((100_000, 76)), SlaStatus::Warning);
    assert_eq!(status((100_000, 100)), SlaStatus::Warning, "used up exactly");
    assert_eq!(status((100_000, 101)), SlaStatus::Breached);
    // 1.44 % of failures burn a budget of 0.1 % 14.4 times as fast as it lasts; both windows must.
    let fast = judged((10_000_000, 1_000), (10_000, 144), (10_000, 144));
    assert_eq!((fast.budget.burn_1h_permille, fast.availability), (14_400, SlaStatus::Warning));
    assert_eq!(judged((10_000_000, 1_000), (10_000, 143), (10_000, 144)).availability, SlaStatus::Ok);
    assert_eq!(judged((10_000_000, 1_000), (10_000, 144), (10_000, 143)).availability, SlaStatus::Ok);
}

#[test]
fn latency_is_broken_only_where_it_is_so_for_certain() {
    let status =
        |hour, us| judge::judge("t".into(), &with((1_000, 0), hour, (0, 0), us), SlaTargets::default()).latency;
    assert_eq!(status((99, 0), 9_000_000), SlaStatus::Unknown);
    assert_eq!(status((150, 100), 9_000_000), SlaStatus::Unknown, "failures are no decisions");
    assert_eq!(status((100, 0), 150_000), SlaStatus::Ok);
    assert_eq!(status((100, 0), 190_000), SlaStatus::Warning);
    // 200 ms lies inside a bin: what is in it may be either, and is near at any rate.
    assert_eq!((status((100, 0), 200_000), status((100, 0), 203_000)), (SlaStatus::Warning, SlaStatus::Warning));
    assert_eq!(status((100, 0), 205_000), SlaStatus::Breached);
    let mut slow = with((1_000, 0), (98, 0), (0, 0), 10_000);
    slow.windows[1].add(2, 0, [(bin_of(600_000), 2)]);
    let view = judge::judge("t".into(), &slow, SlaTargets::default());
    assert_eq!((view.latency, view.status), (SlaStatus::Breached, SlaStatus::Breached), "two of a hundred are the p99");
    assert!(view.windows[1].p95_us < Some(11_000) && view.windows[1].p99_us >= Some(600_000));
}
