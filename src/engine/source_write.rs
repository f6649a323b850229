//! Mutations of rows that live elsewhere: the source writes, the log tells.
//!
//! An id is claimed before the source is asked, so that a repeat which comes meanwhile is not
//! executed beside it, and a crash in between is not forgotten. What the source has written is in
//! the log before anybody hears of it, in one transaction with the outcome.

use std::rc::Rc;

use super::ask::{Asks, Step, Who, wrong_answer};
use super::change::{Draft, commit};
use super::draft::Wish;
use super::mutate::{Done, put_off, repeated};
use super::{Engine, Failure, fanout};
use crate::audience::{Audience, Losses};
use crate::channel::{Rule, Scope as RuleScope};
use crate::cursor::Cursor;
use crate::limits;
use crate::names::{Channel, ConnId, Key, Millis, RequestId, Seq, SessionId};
use crate::observe::Event;
use crate::protocol::{self, Action, Code, MutateMessage, Problem};
use crate::rate::Sender;
use crate::row;
use crate::session::{Asker, Session};
use crate::source::{Answer, Answered, Ask, AskId, Failed, Scope, Write, Written, unanswered};
use crate::store::{Outcome, Owner, Sql, SqlError, StoredRow, Takes};

/// A mutation that a source executes.
#[derive(Debug)]
pub(super) struct Writing {
    asks: Asks,
    id: RequestId,
    /// Whose id it is, as a text.
    owner: String,
    hash: String,
    channel: Channel,
    action: Action,
    pub(super) key: Key,
    data_bytes: usize,
    /// Where the log ended when the source was asked.
    pub(super) head: Seq,
    pub(super) event: Event,
}

/// What a refusal of a mutation names.
#[derive(Debug, Clone)]
pub(super) struct Refusal {
    id: RequestId,
    channel: Channel,
    event: Event,
}

impl Writing {
    pub(super) fn once(&self) -> (String, String) {
        (self.owner.clone(), self.id.to_string())
    }

    /// What it and its question hold, about.
    pub(super) fn bytes(&self) -> usize {
        self.data_bytes
    }

    pub(super) fn refusal(&self) -> Refusal {
        Refusal {
            id: self.id.clone(),
            channel: self.channel.clone(),
            event: self.event.clone(),
        }
    }
}

/// Whose ids a session's are.
pub(super) fn owner_of<'a>(session: &'a SessionId, asker: &Asker<'a>) -> Owner<'a> {
    match asker.identity {
        Some(identity) => Owner::Identity(identity),
        None => Owner::Session(session),
    }
}

impl<S: Sql> Engine<S> {
    /// Hands a mutation to the source of its channel, if it may be executed.
    ///
    /// `Ok(None)` says that the source is asked; else it was executed before.
    pub(super) fn entrust(
        &mut self,
        who: Who,
        session: &Session,
        message: &MutateMessage<'_>,
        event: Event,
        now: Millis,
    ) -> Result<Option<Done>, Failure> {
        let channel = &message.channel;
        let config = Rc::clone(&self.config);
        let rule = config.rules.find(channel)?;
        let wish = Wish::read(message)?;
        let hash = wish.hash();
        let asker = session.asker(channel);
        let owner = owner_of(&session.id, &asker);
        let known = self.known_to(who, channel)?;
        let done = repeated(
            &self.store,
            rule,
            (&asker, owner),
            &wish,
            message,
            &hash,
            known,
        )?;
        if done.is_some() {
            return Ok(done);
        }
        let once = (owner.to_column(), message.id.to_string());
        if self.asking.ids.contains_key(&once) {
            return Err(being_done().into());
        }
        rule.may_write(channel, &asker)?;
        let data = match wish.action {
            Action::Create => Some(row::create(
                &wish.key,
                wish.json(),
                config.limits.row_bytes,
            )?),
            Action::Update => Some(row::fields(wish.json(), config.limits.row_bytes)?),
            Action::Delete => None,
        };
        let takes = Takes::More(data.as_ref().map_or(0, String::len));
        self.store.check_room(takes, config.limits.storage_bytes)?;
        if self.out.is_full() {
            return Err(put_off().into());
        }
        if self.asking.is_in_doubt(channel, &wish.key) {
            return Err(unanswered().into());
        }
        let data_bytes = data.as_ref().map_or(0, String::len);
        self.has_room_to_ask(&session.grant, 3 * data_bytes)?;
        let writing = Writing {
            asks: Asks::of(session, channel),
            id: message.id.clone(),
            owner: once.0.clone(),
            hash: hash.clone(),
            channel: channel.clone(),
            action: wish.action,
            key: wish.key.clone(),
            data_bytes: 2 * data_bytes,
            head: self.store.head(),
            event,
        };
        let what = Ask::Write(Write {
            id: message.id.clone(),
            owner: once.0.clone(),
            hash,
            action: wish.action,
            key: wish.key,
            data,
            authorize: rule.asks().is_some_and(|asked| asked.mutate),
        });
        self.asking.ids.insert(once, ());
        let asks = writing.asks.clone();
        let step = Step::Write(Box::new(writing));
        self.ask_source(who, channel, asks, what, step, now);
        Ok(None)
    }

    /// A client's mutation of a channel whose rows live elsewhere.
    pub(super) fn mutate_elsewhere(
        &mut self,
        conn: ConnId,
        message: &MutateMessage<'_>,
        now: Millis,
    ) {
        let Some(session) = self.hub.session(conn).cloned() else {
            return;
        };
        let mut event = self.mutation(conn, message);
        let entrusted = self.entrust(Who::Socket(conn), &session, message, event.clone(), now);
        match entrusted {
            Ok(None) => {}
            Ok(Some(done)) => {
                done.tell(&mut event);
                event.sent(&done.ack, 1);
                self.tell_behind(conn, &message.channel);
                self.rates
                    .answered(&Sender::Conn(conn), done.ack.len(), now);
                self.out.send_one(conn, done.ack);
                self.tell_written(event);
            }
            Err(failure) => {
                let problem = self.problem(failure);
                event.refuse(&problem);
                self.tell_written(event);
                self.reject_mutation(conn, (&message.id, &message.channel), &problem, now);
            }
        }
    }

    /// Takes what a source says of a write.
    pub(super) fn write_answered(
        &mut self,
        ask: AskId,
        who: Who,
        writing: Writing,
        answer: Answered,
        now: Millis,
    ) {
        self.asking.ids.remove(&writing.once());
        let (channel, key) = (writing.channel.clone(), writing.key.clone());
        let refusal = writing.refusal();
        let done = match answer {
            Ok(Answer::Written(written)) => self.log_written(who, writing, written, now),
            Ok(Answer::Allowed | Answer::Page(_)) => {
                let failed = Failed {
                    problem: wrong_answer(),
                    may_be_done: true,
                };
                Err(self.not_written(&writing, failed, now))
            }
            Err(failed) => Err(self.not_written(&writing, failed, now)),
        };
        match done {
            Ok((done, is_all)) => {
                self.tell_done(who, refusal.event, done, now);
                if !is_all {
                    self.tell_outside(&channel, now);
                }
            }
            Err(problem) => self.refuse_write(who, refusal, &problem, now),
        }
        self.free_row(ask, &channel, &key, now);
    }

    /// Forgets the claim of a write that failed. Where it may have been executed all the same, the
    /// log does not know the row any more.
    fn not_written(&mut self, writing: &Writing, failed: Failed, now: Millis) -> Problem {
        let (owner, id) = (&writing.owner, writing.id.as_str());
        let noted = self.store.transaction(|store| {
            if failed.may_be_done {
                store.change_outside(&writing.channel, now)?;
            }
            store.unclaim(owner, id)
        });
        match noted {
            Ok(()) if failed.may_be_done => self.tell_outside(&writing.channel, now),
            Ok(()) => {}
            Err(error) => {
                _ = self.fault(&error);
                self.unnoted.push((writing.channel.clone(), writing.once()));
            }
        }
        failed.problem
    }

    /// Tells of writes that were under way when the memory was lost.
    pub(super) fn tell_unsettled(&mut self, now: Millis) {
        let unsettled = std::mem::take(&mut self.unsettled);
        for channel in &unsettled {
            self.tell_outside(channel, now);
        }
        if !unsettled.is_empty()
            && let Err(error) = self.store.forget_claims()
        {
            // They are told of once more on the next waking.
            _ = self.fault(&error);
        }
    }

    /// Notes what storage could not take before, now that something else has happened. A claim that
    /// remains says it on waking.
    pub(super) fn note_unnoted(&mut self, now: Millis) {
        for (channel, once) in std::mem::take(&mut self.unnoted) {
            let is_claimed_again = self.asking.ids.contains_key(&once);
            let noted = self.store.transaction(|store| {
                store.change_outside(&channel, now)?;
                match is_claimed_again {
                    true => Ok(()),
                    false => store.unclaim(&once.0, &once.1),
                }
            });
            match noted {
                Ok(()) => self.tell_outside(&channel, now),
                Err(error) => {
                    _ = self.fault(&error);
                    self.unnoted.push((channel, once));
                }
            }
        }
    }

    /// Puts what a source has written into the log. Whether that is all that is to be told.
    fn log_written(
        &mut self,
        who: Who,
        writing: Writing,
        written: Written,
        now: Millis,
    ) -> Result<(Done, bool), Problem> {
        let logged = self.try_log(who, &writing, written, now);
        logged.map_err(|failure| {
            // It is written there, and the log does not say so: a repeat will find it done.
            let failed = Failed {
                problem: self.problem(failure),
                may_be_done: true,
            };
            self.not_written(&writing, failed, now)
        })
    }

    fn try_log(
        &mut self,
        who: Who,
        writing: &Writing,
        written: Written,
        now: Millis,
    ) -> Result<(Done, bool), Failure> {
        let config = Rc::clone(&self.config);
        let (channel, key) = (&writing.channel, &writing.key);
        let rule = config.rules.find(channel)?;
        let wrong = |what| Problem::new(Code::Internal, what);
        let asker = Asker {
            identity: writing.asks.grant.identity.as_ref(),
            topics: &writing.asks.grant.topics,
            pass: writing.asks.pass,
        };
        let owner = owner_of(&writing.asks.session, &asker);
        match (&written.row, writing.action) {
            // Executed before. What the row is now, this does not say: it may be there again after a
            // delete, and gone or out of its writer's sight after all else.
            (_, Action::Delete) | (None, _) if written.repeated => {
                let done = self.log_unseen(who, writing, owner, true, now)?;
                return Ok((done, false));
            }
            (_, Action::Delete) => {}
            (None, Action::Create | Action::Update) => {
                return Err(wrong("the source did not say what the row is now").into());
            }
            (Some(row), Action::Create | Action::Update) => {
                let checked = row::check(key, row, config.limits.row_bytes);
                checked.map_err(|_| wrong("the source wrote what is no row of this key"))?;
            }
        }
        let (data, gone) = match writing.action {
            Action::Delete => (None, written.row),
            Action::Create | Action::Update => (written.row, None),
        };
        let held = self.store.row(channel, key)?;
        let live = held.as_ref().filter(|row| row.data.is_some());
        let outside = self.store.outside(channel)?.seq;
        // Since the channel changed outside, its source knows better who could see a row.
        let is_old = live.is_some_and(|row| row.seq < outside);
        let told = live.map(|row| row.audience.clone());
        // Of a delete its row tells who could see it, and so does the source's word for whom it is.
        let by_row = |row: &String| rule.audience(row).ok().flatten();
        let named = match (&written.scope, writing.action) {
            (Scope::Of(audience), Action::Delete) => Some(audience.clone()),
            _ => None,
        };
        let said = written
            .before
            .or_else(|| match (gone.as_ref().and_then(by_row), named) {
                (Some(by_row), Some(named)) => by_row.within(named),
                (by_row, named) => by_row.or(named),
            });
        let before = match is_old {
            true => said.or(told),
            false => told.or(said),
        };
        let audience = match written.scope {
            Scope::Unknown => None,
            Scope::Of(audience) => scope(rule, data.as_deref(), before.as_ref(), Some(audience)),
            Scope::ByRule => scope(rule, data.as_deref(), before.as_ref(), None),
        };
        let Some(audience) = audience else {
            let done = self.log_unseen(who, writing, owner, written.repeated, now)?;
            return Ok((done, false));
        };
        let known = self.known_to(who, channel)?;
        // What the app has told meanwhile may be newer than this, or older: nobody knows.
        let is_raced =
            held.as_ref().is_some_and(|row| row.seq > writing.head) || outside > writing.head;
        // What the log does not hold is as it was in its audience's sight.
        let held = match (held, before) {
            (Some(mut row), Some(audience)) if is_old => {
                // Whoever was away since before that has it as the log has.
                let seq = self.store.head().next();
                row.lost.narrow(Some(&row.audience), &audience, seq);
                Some(StoredRow { audience, ..row })
            }
            (Some(row), Some(audience)) if row.data.is_none() => Some(was(audience, row.lost, now)),
            (None, Some(audience)) => Some(was(audience, Losses::default(), now)),
            (held, _) => held,
        };
        let draft = Draft {
            channel: channel.clone(),
            key: key.clone(),
            action: writing.action,
            data,
            audience,
            by: writing.asks.grant.identity.clone(),
        };
        let mut taken = Some((draft, held));
        let change = self.store.transaction(|store| {
            let again = || SqlError("a transaction ran twice".to_owned());
            let (draft, held) = taken.take().ok_or_else(again)?;
            let change = commit(store, rule, draft, held, now)?;
            let outcome = Outcome {
                hash: writing.hash.clone(),
                seq: change.cursor.seq,
                result: None,
            };
            store.put_outcome(owner, writing.id.as_str(), &outcome, now)?;
            store.unclaim(&writing.owner, writing.id.as_str())?;
            if is_raced {
                store.change_outside(channel, now)?;
            }
            Ok::<_, SqlError>(change)
        })?;
        let topics = match who {
            Who::Socket(conn) => self.hub.session(conn).map(|session| &session.grant.topics),
            Who::Request(_) | Who::Stream(_) | Who::Nobody => None,
        };
        let topics = topics.unwrap_or(&writing.asks.grant.topics);
        let data = match change.draft.action {
            _ if !change.draft.audience.sees(topics) => None,
            Action::Delete => Some(row::deleted(key)),
            Action::Create | Action::Update => change.draft.data.clone(),
        };
        let cursor = Cursor::at(self.store.epoch(), change.cursor.seq.min(known));
        let ack = protocol::ack(&writing.id, data.as_deref(), &cursor, written.repeated);
        let (seq, change) = (change.cursor.seq, Some(change));
        Ok((Done { ack, seq, change }, !is_raced))
    }

    /// A write of which nobody may be told, because its source could not say who may see the row, or
    /// how it is now.
    fn log_unseen(
        &mut self,
        who: Who,
        writing: &Writing,
        owner: Owner<'_>,
        replayed: bool,
        now: Millis,
    ) -> Result<Done, Failure> {
        let known = self.known_to(who, &writing.channel)?;
        let seq = self.store.transaction(|store| {
            let seq = store.change_outside(&writing.channel, now)?;
            let outcome = Outcome {
                hash: writing.hash.clone(),
                seq,
                result: None,
            };
            store.put_outcome(owner, writing.id.as_str(), &outcome, now)?;
            store.unclaim(&writing.owner, writing.id.as_str())?;
            Ok::<_, SqlError>(seq)
        })?;
        // Its writer does not know either what the row is now.
        let before = Seq(seq.0.saturating_sub(1));
        let cursor = Cursor::at(self.store.epoch(), before.min(known));
        let ack = protocol::ack(&writing.id, None, &cursor, replayed);
        Ok(Done {
            ack,
            seq,
            change: None,
        })
    }

    /// How far an ack may carry its client's cursor. Whoever is not live on a channel that has changed
    /// outside must not be carried past that by its own writes, whenever it was there last.
    fn known_to(&self, who: Who, channel: &Channel) -> Result<Seq, Failure> {
        let live = match who {
            Who::Socket(conn) => self
                .hub
                .session(conn)
                .is_some_and(|session| session.subscriptions.contains_key(channel)),
            Who::Request(_) | Who::Stream(_) | Who::Nobody => false,
        };
        let outside = self.store.outside(channel)?;
        let first = [outside.previous.0, outside.seq]
            .into_iter()
            .find(|seq| seq.0 > 0);
        Ok(match first {
            Some(first) if !live => Seq(first.0 - 1),
            Some(_) | None => Seq(limits::SAFE_INTEGER),
        })
    }

    /// Tells a writer that it is done, and everyone else who may know.
    fn tell_done(&mut self, who: Who, mut event: Event, done: Done, now: Millis) {
        done.tell(&mut event);
        let change = done.change;
        event.sent(&done.ack, 1);
        let except = match who {
            Who::Socket(conn) => {
                if let Some(channel) = &event.channel {
                    self.tell_behind(conn, channel);
                }
                self.rates
                    .answered(&Sender::Conn(conn), done.ack.len(), now);
                self.out.send_one(conn, done.ack.clone());
                let session = self.hub.session(conn);
                if let Some((session, change)) = session.zip(change.as_ref())
                    && session.subscriptions.contains_key(&change.draft.channel)
                    && !change.draft.audience.sees(&session.grant.topics)
                {
                    let gone = fanout::lost_by_writer(change);
                    event.sent(&gone, 1);
                    self.out.send_one(conn, gone);
                }
                Some(conn)
            }
            Who::Request(_) | Who::Stream(_) | Who::Nobody => None,
        };
        if let Some(change) = &change {
            self.tell_others(change, except, &mut event);
        }
        self.tell_written(event);
        // Last: the request goes on with its next mutation, whose change comes after this one.
        if let Who::Request(conn) = who {
            self.result_of(conn, done.ack, now);
        }
    }

    /// Tells a writer why it is not done.
    pub(super) fn refuse_write(
        &mut self,
        who: Who,
        refusal: Refusal,
        problem: &Problem,
        now: Millis,
    ) {
        let Refusal {
            id,
            channel,
            mut event,
        } = refusal;
        event.refuse(problem);
        self.tell_written(event);
        match who {
            Who::Socket(conn) if self.hub.session(conn).is_some() => {
                self.reject_mutation(conn, (&id, &channel), problem, now);
            }
            Who::Request(conn) => {
                let result = protocol::reject(Some(id.as_str()), Some(&channel), problem, false);
                self.result_of(conn, result, now);
            }
            Who::Socket(_) | Who::Stream(_) | Who::Nobody => {}
        }
    }
}

/// A row that the log does not hold, as far as it matters to whoever loses sight of it.
fn was(audience: Audience, lost: Losses, now: Millis) -> StoredRow {
    StoredRow {
        seq: Seq(0),
        data: Some(String::new()),
        audience,
        author: None,
        at: now,
        lost,
    }
}

/// Who may see a row: whom its source names, if it does, as far as the channel's rule lets them; of a
/// deleted one, who could. Nothing where nobody can tell.
fn scope(
    rule: &Rule,
    row: Option<&str>,
    before: Option<&Audience>,
    named: Option<Audience>,
) -> Option<Audience> {
    let Some(row) = row else {
        let of_all = || (rule.scope == RuleScope::All).then_some(Audience::All);
        return before.cloned().or(named).or_else(of_all);
    };
    let by_rule = rule.audience(row).ok().flatten()?;
    match named {
        Some(named) => by_rule.within(named),
        None => Some(by_rule),
    }
}

/// The refusal of a repeat while the mutation is being executed.
fn being_done() -> Problem {
    Problem {
        retry_after_ms: Some(limits::SOURCE_RETRY_MS),
        ..Problem::new(
            Code::Unavailable,
            "a mutation with this id is being executed",
        )
    }
}
