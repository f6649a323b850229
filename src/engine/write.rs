//! Mutations over HTTP: those of a socket, in one request and without a session that lasts.

use super::mutate::{execute, put_off};
use super::read::caller;
use super::{Engine, Failure};
use crate::limits;
use crate::names::{Millis, SessionId};
use crate::observe::{Event, Operation};
use crate::protocol::{self, MutateMessage, Problem, Refused};
use crate::rate::Sender;
use crate::session::{Dialect, Grant, Session};
use crate::store::Sql;

/// Where writers send, for the log.
const MUTATE: &str = "/api/sync/mutate";

impl<S: Sql> Engine<S> {
    pub(super) fn write(
        &mut self,
        id: SessionId,
        grant: Grant,
        body: &str,
        channel_token: Option<&str>,
        now: Millis,
    ) {
        let results = self.write_each(id, grant, body, channel_token, now);
        let answer = results.map(|results| protocol::results(&results));
        let answer = answer.map_err(|failure| self.problem(failure));
        self.reply(answer);
    }

    /// What came of each mutation, in order. One that is refused is refused alone.
    fn write_each(
        &mut self,
        id: SessionId,
        grant: Grant,
        body: &str,
        channel_token: Option<&str>,
        now: Millis,
    ) -> Result<Vec<String>, Failure> {
        let grant = self.admitted(grant, now)?;
        let mutations = protocol::decode_mutations(body)?;
        let mut session = Session::new(id, grant);
        session.dialect = Dialect::Reader;
        let (mut results, mut bytes) = (Vec::with_capacity(mutations.len()), 0);
        for mutation in mutations {
            let (id, channel) = match &mutation {
                Ok(message) => (Some(message.id.clone()), Some(message.channel.clone())),
                Err(refused) => (refused.id.clone(), refused.channel.clone()),
            };
            let mut event = Event {
                channel: channel.clone(),
                action: mutation.as_ref().ok().map(|message| message.action),
                path: Some(MUTATE),
                ..self.event(Operation::Mutate).of(&session)
            };
            let is_full = bytes > limits::TURN_OUT_BYTES || self.out.is_full();
            let done = match (self.takes(&session, now), mutation) {
                (Err(too_fast), _) => Err(too_fast.into()),
                (Ok(()), Err(Refused { problem, .. })) => Err(problem.into()),
                (Ok(()), Ok(_)) if is_full => Err(put_off().into()),
                (Ok(()), Ok(message)) => {
                    self.open_channel(&mut session, &message, channel_token, now);
                    self.write_one(&session, &message, &mut event, now)
                }
            };
            let result = done.unwrap_or_else(|failure| {
                let problem = self.problem(failure);
                event.refuse(&problem);
                let id = id.as_ref().map(|id| id.as_str());
                protocol::reject(id, channel.as_ref(), &problem, false)
            });
            event.sent(&result, 1);
            self.tell_written(event);
            bytes += result.len();
            results.push(result);
        }
        Ok(results)
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
        session: &Session,
        message: &MutateMessage<'_>,
        event: &mut Event,
        now: Millis,
    ) -> Result<String, Failure> {
        let done = execute(&mut self.store, &self.config, session, message, now)?;
        done.tell(event);
        if let Some(change) = done.change {
            self.tell_others(&change, None, event);
        }
        Ok(done.ack)
    }
}
