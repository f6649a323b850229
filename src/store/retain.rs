//! Trimming: tombstones and losses that are older than the retention, all changes as old of rows that
//! live elsewhere, and events past the bounds of their channel, in bounded steps.
//!
//! Rows of a channel of latest states are walked in the order of their last change, from where the last walk
//! ended: a row that stayed behind without being a tombstone cannot become one without a new seq,
//! so every version of a row is looked at once. No index by time is needed, because time and seq
//! grow together.

use std::ops::ControlFlow;

use crate::channel::{Keep, Rule, Rules};
use crate::limits;
use crate::names::{Channel, Key, Millis, Seq};

use super::sql::{Param, Sql, SqlError};
use super::{Floor, Store, first};

/// Where a round of trimming stands. Kept in memory: a round that sleep ends begins again, past
/// what each channel remembers.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sweep {
    /// The channel that comes after this one is next.
    after: String,
    /// When the first change that is too young by now will be old enough.
    next: Option<Millis>,
    /// Whether the round has begun.
    began: bool,
}

/// What of a channel's rows is trimmed when it is old enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trims {
    /// Tombstones and losses.
    Gone,
    /// Everything: the rows live elsewhere, the log only knows what has changed lately.
    Everything,
}

/// What came of a step in one channel.
struct Stepped {
    looked_at: usize,
    /// Whether nothing of the channel is left to look at.
    done: bool,
    /// When something of the channel will be old enough.
    next: Option<Millis>,
}

/// What one channel's step found.
struct Found {
    /// What goes as a whole.
    rows: Vec<Key>,
    losses: Vec<Key>,
    looked_at: usize,
    swept: Seq,
    floor: Floor,
    /// The time of the first row that is too young.
    young: Option<Millis>,
    /// Whether nothing of the channel is left to look at.
    done: bool,
}

impl Stepped {
    fn unfinished(looked_at: usize) -> Self {
        Self {
            looked_at,
            done: false,
            next: None,
        }
    }
}

impl<S: Sql> Store<S> {
    /// When the next round of trimming is due.
    pub(crate) fn sweep_at(&self) -> Option<Millis> {
        self.log.sweep_at
    }

    /// Makes sure that a round of trimming comes at `at` or before, also if one is under way.
    pub(crate) fn sweep_by(&mut self, at: Millis) -> Result<(), SqlError> {
        self.log.sweep_next = [self.log.sweep_next, Some(at)].into_iter().flatten().min();
        if self.log.sweep_at.is_none_or(|due| at < due) {
            self.set_sweep(Some(at))?;
        }
        Ok(())
    }

    fn set_sweep(&mut self, at: Option<Millis>) -> Result<(), SqlError> {
        if self.log.sweep_at != at {
            let text = at.unwrap_or_default().0.to_string();
            self.put_meta("sweep_at", &text)?;
            self.log.sweep_at = at;
        }
        Ok(())
    }

    /// One bounded step of trimming. `None` when the round is over and the next one is set;
    /// otherwise the step after this one should come soon.
    ///
    /// Runs inside a transaction of its caller.
    pub(crate) fn sweep(
        &mut self,
        mut at: Sweep,
        rules: &Rules,
        now: Millis,
    ) -> Result<Option<Sweep>, SqlError> {
        if !at.began {
            // The round finds what was asked for so far; what comes from here on it may miss.
            (at.began, self.log.sweep_next) = (true, None);
        }
        let mut budget = limits::SWEEP_ROWS;
        while budget > 0 {
            let Some(channel) = self.channel_after(&at.after)? else {
                self.purge_refusals(now)?;
                let asked = [at.next, self.log.sweep_next, self.next_end()?];
                let next = asked.into_iter().flatten().min();
                self.set_sweep(next.map(|due| due.max(now.plus(limits::SWEEP_PAUSE_MS))))?;
                return Ok(None);
            };
            let stepped = match rules.find(&channel) {
                Ok(rule) if rule.keep == Keep::Every => {
                    self.sweep_events(&channel, rule, now, budget)?
                }
                Ok(rule) if rule.source.is_some() => {
                    self.sweep_rows(&channel, Trims::Everything, now, budget)?
                }
                Ok(_) | Err(_) => self.sweep_rows(&channel, Trims::Gone, now, budget)?,
            };
            budget = budget.saturating_sub(stepped.looked_at.max(1));
            at.next = [at.next, stepped.next].into_iter().flatten().min();
            if stepped.done {
                channel.as_str().clone_into(&mut at.after);
            }
        }
        Ok(Some(at))
    }

    fn sweep_events(
        &mut self,
        channel: &Channel,
        rule: &Rule,
        now: Millis,
        most: usize,
    ) -> Result<Stepped, SqlError> {
        if !rule.edits {
            let count = self.trim_versions(channel, most)?;
            if count > 0 {
                return Ok(Stepped::unfinished(count));
            }
        }
        let trimmed = self.trim_events(channel, rule.retain, now, most)?;
        let age = rule.retain.age_ms();
        Ok(Stepped {
            looked_at: trimmed.count,
            done: trimmed.done,
            next: trimmed.oldest.zip(age).map(|(at, age)| at.plus(age)),
        })
    }

    fn sweep_rows(
        &mut self,
        channel: &Channel,
        trims: Trims,
        now: Millis,
        most: usize,
    ) -> Result<Stepped, SqlError> {
        // Before its tombstones: a channel without rows would never be looked at again.
        let count = self.trim_versions(channel, most)?;
        if count > 0 {
            return Ok(Stepped::unfinished(count));
        }
        let found = self.look(channel, trims, now.minus(limits::RETENTION_MS), most)?;
        self.trim(channel, &found)?;
        Ok(Stepped {
            looked_at: found.looked_at,
            done: found.done,
            next: found.young.map(|at| {
                let soonest = now.plus(limits::ROWS_SWEEP_PAUSE_MS);
                at.plus(limits::RETENTION_MS).max(soonest)
            }),
        })
    }

    fn channel_after(&self, after: &str) -> Result<Option<Channel>, SqlError> {
        first(
            &self.sql,
            "SELECT min(channel) FROM rows WHERE channel > ?",
            &[Param::Text(after)],
            |row| Channel::parse(&row.text(0)?).ok(),
        )
    }

    fn look(
        &self,
        channel: &Channel,
        trims: Trims,
        cutoff: Millis,
        most: usize,
    ) -> Result<Found, SqlError> {
        let swept = first(
            &self.sql,
            "SELECT swept FROM channels WHERE name = ?",
            &[Param::Text(channel.as_str())],
            |row| row.int(0),
        )?;
        let swept = Seq(swept.unwrap_or_default());
        let mut found = Found {
            rows: Vec::new(),
            losses: Vec::new(),
            looked_at: 0,
            swept,
            floor: Floor::default(),
            young: None,
            done: true,
        };
        self.page_without_data(channel, swept, most + 1, &mut |row| {
            if row.at() > cutoff {
                found.young = Some(row.at());
                return ControlFlow::Break(());
            }
            if found.looked_at == most {
                found.done = false;
                return ControlFlow::Break(());
            }
            found.looked_at += 1;
            found.swept = row.seq();
            let lost = row.lost();
            let gone = row.is_tombstone() || trims == Trims::Everything;
            if (gone || !lost.is_empty())
                && let Ok(key) = Key::parse(&row.key())
            {
                // All losses of a row are as old as its last change, or older.
                found.floor = Floor {
                    seq: row.seq(),
                    at: row.at(),
                };
                if gone {
                    found.rows.push(key);
                } else {
                    found.losses.push(key);
                }
            }
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    fn trim(&mut self, channel: &Channel, found: &Found) -> Result<(), SqlError> {
        if found.looked_at == 0 {
            return Ok(());
        }
        for key in &found.rows {
            self.exec(
                "DELETE FROM rows WHERE channel = ? AND key = ?",
                &[Param::Text(channel.as_str()), Param::Text(key.as_str())],
            )?;
        }
        for key in &found.losses {
            self.exec(
                "UPDATE rows SET lost = NULL WHERE channel = ? AND key = ?",
                &[Param::Text(channel.as_str()), Param::Text(key.as_str())],
            )?;
        }
        if !found.rows.is_empty() {
            // The newest row may have gone: its seq must not be given again.
            self.put_meta("head", &self.log.head.0.to_string())?;
            self.put_meta("clock", &self.log.clock.0.to_string())?;
        }
        self.raise_floor(channel, found.floor)?;
        self.exec(
            "UPDATE channels SET swept = ? WHERE name = ?",
            &[Param::Int(found.swept.0), Param::Text(channel.as_str())],
        )
    }
}
