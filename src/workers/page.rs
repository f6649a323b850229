//! A page that is one file: what it may load, and who may frame it.

use worker::{Env, Response, ResponseBuilder, Result};

use super::{glue, respond};
use crate::digest::hex;
use crate::protocol::{Code, Problem};

/// In a page, in place of the nonce of its style and script.
const NONCE: &str = "{nonce}";

/// Whether a setting says `true`. Not set, or `false`, means no; anything else is a mistake.
pub(super) fn is_open(env: &Env, setting: &str) -> core::result::Result<bool, Problem> {
    match glue::setting(env, setting).ok().flatten().as_deref() {
        Some("true") => Ok(true),
        None | Some("" | "false") => Ok(false),
        Some(_) => Err(Problem::new(
            Code::Internal,
            format!("{setting}: must be true or false"),
        )),
    }
}

/// Serves a page whose style and script have the nonce `{nonce}`; nothing else of it may run, and it
/// may talk to its own origin alone.
pub(super) fn html(page: &str) -> Result<Response> {
    let mut nonce = [0; 16];
    if getrandom::fill(&mut nonce).is_err() {
        return respond::unavailable("no page", "there is no randomness").map(Response::from);
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
        .fixed(page.replace(NONCE, &nonce).into_bytes()))
}
