//! The end of a channel's token: the subscription ends with it, and can be renewed before.

use serde_json::{Value, json};
use tidewire::{Call, ConnId};

use super::passes::{claims, enter, pass, world};
use super::world::{World, token};
use super::{NOTHING, code, gist, ids};

fn publish(w: &mut World, key: &str) -> u64 {
    let change = json!({ "channel": "vault:1", "action": "create", "key": key, "data": {} });
    let (status, body) = w.broadcast(change);
    assert_eq!(status, 200);
    body["receivers"].as_u64().unwrap()
}

/// Connects Alice, live on a channel for so many seconds.
fn live(w: &mut World, seconds: u64) -> ConnId {
    let alice = w.user("alice");
    renew(w, alice, seconds);
    alice
}

#[track_caller]
fn renew(w: &mut World, conn: ConnId, seconds: u64) {
    let mut claims = claims(w, "vault:1", seconds);
    claims["write"] = json!(true);
    let token = token(&claims);
    assert_eq!(enter(w, conn, "vault:1", &token)["type"], "snapshot");
}

fn ended() -> Value {
    json!({ "type": "channel-change", "channel": "vault:1" })
}

#[test]
fn a_subscription_ends_with_its_token_and_the_socket_stays() {
    for sleeps in [false, true] {
        let mut w = world();
        let alice = live(&mut w, 60);
        w.subscribe(alice, "todos");
        if sleeps {
            w.sleep();
        }
        w.advance(59_999);
        assert_eq!(publish(&mut w, "k"), 1);
        assert_eq!(gist(&w.messages(alice)), ["create k"]);
        w.advance(1);
        // The first change at its end is not delivered any more.
        assert_eq!(publish(&mut w, "l"), 0);
        assert_eq!(w.messages(alice), [ended()]);
        assert_eq!(publish(&mut w, "m"), 0);
        assert_eq!(w.messages(alice), NOTHING);
        assert_eq!(code(&w.subscribe(alice, "vault:1")), "forbidden");
        assert_eq!(
            code(&w.create(alice, "m", "vault:1", json!({ "id": "n" }))),
            "forbidden"
        );
        assert_eq!(
            w.create(alice, "n", "todos", json!({ "id": "n" }))["type"],
            "ack"
        );
        assert_eq!(w.closed(alice), None);
    }
}

#[test]
fn the_alarm_ends_it_where_nothing_else_happens() {
    for sleeps in [false, true] {
        let mut w = world();
        let alice = live(&mut w, 90);
        w.advance(60_000);
        if sleeps {
            w.sleep();
        }
        assert!(!w.ring() || w.messages(alice).is_empty());
        w.advance(30_000);
        let late = w.alarm.unwrap().0 - w.now.0;
        assert!(late <= 60_000, "rings {late} ms after the end");
        w.advance(late);
        assert!(w.ring());
        assert_eq!(w.messages(alice), [ended()]);
        w.advance(60_000);
        w.ring();
        assert_eq!(w.messages(alice), NOTHING);
    }
}

#[test]
fn a_token_that_ended_while_the_object_slept_delivers_nothing() {
    let mut w = world();
    let alice = live(&mut w, 60);
    w.advance(3_600_000);
    w.sleep();
    assert_eq!(publish(&mut w, "k"), 0);
    assert_eq!(w.messages(alice), [ended()]);
}

#[test]
fn who_subscribes_again_with_another_token_goes_on() {
    let mut w = world();
    let alice = live(&mut w, 60);
    w.advance(30_000);
    renew(&mut w, alice, 120);
    w.advance(119_999);
    assert_eq!(publish(&mut w, "k"), 1);
    assert_eq!(gist(&w.messages(alice)), ["create k"]);
    w.advance(1);
    assert_eq!(publish(&mut w, "l"), 0);
    assert_eq!(w.messages(alice), [ended()]);
    // Also after its end, where it was.
    renew(&mut w, alice, 60);
    assert_eq!(publish(&mut w, "m"), 1);
}

#[test]
fn a_shorter_token_in_place_of_a_longer_one_counts() {
    let mut w = world();
    let alice = live(&mut w, 3_600);
    renew(&mut w, alice, 60);
    w.advance(60_000);
    assert_eq!(publish(&mut w, "k"), 0);
    assert_eq!(w.messages(alice), [ended()]);
}

#[test]
fn subscribing_again_without_a_token_keeps_the_one_in_force_and_its_end() {
    let mut w = world();
    let alice = live(&mut w, 60);
    assert_eq!(w.subscribe(alice, "vault:1")["type"], "snapshot");
    assert_eq!(
        w.create(alice, "m", "vault:1", json!({ "id": "k" }))["type"],
        "ack"
    );
    w.advance(60_000);
    assert_eq!(publish(&mut w, "l"), 0);
    assert_eq!(w.messages(alice), [ended()]);
}

#[test]
fn a_bad_token_leaves_the_one_in_force() {
    let mut w = world();
    let alice = live(&mut w, 60);
    assert_eq!(
        code(&enter(&mut w, alice, "vault:1", "no token")),
        "unauthorized"
    );
    let others = pass(&w, "vault:1", json!({ "sub": "bob" }));
    assert_eq!(code(&enter(&mut w, alice, "vault:1", &others)), "forbidden");
    assert_eq!(publish(&mut w, "k"), 1);
    assert_eq!(gist(&w.messages(alice)), ["create k"]);
}

#[test]
fn each_page_of_an_answer_needs_the_token() {
    let mut w = world();
    for key in ["a", "b", "c"] {
        publish(&mut w, key);
    }
    let alice = w.user("alice");
    let token = pass(&w, "vault:1", json!({}));
    let mut page = json!({
        "type": "subscribe", "id": "p", "channel": "vault:1", "limit": 2, "token": token
    });
    let first = w.ask(alice, page.clone());
    assert_eq!(
        (ids(&first), &first["more"]),
        (vec!["a", "b"], &json!(true))
    );
    assert_eq!(publish(&mut w, "d"), 0, "it is not live yet");
    let (cursor, view) = (&first["cursor"], &first["view"]);
    assert_eq!(code(&w.resume(alice, "vault:1", cursor, view)), "forbidden");
    page["cursor"] = cursor.clone();
    page["view"] = view.clone();
    assert_eq!(ids(&w.ask(alice, page)), ["c", "d"]);
}

#[test]
fn who_has_left_is_told_of_no_end() {
    let mut w = world();
    let alice = live(&mut w, 60);
    w.send(
        alice,
        json!({ "type": "unsubscribe", "channel": "vault:1" }),
    );
    let bob = live(&mut w, 60);
    w.drop(bob);
    w.advance(120_000);
    w.ring();
    assert_eq!(w.messages(alice), NOTHING);
}

#[test]
fn an_ended_session_ends_its_subscriptions_without_a_word() {
    let mut w = world();
    let alice = w.connect_until(Some("alice"), &[], Some(w.now.plus(60_000)));
    let alice = alice.unwrap();
    w.hello(alice);
    renew(&mut w, alice, 60);
    w.advance(60_000);
    assert_eq!(publish(&mut w, "k"), 0);
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.closed(alice), Some(4001));
}

#[test]
fn what_a_token_no_longer_shows_a_repeated_mutation_does_not_show() {
    let mut w = world();
    let alice = live(&mut w, 60);
    let row = || json!({ "id": "k", "n": 1 });
    let ack = w.create(alice, "m", "vault:1", row());
    assert_eq!(ack["data"], row());
    let change = json!({
        "channel": "vault:1", "action": "update", "key": "k", "data": { "n": 2 }
    });
    w.broadcast(change);
    assert_eq!(gist(&w.messages(alice)), ["update k"]);
    assert_eq!(w.create(alice, "m", "vault:1", row())["data"]["n"], 2);
    w.advance(60_000);
    w.send(alice, json!({ "type": "ping" }));
    w.messages(alice);
    let replay = w.create(alice, "m", "vault:1", row());
    assert_eq!(
        (&replay["replayed"], &replay["data"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(replay["cursor"], ack["cursor"]);
}

#[test]
fn who_may_write_but_not_read_learns_nothing_of_what_is_there() {
    let mut w = world();
    let change = json!({ "channel": "box:1", "action": "create", "key": "k", "data": {} });
    assert_eq!(w.broadcast(change).0, 200);
    let alice = w.user("alice");
    for key in ["k", "missing"] {
        let row = json!({ "id": key, "n": 1 });
        assert_eq!(code(&w.update(alice, "u", "box:1", row)), "not_found");
        assert_eq!(code(&w.delete(alice, "d", "box:1", key)), "not_found");
    }
    let token = pass(&w, "box:1", json!({}));
    assert_eq!(ids(&enter(&mut w, alice, "box:1", &token)), ["k"]);
    assert_eq!(
        w.update(alice, "u", "box:1", json!({ "id": "k", "n": 1 }))["type"],
        "ack"
    );
}

#[test]
fn where_the_channel_is_open_without_the_token_only_the_right_to_write_ends() {
    for sleeps in [false, true] {
        let mut w = world();
        let alice = w.user("alice");
        let mut claims = claims(&w, "desk:1", 60);
        claims["write"] = json!(true);
        let token = token(&claims);
        assert_eq!(enter(&mut w, alice, "desk:1", &token)["type"], "snapshot");
        let write = |w: &mut World, id: &str| w.create(alice, id, "desk:1", json!({ "id": id }));
        assert_eq!(write(&mut w, "a")["type"], "ack");
        w.advance(60_000);
        if sleeps {
            w.sleep();
        }
        assert_eq!(code(&write(&mut w, "b")), "forbidden");
        let change = json!({ "channel": "desk:1", "action": "create", "key": "c", "data": {} });
        assert_eq!(w.broadcast(change).1["receivers"], 1);
        assert_eq!(gist(&w.messages(alice)), ["create c"]);
    }
}

#[test]
fn who_is_sent_away_does_not_come_back_with_a_token_of_before() {
    let mut w = world();
    let mut before = claims(&w, "vault:1", 3600);
    before["iat"] = json!(w.now.0 / 1000);
    let nameless = claims(&w, "vault:1", 3600);
    w.call(Call::Disconnect, json!({ "identity": "alice" }));
    w.advance(1_000);
    let mut after = claims(&w, "vault:1", 3600);
    after["iat"] = json!(w.now.0 / 1000);
    let alice = w.user("alice");
    for old in [before, nameless] {
        assert_eq!(
            code(&enter(&mut w, alice, "vault:1", &token(&old))),
            "unauthorized"
        );
    }
    assert_eq!(
        enter(&mut w, alice, "vault:1", &token(&after))["type"],
        "snapshot"
    );
}
