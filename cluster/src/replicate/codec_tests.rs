//! Messages read back, payloads are slices, and rubbish is an error.

use super::*;

#[test]
fn an_append_reads_back_and_its_payload_is_not_copied() {
    let payload = EntryPayload::Normal(Payload(Bytes::from_static(b"some bytes of an entry")));
    let membership =
        Membership::new(vec![BTreeSet::from([1, 2])], BTreeMap::from([(1, Site { node: 1 }), (2, Site { node: 2 })]))
            .expect("membership");
    let entries = vec![
        Entry { log_id: log_id(3, 7), payload },
        Entry { log_id: log_id(3, 8), payload: EntryPayload::Blank },
        Entry { log_id: log_id(3, 9), payload: EntryPayload::Membership(membership) },
    ];
    let request =
        AppendEntriesRequest { vote: vote(3, 2, true), prev_log_id: Some(log_id(2, 6)), entries, leader_commit: None };
    let bytes = encode_append(5, 99, &request);
    let (group, target, read) = decode_append(&bytes).expect("own bytes");
    assert_eq!((group, target), (5, 99));
    assert_eq!((read.vote, read.prev_log_id, read.leader_commit), (request.vote, request.prev_log_id, None));
    assert_eq!(read.entries, request.entries);
    let EntryPayload::Normal(Payload(data)) = &read.entries[0].payload else { panic!("kind") };
    let range = bytes.as_ptr_range();
    assert!(range.contains(&data.as_ptr()), "the payload is a slice of the message");
}

#[test]
fn garbage_is_an_error_and_never_a_panic() {
    for length in 0..200usize {
        let bytes = Bytes::from((0..length).map(|n| (n * 37 + length) as u8).collect::<Vec<_>>());
        let _ = decode_append(&bytes);
        let _ = AskVoteV1::from_bytes(&bytes);
        let _ = ChunkV1::from_bytes(&bytes);
        assert!(decode_payload(9, bytes).is_err());
    }
}
