//! What the model test of rows elsewhere found, each as small as it gets.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::source::Failed;
use tidewire::{Call, ConnId, limits};

use super::world::World;
use super::world::readers::reads;
use super::{NOTHING, gist, ids};

fn update(id: &str, rest: &Value) -> Value {
    let mut data = json!({ "id": "k" });
    data.as_object_mut()
        .unwrap()
        .extend(rest.as_object().unwrap().clone());
    json!({
        "type": "mutate", "id": id, "channel": "plain", "action": "update", "key": "k", "data": data
    })
}

/// What a client has of `plain` that asks again from where it is.
fn again(w: &mut World, conn: ConnId, cursor: &Value, view: &Value) -> Value {
    w.slow = false;
    let page = w.resume(conn, "plain", cursor, view);
    page["data"].clone()
}

/// Whether messages end with the word to ask again.
fn is_told(messages: &[Value]) -> bool {
    messages
        .last()
        .is_some_and(|message| message["type"] == "channel-change")
}

#[test]
fn what_the_app_writes_beside_a_mutation_is_asked_for_once_that_is_answered() {
    for publishes in [true, false] {
        let mut w = World::elsewhere();
        w.put("plain", json!({ "id": "k", "by": "nobody" }));
        let (alice, bob) = (w.user("alice"), w.user("bob"));
        let view = w.subscribe(bob, "plain")["view"].clone();
        w.slow = true;
        w.send(alice, update("m1", &json!({ "by": "alice" })));
        // The home has written hers, then the app's; the log hears of the app's first.
        let (ask, answer) = w.look();
        let row = json!({ "id": "k", "by": "app" });
        w.put("plain", row.clone());
        let mut cursor = match publishes {
            true => {
                let body = json!({
                    "channel": "plain", "action": "update", "key": "k", "data": row
                });
                assert_eq!(w.broadcast(body).0, 200);
                w.one(bob)["cursor"].clone()
            }
            false => {
                w.call(Call::BroadcastChange, json!({ "channel": "plain" }));
                assert!(is_told(&w.messages(bob)));
                w.slow = false;
                let page = w.subscribe(bob, "plain");
                assert_eq!(page["data"], json!([row]));
                w.slow = true;
                page["cursor"].clone()
            }
        };
        w.answered(ask, answer);
        let told = w.messages(bob);
        assert_eq!(told[0]["data"]["by"], "alice");
        assert!(is_told(&told), "nobody knows which is newer");
        cursor = told[0].get("cursor").cloned().unwrap_or(cursor);
        let mut page = again(&mut w, bob, &cursor, &view);
        if page == json!([]) {
            page = w.home.all("plain").into();
        }
        assert_eq!(page, json!([row]), "published: {publishes}");
    }
}

#[test]
fn a_mutation_beside_nothing_makes_nobody_ask() {
    let mut w = World::elsewhere();
    w.put("plain", json!({ "id": "k" }));
    w.call(Call::BroadcastChange, json!({ "channel": "plain" }));
    let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
    w.slow = true;
    // The second waits for the first, and what that has written is no surprise to it.
    w.send(alice, update("m1", &json!({ "n": 1 })));
    w.send(alice, update("m2", &json!({ "n": 2 })));
    w.settle();
    assert_eq!(gist(&w.messages(bob)), ["update k", "update k"]);
}

#[test]
fn live_clients_are_not_carried_past_a_row_of_which_nobody_knows_who_may_see_it() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let page = w.subscribe(bob, "plain");
    w.home.scope_fails = true;
    w.create(alice, "m1", "plain", json!({ "id": "k" }));
    w.home.scope_fails = false;
    let told = w.messages(bob);
    assert!(is_told(&told) && told.len() == 1, "not a word of the row");
    w.create(alice, "m2", "plain", json!({ "id": "l" }));
    assert_eq!(w.messages(bob), NOTHING, "it would carry him past k");
    let page = w.resume(bob, "plain", &page["cursor"], &page["view"]);
    assert_eq!(ids(&page), ["l"], "what the log has comes first");
    let page = w.resume(bob, "plain", &page["cursor"], &page["view"]);
    assert_eq!(ids(&page), ["k", "l"]);
}

#[test]
fn once_a_channel_has_changed_outside_whoever_may_have_a_row_is_told_that_it_goes() {
    let mut w = World::elsewhere();
    let (alice, bob, carol) = (w.user("alice"), w.user("bob"), w.user("carol"));
    let row = json!({ "id": "k", "for": ["alice", "bob"] });
    w.create(alice, "m1", "gifts", row);
    let his = w.subscribe(bob, "gifts");
    assert_eq!(ids(&his), ["k"]);
    w.put("gifts", json!({ "id": "k", "for": ["alice", "carol"] }));
    w.call(Call::BroadcastChange, json!({ "channel": "gifts" }));
    let hers = w.subscribe(carol, "gifts");
    assert_eq!(ids(&hers), ["k"]);
    w.delete(alice, "m2", "gifts", "k");
    assert_eq!(gist(&w.messages(carol)), ["delete k"]);
    // And whoever was away: she with the row as its home had it, he as the log has it.
    for (user, page) in [("carol", hers), ("bob", his)] {
        let away = w.user(user);
        let page = w.resume(away, "gifts", &page["cursor"], &page["view"]);
        assert_eq!(page["deleted"], json!(["k"]), "{user}");
    }
}

#[test]
fn what_storage_could_not_note_is_noted_with_the_next_input() {
    let failed = Failed {
        problem: Problem::new(Code::Unavailable, "lost"),
        may_be_done: true,
    };
    for statements in 0..4 {
        let mut w = World::elsewhere();
        let (alice, bob) = (w.user("alice"), w.user("bob"));
        let page = w.subscribe(bob, "plain");
        w.put("plain", json!({ "id": "k" }));
        w.slow = true;
        w.send(alice, update("m1", &json!({ "n": 1 })));
        let (ask, _) = w.look();
        w.sqlite.fail_after(statements);
        w.answered(ask, Err(failed.clone()));
        w.sqlite.spared();
        w.stats();
        assert!(is_told(&w.messages(bob)), "after {statements} statements");
        let rows = again(&mut w, bob, &page["cursor"], &page["view"]);
        assert_eq!(rows, json!([{ "id": "k", "n": 1 }]));
        assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
    }
}

#[test]
fn a_stream_that_goes_in_the_turn_in_which_its_channel_changes_is_not_taken_for_a_socket() {
    for leaves in [true, false] {
        let mut w = World::elsewhere();
        let alice = w.user("alice");
        let stream = w.stream(&reads("bob", "plain"));
        w.slow = true;
        w.send(alice, update("m1", &json!({})));
        w.advance(limits::SOURCE_NEVER_MS);
        // The write is given up first, of which the stream is to be told.
        match leaves {
            true => w.break_off(stream),
            false => assert_eq!(w.call(Call::Epoch, json!({})).0, 200),
        }
        assert!(w.reader_ended(stream));
    }
}

#[test]
fn who_is_live_again_by_itself_is_not_told_of_what_it_knows() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.live("bob", "plain"));
    let waits = w.live("carol", "plain");
    w.home.scope_fails = true;
    for id in ["m1", "m2"] {
        w.create(alice, id, "plain", json!({ "id": id }));
        // The second notice waits until some time after the first.
        for conn in [bob, waits] {
            assert_eq!(is_told(&w.messages(conn)), id == "m1");
        }
        w.subscribe(bob, "plain");
        if id == "m1" {
            w.subscribe(waits, "plain");
        }
    }
    w.advance(limits::NOTICE_PAUSE_MS);
    w.stats();
    assert_eq!(w.messages(bob), NOTHING);
    assert!(is_told(&w.messages(waits)));
}

#[test]
fn a_write_that_was_under_way_is_told_of_however_often_the_memory_is_lost() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let page = w.subscribe(bob, "plain");
    w.slow = true;
    w.send(alice, update("m1", &json!({})));
    w.put("plain", json!({ "id": "k" }));
    w.sleep();
    w.sleep();
    w.stats();
    assert!(is_told(&w.messages(bob)));
    let rows = again(&mut w, bob, &page["cursor"], &page["view"]);
    assert_eq!(rows, json!([{ "id": "k" }]));
    assert_eq!(w.sqlite.number("SELECT count(*) FROM claims"), 0);
    w.sleep();
    w.stats();
    assert_eq!(w.messages(bob), NOTHING);
}
