//! What a source says and what the log has had since it was asked: the log is newer.

use serde_json::{Value, json};
use tidewire::source::{Answer, Page};
use tidewire::{Call, ConnId, Key};

use super::world::World;
use super::{NOTHING, gist, ids, seq};

fn asks(w: &mut World, conn: ConnId, channel: &str, limit: usize) {
    w.slow = true;
    w.send(
        conn,
        json!({ "type": "subscribe", "id": "s", "channel": channel, "limit": limit }),
    );
    w.slow = false;
}

fn goes_on(w: &mut World, conn: ConnId, page: &Value, limit: usize) -> Value {
    w.ask(
        conn,
        json!({
            "type": "subscribe", "id": "s", "channel": page["channel"], "limit": limit,
            "cursor": page["cursor"], "view": page["view"]
        }),
    )
}

/// Whoever subscribes to a channel with rows `k0` and `k1`, and is answered by what the source held
/// before `meanwhile`.
fn meanwhile(channel: &str, rows: [Value; 2], meanwhile: impl FnOnce(&mut World, ConnId)) -> Value {
    let mut w = World::elsewhere();
    for row in rows {
        w.put(channel, row);
    }
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    asks(&mut w, alice, channel, 500);
    let (ask, answer) = w.look();
    meanwhile(&mut w, bob);
    assert_eq!(w.messages(alice), NOTHING, "not live before it is answered");
    w.answered(ask, answer);
    let snapshot = w.one(alice);
    assert_eq!(
        (&snapshot["mode"], &snapshot["more"]),
        (&json!("full"), &json!(false))
    );
    // And from there on nothing comes twice.
    let before = w.messages(bob).len();
    w.create(
        bob,
        "later",
        channel,
        json!({ "id": "later", "ownerId": "alice" }),
    );
    assert_eq!(
        (gist(&w.messages(alice)), before),
        (vec!["create later".to_owned()], 0)
    );
    snapshot
}

fn two() -> [Value; 2] {
    [json!({ "id": "k0" }), json!({ "id": "k1" })]
}

#[test]
fn what_is_created_between_question_and_answer_is_in_the_answer() {
    let snapshot = meanwhile("plain", two(), |w, bob| {
        w.create(bob, "m1", "plain", json!({ "id": "k2" }));
    });
    assert_eq!(
        (ids(&snapshot), seq(&snapshot)),
        (vec!["k0", "k1", "k2"], 1)
    );
}

#[test]
fn what_is_updated_in_between_is_as_the_log_says() {
    let snapshot = meanwhile("plain", two(), |w, bob| {
        w.update(bob, "m1", "plain", json!({ "id": "k0", "text": "new" }));
    });
    assert_eq!(
        snapshot["data"],
        json!([{ "id": "k1" }, { "id": "k0", "text": "new" }]),
        "once, and new"
    );
}

#[test]
fn what_is_deleted_in_between_is_told_as_deleted() {
    let snapshot = meanwhile("plain", two(), |w, bob| {
        w.delete(bob, "m1", "plain", "k0");
    });
    assert_eq!(
        (ids(&snapshot), &snapshot["deleted"]),
        (vec!["k1"], &json!(["k0"]))
    );
}

#[test]
fn what_a_publisher_tells_in_between_is_newer_too() {
    let snapshot = meanwhile("plain", two(), |w, _| {
        for (action, key) in [("update", "k0"), ("delete", "k1")] {
            let data = json!({ "text": "told" });
            let change = json!({ "channel": "plain", "action": action, "key": key, "data": data });
            assert_eq!(w.broadcast(change).0, 200);
        }
    });
    assert_eq!(
        (&snapshot["data"], &snapshot["deleted"]),
        (&json!([{ "id": "k0", "text": "told" }]), &json!(["k1"]))
    );
}

#[test]
fn what_leaves_a_readers_sight_in_between_is_gone_for_it() {
    let owned = |id: &str| json!({ "id": id, "ownerId": ["alice", "bob"] });
    for by_rule in [false, true] {
        let snapshot = meanwhile("notes", [owned("k0"), owned("k1")], |w, bob| {
            // Whether the source tells who could see it before, or nobody does.
            w.home.by_rule = by_rule;
            let ack = w.update(bob, "m1", "notes", json!({ "id": "k0", "ownerId": "bob" }));
            assert_eq!(ack["type"], "ack");
            w.home.by_rule = false;
        });
        assert_eq!(ids(&snapshot), ["k1"], "by rule: {by_rule}");
        let deleted = if by_rule { json!([]) } else { json!(["k0"]) };
        assert_eq!(snapshot["deleted"], deleted, "by rule: {by_rule}");
    }
}

#[test]
fn what_comes_into_sight_in_between_is_there() {
    let owned = |id: &str| json!({ "id": id, "ownerId": "bob" });
    let snapshot = meanwhile("notes", [owned("k0"), owned("k1")], |w, bob| {
        w.update(
            bob,
            "m1",
            "notes",
            json!({ "id": "k0", "ownerId": ["bob", "alice"] }),
        );
    });
    assert_eq!(
        (ids(&snapshot), &snapshot["deleted"]),
        (vec!["k0"], &json!([]))
    );
}

#[test]
fn changes_between_pages_come_with_the_last_of_them() {
    let mut w = World::elsewhere();
    for row in 0..4 {
        w.put("plain", json!({ "id": format!("k{row}") }));
        w.advance(1_000);
    }
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    asks(&mut w, alice, "plain", 2);
    w.settle();
    let first = w.one(alice);
    assert_eq!(
        (ids(&first), &first["more"]),
        (vec!["k0", "k1"], &json!(true))
    );
    // The home keeps its order: what is deleted or new there does not come up again.
    w.delete(bob, "m1", "plain", "k0");
    let (_, body) = w.broadcast(json!({
        "channel": "plain", "action": "update", "key": "k1", "data": { "text": "new" }
    }));
    assert_eq!(body["receivers"], 0, "nobody is live yet");
    let last = goes_on(&mut w, alice, &first, 3);
    assert_eq!(last["mode"], "delta");
    assert_eq!(
        (&last["data"], &last["deleted"]),
        (&json!([{ "id": "k2" }, { "id": "k3" }]), &json!(["k0"]))
    );
    assert_eq!(last["more"], true, "the page is full");
    let rest = goes_on(&mut w, alice, &last, 3);
    assert_eq!(
        (&rest["data"], &rest["more"]),
        (&json!([{ "id": "k1", "text": "new" }]), &json!(false))
    );
    assert_eq!(w.home.fetches, 2, "the log has the rest");
}

#[test]
fn a_page_that_the_log_fills_goes_on_with_the_log() {
    let mut w = World::elsewhere();
    w.put("plain", json!({ "id": "k0" }));
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    asks(&mut w, alice, "plain", 2);
    let (ask, answer) = w.look();
    for row in 1..5 {
        w.create(
            bob,
            &format!("m{row}"),
            "plain",
            json!({ "id": format!("n{row}") }),
        );
    }
    w.answered(ask, answer);
    let mut page = w.one(alice);
    let mut seen: Vec<String> = ids(&page).into_iter().map(str::to_owned).collect();
    assert_eq!(seen, ["k0", "n1"]);
    while page["more"] == true {
        page = goes_on(&mut w, alice, &page, 2);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
    }
    assert_eq!(seen, ["k0", "n1", "n2", "n3", "n4"]);
    assert_eq!(w.home.fetches, 1);
}

#[test]
fn a_rest_that_was_kept_ends_with_what_the_log_has_had_since() {
    let mut w = World::elsewhere();
    w.home.greedy = true;
    for row in 0..3 {
        w.put("plain", json!({ "id": format!("k{row}") }));
    }
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    asks(&mut w, alice, "plain", 2);
    w.settle();
    let first = w.one(alice);
    w.delete(bob, "m1", "plain", "k2");
    w.create(bob, "m2", "plain", json!({ "id": "k3" }));
    let last = goes_on(&mut w, alice, &first, 5);
    assert_eq!(
        (ids(&last), &last["deleted"], &last["more"]),
        (vec!["k3"], &json!(["k2"]), &json!(false))
    );
}

#[test]
fn what_a_source_calls_deleted_and_the_log_has_seen_reborn_is_there() {
    let mut w = World::elsewhere();
    w.put("plain", json!({ "id": "k0" }));
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let first = w.subscribe(alice, "plain");
    w.call(
        tidewire::Call::BroadcastChange,
        json!({ "channel": "plain" }),
    );
    w.messages(alice);
    w.slow = true;
    w.send(
        alice,
        json!({
            "type": "subscribe", "id": "s", "channel": "plain",
            "cursor": first["cursor"], "view": first["view"]
        }),
    );
    let (ask, _) = w.look();
    w.slow = false;
    w.create(bob, "m1", "plain", json!({ "id": "k0", "text": "reborn" }));
    let page = Page {
        deleted: vec![Key::parse("k0").unwrap(), Key::parse("k9").unwrap()],
        ..Page::default()
    };
    w.answered(ask, Ok(Answer::Page(page)));
    let delta = w.one(alice);
    assert_eq!(
        (&delta["data"], &delta["deleted"]),
        (&json!([{ "id": "k0", "text": "reborn" }]), &json!(["k9"]))
    );
}

#[test]
fn a_live_reader_that_asks_again_stays_live_meanwhile() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    w.subscribe(alice, "plain");
    asks(&mut w, alice, "plain", 500);
    let (ask, answer) = w.look();
    w.create(bob, "m1", "plain", json!({ "id": "k0" }));
    assert_eq!(gist(&w.messages(alice)), ["create k0"]);
    w.answered(ask, answer);
    assert_eq!(
        ids(&w.one(alice)),
        ["k0"],
        "the client replaces what it has: it must be there"
    );
}

#[test]
fn pages_that_were_begun_before_the_log_was_trimmed_begin_anew() {
    const WEEK: u64 = 7 * 24 * 60 * 60 * 1000;
    let mut w = World::elsewhere();
    for row in 0..3 {
        w.put("plain", json!({ "id": format!("k{row}") }));
    }
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    asks(&mut w, alice, "plain", 2);
    w.settle();
    let first = w.one(alice);
    assert_eq!(first["more"], true);
    w.delete(bob, "m1", "plain", "k0");
    w.drop(alice);
    w.advance(WEEK + 60_000);
    while w.ring() {
        w.advance(1_000);
    }
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
    // Nobody can tell her any more that k0 is gone.
    let alice = w.user("alice");
    let anew = goes_on(&mut w, alice, &first, 5);
    assert_eq!(
        (&anew["mode"], ids(&anew)),
        (&json!("full"), vec!["k1", "k2"])
    );
}

#[test]
fn a_rest_that_was_kept_is_not_the_whole_where_the_channel_changes_outside_meanwhile() {
    let mut w = World::elsewhere();
    w.home.greedy = true;
    for row in 0..3 {
        w.put("plain", json!({ "id": format!("k{row}") }));
    }
    let alice = w.user("alice");
    asks(&mut w, alice, "plain", 2);
    w.settle();
    let first = w.one(alice);
    w.put("plain", json!({ "id": "out" }));
    w.call(
        tidewire::Call::BroadcastChange,
        json!({ "channel": "plain" }),
    );
    let (mut page, mut seen) = (first, Vec::new());
    while page["more"] == true {
        page = goes_on(&mut w, alice, &page, 2);
        seen.extend(ids(&page).into_iter().map(str::to_owned));
    }
    assert!(seen.contains(&"out".to_owned()), "{seen:?}");
}

/// Alice returns to a row that was taken away from her while the log did not hold it. Before her
/// source answers, its writer repeats the mutation whose first answer was lost, and the log learns of
/// the row as it is now.
#[test]
fn what_the_log_learns_of_meanwhile_and_does_not_show_is_told_as_gone() {
    let mut w = World::elsewhere();
    let carol = w.user("carol");
    w.slow = true;
    let create = json!({
        "type": "mutate", "id": "m1", "channel": "notes", "action": "create",
        "data": { "id": "n", "ownerId": ["alice", "carol"] }
    });
    w.send(carol, create.clone());
    // It was done, and nobody heard of it.
    let _ = w.look();
    w.sleep();
    w.slow = false;
    let (carol, alice) = (w.user("carol"), w.user("alice"));
    let page = w.subscribe(alice, "notes");
    assert_eq!(ids(&page), ["n"]);
    w.drop(alice);
    w.advance(1_000);
    w.put("notes", json!({ "id": "n", "ownerId": "carol" }));
    w.call(Call::BroadcastChange, json!({ "channel": "notes" }));
    let alice = w.user("alice");
    w.slow = true;
    w.send(
        alice,
        json!({
            "type": "subscribe", "id": "s", "channel": "notes",
            "cursor": page["cursor"], "view": page["view"]
        }),
    );
    let (ask, answer) = w.look();
    w.send(carol, create);
    w.settle();
    w.answered(ask, answer);
    w.settle();
    let page = w.one(alice);
    assert_eq!(
        (&page["mode"], &page["deleted"]),
        (&json!("delta"), &json!(["n"]))
    );
}
