//! A client's copy of one channel, and where it ends.

use std::collections::BTreeMap;

use serde_json::Value;

use super::rules::Topics;

/// A cursor: its epoch, its seq, and the whole text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    pub(crate) text: String,
}

impl Cursor {
    pub(crate) fn of(message: &Value) -> Self {
        Self::parse(message["cursor"].as_str().expect("a cursor"))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let text = text.to_owned();
        let mut parts = text.split('.');
        Self {
            epoch: parts.next().unwrap().to_owned(),
            seq: parts.next().unwrap().parse().unwrap(),
            text,
        }
    }
}

/// A client's copy of one channel.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    pub(crate) rows: BTreeMap<String, Value>,
    /// The same, made of the changes that pages of edited events list.
    pub(crate) replayed: BTreeMap<String, Value>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) view: Option<String>,
    pub(crate) live: bool,
    /// Where the paged answer began that is not at its end.
    pub(crate) began: Option<u64>,
    /// The space's head at the last page.
    pub(crate) page_head: u64,
    /// A reset came: no cursor counts until the next snapshot.
    pub(crate) forgotten: bool,
    /// Legacy: when the copy was known to be complete, and for whom.
    pub(crate) since: Option<(u64, Topics)>,
    /// Parts of a batch that wait for its last.
    pub(crate) parts: Vec<Value>,
}

impl Copy {
    pub(crate) fn advance(&mut self, cursor: Cursor) {
        if !self.forgotten {
            self.cursor = Some(cursor);
        }
    }

    pub(crate) fn write(&mut self, key: &str, data: &Value) {
        write(&mut self.rows, key, data);
        write(&mut self.replayed, key, data);
    }
}

pub(crate) fn write(rows: &mut BTreeMap<String, Value>, key: &str, data: &Value) {
    match data.is_null() {
        true => rows.remove(key),
        false => rows.insert(key.to_owned(), data.clone()),
    };
}
