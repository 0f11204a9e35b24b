//! How old a tenant's records get in a tier of the audit trail before they are moved to the next one. Words and numbers only; what
//! is moved, and when, each node decides.

use serde::{Deserialize, Serialize};

use crate::error::{Code, Problem};
use crate::retention::Age;

/// A tenant's ages as an administrator writes them. Those that are absent stay as they are, in a new tenant as each node's settings
/// say.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(default, deny_unknown_fields)]
pub struct TierAges {
    /// Until when its records are hot, from their log time on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hot: Option<Age>,
    /// Until when its bodies are on the nodes' disks, from their leaves' log time on: forever keeps them out of the object store.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warm: Option<Age>,
}

impl TierAges {
    /// Refuses ages out of their bounds, and records that would be cold before they are warm.
    ///
    /// # Errors
    /// `invalid-control` with the setting.
    pub fn check(&self) -> Result<(), Problem> {
        self.hot.map_or(Ok(()), |age| age.check("tier_ages.hot"))?;
        self.warm.map_or(Ok(()), |age| age.check("tier_ages.warm"))?;
        match (self.hot, self.warm) {
            (Some(hot), Some(warm)) if warm < hot => {
                let detail =
                    format!("tier_ages.warm is {warm}, and tier_ages.hot {hot}: only warm records become cold");
                Err(Problem::new(Code::InvalidControl, detail))
            }
            _ => Ok(()),
        }
    }

    /// This, and what it leaves open from an older one.
    pub fn or(self, older: Self) -> Self {
        Self { hot: self.hot.or(older.hot), warm: self.warm.or(older.warm) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ages(hot: &str, warm: &str) -> TierAges {
        TierAges { hot: Age::from_words(hot), warm: Age::from_words(warm) }
    }

    #[test]
    fn ages_have_bounds_and_an_order() {
        assert_eq!(ages("1d", "forever").check(), Ok(()));
        assert_eq!(ages("1d", "1d").check(), Ok(()));
        let why = |ages: TierAges| ages.check().expect_err("it is refused").detail;
        assert_eq!(
            why(ages("2d", "36h")),
            "tier_ages.warm is 36h, and tier_ages.hot 2d: only warm records become cold"
        );
        assert_eq!(why(ages("59m", "1d")), "tier_ages.hot is 59m; it may be 1h to 100y, or forever");
        assert!(why(ages("1h", "101y")).starts_with("tier_ages.warm is 101y"));
    }

    #[test]
    fn what_is_not_named_stays() {
        let newer = TierAges { hot: None, ..ages("1h", "2d") };
        assert_eq!(newer.or(ages("1d", "forever")), ages("1d", "2d"));
    }
}
