//! Tokens of one channel: what they open, for whom, and what they leave closed.

use std::rc::Rc;

use serde_json::{Value, json};
use tidewire::{Call, Config, ConnId, Credentials, Judgement};

use super::world::{SECRET, World, channels, config_with, token, token_of};
use super::{NOTHING, code, gist, ids};

/// The stock channels, and some that tokens open.
pub(crate) fn rules() -> Value {
    let mut rules = channels();
    for (name, rule) in [
        ("vault:*", json!({ "read": "token", "write": "token" })),
        ("desk:*", json!({ "read": "user", "write": "token" })),
        ("wire:*", json!({ "read": "token", "write": "none" })),
        ("box:*", json!({ "read": "token", "write": "user" })),
    ] {
        rules[name] = rule;
    }
    rules
}

fn config(more: &[(&str, &str)]) -> Rc<Config> {
    config_with(&rules(), more)
}

pub(crate) fn world() -> World {
    World::with_config(config(&[]))
}

/// The claims of a token for a channel, for so many seconds.
pub(crate) fn claims(w: &World, channel: &str, seconds: u64) -> Value {
    json!({ "channel": channel, "exp": w.now.0 / 1000 + seconds })
}

/// A token for a channel, for an hour, that says more.
pub(crate) fn pass(w: &World, channel: &str, more: Value) -> String {
    let mut claims = claims(w, channel, 3_600);
    let more = more.as_object().unwrap().clone();
    claims.as_object_mut().unwrap().extend(more);
    token(&claims)
}

/// A token that opens a channel for some seconds.
pub(crate) fn token_for(w: &World, channel: &str, seconds: u64) -> String {
    token(&claims(w, channel, seconds))
}

/// Subscribes with a token.
#[track_caller]
pub(crate) fn enter(w: &mut World, conn: ConnId, channel: &str, token: &str) -> Value {
    let message = json!({ "type": "subscribe", "id": "t", "channel": channel, "token": token });
    w.ask(conn, message)
}

fn publish(w: &mut World, channel: &str, key: &str) -> u64 {
    let change = json!({ "channel": channel, "action": "create", "key": key, "data": {} });
    let (status, body) = w.broadcast(change);
    assert_eq!(status, 200);
    body["receivers"].as_u64().unwrap()
}

#[test]
fn a_token_opens_its_channel_and_no_other() {
    let mut w = world();
    publish(&mut w, "vault:1", "k");
    let alice = w.user("alice");
    let token = pass(&w, "vault:1", json!({}));
    for channel in ["vault:2", "vault:", "vault:11", "wire:1"] {
        assert_eq!(
            code(&enter(&mut w, alice, channel, &token)),
            "forbidden",
            "{channel}"
        );
    }
    let snapshot = enter(&mut w, alice, "vault:1", &token);
    assert_eq!(
        (&snapshot["type"], ids(&snapshot)),
        (&json!("snapshot"), vec!["k"])
    );
    assert_eq!(publish(&mut w, "vault:1", "l"), 1);
    assert_eq!(gist(&w.messages(alice)), ["create l"]);
    // What one channel was opened with opens none beside it.
    assert_eq!(code(&w.subscribe(alice, "vault:2")), "forbidden");
    assert_eq!(publish(&mut w, "vault:2", "k"), 0);
}

#[test]
fn a_token_is_its_holders_or_anyones_where_it_names_nobody() {
    let mut w = world();
    let (alice, bob, nobody) = (w.user("alice"), w.user("bob"), w.nobody());
    let hers = pass(&w, "vault:1", json!({ "sub": "alice" }));
    assert_eq!(code(&enter(&mut w, bob, "vault:1", &hers)), "forbidden");
    assert_eq!(code(&enter(&mut w, nobody, "vault:1", &hers)), "forbidden");
    assert_eq!(enter(&mut w, alice, "vault:1", &hers)["type"], "snapshot");
    let anyones = pass(&w, "vault:1", json!({}));
    assert_eq!(enter(&mut w, bob, "vault:1", &anyones)["type"], "snapshot");
    assert_eq!(
        enter(&mut w, nobody, "vault:1", &anyones)["type"],
        "snapshot"
    );
}

#[test]
fn the_channel_is_open_to_the_connection_that_showed_the_token_alone() {
    let mut w = world();
    let (first, second) = (w.user("alice"), w.user("alice"));
    let token = pass(&w, "vault:1", json!({ "sub": "alice" }));
    enter(&mut w, first, "vault:1", &token);
    assert_eq!(code(&w.subscribe(second, "vault:1")), "forbidden");
    assert_eq!(
        code(&w.create(second, "m", "vault:1", json!({ "id": "k" }))),
        "forbidden"
    );
    w.drop(first);
    let third = w.user("alice");
    assert_eq!(code(&w.subscribe(third, "vault:1")), "forbidden");
}

#[test]
fn without_a_token_or_with_a_bad_one_nothing_opens() {
    let mut w = world();
    publish(&mut w, "vault:1", "k");
    let (alice, nobody) = (w.user("alice"), w.nobody());
    assert_eq!(code(&w.subscribe(alice, "vault:1")), "forbidden");
    assert_eq!(code(&w.subscribe(nobody, "vault:1")), "unauthorized");
    let good = pass(&w, "vault:1", json!({}));
    let now = w.now.0 / 1000;
    let cut = &good[..good.len() - 1];
    let exp = now + 60;
    let hour = json!({ "channel": "vault:1", "exp": exp });
    for bad in [
        String::new(),
        "no token".to_owned(),
        cut.to_owned(),
        token_of("another secret", &hour),
        token(&json!({ "channel": "vault:1", "exp": now })),
        token(&json!({ "channel": "vault:1" })),
        token(&json!({ "channel": "vault:1", "exp": exp, "nbf": now + 31 })),
        token(&json!({ "channel": 1, "exp": exp })),
        token(&json!({ "sub": "alice", "exp": exp })),
        token(&json!({ "sub": "alice", "exp": exp, "topics": ["vault:1"] })),
    ] {
        for conn in [alice, nobody] {
            let answer = enter(&mut w, conn, "vault:1", &bad);
            assert_eq!(
                (&answer["type"], &answer["id"]),
                (&json!("reject"), &json!("t"))
            );
            assert_eq!(code(&answer), "unauthorized", "{bad}");
            assert_eq!(answer["error"]["retryable"], false);
        }
    }
    let number = json!({ "type": "subscribe", "id": "t", "channel": "vault:1", "token": 1 });
    assert_eq!(code(&w.ask(alice, number)), "malformed");
    assert_eq!(publish(&mut w, "vault:1", "l"), 0);
}

#[test]
fn a_tokens_last_millisecond_still_opens() {
    let mut w = world();
    let alice = w.user("alice");
    let token = pass(&w, "vault:1", json!({}));
    w.advance(3_600_000 - 1);
    assert_eq!(enter(&mut w, alice, "vault:1", &token)["type"], "snapshot");
    w.advance(1);
    let bob = w.user("bob");
    assert_eq!(code(&enter(&mut w, bob, "vault:1", &token)), "unauthorized");
}

#[test]
fn only_a_token_that_says_write_opens_mutations() {
    let mut w = world();
    let alice = w.user("alice");
    let row = || json!({ "id": "k" });
    let (reads, writes) = (json!({}), json!({ "write": true }));
    for channel in ["vault:1", "desk:1"] {
        assert_eq!(code(&w.create(alice, "m1", channel, row())), "forbidden");
        let reader = pass(&w, channel, reads.clone());
        enter(&mut w, alice, channel, &reader);
        assert_eq!(code(&w.create(alice, "m2", channel, row())), "forbidden");
        let writer = pass(&w, channel, writes.clone());
        enter(&mut w, alice, channel, &writer);
        let id = format!("m3 {channel}");
        assert_eq!(w.create(alice, &id, channel, row())["type"], "ack");
        // The last token counts, also where it opens less.
        enter(&mut w, alice, channel, &reader);
        assert_eq!(code(&w.delete(alice, "m4", channel, "k")), "forbidden");
        enter(&mut w, alice, channel, &writer);
        w.send(alice, json!({ "type": "unsubscribe", "channel": channel }));
        assert_eq!(code(&w.delete(alice, "m5", channel, "k")), "forbidden");
    }
    let writer = pass(&w, "wire:1", writes);
    enter(&mut w, alice, "wire:1", &writer);
    assert_eq!(code(&w.create(alice, "m6", "wire:1", row())), "read_only");
}

#[test]
fn nobody_writes_with_a_token_as_an_identity_does() {
    let mut w = world();
    let (nobody, alice) = (w.nobody(), w.user("alice"));
    let writes = pass(&w, "vault:1", json!({ "write": true }));
    enter(&mut w, nobody, "vault:1", &writes);
    enter(&mut w, alice, "vault:1", &writes);
    let ack = w.create(nobody, "m", "vault:1", json!({ "id": "k" }));
    assert_eq!(ack["type"], "ack");
    let change = w.one(alice);
    assert_eq!((&change["key"], &change["by"]), (&json!("k"), &Value::Null));
}

#[test]
fn on_channels_with_other_rules_a_token_opens_nothing_and_closes_nothing() {
    let mut w = world();
    let (alice, nobody) = (w.user("alice"), w.nobody());
    for (conn, channel, refusal) in [
        (nobody, "todos", "unauthorized"),
        (alice, "room:1", "forbidden"),
        (alice, "drop", "forbidden"),
        (alice, "nowhere", "unknown_channel"),
    ] {
        let token = pass(&w, channel, json!({ "write": true }));
        assert_eq!(
            code(&enter(&mut w, conn, channel, &token)),
            refusal,
            "{channel}"
        );
        assert_eq!(
            code(&enter(&mut w, conn, channel, "no token")),
            refusal,
            "{channel}"
        );
    }
    let write = pass(&w, "feed", json!({ "write": true }));
    assert_eq!(enter(&mut w, nobody, "feed", &write)["type"], "snapshot");
    assert_eq!(
        code(&w.create(nobody, "m", "feed", json!({ "id": "k" }))),
        "read_only"
    );
    // One that is bad, or ends, is nothing to a channel that is open anyway.
    assert_eq!(
        enter(&mut w, alice, "todos", "no token")["type"],
        "snapshot"
    );
    let short = token(&claims(&w, "todos", 1));
    enter(&mut w, alice, "todos", &short);
    w.advance(60_000);
    assert_eq!(publish(&mut w, "todos", "k"), 1);
    assert_eq!(gist(&w.messages(alice)), ["create k"]);
}

#[test]
fn both_secrets_in_force_sign_tokens_of_channels() {
    let more = [
        ("JWT_SECRET", "a new secret"),
        ("JWT_SECRET_PREVIOUS", SECRET),
    ];
    let mut w = World::with_config(config(&more));
    let alice = w.user("alice");
    let claims = claims(&w, "vault:1", 60);
    for (secret, opens) in [
        ("a new secret", true),
        (SECRET, true),
        ("a third one", false),
    ] {
        let token = token_of(secret, &claims);
        let answer = enter(&mut w, alice, "vault:1", &token);
        assert_eq!(answer["type"] == "snapshot", opens, "{secret}");
    }
}

#[test]
fn without_the_secret_no_token_opens_a_channel() {
    let more = [("JWT_SECRET", ""), ("JWKS_URL", "https://id.test/keys")];
    let mut w = World::with_config(config(&more));
    let alice = w.user("alice");
    let token = token_of("", &claims(&w, "vault:1", 60));
    assert_eq!(code(&enter(&mut w, alice, "vault:1", &token)), "internal");
    assert_eq!(code(&w.subscribe(alice, "vault:1")), "forbidden");
}

#[test]
fn issuer_and_audience_hold_for_tokens_of_channels_too() {
    let more = [("JWT_ISSUER", "us"), ("JWT_AUDIENCE", "tidewire")];
    let mut w = World::with_config(config(&more));
    let alice = w.user("alice");
    for (more, opens) in [
        (json!({ "iss": "us", "aud": ["tidewire"] }), true),
        (json!({ "iss": "us" }), false),
        (json!({ "iss": "them", "aud": "tidewire" }), false),
        (json!({}), false),
    ] {
        let token = pass(&w, "vault:1", more.clone());
        let answer = enter(&mut w, alice, "vault:1", &token);
        assert_eq!(answer["type"] == "snapshot", opens, "{more}");
    }
}

#[test]
fn a_token_that_names_a_space_opens_its_channel_only_there() {
    let mut w = world();
    let alice = w.user("alice");
    let elsewhere = pass(&w, "vault:1", json!({ "space": "team-7" }));
    assert_eq!(
        code(&enter(&mut w, alice, "vault:1", &elsewhere)),
        "forbidden"
    );
    let bad = pass(&w, "vault:1", json!({ "space": "No Space" }));
    assert_eq!(code(&enter(&mut w, alice, "vault:1", &bad)), "unauthorized");
    let here = pass(&w, "vault:1", json!({ "space": "global" }));
    assert_eq!(enter(&mut w, alice, "vault:1", &here)["type"], "snapshot");
}

#[test]
fn a_hellos_subscriptions_bring_tokens() {
    let mut w = world();
    publish(&mut w, "vault:1", "k");
    let good = pass(&w, "vault:1", json!({ "sub": "alice" }));
    let hello = json!({ "type": "hello", "v": 1, "subscribe": [
        { "id": "a", "channel": "vault:1", "token": good },
        { "id": "b", "channel": "vault:2", "token": good },
        { "id": "c", "channel": "vault:1" },
        { "id": "d", "channel": "vault:3" },
    ] });
    let alice = w.connect(Some("alice"), &[]);
    w.send(alice, hello);
    let [_, a, b, c, d] = w.messages(alice).try_into().unwrap();
    assert_eq!(ids(&a), ["k"]);
    assert_eq!((code(&b), code(&d)), ("forbidden", "forbidden"));
    assert_eq!(c["type"], "snapshot", "the first one has opened it");
    assert_eq!(publish(&mut w, "vault:1", "l"), 1);
}

#[test]
fn a_legacy_client_may_bring_one_too() {
    let mut w = world();
    publish(&mut w, "vault:1", "k");
    let alice = w.connect(Some("alice"), &[]);
    let refusal = enter(&mut w, alice, "vault:1", "no token");
    assert_eq!(
        (&refusal["type"], &refusal["id"]),
        (&json!("reject"), &json!("subscribe"))
    );
    assert!(refusal["error"].is_string());
    let token = pass(&w, "vault:1", json!({ "write": true }));
    assert_eq!(ids(&enter(&mut w, alice, "vault:1", &token)), ["k"]);
    assert_eq!(
        w.create(alice, "m", "vault:1", json!({ "id": "l" }))["type"],
        "ack"
    );
}

#[test]
fn other_topics_leave_it_as_it_is() {
    let mut w = world();
    let alice = w.member("alice", &["team:a"]);
    let token_of_it = pass(&w, "vault:1", json!({ "write": true }));
    enter(&mut w, alice, "vault:1", &token_of_it);
    publish(&mut w, "vault:1", "k");
    w.messages(alice);
    let change = json!({ "identity": "alice", "add": ["team:b"], "remove": ["team:a"] });
    assert_eq!(w.call(Call::Topics, change).0, 200);
    assert_eq!(w.one(alice)["type"], "authed");
    let claims = json!({ "sub": "alice", "exp": w.now.0 / 1000 + 60, "topics": ["team:c"] });
    let authed = w.ask(alice, json!({ "type": "auth", "token": token(&claims) }));
    assert_eq!(authed["type"], "authed");
    assert_eq!(publish(&mut w, "vault:1", "l"), 1);
    assert_eq!(gist(&w.messages(alice)), ["create l"]);
    assert_eq!(
        w.create(alice, "m", "vault:1", json!({ "id": "m" }))["type"],
        "ack"
    );
}

#[test]
fn a_token_of_a_channel_opens_no_connection_and_renews_none() {
    let mut w = world();
    let config = config(&[]);
    let token = pass(&w, "vault:1", json!({ "sub": "alice" }));
    let credentials = Credentials::of_token(&token);
    let Judgement::Done(Err(problem)) = config.tokens.judge(&credentials, w.now) else {
        panic!("not refused");
    };
    assert_eq!(problem.code.as_str(), "unauthorized");
    let alice = w.user("alice");
    let answer = w.ask(alice, json!({ "type": "auth", "token": token }));
    assert_eq!(
        (&answer["type"], code(&answer)),
        (&json!("error"), "unauthorized")
    );
    assert_eq!(w.closed(alice), None);
    assert_eq!(w.messages(alice), NOTHING);
}
