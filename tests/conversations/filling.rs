//! A space whose storage is full: it refuses writes before SQLite fails, and nothing else.

use serde_json::{Value, json};
use tidewire::{Call, ConnId, limits};

use super::replica::Replica;
use super::world::World;
use super::{NOTHING, code};

/// The smallest bound that can be set.
const BOUND: u64 = 1_000_000;

fn world() -> World {
    World::with_limits(&json!({ "storageBytes": BOUND }))
}

fn row(key: &str, bytes: usize) -> Value {
    json!({ "id": key, "t": "x".repeat(bytes) })
}

fn change(key: &str, bytes: usize) -> Value {
    json!({ "channel": "todos", "action": "create", "key": key, "data": row(key, bytes) })
}

fn size(w: &World) -> u64 {
    w.sqlite.number(
        "SELECT (page_count - freelist_count) * page_size
         FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
    )
}

/// Publishes rows of 100 kB until one is refused. How many there are.
fn fill(w: &mut World) -> usize {
    let count = (0..100).take_while(|i| w.broadcast(change(&format!("f{i}"), 100_000)).0 == 200);
    count.count()
}

/// Connects a user who is live after as many pages as it takes.
fn live(w: &mut World, user: &str) -> ConnId {
    let conn = w.user(user);
    Replica::of("todos").catch_up(w, conn, 500);
    conn
}

/// A world that is full, with somebody live on the channel.
fn full() -> (World, ConnId) {
    let mut w = world();
    assert!((8..10).contains(&fill(&mut w)));
    let alice = live(&mut w, "alice");
    (w, alice)
}

#[test]
fn the_bound_is_passed_by_no_more_than_a_step() {
    let mut w = world();
    for i in 0..2_000 {
        w.broadcast(change(&format!("k{i}"), 1_000));
    }
    // What is written between two looks at the size comes on top, with what SQLite adds to it:
    // rows of this size take an overflow page each.
    let most = BOUND + 6 * limits::STORAGE_STEP_BYTES as u64;
    assert!((BOUND * 9 / 10..=most).contains(&size(&w)), "{}", size(&w));
    let (status, answer) = w.broadcast(change("k", 1_000));
    assert_eq!((status, code(&answer)), (503, "unavailable"));
    assert_eq!(w.faults, [""; 0], "it is no fault of ours");
}

#[test]
fn a_row_that_just_fits_is_written_and_one_byte_more_is_not() {
    let beside = "todos".len() + "k".len() + limits::WRITE_OVERHEAD;
    let blank = (row("k", 0).to_string().len() + beside) as u64;
    let outcome = |more: u64| {
        let mut w = world();
        for i in 0..8 {
            assert_eq!(w.broadcast(change(&format!("f{i}"), 100_000)).0, 200);
        }
        let room = BOUND - size(&w) - blank + more;
        w.broadcast(change("k", room as usize)).0
    };
    assert_eq!((outcome(0), outcome(1)), (200, 503));
}

#[test]
fn clients_and_publishers_are_refused_and_told_to_try_again() {
    let (mut w, alice) = full();
    let bob = live(&mut w, "bob");
    let seq = w.stats()["seq"].clone();
    let refusal = w.create(alice, "m", "todos", row("k", 100_000));
    assert_eq!(
        (&refusal["type"], code(&refusal)),
        (&json!("reject"), "unavailable")
    );
    assert_eq!(refusal["error"]["retryable"], true);
    let larger = w.update(alice, "u", "todos", row("f0", 100_001));
    assert_eq!(code(&larger), "unavailable");
    let (status, answer) = w.broadcast(change("k", 100_000));
    assert_eq!((status, code(&answer)), (503, "unavailable"));
    assert_eq!(
        (w.messages(bob), &w.stats()["seq"]),
        (NOTHING.to_vec(), &seq)
    );
}

#[test]
fn a_batch_is_written_whole_or_not_at_all() {
    let mut w = world();
    let bob = w.live("bob", "todos");
    let changes: Vec<Value> = (0..12).map(|i| change(&format!("k{i}"), 100_000)).collect();
    let (status, answer) = w.broadcast_batch(json!({ "events": changes }));
    assert_eq!((status, code(&answer)), (503, "unavailable"));
    assert_eq!(
        (w.messages(bob), w.stats()["seq"].as_u64()),
        (NOTHING.to_vec(), Some(0))
    );
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
    let (status, _) = w.broadcast_batch(json!({ "events": &changes[..8] }));
    assert_eq!(status, 200, "what was rolled back takes no room");
}

#[test]
fn a_refused_write_is_not_remembered_and_succeeds_when_there_is_room() {
    let (mut w, alice) = full();
    let body = change("k", 100_000).to_string();
    assert_eq!(w.publish(Call::Broadcast, &body, Some("once")).0, 503);
    assert_eq!(
        code(&w.create(alice, "m", "todos", row("l", 100_000))),
        "unavailable"
    );
    for key in ["f0", "f1", "f2"] {
        w.delete(alice, key, "todos", key);
    }
    let (status, answer) = w.publish(Call::Broadcast, &body, Some("once"));
    assert_eq!(status, 200);
    assert_eq!(w.publish(Call::Broadcast, &body, Some("once")).1, answer);
    w.messages(alice);
    let ack = w.create(alice, "m", "todos", row("l", 100_000));
    assert_eq!(
        (&ack["type"], &ack["replayed"]),
        (&json!("ack"), &json!(false))
    );
}

#[test]
fn reading_and_deleting_go_on_and_deleting_makes_room() {
    let (mut w, alice) = full();
    let refused = |w: &mut World, id: &str| {
        code(&w.create(alice, id, "todos", row("k", 100_000))) == "unavailable"
    };
    assert!(refused(&mut w, "m1"));
    let bob = w.user("bob");
    let mut copy = Replica::of("todos");
    copy.catch_up(&mut w, bob, 500);
    assert_eq!(
        copy.rows.len() as u64,
        w.sqlite.number("SELECT count(*) FROM rows")
    );
    // Also after waking, when nothing is known of the size yet.
    w.sleep();
    assert!(refused(&mut w, "m2"));
    assert_eq!(w.delete(alice, "d1", "todos", "f0")["type"], "ack");
    assert_eq!(w.one(bob)["action"], "delete");
    assert_eq!(w.delete(alice, "d2", "todos", "f1")["type"], "ack");
    assert_eq!(
        w.create(alice, "m3", "todos", row("k", 100_000))["type"],
        "ack"
    );
    let delete = json!({ "channel": "todos", "action": "delete", "key": "f2" });
    assert_eq!(w.broadcast(delete).0, 200);
}

#[test]
fn one_batch_may_make_room_and_use_it() {
    let (mut w, _) = full();
    let delete = |key: &str| json!({ "channel": "todos", "action": "delete", "key": key });
    let create = change("k", 100_000);
    let batch = json!({ "events": [delete("f0"), delete("f1"), create] });
    assert_eq!(w.broadcast_batch(batch).0, 200);
}

#[test]
fn the_size_is_not_asked_for_with_each_write() {
    let mut w = World::new();
    let alice = w.user("alice");
    for i in 0..1_000 {
        let id = format!("m{i}");
        assert_eq!(w.create(alice, &id, "todos", row(&id, 100))["type"], "ack");
        w.advance(10);
    }
    let asked = w.sqlite.sizes.get();
    assert!((1..=8).contains(&asked), "asked {asked} times for 128 kB");
    let written = 130 * limits::STORAGE_STEP_BYTES;
    for i in 0..written / 100_000 {
        assert_eq!(w.broadcast(change(&format!("l{}", i % 10), 100_000)).0, 200);
    }
    assert!(w.sqlite.sizes.get() - asked <= 130);
    let before = w.sqlite.sizes.get();
    for key in ["m1", "m2", "m3"] {
        w.delete(alice, &format!("d{key}"), "todos", key);
        w.subscribe(alice, "todos");
    }
    assert_eq!(
        w.sqlite.sizes.get(),
        before,
        "reads and deletes need not know"
    );
}

#[test]
fn an_operators_calls_go_on() {
    let (mut w, alice) = full();
    assert_eq!(
        w.call(Call::BroadcastReset, json!({ "channel": "todos" }))
            .0,
        200
    );
    assert_eq!(w.one(alice)["type"], "channel-reset");
    assert_eq!(
        w.call(
            Call::Topics,
            json!({ "identity": "alice", "remove": ["x"] })
        )
        .0,
        200
    );
    assert_eq!(
        w.call(Call::Disconnect, json!({ "identity": "alice" })).0,
        200
    );
    assert_eq!(w.call(Call::Epoch, json!({})).0, 200);
}
