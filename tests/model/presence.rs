//! Steps of presence and signals, and the picture that everybody who joined or watches has of the
//! others.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::{Client, Expected, Via};
use super::coverage::Coverage;
use super::game::Game;
use super::rules::{self, CHANNELS};
use super::step::Be;

/// Identities and states by session.
pub(crate) type Picture = BTreeMap<String, (Value, Value)>;

/// Whose state it is, as the state itself says.
fn of(state: &Value) -> u64 {
    state["of"].as_u64().unwrap()
}

fn members(list: &Value) -> impl Iterator<Item = (String, (Value, Value))> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.into_iter().map(|member| {
        let session = member["session"].as_str().unwrap().to_owned();
        let field = |name: &str| member[name].clone();
        (session, (field("identity"), field("state")))
    })
}

/// Who is seen in a channel, by their places: identity and state.
type Truth = BTreeMap<u64, (Value, Value)>;

fn seen(picture: &Picture, except: usize) -> Truth {
    let seen = picture
        .values()
        .map(|member| (of(&member.1), member.clone()));
    let seen: Truth = seen.filter(|(place, _)| *place != except as u64).collect();
    seen
}

impl Client {
    pub(crate) fn no_longer_present(&mut self, channel: &str) {
        self.present.remove(channel);
        self.pictures.remove(channel);
    }

    /// The code with which presence or a signal is refused.
    fn refused(&self, channel: &str) -> Option<&'static str> {
        let unopened = || {
            let opens = rules::rule(channel).is_some_and(|rule| rule.present);
            (!opens).then_some("forbidden")
        };
        let held = self.is_live(channel) || self.present.contains_key(channel);
        let unheld = || (!held).then_some("invalid");
        let refused = rules::refused_read(channel, &self.eyes);
        refused.or_else(unopened).or_else(unheld)
    }

    /// The answer to joining or watching.
    pub(crate) fn listed(&mut self, channel: &'static str, message: &Value) {
        let picture: Picture = members(&message["members"]).collect();
        assert_eq!(message["total"], picture.len(), "{}: {message}", self.name);
        self.pictures.insert(channel, picture);
    }

    /// Others have moved.
    pub(crate) fn told(&mut self, message: &Value, cov: &mut Coverage) {
        let channel = message["channel"].as_str().unwrap();
        let name = self.name;
        let (Some(picture), true) = (
            self.pictures.get_mut(channel),
            self.present.contains_key(channel),
        ) else {
            panic!("{name} does not look: {message}")
        };
        for what in ["joined", "updated"] {
            for (session, member) in members(&message[what]) {
                let known = picture.insert(session, member).is_some();
                assert_eq!(known, what == "updated", "{name}: {message}");
                cov.hit("presence told of who moves");
            }
        }
        for (session, _) in members(&message["left"]) {
            // Of who went earlier in the turn whoever joined in it was never told.
            picture.remove(&session);
            cov.hit("presence told of who goes");
        }
    }
}

impl Game {
    pub(crate) fn be(&mut self, place: usize, channel: &'static str, how: Be) {
        let Some((s, conn)) = self.conn(place).filter(|_| self.is_socket(place)) else {
            return;
        };
        let state = json!({ "of": place, "name": self.name("p") });
        let mut message = json!({ "type": "presence", "channel": channel });
        match how {
            Be::Here => message["state"] = state.clone(),
            Be::Watching => message["watch"] = json!(true),
            Be::Gone => message["state"] = Value::Null,
            Be::Waving => {
                message["type"] = json!("signal");
                (message["event"], message["data"]) = (json!("wave"), state.clone());
            }
        }
        let turn = self.turn(s, |w| w.send(conn, message.clone()));
        let client = &mut self.clients[place];
        if turn.handled && client.is_open() {
            client.spoke = true;
            let refused = client.refused(channel).filter(|_| how != Be::Gone);
            let paging = !client.is_live(channel) && client.present.contains_key(channel);
            self.cov
                .hit_if("presence between two pages", paging && refused.is_none());
            self.cov.hit_if("presence refused", refused.is_some());
            match (how, refused) {
                (_, Some(code)) => client.expected.push(Expected::Error { code }),
                (Be::Gone, None) => client.no_longer_present(channel),
                (Be::Here | Be::Watching, None) => {
                    let now = (how == Be::Here).then_some(state);
                    let updates =
                        now.is_some() && matches!(client.present.get(channel), Some(Some(_)));
                    client.present.insert(channel, now);
                    if !updates {
                        client.expected.push(Expected::Members { channel });
                    }
                }
                (Be::Waving, None) => {
                    message["identity"] = json!(client.eyes.identity);
                    self.wave(s, place, channel, &message);
                }
            }
        }
        self.settle(s, &turn);
    }

    fn wave(&mut self, s: usize, from: usize, channel: &'static str, message: &Value) {
        for (place, client) in self.clients.iter_mut().enumerate() {
            if client.space == s
                && place != from
                && client.via == Via::Socket
                && client.is_live(channel)
            {
                self.cov.hit("signals");
                let message = message.clone();
                client.expected.push(Expected::Signal { channel, message });
            }
        }
    }

    /// Who is present in a channel.
    fn truth(&self, s: usize, channel: &str) -> Truth {
        let here = self
            .clients
            .iter()
            .enumerate()
            .filter_map(|(place, client)| {
                let state = client.present.get(channel)?.clone()?;
                let is_here = client.space == s && client.is_open();
                is_here.then(|| (place as u64, (json!(client.eyes.identity), state)))
            });
        here.collect()
    }

    /// Everybody who looks sees who is present, and nobody else. Of itself nobody is told.
    pub(crate) fn check_pictures(&self, s: usize) {
        for channel in CHANNELS {
            let truth = self.truth(s, channel);
            for (place, client) in self.clients.iter().enumerate() {
                let looks = client.space == s && client.present.contains_key(channel);
                if looks && client.is_open() {
                    let mut others = truth.clone();
                    others.remove(&(place as u64));
                    let picture = &client.pictures[channel];
                    assert_eq!(seen(picture, place), others, "{} of {channel}", client.name);
                }
            }
        }
    }

    /// What a publisher is told of who is present.
    pub(crate) fn check_members(&mut self, s: usize) {
        for channel in CHANNELS {
            let (status, body) = self.worlds[s].presence(channel);
            let picture: Picture = members(&body["members"]).collect();
            assert_eq!((status, &body["total"]), (200, &json!(picture.len())));
            assert_eq!(
                seen(&picture, usize::MAX),
                self.truth(s, channel),
                "{channel}"
            );
        }
    }
}
