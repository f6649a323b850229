//! A row of the table as a statement gives it, and as a row of the channel.

use serde_json::value::RawValue;

use super::cell::{is_bindable, told};
use super::schema::Schema;
use super::sql::{Statement, name};
use super::{Kind, Table};
use crate::limits::{KEY_BYTES, SAFE_INTEGER};
use crate::names::Key;
use crate::protocol::{JsonWriter, text_of};

/// What [`columns`] selects.
pub(super) struct Cells<'a> {
    pub(super) key: &'a RawValue,
    pub(super) time: &'a RawValue,
    pub(super) deleted: &'a RawValue,
    /// Bytes of all fields, about.
    pub(super) width: usize,
    fields: &'a [&'a RawValue],
}

/// The columns of a row under the names that [`wrapped`] knows.
pub(super) fn columns(table: &Table) -> String {
    let own = |column: &str| format!("t.{}", name(column));
    let deleted = table.deleted_at.as_deref().map_or("NULL".to_owned(), own);
    let (key, time) = (own(&table.key), own(&table.updated_at));
    let mut list = format!(
        "{key} AS k, {time} AS u, {deleted} AS d, {} AS w",
        width(table)
    );
    for (nth, column) in table.columns.iter().enumerate() {
        list += &format!(", {} AS c{nth}", own(&column.name));
    }
    list
}

/// Bytes of all fields, about. The lengths of texts are known without reading them.
pub(super) fn width(table: &Table) -> String {
    let columns = table.columns.iter();
    let lengths = columns.map(|column| format!("ifnull(octet_length(t.{}),0)", name(&column.name)));
    lengths.collect::<Vec<_>>().join("+")
}

/// Selects from a statement that gives [`columns`], whose end `inner` appends. A row that is too wide
/// comes without its fields, so that nobody has to hold it.
pub(super) fn wrapped(
    table: &Table,
    row_bytes: usize,
    inner: impl FnOnce(Statement) -> Statement,
) -> Statement {
    let statement = Statement::new("SELECT k, u, d, w");
    let statement = (0..table.columns.len()).fold(statement, |statement, nth| {
        // One value for all: the text tells its place.
        match nth {
            0 => statement.then(", iif(w > ").bind(row_bytes.to_string()),
            _ => statement.then(", iif(w > ?1"),
        }
        .then(&format!(", NULL, c{nth})"))
    });
    inner(statement.then(&format!(
        " FROM (SELECT {} FROM {} AS t WHERE ",
        columns(table),
        name(&table.name)
    )))
}

/// Holds for keys that can be a row's: others are as if they were not there.
pub(super) fn has_key(table: &Table, schema: &Schema) -> String {
    let key = format!("t.{}", name(&table.key));
    match schema.integer_key {
        true => format!(
            "typeof({key}) = 'integer' AND {key} BETWEEN -{SAFE_INTEGER} AND {SAFE_INTEGER}"
        ),
        false => {
            format!("typeof({key}) = 'text' AND octet_length({key}) BETWEEN 1 AND {KEY_BYTES}")
        }
    }
}

/// What a key is bound as; nothing where no row can have it.
pub(super) fn key_param(schema: &Schema, key: &Key) -> Option<String> {
    let text = key.as_str();
    if !schema.integer_key {
        return Some(super::sql::text(text));
    }
    let number: i64 = text.parse().ok()?;
    let fits = number.unsigned_abs() <= SAFE_INTEGER && number.to_string() == text;
    fits.then(|| text.to_owned())
}

impl<'a> Cells<'a> {
    pub(super) fn read(row: &'a [&'a RawValue]) -> Option<Self> {
        let ([key, time, deleted, width], fields) = row.split_first_chunk::<4>()?;
        Some(Self {
            key,
            time,
            deleted,
            width: serde_json::from_str(width.get()).ok()?,
            fields,
        })
    }

    /// The row's key; none where the text is no key.
    pub(super) fn key(&self) -> Option<Key> {
        match text_of(self.key) {
            Some(key) => Key::parse(&key).ok(),
            None => Key::parse(self.key.get()).ok(),
        }
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.get() != "null"
    }

    /// Whether it can be told later if somebody has changed the row.
    pub(super) fn can_be_guarded(&self) -> bool {
        is_bindable(self.time.get()) && is_bindable(self.deleted.get())
    }

    /// The row as JSON, of at most `row_bytes`.
    ///
    /// # Errors
    /// Why it cannot be told, for the log.
    pub(super) fn json(
        &self,
        table: &Table,
        key: &Key,
        row_bytes: usize,
    ) -> Result<String, String> {
        let wide = || format!("wider than {row_bytes} bytes");
        if self.width > row_bytes {
            return Err(wide());
        }
        let mut row = JsonWriter::with_capacity(self.width + 16 * table.columns.len() + 16);
        let mut wrong = None;
        row.object(|o| {
            o.text("id", key.as_str());
            for (column, cell) in table.columns.iter().zip(self.fields) {
                match told(column.kind, cell) {
                    Some(json) => o.raw(&column.name, &json),
                    None => wrong = Some(column),
                }
            }
        });
        if let Some(column) = wrong {
            let held = match column.kind {
                Kind::Any | Kind::Text => "a text or a number",
                Kind::Number => "a number",
                Kind::Boolean => "a boolean",
                Kind::Json => "json",
            };
            return Err(format!("whose {} is not {held}", column.name));
        }
        let row = row.finish();
        if row.len() > row_bytes {
            return Err(wide());
        }
        Ok(row)
    }
}
