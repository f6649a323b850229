//! Every bound of Tidewire: its number, its unit and its reason, in one place.
//!
//! A bound that a peer can reach has a test at the bound and one past it.
//! Sizes are bytes of UTF-8 unless the name says otherwise.

/// Largest inbound WebSocket frame. A larger one closes the socket with 4502.
pub const FRAME_BYTES: usize = 256 * 1024;

/// Largest outbound frame: frames near 1 MB have failed on hibernated sockets.
pub const FRAME_OUT_BYTES: usize = 900_000;

/// Messages in one inbound array, so that one frame cannot hold the object's thread for long.
pub const FRAME_MESSAGES: usize = 1_000;

/// What one turn may prepare to send: texts, and 4 bytes a receiver. A frame of 1,000 small
/// messages can ask for far more; what comes after that is put off, not done.
pub const TURN_OUT_BYTES: usize = 16 * 1024 * 1024;

/// A snapshot for a legacy client, which takes all its pages at once. A larger one is refused.
pub const LEGACY_SNAPSHOT_BYTES: usize = 32 * 1024 * 1024;

/// The rows that one `/broadcast-batch` makes, together: small updates of large rows add up.
pub const BATCH_ROWS_BYTES: usize = 32 * 1024 * 1024;

/// Rows that one turn may read for pages and for changes of topics, visible to their reader or not.
/// What comes after that is put off, or the channel is reset.
pub const TURN_ROWS: usize = 2 * PAGE_SCAN;

/// Rows that a snapshot for a legacy client may read, as it takes all its pages at once.
pub const LEGACY_SNAPSHOT_ROWS: usize = 100_000;

/// How long to wait after a mutation was put off for want of room in its turn.
pub const TURN_RETRY_MS: u64 = 1_000;

/// Nesting of objects and arrays in anything inbound, far below what any JSON parser on the
/// receiving side can follow.
pub const JSON_DEPTH: usize = 64;

/// Length of a channel's name.
pub const CHANNEL_BYTES: usize = 256;

/// Length of a row's key.
pub const KEY_BYTES: usize = 256;

/// Length of an encoded row, also after a merge.
pub const ROW_BYTES: usize = 256 * 1024;

/// Length of a request's `id` (subscriptions and mutations) and of an `Idempotency-Key`.
pub const ID_BYTES: usize = 128;

/// Length of a space's name.
pub const SPACE_BYTES: usize = 64;

/// Length of an identity.
pub const IDENTITY_BYTES: usize = 256;

/// Topics that a token may grant, and that an audience may name.
pub const TOPICS: usize = 64;

/// Length of all topics that a token grants, together. They live in the socket's attachment.
pub const TOPICS_BYTES: usize = 4 * 1024;

/// Length of one topic: `user:` and an identity.
pub const TOPIC_BYTES: usize = IDENTITY_BYTES + 5;

/// Length of a token, as header, query parameter, cookie or `auth` message.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// Length of the names of one connection's channels, together. They live in the attachment.
pub const SUBSCRIPTIONS_BYTES: usize = 8 * 1024;

/// Subscriptions of one connection: each costs up to three bytes of the attachment beside its
/// name.
pub const SUBSCRIPTIONS: usize = 256;

/// Length of a socket's attachment (the platform's own bound).
pub const ATTACHMENT_BYTES: usize = 16_384;

/// Sockets that one object accepts (the platform's own bound).
pub const CONNECTIONS: usize = 32_768;

/// Subscriptions of all connections of a space: each takes 100 to 300 bytes of memory.
pub const SUBSCRIPTIONS_OF_SPACE: usize = 200_000;

/// Sum of all attachments of an object: a quarter of an isolate's 128 MB. A socket is accepted
/// only while the largest attachment would still fit, and a subscription only while its name does.
pub const ATTACHMENTS_BYTES: usize = 32 * 1024 * 1024;

/// Rows and deleted keys on a page where the client names no `limit`.
pub const PAGE_DEFAULT: usize = 500;

/// Largest `limit` that a client may name.
pub const PAGE_MAX: usize = 1_000;

/// Rows that one page reads at most, visible to its reader or not, so that a page has a bounded
/// cost even where the reader may see next to nothing.
pub const PAGE_SCAN: usize = 10_000;

/// Length of an HTTP body. A larger one is 413.
pub const BODY_BYTES: usize = 8 * 1024 * 1024;

/// Changes in one `/broadcast-batch`.
pub const BATCH_CHANGES: usize = 1_000;

/// Topics kept in a row's `lost`; beyond it the oldest loss is dropped and the channel's floor
/// rises to it.
pub const LOST_TOPICS: usize = 256;

/// How long tombstones and losses are kept for those who are away: 7 days.
pub const RETENTION_MS: u64 = 7 * 24 * 60 * 60 * 1000;

/// Rows that one turn of trimming looks at, so that it holds the object's thread only shortly.
pub const SWEEP_ROWS: usize = 1_000;

/// The time between two steps of one round of trimming.
pub const SWEEP_STEP_MS: u64 = 1_000;

/// The alarm rings on whole minutes, so that many expiries cost one alarm.
pub const ALARM_GRAIN_MS: u64 = 60_000;

/// The shortest time between two rounds of trimming: an hour.
pub const SWEEP_PAUSE_MS: u64 = 60 * 60 * 1000;

/// How long a refused identity's earlier tokens stay refused: 30 days.
pub const REFUSAL_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// Rows that a change of topics may add to or take from one channel's subscriber; beyond it the
/// channel is reset.
pub const TOPIC_CHANGES: usize = 500;

/// Length of the reason given to `/disconnect`: a close frame carries 123 bytes.
pub const REASON_BYTES: usize = 123;

/// Largest integer that crosses JSON and SQLite's JavaScript binding unharmed: 2^53 - 1.
pub const SAFE_INTEGER: u64 = (1 << 53) - 1;

/// Length of `device` in `hello`.
pub const DEVICE_BYTES: usize = 128;
