//! The latest state of every row, tombstones, and the floors of channels.

use std::ops::ControlFlow;

use crate::audience::{Audience, Losses, Topics};
use crate::limits;
use crate::names::{Channel, Key, Millis, Seq};

use super::events::{Edit, Event};
use super::sql::{Columns, Param, Sql, SqlError};
use super::{Store, collect, first};

/// A row as it is stored.
#[derive(Debug, Clone)]
pub(crate) struct StoredRow {
    /// The seq of its last change.
    pub(crate) seq: Seq,
    /// The row as JSON; `None` for a tombstone.
    pub(crate) data: Option<String>,
    /// Who may see it; for a tombstone, who could when it was deleted.
    pub(crate) audience: Audience,
    /// The identity that changed it last.
    pub(crate) author: Option<String>,
    /// When it was changed last.
    pub(crate) at: Millis,
    /// Who lost sight of it, and when.
    pub(crate) lost: Losses,
}

/// Where a channel's provable past begins, in both measures.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Floor {
    pub(crate) seq: Seq,
    pub(crate) at: Millis,
}

/// A stored row while a page is read: columns are decoded only when they are asked for.
pub(crate) struct PageRow<'a>(pub(super) &'a dyn Columns);

impl<'a> PageRow<'a> {
    pub(crate) fn key(&self) -> String {
        self.0.text(0).unwrap_or_default()
    }

    pub(crate) fn seq(&self) -> Seq {
        Seq(self.0.int(1).unwrap_or_default())
    }

    /// What reading it costs, in rows: large audiences and losses count as several.
    pub(crate) fn cost(&self) -> usize {
        let len = |column| self.0.str(column).map_or(0, str::len);
        1 + (len(2) + len(3)) / limits::ROW_COST_BYTES
    }

    pub(crate) fn audience(&self) -> Audience {
        Audience::from_column(self.0.str(2))
    }

    pub(crate) fn lost(&self) -> Losses {
        Losses::from_column(self.0.str(3))
    }

    /// Only of a page with it.
    pub(crate) fn author(&self) -> Option<String> {
        self.0.text(5)
    }

    /// Only of a page with it.
    pub(crate) fn at(&self) -> Millis {
        Millis(self.0.int(6).unwrap_or_default())
    }

    pub(crate) fn is_tombstone(&self) -> bool {
        self.0.int(4) == Some(1)
    }

    /// The row, where its reader may see it. Always a text: a number in its place stands for a tombstone.
    pub(crate) fn data(&self) -> Option<&'a str> {
        self.0.str(4)
    }

    /// How the event came to be as it is. Only of a page of changes.
    pub(crate) fn edit(&self) -> Option<Edit> {
        Edit::from_column(self.0.str(7))
    }

    /// What the row is of its key. Only of a page of changes.
    pub(crate) fn version(&self) -> Version {
        match self.0.int(8) {
            None => Version::Latest,
            Some(0) => Version::OfGone,
            Some(_) => Version::OfVisible,
        }
    }
}

/// What a stored state is of its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Version {
    /// How it is now.
    Latest,
    /// How it was; what it is now is in its reader's sight.
    OfVisible,
    /// How it was; what it is now is gone, or hidden from its reader.
    OfGone,
}

/// See [`Store::page_in_sight`].
macro_rules! in_sight {
    ($more:literal) => {
        concat!(
            "SELECT key, seq, audience, lost,
                CASE WHEN data IS NULL THEN 1
                    WHEN audience IS NULL OR (lost IS NULL AND length(audience) < ?) OR EXISTS (
                        SELECT 1 FROM json_each(audience)
                        WHERE value IN (SELECT value FROM json_each(?)))
                    THEN data END",
            $more,
            " FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? AND seq > ? AND seq <= ?
                AND (audience IS NULL OR lost IS NOT NULL OR length(audience) >= ? OR EXISTS (
                    SELECT 1 FROM json_each(audience)
                    WHERE value IN (SELECT value FROM json_each(?))))
             ORDER BY seq"
        )
    };
}

/// Writes a row, whose seq is an expression where the log holds one already.
macro_rules! put_row {
    ($seq:literal) => {
        concat!(
            "INSERT INTO rows (channel, key, seq, data, audience, author, at, lost, nth, edit)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (channel, key) DO UPDATE SET seq = ",
            $seq,
            ", data = excluded.data,
                audience = excluded.audience, author = excluded.author, at = excluded.at,
                lost = excluded.lost, nth = excluded.nth, edit = excluded.edit"
        )
    };
}

impl<S: Sql> Store<S> {
    /// The row of a key, tombstones included.
    pub(crate) fn row(&self, channel: &Channel, key: &Key) -> Result<Option<StoredRow>, SqlError> {
        first(
            &self.sql,
            "SELECT seq, data, audience, author, at, lost FROM rows WHERE channel = ? AND key = ?",
            &[Param::Text(channel.as_str()), Param::Text(key.as_str())],
            |row| {
                Some(StoredRow {
                    seq: Seq(row.int(0)?),
                    data: row.text(1),
                    audience: Audience::from_column(row.str(2)),
                    author: row.text(3),
                    at: Millis(row.int(4)?),
                    lost: Losses::from_column(row.str(5)),
                })
            },
        )
    }

    /// Writes the latest state of a row, or of an event. Two billed rows: the row and its index
    /// entry.
    pub(crate) fn put_row(
        &self,
        channel: &Channel,
        key: &Key,
        row: &StoredRow,
        event: Option<&Event>,
    ) -> Result<(), SqlError> {
        self.put(put_row!("excluded.seq"), (channel, key), row, event)
    }

    /// The same without a look at what the log holds, where that is nothing, or a row or tombstone that has the
    /// same receivers and was lost by nobody. Whether it was written: else nothing was.
    ///
    /// It is SQLite that refuses, since there must be a seq: to ask for what a statement returns costs as much as
    /// the look.
    pub(crate) fn put_row_unseen(
        &self,
        channel: &Channel,
        key: &Key,
        row: &StoredRow,
    ) -> Result<bool, SqlError> {
        let put = put_row!(
            "CASE WHEN rows.audience IS excluded.audience AND rows.lost IS NULL THEN excluded.seq END"
        );
        match self.put(put, (channel, key), row, None) {
            Ok(()) => Ok(true),
            Err(error) if error.is_of_constraint() => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn put(
        &self,
        statement: &'static str,
        (channel, key): (&Channel, &Key),
        row: &StoredRow,
        event: Option<&Event>,
    ) -> Result<(), SqlError> {
        let nth = event.map_or(Param::Null, |event| Param::Int(event.nth));
        let edit = event
            .and_then(|event| event.edit.as_ref())
            .map(Edit::to_column);
        let (audience, lost) = (row.audience.to_column(), row.lost.to_column());
        let params = [
            Param::Text(channel.as_str()),
            Param::Text(key.as_str()),
            Param::Int(row.seq.0),
            row.data.as_deref().into(),
            audience.as_deref().into(),
            row.author.as_deref().into(),
            Param::Int(row.at.0),
            lost.as_deref().into(),
            nth,
            edit.as_deref().into(),
        ];
        self.exec(statement, &params)
    }

    /// Hands the channel's rows after `after` to `each`, in the order of their last change, at
    /// most `most` of them, until `each` breaks. The data comes along only of rows that a reader
    /// with these topics may see: what is hidden need not be read.
    pub(crate) fn page(
        &self,
        channel: &Channel,
        after: Seq,
        most: usize,
        reader: &Topics,
        each: &mut dyn FnMut(PageRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        self.sql.run(
            "SELECT key, seq, audience, lost,
                CASE WHEN data IS NULL THEN 1 WHEN audience IS NULL OR EXISTS (
                    SELECT 1 FROM json_each(audience)
                    WHERE value IN (SELECT value FROM json_each(?)))
                THEN data END, author, at
             FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? AND seq > ? ORDER BY seq LIMIT ?",
            &[
                Param::Text(&reader.to_json()),
                Param::Text(channel.as_str()),
                Param::Int(after.0),
                Param::Int(most as u64),
            ],
            &mut |row| each(PageRow(row)),
        )
    }

    /// As [`Self::page`] up to `until`, without the rows that mean nothing to the reader: hidden, and
    /// never seen. Most of a scoped channel's rows are, and to hand one over costs several times what
    /// SQLite needs to pass it by. Those with a large audience come along: they count for more.
    /// Author and time come along for `meta` alone: each column of a row costs as much as a tenth of it.
    /// Whether `each` broke.
    pub(crate) fn page_in_sight(
        &self,
        channel: &Channel,
        (after, until): (Seq, Seq),
        (reader, meta): (&Topics, bool),
        each: &mut dyn FnMut(PageRow<'_>) -> ControlFlow<()>,
    ) -> Result<bool, SqlError> {
        let reader = reader.to_json();
        let mut broke = false;
        // SQLite counts characters, of up to four bytes.
        let large = limits::ROW_COST_BYTES as u64 / 4;
        self.sql.run(
            match meta {
                true => in_sight!(", author, at"),
                false => in_sight!(""),
            },
            &[
                Param::Int(large),
                Param::Text(&reader),
                Param::Text(channel.as_str()),
                Param::Int(after.0),
                Param::Int(until.0),
                Param::Int(large),
                Param::Text(&reader),
            ],
            &mut |row| {
                let flow = each(PageRow(row));
                broke = flow.is_break();
                flow
            },
        )?;
        Ok(broke)
    }

    /// The last of the channel's first `most` rows after `after`, where more come after it.
    pub(crate) fn end_of(
        &self,
        channel: &Channel,
        after: Seq,
        most: usize,
    ) -> Result<Option<Seq>, SqlError> {
        if most == 0 {
            return Ok(self.has_after(channel, after)?.then_some(after));
        }
        let found = collect(
            &self.sql,
            "SELECT seq FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? AND seq > ? ORDER BY seq LIMIT 2 OFFSET ?",
            &[
                Param::Text(channel.as_str()),
                Param::Int(after.0),
                Param::Int(most as u64 - 1),
            ],
            |row| Some(Seq(row.int(0)?)),
        )?;
        Ok(match found[..] {
            [last, _] => Some(last),
            _ => None,
        })
    }

    /// How many rows the channel has after `after` and up to `until`.
    pub(crate) fn count(
        &self,
        channel: &Channel,
        after: Seq,
        until: Seq,
    ) -> Result<usize, SqlError> {
        let found = first(
            &self.sql,
            "SELECT count(*) FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? AND seq > ? AND seq <= ?",
            &[
                Param::Text(channel.as_str()),
                Param::Int(after.0),
                Param::Int(until.0),
            ],
            |row| row.int(0),
        )?;
        Ok(found.unwrap_or_default() as usize)
    }

    /// As [`Self::page`], for whoever needs no data.
    pub(crate) fn page_without_data(
        &self,
        channel: &Channel,
        after: Seq,
        most: usize,
        each: &mut dyn FnMut(PageRow<'_>) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        self.sql.run(
            "SELECT key, seq, audience, lost, CASE WHEN data IS NULL THEN 1 END, author, at
             FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? AND seq > ? ORDER BY seq LIMIT ?",
            &[
                Param::Text(channel.as_str()),
                Param::Int(after.0),
                Param::Int(most as u64),
            ],
            &mut |row| each(PageRow(row)),
        )
    }

    /// What is not provable any more for the channel: the highest trimmed tombstone or loss, or
    /// the last reset. Cursors before it get a full snapshot.
    pub(crate) fn floor(&self, channel: &Channel) -> Result<Floor, SqlError> {
        let found = first(
            &self.sql,
            "SELECT floor, floor_at FROM channels WHERE name = ?",
            &[Param::Text(channel.as_str())],
            |row| {
                Some(Floor {
                    seq: Seq(row.int(0)?),
                    at: Millis(row.int(1)?),
                })
            },
        )?;
        Ok(found.unwrap_or_default())
    }

    /// The seq of the channel's newest row that was changed at `at` or before. Seq and time of
    /// rows grow together, so it is found by halving, not by reading.
    pub(crate) fn last_until(&self, channel: &Channel, at: Millis) -> Result<Seq, SqlError> {
        let (mut low, mut high) = (0, self.head().0);
        // Everything up to `low` was changed by then, everything after `high` later.
        while low < high {
            let middle = low + (high - low) / 2;
            match self.first_after(channel, Seq(middle))? {
                Some((seq, changed)) if changed <= at => low = seq.0,
                Some(_) | None => high = middle,
            }
        }
        Ok(Seq(low))
    }

    /// Whether the channel has rows after `after`.
    pub(crate) fn has_after(&self, channel: &Channel, after: Seq) -> Result<bool, SqlError> {
        Ok(self.first_after(channel, after)?.is_some())
    }

    /// Seq and time of the channel's first row after `after`.
    fn first_after(
        &self,
        channel: &Channel,
        after: Seq,
    ) -> Result<Option<(Seq, Millis)>, SqlError> {
        first(
            &self.sql,
            "SELECT seq, at FROM rows INDEXED BY rows_by_seq
             WHERE channel = ? AND seq > ? ORDER BY seq LIMIT 1",
            &[Param::Text(channel.as_str()), Param::Int(after.0)],
            |row| Some((Seq(row.int(0)?), Millis(row.int(1)?))),
        )
    }

    /// Raises the channel's floor to `floor`.
    pub(crate) fn raise_floor(&self, channel: &Channel, floor: Floor) -> Result<(), SqlError> {
        self.exec(
            "INSERT INTO channels (name, floor, floor_at, swept) VALUES (?, ?, ?, 0)
             ON CONFLICT (name) DO UPDATE SET floor = max(floor, excluded.floor),
                floor_at = max(floor_at, excluded.floor_at)",
            &[
                Param::Text(channel.as_str()),
                Param::Int(floor.seq.0),
                Param::Int(floor.at.0),
            ],
        )
    }
}
