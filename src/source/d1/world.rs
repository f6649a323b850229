//! A D1 for tests: rusqlite, which answers as D1 does, and can be told to fail.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use rusqlite::Connection;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};

use super::{Database, Done, Moment, OUTCOMES, Schema, Statement, Table, Task, examine};
use crate::audience::Topics;
use crate::channel::Rules;
use crate::digest;
use crate::limits;
use crate::names::{Channel, Identity, Key, Millis, RequestId, SessionId, Space};
use crate::protocol::Action;
use crate::session::Grant;
use crate::source::{Answer, Ask, AskId, Fetch, Home, Page, Question, Source, Write, Written};

/// What happens before a batch.
type Before = Box<dyn FnOnce(&Connection)>;

/// One database.
pub(super) struct World {
    pub(super) connection: Connection,
    /// What happens before each of the next batches.
    before: RefCell<VecDeque<Before>>,
    /// Whether the answer to the nth batch from now is lost.
    lose: Cell<Option<usize>>,
    /// Batches so far.
    pub(super) batches: Cell<usize>,
    /// Statements so far.
    pub(super) statements: RefCell<Vec<Statement>>,
}

impl World {
    pub(super) fn empty() -> Self {
        Self {
            connection: Connection::open_in_memory().unwrap(),
            before: RefCell::default(),
            lose: Cell::default(),
            batches: Cell::default(),
            statements: RefCell::default(),
        }
    }

    /// With the table of records, and a table of rows.
    pub(super) fn with(create: &str) -> Self {
        let world = Self::empty();
        world.run(OUTCOMES);
        world.run(create);
        world
    }

    pub(super) fn run(&self, sql: &str) {
        self.connection.execute_batch(sql).unwrap();
    }

    /// One value, as text.
    pub(super) fn value(&self, sql: &str) -> String {
        let value = |row: &rusqlite::Row<'_>| row.get::<_, Value>(0);
        format!("{:?}", self.connection.query_row(sql, [], value).unwrap())
    }

    /// Has something happen before the next batch, or the next after those that were said before.
    pub(super) fn before(&self, happens: impl FnOnce(&Connection) + 'static) {
        self.before.borrow_mut().push_back(Box::new(happens));
    }

    /// Loses the answer to the nth batch from now, which is done all the same.
    pub(super) fn lose(&self, nth: usize) {
        self.lose.set(Some(self.batches.get() + nth));
    }

    /// How SQLite goes about a statement.
    pub(super) fn plan(&self, statement: &Statement) -> String {
        let sql = format!("EXPLAIN QUERY PLAN {}", statement.sql);
        let mut prepared = self.connection.prepare(&sql).unwrap();
        let params = statement.params.iter().map(|json| bound(json));
        let params = rusqlite::params_from_iter(params);
        let steps = prepared.query_map(params, |row| row.get::<_, String>(3));
        let steps: Vec<_> = steps.unwrap().map(Result::unwrap).collect();
        steps.join("\n")
    }

    fn run_all(&self, statements: &[Statement]) -> Result<String, rusqlite::Error> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut results = Vec::new();
        for statement in statements {
            assert!(statement.params.len() <= 100, "D1 binds at most 100 values");
            let mut prepared = transaction.prepare(&statement.sql)?;
            let params = statement.params.iter().map(|json| bound(json));
            let mut rows = prepared.query(rusqlite::params_from_iter(params))?;
            let mut result = Vec::new();
            while let Some(row) = rows.next()? {
                let columns = 0..row.as_ref().column_count();
                let values = columns.map(|column| told(row.get_ref(column).unwrap()));
                result.push(format!("[{}]", values.collect::<Vec<_>>().join(",")));
            }
            results.push(format!("[{}]", result.join(",")));
        }
        transaction.commit()?;
        Ok(format!("[{}]", results.join(",")))
    }
}

impl Database for World {
    async fn batch(&self, statements: &[Statement]) -> Result<String, String> {
        let happens = self.before.borrow_mut().pop_front();
        if let Some(happens) = happens {
            happens(&self.connection);
        }
        let nth = self.batches.get();
        self.batches.set(nth + 1);
        self.statements.borrow_mut().extend_from_slice(statements);
        // The list that D1's binding is given must be JSON.
        serde_json::from_str::<serde_json::Value>(&super::to_json(statements)).unwrap();
        let done = self.run_all(statements).map_err(|error| error.to_string());
        match self.lose.get() == Some(nth) {
            true => Err("Network connection lost.".to_owned()),
            false => done,
        }
    }
}

/// Numbers are bound as doubles, as D1 binds them.
fn bound(json: &str) -> ToSqlOutput<'static> {
    let value = match serde_json::from_str(json).unwrap() {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Number(number) => Value::Real(number.as_f64().unwrap()),
        serde_json::Value::String(text) => Value::Text(text),
        other => panic!("cannot be bound: {other}"),
    };
    ToSqlOutput::Owned(value)
}

/// Values as they come out of D1: every number is a double.
fn told(value: ValueRef<'_>) -> String {
    let number = |number: f64| match number.fract() == 0.0 && number.abs() < 1e21 {
        true => format!("{}", number as i128),
        false => serde_json::to_string(&number).unwrap(),
    };
    match value {
        ValueRef::Null => "null".to_owned(),
        ValueRef::Integer(value) => number(value as f64),
        ValueRef::Real(value) => number(value),
        ValueRef::Text(text) => serde_json::to_string(std::str::from_utf8(text).unwrap()).unwrap(),
        ValueRef::Blob(bytes) => serde_json::to_string(bytes).unwrap(),
    }
}

/// A table `todos` with the key `id` and the time `updated_at`, and these settings.
pub(super) fn table(settings: &str) -> Table {
    let named = r#""d1":"DB","table":"todos","key":"id","updatedAt":"updated_at""#;
    let source: Source = serde_json::from_str(&format!("{{{named},{settings}}}")).unwrap();
    match source.home {
        Home::D1(table) => table,
        Home::Hooks(_) | Home::Handler(_) => panic!("another home"),
    }
}

/// What comes of something that never waits.
pub(super) fn now<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("it waits"),
    }
}

/// A table that has one column of each type, as [`COLUMNS`] say.
pub(super) const TODOS: &str = "CREATE TABLE todos (id TEXT PRIMARY KEY, title TEXT NOT NULL, \
    done INTEGER, tags TEXT, owner TEXT, n NUMERIC, updated_at INTEGER NOT NULL, gone INTEGER);";

const COLUMNS: &str = r#""columns":["title","done:boolean","tags:json","owner:text","n:number"]"#;

/// A channel whose rows are in a table, and a clock.
pub(super) struct Scene {
    pub(super) world: World,
    rules: Rules,
    schema: RefCell<Option<Rc<Schema>>>,
    /// The space of those who ask.
    pub(super) space: RefCell<Space>,
    /// The channel that they ask for.
    pub(super) channel: RefCell<Channel>,
    pub(super) clock: Cell<u64>,
    /// Whether the clock stands still.
    pub(super) stop: Cell<bool>,
    questions: Cell<u64>,
    pub(super) row_bytes: usize,
}

impl Scene {
    /// With the statements that make the table, and settings of the rule and its source.
    pub(super) fn new(create: &str, rule: &str, source: &str) -> Self {
        let comma = if source.is_empty() { "" } else { "," };
        Self::with_columns(create, rule, &format!("{COLUMNS}{comma}{source}"))
    }

    pub(super) fn with_columns(create: &str, rule: &str, source: &str) -> Self {
        let comma = if rule.is_empty() { "" } else { "," };
        let named = r#""d1":"DB","table":"todos","key":"id","updatedAt":"updated_at""#;
        // One channel, or all whose names begin so.
        let name = match source.contains(r#""channel":"#) {
            true => "c*",
            false => "c",
        };
        let rules = format!(
            r#"{{"{name}":{{"write":"user"{comma}{rule},"source":{{{named},{source}}}}}}}"#
        );
        let scene = Self {
            world: World::with(create),
            rules: Rules::parse(&rules).unwrap(),
            schema: RefCell::default(),
            space: RefCell::new(Space::default_space()),
            channel: RefCell::new(Channel::parse("c").unwrap()),
            clock: Cell::new(1_700_000_000_000),
            stop: Cell::default(),
            questions: Cell::default(),
            row_bytes: limits::ROW_BYTES,
        };
        scene.look();
        scene
    }

    fn table(&self) -> Table {
        let rule = self.rules.find(&Channel::parse("c").unwrap()).unwrap();
        match &rule.source.as_ref().unwrap().home {
            Home::D1(table) => table.clone(),
            Home::Hooks(_) | Home::Handler(_) => panic!("another home"),
        }
    }

    /// From now on it is somebody of this space who asks for this channel.
    pub(super) fn enter(&self, space: &str, channel: &str) {
        self.space.replace(Space::parse(space).unwrap());
        self.channel.replace(Channel::parse(channel).unwrap());
    }

    /// Looks at the table as it is now.
    pub(super) fn look(&self) {
        let checked = now(examine(&self.world, &self.table())).unwrap();
        self.schema.replace(Some(checked.unwrap()));
    }

    pub(super) fn ask(&self, who: &str, topics: &[&str], what: Ask) -> Done {
        let identity = Identity::parse(who).unwrap();
        let nth = self.questions.get();
        self.questions.set(nth + 1);
        if !self.stop.get() {
            self.clock.set(self.clock.get() + 1);
        }
        let question = Question {
            id: AskId(nth),
            channel: self.channel.borrow().clone(),
            session: SessionId::parse("s").unwrap(),
            grant: Grant {
                topics: Topics::granted(Some(&identity), topics.iter().copied()).unwrap(),
                identity: Some(identity),
                issued_at: Millis(0),
                expires_at: None,
                visitor: None,
                context: None,
                claims: None,
                handshake: None,
            },
            pass: None,
            what,
        };
        let rule = self.rules.find(&question.channel).unwrap();
        let schema = self.schema.borrow().clone().unwrap();
        let task = Task {
            space: &self.space.borrow().clone(),
            table: &self.table(),
            schema: &schema,
            rule,
            question: &question,
            row_bytes: self.row_bytes,
        };
        let moment = Moment {
            now: Millis(self.clock.get()),
            nonce: nth.to_string(),
        };
        now(task.run(&self.world, &moment))
    }

    pub(super) fn write(&self, who: &str, id: &str, action: Action, key: &str, data: &str) -> Done {
        let data = Some(data).filter(|data| !data.is_empty());
        let write = Write {
            id: RequestId::parse(id).unwrap(),
            owner: format!("i{who}"),
            hash: digest::content(&[
                self.channel.borrow().as_str(),
                action.as_str(),
                key,
                data.unwrap_or_default(),
            ]),
            action,
            key: Key::parse(key).unwrap(),
            data: data.map(str::to_owned),
            authorize: false,
        };
        self.ask(who, &[], Ask::Write(write))
    }

    pub(super) fn wrote(
        &self,
        who: &str,
        id: &str,
        action: Action,
        key: &str,
        data: &str,
    ) -> Written {
        match self.write(who, id, action, key, data).answered {
            Ok(Answer::Written(written)) => written,
            other => panic!("{other:?}"),
        }
    }

    pub(super) fn fetch(
        &self,
        who: &str,
        topics: &[&str],
        since: Option<u64>,
        token: Option<&str>,
        limit: usize,
    ) -> Done {
        self.ask(
            who,
            topics,
            Ask::Fetch(Fetch {
                since: since.map(Millis),
                token: token.map(str::to_owned),
                limit,
                authorize: false,
            }),
        )
    }

    pub(super) fn page(
        &self,
        who: &str,
        topics: &[&str],
        since: Option<u64>,
        token: Option<&str>,
        limit: usize,
    ) -> Page {
        match self.fetch(who, topics, since, token, limit).answered {
            Ok(Answer::Page(page)) => page,
            other => panic!("{other:?}"),
        }
    }
}
