//! A sync Worker whose team says itself who somebody is, see `api_tokens`, and looks on, see
//! `audit`. All else is what `sync-worker` has, too.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]
// The methods that `#[durable_object]` makes have no docs of their own.
#![allow(missing_docs)]

mod api_tokens;
mod audit;

use api_tokens::ApiTokens;
use audit::Audit;
use tidewire::workers::{Host, router, start};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;
use worker::js_sys::Promise;
use worker::worker_sys::web_sys;
use worker::{
    DurableObject, Env, Error, Request, Response, Result, Socket, State, WebSocket,
    WebSocketIncomingMessage, durable_object, event,
};

#[event(start)]
fn on_start() {
    start();
}

#[wasm_bindgen]
pub fn fetch(request: web_sys::Request, env: Env, _context: JsValue) -> Promise {
    router::serve_with(request, env, ApiTokens)
}

/// One space: its sockets, its log, its engine.
#[durable_object]
pub struct SyncEngine {
    host: Host<ApiTokens, Audit>,
}

impl DurableObject for SyncEngine {
    fn new(state: State, env: Env) -> Self {
        Self {
            host: Host::wake_with(&state, &env, ApiTokens).observed_by(Audit),
        }
    }

    async fn fetch(&self, request: Request) -> Result<Response> {
        self.host.fetch(request).await
    }

    async fn alarm(&self) -> Result<Response> {
        self.host.alarm()?;
        Response::empty()
    }

    async fn websocket_message(
        &self,
        socket: WebSocket,
        message: WebSocketIncomingMessage,
    ) -> Result<()> {
        self.host.message(&socket, &message).await;
        Ok(())
    }

    async fn websocket_close(
        &self,
        socket: WebSocket,
        code: usize,
        _reason: String,
        _was_clean: bool,
    ) -> Result<()> {
        self.host.closed(&socket, code);
        Ok(())
    }

    async fn websocket_error(&self, socket: WebSocket, error: Error) -> Result<()> {
        worker::console_debug!("socket error: {error}");
        self.host.closed(&socket, 1000);
        Ok(())
    }

    /// There is no raw TCP here; the default would panic.
    async fn connect(&self, _socket: Socket) -> Result<()> {
        Err(Error::RustError(
            "this object takes no TCP connections".to_owned(),
        ))
    }
}
