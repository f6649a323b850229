//! Presence and signals, and what a publisher is told of who is here.

use serde_json::json;

use super::record::Golden;
use super::world::World;

#[test]
fn presence_and_signals() {
    let mut g = Golden::of("presence");
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.member(user, &["room:42", "room:7"]));
    for conn in [alice, bob] {
        w.subscribe(conn, "room:42");
    }
    let watch = r#"{"type":"presence","channel":"room:42","watch":true}"#;
    let note = "observes unseen; answered by who is here";
    g.ask(&mut w, bob, "watching", note, watch);
    for (name, note, state, other) in [
        (
            "joining",
            "answered by who is here, oneself too",
            r#"{"type":"presence","channel":"room:42","state":{"x":1}}"#,
            "joined",
        ),
        (
            "updating",
            "has no answer",
            r#"{"type":"presence","channel":"room:42","state":{"x":2}}"#,
            "updated",
        ),
        (
            "leaving",
            "state null; has no answer",
            r#"{"type":"presence","channel":"room:42","state":null}"#,
            "left",
        ),
    ] {
        w.send_text(alice, g.client(name, note, state));
        for frame in w.frames(alice) {
            g.server(
                "members",
                "total counts also those that the list has no room for",
                &frame,
            );
        }
        g.heard(
            &mut w,
            bob,
            other,
            "what the others who joined or watch are told",
        );
    }
    let signal = r#"{"type":"signal","channel":"room:42","event":"typing","data":{"on":true}}"#;
    w.send_text(alice, g.client("signal", "has no answer", signal));
    g.heard(&mut w, bob, "signal, passed on", "never stored");
    let bare = r#"{"type":"signal","channel":"room:42","event":"wave"}"#;
    w.send_text(
        alice,
        g.client("signal without data", "has no answer", bare),
    );
    g.heard(
        &mut w,
        bob,
        "signal without data, passed on",
        "data is null",
    );
    for (name, note, asked) in [
        (
            "presence without a state",
            "neither a state nor watch",
            r#"{"type":"presence","channel":"room:42"}"#,
        ),
        (
            "presence without a subscription",
            "only for subscribers",
            r#"{"type":"presence","channel":"room:7","state":1}"#,
        ),
        (
            "presence where the rule does not open it",
            "nor signals",
            r#"{"type":"presence","channel":"todos","state":1}"#,
        ),
        (
            "signal without an event",
            "refused",
            r#"{"type":"signal","channel":"room:42","data":1}"#,
        ),
    ] {
        g.ask(&mut w, alice, name, note, asked);
    }
    w.send(
        alice,
        json!({ "type": "presence", "channel": "room:42", "state": { "x": 1 } }),
    );
    let (status, body) = w.presence_text("room:42");
    let name = format!("GET /presence: {status}");
    let note = "who is present, for publishers";
    g.add(&name, "reply", note, &body, None);
    g.check();
}
