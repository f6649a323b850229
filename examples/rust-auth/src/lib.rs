//! A sync Worker whose team says itself who somebody is, see `api_tokens`, and looks on, see
//! `audit`. All else is what `sync-worker` has, too.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]
// What `#[wasm_bindgen]` makes has no docs of its own.
#![allow(missing_docs)]

mod api_tokens;
mod audit;

use api_tokens::ApiTokens;
use audit::Audit;
use tidewire::workers::Host;

tidewire::sync_worker!(
    Host<ApiTokens, Audit>,
    |state, env| Host::wake_with(state, env, ApiTokens).observed_by(Audit),
    ApiTokens
);
