//! One connection's session: what the engine must know of it, also after the object has slept.

use std::collections::BTreeMap;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use crate::audience::Topics;
use crate::limits;
use crate::names::{Channel, Identity, Millis, SessionId};
use crate::protocol::Problem;

/// What a verified token grants: who, what, until when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grant {
    /// The verified user; `None` without a token.
    pub identity: Option<Identity>,
    /// `user:<identity>` and what the token grants.
    pub topics: Topics,
    /// When the token was issued; 0 where it does not say.
    pub issued_at: Millis,
    /// When the token ends; `None` without a token.
    pub expires_at: Option<Millis>,
    /// What stands for the address of a visitor without an identity.
    pub visitor: Option<Rc<str>>,
    /// What the app's authentication endpoint, or a team's own authenticator, says beside it: at
    /// most [`limits::CONTEXT_BYTES`] of JSON, for the app's own handlers.
    pub context: Option<Rc<str>>,
    /// The payload of the verified token, as JSON: at most [`limits::CLAIMS_BYTES`]. Kept only where
    /// a channel's source is told who asks.
    pub claims: Option<Rc<str>>,
    /// What the upgrade, or the request over HTTP, brought along, as JSON `{"url","headers"}`: at
    /// most [`limits::HANDSHAKE_BYTES`]. Kept only where a channel's source is told who asks.
    pub handshake: Option<Rc<str>>,
}

impl Grant {
    /// The topics beside the identity's own, as texts.
    pub(crate) fn granted_topics(&self) -> Vec<String> {
        let own = self.identity.as_ref().map(Identity::topic);
        let granted = self
            .topics
            .iter()
            .filter(|topic| own.as_ref() != Some(*topic));
        granted.map(ToString::to_string).collect()
    }
}

/// Which dialect a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Dialect {
    /// It has not said anything yet.
    Unknown,
    /// It has said hello: protocol version 1.
    Hello,
    /// It began without a hello: @sveltebase/sync 1.4 and its like.
    Legacy,
    /// It has no socket: it reads one channel over HTTP. Never written down.
    Reader,
}

/// What a connection wants of a channel that it is live on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Whether pages say who changed the rows, and when.
    pub meta: bool,
    /// What a token of the channel opened.
    pub pass: Option<ChannelPass>,
}

/// How a connection is present in a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Presence {
    /// Seen by the others, with a state: at most [`limits::STATE_BYTES`] of JSON.
    Member(Rc<str>),
    /// Observes unseen.
    Watcher,
}

impl Presence {
    /// The state that the others see.
    #[must_use]
    pub fn state(&self) -> Option<&Rc<str>> {
        match self {
            Self::Member(state) => Some(state),
            Self::Watcher => None,
        }
    }
}

/// What a token of one channel opens for a connection, and until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelPass {
    /// When the subscription ends, unless it is renewed.
    pub until: Millis,
    /// Whether the connection may mutate the channel.
    pub write: bool,
}

/// One connection's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its public name.
    pub id: SessionId,
    /// Which dialect the client speaks.
    pub dialect: Dialect,
    /// What its token grants.
    pub grant: Grant,
    /// The channels that it is live on.
    pub subscriptions: BTreeMap<Channel, Subscription>,
    /// The channels that it is present in or watches: each is subscribed to, or paused.
    pub presence: BTreeMap<Channel, Presence>,
    /// The channels that it is present in but not live on just now, because the pages of a new
    /// subscription are still being asked for; with what a token of the channel opened.
    pub paused: BTreeMap<Channel, Option<ChannelPass>>,
    /// The app's installation, as `hello` said: at most [`limits::DEVICE_BYTES`].
    pub device: Option<Rc<str>>,
    /// Whether another token is being judged, and what the client sent since is held back. Lost
    /// with the memory: a session that is found so on waking is closed.
    pub renewing: bool,
    /// Whether it waits for what a source says. As for `renewing`, it does not wait any more on
    /// waking.
    pub asking: bool,
}

/// Who asks for something of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// The verified user.
    pub identity: Option<&'a Identity>,
    /// What it holds.
    pub topics: &'a Topics,
    /// What a token of the channel opened.
    pub pass: Option<ChannelPass>,
}

/// How a session is written into its socket's attachment.
///
/// Postcard, because the platform bounds an attachment at 16,384 bytes and counts text objects
/// twice: a name costs its bytes and at most two more.
#[derive(Serialize, Deserialize)]
enum Attachment {
    V1 {
        id: SessionId,
        dialect: Dialect,
        identity: Option<Identity>,
        topics: Vec<String>,
        issued_at: Millis,
        expires_at: Option<Millis>,
        visitor: Option<String>,
        context: Option<String>,
        claims: Option<String>,
        handshake: Option<String>,
        subscriptions: Vec<(Channel, Subscription)>,
        presence: Vec<(Place, Option<String>)>,
        device: Option<String>,
        renewing: bool,
    },
}

/// A channel of a presence: the place of its subscription, so that its name is not kept twice.
#[derive(Serialize, Deserialize)]
enum Place {
    At(u16),
    /// Paused.
    Named(Channel, Option<ChannelPass>),
}

/// What a subscription takes of an attachment beside its name, at most: the name's length in two
/// bytes, `meta`, and a pass.
const SUBSCRIPTION_OVERHEAD: usize = 14;

/// What a session may take of an attachment.
const ROOM: usize = limits::ATTACHMENT_BYTES - limits::ATTACHMENT_OVERHEAD - limits::PRESENCE_ROOM;

/// What the session takes of that room.
fn encoded_len(session: &Session) -> usize {
    let attachment = session.encode().map_or(usize::MAX, |bytes| bytes.len());
    attachment.saturating_sub(session.presence_len())
}

impl Session {
    /// The session of a connection that was just accepted.
    #[must_use]
    pub fn new(id: SessionId, grant: Grant) -> Self {
        Self {
            id,
            dialect: Dialect::Unknown,
            grant,
            subscriptions: BTreeMap::new(),
            presence: BTreeMap::new(),
            paused: BTreeMap::new(),
            device: None,
            renewing: false,
            asking: false,
        }
    }

    /// The session as somebody who asks for something of a channel.
    #[must_use]
    pub fn asker(&self, channel: &Channel) -> Asker<'_> {
        Asker {
            identity: self.grant.identity.as_ref(),
            topics: &self.grant.topics,
            pass: self.pass(channel),
        }
    }

    /// What a token of a channel opened.
    #[must_use]
    pub fn pass(&self, channel: &Channel) -> Option<ChannelPass> {
        let live = self.subscriptions.get(channel).and_then(|how| how.pass);
        live.or_else(|| self.paused.get(channel).copied().flatten())
    }

    /// All that tokens of channels opened.
    pub(crate) fn passes(&self) -> impl Iterator<Item = (&Channel, ChannelPass)> {
        let live = self.subscriptions.iter().map(|(at, how)| (at, how.pass));
        let paused = self.paused.iter().map(|(at, pass)| (at, *pass));
        live.chain(paused)
            .filter_map(|(at, pass)| Some((at, pass?)))
    }

    /// The channels that it is live on or will be, however many pages that takes.
    fn held(&self) -> impl Iterator<Item = &Channel> {
        self.subscriptions.keys().chain(self.paused.keys())
    }

    /// Whether one more channel of this name fits beside what the session holds, and beside the
    /// presence that it may have yet.
    #[must_use]
    pub fn has_room_for(&self, channel: &Channel, most: usize) -> bool {
        if self.holds(channel) {
            return true;
        }
        let bytes: usize = self.held().map(|c| c.as_str().len()).sum();
        let more = channel.as_str().len() + SUBSCRIPTION_OVERHEAD;
        self.held().count() < most
            && bytes + channel.as_str().len() <= limits::SUBSCRIPTIONS_BYTES
            && encoded_len(self).saturating_add(more) <= ROOM
    }

    /// Whether a pass fits in place of what opens a channel that the session is live on. One that
    /// comes with a new subscription has its place there.
    #[must_use]
    pub fn has_room_for_pass(&self, channel: &Channel, pass: ChannelPass) -> bool {
        let Some(how) = self.subscriptions.get(channel) else {
            return true;
        };
        let len = |pass: Option<ChannelPass>| postcard::to_allocvec(&pass).map_or(0, |b| b.len());
        let more = len(Some(pass)).saturating_sub(len(how.pass));
        more == 0 || encoded_len(self).saturating_add(more) <= ROOM
    }

    /// What presence takes of the room that is kept for it.
    fn presence_len(&self) -> usize {
        let state = |presence: &Presence| presence.state().map_or(0, |state| state.len());
        let states: usize = self.presence.values().map(state).sum();
        states + limits::PRESENCE_OVERHEAD * self.presence.len()
    }

    /// Whether the session may be present in a channel, beside its presence in others.
    ///
    /// # Errors
    /// `invalid` with what there is too much of.
    pub(crate) fn has_room_to_be(
        &self,
        channel: &Channel,
        presence: &Presence,
    ) -> Result<(), Problem> {
        let len = |presence: &Presence| presence.state().map_or(0, |state| state.len());
        let others = self.presence.iter().filter(|(at, _)| *at != channel);
        let (mut count, mut bytes) = (0, 0);
        for (_, other) in others {
            count += 1;
            bytes += len(other);
        }
        let state = len(presence);
        if state > limits::STATE_BYTES || bytes + state > limits::PRESENCE_BYTES {
            let message = "a state has at most 1 KiB, all of a connection 2 KiB";
            return Err(Problem::invalid("state", message));
        }
        if count >= limits::PRESENCES {
            let message = "a connection is present in at most 16 channels";
            return Err(Problem::invalid("channel", message));
        }
        Ok(())
    }

    /// Whether the session is live on a channel, or present and about to be.
    pub(crate) fn holds(&self, channel: &Channel) -> bool {
        self.subscriptions.contains_key(channel) || self.paused.contains_key(channel)
    }

    fn places(&self) -> Vec<(Place, Option<String>)> {
        let place = |channel: &Channel| {
            let at = self.subscriptions.keys().position(|held| held == channel);
            match at.and_then(|at| u16::try_from(at).ok()) {
                Some(at) => Place::At(at),
                None => Place::Named(channel.clone(), self.pass(channel)),
            }
        };
        let state = |presence: &Presence| presence.state().map(|state| state.to_string());
        let presence = self.presence.iter();
        presence
            .map(|(channel, how)| (place(channel), state(how)))
            .collect()
    }

    /// The bytes for the socket's attachment.
    ///
    /// # Errors
    /// Only if the encoder fails, which it does not for these types.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        postcard::to_allocvec(&Attachment::V1 {
            id: self.id.clone(),
            dialect: self.dialect,
            identity: self.grant.identity.clone(),
            topics: self.grant.granted_topics(),
            issued_at: self.grant.issued_at,
            expires_at: self.grant.expires_at,
            visitor: self.grant.visitor.as_deref().map(str::to_owned),
            context: self.grant.context.as_deref().map(str::to_owned),
            claims: self.grant.claims.as_deref().map(str::to_owned),
            handshake: self.grant.handshake.as_deref().map(str::to_owned),
            subscriptions: self.subscriptions.clone().into_iter().collect(),
            presence: self.places(),
            device: self.device.as_deref().map(str::to_owned),
            renewing: self.renewing || self.asking,
        })
    }

    /// The session that an attachment holds; `None` if it holds none that this version can read.
    #[must_use]
    pub fn decode(attachment: &[u8]) -> Option<Self> {
        let Attachment::V1 {
            id,
            dialect,
            identity,
            topics,
            issued_at,
            expires_at,
            visitor,
            context,
            claims,
            handshake,
            subscriptions,
            presence,
            device,
            renewing,
        } = postcard::from_bytes(attachment).ok()?;
        let topics = Topics::granted(identity.as_ref(), topics.iter().map(String::as_str)).ok()?;
        let mut paused = BTreeMap::new();
        let presence = presence.into_iter().map(|(place, state)| {
            let channel = match place {
                Place::At(at) => subscriptions.get(usize::from(at))?.0.clone(),
                Place::Named(channel, pass) => {
                    paused.insert(channel.clone(), pass);
                    channel
                }
            };
            let presence = state.map_or(Presence::Watcher, |state| Presence::Member(state.into()));
            Some((channel, presence))
        });
        Some(Self {
            id,
            dialect,
            presence: presence.collect::<Option<_>>()?,
            paused,
            grant: Grant {
                identity,
                topics,
                issued_at,
                expires_at,
                visitor: visitor.map(Into::into),
                context: context.map(Into::into),
                claims: claims.map(Into::into),
                handshake: handshake.map(Into::into),
            },
            subscriptions: subscriptions.into_iter().collect(),
            device: device.map(Into::into),
            renewing,
            asking: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session with everything at its bound, and channels of `name_bytes` each, opened by a pass
    /// or not.
    fn largest(name_bytes: usize, pass_each: bool) -> Session {
        filled(name_bytes, pass_each, 0, 0)
    }

    /// The same where handlers are told who asks.
    fn largest_told(name_bytes: usize, pass_each: bool) -> Session {
        let (claims, handshake) = (limits::CLAIMS_BYTES, limits::HANDSHAKE_BYTES);
        filled(name_bytes, pass_each, claims, handshake)
    }

    fn filled(name_bytes: usize, pass_each: bool, claims: usize, handshake: usize) -> Session {
        let identity = Identity::parse(&"i".repeat(limits::IDENTITY_BYTES)).unwrap();
        let topics: Vec<String> = (0..limits::TOPICS).map(|i| format!("{i:064}")).collect();
        let topics = Topics::granted(Some(&identity), topics.iter().map(String::as_str)).unwrap();
        let mut session = Session::new(
            SessionId::parse("abcdefghijklmnopqrstuv").unwrap(),
            Grant {
                identity: Some(identity),
                topics,
                issued_at: Millis(limits::SAFE_INTEGER),
                expires_at: Some(Millis(limits::SAFE_INTEGER)),
                visitor: None,
                context: Some("c".repeat(limits::CONTEXT_BYTES).into()),
                claims: (claims > 0).then(|| "c".repeat(claims).into()),
                handshake: (handshake > 0).then(|| "h".repeat(handshake).into()),
            },
        );
        for i in 0.. {
            let channel = Channel::parse(&format!("{i:0name_bytes$}")).unwrap();
            if !session.has_room_for(&channel, limits::SUBSCRIPTIONS) {
                break;
            }
            let pass = ChannelPass {
                until: Millis(limits::SAFE_INTEGER),
                write: true,
            };
            let how = Subscription {
                meta: true,
                pass: pass_each.then_some(pass),
            };
            session.subscriptions.insert(channel, how);
        }
        let held: Vec<Channel> = session.subscriptions.keys().cloned().collect();
        for channel in held.into_iter().rev().take(limits::PRESENCES) {
            let state = "s".repeat(limits::PRESENCE_BYTES / limits::PRESENCES);
            session
                .presence
                .insert(channel, Presence::Member(state.into()));
        }
        session
    }

    #[test]
    fn the_largest_session_fits_an_attachment() {
        let room = limits::ATTACHMENT_BYTES - limits::ATTACHMENT_OVERHEAD;
        for name_bytes in [3, 4, 8, 32, 128, 256] {
            for (pass_each, fill) in [
                (false, largest as fn(usize, bool) -> Session),
                (true, largest),
                (false, largest_told),
                (true, largest_told),
            ] {
                let session = fill(name_bytes, pass_each);
                assert!(!session.subscriptions.is_empty());
                let bytes = session.encode().unwrap();
                assert!(
                    bytes.len() <= room,
                    "{} for names of {name_bytes}",
                    bytes.len()
                );
                assert_eq!(Session::decode(&bytes), Some(session));
            }
        }
    }

    #[test]
    fn subscriptions_are_bounded_in_number_and_in_bytes() {
        let mut small = largest(256, false);
        small.grant = Grant::default();
        small.subscriptions.clear();
        let fill = |mut session: Session, name_bytes: usize| {
            for i in 0.. {
                let channel = Channel::parse(&format!("{i:0name_bytes$}")).unwrap();
                if !session.has_room_for(&channel, limits::SUBSCRIPTIONS) {
                    break;
                }
                session
                    .subscriptions
                    .insert(channel, Subscription::default());
            }
            session
        };
        let many = fill(small.clone(), 4);
        assert_eq!(many.subscriptions.len(), limits::SUBSCRIPTIONS);
        for name_bytes in [64, 256] {
            // Also beside the largest identity, topics and context.
            let bound = limits::SUBSCRIPTIONS_BYTES / name_bytes;
            assert_eq!(fill(small.clone(), name_bytes).subscriptions.len(), bound);
            assert_eq!(largest(name_bytes, false).subscriptions.len(), bound);
        }
        let held = many.subscriptions.keys().next().unwrap();
        assert!(
            many.has_room_for(held, 0),
            "subscribing again needs no room"
        );
        let other = Channel::parse("other").unwrap();
        assert!(small.has_room_for(&other, 1) && !small.has_room_for(&other, 0));
    }

    #[test]
    fn presence_is_bounded_in_each_channel_in_all_and_in_number() {
        let channel = |i: usize| Channel::parse(&i.to_string()).unwrap();
        let member = |bytes: usize| Presence::Member("s".repeat(bytes).into());
        let refused = |session: &Session, at: usize, presence: &Presence| {
            let room = session.has_room_to_be(&channel(at), presence);
            room.err().and_then(|problem| problem.field)
        };
        let mut session = largest(3, false);
        session.presence.clear();
        let most = limits::STATE_BYTES;
        assert_eq!(refused(&session, 0, &member(most)), None);
        let state = Some("state".into());
        assert_eq!(refused(&session, 0, &member(most + 1)), state);
        session.presence.insert(channel(0), member(most));
        session.presence.insert(channel(1), member(most - 1));
        assert_eq!(refused(&session, 2, &member(1)), None);
        assert_eq!(refused(&session, 2, &member(2)), state);
        assert_eq!(refused(&session, 1, &member(most)), None, "in its place");
        session.presence.clear();
        for i in 1..limits::PRESENCES {
            session.presence.insert(channel(i), Presence::Watcher);
        }
        assert_eq!(refused(&session, 99, &Presence::Watcher), None);
        session.presence.insert(channel(0), Presence::Watcher);
        assert_eq!(refused(&session, 0, &member(1)), None);
        let at = Some("channel".into());
        assert_eq!(refused(&session, 99, &Presence::Watcher), at);
    }

    /// The channels that the session is present in are paused, as they are while pages are asked for.
    fn pause(session: &mut Session) {
        for channel in session.presence.keys() {
            let pass = session.pass(channel);
            session.subscriptions.remove(channel);
            session.paused.insert(channel.clone(), pass);
        }
    }

    #[test]
    fn presence_without_a_live_subscription_survives_sleep_by_name() {
        for pass_each in [false, true] {
            let mut session = largest(256, pass_each);
            let live = session.encode().unwrap().len();
            pause(&mut session);
            let paused = session.encode().unwrap();
            assert!(paused.len() <= live);
            assert_eq!(Session::decode(&paused).as_ref(), Some(&session));
            assert_eq!(session.passes().count() > 0, pass_each);
        }
    }

    #[test]
    fn a_paused_channel_keeps_its_room() {
        let mut session = largest(256, false);
        let held = session.presence.keys().next().unwrap().clone();
        let other = Channel::parse("o").unwrap();
        let most = session.subscriptions.len();
        pause(&mut session);
        assert!(session.has_room_for(&held, most));
        assert!(!session.has_room_for(&other, most) && session.has_room_for(&held, 0));
    }

    #[test]
    fn garbage_is_no_session() {
        assert_eq!(Session::decode(&[]), None);
        assert_eq!(Session::decode(&[0xff; 64]), None);
        let mut bytes = largest(32, true).encode().unwrap();
        bytes.truncate(bytes.len() / 2);
        assert_eq!(Session::decode(&bytes), None);
    }
}
