//! Structured log lines: one JSON object an operation. No payload, no token, no key.

use crate::config::Publisher;
use crate::names::Space;
use crate::protocol::object;

/// A publisher or operator made a call. Whose key it was is told by name.
pub(super) fn call(
    path: &'static str,
    publisher: Option<&Publisher>,
    space: Option<&Space>,
    status: u16,
) {
    let line = object(|o| {
        o.text("op", "call");
        o.text("path", path);
        o.opt_text("key", publisher.map(Publisher::name));
        o.opt_text("space", space.map(Space::as_str));
        o.number("status", status.into());
    });
    worker::console_log!("{line}");
}
