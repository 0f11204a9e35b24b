//! Names of published resources against the specification's examples and against each other; bundles.

use proptest::prelude::*;

use super::*;

fn tile(level: u8, index: u64, width: u16) -> Resource {
    Resource::Tile { level, index, width }
}

#[test]
fn names_are_those_of_the_specification() {
    for (path, resource) in [
        ("checkpoint", Resource::Checkpoint),
        ("tile/0/x001/x234/067", tile(0, 1_234_067, 256)),
        ("tile/1/000", tile(1, 0, 256)),
        ("tile/2/000.p/1", tile(2, 0, 1)),
        ("tile/0/273.p/112", tile(0, 273, 112)),
        ("tile/entries/x001/000", Resource::Entries { index: 1_000, width: 256 }),
        ("tile/entries/999.p/255", Resource::Entries { index: 999, width: 255 }),
    ] {
        assert_eq!(Resource::parse(path), Some(resource), "{path}");
        assert_eq!(resource.path(), path);
    }
}

#[test]
fn what_no_log_publishes_has_no_meaning() {
    for path in [
        "",
        "/checkpoint",
        "checkpoint/",
        "tile/0/0",
        "tile/0/0000",
        "tile/00/000",
        "tile/8/000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x001/02",
        "tile/0/000.p/0",
        "tile/0/000.p/256",
        "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/-1/000",
        "tile/0/+01",
        "tile/entries/",
        "tile/entries/x",
        "tile/0/x999/x999/x999/x999/x999/x999/x999/999",
        "tile/0/../000",
        "tile/0/000.p/1/2",
        "tile/0/\u{0661}00",
        "tile/é/000",
    ] {
        assert_eq!(Resource::parse(path), None, "{path}");
    }
}

#[test]
fn a_tree_of_seventy_thousand_leaves_publishes_what_the_specification_counts() {
    let all: Vec<Resource> = Resource::all(70_000).collect();
    let tiles = |level: u8, full: bool| {
        all.iter().filter(|found| matches!(found, Resource::Tile { level: l, width, .. } if *l == level && (*width == 256) == full)).count()
    };
    assert_eq!([tiles(0, true), tiles(0, false), tiles(1, true), tiles(1, false), tiles(2, true)], [273, 1, 1, 1, 0]);
    assert!(all.contains(&tile(0, 273, 112)) && all.contains(&tile(1, 1, 17)) && all.contains(&tile(2, 0, 1)));
    assert_eq!(all.iter().filter(|found| matches!(found, Resource::Entries { .. })).count(), 274);
    assert_eq!(Resource::all(0).count(), 0);
    assert_eq!(Resource::all(256).collect::<Vec<_>>()[..2], [tile(0, 0, 256), tile(1, 0, 1)]);
}

#[test]
fn a_tile_says_how_many_leaves_it_needs() {
    assert_eq!(tile(0, 2, 3).leaves(), Some((512, 515)));
    assert_eq!(tile(1, 1, 17).leaves(), Some((65_536, 65_536 + 17 * 256)));
    assert_eq!(tile(7, 1, 256).leaves(), None, "more than can be counted");
    assert_eq!(Resource::Entries { index: u64::MAX, width: 1 }.leaves(), None);
}

proptest! {
    #[test]
    fn every_resource_of_a_tree_has_one_name_and_fits_into_the_tree(size in 0u64..300_000) {
        for resource in Resource::all(size).step_by(97) {
            prop_assert_eq!(Resource::parse(&resource.path()), Some(resource));
            let (first, end) = resource.leaves().expect("small");
            prop_assert!(first < end && end <= size);
        }
    }

    #[test]
    fn arbitrary_paths_never_panic(path in "[\\PC/x0-9.p]{0,60}") {
        let _ = Resource::parse(&path);
        let _ = Resource::parse(&format!("tile/{path}")).and_then(|found| found.leaves());
    }

    #[test]
    fn bundles_read_back(leaves in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..1024), 0..20), cut in any::<usize>()) {
        let bytes = bundle(leaves.iter().map(Vec::as_slice));
        prop_assert_eq!(unbundle(&bytes), Some(leaves.iter().map(Vec::as_slice).collect::<Vec<_>>()));
        let cut = cut % (bytes.len() + 1);
        let _ = unbundle(&bytes[..cut]);
    }
}
