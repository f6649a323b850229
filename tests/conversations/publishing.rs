//! `/broadcast`: what a publisher's change does, and for whom.

use serde_json::{Value, json};
use tidewire::Call;

use super::world::World;
use super::world::readers::reads;
use super::{NOTHING, blame, code, gist, ids};

fn change(channel: &str, action: &str, key: &str, data: Value) -> Value {
    json!({ "channel": channel, "action": action, "key": key, "data": data })
}

fn with(mut change: Value, field: &str, value: Value) -> Value {
    change[field] = value;
    change
}

#[test]
fn a_publish_answers_its_cursor_its_seq_and_its_receivers() {
    let mut w = World::new();
    let [alice, _bob] = ["alice", "bob"].map(|user| w.live(user, "todos"));
    let carol = w.user("carol");
    let (status, body) = w.broadcast(change("todos", "create", "k", json!({ "a": 1 })));
    assert_eq!(status, 200);
    assert_eq!(
        body,
        json!({ "cursor": "hhhhhhhh.1", "seq": 1, "receivers": 2 })
    );
    let heard = w.one(alice);
    assert_eq!(heard["cursor"], body["cursor"]);
    assert_eq!(
        (&heard["by"], &heard["data"]),
        (&Value::Null, &json!({ "id": "k", "a": 1 }))
    );
    assert_eq!(w.messages(carol), NOTHING);
}

#[test]
fn readers_that_stay_are_receivers_and_each_counts_once() {
    let mut w = World::new();
    w.live("alice", "todos");
    let (_, at) = w.page(&reads("bob", "todos"));
    w.wait(&reads("bob", "todos").with("wait", 25).after(&at));
    w.stream(&reads("carol", "todos"));
    w.stream(&reads("dave", "feed"));
    let create = |key: &str| json!({ "action": "create", "key": key, "data": {} });
    let both = json!({ "channel": "todos", "changes": [create("k"), create("l")] });
    assert_eq!(w.broadcast_batch(both).1["receivers"], 3);
    let third = change("todos", "create", "m", json!({}));
    assert_eq!(w.broadcast(third).1["receivers"], 2, "bob has his page");
}

#[test]
fn receivers_are_those_who_gained_and_lost_it_too() {
    let mut w = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| w.live(user, "todos"));
    let to = |users: &[&str]| {
        with(
            change("todos", "update", "k", json!({})),
            "to",
            json!(users),
        )
    };
    assert_eq!(w.broadcast(to(&["user:alice"])).1["receivers"], 1);
    assert_eq!(w.broadcast(to(&["user:bob"])).1["receivers"], 2);
    assert_eq!(w.broadcast(to(&["user:nobody"])).1["receivers"], 1);
    let heard = [alice, bob, carol].map(|conn| gist(&w.messages(conn)).join(", "));
    assert_eq!(heard, ["update k, delete k", "create k, delete k", ""]);
}

#[test]
fn data_id_may_be_left_out_and_must_agree_where_given() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    w.broadcast(change("todos", "create", "k", json!({})));
    w.broadcast(change("todos", "create", "j", json!({ "id": "j" })));
    w.broadcast(json!({ "channel": "todos", "action": "create", "data": { "id": "i" } }));
    let rows: Vec<Value> = w
        .messages(alice)
        .iter()
        .map(|m| m["data"].clone())
        .collect();
    assert_eq!(
        rows,
        [
            json!({ "id": "k" }),
            json!({ "id": "j" }),
            json!({ "id": "i" })
        ]
    );
    for (action, data) in [
        ("create", json!({ "id": "x" })),
        ("update", json!({ "id": "x" })),
        ("delete", json!({ "id": "x" })),
    ] {
        let (status, body) = w.broadcast(change("todos", action, "k", data));
        assert_eq!((status, blame(&body)), (400, ("invalid", "key")));
    }
    let by_id = json!({ "channel": "todos", "action": "delete", "data": { "id": "i" } });
    assert_eq!(w.broadcast(by_id).0, 200);
    assert_eq!(gist(&w.messages(alice)), ["delete i"]);
}

#[test]
fn actions_mean_what_they_mean_in_a_mutation() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    w.broadcast(change("todos", "create", "k", json!({ "a": 1 })));
    w.broadcast(change("todos", "update", "k", json!({ "b": null })));
    w.broadcast(change("todos", "create", "k", json!({ "c": 1 })));
    w.broadcast(change("todos", "delete", "k", Value::Null));
    let heard = w.messages(alice);
    assert_eq!(
        gist(&heard),
        ["create k", "update k", "create k", "delete k"]
    );
    assert_eq!(heard[1]["data"], json!({ "id": "k", "a": 1, "b": null }));
    assert_eq!(heard[2]["data"], json!({ "id": "k", "c": 1 }));
    assert_eq!(heard[3]["data"], Value::Null);
    assert_eq!(w.subscribe(alice, "todos")["data"], json!([]));
}

#[test]
fn an_update_of_a_row_that_is_not_held_stores_and_sends_what_was_given() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    assert_eq!(
        w.broadcast(change("todos", "update", "k", json!({ "a": 1 })))
            .0,
        200
    );
    let heard = w.one(alice);
    assert_eq!(
        (&heard["action"], &heard["data"]),
        (&json!("update"), &json!({ "id": "k", "a": 1 }))
    );
    w.broadcast(change("todos", "delete", "k", Value::Null));
    w.broadcast(change("todos", "update", "k", json!({ "b": 2 })));
    assert_eq!(
        w.messages(alice)[1]["data"],
        json!({ "id": "k", "b": 2 }),
        "a tombstone is not held"
    );
}

#[test]
fn a_delete_of_a_row_that_is_not_held_needs_an_audience() {
    let mut w = World::new();
    let alice = w.live("alice", "notes");
    let bob = w.live("bob", "notes");
    w.subscribe(alice, "todos");
    assert_eq!(
        w.broadcast(change("todos", "delete", "k", Value::Null)).1["receivers"],
        1
    );
    assert_eq!(gist(&w.messages(alice)), ["delete k"], "the rule says all");
    let (status, body) = w.broadcast(change("notes", "delete", "k", Value::Null));
    assert_eq!((status, blame(&body)), (400, ("invalid", "to")));
    let to = with(
        change("notes", "delete", "k", Value::Null),
        "to",
        json!(["user:alice"]),
    );
    assert_eq!(w.broadcast(to).0, 200);
    assert_eq!(gist(&w.messages(alice)), ["delete k"]);
    assert_eq!(w.messages(bob), NOTHING);
    let again = w.broadcast(change("notes", "delete", "k", Value::Null));
    assert_eq!(again.0, 400, "a tombstone is not held");
}

#[test]
fn to_on_a_delete_of_a_held_row_is_ignored() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "notes"));
    w.broadcast(change(
        "notes",
        "create",
        "k",
        json!({ "ownerId": "alice" }),
    ));
    let to = with(
        change("notes", "delete", "k", Value::Null),
        "to",
        json!(["user:bob"]),
    );
    assert_eq!(w.broadcast(to).0, 200);
    assert_eq!(gist(&w.messages(alice)), ["create k", "delete k"]);
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn without_to_a_new_row_follows_the_rule_and_an_old_one_keeps_its_audience() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "todos"));
    let hear = |w: &mut World| [alice, bob].map(|conn| gist(&w.messages(conn)).join(","));
    w.broadcast(change("todos", "create", "k", json!({})));
    assert_eq!(hear(&mut w), ["create k", "create k"]);
    w.broadcast(with(
        change("todos", "update", "k", json!({})),
        "to",
        json!(["user:alice"]),
    ));
    assert_eq!(hear(&mut w), ["update k", "delete k"]);
    for action in ["update", "create", "delete"] {
        w.broadcast(change("todos", action, "k", json!({})));
        assert_eq!(hear(&mut w), [format!("{action} k"), String::new()]);
    }
    w.broadcast(change("todos", "create", "k", json!({})));
    assert_eq!(
        hear(&mut w),
        ["create k", "create k"],
        "a tombstone's audience is not kept"
    );
}

#[test]
fn without_to_a_row_follows_the_field_that_scopes_it_if_given() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "notes"));
    let hear = |w: &mut World| [alice, bob].map(|conn| gist(&w.messages(conn)).join(","));
    w.broadcast(change(
        "notes",
        "create",
        "k",
        json!({ "ownerId": "alice" }),
    ));
    assert_eq!(hear(&mut w), ["create k", ""]);
    w.broadcast(change("notes", "update", "k", json!({ "t": 1 })));
    assert_eq!(
        hear(&mut w),
        ["update k", ""],
        "kept where the field is not given"
    );
    w.broadcast(change("notes", "update", "k", json!({ "ownerId": "bob" })));
    assert_eq!(hear(&mut w), ["delete k", "create k"]);
    let to = with(
        change("notes", "update", "k", json!({ "ownerId": "bob" })),
        "to",
        json!(["user:alice"]),
    );
    w.broadcast(to);
    assert_eq!(hear(&mut w), ["create k", "delete k"], "to comes first");
    let (status, body) = w.broadcast(change("notes", "create", "new", json!({})));
    assert_eq!((status, blame(&body)), (400, ("invalid", "ownerId")));
    let (status, body) = w.broadcast(change("notes", "update", "k", json!({ "ownerId": 7 })));
    assert_eq!((status, blame(&body)), (400, ("invalid", "ownerId")));
    let to = with(
        change("notes", "create", "new", json!({})),
        "to",
        json!("all"),
    );
    assert_eq!(w.broadcast(to).0, 200);
    assert_eq!(hear(&mut w), ["create new", "create new"]);
}

#[test]
fn to_is_all_or_a_list_of_topics_and_nothing_else() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    let bad = [
        json!(null),
        json!([]),
        json!("user:alice"),
        json!(["all"]),
        json!([""]),
        json!([7]),
        json!({}),
        json!(true),
        json!(["a\nb"]),
    ];
    for to in bad {
        let (status, body) = w.broadcast(with(
            change("todos", "create", "k", json!({})),
            "to",
            to.clone(),
        ));
        assert_eq!((status, blame(&body)), (400, ("invalid", "to")), "{to}");
    }
    assert_eq!(w.messages(alice), NOTHING, "a mistake never opens anything");
}

#[test]
fn publishers_write_where_clients_may_not() {
    let mut w = World::new();
    let alice = w.live("alice", "feed");
    assert_eq!(w.broadcast(change("feed", "create", "k", json!({}))).0, 200);
    assert_eq!(w.one(alice)["key"], "k");
    let (status, body) = w.broadcast(change("nowhere", "create", "k", json!({})));
    assert_eq!((status, code(&body)), (400, "unknown_channel"));
}

#[test]
fn a_body_may_name_its_space_and_two_that_differ_are_refused() {
    let mut w = World::new();
    let named = |space: Value| with(change("todos", "create", "k", json!({})), "space", space);
    assert_eq!(w.broadcast(named(json!("global"))).0, 200);
    let (status, body) = w.broadcast(named(json!("other")));
    assert_eq!((status, blame(&body)), (400, ("invalid", "space")));
    let (status, body) = w.broadcast(named(json!(7)));
    assert_eq!((status, blame(&body)), (400, ("invalid", "space")));
    let batch = json!({ "space": "other", "events": [change("todos", "create", "j", json!({}))] });
    assert_eq!(w.broadcast_batch(batch).0, 400);
    let alice = w.user("alice");
    assert_eq!(ids(&w.subscribe(alice, "todos")), ["k"]);
}

#[test]
fn a_body_that_is_not_as_documented_is_refused_by_its_field() {
    let mut w = World::new();
    let good = change("todos", "create", "k", json!({}));
    for (field, value, blamed) in [
        ("channel", json!(7), "channel"),
        ("channel", json!(""), "channel"),
        ("channel", json!("a\u{7}b"), "channel"),
        ("action", json!("upsert"), "action"),
        ("action", json!(null), "action"),
        ("key", json!(7), "key"),
        ("key", json!(""), "key"),
        ("key", json!(null), "key"),
        ("data", json!(null), "data"),
        ("data", json!([]), "data"),
        ("data", json!({ "id": 7 }), "id"),
        ("data", json!({ "__proto__": 1 }), "__proto__"),
    ] {
        let (status, body) = w.broadcast(with(good.clone(), field, value.clone()));
        assert_eq!(
            (status, blame(&body)),
            (400, ("invalid", blamed)),
            "{field}: {value}"
        );
        assert!(body["error"]["message"].is_string());
    }
    for text in [
        "",
        "{",
        "[]",
        "7",
        "null",
        "\"x\"",
        "{\"channel\":1,\"channel\":2}",
    ] {
        let (status, body) = w.publish(Call::Broadcast, text, None);
        assert_eq!((status, code(&body)), (400, "malformed"), "{text}");
    }
    let no_utf8 = b"{\"channel\":\"\xff\"}";
    for call in Call::ALL {
        let (status, body) = w.publish(call, no_utf8, None);
        assert_eq!((status, code(&body)), (400, "malformed"), "{call:?}");
        assert_eq!(w.publish(call, no_utf8, Some("i")).0, 400, "{call:?}");
    }
    assert_eq!(w.stats()["seq"], 0);
}

#[test]
fn a_refused_publish_takes_no_seq_and_is_not_heard_of() {
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    w.broadcast(change("todos", "create", "k", json!({ "__proto__": 1 })));
    assert_eq!(w.messages(alice), NOTHING);
    assert_eq!(
        w.broadcast(change("todos", "create", "k", json!({}))).1["seq"],
        1
    );
}
