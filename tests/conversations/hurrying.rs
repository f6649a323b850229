//! Backpressure: how often a client asks for deltas, and how many a space answers at once.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::code;
use super::world::World;

const INTERVAL: u64 = limits::MIN_INTERVAL_MS as u64;

fn wait_of(answer: &Value) -> u64 {
    assert_eq!(code(answer), "rate_limited", "{answer}");
    assert_eq!(answer["error"]["retryable"], true);
    answer["error"]["retryAfterMs"].as_u64().expect("how long")
}

/// How many of so many questions at once are answered.
fn answered(w: &mut World, conn: ConnId, message: &Value, times: u64) -> u64 {
    w.send(conn, vec![message.clone(); times as usize].into());
    let answers = w.messages(conn);
    answers.iter().filter(|a| a["type"] == "snapshot").count() as u64
}

#[test]
fn a_client_asks_for_a_channel_every_100_ms_over_time_and_50_times_at_once() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let ask = json!({ "type": "subscribe", "id": "s", "channel": "todos" });
    let burst = limits::INTERVAL_BURST;
    assert_eq!(answered(&mut w, alice, &ask, burst + 5), burst);
    let refused = w.ask(alice, ask.clone());
    assert_eq!((wait_of(&refused), &refused["id"]), (INTERVAL, &json!("s")));
    let others = json!({ "type": "subscribe", "channel": "feed" });
    assert_eq!(
        answered(&mut w, alice, &others, 1),
        1,
        "each channel by itself"
    );
    assert_eq!(answered(&mut w, bob, &ask, burst), burst, "and each client");
    w.advance(INTERVAL - 1);
    assert_eq!(answered(&mut w, alice, &ask, 1), 0);
    w.advance(1);
    assert_eq!(answered(&mut w, alice, &ask, 2), 1);
    w.create(bob, "m", "todos", json!({ "id": "k" }));
    assert_eq!(w.one(alice)["key"], "k", "the subscription of before stays");
}

#[test]
fn pages_of_an_answer_and_refusals_do_not_count() {
    let mut w = World::with_limits(&json!({ "minIntervalMs": 60_000 }));
    let alice = w.user("alice");
    for i in 0..100 {
        w.broadcast(
            json!({ "channel": "feed", "action": "create", "key": i.to_string(),
            "data": {} }),
        );
    }
    let mut ask = json!({ "type": "subscribe", "channel": "feed", "limit": 1 });
    for _ in 0..limits::INTERVAL_BURST {
        assert_eq!(w.ask(alice, ask.clone())["type"], "snapshot");
    }
    let page = loop {
        let page = w.ask(alice, ask.clone());
        if page["type"] == "reject" {
            break page;
        }
    };
    wait_of(&page);
    let mut w = World::with_limits(&json!({ "minIntervalMs": 60_000 }));
    let alice = w.user("alice");
    for i in 0..100 {
        w.broadcast(
            json!({ "channel": "feed", "action": "create", "key": i.to_string(),
            "data": {} }),
        );
    }
    for _ in 0..100 {
        let page = w.ask(alice, ask.clone());
        assert_eq!(page["type"], "snapshot");
        (ask["cursor"], ask["view"]) = (page["cursor"].clone(), page["view"].clone());
    }
    let refused = json!({ "type": "subscribe", "channel": "vault:1" });
    for _ in 0..100 {
        assert_ne!(code(&w.ask(alice, refused.clone())), "rate_limited");
    }
}

#[test]
fn a_legacy_client_is_sent_away_to_come_back_only_where_all_lanes_are_taken() {
    let mut w = World::with_limits(&json!({ "maxConcurrentDeltas": 1 }));
    let row = json!({ "t": "x".repeat(200_000) });
    for i in 0..90 {
        w.broadcast(
            json!({ "channel": "feed", "action": "create", "key": i.to_string(),
            "data": row }),
        );
    }
    let ask = json!({ "type": "subscribe", "channel": "feed" });
    let legacy = w.connect(Some("alice"), &[]);
    w.send(legacy, ask.clone());
    assert_eq!(
        w.messages(legacy).last().expect("all pages")["type"],
        "snapshot"
    );
    let late = w.connect(Some("carol"), &[]);
    w.send(late, ask);
    assert_eq!((w.messages(late).len(), w.closed(late)), (0, Some(4008)));
}

/// Clients that come back at once, each with so many bytes to catch up. Returns how often they
/// asked, and after how many milliseconds the last was live. Publishers are served all along.
fn storm(w: &mut World, clients: usize, bytes: usize) -> (usize, u64) {
    let row = json!({ "t": "x".repeat(bytes) });
    let first = w.user("u");
    let before = w.subscribe(first, "feed");
    w.broadcast(json!({ "channel": "feed", "action": "create", "key": "k", "data": row }));
    w.messages(first);
    let began = w.now.0;
    let mut due: Vec<(u64, ConnId)> = Vec::new();
    for i in 0..clients {
        due.push((began, w.user(&format!("u{i}"))));
    }
    let ask = json!({ "type": "subscribe", "channel": "feed", "cursor": before["cursor"],
        "view": before["view"] });
    let (mut questions, mut live) = (0, Vec::new());
    while !due.is_empty() {
        due.sort_unstable_by_key(|(at, conn)| (std::cmp::Reverse(*at), std::cmp::Reverse(conn.0)));
        let (at, conn) = due.pop().expect("somebody");
        if at > w.now.0 {
            w.advance(at - w.now.0);
            let (status, _) = w.broadcast(json!({ "channel": "news", "action": "create",
                "key": at.to_string(), "data": {} }));
            assert_eq!(status, 200);
        }
        questions += 1;
        let answer = w.ask(conn, ask.clone());
        match answer["type"] == "snapshot" {
            true => live.push(w.now.0),
            false => due.push((w.now.0 + wait_of(&answer), conn)),
        }
    }
    assert_eq!(live.len(), clients);
    (questions, w.now.0 - began)
}

#[test]
fn five_thousand_that_have_missed_little_are_answered_at_once() {
    let mut w = World::new();
    assert_eq!(storm(&mut w, 5_000, 100), (5_000, 0));
}

#[test]
fn five_thousand_with_much_to_catch_up_are_spread_and_none_fails() {
    let mut w = World::new();
    let bytes = 100_000;
    let (questions, took) = storm(&mut w, 5_000, bytes);
    // 500 MB in five lanes of 16 MiB a second, less what was answered ahead.
    let reading = 5_000 * bytes as u64 * 1_000 / (5 * limits::ANSWER_BYTES_PER_SECOND);
    let most = reading + 2_000;
    assert!(
        (reading - 1_000..most).contains(&took),
        "{took} ms of {reading}"
    );
    assert!(
        questions < 2 * 5_000 + 500,
        "{questions} questions: twice each, nearly all"
    );
}
