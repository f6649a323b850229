//! The engine: one space's state machine. Inputs in, effects out; no clock, no sockets, no async.

mod ask;
mod call;
mod change;
mod connect;
mod doctor;
pub(crate) mod draft;
mod export;
mod fanout;
mod fetch;
mod frame;
mod import;
mod inspect;
mod legacy;
mod mutate;
mod new_space;
mod page;
mod presence;
mod publish;
mod read;
mod renew;
mod retain;
mod room;
mod source_write;
mod stats;
mod subscribe;
mod write;

use std::borrow::Cow;
use std::rc::Rc;

use crate::auth::Claims;
use crate::config::{Config, Publisher};
use crate::hub::Hub;
use crate::lanes::Lanes;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, SessionId, Space};
use crate::observe::{Event, Metrics, Operation, Recent};
use crate::outbox::{Outbox, Outgoing};
use crate::protocol::{self, Close, Code, Problem, ReadRequest};
use crate::rate::Rates;
use crate::session::{Asker, Dialect, Grant, Session};
use crate::small_map::SmallMap;
use crate::source::{Answered, AskId, Question};
use crate::store::{Seed, Sql, SqlError, Store, Sweep};
use ask::Asking;
use call::Notices;
use fetch::Leftovers;
use frame::Held;
use read::Reading;
use room::Room;
use write::Writer;

pub use call::Call;
pub use read::{End, Stays, StreamEvent};

/// Something that happened outside, to be answered in one turn.
#[derive(Debug)]
pub enum Input<'a> {
    /// Somebody with a verified grant wants to connect. Refused when [`Effects::reply`] is set.
    Connect {
        /// The connection's number, unused so far.
        conn: ConnId,
        /// The session's public name, drawn by the host.
        session: SessionId,
        /// What the token grants.
        grant: Grant,
    },
    /// A text frame came.
    Frame {
        /// From whom.
        conn: ConnId,
        /// The frame.
        text: &'a str,
    },
    /// A binary frame came.
    Binary {
        /// From whom.
        conn: ConnId,
    },
    /// A socket has closed, or a reader has gone.
    Closed {
        /// Which one.
        conn: ConnId,
    },
    /// Somebody with a verified grant asked for `/api/sync/session`.
    Session {
        /// What the token grants.
        grant: Grant,
    },
    /// A reader with a verified grant asks for a page over HTTP. It gets [`Effects::reply`], or stays,
    /// see [`Effects::stays`].
    Read {
        /// The reader's number, unused so far.
        conn: ConnId,
        /// Its name, drawn by the host.
        session: SessionId,
        /// What its token grants.
        grant: Grant,
        /// What it asks for.
        request: ReadRequest,
    },
    /// A stream has room for the page that it still lacks, see [`Effects::lacking`].
    NextPage {
        /// Which one.
        conn: ConnId,
    },
    /// The time that a reader stays at most is over, see [`Effects::stays`].
    TimeOver {
        /// Which one.
        conn: ConnId,
    },
    /// Somebody with a verified grant sends mutations over HTTP.
    Write {
        /// The request's number, unused so far.
        conn: ConnId,
        /// A name for this one request, drawn by the host.
        session: SessionId,
        /// What the token grants.
        grant: Grant,
        /// The request's body.
        body: &'a str,
        /// A token of a channel, made by the app's backend.
        channel_token: Option<&'a str>,
    },
    /// What came of judging the token of an `auth` message, see [`Effects::asks`].
    Authenticated {
        /// Whose message it was.
        conn: ConnId,
        /// Who it is, or why not.
        answer: Result<Option<Claims>, Problem>,
    },
    /// A source has answered, or failed, see [`Effects::questions`].
    Answered {
        /// Which question.
        ask: AskId,
        /// What it said.
        answer: Answered,
    },
    /// A source has not answered within its channel's timeout. Its answer may still come.
    Late {
        /// Which question.
        ask: AskId,
    },
    /// Somebody wants to bring a new space into being, and this one keeps count. The answer is 200
    /// or a refusal.
    NewSpace {
        /// The identity, or what stands for an anonymous visitor's address.
        owner: &'a str,
    },
    /// A publisher or operator, whose key has been checked, made a call.
    Call {
        /// Which one.
        call: Call,
        /// Whose key it was.
        publisher: &'a Publisher,
        /// The request's body, or why there is none.
        body: Result<&'a [u8], &'a Problem>,
        /// The `Idempotency-Key` header.
        idempotency_key: Option<&'a str>,
        /// Chance, drawn by the host where [`Call::draws`].
        seed: Option<Seed>,
    },
    /// A publisher, whose key has been checked, asked for `/presence`.
    Members {
        /// Of which channel.
        channel: &'a Channel,
        /// Whose key it was.
        publisher: &'a Publisher,
    },
    /// An operator, whose key has been checked, asked for `/stats`.
    Stats {
        /// The name of this life of the object: another one after every sleep, crash or deploy.
        instance: &'a str,
    },
    /// An operator, whose key has been checked, asked for `/metrics`. The answer is no JSON.
    Metrics,
    /// An operator, whose key has been checked, looks on.
    Inspect {
        /// As in [`Input::Stats`].
        instance: &'a str,
        /// The number of the last event that it has seen in this life of the object.
        since: u64,
    },
    /// An operator, whose key has been checked, wants the next page of an export. The answer's
    /// first line says where it ends, and comes with the question after it.
    Export {
        /// Whose key it was.
        publisher: &'a Publisher,
        /// Where the page before ended; empty for the first, and after the last.
        after: &'a str,
    },
    /// An operator, whose key has been checked, brings the next lines of an import.
    Import {
        /// Whose key it was.
        publisher: &'a Publisher,
        /// The number of the first line in `text`, from 1. Lines that are in already are skipped;
        /// 1 begins anew.
        line: u64,
        /// Whole lines.
        text: &'a str,
        /// Chance, drawn by the host, for the new epoch.
        seed: Seed,
    },
    /// An operator, whose key has been checked, asks what is wrong or risky here.
    Doctor {
        /// Whose key it was.
        publisher: &'a Publisher,
        /// Channels after this one are looked at.
        after: &'a str,
    },
    /// The alarm rang.
    Alarm,
}

/// The answer to an HTTP call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The JSON body.
    pub body: String,
    /// How long the caller should wait before it tries again, for the header `Retry-After`.
    pub retry_after_ms: Option<u64>,
}

impl Reply {
    fn of(reply: Result<String, Problem>) -> Self {
        match reply {
            Ok(body) => Self {
                status: 200,
                body,
                retry_after_ms: None,
            },
            Err(problem) => Self::refusal(&problem),
        }
    }

    /// A refusal with its fitting status.
    #[must_use]
    pub fn refusal(problem: &Problem) -> Self {
        Self {
            status: problem.code.status(),
            body: protocol::object(|o| problem.write(o.name("error"))),
            retry_after_ms: problem.retry_after_ms,
        }
    }
}

/// A socket to close.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Which one.
    pub conn: ConnId,
    /// The close code, see [`Close`].
    pub code: u16,
    /// At most 123 bytes.
    pub reason: Cow<'static, str>,
}

impl Closing {
    fn new(conn: ConnId, close: Close) -> Self {
        Self {
            conn,
            code: close.code(),
            reason: close.reason().into(),
        }
    }
}

/// What the host must do after a turn, in the order of the fields.
#[derive(Debug, Default)]
pub struct Effects {
    /// Attachments to write, so that the sessions outlive sleep.
    pub saves: Vec<(ConnId, Vec<u8>)>,
    /// Frames to send.
    pub frames: Vec<Outgoing>,
    /// A reader that stays: the answer to it begins now.
    pub stays: Option<Stays>,
    /// What goes to streams.
    pub stream_events: Vec<StreamEvent>,
    /// Streams that lack another page. Each is answered by [`Input::NextPage`], once so many
    /// milliseconds are over and what was sent to it has been read.
    pub lacking: Vec<(ConnId, u64)>,
    /// Readers to end. The engine has forgotten them.
    pub ends: Vec<End>,
    /// Sockets to close. The engine has forgotten them.
    pub closes: Vec<Closing>,
    /// When the alarm should ring at the latest.
    pub alarm: Option<Millis>,
    /// The answer to the HTTP call that the input was.
    pub reply: Option<Reply>,
    /// Tokens of `auth` messages that somebody else must judge. Each is answered by one
    /// [`Input::Authenticated`], sooner or later.
    pub asks: Vec<(ConnId, String)>,
    /// What sources are asked. Each is answered by one [`Input::Answered`], sooner or later, and before
    /// that by an [`Input::Late`] where that takes longer than the channel's source may.
    pub questions: Vec<Question>,
    /// Answers to HTTP calls of earlier turns, which had neither a reply nor stayed.
    pub replies: Vec<(ConnId, Reply)>,
    /// What happened, for observers. The host adds how long it took and gives it back, see
    /// [`Engine::note`].
    pub events: Vec<Event>,
    /// Failures of ours, for the log. They may hold what SQLite said, so they go nowhere else.
    pub faults: Vec<String>,
}

/// The state machine of one space over its log.
#[derive(Debug)]
pub struct Engine<S> {
    config: Rc<Config>,
    space: Space,
    store: Store<S>,
    hub: Hub,
    /// The turn under way.
    room: Room,
    out: Outbox,
    effects: Effects,
    /// Sessions that changed in this turn.
    dirty: Vec<ConnId>,
    /// The round of trimming that is under way.
    sweep: Option<Sweep>,
    rates: Rates,
    /// Answers to subscriptions that are under way.
    lanes: Lanes,
    /// What clients sent while a token of theirs is judged elsewhere.
    held: SmallMap<ConnId, Held>,
    held_bytes: usize,
    /// Who has moved in this turn.
    moves: presence::Moves,
    /// The readers over HTTP that stay.
    readers: SmallMap<ConnId, Reading>,
    /// Those that have gone in this turn.
    gone_readers: Vec<ConnId>,
    /// Questions to sources.
    asking: Asking,
    /// Questions that could not be put, and why.
    unasked: Vec<(AskId, Problem)>,
    /// Channels with writes of which nobody knows what came, because the memory was lost over them.
    unsettled: Vec<Channel>,
    /// Notices of changes outside.
    notices: SmallMap<Channel, Notices>,
    /// Channels that changed without the log, which storage could not note, with the claims that say so.
    unnoted: Vec<(Channel, (String, String))>,
    /// What is left of sources' answers.
    leftovers: Leftovers,
    /// Requests with mutations that a source is asked for.
    writers: SmallMap<ConnId, Writer>,
    /// The request over HTTP that this turn is for.
    request: Option<ConnId>,
    /// Rows written when an event last said how many.
    rows_written: u64,
    metrics: Metrics,
    recent: Recent,
    /// When this life began.
    began: Millis,
}

impl<S: Sql> Engine<S> {
    /// Opens a space's log; `seed` is used once, when there is none yet.
    ///
    /// # Errors
    /// When SQLite refuses: the object cannot work then and must be restarted.
    pub fn open(
        config: Rc<Config>,
        space: Space,
        sql: S,
        seed: Seed,
        now: Millis,
    ) -> Result<Self, SqlError> {
        let mut store = Store::open(sql, &space, seed, now)?;
        let unsettled = store.settle_claims(now)?;
        Ok(Self {
            config,
            rows_written: store.written(),
            store,
            space,
            hub: Hub::default(),
            room: Room::default(),
            out: Outbox::default(),
            effects: Effects::default(),
            dirty: Vec::new(),
            sweep: None,
            rates: Rates::default(),
            lanes: Lanes::default(),
            held: SmallMap::new(),
            held_bytes: 0,
            moves: presence::Moves::default(),
            readers: SmallMap::new(),
            gone_readers: Vec::new(),
            asking: Asking::new(now),
            unasked: Vec::new(),
            unsettled,
            notices: SmallMap::new(),
            unnoted: Vec::new(),
            leftovers: Leftovers::default(),
            writers: SmallMap::new(),
            request: None,
            metrics: Metrics::default(),
            recent: Recent::default(),
            began: now,
        })
    }

    /// The space whose state this is.
    #[must_use]
    pub fn space(&self) -> &Space {
        &self.space
    }

    /// Takes the open sockets back in on waking, each with what its attachment holds. Returns
    /// those to close.
    ///
    /// `interrupted` says that the last turn did not end: some sockets may have missed what it
    /// committed, and nobody knows which. All are closed and resume from their cursors. A socket
    /// whose attachment holds no session is closed, too, and one whose client waits for a token to
    /// be judged: what it sent since is lost.
    pub fn wake(
        &mut self,
        interrupted: bool,
        sockets: impl IntoIterator<Item = (ConnId, Option<Vec<u8>>)>,
    ) -> Vec<Closing> {
        let mut closes = Vec::new();
        for (conn, attachment) in sockets {
            let attachment = attachment.unwrap_or_default();
            match Session::decode(&attachment) {
                Some(session) if !interrupted && !session.renewing => {
                    self.hub.insert(conn, session, attachment.len());
                }
                gone => {
                    // The turn that has woken the object tells the others, and observers.
                    if let Some(session) = gone {
                        self.note_gone(conn, &session);
                        self.ended(Operation::Disconnect, &session, Some(Close::Restart));
                    }
                    closes.push(Closing::new(conn, Close::Restart));
                }
            }
        }
        closes
    }

    /// When the alarm must ring at the latest, without any input: to close whoever's token has
    /// ended, to trim, or to give up a write that its source does not answer. On whole minutes; what
    /// is overdue waits for the next, so that work which cannot be done is not tried in a tight loop.
    /// The steps of one round of trimming follow each other faster, and notices do not wait so long.
    pub fn due(&self, now: Millis) -> Option<Millis> {
        let grain = |at: Millis| {
            let at = at.max(now.plus(1));
            Millis(at.0.div_ceil(limits::ALARM_GRAIN_MS) * limits::ALARM_GRAIN_MS)
        };
        let expiry = self.hub.next_expiry().map(grain);
        let trimming = match self.sweep {
            Some(_) => Some(now.plus(limits::SWEEP_STEP_MS)),
            // What is being imported is trimmed when all of it is there.
            None if self.store.importing().is_some() => None,
            None => self.store.sweep_at().map(grain),
        };
        let given_up = self.asking.next_end().map(grain);
        // Whoever is behind gets nothing until then.
        let notices = self.notices.values().filter_map(Notices::due).min();
        let notices = notices.map(|at| at.max(now.plus(1)));
        [expiry, trimming, given_up, notices]
            .into_iter()
            .flatten()
            .min()
    }

    /// Answers one input.
    pub fn handle(&mut self, input: Input<'_>, now: Millis) -> Effects {
        self.room = Room::default();
        self.request = None;
        self.expire(now);
        self.tell_unsettled(now);
        self.note_unnoted(now);
        self.tell_notices(now);
        self.give_up(now);
        match input {
            Input::Connect { .. }
            | Input::Session { .. }
            | Input::Read { .. }
            | Input::Write { .. }
            | Input::Call { .. }
            | Input::Members { .. }
            | Input::Export { .. }
            | Input::Doctor { .. }
                if self.is_importing() => {}
            Input::Connect {
                conn,
                session,
                grant,
            } => self.connect(conn, session, grant, now),
            Input::Frame { conn, text } => {
                self.metrics.received(text.len());
                self.frame(conn, text, now);
            }
            Input::Binary { conn } => self.binary(conn, now),
            Input::Closed { conn } => {
                if let Some(session) = self.forget(conn, now) {
                    self.ended(Operation::Disconnect, &session, None);
                }
            }
            Input::Read {
                conn,
                session,
                grant,
                request,
            } => {
                self.request = Some(conn);
                self.read(conn, session, grant, request, now);
            }
            Input::NextPage { conn } => self.next_page(conn, now),
            Input::TimeOver { conn } => self.answer_waiting(conn, now),
            Input::Write {
                conn,
                session,
                grant,
                body,
                channel_token,
            } => {
                self.request = Some(conn);
                self.write(conn, session, grant, (body, channel_token), now);
            }
            Input::Answered { ask, answer } => self.answered(ask, answer, now),
            Input::Late { ask } => self.late(ask, now),
            Input::Session { grant } => self.session(grant, now),
            Input::Authenticated { conn, answer } => self.authenticated(conn, answer, now),
            Input::NewSpace { owner } => self.new_space(owner, now),
            Input::Call {
                call,
                publisher,
                body,
                idempotency_key,
                seed,
            } => {
                let request = call::Request {
                    call,
                    body,
                    idempotency_key,
                    publisher,
                    seed,
                };
                self.call(request, now);
            }
            Input::Members { channel, publisher } => self.members_for(channel, publisher),
            Input::Stats { instance } => self.stats(instance),
            Input::Metrics => self.metrics(),
            Input::Inspect { instance, since } => self.inspect(instance, since, now),
            Input::Export { publisher, after } => self.export(publisher, after, now),
            Input::Import {
                publisher,
                line,
                text,
                seed,
            } => self.import(publisher, import::Piece { line, text, seed }, now),
            Input::Doctor { publisher, after } => self.doctor(publisher, after),
            Input::Alarm => self.retain(now),
        }
        self.finish(now)
    }

    fn finish(&mut self, now: Millis) -> Effects {
        self.settle_unasked(now);
        self.save(now);
        self.tell_moves();
        let hub = &self.hub;
        let frames = std::mem::take(&mut self.out).finish(|conn| {
            hub.session(conn)
                .is_some_and(|session| session.dialect == Dialect::Hello)
        });
        for frame in &frames {
            self.metrics.sent(frame.text.len(), frame.to.len());
        }
        let frames = self.tell_readers(frames, now);
        self.gone_readers.clear();
        let mut effects = std::mem::take(&mut self.effects);
        effects.frames = frames;
        for event in &mut effects.events {
            event.at = now;
        }
        effects.alarm = self.due(now);
        effects
    }

    /// Counts and remembers what has happened, for `/metrics` and for whoever looks on.
    pub fn note(&mut self, events: Vec<Event>) {
        for event in events {
            self.metrics.count(&event);
            self.recent.push(event);
        }
    }

    /// An event of this space.
    fn event(&self, operation: Operation) -> Event {
        Event::new(operation, Some(self.space.clone()))
    }

    /// An event of a connection.
    fn event_of(&self, conn: ConnId, operation: Operation) -> Event {
        let event = self.event(operation);
        match self.hub.session(conn) {
            Some(session) => event.of(session),
            None => event,
        }
    }

    /// Tells that a connection has ended.
    ///
    /// Readers over HTTP are told by what they ask, not by how long their answer was open.
    fn ended(&mut self, operation: Operation, session: &Session, close: Option<Close>) {
        if session.dialect == Dialect::Reader {
            return;
        }
        let event = self.event(operation).of(session);
        self.effects.events.push(Event {
            close: close.map(Close::code),
            ..event
        });
    }

    /// Leaves out what was written by something that no event tells of.
    fn skip_written(&mut self) {
        self.rows_written = self.store.written();
    }

    /// Tells of something that may have written, with how many rows that were.
    fn tell_written(&mut self, mut event: Event) {
        event.rows += self.rows_untold();
        self.effects.events.push(event);
    }

    /// Rows that were written and that no event has told of. They are told by now.
    fn rows_untold(&mut self) -> u64 {
        let written = self.store.written();
        let rows = written.saturating_sub(self.rows_written);
        self.rows_written = written;
        rows
    }

    /// Writes down the sessions that have changed. One that has outgrown its attachment, because it
    /// was granted more, is closed: it could not sleep. Its client comes back and asks for less.
    fn save(&mut self, now: Millis) {
        const MOST: usize = limits::ATTACHMENT_BYTES - limits::ATTACHMENT_OVERHEAD;
        self.dirty.sort_unstable();
        self.dirty.dedup();
        for conn in std::mem::take(&mut self.dirty) {
            let session = self.hub.session(conn);
            let session = session.filter(|session| session.dialect != Dialect::Reader);
            match session.map(Session::encode) {
                Some(Ok(attachment)) if attachment.len() <= MOST => {
                    self.hub.set_attachment(conn, attachment.len());
                    self.effects.saves.push((conn, attachment));
                }
                Some(Ok(_)) => self.close(conn, Close::Restart, now),
                Some(Err(error)) => self.effects.faults.push(error.to_string()),
                None => {}
            }
        }
    }

    /// Closes whoever's token has ended, before anything is received from or sent to them, and
    /// ends the subscriptions that a token of their channel no longer opens.
    fn expire(&mut self, now: Millis) {
        for conn in self.hub.expired(now) {
            self.close(conn, Close::AuthExpired, now);
        }
        for (conn, channel) in self.hub.lapsed(now) {
            if self.reads_without_pass(conn, &channel) {
                self.hub.drop_pass(conn, &channel);
                self.dirty.push(conn);
                continue;
            }
            let mut event = self.event_of(conn, Operation::Expire);
            event.channel = Some(channel.clone());
            self.effects.events.push(event);
            self.unsubscribe(conn, &channel);
            // Whoever still wants the channel asks again, with another token.
            self.out.send_one(conn, protocol::channel_change(&channel));
        }
    }

    /// Whether a channel is open to a connection without a token of its own, too.
    fn reads_without_pass(&self, conn: ConnId, channel: &Channel) -> bool {
        let Some(session) = self.hub.session(conn) else {
            return false;
        };
        let who = Asker {
            pass: None,
            ..session.asker(channel)
        };
        let rule = self.config.rules.find(channel);
        rule.is_ok_and(|rule| rule.may_read(channel, &who).is_ok())
    }

    fn forget(&mut self, conn: ConnId, now: Millis) -> Option<Session> {
        self.take_held(conn);
        self.forget_asker(conn);
        self.rates.forget(conn, now);
        if self.readers.remove(&conn).is_some() {
            self.gone_readers.push(conn);
        }
        let session = self.hub.remove(conn)?;
        self.note_gone(conn, &session);
        Some(session)
    }

    fn close(&mut self, conn: ConnId, close: Close, now: Millis) {
        self.close_for(conn, close, None, now);
    }

    /// Closes a socket, for a reason that an operator may have given.
    fn close_for(&mut self, conn: ConnId, close: Close, reason: Option<String>, now: Millis) {
        if self.readers.contains_key(&conn) {
            return self.end_reader(conn, &read::problem_of(close, reason), now);
        }
        if let Some(session) = self.forget(conn, now) {
            let operation = match close {
                Close::AuthExpired => Operation::Expire,
                _ => Operation::Disconnect,
            };
            self.ended(operation, &session, Some(close));
            let mut closing = Closing::new(conn, close);
            if let Some(reason) = reason {
                closing.reason = reason.into();
            }
            self.effects.closes.push(closing);
        }
    }

    fn send_reject(
        &mut self,
        conn: ConnId,
        id: Option<&str>,
        channel: Option<&Channel>,
        problem: &Problem,
    ) {
        // Whoever is refused before a hello is a legacy client, even if nothing could be read yet.
        let dialect = self.hub.session(conn).map(|session| session.dialect);
        let legacy = dialect != Some(Dialect::Hello);
        self.out
            .send_one(conn, protocol::reject(id, channel, problem, legacy));
    }

    fn send_error(&mut self, conn: ConnId, problem: &Problem) {
        if self.hub.session(conn).is_some() {
            self.out.send_one(conn, protocol::error(problem));
        }
    }

    /// Turns a failure of SQLite into what the peer may know of it, and logs it.
    fn fault(&mut self, error: &SqlError) -> Problem {
        self.effects.faults.push(error.to_string());
        Problem::new(Code::Unavailable, "storage failed, try again")
    }

    fn reply(&mut self, reply: Result<String, Problem>) {
        self.effects.reply = Some(Reply::of(reply));
    }

    /// Answers a request over HTTP: that of this turn, or one that has waited.
    fn reply_to(&mut self, conn: ConnId, reply: Result<String, Problem>) {
        match self.request == Some(conn) {
            true => self.reply(reply),
            false => self.effects.replies.push((conn, Reply::of(reply))),
        }
    }
}

/// Why a turn's work failed: the peer's fault, or storage's.
#[derive(Debug)]
enum Failure {
    Peer(Problem),
    Storage(SqlError),
    /// What a legacy client asks for, which gets all at once, is larger than that may be.
    TooLarge,
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self::Peer(problem)
    }
}

impl From<SqlError> for Failure {
    fn from(error: SqlError) -> Self {
        Self::Storage(error)
    }
}

impl<S: Sql> Engine<S> {
    fn problem(&mut self, failure: Failure) -> Problem {
        match failure {
            Failure::Peer(problem) => problem,
            Failure::Storage(error) => self.fault(&error),
            Failure::TooLarge => {
                let message = "the channel is too large for a client that takes no pages";
                Problem::new(Code::Unavailable, message)
            }
        }
    }
}
