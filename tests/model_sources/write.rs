//! Steps of clients that write, over sockets and over HTTP.

use serde_json::{Value, json};
use tidewire::{ConnId, Reply};

use super::client::{Request, Wanted};
use super::game::Game;
use super::marks::marks;
use super::step::{Action, CHANNELS, Item, PEOPLE, TEAMS};

/// A mutation that was sent.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    identity: &'static str,
    id: String,
    channel: &'static str,
    key: String,
    message: Value,
}

/// Mutations over HTTP that were not answered yet.
#[derive(Debug)]
pub(crate) struct Posted {
    pub(crate) conn: ConnId,
    pub(crate) identity: &'static str,
    pub(crate) sent: Vec<Sent>,
}

/// A row's key, by its channel and number.
pub(crate) fn key(channel: &str, number: u64) -> String {
    let place = CHANNELS.iter().position(|c| *c == channel).unwrap();
    format!("k~{place}~{number}")
}

impl Game {
    /// The fields that an item writes, with a value that nothing else has.
    pub(crate) fn fields(&mut self, item: &Item) -> Value {
        let mut data = json!({ "v": self.name("v") });
        let named = |names: [&'static str; 3], scope: u64| -> Value {
            let named = names.into_iter().enumerate();
            let named = named.filter(|(i, _)| scope >> i & 1 == 1);
            let named: Vec<&str> = named.map(|(_, name)| name).collect();
            match named.as_slice() {
                [one] => json!(one),
                many => json!(many),
            }
        };
        let scope = match (item.action, item.scope) {
            (Action::Create, 0) => 2,
            (_, scope) => scope,
        };
        match item.channel {
            "notes" if scope > 0 => data["ownerId"] = named(PEOPLE, scope),
            "team:x" if scope > 0 => data["team"] = named(TEAMS, scope),
            _ => {}
        }
        data
    }

    fn mutation(&mut self, identity: &'static str, item: &Item) -> Sent {
        let (id, key) = (self.name("m"), key(item.channel, item.key));
        let mut message = json!({
            "type": "mutate", "id": id, "channel": item.channel, "action": item.action.name(),
            "key": key
        });
        if item.action != Action::Delete {
            message["data"] = self.fields(item);
            message["data"]["id"] = json!(key);
        }
        let sent = Sent {
            identity,
            id,
            channel: item.channel,
            key,
            message,
        };
        self.sent.push(sent.clone());
        sent
    }

    fn earlier(&self, identity: &str, back: usize) -> Option<Sent> {
        let own = self.sent.iter().filter(|sent| sent.identity == identity);
        own.rev().nth(back).cloned()
    }

    pub(crate) fn mutate(&mut self, place: usize, item: &Item) {
        let client = &self.clients[place];
        if client.conn.is_some() {
            let sent = self.mutation(client.identity, item);
            self.send_mutation(place, sent);
        }
    }

    pub(crate) fn repeat(&mut self, place: usize, back: usize) {
        let identity = self.clients[place].identity;
        if let Some(sent) = self.earlier(identity, back) {
            let under_way = |asked: &super::source::Asked| {
                asked.open && asked.once().is_some_and(|once| once.1 == sent.id)
            };
            let under_way = self.asked.iter().any(under_way);
            self.cov.hit_if("repeats of what is under way", under_way);
            self.send_mutation(place, sent);
        }
    }

    fn send_mutation(&mut self, place: usize, sent: Sent) {
        let client = &mut self.clients[place];
        let Some(conn) = client.conn else { return };
        client.named.push(sent.key.clone());
        client.named.extend(marks(&sent.message.to_string(), "v~"));
        client.requests.push(Request {
            id: sent.id.clone(),
            channel: sent.channel,
            wanted: Wanted::Mutation {
                once: (format!("i{}", client.identity), sent.id),
                deletes: sent.message["action"] == "delete",
                key: sent.key,
            },
            conn: None,
        });
        let message = sent.message;
        let turn = self.turn(|w| w.send(conn, message));
        if !turn.handled {
            self.clients[place].requests.pop();
        }
        self.cov.hit("mutations");
        self.settle();
    }

    /// Sends mutations over HTTP.
    pub(crate) fn post(&mut self, identity: &'static str, items: &[Item], back: Option<usize>) {
        let mut sent: Vec<Sent> = items
            .iter()
            .map(|item| self.mutation(identity, item))
            .collect();
        sent.extend(back.and_then(|back| self.earlier(identity, back)));
        if sent.is_empty() {
            return;
        }
        let messages: Vec<&Value> = sent.iter().map(|sent| &sent.message).collect();
        let body = json!({ "mutations": messages }).to_string();
        let crashes = self.w.crashes;
        let turn = self.turn(|w| w.try_write(Some(identity), &body, None));
        self.cov.hit("posts");
        match turn.answer {
            _ if self.w.crashes > crashes => {}
            Ok(conn) => self.posted.push(Posted {
                conn,
                identity,
                sent,
            }),
            Err(reply) => self.post_answered(identity, &sent, &reply),
        }
        self.settle();
    }

    pub(crate) fn post_answered(&mut self, identity: &str, sent: &[Sent], reply: &Reply) {
        let body: Value = serde_json::from_str(&reply.body).unwrap();
        if reply.status != 200 {
            assert_eq!(reply.status, 503, "{body}");
            return;
        }
        let results = body["results"].as_array().unwrap();
        assert_eq!(results.len(), sent.len(), "{body}");
        for (result, sent) in results.iter().zip(sent) {
            assert_eq!(result["id"], sent.id.as_str(), "{body}");
            let once = (format!("i{identity}"), sent.id.clone());
            // Whatever was refused may have been sent once more since.
            self.check_result(&once, result, true);
        }
    }

    /// Whether what a writer is told of its mutation is so.
    pub(crate) fn check_result(&mut self, once: &(String, String), result: &Value, vague: bool) {
        let done = self.truth.done.contains(once);
        match result["type"] == "ack" {
            true => {
                assert!(done, "acked and not executed: {result}");
                self.cov.hit("acks");
                self.cov.hit_if("replays", result["replayed"] == true);
            }
            false if vague => {}
            false => {
                let code = result["error"]["code"].as_str().unwrap();
                let unclear = matches!(code, "unavailable" | "internal" | "rate_limited");
                assert!(unclear || !done, "refused and executed: {result}");
                self.cov.hit(if unclear {
                    "unclear refusals"
                } else {
                    "refusals"
                });
            }
        }
    }
}
