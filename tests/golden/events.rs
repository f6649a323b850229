//! Pages of event channels, with and without `edits`, and what trimming does to them.

use serde_json::{Value, json};

use super::record::Golden;
use super::world::World;

fn subscribe(channel: &str, cursor: &Value, view: &Value) -> String {
    let message = json!({
        "type": "subscribe", "id": "s1", "channel": channel, "cursor": cursor, "view": view
    });
    message.to_string()
}

#[test]
fn events() {
    let mut g = Golden::of("events");
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let plain = w.subscribe(alice, "chat:1");
    let edited = w.subscribe(alice, "doc:1");
    let moved = w.subscribe(alice, "talk:1");
    let view = edited["view"].clone();
    w.create(bob, "m1", "chat:1", json!({ "id": "z" }));
    w.create(bob, "m2", "chat:1", json!({ "id": "a" }));
    w.frames(alice);
    g.ask(
        &mut w,
        alice,
        "without edits",
        "the events in order, and nothing else",
        &subscribe("chat:1", &plain["cursor"], &view),
    );
    g.ask(
        &mut w,
        bob,
        "an edit without edits",
        "refused",
        r#"{"type":"mutate","id":"m3","channel":"chat:1","action":"update","key":"z","data":{}}"#,
    );
    g.ask(
        &mut w,
        bob,
        "a key used before",
        "refused",
        r#"{"type":"mutate","id":"m4","channel":"chat:1","action":"create","data":{"id":"z"}}"#,
    );
    w.create(bob, "m5", "doc:1", json!({ "id": "k1", "text": "hi" }));
    g.heard(&mut w, alice, "event", "live: a change like any");
    w.create(bob, "m6", "doc:1", json!({ "id": "k2" }));
    w.frames(alice);
    w.update(bob, "m7", "doc:1", json!({ "id": "k1", "text": "hello" }));
    g.heard(&mut w, alice, "edit", "live: the full event after the edit");
    w.delete(bob, "m8", "doc:1", "k2");
    g.heard(&mut w, alice, "delete", "live");
    let nobody = json!(null);
    g.ask(
        &mut w,
        alice,
        "delta with changes",
        "data and deleted say where it ended, changes how it came there: read one of the two",
        &subscribe("doc:1", &edited["cursor"], &view),
    );
    g.ask(
        &mut w,
        alice,
        "full with changes",
        "every kept state of what is in sight, and nothing of what is gone",
        &subscribe("doc:1", &nobody, &nobody),
    );
    g.ask(
        &mut w,
        alice,
        "delta with meta",
        "meta is of data, as for rows",
        &format!(
            r#"{{"type":"subscribe","id":"s2","channel":"doc:1","cursor":{},"view":{view},"meta":true}}"#,
            edited["cursor"]
        ),
    );
    w.create(
        bob,
        "m9",
        "talk:1",
        json!({ "id": "k3", "for": ["alice", "bob"] }),
    );
    w.update(bob, "m10", "talk:1", json!({ "id": "k3", "for": "bob" }));
    w.frames(alice);
    g.ask(
        &mut w,
        alice,
        "an event that left its reader's sight",
        "told as live: a delete that says nobody's name",
        &subscribe("talk:1", &moved["cursor"], &view),
    );
    for n in 0..8 {
        let key = format!("k{}", 4 + n);
        w.create(bob, &key, "talk:1", json!({ "id": key, "for": "alice" }));
    }
    w.frames(alice);
    g.ask(
        &mut w,
        alice,
        "behind the trim",
        "full, with what is kept: 6 changes of this channel's retain",
        &subscribe("talk:1", &moved["cursor"], &view),
    );
    g.check();
}
