//! **Door**: the first word of the sentence. Takes bytes from outside, decodes and bounds them, hands actions on and
//! carries the answer back. HTTP and QUIC differ in bytes only; [`submit`] is common to both.
//!
//! A door knows [`nethical_cluster::api::Governor`] and nothing below it. It never decides anything, never panics on
//! what it reads, and keeps nothing between two requests but counters.

pub mod http;
pub mod quic;
pub mod request_id;
pub mod submit;

mod json;

#[cfg(test)]
pub(crate) mod scripted;
#[cfg(test)]
mod tests;

/// Turns true when the process wants to stop: doors take no new work, finish what they have, and return.
pub type Stop = tokio::sync::watch::Receiver<bool>;

/// Completes when the process wants to stop, also where nobody is left to say so.
pub async fn stopped(stop: &mut Stop) {
    let _ = stop.wait_for(|stopping| *stopping).await;
}
