//! A history as it is played: a world whose rows live in a home outside, clients, and questions.

use std::collections::{BTreeMap, BTreeSet};

use tidewire::{Millis, Topics, limits};

use super::client::{Client, Kind};
use super::coverage::Coverage;
use super::source::Asked;
use super::step::{CHANNELS, DAY, HOUR, MINUTE, Step, world};
use super::truth::{Row, Truth};
use super::world::World;
use super::write::{Posted, Sent};

pub(crate) struct Game {
    pub(crate) w: World,
    pub(crate) truth: Truth,
    pub(crate) clients: Vec<Client>,
    pub(crate) cov: Coverage,
    /// What the home was asked, oldest first.
    pub(crate) asked: Vec<Asked>,
    /// Mutations that were sent.
    pub(crate) sent: Vec<Sent>,
    /// Requests with mutations over HTTP.
    pub(crate) posted: Vec<Posted>,
    /// The row that the app publishes in this step.
    pub(crate) publishing: Option<Row>,
    /// Rows that the app wrote without telling, by channel.
    pub(crate) untold: BTreeSet<&'static str>,
    /// Whose connections have ended in the last turn: what was asked for them in it, nobody needs.
    pub(crate) left: BTreeSet<&'static str>,
    /// The channels of which the log may learn in this step that they changed outside.
    pub(crate) doubts: BTreeSet<&'static str>,
    /// The channels of which storage may have failed to note that.
    pub(crate) unnoted: BTreeSet<&'static str>,
    /// The seq of the last such note of each channel, and in which turn it was made.
    pub(crate) outside: BTreeMap<&'static str, (u64, u64)>,
    /// Counts turns.
    pub(crate) turns: u64,
    /// Until when tokens of an identity do not grant a topic.
    pub(crate) removed: BTreeMap<(&'static str, String), u64>,
    pub(crate) epoch: String,
    /// The latest time.
    pub(crate) latest: u64,
    /// The home's clock, which never jumps.
    pub(crate) home: Millis,
    /// Whether it has had no turn since it woke; whether a second loss of memory then hid whom the
    /// first one had closed.
    asleep: bool,
    pub(crate) blind: bool,
    /// Whether the object sleeps after each turn that leaves nothing under way.
    drowsy: bool,
    /// So many statements of the next input succeed.
    failing: Option<u32>,
    names: u64,
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

pub(crate) const CAST: usize = 10;

fn cast() -> [Client; CAST] {
    [
        Client::new("0 alice", Kind::Socket, "alice"),
        Client::new("1 alice, again", Kind::Socket, "alice"),
        Client::new("2 bob", Kind::Socket, "bob"),
        Client::new("3 bob, legacy", Kind::Legacy, "bob"),
        Client::new("4 carol", Kind::Socket, "carol"),
        Client::new("5 carol, legacy", Kind::Legacy, "carol"),
        Client::new("6 bob, pages", Kind::Pages, "bob"),
        Client::new("7 alice, stream", Kind::Stream("team:x"), "alice"),
        Client::new("8 carol, stream", Kind::Stream("notes"), "carol"),
        Client::new("9 alice, waits", Kind::Waits, "alice"),
    ]
}

/// The topics that an identity's tokens ask for.
pub(crate) fn usual(identity: &str) -> &'static [&'static str] {
    match identity {
        "alice" => &["team:a", "team:b"],
        "bob" => &["team:b"],
        _ => &["team:c"],
    }
}

impl Game {
    pub(crate) fn new() -> Self {
        let mut w = world();
        let epoch = w.stats()["epoch"].as_str().unwrap().to_owned();
        Self {
            latest: w.now.0,
            home: w.now,
            asleep: false,
            blind: false,
            drowsy: false,
            w,
            truth: Truth::default(),
            clients: cast().into(),
            cov: Coverage::default(),
            asked: Vec::new(),
            sent: Vec::new(),
            posted: Vec::new(),
            publishing: None,
            untold: BTreeSet::new(),
            left: BTreeSet::new(),
            doubts: BTreeSet::new(),
            unnoted: BTreeSet::new(),
            outside: BTreeMap::new(),
            turns: 0,
            removed: BTreeMap::new(),
            epoch,
            failing: None,
            names: 0,
        }
    }

    /// A name that nothing else has.
    pub(crate) fn name(&mut self, kind: &str) -> String {
        self.names += 1;
        format!("{kind}~{}", self.names)
    }

    /// Gives the world one input, and holds all that came of it against what may come of it.
    pub(crate) fn turn<R>(&mut self, input: impl FnOnce(&mut World) -> R) -> Turn<R> {
        self.give_up();
        self.turns += 1;
        self.asleep = false;
        let w = &mut self.w;
        let handled = w.crash_after != Some(0);
        let crashes = w.crashes;
        let fails = self.failing.take().filter(|_| w.crash_after.is_none());
        if let Some(statements) = fails {
            w.sqlite.fail_after(statements);
        }
        let answer = input(w);
        let failed = fails.is_some() && !w.sqlite.spared();
        let faults = std::mem::take(&mut w.faults);
        assert!(failed || faults.is_empty(), "faults: {faults:?}");
        let crashed = w.crashes > crashes;
        if failed {
            self.cov.hit("storage failures");
            self.unnoted.extend(CHANNELS);
        }
        if crashed {
            self.cov.hit("crashes");
            self.cov.hit(self.w.crashed_at);
            self.lose_memory();
        }
        Turn {
            answer,
            handled,
            failed,
            crashed,
        }
    }

    /// The object has lost its memory: nobody waits for the answers to its questions any more.
    fn lose_memory(&mut self) {
        self.asleep = true;
        // No answer outlives the life that asked.
        for mut asked in std::mem::take(&mut self.asked) {
            if !std::mem::take(&mut asked.open) {
                continue;
            }
            self.cov.hit(match asked.executed.is_some() {
                true => "lost by a crash, executed",
                false => "lost by a crash, not executed",
            });
        }
        self.doubts.extend(CHANNELS);
        self.close_races();
        self.posted.clear();
        for client in &mut self.clients {
            client.requests.retain(|request| request.conn.is_none());
            if client.stream.take().is_some() {
                client.gone();
            }
        }
    }

    pub(crate) fn time(&mut self, now: u64) {
        self.home = self.home.plus(now.saturating_sub(self.w.now.0));
        self.w.now.0 = now;
        self.latest = self.latest.max(now);
    }

    /// What a token of this time grants.
    pub(crate) fn granted(&self, identity: &'static str) -> Topics {
        let now = self.w.now.0;
        let held = |topic: &&&str| {
            let until = self.removed.get(&(identity, (**topic).to_owned()));
            until.is_none_or(|until| now > *until)
        };
        let who = tidewire::Identity::parse(identity).unwrap();
        let topics = usual(identity).iter().filter(held).copied();
        Topics::granted(Some(&who), topics).unwrap()
    }

    pub(crate) fn play(&mut self, step: &Step) {
        match step {
            Step::Connect { client, resume } => self.connect(*client, *resume),
            Step::Leave { client } => self.leave(*client),
            Step::Subscribe {
                client,
                channel,
                from_nothing,
                limit,
            } => self.subscribe(*client, channel, *from_nothing, *limit, true),
            Step::Unsubscribe { client, channel } => self.unsubscribe(*client, channel),
            Step::CatchUp { client, limit } => self.catch_up(*client, *limit),
            Step::Mutate { client, item } => self.mutate(*client, item),
            Step::Repeat { client, back } => self.repeat(*client, *back),
            Step::Post {
                identity,
                items,
                back,
            } => self.post(identity, items, *back),
            Step::Publish { item } => self.publish(item),
            Step::Outside { item } => self.write_outside(item),
            Step::Tell { channel } => self.tell(channel),
            Step::Reset { channel } => self.reset(channel),
            Step::Epoch => self.renew_epoch(),
            Step::Topics {
                identity,
                add,
                remove,
            } => self.change_topics(identity, *add, *remove),
            Step::Execute { nth } => self.execute_nth(*nth),
            Step::Answer { nth, how } => self.answer_nth(*nth, *how),
            Step::Late { nth } => self.late_nth(*nth),
            Step::Again { back } => self.answer_again(*back),
            Step::Sleep => {
                // No life begins in the millisecond of another: its questions are counted from there.
                self.time(self.w.now.0 + 1);
                self.blind |= self.asleep && self.w.closed_by_waking > 0;
                self.w.sleep();
                self.lose_memory();
                self.settle();
                self.cov.hit("sleeps");
            }
            Step::Crash { effects } => {
                self.time(self.w.now.0 + 1);
                self.w.crash_after = Some(*effects);
            }
            Step::Fail { statements } => self.failing = Some(*statements),
            Step::Advance { ms } => {
                self.time(self.w.now.0 + ms);
                self.cov.hit_if("jumps ahead by days", *ms >= DAY);
                self.ring_readers();
            }
            Step::Be { client, how } => self.be(*client, *how),
            Step::Drowsy { on } => self.drowsy = *on,
            Step::JumpBack { ms } => {
                self.time(self.w.now.0 - ms);
                self.cov.hit(match *ms {
                    0..MINUTE => "jumps back by seconds",
                    MINUTE..DAY => "jumps back by minutes and hours",
                    _ => "jumps back by days",
                });
                // A legacy client's times mean nothing then.
                let copies = self.clients.iter_mut().flat_map(|c| c.copies.values_mut());
                copies.for_each(|copy| copy.since = None);
            }
            Step::Ring => self.ring(),
        }
    }

    /// The object sleeps if nothing keeps it awake: what comes next finds it asleep.
    pub(crate) fn doze(&mut self) {
        let open = |client: &Client| {
            client.stream.is_some() || client.requests.iter().any(|r| r.conn.is_some())
        };
        let waits = self.asked.iter().any(|asked| asked.open) || !self.posted.is_empty();
        if !self.drowsy || self.asleep || waits || self.clients.iter().any(open) {
            return;
        }
        self.time(self.w.now.0 + 1);
        self.w.sleep();
        self.lose_memory();
        self.cov.hit("sleeps between two turns");
    }

    fn ring(&mut self) {
        self.ring_readers();
        for _ in 0..5 {
            if self.w.alarm.is_none_or(|at| at > self.w.now) {
                break;
            }
            self.turn(World::ring);
            self.cov.hit("alarms");
            self.settle();
        }
    }

    /// The home answers or is given up, the app tells what it did, everybody comes back, catches
    /// up, and holds what the home holds.
    pub(crate) fn finish(&mut self) {
        self.w.crash_after = None;
        self.failing = None;
        self.time(self.latest + 61_000);
        self.nudge();
        self.answer_all();
        for channel in std::mem::take(&mut self.untold) {
            self.tell(channel);
        }
        self.notices();
        for place in 0..CAST {
            self.catch_up(place, 2);
            let client = &self.clients[place];
            assert!(
                client.requests.is_empty(),
                "{} waits for {:?}",
                client.name,
                client.requests
            );
        }
        assert!(self.posted.is_empty(), "nobody answers {:?}", self.posted);
        self.notices();
        for place in 0..CAST {
            // Whoever is asked to come again by others' coming.
            self.catch_up(place, 500);
            self.check_copies(place);
        }
        self.time(self.latest + HOUR);
        self.ring();
    }

    /// Notices that had to wait come.
    pub(crate) fn notices(&mut self) {
        self.time(self.latest + limits::NOTICE_PAUSE_MS);
        self.ring();
    }

    /// Where nothing is under way and nothing untold, whoever is live holds what the home holds.
    pub(crate) fn check_live(&mut self) {
        if self.w.crash_after.is_some() || self.failing.is_some() || !self.untold.is_empty() {
            return;
        }
        self.notices();
        self.nudge();
        self.answer_all();
        self.check_pictures();
        for client in self.clients.iter().filter(|client| client.conn.is_some()) {
            let live = client
                .copies
                .iter()
                .filter(|(_, copy)| copy.live && !copy.forgotten);
            for (channel, copy) in live {
                assert_eq!(
                    copy.rows,
                    self.visible(channel, &client.topics),
                    "left is {}'s live copy of {channel}, right what the home has for it",
                    client.name
                );
                self.cov.hit("live copies like the home");
            }
        }
    }

    pub(crate) fn check_copies(&mut self, place: usize) {
        let client = &self.clients[place];
        for (channel, copy) in &client.copies {
            let there = self.visible(channel, &client.topics);
            assert_eq!(
                copy.rows, there,
                "left is {}'s copy of {channel}, right what the home has for it",
                client.name
            );
        }
        self.cov.hit("copies like the home");
    }

    /// The rows that a write of this channel and key is about.
    pub(crate) fn row(channel: &'static str, key: &str) -> Row {
        (channel, key.to_owned())
    }
}
