//! The app Worker's part: passes sync traffic on to the sync Worker, and holds no rule of its own.

use js_sys::Array;
use wasm_bindgen::JsValue;
use worker::{Env, Fetcher, Request, Response, Result};

use super::glue::{self, Address};
use super::internal::{INTERNAL_HEADERS, within};
use super::respond;
use crate::engine::Call;
use crate::protocol::{Code, Problem};

/// The service binding in `wrangler.jsonc`.
const BINDING: &str = "SYNC_WORKER";

/// Where the sync Worker is, if there is no binding: an origin, or an URL that ends in
/// `/api/sync`.
const FALLBACK: &str = "SYNC_WORKER_URL";

/// Tells the sync Worker which origin the browser used for the app.
pub(super) const ORIGIN_HEADER: &str = "x-tidewire-origin";

/// The sync Worker's paths beside its calls, `/api/sync`, and what lies below that.
const PATHS: [&str; 9] = [
    "/stats",
    "/metrics",
    "/inspect",
    "/presence",
    "/healthz",
    "/export",
    "/import",
    "/restore",
    "/doctor",
];

/// Whether a path is the sync Worker's.
#[must_use]
pub fn is_sync_path(path: &str) -> bool {
    path == "/api/sync"
        || path.starts_with("/api/sync/")
        || PATHS.contains(&path)
        || Call::of_path(path).is_some()
}

/// Where the sync Worker is.
pub(super) enum Target {
    Binding(JsValue),
    Url(Address),
}

impl Target {
    /// What fetches; undefined for the network.
    pub(super) fn fetcher(&self) -> JsValue {
        match self {
            Self::Binding(fetcher) => fetcher.clone(),
            Self::Url(_) => JsValue::UNDEFINED,
        }
    }

    /// The URL of a path there. Behind a binding the host means nothing.
    pub(super) fn url(&self, path: &str, search: &str) -> Result<Address> {
        match self {
            Self::Binding(_) => Ok(Address::new("https://sync-worker/")?.at(path, search)),
            Self::Url(origin) => Ok(origin.at(path, search)),
        }
    }
}

/// Finds the sync Worker: the service binding, else the URL.
pub(super) fn target(env: &Env) -> core::result::Result<Target, Problem> {
    if let Ok(fetcher) = env.service(BINDING) {
        return Ok(Target::Binding(Fetcher::into_rpc(fetcher)));
    }
    let text = glue::setting(env, FALLBACK).ok().flatten();
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        let message = "neither the binding SYNC_WORKER nor SYNC_WORKER_URL is set";
        return Err(Problem::new(Code::Unavailable, message));
    };
    let url = Address::new(&text).ok().filter(Address::is_http);
    let url = url.ok_or_else(|| Problem::new(Code::Internal, "SYNC_WORKER_URL is no http(s) URL"));
    url.map(Target::Url)
}

/// Passes a request on: over the service binding, else to the fallback URL. Upgrade, subprotocol,
/// cookies, query and body go unchanged.
///
/// # Errors
/// Only if a response cannot be made. What fails on the way becomes a 503.
pub async fn forward(request: Request, env: &Env) -> Result<Response> {
    let target = match target(env) {
        Ok(target) => target,
        Err(problem) => {
            worker::console_error!("{problem}");
            return respond::problem(&problem).map(Response::from);
        }
    };
    match pass(&request, &target).await {
        Ok(response) => Ok(response),
        Err(error) => {
            let made = respond::unavailable("the sync Worker did not answer", &error.to_string());
            made.map(Response::from)
        }
    }
}

async fn pass(request: &Request, target: &Target) -> Result<Response> {
    let from = Address::new(&request.inner().url())?;
    let to = match target {
        Target::Binding(_) => from.text(),
        Target::Url(_) => target.url(&from.path(), &from.search())?.text(),
    };
    let strip: Array = INTERNAL_HEADERS
        .iter()
        .map(|name| JsValue::from(*name))
        .collect();
    let origin = from.origin();
    let set = Array::of1(&Array::of2(&ORIGIN_HEADER.into(), &origin.into()));
    if let Target::Url(_) = target {
        // The edge, or its local stand-in, offers compressions of its own towards the network. An
        // answer that came back in one would go on to clients that never asked for any.
        set.push(&Array::of2(&"accept-encoding".into(), &"identity".into()));
    }
    let passed = glue::forwarded(request.inner(), &to, &strip, &set)?;
    let answer = within(&target.fetcher(), &passed).await?;
    Ok(answer.into())
}
