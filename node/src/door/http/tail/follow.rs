//! Follows a question to the audit trail: page after page, and at the end again and again, until somebody stops.
//!
//! Nothing is told twice and nothing is skipped, because each page is asked for with the cursor of the one before. Groups
//! that do not answer are named; their entries come with a later page. The next page is asked for once the last is told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Interval;

use nethical_cluster::api::{EntryPage, EntryQuery, Governor};
use nethical_protocol::error::{Code, Problem};

use super::event::Event;
use crate::door::http::problem::Document;
use crate::door::{Stop, stopped};

/// How often what happens.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Between two questions where there is no more: an entry is told this much later at most. Each asks every group once.
    pub idle: Duration,
    /// Silence after which the reader is told that the tail is alive.
    pub beat: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { idle: Duration::from_millis(250), beat: Duration::from_secs(15) }
    }
}

type Asking = BoxFuture<'static, Result<EntryPage, Problem>>;

/// See the module. [`Follow::next`] may be dropped at any await; nothing is lost.
pub struct Follow {
    governor: Arc<dyn Governor>,
    /// With the cursor behind all that was asked for.
    query: EntryQuery,
    /// The request's id, for problems.
    correlation: String,
    /// Of the last page, not told yet.
    ready: VecDeque<Event>,
    /// The next page, once it is polled.
    asking: Asking,
    /// Groups that did not answer the last time.
    missing: Vec<u32>,
    pace: Pace,
    beat: Interval,
    stop: Stop,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

impl Follow {
    /// Asks for the first page, so that whoever is told that the tail is open misses nothing from then on.
    ///
    /// # Errors
    /// Those of the question.
    pub async fn begin(
        governor: Arc<dyn Governor>,
        query: EntryQuery,
        correlation: String,
        pace: Pace,
        stop: Stop,
        place: OwnedSemaphorePermit,
    ) -> Result<Self, Problem> {
        let page = governor.entries(query.clone()).await?;
        let mut beat = tokio::time::interval(pace.beat);
        beat.reset();
        let mut follow = Self {
            governor,
            query,
            correlation,
            ready: VecDeque::new(),
            asking: futures::future::pending().boxed(),
            missing: Vec::new(),
            pace,
            beat,
            stop,
            is_over: false,
            _place: place,
        };
        // Who loses the connection before anything comes must know where it began.
        if page.entries.is_empty() {
            follow.ready.push_back(Event::Alive { id: page.cursor.clone() });
        }
        follow.take(Ok(page));
        Ok(follow)
    }

    /// The next event; `None` where the tail is over.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if self.is_over && self.ready.is_empty() || *self.stop.borrow() {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                self.beat.reset();
                return Some(event);
            }
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return None,
                _ = self.beat.tick() => return self.query.cursor.clone().map(|id| Event::Alive { id }),
                answer = &mut self.asking => self.take(answer),
            }
        }
    }

    fn take(&mut self, answer: Result<EntryPage, Problem>) {
        let whole = answer.and_then(|page| match page.cursors.len() == page.entries.len() {
            true => Ok(page),
            false => Err(Problem::new(Code::Internal, "a page has entries without cursors")),
        });
        let page = match whole {
            Ok(page) => page,
            Err(problem) => {
                self.ready.push_back(Event::Problem(Box::new(Document::new(&problem, &self.correlation))));
                self.is_over = true;
                return;
            }
        };
        let entries = page.cursors.into_iter().zip(page.entries);
        self.ready.extend(entries.map(|(id, entry)| Event::Entry { id, entry: Box::new(entry) }));
        if page.incomplete != self.missing {
            self.missing.clone_from(&page.incomplete);
            self.ready.push_back(Event::Incomplete { id: page.cursor.clone(), groups: page.incomplete });
        }
        self.query.cursor = Some(page.cursor);
        self.query.from_end = false;
        self.asking = self.ask(if page.more { Duration::ZERO } else { self.pace.idle });
    }

    #[allow(clippy::disallowed_methods, reason = "the node's outermost layer waits for more to come")]
    fn ask(&self, wait: Duration) -> Asking {
        let (governor, query) = (self.governor.clone(), self.query.clone());
        async move {
            if !wait.is_zero() {
                tokio::time::sleep(wait).await;
            }
            governor.entries(query).await
        }
        .boxed()
    }
}

#[cfg(test)]
#[path = "follow/tests.rs"]
mod tests;
