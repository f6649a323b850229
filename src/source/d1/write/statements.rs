//! The statements of a write.

use super::{Held, Writing};
use crate::protocol::Action;
use crate::source::d1::row;
use crate::source::d1::sql::{Statement, text};
use crate::source::d1::task::Task;

impl Writing<'_> {
    /// The row as it is.
    pub(super) fn select(&self) -> Statement {
        let mut statement = row::select(self.task.table, self.task.row_bytes);
        self.of_row(&mut statement).add(&[")"]);
        statement
    }

    /// What makes the change and its record, tells what came of it, and tidies up.
    pub(super) fn statements(&self, before: Option<&Held>) -> [Statement; 5] {
        [
            self.guarded(before),
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

    /// Appends what holds for the row alone.
    fn of_row<'s>(&self, statement: &'s mut Statement) -> &'s mut Statement {
        self.task.add_home(statement);
        self.of_key(statement)
    }

    /// Appends what holds for rows of the key: where it is not unique by itself, others may have it.
    fn of_key<'s>(&self, statement: &'s mut Statement) -> &'s mut Statement {
        let key = &self.task.table.key;
        statement.add(&["t.`", key, "` = "]).bind(&self.key)
    }

    /// Makes the record only while the row is as it was read. For a row that is not there, its key
    /// must be free: in the whole table, where no two rows may have it.
    fn guarded(&self, before: Option<&Held>) -> Statement {
        let Task { table, schema, .. } = *self.task;
        let is = if before.is_some() { "" } else { "NOT " };
        let mut statement = self.record.insert();
        statement.add(&[is, "EXISTS (SELECT 1 FROM `", &table.name, "` AS t WHERE "]);
        match before {
            None if schema.unique_key => self.of_key(&mut statement),
            None | Some(_) => self.of_row(&mut statement),
        };
        if let Some(before) = before {
            let time = [" AND t.`", &table.updated_at, "` IS "];
            statement.add(&time).bind(before.time.get());
            if let Some(column) = &table.deleted_at {
                let deleted = [" AND t.`", column, "` IS "];
                statement.add(&deleted).bind(&before.deleted);
            }
        }
        statement.add(&[")"]);
        statement
    }

    /// The time to write, later than that of the row.
    fn time(&self, before: Option<&Held>) -> String {
        let (clock, now) = (self.task.schema.updated, self.record.now);
        before.map_or_else(|| clock.at(now), |held| clock.after(&held.time, now))
    }

    fn create(&self, before: Option<&Held>) -> Statement {
        let Task { table, schema, .. } = *self.task;
        let time = self.time(before);
        let mut statement = Statement::new(&["INSERT INTO `", &table.name, "` (`", &table.key]);
        statement.add(&["`, `", &table.updated_at, "`"]);
        let mut values = vec![self.key.clone(), time];
        for (column, is) in self.task.home() {
            statement.add(&[", `", column, "`"]);
            values.push(text(is));
        }
        for (nth, value) in &self.given {
            if let Some(column) = table.columns.get(*nth) {
                statement.add(&[", `", &column.name, "`"]);
                values.push(value.clone());
            }
        }
        statement
            .add(&[") SELECT "])
            .bind_all(&values)
            .add(&[" WHERE "]);
        let time = table.updated_at.as_str();
        self.record.is_made(&mut statement);
        statement.add(&[" ON CONFLICT (`", &table.key, "`"]);
        // The columns of the unique index, whichever it is.
        for column in table.home().filter(|_| !schema.unique_key) {
            statement.add(&[", `", column, "`"]);
        }
        statement.add(&[") DO UPDATE SET `", time, "` = excluded.`", time, "`"]);
        // What is not given becomes what it is in a new row: `excluded` has the defaults.
        for (column, computed) in table.columns.iter().zip(&schema.generated) {
            let column = column.name.as_str();
            if !computed && !table.is_time(column) {
                statement.add(&[", `", column, "` = excluded.`", column, "`"]);
            }
        }
        if let Some(column) = &table.deleted_at {
            statement.add(&[", `", column, "` = NULL"]);
        }
        statement
    }

    fn update(&self, before: Option<&Held>) -> Statement {
        let table = self.task.table;
        let mut statement = self.set(&table.updated_at, &self.time(before));
        for (nth, value) in &self.given {
            if let Some(column) = table.columns.get(*nth) {
                statement.add(&[", `", &column.name, "` = "]).bind(value);
            }
        }
        self.ended(statement)
    }

    fn delete(&self, before: Option<&Held>) -> Statement {
        let Task { table, schema, .. } = *self.task;
        let Some(column) = &table.deleted_at else {
            return self.ended(Statement::new(&["DELETE FROM `", &table.name, "` AS t"]));
        };
        let mut statement = self.set(&table.updated_at, &self.time(before));
        let deleted = schema.deleted.at(self.record.now);
        statement.add(&[", `", column, "` = "]).bind(&deleted);
        self.ended(statement)
    }

    /// Begins an update.
    fn set(&self, column: &str, value: &str) -> Statement {
        let table = &self.task.table.name;
        let mut statement = Statement::new(&["UPDATE `", table, "` AS t SET `", column, "` = "]);
        statement.bind(value);
        statement
    }

    /// Ends an update or a delete.
    fn ended(&self, mut statement: Statement) -> Statement {
        self.of_row(statement.add(&[" WHERE "])).add(&[" AND "]);
        self.record.is_made(&mut statement);
        statement
    }
}
