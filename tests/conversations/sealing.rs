//! Cursors of channels whose events can be edited: pages from there on hold what was edited and
//! deleted since, so nobody may say that it has been there who has not.

use serde_json::{Value, json};

use super::world::{self, World};
use super::{code, gist};

const DOC: &str = "doc:1";

/// How a new connection's subscription with a cursor is answered.
fn mode(w: &mut World, cursor: &Value, view: &Value) -> (String, bool) {
    let reader = w.user("alice");
    let page = w.resume(reader, DOC, cursor, view);
    w.drop(reader);
    let mode = page["mode"].as_str().unwrap_or_default().to_owned();
    (mode, page.to_string().contains("secret"))
}

/// A document of which something was edited and deleted after it was first read, and how that
/// first page was.
fn document(w: &mut World) -> Value {
    let alice = w.user("alice");
    w.create(alice, "m1", DOC, json!({ "id": "a" }));
    let page = w.subscribe(alice, DOC);
    w.create(alice, "m2", DOC, json!({ "id": "b", "x": "secret" }));
    w.delete(alice, "m3", DOC, "b");
    page
}

fn parts(cursor: &Value) -> Vec<String> {
    let text = cursor.as_str().expect("a cursor is text");
    text.split('.').map(str::to_owned).collect()
}

#[test]
fn a_made_up_cursor_tells_nothing_of_what_was_deleted() {
    let mut w = World::new();
    let first = document(&mut w);
    let alice = w.user("alice");
    let page = w.subscribe(alice, DOC);
    assert!(!page.to_string().contains("secret"));
    let (epoch, seal) = (&parts(&page["cursor"])[0], &parts(&page["cursor"])[2]);
    let other = w.subscribe(alice, "doc:2");
    let honest = &parts(&other["cursor"])[2];
    for made_up in [
        format!("{epoch}.1"),
        format!("{epoch}.0"),
        format!("{epoch}.1.{seal}"),
        format!("{epoch}.1.{honest}"),
        format!("{epoch}.1.s0000000000000000"),
        format!("{epoch}.1.1.{}", page["view"].as_str().unwrap()),
        format!("{epoch}.1.1.{}.{seal}", page["view"].as_str().unwrap()),
        format!("{}.2", first["cursor"].as_str().unwrap()),
    ] {
        let answer = mode(&mut w, &json!(made_up), &page["view"]);
        assert_eq!(answer, ("full".to_owned(), false), "{made_up}");
    }
    let whose = mode(&mut w, &other["cursor"], &other["view"]);
    assert_eq!(whose, ("full".to_owned(), false), "another channel's");
    assert_eq!(
        mode(&mut w, &first["cursor"], &first["view"]),
        ("delta".to_owned(), true),
        "who was there when it was said gets it"
    );
}

#[test]
fn every_cursor_that_is_given_resumes() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("alice", DOC));
    let first = w.subscribe(alice, DOC);
    let ack = w.create(alice, "m1", DOC, json!({ "id": "a" }));
    let repeat = w.create(alice, "m1", DOC, json!({ "id": "a" }));
    assert_eq!(repeat["replayed"], true);
    let live = w.one(bob);
    let (_, published) = w.broadcast(json!({ "channel": DOC, "action": "update", "key": "a",
        "data": { "n": 1 } }));
    let changes: Vec<Value> = ["b", "c"]
        .map(|key| json!({ "action": "create", "key": key, "data": {} }))
        .into();
    w.messages(bob);
    let (_, batched) = w.broadcast_batch(json!({ "channel": DOC, "changes": changes }));
    let batch = w.one(bob);
    assert_eq!(batch["type"], "batch");
    w.messages(alice);
    let message = json!({ "type": "subscribe", "channel": DOC, "limit": 1 });
    let page = w.ask(alice, message);
    assert_eq!(page["more"], true);
    for cursor in [
        &first["cursor"],
        &ack["cursor"],
        &repeat["cursor"],
        &live["cursor"],
        &published["cursor"],
        &batched["cursor"],
        &batch["cursor"],
        &page["cursor"],
    ] {
        let answer = mode(&mut w, cursor, &first["view"]);
        assert_eq!(answer.0, "delta", "{cursor}");
        // The contract names its first two parts.
        let parts = parts(cursor);
        assert_eq!(parts[0], self::parts(&first["cursor"])[0]);
        assert!(parts[1].parse::<u64>().is_ok());
    }
    w.sleep();
    assert_eq!(mode(&mut w, &live["cursor"], &first["view"]).0, "delta");
}

#[test]
fn the_cursor_of_a_renewed_session_resumes() {
    let mut w = World::new();
    let alice = w.member("alice", &[]);
    w.subscribe(alice, DOC);
    let (status, _) = w.broadcast(json!({ "channel": DOC, "action": "create", "key": "t",
        "data": {}, "to": ["team:7"] }));
    assert_eq!(status, 200);
    let exp = w.now.0 / 1000 + 3600;
    let claims = json!({ "sub": "alice", "exp": exp, "topics": ["team:7"] });
    w.send(
        alice,
        json!({ "type": "auth", "token": world::token(&claims) }),
    );
    let heard = w.messages(alice);
    assert_eq!(gist(&heard[..1]), ["create t"]);
    let view = heard.last().expect("authed")["view"].clone();
    let again = w.member("alice", &["team:7"]);
    let page = w.resume(again, DOC, &heard[0]["cursor"], &view);
    assert_eq!(page["mode"], "delta");
}

#[test]
fn what_is_no_cursor_is_malformed_here_too() {
    let mut w = World::new();
    let alice = w.user("alice");
    let message = json!({ "type": "subscribe", "id": "s", "channel": DOC, "cursor": "s.s.s" });
    assert_eq!(code(&w.ask(alice, message)), "malformed");
}

#[test]
fn elsewhere_cursors_have_two_parts() {
    let mut w = World::new();
    let alice = w.user("alice");
    let page = w.subscribe(alice, "todos");
    assert_eq!(parts(&page["cursor"]).len(), 2);
    let ack = w.create(alice, "m1", "todos", json!({ "id": "a" }));
    assert_eq!(parts(&ack["cursor"]).len(), 2);
}
