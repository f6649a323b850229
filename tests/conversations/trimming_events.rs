//! Event channels keep so many events, and those of so many days.

use serde_json::{Value, json};
use tidewire::limits;

use super::world::World;
use super::{code, gist, ids};

const HOUR: u64 = 60 * 60 * 1000;
const DAY: u64 = 24 * HOUR;

fn with(rule: Value) -> World {
    let mut doc = json!({ "read": "user", "write": "user", "keep": "every" });
    doc.as_object_mut()
        .unwrap()
        .extend(rule.as_object().unwrap().clone());
    World::with_channels(&json!({ "log": doc, "rows": { "read": "user", "write": "user" } }))
}

fn change(w: &mut World, action: &str, key: &str) -> Value {
    let body = json!({ "channel": "log", "action": action, "key": key, "data": {} });
    let (status, answer) = w.broadcast(body);
    assert_eq!(status, 200, "{answer}");
    answer
}

fn create(w: &mut World, keys: std::ops::Range<usize>) {
    for n in keys {
        change(w, "create", &format!("k{n}"));
    }
}

/// How many events the log holds, with what edits replaced.
fn held(w: &World) -> u64 {
    let count = |table: &str| w.sqlite.number(&format!("SELECT count(*) FROM {table}"));
    count("rows") + count("versions")
}

/// Lets the alarm ring whenever it is due, for so long.
fn pass(w: &mut World, ms: u64) {
    let end = w.now.plus(ms);
    for _ in 0..10_000 {
        let Some(at) = w.alarm.filter(|at| *at <= end) else {
            w.now = end;
            return;
        };
        w.now = w.now.max(at);
        assert!(w.ring());
    }
    panic!("trimming does not end");
}

#[test]
fn within_an_hour_the_newest_so_many_are_left() {
    let mut w = with(json!({ "retain": { "count": 10 } }));
    create(&mut w, 0..13);
    assert_eq!(held(&w), 13, "no write has had to trim");
    pass(&mut w, 61 * 60_000);
    assert_eq!(held(&w), 10);
    let alice = w.user("alice");
    assert_eq!(ids(&w.subscribe(alice, "log"))[..2], ["k3", "k4"]);
    pass(&mut w, 100 * DAY);
    assert_eq!((held(&w), w.alarm), (10, None), "then it sleeps for good");
}

#[test]
fn a_write_trims_a_channel_that_is_crowded() {
    for (count, over) in [(1, 4), (10, 4), (40, 10), (200, 50), (400, 64)] {
        let mut w = with(json!({ "retain": { "count": count } }));
        let mut most = 0;
        for n in 0..(count + 3 * over) as usize {
            create(&mut w, n..n + 1);
            most = most.max(held(&w));
        }
        assert_eq!((most, held(&w)), (count + over - 1, count), "{count}");
    }
}

#[test]
fn batches_trim_what_they_crowd_out() {
    let mut w = with(json!({ "retain": { "count": 10 } }));
    for part in 0..3 {
        let make = |n| json!({ "action": "create", "key": format!("k{part}-{n}"), "data": {} });
        let changes: Vec<Value> = (0..limits::BATCH_CHANGES).map(make).collect();
        assert_eq!(
            w.broadcast_batch(json!({ "channel": "log", "changes": changes }))
                .0,
            200
        );
        assert!(held(&w) <= 14, "{}", held(&w));
    }
}

#[test]
fn a_cursor_behind_the_trim_gets_full_with_what_is_kept() {
    let mut w = with(json!({ "retain": { "count": 10 } }));
    let alice = w.user("alice");
    let empty = w.subscribe(alice, "log");
    let view = &empty["view"];
    create(&mut w, 0..3);
    let third = w.messages(alice)[2]["cursor"].clone();
    create(&mut w, 3..14);
    assert_eq!(held(&w), 10, "k0 to k3 are gone");
    for (cursor, mode, first) in [
        (&empty["cursor"], "full", "k4"),
        (&third, "full", "k4"),
        (&w.messages(alice)[0]["cursor"], "delta", "k4"),
    ] {
        w.sleep();
        let back = w.user("alice");
        let page = w.resume(back, "log", cursor, view);
        assert_eq!((&page["mode"], ids(&page)[0]), (&json!(mode), first));
        assert_eq!(ids(&page).len(), 10);
    }
}

#[test]
fn a_full_answer_that_trimming_overtakes_begins_again() {
    let mut w = with(json!({ "edits": true, "retain": { "count": 10 } }));
    let alice = w.user("alice");
    create(&mut w, 0..3);
    change(&mut w, "update", "k0");
    let ask = |w: &mut World, page: &Value| {
        let message = json!({ "type": "subscribe", "channel": "log", "limit": 2,
            "cursor": page["cursor"], "view": page["view"] });
        w.ask(alice, message)
    };
    let first = ask(&mut w, &json!({}));
    assert_eq!(
        gist(first["changes"].as_array().unwrap()),
        ["create k0", "create k1"]
    );
    create(&mut w, 3..13);
    // What became of k0 has gone: who goes on would keep its old state.
    let again = ask(&mut w, &first);
    assert_eq!(
        (&again["mode"], ids(&again)),
        (&json!("full"), vec!["k3", "k4"])
    );
    let next = ask(&mut w, &again);
    assert_eq!(
        (&next["mode"], ids(&next)),
        (&json!("delta"), vec!["k5", "k6"])
    );
}

#[test]
fn a_full_answer_below_a_reset_goes_on() {
    let mut w = with(json!({ "edits": true, "retain": { "count": 10 } }));
    let alice = w.user("alice");
    create(&mut w, 0..15);
    w.call(tidewire::Call::BroadcastReset, json!({ "channel": "log" }));
    let mut page = json!({ "more": true });
    let mut found = 0;
    while page["more"] == true {
        page = w.ask(
            alice,
            json!({ "type": "subscribe", "channel": "log", "limit": 4,
                "cursor": page["cursor"], "view": page["view"] }),
        );
        found += ids(&page).len();
        assert!(found <= 11, "the answer ends");
    }
    assert_eq!(found as u64, held(&w));
}

#[test]
fn events_end_at_their_age() {
    let mut w = with(json!({ "retain": { "days": 2 } }));
    create(&mut w, 0..1);
    pass(&mut w, DAY);
    create(&mut w, 1..2);
    pass(&mut w, DAY - 1);
    assert_eq!(held(&w), 2, "nothing is two days old");
    pass(&mut w, HOUR);
    assert_eq!(held(&w), 1);
    pass(&mut w, DAY);
    assert_eq!(held(&w), 0);
    w.sleep();
    assert_eq!(w.stats()["seq"], 2);
    assert_eq!(change(&mut w, "create", "k0")["seq"], 3);
}

#[test]
fn the_stricter_bound_wins() {
    let mut w = with(json!({ "retain": { "count": 10, "days": 1 } }));
    create(&mut w, 0..20);
    assert!(held(&w) < 14);
    pass(&mut w, DAY + HOUR);
    assert_eq!(held(&w), 0);
}

#[test]
fn without_bounds_events_and_edits_are_kept_for_good() {
    let mut w = with(json!({ "edits": true }));
    let alice = w.user("alice");
    let before = w.subscribe(alice, "log");
    for action in ["create", "update", "delete"] {
        change(&mut w, action, "k0");
    }
    create(&mut w, 1..300);
    w.drop(alice);
    pass(&mut w, 400 * DAY);
    assert_eq!(held(&w), 302);
    let alice = w.user("alice");
    let after = w.resume(alice, "log", &before["cursor"], &before["view"]);
    let changes = after["changes"].as_array().unwrap();
    assert_eq!(gist(&changes[..3]), ["create k0", "update k0", "delete k0"]);
}

#[test]
fn edits_and_deletes_count_and_age_as_events() {
    let mut w = with(json!({ "edits": true, "retain": { "count": 10 } }));
    create(&mut w, 0..2);
    for _ in 0..9 {
        change(&mut w, "update", "k0");
    }
    change(&mut w, "delete", "k1");
    assert_eq!(held(&w), 12);
    pass(&mut w, HOUR + 60_000);
    assert_eq!(held(&w), 10);
    let alice = w.user("alice");
    let page = w.subscribe(alice, "log");
    assert_eq!(ids(&page), ["k0"]);
    let changes = page["changes"].as_array().unwrap();
    assert_eq!(
        (changes.len(), gist(&changes[..1])),
        (9, vec!["update k0".to_owned()])
    );
    // Whoever begins with an edit still has the whole event.
    assert_eq!(changes[0]["data"], json!({ "id": "k0" }));
    create(&mut w, 2..12);
    pass(&mut w, 2 * HOUR);
    w.messages(alice);
    let page = w.subscribe(alice, "log");
    assert_eq!(ids(&page).len(), 10, "k0 and its edits are gone");
}

#[test]
fn the_key_of_a_trimmed_event_is_free_and_a_repeat_is_still_known() {
    let mut w = with(json!({ "edits": true, "retain": { "count": 10 } }));
    let alice = w.user("alice");
    let first = w.create(alice, "m1", "log", json!({ "id": "k" }));
    assert_eq!(
        code(&w.create(alice, "m2", "log", json!({ "id": "k" }))),
        "conflict"
    );
    create(&mut w, 0..13);
    let repeat = w.create(alice, "m1", "log", json!({ "id": "k" }));
    assert_eq!(
        (&repeat["replayed"], &repeat["data"]),
        (&json!(true), &Value::Null)
    );
    assert_eq!(repeat["cursor"], first["cursor"]);
    assert_eq!(
        code(&w.update(alice, "m3", "log", json!({ "id": "k" }))),
        "not_found"
    );
    assert_eq!(
        w.create(alice, "m4", "log", json!({ "id": "k" }))["type"],
        "ack"
    );
}

#[test]
fn old_events_go_in_bounded_steps_and_through_sleep_between_them() {
    let mut w = with(json!({ "edits": true, "retain": { "days": 1 } }));
    for action in ["create", "update", "delete"] {
        let make = |n| json!({ "action": action, "key": format!("k{n}"), "data": {} });
        let changes: Vec<Value> = (0..limits::BATCH_CHANGES).map(make).collect();
        assert_eq!(
            w.broadcast_batch(json!({ "channel": "log", "changes": changes }))
                .0,
            200
        );
    }
    let mut left = held(&w);
    assert_eq!(left, 3 * limits::BATCH_CHANGES as u64);
    w.advance(DAY);
    for step in 0.. {
        w.sleep();
        w.advance(60_000);
        if !w.ring() {
            break;
        }
        let now = held(&w);
        assert!(left - now <= limits::SWEEP_ROWS as u64, "step {step}");
        left = now;
        let alice = w.user("alice");
        let page = w.subscribe(alice, "log");
        assert_eq!(page["mode"], "full", "what is left makes sense at any step");
    }
    assert_eq!(left, 0);
    w.sleep();
    assert_eq!(w.stats()["seq"], 3 * limits::BATCH_CHANGES);
}

#[test]
fn events_that_come_during_a_round_are_trimmed_in_time() {
    let mut w = with(json!({ "retain": { "days": 1 } }));
    for part in 0..2 {
        let make = |n| json!({ "action": "create", "key": format!("k{part}-{n}"), "data": {} });
        let changes: Vec<Value> = (0..limits::BATCH_CHANGES).map(make).collect();
        w.broadcast_batch(json!({ "channel": "rows", "changes": changes }));
    }
    create(&mut w, 0..1);
    w.advance(limits::RETENTION_MS + 60_000);
    assert!(w.ring(), "the round is past the log and among the rows");
    create(&mut w, 1..2);
    assert_eq!(
        w.sqlite
            .number("SELECT count(*) FROM rows WHERE channel = 'log'"),
        1
    );
    pass(&mut w, DAY + 2 * HOUR);
    assert_eq!(
        w.sqlite
            .number("SELECT count(*) FROM rows WHERE channel = 'log'"),
        0
    );
}

#[test]
fn a_smaller_bound_takes_effect_with_the_next_event() {
    let mut w = with(json!({ "retain": { "count": 100 } }));
    create(&mut w, 0..50);
    let mut less = with(json!({ "retain": { "count": 10 } }));
    // The same log, after a deploy.
    std::mem::swap(&mut less.sqlite, &mut w.sqlite);
    (less.now, less.alarm) = (w.now, w.alarm);
    less.sleep();
    create(&mut less, 50..51);
    pass(&mut less, HOUR + 60_000);
    assert_eq!(held(&less), 10);
}

#[test]
fn a_log_of_version_2_gains_what_events_need() {
    let mut w = with(json!({ "edits": true, "retain": { "count": 10 } }));
    w.sqlite.execute(
        "DROP TABLE versions; ALTER TABLE rows DROP COLUMN nth; ALTER TABLE rows DROP COLUMN edit;
         ALTER TABLE channels DROP COLUMN trimmed; ALTER TABLE channels DROP COLUMN outside;
         ALTER TABLE channels DROP COLUMN outside_at; ALTER TABLE channels DROP COLUMN previous;
         ALTER TABLE channels DROP COLUMN previous_at; DROP TABLE claims;
         UPDATE meta SET value = '2' WHERE name = 'schema';
         INSERT INTO rows (channel, key, seq, data, at) VALUES ('log', 'old', 1, '{\"id\":\"old\"}', 1)",
    );
    w.sleep();
    assert_eq!(change(&mut w, "update", "old")["seq"], 2);
    let alice = w.user("alice");
    let page = w.subscribe(alice, "log");
    let changes = page["changes"].as_array().unwrap();
    assert_eq!(gist(changes), ["create old", "update old"]);
    create(&mut w, 0..10);
    pass(&mut w, HOUR + 60_000);
    assert_eq!(
        held(&w),
        10,
        "what has no number is older than all that has one"
    );
}
