//! Requests and responses inside the sync Worker, as the platform has them: what is passed on is not
//! taken apart, and what is made is made in one crossing.

pub(super) use worker::worker_sys::web_sys::{Request, Response};

use std::cell::RefCell;

use js_sys::JsString;
use wasm_bindgen::JsValue;
use worker::Result;

use super::glue;
use crate::protocol::{Code, Problem};
use crate::small_map::SmallMap;

thread_local! {
    /// Names of headers as JavaScript has them, by where they are and how long: to cross costs more
    /// than to look for a header.
    static NAMES: RefCell<SmallMap<(usize, usize), Option<JsString>>> = RefCell::default();
}

/// A header of a request, where it has it.
pub(super) fn header(request: &Request, name: &'static str) -> Option<String> {
    let place = (name.as_ptr() as usize, name.len());
    NAMES.with_borrow_mut(|names| {
        let known = names.or_default(place);
        glue::header(request, known.get_or_insert_with(|| JsString::from(name)))
    })
}

/// The same, of a name that a setting gives.
pub(super) fn header_named(request: &Request, name: &str) -> Option<String> {
    request.headers().get(name).ok().flatten()
}

/// Refuses a body that was read only up to its bound, is none, or has not come, see `uploaded` and `bodyBytes` in
/// `glue.js`.
pub(super) fn check_body(body: &JsValue) -> core::result::Result<(), Problem> {
    if body.is_null() {
        let message = "the body must be at most 8 MiB";
        return Err(Problem::new(Code::FrameTooLarge, message));
    }
    if body.is_undefined() {
        let message = "the body is no UTF-8, or not as long as it says";
        return Err(Problem::malformed(message));
    }
    if *body == JsValue::FALSE {
        let message = "the body did not come within 30 s";
        return Err(Problem::new(Code::Unavailable, message));
    }
    Ok(())
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
