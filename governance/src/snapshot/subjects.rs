//! Records of subjects' keys, wrapped, and of the group's ring keys by number. Frozen like the rest.

use nethical_protocol::ids::ControlRevision;
use nethical_protocol::limits::{RINGS_PAST_MAX, SUBJECTS_PER_GROUP_MAX};

use super::{SnapshotError, contents};
use crate::subject::{Entry, ErasedV1, Ring, SubjectId, Subjects, WrappedV1};

#[derive(Debug, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub(super) struct SubjectsV1 {
    keys: Vec<(SubjectId, u32, Option<WrappedV1>)>,
    ring: Option<u64>,
    past: Vec<u64>,
    /// Of the last turn, the last complete one, and the last erasure.
    revisions: [ControlRevision; 3],
    erasing: Vec<(ControlRevision, ErasedV1)>,
}

pub(super) fn record(subjects: &Subjects) -> SubjectsV1 {
    let Subjects { entries, ring, erasing, .. } = subjects;
    SubjectsV1 {
        keys: entries.iter().map(|(id, entry)| (*id, entry.generation, entry.key)).collect(),
        ring: ring.current,
        past: ring.past.clone(),
        revisions: [ring.turned_rev, ring.done_rev, ring.erased_rev],
        erasing: erasing.clone(),
    }
}

pub(super) fn read(record: SubjectsV1) -> Result<Subjects, SnapshotError> {
    let SubjectsV1 { keys, ring, past, revisions: [turned_rev, done_rev, erased_rev], erasing } = record;
    if keys.len() > SUBJECTS_PER_GROUP_MAX || past.len() > RINGS_PAST_MAX || erasing.len() > SUBJECTS_PER_GROUP_MAX {
        return Err(contents("the subjects' keys are out of their bounds"));
    }
    if !keys.windows(2).all(|pair| pair[0].0 < pair[1].0) || !erasing.windows(2).all(|pair| pair[0].0 <= pair[1].0) {
        return Err(contents("the subjects' keys are out of order"));
    }
    let entry = |(id, generation, key)| (id, Entry { generation, key });
    let ring = Ring { current: ring, past, turned_rev, done_rev, erased_rev };
    let mut subjects = Subjects { entries: keys.into_iter().map(entry).collect(), ring, erasing, unturned: 0 };
    subjects.count_unturned();
    Ok(subjects)
}
