//! A crash at every effect of a turn: everyone ends complete, nothing acknowledged is lost,
//! nothing runs twice.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidewire::{Call, ConnId};

use super::replica::Replica;
use super::world::World;

struct Client {
    user: &'static str,
    conn: ConnId,
    copy: Replica,
}

impl Client {
    fn new(w: &mut World, user: &'static str) -> Self {
        let mut client = Self {
            user,
            conn: w.user(user),
            copy: Replica::of("notes"),
        };
        client.copy.catch_up(w, client.conn, 100);
        client
    }

    /// Takes what has arrived; resumes if the server has closed the socket.
    fn settle(&mut self, w: &mut World) {
        self.copy.take(w, self.conn);
        if w.closed(self.conn).is_some() {
            assert_eq!(w.closed(self.conn), Some(4000));
            self.conn = w.user(self.user);
            self.copy.catch_up(w, self.conn, 100);
        }
    }
}

/// What a user should see, by the database.
fn truth(w: &mut World, user: &str) -> BTreeMap<String, Value> {
    let conn = w.user(user);
    let mut copy = Replica::of("notes");
    copy.catch_up(w, conn, 100);
    w.drop(conn);
    copy.rows
}

/// From here on nothing crashes.
fn calm(w: &mut World) -> &mut World {
    w.crash_after = None;
    w
}

/// Runs `work` with a crash at the first, the second, … effect, until it crashes no more.
fn at_every_effect(mut work: impl FnMut(&mut World, &mut [Client; 3])) -> u32 {
    for at in 0..1_000 {
        let mut w = World::new();
        let mut clients = ["alice", "bob", "bob"].map(|user| Client::new(&mut w, user));
        w.broadcast(json!({
            "channel": "notes", "action": "create", "key": "k",
            "data": { "ownerId": ["alice", "bob"] }
        }));
        for client in &mut clients {
            client.settle(&mut w);
        }
        w.crash_after = Some(at);
        work(&mut w, &mut clients);
        let crashed = w.crashes > 0;
        w.crash_after = None;
        for client in &mut clients {
            client.settle(&mut w);
        }
        for client in &clients {
            let expected = truth(&mut w, client.user);
            assert_eq!(
                client.copy.rows, expected,
                "{} after a crash at {at}",
                client.user
            );
        }
        if !crashed {
            return at;
        }
    }
    panic!("it never ends without a crash");
}

#[test]
fn a_mutation_is_executed_once_and_seen_by_all() {
    let effects = at_every_effect(|w, clients| {
        let message = json!({
            "type": "mutate", "id": "m", "channel": "notes", "action": "update", "key": "k",
            "data": { "n": 1, "ownerId": ["alice", "bob"] }
        });
        w.send(clients[0].conn, message.clone());
        let answers = w.messages(clients[0].conn);
        if !answers.iter().any(|answer| answer["type"] == "ack") {
            // No answer: reconnect and send it again, as every client does.
            clients[0].settle(w);
            w.send(clients[0].conn, message);
            let answers = w.messages(clients[0].conn);
            let ack = answers
                .iter()
                .find(|answer| answer["type"] == "ack")
                .unwrap();
            assert!(ack["replayed"].is_boolean());
        }
        assert_eq!(calm(w).stats()["seq"], 2, "executed once");
        // The sender's own copy: an ack is not an echo.
        clients[0].settle(w);
        let conn = clients[0].conn;
        clients[0].copy.catch_up(w, conn, 100);
    });
    assert!(effects >= 4, "only {effects} effects were crashed at");
}

#[test]
fn a_publish_with_an_idempotency_key_happens_once() {
    let effects = at_every_effect(|w, _| {
        let body = json!({
            "channel": "notes", "changes": [
                { "action": "create", "key": "new", "data": { "ownerId": "bob" } },
                { "action": "update", "key": "k", "data": { "ownerId": "bob" } },
            ]
        })
        .to_string();
        if w.try_call(Call::BroadcastBatch, &body, Some("once"))
            .is_none()
        {
            assert_eq!(w.publish(Call::BroadcastBatch, &body, Some("once")).0, 200);
        }
        assert_eq!(calm(w).stats()["seq"], 3);
    });
    assert!(effects >= 4, "only {effects} effects were crashed at");
}

#[test]
fn a_crash_while_connecting_and_subscribing_leaves_nobody_half_live() {
    at_every_effect(|w, clients| {
        clients[1].settle(w);
        let conn = w.try_connect("bob");
        if let Some(conn) = conn {
            w.send(
                conn,
                json!({ "type": "hello", "v": 1, "subscribe": [{ "channel": "notes" }] }),
            );
            let heard = !w.messages(conn).is_empty();
            let publish = json!({
                "channel": "notes", "action": "create", "key": "live", "data": { "ownerId": "bob" }
            });
            w.try_call(Call::Broadcast, publish.to_string(), None);
            // Whoever has been told its snapshot hears the change, or is told to reconnect.
            let told = w
                .messages(conn)
                .iter()
                .any(|message| message["key"] == "live");
            let published = calm(w).stats()["seq"] == 2;
            assert!(!heard || told || w.closed(conn).is_some() || !published);
        }
    });
}

#[test]
fn a_crash_in_trimming_keeps_the_sequence() {
    at_every_effect(|w, clients| {
        let body = json!({ "channel": "notes", "action": "delete", "key": "k" }).to_string();
        if w.try_call(Call::Broadcast, &body, Some("d")).is_none() {
            w.publish(Call::Broadcast, &body, Some("d"));
        }
        w.advance(tidewire::limits::RETENTION_MS + 24 * 60 * 60 * 1000);
        for _ in 0..3 {
            w.ring();
        }
        w.sleep();
        assert_eq!(calm(w).stats()["seq"], 2);
        for client in clients.iter_mut() {
            // Their tokens are over; others come.
            w.drop(client.conn);
            client.conn = w.user(client.user);
            client.copy.catch_up(w, client.conn, 100);
        }
    });
}
