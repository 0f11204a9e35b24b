//! Tests on folders laid out like a node's: every kind of damage is named, and only the true file mends it.

use nethical_audit::segment::{SegmentMeta, SegmentRules};
use nethical_protocol::ids::{GroupId, LogId};

use super::*;

const LOG: LogId = LogId { group: GroupId(3), era: 1 };

/// A node's folder with two closed segments whose bodies are `body`, and their manifest.
fn folder(body: u8) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    let audit = dir.path().join("audit/00003-1");
    std::fs::create_dir_all(&audit).expect("made");
    let mut manifest = Vec::new();
    for first in [0, 256] {
        let rules = SegmentRules { frame_raw_bytes: 2_000, segment_leaves: 256, ..SegmentRules::RELEASED };
        let meta = SegmentMeta { rules, ..SegmentMeta::new("demo", LOG, first) };
        let (mut writer, header) = SegmentWriter::create(meta);
        let mut bytes = header.to_vec();
        while !writer.is_full() {
            bytes.extend(writer.push(&writer.next_index().to_le_bytes(), &[body; 20]).unwrap_or_default());
        }
        let bodies = writer.body_roots().to_vec();
        let (rest, footer) = writer.close();
        bytes.extend(rest);
        std::fs::write(audit.join(meta.file_name()), bytes).expect("written");
        manifest.extend(SegmentSeal::of(meta, &footer, bodies).expect("full").encode());
    }
    std::fs::write(audit.join("manifest"), manifest).expect("written");
    dir
}

fn file(dir: &tempfile::TempDir, first: u64) -> PathBuf {
    dir.path().join("audit/00003-1").join(name(first))
}

#[tokio::test]
async fn damage_of_every_kind_is_named_and_mended_from_another_replica_to_the_byte() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 5] = [
        ("does not read", |path| std::fs::remove_file(path).expect("removed")),
        ("header", |path| flip(path, 20)),
        ("checksum", |path| flip(path, 3_000)),
        ("footer", |path| flip(path, std::fs::metadata(path).expect("there").len() as usize - 30)),
        ("footer", |path| {
            let bytes = std::fs::read(path).expect("reads");
            std::fs::write(path, &bytes[..bytes.len() / 2]).expect("cut short");
        }),
    ];
    for (why, harm) in harms {
        let (dir, other) = (folder(7), folder(7));
        assert!(check(dir.path(), &[], None).await.expect("it reads").ok);
        harm(&file(&dir, 256));
        let report = check(dir.path(), &[], None).await.expect("it reads");
        let damage = &report.damage[0];
        assert!(!report.ok && damage.why.contains(why), "{why}: {damage:?}");
        assert!((256..512).contains(&damage.first) && damage.last.is_some_and(|last| last < 512), "{damage:?}");
        let report = check(dir.path(), &[other.path().to_owned()], None).await.expect("it reads");
        assert!(report.ok && report.damage[0].repaired, "{why}: {report:?}");
        let read = |dir| std::fs::read(file(dir, 256)).expect("it is there");
        assert_eq!(read(&dir), read(&other), "{why}");
        assert!(check(dir.path(), &[], None).await.expect("it reads").damage.is_empty());
    }
}

#[tokio::test]
async fn a_source_with_other_bytes_is_not_taken() {
    let (dir, other) = (folder(7), folder(8));
    assert!(check(other.path(), &[], None).await.expect("it reads").ok, "sound in itself");
    flip(&file(&dir, 0), 3_000);
    let before = std::fs::read(file(&dir, 0)).expect("reads");
    let report = check(dir.path(), &[other.path().to_owned()], None).await.expect("it reads");
    assert!(!report.ok && !report.damage[0].repaired, "{report:?}");
    assert_eq!(std::fs::read(file(&dir, 0)).expect("reads"), before, "what is damaged stays as it is");
}

#[tokio::test]
async fn a_log_of_which_only_the_manifest_is_left_and_a_hole_without_a_seal_are_told() {
    let (dir, other) = (folder(7), folder(7));
    for first in [0, 256] {
        std::fs::remove_file(file(&dir, first)).expect("removed");
    }
    let report = check(dir.path(), &[], None).await.expect("it reads");
    assert_eq!((report.ok, report.damage.len(), report.sealed), (false, 2, 2));
    assert!(check(dir.path(), &[other.path().to_owned()], None).await.expect("it reads").ok);
    let audit = dir.path().join("audit/00003-1");
    std::fs::remove_file(audit.join("manifest")).expect("removed");
    std::fs::remove_file(file(&dir, 0)).expect("removed");
    let report = check(dir.path(), &[], None).await.expect("it reads");
    assert_eq!((report.damage[0].first, report.damage[0].last), (0, Some(255)), "{report:?}");
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("reads");
    bytes[at] ^= 1;
    std::fs::write(path, bytes).expect("written");
}
