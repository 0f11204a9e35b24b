//! The file format of the cold tier: one closed segment's leaves and opened bodies as an encrypted Parquet file.
//!
//! Bytes in, bytes out: no disk, no clock, no panic on bytes from outside. Leaves and bodies come back to the byte, and an analyst
//! reads the same file with SQL under its key (FORMATS.md section 4b). What is sealed here is only ever sealed under the file's
//! own key; who may have that key is decided elsewhere.
//!
//! Uniform Parquet Modular Encryption with an encrypted footer, AES-256-GCM: nobody without the key makes a byte of it that is
//! believed. Before anything that a file says is used, it has been opened under the key; before anything is allocated for it, it
//! was held against a bound. That is also why panics of the library on bytes that mean nothing are not caught: they would need
//! bytes that this code has sealed itself.

use thiserror::Error;

mod body;
mod column;
mod footer;
mod head;
mod leaf;
mod modules;
mod read;
mod row;
mod schema;
mod write;

pub use footer::{Footer, Tail, footer, footer_bytes};
pub use read::decode;
pub use write::encode;

/// Rows of a row group; the last one of a file may have fewer.
pub const GROUP_LEAVES: usize = 8_192;
/// So many bytes from the end of a file nearly always hold its footer.
pub const TAIL_BYTES: u64 = 64 * 1024;
/// Leaves of a file: those of a segment.
pub const LEAVES_MAX: u64 = nethical_protocol::limits::SEGMENT_LEAVES_MAX;
/// Bytes of all leaves and bodies in a file, bodies in the clear. A segment can hold more where its bodies pack well: whoever
/// writes a file leaves bodies sealed from there on. Whoever writes or reads a file holds a part of it in memory, at most about
/// twice as much.
pub const RAW_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Bytes of one body with its head, in the clear or as it is stored.
pub const RECORD_BYTES_MAX: u64 = nethical_audit::body::pack::UNPACKED_BYTES_MAX as u64 + 1024;
/// Bytes of a page after decompression: what is aimed at, and one batch of the longest values.
const PAGE_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// Bytes of a footer. A file of eight row groups has about 50 KB.
const FOOTER_BYTES_MAX: u64 = 1024 * 1024;
/// The layout of this release, and where a file says which one it has.
const LAYOUT: &str = "1";
const LAYOUT_KEY: &str = "nethical.cold";
/// Where a file says which leaf is its first.
const FIRST_INDEX_KEY: &str = "nethical.first_index";

/// What is stored of a record in a cold file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// Its body.
    pub body: Body,
}

/// A record's body in a cold file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// As it is stored in segments: none at all (empty), plain, what stays of a dropped one, or one that was left sealed.
    Stored(Vec<u8>),
    /// In the clear.
    Clear {
        /// What stood in front of the sealed one: form, generation, command id, person; 29 or 49 bytes.
        head: Vec<u8>,
        /// The opened body.
        plaintext: Vec<u8>,
    },
}

/// A leaf, and what the columns beside it hold of its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeafRow {
    /// The leaf's bytes.
    pub leaf: Vec<u8>,
    /// Its body, as far as it is there.
    pub body: HeadOrStored,
}

/// A body without the columns of bodies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HeadOrStored {
    /// All that is stored of it.
    Stored(Vec<u8>),
    /// What stood in front of one that is here in the clear.
    Head(Vec<u8>),
}

/// Why a file is not read or not written.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ColdError {
    /// Another key, or the footer was changed.
    #[error("the cold file's footer does not open under this key")]
    Key,
    /// A file of another release.
    #[error("the cold file's layout {0:?} is not known here")]
    Layout(String),
    /// Not what was written.
    #[error("the cold file is damaged: {0}")]
    Damaged(String),
    /// More than may be.
    #[error("the cold file has too much: {found} {what}, at most {most} may be")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How much there is.
        found: u64,
        /// How much there may be.
        most: u64,
    },
    /// A body in the clear whose head is not that of a sealed body.
    #[error("what should stand in front of a sealed body does not")]
    Head,
    /// The library does not write it.
    #[error("the cold file cannot be written: {0}")]
    Unwritten(String),
}

fn damaged(why: impl ToString) -> ColdError {
    ColdError::Damaged(why.to_string())
}

fn too_large(what: &'static str, found: u64, most: u64) -> Result<(), ColdError> {
    if found > most { Err(ColdError::TooLarge { what, found, most }) } else { Ok(()) }
}
