//! Where in the code a seed may strike: places at which a machine is held up or loses its power, and unusual ways to go.
//! Names only; the code says what they mean there. Plans are drawn by position, so new ones change what seeds draw.

/// Places of the code where a machine may be held up or lose its power.
pub const PLACES: [&str; 22] = [
    "wal.sync.before",
    "wal.sync.after",
    "vote.before",
    "vote.after",
    "append.acknowledge",
    "append.acknowledged",
    "apply.reply",
    "propose.before",
    "reply.before",
    "lead.begin",
    "actor.passivate",
    "snapshot.write",
    "snapshot.rename",
    "snapshot.written",
    "snapshot.install",
    "seal.before",
    "seal.ending",
    "seal.after",
    "ring.made",
    "ring.held",
    "ring.rewrapped",
    "ring.destroyed",
];

/// Unusual but permitted ways of the code.
pub const BUGGIFIED: [&str; 13] = [
    "wal.switch-early",
    "wal.batch-of-one",
    "log.read-disk",
    "snapshot.small-chunk",
    "snapshot.early",
    "seal.one-record",
    "seal.fetch-one",
    "actor.passivate-at-once",
    "actor.stale-version",
    "propose.one-command",
    "decide.repeat-answered",
    "forward.no-hint",
    "repair.other-bytes",
];
