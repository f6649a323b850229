//! A client: it keeps its copies as the contract says and in no other way, and holds every message
//! against what it knew, what it asked for and what it may see.

use std::collections::BTreeMap;

use serde_json::Value;
use tidewire::{ConnId, Topics};

use super::coverage::Coverage;
use super::presence::Picture;
use super::truth::{Row, Truth};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A socket that says hello.
    Socket,
    /// A socket that does not.
    Legacy,
    /// Pages over HTTP.
    Pages,
    /// Pages over HTTP as soon as there is news.
    Waits,
    /// A stream of one channel over HTTP.
    Stream(&'static str),
}

/// A cursor as far as clients may look into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursor {
    pub(crate) text: String,
    pub(crate) epoch: String,
    pub(crate) seq: u64,
    /// Whether it is in the midst of a paged answer.
    pub(crate) pages: bool,
}

impl Cursor {
    pub(crate) fn parse(text: &str) -> Self {
        let mut parts = text.split('.');
        Self {
            text: text.to_owned(),
            epoch: parts.next().unwrap().to_owned(),
            seq: parts.next().unwrap().parse().unwrap(),
            pages: parts.next().is_some(),
        }
    }

    pub(crate) fn of(message: &Value) -> Self {
        let text = message["cursor"].as_str();
        Self::parse(text.unwrap_or_else(|| panic!("no cursor: {message}")))
    }
}

/// A copy of one channel.
#[derive(Debug, Default)]
pub(crate) struct Copy {
    pub(crate) rows: BTreeMap<String, Value>,
    pub(crate) cursor: Option<Cursor>,
    pub(crate) view: Option<String>,
    /// Whose eyes the view stands for.
    pub(crate) eyes: Option<Topics>,
    pub(crate) live: bool,
    /// Whether the last page said that there are more.
    pub(crate) more: bool,
    /// A reset came: no cursor counts until the next snapshot.
    pub(crate) forgotten: bool,
    /// It was left, and what comes until the server knows is of no interest.
    pub(crate) leaving: bool,
    /// The seq of an own write that took its row out of sight: a delete with the same one follows.
    pub(crate) owed: Option<u64>,
    /// When a legacy client's copy was complete.
    pub(crate) since: Option<u64>,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) enum Wanted {
    Pages {
        cursor: Option<Cursor>,
        eyes: Option<Topics>,
        /// The channel was left since.
        left: bool,
    },
    Mutation {
        once: (String, String),
        deletes: bool,
        key: String,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) id: String,
    pub(crate) channel: &'static str,
    pub(crate) wanted: Wanted,
    /// Over HTTP: who waits for the answer.
    pub(crate) conn: Option<ConnId>,
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    pub(crate) identity: &'static str,
    pub(crate) topics: Topics,
    /// When its last token over HTTP was issued.
    pub(crate) issued: u64,
    /// What it held before this step.
    pub(crate) before: Topics,
    pub(crate) conn: Option<ConnId>,
    /// The name of its session, if it was told.
    pub(crate) session: Option<String>,
    /// The stream that has begun.
    pub(crate) stream: Option<ConnId>,
    pub(crate) copies: BTreeMap<&'static str, Copy>,
    /// What was not answered yet, in order.
    pub(crate) requests: Vec<Request>,
    /// The newest state of each row that it ever had.
    pub(crate) newest: BTreeMap<Row, u64>,
    /// The channel of a legacy client's subscription whose pages are coming.
    pub(crate) paging: Option<&'static str>,
    /// What its own mutations name.
    pub(crate) named: Vec<String>,
    /// Whether it is present, with a state, or watches, and whom it was told of.
    pub(crate) present: Option<Option<Value>>,
    pub(crate) picture: Picture,
    /// Whether it has just said that it is present, and was not refused.
    pub(crate) moves: bool,
    /// Whether it was told to wait with that.
    pub(crate) hurries: bool,
}

impl Client {
    pub(crate) fn new(name: &'static str, kind: Kind, identity: &'static str) -> Self {
        Self {
            name,
            kind,
            identity,
            topics: Topics::default(),
            issued: 0,
            before: Topics::default(),
            conn: None,
            session: None,
            stream: None,
            copies: BTreeMap::new(),
            requests: Vec::new(),
            newest: BTreeMap::new(),
            paging: None,
            named: Vec::new(),
            present: None,
            picture: Picture::new(),
            moves: false,
            hurries: false,
        }
    }

    pub(crate) fn copy(&mut self, channel: &'static str) -> &mut Copy {
        self.copies.entry(channel).or_default()
    }

    /// The socket is gone; the copies remain.
    pub(crate) fn gone(&mut self) {
        self.conn = None;
        self.paging = None;
        self.present = None;
        // What was asked for over HTTP has answers of its own.
        self.requests.retain(|request| request.conn.is_some());
        for copy in self.copies.values_mut() {
            (copy.live, copy.leaving) = (false, false);
        }
    }

    /// A row as the server has shown it. Newer than any that this client had, unless a race excuses.
    ///
    /// What the first pages of an answer show does not count as had, and may be older: they are the
    /// source's, which may be ahead of the log, or behind what a live reader has heard since it asked;
    /// what the log has had since comes after them.
    pub(crate) fn sees(&mut self, channel: &'static str, row: &Value, truth: &Truth, how: &Value) {
        let value = row["v"].as_str().unwrap_or_else(|| panic!("no row: {how}"));
        let state = truth
            .states
            .get(value)
            .unwrap_or_else(|| panic!("nobody wrote {value}: {how}"));
        assert_eq!(state.row.0, channel, "a row of another channel: {how}");
        let first = how["type"] == "snapshot" && how["more"] != false;
        if first && self.kind == Kind::Legacy {
            // All its pages come at once, the newest last.
            return;
        }
        let newest = self.newest.entry(state.row.clone()).or_default();
        assert!(
            first || state.nth >= *newest || truth.is_raced(&state.row, *newest),
            "{}: {value} is older than what it had of {:?}: {how}",
            self.name,
            state.row
        );
        *newest = match first {
            true => *newest,
            false => state.nth.max(*newest),
        };
    }

    /// Takes a live change or a batch of them.
    pub(crate) fn changes(
        &mut self,
        channel: &'static str,
        message: &Value,
        (truth, cov): (&Truth, &mut Coverage),
        now: u64,
    ) {
        let (name, legacy) = (self.name, self.kind == Kind::Legacy);
        let ends_pages = legacy && self.paging == Some(channel);
        let copy = self.copy(channel);
        if !copy.live && !ends_pages {
            assert!(copy.leaving, "{name} is not live: {message}");
            return;
        }
        let cursor = Cursor::of(message);
        if let Some(known) = copy.cursor.as_ref().filter(|_| !copy.forgotten)
            && !ends_pages
            && known.epoch == cursor.epoch
        {
            let owed = copy.owed.take() == Some(cursor.seq) && message["data"].is_null();
            let newer = cursor.seq > known.seq || owed;
            assert!(newer, "{name}: {cursor:?} after {known:?}: {message}");
        }
        let list = match message["type"] == "change" {
            true => vec![message.clone()],
            false => message["changes"].as_array().unwrap().clone(),
        };
        for change in &list {
            let key = change["key"].as_str().unwrap();
            cov.hit(match change["action"].as_str() {
                Some("create") => "live creates",
                Some("update") => "live updates",
                _ => "live deletes",
            });
            match change["data"].is_null() {
                true => _ = self.copy(channel).rows.remove(key),
                false => {
                    self.sees(channel, &change["data"], truth, message);
                    let rows = &mut self.copy(channel).rows;
                    rows.insert(key.to_owned(), change["data"].clone());
                }
            }
        }
        let copy = self.copy(channel);
        if !copy.forgotten {
            copy.cursor = Some(cursor);
            copy.since = Some(now);
        }
    }

    /// Takes a page.
    pub(crate) fn page(
        &mut self,
        channel: &'static str,
        page: &Value,
        asked: (Option<Cursor>, Topics),
        (truth, cov): (&Truth, &mut Coverage),
        now: u64,
    ) {
        let (legacy, http) = (
            self.kind == Kind::Legacy,
            matches!(self.kind, Kind::Pages | Kind::Waits),
        );
        let full = match legacy {
            true => page["isDelta"] == false,
            false => page["mode"] == "full",
        };
        let cursor = Cursor::of(page);
        let (asked, eyes) = asked;
        if let Some(asked) = asked.filter(|asked| !full && asked.epoch == cursor.epoch) {
            let name = self.name;
            assert!(
                cursor.seq >= asked.seq,
                "{name}: {cursor:?} after {asked:?}: {page}"
            );
        }
        cov.hit(if full { "full pages" } else { "deltas" });
        cov.hit_if("pages with more", page["more"] == true);
        let data = page["data"].as_array().unwrap();
        for row in data {
            self.sees(channel, row, truth, page);
        }
        let copy = self.copy(channel);
        if full {
            copy.rows.clear();
        }
        let key = |row: &Value| row["id"].as_str().unwrap().to_owned();
        let rows: BTreeMap<String, Value> =
            data.iter().map(|row| (key(row), row.clone())).collect();
        assert_eq!(rows.len(), data.len(), "a row twice: {page}");
        copy.rows.extend(rows.clone());
        for gone in page["deleted"].as_array().into_iter().flatten() {
            let gone = gone.as_str().unwrap();
            assert!(!rows.contains_key(gone), "there and gone: {page}");
            cov.hit("deleted keys on pages");
            copy.rows.remove(gone);
        }
        (copy.forgotten, copy.leaving) = (false, false);
        copy.more = page["more"] == true;
        copy.live = !http && !copy.more;
        copy.cursor = Some(cursor);
        if let Some(view) = page["view"].as_str() {
            // A page that only says to ask again is at the place of before.
            if copy.view.as_deref() != Some(view) {
                copy.eyes = Some(eyes);
            }
            copy.view = Some(view.to_owned());
        }
        copy.since = Some(now);
        if legacy {
            self.paging = Some(channel);
        }
    }
}
