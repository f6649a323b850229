//! Who is here: presence of connections in channels, and signals that pass between subscribers.
//!
//! A turn notes who was how before it; at its end everybody who joined or watches is told the
//! difference, in one frame however many moved.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::Engine;
use crate::channel::Rule;
use crate::limits;
use crate::names::{Channel, ConnId};
use crate::protocol::{
    self, Code, Member, PresenceChange, PresenceMessage, Problem, SignalMessage,
};
use crate::session::{Presence, Session};
use crate::store::Sql;

/// Who has moved in this turn, as they were before it: nothing for who was not seen.
pub(super) type Moves = BTreeMap<Channel, BTreeMap<ConnId, Moved>>;

/// One connection's presence before and after.
#[derive(Debug)]
pub(super) struct Moved {
    before: Option<Rc<str>>,
    /// Who it is, for when it is gone.
    who: Member,
}

fn member(session: &Session, state: Option<Rc<str>>) -> Member {
    Member {
        session: session.id.clone(),
        identity: session.grant.identity.clone(),
        state,
    }
}

/// What a member takes in a list, with its comma; a list is cut to fit a frame.
const FRAME_BYTES: usize = limits::FRAME_OUT_BYTES - 8 * limits::CHANNEL_BYTES;

impl<S: Sql> Engine<S> {
    pub(super) fn presence(&mut self, conn: ConnId, message: &PresenceMessage<'_>) {
        let channel = &message.channel;
        if let Err(problem) = self.may_be_in(conn, channel, |rule| rule.presence) {
            return self.send_error(conn, &problem);
        }
        let presence = match message.change {
            PresenceChange::Set(state) => Some(Presence::Member(state.get().into())),
            PresenceChange::Watch => Some(Presence::Watcher),
            PresenceChange::Leave => None,
        };
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let state = presence.as_ref().and_then(Presence::state);
        let bytes = state.map_or(0, |state| state.len());
        if presence.is_some() && !session.has_room_to_be(channel, bytes) {
            let message = "a state is at most 1 KiB, 2 KiB in all, in at most 16 channels";
            return self.send_error(conn, &Problem::invalid("state", message));
        }
        let before = session.presence.get(channel);
        // Who updates its own state knows who is here.
        let asks = match (before, &presence) {
            (_, None) | (Some(Presence::Member(_)), Some(Presence::Member(_))) => false,
            (_, Some(_)) => true,
        };
        self.set_presence(conn, channel, presence);
        if asks {
            let (members, total) = self.members(channel);
            let answer = protocol::members(channel, &members, total);
            self.out.send_one(conn, answer);
        }
    }

    pub(super) fn signal(&mut self, conn: ConnId, message: &SignalMessage<'_>) {
        let channel = &message.channel;
        if let Err(problem) = self.may_be_in(conn, channel, |rule| rule.signals) {
            return self.send_error(conn, &problem);
        }
        let data = message.data.map_or("null", |data| data.get());
        if data.len() > limits::SIGNAL_BYTES {
            let problem = Problem::invalid("data", "a signal's data is at most 16 KiB");
            return self.send_error(conn, &problem);
        }
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let identity = session.grant.identity.as_ref();
        let text = protocol::signal(channel, &message.event, &session.id, identity, data);
        let mut others = self.hub.receivers(channel, &crate::audience::Audience::All);
        others.retain(|other| *other != conn);
        self.out.send_many(others, text);
    }

    /// Whether a connection may show itself in a channel: it must be live there, and the rule
    /// must open what it asks for.
    fn may_be_in(
        &self,
        conn: ConnId,
        channel: &Channel,
        opens: fn(&Rule) -> bool,
    ) -> Result<(), Problem> {
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
            return Err(Problem::new(
                Code::Forbidden,
                "the channel's rule does not open this",
            ));
        }
        let subscribed =
            session.subscriptions.contains_key(channel) || session.presence.contains_key(channel);
        let message = "subscribe to the channel first";
        subscribed
            .then_some(())
            .ok_or_else(|| Problem::invalid("channel", message))
    }

    /// Changes a connection's presence, and remembers for the end of the turn how it was.
    pub(super) fn set_presence(
        &mut self,
        conn: ConnId,
        channel: &Channel,
        presence: Option<Presence>,
    ) {
        let before = self.hub.set_presence(conn, channel, presence.clone());
        if before == presence {
            return;
        }
        self.dirty.push(conn);
        if let Some(session) = self.hub.session(conn) {
            note(&mut self.moves, channel, conn, session, before.as_ref());
        }
    }

    /// Remembers how a connection that has gone was present.
    pub(super) fn note_gone(&mut self, conn: ConnId, session: &Session) {
        for (channel, before) in &session.presence {
            note(&mut self.moves, channel, conn, session, Some(before));
        }
    }

    /// The members of a channel, as many as a frame and [`limits::MEMBERS`] take, and how many
    /// there are.
    pub(super) fn members(&self, channel: &Channel) -> (Vec<Member>, usize) {
        let members = self.hub.members(channel);
        let total = members.len();
        let mut bytes = 0;
        let listed = members
            .filter_map(|conn| {
                let session = self.hub.session(conn)?;
                let state = session.presence.get(channel)?.state()?;
                Some(member(session, Some(Rc::clone(state))))
            })
            .take_while(|member| {
                bytes += member.len();
                bytes <= FRAME_BYTES
            });
        (listed.take(limits::MEMBERS).collect(), total)
    }

    /// Tells everybody who joined or watches what has moved in this turn.
    pub(super) fn tell_moves(&mut self) {
        for (channel, moved) in std::mem::take(&mut self.moves) {
            let mut changes: Vec<(ConnId, &'static str, Member)> = Vec::new();
            for (conn, moved) in moved {
                let now = self
                    .hub
                    .session(conn)
                    .and_then(|s| s.presence.get(&channel));
                let state = now.and_then(Presence::state);
                let what = match (&moved.before, state) {
                    (None, Some(_)) => "joined",
                    (Some(before), Some(state)) if before != state => "updated",
                    (Some(_), None) => "left",
                    (Some(_), Some(_)) | (None, None) => continue,
                };
                let state = state.cloned();
                changes.push((conn, what, Member { state, ..moved.who }));
            }
            self.tell(&channel, &changes);
        }
    }

    fn tell(&mut self, channel: &Channel, changes: &[(ConnId, &'static str, Member)]) {
        if changes.is_empty() {
            return;
        }
        // Who moves and stays is not told of itself. Of these there is hardly ever more than one.
        let (movers, others): (Vec<ConnId>, Vec<ConnId>) =
            (self.hub.observers(channel).into_iter())
                .partition(|conn| changes.iter().any(|(mover, _, _)| mover == conn));
        for text in frames(channel, changes, None) {
            self.out.send_many(others.clone(), text);
        }
        for mover in movers {
            for text in frames(channel, changes, Some(mover)) {
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
        who: member(session, None),
    });
}

/// The frames for what moved, without one's own moves; more than one only where a frame is full.
fn frames(
    channel: &Channel,
    changes: &[(ConnId, &'static str, Member)],
    without: Option<ConnId>,
) -> Vec<String> {
    let mut frames = Vec::new();
    let mut part: Vec<(&'static str, &Member)> = Vec::new();
    let mut bytes = 0;
    let mut flush = |part: &mut Vec<(&'static str, &Member)>| {
        let of = |what: &str| -> Vec<&Member> {
            let moves = part.iter().filter(|(did, _)| *did == what);
            moves.map(|(_, member)| *member).collect()
        };
        let (joined, updated, left) = (of("joined"), of("updated"), of("left"));
        if !part.is_empty() {
            let moves = [
                ("joined", joined.as_slice()),
                ("updated", updated.as_slice()),
                ("left", left.as_slice()),
            ];
            frames.push(protocol::presence(channel, moves));
        }
        part.clear();
    };
    for (conn, what, member) in changes {
        if Some(*conn) == without {
            continue;
        }
        if bytes + member.len() > FRAME_BYTES {
            flush(&mut part);
            bytes = 0;
        }
        bytes += member.len();
        part.push((what, member));
    }
    flush(&mut part);
    frames
}
