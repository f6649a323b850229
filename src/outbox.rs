//! What one turn sends: frames to one socket are joined, equal frames are encoded once.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::limits;
use crate::names::ConnId;

/// One text for one or many sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The sockets.
    pub to: Vec<ConnId>,
    /// The frame, the same for all of them.
    pub text: Rc<str>,
}

#[derive(Debug)]
struct Entry {
    message: Outgoing,
    /// Whether the message must have a frame of its own: it is no JSON, or it is the welcome that
    /// tells a client that arrays may follow.
    alone: bool,
}

/// The messages of a turn in their order.
#[derive(Debug, Default)]
pub(crate) struct Outbox(Vec<Entry>);

impl Outbox {
    pub(crate) fn send_one(&mut self, conn: ConnId, text: impl Into<Rc<str>>) {
        self.send_many(vec![conn], text);
    }

    pub(crate) fn send_many(&mut self, to: Vec<ConnId>, text: impl Into<Rc<str>>) {
        if !to.is_empty() {
            let message = Outgoing {
                to,
                text: text.into(),
            };
            self.0.push(Entry {
                message,
                alone: false,
            });
        }
    }

    pub(crate) fn alone(&mut self, conn: ConnId, text: impl Into<Rc<str>>) {
        self.send_one(conn, text);
        if let Some(entry) = self.0.last_mut() {
            entry.alone = true;
        }
    }

    /// The frames of the turn. `joins` says whether a socket's client takes arrays.
    pub(crate) fn finish(self, joins: impl Fn(ConnId) -> bool) -> Vec<Outgoing> {
        let entries = self.0;
        let mut by_conn: BTreeMap<ConnId, Vec<usize>> = BTreeMap::new();
        if entries.len() > 1 {
            for (place, entry) in entries.iter().enumerate() {
                for conn in &entry.message.to {
                    by_conn.entry(*conn).or_default().push(place);
                }
            }
        }
        if by_conn.values().all(|places| places.len() < 2) {
            return entries.into_iter().map(|entry| entry.message).collect();
        }
        let mut groups: BTreeMap<(bool, Vec<usize>), Vec<ConnId>> = BTreeMap::new();
        for (conn, places) in by_conn {
            let joined = places.len() > 1 && joins(conn);
            groups.entry((joined, places)).or_default().push(conn);
        }
        let mut frames = Vec::new();
        for ((joined, places), to) in groups {
            let entries = places.iter().filter_map(|place| entries.get(*place));
            let texts: Vec<Rc<str>> = if joined {
                join(entries)
            } else {
                entries.map(|entry| entry.message.text.clone()).collect()
            };
            frames.extend(texts.into_iter().map(|text| Outgoing {
                to: to.clone(),
                text,
            }));
        }
        frames
    }
}

/// Joins messages to arrays of at most [`limits::FRAME_OUT_BYTES`].
fn join<'a>(entries: impl Iterator<Item = &'a Entry>) -> Vec<Rc<str>> {
    let mut frames = Vec::new();
    let mut run: Vec<&Rc<str>> = Vec::new();
    let mut bytes = 0;
    let mut flush = |run: &mut Vec<&Rc<str>>| match run.as_slice() {
        [] => {}
        [one] => frames.push(Rc::clone(one)),
        many => {
            let texts: Vec<&str> = many.iter().map(|text| text.as_ref()).collect();
            frames.push(format!("[{}]", texts.join(",")).into());
        }
    };
    for entry in entries {
        let text = &entry.message.text;
        if entry.alone || bytes + text.len() + 2 > limits::FRAME_OUT_BYTES {
            flush(&mut run);
            run.clear();
            bytes = 0;
        }
        run.push(text);
        bytes += text.len() + 1;
        if entry.alone {
            flush(&mut run);
            run.clear();
            bytes = 0;
        }
    }
    flush(&mut run);
    frames
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnId = ConnId(1);
    const B: ConnId = ConnId(2);
    const LEGACY: ConnId = ConnId(3);

    fn finish(outbox: Outbox) -> Vec<(Vec<u32>, String)> {
        let frames = outbox.finish(|conn| conn != LEGACY).into_iter();
        frames
            .map(|f| (f.to.iter().map(|c| c.0).collect(), f.text.to_string()))
            .collect()
    }

    #[test]
    fn messages_to_one_socket_are_joined_in_order_and_shared() {
        let mut outbox = Outbox::default();
        outbox.send_many(vec![A, B, LEGACY], "1");
        outbox.send_one(ConnId(9), "x");
        outbox.send_many(vec![A, B, LEGACY], "2");
        assert_eq!(
            finish(outbox),
            [
                (vec![3], "1".to_owned()),
                (vec![3], "2".to_owned()),
                (vec![9], "x".to_owned()),
                (vec![1, 2], "[1,2]".to_owned()),
            ]
        );
    }

    #[test]
    fn a_message_that_stands_alone_is_not_joined() {
        let mut outbox = Outbox::default();
        outbox.send_one(A, "1");
        outbox.alone(A, "pong");
        outbox.send_one(A, "2");
        outbox.send_one(A, "3");
        let texts: Vec<_> = finish(outbox).into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["1", "pong", "[2,3]"]);
    }

    #[test]
    fn joined_frames_stay_below_the_outbound_bound() {
        let half = limits::FRAME_OUT_BYTES / 2;
        let mut outbox = Outbox::default();
        for bytes in [half - 2, half - 1, 1] {
            outbox.send_one(A, "x".repeat(bytes));
        }
        let lengths: Vec<_> = finish(outbox).iter().map(|(_, text)| text.len()).collect();
        assert_eq!(lengths, [limits::FRAME_OUT_BYTES, 1]);
    }
}
