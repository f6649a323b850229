//! What publishers send: `/broadcast` and `/broadcast-batch`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::client::{Action, key_of};
use super::codec::{Fields, depth_is_bounded, even_null, from_object, text_of};
use super::error::Problem;
use crate::audience::Audience;
use crate::limits;
use crate::names::{Channel, Key};

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
        let id = match (self.data, action) {
            (Some(data), Action::Create | Action::Update) => {
                Fields::parse(data.get()).map_err(|_| object())?.get("id")
            }
            (None, Action::Create | Action::Update) => return Err(object()),
            (_, Action::Delete) => None,
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
