//! Readers over HTTP: a page, a page as soon as there is news, or a stream of all that a socket
//! would get.
//!
//! A reader that stays is in the hub like a socket with one subscription. It is never written down:
//! an open answer keeps the object awake, and who loses it comes back with its cursor.

use std::collections::BTreeSet;
use std::rc::Rc;

use super::ask::{Step, Who};
use super::fetch::{FirstRead, Pending, Plan};
use super::subscribe::Answer;
use super::{Engine, Failure};
use crate::auth::AuthError;
use crate::cursor::Cursor;
use crate::hub;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, Seq, SessionId};
use crate::observe::{Event, Operation};
use crate::outbox::{Outgoing, Place};
use crate::protocol::{self, Close, Code, Problem, ReadRequest, Snapshot, Stay};
use crate::rate::{Sender, TooFast};
use crate::session::{Dialect, Grant, Session};
use crate::source::{Answered, AskId};
use crate::store::Sql;

/// Where readers ask, for the log.
const CHANGES: &str = "/api/sync/changes";

/// A reader that stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stays {
    /// Which one.
    pub conn: ConnId,
    /// Whether it gets events, and not one page.
    pub streams: bool,
    /// When [`super::Input::TimeOver`] must come, if it is still there.
    pub until: Option<Millis>,
}

/// A server-sent event, for streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamEvent {
    /// The streams, each with the id of the event, where it has one.
    pub to: Vec<(ConnId, Option<String>)>,
    /// The message, empty where there is nothing but an id.
    pub text: Rc<str>,
}

/// The end of a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct End {
    /// Which one.
    pub conn: ConnId,
    /// Whether it got events.
    pub streams: bool,
    /// What it gets before: the page that it has waited for, or why a stream ends.
    pub text: Option<String>,
}

/// What a reader that stays has asked for, and how far it has come.
#[derive(Debug)]
pub(super) struct Reading {
    request: ReadRequest,
    /// Whose share it counts against.
    caller: Rc<str>,
    /// Whether it gets events.
    streams: bool,
}

/// A reader that has been let in and has no answer yet.
#[derive(Debug)]
pub(super) struct HttpReader {
    session: Session,
    request: ReadRequest,
    caller: Rc<str>,
}

impl<S: Sql> Engine<S> {
    pub(super) fn read(
        &mut self,
        conn: ConnId,
        id: SessionId,
        grant: Grant,
        request: ReadRequest,
        now: Millis,
    ) {
        let event = Event {
            channel: Some(request.channel.clone()),
            path: Some(CHANGES),
            ..self.event(Operation::Subscribe).by(&id, &grant)
        };
        let reader = self.let_in(id, grant, request, now);
        let (reader, answer) = match reader {
            Err(failure) => (None, Err(failure)),
            Ok(reader) => {
                let (session, request) = (reader.session.clone(), reader.request.clone());
                let mut reader = Some(reader);
                // Who is asked for takes the reader along.
                let step = |pending| {
                    let reader = reader.take();
                    Step::read(conn, reader, pending)
                };
                let asker = (Who::Request(conn), step);
                let message = request.message();
                let answer = self.answer_or_ask(&session, &message, asker, false, now);
                (reader, answer)
            }
        };
        self.read_so_far(conn, reader, answer, event, now);
    }

    /// Goes on with a reader whose source has answered.
    pub(super) fn read_answered(
        &mut self,
        FirstRead { conn, mut reader }: FirstRead,
        asked: (AskId, Pending),
        answer: Answered,
        now: Millis,
    ) {
        let event = Event {
            channel: Some(reader.request.channel.clone()),
            path: Some(CHANGES),
            ..self.event(Operation::Subscribe).of(&reader.session)
        };
        // Its token may have ended since, or count for less.
        match self.admitted(reader.session.grant.clone(), now) {
            Ok(grant) => reader.session.grant = grant,
            Err(refused) => return self.read_so_far(conn, None, Err(refused), event, now),
        }
        let (session, request) = (reader.session.clone(), reader.request.clone());
        let mut reader = Some(reader);
        let step = |pending| Step::read(conn, reader.take(), pending);
        let asker = (Who::Request(conn), step);
        let message = request.message();
        let answer = self.go_on_reading(&session, &message, asked, answer, asker, now);
        self.read_so_far(conn, reader, answer, event, now);
    }

    /// Answers a reader, unless its source is asked first.
    fn read_so_far(
        &mut self,
        conn: ConnId,
        reader: Option<HttpReader>,
        answer: Result<Option<Answer>, Failure>,
        mut event: Event,
        now: Millis,
    ) {
        let begun = match (answer, reader) {
            (Ok(None), _) => return,
            (Ok(Some(answer)), Some(reader)) => {
                self.begin_to_read(conn, reader, answer, &mut event, now)
            }
            (Ok(Some(_)), None) => Err(no_room().into()),
            (Err(failure), _) => Err(failure),
        };
        match begun {
            Ok(None) => {}
            Ok(Some(page)) => self.reply_to(conn, Ok(page)),
            Err(failure) => {
                let problem = self.problem(failure);
                event.refuse(&problem);
                self.reply_to(conn, Err(problem));
            }
        }
        self.effects.events.push(event);
    }

    /// Whether a reader may ask, now.
    fn let_in(
        &mut self,
        id: SessionId,
        grant: Grant,
        request: ReadRequest,
        now: Millis,
    ) -> Result<HttpReader, Failure> {
        let grant = self.admitted(grant, now)?;
        let caller = caller(&grant);
        let bounds = self.config.limits;
        let rates = &mut self.rates;
        let sender = Sender::Caller(Rc::clone(&caller));
        let taken = rates.take(&sender, grant.identity.as_ref(), &bounds, now);
        taken.map_err(Problem::from)?;
        let mut session = Session::new(id, grant);
        session.dialect = Dialect::Reader;
        self.judge(&session, &request.message(), now)?;
        let taken = self.take_time(&sender, &request.message(), now);
        taken.map_err(Problem::from)?;
        Ok(HttpReader {
            session,
            request,
            caller,
        })
    }

    /// The page, unless its reader stays.
    fn begin_to_read(
        &mut self,
        conn: ConnId,
        reader: HttpReader,
        answer: Answer,
        event: &mut Event,
        now: Millis,
    ) -> Result<Option<String>, Failure> {
        let HttpReader {
            mut session,
            mut request,
            caller,
        } = reader;
        let sender = Sender::Caller(Rc::clone(&caller));
        let page: String = answer.frames.concat();
        let (ends, streams) = match request.stay {
            Stay::No => (Some(now), false),
            Stay::UntilNews(_) if answer.is_news => (Some(now), false),
            Stay::UntilNews(seconds) => (Some(now.plus(seconds * 1000)), false),
            Stay::Always => (None, true),
        };
        if ends != Some(now) {
            self.has_room_to_stay(&session.grant, &caller)?;
            if !self.hub.has_room_for(&session.grant, &request.channel) {
                return Err(no_room().into());
            }
        }
        self.took(&sender, page.len(), now);
        if ends == Some(now) || streams {
            event.sent(&page, 1);
        }
        if ends == Some(now) {
            return Ok(Some(page));
        }
        // It ends with whatever opens the channel to it.
        let pass = answer.how.pass.map(|pass| pass.until);
        let opens = session.grant.expires_at.into_iter().chain(pass).min();
        session.grant.expires_at = opens;
        request.view = Some(self.view(&session.grant));
        request.cursor = Some(answer.cursor.to_string());
        self.effects.stays = Some(Stays {
            conn,
            streams,
            until: ends.into_iter().chain(opens).min(),
        });
        self.hub.insert(conn, session, 0);
        if answer.live {
            self.hub.subscribe(conn, &request.channel, answer.how);
        }
        let reading = Reading {
            request,
            caller,
            streams,
        };
        self.readers.insert(conn, reading);
        if streams {
            self.send_page(conn, page, Place::At(answer.cursor), answer.live);
        }
        Ok(None)
    }

    fn has_room_to_stay(&self, grant: &Grant, caller: &Rc<str>) -> Result<(), Problem> {
        self.has_room_for_another(grant)?;
        if self.readers.len() >= limits::READERS {
            return Err(no_room());
        }
        let readers = self.readers.values();
        let own = readers.filter(|reading| reading.caller == *caller).count();
        if own >= limits::READERS_PER_IDENTITY {
            let message = "too many readers of one identity or address";
            return Err(Problem {
                retry_after_ms: Some(limits::READERS_RETRY_MS),
                ..Problem::new(Code::RateLimited, message)
            });
        }
        Ok(())
    }

    fn send_page(&mut self, conn: ConnId, page: String, place: Place, is_last: bool) {
        let (to, text) = (vec![conn], page.into());
        self.out.send(Outgoing { to, text, place });
        if !is_last {
            self.effects.lacking.push((conn, 0));
        }
    }

    /// The page after the last, for a stream that has read that.
    pub(super) fn next_page(&mut self, conn: ConnId, now: Millis) {
        let Some(reading) = self.readers.get(&conn).filter(|reading| reading.streams) else {
            return;
        };
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        if session.subscriptions.contains_key(&reading.request.channel) {
            return;
        }
        let (limits, identity) = (&self.config.limits, session.grant.identity.as_ref());
        let sender = Sender::Caller(Rc::clone(&reading.caller));
        let turn = self.rates.reads(&sender, now);
        let turn = turn.and_then(|()| self.lanes.admit(self.rates.turn(&sender), now));
        if let Err(TooFast { retry_after_ms }) = turn {
            return self.effects.lacking.push((conn, retry_after_ms));
        }
        if let Err(too_fast) = self.rates.take(&sender, identity, limits, now) {
            return self.end_reader(conn, &too_fast.into(), now);
        }
        let (session, request) = (session.clone(), reading.request.clone());
        let asker = (Who::Stream(conn), Step::NextPage);
        let answer = self.answer_or_ask(&session, &request.message(), asker, false, now);
        self.stream_page(conn, answer, now);
    }

    /// Goes on with a stream whose source has answered.
    pub(super) fn next_page_answered(
        &mut self,
        conn: ConnId,
        asked: (AskId, Pending),
        answer: Answered,
        now: Millis,
    ) {
        let Some(request) = self
            .readers
            .get(&conn)
            .map(|reading| reading.request.clone())
        else {
            return;
        };
        let Some(session) = self.hub.session(conn).cloned() else {
            return;
        };
        let asker = (Who::Stream(conn), Step::NextPage);
        let message = request.message();
        let answer = self.go_on_reading(&session, &message, asked, answer, asker, now);
        self.stream_page(conn, answer, now);
    }

    /// Sends a stream its next page, or ends it; nothing while its source is asked.
    fn stream_page(&mut self, conn: ConnId, answer: Result<Option<Answer>, Failure>, now: Millis) {
        let answer = match answer {
            Ok(None) => return,
            Ok(Some(answer)) => answer,
            Err(failure) => {
                let problem = self.problem(failure);
                return self.end_reader(conn, &problem, now);
            }
        };
        let session = self.hub.session(conn);
        let view = session.map(|session| self.view(&session.grant));
        let page = answer.frames.concat();
        let cursor = answer.cursor.to_string();
        let Some(reading) = self.readers.get_mut(&conn) else {
            return;
        };
        reading.request.view = view;
        reading.request.cursor = Some(cursor);
        let sender = Sender::Caller(Rc::clone(&reading.caller));
        if answer.live {
            let channel = reading.request.channel.clone();
            self.hub.subscribe(conn, &channel, answer.how);
            self.owes_no_more(conn, &channel);
        }
        self.took(&sender, page.len(), now);
        self.send_page(conn, page, Place::At(answer.cursor), answer.live);
    }

    /// Has streams of a channel that has changed outside go on with what their source says. They are
    /// not live meanwhile: nothing must carry them past what they do not know. Up to that, which the
    /// log has just been told, they have had everything.
    pub(super) fn streams_ask(&mut self, conns: &[ConnId], channel: &Channel) {
        let before = Seq(self.store.head().0.saturating_sub(1));
        let cursor = Cursor::at(self.store.epoch(), before).to_string();
        for conn in conns {
            if let Some(reading) = self.readers.get_mut(conn)
                && reading.streams
            {
                reading.request.cursor = Some(cursor.clone());
                self.hub.unsubscribe(*conn, channel);
                self.effects.lacking.push((*conn, 0));
            }
        }
    }

    /// Gives a reader that waits the page of what has happened since, if only that nothing has.
    pub(super) fn answer_waiting(&mut self, conn: ConnId, now: Millis) {
        let Some(reading) = self.readers.get(&conn).filter(|reading| !reading.streams) else {
            return;
        };
        let sender = Sender::Caller(Rc::clone(&reading.caller));
        let again = ask_again(&reading.request);
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let message = reading.request.message();
        let pass = self.judge(session, &message, now);
        let answer = pass.and_then(|pass| match self.plan(session, &message, now)? {
            Plan::Log => self.answer(session, &message, pass, now),
            // It asks again, and its source is asked then.
            Plan::Fetch(_) | Plan::Leftover(..) => Err(no_room().into()),
        });
        let page = match answer {
            Ok(answer) => answer.frames.concat(),
            Err(Failure::Peer(_) | Failure::TooLarge) => again,
            Err(Failure::Storage(error)) => {
                self.effects.faults.push(error.to_string());
                again
            }
        };
        self.took(&sender, page.len(), now);
        self.forget(conn, now);
        self.effects.ends.push(End {
            conn,
            streams: false,
            text: Some(page),
        });
    }

    /// Ends a reader for a reason. One that waits is told to ask again, and hears it then.
    pub(super) fn end_reader(&mut self, conn: ConnId, problem: &Problem, now: Millis) {
        let Some(reading) = self.readers.get(&conn) else {
            return;
        };
        let streams = reading.streams;
        let text = Some(match streams {
            true => protocol::error(problem),
            false => ask_again(&reading.request),
        });
        self.forget(conn, now);
        self.effects.ends.push(End {
            conn,
            streams,
            text,
        });
    }

    /// Has a reader go on with the view of its new topics, as the last of the rows that it stands for
    /// is told.
    pub(super) fn renew_reader(&mut self, conn: ConnId, last: Option<String>, resets: bool) {
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let view = self.view(&session.grant);
        let Some(reading) = self.readers.get_mut(&conn) else {
            return;
        };
        // In the midst of its pages the next one begins anew, because it is for other eyes.
        if !resets && !session.subscriptions.contains_key(&reading.request.channel) {
            return;
        }
        if reading.streams {
            reading.request.view = Some(view);
        }
        let channel = &reading.request.channel;
        let edits = self.config.rules.find(channel).is_ok_and(|rule| rule.edits);
        let place = match resets {
            true => Place::Lost,
            false => Place::At(self.store.cursor(channel, edits, self.store.head())),
        };
        let (to, text) = (vec![conn], last.unwrap_or_default().into());
        self.out.send(Outgoing { to, text, place });
    }

    /// Takes what is for readers out of a turn's frames: streams get it as events, to those that
    /// wait it is news.
    pub(super) fn tell_readers(&mut self, frames: Vec<Outgoing>, now: Millis) -> Vec<Outgoing> {
        // Who has gone in this turn is no reader any more, and never was a socket.
        let gone = std::mem::take(&mut self.gone_readers);
        if self.readers.is_empty() && gone.is_empty() {
            return frames;
        }
        let (mut rest, mut lost) = (Vec::with_capacity(frames.len()), BTreeSet::new());
        let mut waiting = BTreeSet::new();
        for mut frame in frames {
            let mut to = Vec::new();
            frame.to.retain(|conn| {
                let reading = self.readers.get(conn);
                match reading {
                    None => return !gone.contains(conn),
                    Some(reading) if !reading.streams => _ = waiting.insert(*conn),
                    Some(_) if lost.contains(conn) => {}
                    Some(reading) => to.push((*conn, id(&frame.place, reading))),
                }
                false
            });
            if frame.place == Place::Lost {
                lost.extend(to.iter().map(|(conn, _)| *conn));
            }
            if !to.is_empty() {
                let text = Rc::clone(&frame.text);
                self.effects.stream_events.push(StreamEvent { to, text });
            }
            if !frame.to.is_empty() {
                rest.push(frame);
            }
        }
        for conn in lost {
            self.forget(conn, now);
            self.effects.ends.push(End {
                conn,
                streams: true,
                text: None,
            });
        }
        let mut bytes = 0;
        for conn in waiting {
            // The rest of many large pages is for other turns.
            match bytes < limits::TURN_OUT_BYTES {
                true => self.answer_waiting(conn, now),
                false => self.end_reader(conn, &no_room(), now),
            }
            let page = self.effects.ends.last().and_then(|end| end.text.as_ref());
            bytes += page.map_or(0, String::len);
        }
        rest
    }
}

/// Who asks, as far as it counts: all whose address nobody tells are one.
pub(super) fn caller(grant: &Grant) -> Rc<str> {
    hub::owner(grant).unwrap_or_default()
}

/// The id of an event that leaves a stream at a place: cursor and view, or nothing to forget both.
fn id(place: &Place, reading: &Reading) -> Option<String> {
    match place {
        Place::Same => None,
        Place::At(cursor) => {
            let view = reading.request.view.as_deref().unwrap_or_default();
            Some(format!("{cursor};{view}"))
        }
        Place::Lost => Some(String::new()),
    }
}

/// A page that says nothing but that its reader should ask again, from where it was.
fn ask_again(request: &ReadRequest) -> String {
    let page = Snapshot {
        more: true,
        ..Snapshot::default()
    };
    let cursor = request.cursor.as_deref().unwrap_or_default();
    let view = request.view.as_deref().unwrap_or_default();
    page.encode_at(None, &request.channel, cursor, view)
}

/// Why a reader ends where a socket would be closed.
pub(super) fn problem_of(close: Close, reason: Option<String>) -> Problem {
    let problem = match close {
        Close::Restart => Problem::new(Code::Unavailable, "restart; ask again"),
        Close::AuthExpired => AuthError::Expired.into(),
        Close::Revoked => AuthError::Revoked.into(),
        Close::RateLimited => Problem::new(Code::RateLimited, close.reason()),
        Close::Forbidden => Problem::new(Code::Forbidden, close.reason()),
        Close::Protocol | Close::Version | Close::Schema => Problem::malformed(close.reason()),
    };
    match reason {
        Some(reason) => Problem {
            message: reason.into(),
            ..problem
        },
        None => problem,
    }
}

fn no_room() -> Problem {
    Problem {
        retry_after_ms: Some(limits::READERS_RETRY_MS),
        ..Problem::new(
            Code::Unavailable,
            "the space has no room for another reader",
        )
    }
}
