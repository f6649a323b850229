//! Steps of clients that come, ask for channels, and go.

use serde_json::{Value, json};
use tidewire::Millis;

use super::client::{Client, Expected, Via};
use super::copy::Copy;
use super::game::{Game, topics};
use super::oracle::Space;
use super::page::{Ask, Full};
use super::rules::{self, CHANNELS};
use super::step::{From, USUAL};

impl Client {
    /// After an input that left no page out, a legacy client's subscription is live.
    pub(crate) fn settle_legacy(&mut self, space: &Space, now: u64) {
        for (channel, copy) in self
            .copies
            .iter_mut()
            .filter(|(_, c)| c.page_head == u64::MAX)
        {
            (copy.live, copy.forgotten, copy.page_head) = (true, false, 0);
            copy.since = Some((now, self.eyes.topics.clone()));
            copy.is_complete(channel, space, &self.eyes, true);
        }
    }
}

/// What a hello client asks for, as its message and as what must be answered.
pub(crate) fn ask(
    space: &Space,
    client: &Client,
    channel: &'static str,
    from: From,
    limit: u64,
    meta: bool,
    now: u64,
) -> (Value, Ask) {
    let nothing = Copy::default();
    let copy = client.copies.get(channel).unwrap_or(&nothing);
    let mut message = json!({ "type": "subscribe", "channel": channel, "limit": limit });
    let mut ask = Ask {
        full: Full::Must("full: nothing to resume"),
        after: 0,
        began: 0,
        limit: limit as usize,
        meta,
        goes_on: false,
    };
    if client.legacy {
        if from == From::Garbage {
            message["since"] = json!("no time");
        }
        let since = copy
            .since
            .as_ref()
            .filter(|(_, eyes)| *eyes == client.eyes.topics);
        if let Some((since, _)) = since.filter(|_| from == From::Copy && !copy.forgotten) {
            message["since"] = match since % 7 {
                0 => json!(iso(*since)),
                _ => json!(since),
            };
            ask.full = if *since > now {
                Full::Must("full: of the future")
            } else {
                Full::May
            };
        }
        return (message, ask);
    }
    if meta {
        message["meta"] = json!(true);
    }
    match (from, &copy.cursor) {
        (From::Future, _) => {
            message["cursor"] = json!(format!("{}.{}", space.epoch, space.head + 3));
            if let Some(view) = &copy.view {
                message["view"] = json!(view);
            }
            ask.full = Full::Must("full: of the future");
        }
        (From::Garbage, _) => message["cursor"] = json!("no cursor"),
        (From::Copy | From::NoView, Some(cursor)) => {
            message["cursor"] = json!(cursor.text);
            let view = copy.view.as_ref().filter(|_| from == From::Copy);
            if let Some(view) = view {
                message["view"] = json!(view);
            }
            (ask.after, ask.began) = (cursor.seq, copy.began.unwrap_or(cursor.seq));
            ask.goes_on = copy.began.is_some();
            let same = view.and_then(|view| space.views.get(view)) == Some(&client.eyes);
            // A stream was told it as the object crashed: it may be that of these eyes or of former ones.
            let unknown = view.is_some_and(|view| !space.views.contains_key(view));
            let reset = space.resets.get(channel).copied().unwrap_or_default();
            ask.full = if cursor.epoch != space.epoch {
                Full::Must("full: another epoch")
            } else if !same && !unknown {
                Full::Must("full: another view")
            } else if ask.began < reset {
                Full::Must("full: reset")
            } else if ask.began.min(ask.after)
                < space.trimmed.get(channel).copied().unwrap_or_default()
            {
                Full::Must("full: events trimmed")
            } else if unknown
                || (ask.began < space.trimmable(channel)
                    && !rules::rule(channel).is_some_and(|rule| rule.events))
            {
                Full::May
            } else {
                Full::MustNot
            };
        }
        (From::Nothing, _) | (_, None) => {}
    }
    (message, ask)
}

fn iso(ms: u64) -> String {
    let time = chrono::DateTime::from_timestamp_millis(ms as i64).unwrap();
    time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

impl Game {
    pub(crate) fn connect(&mut self, place: usize, bits: u64, life: u64, resume: bool) {
        if self.clients[place].conn.is_some() || self.clients[place].via != Via::Socket {
            return;
        }
        let (s, identity) = (self.clients[place].space, self.clients[place].eyes.identity);
        let now = self.now(s);
        let asked = identity.map_or_else(Default::default, |_| topics(place, bits));
        let expires_at = identity.map(|_| now + life);
        let list: Vec<&str> = asked.iter().map(String::as_str).collect();
        let turn = self.turn(s, |w| {
            w.connect_until(identity, &list, expires_at.map(Millis))
        });
        let standing = self.spaces[s].standing(identity, &asked, now);
        match (&turn.answer, standing) {
            (Ok(conn), _) if turn.crashed => self.clients[place].conn = Some(*conn),
            (Ok(conn), Some(topics)) if !turn.failed => {
                let client = &mut self.clients[place];
                (client.conn, client.expires_at) = (Some(*conn), expires_at);
                client.eyes.topics = topics;
                client.spoke = false;
            }
            (Err(reply), _) if turn.failed => assert_eq!(reply.status, 503),
            (Err(reply), None) => {
                assert_eq!(reply.status, 401);
                self.cov.hit("refused tokens");
            }
            (Ok(_) | Err(_), standing) => panic!("connected as {standing:?}: {:?}", turn.answer),
        }
        self.settle(s, &turn);
        if self.clients[place].is_open() && !self.clients[place].legacy {
            self.hello(place, resume);
        }
    }

    fn hello(&mut self, place: usize, resume: bool) {
        let Some((s, conn)) = self.conn(place) else {
            return;
        };
        let now = self.now(s);
        let mut wanted = Vec::new();
        let channels = self.clients[place]
            .copies
            .keys()
            .copied()
            .collect::<Vec<_>>();
        for channel in channels.into_iter().filter(|_| resume) {
            let (space, client) = (&self.spaces[s], &self.clients[place]);
            wanted.push((
                channel,
                ask(space, client, channel, From::Copy, 3, false, now),
            ));
        }
        let subscribe: Vec<Value> = wanted
            .iter_mut()
            .map(|(channel, (message, _))| {
                message["id"] = json!(*channel);
                message.clone()
            })
            .collect();
        let hello = json!({ "type": "hello", "v": 1, "subscribe": subscribe });
        self.failing[s] = None;
        let turn = self.turn(s, |w| w.send(conn, hello));
        let client = &mut self.clients[place];
        if turn.handled && client.is_open() {
            client.spoke = true;
            client.expected.push(Expected::Welcome);
            for (channel, (_, ask)) in wanted {
                client
                    .expected
                    .push(answer(channel, channel.to_owned(), ask, client));
            }
        }
        self.settle(s, &turn);
    }

    pub(crate) fn leave(&mut self, place: usize) {
        let Some((s, conn)) = self.conn(place) else {
            return;
        };
        self.clients[place].gone();
        let turn = self.turn(s, |w| w.drop(conn));
        self.settle(s, &turn);
    }

    pub(crate) fn unsubscribe(&mut self, place: usize, channel: &'static str) {
        let Some((s, conn)) = self.conn(place).filter(|_| self.is_socket(place)) else {
            return;
        };
        let turn = self.turn(s, |w| {
            w.send(conn, json!({ "type": "unsubscribe", "channel": channel }));
        });
        let client = &mut self.clients[place];
        if turn.handled && client.is_open() {
            client.spoke = true;
            client.no_longer_present(channel);
            if let Some(copy) = client.copies.get_mut(channel) {
                copy.live = false;
            }
        }
        self.settle(s, &turn);
    }

    pub(crate) fn subscribe(
        &mut self,
        place: usize,
        channel: &'static str,
        from: From,
        limit: u64,
        meta: bool,
    ) {
        let Some((s, conn)) = self.conn(place).filter(|_| self.is_socket(place)) else {
            return;
        };
        let (id, now) = (self.name("s"), self.now(s));
        let client = &self.clients[place];
        let meta = meta && !client.legacy;
        let (mut message, ask) = ask(&self.spaces[s], client, channel, from, limit, meta, now);
        message["id"] = json!(id);
        let turn = self.turn(s, |w| w.send(conn, message));
        let client = &mut self.clients[place];
        if turn.handled && client.is_open() {
            client.spoke = true;
            let reject = |code| {
                let id = if client.legacy {
                    "subscribe".to_owned()
                } else {
                    id.clone()
                };
                Expected::Reject {
                    id,
                    channel,
                    codes: vec![code],
                }
            };
            let expected = match from {
                _ if turn.failed => reject("unavailable"),
                From::Garbage
                    if !client.legacy && rules::refused_read(channel, &client.eyes).is_none() =>
                {
                    reject("malformed")
                }
                _ => answer(channel, id, ask, client),
            };
            client.expected.push(expected);
        }
        self.settle(s, &turn);
    }

    /// Comes back if need be and asks for pages until all channels are live.
    pub(crate) fn catch_up(&mut self, place: usize, limit: u64) {
        let s = self.clients[place].space;
        self.connect(place, USUAL, super::step::DAY, false);
        for channel in CHANNELS {
            for _ in 0..200 {
                let client = &mut self.clients[place];
                let refused = rules::refused_read(channel, &client.eyes).is_some();
                let live = client.copy(channel).live && !client.copy(channel).forgotten;
                if !client.is_open() || refused || live {
                    break;
                }
                self.subscribe(place, channel, From::Copy, limit, false);
            }
        }
        let client = &self.clients[place];
        self.cov.hit_if("caught up", client.is_open());
        for (channel, copy) in client
            .copies
            .iter()
            .filter(|(_, copy)| copy.live && client.is_open())
        {
            copy.is_complete(channel, &self.spaces[s], &client.eyes, client.legacy);
        }
    }
}

/// What a subscription must be answered with where storage works and the cursor is one.
fn answer(channel: &'static str, id: String, ask: Ask, client: &Client) -> Expected {
    match rules::refused_read(channel, &client.eyes) {
        Some(code) => {
            let id = if client.legacy {
                "subscribe".to_owned()
            } else {
                id
            };
            Expected::Reject {
                id,
                channel,
                codes: vec![code],
            }
        }
        None => Expected::Snapshot { channel, id, ask },
    }
}
