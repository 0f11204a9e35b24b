//! An opened body as columns and back: texts that people ask for, and one column with what is left.
//!
//! What is left says nothing twice: what the leaf or the texts say as well is stored there as no difference, so that most of
//! these values are equal. A body that would not come back to the byte is kept as its bytes. Only actions are taken apart;
//! hold-orders and words of approvers are seldom and stay as they are.

use nethical_protocol::action::{Action, Cost};
use nethical_protocol::frame;
use nethical_protocol::limits::FRAME_BYTES_MAX;

use super::row::{Cell, Row};
use super::schema::{Column, LEAF_COLUMNS};
use crate::body::{BodyV1, KIND_BODY};

/// Stands for the rules of the leaf. No rule has this hash but by a chance of one in 2^64, and then the body is kept as bytes.
const RULES_OF_THE_LEAF: [u8; 8] = [0xff; 8];
/// Stands for as many bytes as arguments and context have. No action is that long.
const BYTES_OF_THE_CONTENT: u32 = u32::MAX;

/// Frames of later versions would need a layout that says which one a body had.
const _: () = assert!(frame::VERSION == 1);

/// What the leaf says as well.
struct Leaf {
    issued_at_ms: u64,
    epoch: u64,
    entropy: u8,
    rules: Vec<[u8; 8]>,
}

impl Leaf {
    fn of(row: &Row<'_>) -> Self {
        let number = |column| row.int(column).unwrap_or_default();
        let rules = row.bytes(Column::Rules).unwrap_or_default().chunks_exact(8);
        Self {
            issued_at_ms: number(Column::IssuedAt),
            epoch: number(Column::Epoch),
            entropy: number(Column::Entropy) as u8,
            rules: rules.filter_map(|rule| rule.try_into().ok()).collect(),
        }
    }
}

/// Cuts a body into columns. The leaf's own have to be there already.
pub(super) fn split<'a>(plaintext: &'a [u8], row: &mut Row<'a>) {
    if split_decision(plaintext, row).is_none() || join(row).as_deref() != Some(plaintext) {
        row.clear_from(LEAF_COLUMNS);
        row.put_bytes(Column::BodyBytes, plaintext);
    }
}

/// Puts a body together; none where a column lacks a value.
pub(super) fn join(row: &Row<'_>) -> Option<Vec<u8>> {
    match row.bytes(Column::BodyBytes) {
        Some(bytes) => Some(bytes.to_vec()),
        None => join_decision(row),
    }
}

/// The texts of an action that have a column each.
fn texts(action: &mut Action) -> [(Column, &mut String); 12] {
    [
        (Column::RequestId, &mut action.request_id),
        (Column::Tenant, &mut action.tenant),
        (Column::Agent, &mut action.agent),
        (Column::Session, &mut action.session),
        (Column::Cohort, &mut action.cohort),
        (Column::Region, &mut action.region),
        (Column::Name, &mut action.name),
        (Column::ResourceType, &mut action.resource_type),
        (Column::ResourceId, &mut action.resource_id),
        (Column::Args, &mut action.args_json),
        (Column::Context, &mut action.context_json),
        (Column::Approval, &mut action.approval),
    ]
}

/// Bytes of arguments and context, which the facts count.
fn content_bytes(action: &Action) -> u32 {
    (action.args_json.len() as u32).wrapping_add(action.context_json.len() as u32)
}

fn split_decision(plaintext: &[u8], row: &mut Row<'_>) -> Option<()> {
    let mut body = BodyV1::from_bytes(plaintext).ok()?;
    let BodyV1::Decision { action, evaluation, seen, .. } = &mut body else {
        return None;
    };
    let leaf = Leaf::of(row);
    if evaluation.facts.bytes == content_bytes(action) {
        evaluation.facts.bytes = BYTES_OF_THE_CONTENT;
    }
    evaluation.facts.entropy = evaluation.facts.entropy.map(|found| found.wrapping_sub(leaf.entropy));
    if !leaf.rules.is_empty() && evaluation.rules == leaf.rules {
        evaluation.rules = vec![RULES_OF_THE_LEAF];
    }
    seen.epoch = seen.epoch.wrapping_sub(leaf.epoch);
    let issued_at = Some(std::mem::take(&mut action.issued_at_ms)).filter(|at| *at != leaf.issued_at_ms);
    row.put(Column::BodyIssuedAt, issued_at.map(Cell::Int));
    row.put_bytes(Column::Cost, serde_json::to_vec(&std::mem::take(&mut action.cost)).ok()?);
    for (column, text) in texts(action) {
        row.put_bytes(column, std::mem::take(text).into_bytes());
    }
    row.put_bytes(Column::BodyRest, body.to_bytes().split_off(frame::HEADER_BYTES));
    Some(())
}

fn join_decision(row: &Row<'_>) -> Option<Vec<u8>> {
    let rest = row.bytes(Column::BodyRest).filter(|rest| fits_a_frame(row, rest))?;
    let mut body = BodyV1::from_bytes(&frame::encode(KIND_BODY, 0, rest)).ok()?;
    let BodyV1::Decision { action, evaluation, seen, .. } = &mut body else {
        return None;
    };
    for (column, text) in texts(action) {
        *text = String::from_utf8(row.bytes(column)?.to_vec()).ok()?;
    }
    let leaf = Leaf::of(row);
    action.cost = serde_json::from_slice::<Vec<Cost>>(row.bytes(Column::Cost)?).ok()?;
    action.issued_at_ms = row.int(Column::BodyIssuedAt).unwrap_or(leaf.issued_at_ms);
    seen.epoch = seen.epoch.wrapping_add(leaf.epoch);
    if evaluation.rules == [RULES_OF_THE_LEAF] {
        evaluation.rules = leaf.rules;
    }
    evaluation.facts.entropy = evaluation.facts.entropy.map(|found| found.wrapping_add(leaf.entropy));
    if evaluation.facts.bytes == BYTES_OF_THE_CONTENT {
        evaluation.facts.bytes = content_bytes(action);
    }
    Some(body.to_bytes())
}

/// A frame has a bound that nobody may cross. A cost takes no more than twice the bytes that it takes as JSON, and so do all
/// other values.
fn fits_a_frame(row: &Row<'_>, rest: &[u8]) -> bool {
    let lengths =
        (LEAF_COLUMNS..Column::BodyRest as usize).filter_map(|column| row.bytes(super::schema::COLUMNS[column]));
    2 * (lengths.map(<[u8]>::len).sum::<usize>() + rest.len()) <= FRAME_BYTES_MAX
}
