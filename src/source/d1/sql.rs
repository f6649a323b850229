//! Statements, and who runs them.

use serde_json::value::RawValue;

use crate::protocol::{JsonWriter, write_text};

/// A statement with what is bound to it, as JSON: `?1` is the first.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Statement {
    /// Its text.
    pub sql: String,
    /// What is bound, in order: texts, numbers and nulls.
    pub params: Vec<String>,
}

impl Statement {
    pub(super) fn new(parts: &[&str]) -> Self {
        let mut statement = Self::default();
        statement.add(parts);
        statement
    }

    /// Appends to the text. Names of a [`Table`](super::Table) go in as they are, between backquotes:
    /// they were checked when it was read. (Of a name in double quotes SQLite makes a text where it
    /// knows no such column.)
    pub(super) fn add(&mut self, parts: &[&str]) -> &mut Self {
        for part in parts {
            self.sql.push_str(part);
        }
        self
    }

    /// Binds a value and appends the place where it goes.
    pub(super) fn bind(&mut self, json: &str) -> &mut Self {
        self.params.push(json.to_owned());
        let place = self.params.len().to_string();
        self.add(&["?", &place])
    }

    /// Binds several, with commas between their places.
    pub(super) fn bind_all(&mut self, json: &[String]) -> &mut Self {
        for (nth, value) in json.iter().enumerate() {
            self.add(&[if nth == 0 { "" } else { ", " }]).bind(value);
        }
        self
    }
}

/// A text as JSON.
pub(super) fn text(text: &str) -> String {
    let mut json = String::with_capacity(text.len() + 2);
    write_text(&mut json, text);
    json
}

/// Statements as a list of `[sql, [values]]`.
#[must_use]
pub fn to_json(statements: &[Statement]) -> String {
    let mut out = JsonWriter::with_capacity(1024);
    out.array(|list| {
        for statement in statements {
            list.array(|pair| {
                pair.text_item(&statement.sql);
                pair.array(|values| {
                    let params = statement.params.iter();
                    params.for_each(|json| values.raw_item(json));
                });
            });
        }
    });
    out.finish()
}

/// Where statements are run.
pub trait Database {
    /// Runs the statements in order and in one transaction. What they give, as a JSON list of lists
    /// of rows, each a list of values.
    ///
    /// # Errors
    /// What the database says. Nothing was written, if it said so itself.
    fn batch(&self, statements: &[Statement]) -> impl Future<Output = Result<String, String>>;
}

/// The rows of each statement.
pub(super) struct Results<'a>(Vec<Vec<Vec<&'a RawValue>>>);

impl<'a> Results<'a> {
    pub(super) fn read(json: &'a str) -> Result<Self, String> {
        let results = serde_json::from_str(json);
        let error = |error| format!("its answer cannot be read: {error}");
        results.map(Self).map_err(error)
    }

    /// The rows of the statement at a place; none where there is no such statement.
    pub(super) fn of(&self, statement: usize) -> &[Vec<&'a RawValue>] {
        self.0.get(statement).map_or(&[], Vec::as_slice)
    }
}
