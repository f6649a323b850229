//! The last events of this life of the object, numbered, for whoever looks on.

use std::collections::VecDeque;

use super::Event;
use crate::limits;

/// The last [`limits::RECENT_EVENTS`] events.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    events: VecDeque<Event>,
    /// How many there were in all.
    count: u64,
}

impl Recent {
    pub(crate) fn push(&mut self, event: Event) {
        if self.events.len() == limits::RECENT_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
        self.count += 1;
    }

    /// How many events there were; the newest has this number.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The events after number `since` that are still held, each with its number, oldest first.
    pub(crate) fn after(&self, since: u64) -> impl Iterator<Item = (u64, &Event)> {
        let first = self.count - self.events.len() as u64 + 1;
        let numbered = (first..).zip(&self.events);
        numbered.filter(move |(number, _)| *number > since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::Operation;

    #[test]
    fn the_last_are_held_at_the_bound_and_one_past_it_the_first_goes() {
        let mut recent = Recent::default();
        let numbers = |recent: &Recent, since| -> Vec<u64> {
            recent.after(since).map(|(number, _)| number).collect()
        };
        assert!(numbers(&recent, 0).is_empty());
        let most = limits::RECENT_EVENTS as u64;
        for count in 1..=most + 1 {
            recent.push(Event::new(Operation::Retain, None));
            let first = numbers(&recent, 0).first().copied();
            assert_eq!(first, Some(if count > most { 2 } else { 1 }));
        }
        assert_eq!(recent.count(), most + 1);
        assert_eq!(numbers(&recent, most - 1), [most, most + 1]);
        assert!(numbers(&recent, most + 1).is_empty());
    }
}
