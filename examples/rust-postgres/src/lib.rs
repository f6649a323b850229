//! A sync Worker whose rows live in Postgres. For now a probe: what `db` can, by HTTP.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]
// The methods that `#[durable_object]` makes have no docs of their own.
#![allow(missing_docs)]

mod db;
mod table;

use db::{Db, Mutation};
use serde::Deserialize;
use serde_json::{Value, json};
use table::{Kind, Table};
use tidewire::protocol::Problem;
use worker::{
    Context, DurableObject, Env, Error, Request, Response, Result, Socket, State, WebSocket,
    WebSocketIncomingMessage, durable_object, event,
};

static TODOS: Table = Table {
    name: "todos",
    columns: &[("title", Kind::Text), ("done", Kind::Flag)],
    owned: false,
};

static NOTES: Table = Table {
    name: "notes",
    columns: &[("text", Kind::Text)],
    owned: true,
};

#[derive(Deserialize)]
struct Ask {
    op: String,
    table: String,
    #[serde(default)]
    who: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    id: String,
    #[serde(default)]
    hash: String,
    data: Option<Value>,
    since: Option<i64>,
    after: Option<String>,
    count: Option<usize>,
    /// Gives up so many milliseconds later.
    within: Option<u64>,
}

async fn answer(ask: &Ask, env: &Env) -> std::result::Result<Value, Problem> {
    let table = if ask.table == "notes" { &NOTES } else { &TODOS };
    let data = ask.data.as_ref().map_or(String::new(), Value::to_string);
    let mutation = Mutation {
        who: &ask.who,
        id: &ask.id,
        hash: &ask.hash,
        key: &ask.key,
    };
    Db::during(env, async |db| {
        if ask.op == "page" {
            let count = ask.count.unwrap_or(100);
            let page = db
                .page(table, &ask.who, ask.since, ask.after.as_deref(), count)
                .await?;
            let items: Vec<_> = page.items.iter().map(|i| json!([i.key, i.data])).collect();
            return Ok(json!({ "items": items, "next": page.next }));
        }
        let row = match ask.op.as_str() {
            "create" => db.create(table, mutation, &data).await?,
            "update" => db.update(table, mutation, &data).await?,
            _ => db.delete(table, mutation).await?,
        };
        Ok(json!({ "row": row }))
    })
    .await
}

async fn respond(mut request: Request, env: &Env) -> Result<Response> {
    let ask: Ask = request.json().await?;
    let work = answer(&ask, env);
    let result = match ask.within {
        None => work.await,
        Some(ms) => {
            let late = worker::Delay::from(std::time::Duration::from_millis(ms));
            match futures_util::future::select(Box::pin(work), Box::pin(late)).await {
                futures_util::future::Either::Left((result, _)) => result,
                futures_util::future::Either::Right(_) => {
                    Err(Problem::new(tidewire::protocol::Code::Unavailable, "late"))
                }
            }
        }
    };
    Response::from_json(&match result {
        Ok(value) => value,
        Err(problem) => {
            json!({ "code": problem.code.as_str(), "field": problem.field, "message": problem.message })
        }
    })
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    if request.path() == "/worker" {
        return respond(request, &env).await;
    }
    let stub = env.durable_object("SYNC_ENGINE")?.get_by_name("global")?;
    stub.fetch_with_request(request).await
}

#[durable_object]
pub struct SyncEngine {
    env: Env,
}

impl DurableObject for SyncEngine {
    fn new(_state: State, env: Env) -> Self {
        Self { env }
    }

    async fn fetch(&self, request: Request) -> Result<Response> {
        respond(request, &self.env).await
    }

    async fn alarm(&self) -> Result<Response> {
        Response::empty()
    }

    async fn websocket_message(
        &self,
        _socket: WebSocket,
        _message: WebSocketIncomingMessage,
    ) -> Result<()> {
        Ok(())
    }

    async fn websocket_close(
        &self,
        _socket: WebSocket,
        _code: usize,
        _reason: String,
        _was_clean: bool,
    ) -> Result<()> {
        Ok(())
    }

    async fn websocket_error(&self, _socket: WebSocket, _error: Error) -> Result<()> {
        Ok(())
    }

    async fn connect(&self, _socket: Socket) -> Result<()> {
        Ok(())
    }
}
