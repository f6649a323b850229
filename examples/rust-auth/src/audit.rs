//! An observer of the team's own: it keeps an eye on who comes and goes, and on who tries what it
//! may not. A line in the log stands for whatever a team does with that.

use tidewire::{Event, Identity, Observer, Outcome};

/// Notes connections and refused writes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audit;

fn who(event: &Event) -> &str {
    event.identity.as_ref().map_or("somebody", Identity::as_str)
}

impl Observer for Audit {
    fn on_connect(&self, event: &Event) {
        worker::console_log!("audit: {} came: {}", who(event), event.outcome.as_str());
    }

    fn on_disconnect(&self, event: &Event) {
        worker::console_log!("audit: {} went", who(event));
    }

    fn on_mutate(&self, event: &Event) {
        if let Outcome::Refused(code) = event.outcome {
            worker::console_warn!("audit: {} may not write: {}", who(event), code.as_str());
        }
    }
}
