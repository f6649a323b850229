//! The object's driver of the engine's SQL: `SqlStorage`, reached in few crossings.

use std::cell::{Cell, RefCell};
use std::ops::ControlFlow;
use std::rc::Rc;

use js_sys::Array;
use wasm_bindgen::{JsCast, JsValue};

use super::glue;
use crate::packed::Rows;
use crate::protocol::RestoreBody;
use crate::small_map::SmallMap;
use crate::store::{Columns, Param, Sql, SqlError};

/// Rows that cross from JavaScript at once.
const CHUNK: u32 = 64;

/// The database of one object. Clones share it.
#[derive(Clone)]
pub(super) struct Database {
    glue: glue::Database,
    /// Whether a statement's rows are being read: another one would take them away.
    reading: Rc<Cell<bool>>,
    /// The numbers of statements, by where their text is and how long.
    statements: Rc<RefCell<SmallMap<(usize, usize), u32>>>,
}

impl Database {
    pub(super) fn new(storage: &JsValue) -> Self {
        Self {
            glue: glue::Database::new(storage),
            reading: Rc::default(),
            statements: Rc::default(),
        }
    }

    /// Sees to it that the alarm rings at `at_ms` or before.
    pub(super) fn ring_by(&self, at_ms: u64) {
        self.glue.ring_by(at_ms as f64);
    }

    /// The alarm rang, so none is set: sets the next one, if there is one.
    pub(super) fn rang(&self, next_ms: Option<u64>) {
        self.glue.rang(next_ms.map(|at| at as f64));
    }

    /// Has the storage restored when the object is next made. The bookmarks of what it will be, and
    /// of how it is.
    pub(super) async fn restore(&self, to: &RestoreBody) -> Result<(String, String), JsValue> {
        let (at, bookmark) = match to {
            RestoreBody::Time(at) => (JsValue::from(at.0 as f64), JsValue::UNDEFINED),
            RestoreBody::Bookmark(bookmark) => (JsValue::UNDEFINED, JsValue::from(bookmark)),
        };
        let bookmarks: Array = self.glue.restore(at, bookmark).await?.unchecked_into();
        let text = |index| bookmarks.get(index).as_string().unwrap_or_default();
        Ok((text(0), text(1)))
    }

    /// The number of a statement. Its text never moves: it is told from others by its place.
    fn statement(&self, text: &'static str) -> u32 {
        let place = (text.as_ptr() as usize, text.len());
        let mut statements = self.statements.borrow_mut();
        if let Some(number) = statements.get(&place) {
            return *number;
        }
        let number = self.glue.prepare(text);
        statements.insert(place, number);
        number
    }

    /// Runs a statement by `begin`, which is told its number and its parameters: all cross at once, because what
    /// crosses one by one costs more than it does in SQLite.
    fn begin(
        &self,
        text: &'static str,
        params: &[Param<'_>],
        begin: impl FnOnce(u32, &str, &[f64]) -> Result<Vec<f64>, JsValue>,
    ) -> Result<Rows, SqlError> {
        let mut texts = String::new();
        let mut numbers = Vec::with_capacity(params.len());
        for param in params {
            numbers.push(match *param {
                Param::Null => f64::NAN,
                Param::Int(value) => value as f64,
                Param::Text(text) => {
                    texts.push_str(text);
                    -1.0 - utf16_len(text) as f64
                }
            });
        }
        let first = begin(self.statement(text), &texts, &numbers);
        self.unpacked(&first.map_err(error)?)
    }

    /// Reads rows while nobody else does.
    fn alone<T>(&self, read: impl FnOnce() -> Result<T, SqlError>) -> Result<T, SqlError> {
        if self.reading.replace(true) {
            return Err(SqlError("a statement inside another's rows".to_owned()));
        }
        let result = read();
        self.reading.set(false);
        result
    }

    /// The rows that `glue.js` has packed.
    fn unpacked(&self, packed: &[f64]) -> Result<Rows, SqlError> {
        let units = packed.get(1).map_or(0, |units| *units as usize);
        let texts = match units {
            0 => String::new(),
            units => self.texts(units)?,
        };
        Rows::unpack(packed, texts)
    }

    /// The texts of the rows that were read last, which are so long in JavaScript.
    fn texts(&self, units: usize) -> Result<String, SqlError> {
        // Three bytes a unit are the most there can be; one is what most texts take.
        for bytes in [units, 3 * units] {
            let mut into = vec![0; bytes];
            if let Some(written) = self.glue.texts(&mut into) {
                into.truncate(written as usize);
                let texts = String::from_utf8(into);
                return texts.map_err(|_| SqlError("a text is no UTF-8".to_owned()));
            }
        }
        Err(SqlError("texts are longer than they can be".to_owned()))
    }
}

/// The length that JavaScript gives a text.
fn utf16_len(text: &str) -> usize {
    match text.is_ascii() {
        true => text.len(),
        false => text.encode_utf16().count(),
    }
}

fn error(thrown: JsValue) -> SqlError {
    SqlError(glue::thrown(&thrown))
}

impl Sql for Database {
    fn run(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        each: &mut dyn FnMut(&dyn Columns) -> ControlFlow<()>,
    ) -> Result<(), SqlError> {
        self.alone(|| {
            let glue = &self.glue;
            let mut rows = self.begin(sql, params, |number, texts, numbers| {
                glue.exec(number, texts, numbers, CHUNK)
            })?;
            loop {
                for row in rows.iter() {
                    if each(&row).is_break() {
                        return Ok(());
                    }
                }
                if rows.are_last {
                    return Ok(());
                }
                rows = self.unpacked(&glue.more(CHUNK).map_err(error)?)?;
            }
        })
    }

    fn first(
        &self,
        sql: &'static str,
        params: &[Param<'_>],
        take: &mut dyn FnMut(&dyn Columns),
    ) -> Result<(), SqlError> {
        self.alone(|| {
            let glue = &self.glue;
            let rows = self.begin(sql, params, |number, texts, numbers| {
                glue.first(number, texts, numbers)
            })?;
            rows.iter().for_each(|row| take(&row));
            Ok(())
        })
    }

    fn written(&self) -> u64 {
        self.glue.written() as u64
    }

    fn size(&self) -> Result<u64, SqlError> {
        Ok(self.glue.size() as u64)
    }

    fn transaction(&self, body: &mut dyn FnMut() -> Result<(), SqlError>) -> Result<(), SqlError> {
        let mut run = || match body() {
            Ok(()) => Ok(JsValue::UNDEFINED),
            Err(error) => Err(JsValue::from(error.0)),
        };
        self.glue.transaction(&mut run).map_err(error)
    }
}
