//! Retention: tombstones and losses end, floors rise, and the sequence goes on.

use serde_json::{Value, json};
use tidewire::limits;

use super::world::World;
use super::{ids, seq};

/// Lets time pass until the alarm has nothing overdue left.
fn trim(w: &mut World) {
    w.advance(limits::RETENTION_MS);
    for _ in 0..100 {
        w.advance(60_000);
        if !w.ring() {
            return;
        }
    }
    panic!("trimming does not end");
}

fn change(w: &mut World, action: &str, key: &str) -> Value {
    let body = json!({ "channel": "feed", "action": action, "key": key, "data": {} });
    let (status, answer) = w.broadcast(body);
    assert_eq!(status, 200, "{answer}");
    answer
}

#[test]
fn resume_after_trim_sends_full() {
    let mut w = World::new();
    change(&mut w, "create", "k1");
    let alice = w.user("alice");
    let before = w.subscribe(alice, "feed");
    w.drop(alice);
    change(&mut w, "create", "k2");
    change(&mut w, "delete", "k1");
    trim(&mut w);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 1);
    w.sleep();
    let alice = w.user("alice");
    let after = w.resume(alice, "feed", &before["cursor"], &before["view"]);
    assert_eq!((&after["mode"], ids(&after)), (&json!("full"), vec!["k2"]));
    let again = w.resume(alice, "feed", &after["cursor"], &after["view"]);
    assert_eq!(again["mode"], "delta");
}

#[test]
fn a_cursor_at_the_floor_still_resumes() {
    let mut w = World::new();
    change(&mut w, "create", "k1");
    let deleted = change(&mut w, "delete", "k1");
    let alice = w.user("alice");
    let view = w.subscribe(alice, "feed")["view"].clone();
    trim(&mut w);
    let alice = w.user("alice");
    let resumed = w.resume(alice, "feed", &deleted["cursor"], &view);
    assert_eq!(resumed["mode"], "delta");
}

#[test]
fn tombstones_live_for_the_retention_and_not_less() {
    let mut w = World::new();
    change(&mut w, "create", "k1");
    change(&mut w, "delete", "k1");
    w.advance(limits::RETENTION_MS - 1);
    w.sleep();
    assert!(!w.ring(), "nothing is due before the retention is over");
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 1);
    w.advance(1);
    assert!(w.ring());
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
}

#[test]
fn the_sequence_goes_on_after_everything_was_trimmed_and_the_object_slept() {
    let mut w = World::new();
    change(&mut w, "create", "k1");
    let last = change(&mut w, "delete", "k1");
    trim(&mut w);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
    w.sleep();
    assert_eq!(w.stats()["seq"], last["seq"]);
    assert_eq!(change(&mut w, "create", "k1")["seq"], 3);
}

#[test]
fn losses_are_trimmed_and_those_who_missed_them_get_full() {
    let mut w = World::new();
    let publish = |w: &mut World, to: &str| {
        let body = json!({
            "channel": "feed", "action": "create", "key": "k", "data": {}, "to": [to]
        });
        assert_eq!(w.broadcast(body).0, 200);
    };
    let alice = w.user("alice");
    publish(&mut w, "user:alice");
    let before = w.subscribe(alice, "feed");
    w.drop(alice);
    publish(&mut w, "user:bob");
    assert_eq!(
        w.sqlite
            .number("SELECT count(*) FROM rows WHERE lost IS NOT NULL"),
        1
    );
    trim(&mut w);
    assert_eq!(
        w.sqlite
            .number("SELECT count(*) FROM rows WHERE lost IS NOT NULL"),
        0
    );
    let alice = w.user("alice");
    let after = w.resume(alice, "feed", &before["cursor"], &before["view"]);
    assert_eq!((&after["mode"], ids(&after).len()), (&json!("full"), 0));
}

#[test]
fn floors_are_per_channel() {
    let mut w = World::new();
    let alice = w.user("alice");
    let (feed, todos) = (w.subscribe(alice, "feed"), w.subscribe(alice, "todos"));
    change(&mut w, "create", "k");
    change(&mut w, "delete", "k");
    trim(&mut w);
    let alice = w.user("alice");
    let resumed = w.resume(alice, "todos", &todos["cursor"], &todos["view"]);
    assert_eq!(resumed["mode"], "delta");
    let resumed = w.resume(alice, "feed", &feed["cursor"], &feed["view"]);
    assert_eq!(resumed["mode"], "full");
}

#[test]
fn trimming_goes_in_bounded_steps_and_survives_sleep_between_them() {
    let mut w = World::new();
    for part in 0..3 {
        for action in ["create", "delete"] {
            let change = |i| {
                json!({
                    "action": action, "key": format!("k{part}-{i}"), "data": {}
                })
            };
            let changes: Vec<Value> = (0..limits::BATCH_CHANGES).map(change).collect();
            let body = json!({ "channel": "feed", "changes": changes });
            assert_eq!(w.broadcast_batch(body).0, 200);
        }
    }
    w.advance(limits::RETENTION_MS);
    let mut left = 3 * limits::BATCH_CHANGES as u64;
    for step in 0.. {
        w.sleep();
        w.advance(60_000);
        if !w.ring() {
            break;
        }
        let now = w.sqlite.number("SELECT count(*) FROM rows");
        assert!(
            left - now <= limits::SWEEP_ROWS as u64,
            "step {step} took {}",
            left - now
        );
        left = now;
    }
    assert_eq!(left, 0);
}

#[test]
fn a_tombstone_made_during_a_round_is_trimmed_in_time() {
    let mut w = World::new();
    let publish = |w: &mut World, channel: &str, action: &str| {
        let body = json!({ "channel": channel, "action": action, "key": "k", "data": {} });
        assert_eq!(w.broadcast(body).0, 200);
    };
    publish(&mut w, "feed", "create");
    for _ in 0..2 {
        let change = |i| json!({ "action": "create", "key": format!("k{i}"), "data": {} });
        let changes: Vec<Value> = (0..limits::BATCH_CHANGES).map(change).collect();
        w.broadcast_batch(json!({ "channel": "todos", "changes": changes }));
    }
    publish(&mut w, "todos", "create");
    w.advance(limits::RETENTION_MS + 60_000);
    assert!(w.ring());
    // The round has passed the first channel and is in the second.
    publish(&mut w, "feed", "delete");
    for _ in 0..3 {
        trim(&mut w);
    }
    assert_eq!(
        w.sqlite
            .number("SELECT count(*) FROM rows WHERE data IS NULL"),
        0
    );
}

#[test]
fn the_steps_of_a_round_follow_each_other_and_rounds_keep_to_minutes() {
    let mut w = World::new();
    for part in 0..2 {
        let change = |i| json!({ "action": "create", "key": format!("k{part}-{i}"), "data": {} });
        let changes: Vec<Value> = (0..limits::BATCH_CHANGES).map(change).collect();
        w.broadcast_batch(json!({ "channel": "feed", "changes": changes }));
    }
    let first = w.alarm.unwrap();
    assert_eq!(first.0 % limits::ALARM_GRAIN_MS, 0);
    w.now = first.plus(7);
    assert!(w.ring());
    assert_eq!(w.alarm, Some(w.now.plus(limits::SWEEP_STEP_MS)));
}

#[test]
fn the_rows_of_a_day_are_trimmed_in_one_round_and_not_in_one_for_each_hour() {
    let mut w = World::new();
    let hours = limits::DAY_MS / limits::SWEEP_PAUSE_MS;
    for hour in 0..hours {
        change(&mut w, "create", &format!("k{hour}"));
        change(&mut w, "delete", &format!("k{hour}"));
        w.advance(limits::SWEEP_PAUSE_MS);
    }
    let mut rounds = 0;
    while let Some(due) = w.alarm {
        w.now = due;
        assert!(w.ring());
        rounds += 1;
        assert!(rounds < hours, "trimming does not end");
    }
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
    // One when the first is old enough, one a day later with all others.
    assert_eq!(rounds, 2);
}

#[test]
fn a_space_with_nothing_to_trim_lets_the_object_sleep_for_good() {
    let mut w = World::new();
    change(&mut w, "create", "k1");
    trim(&mut w);
    trim(&mut w);
    assert_eq!(w.alarm, None);
    change(&mut w, "delete", "k1");
    assert_eq!(w.alarm, Some(w.now.plus(limits::RETENTION_MS)));
    trim(&mut w);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 0);
}

#[test]
fn a_clock_that_jumps_back_loses_nothing() {
    let mut w = World::new();
    let alice = w.live("alice", "feed");
    change(&mut w, "create", "k1");
    let first = w.one(alice);
    w.now = w.now.minus(60 * 60 * 1000);
    w.sleep();
    change(&mut w, "create", "k2");
    let second = w.one(alice);
    assert!(second["at"].as_u64() >= first["at"].as_u64());
    assert_eq!(seq(&second), seq(&first) + 1);
}

/// Of a channel whose rows live elsewhere the log keeps nothing for longer; also what was published whole.
#[test]
fn whole_rows_of_a_source_are_trimmed_too() {
    let mut w = World::elsewhere();
    // The round that a new log begins with.
    trim(&mut w);
    for published in [1, 2] {
        w.broadcast(json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }));
        assert_eq!(w.sqlite.number("SELECT count(*) FROM rows"), 1);
        trim(&mut w);
        assert_eq!(
            w.sqlite.number("SELECT count(*) FROM rows"),
            0,
            "after {published}"
        );
    }
}
