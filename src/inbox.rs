//! Frames that came while others were being handled, until they are handled as well.
//!
//! Every commit costs the object far more than a frame does. The runtime commits when it has no more
//! JavaScript to run, so frames that are handled in one go share a commit. A frame that comes alone is
//! handled at once; if it has written or sent much, those that come before the runtime has looked at its sockets
//! again wait for that look, and are handled together, each in a turn of its own. To look costs as much as a small
//! frame.

use crate::limits;
use crate::names::{ConnId, Millis};

/// A frame that has come and was not handled yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arrival {
    pub(crate) conn: ConnId,
    /// What it holds; `None` where that is not text.
    pub(crate) text: Option<String>,
    /// When it came.
    pub(crate) at: Millis,
}

impl Arrival {
    /// Whether it is handled in one go with those that have sent so much. What comes when that is as much as
    /// one turn may send waits for the next look, so that it can be sent first; but not that of the connection
    /// that ends: after its end nobody listens to it.
    pub(crate) fn joins(&self, sent: usize, ends: Option<ConnId>) -> bool {
        sent <= limits::TURN_OUT_BYTES || ends == Some(self.conn)
    }

    fn bytes(&self) -> usize {
        self.text.as_ref().map_or(0, String::len)
    }
}

/// What is to be done about a frame that has come.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Taken {
    /// Handle it, tell [`Inbox::handled`], and while it [`Inbox::looks`] ask [`Inbox::look`] each time when the
    /// runtime has looked at its sockets.
    Alone(Arrival),
    /// Handle it with those that came before it: there is no room for more.
    Full(Vec<Arrival>),
    /// It waits.
    Waits,
}

/// The frames of one object that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    waiting: Vec<Arrival>,
    bytes: usize,
    /// Whether a look at the sockets is to come.
    looks: bool,
}

impl Inbox {
    /// Takes a frame in.
    pub(crate) fn take(&mut self, arrival: Arrival) -> Taken {
        if !self.looks {
            self.looks = true;
            return Taken::Alone(arrival);
        }
        self.bytes += arrival.bytes();
        self.waiting.push(arrival);
        match self.waiting.len() >= limits::GATHERED_FRAMES || self.bytes >= limits::GATHERED_BYTES
        {
            true => Taken::Full(self.all()),
            false => Taken::Waits,
        }
    }

    /// Takes back what was handed out and not handled: it comes first.
    pub(crate) fn put_back(&mut self, arrivals: impl IntoIterator<Item = Arrival>) {
        self.waiting.splice(0..0, arrivals);
        let sizes = self.waiting.iter().map(Arrival::bytes);
        self.bytes = sizes.sum();
    }

    /// Hands out what waits.
    pub(crate) fn all(&mut self) -> Vec<Arrival> {
        self.bytes = 0;
        std::mem::take(&mut self.waiting)
    }

    /// The frame that came alone was handled. Others wait for a look where it has written, because they can share
    /// its commit, or has sent much, because that should be sent first.
    pub(crate) fn handled(&mut self, has_written: bool, sent: usize) {
        self.looks = has_written || sent > limits::GATHERED_BYTES || !self.waiting.is_empty();
    }

    /// Whether a look is to come.
    pub(crate) fn looks(&self) -> bool {
        self.looks
    }

    /// The runtime has looked at its sockets: hands out what waits. Where that is nothing, no other
    /// look is to come.
    pub(crate) fn look(&mut self) -> Vec<Arrival> {
        self.looks = !self.waiting.is_empty();
        self.all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrival(conn: u32, bytes: usize) -> Arrival {
        Arrival {
            conn: ConnId(conn),
            text: Some("x".repeat(bytes)),
            at: Millis(7),
        }
    }

    #[test]
    fn frames_join_until_they_have_sent_what_a_turn_may_but_all_of_a_connection_that_ends() {
        let one = arrival(1, 9);
        assert!(one.joins(limits::TURN_OUT_BYTES, None));
        assert!(!one.joins(limits::TURN_OUT_BYTES + 1, None));
        assert!(!one.joins(limits::TURN_OUT_BYTES + 1, Some(ConnId(2))));
        assert!(one.joins(limits::TURN_OUT_BYTES + 1, Some(ConnId(1))));
    }

    #[test]
    fn a_frame_that_comes_alone_is_handled_at_once() {
        let mut inbox = Inbox::default();
        assert_eq!(inbox.take(arrival(1, 9)), Taken::Alone(arrival(1, 9)));
        assert_eq!(inbox.look(), []);
        assert_eq!(inbox.take(arrival(2, 9)), Taken::Alone(arrival(2, 9)));
    }

    #[test]
    fn after_a_frame_that_wrote_nothing_and_sent_little_the_next_comes_alone() {
        let mut inbox = Inbox::default();
        assert!(matches!(inbox.take(arrival(1, 9)), Taken::Alone(_)));
        inbox.handled(false, limits::GATHERED_BYTES);
        assert!(!inbox.looks());
        assert!(matches!(inbox.take(arrival(2, 9)), Taken::Alone(_)));
        // Nothing is left behind.
        assert_eq!(inbox.take(arrival(3, 9)), Taken::Waits);
        inbox.handled(false, 0);
        assert!(inbox.looks());
        assert_eq!(inbox.look(), [arrival(3, 9)]);
    }

    #[test]
    fn after_a_frame_that_wrote_or_sent_much_others_wait_for_a_look() {
        for (has_written, sent) in [(true, 0), (false, limits::GATHERED_BYTES + 1)] {
            let mut inbox = Inbox::default();
            inbox.take(arrival(1, 9));
            inbox.handled(has_written, sent);
            assert!(inbox.looks());
            assert_eq!(inbox.take(arrival(2, 9)), Taken::Waits);
        }
    }

    #[test]
    fn frames_that_come_together_wait_for_the_next_look_and_keep_their_order() {
        let mut inbox = Inbox::default();
        assert!(matches!(inbox.take(arrival(1, 9)), Taken::Alone(_)));
        for conn in [2, 3, 2] {
            assert_eq!(inbox.take(arrival(conn, 9)), Taken::Waits);
        }
        let order = inbox
            .look()
            .iter()
            .map(|one| one.conn.0)
            .collect::<Vec<_>>();
        assert_eq!(order, [2, 3, 2]);
        // More may come while these are handled.
        assert_eq!(inbox.take(arrival(4, 9)), Taken::Waits);
        assert_eq!(inbox.look(), [arrival(4, 9)]);
        assert_eq!(inbox.look(), []);
        assert!(matches!(inbox.take(arrival(5, 9)), Taken::Alone(_)));
    }

    #[test]
    fn what_is_put_back_comes_first_and_counts_again() {
        let mut inbox = Inbox::default();
        inbox.take(arrival(0, 1));
        inbox.take(arrival(1, 1));
        inbox.take(arrival(2, limits::GATHERED_BYTES - 3));
        let mut all = inbox.look().into_iter();
        all.next();
        inbox.take(arrival(3, 1));
        inbox.put_back(all);
        assert_eq!(inbox.take(arrival(4, 1)), Taken::Waits);
        let Taken::Full(all) = inbox.take(arrival(5, 1)) else {
            panic!("what was put back does not count");
        };
        let order = all.iter().map(|one| one.conn.0).collect::<Vec<_>>();
        assert_eq!(order, [2, 3, 4, 5]);
    }

    #[test]
    fn as_many_frames_wait_as_there_is_room_for() {
        let mut inbox = Inbox::default();
        inbox.take(arrival(0, 1));
        for conn in 1..limits::GATHERED_FRAMES as u32 {
            assert_eq!(inbox.take(arrival(conn, 1)), Taken::Waits);
        }
        let last = limits::GATHERED_FRAMES as u32;
        let Taken::Full(all) = inbox.take(arrival(last, 1)) else {
            panic!("more frames wait than there is room for");
        };
        assert_eq!(all.len(), limits::GATHERED_FRAMES);
        assert_eq!(all.last(), Some(&arrival(last, 1)));
        assert_eq!(inbox.take(arrival(1, 1)), Taken::Waits);
    }

    #[test]
    fn as_many_bytes_wait_as_there_is_room_for() {
        let mut inbox = Inbox::default();
        inbox.take(arrival(0, 1));
        assert_eq!(
            inbox.take(arrival(1, limits::GATHERED_BYTES - 1)),
            Taken::Waits
        );
        let binary = Arrival {
            text: None,
            ..arrival(1, 0)
        };
        assert_eq!(inbox.take(binary), Taken::Waits);
        assert!(matches!(inbox.take(arrival(2, 1)), Taken::Full(all) if all.len() == 3));
        assert_eq!(
            inbox.take(arrival(1, limits::GATHERED_BYTES - 1)),
            Taken::Waits
        );
        assert_eq!(inbox.all().len(), 1);
    }
}
