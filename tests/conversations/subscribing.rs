//! Subscribing: full and delta, where a cursor resumes, and going live.

use serde_json::{Value, json};

use super::world::{BEGIN, World};
use super::{NOTHING, code, gist, ids, seq};

/// `todos` with k1, k2 (changed last) and k3 (deleted); seqs 1 to 5.
fn world_with_todos() -> World {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    w.create(alice, "m2", "todos", json!({ "id": "k2" }));
    w.create(alice, "m3", "todos", json!({ "id": "k3" }));
    w.update(alice, "m4", "todos", json!({ "id": "k2", "done": true }));
    w.delete(alice, "m5", "todos", "k3");
    w.drop(alice);
    w
}

#[test]
fn without_a_cursor_everything_comes_as_full() {
    let mut w = world_with_todos();
    let bob = w.user("bob");
    let snapshot = w.subscribe(bob, "todos");
    assert_eq!(snapshot["id"], "s");
    assert_eq!(snapshot["channel"], "todos");
    assert_eq!(
        (&snapshot["mode"], &snapshot["isDelta"]),
        (&json!("full"), &json!(false))
    );
    assert_eq!(
        snapshot["data"],
        json!([{ "id": "k1" }, { "id": "k2", "done": true }])
    );
    assert_eq!(
        snapshot["deleted"],
        json!([]),
        "what it cannot have is not told"
    );
    assert_eq!(snapshot["more"], false);
    assert_eq!(seq(&snapshot), 5);
    assert_eq!(snapshot.get("meta"), None);
    assert!(!snapshot["view"].as_str().unwrap().is_empty());
}

#[test]
fn a_cursor_resumes_with_the_latest_state_once_per_key() {
    let mut w = world_with_todos();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let before = w.subscribe(bob, "todos");
    w.drop(bob);
    for (id, n) in [("a", 1), ("b", 2), ("c", 3)] {
        w.update(alice, id, "todos", json!({ "id": "k1", "n": n }));
    }
    w.create(alice, "d", "todos", json!({ "id": "k4" }));
    w.delete(alice, "e", "todos", "k4");
    w.delete(alice, "f", "todos", "k2");
    let bob = w.user("bob");
    let delta = w.resume(bob, "todos", &before["cursor"], &before["view"]);
    assert_eq!(
        (&delta["mode"], &delta["isDelta"]),
        (&json!("delta"), &json!(true))
    );
    assert_eq!(delta["data"], json!([{ "id": "k1", "n": 3 }]));
    assert_eq!(delta["deleted"], json!(["k4", "k2"]));
    assert_eq!(seq(&delta), 11);
    let again = w.resume(bob, "todos", &delta["cursor"], &delta["view"]);
    assert_eq!(again["mode"], "delta");
    assert_eq!(
        (&again["data"], &again["deleted"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(again["cursor"], delta["cursor"]);
}

#[test]
fn changes_of_other_channels_are_no_news() {
    let mut w = world_with_todos();
    let bob = w.user("bob");
    let before = w.subscribe(bob, "todos");
    w.broadcast(json!({ "channel": "feed", "action": "create", "key": "f", "data": {} }));
    assert_eq!(w.messages(bob), NOTHING);
    let delta = w.resume(bob, "todos", &before["cursor"], &before["view"]);
    assert_eq!(
        (&delta["data"], &delta["deleted"]),
        (&json!([]), &json!([]))
    );
    assert_eq!(seq(&delta), 6, "gaps mean nothing");
}

#[test]
fn a_cursor_that_proves_nothing_gets_full() {
    let mut w = world_with_todos();
    let bob = w.user("bob");
    let known = w.subscribe(bob, "todos");
    let epoch = known["cursor"]
        .as_str()
        .unwrap()
        .split('.')
        .next()
        .unwrap()
        .to_owned();
    let view = known["view"].clone();
    let proves = |w: &mut World, cursor: &str, view: &Value| {
        let snapshot = w.resume(bob, "todos", &json!(cursor), view);
        let full = snapshot["mode"] == "full";
        assert_eq!(snapshot["isDelta"], !full);
        assert_eq!(ids(&snapshot).len(), if full { 2 } else { 0 }, "{cursor}");
        !full
    };
    assert!(proves(&mut w, &format!("{epoch}.5"), &view));
    assert!(!proves(&mut w, "another.5", &view), "another epoch");
    assert!(!proves(&mut w, &format!("{epoch}.6"), &view), "the future");
    assert!(
        !proves(&mut w, &format!("{epoch}.5.6"), &view),
        "pages of the future"
    );
    assert!(
        !proves(&mut w, &format!("{epoch}.6.5"), &view),
        "a future that began in the past"
    );
    assert!(
        !proves(&mut w, &format!("{epoch}.5.5.1"), &view),
        "a newer server's"
    );
    assert!(
        !proves(&mut w, &format!("{epoch}.5"), &json!("0123")),
        "another view"
    );
    assert!(
        !proves(&mut w, &format!("{epoch}.5"), &Value::Null),
        "no view"
    );
}

#[test]
fn the_view_stands_for_an_identity_with_its_topics() {
    let mut w = world_with_todos();
    let alice = w.user("alice");
    let view = w.subscribe(alice, "todos")["view"].clone();
    let again = w.user("alice");
    assert_eq!(w.subscribe(again, "todos")["view"], view);
    assert_eq!(w.subscribe(again, "feed")["view"], view);
    let more = w.member("alice", &["team:a"]);
    assert_ne!(w.subscribe(more, "todos")["view"], view);
    let bob = w.user("bob");
    assert_ne!(w.subscribe(bob, "todos")["view"], view);
    let nobody = w.nobody();
    assert_ne!(w.subscribe(nobody, "feed")["view"], view);
}

#[test]
fn a_cursor_resumes_only_with_the_view_it_came_with() {
    let mut w = world_with_todos();
    let alice = w.user("alice");
    let known = w.subscribe(alice, "todos");
    let promoted = w.member("alice", &["team:a"]);
    let answer = w.resume(promoted, "todos", &known["cursor"], &known["view"]);
    assert_eq!(answer["mode"], "full");
    let resumed = w.resume(promoted, "todos", &answer["cursor"], &answer["view"]);
    assert_eq!(resumed["mode"], "delta");
}

#[test]
fn a_cursor_below_the_channels_floor_gets_full() {
    let mut w = world_with_todos();
    w.broadcast(json!({ "channel": "feed", "action": "create", "key": "f", "data": {} }));
    w.sqlite
        .execute("INSERT INTO channels (name, floor, floor_at, swept) VALUES ('todos', 4, 0, 0)");
    let bob = w.user("bob");
    let view = w.subscribe(bob, "todos")["view"].clone();
    let mode = |w: &mut World, channel: &str, cursor: &str| {
        w.resume(bob, channel, &json!(cursor), &view)["mode"].clone()
    };
    assert_eq!(mode(&mut w, "todos", "hhhhhhhh.3"), "full");
    assert_eq!(mode(&mut w, "todos", "hhhhhhhh.4"), "delta");
    assert_eq!(
        mode(&mut w, "todos", "hhhhhhhh.5.3"),
        "full",
        "judged from where paging began"
    );
    assert_eq!(
        mode(&mut w, "feed", "hhhhhhhh.3"),
        "delta",
        "floors are per channel"
    );
}

#[test]
fn text_that_is_no_cursor_is_rejected() {
    let mut w = world_with_todos();
    let bob = w.user("bob");
    for text in [
        "",
        "5",
        "hhhhhhhh",
        "hhhhhhhh.",
        "hhhhhhhh.x",
        "HHHH.5",
        "hhhhhhhh.-1",
    ] {
        let reject = w.resume(bob, "todos", &json!(text), &Value::Null);
        assert_eq!(reject["type"], "reject", "{text:?}");
        assert_eq!(
            (&reject["id"], &reject["channel"]),
            (&json!("r"), &json!("todos"))
        );
        assert_eq!(code(&reject), "malformed");
    }
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
    assert_eq!(w.messages(bob), NOTHING, "not subscribed");
}

#[test]
fn the_id_is_optional() {
    let mut w = world_with_todos();
    let bob = w.user("bob");
    let snapshot = w.ask(bob, json!({ "type": "subscribe", "channel": "todos" }));
    assert_eq!(snapshot["type"], "snapshot");
    assert_eq!(snapshot.get("id"), None);
    let reject = w.ask(bob, json!({ "type": "subscribe", "channel": "nowhere" }));
    assert_eq!(
        (&reject["type"], &reject["channel"]),
        (&json!("reject"), &json!("nowhere"))
    );
}

#[test]
fn meta_says_who_changed_a_row_and_when() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    w.advance(5);
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k2", "data": {} }));
    w.delete(alice, "m2", "todos", "k1");
    w.create(alice, "m3", "todos", json!({ "id": "k3" }));
    let ask = |meta: bool| json!({ "type": "subscribe", "channel": "todos", "meta": meta });
    let snapshot = w.ask(alice, ask(true));
    let at = BEGIN.plus(5).0;
    let meta = json!({ "k2": { "by": null, "at": at }, "k3": { "by": "alice", "at": at } });
    assert_eq!(snapshot["meta"], meta);
    assert_eq!(w.ask(alice, ask(false)).get("meta"), None);
}

#[test]
fn nothing_is_lost_or_doubled_between_page_and_stream() {
    let mut w = world_with_todos();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let frames = json!([
        { "type": "mutate", "id": "x", "channel": "todos", "action": "create", "data": { "id": "x" } },
        { "type": "subscribe", "channel": "todos" }
    ]);
    w.send(bob, frames);
    assert_eq!(ids(&w.messages(bob)[1]), ["k1", "k2", "x"]);
    w.create(alice, "y", "todos", json!({ "id": "y" }));
    assert_eq!(gist(&w.messages(bob)), ["create y"]);
}

#[test]
fn live_changes_carry_the_full_row_its_author_its_time_and_a_cursor() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    w.create(alice, "m1", "todos", json!({ "id": "k", "a": 1 }));
    w.advance(7);
    w.update(alice, "m2", "todos", json!({ "id": "k", "b": 2 }));
    w.delete(alice, "m3", "todos", "k");
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k2", "data": {} }));
    let change = |action: &str, key: &str, data: Value, by: Value, ms: u64, n: u64| {
        json!({
            "type": "change", "channel": "todos", "action": action, "key": key, "data": data,
            "by": by, "at": BEGIN.plus(ms).0, "cursor": format!("hhhhhhhh.{n}")
        })
    };
    assert_eq!(
        w.messages(bob),
        [
            change(
                "create",
                "k",
                json!({ "id": "k", "a": 1 }),
                json!("alice"),
                0,
                1
            ),
            change(
                "update",
                "k",
                json!({ "id": "k", "a": 1, "b": 2 }),
                json!("alice"),
                7,
                2
            ),
            change("delete", "k", Value::Null, json!("alice"), 7, 3),
            change("create", "k2", json!({ "id": "k2" }), Value::Null, 7, 4),
        ]
    );
}

#[test]
fn a_changes_cursor_resumes_after_it() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let view = w.subscribe(bob, "todos")["view"].clone();
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    let first = w.one(bob);
    w.create(alice, "m2", "todos", json!({ "id": "k2" }));
    w.drop(bob);
    let bob = w.user("bob");
    let delta = w.resume(bob, "todos", &first["cursor"], &view);
    assert_eq!((&delta["mode"], ids(&delta)), (&json!("delta"), vec!["k2"]));
}

#[test]
fn unsubscribing_ends_the_stream_without_a_word() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    w.subscribe(bob, "feed");
    w.send(bob, json!({ "type": "unsubscribe", "channel": "todos" }));
    w.send(bob, json!({ "type": "unsubscribe", "channel": "todos" }));
    w.send(bob, json!({ "type": "unsubscribe", "channel": "nowhere" }));
    w.create(alice, "m1", "todos", json!({ "id": "k" }));
    assert_eq!(w.messages(bob), NOTHING);
    w.broadcast(json!({ "channel": "feed", "action": "create", "key": "f", "data": {} }));
    assert_eq!(w.one(bob)["key"], "f");
    assert_eq!(ids(&w.subscribe(bob, "todos")), ["k"]);
}

#[test]
fn subscribing_again_replaces_the_subscription() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    w.subscribe(bob, "todos");
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    assert_eq!(gist(&w.messages(bob)), ["create k1"], "once, not twice");
    w.create(alice, "m2", "todos", json!({ "id": "k2" }));
    assert_eq!(gist(&w.messages(bob)), ["create k2"]);
    let page = w.ask(
        bob,
        json!({ "type": "subscribe", "channel": "todos", "limit": 1 }),
    );
    assert_eq!(page["more"], true);
    w.create(alice, "m3", "todos", json!({ "id": "k3" }));
    assert_eq!(w.messages(bob), NOTHING, "not live until the last page");
}

#[test]
fn a_refused_subscription_leaves_the_old_one() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    assert_eq!(
        w.resume(bob, "todos", &json!("no cursor"), &Value::Null)["type"],
        "reject"
    );
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    assert_eq!(gist(&w.messages(bob)), ["create k1"]);
}

#[test]
fn read_rules_open_to_whom_they_name() {
    let mut w = World::new();
    let (nobody, alice, member) = (w.nobody(), w.user("alice"), w.member("bob", &["room:1"]));
    let mut may = |conn, channel: &str| {
        let answer = w.subscribe(conn, channel);
        match answer["type"].as_str() {
            Some("snapshot") => "yes".to_owned(),
            _ => code(&answer).to_owned(),
        }
    };
    for (channel, of_nobody, of_alice, of_member) in [
        ("feed", "yes", "yes", "yes"),
        ("todos", "unauthorized", "yes", "yes"),
        ("room:1", "unauthorized", "forbidden", "yes"),
        ("room:2", "unauthorized", "forbidden", "forbidden"),
        ("drop", "unauthorized", "forbidden", "forbidden"),
        (
            "nowhere",
            "unknown_channel",
            "unknown_channel",
            "unknown_channel",
        ),
    ] {
        assert_eq!(may(nobody, channel), of_nobody, "{channel}");
        assert_eq!(may(alice, channel), of_alice, "{channel}");
        assert_eq!(may(member, channel), of_member, "{channel}");
    }
}
