//! Errors: what cannot be read, what cannot be tied to a request, and what a refusal tells.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidewire::protocol::{Close, Code};
use tidewire::{Call, limits};

use super::world::World;
use super::world::readers::reads;
use super::{NOTHING, code};

const CODES: [Code; 15] = [
    Code::Malformed,
    Code::FrameTooLarge,
    Code::UnsupportedVersion,
    Code::SchemaOutdated,
    Code::Unauthorized,
    Code::Forbidden,
    Code::UnknownChannel,
    Code::ReadOnly,
    Code::Invalid,
    Code::NotFound,
    Code::Conflict,
    Code::RateLimited,
    Code::TooManySubscriptions,
    Code::Unavailable,
    Code::Internal,
];

/// The statuses of the table of errors in `docs/protocol.md`, by code.
fn table() -> BTreeMap<&'static str, u16> {
    let text = include_str!("../../docs/protocol.md");
    let rows = text
        .lines()
        .skip_while(|line| !line.starts_with("| code | HTTP |"))
        .skip(2)
        .take_while(|line| line.starts_with('|'));
    let entry = |row: &'static str| {
        let mut cells = row.split('|').skip(1);
        let codes = cells.next().unwrap().split('`').skip(1).step_by(2);
        let codes = codes.filter(|code| !["field", "current", "retryAfterMs"].contains(code));
        let status: u16 = cells.next().unwrap().trim().parse().unwrap();
        codes.map(move |code| (code, status))
    };
    rows.flat_map(entry).collect()
}

#[test]
fn each_code_has_the_status_of_the_table() {
    let own = CODES.map(|code| (code.as_str(), code.status()));
    assert_eq!(table(), BTreeMap::from(own));
    let mut w = World::with_limits(&json!({ "messagesPerSecond": 1 }));
    let body = json!({ "channel": "todos" }).to_string();
    w.publish(Call::BroadcastChange, &body, Some("key"));
    let mut answers = vec![
        w.page(&reads("alice", "nowhere")),
        w.page(&reads("alice", "room:1")),
        w.page(&reads("alice", "todos").with("limit", 0)),
        w.call(Call::BroadcastChange, json!({})),
        w.publish(Call::BroadcastReset, &body, Some("key")),
        w.session("alice", w.now),
    ];
    w.call(Call::Disconnect, json!({ "identity": "bob" }));
    answers.push(w.page(&reads("bob", "todos")));
    for _ in 0..limits::BURST_SECONDS {
        w.page(&reads("carol", "todos"));
    }
    answers.push(w.page(&reads("carol", "todos")));
    w.sqlite.fail_after(0);
    answers.push(w.call(Call::BroadcastReset, json!({ "channel": "todos" })));
    let mut seen = Vec::new();
    for (status, answer) in answers.iter().filter(|(status, _)| *status != 200) {
        let code = code(answer);
        assert_eq!(table().get(code), Some(status), "{answer}");
        let again = ["rate_limited", "unavailable"].contains(&code);
        assert_eq!(answer["error"]["retryable"], again, "{answer}");
        seen.push(code);
    }
    seen.sort_unstable();
    assert_eq!(
        seen,
        [
            "conflict",
            "forbidden",
            "invalid",
            "malformed",
            "rate_limited",
            "unauthorized",
            "unavailable",
            "unknown_channel"
        ]
    );
}

#[test]
fn a_close_code_says_whether_to_come_back() {
    let come_back = [Close::Restart, Close::AuthExpired, Close::RateLimited];
    assert_eq!(come_back.map(Close::code), [4000, 4001, 4008]);
    let stay_away = [
        Close::Forbidden,
        Close::Protocol,
        Close::Version,
        Close::Schema,
        Close::Revoked,
    ];
    assert_eq!(stay_away.map(Close::code), [4501, 4502, 4503, 4504, 4505]);
}

/// Frames that hold no request that could be answered by its id.
const MALFORMED: [&str; 36] = [
    "",
    " ",
    "ping",
    "null",
    "true",
    "7",
    "\"hello\"",
    "{",
    "}",
    "{}",
    "[",
    "[]",
    "[7]",
    "[[]]",
    "[{}]",
    "{\"type\":null}",
    "{\"type\":7}",
    "{\"type\":\"\"}",
    "{\"type\":\"teleport\"}",
    "{\"type\":\"Subscribe\",\"channel\":\"todos\"}",
    "{\"type\":\"ping\"} {\"type\":\"ping\"}",
    "{\"type\":\"ping\",}",
    "{'type':'ping'}",
    "{\"type\":\"ping\",\"type\":\"ping\"}",
    "{\"type\":\"subscribe\"}",
    "{\"type\":\"subscribe\",\"channel\":7}",
    "{\"type\":\"subscribe\",\"channel\":\"\"}",
    "{\"type\":\"subscribe\",\"channel\":\"a\\u0000b\"}",
    "{\"type\":\"subscribe\",\"id\":7,\"channel\":\"todos\"}",
    "{\"type\":\"subscribe\",\"id\":\"\",\"channel\":\"todos\"}",
    "{\"type\":\"unsubscribe\"}",
    "{\"type\":\"mutate\",\"channel\":\"todos\",\"action\":\"create\",\"data\":{\"id\":\"k\"}}",
    "{\"type\":\"mutate\",\"id\":\"\",\"channel\":\"todos\",\"action\":\"delete\",\"key\":\"k\"}",
    "{\"type\":\"mutate\",\"id\":{},\"channel\":\"todos\",\"action\":\"delete\",\"key\":\"k\"}",
    "\u{feff}{\"type\":\"ping\"}",
    "{\"type\":\"ping\"\u{0}}",
];

#[test]
fn a_malformed_frame_is_told_and_the_socket_stays() {
    for said_hello in [true, false] {
        let mut w = World::new();
        let alice = match said_hello {
            true => w.user("alice"),
            false => w.connect(Some("alice"), &[]),
        };
        for text in MALFORMED {
            w.send_text(alice, text);
            let error = w.one(alice);
            assert_eq!(error["type"], "error", "{text}");
            assert_eq!(code(&error), "malformed", "{text}");
            assert_eq!(error["error"]["retryable"], false);
            assert!(!error["error"]["message"].as_str().unwrap().is_empty());
            assert_eq!(w.closed(alice), None, "{text}");
        }
        assert_eq!(
            w.subscribe(alice, "todos")["data"],
            json!([]),
            "and nothing was done"
        );
    }
}

#[test]
fn a_request_that_can_be_named_is_refused_by_its_id() {
    let mut w = World::new();
    let alice = w.user("alice");
    for (message, channel) in [
        (json!({ "type": "subscribe" }), None),
        (json!({ "type": "subscribe", "channel": 7 }), None),
        (
            json!({ "type": "subscribe", "channel": "todos", "limit": 0 }),
            Some("todos"),
        ),
        (
            json!({ "type": "subscribe", "channel": "todos", "limit": 1.5 }),
            Some("todos"),
        ),
        (
            json!({ "type": "subscribe", "channel": "todos", "limit": "9" }),
            Some("todos"),
        ),
        (
            json!({ "type": "subscribe", "channel": "todos", "cursor": 7 }),
            Some("todos"),
        ),
        (
            json!({ "type": "subscribe", "channel": "todos", "view": 7 }),
            Some("todos"),
        ),
        (
            json!({ "type": "subscribe", "channel": "todos", "meta": 1 }),
            Some("todos"),
        ),
        (json!({ "type": "mutate" }), None),
        (
            json!({ "type": "mutate", "channel": "todos" }),
            Some("todos"),
        ),
        (
            json!({ "type": "mutate", "channel": "todos", "action": "upsert" }),
            Some("todos"),
        ),
        (
            json!({ "type": "mutate", "channel": "todos", "action": "delete", "key": 7 }),
            Some("todos"),
        ),
    ] {
        let mut message = message;
        message["id"] = json!("r1");
        let reject = w.ask(alice, message.clone());
        assert_eq!(
            (&reject["type"], &reject["id"]),
            (&json!("reject"), &json!("r1")),
            "{message}"
        );
        assert_eq!(reject["channel"].as_str(), channel, "{message}");
        assert_eq!(code(&reject), "malformed", "{message}");
    }
}

#[test]
fn what_is_no_request_is_answered_without_an_id() {
    let mut w = World::new();
    let alice = w.user("alice");
    for message in [
        json!({ "type": "teleport", "id": "r1", "channel": "todos" }),
        json!({ "type": "unsubscribe", "id": "r1", "channel": 7 }),
        json!({ "type": "auth", "id": "r1" }),
        json!({ "type": "presence", "id": "r1", "channel": "todos" }),
        json!({ "type": "signal", "id": "r1", "channel": "todos" }),
    ] {
        let error = w.ask(alice, message.clone());
        assert_eq!(
            (&error["type"], error.get("id")),
            (&json!("error"), None),
            "{message}"
        );
        assert_eq!(code(&error), "malformed", "{message}");
    }
}

#[test]
fn what_newer_clients_add_is_ignored() {
    let mut w = World::new();
    let alice = w.user("alice");
    let message =
        json!({ "type": "subscribe", "channel": "todos", "priority": 7, "x": { "y": [] } });
    assert_eq!(w.ask(alice, message)["type"], "snapshot");
    let nulls = json!({
        "type": "subscribe", "channel": "todos", "id": null, "cursor": null, "view": null,
        "limit": null, "meta": null
    });
    assert_eq!(w.ask(alice, nulls)["mode"], "full");
}

#[test]
fn an_error_never_repeats_what_was_sent() {
    let mut w = World::new();
    let alice = w.user("alice");
    let secret = "xyzzy";
    for message in [
        json!({ "type": secret }),
        json!({ "type": "subscribe", "id": "r", "channel": "todos", "cursor": secret }),
        json!({ "type": "subscribe", "id": "r", "channel": "todos", "limit": secret }),
        json!({ "type": "mutate", "id": "r", "channel": "todos", "action": secret }),
        json!({
            "type": "mutate", "id": "r", "channel": "todos", "action": "create", "key": secret,
            "data": { "id": "k" }
        }),
        json!({
            "type": "mutate", "id": "r", "channel": "notes", "action": "create",
            "data": { "id": "k", "ownerId": [secret, 7] }
        }),
    ] {
        let answer = w.ask(alice, message).to_string();
        assert!(!answer.contains(secret), "{answer}");
    }
    let change = json!({ "channel": "todos", "action": secret, "key": secret, "data": secret });
    let (status, body) = w.broadcast(change);
    assert_eq!(status, 400);
    assert!(!body.to_string().contains(secret));
}

#[test]
fn only_what_may_pass_later_is_retryable() {
    let mut w = World::new();
    let alice = w.user("alice");
    let answers = [
        w.create(alice, "1", "nowhere", json!({ "id": "k" })),
        w.create(alice, "2", "feed", json!({ "id": "k" })),
        w.create(alice, "3", "todos", json!({})),
        w.update(alice, "4", "todos", json!({ "id": "k" })),
        w.create(alice, "5", "room:1", json!({ "id": "k" })),
    ];
    let codes: Vec<&str> = answers.iter().map(code).collect();
    assert_eq!(
        codes,
        [
            "unknown_channel",
            "read_only",
            "invalid",
            "not_found",
            "forbidden"
        ]
    );
    assert!(
        answers
            .iter()
            .all(|answer| answer["error"]["retryable"] == false)
    );
    w.sqlite.fail_after(0);
    let failed = w.create(alice, "6", "todos", json!({ "id": "k" }));
    assert_eq!(
        (code(&failed), &failed["error"]["retryable"]),
        ("unavailable", &json!(true))
    );
}

#[test]
fn what_a_bad_message_holds_is_not_done() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    for data in [
        "{\"id\":\"k\",\"id\":\"k\"}",
        "[]",
        "\"k\"",
        "{\"id\":\"k\",\"\\u005f_proto__\":1}",
    ] {
        let frame = format!(
            r#"{{"type":"mutate","id":"m","channel":"todos","action":"create","data":{data}}}"#
        );
        w.send_text(alice, &frame);
        assert_eq!(code(&w.one(alice)), "invalid", "{data}");
    }
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn messages_of_the_contract_that_need_a_rule_are_refused_without_it() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.live("bob", "todos"));
    for message in [
        json!({ "type": "presence", "channel": "todos", "state": {} }),
        json!({ "type": "signal", "channel": "todos", "event": "typing", "data": {} }),
    ] {
        let answer: Value = w.ask(alice, message);
        assert!(
            ["error", "reject"].contains(&answer["type"].as_str().unwrap()),
            "{answer}"
        );
    }
    assert_eq!(w.messages(bob), NOTHING);
    assert_eq!(w.closed(alice), None);
}
