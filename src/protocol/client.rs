//! What clients send: one decoder for every frame.

use std::borrow::Cow;

use serde::Deserialize;
use serde_json::value::RawValue;

use super::codec::{depth_is_bounded, even_null, from_object, text_of};
use super::error::Problem;
use crate::limits;
use crate::names::{Channel, Key, NameError, RequestId};

/// What a mutation or a publish does to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Stores the row as given, in place of one of the same key.
    Create,
    /// Merges the given top-level fields into the row.
    Update,
    /// Removes the row; a tombstone remains for those who are away.
    Delete,
}

impl Action {
    /// The action's name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }

    /// Reads an action's name.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "create" => Some(Self::Create),
            "update" => Some(Self::Update),
            "delete" => Some(Self::Delete),
            _ => None,
        }
    }
}

/// One message of a client.
#[derive(Debug)]
pub enum ClientMessage<'a> {
    /// A heartbeat that was not written exactly as the runtime answers it.
    Ping,
    /// Opens the session. A client that never says hello is legacy.
    Hello(Hello<'a>),
    /// Renews the session in place with another token.
    Auth {
        /// The token.
        token: Cow<'a, str>,
    },
    /// Asks for a channel.
    Subscribe(SubscribeMessage<'a>),
    /// Leaves a channel.
    Unsubscribe {
        /// The channel to leave.
        channel: Channel,
    },
    /// Changes a row.
    Mutate(MutateMessage<'a>),
    /// Joins, updates, leaves or watches the presence of a channel.
    Presence(PresenceMessage<'a>),
    /// Passes something to the other subscribers.
    Signal(SignalMessage<'a>),
}

impl ClientMessage<'_> {
    /// What ties an answer to the message: its id and its channel, where it has them.
    #[must_use]
    pub fn request(&self) -> (Option<&RequestId>, Option<&Channel>) {
        match self {
            Self::Ping | Self::Hello(_) | Self::Auth { .. } => (None, None),
            Self::Subscribe(message) => (message.id.as_ref(), Some(&message.channel)),
            Self::Unsubscribe { channel } => (None, Some(channel)),
            Self::Mutate(message) => (Some(&message.id), Some(&message.channel)),
            Self::Presence(message) => (None, Some(&message.channel)),
            Self::Signal(message) => (None, Some(&message.channel)),
        }
    }
}

/// The first message of a client that speaks this contract.
#[derive(Debug)]
pub struct Hello<'a> {
    /// The protocol version.
    pub version: u64,
    /// The version of the app's own data model.
    pub schema: Option<u64>,
    /// The app's installation, for logs.
    pub device: Option<Cow<'a, str>>,
    /// Subscriptions to answer in the same turn; one that cannot be read is refused alone.
    pub subscribe: Vec<Result<SubscribeMessage<'a>, Refused>>,
}

/// A request for a channel, with where the client's copy ends.
#[derive(Debug)]
pub struct SubscribeMessage<'a> {
    /// Names the answer.
    pub id: Option<RequestId>,
    /// The channel.
    pub channel: Channel,
    /// Where the client's copy ends.
    pub cursor: Option<Cow<'a, str>>,
    /// The view that came with the cursor.
    pub view: Option<Cow<'a, str>>,
    /// Rows and deleted keys on a page.
    pub limit: usize,
    /// Whether to say who changed the rows, and when.
    pub meta: bool,
    /// Legacy: rows changed after this time, as raw JSON (milliseconds or an ISO date).
    pub since: Option<&'a RawValue>,
    /// A token of the channel, made by the app's backend.
    pub token: Option<Cow<'a, str>>,
    /// What the message was read from; nothing if it was no message.
    pub raw: &'a str,
}

/// A change of one row, asked for by a client.
#[derive(Debug)]
pub struct MutateMessage<'a> {
    /// Names the intent; the same id is executed once.
    pub id: RequestId,
    /// The channel of the row.
    pub channel: Channel,
    /// What to do.
    pub action: Action,
    /// The row's key, where given apart from the data.
    pub key: Option<Cow<'a, str>>,
    /// The row or the fields to merge, untouched.
    pub data: Option<&'a RawValue>,
    /// What the message was read from.
    pub raw: &'a str,
}

/// What a presence message asks for.
#[derive(Debug)]
pub enum PresenceChange<'a> {
    /// Join, or update the state.
    Set(&'a RawValue),
    /// Leave.
    Leave,
    /// Observe unseen.
    Watch,
}

/// A change of a connection's presence in a channel.
#[derive(Debug)]
pub struct PresenceMessage<'a> {
    /// The channel.
    pub channel: Channel,
    /// What is asked for.
    pub change: PresenceChange<'a>,
    /// What the message was read from.
    pub raw: &'a str,
}

/// Something that passes to the other subscribers and is never stored.
#[derive(Debug)]
pub struct SignalMessage<'a> {
    /// The channel.
    pub channel: Channel,
    /// What it is, e.g. `typing`.
    pub event: Cow<'a, str>,
    /// Anything, as raw JSON.
    pub data: Option<&'a RawValue>,
    /// What the message was read from.
    pub raw: &'a str,
}

/// A message that could not be read, with what ties the answer to its request.
#[derive(Debug)]
pub struct Refused {
    /// The request's id; without one the answer is an `error`.
    pub id: Option<RequestId>,
    /// The request's channel, where it could be read.
    pub channel: Option<Channel>,
    /// What is wrong.
    pub problem: Problem,
}

impl From<Problem> for Refused {
    fn from(problem: Problem) -> Self {
        Self {
            id: None,
            channel: None,
            problem,
        }
    }
}

/// Every field that any message has, untouched. One pass over the frame finds them all; what a
/// message does not know, newer clients may send.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Envelope<'a> {
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow)]
    view: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
    #[serde(borrow)]
    meta: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    action: Option<&'a RawValue>,
    #[serde(borrow)]
    key: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    v: Option<&'a RawValue>,
    #[serde(borrow)]
    schema: Option<&'a RawValue>,
    #[serde(borrow)]
    device: Option<&'a RawValue>,
    #[serde(borrow)]
    subscribe: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow, deserialize_with = "even_null")]
    state: Option<&'a RawValue>,
    #[serde(borrow)]
    watch: Option<&'a RawValue>,
    #[serde(borrow)]
    event: Option<&'a RawValue>,
    /// What all of it was read from.
    #[serde(skip)]
    raw: &'a str,
}

impl<'a> Envelope<'a> {
    fn parse(raw: &'a str) -> Result<Self, serde_json::Error> {
        let envelope = from_object(raw)?;
        Ok(Self { raw, ..envelope })
    }
}

/// Reads a frame: one message, or an array of messages in order.
///
/// # Errors
/// `malformed` for a frame that holds no message at all; a bad message in an array is refused
/// alone.
pub fn decode(frame: &str) -> Result<Frame<'_>, Problem> {
    let bad = || Problem::malformed("a frame is one JSON object, or an array of objects");
    if !depth_is_bounded(frame) {
        return Err(Problem::malformed("nested too deeply"));
    }
    if frame.trim_start().starts_with('[') {
        let messages: Vec<&RawValue> = serde_json::from_str(frame).map_err(|_| bad())?;
        if messages.is_empty() {
            return Err(Problem::malformed("an array must hold a message"));
        }
        if messages.len() > limits::FRAME_MESSAGES {
            return Err(Problem::malformed("too many messages in one frame"));
        }
        let messages = messages.into_iter().map(|raw| message(raw.get()));
        return Ok(Frame {
            is_array: true,
            messages: messages.collect(),
        });
    }
    let envelope = Envelope::parse(frame).map_err(|_| bad())?;
    Ok(Frame {
        is_array: false,
        messages: vec![read(&envelope)],
    })
}

/// Reads the body of `POST /api/sync/mutate`: what may be mutations as a socket would send them, in
/// order.
///
/// # Errors
/// `malformed` for a body that holds no list of them, `invalid` where there are none or too many.
pub(crate) fn mutations_of(body: &str) -> Result<Vec<&str>, Problem> {
    #[derive(Deserialize)]
    struct Body<'a> {
        #[serde(borrow)]
        mutations: Few<'a>,
    }
    if !depth_is_bounded(body) {
        return Err(Problem::malformed("nested too deeply"));
    }
    let bad = |_| Problem::malformed("the body is an object with a list of mutations");
    let Body {
        mutations: Few(mutations),
    } = from_object(body).map_err(bad)?;
    if !(1..=limits::FRAME_MESSAGES).contains(&mutations.len()) {
        return Err(Problem::invalid("mutations", "must be 1 to 1000"));
    }
    Ok(mutations.into_iter().map(RawValue::get).collect())
}

/// The first messages of a list, one more than there may be: a body has room for millions of them.
struct Few<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Few<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Few<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut list: A,
            ) -> Result<Self::Value, A::Error> {
                let mut few = Vec::new();
                while few.len() <= limits::FRAME_MESSAGES {
                    match list.next_element()? {
                        Some(item) => few.push(item),
                        None => return Ok(Few(few)),
                    }
                }
                while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
                Ok(Few(few))
            }
        }
        deserializer.deserialize_seq(Visitor)
    }
}

/// Reads one of them.
///
/// # Errors
/// What is wrong with it, which is told of it alone.
pub(crate) fn decode_mutation(raw: &str) -> Result<MutateMessage<'_>, Refused> {
    let envelope = Envelope::parse(raw)
        .map_err(|_| Problem::malformed("a mutation is a JSON object without doubled fields"))?;
    match envelope.kind.and_then(text_of).as_deref() {
        Some("mutate") => envelope.mutate(),
        None if envelope.kind.is_none() => envelope.mutate(),
        Some(_) | None => Err(Problem::malformed("only mutations are taken here").into()),
    }
}

/// What one frame holds.
#[derive(Debug)]
pub struct Frame<'a> {
    /// Whether the messages came in an array, as legacy clients must not send them.
    pub is_array: bool,
    /// The messages in their order.
    pub messages: Vec<Result<ClientMessage<'a>, Refused>>,
}

/// Reads one message again that was read before, by what it was read from.
pub(crate) fn decode_again(raw: &str) -> Option<ClientMessage<'_>> {
    message(raw).ok()
}

/// Reads a subscription again: a message, or an entry of a hello.
pub(crate) fn decode_subscription_again(raw: &str) -> Option<SubscribeMessage<'_>> {
    Envelope::parse(raw).ok()?.subscribe().ok()
}

fn message(json: &str) -> Result<ClientMessage<'_>, Refused> {
    let envelope = Envelope::parse(json)
        .map_err(|_| Problem::malformed("a message is a JSON object without doubled fields"))?;
    read(&envelope)
}

fn read<'a>(envelope: &Envelope<'a>) -> Result<ClientMessage<'a>, Refused> {
    let kind = envelope.kind.and_then(text_of);
    let channel_only = |problem| Refused {
        channel: envelope.channel().ok(),
        ..Refused::from(problem)
    };
    match kind.as_deref() {
        Some("ping") => Ok(ClientMessage::Ping),
        Some("hello") => Ok(ClientMessage::Hello(envelope.hello()?)),
        Some("auth") => Ok(ClientMessage::Auth {
            token: envelope.auth()?,
        }),
        Some("subscribe") => envelope.subscribe().map(ClientMessage::Subscribe),
        Some("unsubscribe") => Ok(ClientMessage::Unsubscribe {
            channel: envelope.channel()?,
        }),
        Some("mutate") => envelope.mutate().map(ClientMessage::Mutate),
        Some("presence") => {
            let message = envelope.presence().map_err(channel_only)?;
            Ok(ClientMessage::Presence(message))
        }
        Some("signal") => {
            let message = envelope.signal().map_err(channel_only)?;
            Ok(ClientMessage::Signal(message))
        }
        Some(_) => Err(Problem::malformed("no message has this type").into()),
        None => Err(Problem::malformed("a message needs a type").into()),
    }
}

fn name<T>(
    what: &'static str,
    text: &str,
    parse: fn(&str) -> Result<T, NameError>,
) -> Result<T, Problem> {
    parse(text).map_err(|error| Problem::malformed(format!("{what} {error}")))
}

fn text<'a>(what: &'static str, raw: &'a RawValue) -> Result<Cow<'a, str>, Problem> {
    text_of(raw).ok_or_else(|| Problem::malformed(format!("{what} must be a text")))
}

impl<'a> Envelope<'a> {
    fn channel(&self) -> Result<Channel, Problem> {
        let raw = self
            .channel
            .ok_or_else(|| Problem::malformed("channel is missing"))?;
        name("channel", &text("channel", raw)?, Channel::parse)
    }

    fn id(&self) -> Result<Option<RequestId>, Problem> {
        self.id
            .map(|raw| name("id", &text("id", raw)?, RequestId::parse))
            .transpose()
    }

    fn flag(what: &'static str, raw: Option<&RawValue>) -> Result<bool, Problem> {
        match raw.map(RawValue::get) {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(Problem::malformed(format!("{what} must be true or false"))),
        }
    }

    fn number(what: &'static str, raw: &RawValue) -> Result<u64, Problem> {
        serde_json::from_str(raw.get())
            .ok()
            .filter(|number| *number <= limits::SAFE_INTEGER)
            .ok_or_else(|| Problem::malformed(format!("{what} must be a whole number")))
    }

    fn hello(&self) -> Result<Hello<'a>, Problem> {
        let version = self.v.ok_or_else(|| Problem::malformed("v is missing"))?;
        let device = self.device.map(|raw| text("device", raw)).transpose()?;
        if device
            .as_ref()
            .is_some_and(|d| d.len() > limits::DEVICE_BYTES)
        {
            return Err(Problem::malformed("device is too long"));
        }
        let list: Vec<&RawValue> = self
            .subscribe
            .map(|raw| serde_json::from_str(raw.get()))
            .transpose()
            .map_err(|_| Problem::malformed("subscribe must be an array"))?
            .unwrap_or_default();
        let entry = |raw: &'a RawValue| {
            let envelope = Envelope::parse(raw.get())
                .map_err(|_| Problem::malformed("a subscription is a JSON object"))?;
            envelope.subscribe()
        };
        if list.len() > limits::FRAME_MESSAGES {
            return Err(Problem::malformed("too many subscriptions in one frame"));
        }
        Ok(Hello {
            version: Self::number("v", version)?,
            schema: self
                .schema
                .map(|raw| Self::number("schema", raw))
                .transpose()?,
            device,
            subscribe: list.into_iter().map(entry).collect(),
        })
    }

    fn auth(&self) -> Result<Cow<'a, str>, Problem> {
        let raw = self
            .token
            .ok_or_else(|| Problem::malformed("token is missing"))?;
        text("token", raw)
    }

    fn subscribe(&self) -> Result<SubscribeMessage<'a>, Refused> {
        let id = self.id()?;
        let channel = self.channel();
        let refused = |problem| Refused {
            id: id.clone(),
            channel: self.channel().ok(),
            problem,
        };
        let rest = || {
            let cursor = self.cursor.map(|raw| text("cursor", raw)).transpose()?;
            let view = self.view.map(|raw| text("view", raw)).transpose()?;
            let limit = match self.limit {
                None => limits::PAGE_DEFAULT,
                Some(raw) => usize::try_from(Self::number("limit", raw)?)
                    .ok()
                    .filter(|limit| (1..=limits::PAGE_MAX).contains(limit))
                    .ok_or_else(|| Problem::malformed("limit must be 1 to 1000"))?,
            };
            let token = self.token.map(|raw| text("token", raw)).transpose()?;
            Ok((cursor, view, limit, Self::flag("meta", self.meta)?, token))
        };
        let channel = channel.map_err(refused)?;
        let (cursor, view, limit, meta, token) = rest().map_err(refused)?;
        Ok(SubscribeMessage {
            id,
            channel,
            cursor,
            view,
            limit,
            meta,
            since: self.since,
            token,
            raw: self.raw,
        })
    }

    fn mutate(&self) -> Result<MutateMessage<'a>, Refused> {
        let id = self.id()?;
        let id = id.ok_or_else(|| Problem::malformed("id is missing"))?;
        let refused = |problem| Refused {
            id: Some(id.clone()),
            channel: self.channel().ok(),
            problem,
        };
        let channel = self.channel().map_err(refused)?;
        let action = self.action.and_then(text_of);
        let action = action.as_deref().and_then(Action::parse).ok_or_else(|| {
            refused(Problem::malformed(
                "action must be create, update or delete",
            ))
        })?;
        let key = self
            .key
            .map(|raw| text("key", raw))
            .transpose()
            .map_err(refused)?;
        Ok(MutateMessage {
            id,
            channel,
            action,
            key,
            data: self.data,
            raw: self.raw,
        })
    }

    fn presence(&self) -> Result<PresenceMessage<'a>, Problem> {
        let channel = self.channel()?;
        let watch = Self::flag("watch", self.watch)?;
        let change = match self.state {
            None if watch => PresenceChange::Watch,
            Some(raw) if !watch && raw.get() == "null" => PresenceChange::Leave,
            Some(raw) if !watch => PresenceChange::Set(raw),
            _ => return Err(Problem::malformed("presence needs a state, or watch: true")),
        };
        Ok(PresenceMessage {
            channel,
            change,
            raw: self.raw,
        })
    }

    fn signal(&self) -> Result<SignalMessage<'a>, Problem> {
        let event = self
            .event
            .ok_or_else(|| Problem::malformed("event is missing"))?;
        let event = text("event", event)?;
        name("event", &event, RequestId::parse)?;
        Ok(SignalMessage {
            channel: self.channel()?,
            event,
            data: self.data,
            raw: self.raw,
        })
    }
}

/// The key of a row, given apart, inside the data as `id`, or both: then they must agree.
pub(crate) fn key_of(key: Option<&str>, id: Option<&RawValue>) -> Result<Key, Problem> {
    let id = id
        .map(|raw| text_of(raw).ok_or_else(|| Problem::invalid("id", "must be a text")))
        .transpose()?;
    let (field, text) = match (key, id) {
        (Some(key), Some(id)) if key != id => {
            return Err(Problem::invalid("key", "does not agree with data.id"));
        }
        (Some(key), _) => ("key", Cow::Borrowed(key)),
        (None, Some(id)) => ("id", id),
        (None, None) => return Err(Problem::invalid("key", "is missing")),
    };
    Key::parse(&text).map_err(|error| Problem::invalid(field, error.to_string()))
}
