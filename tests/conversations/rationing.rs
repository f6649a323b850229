//! How much one may send: per connection, per identity, and what happens to those who send more.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::world::World;
use super::{NOTHING, code, gist};

/// A world where a connection may send `own` messages a second, and an identity `shared`.
fn world(own: u32, shared: u32) -> World {
    World::with_limits(&json!({
        "messagesPerSecond": own, "identityMessagesPerSecond": shared
    }))
}

/// A message that is answered only when it is refused.
fn quiet() -> Value {
    json!({ "type": "unsubscribe", "channel": "todos" })
}

fn ping() -> Value {
    json!({ "type": "ping" })
}

fn create(id: &str) -> Value {
    json!({
        "type": "mutate", "id": id, "channel": "todos", "action": "create", "data": { "id": id }
    })
}

/// Sends `n` messages, as many as fit in each frame, and counts those that were refused.
fn refused(w: &mut World, conn: ConnId, n: usize) -> usize {
    for chunk in vec![quiet(); n].chunks(limits::FRAME_MESSAGES) {
        w.send(conn, Value::Array(chunk.to_vec()));
    }
    w.messages(conn).len()
}

/// How many more messages a connection may send at once.
fn left(w: &mut World, conn: ConnId) -> usize {
    w.messages(conn);
    let mut count = 0;
    while w.ask(conn, ping()) == "pong" {
        count += 1;
    }
    count
}

/// Says hello and sends whatever is left, so that the next message is one too many.
fn exhausted(w: &mut World, user: &str) -> ConnId {
    let conn = w.user(user);
    left(w, conn);
    conn
}

#[test]
fn a_connection_may_send_a_burst_of_2000_messages_and_no_more() {
    let mut w = World::new();
    let alice = w.user("alice");
    let burst = (limits::MESSAGES_PER_SECOND as u64 * limits::BURST_SECONDS) as usize;
    assert_eq!(burst, 2_000);
    // The hello was the first of them.
    assert_eq!(refused(&mut w, alice, burst - 1), 0);
    assert_eq!(refused(&mut w, alice, 1), 1);
    w.advance(1_000);
    let second = limits::MESSAGES_PER_SECOND as usize;
    assert_eq!(refused(&mut w, alice, second), 0);
    assert_eq!(refused(&mut w, alice, 1), 1);
}

#[test]
fn an_identity_may_send_4000_messages_over_all_its_connections() {
    let mut w = World::new();
    let conns: Vec<ConnId> = (0..3).map(|_| w.user("alice")).collect();
    let all = (limits::IDENTITY_MESSAGES_PER_SECOND as u64 * limits::BURST_SECONDS) as usize;
    assert_eq!(all, 4_000);
    // Three hellos are counted already.
    for (conn, messages) in [(0, 1_999), (1, 1_500), (2, all - 3 - 1_999 - 1_500)] {
        assert_eq!(refused(&mut w, conns[conn], messages), 0);
    }
    assert_eq!(refused(&mut w, conns[1], 1), 1);
    assert_eq!(refused(&mut w, conns[2], 1), 1);
}

#[test]
fn the_bound_of_an_identity_is_met_at_it_and_not_past_it() {
    let mut w = world(3, 5);
    let (one, two) = (w.user("alice"), w.user("alice"));
    assert_eq!(refused(&mut w, one, 29), 0);
    assert_eq!(refused(&mut w, two, 19), 0, "30 and 20 are 50");
    assert_eq!(
        refused(&mut w, two, 1),
        1,
        "although 10 of its own are left"
    );
    let (bob, nobody) = (w.user("bob"), w.nobody());
    assert_eq!(refused(&mut w, bob, 29), 0, "others have their own");
    assert_eq!(refused(&mut w, nobody, 29), 0);
}

#[test]
fn who_reconnects_finds_its_identitys_share_as_it_was() {
    let mut w = world(4, 5);
    let first = w.user("alice");
    assert_eq!(left(&mut w, first), 39);
    w.drop(first);
    let second = w.user("alice");
    assert_eq!(left(&mut w, second), 9);
    w.drop(second);
    let third = w.connect(Some("alice"), &[]);
    let hello = json!({ "type": "hello", "v": 1 });
    assert_eq!(code(&w.ask(third, hello.clone())), "rate_limited");
    assert_eq!(w.closed(third), None);
    w.advance(limits::RATE_RETRY_MS);
    assert_eq!(w.ask(third, hello)["type"], "welcome");
}

#[test]
fn each_message_counts_whatever_it_holds() {
    let subscribe = |channel: &str| json!({ "type": "subscribe", "id": "s", "channel": channel });
    let text = |message: Value| message.to_string();
    for (frame, messages) in [
        (text(json!([quiet(), quiet(), quiet()])), 3),
        (text(json!([quiet(), 7, { "type": "no such" }])), 3),
        (text(subscribe("todos")), 1),
        (text(subscribe("nowhere")), 1),
        (text(create("k")), 1),
        (text(json!({ "type": "auth", "token": "bad" })), 1),
        (
            text(json!({ "type": "signal", "channel": "todos", "event": "e" })),
            1,
        ),
        (
            text(json!({ "type": "hello", "v": 1, "subscribe": [subscribe("todos")] })),
            1,
        ),
        (r#"{"type": "ping"}"#.to_owned(), 1),
        ("[]".to_owned(), 1),
        ("no json".to_owned(), 1),
        (String::new(), 1),
        (
            text(Value::Array(vec![quiet(); limits::FRAME_MESSAGES + 1])),
            1,
        ),
    ] {
        let mut w = world(1, 100);
        let alice = w.user("alice");
        w.send_text(alice, &frame);
        let what = &frame[..frame.len().min(60)];
        assert_eq!(left(&mut w, alice), 9 - messages, "{what}");
    }
    let mut w = world(1, 100);
    let alice = w.user("alice");
    w.send_binary(alice);
    assert_eq!(left(&mut w, alice), 8, "a binary frame");
}

#[test]
fn each_subscription_of_a_hello_counts() {
    let subscribe = |id: usize| json!({ "id": id.to_string(), "channel": "todos" });
    let mut w = world(1, 100);
    let alice = w.connect(Some("alice"), &[]);
    let mut list: Vec<Value> = (0..10).map(subscribe).collect();
    list[0] = json!({ "id": "bad" });
    w.send(alice, json!({ "type": "hello", "v": 1, "subscribe": list }));
    let answers = w.messages(alice);
    assert_eq!(answers[0]["type"], "welcome");
    assert_eq!(code(&answers[1]), "malformed");
    assert!(answers[2..10].iter().all(|a| a["type"] == "snapshot"));
    let last = &answers[10];
    assert_eq!(
        (&last["type"], &last["id"], &last["channel"], code(last)),
        (
            &json!("reject"),
            &json!("9"),
            &json!("todos"),
            "rate_limited"
        )
    );
}

#[test]
fn a_refusal_names_its_request_and_how_long_to_wait() {
    let subscribe = json!({ "type": "subscribe", "id": "s", "channel": "todos" });
    let mut w = world(1, 100);
    let alice = exhausted(&mut w, "alice");
    for (message, id, channel) in [
        (subscribe, json!("s"), json!("todos")),
        (create("m"), json!("m"), json!("todos")),
        (
            json!({ "type": "mutate", "id": "m" }),
            json!("m"),
            Value::Null,
        ),
    ] {
        let answer = w.ask(alice, message);
        assert_eq!(answer["type"], "reject");
        assert_eq!((&answer["id"], &answer["channel"]), (&id, &channel));
        assert_eq!(code(&answer), "rate_limited");
        assert_eq!(answer["error"]["retryable"], true);
        assert_eq!(answer["error"]["retryAfterMs"], limits::RATE_RETRY_MS);
    }
    let answer = w.ask(alice, json!({ "type": "subscribe", "channel": "todos" }));
    assert_eq!(answer["type"], "reject");
    assert_eq!(
        (&answer["id"], &answer["channel"]),
        (&Value::Null, &json!("todos"))
    );
    for message in [
        quiet(),
        ping(),
        json!({ "type": "auth", "token": "x" }),
        json!(1),
    ] {
        let answer = w.ask(alice, message);
        assert_eq!(
            (&answer["type"], code(&answer)),
            (&json!("error"), "rate_limited")
        );
        assert_eq!(answer["error"]["retryAfterMs"], limits::RATE_RETRY_MS);
    }
    w.send_binary(alice);
    assert_eq!(code(&w.one(alice)), "rate_limited");
}

#[test]
fn a_legacy_client_is_refused_in_its_own_words() {
    let mut w = world(1, 100);
    let alice = w.connect(Some("alice"), &[]);
    for _ in 0..10 {
        w.send(alice, quiet());
    }
    let refusal = w.ask(alice, create("m"));
    assert_eq!(
        (&refusal["type"], &refusal["id"]),
        (&json!("reject"), &json!("m"))
    );
    assert!(refusal["error"].is_string());
    // As every refused subscription of a legacy client, whatever the reason.
    let refusal = w.ask(alice, json!({ "type": "subscribe", "channel": "todos" }));
    assert_eq!(
        (&refusal["type"], &refusal["id"]),
        (&json!("reject"), &json!("subscribe"))
    );
    assert_eq!(refusal["channel"], "todos");
    assert!(refusal["error"].is_string());
}

#[test]
fn who_waits_as_long_as_it_is_told_gets_on() {
    for (own, shared) in [(1, 100), (7, 3), (200, 1)] {
        let mut w = world(own, shared);
        let alice = exhausted(&mut w, "alice");
        for round in 0..5 {
            let refusal = w.ask(alice, create("m"));
            let wait = refusal["error"]["retryAfterMs"].as_u64().unwrap();
            w.advance(wait);
            let id = format!("m{round}");
            assert_eq!(w.ask(alice, create(&id))["type"], "ack");
            left(&mut w, alice);
        }
        assert_eq!(w.closed(alice), None);
    }
}

#[test]
fn a_frame_that_is_refused_in_part_is_done_in_part() {
    let mut w = world(1, 100);
    let alice = w.user("alice");
    let ids: Vec<String> = (0..12).map(|i| format!("m{i}")).collect();
    w.send(alice, ids.iter().map(|id| create(id)).collect());
    let answers = w.messages(alice);
    assert!(answers[..9].iter().all(|a| a["type"] == "ack"));
    assert!(answers[9..].iter().all(|a| code(a) == "rate_limited"));
    assert_eq!(w.stats()["seq"], 9);
}

#[test]
fn a_refused_mutation_is_executed_once_when_it_is_repeated() {
    let mut w = world(1, 100);
    let (alice, bob) = (exhausted(&mut w, "alice"), w.live("bob", "todos"));
    assert_eq!(code(&w.ask(alice, create("k"))), "rate_limited");
    assert_eq!(w.messages(bob), NOTHING);
    w.advance(2 * limits::RATE_RETRY_MS);
    let ack = w.ask(alice, create("k"));
    assert_eq!(
        (&ack["type"], &ack["replayed"]),
        (&json!("ack"), &json!(false))
    );
    assert_eq!(w.ask(alice, create("k"))["replayed"], true);
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
}

#[test]
fn who_does_not_wait_is_closed_with_4008_after_100_frames() {
    let mut w = world(1, 100);
    let bob = w.live("bob", "todos");
    let alice = exhausted(&mut w, "alice");
    // The frame that was refused first came in time.
    for _ in 0..limits::HASTY_FRAMES {
        assert_eq!(code(&w.ask(alice, quiet())), "rate_limited");
    }
    assert_eq!(w.closed(alice), None);
    w.send(alice, quiet());
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.closed(alice), Some(4008));
    // It comes back, and others have noticed nothing.
    let alice = w.live("alice", "todos");
    assert_eq!(w.messages(bob), NOTHING);
    assert_eq!(w.ask(bob, create("k"))["type"], "ack");
    assert_eq!(gist(&w.messages(alice)), ["create k"]);
}

#[test]
fn frames_that_cannot_be_read_are_hasty_too() {
    let mut w = world(1, 100);
    let alice = exhausted(&mut w, "alice");
    for i in 0..=limits::HASTY_FRAMES {
        match i % 2 {
            0 => w.send_binary(alice),
            _ => w.send_text(alice, "no json"),
        }
    }
    assert_eq!(w.closed(alice), Some(4008));
}

#[test]
fn who_waits_now_and_then_is_not_closed() {
    let mut w = world(1, 100);
    let alice = exhausted(&mut w, "alice");
    for _ in 0..5 {
        for _ in 0..limits::HASTY_FRAMES {
            w.send(alice, quiet());
        }
        w.advance(limits::RATE_RETRY_MS);
        w.send(alice, Value::Array(vec![quiet(); 3]));
    }
    assert_eq!(w.closed(alice), None);
}

#[test]
fn sleep_forgets_nothing_that_counts() {
    let burst = |sleeps: bool| {
        let mut w = world(2, 3);
        let (one, two) = (exhausted(&mut w, "alice"), exhausted(&mut w, "alice"));
        w.advance(limits::BURST_SECONDS * 1_000);
        if sleeps {
            w.sleep();
        }
        (left(&mut w, one), left(&mut w, two))
    };
    assert_eq!(burst(true), (20, 10));
    assert_eq!(burst(true), burst(false));
}
