//! The oracle: what a space must hold and whom it must tell, from a full log of its changes.
//! It knows the contract and nothing of how the engine keeps its rows.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::rules::{self, Audience, Eyes, Topics};
use super::step::Action;

/// A change as it is asked for; after its commit with seq and time.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) channel: &'static str,
    pub(crate) key: String,
    pub(crate) action: Action,
    /// The full row after the change; null for a delete.
    pub(crate) data: Value,
    /// Who could see the row before, where there was one.
    pub(crate) before: Option<Audience>,
    pub(crate) after: Audience,
    pub(crate) by: Option<&'static str>,
    pub(crate) seq: u64,
    pub(crate) at: u64,
}

/// What one asks for: the fields of a change before anything is known of the row.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) channel: &'static str,
    pub(crate) key: String,
    pub(crate) action: Action,
    pub(crate) data: Value,
    /// A publisher's `to`.
    pub(crate) to: Option<Audience>,
}

/// For which seqs a row was how, and for whom.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) until: Option<u64>,
    pub(crate) audience: Audience,
    pub(crate) data: Value,
}

/// A request that was executed, under its owner's id.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    pub(crate) content: String,
    pub(crate) seq: u64,
    /// The answer of a call.
    pub(crate) result: Option<Value>,
    pub(crate) at: u64,
}

type Rows = BTreeMap<(&'static str, String), Change>;
type Graves = BTreeMap<(&'static str, String), (u64, Audience)>;

#[derive(Debug, Default)]
pub(crate) struct Space {
    pub(crate) head: u64,
    pub(crate) clock: u64,
    /// The latest time that the space has seen.
    pub(crate) latest: u64,
    pub(crate) epoch: String,
    /// The rows that there are, each as its last change.
    pub(crate) rows: Rows,
    pub(crate) past: BTreeMap<(&'static str, String), Vec<Version>>,
    /// Who could see the events that were deleted: their keys stay used. With the seq of the end.
    pub(crate) graves: Graves,
    /// Every change, in order.
    pub(crate) log: Vec<Change>,
    /// Up to where the events of a channel were trimmed, and how they were.
    pub(crate) trimmed: BTreeMap<&'static str, u64>,
    pub(crate) old: BTreeMap<(&'static str, String), Vec<Value>>,
    pub(crate) resets: BTreeMap<&'static str, u64>,
    pub(crate) outcomes: BTreeMap<(String, String), Outcome>,
    pub(crate) refused: BTreeMap<&'static str, u64>,
    pub(crate) removed: BTreeMap<(&'static str, String), u64>,
    pub(crate) views: BTreeMap<String, Eyes>,
}

impl Space {
    fn held(rows: &Rows, wish: &Wish) -> Option<Change> {
        rows.get(&(wish.channel, wish.key.clone())).cloned()
    }

    /// The change that a client may make, or the codes of which one refuses it.
    pub(crate) fn judge_mutation(
        &self,
        eyes: &Eyes,
        wish: &Wish,
    ) -> Result<Change, Vec<&'static str>> {
        if let Some(code) = rules::refused_write(wish.channel, eyes) {
            return Err(vec![code]);
        }
        let rule = rules::rule(wish.channel).unwrap();
        if rule.events && !rule.edits && wish.action != Action::Create {
            return Err(vec!["invalid"]);
        }
        let held = Self::held(&self.rows, wish);
        let readable = rules::refused_read(wish.channel, eyes).is_none();
        let visible = held.clone().filter(|row| readable && eyes.see(&row.after));
        if wish.action != Action::Create && visible.is_none() {
            return Err(vec!["not_found"]);
        }
        let mut codes = Vec::new();
        if let Some((_, saw)) = self.graves.get(&(wish.channel, wish.key.clone()))
            && wish.action == Action::Create
        {
            codes.push(if readable && eyes.see(saw) {
                "conflict"
            } else {
                "forbidden"
            });
        }
        if wish.action == Action::Create {
            match (&held, &visible) {
                (Some(_), None) => codes.push("forbidden"),
                (Some(_), Some(_)) if rule.events => codes.push("conflict"),
                _ => {}
            }
        }
        if let Some(row) = visible.as_ref().filter(|_| rule.timed) {
            match (wish.data["t"].as_u64(), row.data["t"].as_u64()) {
                (None, _) if wish.action != Action::Delete => codes.push("invalid"),
                (Some(new), Some(old)) if new < old => codes.push("conflict"),
                _ => {}
            }
        }
        let data = result(wish, visible.as_ref());
        let kept = visible.as_ref().map(|row| row.after.clone());
        let after = match (rule.field, wish.action) {
            (Some(_), Action::Create | Action::Update) => match rule.scope(&data) {
                None => {
                    codes.push("invalid");
                    None
                }
                Some(topics) => {
                    let after = Some(topics);
                    if !rule.leave && !eyes.see(&after) {
                        codes.push("forbidden");
                    }
                    after
                }
            },
            _ => kept.unwrap_or(None),
        };
        match codes.is_empty() {
            true => Ok(change(wish, held, data, after, eyes.identity)),
            false => Err(codes),
        }
    }

    /// The changes that a publish makes, or the place of the first bad one.
    pub(crate) fn judge_publish(&self, wishes: &[Wish]) -> Result<Vec<Change>, usize> {
        let mut rows = self.rows.clone();
        let mut graves: BTreeSet<_> = self.graves.keys().cloned().collect();
        let mut changes = Vec::new();
        for (place, wish) in wishes.iter().enumerate() {
            let id = (wish.channel, wish.key.clone());
            let change = match graves.contains(&id) {
                true => None,
                false => Self::judge_published(&rows, wish),
            };
            let change = change.ok_or(place)?;
            match wish.action {
                Action::Delete => {
                    rows.remove(&id);
                    if rules::rule(wish.channel).unwrap().events {
                        graves.insert(id);
                    }
                }
                Action::Create | Action::Update => _ = rows.insert(id, change.clone()),
            }
            changes.push(change);
        }
        Ok(changes)
    }

    fn judge_published(rows: &Rows, wish: &Wish) -> Option<Change> {
        let rule = rules::rule(wish.channel)?;
        let held = Self::held(rows, wish);
        let creates = wish.action == Action::Create;
        if rule.events && ((creates && held.is_some()) || (!creates && !rule.edits)) {
            return None;
        }
        let keeps = held.as_ref().map(|row| row.after.clone());
        let by_rule = rule.field.is_none().then_some(None);
        let after = match wish.action {
            Action::Delete => keeps.or(wish.to.clone()).or(by_rule)?,
            Action::Create | Action::Update => {
                let by_field = rule.scope(&wish.data).map(Some);
                wish.to.clone().or(by_field).or(keeps).or(by_rule)?
            }
        };
        let data = result(wish, held.as_ref());
        Some(change(wish, held, data, after, None))
    }

    /// Takes a change into the log.
    pub(crate) fn commit(&mut self, mut change: Change, now: u64) -> Change {
        (change.seq, change.at) = self.advance(now);
        let id = (change.channel, change.key.clone());
        let past = self.past.entry(id.clone()).or_default();
        if let Some(last) = past.last_mut() {
            last.until.get_or_insert(change.seq);
        }
        let gone = change.action == Action::Delete;
        // Of a row that it does not hold, a publisher's delete still tells the key.
        if !gone || change.before.is_none() {
            past.push(Version {
                until: gone.then_some(change.seq),
                audience: change.after.clone(),
                data: change.data.clone(),
            });
        }
        match gone {
            true => {
                self.rows.remove(&id);
                if rules::rule(change.channel).unwrap().events {
                    self.graves.insert(id, (change.seq, change.after.clone()));
                }
            }
            false => _ = self.rows.insert(id, change.clone()),
        }
        self.log.push(change.clone());
        change
    }

    pub(crate) fn advance(&mut self, now: u64) -> (u64, u64) {
        self.head += 1;
        self.clock = self.clock.max(now);
        (self.head, self.clock)
    }

    /// The rows of a channel that these eyes may see.
    pub(crate) fn visible(&self, channel: &'static str, eyes: &Eyes) -> BTreeMap<String, &Change> {
        let readable = rules::refused_read(channel, eyes).is_none();
        let rows = self.rows.range((channel, String::new())..);
        rows.take_while(|((of, _), _)| *of == channel)
            .filter(|(_, row)| readable && eyes.see(&row.after))
            .map(|((_, key), row)| (key.clone(), row))
            .collect()
    }

    /// Whether these eyes could see the row, or be told of its end, after `began`.
    pub(crate) fn could_see(
        &self,
        channel: &'static str,
        key: &str,
        eyes: &Eyes,
        began: u64,
    ) -> bool {
        let past = self.past.get(&(channel, key.to_owned()));
        past.into_iter()
            .flatten()
            .any(|v| v.until.is_none_or(|until| until > began) && eyes.see(&v.audience))
    }

    /// Whether a row with this value is, or was after `since`, in sight.
    pub(crate) fn may_learn(&self, mark: &str, eyes: &Eyes, since: u64) -> bool {
        self.past.iter().any(|((channel, _), versions)| {
            rules::refused_read(channel, eyes).is_none()
                && versions.iter().any(|v| {
                    let kept = rules::rule(channel).unwrap().edits;
                    (kept || v.until.is_none_or(|until| until > since))
                        && eyes.see(&v.audience)
                        && [&v.data["v"], &v.data["w"]]
                            .map(Value::as_str)
                            .contains(&Some(mark))
                })
        })
    }

    /// Whether what was executed then must still be known: for 24 hours.
    pub(crate) fn must_know(&self, outcome: &Outcome) -> bool {
        self.latest - outcome.at <= super::step::DAY
    }

    /// The seq of the channel's newest change that may have been trimmed by now.
    pub(crate) fn trimmable(&self, channel: &str) -> u64 {
        let old = |change: &&Change| {
            change.channel == channel && change.at + 7 * super::step::DAY <= self.latest
        };
        self.log
            .iter()
            .rev()
            .find(old)
            .map_or(0, |change| change.seq)
    }

    /// The topics that a token of this time grants; nothing if it is refused.
    pub(crate) fn standing(
        &self,
        identity: Option<&'static str>,
        asked: &Topics,
        issued_at: u64,
    ) -> Option<Topics> {
        let Some(identity) = identity else {
            return Some(Topics::new());
        };
        let thirty_days = 30 * super::step::DAY;
        let holds = |until: &u64| issued_at <= *until && issued_at < *until + thirty_days;
        if self.refused.get(identity).is_some_and(holds) {
            return None;
        }
        let mut topics = asked.clone();
        topics.retain(|topic| {
            !self
                .removed
                .get(&(identity, topic.clone()))
                .is_some_and(holds)
        });
        topics.insert(format!("user:{identity}"));
        Some(topics)
    }
}

/// The row that comes of a wish.
fn result(wish: &Wish, held: Option<&Change>) -> Value {
    let mut fields: Map<String, Value> = match (wish.action, held) {
        (Action::Delete, _) => return Value::Null,
        (Action::Update, Some(row)) => row.data.as_object().unwrap().clone(),
        (Action::Create, _) | (Action::Update, None) => Map::new(),
    };
    fields.extend(wish.data.as_object().unwrap().clone());
    fields.insert("id".to_owned(), json!(wish.key));
    Value::Object(fields)
}

fn change(
    wish: &Wish,
    held: Option<Change>,
    data: Value,
    after: Audience,
    by: Option<&'static str>,
) -> Change {
    Change {
        channel: wish.channel,
        key: wish.key.clone(),
        action: wish.action,
        data,
        before: held.map(|row| row.after),
        after,
        by,
        seq: 0,
        at: 0,
    }
}

impl Change {
    /// What the change is to these eyes, as its message says it; nothing if they may not know.
    pub(crate) fn seen_by(&self, eyes: &Eyes) -> Option<Value> {
        let saw = self.before.as_ref().is_some_and(|before| eyes.see(before));
        let told = |action: &str, data: &Value, by: Option<&str>| json!({ "action": action, "key": self.key, "data": data, "by": by, "at": self.at });
        match (eyes.see(&self.after), saw || self.before.is_none()) {
            (true, true) => Some(told(self.action.name(), &self.data, self.by)),
            (true, false) => Some(told("create", &self.data, self.by)),
            (false, _) => saw.then(|| told("delete", &Value::Null, None)),
        }
    }
}
