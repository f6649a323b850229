//! Steps of clients that come, ask for channels, and go; and what a source may be asked for them.

use serde_json::{Value, json};
use tidewire::Reply;

use super::client::{Client, Cursor, Kind, Request, Wanted};
use super::game::{Game, usual};
use super::presence::PRESENT;
use super::source::Asked;
use super::step::{CHANNELS, DAY};
use super::world::readers::{Read, reads};

/// For how many seconds who waits is ready to.
const WAIT: u64 = 20;

impl Client {
    pub(crate) fn is_connected(&self) -> bool {
        self.conn.is_some() || self.stream.is_some()
    }

    /// What it asks a channel for.
    fn ask(&mut self, channel: &'static str, from_nothing: bool, limit: u64) -> (Value, Wanted) {
        let (kind, topics) = (self.kind, self.topics.clone());
        let copy = self.copy(channel);
        let mut message = json!({ "type": "subscribe", "channel": channel, "limit": limit });
        let cursor = copy
            .cursor
            .clone()
            .filter(|_| !copy.forgotten && !from_nothing);
        if kind == Kind::Legacy {
            // It knows of no view, and begins anew where its topics are others.
            let same = cursor.is_some() && copy.eyes == Some(topics);
            if let Some(since) = copy.since.filter(|_| same) {
                message["since"] = json!(since);
            }
            message.as_object_mut().unwrap().remove("limit");
        } else if let Some(cursor) = &cursor {
            message["cursor"] = json!(cursor.text);
            message["view"] = json!(copy.view);
        }
        let eyes = copy.eyes.clone();
        let wanted = Wanted::Pages {
            cursor,
            eyes,
            left: false,
        };
        (message, wanted)
    }

    fn reads(&self, message: &Value) -> Read<'static> {
        let mut read = reads(self.identity, message["channel"].as_str().unwrap());
        read.topics = usual(self.identity);
        read.seconds = 40 * DAY / 1000;
        for name in ["cursor", "view"] {
            if let Some(text) = message[name].as_str() {
                read = read.with(name, text);
            }
        }
        read.with("limit", &message["limit"])
    }
}

impl Game {
    /// Connects a client that is not, in whatever way it does.
    pub(crate) fn connect(&mut self, place: usize, resume: bool) {
        let (kind, identity) = (self.clients[place].kind, self.clients[place].identity);
        match kind {
            Kind::Socket | Kind::Legacy if self.clients[place].conn.is_none() => {}
            Kind::Socket | Kind::Legacy | Kind::Pages | Kind::Waits | Kind::Stream(_) => return,
        }
        let until = Some(self.w.now.plus(40 * DAY));
        let granted = self.granted(identity);
        let turn = self.turn(|w| w.connect_until(Some(identity), usual(identity), until));
        let client = &mut self.clients[place];
        match turn.answer {
            Ok(conn) => {
                client.conn = Some(conn);
                client.session = None;
                client.topics = granted;
            }
            Err(reply) => assert_eq!(reply.status, 503, "{}", reply.body),
        }
        self.settle();
        self.cov.hit("connects");
        if kind == Kind::Socket && self.clients[place].conn.is_some() {
            self.hello(place, resume);
        }
    }

    fn hello(&mut self, place: usize, resume: bool) {
        let client = &mut self.clients[place];
        let conn = client.conn.unwrap();
        let mut subscribe = Vec::new();
        let channels: Vec<&'static str> = client.copies.keys().copied().collect();
        for channel in channels.into_iter().filter(|_| resume) {
            let (mut message, wanted) = client.ask(channel, false, 2);
            message["id"] = json!(channel);
            subscribe.push(message);
            client.requests.push(Request {
                id: channel.to_owned(),
                channel,
                wanted,
                conn: None,
            });
        }
        let hello = json!({ "type": "hello", "v": 1, "subscribe": subscribe });
        let turn = self.turn(|w| w.send(conn, hello));
        if !turn.handled {
            self.clients[place].requests.clear();
        }
        self.settle();
        let client = &self.clients[place];
        if client.conn.is_some() && client.session.is_none() {
            // It was too fast to be welcome.
            self.leave(place);
        }
    }

    pub(crate) fn leave(&mut self, place: usize) {
        let client = &mut self.clients[place];
        let conns: Vec<_> = client
            .conn
            .into_iter()
            .chain(client.stream.take())
            .collect();
        client.gone();
        for conn in conns {
            self.left.insert(self.clients[place].identity);
            self.turn(|w| w.drop(conn));
            self.settle();
        }
    }

    /// Whoever waits over HTTP waits no longer.
    fn break_off(&mut self, place: usize) {
        let requests = std::mem::take(&mut self.clients[place].requests);
        for conn in requests.into_iter().filter_map(|request| request.conn) {
            self.left.insert(self.clients[place].identity);
            self.turn(|w| w.drop(conn));
            self.settle();
        }
    }

    /// The timers of readers ring.
    pub(crate) fn ring_readers(&mut self) {
        for conn in self.w.overdue() {
            self.turn(|w| w.time_over(conn));
            self.settle();
        }
    }

    pub(crate) fn unsubscribe(&mut self, place: usize, channel: &'static str) {
        let client = &mut self.clients[place];
        let Some(conn) = client.conn else { return };
        for request in client.requests.iter_mut().filter(|r| r.channel == channel) {
            if let Wanted::Pages { left, .. } = &mut request.wanted {
                *left = true;
            }
        }
        let copy = client.copy(channel);
        (copy.live, copy.leaving) = (false, true);
        self.turn(|w| w.send(conn, json!({ "type": "unsubscribe", "channel": channel })));
        self.settle();
        self.clients[place].present.take_if(|_| channel == PRESENT);
        self.cov.hit("unsubscribes");
    }

    pub(crate) fn subscribe(
        &mut self,
        place: usize,
        channel: &'static str,
        from_nothing: bool,
        limit: u64,
        wait: bool,
    ) {
        let id = self.name("s");
        let client = &mut self.clients[place];
        let channel = match client.kind {
            Kind::Stream(of) => of,
            Kind::Socket | Kind::Legacy | Kind::Pages | Kind::Waits => channel,
        };
        let pages = |request: &&Request| matches!(request.wanted, Wanted::Pages { .. });
        let mut asked = client.requests.iter().filter(pages);
        // What is on its way may begin anew, and the cursor be of a copy that is no more.
        let from_nothing = from_nothing || asked.any(|request| request.channel == channel);
        let (mut message, wanted) = client.ask(channel, from_nothing, limit);
        message["id"] = json!(id);
        let mut request = Request {
            id,
            channel,
            wanted,
            conn: None,
        };
        let waits = client
            .requests
            .iter()
            .any(|request| request.channel == channel);
        match client.kind {
            Kind::Socket | Kind::Legacy => {
                let Some(conn) = client.conn else { return };
                self.cov.hit_if("subscriptions behind a question", waits);
                client.requests.push(request);
                let turn = self.turn(|w| w.send(conn, message));
                if !turn.handled {
                    self.clients[place].requests.pop();
                }
            }
            Kind::Pages | Kind::Waits | Kind::Stream(_) if waits => return,
            Kind::Pages | Kind::Waits | Kind::Stream(_) => {
                let streams = matches!(client.kind, Kind::Stream(_));
                if client.stream.is_some() {
                    return;
                }
                let mut read = client.reads(&message);
                if wait && client.kind == Kind::Waits {
                    read = read.with("wait", WAIT);
                }
                let granted = self.granted(self.clients[place].identity);
                let client = &mut self.clients[place];
                let jumped_back = self.w.now.0 < client.issued;
                let others = jumped_back || granted != client.topics;
                if client.requests.iter().any(|r| r.conn.is_some()) && others {
                    // Whose eyes an answer is for, it could not tell, nor which token a removal holds against.
                    return;
                }
                (client.topics, client.issued) = (granted, self.w.now.0);
                // It is asked for before it is known which connection asks.
                client.requests.push(request.clone());
                let turn = self.turn(|w| match streams {
                    true => w.slow_stream(&read),
                    false => w.slow_page(&read),
                });
                self.clients[place]
                    .requests
                    .retain(|other| other.id != request.id);
                match turn.answer {
                    _ if turn.crashed => {}
                    Err(reply) => self.read_answered(place, &request, &reply),
                    Ok(conn) => {
                        request.conn = Some(conn);
                        self.clients[place].requests.push(request);
                    }
                }
            }
        }
        self.settle();
    }

    /// A page over HTTP has come, or why not.
    pub(crate) fn read_answered(&mut self, place: usize, request: &Request, reply: &Reply) {
        if reply.status != 200 {
            assert!(
                matches!(reply.status, 403 | 429 | 500 | 503),
                "{} {}",
                reply.status,
                reply.body
            );
            return;
        }
        self.scan(place, &reply.body);
        let page: Value = serde_json::from_str(&reply.body).unwrap();
        self.take_page(place, request, &page);
    }

    pub(crate) fn take_page(&mut self, place: usize, request: &Request, page: &Value) {
        let Wanted::Pages { cursor, left, .. } = &request.wanted else {
            panic!("a page for {request:?}");
        };
        let client = &mut self.clients[place];
        if *left {
            client.paging = Some(request.channel).filter(|_| client.kind == Kind::Legacy);
            return;
        }
        let eyes = client.topics.clone();
        let told = (&self.truth, &mut self.cov);
        client.page(
            request.channel,
            page,
            (cursor.clone(), eyes),
            told,
            self.w.now.0,
        );
    }

    /// Comes back if need be and asks until everything is there; the home answers at once.
    pub(crate) fn catch_up(&mut self, place: usize, limit: u64) {
        self.connect(place, false);
        self.answer_all();
        if self.clients[place].kind == Kind::Waits {
            self.break_off(place);
        }
        for channel in CHANNELS {
            for round in 0.. {
                let client = &mut self.clients[place];
                if matches!(client.kind, Kind::Stream(of) if of != channel) {
                    break;
                }
                let pages = matches!(client.kind, Kind::Pages | Kind::Waits);
                let connected =
                    client.is_connected() || pages || matches!(client.kind, Kind::Stream(_));
                let copy = client.copy(channel);
                let done = match pages {
                    true => round > 0 && !copy.more,
                    false => copy.live && !copy.forgotten,
                };
                if done || !connected {
                    break;
                }
                assert!(round < 100, "{} never has all of {channel}", client.name);
                self.subscribe(place, channel, false, limit, false);
                self.answer_all();
                let streams = self.clients[place].stream.is_some();
                if streams || round % 10 == 9 {
                    // Whoever was too fast, or streams, may have to wait.
                    self.time(self.latest + 1000);
                }
                if streams {
                    self.read_on(place);
                }
            }
        }
        self.cov.hit("caught up");
        self.check_live();
    }

    /// A stream has read what it got, and gets its next pages.
    fn read_on(&mut self, place: usize) {
        for _ in 0..50 {
            let Some(conn) = self.clients[place].stream else {
                break;
            };
            let turn = self.turn(|w| w.next_page(conn));
            self.settle();
            self.answer_all();
            if !turn.answer {
                break;
            }
        }
    }

    /// Whether somebody needs what the home is asked for: who comes with a cursor that the log can
    /// prove, in a channel that has not changed outside since, does not.
    pub(crate) fn must_fetch(&mut self, asked: &Asked) {
        let channel = asked.channel;
        let identity = asked.question.grant.identity.as_ref().unwrap().as_str();
        let session = asked.question.session.as_str();
        let sql = format!(
            "SELECT ifnull(max(max(floor, outside)), 0) FROM channels WHERE name = '{channel}'"
        );
        let floor = self.w.sqlite.number(&sql);
        let proves =
            |cursor: &Cursor| cursor.epoch == self.epoch && !cursor.pages && cursor.seq >= floor;
        let needs = |client: &Client| {
            let unproven = |request: &Request| match &request.wanted {
                Wanted::Pages { cursor, eyes, .. } => {
                    let same = eyes.as_ref() == Some(&client.topics);
                    let proven = cursor.as_ref().is_some_and(|cursor| proves(cursor) && same);
                    request.channel == channel && !proven
                }
                Wanted::Mutation { .. } => false,
            };
            client.requests.iter().any(unproven)
        };
        let named = |client: &&Client| client.session.as_deref() == Some(session);
        let needed = match self.clients.iter().find(named) {
            // Asked for in the turn in which it was closed.
            _ if self.left.contains(identity) => true,
            Some(client) => needs(client),
            // Times prove less than cursors, and a stream's next page is not asked for by name.
            None => self.clients.iter().any(|client| {
                let asks = match client.kind {
                    Kind::Legacy => client.conn.is_some(),
                    Kind::Stream(of) => of == channel && (client.stream.is_some() || needs(client)),
                    Kind::Pages | Kind::Waits => needs(client),
                    Kind::Socket => false,
                };
                client.identity == identity && asks
            }),
        };
        assert!(needed, "nobody needs this: {asked:?}");
    }
}
