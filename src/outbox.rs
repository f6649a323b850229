//! What one turn sends: frames to one socket are joined, equal frames are encoded once.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::cursor::Cursor;
use crate::limits;
use crate::names::ConnId;

/// One text for one or many sockets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// The sockets.
    pub to: Vec<ConnId>,
    /// The frame, the same for all of them.
    pub text: Rc<str>,
    /// Where it leaves whoever reads one channel as a stream.
    pub place: Place,
}

/// Where a message leaves the reader of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Where it was.
    Same,
    /// At this cursor.
    At(Cursor),
    /// Nowhere: it must begin anew.
    Lost,
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
pub(crate) struct Outbox {
    entries: Vec<Entry>,
    /// About how much memory they take.
    bytes: usize,
}

impl Outbox {
    pub(crate) fn send_one(&mut self, conn: ConnId, text: impl Into<Rc<str>>) {
        self.send_many(vec![conn], text);
    }

    pub(crate) fn send_many(&mut self, to: Vec<ConnId>, text: impl Into<Rc<str>>) {
        self.send(Outgoing {
            to,
            text: text.into(),
            place: Place::Same,
        });
    }

    pub(crate) fn send(&mut self, message: Outgoing) {
        if !message.to.is_empty() {
            self.bytes += message.text.len() + size_of_val(message.to.as_slice());
            self.entries.push(Entry {
                message,
                alone: false,
            });
        }
    }

    pub(crate) fn alone(&mut self, conn: ConnId, text: impl Into<Rc<str>>) {
        self.send_one(conn, text);
        if let Some(entry) = self.entries.last_mut() {
            entry.alone = true;
        }
    }

    /// Whether the turn has prepared to send as much as it may.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes > limits::TURN_OUT_BYTES
    }

    /// The frames of the turn. `joins` says whether a socket's client takes arrays.
    pub(crate) fn finish(self, joins: impl Fn(ConnId) -> bool) -> Vec<Outgoing> {
        let entries = self.entries;
        if entries.len() < 2 {
            return entries.into_iter().map(|entry| entry.message).collect();
        }
        let mut frames = Vec::new();
        for (places, to) in Lists::of(&entries).groups() {
            let entries: Vec<&Entry> = places.iter().filter_map(|at| entries.get(*at)).collect();
            let (joined, apart): (Vec<ConnId>, Vec<ConnId>) = to
                .into_iter()
                .partition(|conn| entries.len() > 1 && joins(*conn));
            if !joined.is_empty() {
                frames.extend(join(&entries).into_iter().map(|text| Outgoing {
                    to: joined.clone(),
                    text,
                    place: Place::Same,
                }));
            }
            if !apart.is_empty() {
                frames.extend(entries.iter().map(|entry| Outgoing {
                    to: apart.clone(),
                    text: Rc::clone(&entry.message.text),
                    place: entry.message.place.clone(),
                }));
            }
        }
        frames
    }
}

/// Which sockets get which list of messages. Lists that begin alike share their beginning, so
/// that a thousand messages to ten thousand sockets are a thousand nodes, not ten million places.
struct Lists {
    /// A message and the list before it.
    nodes: Vec<(Option<usize>, usize)>,
    /// The list of each socket.
    of: BTreeMap<ConnId, usize>,
}

impl Lists {
    fn of(entries: &[Entry]) -> Self {
        let mut lists = Self {
            nodes: Vec::new(),
            of: BTreeMap::new(),
        };
        for (place, entry) in entries.iter().enumerate() {
            let mut longer: BTreeMap<Option<usize>, usize> = BTreeMap::new();
            for conn in &entry.message.to {
                let before = lists.of.get(conn).copied();
                let node = *longer.entry(before).or_insert_with(|| {
                    lists.nodes.push((before, place));
                    lists.nodes.len() - 1
                });
                lists.of.insert(*conn, node);
            }
        }
        lists
    }

    /// The places of every list, in order, with the sockets that get it.
    fn groups(self) -> Vec<(Vec<usize>, Vec<ConnId>)> {
        let mut groups: BTreeMap<usize, Vec<ConnId>> = BTreeMap::new();
        for (conn, node) in self.of {
            groups.entry(node).or_default().push(conn);
        }
        let places = |node: usize| {
            let mut places = Vec::new();
            let mut at = Some(node);
            while let Some((before, place)) = at.and_then(|node| self.nodes.get(node)) {
                places.push(*place);
                at = *before;
            }
            places.reverse();
            places
        };
        let groups = groups.into_iter();
        groups.map(|(node, to)| (places(node), to)).collect()
    }
}

/// Joins messages to arrays of at most [`limits::FRAME_OUT_BYTES`].
fn join(entries: &[&Entry]) -> Vec<Rc<str>> {
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
                (vec![9], "x".to_owned()),
                (vec![1, 2], "[1,2]".to_owned()),
                (vec![3], "1".to_owned()),
                (vec![3], "2".to_owned()),
            ]
        );
    }

    #[test]
    fn lists_that_begin_alike_and_part_are_told_apart() {
        let mut outbox = Outbox::default();
        outbox.send_many(vec![A, B], "1");
        outbox.send_many(vec![A], "2");
        outbox.send_many(vec![A, B], "3");
        let frames = finish(outbox);
        assert_eq!(frames.len(), 2);
        assert!(frames.contains(&(vec![1], "[1,2,3]".to_owned())));
        assert!(frames.contains(&(vec![2], "[1,3]".to_owned())));
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
