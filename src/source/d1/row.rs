//! A row of the table as a statement gives it, and as a row of the channel.

use serde_json::value::RawValue;

use super::cell::{is_bindable, told};
use super::schema::Schema;
use super::sql::Statement;
use super::{Kind, Table};
use crate::limits::{KEY_BYTES, SAFE_INTEGER};
use crate::names::Key;
use crate::protocol::{JsonWriter, text_of};

/// What [`select`] selects.
pub(super) struct Cells<'a> {
    pub(super) key: &'a RawValue,
    pub(super) time: &'a RawValue,
    pub(super) deleted: &'a RawValue,
    /// Bytes of all fields, about.
    pub(super) width: usize,
    fields: &'a [&'a RawValue],
}

/// Appends the place of a row, and its bytes: of all fields, about. The lengths of texts are known
/// without reading them.
pub(super) fn add_width(statement: &mut Statement, table: &Table) {
    let (key, time) = (table.key.as_str(), table.updated_at.as_str());
    statement.add(&["t.`", key, "` AS k, t.`", time, "` AS u, 0"]);
    for column in &table.columns {
        statement.add(&["+ifnull(octet_length(t.`", &column.name, "`),0)"]);
    }
    statement.add(&[" AS w"]);
}

/// Begins a statement that gives [`Cells`]: conditions and `)` must follow. A row that is too wide
/// comes without its fields, so that nobody has to hold it.
pub(super) fn select(table: &Table, row_bytes: usize) -> Statement {
    let mut statement = Statement::new(&["SELECT k, u, d, w"]);
    for nth in 0..table.columns.len() {
        match nth {
            0 => statement.add(&[", iif(w > "]).bind(&row_bytes.to_string()),
            // One value for all.
            _ => statement.add(&[", iif(w > ?1"]),
        }
        .add(&[", NULL, c", &nth.to_string(), ")"]);
    }
    statement.add(&[" FROM (SELECT "]);
    add_width(&mut statement, table);
    match &table.deleted_at {
        Some(column) => statement.add(&[", t.`", column, "` AS d"]),
        None => statement.add(&[", NULL AS d"]),
    };
    for (nth, column) in table.columns.iter().enumerate() {
        statement.add(&[", t.`", &column.name, "` AS c", &nth.to_string()]);
    }
    statement.add(&[" FROM `", &table.name, "` AS t WHERE "]);
    statement
}

/// Appends what holds for keys that can be a row's: others are as if they were not there.
pub(super) fn add_has_key(statement: &mut Statement, table: &Table, schema: &Schema) {
    let key = table.key.as_str();
    match schema.integer_key {
        true => {
            let most = SAFE_INTEGER.to_string();
            statement.add(&["typeof(t.`", key, "`) = 'integer' AND t.`", key]);
            statement.add(&["` BETWEEN -", &most, " AND ", &most])
        }
        false => {
            statement.add(&["typeof(t.`", key, "`) = 'text' AND octet_length(t.`", key]);
            statement.add(&["`) BETWEEN 1 AND ", &KEY_BYTES.to_string()])
        }
    };
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
