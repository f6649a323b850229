//! Calls of operators: reset, change, disconnect, topics, epoch.

use serde_json::{Value, json};
use tidewire::{Call, limits};

use super::world::World;
use super::{NOTHING, blame, code, gist, ids, seq};

fn put(w: &mut World, key: &str, to: &[&str]) -> Value {
    let body = json!({ "channel": "todos", "action": "create", "key": key, "data": {}, "to": to });
    w.broadcast(body).1
}

#[test]
fn a_reset_reaches_the_live_at_once_and_the_away_when_they_return() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.user("bob"));
    let before = w.subscribe(bob, "todos");
    w.drop(bob);
    let (status, answer) = w.call(Call::BroadcastReset, json!({ "channel": "todos" }));
    assert_eq!(
        (status, &answer["receivers"], &answer["seq"]),
        (200, &json!(1), &json!(1))
    );
    let reset = w.one(alice);
    assert_eq!(reset["type"], "channel-reset");
    assert!(reset["reason"].is_string());
    w.sleep();
    let bob = w.user("bob");
    let again = w.resume(bob, "todos", &before["cursor"], &before["view"]);
    assert_eq!(again["mode"], "full");
    let now = w.resume(bob, "todos", &again["cursor"], &again["view"]);
    assert_eq!(now["mode"], "delta");
    assert_eq!(
        seq(&now),
        1,
        "the reset took a seq, and sleep does not give it again"
    );
    assert_eq!(put(&mut w, "k", &["user:bob"])["seq"], 2);
    // Other channels keep their cursors.
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
}

#[test]
fn to_limits_the_notice_of_a_reset_and_not_its_floor() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.user("bob"));
    let before = w.subscribe(bob, "todos");
    let body = json!({ "channel": "todos", "to": ["user:alice"] });
    assert_eq!(w.call(Call::BroadcastReset, body).1["receivers"], 1);
    assert_eq!(w.messages(alice).len(), 1);
    assert_eq!(w.messages(bob), NOTHING);
    let resumed = w.resume(bob, "todos", &before["cursor"], &before["view"]);
    assert_eq!(resumed["mode"], "full");
}

#[test]
fn a_subscription_stays_live_through_a_reset() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    w.call(Call::BroadcastReset, json!({ "channel": "todos" }));
    w.messages(alice);
    put(&mut w, "k", &["user:alice"]);
    assert_eq!(gist(&w.messages(alice)), ["create k"]);
}

#[test]
fn a_channel_change_is_passed_on_and_takes_no_seq() {
    let mut w = World::new();
    let (alice, nobody) = (w.live("alice", "todos"), w.user("bob"));
    let (status, answer) = w.call(Call::BroadcastChange, json!({ "channel": "todos" }));
    assert_eq!((status, answer), (200, json!({ "receivers": 1 })));
    assert_eq!(
        w.one(alice),
        json!({ "type": "channel-change", "channel": "todos" })
    );
    assert_eq!(w.messages(nobody), NOTHING);
    assert_eq!(w.stats()["seq"], 0);
}

#[test]
fn disconnect_closes_an_identitys_sockets_and_refuses_its_earlier_tokens() {
    let mut w = World::new();
    let (one, two, bob) = (w.user("alice"), w.user("alice"), w.user("bob"));
    let issued = w.now;
    w.advance(5_000);
    let body = json!({ "identity": "alice", "reason": "left the team" });
    let (status, answer) = w.call(Call::Disconnect, body);
    assert_eq!((status, answer), (200, json!({ "disconnected": 2 })));
    for conn in [one, two] {
        assert_eq!(
            (w.closed(conn), w.close_reason(conn)),
            (Some(4505), "left the team")
        );
    }
    assert_eq!(w.closed(bob), None);
    w.sleep();
    assert_eq!(w.session("alice", issued).0, 401);
    assert_eq!(w.session("alice", w.now).0, 401, "until now includes now");
    assert_eq!(w.session("alice", w.now.plus(1)).0, 200);
    assert_eq!(w.session("bob", issued).0, 200);
    // A token that says no iat counts as issued at 0.
    assert_eq!(w.session("alice", tidewire::Millis(0)).0, 401);
    let refused = w.connect_until(Some("alice"), &[], Some(w.now.plus(1_000)));
    assert_eq!(refused.unwrap_err().status, 401);
    w.advance(limits::REFUSAL_MS - 1);
    assert_eq!(w.session("alice", issued).0, 401);
    w.advance(1);
    assert_eq!(w.session("alice", issued).0, 200);
}

#[test]
fn disconnecting_all_restarts_every_socket_and_refuses_nobody() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    assert_eq!(
        w.call(Call::Disconnect, json!({ "all": true })).1["disconnected"],
        2
    );
    assert_eq!((w.closed(alice), w.closed(bob)), (Some(4000), Some(4000)));
    assert_eq!(w.session("alice", w.now).0, 200);
}

#[test]
fn topics_change_live_sessions_as_if_renewed() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    put(&mut w, "k", &["team:a"]);
    let body = json!({ "identity": "alice", "add": ["team:a"] });
    assert_eq!(w.call(Call::Topics, body), (200, json!({ "sessions": 1 })));
    let [create, authed] = w.messages(alice).try_into().unwrap();
    assert_eq!(
        (create["action"].as_str(), authed["type"].as_str()),
        (Some("create"), Some("authed"))
    );
    w.sleep();
    put(&mut w, "l", &["team:a"]);
    assert_eq!(gist(&w.messages(alice)), ["create l"]);
    let body = json!({ "identity": "alice", "remove": ["team:a"] });
    w.call(Call::Topics, body);
    let [batch, _authed] = w.messages(alice).try_into().unwrap();
    assert_eq!(
        gist(batch["changes"].as_array().unwrap()),
        ["delete k", "delete l"]
    );
    put(&mut w, "m", &["team:a"]);
    assert_eq!(w.messages(alice), NOTHING);
}

#[test]
fn a_removed_topic_holds_against_tokens_issued_until_now() {
    let mut w = World::new();
    put(&mut w, "k", &["team:a"]);
    let body = json!({ "identity": "alice", "remove": ["team:a"] });
    assert_eq!(w.call(Call::Topics, body).1["sessions"], 0);
    w.sleep();
    let earlier = w.member("alice", &["team:a", "team:b"]);
    assert_eq!(ids(&w.subscribe(earlier, "todos")), NOTHING);
    let bob = w.member("bob", &["team:a"]);
    assert_eq!(ids(&w.subscribe(bob, "todos")), ["k"]);
    w.advance(1);
    let later = w.member("alice", &["team:a"]);
    assert_eq!(ids(&w.subscribe(later, "todos")), ["k"]);
    // Given back, also the earlier tokens grant it again.
    let body = json!({ "identity": "alice", "add": ["team:a"] });
    assert_eq!(w.call(Call::Topics, body).1["sessions"], 2);
    for (call, sees) in [("remove", vec![]), ("add", vec!["k"])] {
        w.call(
            Call::Topics,
            json!({ "identity": "alice", call: ["team:a"] }),
        );
        let token_of_before = w.member("alice", &["team:a"]);
        assert_eq!(ids(&w.subscribe(token_of_before, "todos")), sees, "{call}");
    }
}

#[test]
fn topics_hold_at_their_bound_and_one_past_it_changes_nothing() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let topics: Vec<String> = (0..limits::TOPICS).map(|i| format!("t{i}")).collect();
    let body = json!({ "identity": "alice", "add": topics });
    assert_eq!(w.call(Call::Topics, body).0, 200);
    w.messages(alice);
    let one_more = json!({ "identity": "alice", "add": ["one more"] });
    let (status, answer) = w.call(Call::Topics, one_more);
    assert_eq!((status, blame(&answer)), (400, ("invalid", "add")));
    assert_eq!(w.messages(alice), NOTHING);
    for reserved in ["all", "user:bob"] {
        let body = json!({ "identity": "alice", "add": [reserved] });
        assert_eq!(w.call(Call::Topics, body).0, 400);
    }
}

#[test]
fn a_new_epoch_restarts_everyone_and_no_cursor_resumes() {
    let mut w = World::new();
    let alice = w.user("alice");
    let before = w.subscribe(alice, "todos");
    put(&mut w, "k", &["user:alice"]);
    let (status, answer) = w.call(Call::Epoch, json!({}));
    assert_eq!(status, 200);
    assert_eq!(w.closed(alice), Some(4000));
    w.sleep();
    let alice = w.user("alice");
    let after = w.resume(alice, "todos", &before["cursor"], &before["view"]);
    assert_eq!(after["mode"], "full");
    let cursor = after["cursor"].as_str().unwrap();
    assert!(cursor.starts_with(answer["epoch"].as_str().unwrap()));
    assert!(
        !before["cursor"]
            .as_str()
            .unwrap()
            .starts_with(answer["epoch"].as_str().unwrap())
    );
}

#[test]
fn calls_happen_once_per_idempotency_key() {
    let mut w = World::new();
    let body = json!({ "channel": "todos" }).to_string();
    let first = w.publish(Call::BroadcastReset, &body, Some("key"));
    assert_eq!(w.publish(Call::BroadcastReset, &body, Some("key")), first);
    assert_eq!(w.stats()["seq"], 1);
    let other = w.publish(Call::BroadcastChange, &body, Some("key"));
    assert_eq!((other.0, code(&other.1)), (409, "conflict"));
}

#[test]
fn bodies_that_say_nothing_sensible_change_nothing() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let long = "x".repeat(limits::REASON_BYTES + 1);
    for (call, body) in [
        (Call::BroadcastReset, json!({})),
        (Call::BroadcastReset, json!({ "channel": "unknown" })),
        (
            Call::BroadcastReset,
            json!({ "channel": "todos", "to": [] }),
        ),
        (
            Call::BroadcastReset,
            json!({ "channel": "todos", "space": "other" }),
        ),
        (Call::BroadcastChange, json!({ "channel": 7 })),
        (Call::BroadcastChange, json!({ "channel": "unknown" })),
        (Call::Disconnect, json!({})),
        (Call::Disconnect, json!({ "all": false })),
        (
            Call::Disconnect,
            json!({ "all": true, "identity": "alice" }),
        ),
        (Call::Disconnect, json!({ "identity": "" })),
        (
            Call::Disconnect,
            json!({ "identity": "alice", "reason": long }),
        ),
        (Call::Topics, json!({ "add": ["t"] })),
        (Call::Topics, json!({ "identity": "alice", "add": "t" })),
        (Call::Epoch, json!([])),
    ] {
        let (status, answer) = w.call(call, body.clone());
        assert_eq!(status, 400, "{body}: {answer}");
    }
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!((w.closed(alice), &w.stats()["seq"]), (None, &json!(0)));
    let longest = json!({ "identity": "alice", "reason": "x".repeat(limits::REASON_BYTES) });
    assert_eq!(w.call(Call::Disconnect, longest).0, 200);
}

#[test]
fn topics_say_nothing_to_one_that_has_not_said_hello() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    w.call(
        Call::Topics,
        json!({ "identity": "alice", "add": ["team:a"] }),
    );
    assert_eq!(w.messages(alice), NOTHING);
}
