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

/// Frames that are handled in one go, because they came while others were being handled. They share a
/// commit; more would keep what else has come waiting.
pub const GATHERED_FRAMES: usize = 64;

/// Their texts together. Longer frames gain less from sharing. Also what a frame may send while the next need not
/// wait until that is on its way.
pub const GATHERED_BYTES: usize = 64 * 1024;

/// What one turn may prepare to send: texts, and 4 bytes a receiver. A frame of 1,000 small
/// messages can ask for far more; what comes after that is put off, not done.
pub const TURN_OUT_BYTES: usize = 16 * 1024 * 1024;

/// A snapshot for a legacy client, which takes all its pages at once. A larger one is refused.
pub const LEGACY_SNAPSHOT_BYTES: usize = 32 * 1024 * 1024;

/// The rows that one `/broadcast-batch` makes, together: small updates of large rows add up.
pub const BATCH_ROWS_BYTES: usize = 32 * 1024 * 1024;

/// How many rows the pages of one turn may read, by their place in it: the first two any, those
/// before the 64th 1,000, those before the 1,024th 64. What comes after that is put off.
pub const TURN_PAGES: [(usize, usize); 3] = [(2, PAGE_SCAN), (64, 1_000), (1_024, 64)];

/// The same for what a change of topics looks at, channel by channel. A channel with more rows is
/// reset.
pub const TURN_LOOKS: [(usize, usize); 3] = [(4, PAGE_SCAN), (64, 1_000), (1_024, 64)];

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

/// Length of a row as it is sent: white space between its fields goes, more than that is refused
/// before anybody looks at the fields.
pub const DATA_BYTES: usize = 2 * ROW_BYTES;

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

/// Length of the name of a key in `PUBLISH_KEYS`.
pub const PUBLISHER_BYTES: usize = 64;

/// Length of a token, as header, query parameter, cookie or `auth` message.
pub const TOKEN_BYTES: usize = 8 * 1024;

/// How far an issuer's clock may be ahead of ours, for `nbf`. `exp` has no leeway: a session past
/// its end neither receives nor sends.
pub const TOKEN_LEEWAY_MS: u64 = 30_000;

/// Length of the key set that `JWKS_URL` answers.
pub const JWKS_BYTES: usize = 64 * 1024;

/// Keys in it.
pub const JWKS_KEYS: usize = 64;

/// How long a key set is taken as it is: 10 minutes. A key that its provider withdraws counts for
/// no longer.
pub const JWKS_FRESH_MS: u64 = 10 * 60 * 1000;

/// Base64url characters of the smallest RSA modulus that is taken: 2,048 bits.
pub const RSA_MODULUS_CHARS: usize = 342;

/// How long its keys hold while the provider cannot be reached: an hour.
pub const JWKS_STALE_MS: u64 = 60 * 60 * 1000;

/// The time between two questions for a key set, whatever keys tokens name: a minute.
pub const JWKS_PAUSE_MS: u64 = 60_000;

/// The same while no key set was ever seen: nobody can connect until then.
pub const JWKS_RETRY_MS: u64 = 5_000;

/// After how long whoever asked for the keys counts as gone, and another may ask. Longer than
/// [`AUTH_TIMEOUT_MS`]: it must have had the time to say that it failed.
pub const JWKS_ASKER_MS: u64 = AUTH_TIMEOUT_MS + 1_000;

/// How long a key set or an answer of the app's authentication endpoint may take.
pub const AUTH_TIMEOUT_MS: u64 = 5_000;

/// Length of what the app's authentication endpoint answers.
pub const AUTH_ANSWER_BYTES: usize = 16 * 1024;

/// Length of the `context` in it, as JSON. It lives in the socket's attachment.
pub const CONTEXT_BYTES: usize = 1024;

/// What a connection may send while its `auth` is being judged elsewhere: it waits, in order. One
/// that sends more is closed with 4008.
pub const HELD_BYTES: usize = 1024 * 1024;

/// The same for all connections of a space together.
pub const HELD_BYTES_OF_SPACE: usize = 8 * HELD_BYTES;

/// What a frame that waits takes beside its text.
pub const HELD_OVERHEAD: usize = 64;

/// Length of the names of one connection's channels, together. They live in the attachment.
pub const SUBSCRIPTIONS_BYTES: usize = 8 * 1024;

/// Subscriptions of one connection: each costs 2 to 10 bytes of the attachment beside its name.
pub const SUBSCRIPTIONS: usize = 1_024;

/// Length of a socket's attachment (the platform's own bound).
pub const ATTACHMENT_BYTES: usize = 16_384;

/// What the platform adds to the bytes of an attachment, rounded up.
pub const ATTACHMENT_OVERHEAD: usize = 32;

/// Length of the state that a connection shows in one channel, as JSON.
pub const STATE_BYTES: usize = 1024;

/// Length of the states of one connection's presence, together.
pub const PRESENCE_BYTES: usize = 2 * 1024;

/// Channels that one connection is present in or watches.
pub const PRESENCES: usize = 16;

/// What each of them takes of the attachment beside its state, at most.
pub const PRESENCE_OVERHEAD: usize = 8;

/// What of an attachment is kept free for presence: the states, and what tells whose they are.
pub const PRESENCE_ROOM: usize = PRESENCE_BYTES + PRESENCE_OVERHEAD * PRESENCES;

/// Members of a channel that one answer lists; `total` tells how many there are. With the longest
/// states and identities they still fit a frame, unless these are full of escapes.
pub const MEMBERS: usize = 500;

/// Length of a signal's data, as JSON: it is for moments, and goes to every subscriber.
pub const SIGNAL_BYTES: usize = 16 * 1024;

/// Sockets that one object accepts (the platform's own bound).
pub const CONNECTIONS: usize = 32_768;

/// Subscriptions of all connections of a space: each takes 100 to 300 bytes of memory.
pub const SUBSCRIPTIONS_OF_SPACE: usize = 200_000;

/// Sum of all attachments of an object: a quarter of an isolate's 128 MB. A socket is accepted
/// only while the largest attachment would still fit, and a subscription only while its name does.
pub const ATTACHMENTS_BYTES: usize = 32 * 1024 * 1024;

/// Readers over HTTP that wait or stream, of a space: each holds an open answer, and a change goes to
/// each by itself.
pub const READERS: usize = 1_000;

/// The same of one identity or address: a tenth.
pub const READERS_PER_IDENTITY: usize = READERS / 10;

/// How long a reader for whom there is no room is told to wait.
pub const READERS_RETRY_MS: u64 = 5_000;

/// How long `wait` may hold a reader, in seconds: below what proxies take for a hung request, and
/// below the 30 s after which a caller of the object gives up.
pub const WAIT_SECONDS: u64 = 25;

/// What may be on its way to a stream whose reader does not read: two frames. A slower one is ended,
/// and resumes by the id of its last event.
pub const STREAM_BYTES: usize = 2 * FRAME_OUT_BYTES;

/// Pages that are on their way to streams which do not read, together: the fullest are ended beyond it.
pub const STREAMS_BYTES: usize = 24 * 1024 * 1024;

/// How often an open answer is sent something that means nothing, in seconds: that a reader has gone is
/// noticed by writing alone. Nobody keeps a place for longer than two of these.
pub const PING_SECONDS: u64 = 10;

/// Rows and deleted keys on a page where the client names no `limit`.
pub const PAGE_DEFAULT: usize = 500;

/// Largest `limit` that a client may name.
pub const PAGE_MAX: usize = 1_000;

/// Rows that one page reads at most, visible to its reader or not, so that a page has a bounded
/// cost even where the reader may see next to nothing.
pub const PAGE_SCAN: usize = 10_000;

/// Length of an HTTP body. A larger one is 413.
pub const BODY_BYTES: usize = 8 * 1024 * 1024;

/// Length of a publisher's body that its object reads as it comes, which spares a publish a twentieth of its
/// CPU. A longer one is read before: while it comes, which may take long, it should hold no object. Also what is
/// held for a body that has not come yet, whatever length it claims.
pub const SHORT_BODY_BYTES: usize = 64 * 1024;

/// How long a body may take to come, and then an object to answer. A reset ends what it interrupts at once, see
/// `glue.js`; this is for whatever else may leave a request without an answer.
pub const DEADLINE_MS: u64 = 30_000;

/// Changes in one `/broadcast-batch`.
pub const BATCH_CHANGES: usize = 1_000;

/// Length of the topics of an audience, together: as many as a token may grant. They are read with
/// the row by everyone who asks for the channel.
pub const AUDIENCE_BYTES: usize = TOPICS_BYTES + TOPIC_BYTES;

/// Length of the topics in a row's `lost`, together; beyond it the oldest loss is dropped.
pub const LOST_BYTES: usize = 16 * 1024;

/// How many bytes of audience and losses cost as much to read as a row.
pub const ROW_COST_BYTES: usize = 1024;

/// Subscriptions of one identity or address in a space: a tenth of what the space has room for.
pub const SUBSCRIPTIONS_PER_IDENTITY: usize = SUBSCRIPTIONS_OF_SPACE / 10;

/// Attachments of one identity or address in a space, together: a quarter.
pub const ATTACHMENTS_PER_IDENTITY: usize = ATTACHMENTS_BYTES / 4;

/// What pages may bring one connection per second, over time. A client that asks and does not read
/// fills the memory of the object's machine.
pub const ANSWER_BYTES_PER_SECOND: u64 = 16 * 1024 * 1024;

/// What pages may bring it at once.
pub const ANSWER_BYTES_BURST: u64 = 64 * 1024 * 1024;

/// The shortest time between two questions for a channel's deltas by one client, over time.
pub const MIN_INTERVAL_MS: u32 = 100;

/// How many such questions may come at once: a client that is told to ask again need not wait.
pub const INTERVAL_BURST: u64 = 50;

/// Deltas of a space that are under way at once, see `lanes.rs`.
pub const MAX_CONCURRENT_DELTAS: u32 = 5;

/// What the smallest answer to a subscription counts, in microseconds of one lane: with five, 5,000
/// clients that have missed nothing are answered in a second.
pub const DELTA_LEAST_US: u64 = 1_000;

/// How far answers may be ahead of their reading: 5,000 small ones at once, or 80 MiB.
pub const DELTAS_AHEAD_MS: u64 = 1_000;

/// The shortest and the longest time that whoever comes when all lanes are taken is told to wait.
pub const DELTA_WAIT_LEAST_MS: u64 = 100;
/// See [`DELTA_WAIT_LEAST_MS`]: a minute.
pub const DELTA_WAIT_MOST_MS: u64 = 60_000;

/// How long a source may take to answer where its channel's rule does not say: 10 seconds.
pub const SOURCE_TIMEOUT_MS: u64 = 10_000;

/// The longest `timeout` of a source, in seconds: below the 30 s after which a caller of the object
/// gives up.
pub const SOURCE_TIMEOUT_SECONDS: u64 = 25;

/// How long whoever asked a source that did not answer in time is told to wait.
pub const SOURCE_RETRY_MS: u64 = 2_000;

/// How long a write that its source did not answer in time may still be answered: a minute after it
/// was asked. Until then nobody else writes that row; after it nobody knows what became of it.
pub const SOURCE_NEVER_MS: u64 = 60_000;

/// Questions to sources that are under way in a space at once: each holds a request of the object's.
pub const QUESTIONS: usize = 500;

/// Questions of one identity or address: a tenth.
pub const QUESTIONS_PER_IDENTITY: usize = QUESTIONS / 10;

/// What questions hold, together: texts of messages, rows, and requests with mutations that wait.
pub const QUESTIONS_BYTES: usize = 16 * 1024 * 1024;

/// What pages that sources were asked for may bring, together, as far as can be told: as much as the
/// channel's last one.
pub const FETCHES_BYTES: usize = 32 * 1024 * 1024;

/// What a page is taken for of a channel whose source has not answered yet.
pub const FETCH_BYTES: usize = 2 * 1024 * 1024;

/// What a page is taken for at least.
pub const FETCH_LEAST_BYTES: usize = 64 * 1024;

/// How long a request with mutations is worked on: its caller gives up after 30 s.
pub const WRITER_MS: u64 = 25_000;

/// The shortest time between two notices that a channel has changed outside: each has all its
/// subscribers ask.
pub const NOTICE_PAUSE_MS: u64 = 2_000;

/// How long what is left of an answer is kept for a reader that does not ask for it.
pub const LEFTOVER_MS: u64 = 30_000;

/// What a row of an answer takes beside its text, about.
pub const LEFTOVER_OVERHEAD: usize = 96;

/// Pages that a source is asked for, for a client that takes all at once.
pub const LEGACY_SNAPSHOT_PAGES: usize = 1_000;

/// How long whoever comes when there are so many is told to wait.
pub const QUESTIONS_RETRY_MS: u64 = 1_000;

/// Length of a source's own word for where its next page begins. It travels in the cursor.
pub const SOURCE_TOKEN_BYTES: usize = 512;

/// Length of what a source answers.
pub const SOURCE_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Rows and deleted keys in one answer of a source.
pub const SOURCE_ANSWER_ROWS: usize = 100_000;

/// Length of the message of a source's refusal, as its client is told it; longer ones are cut.
pub const SOURCE_MESSAGE_BYTES: usize = 500;

/// What is left of answers that did not fit a page, kept until its reader asks for more: of all
/// readers of a space together. Whoever comes when there is no room left is told to wait.
pub const LEFTOVERS_BYTES: usize = 32 * 1024 * 1024;

/// Length of the name of a table or column in D1, as a channel's rule may give it.
pub const D1_IDENTIFIER_BYTES: usize = 64;

/// Columns of a table in D1 that are fields of a row. A statement takes 100 values, and one that
/// writes a row needs up to 12 beside those of its columns.
pub const D1_COLUMNS: usize = 64;

/// How often a row in D1 is written anew that somebody else changed meanwhile.
pub const D1_TRIES: usize = 3;

/// How long whoever met others so often, or a database that did not answer, is told to wait.
pub const D1_RETRY_MS: u64 = 1_000;

/// How long a schema that is wrong is not looked at again: a migration may mend it at any time.
pub const D1_SCHEMA_RETRY_MS: u64 = 5_000;

/// Unique indexes that are looked at for that of the key.
pub const D1_INDEXES: usize = 16;

/// Days, beside the current one, for which D1 knows what was executed: 48 to 72 hours.
pub const D1_RECORD_DAYS: u64 = 2;

/// Older records that a write removes: more than it adds, and few.
pub const D1_SWEPT: u64 = 10;

/// Length of a row's time in D1, as JSON. It travels in the token of a page.
pub const D1_TIME_BYTES: usize = 64;

/// Length of a cursor: one of a paged source holds the source's token.
pub const CURSOR_BYTES: usize = 1024;

/// Length of the payload of a token, as handlers are told it.
pub const CLAIMS_BYTES: usize = 4 * 1024;

/// Length of what the upgrade brought along for handlers: URL, cookies and named headers together.
pub const HANDSHAKE_BYTES: usize = 4 * 1024;

/// How many messages an `auth` counts as whose token somebody else must judge.
pub const ASK_MESSAGES: usize = 5;

/// What a write takes of the database beside its texts, about.
pub const WRITE_OVERHEAD: usize = 256;

/// Topics kept in a row's `lost`; beyond it the oldest loss is dropped and the channel's floor
/// rises to it.
pub const LOST_TOPICS: usize = 256;

/// The shortest time between two tries to open the log of a space whose storage has failed.
pub const REOPEN_PAUSE_MS: u64 = 1_000;

/// A day, by which outcomes and new spaces are counted.
pub const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// How long tombstones and losses are kept for those who are away: 7 days.
pub const RETENTION_MS: u64 = 7 * DAY_MS;

/// Rows that one turn of trimming looks at, so that it holds the object's thread only shortly.
pub const SWEEP_ROWS: usize = 1_000;

/// Changes by which an event channel may pass its `retain.count` until a write trims them: rows of
/// 256 KiB that one turn deletes are read for it.
pub const EVENTS_OVER: u64 = 64;

/// The time between two steps of one round of trimming.
pub const SWEEP_STEP_MS: u64 = 1_000;

/// The alarm rings on whole minutes, so that many expiries cost one alarm.
pub const ALARM_GRAIN_MS: u64 = 60_000;

/// The shortest time between two rounds of trimming: an hour.
pub const SWEEP_PAUSE_MS: u64 = 60 * 60 * 1000;

/// The shortest time between two rounds for rows: a day. Nobody is promised that tombstones go soon, and a
/// round costs an alarm and some rows however little it finds.
pub const ROWS_SWEEP_PAUSE_MS: u64 = DAY_MS;

/// How long a refused identity's earlier tokens stay refused: 30 days.
pub const REFUSAL_MS: u64 = 30 * DAY_MS;

/// Rows that a change of topics may add to or take from one channel's subscriber; beyond it the
/// channel is reset.
pub const TOPIC_CHANGES: usize = 500;

/// Length of the reason given to `/disconnect`: a close frame carries 123 bytes.
pub const REASON_BYTES: usize = 123;

/// Largest integer that crosses JSON and SQLite's JavaScript binding unharmed: 2^53 - 1.
pub const SAFE_INTEGER: u64 = (1 << 53) - 1;

/// The last events that an object remembers for whoever looks on: about as many as a page shows.
pub const RECENT_EVENTS: usize = 200;

/// Lines that one turn writes to the log: the platform cuts off an invocation's at 256 KB.
pub const TURN_LINES: usize = 250;

/// Data points that one turn writes: the platform takes 250 of an invocation.
pub const TURN_POINTS: usize = 250;

/// Connections, channels, and members of all channels together, that one look at a space lists.
pub const INSPECT_ITEMS: usize = 200;

/// Subscriptions of one connection, and members of one channel, that such a look lists.
pub const INSPECT_PARTS: usize = 20;

/// Rows that `/stats` counts at most: reading them is billed, and takes the object's time (about
/// 10 ms).
pub const STATS_ROWS: usize = 100_000;

/// Floors that `/stats` lists at most.
pub const STATS_FLOORS: usize = 1_000;

/// Length of `device` in `hello`.
pub const DEVICE_BYTES: usize = 128;

/// Messages that a connection may send per second, over time. It may send those of
/// [`BURST_SECONDS`] at once.
pub const MESSAGES_PER_SECOND: u32 = 200;

/// The same for all connections of an identity in a space together.
pub const IDENTITY_MESSAGES_PER_SECOND: u32 = 400;

/// How many seconds' messages may come at once: as many as an object needs to fall asleep. So it
/// loses nothing by forgetting who sent how much: whoever was silent for so long may send a burst
/// anyway.
pub const BURST_SECONDS: u64 = 10;

/// Frames that a connection may send before the time that it was told to wait for is over. One
/// more closes it with 4008.
pub const HASTY_FRAMES: u32 = 100;

/// The shortest time that a connection which sends too fast is told to wait, so that there is room
/// for more than one message then.
pub const RATE_RETRY_MS: u64 = 1_000;

/// Connections of one identity in a space, or of one address without an identity.
pub const CONNECTIONS_PER_IDENTITY: usize = 1_000;

/// How long an identity with too many connections is told to wait.
pub const CONNECTIONS_RETRY_MS: u64 = 60_000;

/// Spaces that an identity, or without one an address, may bring into being per day (UTC) where
/// only a pattern of `SYNC_SPACES` opens them.
pub const NEW_SPACES_PER_DAY: u32 = 20;

/// Bytes of a space's database above which nothing but deletes is written. The platform's bound is
/// 10 GB; what is deleted still needs a tombstone.
pub const STORAGE_BYTES: u64 = 9_000_000_000;

/// How many bytes may be written before the database's size is looked at again.
pub const STORAGE_STEP_BYTES: usize = 64 * 1024;

/// What one page of an export holds about: a turn of the object reads so much, and no more is in
/// memory on the way.
pub const EXPORT_PAGE_BYTES: usize = 1024 * 1024;

/// Lines of such a page, and channels that it looks at.
pub const EXPORT_PAGE_ROWS: usize = 1_000;

/// Length of what tells where an export stands: names and a checksum.
pub const EXPORT_PLACE_BYTES: usize = 4 * 1024;

/// Length of one line of an export: a row with its names and audiences.
pub const EXPORT_LINE_BYTES: usize = ROW_BYTES + 32 * 1024;

/// Length of the pieces in which an import reaches the object, each one turn; more by a line at the
/// most.
pub const IMPORT_CHUNK_BYTES: usize = 512 * 1024;

/// How far the clock that wrote an export may be ahead of ours: a day. A time further on would hold
/// the clock of rows there.
pub const IMPORT_AHEAD_MS: u64 = DAY_MS;

/// The highest seq that is imported: as many are left for what comes.
pub const IMPORT_SEQ: u64 = 1 << 52;

/// How far back a space can be restored: as long as the platform keeps its history, 30 days.
pub const RESTORE_MS: u64 = 30 * DAY_MS;

/// Length of a bookmark of the platform's history.
pub const BOOKMARK_BYTES: usize = 256;

/// Channels whose rows one `/doctor` looks at.
pub const DOCTOR_CHANNELS: usize = 100;

/// The newest rows that it looks at in each.
pub const DOCTOR_ROWS: usize = 100;

/// What it reads of rows at once, about.
pub const DOCTOR_BYTES: usize = 8 * 1024 * 1024;

/// The bounds that `SYNC_LIMITS` can set; all others are fixed. Most can only be lowered, because
/// the wire contract or the platform gives the default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Limits {
    /// [`FRAME_BYTES`], 1,024 up to the default.
    pub frame_bytes: usize,
    /// [`ROW_BYTES`], 256 up to the default.
    pub row_bytes: usize,
    /// [`SUBSCRIPTIONS`], 1 up to the default.
    pub subscriptions: usize,
    /// [`MESSAGES_PER_SECOND`], 1–10,000.
    pub messages_per_second: u32,
    /// [`IDENTITY_MESSAGES_PER_SECOND`], 1–10,000.
    pub identity_messages_per_second: u32,
    /// [`MIN_INTERVAL_MS`], 0–60,000.
    pub min_interval_ms: u32,
    /// [`MAX_CONCURRENT_DELTAS`], 1–1,000.
    pub max_concurrent_deltas: u32,
    /// [`CONNECTIONS`], 1 up to the default.
    pub connections: usize,
    /// [`CONNECTIONS_PER_IDENTITY`], 1 up to [`CONNECTIONS`].
    pub connections_per_identity: usize,
    /// [`NEW_SPACES_PER_DAY`], 0–1,000,000.
    pub new_spaces_per_day: u32,
    /// [`STORAGE_BYTES`], 1 MB up to the default.
    pub storage_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_bytes: FRAME_BYTES,
            row_bytes: ROW_BYTES,
            subscriptions: SUBSCRIPTIONS,
            messages_per_second: MESSAGES_PER_SECOND,
            identity_messages_per_second: IDENTITY_MESSAGES_PER_SECOND,
            min_interval_ms: MIN_INTERVAL_MS,
            max_concurrent_deltas: MAX_CONCURRENT_DELTAS,
            connections: CONNECTIONS,
            connections_per_identity: CONNECTIONS_PER_IDENTITY,
            new_spaces_per_day: NEW_SPACES_PER_DAY,
            storage_bytes: STORAGE_BYTES,
        }
    }
}

impl Limits {
    /// Reads `SYNC_LIMITS`, a JSON object from name to number.
    ///
    /// # Errors
    /// A text that names what is wrong.
    pub fn parse(json: &str) -> Result<Self, String> {
        if !json.trim_ascii_start().starts_with('{') {
            return Err("must be a JSON object from name to number".to_owned());
        }
        let limits: Self = serde_json::from_str(json).map_err(|error| error.to_string())?;
        for (name, value, least, most) in [
            (
                "frameBytes",
                limits.frame_bytes as u64,
                1024,
                FRAME_BYTES as u64,
            ),
            ("rowBytes", limits.row_bytes as u64, 256, ROW_BYTES as u64),
            (
                "subscriptions",
                limits.subscriptions as u64,
                1,
                SUBSCRIPTIONS as u64,
            ),
            (
                "messagesPerSecond",
                limits.messages_per_second.into(),
                1,
                10_000,
            ),
            (
                "identityMessagesPerSecond",
                limits.identity_messages_per_second.into(),
                1,
                10_000,
            ),
            ("minIntervalMs", limits.min_interval_ms.into(), 0, 60_000),
            (
                "maxConcurrentDeltas",
                limits.max_concurrent_deltas.into(),
                1,
                1_000,
            ),
            (
                "connections",
                limits.connections as u64,
                1,
                CONNECTIONS as u64,
            ),
            (
                "connectionsPerIdentity",
                limits.connections_per_identity as u64,
                1,
                CONNECTIONS as u64,
            ),
            (
                "newSpacesPerDay",
                limits.new_spaces_per_day.into(),
                0,
                1_000_000,
            ),
            (
                "storageBytes",
                limits.storage_bytes,
                1_000_000,
                STORAGE_BYTES,
            ),
        ] {
            if !(least..=most).contains(&value) {
                return Err(format!("{name} must be {least} to {most}"));
            }
        }
        Ok(limits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_set_has_bounds_of_its_own() {
        assert_eq!(Limits::parse("{}"), Ok(Limits::default()));
        for (name, least, most) in [
            ("frameBytes", 1024, FRAME_BYTES as u64),
            ("rowBytes", 256, ROW_BYTES as u64),
            ("subscriptions", 1, SUBSCRIPTIONS as u64),
            ("messagesPerSecond", 1, 10_000),
            ("identityMessagesPerSecond", 1, 10_000),
            ("minIntervalMs", 0, 60_000),
            ("maxConcurrentDeltas", 1, 1_000),
            ("connections", 1, CONNECTIONS as u64),
            ("connectionsPerIdentity", 1, CONNECTIONS as u64),
            ("newSpacesPerDay", 0, 1_000_000),
            ("storageBytes", 1_000_000, STORAGE_BYTES),
        ] {
            let of = |value: String| Limits::parse(&format!("{{\"{name}\":{value}}}"));
            assert!(
                of(least.to_string()).is_ok() && of(most.to_string()).is_ok(),
                "{name}"
            );
            for bad in [
                (most + 1).to_string(),
                "1.5".to_owned(),
                "-1".to_owned(),
                "\"1\"".to_owned(),
            ] {
                assert!(of(bad.clone()).is_err(), "{name} {bad}");
            }
            assert!(least == 0 || of((least - 1).to_string()).unwrap_err().contains(name));
        }
        assert!(
            Limits::parse(r#"{"rowbytes":1000}"#)
                .unwrap_err()
                .contains("rowbytes")
        );
        assert!(Limits::parse("[]").is_err());
    }
}
