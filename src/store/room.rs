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

impl<S: Sql> Store<S> {
    /// Whether a row may be written; a delete (`None`) always may.
    ///
    /// # Errors
    /// `unavailable` where the database has reached `most` bytes. Deleting makes room.
    pub(crate) fn check_room(&mut self, data: Option<&str>, most: u64) -> Result<(), Problem> {
        let Some(data) = data else { return Ok(()) };
        let room = &mut self.room;
        let written = room.written.unwrap_or(limits::STORAGE_STEP_BYTES) + data.len();
        let looks = written >= limits::STORAGE_STEP_BYTES || room.size >= most;
        room.written = Some(if looks { 0 } else { written });
        if looks {
            // A database that cannot tell will refuse the write itself.
            room.size = self.sql.size().unwrap_or(room.size);
        }
        if room.size + data.len() as u64 > most {
            // The next one looks again, in case something was deleted meanwhile.
            room.written = None;
            let message = "the space's storage is full; delete something";
            return Err(Problem::new(Code::Unavailable, message));
        }
        Ok(())
    }
}
