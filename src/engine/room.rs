//! What one turn may still read and prepare to send: one small frame can ask for a thousand pages.

use std::cell::Cell;

use crate::limits;

/// What is left of a turn's bounds.
#[derive(Debug)]
pub(super) struct Room {
    rows: Cell<usize>,
    bytes: Cell<usize>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            rows: Cell::new(limits::TURN_ROWS),
            bytes: Cell::new(limits::TURN_OUT_BYTES),
        }
    }
}

impl Room {
    /// Rows that may still be read.
    pub(super) fn rows(&self) -> usize {
        self.rows.get()
    }

    /// Bytes that changes of topics may still make.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.get()
    }

    pub(super) fn spend(&self, rows: usize, bytes: usize) {
        self.rows.set(self.rows.get().saturating_sub(rows));
        self.bytes.set(self.bytes.get().saturating_sub(bytes));
    }
}
