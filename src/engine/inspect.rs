//! What the inspector shows: connections, channels with their rules, presence, and what happened
//! lately. From memory alone, and no row of the log: operators may not read those either.

use super::Engine;
use crate::channel::{Access, Keep, Rule, Scope};
use crate::limits;
use crate::names::{Identity, Millis, Topic};
use crate::protocol::{self, JsonWriter};
use crate::session::{Dialect, Presence, Session};
use crate::store::Sql;

impl<S: Sql> Engine<S> {
    pub(super) fn inspect(&mut self, instance: &str, since: u64, now: Millis) {
        let gauges = self.gauges();
        let body = protocol::object(|o| {
            o.text("space", self.space.as_str());
            o.text("epoch", self.store.epoch().as_str());
            o.text("instance", instance);
            o.number("now", now.0);
            o.number("began", self.began.0);
            o.number("seq", gauges.seq);
            o.number("storageBytes", gauges.storage_bytes);
            o.number("rowsWritten", gauges.rows_written);
            for (name, value) in [
                ("connections", gauges.connections),
                ("users", gauges.users),
                ("channels", gauges.channels),
                ("subscriptions", gauges.subscriptions),
                ("presences", gauges.presences),
            ] {
                o.number(name, value as u64);
            }
            let names = ["framesIn", "bytesIn", "framesOut", "bytesOut"];
            for (name, value) in names.into_iter().zip(self.metrics.traffic()) {
                o.number(name, value);
            }
            o.name("connectionList").array(|a| {
                for (_, session) in self.hub.sessions().take(limits::INSPECT_ITEMS) {
                    a.object(|o| connection(o, session));
                }
            });
            o.name("channelList").array(|a| self.channels(a));
            o.name("rules").array(|a| {
                for (pattern, rule) in self.config.rules.entries() {
                    a.object(|o| write_rule(o, &pattern, rule));
                }
            });
            o.number("lastEvent", self.recent.count());
            o.name("events").array(|a| {
                for (number, event) in self.recent.after(since) {
                    a.object(|o| {
                        o.number("number", number);
                        o.number("at", event.at.0);
                        event.fields(o);
                    });
                }
            });
        });
        self.reply(Ok(body));
    }

    fn channels(&self, a: &mut JsonWriter) {
        let channels = self.hub.channels().take(limits::INSPECT_ITEMS);
        // Of all channels together: a state may have 1 KiB.
        let mut room = limits::INSPECT_ITEMS;
        for (channel, subscribers) in channels {
            let members = self.hub.members(channel);
            a.object(|o| {
                o.text("channel", channel.as_str());
                let pattern = self.config.rules.pattern_of(channel);
                o.opt_text("rule", pattern.as_deref());
                o.number("subscribers", subscribers as u64);
                o.number("present", members.len() as u64);
                o.name("members").array(|a| {
                    let sessions = members.filter_map(|conn| self.hub.session(conn));
                    for session in sessions.take(limits::INSPECT_PARTS.min(room)) {
                        room -= 1;
                        let identity = session.grant.identity.as_ref();
                        let presence = session.presence.get(channel);
                        let state = presence.and_then(Presence::state).map(AsRef::as_ref);
                        a.raw_item(&protocol::member(&session.id, identity, state));
                    }
                });
            });
        }
    }
}

fn connection(o: &mut JsonWriter, session: &Session) {
    o.text("session", session.id.as_str());
    let identity = session.grant.identity.as_ref();
    o.opt_text("identity", identity.map(Identity::as_str));
    o.opt_text("device", session.device.as_deref());
    o.text(
        "dialect",
        match session.dialect {
            Dialect::Unknown => "silent",
            Dialect::Hello => "hello",
            Dialect::Reader => "reader",
            Dialect::Legacy => "legacy",
        },
    );
    match session.grant.expires_at {
        Some(at) => o.number("expiresAt", at.0),
        None => o.raw("expiresAt", "null"),
    }
    let texts = |o: &mut JsonWriter, name, texts: &mut dyn Iterator<Item = &str>| {
        o.name(name).array(|a| {
            texts
                .take(limits::INSPECT_PARTS)
                .for_each(|text| a.text_item(text));
        });
    };
    let topics = &session.grant.topics;
    o.number("topics", topics.iter().count() as u64);
    texts(o, "topicList", &mut topics.iter().map(Topic::as_str));
    let held = &session.subscriptions;
    o.number("subscriptions", held.len() as u64);
    let mut names = held.keys().map(|channel| channel.as_str());
    texts(o, "subscriptionList", &mut names);
}

fn write_rule(o: &mut JsonWriter, pattern: &str, rule: &Rule) {
    o.text("pattern", pattern);
    o.text("read", access(rule.read));
    o.text("write", access(rule.write));
    match &rule.scope {
        Scope::All => {}
        Scope::Field(scope) => o.name("scope").object(|o| {
            o.text("field", &scope.field);
            o.text("as", &scope.prefix);
            o.bool("leave", scope.leave);
        }),
    }
    let keep = match rule.keep {
        Keep::Latest => "latest",
        Keep::Every => "every",
    };
    o.text("keep", keep);
    for (name, bound) in [
        ("retainCount", rule.retain.count),
        ("retainDays", rule.retain.days),
    ] {
        if let Some(bound) = bound {
            o.number(name, bound.into());
        }
    }
    if let Some(field) = &rule.timestamp {
        o.text("timestamp", field);
    }
    for (name, on) in [
        ("edits", rule.edits),
        ("presence", rule.presence),
        ("signals", rule.signals),
    ] {
        if on {
            o.bool(name, true);
        }
    }
}

fn access(access: Access) -> &'static str {
    match access {
        Access::Anyone => "anyone",
        Access::User => "user",
        Access::Topic => "topic",
        Access::Token => "token",
        Access::None => "none",
    }
}
