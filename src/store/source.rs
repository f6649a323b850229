//! What the log knows of channels whose rows live elsewhere: changes that happened outside, and
//! writes that their source has not answered.

use super::sql::{Param, Sql, SqlError};
use super::{Store, collect, first};
use crate::names::{Channel, Millis, Seq};

/// The last times that rows of a channel changed without the log, as far as it was told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Outside {
    /// What came with a cursor before this seq does not include the last of these changes.
    pub(crate) seq: Seq,
    /// When the log was told of it.
    pub(crate) at: Millis,
    /// The time of the change before the last: who has been there since knows what came before it.
    /// The beginning of the log where there was none.
    pub(crate) previous: (Seq, Millis),
}

impl<S: Sql> Store<S> {
    /// The last changes of a channel outside.
    pub(crate) fn outside(&self, channel: &Channel) -> Result<Outside, SqlError> {
        let found = first(
            &self.sql,
            "SELECT outside, outside_at, previous, previous_at FROM channels WHERE name = ?",
            &[Param::Text(channel.as_str())],
            |row| {
                let previous = match Seq(row.int(2)?) {
                    Seq(0) => (Seq(0), self.log.epoch_at),
                    seq => (seq, Millis(row.int(3)?)),
                };
                Some(Outside {
                    seq: Seq(row.int(0)?),
                    at: Millis(row.int(1)?),
                    previous,
                })
            },
        )?;
        Ok(found.unwrap_or_default())
    }

    /// Notes that a channel's rows have changed without the log. Takes a seq.
    pub(crate) fn change_outside(
        &mut self,
        channel: &Channel,
        now: Millis,
    ) -> Result<Seq, SqlError> {
        let (seq, at) = self.advance(now);
        self.exec(
            "INSERT INTO channels (name, floor, floor_at, swept, outside, outside_at)
             VALUES (?, 0, 0, 0, ?, ?)
             ON CONFLICT (name) DO UPDATE SET previous = outside, previous_at = outside_at,
                outside = excluded.outside, outside_at = excluded.outside_at",
            &[
                Param::Text(channel.as_str()),
                Param::Int(seq.0),
                Param::Int(at.0),
            ],
        )?;
        Ok(seq)
    }

    /// Remembers that a source is asked to write. One billed row.
    pub(crate) fn claim(&self, owner: &str, id: &str, channel: &Channel) -> Result<(), SqlError> {
        self.exec(
            "INSERT OR REPLACE INTO claims (owner, id, channel) VALUES (?, ?, ?)",
            &[
                Param::Text(owner),
                Param::Text(id),
                Param::Text(channel.as_str()),
            ],
        )
    }

    /// Forgets a claim: what came of it is known, or noted. One billed row.
    pub(crate) fn unclaim(&self, owner: &str, id: &str) -> Result<(), SqlError> {
        self.exec(
            "DELETE FROM claims WHERE owner = ? AND id = ?",
            &[Param::Text(owner), Param::Text(id)],
        )
    }

    /// Whether a source is writing: what it answers is still to be logged.
    pub(crate) fn has_claims(&self) -> Result<bool, SqlError> {
        let found = collect(&self.sql, "SELECT 1 FROM claims LIMIT 1", &[], |row| {
            row.int(0)
        })?;
        Ok(!found.is_empty())
    }

    /// Takes note of writes that were under way when the memory was lost: nobody knows what became
    /// of them, so whoever comes back is answered by the source. Returns their channels. The claims
    /// remain until whoever is live has been told, should the memory be lost again before.
    pub(crate) fn settle_claims(&mut self, now: Millis) -> Result<Vec<Channel>, SqlError> {
        let channels = collect(
            &self.sql,
            "SELECT DISTINCT channel FROM claims",
            &[],
            |row| Channel::parse(&row.text(0)?).ok(),
        )?;
        if channels.is_empty() {
            return Ok(channels);
        }
        self.transaction(|store| {
            for channel in &channels {
                store.change_outside(channel, now)?;
            }
            Ok::<_, SqlError>(())
        })?;
        Ok(channels)
    }

    /// Forgets the claims of earlier lives, before there is one of this life.
    pub(crate) fn forget_claims(&self) -> Result<(), SqlError> {
        self.exec("DELETE FROM claims", &[])
    }
}
