//! The app, asked for rows that it keeps: over a service binding, or the network.

use worker::{Env, Fetcher, Headers, Method, Request, RequestInit};

use super::authenticator::answer_of;
use super::host::random_name;
use super::router::now;
use crate::config::Config;
use crate::limits;
use crate::names::Space;
use crate::source::{Answered, HookCall, Question, Reading, Target, not_set_up, read_answer};

/// Puts a question to the app. A read is given up after `timeout_ms`.
///
/// A write is not: given up half-way, nobody would know what became of it. It is waited for as long
/// as its row is kept from others, [`limits::SOURCE_NEVER_MS`]; when its client is told that it takes
/// too long is up to whoever calls this.
pub(super) async fn ask(
    env: &Env,
    config: &Config,
    space: &Space,
    target: &Target,
    question: &Question,
    timeout_ms: u64,
) -> Answered {
    let what = &question.what;
    let tell = |cause: &str| {
        let (operation, channel) = (what.operation(), &question.channel);
        worker::console_error!("hooks: {operation} of {channel}: {cause}");
    };
    let misconfigured = |cause: String| {
        tell(&cause);
        not_set_up().into()
    };
    let fetcher = match target {
        Target::Service(binding) => match env.service(binding) {
            Ok(service) => Fetcher::into_rpc(service),
            Err(_) => {
                return Err(misconfigured(format!(
                    "there is no service binding {binding}"
                )));
            }
        },
        Target::Url(_) => wasm_bindgen::JsValue::UNDEFINED,
    };
    let call = HookCall::new(
        target,
        question,
        space,
        config.hooks(),
        random_name(),
        now(),
    );
    let Ok(request) = request(&call) else {
        return Err(misconfigured("the source's URL is none".to_owned()));
    };
    let ms = match what.is_write() {
        true => limits::SOURCE_NEVER_MS,
        false => timeout_ms,
    };
    let answer = answer_of(&fetcher, request.inner(), ms, limits::SOURCE_ANSWER_BYTES);
    let Reading { answered, cause } = match answer.await {
        Ok((status, text)) => {
            let row_bytes = config.limits.row_bytes;
            read_answer(what, status, text.as_deref(), row_bytes)
        }
        Err(error) => Reading::lost(what, error),
    };
    if let Some(cause) = cause {
        tell(&cause);
    }
    answered
}

fn request(call: &HookCall) -> worker::Result<Request> {
    let headers = Headers::new();
    for (name, value) in &call.headers {
        headers.set(name, value)?;
    }
    let mut init = RequestInit::new();
    init.with_method(Method::Post)
        .with_headers(headers)
        .with_body(Some(call.body.as_str().into()));
    Request::new_with_init(&call.url, &init)
}
