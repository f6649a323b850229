//! Who is connected, and who receives a change: connections × subscriptions, and who holds a topic.
//!
//! A change for everyone goes to its channel's subscribers, one for topics to those of their
//! holders who are among them: the smaller of the two sets is walked, so it costs the receivers
//! and not the connections. Trees, not hash maps: names come from outside, and wasm has no random
//! hash keys.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::audience::Audience;
use crate::limits;
use crate::names::{Channel, ConnId, Identity, Millis, Topic};
use crate::session::{ChannelPass, Dialect, Grant, Presence, Session, Subscription};

/// What one identity, or one address without an identity, takes of a space.
#[derive(Debug, Clone, Copy, Default)]
struct Share {
    connections: usize,
    subscriptions: usize,
    attachments: usize,
}

/// Whose share a connection counts against; nobody's where the platform tells no address.
pub(crate) fn owner(grant: &Grant) -> Option<Rc<str>> {
    match (&grant.identity, &grant.visitor) {
        (Some(identity), _) => Some(["identity ", identity.as_str()].concat().into()),
        (None, Some(visitor)) => Some(["address ", visitor].concat().into()),
        (None, None) => None,
    }
}

/// A connection, as the hub holds it.
#[derive(Debug)]
struct Held {
    session: Session,
    /// Whose share it counts against.
    owner: Option<Rc<str>>,
    /// The length of its socket's attachment.
    attachment: usize,
}

/// The connections of one space.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    connections: BTreeMap<ConnId, Held>,
    channels: BTreeMap<Channel, BTreeSet<ConnId>>,
    holders: BTreeMap<Topic, BTreeSet<ConnId>>,
    /// What each identity, or address without one, takes of the space.
    shares: BTreeMap<Rc<str>, Share>,
    /// Who is present in each channel, seen by the others.
    members: BTreeMap<Channel, BTreeSet<ConnId>>,
    /// Who observes each channel's presence unseen.
    watchers: BTreeMap<Channel, BTreeSet<ConnId>>,
    subscriptions: usize,
    expiries: BTreeSet<(Millis, ConnId)>,
    /// When subscriptions end that a token of their channel opened.
    lapses: BTreeSet<(Millis, ConnId, Channel)>,
    /// The sum of all attachments.
    attachments_bytes: usize,
}

impl Hub {
    /// Takes a connection in, new or found again on waking, with the length of what its socket has
    /// attached.
    pub(crate) fn insert(&mut self, conn: ConnId, session: Session, attachment: usize) {
        self.remove(conn);
        let owner = owner(&session.grant);
        self.expiries
            .extend(session.grant.expires_at.map(|at| (at, conn)));
        for channel in session.subscriptions.keys() {
            add(&mut self.channels, channel, conn);
        }
        self.lapses.extend(lapses(conn, &session));
        for topic in session.grant.topics.iter() {
            add(&mut self.holders, topic, conn);
        }
        if let Some(owner) = &owner {
            let share = self.shares.entry(Rc::clone(owner)).or_default();
            share.connections += 1;
            share.subscriptions += session.subscriptions.len();
            share.attachments += attachment;
        }
        for (channel, presence) in &session.presence {
            add(self.present(presence), channel, conn);
        }
        self.subscriptions += session.subscriptions.len();
        self.attachments_bytes += attachment;
        let held = Held {
            session,
            owner,
            attachment,
        };
        self.connections.insert(conn, held);
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        let Held {
            session,
            owner,
            attachment,
        } = self.connections.remove(&conn)?;
        if let Some(at) = session.grant.expires_at {
            self.expiries.remove(&(at, conn));
        }
        for channel in session.subscriptions.keys() {
            take(&mut self.channels, channel, conn);
        }
        for lapse in lapses(conn, &session) {
            self.lapses.remove(&lapse);
        }
        for topic in session.grant.topics.iter() {
            take(&mut self.holders, topic, conn);
        }
        if let Some(owner) = owner
            && let Some(share) = self.shares.get_mut(&owner)
        {
            share.connections -= 1;
            share.subscriptions -= session.subscriptions.len();
            share.attachments -= attachment;
            if share.connections == 0 {
                self.shares.remove(&owner);
            }
        }
        self.attachments_bytes -= attachment;
        for (channel, presence) in &session.presence {
            take(self.present(presence), channel, conn);
        }
        self.subscriptions -= session.subscriptions.len();
        Some(session)
    }

    /// Notes how long a connection's attachment is.
    pub(crate) fn set_attachment(&mut self, conn: ConnId, bytes: usize) {
        let Some(held) = self.connections.get_mut(&conn) else {
            return;
        };
        let before = std::mem::replace(&mut held.attachment, bytes);
        self.attachments_bytes = self.attachments_bytes + bytes - before;
        if let Some(share) = share_of(&mut self.shares, held) {
            share.attachments = share.attachments + bytes - before;
        }
    }

    /// The sum of all attachments.
    pub(crate) fn attachments_bytes(&self) -> usize {
        self.attachments_bytes
    }

    pub(crate) fn session(&self, conn: ConnId) -> Option<&Session> {
        self.connections.get(&conn).map(|held| &held.session)
    }

    /// Whether a connection's client began without a hello.
    pub(crate) fn is_legacy(&self, conn: ConnId) -> bool {
        self.session(conn)
            .is_some_and(|session| session.dialect == Dialect::Legacy)
    }

    /// Whether a connection is a reader over HTTP.
    pub(crate) fn is_reader(&self, conn: ConnId) -> bool {
        self.session(conn)
            .is_some_and(|session| session.dialect == Dialect::Reader)
    }

    /// All connections, in order.
    pub(crate) fn all(&self) -> Vec<ConnId> {
        self.connections.keys().copied().collect()
    }

    /// The live sessions of an identity. Looks at every session: only operators ask.
    pub(crate) fn sessions_of<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> impl Iterator<Item = (ConnId, &'a Session)> {
        let of = |session: &&Session| session.grant.identity.as_ref() == Some(identity);
        self.sessions().filter(move |(_, session)| of(session))
    }

    /// Changes what does not decide who receives: anything but the grant and the subscriptions.
    pub(crate) fn session_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        let held = self.connections.get_mut(&conn);
        held.map(|held| &mut held.session)
    }

    /// Whether the space has room for one more subscription of whoever has this grant.
    pub(crate) fn has_room_for(&self, grant: &Grant, channel: &Channel) -> bool {
        self.subscriptions < limits::SUBSCRIPTIONS_OF_SPACE
            && self.share(grant).subscriptions < limits::SUBSCRIPTIONS_PER_IDENTITY
            && self.has_room_of(grant, channel.as_str().len())
    }

    /// Whether attachments of whoever has this grant may take so many more bytes.
    pub(crate) fn has_room_of(&self, grant: &Grant, bytes: usize) -> bool {
        self.attachments_bytes + bytes <= limits::ATTACHMENTS_BYTES
            && self.share(grant).attachments + bytes <= limits::ATTACHMENTS_PER_IDENTITY
    }

    fn share(&self, grant: &Grant) -> Share {
        let share = owner(grant).and_then(|owner| self.shares.get(&owner).copied());
        share.unwrap_or_default()
    }

    /// Makes a connection live on a channel.
    pub(crate) fn subscribe(&mut self, conn: ConnId, channel: &Channel, how: Subscription) {
        let is_new = self.change(conn, channel, |session| {
            session.paused.remove(channel);
            let before = session.subscriptions.insert(channel.clone(), how);
            before.is_none()
        });
        if let Some(is_new) = is_new {
            if is_new {
                self.count_subscription(conn, 1);
            }
            add(&mut self.channels, channel, conn);
        }
    }

    /// Ends a connection's subscription. Whether there was one.
    pub(crate) fn unsubscribe(&mut self, conn: ConnId, channel: &Channel) -> bool {
        let was_live = self.change(conn, channel, |session| {
            session.subscriptions.remove(channel).is_some()
        });
        if was_live == Some(true) {
            self.count_subscription(conn, -1);
            take(&mut self.channels, channel, conn);
        }
        was_live == Some(true)
    }

    /// Ends a connection's subscription until the pages of another have been asked for. It stays
    /// present, for as long as `pass` says.
    pub(crate) fn pause(&mut self, conn: ConnId, channel: &Channel, pass: Option<ChannelPass>) {
        self.unsubscribe(conn, channel);
        self.change(conn, channel, |session| {
            if session.presence.contains_key(channel) {
                session.paused.insert(channel.clone(), pass);
            }
        });
    }

    /// Takes away what a token of a channel opened.
    pub(crate) fn drop_pass(&mut self, conn: ConnId, channel: &Channel) {
        self.change(conn, channel, |session| {
            if let Some(how) = session.subscriptions.get_mut(channel) {
                how.pass = None;
            }
            if let Some(pass) = session.paused.get_mut(channel) {
                *pass = None;
            }
        });
    }

    fn count_subscription(&mut self, conn: ConnId, by: isize) {
        self.subscriptions = self.subscriptions.saturating_add_signed(by);
        let held = self.connections.get(&conn);
        if let Some(share) = held.and_then(|held| share_of(&mut self.shares, held)) {
            share.subscriptions = share.subscriptions.saturating_add_signed(by);
        }
    }

    /// Changes how a session holds a channel, and remembers when that lapses.
    fn change<T>(
        &mut self,
        conn: ConnId,
        channel: &Channel,
        change: impl FnOnce(&mut Session) -> T,
    ) -> Option<T> {
        let session = self.session_mut(conn)?;
        let before = session.pass(channel);
        let result = change(session);
        let after = session.pass(channel);
        if before != after {
            let lapse = |pass: ChannelPass| (pass.until, conn, channel.clone());
            before.map(|pass| self.lapses.remove(&lapse(pass)));
            self.lapses.extend(after.map(lapse));
        }
        Some(result)
    }

    fn present(&mut self, presence: &Presence) -> &mut BTreeMap<Channel, BTreeSet<ConnId>> {
        match presence {
            Presence::Member(_) => &mut self.members,
            Presence::Watcher => &mut self.watchers,
        }
    }

    /// Changes how a connection is present in a channel; `None` ends it. Returns how it was.
    pub(crate) fn set_presence(
        &mut self,
        conn: ConnId,
        channel: &Channel,
        presence: Option<Presence>,
    ) -> Option<Presence> {
        let before = self.change(conn, channel, |session| match &presence {
            Some(presence) => session.presence.insert(channel.clone(), presence.clone()),
            None => {
                session.paused.remove(channel);
                session.presence.remove(channel)
            }
        })?;
        if let Some(before) = &before {
            take(self.present(before), channel, conn);
        }
        if let Some(presence) = &presence {
            add(self.present(presence), channel, conn);
        }
        before
    }

    /// Who is present in a channel, in order.
    pub(crate) fn members(&self, channel: &Channel) -> impl ExactSizeIterator<Item = ConnId> {
        const NOBODY: &BTreeSet<ConnId> = &BTreeSet::new();
        let members = self.members.get(channel).unwrap_or(NOBODY);
        members.iter().copied()
    }

    /// Who is told of a channel's presence: members and watchers, in order.
    pub(crate) fn observers(&self, channel: &Channel) -> Vec<ConnId> {
        let watchers = self.watchers.get(channel).into_iter().flatten().copied();
        let mut observers: Vec<ConnId> = self.members(channel).chain(watchers).collect();
        observers.sort_unstable();
        observers
    }

    /// The connections that are live on a channel and may see what is for `audience`, in order.
    pub(crate) fn receivers(&self, channel: &Channel, audience: &Audience) -> Vec<ConnId> {
        let Some(subscribers) = self.channels.get(channel) else {
            return Vec::new();
        };
        let Audience::Topics(topics) = audience else {
            return subscribers.iter().copied().collect();
        };
        let mut found = Vec::new();
        for holders in topics.iter().filter_map(|topic| self.holders.get(topic)) {
            let (few, many) = if holders.len() < subscribers.len() {
                (holders, subscribers)
            } else {
                (subscribers, holders)
            };
            found.extend(few.iter().filter(|conn| many.contains(conn)));
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The connections whose tokens have ended, earliest first.
    pub(crate) fn expired(&self, now: Millis) -> Vec<ConnId> {
        let ended = self.expiries.iter().take_while(|(at, _)| *at <= now);
        ended.map(|(_, conn)| *conn).collect()
    }

    /// The subscriptions whose channel's token has ended, earliest first.
    pub(crate) fn lapsed(&self, now: Millis) -> Vec<(ConnId, Channel)> {
        let ended = self.lapses.iter().take_while(|(at, _, _)| *at <= now);
        ended
            .map(|(_, conn, channel)| (*conn, channel.clone()))
            .collect()
    }

    /// When the next token ends, of a connection or of a subscription.
    pub(crate) fn next_expiry(&self) -> Option<Millis> {
        let expiry = self.expiries.first().map(|(at, _)| *at);
        let lapse = self.lapses.first().map(|(at, _, _)| *at);
        expiry.into_iter().chain(lapse).min()
    }

    /// How many connections an identity has, or without one a visitor's address.
    pub(crate) fn connections_of(&self, grant: &Grant) -> usize {
        self.share(grant).connections
    }

    /// All sessions, in the order of their connections.
    pub(crate) fn sessions(&self) -> impl Iterator<Item = (ConnId, &Session)> {
        let held = self.connections.iter();
        held.map(|(conn, held)| (*conn, &held.session))
    }

    /// The channels with a subscriber, by name, and how many each has.
    pub(crate) fn channels(&self) -> impl Iterator<Item = (&Channel, usize)> {
        let channels = self.channels.iter();
        channels.map(|(channel, conns)| (channel, conns.len()))
    }

    /// How many identities, and addresses without one, are connected.
    pub(crate) fn owners(&self) -> usize {
        self.shares.len()
    }

    /// How many connections show themselves in a channel, counted for each channel.
    pub(crate) fn presences(&self) -> usize {
        self.members.values().map(BTreeSet::len).sum()
    }

    /// Connections, channels with a subscriber, and subscriptions.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        (
            self.connections.len(),
            self.channels.len(),
            self.subscriptions,
        )
    }
}

/// What a connection counts against.
fn share_of<'a>(shares: &'a mut BTreeMap<Rc<str>, Share>, held: &Held) -> Option<&'a mut Share> {
    let owner = held.owner.as_ref()?;
    shares.get_mut(owner)
}

fn lapses(conn: ConnId, session: &Session) -> impl Iterator<Item = (Millis, ConnId, Channel)> {
    let passes = session.passes();
    passes.map(move |(channel, pass)| (pass.until, conn, channel.clone()))
}

fn add<K: Clone + Ord>(index: &mut BTreeMap<K, BTreeSet<ConnId>>, key: &K, conn: ConnId) {
    match index.get_mut(key) {
        Some(conns) => _ = conns.insert(conn),
        None => _ = index.insert(key.clone(), BTreeSet::from([conn])),
    }
}

fn take<K: Ord>(index: &mut BTreeMap<K, BTreeSet<ConnId>>, key: &K, conn: ConnId) {
    if let Some(conns) = index.get_mut(key) {
        conns.remove(&conn);
        if conns.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::Topics;
    use crate::names::SessionId;

    fn session(user: &str, topics: &[&str], expires_at: u64) -> Session {
        let identity = Identity::parse(user).unwrap();
        let grant = Grant {
            topics: Topics::granted(Some(&identity), topics.iter().copied()).unwrap(),
            identity: Some(identity),
            issued_at: Millis(0),
            expires_at: Some(Millis(expires_at)),
            visitor: None,
            context: None,
            claims: None,
            handshake: None,
        };
        Session::new(SessionId::parse(user).unwrap(), grant)
    }

    fn to(topics: &[&str]) -> Audience {
        Audience::of(topics.iter().map(|t| Topic::parse(t).unwrap())).unwrap()
    }

    #[test]
    fn a_change_reaches_its_audience_once_and_nobody_else() {
        let (todos, other) = (
            Channel::parse("todos").unwrap(),
            Channel::parse("x").unwrap(),
        );
        let mut hub = Hub::default();
        for (conn, user) in ["alice", "bob", "carol"].into_iter().enumerate() {
            hub.insert(ConnId(conn as u32), session(user, &["team:a"], 100), 0);
            hub.subscribe(ConnId(conn as u32), &todos, Subscription::default());
        }
        hub.unsubscribe(ConnId(2), &todos);
        let receivers = |hub: &Hub, channel, audience: &Audience| -> Vec<u32> {
            hub.receivers(channel, audience)
                .iter()
                .map(|c| c.0)
                .collect()
        };
        assert_eq!(receivers(&hub, &todos, &Audience::All), [0, 1]);
        assert_eq!(
            receivers(&hub, &todos, &to(&["user:bob", "team:a"])),
            [0, 1]
        );
        assert_eq!(receivers(&hub, &todos, &to(&["user:bob"])), [1]);
        assert_eq!(receivers(&hub, &todos, &to(&["user:carol"])), [0; 0]);
        assert_eq!(receivers(&hub, &other, &Audience::All), [0; 0]);
        hub.remove(ConnId(0));
        hub.remove(ConnId(1));
        assert!(hub.channels.is_empty(), "an empty index is dropped");
        assert_eq!(hub.counts(), (1, 0, 0));
        hub.remove(ConnId(2));
        assert!(hub.holders.is_empty());
        assert_eq!(hub.next_expiry(), None);
    }

    #[test]
    fn connections_are_counted_by_identity_or_else_by_address() {
        let nobody = |address: Option<&str>| Grant {
            visitor: address.map(Into::into),
            ..Grant::default()
        };
        let alice = session("alice", &[], 100);
        let mut hub = Hub::default();
        for (conn, grant) in [
            (1, nobody(Some("a"))),
            (2, nobody(Some("a"))),
            (3, nobody(None)),
        ] {
            let id = SessionId::parse("s").unwrap();
            hub.insert(ConnId(conn), Session::new(id, grant), 0);
        }
        hub.insert(ConnId(4), alice.clone(), 0);
        let counted = |hub: &Hub, grant: &Grant| hub.connections_of(grant);
        assert_eq!(counted(&hub, &nobody(Some("a"))), 2);
        assert_eq!(counted(&hub, &nobody(Some("b"))), 0);
        assert_eq!(
            counted(&hub, &nobody(None)),
            0,
            "where the platform tells no address"
        );
        assert_eq!(counted(&hub, &alice.grant), 1);
        hub.remove(ConnId(1));
        hub.remove(ConnId(2));
        assert_eq!(counted(&hub, &nobody(Some("a"))), 0);
        assert!(!hub.shares.keys().any(|owner| owner.starts_with("address")));
    }

    #[test]
    fn attachments_are_summed() {
        let mut hub = Hub::default();
        for (conn, bytes) in [(1, 10), (2, 20), (1, 15)] {
            hub.insert(ConnId(conn), session("alice", &[], 100), 7);
            hub.set_attachment(ConnId(conn), bytes);
        }
        hub.set_attachment(ConnId(3), 9);
        assert_eq!(hub.attachments_bytes(), 35, "of whoever is here");
        hub.remove(ConnId(2));
        hub.remove(ConnId(2));
        assert_eq!(hub.attachments_bytes(), 15);
    }

    #[test]
    fn sessions_expire_at_their_end_and_not_before() {
        let mut hub = Hub::default();
        hub.insert(ConnId(1), session("alice", &[], 100), 0);
        hub.insert(ConnId(2), session("bob", &[], 200), 0);
        assert_eq!(hub.expired(Millis(99)), []);
        assert_eq!(hub.expired(Millis(100)), [ConnId(1)]);
        assert_eq!(hub.expired(Millis(500)), [ConnId(1), ConnId(2)]);
        hub.remove(ConnId(1));
        assert_eq!(hub.next_expiry(), Some(Millis(200)));
    }

    #[test]
    fn subscriptions_lapse_at_the_end_of_their_pass_and_are_forgotten_with_it() {
        let (conn, room) = (ConnId(1), Channel::parse("room").unwrap());
        let until = |at| Subscription {
            pass: Some(ChannelPass {
                until: Millis(at),
                write: false,
            }),
            ..Subscription::default()
        };
        let mut hub = Hub::default();
        hub.insert(conn, session("alice", &[], 500), 0);
        hub.subscribe(conn, &room, until(100));
        assert_eq!(hub.next_expiry(), Some(Millis(100)));
        hub.subscribe(conn, &room, until(200));
        assert_eq!(hub.lapsed(Millis(199)), []);
        assert_eq!(hub.lapsed(Millis(200)), [(conn, room.clone())]);
        let session = hub.remove(conn).unwrap();
        assert_eq!(hub.lapsed(Millis(999)), []);
        hub.insert(conn, session, 0);
        assert_eq!(
            hub.next_expiry(),
            Some(Millis(200)),
            "found again on waking"
        );
        hub.unsubscribe(conn, &room);
        assert_eq!(hub.next_expiry(), Some(Millis(500)));
        hub.subscribe(conn, &room, until(100));
        hub.subscribe(conn, &room, Subscription::default());
        assert_eq!(hub.next_expiry(), Some(Millis(500)));
    }
}
