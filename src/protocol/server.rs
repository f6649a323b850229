//! What the server sends: one function a message, fields in the contract's order.

use super::client::Action;
use super::codec::{JsonWriter, object};
use super::error::Problem;
use crate::cursor::{Cursor, Epoch};
use crate::limits::{self, Limits};
use crate::names::{Channel, Identity, Millis, RequestId, SessionId, Space};

pub(crate) fn welcome(
    session: &SessionId,
    epoch: &Epoch,
    identity: Option<&Identity>,
    expires_at: Option<Millis>,
    schema: Option<u64>,
    limits: &Limits,
) -> String {
    object(|o| {
        o.text("type", "welcome");
        o.number("v", super::VERSION);
        o.text("session", session.as_str());
        o.text("epoch", epoch.as_str());
        o.opt_text("identity", identity.map(Identity::as_str));
        expiry(o, expires_at);
        if let Some(schema) = schema {
            o.number("schema", schema);
        }
        o.name("limits").object(|l| {
            for (name, bound) in [
                ("frameBytes", limits.frame_bytes),
                ("frameMessages", limits::FRAME_MESSAGES),
                ("channelBytes", limits::CHANNEL_BYTES),
                ("keyBytes", limits::KEY_BYTES),
                ("idBytes", limits::ID_BYTES),
                ("rowBytes", limits.row_bytes),
                ("pageRows", limits::PAGE_MAX),
                ("subscriptions", limits.subscriptions),
                ("subscriptionsBytes", limits::SUBSCRIPTIONS_BYTES),
                ("stateBytes", limits::STATE_BYTES),
                ("presenceBytes", limits::PRESENCE_BYTES),
                ("presences", limits::PRESENCES),
                ("signalBytes", limits::SIGNAL_BYTES),
                ("messagesPerSecond", limits.messages_per_second as usize),
            ] {
                l.number(name, bound as u64);
            }
        });
    })
}

fn expiry(o: &mut JsonWriter, expires_at: Option<Millis>) {
    match expires_at {
        Some(at) => o.number("expiresAt", at.0),
        None => o.raw("expiresAt", "null"),
    }
}

/// One answer to a subscription, or one body of `GET /api/sync/changes`.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    /// Whether the client replaces what it has.
    pub(crate) full: bool,
    /// The rows as JSON, separated by commas.
    pub(crate) data: String,
    /// The keys that are gone for the reader.
    pub(crate) deleted: Vec<String>,
    /// What happened, in order, as [`change_item`] writes it, separated by commas; of channels
    /// whose events are edited.
    pub(crate) changes: Option<String>,
    /// `"key":{"by":…,"at":…}`, separated by commas, where asked for.
    pub(crate) meta: Option<String>,
    /// Whether the client must ask again.
    pub(crate) more: bool,
}

impl Snapshot {
    /// Adds a row.
    pub(crate) fn push_row(&mut self, row: &str) {
        if !self.data.is_empty() {
            self.data.push(',');
        }
        self.data.push_str(row);
    }

    /// Adds what another page of the same answer holds.
    pub(crate) fn append(&mut self, more: Self) {
        if !more.data.is_empty() {
            self.push_row(&more.data);
        }
        self.deleted.extend(more.deleted);
        if let Some((meta, more)) = self.meta.as_mut().zip(more.meta) {
            meta.push_str(&more);
        }
        self.more = more.more;
    }

    /// Whether it says anything to a reader who has what is before it.
    pub(crate) fn is_news(&self) -> bool {
        let changes = self.changes.as_ref().is_some_and(|list| !list.is_empty());
        self.full || self.more || changes || !self.data.is_empty() || !self.deleted.is_empty()
    }

    pub(crate) fn encode(
        &self,
        id: Option<&RequestId>,
        channel: &Channel,
        cursor: &Cursor,
        view: &str,
    ) -> String {
        self.encode_at(id, channel, &cursor.to_string(), view)
    }

    /// With the cursor as text.
    pub(crate) fn encode_at(
        &self,
        id: Option<&RequestId>,
        channel: &Channel,
        cursor: &str,
        view: &str,
    ) -> String {
        self.write(id, channel, &self.deleted, |o| {
            o.text("cursor", cursor);
            o.text("view", view);
            o.bool("more", self.more);
        })
    }

    /// For clients that know no `more` and take deleted keys as a batch afterwards.
    pub(crate) fn encode_legacy(
        &self,
        id: Option<&RequestId>,
        channel: &Channel,
        cursor: &Cursor,
        view: &str,
    ) -> String {
        self.write(id, channel, &[], |o| {
            o.text("cursor", &cursor.to_string());
            o.text("view", view);
        })
    }

    fn write(
        &self,
        id: Option<&RequestId>,
        channel: &Channel,
        deleted: &[String],
        end: impl FnOnce(&mut JsonWriter),
    ) -> String {
        let mut out = JsonWriter::with_capacity(
            512 + self.data.len()
                + self.changes.as_ref().map_or(0, String::len)
                + 64 * deleted.len(),
        );
        out.object(|o| {
            o.text("type", "snapshot");
            if let Some(id) = id {
                o.text("id", id.as_str());
            }
            o.text("channel", channel.as_str());
            o.text("mode", if self.full { "full" } else { "delta" });
            o.bool("isDelta", !self.full);
            o.name("data").array(|a| append(a, &self.data));
            o.name("deleted")
                .array(|a| deleted.iter().for_each(|key| a.text_item(key)));
            if let Some(changes) = &self.changes {
                o.name("changes").array(|a| append(a, changes));
            }
            if let Some(meta) = &self.meta {
                o.name("meta").object(|m| append(m, meta));
            }
            end(o);
        });
        out.finish()
    }
}

fn append(out: &mut JsonWriter, items: &str) {
    if !items.is_empty() {
        out.raw_item(items);
    }
}

/// A change as its receivers see it.
#[derive(Debug)]
pub(crate) struct ChangeFrame<'a> {
    pub(crate) action: Action,
    pub(crate) key: &'a str,
    /// The full row after the change; `None` for a delete.
    pub(crate) data: Option<&'a str>,
    pub(crate) by: Option<&'a str>,
    pub(crate) at: Millis,
}

impl ChangeFrame<'_> {
    fn write(&self, o: &mut JsonWriter) {
        o.text("action", self.action.as_str());
        o.text("key", self.key);
        o.raw("data", self.data.unwrap_or("null"));
        o.opt_text("by", self.by);
        o.number("at", self.at.0);
    }

    /// About how many bytes the change takes in a batch.
    pub(crate) fn len(&self) -> usize {
        128 + self.data.map_or(4, str::len) + 6 * (self.key.len() + self.by.map_or(0, str::len))
    }
}

/// A change as `batch.changes` and the `changes` of a page list it.
pub(crate) fn change_item(change: &ChangeFrame<'_>) -> String {
    let mut out = JsonWriter::with_capacity(change.len());
    out.object(|o| change.write(o));
    out.finish()
}

pub(crate) fn change(channel: &Channel, change: &ChangeFrame<'_>, cursor: &Cursor) -> String {
    let mut out = JsonWriter::with_capacity(192 + change.len());
    out.object(|o| {
        o.text("type", "change");
        o.text("channel", channel.as_str());
        change.write(o);
        o.text("cursor", &cursor.to_string());
    });
    out.finish()
}

/// Several changes of one channel, applied as one.
pub(crate) fn batch(channel: &Channel, changes: &[&ChangeFrame<'_>], cursor: &Cursor) -> String {
    batch_frame(channel, changes, |o| o.text("cursor", &cursor.to_string()))
}

/// A part of a batch that is too large for a frame: to be applied with the part that has a cursor.
pub(crate) fn batch_part(
    channel: &Channel,
    changes: &[&ChangeFrame<'_>],
    says_more: bool,
) -> String {
    batch_frame(channel, changes, |o| {
        if says_more {
            o.bool("more", true);
        }
    })
}

fn batch_frame(
    channel: &Channel,
    changes: &[&ChangeFrame<'_>],
    end: impl FnOnce(&mut JsonWriter),
) -> String {
    let bytes: usize = changes.iter().map(|change| change.len()).sum();
    let mut out = JsonWriter::with_capacity(128 + bytes);
    out.object(|o| {
        o.text("type", "batch");
        o.text("channel", channel.as_str());
        o.name("changes").array(|a| {
            for change in changes {
                a.object(|o| change.write(o));
            }
        });
        end(o);
    });
    out.finish()
}

/// The answer to a mutation that is durable. `data` is the row as its sender may see it now.
pub(crate) fn ack(id: &RequestId, data: Option<&str>, cursor: &Cursor, replayed: bool) -> String {
    object(|o| {
        o.text("type", "ack");
        o.text("id", id.as_str());
        o.raw("data", data.unwrap_or("null"));
        o.text("cursor", &cursor.to_string());
        o.bool("replayed", replayed);
    })
}

/// A request that was refused. Legacy clients know an error as a plain text.
pub(crate) fn reject(
    id: Option<&str>,
    channel: Option<&Channel>,
    problem: &Problem,
    legacy: bool,
) -> String {
    object(|o| {
        o.text("type", "reject");
        if let Some(id) = id {
            o.text("id", id);
        }
        if let Some(channel) = channel {
            o.text("channel", channel.as_str());
        }
        if legacy {
            o.text("error", &problem.message);
        } else {
            problem.write(o.name("error"));
        }
    })
}

/// The body that answers `POST /api/sync/mutate`: an `ack` or a `reject` for each mutation, in order.
pub(crate) fn results(results: &[String]) -> String {
    let bytes: usize = results.iter().map(|result| result.len() + 1).sum();
    let mut out = JsonWriter::with_capacity(32 + bytes);
    out.object(|o| {
        o.name("results")
            .array(|a| results.iter().for_each(|result| a.raw_item(result)));
    });
    out.finish()
}

/// A frame that cannot be tied to a request.
pub(crate) fn error(problem: &Problem) -> String {
    object(|o| {
        o.text("type", "error");
        problem.write(o.name("error"));
    })
}

/// The session has been renewed; from here on `view` stands for its eyes.
pub(crate) fn authed(
    identity: Option<&Identity>,
    expires_at: Option<Millis>,
    view: &str,
) -> String {
    object(|o| {
        o.text("type", "authed");
        o.opt_text("identity", identity.map(Identity::as_str));
        expiry(o, expires_at);
        o.text("view", view);
    })
}

/// Forget the cursor and subscribe again.
pub(crate) fn channel_reset(channel: &Channel, reason: &str) -> String {
    object(|o| {
        o.text("type", "channel-reset");
        o.text("channel", channel.as_str());
        o.text("reason", reason);
    })
}

/// Somebody who is present in a channel, as JSON; without a state who has left it.
pub(crate) fn member(
    session: &SessionId,
    identity: Option<&Identity>,
    state: Option<&str>,
) -> String {
    object(|o| {
        o.text("session", session.as_str());
        o.opt_text("identity", identity.map(Identity::as_str));
        if let Some(state) = state {
            o.raw("state", state);
        }
    })
}

/// Who is present: the answer to joining and watching.
pub(crate) fn members(channel: &Channel, members: &[String], total: usize) -> String {
    let bytes: usize = members.iter().map(String::len).sum();
    let mut out = JsonWriter::with_capacity(512 + 2 * members.len() + bytes);
    out.object(|o| {
        o.text("type", "presence");
        members_fields(o, channel, members, total);
    });
    out.finish()
}

/// The body of `GET /presence`.
pub(crate) fn presence_body(channel: &Channel, members: &[String], total: usize) -> String {
    object(|o| members_fields(o, channel, members, total))
}

fn members_fields(o: &mut JsonWriter, channel: &Channel, members: &[String], total: usize) {
    o.text("channel", channel.as_str());
    o.name("members")
        .array(|a| members.iter().for_each(|member| a.raw_item(member)));
    o.number("total", total as u64);
}

/// Who came, changed and went, by the name of what they did.
pub(crate) fn presence<'a>(
    channel: &Channel,
    moves: impl IntoIterator<Item = (&'static str, Vec<&'a str>)>,
) -> String {
    object(|o| {
        o.text("type", "presence");
        o.text("channel", channel.as_str());
        for (what, members) in moves.into_iter().filter(|(_, members)| !members.is_empty()) {
            o.name(what)
                .array(|a| members.iter().for_each(|member| a.raw_item(member)));
        }
    })
}

/// What a subscriber passes to the others.
pub(crate) fn signal(
    channel: &Channel,
    event: &str,
    session: &SessionId,
    identity: Option<&Identity>,
    data: &str,
) -> String {
    object(|o| {
        o.text("type", "signal");
        o.text("channel", channel.as_str());
        o.text("event", event);
        o.text("session", session.as_str());
        o.opt_text("identity", identity.map(Identity::as_str));
        o.raw("data", data);
    })
}

/// Something changed outside: subscribe again with the cursor.
pub(crate) fn channel_change(channel: &Channel) -> String {
    object(|o| {
        o.text("type", "channel-change");
        o.text("channel", channel.as_str());
    })
}

/// The body of `GET /api/sync/session`.
pub(crate) fn session(
    identity: Option<&Identity>,
    expires_at: Option<Millis>,
    space: &Space,
) -> String {
    object(|o| {
        o.opt_text("identity", identity.map(Identity::as_str));
        expiry(o, expires_at);
        o.text("space", space.as_str());
    })
}
