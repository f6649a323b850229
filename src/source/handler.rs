//! What a handler in Rust says, made into what the engine is answered.

use super::{Fetch, Page, Scope, Write, Written};
use crate::audience::Audience;
use crate::limits;
use crate::names::Key;
use crate::protocol::{Action, Problem};
use crate::row;

/// A page of rows.
#[derive(Debug, Clone, Default)]
pub struct Rows {
    /// The rows as JSON objects, each with its key as `id`.
    pub rows: Vec<String>,
    /// Keys that are gone since the time asked for.
    pub deleted: Vec<String>,
    /// Where the next page begins, in words of your own, at most 512 bytes; nothing after the last.
    pub next: Option<String>,
    /// Whether these are all rows although only some were asked for: clients forget what they have.
    pub full: bool,
}

impl From<Vec<String>> for Rows {
    /// All that there is to say.
    fn from(rows: Vec<String>) -> Self {
        Self {
            rows,
            ..Self::default()
        }
    }
}

impl Rows {
    /// The page.
    ///
    /// # Errors
    /// What is wrong with it, for the log.
    pub fn page(self, fetch: &Fetch, row_bytes: usize) -> Result<Page, &'static str> {
        if self.rows.len() + self.deleted.len() > limits::SOURCE_ANSWER_ROWS {
            return Err("too many rows for a page");
        }
        let bytes = self.rows.iter().chain(&self.deleted).map(String::len);
        if bytes.sum::<usize>() > limits::SOURCE_ANSWER_BYTES {
            return Err("more than 8 MiB for a page");
        }
        let token = self.next.as_ref().map_or(1, String::len);
        if !(1..=limits::SOURCE_TOKEN_BYTES).contains(&token) {
            return Err("a token for the next page that is empty or too long");
        }
        let rows = self.rows.into_iter().map(|row| {
            let key = row::read(&row, row_bytes);
            key.map(|key| (key, row)).map_err(|_| "what is no row")
        });
        let keys = self.deleted.iter();
        let keys = keys.map(|key| Key::parse(key).map_err(|_| "what is no key"));
        Ok(Page {
            rows: rows.collect::<Result<_, _>>()?,
            deleted: keys.collect::<Result<_, _>>()?,
            next: self.next,
            full: self.full || fetch.since.is_none(),
        })
    }
}

/// What a write came to.
#[derive(Debug, Clone, Default)]
pub struct Stored {
    /// The full row as it is now; of a delete the row as it was, if that is known. Nothing where a
    /// repeat finds it gone.
    pub row: Option<String>,
    /// Whether the mutation had been executed before.
    pub repeated: bool,
}

impl From<String> for Stored {
    /// A row that was written just now.
    fn from(row: String) -> Self {
        Self {
            row: Some(row),
            repeated: false,
        }
    }
}

/// What a handler's scope said, of a row for which it was asked.
pub type Scoped = Option<Result<Scope, Problem>>;

impl Stored {
    /// A row was deleted just now. What it was tells who could see it, where the handler's `read` does
    /// not.
    #[must_use]
    pub fn deleted(row: Option<String>) -> Self {
        Self {
            row,
            repeated: false,
        }
    }

    /// The mutation had been executed before; this is its row by now.
    #[must_use]
    pub fn before(row: Option<String>) -> Self {
        Self {
            row,
            repeated: true,
        }
    }

    /// Whether it is of the row that was to be written.
    #[must_use]
    pub fn is_of(&self, write: &Write, row_bytes: usize) -> bool {
        let is_row = |row: &String| row::check(&write.key, row, row_bytes).is_ok();
        self.row.as_ref().is_none_or(is_row)
    }

    /// Whether the scope is to be asked for the row that the write has left. Who could see a deleted one
    /// the row tells that was read before, if there was one (`is_known`), else that which is answered with.
    #[must_use]
    pub fn needs_scope(&self, action: Action, is_known: bool) -> bool {
        match action {
            Action::Delete => !is_known && self.row.is_some(),
            Action::Create | Action::Update => true,
        }
    }

    /// What was written. The write stands, whatever the scope said: where it failed for the row that is
    /// told, nobody is, and the log is to say why.
    #[must_use]
    pub fn written(self, before: Scoped, after: Scoped) -> (Written, Option<Problem>) {
        let known = before
            .as_ref()
            .and_then(|said| audience(said.as_ref().ok()));
        let told = after.or(before).unwrap_or(Ok(Scope::ByRule));
        let (scope, failed) = match told {
            Ok(scope) => (scope, None),
            Err(problem) => (Scope::Unknown, Some(problem)),
        };
        let written = Written {
            row: self.row,
            scope,
            before: known,
            repeated: self.repeated,
        };
        (written, failed)
    }
}

fn audience(scope: Option<&Scope>) -> Option<Audience> {
    match scope? {
        Scope::Of(audience) => Some(audience.clone()),
        Scope::ByRule | Scope::Unknown => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::{Millis, RequestId, Topic};
    use crate::protocol::Code;

    const ROW: &str = r#"{"id":"k"}"#;

    fn fetch(since: Option<u64>) -> Fetch {
        Fetch {
            since: since.map(Millis),
            token: None,
            limit: 500,
            authorize: false,
        }
    }

    fn page(rows: Rows) -> Result<Page, &'static str> {
        rows.page(&fetch(Some(7)), limits::ROW_BYTES)
    }

    fn of(user: &str) -> Scope {
        let topic = Topic::parse(&format!("user:{user}")).unwrap();
        Scope::Of(Audience::of([topic]).unwrap())
    }

    fn failed() -> Result<Scope, Problem> {
        Err(Problem::new(Code::Unavailable, "not now"))
    }

    fn stored() -> Stored {
        Stored::from(ROW.to_owned())
    }

    #[test]
    fn a_page_has_rows_with_their_keys_and_is_full_where_all_was_asked_for() {
        let rows = || Rows {
            deleted: vec!["gone".to_owned()],
            next: Some("n".to_owned()),
            ..vec![ROW.to_owned()].into()
        };
        let found = page(rows()).unwrap();
        assert_eq!(found.rows, [(Key::parse("k").unwrap(), ROW.to_owned())]);
        assert_eq!(found.deleted, [Key::parse("gone").unwrap()]);
        assert_eq!((found.next.as_deref(), found.full), (Some("n"), false));
        let said = Rows {
            full: true,
            ..rows()
        };
        assert!(page(said).unwrap().full);
        assert!(rows().page(&fetch(None), limits::ROW_BYTES).unwrap().full);
    }

    #[test]
    fn what_is_no_row_no_key_or_no_token_is_refused() {
        for row in ["", "7", "{}", r#"{"id":7}"#, r#"{"id":"k","id":"l"}"#] {
            assert_eq!(
                page(vec![row.to_owned()].into()),
                Err("what is no row"),
                "{row}"
            );
        }
        let long = format!(r#"{{"id":"k","t":"{}"}}"#, "x".repeat(limits::ROW_BYTES));
        assert_eq!(page(vec![long].into()), Err("what is no row"));
        for key in [String::new(), "k".repeat(limits::KEY_BYTES + 1)] {
            let deleted = vec![key];
            let rows = Rows {
                deleted,
                ..Rows::default()
            };
            assert_eq!(page(rows), Err("what is no key"));
        }
        let next = |bytes: usize| {
            page(Rows {
                next: Some("n".repeat(bytes)),
                ..Rows::default()
            })
        };
        for bytes in [1, limits::SOURCE_TOKEN_BYTES] {
            assert!(next(bytes).is_ok());
        }
        for bytes in [0, limits::SOURCE_TOKEN_BYTES + 1] {
            assert!(next(bytes).unwrap_err().contains("token"));
        }
    }

    #[test]
    fn a_page_has_as_many_rows_and_bytes_as_any_answer_and_no_more() {
        let keys = |count: usize| Rows {
            deleted: vec!["k".to_owned(); count - 1],
            ..vec![ROW.to_owned()].into()
        };
        assert!(page(keys(limits::SOURCE_ANSWER_ROWS)).is_ok());
        assert!(
            page(keys(limits::SOURCE_ANSWER_ROWS + 1))
                .unwrap_err()
                .contains("too many")
        );
        // Rows of 64 KiB, and a deleted key for the rest.
        let empty = r#"{"id":"k","t":""}"#.len();
        let row = format!(r#"{{"id":"k","t":"{}"}}"#, "x".repeat(65_536 - empty));
        let count = limits::SOURCE_ANSWER_BYTES / row.len();
        let bytes = |more: usize| {
            let mut rows = vec![row.clone(); count - 1];
            rows.push(format!(
                r#"{{"id":"k","t":"{}"}}"#,
                "x".repeat(65_536 - empty - 1)
            ));
            let deleted = vec!["k".repeat(more)];
            page(Rows {
                deleted,
                ..rows.into()
            })
        };
        assert!(bytes(1).is_ok());
        assert!(bytes(2).unwrap_err().contains("8 MiB"));
    }

    #[test]
    fn a_row_is_of_its_key_or_not_told() {
        let write = Write {
            id: RequestId::parse("m").unwrap(),
            owner: "o".to_owned(),
            hash: "h".to_owned(),
            action: Action::Update,
            key: Key::parse("k").unwrap(),
            data: None,
            authorize: false,
        };
        assert!(stored().is_of(&write, limits::ROW_BYTES));
        assert!(Stored::deleted(None).is_of(&write, limits::ROW_BYTES));
        for row in [r#"{"id":"other"}"#, "{}", "7"] {
            let stored = Stored::from(row.to_owned());
            assert!(!stored.is_of(&write, limits::ROW_BYTES), "{row}");
        }
        assert!(!stored().is_of(&write, ROW.len() - 1));
    }

    #[test]
    fn the_scope_is_asked_of_what_is_there_now_and_of_what_a_delete_took_unless_it_was_read() {
        for action in [Action::Create, Action::Update] {
            assert!(stored().needs_scope(action, false));
            assert!(Stored::before(None).needs_scope(action, true));
        }
        assert!(stored().needs_scope(Action::Delete, false));
        assert!(!stored().needs_scope(Action::Delete, true));
        assert!(!Stored::deleted(None).needs_scope(Action::Delete, false));
    }

    #[test]
    fn the_scope_after_a_write_decides_and_what_was_read_says_who_saw_it_before() {
        for (said, scope) in [
            (of("b"), of("b")),
            (Scope::ByRule, Scope::ByRule),
            (Scope::Unknown, Scope::Unknown),
        ] {
            let (written, failed) = stored().written(Some(Ok(of("a"))), Some(Ok(said)));
            assert_eq!((written.scope, failed), (scope, None));
            assert_eq!(written.before, audience(Some(&of("a"))));
            assert_eq!(
                (written.row.as_deref(), written.repeated),
                (Some(ROW), false)
            );
        }
        // Who saw it before is not known of a row that was not read, nor where the rule or nobody says.
        for before in [
            None,
            Some(Ok(Scope::ByRule)),
            Some(Ok(Scope::Unknown)),
            Some(failed()),
        ] {
            let (written, failed) = stored().written(before, Some(Ok(of("b"))));
            assert_eq!(
                (written.scope, written.before, failed),
                (of("b"), None, None)
            );
        }
    }

    #[test]
    fn a_scope_that_fails_leaves_the_write_and_tells_nobody() {
        let (written, said) = stored().written(Some(Ok(of("a"))), Some(failed()));
        assert_eq!((written.scope, said), (Scope::Unknown, failed().err()));
        assert_eq!(written.before, audience(Some(&of("a"))));
        // Of a delete it is that of the row that was read.
        let (written, said) = Stored::deleted(None).written(Some(failed()), None);
        assert_eq!(
            (written.scope, written.before, said),
            (Scope::Unknown, None, failed().err())
        );
    }

    #[test]
    fn who_saw_a_deleted_row_is_told_by_what_was_read_or_by_the_row_or_by_the_rule() {
        let (written, _) = stored().written(Some(Ok(of("a"))), None);
        assert_eq!(written.scope, of("a"));
        assert_eq!(written.before, audience(Some(&of("a"))));
        let (written, _) = stored().written(None, Some(Ok(of("b"))));
        assert_eq!((written.scope, written.before), (of("b"), None));
        let (written, failed) = Stored::deleted(None).written(None, None);
        assert_eq!(
            (written.scope, written.before, failed),
            (Scope::ByRule, None, None)
        );
    }

    #[test]
    fn a_repeat_stays_one() {
        for row in [Some(ROW.to_owned()), None] {
            let (written, _) = Stored::before(row.clone()).written(None, Some(Ok(Scope::ByRule)));
            assert_eq!((written.row, written.repeated), (row, true));
        }
    }
}
