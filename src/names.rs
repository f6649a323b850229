//! Names and numbers as types: parsed once at the boundary, trusted inside.

use std::fmt;
use std::rc::Rc;

use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::limits;

/// Why a text is no name of its kind. Names are 1 to a bound of bytes, without control characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("must not be empty")]
    Empty,
    /// The text exceeds the bound, given in bytes of UTF-8.
    #[error("must be at most {0} bytes")]
    TooLong(usize),
    /// The text holds a character that the kind does not allow.
    #[error("holds a character that is not allowed")]
    Character,
    /// The text is reserved.
    #[error("is reserved")]
    Reserved,
}

fn holds_control(text: &str) -> bool {
    let in_ascii = text.bytes().any(|byte| byte.is_ascii_control());
    in_ascii || (!text.is_ascii() && text.chars().any(char::is_control))
}

fn check(text: &str, bound: usize) -> Result<(), NameError> {
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.len() > bound {
        Err(NameError::TooLong(bound))
    } else if holds_control(text) {
        Err(NameError::Character)
    } else {
        Ok(())
    }
}

/// Reads a name from any text, without a copy of it in between.
struct Parses<T>(fn(&str) -> Result<T, NameError>);

impl<T> Visitor<'_> for Parses<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        (self.0)(text).map_err(E::custom)
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        pub struct $name(Rc<str>);

        impl $name {
            /// Checks the text and makes it a name.
            ///
            /// # Errors
            /// When the text breaks a rule of [`NameError`].
            pub fn parse(text: &str) -> Result<Self, NameError> {
                let check: fn(&str) -> Result<(), NameError> = $check;
                check(text).map(|()| Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = NameError;

            fn try_from(text: String) -> Result<Self, NameError> {
                Self::parse(&text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Parses($name::parse))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }
    };
}

name!(
    /// A named stream of rows inside a space, 1–256 bytes.
    Channel,
    |text| check(text, limits::CHANNEL_BYTES)
);
name!(
    /// The id of a row, 1–256 bytes.
    Key,
    |text| check(text, limits::KEY_BYTES)
);
name!(
    /// The id of a request, 1–128 bytes. For a mutation it names the intent: the same id from the
    /// same identity is executed once.
    RequestId,
    |text| check(text, limits::ID_BYTES)
);
name!(
    /// The verified user of a connection, 1–256 bytes.
    Identity,
    |text| check(text, limits::IDENTITY_BYTES)
);
name!(
    /// What a connection holds and an audience names, e.g. `user:alice`. `all` is reserved.
    Topic,
    |text| match text {
        "all" => Err(NameError::Reserved),
        _ => check(text, limits::TOPIC_BYTES),
    }
);
name!(
    /// The unit of isolation and order, `[a-z0-9_-]{1,64}`: one Durable Object, one log, one
    /// sequence. `changes`, `mutate` and `session` are reserved.
    Space,
    |text| {
        check(text, limits::SPACE_BYTES)?;
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '-');
        if matches!(text, "changes" | "mutate" | "session") {
            Err(NameError::Reserved)
        } else if text.chars().all(allowed) {
            Ok(())
        } else {
            Err(NameError::Character)
        }
    }
);
name!(
    /// The public name of one session. Never a credential.
    SessionId,
    |text| check(text, limits::ID_BYTES)
);

impl Identity {
    /// The topic that every connection of this identity holds.
    #[must_use]
    pub fn topic(&self) -> Topic {
        Topic(["user:", &self.0].concat().into())
    }
}

impl Space {
    /// The space of those who name none: `global`.
    #[must_use]
    pub fn default_space() -> Self {
        Self("global".into())
    }
}

/// A change's place in the order of its space: +1 per change, never reused, below 2^53.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Seq(pub u64);

impl Seq {
    /// The seq of the change after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Milliseconds since the Unix epoch, by the server's clock.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Millis(pub u64);

impl Millis {
    /// The time `ms` milliseconds after this one.
    #[must_use]
    pub fn plus(self, ms: u64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// The time `ms` milliseconds before this one.
    #[must_use]
    pub fn minus(self, ms: u64) -> Self {
        Self(self.0.saturating_sub(ms))
    }
}

/// A connection as the engine knows it while the object is awake. Numbers are not kept across
/// sleep; the [`SessionId`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_hold_at_their_bound_and_not_past_it() {
        assert!(Channel::parse(&"c".repeat(limits::CHANNEL_BYTES)).is_ok());
        assert_eq!(
            Channel::parse(&"c".repeat(limits::CHANNEL_BYTES + 1)),
            Err(NameError::TooLong(limits::CHANNEL_BYTES))
        );
        assert!(Key::parse(&"é".repeat(limits::KEY_BYTES / 2)).is_ok());
        assert!(Key::parse(&format!("{}x", "é".repeat(limits::KEY_BYTES / 2))).is_err());
        assert!(RequestId::parse(&"i".repeat(limits::ID_BYTES)).is_ok());
        assert!(RequestId::parse(&"i".repeat(limits::ID_BYTES + 1)).is_err());
        assert!(Identity::parse(&"i".repeat(limits::IDENTITY_BYTES)).is_ok());
        assert!(Identity::parse(&"i".repeat(limits::IDENTITY_BYTES + 1)).is_err());
        assert!(Topic::parse(&"t".repeat(limits::TOPIC_BYTES)).is_ok());
        assert!(Topic::parse(&"t".repeat(limits::TOPIC_BYTES + 1)).is_err());
        assert_eq!(Channel::parse(""), Err(NameError::Empty));
        assert_eq!(Channel::parse("a\u{0}b"), Err(NameError::Character));
        assert_eq!(Channel::parse("a\u{85}b"), Err(NameError::Character));
    }

    #[test]
    fn spaces_are_a_small_alphabet_with_reserved_words() {
        assert!(Space::parse(&"a".repeat(limits::SPACE_BYTES)).is_ok());
        assert!(Space::parse(&"a".repeat(limits::SPACE_BYTES + 1)).is_err());
        assert!(Space::parse("team-7_x").is_ok());
        for bad in [
            "", "Team", "a.b", "a/b", "ü", "changes", "mutate", "session",
        ] {
            assert!(Space::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nobody_holds_the_topic_all() {
        assert_eq!(Topic::parse("all"), Err(NameError::Reserved));
        let longest = Identity::parse(&"i".repeat(limits::IDENTITY_BYTES)).unwrap();
        assert!(Topic::parse(longest.topic().as_str()).is_ok());
    }
}
