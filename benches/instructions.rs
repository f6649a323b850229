//! What the engine does for one message of each kind, for callgrind to count: scripts/instructions.sh.
//!
//! Only `measured` and `woken` are counted, each `TIMES` times after as many that warm it up; what a
//! host does with the effects is not.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

#[path = "../tests/world/mod.rs"]
mod world;

use serde_json::{Value, json};
use tidewire::{Call, ConnId, Effects, Engine, Input, Millis, Publisher};

use world::World;
use world::sqlite::Sqlite;

/// How often each message is counted.
const TIMES: u32 = 10;

/// Gives the engine an input. Callgrind counts from its beginning to its end.
#[inline(never)]
fn measured(engine: &mut Engine<Sqlite>, input: Input<'_>, now: Millis) -> Effects {
    engine.handle(input, now)
}

/// A life of the object from SQLite and attachments. Callgrind counts this, too.
#[inline(never)]
fn woken(w: &World, sockets: Vec<(ConnId, Option<Vec<u8>>)>) -> Engine<Sqlite> {
    let mut engine = w.open().unwrap();
    engine.wake(false, sockets);
    engine
}

/// Gives the world an input, counted or not.
fn turn(w: &mut World, input: Input<'_>, counts: bool) {
    let effects = match counts {
        true => measured(&mut w.engine, input, w.now),
        false => w.engine.handle(input, w.now),
    };
    w.perform(effects);
}

/// Sends a message `2 * TIMES` times, and counts the second half of them.
fn frames(w: &mut World, conn: ConnId, message: impl Fn(u32) -> Value) {
    for n in 0..2 * TIMES {
        let text = message(n).to_string();
        let text = &text;
        turn(w, Input::Frame { conn, text }, n >= TIMES);
        w.frames(conn);
    }
}

fn calls(w: &mut World, call: Call, body: impl Fn(u32) -> Value) {
    for n in 0..2 * TIMES {
        let body = body(n).to_string();
        let input = Input::Call {
            call,
            publisher: &Publisher::Unscoped,
            body: Ok(body.as_bytes()),
            idempotency_key: None,
            seed: None,
        };
        turn(w, input, n >= TIMES);
    }
}

/// Live subscribers of `todos`, of whom the first ten are of one team and the next ten of another.
fn subscribers(w: &mut World, count: usize) -> Vec<ConnId> {
    let one = |n: usize| {
        let topics: &[&str] = match n {
            0..10 => &["team:a"],
            10..20 => &["team:b"],
            _ => &[],
        };
        let conn = w.member(&format!("user{n}"), topics);
        w.subscribe(conn, "todos");
        conn
    };
    (0..count).map(one).collect()
}

/// A row as an app would have it: about 200 bytes.
fn row(n: u32) -> Value {
    json!({
        "title": format!("number {n}"), "done": n.is_multiple_of(2), "position": n,
        "text": "the quick brown fox jumps over the lazy dog, and then it sits down for a while",
        "tags": ["home", "garden"], "author": { "name": "somebody", "id": 4711 }
    })
}

fn update(n: u32) -> Value {
    json!({ "channel": "todos", "action": "update", "key": "k", "data": row(n) })
}

fn publish(count: usize) {
    let mut w = World::new();
    subscribers(&mut w, count);
    calls(&mut w, Call::Broadcast, update);
}

/// Publishes one row to the teams by turns.
fn publish_scoped(action: &str, teams: &[&str]) {
    let mut w = World::new();
    subscribers(&mut w, 1_000);
    calls(&mut w, Call::Broadcast, |n| {
        let mut body = update(n);
        let team = teams[n as usize % teams.len()];
        (body["action"], body["to"]) = (json!(action), json!([team]));
        body
    });
}

fn batch() {
    let mut w = World::new();
    subscribers(&mut w, 1_000);
    calls(&mut w, Call::BroadcastBatch, |n| {
        let change = |i| json!({ "action": "update", "key": format!("k{i}"), "data": row(n) });
        let changes: Vec<Value> = (0..100).map(change).collect();
        json!({ "channel": "todos", "changes": changes })
    });
}

fn mutation(n: u32) -> Value {
    let mut message = update(n);
    (message["type"], message["id"]) = (json!("mutate"), json!(format!("m{n}")));
    message["data"]["id"] = json!("k");
    message
}

fn mutate() {
    let mut w = World::new();
    let writer = subscribers(&mut w, 2)[0];
    w.create(writer, "m", "todos", json!({ "id": "k" }));
    frames(&mut w, writer, mutation);
}

fn repeat() {
    let mut w = World::new();
    let writer = subscribers(&mut w, 2)[0];
    w.create(writer, "m", "todos", json!({ "id": "k" }));
    w.send(writer, mutation(0));
    w.frames(writer);
    frames(&mut w, writer, |_| mutation(0));
}

/// Five channels, in each of which somebody who comes back has missed two rows.
fn hello() {
    let mut w = World::without_backpressure();
    let channels = ["todos", "notes", "feed", "open", "timed"];
    let publish = |w: &mut World, channel: &str, n: u32| {
        let key = format!("k{n}");
        w.broadcast(json!({ "channel": channel, "action": "create", "key": key, "data": row(n), "to": "all" }));
    };
    let mut places = Vec::new();
    let alice = w.user("alice");
    for channel in channels {
        for n in 0..20 {
            publish(&mut w, channel, n);
        }
    }
    for channel in channels {
        places.push(w.subscribe(alice, channel));
    }
    for channel in channels {
        publish(&mut w, channel, 20);
        publish(&mut w, channel, 21);
    }
    let subscribe: Vec<Value> = channels
        .iter()
        .zip(&places)
        .map(|(channel, place)| {
            json!({
                "id": *channel, "channel": *channel, "cursor": place["cursor"], "view": place["view"]
            })
        })
        .collect();
    let text = json!({ "type": "hello", "v": 1, "subscribe": subscribe }).to_string();
    for n in 0..2 * TIMES {
        let conn = w.connect(Some("alice"), &[]);
        turn(&mut w, Input::Frame { conn, text: &text }, n >= TIMES);
        assert!(w.frames(conn).concat().contains("k21"), "both rows came");
        w.drop(conn);
        w.advance(1_000);
    }
}

/// A hundred rows of ten thousand.
fn catch_up() {
    let mut w = World::without_backpressure();
    let alice = w.user("alice");
    let fill = |w: &mut World, rows: std::ops::Range<u32>| {
        let change = |n| json!({ "action": "create", "key": format!("k{n}"), "data": row(n) });
        let changes: Vec<Value> = rows.map(change).collect();
        w.broadcast_batch(json!({ "channel": "feed", "changes": changes }));
    };
    for part in 0..10 {
        fill(&mut w, part * 1_000..(part + 1) * 1_000);
    }
    let mut place = w.subscribe(alice, "feed");
    while place["more"] == true {
        place = w.resume(alice, "feed", &place["cursor"], &place["view"]);
    }
    w.send(alice, json!({ "type": "unsubscribe", "channel": "feed" }));
    fill(&mut w, 500..600);
    for n in 0..2 * TIMES {
        let text = json!({
            "type": "subscribe", "id": "s", "channel": "feed",
            "cursor": place["cursor"], "view": place["view"]
        });
        let text = text.to_string();
        turn(
            &mut w,
            Input::Frame {
                conn: alice,
                text: &text,
            },
            n >= TIMES,
        );
        let page: Value = serde_json::from_str(&w.frames(alice)[0]).unwrap();
        assert_eq!(page["data"].as_array().map(Vec::len), Some(100));
        w.send(alice, json!({ "type": "unsubscribe", "channel": "feed" }));
        w.advance(1_000);
    }
}

fn ping() {
    let mut w = World::new();
    let alice = w.user("alice");
    frames(&mut w, alice, |_| json!({ "type": "ping" }));
}

/// One of a hundred who are there moves.
fn presence() {
    let mut w = World::new();
    let mut last = None;
    for n in 0..100 {
        let conn = w.live(&format!("user{n}"), "open");
        w.send(
            conn,
            json!({ "type": "presence", "channel": "open", "state": { "at": 0 } }),
        );
        last = Some(conn);
    }
    frames(
        &mut w,
        last.unwrap(),
        |n| json!({ "type": "presence", "channel": "open", "state": { "at": n + 1 } }),
    );
}

fn wake() {
    let mut w = World::new();
    subscribers(&mut w, 1_000);
    for _ in 0..TIMES {
        let sockets = w.attachments();
        w.engine = woken(&w, sockets);
    }
}

/// Each by its name.
const KINDS: [(&str, fn()); 13] = [
    ("publish to 1", || publish(1)),
    ("publish to 1,000", || publish(1_000)),
    ("publish to 10 of 1,000", || {
        publish_scoped("update", &["team:a"])
    }),
    ("publish whole to 10 of 1,000", || {
        publish_scoped("create", &["team:a"])
    }),
    ("publish whole, moved from 10 to 10 others", || {
        publish_scoped("create", &["team:a", "team:b"])
    }),
    ("batch of 100 to 1,000", batch),
    ("mutation", mutate),
    ("mutation repeated", repeat),
    ("hello with 5 subscriptions", hello),
    ("catch-up of 100 rows of 10,000", catch_up),
    ("ping", ping),
    ("presence told to 99", presence),
    ("wake with 1,000 sockets", wake),
];

fn main() {
    let wanted = std::env::args().nth(1).unwrap_or_default();
    match KINDS.iter().find(|(name, _)| *name == wanted) {
        Some((_, run)) => run(),
        // Cargo's own arguments name no kind.
        None => {
            let names = KINDS.map(|(name, _)| name);
            println!("{}", json!({ "times": TIMES, "kinds": names }));
        }
    }
}
