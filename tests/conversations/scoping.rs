//! Keys of publishers that open some channels and some calls.

use serde_json::{Value, json};
use tidewire::{Call, Config, Publisher, limits};

use super::world::{World, channels, config_with};
use super::{NOTHING, blame, code, gist};

const KEYS: &str = r#"{
    "bills": {"key":"b","channels":["todos","room:*"]},
    "feeds": {"key":"f","channels":["feed"]},
    "ops": {"key":"o","channels":[],"operate":true},
    "far": {"key":"t","channels":["*"],"spaces":["team-*"],"operate":true}
}"#;

fn world(name: &str) -> World {
    let config = config_with(&channels(), &[("PUBLISH_KEYS", KEYS)]);
    let mut w = World::with_config(config);
    become_publisher(&mut w, name);
    w
}

fn become_publisher(w: &mut World, name: &str) {
    w.publisher = Publisher::Named(name.into());
}

fn change(channel: &str, key: &str) -> Value {
    json!({ "channel": channel, "action": "create", "key": key, "data": {} })
}

/// Every call, as a publisher of `channel` would make it.
fn all_calls(channel: &str) -> Vec<(Call, Value)> {
    let of = |call| match call {
        Call::Broadcast => change(channel, "k"),
        Call::BroadcastBatch => json!({ "events": [change(channel, "k")] }),
        Call::BroadcastReset | Call::BroadcastChange => json!({ "channel": channel }),
        Call::Disconnect => json!({ "identity": "alice" }),
        Call::Topics => json!({ "identity": "alice", "add": ["team:a"] }),
        Call::Epoch => json!({}),
    };
    Call::ALL.into_iter().map(|call| (call, of(call))).collect()
}

#[test]
fn a_key_publishes_on_its_channels_and_on_no_other() {
    for (channel, opens) in [
        ("todos", true),
        ("room:1", true),
        ("feed", false),
        ("notes", false),
    ] {
        for (call, body) in all_calls(channel) {
            let mut w = world("bills");
            let alice = w.member("alice", &["room:1"]);
            w.subscribe(alice, channel);
            w.messages(alice);
            let (status, answer) = w.call(call, body);
            let opens = opens && call.publishes();
            assert_eq!(status, if opens { 200 } else { 403 }, "{call:?} {channel}");
            if !opens {
                assert_eq!(code(&answer), "forbidden");
                assert_eq!(
                    (w.messages(alice), w.closed(alice)),
                    (NOTHING.to_vec(), None)
                );
                assert_eq!(w.stats()["seq"], 0);
            }
        }
    }
}

#[test]
fn a_key_that_operates_does_not_publish_where_it_has_no_channel() {
    for (call, body) in all_calls("todos") {
        let mut w = world("ops");
        let expected = if call.publishes() { 403 } else { 200 };
        assert_eq!(w.call(call, body).0, expected, "{call:?}");
    }
}

#[test]
fn a_key_of_other_spaces_opens_nothing_here() {
    for name in ["far", "no longer there"] {
        for (call, body) in all_calls("todos") {
            let mut w = world(name);
            let (status, answer) = w.call(call, body);
            assert_eq!(
                (status, code(&answer)),
                (403, "forbidden"),
                "{name} {call:?}"
            );
        }
    }
}

#[test]
fn a_batch_with_one_forbidden_channel_names_it_and_writes_nothing() {
    let mut w = world("bills");
    let bob = w.live("bob", "todos");
    let events = |third: &str| json!({ "events": [change("todos", "a"), change("room:1", "b"), change(third, "c")] });
    let (status, answer) = w.broadcast_batch(events("feed"));
    assert_eq!((status, code(&answer)), (403, "forbidden"));
    let blamed = answer["error"]["field"].as_str().unwrap();
    assert!(blamed.contains('2'), "{blamed}");
    assert_eq!(w.messages(bob), NOTHING);
    assert_eq!(w.stats()["seq"], 0);
    assert_eq!(w.broadcast_batch(events("room:2")).0, 200);
    assert_eq!(gist(&w.messages(bob)), ["create a"]);
    let one = json!({ "channel": "feed", "changes": [
        { "action": "create", "key": "k", "data": {} }
    ] });
    assert_eq!(w.broadcast_batch(one).0, 403);
}

#[test]
fn a_forbidden_channel_answers_the_same_whether_there_is_such_a_row_or_rule() {
    let mut w = world("bills");
    w.publisher = Publisher::Unscoped;
    assert_eq!(w.broadcast(change("feed", "there")).0, 200);
    become_publisher(&mut w, "bills");
    let mut answers = Vec::new();
    for (channel, key) in [("feed", "there"), ("feed", "missing"), ("nowhere", "k")] {
        for action in ["create", "update", "delete"] {
            let body = json!({ "channel": channel, "action": action, "key": key, "data": {} });
            answers.push(w.broadcast(body));
        }
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:#?}"
    );
    assert_eq!(answers[0].0, 403);
}

#[test]
fn idempotency_keys_of_different_publishers_never_meet() {
    let mut w = world("bills");
    let bob = w.live("bob", "todos");
    let publish = |w: &mut World, who: Publisher, key: &str| {
        w.publisher = who;
        w.publish(
            Call::Broadcast,
            change("todos", key).to_string(),
            Some("order-7"),
        )
    };
    let named = |name: &str| Publisher::Named(name.into());
    let first = publish(&mut w, Publisher::Unscoped, "a");
    let second = publish(&mut w, named("bills"), "b");
    assert_eq!((first.0, second.0), (200, 200));
    assert_eq!((&first.1["seq"], &second.1["seq"]), (&json!(1), &json!(2)));
    assert_eq!(gist(&w.messages(bob)), ["create a", "create b"]);
    // Each finds its own outcome again, and nobody another's.
    w.sleep();
    assert_eq!(publish(&mut w, Publisher::Unscoped, "a"), first);
    assert_eq!(publish(&mut w, named("bills"), "b"), second);
    for (who, key) in [(Publisher::Unscoped, "b"), (named("bills"), "a")] {
        let (status, answer) = publish(&mut w, who, key);
        assert_eq!((status, code(&answer)), (409, "conflict"));
    }
    let (status, answer) = publish(&mut w, named("feeds"), "a");
    assert_eq!(
        (status, code(&answer)),
        (403, "forbidden"),
        "no replay of what it may not do"
    );
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn an_idempotency_key_never_meets_an_identitys_request() {
    // Owners are told apart by more than their names.
    let config = config_with(
        &channels(),
        &[("PUBLISH_KEYS", r#"{"alice":{"key":"k","channels":["*"]}}"#)],
    );
    let mut w = World::with_config(config);
    become_publisher(&mut w, "alice");
    let alice = w.user("alice");
    let body = change("todos", "published").to_string();
    assert_eq!(w.publish(Call::Broadcast, &body, Some("m")).0, 200);
    let ack = w.create(alice, "m", "todos", json!({ "id": "k" }));
    assert_eq!(
        (&ack["type"], &ack["replayed"]),
        (&json!("ack"), &json!(false))
    );
    let other = w.user("palice");
    assert_eq!(
        w.create(other, "m", "todos", json!({ "id": "l" }))["replayed"],
        false
    );
}

#[test]
fn a_refused_call_is_not_remembered() {
    let mut w = world("feeds");
    let body = change("todos", "k").to_string();
    assert_eq!(w.publish(Call::Broadcast, &body, Some("once")).0, 403);
    assert_eq!(
        w.publish(
            Call::Broadcast,
            change("feed", "k").to_string(),
            Some("once")
        )
        .0,
        200
    );
}

#[test]
fn the_space_of_a_body_is_checked_before_the_key() {
    let mut w = world("far");
    let mut body = change("todos", "k");
    body["space"] = json!("team-1");
    assert_eq!(blame(&w.broadcast(body).1), ("invalid", "space"));
}

#[test]
fn a_keys_name_has_64_bytes_at_most() {
    let read = |bytes: usize| {
        let name = "n".repeat(bytes);
        let keys = json!({ name: { "key": "k", "channels": ["*"] } }).to_string();
        Config::read(|setting| match setting {
            "SYNC_CHANNELS" => Some("{}".to_owned()),
            "PUBLISH_KEYS" => Some(keys.clone()),
            _ => None,
        })
    };
    assert!(read(limits::PUBLISHER_BYTES).is_ok());
    let error = read(limits::PUBLISHER_BYTES + 1).unwrap_err();
    assert_eq!(error.setting, "PUBLISH_KEYS");
}
