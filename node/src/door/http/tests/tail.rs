//! Live tails through the door: server-sent events and WebSockets, resuming by cursor, the bound, and the end of the node.

use super::*;
use crate::door::scripted::entry;

/// A connection whose response goes on.
struct Open {
    stream: TcpStream,
    /// What came and was not looked at yet.
    bytes: Vec<u8>,
}

impl Open {
    async fn get(rig: &Rig, path: &str, headers: &str) -> Self {
        let mut stream = TcpStream::connect(rig.address).await.expect("the door listens");
        let head = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.expect("sent");
        Self { stream, bytes: Vec::new() }
    }

    /// Everything up to `end`, which is taken away too. `None` where the connection ends before.
    async fn up_to(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.bytes.windows(end.len()).position(|part| part == end) {
                let rest = self.bytes.split_off(at + end.len());
                let found = std::mem::replace(&mut self.bytes, rest);
                return Some(found[..at].to_vec());
            }
            self.more().await?;
        }
    }

    async fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.bytes.len() < count {
            self.more().await?;
        }
        let rest = self.bytes.split_off(count);
        Some(std::mem::replace(&mut self.bytes, rest))
    }

    async fn more(&mut self) -> Option<()> {
        let mut chunk = [0; 4096];
        let count = self.stream.read(&mut chunk).await.unwrap_or(0);
        self.bytes.extend_from_slice(&chunk[..count]);
        (count > 0).then_some(())
    }

    async fn head(&mut self) -> String {
        let head = self.up_to(b"\r\n\r\n").await.expect("a head");
        String::from_utf8(head).expect("text").to_lowercase()
    }

    /// The next chunk of a body in chunks: the door writes one for each event. `None` at the end.
    async fn event(&mut self) -> Option<String> {
        let size = self.up_to(b"\r\n").await.expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&size).expect("text"), 16).expect("hex");
        let chunk = self.exactly(size + 2).await.expect("a chunk");
        (size > 0).then(|| String::from_utf8_lossy(&chunk[..size]).into_owned())
    }

    /// The next frame of a server: opcode and payload, which is never masked.
    async fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let head = self.exactly(2).await?;
        assert_eq!(head[0] & 0xf0, 0x80, "whole messages");
        let size = match head[1] {
            126 => {
                let size = self.exactly(2).await?;
                usize::from(u16::from_be_bytes([size[0], size[1]]))
            }
            size => usize::from(size),
        };
        Some((head[0] & 0x0f, self.exactly(size).await?))
    }

    async fn message(&mut self) -> Value {
        let (opcode, payload) = self.frame().await.expect("a frame");
        assert_eq!(opcode, 1, "text");
        serde_json::from_slice(&payload).expect("JSON")
    }
}

const UPGRADE: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn told(at: u64) -> String {
    let data = serde_json::to_string(&entry(at)).expect("JSON");
    format!("id: c{}\nevent: entry\ndata: {data}\n\n", at + 1)
}

#[tokio::test]
async fn events_come_as_entries_do_and_a_reader_that_comes_back_misses_none_and_gets_none_twice() {
    let rig = rig(Scripted::deciding(vec![])).await;
    rig.script.append(3);
    let mut open = Open::get(&rig, "/v1/audit/tail?verdict=block", "").await;
    let head = open.head().await;
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    assert_eq!(open.event().await.as_deref(), Some(": alive\nid: c3\n\n"), "it begins now");
    rig.script.append(2);
    assert_eq!(open.event().await, Some(told(3)));
    drop(open);
    rig.script.append(2);
    let mut again = Open::get(&rig, "/v1/audit/tail?verdict=block&cursor=c1", "Last-Event-ID: c4\r\n").await;
    again.head().await;
    for at in 4..7 {
        assert_eq!(again.event().await, Some(told(at)), "the last event's id wins over the address");
    }
    let asked = rig.script.calls().pop().unwrap_or_default();
    assert!(asked.contains("verdict: Some(\"block\")") && asked.contains("order: Some(\"asc\")"), "{asked}");
    let mut from = Open::get(&rig, "/v1/audit/tail?from=2023-01-01T00:00:00Z", "").await;
    from.head().await;
    assert_eq!(from.event().await, Some(told(0)), "from a time on, what is there comes first");
}

#[tokio::test]
async fn silent_groups_are_an_event_of_their_own() {
    let rig = rig(Scripted::deciding(vec![])).await;
    rig.script.silence(vec![3, 5]);
    let mut open = Open::get(&rig, "/v1/audit/tail", "").await;
    open.head().await;
    open.event().await;
    assert_eq!(open.event().await.as_deref(), Some("id: c0\nevent: incomplete\ndata: {\"groups\":[3,5]}\n\n"));
}

#[tokio::test]
async fn a_websocket_gets_the_same_as_text_frames_and_is_answered_when_it_pings_and_closes() {
    let rig = rig(Scripted::deciding(vec![])).await;
    rig.script.append(1);
    let mut open = Open::get(&rig, "/v1/audit/tail?cursor=c0", UPGRADE).await;
    let head = open.head().await;
    assert!(head.starts_with("http/1.1 101") && head.contains("s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
    let entry_of = |at: u64| json!({ "event": "entry", "id": format!("c{}", at + 1), "data": entry(at) });
    assert_eq!(open.message().await, entry_of(0));
    // A text, which is ignored, and a ping with one byte; masked with zeroes.
    let said = [&[0x81, 0x82, 0, 0, 0, 0][..], b"hi", &[0x89, 0x81, 0, 0, 0, 0], b"p"].concat();
    open.stream.write_all(&said).await.expect("sent");
    assert_eq!(open.frame().await, Some((10, b"p".to_vec())), "a pong");
    rig.script.append(1);
    assert_eq!(open.message().await, entry_of(1));
    open.stream.write_all(&[0x88, 0x80, 0, 0, 0, 0]).await.expect("sent");
    assert_eq!(open.frame().await, Some((8, vec![])), "a close");
    assert_eq!(open.frame().await, None);
}

#[tokio::test]
async fn a_websocket_that_says_too_much_is_cut_off() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let mut open = Open::get(&rig, "/v1/audit/tail", UPGRADE).await;
    open.head().await;
    assert_eq!(open.message().await, json!({ "event": "alive", "id": "c0" }));
    // A text of 64 KiB is announced.
    let _ = open.stream.write_all(&[0x81, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]).await;
    while open.frame().await.is_some() {}
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_before_anything_is_open() {
    let rig = rig(Scripted::deciding(vec![])).await;
    for path in ["?order=desc", "?limit=3", "?agent=a", "?x=1", "?from=noon", "?cursor=rubbish"] {
        let response = rig.get(&format!("/v1/audit/tail{path}")).await;
        assert_eq!((response.status, response.problem().0.as_str()), (400, "malformed-request"), "{path}");
    }
    let mut foreign = Open::get(&rig, "/v1/audit/tail", &format!("{UPGRADE}origin: https://evil.example\r\n")).await;
    assert!(foreign.head().await.starts_with("http/1.1 401"));
    let mut keyless =
        Open::get(&rig, "/v1/audit/tail", "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n")
            .await;
    assert!(keyless.head().await.starts_with("http/1.1 400"));
    rig.script.refuse(Problem::new(Code::UnknownTenant, "none"));
    assert_eq!(rig.get("/v1/audit/tail?tenant=x").await.status, 404);
}

#[tokio::test]
async fn a_node_has_so_many_places_and_who_goes_leaves_one() {
    let rig = rig_with(Scripted::deciding(vec![]), Options { tails_max: 2, ..Options::default() }).await;
    let mut first = Open::get(&rig, "/v1/audit/tail", "").await;
    let mut second = Open::get(&rig, "/v1/audit/tail", UPGRADE).await;
    assert!(first.head().await.contains(" 200 ") && second.head().await.contains(" 101 "));
    let refused = rig.get("/v1/audit/tail").await;
    assert_eq!((refused.status, refused.problem().0.as_str()), (503, "overloaded"), "{refused:?}");
    for gone in [first, second] {
        drop(gone);
        // It is found out in a moment; until then its place is taken.
        let mut next = Open::get(&rig, "/v1/audit/tail", "").await;
        while next.head().await.contains(" 503 ") {
            next = Open::get(&rig, "/v1/audit/tail", "").await;
        }
        std::mem::forget(next);
    }
}

#[tokio::test]
async fn a_node_that_stops_ends_its_tails_and_is_not_held_up() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let mut events = Open::get(&rig, "/v1/audit/tail", "").await;
    let mut socket = Open::get(&rig, "/v1/audit/tail", UPGRADE).await;
    events.head().await;
    socket.head().await;
    assert!(events.event().await.is_some());
    assert_eq!(socket.message().await["event"], "alive");
    rig.stop.send_replace(true);
    assert_eq!(events.event().await, None, "a whole body");
    let (opcode, payload) = socket.frame().await.expect("a frame");
    assert_eq!((opcode, &payload[..2]), (8, &1001u16.to_be_bytes()[..]), "going away");
    rig.served.await.expect("no panic").expect("the door is closed");
}

#[tokio::test]
async fn the_admin_token_is_asked_for_at_both_doors() {
    let options = Options { admin_token: Some("secret".into()), ..Options::default() };
    let rig = rig_with(Scripted::deciding(vec![]), options).await;
    for headers in ["", UPGRADE] {
        let mut open = Open::get(&rig, "/v1/audit/tail", headers).await;
        assert!(open.head().await.starts_with("http/1.1 401"));
        let mut open = Open::get(&rig, "/v1/audit/tail", &format!("{headers}authorization: Bearer secret\r\n")).await;
        assert!(!open.head().await.starts_with("http/1.1 401"));
    }
}
