//! Requests and responses inside the sync Worker, as the platform has them: what is passed on is not
//! taken apart, and what is made is made in one crossing.

pub(super) use worker::worker_sys::web_sys::{Request, Response};

use wasm_bindgen::JsValue;
use worker::Result;

/// A header of a request, where it has it.
pub(super) fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}

/// The body of a response.
pub(super) async fn text(response: &Response) -> Result<String> {
    let text = wasm_bindgen_futures::JsFuture::from(response.text()?).await?;
    Ok(text.as_string().unwrap_or_default())
}

/// What must be a response.
pub(super) fn response_of(answer: core::result::Result<JsValue, JsValue>) -> Result<Response> {
    use wasm_bindgen::JsCast;
    Ok(answer?.dyn_into::<Response>()?)
}
