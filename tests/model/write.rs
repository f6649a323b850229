//! Steps of clients that write.

use serde_json::{Value, json};

use super::client::Expected;
use super::game::Game;
use super::marks::marks;
use super::oracle::{Outcome, Wish};
use super::rules;
use super::step::{Action, Item};

/// A mutation that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    space: usize,
    owner: String,
    pub(crate) id: String,
    pub(crate) message: Value,
    pub(crate) wish: Wish,
    /// The connection that it was sent on.
    conn: u32,
}

const PEOPLE: [&str; 3] = ["alice", "bob", "carol"];
const TEAMS: [&str; 3] = ["a", "b", "c"];

impl Sent {
    pub(crate) fn is_of(&self, space: usize, owner: &str) -> bool {
        self.space == space && self.owner == owner
    }
}

impl Game {
    /// What an item asks for, with values that nothing else has.
    pub(crate) fn wish(&mut self, s: usize, item: &Item) -> Wish {
        let rule = rules::rule(item.channel);
        let place = rules::CHANNELS
            .iter()
            .position(|channel| *channel == item.channel);
        let key = format!("k~{s}~{}~{}", place.unwrap_or(99), item.key);
        let mut data = json!({ item.field: self.name("v") });
        if let Some((field, prefix)) = rule.and_then(|rule| rule.field)
            && item.scope > 0
        {
            let names = if prefix == "user:" { PEOPLE } else { TEAMS };
            let named = names
                .iter()
                .enumerate()
                .filter(|(i, _)| item.scope >> i & 1 == 1);
            let named: Vec<&str> = named.map(|(_, name)| *name).collect();
            data[field] = match named.as_slice() {
                [one] => json!(one),
                many => json!(many),
            };
        }
        if let Some(t) = item.t.filter(|_| rule.is_some_and(|rule| rule.timed)) {
            data["t"] = json!(t);
        }
        Wish {
            channel: item.channel,
            key,
            action: item.action,
            data: if item.action == Action::Delete {
                Value::Null
            } else {
                data
            },
            to: None,
        }
    }

    pub(crate) fn mutate(&mut self, place: usize, item: &Item) {
        let Some((s, conn)) = self.conn(place).filter(|_| self.is_socket(place)) else {
            return;
        };
        let owner = match self.clients[place].eyes.identity {
            Some(identity) => format!("i{identity}"),
            None => format!("c{}", conn.0),
        };
        let sent = self.mutation(s, item, owner, conn.0);
        self.send_mutation(place, &sent);
    }

    /// A new mutation of an owner.
    pub(crate) fn mutation(&mut self, space: usize, item: &Item, owner: String, conn: u32) -> Sent {
        let wish = self.wish(space, item);
        let id = self.name("m");
        let mut message = json!({
            "type": "mutate", "id": id, "channel": wish.channel, "action": wish.action.name()
        });
        match wish.action {
            Action::Create => {
                message["data"] = wish.data.clone();
                message["data"]["id"] = json!(wish.key);
            }
            Action::Update => {
                message["key"] = json!(wish.key);
                message["data"] = wish.data.clone();
            }
            Action::Delete => message["key"] = json!(wish.key),
        }
        let sent = Sent {
            space,
            owner,
            id,
            message,
            wish,
            conn,
        };
        self.sent.push(sent.clone());
        sent
    }

    pub(crate) fn repeat(&mut self, place: usize, back: usize, altered: bool) {
        let Some((s, conn)) = self.conn(place).filter(|_| self.is_socket(place)) else {
            return;
        };
        let identity = self.clients[place].eyes.identity;
        let mine = |sent: &&Sent| {
            let of_session = sent.owner == format!("c{}", conn.0);
            sent.space == s && identity.map_or(of_session, |who| sent.owner == format!("i{who}"))
        };
        let Some(mut sent) = self.sent.iter().rev().filter(mine).nth(back).cloned() else {
            return;
        };
        self.cov
            .hit_if("repeats after reconnecting", sent.conn != conn.0);
        if altered {
            let value = json!(self.name("v"));
            match sent.wish.action {
                Action::Delete => {
                    sent.wish.key = format!("k~{s}~98~1");
                    sent.message["key"] = json!(sent.wish.key);
                }
                Action::Create | Action::Update => {
                    sent.message["data"]["w"] = value.clone();
                    sent.wish.data["w"] = value;
                }
            }
        }
        self.send_mutation(place, &sent);
    }

    fn send_mutation(&mut self, place: usize, sent: &Sent) {
        let Some((s, conn)) = self.conn(place) else {
            return;
        };
        let data = sent.wish.data.to_string();
        let named = &mut self.clients[place].named;
        named.push(sent.wish.key.clone());
        named.extend(marks(&data, "v~"));
        let message = sent.message.clone();
        let remembered = self.remembers(s, &sent.id);
        let turn = self.turn(s, |w| w.send(conn, message));
        if turn.handled && self.clients[place].is_open() {
            self.clients[place].spoke = true;
            match turn.failed {
                true => self.reject(place, sent, vec!["unavailable"]),
                false => self.answer(place, sent, remembered),
            }
        }
        self.settle(s, &turn);
    }

    fn reject(&mut self, place: usize, sent: &Sent, codes: Vec<&'static str>) {
        let (id, channel) = (sent.id.clone(), sent.wish.channel);
        self.clients[place]
            .expected
            .push(Expected::Reject { id, channel, codes });
    }

    /// What a mutation does and is answered with.
    ///
    /// Whether an outcome of more than 24 hours ago is still `remembered` is the engine's affair.
    pub(crate) fn answer(&mut self, place: usize, sent: &Sent, remembered: bool) {
        let s = sent.space;
        let (eyes, channel, wish) = (
            self.clients[place].eyes.clone(),
            sent.wish.channel,
            &sent.wish,
        );
        let key = (sent.owner.clone(), sent.id.clone());
        let content = sent.message.to_string();
        if rules::rule(channel).is_none() {
            return self.reject(place, sent, vec!["unknown_channel"]);
        }
        if let Some(outcome) = self.spaces[s].outcomes.get(&key).cloned() {
            let known = self.spaces[s].must_know(&outcome) || remembered;
            if known && outcome.content != content {
                self.cov.hit("ids used for other content");
                return self.reject(place, sent, vec!["conflict"]);
            }
            if known {
                let visible = self.spaces[s].visible(channel, &eyes);
                let data = visible
                    .get(&wish.key)
                    .map_or(Value::Null, |row| row.data.clone());
                self.cov.hit("replays");
                self.cov
                    .hit_if("replays of what is out of sight", data.is_null());
                self.clients[place].expected.push(Expected::Ack {
                    id: sent.id.clone(),
                    channel,
                    key: wish.key.clone(),
                    data,
                    seq: outcome.seq,
                    replayed: true,
                });
                return;
            }
        }
        let id = (channel, wish.key.clone());
        self.cov.hit_if(
            "keys of deleted events",
            self.spaces[s].graves.contains_key(&id),
        );
        let change = match self.spaces[s].judge_mutation(&eyes, wish) {
            Ok(change) => change,
            Err(codes) => {
                let held = self.spaces[s]
                    .rows
                    .contains_key(&(channel, wish.key.clone()));
                self.cov
                    .hit_if("hidden rows not found", held && codes == ["not_found"]);
                self.cov.hit_if(
                    "creates over hidden rows",
                    held && wish.action == Action::Create && codes.contains(&"forbidden"),
                );
                self.cov.hit_if("older writes", codes.contains(&"conflict"));
                return self.reject(place, sent, codes);
            }
        };
        self.cov.hit_if(
            "keys of trimmed events",
            change.before.is_none() && self.spaces[s].old.contains_key(&id),
        );
        let change = self.commit(s, vec![change]).remove(0);
        let outcome = Outcome {
            content,
            seq: change.seq,
            result: None,
            at: self.now(s),
        };
        self.spaces[s].outcomes.insert(key, outcome);
        let sees = eyes.see(&change.after);
        let data = match wish.action {
            _ if !sees => Value::Null,
            Action::Delete => json!({ "id": wish.key }),
            Action::Create | Action::Update => change.data.clone(),
        };
        self.cov.hit("mutations");
        let expected = &mut self.clients[place].expected;
        expected.push(Expected::Ack {
            id: sent.id.clone(),
            channel,
            key: wish.key.clone(),
            data,
            seq: change.seq,
            replayed: false,
        });
        if !sees && self.clients[place].is_live(channel) {
            self.cov.hit("writers out of sight");
            let gone = json!({
                "action": "delete", "key": wish.key, "data": null, "by": null, "at": change.at
            });
            self.clients[place].expected.push(Expected::Changes {
                channel,
                changes: vec![gone],
                least: change.seq,
                most: change.seq,
                of_log: true,
            });
        }
        self.tell(s, &[change], Some(place));
    }
}
