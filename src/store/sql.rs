//! The few calls that the engine needs of SQLite: one trait, two drivers (rusqlite in native
//! tests, `SqlStorage` in the Durable Object).

use std::ops::ControlFlow;

/// A value bound to a `?`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Param<'a> {
    /// SQL `NULL`.
    Null,
    /// An integer below 2^53: the object binds it as a double.
    Int(u64),
    /// Text.
    Text(&'a str),
}

impl<'a> From<Option<&'a str>> for Param<'a> {
    fn from(text: Option<&'a str>) -> Self {
        text.map_or(Self::Null, Self::Text)
    }
}

/// One row of a result, read by the column's place.
pub trait Columns {
    /// The integer of a column; `None` for anything else.
    fn int(&self, column: usize) -> Option<u64>;

    /// The text of a column; `None` for anything else.
    fn str(&self, column: usize) -> Option<&str>;

    /// The same, to keep.
    fn text(&self, column: usize) -> Option<String> {
        self.str(column).map(str::to_owned)
    }
}

/// Why SQLite did not do it. Holds SQLite's text, which may hold data: log it, never send it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("storage failed: {0}")]
pub struct SqlError(pub String);

impl SqlError {
    /// Whether a constraint of a table was not met, in SQLite's own words. That statement alone has failed then, and
    /// nothing of it remains.
    pub(crate) fn is_of_constraint(&self) -> bool {
        self.0.contains("constraint failed")
    }
}

/// SQLite as the engine uses it: synchronous, one connection, nothing in between two calls.
pub trait Sql: Clone {
    /// Runs one statement and hands its rows to `each`, until that breaks.
    ///
    /// The text is constant: statements are cached by it.
    ///
    /// # Errors
    /// When SQLite refuses.
    fn run(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&dyn Columns) -> ControlFlow<()>,
    ) -> Result<(), SqlError>;

    /// As [`Self::run`], where only the first row is asked for and there are few: mostly this one.
    ///
    /// # Errors
    /// When SQLite refuses.
    fn first(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        take: &mut dyn FnMut(&dyn Columns),
    ) -> Result<(), SqlError> {
        self.run(sql, params, &mut |row| {
            take(row);
            ControlFlow::Break(())
        })
    }

    /// Rows written through this and its clones, as the platform bills them.
    fn written(&self) -> u64;

    /// How many bytes the database takes, free pages not counted.
    ///
    /// # Errors
    /// When SQLite refuses.
    fn size(&self) -> Result<u64, SqlError>;

    /// Runs `body` in a transaction: all that it writes, or, when it fails, nothing.
    ///
    /// # Errors
    /// What `body` returned, or why the transaction could not be made.
    fn transaction(&self, body: &mut dyn FnMut() -> Result<(), SqlError>) -> Result<(), SqlError>;
}
