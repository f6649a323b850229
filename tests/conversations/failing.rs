//! Storage that fails in mid-turn: nothing of the turn remains, and the next try works.

use serde_json::{Value, json};
use tidewire::{Call, Input, Publisher};

use super::world::sqlite::Sqlite;
use super::world::{BEGIN, World, channels, config, open};
use super::{NOTHING, code, gist, ids, seq};

const DAY: u64 = 24 * 60 * 60 * 1000;

/// Plays a story over and over, in which one turn fails one statement later each time, until it
/// has none left to fail. `play` is given how many succeed, and says whether the turn was spared.
/// Returns how many statements failed.
fn fail_each_statement(play: impl Fn(u32) -> bool) -> u32 {
    (0..100)
        .find(|statements| play(*statements))
        .expect("every turn ends")
}

/// Whether the turn just played was spared its failure; one that was not is logged, once.
fn spared(w: &World, refused: bool) -> bool {
    let spared = w.sqlite.spared();
    assert_eq!(
        refused, !spared,
        "a turn that failed is refused, and no other"
    );
    assert_eq!(w.faults.len(), usize::from(refused));
    spared
}

/// Fails a mutation of `notes/k`, which alice shares with bob, at each of its statements.
fn fail_mutation(wait: u64, data: Value, bob_hears: &str) -> u32 {
    fail_each_statement(|statements| {
        let mut w = World::new();
        let alice = w
            .connect_until(Some("alice"), &[], Some(w.now.plus(9 * DAY)))
            .unwrap();
        w.hello(alice);
        let bob = w
            .connect_until(Some("bob"), &[], Some(w.now.plus(9 * DAY)))
            .unwrap();
        w.hello(bob);
        w.subscribe(bob, "notes");
        w.create(
            alice,
            "m1",
            "notes",
            json!({ "id": "k", "ownerId": ["alice", "bob"] }),
        );
        w.messages(bob);
        w.advance(wait);
        w.sqlite.fail_after(statements);
        let answer = w.update(alice, "m2", "notes", data.clone());
        let spared = spared(&w, answer["type"] == "reject");
        if !spared {
            assert_eq!(code(&answer), "unavailable");
            assert!(
                !answer.to_string().contains("disk"),
                "what SQLite says stays here"
            );
            assert_eq!(w.messages(bob), NOTHING);
            assert_eq!(w.stats()["seq"], 1);
            w.sleep();
            let before = w.subscribe(alice, "notes");
            let row = json!({ "id": "k", "ownerId": ["alice", "bob"] });
            assert_eq!((&before["data"], seq(&before)), (&json!([row]), 1));
            let retried = w.update(alice, "m2", "notes", data.clone());
            assert_eq!((&retried["replayed"], seq(&retried)), (&json!(false), 2));
        }
        assert_eq!(gist(&w.messages(bob)), [bob_hears]);
        assert_eq!(
            w.update(alice, "m2", "notes", data.clone())["replayed"],
            true
        );
        let first = w.create(
            alice,
            "m1",
            "notes",
            json!({ "id": "k", "ownerId": ["alice", "bob"] }),
        );
        assert_eq!(first["replayed"], true, "what was known stays known");
        spared
    })
}

#[test]
fn a_mutation_fails_whole_at_any_statement() {
    let failed = fail_mutation(0, json!({ "id": "k", "n": 1 }), "update k");
    assert!(failed >= 5, "two reads, two writes, a commit; {failed}");
}

#[test]
fn a_mutation_that_narrows_fails_whole_at_any_statement() {
    let failed = fail_mutation(0, json!({ "id": "k", "ownerId": "alice" }), "delete k");
    assert!(failed >= 6, "and a read of the floor; {failed}");
}

#[test]
fn a_mutation_that_turns_the_day_fails_whole_at_any_statement() {
    let failed = fail_mutation(DAY, json!({ "id": "k", "n": 1 }), "update k");
    assert!(failed >= 8, "and the turning of a table; {failed}");
}

/// Fails a publish at each of its statements.
fn fail_publish(call: Call, body: &Value, key: Option<&str>, heard: &[&str]) -> u32 {
    let body = body.to_string();
    fail_each_statement(|statements| {
        let mut w = World::new();
        let bob = w.live("bob", "todos");
        w.broadcast(json!({ "channel": "todos", "action": "create", "key": "old", "data": {} }));
        w.messages(bob);
        w.sqlite.fail_after(statements);
        let (status, answer) = w.publish(call, &body, key);
        let spared = spared(&w, status != 200);
        if !spared {
            assert_eq!((status, code(&answer)), (503, "unavailable"));
            assert!(!answer.to_string().contains("disk"));
            assert_eq!(w.messages(bob), NOTHING);
            assert_eq!(w.stats()["seq"], 1);
            w.sleep();
            let before = w.subscribe(bob, "todos");
            assert_eq!((ids(&before), seq(&before)), (vec!["old"], 1));
            let (status, retried) = w.publish(call, &body, key);
            assert_eq!((status, &retried["seq"]), (200, &json!(heard.len() + 1)));
        }
        let mut gists = Vec::new();
        for message in w.messages(bob) {
            match message["changes"].as_array() {
                Some(changes) => gists.extend(gist(changes)),
                None => gists.extend(gist(&[message])),
            }
        }
        assert_eq!(gists, heard);
        spared
    })
}

#[test]
fn a_publish_fails_whole_at_any_statement() {
    let change = json!({ "channel": "todos", "action": "create", "key": "k", "data": {} });
    let plain = fail_publish(Call::Broadcast, &change, None, &["create k"]);
    let keyed = fail_publish(Call::Broadcast, &change, Some("i"), &["create k"]);
    // One statement is whole by itself; with the key come a look, an outcome and the end of a transaction.
    assert_eq!((plain, keyed), (1, 4));
    let update = json!({ "channel": "todos", "action": "update", "key": "old", "data": {} });
    let updated = fail_publish(Call::Broadcast, &update, None, &["update old"]);
    assert_eq!(updated, 2, "a look, and one statement");
    let delete = json!({ "channel": "todos", "action": "delete", "key": "old" });
    let deleted = fail_publish(Call::Broadcast, &delete, None, &["delete old"]);
    assert_eq!(deleted, 3, "in a transaction: it may write when to sweep");
}

#[test]
fn a_batch_fails_whole_at_any_statement() {
    let batch = json!({ "channel": "todos", "changes": [
        { "action": "create", "key": "a", "data": {} },
        { "action": "update", "key": "a", "data": {} },
        { "action": "delete", "key": "a" }
    ]});
    let heard = ["create a", "update a", "delete a"];
    assert!(fail_publish(Call::BroadcastBatch, &batch, Some("i"), &heard) >= 8);
}

#[test]
fn a_subscription_fails_whole_and_leaves_the_old_one() {
    let failed = fail_each_statement(|statements| {
        let mut w = World::new();
        let alice = w.user("alice");
        w.create(alice, "m1", "todos", json!({ "id": "k" }));
        let known = w.subscribe(alice, "todos");
        w.sqlite.fail_after(statements);
        let answer = w.resume(alice, "todos", &known["cursor"], &known["view"]);
        let spared = spared(&w, answer["type"] == "reject");
        if !spared {
            assert_eq!((code(&answer), &answer["id"]), ("unavailable", &json!("r")));
            w.broadcast(json!({ "channel": "todos", "action": "delete", "key": "k" }));
            assert_eq!(gist(&w.messages(alice)), ["delete k"]);
            let again = w.resume(alice, "todos", &known["cursor"], &known["view"]);
            assert_eq!(again["deleted"], json!(["k"]));
        }
        spared
    });
    assert!(failed >= 2, "the floor and the page; {failed}");
}

#[test]
fn what_came_before_a_failure_in_the_same_frame_is_done() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "todos"));
    let create = |id: &str| {
        json!({
            "type": "mutate", "id": id, "channel": "todos", "action": "create",
            "data": { "id": id }
        })
    };
    w.sqlite.fail_after(7);
    w.send(alice, json!([create("a"), create("b"), create("c")]));
    assert!(!w.sqlite.spared());
    let answers = w.messages(alice);
    let types: Vec<&str> = answers
        .iter()
        .map(|m| m["type"].as_str().unwrap())
        .collect();
    assert_eq!(types, ["ack", "reject", "ack"]);
    assert_eq!((seq(&answers[0]), seq(&answers[2])), (1, 2));
    assert_eq!(gist(&w.messages(bob)), ["create a", "create c"]);
}

#[test]
fn a_space_that_could_not_be_made_is_made_the_next_time() {
    let config = config(&channels());
    let failed = fail_each_statement(|statements| {
        let sqlite = Sqlite::new();
        sqlite.fail_after(statements);
        let opened = open(&config, &sqlite, BEGIN).is_ok();
        assert_eq!(opened, sqlite.spared());
        let mut engine = open(&config, &sqlite, BEGIN).unwrap();
        let change = json!({ "channel": "todos", "action": "create", "key": "k", "data": {} });
        let body = change.to_string();
        let publish = Input::Call {
            publisher: &Publisher::Unscoped,
            call: Call::Broadcast,
            body: Ok(body.as_bytes()),
            idempotency_key: Some("i"),
            seed: None,
        };
        let reply = engine.handle(publish, BEGIN).reply.unwrap();
        let result: Value = serde_json::from_str(&reply.body).unwrap();
        assert_eq!(result["cursor"], "hhhhhhhh.1");
        opened
    });
    assert!(
        failed >= 10,
        "tables and what is known of the space; {failed}"
    );
}

#[test]
fn a_space_that_could_not_wake_wakes_the_next_time() {
    let failed = fail_each_statement(|statements| {
        let mut w = World::new();
        let bob = w.live("bob", "todos");
        w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
        w.messages(bob);
        w.sqlite.fail_after(statements);
        let woke = w.try_sleep().is_ok();
        assert_eq!(woke, w.sqlite.spared());
        w.sleep();
        w.broadcast(json!({ "channel": "todos", "action": "delete", "key": "k" }));
        assert_eq!(seq(&w.one(bob)), 2);
        woke
    });
    assert!(failed >= 3, "{failed}");
}

#[test]
fn a_failed_epoch_is_none() {
    let failed = fail_each_statement(|statements| {
        let mut w = World::new();
        let alice = w.live("alice", "todos");
        let before = w.stats()["epoch"].clone();
        w.sqlite.fail_after(statements);
        let (status, _) = w.call(Call::Epoch, json!({}));
        if spared(&w, status == 503) {
            assert_eq!((status, w.closed(alice)), (200, Some(4000)));
            return true;
        }
        assert_eq!((status, w.closed(alice)), (503, None));
        assert_eq!(w.stats()["epoch"], before, "after {statements} statements");
        let ack = w.create(alice, "m", "todos", json!({ "id": "k" }));
        w.sleep();
        let bob = w.user("bob");
        let view = w.subscribe(bob, "todos")["view"].clone();
        // What the object gave out before it slept is of the log that it finds on waking.
        let page = w.resume(bob, "todos", &ack["cursor"], &view);
        assert_eq!(page["mode"], "delta");
        false
    });
    assert_eq!(failed, 3, "the epoch, its time, and the commit");
}
