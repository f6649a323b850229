//! The statements of a write.

use super::{Held, Writing};
use crate::protocol::Action;
use crate::source::d1::row::wrapped;
use crate::source::d1::sql::{Statement, name};
use crate::source::d1::task::Task;

impl Writing<'_> {
    /// The row as it is.
    pub(super) fn select(&self) -> Statement {
        let table = self.task.table;
        wrapped(table, self.task.row_bytes, |statement| {
            let key = format!("t.{} = ", name(&table.key));
            statement.then(&key).bind(&self.key).then(")")
        })
    }

    /// What makes the change and its record, tells what came of it, and tidies up.
    pub(super) fn statements(&self, before: Option<&Held>) -> [Statement; 5] {
        [
            self.record
                .insert(|statement| self.guard(statement, before)),
            match self.wish.action {
                Action::Create => self.create(before),
                Action::Update => self.update(before),
                Action::Delete => self.delete(before),
            },
            self.record.select(),
            self.select(),
            self.record.sweep(),
        ]
    }

    /// Holds only while the row is as it was read.
    fn guard(&self, statement: Statement, before: Option<&Held>) -> Statement {
        let table = self.task.table;
        let is = if before.is_some() { "" } else { "NOT " };
        let row = format!(
            "{is}EXISTS (SELECT 1 FROM {} AS t WHERE t.",
            name(&table.name)
        );
        let key = format!("{row}{} = ", name(&table.key));
        let mut statement = statement.then(&key).bind(&self.key);
        if let Some(before) = before {
            let time = format!(" AND t.{} IS ", name(&table.updated_at));
            statement = statement.then(&time).bind(before.time.get());
            if let Some(column) = &table.deleted_at {
                let deleted = format!(" AND t.{} IS ", name(column));
                statement = statement.then(&deleted).bind(&before.deleted);
            }
        }
        statement.then(")")
    }

    /// The time to write, later than that of the row.
    fn time(&self, before: Option<&Held>) -> String {
        let (clock, now) = (self.task.schema.updated, self.record.now);
        before.map_or_else(|| clock.at(now), |held| clock.after(&held.time, now))
    }

    fn create(&self, before: Option<&Held>) -> Statement {
        let Task { table, schema, .. } = *self.task;
        let columns = self
            .given
            .iter()
            .filter_map(|(nth, _)| table.columns.get(*nth));
        let named = [&table.key, &table.updated_at].into_iter();
        let named: Vec<_> = named
            .chain(columns.map(|column| &column.name))
            .map(|n| name(n))
            .collect();
        let time = self.time(before);
        let values = [self.key.as_str(), &time].into_iter();
        let values = values.chain(self.given.iter().map(|(_, value)| value.as_str()));
        let insert = format!(
            "INSERT INTO {} ({}) SELECT ",
            name(&table.name),
            named.join(", ")
        );
        let statement = Statement::new(&insert).bind_all(values).then(" WHERE ");
        // What is not given becomes what it is in a new row: `excluded` has the defaults.
        let writable = table.columns.iter().zip(&schema.generated);
        let writable =
            writable.filter(|(column, computed)| !**computed && !table.is_time(&column.name));
        let set = writable
            .map(|(column, _)| &column.name)
            .chain([&table.updated_at]);
        let set: Vec<_> = set
            .map(|n| format!("{0} = excluded.{0}", name(n)))
            .collect();
        let revive = table.deleted_at.as_ref();
        let revive = revive.map_or(String::new(), |n| format!(", {} = NULL", name(n)));
        let key = name(&table.key);
        let conflict = format!(
            " ON CONFLICT ({key}) DO UPDATE SET {}{revive}",
            set.join(", ")
        );
        self.record.is_made(statement).then(&conflict)
    }

    fn update(&self, before: Option<&Held>) -> Statement {
        let table = self.task.table;
        let mut statement = Statement::new(&format!("UPDATE {} SET ", name(&table.name)));
        for (nth, value) in &self.given {
            if let Some(column) = table.columns.get(*nth) {
                let set = format!("{} = ", name(&column.name));
                statement = statement.then(&set).bind(value).then(", ");
            }
        }
        let time = format!("{} = ", name(&table.updated_at));
        let statement = statement.then(&time).bind(self.time(before));
        self.of_key(statement)
    }

    fn delete(&self, before: Option<&Held>) -> Statement {
        let Task { table, schema, .. } = *self.task;
        let of = name(&table.name);
        let Some(column) = &table.deleted_at else {
            return self.of_key(Statement::new(&format!("DELETE FROM {of}")));
        };
        let statement = Statement::new(&format!("UPDATE {of} SET {} = ", name(column)))
            .bind(schema.deleted.at(self.record.now))
            .then(&format!(", {} = ", name(&table.updated_at)))
            .bind(self.time(before));
        self.of_key(statement)
    }

    fn of_key(&self, statement: Statement) -> Statement {
        let key = format!(" WHERE {} = ", name(&self.task.table.key));
        let statement = statement.then(&key).bind(&self.key);
        self.record.is_made(statement.then(" AND "))
    }
}
