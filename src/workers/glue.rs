//! Bindings to `glue.js`.

use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use worker::worker_sys::web_sys;

#[wasm_bindgen(module = "/src/workers/glue.js")]
extern "C" {
    #[derive(Clone)]
    pub(super) type Database;

    #[wasm_bindgen(constructor)]
    pub(super) fn new(storage: &JsValue) -> Database;

    #[wasm_bindgen(method)]
    pub(super) fn prepare(this: &Database, text: &str) -> u32;

    #[wasm_bindgen(method, catch)]
    pub(super) fn exec(
        this: &Database,
        number: u32,
        texts: &str,
        numbers: &[f64],
        most: u32,
    ) -> Result<Vec<f64>, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(super) fn first(
        this: &Database,
        number: u32,
        texts: &str,
        numbers: &[f64],
    ) -> Result<Vec<f64>, JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(super) fn more(this: &Database, most: u32) -> Result<Vec<f64>, JsValue>;

    #[wasm_bindgen(method)]
    pub(super) fn texts(this: &Database, into: &mut [u8]) -> Option<u32>;

    #[wasm_bindgen(method, getter)]
    pub(super) fn written(this: &Database) -> f64;

    #[wasm_bindgen(method, getter)]
    pub(super) fn size(this: &Database) -> f64;

    #[wasm_bindgen(method, catch)]
    pub(super) fn transaction(
        this: &Database,
        body: &mut dyn FnMut() -> Result<JsValue, JsValue>,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method, catch)]
    pub(super) async fn restore(
        this: &Database,
        at: JsValue,
        bookmark: JsValue,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, js_name = ringBy)]
    pub(super) fn ring_by(this: &Database, at: f64);

    #[wasm_bindgen(method)]
    pub(super) fn rang(this: &Database, next: Option<f64>);

    #[derive(Clone)]
    pub(super) type Sockets;

    #[wasm_bindgen(constructor)]
    pub(super) fn new(state: &JsValue) -> Sockets;

    #[wasm_bindgen(method)]
    pub(super) fn open(this: &Sockets) -> Array;

    #[wasm_bindgen(method, catch)]
    pub(super) fn accept(
        this: &Sockets,
        number: u32,
        socket: &web_sys::WebSocket,
    ) -> Result<(), JsValue>;

    #[wasm_bindgen(method)]
    pub(super) fn insert(this: &Sockets, number: u32, socket: &web_sys::WebSocket);

    #[wasm_bindgen(method)]
    pub(super) fn number(this: &Sockets, socket: &web_sys::WebSocket) -> Option<u32>;

    #[wasm_bindgen(method)]
    pub(super) fn remove(this: &Sockets, number: u32);

    #[wasm_bindgen(method, catch)]
    pub(super) fn save(this: &Sockets, number: u32, attachment: &Uint8Array)
    -> Result<(), JsValue>;

    #[wasm_bindgen(method)]
    pub(super) fn send(this: &Sockets, numbers: &[u32], text: &str);

    #[wasm_bindgen(method)]
    pub(super) fn close(this: &Sockets, number: u32, code: u16, reason: &str);

    #[wasm_bindgen(method)]
    pub(super) fn begin(this: &Sockets);

    #[wasm_bindgen(method)]
    pub(super) fn end(this: &Sockets);

    /// Says that frames wait, or that none does any more.
    #[wasm_bindgen(method)]
    pub(super) fn keeps(this: &Sockets, waiting: bool);

    /// Ends when the runtime has looked at its sockets.
    #[wasm_bindgen(method)]
    pub(super) async fn looked(this: &Sockets);

    #[wasm_bindgen(method, catch)]
    pub(super) async fn restart(this: &Sockets) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(method, js_name = wasInterrupted)]
    pub(super) fn was_interrupted(this: &Sockets) -> bool;

    pub(super) fn attachment(socket: &web_sys::WebSocket) -> Option<Vec<u8>>;

    #[wasm_bindgen(js_name = closeSocket)]
    pub(super) fn close_socket(socket: &web_sys::WebSocket, code: u16, reason: &str);

    #[wasm_bindgen(catch)]
    pub(super) fn setting(env: &JsValue, name: &str) -> Result<Option<String>, JsValue>;

    pub(super) fn uploaded(
        request: &web_sys::Request,
        limit: u32,
        short: u32,
        ms: u32,
    ) -> js_sys::Promise;

    #[wasm_bindgen(js_name = bodyText, catch)]
    pub(super) async fn body_text(
        request: &web_sys::Request,
        limit: u32,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(js_name = bodyBytes)]
    pub(super) fn body_bytes(request: &web_sys::Request, limit: u32) -> js_sys::Promise;

    #[wasm_bindgen(js_name = withBody)]
    pub(super) fn with_body(coming: &js_sys::Promise, answer: &JsValue) -> js_sys::Promise;

    #[wasm_bindgen(catch)]
    pub(super) fn forwarded(
        request: &web_sys::Request,
        url: &str,
        strip: &Array,
        set: &Array,
    ) -> Result<web_sys::Request, JsValue>;

    pub(super) async fn sleep(ms: u32);

    #[wasm_bindgen(catch)]
    pub(super) fn response(
        status: u16,
        body: &str,
        retry_after: Option<f64>,
        kind: Option<&str>,
    ) -> Result<web_sys::Response, JsValue>;

    #[wasm_bindgen(js_name = fetchObject)]
    pub(super) fn fetch_object(
        objects: &JsValue,
        head: &str,
        body: &JsValue,
        ms: u32,
        is_passed_on: bool,
    ) -> js_sys::Promise;

    /// Whether a body, a text of JavaScript, may name a space.
    #[wasm_bindgen(js_name = mentionsSpace)]
    pub(super) fn mentions_space(body: &JsValue) -> bool;

    #[wasm_bindgen(js_name = headOf)]
    pub(super) fn head_of(request: &web_sys::Request) -> String;

    pub(super) fn header(request: &web_sys::Request, name: &js_sys::JsString) -> Option<String>;

    /// An URL.
    #[derive(Clone)]
    pub(super) type Address;

    #[wasm_bindgen(constructor, catch)]
    pub(super) fn new(text: &str) -> Result<Address, JsValue>;

    #[wasm_bindgen(method, getter)]
    pub(super) fn text(this: &Address) -> String;

    #[wasm_bindgen(method, getter)]
    pub(super) fn origin(this: &Address) -> String;

    #[wasm_bindgen(method, getter)]
    pub(super) fn path(this: &Address) -> String;

    #[wasm_bindgen(method, getter)]
    pub(super) fn search(this: &Address) -> String;

    #[wasm_bindgen(method, getter, js_name = isHttp)]
    pub(super) fn is_http(this: &Address) -> bool;

    #[wasm_bindgen(method)]
    pub(super) fn query(this: &Address, name: &str) -> Option<String>;

    #[wasm_bindgen(method)]
    pub(super) fn at(this: &Address, path: &str, search: &str) -> Address;

    #[wasm_bindgen(method)]
    pub(super) fn add(this: &Address, name: &str, value: &str);

    #[wasm_bindgen(js_name = Timer)]
    type JsTimer;

    #[wasm_bindgen(constructor, js_class = "Timer")]
    fn new(ms: u32) -> JsTimer;

    #[wasm_bindgen(method, js_class = "Timer")]
    async fn over(this: &JsTimer);

    #[wasm_bindgen(method, js_class = "Timer")]
    fn cancel(this: &JsTimer);

    #[wasm_bindgen(catch)]
    pub(super) async fn ask(
        fetcher: &JsValue,
        request: &web_sys::Request,
        ms: u32,
        most: u32,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) async fn batch(database: &JsValue, statements: &str) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) async fn verify(
        algorithm: &str,
        jwk: &str,
        signature: &[u8],
        signed: &str,
    ) -> Result<JsValue, JsValue>;

    /// The dataset of Analytics Engine; undefined where it is not bound.
    pub(super) fn dataset(env: &JsValue) -> Option<js_sys::Object>;

    #[wasm_bindgen(js_name = writePoint)]
    pub(super) fn write_point(
        dataset: &js_sys::Object,
        index: &str,
        blobs: Vec<String>,
        doubles: &[f64],
    );

    #[wasm_bindgen(js_name = giveUp)]
    pub(super) fn give_up();

    pub(super) fn answered(answer: &js_sys::Promise) -> js_sys::Promise;

    #[wasm_bindgen(catch)]
    pub(super) async fn exported(
        objects: &JsValue,
        space: &str,
        url: &str,
        headers: &web_sys::Headers,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(catch)]
    pub(super) async fn imported(
        objects: &JsValue,
        space: &str,
        url: &str,
        headers: &web_sys::Headers,
        line_header: &str,
        request: &web_sys::Request,
        line: f64,
        bytes: u32,
    ) -> Result<JsValue, JsValue>;

    #[wasm_bindgen(js_name = fetchWithin, catch)]
    pub(super) async fn fetch_within(
        fetcher: &JsValue,
        request: &web_sys::Request,
        ms: u32,
    ) -> Result<JsValue, JsValue>;
}

/// A time that is called off when nobody waits for it any more.
pub(super) struct Timer(JsTimer);

impl Timer {
    pub(super) fn new(ms: u32) -> Self {
        Self(JsTimer::new(ms))
    }

    /// Ends when the time is over.
    pub(super) async fn over(&self) {
        self.0.over().await;
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// A binding as JavaScript knows it.
pub(super) fn binding(env: &JsValue, name: &str) -> JsValue {
    js_sys::Reflect::get(env, &name.into()).unwrap_or_default()
}

/// What JavaScript threw, as text for the log.
pub(super) fn thrown(error: &JsValue) -> String {
    match error.dyn_ref::<js_sys::Error>() {
        Some(error) => String::from(error.message()),
        None => format!("{error:?}"),
    }
}
