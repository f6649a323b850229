//! `auth` that somebody else must judge: what comes meanwhile waits, in order.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::{Call, Claims, ConnId, Grant, Identity, Millis, Space, Topics, limits};

use super::world::{World, channels, config_with};
use super::{NOTHING, code, gist};

/// A world whose tokens the app judges.
pub(crate) fn world() -> World {
    let more = [("JWT_SECRET", ""), ("AUTH_URL", "https://app.test/session")];
    World::with_config(config_with(&channels(), &more))
}

fn claims(
    w: &World,
    user: &str,
    topics: &[&str],
    space: Option<&str>,
    expires_at: Millis,
) -> Claims {
    let identity = Identity::parse(user).unwrap();
    Claims {
        grant: Grant {
            topics: Topics::granted(Some(&identity), topics.iter().copied()).unwrap(),
            identity: Some(identity),
            issued_at: w.now,
            expires_at: Some(expires_at),
            ..Grant::default()
        },
        space: space.map(|name| Space::parse(name).unwrap()),
    }
}

/// The judgement that a token is a user's, with topics, for an hour.
pub(crate) fn good(w: &mut World, user: &str, topics: &[&str]) {
    let claims = claims(w, user, topics, None, w.now.plus(3_600_000));
    w.judged(Ok(Some(claims)));
}

fn auth(token: &str) -> Value {
    json!({ "type": "auth", "token": token })
}

fn create(id: &str, channel: &str) -> Value {
    json!({
        "type": "mutate", "id": id, "channel": channel, "action": "create", "data": { "id": id }
    })
}

fn kinds<'a>(messages: &'a [Value]) -> Vec<&'a str> {
    // A pong is no object.
    let kind = |message: &'a Value| message.as_str().or(message["type"].as_str()).unwrap();
    messages.iter().map(kind).collect()
}

fn publish(w: &mut World, key: &str) {
    let change = json!({ "channel": "todos", "action": "create", "key": key, "data": {} });
    assert_eq!(w.broadcast(change).0, 200);
}

/// Connects a user who has said hello and whose token is being judged.
pub(crate) fn asking(w: &mut World, user: &str) -> ConnId {
    let conn = w.user(user);
    w.send(conn, auth("its token"));
    assert_eq!(w.messages(conn), NOTHING);
    conn
}

#[test]
fn the_token_goes_out_as_it_came_and_its_answer_renews() {
    let mut w = world();
    let alice = w.user("alice");
    w.send(alice, auth("opaque\u{e9}"));
    assert_eq!(w.asks, [(alice, "opaque\u{e9}".to_owned())]);
    good(&mut w, "alice", &["room:1"]);
    let authed = w.one(alice);
    assert_eq!(
        (&authed["type"], &authed["identity"]),
        (&json!("authed"), &json!("alice"))
    );
    assert_eq!(authed["expiresAt"], w.now.plus(3_600_000).0);
    assert_eq!(w.subscribe(alice, "room:1")["type"], "snapshot");
    assert_eq!(w.asks, []);
}

#[test]
fn a_public_keys_judgement_is_waited_for_the_same_way() {
    let more = [("JWKS_URL", "https://id.test/keys")];
    let mut w = World::with_config(config_with(&channels(), &more));
    let alice = w.user("alice");
    let rs256 = "eyJhbGciOiJSUzI1NiJ9.e30.AA";
    w.send(alice, json!([auth(rs256), { "type": "ping" }]));
    assert_eq!((w.asks.len(), w.messages(alice).len()), (1, 0));
    good(&mut w, "alice", &[]);
    assert_eq!(kinds(&w.messages(alice)), ["authed", "pong"]);
}

#[test]
fn what_comes_meanwhile_waits_and_finds_the_new_grant() {
    let mut w = world();
    let (alice, bob) = (asking(&mut w, "alice"), w.live("bob", "todos"));
    w.send(
        alice,
        json!({ "type": "subscribe", "id": "s", "channel": "room:1" }),
    );
    w.send(alice, json!([create("k", "room:1"), create("l", "todos")]));
    w.send_text(alice, "no json");
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.messages(bob), NOTHING);
    good(&mut w, "alice", &["room:1"]);
    let answers = w.messages(alice);
    assert_eq!(
        kinds(&answers),
        ["authed", "snapshot", "ack", "ack", "error"]
    );
    assert_eq!(gist(&w.messages(bob)), ["create l"]);
}

#[test]
fn what_came_before_it_does_not_wait() {
    let mut w = world();
    let alice = w.user("alice");
    w.send(
        alice,
        json!([create("a", "todos"), auth("x"), create("b", "todos")]),
    );
    let answers = w.messages(alice);
    assert_eq!(
        (kinds(&answers), &answers[0]["id"]),
        (vec!["ack"], &json!("a"))
    );
    w.send(alice, create("c", "todos"));
    good(&mut w, "alice", &[]);
    let ids: Vec<Value> = w.messages(alice).iter().map(|a| a["id"].clone()).collect();
    assert_eq!(
        ids,
        [Value::Null, json!("b"), json!("c")],
        "each once, in order"
    );
    assert_eq!(w.stats()["seq"], 3);
}

#[test]
fn others_do_not_wait_and_changes_are_delivered_meanwhile() {
    let mut w = world();
    let alice = w.live("alice", "todos");
    w.send(alice, auth("x"));
    publish(&mut w, "k");
    let bob = w.user("bob");
    assert_eq!(
        w.create(bob, "l", "todos", json!({ "id": "l" }))["type"],
        "ack"
    );
    assert_eq!(gist(&w.messages(alice)), ["create k", "create l"]);
}

#[test]
fn a_refusal_leaves_the_session_as_it_was() {
    let mut w = world();
    let alice = w.member("alice", &["room:1"]);
    w.subscribe(alice, "room:1");
    let later = w.now.plus(60_000);
    let unavailable = Problem::new(Code::Unavailable, "no answer");
    let unauthorized = Problem::new(Code::Unauthorized, "no");
    let elsewhere = claims(&w, "alice", &[], Some("team-7"), later);
    let over = claims(&w, "alice", &[], None, w.now);
    for (answer, refusal) in [
        (Err(unavailable), "unavailable"),
        (Err(unauthorized), "unauthorized"),
        (Ok(Some(elsewhere)), "forbidden"),
        (Ok(Some(over)), "unauthorized"),
    ] {
        w.send(alice, json!([auth("x"), create(refusal, "room:1")]));
        w.judged(answer);
        let [error, rest] = w.messages(alice).try_into().unwrap();
        assert_eq!((&error["type"], code(&error)), (&json!("error"), refusal));
        // The third has executed what the first did.
        assert!(rest["type"] == "ack" || rest["replayed"] == true, "{rest}");
    }
    assert_eq!(w.closed(alice), None);
}

#[test]
fn another_identity_or_none_closes_with_4501_and_what_waits_is_not_done() {
    let mut w = world();
    let (alice, bob) = (asking(&mut w, "alice"), w.user("bob"));
    w.send(alice, create("k", "todos"));
    good(&mut w, "carol", &[]);
    assert_eq!(code(&w.one(alice)), "forbidden");
    w.send(bob, auth("x"));
    w.judged(Ok(None));
    assert_eq!(code(&w.one(bob)), "forbidden");
    assert_eq!((w.closed(alice), w.closed(bob)), (Some(4501), Some(4501)));
    let nobody = w.nobody();
    w.send(nobody, auth("x"));
    good(&mut w, "alice", &[]);
    assert_eq!(code(&w.one(nobody)), "forbidden");
    assert_eq!(w.closed(nobody), Some(4501));
    assert_eq!(w.stats()["seq"], 0);
}

#[test]
fn a_session_that_ends_meanwhile_is_closed_whatever_the_answer() {
    let mut w = world();
    let alice = w.connect_until(Some("alice"), &[], Some(w.now.plus(60_000)));
    let alice = alice.unwrap();
    w.hello(alice);
    w.send(alice, json!([auth("x"), create("k", "todos")]));
    w.advance(60_000);
    good(&mut w, "alice", &[]);
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.closed(alice), Some(4001));
    assert_eq!(w.stats()["seq"], 0);
}

#[test]
fn an_answer_to_who_has_gone_is_nothing() {
    let mut w = world();
    let (alice, bob) = (asking(&mut w, "alice"), asking(&mut w, "bob"));
    w.send(alice, create("k", "todos"));
    w.drop(alice);
    good(&mut w, "alice", &[]);
    w.call(Call::Disconnect, json!({ "identity": "bob" }));
    assert_eq!(w.closed(bob), Some(4505));
    good(&mut w, "bob", &[]);
    assert_eq!(w.messages(bob), NOTHING);
    assert_eq!(w.stats()["seq"], 0);
    assert_eq!(w.faults, [""; 0]);
}

#[test]
fn a_revocation_meanwhile_holds_against_an_older_answer() {
    let mut w = world();
    let alice = w.user("alice");
    let older = claims(&w, "alice", &["team:a"], None, w.now.plus(3_600_000));
    w.send(alice, auth("x"));
    w.call(
        Call::Topics,
        json!({ "identity": "alice", "remove": ["team:a"] }),
    );
    w.messages(alice);
    w.judged(Ok(Some(older)));
    assert_eq!(w.one(alice)["type"], "authed");
    w.subscribe(alice, "todos");
    let change = json!({
        "channel": "todos", "action": "create", "key": "k", "data": {}, "to": ["team:a"]
    });
    assert_eq!(w.broadcast(change).1["receivers"], 0);
}

#[test]
fn a_second_auth_waits_for_the_first_and_what_follows_for_both() {
    let mut w = world();
    let alice = w.user("alice");
    w.send(
        alice,
        json!([
            auth("one"),
            create("a", "todos"),
            auth("two"),
            create("b", "room:2")
        ]),
    );
    w.send(alice, json!([auth("three"), create("c", "room:3")]));
    for (token, topic, kinds_then) in [
        ("one", "room:1", vec!["authed", "ack"]),
        ("two", "room:2", vec!["authed", "ack"]),
        ("three", "room:3", vec!["authed", "ack"]),
    ] {
        assert_eq!(w.asks.len(), 1, "one at a time");
        assert_eq!(w.asks[0].1, token);
        good(&mut w, "alice", &[topic]);
        assert_eq!(kinds(&w.messages(alice)), kinds_then, "{token}");
    }
    assert_eq!(w.stats()["seq"], 3);
}

#[test]
fn a_tokens_length_is_judged_before_anybody_is_asked() {
    let mut w = world();
    let alice = w.user("alice");
    let past = "x".repeat(limits::TOKEN_BYTES + 1);
    w.send(alice, auth(&past));
    assert_eq!(code(&w.one(alice)), "unauthorized");
    assert_eq!(w.asks, []);
    w.send(alice, auth(&past[1..]));
    assert_eq!(w.asks.len(), 1);
}

#[test]
fn what_waits_counts_for_the_rate_as_well() {
    let more = [
        ("JWT_SECRET", ""),
        ("AUTH_URL", "https://app.test/session"),
        ("SYNC_LIMITS", r#"{"messagesPerSecond":1}"#),
    ];
    let mut w = World::with_config(config_with(&channels(), &more));
    let alice = asking(&mut w, "alice");
    for i in 0..9 {
        w.send(alice, create(&i.to_string(), "todos"));
    }
    good(&mut w, "alice", &[]);
    let answers = w.messages(alice);
    assert_eq!(
        kinds(&answers[..5]),
        [["authed"].as_slice(), &["ack"; 4]].concat(),
        "of ten messages, {} for the token",
        limits::ASK_MESSAGES
    );
    assert_eq!(
        (code(&answers[5]), &answers[5]["id"]),
        ("rate_limited", &json!("4"))
    );
}

#[test]
fn a_legacy_client_waits_too() {
    let mut w = world();
    let alice = w.connect(Some("alice"), &[]);
    w.send(alice, auth("x"));
    w.send(alice, json!({ "type": "subscribe", "channel": "todos" }));
    assert_eq!(w.messages(alice), NOTHING);
    good(&mut w, "alice", &[]);
    assert_eq!(kinds(&w.messages(alice)), ["snapshot"]);
}

#[test]
fn sleep_or_a_crash_while_it_waits_closes_with_4000() {
    let mut w = world();
    let (alice, bob) = (asking(&mut w, "alice"), w.live("bob", "todos"));
    w.send(alice, create("k", "todos"));
    w.sleep();
    assert_eq!((w.closed(alice), w.closed(bob)), (Some(4000), None));
    // The answer comes to another life.
    good(&mut w, "alice", &[]);
    let again = asking(&mut w, "alice");
    good(&mut w, "alice", &[]);
    w.messages(again);
    w.sleep();
    assert_eq!(w.closed(again), None, "only while it waits");
    assert_eq!(
        w.create(again, "k", "todos", json!({ "id": "k" }))["replayed"],
        false
    );
}
