//! What an export reads: rows channel by channel in the order of their seqs, and refusals.

use std::ops::ControlFlow;

use crate::backup::Refusal;
use crate::names::{Channel, Identity, Millis, Seq, Topic};

use super::sql::{Param, Sql, SqlError};
use super::{Store, collect, first};

/// A state of a key, as its columns hold it.
#[derive(Debug)]
pub(crate) struct Exported {
    pub(crate) key: String,
    pub(crate) seq: Seq,
    pub(crate) data: Option<String>,
    pub(crate) audience: Option<String>,
    pub(crate) author: Option<String>,
    pub(crate) at: Millis,
    pub(crate) nth: Option<u64>,
    pub(crate) edit: Option<String>,
    /// Whether an edit has replaced it.
    pub(crate) old: bool,
}

impl<S: Sql> Store<S> {
    /// The time of the newest change.
    pub(crate) fn clock(&self) -> Millis {
        self.log.clock
    }

    /// The first channel after `after` that holds anything newer than `since`: a loose scan, one
    /// step for each channel that does not.
    pub(crate) fn changed_channel(
        &self,
        after: &str,
        since: Seq,
    ) -> Result<Option<Channel>, SqlError> {
        first(
            &self.sql,
            "WITH RECURSIVE names (name) AS (
                SELECT min(channel) FROM rows WHERE channel > ?
                UNION ALL
                SELECT (SELECT min(channel) FROM rows WHERE channel > names.name)
                FROM names WHERE names.name IS NOT NULL)
             SELECT name FROM names WHERE name IS NOT NULL AND
                (SELECT max(seq) FROM rows INDEXED BY rows_by_seq WHERE channel = names.name) > ?
             LIMIT 1",
            &[Param::Text(after), Param::Int(since.0)],
            |row| Channel::parse(&row.text(0)?).ok(),
        )
    }

    /// Hands what the channel holds after `after` and up to `upto` to `each`, what edits have
    /// replaced in its place, at most `most` of it, until `each` breaks.
    pub(crate) fn export_rows(
        &self,
        channel: &Channel,
        (after, upto): (Seq, Seq),
        most: usize,
        each: &mut dyn FnMut(Exported) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        let (name, after, upto) = (
            Param::Text(channel.as_str()),
            Param::Int(after.0),
            Param::Int(upto.0),
        );
        self.sql.run(
            "SELECT key, seq, data, audience, author, at, nth, edit, 0
             FROM rows INDEXED BY rows_by_seq WHERE channel = ? AND seq > ? AND seq <= ?
             UNION ALL
             SELECT key, seq, data, audience, author, at, nth, edit, 1
             FROM versions WHERE channel = ? AND seq > ? AND seq <= ?
             ORDER BY seq LIMIT ?",
            &[
                name,
                after,
                upto,
                name,
                after,
                upto,
                Param::Int(most as u64),
            ],
            &mut |row| {
                each(Exported {
                    key: row.text(0).unwrap_or_default(),
                    seq: Seq(row.int(1).unwrap_or_default()),
                    data: row.text(2),
                    audience: row.text(3),
                    author: row.text(4),
                    at: Millis(row.int(5).unwrap_or_default()),
                    nth: row.int(6),
                    edit: row.text(7),
                    old: row.int(8) == Some(1),
                })
            },
        )
    }

    /// Hands the channel's newest rows to `each`, at most `most` of them, until `each` breaks.
    pub(crate) fn newest_rows(
        &self,
        channel: &Channel,
        most: usize,
        each: &mut dyn FnMut(String) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        self.sql.run(
            "SELECT data FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? ORDER BY seq DESC LIMIT ?",
            &[Param::Text(channel.as_str()), Param::Int(most as u64)],
            &mut |row| row.text(0).map_or(ControlFlow::Continue(()), &mut *each),
        )
    }

    /// All that is held against tokens and has not ended.
    pub(crate) fn refusals(&self, now: Millis) -> Result<Vec<Refusal>, SqlError> {
        collect(
            &self.sql,
            "SELECT identity, NULL, until, ends FROM refusals WHERE ends > ?
             UNION ALL
             SELECT identity, topic, until, ends FROM removals WHERE ends > ?",
            &[Param::Int(now.0), Param::Int(now.0)],
            |row| {
                Some(Refusal {
                    identity: Identity::parse(&row.text(0)?).ok()?,
                    topic: row.text(1).and_then(|topic| Topic::parse(&topic).ok()),
                    until: Millis(row.int(2)?),
                    ends: Millis(row.int(3)?),
                })
            },
        )
    }
}
