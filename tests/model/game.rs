//! A history as it is played: two worlds, their oracles, and the clients.

use serde_json::Value;
use tidewire::{ConnId, Millis};

use super::client::{Client, Expected, Via};
use super::coverage::Coverage;
use super::oracle::{Change, Space};
use super::publish::Call;
use super::rules::{CHANNELS, Topics};
use super::step::{DAY, HOUR, MINUTE, Step, USUAL};
use super::world::World;
use super::write::Sent;

pub(crate) struct Game {
    pub(crate) worlds: [World; 2],
    pub(crate) spaces: [Space; 2],
    pub(crate) clients: Vec<Client>,
    pub(crate) cov: Coverage,
    /// Mutations that were sent, and calls with an idempotency key.
    pub(crate) sent: Vec<Sent>,
    pub(crate) calls: [Vec<Call>; 2],
    /// So many statements of the next input succeed.
    pub(crate) failing: [Option<u32>; 2],
    /// Counts whatever needs a name of its own.
    names: u64,
    /// The head before the step.
    pub(crate) heads: [u64; 2],
    slept: [bool; 2],
    /// Whether the object sleeps after each of its turns.
    drowsy: [bool; 2],
    /// Whether the clock has jumped back lately.
    pub(crate) jumped: [bool; 2],
}

/// What became of one input.
pub(crate) struct Turn<R> {
    pub(crate) answer: R,
    /// Whether the engine took it at all.
    pub(crate) handled: bool,
    /// Whether storage failed over it.
    pub(crate) failed: bool,
    pub(crate) crashed: bool,
}

pub(crate) const TOPICS: [&str; 3] = ["team:a", "team:b", "room:1"];

/// The topics that these bits pick; what a client usually has unless they say so.
pub(crate) fn topics(place: usize, bits: u64) -> Topics {
    let bits = if bits == USUAL {
        1 + 3 * place as u64 % 7
    } else {
        bits
    };
    let picked = TOPICS
        .iter()
        .enumerate()
        .filter(|(i, _)| bits >> i & 1 == 1);
    picked.map(|(_, topic)| (*topic).to_owned()).collect()
}

impl Game {
    fn cast() -> Vec<Client> {
        vec![
            Client::new("0 alice", 0, Some("alice"), false),
            Client::new("1 alice, again", 0, Some("alice"), false),
            Client::new("2 bob", 0, Some("bob"), false),
            Client::new("3 bob, legacy", 0, Some("bob"), true),
            Client::new("4 carol", 0, Some("carol"), false),
            Client::new("5 nobody", 0, None, false),
            Client::new("6 nobody, legacy", 0, None, true),
            Client::new("7 alice, elsewhere", 1, Some("alice"), false),
            Client::new("8 bob, elsewhere", 1, Some("bob"), false),
            Client::new("9 carol, elsewhere, legacy", 1, Some("carol"), true),
            Client::over_http(Via::Stream, "10 alice, streams", Some("alice")),
            Client::over_http(Via::Stream, "11 bob, streams", Some("bob")),
            Client::over_http(Via::Wait, "12 carol, waits", Some("carol")),
            Client::over_http(Via::Wait, "13 nobody, waits", None),
            Client::over_http(Via::Page, "14 bob, pages", Some("bob")),
            Client::over_http(Via::Post, "15 whoever posts", None),
        ]
    }

    pub(crate) fn new() -> Self {
        let mut worlds = [World::new(), World::new()];
        let spaces = worlds.each_mut().map(|w| Space {
            epoch: w.stats()["epoch"].as_str().unwrap().to_owned(),
            latest: w.now.0,
            ..Space::default()
        });
        Self {
            worlds,
            spaces,
            clients: Self::cast(),
            cov: Coverage::default(),
            sent: Vec::new(),
            calls: [Vec::new(), Vec::new()],
            failing: [None; 2],
            names: 0,
            heads: [0; 2],
            slept: [false; 2],
            drowsy: [false; 2],
            jumped: [false; 2],
        }
    }

    /// A name that nothing else has, in neither space.
    pub(crate) fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}~{}", self.names)
    }

    pub(crate) fn now(&self, s: usize) -> u64 {
        self.worlds[s].now.0
    }

    /// Gives a world one input.
    pub(crate) fn turn<R>(&mut self, s: usize, input: impl FnOnce(&mut World) -> R) -> Turn<R> {
        let (now, waits) = (self.now(s), self.has_waiting(s));
        let w = &mut self.worlds[s];
        let handled = w.crash_after != Some(0);
        let crashes = w.crashes;
        let fails = self.failing[s]
            .take()
            .filter(|_| w.crash_after.is_none() && !waits);
        if let Some(statements) = fails {
            w.sqlite.fail_after(statements);
        }
        let answer = input(w);
        let failed = fails.is_some() && !w.sqlite.spared();
        let faults = std::mem::take(&mut w.faults);
        assert_eq!(failed, !faults.is_empty(), "faults: {faults:?}");
        let crashed = w.crashes > crashes;
        self.cov.hit_if("storage failures", failed);
        if handled {
            for client in self
                .clients
                .iter_mut()
                .filter(|c| c.space == s && c.is_open())
            {
                if client.expires_at.is_some_and(|at| at <= now) {
                    client.closing = Some(4001);
                    self.cov.hit("expired");
                    self.cov.hit_if("expired asleep", self.slept[s]);
                }
            }
        }
        self.slept[s] = false;
        Turn {
            answer,
            handled,
            failed,
            crashed,
        }
    }

    /// Tells the clients what they must get of these changes. How many get anything.
    pub(crate) fn tell(&mut self, s: usize, changes: &[Change], except: Option<usize>) -> usize {
        let head = self.spaces[s].head;
        let mut receivers = 0;
        for (place, client) in self.clients.iter_mut().enumerate() {
            if client.space != s || !client.is_open() || Some(place) == except {
                continue;
            }
            let mut any = false;
            let live = CHANNELS.map(|channel| client.is_live(channel));
            for (channel, _) in CHANNELS.into_iter().zip(live).filter(|(_, live)| *live) {
                let of_channel = changes.iter().filter(|change| change.channel == channel);
                let seen = of_channel.filter_map(|c| Some((c, c.seen_by(&client.eyes)?)));
                let (changes, told): (Vec<&Change>, Vec<Value>) = seen.unzip();
                let Some(last) = changes.last() else { continue };
                for (change, told) in changes.iter().zip(&told) {
                    let action = change.action.name();
                    self.cov.hit_if(
                        "move-in live",
                        told["action"] == "create" && change.before.is_some() && action == "update",
                    );
                    self.cov.hit_if(
                        "move-out live",
                        told["action"] == "delete" && action != "delete",
                    );
                }
                any = true;
                client.expected.push(Expected::Changes {
                    channel,
                    changes: told,
                    least: last.seq,
                    most: head,
                    of_log: true,
                });
            }
            receivers += usize::from(any);
        }
        receivers
    }

    /// Takes the changes into the oracle's log.
    pub(crate) fn commit(&mut self, s: usize, changes: Vec<Change>) -> Vec<Change> {
        let now = self.now(s);
        let mut committed = Vec::new();
        for change in changes {
            let past = self.spaces[s]
                .past
                .get(&(change.channel, change.key.clone()));
            let last = past.and_then(|past| past.last());
            let reborn = change.before.is_none() && !change.data.is_null();
            self.cov.hit_if(
                "reborn for others",
                reborn && last.is_some_and(|v| v.audience != change.after),
            );
            committed.push(self.spaces[s].commit(change, now));
        }
        committed
    }

    pub(crate) fn time(&mut self, s: usize, now: u64) {
        self.worlds[s].now = Millis(now);
        self.spaces[s].latest = self.spaces[s].latest.max(now);
    }

    pub(crate) fn play(&mut self, step: &Step) {
        self.heads = [self.spaces[0].head, self.spaces[1].head];
        match step {
            Step::Sleep { space } => {
                let s = *space;
                self.cut_readers(s);
                let live = self.clients.iter().any(|c| c.space == s && c.is_open());
                self.cov.hit_if("sleeps with clients", live);
                self.worlds[s].sleep();
                self.slept[s] = true;
                let expired = |c: &Client| c.space == s && c.is_open() && c.via == Via::Socket;
                for client in self.clients.iter().filter(|c| expired(c)) {
                    assert_eq!(
                        self.worlds[s].closed(client.conn.unwrap()),
                        None,
                        "closed by waking"
                    );
                }
                self.check_stats(s);
                // Whatever comes next, the object was asleep when it came.
                self.worlds[s].sleep();
                self.slept[s] = true;
            }
            Step::Drowsy { space, on } => self.drowsy[*space] = *on,
            Step::Read {
                client,
                channel,
                limit,
                life,
            } => self.read(*client, channel, *limit, *life),
            Step::ReadOn { client } => self.read_on(*client),
            Step::Post {
                identity,
                items,
                back,
            } => self.post(identity, items, *back),
            Step::Crash { space, effects } => self.worlds[*space].crash_after = Some(*effects),
            Step::Fail { space, statements } => self.failing[*space] = Some(*statements),
            Step::Advance { space, ms } => {
                self.time(*space, self.now(*space) + ms);
                self.cov.hit_if("jumps ahead by days", *ms >= DAY);
                self.ring_readers(*space);
            }
            Step::JumpBack { space, ms } => {
                self.time(*space, self.now(*space) - ms);
                self.jumped[*space] = true;
                self.cov.hit(match *ms {
                    0..MINUTE => "jumps back by seconds",
                    MINUTE..DAY => "jumps back by minutes and hours",
                    _ => "jumps back by days",
                });
                if *ms > MINUTE {
                    self.forget_times(*space);
                }
            }
            Step::Ring { space } => self.ring(*space),
            Step::Connect {
                client,
                topics,
                life,
                resume,
            } => {
                self.connect(*client, *topics, *life, *resume);
            }
            Step::Leave { client } => self.leave(*client),
            Step::Be {
                client,
                channel,
                how,
            } => self.be(*client, channel, *how),
            Step::Subscribe {
                client,
                channel,
                from,
                limit,
                meta,
            } => {
                self.subscribe(*client, channel, *from, *limit, *meta);
            }
            Step::Unsubscribe { client, channel } => self.unsubscribe(*client, channel),
            Step::CatchUp { client, limit } => self.catch_up(*client, *limit),
            Step::Mutate { client, item } => self.mutate(*client, item),
            Step::Repeat {
                client,
                back,
                altered,
            } => self.repeat(*client, *back, *altered),
            Step::Renew {
                client,
                topics,
                life,
                token,
            } => {
                self.renew(*client, *topics, *life, *token);
            }
            Step::Publish {
                space,
                items,
                key,
                elsewhere,
            } => {
                self.publish(*space, items, *key, *elsewhere);
            }
            Step::Republish {
                space,
                back,
                altered,
            } => self.republish(*space, *back, *altered),
            Step::Bulk { space } => self.bulk(*space),
            Step::Topics {
                space,
                identity,
                add,
                remove,
            } => {
                self.change_topics(*space, identity, *add, *remove);
            }
            Step::Disconnect { space, identity } => self.disconnect(*space, *identity),
            Step::Reset { space, channel, to } => self.reset(*space, channel, *to),
            Step::Changed { space, channel } => self.changed(*space, channel),
            Step::Epoch { space } => self.renew_epoch(*space),
        }
    }

    /// A legacy client's times mean nothing after the server's clock has jumped back.
    fn forget_times(&mut self, s: usize) {
        for client in self.clients.iter_mut().filter(|c| c.space == s) {
            client
                .copies
                .values_mut()
                .for_each(|copy| copy.since = None);
        }
    }

    /// The object sleeps if nothing keeps it awake: what comes next finds it asleep.
    pub(crate) fn doze(&mut self, s: usize) {
        if self.drowsy[s] && !self.has_readers(s) {
            self.worlds[s].sleep();
            self.slept[s] = true;
            self.cov.hit("sleeps between two turns");
        }
    }

    fn ring(&mut self, s: usize) {
        self.ring_readers(s);
        for _ in 0..5 {
            let due = self.worlds[s].alarm.is_some_and(|at| at.0 <= self.now(s));
            if !due {
                break;
            }
            let turn = self.turn(s, World::ring);
            self.cov.hit("alarms");
            self.settle(s, &turn);
        }
    }

    /// Everybody comes back, catches up, and holds exactly what there is to see; so it is again
    /// after a sleep.
    pub(crate) fn finish(&mut self) {
        for s in 0..2 {
            self.worlds[s].crash_after = None;
            self.failing[s] = None;
            self.time(s, self.spaces[s].latest + HOUR);
            self.check_stats(s);
        }
        for place in 0..self.clients.len() {
            let s = self.clients[place].space;
            self.heads[s] = self.spaces[s].head;
            if self.clients[place].via != Via::Socket {
                self.read_up(place, 3);
                continue;
            }
            if !self.clients[place].is_open() {
                self.connect(place, USUAL, HOUR, place % 2 == 0);
            }
            self.catch_up(place, 3);
            assert!(
                self.clients[place].is_open(),
                "{} is back",
                self.clients[place].name
            );
        }
        self.check_copies();
        for s in 0..2 {
            self.check_stats(s);
            self.worlds[s].sleep();
            self.check_stats(s);
            self.time(s, self.spaces[s].latest + 2 * HOUR);
            self.ring(s);
            self.is_trimmed(s);
        }
    }

    pub(crate) fn is_socket(&self, place: usize) -> bool {
        self.clients[place].via == Via::Socket
    }

    pub(crate) fn conn(&self, place: usize) -> Option<(usize, ConnId)> {
        let client = &self.clients[place];
        Some((client.space, client.conn?))
    }
}
