//! Readers and writers over HTTP of channels whose rows live elsewhere: they are answered when the source
//! has.

use serde_json::{Value, json};
use tidewire::{ConnId, Input, limits};

use super::world::World;
use super::world::readers::reads;
use super::{NOTHING, code, gist, ids};

fn create(id: &str, channel: &str, key: &str) -> Value {
    json!({ "id": id, "channel": channel, "action": "create", "data": { "id": key } })
}

/// A world whose home holds `k0`, `k1` and `k2` of `plain`.
fn home() -> World {
    let mut w = World::elsewhere();
    for row in 0..3 {
        w.put("plain", json!({ "id": format!("k{row}") }));
    }
    w
}

/// The answer to a request that has waited.
#[track_caller]
fn reply(w: &mut World, conn: ConnId) -> (u16, Value) {
    let reply = w.reply(conn).expect("an answer");
    (reply.status, serde_json::from_str(&reply.body).unwrap())
}

#[test]
fn a_page_is_answered_when_the_source_has() {
    let mut w = home();
    w.slow = true;
    let reader = w.wait(&reads("alice", "plain"));
    let bob = w.user("bob");
    assert_eq!(w.reply(reader), None);
    w.answer_first();
    let (status, page) = reply(&mut w, reader);
    assert_eq!(
        (status, &page["mode"], ids(&page)),
        (200, &json!("full"), vec!["k0", "k1", "k2"])
    );
    assert_eq!(
        (&page["more"], w.stats()["connections"].clone()),
        (&json!(false), json!(1))
    );
    w.slow = false;
    w.create(bob, "m1", "plain", json!({ "id": "k3" }));
    let (_, delta) = w.page(&reads("alice", "plain").after(&page));
    assert_eq!(
        (&delta["mode"], ids(&delta), w.home.fetches),
        (&json!("delta"), vec!["k3"], 1)
    );
}

#[test]
fn pages_over_http_follow_the_source() {
    let mut w = home();
    let (_, mut page) = w.page(&reads("alice", "plain").with("limit", 2));
    assert_eq!(
        (ids(&page), &page["more"]),
        (vec!["k0", "k1"], &json!(true))
    );
    (_, page) = w.page(&reads("alice", "plain").with("limit", 2).after(&page));
    assert_eq!((ids(&page), &page["more"]), (vec!["k2"], &json!(false)));
}

#[test]
fn a_source_that_is_late_is_503_with_a_time_to_wait() {
    let mut w = home();
    w.slow = true;
    let reader = w.wait(&reads("alice", "plain"));
    let (ask, answer) = w.look();
    w.late(ask);
    let refusal = w.reply(reader).unwrap();
    assert_eq!(
        (refusal.status, refusal.retry_after_ms),
        (503, Some(limits::SOURCE_RETRY_MS))
    );
    w.answered(ask, answer);
    assert_eq!(w.reply(reader), None, "answered once");
}

#[test]
fn a_reader_that_waits_is_answered_at_once_by_a_source_and_held_by_the_log() {
    let mut w = home();
    let (_, page) = w.page(&reads("alice", "plain").with("wait", 25));
    let bob = w.user("bob");
    let alice = w.wait(&reads("alice", "plain").with("wait", 25).after(&page));
    w.create(bob, "m1", "plain", json!({ "id": "k3" }));
    assert_eq!(ids(w.answer(alice).unwrap()), ["k3"]);
    // Also where the source is asked whether she may.
    let (_, page) = w.page(&reads("alice", "todos").with("wait", 25));
    w.slow = true;
    let alice = w.wait(&reads("alice", "todos").with("wait", 25).after(&page));
    assert_eq!(
        (w.questions.len(), w.stats()["connections"].clone()),
        (1, json!(1))
    );
    w.settle();
    assert_eq!((w.reply(alice), w.answer(alice)), (None, None), "she stays");
    w.slow = false;
    w.create(bob, "m2", "todos", json!({ "id": "t" }));
    assert_eq!(ids(w.answer(alice).unwrap()), ["t"]);
    assert_eq!(w.home.fetches, 2);
}

#[test]
fn a_stream_begins_with_the_source_and_goes_on_with_the_log() {
    let mut w = home();
    w.slow = true;
    let stream = w
        .slow_stream(&reads("alice", "plain").with("limit", 2))
        .unwrap();
    w.settle();
    assert_eq!(ids(&w.event(stream)), ["k0", "k1"]);
    assert!(w.next_page(stream));
    assert_eq!(w.stream_events(stream), NOTHING, "its source is asked");
    w.settle();
    let last = w.event(stream);
    assert_eq!((ids(&last), &last["more"]), (vec!["k2"], &json!(false)));
    w.slow = false;
    let bob = w.user("bob");
    w.create(bob, "m1", "plain", json!({ "id": "k3" }));
    assert_eq!(gist(&w.stream_events(stream)), ["create k3"]);
    // It resumes by the id of its last event, from the log.
    w.create(bob, "m2", "plain", json!({ "id": "k4" }));
    w.stream_events(stream);
    let mut again = reads("alice", "plain");
    again.last_id = Some(w.last_id(stream));
    w.break_off(stream);
    w.create(bob, "m3", "plain", json!({ "id": "k5" }));
    let stream = w.stream(&again);
    assert_eq!((ids(&w.event(stream)), w.home.fetches), (vec!["k5"], 2));
}

#[test]
fn a_stream_whose_source_is_late_ends_with_the_reason() {
    let mut w = home();
    let stream = w
        .slow_stream(&reads("alice", "plain").with("limit", 2))
        .unwrap();
    w.stream_events(stream);
    w.slow = true;
    w.next_page(stream);
    let (ask, answer) = w.look();
    w.late(ask);
    assert_eq!(code(&w.event(stream)), "unavailable");
    assert!(w.reader_ended(stream));
    w.answered(ask, answer);
    assert_eq!(w.stream_events(stream), NOTHING);
}

#[test]
fn a_stream_that_breaks_off_while_its_source_is_asked_is_forgotten() {
    let mut w = home();
    let stream = w
        .slow_stream(&reads("alice", "plain").with("limit", 2))
        .unwrap();
    w.slow = true;
    w.next_page(stream);
    w.break_off(stream);
    let before = w.events.len();
    w.settle();
    assert_eq!(
        (w.events.len(), w.stats()["connections"].clone()),
        (before, json!(0))
    );
}

#[test]
fn mutations_of_all_kinds_of_channels_are_executed_in_order() {
    let mut w = World::elsewhere();
    let bob = w.live("bob", "plain");
    w.subscribe(bob, "here");
    w.slow = true;
    let update = json!({
        "id": "m4", "channel": "plain", "action": "update", "key": "a", "data": { "n": 2 }
    });
    let request = w.write_later(
        "alice",
        json!([
            create("m1", "here", "h"),
            create("m2", "plain", "a"),
            create("m3", "here", "i"),
            update,
            create("m2", "plain", "a"),
            create("m5", "nowhere", "x"),
            create("m6", "plain", "b")
        ]),
    );
    assert_eq!(
        gist(&w.messages(bob)),
        ["create h"],
        "the first needs no source"
    );
    assert_eq!((w.questions.len(), w.reply(request)), (1, None));
    w.answer_first();
    assert_eq!(gist(&w.messages(bob)), ["create a", "create i"]);
    w.settle();
    assert_eq!(gist(&w.messages(bob)), ["update a", "create b"]);
    let (status, body) = reply(&mut w, request);
    let results = body["results"].as_array().unwrap();
    let ids: Vec<&Value> = results.iter().map(|result| &result["id"]).collect();
    assert_eq!(
        (status, ids),
        (
            200,
            ["m1", "m2", "m3", "m4", "m2", "m5", "m6"]
                .each_ref()
                .map(|id| json!(id))
                .iter()
                .collect()
        )
    );
    assert_eq!(results[3]["data"], json!({ "id": "a", "n": 2 }));
    assert_eq!(results[4]["replayed"], true, "within one request, too");
    assert_eq!(code(&results[5]), "unknown_channel");
    assert_eq!(w.home.writes, 3);
}

#[test]
fn a_request_goes_on_after_a_mutation_that_came_too_late() {
    let mut w = World::elsewhere();
    w.slow = true;
    let request = w.write_later(
        "alice",
        json!([
            create("m1", "plain", "a"),
            create("m2", "plain", "a"),
            create("m3", "plain", "b")
        ]),
    );
    let (ask, answer) = w.look();
    w.late(ask);
    assert_eq!(w.questions.len(), 1, "the second row is asked for");
    w.settle();
    let (_, body) = reply(&mut w, request);
    assert_eq!(
        [code(&body["results"][0]), code(&body["results"][1])],
        ["unavailable"; 2]
    );
    assert_eq!(body["results"][2]["type"], "ack");
    w.answered(ask, answer);
    let (_, body) = w.write(Some("alice"), json!([create("m1", "plain", "a")]));
    assert_eq!(body["results"][0]["replayed"], true);
}

#[test]
fn a_request_whose_object_crashes_is_sent_again_and_executed_once() {
    let mut w = World::elsewhere();
    w.slow = true;
    let request = w.write_later("alice", json!([create("m1", "plain", "a")]));
    let _ = w.look();
    w.sleep();
    w.slow = false;
    assert_eq!(w.reply(request), None);
    let (_, body) = w.write(Some("alice"), json!([create("m1", "plain", "a")]));
    assert_eq!(body["results"][0]["replayed"], true);
    assert_eq!(w.home.all("plain").len(), 1);
}

#[test]
fn a_timer_that_rings_for_a_reader_whose_source_is_asked_changes_nothing() {
    let mut w = home();
    w.slow = true;
    let reader = w.wait(&reads("alice", "plain").with("wait", 1));
    w.input(Input::TimeOver { conn: reader });
    w.input(Input::NextPage { conn: reader });
    assert_eq!(w.questions.len(), 1);
    w.settle();
    assert_eq!(reply(&mut w, reader).0, 200);
}
