//! `/broadcast-batch`: many changes, all or nothing, one frame a receiver.

use serde_json::{Value, json};
use tidewire::{Call, limits};

use super::replica::Replica;
use super::world::World;
use super::{NOTHING, code, gist, seq};

fn create(key: &str, to: &[&str]) -> Value {
    match to {
        [] => json!({ "action": "create", "key": key, "data": {} }),
        to => json!({ "action": "create", "key": key, "data": {}, "to": to }),
    }
}

fn update(key: &str, to: &[&str]) -> Value {
    let mut change = create(key, to);
    change["action"] = json!("update");
    change
}

fn todos(changes: &[Value]) -> Value {
    json!({ "channel": "todos", "changes": changes })
}

/// The changes that a batch holds.
fn changes(batch: &Value) -> Vec<String> {
    assert_eq!(batch["type"], "batch");
    gist(batch["changes"].as_array().unwrap())
}

#[test]
fn a_batch_is_one_frame_with_the_cursor_of_its_last_change() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let old = w.connect(Some("bob"), &[]);
    w.subscribe(old, "todos");
    let list = [
        create("a", &[]),
        create("b", &[]),
        update("a", &[]),
        create("c", &[]),
    ];
    let (status, result) = w.broadcast_batch(todos(&list));
    assert_eq!(status, 200);
    assert_eq!(
        result,
        json!({ "cursor": "hhhhhhhh.4", "seq": 4, "receivers": 2 })
    );
    for conn in [alice, old] {
        let batch = w.one(conn);
        assert_eq!(
            changes(&batch),
            ["create a", "create b", "update a", "create c"]
        );
        assert_eq!(batch["cursor"], result["cursor"]);
        assert_eq!(batch["channel"], "todos");
        assert_eq!(batch.get("more"), None);
        let first = &batch["changes"][0];
        assert_eq!(
            first,
            &json!({
                "action": "create", "key": "a", "data": { "id": "a" }, "by": null, "at": w.now.0
            })
        );
    }
}

#[test]
fn a_batch_of_which_one_change_is_seen_is_that_change() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "todos"));
    w.broadcast_batch(todos(&[
        create("a", &["user:alice"]),
        create("b", &["user:carol"]),
    ]));
    let heard = w.one(alice);
    assert_eq!(
        (&heard["type"], gist(std::slice::from_ref(&heard))),
        (&json!("change"), vec!["create a".to_owned()])
    );
    assert_eq!(seq(&heard), 1, "it does not count what is hidden");
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn each_receiver_sees_exactly_its_part_in_order() {
    let mut w = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| w.live(user, "todos"));
    w.broadcast_batch(todos(&[
        create("ab", &["user:alice", "user:bob"]),
        create("a", &["user:alice"]),
        create("all", &[]),
        create("b", &["user:bob"]),
    ]));
    assert_eq!(
        changes(&w.one(alice)),
        ["create ab", "create a", "create all"]
    );
    assert_eq!(
        changes(&w.one(bob)),
        ["create ab", "create all", "create b"]
    );
    assert_eq!(gist(&[w.one(carol)]), ["create all"]);
    w.broadcast_batch(todos(&[
        update("ab", &["user:bob", "user:carol"]),
        update("all", &["user:carol"]),
        update("a", &["user:alice", "user:bob"]),
    ]));
    assert_eq!(
        changes(&w.one(alice)),
        ["delete ab", "delete all", "update a"]
    );
    assert_eq!(
        changes(&w.one(bob)),
        ["update ab", "delete all", "create a"]
    );
    assert_eq!(changes(&w.one(carol)), ["create ab", "update all"]);
}

#[test]
fn one_row_may_move_several_times_within_a_batch() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "todos"));
    let delete = json!({ "action": "delete", "key": "k" });
    w.broadcast_batch(todos(&[
        create("k", &["user:alice"]),
        update("k", &["user:bob"]),
        update("k", &["user:alice"]),
        delete,
        create("k", &["user:bob"]),
    ]));
    let alices = ["create k", "delete k", "create k", "delete k"];
    assert_eq!(changes(&w.one(alice)), alices);
    assert_eq!(changes(&w.one(bob)), ["create k", "delete k", "create k"]);
}

#[test]
fn changes_merge_with_those_before_them_in_the_batch() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    w.broadcast_batch(todos(&[
        json!({ "action": "create", "key": "k", "data": { "a": 1 } }),
        json!({ "action": "update", "key": "k", "data": { "b": 2 } }),
        json!({ "action": "delete", "key": "k" }),
        json!({ "action": "update", "key": "k", "data": { "c": 3 } }),
    ]));
    let batch = w.one(alice);
    assert_eq!(
        batch["changes"][1]["data"],
        json!({ "id": "k", "a": 1, "b": 2 })
    );
    assert_eq!(batch["changes"][3]["data"], json!({ "id": "k", "c": 3 }));
}

#[test]
fn events_each_name_their_channel_and_a_receiver_gets_one_frame() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "todos"));
    w.subscribe(alice, "feed");
    let event = |channel: &str, key: &str| json!({ "channel": channel, "action": "create", "key": key, "data": {} });
    let events = [
        event("todos", "a"),
        event("feed", "f"),
        event("todos", "b"),
        event("open", "o"),
    ];
    let (status, result) = w.broadcast_batch(json!({ "events": events }));
    assert_eq!(
        (status, &result["seq"], &result["receivers"]),
        (200, &json!(4), &json!(2))
    );
    let frames = w.frames(alice);
    assert_eq!(frames.len(), 1);
    let parts: Vec<Value> = serde_json::from_str(&frames[0]).unwrap();
    assert_eq!(changes(&parts[0]), ["create a", "create b"]);
    assert_eq!(
        (&parts[1]["channel"], &parts[1]["key"]),
        (&json!("feed"), &json!("f"))
    );
    assert_eq!(
        (seq(&parts[0]), seq(&parts[1])),
        (3, 2),
        "each channel has its own cursor"
    );
    assert_eq!(changes(&w.one(bob)), ["create a", "create b"]);
}

#[test]
fn a_batch_is_all_or_nothing_and_names_the_first_bad_change() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let proto = json!({ "action": "create", "key": "x", "data": { "__proto__": 1 } });
    let unshaped = json!({ "action": "create", "key": "" , "data": {} });
    for (list, field) in [
        (
            vec![create("a", &[]), proto.clone(), create("b", &[])],
            "changes[1].__proto__",
        ),
        (
            vec![create("a", &[]), create("b", &[]), unshaped.clone()],
            "changes[2].key",
        ),
        (vec![create("a", &[]), json!(7)], "changes[1]"),
        (
            vec![proto.clone(), unshaped.clone()],
            "changes[0].__proto__",
        ),
        (vec![unshaped, proto], "changes[0].key"),
    ] {
        let (status, body) = w.broadcast_batch(todos(&list));
        assert_eq!((status, &body["error"]["field"]), (400, &json!(field)));
        let message = body["error"]["message"].as_str().unwrap();
        assert!(
            field.starts_with(message.split(':').next().unwrap()),
            "{message}"
        );
    }
    let nowhere = json!({ "events": [
        { "channel": "todos", "action": "create", "key": "a", "data": {} },
        { "channel": "nowhere", "action": "create", "key": "a", "data": {} }
    ]});
    let (status, body) = w.broadcast_batch(nowhere);
    assert_eq!((status, code(&body)), (400, "unknown_channel"));
    assert_eq!(body["error"]["field"], "events[1]");
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(w.subscribe(alice, "todos")["data"], json!([]));
    assert_eq!(w.stats()["seq"], 0);
}

#[test]
fn a_batch_lists_changes_or_events_and_not_both() {
    let mut w = World::new();
    let event = json!({ "channel": "todos", "action": "create", "key": "k", "data": {} });
    let both = json!({ "channel": "todos", "changes": [event], "events": [event] });
    for bad in [
        both,
        json!({}),
        json!({ "channel": "todos" }),
        json!({ "changes": 7 }),
    ] {
        let (status, body) = w.broadcast_batch(bad);
        assert_eq!((status, code(&body)), (400, "malformed"));
    }
    let (status, body) = w.broadcast_batch(json!({ "changes": [create("k", &[])] }));
    assert_eq!((status, &body["error"]["field"]), (400, &json!("channel")));
}

#[test]
fn a_batch_too_large_for_a_frame_comes_in_parts_and_is_applied_at_the_last() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.user(user));
    for conn in [alice, bob] {
        w.subscribe(conn, "todos");
    }
    let text = "x".repeat(100_000);
    let list: Vec<Value> = (0..30)
        .map(|i| {
            let to = if i % 3 == 2 {
                json!(["user:alice"])
            } else {
                json!("all")
            };
            json!({ "action": "create", "key": format!("k{i}"), "data": { "t": text }, "to": to })
        })
        .collect();
    assert_eq!(w.broadcast_batch(todos(&list)).1["receivers"], 2);
    for (conn, rows, frames, newest) in [(alice, 30, 4, 30), (bob, 20, 3, 29)] {
        let parts = w.frames(conn);
        assert_eq!(parts.len(), frames, "each part is a frame");
        assert!(
            parts
                .iter()
                .all(|part| part.len() <= limits::FRAME_OUT_BYTES)
        );
        let parts: Vec<Value> = parts
            .iter()
            .map(|p| serde_json::from_str(p).unwrap())
            .collect();
        let (last, others) = parts.split_last().unwrap();
        for part in others {
            assert_eq!(part["more"], true);
            assert_eq!(part.get("cursor"), None);
        }
        assert_eq!((seq(last), last.get("more")), (newest, None));
        let mut copy = Replica::of("todos");
        others.iter().for_each(|part| copy.apply(part));
        assert_eq!(copy.rows.len(), 0, "not applied before the last");
        copy.apply(last);
        assert_eq!(copy.rows.len(), rows);
    }
}

#[test]
fn a_batch_is_refused_whole_when_a_row_is_too_large() {
    let mut w = World::new();
    let large = "x".repeat(limits::ROW_BYTES);
    let list = [
        create("a", &[]),
        json!({ "action": "create", "key": "b", "data": { "t": large } }),
    ];
    let body = todos(&list).to_string();
    let (status, answer) = w.publish(Call::BroadcastBatch, &body, None);
    assert_eq!(
        (status, &answer["error"]["field"]),
        (400, &json!("changes[1].data"))
    );
    assert_eq!(w.stats()["seq"], 0);
}
