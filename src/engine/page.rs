//! One page of a channel: rows that a reader may see, and keys that are gone for it; where events
//! are edited, also what happened.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use super::fanout::Sight;
use crate::audience::Topics;
use crate::cursor::{Cursor, PageOf};
use crate::limits;
use crate::names::{Channel, Seq};
use crate::protocol::{self, Action, ChangeFrame, JsonWriter, Snapshot, write_text};
use crate::store::{Edit, PageRow, Sql, SqlError, Store, Version};

/// Where an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Start {
    /// Rows after this seq are to be delivered.
    pub(super) after: Seq,
    /// From where deletions, losses and the floor are judged: what the client cannot have, it
    /// need not be told to remove.
    pub(super) began: Seq,
    /// Whether the client replaces what it has.
    pub(super) full: bool,
}

/// How much goes on a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct PageBounds {
    items: usize,
    bytes: usize,
    scan: usize,
    meta: bool,
    changes: bool,
    /// Whether something is on the page already, and its keys matter.
    continues: bool,
}

/// What a page of an answer takes beside its rows.
const PAGE_OVERHEAD: usize = 4 * 1024;

impl PageBounds {
    /// A page of at most `items` rows and deleted keys that fits an outbound frame, and for which
    /// at most `scan` rows are read; with 0 nothing is looked at, and there may be more.
    pub(super) fn of_frame(items: usize, scan: usize, meta: bool) -> Self {
        Self {
            items,
            bytes: limits::FRAME_OUT_BYTES - PAGE_OVERHEAD,
            scan: scan.min(limits::PAGE_SCAN),
            meta,
            changes: false,
            continues: false,
        }
    }

    /// The same for the rest of a page, less what is on it already.
    pub(super) fn less(self, items: usize, bytes: usize) -> Self {
        Self {
            items: self.items.saturating_sub(items),
            bytes: self.bytes.saturating_sub(bytes),
            continues: true,
            ..self
        }
    }

    /// The same, where asked for with every change in order beside the latest states.
    pub(super) fn with_changes(self, changes: bool) -> Self {
        Self { changes, ..self }
    }
}

/// For whom a page is: the topics that decide, and the view that stands for them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) topics: &'a Topics,
    pub(super) view: &'a str,
}

/// One page as it was read.
pub(super) struct Page {
    pub(super) snapshot: Snapshot,
    pub(super) cursor: Cursor,
    /// The keys of all that was read, where it is the rest of a page, and whether the reader is told
    /// of them.
    pub(super) keys: BTreeMap<String, bool>,
    /// What was looked at for it, in rows.
    pub(super) scanned: usize,
}

/// Reads one page for a connection with these topics: rows it may see, and keys that are gone
/// for it. Full, delta and every further page are the same walk along the index.
pub(super) fn read_page<S: Sql>(
    store: &Store<S>,
    channel: &Channel,
    reader: Reader<'_>,
    start: Start,
    bounds: PageBounds,
) -> Result<Page, SqlError> {
    let mut snapshot = Snapshot {
        full: start.full,
        meta: bounds.meta.then(String::new),
        changes: bounds.changes.then(String::new),
        ..Snapshot::default()
    };
    let mut reached = start.after;
    let (mut items, mut bytes, mut scanned) = (0, 0, 0);
    let mut keys = BTreeMap::new();
    let mut each = |row: PageRow<'_>| {
        if scanned >= bounds.scan {
            snapshot.more = true;
            return ControlFlow::Break(());
        }
        scanned += row.cost();
        let seq = row.seq();
        let (item, change) = match bounds.changes {
            false => (
                Item::of(&row, reader.topics, start.began, bounds.meta),
                None,
            ),
            true => entry(&row, reader.topics, start.began, bounds.meta),
        };
        if bounds.continues {
            // Also of what its reader may not see: it may have been in its sight before.
            keys.insert(row.key(), item.is_some());
        }
        let len = item.as_ref().map_or(0, Item::len) + change.as_ref().map_or(0, String::len);
        if len == 0 {
            reached = seq;
            return ControlFlow::Continue(());
        }
        let begun = items > 0 || bounds.continues;
        if items == bounds.items || (begun && bytes + len > bounds.bytes) {
            snapshot.more = true;
            // Right before it, wherever the last hidden row was: a cursor can be read.
            reached = Seq(seq.0.saturating_sub(1));
            return ControlFlow::Break(());
        }
        items += 1;
        bytes += len;
        if let Some(item) = item {
            item.append_to(&mut snapshot);
        }
        if let Some((list, change)) = snapshot.changes.as_mut().zip(change) {
            append(list, &change);
        }
        reached = seq;
        ControlFlow::Continue(())
    };
    let (most, topics) = (bounds.scan + 1, reader.topics);
    let mut end = None;
    match (bounds.changes, bounds.continues) {
        _ if bounds.scan == 0 => snapshot.more = true,
        (false, false) => {
            // No two rows have one seq, so among as many seqs there are not more rows, and most pages end
            // there. Only for one that does not is it looked up how far it may read.
            let (after, head) = (start.after, store.head());
            let sight = (topics, bounds.meta);
            let near = Seq(head.0.min(after.0.saturating_add(bounds.scan as u64)));
            let ended = store.page_in_sight(channel, (after, near), sight, &mut each)?;
            if !ended && near < head {
                let read = store.count(channel, after, near)?;
                end = store.end_of(channel, near, bounds.scan.saturating_sub(read))?;
                let until = end.unwrap_or(head);
                if near < until {
                    store.page_in_sight(channel, (near, until), sight, &mut each)?;
                }
            }
        }
        (false, true) => store.page(channel, start.after, most, topics, &mut each)?,
        (true, _) => {
            let from = (start.after, start.began);
            store.page_of_changes(channel, from, most, topics, &mut each)?;
        }
    }
    if let Some(end) = end.filter(|_| !snapshot.more) {
        (snapshot.more, reached) = (true, end);
    }
    let cursor = if snapshot.more {
        let page = PageOf {
            start: start.began,
            view: reader.view.to_owned(),
            place: None,
        };
        Cursor {
            page: Some(page),
            ..Cursor::at(store.epoch(), reached)
        }
    } else {
        Cursor::at(store.epoch(), store.head())
    };
    Ok(Page {
        snapshot,
        cursor: store.sealed(channel, bounds.changes, cursor),
        keys,
        scanned,
    })
}

/// What a row is to one reader, encoded.
enum Item<'a> {
    Row { data: &'a str, meta: String },
    Gone { key: String, len: usize },
}

impl<'a> Item<'a> {
    fn of(row: &PageRow<'a>, topics: &Topics, began: Seq, meta: bool) -> Option<Self> {
        let visible = row.audience().sees(topics);
        let gone = match (visible, row.is_tombstone()) {
            (true, false) => {
                let data = row.data()?;
                let meta = if meta { meta_of(row) } else { String::new() };
                return Some(Self::Row { data, meta });
            }
            (true, true) => row.seq() > began,
            (false, _) => row.lost().hit(topics, began),
        };
        gone.then(|| {
            let key = row.key();
            let mut written = String::new();
            write_text(&mut written, &key);
            Self::Gone {
                key,
                len: written.len(),
            }
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Row { data, meta } => data.len() + meta.len() + 2,
            Self::Gone { len, .. } => len + 1,
        }
    }

    fn append_to(self, snapshot: &mut Snapshot) {
        match self {
            Self::Row { data, meta } => {
                append(&mut snapshot.data, data);
                if let Some(list) = &mut snapshot.meta {
                    append(list, &meta);
                }
            }
            Self::Gone { key, .. } => snapshot.deleted.push(key),
        }
    }
}

fn append(list: &mut String, item: &str) {
    if !list.is_empty() {
        list.push(',');
    }
    list.push_str(item);
}

/// What a stored state of an event is to one reader: an item, where it is the latest, and a change.
fn entry<'a>(
    row: &PageRow<'a>,
    topics: &Topics,
    began: Seq,
    meta: bool,
) -> (Option<Item<'a>>, Option<String>) {
    let latest = row.version() == Version::Latest;
    let item = latest.then(|| Item::of(row, topics, began, meta)).flatten();
    (item, change_of(row, topics, began))
}

/// A stored state of an event as the change that made it: what its reader would have got live.
///
/// What a full snapshot begins from holds nothing of an event that is gone or hidden by now.
fn change_of(row: &PageRow<'_>, topics: &Topics, began: Seq) -> Option<String> {
    let sees = row.audience().sees(topics);
    let there = match row.version() {
        Version::Latest => sees && !row.is_tombstone(),
        Version::OfVisible => true,
        Version::OfGone => false,
    };
    if !there && row.seq() <= began {
        return None;
    }
    let (edit, is_tombstone) = (row.edit(), row.is_tombstone());
    let saw = match &edit {
        None | Some(Edit::InPlace) => sees,
        Some(Edit::From(before)) => before.sees(topics),
    };
    let sight = match (saw, sees) {
        (true, true) => Sight::Same,
        (false, true) => Sight::Gained,
        (true, false) => Sight::Lost,
        (false, false) => return None,
    };
    let action = match &edit {
        _ if is_tombstone => Action::Delete,
        None => Action::Create,
        Some(Edit::InPlace | Edit::From(_)) => Action::Update,
    };
    let (key, data, by) = (row.key(), row.data(), row.author());
    Some(protocol::change_item(&sight.of(ChangeFrame {
        action,
        key: &key,
        data,
        by: by.as_deref(),
        at: row.at(),
    })))
}

/// `"key":{"by":…,"at":…}`.
fn meta_of(row: &PageRow<'_>) -> String {
    let mut out = JsonWriter::default();
    out.name(&row.key()).object(|o| {
        o.opt_text("by", row.author().as_deref());
        o.number("at", row.at().0);
    });
    out.finish()
}
