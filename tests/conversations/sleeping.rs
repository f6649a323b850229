//! Sleep between any two frames: nobody notices.

use serde_json::{Value, json};
use tidewire::{Call, ConnId};

use super::world::World;
use super::{NOTHING, code, gist, ids, seq};

/// One step of a story: who does what. `cursor` and `view` of `"last"` stand for those of the
/// same client's last snapshot.
fn story() -> Vec<(&'static str, Value)> {
    let subscribe = |channel: &str| json!({ "type": "subscribe", "id": "s", "channel": channel });
    let write = |id: &str, channel: &str, action: &str, data: Value| json!({ "type": "mutate", "id": id, "channel": channel, "action": action, "data": data });
    let publish = |action: &str, key: &str, to: Value| {
        let mut change =
            json!({ "channel": "todos", "action": action, "key": key, "data": { "n": 1 } });
        if !to.is_null() {
            change["to"] = to;
        }
        change
    };
    vec![
        (
            "alice",
            json!({ "type": "hello", "v": 1, "subscribe": [{ "id": "h", "channel": "todos" }] }),
        ),
        ("bob", json!({ "type": "hello", "v": 1 })),
        (
            "bob",
            json!([subscribe("todos"), subscribe("notes"), subscribe("open")]),
        ),
        ("old", subscribe("todos")),
        ("nobody", subscribe("open")),
        (
            "alice",
            write("m1", "todos", "create", json!({ "id": "k1" })),
        ),
        (
            "publisher",
            publish("create", "k2", json!(["user:alice", "team:a"])),
        ),
        (
            "alice",
            write("m1", "todos", "create", json!({ "id": "k1" })),
        ),
        (
            "nobody",
            write("m1", "open", "create", json!({ "id": "k1" })),
        ),
        (
            "nobody",
            write("m1", "open", "create", json!({ "id": "k1" })),
        ),
        ("publisher", publish("update", "k2", json!(["user:bob"]))),
        (
            "bob",
            write(
                "m1",
                "notes",
                "create",
                json!({ "id": "k3", "ownerId": ["bob", "alice"] }),
            ),
        ),
        ("alice", subscribe("notes")),
        (
            "bob",
            write(
                "m2",
                "notes",
                "update",
                json!({ "id": "k3", "ownerId": "bob" }),
            ),
        ),
        (
            "alice",
            json!({
                "type": "subscribe", "channel": "notes", "cursor": "last", "view": "last", "limit": 1
            }),
        ),
        ("bob", json!({ "type": "unsubscribe", "channel": "open" })),
        (
            "nobody",
            write("m2", "open", "update", json!({ "id": "k1", "n": 2 })),
        ),
        (
            "alice",
            write("m2", "todos", "delete", json!({ "id": "k1" })),
        ),
        (
            "alice",
            write("m2", "todos", "delete", json!({ "id": "other" })),
        ),
        ("old", json!([subscribe("feed")])),
        ("alice", json!({ "type": "hello", "v": 1 })),
        ("publisher", publish("delete", "k2", Value::Null)),
        (
            "old",
            json!({ "type": "subscribe", "channel": "todos", "cursor": "last", "view": "last" }),
        ),
    ]
}

/// Plays the story, sleeping before the steps that `sleeps` names. Everything that anyone heard.
fn play(sleeps: impl Fn(usize) -> bool) -> Vec<(String, Vec<String>)> {
    let mut w = World::new();
    let cast: Vec<(&str, ConnId)> = vec![
        ("alice", w.connect(Some("alice"), &[])),
        ("bob", w.connect(Some("bob"), &["team:a"])),
        ("old", w.connect(Some("carol"), &["team:a"])),
        ("nobody", w.connect(None, &[])),
    ];
    let mut last: Vec<Value> = vec![Value::Null; cast.len()];
    let mut heard = Vec::new();
    for (step, (who, mut message)) in story().into_iter().enumerate() {
        if sleeps(step) {
            w.sleep();
        }
        w.advance(1);
        if who == "publisher" {
            let (status, answer) = w.publish(
                Call::Broadcast,
                message.to_string(),
                Some(&format!("step {step}")),
            );
            heard.push((
                format!("{step} publisher"),
                vec![format!("{status} {answer}")],
            ));
        } else {
            let place = cast.iter().position(|(name, _)| *name == who).unwrap();
            for field in ["cursor", "view"] {
                if message[field] == "last" {
                    message[field] = last[place][field].clone();
                }
            }
            w.send(cast[place].1, message);
        }
        for (place, (name, conn)) in cast.iter().enumerate() {
            let frames = w.frames(*conn);
            for frame in &frames {
                let message: Value = serde_json::from_str(frame).unwrap();
                if message["type"] == "snapshot" {
                    last[place] = message;
                }
            }
            heard.push((format!("{step} {name}"), frames));
        }
    }
    heard
}

#[test]
fn sleep_between_any_two_frames_changes_nothing() {
    let awake = play(|_| false);
    let frames: usize = awake.iter().map(|(_, frames)| frames.len()).sum();
    assert!(frames > 30, "{frames}");
    for asleep in 0..story().len() {
        assert_eq!(
            play(|step| step == asleep),
            awake,
            "asleep before step {asleep}"
        );
    }
    assert_eq!(play(|_| true), awake, "asleep before every step");
}

#[test]
fn waking_finds_the_newest_seq_among_many_channels() {
    let mut w = World::new();
    let alice = w.user("alice");
    for round in 0..3 {
        for i in 0..150 {
            let channel = format!("room:{}", (i * 67) % 150);
            let change = json!({
                "channel": channel, "action": "update", "key": format!("k{}", round % 2), "data": {}
            });
            assert_eq!(w.broadcast(change).0, 200);
        }
    }
    assert_eq!(w.stats()["seq"], 450);
    w.sleep();
    assert_eq!(w.stats()["seq"], 450);
    assert_eq!(
        seq(&w.create(alice, "m1", "todos", json!({ "id": "k" }))),
        451
    );
    assert_eq!(seq(&w.delete(alice, "m2", "todos", "k")), 452);
    w.sleep();
    assert_eq!(
        seq(&w.create(alice, "m3", "open", json!({ "id": "k" }))),
        453,
        "after a tombstone"
    );
}

#[test]
fn an_empty_space_wakes_empty_and_keeps_its_epoch() {
    let mut w = World::new();
    let epoch = w.stats()["epoch"].clone();
    w.sleep();
    assert_eq!(
        (&w.stats()["epoch"], &w.stats()["seq"]),
        (&epoch, &json!(0))
    );
    let alice = w.user("alice");
    assert_eq!(
        w.subscribe(alice, "todos")["cursor"],
        format!("{}.0", epoch.as_str().unwrap())
    );
}

#[test]
fn a_connection_that_has_said_nothing_may_still_say_hello_after_a_sleep() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    w.sleep();
    w.hello(alice);
    w.sleep();
    assert_eq!(
        code(&w.ask(alice, json!({ "type": "hello", "v": 1 }))),
        "malformed"
    );
}

#[test]
fn an_unsubscribed_channel_stays_unsubscribed() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    w.send(alice, json!({ "type": "unsubscribe", "channel": "todos" }));
    w.sleep();
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
    assert_eq!(w.messages(alice), NOTHING);
}

#[test]
fn what_was_cut_off_by_paging_is_not_live_after_a_sleep() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    w.create(alice, "m2", "todos", json!({ "id": "k2" }));
    w.messages(bob);
    let page = w.ask(
        bob,
        json!({ "type": "subscribe", "channel": "todos", "limit": 1 }),
    );
    assert_eq!((ids(&page), &page["more"]), (vec!["k1"], &json!(true)));
    w.sleep();
    w.create(alice, "m3", "todos", json!({ "id": "k3" }));
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn what_is_no_session_is_not_taken_back() {
    let mut w = World::new();
    for garbage in [&[][..], &[0xff; 40], b"{\"identity\":\"alice\"}"] {
        let closes = w.engine.wake(false, [(ConnId(99), Some(garbage.to_vec()))]);
        let codes: Vec<_> = closes.iter().map(|closing| closing.code).collect();
        assert_eq!(codes, [4000]);
    }
    assert_eq!(w.stats()["connections"], 0);
}

#[test]
fn many_changes_and_sleeps_lose_and_double_nothing() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    let mut heard = Vec::new();
    for i in 0..40 {
        if i % 3 == 0 {
            w.sleep();
        }
        let ack = w.create(
            alice,
            &format!("m{i}"),
            "todos",
            json!({ "id": format!("k{}", i % 7) }),
        );
        assert_eq!(seq(&ack), i + 1);
        heard.extend(w.messages(bob));
    }
    let seqs: Vec<u64> = heard.iter().map(seq).collect();
    assert_eq!(seqs, (1..=40).collect::<Vec<_>>());
    assert_eq!(gist(&heard[39..]), ["create k4"]);
}
