//! What observers are told: one event an operation, without payloads, keys of rows or tokens.

mod line;
mod metrics;
mod point;
mod recent;

use std::rc::Rc;

pub(crate) use metrics::{Gauges, Metrics};
pub use point::Point;
pub(crate) use recent::Recent;

use crate::config::Publisher;
use crate::names::{Channel, Identity, Millis, Seq, SessionId, Space};
use crate::protocol::{Action, Code, Problem};
use crate::session::{Grant, Session};

/// What somebody did, or what happened by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Somebody connected, or wanted to.
    Connect,
    /// A connection ended, for any reason but its token's end.
    Disconnect,
    /// A client asked for a channel.
    Subscribe,
    /// A client asked for a change.
    Mutate,
    /// A publisher's call.
    Publish,
    /// An operator's call.
    Operate,
    /// A question of a publisher or operator. Only refused ones are told.
    Ask,
    /// A session, or with a channel a subscription, ended with its token.
    Expire,
    /// A step of trimming.
    Retain,
}

impl Operation {
    /// All operations.
    pub const ALL: [Self; 9] = [
        Self::Connect,
        Self::Disconnect,
        Self::Subscribe,
        Self::Mutate,
        Self::Publish,
        Self::Operate,
        Self::Ask,
        Self::Expire,
        Self::Retain,
    ];

    /// The operation's name in lines, metrics and data points.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Disconnect => "disconnect",
            Self::Subscribe => "subscribe",
            Self::Mutate => "mutate",
            Self::Publish => "publish",
            Self::Operate => "operate",
            Self::Ask => "ask",
            Self::Expire => "expire",
            Self::Retain => "retain",
        }
    }
}

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Done,
    /// It was done before, under the same id or idempotency key; the answer is the one of then.
    Repeated,
    /// It was refused, or failed.
    Refused(Code),
}

impl Outcome {
    /// The outcome's name in lines, metrics and data points.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Repeated => "repeated",
            Self::Refused(_) => "refused",
        }
    }

    /// Why it was refused.
    #[must_use]
    pub fn code(self) -> Option<Code> {
        match self {
            Self::Done | Self::Repeated => None,
            Self::Refused(code) => Some(code),
        }
    }
}

/// One operation with its context. What does not apply is `None` or 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What it was.
    pub operation: Operation,
    /// What came of it.
    pub outcome: Outcome,
    /// When, by the server's clock.
    pub at: Millis,
    /// In which space; `None` where the request named none that can be.
    pub space: Option<Space>,
    /// Whose connection it was: its public name.
    pub session: Option<SessionId>,
    /// The verified user.
    pub identity: Option<Identity>,
    /// The app's installation, as `hello` said.
    pub device: Option<Rc<str>>,
    /// Whose key a call came with.
    pub publisher: Option<Publisher>,
    /// The path of a call.
    pub path: Option<&'static str>,
    /// The channel; of a batch only where it is the same for all its changes.
    pub channel: Option<Channel>,
    /// What a mutation does to its row.
    pub action: Option<Action>,
    /// Changes that were written.
    pub changes: u64,
    /// The seq of the last of them.
    pub seq: Option<Seq>,
    /// The code that we closed the socket with; `None` where its client did.
    pub close: Option<u16>,
    /// Rows written, as the platform bills them.
    pub rows: u64,
    /// Connections that were sent something, the asker not counted.
    pub receivers: u64,
    /// Bytes of text for all receivers, and for the asker, before frames are joined.
    pub bytes: u64,
    /// How long it took, by a clock that stands still while code runs: what was waited for.
    pub duration_ms: u64,
}

impl Event {
    /// An operation that was done, with nothing else to say.
    #[must_use]
    pub fn new(operation: Operation, space: Option<Space>) -> Self {
        Self {
            operation,
            outcome: Outcome::Done,
            at: Millis(0),
            space,
            session: None,
            identity: None,
            device: None,
            publisher: None,
            path: None,
            channel: None,
            action: None,
            changes: 0,
            seq: None,
            close: None,
            rows: 0,
            receivers: 0,
            bytes: 0,
            duration_ms: 0,
        }
    }

    /// Says whose session it was.
    #[must_use]
    pub(crate) fn of(self, session: &Session) -> Self {
        Self {
            device: session.device.clone(),
            ..self.by(&session.id, &session.grant)
        }
    }

    /// Says who it was, where there is no session yet.
    #[must_use]
    pub(crate) fn by(self, session: &SessionId, grant: &Grant) -> Self {
        Self {
            session: Some(session.clone()),
            identity: grant.identity.clone(),
            ..self
        }
    }

    pub(crate) fn refuse(&mut self, problem: &Problem) {
        self.outcome = Outcome::Refused(problem.code);
    }

    /// Counts a text to so many sockets.
    pub(crate) fn sent(&mut self, text: &str, to: usize) {
        self.bytes += (text.len() * to) as u64;
    }
}

/// Is told of every operation after its turn, before the next one: what takes long here holds up
/// the space, and a panic resets it as any other does. See `workers::Host::observed_by`.
pub trait Observer: 'static {
    /// Somebody connected, or was refused by the object. What the router refused is told to the
    /// log alone.
    fn on_connect(&self, _event: &Event) {}

    /// A connection ended, also with its token.
    fn on_disconnect(&self, _event: &Event) {}

    /// A client asked for a channel.
    fn on_subscribe(&self, _event: &Event) {}

    /// A client asked for a change.
    fn on_mutate(&self, _event: &Event) {}

    /// A publisher's call.
    fn on_publish(&self, _event: &Event) {}

    /// Any operation. Unless replaced, it calls the one of the others that fits; an operator's
    /// call, a subscription that ends with its token and a step of trimming fit none.
    fn on_event(&self, event: &Event) {
        match event.operation {
            Operation::Connect => self.on_connect(event),
            Operation::Disconnect => self.on_disconnect(event),
            Operation::Expire if event.channel.is_none() => self.on_disconnect(event),
            Operation::Subscribe => self.on_subscribe(event),
            Operation::Mutate => self.on_mutate(event),
            Operation::Publish => self.on_publish(event),
            Operation::Operate | Operation::Ask | Operation::Expire | Operation::Retain => {}
        }
    }
}

/// Nobody.
impl Observer for () {}
