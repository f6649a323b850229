//! Renewing a session in place: `auth`, and what other topics do to the rows in its sight.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::world::{World, token};
use super::{NOTHING, code, gist, ids};

fn claims(w: &World, user: &str, topics: &[&str], seconds: u64) -> Value {
    let now = w.now.0 / 1000;
    json!({ "sub": user, "topics": topics, "iat": now, "exp": now + seconds })
}

fn auth(w: &mut World, conn: ConnId, claims: &Value) {
    let message = json!({ "type": "auth", "token": token(claims) });
    w.send(conn, message);
}

fn note(w: &mut World, key: &str, to: &[&str]) {
    let body = json!({
        "channel": "todos", "action": "create", "key": key, "data": {}, "to": to
    });
    assert_eq!(w.broadcast(body).0, 200);
}

#[test]
fn a_renewed_token_prolongs_the_session_in_place() {
    let mut w = World::new();
    let alice = w
        .connect_until(Some("alice"), &[], Some(w.now.plus(60_000)))
        .unwrap();
    w.hello(alice);
    w.subscribe(alice, "todos");
    let claims = claims(&w, "alice", &[], 120);
    auth(&mut w, alice, &claims);
    let authed = w.one(alice);
    assert_eq!(authed["type"], "authed");
    assert_eq!(authed["identity"], "alice");
    assert_eq!(authed["expiresAt"], w.now.plus(120_000).0);
    w.sleep();
    w.advance(60_000);
    note(&mut w, "k", &["user:alice"]);
    assert_eq!(gist(&w.messages(alice)), ["create k"]);
    w.advance(60_000);
    note(&mut w, "l", &["user:alice"]);
    assert_eq!(w.closed(alice), Some(4001));
}

#[test]
fn what_handlers_are_told_of_a_token_follows_it_and_what_the_upgrade_brought_stays() {
    let handled =
        json!({ "todos": { "source": { "handler": "h" } }, "feed": { "read": "anyone" } });
    for (channels, told) in [(handled, true), (json!({ "todos": {} }), false)] {
        let mut w = World::with_channels(&channels);
        w.handshake = told.then(|| r#"{"url":"https://a/","headers":{}}"#.into());
        let alice = w.user("alice");
        for plan in ["free", "pro"] {
            let mut claims = claims(&w, "alice", &[], 120);
            claims["plan"] = json!(plan);
            auth(&mut w, alice, &claims);
            assert_eq!(w.one(alice)["type"], "authed");
            w.sleep();
            let grant = w.session_of(alice).grant;
            let text = told.then(|| claims.to_string().into());
            assert_eq!((grant.claims, grant.handshake), (text, w.handshake.clone()));
        }
    }
}

#[test]
fn claims_too_long_for_handlers_renew_nothing() {
    let channels = json!({ "todos": { "source": { "handler": "h" } } });
    let mut w = World::with_channels(&channels);
    let alice = w.user("alice");
    let mut claims = claims(&w, "alice", &[], 120);
    claims["more"] = json!("");
    let room = limits::CLAIMS_BYTES - claims.to_string().len();
    claims["more"] = json!("x".repeat(room + 1));
    auth(&mut w, alice, &claims);
    assert_eq!(code(&w.one(alice)), "forbidden");
    assert_eq!(w.session_of(alice).grant.claims, None);
    claims["more"] = json!("x".repeat(room));
    auth(&mut w, alice, &claims);
    assert_eq!(w.one(alice)["type"], "authed");
}

#[test]
fn a_bad_token_leaves_the_session_as_it_was() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    w.send(alice, json!({ "type": "auth", "token": "no token" }));
    assert_eq!(code(&w.one(alice)), "unauthorized");
    let mut expired = claims(&w, "alice", &[], 60);
    expired["exp"] = json!(w.now.0 / 1000);
    auth(&mut w, alice, &expired);
    assert_eq!(code(&w.one(alice)), "unauthorized");
    let reserved = claims(&w, "alice", &["user:bob"], 60);
    auth(&mut w, alice, &reserved);
    assert_eq!(code(&w.one(alice)), "forbidden");
    let mut elsewhere = claims(&w, "alice", &[], 60);
    elsewhere["space"] = json!("elsewhere");
    auth(&mut w, alice, &elsewhere);
    assert_eq!(code(&w.one(alice)), "forbidden");
    note(&mut w, "k", &["user:alice"]);
    assert_eq!(gist(&w.messages(alice)), ["create k"]);
}

#[test]
fn another_identity_closes_the_session_with_4501() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let nobody = w.connect(None, &[]);
    w.hello(nobody);
    for conn in [alice, nobody] {
        let bob = claims(&w, "bob", &[], 60);
        auth(&mut w, conn, &bob);
        assert_eq!(code(&w.one(conn)), "forbidden");
        assert_eq!(w.closed(conn), Some(4501));
    }
}

#[test]
fn other_topics_delete_and_create_rows_before_the_new_view_comes() {
    let mut w = World::new();
    let alice = w.member("alice", &["team:a"]);
    let before = w.subscribe(alice, "todos");
    note(&mut w, "a1", &["team:a"]);
    note(&mut w, "b1", &["team:b"]);
    note(&mut w, "all", &["team:a", "team:b"]);
    note(&mut w, "b2", &["team:b"]);
    w.broadcast(json!({ "channel": "todos", "action": "delete", "key": "b2" }));
    w.messages(alice);
    let to_b = claims(&w, "alice", &["team:b"], 60);
    auth(&mut w, alice, &to_b);
    let [batch, authed] = w.messages(alice).try_into().unwrap();
    assert_eq!(
        gist(batch["changes"].as_array().unwrap()),
        ["delete a1", "create b1"]
    );
    assert_eq!(batch["changes"][0]["by"], Value::Null);
    assert_eq!(authed["type"], "authed");
    assert_ne!(authed["view"], before["view"]);
    // From here on the new topics decide, live ...
    note(&mut w, "a2", &["team:a"]);
    assert_eq!(w.messages(alice), NOTHING);
    note(&mut w, "b3", &["team:b"]);
    assert_eq!(gist(&w.messages(alice)), ["create b3"]);
    // ... and after being away, with the new view and the cursor that came with the rows.
    w.drop(alice);
    w.sleep();
    let alice = w.member("alice", &["team:b"]);
    let delta = w.resume(alice, "todos", &batch["cursor"], &authed["view"]);
    assert_eq!(delta["mode"], "delta");
    assert_eq!(ids(&delta), ["b3"]);
    let old = w.resume(alice, "todos", &batch["cursor"], &before["view"]);
    assert_eq!(old["mode"], "full");
}

#[test]
fn the_same_topics_change_no_rows() {
    let mut w = World::new();
    let alice = w.member("alice", &["team:a"]);
    let view = w.subscribe(alice, "todos")["view"].clone();
    note(&mut w, "k", &["team:a"]);
    w.messages(alice);
    let same = claims(&w, "alice", &["team:a"], 60);
    auth(&mut w, alice, &same);
    assert_eq!(w.one(alice)["view"], view);
}

#[test]
fn a_change_of_more_than_500_rows_resets_the_channel() {
    for (rows, reset) in [
        (limits::TOPIC_CHANGES, false),
        (limits::TOPIC_CHANGES + 1, true),
    ] {
        let mut w = World::new();
        let alice = w.live("alice", "todos");
        for chunk in (0..rows).collect::<Vec<_>>().chunks(500) {
            let change = |i: &usize| {
                json!({
                    "action": "create", "key": format!("k{i}"), "data": {}, "to": ["team:a"]
                })
            };
            let changes: Vec<Value> = chunk.iter().map(change).collect();
            let body = json!({ "channel": "todos", "changes": changes });
            assert_eq!(w.broadcast_batch(body).0, 200);
        }
        let grown = claims(&w, "alice", &["team:a"], 60);
        auth(&mut w, alice, &grown);
        let [first, authed] = w.messages(alice).try_into().unwrap();
        assert_eq!(authed["type"], "authed");
        if reset {
            assert_eq!(first["type"], "channel-reset");
            assert_eq!(first["reason"], "topics");
            // Live until the new subscription replaces it.
            note(&mut w, "one more", &["team:a"]);
            assert_eq!(gist(&w.messages(alice)), ["create one more"]);
        } else {
            assert_eq!(first["changes"].as_array().unwrap().len(), rows);
        }
    }
}

#[test]
fn a_channel_that_may_no_longer_be_read_is_reset_and_left() {
    let mut w = World::new();
    let alice = w.member("alice", &["room:1"]);
    w.subscribe(alice, "room:1");
    let without = claims(&w, "alice", &[], 60);
    auth(&mut w, alice, &without);
    let [reset, _authed] = w.messages(alice).try_into().unwrap();
    assert_eq!(reset["type"], "channel-reset");
    let publish = json!({ "channel": "room:1", "action": "create", "key": "k", "data": {} });
    assert_eq!(w.broadcast(publish).1["receivers"], 0);
    assert_eq!(code(&w.subscribe(alice, "room:1")), "forbidden");
}

#[test]
fn pages_of_one_answer_are_for_the_same_eyes() {
    let mut w = World::new();
    for (key, team) in [
        ("x1", "x"),
        ("x2", "x"),
        ("y1", "y"),
        ("y2", "y"),
        ("y3", "y"),
    ] {
        w.broadcast(json!({
            "channel": "team:z", "action": "create", "key": key, "data": { "team": team }
        }));
    }
    let alice = w.member("alice", &["team:y"]);
    let page = w.ask(
        alice,
        json!({ "type": "subscribe", "channel": "team:z", "limit": 2 }),
    );
    assert_eq!(
        (ids(&page), &page["more"]),
        (vec!["y1", "y2"], &json!(true))
    );
    let both = claims(&w, "alice", &["team:x", "team:y"], 60);
    auth(&mut w, alice, &both);
    let authed = w.one(alice);
    // With the new view the answer begins again; with the old one, too.
    for view in [&authed["view"], &page["view"]] {
        let again = w.resume(alice, "team:z", &page["cursor"], view);
        assert_eq!(again["mode"], "full");
        assert_eq!(ids(&again), ["x1", "x2", "y1", "y2", "y3"]);
    }
}

#[test]
fn rows_of_a_channel_that_may_no_longer_be_read_are_deleted() {
    let mut w = World::new();
    let alice = w.member("alice", &["room:1"]);
    w.subscribe(alice, "room:1");
    w.create(alice, "m", "room:1", json!({ "id": "k" }));
    let without = claims(&w, "alice", &[], 60);
    auth(&mut w, alice, &without);
    let [delete, reset, _authed] = w.messages(alice).try_into().unwrap();
    assert_eq!(
        (&delete["action"], &delete["key"]),
        (&json!("delete"), &json!("k"))
    );
    assert_eq!(reset["type"], "channel-reset");
}
