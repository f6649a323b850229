//! How much may wait while a token is judged elsewhere.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::NOTHING;
use super::judging::{asking, good, world};
use super::world::World;

/// A mutation whose frame takes so many of the bytes that may wait.
fn create(id: usize, bytes: usize) -> String {
    let message = json!({
        "type": "mutate", "id": format!("m{id}"), "channel": "todos", "action": "create",
        "data": { "id": format!("k{id}") }
    });
    let text = message.to_string();
    let blanks = " ".repeat(bytes - limits::HELD_OVERHEAD - text.len());
    text + &blanks
}

/// Sends as much as one connection may let wait, in few frames, less so many bytes.
fn fill(w: &mut World, conn: ConnId, less: usize) -> usize {
    let part = limits::HELD_BYTES / 8;
    for id in 0..8 {
        let less = if id == 0 { less } else { 0 };
        w.send_text(conn, &create(id, part - less));
    }
    8
}

fn acks(answers: &[Value]) -> usize {
    answers.iter().filter(|a| a["type"] == "ack").count()
}

#[test]
fn one_mib_of_a_connection_waits_and_is_then_done() {
    let mut w = world();
    let alice = asking(&mut w, "alice");
    let sent = fill(&mut w, alice, 0);
    assert_eq!(w.closed(alice), None);
    good(&mut w, "alice", &[]);
    assert_eq!(acks(&w.messages(alice)), sent);
    // What was done makes room for more.
    w.send(alice, json!({ "type": "auth", "token": "x" }));
    fill(&mut w, alice, 0);
    assert_eq!(w.closed(alice), None);
}

#[test]
fn one_byte_more_closes_with_4008_and_nothing_is_lost() {
    let mut w = world();
    let (alice, bob) = (asking(&mut w, "alice"), w.live("bob", "todos"));
    fill(&mut w, alice, 0);
    w.send_text(alice, "");
    assert_eq!(w.closed(alice), Some(4008));
    assert_eq!(w.messages(alice), NOTHING);
    good(&mut w, "alice", &[]);
    assert_eq!(
        (w.stats()["seq"].as_u64(), w.messages(bob).len()),
        (Some(0), 0)
    );
    let again = w.user("alice");
    fill(&mut w, again, 0);
    assert_eq!(acks(&w.messages(again)), 8);
    assert_eq!(w.stats()["seq"], 8);
}

#[test]
fn the_rest_of_an_array_takes_room_as_well() {
    let array = |bytes: usize| {
        let text = json!([{ "type": "auth", "token": "x" }, { "type": "ping" }]).to_string();
        let blanks = " ".repeat(bytes - limits::HELD_OVERHEAD - text.len());
        text + &blanks
    };
    let part = limits::HELD_BYTES / 8;
    for (more, closed) in [(0, None), (1, Some(4008))] {
        let mut w = world();
        let alice = w.user("alice");
        w.send_text(alice, &array(part + more));
        for id in 0..6 {
            w.send_text(alice, &create(id, part));
        }
        w.send_text(alice, &create(7, part - limits::HELD_OVERHEAD));
        assert_eq!(w.closed(alice), None);
        w.send_text(alice, "");
        assert_eq!(w.closed(alice), closed, "an empty frame takes the overhead");
    }
}

#[test]
fn eight_mib_of_a_space_wait_and_who_sends_more_is_closed() {
    let mut w = world();
    let most = limits::HELD_BYTES_OF_SPACE / limits::HELD_BYTES;
    let conns: Vec<ConnId> = (0..most)
        .map(|i| asking(&mut w, &format!("user{i}")))
        .collect();
    let (bob, carol) = (asking(&mut w, "bob"), w.user("carol"));
    for conn in &conns {
        fill(&mut w, *conn, 0);
    }
    assert!(conns.iter().all(|conn| w.closed(*conn).is_none()));
    w.send_text(bob, "");
    assert_eq!(
        w.closed(bob),
        Some(4008),
        "there is no room for anything of others"
    );
    // Who lets nothing wait is not touched, and those who waited go on.
    assert_eq!(
        w.create(carol, "m", "todos", json!({ "id": "c" }))["type"],
        "ack"
    );
    for (i, conn) in conns.iter().enumerate() {
        good(&mut w, &format!("user{i}"), &[]);
        assert_eq!(acks(&w.messages(*conn)), 8);
    }
    // All of it is given back.
    let again = asking(&mut w, "bob");
    fill(&mut w, again, 0);
    assert_eq!(w.closed(again), None);
}

#[test]
fn who_leaves_gives_its_room_back() {
    let mut w = world();
    for _ in 0..2 {
        for i in 0..8 {
            let conn = asking(&mut w, &format!("user{i}"));
            fill(&mut w, conn, 0);
            assert_eq!(w.closed(conn), None);
            if i % 2 == 0 {
                w.drop(conn);
            } else {
                w.send_text(conn, "");
                assert_eq!(w.closed(conn), Some(4008));
            }
        }
    }
}
