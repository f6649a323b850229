//! What observers are told: one event an operation, counters, and what the inspector shows.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::{Call, Input, Publisher, limits};

use super::NOTHING;
use super::world::readers::reads;
use super::world::{World, config_with};

/// The events since the last look, each cut down to these fields.
fn told(w: &mut World, fields: &[&str]) -> Vec<Value> {
    let events = w.events().into_iter();
    let cut = |event: Value| {
        fields
            .iter()
            .map(|field| event[*field].clone())
            .collect::<Value>()
    };
    events.map(cut).collect()
}

const GIST: [&str; 3] = ["op", "outcome", "code"];

#[test]
fn connecting_and_going_are_told_with_who_it_was() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    w.send(
        alice,
        json!({ "type": "hello", "v": 1, "device": "phone-7" }),
    );
    w.messages(alice);
    w.drop(alice);
    let events = w.events();
    assert_eq!(
        events,
        [
            json!({
                "op": "connect", "outcome": "done", "space": "global", "session": "session-1",
                "identity": "alice", "rows": 0, "receivers": 0, "bytes": 0, "durationMs": 0
            }),
            json!({
                "op": "disconnect", "outcome": "done", "space": "global",
                "session": "session-1", "identity": "alice", "device": "phone-7",
                "rows": 0, "receivers": 0, "bytes": 0, "durationMs": 0
            })
        ]
    );
}

#[test]
fn a_call_without_a_body_is_told_as_refused_and_executes_nothing() {
    let mut w = World::new();
    w.events();
    let epoch = w.stats()["epoch"].clone();
    for (why, status) in [
        (Problem::malformed("it broke off"), 400),
        (Problem::new(Code::FrameTooLarge, "it is too long"), 413),
    ] {
        for call in Call::ALL {
            let input = Input::Call {
                call,
                publisher: &Publisher::Unscoped,
                body: Err(&why),
                idempotency_key: None,
                seed: None,
            };
            assert_eq!(w.input(input).unwrap().status, status, "{call:?}");
            let [event] = w.events().try_into().unwrap();
            assert_eq!(
                (&event["outcome"], &event["code"], &event["path"]),
                (
                    &json!("refused"),
                    &json!(why.code.as_str()),
                    &json!(call.path())
                )
            );
        }
    }
    assert_eq!(w.stats()["epoch"], epoch);
}

#[test]
fn a_device_is_remembered_over_sleep() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &[]);
    let device = "d".repeat(limits::DEVICE_BYTES);
    w.send(alice, json!({ "type": "hello", "v": 1, "device": device }));
    w.messages(alice);
    w.sleep();
    w.events();
    w.subscribe(alice, "todos");
    assert_eq!(told(&mut w, &["device"]), [json!([device])]);
}

#[test]
fn a_refused_connection_is_told_with_its_code() {
    let mut w = World::with_limits(&json!({ "connections": 1 }));
    w.user("alice");
    w.events();
    assert!(w.connect_until(Some("bob"), &[], None).is_err());
    let told = told(&mut w, &["op", "outcome", "code", "identity"]);
    assert_eq!(told, [json!(["connect", "refused", "unavailable", "bob"])]);
}

#[test]
fn sockets_that_we_close_are_told_once_with_our_code() {
    let mut w = World::new();
    let (alice, _bob) = (w.user("alice"), w.user("bob"));
    w.events();
    w.call(Call::Disconnect, json!({ "identity": "alice" }));
    let fields = ["op", "identity", "close", "path", "key"];
    assert_eq!(
        told(&mut w, &fields),
        [
            json!(["disconnect", "alice", 4505, null, null]),
            json!(["operate", null, null, "/disconnect", "PUBLISH_KEY"]),
        ]
    );
    w.drop(alice);
    assert_eq!(told(&mut w, &fields), NOTHING, "it was told before");
    // What a crash interrupts is told in the turn after it.
    w.crash_after = Some(0);
    w.try_connect("carol");
    w.stats();
    assert_eq!(
        told(&mut w, &fields),
        [json!(["disconnect", "bob", 4000, null, null])]
    );
}

#[test]
fn tokens_that_end_are_told_as_expired_and_not_as_gone() {
    let mut w = World::new();
    let until = w.now.plus(60_000);
    w.connect_until(Some("alice"), &[], Some(until)).unwrap();
    w.events();
    w.advance(60_000);
    assert!(w.ring());
    let fields = ["op", "identity", "close", "channel"];
    assert_eq!(
        told(&mut w, &fields),
        [json!(["expire", "alice", 4001, null])]
    );
}

#[test]
fn a_subscription_is_told_with_what_its_answer_weighs() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "m", "todos", json!({ "id": "k" }));
    w.events();
    let snapshot = w.subscribe(alice, "todos");
    assert!(snapshot["data"][0].is_object());
    w.subscribe(alice, "nowhere");
    let fields = ["op", "outcome", "code", "channel", "rows", "receivers"];
    let events = w.events();
    let bytes = events[0]["bytes"].as_u64().unwrap();
    assert_eq!(bytes, snapshot.to_string().len() as u64);
    w.events = Vec::new();
    w.subscribe(alice, "todos");
    w.subscribe(alice, "nowhere");
    assert_eq!(
        told(&mut w, &fields),
        [
            json!(["subscribe", "done", null, "todos", 0, 0]),
            json!(["subscribe", "refused", "unknown_channel", "nowhere", 0, 0]),
        ]
    );
}

#[test]
fn a_mutation_is_told_with_rows_receivers_and_bytes() {
    let mut w = World::new();
    let (alice, bob, carol) = (
        w.live("alice", "todos"),
        w.live("bob", "todos"),
        w.live("carol", "todos"),
    );
    w.events();
    let row = json!({ "id": "k", "text": "not for the log" });
    let ack = w.create(alice, "m", "todos", row.clone());
    let (frame, _) = (w.frames(bob), w.frames(carol));
    let [event] = w.events().try_into().unwrap();
    let bytes = ack.to_string().len() + 2 * frame[0].len();
    assert_eq!(
        event,
        json!({
            "op": "mutate", "outcome": "done", "space": "global", "session": "session-1",
            "identity": "alice", "channel": "todos", "action": "create", "seq": 1,
            "changes": 1, "rows": 2, "receivers": 2, "bytes": bytes, "durationMs": 0
        })
    );
    w.create(alice, "m", "todos", row);
    let [event] = w.events().try_into().unwrap();
    let gist = GIST.map(|field| event[field].clone());
    assert_eq!(gist, [json!("mutate"), json!("repeated"), Value::Null]);
    assert_eq!(
        [&event["rows"], &event["receivers"], &event["seq"]],
        [&json!(0), &json!(0), &json!(1)]
    );
}

#[test]
fn each_message_of_an_array_is_told_by_itself() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.events();
    let put = |id: &str, channel: &str| {
        json!({
            "type": "mutate", "id": id, "channel": channel, "action": "create",
            "data": { "id": id }
        })
    };
    w.send(
        alice,
        json!([put("a", "todos"), put("b", "feed"), { "type": "ping" }, put("c", "todos")]),
    );
    assert_eq!(
        told(&mut w, &["op", "code", "channel", "rows", "seq"]),
        [
            json!(["mutate", null, "todos", 2, 1]),
            json!(["mutate", "read_only", "feed", 0, null]),
            json!(["mutate", null, "todos", 2, 2]),
        ]
    );
}

#[test]
fn what_comes_too_fast_is_told_too() {
    let mut w = World::with_limits(&json!({ "messagesPerSecond": 1 }));
    let alice = w.user("alice");
    w.events();
    let burst = limits::BURST_SECONDS as usize;
    for at in 0..=burst {
        let id = format!("m{at}");
        w.send(
            alice,
            json!({ "type": "mutate", "id": id, "channel": "todos", "action": "delete", "key": "k" }),
        );
    }
    let events = told(&mut w, &GIST);
    assert_eq!(
        events.last(),
        Some(&json!(["mutate", "refused", "rate_limited"]))
    );
    assert_eq!(
        events.first(),
        Some(&json!(["mutate", "refused", "not_found"]))
    );
}

#[test]
fn a_publish_is_told_with_its_key_and_what_it_did() {
    let keys = json!({ "bills": { "key": "the key itself", "channels": ["todos"] } }).to_string();
    let channels = super::world::channels();
    let mut w = World::with_config(config_with(&channels, &[("PUBLISH_KEYS", &keys)]));
    w.publisher = Publisher::Named("bills".into());
    let (alice, bob) = (w.live("alice", "todos"), w.live("bob", "todos"));
    w.events();
    let change = |key: &str, channel: &str| json!({ "channel": channel, "action": "create", "key": key, "data": { "x": "secret" } });
    let body = json!({ "events": [change("a", "todos"), change("b", "todos")] }).to_string();
    let (status, answer) = w.publish(Call::BroadcastBatch, &body, Some("once"));
    assert_eq!(status, 200, "{answer}");
    let frames = (w.frames(alice), w.frames(bob));
    let [event] = w.events().try_into().unwrap();
    assert_eq!(
        event,
        json!({
            "op": "publish", "outcome": "done", "space": "global", "key": "bills",
            "path": "/broadcast-batch", "channel": "todos", "seq": 2, "changes": 2,
            // Two rows and the idempotency key.
            "rows": 3, "receivers": 2, "bytes": frames.0[0].len() + frames.1[0].len(),
            "durationMs": 0
        })
    );
    w.publish(Call::BroadcastBatch, &body, Some("once"));
    w.call(
        Call::BroadcastBatch,
        json!({ "events": [change("c", "todos"), change("d", "feed")] }),
    );
    w.call(Call::Epoch, json!({}));
    let fields = ["op", "outcome", "code", "channel", "changes", "receivers"];
    assert_eq!(
        told(&mut w, &fields),
        [
            json!(["publish", "repeated", null, null, null, 0]),
            json!(["publish", "refused", "forbidden", null, null, 0]),
            json!(["operate", "refused", "forbidden", null, null, 0]),
        ]
    );
}

#[test]
fn trimming_is_told_with_its_rows() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(alice, "a", "todos", json!({ "id": "k" }));
    w.delete(alice, "b", "todos", "k");
    w.drop(alice);
    w.events();
    w.advance(limits::RETENTION_MS + limits::ALARM_GRAIN_MS);
    assert!(w.ring());
    let [event] = w.events().try_into().unwrap();
    assert_eq!(
        (&event["op"], &event["outcome"]),
        (&json!("retain"), &json!("done"))
    );
    assert!(event["rows"].as_u64() >= Some(1), "{event}");
}

#[test]
fn failing_storage_is_told_as_unavailable() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.events();
    w.sqlite.fail_after(1);
    w.create(alice, "a", "todos", json!({ "id": "k" }));
    assert_eq!(
        told(&mut w, &GIST),
        [json!(["mutate", "refused", "unavailable"])]
    );
}

#[test]
fn presence_and_signals_and_questions_are_not_told() {
    let mut w = World::new();
    let alice = w.live("alice", "open");
    w.events();
    w.send(
        alice,
        json!({ "type": "presence", "channel": "open", "state": {} }),
    );
    w.send(
        alice,
        json!({ "type": "signal", "channel": "open", "event": "typing" }),
    );
    w.stats();
    w.metrics();
    w.inspect(0);
    w.presence("open");
    assert_eq!(w.events(), NOTHING);
}

#[test]
fn stats_have_storage_rows_and_floors() {
    let mut w = World::new();
    let alice = w.user("alice");
    for key in ["a", "b", "c"] {
        w.create(alice, key, "todos", json!({ "id": key }));
    }
    w.delete(alice, "d", "todos", "c");
    w.call(Call::BroadcastReset, json!({ "channel": "feed" }));
    let stats = w.stats();
    assert_eq!(stats["rows"], 3, "a tombstone is a row");
    assert_eq!(stats["moreRows"], false);
    assert_eq!(stats["floors"], json!({ "feed": 5 }));
    assert_eq!(stats["moreFloors"], false);
    assert!(stats["storageBytes"].as_u64() > Some(0));
    assert!(stats["rowsWritten"].as_u64() >= Some(8), "{stats}");
}

#[test]
fn rows_and_floors_are_counted_up_to_their_bounds() {
    let mut w = World::new();
    let fill = |w: &World, from: usize, to: usize| {
        w.sqlite.execute(&format!(
            "WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {to})
             INSERT INTO rows (channel, key, seq, at) SELECT 'todos', 'k' || i, i + 1, 0 FROM n"
        ));
    };
    let raise = |w: &World, from: usize, to: usize| {
        w.sqlite.execute(&format!(
            "WITH RECURSIVE n (i) AS (SELECT {from} UNION ALL SELECT i + 1 FROM n WHERE i + 1 < {to})
             INSERT INTO channels (name, floor, floor_at, swept)
             SELECT 'chat:' || i, 1, 0, 0 FROM n"
        ));
    };
    fill(&w, 0, limits::STATS_ROWS);
    raise(&w, 0, limits::STATS_FLOORS);
    for more in [false, true] {
        if more {
            fill(&w, limits::STATS_ROWS, limits::STATS_ROWS + 1);
            raise(&w, limits::STATS_FLOORS, limits::STATS_FLOORS + 1);
        }
        let stats = w.stats();
        assert_eq!(stats["rows"], limits::STATS_ROWS);
        let floors = stats["floors"].as_object().unwrap();
        assert_eq!(floors.len(), limits::STATS_FLOORS);
        assert_eq!([&stats["moreRows"], &stats["moreFloors"]], [more, more]);
    }
}

#[test]
fn metrics_count_what_happened_and_begin_anew_with_each_life() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.live("bob", "todos"));
    w.create(alice, "m", "todos", json!({ "id": "k" }));
    w.create(alice, "n", "feed", json!({ "id": "k" }));
    w.drop(bob);
    let text = w.metrics();
    for line in [
        "tidewire_connections 1",
        "tidewire_users 1",
        "tidewire_channels 1",
        "tidewire_subscriptions 1",
        "tidewire_log_seq 1",
        "tidewire_operations_total{operation=\"connect\",outcome=\"done\"} 2",
        "tidewire_operations_total{operation=\"mutate\",outcome=\"done\"} 1",
        "tidewire_operations_total{operation=\"mutate\",outcome=\"refused\"} 1",
        "tidewire_refusals_total{operation=\"mutate\",code=\"read_only\"} 1",
        "tidewire_disconnects_total{code=\"client\"} 1",
        "tidewire_changes_total 1",
        "tidewire_deliveries_total 1",
        // Two hellos, two subscriptions, two mutations; an answer to each, and a change.
        "tidewire_received_frames_total 6",
        "tidewire_sent_frames_total 7",
    ] {
        assert!(text.lines().any(|held| held == line), "{line}\n{text}");
    }
    w.sleep();
    let text = w.metrics();
    assert!(text.contains("tidewire_changes_total 0\n"), "{text}");
    assert!(text.contains("tidewire_log_seq 1\n"), "{text}");
}

/// No name that a peer chose becomes a label.
#[test]
fn labels_of_metrics_have_few_values() {
    let mut w = World::new();
    for user in 0..50 {
        let conn = w.user(&format!("user {user}"));
        w.subscribe(conn, &format!("chat:{user}"));
        w.subscribe(conn, &format!("nowhere {user}"));
        w.drop(conn);
    }
    let text = w.metrics();
    assert!(!text.contains("user 7") && !text.contains("chat:7"));
    assert!(text.lines().count() < 100, "{text}");
}

#[test]
fn an_inspector_sees_connections_channels_rules_and_events() {
    let mut w = World::new();
    let alice = w.connect(Some("alice"), &["room:1"]);
    w.send(alice, json!({ "type": "hello", "v": 1, "device": "phone" }));
    w.messages(alice);
    w.subscribe(alice, "room:1");
    w.send(
        alice,
        json!({ "type": "presence", "channel": "room:1", "state": { "x": 1 } }),
    );
    w.messages(alice);
    w.create(alice, "m", "room:1", json!({ "id": "k", "text": "hidden" }));
    let seen = w.inspect(0);
    assert!(!seen.to_string().contains("hidden"));
    let counts = [
        "connections",
        "channels",
        "subscriptions",
        "presences",
        "seq",
    ];
    assert_eq!(counts.map(|name| seen[name].as_u64().unwrap()), [1; 5]);
    assert_eq!(
        seen["connectionList"],
        json!([{
            "session": "session-1", "identity": "alice", "device": "phone", "dialect": "hello",
            "expiresAt": w.now.plus(24 * 60 * 60 * 1000).0,
            "topics": 2, "topicList": ["room:1", "user:alice"],
            "subscriptions": 1, "subscriptionList": ["room:1"]
        }])
    );
    assert_eq!(
        seen["channelList"],
        json!([{
            "channel": "room:1", "rule": "room:*", "subscribers": 1, "present": 1,
            "members": [{ "session": "session-1", "identity": "alice", "state": { "x": 1 } }]
        }])
    );
    let rules = seen["rules"].as_array().unwrap();
    let rule = |pattern: &str| {
        rules
            .iter()
            .find(|rule| rule["pattern"] == pattern)
            .unwrap()
    };
    assert_eq!(
        rule("room:*"),
        &json!({
            "pattern": "room:*", "read": "topic", "write": "topic", "keep": "latest",
            "presence": true, "signals": true
        })
    );
    assert_eq!(
        rule("talk:*"),
        &json!({
            "pattern": "talk:*", "read": "user", "write": "user",
            "scope": { "field": "for", "as": "user:", "leave": true },
            "keep": "every", "retainCount": 6, "retainDays": 2, "edits": true
        })
    );
    let ops = |seen: &Value| -> Vec<String> {
        let events = seen["events"].as_array().unwrap().iter();
        events
            .map(|event| format!("{} {}", event["number"], event["op"].as_str().unwrap()))
            .collect()
    };
    assert_eq!(ops(&seen), ["1 connect", "2 subscribe", "3 mutate"]);
    assert_eq!(seen["events"][2]["at"], w.now.0);
    assert_eq!(seen["lastEvent"], 3);
    assert_eq!(ops(&w.inspect(2)), ["3 mutate"]);
    assert_eq!(ops(&w.inspect(3)), [""; 0]);
}

#[test]
fn an_inspector_sees_no_more_than_its_bounds() {
    let mut w = World::new();
    let most = limits::INSPECT_ITEMS;
    let listed = |seen: &Value, list: &str| seen[list].as_array().unwrap().len();
    for more in 0..=1 {
        while w.stats()["connections"].as_u64() < Some((most + more) as u64) {
            let conn = w.user("alice");
            let channel = format!("chat:{}", w.stats()["channels"]);
            w.subscribe(conn, &channel);
        }
        let seen = w.inspect(0);
        assert_eq!(seen["connections"], most + more);
        assert_eq!(listed(&seen, "connectionList"), most);
        assert_eq!(listed(&seen, "channelList"), most);
        assert_eq!(listed(&seen, "events"), limits::RECENT_EVENTS);
    }
}

#[test]
fn an_inspector_sees_no_more_members_than_its_bound() {
    let (most, parts) = (limits::INSPECT_ITEMS, limits::INSPECT_PARTS);
    let open = json!({ "read": "user", "presence": true });
    for more in 0..=1 {
        let mut w = World::with_channels(&json!({ "p:*": open }));
        for _ in 0..parts {
            let conn = w.user("alice");
            for at in 0..most / parts + more {
                let channel = format!("p:{at}");
                w.subscribe(conn, &channel);
                w.send(
                    conn,
                    json!({ "type": "presence", "channel": channel, "state": 1 }),
                );
                w.messages(conn);
            }
        }
        let seen = w.inspect(0);
        assert_eq!(seen["presences"], most + parts * more);
        let channels = seen["channelList"].as_array().unwrap().iter();
        let members = channels.map(|of| of["members"].as_array().unwrap().len());
        assert_eq!(members.sum::<usize>(), most);
    }
}

#[test]
fn an_inspector_sees_no_more_parts_than_their_bound() {
    let parts = limits::INSPECT_PARTS;
    for more in 0..=1 {
        let mut w = World::new();
        let topics: Vec<String> = (1..parts + more).map(|at| format!("t{at}")).collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let zoe = w.member("zoe", &topics);
        for at in 0..parts + more {
            w.subscribe(zoe, &format!("chat:{at}"));
        }
        for _ in 0..parts + more {
            let conn = w.live("alice", "open");
            w.send(
                conn,
                json!({ "type": "presence", "channel": "open", "state": 1 }),
            );
        }
        let seen = w.inspect(0);
        let listed = |of: &Value, list: &str| of[list].as_array().unwrap().len();
        let zoe = &seen["connectionList"][0];
        for (count, list) in [
            ("subscriptions", "subscriptionList"),
            ("topics", "topicList"),
        ] {
            assert_eq!(zoe[count], parts + more);
            assert_eq!(listed(zoe, list), parts);
        }
        let channels = seen["channelList"].as_array().unwrap();
        let open = channels.iter().find(|of| of["channel"] == "open").unwrap();
        assert_eq!(open["present"], parts + more);
        assert_eq!(listed(open, "members"), parts);
    }
}

#[test]
fn readers_and_writers_over_http_are_told_by_what_they_ask() {
    const FIELDS: [&str; 6] = ["op", "outcome", "code", "identity", "path", "rows"];
    let mut w = World::new();
    let bob = w.live("bob", "todos");
    w.events();
    let mutation = |id: &str, key: &str| json!({ "id": id, "channel": "todos", "action": "create", "data": { "id": key } });
    let (status, _) = w.write(
        Some("alice"),
        json!([
            mutation("m1", "k"),
            mutation("m1", "k"),
            mutation("m1", "l")
        ]),
    );
    assert_eq!(status, 200);
    w.messages(bob);
    let mutate = |outcome: &str, code: Value, rows: u64| {
        json!(["mutate", outcome, code, "alice", "/api/sync/mutate", rows])
    };
    let told_of = told(&mut w, &FIELDS);
    assert_eq!(told_of.len(), 3);
    let first = told_of[0][5].as_u64().expect("rows");
    assert!(first > 0);
    assert_eq!(
        told_of,
        [
            mutate("done", Value::Null, first),
            mutate("repeated", Value::Null, 0),
            mutate("refused", json!("conflict"), 0)
        ]
    );
    let page = w.page_text(&reads("alice", "todos")).1;
    let stream = w.stream(&reads("alice", "todos"));
    let sent = w.stream_events(stream)[0].to_string();
    w.page(&reads("alice", "nowhere"));
    w.break_off(stream);
    let subscribe = |outcome: &str, code: Value, bytes: usize| {
        json!([
            "subscribe",
            outcome,
            code,
            "alice",
            "/api/sync/changes",
            bytes
        ])
    };
    let fields = ["op", "outcome", "code", "identity", "path", "bytes"];
    assert_eq!(
        told(&mut w, &fields),
        [
            subscribe("done", Value::Null, page.len()),
            subscribe("done", Value::Null, sent.len()),
            subscribe("refused", json!("unknown_channel"), 0)
        ]
    );
}
