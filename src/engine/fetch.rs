//! Rows from a source: when the log is not enough, and how what a source answers becomes pages.
//!
//! Pages of the source come first, then what the log has had since the source was asked for the
//! first of them: its changes are newer than anything that the source may have said. So the last
//! page leaves its reader at the head of the log, whatever came between question and answer.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::ask::{Asks, Step, Who};
use super::page::{PageBounds, Reader, Start, read_page};
use super::read::HttpReader;
use super::subscribe::Answer;
use super::{Engine, Failure, fanout, legacy};
use crate::audience::Topics;
use crate::channel::Rule;
use crate::cursor::{At, Cursor, Epoch, PageOf, Place};
use crate::limits;
use crate::names::{Channel, ConnId, Key, Millis, Seq};
use crate::protocol::{Problem, Snapshot, SubscribeMessage, write_text};
use crate::session::{ChannelPass, Dialect, Session, Subscription};
use crate::source::{self, Ask, AskId, Fetch, Operation, unanswered};
use crate::store::Sql;

/// A page that a source is asked for, and what is done with it.
#[derive(Debug, Clone)]
pub(super) struct Fetching {
    /// The log's head when the source was asked for the first page.
    head: Seq,
    since: Option<Millis>,
    token: Option<String>,
    /// Of a client that takes all pages at once: what it is to get before this one.
    gathered: Option<Gathered>,
}

/// What a reader waits for.
#[derive(Debug)]
pub(super) struct Pending {
    /// The eyes that the source was told of.
    view: String,
    /// The claims that it was told of.
    claims: Option<Rc<str>>,
    /// The log that its reader comes from.
    epoch: Epoch,
    /// The page that was asked for, if it was one: else it is whether the reader may have it.
    pub(super) fetching: Option<Fetching>,
}

impl Fetching {
    /// Everything from the beginning.
    fn all(head: Seq, gathered: Option<Gathered>) -> Self {
        Self {
            head,
            since: None,
            token: None,
            gathered,
        }
    }

    fn ask(&self, message: &SubscribeMessage<'_>, authorize: bool) -> Ask {
        Ask::Fetch(Fetch {
            since: self.since,
            token: self.token.clone(),
            limit: message.limit,
            authorize,
        })
    }
}

/// The pages of a client that takes all at once.
#[derive(Debug, Clone, Default)]
pub(super) struct Gathered {
    frames: Vec<String>,
    deleted: Vec<String>,
    bytes: usize,
    rows: usize,
    /// Pages that were asked for, also for answers that something has overtaken.
    pages: usize,
}

/// Where an answer comes from.
#[derive(Debug)]
pub(super) enum Plan {
    /// From the log alone.
    Log,
    /// From what is left of an answer that did not fit a page: after so many of its items.
    Leftover(Rc<Leftover>, usize),
    /// From the source.
    Fetch(Fetching),
}

/// A source's answer, as its reader may see it; it may take several pages.
#[derive(Debug)]
pub(super) struct Leftover {
    id: AskId,
    channel: Channel,
    view: String,
    head: Seq,
    since: Option<Millis>,
    rows: Vec<(Key, String)>,
    deleted: Vec<Key>,
    next: Option<String>,
    bytes: usize,
}

/// Answers that did not fit a page, each with when its reader has asked last.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    list: Vec<(Rc<Leftover>, Millis)>,
}

impl Leftovers {
    /// Keeps an answer for its reader, and whom it waits for from now on. Readers that have not asked
    /// for long lose theirs; those that do are not robbed by whoever comes later.
    fn keep(&mut self, leftover: &Rc<Leftover>, now: Millis) -> Result<(), Problem> {
        self.forget(leftover.id);
        self.list
            .retain(|(_, asked)| now < asked.plus(limits::LEFTOVER_MS));
        let held: usize = self.list.iter().map(|(kept, _)| kept.bytes).sum();
        // One is always possible: an answer is bounded.
        if held > 0 && held + leftover.bytes > limits::LEFTOVERS_BYTES {
            return Err(unanswered());
        }
        self.list.push((Rc::clone(leftover), now));
        Ok(())
    }

    fn find(&self, id: AskId, channel: &Channel, view: &str, head: Seq) -> Option<&Rc<Leftover>> {
        let fits = |kept: &&Rc<Leftover>| {
            kept.id == id && kept.channel == *channel && kept.view == view && kept.head == head
        };
        self.list.iter().map(|(kept, _)| kept).find(fits)
    }

    fn forget(&mut self, id: AskId) {
        self.list.retain(|(kept, _)| kept.id != id);
    }
}

/// A reader over HTTP that has no answer yet.
#[derive(Debug)]
pub(super) struct FirstRead {
    pub(super) conn: ConnId,
    pub(super) reader: HttpReader,
}

impl<S: Sql> Engine<S> {
    /// Where the answer to a subscription comes from.
    pub(super) fn plan(
        &self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        now: Millis,
    ) -> Result<Plan, Failure> {
        let channel = &message.channel;
        if !self.has_source(channel) {
            return Ok(Plan::Log);
        }
        let all = |gathered| Plan::Fetch(Fetching::all(self.store.head(), gathered));
        if session.dialect == Dialect::Legacy {
            return self.plan_legacy(message, now, all(Some(Gathered::default())));
        }
        let (start, cursor) = self.resumed(session, message)?;
        let Some(cursor) = cursor.filter(|_| !start.full) else {
            return Ok(all(None));
        };
        let Some(page) = cursor.page.as_ref().filter(|page| page.place.is_some()) else {
            return self.plan_delta(channel, start, all(None));
        };
        let place = page.place.as_ref();
        let since = place.and_then(|place| place.since);
        Ok(match place.map(|place| &place.at) {
            Some(At::Leftover(id, items)) => {
                let kept = self.leftovers.find(*id, channel, &page.view, cursor.seq);
                // Forgotten by sleep, or for others: its reader begins anew.
                kept.map_or_else(|| all(None), |kept| Plan::Leftover(Rc::clone(kept), *items))
            }
            Some(At::Token(token)) => Plan::Fetch(Fetching {
                head: cursor.seq,
                since,
                token: Some(token.clone()),
                gathered: None,
            }),
            // The log has told its reader everything up to here, and goes on from here.
            Some(At::Begin) | None => Plan::Fetch(Fetching {
                head: cursor.seq,
                since,
                token: None,
                gathered: None,
            }),
        })
    }

    /// From the log, unless something has changed without it since the reader was there.
    fn plan_delta(&self, channel: &Channel, start: Start, all: Plan) -> Result<Plan, Failure> {
        let Some(since) = self.changed_outside(channel, start.began)? else {
            return Ok(Plan::Log);
        };
        let Some(since) = since else {
            return Ok(all);
        };
        // First what the log has: what the source says is newer.
        if self.store.has_after(channel, start.after)? {
            return Ok(Plan::Log);
        }
        Ok(Plan::Fetch(Fetching {
            head: self.store.head(),
            since: Some(since),
            token: None,
            gathered: None,
        }))
    }

    fn plan_legacy(
        &self,
        message: &SubscribeMessage<'_>,
        now: Millis,
        all: Plan,
    ) -> Result<Plan, Failure> {
        let channel = &message.channel;
        let since = message.since.and_then(legacy::since);
        let Some(since) = since else {
            return Ok(all);
        };
        let start = self.resume_by_time(channel, since, now)?;
        let outside = self.store.outside(channel)?;
        let told = since.minus(legacy::SINCE_MARGIN_MS) >= outside.at;
        let fresh = told || start.began >= outside.seq;
        Ok(if fresh && !start.full { Plan::Log } else { all })
    }

    /// Whether rows of a channel have changed without the log since a seq; and since which time the
    /// source must be asked then, where that can be told.
    pub(super) fn changed_outside(
        &self,
        channel: &Channel,
        seq: Seq,
    ) -> Result<Option<Option<Millis>>, Failure> {
        let outside = self.store.outside(channel)?;
        if seq >= outside.seq {
            return Ok(None);
        }
        let (previous, at) = outside.previous;
        let since = (seq >= previous).then(|| at.minus(legacy::SINCE_MARGIN_MS));
        Ok(Some(since))
    }

    /// Answers a subscription, as far as nobody else must be asked.
    ///
    /// `Ok(None)` says that the source is asked.
    pub(super) fn answer_or_ask(
        &mut self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        asker: (Who, impl FnOnce(Pending) -> Step),
        authorized: bool,
        now: Millis,
    ) -> Result<Option<Answer>, Failure> {
        let pass = self.judge(session, message, now)?;
        let channel = &message.channel;
        let asked = self.config.rules.find(channel).ok().and_then(Rule::asks);
        let authorize = !authorized && asked.is_some_and(|asked| asked.subscribe);
        let plan = self.plan(session, message, now)?;
        let (what, fetching) = match plan {
            Plan::Log if !authorize => return self.answer(session, message, pass, now).map(Some),
            Plan::Leftover(kept, items) if !authorize => {
                let mut answer = self.page_of(session, message, (&kept, items, false), now)?;
                answer.how.pass = pass;
                return Ok(Some(answer));
            }
            Plan::Log | Plan::Leftover(..) => (Ask::Authorize(Operation::subscribe()), None),
            Plan::Fetch(fetching) => (fetching.ask(message, authorize), Some(fetching)),
        };
        self.put_to_source(session, message, pass, (what, fetching), asker, now)?;
        Ok(None)
    }

    /// Asks for another page.
    pub(super) fn fetch(
        &mut self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        pass: Option<ChannelPass>,
        fetching: Fetching,
        asker: (Who, impl FnOnce(Pending) -> Step),
        now: Millis,
    ) -> Result<(), Failure> {
        let what = (fetching.ask(message, false), Some(fetching));
        self.put_to_source(session, message, pass, what, asker, now)
    }

    fn put_to_source(
        &mut self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        pass: Option<ChannelPass>,
        (what, fetching): (Ask, Option<Fetching>),
        (who, step): (Who, impl FnOnce(Pending) -> Step),
        now: Millis,
    ) -> Result<(), Failure> {
        self.has_room_to_ask(&session.grant, message.raw.len())?;
        if fetching.is_some() {
            self.has_room_to_fetch(&message.channel)?;
        }
        let pending = Pending {
            view: self.view(&session.grant),
            claims: session.grant.claims.clone(),
            epoch: self.store.epoch().clone(),
            fetching,
        };
        let asks = Asks {
            pass,
            ..Asks::of(session, &message.channel)
        };
        self.ask_source(who, &message.channel, asks, what, step(pending), now);
        Ok(())
    }

    /// Whether what a reader waits for is still for its eyes, and goes with the log.
    pub(super) fn still_holds(&self, pending: &Pending, session: &Session) -> bool {
        pending.epoch == *self.store.epoch()
            && pending.view == self.view(&session.grant)
            && pending.claims == session.grant.claims
    }

    /// What becomes of a page that a source has answered.
    ///
    /// `Ok(None)` says that a client which takes all at once needs another.
    pub(super) fn answer_fetched(
        &mut self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        (id, fetching): (AskId, Fetching),
        page: source::Page,
        now: Millis,
    ) -> Result<Fetched, Failure> {
        let (channel, topics) = (&message.channel, &session.grant.topics);
        let rule = self.config.rules.find(channel)?;
        let mut rows = page.rows;
        // Whatever a source says, the rule that scopes by a field holds.
        rows.retain(|(_, row)| matches!(rule.audience(row), Ok(Some(who)) if who.sees(topics)));
        let deleted = page.deleted;
        let bytes = rows.iter().map(|(key, row)| key.as_str().len() + row.len());
        let bytes: usize = bytes
            .chain(deleted.iter().map(|key| key.as_str().len()))
            .map(|bytes| bytes + limits::LEFTOVER_OVERHEAD)
            .sum();
        self.asking.pages.insert(channel.clone(), 2 * bytes);
        let begins = fetching.token.is_none();
        let leftover = Rc::new(Leftover {
            id,
            channel: channel.clone(),
            view: self.view(&session.grant),
            head: fetching.head,
            since: fetching.since,
            rows,
            deleted,
            next: page.next,
            bytes,
        });
        match fetching.gathered {
            Some(gathered) => self.gather(session, message, &leftover, gathered, now),
            None => {
                let full = begins && (fetching.since.is_none() || page.full);
                let answer = self.page_of(session, message, (&leftover, 0, full), now)?;
                Ok(Fetched::Answer(answer))
            }
        }
    }

    /// Whether nothing has happened to a channel since a seq but what the log tells.
    fn is_up_to_date(&self, channel: &Channel, seq: Seq) -> Result<bool, Failure> {
        let floor = self.store.floor(channel)?.seq;
        Ok(seq >= floor && self.changed_outside(channel, seq)?.is_none())
    }

    /// One page of a source's answer, after so many of its items; the last one with what the log
    /// has had since the source was asked.
    fn page_of(
        &mut self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        (kept, from, full): (&Rc<Leftover>, usize, bool),
        now: Millis,
    ) -> Result<Answer, Failure> {
        let (channel, head) = (&message.channel, kept.head);
        let packed = kept.pack(from, message.limit, limits::FRAME_OUT_BYTES - OVERHEAD);
        let place = match (packed.rest, &kept.next) {
            (Some(items), _) => {
                self.leftovers.keep(kept, now)?;
                Some(At::Leftover(kept.id, items))
            }
            (None, next) => {
                self.leftovers.forget(kept.id);
                next.clone().map(At::Token)
            }
        };
        let mut snapshot = Snapshot {
            full,
            meta: message.meta.then(String::new),
            ..Snapshot::default()
        };
        let cursor = if let Some(at) = place {
            snapshot.more = true;
            packed.append_to(&mut snapshot, &BTreeMap::new());
            let since = kept.since;
            self.cursor_in_source(channel, head, &kept.view, Place { since, at })
        } else {
            let reader = Reader {
                topics: &session.grant.topics,
                view: &kept.view,
            };
            let start = Start {
                after: head,
                began: head,
                full: false,
            };
            let scan = match self.out.is_full() {
                true => 0,
                false => self.room.next_page(),
            };
            let bounds = PageBounds::of_frame(message.limit, scan, message.meta);
            let bounds = bounds.less(packed.items, packed.bytes);
            let log = read_page(&self.store, channel, reader, start, bounds)?;
            packed.append_to(&mut snapshot, &log.keys);
            snapshot.append(log.snapshot);
            if snapshot.more || self.is_up_to_date(channel, head)? {
                log.cursor
            } else {
                // Something has happened since that this answer does not hold.
                snapshot.more = true;
                let page = PageOf {
                    start: head,
                    view: kept.view.clone(),
                    place: None,
                };
                Cursor {
                    page: Some(page),
                    ..Cursor::at(self.store.epoch(), head)
                }
            }
        };
        Ok(Answer {
            frames: vec![snapshot.encode(message.id.as_ref(), channel, &cursor, &kept.view)],
            live: !snapshot.more,
            how: Subscription {
                meta: message.meta,
                pass: None,
            },
            is_news: snapshot.is_news(),
            cursor,
        })
    }

    /// A cursor between two pages of a source.
    pub(super) fn cursor_in_source(
        &self,
        channel: &Channel,
        head: Seq,
        view: &str,
        place: Place,
    ) -> Cursor {
        let page = PageOf {
            start: head,
            view: view.to_owned(),
            place: Some(place),
        };
        let cursor = Cursor {
            page: Some(page),
            ..Cursor::at(self.store.epoch(), head)
        };
        self.store.sealed(channel, true, cursor)
    }

    /// Adds a page to what a client gets that takes all at once.
    fn gather(
        &mut self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        kept: &Rc<Leftover>,
        mut gathered: Gathered,
        now: Millis,
    ) -> Result<Fetched, Failure> {
        let (channel, head) = (&message.channel, kept.head);
        gathered.bytes += kept.bytes;
        gathered.rows += kept.rows.len();
        gathered.pages += 1;
        if gathered.pages > limits::LEGACY_SNAPSHOT_PAGES {
            return Err(unanswered().into());
        }
        if gathered.bytes > limits::LEGACY_SNAPSHOT_BYTES
            || gathered.rows > limits::LEGACY_SNAPSHOT_ROWS
        {
            return Err(Failure::TooLarge);
        }
        let cursor = Cursor::at(self.store.epoch(), head);
        let mut from = 0;
        loop {
            let packed = kept.pack(from, message.limit, limits::FRAME_OUT_BYTES - OVERHEAD);
            let rest = packed.rest;
            let mut snapshot = Snapshot {
                full: gathered.frames.is_empty(),
                ..Snapshot::default()
            };
            packed.append_to(&mut snapshot, &BTreeMap::new());
            gathered.deleted.append(&mut snapshot.deleted);
            let id = message.id.as_ref();
            gathered
                .frames
                .push(snapshot.encode_legacy(id, channel, &cursor, &kept.view));
            match rest {
                Some(items) => from = items,
                None => break,
            }
        }
        if let Some(token) = &kept.next {
            return Ok(Fetched::More(Fetching {
                head,
                since: kept.since,
                token: Some(token.clone()),
                gathered: Some(gathered),
            }));
        }
        if !self.is_up_to_date(channel, head)? {
            let gathered = Gathered {
                pages: gathered.pages,
                ..Gathered::default()
            };
            return Ok(Fetched::More(Fetching::all(
                self.store.head(),
                Some(gathered),
            )));
        }
        let topics = &session.grant.topics;
        gathered.deleted = self.still_deleted(channel, gathered.deleted, head, topics)?;
        let start = Start {
            after: head,
            began: head,
            full: false,
        };
        let since_asked = self.legacy_pages(session, message, start, gathered.bytes)?;
        let (frames, mut deleted) = since_asked;
        gathered.frames.extend(frames);
        let told: BTreeSet<&str> = gathered.deleted.iter().map(String::as_str).collect();
        deleted.retain(|key| !told.contains(key.as_str()));
        gathered.deleted.append(&mut deleted);
        let cursor = Cursor::at(self.store.epoch(), self.store.head());
        let deletes = fanout::legacy_deletes(channel, &gathered.deleted, now, &cursor);
        gathered.frames.extend(deletes);
        Ok(Fetched::Answer(Answer {
            frames: gathered.frames,
            live: true,
            how: Subscription::default(),
            cursor,
            is_news: true,
        }))
    }

    /// The keys of which the log has not shown a reader with these topics anything since a seq.
    fn still_deleted(
        &self,
        channel: &Channel,
        mut deleted: Vec<String>,
        head: Seq,
        topics: &Topics,
    ) -> Result<Vec<String>, Failure> {
        if deleted.is_empty() || !self.store.has_after(channel, head)? {
            return Ok(deleted);
        }
        let mut still = Vec::with_capacity(deleted.len());
        for text in deleted.drain(..) {
            let key = Key::parse(&text).ok();
            let row = key.map(|key| self.store.row(channel, &key)).transpose()?;
            let shown = row.flatten().is_some_and(|row| {
                row.seq > head && row.data.is_some() && row.audience.sees(topics)
            });
            if !shown {
                still.push(text);
            }
        }
        Ok(still)
    }
}

/// What became of a source's page.
pub(super) enum Fetched {
    /// An answer.
    Answer(Answer),
    /// Another page must be asked for first.
    More(Fetching),
}

/// What a page takes beside its rows.
const OVERHEAD: usize = 4 * 1024;

/// Items of a source's answer that fit a page.
struct Packed<'a> {
    rows: &'a [(Key, String)],
    deleted: &'a [Key],
    items: usize,
    bytes: usize,
    /// After how many items the next page goes on, if there are more.
    rest: Option<usize>,
}

impl Leftover {
    fn pack(&self, from: usize, limit: usize, most: usize) -> Packed<'_> {
        let rows = self.rows.get(from..).unwrap_or_default();
        let (mut items, mut bytes) = (0, 0);
        let mut fits = |len: usize| {
            let fits = items < limit && (items == 0 || bytes + len <= most);
            if fits {
                items += 1;
                bytes += len;
            }
            fits
        };
        let taken = rows
            .iter()
            .take_while(|(_, row)| fits(row.len() + 1))
            .count();
        let deleted = self.deleted.get(from.saturating_sub(self.rows.len())..);
        let deleted = deleted.filter(|_| taken == rows.len()).unwrap_or_default();
        let mut written = String::new();
        let gone = deleted.iter().take_while(|key| {
            written.clear();
            write_text(&mut written, key.as_str());
            fits(written.len() + 1)
        });
        let gone = gone.count();
        let to = from + items;
        Packed {
            rows: rows.get(..taken).unwrap_or_default(),
            deleted: deleted.get(..gone).unwrap_or_default(),
            items,
            bytes,
            rest: (to < self.rows.len() + self.deleted.len()).then_some(to),
        }
    }
}

impl Packed<'_> {
    /// Puts the items on a page, but those that the log knows better. A key that is gone is told unless
    /// the log tells of it: what is not in the reader's sight, the log may never have had there.
    fn append_to(&self, snapshot: &mut Snapshot, newer: &BTreeMap<String, bool>) {
        for (_, row) in self
            .rows
            .iter()
            .filter(|(key, _)| !newer.contains_key(key.as_str()))
        {
            snapshot.push_row(row);
        }
        let deleted = self.deleted.iter().map(Key::as_str);
        let deleted = deleted.filter(|key| newer.get(*key) != Some(&true));
        snapshot.deleted.extend(deleted.map(str::to_owned));
    }
}
