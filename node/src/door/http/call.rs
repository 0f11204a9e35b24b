//! One HTTP request as handlers see it, and one reply as they give it: bounded, decoded as far as text, nothing more.

use std::time::Duration;

use axum::body::Body;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::{FromRequestParts, Query, RawPathParams, Request};
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use serde::Serialize;
use serde::de::DeserializeOwned;

use nethical_protocol::error::{Code, Problem};
use nethical_protocol::limits::{JSON_DEPTH_MAX, REQUEST_ID_BYTES_MAX};

use super::{Door, Running};
use crate::door::{json, request_id};

/// Nesting around arguments and context: the batch, the item, `action`, `properties` and the like.
const ENVELOPE_DEPTH_MAX: usize = 8;

/// What a route takes as body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing; a body is ignored unread.
    Nothing,
    /// Nothing; where the client asks for it, the connection becomes a WebSocket.
    Socket,
    /// JSON within the door's bound.
    Json,
    /// Text of at most so many bytes.
    Text(usize),
}

/// One request.
pub struct Call {
    /// The door.
    pub door: Door,
    /// The client's X-Request-ID, or one made here; echoed in every response.
    pub correlation: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body as text; empty where the route takes none.
    pub body: String,
    /// Where the client asks for a WebSocket and the route has one.
    pub socket: Option<WebSocketUpgrade>,
    /// The node behind the door; nothing where no listener is.
    pub running: Option<Running>,
    uri: Uri,
    params: Vec<(String, String)>,
}

/// What a handler gives back.
pub type Handled = Result<Reply, Problem>;

/// A reply before it is a response.
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    content_type: &'static str,
    body: Vec<u8>,
    live: Option<Response>,
}

impl Reply {
    /// A JSON reply with status 200.
    pub fn json<T: Serialize>(value: &T) -> Handled {
        let body = serde_json::to_vec(value).map_err(|error| Problem::new(Code::Internal, error.to_string()))?;
        Ok(Self { status: StatusCode::OK, headers: Vec::new(), content_type: "application/json", body, live: None })
    }

    /// A text reply with status 200.
    pub fn text(content_type: &'static str, text: impl Into<Vec<u8>>) -> Self {
        Self { status: StatusCode::OK, headers: Vec::new(), content_type, body: text.into(), live: None }
    }

    /// A response that goes on for as long as it is read, as it is; headers may be added.
    pub fn live(response: Response) -> Self {
        Self { status: response.status(), live: Some(response), ..Self::text("", Vec::new()) }
    }

    /// What is sent.
    #[cfg(test)]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The same reply with another status.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same reply with one header more. Values that no header can carry are left out.
    pub fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let whole = |body| {
            let mut response = Response::new(Body::from(body));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            response
        };
        let mut response = self.live.unwrap_or_else(|| whole(self.body));
        *response.status_mut() = self.status;
        for (name, value) in self.headers {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

impl Call {
    /// Reads a request within the bounds of the door and the route.
    pub async fn read(door: Door, correlation: String, takes: Takes, request: Request) -> Result<Self, Problem> {
        let (mut parts, body) = request.into_parts();
        let params = path_params(&mut parts).await?;
        let socket = if takes == Takes::Socket { socket(&mut parts).await? } else { None };
        let running = parts.extensions.remove();
        let body = match takes {
            Takes::Nothing | Takes::Socket => String::new(),
            Takes::Text(bytes_max) => read_body(&parts, body, bytes_max, door.options.body_wait).await?,
            Takes::Json => {
                let text = read_body(&parts, body, door.options.body_bytes_max, door.options.body_wait).await?;
                if !text.is_empty() {
                    check_json_type(&parts.headers)?;
                }
                json::check_depth("the body", &text, JSON_DEPTH_MAX + ENVELOPE_DEPTH_MAX)?;
                text
            }
        };
        Ok(Self { door, correlation, headers: parts.headers, body, socket, running, uri: parts.uri, params })
    }

    /// A parameter of the path; the route names it.
    pub fn param(&self, name: &str) -> &str {
        self.params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).unwrap_or_default()
    }

    /// A parameter of the path, read.
    pub fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(&self, name: &str) -> Result<T, Problem> {
        let read = self.param(name).parse::<T>();
        read.map_err(|error| Problem::new(Code::MalformedRequest, format!("{name} in the path: {error}")))
    }

    /// The query.
    pub fn query<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        Query::<T>::try_from_uri(&self.uri)
            .map(|Query(query)| query)
            .map_err(|error| Problem::new(Code::MalformedRequest, error.body_text()))
    }

    /// The body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        serde_json::from_str(&self.body).map_err(|error| malformed(&error))
    }

    /// The body as JSON, or the default where there is no body.
    pub fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, Problem> {
        if self.body.trim().is_empty() { Ok(T::default()) } else { self.json() }
    }

    /// True where the client asks that statuses follow verdicts (`Prefer: status=strict`, RFC 7240).
    pub fn wants_strict_status(&self) -> bool {
        let values = self.headers.get_all("prefer").into_iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|value| value.split(',')).any(|preference| {
            let preference: String = preference.chars().filter(|c| !c.is_whitespace() && *c != '"').collect();
            preference.eq_ignore_ascii_case("status=strict")
        })
    }
}

/// The problem of a body that serde refused.
pub fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(Code::MalformedRequest, error.to_string())
}

/// The client's X-Request-ID where it is short and printable, else a fresh UUIDv7.
pub fn correlation_of(headers: &HeaderMap) -> String {
    let given = headers.get("x-request-id").and_then(|value| value.to_str().ok()).map(str::trim);
    match given.filter(|id| !id.is_empty() && id.len() <= REQUEST_ID_BYTES_MAX) {
        Some(id) => id.to_owned(),
        None => request_id::mint(),
    }
}

async fn path_params(parts: &mut Parts) -> Result<Vec<(String, String)>, Problem> {
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|error| Problem::new(Code::MalformedRequest, error.body_text()))?;
    Ok(params.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}

/// The WebSocket that the client asks for, if it does.
async fn socket(parts: &mut Parts) -> Result<Option<WebSocketUpgrade>, Problem> {
    let asked = parts.headers.get(UPGRADE).and_then(|value| value.to_str().ok());
    if !asked.is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("websocket")) {
        return Ok(None);
    }
    let upgrade = WebSocketUpgrade::from_request_parts(parts, &()).await;
    upgrade.map(Some).map_err(|error| Problem::new(Code::MalformedRequest, error.body_text()))
}

/// JSON, with or without a `+json` suffix; a missing header passes.
fn check_json_type(headers: &HeaderMap) -> Result<(), Problem> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    Err(Problem::new(Code::UnsupportedMediaType, format!("the content type is {essence:?}")))
}

async fn read_body(parts: &Parts, body: Body, bytes_max: usize, wait: Duration) -> Result<String, Problem> {
    let stated = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if stated.is_some_and(|bytes| bytes > bytes_max as u64) {
        return Err(too_large(bytes_max));
    }
    let read = tokio::time::timeout(wait, collect(body, bytes_max)).await;
    let bytes = read.map_err(|_| {
        Problem::new(Code::MalformedRequest, format!("the body did not arrive within {} ms", wait.as_millis()))
    })??;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem::new(Code::MalformedRequest, format!("the body is not UTF-8: byte {at} is not part of a character"))
    })
}

async fn collect(body: Body, bytes_max: usize) -> Result<Vec<u8>, Problem> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk =
            chunk.map_err(|error| Problem::new(Code::MalformedRequest, format!("the body broke off: {error}")))?;
        if bytes.len() + chunk.len() > bytes_max {
            return Err(too_large(bytes_max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn too_large(bytes_max: usize) -> Problem {
    Problem::new(Code::TooLarge, format!("the body has more than {bytes_max} bytes"))
}
