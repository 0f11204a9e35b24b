//! The HTTP door over a real loopback listener, spoken to byte by byte: routes, bad inputs, statuses, headers, bounds.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use nethical_cluster::world::Scope;
use nethical_protocol::error::{Code, Problem};

use super::routes::TABLE;
use super::{Door, Options, serve};
use crate::door::scripted::Scripted;

mod aggregates;
mod bounds;
mod control;
mod decisions;
mod quota;
mod tail;

/// A door on a free port with its scripted governor.
struct Rig {
    address: std::net::SocketAddr,
    script: Arc<Scripted>,
    stop: watch::Sender<bool>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

/// One response, read to its end.
#[derive(Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

impl Response {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks that this is a whole problem document and gives its code and request id.
    fn problem(&self) -> (String, String) {
        let document = self.json();
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        assert_eq!(document["status"], self.status, "{self:?}");
        let text = |name: &str| document[name].as_str().unwrap_or_else(|| panic!("no {name}: {self:?}")).to_owned();
        let registered = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity";
        let own = format!("urn:nethical:problem:{}", text("code"));
        let is_capacity = ["overloaded", "lease-unavailable"].contains(&text("code").as_str());
        assert_eq!(text("type"), if is_capacity { registered.to_owned() } else { own });
        for name in ["title", "detail", "class", "advice"] {
            assert!(!text(name).is_empty(), "{name}: {self:?}");
        }
        (text("code"), text("request_id"))
    }
}

async fn rig_with(script: Arc<Scripted>, options: Options) -> Rig {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let (stop, stopping) = watch::channel(false);
    let door = Door::new(script.clone(), options);
    let (router, options, scope) = (door.router(), door.options.clone(), Scope::new([7; 32]));
    let served = scope.spawn(serve(listener, router, options, scope.clone(), stopping));
    Rig { address, script, stop, served }
}

async fn rig(script: Arc<Scripted>) -> Rig {
    rig_with(script, Options::default()).await
}

impl Rig {
    /// Sends bytes as they are and reads until the door closes or the response is whole.
    async fn raw(&self, bytes: &[u8]) -> Response {
        let mut stream = TcpStream::connect(self.address).await.expect("the door listens");
        // A door that refuses early may close while we still write; its answer is what counts.
        let _ = stream.write_all(bytes).await;
        read_response(&mut stream).await
    }

    async fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        let mut head = format!("{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).await
    }

    async fn get(&self, path: &str) -> Response {
        self.send("GET", path, &[], b"").await
    }

    async fn post(&self, path: &str, body: &Value) -> Response {
        self.json("POST", path, body).await
    }

    async fn json(&self, method: &str, path: &str, body: &Value) -> Response {
        self.send(method, path, &[("content-type", "application/json")], body.to_string().as_bytes()).await
    }
}

/// Reads one response: by its length where it has one, else to the end of the connection.
async fn read_response(stream: &mut TcpStream) -> Response {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        if let Some(response) = parse(&bytes) {
            return response;
        }
        match stream.read(&mut chunk).await {
            Ok(0) | Err(_) => panic!("the connection ended inside the response: {:?}", String::from_utf8_lossy(&bytes)),
            Ok(count) => bytes.extend_from_slice(&chunk[..count]),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Response> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let mut lines = head.lines();
    let status = lines.next()?.split(' ').nth(1)?.parse().ok()?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    let length: usize = headers
        .iter()
        .find(|(name, _)| name == "content-length")
        .map_or(0, |(_, value)| value.parse().expect("length"));
    (body.len() >= length).then(|| Response { status, headers, body: body.to_owned() })
}

/// A flat action line under a client's id.
fn line(request_id: Option<&str>) -> Value {
    let mut line = json!({
        "tenant": "airline", "agent_id": "agent-1", "session": "s", "step": 1,
        "kind": "tool_call", "name": "search", "args": { "q": 1 }
    });
    if let Some(request_id) = request_id {
        line["request_id"] = request_id.into();
    }
    line
}
