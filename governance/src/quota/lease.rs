//! Leases: how a budget over agents of many partitions is shared out without a quorum per action (ARCHITECTURE 7).
//!
//! A leased budget has a *parent*, the group that owns the slot of (limit, key), and *children*, the groups whose agents
//! spend it. Amounts move from the parent to a child before they are used. All that either side says of a lease are two
//! counters that only rise, *granted* and *returned*, merged by max: a message that is lost, doubled or late changes
//! nothing. With them
//!
//! - the parent never lets the sum over children of granted − returned rise above the cap, and
//! - a child never spends more than granted − returned.
//!
//! What the parent knows of `granted` is never less than what the child knows, and of `returned` never more. So the sum of
//! what was spent is never above the cap, whatever crashes, and whoever cannot be reached. Counters belong to one calendar
//! window each, by the log time of whoever spends: no clock is compared with another. Nothing comes back by a timeout; what
//! a child holds when its window ends is void.
//!
//! Lowering a cap below what is granted takes nothing back: grants count as spent when they are made.

use std::collections::BTreeMap;

use nethical_protocol::ids::{ControlRevision, KeyedId, LimitNumber, Slot};
use nethical_protocol::limits::{LEASES_MAX, SLOTS};
use nethical_protocol::{always, probe, sometimes};
use sha2::{Digest, Sha256};

use super::BucketKey;

/// After the parent has refused, a child takes its word for so long and asks no more.
const REFUSAL_NS: u64 = 1_000_000_000;
/// Leases looked at by every change of one, so that those of windows that are over go.
const SWEPT_PER_CHANGE: usize = 4;

/// What is shared out: a limit's counter in one calendar window. Slot first, so that a slot is one contiguous range.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LeaseKey {
    /// The slot whose group is the parent, see [`slot_of_lease`].
    pub slot: Slot,
    /// The limit.
    pub limit: LimitNumber,
    /// When the limit began to count.
    pub born: ControlRevision,
    /// The limit's key parts.
    pub key: KeyedId,
    /// When the window begins, nanoseconds of log time since 1970.
    pub window_ns: u64,
}

impl LeaseKey {
    /// The lease of a counter in a window.
    pub fn of(bucket: BucketKey, window_ns: u64) -> Self {
        let BucketKey { slot, limit, born, key } = bucket;
        Self { slot, limit, born, key, window_ns }
    }
}

/// The slot whose group is a lease's parent: SHA-256 over `"nethical lease 1"`, limit (u32) and key, little endian; its
/// first two bytes mod 4,096. Frozen.
pub fn slot_of_lease(limit: LimitNumber, key: KeyedId) -> Slot {
    let mut hash = Sha256::new_with_prefix(b"nethical lease 1");
    hash.update(u64::from(limit.0).to_le_bytes());
    hash.update(key.0);
    let digest = hash.finalize();
    Slot(u16::from_le_bytes([digest[0], digest[1]]) % SLOTS)
}

/// A child's side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Share {
    /// Ever received.
    pub granted: u64,
    /// Ever given back.
    pub returned: u64,
    /// Spent by decisions of this group.
    pub spent: u64,
    /// Until then, in log time, the parent's last refusal stands.
    pub refused_until_ns: u64,
}

impl Share {
    /// What may still be spent here.
    pub fn balance(&self) -> u64 {
        self.granted.saturating_sub(self.returned).saturating_sub(self.spent)
    }
}

/// The parent's side, one for each child.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Account {
    /// Ever granted.
    pub granted: u64,
    /// Ever confirmed as given back.
    pub returned: u64,
}

impl Account {
    /// What the child may have spent or may still spend.
    pub fn outstanding(&self) -> u64 {
        self.granted.saturating_sub(self.returned)
    }
}

/// What a child tells its parent of a lease, and what it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LeaseAskV1 {
    /// Which.
    pub lease: LeaseKey,
    /// The child's group.
    pub child: u32,
    /// What it has ever received.
    pub granted: u64,
    /// What it has ever given back.
    pub returned: u64,
    /// Less would not help it.
    pub need: u64,
    /// More than this it would not use soon.
    pub want: u64,
}

/// Both sides of the leases that a group is part of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Leases {
    /// This group as a child.
    pub(crate) shares: BTreeMap<LeaseKey, Share>,
    /// This group as a parent, by child.
    pub(crate) accounts: BTreeMap<(LeaseKey, u32), Account>,
}

impl Leases {
    /// This group's share of a lease.
    pub fn share(&self, lease: &LeaseKey) -> Share {
        self.shares.get(lease).copied().unwrap_or_default()
    }

    /// What children other than `child` may have spent or may still spend, by group.
    pub fn others(&self, lease: &LeaseKey, child: u32) -> impl Iterator<Item = (u32, Account)> {
        let range = self.accounts.range((*lease, 0)..=(*lease, u32::MAX));
        range.map(|((_, group), account)| (*group, *account)).filter(move |(group, _)| *group != child)
    }

    /// The parent's side of an ask: notes what came back, and grants from what is left of `cap`. `None` where the bounds
    /// of this group are reached.
    pub fn grant(&mut self, ask: &LeaseAskV1, cap: u64) -> Option<Account> {
        let place = (ask.lease, ask.child);
        if !self.accounts.contains_key(&place) && self.accounts.len() >= LEASES_MAX {
            return None;
        }
        let elsewhere: u64 = match probe::planted("lease-granted-twice") {
            true => 0,
            false => self.others(&ask.lease, ask.child).map(|(_, account)| account.outstanding()).sum(),
        };
        let account = self.accounts.entry(place).or_default();
        always!(ask.granted <= account.granted, "lease-granted-first", "{ask:?} and the parent knows {account:?}");
        account.returned = account.returned.max(ask.returned.min(account.granted));
        // A grant that the child has not heard of yet is told again, and nothing is added to it.
        if ask.granted >= account.granted {
            let free = cap.saturating_sub(elsewhere).saturating_sub(account.outstanding());
            let grant = granted_of(free, ask.need, ask.want);
            account.granted = account.granted.saturating_add(grant);
            sometimes!(grant > 0, "a lease was granted");
            sometimes!(grant == 0 && ask.need > 0, "a parent had no lease left");
        }
        Some(*account)
    }

    /// The child's side of a grant: the counter rises, or the refusal is noted.
    pub fn take(&mut self, lease: LeaseKey, granted: u64, refused: bool, now_ns: u64) -> Option<Share> {
        if !self.shares.contains_key(&lease) && self.shares.len() >= LEASES_MAX {
            return None;
        }
        let share = self.shares.entry(lease).or_default();
        share.granted = share.granted.max(granted);
        share.refused_until_ns = if refused { now_ns.saturating_add(REFUSAL_NS) } else { 0 };
        Some(*share)
    }

    /// The child gives back what it has not spent.
    pub fn give_back(&mut self, lease: &LeaseKey) -> Option<Share> {
        let share = self.shares.get_mut(lease)?;
        let idle = share.balance();
        sometimes!(idle > 0, "a lease was given back");
        if !probe::planted("lease-returned-and-kept") {
            share.returned += idle;
            return Some(*share);
        }
        Some(Share { returned: share.returned + idle, ..*share })
    }

    /// A decision spends what it was judged to have.
    pub fn spend(&mut self, lease: LeaseKey, cost: u64) {
        let share = self.shares.entry(lease).or_default();
        share.spent = share.spent.saturating_add(cost);
    }

    /// What a reservation held of a share and did not use may be spent again, while its window lasts.
    pub fn unspend(&mut self, lease: &LeaseKey, unused: u64) {
        if let Some(share) = self.shares.get_mut(lease) {
            share.spent = share.spent.saturating_sub(unused);
        }
    }

    /// Looks at the next few leases after one and forgets those that `is_over`.
    pub fn sweep(&mut self, after: &LeaseKey, is_over: impl Fn(&LeaseKey) -> bool) {
        let shares = self.shares.range(after..).chain(self.shares.range(..after)).map(|(lease, _)| *lease);
        let over: Vec<LeaseKey> = shares.take(SWEPT_PER_CHANGE).filter(&is_over).collect();
        for lease in over {
            self.shares.remove(&lease);
        }
        let from = (*after, 0);
        let accounts = self.accounts.range(from..).chain(self.accounts.range(..from)).map(|(place, _)| *place);
        let over: Vec<(LeaseKey, u32)> = accounts.take(SWEPT_PER_CHANGE).filter(|(lease, _)| is_over(lease)).collect();
        for place in over {
            self.accounts.remove(&place);
        }
    }
}

/// What is granted of `free`: the need or nothing, and of what is wanted beyond it at most a quarter of what is left, so
/// that one busy child does not empty the parent.
fn granted_of(free: u64, need: u64, want: u64) -> u64 {
    match free.checked_sub(need) {
        Some(left) if need > 0 => need + want.saturating_sub(need).min(left / 4),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: LeaseKey =
        LeaseKey { slot: Slot(7), limit: LimitNumber(1), born: ControlRevision(3), key: KeyedId::NONE, window_ns: 0 };

    fn ask(child: u32, share: Share, need: u64, want: u64) -> LeaseAskV1 {
        LeaseAskV1 { lease: LEASE, child, granted: share.granted, returned: share.returned, need, want }
    }

    #[test]
    fn a_grant_that_was_not_heard_is_told_again_and_not_made_again() {
        let mut parent = Leases::default();
        let first = parent.grant(&ask(2, Share::default(), 10, 10), 100).expect("room");
        let again = parent.grant(&ask(2, Share::default(), 10, 10), 100).expect("room");
        assert_eq!((first.granted, again.granted), (10, 10));
    }

    #[test]
    fn a_share_is_at_most_the_need_and_a_quarter_of_what_is_left() {
        assert_eq!(granted_of(100, 10, 90), 10 + 22);
        assert_eq!(granted_of(10, 10, 90), 10);
        assert_eq!(granted_of(9, 10, 90), 0);
        assert_eq!(granted_of(100, 0, 90), 0);
    }

    #[test]
    fn what_is_given_back_can_be_granted_to_another() {
        let (mut parent, mut child) = (Leases::default(), Leases::default());
        let account = parent.grant(&ask(2, Share::default(), 100, 100), 100).expect("room");
        child.take(LEASE, account.granted, false, 0);
        child.spend(LEASE, 30);
        assert_eq!(parent.grant(&ask(3, Share::default(), 1, 1), 100).expect("room").granted, 0);
        let share = child.give_back(&LEASE).expect("a share");
        assert_eq!((share.balance(), share.returned), (0, 70));
        parent.grant(&ask(2, share, 0, 0), 100);
        assert_eq!(parent.grant(&ask(3, Share::default(), 70, 70), 100).expect("room").granted, 70);
        assert_eq!(
            parent.grant(&ask(3, Share { granted: 70, ..Share::default() }, 1, 1), 100).expect("room").granted,
            70
        );
    }

    /// Messages are kept, doubled and delivered in any order; children spend whatever they believe to have.
    #[test]
    fn no_order_of_messages_lets_more_be_spent_than_the_cap() {
        const CAP: u64 = 50;
        let mut dice = 0x9e37_79b9_7f4a_7c15_u64;
        let mut roll = move |sides: u64| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            dice % sides
        };
        for _ in 0..2_000 {
            let (mut parent, mut children) = (Leases::default(), vec![Leases::default(); 3]);
            let (mut asks, mut grants): (Vec<LeaseAskV1>, Vec<(usize, u64)>) = (Vec::new(), Vec::new());
            for _ in 0..60 {
                let at = roll(3) as usize;
                let share = children[at].share(&LEASE);
                match roll(5) {
                    0 => asks.push(ask(at as u32, share, roll(9), roll(20))),
                    1 if !asks.is_empty() => {
                        let ask = asks[roll(asks.len() as u64) as usize];
                        let account = parent.grant(&ask, CAP).expect("room");
                        grants.push((ask.child as usize, account.granted));
                    }
                    2 if !grants.is_empty() => {
                        let (child, granted) = grants[roll(grants.len() as u64) as usize];
                        children[child].take(LEASE, granted, false, 0);
                    }
                    3 => drop(children[at].give_back(&LEASE)),
                    _ => {
                        let cost = roll(6);
                        if cost <= share.balance() {
                            children[at].spend(LEASE, cost);
                        }
                    }
                }
                let spent: u64 = children.iter().map(|child| child.share(&LEASE).spent).sum();
                assert!(spent <= CAP, "{spent} were spent of {CAP}");
            }
        }
    }
}
