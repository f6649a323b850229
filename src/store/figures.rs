//! Figures for operators, each read in bounded time.

use super::sql::{Param, Sql, SqlError};
use super::{Store, collect, first};
use crate::names::Seq;

impl<S: Sql> Store<S> {
    /// How many rows the log holds, tombstones included; counts no further than `most`. No count
    /// is kept: it would cost every write another row.
    pub(crate) fn count_rows(&self, most: usize) -> Result<usize, SqlError> {
        let counted = first(
            &self.sql,
            "SELECT count(*) FROM (SELECT 1 FROM rows LIMIT ?)",
            &[Param::Int(most as u64)],
            |row| row.int(0),
        )?;
        Ok(counted.unwrap_or_default() as usize)
    }

    /// The channels that have a floor, by name, at most so many.
    pub(crate) fn floors(&self, most: usize) -> Result<Vec<(String, Seq)>, SqlError> {
        collect(
            &self.sql,
            "SELECT name, floor FROM channels WHERE floor > 0 ORDER BY name LIMIT ?",
            &[Param::Int(most as u64)],
            |row| Some((row.text(0)?, Seq(row.int(1)?))),
        )
    }
}
