//! Connecting, `hello`, and which dialect a client speaks.

use super::renew::standing;
use super::{Engine, Failure};
use crate::auth::AuthError;
use crate::limits;
use crate::names::{ConnId, Millis, SessionId};
use crate::observe::Operation;
use crate::protocol::{self, ClientMessage, Close, Code, Hello, Problem};
use crate::session::{Dialect, Grant, Session};
use crate::store::Sql;

impl<S: Sql> Engine<S> {
    pub(super) fn connect(&mut self, conn: ConnId, session: SessionId, grant: Grant, now: Millis) {
        let mut event = self.event(Operation::Connect).by(&session, &grant);
        if let Err(failure) = self.take_in(conn, session, grant, now) {
            let problem = self.problem(failure);
            event.refuse(&problem);
            self.reply(Err(problem));
        }
        self.effects.events.push(event);
    }

    fn take_in(
        &mut self,
        conn: ConnId,
        session: SessionId,
        grant: Grant,
        now: Millis,
    ) -> Result<(), Failure> {
        if self.hub.attachments_bytes() + limits::ATTACHMENT_BYTES > limits::ATTACHMENTS_BYTES {
            return Err(no_room().into());
        }
        self.has_room_for_another(&grant)?;
        let grant = self.admitted(grant, now)?;
        self.hub.insert(conn, Session::new(session, grant), 0);
        self.dirty.push(conn);
        Ok(())
    }

    /// Whether the space takes one more connection or reader of whoever has this grant.
    pub(super) fn has_room_for_another(&self, grant: &Grant) -> Result<(), Problem> {
        let (connections, _, _) = self.hub.counts();
        if connections >= self.config.limits.connections {
            return Err(no_room());
        }
        if self.hub.connections_of(grant) >= self.config.limits.connections_per_identity {
            let message = "too many connections of one identity or address";
            return Err(Problem {
                retry_after_ms: Some(limits::CONNECTIONS_RETRY_MS),
                ..Problem::new(Code::RateLimited, message)
            });
        }
        Ok(())
    }

    /// The grant as it counts here and now: not ended, and less what is held against it.
    pub(super) fn admitted(&self, grant: Grant, now: Millis) -> Result<Grant, Failure> {
        if grant.expires_at.is_some_and(|at| at <= now) {
            return Err(Problem::from(AuthError::Expired).into());
        }
        standing(&self.store, grant, now)
    }

    /// Says who the token is, for browsers, which cannot see why an upgrade failed.
    pub(super) fn session(&mut self, grant: Grant, now: Millis) {
        let answer = standing(&self.store, grant, now)
            .map(|grant| protocol::session(grant.identity.as_ref(), grant.expires_at, &self.space));
        let answer = answer.map_err(|failure| self.problem(failure));
        self.reply(answer);
    }

    pub(super) fn hello(&mut self, conn: ConnId, hello: Hello<'_>, now: Millis) {
        let Some(session) = self.hub.session_mut(conn) else {
            return;
        };
        if session.dialect != Dialect::Unknown {
            let problem = Problem::malformed("hello comes once, before anything else");
            return self.send_error(conn, &problem);
        }
        if hello.version != protocol::VERSION {
            let problem = Problem::new(
                Code::UnsupportedVersion,
                "this server speaks protocol version 1",
            );
            self.send_error(conn, &problem);
            return self.close(conn, Close::Version, now);
        }
        if !self.config.takes_schema(hello.schema) {
            let message = "the app's data model is too old; update the app";
            self.send_error(conn, &Problem::new(Code::SchemaOutdated, message));
            return self.close(conn, Close::Schema, now);
        }
        session.dialect = Dialect::Hello;
        session.device = hello.device.as_deref().map(Into::into);
        let welcome = protocol::welcome(
            &session.id,
            self.store.epoch(),
            session.grant.identity.as_ref(),
            session.grant.expires_at,
            self.config.schema_version(),
            &self.config.limits,
        );
        self.out.alone(conn, welcome);
        self.dirty.push(conn);
        for subscription in hello.subscribe {
            let (id, channel) = match &subscription {
                Ok(message) => (message.id.as_ref(), Some(&message.channel)),
                Err(refused) => (refused.id.as_ref(), refused.channel.as_ref()),
            };
            if let Err(too_fast) = self.take(conn, now) {
                if let Ok(message) = &subscription {
                    let mut event = self.subscription(conn, message);
                    event.refuse(&too_fast);
                    self.effects.events.push(event);
                }
                self.refuse(conn, id, channel, &too_fast);
                continue;
            }
            match subscription {
                Ok(message) => {
                    let message = ClientMessage::Subscribe(message);
                    if !self.waits(conn, &message, now) {
                        self.say(conn, message, now);
                    }
                }
                Err(refused) => {
                    self.refuse(
                        conn,
                        refused.id.as_ref(),
                        refused.channel.as_ref(),
                        &refused.problem,
                    );
                }
            }
        }
    }

    /// Whoever does anything before a hello is a legacy client from then on.
    pub(super) fn speak_legacy_unless_hello(&mut self, conn: ConnId) {
        if let Some(session) = self.hub.session_mut(conn)
            && session.dialect == Dialect::Unknown
        {
            session.dialect = Dialect::Legacy;
            self.dirty.push(conn);
        }
    }
}

fn no_room() -> Problem {
    let message = "the space has no room for another connection";
    Problem::new(Code::Unavailable, message)
}
