//! Publishing: trusted writes over HTTP, all or nothing, once per idempotency key.

use serde_json::value::RawValue;

use super::change::{Committed, Draft, commit};
use super::{Engine, Failure, PublishCall, fanout};
use crate::audience::Audience;
use crate::channel::{Keep, Rule, Rules, Scope};
use crate::digest;
use crate::names::{Millis, RequestId, Seq};
use crate::outbox::Outgoing;
use crate::protocol::{self, Action, ChangeRequest, Code, Fields, Problem, PublishBody};
use crate::row;
use crate::store::{Outcome, Owner, Sql, Store, StoredRow};

impl<S: Sql> Engine<S> {
    pub(super) fn publish(
        &mut self,
        call: PublishCall,
        body: &str,
        idempotency_key: Option<&str>,
        now: Millis,
    ) {
        match self.publish_once(call, body, idempotency_key, now) {
            Ok((result, frames)) => {
                for frame in frames {
                    self.out.send_many(frame.to, frame.text);
                }
                self.reply(Ok(result));
            }
            Err(failure) => {
                let problem = self.problem(failure);
                self.reply(Err(problem));
            }
        }
    }

    fn publish_once(
        &mut self,
        call: PublishCall,
        body: &str,
        idempotency_key: Option<&str>,
        now: Millis,
    ) -> Result<(String, Vec<Outgoing>), Failure> {
        let once = idempotency_key
            .map(|key| Once::read(key, call, body))
            .transpose()?;
        if let Some(once) = &once
            && let Some(outcome) = self.store.outcome(Owner::Publisher, once.key.as_str())?
        {
            if outcome.hash != once.hash {
                let message = "this idempotency key was used for another request";
                return Err(Problem::new(Code::Conflict, message).into());
            }
            return Ok((outcome.result.unwrap_or_default(), Vec::new()));
        }
        let request = match call {
            PublishCall::One => PublishBody::one(body)?,
            PublishCall::Batch => PublishBody::batch(body)?,
        };
        if request
            .space
            .as_deref()
            .is_some_and(|space| space != self.space.as_str())
        {
            return Err(Problem::invalid("space", "the query names another space").into());
        }
        let (rules, hub) = (&self.config.rules, &self.hub);
        self.store.transaction(|store| {
            let committed = commit_all(store, rules, &request, now)?;
            let seq = committed.last().map_or(store.head(), |change| change.seq);
            let (frames, receivers) = fanout::deliver(hub, store.epoch(), &committed, None);
            let result = result_of(store, seq, receivers);
            if let Some(once) = &once {
                let outcome = Outcome {
                    hash: once.hash.clone(),
                    seq,
                    result: Some(result.clone()),
                };
                store.put_outcome(Owner::Publisher, once.key.as_str(), &outcome, now)?;
            }
            Ok((result, frames))
        })
    }
}

/// An idempotency key with the digest of what it stands for.
struct Once {
    key: RequestId,
    hash: String,
}

impl Once {
    fn read(key: &str, call: PublishCall, body: &str) -> Result<Self, Problem> {
        let key = RequestId::parse(key)
            .map_err(|error| Problem::invalid("Idempotency-Key", error.to_string()))?;
        let hash = digest::content(&[call.path(), body]);
        Ok(Self { key, hash })
    }
}

fn result_of<S: Sql>(store: &Store<S>, seq: Seq, receivers: usize) -> String {
    protocol::object(|o| {
        o.text("cursor", &store.cursor(seq).to_string());
        o.number("seq", seq.0);
        o.number("receivers", receivers as u64);
    })
}

fn commit_all<S: Sql>(
    store: &mut Store<S>,
    rules: &Rules,
    request: &PublishBody<'_>,
    now: Millis,
) -> Result<Vec<Committed>, Failure> {
    let mut committed = Vec::with_capacity(request.changes.len());
    for (index, change) in request.changes.iter().enumerate() {
        let change = match change {
            Ok(change) => commit_one(store, rules, change, now),
            Err(problem) => Err(problem.clone().into()),
        };
        committed.push(change.map_err(|failure| match failure {
            Failure::Peer(problem) => Failure::Peer(request.blame(index, problem)),
            Failure::Storage(_) => failure,
        })?);
    }
    Ok(committed)
}

fn commit_one<S: Sql>(
    store: &mut Store<S>,
    rules: &Rules,
    change: &ChangeRequest<'_>,
    now: Millis,
) -> Result<Committed, Failure> {
    let rule = rules.find(&change.channel)?;
    let held = store.row(&change.channel, &change.key)?;
    let draft = draft(rule, change, held.as_ref())?;
    Ok(commit(store, draft, held, now)?)
}

/// The change that a publisher makes of what the log holds. Publishers may write everywhere;
/// only the shape of the row and its audience are judged.
fn draft(
    rule: &Rule,
    change: &ChangeRequest<'_>,
    held: Option<&StoredRow>,
) -> Result<Draft, Problem> {
    let live = held.and_then(|row| Some((row, row.data.as_deref()?)));
    if rule.keep == Keep::Every {
        match (change.action, live) {
            (Action::Create, None) => {}
            (Action::Create, Some(_)) => {
                return Err(Problem::invalid("key", "this key was used before"));
            }
            (Action::Update | Action::Delete, _) => {
                let message = "events of this channel are not changed";
                return Err(Problem::invalid("action", message));
            }
        }
    }
    let json = change.data.map_or("null", RawValue::get);
    let data = match (change.action, live) {
        (Action::Update, Some((_, current))) => Some(row::merge(current, json)?),
        (Action::Create, _) | (Action::Update, None) => Some(row::create(&change.key, json)?),
        (Action::Delete, _) => None,
    };
    let audience = match change.action {
        Action::Delete => audience_of_delete(rule, change, live.map(|(row, _)| row))?,
        Action::Create | Action::Update => audience_of_row(rule, change, live.map(|(row, _)| row))?,
    };
    Ok(Draft {
        channel: change.channel.clone(),
        key: change.key.clone(),
        action: change.action,
        data,
        audience,
        by: None,
    })
}

/// A deleted row is news to whoever could see it; of one that the log does not hold, the
/// publisher or the rule must say who that is.
fn audience_of_delete(
    rule: &Rule,
    change: &ChangeRequest<'_>,
    live: Option<&StoredRow>,
) -> Result<Audience, Problem> {
    match (live, &change.to, &rule.scope) {
        (Some(row), _, _) => Ok(row.audience.clone()),
        (None, Some(to), _) => Ok(to.clone()),
        (None, None, Scope::All) => Ok(Audience::All),
        (None, None, Scope::Field(_)) => Err(Problem::invalid(
            "to",
            "a delete of a row that is not held needs an audience",
        )),
    }
}

/// `to`, else the scoping field where it is given, else what the row has, else the rule.
fn audience_of_row(
    rule: &Rule,
    change: &ChangeRequest<'_>,
    live: Option<&StoredRow>,
) -> Result<Audience, Problem> {
    if let Some(to) = &change.to {
        return Ok(to.clone());
    }
    let given = Fields::parse(change.data.map_or("{}", RawValue::get)).unwrap_or_default();
    let by_field = match &rule.scope {
        Scope::All => None,
        Scope::Field(_) => rule.audience_of(&given)?,
    };
    match (by_field, live, &rule.scope) {
        (Some(audience), _, _) => Ok(audience),
        (None, Some(row), _) => Ok(row.audience.clone()),
        (None, None, Scope::All) => Ok(Audience::All),
        (None, None, Scope::Field(scope)) => Err(Problem::invalid(
            &scope.field,
            "is missing: it scopes the row",
        )),
    }
}
