//! The engine: one space's state machine. Inputs in, effects out; no clock, no sockets, no async.

mod call;
mod change;
mod connect;
mod doctor;
mod export;
mod fanout;
mod frame;
mod import;
mod legacy;
mod mutate;
mod new_space;
mod page;
mod presence;
mod publish;
mod renew;
mod retain;
mod room;
mod subscribe;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::auth::Claims;
use crate::config::{Config, Publisher};
use crate::hub::Hub;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, SessionId, Space};
use crate::outbox::{Outbox, Outgoing};
use crate::protocol::{self, Close, Code, Problem};
use crate::rate::Rates;
use crate::session::{Asker, Dialect, Grant, Session};
use crate::store::{Seed, Sql, SqlError, Store, Sweep};
use frame::Held;
use room::Room;

pub use call::Call;

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
    /// A socket has closed.
    Closed {
        /// Which one.
        conn: ConnId,
    },
    /// Somebody with a verified grant asked for `/api/sync/session`.
    Session {
        /// What the token grants.
        grant: Grant,
    },
    /// What came of judging the token of an `auth` message, see [`Effects::asks`].
    Authenticated {
        /// Whose message it was.
        conn: ConnId,
        /// Who it is, or why not.
        answer: Result<Option<Claims>, Problem>,
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
        /// The request's body.
        body: &'a str,
        /// The `Idempotency-Key` header.
        idempotency_key: Option<&'a str>,
        /// Chance, drawn by the host, in case a new epoch is asked for.
        seed: Seed,
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
        /// Rows that this life has written, as the platform bills them.
        rows_written: u64,
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
    /// Sockets to close. The engine has forgotten them.
    pub closes: Vec<Closing>,
    /// When the alarm should ring at the latest.
    pub alarm: Option<Millis>,
    /// The answer to the HTTP call that the input was.
    pub reply: Option<Reply>,
    /// Tokens of `auth` messages that somebody else must judge. Each is answered by one
    /// [`Input::Authenticated`], sooner or later.
    pub asks: Vec<(ConnId, String)>,
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
    /// What clients sent while a token of theirs is judged elsewhere.
    held: BTreeMap<ConnId, Held>,
    held_bytes: usize,
    /// Who has moved in this turn.
    moves: presence::Moves,
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
        Ok(Self {
            config,
            store: Store::open(sql, &space, seed, now)?,
            space,
            hub: Hub::default(),
            room: Room::default(),
            out: Outbox::default(),
            effects: Effects::default(),
            dirty: Vec::new(),
            sweep: None,
            rates: Rates::default(),
            held: BTreeMap::new(),
            held_bytes: 0,
            moves: presence::Moves::default(),
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
            let attachment = attachment.filter(|_| !interrupted).unwrap_or_default();
            match Session::decode(&attachment) {
                Some(session) if !session.renewing => {
                    self.hub.insert(conn, session);
                    self.hub.set_attachment(conn, Some(attachment.len()));
                }
                gone => {
                    // The turn that has woken the object tells the others.
                    if let Some(session) = gone {
                        self.note_gone(conn, &session);
                    }
                    closes.push(Closing::new(conn, Close::Restart));
                }
            }
        }
        closes
    }

    /// When the alarm must ring at the latest, without any input: to close whoever's token has
    /// ended, or to trim. On whole minutes; what is overdue waits for the next, so that work which
    /// cannot be done is not tried in a tight loop. The steps of one round of trimming follow each
    /// other faster.
    pub fn due(&self, now: Millis) -> Option<Millis> {
        let grain = |at: Millis| {
            let at = at.max(now.plus(1));
            Millis(at.0.div_ceil(limits::ALARM_GRAIN_MS) * limits::ALARM_GRAIN_MS)
        };
        let expiry = self.hub.next_expiry().map(grain);
        let trimming = match self.sweep {
            Some(_) => Some(now.plus(limits::SWEEP_STEP_MS)),
            None => self.store.sweep_at().map(grain),
        };
        [expiry, trimming].into_iter().flatten().min()
    }

    /// Answers one input.
    pub fn handle(&mut self, input: Input<'_>, now: Millis) -> Effects {
        self.room = Room::default();
        self.expire(now);
        match input {
            Input::Connect { .. }
            | Input::Session { .. }
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
            Input::Frame { conn, text } => self.frame(conn, text, now),
            Input::Binary { conn } => self.binary(conn, now),
            Input::Closed { conn } => _ = self.forget(conn, now),
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
            Input::Stats {
                instance,
                rows_written,
            } => self.stats(instance, rows_written),
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
        self.save(now);
        self.tell_moves();
        let mut effects = std::mem::take(&mut self.effects);
        let hub = &self.hub;
        effects.frames = std::mem::take(&mut self.out).finish(|conn| {
            hub.session(conn)
                .is_some_and(|session| session.dialect == Dialect::Hello)
        });
        effects.alarm = self.due(now);
        effects
    }

    /// Writes down the sessions that have changed. One that has outgrown its attachment, because it
    /// was granted more, is closed: it could not sleep. Its client comes back and asks for less.
    fn save(&mut self, now: Millis) {
        const MOST: usize = limits::ATTACHMENT_BYTES - limits::ATTACHMENT_OVERHEAD;
        self.dirty.sort_unstable();
        self.dirty.dedup();
        for conn in std::mem::take(&mut self.dirty) {
            match self.hub.session(conn).map(Session::encode) {
                Some(Ok(attachment)) if attachment.len() <= MOST => {
                    self.hub.set_attachment(conn, Some(attachment.len()));
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
        self.rates.forget(conn, now);
        let session = self.hub.remove(conn)?;
        self.note_gone(conn, &session);
        Some(session)
    }

    fn close(&mut self, conn: ConnId, close: Close, now: Millis) {
        self.close_for(conn, close, None, now);
    }

    /// Closes a socket, for a reason that an operator may have given.
    fn close_for(&mut self, conn: ConnId, close: Close, reason: Option<String>, now: Millis) {
        if self.forget(conn, now).is_some() {
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
        self.effects.reply = Some(match reply {
            Ok(body) => Reply {
                status: 200,
                body,
                retry_after_ms: None,
            },
            Err(problem) => Reply::refusal(&problem),
        });
    }

    fn stats(&mut self, instance: &str, rows_written: u64) {
        let (connections, channels, subscriptions) = self.hub.counts();
        let body = protocol::object(|o| {
            o.text("space", self.space.as_str());
            o.text("epoch", self.store.epoch().as_str());
            o.number("seq", self.store.head().0);
            o.number("connections", connections as u64);
            o.number("channels", channels as u64);
            o.number("subscriptions", subscriptions as u64);
            o.text("instance", instance);
            o.number("rowsWritten", rows_written);
        });
        self.reply(Ok(body));
    }
}

/// Why a turn's work failed: the peer's fault, or storage's.
#[derive(Debug)]
enum Failure {
    Peer(Problem),
    Storage(SqlError),
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
        }
    }
}
