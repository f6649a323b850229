//! What whoever was away learns of rows that have moved meanwhile.

use serde_json::{Value, json};

use super::audiences::publish;
use super::ids;
use super::replica::Replica;
use super::world::World;

/// A user's copy of `todos`, taken now; the user leaves.
fn leave(w: &mut World, user: &str) -> Replica {
    let mut copy = Replica::of("todos");
    let conn = w.user(user);
    copy.catch_up(w, conn, 500);
    w.drop(conn);
    copy
}

/// What the user's next answer holds: ids of rows, then deleted keys.
fn news(w: &mut World, user: &str, copy: &Replica) -> (Vec<String>, Value) {
    w.sleep();
    let conn = w.user(user);
    let delta = w.resume(conn, "todos", &copy.cursor, &copy.view);
    assert_eq!(delta["mode"], "delta");
    w.drop(conn);
    let ids = ids(&delta).into_iter().map(str::to_owned).collect();
    (ids, delta["deleted"].clone())
}

#[test]
fn whoever_was_away_learns_which_rows_have_left_its_sight_and_which_have_come() {
    let mut w = World::new();
    publish(
        &mut w,
        "create",
        "k",
        json!({}),
        &["user:alice", "user:bob"],
    );
    let [alice, bob, carol, dave] =
        ["alice", "bob", "carol", "dave"].map(|user| leave(&mut w, user));
    publish(
        &mut w,
        "update",
        "k",
        json!({}),
        &["user:bob", "user:carol"],
    );
    publish(
        &mut w,
        "update",
        "k",
        json!({}),
        &["user:bob", "user:carol"],
    );
    assert_eq!(news(&mut w, "alice", &alice), (vec![], json!(["k"])));
    assert_eq!(news(&mut w, "bob", &bob), (vec!["k".to_owned()], json!([])));
    assert_eq!(
        news(&mut w, "carol", &carol),
        (vec!["k".to_owned()], json!([]))
    );
    assert_eq!(news(&mut w, "dave", &dave), (vec![], json!([])));
}

#[test]
fn a_loss_is_told_once_and_only_to_those_who_are_behind_it() {
    let mut w = World::new();
    publish(
        &mut w,
        "create",
        "k",
        json!({}),
        &["user:alice", "user:bob"],
    );
    publish(&mut w, "update", "k", json!({}), &["user:bob"]);
    let alice = leave(&mut w, "alice");
    publish(&mut w, "update", "k", json!({ "n": 1 }), &["user:bob"]);
    assert_eq!(news(&mut w, "alice", &alice), (vec![], json!([])));
}

#[test]
fn a_deleted_row_is_told_to_those_who_could_see_it_last_and_before() {
    let mut w = World::new();
    publish(
        &mut w,
        "create",
        "k",
        json!({}),
        &["user:alice", "user:bob"],
    );
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| leave(&mut w, user));
    publish(&mut w, "update", "k", json!({}), &["user:bob"]);
    publish(&mut w, "delete", "k", Value::Null, &[]);
    for (user, copy) in [("alice", alice), ("bob", bob)] {
        assert_eq!(news(&mut w, user, &copy), (vec![], json!(["k"])), "{user}");
    }
    assert_eq!(news(&mut w, "carol", &carol), (vec![], json!([])));
}

#[test]
fn a_key_born_again_for_others_is_gone_for_those_who_had_it() {
    let mut w = World::new();
    publish(&mut w, "create", "k", json!({}), &["user:alice"]);
    let [alice, bob, carol] = ["alice", "bob", "carol"].map(|user| leave(&mut w, user));
    publish(&mut w, "delete", "k", Value::Null, &[]);
    let later = leave(&mut w, "alice");
    publish(&mut w, "create", "k", json!({}), &["user:bob"]);
    assert_eq!(news(&mut w, "alice", &alice), (vec![], json!(["k"])));
    assert_eq!(
        news(&mut w, "alice", &later),
        (vec![], json!([])),
        "it knew that already"
    );
    assert_eq!(news(&mut w, "bob", &bob), (vec!["k".to_owned()], json!([])));
    assert_eq!(news(&mut w, "carol", &carol), (vec![], json!([])));
}

#[test]
fn a_row_that_left_and_came_back_is_only_a_row() {
    let mut w = World::new();
    publish(&mut w, "create", "k", json!({}), &["user:alice"]);
    let alice = leave(&mut w, "alice");
    publish(&mut w, "update", "k", json!({}), &["user:bob"]);
    publish(&mut w, "update", "k", json!({}), &["user:alice"]);
    assert_eq!(
        news(&mut w, "alice", &alice),
        (vec!["k".to_owned()], json!([]))
    );
}

/// A whole row is written without a look at what it replaces, where that is nothing to anybody.
#[test]
fn a_whole_row_does_not_forget_who_lost_the_one_it_replaces() {
    type Between = &'static [(&'static str, &'static [&'static str])];
    let between: [Between; 3] = [&[], &[("delete", &[])], &[("update", &["user:alice"])]];
    for (steps, batched) in between
        .iter()
        .flat_map(|steps| [(steps, false), (steps, true)])
    {
        let mut w = World::new();
        publish(
            &mut w,
            "create",
            "k",
            json!({}),
            &["user:alice", "user:bob"],
        );
        let [alice, bob] = ["alice", "bob"].map(|user| leave(&mut w, user));
        for (action, to) in *steps {
            let data = if *action == "delete" {
                Value::Null
            } else {
                json!({})
            };
            publish(&mut w, action, "k", data, to);
        }
        match batched {
            false => publish(&mut w, "create", "k", json!({ "n": 2 }), &["user:alice"]),
            true => {
                let change = |key| json!({ "action": "create", "key": key, "data": {}, "to": ["user:alice"] });
                let batch = json!({ "channel": "todos", "changes": [change("j"), change("k")] });
                assert_eq!(w.broadcast_batch(batch).0, 200);
            }
        }
        let (rows, gone) = news(&mut w, "alice", &alice);
        assert!(
            rows.contains(&"k".to_owned()) && gone == json!([]),
            "{steps:?}"
        );
        assert_eq!(
            news(&mut w, "bob", &bob),
            (vec![], json!(["k"])),
            "{steps:?}"
        );
    }
}

#[test]
fn a_row_narrowed_from_all_is_gone_for_everyone_else() {
    let mut w = World::new();
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
    let [alice, bob] = ["alice", "bob"].map(|user| leave(&mut w, user));
    publish(&mut w, "update", "k", json!({}), &["user:alice"]);
    let late = leave(&mut w, "bob");
    publish(&mut w, "update", "k", json!({}), &["user:carol"]);
    assert_eq!(news(&mut w, "alice", &alice), (vec![], json!(["k"])));
    assert_eq!(news(&mut w, "bob", &bob), (vec![], json!(["k"])));
    assert_eq!(news(&mut w, "bob", &late), (vec![], json!([])));
}

#[test]
fn a_copy_ends_the_same_live_and_resumed() {
    let mut w = World::new();
    let users = ["alice", "bob", "carol"];
    let mut live: Vec<_> = users
        .map(|user| (w.user(user), Replica::of("todos")))
        .into();
    for (conn, copy) in &mut live {
        copy.catch_up(&mut w, *conn, 500);
    }
    let mut away = users.map(|user| leave(&mut w, user));
    let audiences: [&[&str]; 4] = [
        &["user:alice"],
        &["user:bob", "user:carol"],
        &["user:carol"],
        &["user:alice", "user:bob"],
    ];
    for step in 0..60u64 {
        let key = format!("k{}", step * 7 % 5);
        let action = ["create", "update", "delete"][(step * step % 11 % 3) as usize];
        publish(
            &mut w,
            action,
            &key,
            json!({ "n": step }),
            audiences[(step * 3 % 7 % 4) as usize],
        );
        for (index, user) in users.iter().enumerate() {
            let (conn, copy) = &mut live[index];
            copy.take(&mut w, *conn);
            if step % (index as u64 + 2) == 0 {
                let back = w.user(user);
                away[index].catch_up(&mut w, back, 2);
                w.drop(back);
                assert_eq!(away[index].rows, copy.rows, "{user} after step {step}");
            }
        }
    }
    assert!(live.iter().any(|(_, copy)| !copy.rows.is_empty()));
}
