//! Calls of publishers and operators: each happens once per idempotency key, or not at all.

use std::collections::BTreeSet;

use super::ask::Who;
use super::renew::{self, Renewal};
use super::room::Room;
use super::{Engine, Failure, publish};
use crate::audience::Audience;
use crate::config::{Config, Publisher};
use crate::digest;
use crate::hub::Hub;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, RequestId, Seq};
use crate::observe::{Event, Operation, Outcome as Came};
use crate::outbox::{Outgoing, Place};
use crate::protocol::{self, CallBody, Close, Problem, TopicsBody};
use crate::session::Dialect;
use crate::store::{Floor, Outcome, Owner, Seed, Sql, SqlError, Store, Takes};

/// A call over HTTP whose key has been checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Call {
    /// One change.
    Broadcast,
    /// 1–1,000 changes, all or nothing.
    BroadcastBatch,
    /// Everyone forgets the channel and asks again.
    BroadcastReset,
    /// Everyone asks for what has changed outside.
    BroadcastChange,
    /// Closes an identity's sockets and refuses its tokens, or closes all sockets.
    Disconnect,
    /// Changes the topics of an identity's sessions.
    Topics,
    /// Gives the log a new identity, after a restore.
    Epoch,
}

impl Call {
    /// All calls.
    pub const ALL: [Self; 7] = [
        Self::Broadcast,
        Self::BroadcastBatch,
        Self::BroadcastReset,
        Self::BroadcastChange,
        Self::Disconnect,
        Self::Topics,
        Self::Epoch,
    ];

    /// Whether it needs chance, which the host draws for each.
    #[must_use]
    pub fn draws(self) -> bool {
        matches!(self, Self::Epoch)
    }

    /// The call's path, the same outside and inside.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::Broadcast => "/broadcast",
            Self::BroadcastBatch => "/broadcast-batch",
            Self::BroadcastReset => "/broadcast-reset",
            Self::BroadcastChange => "/broadcast-change",
            Self::Disconnect => "/disconnect",
            Self::Topics => "/topics",
            Self::Epoch => "/epoch",
        }
    }

    /// Whether the call only publishes: a key of `PUBLISH_KEYS` opens it without `operate`.
    #[must_use]
    pub fn publishes(self) -> bool {
        match self {
            Self::Broadcast
            | Self::BroadcastBatch
            | Self::BroadcastReset
            | Self::BroadcastChange => true,
            Self::Disconnect | Self::Topics | Self::Epoch => false,
        }
    }

    /// What observers are told that it is.
    pub(crate) fn operation(self) -> Operation {
        match self.publishes() {
            true => Operation::Publish,
            false => Operation::Operate,
        }
    }

    /// The call of a path.
    #[must_use]
    pub fn of_path(path: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|call| call.path() == path)
    }
}

/// Who is to be told that a channel has changed outside.
#[derive(Debug, Default)]
pub(super) struct Notices {
    to: BTreeSet<ConnId>,
    /// When somebody was told last.
    told: Millis,
}

impl Notices {
    fn next(&self) -> Millis {
        self.told.plus(limits::NOTICE_PAUSE_MS)
    }

    /// When those who wait are to be told.
    pub(super) fn due(&self) -> Option<Millis> {
        (!self.to.is_empty()).then(|| self.next())
    }
}

/// What a call did to the log, and what is left to do for it.
#[derive(Default)]
pub(super) struct Done {
    /// The answer's body.
    pub(super) result: String,
    pub(super) frames: Vec<Outgoing>,
    pub(super) closes: Vec<(ConnId, Close, Option<String>)>,
    pub(super) renewals: Vec<Renewal>,
    /// Who is behind on a channel that has changed outside.
    pub(super) behind: Option<(Channel, Vec<ConnId>)>,
    /// Changes that were written, the seq of the last of them, and who is told.
    pub(super) changes: usize,
    pub(super) seq: Option<Seq>,
    pub(super) receivers: usize,
    /// Whether it was done before.
    pub(super) repeated: bool,
}

/// What a call is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) call: Call,
    pub(super) body: Result<&'a [u8], &'a Problem>,
    pub(super) idempotency_key: Option<&'a str>,
    /// Whose key it came with.
    pub(super) publisher: &'a Publisher,
    /// Chance for a new epoch, see [`Call::draws`].
    pub(super) seed: Option<Seed>,
}

impl<S: Sql> Engine<S> {
    pub(super) fn call(&mut self, request: Request<'_>, now: Millis) {
        let mut event = Event {
            publisher: Some(request.publisher.clone()),
            path: Some(request.call.path()),
            ..self.event(request.call.operation())
        };
        match self.call_once(request, &mut event.channel, now) {
            Ok(done) => {
                event.outcome = if done.repeated {
                    Came::Repeated
                } else {
                    Came::Done
                };
                event.changes = done.changes as u64;
                event.receivers = done.receivers as u64;
                event.seq = done.seq;
                for frame in done.frames {
                    event.sent(&frame.text, frame.to.len());
                    self.out.send(frame);
                }
                if let Some((channel, conns)) = done.behind {
                    self.fall_behind(&channel, &conns);
                }
                for renewal in done.renewals {
                    self.renew(renewal);
                }
                for (conn, close, reason) in done.closes {
                    self.close_for(conn, close, reason, now);
                }
                self.reply(Ok(done.result));
            }
            Err(failure) => {
                let problem = self.problem(failure);
                event.refuse(&problem);
                self.reply(Err(problem));
            }
        }
        self.tell_written(event);
    }

    /// Tells whoever is live on a channel that it has changed outside.
    ///
    /// All of them ask then, so they are told of several such changes at once. They fall behind at
    /// once.
    pub(super) fn tell_outside(&mut self, channel: &Channel, now: Millis) {
        let to = self.hub.receivers(channel, &Audience::All);
        if to.is_empty() {
            return;
        }
        self.fall_behind(channel, &to);
        let notices = self.notices.or_default(channel.clone());
        notices.to.extend(to.iter().copied());
        self.tell_notices(now);
        // Those who wait are closed on waking, should the memory be lost before.
        for conn in to {
            self.note_busy(Who::Socket(conn));
        }
    }

    /// Whether a connection is to be told that it is behind.
    pub(super) fn is_owed(&self, conn: ConnId) -> bool {
        let owed = |notices: &Notices| notices.to.contains(&conn);
        self.notices.values().any(owed)
    }

    /// Tells a connection that it is behind, before it gets an ack whose cursor is.
    pub(super) fn tell_behind(&mut self, conn: ConnId, channel: &Channel) {
        if self.owes_no_more(conn, channel) {
            self.out.send_one(conn, protocol::channel_change(channel));
        }
    }

    /// A connection need not be told that it is behind any more: it knows, or is live again. Whether
    /// it was to be told.
    pub(super) fn owes_no_more(&mut self, conn: ConnId, channel: &Channel) -> bool {
        let Some(notices) = self.notices.get_mut(channel) else {
            return false;
        };
        let was_owed = notices.to.remove(&conn);
        if was_owed {
            self.note_busy(Who::Socket(conn));
        }
        was_owed
    }

    /// Tells those who are behind, where the last notice to their channel is long enough ago.
    pub(super) fn tell_notices(&mut self, now: Millis) {
        let is_old = |notices: &Notices| now >= notices.next() || now < notices.told;
        self.notices
            .retain(|_, notices| !notices.to.is_empty() || !is_old(notices));
        let mut frames = Vec::new();
        for (channel, notices) in self.notices.iter_mut() {
            if !notices.to.is_empty() && is_old(notices) {
                notices.told = now;
                let to = std::mem::take(&mut notices.to).into_iter().collect();
                frames.extend(notice(to, protocol::channel_change(channel), Place::Same));
            }
        }
        for mut frame in frames {
            // Who has gone meanwhile needs none.
            frame.to.retain(|conn| self.hub.session(*conn).is_some());
            for conn in &frame.to {
                self.note_busy(Who::Socket(*conn));
            }
            self.out.send(frame);
        }
    }

    /// Takes connections off a channel that has changed outside, until they have asked again: a
    /// change that they got meanwhile would carry their cursors past what they do not know.
    fn fall_behind(&mut self, channel: &Channel, conns: &[ConnId]) {
        self.streams_ask(conns, channel);
        for conn in conns {
            let session = self.hub.session(*conn);
            if let Some(session) = session.filter(|session| session.dialect != Dialect::Reader) {
                let pass = session.pass(channel);
                self.hub.pause(*conn, channel, pass);
                self.dirty.push(*conn);
            }
        }
    }

    /// `about` becomes the channel of the call, where it is about one.
    fn call_once(
        &mut self,
        request: Request<'_>,
        about: &mut Option<Channel>,
        now: Millis,
    ) -> Result<Done, Failure> {
        let body = request.body.map_err(Clone::clone)?;
        let text = str::from_utf8(body).map_err(|_| Problem::malformed("the body is no UTF-8"))?;
        let once = request
            .idempotency_key
            .map(|key| Once::read(key, request, text))
            .transpose()?;
        if let Some(once) = &once
            && let Some(outcome) = self.store.outcome(once.owner, once.key.as_str())?
        {
            return once.replay(outcome);
        }
        let body = CallBody::read(request.call, text)?;
        *about = body.channel().cloned();
        if body
            .space()
            .is_some_and(|space| space != self.space.as_str())
        {
            return Err(Problem::invalid("space", "the query names another space").into());
        }
        let publisher = request.publisher;
        self.config
            .check_call(publisher, Some(request.call), &self.space)?;
        let (config, hub, room) = (&self.config, &self.hub, &self.room);
        if let (CallBody::Publish(body), None) = (&body, &once)
            && let Some(change) = body.only()
        {
            let by = (config.as_ref(), publisher);
            return publish::publish_one(&mut self.store, by, hub, change, now);
        }
        self.store.transaction(|store| {
            let context = (config.as_ref(), hub, room, publisher);
            let done = perform(store, context, &body, request.seed, now)?;
            if let Some(once) = &once {
                let outcome = Outcome {
                    hash: once.hash.clone(),
                    seq: store.head(),
                    result: Some(done.result.clone()),
                };
                store.put_outcome(once.owner, once.key.as_str(), &outcome, now)?;
            }
            Ok(done)
        })
    }
}

/// An idempotency key with the digest of what it stands for.
struct Once<'a> {
    owner: Owner<'a>,
    key: RequestId,
    hash: String,
}

impl<'a> Once<'a> {
    fn read(key: &str, request: Request<'a>, body: &str) -> Result<Self, Problem> {
        let key = RequestId::parse(key)
            .map_err(|error| Problem::invalid("Idempotency-Key", error.to_string()))?;
        let hash = digest::content(&[request.call.path(), body]);
        let owner = Owner::Publisher(request.publisher);
        Ok(Self { owner, key, hash })
    }

    fn replay(&self, outcome: Outcome) -> Result<Done, Failure> {
        if outcome.hash != self.hash {
            let message = "this idempotency key was used for another request";
            return Err(Problem::new(protocol::Code::Conflict, message).into());
        }
        Ok(Done {
            result: outcome.result.unwrap_or_default(),
            seq: Some(outcome.seq),
            repeated: true,
            ..Done::default()
        })
    }
}

/// Does what is asked for to the log, inside the caller's transaction.
fn perform<S: Sql>(
    store: &mut Store<S>,
    (config, hub, room, publisher): (&Config, &Hub, &Room, &Publisher),
    body: &CallBody<'_>,
    seed: Option<Seed>,
    now: Millis,
) -> Result<Done, Failure> {
    match body {
        CallBody::Publish(body) => publish::publish(store, (config, publisher), hub, body, now),
        CallBody::Reset { channel, to, .. } => {
            config.check_publishes(publisher, channel)?;
            let edits = config.rules.find(channel)?.edits;
            let takes = Takes::Frees(channel.as_str().len());
            store.check_room(takes, config.limits.storage_bytes)?;
            let (seq, at) = store.advance(now);
            store.raise_floor(channel, Floor { seq, at })?;
            let audience = to.clone().unwrap_or(Audience::All);
            let to = hub.receivers(channel, &audience);
            let receivers = to.len();
            Ok(Done {
                result: publish::result_of(&store.cursor(channel, edits, seq), receivers),
                frames: notice(to, protocol::channel_reset(channel, "reset"), Place::Lost),
                seq: Some(seq),
                receivers,
                ..Done::default()
            })
        }
        CallBody::Change { channel, .. } => {
            config.check_publishes(publisher, channel)?;
            let to = hub.receivers(channel, &Audience::All);
            let elsewhere = config.rules.find(channel)?.source.is_some();
            let seq = match elsewhere {
                true => Some(store.change_outside(channel, now)?),
                false => None,
            };
            Ok(Done {
                result: count("receivers", to.len()),
                receivers: to.len(),
                seq,
                behind: elsewhere.then(|| (channel.clone(), to.clone())),
                frames: notice(to, protocol::channel_change(channel), Place::Same),
                ..Done::default()
            })
        }
        CallBody::DisconnectAll { .. } => Ok(disconnect(hub.all(), Close::Restart, None)),
        CallBody::Disconnect {
            identity, reason, ..
        } => {
            store.refuse(identity, now)?;
            let conns = hub.sessions_of(identity).map(|(conn, _)| conn).collect();
            Ok(disconnect(conns, Close::Revoked, reason.clone()))
        }
        CallBody::Topics(body) => topics(store, (config, hub, room), body, now),
        CallBody::Epoch { .. } => {
            let missing = || SqlError("an epoch without chance".to_owned());
            store.renew_epoch(seed.ok_or_else(missing)?, now)?;
            let mut done = disconnect(hub.all(), Close::Restart, None);
            done.result = protocol::object(|o| o.text("epoch", store.epoch().as_str()));
            Ok(done)
        }
    }
}

fn notice(to: Vec<ConnId>, text: String, place: Place) -> Vec<Outgoing> {
    vec![Outgoing {
        to,
        text: text.into(),
        place,
    }]
}

fn count(what: &str, number: usize) -> String {
    protocol::object(|o| o.number(what, number as u64))
}

fn disconnect(conns: Vec<ConnId>, close: Close, reason: Option<String>) -> Done {
    Done {
        result: count("disconnected", conns.len()),
        closes: conns
            .into_iter()
            .map(|conn| (conn, close, reason.clone()))
            .collect(),
        ..Done::default()
    }
}

fn topics<S: Sql>(
    store: &mut Store<S>,
    (config, hub, room): (&Config, &Hub, &Room),
    body: &TopicsBody,
    now: Millis,
) -> Result<Done, Failure> {
    for topic in &body.remove {
        store.remove_topic(&body.identity, topic.as_str(), now)?;
    }
    for topic in &body.add {
        store.restore_topic(&body.identity, topic.as_str())?;
    }
    let renewals = renew::plan_all(store, &config.rules, hub, room, &body.identity, |topics| {
        topics
            .changed(&body.identity, &body.add, &body.remove)
            .map_err(|error| Problem::invalid("add", error.to_string()))
    })?;
    Ok(Done {
        result: count("sessions", renewals.len()),
        renewals,
        ..Done::default()
    })
}
