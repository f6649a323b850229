//! Steps that renew a session in place, and what other topics do to what it sees.

use serde_json::{Value, json};

use super::client::Expected;
use super::game::{Game, topics};
use super::rules;
use super::step::Token;
use super::world::{self, World};

impl Game {
    pub(crate) fn renew(&mut self, place: usize, bits: u64, life: u64, token: Token) {
        let Some((s, conn)) = self.conn(place).filter(|_| self.is_socket(place)) else {
            return;
        };
        if self.clients[place].legacy {
            return; // A 1.4 client knows no `auth`.
        }
        let (now, identity) = (self.now(s), self.clients[place].eyes.identity);
        let asked = topics(place, bits);
        let sub = match (token, identity) {
            (Token::Good | Token::Bad, Some(identity)) => identity,
            _ => "mallory",
        };
        let claims =
            json!({ "sub": sub, "iat": now / 1000, "exp": (now + life) / 1000, "topics": asked });
        let mut text = world::token(&claims);
        if token == Token::Bad {
            text.insert(3, 'x');
        }
        let turn = self.turn(s, |w: &mut World| {
            w.send(conn, json!({ "type": "auth", "token": text }))
        });
        let client = &mut self.clients[place];
        if turn.handled && client.is_open() {
            let standing = self.spaces[s].standing(identity, &asked, now);
            match (token, standing) {
                (Token::Bad, _) => client.expected.push(Expected::Error {
                    code: "unauthorized",
                }),
                (Token::Good, Some(topics)) if sub != "mallory" => match turn.failed {
                    true => client.expected.push(Expected::Error {
                        code: "unavailable",
                    }),
                    false => {
                        self.cov.hit("renewals");
                        self.see_with(place, topics, now + life);
                    }
                },
                (Token::Good, None) => {
                    let code = if turn.failed {
                        "unavailable"
                    } else {
                        "unauthorized"
                    };
                    client.expected.push(Expected::Error { code });
                }
                (Token::Good | Token::Other, _) => {
                    client.expected.push(Expected::Error { code: "forbidden" });
                    client.closing = Some(4501);
                }
            }
        }
        self.settle(s, &turn);
    }

    /// The session has other topics from here on.
    pub(crate) fn see_with(&mut self, place: usize, topics: rules::Topics, expires_at: u64) {
        let client = &mut self.clients[place];
        let space = &self.spaces[client.space];
        let before = client.eyes.clone();
        client.eyes.topics = topics;
        client.expires_at = Some(expires_at);
        client.moved = true;
        let eyes = client.eyes.clone();
        let live: Vec<_> = client
            .copies
            .iter()
            .filter(|(_, copy)| copy.live)
            .map(|(c, _)| *c)
            .collect();
        for channel in live.into_iter().filter(|_| before != eyes) {
            // Of a channel that it may no longer read all rows go, and then it is left.
            let closed = rules::refused_read(channel, &eyes).is_some();
            let then = space.visible(channel, &before);
            let now = match closed {
                true => Default::default(),
                false => space.visible(channel, &eyes),
            };
            let gained = now.iter().filter(|(key, _)| !then.contains_key(*key)).map(|(key, row)| {
                json!({ "action": "create", "key": key, "data": row.data, "by": row.by, "at": row.at })
            });
            let lost = then.keys().filter(|key| !now.contains_key(*key)).map(|key| {
                json!({ "action": "delete", "key": key, "data": null, "by": null, "at": null })
            });
            let (gained, lost): (Vec<Value>, Vec<Value>) = (gained.collect(), lost.collect());
            self.cov
                .hit_if("rows gained by other topics", !gained.is_empty());
            self.cov
                .hit_if("rows lost by other topics", !lost.is_empty());
            client.named.extend(then.into_keys());
            if gained.len() + lost.len() > 0 {
                client.expected.push(Expected::Changes {
                    channel,
                    changes: [gained, lost].concat(),
                    least: 0,
                    most: space.head,
                    of_log: false,
                });
            }
            if closed {
                self.cov.hit("channels closed by other topics");
                client.no_longer_present(channel);
                client.expected.push(Expected::Notice {
                    channel,
                    kind: "channel-reset",
                    reason: json!("topics"),
                    ends: true,
                });
            }
        }
        let is_closed = |channel: &&str| rules::refused_read(channel, &eyes).is_some();
        let paged: Vec<_> = client.present.keys().copied().filter(is_closed).collect();
        for channel in paged {
            // It is not live on this one, because it still asks for pages.
            self.cov.hit("presence ended between two pages");
            client.no_longer_present(channel);
            client.expected.push(Expected::Notice {
                channel,
                kind: "channel-reset",
                reason: json!("topics"),
                ends: true,
            });
        }
        if client.spoke && !client.legacy {
            client.expected.push(Expected::Authed { expires_at, eyes });
        }
    }
}
