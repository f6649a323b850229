//! After each input: what has come is held against what must come.

use serde_json::{Value, json};
use tidewire::{ConnId, limits};

use super::client::{Client, Expected, Via};
use super::game::{Game, Turn};
use super::marks::marks;
use super::world::World;

impl Game {
    /// Every client of the space takes what has come and holds it against what must come.
    pub(crate) fn settle<R>(&mut self, s: usize, turn: &Turn<R>) {
        let now = self.now(s);
        self.note_trims(s);
        let (mut whole, mut cut) = (0, 0);
        for place in 0..self.clients.len() {
            let Some(conn) = self.clients[place]
                .conn
                .filter(|_| self.clients[place].space == s)
            else {
                continue;
            };
            if self.clients[place].via != Via::Socket {
                let (some, lacks) = self.settle_reader(s, place, conn, turn);
                (whole, cut) = (whole + usize::from(some), cut + usize::from(lacks));
                continue;
            }
            for frame in self.worlds[s].frames(conn) {
                self.scan(place, &frame);
                let client = &mut self.clients[place];
                let message: Value = serde_json::from_str(&frame).expect(&frame);
                let messages = match message {
                    Value::Array(messages) => {
                        assert!(!client.legacy, "an array for a legacy client: {frame}");
                        messages
                    }
                    message => vec![message],
                };
                for message in messages {
                    client.take(&message, &mut self.spaces[s], &mut self.cov, now);
                }
            }
            let client = &mut self.clients[place];
            client.named.clear();
            let received = std::mem::take(&mut client.received);
            client
                .expected
                .retain(|e| !client.legacy || !answered(e, &client.copies));
            whole += usize::from(received > 0);
            cut += usize::from(!client.expected.is_empty());
            let code = self.worlds[s].closed(conn);
            let right = match turn.crashed {
                true => code == Some(4000) || (code.is_some() && code == client.closing),
                false => code == client.closing,
            };
            assert!(
                right,
                "{} was to be closed with {:?}, is with {code:?}",
                client.name, client.closing
            );
            let missing = &client.expected;
            assert!(
                turn.crashed || missing.is_empty(),
                "{} never got {missing:#?}",
                client.name
            );
            if code.is_some() {
                client.gone();
            } else {
                client.settle_legacy(&self.spaces[s], now);
            }
        }
        self.check_pictures(s);
        self.cov.hit_if("crashes", turn.crashed);
        if turn.crashed {
            self.cov.hit(self.worlds[s].crashed_at);
        }
        self.cov.hit_if(
            "crashes in mid-fan-out",
            turn.crashed && whole > 0 && cut > 0,
        );
        let open = self.clients.iter().filter(|c| c.space == s && c.is_open());
        // Readers have timers of their own.
        let open = open.filter(|c| c.via == Via::Socket);
        if let Some(due) = open.filter_map(|c| c.expires_at).min() {
            // Alarms ring on whole minutes; what is overdue waits for the next.
            let minute = limits::ALARM_GRAIN_MS;
            let latest = due.max(now + 1).div_ceil(minute) * minute;
            let alarm = self.worlds[s].alarm;
            assert!(
                alarm.is_some_and(|at| at.0 <= latest),
                "the alarm {alarm:?} is after {latest}"
            );
        }
        self.doze(s);
    }

    /// The same for a reader over HTTP. Whether it got anything, and whether anything is missing.
    fn settle_reader<R>(
        &mut self,
        s: usize,
        place: usize,
        conn: ConnId,
        turn: &Turn<R>,
    ) -> (bool, bool) {
        let ended = match self.clients[place].via {
            Via::Stream => self.stream_events(s, place, conn, turn.crashed),
            Via::Wait | Via::Page | Via::Socket | Via::Post => self.waited(s, place, conn),
        };
        let client = &mut self.clients[place];
        client.named.clear();
        client.moved = false;
        let some = std::mem::take(&mut client.received) > 0;
        let missing = std::mem::take(&mut client.expected);
        assert!(
            turn.crashed || missing.is_empty(),
            "{} never got {missing:#?}",
            client.name
        );
        let reset = client.copies.get(client.reads).is_some_and(|c| c.forgotten);
        let right = ended || !(client.closing.is_some() || reset);
        assert!(right, "{} was to end", client.name);
        let stays = client.via == Via::Stream && client.closing.is_none() && !reset;
        assert!(
            !ended || turn.crashed || !stays,
            "{} has ended",
            client.name
        );
        if ended {
            client.gone();
        }
        (some, !missing.is_empty())
    }

    /// No frame names a key or holds a value that its receiver may not know of.
    pub(crate) fn scan(&self, place: usize, frame: &str) {
        let client = &self.clients[place];
        let space = &self.spaces[client.space];
        for key in marks(frame, "k~") {
            let of =
                |(channel, named): &(&'static str, String)| (*named == key).then_some(*channel);
            let channel = space.past.keys().find_map(of);
            let known =
                channel.is_some_and(|channel| space.could_see(channel, &key, &client.eyes, 0));
            let named = client.named.contains(&key);
            assert!(known || named, "{} learns of {key}: {frame}", client.name);
        }
        for value in marks(frame, "v~") {
            let known = space.may_learn(&value, &client.eyes, self.heads[client.space]);
            assert!(
                known || client.named.contains(&value),
                "{} learns {value}: {frame}",
                client.name
            );
        }
    }

    /// What the space says of itself.
    pub(crate) fn check_stats(&mut self, s: usize) {
        if self.worlds[s].crash_after.is_some() {
            return;
        }
        self.failing[s] = None;
        let turn = self.turn(s, World::stats);
        self.settle(s, &turn);
        let stats = &turn.answer;
        let open = self.clients.iter().filter(|c| c.space == s && c.is_open());
        let live = |c: &Client| c.copies.values().filter(|copy| copy.live).count();
        assert_eq!(stats["seq"], self.spaces[s].head, "the sequence");
        assert_eq!(stats["epoch"], self.spaces[s].epoch.as_str(), "the epoch");
        assert_eq!(
            stats["connections"],
            json!(open.clone().count()),
            "connections"
        );
        assert_eq!(
            stats["subscriptions"],
            json!(open.map(live).sum::<usize>()),
            "subscriptions"
        );
        self.check_members(s);
    }

    /// Every live copy holds what there is to see.
    pub(crate) fn check_copies(&self) {
        for client in self.clients.iter().filter(|c| c.is_open()) {
            for (channel, copy) in client.copies.iter().filter(|(_, copy)| copy.live) {
                let space = &self.spaces[client.space];
                copy.is_complete(channel, space, &client.eyes, client.legacy);
            }
        }
    }
}

/// Whether a legacy client's subscription has got its pages.
fn answered(
    expected: &Expected,
    copies: &std::collections::BTreeMap<&'static str, super::copy::Copy>,
) -> bool {
    match expected {
        Expected::Snapshot { channel, .. } => {
            copies.get(channel).is_some_and(|c| c.page_head == u64::MAX)
        }
        _ => false,
    }
}
