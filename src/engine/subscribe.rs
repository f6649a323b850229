//! Subscribing: where to resume, one page of rows, and going live in the same turn.

use std::ops::ControlFlow;

use super::{Engine, Failure};
use crate::audience::Topics;
use crate::cursor::Cursor;
use crate::digest;
use crate::limits;
use crate::names::{Channel, ConnId, Seq};
use crate::protocol::{Code, JsonWriter, Problem, Snapshot, SubscribeMessage, write_text};
use crate::session::{Grant, Subscription};
use crate::store::{PageRow, Sql, SqlError, Store};

/// Where an answer begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    /// Rows after this seq are to be delivered.
    after: Seq,
    /// From where deletions, losses and the floor are judged: what the client cannot have, it
    /// need not be told to remove.
    began: Seq,
    /// Whether the client replaces what it has.
    full: bool,
}

/// How much goes on a page.
#[derive(Debug, Clone, Copy)]
struct PageBounds {
    items: usize,
    bytes: usize,
    scan: usize,
    meta: bool,
}

/// What a page of an answer takes beside its rows.
const PAGE_OVERHEAD: usize = 4 * 1024;

impl<S: Sql> Engine<S> {
    pub(super) fn subscribe(&mut self, conn: ConnId, message: &SubscribeMessage<'_>) {
        match self.answer(conn, message) {
            Ok((snapshot, subscription)) => {
                // Without an await between page and stream, nothing is lost or doubled.
                match subscription {
                    Some(how) => self.hub.subscribe(conn, &message.channel, how),
                    None => _ = self.hub.unsubscribe(conn, &message.channel),
                }
                self.dirty.push(conn);
                self.out.send_one(conn, snapshot);
            }
            Err(failure) => {
                let problem = self.problem(failure);
                let id = message.id.as_ref().map(|id| id.as_str());
                self.send_reject(conn, id, Some(&message.channel), &problem);
            }
        }
    }

    /// One page, and how the connection is live after it; not yet where more must be asked for.
    fn answer(
        &self,
        conn: ConnId,
        message: &SubscribeMessage<'_>,
    ) -> Result<(String, Option<Subscription>), Failure> {
        let gone = || Problem::new(Code::Unavailable, "the connection is closing");
        let session = self.hub.session(conn).ok_or_else(gone)?;
        let channel = &message.channel;
        let rule = self.config.rules.find(channel)?;
        rule.may_read(
            channel,
            session.grant.identity.as_ref(),
            &session.grant.topics,
        )?;
        if !session.has_room_for(channel) {
            return Err(Problem::new(
                Code::TooManySubscriptions,
                "the connection has too many subscriptions",
            )
            .into());
        }
        let view = self.view(&session.grant);
        let cursor = message.cursor.as_deref().map(|text| {
            Cursor::parse(text).ok_or_else(|| Problem::malformed("cursor is no cursor"))
        });
        let same_view = message.view.as_deref() == Some(view.as_str());
        let start = self.resume(channel, cursor.transpose()?.filter(|_| same_view))?;
        let bounds = PageBounds {
            items: message.limit,
            bytes: limits::FRAME_OUT_BYTES - PAGE_OVERHEAD,
            scan: limits::PAGE_SCAN,
            meta: message.meta,
        };
        let (snapshot, cursor) =
            read_page(&self.store, channel, &session.grant.topics, start, bounds)?;
        let subscription = (!snapshot.more).then_some(Subscription { meta: message.meta });
        let text = snapshot.encode(message.id.as_ref(), channel, &cursor, &view);
        Ok((text, subscription))
    }

    /// What stands for the connection's eyes.
    fn view(&self, grant: &Grant) -> String {
        digest::view(
            self.store.view_key(),
            grant.identity.as_ref(),
            &grant.topics,
        )
    }

    /// Resumes at a cursor, or from nothing where it proves nothing: it is of another epoch, of
    /// the future, older than the channel's floor, or not there.
    fn resume(&self, channel: &Channel, cursor: Option<Cursor>) -> Result<Start, SqlError> {
        let head = self.store.head();
        let full = Start {
            after: Seq(0),
            began: head,
            full: true,
        };
        let Some(cursor) = cursor else {
            return Ok(full);
        };
        let of_this_log = cursor.epoch == *self.store.epoch() && !cursor.foreign;
        let began = cursor.began();
        let of_the_past = cursor.seq <= head && began <= head;
        if !of_this_log || !of_the_past || began < self.store.floor(channel)? {
            return Ok(full);
        }
        Ok(Start {
            after: cursor.seq,
            began,
            full: false,
        })
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, channel: &Channel) {
        if self.hub.unsubscribe(conn, channel) {
            self.dirty.push(conn);
        }
    }
}

/// Reads one page for a connection with these topics: rows it may see, and keys that are gone
/// for it. Full, delta and every further page are the same walk along the index.
fn read_page<S: Sql>(
    store: &Store<S>,
    channel: &Channel,
    topics: &Topics,
    start: Start,
    bounds: PageBounds,
) -> Result<(Snapshot, Cursor), SqlError> {
    let mut snapshot = Snapshot {
        full: start.full,
        meta: bounds.meta.then(String::new),
        ..Snapshot::default()
    };
    let mut reached = start.after;
    let (mut items, mut bytes, mut scanned) = (0, 0, 0);
    let mut each = |row: PageRow<'_>| {
        if scanned == bounds.scan {
            snapshot.more = true;
            return ControlFlow::Break(());
        }
        scanned += 1;
        let seq = row.seq();
        let Some(item) = Item::of(&row, topics, start.began, bounds.meta) else {
            reached = seq;
            return ControlFlow::Continue(());
        };
        if items == bounds.items || (items > 0 && bytes + item.len() > bounds.bytes) {
            snapshot.more = true;
            return ControlFlow::Break(());
        }
        items += 1;
        bytes += item.len();
        item.append_to(&mut snapshot);
        reached = seq;
        ControlFlow::Continue(())
    };
    store.page(channel, start.after, bounds.scan + 1, &mut each)?;
    let cursor = if snapshot.more {
        Cursor {
            start: Some(start.began),
            ..store.cursor(reached)
        }
    } else {
        store.cursor(store.head())
    };
    Ok((snapshot, cursor))
}

/// What a row is to one reader, encoded.
enum Item {
    Row { data: String, meta: String },
    Gone { key: String },
}

impl Item {
    fn of(row: &PageRow<'_>, topics: &Topics, began: Seq, meta: bool) -> Option<Self> {
        let visible = row.audience().sees(topics);
        let gone = match (visible, row.data()) {
            (true, Some(data)) => {
                let meta = if meta { meta_of(row) } else { String::new() };
                return Some(Self::Row { data, meta });
            }
            (true, None) => row.seq() > began,
            (false, _) => row.lost().hit(topics, began),
        };
        gone.then(|| {
            let mut key = String::new();
            write_text(&mut key, &row.key());
            Self::Gone { key }
        })
    }

    fn len(&self) -> usize {
        match self {
            Self::Row { data, meta } => data.len() + meta.len() + 2,
            Self::Gone { key } => key.len() + 1,
        }
    }

    fn append_to(self, snapshot: &mut Snapshot) {
        let append = |list: &mut String, item: &str| {
            if !list.is_empty() {
                list.push(',');
            }
            list.push_str(item);
        };
        match self {
            Self::Row { data, meta } => {
                append(&mut snapshot.data, &data);
                if let Some(list) = &mut snapshot.meta {
                    append(list, &meta);
                }
            }
            Self::Gone { key } => append(&mut snapshot.deleted, &key),
        }
    }
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
