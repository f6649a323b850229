//! Renewing a session in place: another token, other topics, and what that does to the rows in
//! its sight.

use std::ops::ControlFlow;

use super::fanout::{self, Parts};
use super::room::Room;
use super::{Engine, Failure};
use crate::audience::Topics;
use crate::auth::{AuthError, Claims};
use crate::channel::Rules;
use crate::config::{Credentials, Judgement};
use crate::cursor::Cursor;
use crate::digest;
use crate::hub::Hub;
use crate::limits;
use crate::names::{Channel, ConnId, Identity, Millis, Seq};
use crate::protocol::{self, Action, ChangeFrame, Close, Code, Problem};
use crate::rate::Sender;
use crate::session::{Asker, Dialect, Grant, Session};
use crate::store::{PageRow, Sql, SqlError, Standing, Store};

/// The reason of a `channel-reset` that a change of topics causes.
const RESET_REASON: &str = "topics";

/// A session's new grant, and what its client must be told for it.
#[derive(Debug)]
pub(super) struct Renewal {
    conn: ConnId,
    grant: Grant,
    /// Rows that come into sight and go out of it, or resets, and at last `authed`.
    frames: Vec<String>,
    /// Channels that the session may no longer read.
    closed: Vec<Channel>,
    /// Whether a channel that it is live on begins anew.
    resets: bool,
}

impl<S: Sql> Engine<S> {
    pub(super) fn auth(&mut self, conn: ConnId, token: &str, now: Millis) {
        if self.out.is_full() || self.room.has_looked() {
            let problem = Problem {
                retry_after_ms: Some(limits::TURN_RETRY_MS),
                ..Problem::new(Code::RateLimited, "too much for one turn")
            };
            return self.send_error(conn, &problem);
        }
        let judgement = match self.config.tokens.judge(&Credentials::of_token(token), now) {
            Judgement::Done(judged) => Some(judged),
            Judgement::ByKey(_) | Judgement::Elsewhere => None,
        };
        match judgement {
            Some(answer) => self.apply(conn, answer, now),
            None => self.ask(conn, token, now),
        }
    }

    /// Has a token judged elsewhere. What the client sends meanwhile waits.
    fn ask(&mut self, conn: ConnId, token: &str, now: Millis) {
        if token.len() > limits::TOKEN_BYTES {
            return self.send_error(conn, &AuthError::Invalid.into());
        }
        for _ in 1..limits::ASK_MESSAGES {
            if let Err(too_fast) = self.take(conn, now) {
                return self.send_error(conn, &too_fast);
            }
        }
        if let Some(session) = self.hub.session_mut(conn) {
            session.renewing = true;
            self.dirty.push(conn);
            self.begin_to_hold(conn);
            self.effects.asks.push((conn, token.to_owned()));
        }
    }

    /// Takes the judgement of a token, then what its client sent since.
    pub(super) fn authenticated(
        &mut self,
        conn: ConnId,
        answer: Result<Option<Claims>, Problem>,
        now: Millis,
    ) {
        let Some(session) = self
            .hub
            .session_mut(conn)
            .filter(|session| session.renewing)
        else {
            return; // Closed meanwhile.
        };
        session.renewing = false;
        self.dirty.push(conn);
        self.apply(conn, answer, now);
        self.release(conn, now);
    }

    /// Gives a session what its new token grants.
    fn apply(&mut self, conn: ConnId, answer: Result<Option<Claims>, Problem>, now: Millis) {
        let grant = answer.and_then(|claims| Ok(self.config.admit(claims, &self.space)?));
        let grant = match grant {
            Ok(grant) if grant.expires_at.is_some_and(|at| at <= now) => {
                return self.send_error(conn, &AuthError::Expired.into());
            }
            Ok(grant) => grant,
            Err(problem) => return self.send_error(conn, &problem),
        };
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        // What the upgrade brought along; a token says nothing of that.
        let grant = Grant {
            visitor: session.grant.visitor.clone(),
            handshake: session.grant.handshake.clone(),
            ..grant
        };
        if grant.identity != session.grant.identity {
            let problem = Problem::new(Code::Forbidden, "the token is of another identity");
            self.send_error(conn, &problem);
            return self.close(conn, Close::Forbidden, now);
        }
        let renewal = standing(&self.store, grant, now).and_then(|grant| {
            Ok(plan(
                &self.store,
                &self.config.rules,
                &self.room,
                conn,
                session,
                grant,
            )?)
        });
        match renewal {
            Ok(renewal) => {
                let bytes = renewal.frames.iter().map(String::len).sum();
                self.rates.answered(&Sender::Conn(conn), bytes, now);
                self.renew(renewal);
            }
            Err(failure) => {
                let problem = self.problem(failure);
                self.send_error(conn, &problem);
            }
        }
    }

    /// Applies a renewal: the hub knows the new topics before the next change.
    pub(super) fn renew(&mut self, renewal: Renewal) {
        for channel in &renewal.closed {
            self.unsubscribe(renewal.conn, channel);
        }
        if let Some(mut session) = self.hub.remove(renewal.conn) {
            session.grant = renewal.grant;
            self.hub.insert(renewal.conn, session, 0);
            self.dirty.push(renewal.conn);
        }
        let mut frames = renewal.frames;
        // A stream that breaks off before it is told where it is has the rows of other topics, and
        // comes back as if it had not.
        let last = frames.pop_if(|_| self.readers.contains_key(&renewal.conn));
        for frame in frames {
            self.out.send_one(renewal.conn, frame);
        }
        self.renew_reader(renewal.conn, last, renewal.resets);
    }
}

/// The grant less what is stored against its identity's earlier tokens.
///
/// `unauthorized` if the tokens are refused altogether.
pub(super) fn standing<S: Sql>(
    store: &Store<S>,
    grant: Grant,
    now: Millis,
) -> Result<Grant, Failure> {
    let Some(identity) = &grant.identity else {
        return Ok(grant);
    };
    let Standing {
        refused_until,
        removed_until,
    } = store.standing(identity, now)?;
    if refused_until.is_some_and(|until| grant.issued_at <= until) {
        return Err(Problem::from(AuthError::Revoked).into());
    }
    let removed = |topic: &str| {
        let until = removed_until.get(topic);
        until.is_some_and(|until| grant.issued_at <= *until)
    };
    let topics = grant.topics.without(removed);
    Ok(Grant { topics, ..grant })
}

/// What a session's new grant changes for its client.
pub(super) fn plan<S: Sql>(
    store: &Store<S>,
    rules: &Rules,
    room: &Room,
    conn: ConnId,
    session: &Session,
    grant: Grant,
) -> Result<Renewal, SqlError> {
    let (mut frames, mut closed, mut resets) = (Vec::new(), Vec::new(), false);
    let parts = match session.dialect {
        Dialect::Legacy => Parts::Apart,
        Dialect::Hello | Dialect::Unknown | Dialect::Reader => Parts::AsOne,
    };
    if grant.topics != session.grant.topics {
        let may_read = |channel: &Channel| {
            let who = Asker {
                identity: grant.identity.as_ref(),
                topics: &grant.topics,
                ..session.asker(channel)
            };
            let rule = rules.find(channel);
            rule.and_then(|rule| rule.may_read(channel, &who)).is_ok()
        };
        // It is not live on these, but present.
        for channel in session.paused.keys().filter(|channel| !may_read(channel)) {
            frames.push(protocol::channel_reset(channel, RESET_REASON));
            closed.push(channel.clone());
        }
        for channel in session.subscriptions.keys() {
            let new = may_read(channel).then_some(&grant.topics);
            // What comes into sight there, the log does not know.
            let elsewhere = rules.find(channel).is_ok_and(|rule| rule.source.is_some());
            let difference = match elsewhere {
                true => None,
                false => difference(store, channel, &session.grant.topics, new, room)?,
            };
            let (told, whole) = match difference {
                Some(difference) => {
                    let edits = rules.find(channel).is_ok_and(|rule| rule.edits);
                    let cursor = store.cursor(channel, edits, store.head());
                    (difference.encode(channel, &cursor, parts), true)
                }
                None => (Vec::new(), false),
            };
            room.spend(told.iter().map(String::len).sum());
            frames.extend(told);
            if new.is_none() {
                closed.push(channel.clone());
            }
            if new.is_none() || !whole {
                resets = true;
                frames.push(protocol::channel_reset(channel, RESET_REASON));
            }
        }
    }
    // Last, so that the view is the client's only once the rows that it stands for are there.
    if session.dialect == Dialect::Hello {
        let view = digest::view(store.view_key(), grant.identity.as_ref(), &grant.topics);
        let identity = grant.identity.as_ref();
        frames.push(protocol::authed(identity, grant.expires_at, &view));
    }
    Ok(Renewal {
        conn,
        grant,
        frames,
        closed,
        resets,
    })
}

/// Renewals of all live sessions of an identity, with the topics that `change` makes of theirs.
pub(super) fn plan_all<S: Sql>(
    store: &Store<S>,
    rules: &Rules,
    hub: &Hub,
    room: &Room,
    identity: &Identity,
    change: impl Fn(&Topics) -> Result<Topics, Problem>,
) -> Result<Vec<Renewal>, Failure> {
    let mut renewals = Vec::new();
    for (conn, session) in hub.sessions_of(identity) {
        let grant = Grant {
            topics: change(&session.grant.topics)?,
            ..session.grant.clone()
        };
        renewals.push(plan(store, rules, room, conn, session, grant)?);
    }
    Ok(renewals)
}

/// A row whose visibility changes.
struct Moved {
    key: String,
    /// When it was changed last.
    at: Millis,
    /// The row and its author where it comes into sight; nothing where it goes.
    gained: Option<(String, Option<String>)>,
}

impl Moved {
    fn frame(&self) -> ChangeFrame<'_> {
        match &self.gained {
            Some((data, by)) => ChangeFrame {
                action: Action::Create,
                key: &self.key,
                data: Some(data),
                by: by.as_deref(),
                at: self.at,
            },
            // Its own time, which was known: not that of another row's change.
            None => fanout::gone(&self.key, self.at),
        }
    }
}

/// The rows of a channel whose visibility changes.
struct Difference(Vec<Moved>);

impl Difference {
    fn encode(&self, channel: &Channel, cursor: &Cursor, parts: Parts) -> Vec<String> {
        let changes: Vec<ChangeFrame<'_>> = self.0.iter().map(Moved::frame).collect();
        fanout::encode_frames(channel, &changes, cursor, parts)
    }
}

/// The rows that come into the sight of `new` topics or go out of that of `old` ones, where there
/// are not too many of them; without new topics all go.
fn difference<S: Sql>(
    store: &Store<S>,
    channel: &Channel,
    old: &Topics,
    new: Option<&Topics>,
    room: &Room,
) -> Result<Option<Difference>, SqlError> {
    let nobody = Topics::default();
    let most_rows = room.next_look();
    if most_rows == 0 {
        return Ok(None);
    }
    let most_bytes = limits::FRAME_OUT_BYTES.min(room.bytes());
    let (mut looked_at, mut bytes, mut too_many) = (0, 0, false);
    let mut moved = Vec::new();
    let mut each = |row: PageRow<'_>| {
        looked_at += row.cost();
        let audience = row.audience();
        let saw = audience.sees(old);
        let sees = new.is_some_and(|new| audience.sees(new));
        if saw != sees && !row.is_tombstone() {
            let gained = sees.then(|| row.data()).flatten();
            bytes += gained.map_or(0, str::len);
            moved.push(Moved {
                key: row.key(),
                at: row.at(),
                gained: gained.map(|data| (data.to_owned(), row.author())),
            });
        }
        too_many =
            looked_at > most_rows || moved.len() > limits::TOPIC_CHANGES || bytes > most_bytes;
        if too_many {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    store.page(
        channel,
        Seq(0),
        most_rows + 1,
        new.unwrap_or(&nobody),
        &mut each,
    )?;
    Ok((!too_many).then_some(Difference(moved)))
}
