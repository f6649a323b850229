//! What somebody may not see leaves no trace in anything that it is told.

use serde_json::{Value, json};

use super::world::World;
use super::{NOTHING, code};

/// Everything that mallory hears while probing, with cursors taken out: they count what is
/// hidden too, and gaps mean nothing. `hide` is what others do on the channel.
fn probe(channel: &str, mallory_topics: &[&str], hide: impl Fn(&mut World, u32)) -> Vec<Value> {
    let mut w = World::new();
    let mut heard = Vec::new();
    let mut cursors = Vec::new();
    let mut view = Value::Null;
    for round in 0..4 {
        let mallory = w.member("mallory", mallory_topics);
        hide(&mut w, 2 * round);
        for (index, cursor) in cursors.clone().iter().enumerate() {
            let limit = 1 + index as u64 % 2;
            let message = json!({
                "type": "subscribe", "id": "p", "channel": channel, "cursor": cursor,
                "view": view, "limit": limit, "meta": true
            });
            w.send(mallory, message);
        }
        w.send(
            mallory,
            json!({ "type": "subscribe", "id": "s", "channel": channel }),
        );
        hide(&mut w, 2 * round + 1);
        for (index, action) in ["update", "delete", "update", "delete"].iter().enumerate() {
            let key = ["secret", "secret", "missing", "missing"][index];
            let message = json!({
                "type": "mutate", "id": format!("{round} {index}"), "channel": channel,
                "action": action, "key": key, "data": { "t": 0, "ownerId": "mallory" }
            });
            w.send(mallory, message);
        }
        let bad = json!({
            "type": "mutate", "id": format!("{round} bad"), "channel": channel,
            "action": "update", "key": "secret", "data": { "__proto__": 1 }
        });
        w.send(mallory, bad);
        let own = json!({
            "type": "mutate", "id": "own", "channel": channel, "action": "create",
            "data": { "id": "own", "t": 1, "ownerId": "mallory" }
        });
        w.send(mallory, own);
        for mut message in w.messages(mallory) {
            if message["type"] == "snapshot" {
                view = message["view"].clone();
                cursors.push(message["cursor"].clone());
            }
            if let Some(fields) = message.as_object_mut() {
                fields.remove("cursor");
            }
            heard.push(message);
        }
        w.sleep();
        w.drop(mallory);
    }
    heard
}

/// Compares what is heard where there is something to hide with what is heard where there is
/// nothing.
#[track_caller]
fn hides(channel: &str, topics: &[&str], hide: impl Fn(&mut World, u32)) {
    let with = probe(channel, topics, hide);
    let without = probe(channel, topics, |_, _| {});
    assert!(with.len() > 20);
    assert_eq!(with, without);
}

#[test]
fn rows_of_others_leave_no_trace() {
    hides("notes", &[], |w, step| {
        let alice = w.user("alice");
        let id = format!("a{step}");
        match step % 4 {
            3 => w.delete(alice, &id, "notes", "secret"),
            2 => {
                let shared = json!({ "id": "secret", "ownerId": ["alice", "bob"] });
                w.update(alice, &id, "notes", shared)
            }
            _ => w.create(
                alice,
                &id,
                "notes",
                json!({ "id": "secret", "ownerId": "alice" }),
            ),
        };
        w.drop(alice);
    });
}

#[test]
fn published_rows_for_others_leave_no_trace() {
    hides("todos", &["team:m"], |w, step| {
        let action = ["create", "update", "delete"][step as usize % 3];
        let topic = ["user:alice", "team:a"][step as usize % 2];
        let change = json!({
            "channel": "todos", "action": action, "key": "secret", "data": { "n": step },
            "to": [topic]
        });
        assert_eq!(w.broadcast(change).0, 200);
    });
}

#[test]
fn newer_times_of_hidden_rows_leave_no_trace() {
    hides("timed", &[], |w, step| {
        let change = json!({
            "channel": "timed", "action": "create", "key": "secret", "data": { "t": 1000 + step },
            "to": ["user:alice"]
        });
        assert_eq!(w.broadcast(change).0, 200);
    });
}

#[test]
fn a_channel_that_is_only_written_to_leaves_no_trace() {
    hides("drop", &[], |w, step| {
        let alice = w.user("alice");
        let row = json!({ "id": format!("secret{step}") });
        assert_eq!(
            w.create(alice, &format!("a{step}"), "drop", row)["type"],
            "ack"
        );
        let change = json!({
            "channel": "drop", "action": "create", "key": "secret", "data": { "n": step }
        });
        assert_eq!(w.broadcast(change).0, 200);
        w.drop(alice);
    });
}

#[test]
fn a_create_over_a_hidden_row_is_the_one_thing_told_apart() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "notes"), w.user("bob"));
    w.create(
        alice,
        "m1",
        "notes",
        json!({ "id": "k", "ownerId": "alice", "secret": 1 }),
    );
    let mine = json!({ "id": "k", "ownerId": "bob" });
    let collision = w.create(bob, "m2", "notes", mine.clone());
    assert_eq!(code(&collision), "forbidden");
    assert_eq!(collision["error"].get("current"), None);
    assert_eq!(w.messages(alice), NOTHING);
    w.delete(alice, "m3", "notes", "k");
    assert_eq!(
        w.create(bob, "m2", "notes", mine)["type"],
        "ack",
        "nothing is there any more"
    );
    assert_eq!(
        w.messages(alice),
        NOTHING,
        "its own delete is what it knows"
    );
}

#[test]
fn a_channel_that_one_may_not_read_answers_the_same_whatever_it_holds() {
    let answers = |filled: bool| {
        let mut w = World::new();
        for channel in ["drop", "room:1", "todos"] {
            if filled {
                let change =
                    json!({ "channel": channel, "action": "create", "key": "k", "data": {} });
                assert_eq!(w.broadcast(change).0, 200);
            }
        }
        let (nobody, alice) = (w.nobody(), w.user("alice"));
        let mut heard = Vec::new();
        for channel in ["drop", "room:1"] {
            for cursor in [Value::Null, json!("hhhhhhhh.0")] {
                heard.push(w.resume(alice, channel, &cursor, &Value::Null));
                heard.push(w.resume(nobody, channel, &cursor, &Value::Null));
            }
            heard.push(w.update(nobody, "m", channel, json!({ "id": "k" })));
        }
        heard.push(w.resume(nobody, "todos", &Value::Null, &Value::Null));
        heard.push(w.update(alice, "m", "room:1", json!({ "id": "k" })));
        heard.push(w.create(alice, "m", "room:1", json!({ "id": "k" })));
        assert!(heard.iter().all(|answer| answer["type"] == "reject"));
        heard
    };
    assert_eq!(answers(true), answers(false));
}

#[test]
fn a_new_member_does_not_learn_what_was_deleted_before_it_came() {
    let mut w = World::new();
    let change = |action: &str| {
        json!({
            "channel": "todos", "action": action, "key": "old", "data": {}, "to": ["team:a"]
        })
    };
    let alice = w.user("alice");
    let before = w.subscribe(alice, "todos");
    w.broadcast(change("create"));
    w.broadcast(change("delete"));
    w.drop(alice);
    let alice = w.member("alice", &["team:a"]);
    let answer = w.resume(alice, "todos", &before["cursor"], &before["view"]);
    assert_eq!(
        (&answer["mode"], &answer["deleted"]),
        (&json!("full"), &json!([]))
    );
}
