//! Questions to sources: who waits for which, and what waits behind them.
//!
//! A turn awaits nothing, so a question is an effect and its answer a later input. Meanwhile all
//! others go on. What must keep its order waits: messages of a connection about the same channel,
//! its mutations of channels with a source, and writes of the same row, whoever makes them.

use std::collections::VecDeque;
use std::rc::Rc;

use super::Engine;
use super::fetch::{FirstRead, Pending};
use super::read::HttpReader;
use super::source_write::Writing;
use super::write::Writer;
use crate::channel::Rule;
use crate::hub;
use crate::limits;
use crate::names::{Channel, ConnId, Key, Millis, SessionId};
use crate::protocol::{
    ClientMessage, Close, Code, Problem, decode_again, decode_subscription_again,
};
use crate::session::{ChannelPass, Grant, Session};
use crate::small_map::SmallMap;
use crate::source::{Answer, Answered, Ask, AskId, Failed, Kind, Operation, Question, unanswered};
use crate::store::Sql;

/// What the metrics call a question for rows.
const FETCH: &str = "fetch";

/// The questions of a space that are under way.
#[derive(Debug)]
pub(super) struct Asking {
    /// The number of the next one.
    next: u64,
    open: SmallMap<AskId, Open>,
    /// When each is given up.
    ends: SmallMap<(Millis, AskId), ()>,
    /// The same of those that are late.
    late_ends: SmallMap<(Millis, AskId), ()>,
    lanes: SmallMap<ConnId, Lane>,
    /// The writes of each row, in their order: the first is under way.
    rows: SmallMap<(Channel, Key), VecDeque<AskId>>,
    /// Owners and ids of mutations that are being executed.
    pub(super) ids: SmallMap<(String, String), ()>,
    waiting_bytes: usize,
    /// How much the last page of each channel was.
    pub(super) pages: SmallMap<Channel, usize>,
}

/// One question.
#[derive(Debug)]
struct Open {
    channel: Channel,
    who: Who,
    step: Step,
    /// When it is given up, and when it came.
    ends: Millis,
    came: Millis,
    /// Whose share it counts against, and what it holds.
    owner: Option<Rc<str>>,
    bytes: usize,
    /// What is to be asked once the row is free.
    waits: Option<Question>,
    /// Whether its asker has been told that the source is slow; a write is waited for longer.
    late: bool,
}

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Who {
    /// A socket's client.
    Socket(ConnId),
    /// A request over HTTP that has no answer yet.
    Request(ConnId),
    /// A stream over HTTP.
    Stream(ConnId),
    /// Nobody any more.
    Nobody,
}

/// What goes on with the answer.
#[derive(Debug)]
pub(super) enum Step {
    /// A subscription of a socket, by what it was read from.
    Subscribe(String, Pending),
    /// A reader's first page.
    Read(Box<FirstRead>, Pending),
    /// A stream's next page.
    NextPage(Pending),
    /// A mutation.
    Write(Box<Writing>),
    /// Presence or a signal, by what it was read from.
    Say(String),
}

impl Step {
    /// What it holds, about.
    fn bytes(&self) -> usize {
        match self {
            Self::Subscribe(raw, _) | Self::Say(raw) => raw.len(),
            Self::Write(writing) => writing.bytes(),
            Self::Read(..) | Self::NextPage(_) => 0,
        }
    }

    /// What the source is asked, for the metrics.
    fn kind(&self) -> &'static str {
        match self {
            Self::Write(_) => "write",
            Self::Subscribe(_, pending) | Self::Read(_, pending) | Self::NextPage(pending) => {
                match pending.fetching {
                    Some(_) => FETCH,
                    None => "authorize",
                }
            }
            Self::Say(_) => "authorize",
        }
    }

    /// A reader's first page. Without the reader nobody is answered.
    pub(super) fn read(conn: ConnId, reader: Option<HttpReader>, pending: Pending) -> Self {
        match reader {
            Some(reader) => Self::Read(Box::new(FirstRead { conn, reader }), pending),
            None => Self::NextPage(pending),
        }
    }
}

/// What waits of one connection.
#[derive(Debug, Default)]
struct Lane {
    /// The channels that a question of the connection is about.
    channels: SmallMap<Channel, ()>,
    /// Whether one of them is about a mutation.
    writes: bool,
    queue: VecDeque<Waiting>,
}

impl Lane {
    fn bytes(&self) -> usize {
        self.queue.iter().map(Waiting::bytes).sum()
    }
}

/// A message that waits.
#[derive(Debug)]
struct Waiting {
    channel: Channel,
    mutates: bool,
    raw: String,
    is_subscription: bool,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.raw.len() + limits::HELD_OVERHEAD
    }
}

/// A session as far as its source is told of it.
#[derive(Debug, Clone)]
pub(super) struct Asks {
    pub(super) session: SessionId,
    pub(super) grant: Grant,
    pub(super) pass: Option<ChannelPass>,
}

impl Asks {
    pub(super) fn of(session: &Session, channel: &Channel) -> Self {
        Self {
            session: session.id.clone(),
            grant: session.grant.clone(),
            pass: session.pass(channel),
        }
    }
}

impl Asking {
    /// Numbers are not used twice, not even in two lives of an object: they occur in cursors.
    pub(super) fn new(began: Millis) -> Self {
        Self {
            next: began.0.saturating_mul(1024) & limits::SAFE_INTEGER,
            open: SmallMap::new(),
            ends: SmallMap::new(),
            late_ends: SmallMap::new(),
            lanes: SmallMap::new(),
            rows: SmallMap::new(),
            ids: SmallMap::new(),
            waiting_bytes: 0,
            pages: SmallMap::new(),
        }
    }

    fn first_end(&self) -> Option<(Millis, AskId)> {
        self.ends.keys().next().copied()
    }

    fn take(&mut self, id: AskId) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.ends.remove(&(open.ends, id));
        self.late_ends.remove(&(open.ends, id));
        Some(open)
    }

    /// Whether a message must wait for another of its connection.
    fn blocks(&self, conn: ConnId, channel: &Channel, mutates: bool) -> bool {
        self.lanes.get(&conn).is_some_and(|lane| {
            let before =
                |waiting: &Waiting| waiting.channel == *channel || mutates && waiting.mutates;
            lane.channels.contains_key(channel)
                || mutates && lane.writes
                || lane.queue.iter().any(before)
        })
    }

    /// The first message of a connection that need not wait any more.
    fn next_message(&mut self, conn: ConnId) -> Option<Waiting> {
        let lane = self.lanes.get_mut(&conn)?;
        let free = |at: &usize| {
            let Some(waiting) = lane.queue.get(*at) else {
                return false;
            };
            let busy =
                lane.channels.contains_key(&waiting.channel) || waiting.mutates && lane.writes;
            let behind = lane.queue.iter().take(*at).any(|earlier| {
                earlier.channel == waiting.channel || earlier.mutates && waiting.mutates
            });
            !busy && !behind
        };
        let at = (0..lane.queue.len()).find(free)?;
        let waiting = lane.queue.remove(at)?;
        self.waiting_bytes = self.waiting_bytes.saturating_sub(waiting.bytes());
        Some(waiting)
    }

    /// The connection that has most of what waits.
    fn greediest(&self) -> Option<ConnId> {
        let most = self.lanes.iter().max_by_key(|(_, lane)| lane.bytes());
        most.map(|(conn, _)| *conn)
    }

    /// Whether anything of a connection is under way or waits.
    fn is_busy(&self, conn: ConnId) -> bool {
        let busy = |lane: &Lane| lane.writes || !lane.channels.is_empty() || !lane.queue.is_empty();
        self.lanes.get(&conn).is_some_and(busy)
    }

    fn leave_lane(&mut self, open: &Open) {
        if let Who::Socket(conn) = open.who
            && let Some(lane) = self.lanes.get_mut(&conn)
        {
            lane.channels.remove(&open.channel);
            if let Step::Write(_) = open.step {
                lane.writes = false;
            }
        }
    }

    /// When the next question is given up whose asker has been told that it takes too long. All
    /// others are answered or late before anybody must wake for them.
    pub(super) fn next_end(&self) -> Option<Millis> {
        self.late_ends.keys().next().map(|(at, _)| *at)
    }

    /// Whether a row was written and nobody knows yet what came of it.
    pub(super) fn is_in_doubt(&self, channel: &Channel, key: &Key) -> bool {
        let row = self.rows.get(&(channel.clone(), key.clone()));
        let first = row.and_then(|row| self.open.get(row.front()?));
        first.is_some_and(|open| open.late)
    }
}

impl<S: Sql> Engine<S> {
    /// The channel's rule, if its rows live elsewhere.
    pub(super) fn has_source(&self, channel: &Channel) -> bool {
        let rule = self.config.rules.find(channel);
        rule.is_ok_and(|rule| rule.source.is_some())
    }

    /// Keeps a message back that must wait for an answer to another of its connection. Whether it
    /// does.
    pub(super) fn waits(&mut self, conn: ConnId, message: &ClientMessage<'_>, now: Millis) -> bool {
        let (channel, mutates, raw, is_subscription) = match message {
            ClientMessage::Subscribe(message) => (&message.channel, false, message.raw, true),
            ClientMessage::Mutate(message) => (&message.channel, true, message.raw, false),
            ClientMessage::Presence(message) => (&message.channel, false, message.raw, false),
            ClientMessage::Signal(message) => (&message.channel, false, message.raw, false),
            ClientMessage::Unsubscribe { channel } => {
                if !self.asking.blocks(conn, channel, false) {
                    return false;
                }
                let raw = crate::protocol::object(|o| {
                    o.text("type", "unsubscribe");
                    o.text("channel", channel.as_str());
                });
                self.wait(conn, channel, false, raw, false, now);
                return true;
            }
            ClientMessage::Ping | ClientMessage::Hello(_) | ClientMessage::Auth { .. } => {
                return false;
            }
        };
        let mutates = mutates && self.has_source(channel);
        if !self.asking.blocks(conn, channel, mutates) {
            return false;
        }
        self.wait(conn, channel, mutates, raw.to_owned(), is_subscription, now);
        true
    }

    fn wait(
        &mut self,
        conn: ConnId,
        channel: &Channel,
        mutates: bool,
        raw: String,
        is_subscription: bool,
        now: Millis,
    ) {
        let waiting = Waiting {
            channel: channel.clone(),
            mutates,
            raw,
            is_subscription,
        };
        let asking = &mut self.asking;
        let lane = asking.lanes.or_default(conn);
        asking.waiting_bytes += waiting.bytes();
        lane.queue.push_back(waiting);
        let too_much = match lane.bytes() > limits::HELD_BYTES {
            true => Some(conn),
            false if asking.waiting_bytes > limits::HELD_BYTES_OF_SPACE => asking.greediest(),
            false => None,
        };
        if let Some(conn) = too_much {
            // Nothing is lost: it resumes from its cursors, and its mutations have ids.
            self.close(conn, Close::RateLimited, now);
        }
    }

    /// Whether there is room for one more question of whoever has this grant, which holds so many
    /// bytes.
    pub(super) fn has_room_to_ask(&self, grant: &Grant, bytes: usize) -> Result<(), Problem> {
        let owner = hub::owner(grant);
        let (mut held, mut own) = (bytes, 0);
        for open in self.asking.open.values() {
            held += open.bytes;
            own += usize::from(owner.is_some() && open.owner == owner);
        }
        held += self.writers.values().map(Writer::bytes).sum::<usize>();
        let fits = self.asking.open.len() < limits::QUESTIONS
            && own < limits::QUESTIONS_PER_IDENTITY
            && held <= limits::QUESTIONS_BYTES;
        fits.then_some(()).ok_or_else(crowded)
    }

    /// Whether there is room for one more page of a channel's source.
    pub(super) fn has_room_to_fetch(&self, channel: &Channel) -> Result<(), Problem> {
        let usual = |channel| {
            let last = self.asking.pages.get(channel).copied();
            last.map_or(limits::FETCH_BYTES, |bytes| {
                bytes.max(limits::FETCH_LEAST_BYTES)
            })
        };
        let fetches = self.asking.open.values();
        let fetches = fetches.filter(|open| open.step.kind() == FETCH);
        let mut bytes = 0;
        for open in fetches {
            bytes += usual(&open.channel);
        }
        // One is always possible.
        let fits = bytes == 0 || bytes + usual(channel) <= limits::FETCHES_BYTES;
        fits.then_some(()).ok_or_else(crowded)
    }

    /// Asks the source of a channel. There must be room.
    pub(super) fn ask_source(
        &mut self,
        who: Who,
        channel: &Channel,
        asks: Asks,
        what: Ask,
        step: Step,
        now: Millis,
    ) {
        let id = AskId(self.asking.next);
        self.asking.next += 1;
        let owner = hub::owner(&asks.grant);
        let Asks {
            session,
            grant,
            pass,
        } = asks;
        let question = Question {
            id,
            channel: channel.clone(),
            session,
            grant,
            pass,
            what,
        };
        let ends = now.plus(limits::SOURCE_NEVER_MS);
        if let Who::Socket(conn) = who {
            let lane = self.asking.lanes.or_default(conn);
            lane.channels.insert(channel.clone(), ());
            lane.writes |= matches!(step, Step::Write(_));
        }
        let row = match &question.what {
            Ask::Write(write) => Some((channel.clone(), write.key.clone())),
            Ask::Authorize(_) | Ask::Fetch(_) => None,
        };
        let is_first = row.is_none_or(|row| {
            let row = self.asking.rows.or_default(row);
            row.push_back(id);
            row.len() == 1
        });
        let (put, waits) = match is_first {
            true => (Some(question), None),
            false => (None, Some(question)),
        };
        let open = Open {
            channel: channel.clone(),
            who,
            bytes: step.bytes(),
            step,
            ends,
            came: now,
            owner,
            waits,
            late: false,
        };
        self.asking.ends.insert((ends, id), ());
        self.asking.open.insert(id, open);
        if let Some(question) = put {
            self.put_question(question);
        }
        self.note_busy(who);
    }

    /// Hands a question out. Of a write it is noted that it is under way, before anybody knows.
    fn put_question(&mut self, question: Question) {
        if let Ask::Write(write) = &question.what {
            let claimed = self
                .store
                .claim(&write.owner, write.id.as_str(), &question.channel);
            if let Err(error) = claimed {
                // Without the note a crash would leave the log without the change, so it is not asked.
                let problem = self.fault(&error);
                self.unasked.push((question.id, problem));
                return;
            }
            let (rows, head) = (self.rows_untold(), self.store.head());
            let open = self.asking.open.get_mut(&question.id);
            if let Some(Step::Write(writing)) = open.map(|open| &mut open.step) {
                writing.event.rows = rows;
                writing.head = head;
            }
        }
        self.effects.questions.push(question);
    }

    /// Writes down whether a connection waits for an answer, or is to be told that it is behind: found
    /// so on waking, it is closed and asks again.
    pub(super) fn note_busy(&mut self, who: Who) {
        let Who::Socket(conn) = who else { return };
        let busy = self.asking.is_busy(conn) || self.is_owed(conn);
        if let Some(session) = self.hub.session_mut(conn)
            && session.asking != busy
        {
            session.asking = busy;
            self.dirty.push(conn);
        }
    }

    /// Takes an answer. One that comes twice, or to nobody, changes nothing.
    pub(super) fn answered(&mut self, id: AskId, answer: Answered, now: Millis) {
        let Some(open) = self.asking.take(id) else {
            return;
        };
        if !open.late {
            self.asking.leave_lane(&open);
        }
        let outcome = match &answer {
            Ok(_) => "answered",
            Err(failed) => {
                let fails = matches!(failed.problem.code, Code::Unavailable | Code::Internal);
                if fails { "failed" } else { "refused" }
            }
        };
        self.metrics.asked(open.step.kind(), outcome);
        let who = open.who;
        self.go_on(open, id, answer, now);
        self.after(who, now);
    }

    /// The source has not answered in time: its asker does not wait any longer. What came of a write
    /// is waited for all the same, because it may have been executed.
    pub(super) fn late(&mut self, id: AskId, now: Millis) {
        let Some(open) = self.asking.open.get_mut(&id).filter(|open| !open.late) else {
            return;
        };
        let (who, channel) = (open.who, open.channel.clone());
        self.metrics.asked(open.step.kind(), "late");
        match &mut open.step {
            Step::Write(writing) => {
                let key = writing.key.clone();
                open.late = true;
                self.asking.late_ends.insert((open.ends, id), ());
                open.who = Who::Nobody;
                let refusal = writing.refusal();
                // They are told with the refusal.
                writing.event.rows = 0;
                if let Who::Socket(conn) = who
                    && let Some(lane) = self.asking.lanes.get_mut(&conn)
                {
                    lane.channels.remove(&channel);
                    lane.writes = false;
                }
                self.refuse_write(who, refusal, &unanswered(), now);
                self.refuse_waiting(&channel, &key, now);
            }
            Step::Subscribe(..) | Step::Read(..) | Step::NextPage(_) | Step::Say(_) => {
                if let Some(open) = self.asking.take(id) {
                    self.asking.leave_lane(&open);
                    self.go_on(open, id, Err(Failed::from(unanswered())), now);
                }
            }
        }
        self.after(who, now);
    }

    /// Refuses the writes that wait for a row: nobody knows when it is free.
    fn refuse_waiting(&mut self, channel: &Channel, key: &Key, now: Millis) {
        let row = (channel.clone(), key.clone());
        let Some(row) = self.asking.rows.get_mut(&row) else {
            return;
        };
        let waiting: Vec<AskId> = row.drain(1..).collect();
        for id in waiting {
            self.drop_write(id, Some(&unanswered()), now);
        }
    }

    /// Ends a write that was not asked for yet.
    fn drop_write(&mut self, id: AskId, problem: Option<&Problem>, now: Millis) {
        let Some(open) = self.asking.take(id) else {
            return;
        };
        self.asking.leave_lane(&open);
        if let Step::Write(writing) = open.step {
            self.asking.ids.remove(&writing.once());
            if let Some(problem) = problem {
                self.refuse_write(open.who, writing.refusal(), problem, now);
                self.after(open.who, now);
            }
        }
    }

    /// Gives up questions that nobody has answered.
    pub(super) fn give_up(&mut self, now: Millis) {
        while let Some((ends, id)) = self.asking.first_end()
            && ends <= now
        {
            let waits = self
                .asking
                .open
                .get(&id)
                .is_some_and(|open| open.waits.is_some());
            let failed = Failed {
                problem: unanswered(),
                may_be_done: !waits,
            };
            self.answered(id, Err(failed), now);
        }
    }

    /// Answers questions that could not be put.
    pub(super) fn settle_unasked(&mut self, now: Millis) {
        while let Some((id, problem)) = self.unasked.pop() {
            self.answered(id, Err(problem.into()), now);
        }
    }

    /// Frees the row of a write, and asks for the next that may still be executed.
    pub(super) fn free_row(&mut self, id: AskId, channel: &Channel, key: &Key, now: Millis) {
        let row = (channel.clone(), key.clone());
        if let Some(queue) = self.asking.rows.get_mut(&row) {
            queue.retain(|other| *other != id);
        }
        while let Some(queue) = self.asking.rows.get_mut(&row) {
            let Some(next) = queue.front().copied() else {
                self.asking.rows.remove(&row);
                return;
            };
            let Err(problem) = self.put_next(next, now) else {
                return;
            };
            if let Some(queue) = self.asking.rows.get_mut(&row) {
                queue.pop_front();
            }
            self.drop_write(next, Some(&problem), now);
        }
    }

    /// Asks for a write whose row is free now, unless its writer may not write any more.
    fn put_next(&mut self, id: AskId, now: Millis) -> Result<(), Problem> {
        let Some(open) = self.asking.open.get_mut(&id) else {
            return Ok(());
        };
        let Some(mut question) = open.waits.take() else {
            return Ok(());
        };
        let (who, came) = (open.who, open.came);
        let rule = self.config.rules.find(&question.channel)?;
        let timeout = rule.source.as_ref().map_or(0, |source| source.timeout_ms);
        if now > came.plus(timeout) {
            return Err(unanswered());
        }
        match who {
            Who::Socket(conn) => {
                if let Some(session) = self.hub.session(conn) {
                    question.grant = session.grant.clone();
                    question.pass = session.pass(&question.channel);
                }
            }
            Who::Request(_) | Who::Stream(_) | Who::Nobody => {
                let admitted = self.admitted(question.grant.clone(), now);
                question.grant = admitted.map_err(|failure| self.problem(failure))?;
            }
        }
        let rule = self.config.rules.find(&question.channel)?;
        rule.may_write(&question.channel, &question.asker())?;
        let Some(open) = self.asking.open.get_mut(&id) else {
            return Ok(());
        };
        let (before, ends) = (open.ends, now.plus(limits::SOURCE_NEVER_MS));
        open.ends = ends;
        self.asking.ends.remove(&(before, id));
        self.asking.ends.insert((ends, id), ());
        self.put_question(question);
        Ok(())
    }

    /// Goes on with what has waited for an answer to this connection.
    fn after(&mut self, who: Who, now: Millis) {
        if let Who::Socket(conn) = who {
            while let Some(waiting) = self.asking.next_message(conn) {
                let message = match waiting.is_subscription {
                    true => decode_subscription_again(&waiting.raw).map(ClientMessage::Subscribe),
                    false => decode_again(&waiting.raw),
                };
                if let Some(message) = message {
                    self.say(conn, message, now);
                }
            }
        }
        self.note_busy(who);
        if let Who::Socket(conn) = who
            && !self.asking.is_busy(conn)
        {
            self.asking.lanes.remove(&conn);
        }
    }

    /// Forgets who has gone. A write that is under way is not undone by that.
    pub(super) fn forget_asker(&mut self, conn: ConnId) {
        let lane = self.asking.lanes.remove(&conn).unwrap_or_default();
        self.asking.waiting_bytes = self.asking.waiting_bytes.saturating_sub(lane.bytes());
        let is_its = |who: Who| matches!(who, Who::Socket(its) | Who::Stream(its) if its == conn);
        let its: Vec<AskId> = match lane.channels.is_empty() && !self.readers.contains_key(&conn) {
            true => Vec::new(),
            false => {
                let open = self.asking.open.iter();
                let its = open.filter(|(_, open)| is_its(open.who));
                its.map(|(id, _)| *id).collect()
            }
        };
        for id in its {
            let Some(open) = self.asking.open.get_mut(&id) else {
                continue;
            };
            open.who = Who::Nobody;
            match (&open.step, open.waits.is_some()) {
                (Step::Write(_), false) => {}
                (Step::Write(writing), true) => {
                    let row = (open.channel.clone(), writing.key.clone());
                    if let Some(row) = self.asking.rows.get_mut(&row) {
                        row.retain(|other| *other != id);
                    }
                    self.drop_write(id, None, Millis(0));
                }
                _ => _ = self.asking.take(id),
            }
        }
    }

    fn go_on(&mut self, open: Open, id: AskId, answer: Answered, now: Millis) {
        let Open { who, step, .. } = open;
        match (step, who) {
            (Step::Write(writing), who) => self.write_answered(id, who, *writing, answer, now),
            (Step::Subscribe(raw, pending), Who::Socket(conn)) => {
                if let Some(message) = decode_subscription_again(&raw) {
                    self.subscribe_answered(conn, &message, (id, pending), answer, now);
                }
            }
            (Step::Read(read, pending), Who::Request(_)) => {
                self.read_answered(*read, (id, pending), answer, now);
            }
            (Step::NextPage(pending), Who::Stream(conn)) => {
                self.next_page_answered(conn, (id, pending), answer, now);
            }
            (Step::Say(raw), Who::Socket(conn)) => match (answer, decode_again(&raw)) {
                (Ok(Answer::Allowed), Some(ClientMessage::Presence(message))) => {
                    self.show_presence(conn, &message, now);
                }
                (Ok(Answer::Allowed), Some(ClientMessage::Signal(message))) => {
                    self.pass_signal(conn, &message);
                }
                (Ok(_), _) => self.send_error(conn, &wrong_answer()),
                (Err(failed), _) => self.send_error(conn, &failed.problem),
            },
            (Step::Subscribe(..) | Step::Read(..) | Step::NextPage(_) | Step::Say(_), _) => {}
        }
    }

    /// Asks whether presence or a signal is allowed, where the source has a say in it. Whether it
    /// has.
    pub(super) fn asks_leave(
        &mut self,
        conn: ConnId,
        channel: &Channel,
        (kind, data, raw): (Kind, Option<&str>, &str),
        now: Millis,
    ) -> bool {
        let asked = self.config.rules.find(channel).ok().and_then(Rule::asks);
        let asked = asked.is_some_and(|asked| match kind {
            Kind::Presence => asked.presence,
            Kind::Signal => asked.signal,
            Kind::Subscribe | Kind::Create | Kind::Update | Kind::Delete => false,
        });
        let Some(session) = self.hub.session(conn).filter(|_| asked) else {
            return false;
        };
        let bytes = 2 * raw.len();
        if let Err(problem) = self.has_room_to_ask(&session.grant, bytes) {
            self.send_error(conn, &problem);
            return true;
        }
        let asks = Asks::of(session, channel);
        let what = Ask::Authorize(Operation {
            kind,
            key: None,
            data: data.map(str::to_owned),
        });
        let step = Step::Say(raw.to_owned());
        self.ask_source(Who::Socket(conn), channel, asks, what, step, now);
        true
    }
}

/// The refusal of a question for which there is no room.
fn crowded() -> Problem {
    Problem {
        retry_after_ms: Some(limits::QUESTIONS_RETRY_MS),
        ..Problem::new(
            Code::Unavailable,
            "too many questions to sources are under way",
        )
    }
}

/// The refusal of whoever got an answer to another question: a fault of the host's.
pub(super) fn wrong_answer() -> Problem {
    Problem::new(Code::Internal, "the source gave the wrong answer")
}
