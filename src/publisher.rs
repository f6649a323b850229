//! Publishing from Rust: typed calls over whatever reaches the sync engine.
//!
//! ```
//! # use std::future::{Future, ready};
//! # use tidewire::publisher::{Answer, Change, Post, Publisher, PublishError, Transport};
//! # struct Loopback;
//! # impl Transport for Loopback {
//! #     fn post(&self, _: Post<'_>) -> impl Future<Output = Result<Answer, String>> {
//! #         let body = r#"{"cursor":"k3j9x2.1","seq":1,"receivers":0}"#.to_owned();
//! #         ready(Ok(Answer { status: 200, body }))
//! #     }
//! # }
//! # async fn example() -> Result<(), PublishError> {
//! # let transport = Loopback;
//! let publisher = Publisher::new(transport);
//! let row = serde_json::json!({ "text": "milk", "done": false });
//! let change = Change::create("todos", "k1", &row)?.to(["user:alice"]);
//! let published = publisher.publish(&change, Some("order-17")).await?;
//! assert_eq!(published.seq, 1);
//! # Ok(())
//! # }
//! ```
//!
//! In a Worker, `workers::WorkerTransport::from_env` finds the way: the Durable Object's binding,
//! else the service binding, else the URL.

use std::future::Future;

use serde::{Deserialize, Serialize};

use crate::digest;
use crate::engine::Call;
use crate::limits;
use crate::names::Space;
use crate::protocol::{Action, JsonWriter, object};

/// One call on its way to the sync engine.
#[derive(Debug, Clone, Copy)]
pub struct Post<'a> {
    /// Which call.
    pub call: Call,
    /// The space; the default one where there is none.
    pub space: Option<&'a Space>,
    /// The JSON body.
    pub body: &'a str,
    /// Makes the call happen once.
    pub idempotency_key: Option<&'a str>,
}

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: String,
}

/// A way to the sync engine.
pub trait Transport {
    /// Posts a call. An error is the reason why there is no answer, for people.
    fn post(&self, post: Post<'_>) -> impl Future<Output = Result<Answer, String>>;
}

/// What happened to one publish.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Published {
    /// The cursor of the last change.
    pub cursor: String,
    /// The seq of the last change.
    pub seq: u64,
    /// Sockets that the changes were sent to.
    pub receivers: u64,
}

/// Why a publish failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The data is no JSON object. Mend the caller.
    #[error("the data cannot be written as a JSON object: {0}")]
    Data(String),
    /// One change alone exceeds a request. Make the row smaller.
    #[error("change {index} alone exceeds 8 MiB: make the row smaller")]
    TooLarge {
        /// Its place in the list.
        index: usize,
    },
    /// The server refused. Retry only if [`PublishError::is_retryable`] says so; otherwise the
    /// code tells what to mend.
    #[error("refused with {code} ({status}): {message}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The contract's error code.
        code: String,
        /// For people.
        message: String,
        /// The field that is wrong; in a batch it begins with the index of its change.
        field: Option<String>,
        /// Whether the same call may succeed later.
        retryable: bool,
    },
    /// No answer, or none that can be read: the call may have happened. Retry with the same
    /// idempotency key, then it happens once.
    #[error("no answer, retry with the same idempotency key: {0}")]
    Unknown(String),
    /// A list was published in several parts and a later one failed.
    #[error("the first {published} changes are published, then: {error}")]
    Partly {
        /// How many changes are published.
        published: usize,
        /// Why the part after them is not.
        error: Box<PublishError>,
    },
}

impl PublishError {
    /// Whether the same call, with the same idempotency key, may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Data(_) | Self::TooLarge { .. } => false,
            Self::Refused { retryable, .. } => *retryable,
            Self::Unknown(_) => true,
            Self::Partly { error, .. } => error.is_retryable(),
        }
    }
}

/// A change to publish.
#[derive(Debug, Clone)]
pub struct Change {
    channel: String,
    action: Action,
    key: String,
    data: Option<String>,
    to: Option<To>,
}

#[derive(Debug, Clone)]
enum To {
    All,
    Topics(Vec<String>),
}

impl Change {
    fn new(channel: &str, action: Action, key: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            action,
            key: key.to_owned(),
            data: None,
            to: None,
        }
    }

    fn with(self, data: &impl Serialize) -> Result<Self, PublishError> {
        let json = serde_json::to_string(data).map_err(|e| PublishError::Data(e.to_string()))?;
        if !json.starts_with('{') {
            return Err(PublishError::Data("it is no object".to_owned()));
        }
        Ok(Self {
            data: Some(json),
            ..self
        })
    }

    /// Stores a row, in place of one of the same key. `id` may be left out of the data.
    ///
    /// # Errors
    /// [`PublishError::Data`] if the data is no JSON object.
    pub fn create(channel: &str, key: &str, data: &impl Serialize) -> Result<Self, PublishError> {
        Self::new(channel, Action::Create, key).with(data)
    }

    /// Merges top-level fields into a row; stores what is given where the log holds no such row.
    ///
    /// # Errors
    /// [`PublishError::Data`] if the data is no JSON object.
    pub fn update(channel: &str, key: &str, data: &impl Serialize) -> Result<Self, PublishError> {
        Self::new(channel, Action::Update, key).with(data)
    }

    /// Deletes a row. One that the log does not hold needs an audience, by [`Change::to`] or by
    /// the channel's rule.
    #[must_use]
    pub fn delete(channel: &str, key: &str) -> Self {
        Self::new(channel, Action::Delete, key)
    }

    /// Who may see the row from now on: 1–64 topics.
    #[must_use]
    pub fn to<T: Into<String>>(mut self, topics: impl IntoIterator<Item = T>) -> Self {
        self.to = Some(To::Topics(topics.into_iter().map(Into::into).collect()));
        self
    }

    /// Everyone who may read the channel may see the row from now on.
    #[must_use]
    pub fn to_all(mut self) -> Self {
        self.to = Some(To::All);
        self
    }

    fn write(&self, o: &mut JsonWriter) {
        o.text("channel", &self.channel);
        o.text("action", self.action.as_str());
        o.text("key", &self.key);
        if let Some(data) = &self.data {
            o.raw("data", data);
        }
        match &self.to {
            None => {}
            Some(To::All) => o.text("to", "all"),
            Some(To::Topics(topics)) => o
                .name("to")
                .array(|a| topics.iter().for_each(|topic| a.text_item(topic))),
        }
    }

    fn to_json(&self) -> String {
        object(|o| self.write(o))
    }
}

/// Publishes changes.
#[derive(Debug, Clone)]
pub struct Publisher<T> {
    transport: T,
    space: Option<Space>,
}

impl<T: Transport> Publisher<T> {
    /// A publisher into the default space.
    pub fn new(transport: T) -> Self {
        Self {
            transport,
            space: None,
        }
    }

    /// The same publisher into another space.
    #[must_use]
    pub fn into_space(self, space: Space) -> Self {
        Self {
            space: Some(space),
            ..self
        }
    }

    /// Publishes one change, with an idempotency key (1–128 bytes) exactly once.
    ///
    /// # Errors
    /// [`PublishError`] says what to do.
    pub async fn publish(
        &self,
        change: &Change,
        idempotency_key: Option<&str>,
    ) -> Result<Published, PublishError> {
        self.post(Call::Broadcast, &change.to_json(), idempotency_key)
            .await
    }

    /// Publishes changes in order, of one or several channels. Up to 1,000 changes and 8 MiB are
    /// all or nothing; more go in several parts, each all or nothing, and with an idempotency key
    /// each with a key of its own made of it, so that a retry of the whole list continues.
    ///
    /// # Errors
    /// [`PublishError`] says what to do; [`PublishError::Partly`] how far it went.
    pub async fn publish_all(
        &self,
        changes: &[Change],
        idempotency_key: Option<&str>,
    ) -> Result<Vec<Published>, PublishError> {
        let parts = split(changes)?;
        let several = parts.len() > 1;
        let (mut results, mut published) = (Vec::with_capacity(parts.len()), 0);
        for (index, part) in parts.iter().enumerate() {
            let key = idempotency_key.map(|key| match several {
                true => digest::content(&["part", key, &index.to_string()]),
                false => key.to_owned(),
            });
            let posted = self
                .post(Call::BroadcastBatch, &part.body, key.as_deref())
                .await;
            match posted {
                Ok(result) => results.push(result),
                Err(error) if published == 0 => return Err(error),
                Err(error) => {
                    let error = Box::new(error);
                    return Err(PublishError::Partly { published, error });
                }
            }
            published += part.changes;
        }
        Ok(results)
    }

    async fn post(
        &self,
        call: Call,
        body: &str,
        idempotency_key: Option<&str>,
    ) -> Result<Published, PublishError> {
        let post = Post {
            call,
            space: self.space.as_ref(),
            body,
            idempotency_key,
        };
        let answer = self.transport.post(post).await;
        read(&answer.map_err(PublishError::Unknown)?)
    }
}

#[derive(Deserialize)]
struct Refusal {
    error: RefusalError,
}

#[derive(Deserialize)]
struct RefusalError {
    code: String,
    message: String,
    field: Option<String>,
    #[serde(default)]
    retryable: bool,
}

fn read(answer: &Answer) -> Result<Published, PublishError> {
    if answer.status == 200 {
        return serde_json::from_str(&answer.body)
            .map_err(|error| PublishError::Unknown(error.to_string()));
    }
    match serde_json::from_str::<Refusal>(&answer.body) {
        Ok(Refusal { error }) => Err(PublishError::Refused {
            status: answer.status,
            code: error.code,
            message: error.message,
            field: error.field,
            retryable: error.retryable,
        }),
        Err(_) => {
            let what = format!("status {} without an error that can be read", answer.status);
            Err(PublishError::Unknown(what))
        }
    }
}

struct Part {
    body: String,
    changes: usize,
}

/// Cuts a list into bodies that a request may have.
fn split(changes: &[Change]) -> Result<Vec<Part>, PublishError> {
    const ENVELOPE: usize = r#"{"events":[]}"#.len();
    let mut parts: Vec<Part> = Vec::new();
    let mut items: Vec<String> = Vec::new();
    let mut bytes = ENVELOPE;
    let mut flush = |items: &mut Vec<String>| {
        if !items.is_empty() {
            parts.push(Part {
                body: format!(r#"{{"events":[{}]}}"#, items.join(",")),
                changes: items.len(),
            });
            items.clear();
        }
    };
    for (index, change) in changes.iter().enumerate() {
        let item = change.to_json();
        if ENVELOPE + item.len() > limits::BODY_BYTES {
            return Err(PublishError::TooLarge { index });
        }
        let full = bytes + item.len() + 1 > limits::BODY_BYTES;
        if full || items.len() == limits::BATCH_CHANGES {
            flush(&mut items);
            bytes = ENVELOPE;
        }
        bytes += item.len() + 1;
        items.push(item);
    }
    flush(&mut items);
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(bytes: usize) -> Change {
        Change::create("todos", "k", &serde_json::json!({ "t": "x".repeat(bytes) })).unwrap()
    }

    #[test]
    fn a_list_is_cut_at_1000_changes() {
        let sizes = |n| -> Vec<usize> {
            let parts = split(&vec![change(0); n]).unwrap();
            parts.iter().map(|part| part.changes).collect()
        };
        assert_eq!(sizes(0), [0; 0]);
        assert_eq!(sizes(limits::BATCH_CHANGES), [limits::BATCH_CHANGES]);
        assert_eq!(sizes(limits::BATCH_CHANGES + 1), [limits::BATCH_CHANGES, 1]);
    }

    #[test]
    fn a_list_is_cut_at_8_mib_and_a_larger_change_is_refused() {
        let envelope = r#"{"events":[]}"#.len() + change(0).to_json().len();
        let largest = change(limits::BODY_BYTES - envelope);
        let parts = split(&[change(0), largest.clone(), change(0)]).unwrap();
        let sizes: Vec<usize> = parts.iter().map(|part| part.changes).collect();
        assert_eq!(sizes, [1, 1, 1]);
        assert_eq!(parts[1].body.len(), limits::BODY_BYTES);
        let larger = change(limits::BODY_BYTES - envelope + 1);
        let refused = split(&[largest, larger]).err();
        assert_eq!(refused, Some(PublishError::TooLarge { index: 1 }));
    }

    #[test]
    fn data_must_be_an_object() {
        for data in [
            serde_json::json!(null),
            serde_json::json!([1]),
            serde_json::json!("{"),
        ] {
            let refused = Change::update("todos", "k", &data).unwrap_err();
            assert!(!refused.is_retryable());
        }
    }
}
