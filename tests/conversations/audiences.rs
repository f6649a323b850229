//! Audiences: who sees a row when it moves, live and on the next page.

use serde_json::{Value, json};
use tidewire::ConnId;

use super::world::World;
use super::{NOTHING, blame, code, gist, ids};

/// Publishes a row of `todos` for `to`, where it says for whom.
#[track_caller]
pub(super) fn publish(w: &mut World, action: &str, key: &str, data: Value, to: &[&str]) {
    let mut change = json!({ "channel": "todos", "action": action, "key": key, "data": data });
    if !to.is_empty() {
        change["to"] = json!(to);
    }
    assert_eq!(w.broadcast(change).0, 200);
}

/// What a connection heard: actions and keys.
fn heard(w: &mut World, conn: ConnId) -> Vec<String> {
    gist(&w.messages(conn))
}

#[test]
fn a_field_scopes_a_row_to_those_it_names() {
    let mut w = World::new();
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| w.live(user, "notes"));
    w.create(
        alice,
        "m1",
        "notes",
        json!({ "id": "own", "ownerId": "alice" }),
    );
    w.create(
        alice,
        "m2",
        "notes",
        json!({ "id": "shared", "ownerId": ["bob", "alice"] }),
    );
    assert_eq!(heard(&mut w, bob), ["create shared"]);
    assert_eq!(heard(&mut w, carol), NOTHING);
    assert_eq!(ids(&w.subscribe(alice, "notes")), ["own", "shared"]);
    assert_eq!(ids(&w.subscribe(bob, "notes")), ["shared"]);
    assert_eq!(ids(&w.subscribe(carol, "notes")), NOTHING);
}

#[test]
fn a_prefix_makes_other_topics_of_a_field() {
    let mut w = World::new();
    let (ann, ben) = (w.member("ann", &["team:7"]), w.member("ben", &["team:8"]));
    let seven = w.user("7");
    for conn in [ann, ben, seven] {
        w.subscribe(conn, "team:x");
    }
    w.create(ann, "m", "team:x", json!({ "id": "k", "team": "7" }));
    assert_eq!(
        (heard(&mut w, ben).len(), heard(&mut w, seven).len()),
        (0, 0)
    );
    assert_eq!(ids(&w.subscribe(ann, "team:x")), ["k"]);
}

#[test]
fn a_row_without_its_scoping_field_is_refused() {
    let mut w = World::new();
    let alice = w.user("alice");
    assert_eq!(
        blame(&w.create(alice, "m1", "notes", json!({ "id": "k" }))),
        ("invalid", "ownerId")
    );
    for value in [
        json!(null),
        json!(7),
        json!(""),
        json!([]),
        json!(["alice", 7]),
    ] {
        let row = json!({ "id": "k", "ownerId": value });
        assert_eq!(
            blame(&w.create(alice, "m2", "notes", row)),
            ("invalid", "ownerId")
        );
    }
    w.create(
        alice,
        "m3",
        "notes",
        json!({ "id": "k", "ownerId": "alice" }),
    );
    let emptied = w.update(alice, "m4", "notes", json!({ "id": "k", "ownerId": null }));
    assert_eq!(blame(&emptied), ("invalid", "ownerId"));
}

#[test]
fn a_writer_must_be_in_the_audience_before_and_after() {
    let mut w = World::new();
    let (alice, bob) = (w.user("alice"), w.live("bob", "notes"));
    let for_bob = json!({ "id": "k", "ownerId": "bob" });
    assert_eq!(
        code(&w.create(alice, "m1", "notes", for_bob.clone())),
        "forbidden"
    );
    w.create(
        alice,
        "m2",
        "notes",
        json!({ "id": "k", "ownerId": "alice" }),
    );
    assert_eq!(
        code(&w.update(alice, "m3", "notes", for_bob.clone())),
        "forbidden"
    );
    assert_eq!(code(&w.create(alice, "m4", "notes", for_bob)), "forbidden");
    assert_eq!(heard(&mut w, bob), NOTHING);
    assert_eq!(
        code(&w.update(bob, "m5", "notes", json!({ "id": "k" }))),
        "not_found"
    );
    assert_eq!(code(&w.delete(bob, "m6", "notes", "k")), "not_found");
    let snatched = json!({ "id": "k", "ownerId": ["bob", "alice"] });
    assert_eq!(code(&w.update(bob, "m7", "notes", snatched)), "not_found");
}

#[test]
fn every_write_sets_the_audience_anew_from_the_merged_row() {
    let mut w = World::new();
    let [alice, tablet, bob, carol] =
        ["alice", "alice", "bob", "carol"].map(|user| w.live(user, "notes"));
    w.create(
        alice,
        "m1",
        "notes",
        json!({ "id": "k", "ownerId": ["alice", "bob"], "t": 1 }),
    );
    assert_eq!(heard(&mut w, bob), ["create k"]);
    w.messages(tablet);
    w.update(
        alice,
        "m2",
        "notes",
        json!({ "id": "k", "ownerId": ["alice", "carol"] }),
    );
    assert_eq!(heard(&mut w, tablet), ["update k"]);
    let lost = w.one(bob);
    assert_eq!(gist(std::slice::from_ref(&lost)), ["delete k"]);
    assert_eq!((&lost["data"], &lost["by"]), (&Value::Null, &Value::Null));
    let gained = w.one(carol);
    assert_eq!(gist(std::slice::from_ref(&gained)), ["create k"]);
    assert_eq!(
        gained["data"],
        json!({ "id": "k", "ownerId": ["alice", "carol"], "t": 1 })
    );
    w.update(alice, "m3", "notes", json!({ "id": "k", "t": 2 }));
    assert_eq!(
        (heard(&mut w, bob).len(), heard(&mut w, carol).len()),
        (0, 1)
    );
}

#[test]
fn without_a_scoping_field_a_row_keeps_its_audience() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "todos"));
    publish(&mut w, "create", "k", json!({}), &["user:alice"]);
    w.messages(alice);
    assert_eq!(
        w.update(alice, "m1", "todos", json!({ "id": "k", "n": 1 }))["type"],
        "ack"
    );
    assert_eq!(
        w.create(alice, "m2", "todos", json!({ "id": "k", "n": 2 }))["type"],
        "ack"
    );
    assert_eq!(w.delete(alice, "m3", "todos", "k")["type"], "ack");
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn a_writer_who_writes_a_row_away_gets_no_row_and_then_its_delete() {
    let mut w = World::new();
    let [alice, tablet, bob] = ["alice", "alice", "bob"].map(|user| w.live(user, "gifts"));
    let not_live = w.user("alice");
    w.create(alice, "m1", "gifts", json!({ "id": "k", "for": "alice" }));
    assert_eq!(heard(&mut w, tablet), ["create k"]);
    let given = json!({
        "type": "mutate", "id": "m2", "channel": "gifts", "action": "update",
        "data": { "id": "k", "for": "bob" }
    });
    w.send(alice, given);
    let answers = w.messages(alice);
    assert_eq!(
        (&answers[0]["type"], &answers[0]["data"]),
        (&json!("ack"), &Value::Null)
    );
    assert_eq!(gist(&answers[1..]), ["delete k"]);
    assert_eq!(answers[0]["cursor"], answers[1]["cursor"]);
    assert_eq!(heard(&mut w, tablet), ["delete k"]);
    assert_eq!(heard(&mut w, bob), ["create k"]);
    let sent = w.create(not_live, "m3", "gifts", json!({ "id": "j", "for": "bob" }));
    assert_eq!(sent["data"], Value::Null);
    assert_eq!(heard(&mut w, bob), ["create j"]);
    assert_eq!(heard(&mut w, alice), NOTHING);
}

#[test]
fn move_in_is_a_create_and_move_out_a_delete_and_nobody_else_learns_anything() {
    let mut w = World::new();
    let [alice, bob, carol, dave] =
        ["alice", "bob", "carol", "dave"].map(|user| w.live(user, "todos"));
    publish(
        &mut w,
        "create",
        "k",
        json!({ "n": 1 }),
        &["user:alice", "user:bob"],
    );
    assert_eq!(
        (heard(&mut w, alice).len(), heard(&mut w, bob).len()),
        (1, 1)
    );
    publish(
        &mut w,
        "update",
        "k",
        json!({ "n": 2 }),
        &["user:bob", "user:carol"],
    );
    assert_eq!(heard(&mut w, alice), ["delete k"]);
    assert_eq!(heard(&mut w, bob), ["update k"]);
    let gained = w.one(carol);
    assert_eq!(
        (&gained["action"], &gained["data"]),
        (&json!("create"), &json!({ "id": "k", "n": 2 }))
    );
    publish(&mut w, "delete", "k", Value::Null, &["user:dave"]);
    assert_eq!(heard(&mut w, alice), NOTHING);
    assert_eq!(heard(&mut w, bob), ["delete k"]);
    assert_eq!(heard(&mut w, carol), ["delete k"]);
    assert_eq!(heard(&mut w, dave), NOTHING);
}

#[test]
fn a_row_for_all_can_be_narrowed_and_opened_again() {
    let mut w = World::new();
    let [alice, bob] = ["alice", "bob"].map(|user| w.live(user, "todos"));
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
    w.messages(alice);
    w.messages(bob);
    publish(&mut w, "update", "k", json!({}), &["user:alice"]);
    assert_eq!(
        (heard(&mut w, alice), heard(&mut w, bob)),
        (vec!["update k".into()], vec!["delete k".into()])
    );
    w.broadcast(json!({
        "channel": "todos", "action": "update", "key": "k", "data": {}, "to": "all"
    }));
    assert_eq!(
        (heard(&mut w, alice), heard(&mut w, bob)),
        (vec!["update k".into()], vec!["create k".into()])
    );
}

#[test]
fn whoever_holds_two_topics_of_a_row_keeps_it_with_one() {
    let mut w = World::new();
    let both = w.member("alice", &["a", "b"]);
    w.subscribe(both, "todos");
    publish(&mut w, "create", "k", json!({}), &["a", "b"]);
    assert_eq!(
        heard(&mut w, both),
        ["create k"],
        "once, not once per topic"
    );
    publish(&mut w, "update", "k", json!({}), &["b"]);
    assert_eq!(heard(&mut w, both), ["update k"]);
    let copy = w.subscribe(both, "todos");
    w.drop(both);
    publish(&mut w, "update", "k", json!({}), &["a"]);
    let both = w.member("alice", &["a", "b"]);
    let delta = w.resume(both, "todos", &copy["cursor"], &copy["view"]);
    assert_eq!((ids(&delta), &delta["deleted"]), (vec!["k"], &json!([])));
}
