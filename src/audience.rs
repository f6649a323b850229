//! Audiences: who may see a row, and the topics that a connection holds.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::value::RawValue;

use crate::limits;
use crate::names::{Identity, NameError, Seq, Topic};
use crate::protocol::{JsonWriter, Problem};

/// The topics that a connection holds: `user:<identity>` and whatever else its token grants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topics(BTreeSet<Topic>);

/// Why granted topics are refused. Never cut, always refused (403).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicsError {
    /// More topics than [`limits::TOPICS`], or more bytes than [`limits::TOPICS_BYTES`].
    #[error("the token grants too many topics")]
    TooMany,
    /// `all` and `user:` topics cannot be granted.
    #[error("the token grants a reserved topic")]
    Reserved,
    /// A topic is no topic.
    #[error("a topic of the token {0}")]
    Name(NameError),
}

impl Topics {
    /// The topics of an identity with what its token grants.
    ///
    /// # Errors
    /// When the grant breaks a bound of the wire contract.
    pub fn granted<'a>(
        identity: Option<&Identity>,
        granted: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, TopicsError> {
        let mut topics = BTreeSet::new();
        let mut bytes = 0;
        for text in granted {
            if text == "all" || text.starts_with("user:") {
                return Err(TopicsError::Reserved);
            }
            bytes += text.len();
            topics.insert(Topic::parse(text).map_err(TopicsError::Name)?);
            if topics.len() > limits::TOPICS || bytes > limits::TOPICS_BYTES {
                return Err(TopicsError::TooMany);
            }
        }
        topics.extend(identity.map(Identity::topic));
        Ok(Self(topics))
    }

    /// An identity's own topic and no other.
    pub(crate) fn own(identity: &Identity) -> Self {
        Self(BTreeSet::from([identity.topic()]))
    }

    /// The topics less those that `removed` names. The identity's own topic stays.
    pub(crate) fn without(&self, removed: impl Fn(&str) -> bool) -> Self {
        let own = |topic: &Topic| topic.as_str().starts_with("user:");
        let kept = |topic: &&Topic| own(topic) || !removed(topic.as_str());
        Self(set_of(self.0.iter().filter(kept).cloned()))
    }

    /// The topics of an identity with some added and some removed.
    ///
    /// # Errors
    /// When the sum breaks a bound of the wire contract.
    pub(crate) fn changed(
        &self,
        identity: &Identity,
        add: &[Topic],
        remove: &[Topic],
    ) -> Result<Self, TopicsError> {
        let own = identity.topic();
        let granted = self
            .0
            .iter()
            .filter(|topic| **topic != own && !remove.contains(topic));
        let topics = set_of(granted.chain(add).map(Topic::as_str));
        Self::granted(Some(identity), topics)
    }

    /// Whether the connection holds the topic.
    #[must_use]
    pub fn holds(&self, topic: &str) -> bool {
        self.0.contains(topic)
    }

    /// The topics as a JSON list.
    pub(crate) fn to_json(&self) -> String {
        let mut out = JsonWriter::default();
        out.array(|a| self.iter().for_each(|topic| a.text_item(topic.as_str())));
        out.finish()
    }

    /// All held topics in order.
    pub fn iter(&self) -> impl Iterator<Item = &Topic> {
        self.0.iter()
    }
}

/// A set, made one by one: `collect` brings a sort of its own along.
fn set_of<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    let mut set = BTreeSet::new();
    for item in items {
        set.insert(item);
    }
    set
}

/// Who may see a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Audience {
    /// Everyone who may read the channel.
    All,
    /// Connections that hold one of these 1–64 topics.
    Topics(BTreeSet<Topic>),
}

impl Audience {
    /// Whether a connection with these topics may see the row.
    #[must_use]
    pub fn sees(&self, held: &Topics) -> bool {
        match self {
            Self::All => true,
            Self::Topics(topics) => topics.iter().any(|topic| held.0.contains(topic)),
        }
    }

    /// An audience of topics: 1 to [`limits::TOPICS`] of them, of [`limits::AUDIENCE_BYTES`] together
    /// at most. `None` outside these bounds.
    #[must_use]
    pub fn of(topics: impl IntoIterator<Item = Topic>) -> Option<Self> {
        let topics = set_of(topics);
        let bytes: usize = topics.iter().map(|topic| topic.as_str().len()).sum();
        let fits = (1..=limits::TOPICS).contains(&topics.len()) && bytes <= limits::AUDIENCE_BYTES;
        fits.then_some(Self::Topics(topics))
    }

    /// Those that two audiences name both, if there are any.
    pub(crate) fn within(self, other: Self) -> Option<Self> {
        match (self, other) {
            (Self::All, only) | (only, Self::All) => Some(only),
            (Self::Topics(some), Self::Topics(others)) => {
                Self::of(some.intersection(&others).cloned())
            }
        }
    }

    /// Reads the wire's `to`: `"all"` or a list of 1–64 topics.
    pub(crate) fn from_wire(to: &RawValue) -> Result<Self, Problem> {
        let invalid = || Problem::invalid("to", "must be \"all\" or a list of 1 to 64 topics");
        if to.get() == "\"all\"" {
            return Ok(Self::All);
        }
        let texts: Vec<String> = serde_json::from_str(to.get()).map_err(|_| invalid())?;
        if texts.len() > limits::TOPICS {
            return Err(invalid());
        }
        let topics: Result<Vec<_>, _> = texts.iter().map(|text| Topic::parse(text)).collect();
        Self::of(topics.map_err(|_| invalid())?).ok_or_else(invalid)
    }

    /// How the audience is stored: nothing for all, else a JSON list.
    pub(crate) fn to_column(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Topics(topics) => {
                let mut out = JsonWriter::default();
                out.array(|a| topics.iter().for_each(|topic| a.text_item(topic.as_str())));
                Some(out.finish())
            }
        }
    }

    /// Reads what [`Self::to_column`] wrote. A column that cannot be read is seen by nobody.
    pub(crate) fn from_column(column: Option<&str>) -> Self {
        match column {
            None => Self::All,
            Some(json) => Self::Topics(serde_json::from_str(json).unwrap_or_default()),
        }
    }
}

/// For each topic (or, under `all`, for everyone) the seq at which a row left its sight: how a
/// client that was away learns that a row is gone for it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Losses(BTreeMap<String, Seq>);

const EVERYONE: &str = "all";

impl Losses {
    /// Notes that the row left the sight of those who are in `before` and not in `after`.
    ///
    /// Topics that see the row again are forgotten: the row itself tells them.
    pub(crate) fn narrow(&mut self, before: Option<&Audience>, after: &Audience, at: Seq) {
        match (before, after) {
            (_, Audience::All) => self.0.clear(),
            (before, Audience::Topics(kept)) => {
                match before {
                    Some(Audience::All) => {
                        self.0.insert(EVERYONE.to_owned(), at);
                    }
                    Some(Audience::Topics(left)) => self.0.extend(
                        left.difference(kept)
                            .map(|topic| (topic.as_str().to_owned(), at)),
                    ),
                    None => {}
                }
                for topic in kept {
                    self.0.remove(topic.as_str());
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Drops losses up to `floor`, and the oldest past [`limits::LOST_TOPICS`]
    /// and [`limits::LOST_BYTES`]. Returns the
    /// highest seq that was dropped for want of room: the channel's floor must rise to it.
    pub(crate) fn bound(&mut self, floor: Seq) -> Option<Seq> {
        self.0.retain(|_, seq| *seq > floor);
        let mut newest_first: Vec<(Seq, usize)> = self
            .0
            .iter()
            .map(|(topic, seq)| (*seq, topic.len()))
            .collect();
        newest_first.sort_unstable_by_key(|(seq, _)| std::cmp::Reverse(*seq));
        let (mut kept, mut bytes) = (0, 0);
        let dropped = newest_first.iter().find_map(|(seq, len)| {
            kept += 1;
            bytes += len;
            (kept > limits::LOST_TOPICS || bytes > limits::LOST_BYTES).then_some(*seq)
        })?;
        self.0.retain(|_, seq| *seq > dropped);
        Some(dropped)
    }

    /// Whether the row left the sight of a connection with these topics after `start`.
    pub(crate) fn hit(&self, held: &Topics, start: Seq) -> bool {
        let lost = |topic: &str| self.0.get(topic).is_some_and(|seq| *seq > start);
        lost(EVERYONE) || held.iter().any(|topic| lost(topic.as_str()))
    }

    pub(crate) fn to_column(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| {
            let mut out = JsonWriter::default();
            out.object(|o| {
                self.0
                    .iter()
                    .for_each(|(topic, seq)| o.number(topic, seq.0))
            });
            out.finish()
        })
    }

    pub(crate) fn from_column(column: Option<&str>) -> Self {
        Self(
            column
                .and_then(|json| serde_json::from_str(json).ok())
                .unwrap_or_default(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn audience(topics: &[&str]) -> Audience {
        Audience::of(topics.iter().map(|t| Topic::parse(t).unwrap())).unwrap()
    }

    fn held(topics: &[&str]) -> Topics {
        Topics::granted(None, topics.iter().copied()).unwrap()
    }

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn grants_hold_at_their_bounds_and_not_past_them() {
        let topics = |n: usize, len: usize| -> Vec<String> {
            (0..n).map(|i| format!("{i:0len$}")).collect()
        };
        let granted = |list: &[String]| Topics::granted(None, list.iter().map(String::as_str));
        assert!(granted(&topics(limits::TOPICS, 64)).is_ok()); // 64 × 64 = 4 KiB
        assert_eq!(
            granted(&topics(limits::TOPICS, 65)),
            Err(TopicsError::TooMany)
        );
        assert_eq!(
            granted(&topics(limits::TOPICS + 1, 4)),
            Err(TopicsError::TooMany)
        );
    }

    #[test]
    fn reserved_topics_are_refused() {
        for bad in ["all", "user:bob", "user:"] {
            assert_eq!(Topics::granted(None, [bad]), Err(TopicsError::Reserved));
        }
        let alice = Identity::parse("alice").unwrap();
        let topics = Topics::granted(Some(&alice), ["team:a"]).unwrap();
        assert!(topics.holds("user:alice") && topics.holds("team:a"));
    }

    #[test]
    fn the_wire_takes_all_or_1_to_64_topics() {
        assert_eq!(Audience::from_wire(&raw("\"all\"")), Ok(Audience::All));
        assert_eq!(
            Audience::from_wire(&raw(r#"["a","b","a"]"#)),
            Ok(audience(&["a", "b"]))
        );
        let list = |n: usize| {
            let items: Vec<_> = (0..n).map(|i| format!("\"t{i}\"")).collect();
            raw(&format!("[{}]", items.join(",")))
        };
        assert!(Audience::from_wire(&list(limits::TOPICS)).is_ok());
        assert!(Audience::from_wire(&list(limits::TOPICS + 1)).is_err());
        for bad in ["[]", "[\"all\"]", "\"a\"", "null", "[1]", "{}", "[\"\"]"] {
            assert!(Audience::from_wire(&raw(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn columns_read_back_as_they_were() {
        for audience in [Audience::All, audience(&["user:alice", "q\"\\"])] {
            let column = audience.to_column();
            assert_eq!(Audience::from_column(column.as_deref()), audience);
        }
        assert!(!Audience::from_column(Some("garbage")).sees(&held(&["garbage"])));
    }

    #[test]
    fn a_loss_is_told_to_those_who_lost_and_are_behind() {
        let mut lost = Losses::default();
        lost.narrow(Some(&audience(&["a", "b"])), &audience(&["b"]), Seq(5));
        assert!(lost.hit(&held(&["a"]), Seq(4)));
        assert!(!lost.hit(&held(&["a"]), Seq(5)));
        assert!(!lost.hit(&held(&["b"]), Seq(0)));
        lost.narrow(Some(&audience(&["b"])), &audience(&["a"]), Seq(6));
        assert!(!lost.hit(&held(&["a"]), Seq(0)));
        assert!(lost.hit(&held(&["b"]), Seq(5)));
        assert_eq!(Losses::from_column(lost.to_column().as_deref()), lost);
        lost.narrow(Some(&audience(&["a"])), &Audience::All, Seq(7));
        assert_eq!(lost, Losses::default());
        lost.narrow(Some(&Audience::All), &audience(&["a"]), Seq(8));
        assert!(lost.hit(&held(&[]), Seq(7)));
    }

    #[test]
    fn losses_are_bounded_and_the_dropped_ones_raise_the_floor() {
        let mut lost = Losses::default();
        let none = audience(&["nobody"]);
        for i in 0..limits::LOST_TOPICS as u64 {
            lost.narrow(Some(&audience(&[&format!("t{i}")])), &none, Seq(i + 1));
        }
        assert_eq!(lost.bound(Seq(0)), None);
        lost.narrow(Some(&audience(&["one more"])), &none, Seq(1000));
        assert_eq!(lost.bound(Seq(0)), Some(Seq(1)));
        assert!(!lost.hit(&held(&["t0"]), Seq(0)));
        assert!(lost.hit(&held(&["t1"]), Seq(0)));
        assert_eq!(lost.bound(Seq(999)), None);
        assert_eq!(lost.0.len(), 1);
    }
}
