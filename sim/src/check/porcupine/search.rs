//! The model of a budget, and the histories that are searched.

use std::time::Duration;

use porcupine_rs::{CheckResult, Model, Operation};

use super::Findings;
use crate::history::Operation as Request;
use crate::plan::{OrderKind, WorkSpec};
use crate::workload::SINGLE;

/// A history with more at once is not searched.
const AT_ONCE_MAX: usize = 12;
/// Nor is a longer one.
const LENGTH_MAX: usize = 1_500;
/// A search that takes longer has no opinion.
const PATIENCE: Duration = Duration::from_secs(2);

/// A budget, as its clients see it.
#[derive(Clone, Debug)]
struct Budget;

/// What a client asked for and was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    credits: u64,
    cap: u64,
    told: Told,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Told {
    Allowed,
    OverBudget,
    RefusedOtherwise,
    Nothing,
}

impl Model for Budget {
    type State = u64;
    type Op = Asked;
    type Metadata = ();

    fn init() -> u64 {
        0
    }

    fn step(spent: &u64, asked: &Asked) -> (bool, u64) {
        let after = spent + asked.credits;
        match asked.told {
            Told::Allowed => (after <= asked.cap, after),
            Told::OverBudget => (after > asked.cap, *spent),
            Told::RefusedOtherwise => (true, *spent),
            Told::Nothing => (true, if after <= asked.cap { after } else { *spent }),
        }
    }
}

/// What a request may fill of the purse.
fn open_to(request: &Request, work: &WorkSpec) -> u64 {
    if request.is_critical { work.purse } else { work.purse - work.house.keep.min(work.purse - 1) }
}

pub(super) fn check(findings: &Findings<'_>) -> Vec<String> {
    let work = &findings.plan.work;
    // A purse that is changed on the way is more than this model knows.
    if work.orders.iter().any(|order| matches!(order.order, OrderKind::Purse { .. })) {
        return Vec::new();
    }
    let requests = findings.operations.values().filter(|request| request.tenant == SINGLE);
    let history: Vec<Operation<Budget>> = requests.map(|request| seen(request, open_to(request, work))).collect();
    if history.len() > LENGTH_MAX || at_once(&history) > AT_ONCE_MAX {
        return Vec::new();
    }
    match porcupine_rs::check_operations_timeout(&history, PATIENCE) {
        CheckResult::Illegal => {
            vec![format!("no order of {} requests explains what their clients were told", history.len())]
        }
        CheckResult::Ok | CheckResult::Unknown => Vec::new(),
    }
}

fn seen(request: &Request, cap: u64) -> Operation<Budget> {
    let told = match &request.told {
        None => Told::Nothing,
        Some(told) if told.verdict.is_allowed() => Told::Allowed,
        Some(told) if told.violated.iter().any(|limit| limit == "purse") => Told::OverBudget,
        Some(_) => Told::RefusedOtherwise,
    };
    let at = |time: Duration| time.as_nanos() as i64;
    let return_time = request.answered.filter(|_| told != Told::Nothing).map_or(i64::MAX, at);
    let op = Asked { credits: request.credits, cap, told };
    Operation { client_id: None, call_time: at(request.invoked), return_time, op, metadata: None }
}

/// The most requests that were open at one time.
fn at_once(history: &[Operation<Budget>]) -> usize {
    let mut moments: Vec<(i64, i64)> =
        history.iter().flat_map(|one| [(one.call_time, 1), (one.return_time, -1)]).collect();
    moments.sort_unstable();
    let mut open = 0i64;
    let most = moments.iter().map(|(_, change)| {
        open += change;
        open
    });
    most.max().unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(call_time: i64, return_time: i64, credits: u64, told: Told) -> Operation<Budget> {
        Operation { client_id: None, call_time, return_time, op: Asked { credits, cap: 10, told }, metadata: None }
    }

    #[test]
    fn an_order_is_found_where_there_is_one() {
        let fits =
            [asked(0, 9, 6, Told::Allowed), asked(1, 8, 6, Told::OverBudget), asked(2, i64::MAX, 4, Told::Nothing)];
        assert!(porcupine_rs::check_operations(&fits));
        let refused_too_early = [asked(0, 1, 6, Told::OverBudget), asked(2, 3, 6, Told::Allowed)];
        assert!(!porcupine_rs::check_operations(&refused_too_early));
        let overspent = [asked(0, 9, 6, Told::Allowed), asked(1, 8, 6, Told::Allowed)];
        assert!(!porcupine_rs::check_operations(&overspent));
        assert_eq!(at_once(&fits), 3);
    }
}
