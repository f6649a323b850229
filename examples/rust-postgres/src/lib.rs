//! A sync Worker whose rows live in Postgres: todos for everyone, notes for their owners.

// There are Workers only as wasm; for native commands on the workspace this is empty.
#![cfg(target_arch = "wasm32")]
// What `#[wasm_bindgen]` makes has no docs of its own.
#![allow(missing_docs)]

mod db;
mod handler;
mod table;

use handler::Kept;
use table::{Kind, Table};
use tidewire::workers::{Handlers, Host};

static TODOS: Table = Table {
    name: "todos",
    columns: &[("title", Kind::Text), ("done", Kind::Flag)],
    owned: false,
};

static NOTES: Table = Table {
    name: "notes",
    columns: &[("text", Kind::Text)],
    owned: true,
};

tidewire::sync_worker!(Host, |state, env| {
    let handlers = Handlers::new()
        .on("todos", Kept(&TODOS))
        .on("notes", Kept(&NOTES));
    Host::wake(state, env).with_handlers(handlers)
});
