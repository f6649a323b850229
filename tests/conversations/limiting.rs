//! Every bound that the engine holds: at the bound, and one past it.

use serde_json::{Value, json};
use tidewire::{Call, ConnId, limits};

use super::replica::Replica;
use super::world::World;
use super::{NOTHING, blame, code, ids};

/// Pads JSON with blanks to so many bytes.
fn padded(json: &Value, bytes: usize) -> String {
    let text = json.to_string();
    let blanks = " ".repeat(bytes - text.len());
    text + &blanks
}

fn ping(id: usize) -> Value {
    json!({ "type": "subscribe", "id": id.to_string(), "channel": "nowhere" })
}

#[test]
fn a_frame_of_256_kib_is_read_and_a_larger_one_closes() {
    let mut w = World::new();
    let alice = w.user("alice");
    let message = json!({ "type": "subscribe", "channel": "todos" });
    w.send_text(alice, &padded(&message, limits::FRAME_BYTES));
    assert_eq!(w.one(alice)["type"], "snapshot");
    w.send_text(alice, &padded(&message, limits::FRAME_BYTES + 1));
    assert_eq!(code(&w.one(alice)), "frame_too_large");
    assert_eq!(w.closed(alice), Some(4502));
}

#[test]
fn a_frame_holds_1000_messages_and_no_more() {
    let mut w = World::new();
    let alice = w.user("alice");
    let frame = |n: usize| Value::Array((0..n).map(ping).collect());
    w.send(alice, frame(limits::FRAME_MESSAGES));
    assert_eq!(w.messages(alice).len(), limits::FRAME_MESSAGES);
    let error = w.ask(alice, frame(limits::FRAME_MESSAGES + 1));
    assert_eq!(
        (&error["type"], code(&error)),
        (&json!("error"), "malformed")
    );
}

#[test]
fn a_hello_subscribes_to_1000_channels_and_no_more() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    let hello = |n: usize| {
        let list: Vec<Value> = (0..n).map(ping).collect();
        json!({ "type": "hello", "v": 1, "subscribe": list })
    };
    assert_eq!(
        code(&w.ask(alice, hello(limits::FRAME_MESSAGES + 1))),
        "malformed"
    );
    w.send(alice, hello(limits::FRAME_MESSAGES));
    assert_eq!(w.messages(alice).len(), 1 + limits::FRAME_MESSAGES);
}

#[test]
fn json_nests_64_deep_and_no_deeper() {
    let mut w = World::new();
    let alice = w.user("alice");
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let mutate = |id: &str, depth: usize| {
        let inner = nested(depth - 2);
        format!(
            r#"{{"type":"mutate","id":"{id}","channel":"todos","action":"create","data":{{"id":"k","d":{inner}}}}}"#
        )
    };
    w.send_text(alice, &mutate("m1", limits::JSON_DEPTH));
    assert_eq!(w.one(alice)["type"], "ack");
    w.send_text(alice, &mutate("m2", limits::JSON_DEPTH + 1));
    assert_eq!(code(&w.one(alice)), "malformed");
    let body = |depth: usize| {
        let inner = nested(depth - 2);
        format!(r#"{{"channel":"todos","action":"create","key":"k","data":{{"d":{inner}}}}}"#)
    };
    assert_eq!(
        w.publish(Call::Broadcast, body(limits::JSON_DEPTH), None).0,
        200
    );
    let (status, answer) = w.publish(Call::Broadcast, body(limits::JSON_DEPTH + 1), None);
    assert_eq!((status, code(&answer)), (400, "malformed"));
}

#[test]
fn a_channels_name_has_256_bytes_at_most() {
    let mut w = World::new();
    let alice = w.user("alice");
    let name = |bytes: usize| format!("chat:{}é", "x".repeat(bytes - 7));
    assert_eq!(
        w.subscribe(alice, &name(limits::CHANNEL_BYTES))["type"],
        "snapshot"
    );
    let long = name(limits::CHANNEL_BYTES + 1);
    assert_eq!(code(&w.subscribe(alice, &long)), "malformed");
    let change = json!({ "channel": long, "action": "create", "key": "k", "data": {} });
    assert_eq!(blame(&w.broadcast(change).1), ("invalid", "channel"));
}

#[test]
fn a_key_has_256_bytes_at_most() {
    let mut w = World::new();
    let alice = w.user("alice");
    let key = "é".repeat(limits::KEY_BYTES / 2);
    assert_eq!(
        w.create(alice, "m1", "todos", json!({ "id": key }))["type"],
        "ack"
    );
    assert_eq!(w.delete(alice, "m2", "todos", &key)["type"], "ack");
    let long = format!("{key}x");
    assert_eq!(
        blame(&w.create(alice, "m3", "todos", json!({ "id": long }))),
        ("invalid", "id")
    );
    assert_eq!(
        blame(&w.delete(alice, "m4", "todos", &long)),
        ("invalid", "key")
    );
    let change =
        |key: &str| json!({ "channel": "todos", "action": "create", "key": key, "data": {} });
    assert_eq!(w.broadcast(change(&key)).0, 200);
    assert_eq!(blame(&w.broadcast(change(&long)).1), ("invalid", "key"));
}

#[test]
fn a_row_has_256_kib_at_most_also_after_a_merge() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    let filled = |bytes: usize| {
        let blank = json!({ "id": "k", "t": "" }).to_string().len();
        json!({ "id": "k", "t": "x".repeat(bytes - blank) })
    };
    let change =
        |data: Value| json!({ "channel": "todos", "action": "create", "key": "k", "data": data });
    let (status, body) = w.broadcast(change(filled(limits::ROW_BYTES + 1)));
    assert_eq!((status, blame(&body)), (400, ("invalid", "data")));
    assert_eq!(w.broadcast(change(filled(limits::ROW_BYTES - 6))).0, 200);
    w.messages(bob);
    let over = w.update(alice, "m1", "todos", json!({ "id": "k", "aa": 1 }));
    assert_eq!(blame(&over), ("invalid", "data"));
    assert_eq!(w.messages(bob), NOTHING);
    let at = w.update(alice, "m2", "todos", json!({ "id": "k", "a": 1 }));
    assert_eq!(at["data"].to_string().len(), limits::ROW_BYTES);
    assert_eq!(w.one(bob)["data"], at["data"]);
}

#[test]
fn an_id_has_128_bytes_at_most() {
    let mut w = World::new();
    let alice = w.user("alice");
    let (at, past) = (
        "i".repeat(limits::ID_BYTES),
        "i".repeat(limits::ID_BYTES + 1),
    );
    let subscribe = |id: &str| json!({ "type": "subscribe", "id": id, "channel": "todos" });
    assert_eq!(w.ask(alice, subscribe(&at))["id"], at.as_str());
    let error = w.ask(alice, subscribe(&past));
    assert_eq!(
        (&error["type"], code(&error)),
        (&json!("error"), "malformed")
    );
    assert_eq!(
        w.create(alice, &at, "todos", json!({ "id": "k" }))["type"],
        "ack"
    );
    assert_eq!(
        code(&w.create(alice, &past, "todos", json!({ "id": "k" }))),
        "malformed"
    );
    let body =
        json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }).to_string();
    assert_eq!(w.publish(Call::Broadcast, &body, Some(&at)).0, 200);
    let (status, answer) = w.publish(Call::Broadcast, &body, Some(&past));
    assert_eq!(
        (status, blame(&answer)),
        (400, ("invalid", "Idempotency-Key"))
    );
}

#[test]
fn the_longest_identity_is_served_like_any_other() {
    let mut w = World::new();
    let longest = "i".repeat(limits::IDENTITY_BYTES);
    let user = w.live(&longest, "notes");
    w.sleep();
    w.broadcast(json!({
        "channel": "notes", "action": "create", "key": "k", "data": { "ownerId": longest }
    }));
    assert_eq!(w.one(user)["key"], "k");
    let past = json!({ "ownerId": format!("{longest}i") });
    let change = json!({ "channel": "notes", "action": "create", "key": "j", "data": past });
    assert_eq!(blame(&w.broadcast(change).1), ("invalid", "ownerId"));
}

#[test]
fn an_audience_has_64_topics_at_most() {
    let mut w = World::new();
    let topics = |n: usize| (0..n).map(|i| format!("t{i}")).collect::<Vec<_>>();
    let to = |n: usize| json!({ "channel": "todos", "action": "create", "key": "k", "data": {}, "to": topics(n) });
    assert_eq!(w.broadcast(to(limits::TOPICS)).0, 200);
    assert_eq!(
        blame(&w.broadcast(to(limits::TOPICS + 1)).1),
        ("invalid", "to")
    );
    let owners = |n: usize| {
        json!({
            "channel": "notes", "action": "create", "key": "k", "data": { "ownerId": topics(n) }
        })
    };
    assert_eq!(w.broadcast(owners(limits::TOPICS)).0, 200);
    assert_eq!(
        blame(&w.broadcast(owners(limits::TOPICS + 1)).1),
        ("invalid", "ownerId")
    );
}

#[test]
fn a_topic_is_as_long_as_the_longest_identitys() {
    let mut w = World::new();
    let to = |bytes: usize| {
        let topic = "t".repeat(bytes);
        json!({ "channel": "todos", "action": "create", "key": "k", "data": {}, "to": [topic] })
    };
    assert_eq!(w.broadcast(to(limits::TOPIC_BYTES)).0, 200);
    assert_eq!(
        blame(&w.broadcast(to(limits::TOPIC_BYTES + 1)).1),
        ("invalid", "to")
    );
}

#[test]
fn a_connection_has_1024_subscriptions_at_most() {
    let mut w = World::new();
    let alice = w.user("alice");
    for i in 0..limits::SUBSCRIPTIONS {
        assert_eq!(w.subscribe(alice, &format!("chat:{i}"))["type"], "snapshot");
    }
    let past = w.subscribe(alice, "todos");
    assert_eq!(
        (&past["type"], code(&past)),
        (&json!("reject"), "too_many_subscriptions")
    );
    assert_eq!(
        w.subscribe(alice, "chat:0")["type"],
        "snapshot",
        "again needs no room"
    );
    w.sleep();
    assert_eq!(code(&w.subscribe(alice, "todos")), "too_many_subscriptions");
    w.send(alice, json!({ "type": "unsubscribe", "channel": "chat:0" }));
    assert_eq!(w.subscribe(alice, "todos")["type"], "snapshot");
}

#[test]
fn the_names_of_a_connections_channels_have_8_kib_together() {
    let mut w = World::new();
    let alice = w.user("alice");
    let name = |i: usize| format!("chat:{i:0251}");
    let most = limits::SUBSCRIPTIONS_BYTES / limits::CHANNEL_BYTES;
    for i in 0..most {
        assert_eq!(w.subscribe(alice, &name(i))["type"], "snapshot");
    }
    assert_eq!(code(&w.subscribe(alice, "todos")), "too_many_subscriptions");
    w.send(alice, json!({ "type": "unsubscribe", "channel": name(0) }));
    let shorter = &name(0)[..255];
    assert_eq!(w.subscribe(alice, shorter)["type"], "snapshot");
    assert_eq!(
        code(&w.subscribe(alice, "chat:x")),
        "too_many_subscriptions",
        "one byte is left"
    );
}

#[test]
fn a_page_has_500_rows_unless_told_and_1000_at_most() {
    let mut w = World::new();
    let alice = w.user("alice");
    let rows = |from: usize, n: usize| {
        let change = |i| json!({ "action": "create", "key": format!("k{i}"), "data": {} });
        json!({ "channel": "todos", "changes": (from..from + n).map(change).collect::<Vec<_>>() })
    };
    w.broadcast_batch(rows(0, limits::BATCH_CHANGES));
    w.broadcast_batch(rows(limits::BATCH_CHANGES, 1));
    let page = w.subscribe(alice, "todos");
    assert_eq!(
        (ids(&page).len(), &page["more"]),
        (limits::PAGE_DEFAULT, &json!(true))
    );
    let mut ask = |limit: Value| {
        w.ask(
            alice,
            json!({ "type": "subscribe", "id": "s", "channel": "todos", "limit": limit }),
        )
    };
    let largest = ask(json!(limits::PAGE_MAX));
    assert_eq!(
        (ids(&largest).len(), &largest["more"]),
        (limits::PAGE_MAX, &json!(true))
    );
    assert_eq!(ids(&ask(json!(1))).len(), 1);
    for bad in [
        json!(limits::PAGE_MAX + 1),
        json!(0),
        json!(-1),
        json!(1.5),
        json!("10"),
    ] {
        assert_eq!(code(&ask(bad.clone())), "malformed", "{bad}");
    }
}

#[test]
fn a_body_has_8_mib_at_most() {
    let mut w = World::new();
    let change = json!({ "channel": "todos", "action": "create", "key": "k", "data": {} });
    let at = padded(&change, limits::BODY_BYTES);
    assert_eq!(w.publish(Call::Broadcast, &at, None).0, 200);
    let past = padded(&change, limits::BODY_BYTES + 1);
    for call in [Call::Broadcast, Call::BroadcastBatch] {
        assert_eq!(w.publish(call, &past, None).0, 413);
    }
}

#[test]
fn a_batch_has_1_to_1000_changes() {
    let mut w = World::new();
    let list = |n: usize| vec![json!({ "action": "create", "key": "k", "data": {} }); n];
    let changes = |n: usize| json!({ "channel": "todos", "changes": list(n) });
    assert_eq!(w.broadcast_batch(changes(0)).1["error"]["field"], "changes");
    assert_eq!(
        w.broadcast_batch(changes(limits::BATCH_CHANGES + 1)).1["error"]["field"],
        "changes"
    );
    assert_eq!(w.stats()["seq"], 0);
    let (status, body) = w.broadcast_batch(changes(limits::BATCH_CHANGES));
    assert_eq!((status, &body["seq"]), (200, &json!(limits::BATCH_CHANGES)));
    let events = json!({ "events": [] });
    assert_eq!(w.broadcast_batch(events).1["error"]["field"], "events");
}

#[test]
fn a_row_remembers_256_losses_and_the_floor_rises_past_the_oldest() {
    let mut w = World::new();
    let leave = |w: &mut World, topic: &str| {
        let conn = w.member("alice", &[topic]);
        let mut copy = Replica::of("todos");
        copy.catch_up(w, conn, 500);
        w.drop(conn);
        copy
    };
    let hand_to = |w: &mut World, i: usize| {
        let change = json!({
            "channel": "todos", "action": "update", "key": "k", "data": {}, "to": [format!("t{i}")]
        });
        assert_eq!(w.broadcast(change).0, 200);
    };
    let back = |w: &mut World, topic: &str, copy: &Replica| {
        let conn = w.member("alice", &[topic]);
        w.resume(conn, "todos", &copy.cursor, &copy.view)
    };
    hand_to(&mut w, 0);
    let first = leave(&mut w, "t0");
    hand_to(&mut w, 1);
    let second = leave(&mut w, "t1");
    for i in 2..=limits::LOST_TOPICS {
        hand_to(&mut w, i);
    }
    let answer = back(&mut w, "t0", &first);
    assert_eq!(
        (&answer["mode"], &answer["deleted"]),
        (&json!("delta"), &json!(["k"]))
    );
    hand_to(&mut w, limits::LOST_TOPICS + 1);
    let answer = back(&mut w, "t0", &first);
    assert_eq!(
        (&answer["mode"], &answer["data"]),
        (&json!("full"), &json!([]))
    );
    let answer = back(&mut w, "t1", &second);
    assert_eq!(
        (&answer["mode"], &answer["deleted"]),
        (&json!("delta"), &json!(["k"]))
    );
}

#[test]
fn numbers_are_whole_and_below_2_to_the_53rd() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    let hello = |schema: Value| json!({ "type": "hello", "v": 1, "schema": schema });
    for bad in [
        json!(limits::SAFE_INTEGER + 1),
        json!(-1),
        json!(1.5),
        json!("3"),
    ] {
        assert_eq!(
            code(&w.ask(alice, hello(bad.clone()))),
            "malformed",
            "{bad}"
        );
    }
    assert_eq!(
        w.ask(alice, hello(json!(limits::SAFE_INTEGER)))["type"],
        "welcome"
    );
    let cursor = |n: u64| json!(format!("hhhhhhhh.{n}"));
    let at = w.resume(alice, "todos", &cursor(limits::SAFE_INTEGER), &Value::Null);
    assert_eq!(at["mode"], "full");
    let past = w.resume(
        alice,
        "todos",
        &cursor(limits::SAFE_INTEGER + 1),
        &Value::Null,
    );
    assert_eq!(code(&past), "malformed");
}

#[test]
fn a_device_has_128_bytes_at_most() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    let hello = |bytes: usize| json!({ "type": "hello", "v": 1, "device": "d".repeat(bytes) });
    assert_eq!(
        code(&w.ask(alice, hello(limits::DEVICE_BYTES + 1))),
        "malformed"
    );
    assert_eq!(w.ask(alice, hello(limits::DEVICE_BYTES))["type"], "welcome");
}

#[test]
fn a_space_has_32768_connections_at_most() {
    let mut w = World::new();
    let all: Vec<ConnId> = (0..limits::CONNECTIONS)
        .map(|_| w.connect(None, &[]))
        .collect();
    let refused = w.connect_until(None, &[], None).unwrap_err();
    assert_eq!(refused.status, 503);
    let body: Value = serde_json::from_str(&refused.body).unwrap();
    assert_eq!(
        (code(&body), &body["error"]["retryable"]),
        ("unavailable", &json!(true))
    );
    w.drop(all[7]);
    assert!(w.connect_until(None, &[], None).is_ok());
}

#[test]
fn the_largest_rows_and_names_fit_every_frame() {
    let mut w = World::new();
    let channel = format!("chat:{}", "\"".repeat(251));
    let key = "\\".repeat(limits::KEY_BYTES);
    let author = "\"".repeat(limits::IDENTITY_BYTES);
    let alice = w.user(&author);
    let bob = w.live("bob", &channel);
    let blank = json!({ "id": key, "t": "" }).to_string().len();
    let changes: Vec<Value> = (0..8)
        .map(|i| {
            let key = format!("{i}{}", &key[1..]);
            let text = "x".repeat(limits::ROW_BYTES - blank);
            json!({ "action": "create", "key": key, "data": { "t": text } })
        })
        .collect();
    let batch = json!({ "channel": channel, "changes": changes });
    assert_eq!(w.broadcast_batch(batch).0, 200);
    let mut copy = Replica::of(&channel);
    copy.take(&mut w, bob);
    assert_eq!(copy.rows.len(), 8);
    let mut copy = Replica::of(&channel);
    copy.catch_up(&mut w, alice, 1000);
    assert_eq!(copy.rows.len(), 8);
}
