//! Conversations of clients and publishers with the engine, on a virtual clock.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::expect_used
)]

#[path = "../world/mod.rs"]
mod world;

mod asking_over_http;
mod audiences;
mod authorizing;
mod away;
mod batching;
mod besieging;
mod changing_outside;
mod connecting;
mod crammed;
mod crashing;
mod crowding;
mod delaying;
mod doctoring;
mod editing_events;
mod elbowing;
mod entrusting;
mod errors;
mod events;
mod exporting;
mod failing;
mod fetching;
mod filling;
mod flooding;
mod founding;
mod hiding;
mod holding;
mod hurrying;
mod idempotency;
mod importing;
mod judging;
mod lapsing;
mod leftovers;
mod legacy;
mod legacy_elsewhere;
mod limiting;
mod migrating;
mod mutating;
mod observing;
mod once;
mod operating;
mod ordering;
mod outsiders;
mod overlaying;
mod paging;
mod passes;
mod presence;
mod present;
mod publishing;
mod rationing;
mod reading;
mod renewing;
mod replica;
mod scoping;
mod sealing;
mod sharing_sources;
mod signals;
mod sleeping;
mod sourcing;
mod streaming;
mod subscribing;
mod trimming;
mod trimming_events;
mod waiting;
mod writing;

use serde_json::{Value, json};
use tidewire::Cursor;
use world::World;

/// Nothing at all, where messages or rows are listed.
const NOTHING: [Value; 0] = [];

/// The seq in a message's cursor.
#[track_caller]
fn seq(message: &Value) -> u64 {
    let cursor = message["cursor"].as_str().expect("a message with a cursor");
    Cursor::parse(cursor).expect("a cursor").seq.0
}

/// The code of a reject, an error or a refused call.
#[track_caller]
fn code(answer: &Value) -> &str {
    answer["error"]["code"]
        .as_str()
        .unwrap_or_else(|| panic!("no refusal: {answer}"))
}

/// The code and the field of a refusal.
#[track_caller]
fn blame(answer: &Value) -> (&str, &str) {
    let field = answer["error"]["field"].as_str();
    (code(answer), field.expect("a refusal with a field"))
}

/// Actions and keys of changes, e.g. `create k1`.
fn gist(changes: &[Value]) -> Vec<String> {
    let of = |change: &Value| {
        let text = |field: &str| change[field].as_str().expect("a change").to_owned();
        format!("{} {}", text("action"), text("key"))
    };
    changes.iter().map(of).collect()
}

/// The ids of a snapshot's rows, in order.
fn ids(snapshot: &Value) -> Vec<&str> {
    let rows = snapshot["data"].as_array().expect("a snapshot");
    rows.iter().map(|row| row["id"].as_str().unwrap()).collect()
}

#[test]
fn two_users_see_each_others_todos_live_and_after_being_away() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    assert_eq!(w.subscribe(alice, "todos")["mode"], "full");
    let bobs = w.subscribe(bob, "todos");
    let ack = w.create(alice, "m1", "todos", json!({ "id": "k1", "text": "milk" }));
    assert_eq!(ack["type"], "ack");
    assert_eq!(ack["replayed"], false);
    let change = w.one(bob);
    assert_eq!(change["action"], "create");
    assert_eq!(change["data"], json!({ "id": "k1", "text": "milk" }));
    assert_eq!(change["by"], "alice");
    w.drop(bob);
    w.delete(alice, "m2", "todos", "k1");
    w.create(alice, "m3", "todos", json!({ "id": "k2" }));
    w.sleep();
    let bob = w.user("bob");
    let delta = w.resume(bob, "todos", &change["cursor"], &bobs["view"]);
    assert_eq!(delta["mode"], "delta");
    assert_eq!(delta["data"], json!([{ "id": "k2" }]));
    assert_eq!(delta["deleted"], json!(["k1"]));
}
