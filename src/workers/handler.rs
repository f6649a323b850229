//! Handlers in Rust for channels whose rows live elsewhere: the trait, what a handler is told, and
//! what it is asked in which order.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;

use worker::Env;

use crate::audience::Topics;
use crate::names::{Channel, Identity, Key, Millis, RequestId, SessionId, Space};
use crate::protocol::{Action, Code, Fields, Problem, text_of};
use crate::small_map::SmallMap;
use crate::source::{
    Answer, Answered, Ask, Failed, Fetch, Operation, Page, Question, Scope, Write, Written,
    not_set_up,
};

pub use crate::source::{Rows, Stored};

/// Keeps the rows of channels, in Rust. A rule names it: `"source": {"handler": "tickets"}`, and
/// [`Handlers::on`] gives it that name. All but [`Handler::fetch`] may be left out: what is not
/// written is `read_only`.
///
/// Refusals are problems of the wire contract; their message and field reach the client. Whatever
/// takes longer than the source's `timeout` (10 s) is `unavailable` to the client. The engine keeps
/// the order: it never asks for two writes of one row at once, and a connection's one after the other.
/// A write that was answered with `unavailable` or `internal` may come again with the same mutation
/// id, see [`Context::mutation_id`].
pub trait Handler: 'static {
    /// Whether a session may do something, beside what the channel's rule says. It is asked for every
    /// subscription (also one that the log answers), mutation, presence and signal, unless the rule's
    /// `authorize` says otherwise.
    ///
    /// # Errors
    /// Why not: `unauthorized` or `forbidden`.
    fn authorize(
        &self,
        _context: &Context<'_>,
        _operation: &Operation,
    ) -> impl Future<Output = Result<(), Problem>> {
        async { Ok(()) }
    }

    /// A page of the rows that the session may see: all of them, or those that were changed at `since`
    /// or later, with the keys that are gone since. At most `page.limit` is asked for; more is cut into
    /// pages by the engine, as long as it fits its memory.
    ///
    /// # Errors
    /// Why there is none. `unavailable` where it may be asked again.
    fn fetch(
        &self,
        context: &Context<'_>,
        since: Option<Millis>,
        page: &PageAsk<'_>,
    ) -> impl Future<Output = Result<Rows, Problem>>;

    /// Stores a row in place of one of the same key that the session may write.
    ///
    /// # Errors
    /// `forbidden` over a row that the session may not see, `invalid` with a field, and others.
    fn create(
        &self,
        _context: &Context<'_>,
        _key: &Key,
        _row: &str,
    ) -> impl Future<Output = Result<Stored, Problem>> {
        async { Err(read_only()) }
    }

    /// Changes the given top-level fields of a row. Answers with the full row.
    ///
    /// # Errors
    /// `not_found` also for a row that the session may not see, `invalid` with a field, and others.
    fn update(
        &self,
        _context: &Context<'_>,
        _key: &Key,
        _changes: &str,
    ) -> impl Future<Output = Result<Stored, Problem>> {
        async { Err(read_only()) }
    }

    /// Deletes a row.
    ///
    /// # Errors
    /// As for [`Handler::update`].
    fn delete(
        &self,
        _context: &Context<'_>,
        _key: &Key,
    ) -> impl Future<Output = Result<Stored, Problem>> {
        async { Err(read_only()) }
    }

    /// Who may see a row after a write; of a deleted one, who could, as far as [`Handler::read`] tells.
    /// Unless replaced, the channel's rule decides.
    ///
    /// # Errors
    /// Whatever it is, the write stands and nobody is told; whoever asks next is answered by `fetch`.
    fn scope(
        &self,
        _context: &Context<'_>,
        _action: Action,
        _row: Option<&str>,
    ) -> impl Future<Output = Result<Scope, Problem>> {
        async { Ok(Scope::ByRule) }
    }

    /// A row as it is, whoever may see it: asked for before a write, so that those who lose sight of
    /// the row are told. Needed where audiences change and the log may not know the row.
    ///
    /// # Errors
    /// Whatever it is, the write is refused with it.
    fn read(
        &self,
        _context: &Context<'_>,
        _key: &Key,
    ) -> impl Future<Output = Result<Option<String>, Problem>> {
        async { Ok(None) }
    }
}

fn read_only() -> Problem {
    Problem::new(Code::ReadOnly, "this cannot be changed here")
}

/// Who asks, and where.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The sync Worker's bindings and settings.
    pub env: &'a Env,
    /// The space.
    pub space: &'a Space,
    question: &'a Question,
}

impl Context<'_> {
    /// The channel.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.question.channel
    }

    /// The public name of the session; of a request over HTTP a name of its own.
    #[must_use]
    pub fn session(&self) -> &SessionId {
        &self.question.session
    }

    /// The verified user.
    #[must_use]
    pub fn identity(&self) -> Option<&Identity> {
        self.question.grant.identity.as_ref()
    }

    /// What the session holds, `user:<identity>` among it.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.question.grant.topics
    }

    /// The payload of the verified token, as JSON.
    #[must_use]
    pub fn claims(&self) -> Option<&str> {
        self.question.grant.claims.as_deref()
    }

    /// What the app's authentication endpoint said beside the identity, as JSON.
    #[must_use]
    pub fn app_context(&self) -> Option<&str> {
        self.question.grant.context.as_deref()
    }

    /// The URL of the upgrade, or of the request over HTTP, without its tokens.
    #[must_use]
    pub fn url(&self) -> Option<String> {
        self.handshake(|fields| text_of(fields.get("url")?).map(Into::into))
    }

    /// A header of the upgrade: `cookie`, or one that `HANDSHAKE_HEADERS` names; in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<String> {
        self.handshake(|fields| {
            let headers = Fields::parse(fields.get("headers")?.get()).ok()?;
            text_of(headers.get(name)?).map(Into::into)
        })
    }

    fn handshake<T>(&self, read: impl FnOnce(&Fields<'_>) -> Option<T>) -> Option<T> {
        let handshake = self.question.grant.handshake.as_deref()?;
        read(&Fields::parse(handshake).ok()?)
    }

    /// The id of the mutation: the same for each of its repeats. Ids belong to
    /// [`Context::mutation_owner`]: those of two owners may be alike.
    #[must_use]
    pub fn mutation_id(&self) -> Option<&RequestId> {
        self.write().map(|write| &write.id)
    }

    /// Whose the mutation's id is: a text that stands for the identity, or for the session of somebody
    /// without one.
    #[must_use]
    pub fn mutation_owner(&self) -> Option<&str> {
        self.write().map(|write| write.owner.as_str())
    }

    /// The digest of the mutation's content: the same id with another digest is a `conflict`.
    #[must_use]
    pub fn mutation_hash(&self) -> Option<&str> {
        self.write().map(|write| write.hash.as_str())
    }

    fn write(&self) -> Option<&Write> {
        match &self.question.what {
            Ask::Write(write) => Some(write),
            Ask::Authorize(_) | Ask::Fetch(_) => None,
        }
    }
}

/// Which page of rows is wanted.
#[derive(Debug, Clone, Copy)]
pub struct PageAsk<'a> {
    /// What the page before said in [`Rows::next`]; nothing for the first.
    pub token: Option<&'a str>,
    /// Rows and deleted keys, 1–1,000.
    pub limit: usize,
}

/// The handlers of a sync Worker, by the names that rules call them.
#[derive(Clone, Default)]
pub struct Handlers {
    by_name: SmallMap<&'static str, Rc<dyn AnyHandler>>,
}

impl Handlers {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives a handler a name.
    #[must_use]
    pub fn on(mut self, name: &'static str, handler: impl Handler) -> Self {
        self.by_name.insert(name, Rc::new(handler));
        self
    }

    /// Puts a question to the handler of a name.
    pub(super) async fn ask(
        &self,
        name: &str,
        env: &Env,
        space: &Space,
        question: &Question,
        row_bytes: usize,
    ) -> Answered {
        let Some(handler) = self.by_name.get(name) else {
            worker::console_error!("SYNC_CHANNELS: this sync Worker has no handler {name}");
            return Err(not_set_up().into());
        };
        let context = Context {
            env,
            space,
            question,
        };
        handler.ask(context, row_bytes).await
    }
}

/// A handler of any type.
trait AnyHandler {
    fn ask<'a>(
        &'a self,
        context: Context<'a>,
        row_bytes: usize,
    ) -> Pin<Box<dyn Future<Output = Answered> + 'a>>;
}

impl<H: Handler> AnyHandler for H {
    fn ask<'a>(
        &'a self,
        context: Context<'a>,
        row_bytes: usize,
    ) -> Pin<Box<dyn Future<Output = Answered> + 'a>> {
        Box::pin(async move {
            match &context.question.what {
                Ask::Authorize(operation) => {
                    self.authorize(&context, operation).await?;
                    Ok(Answer::Allowed)
                }
                Ask::Fetch(fetch) => {
                    let page = fetched(self, &context, fetch, row_bytes).await?;
                    Ok(Answer::Page(page))
                }
                Ask::Write(write) => {
                    let written = written(self, &context, write, row_bytes).await?;
                    Ok(Answer::Written(written))
                }
            }
        })
    }
}

async fn fetched<H: Handler>(
    handler: &H,
    context: &Context<'_>,
    fetch: &Fetch,
    row_bytes: usize,
) -> Result<Page, Problem> {
    if fetch.authorize {
        handler.authorize(context, &Operation::subscribe()).await?;
    }
    let page = PageAsk {
        token: fetch.token.as_deref(),
        limit: fetch.limit,
    };
    let rows = handler.fetch(context, fetch.since, &page).await?;
    rows.page(fetch, row_bytes)
        .map_err(|what| wrong(context, what))
}

async fn written<H: Handler>(
    handler: &H,
    context: &Context<'_>,
    write: &Write,
    row_bytes: usize,
) -> Result<Written, Failed> {
    if write.authorize {
        handler.authorize(context, &write.operation()).await?;
    }
    let (key, data) = (&write.key, write.data.as_deref().unwrap_or("{}"));
    let held = handler.read(context, key).await?;
    let before = match &held {
        Some(row) => Some(handler.scope(context, write.action, Some(row)).await),
        None => None,
    };
    let stored = match write.action {
        Action::Create => handler.create(context, key, data).await,
        Action::Update => handler.update(context, key, data).await,
        Action::Delete => handler.delete(context, key).await,
    };
    let stored = stored.map_err(|problem| Failed {
        may_be_done: matches!(problem.code, Code::Unavailable | Code::Internal),
        problem,
    })?;
    if !stored.is_of(write, row_bytes) {
        return Err(Failed {
            problem: wrong(context, "what is no row of this key"),
            may_be_done: true,
        });
    }
    let after = match stored.needs_scope(write.action, before.is_some()) {
        true => {
            let row = stored.row.as_deref();
            Some(handler.scope(context, write.action, row).await)
        }
        false => None,
    };
    let (written, failed) = stored.written(before, after);
    if let Some(problem) = failed {
        let channel = context.channel();
        worker::console_error!("handler: scope in {channel} failed, nobody is told: {problem}");
    }
    Ok(written)
}

/// What a handler says wrong is no fault of its client.
fn wrong(context: &Context<'_>, what: &str) -> Problem {
    worker::console_error!("handler: {} gave {what}", context.channel());
    Problem::new(Code::Internal, "the channel's handler answered wrongly")
}
