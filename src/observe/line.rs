//! An event as a line of the log: one flat JSON object; what does not apply is left out.

use super::Event;
use crate::names::{Channel, Identity, SessionId, Space};
use crate::protocol::{JsonWriter, object};

impl Event {
    /// The line for the log.
    #[must_use]
    pub fn line(&self) -> String {
        object(|o| self.fields(o))
    }

    /// Writes the fields of the line.
    pub(crate) fn fields(&self, o: &mut JsonWriter) {
        let mut text = |name: &str, value: Option<&str>| {
            if let Some(value) = value {
                o.text(name, value);
            }
        };
        text("op", Some(self.operation.as_str()));
        text("outcome", Some(self.outcome.as_str()));
        text("code", self.outcome.code().map(|code| code.as_str()));
        text("space", self.space.as_ref().map(Space::as_str));
        text("session", self.session.as_ref().map(SessionId::as_str));
        text("identity", self.identity.as_ref().map(Identity::as_str));
        text("device", self.device.as_deref());
        text("key", self.publisher.as_ref().map(|key| key.name()));
        text("path", self.path);
        text("channel", self.channel.as_ref().map(Channel::as_str));
        text("action", self.action.map(|action| action.as_str()));
        for (name, value) in [
            ("seq", self.seq.map(|seq| seq.0)),
            ("close", self.close.map(u64::from)),
            ("changes", Some(self.changes).filter(|changes| *changes > 0)),
            ("rows", Some(self.rows)),
            ("receivers", Some(self.receivers)),
            ("bytes", Some(self.bytes)),
            ("durationMs", Some(self.duration_ms)),
        ] {
            if let Some(value) = value {
                o.number(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Publisher;
    use crate::names::{Millis, Seq};
    use crate::observe::{Operation, Outcome};
    use crate::protocol::{Action, Code};

    #[test]
    fn a_line_has_what_applies_and_nothing_else() {
        let nothing = Event::new(Operation::Retain, None);
        assert_eq!(
            nothing.line(),
            r#"{"op":"retain","outcome":"done","rows":0,"receivers":0,"bytes":0,"durationMs":0}"#
        );
        let all = Event {
            outcome: Outcome::Refused(Code::Conflict),
            at: Millis(7),
            space: Some(Space::default_space()),
            session: SessionId::parse("s").ok(),
            identity: Identity::parse("ali\"ce").ok(),
            device: Some("d".into()),
            publisher: Some(Publisher::Named("bills".into())),
            path: Some("/broadcast"),
            channel: Channel::parse("todos").ok(),
            action: Some(Action::Update),
            changes: 1,
            seq: Some(Seq(2)),
            close: Some(4000),
            rows: 3,
            receivers: 4,
            bytes: 5,
            duration_ms: 6,
            ..Event::new(Operation::Publish, None)
        };
        assert_eq!(
            all.line(),
            r#"{"op":"publish","outcome":"refused","code":"conflict","space":"global","session":"s","identity":"ali\"ce","device":"d","key":"bills","path":"/broadcast","channel":"todos","action":"update","seq":2,"close":4000,"changes":1,"rows":3,"receivers":4,"bytes":5,"durationMs":6}"#
        );
    }
}
