//! What operators ask for: figures of a space, as JSON and for Prometheus.

use super::{Engine, Failure, Reply};
use crate::limits;
use crate::observe::Gauges;
use crate::protocol;
use crate::store::Sql;

impl<S: Sql> Engine<S> {
    pub(super) fn stats(&mut self, instance: &str) {
        let body = self.figures(instance);
        let body = body.map_err(|failure| self.problem(failure));
        self.reply(body);
    }

    fn figures(&self, instance: &str) -> Result<String, Failure> {
        let (connections, channels, subscriptions) = self.hub.counts();
        let rows = self.store.count_rows(limits::STATS_ROWS + 1)?;
        let floors = self.store.floors(limits::STATS_FLOORS + 1)?;
        let storage = self.store.size()?;
        Ok(protocol::object(|o| {
            o.text("space", self.space.as_str());
            o.text("epoch", self.store.epoch().as_str());
            o.number("seq", self.store.head().0);
            o.number("connections", connections as u64);
            o.number("channels", channels as u64);
            o.number("subscriptions", subscriptions as u64);
            o.number("storageBytes", storage);
            o.number("rows", rows.min(limits::STATS_ROWS) as u64);
            o.bool("moreRows", rows > limits::STATS_ROWS);
            o.name("floors").object(|o| {
                for (channel, floor) in floors.iter().take(limits::STATS_FLOORS) {
                    o.number(channel, floor.0);
                }
            });
            o.bool("moreFloors", floors.len() > limits::STATS_FLOORS);
            o.text("instance", instance);
            o.number("rowsWritten", self.store.written());
        }))
    }

    /// Counters and gauges as text. Nothing is read of the log.
    pub(super) fn metrics(&mut self) {
        let gauges = self.gauges();
        self.effects.reply = Some(Reply {
            status: 200,
            body: self.metrics.text(&gauges),
            retry_after_ms: None,
        });
    }

    pub(super) fn gauges(&self) -> Gauges {
        let (connections, channels, subscriptions) = self.hub.counts();
        Gauges {
            began_ms: self.began.0,
            connections,
            users: self.hub.owners(),
            channels,
            subscriptions,
            presences: self.hub.presences(),
            seq: self.store.head().0,
            // What cannot be told now is told as nothing.
            storage_bytes: self.store.size().unwrap_or_default(),
            attachment_bytes: self.hub.attachments_bytes(),
            rows_written: self.store.written(),
        }
    }
}
