//! What an import writes. How far it has come is stored with the rows, so that it outlives sleep
//! and crashes; until it is complete the space opens to nobody.

use crate::backup::{Checksum, End, Refusal, RowLine};
use crate::names::{Channel, Millis, Seq};

use super::schema::WIPE;
use super::sql::{Param, Sql, SqlError};
use super::{Seed, Store, collect, first};

/// How far an import has come.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Lines that are in.
    pub(crate) lines: u64,
    /// The checksum of these.
    pub(crate) checksum: Checksum,
}

impl Progress {
    fn to_column(&self) -> String {
        format!("{} {}", self.lines, self.checksum.put_away())
    }

    /// Reads what [`Self::to_column`] wrote. What cannot be read is an import that cannot go on.
    pub(super) fn from_column(column: &str) -> Option<Self> {
        if column.is_empty() {
            return None;
        }
        let (lines, checksum) = column.split_once(' ').unwrap_or_default();
        let read = lines.parse().ok().zip(Checksum::take_up(checksum));
        Some(read.map_or_else(Self::default, |(lines, checksum)| Self { lines, checksum }))
    }
}

impl<S: Sql> Store<S> {
    /// The import that is under way.
    pub(crate) fn importing(&self) -> Option<&Progress> {
        self.log.import.as_ref()
    }

    /// Whether nothing was ever written, and nothing is held against a token.
    pub(crate) fn is_empty(&self, now: Millis) -> Result<bool, SqlError> {
        Ok(self.log.head == Seq(0) && self.refusals(now)?.is_empty() && !self.has_claims()?)
    }

    /// Notes how far the import has come.
    pub(crate) fn set_import(&mut self, progress: Progress) -> Result<(), SqlError> {
        self.put_meta("import", &progress.to_column())?;
        self.log.import = Some(progress);
        Ok(())
    }

    /// Takes back all that an import has written: the space is empty again, and open.
    pub(crate) fn wipe(&mut self) -> Result<(), SqlError> {
        for statement in WIPE {
            self.exec(statement, &[])?;
        }
        self.exec(
            "DELETE FROM meta WHERE name IN ('import', 'imported', 'head', 'clock')",
            &[],
        )?;
        self.log.import = None;
        (self.log.head, self.log.clock) = (Seq(0), Millis(0));
        Ok(())
    }

    /// The seq and the time of the newest that the space holds.
    pub(crate) fn newest(&self) -> Result<(Seq, Millis), SqlError> {
        let replaced = first(
            &self.sql,
            "SELECT max(seq), max(at) FROM versions",
            &[],
            |row| Some((Seq(row.int(0)?), Millis(row.int(1)?))),
        )?;
        let (seq, at) = super::schema::newest(&self.sql)?;
        let (old_seq, old_at) = replaced.unwrap_or_default();
        Ok((seq.max(old_seq), at.max(old_at)))
    }

    /// The seq and the time of the newest that the channel holds.
    pub(crate) fn newest_of(&self, channel: &Channel) -> Result<(Seq, Millis), SqlError> {
        let found = first(
            &self.sql,
            "SELECT seq, at FROM rows INDEXED BY rows_by_seq WHERE channel = ?
             UNION ALL
             SELECT seq, at FROM versions WHERE channel = ?
             ORDER BY seq DESC LIMIT 1",
            &[Param::Text(channel.as_str()), Param::Text(channel.as_str())],
            |row| Some((Seq(row.int(0)?), Millis(row.int(1)?))),
        )?;
        Ok(found.unwrap_or_default())
    }

    /// Writes a line's row in place of the earlier one of its key, which is kept where the line is
    /// an edit of an event. A deleted row that is no event leaves nothing: no cursor asks for it.
    pub(crate) fn import_row(&self, line: &RowLine<'_>) -> Result<(), SqlError> {
        let (channel, key) = (&line.channel, &line.key);
        let place = [Param::Text(channel.as_str()), Param::Text(key.as_str())];
        let Some(event) = &line.event else {
            return match line.data {
                Some(_) => self.put_row(channel, key, &line.stored(), None),
                None => self.exec("DELETE FROM rows WHERE channel = ? AND key = ?", &place),
            };
        };
        if line.old {
            return self.put_version(line, event);
        }
        if event.edit.is_some()
            && let Some(held) = self.row(channel, key)?
            && held.data.is_some()
        {
            self.keep_version(channel, key)?;
        }
        self.put_row(channel, key, &line.stored(), Some(event))
    }

    /// Writes what is held against tokens.
    pub(crate) fn import_refusal(&self, refusal: &Refusal) -> Result<(), SqlError> {
        let identity = Param::Text(refusal.identity.as_str());
        let (until, ends) = (Param::Int(refusal.until.0), Param::Int(refusal.ends.0));
        match &refusal.topic {
            None => self.exec(
                "INSERT OR REPLACE INTO refusals (identity, until, ends) VALUES (?, ?, ?)",
                &[identity, until, ends],
            ),
            Some(topic) => self.exec(
                "INSERT OR REPLACE INTO removals (identity, topic, until, ends)
                 VALUES (?, ?, ?, ?)",
                &[identity, Param::Text(topic.as_str()), until, ends],
            ),
        }
    }

    /// Whether the space is what an import of this end has made, and nothing was written since.
    pub(crate) fn imported(&self, end: &End) -> Result<bool, SqlError> {
        let found = collect(
            &self.sql,
            "SELECT value FROM meta WHERE name = 'imported'",
            &[],
            |row| row.text(0),
        )?;
        Ok(self.log.head == end.seq && found.first() == Some(&end.checksum))
    }

    /// Ends an import: the space goes on from where its source was in a new epoch. What ended it is
    /// remembered.
    pub(crate) fn end_import(
        &mut self,
        end: &End,
        seed: Seed,
        now: Millis,
    ) -> Result<(), SqlError> {
        let (head, clock) = (end.seq, end.clock);
        self.put_meta("imported", &end.checksum)?;
        self.put_meta("head", &head.0.to_string())?;
        self.put_meta("clock", &clock.0.to_string())?;
        self.exec("DELETE FROM meta WHERE name = 'import'", &[])?;
        self.log.import = None;
        (self.log.head, self.log.clock) = (head, clock);
        self.renew_epoch(seed, now)?;
        // What the source has trimmed while it was exported goes by the rules here.
        self.sweep_by(now)
    }
}
