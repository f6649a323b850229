//! Paging: bounded pages, and what changes while a client asks for them one by one.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::replica::Replica;
use super::world::World;
use super::{NOTHING, gist, ids, seq};

/// `todos` with k1 to k`n`, and who wrote them.
fn world_with_rows(n: usize) -> (World, ConnId) {
    let mut w = World::new();
    let alice = w.user("alice");
    for i in 1..=n {
        w.create(
            alice,
            &format!("m{i}"),
            "todos",
            json!({ "id": format!("k{i}") }),
        );
    }
    (w, alice)
}

fn first_page(w: &mut World, conn: ConnId, limit: u64) -> Value {
    w.ask(
        conn,
        json!({ "type": "subscribe", "channel": "todos", "limit": limit }),
    )
}

fn next_page(w: &mut World, conn: ConnId, page: &Value, limit: u64) -> Value {
    let message = json!({
        "type": "subscribe", "channel": "todos", "limit": limit,
        "cursor": page["cursor"], "view": page["view"]
    });
    w.ask(conn, message)
}

#[test]
fn only_the_first_page_of_a_full_snapshot_says_full() {
    let (mut w, _) = world_with_rows(5);
    let bob = w.user("bob");
    let one = first_page(&mut w, bob, 2);
    let two = next_page(&mut w, bob, &one, 2);
    let three = next_page(&mut w, bob, &two, 2);
    let gist = |page: &Value| {
        (
            page["mode"].as_str().unwrap().to_owned(),
            page["isDelta"] == true,
            ids(page).join(" "),
            page["more"] == true,
        )
    };
    assert_eq!(
        gist(&one),
        ("full".to_owned(), false, "k1 k2".to_owned(), true)
    );
    assert_eq!(
        gist(&two),
        ("delta".to_owned(), true, "k3 k4".to_owned(), true)
    );
    assert_eq!(
        gist(&three),
        ("delta".to_owned(), true, "k5".to_owned(), false)
    );
    assert_eq!(seq(&three), 5);
}

#[test]
fn a_page_that_is_just_full_is_the_last() {
    let (mut w, alice) = world_with_rows(2);
    let page = first_page(&mut w, alice, 2);
    assert_eq!((ids(&page).len(), &page["more"]), (2, &json!(false)));
}

#[test]
fn a_client_is_live_after_the_last_page_and_not_before() {
    let (mut w, alice) = world_with_rows(3);
    let bob = w.user("bob");
    let mut copy = Replica::of("todos");
    assert!(copy.page(&mut w, bob, 2));
    w.create(alice, "x", "todos", json!({ "id": "x" }));
    assert_eq!(w.messages(bob), NOTHING);
    assert!(!copy.page(&mut w, bob, 2));
    assert_eq!(copy.keys(), ["k1", "k2", "k3", "x"]);
    w.create(alice, "y", "todos", json!({ "id": "y" }));
    assert_eq!(gist(&w.messages(bob)), ["create y"]);
}

#[test]
fn what_happens_between_pages_reaches_the_copy() {
    for asleep in [false, true] {
        let (mut w, alice) = world_with_rows(6);
        let bob = w.user("bob");
        let mut copy = Replica::of("todos");
        assert!(copy.page(&mut w, bob, 2));
        w.update(alice, "u", "todos", json!({ "id": "k1", "changed": true }));
        w.delete(alice, "d1", "todos", "k2");
        w.delete(alice, "d2", "todos", "k3");
        w.create(alice, "c", "todos", json!({ "id": "k7" }));
        w.broadcast(json!({
            "channel": "todos", "action": "update", "key": "k4", "data": {}, "to": ["user:alice"]
        }));
        if asleep {
            w.sleep();
        }
        assert!(copy.page(&mut w, bob, 2));
        w.delete(alice, "d3", "todos", "k5");
        copy.catch_up(&mut w, bob, 2);
        assert_eq!(copy.keys(), ["k1", "k6", "k7"]);
        assert_eq!(copy.rows["k1"], json!({ "id": "k1", "changed": true }));
    }
}

#[test]
fn a_row_that_leaves_sight_between_pages_is_gone_from_the_copy() {
    let (mut w, _) = world_with_rows(3);
    let bob = w.user("bob");
    let mut copy = Replica::of("todos");
    assert!(copy.page(&mut w, bob, 2));
    w.broadcast(json!({
        "channel": "todos", "action": "update", "key": "k1", "data": {}, "to": ["user:alice"]
    }));
    copy.catch_up(&mut w, bob, 2);
    assert_eq!(copy.keys(), ["k2", "k3"]);
}

#[test]
fn losses_of_all_pages_are_judged_from_where_the_first_began() {
    let (mut w, alice) = world_with_rows(1);
    let bob = w.user("bob");
    let mut copy = Replica::of("todos");
    copy.catch_up(&mut w, bob, 10);
    w.drop(bob);
    // k1 leaves bob's sight at 2 and is changed once more at 5, after the first page's end.
    w.broadcast(json!({
        "channel": "todos", "action": "update", "key": "k1", "data": {}, "to": ["user:alice"]
    }));
    w.create(alice, "a", "todos", json!({ "id": "a" }));
    w.create(alice, "b", "todos", json!({ "id": "b" }));
    w.update(alice, "k", "todos", json!({ "id": "k1", "n": 1 }));
    let bob = w.user("bob");
    assert!(copy.page(&mut w, bob, 1));
    assert_eq!(copy.keys(), ["a", "k1"]);
    copy.catch_up(&mut w, bob, 1);
    assert_eq!(copy.keys(), ["a", "b"]);
}

#[test]
fn the_floor_is_judged_from_where_paging_began() {
    let (mut w, alice) = world_with_rows(6);
    let page = first_page(&mut w, alice, 2);
    w.sqlite
        .execute("INSERT INTO channels (name, floor, floor_at, swept) VALUES ('todos', 6, 0, 0)");
    let next = next_page(&mut w, alice, &page, 2);
    assert_eq!(
        (&next["mode"], ids(&next)),
        (&json!("delta"), vec!["k3", "k4"])
    );
    w.sqlite
        .execute("UPDATE channels SET floor = 7 WHERE name = 'todos'");
    let again = next_page(&mut w, alice, &page, 2);
    assert_eq!(
        (&again["mode"], ids(&again)),
        (&json!("full"), vec!["k1", "k2"])
    );
}

#[test]
fn a_full_snapshot_tells_no_deletion_from_before_it_on_any_page() {
    let (mut w, alice) = world_with_rows(3);
    w.delete(alice, "d", "todos", "k2");
    w.create(alice, "m4", "todos", json!({ "id": "k4" }));
    let bob = w.user("bob");
    let one = first_page(&mut w, bob, 1);
    let two = next_page(&mut w, bob, &one, 1);
    let three = next_page(&mut w, bob, &two, 1);
    assert_eq!(
        (ids(&one), ids(&two), ids(&three)),
        (vec!["k1"], vec!["k3"], vec!["k4"])
    );
    for page in [one, two, three] {
        assert_eq!(page["deleted"], json!([]));
    }
}

#[test]
fn a_page_counts_rows_and_deleted_keys_together() {
    let (mut w, alice) = world_with_rows(3);
    let known = first_page(&mut w, alice, 100);
    w.delete(alice, "d1", "todos", "k1");
    w.update(alice, "u", "todos", json!({ "id": "k2", "n": 1 }));
    w.delete(alice, "d2", "todos", "k3");
    let page = next_page(&mut w, alice, &known, 2);
    assert_eq!((ids(&page), &page["deleted"]), (vec!["k2"], &json!(["k1"])));
    let last = next_page(&mut w, alice, &page, 2);
    assert_eq!(
        (&last["data"], &last["deleted"]),
        (&json!([]), &json!(["k3"]))
    );
    assert_eq!(last["more"], false);
}

#[test]
fn pages_stay_below_the_bound_of_a_frame() {
    let mut w = World::new();
    let text = "x".repeat(200_000);
    for i in 0..9 {
        let change = json!({
            "channel": "todos", "action": "create", "key": format!("k{i}"), "data": { "t": text }
        });
        assert_eq!(w.broadcast(change).0, 200);
    }
    let bob = w.user("bob");
    let mut pages = vec![first_page(&mut w, bob, 1000)];
    while pages.last().unwrap()["more"] == true {
        let last = pages.last().unwrap().clone();
        pages.push(next_page(&mut w, bob, &last, 1000));
    }
    let rows: Vec<usize> = pages.iter().map(|page| ids(page).len()).collect();
    assert_eq!(rows, [4, 4, 1]);
    let bytes = pages.iter().map(|page| page.to_string().len());
    assert!(
        bytes
            .into_iter()
            .all(|bytes| bytes <= limits::FRAME_OUT_BYTES)
    );
}

#[test]
fn paging_resumes_on_another_socket_after_a_sleep() {
    let (mut w, alice) = world_with_rows(4);
    let bob = w.user("bob");
    let mut copy = Replica::of("todos");
    assert!(copy.page(&mut w, bob, 2));
    w.drop(bob);
    w.delete(alice, "d", "todos", "k1");
    w.sleep();
    let bob = w.user("bob");
    copy.catch_up(&mut w, bob, 2);
    assert_eq!(copy.keys(), ["k2", "k3", "k4"]);
}

#[test]
fn the_cursor_of_a_last_page_is_plain_and_of_another_is_not() {
    let (mut w, alice) = world_with_rows(3);
    let page = first_page(&mut w, alice, 2);
    let parts = |page: &Value| page["cursor"].as_str().unwrap().split('.').count();
    assert_eq!(parts(&page), 4);
    assert_eq!(parts(&next_page(&mut w, alice, &page, 2)), 2);
}

#[test]
fn pages_of_a_reader_who_may_see_next_to_nothing_are_bounded_too() {
    let mut w = World::new();
    let hidden = limits::PAGE_SCAN;
    w.sqlite.execute(&format!(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {hidden})
         INSERT INTO rows (channel, key, seq, data, audience, author, at, lost)
         SELECT 'todos', 'h' || i, i, '{{}}', '[\"user:carol\"]', NULL, 0, NULL FROM n"
    ));
    w.sleep();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let page = first_page(&mut w, bob, 10);
    assert_eq!((&page["data"], &page["more"]), (&json!([]), &json!(false)));
    w.create(alice, "m", "todos", json!({ "id": "k" }));
    w.messages(bob);
    let page = first_page(&mut w, bob, 10);
    assert_eq!((&page["mode"], &page["data"]), (&json!("full"), &json!([])));
    assert_eq!(page["more"], true);
    let last = next_page(&mut w, bob, &page, 10);
    assert_eq!((&last["mode"], ids(&last)), (&json!("delta"), vec!["k"]));
    assert_eq!(last["more"], false);
}

/// 2,000 come back at once, each to a channel in which thousands of changes were for others: what cannot be
/// seen must not cost each of them what a row costs, or publishers wait for all of it.
#[test]
fn what_a_reader_may_not_see_is_passed_by_in_the_database() {
    let mut w = World::new();
    w.sqlite.execute(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000)
         INSERT INTO rows (channel, key, seq, data, audience, author, at, lost)
         SELECT 'todos', 'k' || i, i, '{\"id\":\"k' || i || '\"}', '[\"user:u' || (i % 50) || '\"]', NULL, 0, NULL FROM n",
    );
    w.sleep();
    let reader = w.user("u7");
    let before = w.sqlite.handed.get();
    let page = first_page(&mut w, reader, 200);
    let handed = w.sqlite.handed.get() - before;
    assert_eq!((ids(&page).len(), &page["more"]), (100, &json!(false)));
    assert!((100..=150).contains(&handed), "{handed} rows for 100");
}

#[test]
fn a_page_may_end_in_the_middle_of_a_batch() {
    let mut w = World::new();
    let changes =
        ["k1", "k2", "k3"].map(|key| json!({ "action": "create", "key": key, "data": {} }));
    let body = json!({ "channel": "todos", "changes": changes });
    assert_eq!(w.broadcast_batch(body).0, 200);
    let alice = w.user("alice");
    let page = first_page(&mut w, alice, 2);
    assert_eq!(
        (ids(&page), &page["more"]),
        (vec!["k1", "k2"], &json!(true))
    );
}
