//! One change of one row: from what is asked for to what is stored.

use crate::audience::{Audience, Losses};
use crate::channel::{Keep, Rule, Rules};
use crate::cursor::Cursor;
use crate::limits;
use crate::names::{Channel, Identity, Key, Millis, Seq};
use crate::protocol::Action;
use crate::small_map::SmallMap;
use crate::store::{Edit, Event, Floor, Sql, SqlError, Store, StoredRow, Takes, is_crowded};

/// A change that passed all rules and may be written.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) channel: Channel,
    pub(crate) key: Key,
    pub(crate) action: Action,
    /// The full row after the change; `None` for a delete.
    pub(crate) data: Option<String>,
    /// Who may see the row after the change; for a delete, who could before.
    pub(crate) audience: Audience,
    pub(crate) by: Option<Identity>,
}

impl Draft {
    /// What it takes of the database, in place of what is held.
    pub(super) fn takes(&self, held: Option<&StoredRow>) -> Takes {
        let audience = match &self.audience {
            Audience::All => 0,
            Audience::Topics(topics) => topics.iter().map(|topic| topic.as_str().len() + 3).sum(),
        };
        let data = self.data.as_ref().map_or(0, String::len);
        let bytes = data + audience + self.key.as_str().len() + self.channel.as_str().len();
        match held {
            Some(row) if row.data.is_some() && self.data.is_none() => Takes::Frees(bytes),
            _ => Takes::More(bytes),
        }
    }
}

/// A change that is in the log.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) draft: Draft,
    /// Of whoever has everything up to it.
    pub(super) cursor: Cursor,
    pub(super) at: Millis,
    /// Who could see the row before; `None` where the log did not hold it, or was not asked because they are
    /// the same as now.
    pub(super) before: Option<Audience>,
    /// Whether its event channel holds so much now that the oldest should go.
    pub(super) crowds: bool,
}

/// Writes a change in place of `held`, the key's row or tombstone. Takes the next seq.
///
/// Runs inside a transaction of its caller, but where [`is_one_write`] holds.
pub(super) fn commit<S: Sql>(
    store: &mut Store<S>,
    rule: &Rule,
    draft: Draft,
    held: Option<StoredRow>,
    now: Millis,
) -> Result<Committed, SqlError> {
    let (seq, at) = store.advance(now);
    let mut lost = held
        .as_ref()
        .map(|row| row.lost.clone())
        .unwrap_or_default();
    if let Some(row) = &held {
        // Who could see a live row loses it now; who could see a tombstone lost it back then.
        let since = if row.data.is_some() { seq } else { row.seq };
        lost.narrow(Some(&row.audience), &draft.audience, since);
    }
    if !lost.is_empty()
        && let Some(dropped) = lost.bound(store.floor(&draft.channel)?.seq)
    {
        store.raise_floor(&draft.channel, Floor { seq: dropped, at })?;
    }
    let row = stored(&draft, (seq, at), lost);
    let before = held.filter(|row| row.data.is_some());
    let before = before.map(|row| row.audience);
    let event = match rule.keep {
        Keep::Latest => {
            if row.data.is_none() || !row.lost.is_empty() || rule.source.is_some() {
                store.sweep_by(at.plus(limits::RETENTION_MS))?;
            }
            None
        }
        Keep::Every => Some(next_event(store, rule, &draft, before.as_ref(), at)?),
    };
    store.put_row(&draft.channel, &draft.key, &row, event.as_ref())?;
    Ok(Committed {
        crowds: event.is_some_and(|event| is_crowded(event.nth, rule.retain)),
        cursor: store.cursor(&draft.channel, rule.edits, seq),
        draft,
        at,
        before,
    })
}

/// The same without a look at what the log holds, which costs a quarter of the write, for a change that is the
/// same whatever that is and that [`is_row_alone`]. `None`, and nothing is written, where [`commit`] would do more
/// with what is held than replace it.
pub(super) fn commit_unseen<S: Sql>(
    store: &mut Store<S>,
    rule: &Rule,
    draft: Draft,
    now: Millis,
) -> Result<Option<Committed>, SqlError> {
    let (seq, at) = store.next(now);
    let row = stored(&draft, (seq, at), Losses::default());
    if !store.put_row_unseen(&draft.channel, &draft.key, &row)? {
        return Ok(None);
    }
    store.advance(now);
    Ok(Some(Committed {
        crowds: false,
        cursor: store.cursor(&draft.channel, rule.edits, seq),
        draft,
        at,
        before: None,
    }))
}

/// Whether [`commit`] writes with one statement alone, which is whole or not at all by itself: so it must know all
/// that `commit` may write beside the row.
pub(super) fn is_one_write(rule: &Rule, draft: &Draft, held: Option<&StoredRow>) -> bool {
    let loses = |row: &StoredRow| !row.lost.is_empty() || row.audience != draft.audience;
    is_row_alone(rule, draft.action) && !held.is_some_and(loses)
}

/// Whether nothing is written beside the row, unless somebody loses it.
pub(super) fn is_row_alone(rule: &Rule, action: Action) -> bool {
    rule.keep == Keep::Latest && rule.source.is_none() && action != Action::Delete
}

/// A change as it is stored.
fn stored(draft: &Draft, (seq, at): (Seq, Millis), lost: Losses) -> StoredRow {
    StoredRow {
        seq,
        data: draft.data.clone(),
        audience: draft.audience.clone(),
        author: draft.by.as_ref().map(ToString::to_string),
        at,
        lost,
    }
}

/// What a change of an event channel is stored with. What it replaces is kept.
fn next_event<S: Sql>(
    store: &mut Store<S>,
    rule: &Rule,
    draft: &Draft,
    before: Option<&Audience>,
    at: Millis,
) -> Result<Event, SqlError> {
    let nth = store.next_nth(&draft.channel)?;
    if rule.retain.count.is_some_and(|count| nth > count.into()) {
        store.sweep_by(at.plus(limits::SWEEP_PAUSE_MS))?;
    }
    if let Some(age) = rule.retain.age_ms() {
        store.sweep_by(at.plus(age))?;
    }
    if before.is_some() {
        store.keep_version(&draft.channel, &draft.key)?;
    }
    let moved = before.filter(|before| **before != draft.audience);
    let edit = match (draft.action, moved) {
        (Action::Create, _) => None,
        (Action::Update | Action::Delete, None) => Some(Edit::InPlace),
        (Action::Update | Action::Delete, Some(before)) => Some(Edit::From(before.clone())),
    };
    Ok(Event { nth, edit })
}

/// Trims the event channels that these changes of one transaction have crowded.
pub(super) fn make_room<S: Sql>(
    store: &mut Store<S>,
    rules: &Rules,
    changes: &[Committed],
    now: Millis,
) -> Result<(), SqlError> {
    let crowded = changes.iter().filter(|change| change.crowds);
    let channels = crowded.map(|change| (&change.draft.channel, ()));
    let channels: SmallMap<&Channel, ()> = channels.collect();
    for channel in channels.keys().copied() {
        if let Ok(rule) = rules.find(channel) {
            store.trim_events(channel, rule.retain, now, limits::SWEEP_ROWS)?;
        }
    }
    Ok(())
}
