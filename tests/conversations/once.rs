//! A mutation is executed once, however often it is sent.

use serde_json::{Value, json};
use tidewire::{Call, Millis};

use super::world::{BEGIN, World};
use super::{NOTHING, code, gist, seq};

const HOUR: u64 = 60 * 60 * 1000;
const DAY: u64 = 24 * HOUR;

fn milk() -> Value {
    json!({ "id": "k", "text": "milk" })
}

#[test]
fn a_repeat_is_acked_as_replayed_and_executed_only_once() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    let first = w.create(alice, "m", "todos", milk());
    let again = w.create(alice, "m", "todos", milk());
    assert_eq!(again["replayed"], true);
    assert_eq!(
        (&again["cursor"], &again["data"]),
        (&first["cursor"], &milk())
    );
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
    assert_eq!(seq(&w.create(alice, "n", "todos", json!({ "id": "x" }))), 2);
}

#[test]
fn a_repeat_brings_the_row_as_it_is_now_with_the_first_cursor() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let first = w.create(alice, "m", "todos", milk());
    w.update(bob, "b1", "todos", json!({ "id": "k", "text": "beer" }));
    let again = w.create(alice, "m", "todos", milk());
    assert_eq!(again["data"], json!({ "id": "k", "text": "beer" }));
    assert_eq!(again["cursor"], first["cursor"]);
    w.delete(bob, "b2", "todos", "k");
    let gone = w.create(alice, "m", "todos", milk());
    assert_eq!(
        (&gone["replayed"], &gone["data"]),
        (&json!(true), &Value::Null)
    );
    let deleted = w.delete(bob, "b2", "todos", "k");
    assert_eq!(
        (&deleted["replayed"], &deleted["data"]),
        (&json!(true), &Value::Null)
    );
}

#[test]
fn a_repeat_does_not_show_a_row_that_has_left_its_senders_sight() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m", "todos", milk());
    w.broadcast(json!({
        "channel": "todos", "action": "update", "key": "k", "data": { "secret": 1 },
        "to": ["user:bob"]
    }));
    let again = w.create(alice, "m", "todos", milk());
    assert_eq!(
        (&again["replayed"], &again["data"]),
        (&json!(true), &Value::Null)
    );
}

#[test]
fn a_repeat_on_a_channel_that_its_sender_may_not_read_shows_no_row() {
    let mut w = World::new();
    let alice = w.user("alice");
    assert_eq!(w.create(alice, "m", "drop", milk())["type"], "ack");
    w.broadcast(json!({
        "channel": "drop", "action": "update", "key": "k", "data": { "secret": 1 }
    }));
    let again = w.create(alice, "m", "drop", milk());
    assert_eq!(
        (&again["replayed"], &again["data"]),
        (&json!(true), &Value::Null)
    );
}

#[test]
fn the_same_id_with_other_content_is_a_conflict() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    w.create(alice, "m", "todos", milk());
    w.messages(bob);
    let other_data = w.create(alice, "m", "todos", json!({ "id": "k", "text": "beer" }));
    let other_key = w.create(alice, "m", "todos", json!({ "id": "j", "text": "milk" }));
    let other_channel = w.create(alice, "m", "open", milk());
    let other_action = w.update(alice, "m", "todos", milk());
    for answer in [other_data, other_key, other_channel, other_action] {
        assert_eq!(
            (&answer["type"], code(&answer)),
            (&json!("reject"), "conflict")
        );
        assert_eq!(answer["error"].get("current"), None);
    }
    assert_eq!(w.messages(bob), NOTHING);
    assert_eq!(w.create(alice, "m", "todos", milk())["replayed"], true);
}

#[test]
fn rejections_are_not_remembered() {
    let mut w = World::new();
    let alice = w.user("alice");
    assert_eq!(code(&w.update(alice, "m", "todos", milk())), "not_found");
    w.create(alice, "c", "todos", json!({ "id": "k" }));
    let retried = w.update(alice, "m", "todos", milk());
    assert_eq!(
        (&retried["type"], &retried["replayed"]),
        (&json!("ack"), &json!(false))
    );
    assert_eq!(code(&w.create(alice, "n", "feed", milk())), "read_only");
    assert_eq!(w.create(alice, "n", "open", milk())["replayed"], false);
}

#[test]
fn a_repeat_is_known_across_reconnect_sleep_and_sockets() {
    let mut w = World::new();
    let (phone, tablet) = (w.user("alice"), w.user("alice"));
    let first = w.create(phone, "m", "todos", milk());
    assert_eq!(w.create(tablet, "m", "todos", milk())["replayed"], true);
    w.drop(phone);
    w.sleep();
    let phone = w.user("alice");
    for conn in [phone, tablet] {
        let again = w.create(conn, "m", "todos", milk());
        assert_eq!(
            (&again["replayed"], &again["cursor"]),
            (&json!(true), &first["cursor"])
        );
    }
}

#[test]
fn copies_in_one_frame_are_executed_once() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    let one = json!({
        "type": "mutate", "id": "m", "channel": "todos", "action": "create", "data": milk()
    });
    w.send(alice, json!([one, one, one]));
    let replayed: Vec<Value> = w
        .messages(alice)
        .iter()
        .map(|m| m["replayed"].clone())
        .collect();
    assert_eq!(replayed, [false, true, true]);
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
}

#[test]
fn identities_do_not_share_ids() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    assert_eq!(
        w.create(alice, "m", "todos", json!({ "id": "a" }))["replayed"],
        false
    );
    assert_eq!(
        w.create(bob, "m", "todos", json!({ "id": "b" }))["replayed"],
        false
    );
}

#[test]
fn ids_of_anonymous_connections_count_per_session() {
    let mut w = World::new();
    let (one, two) = (w.nobody(), w.nobody());
    assert_eq!(
        w.create(one, "m", "open", json!({ "id": "a" }))["replayed"],
        false
    );
    assert_eq!(
        w.create(two, "m", "open", json!({ "id": "b" }))["replayed"],
        false
    );
    w.sleep();
    assert_eq!(
        w.create(one, "m", "open", json!({ "id": "a" }))["replayed"],
        true
    );
    w.drop(one);
    let one = w.nobody();
    assert_eq!(
        w.create(one, "m", "open", json!({ "id": "c" }))["replayed"],
        false
    );
}

#[test]
fn a_name_that_looks_like_another_owner_is_not_it() {
    let mut w = World::new();
    let nobody = w.nobody();
    let (namesake, publisher) = (w.user("session-1"), w.user("p"));
    assert_eq!(
        w.create(nobody, "m", "open", json!({ "id": "a" }))["replayed"],
        false
    );
    assert_eq!(
        w.create(namesake, "m", "open", json!({ "id": "b" }))["replayed"],
        false
    );
    let body = json!({ "channel": "open", "action": "create", "key": "c", "data": {} }).to_string();
    assert_eq!(w.publish(Call::Broadcast, &body, Some("m")).0, 200);
    assert_eq!(
        w.create(publisher, "m", "open", json!({ "id": "d" }))["replayed"],
        false
    );
}

#[test]
fn a_repeat_is_known_for_at_least_24_hours_however_days_turn() {
    for begun in [0, 1, 12 * HOUR, DAY - 1] {
        let mut w = World::new();
        w.advance(begun);
        let alice = w
            .connect_until(Some("alice"), &[], Some(w.now.plus(10 * DAY)))
            .unwrap();
        w.hello(alice);
        let first = w.create(alice, "m", "todos", milk());
        for step in 1..=4 {
            w.advance(6 * HOUR);
            w.sleep();
            w.create(
                alice,
                &format!("other {step}"),
                "todos",
                json!({ "id": "x", "n": step }),
            );
        }
        let again = w.create(alice, "m", "todos", milk());
        assert_eq!(again["replayed"], true, "begun at {begun} ms of the day");
        assert_eq!(again["cursor"], first["cursor"]);
    }
}

#[test]
fn outcomes_are_dropped_when_they_are_two_days_old() {
    let mut w = World::new();
    let alice = w
        .connect_until(Some("alice"), &[], Some(w.now.plus(90 * DAY)))
        .unwrap();
    w.hello(alice);
    let remembered = |w: &World| {
        w.sqlite
            .number("SELECT (SELECT count(*) FROM outcomes_0) + (SELECT count(*) FROM outcomes_1)")
    };
    for day in 0..7 {
        for n in 0..3 {
            w.create(alice, &format!("{day} {n}"), "todos", json!({ "id": "x" }));
        }
        assert_eq!(remembered(&w), if day == 0 { 3 } else { 6 });
        w.advance(DAY);
    }
    w.advance(30 * DAY);
    w.create(alice, "after a pause", "todos", json!({ "id": "x" }));
    assert_eq!(remembered(&w), 1);
}

#[test]
fn a_clock_that_jumps_back_over_midnight_forgets_nothing() {
    let mut w = World::new();
    let alice = w
        .connect_until(Some("alice"), &[], Some(w.now.plus(9 * DAY)))
        .unwrap();
    w.hello(alice);
    w.create(alice, "m1", "todos", milk());
    w.advance(DAY);
    w.create(alice, "m2", "todos", milk());
    w.now = Millis(BEGIN.0 - DAY);
    w.create(alice, "m3", "todos", milk());
    w.now = BEGIN.plus(DAY);
    w.create(alice, "m4", "todos", milk());
    for id in ["m1", "m2", "m3", "m4"] {
        assert_eq!(
            w.create(alice, id, "todos", milk())["replayed"],
            true,
            "{id}"
        );
    }
}
