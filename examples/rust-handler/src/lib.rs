//! A sync Worker with a handler of its own: tickets of a help desk, in D1, by the view and the table
//! of migrations/. Everybody reads them, agents change how they stand, nobody makes or deletes any.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs)]

use serde::Deserialize;
use tidewire::protocol::{Code, Problem};
use tidewire::source::{Kind, Operation};
use tidewire::workers::{Context, Handler, Handlers, Host, PageAsk, Rows, Stored};
use tidewire::{Key, Millis};
use worker::{D1Type, Date};

tidewire::sync_worker!(Host, |state, env| {
    Host::wake(state, env).with_handlers(Handlers::new().on("tickets", Tickets))
});

struct Tickets;
#[derive(Deserialize)]
struct Found {
    row: String,
}
type Answer<T> = Result<T, Problem>;
async fn ask(context: &Context<'_>, sql: &str, values: &[D1Type<'_>]) -> Answer<Vec<String>> {
    let found = async {
        let statement = context.env.d1("DESK")?.prepare(sql).bind_refs(values)?;
        statement.all().await?.results::<Found>()
    };
    let found = found.await.map_err(|error| {
        worker::console_error!("tickets: {error}");
        Problem::new(Code::Unavailable, "the help desk does not answer")
    })?;
    Ok(found.into_iter().map(|found| found.row).collect())
}

impl Handler for Tickets {
    async fn authorize(&self, context: &Context<'_>, what: &Operation) -> Answer<()> {
        if what.kind == Kind::Subscribe || context.topics().holds("agents") {
            return Ok(());
        }
        Err(Problem::new(Code::Forbidden, "only agents may do that"))
    }

    async fn fetch(&self, c: &Context<'_>, _: Option<Millis>, _: &PageAsk<'_>) -> Answer<Rows> {
        let mut rows: Rows = ask(c, "SELECT row FROM tickets_as_rows", &[]).await?.into();
        rows.full = true; // Nothing tells which tickets are gone.
        Ok(rows)
    }

    async fn update(&self, context: &Context<'_>, key: &Key, changes: &str) -> Answer<Stored> {
        let sql =
            "UPDATE tickets SET status = ifnull(?2 ->> 'status', status), at = ?3 WHERE id = ?1
            RETURNING json_object('id', id, 'title', title, 'status', status) AS row";
        let now = D1Type::Real(Date::now().as_millis() as f64);
        let values = [D1Type::Text(key.as_str()), D1Type::Text(changes), now];
        let row = ask(context, sql, &values).await?.pop();
        Ok(row
            .ok_or_else(|| Problem::new(Code::NotFound, "no such ticket"))?
            .into())
    }
}
