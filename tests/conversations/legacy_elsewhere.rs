//! Clients without a hello, of channels whose rows live elsewhere: everything at once, by the log where
//! that can be.

use serde_json::{Value, json};
use tidewire::source::{Answer, Page};
use tidewire::{Call, ConnId, Key, limits};

use super::world::World;
use super::{NOTHING, gist, ids};

const MINUTE: u64 = 60_000;

fn subscribe(since: Option<u64>) -> Value {
    let mut message = json!({ "type": "subscribe", "channel": "plain" });
    if let Some(since) = since {
        message["since"] = json!(since);
    }
    message
}

/// The rows of frames with a snapshot each, and whether each is a delta.
fn snapshots(messages: &[Value]) -> (Vec<&str>, Vec<bool>) {
    let snapshots = messages
        .iter()
        .filter(|message| message["type"] == "snapshot");
    let rows = snapshots.clone().flat_map(ids).collect();
    let deltas = snapshots
        .map(|page| page["isDelta"].as_bool().unwrap())
        .collect();
    (rows, deltas)
}

/// JSON with white space after it, of so many bytes.
fn padded(json: String, bytes: usize) -> String {
    let spaces = " ".repeat(bytes - json.len());
    json + &spaces
}

fn old_client(w: &mut World) -> ConnId {
    w.connect(Some("alice"), &[])
}

/// A world with rows `k0`, `k1` …, and its old client.
fn world(rows: usize) -> (World, ConnId) {
    let mut w = World::elsewhere();
    for row in 0..rows {
        w.put("plain", json!({ "id": format!("k{row:03}") }));
    }
    w.advance(10 * MINUTE);
    let alice = old_client(&mut w);
    (w, alice)
}

#[test]
fn all_pages_of_a_source_come_at_once_and_then_it_is_live() {
    let (mut w, alice) = world(limits::PAGE_DEFAULT + 1);
    let bob = w.user("bob");
    w.slow = true;
    w.send(alice, subscribe(None));
    w.answer_first();
    assert_eq!(
        (w.messages(alice), w.questions.len()),
        (vec![], 1),
        "nothing before all is there"
    );
    let new = json!({
        "type": "mutate", "id": "m1", "channel": "plain", "action": "create",
        "data": { "id": "new" }
    });
    w.send(bob, new);
    w.questions.rotate_left(1);
    w.answer_first();
    w.answer_first();
    w.slow = false;
    let told = w.messages(alice);
    let (mut rows, deltas) = snapshots(&told);
    // The source and the log both have the new one: the same row, which the log says last.
    rows.dedup();
    assert_eq!(
        (rows.len(), rows.last()),
        (limits::PAGE_DEFAULT + 2, Some(&"new"))
    );
    assert_eq!(deltas, [false, true, true]);
    assert!(told.iter().all(|message| message.get("more").is_none()));
    w.messages(bob);
    w.create(bob, "m2", "plain", json!({ "id": "live" }));
    assert_eq!(gist(&w.messages(alice)), ["create live"]);
}

#[test]
fn what_was_deleted_meanwhile_comes_as_a_batch_and_what_was_reborn_does_not() {
    let (mut w, alice) = world(2);
    let bob = w.user("bob");
    w.slow = true;
    w.send(alice, subscribe(None));
    let (ask, _) = w.look();
    w.slow = false;
    w.delete(bob, "m1", "plain", "k000");
    w.create(
        bob,
        "m2",
        "plain",
        json!({ "id": "k001", "text": "reborn" }),
    );
    let page = Page {
        rows: vec![(
            Key::parse("k000").unwrap(),
            json!({ "id": "k000" }).to_string(),
        )],
        deleted: vec![Key::parse("k001").unwrap(), Key::parse("k002").unwrap()],
        ..Page::default()
    };
    w.answered(ask, Ok(Answer::Page(page)));
    let told = w.messages(alice);
    assert_eq!(snapshots(&told).0, ["k000", "k001"]);
    let batch = told.last().unwrap();
    let mut gone = gist(batch["changes"].as_array().unwrap());
    gone.sort_unstable();
    assert_eq!(gone, ["delete k000", "delete k002"]);
}

#[test]
fn a_time_is_served_by_the_log_and_one_before_it_by_the_source() {
    let (mut w, alice) = world(1);
    let bob = w.user("bob");
    w.create(bob, "m1", "plain", json!({ "id": "n1" }));
    w.advance(10 * MINUTE);
    w.create(bob, "m2", "plain", json!({ "id": "n2" }));
    let since = w.now.0;
    w.send(alice, subscribe(Some(since)));
    let told = w.messages(alice);
    assert_eq!(
        (snapshots(&told), w.home.fetches),
        ((vec!["n2"], vec![true]), 0)
    );
    let before_the_log = since - 60 * MINUTE;
    w.send(alice, subscribe(Some(before_the_log)));
    let told = w.messages(alice);
    assert_eq!(
        (snapshots(&told), w.home.fetches),
        ((vec!["k000", "n1", "n2"], vec![false, true]), 1)
    );
}

#[test]
fn after_a_notice_a_time_before_it_is_served_by_the_source_and_one_after_it_by_the_log() {
    let (mut w, alice) = world(1);
    w.send(alice, subscribe(None));
    w.messages(alice);
    let before = w.now.0;
    w.advance(5 * MINUTE);
    w.put("plain", json!({ "id": "out" }));
    w.call(Call::BroadcastChange, json!({ "channel": "plain" }));
    assert_eq!(w.one(alice)["type"], "channel-change");
    w.send(alice, subscribe(Some(before)));
    assert_eq!(snapshots(&w.messages(alice)).0, ["k000", "out"]);
    w.advance(5 * MINUTE);
    let (after, asked) = (w.now.0, w.home.fetches);
    w.send(alice, subscribe(Some(after)));
    assert_eq!(
        (snapshots(&w.messages(alice)).0, w.home.fetches),
        (vec![], asked)
    );
}

#[test]
fn a_notice_or_a_reset_while_the_source_is_asked_is_not_missed() {
    for call in [Call::BroadcastChange, Call::BroadcastReset] {
        let (mut w, alice) = world(1);
        w.slow = true;
        w.send(alice, subscribe(None));
        let (ask, answer) = w.look();
        w.put("plain", json!({ "id": "out" }));
        w.call(call, json!({ "channel": "plain" }));
        w.answered(ask, answer);
        assert_eq!(
            w.messages(alice),
            NOTHING,
            "{call:?}: the source is asked again"
        );
        w.settle();
        let told = w.messages(alice);
        assert_eq!(
            snapshots(&told),
            (vec!["k000", "out"], vec![false, true]),
            "{call:?}"
        );
    }
}

#[test]
fn a_source_that_is_late_refuses_in_the_words_of_1_4() {
    let (mut w, alice) = world(1);
    w.slow = true;
    w.send(alice, subscribe(None));
    let ask = w.questions[0].id;
    w.late(ask);
    let refusal = w.one(alice);
    assert_eq!(
        (&refusal["type"], &refusal["id"]),
        (&json!("reject"), &json!("subscribe"))
    );
    assert!(refusal["error"].is_string());
}

#[test]
fn a_mutation_of_an_old_client_is_written_by_the_source() {
    let (mut w, alice) = world(1);
    let bob = w.live("bob", "plain");
    let create = json!({
        "type": "mutate", "id": "m1", "channel": "plain", "action": "create", "key": "n",
        "data": { "id": "n" }
    });
    let ack = w.ask(alice, create.clone());
    assert_eq!(
        (&ack["type"], &ack["data"]),
        (&json!("ack"), &json!({ "id": "n" }))
    );
    assert_eq!(gist(&w.messages(bob)), ["create n"]);
    assert_eq!(w.ask(alice, create)["replayed"], true);
    let refused = w.ask(
        alice,
        json!({
            "type": "mutate", "id": "m2", "channel": "plain", "action": "delete", "key": "none"
        }),
    );
    assert!(refused["error"].is_string(), "{refused}");
}

#[test]
fn a_channel_too_large_to_be_taken_at_once_is_refused() {
    const ROW: usize = 250_000;
    for past in [false, true] {
        let (mut w, alice) = world(0);
        w.slow = true;
        w.send(alice, subscribe(None));
        let mut left = limits::LEGACY_SNAPSHOT_BYTES - 1_000 + if past { 1_001 } else { 0 };
        let mut row = 0;
        while left > 0 {
            let key = format!("k{row:04}");
            let take = left.min(ROW);
            let text = "x".repeat(take.saturating_sub(key.len() + 30 + limits::LEFTOVER_OVERHEAD));
            let text = json!({ "id": key, "t": text }).to_string();
            let page = Page {
                rows: vec![(
                    Key::parse(&key).unwrap(),
                    padded(text, take - key.len() - limits::LEFTOVER_OVERHEAD),
                )],
                next: (left > take).then(|| "more".to_owned()),
                ..Page::default()
            };
            let ask = w.questions.remove(0).id;
            w.answered(ask, Ok(Answer::Page(page)));
            left -= take;
            row += 1;
        }
        let told = w.messages(alice);
        match past {
            false => assert_eq!(snapshots(&told).0.len(), row),
            true => assert_eq!((&told[0]["type"], told.len()), (&json!("reject"), 1)),
        }
    }
}
