//! Frames: how fast they may come, what is in them, and what waits while a token is judged.

use super::Engine;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, RequestId};
use crate::protocol::{self, ClientMessage, Close, Code, Problem, Refused};
use crate::rate::Sender;
use crate::session::Dialect;
use crate::store::Sql;

/// What a client sent while its token is judged elsewhere: a later message must find the session
/// as the `auth` before it left it.
#[derive(Debug, Default)]
pub(super) struct Held {
    /// Frames, and how many of their messages were handled before.
    frames: Vec<(String, usize)>,
    bytes: usize,
}

impl<S: Sql> Engine<S> {
    pub(super) fn frame(&mut self, conn: ConnId, text: &str, now: Millis) {
        if !self.takes_frame(conn, now) {
            return;
        }
        if text.len() > self.config.limits.frame_bytes {
            let problem = Problem::new(Code::FrameTooLarge, "the frame is too large");
            self.send_error(conn, &problem);
            return self.close(conn, Close::Protocol, now);
        }
        self.messages(conn, text, 0, now);
    }

    pub(super) fn binary(&mut self, conn: ConnId, now: Millis) {
        if self.takes_frame(conn, now) {
            self.malformed(conn, &Problem::malformed("frames must be text"), now);
        }
    }

    /// Answers a frame that holds no message. It counts as one.
    fn malformed(&mut self, conn: ConnId, problem: &Problem, now: Millis) {
        match self.take(conn, now) {
            Ok(()) => self.send_error(conn, problem),
            Err(too_fast) => self.send_error(conn, &too_fast),
        }
    }

    /// Whether a frame is listened to. One of a connection that was closed in an earlier turn is
    /// void, and one that does not wait when it is told to is closed.
    fn takes_frame(&mut self, conn: ConnId, now: Millis) -> bool {
        if self.hub.session(conn).is_none() {
            return false;
        }
        let listens = self.rates.frame(conn, now).is_ok();
        if !listens {
            self.close(conn, Close::RateLimited, now);
        }
        listens
    }

    /// Counts one more message of a connection.
    pub(super) fn take(&mut self, conn: ConnId, now: Millis) -> Result<(), Problem> {
        let session = self.hub.session(conn);
        let identity = session.and_then(|session| session.grant.identity.as_ref());
        let taken = self
            .rates
            .take(&Sender::Conn(conn), identity, &self.config.limits, now);
        taken.map_err(Problem::from)
    }

    /// Handles the messages of a frame but the first `done` of them.
    fn messages(&mut self, conn: ConnId, text: &str, done: usize, now: Millis) {
        if self.hold(conn, text, done, now) {
            return;
        }
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let frame = match protocol::decode(text) {
            Ok(frame) if frame.is_array && session.dialect != Dialect::Hello => {
                Err(Problem::malformed("arrays are for after hello"))
            }
            frame => frame,
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(problem) => return self.malformed(conn, &problem, now),
        };
        for (index, message) in frame.messages.into_iter().enumerate().skip(done) {
            if self.hold(conn, text, index, now) || self.hub.session(conn).is_none() {
                return;
            }
            self.message(conn, message, now);
        }
    }

    /// Keeps the rest of a frame for later if a token of its client is being judged.
    fn hold(&mut self, conn: ConnId, text: &str, done: usize, now: Millis) -> bool {
        let Some(held) = self.held.get_mut(&conn) else {
            return false;
        };
        let bytes = text.len() + limits::HELD_OVERHEAD;
        held.bytes += bytes;
        held.frames.push((text.to_owned(), done));
        self.held_bytes += bytes;
        if held.bytes > limits::HELD_BYTES || self.held_bytes > limits::HELD_BYTES_OF_SPACE {
            // Nothing is lost: it resumes from its cursors, and its mutations have ids.
            self.close(conn, Close::RateLimited, now);
        }
        true
    }

    /// Forgets what was held back of a client, and hands it out.
    pub(super) fn take_held(&mut self, conn: ConnId) -> Vec<(String, usize)> {
        let held = self.held.remove(&conn).unwrap_or_default();
        self.held_bytes -= held.bytes;
        held.frames
    }

    /// Begins to hold back what a client sends.
    pub(super) fn begin_to_hold(&mut self, conn: ConnId) {
        self.held.insert(conn, Held::default());
    }

    /// Handles what was held back. One of these messages may begin it anew.
    pub(super) fn release(&mut self, conn: ConnId, now: Millis) {
        for (text, done) in self.take_held(conn) {
            self.messages(conn, &text, done, now);
        }
    }

    fn message(&mut self, conn: ConnId, message: Result<ClientMessage<'_>, Refused>, now: Millis) {
        if let Err(too_fast) = self.take(conn, now) {
            self.tell_refused(conn, &message, &too_fast);
            let (id, channel) = match &message {
                Ok(ClientMessage::Subscribe(message)) => {
                    return self.refuse_subscription(conn, message, &too_fast);
                }
                Ok(message) => message.request(),
                Err(refused) => (refused.id.as_ref(), refused.channel.as_ref()),
            };
            return self.refuse(conn, id, channel, &too_fast);
        }
        let message = match message {
            Ok(message) => message,
            Err(Refused {
                id,
                channel,
                problem,
            }) => {
                return self.refuse(conn, id.as_ref(), channel.as_ref(), &problem);
            }
        };
        match message {
            ClientMessage::Ping => return self.out.alone(conn, "pong"),
            ClientMessage::Hello(hello) => return self.hello(conn, hello, now),
            _ => self.speak_legacy_unless_hello(conn),
        }
        if !self.waits(conn, &message, now) {
            self.say(conn, message, now);
        }
    }

    /// Handles a message whose turn it is.
    pub(super) fn say(&mut self, conn: ConnId, message: ClientMessage<'_>, now: Millis) {
        match message {
            ClientMessage::Ping | ClientMessage::Hello(_) => {}
            ClientMessage::Subscribe(message) => self.subscribe(conn, &message, now),
            ClientMessage::Unsubscribe { channel } => self.unsubscribe(conn, &channel),
            ClientMessage::Mutate(message) => self.mutate(conn, &message, now),
            ClientMessage::Auth { token } => self.auth(conn, &token, now),
            ClientMessage::Presence(message) => self.presence(conn, &message, now),
            ClientMessage::Signal(message) => self.signal(conn, &message, now),
        }
    }

    /// Tells of an operation that was refused before it was looked at.
    fn tell_refused(
        &mut self,
        conn: ConnId,
        message: &Result<ClientMessage<'_>, Refused>,
        problem: &Problem,
    ) {
        let mut event = match message {
            Ok(ClientMessage::Subscribe(message)) => self.subscription(conn, message),
            Ok(ClientMessage::Mutate(message)) => self.mutation(conn, message),
            Ok(_) | Err(_) => return,
        };
        event.refuse(problem);
        self.effects.events.push(event);
    }

    /// Refuses a message: with a `reject` where it has an id, else with an `error`.
    pub(super) fn refuse(
        &mut self,
        conn: ConnId,
        id: Option<&RequestId>,
        channel: Option<&Channel>,
        problem: &Problem,
    ) {
        match id {
            Some(id) => self.send_reject(conn, Some(id.as_str()), channel, problem),
            None => self.send_error(conn, problem),
        }
    }
}
