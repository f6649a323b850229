//! Postgres through Hyperdrive: a connection for one piece of work, and what a table's SQL comes to.

use futures_util::future::join;
use tidewire::protocol::{Code, Problem};
use tokio_postgres::error::{DbError, SqlState};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Config, Error, NoTls, Row};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::{JsFuture, spawn_local};
use worker::worker_sys::{Hyperdrive, Socket};
use worker::{Env, console_error};

use crate::table::Table;

const BINDING: &str = "HYPERDRIVE";

/// Who asks, and in which space. No row of another is read or written.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) space: &'a str,
    pub(crate) identity: Option<&'a str>,
}

/// A mutation: whose, and what about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mutation<'a> {
    pub(crate) asker: Asker<'a>,
    /// Whose its id is: no text that is an identity's is a session's.
    pub(crate) owner: &'a str,
    /// Its id, unique to its owner.
    pub(crate) id: &'a str,
    /// The digest of its content.
    pub(crate) hash: &'a str,
    pub(crate) key: &'a str,
}

/// A row, or that it was deleted.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) key: String,
    /// The row as JSON; nothing where it was deleted.
    pub(crate) data: Option<String>,
}

/// Some rows.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) items: Vec<Item>,
    /// Where the next page begins, unless this one is the last.
    pub(crate) next: Option<String>,
}

/// What a mutation came to.
#[derive(Debug)]
pub(crate) struct Done {
    /// The row that it left, or took away. Where it was executed before, the row as it is now, unless
    /// that is gone, or out of sight.
    pub(crate) row: Option<String>,
    /// Whether it was executed before.
    pub(crate) repeated: bool,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Db {
    client: Client,
}

impl Db {
    /// Connects, does the work, and disconnects. Hyperdrive keeps the connections to the database
    /// itself, so that this costs no more than a question; and an open one would keep the object
    /// from sleeping. Whoever stops waiting for the work ends the connection, too.
    pub(crate) async fn during<T>(
        env: &Env,
        work: impl AsyncFnOnce(&Self) -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        let (socket, config) = dial(env).map_err(|error| {
            console_error!("{BINDING}: {error:?}");
            unavailable()
        })?;
        let stream = worker::Socket::from(socket.0.clone());
        let connected = config.connect_raw(stream, NoTls).await;
        let (client, connection) = connected.map_err(|error| problem(&error))?;
        let work = async move {
            let db = Self { client };
            let result = work(&db).await;
            // Its end is what lets the connection end.
            drop(db);
            result
        };
        // That the connection fails, the work learns from its next question.
        let (result, _ended) = join(work, connection).await;
        result
    }

    /// A page of a table. Who got the last one gives its `next`; who knows the rows of a time gives
    /// that, and is told of deleted ones.
    pub(crate) async fn page(
        &self,
        table: &Table,
        Asker { space, identity }: Asker<'_>,
        since: Option<i64>,
        after: Option<&str>,
        count: usize,
    ) -> Result<Page, Problem> {
        let (time, key) = match after {
            None => (i64::MIN, ""),
            Some(token) => read_token(token)?,
        };
        let limit = i64::try_from(count).unwrap_or(i64::MAX);
        let params: [Param<'_>; 6] = [
            (&identity, Type::TEXT),
            (&since, Type::INT8),
            (&time, Type::INT8),
            (&key, Type::TEXT),
            (&limit, Type::INT8),
            (&space, Type::TEXT),
        ];
        let rows = self.ask(&table.page(), &params).await?;
        let mut items = Vec::with_capacity(rows.len());
        let mut end = None;
        for row in &rows {
            let key: String = cell(row, 0)?;
            let time: i64 = cell(row, 1)?;
            end = Some(format!("{time}:{key}"));
            let data = cell(row, 2)?;
            items.push(Item { key, data });
        }
        let next = end.filter(|_| items.len() >= count);
        Ok(Page { items, next })
    }

    /// Writes a new row: the row.
    pub(crate) async fn create(
        &self,
        table: &Table,
        mutation: Mutation<'_>,
        data: &str,
    ) -> Result<Done, Problem> {
        table.check_new(mutation.asker.identity, data)?;
        let taken = || Problem::new(Code::Forbidden, "this key is taken");
        self.mutate(table, &table.create(), mutation, data, taken)
            .await
    }

    /// Changes some fields of a row: the row.
    pub(crate) async fn update(
        &self,
        table: &Table,
        mutation: Mutation<'_>,
        changes: &str,
    ) -> Result<Done, Problem> {
        table.check(mutation.asker.identity, changes)?;
        self.mutate(table, &table.update(), mutation, changes, not_found)
            .await
    }

    /// Deletes a row: the row as it was.
    pub(crate) async fn delete(
        &self,
        table: &Table,
        mutation: Mutation<'_>,
    ) -> Result<Done, Problem> {
        self.mutate(table, &table.delete(), mutation, "{}", not_found)
            .await
    }

    /// Executes a mutation, once.
    async fn mutate(
        &self,
        table: &Table,
        sql: &str,
        mutation: Mutation<'_>,
        data: &str,
        refusal: impl FnOnce() -> Problem,
    ) -> Result<Done, Problem> {
        let Mutation {
            asker: Asker { space, identity },
            owner,
            id,
            hash,
            key,
        } = mutation;
        let params: [Param<'_>; 7] = [
            (&identity, Type::TEXT),
            (&key, Type::TEXT),
            (&data, Type::TEXT),
            (&id, Type::TEXT),
            (&hash, Type::TEXT),
            (&space, Type::TEXT),
            (&owner, Type::TEXT),
        ];
        if let Some(row) = self.ask(sql, &params).await?.first() {
            return Ok(Done {
                row: cell(row, 0)?,
                repeated: false,
            });
        }
        // It may not be, or was before.
        let known = self.ask(&table.outcome(), &params).await?;
        let row = known.first().ok_or_else(refusal)?;
        match cell::<String>(row, 0)? == hash {
            true => Ok(Done {
                row: cell(row, 1)?,
                repeated: true,
            }),
            false => Err(Problem::new(
                Code::Conflict,
                "this id was used for another mutation",
            )),
        }
    }

    /// Asks without a prepared statement, which Hyperdrive's pool would not keep; hence the types.
    async fn ask(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Problem> {
        let asked = self.client.query_typed(sql, params).await;
        asked.map_err(|error| problem(&error))
    }
}

type Param<'a> = (&'a (dyn ToSql + Sync), Type);

/// A socket that is closed by whoever stops using it, and not when it is collected one day.
#[derive(Debug)]
struct Closing(Socket);

impl Drop for Closing {
    fn drop(&mut self) {
        if let Ok(closed) = self.0.close() {
            // Whether that succeeds is of no interest, but a rejection nobody awaits is an error.
            spawn_local(async { drop(JsFuture::from(closed).await) });
        }
    }
}

/// A socket to the database, and how to log in there.
fn dial(env: &Env) -> Result<(Closing, Config), Box<dyn std::error::Error>> {
    let binding = env.hyperdrive(BINDING)?;
    // No TLS: from Hyperdrive on that is Hyperdrive's, and it says so.
    let config = binding.connection_string().parse()?;
    let binding: &JsValue = binding.as_ref();
    let socket = binding.unchecked_ref::<Hyperdrive>().connect();
    let socket = socket.map_err(worker::Error::from)?;
    Ok((Closing(socket), config))
}

fn cell<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, at: usize) -> Result<T, Problem> {
    row.try_get(at).map_err(|error| problem(&error))
}

/// The time and the key of a page's last row.
fn read_token(token: &str) -> Result<(i64, &str), Problem> {
    let parts = token.split_once(':');
    parts
        .and_then(|(time, key)| Some((time.parse().ok()?, key)))
        .ok_or_else(|| Problem::malformed("not a place that a page gave"))
}

fn not_found() -> Problem {
    Problem::new(Code::NotFound, "no such row")
}

fn unavailable() -> Problem {
    Problem::new(Code::Unavailable, "the database cannot be asked now")
}

/// What to tell the peer of an error. The log is told of those that are not the peer's.
fn problem(error: &Error) -> Problem {
    let Some(said) = error.as_db_error() else {
        // The way there is broken, or was not to be had.
        console_error!("postgres: {error:?}");
        return unavailable();
    };
    let code = said.code();
    let problem = match code.code().get(..2) {
        Some("23") if *code == SqlState::UNIQUE_VIOLATION => return doubled(said),
        // A value that its type, or a constraint, does not take.
        Some("22" | "23") => {
            let field = said.column().unwrap_or("data");
            return Problem::invalid(field, "breaks a rule of the database");
        }
        // Connections, a stand-by that only reads, deadlocks, resources, locks, shutdowns and
        // timeouts, the system.
        Some("08" | "25" | "40" | "53" | "55" | "57" | "58") => unavailable(),
        _ => Problem::new(Code::Internal, "the database refuses what it is asked"),
    };
    // Without the details, in which rows are.
    console_error!("postgres: {}: {}", code.code(), said.message());
    problem
}

fn doubled(said: &DbError) -> Problem {
    match said.table() {
        Some("tidewire_outcomes") => {
            let message = "the same mutation is being executed; try again";
            Problem::new(Code::Unavailable, message)
        }
        _ => Problem::new(
            Code::Conflict,
            "another row has a value that must be unique",
        ),
    }
}
