//! Readers over HTTP, as a host drives them: pages that wait, and streams of events.

use serde_json::{Value, json};
use tidewire::protocol::ReadRequest;
use tidewire::{ConnId, End, Input, Millis, Reply, Stays, StreamEvent, limits};

use super::World;

/// One reader that stays.
#[derive(Debug, Default)]
pub struct Reader {
    streams: bool,
    until: Option<Millis>,
    /// Messages that nobody has taken.
    events: Vec<Value>,
    /// The id of the last event, as a browser remembers it.
    last_id: String,
    /// Whether another page is wanted.
    lacks: bool,
    /// When at the earliest.
    lacks_at: Millis,
    /// What a reader that waits was answered.
    answer: Option<Value>,
    ended: bool,
}

/// Who reads, and what.
pub struct Read<'a> {
    pub user: Option<&'a str>,
    pub topics: &'a [&'a str],
    /// When its token ends: in a day, unless it says otherwise.
    pub seconds: u64,
    pub query: Vec<(&'a str, String)>,
    pub last_id: Option<String>,
}

/// Alice, or whoever, reads a channel.
pub fn reads<'a>(user: &'a str, channel: &str) -> Read<'a> {
    Read {
        user: Some(user),
        topics: &[],
        seconds: 24 * 60 * 60,
        query: vec![("channel", channel.to_owned())],
        last_id: None,
    }
}

impl<'a> Read<'a> {
    pub fn with(mut self, name: &'a str, value: impl ToString) -> Self {
        self.query.push((name, value.to_string()));
        self
    }

    /// From where a page has left it.
    pub fn after(self, page: &Value) -> Self {
        let text = |field: &str| page[field].as_str().unwrap().to_owned();
        let (cursor, view) = (text("cursor"), text("view"));
        self.with("cursor", cursor).with("view", view)
    }

    pub fn topics(self, topics: &'a [&'a str]) -> Self {
        Self { topics, ..self }
    }
}

impl World {
    fn read(&mut self, read: &Read<'_>, streams: bool) -> Result<ConnId, Reply> {
        let get = |name: &str| {
            let found = read.query.iter().find(|(given, _)| *given == name);
            found.map(|(_, value)| value.clone())
        };
        let request = ReadRequest::from_query(get, streams, read.last_id.as_deref());
        let request = request.map_err(|problem| Reply::refusal(&problem))?;
        let request = ReadRequest::from_json(&request.to_json().unwrap()).unwrap();
        let expires_at = read.user.map(|_| self.now.plus(read.seconds * 1000));
        let grant = self.grant(read.user, read.topics, expires_at);
        let (conn, session) = self.draw();
        let input = Input::Read {
            conn,
            session,
            grant,
            request,
        };
        self.input(input).map_or(Ok(conn), Err)
    }

    /// Reads a page: status and body.
    #[track_caller]
    pub fn page(&mut self, read: &Read<'_>) -> (u16, Value) {
        let (status, body) = self.page_text(read);
        (status, serde_json::from_str(&body).unwrap())
    }

    /// As [`Self::page`], with the body as text.
    #[track_caller]
    pub fn page_text(&mut self, read: &Read<'_>) -> (u16, String) {
        let reply = self.read(read, false).unwrap_err();
        (reply.status, reply.body)
    }

    /// A reader that waits for news.
    #[track_caller]
    pub fn wait(&mut self, read: &Read<'_>) -> ConnId {
        self.read(read, false).unwrap()
    }

    /// A stream that has had all its pages.
    #[track_caller]
    pub fn stream(&mut self, read: &Read<'_>) -> ConnId {
        let conn = self.slow_stream(read).unwrap();
        while self.next_page(conn) {}
        conn
    }

    /// A stream whose reader has read nothing yet.
    pub fn slow_stream(&mut self, read: &Read<'_>) -> Result<ConnId, Reply> {
        self.read(read, true)
    }

    /// Whether a stream wants another page, and may have it.
    pub fn lacks_a_page(&self, conn: ConnId) -> bool {
        let reader = &self.readers[&conn];
        reader.lacks && !reader.ended && reader.lacks_at <= self.now
    }

    /// The reader has read all that was sent; whether it then wants another page.
    pub fn next_page(&mut self, conn: ConnId) -> bool {
        let lacks = self.lacks_a_page(conn);
        self.readers.get_mut(&conn).unwrap().lacks &= !lacks;
        if lacks {
            self.input(Input::NextPage { conn });
        }
        lacks
    }

    pub(super) fn begin_reader(&mut self, stays: Stays) {
        let reader = Reader {
            streams: stays.streams,
            until: stays.until,
            ..Reader::default()
        };
        self.readers.insert(stays.conn, reader);
    }

    pub(super) fn pass_on(&mut self, event: &StreamEvent) {
        assert!(event.text.len() <= limits::FRAME_OUT_BYTES);
        for (conn, id) in &event.to {
            let reader = self.readers.get_mut(conn).unwrap();
            assert!(reader.streams && !reader.ended, "an event for no stream");
            if let Some(id) = id {
                reader.last_id.clone_from(id);
            }
            if !event.text.is_empty() {
                let message = serde_json::from_str(&event.text).unwrap();
                reader.events.push(message);
            }
        }
    }

    pub(super) fn reader_lacks_a_page(&mut self, conn: ConnId, ms: u64) {
        let lacks_at = self.now.plus(ms);
        let reader = self.readers.get_mut(&conn).unwrap();
        (reader.lacks, reader.lacks_at) = (true, lacks_at);
    }

    pub(super) fn end_reader(&mut self, end: End) {
        let reader = self.readers.get_mut(&end.conn).unwrap();
        assert!(!reader.ended, "ended twice");
        assert_eq!(reader.streams, end.streams);
        reader.ended = true;
        let text = end.text.map(|text| serde_json::from_str(&text).unwrap());
        match reader.streams {
            true => reader.events.extend(text),
            false => reader.answer = text,
        }
    }

    /// The object has lost its memory, and with it every open answer.
    pub(super) fn cut_readers(&mut self) {
        for reader in self.readers.values_mut() {
            reader.ended = true;
        }
    }

    /// The readers whose timers are to ring.
    pub fn overdue(&self) -> Vec<ConnId> {
        let due = |reader: &Reader| !reader.ended && reader.until.is_some_and(|at| at <= self.now);
        let due = self.readers.iter().filter(|(_, reader)| due(reader));
        due.map(|(conn, _)| *conn).collect()
    }

    /// A reader's timer rings.
    pub fn time_over(&mut self, conn: ConnId) {
        self.input(Input::TimeOver { conn });
    }

    /// The timers of readers ring.
    pub fn ring_readers(&mut self) {
        for conn in self.overdue() {
            self.time_over(conn);
        }
    }

    /// The events that a stream got since it was last asked.
    pub fn stream_events(&mut self, conn: ConnId) -> Vec<Value> {
        std::mem::take(&mut self.readers.get_mut(&conn).unwrap().events)
    }

    /// The one event that it got.
    #[track_caller]
    pub fn event(&mut self, conn: ConnId) -> Value {
        let mut events = self.stream_events(conn);
        assert_eq!(events.len(), 1, "{events:#?}");
        events.remove(0)
    }

    /// The id that a stream would come back with.
    pub fn last_id(&self, conn: ConnId) -> String {
        self.readers[&conn].last_id.clone()
    }

    pub fn reader_ended(&self, conn: ConnId) -> bool {
        self.readers[&conn].ended
    }

    /// The reader's connection breaks; what it got stays known.
    pub fn break_off(&mut self, conn: ConnId) {
        self.input(Input::Closed { conn });
        self.readers.get_mut(&conn).unwrap().ended = true;
    }

    /// What a reader that waits was answered, if it was.
    pub fn answer(&self, conn: ConnId) -> Option<&Value> {
        self.readers[&conn].answer.as_ref()
    }

    /// Sends mutations over HTTP: status and body.
    pub fn write(&mut self, user: Option<&str>, mutations: Value) -> (u16, Value) {
        self.write_text(user, &json!({ "mutations": mutations }).to_string(), None)
    }

    pub fn write_text(
        &mut self,
        user: Option<&str>,
        body: &str,
        channel_token: Option<&str>,
    ) -> (u16, Value) {
        let reply = self.write_reply(user, body, channel_token);
        (reply.status, serde_json::from_str(&reply.body).unwrap())
    }

    /// The answer to mutations as it is.
    pub fn write_reply(
        &mut self,
        user: Option<&str>,
        body: &str,
        channel_token: Option<&str>,
    ) -> Reply {
        self.try_write(user, body, channel_token).unwrap_err()
    }

    /// Sends mutations over HTTP whose answer waits for a source.
    #[track_caller]
    pub fn write_later(&mut self, user: &str, mutations: Value) -> ConnId {
        let body = json!({ "mutations": mutations }).to_string();
        self.try_write(Some(user), &body, None).unwrap()
    }

    /// Sends mutations over HTTP, whose answer may have to wait for a source.
    pub fn try_write(
        &mut self,
        user: Option<&str>,
        body: &str,
        channel_token: Option<&str>,
    ) -> Result<ConnId, Reply> {
        let expires_at = user.map(|_| self.now.plus(1000));
        let grant = self.grant(user, &[], expires_at);
        let (conn, session) = self.draw();
        let input = Input::Write {
            conn,
            session,
            grant,
            body,
            channel_token,
        };
        self.input(input).map_or(Ok(conn), Err)
    }

    /// Reads a page whose answer may have to wait for a source.
    pub fn slow_page(&mut self, read: &Read<'_>) -> Result<ConnId, Reply> {
        self.read(read, false)
    }

    /// Whether the answer to a reader that stays has begun.
    pub fn reader_began(&self, conn: ConnId) -> bool {
        self.readers.contains_key(&conn)
    }
}
