//! What one turn may still read and prepare to send: one small frame can ask for a thousand pages.
//!
//! How much a page may read is decided by its place in the turn alone, never by what the pages
//! before it have found: else the answers would tell how many hidden rows there are.

use std::cell::Cell;

use crate::limits;

/// What is left of a turn's bounds.
#[derive(Debug)]
pub(super) struct Room {
    pages: Cell<usize>,
    looks: Cell<usize>,
    bytes: Cell<usize>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            pages: Cell::new(0),
            looks: Cell::new(0),
            bytes: Cell::new(limits::TURN_OUT_BYTES),
        }
    }
}

/// The bound of the n-th of a turn: of the first entry that it lies below.
fn nth(counter: &Cell<usize>, schedule: &[(usize, usize)]) -> usize {
    let n = counter.replace(counter.get() + 1);
    let bound = schedule.iter().find(|(until, _)| n < *until);
    bound.map_or(0, |(_, rows)| *rows)
}

impl Room {
    /// How many rows the next page may read; with 0 it must not look at all.
    pub(super) fn next_page(&self) -> usize {
        nth(&self.pages, &limits::TURN_PAGES)
    }

    /// How many rows the next look for what a change of topics moves may read; with 0 it must not
    /// look at all.
    pub(super) fn next_look(&self) -> usize {
        nth(&self.looks, &limits::TURN_LOOKS)
    }

    /// Whether a change of topics has looked at rows in this turn.
    pub(super) fn has_looked(&self) -> bool {
        self.looks.get() > 0
    }

    /// Bytes that changes of topics may still make.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    pub(super) fn spend(&self, bytes: usize) {
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }
}
