//! Streams: the snapshot and then every change, each with an id from which it resumes.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tidewire::{Call, ConnId, limits};

use super::world::World;
use super::world::readers::{Read, reads};
use super::{NOTHING, code, gist, ids, passes};

/// Comes back as a browser does: the same query, and the id of the last event.
#[track_caller]
fn again(w: &mut World, mut read: Read<'_>, conn: ConnId) -> ConnId {
    read.last_id = Some(w.last_id(conn));
    w.stream(&read)
}

#[test]
fn a_stream_is_a_snapshot_and_every_change_as_a_socket_gets_them() {
    let mut w = World::new();
    let (alice, carol) = (w.user("alice"), w.user("carol"));
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    let bob = w.stream(&reads("bob", "todos"));
    let first = w.event(bob);
    assert_eq!(
        (&first["type"], &first["mode"], ids(&first)),
        (&json!("snapshot"), &json!("full"), vec!["k1"])
    );
    w.subscribe(carol, "todos");
    w.create(alice, "m2", "todos", json!({ "id": "k2" }));
    let changes = [("update", "k1"), ("delete", "k2")]
        .map(|(action, key)| json!({ "action": action, "key": key, "data": { "done": true } }));
    w.broadcast_batch(json!({ "channel": "todos", "changes": changes }));
    let events = w.stream_events(bob);
    assert_eq!(events, w.messages(carol));
    assert_eq!(events.len(), 2);
    let (cursor, view) = (&events[1]["cursor"], &first["view"]);
    let id = format!("{};{}", cursor.as_str().unwrap(), view.as_str().unwrap());
    assert_eq!(w.last_id(bob), id);
}

#[test]
fn a_stream_that_breaks_off_resumes_where_it_was() {
    let mut w = World::new();
    let alice = w.user("alice");
    let bob = w.stream(&reads("bob", "todos"));
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    assert_eq!(w.stream_events(bob).len(), 2);
    w.break_off(bob);
    w.create(alice, "m2", "todos", json!({ "id": "k2" }));
    w.delete(alice, "m3", "todos", "k1");
    w.sleep();
    let bob = again(&mut w, reads("bob", "todos"), bob);
    let page = w.event(bob);
    assert_eq!(page["mode"], "delta");
    assert_eq!((ids(&page), &page["deleted"]), (vec!["k2"], &json!(["k1"])));
    let alice = w.user("alice");
    w.create(alice, "m4", "todos", json!({ "id": "k3" }));
    assert_eq!(w.event(bob)["key"], "k3");
}

#[test]
fn a_long_snapshot_comes_page_by_page_as_it_is_read_and_may_break_off_between() {
    let mut w = World::new();
    let alice = w.user("alice");
    for i in 0..5 {
        w.create(
            alice,
            &format!("m{i}"),
            "todos",
            json!({ "id": format!("k{i}") }),
        );
    }
    let read = || reads("bob", "todos").with("limit", 2);
    let bob = w.slow_stream(&read()).unwrap();
    assert_eq!(ids(&w.event(bob)), ["k0", "k1"]);
    // Not live yet: a change that comes now is on a later page, once.
    w.update(alice, "m5", "todos", json!({ "id": "k0", "new": true }));
    assert_eq!(w.stream_events(bob), NOTHING);
    assert!(w.next_page(bob));
    assert_eq!(ids(&w.event(bob)), ["k2", "k3"]);
    w.break_off(bob);
    let bob = again(&mut w, read(), bob);
    let page = w.event(bob);
    assert_eq!(
        (&page["mode"], ids(&page)),
        (&json!("delta"), vec!["k4", "k0"])
    );
    w.create(alice, "m6", "todos", json!({ "id": "live" }));
    assert_eq!(w.event(bob)["key"], "live");
    assert!(!w.next_page(bob));
}

#[test]
fn a_stream_gets_what_its_reader_may_see_and_no_presence_and_no_signals() {
    let mut w = World::new();
    let alice = w.user("alice");
    let bob = w.stream(&reads("bob", "gifts"));
    w.stream_events(bob);
    w.create(alice, "m1", "gifts", json!({ "id": "g1", "for": "carol" }));
    assert_eq!(w.stream_events(bob), NOTHING);
    w.broadcast(
        json!({ "channel": "gifts", "action": "update", "key": "g1", "data": { "for": "bob" } }),
    );
    assert_eq!(w.event(bob)["action"], "create");
    w.broadcast(
        json!({ "channel": "gifts", "action": "update", "key": "g1", "data": { "for": "carol" } }),
    );
    let gone = w.event(bob);
    assert_eq!(
        (&gone["action"], &gone["data"]),
        (&json!("delete"), &Value::Null)
    );
    let open = w.stream(&reads("bob", "open"));
    w.stream_events(open);
    let carol = w.live("carol", "open");
    let here = w.ask(
        carol,
        json!({ "type": "presence", "channel": "open", "state": 1 }),
    );
    assert_eq!(here["total"], 1, "a reader is not present");
    w.send(
        carol,
        json!({ "type": "signal", "channel": "open", "event": "typing" }),
    );
    assert_eq!(w.stream_events(open), NOTHING);
}

#[test]
fn a_large_batch_comes_in_parts_and_only_the_last_moves_the_id() {
    let mut w = World::new();
    let bob = w.stream(&reads("bob", "todos"));
    w.stream_events(bob);
    let before = w.last_id(bob);
    let row = |i: usize| {
        let data = json!({ "text": "x".repeat(200_000) });
        json!({ "action": "create", "key": format!("k{i}"), "data": data })
    };
    let changes: Vec<Value> = (0..10).map(row).collect();
    w.broadcast_batch(json!({ "channel": "todos", "changes": changes }));
    let parts = w.stream_events(bob);
    assert_eq!(parts.len(), 3);
    assert!(
        parts[..2]
            .iter()
            .all(|part| part["more"] == true && part["cursor"].is_null())
    );
    let cursor = parts[2]["cursor"].as_str().unwrap();
    assert!(w.last_id(bob).starts_with(cursor) && w.last_id(bob) != before);
}

#[test]
fn a_reset_ends_a_stream_and_takes_its_place_away() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "todos", json!({ "id": "k1" }));
    let bob = w.stream(&reads("bob", "todos"));
    w.stream_events(bob);
    w.call(Call::BroadcastReset, json!({ "channel": "todos" }));
    let reset = w.event(bob);
    assert_eq!(
        (&reset["type"], &reset["reason"]),
        (&json!("channel-reset"), &json!("reset"))
    );
    assert!(w.reader_ended(bob));
    assert_eq!(w.last_id(bob), "");
    assert_eq!(w.stats()["connections"], 1);
    let bob = again(&mut w, reads("bob", "todos"), bob);
    assert_eq!(w.event(bob)["mode"], "full");
    w.call(Call::BroadcastChange, json!({ "channel": "todos" }));
    assert_eq!(w.event(bob)["type"], "channel-change");
    assert!(!w.reader_ended(bob));
}

#[test]
fn other_topics_are_told_as_changes_and_then_count_for_the_place() {
    let mut w = World::new();
    let publish = |w: &mut World, key: &str, to: &str| {
        w.broadcast(json!({
            "channel": "todos", "action": "create", "key": key, "data": {}, "to": [to]
        }));
    };
    publish(&mut w, "r", "red");
    publish(&mut w, "b", "blue");
    let read = |topics| reads("bob", "todos").topics(topics);
    let bob = w.stream(&read(&["blue"]));
    assert_eq!(ids(&w.event(bob)), ["b"]);
    w.call(
        Call::Topics,
        json!({ "identity": "bob", "add": ["red"], "remove": ["blue"] }),
    );
    let batch = w.event(bob);
    assert_eq!(
        gist(batch["changes"].as_array().unwrap()),
        ["create r", "delete b"]
    );
    publish(&mut w, "r2", "red");
    assert_eq!(w.event(bob)["key"], "r2");
    publish(&mut w, "b2", "blue");
    assert_eq!(w.stream_events(bob), NOTHING);
    w.advance(1);
    let bob = again(&mut w, read(&["red"]), bob);
    let page = w.event(bob);
    assert_eq!(
        (&page["mode"], &page["data"]),
        (&json!("delta"), &json!([]))
    );
    // Without what was only granted live it has other eyes.
    w.call(Call::Topics, json!({ "identity": "bob", "add": ["green"] }));
    let bob = again(&mut w, read(&["red"]), bob);
    assert_eq!(w.event(bob)["mode"], "full");
}

#[test]
fn too_many_moves_or_a_closed_channel_reset_a_stream() {
    let mut w = World::new();
    let bob = w.stream(&reads("bob", "room:1").topics(&["room:1"]));
    w.stream_events(bob);
    w.call(
        Call::Topics,
        json!({ "identity": "bob", "remove": ["room:1"] }),
    );
    assert_eq!(w.event(bob)["type"], "channel-reset");
    assert!(w.reader_ended(bob) && w.last_id(bob).is_empty());
    for batch in 0..2 {
        let row = |i| json!({ "action": "create", "key": format!("k{batch}-{i}"), "data": {}, "to": ["red"] });
        let changes: Vec<Value> = (0..300).map(row).collect();
        w.broadcast_batch(json!({ "channel": "todos", "changes": changes }));
    }
    let bob = w.stream(&reads("bob", "todos"));
    w.stream_events(bob);
    w.call(Call::Topics, json!({ "identity": "bob", "add": ["red"] }));
    assert_eq!(w.event(bob)["reason"], "topics");
    assert!(w.reader_ended(bob));
}

#[test]
fn other_topics_between_two_pages_begin_the_answer_anew() {
    let mut w = World::new();
    let alice = w.user("alice");
    for i in 0..3 {
        w.create(
            alice,
            &format!("m{i}"),
            "todos",
            json!({ "id": format!("k{i}") }),
        );
    }
    w.broadcast(json!({
        "channel": "todos", "action": "create", "key": "r", "data": {}, "to": ["red"]
    }));
    let bob = w
        .slow_stream(&reads("bob", "todos").with("limit", 2))
        .unwrap();
    assert_eq!(ids(&w.event(bob)), ["k0", "k1"]);
    w.call(Call::Topics, json!({ "identity": "bob", "add": ["red"] }));
    while w.next_page(bob) {}
    let pages = w.stream_events(bob);
    let modes: Vec<&Value> = pages.iter().map(|page| &page["mode"]).collect();
    assert_eq!(modes, ["full", "delta"]);
    let all: Vec<&str> = pages.iter().flat_map(|page| ids(page)).collect();
    assert_eq!(all, ["k0", "k1", "k2", "r"]);
}

#[test]
fn a_stream_ends_with_its_token_and_says_so() {
    let mut w = World::new();
    let mut read = reads("bob", "todos");
    read.seconds = 90;
    // Its own timer, another turn, or the alarm: whatever comes first.
    for by in 0..3 {
        let bob = w.stream(&read);
        w.stream_events(bob);
        w.advance(if by == 2 { 150_000 } else { 90_000 });
        match by {
            0 => w.ring_readers(),
            1 => {
                _ = w.broadcast(
                    json!({ "channel": "todos", "action": "create", "key": "k", "data": {} }),
                )
            }
            _ => assert!(w.ring()),
        }
        assert_eq!(code(&w.event(bob)), "unauthorized");
        assert!(w.reader_ended(bob) && !w.last_id(bob).is_empty());
    }
    assert_eq!(w.stats()["connections"], 0);
}

#[test]
fn a_channels_token_opens_a_stream_and_ends_it() {
    let mut w = passes::world();
    let token = passes::token_for(&w, "vault:1", 60);
    let bob = w.stream(&reads("bob", "vault:1").with("channelToken", &token));
    assert_eq!(w.event(bob)["mode"], "full");
    w.broadcast(json!({ "channel": "vault:1", "action": "create", "key": "k", "data": {} }));
    assert_eq!(w.event(bob)["key"], "k");
    w.advance(60_000);
    w.broadcast(json!({ "channel": "vault:1", "action": "create", "key": "l", "data": {} }));
    assert_eq!(code(&w.event(bob)), "unauthorized");
    assert!(w.reader_ended(bob));
}

#[test]
fn operators_end_streams() {
    let mut w = World::new();
    for (call, body, why) in [
        (
            Call::Disconnect,
            json!({ "identity": "bob", "reason": "goodbye" }),
            "unauthorized",
        ),
        (Call::Disconnect, json!({ "all": true }), "unavailable"),
        (Call::Epoch, json!({}), "unavailable"),
    ] {
        w.advance(1);
        let bob = w.stream(&reads("bob", "todos"));
        w.stream_events(bob);
        assert_eq!(w.call(call, body.clone()).0, 200);
        let error = w.event(bob);
        assert_eq!((code(&error), w.reader_ended(bob)), (why, true));
        let reason = &error["error"]["message"];
        assert_eq!(reason == "goodbye", body["reason"] == "goodbye");
    }
    // The log is another one now.
    let mut read = reads("bob", "todos");
    read.last_id = Some("aaaa.7;0123".to_owned());
    let bob = w.stream(&read);
    assert_eq!(w.event(bob)["mode"], "full");
}

#[test]
fn an_event_channel_streams_its_changes_in_order() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m1", "doc:1", json!({ "id": "e1" }));
    let bob = w.stream(&reads("bob", "doc:1"));
    w.stream_events(bob);
    w.break_off(bob);
    w.update(alice, "m2", "doc:1", json!({ "id": "e1", "v": 2 }));
    w.update(alice, "m3", "doc:1", json!({ "id": "e1", "v": 3 }));
    let bob = again(&mut w, reads("bob", "doc:1"), bob);
    let page = w.event(bob);
    assert_eq!(
        gist(page["changes"].as_array().unwrap()),
        ["update e1", "update e1"]
    );
}

#[test]
fn an_identity_has_100_streams_and_a_stream_that_goes_frees_its_place() {
    let mut w = World::new();
    let mut streams = Vec::new();
    for _ in 0..limits::READERS_PER_IDENTITY {
        streams.push(w.stream(&reads("bob", "todos")));
    }
    let refused = w.slow_stream(&reads("bob", "todos")).unwrap_err();
    assert_eq!(refused.status, 429);
    assert_eq!(refused.retry_after_ms, Some(limits::READERS_RETRY_MS));
    w.drop(streams[0]);
    assert!(w.slow_stream(&reads("bob", "todos")).is_ok());
}

#[test]
fn who_pages_faster_than_the_rate_is_ended_and_resumes() {
    let mut w =
        World::with_limits(&json!({ "messagesPerSecond": 1, "identityMessagesPerSecond": 1 }));
    for i in 0..15 {
        w.broadcast(json!({ "channel": "todos", "action": "create", "key": format!("k{i:02}"), "data": {} }));
    }
    let read = || reads("bob", "todos").with("limit", 1);
    let bob = w.stream(&read());
    let mut events = w.stream_events(bob);
    assert_eq!(code(&events.pop().unwrap()), "rate_limited");
    assert_eq!(events.len(), 10);
    w.advance(10_000);
    let bob = again(&mut w, read(), bob);
    let rest = w.stream_events(bob);
    assert_eq!(
        rest.iter().flat_map(|page| ids(page)).collect::<Vec<_>>(),
        ["k10", "k11", "k12", "k13", "k14"]
    );
}

#[test]
fn a_crash_cuts_streams_which_resume_and_miss_nothing() {
    for at in 0..8 {
        let mut w = World::new();
        let streams: Vec<ConnId> = (0..3).map(|_| w.stream(&reads("bob", "todos"))).collect();
        for stream in &streams {
            w.stream_events(*stream);
        }
        w.crash_after = Some(at);
        let body = json!({ "channel": "todos", "action": "create", "key": "k", "data": {} });
        w.try_call(Call::Broadcast, body.to_string(), None);
        w.crash_after = None;
        let committed = !ids(&w.page(&reads("carol", "todos")).1).is_empty();
        for stream in streams {
            let mut keys: Vec<Value> = w
                .stream_events(stream)
                .iter()
                .map(|event| event["key"].clone())
                .collect();
            if w.reader_ended(stream) {
                let resumed = again(&mut w, reads("bob", "todos"), stream);
                keys.extend(ids(&w.event(resumed)).into_iter().map(Value::from));
            }
            assert_eq!(keys.len(), usize::from(committed), "crash at {at}");
        }
    }
}

/// The keys that a stream's events leave in a copy.
fn copied(keys: &mut BTreeSet<String>, events: &[Value]) {
    for event in events {
        if event["mode"] == "full" || event["type"] == "channel-reset" {
            keys.clear();
        }
        if event["type"] == "snapshot" {
            keys.extend(ids(event).into_iter().map(str::to_owned));
        }
        let one = (event["type"] == "change").then_some(event);
        for change in event["changes"].as_array().into_iter().flatten().chain(one) {
            let key = change["key"].as_str().unwrap().to_owned();
            match change["action"] == "delete" {
                true => _ = keys.remove(&key),
                false => _ = keys.insert(key),
            }
        }
    }
}

#[test]
fn a_stream_that_breaks_off_as_its_topics_change_has_every_row_when_it_is_back() {
    for at in 0..4 {
        let mut w = World::new();
        w.broadcast(json!({
            "channel": "todos", "action": "create", "key": "r", "data": {}, "to": ["red"]
        }));
        let read = || reads("bob", "todos").topics(&["red"]);
        let bob = w.stream(&read());
        let mut keys = BTreeSet::new();
        copied(&mut keys, &w.stream_events(bob));
        w.crash_after = Some(at);
        let body = json!({ "identity": "bob", "remove": ["red"] });
        w.try_call(Call::Topics, body.to_string(), None);
        w.crash_after = None;
        copied(&mut keys, &w.stream_events(bob));
        // A token of later gives it back.
        w.advance(1);
        let back = again(&mut w, read(), bob);
        copied(&mut keys, &w.stream_events(back));
        assert_eq!(keys, BTreeSet::from(["r".to_owned()]), "crash at {at}");
    }
}
