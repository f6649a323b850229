//! A sync Worker with a handler of its own: tickets of a help desk, in D1. Everybody reads them,
//! agents change how they stand.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs)]

use serde::Deserialize;
use tidewire::protocol::{Code, Problem};
use tidewire::source::{Kind, Operation};
use tidewire::workers::{Context, Handler, Handlers, Host, PageAsk, Rows, Stored};
use tidewire::{Key, Millis};
use worker::{D1Type, Date, Error};

tidewire::sync_worker!(Host, |state, env| {
    Host::wake(state, env).with_handlers(Handlers::new().on("tickets", Tickets))
});

struct Tickets;

#[derive(Deserialize)]
struct Found {
    row: String,
}

fn failed(error: Error) -> Problem {
    worker::console_error!("tickets: {error}");
    Problem::new(Code::Unavailable, "the help desk does not answer")
}

async fn query(
    context: &Context<'_>,
    sql: &str,
    values: &[D1Type<'_>],
) -> Result<Vec<String>, Error> {
    let statement = context.env.d1("DESK")?.prepare(sql).bind_refs(values)?;
    let found = statement.all().await?.results::<Found>()?;
    Ok(found.into_iter().map(|found| found.row).collect())
}

impl Handler for Tickets {
    async fn authorize(&self, context: &Context<'_>, what: &Operation) -> Result<(), Problem> {
        match what.kind == Kind::Subscribe || context.topics().holds("agents") {
            true => Ok(()),
            false => Err(Problem::new(Code::Forbidden, "only agents may do that")),
        }
    }

    async fn fetch(
        &self,
        context: &Context<'_>,
        since: Option<Millis>,
        _: &PageAsk<'_>,
    ) -> Result<Rows, Problem> {
        let sql = "SELECT row FROM tickets_as_rows WHERE updated_at >= ?1";
        let since = since.map_or(0.0, |since| since.0 as f64);
        let rows = query(context, sql, &[D1Type::Real(since)])
            .await
            .map_err(failed)?;
        Ok(Rows {
            rows,
            ..Rows::default()
        })
    }

    async fn update(
        &self,
        context: &Context<'_>,
        key: &Key,
        changes: &str,
    ) -> Result<Stored, Problem> {
        let sql = "UPDATE tickets SET status = ifnull(?2 ->> 'status', status), updated_at = ?3
                   WHERE id = ?1 RETURNING json_object('id', id, 'title', title, 'status', status) AS row";
        let now = D1Type::Real(Date::now().as_millis() as f64);
        let values = [D1Type::Text(key.as_str()), D1Type::Text(changes), now];
        let row = query(context, sql, &values).await.map_err(failed)?.pop();
        Ok(row
            .ok_or_else(|| Problem::new(Code::NotFound, "no such ticket"))?
            .into())
    }
}
