//! The platform: the only place that names `worker`.
//!
//! - `gateway` — the app Worker: passes requests on to the sync Worker.
//! - `router` — the sync Worker: tokens, keys, and which object a request is for; `route` — its paths.
//! - `host` — inside the object: drives the engine and performs its effects; `frames` — what comes over sockets.
//! - `authenticator` — who somebody is, where keys or the app's endpoint must be asked.
//! - `source` — questions of the engine, put to whoever keeps rows that live elsewhere: a table in `d1`,
//!   the app by its `hooks`, a `handler` in Rust.
//! - `sync_worker` — what every sync Worker exports, as a macro; `entry.js` — what the runtime calls of it,
//!   put around it by `scripts/build.sh`.
//! - `keep` — a space as a whole: exported, imported, restored, examined.
//! - `readers` — open answers of readers over HTTP.
//! - `log` — what becomes of events; `inspector` — the page that shows them.
//! - `demo` — the page that people can touch, for development alone; `page` — how pages are served.
//! - `http` — requests and responses inside the sync Worker.
//! - `internal` — the path between router and host, defined once for both.

mod authenticator;
mod d1;
mod database;
pub mod demo;
mod faults;
mod frames;
pub mod gateway;
mod glue;
mod handler;
mod hooks;
pub mod host;
mod http;
pub mod inspector;
mod internal;
mod keep;
mod log;
mod page;
mod readers;
mod respond;
mod route;
pub mod router;
mod source;
mod sync_worker;
mod transport;

pub use authenticator::{Authenticator, Configured};
pub use handler::{Context, Handler, Handlers, PageAsk, Rows, Stored};
pub use host::Host;
pub use transport::WorkerTransport;

/// What both Workers do when they start, and start again after a panic: panics go to the log with
/// their place.
pub fn start() {
    console_error_panic_hook::set_once();
    glue::give_up();
}
