//! What an attacker sends to stop a space or to look into it: small frames that ask for much.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::code;
use super::world::{World, channels, config_with, token};

fn fields(prefix: &str, count: usize) -> String {
    (0..count).fold(String::new(), |mut text, i| {
        write!(text, ",\"{prefix}{i}\":1").unwrap();
        text
    })
}

#[test]
fn tens_of_thousands_of_fields_are_merged_in_one_pass() {
    // Looked up one by one, these would be a thousand million comparisons.
    let mut w = World::new();
    let alice = w.user("alice");
    for (id, action, prefix, answer) in [
        ("a", "create", "a", "ack"),
        ("b", "update", "b", "reject"),
        ("c", "update", "a", "ack"),
    ] {
        let data = format!("{{\"id\":\"k\"{}}}", fields(prefix, 23_000));
        w.send_text(
            alice,
            &format!(r#"{{"type":"mutate","id":"{id}","channel":"todos","action":"{action}","data":{data}}}"#),
        );
        assert_eq!(w.one(alice)["type"], answer, "{id}");
    }
}

#[test]
fn data_too_long_for_a_row_is_refused_before_its_fields_are_read() {
    let mut w = World::new();
    let data = |bytes: usize| json!({ "t": "x".repeat(bytes - 8) });
    assert_eq!(data(100).to_string().len(), 100);
    let mut publish = |bytes| {
        let change =
            json!({ "channel": "todos", "action": "create", "key": "k", "data": data(bytes) });
        let (status, answer) = w.broadcast(change);
        (
            status,
            answer["error"]["message"].as_str().map(str::to_owned),
        )
    };
    let too_long = Some("is too long for a row".to_owned());
    assert_eq!(publish(limits::DATA_BYTES + 1), (400, too_long.clone()));
    let (status, message) = publish(limits::DATA_BYTES);
    assert!(
        status == 400 && message != too_long,
        "read, and then too large"
    );
}

/// The answers to one frame that asks for a page of a channel after a turn's room was used up.
fn answers_when_exhausted(hidden: bool, spent: usize) -> Vec<Value> {
    let mut w = World::new();
    let (alice, mallory) = (w.user("alice"), w.user("mallory"));
    let view = w.subscribe(mallory, "notes")["view"].clone();
    for i in 0..1_000 {
        let key = format!("m{i}");
        w.create(mallory, &key, "todos", json!({ "id": key }));
        w.advance(100);
    }
    for i in 0..3 {
        let (channel, key) = (if hidden { "notes" } else { "gifts" }, format!("h{i}"));
        let secret = json!({ "id": key, "ownerId": "alice", "for": "alice" });
        assert_eq!(w.create(alice, &key, channel, secret)["type"], "ack");
    }
    w.drop(mallory);
    let mallory = w.user("mallory");
    let exhaust = json!({ "type": "subscribe", "channel": "todos", "limit": 1_000 });
    let mut frame = vec![exhaust; spent];
    for seq in [1_000, 1_001, 1_003] {
        let cursor = format!("hhhhhhhh.{seq}");
        frame.push(json!({ "type": "subscribe", "id": "n", "channel": "notes", "cursor": cursor, "view": view }));
    }
    w.send(mallory, Value::from(frame));
    w.messages(mallory)
        .into_iter()
        .filter(|m| m["id"] == "n")
        .collect()
}

#[test]
fn what_is_left_of_a_turn_does_not_tell_what_a_channel_holds() {
    for spent in [0, 1, 2, 3, 61, 62, 63, 997] {
        let with = answers_when_exhausted(true, spent);
        let without = answers_when_exhausted(false, spent);
        assert_eq!(with.len(), 3);
        assert_eq!(with, without, "after {spent} pages");
    }
}

/// A session that is live on 250 empty channels for each frame.
fn wide(w: &mut World, frames: usize) -> ConnId {
    let alice = w.user("alice");
    for frame in 0..frames {
        let subscribe =
            |i: usize| json!({ "type": "subscribe", "channel": format!("chat:{frame}{i}") });
        w.send(alice, (0..250).map(subscribe).collect());
        assert_eq!(w.messages(alice).len(), 250);
    }
    alice
}

#[test]
fn a_frame_of_renewals_looks_at_a_bounded_number_of_channels_also_of_empty_ones() {
    let mut w = World::new();
    let alice = wide(&mut w, 3);
    let auth = |w: &World, topic: &str| {
        let exp = w.now.0 / 1000 + 60;
        json!({ "type": "auth", "token": token(&json!({ "sub": "alice", "exp": exp, "topics": [topic] })) })
    };
    let frame: Vec<Value> = (0..100).map(|i| auth(&w, ["a", "b"][i % 2])).collect();
    w.send(alice, Value::from(frame));
    let answers = w.messages(alice);
    let authed = answers
        .iter()
        .filter(|answer| answer["type"] == "authed")
        .count();
    assert_eq!(authed, 1);
    let put_off = |answer: &&Value| answer["error"]["code"] == "rate_limited";
    assert_eq!(answers.iter().filter(put_off).count(), 99);
}

#[test]
fn an_audience_is_bounded_in_bytes() {
    let mut w = World::new();
    let owners = |count: usize, bytes: usize| -> Vec<String> {
        (0..count)
            .map(|i| format!("{i:0width$}", width = bytes - "user:".len()))
            .collect()
    };
    let mut publish = |owners: Vec<String>| {
        let data = json!({ "ownerId": owners });
        let change = json!({ "channel": "notes", "action": "create", "key": "k", "data": data });
        w.broadcast(change).0
    };
    let rest = limits::AUDIENCE_BYTES - 63 * 64;
    let mut at = owners(63, 64);
    at.push("r".repeat(rest.min(limits::TOPIC_BYTES) - 5));
    let bytes: usize = at.iter().map(|owner| owner.len() + 5).sum();
    assert!(bytes <= limits::AUDIENCE_BYTES);
    assert_eq!(publish(at), 200);
    assert_eq!(publish(owners(17, 256)), 200, "17 × 256 = 4,352 bytes");
    let mut past = owners(17, 256);
    past.push("eleven".to_owned());
    assert_eq!(publish(past), 400);
}

#[test]
fn one_identity_does_not_take_all_subscriptions_of_a_space() {
    let mut w = World::new();
    for _ in 0..limits::SUBSCRIPTIONS_PER_IDENTITY / 500 {
        wide(&mut w, 2);
        w.advance(10_000);
    }
    assert_eq!(
        w.stats()["subscriptions"],
        limits::SUBSCRIPTIONS_PER_IDENTITY
    );
    let alice = w.user("alice");
    assert_eq!(code(&w.subscribe(alice, "todos")), "unavailable");
    let bob = w.user("bob");
    assert_eq!(w.subscribe(bob, "todos")["type"], "snapshot");
}

#[test]
fn who_asks_for_pages_and_does_not_read_is_told_to_wait() {
    let mut w = World::without_backpressure();
    let alice = w.user("alice");
    for i in 0..3 {
        let data = json!({ "x": "x".repeat(limits::ROW_BYTES - 100) });
        w.broadcast(
            json!({ "channel": "todos", "action": "create", "key": i.to_string(),
            "data": data }),
        );
    }
    let mut bytes = 0;
    let refused = loop {
        let answer = w.subscribe(alice, "todos");
        if answer["type"] == "reject" {
            break answer;
        }
        bytes += answer.to_string().len();
        assert!(bytes < 2 * limits::ANSWER_BYTES_BURST as usize);
    };
    assert!(bytes > limits::ANSWER_BYTES_BURST as usize);
    assert_eq!(code(&refused), "rate_limited");
    let wait = refused["error"]["retryAfterMs"].as_u64().expect("how long");
    let bob = w.user("bob");
    assert_eq!(w.subscribe(bob, "todos")["type"], "snapshot");
    w.advance(wait);
    assert_eq!(w.subscribe(alice, "todos")["type"], "snapshot");
}

/// Rows of the largest size.
fn large_rows(w: &mut World, channel: &str, count: usize) {
    for i in 0..count {
        let data = json!({ "x": "x".repeat(limits::ROW_BYTES - 100) });
        let change =
            json!({ "channel": channel, "action": "create", "key": i.to_string(), "data": data });
        assert_eq!(w.broadcast(change).0, 200);
    }
}

#[test]
fn a_legacy_client_that_does_not_read_is_sent_away() {
    let mut w = World::without_backpressure();
    large_rows(&mut w, "feed", 8);
    let legacy = w.connect(None, &[]);
    let mut bytes = 0;
    while w.closed(legacy).is_none() {
        w.send(legacy, json!({ "type": "subscribe", "channel": "feed" }));
        bytes += w.frames(legacy).iter().map(String::len).sum::<usize>();
        assert!(bytes < 2 * limits::ANSWER_BYTES_BURST as usize);
    }
    assert!(bytes > limits::ANSWER_BYTES_BURST as usize);
    assert_eq!(w.closed(legacy), Some(4008));
}

#[test]
fn what_is_too_large_for_a_legacy_client_counts_as_if_it_had_been_sent() {
    let mut w = World::without_backpressure();
    large_rows(
        &mut w,
        "feed",
        limits::LEGACY_SNAPSHOT_BYTES / limits::ROW_BYTES + 1,
    );
    let legacy = w.connect(None, &[]);
    let mut refused = 0;
    while w.closed(legacy).is_none() {
        w.send(legacy, json!({ "type": "subscribe", "channel": "feed" }));
        let frames = w.frames(legacy).concat();
        refused += frames.matches("is too large").count();
        assert!(refused < 10);
    }
    let burst = limits::ANSWER_BYTES_BURST as usize;
    assert_eq!(refused, burst / limits::LEGACY_SNAPSHOT_BYTES + 1);
    assert_eq!(w.closed(legacy), Some(4008));
}

#[test]
fn who_does_not_read_answers_is_told_to_wait() {
    let members = |w: &mut World| {
        for i in 0..60 {
            let conn = w.live(&format!("user{i}"), "open");
            let state = "x".repeat(limits::STATE_BYTES - 2);
            w.send(
                conn,
                json!({ "type": "presence", "channel": "open", "state": state }),
            );
        }
    };
    let row = |t: u32| json!({ "id": "k", "t": t, "x": "x".repeat(limits::ROW_BYTES - 100) });
    let mutate = |channel: &str, id: &str, action: &str, data: Value| json!({ "type": "mutate", "id": id, "channel": channel, "action": action, "data": data });
    let ways = [
        mutate("todos", "a", "create", row(1)),
        mutate("timed", "b", "update", json!({ "id": "k", "t": 1 })),
        json!({ "type": "presence", "channel": "open", "watch": true }),
    ];
    for way in ways {
        let mut w = World::without_backpressure();
        members(&mut w);
        let alice = w.live("alice", "open");
        let created = mutate("timed", "c", "create", row(2));
        assert_eq!(w.ask(alice, created)["type"], "ack");
        let mut bytes = 0;
        let refused = loop {
            w.send(alice, way.clone());
            let frames = w.frames(alice);
            let last = frames.last().unwrap();
            if last.contains("\"rate_limited\"") {
                break serde_json::from_str::<Value>(last).unwrap();
            }
            bytes += last.len();
            assert!(bytes < 2 * limits::ANSWER_BYTES_BURST as usize, "{way}");
        };
        let most = limits::ANSWER_BYTES_BURST as usize + 2 * limits::FRAME_OUT_BYTES;
        let burst = limits::ANSWER_BYTES_BURST as usize - 2 * limits::ROW_BYTES;
        assert!((burst..most).contains(&bytes), "{bytes} of {way}");
        let wait = refused["error"]["retryAfterMs"].as_u64().expect("how long");
        w.advance(wait);
        w.send(alice, way);
        assert!(!w.frames(alice).concat().contains("rate_limited"));
    }
}

#[test]
fn who_reads_a_large_channel_can_go_on_to_write() {
    let mut w = World::without_backpressure();
    let alice = w.user("alice");
    large_rows(&mut w, "todos", 3);
    while w.subscribe(alice, "todos")["type"] == "snapshot" {}
    assert_eq!(
        w.create(alice, "m", "todos", json!({ "id": "mine" }))["type"],
        "ack"
    );
}

#[test]
fn who_does_not_read_answers_over_http_is_told_to_wait() {
    let mut w = World::without_backpressure();
    let data = json!({ "id": "k", "x": "x".repeat(limits::ROW_BYTES - 100) });
    let create = json!({ "id": "a", "channel": "todos", "action": "create", "data": data });
    let mut bytes = 0;
    for _ in 0..100 {
        let (_, answer) = w.write(Some("alice"), json!([create]));
        bytes += answer.to_string().len();
    }
    let burst = limits::ANSWER_BYTES_BURST as usize;
    assert!((burst / 3..burst + limits::TURN_OUT_BYTES).contains(&bytes));
    let (mut answers, mut refused) = (0, 0);
    for _ in 0..300 {
        let (_, answer) = w.write(Some("alice"), json!([create]));
        match answer.to_string().contains("rate_limited") {
            true => refused += 1,
            false => answers += 1,
        }
    }
    assert!(answers > 0 && refused > 0, "{answers} {refused}");
    assert!(100 + answers <= burst / (limits::ROW_BYTES - 100) + 2);
}

#[test]
fn deletes_of_what_is_not_there_are_bounded_like_writes() {
    let mut w = World::with_limits(&json!({ "storageBytes": 1_000_000 }));
    let to: Vec<String> = (0..16).map(|i| format!("{i:0260}")).collect();
    let delete = |i: usize| json!({ "channel": "notes", "action": "delete", "key": format!("k{i}"), "to": to });
    let refused = (0..400)
        .map(delete)
        .find_map(|change| match w.broadcast(change) {
            (200, _) => None,
            (status, answer) => Some((status, code(&answer).to_owned())),
        });
    assert_eq!(refused, Some((503, "unavailable".to_owned())));
}

#[test]
fn a_session_that_is_granted_more_than_it_can_remember_is_closed_and_forgotten() {
    let mut rules = channels();
    rules["vault:*"] = json!({ "read": "token", "write": "token" });
    let mut w = World::with_config(config_with(&rules, &[]));
    let alice = w.user("alice");
    let exp = w.now.0 / 1000 + 3_600;
    for i in 0..1_000 {
        let channel = format!("vault:{i}");
        let pass = token(&json!({ "channel": channel, "exp": exp }));
        let subscribe = json!({ "type": "subscribe", "channel": channel, "token": pass });
        w.ask(alice, subscribe);
        w.advance(100);
    }
    let topics: Vec<String> = (0..64).map(|i| format!("{i:064}")).collect();
    let larger = token(&json!({ "sub": "alice", "exp": exp, "topics": topics }));
    w.send(alice, json!({ "type": "auth", "token": larger }));
    assert_eq!(w.closed(alice), Some(4000));
    let stats = w.stats();
    assert_eq!(
        (&stats["connections"], &stats["subscriptions"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn a_row_that_leaves_the_sight_of_a_renewed_session_tells_no_time_but_its_own() {
    let mut w = World::new();
    let alice = w.user("alice");
    let bob = w.member("bob", &["team:a"]);
    w.subscribe(bob, "team:x");
    let row = json!({ "team": "a" });
    w.broadcast(json!({ "channel": "team:x", "action": "create", "key": "k", "data": row }));
    let made = w.now.0;
    w.messages(bob);
    w.advance(5_000);
    let secret = json!({ "id": "secret", "ownerId": "alice" });
    assert_eq!(w.create(alice, "n", "notes", secret)["type"], "ack");
    w.advance(5_000);
    let exp = w.now.0 / 1000 + 60;
    let less = token(&json!({ "sub": "bob", "exp": exp }));
    w.send(bob, json!({ "type": "auth", "token": less }));
    let told = w.messages(bob);
    assert_eq!(
        (&told[0]["action"], &told[0]["at"]),
        (&json!("delete"), &json!(made))
    );
    assert_eq!(told[1]["type"], "authed");
}
