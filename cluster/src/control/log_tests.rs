//! Tests of the cluster log's state.

use super::*;
use crate::world::memory::MemoryDisk;
use nethical_audit::checkpoint::Checkpoint;
use nethical_audit::note::Signer;
use nethical_audit::tree::{leaf_hash, root_of};

const LOG: LogId = LogId { group: GroupId::CONTROL, era: 1 };

async fn fresh() -> ClusterLog {
    let store = AuditStore::open(Arc::new(MemoryDisk::new()), "test", LOG).await.expect("it opens");
    ClusterLog::new("test", store)
}

fn note(group: u32, size: u64) -> String {
    let origin = LogId { group: GroupId(group), era: 1 }.origin("test");
    let signer = Signer::from_seed(&origin, &[7; 32]).expect("a good name");
    Checkpoint { origin, size, root: [size as u8; 32] }.sign(&signer)
}

#[tokio::test]
async fn only_checkpoints_that_say_more_become_leaves() {
    let mut log = fresh().await;
    let made = log
        .apply(&[note(2, 5), note(3, 4), note(2, 5), note(2, 4), note(2, 9)], &Generations::default())
        .expect("a sound log");
    assert_eq!(made, 3);
    let leaves: Vec<Hash> =
        [note(2, 5), note(3, 4), note(2, 9)].iter().map(|note| leaf_hash(note.as_bytes())).collect();
    assert_eq!(log.tree(), (3, root_of(&leaves)));
    let newest = |group| log.newest(LogId { group: GroupId(group), era: 1 });
    assert_eq!(newest(2), Some(Newest { size: 9, index: 2 }));
    assert_eq!((newest(3), newest(4)), (Some(Newest { size: 4, index: 1 }), None));
}

#[tokio::test]
async fn what_is_no_checkpoint_of_a_partition_makes_no_leaf_and_no_fault() {
    let mut log = fresh().await;
    let strangers = [note(1, 5), note(0, 5), note(2, 0), "text".to_owned(), note(2, 5).replace("test/", "other/")];
    assert_eq!(log.apply(&strangers, &Generations::default()).expect("a sound log"), 0);
    assert_eq!(log.tree().0, 0);
}

#[tokio::test]
async fn a_snapshot_goes_on_where_it_was_taken() {
    let mut log = fresh().await;
    log.apply(&[note(2, 5), note(3, 4)], &Generations::default()).expect("a sound log");
    let mut behind = fresh().await;
    behind.restore(log.to_snapshot()).expect("its own snapshot");
    for log in [&mut log, &mut behind] {
        assert_eq!(log.apply(&[note(2, 5), note(3, 6)], &Generations::default()).expect("a sound log"), 1);
    }
    assert_eq!((behind.tree(), behind.to_snapshot()), (log.tree(), log.to_snapshot()));
    let torn = ClusterLogV1 { leaves: 1, ..log.to_snapshot() };
    assert!(behind.restore(torn).is_err());
}
