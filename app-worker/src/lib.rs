//! Placeholder for the app Worker, so that the tooling has something to build.

use worker::{Context, Env, Request, Response, Result, event};

#[event(fetch)]
async fn fetch(req: Request, env: Env, _ctx: Context) -> Result<Response> {
    env.service("SYNC_WORKER")?.fetch_request(req).await
}
