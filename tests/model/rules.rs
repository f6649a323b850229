//! What the rules of `World::channels()` mean, said once more and apart from the engine.

use std::collections::BTreeSet;

use serde_json::Value;

use super::step::DAY;

pub(crate) type Topics = BTreeSet<String>;

/// Topics that may see a row; `None` is everyone who may read the channel.
pub(crate) type Audience = Option<Topics>;

/// Who somebody is, and which topics it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Eyes {
    pub(crate) identity: Option<&'static str>,
    pub(crate) topics: Topics,
}

impl Eyes {
    pub(crate) fn see(&self, audience: &Audience) -> bool {
        audience
            .as_ref()
            .is_none_or(|topics| !topics.is_disjoint(&self.topics))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    Anyone,
    User,
    Topic,
    Nobody,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Rule {
    pub(crate) read: Who,
    pub(crate) write: Who,
    /// The field that scopes a row, and the prefix that makes a topic of its value.
    pub(crate) field: Option<(&'static str, &'static str)>,
    /// Whether a writer may write a row out of its own sight.
    pub(crate) leave: bool,
    /// Whether the field `t` orders writes.
    pub(crate) timed: bool,
    /// Whether rows are events, whose keys are not used twice.
    pub(crate) events: bool,
    /// Whether events are edited and deleted, as events themselves.
    pub(crate) edits: bool,
    /// How many of the newest events are kept, and for how long.
    pub(crate) retain: (Option<u64>, Option<u64>),
    /// Whether subscribers may be present and send signals.
    pub(crate) present: bool,
}

pub(crate) const CHANNELS: [&str; 13] = [
    "todos", "notes", "gifts", "feed", "open", "drop", "timed", "team:x", "room:1", "chat:1",
    "news", "talk:1", "doc:1",
];

/// A channel that no rule matches.
pub(crate) const UNKNOWN: &str = "nothing";

pub(crate) fn rule(channel: &str) -> Option<Rule> {
    let plain = Rule {
        read: Who::User,
        write: Who::User,
        field: None,
        leave: false,
        timed: false,
        events: false,
        edits: false,
        retain: (None, None),
        present: false,
    };
    Some(match channel {
        "todos" => plain,
        "notes" => Rule {
            field: Some(("ownerId", "user:")),
            ..plain
        },
        "gifts" => Rule {
            field: Some(("for", "user:")),
            leave: true,
            ..plain
        },
        "feed" => Rule {
            read: Who::Anyone,
            write: Who::Nobody,
            ..plain
        },
        "open" => Rule {
            read: Who::Anyone,
            write: Who::Anyone,
            present: true,
            ..plain
        },
        "drop" => Rule {
            read: Who::Nobody,
            ..plain
        },
        "timed" => Rule {
            timed: true,
            ..plain
        },
        "team:x" => Rule {
            field: Some(("team", "team:")),
            ..plain
        },
        "room:1" => Rule {
            read: Who::Topic,
            write: Who::Topic,
            present: true,
            ..plain
        },
        "chat:1" => Rule {
            events: true,
            ..plain
        },
        "news" => Rule {
            events: true,
            retain: (Some(3), None),
            ..plain
        },
        "talk:1" => Rule {
            events: true,
            edits: true,
            field: Some(("for", "user:")),
            leave: true,
            retain: (Some(6), Some(2 * DAY)),
            ..plain
        },
        "doc:1" => Rule {
            events: true,
            edits: true,
            ..plain
        },
        _ => return None,
    })
}

fn allows(who: Who, channel: &str, eyes: &Eyes) -> bool {
    match who {
        Who::Anyone => true,
        Who::User => eyes.identity.is_some(),
        Who::Topic => eyes.topics.contains(channel),
        Who::Nobody => false,
    }
}

fn refusal(eyes: &Eyes) -> &'static str {
    match eyes.identity {
        None => "unauthorized",
        Some(_) => "forbidden",
    }
}

/// The code with which a subscription is refused.
pub(crate) fn refused_read(channel: &str, eyes: &Eyes) -> Option<&'static str> {
    let Some(rule) = rule(channel) else {
        return Some("unknown_channel");
    };
    (!allows(rule.read, channel, eyes)).then(|| refusal(eyes))
}

/// The code with which any mutation is refused.
pub(crate) fn refused_write(channel: &str, eyes: &Eyes) -> Option<&'static str> {
    let Some(rule) = rule(channel) else {
        return Some("unknown_channel");
    };
    match rule.write {
        Who::Nobody => Some("read_only"),
        who => (!allows(who, channel, eyes)).then(|| refusal(eyes)),
    }
}

impl Rule {
    /// The audience that a row's own field gives it, where the channel is scoped by a field and
    /// the row has it.
    pub(crate) fn scope(&self, row: &Value) -> Option<Topics> {
        let (field, prefix) = self.field?;
        let topic = |text: &Value| format!("{prefix}{}", text.as_str().unwrap());
        match row.get(field)? {
            Value::Array(texts) => Some(texts.iter().map(topic).collect()),
            text => Some([topic(text)].into()),
        }
    }
}
