//! Decoders on anything at all: they never panic, never let a bound slip, and what a stranger
//! sends changes nothing for others unless a valid mutation was in it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

mod world;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::FileFailurePersistence;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidewire::protocol::{self, ClientMessage, PublishBody};
use tidewire::{Call, Config, Cursor, Grant, Jwt, Rules, Secret, Session, Topics, limits};
use world::World;

/// Frames of every kind that clients send.
const FRAMES: [&str; 16] = [
    r#"{"type":"ping"}"#,
    r#"{"type":"hello","v":1,"schema":3,"client":"c","device":"d","subscribe":[{"id":"s","channel":"todos"},{"channel":"notes","limit":2}]}"#,
    r#"{"type":"auth","token":"a.b.c"}"#,
    r#"{"type":"subscribe","id":"s1","channel":"todos","cursor":"hhhhhhhh.1","view":"9f3a","limit":500,"meta":false}"#,
    r#"{"type":"subscribe","channel":"notes","cursor":"hhhhhhhh.1.0","meta":true}"#,
    r#"{"type":"subscribe","channel":"todos","since":1698765432000}"#,
    r#"{"type":"unsubscribe","channel":"todos"}"#,
    r#"{"type":"mutate","id":"m1","channel":"todos","action":"create","data":{"id":"k1","text":"milk"}}"#,
    r#"{"type":"mutate","id":"m2","channel":"todos","action":"update","key":"k1","data":{"n":1.5e3}}"#,
    r#"{"type":"mutate","id":"m3","channel":"todos","action":"delete","key":"k1"}"#,
    r#"{"type":"mutate","id":"m4","channel":"notes","action":"create","data":{"id":"n1","ownerId":["mallory","bob"]}}"#,
    r#"{"type":"mutate","id":"m5","channel":"notes","action":"update","data":{"id":"secret","ownerId":"mallory"}}"#,
    r#"{"type":"presence","channel":"room:1","state":{"x":1}}"#,
    r#"{"type":"presence","channel":"room:1","watch":true}"#,
    r#"{"type":"signal","channel":"room:1","event":"typing","data":{}}"#,
    r#"[{"type":"ping"},{"type":"mutate","id":"m6","channel":"todos","action":"create","data":{"id":"k2"}},7]"#,
];

/// Bodies that publishers send.
const BODIES: [&str; 4] = [
    r#"{"channel":"todos","action":"create","key":"k1","data":{"text":"milk"},"to":["user:bob"],"space":"global"}"#,
    r#"{"channel":"notes","action":"update","key":"n1","data":{"id":"n1","ownerId":"bob"}}"#,
    r#"{"channel":"todos","changes":[{"action":"create","key":"a","data":{}},{"action":"delete","key":"a","to":"all"}]}"#,
    r#"{"events":[{"channel":"todos","action":"update","key":"b","data":{"n":1}}]}"#,
];

/// Texts of other decoders.
const OTHERS: [&str; 8] = [
    "hhhhhhhh.1523",
    "hhhhhhhh.1523.1500",
    "a.9007199254740991",
    r#"{"todos":{"read":"user","write":"user"},"room:*":{"read":"topic","presence":true,"signals":true}}"#,
    r#"{"notes":{"scope":{"field":"ownerId","as":"team:","leave":true},"timestamp":"t"}}"#,
    r#"{"chat:*":{"keep":"every","edits":true,"retain":{"count":1000,"days":7}}}"#,
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSIsImV4cCI6MTgwMDAwMDAwMH0.c2lnbmF0dXJl",
    "eyJpZGVudGl0eSI6ImFsaWNlIiwidG9waWNzIjpbXSwiaXNzdWVkQXQiOjAsImV4cGlyZXNBdCI6MX0",
];

/// What is likely to sit on an edge of a decoder.
const TOKENS: [&str; 28] = [
    "{",
    "}",
    "[",
    "]",
    "\"",
    "\\",
    ",",
    ":",
    "null",
    "true",
    "0",
    "-1",
    "1e999",
    "0.1",
    "9007199254740992",
    "18446744073709551616",
    "\"\"",
    "{}",
    "[]",
    "[[[[[[[[",
    "\\u0000",
    "\\ud800",
    "\u{0}",
    "\u{feff}",
    "é",
    "🌊",
    "\"__proto__\":",
    ".",
];

/// One wound of a text: where, and what is done there.
#[derive(Debug, Clone)]
enum Wound {
    Delete(Index, Index),
    Double(Index, Index),
    Insert(Index, &'static str),
    Replace(Index, char),
    Graft(Index, &'static str, Index),
}

fn wound(grafts: &'static [&'static str]) -> impl Strategy<Value = Wound> {
    let at = any::<Index>;
    prop_oneof![
        (at(), at()).prop_map(|(a, b)| Wound::Delete(a, b)),
        (at(), at()).prop_map(|(a, b)| Wound::Double(a, b)),
        (at(), select(TOKENS.as_slice())).prop_map(|(a, token)| Wound::Insert(a, token)),
        (at(), any::<char>()).prop_map(|(a, c)| Wound::Replace(a, c)),
        (at(), select(grafts), at()).prop_map(|(a, other, b)| Wound::Graft(a, other, b)),
    ]
}

fn wounded(text: &str, wounds: &[Wound]) -> String {
    let mut chars: Vec<char> = text.chars().collect();
    for wound in wounds {
        let place = |index: &Index, len: usize| index.index(len + 1);
        let len = chars.len();
        match wound {
            Wound::Delete(a, b) => {
                let (a, b) = (place(a, len), place(b, len));
                // Mostly a few, so that the rest is still something.
                chars.drain(a.min(b)..a.max(b).min(a.min(b) + 12));
            }
            Wound::Double(a, b) => {
                let (a, b) = (place(a, len), place(b, len));
                let part: Vec<char> = chars[a.min(b)..a.max(b)].to_vec();
                chars.splice(a..a, part);
            }
            Wound::Insert(a, token) => {
                let a = place(a, len);
                chars.splice(a..a, token.chars());
            }
            Wound::Replace(a, c) => {
                if let Some(old) = chars.get_mut(place(a, len)) {
                    *old = *c;
                }
            }
            Wound::Graft(a, other, b) => {
                let from = place(b, other.chars().count());
                chars.truncate(place(a, len));
                chars.extend(other.chars().skip(from));
            }
        }
    }
    chars.truncate(20_000);
    chars.into_iter().collect()
}

/// Valid texts, wounded none to five times.
fn near(texts: &'static [&'static str]) -> impl Strategy<Value = String> {
    (select(texts), vec(wound(texts), 0..5)).prop_map(|(text, wounds)| wounded(text, &wounds))
}

/// Anything at all.
fn anything() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        vec(select(TOKENS.as_slice()), 0..40).prop_map(|tokens| tokens.concat()),
        vec(any::<u8>(), 0..200).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![2 => near(&FRAMES), 1 => near(&BODIES), 1 => near(&OTHERS), 1 => anything()]
}

/// `PROPTEST_CASES` asks for more.
fn config(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES")
        .ok()
        .and_then(|text| text.parse().ok());
    ProptestConfig {
        cases: asked.unwrap_or(cases),
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(
            "tests/decoder.proptest-regressions",
        ))),
        ..ProptestConfig::default()
    }
}

/// Checks the bounds that a decoded frame promises.
fn check_frame(text: &str) {
    let Ok(frame) = protocol::decode(text) else {
        return;
    };
    assert!((1..=limits::FRAME_MESSAGES).contains(&frame.messages.len()));
    let check_subscribe = |message: &protocol::SubscribeMessage<'_>| {
        assert!((1..=limits::PAGE_MAX).contains(&message.limit));
        assert!((1..=limits::CHANNEL_BYTES).contains(&message.channel.as_str().len()));
    };
    for message in &frame.messages {
        match message {
            Ok(ClientMessage::Subscribe(message)) => check_subscribe(message),
            Ok(ClientMessage::Hello(hello)) => {
                hello.subscribe.iter().flatten().for_each(check_subscribe);
            }
            Ok(ClientMessage::Mutate(message)) => {
                assert!((1..=limits::ID_BYTES).contains(&message.id.as_str().len()));
            }
            Ok(ClientMessage::Signal(message)) => assert!(!message.event.is_empty()),
            Ok(
                ClientMessage::Ping
                | ClientMessage::Auth { .. }
                | ClientMessage::Unsubscribe { .. }
                | ClientMessage::Presence(_),
            ) => {}
            Err(refused) => assert!(!refused.problem.message.is_empty()),
        }
    }
}

fn check_bodies(text: &str) {
    let _ = PublishBody::space_of(text);
    for body in [PublishBody::one(text), PublishBody::batch(text)]
        .into_iter()
        .flatten()
    {
        assert!((1..=limits::BATCH_CHANGES).contains(&body.changes.len()));
        for change in body.changes.iter().flatten() {
            assert!((1..=limits::KEY_BYTES).contains(&change.key.as_str().len()));
        }
    }
}

fn check_cursor(text: &str) {
    if let Some(cursor) = Cursor::parse(text)
        && !cursor.foreign
    {
        assert_eq!(
            cursor.to_string(),
            text,
            "a cursor is written as it was read"
        );
        assert!(cursor.seq.0 <= limits::SAFE_INTEGER);
    }
}

fn check_others(text: &str) {
    let secret = Secret::new("a secret that nobody has signed with".to_owned());
    if let Ok(jwt) = Jwt::parse(text) {
        assert!(jwt.verify(&[secret]).is_err());
    }
    assert!(Rules::parse(text).is_ok() || !Rules::parse(text).unwrap_err().is_empty());
    let _ = Config::read(|name| (name != "DEV").then(|| text.to_owned()));
    if let Some(grant) = Grant::from_header(text) {
        let again = Grant::from_header(&grant.to_header().unwrap());
        assert_eq!(again, Some(grant));
    }
}

proptest! {
    #![proptest_config(config(3_000))]

    #[test]
    fn no_decoder_panics_or_lets_a_bound_slip(text in any_text()) {
        check_frame(&text);
        check_bodies(&text);
        check_cursor(&text);
        check_others(&text);
    }

    #[test]
    fn a_session_is_read_as_it_was_written_or_not_at_all(
        // Without "a": no token may grant the topic `all`.
        topics in vec("[b-z]{1,8}", 0..4),
        bytes in vec(any::<u8>(), 0..80),
        (at, byte) in (any::<Index>(), any::<u8>()),
    ) {
        let _ = Session::decode(&bytes);
        let grant = Grant {
            topics: Topics::granted(None, topics.iter().map(String::as_str)).unwrap(),
            ..Grant::default()
        };
        let session = Session::new(tidewire::SessionId::parse("s").unwrap(), grant);
        let mut attachment = session.encode().unwrap();
        prop_assert_eq!(Session::decode(&attachment), Some(session));
        let place = at.index(attachment.len());
        attachment[place] = byte;
        if let Some(other) = Session::decode(&attachment) {
            prop_assert_eq!(Session::decode(&other.encode().unwrap()), Some(other));
        }
    }
}

/// As much of a message as is judged here. Rows stay raw: they may hold what Rust's `String`
/// and `f64` cannot, such as half of a surrogate pair, and pass through all the same.
#[derive(Debug, Deserialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(default)]
    replayed: Option<bool>,
    #[serde(borrow, default)]
    changes: Vec<&'a RawValue>,
}

impl<'a> Message<'a> {
    /// The messages of a frame; `pong` is none.
    fn all(frame: &'a str) -> Vec<Self> {
        match frame.as_bytes() {
            b"pong" => Vec::new(),
            [b'[', ..] => serde_json::from_str(frame).unwrap(),
            _ => vec![serde_json::from_str(frame).unwrap()],
        }
    }
}

/// What is in rows of alice's alone, and in nothing that anyone else sends.
const UNSPOKEN: &str = "unspoken";

/// A world in which bob listens and mallory may do what any user may.
struct Stage {
    w: World,
    mallory: tidewire::ConnId,
    listeners: [tidewire::ConnId; 3],
}

impl Stage {
    fn set(said_hello: bool) -> Self {
        let mut w = World::new();
        let alice = w.user("alice");
        let hidden = json!({ "id": "secret", "ownerId": "alice", "text": UNSPOKEN });
        w.create(alice, "a1", "notes", hidden);
        w.create(
            alice,
            "a3",
            "notes",
            json!({ "id": UNSPOKEN, "ownerId": "alice" }),
        );
        w.create(alice, "a2", "todos", json!({ "id": "k1" }));
        let bob = w.live("bob", "todos");
        w.subscribe(bob, "notes");
        let old = w.connect(Some("carol"), &[]);
        w.subscribe(old, "todos");
        w.subscribe(alice, "notes");
        let mallory = match said_hello {
            true => w.user("mallory"),
            false => w.connect(Some("mallory"), &[]),
        };
        Self {
            w,
            mallory,
            listeners: [alice, bob, old],
        }
    }

    /// How many changes the listener who heard most of them heard.
    fn heard(&mut self) -> usize {
        let mut most = 0;
        for conn in self.listeners {
            let mut count = 0;
            for frame in self.w.frames(conn) {
                assert!(!frame.contains(UNSPOKEN), "{frame}");
                for message in Message::all(&frame) {
                    count += match message.kind {
                        "change" => 1,
                        "batch" => message.changes.len(),
                        other => panic!("{other} for a listener"),
                    };
                }
            }
            most = most.max(count);
        }
        most
    }
}

proptest! {
    #![proptest_config(config(200))]

    #[test]
    fn whatever_a_stranger_sends_others_hear_its_acknowledged_mutations_alone(
        said_hello in any::<bool>(),
        frames in vec(prop_oneof![6 => near(&FRAMES), 1 => anything()], 1..20),
    ) {
        let mut stage = Stage::set(said_hello);
        let mut seq = stage.w.stats()["seq"].as_u64().unwrap();
        for text in &frames {
            stage.w.send_text(stage.mallory, text);
            let mut acked = 0;
            for frame in stage.w.frames(stage.mallory) {
                prop_assert!(!frame.contains(UNSPOKEN), "{frame}");
                let answers = Message::all(&frame);
                acked += answers.iter().filter(|answer| answer.replayed == Some(false)).count();
            }
            prop_assert!(stage.heard() <= acked, "{text}");
            let now = stage.w.stats()["seq"].as_u64().unwrap();
            prop_assert_eq!(now, seq + acked as u64, "{}", text);
            seq = now;
        }
        prop_assert!(stage.w.faults.is_empty(), "{:?}", stage.w.faults);
    }

    #[test]
    fn whatever_a_publisher_sends_is_heard_whole_or_not_at_all(
        bodies in vec((near(&BODIES), any::<bool>(), any::<bool>()), 1..10),
    ) {
        let mut stage = Stage::set(true);
        let mut seq = stage.w.stats()["seq"].as_u64().unwrap();
        for (body, one, once) in &bodies {
            let call = if *one { Call::Broadcast } else { Call::BroadcastBatch };
            let (status, answer) = stage.w.publish(call, body, once.then_some("key"));
            let now = stage.w.stats()["seq"].as_u64().unwrap();
            let heard = stage.heard();
            prop_assert!(heard <= (now - seq) as usize);
            match status {
                200 => prop_assert!(answer["seq"].as_u64() <= Some(now)),
                400 | 409 => prop_assert_eq!(now, seq, "{}", body),
                other => prop_assert!(false, "status {other} for {body}"),
            }
            seq = now;
        }
        prop_assert!(stage.w.faults.is_empty(), "{:?}", stage.w.faults);
    }
}
