//! Mutations over HTTP: those of a socket, in one request and without a session that lasts.

use std::collections::VecDeque;

use super::ask::Who;
use super::mutate::{execute, put_off};
use super::read::caller;
use super::{Engine, Failure};
use crate::limits;
use crate::names::{ConnId, Millis, SessionId};
use crate::observe::{Event, Operation};
use crate::protocol::{self, MutateMessage, Problem, Refused};
use crate::rate::Sender;
use crate::session::{Dialect, Grant, Session};
use crate::source::unanswered;
use crate::store::Sql;

/// Where writers send, for the log.
const MUTATE: &str = "/api/sync/mutate";

/// A request with mutations that are executed one after the other.
#[derive(Debug)]
pub(super) struct Writer {
    session: Session,
    channel_token: Option<String>,
    /// What is still to be executed, as it came.
    rest: VecDeque<String>,
    results: Vec<String>,
    bytes: usize,
    /// When its caller does not wait any longer.
    until: Millis,
    /// Why nothing more is executed: its token has ended meanwhile, or counts no more.
    ended: Option<Problem>,
}

impl Writer {
    /// What it holds, about.
    pub(super) fn bytes(&self) -> usize {
        self.rest.iter().map(String::len).sum::<usize>() + self.bytes
    }
}

impl<S: Sql> Engine<S> {
    pub(super) fn write(
        &mut self,
        conn: ConnId,
        id: SessionId,
        grant: Grant,
        (body, channel_token): (&str, Option<&str>),
        now: Millis,
    ) {
        match self.begin_to_write(id, grant, body, channel_token, now) {
            Ok(writer) => {
                self.writers.insert(conn, writer);
                self.go_on_writing(conn, now);
            }
            Err(failure) => {
                let problem = self.problem(failure);
                self.reply_to(conn, Err(problem));
            }
        }
    }

    fn begin_to_write(
        &mut self,
        id: SessionId,
        grant: Grant,
        body: &str,
        channel_token: Option<&str>,
        now: Millis,
    ) -> Result<Writer, Failure> {
        let grant = self.admitted(grant, now)?;
        let mutations = protocol::mutations_of(body)?;
        let mut session = Session::new(id, grant);
        session.dialect = Dialect::Reader;
        Ok(Writer {
            session,
            channel_token: channel_token.map(str::to_owned),
            results: Vec::with_capacity(mutations.len()),
            rest: mutations.into_iter().map(str::to_owned).collect(),
            bytes: 0,
            until: now.plus(limits::WRITER_MS),
            ended: None,
        })
    }

    /// Takes what came of the mutation that a source was asked for, and executes the next.
    pub(super) fn result_of(&mut self, conn: ConnId, result: String, now: Millis) {
        if let Some(mut writer) = self.writers.remove(&conn) {
            self.add_result(&mut writer, result, now);
            match self.admitted(writer.session.grant.clone(), now) {
                Ok(grant) => writer.session.grant = grant,
                Err(refused) => writer.ended = Some(self.problem(refused)),
            }
            if now > writer.until && writer.ended.is_none() {
                writer.ended = Some(unanswered());
            }
            self.writers.insert(conn, writer);
        }
        self.go_on_writing(conn, now);
    }

    /// Executes mutations up to one that a source is asked for. When there are none left, all are
    /// answered: one that is refused is refused alone.
    fn go_on_writing(&mut self, conn: ConnId, now: Millis) {
        while let Some(mut writer) = self.writers.remove(&conn) {
            let Some(raw) = writer.rest.pop_front() else {
                self.reply_to(conn, Ok(protocol::results(&writer.results)));
                break;
            };
            let result = self.write_next(conn, &mut writer, &raw, now);
            let waits = result.is_none();
            if let Some(result) = result {
                self.add_result(&mut writer, result, now);
            }
            self.writers.insert(conn, writer);
            if waits {
                break;
            }
        }
    }

    fn add_result(&mut self, writer: &mut Writer, result: String, now: Millis) {
        let caller = Sender::Caller(caller(&writer.session.grant));
        self.rates.answered(&caller, result.len(), now);
        writer.bytes += result.len();
        writer.results.push(result);
    }

    /// What comes of one mutation; nothing while a source is asked.
    fn write_next(
        &mut self,
        conn: ConnId,
        writer: &mut Writer,
        raw: &str,
        now: Millis,
    ) -> Option<String> {
        let session = &mut writer.session;
        let mutation = protocol::decode_mutation(raw);
        let (id, channel) = match &mutation {
            Ok(message) => (Some(message.id.clone()), Some(message.channel.clone())),
            Err(refused) => (refused.id.clone(), refused.channel.clone()),
        };
        let mut event = Event {
            channel: channel.clone(),
            action: mutation.as_ref().ok().map(|message| message.action),
            path: Some(MUTATE),
            ..self.event(Operation::Mutate).of(session)
        };
        let is_full = writer.bytes > limits::TURN_OUT_BYTES || self.out.is_full();
        let takes = match writer.ended.clone() {
            Some(problem) => Err(problem),
            None => self.takes(session, now),
        };
        let done = match (takes, mutation) {
            (Err(problem), _) => Err(problem.into()),
            (Ok(()), Err(Refused { problem, .. })) => Err(problem.into()),
            (Ok(()), Ok(_)) if is_full => Err(put_off().into()),
            (Ok(()), Ok(message)) => {
                self.open_channel(session, &message, writer.channel_token.as_deref(), now);
                self.write_one(conn, session, &message, &mut event, now)
            }
        };
        let result = match done {
            Ok(None) => return None,
            Ok(Some(ack)) => ack,
            Err(failure) => {
                let problem = self.problem(failure);
                event.refuse(&problem);
                let id = id.as_ref().map(|id| id.as_str());
                protocol::reject(id, channel.as_ref(), &problem, false)
            }
        };
        event.sent(&result, 1);
        self.tell_written(event);
        Some(result)
    }

    fn takes(&mut self, session: &Session, now: Millis) -> Result<(), Problem> {
        let (grant, limits) = (&session.grant, &self.config.limits);
        let identity = grant.identity.as_ref();
        let taken = self
            .rates
            .take(&Sender::Caller(caller(grant)), identity, limits, now);
        taken.map_err(Problem::from)
    }

    /// Gives the session what a token opens, if it is one of the mutation's channel.
    fn open_channel(
        &self,
        session: &mut Session,
        message: &MutateMessage<'_>,
        token: Option<&str>,
        now: Millis,
    ) {
        let channel = &message.channel;
        let rule = self.config.rules.find(channel);
        let Some(token) = token.filter(|_| rule.is_ok_and(|rule| rule.takes_pass())) else {
            return;
        };
        if !session.paused.contains_key(channel) {
            let pass = self.pass(token, channel, &session.grant, now).ok();
            session.paused.insert(channel.clone(), pass);
        }
    }

    fn write_one(
        &mut self,
        conn: ConnId,
        session: &Session,
        message: &MutateMessage<'_>,
        event: &mut Event,
        now: Millis,
    ) -> Result<Option<String>, Failure> {
        let done = match self.has_source(&message.channel) {
            false => execute(&mut self.store, &self.config, session, message, now)?,
            true => {
                let who = Who::Request(conn);
                match self.entrust(who, session, message, event.clone(), now)? {
                    None => return Ok(None),
                    Some(done) => done,
                }
            }
        };
        done.tell(event);
        if let Some(change) = done.change {
            self.tell_others(&change, None, event);
        }
        Ok(Some(done.ack))
    }
}
