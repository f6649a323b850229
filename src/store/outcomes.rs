//! What was executed, so that a repeat is answered and not executed again.
//!
//! Two tables alternate by day. The current day's takes what is new, both are searched, and when
//! a day begins the older one is dropped whole: an outcome lives for 24 to 48 hours.

use crate::config::Publisher;
use crate::limits;
use crate::names::{Identity, Millis, Seq, SessionId};

use super::schema::OUTCOMES_CREATE;
use super::sql::{Param, Sql, SqlError};
use super::{Store, first};

/// The day of a time, counted from the Unix epoch in UTC.
pub(super) fn day(now: Millis) -> u64 {
    now.0 / limits::DAY_MS
}

/// Whose ids these are. Ids of different owners never meet.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// A verified identity: its ids hold across all its connections.
    Identity(&'a Identity),
    /// An anonymous session.
    Session(&'a SessionId),
    /// A publisher's key, by idempotency key.
    Publisher(&'a Publisher),
}

impl Owner<'_> {
    /// The owner as text.
    pub(crate) fn to_column(self) -> String {
        match self {
            Self::Identity(identity) => format!("i{identity}"),
            Self::Session(session) => format!("s{session}"),
            Self::Publisher(Publisher::Unscoped) => "p".to_owned(),
            Self::Publisher(Publisher::Named(name)) => format!("p{name}"),
        }
    }
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The digest of the request's content: a repeat must have the same.
    pub(crate) hash: String,
    /// The seq that it took.
    pub(crate) seq: Seq,
    /// The answer's body, where it cannot be made again.
    pub(crate) result: Option<String>,
}

impl<S: Sql> Store<S> {
    /// The outcome of an earlier request of the same owner and id.
    pub(crate) fn outcome(&self, owner: Owner<'_>, id: &str) -> Result<Option<Outcome>, SqlError> {
        let owner = owner.to_column();
        first(
            &self.sql,
            "SELECT hash, seq, result FROM outcomes_0 WHERE owner = ? AND id = ?
             UNION ALL
             SELECT hash, seq, result FROM outcomes_1 WHERE owner = ? AND id = ?",
            &[
                Param::Text(&owner),
                Param::Text(id),
                Param::Text(&owner),
                Param::Text(id),
            ],
            |row| {
                Some(Outcome {
                    hash: row.text(0)?,
                    seq: Seq(row.int(1)?),
                    result: row.text(2),
                })
            },
        )
    }

    /// Remembers an outcome. One billed row, and a few more once a day.
    pub(crate) fn put_outcome(
        &mut self,
        owner: Owner<'_>,
        id: &str,
        outcome: &Outcome,
        now: Millis,
    ) -> Result<(), SqlError> {
        self.turn_outcomes(now)?;
        let insert = match self.log.outcomes_day % 2 {
            0 => "INSERT INTO outcomes_0 (owner, id, hash, seq, result) VALUES (?, ?, ?, ?, ?)",
            _ => "INSERT INTO outcomes_1 (owner, id, hash, seq, result) VALUES (?, ?, ?, ?, ?)",
        };
        self.exec(
            insert,
            &[
                Param::Text(&owner.to_column()),
                Param::Text(id),
                Param::Text(&outcome.hash),
                Param::Int(outcome.seq.0),
                outcome.result.as_deref().into(),
            ],
        )
    }

    /// Begins a new day's table. A clock that jumps back changes nothing.
    fn turn_outcomes(&mut self, now: Millis) -> Result<(), SqlError> {
        const DROP: [&str; 2] = ["DROP TABLE outcomes_0", "DROP TABLE outcomes_1"];
        let today = day(now);
        if today <= self.log.outcomes_day {
            return Ok(());
        }
        for (parity, (drop, create)) in DROP.into_iter().zip(OUTCOMES_CREATE).enumerate() {
            // Yesterday's table stays; after a longer pause both are too old.
            let is_yesterdays = today - self.log.outcomes_day == 1 && parity as u64 != today % 2;
            if !is_yesterdays {
                self.exec(drop, &[])?;
                self.exec(create, &[])?;
            }
        }
        self.log.outcomes_day = today;
        self.exec(
            "UPDATE meta SET value = ? WHERE name = 'outcomes_day'",
            &[Param::Text(&today.to_string())],
        )
    }
}
