//! Whether the database has what a rule says of it. Only statements are used that D1 documents.

use std::rc::Rc;

use serde_json::value::RawValue;

use super::clock::Clock;
use super::sql::{Database, Results, Statement};
use super::{Table, records, same};
use crate::limits;
use crate::names::{Millis, Space};
use crate::protocol::text_of;

/// What must be known of a table beside what its rule says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schema {
    /// Whether keys are numbers.
    pub(super) integer_key: bool,
    /// Whether a key is unique by itself, and not only among the rows of a space or a channel.
    pub(super) unique_key: bool,
    pub(super) updated: Clock,
    pub(super) deleted: Clock,
    /// Of the rule's columns, in their order, whether the database computes them.
    pub(super) generated: Vec<bool>,
    /// Whether there is a table of records: without one nothing is written.
    pub(super) records: bool,
}

/// What came of a look at a table; where it does not fit, what the log is to say.
pub type Checked = Result<Rc<Schema>, String>;

/// A setting that does not fit the database, for the log.
pub(super) fn misfit(table: &Table, what: &str) -> String {
    format!("SYNC_CHANNELS: source {}: {what}", table.binding)
}

/// What to say where the table of records is missing.
pub(super) fn no_records(table: &Table) -> String {
    misfit(
        table,
        "there is no table tidewire_outcomes as writes need it; see docs/d1.md",
    )
}

/// A column, as `PRAGMA table_xinfo` tells of it.
struct Told {
    name: String,
    declared: String,
    not_null: bool,
    /// Its place in the primary key, from 1.
    primary: u64,
    /// 2 and 3 are computed.
    hidden: u64,
}

fn number(cell: &RawValue) -> u64 {
    serde_json::from_str(cell.get()).unwrap_or_default()
}

fn told(row: &[&RawValue]) -> Option<Told> {
    let [_, name, declared, not_null, _, primary, hidden] = row else {
        return None;
    };
    Some(Told {
        name: text_of(name)?.into_owned(),
        declared: text_of(declared)?.to_ascii_uppercase(),
        not_null: number(not_null) == 1,
        primary: number(primary),
        hidden: number(hidden),
    })
}

/// Looks at the table.
///
/// # Errors
/// What the database said when it was asked. The answer itself may be that the table does not fit.
pub async fn examine<D: Database>(database: &D, table: &Table) -> Result<Checked, String> {
    let pragma = |pragma: &str, of: &str| Statement::new(&["PRAGMA ", pragma, "(`", of, "`)"]);
    let json = database
        .batch(&[
            pragma("table_xinfo", &table.name),
            pragma("index_list", &table.name),
            pragma("table_xinfo", records::NAME),
        ])
        .await?;
    let results = Results::read(&json)?;
    let columns: Vec<Told> = results.of(0).iter().filter_map(|row| told(row)).collect();
    let mut schema = match judge(table, &columns) {
        Ok(schema) => schema,
        Err(what) => return Ok(Err(misfit(table, &what))),
    };
    let found: Vec<Told> = results.of(2).iter().filter_map(|row| told(row)).collect();
    schema.records = records::COLUMNS.iter().all(|(name, place)| {
        let mut found = found.iter();
        found.any(|column| same(&column.name, name) && column.primary == *place)
    });
    let indexes: Vec<Index> = results.of(1).iter().filter_map(|row| index(row)).collect();
    let unique = indexes
        .iter()
        .filter(|index| index.unique && !index.partial);
    let unique: Vec<_> = unique.take(limits::D1_INDEXES).collect();
    let is_primary = |column: &Told| (column.primary > 0) == same(&column.name, &table.key);
    // The table's own order, which is no index.
    let by_rowid = columns.iter().all(is_primary) && !indexes.iter().any(|index| index.primary);
    schema.unique_key = by_rowid;
    if !by_rowid {
        let unique = names(database, &unique).await?;
        let is_unique = |columns: &[&str]| unique.iter().any(|index| same_all(index, columns));
        let mut columns: Vec<&str> = table.home().collect();
        columns.push(&table.key);
        schema.unique_key = is_unique(&[&table.key]);
        if !schema.unique_key && !is_unique(&columns) {
            let mut what = [
                &table.name,
                ".",
                &table.key,
                " is the key, but neither the primary key nor of a unique index of its own",
            ]
            .concat();
            if columns.len() > 1 {
                what += &[", nor of one over just (", &columns.join(", "), ")"].concat();
            }
            what += " (with the collation BINARY, and without WHERE)";
            return Ok(Err(misfit(table, &what)));
        }
    }
    Ok(Ok(Rc::new(schema)))
}

/// Whether an index is of these columns, in any order.
fn same_all(index: &[String], columns: &[&str]) -> bool {
    let has = |column: &&str| index.iter().any(|name| same(name, column));
    index.len() == columns.len() && columns.iter().all(has)
}

/// An index, as `PRAGMA index_list` tells of it.
struct Index {
    name: String,
    unique: bool,
    primary: bool,
    partial: bool,
}

fn index(row: &[&RawValue]) -> Option<Index> {
    let [_, name, unique, origin, partial] = row else {
        return None;
    };
    Some(Index {
        name: text_of(name)?.into_owned(),
        unique: number(unique) == 1,
        primary: text_of(origin)? == "pk",
        partial: number(partial) == 1,
    })
}

/// The columns of each index; none of one that has an expression, or compares in another way than
/// byte by byte.
async fn names<D: Database>(database: &D, indexes: &[&Index]) -> Result<Vec<Vec<String>>, String> {
    if indexes.is_empty() {
        return Ok(Vec::new());
    }
    // Any name, as somebody else gave it.
    let name = |index: &Index| index.name.replace('`', "``");
    let pragma = |index: &&Index| Statement::new(&["PRAGMA index_xinfo(`", &name(index), "`)"]);
    let statements: Vec<_> = indexes.iter().map(pragma).collect();
    let json = database.batch(&statements).await?;
    let results = Results::read(&json)?;
    let names = |nth| {
        let mut names = Vec::new();
        for row in results.of(nth) {
            let [_, _, name, _, collation, key] = row.as_slice() else {
                return Vec::new();
            };
            if number(key) != 1 {
                continue;
            }
            match (text_of(name), text_of(collation)) {
                (Some(name), Some(collation)) if same(&collation, "BINARY") => {
                    names.push(name.into_owned());
                }
                _ => return Vec::new(),
            }
        }
        names
    };
    Ok((0..statements.len()).map(names).collect())
}

fn judge(table: &Table, columns: &[Told]) -> Result<Schema, String> {
    let of = &table.name;
    if columns.is_empty() {
        return Err(format!("there is no table {of}"));
    }
    let find = |name: &str| {
        let column = columns.iter().find(|column| same(&column.name, name));
        column.ok_or_else(|| format!("table {of} has no column {name}"))
    };
    let own = |name: &str| match find(name)? {
        column if column.hidden > 0 => Err(format!("{of}.{name} is computed")),
        column => Ok(column),
    };
    let key = own(&table.key)?;
    let is_text = |column: &Told| {
        let declared = |word: &&str| column.declared.contains(word);
        ["CHAR", "CLOB", "TEXT"].iter().any(declared)
    };
    let is_integer = |column: &Told| column.declared.contains("INT");
    let integer_key = is_integer(key);
    if !is_text(key) && !integer_key {
        return Err(format!(
            "{of}.{} is the key and must be declared TEXT or INTEGER",
            key.name
        ));
    }
    let updated = own(&table.updated_at)?;
    if !updated.not_null {
        return Err(format!(
            "{of}.{} is updatedAt and must be NOT NULL",
            updated.name
        ));
    }
    let deleted = match &table.deleted_at {
        Some(name) => own(name)?,
        None => updated,
    };
    if table.deleted_at.is_some() && deleted.not_null {
        return Err(format!(
            "{of}.{} is deletedAt and must allow NULL",
            deleted.name
        ));
    }
    for (setting, name) in [("space", &table.space), ("channel", &table.channel)] {
        let Some(name) = name else { continue };
        let column = own(name)?;
        // Of `07` another affinity makes 7, and a NULL is nobody's.
        if !is_text(column) || is_integer(column) || !column.not_null {
            return Err(format!(
                "{of}.{name} is {setting} and must be declared TEXT NOT NULL"
            ));
        }
    }
    let generated = table.columns.iter();
    let generated = generated.map(|column| find(&column.name).map(|column| column.hidden > 0));
    Ok(Schema {
        integer_key,
        unique_key: false,
        updated: Clock::of(&updated.declared),
        deleted: Clock::of(&deleted.declared),
        generated: generated.collect::<Result<_, _>>()?,
        records: false,
    })
}

/// What is known of the tables: looked at once, and again soon where something was wrong.
#[derive(Debug, Default)]
pub struct Known {
    tables: Vec<(Table, Checked, Millis)>,
    /// What the log has said of rules, see [`Known::refusal`].
    said: Vec<String>,
}

/// What is known of a table.
#[derive(Debug, PartialEq, Eq)]
pub enum Standing {
    /// It was looked at.
    Checked(Checked),
    /// It must be looked at.
    Ask,
}

impl Known {
    /// What is known of a table at a time.
    #[must_use]
    pub fn look_up(&self, table: &Table, now: Millis) -> Standing {
        let found = self.tables.iter().find(|(known, _, _)| known == table);
        let Some((_, checked, at)) = found else {
            return Standing::Ask;
        };
        let is_well = checked.as_ref().is_ok_and(|schema| schema.records);
        match is_well || now < at.plus(limits::D1_SCHEMA_RETRY_MS) {
            true => Standing::Checked(checked.clone()),
            false => Standing::Ask,
        }
    }

    /// Keeps what was found.
    pub fn keep(&mut self, table: &Table, checked: &Checked, now: Millis) {
        self.forget(table);
        self.tables.push((table.clone(), checked.clone(), now));
    }

    /// Why a space is refused whose rows the table of a rule does not tell from others'; and whether the
    /// log is to say it, which it does once.
    pub fn refusal(&mut self, table: &Table, space: &Space, rule: &str) -> Option<(String, bool)> {
        if table.serves(space) {
            return None;
        }
        let what = "source.space must name a column for any space but";
        let default = Space::default_space();
        let message = [
            "SYNC_CHANNELS: \"",
            rule,
            "\": ",
            what,
            " ",
            default.as_str(),
        ]
        .concat();
        let is_new = !self.said.contains(&message);
        if is_new {
            self.said.push(message.clone());
        }
        Some((message, is_new))
    }

    /// Looks again at the next question: the database has said something unexpected.
    pub fn forget(&mut self, table: &Table) {
        self.tables.retain(|(known, _, _)| known != table);
    }
}

#[cfg(test)]
mod tests;
