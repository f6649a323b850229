//! Steps of presence in a channel whose rows live elsewhere, and whom everybody is told of.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::client::{Client, Kind};
use super::coverage::Coverage;
use super::game::Game;
use super::step::Be;

/// The channel that has it.
pub(crate) const PRESENT: &str = "team:x";

/// Identities and states by session.
pub(crate) type Picture = BTreeMap<String, (Value, Value)>;

fn members(list: &Value) -> impl Iterator<Item = (String, (Value, Value))> {
    let list = list.as_array().cloned().unwrap_or_default();
    list.into_iter().map(|member| {
        let field = |name: &str| member[name].clone();
        let session = member["session"].as_str().unwrap().to_owned();
        (session, (field("identity"), field("state")))
    })
}

impl Client {
    /// Who is there, as an answer, or who has moved.
    pub(crate) fn looks(&mut self, message: &Value, cov: &mut Coverage) {
        let name = self.name;
        assert_eq!(message["channel"], PRESENT, "{name}: {message}");
        if self.present.is_none() {
            // It has left, and the server does not know yet.
            return;
        }
        if !message["members"].is_null() {
            self.picture = members(&message["members"]).collect();
            return;
        }
        for (session, member) in members(&message["joined"]).chain(members(&message["updated"])) {
            self.picture.insert(session, member);
            cov.hit("presence told of who moves");
        }
        for (session, _) in members(&message["left"]) {
            self.picture.remove(&session);
            cov.hit("presence told of who goes");
        }
    }
}

impl Game {
    pub(crate) fn be(&mut self, place: usize, how: Be) {
        let state = json!({ "of": place, "name": self.name("p") });
        let client = &mut self.clients[place];
        // What it says while a source is asked waits for that.
        let Some(conn) = client.conn.filter(|_| client.requests.is_empty()) else {
            return;
        };
        let live = client.copies.get(PRESENT).is_some_and(|copy| copy.live);
        if !live && client.present.is_none() {
            return;
        }
        let mut message = json!({ "type": "presence", "channel": PRESENT });
        match how {
            Be::Here => message["state"] = state.clone(),
            Be::Watching => message["watch"] = json!(true),
            Be::Gone => message["state"] = Value::Null,
        }
        let was = client.present.clone();
        client.present = match how {
            Be::Here => Some(Some(state)),
            Be::Watching => Some(None),
            Be::Gone => None,
        };
        client.moves = true;
        let turn = self.turn(|w| w.send(conn, message));
        if !turn.handled {
            self.clients[place].present = was.clone();
        }
        self.cov.hit("presence");
        self.settle();
        let client = &mut self.clients[place];
        if !std::mem::take(&mut client.moves) {
            // The channel has changed outside: it is not live, and is told so now or soon.
            assert!(was.is_none(), "{} is present", client.name);
            let outside = self.outside.contains_key(PRESENT);
            assert!(outside, "nothing has changed outside");
            self.clients[place].present = None;
        } else if std::mem::take(&mut client.hurries) && client.conn.is_some() {
            client.present = was;
        }
    }

    /// Everybody who looks sees who is present, and nobody else. Of itself nobody is told.
    pub(crate) fn check_pictures(&mut self) {
        if self.blind {
            return;
        }
        let is_socket = |client: &Client| matches!(client.kind, Kind::Socket | Kind::Legacy);
        let here = self.clients.iter().filter(|client| client.conn.is_some());
        let here: Vec<(u64, Value, Value)> = here
            .filter_map(|client| {
                let state = client.present.clone()??;
                Some((state["of"].as_u64()?, json!(client.identity), state))
            })
            .collect();
        for (place, client) in self.clients.iter().enumerate() {
            if client.conn.is_none() || client.present.is_none() || !is_socket(client) {
                continue;
            }
            let others = here.iter().filter(|(of, ..)| *of != place as u64);
            let others: BTreeMap<u64, (&Value, &Value)> =
                others.map(|(of, who, state)| (*of, (who, state))).collect();
            let seen = client.picture.values();
            let seen = seen.map(|(who, state)| (state["of"].as_u64().unwrap(), (who, state)));
            let seen: BTreeMap<u64, (&Value, &Value)> =
                seen.filter(|(of, _)| *of != place as u64).collect();
            assert_eq!(seen, others, "{} of {PRESENT}", client.name);
            self.cov.hit("pictures of who is present");
        }
    }
}
