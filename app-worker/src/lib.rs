//! The app Worker: passes sync traffic on to the sync Worker. Your app's own routes go here.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]

use tidewire::workers::{gateway, inspector, start};
use worker::{Context, Env, Request, Response, Result, event};

#[event(start)]
fn on_start() {
    start();
}

#[event(fetch)]
async fn fetch(request: Request, env: Env, _context: Context) -> Result<Response> {
    if gateway::is_sync_path(&request.path()) {
        return gateway::forward(request, &env).await;
    }
    match inspector::page(&request, &env)? {
        Some(page) => Ok(page),
        None => Response::error("not found", 404),
    }
}
