//! What a subscription may be answered with.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::copy::{Copy, Cursor, write};
use super::coverage::Coverage;
use super::oracle::Space;
use super::rules::{self, Eyes};

/// Whether the answer must begin from nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Full {
    /// It must, for this reason.
    Must(&'static str),
    /// It must not.
    MustNot,
    /// Something that is old enough may have been trimmed, or its reader was told of its new topics as
    /// the object crashed.
    May,
}

/// What was asked for.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    pub(crate) full: Full,
    /// The seq of the cursor, and where its paged answer began.
    pub(crate) after: u64,
    pub(crate) began: u64,
    pub(crate) limit: usize,
    pub(crate) meta: bool,
    /// Whether this asks for the next page of an answer.
    pub(crate) goes_on: bool,
}

impl Space {
    /// One view stands for one identity with its topics, and the other way round.
    pub(crate) fn know_view(&mut self, view: &str, eyes: &Eyes) {
        let known = self.views.iter();
        let same = |(text, of): (&String, &Eyes)| (text == view) == (of == eyes);
        assert!(known.into_iter().all(same), "a view that is not {eyes:?}'s");
        self.views.insert(view.to_owned(), eyes.clone());
    }
}

fn keys(copy: &BTreeMap<String, Value>) -> BTreeSet<&String> {
    copy.keys().collect()
}

impl Ask {
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn meet(
        &self,
        copy: &mut Copy,
        channel: &'static str,
        page: &Value,
        space: &mut Space,
        eyes: &Eyes,
        cov: &mut Coverage,
        legacy: bool,
    ) {
        let full = page["mode"] == "full";
        let more = page["more"] == true;
        assert_eq!(page["isDelta"], !full, "{page}");
        assert!(
            !legacy || page["more"].is_null(),
            "legacy knows no more: {page}"
        );
        space.know_view(page["view"].as_str().unwrap(), eyes);
        // Only the first of a legacy client's pages may be full.
        let first = !legacy || copy.page_head != u64::MAX;
        match self.full {
            Full::Must(why) if first => {
                assert!(full, "must be full ({why}): {page}");
                cov.hit(why);
                let trimmed = why == "full: events trimmed";
                cov.hit_if("trimmed between two pages", trimmed && self.goes_on);
            }
            Full::MustNot => assert!(!full, "must be a delta: {page}"),
            Full::May => {
                cov.hit_if("full: trimmed", full);
                cov.hit_if("trimmed between two pages", full && self.goes_on);
            }
            Full::Must(_) => assert!(!full, "a second full page: {page}"),
        }
        let (after, began) = if full {
            (0, space.head)
        } else {
            (self.after, self.began)
        };
        let cursor = Cursor::of(page);
        assert_eq!(cursor.epoch, space.epoch, "{page}");
        assert!(
            (after..=space.head).contains(&cursor.seq),
            "cursor after {after}: {page}"
        );
        let data: BTreeMap<String, Value> = page["data"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["id"].as_str().unwrap().to_owned(), row.clone()))
            .collect();
        let deleted: BTreeSet<&str> = page["deleted"]
            .as_array()
            .unwrap()
            .iter()
            .map(|key| key.as_str().unwrap())
            .collect();
        let visible = space.visible(channel, eyes);
        let items =
            page["data"].as_array().unwrap().len() + page["deleted"].as_array().unwrap().len();
        assert_eq!(items, data.len() + deleted.len(), "something twice: {page}");
        let edits = !legacy && rules::rule(channel).unwrap().edits;
        // Where events are edited, a page is counted by what happened.
        assert!(
            items <= self.limit && (!more || items == self.limit || edits),
            "size: {page}"
        );
        for (key, row) in &data {
            let held = visible
                .get(key)
                .unwrap_or_else(|| panic!("{key} is not in sight: {page}"));
            assert_eq!(*row, held.data, "a row as it is not");
        }
        if !legacy {
            let reached = if more { cursor.seq } else { space.head };
            let changed = visible
                .iter()
                .filter(|(_, row)| (after + 1..=reached).contains(&row.seq));
            let changed: BTreeSet<&String> = changed.map(|(key, _)| key).collect();
            assert_eq!(
                keys(&data),
                changed,
                "rows after {after} up to {reached}: {page}"
            );
        }
        assert!(
            !full || deleted.is_empty(),
            "nothing goes from nothing: {page}"
        );
        assert_eq!(page.get("changes").is_some(), edits, "{page}");
        if edits {
            let reached = if more { cursor.seq } else { space.head };
            let range = (after, began, reached);
            self.replays(copy, channel, page, space, eyes, range, cov);
        }
        for key in &deleted {
            self.may_be_told(channel, key, space, eyes, began, cov);
        }
        if self.meta {
            let meta = data.keys().map(|key| {
                let row = visible[key];
                (key.clone(), json!({ "by": row.by, "at": row.at }))
            });
            assert_eq!(page["meta"], Value::Object(meta.collect()), "{page}");
        }
        cov.hit_if("pages", more);
        cov.hit_if("delta", !full);
        cov.hit_if(
            "page after changes in between",
            self.goes_on && !full && copy.page_head < space.head,
        );
        if full {
            copy.rows.clear();
            copy.since = None;
        }
        let rows = copy.rows.len();
        copy.rows.extend(data);
        copy.rows.retain(|key, _| !deleted.contains(key.as_str()));
        if legacy {
            cov.hit_if("legacy delta", first && !full && rows > 0);
            copy.page_head = u64::MAX;
            return;
        }
        copy.view = page["view"].as_str().map(str::to_owned);
        copy.began = more.then_some(began);
        (copy.live, copy.forgotten, copy.page_head) = (!more, false, space.head);
        copy.cursor = Some(cursor);
        if copy.live {
            copy.is_complete(channel, space, eyes, false);
        }
    }

    /// A page of edited events lists what happened as whoever was there saw it.
    #[allow(clippy::too_many_arguments)]
    fn replays(
        &self,
        copy: &mut Copy,
        channel: &'static str,
        page: &Value,
        space: &Space,
        eyes: &Eyes,
        (after, began, reached): (u64, u64, u64),
        cov: &mut Coverage,
    ) {
        let visible = space.visible(channel, eyes);
        let kept = space.trimmed.get(channel).copied().unwrap_or_default();
        let range = after.max(kept) + 1..=reached;
        let of_page = |change: &&super::oracle::Change| {
            let there = change.seq > began || visible.contains_key(&change.key);
            change.channel == channel && range.contains(&change.seq) && there
        };
        let changes = space.log.iter().filter(of_page);
        let told: Vec<Value> = changes.filter_map(|change| change.seen_by(eyes)).collect();
        let listed = page["changes"].as_array().unwrap();
        assert_eq!(listed, &told, "what happened in {channel}: {page}");
        assert!(listed.len() <= self.limit, "size: {page}");
        if page["mode"] == "full" {
            copy.replayed.clear();
        }
        for change in listed {
            write(
                &mut copy.replayed,
                change["key"].as_str().unwrap(),
                &change["data"],
            );
            cov.hit_if("edits replayed", change["action"] == "update");
            cov.hit_if("deletes replayed", change["action"] == "delete");
        }
    }

    fn may_be_told(
        &self,
        channel: &'static str,
        key: &str,
        space: &Space,
        eyes: &Eyes,
        began: u64,
        cov: &mut Coverage,
    ) {
        assert!(
            !space.visible(channel, eyes).contains_key(key),
            "{key} is in sight"
        );
        assert!(
            space.could_see(channel, key, eyes, began),
            "{key} of {channel} was never in sight after {began}"
        );
        match space.rows.get(&(channel, key.to_owned())) {
            None => cov.hit("deleted while away"),
            Some(_) => {
                let past = &space.past[&(channel, key.to_owned())];
                let seen = past.iter().rposition(|v| eyes.see(&v.audience)).unwrap();
                let reborn = past[seen + 1].data.clone();
                let deletes = |c: &&super::oracle::Change| c.channel == channel && c.key == key;
                let gone = space.log.iter().filter(deletes);
                let at = past[seen].until.unwrap();
                let by_delete = gone.clone().any(|c| c.seq == at && c.data.is_null());
                cov.hit_if(
                    "reborn for others while away",
                    by_delete && !reborn.is_null(),
                );
                cov.hit_if("move-out while away", !by_delete);
            }
        }
    }

    /// Keys that are gone, after a legacy client's pages.
    pub(crate) fn legacy_deletes(
        &self,
        copy: &mut Copy,
        channel: &'static str,
        batch: &Value,
        space: &Space,
        eyes: &Eyes,
        cov: &mut Coverage,
    ) {
        for change in batch["changes"].as_array().unwrap() {
            let key = change["key"].as_str().unwrap();
            assert!(
                change["action"] == "delete" && change["data"].is_null(),
                "{batch}"
            );
            self.may_be_told(channel, key, space, eyes, 0, cov);
            copy.rows.remove(key);
            cov.hit("legacy delete while away");
        }
    }
}

impl Copy {
    /// A copy that is live holds exactly what there is to see.
    pub(crate) fn is_complete(
        &self,
        channel: &'static str,
        space: &Space,
        eyes: &Eyes,
        legacy: bool,
    ) {
        let visible = space.visible(channel, eyes);
        let visible: BTreeMap<&String, &Value> =
            visible.iter().map(|(key, row)| (key, &row.data)).collect();
        // What was trimmed stays in copies.
        let trimmed = |key: &String, row: &Value| {
            let old = space.old.get(&(channel, key.clone()));
            !visible.contains_key(key) && old.is_some_and(|old| old.contains(row))
        };
        let rows: BTreeMap<&String, &Value> = self
            .rows
            .iter()
            .filter(|(key, row)| !trimmed(key, row))
            .collect();
        if !legacy && rules::rule(channel).is_some_and(|rule| rule.edits) {
            assert_eq!(
                self.replayed, self.rows,
                "{channel} by its changes and by its rows"
            );
        }
        assert_eq!(
            rows, visible,
            "left is the copy of {channel} of {eyes:?}, right what it may see"
        );
    }
}
