//! The ledger: what replicas must agree on about agents, and how facts about an action are computed.
//!
//! Two halves, both pure. *State* (`ledger`, `quota`, `agent`, `behaviour`, `dedup`, `hold`, `quarantine`, `reservation`, `retention`, `risk`) changes only in
//! `Ledger::apply_entry(term, entry)`: integers, fixed order, no clock, no dice, no floats, no hash-map iteration.
//! *Facts* (`detect`, `entropy`, `flow`, `policy`) are computed by the agent's actor before a command is proposed, and travel inside it;
//! `redact` cuts what was found out of what is stored and sent.
//! Nothing here performs an effect.

pub mod agent;
pub mod approval;
pub mod behaviour;
pub mod canary;
pub mod command;
pub mod correlate;
pub mod dedup;
pub mod detect;
pub mod digest;
pub mod entropy;
pub mod flow;
pub mod hold;
pub mod ledger;
pub mod normalise;
pub mod outcome;
pub mod policy;
pub mod quarantine;
pub mod quota;
pub mod redact;
pub mod release;
pub mod reservation;
pub mod retention;
pub mod risk;
pub mod scores;
pub mod snapshot;
pub mod subject;
pub mod taxonomy;
