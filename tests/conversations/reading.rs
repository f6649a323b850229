//! Readers over HTTP: one page at a time, by the same rules as a subscription.

use serde_json::json;
use tidewire::{Call, Millis, limits};

use super::world::World;
use super::world::readers::reads;
use super::{code, ids};

#[test]
fn a_page_is_what_a_subscription_is_answered_with() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "a" }));
    w.create(alice, "m2", "todos", json!({ "id": "b" }));
    let (status, first) = w.page(&reads("bob", "todos"));
    assert_eq!((status, ids(&first)), (200, vec!["a", "b"]));
    w.delete(alice, "m3", "todos", "a");
    w.create(alice, "m4", "todos", json!({ "id": "c" }));
    let (_, http) = w.page(&reads("bob", "todos").after(&first));
    let bob = w.user("bob");
    let mut socket = w.resume(bob, "todos", &first["cursor"], &first["view"]);
    socket.as_object_mut().unwrap().remove("id");
    assert_eq!(http, socket);
    assert_eq!(
        (&http["mode"], &http["deleted"]),
        (&json!("delta"), &json!(["a"]))
    );
}

#[test]
fn pages_follow_one_another_by_their_cursors_and_tell_who_on_request() {
    let mut w = World::new();
    let alice = w.user("alice");
    for i in 0..5 {
        w.create(
            alice,
            &format!("m{i}"),
            "todos",
            json!({ "id": format!("k{i}") }),
        );
    }
    let mut read = reads("bob", "todos").with("limit", 2).with("meta", true);
    let mut seen = Vec::new();
    loop {
        let (_, page) = w.page(&read);
        assert_eq!(page["mode"], if seen.is_empty() { "full" } else { "delta" });
        for id in ids(&page) {
            assert_eq!(page["meta"][id]["by"], "alice");
            seen.push(id.to_owned());
        }
        if page["more"] == false {
            break;
        }
        read = reads("bob", "todos")
            .with("limit", 2)
            .with("meta", true)
            .after(&page);
    }
    assert_eq!(seen, ["k0", "k1", "k2", "k3", "k4"]);
}

#[test]
fn a_page_holds_what_its_reader_may_see() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(
        alice,
        "m1",
        "notes",
        json!({ "id": "n1", "ownerId": "alice" }),
    );
    let (_, hers) = w.page(&reads("alice", "notes"));
    assert_eq!(ids(&hers), ["n1"]);
    let (_, his) = w.page(&reads("bob", "notes"));
    assert_eq!((ids(&his), &his["deleted"]), (vec![], &json!([])));
    // With her place he gets a full answer of his own.
    let (_, page) = w.page(&reads("bob", "notes").after(&hers));
    assert_eq!((&page["mode"], ids(&page)), (&json!("full"), vec![]));
}

#[test]
fn a_reader_is_refused_like_a_subscription() {
    let mut w = World::new();
    let mut nobody = reads("", "todos");
    nobody.user = None;
    for (read, status, what) in [
        (reads("alice", "nowhere"), 400, "unknown_channel"),
        (reads("alice", "room:1"), 403, "forbidden"),
        (reads("alice", "drop"), 403, "forbidden"),
        (nobody, 401, "unauthorized"),
        (
            reads("alice", "todos").with("cursor", "no cursor"),
            400,
            "malformed",
        ),
        (reads("alice", "todos").with("limit", 0), 400, "malformed"),
        (reads("alice", ""), 400, "invalid"),
    ] {
        let (got, body) = w.page(&read);
        assert_eq!((got, code(&body)), (status, what));
        let streamed = w.slow_stream(&read).unwrap_err();
        assert_eq!(
            streamed.status, status,
            "a stream is refused before it begins"
        );
    }
    let mut late = reads("alice", "todos");
    late.seconds = 0;
    assert_eq!(w.page(&late).0, 401);
    w.call(Call::Disconnect, json!({ "identity": "alice" }));
    assert_eq!(w.page(&reads("alice", "todos")).0, 401);
    w.advance(1);
    assert_eq!(
        w.page(&reads("alice", "todos")).0,
        200,
        "a token issued since"
    );
    assert_eq!(w.stats()["connections"], 0, "none of them has stayed");
}

#[test]
fn requests_of_a_caller_have_the_rate_of_one_connection() {
    let mut w =
        World::with_limits(&json!({ "messagesPerSecond": 2, "identityMessagesPerSecond": 3 }));
    for _ in 0..20 {
        assert_eq!(w.page(&reads("alice", "todos")).0, 200);
    }
    let (status, body) = w.page(&reads("alice", "todos"));
    assert_eq!((status, code(&body)), (429, "rate_limited"));
    let wait = body["error"]["retryAfterMs"].as_u64().unwrap();
    assert_eq!(
        w.page(&reads("bob", "todos")).0,
        200,
        "others have their own"
    );
    // Sockets of the identity share what is left of its bucket.
    let alice = w.user("alice");
    for i in 0..9 {
        assert_eq!(
            w.create(alice, &i.to_string(), "todos", json!({ "id": "k" }))["type"],
            "ack"
        );
    }
    assert_eq!(
        code(&w.create(alice, "m", "todos", json!({ "id": "k" }))),
        "rate_limited"
    );
    w.advance(wait);
    assert_eq!(w.page(&reads("alice", "todos")).0, 200);
}

#[test]
fn who_reads_too_many_bytes_is_told_to_wait() {
    let mut w = World::new();
    let alice = w.user("alice");
    for i in 0..4 {
        let row = json!({ "id": format!("k{i}"), "text": "x".repeat(200_000) });
        w.create(alice, &format!("m{i}"), "todos", row);
    }
    let mut pages: u64 = 0;
    let refused = loop {
        let (status, body) = w.page(&reads("bob", "todos"));
        if status != 200 {
            break body;
        }
        pages += 1;
    };
    assert_eq!(code(&refused), "rate_limited");
    let most = limits::ANSWER_BYTES_BURST / 800_000;
    assert!((most..most + 2).contains(&pages), "{pages}");
    w.advance(refused["error"]["retryAfterMs"].as_u64().unwrap());
    assert_eq!(w.page(&reads("bob", "todos")).0, 200);
}

#[test]
fn a_full_space_still_answers_pages() {
    let mut w = World::with_limits(&json!({ "connections": 1 }));
    let alice = w.user("alice");
    assert_eq!(w.page(&reads("bob", "todos")).0, 200);
    let full = w.slow_stream(&reads("bob", "todos")).unwrap_err();
    assert_eq!(full.status, 503);
    w.drop(alice);
    assert!(w.slow_stream(&reads("bob", "todos")).is_ok());
    let refused = w
        .connect_until(Some("carol"), &[], Some(Millis(u64::MAX)))
        .unwrap_err();
    assert_eq!(refused.status, 503, "readers that stay are connections");
}
