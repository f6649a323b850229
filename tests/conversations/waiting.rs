//! Readers that wait: held until there is news or their time is over.

use serde_json::{Value, json};
use tidewire::{Call, limits};

use super::world::World;
use super::world::readers::reads;
use super::{ids, passes};

/// A place in a channel from which there is nothing new.
fn place(w: &mut World, user: &str, channel: &str) -> Value {
    let (status, page) = w.page(&reads(user, channel));
    assert_eq!(status, 200);
    page
}

#[test]
fn a_reader_is_held_until_a_change_and_gets_it() {
    let mut w = World::new();
    let (alice, at) = (w.user("alice"), place(&mut w, "bob", "todos"));
    let bob = w.wait(&reads("bob", "todos").with("wait", 25).after(&at));
    w.advance(5_000);
    w.ring_readers();
    w.create(alice, "m1", "chat:1", json!({ "id": "other channel" }));
    assert_eq!(w.answer(bob), None);
    w.create(alice, "m2", "todos", json!({ "id": "k1" }));
    let page = w.answer(bob).unwrap().clone();
    assert_eq!(
        (&page["mode"], ids(&page), &page["more"]),
        (&json!("delta"), vec!["k1"], &json!(false))
    );
    // It has gone with its answer.
    assert_eq!(w.stats()["connections"], 1);
    let again = w.wait(&reads("bob", "todos").with("wait", 25).after(&page));
    w.delete(alice, "m3", "todos", "k1");
    assert_eq!(w.answer(again).unwrap()["deleted"], json!(["k1"]));
}

#[test]
fn whoever_is_behind_is_answered_at_once() {
    let mut w = World::new();
    let (alice, at) = (w.user("alice"), place(&mut w, "bob", "todos"));
    let (status, full) = w.page(&reads("bob", "todos").with("wait", 25));
    assert_eq!(
        (status, &full["mode"]),
        (200, &json!("full")),
        "without a place, also if empty"
    );
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    let (_, page) = w.page(&reads("bob", "todos").with("wait", 25).after(&at));
    assert_eq!(ids(&page), ["k1"]);
}

#[test]
fn a_reader_whose_time_is_over_gets_an_empty_page_with_a_newer_cursor() {
    let mut w = World::new();
    let (alice, at) = (w.user("alice"), place(&mut w, "bob", "notes"));
    let bob = w.wait(&reads("bob", "notes").with("wait", 3).after(&at));
    w.create(
        alice,
        "m1",
        "notes",
        json!({ "id": "n1", "ownerId": "alice" }),
    );
    assert_eq!(w.answer(bob), None, "what it may not see is no news");
    w.advance(2_999);
    w.ring_readers();
    assert_eq!(w.answer(bob), None);
    w.advance(1);
    w.ring_readers();
    let page = w.answer(bob).unwrap().clone();
    assert_eq!((&page["data"], &page["deleted"]), (&json!([]), &json!([])));
    assert_eq!(
        (&page["more"], &page["mode"]),
        (&json!(false), &json!("delta"))
    );
    assert_eq!(super::seq(&page), 1);
    assert_eq!(page["view"], at["view"]);
}

#[test]
fn losing_sight_a_reset_and_a_notice_are_news() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "gifts", json!({ "id": "g", "for": "bob" }));
    let at = place(&mut w, "bob", "gifts");
    let bob = w.wait(&reads("bob", "gifts").with("wait", 25).after(&at));
    w.broadcast(
        json!({ "channel": "gifts", "action": "update", "key": "g", "data": { "for": "carol" } }),
    );
    let page = w.answer(bob).unwrap().clone();
    assert_eq!(page["deleted"], json!(["g"]));
    let bob = w.wait(&reads("bob", "gifts").with("wait", 25).after(&page));
    w.call(Call::BroadcastReset, json!({ "channel": "gifts" }));
    let page = w.answer(bob).unwrap().clone();
    assert_eq!(page["mode"], "full");
    let bob = w.wait(&reads("bob", "gifts").with("wait", 25).after(&page));
    w.call(Call::BroadcastChange, json!({ "channel": "gifts" }));
    assert_eq!(
        w.answer(bob).unwrap()["data"],
        json!([]),
        "nothing here; it asks again"
    );
}

#[test]
fn a_reader_that_goes_frees_its_place_at_once() {
    let mut w = World::new();
    let at = place(&mut w, "bob", "todos");
    let bob = w.wait(&reads("bob", "todos").with("wait", 25).after(&at));
    assert_eq!(w.stats()["subscriptions"], 1);
    w.drop(bob);
    let stats = w.stats();
    assert_eq!(
        (&stats["connections"], &stats["subscriptions"]),
        (&json!(0), &json!(0))
    );
}

#[test]
fn a_reader_ends_with_its_token_and_is_told_to_ask_again() {
    let mut w = World::new();
    let at = place(&mut w, "bob", "todos");
    let mut read = reads("bob", "todos").with("wait", 25).after(&at);
    read.seconds = 10;
    let bob = w.wait(&read);
    w.advance(10_000);
    w.ring_readers();
    let page = w.answer(bob).unwrap().clone();
    assert_eq!((&page["more"], &page["data"]), (&json!(true), &json!([])));
    assert_eq!(page["cursor"], at["cursor"]);
    // Also where a change comes first.
    let bob = w.wait(&read);
    w.advance(10_000);
    w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
    assert_eq!(w.answer(bob).unwrap()["data"], json!([]));
}

#[test]
fn operators_end_readers_that_wait() {
    let mut w = World::new();
    let at = place(&mut w, "bob", "todos");
    for body in [json!({ "identity": "bob" }), json!({ "all": true })] {
        w.advance(1);
        let bob = w.wait(&reads("bob", "todos").with("wait", 25).after(&at));
        let (_, done) = w.call(Call::Disconnect, body);
        assert_eq!(done["disconnected"], 1);
        let page = w.answer(bob).unwrap();
        assert_eq!((&page["more"], &page["data"]), (&json!(true), &json!([])));
    }
}

#[test]
fn other_topics_are_news() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    w.broadcast(json!({
        "channel": "todos", "action": "create", "key": "k2", "data": {}, "to": ["red"]
    }));
    let at = place(&mut w, "bob", "todos");
    let bob = w.wait(&reads("bob", "todos").with("wait", 25).after(&at));
    w.call(Call::Topics, json!({ "identity": "bob", "add": ["red"] }));
    let page = w.answer(bob).unwrap();
    assert_eq!(
        (&page["mode"], ids(page)),
        (&json!("full"), vec!["k1", "k2"])
    );
    assert_ne!(page["view"], at["view"]);
}

#[test]
fn a_token_of_the_channel_opens_it_and_ends_the_wait() {
    let mut w = passes::world();
    let token = passes::token_for(&w, "vault:1", 10);
    let read = || reads("bob", "vault:1").with("channelToken", &token);
    assert_eq!(w.page(&reads("bob", "vault:1")).0, 403);
    let (status, at) = w.page(&read());
    assert_eq!(status, 200);
    let bob = w.wait(&read().with("wait", 25).after(&at));
    w.advance(10_000);
    w.ring_readers();
    assert_eq!(w.answer(bob).unwrap()["more"], true);
    assert_eq!(w.page(&read()).0, 401, "and it opens nothing any more");
}

#[test]
fn a_space_holds_1000_readers_and_an_identity_100() {
    let mut w = World::new();
    let at = place(&mut w, "bob", "todos");
    let wait = |user| reads(user, "todos").with("wait", 25);
    let users: Vec<String> = (0..10).map(|i| format!("user{i}")).collect();
    let mut readers = Vec::new();
    for user in &users {
        let at = place(&mut w, user, "todos");
        for _ in 0..limits::READERS_PER_IDENTITY {
            readers.push(w.wait(&wait(user).after(&at)));
        }
        let (status, body) = w.page(&wait(user).after(&at));
        let of_space = readers.len() == limits::READERS;
        assert_eq!(status, if of_space { 503 } else { 429 });
        assert!(body["error"]["retryAfterMs"].is_u64());
    }
    assert_eq!(readers.len(), limits::READERS);
    assert_eq!(w.page(&wait("bob").after(&at)).0, 503);
    assert_eq!(w.page(&reads("bob", "todos")).0, 200, "pages need no place");
    // A large change is for all of them; what does not fit the turn is asked for again.
    let text = "x".repeat(100_000);
    w.broadcast(
        json!({ "channel": "todos", "action": "create", "key": "k", "data": { "text": text } }),
    );
    let mut rows = 0;
    for reader in readers {
        let page = w.answer(reader).unwrap();
        rows += ids(page).len();
        assert_eq!(page["more"], ids(page).is_empty());
    }
    let most = limits::TURN_OUT_BYTES / 100_000;
    assert!((most..=most + 1).contains(&rows), "{rows}");
    assert!(
        w.slow_stream(&reads("bob", "todos")).is_ok(),
        "their places are free"
    );
}

#[test]
fn a_clock_that_jumps_back_has_no_reader_wait_for_it() {
    let mut w = World::new();
    let at = place(&mut w, "bob", "todos");
    let bob = w.wait(&reads("bob", "todos").with("wait", 25).after(&at));
    let before = w.now;
    w.advance(60 * 60 * 1000);
    w.ring_readers();
    let page = w.answer(bob).unwrap().clone();
    w.now = before;
    let again = reads("bob", "todos").after(&page);
    assert_eq!(w.page(&again).0, 200, "it was answered an hour from now");
}
