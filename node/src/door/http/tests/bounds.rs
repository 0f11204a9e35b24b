//! Bounds of the transport: sizes, times, methods, connections, stopping, HTTP/2.

use super::*;
use crate::door::scripted::decision;

#[tokio::test]
async fn unknown_paths_and_methods_are_problems() {
    let rig = rig(Scripted::deciding(vec![])).await;
    for path in ["/", "/v1", "/v1/decisions/", "/v2/decisions", "/v1/agents/t"] {
        let response = rig.get(path).await;
        assert_eq!((response.status, response.problem().0.as_str()), (404, "not-found"), "{path}");
    }
    for (method, path, allow) in
        [("GET", "/v1/decisions", "POST"), ("DELETE", "/livez", "GET,HEAD"), ("PATCH", "/v1/limits", "PUT")]
    {
        let response = rig.send(method, path, &[("x-request-id", "trace-9")], b"").await;
        assert_eq!(response.status, 405, "{response:?}");
        assert_eq!(response.problem(), ("method-not-allowed".into(), "trace-9".into()));
        let allowed = response.header("allow").unwrap_or_default();
        assert!(
            allowed.split(',').any(|method| allow.split(',').any(|expected| expected == method.trim())),
            "{allowed}"
        );
    }
}

#[tokio::test]
async fn every_route_of_the_table_is_routed() {
    let rig = rig(Scripted::deciding(vec![])).await;
    for route in TABLE {
        let path = route.path.replace("{decision_id}", "2.1.1").replace("{group}", "2");
        let path = path.replace("{*path}", "0/000").replace(['{', '}'], "");
        let response = rig.json(route.method.as_str(), &path, &json!({})).await;
        let missing = response.header("content-type") == Some("application/problem+json")
            && ["not-found", "method-not-allowed"].contains(&response.problem().0.as_str());
        assert!(!missing, "{} {path}: {response:?}", route.method);
    }
}

#[tokio::test]
async fn other_content_types_are_refused_and_none_is_taken_as_json() {
    let rig = rig(Scripted::deciding(vec![Ok(decision("")), Ok(decision(""))])).await;
    let body = line(None).to_string();
    for (content_type, status) in
        [("text/plain", 415), ("application/x-www-form-urlencoded", 415), ("application/cloudevents+json", 200)]
    {
        let response = rig.send("POST", "/v1/decisions", &[("content-type", content_type)], body.as_bytes()).await;
        assert_eq!(response.status, status, "{content_type}");
    }
    assert_eq!(rig.send("POST", "/v1/decisions", &[], body.as_bytes()).await.status, 200);
}

#[tokio::test]
async fn bodies_over_the_bound_are_refused_stated_or_not() {
    let rig = rig_with(Scripted::deciding(vec![]), Options { body_bytes_max: 1_000, ..Options::default() }).await;
    let stated = b"POST /v1/decisions HTTP/1.1\r\nhost: x\r\ncontent-length: 1001\r\n\r\n";
    assert_eq!(rig.raw(stated).await.problem().0, "too-large", "refused by the header alone");
    let mut chunked = b"POST /v1/decisions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    for _ in 0..11 {
        chunked.extend_from_slice(b"64\r\n");
        chunked.extend_from_slice(&[b' '; 100]);
        chunked.extend_from_slice(b"\r\n");
    }
    assert_eq!(rig.raw(&chunked).await.problem().0, "too-large", "refused while it streams");
}

#[tokio::test]
async fn clients_that_dawdle_are_let_go() {
    let wait = Duration::from_millis(100);
    let options = Options { header_wait: wait, body_wait: wait, ..Options::default() };
    let rig = rig_with(Scripted::deciding(vec![]), options).await;
    let body = b"POST /v1/decisions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{";
    assert_eq!(rig.raw(body).await.problem().0, "malformed-request");
    for beginning in [&b""[..], b"PRI * HT", b"GET /livez HTTP/1.1\r\nhost:"] {
        let mut stream = TcpStream::connect(rig.address).await.expect("the door listens");
        stream.write_all(beginning).await.expect("written");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(!rest.starts_with(b"HTTP/1.1 200"), "{:?}", String::from_utf8_lossy(&rest));
    }
}

#[tokio::test]
async fn garbage_is_no_http_and_the_door_lives_on() {
    let rig = rig(Scripted::deciding(vec![])).await;
    for garbage in [&b"\x16\x03\x01\x02\x00\x01\x00\x01"[..], b"NTHL\x01\x00\x01\x00", b"GET\r\n\r\n", &[0xff; 64]] {
        let mut stream = TcpStream::connect(rig.address).await.expect("the door listens");
        stream.write_all(garbage).await.expect("written");
        stream.shutdown().await.expect("half closed");
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.is_empty() || rest.starts_with(b"HTTP/1.1 400"), "{:?}", String::from_utf8_lossy(&rest));
    }
    assert_eq!(rig.get("/livez").await.status, 200);
}

#[tokio::test]
async fn connections_are_kept_and_bounded() {
    let rig = rig_with(Scripted::deciding(vec![]), Options { connections_max: 1, ..Options::default() }).await;
    let request = b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n";
    let mut first = TcpStream::connect(rig.address).await.expect("the door listens");
    for _ in 0..3 {
        first.write_all(request).await.expect("written");
        assert_eq!(read_response(&mut first).await.status, 200, "one connection takes many requests");
    }
    let mut second = TcpStream::connect(rig.address).await.expect("in the backlog");
    second.write_all(request).await.expect("written");
    let waiting = tokio::time::timeout(Duration::from_millis(200), read_response(&mut second)).await;
    assert!(waiting.is_err(), "the second waits while the first is open");
    drop(first);
    assert_eq!(read_response(&mut second).await.status, 200);
}

#[tokio::test]
async fn a_stop_closes_idle_connections_and_ends_the_door() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let mut idle = TcpStream::connect(rig.address).await.expect("the door listens");
    idle.write_all(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("written");
    read_response(&mut idle).await;
    rig.stop.send(true).expect("the door listens");
    rig.served.await.expect("no panic").expect("an orderly end");
    assert_eq!(idle.read(&mut [0; 1]).await.expect("closed"), 0);
    assert!(TcpStream::connect(rig.address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn http2_with_prior_knowledge_is_spoken_on_the_same_port() {
    let rig = rig(Scripted::deciding(vec![])).await;
    let mut stream = TcpStream::connect(rig.address).await.expect("the door listens");
    // The preface and an empty SETTINGS frame; the server answers with its own SETTINGS (RFC 9113 §3.4).
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00").await.expect("written");
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.expect("a frame");
    assert_eq!(head[3], 4, "its type is SETTINGS");
}
