//! Every bound of the system, with its unit in its name and what it costs. Relations between bounds are const assertions.
//!
//! A bound that has to be configurable gets its default here. Nothing in here is computed at run time.

/// Slots per zone, for ever: an agent's slot is a pure function of its name.
pub const SLOTS: u16 = 4096;
/// Points that each node has on the ring. 256 give max/avg 1.06 and cost 45 KB at eleven nodes.
pub const RING_POINTS_PER_NODE: u32 = 256;

/// The largest HTTP body accepted unless the operator says otherwise.
pub const BODY_BYTES_DEFAULT: usize = 256 * 1024;
/// The largest HTTP body that an operator may allow.
pub const BODY_BYTES_MAX: usize = 1_000_000;
/// Actions in one batch request.
pub const BATCH_ACTIONS_MAX: usize = 1_000;
/// One action with all its text, after decoding.
pub const ACTION_BYTES_MAX: usize = 64 * 1024;
/// Names: tenant, agent, session, cohort, tool, resource type, region.
pub const NAME_BYTES_MAX: usize = 256;
/// A resource id, which may be a URL or a path.
pub const RESOURCE_BYTES_MAX: usize = 2_048;
/// A request id chosen by a client.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// Cost units that one action may name.
pub const COSTS_PER_ACTION_MAX: usize = 8;
/// Nesting of arguments and context; deeper JSON is refused before it is built.
pub const JSON_DEPTH_MAX: usize = 64;

/// One frame between nodes, or between a client and a node.
pub const FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// One Raft entry, so that a batch never fills a frame.
pub const ENTRY_BYTES_MAX: usize = 1024 * 1024;
/// Commands in one Raft entry.
pub const ENTRY_COMMANDS_MAX: usize = 256;
/// Entries of one group that are proposed and not yet applied.
pub const ENTRIES_IN_FLIGHT_MAX: usize = 4;
/// Recent entries kept in memory per node, so that replication does not read the disk.
pub const ENTRY_RING_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Commands waiting in one group's batcher; past it the door sheds.
pub const BATCHER_QUEUE_MAX: usize = 8_192;
/// Actions of one agent that may wait in front of its actor.
pub const AGENT_PENDING_MAX: usize = 64;
/// Agent actors alive in one group's leader (10–13 KB each); the least recently used idle one makes room.
pub const ACTORS_PER_GROUP_MAX: usize = 4_096;
/// An agent's actor that has had nothing to do for this long is passivated.
pub const ACTOR_IDLE_MS: u64 = 60_000;

/// How long a request may take when it does not say.
pub const DEADLINE_DEFAULT_MS: u64 = 5_000;
/// The longest deadline that a request may ask for.
pub const DEADLINE_MAX_MS: u64 = 30_000;
/// Times that an action is evaluated again because the agent changed between evaluation and apply.
pub const STALE_RETRIES_MAX: u32 = 3;

/// A client-chosen request id is remembered at most this long …
pub const IDEMPOTENCY_WINDOW_MS: u64 = 3_600_000;
/// … and at most this many per group (about 100 B each in memory, so 26 MB at the bound).
pub const IDEMPOTENCY_ENTRIES_MAX: usize = 262_144;
/// How far ahead of log time the time in a request id may be.
pub const REQUEST_AHEAD_MAX_MS: u64 = 60_000;
/// How long the SDK goes on retrying one request id. Must stay inside the window.
pub const CLIENT_RETRY_MS_MAX: u64 = 60_000;

/// Limits that one tenant may have.
pub const LIMITS_PER_TENANT_MAX: usize = 256;
/// Limits that may match one action.
pub const LIMITS_MATCHING_MAX: usize = 16;
/// Leases that a group keeps of either side (about 150 B each); above it none is granted.
pub const LEASES_MAX: usize = 65_536;
/// Leases that one leader asks for at once though nobody waits (a task of a few KB each); above it the next action asks.
pub const LEASES_ASKED_AHEAD_MAX: usize = 256;
/// Denials of an action in a row before a repeat may be answered from memory.
pub const DENIALS_BEFORE_MEMORY: u32 = 8;
/// Denials whose repeats one leader counts at once (about 60 B each); they are written down twice a second.
pub const REMEMBERED_DENIALS_MAX: usize = 4_096;
/// Counters and reservations that a node's auditor of limits adds up (up to 600 B and 100 B each); above them it begins anew.
pub const OVERSHOOT_COUNTERS_MAX: usize = 16_384;
/// See [`OVERSHOOT_COUNTERS_MAX`].
pub const OVERSHOOT_HOLDS_MAX: usize = 65_536;
/// Tenants whose agents a node correlates (about 180 KB each besides their agents); a silent one makes room.
pub const CORRELATE_TENANTS_MAX: usize = 64;
/// Agents of one tenant that are looked at together, those of the last quarter of an hour (about 190 B each).
pub const CORRELATE_AGENTS_MAX: usize = 4_096;
/// Cohorts of one tenant whose risk scores are held against a baseline (about 1.1 KB each); a silent one makes room.
pub const CORRELATE_COHORTS_MAX: usize = 64;
/// Deeds of new agents that are followed at once, a tenant (up to 430 B each).
pub const CORRELATE_DEEDS_MAX: usize = 256;
/// Agents that an alarm names.
pub const ALARM_AGENTS_MAX: usize = 8;
/// Alarms that a node remembers (about 300 B each); the oldest make room.
pub const ALARMS_MAX: usize = 1_024;
/// Counters of lifetime caps that one group keeps (about 90 B each, 24 MB at the bound); nothing ever sweeps them.
pub const LIFETIME_COUNTERS_MAX: usize = 262_144;
/// Reservations of one agent that live at once.
pub const RESERVATIONS_PER_AGENT_MAX: usize = 64;
/// Reservations of one group that live at once (up to 1.6 KB each, so 26 MB at the bound).
pub const RESERVATIONS_PER_GROUP_MAX: usize = 16_384;
/// How long a reservation may live.
pub const RESERVATION_TTL_S_MAX: u64 = 3_600;
/// Approvals of one agent that wait for a person at once; more would only be waved through.
pub const APPROVALS_PENDING_PER_AGENT_MAX: usize = 16;
/// Approvals that one agent may open in an hour of log time.
pub const APPROVALS_PER_AGENT_HOUR_MAX: usize = 64;
/// Approvals that one group remembers, ended ones among them (about 250 B each, so 4 MB at the bound).
pub const APPROVALS_PER_GROUP_MAX: usize = 16_384;
/// How long an approval lives where no rule says otherwise …
pub const APPROVAL_TTL_S_DEFAULT: u64 = 3_600;
/// … and at most.
pub const APPROVAL_TTL_S_MAX: u64 = 86_400;
/// How long an approval is remembered after its time, so that whoever comes late is told why.
pub const APPROVAL_KEPT_S: u64 = 3_600;
/// The reason that is sealed with a word on an approval.
pub const REASON_BYTES_MAX: usize = 1_024;
/// Approvals in one page of a list.
pub const APPROVALS_PAGE_MAX: usize = 200;
/// Hold-orders in force per zone.
pub const HOLDS_MAX: usize = 4_096;
/// Different approvers that a hold-order may need for its release …
pub const HOLD_APPROVERS_MAX: usize = 8;
/// … of so many names, if it names any (16 B each where an agent is held).
pub const HOLD_APPROVER_NAMES_MAX: usize = 16;
/// Tenants per zone in this release.
pub const TENANTS_MAX: usize = 10_000;
/// Tenants whose answers a node counts for their promises (up to 55 KB each, 56 MB at the bound); the longest idle one makes
/// room.
pub const SLA_TENANTS_MAX: usize = 1_024;
/// Tenants whose scores a node counts apart (about 600 B each); those beyond are counted in the zone's sum alone.
pub const SCORED_TENANTS_MAX: usize = 1_024;
/// Tenants in one page of promises (up to 12 KB each between nodes).
pub const SLA_PAGE_MAX: usize = 100;
/// Cells that the caller of an aggregate may name; each may be a name's length in the answer.
pub const AGGREGATE_CELLS_MAX: usize = 64;
/// Leaves of one group that one aggregate looks at (about 2 s of its leader's disk and processor).
pub const AGGREGATE_LEAVES_MAX: u64 = 200_000;
/// What an agent may be let add to the counts of one aggregate; the noise grows with it.
pub const AGGREGATE_PER_AGENT_MAX: u32 = 1_000;
/// An aggregate's window must have been over for this long: what was stamped inside it is applied everywhere by then.
pub const AGGREGATE_CLOSED_AFTER_MS: u64 = 10_000;
/// The least that an aggregate with noise may cost, in millionths of ε: a thousandth …
pub const EPSILON_MICROS_MIN: u64 = 1_000;
/// … and the most: ten, beyond which there is hardly any noise.
pub const EPSILON_MICROS_MAX: u64 = 10_000_000;
/// A policy bundle's text.
pub const POLICY_BYTES_MAX: usize = 512 * 1024;
/// Limits that one bundle may name in `context.quota`: each is one look at a counter for every action.
pub const POLICY_BANDS_MAX: usize = 16;
/// Bundles that a zone keeps …
pub const POLICY_BUNDLES_MAX: usize = 32;
/// … and bytes of all their texts; each node holds about twice that.
pub const POLICY_STORE_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Dictionaries for bodies that a zone keeps, of all its tenants: a body may need one for ever, so none gives way.
pub const DICTIONARIES_MAX: usize = 32;
/// Bytes of one.
pub const DICTIONARY_BYTES_MAX: usize = 256 * 1024;
/// Cuts that a decision's `transform` names (about 100 B each), so that a batch's answer fits a frame.
pub const TRANSFORM_SPANS_MAX: usize = 32;
/// A leaf: canonical header and outcome.
pub const LEAF_BYTES_MAX: usize = 1_024;
/// Reasons that an outcome carries.
pub const REASONS_MAX: usize = 8;

/// Wall clocks of a quorum may differ by this much before a node gives up leadership.
pub const CLOCK_ERROR_MS_MAX: u64 = 250;
/// A partition leader without confirmed contact to its control group for this long refuses decisions.
pub const REVOCATION_BOUND_MS: u64 = 10_000;
/// An idle leader stamps time at least this often while something is due.
pub const IDLE_TICK_MS: u64 = 1_000;

/// A log segment.
pub const WAL_SEGMENT_BYTES: u64 = 16 * 1024 * 1024;
/// Segments that one cold group may pin before it is snapshotted.
pub const WAL_PINNED_SEGMENTS_MAX: u64 = 4;
/// Log bytes of one group after which its ledger is snapshotted.
pub const SNAPSHOT_LOG_BYTES: u64 = 16 * 1024 * 1024;
/// One chunk of a snapshot on the wire.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1024 * 1024;
/// A snapshot in all, checked before memory is given to it.
pub const SNAPSHOT_BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Leaves in one audit segment; a power of two, so that a full segment is one subtree.
pub const SEGMENT_LEAVES_MAX: u64 = 65_536;
/// Raw bytes after which an audit segment is closed (at the next multiple of 256 leaves).
pub const SEGMENT_RAW_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Search indexes of audit segments that a node keeps in memory; what was used longest ago makes room. A hundred segments
/// take about 40 MB.
pub const INDEX_CACHE_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Entries in one page of an answer about the audit trail.
pub const SEARCH_PAGE_MAX: usize = 1_000;
/// Bytes of leaves and bodies in one replica's part of a page; one entry may still be larger.
pub const SEARCH_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Frames that one replica reads for one page (64 KiB each at most, so 16 MiB) …
pub const SEARCH_FRAMES_MAX: usize = 256;
/// … and segments whose indexes it looks into; then the page ends, and the next one goes on.
pub const SEARCH_SEGMENTS_MAX: usize = 1_024;
/// Bytes applied but not yet written to audit segments, per group; past it the door sheds.
pub const SEAL_LAG_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Agents and persons of one group whose bodies are sealed under keys of their own; some 120 B each in state and snapshot. Persons
/// are given keys only while less than half of it is taken.
pub const SUBJECTS_PER_GROUP_MAX: usize = 262_144;
/// Files of one group in the cold tier, some 250 B each in state and snapshot: four thousand million records of a full log.
pub const COLD_FILES_PER_GROUP_MAX: usize = 65_536;
/// Erasures that a zone remembers; some 150 B each.
pub const ERASURES_MAX: usize = 65_536;
/// How long two signing keys of a zone may sign side by side, seconds: a year.
pub const OVERLAP_S_MAX: u64 = 366 * 24 * 3_600;
/// How long they do where nobody says otherwise: a week, in which whoever verifies learns the new key.
pub const OVERLAP_S_DEFAULT: u64 = 7 * 24 * 3_600;
/// Ring keys of a group whose destruction is awaited at once; the next erasure then waits for the one before.
pub const RINGS_PAST_MAX: usize = 16;
/// Legal holds that a zone remembers, lifted ones included; some 150 B each in every partition.
pub const LEGAL_HOLDS_MAX: usize = 4_096;
/// Of those, as many may stand at once.
pub const LEGAL_HOLDS_STANDING_MAX: usize = 256;
/// The shortest time that bodies may be kept, seconds.
pub const RETENTION_S_MIN: u64 = 3_600;
/// The longest short of for ever: a hundred years of 366 days.
pub const RETENTION_S_MAX: u64 = 100 * 366 * 86_400;
/// What has expired stays on disk for so long, seconds of log time: a legal hold that was asked for in time may be late.
pub const RETENTION_GRACE_S: u64 = 3_600;
/// A person whom an action is about, as named in its context.
pub const DATA_SUBJECT_BYTES_MAX: usize = 256;

/// Bytes of what is looked for in texts.
pub const TEXT_QUERY_BYTES_MAX: usize = 256;
/// Words in it.
pub const TEXT_QUERY_WORDS_MAX: usize = 16;
/// Bytes of text indexes that a replica asks for one answer, about; one index may be larger.
pub const SEARCH_TEXT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Bodies that one question for a text opens before it says how far it came.
pub const TEXT_BODIES_MAX: usize = 4_096;

const _: () = {
    // The bundle in force, the one before, the canary, the shadow and a new one always have room.
    assert!(POLICY_BUNDLES_MAX >= 5 && POLICY_STORE_BYTES_MAX >= 5 * POLICY_BYTES_MAX);
    // An agent's approvals of the last hour are all remembered.
    assert!(APPROVAL_KEPT_S >= 3_600 && APPROVAL_TTL_S_DEFAULT <= APPROVAL_TTL_S_MAX);
    assert!(APPROVALS_PENDING_PER_AGENT_MAX <= APPROVALS_PER_AGENT_HOUR_MAX);
    assert!(DICTIONARY_BYTES_MAX * 2 < ENTRY_BYTES_MAX);
    assert!(BODY_BYTES_DEFAULT <= BODY_BYTES_MAX);
    assert!(BODY_BYTES_MAX < FRAME_BYTES_MAX);
    assert!(ACTION_BYTES_MAX < BODY_BYTES_DEFAULT);
    assert!(ACTION_BYTES_MAX * 2 < ENTRY_BYTES_MAX);
    assert!(ENTRY_BYTES_MAX * 2 < FRAME_BYTES_MAX);
    assert!(CLIENT_RETRY_MS_MAX < IDEMPOTENCY_WINDOW_MS);
    assert!(DEADLINE_DEFAULT_MS <= DEADLINE_MAX_MS);
    assert!(DEADLINE_MAX_MS < CLIENT_RETRY_MS_MAX);
    // Times of two groups may be apart by this much, and an entry may be on its way for as long as a request waits.
    assert!(AGGREGATE_CLOSED_AFTER_MS > 2 * CLOCK_ERROR_MS_MAX + DEADLINE_DEFAULT_MS);
    assert!(SLA_PAGE_MAX * 13 * 1024 < FRAME_BYTES_MAX);
    assert!(SEGMENT_LEAVES_MAX.is_power_of_two());
    assert!(SEARCH_BYTES_MAX + ENTRY_BYTES_MAX + SEARCH_PAGE_MAX * 64 < FRAME_BYTES_MAX);
    assert!(SNAPSHOT_CHUNK_BYTES < FRAME_BYTES_MAX);
    assert!(LEGAL_HOLDS_STANDING_MAX <= LEGAL_HOLDS_MAX);
    assert!(RETENTION_S_MIN <= RETENTION_S_MAX && RETENTION_S_MAX < u64::MAX / 1_000_000_000);
    assert!(SLOTS.is_power_of_two());
};
