//! What stands in front of a sealed body, as columns: it is all different in its bytes, and nearly all alike in its fields.

use super::row::Row;
use super::schema::Column;

const OF_AGENT: u8 = 1;
const ABOUT_A_PERSON: u8 = 2;

/// Cuts the head of a sealed body into columns; none where it is not one, and nothing else.
pub(super) fn split<'a>(head: &'a [u8], row: &mut Row<'a>) -> Option<()> {
    let (&[form], rest) = head.split_first_chunk()?;
    let (generation, rest) = rest.split_first_chunk()?;
    let (node, rest) = rest.split_first_chunk()?;
    let (process, rest) = rest.split_first_chunk()?;
    let (counter, rest) = rest.split_first_chunk()?;
    row.put_int(Column::BodyGeneration, u32::from_le_bytes(*generation).into());
    row.put_int(Column::BodyNode, u64::from_le_bytes(*node));
    row.put_int(Column::BodyProcess, u64::from_le_bytes(*process));
    row.put_int(Column::BodyCounter, u64::from_le_bytes(*counter));
    match (form, rest.split_at_checked(16)) {
        (OF_AGENT, None) => rest.is_empty().then_some(()),
        (ABOUT_A_PERSON, Some((person, generation))) => {
            row.put_bytes(Column::BodyPerson, person);
            let generation = u32::from_le_bytes(generation.try_into().ok()?);
            row.put_int(Column::BodyPersonGeneration, generation.into());
            Some(())
        }
        _ => None,
    }
}

/// Puts a head together; none where a column lacks a value.
pub(super) fn join(row: &Row<'_>) -> Option<Vec<u8>> {
    let person = row.bytes(Column::BodyPerson);
    let mut out = vec![if person.is_some() { ABOUT_A_PERSON } else { OF_AGENT }];
    out.extend_from_slice(&(row.int(Column::BodyGeneration)? as u32).to_le_bytes());
    for column in [Column::BodyNode, Column::BodyProcess, Column::BodyCounter] {
        out.extend_from_slice(&row.int(column)?.to_le_bytes());
    }
    if let Some(person) = person {
        out.extend_from_slice(person);
        out.extend_from_slice(&(row.int(Column::BodyPersonGeneration)? as u32).to_le_bytes());
    }
    Some(out)
}
