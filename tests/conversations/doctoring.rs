//! What the doctor sees in the rows of a space.

use serde_json::{Value, json};
use tidewire::limits;

use super::world::World;

fn put(w: &mut World, channel: &str, key: &str, data: Value) {
    let body = json!({ "channel": channel, "action": "create", "key": key, "data": data });
    let (status, answer) = w.broadcast(body);
    assert_eq!(status, 200, "{answer}");
}

/// Settings and what is said of them.
fn findings(answer: &Value) -> Vec<(&str, &str)> {
    let findings = answer["findings"].as_array().unwrap();
    for finding in findings {
        assert!(finding["wayOut"].is_string() && finding["severity"] == "risky");
    }
    findings
        .iter()
        .map(|finding| {
            (
                finding["setting"].as_str().unwrap(),
                finding["what"].as_str().unwrap(),
            )
        })
        .collect()
}

#[test]
fn owners_in_an_unscoped_channel_are_told_by_field_and_never_by_value() {
    let mut w = World::new();
    put(&mut w, "todos", "k1", json!({ "ownerId": "alice-secret" }));
    put(&mut w, "todos", "k2", json!({ "user_id": 7, "title": "x" }));
    put(&mut w, "todos", "k3", json!({ "ownerId": null }));
    // Scoped, by topic, or events: nothing to say.
    put(&mut w, "notes", "n", json!({ "ownerId": "alice" }));
    put(&mut w, "room:1", "r", json!({ "ownerId": "alice" }));
    put(&mut w, "chat:1", "c", json!({ "ownerId": "alice" }));
    let (status, answer) = w.doctor("");
    assert_eq!((status, &answer["next"]), (200, &Value::Null));
    let [first, second] = findings(&answer).try_into().unwrap();
    assert_eq!(
        (first.0, second.0),
        ("SYNC_CHANNELS todos", "SYNC_CHANNELS todos")
    );
    assert!(
        first
            .1
            .contains("2 of its newest rows have a field ownerId"),
        "{first:?}"
    );
    assert!(second.1.contains("user_id"), "{second:?}");
    assert!(!answer.to_string().contains("alice"));
}

#[test]
fn deleted_rows_tell_nothing_and_rows_without_a_rule_are_told() {
    let mut w = World::new();
    put(&mut w, "todos", "k1", json!({ "ownerId": "a" }));
    let body = json!({ "channel": "todos", "action": "delete", "key": "k1" });
    w.broadcast(body);
    assert_eq!(findings(&w.doctor("").1), []);
    w.sqlite.execute("UPDATE rows SET channel = 'lost'");
    let answer = w.doctor("").1;
    let [lost] = findings(&answer).try_into().unwrap();
    assert!(
        lost.0 == "SYNC_CHANNELS" && lost.1.contains("lost"),
        "{lost:?}"
    );
}

#[test]
fn channels_are_looked_at_in_bounded_steps() {
    let mut w = World::new();
    for n in 0..=limits::DOCTOR_CHANNELS {
        put(&mut w, &format!("room:{n:03}"), "k", json!({}));
    }
    let (_, answer) = w.doctor("");
    assert_eq!(answer["next"], "room:099");
    assert_eq!(w.doctor("room:099").1["next"], Value::Null);
}

#[test]
fn of_a_channel_only_the_newest_rows_are_looked_at() {
    let mut w = World::new();
    put(&mut w, "todos", "old", json!({ "ownerId": "a" }));
    for n in 1..limits::DOCTOR_ROWS {
        put(&mut w, "todos", &format!("k{n}"), json!({}));
    }
    assert_eq!(findings(&w.doctor("").1).len(), 1);
    put(&mut w, "todos", "new", json!({}));
    assert_eq!(findings(&w.doctor("").1), []);
}

#[test]
fn large_rows_end_a_step_early() {
    let mut w = World::new();
    let large = "x".repeat(200 * 1024);
    for n in 0..=limits::DOCTOR_BYTES / large.len() {
        put(&mut w, "feed", &format!("k{n}"), json!({ "t": large }));
    }
    put(&mut w, "todos", "k", json!({ "ownerId": "a" }));
    let (_, answer) = w.doctor("");
    assert_eq!(
        (findings(&answer).len(), &answer["next"]),
        (0, &json!("feed"))
    );
    assert_eq!(findings(&w.doctor("feed").1).len(), 1);
}
