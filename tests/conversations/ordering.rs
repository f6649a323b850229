//! While a source is asked: what must keep its order waits, and all else goes on.

use serde_json::{Value, json};
use tidewire::protocol::{Code, Problem};
use tidewire::source::{Ask, Failed, Question};
use tidewire::{Call, ConnId, limits};

use super::world::World;
use super::{NOTHING, code, gist, ids};

fn create(id: &str, channel: &str, key: &str) -> Value {
    json!({
        "type": "mutate", "id": id, "channel": channel, "action": "create", "data": { "id": key }
    })
}

fn subscribe(channel: &str) -> Value {
    json!({ "type": "subscribe", "id": "s", "channel": channel })
}

/// The keys that sources are asked to write, oldest question first.
fn writes(w: &World) -> Vec<String> {
    let key = |question: &Question| match &question.what {
        Ask::Write(write) => Some(write.key.to_string()),
        _ => None,
    };
    w.questions.iter().filter_map(key).collect()
}

/// The ids of answers to mutations.
fn acked(messages: &[Value]) -> Vec<&str> {
    let acks = messages.iter().filter(|message| message["type"] == "ack");
    acks.map(|ack| ack["id"].as_str().unwrap()).collect()
}

/// A world whose home answers when it is told to.
fn slow() -> World {
    let mut w = World::elsewhere();
    w.slow = true;
    w
}

#[test]
fn writes_of_one_row_go_one_after_the_other_whoever_makes_them() {
    let mut w = slow();
    let (alice, bob, carol) = (w.user("alice"), w.user("bob"), w.user("carol"));
    w.send(alice, create("m1", "plain", "k"));
    w.send(bob, create("m1", "plain", "k"));
    w.send(carol, create("m1", "plain", "other"));
    assert_eq!(writes(&w), ["k", "other"], "another row's goes on");
    let claims = |w: &World| w.sqlite.number("SELECT count(*) FROM claims");
    assert_eq!(claims(&w), 2, "what is not asked for yet is not claimed");
    w.answer_first();
    assert_eq!(acked(&w.messages(alice)), ["m1"]);
    assert_eq!(
        (w.messages(bob), writes(&w)),
        (vec![], vec!["other".to_owned(), "k".to_owned()])
    );
    w.settle();
    let (bobs, carols) = (w.one(bob), w.one(carol));
    assert!(bobs["cursor"].as_str() > carols["cursor"].as_str());
    assert_eq!(claims(&w), 0);
}

#[test]
fn a_refused_write_frees_its_row() {
    let mut w = slow();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    w.send(alice, create("m1", "plain", "k"));
    w.send(bob, create("m1", "plain", "k"));
    let problem = Problem::new(Code::Invalid, "not like this");
    let ask = w.questions.remove(0).id;
    w.answered(ask, Err(Failed::from(problem)));
    assert_eq!(code(&w.one(alice)), "invalid");
    w.settle();
    assert_eq!(acked(&w.messages(bob)), ["m1"]);
}

#[test]
fn a_write_that_waits_is_not_made_once_its_writer_has_gone() {
    let mut w = slow();
    let (alice, bob, carol) = (w.user("alice"), w.user("bob"), w.user("carol"));
    for conn in [alice, bob, carol] {
        w.send(conn, create("m1", "plain", "k"));
    }
    w.drop(bob);
    w.settle();
    assert_eq!((w.home.writes, acked(&w.messages(carol))), (2, vec!["m1"]));
    w.slow = false;
    let bob = w.user("bob");
    let ack = w.create(bob, "m1", "plain", json!({ "id": "k" }));
    assert_eq!(ack["replayed"], false, "and may be sent again");
}

#[test]
fn a_write_that_waits_is_judged_when_its_turn_comes() {
    let mut w = World::with_channels(&json!({
        "team:*": {
            "read": "topic", "write": "topic",
            "source": { "handler": "home", "authorize": false }
        }
    }));
    w.slow = true;
    let (alice, bob) = (w.member("alice", &["team:a"]), w.member("bob", &["team:a"]));
    let carol = w.member("carol", &["team:a"]);
    for conn in [alice, bob, carol] {
        let mut message = create("m1", "team:a", "k");
        message["data"]["team"] = json!("a");
        w.send(conn, message);
    }
    let (_, body) = w.call(
        Call::Topics,
        json!({ "identity": "bob", "remove": ["team:a"] }),
    );
    assert_eq!(body["sessions"], 1);
    w.messages(bob);
    w.settle();
    assert_eq!(code(&w.one(bob)), "forbidden");
    assert_eq!((w.home.writes, acked(&w.messages(carol))), (2, vec!["m1"]));
}

#[test]
fn the_mutations_of_a_connection_go_one_after_the_other() {
    let mut w = slow();
    let alice = w.user("alice");
    w.send(
        alice,
        json!([
            create("m1", "plain", "a"),
            create("m2", "todos", "b"),
            create("m3", "plain", "c")
        ]),
    );
    assert_eq!(writes(&w), ["a"]);
    w.answer_first();
    assert_eq!(writes(&w), ["b"]);
    w.answer_first();
    assert_eq!(writes(&w), ["c"]);
    w.settle();
    assert_eq!(acked(&w.messages(alice)), ["m1", "m2", "m3"]);
}

#[test]
fn what_a_connection_says_about_a_channel_keeps_its_order() {
    let mut w = slow();
    w.put("plain", json!({ "id": "old" }));
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    w.send(alice, subscribe("plain"));
    w.send(alice, create("m1", "plain", "new"));
    w.send(alice, json!({ "type": "unsubscribe", "channel": "plain" }));
    assert_eq!(w.questions.len(), 1);
    w.answer_first();
    assert_eq!(ids(&w.one(alice)), ["old"]);
    w.send(bob, create("m1", "plain", "bobs"));
    w.questions.rotate_left(1);
    w.answer_first();
    assert_eq!(
        gist(&w.messages(alice)),
        ["create bobs"],
        "live until its turn has come"
    );
    w.answer_first();
    assert_eq!(acked(&w.messages(alice)), ["m1"]);
    w.slow = false;
    w.messages(bob);
    w.create(bob, "m2", "plain", json!({ "id": "later" }));
    assert_eq!(w.messages(alice), NOTHING, "unsubscribed after all");
}

#[test]
fn others_and_other_channels_go_on() {
    let mut w = slow();
    let (alice, bob) = (w.user("alice"), w.user("bob"));
    w.send(alice, subscribe("plain"));
    w.send(alice, subscribe("here"));
    assert_eq!(w.one(alice)["channel"], "here");
    w.send(alice, create("m1", "here", "k"));
    assert_eq!(
        acked(&w.messages(alice)),
        ["m1"],
        "a channel of the log alone does not wait"
    );
    w.send(alice, subscribe("todos"));
    w.send(bob, subscribe("plain"));
    assert_eq!(w.questions.len(), 3);
    w.send(alice, json!({ "type": "ping" }));
    assert_eq!(w.frames(alice), ["pong"]);
    // Answers come in any order.
    while let Some(question) = w.questions.pop() {
        let answer = w.home.answer(&question, w.now);
        w.answered(question.id, answer);
    }
    let channels = w
        .messages(alice)
        .into_iter()
        .map(|snapshot| snapshot["channel"].clone());
    assert_eq!(
        channels.collect::<Vec<_>>(),
        [json!("todos"), json!("plain")]
    );
    assert_eq!(w.one(bob)["channel"], "plain");
}

#[test]
fn a_mutation_waits_for_nothing_but_mutations_and_its_channel() {
    let mut w = slow();
    let alice = w.user("alice");
    w.send(alice, subscribe("todos"));
    w.send(alice, create("m1", "plain", "a"));
    assert_eq!((w.questions.len(), writes(&w)), (2, vec!["a".to_owned()]));
    w.send(alice, create("m2", "todos", "b"));
    w.send(alice, subscribe("plain"));
    assert_eq!(w.questions.len(), 2);
    // Its channel is free, but the mutation before it is not answered.
    w.answer_first();
    assert_eq!((ids(&w.one(alice)).len(), w.questions.len()), (0, 1));
    w.answer_first();
    assert_eq!((w.questions.len(), writes(&w)), (2, vec!["b".to_owned()]));
    w.settle();
    assert_eq!(acked(&w.messages(alice)), ["m1", "m2"]);
}

/// So many bytes of messages that wait, in frames of a connection that is being answered already.
fn hold(w: &mut World, conn: ConnId, bytes: usize) {
    let message = |text: usize| {
        json!({
            "type": "mutate", "id": "m", "channel": "plain", "action": "create",
            "data": { "id": "k", "t": "x".repeat(text) }
        })
        .to_string()
    };
    let least = message(0).len() + limits::HELD_OVERHEAD;
    let mut left = bytes;
    while left > 0 {
        let most = 200_000.min(left);
        let take = if left - most < least && left > most {
            most - least
        } else {
            most
        };
        w.send_text(conn, &message(take - least));
        left -= take;
    }
}

#[test]
fn what_waits_of_one_connection_is_bounded() {
    for past in [0, 1] {
        let mut w = slow();
        let alice = w.user("alice");
        w.send(alice, subscribe("plain"));
        hold(&mut w, alice, limits::HELD_BYTES + past);
        assert_eq!(w.closed(alice), (past == 1).then_some(4008));
        if past == 0 {
            w.settle();
            assert_eq!(acked(&w.messages(alice))[0], "m", "nothing is lost");
        }
    }
}

#[test]
fn what_waits_of_a_space_is_bounded() {
    let mut w = slow();
    let mut conns = Vec::new();
    for user in 0..9 {
        let conn = w.user(&format!("user-{user}"));
        w.send(conn, subscribe("plain"));
        let bytes = match user {
            3 => limits::HELD_BYTES,
            8 => 7 * 70_000,
            _ => limits::HELD_BYTES - 70_000,
        };
        hold(&mut w, conn, bytes);
        assert_eq!(w.closed(conn), None);
        conns.push(conn);
    }
    assert_eq!(limits::HELD_BYTES_OF_SPACE, 8 * limits::HELD_BYTES);
    let late = w.user("late");
    w.send(late, subscribe("plain"));
    w.send(late, create("m", "plain", "k"));
    // Whoever has most goes, and makes room.
    assert_eq!(w.closed(late), None);
    for (user, conn) in conns.iter().enumerate() {
        assert_eq!(w.closed(*conn), (user == 3).then_some(4008), "user-{user}");
    }
    let next = w.user("next");
    w.send(next, subscribe("plain"));
    w.send(next, create("m", "plain", "k"));
    assert_eq!(w.closed(next), None);
}
