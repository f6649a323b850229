//! What one small frame may cost the whole object.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::world::World;

/// What the whole isolate has is 128 MB.
const TURN_BYTES: usize = 32 * 1024 * 1024;

#[test]
fn one_frame_of_subscriptions_does_not_fill_the_isolate() {
    let mut w = World::new();
    for i in 0..4 {
        let change = json!({
            "channel": "feed", "action": "create", "key": format!("k{i}"),
            "data": { "t": "x".repeat(200_000) }
        });
        assert_eq!(w.broadcast(change).0, 200);
    }
    let nobody = w.nobody();
    let frame = vec![json!({ "type": "subscribe", "channel": "feed" }); 100];
    w.send(nobody, Value::Array(frame));
    assert!(w.sent_bytes <= TURN_BYTES, "{} bytes", w.sent_bytes);
}

/// A small change of a large row.
fn update(n: usize) -> Value {
    json!({
        "type": "mutate", "id": format!("m{n}"), "channel": "todos", "action": "update",
        "data": { "id": "k", "n": n }
    })
}

/// Alice sends many of them in one frame, while Bob is live.
fn flood(w: &mut World) -> (ConnId, ConnId) {
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    let row = json!({ "id": "k", "t": "x".repeat(250_000) });
    w.create(alice, "m", "todos", row);
    w.send(alice, (0..100).map(update).collect());
    (alice, bob)
}

#[test]
fn one_frame_of_mutations_does_not_fill_the_isolate() {
    let mut w = World::new();
    flood(&mut w);
    assert!(w.sent_bytes <= TURN_BYTES, "{} bytes", w.sent_bytes);
}

#[test]
fn what_is_put_off_is_done_when_asked_again() {
    let mut w = World::new();
    let (alice, bob) = flood(&mut w);
    let answers = w.messages(alice);
    let (done, put_off): (Vec<_>, Vec<_>) = answers.iter().partition(|a| a["type"] == "ack");
    assert!(!done.is_empty() && !put_off.is_empty());
    for answer in &put_off {
        assert_eq!(answer["error"]["code"], "rate_limited");
        assert_eq!(answer["error"]["retryAfterMs"], limits::TURN_RETRY_MS);
    }
    w.messages(bob);
    let ack = w.ask(alice, update(99));
    assert_eq!(
        (&ack["type"], &ack["data"]["n"]),
        (&json!("ack"), &json!(99))
    );
    // Pages that were put off are empty, say so, and go on where they began.
    let page = json!({ "type": "subscribe", "channel": "todos" });
    w.send(alice, Value::Array(vec![page; 100]));
    let pages = w.messages(alice);
    let last = pages.last().unwrap();
    assert_eq!((&last["data"], &last["more"]), (&json!([]), &json!(true)));
    let next = w.resume(alice, "todos", &last["cursor"], &last["view"]);
    assert_eq!(
        (next["data"].as_array().unwrap().len(), &next["more"]),
        (1, &json!(false))
    );
}

#[test]
fn a_batch_whose_rows_are_too_large_together_is_refused_whole() {
    let mut w = World::new();
    let grow = json!({
        "channel": "todos", "action": "create", "key": "k",
        "data": { "t": "x".repeat(limits::ROW_BYTES - 64) }
    });
    assert_eq!(w.broadcast(grow).0, 200);
    let update = json!({ "action": "update", "key": "k", "data": { "n": 1 } });
    let most = limits::BATCH_ROWS_BYTES / limits::ROW_BYTES;
    for (changes, status) in [(most, 200), (most + 1, 413)] {
        let body = json!({ "channel": "todos", "changes": vec![update.clone(); changes] });
        assert_eq!(w.broadcast_batch(body).0, status);
    }
    assert_eq!(w.stats()["seq"], most + 1);
}
