//! Mutations: executed once, written only where the writer may, acknowledged when durable.

use std::cmp::Ordering;

use serde_json::value::RawValue;

use super::change::{Committed, Draft, commit, make_room};
use super::{Engine, Failure, fanout};
use crate::channel::{Keep, Rule, Scope};
use crate::config::Config;
use crate::digest;
use crate::limits;
use crate::names::{Channel, ConnId, Key, Millis, Seq};
use crate::observe::{Event, Operation, Outcome as Came};
use crate::protocol::{self, Action, Code, Fields, MutateMessage, Problem, key_of, text_of};
use crate::row;
use crate::session::{Asker, Session};
use crate::store::{Outcome, Owner, Sql, Store, StoredRow};

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
                let id = Some(message.id.as_str());
                return self.send_reject(conn, id, Some(&message.channel), &problem);
            }
        };
        event.sent(&ack, 1);
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
    let request = Request::read(message)?;
    let owner = match &grant.identity {
        Some(identity) => Owner::Identity(identity),
        None => Owner::Session(&session.id),
    };
    if let Some(outcome) = store.outcome(owner, message.id.as_str())? {
        if outcome.hash != request.hash {
            return Err(
                Problem::new(Code::Conflict, "this id was used for another mutation").into(),
            );
        }
        let held = store.row(&message.channel, &request.key)?;
        let visible = held.filter(|row| request.sees(rule, &who, row));
        let cursor = store.cursor(&message.channel, rule.edits, outcome.seq);
        let data = visible.and_then(|row| row.data);
        let ack = protocol::ack(&message.id, data.as_deref(), &cursor, true);
        let (seq, change) = (outcome.seq, None);
        return Ok(Done { ack, seq, change });
    }
    rule.may_write(&message.channel, &who)?;
    let held = store.row(&message.channel, &request.key)?;
    let draft = request.draft(rule, &who, held.as_ref(), config.limits.row_bytes)?;
    store.check_room(draft.takes(held.as_ref()), config.limits.storage_bytes)?;
    let outcome = Outcome {
        hash: request.hash,
        seq: store.head().next(),
        result: None,
    };
    let mut taken = Some((draft, held));
    let change = store.transaction(|store| {
        let (draft, held) = taken.take().ok_or_else(retried)?;
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

fn retried() -> crate::store::SqlError {
    crate::store::SqlError("a transaction ran twice".to_owned())
}

/// A mutation whose shape is right.
struct Request<'a> {
    channel: &'a Channel,
    action: Action,
    key: Key,
    data: Option<&'a RawValue>,
    /// The digest of its content.
    hash: String,
}

impl<'a> Request<'a> {
    fn read(message: &'a MutateMessage<'a>) -> Result<Self, Problem> {
        let object = || Problem::invalid("data", "must be an object without doubled fields");
        row::check_length(message.data)?;
        let fields = message.data.map(|raw| Fields::parse(raw.get()));
        let id = match (fields, message.action) {
            (Some(Ok(fields)), Action::Create) => match fields.get("id") {
                None => return Err(Problem::invalid("id", "a create needs data.id")),
                id => id,
            },
            (Some(Ok(fields)), Action::Update) => fields.get("id"),
            (_, Action::Create | Action::Update) => return Err(object()),
            (Some(Err(_)), Action::Delete) => return Err(object()),
            (fields, Action::Delete) => fields.and_then(Result::ok).and_then(|f| f.get("id")),
        };
        let key = key_of(message.key.as_deref(), id)?;
        let data = message.data.map_or("", RawValue::get);
        let parts = [
            message.channel.as_str(),
            message.action.as_str(),
            key.as_str(),
            data,
        ];
        Ok(Self {
            channel: &message.channel,
            action: message.action,
            hash: digest::content(&parts),
            key,
            data: message.data,
        })
    }

    /// Whether the writer may see a row of the channel. What it may not see, it must not learn of.
    fn sees(&self, rule: &Rule, who: &Asker<'_>, row: &StoredRow) -> bool {
        rule.may_read(self.channel, who).is_ok() && row.audience.sees(who.topics)
    }

    /// The change that the writer may make of what the log holds.
    fn draft(
        &self,
        rule: &Rule,
        who: &Asker<'_>,
        held: Option<&StoredRow>,
        row_bytes: usize,
    ) -> Result<Draft, Problem> {
        let events = rule.keep == Keep::Every;
        if events && !rule.edits && self.action != Action::Create {
            return Err(Problem::invalid(
                "action",
                "events of this channel are not changed",
            ));
        }
        let live = held.and_then(|row| Some((row, row.data.as_deref()?)));
        let visible = live.filter(|(row, _)| self.sees(rule, who, row));
        if let Some((_, current)) = visible {
            self.check_timestamp(rule, current)?;
        }
        // The key of an event that was deleted is as used as any.
        let taken = held.filter(|row| events || row.data.is_some());
        let data = match (self.action, visible) {
            (Action::Create, _) if taken.is_some_and(|row| !self.sees(rule, who, row)) => {
                return Err(Problem::new(Code::Forbidden, "this key is taken"));
            }
            (Action::Create, _) if events && taken.is_some() => {
                return Err(Problem::new(Code::Conflict, "this key was used before"));
            }
            (Action::Create, _) => Some(row::create(&self.key, self.json(), row_bytes)?),
            (Action::Update, Some((_, current))) => {
                Some(row::merge(current, self.json(), row_bytes)?)
            }
            (Action::Delete, Some(_)) => None,
            (Action::Update | Action::Delete, None) => {
                return Err(Problem::new(Code::NotFound, "no such row"));
            }
        };
        let kept = visible.map(|(row, _)| row.audience.clone());
        let audience = match (&rule.scope, &data) {
            (Scope::Field(scope), Some(data)) => {
                let fields = Fields::parse(data).unwrap_or_default();
                let missing = || Problem::invalid(&scope.field, "is missing: it scopes the row");
                let audience = rule.audience_of(&fields)?.ok_or_else(missing)?;
                if !scope.leave && !audience.sees(who.topics) {
                    let message = "a write must keep the row in its writer's sight";
                    return Err(Problem::new(Code::Forbidden, message));
                }
                audience
            }
            (Scope::All, _) | (Scope::Field(_), None) => {
                kept.unwrap_or(crate::audience::Audience::All)
            }
        };
        Ok(Draft {
            channel: self.channel.clone(),
            key: self.key.clone(),
            action: self.action,
            data,
            audience,
            by: who.identity.cloned(),
        })
    }

    fn json(&self) -> &str {
        self.data.map_or("null", RawValue::get)
    }

    /// Where the channel orders writes by a field, refuses one that is older than the row.
    fn check_timestamp(&self, rule: &Rule, current: &str) -> Result<(), Problem> {
        let Some(field) = &rule.timestamp else {
            return Ok(());
        };
        let new = Fields::parse(self.json()).unwrap_or_default();
        let old = Fields::parse(current).unwrap_or_default();
        let (new, old) = match (new.get(field), old.get(field)) {
            (None, _) if self.action == Action::Delete => return Ok(()),
            (None, _) => return Err(Problem::invalid(field, "is missing: it orders writes")),
            (Some(_), None) => return Ok(()),
            (Some(new), Some(old)) => (new, old),
        };
        match compare_times(new, old) {
            None => Err(Problem::invalid(
                field,
                "must be a number or a text, as in the row",
            )),
            Some(Ordering::Less) => Err(Problem {
                current: Some(current.to_owned()),
                ..Problem::new(Code::Conflict, "the row is newer than this write")
            }),
            Some(Ordering::Equal | Ordering::Greater) => Ok(()),
        }
    }
}

/// Compares two numbers, or two texts in the order of their characters (ISO dates of one form).
fn compare_times(new: &RawValue, old: &RawValue) -> Option<Ordering> {
    if let (Some(new), Some(old)) = (text_of(new), text_of(old)) {
        return Some(new.cmp(&old));
    }
    let number = |raw: &RawValue| serde_json::from_str::<f64>(raw.get()).ok();
    number(new)?.partial_cmp(&number(old)?)
}
