//! Who sends how much: token buckets for connections and identities.
//!
//! Kept in memory alone. A bucket holds [`limits::BURST_SECONDS`] of messages, the time without
//! events after which an object sleeps: who is forgotten by sleep had a full bucket anyway.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::limits::{self, Limits};
use crate::names::{Channel, ConnId, Identity, Millis};
use crate::protocol::{Code, Problem};
use crate::small_map::SmallMap;

/// A token bucket as one number, in microseconds: when it will be full again. (GCRA)
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Bucket(u64);

impl Bucket {
    const DEPTH_US: u64 = limits::BURST_SECONDS * 1_000_000;

    /// The bucket after one more message, or how long to wait for room, in milliseconds.
    fn after_one(self, per_second: u32, now: Millis) -> Result<Self, u64> {
        self.after(
            1_000_000 / u64::from(per_second.max(1)),
            Self::DEPTH_US,
            now,
        )
    }

    /// The bucket of so many microseconds after something that takes so many of them.
    fn after(self, takes: u64, depth: u64, now: Millis) -> Result<Self, u64> {
        let now = now.0.saturating_mul(1000);
        // Only a clock that has jumped back leaves it emptier than empty. That locks nobody out.
        let is_possible = self.0 <= now.saturating_add(depth);
        let full_at = if is_possible { self.0.max(now) } else { now };
        let next = full_at.saturating_add(takes);
        match next.saturating_sub(now.saturating_add(depth)) {
            0 => Ok(Self(next)),
            late => Err(late.div_ceil(1000)),
        }
    }
}

/// What a sender has to read of one kind.
#[derive(Debug, Default)]
struct Reading {
    /// When all that it was given will have been read, in microseconds, if it reads as fast as it
    /// should.
    read_at: u64,
    /// When it last asked or was answered, in microseconds: a clock that jumps back must not lock it
    /// out.
    counted_at: u64,
}

impl Reading {
    /// Whether it may be given more, or how long it should read before, in milliseconds.
    fn has_room(&mut self, now: Millis) -> Result<(), u64> {
        const DEPTH_US: u64 =
            limits::ANSWER_BYTES_BURST * 1_000_000 / limits::ANSWER_BYTES_PER_SECOND;
        let now = now.0.saturating_mul(1000);
        let back = self.counted_at.saturating_sub(now);
        self.read_at = self.read_at.saturating_sub(back);
        self.counted_at = now;
        let late = self.read_at.saturating_sub(now);
        match late.checked_sub(DEPTH_US) {
            None | Some(0) => Ok(()),
            Some(wait) => Err(wait.div_ceil(1000)),
        }
    }

    fn given(&mut self, bytes: usize, now: Millis) {
        let takes = (bytes as u64).saturating_mul(1_000_000) / limits::ANSWER_BYTES_PER_SECOND;
        let now = now.0.saturating_mul(1000);
        self.read_at = self.read_at.max(now).saturating_add(takes);
        self.counted_at = self.counted_at.max(now);
    }
}

/// What one sender has sent and been sent.
#[derive(Debug, Default)]
struct Flow {
    bucket: Bucket,
    /// Pages. Apart from other answers: who reads a large channel can go on to write.
    pages: Reading,
    /// What its other messages were answered with.
    answers: Reading,
    /// How often it has asked for which channel lately.
    asked: SmallMap<Channel, Bucket>,
    /// The channels of which it was given a page that is not the last.
    paging: SmallMap<Channel, ()>,
    /// When it is its turn to be answered, in microseconds, see [`crate::lanes`].
    turn: Option<u64>,
    /// Until when it was told to wait.
    wait_until: Millis,
    /// Frames that came all the same.
    hasty: u32,
}

/// Channels of a sender's last questions that are remembered before old ones are forgotten.
const ASKED: usize = 16;

impl Flow {
    /// Whether nothing is left, at a time in microseconds, of what it sent and was sent.
    fn is_as_new(&self, us: u64) -> bool {
        let ends = [self.bucket.0, self.pages.read_at, self.answers.read_at];
        ends.iter().all(|end| *end <= us) && self.turn <= Some(us)
    }

    fn asks(&mut self, channel: &Channel, interval_ms: u32, now: Millis) -> Result<(), TooFast> {
        let takes = u64::from(interval_ms) * 1000;
        let bucket = self.asked.get(channel).copied().unwrap_or_default();
        let bucket = bucket.after(takes, takes * limits::INTERVAL_BURST, now);
        let bucket = bucket.map_err(|retry_after_ms| TooFast { retry_after_ms })?;
        if self.asked.len() >= ASKED {
            let now = now.0.saturating_mul(1000);
            self.asked.retain(|_, bucket| bucket.0 > now);
        }
        self.asked.insert(channel.clone(), bucket);
        Ok(())
    }

    fn take(
        &mut self,
        identities: &mut BTreeMap<Identity, Bucket>,
        identity: Option<&Identity>,
        limits: &Limits,
        now: Millis,
    ) -> Result<(), TooFast> {
        let own = self.bucket.after_one(limits.messages_per_second, now);
        let own = self.answers.has_room(now).and(own);
        let shared = identity.map(|identity| {
            let bucket = identities.get(identity).copied().unwrap_or_default();
            bucket.after_one(limits.identity_messages_per_second, now)
        });
        match (own, shared.transpose()) {
            (Ok(own), Ok(shared)) => {
                self.bucket = own;
                if let (Some(identity), Some(shared)) = (identity, shared) {
                    match identities.get_mut(identity) {
                        Some(bucket) => *bucket = shared,
                        None => _ = identities.insert(identity.clone(), shared),
                    }
                }
                Ok(())
            }
            (own, shared) => {
                let wait = own.err().max(shared.err()).unwrap_or_default();
                let retry_after_ms = wait.max(limits::RATE_RETRY_MS);
                self.wait_until = self.wait_until.max(now.plus(retry_after_ms));
                Err(TooFast { retry_after_ms })
            }
        }
    }
}

/// Whose sending is counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A connection.
    Conn(ConnId),
    /// Requests over HTTP have no connection: whoever makes them has the flow of one for all.
    Caller(Rc<str>),
}

/// The buckets of one space.
#[derive(Debug, Default)]
pub(crate) struct Rates {
    flows: BTreeMap<ConnId, Flow>,
    callers: BTreeMap<Rc<str>, Flow>,
    /// At how many of them those that are full again are forgotten.
    callers_most: usize,
    identities: BTreeMap<Identity, Bucket>,
}

/// A connection that sends too fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooFast {
    /// How long it should wait, in milliseconds.
    pub(crate) retry_after_ms: u64,
}

impl From<TooFast> for Problem {
    fn from(too_fast: TooFast) -> Self {
        Self {
            retry_after_ms: Some(too_fast.retry_after_ms),
            ..Self::new(Code::RateLimited, "too much in too short a time; slow down")
        }
    }
}

/// A connection that does not listen when it is told to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Persists;

impl Rates {
    fn flow(&mut self, sender: &Sender) -> &mut Flow {
        match sender {
            Sender::Conn(conn) => self.flows.entry(*conn).or_default(),
            Sender::Caller(caller) => self.callers.entry(Rc::clone(caller)).or_default(),
        }
    }

    /// Notes that a frame came.
    ///
    /// # Errors
    /// When too many came before the time to wait was over: close the connection.
    pub(crate) fn frame(&mut self, conn: ConnId, now: Millis) -> Result<(), Persists> {
        let flow = self.flows.entry(conn).or_default();
        // Only a clock that has jumped back has it wait longer than anybody is told to.
        let most = 1000 * limits::BURST_SECONDS + limits::RATE_RETRY_MS;
        if now >= flow.wait_until || flow.wait_until > now.plus(most) {
            flow.hasty = 0;
            return Ok(());
        }
        flow.hasty += 1;
        if flow.hasty > limits::HASTY_FRAMES {
            return Err(Persists);
        }
        Ok(())
    }

    /// Takes note that somebody asks for a channel's deltas, not more often than every `interval_ms`
    /// over time.
    ///
    /// # Errors
    /// [`TooFast`] when it has just done so.
    pub(crate) fn asks(
        &mut self,
        sender: &Sender,
        channel: &Channel,
        interval_ms: u32,
        now: Millis,
    ) -> Result<(), TooFast> {
        self.flow(sender).asks(channel, interval_ms, now)
    }

    /// Notes whether a connection was given a page of a channel that is not the last.
    pub(crate) fn pages(&mut self, conn: ConnId, channel: &Channel, more: bool) {
        let flow = self.flows.entry(conn).or_default();
        if !more {
            flow.paging.remove(channel);
            return;
        }
        // Forgetting them counts their next pages as questions.
        if flow.paging.len() >= ASKED {
            flow.paging.clear();
        }
        flow.paging.insert(channel.clone(), ());
    }

    /// Whether a connection is in the midst of an answer's pages.
    pub(crate) fn is_paging(&self, conn: ConnId, channel: &Channel) -> bool {
        let flow = self.flows.get(&conn);
        flow.is_some_and(|flow| flow.paging.contains_key(channel))
    }

    /// When it is somebody's turn to be answered, if it was told a time.
    pub(crate) fn turn(&mut self, sender: &Sender) -> &mut Option<u64> {
        &mut self.flow(sender).turn
    }

    /// Whether somebody may ask for another page, after what pages have brought it.
    ///
    /// # Errors
    /// [`TooFast`] when it should read that first.
    pub(crate) fn reads(&mut self, sender: &Sender, now: Millis) -> Result<(), TooFast> {
        let room = self.flow(sender).pages.has_room(now);
        room.map_err(|wait| TooFast {
            retry_after_ms: wait.max(limits::RATE_RETRY_MS),
        })
    }

    /// Notes what a page has brought.
    pub(crate) fn paged(&mut self, sender: &Sender, bytes: usize, now: Millis) {
        self.flow(sender).pages.given(bytes, now);
    }

    /// Notes what a message that asks for no page was answered with.
    pub(crate) fn answered(&mut self, sender: &Sender, bytes: usize, now: Millis) {
        self.flow(sender).answers.given(bytes, now);
    }

    /// Takes one message from the buckets of a sender and its identity, or from neither.
    ///
    /// # Errors
    /// [`TooFast`] when one of them is empty, or the sender should read first what it was answered.
    pub(crate) fn take(
        &mut self,
        sender: &Sender,
        identity: Option<&Identity>,
        limits: &Limits,
        now: Millis,
    ) -> Result<(), TooFast> {
        // Flows of callers that have waited long enough are as good as new ones.
        if self.callers.len() > self.callers_most {
            let us = now.0.saturating_mul(1000);
            self.callers.retain(|_, flow| !flow.is_as_new(us));
            self.callers_most = 2 * self.callers.len() + 64;
            self.identities.retain(|_, bucket| bucket.0 > us);
        }
        let flow = match sender {
            Sender::Conn(conn) => self.flows.entry(*conn).or_default(),
            Sender::Caller(caller) => self.callers.entry(Rc::clone(caller)).or_default(),
        };
        flow.take(&mut self.identities, identity, limits, now)
    }

    /// Forgets a connection. Its identity's bucket stays until it is full: whoever reconnects finds
    /// it as it was.
    pub(crate) fn forget(&mut self, conn: ConnId, now: Millis) {
        self.flows.remove(&conn);
        if self.identities.len() > 2 * self.flows.len() + 64 {
            let now = now.0.saturating_mul(1000);
            self.identities.retain(|_, bucket| bucket.0 > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);
    const NOW: Millis = Millis(1_000_000);

    fn limits(own: u32, shared: u32) -> Limits {
        Limits {
            messages_per_second: own,
            identity_messages_per_second: shared,
            ..Limits::default()
        }
    }

    /// How many messages pass at once.
    fn burst(
        rates: &mut Rates,
        conn: ConnId,
        who: Option<&Identity>,
        l: &Limits,
        now: Millis,
    ) -> u32 {
        let pass = |_: &u32| rates.take(&Sender::Conn(conn), who, l, now).is_ok();
        (0..1_000).take_while(pass).count() as u32
    }

    #[test]
    fn a_connection_may_send_a_burst_and_then_at_its_rate() {
        let (mut rates, l) = (Rates::default(), limits(5, 1000));
        assert_eq!(burst(&mut rates, A, None, &l, NOW), 50);
        let refused = rates.take(&Sender::Conn(A), None, &l, NOW).unwrap_err();
        assert_eq!(refused.retry_after_ms, limits::RATE_RETRY_MS);
        assert_eq!(burst(&mut rates, A, None, &l, NOW.plus(199)), 0);
        assert_eq!(burst(&mut rates, A, None, &l, NOW.plus(1000)), 5);
        assert_eq!(
            burst(&mut rates, B, None, &l, NOW),
            50,
            "others have their own"
        );
        assert_eq!(burst(&mut rates, A, None, &l, NOW.plus(11_000)), 50);
        assert_eq!(
            burst(&mut rates, A, None, &limits(1, 1), NOW.plus(21_000)),
            10
        );
    }

    #[test]
    fn the_told_time_is_enough() {
        for rate in [1, 3, 7, 10_000] {
            let (mut rates, l) = (Rates::default(), limits(rate, rate));
            while rates.take(&Sender::Conn(A), None, &l, NOW).is_ok() {}
            let wait = rates
                .take(&Sender::Conn(A), None, &l, NOW)
                .unwrap_err()
                .retry_after_ms;
            assert!(
                rates
                    .take(&Sender::Conn(A), None, &l, NOW.plus(wait))
                    .is_ok(),
                "{rate}"
            );
        }
    }

    #[test]
    fn the_connections_of_an_identity_share_a_bucket_that_outlives_them() {
        let alice = Identity::parse("alice").unwrap();
        let (mut rates, l) = (Rates::default(), limits(4, 5));
        assert_eq!(burst(&mut rates, A, Some(&alice), &l, NOW), 40);
        assert_eq!(burst(&mut rates, B, Some(&alice), &l, NOW), 10);
        rates.forget(A, NOW);
        rates.forget(B, NOW);
        assert_eq!(burst(&mut rates, ConnId(3), Some(&alice), &l, NOW), 0);
        assert_eq!(
            burst(&mut rates, ConnId(3), None, &l, NOW),
            40,
            "nothing was taken of its own"
        );
    }

    #[test]
    fn full_buckets_of_who_has_left_are_forgotten() {
        let (mut rates, l) = (Rates::default(), limits(5, 5));
        for i in 0..1000 {
            let who = Identity::parse(&format!("{i}")).unwrap();
            rates
                .take(&Sender::Conn(A), Some(&who), &l, NOW.plus(i))
                .unwrap();
            rates.forget(A, NOW.plus(i));
        }
        assert!(rates.identities.len() < 300, "{}", rates.identities.len());
    }

    #[test]
    fn a_clock_that_jumps_back_locks_nobody_out() {
        let (mut rates, l) = (Rates::default(), limits(5, 5));
        assert_eq!(burst(&mut rates, A, None, &l, NOW), 50);
        assert_eq!(burst(&mut rates, A, None, &l, Millis(0)), 50);
        assert_eq!(burst(&mut rates, A, None, &l, Millis(0)), 0);
    }

    #[test]
    fn a_caller_has_one_flow_for_all_its_requests_until_that_is_full_again() {
        let (mut rates, l) = (Rates::default(), limits(5, 1000));
        let caller = |i: u64| Sender::Caller(format!("{i}").into());
        let pass = |rates: &mut Rates, now| rates.take(&caller(0), None, &l, now).is_ok();
        assert_eq!((0..100).filter(|_| pass(&mut rates, NOW)).count(), 50);
        rates.paged(&caller(1), 1, NOW);
        for i in 1..1000 {
            rates.take(&caller(i), None, &l, NOW).unwrap();
        }
        assert!(!pass(&mut rates, NOW), "a crowd does not make it forgotten");
        let later = NOW.plus(10_000);
        for i in 1000..3000 {
            rates.take(&caller(i), None, &l, later).unwrap();
        }
        assert_eq!(rates.callers.len(), 2000, "those before are forgotten");
        assert_eq!((0..100).filter(|_| pass(&mut rates, later)).count(), 50);
        let much_later = later.plus(60_000);
        for i in 0..5000 {
            let who = Identity::parse(&format!("{i}")).unwrap();
            let now = much_later.plus(i);
            rates.take(&caller(i), Some(&who), &l, now).unwrap();
        }
        assert!(rates.identities.len() < 3000, "{}", rates.identities.len());
    }

    #[test]
    fn who_asks_for_a_channel_again_and_again_waits_in_between() {
        let (mut rates, burst) = (Rates::default(), limits::INTERVAL_BURST);
        let channel = |n: usize| Channel::parse(&format!("c{n}")).unwrap();
        let mut asks = |n: usize, now: Millis| rates.asks(&Sender::Conn(A), &channel(n), 100, now);
        for _ in 0..burst {
            assert_eq!(asks(0, NOW), Ok(()));
        }
        assert_eq!(asks(0, NOW).unwrap_err().retry_after_ms, 100);
        assert!(asks(0, NOW.plus(99)).is_err());
        assert_eq!(asks(0, NOW.plus(100)), Ok(()));
        assert!(asks(0, NOW.plus(100)).is_err());
        for n in 1..3 * ASKED {
            assert_eq!(asks(n, NOW), Ok(()), "each channel by itself");
        }
        assert!(
            asks(0, NOW.plus(100)).is_err(),
            "and none is forgotten too soon"
        );
        let later = NOW.plus(burst * 100 + 100);
        assert_eq!(asks(1, later), Ok(()));
        assert_eq!(rates.flows[&A].asked.len(), 1, "what is over is");
        for _ in 0..1_000 {
            assert_eq!(
                rates.asks(&Sender::Conn(A), &channel(0), 0, NOW),
                Ok(()),
                "0 bounds nothing"
            );
        }
    }

    #[test]
    fn who_asks_for_pages_must_read_them() {
        let mut rates = Rates::default();
        rates.paged(&Sender::Conn(A), limits::ANSWER_BYTES_BURST as usize, NOW);
        assert_eq!(rates.reads(&Sender::Conn(A), NOW), Ok(()), "a burst");
        rates.paged(
            &Sender::Conn(A),
            2 * limits::ANSWER_BYTES_PER_SECOND as usize,
            NOW,
        );
        let wait = rates
            .reads(&Sender::Conn(A), NOW)
            .unwrap_err()
            .retry_after_ms;
        assert_eq!(wait, 2_000);
        assert!(rates.reads(&Sender::Conn(A), NOW.plus(wait - 1)).is_err());
        assert_eq!(rates.reads(&Sender::Conn(A), NOW.plus(wait)), Ok(()));
        assert_eq!(
            rates.reads(&Sender::Conn(B), NOW),
            Ok(()),
            "others have their own"
        );
        rates.paged(&Sender::Conn(A), 1, NOW.plus(wait));
        assert_eq!(
            rates.reads(&Sender::Conn(A), Millis(0)),
            Ok(()),
            "the clock jumped back"
        );
        let (waited, late) = (NOW.plus(wait), NOW.plus(3_600_000));
        assert_eq!(rates.reads(&Sender::Conn(B), waited), Ok(()));
        rates.paged(&Sender::Conn(B), 1, late);
        assert_eq!(
            rates.reads(&Sender::Conn(B), Millis(0)),
            Ok(()),
            "since it was answered"
        );
    }

    #[test]
    fn who_does_not_wait_is_told_apart_at_the_bound_and_past_it() {
        let (mut rates, l) = (Rates::default(), limits(1, 1));
        burst(&mut rates, A, None, &l, NOW);
        for _ in 0..limits::HASTY_FRAMES {
            assert_eq!(rates.frame(A, NOW), Ok(()));
        }
        assert_eq!(rates.frame(A, NOW), Err(Persists));
        let later = NOW.plus(limits::RATE_RETRY_MS);
        assert_eq!(rates.frame(A, later), Ok(()));
        burst(&mut rates, A, None, &l, later);
        assert_eq!(rates.frame(A, later), Ok(()), "counted anew");
    }

    #[test]
    fn a_clock_that_jumps_back_has_nobody_wait_for_it() {
        let (mut rates, l) = (Rates::default(), limits(1, 1));
        let late = NOW.plus(24 * 60 * 60 * 1000);
        burst(&mut rates, A, None, &l, late);
        for _ in 0..=limits::HASTY_FRAMES {
            assert_eq!(rates.frame(A, NOW), Ok(()));
        }
    }
}
