//! Who is connected, and who receives a change: connections × subscriptions, by topic.
//!
//! A change finds its receivers in O(receivers): every subscription stands in its channel's index
//! once for everyone's changes and once under each topic that its connection holds. Trees, not
//! hash maps: names come from outside, and wasm has no random hash keys.

use std::collections::{BTreeMap, BTreeSet};

use crate::audience::Audience;
use crate::names::{Channel, ConnId, Identity, Millis, Topic};
use crate::session::{Dialect, Session, Subscription};

#[derive(Debug, Default)]
struct Subscribers {
    all: BTreeSet<ConnId>,
    by_topic: BTreeMap<Topic, BTreeSet<ConnId>>,
}

/// The connections of one space.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    sessions: BTreeMap<ConnId, Session>,
    channels: BTreeMap<Channel, Subscribers>,
    expiries: BTreeSet<(Millis, ConnId)>,
    /// The length of each socket's attachment, and their sum.
    attachments: BTreeMap<ConnId, usize>,
    attachments_bytes: usize,
}

impl Hub {
    /// Takes a connection in, new or found again on waking.
    pub(crate) fn insert(&mut self, conn: ConnId, session: Session) {
        self.remove(conn);
        self.expiries
            .extend(session.grant.expires_at.map(|at| (at, conn)));
        for channel in session.subscriptions.keys() {
            index(&mut self.channels, conn, channel, &session);
        }
        self.sessions.insert(conn, session);
    }

    /// Forgets a connection.
    pub(crate) fn remove(&mut self, conn: ConnId) -> Option<Session> {
        let session = self.sessions.remove(&conn)?;
        self.set_attachment(conn, None);
        if let Some(at) = session.grant.expires_at {
            self.expiries.remove(&(at, conn));
        }
        for channel in session.subscriptions.keys() {
            unindex(&mut self.channels, conn, channel, &session);
        }
        Some(session)
    }

    /// Notes how long a connection's attachment is.
    pub(crate) fn set_attachment(&mut self, conn: ConnId, bytes: Option<usize>) {
        let old = match bytes {
            Some(bytes) => self.attachments.insert(conn, bytes),
            None => self.attachments.remove(&conn),
        };
        self.attachments_bytes -= old.unwrap_or_default();
        self.attachments_bytes += bytes.unwrap_or_default();
    }

    /// The sum of all attachments.
    pub(crate) fn attachments_bytes(&self) -> usize {
        self.attachments_bytes
    }

    pub(crate) fn session(&self, conn: ConnId) -> Option<&Session> {
        self.sessions.get(&conn)
    }

    /// Whether a connection's client began without a hello.
    pub(crate) fn is_legacy(&self, conn: ConnId) -> bool {
        self.session(conn)
            .is_some_and(|session| session.dialect == Dialect::Legacy)
    }

    /// All connections, in order.
    pub(crate) fn all(&self) -> Vec<ConnId> {
        self.sessions.keys().copied().collect()
    }

    /// The live sessions of an identity. Looks at every session: only operators ask.
    pub(crate) fn sessions_of<'a>(
        &'a self,
        identity: &'a Identity,
    ) -> impl Iterator<Item = (ConnId, &'a Session)> {
        let of = |session: &&Session| session.grant.identity.as_ref() == Some(identity);
        let sessions = self.sessions.iter().map(|(conn, session)| (*conn, session));
        sessions.filter(move |(_, session)| of(session))
    }

    /// Changes what does not decide who receives: anything but the grant and the subscriptions.
    pub(crate) fn session_mut(&mut self, conn: ConnId) -> Option<&mut Session> {
        self.sessions.get_mut(&conn)
    }

    /// Makes a connection live on a channel.
    pub(crate) fn subscribe(&mut self, conn: ConnId, channel: &Channel, how: Subscription) {
        if let Some(session) = self.sessions.get_mut(&conn) {
            session.subscriptions.insert(channel.clone(), how);
            index(&mut self.channels, conn, channel, session);
        }
    }

    /// Ends a connection's subscription. Whether there was one.
    pub(crate) fn unsubscribe(&mut self, conn: ConnId, channel: &Channel) -> bool {
        let Some(session) = self.sessions.get_mut(&conn) else {
            return false;
        };
        unindex(&mut self.channels, conn, channel, session);
        session.subscriptions.remove(channel).is_some()
    }

    /// The connections that are live on a channel and may see what is for `audience`, in order.
    pub(crate) fn receivers(&self, channel: &Channel, audience: &Audience) -> Vec<ConnId> {
        let Some(subscribers) = self.channels.get(channel) else {
            return Vec::new();
        };
        match audience {
            Audience::All => subscribers.all.iter().copied().collect(),
            Audience::Topics(topics) => {
                let holders = topics
                    .iter()
                    .filter_map(|topic| subscribers.by_topic.get(topic));
                let mut found: Vec<ConnId> = holders.flatten().copied().collect();
                found.sort_unstable();
                found.dedup();
                found
            }
        }
    }

    /// The connections whose tokens have ended, earliest first.
    pub(crate) fn expired(&self, now: Millis) -> Vec<ConnId> {
        let ended = self.expiries.iter().take_while(|(at, _)| *at <= now);
        ended.map(|(_, conn)| *conn).collect()
    }

    /// When the next token ends.
    pub(crate) fn next_expiry(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Connections, channels with a subscriber, and subscriptions.
    pub(crate) fn counts(&self) -> (usize, usize, usize) {
        let subscriptions = self.channels.values().map(|c| c.all.len()).sum();
        (self.sessions.len(), self.channels.len(), subscriptions)
    }
}

fn index(
    channels: &mut BTreeMap<Channel, Subscribers>,
    conn: ConnId,
    channel: &Channel,
    session: &Session,
) {
    let subscribers = channels.entry(channel.clone()).or_default();
    subscribers.all.insert(conn);
    for topic in session.grant.topics.iter() {
        subscribers
            .by_topic
            .entry(topic.clone())
            .or_default()
            .insert(conn);
    }
}

fn unindex(
    channels: &mut BTreeMap<Channel, Subscribers>,
    conn: ConnId,
    channel: &Channel,
    session: &Session,
) {
    let Some(subscribers) = channels.get_mut(channel) else {
        return;
    };
    subscribers.all.remove(&conn);
    for topic in session.grant.topics.iter() {
        if let Some(holders) = subscribers.by_topic.get_mut(topic) {
            holders.remove(&conn);
            if holders.is_empty() {
                subscribers.by_topic.remove(topic);
            }
        }
    }
    if subscribers.all.is_empty() {
        channels.remove(channel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::Topics;
    use crate::names::SessionId;
    use crate::session::Grant;

    fn session(user: &str, topics: &[&str], expires_at: u64) -> Session {
        let identity = Identity::parse(user).unwrap();
        let grant = Grant {
            topics: Topics::granted(Some(&identity), topics.iter().copied()).unwrap(),
            identity: Some(identity),
            issued_at: Millis(0),
            expires_at: Some(Millis(expires_at)),
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
            hub.insert(ConnId(conn as u32), session(user, &["team:a"], 100));
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
        assert_eq!(hub.next_expiry(), Some(Millis(100)));
    }

    #[test]
    fn attachments_are_summed() {
        let mut hub = Hub::default();
        for (conn, bytes) in [(1, 10), (2, 20), (1, 15)] {
            hub.insert(ConnId(conn), session("alice", &[], 100));
            hub.set_attachment(ConnId(conn), Some(bytes));
        }
        assert_eq!(hub.attachments_bytes(), 35);
        hub.remove(ConnId(2));
        hub.remove(ConnId(2));
        assert_eq!(hub.attachments_bytes(), 15);
    }

    #[test]
    fn sessions_expire_at_their_end_and_not_before() {
        let mut hub = Hub::default();
        hub.insert(ConnId(1), session("alice", &[], 100));
        hub.insert(ConnId(2), session("bob", &[], 200));
        assert_eq!(hub.expired(Millis(99)), []);
        assert_eq!(hub.expired(Millis(100)), [ConnId(1)]);
        assert_eq!(hub.expired(Millis(500)), [ConnId(1), ConnId(2)]);
        hub.remove(ConnId(1));
        assert_eq!(hub.next_expiry(), Some(Millis(200)));
    }
}
