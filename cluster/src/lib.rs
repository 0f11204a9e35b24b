//! The sentence from route to reply: **route → actor → propose → replicate → apply → reply**, over the world traits.
//!
//! Reads no argv, no environment, no clock and no dice but through [`world`]. Doors call [`api::Governor`]; nothing
//! here calls back into a door.

// The steps of the sentence.
pub mod actor;
pub mod alarms;
pub mod answer;
pub mod apply;
pub mod ask;
pub mod decide;
pub mod lead;
pub mod lease;
pub mod legal;
pub mod local;
pub mod propose;
pub mod replicate;

// What stands around them.
pub mod administer;
pub mod aggregate;
pub mod api;
pub mod approvals;
pub mod body;
pub mod bundles;
pub mod canary;
pub mod cluster_log;
pub mod cold;
pub mod contact;
pub mod control;
pub mod dictionaries;
pub mod drift;
pub mod erase;
pub mod fsck;
pub mod governor;
pub mod identity;
pub mod inspect;
pub mod message;
pub mod meta;
pub mod node;
pub mod opening;
pub mod overshoot;
pub mod prepared;
pub mod publish;
pub mod query;
pub mod redact;
pub mod repeats;
pub mod replay;
pub mod replica;
pub mod retention;
pub mod review;
pub mod ringkeys;
pub mod rules;
pub mod scores;
pub mod sealing;
pub mod seeds;
pub mod service;
pub mod settle;
pub mod shadow;
pub mod shared;
pub mod signing;
pub mod sla;
pub mod slots;
pub mod start;
pub mod store;
pub mod supervise;
pub mod text;
pub mod tier;
pub mod timekeeper;
pub mod trail;
pub mod wal;
pub mod witness;
pub mod world;
