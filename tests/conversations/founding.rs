//! New spaces: the default one counts who has brought how many into being, by day.

use serde_json::{Value, json};
use tidewire::{Input, limits};

use super::code;
use super::world::World;

fn refusal(w: &mut World, owner: &str) -> (u16, Value) {
    let effects = w.engine.handle(Input::NewSpace { owner }, w.now);
    let reply = effects.reply.unwrap();
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

#[test]
fn an_owner_has_20_new_spaces_a_day_and_no_more() {
    let mut w = World::new();
    for _ in 0..limits::NEW_SPACES_PER_DAY {
        assert_eq!(w.new_space("alice"), 200);
    }
    let (status, body) = refusal(&mut w, "alice");
    assert_eq!((status, code(&body)), (429, "rate_limited"));
    assert_eq!(w.new_space("bob"), 200, "each counts alone");
    w.sleep();
    assert_eq!(w.new_space("alice"), 429);
}

#[test]
fn at_midnight_utc_the_count_begins_anew_and_what_was_is_forgotten() {
    let mut w = World::with_limits(&json!({ "newSpacesPerDay": 1 }));
    w.advance(3_600_000);
    assert_eq!((w.new_space("alice"), w.new_space("bob")), (200, 200));
    let (_, body) = refusal(&mut w, "alice");
    let wait = body["error"]["retryAfterMs"].as_u64().unwrap();
    assert_eq!((w.now.0 + wait) % limits::DAY_MS, 0);
    w.advance(wait - 1);
    assert_eq!(w.new_space("alice"), 429);
    w.advance(1);
    assert_eq!(w.new_space("alice"), 200);
    assert_eq!(w.new_space("alice"), 429);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM new_spaces"), 1);
}

#[test]
fn none_at_all_can_be_demanded() {
    let mut w = World::with_limits(&json!({ "newSpacesPerDay": 0 }));
    assert_eq!(w.new_space("alice"), 429);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM new_spaces"), 0);
}

#[test]
fn who_it_was_is_not_written_down() {
    let mut w = World::new();
    for owner in ["alice", "192.0.2.7"] {
        assert_eq!(w.new_space(owner), 200);
        let plain = format!("SELECT count(*) FROM new_spaces WHERE instr(owner, '{owner}')");
        assert_eq!(w.sqlite.number(&plain), 0);
    }
    assert_eq!(w.sqlite.number("SELECT count(*) FROM new_spaces"), 2);
}

#[test]
fn a_count_that_cannot_be_written_opens_nothing() {
    let mut w = World::new();
    w.sqlite.fail_after(2);
    assert_eq!(w.new_space("alice"), 503);
    assert_eq!(w.sqlite.number("SELECT count(*) FROM new_spaces"), 0);
    assert_eq!(w.new_space("alice"), 200);
}
