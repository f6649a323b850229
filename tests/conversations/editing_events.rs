//! Event channels with `edits`: edits and deletes are events themselves.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::replica::Replica;
use super::world::{self, World};
use super::{NOTHING, blame, code, gist, ids};

/// Changes as a page lists them: without type, channel and cursor.
fn told(messages: Vec<Value>) -> Vec<Value> {
    let fields = ["action", "key", "data", "by", "at"];
    let strip = |message: &Value| -> Value {
        let field = |name: &str| (name.to_owned(), message[name].clone());
        fields.iter().map(|name| field(name)).collect()
    };
    let parts = |message: Value| match message["changes"].as_array() {
        Some(changes) => changes.clone(),
        None => vec![message],
    };
    messages
        .into_iter()
        .flat_map(parts)
        .map(|change| strip(&change))
        .collect()
}

fn changes(page: &Value) -> Vec<Value> {
    page["changes"]
        .as_array()
        .expect("a page of changes")
        .clone()
}

fn publish(w: &mut World, channel: &str, action: &str, key: &str, data: Value, to: &[&str]) {
    let mut body = json!({ "channel": channel, "action": action, "key": key, "data": data });
    if !to.is_empty() {
        body["to"] = json!(to);
    }
    let (status, answer) = w.broadcast(body);
    assert_eq!(status, 200, "{answer}");
}

#[test]
fn edits_and_deletes_are_events_themselves() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "doc:1"));
    w.create(alice, "m1", "doc:1", json!({ "id": "k", "n": 1, "x": 1 }));
    let ack = w.update(alice, "m2", "doc:1", json!({ "id": "k", "n": 2 }));
    assert_eq!(ack["data"], json!({ "id": "k", "n": 2, "x": 1 }));
    assert_eq!(
        w.delete(alice, "m3", "doc:1", "k")["data"],
        json!({ "id": "k" })
    );
    let heard = w.messages(bob);
    assert_eq!(gist(&heard), ["create k", "update k", "delete k"]);
    assert_eq!(heard[1]["data"], json!({ "id": "k", "n": 2, "x": 1 }));
}

#[test]
fn a_page_replays_what_live_clients_saw() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "doc:1"));
    let away = w.user("carol");
    let before = w.subscribe(away, "doc:1");
    w.drop(away);
    w.create(alice, "m1", "doc:1", json!({ "id": "a", "n": 1 }));
    w.advance(1000);
    w.create(alice, "m2", "doc:1", json!({ "id": "b" }));
    w.update(alice, "m3", "doc:1", json!({ "id": "a", "n": 2 }));
    w.delete(alice, "m4", "doc:1", "b");
    w.advance(1000);
    publish(&mut w, "doc:1", "update", "a", json!({ "n": 3 }), &[]);
    publish(&mut w, "doc:1", "create", "c", json!({}), &[]);
    w.sleep();
    let carol = w.user("carol");
    let page = w.resume(carol, "doc:1", &before["cursor"], &before["view"]);
    assert_eq!(page["mode"], "delta");
    assert_eq!(changes(&page), told(w.messages(bob)));
    assert_eq!(page["data"], json!([{ "id": "a", "n": 3 }, { "id": "c" }]));
    assert_eq!(page["deleted"], json!(["b"]));
}

#[test]
fn pages_of_any_size_replay_the_same() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "doc:1"));
    let first = w.subscribe(alice, "doc:1");
    for (i, (action, key)) in [
        ("create", "a"),
        ("create", "b"),
        ("update", "a"),
        ("delete", "b"),
        ("update", "a"),
        ("create", "c"),
    ]
    .into_iter()
    .enumerate()
    {
        publish(&mut w, "doc:1", action, key, json!({ "n": i }), &[]);
    }
    let live = told(w.messages(bob));
    for limit in 1..8 {
        let carol = w.user("alice");
        let mut replica = Replica::of("doc:1");
        (replica.cursor, replica.view) = (first["cursor"].clone(), first["view"].clone());
        let mut heard = Vec::new();
        loop {
            let message = json!({ "type": "subscribe", "channel": "doc:1", "limit": limit,
                "cursor": replica.cursor, "view": replica.view });
            let page = w.ask(carol, message);
            assert!(changes(&page).len() <= limit);
            heard.extend(changes(&page));
            replica.apply(&page);
            if page["more"] == false {
                break;
            }
        }
        assert_eq!(heard, live, "limit {limit}");
        assert_eq!(replica.keys(), ["a", "c"], "limit {limit}");
    }
}

#[test]
fn a_full_page_holds_every_kept_state_of_what_is_there_and_nothing_of_what_is_gone() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "doc:1", json!({ "id": "a", "n": 1 }));
    w.create(alice, "m2", "doc:1", json!({ "id": "b", "secret": 1 }));
    w.update(alice, "m3", "doc:1", json!({ "id": "b", "secret": 2 }));
    w.update(alice, "m4", "doc:1", json!({ "id": "a", "n": 2 }));
    w.delete(alice, "m5", "doc:1", "b");
    let bob = w.user("bob");
    let page = w.subscribe(bob, "doc:1");
    assert_eq!(
        (&page["mode"], &page["data"]),
        (&json!("full"), &json!([{ "id": "a", "n": 2 }]))
    );
    assert_eq!(page["deleted"], json!(NOTHING));
    assert_eq!(gist(&changes(&page)), ["create a", "update a"]);
    assert_eq!(changes(&page)[0]["data"], json!({ "id": "a", "n": 1 }));
    assert!(!page.to_string().contains("secret"));
}

#[test]
fn what_goes_between_the_pages_of_a_full_answer_is_told() {
    let mut w = World::new();
    let alice = w.user("alice");
    for key in ["a", "b", "c"] {
        publish(&mut w, "doc:1", "create", key, json!({}), &[]);
    }
    let mut replica = Replica::of("doc:1");
    assert!(replica.page(&mut w, alice, 1));
    publish(&mut w, "doc:1", "delete", "a", json!({}), &[]);
    publish(&mut w, "doc:1", "update", "b", json!({ "n": 1 }), &[]);
    let rest = w.ask(
        alice,
        json!({ "type": "subscribe", "channel": "doc:1",
        "cursor": replica.cursor, "view": replica.view }),
    );
    assert_eq!(rest["mode"], "delta");
    assert_eq!(
        gist(&changes(&rest)),
        ["create b", "create c", "delete a", "update b"]
    );
    replica.apply(&rest);
    assert_eq!(replica.keys(), ["b", "c"]);
}

#[test]
fn without_edits_a_page_has_no_changes() {
    let mut w = World::new();
    let alice = w.user("alice");
    assert!(w.subscribe(alice, "chat:1").get("changes").is_none());
    assert!(w.subscribe(alice, "todos").get("changes").is_none());
    assert_eq!(w.subscribe(alice, "doc:1")["changes"], json!(NOTHING));
}

#[test]
fn a_deleted_event_stays_deleted_and_its_key_used() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "doc:1", json!({ "id": "k" }));
    w.delete(alice, "m2", "doc:1", "k");
    w.sleep();
    assert_eq!(
        code(&w.create(alice, "m3", "doc:1", json!({ "id": "k" }))),
        "conflict"
    );
    assert_eq!(
        code(&w.update(alice, "m4", "doc:1", json!({ "id": "k" }))),
        "not_found"
    );
    assert_eq!(code(&w.delete(alice, "m5", "doc:1", "k")), "not_found");
    for action in ["create", "update", "delete"] {
        let body = json!({ "channel": "doc:1", "action": action, "key": "k", "data": {} });
        let (status, body) = w.broadcast(body);
        assert_eq!(
            (status, blame(&body)),
            (400, ("invalid", "key")),
            "{action}"
        );
    }
    assert_eq!(w.stats()["seq"], 2);
}

#[test]
fn hidden_events_answer_like_none_and_their_keys_are_taken() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    w.create(alice, "m1", "talk:1", json!({ "id": "k", "for": "alice" }));
    let update = json!({ "id": "k", "for": "bob" });
    assert_eq!(
        code(&w.update(bob, "b1", "talk:1", update.clone())),
        "not_found"
    );
    assert_eq!(code(&w.delete(bob, "b2", "talk:1", "k")), "not_found");
    assert_eq!(
        code(&w.create(bob, "b3", "talk:1", update.clone())),
        "forbidden"
    );
    w.delete(alice, "m2", "talk:1", "k");
    assert_eq!(code(&w.create(bob, "b4", "talk:1", update)), "forbidden");
    let page = w.subscribe(bob, "talk:1");
    assert_eq!(
        (&page["data"], &page["changes"]),
        (&json!(NOTHING), &json!(NOTHING))
    );
}

/// Alice's event is edited to bob, to both, and to carol, under the eyes of all three.
fn moved(w: &mut World) {
    let row = |to: Value| json!({ "id": "k", "for": to });
    let alice = w.user("alice");
    w.create(alice, "m1", "talk:1", row(json!("alice")));
    w.update(alice, "m2", "talk:1", row(json!("bob")));
    publish(
        w,
        "talk:1",
        "update",
        "k",
        row(json!(["alice", "bob"])),
        &[],
    );
    publish(w, "talk:1", "update", "k", row(json!("carol")), &[]);
}

#[test]
fn an_edit_that_moves_an_event_is_told_as_for_rows_live_and_on_pages() {
    for (who, heard) in [
        (
            "alice",
            vec!["create k", "delete k", "create k", "delete k"],
        ),
        ("bob", vec!["create k", "update k", "delete k"]),
        ("carol", vec!["create k"]),
        ("dave", vec![]),
    ] {
        let mut w = World::new();
        let (live, away) = (w.live(who, "talk:1"), w.user(who));
        let before = w.subscribe(away, "talk:1");
        w.drop(away);
        moved(&mut w);
        let live = told(w.messages(live));
        assert_eq!(gist(&live), heard, "{who}");
        assert!(
            live.iter()
                .all(|c| c["action"] != "delete" || c["by"].is_null())
        );
        let back = w.user(who);
        let page = w.resume(back, "talk:1", &before["cursor"], &before["view"]);
        assert_eq!(changes(&page), live, "{who}");
        let new = w.user(who);
        let full = w.subscribe(new, "talk:1");
        let kept = if who == "carol" {
            vec!["create k"]
        } else {
            vec![]
        };
        assert_eq!(gist(&changes(&full)), kept, "{who}");
        assert_eq!(ids(&full).len(), kept.len(), "{who}");
    }
}

#[test]
fn a_new_member_learns_nothing_of_events_that_left_before_it_came() {
    let mut w = World::new();
    for (key, to) in [("gone", "team:a"), ("moved", "team:a"), ("here", "team:a")] {
        publish(&mut w, "talk:1", "create", key, json!({ "n": 1 }), &[to]);
    }
    publish(&mut w, "talk:1", "delete", "gone", Value::Null, &[]);
    publish(
        &mut w,
        "talk:1",
        "update",
        "moved",
        json!({ "n": 2 }),
        &["team:b"],
    );
    publish(&mut w, "talk:1", "update", "here", json!({ "n": 2 }), &[]);
    let member = w.member("alice", &["team:a"]);
    let page = w.subscribe(member, "talk:1");
    assert_eq!(gist(&changes(&page)), ["create here", "update here"]);
    assert!(!page.to_string().contains("gone") && !page.to_string().contains("moved"));
}

#[test]
fn other_topics_create_and_delete_the_events_that_they_move() {
    let mut w = World::new();
    let alice = w.live("alice", "talk:1");
    publish(
        &mut w,
        "talk:1",
        "create",
        "k",
        json!({ "n": 1 }),
        &["team:a"],
    );
    publish(&mut w, "talk:1", "update", "k", json!({ "n": 2 }), &[]);
    for (change, heard) in [("add", "create k"), ("remove", "delete k")] {
        let body = json!({ "identity": "alice", change: ["team:a"] });
        assert_eq!(w.call(tidewire::Call::Topics, body).0, 200);
        let messages = w.messages(alice);
        assert_eq!(gist(&messages[..1]), [heard]);
        assert_eq!(messages[1]["type"], "authed");
    }
}

#[test]
fn a_publisher_may_edit_an_event_that_the_log_does_not_hold() {
    let mut w = World::new();
    let bob = w.live("bob", "doc:1");
    publish(&mut w, "doc:1", "update", "old", json!({ "n": 1 }), &[]);
    publish(&mut w, "doc:1", "delete", "older", Value::Null, &[]);
    let live = told(w.messages(bob));
    assert_eq!(gist(&live), ["update old", "delete older"]);
    let carol = w.user("carol");
    let page = w.subscribe(carol, "doc:1");
    assert_eq!(gist(&changes(&page)), ["update old"]);
    let needs_audience = json!({ "channel": "talk:1", "action": "delete", "key": "old" });
    assert_eq!(blame(&w.broadcast(needs_audience).1), ("invalid", "to"));
}

#[test]
fn a_repeat_is_answered_with_the_event_as_it_is_now() {
    let mut w = World::new();
    let alice = w.user("alice");
    let create = json!({ "id": "k", "n": 1 });
    w.create(alice, "m1", "doc:1", create.clone());
    let update = json!({ "id": "k", "n": 2 });
    let first = w.update(alice, "m2", "doc:1", update.clone());
    let repeat = w.create(alice, "m1", "doc:1", create.clone());
    assert_eq!(
        (&repeat["replayed"], &repeat["data"]),
        (&json!(true), &update)
    );
    w.delete(alice, "m3", "doc:1", "k");
    let repeat = w.update(alice, "m2", "doc:1", update);
    assert_eq!(
        (&repeat["data"], &repeat["cursor"]),
        (&Value::Null, &first["cursor"])
    );
    assert_eq!(w.stats()["seq"], 3);
}

#[test]
fn a_batch_may_edit_what_it_has_made() {
    let mut w = World::new();
    let bob = w.live("bob", "doc:1");
    let batch = json!({ "channel": "doc:1", "changes": [
        { "action": "create", "key": "k", "data": { "n": 1 } },
        { "action": "update", "key": "k", "data": { "n": 2 } },
        { "action": "delete", "key": "k" }
    ] });
    assert_eq!(w.broadcast_batch(batch).0, 200);
    assert_eq!(
        gist(&told(w.messages(bob))),
        ["create k", "update k", "delete k"]
    );
    let again = json!({ "channel": "doc:1", "changes": [
        { "action": "create", "key": "j", "data": {} },
        { "action": "create", "key": "j", "data": {} }
    ] });
    let (status, body) = w.broadcast_batch(again);
    assert_eq!((status, blame(&body)), (400, ("invalid", "changes[1].key")));
}

#[test]
fn an_edit_fails_whole_at_any_statement() {
    for statements in 0.. {
        let mut w = World::new();
        let (alice, bob) = (w.user("alice"), w.live("bob", "doc:1"));
        w.create(alice, "m1", "doc:1", json!({ "id": "k", "n": 1 }));
        w.messages(bob);
        w.sqlite.fail_after(statements);
        let answer = w.update(alice, "m2", "doc:1", json!({ "id": "k", "n": 2 }));
        let versions = w.sqlite.number("SELECT count(*) FROM versions");
        if w.sqlite.spared() {
            assert_eq!((&answer["type"], versions), (&json!("ack"), 1));
            assert!(statements > 5);
            return;
        }
        assert_eq!((code(&answer), versions), ("unavailable", 0));
        assert_eq!(w.messages(bob), NOTHING);
        let again = w.update(alice, "m2", "doc:1", json!({ "id": "k", "n": 2 }));
        assert_eq!(
            (&again["type"], &again["replayed"]),
            (&json!("ack"), &json!(false))
        );
    }
}

#[test]
fn a_reset_sends_everything_that_is_kept() {
    let mut w = World::new();
    let alice = w.user("alice");
    publish(&mut w, "doc:1", "create", "k", json!({ "n": 1 }), &[]);
    let before = w.subscribe(alice, "doc:1");
    publish(&mut w, "doc:1", "update", "k", json!({ "n": 2 }), &[]);
    w.call(
        tidewire::Call::BroadcastReset,
        json!({ "channel": "doc:1" }),
    );
    w.messages(alice);
    let after = w.resume(alice, "doc:1", &before["cursor"], &before["view"]);
    assert_eq!(after["mode"], "full");
    assert_eq!(gist(&changes(&after)), ["create k", "update k"]);
}

#[test]
fn meta_stands_beside_changes() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "doc:1", json!({ "id": "k" }));
    let page = w.ask(
        alice,
        json!({ "type": "subscribe", "channel": "doc:1", "meta": true }),
    );
    let change = &changes(&page)[0];
    assert_eq!(
        (&change["by"], &change["at"]),
        (&json!("alice"), &page["meta"]["k"]["at"])
    );
}

#[test]
fn a_legacy_client_gets_the_state_and_no_changes() {
    let mut w = World::new();
    let legacy = w.connect(Some("alice"), &[]);
    publish(&mut w, "doc:1", "create", "a", json!({ "n": 1 }), &[]);
    publish(&mut w, "doc:1", "create", "b", json!({}), &[]);
    publish(&mut w, "doc:1", "update", "a", json!({ "n": 2 }), &[]);
    publish(&mut w, "doc:1", "delete", "b", json!({}), &[]);
    let page = w.subscribe(legacy, "doc:1");
    assert_eq!(page["data"], json!([{ "id": "a", "n": 2 }]));
    assert!(page.get("changes").is_none());
    w.advance(10 * 60_000);
    let since = w.now.0;
    w.drop(legacy);
    w.advance(10 * 60_000);
    publish(&mut w, "doc:1", "delete", "a", json!({}), &[]);
    let legacy = w.connect(Some("alice"), &[]);
    w.send(
        legacy,
        json!({ "type": "subscribe", "id": "s", "channel": "doc:1", "since": since }),
    );
    let messages = w.messages(legacy);
    assert_eq!(
        (&messages[0]["isDelta"], &messages[0]["data"]),
        (&json!(true), &json!(NOTHING))
    );
    assert_eq!(
        gist(messages[1]["changes"].as_array().unwrap()),
        ["delete a"]
    );
}

#[test]
fn pages_with_changes_stay_below_the_bound_of_a_frame() {
    let mut w = World::new();
    let large = |n: u64| json!({ "n": n, "text": "x".repeat(limits::ROW_BYTES - 100) });
    let alice = w.user("alice");
    for key in ["a", "b", "c"] {
        publish(&mut w, "doc:1", "create", key, large(1), &[]);
        publish(&mut w, "doc:1", "update", key, large(2), &[]);
    }
    let mut replica = Replica::of("doc:1");
    let mut pages = 1;
    while replica.page(&mut w, alice, 500) {
        pages += 1;
    }
    assert!(pages > 1);
    assert_eq!(replica.keys(), ["a", "b", "c"]);
}

#[test]
fn what_edits_replaced_counts_among_the_rows_that_a_page_reads() {
    let mut w = World::new();
    let rows = limits::PAGE_SCAN as u64 + 10;
    publish(
        &mut w,
        "talk:1",
        "create",
        "mine",
        json!({}),
        &["user:alice"],
    );
    w.sqlite.execute(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i <= {rows})
         INSERT INTO versions (channel, seq, key, data, audience, at, nth)
         SELECT 'talk:1', i, 'hidden', '{{}}', '[\"user:bob\"]', 1, i FROM n;
         INSERT INTO rows (channel, key, seq, data, audience, at, nth)
         VALUES ('talk:1', 'hidden', {rows} + 2, '{{}}', '[\"user:bob\"]', 1, 1)"
    ));
    w.sleep();
    let alice = w.user("alice");
    let page = w.subscribe(alice, "talk:1");
    assert_eq!((&page["more"], ids(&page)), (&json!(true), vec!["mine"]));
    let last = w.resume(alice, "talk:1", &page["cursor"], &page["view"]);
    assert_eq!(
        (&last["more"], &last["changes"]),
        (&json!(false), &json!(NOTHING))
    );
}

/// A world over the same log with other rules.
fn reconfigured(w: &World, channels: &Value) -> World {
    let config = world::config(channels);
    let mut other = World::with_config(config.clone());
    other.engine = world::open(&config, &w.sqlite, w.now).unwrap();
    (other.sqlite, other.now) = (w.sqlite.clone(), w.now);
    other.alarm = other.engine.due(other.now);
    other
}

fn rule(fields: Value) -> Value {
    let mut rule = json!({ "read": "user", "write": "user" });
    rule.as_object_mut()
        .unwrap()
        .extend(fields.as_object().unwrap().clone());
    json!({ "doc:1": rule })
}

#[test]
fn rows_become_events_and_events_rows_with_the_rule() {
    let mut w = reconfigured(&World::new(), &rule(json!({})));
    publish(&mut w, "doc:1", "create", "a", json!({ "n": 1 }), &[]);
    publish(&mut w, "doc:1", "update", "a", json!({ "n": 2 }), &[]);
    let events = rule(json!({ "keep": "every", "edits": true, "retain": { "count": 3 } }));
    let mut w = reconfigured(&w, &events);
    for n in 0..2 {
        publish(&mut w, "doc:1", "update", "a", json!({ "n": 3 + n }), &[]);
    }
    let alice: ConnId = w.user("alice");
    let page = w.subscribe(alice, "doc:1");
    assert_eq!(gist(&changes(&page)), ["create a", "update a", "update a"]);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM versions"), 2);
    let mut w = reconfigured(&w, &rule(json!({})));
    publish(&mut w, "doc:1", "delete", "a", Value::Null, &[]);
    w.advance(limits::RETENTION_MS);
    for _ in 0..5 {
        w.advance(60_000);
        w.ring();
    }
    assert_eq!(w.sqlite.number("SELECT count(*) FROM versions"), 0);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
    w.sleep();
    assert_eq!(w.stats()["seq"], 5);
}
