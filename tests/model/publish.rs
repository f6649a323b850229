//! Steps of publishers.

use serde_json::{Value, json};
use tidewire::{Call as Path, Reply};

use super::client::Via;
use super::copy::Cursor;
use super::game::{Game, Turn};
use super::operate::{audience, wire};
use super::oracle::{Outcome, Wish};
use super::step::{Action, Item};

/// A call with an idempotency key.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    path: Path,
    body: Value,
    key: Option<String>,
    wishes: Vec<Wish>,
    /// Whether the body names another space.
    elsewhere: bool,
}

impl Call {
    fn of(wishes: Vec<Wish>, key: Option<String>, elsewhere: bool) -> Self {
        let change = |wish: &Wish| {
            let mut change = json!({ "action": wish.action.name(), "key": wish.key });
            if !wish.data.is_null() {
                change["data"] = wish.data.clone();
            }
            if let Some(to) = &wish.to {
                change["to"] = wire(to);
            }
            change
        };
        let event = |wish: &Wish| {
            let mut event = change(wish);
            event["channel"] = json!(wish.channel);
            event
        };
        let one_channel = wishes.iter().all(|wish| wish.channel == wishes[0].channel);
        let (path, mut body) = match wishes.as_slice() {
            [one] => (Path::Broadcast, event(one)),
            many if one_channel => {
                let changes: Vec<Value> = many.iter().map(change).collect();
                let body = json!({ "channel": many[0].channel, "changes": changes });
                (Path::BroadcastBatch, body)
            }
            many => {
                let events: Vec<Value> = many.iter().map(event).collect();
                (Path::BroadcastBatch, json!({ "events": events }))
            }
        };
        if elsewhere {
            body["space"] = json!("elsewhere");
        }
        Self {
            path,
            body,
            key,
            wishes,
            elsewhere,
        }
    }
}

impl Game {
    /// Whether the engine still knows what came of this id.
    pub(crate) fn remembers(&self, s: usize, id: &str) -> bool {
        let count = |table: &str| format!("(SELECT count(*) FROM {table} WHERE id = '{id}')");
        let both = format!("SELECT {} + {}", count("outcomes_0"), count("outcomes_1"));
        self.worlds[s].sqlite.number(&both) > 0
    }

    pub(crate) fn publish(&mut self, s: usize, items: &[Item], key: bool, elsewhere: bool) {
        let wishes = items.iter().map(|item| Wish {
            to: item.to.map(audience),
            ..self.wish(s, item)
        });
        let wishes = wishes.collect();
        let key = key.then(|| self.name("p"));
        let call = Call::of(wishes, key, elsewhere);
        if call.key.is_some() {
            self.calls[s].push(call.clone());
        }
        self.call(s, &call);
    }

    pub(crate) fn republish(&mut self, s: usize, back: usize, altered: bool) {
        let Some(mut call) = self.calls[s].iter().rev().nth(back).cloned() else {
            return;
        };
        if altered {
            call.body["remark"] = json!(self.name("r"));
        }
        self.call(s, &call);
    }

    fn call(&mut self, s: usize, call: &Call) {
        let (path, body) = (call.path, call.body.to_string());
        let key = call.key.clone();
        let remembered = key.as_ref().is_some_and(|key| self.remembers(s, key));
        let turn = self.turn(s, |w| w.try_call(path, &body, key.as_deref()));
        if let Some(reply) = self.reply(&turn) {
            let (status, result, receivers) = reply;
            self.called(s, call, remembered, status, &result, receivers);
        }
        self.settle(s, &turn);
    }

    /// The status and the body that a publish gave; nothing where storage failed, a null where
    /// the object crashed after it.
    fn reply(&self, turn: &Turn<Option<Reply>>) -> Option<(u16, Value, bool)> {
        if !turn.handled {
            return None;
        }
        match &turn.answer {
            Some(reply) if turn.failed => {
                assert_eq!(reply.status, 503, "{}", reply.body);
                None
            }
            Some(reply) => {
                let body = serde_json::from_str(&reply.body).unwrap();
                Some((reply.status, body, true))
            }
            None => Some((0, Value::Null, false)),
        }
    }

    /// Holds what came of a publish against what must come of it.
    fn called(
        &mut self,
        s: usize,
        call: &Call,
        remembered: bool,
        status: u16,
        result: &Value,
        answered: bool,
    ) {
        let id = call.key.clone().map(|key| ("publisher".to_owned(), key));
        let content = format!("{:?} {}", call.path, call.body);
        let known = id
            .as_ref()
            .and_then(|id| self.spaces[s].outcomes.get(id).cloned());
        if let Some(outcome) = known.filter(|o| self.spaces[s].must_know(o) || remembered) {
            if outcome.content != content {
                self.cov.hit("idempotency keys used for other content");
                assert!(!answered || status == 409, "{status} {result}");
                return;
            }
            self.cov.hit("idempotent repeats");
            // Where the first answer was lost in a crash, nobody knows how many it had reached.
            let first = outcome.result.as_ref().filter(|_| answered);
            assert!(
                !answered || (status == 200 && result["seq"] == outcome.seq),
                "{result}"
            );
            assert!(
                first.is_none_or(|first| first == result),
                "{first:?} {result}"
            );
            return;
        }
        let judged = self.spaces[s].judge_publish(&call.wishes);
        let changes = match judged {
            Ok(_) if call.elsewhere => {
                assert!(!answered || result["error"]["field"] == "space", "{result}");
                return;
            }
            Ok(changes) => changes,
            Err(place) => {
                self.cov.hit_if("batches refused as a whole", place > 0);
                let named = result["error"]["field"].as_str().unwrap_or_default();
                let blamed = call.wishes.len() == 1 || named.contains(&format!("[{place}]"));
                let right = status == 400 && (blamed || call.elsewhere);
                assert!(!answered || right, "{place} is bad: {status} {result}");
                return;
            }
        };
        let changes = self.commit(s, changes);
        let receivers = self.tell(s, &changes, None);
        let head = self.spaces[s].head;
        if answered {
            let cursor = Cursor::of(result);
            assert_eq!((&cursor.epoch, cursor.seq), (&self.spaces[s].epoch, head));
            let right = json!({ "cursor": cursor.text, "seq": head, "receivers": receivers });
            assert_eq!((status, result), (200, &right), "{}", call.body);
            self.cov.hit("publishes");
            self.cov.hit_if("batches", call.wishes.len() > 1);
        }
        if let Some(id) = id {
            let outcome = Outcome {
                content,
                seq: head,
                result: answered.then(|| result.clone()),
                at: self.now(s),
            };
            self.spaces[s].outcomes.insert(id, outcome);
        }
    }

    /// Rows that fill more than one frame, for as long as one step.
    pub(crate) fn bulk(&mut self, s: usize) {
        const ROWS: u64 = 8;
        let filler = "x".repeat(120_000);
        for place in super::http::READERS {
            // Nor any that somebody waits for.
            let client = &self.clients[place];
            if client.via == Via::Wait && client.space == s && client.reads == "todos" {
                self.leave(place);
            }
        }
        // Once more for each crash and failure that may be on its way: no page may meet these rows.
        for action in [
            Action::Create,
            Action::Delete,
            Action::Delete,
            Action::Delete,
        ] {
            let wish = |n: u64| Wish {
                channel: "todos",
                key: format!("k~{s}~0~{}", 50 + n),
                action,
                data: match action {
                    Action::Delete => Value::Null,
                    Action::Create | Action::Update => json!({ "v": "", "filler": filler }),
                },
                to: None,
            };
            let is_held = self.spaces[s]
                .rows
                .contains_key(&("todos", format!("k~{s}~0~50")));
            if action == Action::Delete && !is_held {
                break;
            }
            let call = Call::of((0..ROWS).map(wish).collect(), None, false);
            let live = self
                .clients
                .iter()
                .any(|c| c.space == s && c.is_live("todos"));
            self.cov
                .hit_if("batches in parts", live && action == Action::Create);
            self.call(s, &call);
        }
    }
}
