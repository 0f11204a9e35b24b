//! The Rust SDK: asks a cluster to decide actions, through any of its nodes, exactly once.
//!
//! Every action gets a request id of the client's own before it leaves, and keeps it through every retry at every
//! node; so a retry learns the recorded outcome and never causes a second one (SPEC G2). Nothing is decided here, and
//! no failure is ever read as leave to go ahead.
//!
//! ```no_run
//! # async fn example(actions: Vec<nethical_client::Action>) -> Result<(), Box<dyn std::error::Error>> {
//! use nethical_client::{Client, Protocol};
//!
//! let client = Client::builder()
//!     .endpoints(["http://127.0.0.1:8101", "http://127.0.0.1:8102"])
//!     .protocol(Protocol::Http)
//!     .build()?;
//! for answer in client.decide(actions).await {
//!     println!("{}: {:?}", answer.request_id, answer.result);
//! }
//! # Ok(()) }
//! ```

pub mod action;
mod client;
pub mod error;
pub mod http;
pub mod quic;
pub mod retry;

pub use client::{BuildError, Builder, Client, Protocol};
pub use error::ClientError;
pub use nethical_protocol::action::{Action, ActionKind, Cost};
pub use nethical_protocol::decision::{ActionOutcome, Decision, ItemAnswer, Settlement, Verdict};
pub use nethical_protocol::error::{Class, Code, Problem};
pub use nethical_protocol::ids::DecisionId;
