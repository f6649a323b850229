//! Event channels (`keep: every`).

use serde_json::json;

use super::world::World;
use super::{blame, code, gist, ids};

#[test]
fn events_are_kept_and_sent_in_order() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "chat:1"));
    for key in ["z", "a", "m"] {
        w.create(alice, key, "chat:1", json!({ "id": key }));
    }
    assert_eq!(gist(&w.messages(bob)), ["create z", "create a", "create m"]);
    assert_eq!(ids(&w.subscribe(alice, "chat:1")), ["z", "a", "m"]);
}

#[test]
fn the_key_of_an_event_is_not_used_twice() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "chat:1"));
    w.create(alice, "m1", "chat:1", json!({ "id": "k", "n": 1 }));
    assert_eq!(
        w.create(alice, "m2", "chat:1", json!({ "id": "k", "n": 2 }))["type"],
        "reject"
    );
    let again = json!({ "channel": "chat:1", "action": "create", "key": "k", "data": {} });
    assert_eq!(w.broadcast(again).0, 400);
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
    assert_eq!(
        w.subscribe(alice, "chat:1")["data"],
        json!([{ "id": "k", "n": 1 }])
    );
}

#[test]
fn events_are_neither_updated_nor_deleted() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "chat:1", json!({ "id": "k" }));
    for (id, key) in [("held", "k"), ("not held", "other")] {
        let update = w.update(alice, &format!("u {id}"), "chat:1", json!({ "id": key }));
        assert_eq!(code(&update), "invalid", "{id}");
        assert_eq!(
            code(&w.delete(alice, &format!("d {id}"), "chat:1", key)),
            "invalid",
            "{id}"
        );
        for action in ["update", "delete"] {
            let change = json!({ "channel": "chat:1", "action": action, "key": key, "data": {} });
            let (status, body) = w.broadcast(change);
            assert_eq!((status, blame(&body)), (400, ("invalid", "action")));
        }
    }
    assert_eq!(w.subscribe(alice, "chat:1")["data"], json!([{ "id": "k" }]));
}
