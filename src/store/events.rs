//! Event channels: every change numbered, what edits replace kept, and the oldest trimmed.
//!
//! The latest state of each event is in `rows`, as for any key; what an edit replaces goes to
//! `versions`. Every change of the channel is in one of the two, so both together, in the order of
//! their seqs, are its log. Changes are numbered without gaps (`nth`): two numbers tell how many
//! lie between them, and nothing is ever counted.

use std::ops::ControlFlow;

use crate::audience::{Audience, Topics};
use crate::backup::RowLine;
use crate::channel::Retain;
use crate::limits;
use crate::names::{Channel, Identity, Key, Millis, Seq};

use super::sql::{Param, Sql, SqlError};
use super::{Floor, PageRow, Store, collect, first};

/// What is stored of a change because it is of an event channel.
#[derive(Debug)]
pub(crate) struct Event {
    /// Its number in the channel.
    pub(crate) nth: u64,
    /// How it came about; `None` for a create.
    pub(crate) edit: Option<Edit>,
}

/// An edit or a delete of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Edit {
    /// The same eyes see the event as before, or nobody is known to have seen it.
    InPlace,
    /// Other eyes saw it before.
    From(Audience),
}

impl Edit {
    /// Text that no audience is, or the audience as JSON.
    pub(super) fn to_column(&self) -> String {
        match self {
            Self::InPlace => String::new(),
            Self::From(before) => before
                .to_column()
                .unwrap_or_else(|| FROM_EVERYONE.to_owned()),
        }
    }

    /// Reads what [`Self::to_column`] wrote. A column that cannot be read was seen by nobody.
    pub(super) fn from_column(column: Option<&str>) -> Option<Self> {
        Some(match column? {
            "" => Self::InPlace,
            FROM_EVERYONE => Self::From(Audience::All),
            topics => Self::From(Audience::from_column(Some(topics))),
        })
    }
}

const FROM_EVERYONE: &str = "\"all\"";

/// What came of one step of trimming an event channel.
#[derive(Debug, Default)]
pub(crate) struct Trimmed {
    /// How many changes were trimmed.
    pub(crate) count: usize,
    /// Whether nothing is left that is too old, or too much.
    pub(crate) done: bool,
    /// The time of the oldest change that stays.
    pub(crate) oldest: Option<Millis>,
}

impl<S: Sql> Store<S> {
    /// The number of the channel's next change. What was written before the channel kept events
    /// has none, and counts as older than all that has one.
    pub(crate) fn next_nth(&self, channel: &Channel) -> Result<u64, SqlError> {
        Ok(self.newest_nth(channel)? + 1)
    }

    fn newest_nth(&self, channel: &Channel) -> Result<u64, SqlError> {
        let newest = first(
            &self.sql,
            "SELECT nth FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? ORDER BY seq DESC LIMIT 1",
            &[Param::Text(channel.as_str())],
            |row| row.int(0),
        )?;
        Ok(newest.unwrap_or_default())
    }

    /// Keeps how an event is, before an edit replaces it. One billed row.
    pub(crate) fn keep_version(&self, channel: &Channel, key: &Key) -> Result<(), SqlError> {
        self.exec(
            "INSERT INTO versions (channel, seq, key, data, audience, author, at, nth, edit)
             SELECT channel, seq, key, data, audience, author, at, nth, edit FROM rows
             WHERE channel = ? AND key = ?",
            &[Param::Text(channel.as_str()), Param::Text(key.as_str())],
        )
    }

    /// Writes what an edit has replaced, where only that is known.
    pub(super) fn put_version(&self, line: &RowLine<'_>, event: &Event) -> Result<(), SqlError> {
        let edit = event.edit.as_ref().map(Edit::to_column);
        self.exec(
            "INSERT INTO versions (channel, seq, key, data, audience, author, at, nth, edit)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            &[
                Param::Text(line.channel.as_str()),
                Param::Int(line.seq.0),
                Param::Text(line.key.as_str()),
                line.data.into(),
                line.audience.to_column().as_deref().into(),
                line.by.as_ref().map(Identity::as_str).into(),
                Param::Int(line.at.0),
                Param::Int(event.nth),
                edit.as_deref().into(),
            ],
        )
    }

    /// As [`Self::page`], with what edits have replaced in its place among the rows. For a state
    /// of `began` or before it is looked up whether the reader sees what its key is now.
    pub(crate) fn page_of_changes(
        &self,
        channel: &Channel,
        (after, began): (Seq, Seq),
        most: usize,
        reader: &Topics,
        each: &mut dyn FnMut(PageRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        let reader = reader.to_json();
        self.sql.run(
            "SELECT key, seq, audience, lost,
                CASE WHEN data IS NULL THEN 1 WHEN audience IS NULL OR EXISTS (
                    SELECT 1 FROM json_each(audience)
                    WHERE value IN (SELECT value FROM json_each(?)))
                THEN data END, author, at,
                edit, NULL
             FROM rows INDEXED BY rows_by_seq WHERE channel = ? AND seq > ?
             UNION ALL
             SELECT key, seq, audience, NULL,
                CASE WHEN data IS NULL THEN 1 WHEN audience IS NULL OR EXISTS (
                    SELECT 1 FROM json_each(audience)
                    WHERE value IN (SELECT value FROM json_each(?)))
                THEN data END, author, at,
                edit,
                CASE WHEN seq > ? THEN 0 ELSE EXISTS (
                    SELECT 1 FROM rows AS now
                    WHERE now.channel = versions.channel AND now.key = versions.key
                    AND now.data IS NOT NULL AND (now.audience IS NULL OR EXISTS (
                        SELECT 1 FROM json_each(now.audience)
                        WHERE value IN (SELECT value FROM json_each(?)))))
                END
             FROM versions WHERE channel = ? AND seq > ?
             ORDER BY seq LIMIT ?",
            &[
                Param::Text(&reader),
                Param::Text(channel.as_str()),
                Param::Int(after.0),
                Param::Text(&reader),
                Param::Int(began.0),
                Param::Text(&reader),
                Param::Text(channel.as_str()),
                Param::Int(after.0),
                Param::Int(most as u64),
            ],
            &mut |row| each(PageRow(row)),
        )
    }

    /// Trims the channel's oldest changes that are past its bounds, at most `most` of them, and
    /// raises its floor over them. Its cost is what it trims: it walks from the oldest on and ends
    /// at the first that stays. One billed row a change and one for the floor.
    ///
    /// The newest of all changes may go too: the floor keeps its seq and its time.
    pub(crate) fn trim_events(
        &mut self,
        channel: &Channel,
        retain: Retain,
        now: Millis,
        most: usize,
    ) -> Result<Trimmed, SqlError> {
        if retain == Retain::default() {
            return Ok(Trimmed {
                done: true,
                ..Trimmed::default()
            });
        }
        let newest = self.newest_nth(channel)?;
        let past_count = retain
            .count
            .and_then(|count| newest.checked_sub(u64::from(count)));
        let past_age = retain.age_ms().map(|age| now.minus(age));
        let mut last = None;
        let mut trimmed = Trimmed {
            done: true,
            ..Trimmed::default()
        };
        self.sql.run(
            "SELECT seq, at, nth FROM rows INDEXED BY rows_by_seq WHERE channel = ?
             UNION ALL
             SELECT seq, at, nth FROM versions WHERE channel = ?
             ORDER BY seq LIMIT ?",
            &[
                Param::Text(channel.as_str()),
                Param::Text(channel.as_str()),
                Param::Int(most as u64 + 1),
            ],
            &mut |row| {
                let at = Millis(row.int(1).unwrap_or_default());
                let nth = row.int(2).unwrap_or_default();
                // Above the newest's it is of an earlier numbering, from before other rules.
                let over = past_count.is_some_and(|last| nth <= last || nth > newest);
                if !over && past_age.is_none_or(|oldest| at > oldest) {
                    trimmed.oldest = Some(at);
                    return ControlFlow::Break(());
                }
                if trimmed.count == most {
                    trimmed.done = false;
                    return ControlFlow::Break(());
                }
                trimmed.count += 1;
                last = Some(Floor {
                    seq: Seq(row.int(0).unwrap_or_default()),
                    at,
                });
                ControlFlow::Continue(())
            },
        )?;
        if let Some(floor) = last {
            self.delete_events(channel, floor)?;
        }
        Ok(trimmed)
    }

    fn delete_events(&mut self, channel: &Channel, floor: Floor) -> Result<(), SqlError> {
        let upto = [Param::Text(channel.as_str()), Param::Int(floor.seq.0)];
        self.exec("DELETE FROM versions WHERE channel = ? AND seq <= ?", &upto)?;
        self.exec(
            "DELETE FROM rows INDEXED BY rows_by_seq WHERE channel = ? AND seq <= ?",
            &upto,
        )?;
        self.raise_trimmed(channel, floor)
    }

    /// Raises the channel's floor over what was trimmed, and remembers that it was.
    fn raise_trimmed(&self, channel: &Channel, floor: Floor) -> Result<(), SqlError> {
        self.exec(
            "INSERT INTO channels (name, floor, floor_at, swept, trimmed) VALUES (?, ?, ?, 0, ?)
             ON CONFLICT (name) DO UPDATE SET floor = max(floor, excluded.floor),
                floor_at = max(floor_at, excluded.floor_at), trimmed = excluded.trimmed",
            &[
                Param::Text(channel.as_str()),
                Param::Int(floor.seq.0),
                Param::Int(floor.at.0),
                Param::Int(floor.seq.0),
            ],
        )
    }

    /// The seq of the newest change of an event channel that was trimmed: a paged answer that is
    /// not past it lacks what came of events that it has told of.
    pub(crate) fn trimmed(&self, channel: &Channel) -> Result<Seq, SqlError> {
        let found = first(
            &self.sql,
            "SELECT trimmed FROM channels WHERE name = ?",
            &[Param::Text(channel.as_str())],
            |row| row.int(0),
        )?;
        Ok(Seq(found.unwrap_or_default()))
    }

    /// Trims what edits have replaced in a channel that takes none any more, at most `most` of
    /// them. How many that were.
    pub(super) fn trim_versions(
        &mut self,
        channel: &Channel,
        most: usize,
    ) -> Result<usize, SqlError> {
        let oldest = collect(
            &self.sql,
            "SELECT seq, at FROM versions WHERE channel = ? ORDER BY seq LIMIT ?",
            &[Param::Text(channel.as_str()), Param::Int(most as u64)],
            |row| {
                Some(Floor {
                    seq: Seq(row.int(0)?),
                    at: Millis(row.int(1)?),
                })
            },
        )?;
        let Some(floor) = oldest.last() else {
            return Ok(0);
        };
        self.exec(
            "DELETE FROM versions WHERE channel = ? AND seq <= ?",
            &[Param::Text(channel.as_str()), Param::Int(floor.seq.0)],
        )?;
        self.raise_trimmed(channel, *floor)?;
        Ok(oldest.len())
    }
}

/// How far the number of kept changes may pass `count` until a write trims them: a quarter, but
/// 4 at the least, so that the floor is not written with every change, and
/// [`limits::EVENTS_OVER`] at the most, so that no write has much to trim.
pub(crate) fn is_crowded(nth: u64, retain: Retain) -> bool {
    let Some(count) = retain.count.map(u64::from) else {
        return false;
    };
    let over = count.div_ceil(4).clamp(4, limits::EVENTS_OVER);
    nth > count && (nth - count).is_multiple_of(over)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Topic;

    #[test]
    fn edits_read_back_as_they_were() {
        let topics = Audience::of([Topic::parse("q\"[").unwrap()]).unwrap();
        for edit in [Edit::InPlace, Edit::From(Audience::All), Edit::From(topics)] {
            let column = edit.to_column();
            assert_eq!(Edit::from_column(Some(&column)), Some(edit));
        }
        assert_eq!(Edit::from_column(None), None);
    }

    #[test]
    fn a_quarter_too_many_crowd_a_channel_but_4_at_least_and_64_at_most() {
        let first = |count: u32| {
            let retain = Retain {
                count: Some(count),
                days: None,
            };
            (1..).find(|nth| is_crowded(*nth, retain))
        };
        for (count, nth) in [(1, 5), (16, 20), (17, 22), (256, 320), (100_000, 100_064)] {
            assert_eq!(first(count), Some(nth), "{count}");
        }
        assert!(!is_crowded(64, Retain::default()));
    }
}
