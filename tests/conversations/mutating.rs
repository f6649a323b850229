//! Mutating: what a write does to a row, and who hears of it.

use serde_json::{Value, json};
use tidewire::Millis;

use super::world::{BEGIN, World};
use super::{NOTHING, blame, code, gist, ids, seq};

#[test]
fn a_create_is_acked_with_its_row_and_its_cursor() {
    let mut w = World::new();
    let alice = w.user("alice");
    let ack = w.create(alice, "m1", "todos", json!({ "id": "k", "text": "milk" }));
    assert_eq!(
        ack,
        json!({
            "type": "ack", "id": "m1", "data": { "id": "k", "text": "milk" },
            "cursor": "hhhhhhhh.1", "replayed": false
        })
    );
}

#[test]
fn every_change_takes_the_next_seq_of_the_space() {
    let mut w = World::new();
    let alice = w.user("alice");
    assert_eq!(
        seq(&w.create(alice, "m1", "todos", json!({ "id": "k" }))),
        1
    );
    assert_eq!(
        seq(&w.create(
            alice,
            "m2",
            "notes",
            json!({ "id": "k", "ownerId": "alice" })
        )),
        2
    );
    assert_eq!(
        code(&w.update(alice, "m3", "todos", json!({ "id": "no" }))),
        "not_found"
    );
    assert_eq!(seq(&w.delete(alice, "m4", "todos", "k")), 3);
    assert_eq!(
        seq(&w.create(alice, "m5", "todos", json!({ "id": "k" }))),
        4
    );
}

#[test]
fn a_create_replaces_the_row_of_its_key() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.user("bob"));
    w.create(alice, "m1", "todos", json!({ "id": "k", "a": 1 }));
    let ack = w.create(bob, "m2", "todos", json!({ "id": "k", "b": 2 }));
    assert_eq!(ack["data"], json!({ "id": "k", "b": 2 }));
    let change = w.one(alice);
    assert_eq!(change["action"], "create");
    assert_eq!(change["data"], json!({ "id": "k", "b": 2 }));
}

#[test]
fn a_create_takes_its_key_from_its_data() {
    let mut w = World::new();
    let alice = w.user("alice");
    let mut create = |id: &str, rest: Value| {
        let mut message = json!({ "action": "create" });
        message
            .as_object_mut()
            .unwrap()
            .extend(rest.as_object().unwrap().clone());
        w.mutate(alice, id, "todos", message)
    };
    assert_eq!(
        create("m1", json!({ "key": "k", "data": { "id": "k" } }))["type"],
        "ack"
    );
    assert_eq!(
        blame(&create("m2", json!({ "key": "k", "data": {} }))),
        ("invalid", "id")
    );
    let disagree = create("m3", json!({ "key": "k", "data": { "id": "other" } }));
    assert_eq!(blame(&disagree), ("invalid", "key"));
    assert_eq!(
        blame(&create("m4", json!({ "data": { "id": 7 } }))),
        ("invalid", "id")
    );
    assert_eq!(
        blame(&create("m5", json!({ "data": { "id": "" } }))),
        ("invalid", "id")
    );
    for (id, data) in [("m6", json!(null)), ("m7", json!([])), ("m8", json!("row"))] {
        assert_eq!(
            blame(&create(id, json!({ "data": data }))),
            ("invalid", "data")
        );
    }
    assert_eq!(
        blame(&create("m9", json!({ "key": "k" }))),
        ("invalid", "data")
    );
}

#[test]
fn an_update_merges_the_top_level_fields_it_gives() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(
        alice,
        "m1",
        "todos",
        json!({ "id": "k", "a": 1, "b": { "x": 1 }, "c": 3 }),
    );
    let update = json!({
        "action": "update", "key": "k", "data": { "a": null, "b": { "y": 2 }, "d": 4 }
    });
    let ack = w.mutate(alice, "m2", "todos", update);
    let merged = json!({ "id": "k", "a": null, "b": { "y": 2 }, "c": 3, "d": 4 });
    assert_eq!(ack["data"], merged);
    assert_eq!(w.subscribe(alice, "todos")["data"], json!([merged]));
}

#[test]
fn key_and_data_id_must_agree_where_both_are_given() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m0", "todos", json!({ "id": "k" }));
    for action in ["update", "delete"] {
        let mut ask = |id: &str, rest: Value| {
            let mut message = json!({ "action": action });
            message
                .as_object_mut()
                .unwrap()
                .extend(rest.as_object().unwrap().clone());
            w.mutate(alice, &format!("{action}-{id}"), "todos", message)
        };
        let disagree = ask("1", json!({ "key": "k", "data": { "id": "other" } }));
        assert_eq!(blame(&disagree), ("invalid", "key"));
        let none = ask("2", json!({ "data": {} }));
        assert_eq!(blame(&none), ("invalid", "key"));
        assert_eq!(
            ask("3", json!({ "data": { "id": "k" } }))["type"],
            "ack",
            "{action}"
        );
    }
}

#[test]
fn a_delete_is_acked_with_its_key_and_leaves_nothing() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k", "a": 1 }));
    assert_eq!(
        w.delete(alice, "m2", "todos", "k")["data"],
        json!({ "id": "k" })
    );
    assert_eq!(code(&w.delete(alice, "m3", "todos", "k")), "not_found");
    assert_eq!(
        code(&w.update(alice, "m4", "todos", json!({ "id": "k" }))),
        "not_found"
    );
    assert_eq!(code(&w.delete(alice, "m5", "todos", "never")), "not_found");
    let reborn = w.create(alice, "m6", "todos", json!({ "id": "k", "b": 2 }));
    assert_eq!(
        reborn["data"],
        json!({ "id": "k", "b": 2 }),
        "nothing of the old row"
    );
}

#[test]
fn dangerous_field_names_are_refused() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m0", "todos", json!({ "id": "k" }));
    for field in ["__proto__", "constructor", "prototype"] {
        let data = json!({ "id": "k", field: {} });
        let create = w.create(alice, &format!("c-{field}"), "todos", data.clone());
        assert_eq!(blame(&create), ("invalid", field));
        let update = w.update(alice, &format!("u-{field}"), "todos", data);
        assert_eq!(blame(&update), ("invalid", field));
    }
    assert_eq!(w.subscribe(alice, "todos")["data"], json!([{ "id": "k" }]));
}

#[test]
fn the_sending_socket_gets_the_ack_and_no_echo_and_all_others_the_change() {
    let mut w = World::new();
    let (alice, tablet, bob) = (
        w.live("alice", "todos"),
        w.live("alice", "todos"),
        w.live("bob", "todos"),
    );
    let away = w.user("carol");
    assert_eq!(
        w.create(alice, "m", "todos", json!({ "id": "k" }))["type"],
        "ack"
    );
    assert_eq!(w.messages(alice), NOTHING);
    for conn in [tablet, bob] {
        assert_eq!(gist(&w.messages(conn)), ["create k"]);
    }
    assert_eq!(w.messages(away), NOTHING, "not subscribed");
}

#[test]
fn a_writer_need_not_subscribe() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    assert_eq!(
        w.create(alice, "m1", "todos", json!({ "id": "k" }))["type"],
        "ack"
    );
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
    w.create(bob, "m2", "todos", json!({ "id": "k2" }));
    assert_eq!(w.messages(alice), NOTHING);
}

#[test]
fn an_acks_cursor_is_a_place_only_where_the_channel_is_live() {
    for live in [false, true] {
        let mut w = World::new();
        let (alice, bob) = (w.user("alice"), w.user("bob"));
        let at = w.subscribe(alice, "todos");
        if !live {
            w.send(alice, json!({ "type": "unsubscribe", "channel": "todos" }));
        }
        w.create(bob, "m1", "todos", json!({ "id": "k1" }));
        let heard = gist(&w.messages(alice));
        let ack = w.create(alice, "m2", "todos", json!({ "id": "k2" }));
        assert_eq!(seq(&ack), 2);
        let place = if live { &ack["cursor"] } else { &at["cursor"] };
        let missing = w.resume(alice, "todos", place, &at["view"]);
        assert_eq!(missing["mode"], "delta");
        match live {
            true => assert_eq!((heard.len(), ids(&missing)), (1, vec![])),
            false => assert_eq!((heard.len(), ids(&missing)), (0, vec!["k1", "k2"])),
        }
    }
}

#[test]
fn the_last_write_to_arrive_wins() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    w.create(alice, "m1", "todos", json!({ "id": "k", "n": 0 }));
    w.update(bob, "m2", "todos", json!({ "id": "k", "n": 1 }));
    w.update(alice, "m3", "todos", json!({ "id": "k", "n": 2 }));
    assert_eq!(
        w.subscribe(bob, "todos")["data"],
        json!([{ "id": "k", "n": 2 }])
    );
}

#[test]
fn rows_pass_through_as_they_were_written() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    let row = r#"{"id":"k","n":1.10,"big":12345678901234567890,"e":1e2,"s":"\u00e9\/","half":"\ud83d","o":{"z":1,"a" : [ ]}}"#;
    let frame =
        format!(r#"{{"type":"mutate","id":"m","channel":"todos","action":"create","data":{row}}}"#);
    w.send_text(alice, &frame);
    assert!(w.frames(alice)[0].contains(&format!(r#""data":{row},"#)));
    assert!(w.frames(bob)[0].contains(&format!(r#""data":{row},"#)));
    w.send_text(bob, r#"{"type":"subscribe","channel":"todos"}"#);
    assert!(w.frames(bob)[0].contains(&format!(r#""data":[{row}],"#)));
}

#[test]
fn a_channel_may_refuse_writes_that_are_older_than_the_row() {
    let mut w = World::new();
    let alice = w.user("alice");
    let row = json!({ "id": "k", "t": 10, "v": "first" });
    assert_eq!(w.create(alice, "m1", "timed", row.clone())["type"], "ack");
    for (id, action) in [("m2", "create"), ("m3", "update")] {
        let older = json!({ "action": action, "data": { "id": "k", "t": 9, "v": "old" } });
        let reject = w.mutate(alice, id, "timed", older);
        assert_eq!(code(&reject), "conflict");
        assert_eq!(reject["error"]["current"], row);
        assert_eq!(reject["error"]["retryable"], false);
    }
    let older = json!({ "action": "delete", "key": "k", "data": { "t": 9 } });
    assert_eq!(code(&w.mutate(alice, "m4", "timed", older)), "conflict");
    let same = w.update(
        alice,
        "m5",
        "timed",
        json!({ "id": "k", "t": 10, "v": "same" }),
    );
    assert_eq!(same["data"]["v"], "same", "an equal time is no older one");
    let missing = w.update(alice, "m6", "timed", json!({ "id": "k", "v": "when?" }));
    assert_eq!(blame(&missing), ("invalid", "t"));
    let kind = w.update(alice, "m7", "timed", json!({ "id": "k", "t": "11" }));
    assert_eq!(blame(&kind), ("invalid", "t"));
    assert_eq!(
        w.delete(alice, "m8", "timed", "k")["type"],
        "ack",
        "without a time it arrives"
    );
}

#[test]
fn times_of_text_are_ordered_as_text() {
    let mut w = World::new();
    let alice = w.user("alice");
    let row = |at: &str| json!({ "id": "k", "t": at });
    w.create(alice, "m1", "timed", row("2026-06-07T10:00:00Z"));
    let older = w.update(alice, "m2", "timed", row("2026-06-07T09:59:59Z"));
    assert_eq!(code(&older), "conflict");
    assert_eq!(
        w.update(alice, "m3", "timed", row("2026-06-07T10:00:01Z"))["type"],
        "ack"
    );
}

#[test]
fn a_publisher_is_not_bound_by_times() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "timed", json!({ "id": "k", "t": 10 }));
    let older = json!({ "channel": "timed", "action": "update", "key": "k", "data": { "t": 1 } });
    assert_eq!(w.broadcast(older).0, 200);
}

#[test]
fn write_rules_open_to_whom_they_name() {
    let mut w = World::new();
    let (nobody, alice, member) = (w.nobody(), w.user("alice"), w.member("bob", &["room:1"]));
    for (channel, of_nobody, of_alice, of_member) in [
        ("open", "ack", "ack", "ack"),
        ("todos", "unauthorized", "ack", "ack"),
        ("drop", "unauthorized", "ack", "ack"),
        ("room:1", "unauthorized", "forbidden", "ack"),
        ("room:2", "unauthorized", "forbidden", "forbidden"),
        ("feed", "read_only", "read_only", "read_only"),
        (
            "nowhere",
            "unknown_channel",
            "unknown_channel",
            "unknown_channel",
        ),
    ] {
        for (conn, who, expected) in [
            (nobody, "n", of_nobody),
            (alice, "a", of_alice),
            (member, "m", of_member),
        ] {
            let data = json!({ "id": format!("of-{who}") });
            let answer = w.create(conn, &format!("{who}-{channel}"), channel, data);
            match expected {
                "ack" => assert_eq!(answer["type"], "ack", "{who} {channel}"),
                refused => assert_eq!(code(&answer), refused, "{who} {channel}"),
            }
        }
    }
}

#[test]
fn anonymous_writers_have_no_name() {
    let mut w = World::new();
    let (nobody, alice) = (w.nobody(), w.live("alice", "open"));
    w.create(nobody, "m", "open", json!({ "id": "k" }));
    assert_eq!(w.one(alice)["by"], Value::Null);
}

#[test]
fn the_clock_of_rows_never_runs_back() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    w.now = Millis(BEGIN.0 - 60_000);
    w.create(alice, "m2", "todos", json!({ "id": "k2" }));
    w.sleep();
    w.create(alice, "m3", "todos", json!({ "id": "k3" }));
    let times: Vec<u64> = w
        .messages(bob)
        .iter()
        .map(|m| m["at"].as_u64().unwrap())
        .collect();
    assert_eq!(times, [BEGIN.0; 3]);
}

#[test]
fn a_refused_mutation_changes_nothing_and_is_not_heard_of() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.live("bob", "todos"));
    w.create(alice, "m0", "todos", json!({ "id": "k" }));
    w.messages(bob);
    w.update(alice, "m1", "todos", json!({ "id": "k", "constructor": 1 }));
    w.update(alice, "m2", "todos", json!({ "id": "missing" }));
    w.delete(alice, "m3", "todos", "missing");
    w.create(alice, "m4", "todos", json!({}));
    assert_eq!(w.messages(bob), NOTHING);
    let snapshot = w.subscribe(bob, "todos");
    assert_eq!((ids(&snapshot), seq(&snapshot)), (vec!["k"], 1));
}
