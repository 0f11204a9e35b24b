//! Records of subjects' keys, wrapped, and of the group's ring keys by number. Frozen like the rest.

use nethical_protocol::ids::ControlRevision;
use nethical_protocol::limits::{COLD_FILES_PER_GROUP_MAX, RINGS_PAST_MAX, SUBJECTS_PER_GROUP_MAX};

use super::{SnapshotError, contents};
use crate::subject::{ColdFile, Entry, ErasedV1, Ring, SubjectId, Subjects, WrappedV1};

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SubjectsV1 {
    keys: Vec<(SubjectId, u32, Option<WrappedV1>)>,
    ring: Option<u64>,
    past: Vec<u64>,
    /// Of the last turn, the last complete one, and the last erasure.
    revisions: [ControlRevision; 3],
    erasing: Vec<(ControlRevision, ErasedV1)>,
    cold: Vec<ColdFileV1>,
}

/// First leaf, leaves, object, its bytes, bodies in it, revision.
type ColdFileV1 = (u64, u32, [u8; 32], u64, u32, ControlRevision);

pub(super) fn record(subjects: &Subjects) -> SubjectsV1 {
    let Subjects { entries, ring, erasing, cold, .. } = subjects;
    SubjectsV1 {
        keys: entries.iter().map(|(id, entry)| (*id, entry.generation, entry.key)).collect(),
        ring: ring.current,
        past: ring.past.clone(),
        revisions: [ring.turned_rev, ring.done_rev, ring.erased_rev],
        erasing: erasing.clone(),
        cold: cold.values().map(cold_record).collect(),
    }
}

pub(super) fn read(record: SubjectsV1) -> Result<Subjects, SnapshotError> {
    let SubjectsV1 { keys, ring, past, revisions: [turned_rev, done_rev, erased_rev], erasing, cold } = record;
    let cold_max = COLD_FILES_PER_GROUP_MAX;
    if keys.len() > SUBJECTS_PER_GROUP_MAX + cold_max
        || cold.len() > cold_max
        || past.len() > RINGS_PAST_MAX
        || erasing.len() > SUBJECTS_PER_GROUP_MAX
    {
        return Err(contents("the subjects' keys are out of their bounds"));
    }
    if !keys.windows(2).all(|pair| pair[0].0 < pair[1].0) || !erasing.windows(2).all(|pair| pair[0].0 <= pair[1].0) {
        return Err(contents("the subjects' keys are out of order"));
    }
    let entry = |(id, generation, key)| (id, Entry { generation, key });
    let ring = Ring { current: ring, past, turned_rev, done_rev, erased_rev };
    let mut subjects =
        Subjects { entries: keys.into_iter().map(entry).collect(), ring, erasing, ..Subjects::default() };
    subjects.cold = cold.into_iter().map(cold_of).collect();
    subjects.count_unturned();
    Ok(subjects)
}

fn cold_record(file: &ColdFile) -> ColdFileV1 {
    (file.first, file.leaves, file.object, file.bytes, file.bodies, file.control_rev)
}

fn cold_of((first, leaves, object, bytes, bodies, control_rev): ColdFileV1) -> (u64, ColdFile) {
    (first, ColdFile { first, leaves, object, bytes, bodies, control_rev })
}
