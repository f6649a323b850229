//! An event as a data point of Analytics Engine: its columns have numbers, not names, so their
//! order is part of the contract. New ones go to the end.

use super::Event;
use crate::names::{Channel, Identity, Space};

/// One data point.
#[derive(Debug, Clone, PartialEq)]
pub struct Point {
    /// `index1`, by which is sampled: the space.
    pub index: String,
    /// `blob1` to `blob9`: operation, outcome, code, channel, identity, device, key, path, action.
    pub blobs: [String; 9],
    /// `double1` to `double6`: duration in ms, rows, receivers, bytes, changes, close code.
    pub doubles: [f64; 6],
}

impl From<&Event> for Point {
    fn from(event: &Event) -> Self {
        let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
        Self {
            index: text(event.space.as_ref().map(Space::as_str)),
            blobs: [
                text(Some(event.operation.as_str())),
                text(Some(event.outcome.as_str())),
                text(event.outcome.code().map(|code| code.as_str())),
                text(event.channel.as_ref().map(Channel::as_str)),
                text(event.identity.as_ref().map(Identity::as_str)),
                text(event.device.as_deref()),
                text(event.publisher.as_ref().map(|key| key.name())),
                text(event.path),
                text(event.action.map(|action| action.as_str())),
            ],
            doubles: [
                event.duration_ms as f64,
                event.rows as f64,
                event.receivers as f64,
                event.bytes as f64,
                event.changes as f64,
                event.close.unwrap_or_default().into(),
            ],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Publisher;
    use crate::observe::{Operation, Outcome};
    use crate::protocol::{Action, Code};

    #[test]
    fn columns_have_their_documented_places() {
        let event = Event {
            outcome: Outcome::Refused(Code::Conflict),
            identity: Identity::parse("alice").ok(),
            device: Some("phone".into()),
            publisher: Some(Publisher::Unscoped),
            path: Some("/broadcast"),
            channel: Channel::parse("todos").ok(),
            action: Some(Action::Delete),
            changes: 5,
            close: Some(6),
            rows: 2,
            receivers: 3,
            bytes: 4,
            duration_ms: 1,
            ..Event::new(Operation::Mutate, Some(Space::default_space()))
        };
        let point = Point::from(&event);
        assert_eq!(point.index, "global");
        let blobs = [
            "mutate",
            "refused",
            "conflict",
            "todos",
            "alice",
            "phone",
            "PUBLISH_KEY",
            "/broadcast",
            "delete",
        ];
        assert_eq!(point.blobs, blobs);
        assert_eq!(point.doubles, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
}
