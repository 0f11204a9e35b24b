//! Seeds on a disk that loses power: what was said to be kept is there, what was said to be destroyed is nowhere.

use futures::FutureExt;
use futures::future::BoxFuture;
use parking_lot::Mutex;
use rand::SeedableRng;
use rand_chacha::ChaCha12Rng;

use super::*;
use crate::world::memory::{DiskImage, MemoryDisk};

/// A keyring file of which only the seeds matter.
#[derive(Clone)]
struct File(Arc<Mutex<Keyring>>);

impl KeyringFile for File {
    fn drop_seed(&self, seed: KeyringSeed) -> BoxFuture<'static, io::Result<()>> {
        let mut held = self.0.lock();
        match seed {
            KeyringSeed::Zone => held.signing_seed = None,
            KeyringSeed::Own => held.cosigning_seed = None,
        }
        async { Ok(()) }.boxed()
    }
}

fn keyring() -> Keyring {
    let (signing_seed, cosigning_seed) = (Some([1; 32]), Some([11; 32]));
    Keyring { cluster: "demo".into(), ring_keys: [(1, [7; 32])].into(), signing_seed, cosigning_seed }
}

async fn open(disk: &MemoryDisk, file: &File) -> SigningSeeds {
    let mut keyring = file.0.lock().clone();
    let (disk, scope) = (Arc::new(disk.clone()), Scope::new([5; 32]));
    SigningSeeds::open(disk, scope, &mut keyring, Arc::new(file.clone())).await.expect("it opens")
}

async fn remembered(disk: &MemoryDisk, file: &File) -> Vec<Public> {
    let keyring = file.0.lock().clone();
    SigningSeeds::remembered(disk, &keyring).await.expect("it reads")
}

fn seed(generation: u32, term: u64, byte: u8) -> ZoneSeed {
    ZoneSeed { generation, term, seed: [byte; 32] }
}

fn public(byte: u8) -> Public {
    public_of(&[byte; 32])
}

#[tokio::test]
async fn a_zone_that_never_turned_its_key_writes_nothing_and_signs_by_the_keyring() {
    let (disk, file) = (MemoryDisk::new(), File(Arc::new(Mutex::new(keyring()))));
    let seeds = open(&disk, &file).await;
    assert_eq!((seeds.first(), seeds.first_own()), (Some(public(1)), Some(public(11))));
    assert_eq!(seeds.zone(&public(1)).map(|held| held.generation), Some(1));
    assert!(disk.list(DIR).await.expect("a folder").is_empty());
    assert_eq!(SigningSeeds::remembered(&disk, &keyring()).await.expect("it reads"), [public(1)]);
}

#[tokio::test]
async fn a_later_leaders_seed_takes_the_place_of_an_earlier_ones_and_never_the_other_way_round() {
    let (disk, file) = (MemoryDisk::new(), File(Arc::new(Mutex::new(keyring()))));
    let seeds = open(&disk, &file).await;
    seeds.put(seed(2, 4, 2)).await.expect("kept");
    seeds.put(seed(2, 5, 3)).await.expect("kept");
    assert!(seeds.put(seed(2, 4, 2)).await.is_err(), "an earlier leader's");
    seeds.put(seed(2, 5, 3)).await.expect("the same again");
    assert_eq!(seeds.made_in(2, 5).map(|held| held.seed), Some([3; 32]));
    assert_eq!((seeds.made_in(2, 4), seeds.zone(&public(2))), (None, None), "nothing piles up");
    let again = open(&disk.reincarnate(), &file).await;
    assert_eq!(again.zone(&public(3)), Some(seed(2, 5, 3)));
}

#[tokio::test]
async fn what_is_destroyed_is_in_no_slot_and_not_in_the_keyring_file() {
    let (disk, file) = (MemoryDisk::new(), File(Arc::new(Mutex::new(keyring()))));
    let seeds = open(&disk, &file).await;
    for kept in [seed(2, 4, 2), seed(3, 5, 3)] {
        seeds.put(kept).await.expect("kept");
    }
    seeds.put_own(OwnSeed { generation: 2, seed: [12; 32] }).await.expect("kept");
    let gone = seeds.destroy(|number, _| number < 3, |number, _| number < 2).await.expect("destroyed");
    assert!(gone && !seeds.destroy(|number, _| number < 3, |number, _| number < 2).await.expect("nothing left"));
    let left = remembered(&disk, &file).await;
    assert_eq!(left, [public(3), public(3)], "one in each slot");
    assert_eq!((seeds.first(), seeds.first_own(), seeds.own(&public(12)).is_some()), (None, None, true));
    assert_eq!(file.0.lock().cosigning_seed, None);
}

/// All disks that a power loss during the work could leave.
async fn cut_off(disk: &MemoryDisk, work: impl Future<Output = ()>) -> Vec<DiskImage> {
    let images = Arc::new(Mutex::new(Vec::new()));
    let kept = images.clone();
    disk.watch(move |image| kept.lock().push(image));
    work.await;
    disk.unwatch();
    images.lock().split_off(0)
}

#[tokio::test]
async fn a_power_loss_at_any_step_loses_nothing_that_was_kept_and_the_next_start_forgets_what_was_to_go() {
    let (disk, file) = (MemoryDisk::new(), File(Arc::new(Mutex::new(keyring()))));
    let seeds = open(&disk, &file).await;
    seeds.put(seed(2, 4, 2)).await.expect("kept");
    let turned = cut_off(&disk, async { seeds.put(seed(3, 5, 3)).await.expect("kept") }).await;
    let destroyed = cut_off(&disk, async {
        seeds.destroy(|number, _| number == 2, |_, _| false).await.expect("destroyed");
    });
    let destroyed = destroyed.await;
    assert!(turned.len() > 4 && destroyed.len() > 4, "the steps were seen");
    for (number, image) in
        turned.into_iter().map(|image| (2, image)).chain(destroyed.into_iter().map(|image| (3, image)))
    {
        for dice in 0..8 {
            let disk = MemoryDisk::from_image(image.clone());
            disk.crash(&mut ChaCha12Rng::seed_from_u64(dice));
            let disk = disk.reincarnate();
            let seeds = open(&disk, &file).await;
            assert!(seeds.zone(&public(number)).is_some(), "generation {number} was kept before the power went");
            // What a start holds is what both slots remember: nothing more is hidden in the older one.
            let left = remembered(&disk, &file).await;
            assert!(left.iter().all(|public| seeds.zone(public).is_some()), "a slot remembers more than is held");
        }
    }
}
