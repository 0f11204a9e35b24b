//! `nethical audit tail`: entries as they come, a line each, until Ctrl-C.
//!
//! Reads server-sent events. A connection that is lost is opened again behind the last entry that was printed, so that none
//! is missing and none comes twice; what a node refuses for good is not asked for again.

use std::time::Duration;

use anyhow::Context;
use clap::Args;
use reqwest::Method;

use super::EndpointArgs;
use super::query::FilterArgs;
use crate::cli::http::{self, Admin, Stream, Unopened};
use crate::output::{self, Format};

mod line;
mod sse;

use line::Printer;
use sse::{Message, Parser};

/// Examples for `--help`.
pub const EXAMPLES: &str = "Oldest first, from now on; --from begins earlier, --cursor where another tail ended. Ctrl-C ends it and says where \
    to go on. A lost connection is opened again behind the last entry: none is missing and none comes twice.\n\n\
    Examples:\n  nethical audit tail\n  nethical audit tail --tenant airline --verdict block\n  \
    nethical audit tail --from 2026-01-31T09:00:00Z -o json | jq -c .decision.reasons\n  \
    nethical audit tail --cursor AgHgd9NRq8KMyO28mvUYDAIDAwME...";

/// A node tells at least every 15 s that it is there.
const QUIET_MAX: Duration = Duration::from_secs(45);
/// Before the first attempt to open a lost connection again; each further one waits twice as long, up to …
const WAIT_MIN: Duration = Duration::from_millis(250);
/// … this.
const WAIT_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub struct TailArgs {
    #[command(flatten)]
    pub filter: FilterArgs,
    /// Go on where another tail, or a page of `audit query --order asc`, with the same filters ended.
    #[arg(long)]
    pub cursor: Option<String>,
    #[command(flatten)]
    pub endpoint: EndpointArgs,
}

/// A tail being followed.
struct Tail {
    admin: Admin,
    query: Vec<(&'static str, String)>,
    /// Behind all that was printed.
    cursor: Option<String>,
    printer: Printer,
}

/// Why a connection is over.
enum Ended {
    /// Nobody reads standard output any more.
    Unread,
    /// It was lost; why.
    Lost(String),
}

/// Carries the command out.
pub async fn run(args: TailArgs, format: Format) -> anyhow::Result<()> {
    let admin = args.endpoint.connect()?;
    let (query, cursor) = (args.filter.query(), args.cursor);
    let mut tail = Tail { admin, query, cursor, printer: Printer::new(format, output::width()) };
    let ended = tokio::select! {
        ended = tail.run() => ended,
        interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C"),
    };
    if let Some(cursor) = &tail.cursor {
        output::remark(&format!("to go on, with the same filters: --cursor {cursor}"));
    }
    ended
}

impl Tail {
    async fn run(&mut self) -> anyhow::Result<()> {
        let (mut wait, mut has_begun) = (WAIT_MIN, false);
        loop {
            let why = match self.open().await {
                Ok(stream) => {
                    output::remark(&format!("following at {}", self.admin.address()));
                    (wait, has_begun) = (WAIT_MIN, true);
                    match self.read(stream).await? {
                        Ended::Unread => return Ok(()),
                        Ended::Lost(why) => why,
                    }
                }
                Err(Unopened::Unreachable(error) | Unopened::Refused(_, error)) if !has_begun => return Err(error),
                Err(Unopened::Refused(400..500, error)) => return Err(error),
                Err(Unopened::Unreachable(error) | Unopened::Refused(_, error)) => format!("{error:#}"),
            };
            output::remark(&format!("{why}; trying again in {} ms", wait.as_millis()));
            pause(wait).await;
            wait = (wait * 2).min(WAIT_MAX);
        }
    }

    async fn open(&self) -> Result<Stream, Unopened> {
        let request = self.admin.request(Method::GET, &["v1", "audit", "tail"], &self.query);
        match &self.cursor {
            Some(cursor) => request.header("last-event-id", cursor),
            None => request,
        }
        .open()
        .await
    }

    async fn read(&mut self, mut stream: Stream) -> anyhow::Result<Ended> {
        let mut parser = Parser::default();
        loop {
            let bytes = match tokio::time::timeout(QUIET_MAX, stream.next()).await {
                Ok(Ok(Some(bytes))) => bytes,
                Ok(Ok(None)) => return Ok(Ended::Lost("the node has ended the tail".to_owned())),
                Ok(Err(error)) => return Ok(Ended::Lost(format!("the connection is lost ({error})"))),
                Err(_) => return Ok(Ended::Lost(format!("nothing was heard for {} s", QUIET_MAX.as_secs()))),
            };
            for message in parser.feed(&bytes)? {
                if let Some(ended) = self.take(message)? {
                    return Ok(ended);
                }
            }
        }
    }

    /// Prints an event and moves the cursor behind it.
    fn take(&mut self, message: Message) -> anyhow::Result<Option<Ended>> {
        match message.event.as_str() {
            "entry" if !self.printer.print(&message.data)? => return Ok(Some(Ended::Unread)),
            "incomplete" => output::remark(&incomplete(&message.data)),
            "problem" => return problem(&message.data).map(Some),
            // Where it begins or is; and what later releases may say.
            _ => {}
        }
        if let Some(id) = message.id {
            self.cursor = Some(id);
        }
        Ok(None)
    }
}

#[allow(clippy::disallowed_methods, reason = "the command line waits before it asks again")]
async fn pause(wait: Duration) {
    tokio::time::sleep(wait).await;
}

#[derive(Default, serde::Deserialize)]
#[serde(default)]
struct Incomplete {
    groups: Vec<u32>,
}

fn incomplete(data: &str) -> String {
    let Incomplete { groups } = serde_json::from_str(data).unwrap_or_default();
    match groups.is_empty() {
        true => "all groups answer again".to_owned(),
        false => format!("no replica of groups {groups:?} answers: their entries come once one does"),
    }
}

/// What the node says is the end: for good, or until it is asked again.
fn problem(data: &str) -> anyhow::Result<Ended> {
    #[derive(serde::Deserialize)]
    struct Status {
        status: u16,
    }
    let status = serde_json::from_str(data).map_or(500, |Status { status }| status);
    let refusal = http::refusal(status, data);
    if (400..500).contains(&status) { Err(refusal) } else { Ok(Ended::Lost(format!("{refusal:#}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_ends_the_tail_and_trouble_does_not() {
        assert!(problem(r#"{"status":404,"code":"unknown-tenant","detail":"no tenant x"}"#).is_err());
        assert!(matches!(problem(r#"{"status":500,"code":"internal"}"#), Ok(Ended::Lost(_))));
        assert!(matches!(problem("rubbish"), Ok(Ended::Lost(_))));
    }

    #[test]
    fn silent_groups_are_named_and_so_is_their_return() {
        assert!(incomplete(r#"{"groups":[3,7]}"#).contains("[3, 7]"));
        assert_eq!(incomplete(r#"{"groups":[]}"#), "all groups answer again");
    }
}
