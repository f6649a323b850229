//! Clients without a hello: @sveltebase/sync 1.4, frame by frame.

use serde_json::{Value, json};
use tidewire::{Call, ConnId, limits};

use super::world::World;
use super::{NOTHING, gist};

fn connect(w: &mut World) -> ConnId {
    w.connect(Some("alice"), &[])
}

fn subscribe(w: &mut World, conn: ConnId, since: Value) -> Vec<Value> {
    let mut message = json!({ "type": "subscribe", "channel": "todos" });
    if !since.is_null() {
        message["since"] = since;
    }
    w.send(conn, message);
    single(w, conn)
}

/// The messages of frames that hold one each.
fn single(w: &mut World, conn: ConnId) -> Vec<Value> {
    let frames = w.frames(conn);
    let read = |frame: &String| serde_json::from_str(frame).unwrap();
    let messages: Vec<Value> = frames.iter().map(read).collect();
    assert!(
        messages.iter().all(Value::is_object),
        "no arrays: {messages:?}"
    );
    assert!(
        messages.iter().all(|message| message.get("more").is_none()),
        "no more"
    );
    messages
}

fn put(w: &mut World, key: &str) {
    let body = json!({ "channel": "todos", "action": "create", "key": key, "data": {} });
    assert_eq!(w.broadcast(body).0, 200);
}

fn keys(snapshot: &Value) -> Vec<&str> {
    super::ids(snapshot)
}

/// An ISO date of a time in milliseconds.
fn iso(millis: u64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(millis as i64).unwrap();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[test]
fn the_whole_life_of_a_1_4_client_with_and_without_a_sleep() {
    for sleeps in [false, true] {
        let mut w = World::new();
        w.advance(10 * 60_000);
        let nap = |w: &mut World| {
            if sleeps {
                w.sleep();
            }
        };
        let alice = connect(&mut w);
        nap(&mut w);
        for channel in ["todos", "notes", "feed"] {
            w.send(alice, json!({ "type": "subscribe", "channel": channel }));
            let [snapshot] = single(&mut w, alice).try_into().unwrap();
            assert_eq!(snapshot["isDelta"], false);
            assert_eq!(
                (&snapshot["channel"], &snapshot["data"]),
                (&json!(channel), &json!([]))
            );
            nap(&mut w);
        }
        w.send_text(alice, r#"{ "type": "ping" }"#);
        assert_eq!(w.frames(alice), ["pong"]);
        let row = json!({ "id": "k1", "text": "milk", "updatedAt": w.now.0 });
        let create = json!({
            "type": "mutate", "id": "m1", "channel": "todos", "action": "create",
            "key": "k1", "data": row
        });
        w.send(alice, create.clone());
        let [ack] = single(&mut w, alice).try_into().unwrap();
        assert_eq!(
            (&ack["type"], &ack["id"], &ack["data"]),
            (&json!("ack"), &json!("m1"), &row)
        );
        nap(&mut w);
        w.send(
            alice,
            json!({
                "type": "mutate", "id": "m2", "channel": "feed", "action": "create",
                "key": "f", "data": { "id": "f" }
            }),
        );
        let [reject] = single(&mut w, alice).try_into().unwrap();
        assert_eq!(
            (&reject["type"], &reject["id"]),
            (&json!("reject"), &json!("m2"))
        );
        assert!(reject["error"].is_string());
        // Dropped, and back with the newest row's time, its mutation sent again.
        w.drop(alice);
        let since = w.now.0;
        w.advance(3 * 60_000);
        put(&mut w, "k2");
        w.broadcast(json!({ "channel": "todos", "action": "delete", "key": "k1" }));
        nap(&mut w);
        let alice = connect(&mut w);
        let [delta, deletes] = subscribe(&mut w, alice, json!(since)).try_into().unwrap();
        assert_eq!(
            (&delta["isDelta"], keys(&delta)),
            (&json!(true), vec!["k2"])
        );
        assert_eq!(delta["deleted"], json!([]));
        assert_eq!(deletes["type"], "batch");
        assert_eq!(gist(deletes["changes"].as_array().unwrap()), ["delete k1"]);
        w.send(alice, create);
        let [ack] = single(&mut w, alice).try_into().unwrap();
        assert_eq!(
            (&ack["replayed"], &ack["data"]),
            (&json!(true), &Value::Null)
        );
        nap(&mut w);
        // Live again, then a resync of everything.
        put(&mut w, "k3");
        let [change] = single(&mut w, alice).try_into().unwrap();
        assert_eq!(
            (&change["type"], &change["key"]),
            (&json!("change"), &json!("k3"))
        );
        let [full] = subscribe(&mut w, alice, Value::Null).try_into().unwrap();
        assert_eq!(
            (&full["isDelta"], keys(&full)),
            (&json!(false), vec!["k2", "k3"])
        );
    }
}

#[test]
fn since_is_a_time_of_the_server_less_a_minute_in_both_forms() {
    let mut w = World::new();
    put(&mut w, "old");
    w.advance(60_000);
    put(&mut w, "k1");
    w.advance(60_000);
    put(&mut w, "k2");
    let now = w.now.0;
    let alice = connect(&mut w);
    for since in [json!(now), json!(iso(now))] {
        let [delta] = subscribe(&mut w, alice, since).try_into().unwrap();
        assert_eq!(
            (&delta["isDelta"], keys(&delta)),
            (&json!(true), vec!["k2"])
        );
    }
    let [delta] = subscribe(&mut w, alice, json!(now - 1)).try_into().unwrap();
    assert_eq!(keys(&delta), ["k1", "k2"]);
}

#[test]
fn since_of_the_future_before_the_log_or_before_the_floor_asks_for_everything() {
    let mut w = World::new();
    let begin = w.now.0;
    w.advance(10 * 60_000);
    put(&mut w, "k");
    let alice = connect(&mut w);
    let future = json!(w.now.0 + 1);
    let before_the_log = json!(begin + 60_000 - 1);
    for since in [future, before_the_log, json!("garbage"), json!({})] {
        let [full] = subscribe(&mut w, alice, since).try_into().unwrap();
        assert_eq!((&full["isDelta"], keys(&full)), (&json!(false), vec!["k"]));
    }
    let [delta] = subscribe(&mut w, alice, json!(begin + 60_000))
        .try_into()
        .unwrap();
    assert_eq!(delta["isDelta"], true);
    w.call(Call::BroadcastReset, json!({ "channel": "todos" }));
    w.frames(alice);
    let reset = w.now.0;
    w.advance(10 * 60_000);
    let [full] = subscribe(&mut w, alice, json!(reset + 60_000 - 1))
        .try_into()
        .unwrap();
    assert_eq!(full["isDelta"], false);
    let [delta] = subscribe(&mut w, alice, json!(reset + 60_000))
        .try_into()
        .unwrap();
    assert_eq!(delta["isDelta"], true);
}

#[test]
fn all_pages_follow_one_another() {
    let mut w = World::new();
    let rows = 2 * limits::PAGE_DEFAULT + 1;
    for chunk in (0..rows).collect::<Vec<_>>().chunks(1000) {
        let change = |i: &usize| json!({ "action": "create", "key": format!("k{i}"), "data": {} });
        let changes: Vec<Value> = chunk.iter().map(change).collect();
        w.broadcast_batch(json!({ "channel": "todos", "changes": changes }));
    }
    let alice = connect(&mut w);
    let pages = subscribe(&mut w, alice, Value::Null);
    let deltas: Vec<&Value> = pages.iter().map(|page| &page["isDelta"]).collect();
    assert_eq!(deltas, [false, true, true]);
    let total: usize = pages.iter().map(|page| keys(page).len()).sum();
    assert_eq!(total, rows);
    put(&mut w, "live");
    assert_eq!(single(&mut w, alice).len(), 1);
}

#[test]
fn what_left_its_sight_while_it_was_away_is_deleted() {
    let mut w = World::new();
    w.advance(10 * 60_000);
    let alice = connect(&mut w);
    let publish = |w: &mut World, to: &[&str]| {
        let body = json!({
            "channel": "todos", "action": "create", "key": "k", "data": {}, "to": to
        });
        assert_eq!(w.broadcast(body).0, 200);
    };
    publish(&mut w, &["user:alice"]);
    subscribe(&mut w, alice, Value::Null);
    let since = w.now.0;
    w.drop(alice);
    w.advance(2 * 60_000);
    publish(&mut w, &["user:bob"]);
    w.sleep();
    let alice = connect(&mut w);
    let [delta, deletes] = subscribe(&mut w, alice, json!(since)).try_into().unwrap();
    assert_eq!(keys(&delta), NOTHING);
    assert_eq!(gist(deletes["changes"].as_array().unwrap()), ["delete k"]);
}

#[test]
fn a_refused_subscription_has_the_id_subscribe_and_a_plain_text() {
    let mut w = World::new();
    let alice = connect(&mut w);
    for message in [
        json!({ "type": "subscribe", "channel": "room:1" }),
        json!({ "type": "subscribe", "id": "s1", "channel": "room:1" }),
    ] {
        w.send(alice, message);
        let [reject] = single(&mut w, alice).try_into().unwrap();
        assert_eq!(
            (&reject["type"], &reject["id"]),
            (&json!("reject"), &json!("subscribe"))
        );
        assert_eq!(reject["channel"], "room:1");
        assert!(reject["error"].is_string());
    }
}

#[test]
fn arrays_are_refused_and_a_late_hello_too() {
    let mut w = World::new();
    let alice = connect(&mut w);
    subscribe(&mut w, alice, Value::Null);
    for frame in [r#"[{"type":"ping"}]"#, r#"{"type":"hello","v":1}"#] {
        w.send_text(alice, frame);
        let [error] = single(&mut w, alice).try_into().unwrap();
        assert_eq!(error["error"]["code"], "malformed");
    }
}

#[test]
fn a_batch_too_large_for_a_frame_comes_as_several_batches() {
    let mut w = World::new();
    let alice = connect(&mut w);
    subscribe(&mut w, alice, Value::Null);
    let change = |i| {
        json!({
            "action": "create", "key": format!("k{i}"), "data": { "t": "x".repeat(200_000) }
        })
    };
    let changes: Vec<Value> = (0..6).map(change).collect();
    assert_eq!(
        w.broadcast_batch(json!({ "channel": "todos", "changes": changes }))
            .0,
        200
    );
    let batches = single(&mut w, alice);
    assert!(batches.len() > 1);
    let sizes = batches
        .iter()
        .map(|batch| batch["changes"].as_array().unwrap().len());
    assert_eq!(sizes.sum::<usize>(), 6);
}

#[test]
fn many_deletes_while_away_do_not_lock_it_out() {
    let mut w = World::new();
    w.advance(3_600_000);
    let keys: Vec<String> = (0..12_000).map(|i| format!("k{i}")).collect();
    for action in ["create", "delete"] {
        for chunk in keys.chunks(1_000) {
            let change = |key| json!({ "action": action, "key": key, "data": {} });
            let changes: Vec<Value> = chunk.iter().map(change).collect();
            let body = json!({ "channel": "todos", "changes": changes });
            assert_eq!(w.broadcast_batch(body).0, 200);
        }
    }
    let alice = connect(&mut w);
    let since = w.now.0;
    let messages = subscribe(&mut w, alice, json!(since));
    let deletes = messages.iter().filter(|message| message["type"] == "batch");
    let deleted: usize = deletes
        .map(|batch| batch["changes"].as_array().unwrap().len())
        .sum();
    assert_eq!(deleted, keys.len());
}
