//! Pages of a table, in the order of the last change.

use super::clock::Clock;
use super::place::Place;
use super::row::{Cells, add_has_key, add_width, select};
use super::sql::{Database, Results, Statement, text};
use super::task::{Done, Task};
use super::{Kind, schema};
use crate::channel::Scope;
use crate::limits;
use crate::names::Millis;
use crate::protocol::JsonWriter;
use crate::source::{Answer, Fetch, Page};

/// A page that is to be read.
struct Reading<'a> {
    task: &'a Task<'a>,
    /// Rows after it.
    after: Option<Place>,
    /// Whether only what was changed is told, deleted rows among it.
    is_delta: bool,
    limit: usize,
}

pub(super) async fn page<D: Database>(database: &D, task: &Task<'_>, fetch: &Fetch) -> Done {
    let table = task.table;
    // What left a reader's sight, or was deleted for good, no table can tell.
    let can_tell = table.deleted_at.is_some() && task.rule.scope == Scope::All;
    let since = fetch.since.filter(|_| can_tell);
    let integer_key = task.schema.integer_key;
    let token = fetch.token.as_deref();
    // What is no token begins anew: the answer has the same rows.
    let after = token.and_then(|token| Place::read(token, integer_key));
    let reading = Reading {
        task,
        is_delta: since.is_some(),
        after: after.or_else(|| since.map(|since| before(task.schema.updated, since, integer_key))),
        limit: fetch.limit.clamp(1, limits::PAGE_MAX),
    };
    let Some(statement) = reading.statement() else {
        // Who holds no topic of the kind sees nothing.
        return Done::new(Ok(Answer::Page(Page {
            full: true,
            ..Page::default()
        })));
    };
    let json = match database.batch(&[statement]).await {
        Ok(json) => json,
        Err(thrown) => return Done::thrown(table, &thrown, false),
    };
    match Results::read(&json) {
        Ok(results) => reading.told(&results),
        Err(thrown) => Done::thrown(table, &thrown, false),
    }
}

/// The place before all rows of a time.
fn before(clock: Clock, since: Millis, integer_key: bool) -> Place {
    Place {
        time: clock.since(since),
        key: match integer_key {
            true => (-(limits::SAFE_INTEGER as i64)).to_string(),
            false => text(""),
        },
    }
}

impl Reading<'_> {
    /// Reads `limit` rows and one more, but no more bytes than a frame takes. How many rows these
    /// are is counted first, by their widths.
    fn statement(&self) -> Option<Statement> {
        let Task {
            table, row_bytes, ..
        } = *self.task;
        let topics = self.topics()?;
        let mut statement = select(table, row_bytes);
        self.filter(&mut statement, &topics);
        statement.add(&[
            " ORDER BY 2, 1 LIMIT (SELECT count(*) FROM (SELECT sum(w) OVER (ORDER BY u, k \
             ROWS UNBOUNDED PRECEDING) - w AS b FROM (SELECT ",
        ]);
        add_width(&mut statement, table);
        statement.add(&[" FROM `", &table.name, "` AS t WHERE "]);
        self.filter(&mut statement, &topics);
        statement
            .add(&[" ORDER BY 2, 1 LIMIT "])
            .bind(&(self.limit + 1).to_string())
            .add(&[")) WHERE b < "])
            .bind(&limits::FRAME_OUT_BYTES.to_string())
            .add(&[")) ORDER BY u, k"]);
        Some(statement)
    }

    /// What a reader's topics name, as a JSON list; none where it can see nothing.
    fn topics(&self) -> Option<String> {
        let Scope::Field(scope) = &self.task.rule.scope else {
            return Some(String::new());
        };
        let topics = self.task.question.grant.topics.iter();
        let named = topics.filter_map(|topic| topic.as_str().strip_prefix(scope.prefix.as_str()));
        let named: Vec<_> = named.filter(|text| !text.is_empty()).collect();
        let mut list = JsonWriter::default();
        list.array(|list| named.iter().for_each(|text| list.text_item(text)));
        (!named.is_empty()).then(|| list.finish())
    }

    fn filter(&self, statement: &mut Statement, topics: &str) {
        let Task {
            table,
            schema,
            rule,
            ..
        } = *self.task;
        self.task.add_home(statement);
        add_has_key(statement, table, schema);
        if let (Some(column), false) = (&table.deleted_at, self.is_delta) {
            statement.add(&[" AND t.`", column, "` IS NULL"]);
        }
        if let Some(place) = &self.after {
            let (time, key) = (table.updated_at.as_str(), table.key.as_str());
            statement
                .add(&[" AND (t.`", time, "`, t.`", key, "`) > ("])
                .bind(&place.time)
                .add(&[", "])
                .bind(&place.key)
                .add(&[")"]);
        }
        let Scope::Field(scope) = &rule.scope else {
            return;
        };
        let column = table.column(&scope.field).map(|(_, column)| column);
        let own = column.map_or(&table.key, |column| &column.name);
        let is_json = column.is_some_and(|column| column.kind == Kind::Json);
        match is_json {
            true => statement
                .add(&[
                    " AND EXISTS (SELECT 1 FROM json_each(iif(json_valid(t.`",
                    own,
                ])
                .add(&["`), t.`", own, "`, 'null')) AS j WHERE j.value"]),
            false => statement.add(&[" AND t.`", own, "`"]),
        };
        statement
            .add(&[" IN (SELECT value FROM json_each("])
            .bind(&text(topics))
            .add(&[if is_json { ")))" } else { "))" }]);
    }

    fn told(&self, results: &Results<'_>) -> Done {
        let Task {
            table, row_bytes, ..
        } = *self.task;
        let rows: Vec<_> = results
            .of(0)
            .iter()
            .filter_map(|row| Cells::read(row))
            .collect();
        let bytes: usize = rows.iter().map(|row| row.width).sum();
        let is_cut = rows.len() > self.limit || bytes >= limits::FRAME_OUT_BYTES;
        let mut page = Page {
            full: !self.is_delta,
            ..Page::default()
        };
        let mut left_out: Vec<(String, usize)> = Vec::new();
        let mut leave_out = |why: String| match left_out.iter_mut().find(|(same, _)| *same == why) {
            Some((_, count)) => *count += 1,
            None => left_out.push((why, 1)),
        };
        let rows = rows.get(..self.limit).unwrap_or(&rows);
        for row in rows {
            let Some(key) = row.key() else {
                leave_out("whose key is no key".to_owned());
                continue;
            };
            if row.is_deleted() {
                page.deleted.push(key);
                continue;
            }
            match row.json(table, &key, row_bytes) {
                Ok(json) if self.sees(&json) => page.rows.push((key, json)),
                Ok(_) => {}
                Err(why) => leave_out(why),
            }
        }
        if let (true, Some(last)) = (is_cut, rows.last()) {
            let Some(place) = Place::of(last.time, last.key) else {
                let what = format!("{}.{} holds what is no time", table.name, table.updated_at);
                return Done::misfit(schema::misfit(table, &what));
            };
            page.next = Some(place.to_token());
        }
        let of = format!("{} {}", table.binding, table.name);
        let line = |(why, count)| format!("{of}: {count} rows of a page left out, {why}");
        Done {
            log: left_out.into_iter().map(line).collect(),
            ..Done::new(Ok(Answer::Page(page)))
        }
    }

    /// Whether the rule lets the reader see a row. SQLite compares with less care than the rule: `07`
    /// is 7 to a column of numbers.
    fn sees(&self, row: &str) -> bool {
        let audience = self.task.rule.audience(row).ok().flatten();
        audience.is_some_and(|audience| audience.sees(&self.task.question.grant.topics))
    }
}

#[cfg(test)]
mod tests;
