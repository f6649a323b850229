//! Rows that live elsewhere: whoever comes back is served by the log, and only who cannot be is
//! answered by the source.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::source::{Answer, Answered, Failed, Page};
use tidewire::{Call, Key, limits};

use super::world::World;
use super::{code, gist, ids};

const DAY: u64 = 24 * 60 * 60 * 1000;

pub(crate) fn subscribe(limit: usize) -> Value {
    json!({ "type": "subscribe", "id": "s", "channel": "plain", "limit": limit })
}

pub(crate) fn resume(page: &Value, limit: usize) -> Value {
    let mut message = subscribe(limit);
    message["cursor"] = page["cursor"].clone();
    message["view"] = page["view"].clone();
    message
}

/// A world whose home holds rows `k0`, `k1` … of `plain`, each a minute younger than the one before.
pub(crate) fn home_of(rows: usize) -> World {
    let mut w = World::elsewhere();
    for row in 0..rows {
        w.put("plain", json!({ "id": format!("k{row}") }));
        w.advance(60_000);
    }
    w
}

/// An answer with these rows, as a source gives it.
pub(crate) fn page(rows: &[Value], next: Option<String>) -> Answered {
    let row = |row: &Value| {
        (
            Key::parse(row["id"].as_str().unwrap()).unwrap(),
            row.to_string(),
        )
    };
    Ok(Answer::Page(Page {
        rows: rows.iter().map(row).collect(),
        next,
        ..Page::default()
    }))
}

#[test]
fn a_first_subscription_gets_what_the_source_has_and_is_live_from_there() {
    let mut w = home_of(2);
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let snapshot = w.subscribe(alice, "plain");
    assert_eq!(
        (&snapshot["mode"], ids(&snapshot), &snapshot["more"]),
        (&json!("full"), vec!["k0", "k1"], &json!(false))
    );
    w.create(bob, "m1", "plain", json!({ "id": "k2" }));
    let change = w.one(alice);
    assert_eq!(gist(std::slice::from_ref(&change)), ["create k2"]);
    assert_eq!(w.home.fetches, 1);
}

#[test]
fn whoever_comes_back_is_answered_by_the_log_alone() {
    let mut w = home_of(2);
    let alice = w.user("alice");
    let first = w.subscribe(alice, "plain");
    w.drop(alice);
    let bob = w.user("bob");
    w.create(bob, "m1", "plain", json!({ "id": "k2" }));
    w.update(bob, "m2", "plain", json!({ "id": "k0", "text": "milk" }));
    w.delete(bob, "m3", "plain", "k1");
    for sleeps in [false, true] {
        if sleeps {
            w.sleep();
        }
        let alice = w.user("alice");
        let delta = w.ask(alice, resume(&first, 500));
        assert_eq!(
            (&delta["mode"], &delta["more"]),
            (&json!("delta"), &json!(false))
        );
        assert_eq!(ids(&delta), ["k2", "k0"]);
        assert_eq!(delta["deleted"], json!(["k1"]));
    }
    assert_eq!(w.home.fetches, 1, "the first subscription's");
}

#[test]
fn a_storm_of_2000_returning_clients_does_not_reach_the_source() {
    let mut w = home_of(1);
    let alice = w.user("alice");
    let first = w.subscribe(alice, "plain");
    w.drop(alice);
    let cursor = first["cursor"].as_str().unwrap();
    let (epoch, begin) = cursor.split_once('.').unwrap();
    for batch in 0..5 {
        let change = |at: u64| {
            let data = json!({ "at": batch * 1_000 + at });
            json!({ "action": "create", "key": format!("n{}", at % 200), "data": data })
        };
        let changes: Vec<Value> = (0..1_000).map(change).collect();
        let (status, body) = w.broadcast_batch(json!({ "channel": "plain", "changes": changes }));
        assert_eq!(status, 200, "{body}");
    }
    let asked = w.home.fetches;
    for client in 0..2_000 {
        let missed = (5_000 * (client + 1) / 2_000_u64).min(5_000);
        let mut place = first.clone();
        place["cursor"] = json!(format!("{epoch}.{}", 5_000 - missed));
        assert!(missed < 5_000 || place["cursor"].as_str().unwrap().ends_with(begin));
        let conn = w.user("alice");
        let delta = w.ask(conn, resume(&place, 500));
        assert_eq!(
            (&delta["mode"], &delta["more"], ids(&delta).len() as u64),
            (&json!("delta"), &json!(false), missed.min(200))
        );
        w.drop(conn);
        w.advance(20);
    }
    assert_eq!(w.home.fetches, asked, "the source is asked 0 times");
}

#[test]
fn a_cursor_that_proves_nothing_has_the_source_asked_for_everything() {
    let mut w = home_of(1);
    let alice = w.user("alice");
    let first = w.subscribe(alice, "plain");
    let with = |cursor: Value, view: Value| json!({ "type": "subscribe", "id": "s", "channel": "plain", "cursor": cursor, "view": view });
    let (cursor, view) = (first["cursor"].as_str().unwrap(), &first["view"]);
    let (epoch, _) = cursor.split_once('.').unwrap();
    for (cursor, view) in [
        (json!("another.0"), view.clone()),
        (json!(format!("{epoch}.9")), view.clone()),
        (json!(cursor), json!("another")),
        (json!(cursor), Value::Null),
        (json!(format!("{cursor}.of.a.newer.server")), view.clone()),
    ] {
        let asked = w.home.fetches;
        let answer = w.ask(alice, with(cursor.clone(), view));
        assert_eq!(
            (&answer["mode"], ids(&answer)),
            (&json!("full"), vec!["k0"]),
            "{cursor}"
        );
        assert_eq!(w.home.fetches, asked + 1, "{cursor}");
    }
    w.call(Call::BroadcastReset, json!({ "channel": "plain" }));
    w.messages(alice);
    let answer = w.ask(alice, resume(&first, 500));
    assert_eq!(answer["mode"], "full", "of before a reset");
    assert_eq!(
        code(&w.ask(alice, with(json!("no cursor"), Value::Null))),
        "malformed"
    );
}

#[test]
fn pages_follow_the_sources_own_token() {
    let mut w = home_of(5);
    let alice = w.user("alice");
    w.slow = true;
    w.send(alice, subscribe(2));
    assert_eq!(
        (w.wanted().limit, &w.wanted().token, w.wanted().since),
        (2, &None, None)
    );
    w.answer_first();
    let first = w.one(alice);
    assert_eq!(
        (&first["mode"], ids(&first), &first["more"]),
        (&json!("full"), vec!["k0", "k1"], &json!(true))
    );
    w.send(alice, resume(&first, 2));
    let token = w.wanted().token.clone().unwrap();
    assert!(token.ends_with(" k1"), "{token}");
    w.answer_first();
    let second = w.one(alice);
    assert_eq!(
        (&second["mode"], ids(&second), &second["more"]),
        (&json!("delta"), vec!["k2", "k3"], &json!(true))
    );
    w.slow = false;
    let last = w.ask(alice, resume(&second, 2));
    assert_eq!((ids(&last), &last["more"]), (vec!["k4"], &json!(false)));
    // Not live before the last page, and from there on.
    let bob = w.user("bob");
    w.create(bob, "m1", "plain", json!({ "id": "k5" }));
    assert_eq!(gist(&w.messages(alice)), ["create k5"]);
}

#[test]
fn a_place_between_pages_outlives_sleep() {
    let mut w = home_of(3);
    let alice = w.user("alice");
    let first = w.ask(alice, subscribe(2));
    w.sleep();
    let last = w.ask(alice, resume(&first, 2));
    assert_eq!(
        (&last["mode"], ids(&last), &last["more"]),
        (&json!("delta"), vec!["k2"], &json!(false))
    );
}

#[test]
fn nobody_makes_up_a_place_in_a_source() {
    let mut w = home_of(3);
    let alice = w.user("alice");
    let first = w.ask(alice, subscribe(2));
    let cursor = first["cursor"].as_str().unwrap();
    let (place, seal) = cursor.rsplit_once(".s").unwrap();
    let sealed_otherwise = format!("{place}.s{}", "0".repeat(seal.len()));
    for forged in [place.to_owned(), sealed_otherwise] {
        let mut page = first.clone();
        page["cursor"] = json!(forged);
        let answer = w.ask(alice, resume(&page, 2));
        assert_eq!(
            (&answer["mode"], ids(&answer)),
            (&json!("full"), vec!["k0", "k1"])
        );
    }
    let mut elsewhere = resume(&first, 2);
    elsewhere["channel"] = json!("gifts");
    assert_eq!(
        w.ask(alice, elsewhere)["mode"],
        "full",
        "a place of another channel"
    );
}

#[test]
fn a_token_of_any_length_that_a_source_may_give_comes_back_as_it_was() {
    let mut w = World::elsewhere();
    let alice = w.user("alice");
    w.slow = true;
    w.send(alice, subscribe(1));
    let (ask, _) = w.look();
    let token = "ü".repeat(limits::SOURCE_TOKEN_BYTES / 2);
    w.answered(ask, page(&[json!({ "id": "k0" })], Some(token.clone())));
    let first = w.one(alice);
    assert!(first["cursor"].as_str().unwrap().len() <= limits::CURSOR_BYTES);
    w.send(alice, resume(&first, 1));
    assert_eq!(w.wanted().token, Some(token));
}

#[test]
fn the_rule_that_scopes_by_a_field_holds_for_whatever_a_source_says() {
    let mut w = World::elsewhere();
    let alice = w.user("alice");
    w.slow = true;
    w.send(
        alice,
        json!({ "type": "subscribe", "id": "s", "channel": "notes" }),
    );
    let (ask, _) = w.look();
    let rows = [
        json!({ "id": "hers", "ownerId": "alice" }),
        json!({ "id": "his", "ownerId": "bob" }),
        json!({ "id": "both", "ownerId": ["bob", "alice"] }),
        json!({ "id": "nobodys" }),
        json!({ "id": "odd", "ownerId": 7 }),
    ];
    w.answered(ask, page(&rows, None));
    assert_eq!(ids(&w.one(alice)), ["hers", "both"]);
}

#[test]
fn a_source_that_fails_or_is_slow_refuses_and_leaves_nothing_behind() {
    let mut w = home_of(1);
    let alice = w.user("alice");
    w.slow = true;
    w.send(alice, subscribe(500));
    let (ask, _) = w.look();
    let problem = Problem::new(Code::Unavailable, "the database is down");
    w.answered(ask, Err(Failed::from(problem)));
    let refusal = w.one(alice);
    assert_eq!(
        (&refusal["type"], &refusal["id"]),
        (&json!("reject"), &json!("s"))
    );
    assert_eq!(
        (code(&refusal), &refusal["error"]["retryable"]),
        ("unavailable", &json!(true))
    );
    w.send(alice, subscribe(500));
    let (ask, answer) = w.look();
    w.late(ask);
    let refusal = w.one(alice);
    assert_eq!(code(&refusal), "unavailable");
    assert_eq!(refusal["error"]["retryAfterMs"], limits::SOURCE_RETRY_MS);
    // What comes too late is nobody's.
    w.answered(ask, answer);
    assert_eq!(w.messages(alice), super::NOTHING);
    assert_eq!(w.stats()["subscriptions"], 0);
    w.slow = false;
    assert_eq!(ids(&w.ask(alice, subscribe(500))), ["k0"]);
}

#[test]
fn an_answer_that_comes_twice_or_to_another_question_is_none() {
    let mut w = home_of(1);
    let alice = w.user("alice");
    w.slow = true;
    w.send(alice, subscribe(500));
    let (ask, answer) = w.look();
    w.answered(ask, answer.clone());
    w.answered(ask, answer);
    w.late(ask);
    assert_eq!(ids(&w.one(alice)), ["k0"]);
    w.send(alice, subscribe(500));
    let (ask, _) = w.look();
    w.answered(ask, Ok(Answer::Allowed));
    assert_eq!(code(&w.one(alice)), "internal");
}

#[test]
fn a_subscription_writes_no_row() {
    let mut w = home_of(1);
    let alice = w.user("alice");
    w.events();
    let first = w.subscribe(alice, "plain");
    w.ask(alice, resume(&first, 500));
    let events = w.events();
    assert_eq!(events.len(), 2);
    assert!(
        events.iter().all(|event| event["op"] == "subscribe"),
        "{events:?}"
    );
    let written = w.sqlite.number("SELECT total_changes()");
    w.subscribe(alice, "plain");
    assert_eq!(w.sqlite.number("SELECT total_changes()"), written);
}

#[test]
fn the_log_forgets_changes_after_seven_days_and_the_source_is_asked_again() {
    let mut w = home_of(1);
    let alice = w.user("alice");
    let first = w.subscribe(alice, "plain");
    let bob = w.user("bob");
    let early = w.create(bob, "m1", "plain", json!({ "id": "n1" }));
    w.drop(bob);
    w.drop(alice);
    w.advance(3 * DAY);
    let bob = w.user("bob");
    let late = w.create(bob, "m2", "plain", json!({ "id": "n2" }));
    w.drop(bob);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 2);
    w.advance(4 * DAY + 60_000);
    while w.ring() {
        w.advance(limits::SWEEP_STEP_MS);
    }
    assert_eq!(
        w.sqlite.number("SELECT count(*) FROM rows"),
        1,
        "n1 is as old"
    );
    let at = |cursor: &Value| {
        let mut place = first.clone();
        place["cursor"] = cursor.clone();
        place
    };
    let alice = w.user("alice");
    let asked = w.home.fetches;
    let delta = w.ask(alice, resume(&at(&early["cursor"]), 500));
    assert_eq!((&delta["mode"], ids(&delta)), (&json!("delta"), vec!["n2"]));
    assert_eq!(
        w.ask(alice, resume(&at(&late["cursor"]), 500))["data"],
        json!([])
    );
    assert_eq!(w.home.fetches, asked);
    let full = w.ask(alice, resume(&first, 500));
    assert_eq!(
        (&full["mode"], ids(&full)),
        (&json!("full"), vec!["k0", "n1", "n2"])
    );
    assert_eq!(w.home.fetches, asked + 1);
}
