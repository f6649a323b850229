//! Requests and responses inside the sync Worker, as the platform has them: what is passed on is not
//! taken apart, and what is made is made in one crossing.

pub(super) use worker::worker_sys::web_sys::{Request, Response};

use wasm_bindgen::JsValue;
use worker::Result;

use super::glue;
use crate::protocol::{Code, Problem};

/// A header of a request, where it has it.
pub(super) fn header(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}

/// The body of a response.
pub(super) async fn text(response: &Response) -> Result<String> {
    let text = wasm_bindgen_futures::JsFuture::from(response.text()?).await?;
    Ok(text.as_string().unwrap_or_default())
}

/// The body of a request as text, which may take so many bytes.
pub(super) async fn body(
    request: &Request,
    bytes: usize,
) -> core::result::Result<core::result::Result<String, Problem>, JsValue> {
    let body = glue::body_text(request, bytes as u32).await?;
    if body.is_null() {
        let message = format!("the body must be at most {} MiB", bytes >> 20);
        return Ok(Err(Problem::new(Code::FrameTooLarge, message)));
    }
    let not_utf8 = || Problem::malformed("the body is no UTF-8");
    Ok(body.as_string().ok_or_else(not_utf8))
}

/// What must be a response.
pub(super) fn response_of(answer: core::result::Result<JsValue, JsValue>) -> Result<Response> {
    use wasm_bindgen::JsCast;
    Ok(answer?.dyn_into::<Response>()?)
}
