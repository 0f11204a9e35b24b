//! The frames that are not calls: the hello that opens a stream, and the answer that says that there is none.

use bytes::Bytes;

use nethical_protocol::frame;

use super::framing::Frame;
use crate::world::Lane;

/// First frame of every stream, from the side that opened it. Its body is one byte: the lane's number.
const KIND_HELLO: u16 = 0xFFFF;
/// In place of an answer: the call arrived and its answer cannot be sent. The body says why, for a person.
pub(super) const KIND_NO_ANSWER: u16 = 0xFFFE;

/// The hello of a lane.
pub(super) fn hello(lane: Lane) -> Bytes {
    frame::encode(KIND_HELLO, 0, &[number(lane)]).into()
}

/// The lane that a hello names.
pub(super) fn lane_of(frame: &Frame) -> Option<Lane> {
    match (frame.kind, &frame.body[..]) {
        (KIND_HELLO, [number]) => Lane::ALL.get(usize::from(*number)).copied(),
        _ => None,
    }
}

fn number(lane: Lane) -> u8 {
    match lane {
        Lane::Pulse => 0,
        Lane::Log => 1,
        Lane::Control => 2,
        Lane::Decide => 3,
        Lane::Bulk => 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_lane_reads_back_from_its_hello() {
        for lane in Lane::ALL {
            let bytes = hello(lane);
            let (header, body, _) = frame::decode(&bytes).expect("own frame");
            let frame = Frame { kind: header.kind, number: 0, body: Bytes::copy_from_slice(body) };
            assert_eq!(lane_of(&frame), Some(lane));
        }
        assert_eq!(lane_of(&Frame { kind: KIND_HELLO, number: 0, body: Bytes::from_static(&[5]) }), None);
        assert_eq!(lane_of(&Frame { kind: 1, number: 0, body: Bytes::from_static(&[1]) }), None);
    }
}
