//! All SQL of the engine: rows, outcomes, and what a space knows of itself.

mod events;
mod export;
mod figures;
mod import;
mod new_spaces;
mod outcomes;
mod refusals;
mod retain;
mod room;
mod rows;
mod schema;
mod source;
mod sql;

use std::ops::ControlFlow;
use std::rc::Rc;

use crate::cursor::{Cursor, Epoch, Seal};
use crate::names::{Channel, Millis, Seq, Space};

pub(crate) use events::{Edit, Event, is_crowded};
pub(crate) use export::Exported;
pub(crate) use import::Progress;
pub(crate) use outcomes::{Outcome, Owner};
pub(crate) use refusals::Standing;
pub(crate) use retain::Sweep;
use room::Room;
pub(crate) use room::Takes;
pub(crate) use rows::{Floor, PageRow, StoredRow, Version};
pub use schema::{Seed, space_of};

pub use sql::{Columns, Param, Sql, SqlError};

/// What is kept in memory of a space's log. A transaction that fails puts it back.
#[derive(Debug, Clone)]
struct Log {
    epoch: Epoch,
    epoch_at: Millis,
    view_key: Rc<str>,
    head: Seq,
    clock: Millis,
    outcomes_day: u64,
    sweep_at: Option<Millis>,
    /// The earliest round of trimming that was asked for since the one under way began.
    sweep_next: Option<Millis>,
    /// The import that is under way.
    import: Option<Progress>,
}

/// The log of one space over its SQLite database.
#[derive(Debug)]
pub(crate) struct Store<S> {
    sql: S,
    log: Log,
    room: Room,
}

impl<S: Sql> Store<S> {
    /// Opens the log, making it from `seed` where there is none.
    pub(crate) fn open(sql: S, space: &Space, seed: Seed, now: Millis) -> Result<Self, SqlError> {
        let log = schema::open(&sql, space, seed, now)?;
        Ok(Self {
            sql,
            log,
            room: Room::default(),
        })
    }

    /// The identity of the log.
    pub(crate) fn epoch(&self) -> &Epoch {
        &self.log.epoch
    }

    /// When the log began.
    pub(crate) fn epoch_at(&self) -> Millis {
        self.log.epoch_at
    }

    /// The key of the hash that makes views.
    pub(crate) fn view_key(&self) -> &str {
        &self.log.view_key
    }

    /// The seq of the newest change.
    pub(crate) fn head(&self) -> Seq {
        self.log.head
    }

    /// The cursor of whoever has everything of a channel up to `seq`; sealed where its events can
    /// be edited.
    pub(crate) fn cursor(&self, channel: &Channel, edits: bool, seq: Seq) -> Cursor {
        self.sealed(channel, edits, Cursor::at(&self.log.epoch, seq))
    }

    /// A cursor as it is given out.
    pub(crate) fn sealed(&self, channel: &Channel, edits: bool, cursor: Cursor) -> Cursor {
        let seal = edits.then(|| Seal::of(&self.log.view_key, channel, &cursor));
        Cursor { seal, ..cursor }
    }

    /// Whether a cursor was given out for this channel. It matters where its events can be edited,
    /// and where the cursor holds a place in a source.
    pub(crate) fn gave(&self, channel: &Channel, edits: bool, cursor: &Cursor) -> bool {
        let has_place = cursor
            .page
            .as_ref()
            .is_some_and(|page| page.place.is_some());
        !(edits || has_place) || cursor.seal == Some(Seal::of(&self.log.view_key, channel, cursor))
    }

    /// Rows written so far, as the platform bills them.
    pub(crate) fn written(&self) -> u64 {
        self.sql.written()
    }

    /// Bytes that the database takes.
    pub(crate) fn size(&self) -> Result<u64, SqlError> {
        self.sql.size()
    }

    /// The next seq and its time. The clock of rows never runs back, whatever `now` does.
    pub(crate) fn next(&self, now: Millis) -> (Seq, Millis) {
        (self.log.head.next(), self.log.clock.max(now))
    }

    /// Takes the next seq and its time.
    pub(crate) fn advance(&mut self, now: Millis) -> (Seq, Millis) {
        (self.log.head, self.log.clock) = self.next(now);
        (self.log.head, self.log.clock)
    }

    /// Runs `body`; when it fails, nothing of it remains, in memory neither. One that writes with a single
    /// statement needs no transaction for that.
    pub(crate) fn all_or_nothing<T, E: From<SqlError>>(
        &mut self,
        in_transaction: bool,
        mut body: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        if in_transaction {
            return self.transaction(body);
        }
        let before = self.log.clone();
        let result = body(self);
        if result.is_err() {
            self.log = before;
        }
        result
    }

    /// Runs `body` in a transaction; when it fails, nothing of it remains, in memory neither.
    pub(crate) fn transaction<T, E: From<SqlError>>(
        &mut self,
        mut body: impl FnMut(&mut Self) -> Result<T, E>,
    ) -> Result<T, E> {
        let sql = self.sql.clone();
        let before = self.log.clone();
        let mut result = None;
        let outer = sql.transaction(&mut || match result.insert(body(self)) {
            Ok(_) => Ok(()),
            Err(_) => Err(SqlError("rolled back".to_owned())),
        });
        let result = match (outer, result) {
            (_, Some(Err(error))) => Err(error),
            (Err(error), _) => Err(error.into()),
            (Ok(()), Some(Ok(value))) => Ok(value),
            (Ok(()), None) => Err(SqlError("the transaction did not run".to_owned()).into()),
        };
        if result.is_err() {
            self.log = before;
        }
        result
    }

    /// Gives the log a new identity: no cursor of before resumes anything.
    pub(crate) fn renew_epoch(&mut self, seed: Seed, now: Millis) -> Result<(), SqlError> {
        let missing = || SqlError("the seed makes no epoch".to_owned());
        let epoch = Epoch::parse(&seed.epoch()).ok_or_else(missing)?;
        self.put_meta("epoch", epoch.as_str())?;
        self.put_meta("epoch_at", &now.0.to_string())?;
        (self.log.epoch, self.log.epoch_at) = (epoch, now);
        Ok(())
    }

    fn put_meta(&self, name: &'static str, value: &str) -> Result<(), SqlError> {
        self.exec(
            "INSERT INTO meta (name, value) VALUES (?, ?)
             ON CONFLICT (name) DO UPDATE SET value = excluded.value",
            &[Param::Text(name), Param::Text(value)],
        )
    }

    fn exec(&self, sql: &'static str, params: &[Param<'_>]) -> Result<(), SqlError> {
        self.sql
            .run(sql, params, &mut |_| ControlFlow::Continue(()))
    }
}

/// The first row of a result that has few, if `read` makes something of it.
fn first<T>(
    sql: &impl Sql,
    text: &'static str,
    params: &[Param<'_>],
    read: impl Fn(&dyn Columns) -> Option<T>,
) -> Result<Option<T>, SqlError> {
    let mut found = None;
    sql.first(text, params, &mut |row| found = read(row))?;
    Ok(found)
}

/// All rows of a result that `read` makes something of.
fn collect<T>(
    sql: &impl Sql,
    text: &'static str,
    params: &[Param<'_>],
    read: impl Fn(&dyn Columns) -> Option<T>,
) -> Result<Vec<T>, SqlError> {
    let mut found = Vec::new();
    sql.run(text, params, &mut |row| {
        found.extend(read(row));
        ControlFlow::Continue(())
    })?;
    Ok(found)
}
