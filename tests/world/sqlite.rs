//! The native driver of the engine's SQL: rusqlite, in memory.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use rusqlite::types::ValueRef;
use rusqlite::{Connection, ToSql};

use super::{Columns, Param, Sql, SqlError};

/// One space's database. Clones share it, as the object's driver does.
#[derive(Debug, Clone)]
pub struct Sqlite {
    connection: Rc<Connection>,
    /// How many more statements succeed until one fails, once: a full disk in mid-turn.
    fail_after: Rc<Cell<Option<u32>>>,
    /// How often the database's size was asked for.
    pub sizes: Rc<Cell<u32>>,
    /// How many rows queries have handed over.
    pub handed: Rc<Cell<u64>>,
}

impl Sqlite {
    pub fn new() -> Self {
        let connection = Connection::open_in_memory().unwrap();
        // All that the engine and the tests ask for: parsing it anew would take most of their time.
        connection.set_prepared_statement_cache_capacity(256);
        Self {
            connection: Rc::new(connection),
            fail_after: Rc::default(),
            sizes: Rc::default(),
            handed: Rc::default(),
        }
    }

    /// Lets so many statements succeed and fails the next one, once. A commit counts as one.
    pub fn fail_after(&self, statements: u32) {
        self.fail_after.set(Some(statements));
    }

    /// Whether a failure that was asked for is still to come; it is called off.
    pub fn spared(&self) -> bool {
        self.fail_after.take().is_some()
    }

    fn step(&self) -> Result<(), SqlError> {
        match self.fail_after.get() {
            Some(0) => {
                self.fail_after.set(None);
                Err(SqlError("disk full, says the test".to_owned()))
            }
            Some(left) => {
                self.fail_after.set(Some(left - 1));
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// One number that a query gives.
    pub fn number(&self, sql: &str) -> u64 {
        let mut statement = self.connection.prepare_cached(sql).unwrap();
        statement.query_row([], |row| row.get::<_, i64>(0)).unwrap() as u64
    }

    pub fn execute(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }
}

struct Row<'a, 'b>(&'a rusqlite::Row<'b>);

impl Columns for Row<'_, '_> {
    fn int(&self, column: usize) -> Option<u64> {
        match self.0.get_ref(column).ok()? {
            ValueRef::Integer(value) => u64::try_from(value).ok(),
            _ => None,
        }
    }

    fn str(&self, column: usize) -> Option<&str> {
        self.0.get_ref(column).ok()?.as_str().ok()
    }
}

fn error(error: rusqlite::Error) -> SqlError {
    SqlError(error.to_string())
}

impl Sql for Sqlite {
    fn run(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&dyn Columns) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        self.step()?;
        // The object binds every number as a double: what survives here must survive that.
        let bound: Vec<Box<dyn ToSql>> = params
            .iter()
            .map(|param| match *param {
                Param::Null => Box::new(rusqlite::types::Null) as Box<dyn ToSql>,
                Param::Int(value) => Box::new(value as f64),
                Param::Text(text) => Box::new(text.to_owned()),
            })
            .collect();
        let bound: Vec<&dyn ToSql> = bound.iter().map(AsRef::as_ref).collect();
        let mut statement = self.connection.prepare_cached(sql).map_err(error)?;
        let mut rows = statement.query(bound.as_slice()).map_err(error)?;
        while let Some(row) = rows.next().map_err(error)? {
            self.handed.set(self.handed.get() + 1);
            if each(&Row(row)).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Without index entries, which the platform counts, too.
    fn written(&self) -> u64 {
        self.connection.total_changes()
    }

    fn size(&self) -> Result<u64, SqlError> {
        self.sizes.set(self.sizes.get() + 1);
        let pragma = "SELECT (page_count - freelist_count) * page_size
            FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        let size = self
            .connection
            .query_row(pragma, [], |row| row.get::<_, i64>(0));
        size.map(i64::unsigned_abs).map_err(error)
    }

    fn transaction(&self, body: &mut dyn FnMut() -> Result<(), SqlError>) -> Result<(), SqlError> {
        let run = |sql| self.connection.prepare_cached(sql)?.execute([]);
        run("BEGIN").map_err(error)?;
        let result = body().and_then(|()| self.step());
        let end = if result.is_ok() { "COMMIT" } else { "ROLLBACK" };
        run(end).map_err(error)?;
        result
    }
}
