//! What an outsider hears in two worlds that differ only in what it must not know: byte for byte
//! the same, but for what the wire contract names.

use serde_json::{Value, json};
use tidewire::{Call, ConnId};

use super::code;
use super::world::{World, token};

const ACCESS: [&str; 5] = ["anyone", "user", "topic", "token", "none"];

/// Every kind of rule: who reads and who writes; and, where it matters to an outsider, whose eyes
/// a row is for, what is kept, and a time that orders.
fn rules() -> Vec<Value> {
    let mut rules = Vec::new();
    for read in ACCESS {
        for write in ACCESS {
            rules.push(json!({ "read": read, "write": write }));
        }
    }
    for read in ["anyone", "user", "none"] {
        for write in ["anyone", "user"] {
            for more in [
                json!({ "scope": { "field": "ownerId" } }),
                json!({ "scope": { "field": "ownerId", "leave": true } }),
                json!({ "keep": "every" }),
                json!({ "timestamp": "t" }),
            ] {
                let mut rule = json!({ "read": read, "write": write });
                rule.as_object_mut()
                    .unwrap()
                    .extend(more.as_object().unwrap().clone());
                rules.push(rule);
            }
        }
    }
    rules
}

/// Who listens from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outsider {
    Nobody,
    Mallory,
    Legacy,
}

/// One of the two worlds.
struct Telling {
    w: World,
    conn: ConnId,
    outsider: Outsider,
    /// Where the secret is.
    secret: &'static str,
    /// What was sent, or done by others, and the frames that came of it.
    heard: Vec<(String, Vec<String>)>,
    /// The cursor and the view of every page.
    pages: Vec<(Value, Value)>,
    ids: u32,
}

impl Telling {
    fn new(rule: &Value, outsider: Outsider, secret: &'static str) -> Self {
        let mut elsewhere = rule.clone();
        elsewhere["read"] = json!("none");
        let mut w = World::with_channels(&json!({ "here": rule, "elsewhere": elsewhere }));
        let conn = Self::connect(&mut w, outsider);
        let (heard, pages) = (Vec::new(), Vec::new());
        Self {
            w,
            conn,
            outsider,
            secret,
            heard,
            pages,
            ids: 0,
        }
    }

    fn connect(w: &mut World, outsider: Outsider) -> ConnId {
        match outsider {
            Outsider::Nobody => w.nobody(),
            Outsider::Mallory => w.member("mallory", &["team:m"]),
            Outsider::Legacy => w.connect(Some("mallory"), &["team:m"]),
        }
    }

    fn hear(&mut self, what: String) {
        let frames = self.w.frames(self.conn);
        let messages = frames
            .iter()
            .flat_map(|frame| match serde_json::from_str(frame) {
                Ok(Value::Array(messages)) => messages,
                Ok(message) => vec![message],
                Err(_) => Vec::new(),
            });
        let pages = messages.filter(|m| m["type"] == "snapshot");
        self.pages
            .extend(pages.map(|m| (m["cursor"].clone(), m["view"].clone())));
        self.heard.push((what, frames));
    }

    fn say(&mut self, message: &Value) {
        self.w.send(self.conn, message.clone());
        self.hear(message.to_string());
    }

    fn mutate(&mut self, action: &str, key: &str, data: Value) {
        self.ids += 1;
        let mut data = data;
        if action != "delete" {
            data["id"] = json!(key);
        }
        let message = json!({
            "type": "mutate", "id": format!("m{}", self.ids), "channel": "here",
            "action": action, "key": key, "data": data
        });
        self.say(&message);
        if self.ids.is_multiple_of(3) {
            self.say(&message);
        }
    }

    /// Others do something that the outsider may see where it may read.
    fn visible(&mut self, action: &str, key: &str) {
        let change = json!({
            "channel": "here", "action": action, "key": key, "to": "all",
            "data": { "t": 5, "ownerId": "mallory" }
        });
        let status = self.w.broadcast(change).0;
        self.hear(format!("{action} {key}: {status}"));
    }

    fn hidden(&self, action: &str, key: &str) -> Value {
        // In a channel that it may not read everything is hidden.
        json!({
            "channel": self.secret, "action": action, "key": key, "to": ["user:alice"],
            "data": { "t": 9_999, "ownerId": "alice", "n": self.ids }
        })
    }

    fn hide(&mut self, action: &str, key: &str) {
        let change = self.hidden(action, key);
        let status = self.w.broadcast(change).0;
        self.hear(format!("hidden {action} {key}: {status}"));
    }

    fn batch(&mut self, order: bool) {
        let visible = json!({
            "channel": "here", "action": "create", "key": format!("b{}", self.ids), "to": "all",
            "data": { "t": 6, "ownerId": "mallory" }
        });
        let hidden = self.hidden("create", &format!("hb{}", self.ids));
        self.ids += 1;
        let events = if order {
            [visible, hidden]
        } else {
            [hidden, visible]
        };
        let status = self.w.broadcast_batch(json!({ "events": events })).0;
        self.hear(format!("batch: {status}"));
    }

    /// Reads in every way that there is.
    fn read(&mut self) {
        let subscribe = json!({ "type": "subscribe", "id": "s", "channel": "here" });
        self.say(&subscribe);
        let head = self.w.stats()["seq"].as_u64().unwrap();
        let view = self
            .pages
            .last()
            .map_or(json!("none"), |(_, view)| view.clone());
        for limit in [1, 500] {
            for seq in [0, head / 3, head / 2, head, head + 1] {
                let mut message = subscribe.clone();
                message["cursor"] = json!(format!("hhhhhhhh.{seq}"));
                message["view"] = view.clone();
                message["limit"] = json!(limit);
                message["meta"] = json!(limit == 1);
                self.say(&message);
            }
        }
        let known: Vec<_> = self.pages.iter().rev().take(6).cloned().collect();
        for (cursor, view) in known {
            let mut message = subscribe.clone();
            message["cursor"] = cursor;
            message["view"] = view;
            message["limit"] = json!(2);
            self.say(&message);
        }
        for since in [
            json!(0),
            json!(self.w.now.0 - 1),
            json!(self.w.now.0),
            json!("2026-06-07"),
        ] {
            let mut message = subscribe.clone();
            message["since"] = since;
            self.say(&message);
        }
        let mut bad = subscribe.clone();
        bad["token"] = json!("no token");
        self.say(&bad);
        bad["cursor"] = json!("no cursor");
        self.say(&bad);
        // Live at the end, so that it hears what comes.
        self.say(&subscribe);
    }

    /// Writes in every way but the one that is told apart: a create over the secret.
    fn write(&mut self) {
        for key in ["secret", "missing", "v1"] {
            for data in [
                json!({ "t": 0 }),
                json!({ "t": "x", "ownerId": "mallory" }),
                json!({ "t": 10_000, "ownerId": "alice" }),
                json!({ "ownerId": 7, "__proto__": 1 }),
                json!({ "x": "x".repeat(300) }),
            ] {
                self.mutate("update", key, data);
            }
            self.mutate("delete", key, json!({ "t": 0 }));
            self.mutate("delete", key, json!({ "id": "another" }));
        }
        let own = format!("own{}", self.ids);
        self.mutate("create", &own, json!({ "t": 1, "ownerId": "mallory" }));
        self.mutate("update", &own, json!({ "t": 2, "ownerId": "alice" }));
        self.mutate("delete", &own, json!({ "t": 3 }));
        self.mutate("create", "bad", json!({ "ownerId": [] }));
    }

    fn more(&mut self) {
        let exp = self.w.now.0 / 1_000 + 60;
        let claims = json!({ "sub": "mallory", "exp": exp, "topics": ["team:n"] });
        for message in [
            json!({ "type": "presence", "channel": "here", "watch": true }),
            json!({ "type": "presence", "channel": "here", "state": {} }),
            json!({ "type": "signal", "channel": "here", "event": "e" }),
            json!({ "type": "unsubscribe", "channel": "here" }),
            json!({ "type": "subscribe", "id": "n", "channel": "nowhere" }),
            json!([{ "type": "subscribe", "channel": "here" }, { "type": "ping" }]),
        ] {
            self.say(&message);
        }
        if self.outsider != Outsider::Nobody {
            self.say(&json!({ "type": "auth", "token": token(&claims) }));
        }
        let identity = json!({ "identity": "mallory", "add": ["team:o"], "remove": ["team:n"] });
        assert_eq!(self.w.call(Call::Topics, identity).0, 200);
        self.hear("topics".to_owned());
    }

    fn reconnect(&mut self) {
        self.w.drop(self.conn);
        self.w.sleep();
        self.w.advance(61_000);
        self.conn = Self::connect(&mut self.w, self.outsider);
    }

    /// The whole story, up to where the secret is there and was there before.
    fn story(rule: &Value, outsider: Outsider, secret: &'static str) -> Self {
        let mut t = Self::new(rule, outsider, secret);
        t.visible("create", "v1");
        t.hide("create", "secret");
        t.visible("create", "v2");
        t.read();
        t.hide("create", "h1");
        t.hide("update", "secret");
        t.visible("create", "v3");
        t.batch(true);
        t.batch(false);
        t.write();
        t.read();
        t.hide("delete", "secret");
        t.visible("update", "v2");
        t.read();
        t.hide("create", "h2");
        t.more();
        t.visible("delete", "v3");
        t.reconnect();
        t.hide("create", "secret");
        t.read();
        t.write();
        t
    }
}

/// What was done, what came of it in the world with the secret, and in the other.
type Difference<'a> = (&'a str, &'a [String], &'a [String]);

fn differences<'a>(with: &'a Telling, without: &'a Telling) -> Vec<Difference<'a>> {
    assert_eq!(with.heard.len(), without.heard.len());
    let pairs = with.heard.iter().zip(&without.heard);
    let differ = pairs.filter(|(one, other)| one != other);
    differ
        .map(|((what, one), (_, other))| (what.as_str(), one.as_slice(), other.as_slice()))
        .collect()
}

/// Tells an outsider both stories under every rule. Only a create over a hidden row may be answered
/// differently, where it may write.
#[track_caller]
fn hears_nothing(outsider: Outsider) {
    let (mut sent, mut answered, mut told_apart) = (0, 0, 0);
    for rule in rules() {
        let mut with = Telling::story(&rule, outsider, "here");
        let mut without = Telling::story(&rule, outsider, "elsewhere");
        assert_eq!(with.w.stats()["seq"], without.w.stats()["seq"]);
        let first = differences(&with, &without).into_iter().next();
        assert_eq!(first, None, "{rule}");
        sent += with.heard.len();
        answered += with
            .heard
            .iter()
            .filter(|(_, frames)| !frames.is_empty())
            .count();
        // The two worlds part here, where the outsider may write.
        for telling in [&mut with, &mut without] {
            telling.heard.clear();
            telling.mutate(
                "create",
                "secret",
                json!({ "t": 10_000, "ownerId": "mallory" }),
            );
        }
        let may_write = match rule["write"].as_str() {
            Some("anyone") => true,
            Some("user") => outsider != Outsider::Nobody,
            _ => false,
        };
        let differences = differences(&with, &without);
        assert_eq!(!differences.is_empty(), may_write, "{rule}");
        for (_, one, other) in differences {
            let [one, other] = [one, other].map(|frames| frames[0].as_str());
            assert!(one.contains("this key is taken"), "{one}");
            assert!(!other.contains("this key is taken"), "{other}");
            told_apart += 1;
        }
    }
    assert!(sent > 5_000 && answered > 4_000, "{sent} {answered}");
    assert!(told_apart > 10, "{told_apart}");
}

#[test]
fn only_a_create_over_a_hidden_row_tells_nobody_of_it() {
    hears_nothing(Outsider::Nobody);
}

#[test]
fn only_a_create_over_a_hidden_row_tells_mallory_of_it() {
    hears_nothing(Outsider::Mallory);
}

#[test]
fn only_a_create_over_a_hidden_row_tells_a_legacy_client_of_it() {
    hears_nothing(Outsider::Legacy);
}

#[test]
fn a_channel_without_a_rule_is_told_from_one_that_is_closed() {
    for filled in [false, true] {
        let mut w = World::with_channels(&json!({
            "closed": { "read": "none", "write": "none" }, "room": { "read": "topic" },
            "vault": { "read": "token" }
        }));
        let (nobody, mallory) = (w.nobody(), w.user("mallory"));
        for channel in ["closed", "room", "vault"] {
            if filled {
                let row = json!({ "channel": channel, "action": "create", "key": "k", "data": {} });
                assert_eq!(w.broadcast(row).0, 200);
            }
            assert_eq!(code(&w.subscribe(nobody, channel)), "unauthorized");
            assert_eq!(code(&w.subscribe(mallory, channel)), "forbidden");
            assert_eq!(
                code(&w.update(mallory, "u", channel, json!({ "id": "k" }))),
                "read_only"
            );
        }
        for conn in [nobody, mallory] {
            assert_eq!(code(&w.subscribe(conn, "nowhere")), "unknown_channel");
            assert_eq!(
                code(&w.delete(conn, "d", "nowhere", "k")),
                "unknown_channel"
            );
        }
    }
}
