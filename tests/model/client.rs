//! A client: it keeps its copies as the contract says and in no other way, and holds every
//! message that it gets against what the oracle says that it must get.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidewire::ConnId;

use super::copy::{Copy, Cursor};
use super::coverage::Coverage;
use super::oracle::Space;
use super::page::Ask;
use super::presence::Picture;
use super::rules::Eyes;

/// A message that must come.
#[derive(Debug, Clone)]
pub(crate) enum Expected {
    Welcome,
    /// Changes that are applied as one, with a cursor between these two.
    Changes {
        channel: &'static str,
        changes: Vec<Value>,
        least: u64,
        most: u64,
        /// Whether they are of the log, in its order, or come of other topics, in any order.
        of_log: bool,
    },
    Notice {
        channel: &'static str,
        kind: &'static str,
        reason: Value,
        ends: bool,
    },
    Authed {
        expires_at: u64,
        eyes: Eyes,
    },
    Ack {
        id: String,
        channel: &'static str,
        key: String,
        data: Value,
        seq: u64,
        replayed: bool,
    },
    Reject {
        id: String,
        channel: &'static str,
        codes: Vec<&'static str>,
    },
    Error {
        code: &'static str,
    },
    /// Who is present, as an answer.
    Members {
        channel: &'static str,
    },
    Signal {
        channel: &'static str,
        message: Value,
    },
    Snapshot {
        channel: &'static str,
        id: String,
        ask: Ask,
    },
}

impl Expected {
    fn lane(&self) -> &'static str {
        match self {
            Self::Welcome | Self::Authed { .. } | Self::Error { .. } => "",
            Self::Changes { channel, .. }
            | Self::Notice { channel, .. }
            | Self::Ack { channel, .. }
            | Self::Reject { channel, .. }
            | Self::Members { channel }
            | Self::Signal { channel, .. }
            | Self::Snapshot { channel, .. } => channel,
        }
    }
}

/// How a client is in touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Via {
    Socket,
    /// One page at a time.
    Page,
    /// A page as soon as there is news.
    Wait,
    /// Server-sent events.
    Stream,
    /// It only writes, over HTTP.
    Post,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) space: usize,
    pub(crate) legacy: bool,
    pub(crate) via: Via,
    /// The channel that it reads over HTTP.
    pub(crate) reads: &'static str,
    pub(crate) limit: u64,
    /// Over HTTP: its time to wait is over; it has other topics.
    pub(crate) is_over: bool,
    pub(crate) moved: bool,
    /// Whether it has said anything on this connection.
    pub(crate) spoke: bool,
    pub(crate) eyes: Eyes,
    pub(crate) conn: Option<ConnId>,
    pub(crate) expires_at: Option<u64>,
    pub(crate) copies: BTreeMap<&'static str, Copy>,
    pub(crate) expected: Vec<Expected>,
    /// With which code the server must close the socket.
    pub(crate) closing: Option<u16>,
    /// Messages that came since the expectations were set.
    pub(crate) received: usize,
    /// Keys that it may be told of in this step though it may not see their rows any more.
    pub(crate) named: Vec<String>,
    /// The channels that it is present in with a state, or watches.
    pub(crate) present: BTreeMap<&'static str, Option<Value>>,
    /// Whom it was told to be present there, by session.
    pub(crate) pictures: BTreeMap<&'static str, Picture>,
}

impl Client {
    pub(crate) fn new(
        name: &'static str,
        space: usize,
        identity: Option<&'static str>,
        legacy: bool,
    ) -> Self {
        Self {
            name,
            space,
            legacy,
            via: Via::Socket,
            reads: "",
            limit: 0,
            is_over: false,
            moved: false,
            spoke: false,
            eyes: Eyes {
                identity,
                topics: Default::default(),
            },
            conn: None,
            expires_at: None,
            copies: BTreeMap::new(),
            expected: Vec::new(),
            closing: None,
            received: 0,
            named: Vec::new(),
            present: BTreeMap::new(),
            pictures: BTreeMap::new(),
        }
    }

    /// The same, over HTTP.
    pub(crate) fn over_http(via: Via, name: &'static str, identity: Option<&'static str>) -> Self {
        Self {
            via,
            ..Self::new(name, 0, identity, false)
        }
    }

    /// Whether the server counts it among the living.
    pub(crate) fn is_open(&self) -> bool {
        self.conn.is_some() && self.closing.is_none()
    }

    pub(crate) fn is_live(&self, channel: &str) -> bool {
        self.is_open() && self.copies.get(channel).is_some_and(|copy| copy.live)
    }

    pub(crate) fn copy(&mut self, channel: &'static str) -> &mut Copy {
        self.copies.entry(channel).or_default()
    }

    /// The socket is gone; the copies remain.
    pub(crate) fn gone(&mut self) {
        (self.conn, self.closing, self.expires_at) = (None, None, None);
        self.expected.clear();
        (self.is_over, self.moved) = (false, false);
        self.present.clear();
        self.pictures.clear();
        for copy in self.copies.values_mut() {
            (copy.live, copy.page_head) = (false, copy.page_head % u64::MAX);
            copy.parts.clear();
        }
    }

    pub(crate) fn take(
        &mut self,
        message: &Value,
        space: &mut Space,
        cov: &mut Coverage,
        now: u64,
    ) {
        if message["type"] == "presence" && message["members"].is_null() {
            return self.told(message, cov);
        }
        let lane = match message["type"].as_str() {
            Some("welcome" | "authed" | "error") => "",
            _ => message["channel"]
                .as_str()
                .unwrap_or_else(|| self.lane_of_ack(message)),
        };
        let place = self.expected.iter().position(|e| e.lane() == lane);
        let place =
            place.unwrap_or_else(|| panic!("{}: nothing was to come: {message}", self.name));
        let expected = self.expected[place].clone();
        self.received += 1;
        if self.meet(&expected, message, space, cov, now) {
            self.expected.remove(place);
        }
    }

    fn lane_of_ack(&self, message: &Value) -> &'static str {
        let of_ack = |e: &Expected| match e {
            Expected::Ack { id, channel, .. } if message["id"] == id.as_str() => Some(*channel),
            _ => None,
        };
        self.expected.iter().find_map(of_ack).unwrap_or("?")
    }

    /// Holds a message against what must come, and applies it. Whether that is done with.
    pub(crate) fn meet(
        &mut self,
        expected: &Expected,
        message: &Value,
        space: &mut Space,
        cov: &mut Coverage,
        now: u64,
    ) -> bool {
        let (name, via) = (self.name, self.via);
        let kind = message["type"].as_str().unwrap_or("?");
        let wrong = || panic!("{name} was to get {expected:#?}\nand got {message}");
        let is = |right: bool| {
            if !right {
                wrong()
            }
        };
        match (expected, kind) {
            (Expected::Welcome, "welcome") => {
                is(message["epoch"] == space.epoch.as_str());
                is(message["identity"] == json!(self.eyes.identity));
                is(message["expiresAt"] == json!(self.expires_at));
            }
            (Expected::Changes { channel, .. }, "change" | "batch") => {
                return self.changes(expected, channel, message, now);
            }
            (
                Expected::Notice {
                    channel,
                    kind: which,
                    reason,
                    ends,
                },
                _,
            ) if kind == *which => {
                is(message["reason"] == *reason);
                let copy = self.copy(channel);
                if kind == "channel-reset" {
                    (copy.cursor, copy.since, copy.forgotten) = (None, None, true);
                    copy.began = None;
                }
                if *ends || (kind == "channel-reset" && via == Via::Stream) {
                    copy.live = false;
                }
            }
            (Expected::Authed { expires_at, eyes }, "authed") => {
                is(message["identity"] == json!(eyes.identity));
                is(message["expiresAt"] == *expires_at);
                let view = message["view"].as_str().unwrap();
                space.know_view(view, eyes);
                let told =
                    |e: &Expected| matches!(e, Expected::Changes { .. } | Expected::Notice { .. });
                is(!self.expected.iter().any(told));
                for copy in self.copies.values_mut().filter(|copy| copy.live) {
                    copy.view = Some(view.to_owned());
                }
            }
            (
                Expected::Ack {
                    id,
                    channel,
                    key,
                    data,
                    seq,
                    replayed,
                },
                "ack",
            ) => {
                let cursor = Cursor::of(message);
                is(message["id"] == id.as_str() && message["data"] == *data);
                is(message["replayed"] == *replayed);
                is(cursor.seq == *seq && cursor.epoch == space.epoch);
                let copy = self.copy(channel);
                if copy.live && !replayed {
                    is(copy.cursor.as_ref().is_none_or(|c| c.seq < *seq));
                    let is_row = data.get("id").is_some() && data != &json!({ "id": key });
                    copy.write(key, if is_row { data } else { &Value::Null });
                    copy.advance(cursor);
                }
            }
            (Expected::Reject { id, codes, .. }, "reject") => {
                is(message["id"] == id.as_str());
                match self.legacy {
                    true => is(message["error"].is_string()),
                    false => is(codes.iter().any(|code| message["error"]["code"] == *code)),
                }
            }
            (Expected::Members { channel }, "presence") => self.listed(channel, message),
            (Expected::Signal { message: sent, .. }, "signal") => {
                is(message["session"].is_string());
                let mut message = message.clone();
                message.as_object_mut().unwrap().remove("session");
                is(message == *sent);
            }
            (Expected::Error { code }, "error") => is(message["error"]["code"] == *code),
            (Expected::Snapshot { channel, id, ask }, "snapshot") => {
                is(message["id"].as_str().unwrap_or_default() == id.as_str());
                let (eyes, legacy) = (self.eyes.clone(), self.legacy);
                ask.meet(
                    self.copy(channel),
                    channel,
                    message,
                    space,
                    &eyes,
                    cov,
                    legacy,
                );
                return !legacy;
            }
            (Expected::Snapshot { channel, ask, .. }, "batch") if self.legacy => {
                let eyes = self.eyes.clone();
                ask.legacy_deletes(self.copy(channel), channel, message, space, &eyes, cov);
                return false;
            }
            _ => wrong(),
        }
        true
    }

    fn changes(
        &mut self,
        expected: &Expected,
        channel: &'static str,
        message: &Value,
        now: u64,
    ) -> bool {
        let Expected::Changes {
            changes,
            least,
            most,
            of_log,
            ..
        } = expected
        else {
            unreachable!("asked for changes only");
        };
        let (legacy, topics) = (self.legacy, self.eyes.topics.clone());
        let name = self.name;
        let copy = self.copy(channel);
        let parts = match message["type"] == "change" {
            true => vec![message.clone()],
            false => message["changes"].as_array().unwrap().clone(),
        };
        copy.parts.extend(parts);
        if message["cursor"].is_null() {
            assert!(
                legacy || message["more"] == true,
                "{name}: a part without more: {message}"
            );
            assert!(
                !legacy || message["more"].is_null(),
                "{name}: legacy knows no more"
            );
            return false;
        }
        let fields = |change: &Value| {
            let field = |name: &str| change[name].clone();
            json!({ "action": field("action"), "key": field("key"), "data": field("data"),
                "by": field("by"), "at": field("at") })
        };
        let got: Vec<Value> = copy.parts.iter().map(fields).collect();
        match of_log {
            true => assert_eq!(&got, changes, "{name}: live changes of {channel}"),
            false => {
                let key = |list: &[Value]| -> BTreeMap<String, Value> {
                    let timed = |change: &Value| {
                        let mut change = change.clone();
                        if change["action"] == "delete" {
                            change["at"] = Value::Null;
                        }
                        (change["key"].to_string(), change)
                    };
                    list.iter().map(timed).collect()
                };
                assert_eq!(
                    got.len(),
                    changes.len(),
                    "{name}: changes of topics in {channel}"
                );
                assert_eq!(
                    key(&got),
                    key(changes),
                    "{name}: changes of topics in {channel}"
                );
            }
        }
        let cursor = Cursor::of(message);
        let known = copy.cursor.as_ref().map_or(0, |cursor| cursor.seq);
        assert!(
            (*least..=*most).contains(&cursor.seq),
            "{name}: cursor of {message}"
        );
        assert!(
            cursor.seq >= known,
            "{name}: a cursor that goes back: {message}"
        );
        for change in std::mem::take(&mut copy.parts) {
            copy.write(change["key"].as_str().unwrap(), &change["data"]);
        }
        copy.advance(cursor);
        if legacy && !copy.forgotten {
            copy.since = Some((now, topics));
        }
        true
    }
}
