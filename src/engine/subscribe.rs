//! Subscribing: where to resume, and going live in the turn of the last page.

use super::ask::{Step, Who, wrong_answer};
use super::fetch::{Fetched, Pending};
use super::page::{PageBounds, Reader, Start, read_page};
use super::{Engine, Failure, fanout, legacy};
use crate::auth::AuthError;
use crate::cursor::{At, Cursor, Place};
use crate::digest;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, Seq, Space};
use crate::observe::{Event, Operation};
use crate::protocol::{Close, Code, Problem, SubscribeMessage};
use crate::rate::{Sender, TooFast};
use crate::session::{ChannelPass, Dialect, Grant, Session, Subscription};
use crate::source::{Answer as SourceAnswer, Answered, AskId};
use crate::store::{Sql, SqlError};

/// What a subscription is answered with.
pub(super) struct Answer {
    pub(super) frames: Vec<String>,
    /// Whether the connection is live from here on: not yet where more must be asked for.
    pub(super) live: bool,
    /// What it wants of the channel.
    pub(super) how: Subscription,
    /// Where it leaves its reader.
    pub(super) cursor: Cursor,
    /// Whether it says anything that its reader did not know.
    pub(super) is_news: bool,
}

impl<S: Sql> Engine<S> {
    pub(super) fn subscribe(&mut self, conn: ConnId, message: &SubscribeMessage<'_>, now: Millis) {
        let event = self.subscription(conn, message);
        let answer = self.judge_and_answer(conn, message, now);
        self.subscribed(conn, message, answer, event, now);
    }

    /// Goes on with a subscription whose source has answered.
    pub(super) fn subscribe_answered(
        &mut self,
        conn: ConnId,
        message: &SubscribeMessage<'_>,
        asked: (AskId, Pending),
        answer: Answered,
        now: Millis,
    ) {
        let Some(session) = self.hub.session(conn).cloned() else {
            return;
        };
        let event = self.subscription(conn, message);
        let raw = message.raw.to_owned();
        let step = |pending| Step::Subscribe(raw, pending);
        let who = Who::Socket(conn);
        let answer = self.go_on_reading(&session, message, asked, answer, (who, step), now);
        self.subscribed(conn, message, answer, event, now);
    }

    /// What is made of a source's answer: an answer to its reader, unless the source is asked again.
    pub(super) fn go_on_reading(
        &mut self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        (id, pending): (AskId, Pending),
        answer: Answered,
        asker: (Who, impl FnOnce(Pending) -> Step),
        now: Millis,
    ) -> Result<Option<Answer>, Failure> {
        let answer = answer.map_err(|failed| failed.problem)?;
        if self.store.importing().is_some() {
            return Err(Problem::new(Code::Unavailable, "the space is being imported").into());
        }
        if !self.still_holds(&pending, session) {
            // It was said for other eyes, or of rows that another log has told of.
            return self.answer_or_ask(session, message, asker, false, now);
        }
        let (page, fetching) = match (answer, pending.fetching) {
            (SourceAnswer::Allowed, None) => {
                return self.answer_or_ask(session, message, asker, true, now);
            }
            (SourceAnswer::Page(page), Some(fetching)) => (page, fetching),
            _ => return Err(wrong_answer().into()),
        };
        // Rights may have changed since.
        let pass = self.judge(session, message, now)?;
        match self.answer_fetched(session, message, (id, fetching), page, now)? {
            Fetched::Answer(mut answer) => {
                answer.how.pass = pass;
                Ok(Some(answer))
            }
            Fetched::More(fetching) => {
                self.fetch(session, message, pass, fetching, asker, now)?;
                Ok(None)
            }
        }
    }

    /// Gives a client the answer to its subscription, unless there is none yet.
    fn subscribed(
        &mut self,
        conn: ConnId,
        message: &SubscribeMessage<'_>,
        answer: Result<Option<Answer>, Failure>,
        mut event: Event,
        now: Millis,
    ) {
        match answer {
            Ok(None) => return,
            Ok(Some(answer)) => {
                let bytes = answer.frames.iter().map(String::len).sum();
                self.took(&Sender::Conn(conn), bytes, now);
                self.rates.pages(conn, &message.channel, !answer.live);
                // Without an await between page and stream, nothing is lost or doubled.
                match answer.live {
                    true => {
                        self.hub.subscribe(conn, &message.channel, answer.how);
                        self.owes_no_more(conn, &message.channel);
                    }
                    false => self.hub.pause(conn, &message.channel, answer.how.pass),
                }
                self.dirty.push(conn);
                for frame in answer.frames {
                    event.sent(&frame, 1);
                    self.out.send_one(conn, frame);
                }
            }
            Err(failure) => {
                if matches!(failure, Failure::TooLarge) {
                    // All of it was read: it counts as if it had been sent.
                    self.took(&Sender::Conn(conn), limits::LEGACY_SNAPSHOT_BYTES, now);
                }
                let problem = self.problem(failure);
                event.refuse(&problem);
                if self.hub.session(conn).is_some() {
                    self.refuse_subscription(conn, message, &problem);
                }
            }
        }
        self.effects.events.push(event);
    }

    /// A client's wish for a channel, before it is known what comes of it.
    pub(super) fn subscription(&self, conn: ConnId, message: &SubscribeMessage<'_>) -> Event {
        Event {
            channel: Some(message.channel.clone()),
            ..self.event_of(conn, Operation::Subscribe)
        }
    }

    /// Whether somebody is to be answered now: after its last questions, what it still has to read,
    /// and what others have asked for.
    pub(super) fn take_time(
        &mut self,
        sender: &Sender,
        message: &SubscribeMessage<'_>,
        now: Millis,
    ) -> Result<(), TooFast> {
        // The next page of an answer is no other question. And over HTTP one caller may be many.
        if let Sender::Conn(conn) = sender
            && !self.continues(*conn, message)
        {
            let interval = self.config.limits.min_interval_ms;
            self.rates.asks(sender, &message.channel, interval, now)?;
        }
        self.takes_turn(sender, now)
    }

    /// Whether somebody may be given pages now: after what it still has to read, and others have
    /// asked for.
    fn takes_turn(&mut self, sender: &Sender, now: Millis) -> Result<(), TooFast> {
        self.rates.reads(sender, now)?;
        self.lanes.admit(self.rates.turn(sender), now)
    }

    /// Whether a connection asks for the next page of an answer that it is in the midst of.
    fn continues(&self, conn: ConnId, message: &SubscribeMessage<'_>) -> bool {
        let cursor = message.cursor.as_deref().and_then(Cursor::parse);
        cursor.is_some_and(|cursor| cursor.page.is_some())
            && self.rates.is_paging(conn, &message.channel)
    }

    /// Notes that somebody was answered.
    pub(super) fn took(&mut self, sender: &Sender, bytes: usize, now: Millis) {
        self.rates.paged(sender, bytes, now);
        let lanes = self.config.limits.max_concurrent_deltas;
        self.lanes.answered(lanes, bytes, now);
    }

    /// Refuses a subscription in the words of its client's dialect.
    pub(super) fn refuse_subscription(
        &mut self,
        conn: ConnId,
        message: &SubscribeMessage<'_>,
        problem: &Problem,
    ) {
        let dialect = self.hub.session(conn).map(|session| session.dialect);
        let id = match dialect {
            Some(Dialect::Hello) => message.id.as_ref().map(|id| id.as_str()),
            Some(Dialect::Legacy | Dialect::Unknown | Dialect::Reader) | None => {
                Some(legacy::REFUSED_SUBSCRIPTION)
            }
        };
        self.send_reject(conn, id, Some(&message.channel), problem);
    }

    /// What a connection's subscription is answered with.
    fn judge_and_answer(
        &mut self,
        conn: ConnId,
        message: &SubscribeMessage<'_>,
        now: Millis,
    ) -> Result<Option<Answer>, Failure> {
        let session = self.hub.session(conn).ok_or_else(closing)?;
        let is_legacy = session.dialect == Dialect::Legacy;
        let pass = self.judge(session, message, now)?;
        let sender = Sender::Conn(conn);
        let taken = match is_legacy {
            // It asks for everything at once, and in no other way.
            true => self.takes_turn(&sender, now),
            false => self.take_time(&sender, message, now),
        };
        if is_legacy && taken.is_err() {
            // It knows of no time to wait for, but comes back after a while.
            self.close(conn, Close::RateLimited, now);
        }
        taken.map_err(Problem::from)?;
        let session = self.hub.session(conn).ok_or_else(closing)?;
        if !self.has_source(&message.channel) {
            return self.answer(session, message, pass, now).map(Some);
        }
        let session = session.clone();
        let raw = message.raw.to_owned();
        let step = |pending| Step::Subscribe(raw, pending);
        self.answer_or_ask(&session, message, (Who::Socket(conn), step), false, now)
    }

    /// Whether a session may read a channel, and has room for it. Returns what its token opens.
    pub(super) fn judge(
        &self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        now: Millis,
    ) -> Result<Option<ChannelPass>, Failure> {
        let (channel, grant) = (&message.channel, &session.grant);
        let rule = self.config.rules.find(channel)?;
        let mut who = session.asker(channel);
        if let Some(token) = message.token.as_deref().filter(|_| rule.takes_pass()) {
            who.pass = Some(self.pass(token, channel, grant, now)?);
        }
        rule.may_read(channel, &who)?;
        let fits = session.has_room_for(channel, self.config.limits.subscriptions);
        if !fits || (who.pass).is_some_and(|pass| !session.has_room_for_pass(channel, pass)) {
            return Err(Problem::new(
                Code::TooManySubscriptions,
                "the connection has too many subscriptions",
            )
            .into());
        }
        // A reader that does not stay takes no room.
        let held =
            session.dialect == Dialect::Reader || session.subscriptions.contains_key(channel);
        if !held && !self.hub.has_room_for(grant, channel) {
            let message = "the space has no room for another subscription";
            return Err(Problem::new(Code::Unavailable, message).into());
        }
        Ok(who.pass)
    }

    /// What a session is answered that may read the channel.
    pub(super) fn answer(
        &self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        pass: Option<ChannelPass>,
        now: Millis,
    ) -> Result<Answer, Failure> {
        let edits = self.config.rules.find(&message.channel)?.edits;
        let mut answer = match session.dialect {
            Dialect::Legacy => self.answer_legacy(session, message, now)?,
            Dialect::Hello | Dialect::Unknown | Dialect::Reader => {
                self.answer_page(session, message, edits)?
            }
        };
        answer.how.pass = pass;
        Ok(answer)
    }

    /// What a token of the channel opens, here and now.
    pub(super) fn pass(
        &self,
        token: &str,
        channel: &Channel,
        grant: &Grant,
        now: Millis,
    ) -> Result<ChannelPass, Failure> {
        let identity = grant.identity.as_ref();
        let pass = self.config.tokens.pass(token, channel, identity, now)?;
        // Without a `space` it is for the default one: names of channels are alike everywhere.
        if pass.space.unwrap_or_else(Space::default_space) != self.space {
            return Err(Problem::from(AuthError::Space).into());
        }
        if let Some(identity) = identity {
            let refused_until = self.store.standing(identity, now)?.refused_until;
            if refused_until.is_some_and(|until| pass.issued_at <= until) {
                return Err(Problem::from(AuthError::Revoked).into());
            }
        }
        Ok(ChannelPass {
            until: pass.expires_at,
            write: pass.write,
        })
    }

    fn answer_page(
        &self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        changes: bool,
    ) -> Result<Answer, Failure> {
        let (channel, grant) = (&message.channel, &session.grant);
        let view = self.view(grant);
        let (start, _) = self.resumed(session, message)?;
        // Where the turn has no room for another page, an empty one lets the client ask again.
        let scan = match self.out.is_full() {
            true => 0,
            false => self.room.next_page(),
        };
        let bounds = PageBounds::of_frame(message.limit, scan, message.meta);
        let bounds = bounds.with_changes(changes);
        let reader = Reader {
            topics: &grant.topics,
            view: &view,
        };
        let page = read_page(&self.store, channel, reader, start, bounds)?;
        let (mut snapshot, mut cursor) = (page.snapshot, page.cursor);
        if !snapshot.more
            && self.has_source(channel)
            && let Some(since) = self.changed_outside(channel, start.began)?
        {
            // The log has no more, but its reader does not know everything yet.
            snapshot.more = true;
            let at = At::Begin;
            cursor = self.cursor_in_source(channel, self.store.head(), &view, Place { since, at });
        }
        Ok(Answer {
            frames: vec![snapshot.encode(message.id.as_ref(), channel, &cursor, &view)],
            live: !snapshot.more,
            how: Subscription {
                meta: message.meta,
                pass: None,
            },
            is_news: snapshot.is_news(),
            cursor,
        })
    }

    /// Where an answer begins by the message's cursor, which is given back where it counts.
    pub(super) fn resumed(
        &self,
        session: &Session,
        message: &SubscribeMessage<'_>,
    ) -> Result<(Start, Option<Cursor>), Failure> {
        let view = self.view(&session.grant);
        let cursor = message.cursor.as_deref().map(|text| {
            Cursor::parse(text).ok_or_else(|| Problem::malformed("cursor is no cursor"))
        });
        let same_view = message.view.as_deref() == Some(view.as_str());
        // A page in the midst of an answer has rows of the view that the answer began with.
        let same_eyes = |cursor: &Cursor| cursor.page.as_ref().is_none_or(|page| page.view == view);
        let cursor = cursor
            .transpose()?
            .filter(|cursor| same_view && same_eyes(cursor));
        let edits = self.config.rules.find(&message.channel)?.edits;
        let start = self.resume(&message.channel, edits, cursor.clone())?;
        Ok((start, cursor))
    }

    /// All pages at once, then the deleted keys as a batch.
    fn answer_legacy(
        &self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        now: Millis,
    ) -> Result<Answer, Failure> {
        let channel = &message.channel;
        let since = message.since.and_then(legacy::since);
        let start = match since {
            Some(since) => self.resume_by_time(channel, since, now)?,
            None => Start::full(self.store.head()),
        };
        let (mut frames, deleted) = self.legacy_pages(session, message, start, 0)?;
        let cursor = Cursor::at(self.store.epoch(), self.store.head());
        frames.extend(fanout::legacy_deletes(channel, &deleted, now, &cursor));
        Ok(Answer {
            frames,
            live: true,
            how: Subscription::default(),
            cursor,
            is_news: true,
        })
    }

    /// All pages of the log from a start, beside so many bytes, and the keys that are gone.
    pub(super) fn legacy_pages(
        &self,
        session: &Session,
        message: &SubscribeMessage<'_>,
        mut start: Start,
        mut bytes: usize,
    ) -> Result<(Vec<String>, Vec<String>), Failure> {
        let (channel, grant) = (&message.channel, &session.grant);
        let view = self.view(grant);
        let bounds = PageBounds::of_frame(message.limit, limits::PAGE_SCAN, false);
        let reader = Reader {
            topics: &grant.topics,
            view: &view,
        };
        let (mut frames, mut deleted) = (Vec::<String>::new(), Vec::new());
        let mut rows = 0;
        loop {
            let mut page = read_page(&self.store, channel, reader, start, bounds)?;
            bytes += page.snapshot.deleted.len() * limits::KEY_BYTES;
            deleted.append(&mut page.snapshot.deleted);
            let (snapshot, cursor) = (page.snapshot, page.cursor);
            let frame = snapshot.encode_legacy(message.id.as_ref(), channel, &cursor, &view);
            bytes += frame.len();
            rows += page
                .scanned
                .max(self.store.count(channel, start.after, cursor.seq)?);
            if bytes > limits::LEGACY_SNAPSHOT_BYTES || rows > limits::LEGACY_SNAPSHOT_ROWS {
                return Err(Failure::TooLarge);
            }
            frames.push(frame);
            if !snapshot.more {
                break;
            }
            start = Start {
                after: cursor.seq,
                full: false,
                ..start
            };
        }
        Ok((frames, deleted))
    }

    /// What stands for the connection's eyes.
    pub(super) fn view(&self, grant: &Grant) -> String {
        digest::view(
            self.store.view_key(),
            grant.identity.as_ref(),
            &grant.topics,
        )
    }

    /// Resumes at a cursor, or from nothing where it proves nothing: it is of another epoch, of
    /// the future, older than the channel's floor, not there, or, in a channel with edits, made up.
    pub(super) fn resume(
        &self,
        channel: &Channel,
        edits: bool,
        cursor: Option<Cursor>,
    ) -> Result<Start, SqlError> {
        let head = self.store.head();
        let cursor = cursor.filter(|cursor| self.store.gave(channel, edits, cursor));
        let Some(cursor) = cursor else {
            return Ok(Start::full(head));
        };
        let of_this_log = cursor.epoch == *self.store.epoch() && !cursor.foreign;
        let began = cursor.began();
        let of_the_past = cursor.seq <= head && began <= head;
        if !of_this_log || !of_the_past || began < self.store.floor(channel)?.seq {
            return Ok(Start::full(head));
        }
        // A full answer begins below floors, but not below what was trimmed since.
        if cursor.page.is_some() && cursor.seq < self.store.trimmed(channel)? {
            return Ok(Start::full(head));
        }
        Ok(Start {
            after: cursor.seq,
            began,
            full: false,
        })
    }

    /// Resumes at a time of the server's clock, less a margin for the client's; from nothing
    /// where it is older than the channel's floor or the log, or of the future.
    pub(super) fn resume_by_time(
        &self,
        channel: &Channel,
        since: Millis,
        now: Millis,
    ) -> Result<Start, SqlError> {
        let from = since.minus(legacy::SINCE_MARGIN_MS);
        let floor = self.store.floor(channel)?;
        let provable = from >= floor.at && from >= self.store.epoch_at();
        if since > now || !provable {
            return Ok(Start::full(self.store.head()));
        }
        let after = self.store.last_until(channel, from)?.max(floor.seq);
        Ok(Start {
            after,
            began: after,
            full: false,
        })
    }

    pub(super) fn unsubscribe(&mut self, conn: ConnId, channel: &Channel) {
        if self.hub.unsubscribe(conn, channel) {
            self.dirty.push(conn);
        }
        self.set_presence(conn, channel, None);
    }
}

fn closing() -> Problem {
    Problem::new(Code::Unavailable, "the connection is closing")
}

impl Start {
    /// From nothing: the client replaces what it has. What goes after `head` it must be told.
    pub(super) fn full(head: Seq) -> Self {
        Self {
            after: Seq(0),
            began: head,
            full: true,
        }
    }
}
