//! What publishers and operators send.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Action, key_of};
use super::codec::{Fields, depth_is_bounded, even_null, from_object, text_of};
use super::error::Problem;
use crate::audience::Audience;
use crate::engine::Call;
use crate::limits;
use crate::names::{Channel, Identity, Key, Topic};

/// One change that a publisher asks for.
#[derive(Debug)]
pub struct ChangeRequest<'a> {
    /// The channel of the row.
    pub channel: Channel,
    /// What to do.
    pub action: Action,
    /// The row's key.
    pub key: Key,
    /// The row or the fields to merge, untouched; nothing for a delete.
    pub data: Option<&'a RawValue>,
    /// Who may see the row from now on.
    pub to: Option<Audience>,
}

/// The body of a publish.
#[derive(Debug)]
pub struct PublishBody<'a> {
    /// The space, where the body names it.
    pub space: Option<String>,
    /// The changes in order: one of `/broadcast`, 1–1,000 of `/broadcast-batch`. One that cannot
    /// be read is refused in its turn, so that the first bad one is named whatever is wrong.
    pub changes: Vec<Result<ChangeRequest<'a>, Problem>>,
    /// The field that lists them, `changes` or `events`; none for `/broadcast`.
    list: Option<&'static str>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Written<'a> {
    #[serde(borrow)]
    space: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    /// `null` is a publisher's mistake, not "whoever the rule says": it must open nothing.
    #[serde(borrow, deserialize_with = "even_null")]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    changes: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    events: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    identity: Option<&'a RawValue>,
    #[serde(borrow)]
    reason: Option<&'a RawValue>,
    #[serde(borrow)]
    all: Option<&'a RawValue>,
    #[serde(borrow)]
    add: Option<&'a RawValue>,
    #[serde(borrow)]
    remove: Option<&'a RawValue>,
}

impl<'a> Written<'a> {
    fn parse(json: &'a str) -> Result<Self, Problem> {
        from_object(json)
            .map_err(|_| Problem::malformed("must be a JSON object of the documented shape"))
    }

    fn channel(&self) -> Result<Channel, Problem> {
        let text = self.channel.and_then(text_of);
        let text = text.ok_or_else(|| Problem::invalid("channel", "must be a text"))?;
        Channel::parse(&text).map_err(|error| Problem::invalid("channel", error.to_string()))
    }

    fn space(&self) -> Result<Option<String>, Problem> {
        self.space
            .map(|raw| text_of(raw).ok_or_else(|| Problem::invalid("space", "must be a text")))
            .transpose()
            .map(|text| text.map(std::borrow::Cow::into_owned))
    }

    fn identity(&self) -> Result<Identity, Problem> {
        let text = self.identity.and_then(text_of);
        let text = text.ok_or_else(|| Problem::invalid("identity", "must be a text"))?;
        Identity::parse(&text).map_err(|error| Problem::invalid("identity", error.to_string()))
    }

    fn topics(field: &'static str, list: Option<&RawValue>) -> Result<Vec<Topic>, Problem> {
        let invalid = || Problem::invalid(field, "must be a list of at most 64 topics");
        let Some(raw) = list else {
            return Ok(Vec::new());
        };
        let texts: Vec<String> = serde_json::from_str(raw.get()).map_err(|_| invalid())?;
        if texts.len() > limits::TOPICS {
            return Err(invalid());
        }
        let granted = |text: &String| {
            // `user:` topics come with the identity and with nothing else.
            let reserved = text.starts_with("user:");
            (!reserved).then(|| Topic::parse(text).ok()).flatten()
        };
        texts
            .iter()
            .map(granted)
            .collect::<Option<_>>()
            .ok_or_else(invalid)
    }

    fn reason(&self) -> Result<Option<String>, Problem> {
        let Some(raw) = self.reason else {
            return Ok(None);
        };
        text_of(raw)
            .filter(|text| text.len() <= limits::REASON_BYTES)
            .map(|text| Some(text.into_owned()))
            .ok_or_else(|| Problem::invalid("reason", "must be a text of at most 123 bytes"))
    }

    fn change(&self, channel: Channel) -> Result<ChangeRequest<'a>, Problem> {
        let action = self.action.and_then(text_of);
        let action = action
            .as_deref()
            .and_then(Action::parse)
            .ok_or_else(|| Problem::invalid("action", "must be create, update or delete"))?;
        let key = self
            .key
            .map(|raw| text_of(raw).ok_or_else(|| Problem::invalid("key", "must be a text")))
            .transpose()?;
        let object = || Problem::invalid("data", "must be an object without doubled fields");
        crate::row::check_length(self.data)?;
        let id = match (self.data, action) {
            (Some(data), _) => Fields::parse(data.get()).map_err(|_| object())?.get("id"),
            (None, Action::Create | Action::Update) => return Err(object()),
            (None, Action::Delete) => None,
        };
        Ok(ChangeRequest {
            channel,
            action,
            key: key_of(key.as_deref(), id)?,
            data: self.data.filter(|_| action != Action::Delete),
            to: self.to.map(Audience::from_wire).transpose()?,
        })
    }
}

/// Says which element of a batch is wrong.
fn at_index(name: &str, index: usize, mut problem: Problem) -> Problem {
    problem.message = format!("{name}[{index}]: {}", problem.message).into();
    problem.field = Some(match problem.field {
        Some(field) => format!("{name}[{index}].{field}"),
        None => format!("{name}[{index}]"),
    });
    problem
}

impl<'a> PublishBody<'a> {
    /// Reads the body of `/broadcast`.
    ///
    /// # Errors
    /// `malformed` or `invalid` with the field that is wrong.
    pub fn one(json: &'a str) -> Result<Self, Problem> {
        let written = bounded(json)?;
        Ok(Self {
            space: written.space()?,
            changes: vec![Ok(written.change(written.channel()?)?)],
            list: None,
        })
    }

    /// Reads the body of `/broadcast-batch`: `changes` of one channel, or `events` that each name
    /// theirs.
    ///
    /// # Errors
    /// `malformed` or `invalid` when there is no list of changes to judge.
    pub fn batch(json: &'a str) -> Result<Self, Problem> {
        let written = bounded(json)?;
        let (name, list, channel) = match (&written.changes, &written.events) {
            (Some(changes), None) => ("changes", changes, Some(written.channel()?)),
            (None, Some(events)) => ("events", events, None),
            _ => return Err(Problem::malformed("needs either changes or events")),
        };
        if !(1..=limits::BATCH_CHANGES).contains(&list.len()) {
            return Err(Problem::invalid(name, "must hold 1 to 1000 changes"));
        }
        let read = |raw: &'a RawValue| {
            let item = Written::parse(raw.get())?;
            let channel = match &channel {
                Some(channel) => channel.clone(),
                None => item.channel()?,
            };
            item.change(channel)
        };
        Ok(Self {
            space: written.space()?,
            changes: list.iter().map(|raw| read(raw)).collect(),
            list: Some(name),
        })
    }

    /// The change of `/broadcast`, where it can be read.
    pub(crate) fn only(&self) -> Option<&ChangeRequest<'a>> {
        match (self.list, self.changes.as_slice()) {
            (None, [Ok(change)]) => Some(change),
            _ => None,
        }
    }

    /// Says which change of the body a problem is about.
    pub(crate) fn blame(&self, index: usize, problem: Problem) -> Problem {
        match self.list {
            Some(name) => at_index(name, index, problem),
            None => problem,
        }
    }

    /// The space that a body names, before anything else of it is judged.
    ///
    /// # Errors
    /// `malformed` when the body is no JSON object, `invalid` when `space` is no text.
    pub fn space_of(json: &str) -> Result<Option<String>, Problem> {
        bounded(json)?.space()
    }
}

fn bounded(json: &str) -> Result<Written<'_>, Problem> {
    if json.len() > limits::BODY_BYTES {
        return Err(Problem::new(
            super::Code::FrameTooLarge,
            "the body is too large",
        ));
    }
    if !depth_is_bounded(json) {
        return Err(Problem::malformed("nested too deeply"));
    }
    Written::parse(json)
}

/// The body of `/topics`.
#[derive(Debug)]
pub struct TopicsBody {
    /// The space, where the body names it.
    pub space: Option<String>,
    /// Whose sessions change.
    pub identity: Identity,
    /// Topics that they gain.
    pub add: Vec<Topic>,
    /// Topics that they lose, which also holds against the identity's earlier tokens.
    pub remove: Vec<Topic>,
}

/// What a call asks for.
#[derive(Debug)]
pub enum CallBody<'a> {
    /// `/broadcast` and `/broadcast-batch`.
    Publish(PublishBody<'a>),
    /// `/broadcast-reset`.
    Reset {
        /// The space, where the body names it.
        space: Option<String>,
        /// The channel.
        channel: Channel,
        /// Who is told; the floor rises for all.
        to: Option<Audience>,
    },
    /// `/broadcast-change`.
    Change {
        /// The space, where the body names it.
        space: Option<String>,
        /// The channel.
        channel: Channel,
    },
    /// `/disconnect` of an identity.
    Disconnect {
        /// The space, where the body names it.
        space: Option<String>,
        /// Whose sockets are closed.
        identity: Identity,
        /// What the close frames say.
        reason: Option<String>,
    },
    /// `/disconnect` of everyone.
    DisconnectAll {
        /// The space, where the body names it.
        space: Option<String>,
    },
    /// `/topics`.
    Topics(TopicsBody),
    /// `/epoch`.
    Epoch {
        /// The space, where the body names it.
        space: Option<String>,
    },
}

impl<'a> CallBody<'a> {
    /// Reads the body of a call. `/epoch` needs none.
    ///
    /// # Errors
    /// `malformed` or `invalid` with the field that is wrong.
    pub fn read(call: Call, json: &'a str) -> Result<Self, Problem> {
        match call {
            Call::Broadcast => return PublishBody::one(json).map(Self::Publish),
            Call::BroadcastBatch => return PublishBody::batch(json).map(Self::Publish),
            Call::Epoch if json.trim_ascii().is_empty() => return Ok(Self::Epoch { space: None }),
            Call::BroadcastReset
            | Call::BroadcastChange
            | Call::Disconnect
            | Call::Topics
            | Call::Epoch => {}
        }
        let written = bounded(json)?;
        let space = written.space()?;
        Ok(match call {
            Call::BroadcastReset => Self::Reset {
                space,
                channel: written.channel()?,
                to: written.to.map(Audience::from_wire).transpose()?,
            },
            Call::Disconnect => match (written.all.map(RawValue::get), written.identity) {
                (Some("true"), None) => Self::DisconnectAll { space },
                (None | Some("false"), Some(_)) => Self::Disconnect {
                    space,
                    identity: written.identity()?,
                    reason: written.reason()?,
                },
                _ => return Err(Problem::malformed("needs either an identity or all: true")),
            },
            Call::Topics => Self::Topics(TopicsBody {
                space,
                identity: written.identity()?,
                add: Written::topics("add", written.add)?,
                remove: Written::topics("remove", written.remove)?,
            }),
            Call::Epoch => Self::Epoch { space },
            Call::BroadcastChange | Call::Broadcast | Call::BroadcastBatch => Self::Change {
                space,
                channel: written.channel()?,
            },
        })
    }

    /// The channel, where it is about one alone.
    #[must_use]
    pub fn channel(&self) -> Option<&Channel> {
        match self {
            Self::Publish(body) => {
                let mut channels = body.changes.iter().map(|change| match change {
                    Ok(change) => Some(&change.channel),
                    Err(_) => None,
                });
                let first = channels.next()??;
                channels
                    .all(|channel| channel == Some(first))
                    .then_some(first)
            }
            Self::Reset { channel, .. } | Self::Change { channel, .. } => Some(channel),
            Self::Topics(_)
            | Self::Disconnect { .. }
            | Self::DisconnectAll { .. }
            | Self::Epoch { .. } => None,
        }
    }

    /// The space, where the body names it.
    #[must_use]
    pub fn space(&self) -> Option<&str> {
        match self {
            Self::Publish(body) => body.space.as_deref(),
            Self::Topics(body) => body.space.as_deref(),
            Self::Reset { space, .. }
            | Self::Change { space, .. }
            | Self::Disconnect { space, .. }
            | Self::DisconnectAll { space }
            | Self::Epoch { space } => space.as_deref(),
        }
    }
}
