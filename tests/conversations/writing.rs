//! Mutations over HTTP: what a socket's would do, and no session that lasts.

use serde_json::{Value, json};
use tidewire::limits;

use super::world::World;
use super::world::readers::reads;
use super::{NOTHING, blame, code, passes};

fn create(id: &str, key: &str) -> Value {
    json!({ "id": id, "channel": "todos", "action": "create", "data": { "id": key } })
}

#[test]
fn mutations_are_acked_in_order_and_all_sockets_hear_of_them() {
    let mut w = World::new();
    let (alice, bob) = (w.live("alice", "todos"), w.live("bob", "todos"));
    let (status, body) = w.write(
        Some("alice"),
        json!([
            create("m1", "k1"),
            { "type": "mutate", "id": "m2", "channel": "todos", "action": "update", "key": "k1", "data": { "x": 1 } },
            { "id": "m3", "channel": "todos", "action": "delete", "key": "k1" }
        ]),
    );
    assert_eq!(status, 200);
    let results = body["results"].as_array().unwrap();
    let gist: Vec<_> = results
        .iter()
        .map(|ack| (ack["type"].clone(), ack["id"].clone()))
        .collect();
    let ack = |id: &str| (json!("ack"), json!(id));
    assert_eq!(gist, [ack("m1"), ack("m2"), ack("m3")]);
    assert_eq!(results[1]["data"], json!({ "id": "k1", "x": 1 }));
    // Also those of the same identity: none of them has sent it.
    let (hers, his) = (w.messages(alice), w.messages(bob));
    assert_eq!(hers, his);
    assert_eq!(super::gist(&hers), ["create k1", "update k1", "delete k1"]);
    assert!(hers.iter().all(|change| change["by"] == "alice"));
}

#[test]
fn the_same_id_is_executed_once_over_any_transport() {
    let mut w = World::new();
    let bob = w.live("bob", "todos");
    let send =
        |w: &mut World| w.write(Some("alice"), json!([create("m1", "k1")])).1["results"][0].clone();
    let first = send(&mut w);
    assert_eq!(first["replayed"], false);
    w.sleep();
    let again = send(&mut w);
    assert_eq!(
        (&again["replayed"], &again["cursor"]),
        (&json!(true), &first["cursor"])
    );
    let alice = w.user("alice");
    assert_eq!(
        w.create(alice, "m1", "todos", json!({ "id": "k1" }))["replayed"],
        true
    );
    assert_eq!(
        code(&w.create(alice, "m1", "todos", json!({ "id": "k2" }))),
        "conflict"
    );
    assert_eq!(w.messages(bob).len(), 1);
}

#[test]
fn the_ids_of_nobody_count_for_one_request() {
    let mut w = World::new();
    let mutation = json!({ "id": "m1", "channel": "open", "action": "update", "key": "k", "data": { "n": 1 } });
    let open = json!({ "id": "m0", "channel": "open", "action": "create", "data": { "id": "k" } });
    let (_, body) = w.write(None, json!([open, mutation, mutation]));
    let replayed: Vec<_> = body["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| r["replayed"].clone())
        .collect();
    assert_eq!(replayed, [false, false, true]);
    let (_, body) = w.write(None, json!([mutation]));
    assert_eq!(
        body["results"][0]["replayed"], false,
        "another request, another session"
    );
}

#[test]
fn a_mutation_is_refused_alone_and_in_the_same_words() {
    let mut w = World::new();
    let (status, body) = w.write(
        Some("alice"),
        json!([
            create("m1", "k1"),
            { "id": "m2", "channel": "nowhere", "action": "delete", "key": "k" },
            { "id": "m3", "channel": "feed", "action": "delete", "key": "k" },
            { "id": "m4", "channel": "todos", "action": "update", "key": "none", "data": {} },
            { "id": "m5", "channel": "todos", "action": "polish" },
            { "channel": "todos", "action": "delete", "key": "k1" },
            { "type": "subscribe", "id": "m7", "channel": "todos" },
            "no mutation",
            create("m9", "k9")
        ]),
    );
    assert_eq!(status, 200);
    let results = body["results"].as_array().unwrap();
    let codes: Vec<&str> = results[1..8].iter().map(code).collect();
    let malformed = "malformed";
    assert_eq!(
        codes,
        [
            "unknown_channel",
            "read_only",
            "not_found",
            malformed,
            malformed,
            malformed,
            malformed
        ]
    );
    assert_eq!(
        (&results[0]["type"], &results[8]["type"]),
        (&json!("ack"), &json!("ack"))
    );
    assert_eq!(
        (&results[1]["id"], &results[1]["channel"]),
        (&json!("m2"), &json!("nowhere"))
    );
    let alice = w.user("alice");
    let mut socket = w.update(alice, "m4", "todos", json!({ "id": "none" }));
    socket["id"] = json!("m4");
    assert_eq!(results[3], socket);
}

#[test]
fn a_body_holds_1_to_1000_mutations() {
    let mut w = World::new();
    for body in [
        "",
        "[]",
        "{}",
        "null",
        "{\"mutations\":{}}",
        "{\"mutations\":[1}",
    ] {
        let (status, answer) = w.write_text(Some("alice"), body, None);
        assert_eq!((status, code(&answer)), (400, "malformed"), "{body}");
    }
    let deep = format!("{{\"mutations\":[{}{}]}}", "[".repeat(64), "]".repeat(64));
    assert_eq!(
        code(&w.write_text(Some("alice"), &deep, None).1),
        "malformed"
    );
    let many = |n: usize| {
        Value::from(
            (0..n)
                .map(|i| create(&format!("m{i}"), "k"))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        blame(&w.write(Some("alice"), json!([])).1),
        ("invalid", "mutations")
    );
    let most = limits::FRAME_MESSAGES;
    assert_eq!(
        blame(&w.write(Some("alice"), many(most + 1)).1),
        ("invalid", "mutations")
    );
    let (status, body) = w.write(Some("alice"), many(most));
    assert_eq!(
        (status, body["results"].as_array().unwrap().len()),
        (200, most)
    );
    assert!(
        body["results"]
            .as_array()
            .unwrap()
            .iter()
            .all(|result| result["type"] == "ack")
    );
}

#[test]
fn mutations_have_the_rate_of_one_connection() {
    let mut w = World::with_limits(&json!({ "messagesPerSecond": 1 }));
    let many: Vec<Value> = (0..12).map(|i| create(&format!("m{i}"), "k")).collect();
    let (_, body) = w.write(Some("alice"), Value::from(many.clone()));
    let results = body["results"].as_array().unwrap();
    assert!(results[..10].iter().all(|result| result["type"] == "ack"));
    for refused in &results[10..] {
        assert_eq!(code(refused), "rate_limited");
        assert!(refused["error"]["retryAfterMs"].as_u64() >= Some(1_000));
    }
    assert_eq!(
        w.page(&reads("alice", "todos")).0,
        429,
        "reading is of the same bucket"
    );
    w.advance(2_000);
    let (_, body) = w.write(Some("alice"), Value::from(many[10..].to_vec()));
    assert!(
        body["results"]
            .as_array()
            .unwrap()
            .iter()
            .all(|result| result["replayed"] == false)
    );
}

#[test]
fn the_answers_of_one_request_are_bounded() {
    let mut w = World::new();
    let alice = w.user("alice");
    w.create(
        alice,
        "m",
        "todos",
        json!({ "id": "k", "text": "x".repeat(200_000) }),
    );
    let touch = |i: usize| json!({ "id": format!("m{i}"), "channel": "todos", "action": "update", "key": "k", "data": { "n": i } });
    let many: Vec<Value> = (0..200).map(touch).collect();
    let (_, body) = w.write(Some("alice"), Value::from(many));
    let results = body["results"].as_array().unwrap();
    let acked = results
        .iter()
        .take_while(|result| result["type"] == "ack")
        .count();
    let most = limits::TURN_OUT_BYTES / 200_000;
    assert!((most - 1..=most + 1).contains(&acked), "{acked}");
    assert!(
        results[acked..]
            .iter()
            .all(|result| code(result) == "rate_limited")
    );
}

#[test]
fn a_token_of_a_channel_opens_its_mutations() {
    let mut w = passes::world();
    let hers = passes::pass(&w, "vault:1", json!({ "write": true }));
    let reading = passes::pass(&w, "vault:1", json!({}));
    let mut send = |channel: &str, token: Option<&str>| {
        let mutation = json!({ "id": format!("{channel} {token:?}").chars().take(100).collect::<String>(), "channel": channel, "action": "create", "data": { "id": "k" } });
        let body = json!({ "mutations": [mutation] }).to_string();
        w.write_text(Some("alice"), &body, token).1["results"][0].clone()
    };
    assert_eq!(code(&send("vault:1", None)), "forbidden");
    assert_eq!(code(&send("vault:1", Some(&reading))), "forbidden");
    assert_eq!(code(&send("vault:2", Some(&hers))), "forbidden");
    assert_eq!(send("vault:1", Some(&hers))["type"], "ack");
}

#[test]
fn who_may_not_be_here_writes_nothing() {
    let mut w = World::new();
    let bob = w.live("bob", "todos");
    w.call(tidewire::Call::Disconnect, json!({ "identity": "alice" }));
    let (status, body) = w.write(Some("alice"), json!([create("m1", "k1")]));
    assert_eq!((status, code(&body)), (401, "unauthorized"));
    let (status, body) = w.write(None, json!([create("m1", "k1")]));
    assert_eq!((status, code(&body["results"][0])), (200, "unauthorized"));
    assert_eq!(w.messages(bob), NOTHING);
}

#[test]
fn a_writer_who_writes_a_row_out_of_its_own_sight_is_told_no_more_of_it() {
    let mut w = World::new();
    let (_, body) = w.write(
        Some("alice"),
        json!([{ "id": "m1", "channel": "gifts", "action": "create", "data": { "id": "g", "for": "bob" } }]),
    );
    assert_eq!(body["results"][0]["data"], Value::Null);
}
