//! What every sync Worker exports, written once.

/// Makes of a crate a sync Worker: its `fetch`, and the Durable Object `SyncEngine` that keeps a
/// space. The crate must be a `cdylib` and depend on `worker` and `wasm-bindgen`.
///
/// `scripts/build.sh` puts `entry.js` around it, which spares a request what `worker-build` puts there, and
/// hands out nothing but these two. By `worker-build` alone it works as well.
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

        /// Answers a request to the sync Worker whose answer has failed, see `entry.js`.
        #[::wasm_bindgen::prelude::wasm_bindgen]
        pub fn unanswered(
            request: ::worker::worker_sys::web_sys::Request,
            env: ::worker::Env,
            error: ::wasm_bindgen::JsValue,
        ) -> ::std::result::Result<::worker::worker_sys::web_sys::Response, ::wasm_bindgen::JsValue>
        {
            $crate::workers::router::unanswered(request, env, $authenticator, error)
        }

        /// Made by `entry.js` where the wasm instance is broken: whoever makes one finds it made anew,
        /// as `worker-build` has it for each class.
        #[::wasm_bindgen::prelude::wasm_bindgen]
        pub struct Renewal;

        #[::wasm_bindgen::prelude::wasm_bindgen]
        impl Renewal {
            /// Nothing.
            #[wasm_bindgen(constructor)]
            pub fn new() -> Self {
                Self
            }
        }

        // Not by `#[durable_object]`: its `fetch` takes requests and responses apart.
        /// One space: its sockets, its log, its engine.
        #[::wasm_bindgen::prelude::wasm_bindgen]
        pub struct SyncEngine {
            host: $host,
        }

        #[::wasm_bindgen::prelude::wasm_bindgen(
                                            wasm_bindgen = ::worker::wasm_bindgen,
                                            wasm_bindgen_futures = ::worker::wasm_bindgen_futures,
                                            js_sys = ::worker::js_sys
                                        )]
        impl SyncEngine {
            /// Made by the runtime, before whatever wakes it.
            #[wasm_bindgen(constructor)]
            pub fn new(
                state: ::worker::worker_sys::DurableObjectState,
                env: ::worker::Env,
            ) -> Self {
                let wake: fn(&::worker::State, &::worker::Env) -> $host = $wake;
                Self {
                    host: wake(&state.into(), &env),
                }
            }

            /// The number of the publisher's call that a request is, see [`Self::call`].
            #[wasm_bindgen(js_name = callOf)]
            pub fn call_of(
                &self,
                request: &::worker::worker_sys::web_sys::Request,
            ) -> ::std::option::Option<usize> {
                self.host.call_of(request)
            }

            /// The body of a publisher's call.
            #[wasm_bindgen(js_name = bodyOf)]
            pub fn body_of(
                &self,
                request: &::worker::worker_sys::web_sys::Request,
            ) -> ::worker::js_sys::Promise {
                self.host.body_of(request)
            }

            /// A publisher calls.
            pub fn call(
                &self,
                number: usize,
                request: &::worker::worker_sys::web_sys::Request,
                body: &::wasm_bindgen::JsValue,
            ) -> ::std::result::Result<::worker::worker_sys::web_sys::Response, ::wasm_bindgen::JsValue>
            {
                Ok(self.host.call(number, request, body)?)
            }

            /// The router asks.
            pub async fn fetch(
                &self,
                request: ::worker::worker_sys::web_sys::Request,
            ) -> ::std::result::Result<::wasm_bindgen::JsValue, ::wasm_bindgen::JsValue> {
                Ok(self.host.fetch(request).await?.into())
            }

            /// The alarm rings.
            pub async fn alarm(&self) -> ::std::result::Result<(), ::wasm_bindgen::JsValue> {
                Ok(self.host.alarm()?)
            }

            // A promise, so that a panic is an error of nobody's: `glue.js` listens for those.
            /// A frame has come.
            #[wasm_bindgen(js_name = webSocketMessage)]
            pub async fn websocket_message(
                &self,
                socket: ::worker::worker_sys::web_sys::WebSocket,
                message: ::wasm_bindgen::JsValue,
            ) {
                self.host.message(&socket, &message).await;
            }

            /// A socket has closed.
            #[wasm_bindgen(js_name = webSocketClose)]
            pub async fn websocket_close(
                &self,
                socket: ::worker::worker_sys::web_sys::WebSocket,
                code: u16,
            ) {
                self.host.closed(&socket, code);
            }

            /// A socket has broken.
            #[wasm_bindgen(js_name = webSocketError)]
            pub async fn websocket_error(
                &self,
                socket: ::worker::worker_sys::web_sys::WebSocket,
                error: ::wasm_bindgen::JsValue,
            ) {
                ::worker::console_debug!("socket error: {error:?}");
                self.host.closed(&socket, 1000);
            }
        }
    };
}
