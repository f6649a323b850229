//! Fan-out: which connections receive which of the committed changes, each text encoded once.

use std::collections::{BTreeMap, BTreeSet};

use super::change::Committed;
use crate::audience::Audience;
use crate::cursor::Cursor;
use crate::hub::Hub;
use crate::limits;
use crate::names::{Channel, ConnId, Identity, Millis};
use crate::outbox::{Outgoing, Place};
use crate::protocol::{self, Action, ChangeFrame};
use crate::small_map::SmallMap;

/// What a change is to one of its receivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sight {
    /// It saw the row before, or the row is new: the change as it is.
    Same,
    /// The row has come into its sight: a create.
    Gained,
    /// The row has left its sight: a delete, and not a word about who and what.
    Lost,
}

/// Changes whose receivers are the same: by audience before and after.
type Class<'a> = (Option<&'a Audience>, &'a Audience);

/// The frames that tell `changes` to everyone live on their channels who may know, except the
/// one who made them, and how many connections that are.
pub(super) fn deliver(
    hub: &Hub,
    changes: &[Committed],
    except: Option<ConnId>,
) -> (Vec<Outgoing>, usize) {
    let mut channels: Vec<(&Channel, Vec<&Committed>)> = Vec::new();
    let mut places: BTreeMap<&Channel, usize> = BTreeMap::new();
    for change in changes {
        let channel = &change.draft.channel;
        let place = *places.entry(channel).or_insert_with(|| {
            channels.push((channel, Vec::new()));
            channels.len() - 1
        });
        if let Some((_, list)) = channels.get_mut(place) {
            list.push(change);
        }
    }
    let mut frames = Vec::new();
    let mut reached = BTreeSet::new();
    let mut count = 0;
    let several = channels.len() > 1;
    for (channel, changes) in channels {
        for (slots, to) in groups(hub, channel, &changes, except) {
            count += to.len();
            if several {
                reached.extend(to.iter().copied());
            }
            let Some(cursor) = last_seen(&changes, &slots) else {
                continue;
            };
            let texts = encode(channel, cursor, &changes, &slots, Parts::AsOne);
            let (hello, legacy) = match texts.len() {
                0 | 1 => (to, Vec::new()),
                _ => to.into_iter().partition(|conn| !hub.is_legacy(*conn)),
            };
            if !legacy.is_empty() {
                let texts = encode(channel, cursor, &changes, &slots, Parts::Apart);
                frames.extend(addressed(texts, &legacy, cursor));
            }
            if !hello.is_empty() {
                frames.extend(addressed(texts, &hello, cursor));
            }
        }
    }
    (frames, if several { reached.len() } else { count })
}

/// The parts of one message: the last leaves its receivers at the cursor.
fn addressed(texts: Vec<String>, to: &[ConnId], cursor: &Cursor) -> impl Iterator<Item = Outgoing> {
    let last = texts.len().saturating_sub(1);
    texts
        .into_iter()
        .enumerate()
        .map(move |(part, text)| Outgoing {
            to: to.to_vec(),
            text: text.into(),
            place: match part == last {
                true => Place::At(cursor.clone()),
                false => Place::Same,
            },
        })
}

fn class_of(change: &Committed) -> Class<'_> {
    (change.before.as_ref(), &change.draft.audience)
}

/// What of each class a group of connections sees.
type Sights<'a> = Vec<(Class<'a>, Sight)>;

/// Splits the channel's connections into groups that receive the same. The work is the number of
/// classes times their receivers, whatever the number of changes.
fn groups<'a>(
    hub: &Hub,
    channel: &Channel,
    changes: &[&'a Committed],
    except: Option<ConnId>,
) -> Vec<(Sights<'a>, Vec<ConnId>)> {
    let classes = changes.iter().map(|change| (class_of(change), ()));
    let classes: SmallMap<Class<'a>, ()> = classes.collect();
    let mut parts: Sights<'a> = Vec::new();
    let mut receivers: Vec<Vec<ConnId>> = Vec::new();
    for (class, ()) in classes {
        for (sight, mut to) in sights(hub, channel, class) {
            to.retain(|conn| Some(*conn) != except);
            parts.push((class, sight));
            receivers.push(to);
        }
    }
    let mut by_conn: BTreeMap<ConnId, Vec<usize>> = BTreeMap::new();
    if parts
        .iter()
        .any(|(class, _)| Some(class) != parts.first().map(|(first, _)| first))
    {
        for (part, to) in receivers.iter().enumerate() {
            for conn in to {
                by_conn.entry(*conn).or_default().push(part);
            }
        }
        let mut grouped: BTreeMap<Vec<usize>, Vec<ConnId>> = BTreeMap::new();
        for (conn, list) in by_conn {
            grouped.entry(list).or_default().push(conn);
        }
        let sights = |list: Vec<usize>| -> Sights<'a> {
            list.iter()
                .filter_map(|part| parts.get(*part).copied())
                .collect()
        };
        return grouped
            .into_iter()
            .map(|(list, to)| (sights(list), to))
            .collect();
    }
    // Of one class each connection has one part.
    let one = parts.into_iter().zip(receivers);
    one.filter(|(_, to)| !to.is_empty())
        .map(|(part, to)| (vec![part], to))
        .collect()
}

/// Who receives a class of changes, by what it is to them. No connection comes twice.
fn sights(hub: &Hub, channel: &Channel, (before, after): Class<'_>) -> Vec<(Sight, Vec<ConnId>)> {
    let now = hub.receivers(channel, after);
    let Some(before) = before.filter(|before| *before != after) else {
        return vec![(Sight::Same, now)];
    };
    let then = hub.receivers(channel, before);
    let among = |list: &[ConnId], conn: &ConnId| list.binary_search(conn).is_ok();
    let (kept, gained): (Vec<_>, Vec<_>) = now.into_iter().partition(|conn| among(&then, conn));
    let lost = then
        .into_iter()
        .filter(|conn| !among(&kept, conn))
        .collect();
    vec![
        (Sight::Same, kept),
        (Sight::Gained, gained),
        (Sight::Lost, lost),
    ]
}

impl Sight {
    /// What a change looks like to those who see it so.
    pub(super) fn of(self, change: ChangeFrame<'_>) -> ChangeFrame<'_> {
        match self {
            Self::Same => change,
            Self::Gained => ChangeFrame {
                action: Action::Create,
                ..change
            },
            Self::Lost => gone(change.key, change.at),
        }
    }
}

fn frame(change: &Committed, sight: Sight) -> ChangeFrame<'_> {
    sight.of(ChangeFrame {
        action: change.draft.action,
        key: change.draft.key.as_str(),
        data: change.draft.data.as_deref(),
        by: change.draft.by.as_ref().map(Identity::as_str),
        at: change.at,
    })
}

/// The cursor of the last change that a group may see: it must not count what it may not.
fn last_seen<'a>(changes: &[&'a Committed], sights: &Sights<'_>) -> Option<&'a Cursor> {
    let classes: SmallMap<Class<'_>, Sight> = sights.iter().copied().collect();
    let mut latest = changes.iter().rev();
    let last = latest.find(|change| classes.contains_key(&class_of(change)))?;
    Some(&last.cursor)
}

/// The texts for one group: a `change`, or a `batch` in as many frames as it needs.
fn encode(
    channel: &Channel,
    cursor: &Cursor,
    changes: &[&Committed],
    sights: &Sights<'_>,
    parts: Parts,
) -> Vec<String> {
    let sights: SmallMap<Class<'_>, Sight> = sights.iter().copied().collect();
    let sight_of = |class| sights.get(&class).copied();
    let visible = changes
        .iter()
        .filter_map(|change| Some(frame(change, sight_of(class_of(change))?)));
    let visible: Vec<ChangeFrame<'_>> = visible.collect();
    encode_frames(channel, &visible, cursor, parts)
}

/// A `change`, or a `batch` in as many frames as it needs; nothing for no changes.
pub(super) fn encode_frames(
    channel: &Channel,
    changes: &[ChangeFrame<'_>],
    cursor: &Cursor,
    parts: Parts,
) -> Vec<String> {
    match changes {
        [] => Vec::new(),
        [one] => vec![protocol::change(channel, one, cursor)],
        changes => batches(channel, changes, cursor, parts),
    }
}

/// Keys that are gone, for a legacy client: a batch of deletes, also of one.
pub(super) fn legacy_deletes(
    channel: &Channel,
    keys: &[String],
    at: Millis,
    cursor: &Cursor,
) -> Vec<String> {
    let changes: Vec<ChangeFrame<'_>> = keys.iter().map(|key| gone(key, at)).collect();
    match changes.as_slice() {
        [] => Vec::new(),
        changes => batches(channel, changes, cursor, Parts::Apart),
    }
}

/// What becomes of a batch that is too large for a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parts {
    /// Its parts say `more` and are applied as one.
    AsOne,
    /// Each part is a batch by itself: legacy clients know no `more`.
    Apart,
}

fn batches(
    channel: &Channel,
    changes: &[ChangeFrame<'_>],
    cursor: &Cursor,
    parts: Parts,
) -> Vec<String> {
    let mut texts = Vec::new();
    let mut part: Vec<&ChangeFrame<'_>> = Vec::new();
    let mut bytes = BATCH_OVERHEAD;
    for change in changes {
        if !part.is_empty() && bytes + change.len() > limits::FRAME_OUT_BYTES {
            texts.push(protocol::batch_part(channel, &part, parts == Parts::AsOne));
            part.clear();
            bytes = BATCH_OVERHEAD;
        }
        bytes += change.len();
        part.push(change);
    }
    texts.push(protocol::batch(channel, &part, cursor));
    texts
}

/// A delete that says nothing but the key.
pub(super) fn gone(key: &str, at: Millis) -> ChangeFrame<'_> {
    ChangeFrame {
        action: Action::Delete,
        key,
        data: None,
        by: None,
        at,
    }
}

/// What a batch takes beside its changes: the channel's name, escaped, and the cursor.
const BATCH_OVERHEAD: usize = 6 * limits::CHANNEL_BYTES + 256;

/// A frame for a writer who has just written a row out of its own sight.
pub(super) fn lost_by_writer(change: &Committed) -> String {
    let frame = frame(change, Sight::Lost);
    protocol::change(&change.draft.channel, &frame, &change.cursor)
}
