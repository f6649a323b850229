//! Steps of operators.

use serde_json::{Value, json};
use tidewire::{Call as Path, Reply};

use super::client::Expected;
use super::game::{Game, Turn, topics};
use super::rules::{self, Audience, Topics};

/// A publisher's `to` by its bits.
pub(crate) fn audience(bits: u64) -> Audience {
    const NAMES: [&str; 5] = ["user:alice", "user:bob", "user:carol", "team:a", "team:b"];
    let picked = NAMES.iter().enumerate().filter(|(i, _)| bits >> i & 1 == 1);
    (bits > 0).then(|| picked.map(|(_, name)| (*name).to_owned()).collect())
}

pub(crate) fn wire(audience: &Audience) -> Value {
    audience
        .as_ref()
        .map_or(json!("all"), |topics| json!(topics))
}

impl Game {
    /// A call that publishes nothing. Whether it has happened.
    fn operate(&mut self, s: usize, path: Path, body: &Value) -> Turn<Option<Value>> {
        let turn = self.turn(s, |w| w.try_call(path, body.to_string(), None));
        let read = |reply: &Reply| -> Value {
            let status = if turn.failed { 503 } else { 200 };
            assert_eq!(reply.status, status, "{}", reply.body);
            serde_json::from_str(&reply.body).unwrap()
        };
        Turn {
            answer: turn.answer.as_ref().map(read),
            handled: turn.handled,
            failed: turn.failed,
            crashed: turn.crashed,
        }
    }

    /// Those in sight of the audience who are live on the channel get a notice.
    fn notify(
        &mut self,
        s: usize,
        channel: &'static str,
        to: &Audience,
        kind: &'static str,
    ) -> usize {
        let mut told = 0;
        for client in self.clients.iter_mut().filter(|c| c.space == s) {
            if client.is_live(channel) && client.eyes.see(to) {
                told += 1;
                client.expected.push(Expected::Notice {
                    channel,
                    kind,
                    reason: if kind == "channel-reset" {
                        json!("reset")
                    } else {
                        Value::Null
                    },
                    ends: false,
                });
            }
        }
        told
    }

    pub(crate) fn reset(&mut self, s: usize, channel: &'static str, to: Option<u64>) {
        if rules::rule(channel).is_none() {
            return;
        }
        let mut body = json!({ "channel": channel });
        let to = to.and_then(audience);
        if to.is_some() {
            body["to"] = wire(&to);
        }
        let turn = self.operate(s, Path::BroadcastReset, &body);
        if turn.handled && !turn.failed {
            let now = self.now(s);
            let (seq, _) = self.spaces[s].advance(now);
            self.spaces[s].resets.insert(channel, seq);
            let receivers = self.notify(s, channel, &to, "channel-reset");
            self.cov.hit("resets");
            if let Some(result) = &turn.answer {
                assert_eq!(
                    (&result["seq"], &result["receivers"]),
                    (&json!(seq), &json!(receivers))
                );
            }
        }
        self.settle(s, &turn);
    }

    pub(crate) fn changed(&mut self, s: usize, channel: &'static str) {
        if rules::rule(channel).is_none() {
            return;
        }
        let turn = self.operate(s, Path::BroadcastChange, &json!({ "channel": channel }));
        if turn.handled && !turn.failed {
            let receivers = self.notify(s, channel, &None, "channel-change");
            if let Some(result) = &turn.answer {
                assert_eq!(result["receivers"], json!(receivers));
            }
        }
        self.settle(s, &turn);
    }

    pub(crate) fn disconnect(&mut self, s: usize, identity: Option<&'static str>) {
        let body = match identity {
            Some(identity) => json!({ "identity": identity, "reason": "said the test" }),
            None => json!({ "all": true }),
        };
        let turn = self.operate(s, Path::Disconnect, &body);
        if turn.handled && !turn.failed {
            let mut closed = 0;
            for client in self
                .clients
                .iter_mut()
                .filter(|c| c.space == s && c.is_open())
            {
                if identity.is_none() || client.eyes.identity == identity {
                    client.closing = Some(if identity.is_some() { 4505 } else { 4000 });
                    closed += 1;
                }
            }
            if let Some(identity) = identity {
                let until = self.spaces[s].refused.entry(identity).or_default();
                *until = (*until).max(self.worlds[s].now.0);
            }
            if let Some(result) = &turn.answer {
                assert_eq!(result["disconnected"], json!(closed));
            }
            self.cov.hit("disconnects");
        }
        self.settle(s, &turn);
    }

    pub(crate) fn change_topics(
        &mut self,
        s: usize,
        identity: &'static str,
        add: u64,
        remove: u64,
    ) {
        let (add, remove): (Topics, Topics) = (topics(0, add & !remove), topics(0, remove));
        let body = json!({ "identity": identity, "add": add, "remove": remove });
        let turn = self.operate(s, Path::Topics, &body);
        if turn.handled && !turn.failed {
            let now = self.now(s);
            let removed = &mut self.spaces[s].removed;
            for topic in &remove {
                let until = removed.entry((identity, topic.clone())).or_default();
                *until = (*until).max(now);
            }
            for topic in &add {
                removed.remove(&(identity, topic.clone()));
            }
            let mut sessions = 0;
            for place in 0..self.clients.len() {
                let client = &self.clients[place];
                if client.space == s && client.is_open() && client.eyes.identity == Some(identity) {
                    let kept = client.eyes.topics.difference(&remove).cloned();
                    let topics = kept.chain(add.clone()).collect();
                    let expires_at = client.expires_at.unwrap();
                    self.see_with(place, topics, expires_at);
                    sessions += 1;
                }
            }
            self.cov.hit_if("topics of live sessions", sessions > 0);
            if let Some(result) = &turn.answer {
                assert_eq!(result["sessions"], json!(sessions));
            }
        }
        self.settle(s, &turn);
    }

    pub(crate) fn renew_epoch(&mut self, s: usize) {
        let turn = self.operate(s, Path::Epoch, &json!({}));
        if turn.handled && !turn.failed {
            for client in self
                .clients
                .iter_mut()
                .filter(|c| c.space == s && c.is_open())
            {
                client.closing = Some(4000);
            }
            let told = turn.answer.as_ref().map(|result| result["epoch"].clone());
            let epoch = told.unwrap_or_else(|| self.worlds[s].stats()["epoch"].clone());
            let epoch = epoch.as_str().unwrap().to_owned();
            assert_ne!(epoch, self.spaces[s].epoch, "the same epoch again");
            self.cov.hit("epochs");
            self.spaces[s].epoch = epoch;
        }
        self.settle(s, &turn);
    }
}
