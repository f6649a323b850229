//! The app Worker: passes sync traffic on to the sync Worker. Your app's own routes go here.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]

use tidewire::workers::{demo, gateway, inspector, start};
use worker::{Context, Env, Request, Response, Result, event};

/// The demo's page, which `scripts/demo.mjs` builds. It is here for `make dev`; an app leaves it out.
const DEMO: &str = include_str!("../demo/page.html");

#[event(start)]
fn on_start() {
    start();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    if gateway::is_sync_path(&request.path()) {
        return gateway::forward(request, &env).await;
    }
    if let Some(page) = inspector::page(&request, &env)? {
        return Ok(page);
    }
    match demo::answer(&request, &env, DEMO)? {
        Some(answer) => Ok(answer),
        None => Response::error("not found", 404),
    }
}
