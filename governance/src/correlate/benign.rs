//! Seeded traffic in which nothing is wrong, with everything that ordinary tenants do: bursts, shifts of other agents, a
//! tool that all begin to use at once, jobs on the minute, the violations that always happen, payloads as different as
//! agents and tools are, and risk scores that stay up for a while after a violation.

use nethical_protocol::ids::KeyedId;

use super::tests::{Dice, id};
use super::{CELL_NS, Seen, mix};

const SECOND_NS: u64 = 1_000_000_000;
/// Where all tests begin.
pub(super) const START_NS: u64 = 1_700_000_040_000_000_000 / CELL_NS * CELL_NS;

/// A tenant's ordinary day.
#[derive(Debug, Clone, Copy)]
pub(super) struct Day {
    pub agents: u64,
    /// Actions an agent makes in a minute, on average.
    pub pace: u64,
    /// Violations among a thousand actions.
    pub violations: u64,
    /// Agents share resources and have none of their own.
    pub shares: bool,
    /// Every action has a resource of its own.
    pub unique: bool,
    /// Every tenth agent runs a job of six steps at each full five minutes.
    pub jobs: bool,
}

impl Day {
    pub fn of(agents: u64) -> Self {
        Self { agents, pace: 6, violations: 10, shares: true, unique: false, jobs: false }
    }

    /// The actions of one minute, in order of time.
    ///
    /// Every 47 minutes a burst of five times the pace lasts three minutes; every 120 minutes the next shift comes; from
    /// minute 90 on all use a new tool.
    pub fn minute(&self, dice: &mut Dice, minute: u64) -> Vec<Seen> {
        let is_burst = minute % 47 > 43;
        let actions = self.agents * self.pace * if is_burst { 5 } else { 1 };
        let shift = minute / 120;
        let mut seen: Vec<Seen> = (0..actions).map(|_| self.action(dice, minute, shift)).collect();
        if self.jobs && minute.is_multiple_of(5) {
            (0..self.agents).step_by(10).for_each(|agent| job(&mut seen, dice, minute, shift * 5_000 + agent));
        }
        seen.sort_by_key(|seen| seen.now_ns);
        seen
    }

    fn action(&self, dice: &mut Dice, minute: u64, shift: u64) -> Seen {
        let agent = shift * 5_000 + dice.below(self.agents);
        let tool = if minute >= 90 && dice.below(3) == 0 { 999 } else { dice.below(6) };
        let resource = match (self.unique, self.shares) {
            (true, _) => dice.next(),
            (_, true) => 10_000 + dice.below(40),
            _ => 20_000 + agent * 10 + dice.below(8),
        };
        let now_ns = START_NS + minute * CELL_NS + dice.below(60_000) * SECOND_NS / 1_000;
        let violates = dice.below(1_000) < self.violations;
        Seen { violates, ..action(now_ns, agent, tool, resource) }
    }
}

fn job(seen: &mut Vec<Seen>, dice: &mut Dice, minute: u64, agent: u64) {
    let begin = START_NS + minute * CELL_NS + 50 * SECOND_NS;
    (0..6).for_each(|step| {
        let now_ns = begin + step * 2 * SECOND_NS + dice.below(2_000) * SECOND_NS / 1_000;
        seen.push(action(now_ns, agent, 500 + step, 50_000 + step));
    });
}

pub(super) fn action(now_ns: u64, agent: u64, tool: u64, resource: u64) -> Seen {
    let (entropy, risk) = (entropy(now_ns, agent, tool), risk(now_ns, agent, tool));
    let cohort = id(1 << 42 | (agent % 3));
    let (agent, tool, resource) = (id(agent), id(1 << 40 | tool), id(1 << 41 | resource));
    let tenant = KeyedId([7; 16]);
    Seen { now_ns, tenant, agent, tool, kind: 0, resource, violates: false, cohort, risk, entropy }
}

/// Each agent has its own way with each tool: none, alike, all over the place, or now text and now an encoding. One payload
/// in fifty is something else altogether.
fn entropy(now_ns: u64, agent: u64, tool: u64) -> Option<u8> {
    let (way, luck) = (mix(agent << 16 | tool), mix(now_ns ^ mix(agent) ^ tool));
    let usual = 110 + way / 8 % 40;
    let entropy = match way % 8 {
        _ if luck.is_multiple_of(50) => luck >> 8 & 0xff,
        0 => return None,
        1..=4 => usual + (luck >> 8) % 6 + (luck >> 16) % 6,
        5 | 6 => usual - 40 + (luck >> 8) % 90,
        _ if (luck >> 8) % 10 < 3 => 185 + (luck >> 16) % 8,
        _ => usual + (luck >> 16) % 8,
    };
    Some(entropy as u8)
}

/// By tool, a little by agent, and by how recently the agent did something wrong, which is chance in every five minutes.
fn risk(now_ns: u64, agent: u64, tool: u64) -> u16 {
    let luck = mix(now_ns ^ agent << 20 ^ tool << 3);
    let after = mix((now_ns / (5 * CELL_NS)) ^ mix(agent)).is_multiple_of(12);
    // What all begin to use is as risky as the rest.
    let tool = if tool < 6 { tool } else { luck / 1_000 % 6 };
    let by_tool = 40 + mix(tool) % 220 + mix(agent) % 60;
    (by_tool + luck % 80 + if after { 100 + luck / 128 % 150 } else { 0 }) as u16
}
