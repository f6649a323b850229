//! Sources that answer late or never: nobody is stuck, and nothing that was written is lost.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::source::{AskId, Failed};
use tidewire::{ConnId, limits};

use super::world::World;
use super::world::readers::reads;
use super::{NOTHING, code, gist, ids};

fn create(id: &str, key: &str) -> Value {
    json!({
        "type": "mutate", "id": id, "channel": "plain", "action": "create", "data": { "id": key }
    })
}

/// Alice's `m1` creates `k`, and its source takes too long; bob is live there.
fn late() -> (World, ConnId, ConnId, AskId) {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.live("alice", "plain"), w.live("bob", "plain"));
    w.slow = true;
    w.send(alice, create("m1", "k"));
    let ask = w.questions[0].id;
    w.advance(limits::SOURCE_TIMEOUT_MS);
    w.late(ask);
    let refusal = w.one(alice);
    assert_eq!(
        (&refusal["id"], code(&refusal)),
        (&json!("m1"), "unavailable")
    );
    assert_eq!(refusal["error"]["retryAfterMs"], limits::SOURCE_RETRY_MS);
    (w, alice, bob, ask)
}

#[test]
fn a_write_that_is_answered_late_is_told_and_a_repeat_is_replayed() {
    let (mut w, alice, bob, _) = late();
    w.send(alice, create("m1", "k"));
    assert_eq!(
        code(&w.one(alice)),
        "unavailable",
        "it is still being executed"
    );
    w.answer_first();
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
    assert_eq!(
        gist(&w.messages(alice)),
        ["create k"],
        "she was not told yet"
    );
    w.send(alice, create("m1", "k"));
    assert_eq!(w.one(alice)["replayed"], true);
    assert_eq!((w.home.writes, w.questions.len()), (1, 0));
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
}

#[test]
fn a_write_that_is_refused_late_is_executed_when_it_is_sent_again() {
    let (mut w, alice, bob, ask) = late();
    w.questions.clear();
    w.answered(ask, Err(Failed::from(Problem::new(Code::Invalid, "no"))));
    assert_eq!((w.messages(alice), w.messages(bob)), (vec![], vec![]));
    w.send(alice, create("m1", "k"));
    w.settle();
    assert_eq!(w.one(alice)["replayed"], false);
}

#[test]
fn nobody_writes_a_row_of_which_it_is_not_known_what_it_is() {
    let mut w = World::elsewhere();
    let (alice, bob, carol) = (w.user("alice"), w.user("bob"), w.user("carol"));
    w.slow = true;
    w.send(alice, create("m1", "k"));
    w.send(bob, create("m1", "k"));
    let ask = w.questions[0].id;
    w.late(ask);
    for conn in [alice, bob] {
        assert_eq!(code(&w.one(conn)), "unavailable");
    }
    w.send(bob, create("m2", "k"));
    assert_eq!(code(&w.one(bob)), "unavailable");
    w.send(alice, create("m2", "other"));
    assert_eq!(w.questions.len(), 2, "other rows are written");
    w.settle();
    assert_eq!(w.one(alice)["id"], "m2");
    w.send(carol, create("m1", "k"));
    w.settle();
    assert_eq!(w.one(carol)["type"], "ack", "the row is known again");
    assert_eq!(w.home.writes, 3);
}

#[test]
fn a_write_that_is_never_answered_is_given_up_and_everyone_asks_again() {
    let (mut w, alice, bob, ask) = late();
    let since = w.now;
    w.advance(limits::SOURCE_NEVER_MS - limits::SOURCE_TIMEOUT_MS - 1);
    w.send(bob, create("m1", "k"));
    assert_eq!(code(&w.one(bob)), "unavailable");
    w.advance(1);
    w.stats();
    for conn in [alice, bob] {
        assert_eq!(
            w.one(conn),
            json!({ "type": "channel-change", "channel": "plain" })
        );
    }
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
    // It was executed after all, and is not told by its answer any more.
    let (_, answer) = w.look();
    w.answered(ask, answer);
    assert_eq!(w.messages(bob), NOTHING);
    w.slow = false;
    assert_eq!(ids(&w.subscribe(bob, "plain")), ["k"]);
    assert!(w.now > since);
    let repeat = w.create(alice, "m1", "plain", json!({ "id": "k" }));
    assert_eq!(
        (&repeat["replayed"], w.home.writes),
        (&json!(true), 2),
        "the source knows it"
    );
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
}

#[test]
fn a_write_that_nobody_waits_for_is_given_up_by_the_alarm() {
    let mut w = World::elsewhere();
    let nobody = w.nobody();
    w.slow = true;
    let others = w.alarm;
    let message = json!({
        "type": "mutate", "id": "m1", "channel": "open", "action": "create", "data": { "id": "k" }
    });
    w.send(nobody, message);
    assert_eq!(
        w.alarm, others,
        "a host tells when a source is late: nothing is set for it"
    );
    let ask = w.questions[0].id;
    w.late(ask);
    let due = w.alarm.unwrap();
    let (least, most) = (limits::SOURCE_NEVER_MS, 2 * limits::SOURCE_NEVER_MS);
    assert!((w.now.plus(least)..=w.now.plus(most)).contains(&due));
    w.now = due;
    assert!(w.ring());
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
    assert_eq!(
        w.sqlite
            .number("SELECT outside FROM channels WHERE name = 'open'"),
        1
    );
}

#[test]
fn a_repeated_delete_does_not_take_away_what_came_after_it() {
    let mut w = World::elsewhere();
    w.put("plain", json!({ "id": "k" }));
    let (alice, bob) = (w.live("alice", "plain"), w.live("bob", "plain"));
    w.slow = true;
    let delete = json!({
        "type": "mutate", "id": "m1", "channel": "plain", "action": "delete", "key": "k"
    });
    w.send(alice, delete.clone());
    let _ = w.look();
    w.sleep();
    assert_eq!(w.closed(alice), Some(4000), "she waited for an answer");
    w.slow = false;
    w.stats();
    assert_eq!(w.one(bob)["type"], "channel-change");
    w.create(bob, "m2", "plain", json!({ "id": "k", "text": "again" }));
    let alice = w.user("alice");
    let ack = w.ask(alice, delete);
    assert_eq!(
        (&ack["type"], &ack["replayed"]),
        (&json!("ack"), &json!(true))
    );
    let snapshot = w.subscribe(alice, "plain");
    assert_eq!(snapshot["data"], json!([{ "id": "k", "text": "again" }]));
    let rows = "SELECT count(*) FROM rows WHERE data IS NOT NULL";
    assert_eq!(w.sqlite.number(rows), 1);
}

#[test]
fn after_a_crash_everyone_asks_for_what_nobody_was_told() {
    let mut w = World::elsewhere();
    let (alice, bob, carol) = (
        w.user("alice"),
        w.live("bob", "plain"),
        w.live("carol", "gifts"),
    );
    let before = w.subscribe(bob, "plain");
    let ends = w.now.plus(1_000);
    let dan = w.connect_until(Some("dan"), &[], Some(ends)).unwrap();
    w.hello(dan);
    w.subscribe(dan, "plain");
    w.slow = true;
    w.send(alice, create("m1", "k"));
    let _ = w.look();
    w.sleep();
    w.slow = false;
    assert_eq!((w.closed(alice), w.closed(bob)), (Some(4000), None));
    w.now = ends;
    w.stats();
    assert_eq!((w.closed(dan), w.messages(dan)), (Some(4001), vec![]));
    assert_eq!(
        w.one(bob),
        json!({ "type": "channel-change", "channel": "plain" })
    );
    assert_eq!(
        w.messages(carol),
        NOTHING,
        "of a channel that nobody wrote to"
    );
    assert_eq!(
        ids(&w.resume(bob, "plain", &before["cursor"], &before["view"])),
        ["k"]
    );
    let alice = w.user("alice");
    let ack = w.create(alice, "m1", "plain", json!({ "id": "k" }));
    assert_eq!(
        (&ack["replayed"], &ack["data"]),
        (&json!(true), &json!({ "id": "k" }))
    );
    assert_eq!(w.home.writes, 2, "the source was asked, and knew it");
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
}

#[test]
fn a_write_that_was_not_executed_before_a_crash_is_executed_by_its_repeat() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
    w.slow = true;
    w.send(alice, create("m1", "k"));
    w.sleep();
    w.slow = false;
    let alice = w.user("alice");
    assert_eq!(w.messages(bob).len(), 1);
    w.subscribe(bob, "plain");
    assert_eq!(
        w.create(alice, "m1", "plain", json!({ "id": "k" }))["replayed"],
        false
    );
    assert_eq!(gist(&w.messages(bob)), ["create k"]);
}

#[test]
fn a_crash_at_any_effect_loses_nothing_and_executes_nothing_twice() {
    let keys = |snapshot: &Value| {
        let mut keys: Vec<String> = ids(snapshot).into_iter().map(str::to_owned).collect();
        keys.sort_unstable();
        keys
    };
    for effect in 0.. {
        let mut w = World::elsewhere();
        let (alice, bob) = (w.live("alice", "plain"), w.user("bob"));
        let mut place = w.subscribe(bob, "plain");
        w.crash_after = Some(effect);
        w.send(alice, json!([create("m1", "k"), create("m2", "l")]));
        let crashed = w.crashes == 1;
        w.crash_after = None;
        let alice = w.user("alice");
        for (id, key) in [("m1", "k"), ("m2", "l")] {
            assert_eq!(
                w.create(alice, id, "plain", json!({ "id": key }))["type"],
                "ack"
            );
        }
        // Bob was closed, or is live or told to ask: whatever it is, in the end he has both.
        let bob = w.user("bob");
        let mut seen = Vec::new();
        loop {
            place = w.resume(bob, "plain", &place["cursor"], &place["view"]);
            seen.extend(keys(&place));
            if place["more"] == false {
                break;
            }
        }
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(
            (seen, w.home.done.len()),
            (vec!["k".to_owned(), "l".to_owned()], 2),
            "{effect}"
        );
        if !crashed {
            assert!(effect > 6);
            break;
        }
    }
}

#[test]
fn where_storage_fails_before_the_question_the_source_is_not_asked() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.live("alice", "plain"), w.user("bob"));
    w.slow = true;
    w.send(bob, create("m0", "other"));
    for statements in 0.. {
        w.sqlite.fail_after(statements);
        w.send(alice, create("m1", "k"));
        if w.sqlite.spared() {
            assert!(statements > 0);
            break;
        }
        assert_eq!(code(&w.one(alice)), "unavailable", "{statements}");
        assert_eq!(w.questions.len(), 1);
    }
    w.settle();
    let told = w.messages(alice);
    assert_eq!(
        (&told[0]["type"], &told[1]["type"]),
        (&json!("change"), &json!("ack"))
    );
    assert_eq!(w.home.writes, 2);
}

#[test]
fn where_storage_fails_after_the_answer_everyone_asks_again() {
    for statements in 0.. {
        let mut w = World::elsewhere();
        let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
        w.slow = true;
        w.send(alice, create("m1", "k"));
        let (ask, answer) = w.look();
        w.sqlite.fail_after(statements);
        w.answered(ask, answer);
        if w.sqlite.spared() {
            assert!(statements > 2);
            break;
        }
        assert_eq!(code(&w.one(alice)), "unavailable", "{statements}");
        assert_eq!(w.one(bob)["type"], "channel-change", "{statements}");
        w.slow = false;
        assert_eq!(ids(&w.subscribe(bob, "plain")), ["k"]);
        assert_eq!(
            w.create(alice, "m1", "plain", json!({ "id": "k" }))["replayed"],
            true
        );
        assert_eq!(gist(&w.messages(bob)), ["create k"]);
    }
}

#[test]
fn what_waits_behind_a_question_that_is_late_goes_on() {
    let mut w = World::elsewhere();
    let alice = w.user("alice");
    w.slow = true;
    w.send(
        alice,
        json!({ "type": "subscribe", "id": "s", "channel": "plain" }),
    );
    w.send(alice, json!([create("m1", "k"), create("m2", "l")]));
    let ask = w.questions.remove(0).id;
    w.late(ask);
    assert_eq!(code(&w.one(alice)), "unavailable");
    let ask = w.questions[0].id;
    w.late(ask);
    assert_eq!(w.one(alice)["id"], "m1");
    w.settle();
    assert_eq!((&w.one(alice)["id"], w.home.writes), (&json!("m2"), 2));
}

#[test]
fn so_many_questions_are_under_way_and_no_more() {
    let mut w = World::elsewhere();
    // Its pages are known to be small.
    w.live("first", "plain");
    w.slow = true;
    let conns: Vec<ConnId> = (0..=limits::QUESTIONS)
        .map(|user| w.user(&format!("u{user}")))
        .collect();
    for conn in &conns {
        w.send(
            *conn,
            json!({ "type": "subscribe", "id": "s", "channel": "plain" }),
        );
    }
    let (last, rest) = conns.split_last().unwrap();
    let refusal = w.one(*last);
    assert_eq!(code(&refusal), "unavailable");
    assert_eq!(refusal["error"]["retryAfterMs"], limits::QUESTIONS_RETRY_MS);
    assert_eq!(w.questions.len(), limits::QUESTIONS);
    w.send(*last, create("m1", "k"));
    assert_eq!(code(&w.one(*last)), "unavailable");
    assert_eq!(w.page(&reads("reader", "plain")).0, 503);
    let message = json!({ "type": "subscribe", "id": "s", "channel": "here" });
    assert_eq!(w.ask(*last, message)["type"], "snapshot");
    // Whoever goes makes room.
    w.drop(rest[0]);
    w.send(*last, create("m1", "k"));
    assert_eq!(
        (w.messages(*last), w.questions.len()),
        (vec![], limits::QUESTIONS + 1)
    );
}
