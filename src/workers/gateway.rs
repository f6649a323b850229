//! The app Worker's part: passes sync traffic on to the sync Worker, and holds no rule of its own.

use js_sys::Array;
use wasm_bindgen::JsValue;
use worker::{Env, Fetcher, Request, Response, Result, Url};

use super::internal::within;
use super::{glue, respond};
use crate::protocol::Code;

/// The service binding in `wrangler.jsonc`.
const BINDING: &str = "SYNC_WORKER";

/// Where the sync Worker is, if there is no binding: an origin, or an URL that ends in
/// `/api/sync`.
const FALLBACK: &str = "SYNC_WORKER_URL";

/// Tells the sync Worker which host the browser used.
pub(super) const HOST_HEADER: &str = "x-tidewire-host";

/// Every header that only our own Workers may set begins so.
const INTERNAL_HEADERS: [&str; 2] = ["x-tidewire-grant", HOST_HEADER];

/// The sync Worker's paths beside `/api/sync` and what lies below it.
const PATHS: [&str; 4] = ["/broadcast", "/broadcast-batch", "/stats", "/healthz"];

/// Whether a path is the sync Worker's.
#[must_use]
pub fn is_sync_path(path: &str) -> bool {
    path == "/api/sync" || path.starts_with("/api/sync/") || PATHS.contains(&path)
}

/// Passes a request on: over the service binding, else to the fallback URL. Upgrade, subprotocol,
/// cookies, query and body go unchanged.
///
/// # Errors
/// Only if a response cannot be made. What fails on the way becomes a 503.
pub async fn forward(request: Request, env: &Env) -> Result<Response> {
    let url = request.url()?;
    let (fetcher, url) = match (binding(env), fallback(env)) {
        (Some(fetcher), _) => (fetcher, url),
        (None, Some(Ok(origin))) => (JsValue::UNDEFINED, moved(&url, &origin)),
        (None, Some(Err(()))) => {
            worker::console_error!("{FALLBACK} is no http(s) URL");
            return respond::problem_with(500, Code::Internal, "SYNC_WORKER_URL is no http(s) URL");
        }
        (None, None) => {
            let message = "neither the binding SYNC_WORKER nor SYNC_WORKER_URL is set";
            return respond::problem_with(503, Code::Unavailable, message);
        }
    };
    match pass(&request, &fetcher, &url).await {
        Ok(response) => Ok(response),
        Err(error) => respond::unavailable("the sync Worker did not answer", &error.to_string()),
    }
}

async fn pass(request: &Request, fetcher: &JsValue, url: &Url) -> Result<Response> {
    let strip: Array = INTERNAL_HEADERS.into_iter().map(JsValue::from).collect();
    let host = request.url()?[worker::url::Position::BeforeHost..worker::url::Position::AfterPort]
        .to_owned();
    let set = Array::of1(&Array::of2(&HOST_HEADER.into(), &host.into()));
    if fetcher.is_undefined() {
        // The edge, or its local stand-in, offers compressions of its own towards the network. An
        // answer that came back in one would go on to clients that never asked for any.
        set.push(&Array::of2(&"accept-encoding".into(), &"identity".into()));
    }
    let passed = glue::forwarded(request.inner(), url.as_str(), &strip, &set)?;
    within(fetcher, &passed).await
}

fn binding(env: &Env) -> Option<JsValue> {
    env.service(BINDING).ok().map(Fetcher::into_rpc)
}

fn fallback(env: &Env) -> Option<core::result::Result<Url, ()>> {
    let text = glue::setting(env, FALLBACK)
        .ok()?
        .filter(|text| !text.is_empty())?;
    let url = Url::parse(&text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https"));
    Some(url.ok_or(()))
}

/// The same path and query at another origin.
fn moved(url: &Url, origin: &Url) -> Url {
    let mut moved = origin.clone();
    moved.set_path(url.path());
    moved.set_query(url.query());
    moved.set_fragment(None);
    moved
}
