//! A table behind a channel: what clients may write to it, and the SQL that does it.
//!
//! Every operation is one statement, and so one transaction: nothing is left open by whoever stops
//! waiting, a mutation and its record commit together, and no state of a session is needed, which a
//! pool of connections would not keep.

use serde_json::{Map, Value};
use tidewire::protocol::{Code, Problem};

/// What a column holds.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Text,
    Flag,
}

/// A table. Its names are the source's own: no peer's text becomes SQL.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// What clients read and write, under the columns' names; beside the key, `id`.
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// Whether only the user in `owner_id`, to clients `ownerId`, sees a row.
    pub(crate) owned: bool,
}

impl Table {
    /// Refuses what [`Self::check`] does, and a row that nobody would own.
    pub(crate) fn check_new(&self, who: Option<&str>, data: &str) -> Result<(), Problem> {
        match who {
            None if self.owned => Err(out_of_sight()),
            _ => self.check(who, data),
        }
    }

    /// Refuses fields that the table has no place for, by their names.
    pub(crate) fn check(&self, who: Option<&str>, data: &str) -> Result<(), Problem> {
        let fields: Map<String, Value> = serde_json::from_str(data)
            .map_err(|_| Problem::invalid("data", "must be an object"))?;
        for (name, value) in &fields {
            if name == "id" {
                continue;
            }
            if self.owned && name == "ownerId" {
                if value.as_str() != who {
                    return Err(out_of_sight());
                }
                continue;
            }
            let column = self.columns.iter().find(|(column, _)| name == column);
            match (column.map(|(_, kind)| kind), value) {
                (None, _) => return Err(Problem::invalid(name, "the table has no such column")),
                (Some(_), Value::Null)
                | (Some(Kind::Text), Value::String(_))
                | (Some(Kind::Flag), Value::Bool(_)) => {}
                (Some(Kind::Text), _) => return Err(Problem::invalid(name, "must be a text")),
                (Some(Kind::Flag), _) => {
                    return Err(Problem::invalid(name, "must be true or false"));
                }
            }
        }
        Ok(())
    }

    /// Writes a row that is new, or one in whose place it may be put; none over a hidden one.
    /// Parameters of this and all that write: who asks, key, data, id and digest of the mutation, the
    /// space, whose the id is.
    pub(crate) fn create(&self) -> String {
        let Self { name, .. } = self;
        let owner = if self.owned { ", owner_id" } else { "" };
        let who = if self.owned { ", $1" } else { "" };
        let columns = self.each(|column, _| format!("{column}, "));
        let values = self.each(|column, kind| format!("{}, ", given(column, kind)));
        let replaced = self.each(|column, _| format!("{column} = excluded.{column}, "));
        let replaced_owner = if self.owned { "owner_id = $1, " } else { "" };
        self.once(&format!(
            "INSERT INTO {name} AS held (space, id, {columns}updated_at{owner})
             SELECT $6, $2, {values}tidewire_now(){who} WHERE {NEW}
             ON CONFLICT (space, id) DO UPDATE SET {replaced}{replaced_owner}
               updated_at = excluded.updated_at, deleted_at = NULL
             WHERE held.deleted_at IS NOT NULL OR {}",
            self.sees("held."),
        ))
    }

    /// Changes the fields that are given of a row that the writer sees.
    pub(crate) fn update(&self) -> String {
        let changed = self.each(|column, kind| {
            let given = given(column, kind);
            format!("{column} = CASE WHEN $3::jsonb ? '{column}' THEN {given} ELSE {column} END, ")
        });
        self.change(&changed)
    }

    /// Deletes a row that the writer sees.
    pub(crate) fn delete(&self) -> String {
        self.change("deleted_at = tidewire_now(), ")
    }

    fn change(&self, set: &str) -> String {
        let Self { name, .. } = self;
        let sees = self.sees("");
        self.once(&format!(
            "UPDATE {name} SET {set}updated_at = tidewire_now()
             WHERE space = $6 AND id = $2 AND deleted_at IS NULL AND {sees} AND {NEW}",
        ))
    }

    /// A statement that changes a row, if at all, together with the record of the mutation. Two that
    /// do so at once for one mutation collide at the record, and the later one changes nothing.
    fn once(&self, change: &str) -> String {
        let row = self.row();
        format!(
            "WITH changed AS ({change} RETURNING *), noted AS (
               INSERT INTO tidewire_outcomes (space, owner, id, hash, at)
               SELECT $6, $7, $4, $5, updated_at FROM changed)
             SELECT {row} FROM changed",
        )
    }

    /// What became of the mutation before: its digest, and the row as it is now, if it is in sight.
    pub(crate) fn outcome(&self) -> String {
        let Self { name, .. } = self;
        let (row, sees) = (self.row(), self.sees(""));
        format!(
            "SELECT hash, (SELECT {row} FROM {name}
                           WHERE space = $6 AND id = $2 AND deleted_at IS NULL AND {sees} AND {FRESH})
             FROM tidewire_outcomes WHERE space = $6 AND owner = $7 AND id = $4",
        )
    }

    /// A page of what somebody sees, in the order of change: all rows, or those changed or deleted
    /// at a time or later. Parameters: who, that time or NULL, the last page's end as time and key,
    /// how many, the space.
    pub(crate) fn page(&self) -> String {
        let Self { name, .. } = self;
        let (row, sees) = (self.row(), self.sees(""));
        format!(
            "SELECT id, updated_at, CASE WHEN deleted_at IS NULL THEN {row} END FROM {name}
             WHERE space = $6 AND {sees} AND {FRESH} AND (updated_at, id) > ($3, $4)
               AND CASE WHEN $2 IS NULL THEN deleted_at IS NULL ELSE updated_at >= $2 END
             ORDER BY updated_at, id LIMIT $5",
        )
    }

    /// A row as clients read it, as JSON. What is not set is not there.
    fn row(&self) -> String {
        let fields = self.each(|column, _| format!(", '{column}', {column}"));
        let owner = if self.owned {
            ", 'ownerId', owner_id"
        } else {
            ""
        };
        format!("json_strip_nulls(json_build_object('id', id{fields}{owner}))::text")
    }

    fn sees(&self, alias: &str) -> String {
        match self.owned {
            true => format!("{alias}owner_id = $1"),
            false => "true".to_owned(),
        }
    }

    fn each(&self, part: impl Fn(&str, Kind) -> String) -> String {
        let columns = self.columns.iter();
        columns.map(|(column, kind)| part(column, *kind)).collect()
    }
}

/// Whether the mutation was not executed before.
const NEW: &str =
    "NOT EXISTS (SELECT FROM tidewire_outcomes WHERE space = $6 AND owner = $7 AND id = $4)";

/// Always true; but no answer to a question with `now()` comes out of a cache between here and there.
const FRESH: &str = "now() IS NOT NULL";

fn out_of_sight() -> Problem {
    let message = "a write must keep the row in its writer's sight";
    Problem::new(Code::Forbidden, message)
}

fn given(column: &str, kind: Kind) -> String {
    match kind {
        Kind::Text => format!("$3::jsonb ->> '{column}'"),
        Kind::Flag => format!("($3::jsonb ->> '{column}')::boolean"),
    }
}
