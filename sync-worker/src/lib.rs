//! The sync Worker: public routes, and the Durable Object of a space.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]
// What `#[wasm_bindgen]` makes has no docs of its own.
#![allow(missing_docs)]

use tidewire::workers::Host;

tidewire::sync_worker!(Host, Host::wake);
