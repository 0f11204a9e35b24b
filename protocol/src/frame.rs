//! The envelope around everything that travels or is stored in rkyv: magic, version, kind, length, checksum, body.
//!
//! The five header fields are checked, in that order, before anybody looks at the body. rkyv bytes are not
//! self-describing (old bytes read as a newer type pass bytecheck and give garbage), so kind and version decide first.
//!
//! Layout, little endian, 20 bytes, then the body:
//! ```text
//! 0  magic    4   "NTHL"
//! 4  version  2   protocol version of the body's type
//! 6  kind     2   which type
//! 8  length   4   bytes of body
//! 12 number   4   correlates an answer with its request; 0 where there is none
//! 16 checksum 4   crc32c over bytes 0..16 and the body
//! ```

use crate::limits::FRAME_BYTES_MAX;

/// First bytes of every frame.
pub const MAGIC: [u8; 4] = *b"NTHL";
/// The version written by this release.
pub const VERSION: u16 = 1;
/// Bytes before the body.
pub const HEADER_BYTES: usize = 20;

/// A decoded header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// Which type the body has.
    pub kind: u16,
    /// Bytes of body that follow.
    pub length: usize,
    /// Correlates an answer with its request.
    pub number: u32,
    checksum: u32,
    covered: [u8; 16],
}

/// Why bytes are not a frame of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Not our magic.
    #[error("the bytes do not start with a nethical frame")]
    Magic,
    /// A version that this release does not speak.
    #[error("frame version {0} is not spoken here; this release speaks {VERSION}")]
    Version(u16),
    /// Longer than the bound.
    #[error("the frame's body has {0} bytes; at most {FRAME_BYTES_MAX} are accepted")]
    Length(usize),
    /// Bytes changed on the way.
    #[error("the frame's checksum does not match its bytes")]
    Checksum,
    /// Fewer bytes than the header promises.
    #[error("the frame is cut short")]
    Truncated,
}

/// Appends a frame to `out`. The body must fit [`FRAME_BYTES_MAX`]; senders bound what they build.
pub fn encode_into(out: &mut Vec<u8>, kind: u16, number: u32, body: &[u8]) {
    assert!(body.len() <= FRAME_BYTES_MAX, "a sender built a body over the frame bound");
    let start = out.len();
    out.reserve(HEADER_BYTES + body.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&number.to_le_bytes());
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&out[start..]), body);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(body);
}

/// A frame as its own vector.
pub fn encode(kind: u16, number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + body.len());
    encode_into(&mut out, kind, number, body);
    out
}

/// Reads a header: magic, then version, then length. The body is checked by [`check_body`].
pub fn decode_header(bytes: &[u8; HEADER_BYTES]) -> Result<FrameHeader, FrameError> {
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    if bytes[..4] != MAGIC {
        return Err(FrameError::Magic);
    }
    let version = u16::from_le_bytes([bytes[4], bytes[5]]);
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    let length = word(8) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::Length(length));
    }
    let mut covered = [0; 16];
    covered.copy_from_slice(&bytes[..16]);
    let kind = u16::from_le_bytes([bytes[6], bytes[7]]);
    Ok(FrameHeader { kind, length, number: word(12), checksum: word(16), covered })
}

/// Checks a body against its header.
pub fn check_body(header: &FrameHeader, body: &[u8]) -> Result<(), FrameError> {
    if body.len() != header.length {
        return Err(FrameError::Truncated);
    }
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&header.covered), body);
    if checksum != header.checksum { Err(FrameError::Checksum) } else { Ok(()) }
}

/// Reads one whole frame from the start of `bytes`; gives header, body and the bytes consumed.
pub fn decode(bytes: &[u8]) -> Result<(FrameHeader, &[u8], usize), FrameError> {
    let head: &[u8; HEADER_BYTES] = bytes.first_chunk().ok_or(FrameError::Truncated)?;
    let header = decode_header(head)?;
    let end = HEADER_BYTES + header.length;
    let body = bytes.get(HEADER_BYTES..end).ok_or(FrameError::Truncated)?;
    check_body(&header, body)?;
    Ok((header, body, end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_reads_back_and_its_bytes_are_pinned() {
        let bytes = encode(3, 7, b"abc");
        assert_eq!(hex::encode(&bytes[..16]), "4e54484c010003000300000007000000");
        let (header, body, end) = decode(&bytes).expect("own frame");
        assert_eq!((header.kind, header.number, body, end), (3, 7, &b"abc"[..], 23));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let bytes = encode(3, 7, b"some body");
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit} flipped and accepted");
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "cut at {cut} and accepted");
        }
    }
}
