//! What the alarm does beside expiry: trimming, one bounded step at a time.

use super::Engine;
use crate::names::Millis;
use crate::observe::{Operation, Outcome};
use crate::protocol::Code;
use crate::store::Sql;

impl<S: Sql> Engine<S> {
    pub(super) fn retain(&mut self, now: Millis) {
        let due = self.store.sweep_at().is_some_and(|at| at <= now);
        if self.store.importing().is_some() || !due && self.sweep.is_none() {
            return;
        }
        let at = self.sweep.take().unwrap_or_default();
        let rules = &self.config.rules;
        let step = self
            .store
            .transaction(|store| store.sweep(at.clone(), rules, now));
        let mut event = self.event(Operation::Retain);
        match step {
            Ok(next) => self.sweep = next,
            Err(error) => {
                event.outcome = Outcome::Refused(Code::Unavailable);
                self.effects.faults.push(error.to_string());
            }
        }
        self.tell_written(event);
    }
}
