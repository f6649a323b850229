//! Steps of the app behind the home: it writes, publishes, and tells of what it did.

use serde_json::{Map, Value, json};
use tidewire::{Audience, Call, Topics};

use super::client::Client;
use super::game::{Game, Turn};
use super::step::{Action, Item, TEAMS};
use super::world::World;
use super::world::home::audience;
use super::write::key;

impl Game {
    /// The app writes a row of its home. What the row was and is now, or nothing if there is
    /// nothing to write.
    fn app_writes(&mut self, item: &Item) -> Option<(Option<Map<String, Value>>, Value)> {
        let key = key(item.channel, item.key);
        let place = (item.channel.to_owned(), key.clone());
        let held = self
            .w
            .home
            .rows
            .get(&place)
            .and_then(|row| row.data.clone());
        let (now, row) = (self.home, Self::row(item.channel, &key));
        if item.action == Action::Delete {
            held.as_ref()?;
            self.race(item.channel, &key);
            self.w.home.remove(item.channel, &key, now);
            self.truth.wrote(&row, None);
            return Some((held, Value::Null));
        }
        let mut data = held.clone().unwrap_or_default();
        let create = Item {
            action: match held.is_some() {
                true => item.action,
                false => Action::Create,
            },
            ..*item
        };
        let fields = self.fields(&create);
        data.extend(fields.as_object().unwrap().clone());
        data.insert("id".to_owned(), json!(key));
        self.race(item.channel, &key);
        self.truth.wrote(&row, Some(&data));
        let data = Value::Object(data);
        self.w.home.put(item.channel, data.clone(), now);
        Some((held, data))
    }

    /// Whether the log holds a row as it is.
    fn log_holds(&self, channel: &str, key: &str, data: &Map<String, Value>) -> bool {
        let value = data["v"].as_str().unwrap();
        let sql = format!(
            "SELECT count(*) FROM rows WHERE channel = '{channel}' AND key = '{key}'
             AND data LIKE '%\"{value}\"%'"
        );
        self.w.sqlite.number(&sql) == 1
    }

    pub(crate) fn publish(&mut self, item: &Item) {
        let Some((held, data)) = self.app_writes(item) else {
            return;
        };
        let key = key(item.channel, item.key);
        let action = match (&held, data.is_null()) {
            (_, true) => "delete",
            (None, false) => "create",
            (Some(_), false) => "update",
        };
        let mut body = json!({ "channel": item.channel, "action": action, "key": key });
        let of = data.as_object().or(held.as_ref()).unwrap();
        if !data.is_null() {
            body["data"] = data.clone();
        }
        if item.channel != "todos" && (data.is_null() || item.channel == "team:x") {
            body["to"] = match audience(item.channel, of) {
                Audience::All => json!("all"),
                Audience::Topics(topics) => {
                    topics.iter().map(|topic| json!(topic.as_str())).collect()
                }
            };
        }
        // Who loses sight of a row that the log does not hold, only the home can tell.
        let known = held.is_none_or(|held| self.log_holds(item.channel, &key, &held));
        self.publishing = Some(Self::row(item.channel, &key));
        let turn = self.operate(Call::Broadcast, &body);
        self.cov.hit("publishes");
        let done = turn.handled && !turn.failed;
        self.settle();
        self.publishing = None;
        if !done || !known && item.channel != "todos" {
            self.tell(item.channel);
        }
    }

    pub(crate) fn write_outside(&mut self, item: &Item) {
        if self.app_writes(item).is_some() {
            self.untold.insert(item.channel);
            let row = Self::row(item.channel, &key(item.channel, item.key));
            self.truth.raced.insert(row, u64::MAX);
            self.cov.hit("writes outside");
        }
    }

    /// A call. What it was answered where it was done, and nothing where nobody knows.
    fn operate(&mut self, path: Call, body: &Value) -> Turn<Option<Value>> {
        let turn = self.turn(|w| w.try_call(path, body.to_string(), None));
        let status = turn.answer.as_ref().map(|reply| reply.status);
        let refused = status == Some(503) && turn.failed;
        assert!(
            refused || matches!(status, None | Some(200)),
            "{:?} {body}",
            turn.answer
        );
        let answer = turn.answer.filter(|_| !refused);
        Turn {
            answer: answer.map(|reply| serde_json::from_str(&reply.body).unwrap()),
            handled: turn.handled,
            failed: refused,
            crashed: turn.crashed,
        }
    }

    /// The app tells that a channel has changed outside, until it is heard.
    pub(crate) fn tell(&mut self, channel: &'static str) {
        for _ in 0..3 {
            self.doubts.insert(channel);
            for asked in self.asked.iter_mut().filter(|asked| asked.open) {
                asked.raced |= asked.channel == channel;
            }
            let turn = self.operate(Call::BroadcastChange, &json!({ "channel": channel }));
            self.settle();
            if turn.handled && !turn.failed && !turn.crashed {
                self.untold.remove(channel);
                self.close_races();
                self.cov.hit("told of changes outside");
                return;
            }
        }
        panic!("{channel} changed and nobody listens");
    }

    pub(crate) fn reset(&mut self, channel: &'static str) {
        self.operate(Call::BroadcastReset, &json!({ "channel": channel }));
        self.settle();
        self.cov.hit("resets");
    }

    pub(crate) fn renew_epoch(&mut self) {
        let turn = self.operate(Call::Epoch, &json!({}));
        let told = turn.answer.map(|answer| answer["epoch"].clone());
        let told = match told.filter(Value::is_string) {
            // Nobody knows whether it came to that.
            None if self.w.crash_after.is_none() => self.turn(World::stats).answer["epoch"].clone(),
            told => told.unwrap_or_default(),
        };
        if let Some(epoch) = told.as_str() {
            self.epoch = epoch.to_owned();
        }
        self.settle();
        self.cov.hit("epochs");
    }

    pub(crate) fn change_topics(&mut self, identity: &'static str, add: u64, remove: u64) {
        let topics = |bits: u64| -> Vec<String> {
            let picked = TEAMS.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
            picked.map(|(_, team)| format!("team:{team}")).collect()
        };
        let (add, remove) = (topics(add & !remove), topics(remove));
        let body = json!({ "identity": identity, "add": add, "remove": remove });
        let lives = |client: &Client| client.is_connected();
        let open: Vec<bool> = self.clients.iter().map(lives).collect();
        let turn = self.operate(Call::Topics, &body);
        if turn.handled && !turn.failed {
            let now = self.w.now.0;
            for topic in &remove {
                let until = self.removed.entry((identity, topic.clone())).or_default();
                *until = now.max(*until);
            }
            for topic in &add {
                self.removed.remove(&(identity, topic.clone()));
            }
            for (client, open) in self.clients.iter_mut().zip(open) {
                // What waits over HTTP has an earlier token, which loses topics and gains none.
                let waits = client.requests.iter().any(|request| request.conn.is_some());
                let waits = waits && client.issued <= now;
                if client.identity == identity && (open || waits) {
                    let kept = client.topics.iter().map(tidewire::Topic::as_str);
                    let kept = kept.filter(|topic| !remove.iter().any(|gone| gone == topic));
                    let gained = add.iter().map(String::as_str).filter(|_| open);
                    let all = kept
                        .chain(gained)
                        .filter(|topic| topic.starts_with("team:"));
                    let who = tidewire::Identity::parse(identity).unwrap();
                    client.topics = Topics::granted(Some(&who), all).unwrap();
                }
            }
            self.cov.hit("topics of live sessions");
        }
        self.settle();
    }
}
