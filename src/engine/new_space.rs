//! How many spaces somebody has brought into being: the default space keeps count for all.

use super::{Engine, Failure};
use crate::digest;
use crate::limits;
use crate::names::Millis;
use crate::protocol::{Code, Problem};
use crate::store::Sql;

impl<S: Sql> Engine<S> {
    pub(super) fn new_space(&mut self, owner: &str, now: Millis) {
        // Addresses of people need not be kept as they are.
        let owner = digest::keyed(self.store.view_key(), &[owner]);
        let most = self.config.limits.new_spaces_per_day;
        let counted = self.store.transaction(|store| {
            if store.new_spaces(&owner, now)? >= most {
                let problem = Problem::new(Code::RateLimited, "too many new spaces; try tomorrow");
                return Err(Failure::Peer(Problem {
                    retry_after_ms: Some(limits::DAY_MS - now.0 % limits::DAY_MS),
                    ..problem
                }));
            }
            store.count_new_space(&owner, now)?;
            Ok(())
        });
        self.skip_written();
        let answer = counted.map(|()| "{}".to_owned());
        let answer = answer.map_err(|failure| self.problem(failure));
        self.reply(answer);
    }
}
