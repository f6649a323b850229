//! Publishing: trusted writes, all or nothing.

use serde_json::value::RawValue;

use super::call::Done;
use super::change::{
    Committed, Draft, commit, commit_unseen, is_one_write, is_row_alone, make_room,
};
use super::mutate::ran_twice;
use super::{Failure, fanout};
use crate::audience::Audience;
use crate::channel::{Keep, Rule, Scope};
use crate::config::{Config, Publisher};
use crate::cursor::Cursor;
use crate::hub::Hub;
use crate::limits;
use crate::names::Millis;
use crate::protocol::{self, Action, ChangeRequest, Code, Fields, Problem, PublishBody};
use crate::row;
use crate::store::{Sql, SqlError, Store, StoredRow};

/// Commits the changes of a publish and finds their receivers, inside the caller's transaction.
pub(super) fn publish<S: Sql>(
    store: &mut Store<S>,
    by: (&Config, &Publisher),
    hub: &Hub,
    request: &PublishBody<'_>,
    now: Millis,
) -> Result<Done, Failure> {
    let committed = commit_all(store, by, request, now)?;
    Ok(told(store, hub, &committed))
}

/// The same for one change, where nothing else is to be written: most need no transaction.
pub(super) fn publish_one<S: Sql>(
    store: &mut Store<S>,
    by: (&Config, &Publisher),
    hub: &Hub,
    change: &ChangeRequest<'_>,
    now: Millis,
) -> Result<Done, Failure> {
    let rule = rule_for(by, change)?;
    if let Some(committed) = commit_blindly(store, by.0, rule, change, now)? {
        return Ok(told(store, hub, &[committed]));
    }
    let (draft, held) = judge(store, by.0, rule, change)?;
    let in_transaction = !is_one_write(rule, &draft, held.as_ref());
    let mut taken = Some((draft, held));
    let committed = store.all_or_nothing(in_transaction, |store| {
        let (draft, held) = taken.take().ok_or_else(ran_twice)?;
        let committed = [commit(store, rule, draft, held, now)?];
        make_room(store, &by.0.rules, &committed, now)?;
        Ok::<_, SqlError>(committed)
    })?;
    Ok(told(store, hub, &committed))
}

/// Tells committed changes to whoever may know.
fn told<S: Sql>(store: &Store<S>, hub: &Hub, committed: &[Committed]) -> Done {
    let (frames, receivers) = fanout::deliver(hub, committed, None);
    let head = || Cursor::at(store.epoch(), store.head());
    let cursor = committed
        .last()
        .map_or_else(head, |change| change.cursor.clone());
    Done {
        result: result_of(&cursor, receivers),
        frames,
        changes: committed.len(),
        seq: Some(cursor.seq),
        receivers,
        ..Done::default()
    }
}

/// `{"cursor","seq","receivers"}`.
pub(super) fn result_of(cursor: &Cursor, receivers: usize) -> String {
    protocol::object(|o| {
        o.text("cursor", &cursor.to_string());
        o.number("seq", cursor.seq.0);
        o.number("receivers", receivers as u64);
    })
}

fn commit_all<S: Sql>(
    store: &mut Store<S>,
    by: (&Config, &Publisher),
    request: &PublishBody<'_>,
    now: Millis,
) -> Result<Vec<Committed>, Failure> {
    let mut committed = Vec::with_capacity(request.changes.len());
    let mut bytes = 0;
    for (index, change) in request.changes.iter().enumerate() {
        let change = match change {
            Ok(change) => commit_one(store, by, change, now),
            Err(problem) => Err(problem.clone().into()),
        };
        let change = change.map_err(|failure| match failure {
            Failure::Peer(problem) => Failure::Peer(request.blame(index, problem)),
            Failure::Storage(_) | Failure::TooLarge => failure,
        })?;
        bytes += change.draft.data.as_ref().map_or(0, String::len);
        if bytes > limits::BATCH_ROWS_BYTES {
            let message = "the rows of the batch are too large together; split it";
            return Err(Problem::new(Code::FrameTooLarge, message).into());
        }
        committed.push(change);
    }
    make_room(store, &by.0.rules, &committed, now)?;
    Ok(committed)
}

fn commit_one<S: Sql>(
    store: &mut Store<S>,
    by: (&Config, &Publisher),
    change: &ChangeRequest<'_>,
    now: Millis,
) -> Result<Committed, Failure> {
    let rule = rule_for(by, change)?;
    if let Some(committed) = commit_blindly(store, by.0, rule, change, now)? {
        return Ok(committed);
    }
    let (draft, held) = judge(store, by.0, rule, change)?;
    Ok(commit(store, rule, draft, held, now)?)
}

/// The rule of the channel that a publisher may change.
fn rule_for<'a>(
    (config, publisher): (&'a Config, &Publisher),
    change: &ChangeRequest<'_>,
) -> Result<&'a Rule, Problem> {
    config.check_publishes(publisher, &change.channel)?;
    config.rules.find(&change.channel)
}

/// Commits a whole row without a look at what the log holds, where that makes no difference. `None`, and nothing
/// is written, where it may: also for a refusal.
fn commit_blindly<S: Sql>(
    store: &mut Store<S>,
    config: &Config,
    rule: &Rule,
    change: &ChangeRequest<'_>,
    now: Millis,
) -> Result<Option<Committed>, Failure> {
    if change.action != Action::Create || !is_row_alone(rule, change.action) {
        return Ok(None);
    }
    let Ok(draft) = draft(rule, change, None, config.limits.row_bytes) else {
        return Ok(None);
    };
    store.check_room(draft.takes(None), config.limits.storage_bytes)?;
    Ok(commit_unseen(store, rule, draft, now)?)
}

/// What a change is to do to the log, and to what. Nothing is written.
fn judge<S: Sql>(
    store: &mut Store<S>,
    config: &Config,
    rule: &Rule,
    change: &ChangeRequest<'_>,
) -> Result<(Draft, Option<StoredRow>), Failure> {
    let held = store.row(&change.channel, &change.key)?;
    let draft = draft(rule, change, held.as_ref(), config.limits.row_bytes)?;
    store.check_room(draft.takes(held.as_ref()), config.limits.storage_bytes)?;
    Ok((draft, held))
}

/// The change that a publisher makes of what the log holds. Publishers may write everywhere;
/// only the shape of the row and its audience are judged.
fn draft(
    rule: &Rule,
    change: &ChangeRequest<'_>,
    held: Option<&StoredRow>,
    row_bytes: usize,
) -> Result<Draft, Problem> {
    let live = held.and_then(|row| Some((row, row.data.as_deref()?)));
    if rule.keep == Keep::Every {
        check_event(rule, change.action, held)?;
    }
    let json = change.data.map_or("null", RawValue::get);
    let data = match (change.action, live) {
        (Action::Update, Some((_, current))) => Some(row::merge(current, json, row_bytes)?),
        (Action::Create, _) | (Action::Update, None) => {
            Some(row::create(&change.key, json, row_bytes)?)
        }
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

/// Whether an event may be made, edited or deleted. One that the log does not hold any more is
/// edited like a row that it does not hold; one that was deleted is not.
fn check_event(rule: &Rule, action: Action, held: Option<&StoredRow>) -> Result<(), Problem> {
    let used = || Problem::invalid("key", "this key was used before");
    match (action, held) {
        (Action::Create, None) => Ok(()),
        (Action::Create, Some(_)) => Err(used()),
        (Action::Update | Action::Delete, _) if !rule.edits => {
            let message = "events of this channel are not changed";
            Err(Problem::invalid("action", message))
        }
        (Action::Update | Action::Delete, Some(row)) if row.data.is_none() => Err(used()),
        (Action::Update | Action::Delete, _) => Ok(()),
    }
}

/// A deleted row is news to whoever could see it; of one that the log does not hold, the
/// publisher or the rule must say who that is. A tombstone counts as not held.
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
