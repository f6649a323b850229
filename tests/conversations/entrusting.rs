//! Mutations of rows that live elsewhere: judged here, written there, told by the log, once.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::source::{Answer, Failed, Scope, Written};
use tidewire::{Audience, ConnId, Topic};

use super::world::World;
use super::{NOTHING, blame, code, gist, ids, seq};

fn milk() -> Value {
    json!({ "id": "k", "text": "milk" })
}

fn create(id: &str, channel: &str, data: Value) -> Value {
    json!({ "type": "mutate", "id": id, "channel": channel, "action": "create", "data": data })
}

fn written(row: Option<Value>, scope: Scope) -> Written {
    Written {
        row: row.map(|row| row.to_string()),
        scope,
        before: None,
        repeated: false,
    }
}

fn of(topics: &[&str]) -> Audience {
    Audience::of(topics.iter().map(|topic| Topic::parse(topic).unwrap())).unwrap()
}

/// Alice's mutation, answered with this by its source.
#[track_caller]
fn answered_with(w: &mut World, alice: ConnId, message: Value, written: Written) -> Value {
    w.slow = true;
    w.send(alice, message);
    w.answered(w.questions[0].id, Ok(Answer::Written(written)));
    w.questions.clear();
    w.slow = false;
    w.one(alice)
}

#[test]
fn a_row_is_written_there_and_told_by_the_log() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.live("alice", "plain"), w.live("bob", "plain"));
    let ack = w.create(alice, "m1", "plain", milk());
    assert_eq!(
        (&ack["type"], &ack["data"], seq(&ack)),
        (&json!("ack"), &milk(), 1)
    );
    assert_eq!(ack["replayed"], false);
    let change = w.one(bob);
    assert_eq!((&change["data"], &change["by"]), (&milk(), &json!("alice")));
    assert_eq!(change["cursor"], ack["cursor"]);
    let ack = w.update(bob, "m1", "plain", json!({ "id": "k", "done": true }));
    assert_eq!(
        ack["data"],
        json!({ "id": "k", "text": "milk", "done": true })
    );
    assert_eq!(w.one(alice)["data"], ack["data"]);
    let ack = w.delete(alice, "m2", "plain", "k");
    assert_eq!(ack["data"], json!({ "id": "k" }));
    assert_eq!(gist(&w.messages(bob)), ["delete k"]);
    assert_eq!((w.home.writes, w.home.all("plain")), (3, vec![]));
    assert_eq!(w.home.fetches, 2);
}

#[test]
fn what_the_rule_or_the_shape_refuses_never_reaches_the_source() {
    let mut w = World::elsewhere_with(&json!({ "rowBytes": 256 }));
    let (nobody, alice) = (w.nobody(), w.user("alice"));
    assert_eq!(
        code(&w.create(nobody, "m1", "plain", milk())),
        "unauthorized"
    );
    assert_eq!(
        code(&w.create(alice, "m1", "unknown", milk())),
        "unknown_channel"
    );
    let refused = w.create(alice, "m1", "plain", json!({ "text": "milk" }));
    assert_eq!(blame(&refused), ("invalid", "id"));
    let refused = w.create(alice, "m1", "plain", json!({ "id": "k", "prototype": 1 }));
    assert_eq!(blame(&refused), ("invalid", "prototype"));
    let large = json!({ "id": "k", "t": "x".repeat(256 - 17) });
    let too_large = json!({ "id": "k", "t": "x".repeat(256 - 16) });
    for action in ["create", "update"] {
        let rest = json!({ "action": action, "data": too_large });
        assert_eq!(
            blame(&w.mutate(alice, "m1", "plain", rest)),
            ("invalid", "data")
        );
    }
    assert_eq!(w.home.writes, 0);
    assert_eq!(w.create(alice, "m1", "plain", large)["type"], "ack");
}

#[test]
fn a_refusal_of_the_source_is_passed_on_and_not_remembered() {
    let mut w = World::elsewhere();
    let alice = w.user("alice");
    assert_eq!(code(&w.update(alice, "m1", "plain", milk())), "not_found");
    w.slow = true;
    w.send(alice, create("m2", "plain", milk()));
    let problem = Problem {
        current: Some(r#"{"id":"k","text":"beer"}"#.to_owned()),
        ..Problem::new(Code::Conflict, "the row is newer")
    };
    w.answered(w.questions[0].id, Err(Failed::from(problem)));
    w.questions.clear();
    w.slow = false;
    let refusal = w.one(alice);
    assert_eq!((&refusal["id"], code(&refusal)), (&json!("m2"), "conflict"));
    assert_eq!(
        refusal["error"]["current"],
        json!({ "id": "k", "text": "beer" })
    );
    assert_eq!(w.create(alice, "m2", "plain", milk())["type"], "ack");
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
}

#[test]
fn a_repeat_is_answered_by_the_log() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
    let first = w.create(alice, "m1", "plain", milk());
    w.messages(bob);
    for sleeps in [false, true] {
        if sleeps {
            w.sleep();
        }
        let again = w.user("alice");
        let repeat = w.create(again, "m1", "plain", milk());
        assert_eq!(
            (&repeat["replayed"], &repeat["data"]),
            (&json!(true), &milk())
        );
        assert_eq!(repeat["cursor"], first["cursor"]);
        let other = json!({ "id": "k", "text": "beer" });
        assert_eq!(code(&w.create(again, "m1", "plain", other)), "conflict");
    }
    assert_eq!((w.home.writes, w.messages(bob)), (1, vec![]));
    let theirs = w.create(bob, "m1", "plain", json!({ "id": "b" }));
    assert_eq!(theirs["replayed"], false, "ids are of their owner");
}

#[test]
fn a_repeat_that_comes_meanwhile_is_told_to_come_again() {
    let mut w = World::elsewhere();
    let (alice, other) = (w.user("alice"), w.user("alice"));
    w.slow = true;
    w.send(alice, create("m1", "plain", milk()));
    w.send(other, create("m1", "plain", milk()));
    let refused = w.one(other);
    assert_eq!(
        (code(&refused), &refused["error"]["retryable"]),
        ("unavailable", &json!(true))
    );
    assert!(refused["error"]["retryAfterMs"].as_u64().is_some());
    let (status, body) = w.write(
        Some("alice"),
        json!([{
            "id": "m1", "channel": "plain", "action": "create", "data": milk()
        }]),
    );
    assert_eq!((status, code(&body["results"][0])), (200, "unavailable"));
    assert_eq!(w.questions.len(), 1);
    w.settle();
    assert_eq!(w.one(alice)["replayed"], false);
    assert_eq!(w.create(other, "m1", "plain", milk())["replayed"], true);
    assert_eq!(w.home.writes, 1);
}

#[test]
fn a_write_goes_on_when_its_writer_has_gone() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
    w.slow = true;
    w.send(alice, create("m1", "plain", milk()));
    w.drop(alice);
    w.settle();
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
    let again = w.user("alice");
    assert_eq!(w.create(again, "m1", "plain", milk())["replayed"], true);
    assert_eq!(w.home.writes, 1);
}

#[test]
fn a_mutation_writes_a_row_an_outcome_and_a_claim_that_goes_again() {
    let mut w = World::elsewhere();
    let alice = w.live("alice", "plain");
    // The first change of a channel asks for a round of trimming, too.
    w.create(alice, "m0", "plain", json!({ "id": "first" }));
    w.events();
    w.slow = true;
    w.send(alice, create("m1", "plain", milk()));
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 1);
    // What others write meanwhile is told of them.
    w.broadcast(json!({ "channel": "here", "action": "create", "key": "k", "data": {} }));
    w.settle();
    let rows = w
        .events()
        .into_iter()
        .map(|event| (event["op"].clone(), event["rows"].clone()));
    // The row, the outcome, the claim twice. With the row's index entry, which only the platform
    // counts, a mutation costs 5 and a publish 2.
    let told = [(json!("publish"), json!(1)), (json!("mutate"), json!(4))];
    assert_eq!(rows.collect::<Vec<_>>(), told);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
}

#[test]
fn where_the_source_cannot_say_who_may_see_a_row_nobody_is_told_of_it() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
    let before = w.subscribe(bob, "plain");
    w.home.scope_fails = true;
    let ack = w.create(alice, "m1", "plain", milk());
    assert_eq!((&ack["type"], &ack["data"]), (&json!("ack"), &Value::Null));
    assert_eq!(w.one(bob)["type"], "channel-change");
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
    let repeat = w.create(alice, "m1", "plain", milk());
    assert_eq!((&repeat["replayed"], w.home.writes), (&json!(true), 1));
    // Whoever comes back asks the source, the writer also.
    w.home.scope_fails = false;
    let (asked, cursor, view) = (w.home.fetches, &before["cursor"], &before["view"]);
    assert_eq!(ids(&w.resume(bob, "plain", cursor, view)), ["k"]);
    let carol = w.user("alice");
    let hers = w.subscribe(alice, "plain")["view"].clone();
    assert_eq!(ids(&w.resume(carol, "plain", &ack["cursor"], &hers)), ["k"]);
    assert_eq!(w.home.fetches, asked + 3);
}

#[test]
fn who_may_see_a_row_is_whom_the_source_names() {
    let mut w = World::elsewhere();
    let (alice, bob, carol) = (
        w.user("alice"),
        w.live("bob", "plain"),
        w.live("carol", "plain"),
    );
    let to_bob = written(Some(milk()), Scope::Of(of(&["user:bob"])));
    let ack = answered_with(&mut w, alice, create("m1", "plain", milk()), to_bob);
    assert_eq!(
        (&ack["type"], &ack["data"]),
        (&json!("ack"), &Value::Null),
        "not hers to see"
    );
    assert_eq!(
        (gist(&w.messages(bob)), w.messages(carol)),
        (vec!["create k".to_owned()], vec![])
    );
    // It moves: the log knows who saw it before.
    let to_carol = written(Some(milk()), Scope::Of(of(&["user:carol"])));
    answered_with(&mut w, alice, create("m2", "plain", milk()), to_carol);
    assert_eq!(gist(&w.messages(bob)), ["delete k"]);
    assert_eq!(gist(&w.messages(carol)), ["create k"]);
    // Of a delete whoever could see it is told, whatever the source says.
    let gone = written(None, Scope::Of(Audience::All));
    let delete = json!({
        "type": "mutate", "id": "m3", "channel": "plain", "action": "delete", "key": "k"
    });
    answered_with(&mut w, alice, delete, gone);
    assert_eq!(gist(&w.messages(carol)), ["delete k"]);
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn whoever_loses_a_row_that_the_log_does_not_hold_is_told_where_the_source_knows() {
    let mut w = World::elsewhere();
    w.put("notes", json!({ "id": "n", "ownerId": ["alice", "bob"] }));
    let (alice, bob) = (w.live("alice", "notes"), w.live("bob", "notes"));
    let away = w.subscribe(bob, "notes");
    w.update(
        alice,
        "m1",
        "notes",
        json!({ "id": "n", "ownerId": "alice" }),
    );
    assert_eq!(gist(&w.messages(bob)), ["delete n"]);
    let delta = w.resume(bob, "notes", &away["cursor"], &away["view"]);
    assert_eq!(
        (&delta["mode"], &delta["deleted"]),
        (&json!("delta"), &json!(["n"]))
    );
    w.update(
        alice,
        "m2",
        "notes",
        json!({ "id": "n", "ownerId": ["alice", "bob"] }),
    );
    assert_eq!(gist(&w.messages(bob)), ["create n"]);
}

#[test]
fn the_rule_that_scopes_by_a_field_holds_for_what_is_written_too() {
    let mut w = World::elsewhere();
    let (alice, bob, carol) = (
        w.user("alice"),
        w.live("bob", "notes"),
        w.live("carol", "notes"),
    );
    let both = json!({ "id": "k", "ownerId": ["alice", "bob"] });
    let to_all = written(Some(both.clone()), Scope::Of(Audience::All));
    answered_with(&mut w, alice, create("m1", "notes", both.clone()), to_all);
    assert_eq!(
        (gist(&w.messages(bob)), w.messages(carol)),
        (vec!["create k".to_owned()], vec![])
    );
    let narrower = written(
        Some(both.clone()),
        Scope::Of(of(&["user:carol", "user:alice"])),
    );
    answered_with(&mut w, alice, create("m2", "notes", both), narrower);
    assert_eq!(
        (gist(&w.messages(bob)), w.messages(carol)),
        (vec!["delete k".to_owned()], vec![])
    );
    // A row that the rule cannot judge is nobody's.
    let none = json!({ "id": "k2" });
    for scope in [Scope::ByRule, Scope::Of(Audience::All)] {
        let id = format!("{scope:?}");
        let of_none = written(Some(none.clone()), scope);
        let ack = answered_with(&mut w, alice, create(&id, "notes", none.clone()), of_none);
        assert_eq!((&ack["type"], &ack["data"]), (&json!("ack"), &Value::Null));
        let told = [w.messages(bob), w.messages(carol)].concat();
        let again = json!({ "type": "channel-change", "channel": "notes" });
        assert!(told.iter().all(|message| *message == again), "{told:?}");
    }
}

#[test]
fn what_is_no_row_of_the_key_is_a_fault_and_everyone_asks_again() {
    let other = json!({ "id": "other" });
    for row in [
        None,
        Some(other),
        Some(json!({ "id": "k", "__proto__": 1 })),
        Some(json!(1)),
    ] {
        let mut w = World::elsewhere();
        let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
        let odd = written(row, Scope::ByRule);
        let refusal = answered_with(&mut w, alice, create("m1", "plain", milk()), odd);
        assert_eq!(code(&refusal), "internal");
        assert_eq!(
            w.one(bob)["type"],
            "channel-change",
            "something may have been written"
        );
        assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
    }
}

#[test]
fn the_ids_of_nobody_count_per_session() {
    let mut w = World::elsewhere();
    let (one, another) = (w.nobody(), w.nobody());
    for conn in [one, another] {
        assert_eq!(w.create(conn, "m1", "open", milk())["replayed"], false);
        assert_eq!(w.create(conn, "m1", "open", milk())["replayed"], true);
    }
    assert_eq!(w.home.writes, 2);
}

#[test]
fn nothing_is_imported_into_a_space_that_a_source_is_writing_for() {
    let mut w = World::elsewhere();
    let file = World::elsewhere().export();
    let alice = w.user("alice");
    w.slow = true;
    w.send(alice, create("m1", "plain", milk()));
    assert_eq!(code(&w.import(&file).1), "conflict");
    w.settle();
    assert_eq!(w.one(alice)["type"], "ack");
}
