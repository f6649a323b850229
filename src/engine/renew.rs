//! Renewing a session in place: another token, other topics, and what that does to the rows in
//! its sight.

use std::ops::ControlFlow;

use super::fanout::{self, Parts};
use super::{Engine, Failure};
use crate::audience::Topics;
use crate::channel::Rules;
use crate::digest;
use crate::hub::Hub;
use crate::limits;
use crate::names::{Channel, ConnId, Millis};
use crate::protocol::{self, Action, ChangeFrame, Close, Code, Problem};
use crate::session::{Dialect, Grant, Session};
use crate::store::{Sql, SqlError, Standing, Store};

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
}

impl<S: Sql> Engine<S> {
    pub(super) fn auth(&mut self, conn: ConnId, token: &str, now: Millis) {
        let Some(session) = self.hub.session(conn) else {
            return;
        };
        let grant = match self.config.admit(Some(token), &self.space, now) {
            Ok(grant) => grant,
            Err(problem) => return self.send_error(conn, &problem),
        };
        if grant.identity != session.grant.identity {
            let problem = Problem::new(Code::Forbidden, "the token is of another identity");
            self.send_error(conn, &problem);
            return self.close(conn, Close::Forbidden);
        }
        let renewal = standing(&self.store, grant, now)
            .and_then(|grant| Ok(plan(&self.store, &self.config.rules, conn, session, grant)?));
        match renewal {
            Ok(renewal) => self.renew(renewal),
            Err(failure) => {
                let problem = self.problem(failure);
                self.send_error(conn, &problem);
            }
        }
    }

    /// Applies a renewal: the hub knows the new topics before the next change.
    pub(super) fn renew(&mut self, renewal: Renewal) {
        for channel in &renewal.closed {
            self.hub.unsubscribe(renewal.conn, channel);
        }
        if let Some(mut session) = self.hub.remove(renewal.conn) {
            session.grant = renewal.grant;
            self.hub.insert(renewal.conn, session);
            self.dirty.push(renewal.conn);
        }
        for frame in renewal.frames {
            self.out.send_one(renewal.conn, frame);
        }
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
        return Err(Problem::new(Code::Unauthorized, "the token has been revoked").into());
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
    conn: ConnId,
    session: &Session,
    grant: Grant,
) -> Result<Renewal, SqlError> {
    let (mut frames, mut closed) = (Vec::new(), Vec::new());
    let parts = match session.dialect {
        Dialect::Legacy => Parts::Apart,
        Dialect::Hello | Dialect::Unknown => Parts::AsOne,
    };
    if grant.topics != session.grant.topics {
        for channel in session.subscriptions.keys() {
            let rule = rules.find(channel);
            let may_read = rule
                .and_then(|rule| rule.may_read(channel, grant.identity.as_ref(), &grant.topics));
            if may_read.is_err() {
                frames.push(protocol::channel_reset(channel, RESET_REASON));
                closed.push(channel.clone());
                continue;
            }
            match difference(store, channel, &session.grant.topics, &grant.topics, parts)? {
                Some(difference) => frames.extend(difference),
                None => frames.push(protocol::channel_reset(channel, RESET_REASON)),
            }
        }
    }
    // Last, so that the view is the client's only once the rows that it stands for are there.
    if session.dialect != Dialect::Legacy {
        let view = digest::view(store.view_key(), grant.identity.as_ref(), &grant.topics);
        let identity = grant.identity.as_ref();
        frames.push(protocol::authed(identity, grant.expires_at, &view));
    }
    Ok(Renewal {
        conn,
        grant,
        frames,
        closed,
    })
}

/// Renewals of all live sessions of an identity, with the topics that `change` makes of theirs.
pub(super) fn plan_all<S: Sql>(
    store: &Store<S>,
    rules: &Rules,
    hub: &Hub,
    identity: &crate::names::Identity,
    change: impl Fn(&Topics) -> Result<Topics, Problem>,
) -> Result<Vec<Renewal>, Failure> {
    let mut renewals = Vec::new();
    for (conn, session) in hub.sessions_of(identity) {
        let grant = Grant {
            topics: change(&session.grant.topics)?,
            ..session.grant.clone()
        };
        renewals.push(plan(store, rules, conn, session, grant)?);
    }
    Ok(renewals)
}

/// A row whose visibility changes.
struct Moved {
    key: String,
    /// What the row is where it comes into sight; nothing where it goes.
    gained: Option<(String, Option<String>, Millis)>,
}

impl Moved {
    fn frame(&self, clock: Millis) -> ChangeFrame<'_> {
        match &self.gained {
            Some((data, by, at)) => ChangeFrame {
                action: Action::Create,
                key: &self.key,
                data: Some(data),
                by: by.as_deref(),
                at: *at,
            },
            None => fanout::gone(&self.key, clock),
        }
    }
}

/// The rows that come into sight or go out of it, as frames; `None` beyond the bounds.
fn difference<S: Sql>(
    store: &Store<S>,
    channel: &Channel,
    old: &Topics,
    new: &Topics,
    parts: Parts,
) -> Result<Option<Vec<String>>, SqlError> {
    let mut moved = Vec::new();
    let (mut looked_at, mut too_many) = (0, false);
    store.page(
        channel,
        crate::names::Seq(0),
        limits::PAGE_SCAN + 1,
        &mut |row| {
            looked_at += 1;
            let audience = row.audience();
            let (saw, sees) = (audience.sees(old), audience.sees(new));
            if saw != sees
                && let Some(data) = row.data()
            {
                moved.push(Moved {
                    key: row.key(),
                    gained: sees.then(|| (data, row.author(), row.at())),
                });
            }
            too_many = looked_at > limits::PAGE_SCAN || moved.len() > limits::TOPIC_CHANGES;
            if too_many {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        },
    )?;
    if too_many {
        return Ok(None);
    }
    let clock = store.clock();
    let changes: Vec<ChangeFrame<'_>> = moved.iter().map(|row| row.frame(clock)).collect();
    let cursor = store.cursor(store.head());
    Ok(Some(fanout::encode_frames(
        channel, &changes, &cursor, parts,
    )))
}
