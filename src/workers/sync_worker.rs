//! What every sync Worker exports, written once.

/// Makes of a crate a sync Worker: its `fetch`, and the Durable Object `SyncEngine` that keeps a
/// space. The crate must be a `cdylib` and depend on `worker` and `wasm-bindgen`.
///
/// Takes the type of the host and what wakes it; a team with an authenticator of its own names that
/// as well, because the router needs the same one.
///
/// ```ignore
/// tidewire::sync_worker!(Host, |state, env| {
///     Host::wake(state, env).with_handlers(Handlers::new().on("tickets", Tickets))
/// });
/// ```
#[macro_export]
macro_rules! sync_worker {
    ($host:ty, $wake:expr) => {
        $crate::sync_worker!($host, $wake, $crate::workers::Configured);
    };
    ($host:ty, $wake:expr, $authenticator:expr) => {
        #[::worker::event(start)]
        fn on_start() {
            $crate::workers::start();
        }

        /// Answers every request to the sync Worker.
        #[::wasm_bindgen::prelude::wasm_bindgen]
        pub fn fetch(
            request: ::worker::worker_sys::web_sys::Request,
            env: ::worker::Env,
            _context: ::wasm_bindgen::JsValue,
        ) -> ::worker::js_sys::Promise {
            $crate::workers::router::serve_with(request, env, $authenticator)
        }

        /// One space: its sockets, its log, its engine.
        #[::worker::durable_object]
        pub struct SyncEngine {
            host: $host,
        }

        impl ::worker::DurableObject for SyncEngine {
            fn new(state: ::worker::State, env: ::worker::Env) -> Self {
                let wake: fn(&::worker::State, &::worker::Env) -> $host = $wake;
                Self {
                    host: wake(&state, &env),
                }
            }

            async fn fetch(
                &self,
                request: ::worker::Request,
            ) -> ::worker::Result<::worker::Response> {
                self.host.fetch(request).await
            }

            async fn alarm(&self) -> ::worker::Result<::worker::Response> {
                self.host.alarm()?;
                ::worker::Response::empty()
            }

            async fn websocket_message(
                &self,
                socket: ::worker::WebSocket,
                message: ::worker::WebSocketIncomingMessage,
            ) -> ::worker::Result<()> {
                self.host.message(&socket, &message).await;
                Ok(())
            }

            async fn websocket_close(
                &self,
                socket: ::worker::WebSocket,
                code: usize,
                _reason: ::std::string::String,
                _was_clean: bool,
            ) -> ::worker::Result<()> {
                self.host.closed(&socket, code);
                Ok(())
            }

            async fn websocket_error(
                &self,
                socket: ::worker::WebSocket,
                error: ::worker::Error,
            ) -> ::worker::Result<()> {
                ::worker::console_debug!("socket error: {error}");
                self.host.closed(&socket, 1000);
                Ok(())
            }

            // There is no raw TCP here; the default would panic.
            async fn connect(&self, _socket: ::worker::Socket) -> ::worker::Result<()> {
                let message = "this object takes no TCP connections";
                Err(::worker::Error::RustError(message.to_owned()))
            }
        }
    };
}
