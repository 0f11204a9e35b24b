//! Why a call to a node brought no decisions, told apart by what the caller may do next.

use nethical_protocol::error::Problem;

/// The three ways in which a call fails.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// It never left: nothing happened. Safe to send again, here or at any other node, under any request id.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It left and no answer came: it may have happened. Ask again with the same request ids, never with new ones.
    #[error("no answer: {0}")]
    Lost(String),
    /// A node answered with a problem for the call as a whole. Its code's class says what may have happened.
    #[error("{0}")]
    Refused(Problem),
}
