//! How many connections there may be: of an identity, and of a space.

use serde_json::{Value, json};
use tidewire::{Call, ConnId, Reply, limits};

use super::code;
use super::world::World;

#[track_caller]
fn refusal(answer: Result<ConnId, Reply>) -> (u16, Value) {
    let reply = answer.expect_err("a refusal");
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

/// Tries to connect a user, or nobody.
fn connect(w: &mut World, user: Option<&str>) -> Result<ConnId, Reply> {
    let until = user.map(|_| w.now.plus(60_000));
    w.connect_until(user, &[], until)
}

#[test]
fn an_identity_has_1000_connections_at_most() {
    let mut w = World::new();
    let conns: Vec<ConnId> = (0..limits::CONNECTIONS_PER_IDENTITY)
        .map(|_| connect(&mut w, Some("alice")).unwrap())
        .collect();
    let (status, body) = refusal(connect(&mut w, Some("alice")));
    assert_eq!((status, code(&body)), (429, "rate_limited"));
    assert_eq!(body["error"]["retryable"], true);
    assert_eq!(body["error"]["retryAfterMs"], limits::CONNECTIONS_RETRY_MS);
    assert!(
        connect(&mut w, Some("bob")).is_ok(),
        "others are not touched"
    );
    w.drop(conns[500]);
    assert!(connect(&mut w, Some("alice")).is_ok());
    assert!(connect(&mut w, Some("alice")).is_err());
}

#[test]
fn an_identitys_bound_can_be_set_and_holds_after_sleep() {
    let mut w = World::with_limits(&json!({ "connectionsPerIdentity": 2 }));
    let first = w.user("alice");
    let second = w.user("alice");
    assert_eq!(refusal(connect(&mut w, Some("alice"))).0, 429);
    w.sleep();
    assert_eq!(refusal(connect(&mut w, Some("alice"))).0, 429);
    // Those that are there are not disturbed.
    for conn in [first, second] {
        assert_eq!(w.subscribe(conn, "todos")["type"], "snapshot");
    }
    // An identity whose name begins alike is another one.
    assert!(connect(&mut w, Some("alice2")).is_ok());
    w.call(Call::Disconnect, json!({ "identity": "alice" }));
    w.advance(1);
    assert!(
        connect(&mut w, Some("alice")).is_ok(),
        "closed by the server, too"
    );
}

#[test]
fn an_ended_session_makes_room() {
    let mut w = World::with_limits(&json!({ "connectionsPerIdentity": 1 }));
    let alice = connect(&mut w, Some("alice")).unwrap();
    assert!(connect(&mut w, Some("alice")).is_err());
    w.advance(60_000);
    assert!(connect(&mut w, Some("alice")).is_ok());
    assert_eq!(w.closed(alice), Some(4001));
}

#[test]
fn who_has_no_identity_counts_for_the_space_alone() {
    let mut w = World::with_limits(&json!({ "connectionsPerIdentity": 1, "connections": 3 }));
    let first = connect(&mut w, None).unwrap();
    for _ in 0..2 {
        assert!(connect(&mut w, None).is_ok());
    }
    for user in [None, Some("alice")] {
        let (status, body) = refusal(connect(&mut w, user));
        assert_eq!((status, code(&body)), (503, "unavailable"));
        assert_eq!(body["error"]["retryable"], true);
    }
    w.sleep();
    assert!(connect(&mut w, None).is_err());
    w.drop(first);
    assert!(connect(&mut w, Some("alice")).is_ok());
    assert_eq!(
        refusal(connect(&mut w, Some("alice"))).0,
        503,
        "the space is asked first"
    );
}

#[test]
fn an_address_without_an_identity_has_as_many_as_an_identity() {
    let mut w = World::with_limits(&json!({ "connectionsPerIdentity": 2 }));
    w.address = Some("one".into());
    let first = w.nobody();
    assert!(connect(&mut w, None).is_ok());
    let (status, body) = refusal(connect(&mut w, None));
    assert_eq!((status, code(&body)), (429, "rate_limited"));
    w.sleep();
    assert_eq!(refusal(connect(&mut w, None)).0, 429, "known after sleep");
    assert!(
        connect(&mut w, Some("alice")).is_ok(),
        "who signs in counts for itself"
    );
    w.address = Some("two".into());
    assert!(connect(&mut w, None).is_ok());
    w.address = Some("one".into());
    w.drop(first);
    assert!(connect(&mut w, None).is_ok());
    assert!(connect(&mut w, None).is_err());
    // Its name is nobody's topic: an identity of the same name is somebody else.
    assert!(connect(&mut w, Some("one")).is_ok());
    assert!(connect(&mut w, Some("one")).is_ok());
}

#[test]
fn who_is_refused_takes_no_room() {
    let mut w = World::with_limits(&json!({ "connectionsPerIdentity": 1, "connections": 2 }));
    assert!(connect(&mut w, Some("alice")).is_ok());
    for _ in 0..10 {
        assert_eq!(refusal(connect(&mut w, Some("alice"))).0, 429);
    }
    assert_eq!(w.stats()["connections"], 1);
    assert!(connect(&mut w, Some("bob")).is_ok());
}

#[test]
fn a_full_space_still_says_who_one_is() {
    let mut w = World::with_limits(&json!({ "connectionsPerIdentity": 1, "connections": 1 }));
    assert!(connect(&mut w, Some("alice")).is_ok());
    for user in ["alice", "bob"] {
        let issued_at = w.now;
        let (status, body) = w.session(user, issued_at);
        assert_eq!((status, &body["identity"]), (200, &json!(user)));
    }
    let change = json!({ "channel": "todos", "action": "create", "key": "k", "data": {} });
    assert_eq!(w.broadcast(change).0, 200);
}
