//! Renewed sessions and the calls of operators.

use serde_json::json;
use tidewire::Call;

use super::meaning::of_body;
use super::record::Golden;
use super::world::{self, World};

#[test]
fn renewing() {
    let mut g = Golden::of("renewing");
    let mut w = World::new();
    let alice = w.member("alice", &["team:a"]);
    w.subscribe(alice, "todos");
    for (key, topic) in [("a1", "team:a"), ("b1", "team:b")] {
        w.broadcast(json!({
            "channel": "todos", "action": "create", "key": key, "data": {}, "to": [topic]
        }));
    }
    w.messages(alice);
    let exp = w.now.0 / 1000 + 60;
    for (name, note, claims) in [
        (
            "other topics",
            "rows that go and come, then the new view",
            json!({ "sub": "alice", "exp": exp, "topics": ["team:b"] }),
        ),
        (
            "a token of another space",
            "the session stays as it was",
            json!({ "sub": "alice", "exp": exp, "space": "elsewhere" }),
        ),
        (
            "another identity",
            "closed with 4501 after it",
            json!({ "sub": "bob", "exp": exp }),
        ),
    ] {
        let text = json!({ "type": "auth", "token": world::token(&claims) }).to_string();
        g.ask(&mut w, alice, name, note, &text);
    }
    g.check();
}

#[test]
fn operating() {
    let mut g = Golden::of("operating");
    let mut w = World::new();
    let alice = w.live("alice", "todos");
    for (name, note, call, body) in [
        (
            "reset",
            "takes a seq; `to` limits the notice",
            Call::BroadcastReset,
            r#"{"channel":"todos","to":["user:alice"]}"#,
        ),
        (
            "change",
            "subscribe again with the cursor",
            Call::BroadcastChange,
            r#"{"channel":"todos"}"#,
        ),
        (
            "topics",
            "as if renewed",
            Call::Topics,
            r#"{"identity":"alice","add":["team:a"],"remove":["team:b"]}"#,
        ),
        (
            "disconnect",
            "closed with 4505",
            Call::Disconnect,
            r#"{"identity":"alice","reason":"left the team"}"#,
        ),
        (
            "disconnect all",
            "closed with 4000",
            Call::Disconnect,
            r#"{"all":true}"#,
        ),
        ("epoch", "needs no body", Call::Epoch, ""),
    ] {
        let meaning = of_body(call, body);
        g.add(name, "publisher", note, body, Some(meaning));
        let (status, reply) = w.publish_text(call, body, None);
        g.add(&format!("{name}: {status}"), "reply", note, &reply, None);
        for frame in w.frames(alice) {
            g.add(name, "server", note, &frame, None);
        }
    }
    g.check();
}
