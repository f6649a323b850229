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

pub mod sqlite;

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::{Value, json};
use tidewire::{
    Columns, Config, ConnId, Effects, Engine, Grant, Identity, Input, Millis, Param, PublishCall,
    Reply, Seed, SessionId, Space, Sql, SqlError, Topics, limits,
};

use sqlite::Sqlite;

/// 2026-06-07, when the world begins.
pub const BEGIN: Millis = Millis(1_780_790_400_000);

/// The channels of the stock configuration, and a few that the stock one has no use for.
pub fn channels() -> Value {
    json!({
        "todos": { "read": "user", "write": "user" },
        "notes": { "read": "user", "write": "user", "scope": { "field": "ownerId" } },
        "gifts": { "read": "user", "write": "user", "scope": { "field": "for", "leave": true } },
        "feed": { "read": "anyone", "write": "none" },
        "open": { "read": "anyone", "write": "anyone" },
        "drop": { "read": "none", "write": "user" },
        "timed": { "read": "user", "write": "user", "timestamp": "t" },
        "team:*": { "read": "user", "write": "user", "scope": { "field": "team", "as": "team:" } },
        "room:*": { "read": "topic", "write": "topic" },
        "chat:*": { "read": "user", "write": "user", "keep": "every" }
    })
}

/// One fake socket.
#[derive(Debug, Default)]
struct Socket {
    frames: Vec<String>,
    attachment: Option<Vec<u8>>,
    closed: Option<u16>,
}

pub struct World {
    pub engine: Engine<Sqlite>,
    pub sqlite: Sqlite,
    pub now: Millis,
    pub alarm: Option<Millis>,
    /// What the engine logged as its own failures.
    pub faults: Vec<String>,
    /// How much text the last turn sent, each text counted once for all its receivers.
    pub sent_bytes: usize,
    config: Rc<Config>,
    sockets: BTreeMap<ConnId, Socket>,
    next: u32,
    sessions: u32,
}

pub fn config(channels: &Value) -> Rc<Config> {
    let text = channels.to_string();
    Rc::new(Config::read(|name| (name == "SYNC_CHANNELS").then(|| text.clone())).unwrap())
}

pub fn open(config: &Rc<Config>, sqlite: &Sqlite, now: Millis) -> Result<Engine<Sqlite>, SqlError> {
    let space = Space::default_space();
    Engine::open(Rc::clone(config), space, sqlite.clone(), Seed([7; 32]), now)
}

impl World {
    pub fn new() -> Self {
        Self::with_channels(&channels())
    }

    pub fn with_channels(channels: &Value) -> Self {
        let (config, sqlite) = (config(channels), Sqlite::new());
        Self {
            engine: open(&config, &sqlite, BEGIN).unwrap(),
            config,
            sqlite,
            now: BEGIN,
            alarm: None,
            faults: Vec::new(),
            sent_bytes: 0,
            sockets: BTreeMap::new(),
            next: 0,
            sessions: 0,
        }
    }

    fn input(&mut self, input: Input<'_>) -> Option<Reply> {
        let effects = self.engine.handle(input, self.now);
        self.perform(effects)
    }

    /// Does what a host does with the effects of a turn.
    fn perform(&mut self, effects: Effects) -> Option<Reply> {
        for (conn, attachment) in effects.saves {
            assert!(attachment.len() <= limits::ATTACHMENT_BYTES);
            self.sockets.get_mut(&conn).unwrap().attachment = Some(attachment);
        }
        self.sent_bytes = effects.frames.iter().map(|frame| frame.text.len()).sum();
        for frame in effects.frames {
            assert!(frame.text.len() <= limits::FRAME_OUT_BYTES);
            for conn in frame.to {
                let socket = self.sockets.get_mut(&conn).unwrap();
                assert_eq!(socket.closed, None, "sent to a closed socket");
                socket.frames.push(frame.text.to_string());
            }
        }
        for (conn, close) in effects.closes {
            let socket = self.sockets.get_mut(&conn).unwrap();
            socket.closed = Some(close.code());
            socket.attachment = None;
        }
        self.alarm = effects.alarm;
        self.faults.extend(effects.faults);
        effects.reply
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
        let identity = user.map(|user| Identity::parse(user).unwrap());
        let grant = Grant {
            topics: Topics::granted(identity.as_ref(), topics.iter().copied()).unwrap(),
            identity,
            issued_at: self.now,
            expires_at,
        };
        let conn = ConnId(self.next);
        self.next += 1;
        self.sessions += 1;
        self.sockets.insert(conn, Socket::default());
        let session = SessionId::parse(&format!("session-{}", self.sessions)).unwrap();
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
        self.publish(PublishCall::One, &body.to_string(), None)
    }

    pub fn broadcast_batch(&mut self, body: Value) -> (u16, Value) {
        self.publish(PublishCall::Batch, &body.to_string(), None)
    }

    pub fn publish(
        &mut self,
        call: PublishCall,
        body: &str,
        idempotency_key: Option<&str>,
    ) -> (u16, Value) {
        let (status, body) = self.publish_text(call, body, idempotency_key);
        (status, serde_json::from_str(&body).unwrap())
    }

    pub fn publish_text(
        &mut self,
        call: PublishCall,
        body: &str,
        idempotency_key: Option<&str>,
    ) -> (u16, String) {
        let input = Input::Publish {
            call,
            body,
            idempotency_key,
        };
        let reply = self.input(input).unwrap();
        (reply.status, reply.body)
    }

    pub fn stats(&mut self) -> Value {
        let input = Input::Stats {
            instance: "the world",
            rows_written: 0,
        };
        let reply = self.input(input).unwrap();
        serde_json::from_str(&reply.body).unwrap()
    }

    /// The client goes away.
    pub fn drop(&mut self, conn: ConnId) {
        self.sockets.remove(&conn);
        self.input(Input::Closed { conn });
    }

    /// With which code the server closed the socket.
    pub fn closed(&self, conn: ConnId) -> Option<u16> {
        self.sockets[&conn].closed
    }

    /// The object sleeps and wakes: memory is lost, SQLite and attachments remain; connections
    /// keep their numbers, which the engine does not mind.
    pub fn sleep(&mut self) {
        self.try_sleep().unwrap();
    }

    /// As [`Self::sleep`], where waking may fail; the object is then as it was, asleep or not.
    pub fn try_sleep(&mut self) -> Result<(), SqlError> {
        self.engine = open(&self.config, &self.sqlite, self.now)?;
        for (conn, socket) in &self.sockets {
            if let Some(attachment) = &socket.attachment {
                assert!(self.engine.restore(*conn, attachment));
            }
        }
        Ok(())
    }

    pub fn advance(&mut self, ms: u64) {
        self.now = self.now.plus(ms);
    }

    /// The alarm rings, if one is set and due.
    pub fn ring(&mut self) -> bool {
        let due = self.alarm.is_some_and(|at| at <= self.now);
        if due {
            self.input(Input::Alarm);
        }
        due
    }
}
