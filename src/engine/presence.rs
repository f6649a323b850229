//! Who is here: presence of connections in channels, and signals that pass between subscribers.
//!
//! A turn notes who was how before it; at its end everybody who joined or watches is told the
//! difference, in one frame however many moved.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde_json::value::RawValue;

use super::Engine;
use crate::audience::Audience;
use crate::channel::Rule;
use crate::config::Publisher;
use crate::limits;
use crate::names::{Channel, ConnId, Identity, Millis, SessionId};
use crate::protocol::{self, Code, PresenceChange, PresenceMessage, Problem, SignalMessage};
use crate::rate::Sender;
use crate::session::{Presence, Session};
use crate::source::Kind;
use crate::store::Sql;

/// Who has moved in this turn, as they were before it.
pub(super) type Moves = BTreeMap<Channel, BTreeMap<ConnId, Moved>>;

/// One connection whose presence has changed.
#[derive(Debug)]
pub(super) struct Moved {
    /// What the others saw of it; nothing of who was not there, or watched.
    before: Option<Rc<str>>,
    /// Who it is, for when it is gone.
    session: SessionId,
    identity: Option<Identity>,
}

/// What the others are told of one connection.
struct Told {
    conn: ConnId,
    what: &'static str,
    /// As JSON.
    member: String,
}

/// What happened to a member. A frame lists them in this order.
const WHATS: [&str; 3] = [JOINED, UPDATED, LEFT];
const JOINED: &str = "joined";
const UPDATED: &str = "updated";
const LEFT: &str = "left";

/// What a list of members may take: a frame less what is around the list.
const LIST_BYTES: usize = limits::FRAME_OUT_BYTES - 2 * limits::CHANNEL_BYTES - 256;

impl<S: Sql> Engine<S> {
    pub(super) fn presence(&mut self, conn: ConnId, message: &PresenceMessage<'_>, now: Millis) {
        let channel = &message.channel;
        let state = match message.change {
            PresenceChange::Set(state) => Some(state.get()),
            PresenceChange::Watch => None,
            PresenceChange::Leave => return self.set_presence(conn, channel, None),
        };
        let presence = match state {
            Some(state) => Presence::Member(state.into()),
            None => Presence::Watcher,
        };
        let allowed = self
            .may_be_in(conn, channel, |rule| rule.presence)
            .and_then(|session| session.has_room_to_be(channel, &presence));
        if let Err(problem) = allowed {
            return self.send_error(conn, &problem);
        }
        let what = (Kind::Presence, state, message.raw);
        if !self.asks_leave(conn, channel, what, now) {
            self.show_presence(conn, message, now);
        }
    }

    /// Changes a connection's presence as it asked for.
    pub(super) fn show_presence(
        &mut self,
        conn: ConnId,
        message: &PresenceMessage<'_>,
        now: Millis,
    ) {
        let channel = &message.channel;
        let presence = match message.change {
            PresenceChange::Set(state) => Presence::Member(state.get().into()),
            PresenceChange::Watch => Presence::Watcher,
            // Whoever wants to go may, whatever it might still do here.
            PresenceChange::Leave => return self.set_presence(conn, channel, None),
        };
        let allowed = self
            .may_be_in(conn, channel, |rule| rule.presence)
            .and_then(|session| self.has_room_to_be(session, channel, &presence));
        let updates = match allowed {
            Ok(updates) => updates,
            Err(problem) => return self.send_error(conn, &problem),
        };
        self.set_presence(conn, channel, Some(presence));
        // Whoever updates its own state knows who is here.
        if !updates {
            let (members, total) = self.members(channel, Some(conn));
            let answer = protocol::members(channel, &members, total);
            self.rates.answered(&Sender::Conn(conn), answer.len(), now);
            self.out.send_one(conn, answer);
        }
    }

    pub(super) fn signal(&mut self, conn: ConnId, message: &SignalMessage<'_>, now: Millis) {
        let channel = &message.channel;
        let allowed = self.may_be_in(conn, channel, |rule| rule.signals);
        if let Err(problem) = allowed {
            return self.send_error(conn, &problem);
        }
        let data = message.data.map(RawValue::get);
        if data.is_some_and(|data| data.len() > limits::SIGNAL_BYTES) {
            return self.pass_signal(conn, message);
        }
        let what = (Kind::Signal, data, message.raw);
        if !self.asks_leave(conn, channel, what, now) {
            self.pass_signal(conn, message);
        }
    }

    /// Passes a signal to the others.
    pub(super) fn pass_signal(&mut self, conn: ConnId, message: &SignalMessage<'_>) {
        let channel = &message.channel;
        let session = match self.may_be_in(conn, channel, |rule| rule.signals) {
            Ok(session) => session,
            Err(problem) => return self.send_error(conn, &problem),
        };
        let data = message.data.map_or("null", |data| data.get());
        if data.len() > limits::SIGNAL_BYTES {
            let problem = Problem::invalid("data", "a signal's data is at most 16 KiB");
            return self.send_error(conn, &problem);
        }
        let identity = session.grant.identity.as_ref();
        let text = protocol::signal(channel, &message.event, &session.id, identity, data);
        let mut others = self.hub.receivers(channel, &Audience::All);
        others.retain(|conn| !self.hub.is_reader(*conn));
        others.retain(|other| *other != conn);
        self.out.send_many(others, text);
    }

    /// Whether a connection may show itself in a channel: it must have subscribed, and the rule
    /// must open what it asks for.
    fn may_be_in(
        &self,
        conn: ConnId,
        channel: &Channel,
        opens: fn(&Rule) -> bool,
    ) -> Result<&Session, Problem> {
        if self.out.is_full() {
            return Err(Problem {
                retry_after_ms: Some(limits::TURN_RETRY_MS),
                ..Problem::new(Code::RateLimited, "too much for one turn")
            });
        }
        let gone = || Problem::new(Code::Unavailable, "the connection is closing");
        let session = self.hub.session(conn).ok_or_else(gone)?;
        let rule = self.config.rules.find(channel)?;
        rule.may_read(channel, &session.asker(channel))?;
        if !opens(rule) {
            let message = "the channel's rule does not open this";
            return Err(Problem::new(Code::Forbidden, message));
        }
        match session.holds(channel) {
            true => Ok(session),
            false => Err(Problem::invalid("channel", "subscribe to it first")),
        }
    }

    /// Whether there is room for a presence, and whether it only updates a member's state.
    fn has_room_to_be(
        &self,
        session: &Session,
        channel: &Channel,
        presence: &Presence,
    ) -> Result<bool, Problem> {
        session.has_room_to_be(channel, presence)?;
        let before = session.presence.get(channel);
        let (held, state) = (before.and_then(Presence::state), presence.state());
        let bytes = |state: Option<&Rc<str>>| state.map_or(0, |state| state.len());
        let more = bytes(state).saturating_sub(bytes(held));
        if more > 0 && !self.hub.has_room_of(&session.grant, more) {
            let message = "the space has no room for a larger state";
            return Err(Problem::new(Code::Unavailable, message));
        }
        Ok(held.is_some() && state.is_some())
    }

    /// Changes a connection's presence, and remembers for the end of the turn how it was.
    pub(super) fn set_presence(
        &mut self,
        conn: ConnId,
        channel: &Channel,
        presence: Option<Presence>,
    ) {
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let before = session.presence.get(channel);
        if before == presence.as_ref() {
            return;
        }
        note(&mut self.moves, channel, conn, session, before);
        self.hub.set_presence(conn, channel, presence);
        self.dirty.push(conn);
    }

    /// Remembers how a connection that has gone was present.
    pub(super) fn note_gone(&mut self, conn: ConnId, session: &Session) {
        for (channel, before) in &session.presence {
            note(&mut self.moves, channel, conn, session, Some(before));
        }
    }

    /// Answers a publisher who is present in a channel.
    pub(super) fn members_for(&mut self, channel: &Channel, publisher: &Publisher) {
        let allowed = self.config.check_sees(publisher, channel, &self.space);
        let known = allowed.and_then(|()| self.config.rules.find(channel).map(|_| ()));
        let body = known.map(|()| {
            let (members, total) = self.members(channel, None);
            protocol::presence_body(channel, &members, total)
        });
        self.reply(body);
    }

    /// The members of a channel as JSON, as many as [`limits::MEMBERS`] and a frame take, and how
    /// many there are. Whoever asks is among them, if it is one.
    fn members(&self, channel: &Channel, asks: Option<ConnId>) -> (Vec<String>, usize) {
        let of = |conn: ConnId| {
            let session = self.hub.session(conn)?;
            let state = session.presence.get(channel)?.state()?;
            let identity = session.grant.identity.as_ref();
            Some(protocol::member(&session.id, identity, Some(state)))
        };
        let members = self.hub.members(channel);
        let total = members.len();
        let others = members.filter(|conn| Some(*conn) != asks);
        let mut bytes = 0;
        let listed = asks.into_iter().chain(others).filter_map(of);
        let listed = listed.take(limits::MEMBERS).take_while(|member| {
            bytes += member.len() + 1;
            bytes <= LIST_BYTES
        });
        (listed.collect(), total)
    }

    /// Tells everybody who joined or watches what has moved in this turn.
    pub(super) fn tell_moves(&mut self) {
        for (channel, moved) in std::mem::take(&mut self.moves) {
            let told = moved.into_iter().filter_map(|(conn, moved)| {
                let now = self.hub.session(conn);
                let now = now.and_then(|session| session.presence.get(&channel)?.state());
                let what = match (&moved.before, now) {
                    (None, Some(_)) => JOINED,
                    (Some(before), Some(now)) if before != now => UPDATED,
                    (Some(_), None) => LEFT,
                    (Some(_), Some(_)) | (None, None) => return None,
                };
                let now = now.map(Rc::as_ref);
                let member = protocol::member(&moved.session, moved.identity.as_ref(), now);
                Some(Told { conn, what, member })
            });
            let told: Vec<Told> = told.collect();
            self.tell(&channel, &told);
        }
    }

    /// `told` is in the order of connections.
    fn tell(&mut self, channel: &Channel, told: &[Told]) {
        let Some(_) = told.first() else { return };
        let moved = |conn: &ConnId| told.binary_search_by_key(conn, |told| told.conn).is_ok();
        let observers = self.hub.observers(channel);
        let (movers, others): (Vec<_>, Vec<_>) = observers.into_iter().partition(moved);
        if !others.is_empty() {
            for text in frames(channel, told.iter()) {
                self.out.send_many(others.clone(), text);
            }
        }
        // Whoever moves and stays is not told of itself. It is the turn's sender, so there is
        // hardly ever more than one.
        for mover in movers {
            for text in frames(channel, told.iter().filter(|told| told.conn != mover)) {
                self.out.send_one(mover, text);
            }
        }
    }
}

fn note(
    moves: &mut Moves,
    channel: &Channel,
    conn: ConnId,
    session: &Session,
    before: Option<&Presence>,
) {
    let moved = moves.entry(channel.clone()).or_default();
    moved.entry(conn).or_insert_with(|| Moved {
        before: before.and_then(Presence::state).cloned(),
        session: session.id.clone(),
        identity: session.grant.identity.clone(),
    });
}

/// The frames for what moved: one, unless that is full.
fn frames<'a>(channel: &Channel, told: impl Iterator<Item = &'a Told>) -> Vec<String> {
    let frame = |part: &[&Told]| {
        let of = |what| {
            let told = part.iter().filter(|told| told.what == what);
            (what, told.map(|told| told.member.as_str()).collect())
        };
        protocol::presence(channel, WHATS.map(of))
    };
    let (mut frames, mut part, mut bytes) = (Vec::new(), Vec::new(), 0);
    for told in told {
        bytes += told.member.len() + 1;
        if bytes > LIST_BYTES {
            frames.push(frame(&part));
            part.clear();
            bytes = told.member.len() + 1;
        }
        part.push(told);
    }
    if !part.is_empty() {
        frames.push(frame(&part));
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moved_is_told_in_one_frame_unless_that_is_full() {
        let channel = Channel::parse(&"\"".repeat(limits::CHANNEL_BYTES)).unwrap();
        let told = |conn: u32| Told {
            conn: ConnId(conn),
            what: WHATS[conn as usize % 3],
            member: format!("\"{conn:0>500}\""),
        };
        let told: Vec<Told> = (0..4_000).map(told).collect();
        for (most, parts) in [(1, 1), (1_700, 1), (1_800, 2), (4_000, 3)] {
            let frames = frames(&channel, told.iter().take(most));
            assert_eq!(frames.len(), parts, "{most}");
            let longest = frames.iter().map(String::len).max();
            assert!(longest <= Some(limits::FRAME_OUT_BYTES));
            for told in told.iter().take(most).step_by(97) {
                let holding = frames.iter().filter(|frame| frame.contains(&told.member));
                assert_eq!(holding.count(), 1);
            }
        }
        assert!(frames(&channel, [].iter()).is_empty());
    }
}
