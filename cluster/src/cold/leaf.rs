//! A leaf's bytes as columns and back, by the layout that FORMATS.md section 2 gives.
//!
//! It cuts bytes where fields end and does not judge them: a leaf that the log would not accept comes back as it was. The
//! events of seldom kinds keep their last fields together in one column.

use nethical_audit::leaf::codec::VERSION;

use super::row::{Cell, Row};
use super::schema::{Column, Kind};

/// A piece of a leaf.
#[derive(Clone, Copy)]
enum Part {
    /// A value of fixed size.
    Field(Column),
    /// A count of one byte and that many items of a size; the column has the items.
    List(Column, usize),
    /// One byte, or nothing at all.
    Maybe(Column),
    /// All that is left.
    Rest(Column),
}

use Part::{Field, List, Maybe, Rest};

const HEAD: &[Part] = &[
    Field(Column::LogGroup),
    Field(Column::Era),
    Field(Column::LeafIndex),
    Field(Column::LogTime),
    Field(Column::Term),
    Field(Column::BodyCommitment),
];

const DECISION: &[Part] = &[
    Field(Column::RequestKeyed),
    Field(Column::RequestContent),
    Field(Column::IssuedAt),
    Field(Column::ClientChosen),
    Field(Column::Slot),
    Field(Column::TenantKeyed),
    Field(Column::AgentKeyed),
    Field(Column::SessionKeyed),
    Field(Column::CohortKeyed),
    Field(Column::ToolKeyed),
    Field(Column::RegionKeyed),
    Field(Column::ResourceKeyed),
    Field(Column::ActionKind),
    Field(Column::PolicyRev),
    Field(Column::ControlRev),
    Field(Column::PolicyVerdict),
    Field(Column::Verdict),
    Field(Column::Status),
    Field(Column::Epoch),
    Field(Column::Flags),
    Field(Column::Risk),
    Field(Column::Tier),
    Field(Column::RiskBehaviour),
    Field(Column::RiskSeverity),
    Field(Column::RiskFrequency),
    Field(Column::RiskRecency),
    Field(Column::RiskHistory),
    Field(Column::RetryAfterNs),
    Field(Column::ReserveTtlS),
    Field(Column::Reserved),
    List(Column::Rules, 8),
    List(Column::Detections, 3),
    List(Column::Reasons, 9),
    List(Column::Charges, 24),
    List(Column::Limits, 29),
    Maybe(Column::Entropy),
];

const HOLD: &[Part] = &[
    Field(Column::RequestKeyed),
    Field(Column::Slot),
    Field(Column::TenantKeyed),
    Field(Column::AgentKeyed),
    Rest(Column::Event),
];

const ABOUT_A_DECISION: &[Part] = &[
    Field(Column::Slot),
    Field(Column::TenantKeyed),
    Field(Column::AgentKeyed),
    Field(Column::DecisionIndex),
    Rest(Column::Event),
];

const OTHER: &[Part] = &[Rest(Column::Event)];

/// The pieces of an event, by its kind byte.
fn event(kind: u64) -> &'static [Part] {
    match kind {
        1 => DECISION,
        3 | 4 => HOLD,
        6..=8 => ABOUT_A_DECISION,
        _ => OTHER,
    }
}

/// Cuts a leaf's bytes into columns; none where they are not of this layout.
pub(super) fn split<'a>(leaf: &'a [u8], row: &mut Row<'a>) -> Option<()> {
    let (&[version, kind], mut rest) = leaf.split_first_chunk()?;
    if version != VERSION {
        return None;
    }
    put_int(row, Column::LeafKind, &[kind])?;
    for part in HEAD.iter().chain(event(u64::from(kind))) {
        rest = take(*part, rest, row)?;
    }
    rest.is_empty().then_some(())
}

fn take<'a>(part: Part, rest: &'a [u8], row: &mut Row<'a>) -> Option<&'a [u8]> {
    let (column, length, rest) = match part {
        Field(column) => (column, column.spec().kind.bytes()?, rest),
        List(column, item) => {
            let (count, rest) = rest.split_first()?;
            (column, usize::from(*count) * item, rest)
        }
        Maybe(_) if rest.is_empty() => return Some(rest),
        Maybe(column) => (column, 1, rest),
        Rest(column) => (column, rest.len(), rest),
    };
    let (value, rest) = rest.split_at_checked(length)?;
    match column.spec().kind {
        Kind::Fixed(_) | Kind::Binary | Kind::Hashes => row.put(column, Some(Cell::Bytes(value.into()))),
        _ => put_int(row, column, value)?,
    }
    Some(rest)
}

/// Refuses flags that are neither 0 nor 1, and numbers that no word has.
fn put_int(row: &mut Row<'_>, column: Column, bytes: &[u8]) -> Option<()> {
    let value = bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    let fits = match column.spec().kind {
        Kind::Flag => value < 2,
        Kind::Word(words, first) => value.checked_sub(first.into()).is_some_and(|at| at < words.len() as u64),
        _ => true,
    };
    row.put_int(column, value);
    fits.then_some(())
}

/// Puts a leaf's bytes together; none where a column lacks a value.
pub(super) fn join(row: &Row<'_>) -> Option<Vec<u8>> {
    let kind = row.int(Column::LeafKind)?;
    let mut out = Vec::with_capacity(512);
    out.extend_from_slice(&[VERSION, u8::try_from(kind).ok()?]);
    for part in HEAD.iter().chain(event(kind)) {
        give(*part, row, &mut out)?;
    }
    Some(out)
}

fn give(part: Part, row: &Row<'_>, out: &mut Vec<u8>) -> Option<()> {
    match part {
        Field(column) => match column.spec().kind {
            Kind::Fixed(_) => out.extend_from_slice(row.bytes(column)?),
            kind => out.extend_from_slice(&row.int(column)?.to_le_bytes()[..kind.bytes()?]),
        },
        List(column, item) => {
            let items = row.bytes(column)?;
            out.push(u8::try_from(items.len() / item).ok().filter(|_| items.len() % item == 0)?);
            out.extend_from_slice(items);
        }
        Maybe(column) => out.extend(row.int(column).map(|value| value as u8)),
        Rest(column) => out.extend_from_slice(row.bytes(column)?),
    }
    Some(())
}
