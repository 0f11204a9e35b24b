//! Limits of a plan's work besides each agent's rate, the purse and the shared budget, and what is reserved under them.

use serde::{Deserialize, Serialize};

/// Limits that all agents of the spread tenant share, besides the budget, and what they reserve.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SharedSpec {
    /// Requests per second, and at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tide: Option<(u64, u64)>,
    /// Requests within any window, and its length in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pond: Option<(u64, u64)>,
    /// Reservations that live at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hall: Option<u64>,
    /// Tokens that may ever be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pot: Option<u64>,
    /// Requests per second, and at once, in shadow mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ghost: Option<(u64, u64)>,
    /// Requests in each calendar window, and its length in seconds, in soft mode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tally: Option<(u64, u64)>,
    /// Of a thousand requests, how many reserve tokens.
    #[serde(default)]
    pub reserve_permille: u32,
}

impl SharedSpec {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

/// Limits of the single tenant besides its purse: several at one position, of several units and modes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HouseSpec {
    /// Millionths of a dollar that may be spent in a day, besides credits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coins: Option<u64>,
    /// Requests per second and at once of each agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<(u64, u64)>,
    /// A limit in shadow mode that nothing fits under.
    #[serde(default)]
    pub shade: bool,
    /// Credits of the purse that only critical requests may take; then one request in five is critical.
    #[serde(default)]
    pub keep: u64,
    /// Every request of an agent is the same: they run away.
    #[serde(default)]
    pub runaway: bool,
    /// Of a thousand requests, how many cost more credits than there are.
    #[serde(default)]
    pub huge_permille: u32,
    /// Its bodies are never to leave the nodes' disks.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stays: bool,
}

impl HouseSpec {
    pub(super) fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}
