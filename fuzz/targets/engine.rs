//! The whole engine over SQLite: a script of connects, raw frames, publisher's calls, time, sleep,
//! crashes and failing statements. Whatever happens, it answers in kind, and keeps its promises.
//!
//! A script's line says in its first characters what happens:
//!
//! ```text
//! +bob team:7 room:1       bob connects, with topics; + alone: nobody in particular
//! 0{"type":"ping"}         connection 0 sends a frame; $cursor, $view: the last that it was told,
//!                          $bob: a good token of bob's, $pass: one of channel pass:1, $asked: one
//!                          that somebody else must judge, $big: a text of 100,000 bytes
//! b0                       it sends a binary frame
//! -0                       it goes away
//! jbob                     the oldest $asked has been judged: it is bob's; j alone: it is bad
//! a                        alice's row changes, which only she may see
//! /broadcast #k {…}        a publisher's call by its path, with an idempotency key or without
//! kbills                   the next calls come with this publish key; k alone: with the one that
//!                          opens everything
//! t60000                   so many milliseconds pass, and the alarm rings
//! z                        the object sleeps and wakes
//! x2                       it crashes at the third effect from here on
//! f3                       the fourth statement of the next line fails
//! ```

#![no_main]

#[path = "../../tests/world/mod.rs"]
mod world;

use std::borrow::Cow;
use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;
use tidewire::protocol::{Code, Problem};
use tidewire::{Call, Claims, ConnId, Cursor, Identity, Millis, Publisher, Topics, limits};
use world::World;

/// What is in a row of alice's alone.
const UNSPOKEN: &str = "unspoken";
const HIDDEN: &str = r#"{"channel":"notes","action":"update","key":"hidden",
    "data":{"ownerId":"alice","text":"unspoken"}}"#;

/// A script's lines that count, and its connections: enough for whatever can happen.
const LINES: usize = 48;
const CONNECTIONS: usize = 8;

/// What reaches the bounds of rows, frames and pages; and how often, so that scripts stay quick.
const BIG: usize = 100_000;
const BIGS: usize = 20;

/// Low bounds, so that scripts reach them; keys and tokens of all kinds.
const SETTINGS: [(&str, &str); 4] = [
    (
        "SYNC_LIMITS",
        r#"{"messagesPerSecond":3,"identityMessagesPerSecond":4,"connectionsPerIdentity":3,
            "subscriptions":3,"storageBytes":1500000}"#,
    ),
    (
        "PUBLISH_KEYS",
        r#"{"bills":{"key":"b","channels":["todos","team:*"]},
            "ops":{"key":"o","channels":[],"operate":true}}"#,
    ),
    ("PUBLISH_KEY", "everything"),
    ("JWKS_URL", "https://id.test/keys"),
];

/// `{"alg":"RS256"}`, and nothing that could be verified.
const ASKED: &str = "eyJhbGciOiJSUzI1NiJ9.e30.AA";

fuzz_target!(|script: &str| {
    let lines = || script.lines().take(LINES);
    // Alice, publishers and escapes can show others her row, or a word that looks like it.
    let loose =
        |line: &str| line.starts_with('/') || line.contains("alice") || line.contains("\\u");
    let mut stage = Stage::set(!script.contains(UNSPOKEN) && !lines().any(loose));
    lines().for_each(|line| stage.play(line));
    stage.end();
});

/// As much of a message as is judged here; a row is its sender's affair.
#[derive(Deserialize)]
struct Message<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    replayed: Option<bool>,
    cursor: Option<&'a str>,
    view: Option<&'a str>,
}

const KINDS: [&str; 10] = [
    "welcome",
    "authed",
    "snapshot",
    "change",
    "batch",
    "ack",
    "reject",
    "error",
    "channel-reset",
    "channel-change",
];

/// What a connection's client remembers.
#[derive(Default)]
struct Client {
    /// Who it is; the names of nobody's mutations count by the connection.
    owner: String,
    welcomed: bool,
    cursor: String,
    view: String,
}

struct Stage {
    w: World,
    clients: Vec<(ConnId, Client)>,
    connected: usize,
    /// Whether nobody may hear of alice's row.
    hides: bool,
    /// Mutations that were executed and acknowledged since the last line.
    acked: u64,
    /// When each was, by its owner and id.
    executed: BTreeMap<(String, String), Millis>,
    seq: u64,
    /// How many large texts are left.
    bigs: usize,
    /// Whether a statement of this line may fail.
    failing: bool,
    /// Whether one of any line could.
    failed: bool,
}

impl Stage {
    fn set(hides: bool) -> Self {
        let mut channels = world::channels();
        channels["pass:*"] = json!({ "read": "token", "write": "token" });
        let mut w = World::with_config(world::config_with(&channels, &SETTINGS));
        let alice = w.user("alice");
        let row = json!({ "id": "hidden", "ownerId": "alice", "text": UNSPOKEN });
        w.create(alice, "a1", "notes", row);
        w.create(alice, "a2", "todos", json!({ "id": "k1" }));
        w.drop(alice);
        Self {
            w,
            clients: Vec::new(),
            connected: 0,
            hides,
            acked: 0,
            executed: BTreeMap::new(),
            seq: 2,
            bigs: BIGS,
            failing: false,
            failed: false,
        }
    }

    fn play(&mut self, line: &str) {
        let rest = line.get(1..).unwrap_or_default();
        let number = |most: u64| rest.parse::<u64>().ok().filter(|n| *n <= most);
        // Whether all that happens in this line is heard of.
        let calm = self.w.crash_after.is_none() && !self.failing;
        let mut refused = false;
        match line.as_bytes().first() {
            Some(b'+') => self.connect(rest),
            Some(b'0'..=b'7') => self.frame(line, rest),
            Some(b'b') => {
                if let Some(at) = self.place(rest) {
                    self.w.send_binary(self.clients[at].0);
                }
            }
            Some(b'-') => {
                if let Some(at) = self.place(rest) {
                    let (conn, _) = self.clients.remove(at);
                    self.w.drop(conn);
                }
            }
            Some(b'j') => self.judge(rest),
            Some(b'a') => _ = self.w.try_call(Call::Broadcast, HIDDEN, None),
            Some(b'k') => {
                self.w.publisher = match rest {
                    "" => Publisher::Unscoped,
                    name => Publisher::Named(name.into()),
                };
            }
            Some(b'/') => refused = self.call(line) != Some(200),
            Some(b't') => {
                if let Some(ms) = number(limits::REFUSAL_MS + 1) {
                    self.w.advance(ms);
                    self.w.ring();
                }
            }
            Some(b'z') => {
                let slept = self.w.try_sleep();
                assert!(slept.is_ok() || self.failing);
            }
            Some(b'x') => self.w.crash_after = number(100).map(|effects| effects as u32),
            Some(b'f') if self.w.crash_after.is_none() => {
                if let Some(statements) = number(100) {
                    self.w.sqlite.fail_after(statements as u32);
                    (self.failing, self.failed) = (true, true);
                    return;
                }
            }
            _ => return,
        }
        self.w.sqlite.spared();
        self.failing = false;
        self.hear();
        let (before, acked) = (self.seq, std::mem::take(&mut self.acked));
        self.seq = self.seq();
        assert!(self.seq >= before, "a seq is used twice");
        if calm && !line.starts_with(['/', 'a']) {
            assert_eq!(
                self.seq,
                before + acked,
                "each change is acknowledged, once"
            );
        }
        if calm && refused {
            assert_eq!(self.seq, before, "what is refused leaves no trace");
        }
    }

    /// The connection that a digit names.
    fn place(&self, digit: &str) -> Option<usize> {
        let place = digit.get(..1)?.parse().ok()?;
        (place < self.clients.len()).then_some(place)
    }

    fn connect(&mut self, words: &str) {
        let mut words = words.split(' ').filter(|word| !word.is_empty());
        let identity = words.next().and_then(|user| Identity::parse(user).ok());
        let topics: Vec<&str> = words.collect();
        let granted = Topics::granted(identity.as_ref(), topics.iter().copied()).is_ok();
        if self.connected == CONNECTIONS || !granted {
            return;
        }
        self.connected += 1;
        let user = identity.as_ref().map(Identity::as_str);
        let expires_at = user.map(|_| self.w.now.plus(24 * 60 * 60 * 1000));
        match self.w.connect_until(user, &topics, expires_at) {
            Ok(conn) => {
                let owner = user.map_or_else(|| format!(" {conn:?}"), str::to_owned);
                let client = Client {
                    owner,
                    ..Client::default()
                };
                self.clients.push((conn, client));
            }
            Err(reply) => {
                json_text(&reply.body);
                let refused = matches!(reply.status, 401 | 429);
                assert!(refused || (self.failing && reply.status == 503));
            }
        }
    }

    fn grown(&mut self, text: &str) -> String {
        let bigs = text.matches("$big").count().min(self.bigs);
        self.bigs -= bigs;
        text.replacen("$big", &"x".repeat(BIG), bigs)
    }

    fn frame(&mut self, line: &str, text: &str) {
        let Some(at) = self.place(line) else {
            return;
        };
        let text = self.grown(text);
        let (conn, client) = &self.clients[at];
        let mut text = text
            .replace("$cursor", &client.cursor)
            .replace("$view", &client.view)
            .replace("$asked", ASKED);
        let now = self.w.now.0 / 1000;
        let common = json!({ "iat": now, "exp": now + 9 });
        for (word, claims) in [
            ("$alice", json!({ "sub": "alice" })),
            ("$bob", json!({ "sub": "bob", "topics": ["team:7"] })),
            ("$pass", json!({ "channel": "pass:1", "write": true })),
        ] {
            if text.contains(word) {
                let mut claims = claims;
                let fields = claims.as_object_mut().unwrap();
                fields.extend(common.as_object().unwrap().clone());
                text = text.replace(word, &world::token(&claims));
            }
        }
        self.w.send_text(*conn, &text);
    }

    /// Somebody else has judged a token.
    fn judge(&mut self, user: &str) {
        if self.w.asks.is_empty() {
            return;
        }
        let answer = match Identity::parse(user) {
            Ok(identity) => {
                let claims = Claims::new(identity, self.w.now.plus(9_000)).issued_at(self.w.now);
                Ok(Some(claims.with_topics(["team:8"]).unwrap()))
            }
            Err(_) => Err(Problem::new(Code::Unauthorized, "no")),
        };
        self.w.judged(answer);
    }

    /// The call's status; none if the object crashed over it.
    fn call(&mut self, line: &str) -> Option<u16> {
        let (path, mut body) = line.split_once(' ').unwrap_or((line, ""));
        let call = Call::of_path(path)?;
        let mut key = None;
        if let Some((first, rest)) = body.split_once(' ')
            && let Some(first) = first.strip_prefix('#')
        {
            (key, body) = (Some(first), rest);
        }
        let body = self.grown(body);
        let reply = self.w.try_call(call, &body, key)?;
        json_text(&reply.body);
        match reply.status {
            200 | 400 | 409 | 413 => {}
            403 => assert_ne!(self.w.publisher, Publisher::Unscoped),
            // Storage failed, or large texts have filled it.
            503 => assert!(self.failing || self.bigs < BIGS, "{reply:?}"),
            _ => panic!("{reply:?}"),
        }
        Some(reply.status)
    }

    /// Takes what all connections got.
    fn hear(&mut self) {
        for (conn, client) in &mut self.clients {
            for frame in self.w.frames(*conn) {
                assert!(!self.hides || !frame.contains(UNSPOKEN), "{frame}");
                let messages: Vec<Message<'_>> = match frame.as_bytes() {
                    b"pong" => continue,
                    [b'[', ..] => {
                        assert!(client.welcomed, "an array for a legacy client: {frame}");
                        serde_json::from_str(&frame).unwrap()
                    }
                    _ => vec![serde_json::from_str(&frame).unwrap()],
                };
                json_text(&frame);
                assert!(!messages.is_empty());
                for message in messages {
                    assert!(KINDS.contains(&message.kind), "{frame}");
                    client.welcomed |= message.kind == "welcome";
                    if message.replayed == Some(false) {
                        self.acked += 1;
                        let id = message.id.unwrap_or_default().into_owned();
                        let before = self.executed.insert((client.owner.clone(), id), self.w.now);
                        assert!(
                            before.is_none_or(|at| at.plus(limits::DAY_MS) <= self.w.now),
                            "executed twice: {frame}"
                        );
                    }
                    if let Some(cursor) = message.cursor {
                        assert!(Cursor::parse(cursor).is_some_and(|cursor| !cursor.foreign));
                        client.cursor = cursor.to_owned();
                    }
                    if let Some(view) = message.view {
                        client.view = view.to_owned();
                    }
                }
            }
        }
    }

    /// The seq that the space has reached. Asking for it does not count as an effect to crash at.
    fn seq(&mut self) -> u64 {
        let crash_after = self.w.crash_after.take();
        let stats = self.w.stats();
        self.w.crash_after = crash_after;
        stats["seq"].as_u64().unwrap()
    }

    /// Without a disturbance, sleep is noticed by nobody.
    fn end(mut self) {
        self.w.crash_after = None;
        self.w.sqlite.spared();
        assert!(
            self.failed || self.w.faults.is_empty(),
            "{:?}",
            self.w.faults
        );
        // What is held back for a token does not outlive sleep.
        while !self.w.asks.is_empty() {
            self.judge("");
        }
        self.hear();
        let closed = |stage: &Self| -> Vec<_> {
            let clients = stage.clients.iter();
            clients.map(|(conn, _)| stage.w.closed(*conn)).collect()
        };
        let before = closed(&self);
        let stats = self.w.stats();
        self.w.sleep();
        self.hear();
        assert_eq!(closed(&self), before);
        assert_eq!(self.w.stats(), stats);
    }
}

/// Whatever the rows in it hold, a text is JSON.
fn json_text(text: &str) {
    serde_json::from_str::<&RawValue>(text).unwrap();
}
