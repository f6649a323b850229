//! The inspector's page: static, one file, and without data. What it shows it asks for at
//! `/inspect`, with the key that is typed into it.

use worker::{Env, Method, Request, Response, ResponseBuilder, Result};

use super::{glue, respond};
use crate::digest::hex;
use crate::protocol::{Code, Problem};

/// Where the app Worker serves it.
const PATH: &str = "/inspector";

/// Serves the page, where there is one.
const SETTING: &str = "INSPECTOR";

const PAGE: &str = include_str!("inspector.html");

/// In the page, in place of the nonce of its style and script.
const NONCE: &str = "{nonce}";

/// The page, if this is its path and `INSPECTOR=true` opens it.
///
/// # Errors
/// Only if a response cannot be made.
pub fn page(request: &Request, env: &Env) -> Result<Option<Response>> {
    if request.path() != PATH {
        return Ok(None);
    }
    match glue::setting(env, SETTING).ok().flatten().as_deref() {
        Some("true") if request.method() == Method::Get => html().map(Some),
        Some("true") => respond::wrong_method("GET").map(Some),
        None | Some("" | "false") => Ok(None),
        Some(_) => {
            let problem = Problem::new(Code::Internal, "INSPECTOR: must be true or false");
            worker::console_error!("{problem}");
            respond::problem(&problem).map(Some)
        }
    }
}

fn html() -> Result<Response> {
    let mut nonce = [0; 16];
    if getrandom::fill(&mut nonce).is_err() {
        return respond::unavailable("no inspector", "there is no randomness");
    }
    let nonce = hex(&nonce);
    let policy = format!(
        "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'"
    );
    Ok(ResponseBuilder::new()
        .with_header("content-type", "text/html; charset=utf-8")?
        .with_header("content-security-policy", &policy)?
        .with_header("x-frame-options", "DENY")?
        .with_header("x-content-type-options", "nosniff")?
        .with_header("referrer-policy", "no-referrer")?
        .with_header("cross-origin-opener-policy", "same-origin")?
        .with_header("cache-control", "no-store")?
        .fixed(PAGE.replace(NONCE, &nonce).into_bytes()))
}
