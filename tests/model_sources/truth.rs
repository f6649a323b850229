//! What the home wrote, and when: every state of every row in its order, and who could see it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use tidewire::{Audience, Topics};

use super::game::Game;
use super::world::home::audience;

pub(crate) type Row = (&'static str, String);

/// One state of a row.
#[derive(Debug, Clone)]
pub(crate) struct State {
    pub(crate) row: Row,
    /// Its place among all that the home wrote.
    pub(crate) nth: u64,
    pub(crate) audience: Audience,
}

/// Everything that the home ever wrote.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) written: u64,
    /// By the row's value, which nothing else has.
    pub(crate) states: BTreeMap<String, State>,
    /// Who could ever see a row.
    audiences: BTreeMap<String, Vec<Audience>>,
    /// Up to which state of a row nobody can tell an order, because the app wrote it and has not told
    /// yet, or wrote it while the engine had a write of it under way.
    pub(crate) raced: BTreeMap<Row, u64>,
    /// What the home executed: owner and id.
    pub(crate) done: BTreeSet<(String, String)>,
}

impl Truth {
    /// The home has written a row; it is no more where there is no data.
    pub(crate) fn wrote(&mut self, row: &Row, data: Option<&Map<String, Value>>) {
        self.written += 1;
        if let Some(data) = data {
            let audience = audience(row.0, data);
            let value = data["v"].as_str().unwrap().to_owned();
            let of_row = self.audiences.entry(row.1.clone()).or_default();
            of_row.push(audience.clone());
            let state = State {
                row: row.clone(),
                nth: self.written,
                audience,
            };
            self.states.insert(value, state);
        }
    }

    /// Whether somebody with these topics may know that there is, or was, a row.
    pub(crate) fn may_know(&self, key: &str, topics: &Topics) -> bool {
        let audiences = self.audiences.get(key);
        audiences.is_some_and(|list| list.iter().any(|audience| audience.sees(topics)))
    }

    /// Whether nobody can tell which of two states of a row is the newer.
    pub(crate) fn is_raced(&self, row: &Row, nth: u64) -> bool {
        self.raced.get(row).is_some_and(|upto| nth <= *upto)
    }
}

impl Game {
    /// What somebody with these topics is to have of a channel in the end.
    pub(crate) fn visible(&self, channel: &str, topics: &Topics) -> BTreeMap<String, Value> {
        let rows = self.w.home.all(channel).into_iter();
        let seen = rows.filter(|row| audience(channel, row.as_object().unwrap()).sees(topics));
        seen.map(|row| (row["id"].as_str().unwrap().to_owned(), row))
            .collect()
    }
}
