//! Pages over logs that grow, asked of replicas that stop early or do not answer, neither skip nor repeat an entry.

use proptest::prelude::*;

use super::*;

/// Logs by group: (log time, matches).
type Logs = BTreeMap<u32, Vec<(u64, bool)>>;

/// What a replica finds that looks at `budget` leaves at most.
fn search(log: &[(u64, bool)], ascending: bool, from: Option<u64>, limit: usize, budget: usize) -> Found {
    let size = log.len() as u64;
    let mut reached = from.unwrap_or(if ascending { 0 } else { size });
    let mut found = Found { reached_ns: if ascending { 0 } else { u64::MAX }, ..Found::default() };
    for _ in 0..budget {
        let next = if ascending { (reached < size).then_some(reached) } else { reached.checked_sub(1) };
        let Some(at) = next.filter(|_| found.hits.len() < limit) else { break };
        let (at_ns, matches) = log[at as usize];
        if matches {
            found.hits.push(Hit { leaf_index: at, at_ns, leaf: Vec::new(), body: Vec::new() });
        }
        reached = if ascending { at + 1 } else { at };
        found.reached_ns = at_ns;
    }
    let is_end = if ascending { reached >= size } else { reached == 0 };
    Found { reached, is_end, ..found }
}

fn logs() -> impl Strategy<Value = Logs> {
    let log = prop::collection::vec((0u64..3, any::<bool>()), 0..60);
    prop::collection::vec(log, 1..5).prop_map(|logs| {
        let rising = |log: Vec<(u64, bool)>| {
            let mut now = 0;
            let mut rise = |(step, matches)| {
                now += step;
                (now, matches)
            };
            log.into_iter().map(&mut rise).collect()
        };
        (2..).zip(logs.into_iter().map(rising)).collect()
    })
}

proptest! {
    #[test]
    fn pages_neither_skip_nor_repeat_while_logs_grow_and_groups_fall_silent(
        logs in logs(), ascending: bool, limit in 1usize..9, budget in 1usize..30, grow in 0u64..3, silent in 0u64..7,
    ) {
        let mut grown = logs.clone();
        let (mut given, mut positions): (Vec<(u32, u64)>, BTreeMap<u32, u64>) = Default::default();
        for page in 0u64.. {
            prop_assert!(page < 5_000, "it comes to an end");
            let answers = |group: &u32| page >= 40 || silent == 0 || (u64::from(*group) + page) % (silent + 1) != 0;
            let asked = grown.iter().filter(|(group, _)| answers(group));
            let found = |(group, log): (&u32, &Vec<(u64, bool)>)| {
                (*group, search(log, ascending, positions.get(group).copied(), limit, budget))
            };
            let parts: BTreeMap<u32, Found> = asked.map(found).collect();
            let is_whole = parts.len() == grown.len();
            let merged = merge(ascending, limit, parts);
            prop_assert!(merged.hits.len() <= limit);
            let times: Vec<u64> = merged.hits.iter().map(|(_, hit)| hit.at_ns).collect();
            let in_order = if ascending { times.is_sorted() } else { times.is_sorted_by(|left, right| left >= right) };
            prop_assert!(in_order, "a page is in order of time");
            given.extend(merged.hits.iter().map(|(group, hit)| (*group, hit.leaf_index)));
            positions.extend(merged.positions);
            if is_whole && !merged.more {
                break;
            }
            if page < 20 {
                for log in grown.values_mut() {
                    let last = log.last().map_or(0, |(now, _)| *now);
                    (0..grow).for_each(|more| log.push((last + more, more % 2 == 0)));
                }
            }
        }
        // Newest first: what stood there when a group was first asked. Oldest first: all.
        let unique: std::collections::BTreeSet<_> = given.iter().copied().collect();
        prop_assert_eq!(unique.len(), given.len(), "an entry came twice");
        for (group, log) in &grown {
            let before = if ascending || silent > 0 && grow > 0 { None } else { Some(logs[group].len() as u64) };
            let matching = (0..).zip(log).filter(|(_, (_, matches))| *matches).map(|(at, _)| at);
            let wanted: Vec<u64> = matching.filter(|at| before.is_none_or(|before| *at < before)).collect();
            let mut own: Vec<u64> = given.iter().filter(|(of, _)| of == group).map(|(_, at)| *at).collect();
            own.sort_unstable();
            match ascending || before.is_some() {
                true => prop_assert_eq!(own, wanted),
                // Whenever the group was first asked: a stretch from the first leaf on, without a hole.
                false => prop_assert_eq!(&own[..], &wanted[..own.len()]),
            }
        }
    }

    #[test]
    fn where_every_replica_looks_to_the_end_all_pages_together_are_in_order_of_time(logs in logs(), ascending: bool, limit in 1usize..9, budget in 4usize..30) {
        let (mut times, mut positions): (Vec<u64>, BTreeMap<u32, u64>) = Default::default();
        loop {
            let found = |(group, log): (&u32, &Vec<(u64, bool)>)| {
                (*group, search(log, ascending, positions.get(group).copied(), limit, budget))
            };
            let merged = merge(ascending, limit, logs.iter().map(found).collect());
            times.extend(merged.hits.iter().map(|(_, hit)| hit.at_ns));
            positions = merged.positions;
            if !merged.more {
                break;
            }
        }
        let in_order = if ascending { times.is_sorted() } else { times.is_sorted_by(|left, right| left >= right) };
        prop_assert!(in_order, "{:?}", times);
    }
}
