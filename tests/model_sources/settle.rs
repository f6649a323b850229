//! After each input: all that has come is held against what may come.

use serde_json::Value;
use tidewire::ConnId;

use super::client::{Client, Cursor, Kind, Request, Wanted};
use super::game::{CAST, Game};
use super::marks::marks;
use super::step::CHANNELS;

/// The channel that a message is about.
fn channel_of(message: &Value) -> &'static str {
    let channel = message["channel"].as_str();
    let known = CHANNELS.into_iter().find(|known| Some(*known) == channel);
    known.unwrap_or_else(|| panic!("no channel: {message}"))
}

impl Game {
    pub(crate) fn settle(&mut self) {
        self.note_outside();
        for place in 0..CAST {
            if let Some(conn) = self.clients[place].conn {
                for frame in self.w.frames(conn) {
                    self.scan(place, &frame);
                    match serde_json::from_str(&frame).unwrap() {
                        Value::Array(list) => list.iter().for_each(|m| self.take(place, m)),
                        message => self.take(place, &message),
                    }
                }
                if let Some(code) = self.w.closed(conn) {
                    assert!(matches!(code, 4000 | 4001), "closed with {code}");
                    self.cov.hit("closed");
                    self.left.insert(self.clients[place].identity);
                    self.clients[place].gone();
                }
            }
            self.settle_http(place);
            let client = &mut self.clients[place];
            client.before = client.topics.clone();
            if let Some(channel) = client.paging.take() {
                let now = self.w.now.0;
                let copy = client.copy(channel);
                if !copy.leaving {
                    (copy.live, copy.since) = (true, Some(now));
                }
            }
        }
        self.take_questions();
        self.left.clear();
        let posted = std::mem::take(&mut self.posted);
        for posted in posted {
            match self.w.reply(posted.conn) {
                Some(reply) => self.post_answered(posted.identity, &posted.sent, &reply),
                None => self.posted.push(posted),
            }
        }
        assert!(
            self.w.replies.is_empty(),
            "nobody waits for {:?}",
            self.w.replies
        );
        self.doze();
    }

    /// What has come over HTTP.
    fn settle_http(&mut self, place: usize) {
        let requests = std::mem::take(&mut self.clients[place].requests);
        for request in requests {
            let Some(conn) = request.conn else {
                self.clients[place].requests.push(request);
                continue;
            };
            if let Some(reply) = self.w.reply(conn) {
                self.read_answered(place, &request, &reply);
            } else if self.clients[place].kind == Kind::Waits && self.w.reader_began(conn) {
                self.wait_answered(place, request, conn);
            } else if self.w.reader_began(conn) {
                self.clients[place].stream = Some(conn);
            } else {
                self.clients[place].requests.push(request);
            }
        }
        let client = &self.clients[place];
        let (Kind::Stream(channel), Some(conn)) = (client.kind, client.stream) else {
            return;
        };
        for event in self.w.stream_events(conn) {
            self.scan(place, &event.to_string());
            self.take(place, &event);
        }
        let id = self.w.last_id(conn);
        let client = &mut self.clients[place];
        if let Some((cursor, view)) = id.split_once(';') {
            let copy = client.copy(channel);
            copy.cursor = Some(Cursor::parse(cursor));
            copy.view = Some(view.to_owned());
        }
        if self.w.reader_ended(conn) {
            client.stream = None;
            client.copy(channel).live = false;
            self.cov.hit("streams that ended");
        }
    }

    /// What whoever waits got, if it did.
    fn wait_answered(&mut self, place: usize, request: Request, conn: ConnId) {
        match self.w.answer(conn).cloned() {
            None if self.w.reader_ended(conn) => {}
            None => {
                self.cov.hit("turns that somebody waits over");
                self.clients[place].requests.push(request);
            }
            Some(page) => {
                self.scan(place, &page.to_string());
                self.cov.hit("waits answered");
                self.take_page(place, &request, &page);
            }
        }
    }

    /// The log notes that a channel changed outside where it may have, and not otherwise.
    fn note_outside(&mut self) {
        for channel in CHANNELS {
            let sql =
                format!("SELECT ifnull(max(outside), 0) FROM channels WHERE name = '{channel}'");
            let now = self.w.sqlite.number(&sql);
            let before = self.outside.get(channel).map_or(0, |(seq, _)| *seq);
            if now != before {
                let may = self.doubts.contains(channel) || self.unnoted.remove(channel);
                assert!(may, "{channel} did not change outside");
                self.outside.insert(channel, (now, self.turns));
            }
        }
        self.doubts.clear();
    }

    /// No frame names a key or holds a value that its receiver may not know of.
    pub(crate) fn scan(&self, place: usize, frame: &str) {
        let client = &self.clients[place];
        for key in marks(frame, "k~") {
            let may = |topics| self.truth.may_know(&key, topics);
            let known = may(&client.topics) || may(&client.before) || self.knew(client, &key);
            assert!(known, "{} learns of {key}: {frame}", client.name);
        }
        for value in marks(frame, "v~") {
            let state = self.truth.states.get(&value);
            let sees = |topics| state.is_some_and(|state| state.audience.sees(topics));
            let known = sees(&client.topics) || sees(&client.before);
            assert!(
                known || client.named.contains(&value),
                "{} learns {value}: {frame}",
                client.name
            );
        }
    }

    /// Whether a client had a row, or wrote it itself.
    fn knew(&self, client: &Client, key: &str) -> bool {
        let had = client.newest.keys().any(|row| row.1 == key);
        had || client.named.iter().any(|named| named == key)
    }

    fn take(&mut self, place: usize, message: &Value) {
        let now = self.w.now.0;
        let client = &mut self.clients[place];
        match message["type"].as_str().unwrap_or("?") {
            "welcome" => {
                client.session = message["session"].as_str().map(str::to_owned);
                self.epoch = message["epoch"].as_str().unwrap().to_owned();
            }
            "authed" => {
                let (view, eyes) = (message["view"].as_str().unwrap(), client.topics.clone());
                for copy in client.copies.values_mut().filter(|copy| copy.live) {
                    copy.view = Some(view.to_owned());
                    copy.eyes = Some(eyes.clone());
                }
            }
            "change" | "batch" => {
                let told = (&self.truth, &mut self.cov);
                client.changes(channel_of(message), message, told, now);
            }
            "channel-change" => {
                let copy = client.copy(channel_of(message));
                copy.live = false;
                self.cov.hit("channel-changes");
            }
            "channel-reset" => {
                let copy = client.copy(channel_of(message));
                (copy.cursor, copy.since, copy.forgotten) = (None, None, true);
                self.cov.hit("channel-resets");
            }
            "snapshot" => self.take_snapshot(place, message),
            "presence" => client.looks(message, &mut self.cov),
            "ack" => self.take_ack(place, message),
            "reject" => self.take_reject(place, message),
            "error" if client.stream.is_some() => {}
            "error" if client.moves && message["error"]["code"] == "invalid" => {
                client.moves = false
            }
            // Of what has no id: it is not present, or still gets what it wanted to leave.
            "error" if client.moves && message["error"]["code"] == "rate_limited" => {
                client.hurries = true;
            }
            "error" if message["error"]["code"] == "rate_limited" => {}
            _ => panic!("{} got {message}", client.name),
        }
    }

    fn take_snapshot(&mut self, place: usize, message: &Value) {
        let channel = channel_of(message);
        let client = &mut self.clients[place];
        let request = match client.kind {
            Kind::Stream(_) => Request {
                id: String::new(),
                channel,
                wanted: Wanted::Pages {
                    cursor: client.copy(channel).cursor.clone(),
                    eyes: None,
                    left: false,
                },
                conn: None,
            },
            Kind::Legacy if client.paging == Some(channel) => Request {
                id: String::new(),
                channel,
                wanted: Wanted::Pages {
                    cursor: None,
                    eyes: None,
                    left: client.copy(channel).leaving,
                },
                conn: None,
            },
            Kind::Legacy | Kind::Socket | Kind::Pages | Kind::Waits => {
                let id = message["id"].as_str();
                // A legacy client is not told which of two was refused.
                let any = client.kind == Kind::Legacy;
                let pages = |r: &Request| matches!(r.wanted, Wanted::Pages { .. });
                let mut all = client.requests.iter();
                let at = all.position(|r| Some(r.id.as_str()) == id);
                let mut all = client.requests.iter();
                let at = at.or_else(|| all.position(|r| any && r.channel == channel && pages(r)));
                let at = at.unwrap_or_else(|| panic!("{} did not ask: {message}", client.name));
                client.requests.remove(at)
            }
        };
        assert_eq!(request.channel, channel, "{message}");
        self.take_page(place, &request, message);
    }

    fn take_ack(&mut self, place: usize, message: &Value) {
        let client = &mut self.clients[place];
        let id = message["id"].as_str().unwrap();
        let at = client.requests.iter().position(|request| request.id == id);
        let at = at.unwrap_or_else(|| panic!("{} did not ask: {message}", client.name));
        let request = client.requests.remove(at);
        let Wanted::Mutation { once, deletes, key } = &request.wanted else {
            panic!("an ack for {request:?}");
        };
        let (cursor, channel) = (Cursor::of(message), request.channel);
        if client.copy(channel).live && message["replayed"] == false {
            if !message["data"].is_null() && !deletes {
                client.sees(channel, &message["data"], &self.truth, message);
            }
            let copy = client.copy(channel);
            if let Some(known) = copy.cursor.as_ref().filter(|_| !copy.forgotten) {
                assert!(cursor.seq >= known.seq, "{known:?} {message}");
            }
            match (message["data"].is_null(), deletes) {
                // It has gone out of its writer's sight, who is told so.
                (true, _) => copy.owed = Some(cursor.seq),
                (false, true) => _ = copy.rows.remove(key),
                (false, false) => _ = copy.rows.insert(key.clone(), message["data"].clone()),
            }
            if !copy.forgotten {
                copy.cursor = Some(cursor);
            }
        }
        self.check_result(once, message, false);
    }

    fn take_reject(&mut self, place: usize, message: &Value) {
        let client = &mut self.clients[place];
        let (id, channel) = (message["id"].as_str().unwrap(), channel_of(message));
        let legacy = client.kind == Kind::Legacy;
        let of_pages = |request: &Request| matches!(request.wanted, Wanted::Pages { .. });
        let at = client.requests.iter().position(|request| match id {
            "subscribe" => request.channel == channel && of_pages(request),
            id => request.id == id,
        });
        let at = at.unwrap_or_else(|| panic!("{} did not ask: {message}", client.name));
        let request = client.requests.remove(at);
        match &request.wanted {
            Wanted::Mutation { once, .. } => self.check_result(once, message, legacy),
            Wanted::Pages { .. } => self.cov.hit("subscriptions refused"),
        }
    }
}
