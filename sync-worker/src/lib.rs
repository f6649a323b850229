//! Placeholder for the sync Worker, so that the tooling has something to build.

use worker::{
    DurableObject, Env, Error, Request, Response, Result, Socket, State, WebSocket,
    WebSocketIncomingMessage, durable_object, event,
};

#[event(fetch)]
async fn fetch(req: Request, env: Env, _ctx: worker::Context) -> Result<Response> {
    if req.path() == "/healthz" {
        return Response::ok("ok");
    }
    let stub = env
        .durable_object("SYNC_ENGINE")?
        .id_from_name("main")?
        .get_stub()?;
    stub.fetch_with_request(req).await
}

#[durable_object]
pub struct SyncEngine {
    _state: State,
}

impl DurableObject for SyncEngine {
    fn new(state: State, _env: Env) -> Self {
        Self { _state: state }
    }

    async fn fetch(&self, _req: Request) -> Result<Response> {
        Response::ok("engine")
    }

    async fn alarm(&self) -> Result<Response> {
        Response::empty()
    }

    async fn websocket_message(&self, ws: WebSocket, _m: WebSocketIncomingMessage) -> Result<()> {
        ws.close(Some(1000), Some("not yet"))
    }

    async fn websocket_close(&self, ws: WebSocket, _: usize, _: String, _: bool) -> Result<()> {
        ws.close(Some(1000), Some(""))
    }

    async fn websocket_error(&self, _ws: WebSocket, _error: Error) -> Result<()> {
        Ok(())
    }

    async fn connect(&self, _socket: Socket) -> Result<()> {
        Ok(())
    }
}
