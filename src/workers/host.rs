//! Inside the object: one input, one turn of the engine, its effects performed, nothing awaited in
//! between.

use std::cell::RefCell;
use std::rc::Rc;

use futures_channel::oneshot::{Receiver, Sender, channel};
use js_sys::{Promise, Uint8Array};
use wasm_bindgen::{JsCast, JsValue};
use wasm_bindgen_futures::JsFuture;
use worker::worker_sys::web_sys;
use worker::{Env, ResponseBuilder, Result, State, WebSocketPair};

use super::authenticator::{Authenticator, Configured};
use super::database::Database;
use super::handler::Handlers;
use super::http::{Request, Response, check_body, header};
use super::internal::{
    IDEMPOTENCY_HEADER, Route, SUBPROTOCOL_HEADER, grant_of, may_create, not_created, owner_of,
    publisher_of,
};
use super::readers::Readers;
use super::router::{config, now};
use super::{faults, glue, log, respond};
use crate::config::Log;
use crate::digest::hex;
use crate::engine::{Call, Effects, Engine, Input, Reply};
use crate::inbox::Inbox;
use crate::limits;
use crate::names::{Channel, ConnId, Millis, SessionId, Space};
use crate::observe::{Event, Observer};
use crate::protocol::{self, Close, Code, Problem};
use crate::session::Grant;
use crate::small_map::SmallMap;
use crate::source::Question;
use crate::store::{Seed, SqlError, space_of};

/// Drives the engine of one space. Every handler of the Durable Object is one call here.
pub struct Host<A = Configured, O = ()> {
    pub(super) sockets: glue::Sockets,
    pub(super) readers: Readers,
    pub(super) database: Database,
    pub(super) env: Env,
    pub(super) authenticator: Rc<A>,
    observer: Rc<O>,
    /// Where data points go.
    dataset: Option<js_sys::Object>,
    /// The space, by the name of the object.
    named: Option<Space>,
    life: Rc<RefCell<Life>>,
    /// Frames that wait for others.
    pub(super) inbox: Rc<RefCell<Inbox>>,
    /// The ends of what frames have begun, for an event of theirs to wait for.
    pub(super) begun: Rc<RefCell<Vec<Receiver<()>>>>,
    /// Who keeps rows in Rust.
    pub(super) handlers: Handlers,
    /// Requests over HTTP whose answer waits for a source.
    waiting: Rc<RefCell<SmallMap<ConnId, Sender<Waited>>>>,
    /// The name of this life of the object.
    instance: Rc<str>,
}

/// What a request over HTTP has waited for.
pub(super) enum Waited {
    /// Its answer.
    Reply(Reply),
    /// An answer that stays open.
    Open(Response),
}

/// The same host: readers that stay need one for as long.
impl<A, O> Clone for Host<A, O> {
    fn clone(&self) -> Self {
        Self {
            sockets: self.sockets.clone(),
            readers: self.readers.clone(),
            database: self.database.clone(),
            env: self.env.clone(),
            authenticator: Rc::clone(&self.authenticator),
            observer: Rc::clone(&self.observer),
            dataset: self.dataset.clone(),
            named: self.named.clone(),
            life: Rc::clone(&self.life),
            inbox: Rc::clone(&self.inbox),
            begun: Rc::clone(&self.begun),
            handlers: self.handlers.clone(),
            waiting: Rc::clone(&self.waiting),
            instance: Rc::clone(&self.instance),
        }
    }
}

/// What there is of a space.
enum Life {
    /// Nothing yet: whoever may only connect must ask before it comes into being.
    New,
    Running(Box<Running>),
    /// It cannot work: a mistake in the configuration, or storage that fails. Since when.
    Broken(Problem, Millis),
}

pub(super) struct Running {
    engine: Engine<Database>,
    /// The number of the next connection.
    next: u32,
    /// The earliest time that the alarm was asked for in this life.
    alarm: Option<Millis>,
    log: Log,
    /// The time of the last turn.
    at: Millis,
}

/// What is left of a turn's effects when all that can be done at once is done.
#[derive(Default)]
pub(super) struct Rest {
    /// The answer to the call that the input was.
    pub(super) reply: Option<Reply>,
    /// Tokens that must be judged elsewhere.
    pub(super) asks: Vec<(ConnId, String)>,
    /// What sources are asked.
    pub(super) questions: Vec<Question>,
    /// Bytes that were sent, to all together.
    pub(super) sent: usize,
}

impl Host {
    /// Wakes the object: opens the log and takes the open sockets back in. Must be called in the
    /// constructor; a mistake in the configuration is kept and told to every request.
    #[must_use]
    pub fn wake(state: &State, env: &Env) -> Self {
        Self::wake_with(state, env, Configured)
    }
}

impl<A: Authenticator> Host<A> {
    /// As [`Host::wake`], with a team's own authenticator. The router needs the same one, see
    /// [`super::router::serve_with`].
    #[must_use]
    pub fn wake_with(state: &State, env: &Env, authenticator: A) -> Self {
        let storage = js_sys::Reflect::get(state.as_raw(), &"storage".into());
        let storage = storage.unwrap_or_default();
        let host = Self {
            sockets: glue::Sockets::new(state.as_raw()),
            readers: Readers::new(&storage, limits::STREAMS_BYTES as u32),
            database: Database::new(&storage),
            env: env.clone(),
            authenticator: Rc::new(authenticator),
            observer: Rc::new(()),
            dataset: glue::dataset(env),
            named: state.id().name().and_then(|name| Space::parse(&name).ok()),
            life: Rc::new(RefCell::new(Life::New)),
            inbox: Rc::default(),
            begun: Rc::default(),
            handlers: Handlers::default(),
            waiting: Rc::default(),
            instance: random_name().into(),
        };
        host.look();
        host
    }

    /// Gives the object handlers for channels whose rows live elsewhere.
    #[must_use]
    pub fn with_handlers(self, handlers: Handlers) -> Self {
        Self { handlers, ..self }
    }

    /// Has a team's own observer told of every operation.
    #[must_use]
    pub fn observed_by<P: Observer>(self, observer: P) -> Host<A, P> {
        Host {
            sockets: self.sockets,
            readers: self.readers,
            database: self.database,
            env: self.env,
            authenticator: self.authenticator,
            observer: Rc::new(observer),
            dataset: self.dataset,
            named: self.named,
            life: self.life,
            inbox: self.inbox,
            begun: self.begun,
            handlers: self.handlers,
            waiting: self.waiting,
            instance: self.instance,
        }
    }
}

impl<A: Authenticator, O: Observer> Host<A, O> {
    /// Opens the log, if there is one.
    fn look(&self) {
        match space_of(&self.database) {
            Ok(None) => *self.life.borrow_mut() = Life::New,
            Ok(Some(space)) => self.open(Some(space)),
            Err(error) => self.fail(&storage_failed(&error)),
        }
    }

    /// Opens the log, making it where there is none. `space` is the name in the log: an object that
    /// an alarm has woken is not always told its own.
    fn open(&self, space: Option<Space>) {
        let space = self.named.clone().or(space);
        match Running::open(self, space) {
            Ok(running) => *self.life.borrow_mut() = Life::Running(Box::new(running)),
            Err(problem) => self.fail(&problem),
        }
    }

    fn fail(&self, problem: &Problem) {
        worker::console_error!("the object cannot work: {problem}");
        *self.life.borrow_mut() = Life::Broken(problem.clone(), now());
    }

    /// Whether there is nothing yet. Storage that has failed is looked at again: it may work by now.
    fn is_new(&self) -> bool {
        let may_work = match &*self.life.borrow() {
            Life::Broken(problem, Millis(at)) => {
                problem.code.retryable() && now().0.abs_diff(*at) >= limits::REOPEN_PAUSE_MS
            }
            Life::New | Life::Running(_) => false,
        };
        if may_work {
            self.look();
        }
        matches!(*self.life.borrow(), Life::New)
    }

    /// Does something with the running engine. A space that is not yet comes into being.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&mut Running) -> T,
    ) -> core::result::Result<T, Problem> {
        if self.is_new() {
            self.open(None);
        }
        match &mut *self.life.borrow_mut() {
            Life::Running(running) => Ok(work(running)),
            Life::Broken(problem, _) => Err(problem.clone()),
            Life::New => Err(Problem::new(Code::Unavailable, "the space is not open")),
        }
    }

    /// Which of [`Call::ALL`] a request is, if it is one: [`Self::call`] answers it.
    #[must_use]
    pub fn call_of(&self, request: &Request) -> Option<usize> {
        match Route::of(request) {
            Some(Route::Call(call)) => Call::ALL.iter().position(|one| *one == call),
            _ => None,
        }
    }

    /// Answers the router.
    ///
    /// # Errors
    /// Only if a response cannot be made.
    pub async fn fetch(&self, request: Request) -> Result<Response> {
        let began = now();
        match (Route::of(&request), grant_of(&request)) {
            (Some(Route::Connect | Route::Read | Route::Write), Some(_))
                if self.is_new() && !may_create(&request) =>
            {
                not_created()
            }
            (Some(Route::Connect), Some(grant)) => self.connect(&request, grant, began),
            (Some(Route::Read), Some(grant)) => self.read(&request, grant).await,
            (Some(Route::Write), Some(grant)) => self.write(&request, grant).await,
            (Some(Route::Session), Some(grant)) => self.session(grant),
            (Some(Route::Members), _) => self.members(&request).await,
            (Some(Route::NewSpace), _) => {
                let owner = owner_of(&request).unwrap_or_default();
                self.reply(Input::NewSpace { owner: &owner })
            }
            (Some(Route::Stats), _) => self.reply(Input::Stats {
                instance: &self.instance,
            }),
            (Some(Route::Metrics), _) => self.metrics(),
            (Some(Route::Inspect), _) => {
                let since = glue::body_text(&request, limits::ID_BYTES as u32).await?;
                let since = since.as_string().and_then(|since| since.parse().ok());
                self.reply(Input::Inspect {
                    instance: &self.instance,
                    since: since.unwrap_or_default(),
                })
            }
            (Some(Route::Export), _) => self.export(&request).await,
            (Some(Route::Import), _) => self.import(&request).await,
            (Some(Route::Doctor), _) => self.doctor(&request).await,
            (Some(Route::Restore), _) => self.restore(&request).await,
            (Some(Route::Restart), _) => self.restart(&request).await,
            #[cfg(feature = "faults")]
            (Some(Route::Faults), _) => faults::arm(&request),
            // Where nobody calls `call`, which needs no future.
            (Some(Route::Call(_)), _) => {
                let body = JsFuture::from(self.body_of(&request)).await?;
                let number = self.call_of(&request).unwrap_or(usize::MAX);
                self.call(number, &request, &body)
            }
            (Some(Route::Connect | Route::Session | Route::Read | Route::Write) | None, _) => {
                respond::not_found()
            }
        }
    }

    /// Who the token is. Asking brings no space into being; in one that holds nothing, nothing can
    /// be held against a token.
    fn session(&self, grant: Grant) -> Result<Response> {
        match &self.named {
            Some(space) if self.is_new() => {
                let body = protocol::session(grant.identity.as_ref(), grant.expires_at, space);
                respond::json(200, body)
            }
            _ => self.reply(Input::Session { grant }),
        }
    }

    fn connect(&self, request: &Request, grant: Grant, began: Millis) -> Result<Response> {
        let WebSocketPair { client, server } = WebSocketPair::new()?;
        let Ok(session) = SessionId::parse(&random_name()) else {
            return respond::unavailable("no session", "a random name is no name");
        };
        let connected = self.with(|running| {
            let conn = running.draw();
            let input = Input::Connect {
                conn,
                session,
                grant,
            };
            let effects = self.turn(running, input);
            let accepted = match effects.reply {
                None => self.sockets.accept(conn.0, server.as_ref()),
                Some(_) => Ok(()),
            };
            let rest = self.perform(running, effects, began);
            self.follow(rest.questions, began);
            if let Err(error) = accepted {
                let effects = self.turn(running, Input::Closed { conn });
                let rest = self.perform(running, effects, began);
                self.follow(rest.questions, began);
                return Err(error);
            }
            Ok(rest.reply)
        });
        match connected {
            Ok(Ok(None)) => {}
            Ok(Ok(Some(reply))) => return respond::reply(reply),
            Ok(Err(error)) => return respond::unavailable("no socket", &glue::thrown(&error)),
            Err(problem) => return respond::problem(&problem),
        }
        let mut response = ResponseBuilder::new()
            .with_status(101)
            .with_websocket(client);
        let offered = header(request, SUBPROTOCOL_HEADER);
        // A browser that offers subprotocols hangs up on a server that chooses none.
        let offered = offered.unwrap_or_default();
        let mut names = offered.split(',').map(str::trim);
        if let Some(first) = names.find(|name| !name.is_empty()) {
            response = response.with_header(SUBPROTOCOL_HEADER, first)?;
        }
        Ok(response.empty().into())
    }

    /// The body of a call, see `bodyBytes` in `glue.js`.
    pub fn body_of(&self, request: &Request) -> Promise {
        glue::body_bytes(request, limits::BODY_BYTES as u32)
    }

    /// Answers the call of this number, whose body is what [`Self::body_of`] gave, in one turn: a future
    /// would cost as much as that.
    ///
    /// # Errors
    /// Only if a response cannot be made.
    pub fn call(&self, number: usize, request: &Request, body: &JsValue) -> Result<Response> {
        let (Some(call), Some(publisher)) = (Call::ALL.get(number), publisher_of(request)) else {
            return respond::not_found();
        };
        let body = check_body(body).map(|()| body.unchecked_ref::<Uint8Array>().to_vec());
        let key = header(request, IDEMPOTENCY_HEADER);
        match call.draws().then(seed).transpose() {
            Ok(seed) => {
                let input = Input::Call {
                    call: *call,
                    publisher: &publisher,
                    body: body.as_deref(),
                    idempotency_key: key.as_deref(),
                    seed,
                };
                self.reply(input)
            }
            Err(problem) => respond::problem(&problem),
        }
    }

    /// Who is present in the channel that the body names.
    async fn members(&self, request: &Request) -> Result<Response> {
        let body = glue::body_text(request, limits::CHANNEL_BYTES as u32).await?;
        let channel = Channel::parse(&body.as_string().unwrap_or_default());
        match (publisher_of(request), channel) {
            (Some(publisher), Ok(channel)) => self.reply(Input::Members {
                channel: &channel,
                publisher: &publisher,
            }),
            (None, _) | (_, Err(_)) => respond::not_found(),
        }
    }

    fn metrics(&self) -> Result<Response> {
        match self.answer(Input::Metrics) {
            Ok(Some(reply)) => respond::metrics(reply.body),
            Ok(None) => respond::unavailable("no reply", "the engine did not answer a call"),
            Err(problem) => respond::problem(&problem),
        }
    }

    /// Answers in one turn, in which the clock stands still.
    fn answer(&self, input: Input<'_>) -> core::result::Result<Option<Reply>, Problem> {
        self.handle_waiting(None);
        self.with(|running| {
            let effects = self.turn(running, input);
            let began = running.at;
            let rest = self.perform(running, effects, began);
            self.follow(rest.questions, began);
            rest.reply
        })
    }

    pub(super) fn reply(&self, input: Input<'_>) -> Result<Response> {
        match self.answer(input) {
            Ok(Some(reply)) => respond::reply(reply),
            Ok(None) => respond::unavailable("no reply", "the engine did not answer a call"),
            Err(problem) => respond::problem(&problem),
        }
    }

    /// A socket has closed, or broken. Completes the close handshake, which the platform does not.
    pub fn closed(&self, socket: &web_sys::WebSocket, code: u16) {
        // 1005, 1006 and 1015 mean that no code was sent; they may not be sent either.
        let code = Some(code).filter(|code| !matches!(code, 1005 | 1006 | 1015));
        let number = self.sockets.number(socket);
        if let Some(number) = number {
            // What it sent comes before its end.
            let conn = ConnId(number);
            self.handle_waiting(Some(conn));
            self.sockets.remove(number);
            let rest = self.run(Input::Closed { conn }, now());
            self.follow(rest.questions, now());
        }
        glue::close_socket(socket, code.unwrap_or(1000), "");
    }

    /// The alarm rang. The next one is set once, after the work, because each time costs a row: where
    /// the work does not end, `glue.js` sets it.
    ///
    /// # Errors
    /// When the object cannot work: the platform rings again later.
    pub fn alarm(&self) -> Result<()> {
        let began = now();
        self.handle_waiting(None);
        let rung = self.with(|running| {
            let effects = self.turn(running, Input::Alarm);
            running.alarm = effects.alarm;
            self.database.rang(effects.alarm.map(|due| due.0));
            let rest = self.perform(running, effects, began);
            self.follow(rest.questions, began);
        });
        rung.map_err(|problem| worker::Error::RustError(problem.to_string()))
    }

    pub(super) fn run(&self, input: Input<'_>, began: Millis) -> Rest {
        let rest = self.with(|running| {
            let effects = self.turn(running, input);
            self.perform(running, effects, began)
        });
        rest.unwrap_or_default()
    }

    /// Puts questions to their sources while nobody waits for that.
    pub(super) fn follow(&self, questions: Vec<Question>, began: Millis) {
        if questions.is_empty() {
            return;
        }
        let host = self.clone();
        wasm_bindgen_futures::spawn_local(async move { host.drive(questions, began).await });
    }

    /// Waits for the answer to a request over HTTP.
    pub(super) async fn waited(&self, conn: ConnId) -> Result<Response> {
        let (sender, receiver) = channel();
        self.waiting.borrow_mut().insert(conn, sender);
        match receiver.await {
            Ok(Waited::Reply(reply)) => respond::reply(reply),
            Ok(Waited::Open(response)) => Ok(response),
            Err(_) => respond::unavailable("no reply", "a request was not answered"),
        }
    }

    /// Answers a request that has waited.
    fn give(&self, conn: ConnId, answer: Waited) {
        let waiting = self.waiting.borrow_mut().remove(&conn);
        // Whoever has gone needs no answer.
        let _ = waiting.map(|sender| sender.send(answer));
    }

    /// Runs the engine. From here to the end of [`Self::perform`] a reset of the wasm instance
    /// leaves a mark that [`Running::open`] finds.
    pub(super) fn turn(&self, running: &mut Running, input: Input<'_>) -> Effects {
        self.sockets.begin();
        faults::point();
        running.at = now();
        let effects = running.engine.handle(input, running.at);
        faults::point();
        effects
    }

    pub(super) fn perform(&self, running: &mut Running, effects: Effects, began: Millis) -> Rest {
        for fault in &effects.faults {
            worker::console_error!("fault: {fault}");
        }
        let mut lost = Vec::new();
        for (conn, attachment) in &effects.saves {
            faults::point();
            let saved = self
                .sockets
                .save(conn.0, &Uint8Array::from(attachment.as_slice()));
            if let Err(error) = saved {
                worker::console_error!("attachment: {}", glue::thrown(&error));
                self.sockets
                    .close(conn.0, Close::Restart.code(), Close::Restart.reason());
                lost.push(*conn);
            }
        }
        faults::point();
        running.schedule(&self.database, effects.alarm);
        let mut sent = 0;
        for frame in &effects.frames {
            sent += frame.text.len() * frame.to.len();
            let numbers: Vec<u32> = frame.to.iter().map(|conn| conn.0).collect();
            faults::send(&self.sockets, &numbers, &frame.text);
        }
        // Of a reader that has waited for its source; else its answer has begun already.
        if let Some(stays) = effects.stays
            && self.waiting.borrow().contains_key(&stays.conn)
        {
            self.give(stays.conn, Waited::Open(self.readers.answer(&stays)));
            self.attend(stays.conn);
        }
        self.readers.perform(&effects);
        for (conn, reply) in effects.replies {
            self.give(conn, Waited::Reply(reply));
        }
        for closing in effects.closes {
            faults::point();
            self.sockets
                .close(closing.conn.0, closing.code, &closing.reason);
        }
        faults::point();
        self.tell(running, effects.events, began);
        faults::point();
        self.sockets.end();
        let mut rest = Rest {
            reply: effects.reply,
            asks: effects.asks,
            questions: effects.questions,
            sent,
        };
        for conn in lost {
            let effects = self.turn(running, Input::Closed { conn });
            let more = self.perform(running, effects, began);
            rest.questions.extend(more.questions);
        }
        rest
    }

    /// Tells observers what has happened, when all of it is done.
    fn tell(&self, running: &mut Running, mut events: Vec<Event>, began: Millis) {
        if events.is_empty() {
            return;
        }
        // The clock stands still within a turn.
        let duration_ms = running.at.0.saturating_sub(began.0);
        for event in &mut events {
            event.duration_ms = duration_ms;
            self.observer.on_event(event);
        }
        log::write(running.log, self.dataset.as_ref(), &events);
        running.engine.note(events);
    }
}

impl Running {
    fn open<A: Authenticator, O>(
        host: &Host<A, O>,
        space: Option<Space>,
    ) -> core::result::Result<Self, Problem> {
        let config = config::<A>(&host.env).map_err(|error| Problem::from(&error))?;
        let unnamed = || Problem::new(Code::Unavailable, "the object has no space's name");
        let space = space.ok_or_else(unnamed)?;
        let log = config.log;
        let engine = Engine::open(config, space, host.database.clone(), seed()?, now());
        let engine = engine.map_err(|error| storage_failed(&error))?;
        let mut running = Self {
            engine,
            next: 0,
            alarm: None,
            log,
            at: now(),
        };
        running.restore(host);
        Ok(running)
    }

    /// The space whose object this is.
    pub(super) fn space(&self) -> &Space {
        self.engine.space()
    }

    /// The number of the next connection.
    pub(super) fn draw(&mut self) -> ConnId {
        let conn = ConnId(self.next);
        self.next += 1;
        conn
    }

    /// Takes the open sockets back in.
    fn restore<A, O>(&mut self, host: &Host<A, O>) {
        let sockets = &host.sockets;
        let mut next = self.next;
        let open = sockets.open();
        let open = open.iter().map(|socket| {
            let socket: web_sys::WebSocket = socket.unchecked_into();
            let conn = ConnId(next);
            next += 1;
            sockets.insert(conn.0, &socket);
            (conn, glue::attachment(&socket))
        });
        for closing in self.engine.wake(sockets.was_interrupted(), open) {
            sockets.close(closing.conn.0, closing.code, &closing.reason);
        }
        self.next = next;
        // What has woken the object is a turn that schedules the alarm: doing it here as well would cost
        // a row where it is the alarm itself, of which nothing is set any more.
    }

    /// Sees to it that the alarm rings at `due` at the latest. What the platform has set counts,
    /// and is asked for once a life: moving the alarm costs a row.
    fn schedule(&mut self, database: &Database, due: Option<Millis>) {
        let Some(due) = due else { return };
        if self.alarm.is_none_or(|asked| due < asked) {
            database.ring_by(due.0);
            self.alarm = Some(due);
        }
    }
}

/// What is told of SQLite's failures; its own words are for the log.
fn storage_failed(error: &SqlError) -> Problem {
    worker::console_error!("the log does not open: {error}");
    Problem::new(Code::Unavailable, "storage failed")
}

/// Random bytes.
pub(super) fn random<const N: usize>() -> core::result::Result<[u8; N], Problem> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| {
        worker::console_error!("no randomness: {error}");
        Problem::new(Code::Unavailable, "no randomness")
    })?;
    Ok(bytes)
}

/// Chance for a new epoch.
pub(super) fn seed() -> core::result::Result<Seed, Problem> {
    random().map(Seed)
}

/// 128 random bits as a name.
pub(super) fn random_name() -> String {
    // Without randomness the platform is broken; a repeated public name would still harm nobody.
    hex(&random::<16>().unwrap_or_default())
}
