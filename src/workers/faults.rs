//! Panics on demand, for the tests that crash the object at every effect of a turn. Without the
//! feature `faults` there is nothing here but the plain path.

#[cfg(feature = "faults")]
mod armed {
    use std::cell::Cell;

    use worker::Result;

    use crate::workers::http::{self, Request, Response};
    use crate::workers::{glue, respond};

    /// Carries after how many points to panic.
    pub(in crate::workers) const AT_HEADER: &str = "x-tidewire-fault-at";

    thread_local! {
        /// How many points remain. A panic resets the instance, and with it this.
        static REMAINING: Cell<Option<u32>> = const { Cell::new(None) };
    }

    /// Arms (or, without a number, disarms) the next panic.
    pub(in crate::workers) fn arm(request: &Request) -> Result<Response> {
        let at = http::header(request, AT_HEADER);
        let at = at.and_then(|at| at.parse().ok());
        let left = REMAINING.with(|remaining| remaining.replace(at));
        respond::json(200, format!("{{\"left\":{}}}", left.map_or(-1, i64::from)))
    }

    /// A place where the object may crash.
    #[allow(clippy::panic)]
    pub(in crate::workers) fn point() {
        REMAINING.with(|remaining| match remaining.get() {
            Some(0) => panic!("a fault, as asked for"),
            Some(left) => remaining.set(Some(left - 1)),
            None => {}
        });
    }

    /// Sends to one socket after the other, with a point before each.
    pub(in crate::workers) fn send(sockets: &glue::Sockets, numbers: &[u32], text: &str) {
        for number in numbers {
            point();
            sockets.send(&[*number], text);
        }
    }
}

#[cfg(feature = "faults")]
pub(super) use armed::{AT_HEADER, arm, point, send};

#[cfg(not(feature = "faults"))]
pub(super) fn point() {}

#[cfg(not(feature = "faults"))]
pub(super) fn send(sockets: &super::glue::Sockets, numbers: &[u32], text: &str) {
    sockets.send(numbers, text);
}
