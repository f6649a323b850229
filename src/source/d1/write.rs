//! Writes: a row is read, the change is judged against it, and both the change and its record are
//! made in one transaction, if nobody was faster.

mod statements;
#[cfg(test)]
mod tests;

use serde_json::value::RawValue;

use super::cell::bound;
use super::records::{Found, Record};
use super::row::{Cells, key_param};
use super::schema::{misfit, no_records};
use super::sql::{Database, Results};
use super::task::{Done, Moment, Task};
use crate::audience::{Audience, Losses};
use crate::channel;
use crate::engine::draft::Wish;
use crate::limits;
use crate::names::{Millis, Seq};
use crate::protocol::{Action, Code, Fields, Problem};
use crate::source::{Answer, Failed, Scope, Write, Written};
use crate::store::StoredRow;

/// A write on its way.
struct Writing<'a> {
    task: &'a Task<'a>,
    wish: Wish<'a>,
    record: Record<'a>,
    /// What the key is bound as.
    key: String,
    /// The columns that are given, by their place, and what they are bound as.
    given: Vec<(usize, String)>,
}

/// The row as it is, and what is known of the mutation.
struct Seen {
    found: Option<Found>,
    row: Option<Held>,
}

/// A row that the table holds.
struct Held {
    /// What the rules judge; a tombstone has no data.
    stored: StoredRow,
    /// Why the row cannot be told, where it cannot.
    unfit: Option<String>,
    /// When it was changed, and deleted, as the table has it.
    time: Box<RawValue>,
    deleted: String,
}

pub(super) async fn write<D: Database>(
    database: &D,
    task: &Task<'_>,
    write: &Write,
    moment: &Moment,
) -> Done {
    let table = task.table;
    if !task.schema.records {
        return Done::misfit(no_records(table));
    }
    let writing = match Writing::new(task, write, moment) {
        Ok(writing) => writing,
        Err(problem) => return Done::refused(problem),
    };
    let look = [writing.record.select(), writing.select()];
    let mut seen = match database.batch(&look).await {
        Ok(json) => writing.seen(&json, 0),
        Err(thrown) => return Done::thrown(table, &thrown, false),
    };
    for _ in 0..limits::D1_TRIES {
        let before = match seen {
            Ok(Seen {
                found: Some(found),
                row,
            }) => return writing.repeated(&found, row),
            Ok(Seen { found: None, row }) => row,
            Err(done) => return done,
        };
        let held = before.as_ref().map(|held| &held.stored);
        let (rule, asker) = (task.rule, task.question.asker());
        let draft = match writing.wish.draft(rule, &asker, held, task.row_bytes) {
            Ok(draft) => draft,
            Err(problem) => return Done::refused(problem),
        };
        seen = match database.batch(&writing.statements(before.as_ref())).await {
            Ok(json) => writing.seen(&json, 2),
            Err(thrown) if is_refusal(&thrown) => return refused(task, &thrown),
            Err(thrown) => return Done::thrown(table, &thrown, true),
        };
        // From here on it may be done, whatever cannot be read.
        if let Err(done) = &mut seen
            && let Err(failed) = &mut done.answered
        {
            failed.may_be_done = true;
        }
        if let (
            None,
            Ok(Seen {
                found: None,
                row: None,
            }),
        ) = (held, &seen)
        {
            // The key is not free, and no row of this space and channel has it.
            return Done::refused(Problem::new(Code::Forbidden, "this key is taken"));
        }
        if let Ok(Seen {
            found: Some(found), ..
        }) = &seen
            && found.nonce == moment.nonce
        {
            let before = held
                .filter(|row| row.data.is_some())
                .map(|row| row.audience.clone());
            return writing.written(seen, draft.audience, before);
        }
    }
    Done::refused(Problem {
        retry_after_ms: Some(limits::D1_RETRY_MS),
        ..Problem::new(Code::Unavailable, "others are writing this row, try again")
    })
}

/// Whether the database says that the row breaks one of its own rules.
fn is_refusal(thrown: &str) -> bool {
    let words = [
        "SQLITE_CONSTRAINT",
        "constraint failed",
        "SQLITE_MISMATCH",
        "SQLITE_TOOBIG",
    ];
    words.iter().any(|word| thrown.contains(word))
}

fn refused(task: &Task<'_>, thrown: &str) -> Done {
    let table = task.table;
    Done {
        log: vec![format!("{} {}: {thrown}", table.binding, table.name)],
        ..Done::refused(Problem::invalid("data", "the database refused the row"))
    }
}

impl<'a> Writing<'a> {
    fn new(task: &'a Task<'a>, write: &'a Write, moment: &'a Moment) -> Result<Self, Problem> {
        let key = key_param(task.schema, &write.key).ok_or_else(|| match write.action {
            Action::Create => Problem::invalid("id", "must be a whole number here, as a text"),
            Action::Update | Action::Delete => Problem::new(Code::NotFound, "no such row"),
        })?;
        let data = write
            .data
            .as_deref()
            .filter(|_| write.action != Action::Delete);
        Ok(Self {
            task,
            wish: Wish {
                channel: &task.question.channel,
                action: write.action,
                key: write.key.clone(),
                data,
            },
            record: Record {
                write,
                space: task.space,
                nonce: &moment.nonce,
                now: moment.now,
            },
            key,
            given: given(task, data.unwrap_or("{}"))?,
        })
    }

    /// What the statements from a place on say: the record, and the row.
    fn seen(&self, json: &str, from: usize) -> Result<Seen, Done> {
        let Task {
            table, row_bytes, ..
        } = *self.task;
        let results = Results::read(json).map_err(|e| Done::thrown(table, &e, false))?;
        let found = Found::read(&results, from);
        let cells = results
            .of(from + 1)
            .first()
            .and_then(|row| Cells::read(row));
        let row = cells.map(|cells| {
            if !cells.can_be_guarded() {
                let what = format!("{} has a row whose times are no times", table.name);
                return Err(Done::misfit(misfit(table, &what)));
            }
            let json = match cells.key() {
                Some(key) if key == self.wish.key => cells.json(table, &key, row_bytes),
                Some(_) | None => Err("whose key is no key".to_owned()),
            };
            let audience = json
                .as_ref()
                .ok()
                .and_then(|json| self.task.rule.audience(json).ok());
            let unfit = json.as_ref().err().cloned();
            let data = (!cells.is_deleted()).then(|| json.unwrap_or_else(|_| "{}".to_owned()));
            Ok(Held {
                stored: StoredRow {
                    seq: Seq(0),
                    data,
                    // What cannot be told is in nobody's sight.
                    audience: audience.flatten().unwrap_or(Audience::Topics([].into())),
                    author: None,
                    at: Millis(0),
                    lost: Losses::default(),
                },
                unfit,
                time: cells.time.to_owned(),
                deleted: cells.deleted.get().to_owned(),
            })
        });
        let row = row.transpose()?;
        Ok(Seen { found, row })
    }

    fn written(
        &self,
        seen: Result<Seen, Done>,
        audience: Audience,
        before: Option<Audience>,
    ) -> Done {
        let row = match seen {
            Ok(seen) => seen.row.filter(|_| self.wish.action != Action::Delete),
            Err(done) => return done,
        };
        if let Some(why) = row.as_ref().and_then(|held| held.unfit.as_ref()) {
            // A default or a trigger made it so.
            let table = self.task.table;
            let problem = Problem::new(Code::Internal, "the row was written, but cannot be told");
            return Done {
                log: vec![format!(
                    "{} {}: wrote a row {why}",
                    table.binding, table.name
                )],
                ..Done::refused(Failed {
                    problem,
                    may_be_done: true,
                })
            };
        }
        let row = row.and_then(|held| held.stored.data);
        let scope = match row {
            Some(_) => Scope::ByRule,
            None => Scope::Of(audience),
        };
        Done::new(Ok(Answer::Written(Written {
            row,
            scope,
            before,
            repeated: false,
        })))
    }

    /// The mutation's id was used: by itself, or by another.
    fn repeated(&self, found: &Found, row: Option<Held>) -> Done {
        if found.hash != self.record.write.hash {
            let message = "this id was used for another mutation";
            return Done::refused(Problem::new(Code::Conflict, message));
        }
        let row = row
            .filter(|held| held.unfit.is_none())
            .map(|held| held.stored);
        let scope = match (&self.task.rule.scope, &row) {
            (channel::Scope::All, Some(row)) if row.data.is_some() => Scope::ByRule,
            (channel::Scope::All, _) => Scope::Of(Audience::All),
            (channel::Scope::Field(_), None) => Scope::Unknown,
            (channel::Scope::Field(_), Some(row)) => match row.data {
                Some(_) => Scope::ByRule,
                None => Scope::Of(row.audience.clone()),
            },
        };
        Done::new(Ok(Answer::Written(Written {
            row: row.and_then(|row| row.data),
            scope,
            before: None,
            repeated: true,
        })))
    }
}

/// The columns that a row or its changes give.
fn given(task: &Task<'_>, data: &str) -> Result<Vec<(usize, String)>, Problem> {
    let object = |_| Problem::invalid("data", "must be an object without doubled fields");
    let fields = Fields::parse(data).map_err(object)?;
    let fields = fields.iter().filter(|(field, _)| *field != "id");
    let column = |(field, value): (&str, &RawValue)| {
        let found = task.table.column(field);
        let (nth, column) =
            found.ok_or_else(|| Problem::invalid(field, "is no field of this channel"))?;
        let computed = task
            .schema
            .generated
            .get(nth)
            .is_some_and(|computed| *computed);
        if computed || task.table.is_time(field) {
            return Err(Problem::invalid(field, "is set by the server"));
        }
        let value = bound(column.kind, value).map_err(|what| Problem::invalid(field, what))?;
        Ok((nth, value))
    };
    fields.map(column).collect()
}
