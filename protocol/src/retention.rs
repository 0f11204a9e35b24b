//! How long what was said and done is kept: classes of bodies, ages for each, and legal holds. Words and numbers only;
//! nothing is judged here.
//!
//! Leaves and proofs stay for ever. What ends is the sealed body behind a leaf.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::error::{Code, Problem};
use crate::ids::KeyedId;
use crate::limits::{NAME_BYTES_MAX, RETENTION_S_MAX, RETENTION_S_MIN};
use crate::probe;

const HOUR_S: u64 = 3_600;
const DAY_S: u64 = 24 * HOUR_S;
/// As long as the longest one, so that what a law wants for years is never gone a day early.
const YEAR_S: u64 = 366 * DAY_S;
/// Units in words, the longest first.
const UNITS: [(&str, u64); 5] = [("y", YEAR_S), ("d", DAY_S), ("h", HOUR_S), ("m", 60), ("s", 1)];
const FOREVER: &str = "forever";

/// What sort of record a body belongs to. It follows from the body's leaf alone.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RetentionClass {
    /// Actions that were allowed as they were, of agents of low or normal risk, within all limits.
    Routine,
    /// All other actions.
    Notable,
    /// What people did: hold-orders on agents, their releases, approvals.
    Administrative,
}

impl RetentionClass {
    /// All classes; the position is the class's number.
    pub const ALL: [RetentionClass; 3] =
        [RetentionClass::Routine, RetentionClass::Notable, RetentionClass::Administrative];

    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        ["routine", "notable", "administrative"][self as usize]
    }
}

/// How long a body is kept from its leaf's log time on, in seconds. In words: `36h`, `30d`, `7y` or `forever`; a year has
/// 366 days.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct Age(u64);

impl Age {
    /// Nothing ends.
    pub const FOREVER: Age = Age(u64::MAX);

    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(seconds)
    }

    /// So many days.
    pub const fn days(days: u64) -> Self {
        Self(days * DAY_S)
    }

    /// From its words.
    pub fn from_words(words: &str) -> Option<Self> {
        if words == FOREVER {
            return Some(Self::FOREVER);
        }
        let (unit, seconds) = UNITS.into_iter().find(|(unit, _)| words.ends_with(unit))?;
        let count: u64 = words.strip_suffix(unit)?.parse().ok()?;
        count.checked_mul(seconds).filter(|seconds| *seconds < u64::MAX).map(Self)
    }

    /// In nanoseconds; the greatest number where nothing ends.
    pub fn ns(self) -> u64 {
        self.0.saturating_mul(1_000_000_000)
    }

    /// Refuses an age out of its bounds; `what` names the setting.
    ///
    /// # Errors
    /// `invalid-control` with the bounds.
    pub(crate) fn check(self, what: &str) -> Result<(), Problem> {
        let least = probe::knob("retention.age-s-min", RETENTION_S_MIN);
        if self == Self::FOREVER || (least..=RETENTION_S_MAX).contains(&self.0) {
            return Ok(());
        }
        let bounds = format!("{} to {}, or {FOREVER}", Self(least), Self(RETENTION_S_MAX));
        Err(Problem::new(Code::InvalidControl, format!("{what} is {self}; it may be {bounds}")))
    }
}

impl std::fmt::Display for Age {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if *self == Self::FOREVER {
            return f.write_str(FOREVER);
        }
        let fitting = UNITS.into_iter().find(|(_, seconds)| self.0 > 0 && self.0.is_multiple_of(*seconds));
        let (unit, seconds) = fitting.unwrap_or(("s", 1));
        write!(f, "{}{unit}", self.0 / seconds)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let words = String::deserialize(deserializer)?;
        Self::from_words(&words).ok_or_else(|| de::Error::custom("an age is written 36h, 30d, 7y or forever"))
    }
}

/// A tenant's ages as an administrator writes them. Those that are absent stay as they are, in a new tenant as the default.
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
pub struct RetentionSpec {
    /// Of [`RetentionClass::Routine`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routine: Option<Age>,
    /// Of [`RetentionClass::Notable`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub notable: Option<Age>,
    /// Of [`RetentionClass::Administrative`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub administrative: Option<Age>,
}

impl RetentionSpec {
    /// Refuses ages out of their bounds.
    ///
    /// # Errors
    /// `invalid-control` with the class.
    pub fn check(&self) -> Result<(), Problem> {
        let ages = [self.routine, self.notable, self.administrative];
        RetentionClass::ALL
            .into_iter()
            .zip(ages)
            .try_for_each(|(class, age)| age.map_or(Ok(()), |age| age.check(&format!("retention.{}", class.as_str()))))
    }

    /// This, and what it leaves open from an older one.
    pub fn or(self, older: Self) -> Self {
        Self {
            routine: self.routine.or(older.routine),
            notable: self.notable.or(older.notable),
            administrative: self.administrative.or(older.administrative),
        }
    }

    /// All ages.
    pub fn ages(&self) -> RetentionAges {
        let RetentionAges { routine, notable, administrative } = RetentionAges::default();
        RetentionAges {
            routine: self.routine.unwrap_or(routine),
            notable: self.notable.unwrap_or(notable),
            administrative: self.administrative.unwrap_or(administrative),
        }
    }
}

/// How long bodies of each class are kept.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct RetentionAges {
    /// Of [`RetentionClass::Routine`].
    pub routine: Age,
    /// Of [`RetentionClass::Notable`].
    pub notable: Age,
    /// Of [`RetentionClass::Administrative`].
    pub administrative: Age,
}

impl Default for RetentionAges {
    fn default() -> Self {
        Self { routine: Age::days(365), notable: Age(7 * YEAR_S), administrative: Age(7 * YEAR_S) }
    }
}

impl RetentionAges {
    /// The shortest one.
    pub fn least(&self) -> Age {
        self.routine.min(self.notable).min(self.administrative)
    }

    /// Of a class.
    pub fn of(&self, class: RetentionClass) -> Age {
        match class {
            RetentionClass::Routine => self.routine,
            RetentionClass::Notable => self.notable,
            RetentionClass::Administrative => self.administrative,
        }
    }
}

/// A legal hold as an administrator asks for it: what it covers neither expires nor is erased while it stands.
#[derive(
    Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
)]
pub struct LegalHoldSpec {
    /// The tenant.
    pub tenant: String,
    /// One agent of it; empty for another scope.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub agent: String,
    /// One person, as actions named it in `context.data_subject`; empty for another scope. The whole tenant where both are.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub person: String,
    /// Records from this log time on, nanoseconds since 1970; 0 for all …
    #[serde(default)]
    pub from_ns: u64,
    /// … and before this one; 0 for no end.
    #[serde(default)]
    pub to_ns: u64,
    /// Why: an order's file number, at most `NAME_BYTES_MAX` bytes. It is kept in the clear.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Who sets it, as given; kept in the clear. May be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

impl LegalHoldSpec {
    /// Refuses what names nothing, or too much.
    ///
    /// # Errors
    /// `invalid-control` with the field.
    pub fn check(&self) -> Result<(), Problem> {
        let refuse = |detail: String| Err(Problem::new(Code::InvalidControl, detail));
        if !self.agent.is_empty() && !self.person.is_empty() {
            return refuse("name an agent or a person, or neither for the whole tenant".to_owned());
        }
        if self.to_ns != 0 && self.to_ns <= self.from_ns {
            return refuse("to: it must be later than from".to_owned());
        }
        check_text("reason", &self.reason)?;
        check_text("by", &self.by)
    }
}

/// Refuses texts that are too long to be kept for ever.
pub(crate) fn check_text(what: &str, text: &str) -> Result<(), Problem> {
    if text.len() <= NAME_BYTES_MAX {
        return Ok(());
    }
    Err(Problem::new(
        Code::InvalidControl,
        format!("{what} has {} bytes; at most {NAME_BYTES_MAX} are kept", text.len()),
    ))
}

/// What a legal hold covers within its tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum LegalScope {
    /// Everything.
    Tenant,
    /// What an agent did.
    Agent(KeyedId),
    /// What is about a person.
    Person(KeyedId),
}

impl LegalScope {
    /// The JSON word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Agent(_) => "agent",
            Self::Person(_) => "person",
        }
    }
}

/// A legal hold as partitions know it; its id is the control revision that set it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct LegalHoldFact {
    /// The tenant.
    pub tenant: KeyedId,
    /// What of it.
    pub scope: LegalScope,
    /// Records from this log time on …
    pub from_ns: u64,
    /// … and before this one; 0 for no end.
    pub to_ns: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_written_in_their_greatest_unit_and_read_back() {
        let written = [("7y", 7 * YEAR_S), ("365d", 365 * DAY_S), ("36h", 36 * HOUR_S), ("90m", 5_400), ("61s", 61)];
        for (words, seconds) in written {
            assert_eq!(Age::from_words(words), Some(Age(seconds)), "{words}");
            assert_eq!(Age(seconds).to_string(), words);
        }
        assert_eq!((Age::from_words("24h"), Age(DAY_S).to_string()), (Some(Age::days(1)), "1d".to_owned()));
        assert_eq!(Age::from_words(FOREVER), Some(Age::FOREVER));
        assert_eq!(Age::FOREVER.ns(), u64::MAX);
        for words in ["", "7", "d", "-1d", "1.5d", "99999999999999999y", "18446744073709551615s", "7 y"] {
            assert_eq!(Age::from_words(words), None, "{words:?}");
        }
    }

    #[test]
    fn ages_out_of_their_bounds_are_refused_with_the_class() {
        let refused = |age: Age| {
            let spec = RetentionSpec { notable: Some(age), ..RetentionSpec::default() };
            spec.check().err().map(|problem| problem.detail)
        };
        assert_eq!(refused(Age::FOREVER), None);
        assert_eq!(refused(Age(RETENTION_S_MIN)), None);
        let why = refused(Age(RETENTION_S_MIN - 1)).expect("it is too short");
        assert_eq!(why, "retention.notable is 3599s; it may be 1h to 100y, or forever");
        assert!(refused(Age(RETENTION_S_MAX + 1)).is_some());
    }

    #[test]
    fn what_is_not_named_stays_and_in_the_end_is_the_default() {
        let older = RetentionSpec { routine: Some(Age::days(30)), ..RetentionSpec::default() };
        let newer = RetentionSpec { notable: Some(Age::FOREVER), ..RetentionSpec::default() };
        let ages = newer.or(older).ages();
        assert_eq!(ages.of(RetentionClass::Routine), Age::days(30));
        assert_eq!(ages.of(RetentionClass::Notable), Age::FOREVER);
        assert_eq!(ages.of(RetentionClass::Administrative).to_string(), "7y");
        assert_eq!(RetentionAges::default().routine.to_string(), "365d");
    }

    #[test]
    fn a_legal_hold_names_one_thing_and_a_time_that_is_one() {
        let spec = LegalHoldSpec { tenant: "t".to_owned(), agent: "a".to_owned(), ..LegalHoldSpec::default() };
        assert_eq!(spec.check(), Ok(()));
        assert!(LegalHoldSpec { person: "p".to_owned(), ..spec.clone() }.check().is_err());
        assert!(LegalHoldSpec { from_ns: 5, to_ns: 5, ..spec.clone() }.check().is_err());
        assert!(LegalHoldSpec { reason: "x".repeat(NAME_BYTES_MAX + 1), ..spec }.check().is_err());
    }
}
