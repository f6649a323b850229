//! Signals: passed to the other subscribers, never stored.

use serde_json::{Value, json};
use tidewire::limits;

use super::presence::{channels, world};
use super::world::{World, config_with};
use super::{NOTHING, blame, code, ids};

fn signal(channel: &str, data: Value) -> Value {
    json!({ "type": "signal", "channel": channel, "event": "typing", "data": data })
}

#[test]
fn a_signal_reaches_the_other_subscribers_and_nobody_else() {
    let mut w = world();
    let (alice, bob) = (w.live("alice", "lobby"), w.live("bob", "lobby"));
    let second = w.live("alice", "lobby");
    let (elsewhere, gone) = (w.live("carol", "hall"), w.live("dave", "lobby"));
    w.send(gone, json!({ "type": "unsubscribe", "channel": "lobby" }));
    for data in [json!({ "on": true }), json!([1, "two"]), Value::Null] {
        w.send(alice, signal("lobby", data.clone()));
        let passed = json!({
            "type": "signal", "channel": "lobby", "event": "typing", "session": "session-1",
            "identity": "alice", "data": data
        });
        assert_eq!((w.one(bob), w.one(second)), (passed.clone(), passed));
        for conn in [alice, elsewhere, gone] {
            assert_eq!(w.messages(conn), NOTHING);
        }
    }
    w.send(
        alice,
        json!({ "type": "signal", "channel": "lobby", "event": "wave" }),
    );
    assert_eq!(w.one(bob)["data"], Value::Null, "data may be left out");
}

#[test]
fn a_signal_is_not_stored() {
    let mut w = world();
    let alice = w.live("alice", "lobby");
    w.send(alice, signal("lobby", json!(1)));
    assert_eq!(w.stats()["seq"], 0);
    let bob = w.user("bob");
    assert_eq!(ids(&w.subscribe(bob, "lobby")), NOTHING);
    assert_eq!(w.messages(bob), NOTHING);
    let nobody = w.nobody();
    w.subscribe(nobody, "hall");
    let other = w.live("carol", "hall");
    w.sleep();
    w.send(nobody, signal("hall", json!(1)));
    assert_eq!(w.one(other)["identity"], Value::Null);
}

#[test]
fn signals_are_for_subscribers_where_the_rule_opens_them() {
    let mut w = world();
    let (alice, nobody) = (w.live("alice", "still"), w.nobody());
    for (conn, channel, refusal) in [
        (alice, "lobby", "invalid"),
        (alice, "still", "forbidden"),
        (alice, "room:1", "forbidden"),
        (alice, "nowhere", "unknown_channel"),
        (nobody, "lobby", "unauthorized"),
    ] {
        let error = w.ask(conn, signal(channel, json!(1)));
        assert_eq!(
            (&error["type"], code(&error)),
            (&json!("error"), refusal),
            "{channel}"
        );
    }
    let mut member = w.member("mia", &["room:1"]);
    w.subscribe(member, "room:1");
    w.call(
        tidewire::Call::Topics,
        json!({ "identity": "mia", "remove": ["room:1"] }),
    );
    w.messages(member);
    assert_eq!(
        code(&w.ask(member, signal("room:1", json!(1)))),
        "forbidden"
    );
    member = w.live("mia", "quiet");
    let other = w.live("alice", "quiet");
    w.send(member, signal("quiet", json!(1)));
    assert_eq!(w.one(other)["identity"], "mia", "without presence");
}

#[test]
fn a_signal_holds_16_kib_and_not_a_byte_more() {
    let mut w = world();
    let (alice, bob) = (w.live("alice", "lobby"), w.live("bob", "lobby"));
    let of = |bytes: usize| json!("d".repeat(bytes - 2));
    let refused = w.ask(alice, signal("lobby", of(limits::SIGNAL_BYTES + 1)));
    assert_eq!(blame(&refused), ("invalid", "data"));
    assert_eq!(w.messages(bob), NOTHING);
    w.send(alice, signal("lobby", of(limits::SIGNAL_BYTES)));
    assert_eq!(w.one(bob)["data"], of(limits::SIGNAL_BYTES));
    let named = |event: &str| json!({ "type": "signal", "channel": "lobby", "event": event });
    let longest = "e".repeat(limits::ID_BYTES);
    for event in ["", "a\u{7}b", "a\u{9f}", &format!("{longest}e")] {
        assert_eq!(code(&w.ask(alice, named(event))), "malformed", "{event:?}");
    }
    w.send(alice, named(&longest));
    assert_eq!(w.one(bob)["type"], "signal");
}

#[test]
fn signals_and_presence_count_as_messages() {
    let limits = r#"{"messagesPerSecond": 1}"#;
    let mut w = World::with_config(config_with(&channels(), &[("SYNC_LIMITS", limits)]));
    let (alice, bob) = (w.live("alice", "lobby"), w.live("bob", "lobby"));
    let state = |n: u32| json!({ "type": "presence", "channel": "lobby", "state": n });
    let (mut passed, mut refused) = (0, Vec::new());
    for n in 0..20 {
        w.send(
            alice,
            if n % 2 == 0 {
                signal("lobby", json!(n))
            } else {
                state(n)
            },
        );
        refused.extend(
            w.messages(alice)
                .into_iter()
                .filter(|m| m["type"] == "error"),
        );
        passed += w.messages(bob).len();
    }
    // Hello and subscribing have been two messages of the ten. Bob does not watch.
    assert_eq!((passed, refused.len()), (4, 12));
    assert_eq!(code(&refused[0]), "rate_limited");
    assert!(refused[0]["error"]["retryAfterMs"].is_u64());
}
