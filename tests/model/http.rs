//! Steps over HTTP: pages, pages that wait, streams, and mutations without a connection.
//!
//! A reader that stays is a client with one subscription. It is told what a socket is told, except
//! that whoever waits is told by a page, and has gone then.

use serde_json::{Value, json};
use tidewire::{ConnId, Reply, limits};

use super::client::{Client, Expected, Via};
use super::connect::ask;
use super::copy::Cursor;
use super::game::{Game, topics};
use super::page::{Ask, Full};
use super::rules::{self, CHANNELS, Topics};
use super::step::{Action, DAY, From, Item, USUAL};
use super::world::readers::{Read, reads};

/// For how many seconds who waits is ready to.
const WAIT: u64 = 20;

/// The places of those who ask over HTTP, and of the one that stands for whoever writes over it.
pub(crate) const READERS: std::ops::Range<usize> = 10..15;
pub(crate) const POSTER: usize = 15;

/// A page of before the answer that only says to ask again.
fn asks_again(page: &Value) -> bool {
    page["more"] == true && page["data"] == json!([]) && page["deleted"] == json!([])
}

impl Client {
    /// What a reader is to get next, from where its copy is.
    fn next(&self, space: &super::oracle::Space, now: u64) -> (Value, Ask) {
        ask(space, self, self.reads, From::Copy, self.limit, false, now)
    }

    /// A page is applied like the answer to a subscription.
    fn page(
        &mut self,
        ask: &Ask,
        page: &Value,
        space: &mut super::oracle::Space,
        cov: &mut super::coverage::Coverage,
    ) {
        let (eyes, channel) = (self.eyes.clone(), self.reads);
        ask.meet(self.copy(channel), channel, page, space, &eyes, cov, false);
    }

    /// The id of a stream's last event says where it is; none, that it is nowhere.
    fn is_at(&mut self, id: &str, space: &mut super::oracle::Space, crashed: bool) {
        let (eyes, name) = (self.eyes.clone(), self.name);
        let copy = self.copy(self.reads);
        let Some((cursor, view)) = id.split_once(';') else {
            assert!(copy.forgotten || copy.cursor.is_none(), "{name} is nowhere");
            return;
        };
        let cursor = Cursor::parse(cursor);
        let known = copy.cursor.as_ref().map_or(0, |known| known.seq);
        let seqs = known..=space.head;
        assert!(seqs.contains(&cursor.seq), "{name} is at {id}, not {known}");
        // Of topics that change as the object crashes it may have heard nothing.
        if copy.live && !crashed {
            space.know_view(view, &eyes);
        }
        (copy.cursor, copy.view) = (Some(cursor), Some(view.to_owned()));
    }
}

impl Game {
    pub(crate) fn read(&mut self, place: usize, channel: &'static str, limit: u64, life: u64) {
        let now = self.now(self.clients[place].space);
        let client = &mut self.clients[place];
        if client.conn.is_some() {
            return;
        }
        (client.reads, client.limit) = (channel, limit);
        let (s, via, identity) = (client.space, client.via, client.eyes.identity);
        let asked = identity.map_or_else(Topics::default, |_| topics(place, USUAL));
        let standing = self.spaces[s].standing(identity, &asked, now);
        // What it comes with is of the eyes that it has then.
        let before = client.eyes.topics.clone();
        client.eyes.topics = standing.clone().unwrap_or_default();
        let (message, ask) = client.next(&self.spaces[s], now);
        let list: Vec<&str> = asked.iter().map(String::as_str).collect();
        let mut read = Read {
            topics: &list,
            seconds: life / 1000,
            ..reads(identity.unwrap_or_default(), channel)
        };
        read.user = identity;
        read = read.with("limit", limit);
        for name in ["cursor", "view"] {
            if let Some(text) = message[name].as_str() {
                read = read.with(name, text);
            }
        }
        if via == Via::Wait {
            read = read.with("wait", WAIT);
        }
        let turn = self.turn(s, |w| match via {
            Via::Stream => w.slow_stream(&read),
            Via::Page | Via::Wait | Via::Socket | Via::Post => w.slow_page(&read),
        });
        let client = &mut self.clients[place];
        let refused = match standing {
            None => Some(401),
            Some(_) => rules::refused_read(channel, &client.eyes).map(|code| match code {
                "unauthorized" => 401,
                "forbidden" => 403,
                _ => 400,
            }),
        };
        match &turn.answer {
            // Nobody hears how it ended.
            _ if turn.crashed => client.eyes.topics = before,
            Err(reply) if turn.failed => assert_eq!(reply.status, 503, "{}", reply.body),
            Err(reply) if refused.is_some() => {
                assert_eq!(Some(reply.status), refused, "{}", reply.body);
                self.cov.hit("reads refused");
            }
            Err(reply) if reply.status == 429 => {
                // A clock that has jumped back leaves it no longer than a full bucket takes.
                let wait = reply.retry_after_ms.unwrap();
                assert!(
                    self.jumped[s] && wait <= 1000 * limits::BURST_SECONDS,
                    "{wait}"
                );
                self.cov.hit("told to wait after a jump back");
                client.eyes.topics = before;
            }
            Err(reply) => {
                assert_eq!(reply.status, 200, "{}", reply.body);
                assert!(via != Via::Stream, "a stream of one page: {}", reply.body);
                let page: Value = serde_json::from_str(&reply.body).unwrap();
                client.page(&ask, &page, &mut self.spaces[s], &mut self.cov);
                client.copy(channel).live = false;
                let news = page["mode"] == "full" || page["more"] == true;
                let news = news || page["data"] != json!([]) || page["deleted"] != json!([]);
                assert!(via != Via::Wait || news, "nothing to wait for: {page}");
                self.cov.hit("pages over HTTP");
                self.scan(place, &reply.body);
            }
            Ok(conn) => {
                assert_eq!(refused, None, "a reader that may not");
                client.conn = Some(*conn);
                client.expires_at = identity.map(|_| now + life);
                match via {
                    Via::Stream => {
                        self.cov.hit("streams");
                        let id = String::new();
                        client
                            .expected
                            .push(Expected::Snapshot { channel, id, ask });
                    }
                    Via::Page | Via::Wait | Via::Socket | Via::Post => {
                        assert!(via == Via::Wait && !matches!(ask.full, Full::Must(_)));
                        self.cov.hit("readers that wait");
                        let eyes = client.eyes.clone();
                        let copy = client.copy(channel);
                        copy.live = true;
                        copy.is_complete(channel, &self.spaces[s], &eyes, false);
                    }
                }
            }
        }
        self.settle(s, &turn);
    }

    /// A stream has read all that it got, and gets the next page if it lacks one.
    pub(crate) fn read_on(&mut self, place: usize) {
        let Some((s, conn)) = self.conn(place) else {
            return;
        };
        let client = &self.clients[place];
        if client.via != Via::Stream || !self.worlds[s].lacks_a_page(conn) {
            return;
        }
        let (_, ask) = client.next(&self.spaces[s], self.now(s));
        // A failure would end it.
        self.failing[s] = None;
        let turn = self.turn(s, |w| w.next_page(conn));
        let client = &mut self.clients[place];
        if turn.handled && client.is_open() {
            self.cov.hit("later pages of streams");
            let (channel, id) = (client.reads, String::new());
            client
                .expected
                .push(Expected::Snapshot { channel, id, ask });
        }
        self.settle(s, &turn);
    }

    /// The timers of readers ring.
    pub(crate) fn ring_readers(&mut self, s: usize) {
        for conn in self.worlds[s].overdue() {
            let is_it = |client: &&mut Client| client.space == s && client.conn == Some(conn);
            if let Some(client) = self.clients.iter_mut().find(is_it) {
                client.is_over = true;
            }
            let turn = self.turn(s, |w| w.time_over(conn));
            self.settle(s, &turn);
        }
    }

    /// Whether somebody waits whose page a failure of storage would take away from a change that
    /// was committed before it.
    pub(crate) fn has_waiting(&self, s: usize) -> bool {
        let waits = |c: &Client| c.space == s && c.via == Via::Wait && c.conn.is_some();
        self.clients.iter().any(waits)
    }

    pub(crate) fn has_readers(&self, s: usize) -> bool {
        let reads = |c: &Client| c.space == s && c.via != Via::Socket && c.conn.is_some();
        self.clients.iter().any(reads)
    }

    /// Open answers end with the memory.
    pub(crate) fn cut_readers(&mut self, s: usize) {
        for place in READERS {
            if self.clients[place].space == s && self.clients[place].conn.is_some() {
                self.cov.hit("readers cut off");
                self.clients[place].gone();
            }
        }
    }

    /// What a stream got. Its end, if it has come, and why.
    pub(crate) fn stream_events(
        &mut self,
        s: usize,
        place: usize,
        conn: ConnId,
        crashed: bool,
    ) -> bool {
        let ended = self.worlds[s].reader_ended(conn);
        let now = self.now(s);
        for event in self.worlds[s].stream_events(conn) {
            self.scan(place, &event.to_string());
            let client = &mut self.clients[place];
            if event["type"] == "error" {
                let code = match client.closing {
                    Some(4000) => "unavailable",
                    Some(_) => "unauthorized",
                    None => "none",
                };
                let name = client.name;
                assert!(ended && event["error"]["code"] == code, "{name}: {event}");
                self.cov.hit("streams ended with a reason");
                continue;
            }
            self.cov
                .hit_if("changes on streams", event["type"] != "snapshot");
            client.take(&event, &mut self.spaces[s], &mut self.cov, now);
        }
        let id = self.worlds[s].last_id(conn);
        let client = &mut self.clients[place];
        if !client.copies.is_empty() {
            client.is_at(&id, &mut self.spaces[s], crashed);
        }
        ended
    }

    /// What whoever waits got, where there is anything to say.
    pub(crate) fn waited(&mut self, s: usize, place: usize, conn: ConnId) -> bool {
        let Some(page) = self.worlds[s].answer(conn).cloned() else {
            return self.worlds[s].reader_ended(conn);
        };
        self.scan(place, &page.to_string());
        let now = self.now(s);
        let client = &mut self.clients[place];
        let name = client.name;
        let told = !client.expected.is_empty();
        let over = std::mem::take(&mut client.is_over);
        let known = client.copies[client.reads].cursor.clone().unwrap();
        if client.closing.is_some() {
            assert!(asks_again(&page), "{name} is to ask again: {page}");
            let cursor = Cursor::of(&page);
            let seqs = known.seq..=self.spaces[s].head;
            assert!(seqs.contains(&cursor.seq), "{name} goes on from {page}");
            client.copy(client.reads).cursor = Some(cursor);
            self.cov.hit("waits ended");
        } else {
            assert!(told || over || client.moved, "{name} has no news: {page}");
            self.cov.hit(if told {
                "waits answered"
            } else {
                "waits in vain"
            });
            let unreadable = rules::refused_read(client.reads, &client.eyes).is_some();
            match unreadable {
                true => assert!(asks_again(&page), "{name} may not: {page}"),
                false => {
                    // Whatever it is told, it is told by this page.
                    let copy = client.copy(client.reads);
                    copy.forgotten = false;
                    let (_, mut ask) = client.next(&self.spaces[s], now);
                    // What was trimmed while it waited it has seen, or was not to see.
                    if ask.full == Full::Must("full: events trimmed") {
                        ask.full = Full::May;
                    }
                    client.page(&ask, &page, &mut self.spaces[s], &mut self.cov);
                }
            }
        }
        let client = &mut self.clients[place];
        client.received += usize::from(told);
        client.expected.clear();
        true
    }

    /// Reads until everything is there, in all channels.
    pub(crate) fn read_up(&mut self, place: usize, limit: u64) {
        let s = self.clients[place].space;
        for channel in CHANNELS {
            if self.clients[place].conn.is_some() {
                self.leave(place);
            }
            for round in 0.. {
                assert!(
                    round < 300,
                    "{} never has {channel}",
                    self.clients[place].name
                );
                self.heads[s] = self.spaces[s].head;
                self.read(place, channel, limit, DAY);
                if std::mem::take(&mut self.jumped[s]) {
                    // What it was told to wait for, if it was.
                    self.time(s, self.now(s) + 1000 * limits::BURST_SECONDS);
                    continue;
                }
                while self.worlds[s].crash_after.is_none()
                    && self.clients[place]
                        .conn
                        .is_some_and(|conn| self.worlds[s].lacks_a_page(conn))
                {
                    self.read_on(place);
                }
                let client = &self.clients[place];
                let Some(copy) = client.copies.get(channel) else {
                    break;
                };
                let refused = rules::refused_read(channel, &client.eyes).is_some();
                if client.conn.is_some() || refused || copy.began.is_none() {
                    break;
                }
            }
            let client = &self.clients[place];
            let refused = rules::refused_read(channel, &client.eyes).is_some();
            if let Some(copy) = client.copies.get(channel).filter(|_| !refused) {
                copy.is_complete(channel, &self.spaces[s], &client.eyes, false);
                self.cov.hit("read up");
            }
        }
        if self.clients[place].conn.is_some() {
            self.leave(place);
        }
    }

    /// Somebody sends mutations over HTTP: new ones, and perhaps an earlier one.
    pub(crate) fn post(&mut self, identity: &'static str, items: &[Item], back: Option<usize>) {
        let s = self.clients[POSTER].space;
        let owner = format!("i{identity}");
        let mut mine = self.sent.iter().rev().filter(|sent| sent.is_of(s, &owner));
        // First: whether it is still known may be the engine's affair, and what comes before may end it.
        let mut sent: Vec<_> = back
            .and_then(|back| mine.nth(back).cloned())
            .into_iter()
            .collect();
        for item in items {
            sent.push(self.mutation(s, item, owner.clone(), u32::MAX));
        }
        if sent.is_empty() {
            return;
        }
        let messages: Vec<&Value> = sent.iter().map(|sent| &sent.message).collect();
        let body = json!({ "mutations": messages }).to_string();
        let now = self.now(s);
        let standing = self.spaces[s].standing(Some(identity), &Topics::default(), now);
        let remembered: Vec<bool> = sent
            .iter()
            .map(|sent| self.remembers(s, &sent.id))
            .collect();
        self.failing[s] = None;
        let turn = self.turn(s, |w| w.try_write(Some(identity), &body, None));
        let poster = &mut self.clients[POSTER];
        poster.eyes.identity = Some(identity);
        poster.eyes.topics = standing.clone().unwrap_or_default();
        for sent in &sent {
            poster.named.push(sent.wish.key.clone());
            poster
                .named
                .extend(super::marks::marks(&sent.message.to_string(), "v~"));
        }
        let done = turn
            .answer
            .as_ref()
            .err()
            .is_none_or(|reply| reply.status == 200);
        if turn.handled && done && standing.is_some() {
            let reply = turn.answer.as_ref().err().map(|reply| &*reply.body);
            let reply: Value = serde_json::from_str(reply.unwrap_or("null")).unwrap();
            for (at, (sent, remembered)) in sent.iter().zip(remembered).enumerate() {
                self.cov.hit("mutations over HTTP");
                // Each is a transaction by itself, which trims.
                let result = &reply["results"][at];
                let created = sent.wish.action == Action::Create && result["replayed"] == false;
                if at > 0 && created {
                    self.note_trim_of(s, sent.wish.channel, &sent.wish.key);
                }
                self.answer(POSTER, sent, remembered);
            }
        }
        if let Err(reply) = turn.answer.as_ref().map(|_| ()) {
            self.posted(s, reply, standing.is_some());
        }
        self.clients[POSTER].expected.clear();
        self.clients[POSTER].received = 0;
        self.clients[POSTER].named.clear();
        self.settle(s, &turn);
    }

    fn posted(&mut self, s: usize, reply: &Reply, may: bool) {
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        if reply.status == 429 {
            return assert!(self.jumped[s]);
        }
        if !may {
            return assert_eq!(reply.status, 401, "{body}");
        }
        assert_eq!(reply.status, 200, "{body}");
        self.scan(POSTER, &reply.body);
        let now = self.now(s);
        let results = body["results"].as_array().unwrap();
        let poster = &mut self.clients[POSTER];
        assert_eq!(results.len(), poster.expected.len(), "{body}");
        for result in results {
            let expected = poster.expected.remove(0);
            poster.meet(&expected, result, &mut self.spaces[s], &mut self.cov, now);
        }
    }
}
