//! Golden frames: every message of the wire contract, as text, in `tests/golden/*.json`.
//!
//! Server frames come out of real conversations, client frames are decoded and their meaning is
//! noted, both with a fixed seed and clock. Any change of a byte fails here. After a change that
//! is meant: `UPDATE_GOLDEN=1 cargo test --test golden`, and read the difference.
//!
//! An entry has `frame` (JSON) or `text` (a frame that is no JSON); `direction` says who sends
//! it: `client` or `server` over the socket, `publisher` or `reply` over HTTP. Client and
//! publisher entries say what the server understands: `meaning`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../world/mod.rs"]
mod world;

mod events;
mod http;
mod meaning;
mod operating;
mod presence;
mod record;
mod schema;

use record::Golden;
use serde_json::{Value, json};
use tidewire::{Call, limits};
use world::World;

#[test]
fn connecting() {
    let mut g = Golden::of("connecting");
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &["team:a"]);
    let minimal = r#"{"type":"hello","v":1}"#;
    g.ask(&mut w, alice, "welcome", "only v is required", minimal);
    let nobody = w.connect(None, &[]);
    let full = r#"{"type":"hello","v":1,"schema":3,"client":"tidewire-js/0.1.0","device":"d-1"}"#;
    g.ask(
        &mut w,
        nobody,
        "welcome, anonymous",
        "without a token",
        full,
    );
    let bob = w.connect(Some("bob"), &[]);
    let subscribed = r#"{"type":"hello","v":1,"subscribe":[{"id":"s1","channel":"todos"},{"id":"s2","channel":"nowhere"}]}"#;
    w.send_text(
        bob,
        g.client(
            "hello with subscriptions",
            "answered in the same turn",
            subscribed,
        ),
    );
    let frames = w.frames(bob);
    assert_eq!(frames.len(), 2);
    g.server(
        "answers of a hello",
        "an array, after the welcome in a frame of its own",
        &frames[1],
    );
    g.ask(
        &mut w,
        bob,
        "second hello",
        "the session stays as it was",
        minimal,
    );
    g.client(
        "auth",
        "renews the session in place",
        r#"{"type":"auth","token":"a.b.c"}"#,
    );
    w.send_text(
        bob,
        g.client(
            "ping",
            "answered by the runtime, bare",
            r#"{"type":"ping"}"#,
        ),
    );
    g.heard(&mut w, bob, "pong", "bare text, never in an array");
    let future = w.connect(Some("carol"), &[]);
    g.ask(
        &mut w,
        future,
        "unsupported version",
        "then close 4503",
        r#"{"type":"hello","v":2}"#,
    );
    assert_eq!(w.closed(future), Some(4503));
    w.send_text(bob, &" ".repeat(limits::FRAME_BYTES + 1));
    g.heard(&mut w, bob, "frame too large", "then close 4502");
    w.send_binary(alice);
    g.heard(&mut w, alice, "binary frame", "the socket stays");
    g.check();
}

#[test]
fn subscribing() {
    let mut g = Golden::of("subscribing");
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let plain = r#"{"type":"subscribe","id":"s1","channel":"todos"}"#;
    let nothing = g.ask(
        &mut w,
        alice,
        "snapshot, empty",
        "the channel holds nothing",
        plain,
    );
    w.create(bob, "m1", "todos", json!({ "id": "k1", "text": "milk" }));
    w.create(
        bob,
        "m2",
        "todos",
        json!({ "id": "k2", "text": "beer", "done": false }),
    );
    w.create(bob, "m3", "todos", json!({ "id": "k3" }));
    w.frames(alice);
    let page = g.ask(
        &mut w,
        alice,
        "snapshot, first of two pages",
        "not live yet: ask again with the cursor, whose third part is where the answer began",
        r#"{"type":"subscribe","id":"s2","channel":"todos","limit":2}"#,
    );
    let text = |cursor: &Value| cursor.as_str().unwrap().to_owned();
    let (cursor, view) = (text(&page["cursor"]), text(&page["view"]));
    w.delete(bob, "m4", "todos", "k1");
    g.ask(
        &mut w,
        alice,
        "snapshot, last page",
        "k1 was deleted since the first page; live from here",
        &format!(r#"{{"type":"subscribe","id":"s3","channel":"todos","cursor":"{cursor}","view":"{view}","limit":2}}"#),
    );
    let cursor = text(&nothing["cursor"]);
    g.ask(
        &mut w,
        alice,
        "snapshot, delta with meta",
        "resumed from a cursor with its view",
        &format!(r#"{{"type":"subscribe","id":"s4","channel":"todos","cursor":"{cursor}","view":"{view}","limit":500,"meta":true}}"#),
    );
    g.ask(
        &mut w,
        alice,
        "snapshot, full for another view",
        "the cursor proves nothing; the id is optional",
        &format!(r#"{{"type":"subscribe","channel":"todos","cursor":"{cursor}","view":"9f3a"}}"#),
    );
    for (name, note, asked) in [
        (
            "unknown channel",
            "no rule matches",
            r#"{"type":"subscribe","id":"s5","channel":"nowhere"}"#,
        ),
        (
            "forbidden",
            "signed in, but not allowed",
            r#"{"type":"subscribe","id":"s6","channel":"room:1"}"#,
        ),
        (
            "no cursor",
            "text that is no cursor",
            r#"{"type":"subscribe","id":"s7","channel":"todos","cursor":"17"}"#,
        ),
        (
            "bad limit",
            "1 to 1,000",
            r#"{"type":"subscribe","id":"s8","channel":"todos","limit":0}"#,
        ),
    ] {
        g.ask(&mut w, alice, &format!("reject, {name}"), note, asked);
    }
    let nobody = w.nobody();
    g.ask(
        &mut w,
        nobody,
        "reject, unauthorized",
        "signing in may help",
        r#"{"type":"subscribe","id":"s9","channel":"todos"}"#,
    );
    let old = w.connect(Some("carol"), &[]);
    g.ask(
        &mut w,
        old,
        "reject without a hello",
        "legacy clients know an error as plain text",
        r#"{"type":"mutate","id":"m1","channel":"todos","action":"delete","key":"k9"}"#,
    );
    g.client(
        "subscribe since",
        "legacy: milliseconds",
        r#"{"type":"subscribe","channel":"todos","since":1698765432000}"#,
    );
    g.client(
        "subscribe since a date",
        "legacy: an ISO date",
        r#"{"type":"subscribe","channel":"todos","since":"2023-10-31T15:17:12.000Z"}"#,
    );
    g.client(
        "unsubscribe",
        "has no answer",
        r#"{"type":"unsubscribe","channel":"todos"}"#,
    );
    g.check();
}

#[test]
fn changes() {
    let mut g = Golden::of("changes");
    let mut w = World::new();
    let alice = w.user("alice");
    let [bob, carol] = ["bob", "carol"].map(|user| w.live(user, "todos"));
    w.subscribe(bob, "feed");
    w.create(alice, "m1", "todos", json!({ "id": "k1", "text": "milk" }));
    g.heard(&mut w, bob, "change, create", "data is the row");
    w.update(alice, "m2", "todos", json!({ "id": "k1", "done": true }));
    g.heard(
        &mut w,
        bob,
        "change, update",
        "data is the full row after the change",
    );
    w.delete(alice, "m3", "todos", "k1");
    g.heard(&mut w, bob, "change, delete", "data is null");
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k2", "data": {} }));
    g.heard(
        &mut w,
        bob,
        "change, published",
        "by is null: a publisher or somebody anonymous",
    );
    w.frames(carol);
    w.broadcast(json!({
        "channel": "todos", "action": "update", "key": "k2", "data": { "n": 1 },
        "to": ["user:carol"]
    }));
    g.heard(
        &mut w,
        bob,
        "change, lost",
        "the row left bob's sight: a delete without an author",
    );
    w.broadcast(json!({
        "channel": "todos", "action": "update", "key": "k2", "data": { "n": 2 },
        "to": ["user:bob"]
    }));
    g.heard(
        &mut w,
        bob,
        "change, gained",
        "the row came into bob's sight: a create",
    );
    w.broadcast_batch(json!({ "channel": "todos", "changes": [
        { "action": "create", "key": "k3", "data": { "n": 3 } },
        { "action": "update", "key": "k3", "data": { "n": 4 } },
        { "action": "delete", "key": "k2" }
    ]}));
    g.heard(
        &mut w,
        bob,
        "batch",
        "several changes of one channel, applied as one",
    );
    w.broadcast_batch(json!({ "events": [
        { "channel": "todos", "action": "delete", "key": "k3" },
        { "channel": "feed", "action": "create", "key": "f1", "data": {} }
    ]}));
    g.heard(
        &mut w,
        bob,
        "joined",
        "messages of one turn to one socket, only after hello",
    );
    g.check();
}

#[test]
fn mutating() {
    let mut g = Golden::of("mutating");
    let mut w = World::new();
    let alice = w.user("alice");
    let create = r#"{"type":"mutate","id":"m1","channel":"todos","action":"create","data":{"id":"k1","text":"milk"}}"#;
    g.ask(&mut w, alice, "ack, create", "the key is data.id", create);
    g.ask(
        &mut w,
        alice,
        "ack, replayed",
        "sent again: not executed again",
        create,
    );
    for (name, note, asked) in [
        (
            "ack, update",
            "the full row after the merge; null is stored",
            r#"{"type":"mutate","id":"m2","channel":"todos","action":"update","key":"k1","data":{"text":null,"done":true}}"#,
        ),
        (
            "ack, delete",
            "data holds the key",
            r#"{"type":"mutate","id":"m3","channel":"todos","action":"delete","key":"k1"}"#,
        ),
        (
            "ack, out of sight",
            "the writer gave the row away",
            r#"{"type":"mutate","id":"m4","channel":"gifts","action":"create","data":{"id":"g1","for":"bob"}}"#,
        ),
        (
            "reject, not found",
            "no such row that the sender may see",
            r#"{"type":"mutate","id":"m5","channel":"todos","action":"update","key":"k1","data":{}}"#,
        ),
        (
            "reject, invalid",
            "field names what is wrong",
            r#"{"type":"mutate","id":"m6","channel":"notes","action":"create","data":{"id":"n1"}}"#,
        ),
        (
            "reject, conflict of ids",
            "the id was used with other content",
            r#"{"type":"mutate","id":"m1","channel":"todos","action":"create","data":{"id":"k1"}}"#,
        ),
        (
            "reject, read only",
            "clients may not write",
            r#"{"type":"mutate","id":"m7","channel":"feed","action":"create","data":{"id":"f1"}}"#,
        ),
        (
            "reject, forbidden",
            "a write must keep the row in its writer's sight",
            r#"{"type":"mutate","id":"m8","channel":"notes","action":"create","data":{"id":"n1","ownerId":"bob"}}"#,
        ),
        (
            "reject, malformed",
            "refused by its id",
            r#"{"type":"mutate","id":"m9","channel":"todos","action":"upsert","key":"k1"}"#,
        ),
    ] {
        g.ask(&mut w, alice, name, note, asked);
    }
    w.create(alice, "t1", "timed", json!({ "id": "k1", "t": 10 }));
    let older = r#"{"type":"mutate","id":"t2","channel":"timed","action":"update","data":{"id":"k1","t":9}}"#;
    g.ask(
        &mut w,
        alice,
        "reject, conflict",
        "current is the row that is newer",
        older,
    );
    w.sqlite.fail_after(0);
    let late =
        r#"{"type":"mutate","id":"m10","channel":"todos","action":"create","data":{"id":"k1"}}"#;
    g.ask(
        &mut w,
        alice,
        "reject, unavailable",
        "the same id may be sent again",
        late,
    );
    g.check();
}

#[test]
fn malformed() {
    let mut g = Golden::of("malformed");
    let mut w = World::new();
    let alice = w.user("alice");
    for (name, text) in [
        ("no JSON", "hello"),
        ("cut off", r#"{"type":"ping""#),
        ("two frames in one", r#"{"type":"ping"}{"type":"ping"}"#),
        ("a number", "7"),
        ("an empty array", "[]"),
        ("an array of no message", "[7]"),
        ("no type", r#"{"channel":"todos"}"#),
        ("an unknown type", r#"{"type":"teleport"}"#),
        ("a doubled field", r#"{"type":"ping","type":"hello"}"#),
        ("no channel", r#"{"type":"subscribe"}"#),
        (
            "a channel with a control character",
            r#"{"type":"subscribe","channel":"a\u0000b"}"#,
        ),
        (
            "an id that is no text",
            r#"{"type":"subscribe","id":7,"channel":"todos"}"#,
        ),
        (
            "a mutation without an id",
            r#"{"type":"mutate","channel":"todos","action":"delete","key":"k"}"#,
        ),
    ] {
        g.ask(&mut w, alice, name, "the socket stays", text);
        assert_eq!(w.closed(alice), None);
    }
    g.check();
}

#[test]
fn publishing() {
    let mut g = Golden::of("publishing");
    let mut w = World::new();
    w.live("alice", "todos");
    w.live("bob", "todos");
    for (name, note, call, body) in [
        (
            "create",
            "data.id may be left out",
            Call::Broadcast,
            r#"{"channel":"todos","action":"create","key":"k1","data":{"text":"milk"}}"#,
        ),
        (
            "update for some",
            "bob loses sight of the row, so he receives a delete",
            Call::Broadcast,
            r#"{"channel":"todos","action":"update","key":"k1","data":{"n":1},"to":["user:alice"],"space":"global"}"#,
        ),
        (
            "delete",
            "needs no data",
            Call::Broadcast,
            r#"{"channel":"todos","action":"delete","key":"k1"}"#,
        ),
        (
            "changes",
            "of one channel",
            Call::BroadcastBatch,
            r#"{"channel":"todos","changes":[{"action":"create","key":"k1","data":{}},{"action":"create","key":"k2","data":{},"to":"all"}]}"#,
        ),
        (
            "events",
            "each with its channel",
            Call::BroadcastBatch,
            r#"{"events":[{"channel":"todos","action":"delete","key":"k1"},{"channel":"feed","action":"create","key":"f1","data":{}}]}"#,
        ),
        (
            "bad audience",
            "400 with the field",
            Call::Broadcast,
            r#"{"channel":"todos","action":"create","key":"k1","data":{},"to":null}"#,
        ),
        (
            "bad change of a batch",
            "400 with the index of the first bad change; nothing was done",
            Call::BroadcastBatch,
            r#"{"channel":"todos","changes":[{"action":"create","key":"k1","data":{}},{"action":"upsert","key":"k2"}]}"#,
        ),
        (
            "unknown channel",
            "400",
            Call::Broadcast,
            r#"{"channel":"nowhere","action":"create","key":"k1","data":{}}"#,
        ),
    ] {
        let meaning = meaning::of_body(call, body);
        g.add(name, "publisher", note, body, Some(meaning));
        let (status, reply) = w.publish_text(call, body, None);
        g.add(&format!("{name}: {status}"), "reply", note, &reply, None);
    }
    g.check();
}
