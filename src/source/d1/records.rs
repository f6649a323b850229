//! What was executed: records of mutations, beside the rows that they wrote.
//!
//! The day leads their key, so that the oldest are found without an index of their own: a record
//! costs one row written and, days later, one more to remove it.

use super::sql::{Results, Statement, text};
use crate::limits::{D1_RECORD_DAYS, D1_SWEPT, DAY_MS};
use crate::names::{Millis, Space};
use crate::protocol::text_of;
use crate::source::Write;

/// The statement that creates the table of records. Once for a database.
pub const OUTCOMES: &str = "CREATE TABLE tidewire_outcomes (
  day INTEGER NOT NULL,
  owner TEXT NOT NULL,
  id TEXT NOT NULL,
  hash TEXT NOT NULL,
  nonce TEXT NOT NULL,
  PRIMARY KEY (day, owner, id)
) WITHOUT ROWID";

/// Its name, and its columns in the order of their key.
pub(super) const NAME: &str = "tidewire_outcomes";
pub(super) const COLUMNS: [(&str, u64); 5] = [
    ("day", 1),
    ("owner", 2),
    ("id", 3),
    ("hash", 0),
    ("nonce", 0),
];

/// The record of one mutation, as one try to write it makes it.
pub(super) struct Record<'a> {
    pub(super) write: &'a Write,
    pub(super) space: &'a Space,
    /// Tells this try from all others.
    pub(super) nonce: &'a str,
    pub(super) now: Millis,
}

/// What was found under a mutation's id.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) hash: String,
    pub(super) nonce: String,
}

impl Record<'_> {
    fn day(&self) -> u64 {
        self.now.0 / DAY_MS
    }

    /// Whose id it is, as a text. Spaces share a database, and an identity may use an id in each; no
    /// space has a slash in its name.
    fn owner(&self) -> String {
        text(&format!("{}/{}", self.space, self.write.owner))
    }

    /// `day … AND owner … AND id …`, for any day on which it may have been made: another machine's
    /// clock may be past midnight already.
    fn same_id<'s>(&self, statement: &'s mut Statement) -> &'s mut Statement {
        statement.add(&["day IN ("]);
        let first = self.oldest();
        for day in first..=self.day() + 1 {
            let comma = if day == first { "" } else { ", " };
            statement.add(&[comma]).bind(&day.to_string());
        }
        statement
            .add(&[") AND owner = "])
            .bind(&self.owner())
            .add(&[" AND id = "])
            .bind(&text(self.write.id.as_str()))
    }

    /// The first day whose records matter.
    fn oldest(&self) -> u64 {
        self.day().saturating_sub(D1_RECORD_DAYS)
    }

    /// Makes the record, if there is none of this id and a condition holds, which must follow.
    pub(super) fn insert(&self) -> Statement {
        let mut statement = Statement::new(&[
            "INSERT INTO tidewire_outcomes (day, owner, id, hash, nonce) SELECT ",
        ]);
        statement
            .bind_all(&[
                self.day().to_string(),
                self.owner(),
                text(self.write.id.as_str()),
                text(&self.write.hash),
                text(self.nonce),
            ])
            .add(&[" WHERE NOT EXISTS (SELECT 1 FROM tidewire_outcomes WHERE "]);
        self.same_id(&mut statement).add(&[") AND "]);
        statement
    }

    /// Appends what holds only where this try has made the record: a condition of the write itself.
    pub(super) fn is_made<'s>(&self, statement: &'s mut Statement) -> &'s mut Statement {
        statement.add(&["EXISTS (SELECT 1 FROM tidewire_outcomes WHERE "]);
        self.same_id(statement)
            .add(&[" AND nonce = "])
            .bind(&text(self.nonce))
            .add(&[")"])
    }

    /// Looks the record up.
    pub(super) fn select(&self) -> Statement {
        let mut statement = Statement::new(&["SELECT hash, nonce FROM tidewire_outcomes WHERE "]);
        self.same_id(&mut statement);
        statement
    }

    /// Removes some that are too old to matter.
    pub(super) fn sweep(&self) -> Statement {
        let mut statement =
            Statement::new(
                &["DELETE FROM tidewire_outcomes WHERE (day, owner, id) IN (\
             SELECT day, owner, id FROM tidewire_outcomes WHERE day < "],
            );
        statement
            .bind(&self.oldest().to_string())
            .add(&[" LIMIT "])
            .bind(&D1_SWEPT.to_string())
            .add(&[")"]);
        statement
    }
}

impl Found {
    /// What [`Record::select`] gave.
    pub(super) fn read(results: &Results<'_>, statement: usize) -> Option<Self> {
        let [hash, nonce] = results.of(statement).first()?.as_slice() else {
            return None;
        };
        Some(Self {
            hash: text_of(hash)?.into_owned(),
            nonce: text_of(nonce)?.into_owned(),
        })
    }
}
