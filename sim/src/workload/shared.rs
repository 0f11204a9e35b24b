//! The limits that agents of all partitions share, each leased in its own way (ARCHITECTURE.md 7), and those that bind the
//! single tenant besides its purse.

use nethical_protocol::control::{KeyPart, LimitKind, LimitMode, LimitSpec, Overrun};

use super::settle::TOKENS;
use super::{COINS, CREDITS, SINGLE, SPREAD, limit};
use crate::plan::{HouseSpec, WorkSpec};

/// All that the work asks for.
pub fn limits(work: &WorkSpec) -> Vec<LimitSpec> {
    let budget = |(cap, window_s)| shared("fleet", "requests", LimitKind::Budget { cap, window_s });
    let rate = |(amount, burst)| shared("tide", "requests", LimitKind::Rate { amount, period_s: 1, burst });
    let rolling = |(cap, window_s)| shared("pond", "requests", LimitKind::Rolling { cap, window_s });
    let live = |cap| shared("hall", TOKENS, LimitKind::Concurrency { cap });
    let ever = |cap| LimitSpec { overrun: Overrun::Cap, ..shared("pot", TOKENS, LimitKind::Lifetime { cap }) };
    let ghost = |(amount, burst)| {
        let kind = LimitKind::Rate { amount, period_s: 1, burst };
        LimitSpec { mode: LimitMode::Shadow, ..shared("ghost", "requests", kind) }
    };
    let tally = |(cap, window_s)| {
        let kind = LimitKind::Budget { cap, window_s };
        LimitSpec { mode: LimitMode::Soft, ..shared("tally", "requests", kind) }
    };
    let spec = &work.shared;
    let all = [
        work.fleet.map(budget),
        spec.tide.map(rate),
        spec.pond.map(rolling),
        spec.hall.map(live),
        spec.pot.map(ever),
        spec.ghost.map(ghost),
        spec.tally.map(tally),
    ];
    all.into_iter().flatten().collect()
}

/// What binds the single tenant besides its purse.
pub fn house(house: &HouseSpec) -> Vec<LimitSpec> {
    let day = |cap| LimitKind::Budget { cap, window_s: 86_400 };
    let coins = |cap| limit("coins", SINGLE, COINS, day(cap), KeyPart::Tenant);
    let rate = |(amount, burst)| LimitKind::Rate { amount, period_s: 1, burst };
    let stride = |pace| limit("stride", SINGLE, "requests", rate(pace), KeyPart::Agent);
    let shade = LimitSpec { mode: LimitMode::Shadow, ..limit("shade", SINGLE, CREDITS, day(1), KeyPart::Tenant) };
    let all = [house.coins.map(coins), house.stride.map(stride), house.shade.then_some(shade)];
    all.into_iter().flatten().collect()
}

fn shared(id: &str, unit: &str, kind: LimitKind) -> LimitSpec {
    limit(id, SPREAD, unit, kind, KeyPart::Tenant)
}
