//! Asks a table in D1.

use std::cell::RefCell;
use std::rc::Rc;

use wasm_bindgen::JsValue;
use worker::Env;

use super::glue;
use super::host::random;
use super::router::now;
use crate::config::Config;
use crate::digest::hex;
use crate::limits;
use crate::names::Space;
use crate::protocol::{Code, Problem};
use crate::source::d1::{
    Database, Done, Known, Moment, Schema, Standing, Statement, Table, Task, examine, to_json,
};
use crate::source::{Answered, Failed, Question, not_set_up};

/// A database, as it is bound.
struct Bound(JsValue);

impl Database for Bound {
    async fn batch(&self, statements: &[Statement]) -> Result<String, String> {
        let results = glue::batch(&self.0, &to_json(statements)).await;
        let results = results.map_err(|error| glue::thrown(&error))?;
        results.as_string().ok_or_else(|| "no answer".to_owned())
    }
}

thread_local! {
    /// What is known of the tables, for all objects of this isolate.
    static KNOWN: RefCell<Known> = RefCell::default();
}

/// Puts a question to the table of its channel's rule.
pub(super) async fn ask(
    env: &Env,
    config: &Config,
    space: &Space,
    table: &Table,
    question: &Question,
) -> Answered {
    let name = config.rules.pattern_of(&question.channel);
    let name = name.as_deref().unwrap_or_default();
    let refusal = KNOWN.with_borrow_mut(|known| known.refusal(table, space, name));
    if let Some((line, is_new)) = refusal {
        if is_new {
            worker::console_error!("{line}");
        }
        return Err(not_set_up().into());
    }
    let binding = glue::binding(env, &table.binding);
    if !binding.is_object() {
        worker::console_error!("SYNC_CHANNELS: there is no database {}", table.binding);
        return Err(not_set_up().into());
    }
    let database = Bound(binding);
    let schema = schema(&database, table).await?;
    // Without chance no try could be told from another.
    let nonce: [u8; 16] = random()?;
    let task = Task {
        space,
        table,
        schema: &schema,
        rule: config.rules.find(&question.channel)?,
        question,
        row_bytes: config.limits.row_bytes,
    };
    let moment = Moment {
        now: now(),
        nonce: hex(&nonce),
    };
    let Done {
        answered,
        log,
        surprised,
    } = task.run(&database, &moment).await;
    for line in log {
        worker::console_error!("{line}");
    }
    if surprised {
        KNOWN.with_borrow_mut(|known| known.forget(table));
    }
    answered
}

/// What the database has, looked at once an isolate.
async fn schema(database: &Bound, table: &Table) -> Result<Rc<Schema>, Failed> {
    let checked = match KNOWN.with_borrow(|known| known.look_up(table, now())) {
        Standing::Checked(checked) => checked,
        Standing::Ask => {
            let checked = examine(database, table).await.map_err(|thrown| {
                worker::console_error!("{}: {thrown}", table.binding);
                let message = "the database did not answer as it should";
                Problem {
                    retry_after_ms: Some(limits::D1_RETRY_MS),
                    ..Problem::new(Code::Unavailable, message)
                }
            })?;
            if let Err(line) = &checked {
                worker::console_error!("{line}");
            }
            KNOWN.with_borrow_mut(|known| known.keep(table, &checked, now()));
            checked
        }
    };
    checked.map_err(|_| not_set_up().into())
}
