//! Inside the object: one input, one turn of the engine, its effects performed, nothing awaited in
//! between.

use std::cell::RefCell;

use js_sys::Uint8Array;
use wasm_bindgen::JsCast;
use worker::worker_sys::web_sys;
use worker::{
    Env, Request, Response, ResponseBuilder, Result, State, WebSocket, WebSocketIncomingMessage,
    WebSocketPair,
};

use super::database::Database;
use super::internal::{IDEMPOTENCY_HEADER, Route, SUBPROTOCOL_HEADER, grant_of};
use super::router::{config, now};
use super::{faults, glue, respond};
use crate::digest::hex;
use crate::engine::{Call, Effects, Engine, Input, Reply};
use crate::limits;
use crate::names::{ConnId, Millis, SessionId, Space};
use crate::protocol::{Close, Code, Problem};
use crate::session::Grant;
use crate::store::{Seed, space_of};

/// When the alarm rings again if its work does not end.
const ALARM_AGAIN_MS: u64 = 60_000;

/// Drives the engine of one space. Every handler of the Durable Object is one call here.
pub struct Host {
    sockets: glue::Sockets,
    running: core::result::Result<RefCell<Running>, Problem>,
    /// The name of this life of the object.
    instance: String,
}

struct Running {
    engine: Engine<Database>,
    database: Database,
    /// The number of the next connection.
    next: u32,
    /// The earliest time that the alarm was asked for in this life.
    alarm: Option<Millis>,
}

impl Host {
    /// Wakes the object: opens the log and takes the open sockets back in. Must be called in the
    /// constructor; a mistake in the configuration is kept and told to every request.
    #[must_use]
    pub fn wake(state: &State, env: &Env) -> Self {
        let sockets = glue::Sockets::new(state.as_raw());
        let running = Running::open(state, env, &sockets);
        if let Err(problem) = &running {
            worker::console_error!("the object cannot work: {problem}");
        }
        Self {
            sockets,
            running: running.map(RefCell::new),
            instance: random_name(),
        }
    }

    /// Answers the router.
    ///
    /// # Errors
    /// Only if a response cannot be made.
    pub async fn fetch(&self, request: Request) -> Result<Response> {
        match (Route::of(&request), grant_of(&request)) {
            (Some(Route::Connect), Some(grant)) => self.connect(&request, grant),
            (Some(Route::Session), Some(grant)) => self.reply(Input::Session { grant }),
            (Some(Route::Call(call)), _) => {
                let body = glue::body_text(request.inner(), limits::BODY_BYTES as u32).await?;
                let body = body.as_string().unwrap_or_default();
                let key = request.headers().get(IDEMPOTENCY_HEADER)?;
                self.call(call, &body, key.as_deref())
            }
            (Some(Route::Stats), _) => self.stats(),
            #[cfg(feature = "faults")]
            (Some(Route::Faults), _) => faults::arm(&request),
            (Some(Route::Connect | Route::Session) | None, None | Some(_)) => respond::not_found(),
        }
    }

    fn connect(&self, request: &Request, grant: Grant) -> Result<Response> {
        let running = match &self.running {
            Ok(running) => running,
            Err(problem) => return respond::problem(problem),
        };
        let WebSocketPair { client, server } = WebSocketPair::new()?;
        let Ok(session) = SessionId::parse(&random_name()) else {
            return respond::unavailable("no session", "a random name is no name");
        };
        let mut running = running.borrow_mut();
        let conn = ConnId(running.next);
        running.next += 1;
        let input = Input::Connect {
            conn,
            session,
            grant,
        };
        let effects = self.turn(&mut running, input);
        if effects.reply.is_none()
            && let Err(error) = self.sockets.accept(conn.0, server.as_ref())
        {
            self.perform(&mut running, effects);
            drop(running);
            self.run(Input::Closed { conn });
            return respond::unavailable("no socket", &glue::thrown(&error));
        }
        if let Some(reply) = self.perform(&mut running, effects) {
            return respond::json(reply.status, reply.body);
        }
        let mut response = ResponseBuilder::new()
            .with_status(101)
            .with_websocket(client);
        let offered = request.headers().get(SUBPROTOCOL_HEADER)?;
        // A browser that offers subprotocols hangs up on a server that chooses none.
        let offered = offered.unwrap_or_default();
        let mut names = offered.split(',').map(str::trim);
        if let Some(first) = names.find(|name| !name.is_empty()) {
            response = response.with_header(SUBPROTOCOL_HEADER, first)?;
        }
        Ok(response.empty())
    }

    fn call(&self, call: Call, body: &str, key: Option<&str>) -> Result<Response> {
        match seed() {
            Ok(seed) => self.reply(Input::Call {
                call,
                body,
                idempotency_key: key,
                seed,
            }),
            Err(problem) => respond::problem(&problem),
        }
    }

    fn stats(&self) -> Result<Response> {
        let rows_written = match &self.running {
            Ok(running) => running.borrow().database.written(),
            Err(_) => 0,
        };
        self.reply(Input::Stats {
            instance: &self.instance,
            rows_written,
        })
    }

    fn reply(&self, input: Input<'_>) -> Result<Response> {
        let reply = match &self.running {
            Ok(running) => {
                let mut running = running.borrow_mut();
                let effects = self.turn(&mut running, input);
                self.perform(&mut running, effects)
            }
            Err(problem) => Some(Reply::refusal(problem)),
        };
        match reply {
            Some(reply) => respond::json(reply.status, reply.body),
            None => respond::unavailable("no reply", "the engine did not answer a call"),
        }
    }

    /// A frame came.
    pub fn message(&self, socket: &WebSocket, message: &WebSocketIncomingMessage) {
        let Some(number) = self.sockets.number(socket.as_ref()) else {
            return glue::close_socket(
                socket.as_ref(),
                Close::Restart.code(),
                Close::Restart.reason(),
            );
        };
        let conn = ConnId(number);
        self.run(match message {
            WebSocketIncomingMessage::String(text) => Input::Frame { conn, text },
            WebSocketIncomingMessage::Binary(_) => Input::Binary { conn },
        });
    }

    /// A socket has closed, or broken. Completes the close handshake, which the platform does not.
    pub fn closed(&self, socket: &WebSocket, code: usize) {
        // 1005, 1006 and 1015 mean that no code was sent; they may not be sent either.
        let code = u16::try_from(code)
            .ok()
            .filter(|code| !matches!(code, 1005 | 1006 | 1015));
        let number = self.sockets.number(socket.as_ref());
        if let Some(number) = number {
            self.sockets.remove(number);
            self.run(Input::Closed {
                conn: ConnId(number),
            });
        }
        glue::close_socket(socket.as_ref(), code.unwrap_or(1000), "");
    }

    /// The alarm rang. The next one is set before the work, in case the work does not end.
    ///
    /// # Errors
    /// When the object cannot work: the platform rings again later.
    pub fn alarm(&self) -> Result<()> {
        let running = match &self.running {
            Ok(running) => running,
            Err(problem) => return Err(worker::Error::RustError(problem.to_string())),
        };
        let mut running = running.borrow_mut();
        running.database.set_alarm(now().plus(ALARM_AGAIN_MS).0);
        let effects = self.turn(&mut running, Input::Alarm);
        running.alarm = effects.alarm;
        match running.alarm {
            Some(due) => running.database.set_alarm(due.0),
            None => running.database.delete_alarm(),
        }
        self.perform(&mut running, effects);
        Ok(())
    }

    fn run(&self, input: Input<'_>) {
        if let Ok(running) = &self.running {
            let mut running = running.borrow_mut();
            let effects = self.turn(&mut running, input);
            self.perform(&mut running, effects);
        }
    }

    /// Runs the engine. From here to the end of [`Self::perform`] a reset of the wasm instance
    /// leaves a mark that [`Running::open`] finds.
    fn turn(&self, running: &mut Running, input: Input<'_>) -> Effects {
        self.sockets.begin();
        faults::point();
        let effects = running.engine.handle(input, now());
        faults::point();
        effects
    }

    fn perform(&self, running: &mut Running, effects: Effects) -> Option<Reply> {
        for fault in &effects.faults {
            worker::console_error!("fault: {fault}");
        }
        for (conn, attachment) in effects.saves {
            faults::point();
            let saved = self
                .sockets
                .save(conn.0, &Uint8Array::from(attachment.as_slice()));
            if let Err(error) = saved {
                worker::console_error!("attachment: {}", glue::thrown(&error));
                self.sockets
                    .close(conn.0, Close::Restart.code(), Close::Restart.reason());
            }
        }
        faults::point();
        running.schedule(effects.alarm);
        for frame in effects.frames {
            let numbers: Vec<u32> = frame.to.iter().map(|conn| conn.0).collect();
            faults::send(&self.sockets, &numbers, &frame.text);
        }
        for closing in effects.closes {
            faults::point();
            self.sockets
                .close(closing.conn.0, closing.code, &closing.reason);
        }
        faults::point();
        self.sockets.end();
        effects.reply
    }
}

impl Running {
    fn open(
        state: &State,
        env: &Env,
        sockets: &glue::Sockets,
    ) -> core::result::Result<Self, Problem> {
        let failed = |what: String| Problem::new(Code::Unavailable, what);
        let config = config(env).map_err(|error| Problem::from(&error))?;
        let storage = js_sys::Reflect::get(state.as_raw(), &"storage".into());
        let storage = storage.map_err(|error| failed(glue::thrown(&error)))?;
        let database = Database::new(&storage);
        // An object that an alarm has woken is not always told its name; its log knows it, too.
        let name = state.id().name().and_then(|name| Space::parse(&name).ok());
        let space = match name {
            Some(name) => Some(name),
            None => space_of(&database).map_err(|error| failed(error.to_string()))?,
        };
        let space = space.ok_or_else(|| failed("the object has no space's name".to_owned()))?;
        let engine = Engine::open(config, space, database.clone(), seed()?, now());
        let engine = engine.map_err(|error| {
            worker::console_error!("the log does not open: {error}");
            failed("storage failed".to_owned())
        })?;
        let mut running = Self {
            engine,
            database,
            next: 0,
            alarm: None,
        };
        running.restore(sockets);
        Ok(running)
    }

    /// Takes the open sockets back in.
    fn restore(&mut self, sockets: &glue::Sockets) {
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
        self.schedule(self.engine.due(now()));
    }

    /// Sees to it that the alarm rings at `due` at the latest. What the platform has set counts,
    /// and is asked for once a life: moving the alarm costs a row.
    fn schedule(&mut self, due: Option<Millis>) {
        let Some(due) = due else { return };
        if self.alarm.is_none_or(|asked| due < asked) {
            self.database.ring_by(due.0);
            self.alarm = Some(due);
        }
    }
}

/// Chance for a new epoch.
fn seed() -> core::result::Result<Seed, Problem> {
    let mut seed = [0; 32];
    match getrandom::fill(&mut seed) {
        Ok(()) => Ok(Seed(seed)),
        Err(error) => Err(Problem::new(Code::Unavailable, error.to_string())),
    }
}

/// 128 random bits as a name.
fn random_name() -> String {
    let mut bytes = [0; 16];
    // Without randomness the platform is broken; a repeated public name would still harm nobody.
    if getrandom::fill(&mut bytes).is_err() {
        worker::console_error!("no randomness");
    }
    hex(&bytes)
}
