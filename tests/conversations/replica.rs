//! A client's copy of one channel, kept as the contract says and in no other way.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tidewire::ConnId;

use super::world::World;

#[derive(Debug, Clone)]
pub(crate) struct Replica {
    channel: String,
    pub(crate) rows: BTreeMap<String, Value>,
    pub(crate) cursor: Value,
    pub(crate) view: Value,
    /// Parts of a batch that wait for its last.
    parts: Vec<Value>,
}

impl Replica {
    pub(crate) fn of(channel: &str) -> Self {
        Self {
            channel: channel.to_owned(),
            rows: BTreeMap::new(),
            cursor: Value::Null,
            view: Value::Null,
            parts: Vec::new(),
        }
    }

    /// Asks for one page and applies it. Whether more must be asked for.
    #[track_caller]
    pub(crate) fn page(&mut self, w: &mut World, conn: ConnId, limit: u64) -> bool {
        let mut message = json!({
            "type": "subscribe", "id": "p", "channel": self.channel, "limit": limit
        });
        if !self.cursor.is_null() {
            message["cursor"] = self.cursor.clone();
            message["view"] = self.view.clone();
        }
        let page = w.ask(conn, message);
        assert_eq!(page["type"], "snapshot", "{page}");
        self.apply(&page);
        page["more"] == true
    }

    /// Asks for pages until the channel is live.
    #[track_caller]
    pub(crate) fn catch_up(&mut self, w: &mut World, conn: ConnId, limit: u64) {
        let live = (0..1000).any(|_| !self.page(w, conn, limit));
        assert!(live, "paging ends");
    }

    /// Applies whatever has arrived for the channel.
    #[track_caller]
    pub(crate) fn take(&mut self, w: &mut World, conn: ConnId) {
        for message in w.messages(conn) {
            self.apply(&message);
        }
    }

    #[track_caller]
    pub(crate) fn apply(&mut self, message: &Value) {
        assert_eq!(message["channel"], self.channel.as_str(), "{message}");
        match message["type"].as_str().unwrap() {
            "snapshot" => {
                if message["mode"] == "full" {
                    self.rows.clear();
                }
                for row in message["data"].as_array().unwrap() {
                    self.rows
                        .insert(row["id"].as_str().unwrap().to_owned(), row.clone());
                }
                for key in message["deleted"].as_array().unwrap() {
                    self.rows.remove(key.as_str().unwrap());
                }
                self.view = message["view"].clone();
            }
            "change" => self.change(message),
            "batch" => {
                self.parts
                    .extend(message["changes"].as_array().unwrap().clone());
                if message["more"] == true {
                    return;
                }
                for change in std::mem::take(&mut self.parts) {
                    self.change(&change);
                }
            }
            other => panic!("no message for a replica: {other}"),
        }
        assert!(message["cursor"].is_string(), "{message}");
        self.cursor = message["cursor"].clone();
    }

    fn change(&mut self, change: &Value) {
        let key = change["key"].as_str().unwrap().to_owned();
        match change["data"].is_null() {
            true => self.rows.remove(&key),
            false => self.rows.insert(key, change["data"].clone()),
        };
    }

    pub(crate) fn keys(&self) -> Vec<&str> {
        self.rows.keys().map(String::as_str).collect()
    }
}
