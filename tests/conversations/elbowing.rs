//! Whoever pushes does not keep others from their turn.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::world::World;
use super::world::readers::reads;

/// Rows of which a page holds five.
fn fill(w: &mut World, rows: usize) {
    for i in 0..rows {
        let change = json!({ "channel": "feed", "action": "create", "key": i.to_string(),
            "data": { "x": "x".repeat(170_000) } });
        assert_eq!(w.broadcast(change).0, 200);
    }
}

fn ask(channel: &str) -> Value {
    json!({ "type": "subscribe", "id": "s", "channel": channel })
}

#[test]
fn whoever_waits_as_long_as_it_is_told_is_answered_however_others_push() {
    const STEP: u64 = 50;
    let mut w = World::new();
    fill(&mut w, 5);
    let pushing: Vec<ConnId> = (0..20).map(|_| w.user("mallory")).collect();
    let honest = w.user("bob");
    let (mut refused, mut answered, mut due) = (0, 0, 1_000);
    for step in 0..400 {
        for conn in pushing.iter().skip(step % 2).step_by(2) {
            if w.closed(*conn).is_none() {
                w.ask(*conn, ask("feed"));
            }
        }
        let now = step as u64 * STEP;
        if now >= due {
            let answer = w.ask(honest, ask("todos"));
            due = match answer["error"]["retryAfterMs"].as_u64() {
                None => {
                    answered += 1;
                    now + 1_000
                }
                Some(wait) => {
                    refused += 1;
                    now + wait
                }
            };
        }
        w.advance(STEP);
    }
    assert!(refused > 0, "nobody pushed");
    assert!(
        answered >= refused,
        "{answered} answers, {refused} refusals"
    );
}

#[test]
fn pages_of_streams_wait_for_a_lane_like_those_of_others() {
    let mut w = World::new();
    fill(&mut w, 100);
    let honest = w.user("bob");
    let streams: Vec<ConnId> = (0..60)
        .filter_map(|_| w.slow_stream(&reads("mallory", "feed")).ok())
        .collect();
    w.advance(5_000);
    for _ in 0..15 {
        for conn in &streams {
            if !w.reader_ended(*conn) {
                w.next_page(*conn);
            }
        }
    }
    let answer = w.ask(honest, ask("todos"));
    let wait = answer["error"]["retryAfterMs"].as_u64().unwrap_or(0);
    assert!(wait < 2 * limits::DELTAS_AHEAD_MS, "{answer}");
}

#[test]
fn a_made_up_page_cursor_does_not_get_around_the_interval() {
    let mut w = World::new();
    let alice = w.user("alice");
    let first = w.subscribe(alice, "todos");
    let text = |name: &str| first[name].as_str().expect("a text").to_owned();
    let mut message = ask("todos");
    message["view"] = first["view"].clone();
    message["cursor"] = json!(format!("{}.0.{}", text("cursor"), text("view")));
    let answers = (0..2 * limits::INTERVAL_BURST).map(|_| w.ask(alice, message.clone()));
    let answered = answers
        .filter(|answer| answer["type"] == "snapshot")
        .count();
    assert_eq!(
        answered as u64,
        limits::INTERVAL_BURST - 1,
        "beside the first"
    );
}
