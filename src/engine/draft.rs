//! What a client may make of a row: the change that a mutation is, judged against the row as it is.
//!
//! The same for rows that the log holds and for those of a table elsewhere.

use std::cmp::Ordering;

use serde_json::value::RawValue;

use super::change::Draft;
use crate::audience::Audience;
use crate::channel::{Keep, Rule, Scope};
use crate::digest;
use crate::names::{Channel, Key};
use crate::protocol::{Action, Code, Fields, MutateMessage, Problem, key_of, text_of};
use crate::row;
use crate::session::Asker;
use crate::store::StoredRow;

/// A mutation whose shape is right.
#[derive(Debug)]
pub(crate) struct Wish<'a> {
    pub(crate) channel: &'a Channel,
    pub(crate) action: Action,
    pub(crate) key: Key,
    /// The row of a create, the fields of an update; as JSON.
    pub(crate) data: Option<&'a str>,
}

impl<'a> Wish<'a> {
    pub(crate) fn read(message: &'a MutateMessage<'a>) -> Result<Self, Problem> {
        let object = || Problem::invalid("data", "must be an object without doubled fields");
        row::check_length(message.data)?;
        let fields = message.data.map(|raw| Fields::parse(raw.get()));
        let id = match (fields, message.action) {
            (Some(Ok(fields)), Action::Create) => match fields.get("id") {
                None => return Err(Problem::invalid("id", "a create needs data.id")),
                id => id,
            },
            (Some(Ok(fields)), Action::Update) => fields.get("id"),
            (_, Action::Create | Action::Update) => return Err(object()),
            (Some(Err(_)), Action::Delete) => return Err(object()),
            (fields, Action::Delete) => fields.and_then(Result::ok).and_then(|f| f.get("id")),
        };
        let key = key_of(message.key.as_deref(), id)?;
        Ok(Self {
            channel: &message.channel,
            action: message.action,
            key,
            data: message.data.map(RawValue::get),
        })
    }

    /// The digest of its content.
    pub(crate) fn hash(&self) -> String {
        digest::content(&[
            self.channel.as_str(),
            self.action.as_str(),
            self.key.as_str(),
            self.data.unwrap_or_default(),
        ])
    }

    /// Whether the writer may see a row of the channel. What it may not see, it must not learn of.
    pub(crate) fn sees(&self, rule: &Rule, who: &Asker<'_>, row: &StoredRow) -> bool {
        rule.may_read(self.channel, who).is_ok() && row.audience.sees(who.topics)
    }

    /// The change that the writer may make of what the log holds.
    pub(crate) fn draft(
        &self,
        rule: &Rule,
        who: &Asker<'_>,
        held: Option<&StoredRow>,
        row_bytes: usize,
    ) -> Result<Draft, Problem> {
        let events = rule.keep == Keep::Every;
        if events && !rule.edits && self.action != Action::Create {
            return Err(Problem::invalid(
                "action",
                "events of this channel are not changed",
            ));
        }
        let live = held.and_then(|row| Some((row, row.data.as_deref()?)));
        let visible = live.filter(|(row, _)| self.sees(rule, who, row));
        if let Some((_, current)) = visible {
            self.check_timestamp(rule, current)?;
        }
        // The key of an event that was deleted is as used as any.
        let taken = held.filter(|row| events || row.data.is_some());
        let data = match (self.action, visible) {
            (Action::Create, _) if taken.is_some_and(|row| !self.sees(rule, who, row)) => {
                return Err(Problem::new(Code::Forbidden, "this key is taken"));
            }
            (Action::Create, _) if events && taken.is_some() => {
                return Err(Problem::new(Code::Conflict, "this key was used before"));
            }
            (Action::Create, _) => Some(row::create(&self.key, self.json(), row_bytes)?),
            (Action::Update, Some((_, current))) => {
                Some(row::merge(current, self.json(), row_bytes)?)
            }
            (Action::Delete, Some(_)) => None,
            (Action::Update | Action::Delete, None) => {
                return Err(Problem::new(Code::NotFound, "no such row"));
            }
        };
        let kept = visible.map(|(row, _)| row.audience.clone());
        let audience = match (&rule.scope, &data) {
            (Scope::Field(scope), Some(data)) => {
                let fields = Fields::parse(data).unwrap_or_default();
                let missing = || Problem::invalid(&scope.field, "is missing: it scopes the row");
                let audience = rule.audience_of(&fields)?.ok_or_else(missing)?;
                if !scope.leave && !audience.sees(who.topics) {
                    let message = "a write must keep the row in its writer's sight";
                    return Err(Problem::new(Code::Forbidden, message));
                }
                audience
            }
            (Scope::All, _) | (Scope::Field(_), None) => kept.unwrap_or(Audience::All),
        };
        Ok(Draft {
            channel: self.channel.clone(),
            key: self.key.clone(),
            action: self.action,
            data,
            audience,
            by: who.identity.cloned(),
        })
    }

    pub(crate) fn json(&self) -> &str {
        self.data.unwrap_or("null")
    }

    /// Where the channel orders writes by a field, refuses one that is older than the row.
    fn check_timestamp(&self, rule: &Rule, current: &str) -> Result<(), Problem> {
        let Some(field) = &rule.timestamp else {
            return Ok(());
        };
        let new = Fields::parse(self.json()).unwrap_or_default();
        let old = Fields::parse(current).unwrap_or_default();
        let (new, old) = match (new.get(field), old.get(field)) {
            (None, _) if self.action == Action::Delete => return Ok(()),
            (None, _) => return Err(Problem::invalid(field, "is missing: it orders writes")),
            (Some(_), None) => return Ok(()),
            (Some(new), Some(old)) => (new, old),
        };
        match compare_times(new, old) {
            None => Err(Problem::invalid(
                field,
                "must be a number or a text, as in the row",
            )),
            Some(Ordering::Less) => Err(Problem {
                current: Some(current.to_owned()),
                ..Problem::new(Code::Conflict, "the row is newer than this write")
            }),
            Some(Ordering::Equal | Ordering::Greater) => Ok(()),
        }
    }
}

/// Compares two numbers, or two texts in the order of their characters (ISO dates of one form).
fn compare_times(new: &RawValue, old: &RawValue) -> Option<Ordering> {
    if let (Some(new), Some(old)) = (text_of(new), text_of(old)) {
        return Some(new.cmp(&old));
    }
    let number = |raw: &RawValue| serde_json::from_str::<f64>(raw.get()).ok();
    number(new)?.partial_cmp(&number(old)?)
}
