//! The demo of the app Worker: its page, and a sign-in without a password. For development alone:
//! without `DEMO=true` neither exists, and with it both need `DEV=true`, because whoever can reach
//! them is whoever they like.

use serde::Serialize;
use worker::{Env, Method, Request, Response, Result};

use super::router::now;
use super::{glue, http, page, respond};
use crate::auth::{Jwt, Secret};
use crate::protocol::{Code, Problem};

/// Where the page is.
const PAGE: &str = "/";

/// Where the page gets its tokens: `POST /demo/token?user=alice`, and `&seconds=5` for a short one.
const TOKEN: &str = "/demo/token";

/// Opens the demo.
const SETTING: &str = "DEMO";

/// Who there is.
const USERS: [&str; 3] = ["alice", "bob", "carol"];

/// Where they meet: the channel of presence in the page, which takes a topic.
const ROOM: &str = "room:demo";

/// How long a token lasts unless the page asks for less, in seconds: short enough that a page left
/// open shows how a session is renewed.
const SECONDS: u64 = 300;

#[derive(Serialize)]
struct Claims<'a> {
    sub: &'a str,
    iat: u64,
    exp: u64,
    topics: [&'a str; 1],
}

#[derive(Serialize)]
struct Issued {
    token: String,
}

/// The demo's answer, if this is a path of it and `DEMO=true` opens it. `html` is the page.
///
/// # Errors
/// Only if a response cannot be made. A setting that is missing is told by its name.
pub fn answer(request: &Request, env: &Env, html: &str) -> Result<Option<Response>> {
    let path = request.path();
    let allowed = match path.as_str() {
        PAGE => "GET",
        TOKEN => "POST",
        _ => return Ok(None),
    };
    match is_open(env) {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(problem) => return respond::misconfigured(&problem).map(|made| Some(made.into())),
    }
    match (request.method(), path.as_str()) {
        (Method::Get, PAGE) => page::html(html),
        (Method::Post, TOKEN) => sign_in(request, env).map(Response::from),
        _ => respond::wrong_method(allowed).map(Response::from),
    }
    .map(Some)
}

/// Whether the demo is there, and may be.
fn is_open(env: &Env) -> core::result::Result<bool, Problem> {
    if !page::is_open(env, SETTING)? {
        return Ok(false);
    }
    if page::is_open(env, "DEV")? {
        return Ok(true);
    }
    let message = "DEMO: needs DEV=true, because anybody may sign in as anybody";
    Err(Problem::new(Code::Internal, message))
}

/// A token for one of the users.
fn sign_in(request: &Request, env: &Env) -> Result<http::Response> {
    let secret = glue::setting(env, "JWT_SECRET").ok().flatten();
    let Some(secret) = secret.filter(|secret| !secret.is_empty()) else {
        let message = "JWT_SECRET: is not set, the demo signs its tokens with it";
        return respond::misconfigured(&Problem::new(Code::Internal, message));
    };
    let asked = glue::Address::new(&request.inner().url())?;
    let user = asked.query("user").unwrap_or_default();
    if !USERS.contains(&user.as_str()) {
        return respond::problem(&Problem::invalid("user", "must be alice, bob or carol"));
    }
    let seconds = match asked.query("seconds").map(|text| text.parse()) {
        None => SECONDS,
        Some(Ok(seconds @ 1..=SECONDS)) => seconds,
        Some(_) => {
            let message = format!("must be a number from 1 to {SECONDS}");
            return respond::problem(&Problem::invalid("seconds", message));
        }
    };
    let iat = now().0 / 1000;
    let claims = Claims {
        sub: &user,
        iat,
        exp: iat + seconds,
        topics: [ROOM],
    };
    let issued = Jwt::sign(&Secret::new(secret), &claims).map(|token| Issued { token });
    match issued.and_then(|issued| serde_json::to_string(&issued).ok()) {
        Some(body) => respond::json(200, body),
        None => respond::unavailable("no token", "the claims are no JSON"),
    }
}
