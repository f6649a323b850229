//! One question to a table: what it is about, and what came of it.

use super::schema::Schema;
use super::sql::{Database, Statement, text};
use super::{Table, fetch, write};
use crate::channel::Rule;
use crate::limits;
use crate::names::{Millis, Space};
use crate::protocol::{Code, Problem};
use crate::source::{Answered, Ask, Failed, Question, not_set_up};

/// What a question to a table is about.
#[derive(Debug, Clone, Copy)]
pub struct Task<'a> {
    /// The space that asks. Others may write the same table.
    pub space: &'a Space,
    /// The table.
    pub table: &'a Table,
    /// What is known of it.
    pub schema: &'a Schema,
    /// The rule of the question's channel.
    pub rule: &'a Rule,
    /// What is asked.
    pub question: &'a Question,
    /// Length of a row.
    pub row_bytes: usize,
}

/// When a question is answered, and what tells its writes from all others.
#[derive(Debug, Clone)]
pub struct Moment {
    /// The time.
    pub now: Millis,
    /// A name that nothing else has.
    pub nonce: String,
}

/// What came of a question.
#[derive(Debug)]
pub struct Done {
    /// The answer.
    pub answered: Answered,
    /// What the log should say.
    pub log: Vec<String>,
    /// Whether the database said something unexpected: its schema may be another now.
    pub surprised: bool,
}

impl Done {
    pub(super) fn new(answered: Answered) -> Self {
        Self {
            answered,
            log: Vec::new(),
            surprised: false,
        }
    }

    pub(super) fn refused(problem: impl Into<Failed>) -> Self {
        Self::new(Err(problem.into()))
    }

    /// The database is not as the rule says: how, is for the log.
    pub(super) fn misfit(line: String) -> Self {
        Self {
            log: vec![line],
            ..Self::refused(not_set_up())
        }
    }

    /// The database threw, or answered what cannot be read.
    pub(super) fn thrown(table: &Table, thrown: &str, may_be_done: bool) -> Self {
        let problem = Problem {
            retry_after_ms: Some(limits::D1_RETRY_MS),
            ..Problem::new(
                Code::Unavailable,
                "the database did not answer as it should",
            )
        };
        Self {
            log: vec![format!("{} {}: {thrown}", table.binding, table.name)],
            surprised: true,
            ..Self::refused(Failed {
                problem,
                may_be_done,
            })
        }
    }
}

impl Task<'_> {
    /// The columns that say whose a row is, and what they hold of the rows that are asked for.
    pub(super) fn home(&self) -> impl Iterator<Item = (&str, &str)> {
        let table = self.table;
        let space = table
            .space
            .as_deref()
            .map(|column| (column, self.space.as_str()));
        let channel = self.question.channel.as_str();
        let channel = table.channel.as_deref().map(|column| (column, channel));
        space.into_iter().chain(channel)
    }

    /// Appends what holds for rows of this space and channel alone; a condition must follow. A
    /// column's own collation does not count: names that differ are never the same.
    pub(super) fn add_home(&self, statement: &mut Statement) {
        for (column, is) in self.home() {
            statement
                .add(&["t.`", column, "` = "])
                .bind(&text(is))
                .add(&[" COLLATE BINARY AND "]);
        }
    }

    /// Answers the question.
    pub async fn run<D: Database>(&self, database: &D, moment: &Moment) -> Done {
        match &self.question.what {
            Ask::Fetch(fetch) => fetch::page(database, self, fetch).await,
            Ask::Write(write) => write::write(database, self, write, moment).await,
            Ask::Authorize(_) => {
                Done::refused(Problem::new(Code::Forbidden, "a table authorizes nothing"))
            }
        }
    }
}

#[cfg(test)]
mod tests;
