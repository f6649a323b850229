//! One connection's session: what the engine must know of it, also after the object has slept.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::audience::Topics;
use crate::limits;
use crate::names::{Channel, Identity, Millis, SessionId};

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
}

/// What a connection wants of a channel that it is live on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// Whether pages say who changed the rows, and when.
    pub meta: bool,
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
        subscriptions: Vec<(Channel, Subscription)>,
    },
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
        }
    }

    /// Whether one more channel of this name fits.
    #[must_use]
    pub fn has_room_for(&self, channel: &Channel) -> bool {
        let bytes: usize = self.subscriptions.keys().map(|c| c.as_str().len()).sum();
        self.subscriptions.contains_key(channel)
            || (self.subscriptions.len() < limits::SUBSCRIPTIONS
                && bytes + channel.as_str().len() <= limits::SUBSCRIPTIONS_BYTES)
    }

    /// The bytes for the socket's attachment.
    ///
    /// # Errors
    /// Only if the encoder fails, which it does not for these types.
    pub fn encode(&self) -> Result<Vec<u8>, postcard::Error> {
        let own = self.grant.identity.as_ref().map(Identity::topic);
        let granted = self
            .grant
            .topics
            .iter()
            .filter(|topic| own.as_ref() != Some(*topic));
        postcard::to_allocvec(&Attachment::V1 {
            id: self.id.clone(),
            dialect: self.dialect,
            identity: self.grant.identity.clone(),
            topics: granted.map(ToString::to_string).collect(),
            issued_at: self.grant.issued_at,
            expires_at: self.grant.expires_at,
            subscriptions: self.subscriptions.clone().into_iter().collect(),
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
            subscriptions,
        } = postcard::from_bytes(attachment).ok()?;
        let topics = Topics::granted(identity.as_ref(), topics.iter().map(String::as_str)).ok()?;
        Some(Self {
            id,
            dialect,
            grant: Grant {
                identity,
                topics,
                issued_at,
                expires_at,
            },
            subscriptions: subscriptions.into_iter().collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A session with everything at its bound, and channels of `name_bytes` each.
    fn largest(name_bytes: usize) -> Session {
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
            },
        );
        for i in 0.. {
            let channel = Channel::parse(&format!("{i:0name_bytes$}")).unwrap();
            if !session.has_room_for(&channel) {
                break;
            }
            session
                .subscriptions
                .insert(channel, Subscription { meta: true });
        }
        session
    }

    #[test]
    fn the_largest_session_fits_an_attachment_with_room_for_presence() {
        const PRESENCE_BYTES: usize = 2 * 1024;
        for name_bytes in [3, 32, 128, 256] {
            let session = largest(name_bytes);
            let bytes = session.encode().unwrap();
            assert!(
                bytes.len() + PRESENCE_BYTES + 256 <= limits::ATTACHMENT_BYTES,
                "{} bytes for names of {name_bytes}",
                bytes.len()
            );
            assert_eq!(Session::decode(&bytes), Some(session));
        }
    }

    #[test]
    fn subscriptions_are_bounded_in_number_and_in_bytes() {
        assert_eq!(largest(3).subscriptions.len(), limits::SUBSCRIPTIONS);
        assert_eq!(
            largest(256).subscriptions.len(),
            limits::SUBSCRIPTIONS_BYTES / 256
        );
        let full = largest(256);
        let held = full.subscriptions.keys().next().unwrap();
        assert!(full.has_room_for(held), "subscribing again needs no room");
    }

    #[test]
    fn garbage_is_no_session() {
        assert_eq!(Session::decode(&[]), None);
        assert_eq!(Session::decode(&[0xff; 64]), None);
        let mut bytes = largest(32).encode().unwrap();
        bytes.truncate(bytes.len() / 2);
        assert_eq!(Session::decode(&bytes), None);
    }
}
