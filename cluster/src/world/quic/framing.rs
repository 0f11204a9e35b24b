//! Bytes of a stream to frames, a block at a time: one read takes whatever has arrived, up to 64 KiB.
//!
//! Frames are checked by `protocol::frame`; the first bytes that are not one end the stream.

use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use nethical_protocol::frame::{self, FrameError, HEADER_BYTES};

/// Room that a read is given.
const READ_BYTES: usize = 64 * 1024;
/// Bodies up to this size are copied, so that a small one never keeps a whole block alive.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// A whole frame.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: u16,
    pub(super) number: u32,
    pub(super) body: Bytes,
}

/// Reads frames from a stream.
pub(super) struct FrameReader<R> {
    stream: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub(super) fn new(stream: R) -> Self {
        Self { stream, buffer: BytesMut::new() }
    }

    /// Waits for more bytes. False at the end of the stream.
    pub(super) async fn fill(&mut self) -> io::Result<bool> {
        self.buffer.reserve(self.room());
        Ok(self.stream.read_buf(&mut self.buffer).await? > 0)
    }

    /// The next frame of what has been read, or none where it is not whole yet.
    pub(super) fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let (header, end) = match frame::decode(&self.buffer) {
            Ok((header, _, end)) => (header, end),
            Err(FrameError::Truncated) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut whole = self.buffer.split_to(end);
        let body = match header.length <= COPIED_BYTES_MAX {
            true => Bytes::copy_from_slice(&whole[HEADER_BYTES..]),
            false => whole.split_off(HEADER_BYTES).freeze(),
        };
        Ok(Some(Frame { kind: header.kind, number: header.number, body }))
    }

    /// Room for what the frame at hand still lacks, but no more than doubles what has really arrived: a header alone
    /// does not make this node give memory away.
    fn room(&self) -> usize {
        let length = self.buffer.first_chunk::<HEADER_BYTES>().and_then(|head| frame::decode_header(head).ok());
        let missing = length.map_or(0, |header| (HEADER_BYTES + header.length).saturating_sub(self.buffer.len()));
        missing.min(self.buffer.len()).max(READ_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bytes: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let mut reader = FrameReader::new(bytes);
        let mut frames = Vec::new();
        while reader.fill().await.expect("memory reads") {
            while let Some(frame) = reader.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[tokio::test]
    async fn frames_of_all_sizes_read_back() {
        let sizes = [0, 1, 4096, 4097, 70_000, 3_000_000, 5];
        let mut bytes = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            frame::encode_into(&mut bytes, 9, number as u32, &vec![number as u8; *size]);
        }
        let frames = read(&bytes).await.expect("own frames");
        assert_eq!(frames.iter().map(|frame| frame.body.len()).collect::<Vec<_>>(), sizes);
        assert!(frames.iter().all(|frame| frame.body.iter().all(|byte| u32::from(*byte) == frame.number)));
    }

    #[tokio::test]
    async fn garbage_is_refused_as_soon_as_a_header_is_there() {
        assert_eq!(read(&[7; 20]).await, Err(FrameError::Magic));
        let mut long = frame::encode(1, 1, b"");
        long[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read(&long).await, Err(FrameError::Length(u32::MAX as usize)));
    }
}
