//! Mutations: executed once, written only where the writer may, acknowledged when durable.

use super::change::{Committed, commit, make_room};
use super::draft::Wish;
use super::source_write::owner_of;
use super::{Engine, Failure, fanout};
use crate::channel::Rule;
use crate::config::Config;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, RequestId, Seq};
use crate::observe::{Event, Operation, Outcome as Came};
use crate::protocol::{self, Action, Code, MutateMessage, Problem};
use crate::rate::Sender;
use crate::row;
use crate::session::{Asker, Session};
use crate::store::{Outcome, Owner, Sql, Store};

/// What came of a mutation.
pub(super) struct Done {
    pub(super) ack: String,
    /// The seq of the change.
    pub(super) seq: Seq,
    /// What it changed, unless it was executed before.
    pub(super) change: Option<Committed>,
}

impl Done {
    /// Tells observers what came of it.
    pub(super) fn tell(&self, event: &mut Event) {
        event.seq = Some(self.seq);
        match self.change {
            Some(_) => event.changes = 1,
            None => event.outcome = Came::Repeated,
        }
    }
}

impl<S: Sql> Engine<S> {
    pub(super) fn mutate(&mut self, conn: ConnId, message: &MutateMessage<'_>, now: Millis) {
        if self.has_source(&message.channel) {
            return self.mutate_elsewhere(conn, message, now);
        }
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let mut event = self.mutation(conn, message);
        let config = &self.config;
        let done = match self.out.is_full() {
            true => Err(put_off().into()),
            false => execute(&mut self.store, config, session, message, now),
        };
        let (ack, change) = match done {
            Ok(done) => {
                done.tell(&mut event);
                (done.ack, done.change)
            }
            Err(failure) => {
                let problem = self.problem(failure);
                event.refuse(&problem);
                self.tell_written(event);
                return self.reject_mutation(conn, (&message.id, &message.channel), &problem, now);
            }
        };
        event.sent(&ack, 1);
        self.rates.answered(&Sender::Conn(conn), ack.len(), now);
        self.out.send_one(conn, ack);
        let Some(change) = change else {
            return self.tell_written(event);
        };
        let live = session.subscriptions.contains_key(&message.channel);
        if live && !change.draft.audience.sees(&session.grant.topics) {
            let gone = fanout::lost_by_writer(&change);
            event.sent(&gone, 1);
            self.out.send_one(conn, gone);
        }
        self.tell_others(&change, Some(conn), &mut event);
        self.tell_written(event);
    }

    /// Refuses a mutation. What a refusal shows of the row counts as an answer.
    pub(super) fn reject_mutation(
        &mut self,
        conn: ConnId,
        (id, channel): (&RequestId, &Channel),
        problem: &Problem,
        now: Millis,
    ) {
        let shown = problem.current.as_ref().map_or(0, String::len);
        self.rates.answered(&Sender::Conn(conn), shown, now);
        self.send_reject(conn, Some(id.as_str()), Some(channel), problem);
    }

    /// Tells a change to everyone who may know but the one who made it.
    pub(super) fn tell_others(
        &mut self,
        change: &Committed,
        except: Option<ConnId>,
        event: &mut Event,
    ) {
        let (frames, receivers) = fanout::deliver(&self.hub, std::slice::from_ref(change), except);
        event.receivers = receivers as u64;
        for frame in frames {
            event.sent(&frame.text, frame.to.len());
            self.out.send(frame);
        }
    }

    /// A client's wish to change something, before it is known what comes of it.
    pub(super) fn mutation(&self, conn: ConnId, message: &MutateMessage<'_>) -> Event {
        Event {
            channel: Some(message.channel.clone()),
            action: Some(message.action),
            ..self.event_of(conn, Operation::Mutate)
        }
    }
}

/// The refusal of a mutation for which its turn has no room left.
pub(super) fn put_off() -> Problem {
    let message = "too much for one turn; send it again in another frame";
    Problem {
        retry_after_ms: Some(limits::TURN_RETRY_MS),
        ..Problem::new(Code::RateLimited, message)
    }
}

pub(super) fn execute<S: Sql>(
    store: &mut Store<S>,
    config: &Config,
    session: &Session,
    message: &MutateMessage<'_>,
    now: Millis,
) -> Result<Done, Failure> {
    let grant = &session.grant;
    let who = session.asker(&message.channel);
    let rule = config.rules.find(&message.channel)?;
    let wish = Wish::read(message)?;
    let hash = wish.hash();
    let owner = owner_of(&session.id, &who);
    let known = Seq(limits::SAFE_INTEGER);
    if let Some(done) = repeated(store, rule, (&who, owner), &wish, message, &hash, known)? {
        return Ok(done);
    }
    rule.may_write(&message.channel, &who)?;
    let held = store.row(&message.channel, &wish.key)?;
    let draft = wish.draft(rule, &who, held.as_ref(), config.limits.row_bytes)?;
    store.check_room(draft.takes(held.as_ref()), config.limits.storage_bytes)?;
    let outcome = Outcome {
        hash,
        seq: store.head().next(),
        result: None,
    };
    let mut taken = Some((draft, held));
    let change = store.transaction(|store| {
        let (draft, held) = taken.take().ok_or_else(ran_twice)?;
        let change = commit(store, rule, draft, held, now)?;
        make_room(store, &config.rules, std::slice::from_ref(&change), now)?;
        store.put_outcome(owner, message.id.as_str(), &outcome, now)?;
        Ok::<_, crate::store::SqlError>(change)
    })?;
    let data = match change.draft.action {
        _ if !change.draft.audience.sees(&grant.topics) => None,
        Action::Delete => Some(row::deleted(&change.draft.key)),
        Action::Create | Action::Update => change.draft.data.clone(),
    };
    let ack = protocol::ack(&message.id, data.as_deref(), &change.cursor, false);
    let (seq, change) = (change.cursor.seq, Some(change));
    Ok(Done { ack, seq, change })
}

/// The answer to a mutation that was executed before, with a cursor up to `known` at most.
pub(super) fn repeated<S: Sql>(
    store: &Store<S>,
    rule: &Rule,
    (who, owner): (&Asker<'_>, Owner<'_>),
    wish: &Wish<'_>,
    message: &MutateMessage<'_>,
    hash: &str,
    known: Seq,
) -> Result<Option<Done>, Failure> {
    let Some(outcome) = store.outcome(owner, message.id.as_str())? else {
        return Ok(None);
    };
    if outcome.hash != hash {
        return Err(Problem::new(Code::Conflict, "this id was used for another mutation").into());
    }
    let held = store.row(&message.channel, &wish.key)?;
    // What has changed outside since, the log does not know.
    let outside = match rule.source {
        Some(_) => store.outside(&message.channel)?.seq,
        None => Seq(0),
    };
    let visible = held.filter(|row| row.seq >= outside && wish.sees(rule, who, row));
    let cursor = store.cursor(&message.channel, rule.edits, outcome.seq.min(known));
    let data = visible.and_then(|row| row.data);
    let ack = protocol::ack(&message.id, data.as_deref(), &cursor, true);
    let (seq, change) = (outcome.seq, None);
    Ok(Some(Done { ack, seq, change }))
}

/// A body of a transaction that runs once ran again.
pub(super) fn ran_twice() -> crate::store::SqlError {
    crate::store::SqlError("a transaction ran twice".to_owned())
}
