//! Where events go: a line in the log, as `SYNC_LOG` says, and a data point where a dataset is bound.

use js_sys::Object;

use super::glue;
use crate::config::Log;
use crate::limits;
use crate::observe::{Event, Point};

/// Writes the events of one turn down. What is more than the platform takes of one invocation is
/// only counted.
pub(super) fn write(log: Log, dataset: Option<&Object>, events: &[Event]) {
    let mut lines = events.iter().filter(|event| log.takes(event));
    for event in lines.by_ref().take(limits::TURN_LINES) {
        worker::console_log!("{}", event.line());
    }
    let more = lines.count();
    if more > 0 {
        worker::console_log!("{{\"op\":\"more\",\"count\":{more}}}");
    }
    if let Some(dataset) = dataset {
        for event in events.iter().take(limits::TURN_POINTS) {
            let point = Point::from(event);
            glue::write_point(dataset, &point.index, point.blobs.into(), &point.doubles);
        }
    }
}
