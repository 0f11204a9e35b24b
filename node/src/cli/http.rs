//! The HTTP door as administrators use it: one request, one JSON answer, and problems turned into exit codes.
//!
//! Nothing here retries: an administrator wants to know. Submission of actions goes through the SDK instead.

use std::time::Duration;

use anyhow::Context;
use reqwest::{Method, RequestBuilder, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use nethical_protocol::error::Class;

use crate::output::{Exit, Stop, stop};

/// Control changes wait for every partition; a little more than the server's own longest deadline.
const REQUEST_WAIT: Duration = Duration::from_secs(40);
const CONNECT_WAIT: Duration = Duration::from_secs(3);
/// Longer than anybody follows a stream.
const STREAM_WAIT: Duration = Duration::from_secs(10 * 365 * 86_400);

/// A node's HTTP door.
#[derive(Debug, Clone)]
pub struct Admin {
    client: reqwest::Client,
    base: Url,
    token: Option<String>,
}

impl Admin {
    /// Speaks to the door at `endpoint`; nothing is sent yet.
    pub fn new(endpoint: &str, token: Option<String>) -> anyhow::Result<Self> {
        let text = if endpoint.contains("://") { endpoint.to_owned() } else { format!("http://{endpoint}") };
        let base: Url = text.parse().map_err(|error| {
            stop(Exit::Usage, format!("{endpoint:?} is no endpoint ({error}); write http://127.0.0.1:8001"))
        })?;
        if base.scheme() != "http" || base.host_str().is_none() {
            let hint = "administration speaks http://host:port; put TLS in front where it leaves the machine";
            return Err(stop(Exit::Usage, format!("{endpoint:?}: {hint}")));
        }
        let client = reqwest::Client::builder()
            .connect_timeout(CONNECT_WAIT)
            .timeout(REQUEST_WAIT)
            .no_proxy()
            .build()
            .context("making the HTTP client")?;
        Ok(Self { client, base, token })
    }

    /// The door's address, as `host:port`.
    pub fn address(&self) -> String {
        let port = self.base.port_or_known_default().unwrap_or(80);
        format!("{}:{port}", self.base.host_str().unwrap_or("127.0.0.1"))
    }

    /// Starts a request to the path made of `segments` (each is escaped) with `query` pairs.
    pub fn request(&self, method: Method, segments: &[&str], query: &[(&str, String)]) -> Request {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.clear().extend(segments);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (*name, value.as_str())));
        }
        let mut builder = self.client.request(method, url);
        if let Some(token) = &self.token {
            builder = builder.bearer_auth(token);
        }
        Request { builder, address: self.address() }
    }

    /// A GET that gives JSON.
    pub async fn get<T: DeserializeOwned>(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<T> {
        self.request(Method::GET, segments, query).json().await
    }

    /// Sends JSON and gives JSON.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        body: &impl Serialize,
    ) -> anyhow::Result<T> {
        self.request(method, segments, &[]).body(body).json().await
    }
}

/// A body that goes on for as long as it is read.
#[derive(Debug)]
pub struct Stream {
    answer: reqwest::Response,
}

impl Stream {
    /// The next bytes; `None` at the end. The caller knows how long silence may last.
    pub async fn next(&mut self) -> Result<Option<bytes::Bytes>, reqwest::Error> {
        self.answer.chunk().await
    }
}

/// Why there is no stream.
#[derive(Debug)]
pub enum Unopened {
    /// Nobody answered.
    Unreachable(anyhow::Error),
    /// The node answered with this status.
    Refused(u16, anyhow::Error),
}

/// A request being built.
#[derive(Debug)]
pub struct Request {
    builder: RequestBuilder,
    address: String,
}

impl Request {
    /// With a JSON body.
    pub fn body(self, body: &impl Serialize) -> Self {
        Self { builder: self.builder.json(body), ..self }
    }

    /// With a plain text body.
    pub fn text_body(self, text: String) -> Self {
        Self { builder: self.builder.header("content-type", "text/plain; charset=utf-8").body(text), ..self }
    }

    /// With one header more.
    pub fn header(self, name: &'static str, value: &str) -> Self {
        Self { builder: self.builder.header(name, value), ..self }
    }

    /// Gives up after `wait` instead of the usual time.
    pub fn within(self, wait: Duration) -> Self {
        Self { builder: self.builder.timeout(wait), ..self }
    }

    /// Status and body, whatever the status.
    pub async fn raw(self) -> anyhow::Result<(u16, String)> {
        let answer = self.builder.send().await.map_err(|error| unreachable(&self.address, &error))?;
        let status = answer.status().as_u16();
        let text = answer.text().await.map_err(|error| unreachable(&self.address, &error))?;
        Ok((status, text))
    }

    /// The body of a success as it comes, for as long as it does.
    pub async fn open(self) -> Result<Stream, Unopened> {
        let (address, sent) = (self.address, self.builder.timeout(STREAM_WAIT).send());
        let late = || Unopened::Unreachable(anyhow::anyhow!("{address} did not answer in time"));
        let answer = tokio::time::timeout(REQUEST_WAIT, sent).await.map_err(|_| late())?;
        let answer = answer.map_err(|error| Unopened::Unreachable(unreachable(&address, &error)))?;
        let status = answer.status().as_u16();
        if (200..300).contains(&status) {
            return Ok(Stream { answer });
        }
        let text = answer.text().await.unwrap_or_default();
        Err(Unopened::Refused(status, refusal(status, &text)))
    }

    /// The bytes of a success; a problem becomes an error with its exit code.
    pub async fn bytes(self) -> anyhow::Result<Vec<u8>> {
        let answer = self.builder.send().await.map_err(|error| unreachable(&self.address, &error))?;
        let status = answer.status().as_u16();
        let bytes = answer.bytes().await.map_err(|error| unreachable(&self.address, &error))?;
        let is_success = (200..300).contains(&status);
        if is_success { Ok(bytes.to_vec()) } else { Err(refusal(status, &String::from_utf8_lossy(&bytes))) }
    }

    /// The body of a success; a problem becomes an error with its exit code.
    pub async fn text(self) -> anyhow::Result<String> {
        let (status, text) = self.raw().await?;
        if (200..300).contains(&status) { Ok(text) } else { Err(refusal(status, &text)) }
    }

    /// The JSON of a success, or of a decision that the status tells as denied.
    pub async fn decided(self) -> anyhow::Result<serde_json::Value> {
        let (status, text) = self.raw().await?;
        let value: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let is_answer = |value: &serde_json::Value| (200..300).contains(&status) || value["verdict"].is_string();
        value.filter(is_answer).ok_or_else(|| refusal(status, &text))
    }

    /// The JSON of a success.
    pub async fn json<T: DeserializeOwned>(self) -> anyhow::Result<T> {
        let text = self.text().await?;
        serde_json::from_str(&text)
            .with_context(|| format!("the node answered with JSON of another shape: {}", short(&text)))
    }
}

fn unreachable(address: &str, error: &reqwest::Error) -> anyhow::Error {
    if error.is_connect() {
        let hint = "is a node running there? Start one with `nethical dev`, or name another with --endpoint";
        return anyhow::anyhow!("no node answers at {address}: {hint}");
    }
    let message = format!(
        "{address} did not answer in time ({error}); it may have happened: look with `nethical status` before trying again"
    );
    stop(Exit::Unknown, message)
}

/// The parts of an RFC 9457 problem that commands use.
#[derive(Debug, Default, serde::Deserialize)]
#[serde(default)]
struct ProblemBody {
    code: String,
    title: String,
    detail: String,
    retry_after_ms: Option<u64>,
}

/// Turns a problem body into an error. Unknown outcomes exit with 4, refusals by authority or residency with 3.
pub fn refusal(status: u16, text: &str) -> anyhow::Error {
    let problem: ProblemBody = serde_json::from_str(text).unwrap_or_default();
    let code = nethical_protocol::error::Code::ALL.iter().find(|code| code.as_str() == problem.code);
    let exit = match code.map(|code| code.class()) {
        Some(Class::Unknown) => Exit::Unknown,
        Some(Class::Redirect) => Exit::Refused,
        Some(Class::Retry | Class::Broken) => Exit::Unhealthy,
        _ if status == 401 || status == 403 => Exit::Refused,
        _ => Exit::Failed,
    };
    let what = match (problem.detail.as_str(), problem.title.as_str()) {
        ("", "") => short(text),
        ("", title) => title.to_owned(),
        (detail, _) => detail.to_owned(),
    };
    let named = if problem.code.is_empty() { format!("HTTP {status}") } else { problem.code.clone() };
    let advice = code.map(|code| format!(" {}", code.advice())).unwrap_or_default();
    let wait = problem.retry_after_ms.map(|wait_ms| format!(" Retry in {wait_ms} ms.")).unwrap_or_default();
    let end = if what.ends_with(['.', '!', '?']) { "" } else { "." };
    let message = format!("{named}: {what}{end}{advice}{wait}");
    let code = Some(problem.code).filter(|code| !code.is_empty());
    Stop { exit, message, code, retry_after_ms: problem.retry_after_ms }.into()
}

fn short(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::output::exit_code;

    #[test]
    fn problems_become_exit_codes_and_advice() {
        for (status, body, exit) in [
            (504, r#"{"code":"outcome-unknown","detail":"gone"}"#, 4),
            (421, r#"{"code":"residency-redirect","detail":"elsewhere"}"#, 3),
            (503, r#"{"code":"no-quorum","detail":"alone","retry_after_ms":500}"#, 10),
            (404, r#"{"code":"unknown-tenant","detail":"no tenant x"}"#, 1),
            (401, "", 3),
            (500, "<html>", 1),
        ] {
            assert_eq!(exit_code(&refusal(status, body)), exit, "{body}");
        }
        let told = refusal(503, r#"{"code":"no-quorum","detail":"alone","retry_after_ms":500}"#).to_string();
        assert!(
            told.starts_with("no-quorum: alone.") && told.contains("majority") && told.ends_with("500 ms."),
            "{told}"
        );
    }

    #[test]
    fn names_are_escaped_into_the_path() {
        let admin = Admin::new("127.0.0.1:1", None).expect("an address");
        let request = admin.request(Method::GET, &["v1", "agents", "a/b", "c d?"], &[("x", "1&2".to_owned())]);
        let url = request.builder.build().expect("a request").url().to_string();
        assert_eq!(url, "http://127.0.0.1:1/v1/agents/a%2Fb/c%20d%3F?x=1%262");
    }

    #[test]
    fn other_schemes_are_usage_errors() {
        assert_eq!(exit_code(&Admin::new("ftp://x", None).expect_err("refused")), 2);
    }
}
