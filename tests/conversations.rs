//! Conversations of clients and publishers with the engine, on a virtual clock.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod world;

use serde_json::json;
use world::World;

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
    w.mutate(alice, "m2", "todos", json!({ "action": "delete", "key": "k1" }));
    w.create(alice, "m3", "todos", json!({ "id": "k2" }));
    w.sleep();
    let bob = w.user("bob");
    let delta = w.resume(bob, "todos", &change["cursor"], &bobs["view"]);
    assert_eq!(delta["mode"], "delta");
    assert_eq!(delta["data"], json!([{ "id": "k2" }]));
    assert_eq!(delta["deleted"], json!(["k1"]));
}
