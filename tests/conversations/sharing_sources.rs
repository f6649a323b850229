//! What questions to sources may take of an object, and whose share that is; and what becomes of
//! rows that have changed where the log did not see it.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::source::{Answer, Failed, Scope, Written};
use tidewire::{Audience, Call, ConnId, Topic, limits};

use super::world::World;
use super::{NOTHING, code, ids};

fn subscribe(channel: &str) -> Value {
    json!({ "type": "subscribe", "id": "s", "channel": channel })
}

fn create(id: &str, key: &str, bytes: usize) -> Value {
    json!({
        "type": "mutate", "id": id, "channel": "plain", "action": "create",
        "data": { "id": key, "t": "x".repeat(bytes) }
    })
}

/// A source that fails, and may have done what it was asked for.
fn lost() -> Failed {
    Failed {
        problem: Problem::new(Code::Unavailable, "lost"),
        may_be_done: true,
    }
}

#[test]
fn one_identity_has_a_tenth_of_the_questions() {
    let mut w = World::elsewhere();
    w.live("first", "plain");
    w.slow = true;
    let conns: Vec<ConnId> = (0..=limits::QUESTIONS_PER_IDENTITY)
        .map(|_| w.user("mallory"))
        .collect();
    for conn in &conns {
        w.send(*conn, subscribe("plain"));
    }
    let (last, rest) = conns.split_last().unwrap();
    assert_eq!(code(&w.one(*last)), "unavailable");
    assert_eq!(w.questions.len(), limits::QUESTIONS_PER_IDENTITY);
    let bob = w.user("bob");
    w.send(bob, subscribe("plain"));
    assert_eq!(w.messages(bob), NOTHING, "others are asked for");
    w.drop(rest[0]);
    w.send(*last, subscribe("plain"));
    assert_eq!(w.messages(*last), NOTHING, "whoever goes makes room");
}

#[test]
fn pages_are_asked_for_as_far_as_they_fit_a_memory() {
    let mut w = World::elsewhere();
    w.slow = true;
    let most = limits::FETCHES_BYTES / limits::FETCH_BYTES;
    let conns: Vec<ConnId> = (0..=most).map(|n| w.user(&format!("u{n}"))).collect();
    for conn in &conns {
        w.send(*conn, subscribe("plain"));
    }
    let (last, _) = conns.split_last().unwrap();
    assert_eq!(code(&w.one(*last)), "unavailable");
    assert_eq!(w.questions.len(), most);
    // Once the source's pages are known to be small, many more are.
    w.slow = false;
    w.settle();
    w.slow = true;
    let conns: Vec<ConnId> = (0..2 * most).map(|n| w.user(&format!("v{n}"))).collect();
    for conn in &conns {
        w.send(*conn, subscribe("plain"));
    }
    assert_eq!(w.questions.len(), 2 * most);
}

#[test]
fn what_questions_hold_is_bounded_together() {
    let mut w = World::elsewhere();
    w.slow = true;
    let row = 200 * 1024;
    let mut asked = 0;
    let refused = loop {
        let conn = w.user(&format!("u{asked}"));
        w.send(conn, create("m", &format!("k{asked}"), row));
        match w.messages(conn).pop() {
            Some(refusal) => break refusal,
            None => asked += 1,
        }
    };
    assert_eq!(code(&refused), "unavailable");
    let held = 2 * row * asked;
    assert!(held <= limits::QUESTIONS_BYTES && held + 4 * row > limits::QUESTIONS_BYTES);
}

#[test]
fn a_request_with_mutations_is_worked_on_for_a_bounded_time() {
    let mut w = World::elsewhere();
    w.slow = true;
    let mutations: Vec<Value> = (0..3)
        .map(|n| {
            let data = json!({ "id": format!("k{n}") });
            json!({ "id": format!("m{n}"), "channel": "open", "action": "create", "data": data })
        })
        .collect();
    // Without a token, whose end would come before.
    let body = json!({ "mutations": mutations }).to_string();
    let conn = w.try_write(None, &body, None).unwrap();
    w.advance(limits::WRITER_MS);
    w.answer_first();
    assert_eq!(w.questions.len(), 1, "at its bound it goes on");
    w.advance(1);
    w.answer_first();
    let body: Value = serde_json::from_str(&w.reply(conn).unwrap().body).unwrap();
    let codes: Vec<&Value> = (0..3)
        .map(|n| &body["results"][n]["error"]["code"])
        .collect();
    assert_eq!(codes, [&Value::Null, &Value::Null, &json!("unavailable")]);
    assert_eq!(w.questions.len(), 0);
}

#[test]
fn a_write_that_waits_for_its_row_waits_no_longer_than_for_its_source() {
    let mut w = World::elsewhere();
    let conns: Vec<ConnId> = ["alice", "bob", "carol"]
        .iter()
        .map(|user| w.user(user))
        .collect();
    w.slow = true;
    for conn in &conns {
        w.send(*conn, create("m", "k", 1));
    }
    w.advance(limits::SOURCE_TIMEOUT_MS);
    w.answer_first();
    assert_eq!(w.one(conns[0])["type"], "ack");
    assert_eq!(w.questions.len(), 1, "at its bound bob's is asked for");
    w.advance(1);
    w.answer_first();
    assert_eq!(w.one(conns[1])["type"], "ack");
    assert_eq!(code(&w.one(conns[2])), "unavailable");
    assert_eq!(w.questions.len(), 0);
}

#[test]
fn writes_that_fail_one_after_the_other_have_everybody_ask_once_in_a_while() {
    let mut w = World::elsewhere();
    let bob = w.live("bob", "plain");
    let alice = w.user("alice");
    let fail = |w: &mut World, id: &str| {
        w.slow = true;
        w.send(alice, create(id, id, 1));
        let ask = w.questions.remove(0).id;
        w.answered(ask, Err(lost()));
        w.slow = false;
        assert_eq!(code(&w.one(alice)), "unavailable");
    };
    fail(&mut w, "m1");
    assert_eq!(w.one(bob)["type"], "channel-change");
    w.subscribe(bob, "plain");
    for id in ["m2", "m3", "m4"] {
        fail(&mut w, id);
    }
    assert_eq!(w.messages(bob), NOTHING, "not again so soon");
    // But nothing carries it past what it does not know.
    w.create(alice, "m5", "plain", json!({ "id": "k" }));
    assert_eq!(w.messages(bob), NOTHING);
    assert_eq!(w.alarm, Some(w.now.plus(limits::NOTICE_PAUSE_MS)));
    w.advance(limits::NOTICE_PAUSE_MS - 1);
    assert!(!w.ring());
    w.advance(1);
    assert!(w.ring());
    assert_eq!(w.one(bob)["type"], "channel-change");
    assert_eq!(ids(&w.subscribe(bob, "plain")), ["k"]);
}

#[test]
fn a_repeat_shows_no_row_that_has_changed_outside_since() {
    let mut w = World::elsewhere();
    let alice = w.live("alice", "plain");
    w.create(alice, "m1", "plain", json!({ "id": "k", "n": 1 }));
    w.put("plain", json!({ "id": "k", "n": 2 }));
    w.call(Call::BroadcastChange, json!({ "channel": "plain" }));
    w.messages(alice);
    let ack = w.create(alice, "m1", "plain", json!({ "id": "k", "n": 1 }));
    assert_eq!(
        (&ack["replayed"], &ack["data"]),
        (&json!(true), &Value::Null)
    );
}

/// Alice's note was given to Bob outside; he deletes it, and his source says so in one way or another.
fn bob_deletes(written: Written) -> (Vec<Value>, Vec<Value>) {
    let mut w = World::elsewhere();
    let (alice, bob, away) = (
        w.live("alice", "notes"),
        w.live("bob", "notes"),
        w.user("bob"),
    );
    w.create(
        alice,
        "m1",
        "notes",
        json!({ "id": "k", "ownerId": "alice" }),
    );
    w.put("notes", json!({ "id": "k", "ownerId": "bob" }));
    w.call(Call::BroadcastChange, json!({ "channel": "notes" }));
    for conn in [alice, bob] {
        w.messages(conn);
        w.subscribe(conn, "notes");
    }
    w.subscribe(away, "notes");
    w.slow = true;
    let message = json!({
        "type": "mutate", "id": "m2", "channel": "notes", "action": "delete", "key": "k"
    });
    w.send(bob, message);
    let ask = w.questions.remove(0).id;
    w.answered(ask, Ok(Answer::Written(written)));
    assert_eq!(w.one(bob)["type"], "ack");
    (w.messages(away), w.messages(alice))
}

#[test]
fn a_delete_after_a_change_outside_reaches_those_who_could_see_the_row_by_then() {
    let bobs = || Audience::of([Topic::parse("user:bob").unwrap()]).unwrap();
    let plain = Written {
        row: None,
        scope: Scope::ByRule,
        before: None,
        repeated: false,
    };
    let row = json!({ "id": "k", "ownerId": "bob" }).to_string();
    for written in [
        Written {
            before: Some(bobs()),
            ..plain.clone()
        },
        Written {
            scope: Scope::Of(bobs()),
            ..plain.clone()
        },
        Written {
            row: Some(row),
            ..plain
        },
    ] {
        let (away, alice) = bob_deletes(written.clone());
        assert_eq!(away.len(), 1, "{written:?}");
        assert_eq!(
            (&away[0]["action"], &away[0]["key"]),
            (&json!("delete"), &json!("k"))
        );
        assert_eq!(alice, NOTHING, "{written:?}");
    }
}

#[test]
fn a_state_that_is_too_large_is_refused_before_anybody_is_asked() {
    let mut w = World::elsewhere();
    let alice = w.live("alice", "open");
    let asked = w.home.authorizes;
    let state = |bytes: usize| {
        let state = "s".repeat(bytes - 2);
        json!({ "type": "presence", "channel": "open", "state": state })
    };
    assert_eq!(w.ask(alice, state(limits::STATE_BYTES))["total"], 1);
    assert_eq!(w.home.authorizes, asked + 1);
    assert_eq!(
        code(&w.ask(alice, state(limits::STATE_BYTES + 1))),
        "invalid"
    );
    assert_eq!(w.home.authorizes, asked + 1);
}
