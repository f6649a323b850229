//! The inspector's page: static, one file, and without data. What it shows it asks for at
//! `/inspect`, with the key that is typed into it.

use worker::{Env, Method, Request, Response, Result};

use super::{page, respond};

/// Where the app Worker serves it.
const PATH: &str = "/inspector";

/// Serves the page, where there is one.
const SETTING: &str = "INSPECTOR";

const PAGE: &str = include_str!("inspector.html");

/// The page, if this is its path and `INSPECTOR=true` opens it.
///
/// # Errors
/// Only if a response cannot be made.
pub fn page(request: &Request, env: &Env) -> Result<Option<Response>> {
    if request.path() != PATH {
        return Ok(None);
    }
    match page::is_open(env, SETTING) {
        Ok(false) => Ok(None),
        Ok(true) if request.method() == Method::Get => page::html(PAGE).map(Some),
        Ok(true) => respond::wrong_method("GET").map(|made| Some(made.into())),
        Err(problem) => respond::misconfigured(&problem).map(|made| Some(made.into())),
    }
}
