//! Presence over time: whoever goes in whatever way, pages, sleep, crashes and storms.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use tidewire::{Call, ConnId, Grant, Millis, Session, SessionId, limits};

use super::presence::{channels, join, leave, present, watching, who, world};
use super::world::{World, config, token};
use super::{NOTHING, code};

/// What one observer makes of what it is told: states by session.
#[derive(Debug, Default, PartialEq)]
struct Picture(BTreeMap<String, Value>);

impl Picture {
    fn hear(&mut self, messages: &[Value]) {
        let list = |m: &Value, what: &str| m[what].as_array().cloned().unwrap_or_default();
        let session = |member: &Value| member["session"].as_str().unwrap().to_owned();
        for message in messages.iter().filter(|m| m["type"] == "presence") {
            if message["members"].is_array() {
                self.0.clear();
            }
            for what in ["members", "joined", "updated"] {
                for member in list(message, what) {
                    let before = self.0.insert(session(&member), member["state"].clone());
                    assert_eq!(before.is_some(), what == "updated", "{message}");
                }
            }
            for member in list(message, "left") {
                assert!(self.0.remove(&session(&member)).is_some(), "{message}");
            }
        }
    }

    fn truth(w: &mut World, channel: &str) -> Self {
        let mut truth = Self::default();
        let mut members = w.presence(channel).1;
        members["type"] = json!("presence");
        truth.hear(&[members]);
        truth
    }
}

/// A token of the door for alice, good for so many seconds.
fn pass(w: &World, seconds: u64) -> Value {
    let exp = w.now.0 / 1000 + seconds;
    json!(token(
        &json!({ "channel": "door", "sub": "alice", "exp": exp })
    ))
}

/// Puts five rows where somebody will ask for them on pages.
fn fill(w: &mut World, channel: &str) {
    for key in 0..5 {
        let body =
            json!({ "channel": channel, "action": "create", "key": key.to_string(), "data": {} });
        assert_eq!(w.broadcast(body).0, 200);
    }
}

#[test]
fn whoever_goes_in_whatever_way_leaves() {
    type Go = fn(&mut World, ConnId);
    let ways: [(&str, Go); 9] = [
        ("leaves", |w, conn| leave(w, conn, "room:1")),
        ("is dropped", |w, conn| w.drop(conn)),
        ("unsubscribes", |w, conn| {
            w.send(conn, json!({ "type": "unsubscribe", "channel": "room:1" }));
        }),
        ("is disconnected", |w, _| {
            w.call(Call::Disconnect, json!({ "identity": "mia" }));
        }),
        ("loses the topic", |w, _| {
            w.call(
                Call::Topics,
                json!({ "identity": "mia", "remove": ["room:1"] }),
            );
        }),
        ("renews without the topic", |w, conn| {
            let claims = json!({ "sub": "mia", "exp": w.now.0 / 1000 + 60 });
            w.send(conn, json!({ "type": "auth", "token": token(&claims) }));
        }),
        ("becomes another", |w, conn| {
            let claims = json!({ "sub": "eve", "exp": w.now.0 / 1000 + 60 });
            w.send(conn, json!({ "type": "auth", "token": token(&claims) }));
        }),
        ("breaks the protocol", |w, conn| {
            w.send_text(conn, &" ".repeat(limits::FRAME_BYTES + 1));
        }),
        ("expires", |w, _| {
            w.now = Millis(w.now.0.next_multiple_of(60_000) + 60_000);
            assert!(w.ring());
        }),
    ];
    for (way, go) in ways {
        for sleeps in [false, true] {
            let mut w = world();
            let walter = w.member("walter", &["room:1"]);
            w.subscribe(walter, "room:1");
            w.send(
                walter,
                json!({ "type": "presence", "channel": "room:1", "watch": true }),
            );
            let until = Some(w.now.plus(60_000));
            let mia = w.connect_until(Some("mia"), &["room:1"], until).unwrap();
            w.hello(mia);
            w.subscribe(mia, "room:1");
            join(&mut w, mia, "room:1", json!({ "of": "mia" }));
            assert_eq!(who(&w.messages(walter)[1]["joined"]), ["mia"]);
            if sleeps {
                w.sleep();
            }
            go(&mut w, mia);
            let left = w.one(walter);
            let sessions = json!([{ "session": "session-2", "identity": "mia" }]);
            assert_eq!(left["left"], sessions, "{way}");
            assert_eq!(w.presence("room:1").1["total"], 0, "{way}");
        }
    }
}

#[test]
fn whoever_subscribes_anew_over_several_pages_stays() {
    for sleeps in [false, true] {
        let mut w = world();
        fill(&mut w, "lobby");
        let walter = watching(&mut w, "walter", "lobby");
        let alice = present(&mut w, "alice", "lobby");
        w.messages(walter);
        let (mut cursor, mut view, mut pages) = (Value::Null, Value::Null, 0);
        loop {
            let page = w.ask(alice, json!({
                "type": "subscribe", "channel": "lobby", "cursor": cursor, "view": view, "limit": 2
            }));
            pages += 1;
            if page["more"] == false {
                break;
            }
            (cursor, view) = (page["cursor"].clone(), page["view"].clone());
            if sleeps {
                w.sleep();
            }
            assert_eq!(
                join(&mut w, alice, "lobby", json!(pages)),
                None,
                "an update"
            );
            assert_eq!(w.one(walter)["updated"][0]["state"], pages);
            w.send(
                alice,
                json!({ "type": "signal", "channel": "lobby", "event": "paging" }),
            );
            assert_eq!(w.one(walter)["event"], "paging");
        }
        assert_eq!(pages, 3);
        assert_eq!(
            (
                w.messages(walter).len(),
                w.presence("lobby").1["total"].as_u64()
            ),
            (0, Some(1))
        );
        w.send(
            alice,
            json!({ "type": "subscribe", "channel": "lobby", "limit": 1 }),
        );
        w.send(alice, json!({ "type": "unsubscribe", "channel": "lobby" }));
        assert_eq!(who(&w.one(walter)["left"]), ["alice"], "between two pages");
    }
}

#[test]
fn between_two_pages_a_lost_topic_and_a_tokens_end_end_presence_too() {
    for sleeps in [false, true] {
        let mut w = world();
        let (mia, bob) = (w.member("mia", &["room:1"]), w.member("bob", &["room:1"]));
        let alice = w.user("alice");
        let pass = pass(&w, 90);
        for conn in [mia, bob] {
            w.subscribe(conn, "room:1");
        }
        w.ask(
            alice,
            json!({ "type": "subscribe", "channel": "door", "token": pass }),
        );
        for (conn, channel) in [(mia, "room:1"), (alice, "door")] {
            let watch = json!({ "type": "presence", "channel": channel, "watch": true });
            assert_eq!(w.ask(conn, watch)["total"], 0);
            fill(&mut w, channel);
            w.messages(conn);
            w.messages(bob);
            let page = json!({ "type": "subscribe", "channel": channel, "limit": 1 });
            assert_eq!(w.ask(conn, page)["more"], true);
        }
        if sleeps {
            w.sleep();
        }
        w.call(
            Call::Topics,
            json!({ "identity": "mia", "remove": ["room:1"] }),
        );
        let told = w.messages(mia);
        assert_eq!(
            (&told[0]["type"], &told[0]["channel"]),
            (&json!("channel-reset"), &json!("room:1"))
        );
        join(&mut w, bob, "room:1", json!(1));
        assert_eq!(w.messages(mia), NOTHING, "it watches on");
        assert_eq!(join(&mut w, alice, "door", json!(1)).unwrap()["total"], 1);
        w.advance(89_999);
        assert_eq!(w.presence("door").1["total"], 1);
        w.advance(1);
        assert_eq!(w.presence("door").1["total"], 0);
        assert_eq!(
            w.one(alice),
            json!({ "type": "channel-change", "channel": "door" })
        );
        assert_eq!(
            code(&join(&mut w, alice, "door", json!(2)).unwrap()),
            "forbidden"
        );
    }
}

#[test]
fn a_channels_token_that_ends_or_is_renewed_ends_or_prolongs_presence() {
    let mut w = world();
    let alice = w.user("alice");
    let (short, long) = (pass(&w, 60), pass(&w, 120));
    for token in [short, long] {
        w.ask(
            alice,
            json!({ "type": "subscribe", "channel": "door", "token": token }),
        );
        join(&mut w, alice, "door", json!(1));
    }
    w.sleep();
    w.advance(119_999);
    assert_eq!(w.presence("door").1["total"], 1);
    w.advance(1);
    assert_eq!(w.presence("door").1["total"], 0);
}

/// Members, watchers and many moves; what each heard, and what everybody was told of each move.
fn story(sleeps: bool) -> Vec<Vec<Value>> {
    let mut w = world();
    let conns: Vec<ConnId> = ["alice", "bob", "carol", "dave"]
        .map(|user| w.live(user, "lobby"))
        .into();
    let mut heard: Vec<Vec<Value>> = vec![Vec::new(); conns.len()];
    let set = |state: Value| json!({ "type": "presence", "channel": "lobby", "state": state });
    let watch = json!({ "type": "presence", "channel": "lobby", "watch": true });
    let signal = json!({ "type": "signal", "channel": "lobby", "event": "e", "data": 1 });
    for (at, message) in [
        (3, watch.clone()),
        (0, set(json!(1))),
        (1, set(json!({ "a": [1] }))),
        (2, watch),
        (0, set(json!(2))),
        (2, set(json!(3))),
        (1, set(Value::Null)),
        (1, signal),
        (1, set(json!("again"))),
        (3, set(json!(4))),
        (0, set(Value::Null)),
        (2, set(json!(5))),
    ] {
        if sleeps {
            w.sleep();
        }
        w.send(conns[at], message);
        for (conn, heard) in conns.iter().zip(&mut heard) {
            heard.extend(w.messages(*conn));
        }
    }
    assert_eq!(w.faults, NOTHING.map(|_| String::new()));
    heard
}

#[test]
fn sleep_between_any_two_moves_changes_nothing() {
    assert_eq!(story(true), story(false));
}

#[test]
fn whoever_is_closed_on_waking_leaves() {
    let config = Rc::unwrap_or_clone(config(&channels())).with_own_authenticator();
    let mut w = World::with_config(Rc::new(config));
    let walter = watching(&mut w, "walter", "lobby");
    let alice = present(&mut w, "alice", "lobby");
    w.messages(walter);
    w.send(
        alice,
        json!({ "type": "auth", "token": "to be judged elsewhere" }),
    );
    assert_eq!(w.asks.len(), 1);
    w.sleep();
    assert_eq!(w.closed(alice), Some(4000));
    assert_eq!(w.presence("lobby").1["total"], 0);
    assert_eq!(who(&w.one(walter)["left"]), ["alice"]);
}

#[test]
fn a_crash_anywhere_leaves_nobody_with_a_wrong_picture() {
    let mut crashed = 0;
    for after in 0..12 {
        let mut w = world();
        let conns: Vec<ConnId> = (0..4)
            .map(|i| present(&mut w, &format!("u{i}"), "lobby"))
            .collect();
        w.crash_after = Some(after);
        w.send(
            conns[3],
            json!({ "type": "presence", "channel": "lobby", "state": "moved" }),
        );
        w.crash_after = None;
        crashed += w.crashes;
        let closed = conns
            .iter()
            .filter(|conn| w.closed(**conn) == Some(4000))
            .count();
        assert_eq!(
            closed,
            if w.crashes == 0 { 0 } else { conns.len() },
            "after {after}"
        );
        assert_eq!(w.presence("lobby").1["total"], conns.len() - closed);
    }
    assert!(
        (1..12).contains(&crashed),
        "the turn crashed in its midst and came to its end"
    );
}

#[test]
fn a_storm_of_1000_joins_sends_each_member_one_frame_a_turn() {
    let mut w = world();
    let until = w.now.plus(600_000);
    let walter = watching(&mut w, "walter", "lobby");
    let mut pictures = BTreeMap::from([(walter, Picture::default())]);
    for i in 0..1_000 {
        let conn = w
            .connect_until(Some(&format!("u{i}")), &[], Some(until))
            .unwrap();
        w.hello(conn);
        w.subscribe(conn, "lobby");
        pictures.insert(conn, Picture::default());
        let set = json!({ "type": "presence", "channel": "lobby", "state": i });
        w.send(conn, set.clone());
        // What is the same for all is written once, whoever gets it.
        assert!(w.sent_bytes < 60_000, "{}", w.sent_bytes);
        for (at, picture) in &mut pictures {
            // Looking at all of them at each turn would take long.
            if i % 50 == 0 || *at == walter || *at == conn {
                let frames = w.frames(*at);
                assert!(frames.len() <= 1 || i % 50 == 0, "{frames:?}");
                let messages = frames
                    .iter()
                    .map(|frame| serde_json::from_str(frame).unwrap());
                picture.hear(&messages.collect::<Vec<_>>());
            }
        }
    }
    // All tokens end at once: whoever is left is told in one frame.
    w.now = until;
    assert_eq!(w.presence("lobby").1["total"], 0);
    let frames = w.frames(walter);
    assert_eq!(frames.len(), 1);
    let told: Value = serde_json::from_str(&frames[0]).unwrap();
    assert_eq!(told["left"].as_array().unwrap().len(), 1_000);
    let picture = pictures.get_mut(&walter).unwrap();
    picture.hear(&[told]);
    assert_eq!(*picture, Picture::default());
}

#[test]
fn everybody_has_the_same_picture_after_many_moves() {
    let mut w = world();
    let conns: Vec<ConnId> = (0..12)
        .map(|i| present(&mut w, &format!("u{i}"), "lobby"))
        .collect();
    let mut pictures = BTreeMap::new();
    for conn in &conns {
        w.messages(*conn);
        w.send(
            *conn,
            json!({ "type": "presence", "channel": "lobby", "watch": true }),
        );
    }
    for round in 0..200_usize {
        let conn = conns[(round * 7) % conns.len()];
        let message = match round % 5 {
            0 => json!({ "type": "presence", "channel": "lobby", "watch": true }),
            1 => json!([
                { "type": "presence", "channel": "lobby", "state": null },
                { "type": "presence", "channel": "lobby", "state": round }
            ]),
            _ => json!({ "type": "presence", "channel": "lobby", "state": round }),
        };
        w.send(conn, message);
        let truth = Picture::truth(&mut w, "lobby");
        for (at, conn) in conns.iter().enumerate() {
            let picture: &mut Picture = pictures.entry(*conn).or_default();
            picture.hear(&w.messages(*conn));
            // Of its own state nobody is told.
            let own = format!("session-{}", at + 1);
            picture.0.remove(&own);
            let mut others = Picture(truth.0.clone());
            others.0.remove(&own);
            assert_eq!(*picture, others, "round {round}");
        }
    }
}

#[test]
fn one_frame_of_joins_prepares_a_bounded_number_of_bytes() {
    let mut w = world();
    let state = "s".repeat(limits::STATE_BYTES - 2);
    let set = |state: Value| json!({ "type": "presence", "channel": "lobby", "state": state });
    for i in 0..limits::MEMBERS {
        let conn = w.live(&format!("u{i}"), "lobby");
        w.send(conn, set(json!(state)));
    }
    let alice = w.live("alice", "lobby");
    let frame: Vec<Value> = (0..400)
        .flat_map(|i| [set(json!(i)), set(Value::Null)])
        .collect();
    let signal = json!({ "type": "signal", "channel": "lobby", "event": "e" });
    let frame: Vec<Value> = frame
        .into_iter()
        .chain([signal, set(Value::Null)])
        .collect();
    w.send(alice, json!(frame));
    assert!(w.sent_bytes <= limits::TURN_OUT_BYTES + limits::FRAME_OUT_BYTES);
    let mut answers = w.messages(alice);
    for _ in ["the signal", "the last join"] {
        let refused = answers.pop().unwrap();
        assert_eq!(code(&refused), "rate_limited");
        assert!(refused["error"]["retryAfterMs"].is_u64());
    }
    assert_eq!(
        w.presence("lobby").1["total"],
        limits::MEMBERS,
        "leaving is never put off"
    );
}

#[test]
fn states_count_against_the_room_of_the_space() {
    let mut w = world();
    let alice = w.live("alice", "lobby");
    let filler = |bytes: usize| {
        let grant = Grant {
            context: Some("c".repeat(bytes).into()),
            ..Grant::default()
        };
        let session = Session::new(SessionId::parse("filler").unwrap(), grant);
        session.encode().unwrap()
    };
    let large = filler(16_000);
    let room = limits::ATTACHMENTS_BYTES;
    let last = filler(room % large.len() + large.len() - 1_000);
    let attachments = std::iter::repeat_n(large.clone(), room / large.len() - 1).chain([last]);
    let sockets = (10_000..).map(ConnId).zip(attachments.map(Some));
    assert!(w.engine.wake(false, sockets).is_empty());
    let mut set = |bytes: usize| join(&mut w, alice, "lobby", json!("s".repeat(bytes)));
    assert_eq!(code(&set(1_000).unwrap()), "unavailable");
    assert_eq!(set(500).unwrap()["total"], 1);
    assert_eq!(
        code(&set(1_000).unwrap()),
        "unavailable",
        "an update that takes more"
    );
    assert_eq!(set(499), None);
}
