//! A table in D1 as the home of a channel's rows: what its rule says of it.
//!
//! Everything here is pure: it makes SQL and reads what came of it. Who runs it is a [`Database`].

mod cell;
mod clock;
mod fetch;
mod place;
mod records;
mod row;
mod schema;
mod sql;
mod task;
#[cfg(test)]
mod world;
mod write;

use serde_json::value::RawValue;

use super::Settings;
use crate::limits;
use crate::names::Space;
use crate::row::REFUSED_FIELDS;

pub use records::OUTCOMES;
pub use schema::{Checked, Known, Schema, Standing, examine};
pub use sql::{Database, Statement, to_json};
pub use task::{Done, Moment, Task};

/// Where in D1 a channel's rows are, as its rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The name of the database's binding.
    pub binding: String,
    /// The table's name.
    pub(crate) name: String,
    /// The column that holds a row's key.
    pub(crate) key: String,
    /// The column that says when a row was changed last.
    pub(crate) updated_at: String,
    /// The column that says when a row was deleted; without one its row goes.
    pub(crate) deleted_at: Option<String>,
    /// The column that says which space a row is of; without one all rows are of the default space.
    pub(crate) space: Option<String>,
    /// The column that says which channel a row is of; without one they are of the rule's only one.
    pub(crate) channel: Option<String>,
    /// The columns that are fields of a row.
    pub(crate) columns: Vec<Column>,
}

/// A column that is a field of a row, under its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) kind: Kind,
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Whatever SQLite gives: a text, a number or null.
    Any,
    /// A text.
    Text,
    /// A number.
    Number,
    /// 0 or 1.
    Boolean,
    /// JSON as text.
    Json,
}

impl Table {
    pub(super) fn read(binding: String, settings: &mut Settings<'_>) -> Result<Self, String> {
        let mut name = |setting: &str| -> Result<Option<String>, String> {
            let Some(name) = settings.text(setting)? else {
                return Ok(None);
            };
            identifier(&name).map_err(|what| format!("{setting} {what}"))?;
            Ok(Some(name))
        };
        let needed = |setting: &'static str| move || format!("needs {setting}, as d1 does");
        let table = Self {
            binding,
            name: name("table")?.ok_or_else(needed("table"))?,
            key: name("key")?.ok_or_else(needed("key"))?,
            updated_at: name("updatedAt")?.ok_or_else(needed("updatedAt"))?,
            deleted_at: name("deletedAt")?,
            space: name("space")?,
            channel: name("channel")?,
            columns: columns(settings.take("columns").ok_or_else(needed("columns"))?)?,
        };
        table.check()?;
        Ok(table)
    }

    fn check(&self) -> Result<(), String> {
        let reserved = ["sqlite_", "_cf_", "tidewire_"];
        let lower = self.name.to_ascii_lowercase();
        if let Some(prefix) = reserved.iter().find(|prefix| lower.starts_with(**prefix)) {
            return Err(format!("table must not begin with {prefix}"));
        }
        let mut own = vec![self.key.as_str(), &self.updated_at];
        own.extend(self.deleted_at.as_deref());
        own.extend(self.home());
        if let Some(twice) = doubled(&own) {
            let what = "key, updatedAt, deletedAt, space and channel must be different columns";
            return Err(format!("{what}: {twice:?} comes twice"));
        }
        let named: Vec<&str> = self.columns.iter().map(|c| c.name.as_str()).collect();
        if let Some(twice) = doubled(&named) {
            return Err(format!("columns: {twice:?} comes twice"));
        }
        for name in named {
            if same(name, &self.key) || name == "id" {
                return Err(format!("columns: {name:?} is the row's key, as id, anyway"));
            }
            if self.home().any(|own| same(name, own)) {
                return Err(format!(
                    "columns: {name:?} says whose a row is, and is no field"
                ));
            }
            if REFUSED_FIELDS.contains(&name) {
                return Err(format!("columns: {name:?} is no field's name"));
            }
        }
        Ok(())
    }

    /// The column of a field, and its place.
    pub(crate) fn column(&self, field: &str) -> Option<(usize, &Column)> {
        let mut columns = self.columns.iter().enumerate();
        columns.find(|(_, column)| column.name == field)
    }

    /// Whether a field can say who sees a row: it holds a text, or a list.
    pub(crate) fn can_scope(&self, field: &str) -> bool {
        let kind = self.column(field).map(|(_, column)| column.kind);
        field == "id" || matches!(kind, Some(Kind::Any | Kind::Text | Kind::Json))
    }

    /// The columns that say whose a row is.
    pub(crate) fn home(&self) -> impl Iterator<Item = &str> {
        self.space
            .as_deref()
            .into_iter()
            .chain(self.channel.as_deref())
    }

    /// Whether its rows say of which space they are. Else they are of the default one.
    pub(crate) fn serves_all(&self) -> bool {
        self.space.is_some()
    }

    /// Whether a space may ask for rows.
    pub(crate) fn serves(&self, space: &Space) -> bool {
        self.serves_all() || *space == Space::default_space()
    }

    /// Whether the source alone writes the column.
    pub(crate) fn is_time(&self, column: &str) -> bool {
        let deleted_at = self.deleted_at.as_deref();
        same(column, &self.updated_at) || deleted_at.is_some_and(|name| same(column, name))
    }
}

/// Whether SQLite takes two names for the same.
fn same(one: &str, other: &str) -> bool {
    one.eq_ignore_ascii_case(other)
}

fn doubled<'a>(names: &[&'a str]) -> Option<&'a str> {
    let mut rest = names;
    while let Some((first, others)) = rest.split_first() {
        if others.iter().any(|other| same(first, other)) {
            return Some(first);
        }
        rest = others;
    }
    None
}

fn columns(raw: &RawValue) -> Result<Vec<Column>, String> {
    let most = limits::D1_COLUMNS;
    let texts: Option<Vec<String>> = serde_json::from_str(raw.get()).ok();
    let texts = texts.filter(|texts| (1..=most).contains(&texts.len()));
    let texts = texts.ok_or_else(|| format!("columns must be a list of 1 to {most} texts"))?;
    let column = |text: &String| {
        let (name, kind) = match text.split_once(':') {
            Some((name, kind)) => (name, Kind::read(kind)),
            None => (text.as_str(), Some(Kind::Any)),
        };
        identifier(name).map_err(|what| format!("columns: {text:?} {what}"))?;
        let types = "columns: a type is text, number, boolean or json";
        Ok(Column {
            name: name.to_owned(),
            kind: kind.ok_or_else(|| format!("{types}, not that of {text:?}"))?,
        })
    };
    texts.iter().map(column).collect()
}

impl Kind {
    fn read(text: &str) -> Option<Self> {
        match text {
            "text" => Some(Self::Text),
            "number" => Some(Self::Number),
            "boolean" => Some(Self::Boolean),
            "json" => Some(Self::Json),
            _ => None,
        }
    }
}

/// Names go into the text of a statement, so they hold nothing that could mean something there.
fn identifier(name: &str) -> Result<(), String> {
    let most = limits::D1_IDENTIFIER_BYTES;
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    let goes_on = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if begins && name.chars().all(goes_on) && name.len() <= most {
        return Ok(());
    }
    Err(format!(
        "must be a name of letters, digits and _, no digit first, of 1 to {most} characters"
    ))
}

#[cfg(test)]
mod tests {
    use crate::limits;
    use crate::source::{Home, Source};

    fn read(json: &str) -> Result<super::Table, String> {
        match Source::parse(json)?.home {
            Home::D1(table) => Ok(table),
            Home::Hooks(_) | Home::Handler(_) => Err("another home".to_owned()),
        }
    }

    fn with(columns: &str, more: &str) -> Result<super::Table, String> {
        let named = r#""d1":"DB","table":"todos","key":"uuid","updatedAt":"updated_at""#;
        read(&format!(r#"{{{named},"columns":{columns}{more}}}"#))
    }

    #[test]
    fn a_table_is_read_with_its_columns_and_their_types() {
        let columns = r#"["title","n:number","done:boolean","tags:json","t:text","updated_at"]"#;
        let table = with(columns, r#","deletedAt":"gone""#).unwrap();
        assert_eq!(
            (table.binding.as_str(), table.name.as_str()),
            ("DB", "todos")
        );
        let kinds: Vec<_> = table.columns.iter().map(|column| column.kind).collect();
        use super::Kind::{Any, Boolean, Json, Number, Text};
        assert_eq!(kinds, [Any, Number, Boolean, Json, Text, Any]);
        assert!(table.is_time("Updated_At") && table.is_time("gone") && !table.is_time("title"));
        for (field, can) in [("id", true), ("tags", true), ("title", true), ("n", false)] {
            assert_eq!(table.can_scope(field), can, "{field}");
        }
        assert!(!table.can_scope("uuid") && !table.can_scope("done"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        for (json, named) in [
            (r#"{"d1":"DB"}"#, "table"),
            (r#"{"d1":"DB","table":"t"}"#, "key"),
            (r#"{"d1":"DB","table":"t","key":"id"}"#, "updatedAt"),
            (
                r#"{"d1":"DB","table":"t","key":"id","updatedAt":"u"}"#,
                "columns",
            ),
            (r#"{"d1":"DB","table":"t; DROP","key":"id"}"#, "table must"),
            (r#"{"d1":"DB","table":1}"#, "table must"),
        ] {
            let error = read(json).unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
        for (columns, more, named) in [
            ("[]", "", "columns must"),
            ("{}", "", "columns must"),
            ("[1]", "", "columns must"),
            (r#"["a`b"]"#, "", "a`b"),
            (r#"["1a"]"#, "", "1a"),
            (r#"[""]"#, "", "name"),
            (r#"["a:int"]"#, "", "a:int"),
            (r#"["a:"]"#, "", "a:"),
            (r#"["a","A"]"#, "", "twice"),
            (r#"["uuid"]"#, "", "key"),
            (r#"["id"]"#, "", "key"),
            (r#"["constructor"]"#, "", "constructor"),
            (r#"["a"]"#, r#","deletedAt":"UPDATED_AT""#, "twice"),
            (r#"["a"]"#, r#","deletedat":"x""#, "deletedat"),
            (r#"["a"]"#, r#","space":"a b""#, "space must"),
            (r#"["a"]"#, r#","space":"s`""#, "space must"),
            (r#"["a"]"#, r#","space":true"#, "space must"),
            (r#"["a"]"#, r#","channel":"c') --""#, "channel must"),
            (r#"["a"]"#, r#","channel":"""#, "channel must"),
            (r#"["a"]"#, r#","space":"UUID""#, "twice"),
            (r#"["a"]"#, r#","channel":"updated_at""#, "twice"),
            (r#"["a"]"#, r#","space":"s","channel":"S""#, "twice"),
            (r#"["a","S"]"#, r#","space":"s""#, "whose"),
            (r#"["a","c:text"]"#, r#","channel":"C""#, "whose"),
            (r#"["a"]"#, r#","authorize":true"#, "authorize"),
        ] {
            let error = with(columns, more).unwrap_err();
            assert!(error.contains(named), "{columns}{more}: {error}");
        }
        for table in ["sqlite_schema", "_CF_KV", "tidewire_outcomes"] {
            let json = format!(
                r#"{{"d1":"DB","table":"{table}","key":"id","updatedAt":"u","columns":["a"]}}"#
            );
            assert!(read(&json).unwrap_err().contains("begin"), "{table}");
        }
    }

    #[test]
    fn names_and_columns_hold_at_their_bounds_and_not_past_them() {
        let name = |bytes| format!(r#"["{}"]"#, "n".repeat(bytes));
        assert!(with(&name(limits::D1_IDENTIFIER_BYTES), "").is_ok());
        assert!(with(&name(limits::D1_IDENTIFIER_BYTES + 1), "").is_err());
        let columns = |count: usize| {
            let names: Vec<_> = (0..count).map(|n| format!("\"c{n}\"")).collect();
            format!("[{}]", names.join(","))
        };
        assert!(with(&columns(limits::D1_COLUMNS), "").is_ok());
        assert!(with(&columns(limits::D1_COLUMNS + 1), "").is_err());
    }
}
