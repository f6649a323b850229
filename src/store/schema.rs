//! The tables, their first contents, and what is read of them on waking.
//!
//! - `rows`: one row per (channel, key) with its latest state, deletes as tombstones (`data` is
//!   null). Catch-up is `seq > cursor` over `rows_by_seq`, so it costs what changed.
//! - `versions`: what edits of events have replaced, for channels whose rule says `edits`.
//! - `channels`: what is known of a channel beside its rows; only channels that were reset,
//!   trimmed or changed outside have an entry.
//! - `claims`: writes that a source was asked for and has not answered; of channels whose rows live
//!   elsewhere.
//! - `outcomes_0`, `outcomes_1`: what was executed, by owner and id. They alternate by day, the
//!   older is dropped whole: dropping a table writes no rows, deleting from it would.
//! - `refusals`, `removals`: identities whose tokens, and topics that their tokens grant, do not
//!   count if issued until then.
//! - `new_spaces`: who has brought how many spaces into being today; used by the default space.
//! - `meta`: single values.
//!
//! `WITHOUT ROWID` and no index by time: a write of `rows` costs two billed rows and an outcome
//! one, see `docs/architecture.md`.

use crate::cursor::Epoch;
use crate::limits;
use crate::names::{Millis, Seq, Space};

use super::sql::{Param, Sql, SqlError};
use super::{Log, Progress, collect, first};

/// Raised with every change of the tables; older spaces are migrated on waking.
const SCHEMA_VERSION: u64 = 4;

/// What takes a space from each version to the next, from version 1 on.
const MIGRATIONS: [&[&str]; 3] = [
    &[NEW_SPACES],
    &[
        "ALTER TABLE rows ADD COLUMN nth INTEGER",
        "ALTER TABLE rows ADD COLUMN edit TEXT",
        "ALTER TABLE channels ADD COLUMN trimmed INTEGER NOT NULL DEFAULT 0",
        VERSIONS,
    ],
    &[
        "ALTER TABLE channels ADD COLUMN outside INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE channels ADD COLUMN outside_at INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE channels ADD COLUMN previous INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE channels ADD COLUMN previous_at INTEGER NOT NULL DEFAULT 0",
        CLAIMS,
    ],
];

const NEW_SPACES: &str = "CREATE TABLE new_spaces (
    day INTEGER NOT NULL, owner TEXT NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (day, owner)) WITHOUT ROWID";

const VERSIONS: &str = "CREATE TABLE versions (
    channel TEXT NOT NULL, seq INTEGER NOT NULL, key TEXT NOT NULL, data TEXT, audience TEXT,
    author TEXT, at INTEGER NOT NULL, nth INTEGER, edit TEXT,
    PRIMARY KEY (channel, seq)) WITHOUT ROWID";

const ROWS: &str = "CREATE TABLE rows (
    channel TEXT NOT NULL, key TEXT NOT NULL, seq INTEGER NOT NULL, data TEXT,
    audience TEXT, author TEXT, at INTEGER NOT NULL, lost TEXT,
    nth INTEGER, edit TEXT,
    PRIMARY KEY (channel, key)) WITHOUT ROWID";

const ROWS_BY_SEQ: &str = "CREATE INDEX rows_by_seq ON rows (channel, seq)";

const CHANNELS: &str = "CREATE TABLE channels (
    name TEXT PRIMARY KEY, floor INTEGER NOT NULL, floor_at INTEGER NOT NULL,
    swept INTEGER NOT NULL, trimmed INTEGER NOT NULL DEFAULT 0,
    outside INTEGER NOT NULL DEFAULT 0, outside_at INTEGER NOT NULL DEFAULT 0,
    previous INTEGER NOT NULL DEFAULT 0, previous_at INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID";

const CLAIMS: &str = "CREATE TABLE claims (
    owner TEXT NOT NULL, id TEXT NOT NULL, channel TEXT NOT NULL,
    PRIMARY KEY (owner, id)) WITHOUT ROWID";

const REFUSALS: &str = "CREATE TABLE refusals (
    identity TEXT PRIMARY KEY, until INTEGER NOT NULL, ends INTEGER NOT NULL) WITHOUT ROWID";

const REMOVALS: &str = "CREATE TABLE removals (
    identity TEXT NOT NULL, topic TEXT NOT NULL, until INTEGER NOT NULL,
    ends INTEGER NOT NULL, PRIMARY KEY (identity, topic)) WITHOUT ROWID";

const TABLES: [&str; 11] = [
    "CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    ROWS,
    ROWS_BY_SEQ,
    CHANNELS,
    OUTCOMES_CREATE[0],
    OUTCOMES_CREATE[1],
    REFUSALS,
    REMOVALS,
    NEW_SPACES,
    VERSIONS,
    CLAIMS,
];

/// Empties what an import fills. Dropping a table writes no rows, deleting from it would.
pub(super) const WIPE: [&str; 11] = [
    "DROP TABLE rows",
    "DROP TABLE versions",
    "DROP TABLE channels",
    "DROP TABLE refusals",
    "DROP TABLE removals",
    ROWS,
    ROWS_BY_SEQ,
    VERSIONS,
    CHANNELS,
    REFUSALS,
    REMOVALS,
];

pub(super) const OUTCOMES_CREATE: [&str; 2] = [
    "CREATE TABLE IF NOT EXISTS outcomes_0 (
        owner TEXT NOT NULL, id TEXT NOT NULL, hash TEXT NOT NULL, seq INTEGER NOT NULL,
        result TEXT, PRIMARY KEY (owner, id)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS outcomes_1 (
        owner TEXT NOT NULL, id TEXT NOT NULL, hash TEXT NOT NULL, seq INTEGER NOT NULL,
        result TEXT, PRIMARY KEY (owner, id)) WITHOUT ROWID",
];

/// Chance for a new space: its epoch and the key of its views. Drawn by the host.
#[derive(Debug, Clone, Copy)]
pub struct Seed(pub [u8; 32]);

impl Seed {
    pub(super) fn epoch(&self) -> String {
        const ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
        self.0
            .iter()
            .take(8)
            .filter_map(|byte| ALPHABET.get(usize::from(byte % 32)))
            .map(|symbol| char::from(*symbol))
            .collect()
    }

    fn view_key(&self) -> String {
        crate::digest::hex(self.0.get(8..).unwrap_or_default())
    }
}

/// Makes the tables where they are missing and reads what the engine keeps in memory.
pub(super) fn open(
    sql: &impl Sql,
    space: &Space,
    seed: Seed,
    now: Millis,
) -> Result<Log, SqlError> {
    if !exists(sql)? {
        sql.transaction(&mut || create(sql, space, seed, now))?;
    }
    let values = collect(sql, "SELECT name, value FROM meta", &[], |row| {
        Some((row.text(0)?, row.text(1)?))
    })?;
    let text = |name: &str| {
        let found = values.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let number = |name: &str| text(name).parse().unwrap_or_default();
    if number("schema") != SCHEMA_VERSION {
        sql.transaction(&mut || migrate(sql, number("schema")))?;
    }
    let missing = || SqlError("meta holds no epoch".to_owned());
    let mut log = Log {
        epoch: Epoch::parse(text("epoch")).ok_or_else(missing)?,
        epoch_at: Millis(number("epoch_at")),
        view_key: text("view_key").into(),
        head: Seq(number("head")),
        clock: Millis(number("clock")),
        outcomes_day: number("outcomes_day"),
        sweep_at: Some(Millis(number("sweep_at"))).filter(|at| at.0 > 0),
        sweep_next: None,
        import: Progress::from_column(text("import")),
    };
    for (head, clock) in [newest(sql)?, newest_floor(sql)?] {
        log.head = log.head.max(head);
        log.clock = log.clock.max(clock);
    }
    Ok(log)
}

fn exists(sql: &impl Sql) -> Result<bool, SqlError> {
    let found = collect(
        sql,
        "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'meta'",
        &[],
        |row| row.int(0),
    )?;
    Ok(!found.is_empty())
}

/// Brings the tables of an older version up to this one.
fn migrate(sql: &impl Sql, version: u64) -> Result<(), SqlError> {
    if version > SCHEMA_VERSION {
        return Err(SqlError("the log is of a newer version".to_owned()));
    }
    let steps = MIGRATIONS.iter().skip(version.saturating_sub(1) as usize);
    for statement in steps.copied().flatten() {
        collect(sql, statement, &[], |_| None::<()>)?;
    }
    let write = "UPDATE meta SET value = ? WHERE name = 'schema'";
    let version = SCHEMA_VERSION.to_string();
    collect(sql, write, &[Param::Text(&version)], |_| None::<()>)?;
    Ok(())
}

/// The space whose log this is, by its own memory; nothing where there is no log yet. The platform
/// does not always tell an object its name.
///
/// # Errors
/// When SQLite refuses.
pub fn space_of(sql: &impl Sql) -> Result<Option<Space>, SqlError> {
    if !exists(sql)? {
        return Ok(None);
    }
    first(
        sql,
        "SELECT value FROM meta WHERE name = 'space'",
        &[],
        |row| Space::parse(&row.text(0)?).ok(),
    )
}

fn create(sql: &impl Sql, space: &Space, seed: Seed, now: Millis) -> Result<(), SqlError> {
    for table in TABLES {
        collect(sql, table, &[], |_| None::<()>)?;
    }
    for (name, value) in [
        ("schema", SCHEMA_VERSION.to_string()),
        ("space", space.to_string()),
        ("epoch", seed.epoch()),
        ("epoch_at", now.0.to_string()),
        ("view_key", seed.view_key()),
        ("outcomes_day", super::outcomes::day(now).to_string()),
        // From the start, so that the first delete need not write it.
        ("sweep_at", now.plus(limits::RETENTION_MS).0.to_string()),
    ] {
        collect(
            sql,
            "INSERT INTO meta (name, value) VALUES (?, ?)",
            &[Param::Text(name), Param::Text(&value)],
            |_| None::<()>,
        )?;
    }
    Ok(())
}

/// The seq and the time of the newest row: a loose scan, one step per channel, because
/// `max(seq)` would read every row.
pub(super) fn newest(sql: &impl Sql) -> Result<(Seq, Millis), SqlError> {
    let newest = first(
        sql,
        "WITH RECURSIVE names (name) AS (
            SELECT min(channel) FROM rows
            UNION ALL
            SELECT (SELECT min(channel) FROM rows WHERE channel > names.name)
            FROM names WHERE names.name IS NOT NULL)
         SELECT name,
            (SELECT max(seq) FROM rows INDEXED BY rows_by_seq WHERE channel = names.name) AS head
         FROM names WHERE name IS NOT NULL ORDER BY head DESC LIMIT 1",
        &[],
        |row| Some((row.text(0)?, Seq(row.int(1)?))),
    )?;
    let Some((channel, head)) = newest else {
        return Ok((Seq(0), Millis(0)));
    };
    let at = first(
        sql,
        "SELECT at FROM rows INDEXED BY rows_by_seq WHERE channel = ? AND seq = ?",
        &[Param::Text(&channel), Param::Int(head.0)],
        |row| row.int(0),
    )?;
    Ok((head, Millis(at.unwrap_or_default())))
}

/// The seq and the time of the newest floor or change outside: neither leaves a row.
fn newest_floor(sql: &impl Sql) -> Result<(Seq, Millis), SqlError> {
    let newest = first(
        sql,
        "SELECT max(max(floor, outside)), max(max(floor_at, outside_at)) FROM channels",
        &[],
        |row| Some((Seq(row.int(0)?), Millis(row.int(1)?))),
    )?;
    Ok(newest.unwrap_or_default())
}
