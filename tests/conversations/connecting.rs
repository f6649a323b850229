//! Connecting: `hello`, dialects, heartbeats, and sessions that end.

use serde_json::{Value, json};
use tidewire::limits;

use super::world::{BEGIN, World, channels, config_with};
use super::{NOTHING, code};

#[test]
fn hello_is_welcomed_and_its_subscriptions_are_answered_in_the_same_turn() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    w.send(
        alice,
        json!({
            "type": "hello", "v": 1, "schema": 3, "client": "tidewire-js/0.1.0", "device": "d1",
            "subscribe": [
                { "id": "s1", "channel": "todos" },
                { "id": "s2", "channel": "nowhere" },
                { "id": "s3", "channel": "notes", "limit": 0 },
                { "id": "s4", "channel": "feed" }
            ]
        }),
    );
    let frames = w.frames(alice);
    assert_eq!(
        frames.len(),
        2,
        "the welcome alone, then the answers together"
    );
    let welcome: Value = serde_json::from_str(&frames[0]).unwrap();
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome["v"], 1);
    assert_eq!(welcome["session"], "session-1");
    assert_eq!(welcome["identity"], "alice");
    assert_eq!(welcome["expiresAt"], w.now.plus(24 * 60 * 60 * 1000).0);
    assert_eq!(welcome["limits"]["frameBytes"], limits::FRAME_BYTES);
    let answers: Vec<Value> = serde_json::from_str(&frames[1]).unwrap();
    let gist = |answer: &Value| (answer["type"].clone(), answer["id"].clone());
    assert_eq!(
        answers.iter().map(gist).collect::<Vec<_>>(),
        [
            (json!("snapshot"), json!("s1")),
            (json!("reject"), json!("s2")),
            (json!("reject"), json!("s3")),
            (json!("snapshot"), json!("s4")),
        ]
    );
    assert_eq!(code(&answers[1]), "unknown_channel");
    assert_eq!(code(&answers[2]), "malformed");
    let cursor = answers[0]["cursor"].as_str().unwrap();
    assert_eq!(cursor.split('.').next(), welcome["epoch"].as_str());
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
    assert_eq!(w.one(alice)["type"], "change", "live since the hello");
}

#[test]
fn a_welcome_names_the_bounds_as_they_are_set() {
    let mut w = World::with_limits(&json!({
        "frameBytes": 2_000, "rowBytes": 1_000, "subscriptions": 9, "messagesPerSecond": 7
    }));
    let alice = w.connect(Some("alice"), &[]);
    let welcome = w.ask(alice, json!({ "type": "hello", "v": 1 }));
    assert_eq!(
        welcome["limits"],
        json!({
            "frameBytes": 2_000, "frameMessages": 1_000, "channelBytes": 256, "keyBytes": 256,
            "idBytes": 128, "rowBytes": 1_000, "pageRows": 1_000, "subscriptions": 9,
            "subscriptionsBytes": 8_192, "stateBytes": 1_024, "presenceBytes": 2_048,
            "presences": 16, "signalBytes": 16_384, "messagesPerSecond": 7
        })
    );
}

#[test]
fn a_sessions_name_is_told_to_others_and_opens_nothing() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    let welcome = w.ask(alice, json!({ "type": "hello", "v": 1 }));
    let nobody = w.nobody();
    let name = welcome["session"].clone();
    let answer = w.ask(nobody, json!({ "type": "auth", "token": name }));
    assert_eq!(code(&answer), "unauthorized");
    assert_eq!(w.subscribe(nobody, "todos")["type"], "reject");
}

#[test]
fn hello_needs_nothing_but_its_version() {
    let mut w = World::new();
    let nobody = w.connect(None, &[]);
    let welcome = w.ask(nobody, json!({ "type": "hello", "v": 1 }));
    assert_eq!(welcome["type"], "welcome");
    assert_eq!(welcome["identity"], Value::Null);
    assert_eq!(welcome["expiresAt"], Value::Null);
    let other = w.connect(None, &[]);
    assert_eq!(code(&w.ask(other, json!({ "type": "hello" }))), "malformed");
    assert_eq!(w.closed(other), None);
    w.hello(other);
}

#[test]
fn a_second_hello_is_malformed_and_the_session_stays() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let error = w.ask(alice, json!({ "type": "hello", "v": 1 }));
    assert_eq!(
        (&error["type"], code(&error)),
        (&json!("error"), "malformed")
    );
    assert_eq!(w.closed(alice), None);
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
    assert_eq!(w.one(alice)["key"], "k");
}

#[test]
fn an_unsupported_version_is_told_and_closed() {
    for version in [0, 2] {
        let mut w = World::new();
        let alice = w.connect(Some("alice"), &[]);
        let hello = json!({
            "type": "hello", "v": version, "subscribe": [{ "channel": "todos" }]
        });
        let error = w.ask(alice, hello);
        assert_eq!(
            (&error["type"], code(&error)),
            (&json!("error"), "unsupported_version")
        );
        assert_eq!(w.closed(alice), Some(4503));
    }
}

#[test]
fn a_client_that_never_says_hello_is_served_too() {
    let mut w = World::new();
    let old = w.connect(Some("alice"), &[]);
    assert_eq!(w.subscribe(old, "todos")["type"], "snapshot");
    assert_eq!(
        w.create(old, "m1", "todos", json!({ "id": "k" }))["type"],
        "ack"
    );
    let late = w.ask(old, json!({ "type": "hello", "v": 1 }));
    assert_eq!(code(&late), "malformed", "hello comes first or never");
    let writer = w.connect(Some("bob"), &[]);
    w.create(writer, "m1", "todos", json!({ "id": "j" }));
    w.messages(old);
    w.sleep();
    let later = w.ask(writer, json!({ "type": "hello", "v": 1 }));
    assert_eq!(code(&later), "malformed", "also after a sleep");
}

#[test]
fn without_a_hello_a_refusal_is_plain_text() {
    let mut w = World::new();
    let old = w.connect(Some("alice"), &[]);
    let reject = w.create(old, "m1", "nowhere", json!({ "id": "k" }));
    assert_eq!(
        (&reject["type"], &reject["id"]),
        (&json!("reject"), &json!("m1"))
    );
    assert!(reject["error"].is_string(), "{reject}");
    let first = w.connect(Some("alice"), &[]);
    let reject = w.mutate(first, "m2", "todos", json!({ "action": "upsert" }));
    assert!(
        reject["error"].is_string(),
        "also the first of all messages: {reject}"
    );
}

#[test]
fn arrays_travel_both_ways_after_hello_and_in_order() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.send(
        alice,
        json!([
            { "type": "subscribe", "id": "s", "channel": "todos" },
            { "type": "mutate", "id": "m1", "channel": "todos", "action": "create", "data": { "id": "k" } },
            { "type": "teleport" },
            7,
            { "type": "mutate", "id": "m2", "channel": "todos", "action": "delete", "key": "k" }
        ]),
    );
    let frames = w.frames(alice);
    assert_eq!(frames.len(), 1, "frames of one turn are joined");
    let answers: Vec<Value> = serde_json::from_str(&frames[0]).unwrap();
    let types: Vec<_> = answers
        .iter()
        .map(|m| m["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["snapshot", "ack", "error", "error", "ack"]);
    assert_eq!(code(&answers[2]), "malformed");
    assert_eq!(code(&answers[3]), "malformed");
}

#[test]
fn before_hello_an_array_is_malformed_and_does_nothing() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    let array = json!([{
        "type": "mutate", "id": "m", "channel": "todos", "action": "create", "data": { "id": "k" }
    }]);
    assert_eq!(code(&w.ask(alice, array)), "malformed");
    assert_eq!(
        code(&w.ask(alice, json!([{ "type": "hello", "v": 1 }]))),
        "malformed"
    );
    w.hello(alice);
    assert_eq!(w.subscribe(alice, "todos")["data"], json!([]));
}

#[test]
fn without_hello_every_message_has_a_frame_of_its_own() {
    let mut w = World::new();
    let (old, new) = (w.connect(Some("alice"), &[]), w.user("bob"));
    for conn in [old, new] {
        w.subscribe(conn, "todos");
        w.subscribe(conn, "open");
    }
    let events = json!({ "events": [
        { "channel": "todos", "action": "create", "key": "a", "data": {} },
        { "channel": "open", "action": "create", "key": "b", "data": {} }
    ]});
    assert_eq!(w.broadcast_batch(events).1["receivers"], 2);
    let (olds, news) = (w.frames(old), w.frames(new));
    assert_eq!((olds.len(), news.len()), (2, 1));
    let joined: Vec<Value> = serde_json::from_str(&news[0]).unwrap();
    let single: Vec<Value> = olds
        .iter()
        .map(|f| serde_json::from_str(f).unwrap())
        .collect();
    assert_eq!(single, joined);
}

#[test]
fn a_heartbeat_is_answered_bare_however_it_is_written() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.send_text(alice, " { \"type\" : \"ping\" } ");
    assert_eq!(w.frames(alice), ["pong"]);
    w.send(
        alice,
        json!([{ "type": "ping" }, { "type": "subscribe", "channel": "todos" }]),
    );
    let frames = w.frames(alice);
    assert_eq!(frames[0], "pong", "never inside an array");
    assert!(
        frames[1].starts_with("{\"type\":\"snapshot\""),
        "{}",
        frames[1]
    );
    let quiet = w.connect(Some("bob"), &[]);
    w.send(quiet, json!({ "type": "ping" }));
    assert_eq!(w.frames(quiet), ["pong"]);
    w.hello(quiet);
}

#[test]
fn a_binary_frame_and_an_empty_array_are_malformed_and_the_socket_stays() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.send_binary(alice);
    assert_eq!(code(&w.one(alice)), "malformed");
    assert_eq!(code(&w.ask(alice, json!([]))), "malformed");
    assert_eq!(w.closed(alice), None);
    assert_eq!(w.subscribe(alice, "todos")["type"], "snapshot");
}

#[test]
fn what_a_closed_socket_still_sends_is_void() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.live("bob", "todos"));
    w.send_text(alice, &" ".repeat(limits::FRAME_BYTES + 1));
    assert_eq!(code(&w.one(alice)), "frame_too_large");
    assert_eq!(w.closed(alice), Some(4502));
    w.send_binary(alice);
    w.send(
        alice,
        json!({
            "type": "mutate", "id": "m", "channel": "todos", "action": "create",
            "data": { "id": "k" }
        }),
    );
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn a_token_that_has_ended_does_not_connect() {
    let mut w = World::new();
    let refusal = w
        .connect_until(Some("alice"), &[], Some(w.now))
        .unwrap_err();
    assert_eq!(refusal.status, 401);
    let body: Value = serde_json::from_str(&refusal.body).unwrap();
    assert_eq!(code(&body), "unauthorized");
    assert!(
        w.connect_until(Some("alice"), &[], Some(w.now.plus(1)))
            .is_ok()
    );
}

#[test]
fn a_session_past_its_expiry_does_not_send() {
    let mut w = World::new();
    let bob = w.live("bob", "todos");
    let alice = w
        .connect_until(Some("alice"), &[], Some(BEGIN.plus(1000)))
        .unwrap();
    w.hello(alice);
    w.advance(999);
    w.create(alice, "m1", "todos", json!({ "id": "in-time" }));
    assert_eq!(w.one(bob)["key"], "in-time");
    w.advance(1);
    let late = json!({
        "type": "mutate", "id": "m2", "channel": "todos", "action": "create", "data": { "id": "x" }
    });
    w.send(alice, late);
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.closed(alice), Some(4001));
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn a_session_past_its_expiry_does_not_receive() {
    for asleep in [false, true] {
        let mut w = World::new();
        let alice = w
            .connect_until(Some("alice"), &[], Some(BEGIN.plus(1000)))
            .unwrap();
        w.hello(alice);
        w.subscribe(alice, "todos");
        w.advance(1000);
        if asleep {
            w.sleep();
        }
        let change = json!({ "channel": "todos", "action": "create", "key": "k", "data": {} });
        assert_eq!(w.broadcast(change).1["receivers"], 0);
        assert_eq!(w.messages(alice), NOTHING);
        assert_eq!(w.closed(alice), Some(4001), "asleep: {asleep}");
    }
}

#[test]
fn the_alarm_closes_idle_sessions_on_the_minute_after_their_end() {
    const MINUTE: u64 = limits::ALARM_GRAIN_MS;
    for asleep in [false, true] {
        let mut w = World::new();
        let [alice, bob, carol] = [1_000, MINUTE, MINUTE + 1].map(|ms| {
            let end = Some(BEGIN.plus(ms));
            w.connect_until(Some("alice"), &[], end).unwrap()
        });
        w.connect(None, &[]);
        assert_eq!(
            w.alarm,
            Some(BEGIN.plus(MINUTE)),
            "the minute after the earliest end"
        );
        w.advance(MINUTE - 1);
        assert!(!w.ring());
        w.advance(1);
        if asleep {
            w.sleep();
        }
        assert!(w.ring());
        let codes = [alice, bob, carol].map(|conn| w.closed(conn));
        assert_eq!(codes, [Some(4001), Some(4001), None]);
        assert_eq!(w.alarm, Some(BEGIN.plus(2 * MINUTE)));
    }
}

#[test]
fn nobody_never_expires() {
    let mut w = World::new();
    let nobody = w.nobody();
    w.subscribe(nobody, "feed");
    w.advance(400 * 24 * 60 * 60 * 1000);
    while w.ring() {}
    assert_eq!(w.alarm, None);
    w.broadcast(json!({ "channel": "feed", "action": "create", "key": "k", "data": {} }));
    assert_eq!(w.one(nobody)["key"], "k");
}

#[test]
fn a_schema_below_the_minimum_is_told_and_closed() {
    let settings = [("SYNC_SCHEMA_VERSION", "3"), ("SYNC_SCHEMA_MIN", "2")];
    let mut w = World::with_config(config_with(&channels(), &settings));
    for (schema, taken) in [(json!(1), false), (json!(null), false), (json!(2), true)] {
        let alice = w.connect(Some("alice"), &[]);
        let answer = w.ask(alice, json!({ "type": "hello", "v": 1, "schema": schema }));
        if taken {
            assert_eq!(
                (&answer["type"], &answer["schema"]),
                (&json!("welcome"), &json!(3))
            );
        } else {
            assert_eq!(code(&answer), "schema_outdated");
            assert_eq!(w.closed(alice), Some(4504));
        }
    }
}
