//! Presence: who is here, who comes and goes, and who may know.

use serde_json::{Value, json};
use tidewire::{ConnId, Publisher, limits};

use super::world::{World, config_with};
use super::{NOTHING, blame, code};

/// Channels that show who is here, for all kinds of readers.
pub(crate) fn channels() -> Value {
    let open = |read: &str| json!({ "read": read, "presence": true, "signals": true });
    json!({
        "lobby": open("user"), "hall": open("anyone"), "room:*": open("topic"),
        "door": open("token"), "seat:*": open("user"),
        "quiet": { "read": "user", "signals": true }, "still": { "read": "user", "presence": true }
    })
}

pub(crate) fn world() -> World {
    World::with_channels(&channels())
}

/// Joins, or updates a state; the members, where they are answered.
pub(crate) fn join(w: &mut World, conn: ConnId, channel: &str, state: Value) -> Option<Value> {
    assert_eq!(w.messages(conn), NOTHING, "unread messages");
    w.send(
        conn,
        json!({ "type": "presence", "channel": channel, "state": state }),
    );
    w.messages(conn).pop()
}

#[track_caller]
fn watch(w: &mut World, conn: ConnId, channel: &str) -> Value {
    w.ask(
        conn,
        json!({ "type": "presence", "channel": channel, "watch": true }),
    )
}

pub(crate) fn leave(w: &mut World, conn: ConnId, channel: &str) {
    w.send(
        conn,
        json!({ "type": "presence", "channel": channel, "state": null }),
    );
}

/// Somebody who is live on the channel and in it.
pub(crate) fn present(w: &mut World, user: &str, channel: &str) -> ConnId {
    let conn = w.live(user, channel);
    let members = join(w, conn, channel, json!({ "of": user })).unwrap();
    assert!(members["total"].as_u64() >= Some(1), "{members}");
    conn
}

/// Somebody who is live on the channel and watches it.
pub(crate) fn watching(w: &mut World, user: &str, channel: &str) -> ConnId {
    let conn = w.live(user, channel);
    watch(w, conn, channel);
    conn
}

/// The identities in a list of members.
#[track_caller]
pub(crate) fn who(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list of members");
    list.iter()
        .map(|m| m["identity"].as_str().unwrap())
        .collect()
}

#[test]
fn joining_and_watching_list_who_is_here_oneself_too() {
    let mut w = world();
    let alice = w.live("alice", "lobby");
    let state = json!({ "cursor": [3, 7], "name": "Ä" });
    assert_eq!(
        join(&mut w, alice, "lobby", state.clone()),
        Some(json!({
            "type": "presence", "channel": "lobby", "total": 1,
            "members": [{ "session": "session-1", "identity": "alice", "state": state }]
        }))
    );
    let bob = w.live("bob", "lobby");
    let members = join(&mut w, bob, "lobby", json!(0)).unwrap();
    assert_eq!(
        (who(&members["members"]).len(), &members["total"]),
        (2, &json!(2))
    );
    let carol = w.live("carol", "lobby");
    let members = watch(&mut w, carol, "lobby");
    assert_eq!(
        (who(&members["members"]), &members["total"]),
        (vec!["alice", "bob"], &json!(2))
    );
    let nobody = w.nobody();
    w.subscribe(nobody, "hall");
    let members = join(&mut w, nobody, "hall", json!("here")).unwrap();
    assert_eq!(members["members"][0]["identity"], Value::Null);
}

#[test]
fn the_others_are_told_who_joined_updated_and_left() {
    let mut w = world();
    let alice = present(&mut w, "alice", "lobby");
    let carol = watching(&mut w, "carol", "lobby");
    let other = w.live("dave", "lobby");
    let bob = w.live("bob", "lobby");
    let told = |what: &str, member: Value| {
        let mut message = json!({ "type": "presence", "channel": "lobby" });
        message[what] = json!([member]);
        message
    };
    let bobs = |state: Value| json!({ "session": "session-4", "identity": "bob", "state": state });
    for (state, what) in [
        (json!({ "x": 1 }), "joined"),
        (json!({ "x": 2 }), "updated"),
    ] {
        assert_eq!(
            join(&mut w, bob, "lobby", state.clone()).is_some(),
            what == "joined"
        );
        for conn in [alice, carol] {
            assert_eq!(w.one(conn), told(what, bobs(state.clone())));
        }
    }
    leave(&mut w, bob, "lobby");
    let left = told("left", json!({ "session": "session-4", "identity": "bob" }));
    assert_eq!((w.one(alice), w.one(carol)), (left.clone(), left));
    assert_eq!(w.messages(bob), NOTHING, "of oneself nothing is told");
    assert_eq!(
        w.messages(other),
        NOTHING,
        "whoever only subscribes hears nothing"
    );
    join(&mut w, alice, "lobby", json!({ "x": 3 }));
    assert_eq!(w.messages(bob), NOTHING, "nor whoever has left");
}

#[test]
fn who_watches_is_not_seen() {
    let mut w = world();
    let alice = present(&mut w, "alice", "lobby");
    let carol = watching(&mut w, "carol", "lobby");
    assert_eq!(
        watch(&mut w, carol, "lobby")["total"],
        1,
        "it may ask again"
    );
    leave(&mut w, carol, "lobby");
    assert_eq!(w.messages(alice), NOTHING);
    join(&mut w, alice, "lobby", json!(2));
    assert_eq!(w.messages(carol), NOTHING, "it has stopped watching");
    watch(&mut w, carol, "lobby");
    // From watching to being there, and back.
    assert_eq!(join(&mut w, carol, "lobby", json!(1)).unwrap()["total"], 2);
    assert_eq!(who(&w.one(alice)["joined"]), ["carol"]);
    assert_eq!(watch(&mut w, carol, "lobby")["total"], 1);
    assert_eq!(who(&w.one(alice)["left"]), ["carol"]);
    join(&mut w, alice, "lobby", json!(3));
    assert_eq!(who(&w.one(carol)["updated"]), ["alice"]);
}

#[test]
fn what_comes_to_nothing_within_a_turn_is_not_told() {
    let mut w = world();
    let alice = present(&mut w, "alice", "lobby");
    let bob = w.live("bob", "lobby");
    let set = |state: Value| json!({ "type": "presence", "channel": "lobby", "state": state });
    w.send(bob, json!([set(json!(1)), set(Value::Null)]));
    assert_eq!(w.messages(bob).len(), 1, "the members");
    assert_eq!(w.messages(alice), NOTHING, "came and went");
    w.send(bob, json!([set(json!(1)), set(json!(2)), set(json!(3))]));
    let told = w.one(alice);
    assert_eq!(
        (&told["joined"][0]["state"], told.get("updated")),
        (&json!(3), None)
    );
    w.messages(bob);
    w.send(bob, json!([set(Value::Null), set(json!(3))]));
    assert_eq!(w.messages(alice), NOTHING, "went and came");
    assert_eq!(w.one(bob)["total"], 2);
    w.send(bob, json!([set(json!(4)), set(json!(3))]));
    assert_eq!(join(&mut w, bob, "lobby", json!(3)), None);
    assert_eq!(w.messages(alice), NOTHING, "is as it was");
    // Channel and presence in one frame.
    let carol = w.user("carol");
    w.send(
        carol,
        json!([{ "type": "subscribe", "channel": "lobby" }, set(json!(0))]),
    );
    let kinds: Vec<_> = w
        .messages(carol)
        .iter()
        .map(|m| m["type"].clone())
        .collect();
    assert_eq!(kinds, ["snapshot", "presence"]);
}

#[test]
fn every_socket_of_an_identity_is_there_for_itself() {
    let mut w = world();
    let (phone, laptop) = (present(&mut w, "alice", "lobby"), w.live("alice", "lobby"));
    let members = join(&mut w, laptop, "lobby", json!("laptop")).unwrap();
    assert_eq!(who(&members["members"]), ["alice", "alice"]);
    assert_eq!(w.one(phone)["joined"][0]["session"], "session-2");
    w.drop(phone);
    assert_eq!(w.one(laptop)["left"][0]["session"], "session-1");
    assert_eq!(w.presence("lobby").1["total"], 1);
}

#[test]
fn presence_is_for_subscribers_where_the_rule_opens_it() {
    let mut w = world();
    let (alice, nobody) = (w.user("alice"), w.nobody());
    let member = w.member("mia", &["room:1"]);
    for change in [json!({ "state": 1 }), json!({ "watch": true })] {
        for (conn, channel, refusal) in [
            (alice, "lobby", "invalid"),
            (alice, "nowhere", "unknown_channel"),
            (alice, "quiet", "forbidden"),
            (alice, "room:1", "forbidden"),
            (alice, "door", "forbidden"),
            (nobody, "lobby", "unauthorized"),
            (member, "room:2", "forbidden"),
        ] {
            let mut message = json!({ "type": "presence", "channel": channel });
            message
                .as_object_mut()
                .unwrap()
                .extend(change.as_object().unwrap().clone());
            let error = w.ask(conn, message);
            assert_eq!(
                (&error["type"], code(&error)),
                (&json!("error"), refusal),
                "{channel}"
            );
        }
    }
    w.subscribe(alice, "quiet");
    assert_eq!(
        code(&join(&mut w, alice, "quiet", json!(1)).unwrap()),
        "forbidden"
    );
    let signal = json!({ "type": "signal", "channel": "still", "event": "e" });
    w.subscribe(alice, "still");
    assert_eq!(code(&w.ask(alice, signal)), "forbidden");
    // Leaving is never refused, and has no answer.
    for channel in ["lobby", "quiet", "nowhere", "room:1"] {
        leave(&mut w, alice, channel);
        assert_eq!(w.messages(alice), NOTHING);
    }
    w.send(alice, json!({ "type": "unsubscribe", "channel": "lobby" }));
    assert_eq!(
        blame(&join(&mut w, alice, "lobby", json!(1)).unwrap()),
        ("invalid", "channel")
    );
}

#[test]
fn states_have_1_kib_each_and_2_kib_in_all_in_16_channels() {
    let mut w = world();
    let alice = w.user("alice");
    let of = |bytes: usize| json!("s".repeat(bytes - 2));
    for i in 0..=limits::PRESENCES {
        w.subscribe(alice, &format!("seat:{i}"));
    }
    let mut set = |at: usize, state: Value| join(&mut w, alice, &format!("seat:{at}"), state);
    let refused = set(0, of(limits::STATE_BYTES + 1)).unwrap();
    assert_eq!(blame(&refused), ("invalid", "state"));
    assert_eq!(set(0, of(limits::STATE_BYTES)).unwrap()["total"], 1);
    let rest = limits::PRESENCE_BYTES - limits::STATE_BYTES;
    assert_eq!(set(1, of(rest - 4)).unwrap()["total"], 1);
    assert_eq!(blame(&set(2, of(5)).unwrap()), ("invalid", "state"));
    assert_eq!(set(2, of(4)).unwrap()["total"], 1);
    assert_eq!(blame(&set(1, of(rest - 3)).unwrap()), ("invalid", "state"));
    assert_eq!(
        set(1, of(rest - 4)),
        None,
        "a refused state leaves the old one"
    );
    assert_eq!(set(1, json!(1)), None);
    for at in 3..limits::PRESENCES {
        assert_eq!(set(at, json!(1)).unwrap()["total"], 1);
    }
    assert_eq!(
        blame(&set(limits::PRESENCES, json!(1)).unwrap()),
        ("invalid", "channel")
    );
    leave(&mut w, alice, "seat:3");
    let last = format!("seat:{}", limits::PRESENCES);
    assert_eq!(join(&mut w, alice, &last, json!(1)).unwrap()["total"], 1);
}

#[test]
fn a_list_has_500_members_at_most_oneself_too_and_their_number() {
    let mut w = world();
    let long = |i: usize| format!("{i:0>256}");
    let state = json!("s".repeat(limits::STATE_BYTES - 2));
    for i in 0..limits::MEMBERS - 1 {
        let conn = w.live(&long(i), "lobby");
        join(&mut w, conn, "lobby", state.clone()).unwrap();
    }
    let listed = |members: &Value| members["members"].as_array().unwrap().len();
    for i in [limits::MEMBERS, limits::MEMBERS + 1] {
        let conn = w.live(&long(i), "lobby");
        let members = join(&mut w, conn, "lobby", state.clone()).unwrap();
        assert_eq!(
            (listed(&members), &members["total"]),
            (limits::MEMBERS, &json!(i))
        );
        assert!(who(&members["members"]).contains(&long(i).as_str()));
    }
    let watcher = w.live("walter", "lobby");
    let members = watch(&mut w, watcher, "lobby");
    let asked = w.presence("lobby").1;
    for members in [members, asked] {
        assert_eq!((listed(&members), &members["total"]), (500, &json!(501)));
    }
}

#[test]
fn a_publisher_asks_who_is_present() {
    let keys = r#"{"shop": {"key": "k", "channels": ["lobby", "nowhere"]},
                   "far": {"key": "f", "channels": ["*"], "spaces": ["team-*"], "operate": true}}"#;
    let mut w = World::with_config(config_with(&channels(), &[("PUBLISH_KEYS", keys)]));
    present(&mut w, "alice", "lobby");
    watching(&mut w, "bob", "lobby");
    let listed = json!({
        "channel": "lobby", "total": 1,
        "members": [{ "session": "session-1", "identity": "alice", "state": { "of": "alice" } }]
    });
    let empty = json!({ "channel": "hall", "members": [], "total": 0 });
    assert_eq!(w.presence("lobby"), (200, listed.clone()));
    assert_eq!(w.presence("hall"), (200, empty));
    let (status, refused) = w.presence("nowhere");
    assert_eq!((status, code(&refused)), (400, "unknown_channel"));
    w.publisher = Publisher::Named("shop".into());
    assert_eq!(w.presence("lobby"), (200, listed));
    assert_eq!(w.presence("nowhere").0, 400);
    assert_eq!(
        w.presence("hall").0,
        403,
        "a channel that its key does not open"
    );
    w.publisher = Publisher::Named("far".into());
    assert_eq!(
        w.presence("lobby").0,
        403,
        "a space that its key does not open"
    );
}

#[test]
fn without_a_hello_presence_and_signals_come_one_by_one() {
    let mut w = world();
    let old = w.connect(Some("old"), &[]);
    w.subscribe(old, "lobby");
    assert_eq!(join(&mut w, old, "lobby", json!(1)).unwrap()["total"], 1);
    assert_eq!(
        code(&join(&mut w, old, "hall", json!(1)).unwrap()),
        "invalid"
    );
    let bob = w.live("bob", "lobby");
    let signal = json!({ "type": "signal", "channel": "lobby", "event": "wave" });
    let set = json!({ "type": "presence", "channel": "lobby", "state": 2 });
    w.send(bob, json!([signal, set]));
    assert_eq!(w.frames(old).len(), 2);
}
