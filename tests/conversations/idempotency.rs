//! `Idempotency-Key`: a repeated publish returns the first result and publishes nothing.

use serde_json::{Value, json};
use tidewire::Call;

use super::world::World;
use super::{NOTHING, blame, code};

const DAY: u64 = 24 * 60 * 60 * 1000;

fn body(key: &str) -> String {
    json!({ "channel": "todos", "action": "create", "key": key, "data": {} }).to_string()
}

fn once(w: &mut World, key: &str, body: &str) -> (u16, Value) {
    w.publish(Call::Broadcast, body, Some(key))
}

#[test]
fn a_repeat_returns_the_first_result_and_publishes_nothing() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let first = once(&mut w, "i", &body("k"));
    assert_eq!(first.1["receivers"], 1);
    assert_eq!(w.one(alice)["key"], "k");
    let bob = w.live("bob", "todos");
    w.broadcast(json!({ "channel": "todos", "action": "delete", "key": "k" }));
    w.messages(alice);
    w.messages(bob);
    assert_eq!(once(&mut w, "i", &body("k")), first);
    w.sleep();
    assert_eq!(once(&mut w, "i", &body("k")), first);
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.subscribe(bob, "todos")["data"], json!([]));
}

#[test]
fn without_a_key_a_repeat_is_another_publish() {
    let mut w = World::new();
    assert_eq!(w.publish(Call::Broadcast, body("k"), None).1["seq"], 1);
    assert_eq!(w.publish(Call::Broadcast, body("k"), None).1["seq"], 2);
}

#[test]
fn another_body_or_path_is_a_conflict() {
    let mut w = World::new();
    once(&mut w, "i", &body("k"));
    let other_body = once(&mut w, "i", &body("j"));
    let list = json!({ "events": [serde_json::from_str::<Value>(&body("k")).unwrap()] });
    let other_path = w.publish(Call::BroadcastBatch, list.to_string(), Some("i"));
    let same_body = w.publish(Call::BroadcastBatch, body("k"), Some("i"));
    for (status, answer) in [other_body, other_path, same_body] {
        assert_eq!((status, code(&answer)), (409, "conflict"));
    }
    assert_eq!(once(&mut w, "i", &body("k")).0, 200);
    assert_eq!(w.stats()["seq"], 1);
}

#[test]
fn batches_have_keys_too() {
    let mut w = World::new();
    let list = json!({ "channel": "todos", "changes": [
        { "action": "create", "key": "a", "data": {} },
        { "action": "create", "key": "b", "data": {} }
    ]})
    .to_string();
    let first = w.publish(Call::BroadcastBatch, &list, Some("i"));
    assert_eq!(w.publish(Call::BroadcastBatch, &list, Some("i")), first);
    assert_eq!(w.stats()["seq"], 2);
}

#[test]
fn a_refused_publish_does_not_use_up_its_key() {
    let mut w = World::new();
    let bad = json!({ "channel": "nowhere", "action": "create", "key": "k", "data": {} });
    assert_eq!(once(&mut w, "i", &bad.to_string()).0, 400);
    assert_eq!(once(&mut w, "i", "{").0, 400);
    assert_eq!(once(&mut w, "i", &body("k")).0, 200);
}

#[test]
fn a_key_that_is_no_key_is_refused() {
    let mut w = World::new();
    for key in ["", "a\u{7f}b"] {
        let (status, answer) = once(&mut w, key, &body("k"));
        assert_eq!(
            (status, blame(&answer)),
            (400, ("invalid", "Idempotency-Key"))
        );
    }
    assert_eq!(w.stats()["seq"], 0);
}

#[test]
fn a_key_holds_for_24_hours_however_days_turn() {
    for begun in [0, DAY / 2, DAY - 1] {
        let mut w = World::new();
        w.advance(begun);
        let first = once(&mut w, "i", &body("k"));
        for step in 0..4 {
            w.advance(DAY / 4);
            assert_eq!(once(&mut w, &format!("other {step}"), &body("x")).0, 200);
        }
        assert_eq!(
            once(&mut w, "i", &body("k")),
            first,
            "begun at {begun} ms of the day"
        );
    }
}
