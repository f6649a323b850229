//! How many spaces each owner has brought into being on a day. Kept by the default space alone.

use crate::names::Millis;

use super::outcomes::day;
use super::sql::{Param, Sql, SqlError};
use super::{Store, first};

impl<S: Sql> Store<S> {
    /// The spaces that an owner has brought into being today (UTC).
    pub(crate) fn new_spaces(&self, owner: &str, now: Millis) -> Result<u32, SqlError> {
        let found = first(
            &self.sql,
            "SELECT count FROM new_spaces WHERE day = ? AND owner = ?",
            &[Param::Int(day(now)), Param::Text(owner)],
            |row| row.int(0),
        )?;
        let count = found.unwrap_or_default();
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Counts one more. What was counted on earlier days is forgotten.
    pub(crate) fn count_new_space(&mut self, owner: &str, now: Millis) -> Result<(), SqlError> {
        let today = [Param::Int(day(now))];
        self.exec("DELETE FROM new_spaces WHERE day < ?", &today)?;
        self.exec(
            "INSERT INTO new_spaces (day, owner, count) VALUES (?, ?, 1)
             ON CONFLICT (day, owner) DO UPDATE SET count = count + 1",
            &[Param::Int(day(now)), Param::Text(owner)],
        )
    }
}
