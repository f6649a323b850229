//! A world for the engine: SQLite in memory, a virtual clock, fake sockets that keep what they
//! got. Everything that a host does, and nothing else.

// Each test binary uses a part of the world.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic
)]

pub mod home;
pub mod readers;
pub mod sqlite;

use std::collections::BTreeMap;
use std::rc::Rc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use tidewire::protocol::Problem;
use tidewire::{
    Call, Channel, Claims, Closing, Columns, Config, ConnId, Effects, Event, Grant, Identity,
    Input, Millis, Param, Publisher, Reply, Seed, Session, SessionId, Space, Sql, SqlError, Topics,
    limits,
};

use home::Home;
use readers::Reader;
use sqlite::Sqlite;
use tidewire::source::Question;

/// 2026-06-07, when the world begins.
pub const BEGIN: Millis = Millis(1_780_790_400_000);

pub const SECRET: &str = "the secret of this world";

/// Signs a token with these claims.
pub fn token(claims: &Value) -> String {
    token_of(SECRET, claims)
}

/// Signs a token with another secret.
pub fn token_of(secret: &str, claims: &Value) -> String {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!(
        "{}.{}",
        part(r#"{"alg":"HS256"}"#),
        part(&claims.to_string())
    );
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    let tag = mac.chain_update(signed.as_bytes()).finalize().into_bytes();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}

/// The channels of the stock configuration, and a few that the stock one has no use for.
pub fn channels() -> Value {
    json!({
        "todos": { "read": "user", "write": "user" },
        "notes": { "read": "user", "write": "user", "scope": { "field": "ownerId" } },
        "gifts": { "read": "user", "write": "user", "scope": { "field": "for", "leave": true } },
        "feed": { "read": "anyone", "write": "none" },
        "open": { "read": "anyone", "write": "anyone", "presence": true, "signals": true },
        "drop": { "read": "none", "write": "user" },
        "timed": { "read": "user", "write": "user", "timestamp": "t" },
        "team:*": { "read": "user", "write": "user", "scope": { "field": "team", "as": "team:" } },
        "room:*": { "read": "topic", "write": "topic", "presence": true, "signals": true },
        "chat:*": { "read": "user", "write": "user", "keep": "every" },
        "news": {
            "read": "user", "write": "user", "keep": "every", "retain": { "count": 3 }
        },
        "talk:*": {
            "read": "user", "write": "user", "keep": "every", "edits": true,
            "scope": { "field": "for", "leave": true }, "retain": { "count": 6, "days": 2 }
        },
        "doc:*": { "read": "user", "write": "user", "keep": "every", "edits": true }
    })
}

/// One fake socket.
#[derive(Debug, Default)]
struct Socket {
    frames: Vec<String>,
    attachment: Option<Vec<u8>>,
    closed: Option<u16>,
    reason: String,
}

pub struct World {
    pub engine: tidewire::Engine<Sqlite>,
    pub sqlite: Sqlite,
    pub now: Millis,
    /// When the platform will ring.
    pub alarm: Option<Millis>,
    /// The earliest time that this life of the object has asked for.
    asked: Option<Millis>,
    /// What the engine logged as its own failures.
    pub faults: Vec<String>,
    /// What observers were told.
    pub events: Vec<Event>,
    /// Tokens that somebody else must judge.
    pub asks: Vec<(ConnId, String)>,
    /// What sources are asked, oldest first.
    pub questions: Vec<Question>,
    /// Answers to requests over HTTP that have waited for a source.
    pub replies: BTreeMap<ConnId, Reply>,
    /// Where rows live that do not live here.
    pub home: Home,
    /// Whether it answers only when a test says so.
    pub slow: bool,
    /// What stands for the address of whoever connects without an identity.
    pub address: Option<Rc<str>>,
    /// What upgrades bring along for handlers.
    pub handshake: Option<Rc<str>>,
    /// Whose key publishers' calls come with.
    pub publisher: Publisher,
    /// How much text the last turn sent, each text counted once for all its receivers.
    pub sent_bytes: usize,
    /// The object crashes at the n-th effect from now, once.
    pub crash_after: Option<u32>,
    /// How often it has crashed.
    pub crashes: u32,
    /// Before which effect it last did, as coverage counts it.
    pub crashed_at: &'static str,
    /// How many sockets were closed as it last woke, of which the next turn tells.
    pub closed_by_waking: usize,
    /// The host's mark: a turn has begun and not ended.
    marked: bool,
    config: Rc<Config>,
    sockets: BTreeMap<ConnId, Socket>,
    readers: BTreeMap<ConnId, Reader>,
    next: u32,
    sessions: u32,
    seeds: u32,
}

pub fn config(channels: &Value) -> Rc<Config> {
    config_with(channels, &[])
}

/// The settings of a world, with more of them, or others.
pub fn config_with(channels: &Value, more: &[(&str, &str)]) -> Rc<Config> {
    let channels = channels.to_string();
    let stock = [("SYNC_CHANNELS", channels.as_str()), ("JWT_SECRET", SECRET)];
    let config = Config::read(|name| {
        let mut settings = more.iter().chain(&stock);
        let found = settings.find(|(setting, _)| *setting == name);
        found.map(|(_, value)| (*value).to_owned())
    });
    Rc::new(config.unwrap())
}

pub fn open(
    config: &Rc<Config>,
    sqlite: &Sqlite,
    now: Millis,
) -> Result<tidewire::Engine<Sqlite>, SqlError> {
    let space = Space::default_space();
    tidewire::Engine::open(Rc::clone(config), space, sqlite.clone(), Seed([7; 32]), now)
}

impl World {
    pub fn new() -> Self {
        Self::with_channels(&channels())
    }

    pub fn with_channels(channels: &Value) -> Self {
        Self::with_config(config(channels))
    }

    /// A world with some bounds set otherwise.
    pub fn with_limits(limits: &Value) -> Self {
        let limits = limits.to_string();
        Self::with_config(config_with(&channels(), &[("SYNC_LIMITS", &limits)]))
    }

    /// One where questions for deltas are not paced, for tests of other bounds.
    pub fn without_backpressure() -> Self {
        Self::with_limits(&json!({ "minIntervalMs": 0, "maxConcurrentDeltas": 1_000 }))
    }

    pub fn with_config(config: Rc<Config>) -> Self {
        let sqlite = Sqlite::new();
        Self {
            engine: open(&config, &sqlite, BEGIN).unwrap(),
            config,
            sqlite,
            now: BEGIN,
            alarm: None,
            asked: None,
            faults: Vec::new(),
            events: Vec::new(),
            asks: Vec::new(),
            questions: Vec::new(),
            replies: BTreeMap::new(),
            home: Home::default(),
            slow: false,
            address: None,
            handshake: None,
            publisher: Publisher::Unscoped,
            sent_bytes: 0,
            sockets: BTreeMap::new(),
            readers: BTreeMap::new(),
            next: 0,
            sessions: 0,
            seeds: 0,
            crash_after: None,
            crashes: 0,
            crashed_at: "",
            closed_by_waking: 0,
            marked: false,
        }
    }

    pub fn input(&mut self, input: Input<'_>) -> Option<Reply> {
        self.marked = true;
        if self.crashes_here("crashes before a turn") {
            return self.crash();
        }
        let request = match &input {
            Input::Read { conn, .. } | Input::Write { conn, .. } => Some(*conn),
            _ => None,
        };
        let effects = self.engine.handle(input, self.now);
        let reply = self.perform(effects);
        if !self.slow {
            self.slow = true;
            self.settle();
            self.slow = false;
        }
        reply.or_else(|| self.replies.remove(&request?))
    }

    /// Does what a host does with the effects of a turn.
    pub fn perform(&mut self, effects: Effects) -> Option<Reply> {
        for (conn, attachment) in effects.saves {
            if self.crashes_here("crashes before a save") {
                return self.crash();
            }
            assert!(attachment.len() <= limits::ATTACHMENT_BYTES);
            self.sockets.get_mut(&conn).unwrap().attachment = Some(attachment);
        }
        self.sent_bytes = effects.frames.iter().map(|frame| frame.text.len()).sum();
        for frame in effects.frames {
            assert!(frame.text.len() <= limits::FRAME_OUT_BYTES);
            for conn in frame.to {
                if self.crashes_here("crashes before a frame") {
                    return self.crash();
                }
                let socket = self.sockets.get_mut(&conn).unwrap();
                assert_eq!(socket.closed, None, "sent to a closed socket");
                socket.frames.push(frame.text.to_string());
            }
        }
        if let Some(stays) = effects.stays {
            self.begin_reader(stays);
        }
        for event in effects.stream_events {
            if self.crashes_here("crashes before a stream's event") {
                return self.crash();
            }
            self.pass_on(&event);
        }
        for (conn, ms) in effects.lacking {
            self.reader_lacks_a_page(conn, ms);
        }
        for end in effects.ends {
            if self.crashes_here("crashes before the end of a reader") {
                return self.crash();
            }
            self.end_reader(end);
        }
        for closing in effects.closes {
            if self.crashes_here("crashes before a close") {
                return self.crash();
            }
            self.close(closing);
        }
        if self.crashes_here("crashes at the end of a turn") {
            return self.crash();
        }
        self.marked = false;
        self.schedule(effects.alarm);
        self.faults.extend(effects.faults);
        self.events.extend(effects.events.iter().cloned());
        self.engine.note(effects.events);
        self.asks.extend(effects.asks);
        self.questions.extend(effects.questions);
        self.replies.extend(effects.replies);
        effects.reply
    }

    fn close(&mut self, closing: Closing) {
        assert!(closing.reason.len() <= limits::REASON_BYTES);
        let socket = self.sockets.get_mut(&closing.conn).unwrap();
        socket.closed = Some(closing.code);
        socket.reason = closing.reason.into_owned();
        socket.attachment = None;
    }

    fn crashes_here(&mut self, what: &'static str) -> bool {
        let here = self.crash_after == Some(0);
        if here {
            self.crashed_at = what;
        }
        self.crash_after = self.crash_after.and_then(|left| left.checked_sub(1));
        here
    }

    /// The wasm instance is reset in the midst of a turn: what SQLite has committed remains, what
    /// was sent is sent, the caller gets no answer.
    fn crash(&mut self) -> Option<Reply> {
        self.crashes += 1;
        self.wake().unwrap();
        None
    }

    /// A new life of the object, from SQLite, attachments and the host's mark.
    fn wake(&mut self) -> Result<(), SqlError> {
        self.questions.clear();
        self.replies.clear();
        self.engine = self.open()?;
        self.cut_readers();
        let open = self.attachments();
        let interrupted = std::mem::take(&mut self.marked);
        let closes = self.engine.wake(interrupted, open);
        self.closed_by_waking = closes.len();
        for closing in closes {
            self.close(closing);
        }
        // The turn that follows schedules the alarm.
        self.asked = None;
        Ok(())
    }

    /// An engine over what there is, which knows nobody yet.
    pub fn open(&self) -> Result<tidewire::Engine<Sqlite>, SqlError> {
        open(&self.config, &self.sqlite, self.now)
    }

    /// The sockets with what the host keeps for them.
    pub fn attachments(&self) -> Vec<(ConnId, Option<Vec<u8>>)> {
        let open = self.sockets.iter();
        let open = open.filter(|(_, socket)| socket.closed.is_none());
        open.map(|(conn, socket)| (*conn, socket.attachment.clone()))
            .collect()
    }

    /// Connects a user, or nobody, with topics; the token lasts for a day.
    pub fn connect(&mut self, user: Option<&str>, topics: &[&str]) -> ConnId {
        let expires_at = user.map(|_| self.now.plus(24 * 60 * 60 * 1000));
        self.connect_until(user, topics, expires_at).unwrap()
    }

    pub fn connect_until(
        &mut self,
        user: Option<&str>,
        topics: &[&str],
        expires_at: Option<Millis>,
    ) -> Result<ConnId, Reply> {
        let grant = self.grant(user, topics, expires_at);
        let (conn, session) = self.draw();
        self.sockets.insert(conn, Socket::default());
        match self.input(Input::Connect {
            conn,
            session,
            grant,
        }) {
            None => Ok(conn),
            Some(reply) => {
                self.sockets.remove(&conn);
                Err(reply)
            }
        }
    }

    /// What a token that was just issued grants a user, or nobody.
    fn grant(&self, user: Option<&str>, topics: &[&str], expires_at: Option<Millis>) -> Grant {
        let identity = user.map(|user| Identity::parse(user).unwrap());
        Grant {
            topics: Topics::granted(identity.as_ref(), topics.iter().copied()).unwrap(),
            identity,
            issued_at: self.now,
            expires_at,
            visitor: self.address.clone().filter(|_| user.is_none()),
            context: None,
            claims: None,
            handshake: self.handshake.clone(),
        }
    }

    /// The number and the name of the next connection.
    fn draw(&mut self) -> (ConnId, SessionId) {
        let conn = ConnId(self.next);
        self.next += 1;
        self.sessions += 1;
        let session = SessionId::parse(&format!("session-{}", self.sessions)).unwrap();
        (conn, session)
    }

    /// Connects a user; nothing if the object crashed over it: the upgrade never ends then.
    pub fn try_connect(&mut self, user: &str) -> Option<ConnId> {
        let crashes = self.crashes;
        let conn = self.connect(Some(user), &[]);
        if self.crashes > crashes {
            self.sockets.remove(&conn);
            return None;
        }
        Some(conn)
    }

    /// Connects a user who says hello; the welcome is taken.
    pub fn user(&mut self, user: &str) -> ConnId {
        let conn = self.connect(Some(user), &[]);
        self.hello(conn);
        conn
    }

    /// Connects a user who is live on a channel.
    #[track_caller]
    pub fn live(&mut self, user: &str, channel: &str) -> ConnId {
        let conn = self.user(user);
        assert_eq!(self.subscribe(conn, channel)["type"], "snapshot");
        conn
    }

    /// Connects a user with topics who says hello.
    pub fn member(&mut self, user: &str, topics: &[&str]) -> ConnId {
        let conn = self.connect(Some(user), topics);
        self.hello(conn);
        conn
    }

    /// Connects somebody without a token who says hello.
    pub fn nobody(&mut self) -> ConnId {
        let conn = self.connect(None, &[]);
        self.hello(conn);
        conn
    }

    pub fn hello(&mut self, conn: ConnId) {
        self.send(conn, json!({ "type": "hello", "v": 1 }));
        let welcome = self.one(conn);
        assert_eq!(welcome["type"], "welcome");
    }

    pub fn send(&mut self, conn: ConnId, message: Value) {
        self.send_text(conn, &message.to_string());
    }

    pub fn send_text(&mut self, conn: ConnId, text: &str) {
        self.input(Input::Frame { conn, text });
    }

    pub fn send_binary(&mut self, conn: ConnId) {
        self.input(Input::Binary { conn });
    }

    /// The frames that a socket got since it was last asked.
    pub fn frames(&mut self, conn: ConnId) -> Vec<String> {
        std::mem::take(&mut self.sockets.get_mut(&conn).unwrap().frames)
    }

    /// The messages that a socket got since it was last asked, arrays taken apart.
    pub fn messages(&mut self, conn: ConnId) -> Vec<Value> {
        let read = |frame: String| match serde_json::from_str(&frame) {
            Ok(Value::Array(messages)) => messages,
            Ok(message) => vec![message],
            Err(_) => vec![Value::String(frame)],
        };
        self.frames(conn).into_iter().flat_map(read).collect()
    }

    /// The one message that a socket got since it was last asked.
    #[track_caller]
    pub fn one(&mut self, conn: ConnId) -> Value {
        let mut messages = self.messages(conn);
        assert_eq!(messages.len(), 1, "{messages:#?}");
        messages.remove(0)
    }

    /// Sends a message and takes the one answer.
    #[track_caller]
    pub fn ask(&mut self, conn: ConnId, message: Value) -> Value {
        assert_eq!(self.messages(conn), Vec::<Value>::new(), "unread messages");
        self.send(conn, message);
        self.one(conn)
    }

    #[track_caller]
    pub fn subscribe(&mut self, conn: ConnId, channel: &str) -> Value {
        self.ask(
            conn,
            json!({ "type": "subscribe", "id": "s", "channel": channel }),
        )
    }

    /// Subscribes where an earlier snapshot or change ended.
    #[track_caller]
    pub fn resume(&mut self, conn: ConnId, channel: &str, cursor: &Value, view: &Value) -> Value {
        let message = json!({
            "type": "subscribe", "id": "r", "channel": channel, "cursor": cursor, "view": view
        });
        self.ask(conn, message)
    }

    #[track_caller]
    pub fn mutate(&mut self, conn: ConnId, id: &str, channel: &str, rest: Value) -> Value {
        let mut message = json!({ "type": "mutate", "id": id, "channel": channel });
        let fields = rest.as_object().unwrap().clone();
        message.as_object_mut().unwrap().extend(fields);
        self.ask(conn, message)
    }

    #[track_caller]
    pub fn update(&mut self, conn: ConnId, id: &str, channel: &str, data: Value) -> Value {
        self.mutate(
            conn,
            id,
            channel,
            json!({ "action": "update", "data": data }),
        )
    }

    #[track_caller]
    pub fn delete(&mut self, conn: ConnId, id: &str, channel: &str, key: &str) -> Value {
        self.mutate(conn, id, channel, json!({ "action": "delete", "key": key }))
    }

    #[track_caller]
    pub fn create(&mut self, conn: ConnId, id: &str, channel: &str, data: Value) -> Value {
        self.mutate(
            conn,
            id,
            channel,
            json!({ "action": "create", "data": data }),
        )
    }

    pub fn broadcast(&mut self, body: Value) -> (u16, Value) {
        self.publish(Call::Broadcast, body.to_string(), None)
    }

    pub fn broadcast_batch(&mut self, body: Value) -> (u16, Value) {
        self.publish(Call::BroadcastBatch, body.to_string(), None)
    }

    pub fn call(&mut self, call: Call, body: Value) -> (u16, Value) {
        self.publish(call, body.to_string(), None)
    }

    pub fn publish(
        &mut self,
        call: Call,
        body: impl AsRef<[u8]>,
        idempotency_key: Option<&str>,
    ) -> (u16, Value) {
        let (status, body) = self.publish_text(call, body, idempotency_key);
        (status, serde_json::from_str(&body).unwrap())
    }

    pub fn publish_text(
        &mut self,
        call: Call,
        body: impl AsRef<[u8]>,
        idempotency_key: Option<&str>,
    ) -> (u16, String) {
        let reply = self.try_call(call, body, idempotency_key).unwrap();
        (reply.status, reply.body)
    }

    /// Chance that never comes again.
    fn seed(&mut self) -> Seed {
        // The third would bring the first epoch again.
        let number = match self.seeds {
            2 => 2 | 1 << 15,
            other => other,
        };
        let digit = |i: usize| (number >> (5 * i) & 31) as u8;
        let more = |i: usize| if i > 0 { digit(i) } else { 0 };
        let seed = Seed(std::array::from_fn(|i| 101 + digit(0) + more(i % 4)));
        self.seeds += 1;
        seed
    }

    /// A call; no reply if the object crashed over it.
    pub fn try_call(
        &mut self,
        call: Call,
        body: impl AsRef<[u8]>,
        idempotency_key: Option<&str>,
    ) -> Option<Reply> {
        let (seed, publisher) = (self.seed(), self.publisher.clone());
        self.input(Input::Call {
            call,
            publisher: &publisher,
            body: Ok(body.as_ref()),
            idempotency_key,
            seed: call.draws().then_some(seed),
        })
    }

    /// Somebody else has judged the oldest token that waits for it.
    pub fn judged(&mut self, answer: Result<Option<Claims>, Problem>) {
        let (conn, _) = self.asks.remove(0);
        self.input(Input::Authenticated { conn, answer });
    }

    /// Whether an owner may bring one more space into being.
    pub fn new_space(&mut self, owner: &str) -> u16 {
        self.input(Input::NewSpace { owner }).unwrap().status
    }

    /// What `GET /api/sync/session` says of a grant.
    pub fn session(&mut self, user: &str, issued_at: Millis) -> (u16, Value) {
        let identity = Identity::parse(user).unwrap();
        let grant = Grant {
            topics: Topics::granted(Some(&identity), []).unwrap(),
            identity: Some(identity),
            issued_at,
            expires_at: Some(self.now.plus(1000)),
            visitor: None,
            context: None,
            claims: None,
            handshake: None,
        };
        let reply = self.input(Input::Session { grant }).unwrap();
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    pub fn stats(&mut self) -> Value {
        let input = Input::Stats {
            instance: "the world",
        };
        let reply = self.input(input).unwrap();
        serde_json::from_str(&reply.body).unwrap()
    }

    /// What `GET /metrics` says.
    pub fn metrics(&mut self) -> String {
        self.input(Input::Metrics).unwrap().body
    }

    /// What `GET /inspect` says.
    pub fn inspect(&mut self, since: u64) -> Value {
        let instance = "the world";
        let reply = self.input(Input::Inspect { instance, since }).unwrap();
        serde_json::from_str(&reply.body).unwrap()
    }

    /// The events since this was last asked, each as its line in the log.
    pub fn events(&mut self) -> Vec<Value> {
        let events = std::mem::take(&mut self.events).into_iter();
        let line = |event: Event| serde_json::from_str(&event.line()).unwrap();
        events.map(line).collect()
    }

    /// One page of an export: where the walk stands after it, and its lines.
    pub fn export_page(&mut self, after: &str) -> Result<(String, String), Reply> {
        let publisher = self.publisher.clone();
        let reply = self.input(Input::Export {
            publisher: &publisher,
            after,
        });
        let reply = reply.unwrap();
        match reply.status {
            200 => {
                let (at, page) = reply.body.split_once('\n').unwrap();
                Ok((at.to_owned(), page.to_owned()))
            }
            _ => Err(reply),
        }
    }

    /// A whole export; `between` happens after each of its pages.
    pub fn export_while(&mut self, mut between: impl FnMut(&mut Self)) -> String {
        let (mut at, mut file) = self.export_page("").unwrap();
        while !at.is_empty() {
            between(self);
            let (next, page) = self.export_page(&at).unwrap();
            at = next;
            file += &page;
        }
        file
    }

    pub fn export(&mut self) -> String {
        self.export_while(|_| {})
    }

    /// Lines of an import, the first of them with its number.
    pub fn import_at(&mut self, line: u64, text: &str) -> (u16, Value) {
        let reply = self.try_import(line, text).unwrap();
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    /// As [`Self::import_at`]; no reply if the object crashed over it.
    pub fn try_import(&mut self, line: u64, text: &str) -> Option<Reply> {
        let (seed, publisher) = (self.seed(), self.publisher.clone());
        self.input(Input::Import {
            publisher: &publisher,
            line,
            text,
            seed,
        })
    }

    /// A whole import at once.
    pub fn import(&mut self, file: &str) -> (u16, Value) {
        self.import_at(1, file)
    }

    /// What the doctor sees in the rows.
    pub fn doctor(&mut self, after: &str) -> (u16, Value) {
        let publisher = self.publisher.clone();
        let reply = self.input(Input::Doctor {
            publisher: &publisher,
            after,
        });
        let reply = reply.unwrap();
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    /// What `GET /presence` says of a channel.
    pub fn presence(&mut self, channel: &str) -> (u16, Value) {
        let (status, body) = self.presence_text(channel);
        (status, serde_json::from_str(&body).unwrap())
    }

    pub fn presence_text(&mut self, channel: &str) -> (u16, String) {
        let (channel, publisher) = (Channel::parse(channel).unwrap(), self.publisher.clone());
        let input = Input::Members {
            channel: &channel,
            publisher: &publisher,
        };
        let reply = self.input(input).unwrap();
        (reply.status, reply.body)
    }

    /// The client goes away.
    pub fn drop(&mut self, conn: ConnId) {
        self.input(Input::Closed { conn });
        self.sockets.remove(&conn);
        self.readers.remove(&conn);
    }

    /// With which code the server closed the socket.
    pub fn closed(&self, conn: ConnId) -> Option<u16> {
        self.sockets[&conn].closed
    }

    /// What the close frame said.
    pub fn close_reason(&self, conn: ConnId) -> &str {
        &self.sockets[&conn].reason
    }

    /// How long a socket's attachment is.
    pub fn attachment_bytes(&self, conn: ConnId) -> usize {
        self.sockets[&conn].attachment.as_ref().unwrap().len()
    }

    /// The session that a socket's attachment holds.
    pub fn session_of(&self, conn: ConnId) -> Session {
        let attachment = self.sockets[&conn].attachment.as_deref();
        Session::decode(attachment.unwrap()).unwrap()
    }

    /// The object sleeps and wakes: memory is lost, SQLite and attachments remain; connections
    /// keep their numbers, which the engine does not mind.
    pub fn sleep(&mut self) {
        self.try_sleep().unwrap();
    }

    /// As [`Self::sleep`], where waking may fail; the object is then as it was, asleep or not.
    pub fn try_sleep(&mut self) -> Result<(), SqlError> {
        self.wake()
    }

    pub fn advance(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
    }

    /// Moves the alarm as the host does: only ever to an earlier time.
    fn schedule(&mut self, due: Option<Millis>) {
        let Some(due) = due else { return };
        if self.asked.is_none_or(|asked| due < asked) {
            self.asked = Some(due);
            self.alarm = Some(self.alarm.map_or(due, |set| set.min(due)));
        }
    }

    /// The alarm rings, if one is set and due.
    pub fn ring(&mut self) -> bool {
        let due = self.alarm.is_some_and(|at| at <= self.now);
        if due {
            self.alarm = Some(self.now.plus(60_000));
            self.asked = self.alarm;
            let crashes = self.crashes;
            self.input(Input::Alarm);
            if self.crashes == crashes {
                self.alarm = self.engine.due(self.now);
                self.asked = self.alarm;
            }
        }
        due
    }
}
