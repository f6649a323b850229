//! How full the database is: writes are refused before SQLite fails.

use crate::limits;
use crate::protocol::{Code, Problem};

use super::{Sql, Store};

/// What is known of the database's size. Asking for it with every write would cost too much.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Its size when it was last looked at.
    size: u64,
    /// What may have been written since; nothing was looked at yet where this is `None`.
    written: Option<usize>,
}

/// What a write does to the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// It takes so many bytes.
    More(usize),
    /// It deletes what is there: it goes on a little longer, so that room can be made.
    Frees(usize),
}

impl<S: Sql> Store<S> {
    /// Whether something may be written. What deletes may exceed the bound by a sixteenth.
    ///
    /// # Errors
    /// `unavailable` where the database has reached `most` bytes. Deleting makes room.
    pub(crate) fn check_room(&mut self, takes: Takes, most: u64) -> Result<(), Problem> {
        let (bytes, most) = match takes {
            Takes::More(bytes) => (bytes + limits::WRITE_OVERHEAD, most),
            Takes::Frees(bytes) => (bytes + limits::WRITE_OVERHEAD, most + most / 16),
        };
        let room = &mut self.room;
        let written = room.written.unwrap_or(limits::STORAGE_STEP_BYTES) + bytes;
        let looks = written >= limits::STORAGE_STEP_BYTES || room.size >= most;
        room.written = Some(if looks { 0 } else { written });
        if looks {
            // A database that cannot tell will refuse the write itself.
            room.size = self.sql.size().unwrap_or(room.size);
        }
        if room.size + bytes as u64 > most {
            // The next one looks again, in case something was deleted meanwhile.
            room.written = None;
            let message = "the space's storage is full; delete something";
            return Err(Problem::new(Code::Unavailable, message));
        }
        Ok(())
    }
}
