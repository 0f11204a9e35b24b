//! What golden scripts print: outcomes, agents and limits as lines that people can read.

use std::fmt::Write as _;

use nethical_governance::agent::AgentFacts;
use nethical_governance::detect;
use nethical_governance::ledger::{Applied, LapsedV1};
use nethical_governance::outcome::{DecidedV1, OutcomeV1, QuotaV1, ReasonV1, ReviewedV1, SettledV1};
use nethical_governance::quarantine::RuleNumber;
use nethical_governance::quota::lease::{CountersV1, LeaseAskV1};

use crate::bench::{SECOND_NS, START_NS, duration};

pub fn show(applied: &Applied) -> String {
    let mut text = match &applied.outcome {
        OutcomeV1::Decided(decided) => decision(decided),
        OutcomeV1::TooOld { low_water_ms } => {
            format!("too old: nothing is known up to {}", duration((low_water_ms * 1_000_000).saturating_sub(START_NS)))
        }
        OutcomeV1::Duplicate { leaf_index } => format!("duplicate of leaf {leaf_index}"),
        OutcomeV1::Conflict { leaf_index } => format!("conflict with leaf {leaf_index}"),
        OutcomeV1::FromFuture => "from the future".to_owned(),
        OutcomeV1::Stale(why) => format!("stale: {why:?}"),
        OutcomeV1::UnknownTenant => "unknown tenant".to_owned(),
        OutcomeV1::HoldChanged { status, epoch, missing: 0 } => format!("{} epoch={epoch}", status.as_str()),
        OutcomeV1::HoldChanged { status, epoch, missing } => {
            format!("{} epoch={epoch}, {missing} words are missing", status.as_str())
        }
        OutcomeV1::ControlApplied { revision } => format!("revision {revision}"),
        OutcomeV1::NoEffect => "no effect".to_owned(),
        OutcomeV1::LeaseShort(asks) => {
            let asked = asks.iter().map(|ask| {
                let LeaseAskV1 { lease, need, want, counters: told, .. } = ask;
                format!("limit {}: needs {need}, wants {want}; {}", lease.limit, counters(told))
            });
            format!("short of {}", asked.collect::<Vec<_>>().join(", and of "))
        }
        OutcomeV1::LeaseGranted { life_ns: (born_ns, until_ns), granted, freed, wait_ns, others } => {
            let life = match born_ns {
                0 => String::new(),
                _ => format!(" life={}s..{}s", (born_ns - START_NS) / SECOND_NS, (until_ns - START_NS) / SECOND_NS),
            };
            format!("granted={granted}{life} freed={freed} wait={}ms others={others:?}", wait_ns / 1_000_000)
        }
        OutcomeV1::LeaseChanged(told) => counters(told),
        OutcomeV1::Settled(outcome) => settled(outcome),
        OutcomeV1::RepeatsNoted => "repeats noted".to_owned(),
        OutcomeV1::NoReservation => "no such reservation".to_owned(),
        OutcomeV1::Reviewed(outcome) => reviewed(outcome),
        OutcomeV1::NoApproval => "no such approval".to_owned(),
        OutcomeV1::KeysChanged => "keys changed".to_owned(),
        OutcomeV1::Erased(keys) => format!("erased {}", keys.len()),
    };
    if let Some(leaf_index) = applied.leaf_index {
        text = format!("leaf {leaf_index}: {text}");
    }
    text
}

fn decision(decided: &DecidedV1) -> String {
    let reasons: Vec<String> = decided.reasons.iter().map(reason).collect();
    let mut text = decided.verdict.as_str().to_owned();
    if !reasons.is_empty() {
        write!(text, " because {}", reasons.join(", ")).expect("a string");
    }
    write!(text, "; {} epoch={}", decided.status.as_str(), decided.epoch).expect("a string");
    write!(text, " risk={} tier={}", decided.risk, decided.tier.as_str()).expect("a string");
    for found in &decided.findings {
        write!(text, " {}={}", detect::name(found.detector), found.severity).expect("a string");
    }
    if decided.retry_after_ns > 0 {
        write!(text, "; retry after {}", duration(decided.retry_after_ns)).expect("a string");
    }
    for ahead in &decided.ahead {
        write!(text, "; asks about limit {}", ahead.lease.limit).expect("a string");
    }
    text.push('\n');
    text.extend(decided.quota.iter().map(quota));
    text
}

/// A share's counters; times in seconds since the start.
fn counters(told: &CountersV1) -> String {
    let CountersV1 { born_ns, granted, returned, spent, spent_at_ns } = *told;
    let life = match born_ns {
        0 => String::new(),
        _ => format!("life={}s ", (born_ns - START_NS) / SECOND_NS),
    };
    let spent_at = spent_at_ns.saturating_sub(START_NS) / SECOND_NS;
    format!("{life}granted={granted} returned={returned} spent={spent} at={spent_at}s")
}

pub fn settled(settled: &SettledV1) -> String {
    let costs: Vec<String> = settled.costs.iter().map(|(_, held, used)| format!("{used} of {held}")).collect();
    let mut text = format!("reservation {} {}: {}\n", settled.decision, settled.end.as_str(), costs.join(", "));
    for of_limit in &settled.quota {
        text.push_str(&quota(&of_limit.quota));
        if of_limit.uncharged > 0 {
            text.insert_str(text.len() - 1, &format!(", {} not charged", of_limit.uncharged));
        }
    }
    text
}

pub fn show_what(what: &LapsedV1) -> String {
    match what {
        LapsedV1::Reservation(ended) => settled(ended),
        LapsedV1::Approval(ended) => reviewed(ended),
    }
}

pub fn reviewed(reviewed: &ReviewedV1) -> String {
    format!("approval {} {}\n", reviewed.decision, reviewed.state.as_str())
}

fn reason(reason: &ReasonV1) -> String {
    match reason {
        ReasonV1::Policy(_) => "policy".to_owned(),
        ReasonV1::AgentState(status) => format!("agent {}", status.as_str()),
        ReasonV1::AgentHold => "agent hold".to_owned(),
        ReasonV1::AutomaticHold(rule) => format!("rule {} of revision {}", rule.place(), rule.revision()),
        ReasonV1::Hold(id) => format!("hold {id}"),
        ReasonV1::QuotaExceeded(number) => format!("limit {number} exceeded"),
        ReasonV1::CostAboveCap(number) => format!("cost above limit {number}"),
        ReasonV1::ReservationsFull => "too many reservations".to_owned(),
        ReasonV1::ApprovalOpened(until_ns) => format!("approval until {}", duration(until_ns.saturating_sub(START_NS))),
        ReasonV1::ApprovalsFull => "too many approvals".to_owned(),
        ReasonV1::Approved(leaf_index) => format!("approval {leaf_index} used"),
        ReasonV1::Unapproved(why, named) => format!("approval {named} {why:?}"),
        ReasonV1::RiskTier(tier) => format!("risk {}", tier.as_str()),
        ReasonV1::Blended { rule, model } => format!("rules {rule} blended with model {model}"),
    }
}

pub fn quota(quota: &QuotaV1) -> String {
    let reset = match quota.reset_ns {
        0 => "whole".to_owned(),
        u64::MAX => "never whole".to_owned(),
        reset_ns => format!("whole in {}", duration(reset_ns)),
    };
    let violated = if quota.violated { ", violated" } else { "" };
    let mode = if quota.mode.is_enforce() { String::new() } else { format!(", {}", quota.mode.as_str()) };
    format!("limit {}: {} of {} left, {reset}{violated}{mode}\n", quota.limit, quota.remaining, quota.cap)
}

pub fn view(facts: &AgentFacts) -> String {
    let by = |rule: Option<RuleNumber>| rule.map_or(String::new(), |rule| format!(", rule {}", rule.place()));
    let hold = facts
        .hold
        .map_or("none".to_owned(), |hold| format!("{:?} by leaf {}{}", hold.effect, hold.leaf_index, by(hold.rule)));
    format!(
        "known={} {} epoch={} tier={} risk={} actions={} denied={} violations={} hold={hold}",
        facts.known,
        facts.status.as_str(),
        facts.epoch,
        facts.tier.as_str(),
        facts.risk,
        facts.actions,
        facts.denied,
        facts.violations,
    )
}
