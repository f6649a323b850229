//! What one small frame may cost the whole object.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::world::{World, token};

/// What the whole isolate has is 128 MB.
const TURN_BYTES: usize = 32 * 1024 * 1024;

#[test]
fn one_frame_of_subscriptions_does_not_fill_the_isolate() {
    let mut w = World::without_backpressure();
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
    let mut w = World::without_backpressure();
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

#[test]
fn one_frame_reads_a_bounded_number_of_rows_visible_or_not() {
    let mut w = World::without_backpressure();
    let hidden = limits::PAGE_SCAN;
    w.sqlite.execute(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {hidden})
         INSERT INTO rows (channel, key, seq, data, audience, author, at, lost)
         SELECT 'feed', 'h' || i, i, '{{}}', '[\"user:carol\"]', NULL, 0, NULL FROM n"
    ));
    w.sleep();
    let nobody = w.nobody();
    let page = json!({ "type": "subscribe", "channel": "feed" });
    w.send(nobody, Value::Array(vec![page.clone(); 1_000]));
    let pages = w.messages(nobody);
    let live = pages.iter().filter(|page| page["more"] == false).count();
    assert_eq!(live, limits::TURN_PAGES[0].0, "the rest is put off");
    assert_eq!(
        w.ask(nobody, page)["more"],
        false,
        "another frame has room again"
    );
}

#[test]
fn one_frame_of_renewals_is_bounded_too() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    for i in 0..2 * limits::PAGE_SCAN / 1_000 {
        let change = |j| json!({ "action": "create", "key": format!("k{i}-{j}"), "data": {}, "to": ["user:bob"] });
        let changes: Vec<Value> = (0..500).map(change).collect();
        w.broadcast_batch(json!({ "channel": "todos", "changes": changes }));
    }
    let exp = w.now.0 / 1000 + 60;
    let auth = |topic: &str| {
        let token = token(&json!({ "sub": "alice", "exp": exp, "topics": [topic] }));
        json!({ "type": "auth", "token": token })
    };
    let both = [auth("x"), auth("y")];
    w.send(alice, (0..10).map(|i| both[i % 2].clone()).collect());
    let answers = w.messages(alice);
    let done = answers
        .iter()
        .filter(|answer| answer["type"] == "authed")
        .count();
    assert_eq!(done, 1);
    assert_eq!(answers.last().unwrap()["error"]["code"], "rate_limited");
    assert_eq!(w.closed(alice), None);
}

#[test]
fn a_change_of_topics_sends_a_bounded_number_of_bytes() {
    let mut w = World::new();
    for channel in ["team:0", "team:1"] {
        for i in 0..10 {
            let data = json!({ "team": "x", "t": "x".repeat(200_000) });
            let body = json!({
                "channel": channel, "action": "create", "key": format!("k{i}"), "data": data
            });
            assert_eq!(w.broadcast(body).0, 200);
        }
    }
    let alice = w.user("alice");
    w.subscribe(alice, "team:0");
    w.subscribe(alice, "team:1");
    let exp = w.now.0 / 1000 + 60;
    let token = token(&json!({ "sub": "alice", "exp": exp, "topics": ["team:x"] }));
    w.send(alice, json!({ "type": "auth", "token": token }));
    assert!(
        w.sent_bytes < limits::FRAME_OUT_BYTES,
        "{} bytes",
        w.sent_bytes
    );
    let kinds: Vec<Value> = w
        .messages(alice)
        .iter()
        .map(|m| m["type"].clone())
        .collect();
    assert_eq!(kinds, ["channel-reset", "channel-reset", "authed"]);
}
