//! What a log publishes and where (c2sp.org/tlog-tiles): names of resources, and entry bundles. No hashes are made here.
//!
//! Tiles hold 256 hashes of one level; a bundle holds the leaves of one tile of level 0. What a tree has not filled yet
//! is published as a partial tile, whose width is in its name, so that nothing that has a name ever changes.

use nethical_protocol::limits::LEAF_BYTES_MAX;

use crate::checkpoint::parse_decimal;
use crate::tree::TILE_LEAVES;

/// Levels of tiles: eight levels of the tree each, and no tree has more than 64.
const LEVELS: u8 = 8;
/// Hashes in a full tile.
const WIDTH: u16 = TILE_LEAVES as u16;
/// In front of all path elements of a number but the last.
const MORE: char = 'x';
/// Path elements of the greatest index, 2^56.
const ELEMENTS_MAX: usize = 7;

const _: () = assert!(LEAF_BYTES_MAX <= u16::MAX as usize, "a bundle counts an entry's bytes in 16 bits");

/// Something that a log publishes, named by the path under its prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resource {
    /// `checkpoint`, the only one that changes.
    Checkpoint,
    /// `tile/<level>/<index>[.p/<width>]`, hashes one after another.
    Tile {
        /// 0 holds leaf hashes; each hash of another level is the root of a full tile below.
        level: u8,
        /// From 0, within the level.
        index: u64,
        /// Hashes in it, 1..=256.
        width: u16,
    },
    /// `tile/entries/<index>[.p/<width>]`, leaves with two bytes of length in front of each.
    Entries {
        /// Of the tile of level 0 with the same leaves.
        index: u64,
        /// Leaves in it, 1..=256.
        width: u16,
    },
}

impl Resource {
    /// Reads a path. `None` for all that no log publishes, also for what is written differently than [`Self::path`] does.
    pub fn parse(path: &str) -> Option<Self> {
        if path == "checkpoint" {
            return Some(Self::Checkpoint);
        }
        let (kind, place) = path.strip_prefix("tile/")?.split_once('/')?;
        let (index, width) = parse_place(place)?;
        let found = match kind {
            "entries" => Self::Entries { index, width },
            level => Self::Tile { level: parse_decimal(level)?.try_into().ok()?, index, width },
        };
        let exists = !matches!(found, Self::Tile { level: LEVELS.., .. });
        exists.then_some(found)
    }

    /// The path under the log's prefix.
    pub fn path(&self) -> String {
        match self {
            Self::Checkpoint => "checkpoint".to_owned(),
            Self::Tile { level, index, width } => format!("tile/{level}/{}", place(*index, *width)),
            Self::Entries { index, width } => format!("tile/entries/{}", place(*index, *width)),
        }
    }

    /// All that a verifier of the first `size` leaves needs beside their checkpoint: every full and partial tile, and the
    /// bundles.
    pub fn all(size: u64) -> impl Iterator<Item = Self> {
        let at_level = |level: u8, hashes: u64| {
            let full = (0..hashes / TILE_LEAVES).map(move |index| Self::Tile { level, index, width: WIDTH });
            let rest = (hashes % TILE_LEAVES) as u16;
            full.chain((rest > 0).then_some(Self::Tile { level, index: hashes / TILE_LEAVES, width: rest }))
        };
        let tiles = (0..LEVELS).flat_map(move |level| at_level(level, size >> (8 * u32::from(level))));
        let bundles = at_level(0, size).filter_map(|tile| match tile {
            Self::Tile { index, width, .. } => Some(Self::Entries { index, width }),
            _ => None,
        });
        tiles.chain(bundles)
    }

    /// Index of the first leaf below it, and how many leaves the log must have for it to be there.
    ///
    /// `None` where that is more than can be counted.
    pub fn leaves(&self) -> Option<(u64, u64)> {
        let (level, index, width) = match self {
            Self::Checkpoint => return Some((0, 0)),
            Self::Tile { level, index, width } => (*level, *index, *width),
            Self::Entries { index, width } => (0, *index, *width),
        };
        let below = 1u64.checked_shl(8 * u32::from(level))?;
        let first = index.checked_mul(TILE_LEAVES)?.checked_mul(below)?;
        Some((first, u64::from(width).checked_mul(below)?.checked_add(first)?))
    }
}

/// `x001/x234/067`, and `.p/<width>` behind it where the tile is not full.
fn place(index: u64, width: u16) -> String {
    let digits = index.to_string();
    let padded = format!("{}{digits}", "0".repeat((3 - digits.len() % 3) % 3));
    let elements: Vec<&str> = (0..padded.len() / 3).map(|at| &padded[3 * at..3 * at + 3]).collect();
    let (last, more) = elements.split_last().expect("a number has a digit");
    let mut path: String = more.iter().map(|element| format!("{MORE}{element}/")).collect();
    path += last;
    if width < WIDTH {
        path += &format!(".p/{width}");
    }
    path
}

fn parse_place(text: &str) -> Option<(u64, u16)> {
    let (number, width) = match text.split_once(".p/") {
        Some((number, width)) => {
            (number, parse_decimal(width)?.try_into().ok().filter(|width| (1..WIDTH).contains(width))?)
        }
        None => (text, WIDTH),
    };
    let elements: Vec<&str> = number.split('/').take(ELEMENTS_MAX + 1).collect();
    let (last, more) = elements.split_last()?;
    let mut digits = String::new();
    for element in more {
        digits += element.strip_prefix(MORE)?;
    }
    digits += last;
    if elements.len() > ELEMENTS_MAX || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let index = digits.parse().ok()?;
    // One name for each tile: no needless elements, no element of other than three digits.
    (place(index, width) == text).then_some((index, width))
}

/// Leaves one after another, each with its length in front (two bytes, big endian).
///
/// Leaves are bounded far below what two bytes count.
pub fn bundle<'a>(leaves: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for leaf in leaves {
        let length = u16::try_from(leaf.len()).expect("a leaf has at most 1 KiB");
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(leaf);
    }
    out
}

/// Takes a bundle apart; `None` where it is not one.
pub fn unbundle(mut bytes: &[u8]) -> Option<Vec<&[u8]>> {
    let mut leaves = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (leaf, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        leaves.push(leaf);
        bytes = rest;
    }
    bytes.is_empty().then_some(leaves)
}

#[cfg(test)]
#[path = "publish_tests.rs"]
mod tests;
