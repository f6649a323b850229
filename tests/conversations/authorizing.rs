//! What a source is asked to allow, beside what the rule says, and what happens when rights change
//! while it is asked.

use serde_json::{Value, json};
use tidewire::source::{Ask, Kind, Operation};
use tidewire::{Call, ConnId};

use super::world::readers::reads;
use super::world::{World, token};
use super::{NOTHING, code, ids};

fn resume(page: &Value) -> Value {
    json!({
        "type": "subscribe", "id": "s", "channel": page["channel"], "limit": 1,
        "cursor": page["cursor"], "view": page["view"]
    })
}

/// What the oldest question wants to have allowed, alone or with what it asks for.
#[track_caller]
fn authorizes(w: &World) -> (Option<Kind>, bool) {
    match &w.questions[0].what {
        Ask::Authorize(operation) => (Some(operation.kind), true),
        Ask::Fetch(fetch) => (None, fetch.authorize),
        Ask::Write(write) => (None, write.authorize),
    }
}

#[test]
fn every_subscription_is_authorized_also_pages_and_what_the_log_has() {
    let mut w = World::elsewhere();
    for row in 0..3 {
        w.put("todos", json!({ "id": format!("k{row}") }));
    }
    let alice = w.user("alice");
    w.slow = true;
    let mut message = json!({ "type": "subscribe", "id": "s", "channel": "todos", "limit": 1 });
    w.send(alice, message.clone());
    assert_eq!(
        authorizes(&w),
        (None, true),
        "with the page, in one question"
    );
    w.answer_first();
    let first = w.one(alice);
    w.send(alice, resume(&first));
    assert_eq!(authorizes(&w), (None, true), "the next page");
    w.answer_first();
    let second = w.one(alice);
    w.send(alice, resume(&second));
    w.answer_first();
    let last = w.one(alice);
    assert_eq!(
        (&last["more"], w.home.fetches, w.home.authorizes),
        (&json!(false), 3, 0)
    );
    w.send(alice, resume(&last));
    assert_eq!(
        authorizes(&w),
        (Some(Kind::Subscribe), true),
        "the log has it, may she have it?"
    );
    w.answer_first();
    assert_eq!(w.one(alice)["data"], json!([]));
    // A rest that was kept, too.
    w.home.greedy = true;
    message["limit"] = json!(2);
    w.send(alice, message);
    w.answer_first();
    let first = w.one(alice);
    w.send(alice, resume(&first));
    assert_eq!(authorizes(&w), (Some(Kind::Subscribe), true));
    w.home.forbidden.push(Kind::Subscribe);
    w.answer_first();
    assert_eq!(code(&w.one(alice)), "forbidden");
}

#[test]
fn a_refusal_is_the_sources_and_leaves_nothing_behind() {
    let mut w = World::elsewhere();
    w.home.forbidden = vec![Kind::Subscribe, Kind::Delete];
    w.put("todos", json!({ "id": "k" }));
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let refusal = w.subscribe(alice, "todos");
    assert_eq!(refusal["error"]["message"], "the source says no");
    assert_eq!((&refusal["id"], code(&refusal)), (&json!("s"), "forbidden"));
    assert_eq!(
        w.delete(bob, "m1", "todos", "k")["error"]["message"],
        "the source says no"
    );
    assert_eq!(
        w.create(bob, "m2", "todos", json!({ "id": "l" }))["type"],
        "ack"
    );
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.stats()["subscriptions"], 0);
    assert_eq!(w.home.all("todos").len(), 2);
}

#[test]
fn where_it_is_switched_off_nothing_is_asked_but_rows() {
    let mut w = World::elsewhere();
    w.home.forbidden = vec![Kind::Subscribe, Kind::Create];
    let alice = w.user("alice");
    let page = w.subscribe(alice, "plain");
    assert_eq!(w.ask(alice, resume(&page))["type"], "snapshot");
    w.slow = true;
    let create = json!({
        "type": "mutate", "id": "m1", "channel": "plain", "action": "create", "data": { "id": "k" }
    });
    w.send(alice, create);
    assert_eq!(authorizes(&w), (None, false));
    assert_eq!((w.home.fetches, w.home.authorizes), (1, 0));
}

#[test]
fn presence_and_signals_are_authorized_with_what_they_say() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.live("bob", "open"));
    w.subscribe(alice, "open");
    w.slow = true;
    w.send(
        alice,
        json!({ "type": "presence", "channel": "open", "state": { "at": 1 } }),
    );
    w.send(
        alice,
        json!({ "type": "presence", "channel": "open", "watch": true }),
    );
    w.send(
        alice,
        json!({ "type": "signal", "channel": "open", "event": "e", "data": [7] }),
    );
    let operation = |w: &World| match &w.questions[0].what {
        Ask::Authorize(operation) => operation.clone(),
        other => panic!("{other:?}"),
    };
    let wants = |kind, data: Option<&str>| Operation {
        kind,
        key: None,
        data: data.map(str::to_owned),
    };
    assert_eq!(operation(&w), wants(Kind::Presence, Some(r#"{"at":1}"#)));
    w.answer_first();
    assert_eq!(w.one(alice)["total"], 1);
    assert_eq!(
        operation(&w),
        wants(Kind::Presence, None),
        "watching, once the first is answered"
    );
    w.answer_first();
    assert_eq!(operation(&w), wants(Kind::Signal, Some("[7]")));
    w.answer_first();
    assert_eq!(w.one(bob)["event"], "e");
    w.messages(alice);
    // Refused, late, and never needed to leave.
    w.home.forbidden = vec![Kind::Presence, Kind::Signal];
    w.send(
        alice,
        json!({ "type": "presence", "channel": "open", "state": 1 }),
    );
    w.answer_first();
    assert_eq!(code(&w.one(alice)), "forbidden");
    w.send(
        alice,
        json!({ "type": "signal", "channel": "open", "event": "e" }),
    );
    let ask = w.questions.remove(0).id;
    w.late(ask);
    assert_eq!(code(&w.one(alice)), "unavailable");
    w.send(
        alice,
        json!({ "type": "presence", "channel": "open", "state": null }),
    );
    assert_eq!((w.questions.len(), w.messages(bob)), (0, vec![]));
    assert_eq!(w.presence("open").1["total"], 0);
}

#[test]
fn whoever_may_not_by_the_rule_is_not_asked_about() {
    let mut w = World::elsewhere();
    let (nobody, alice) = (w.nobody(), w.user("alice"));
    assert_eq!(code(&w.subscribe(nobody, "todos")), "unauthorized");
    let here = json!({ "type": "presence", "channel": "open", "state": 1 });
    assert!(!code(&w.ask(alice, here)).is_empty(), "not a subscriber");
    assert_eq!((w.home.fetches, w.home.authorizes), (0, 0));
}

#[test]
fn readers_and_writers_over_http_are_authorized_alike() {
    let mut w = World::elsewhere();
    w.put("todos", json!({ "id": "k" }));
    let (status, page) = w.page(&reads("alice", "todos"));
    assert_eq!((status, ids(&page)), (200, vec!["k"]));
    assert_eq!(w.page(&reads("alice", "todos").after(&page)).0, 200);
    assert_eq!((w.home.fetches, w.home.authorizes), (1, 1));
    w.home.forbidden = vec![Kind::Subscribe, Kind::Create];
    for read in [
        reads("alice", "todos"),
        reads("alice", "todos").after(&page),
    ] {
        let (status, refusal) = w.page(&read);
        assert_eq!(
            (status, &refusal["error"]["message"]),
            (403, &json!("the source says no"))
        );
    }
    let create =
        json!({ "id": "m", "channel": "todos", "action": "create", "data": { "id": "l" } });
    let (status, body) = w.write(Some("alice"), json!([create]));
    assert_eq!((status, code(&body["results"][0])), (200, "forbidden"));
}

/// Teams whose rows the source alone scopes.
fn teams() -> World {
    let mut w = World::with_channels(&json!({
        "team:*": {
            "read": "user", "write": "user",
            "source": { "handler": "home", "authorize": false }
        }
    }));
    w.put("team:x", json!({ "id": "as", "team": "a" }));
    w.put("team:x", json!({ "id": "bs", "team": "b" }));
    w
}

fn renew(w: &World, topics: &[&str]) -> Value {
    let exp = w.now.0 / 1000 + 3_600;
    let claims = json!({ "sub": "alice", "exp": exp, "topics": topics });
    json!({ "type": "auth", "token": token(&claims) })
}

/// The snapshot among what a connection got.
#[track_caller]
fn snapshot(w: &mut World, conn: ConnId) -> Value {
    let mut messages = w.messages(conn);
    messages.retain(|message| message["type"] == "snapshot");
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.remove(0)
}

#[test]
fn rows_that_were_fetched_for_other_topics_are_not_shown() {
    let mut w = teams();
    let alice = w.member("alice", &["team:a"]);
    w.slow = true;
    w.send(
        alice,
        json!({ "type": "subscribe", "id": "s", "channel": "team:x" }),
    );
    let (ask, answer) = w.look();
    let message = renew(&w, &["team:b"]);
    w.send(alice, message);
    let authed = w.one(alice);
    assert_eq!(authed["type"], "authed");
    w.answered(ask, answer);
    assert_eq!(
        w.messages(alice),
        NOTHING,
        "it was for other eyes: the source is asked again"
    );
    w.answer_first();
    let page = snapshot(&mut w, alice);
    assert_eq!((ids(&page), &page["view"]), (vec!["bs"], &authed["view"]));
}

#[test]
fn other_topics_reset_a_channel_whose_rows_live_elsewhere() {
    let mut w = teams();
    let alice = w.member("alice", &["team:a"]);
    let first = w.subscribe(alice, "team:x");
    assert_eq!(ids(&first), ["as"]);
    let message = renew(&w, &["team:b"]);
    w.send(alice, message);
    let told = w.messages(alice);
    let reset = json!({ "type": "channel-reset", "channel": "team:x", "reason": "topics" });
    assert_eq!((&told[0], &told[1]["type"]), (&reset, &json!("authed")));
    assert_eq!(ids(&w.subscribe(alice, "team:x")), ["bs"]);
    assert_eq!(
        w.ask(alice, resume(&first))["mode"],
        "full",
        "a cursor of other eyes"
    );
    w.subscribe(alice, "team:x");
    w.call(
        Call::Topics,
        json!({ "identity": "alice", "add": ["team:a"] }),
    );
    assert_eq!(w.messages(alice)[0], reset);
    assert_eq!(ids(&w.subscribe(alice, "team:x")), ["as", "bs"]);
}

#[test]
fn a_stream_ends_with_its_topics_and_comes_back_with_the_new_ones() {
    let mut w = teams();
    let stream = w.stream(&reads("alice", "team:x").topics(&["team:a"]));
    assert_eq!(ids(&w.event(stream)), ["as"]);
    w.call(
        Call::Topics,
        json!({ "identity": "alice", "remove": ["team:a"] }),
    );
    let told = w.stream_events(stream);
    assert_eq!(told[0]["type"], "channel-reset");
    assert!(w.reader_ended(stream) && w.last_id(stream).is_empty());
}

#[test]
fn a_reader_over_http_loses_its_topics_also_while_its_source_is_asked() {
    let mut w = teams();
    w.slow = true;
    let reader = w.wait(&reads("alice", "team:x").topics(&["team:a"]));
    let (ask, answer) = w.look();
    w.advance(1);
    w.call(
        Call::Topics,
        json!({ "identity": "alice", "remove": ["team:a"] }),
    );
    w.answered(ask, answer);
    w.settle();
    let body: Value = serde_json::from_str(&w.reply(reader).unwrap().body).unwrap();
    assert_eq!(body["data"], json!([]));
}

#[test]
fn a_reader_that_is_shut_out_while_its_source_is_asked_gets_nothing() {
    let mut w = teams();
    w.slow = true;
    let streams = w
        .slow_stream(&reads("alice", "team:x").topics(&["team:a"]))
        .unwrap();
    let mut brief = reads("bob", "team:x");
    brief.seconds = 5;
    let brief = w.wait(&brief);
    w.advance(5_000);
    w.call(Call::Disconnect, json!({ "identity": "alice" }));
    w.settle();
    assert_eq!(w.reply(streams).unwrap().status, 401);
    assert_eq!(w.reply(brief).unwrap().status, 401, "its token has ended");
    assert_eq!(w.stats()["connections"], 0);
}

#[test]
fn the_mutations_of_a_request_end_with_its_token() {
    let mut w = teams();
    w.slow = true;
    let create = |id: &str| {
        let data = json!({ "id": id, "team": "a" });
        json!({ "id": id, "channel": "team:x", "action": "create", "data": data })
    };
    let request = w.write_later("alice", json!([create("m1"), create("m2"), create("m3")]));
    w.call(Call::Disconnect, json!({ "identity": "alice" }));
    w.settle();
    let body: Value = serde_json::from_str(&w.reply(request).unwrap().body).unwrap();
    let results = body["results"].as_array().unwrap();
    assert_eq!(
        (&results[0]["type"], results.len()),
        (&json!("ack"), 3),
        "it was under way"
    );
    assert_eq!([code(&results[1]), code(&results[2])], ["unauthorized"; 2]);
    assert_eq!(w.home.writes, 1);
}
