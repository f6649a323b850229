//! Rows that change in their home without the log: whoever was there before asks the source, and nobody
//! is carried past what it does not know.

use serde_json::{Value, json};
use tidewire::{Call, ConnId, Input, Millis};

use super::world::readers::reads;
use super::world::{BEGIN, World};
use super::{NOTHING, code, gist, ids, seq};

const MINUTE: u64 = 60_000;

fn changed(w: &mut World) -> u64 {
    let (status, body) = w.call(Call::BroadcastChange, json!({ "channel": "plain" }));
    assert_eq!(status, 200);
    body["receivers"].as_u64().unwrap()
}

fn resume(page: &Value) -> Value {
    json!({
        "type": "subscribe", "id": "s", "channel": page["channel"],
        "cursor": page["cursor"], "view": page["view"]
    })
}

/// Asks from a page on; the source is asked for what was changed since a time, or for everything.
#[track_caller]
fn asks_since(w: &mut World, conn: ConnId, page: &Value, since: Option<Millis>) -> Value {
    w.slow = true;
    w.send(conn, resume(page));
    assert_eq!(w.wanted().since, since);
    w.answer_first();
    w.slow = false;
    w.one(conn)
}

/// Alice, who has been on `plain` and has this page of it, and bob, who writes there.
fn world() -> (World, ConnId, Value, ConnId) {
    let mut w = World::elsewhere();
    w.put("plain", json!({ "id": "k0" }));
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let page = w.subscribe(alice, "plain");
    (w, alice, page, bob)
}

#[test]
fn subscribers_are_told_and_get_nothing_until_they_have_asked_again() {
    let (mut w, alice, page, bob) = world();
    w.advance(MINUTE);
    w.put("plain", json!({ "id": "k1" }));
    assert_eq!(changed(&mut w), 1);
    assert_eq!(
        w.one(alice),
        json!({ "type": "channel-change", "channel": "plain" })
    );
    w.create(bob, "m1", "plain", json!({ "id": "k2" }));
    assert_eq!(w.messages(alice), NOTHING, "it would carry her past k1");
    w.sleep();
    w.create(bob, "m2", "plain", json!({ "id": "k3" }));
    assert_eq!(w.messages(alice), NOTHING, "also after sleep");
    let log = w.ask(alice, resume(&page));
    assert_eq!((ids(&log), &log["more"]), (vec!["k2", "k3"], &json!(true)));
    assert_eq!(
        w.home.fetches, 1,
        "the log first: what the source says is newer"
    );
    w.create(bob, "m3", "plain", json!({ "id": "k4" }));
    let rest = asks_since(&mut w, alice, &log, Some(BEGIN.minus(MINUTE)));
    assert_eq!(rest["more"], false);
    let mut rows = ids(&rest);
    rows.sort_unstable();
    assert_eq!(rows, ["k0", "k1", "k2", "k3", "k4"]);
    w.create(bob, "m4", "plain", json!({ "id": "k5" }));
    assert_eq!(gist(&w.messages(alice)), ["create k5"]);
}

#[test]
fn whoever_was_away_asks_since_the_notice_before_less_a_minute() {
    let (mut w, alice, page, _) = world();
    w.drop(alice);
    w.advance(10 * MINUTE);
    w.put("plain", json!({ "id": "k1" }));
    let first = w.now;
    changed(&mut w);
    let alice = w.user("alice");
    let second = asks_since(&mut w, alice, &page, Some(BEGIN.minus(MINUTE)));
    assert_eq!(
        (&second["mode"], ids(&second)),
        (&json!("delta"), vec!["k0", "k1"])
    );
    w.drop(alice);
    w.advance(10 * MINUTE);
    w.remove("plain", "k0");
    changed(&mut w);
    let alice = w.user("alice");
    let third = asks_since(&mut w, alice, &second, Some(first.minus(MINUTE)));
    assert_eq!(
        (ids(&third), &third["deleted"]),
        (vec!["k1"], &json!(["k0"]))
    );
    // Of who was last there before the notice before the last, that cannot be told.
    let full = asks_since(&mut w, alice, &page, None);
    assert_eq!((&full["mode"], ids(&full)), (&json!("full"), vec!["k1"]));
    // And whoever has been there since is served by the log.
    let asked = w.home.fetches;
    assert_eq!(w.ask(alice, resume(&third))["data"], json!([]));
    assert_eq!(w.home.fetches, asked);
}

#[test]
fn a_notice_between_question_and_answer_is_not_missed() {
    let (mut w, _, _, bob) = world();
    let carol = w.user("carol");
    w.slow = true;
    w.send(
        carol,
        json!({ "type": "subscribe", "id": "s", "channel": "plain" }),
    );
    let (ask, answer) = w.look();
    w.advance(1_000);
    w.put("plain", json!({ "id": "k1" }));
    changed(&mut w);
    assert_eq!(w.messages(carol), NOTHING, "not live yet");
    w.answered(ask, answer);
    w.slow = false;
    let page = w.one(carol);
    assert_eq!((ids(&page), &page["more"]), (vec!["k0"], &json!(true)));
    w.create(bob, "m1", "plain", json!({ "id": "k2" }));
    assert_eq!(w.messages(carol), NOTHING);
    let log = w.ask(carol, resume(&page));
    assert_eq!((ids(&log), &log["more"]), (vec!["k2"], &json!(true)));
    let rest = w.ask(carol, resume(&log));
    assert_eq!(
        (ids(&rest), &rest["more"]),
        (vec!["k0", "k1", "k2"], &json!(false))
    );
}

#[test]
fn a_notice_between_two_pages_is_not_missed() {
    let (mut w, alice, _, _) = world();
    for row in 1..4 {
        w.advance(MINUTE);
        w.put("plain", json!({ "id": format!("k{row}") }));
    }
    let paged = |page: Option<&Value>| {
        let mut message = page.map_or(
            json!({ "type": "subscribe", "id": "s", "channel": "plain" }),
            resume,
        );
        message["limit"] = json!(3);
        message
    };
    let first = w.ask(alice, paged(None));
    assert_eq!(ids(&first), ["k0", "k1", "k2"]);
    // Before the place that its pages have reached.
    w.home
        .put("plain", json!({ "id": "k0", "text": "new" }), BEGIN);
    changed(&mut w);
    let (mut page, mut found) = (first, None);
    while page["more"] == true {
        page = w.ask(alice, paged(Some(&page)));
        let mut rows = page["data"].as_array().unwrap().iter();
        found = rows.find(|row| row["id"] == "k0").cloned().or(found);
    }
    assert_eq!(found, Some(json!({ "id": "k0", "text": "new" })));
}

#[test]
fn a_reset_between_question_and_answer_is_not_missed() {
    for limit in [1, 500] {
        let (mut w, _, _, _) = world();
        w.advance(1);
        w.put("plain", json!({ "id": "k1" }));
        let carol = w.user("carol");
        let mut message = json!({ "type": "subscribe", "id": "s", "channel": "plain" });
        message["limit"] = json!(limit);
        w.slow = true;
        w.send(carol, message);
        let (ask, answer) = w.look();
        w.call(Call::BroadcastReset, json!({ "channel": "plain" }));
        w.answered(ask, answer);
        w.slow = false;
        let page = w.one(carol);
        assert_eq!(page["more"], true, "limit {limit}");
        let anew = w.ask(carol, resume(&page));
        assert_eq!(
            (&anew["mode"], ids(&anew), &anew["more"]),
            (&json!("full"), vec!["k0", "k1"], &json!(false))
        );
    }
}

#[test]
fn a_reader_whose_epoch_ends_meanwhile_begins_anew() {
    let (mut w, _, page, bob) = world();
    w.create(bob, "m1", "plain", json!({ "id": "k1" }));
    w.advance(MINUTE);
    changed(&mut w);
    w.slow = true;
    let mut from = page.clone();
    from["cursor"] = json!(page["cursor"].as_str().unwrap().replace(".0", ".1"));
    let reader = w.wait(&reads("alice", "plain").after(&from));
    let (ask, answer) = w.look();
    assert_eq!(w.call(Call::Epoch, json!({})).0, 200);
    w.answered(ask, answer);
    assert_eq!(
        w.reply(reader),
        None,
        "what it was told before is of another log"
    );
    assert_eq!((w.wanted().since, w.questions.len()), (None, 1));
    w.answer_first();
    let body: Value = serde_json::from_str(&w.reply(reader).unwrap().body).unwrap();
    assert_eq!(
        (&body["mode"], ids(&body)),
        (&json!("full"), vec!["k0", "k1"])
    );
}

#[test]
fn what_happens_between_the_log_and_the_source_is_told() {
    let mut w = World::elsewhere();
    w.put("notes", json!({ "id": "n0", "ownerId": ["alice", "bob"] }));
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    let page = w.subscribe(alice, "notes");
    w.call(Call::BroadcastChange, json!({ "channel": "notes" }));
    w.messages(alice);
    w.create(
        bob,
        "m1",
        "notes",
        json!({ "id": "n1", "ownerId": "alice" }),
    );
    let log = w.ask(alice, resume(&page));
    assert_eq!((ids(&log), &log["more"]), (vec!["n1"], &json!(true)));
    // It leaves her sight before she asks for the rest: the source does not say so.
    w.update(bob, "m2", "notes", json!({ "id": "n0", "ownerId": "bob" }));
    let rest = w.ask(alice, resume(&log));
    assert_eq!(
        (&rest["deleted"], &rest["more"]),
        (&json!(["n0"]), &json!(false))
    );
}

#[test]
fn an_ack_carries_nobody_past_what_it_does_not_know() {
    let (mut w, alice, page, _) = world();
    for notice in 0..2 {
        changed(&mut w);
        w.messages(alice);
        let id = format!("m{notice}");
        let ack = w.create(alice, &id, "plain", json!({ "id": id }));
        // Whatever her client makes of the cursors, the source is asked for all that she missed.
        w.put("plain", json!({ "id": format!("out{notice}") }));
        assert!(seq(&ack) < 1, "{ack}");
        let replayed = w.create(alice, &id, "plain", json!({ "id": id }));
        assert_eq!((&replayed["replayed"], seq(&replayed)), (&json!(true), 0));
    }
    let mut at = page.clone();
    at["cursor"] = json!(page["cursor"]);
    let mut seen = Vec::new();
    while at["more"] == true || seen.is_empty() {
        at = w.ask(alice, resume(&at));
        seen.extend(ids(&at).into_iter().map(str::to_owned));
    }
    for id in ["out0", "out1", "m0", "m1"] {
        assert!(seen.iter().any(|seen| seen == id), "{id}: {seen:?}");
    }
    // Live again, her acks count.
    let ack = w.create(alice, "m9", "plain", json!({ "id": "m9" }));
    assert_eq!(seq(&ack), seq(&at) + 1);
}

#[test]
fn a_stream_goes_on_by_itself_and_gets_nothing_twice() {
    let (mut w, _, _, bob) = world();
    let stream = w.stream(&reads("carol", "plain"));
    assert_eq!(ids(&w.event(stream)), ["k0"]);
    w.advance(10 * MINUTE);
    w.create(bob, "m1", "plain", json!({ "id": "k1" }));
    assert_eq!(gist(&w.stream_events(stream)), ["create k1"]);
    w.advance(10 * MINUTE);
    changed(&mut w);
    assert_eq!(w.event(stream)["type"], "channel-change");
    w.advance(10 * MINUTE);
    w.put("plain", json!({ "id": "k2" }));
    let last = w.now;
    changed(&mut w);
    assert_eq!(w.stream_events(stream), NOTHING, "it is asking already");
    w.create(bob, "m2", "plain", json!({ "id": "k3" }));
    while w.next_page(stream) {}
    let pages = w.stream_events(stream);
    assert!(!w.reader_ended(stream));
    assert_eq!(pages.last().unwrap()["more"], false);
    assert!(
        pages.iter().any(|page| ids(page).contains(&"k2")),
        "{pages:#?}"
    );
    // Now it has been there since the last notice, and has only to ask for what is newer.
    w.create(bob, "m3", "plain", json!({ "id": "k5" }));
    assert_eq!(gist(&w.stream_events(stream)), ["create k5"]);
    w.advance(10 * MINUTE);
    w.put("plain", json!({ "id": "k4" }));
    changed(&mut w);
    assert_eq!(w.event(stream)["type"], "channel-change");
    w.slow = true;
    w.next_page(stream);
    assert_eq!(w.wanted().since, Some(last.minus(MINUTE)));
    w.answer_first();
    assert_eq!(w.event(stream)["more"], false);
    w.slow = false;
    w.create(bob, "m4", "plain", json!({ "id": "k6" }));
    assert_eq!(gist(&w.stream_events(stream)), ["create k6"]);
}

#[test]
fn a_reader_that_waits_is_told_to_ask_again() {
    let (mut w, _, page, _) = world();
    let alice = w.wait(&reads("alice", "plain").with("wait", 25).after(&page));
    w.put("plain", json!({ "id": "k1" }));
    changed(&mut w);
    let answer = w.answer(alice).unwrap().clone();
    assert_eq!(
        (&answer["data"], &answer["more"], &answer["cursor"]),
        (&json!([]), &json!(true), &page["cursor"])
    );
    let (status, answer) = w.page(&reads("alice", "plain").with("wait", 25).after(&answer));
    assert_eq!((status, ids(&answer)), (200, vec!["k0", "k1"]));
}

#[test]
fn a_notice_with_an_idempotency_key_counts_once() {
    let (mut w, alice, _, _) = world();
    let notice = r#"{"channel":"plain"}"#;
    for _ in 0..2 {
        let (status, _) = w.publish(Call::BroadcastChange, notice, Some("once"));
        assert_eq!(status, 200);
    }
    assert_eq!(w.messages(alice).len(), 1);
    let (_, head) = w.broadcast(json!({
        "channel": "here", "action": "create", "key": "k", "data": {}
    }));
    assert_eq!(head["seq"], 2, "one for the notice");
}

#[test]
fn a_channel_whose_rows_live_here_takes_no_seq_and_stays_live() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.live("alice", "here"), w.user("bob"));
    w.call(Call::BroadcastChange, json!({ "channel": "here" }));
    assert_eq!(w.one(alice)["type"], "channel-change");
    let ack = w.create(bob, "m1", "here", json!({ "id": "k1" }));
    assert_eq!(seq(&ack), 1);
    assert_eq!(gist(&w.messages(alice)), ["create k1"]);
}

#[test]
fn whoever_is_present_stays_so_over_a_notice() {
    let mut w = World::elsewhere();
    let (alice, bob) = (w.live("alice", "open"), w.live("bob", "open"));
    w.ask(
        alice,
        json!({ "type": "presence", "channel": "open", "state": 1 }),
    );
    w.call(Call::BroadcastChange, json!({ "channel": "open" }));
    assert_eq!(w.presence("open").1["total"], 1);
    w.messages(bob);
    w.subscribe(bob, "open");
    w.send(
        alice,
        json!({ "type": "signal", "channel": "open", "event": "e" }),
    );
    assert_eq!(w.one(bob)["event"], "e");
}

#[test]
fn what_is_under_way_for_another_connection_is_not_taken_off() {
    let (mut w, alice, page, _) = world();
    let (status, body) = w.call(Call::BroadcastChange, json!({ "channel": "gifts" }));
    assert_eq!((status, &body["receivers"]), (200, &json!(0)));
    let asked = w.home.fetches;
    assert_eq!(w.ask(alice, resume(&page))["more"], false);
    assert_eq!(w.home.fetches, asked, "another channel has changed");
    let alarm = w.alarm;
    w.input(Input::Alarm);
    assert_eq!(
        (
            w.alarm,
            code(&w.call(Call::BroadcastChange, json!({ "channel": "?" })).1)
        ),
        (alarm, "unknown_channel")
    );
}
