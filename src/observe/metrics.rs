//! Counters and gauges in the text format of Prometheus. Labels have few values, all of them ours:
//! nothing that a peer chooses becomes a time series.

use std::fmt::Write as _;

use super::{Event, Operation};
use crate::protocol::VERSION;
use crate::small_map::SmallMap;

/// What was counted in this life of the object.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    operations: SmallMap<(Operation, &'static str), u64>,
    refusals: SmallMap<(Operation, &'static str), u64>,
    /// Connections that ended, by the code that we closed them with; `None` is the client's doing.
    disconnects: SmallMap<Option<u16>, u64>,
    /// What sources were asked, by kind and by what came of it.
    questions: SmallMap<(&'static str, &'static str), u64>,
    changes: u64,
    deliveries: u64,
    frames_in: u64,
    bytes_in: u64,
    frames_out: u64,
    bytes_out: u64,
}

/// What is as it is at the moment of asking.
#[derive(Debug, Default)]
pub(crate) struct Gauges {
    pub(crate) began_ms: u64,
    pub(crate) connections: usize,
    pub(crate) users: usize,
    pub(crate) channels: usize,
    pub(crate) subscriptions: usize,
    pub(crate) presences: usize,
    pub(crate) seq: u64,
    pub(crate) storage_bytes: u64,
    pub(crate) attachment_bytes: usize,
    pub(crate) rows_written: u64,
}

impl Metrics {
    /// Counts an operation.
    pub(crate) fn count(&mut self, event: &Event) {
        let operation = event.operation;
        *self
            .operations
            .or_default((operation, event.outcome.as_str())) += 1;
        if let Some(code) = event.outcome.code() {
            *self.refusals.or_default((operation, code.as_str())) += 1;
        }
        let ended = match operation {
            Operation::Disconnect => true,
            Operation::Expire => event.channel.is_none(),
            Operation::Connect
            | Operation::Subscribe
            | Operation::Mutate
            | Operation::Publish
            | Operation::Operate
            | Operation::Ask
            | Operation::Retain => false,
        };
        if ended {
            *self.disconnects.or_default(event.close) += 1;
        }
        self.changes += event.changes;
        self.deliveries += event.receivers;
    }

    /// Counts a question to a source.
    pub(crate) fn asked(&mut self, kind: &'static str, outcome: &'static str) {
        *self.questions.or_default((kind, outcome)) += 1;
    }

    pub(crate) fn received(&mut self, bytes: usize) {
        self.frames_in += 1;
        self.bytes_in += bytes as u64;
    }

    pub(crate) fn sent(&mut self, bytes: usize, sockets: usize) {
        self.frames_out += sockets as u64;
        self.bytes_out += (bytes * sockets) as u64;
    }

    /// Frames and bytes in and out.
    pub(crate) fn traffic(&self) -> [u64; 4] {
        [
            self.frames_in,
            self.bytes_in,
            self.frames_out,
            self.bytes_out,
        ]
    }

    /// All of it as text.
    pub(crate) fn text(&self, gauges: &Gauges) -> String {
        let mut out = Exposition::default();
        let version = env!("CARGO_PKG_VERSION");
        out.head("build_info", "gauge", "The running version; always 1.");
        let labels = format!("{{version=\"{version}\",protocol=\"{VERSION}\"}}");
        out.sample("build_info", &labels, 1);
        let began = gauges.began_ms / 1000;
        for (name, help, value) in [
            (
                "start_time_seconds",
                "When this life of the object began, since the Unix epoch.",
                began,
            ),
            (
                "connections",
                "Open connections.",
                gauges.connections as u64,
            ),
            (
                "users",
                "Identities, and addresses without one, that are connected.",
                gauges.users as u64,
            ),
            (
                "channels",
                "Channels with a live subscriber.",
                gauges.channels as u64,
            ),
            (
                "subscriptions",
                "Live subscriptions.",
                gauges.subscriptions as u64,
            ),
            (
                "presences",
                "Connections that show themselves in a channel, counted for each channel.",
                gauges.presences as u64,
            ),
            (
                "log_seq",
                "The seq of the newest change; it survives sleep.",
                gauges.seq,
            ),
            (
                "storage_bytes",
                "Bytes that the database takes.",
                gauges.storage_bytes,
            ),
            (
                "attachment_bytes",
                "Bytes of all sockets' attachments.",
                gauges.attachment_bytes as u64,
            ),
        ] {
            out.head(name, "gauge", help);
            out.sample(name, "", value);
        }
        self.counters(&mut out, gauges.rows_written);
        out.text
    }

    fn counters(&self, out: &mut Exposition, rows_written: u64) {
        let name = "operations_total";
        out.head(name, "counter", "Operations, by what came of them.");
        for ((operation, outcome), count) in &self.operations {
            let operation = operation.as_str();
            let labels = format!("{{operation=\"{operation}\",outcome=\"{outcome}\"}}");
            out.sample(name, &labels, *count);
        }
        let name = "refusals_total";
        out.head(name, "counter", "Refused operations, by error code.");
        for ((operation, code), count) in &self.refusals {
            let operation = operation.as_str();
            let labels = format!("{{operation=\"{operation}\",code=\"{code}\"}}");
            out.sample(name, &labels, *count);
        }
        let name = "disconnects_total";
        let help = "Connections that ended, by our close code, or \"client\".";
        out.head(name, "counter", help);
        for (code, count) in &self.disconnects {
            let code = code.map_or("client".to_owned(), |code| code.to_string());
            out.sample(name, &format!("{{code=\"{code}\"}}"), *count);
        }
        let name = "questions_total";
        let help = "Questions to channels' sources, by what came of them; a late one counts again.";
        out.head(name, "counter", help);
        for ((kind, outcome), count) in &self.questions {
            let labels = format!("{{kind=\"{kind}\",outcome=\"{outcome}\"}}");
            out.sample(name, &labels, *count);
        }
        for (name, help, value) in [
            ("changes_total", "Changes written to the log.", self.changes),
            (
                "deliveries_total",
                "Receivers of changes and notices, summed.",
                self.deliveries,
            ),
            (
                "received_frames_total",
                "Frames from clients; heartbeats that the platform answers are not seen.",
                self.frames_in,
            ),
            (
                "received_bytes_total",
                "Bytes of these frames.",
                self.bytes_in,
            ),
            ("sent_frames_total", "Frames to clients.", self.frames_out),
            ("sent_bytes_total", "Bytes of these frames.", self.bytes_out),
            (
                "rows_written_total",
                "Rows written, as the platform bills them.",
                rows_written,
            ),
        ] {
            out.head(name, "counter", help);
            out.sample(name, "", value);
        }
    }
}

#[derive(Default)]
struct Exposition {
    text: String,
}

impl Exposition {
    fn head(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.text, "# HELP tidewire_{name} {help}");
        let _ = writeln!(self.text, "# TYPE tidewire_{name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &str, value: u64) {
        let _ = writeln!(self.text, "tidewire_{name}{labels} {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Outcome;
    use crate::protocol::Code;

    #[test]
    fn operations_are_counted_by_labels_of_ours() {
        let mut metrics = Metrics::default();
        let mut event = Event::new(Operation::Mutate, None);
        (event.changes, event.receivers) = (1, 2);
        metrics.count(&event);
        metrics.count(&event);
        event.outcome = Outcome::Refused(Code::Conflict);
        (event.changes, event.receivers) = (0, 0);
        metrics.count(&event);
        let mut gone = Event::new(Operation::Disconnect, None);
        metrics.count(&gone);
        gone.close = Some(4505);
        metrics.count(&gone);
        metrics.asked("fetch", "answered");
        metrics.asked("fetch", "answered");
        metrics.received(10);
        metrics.sent(5, 3);
        let text = metrics.text(&Gauges {
            connections: 7,
            ..Gauges::default()
        });
        for line in [
            "# TYPE tidewire_connections gauge",
            "tidewire_connections 7",
            "# TYPE tidewire_operations_total counter",
            "tidewire_operations_total{operation=\"mutate\",outcome=\"done\"} 2",
            "tidewire_operations_total{operation=\"mutate\",outcome=\"refused\"} 1",
            "tidewire_refusals_total{operation=\"mutate\",code=\"conflict\"} 1",
            "tidewire_disconnects_total{code=\"client\"} 1",
            "tidewire_disconnects_total{code=\"4505\"} 1",
            "tidewire_questions_total{kind=\"fetch\",outcome=\"answered\"} 2",
            "tidewire_changes_total 2",
            "tidewire_deliveries_total 4",
            "tidewire_received_frames_total 1",
            "tidewire_received_bytes_total 10",
            "tidewire_sent_frames_total 3",
            "tidewire_sent_bytes_total 15",
        ] {
            assert!(text.lines().any(|held| held == line), "{line}\n{text}");
        }
    }
}
