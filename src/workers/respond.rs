//! HTTP answers: JSON bodies, and errors with their code and status.

use worker::Result;

use super::glue;
use super::http::Response;
use crate::engine::Reply;
use crate::protocol::{Code, Problem};

/// A JSON body with its status.
pub(super) fn json(status: u16, body: String) -> Result<Response> {
    Ok(glue::response(status, &body, None, None)?)
}

/// The text format of Prometheus.
pub(super) fn metrics(body: String) -> Result<Response> {
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    Ok(glue::response(200, &body, None, Some(kind))?)
}

/// The engine's answer.
pub(super) fn reply(reply: Reply) -> Result<Response> {
    let seconds = reply.retry_after_ms.map(|ms| ms.div_ceil(1000) as f64);
    let (status, body) = (reply.status, &reply.body);
    Ok(glue::response(status, body, seconds, None)?)
}

pub(super) fn problem(problem: &Problem) -> Result<Response> {
    reply(Reply::refusal(problem))
}

/// A refusal with a status that the code alone does not tell.
pub(super) fn problem_with(status: u16, code: Code, message: &'static str) -> Result<Response> {
    json(status, Reply::refusal(&Problem::new(code, message)).body)
}

pub(super) fn not_found() -> Result<Response> {
    problem(&Problem::new(Code::NotFound, "no such path"))
}

pub(super) fn wrong_method(allowed: &'static str) -> Result<Response> {
    let message = "this path takes another method";
    let response = problem_with(405, Code::Invalid, message)?;
    response.headers().set("allow", allowed)?;
    Ok(response)
}

/// A setting that is missing or wrong: logged, and told by its name.
pub(super) fn misconfigured(fault: &Problem) -> Result<Response> {
    worker::console_error!("{fault}");
    problem(fault)
}

/// A failure of ours: logged where it is born, told without its cause.
pub(super) fn unavailable(what: &str, cause: &str) -> Result<Response> {
    worker::console_error!("{what}: {cause}");
    problem(&Problem::new(
        Code::Unavailable,
        "not available now, try again",
    ))
}
