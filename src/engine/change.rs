//! One change of one row: from what is asked for to what is stored.

use crate::audience::Audience;
use crate::limits;
use crate::names::{Channel, Identity, Key, Millis, Seq};
use crate::protocol::Action;
use crate::store::{Floor, Sql, SqlError, Store, StoredRow};

/// A change that passed all rules and may be written.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) channel: Channel,
    pub(super) key: Key,
    pub(super) action: Action,
    /// The full row after the change; `None` for a delete.
    pub(super) data: Option<String>,
    /// Who may see the row after the change; for a delete, who could before.
    pub(super) audience: Audience,
    pub(super) by: Option<Identity>,
}

/// A change that is in the log.
#[derive(Debug)]
pub(super) struct Committed {
    pub(super) draft: Draft,
    pub(super) seq: Seq,
    pub(super) at: Millis,
    /// Who could see the row before; `None` where the log did not hold it.
    pub(super) before: Option<Audience>,
}

/// Writes a change in place of `held`, the key's row or tombstone. Takes the next seq.
///
/// Runs inside a transaction of its caller.
pub(super) fn commit<S: Sql>(
    store: &mut Store<S>,
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
    let row = StoredRow {
        seq,
        data: draft.data.clone(),
        audience: draft.audience.clone(),
        author: draft.by.as_ref().map(ToString::to_string),
        at,
        lost,
    };
    if row.data.is_none() || !row.lost.is_empty() {
        store.sweep_by(at.plus(limits::RETENTION_MS))?;
    }
    store.put_row(&draft.channel, &draft.key, &row)?;
    let before = held.filter(|row| row.data.is_some());
    Ok(Committed {
        draft,
        seq,
        at,
        before: before.map(|row| row.audience),
    })
}
