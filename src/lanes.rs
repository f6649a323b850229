//! Backpressure: how many deltas of a space are under way at once, and when to come back.
//!
//! The engine answers a delta in one turn, so what is under way is its reading: an answer takes a
//! lane for as long as its reader needs for it at [`limits::ANSWER_BYTES_PER_SECOND`]. Whoever comes
//! when all lanes are taken is given a time of its own, one after the other: thousands that come back
//! at once, after a restart, come again one by one.

use crate::limits;
use crate::names::Millis;
use crate::rate::TooFast;

/// The lanes of one space, which are alike: together they are one that is as many times as fast.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    /// When all that was answered will have been read, in microseconds.
    free_at: u64,
    /// The latest time that somebody was told to come again.
    told: u64,
    /// What an answer takes on average.
    usual: u64,
    /// The latest time on the clock.
    seen: u64,
}

/// How far ahead answers may be of their reading.
const AHEAD_US: u64 = limits::DELTAS_AHEAD_MS * 1000;

impl Lanes {
    /// Whether there is room for another answer. Whoever was told a time has one from then on,
    /// whoever else asks meanwhile; it is kept in `turn`.
    ///
    /// # Errors
    /// [`TooFast`] with the time until it is whoever asks' turn.
    pub(crate) fn admit(&mut self, turn: &mut Option<u64>, now: Millis) -> Result<(), TooFast> {
        let now = self.clock(now);
        let latest = now + limits::DELTA_WAIT_MOST_MS * 1000;
        let room_at = self.free_at.saturating_sub(AHEAD_US);
        // A time of another clock, or one that was not used for long, is none.
        let given =
            turn.filter(|at| *at <= latest && now <= at + limits::DELTA_WAIT_MOST_MS * 1000);
        if room_at <= now || given.is_some_and(|at| at <= now) {
            *turn = None;
            return Ok(());
        }
        let at = given.unwrap_or_else(|| {
            self.told = (self.told.max(room_at) + self.usual).min(latest);
            self.told
        });
        // Beyond the longest wait nobody has a time of its own.
        *turn = Some(at).filter(|at| *at < latest);
        let wait = (at - now).div_ceil(1000);
        Err(TooFast {
            retry_after_ms: wait.max(limits::DELTA_WAIT_LEAST_MS),
        })
    }

    /// Notes an answer of so many bytes, in a space with so many lanes.
    pub(crate) fn answered(&mut self, lanes: u32, bytes: usize, now: Millis) {
        let reading = (bytes as u64).saturating_mul(1_000_000) / limits::ANSWER_BYTES_PER_SECOND;
        let takes = reading.max(limits::DELTA_LEAST_US) / u64::from(lanes.max(1));
        self.usual = match self.usual {
            0 => takes,
            usual => (usual * 7 + takes).div_ceil(8),
        };
        let now = self.clock(now);
        self.free_at = self.free_at.max(now) + takes;
    }

    /// The time in microseconds. When the clock jumps back, so does what was told: nobody is locked
    /// out.
    fn clock(&mut self, now: Millis) -> u64 {
        let now = now.0.saturating_mul(1000);
        let back = self.seen.saturating_sub(now);
        self.free_at = self.free_at.saturating_sub(back);
        self.told = self.told.saturating_sub(back);
        self.seen = now;
        now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_000_000);
    /// What is read in 100 ms.
    const LARGE: usize = limits::ANSWER_BYTES_PER_SECOND as usize / 10;

    /// How many answers are given at once.
    fn at_once(lanes: &mut Lanes, of: u32, bytes: usize, now: Millis) -> usize {
        let answer = |_: &usize| {
            let admitted = lanes.admit(&mut None, now).is_ok();
            if admitted {
                lanes.answered(of, bytes, now);
            }
            admitted
        };
        (0..20_000).take_while(answer).count()
    }

    #[test]
    fn as_many_as_lanes_are_read_at_once_and_a_second_ahead() {
        for of in [1, 5, 50] {
            let mut lanes = Lanes::default();
            let ahead = (limits::DELTAS_AHEAD_MS / 100) as usize * of as usize;
            assert_eq!(at_once(&mut lanes, of, LARGE, NOW), ahead + 1);
            assert_eq!(
                at_once(&mut lanes, of, LARGE, NOW.plus(99 / u64::from(of))),
                0
            );
            assert_eq!(
                at_once(&mut lanes, of, LARGE, NOW.plus(1_000)),
                10 * of as usize
            );
        }
        let mut lanes = Lanes::default();
        assert_eq!(
            at_once(&mut lanes, 5, 0, NOW),
            5_001,
            "small ones are cheap"
        );
    }

    #[test]
    fn who_is_told_to_wait_comes_at_a_time_of_its_own() {
        let mut lanes = Lanes::default();
        at_once(&mut lanes, 5, LARGE, NOW);
        let told: Vec<u64> = (0..100)
            .map(|_| lanes.admit(&mut None, NOW).unwrap_err().retry_after_ms)
            .collect();
        assert!(told.iter().all(|wait| *wait >= limits::DELTA_WAIT_LEAST_MS));
        assert_eq!(
            told.last(),
            Some(&2_040),
            "one every 20 ms, of 100 ms in five lanes, after who was refused before"
        );
        for wait in told {
            let then = NOW.plus(wait);
            assert_eq!(lanes.admit(&mut None, then), Ok(()), "after {wait} ms");
            lanes.answered(5, LARGE, then);
        }
    }

    #[test]
    fn nobody_waits_longer_than_a_minute_nor_for_a_clock_that_jumped() {
        let mut lanes = Lanes::default();
        at_once(&mut lanes, 1, LARGE, NOW);
        let longest = (0..2_000).map(|_| lanes.admit(&mut None, NOW).unwrap_err().retry_after_ms);
        assert_eq!(longest.max(), Some(limits::DELTA_WAIT_MOST_MS));
        let back = Millis(NOW.0 - 10_000);
        let told = lanes.admit(&mut None, back).unwrap_err().retry_after_ms;
        assert_eq!(told, limits::DELTA_WAIT_MOST_MS, "as long as before");
        let before = lanes.admit(&mut None, back.plus(200));
        assert_eq!(
            before,
            Ok(()),
            "and as soon as before, when the clock jumps back"
        );
    }
}
