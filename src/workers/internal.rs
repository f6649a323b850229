//! The path between sync Worker and object. It is never reachable from outside: the router makes
//! every request to an object itself and passes no path and no header of a peer on.

use std::cell::OnceCell;

use js_sys::Promise;
use wasm_bindgen::JsValue;
use wasm_bindgen_futures::JsFuture;
use worker::{Env, Headers, Result};

use super::glue;
use super::http::{self, Request, Response, header, response_of};
use crate::config::Publisher;
use crate::engine::Call;
use crate::limits;
use crate::names::{Channel, Space};
use crate::protocol::Fields;
use crate::session::Grant;

/// The Durable Object's binding in `wrangler.sync.jsonc`.
const NAMESPACE: &str = "SYNC_ENGINE";

/// Carries the verified grant of a connection, cookies included where handlers are told them. Its
/// name says `auth`, so that the platform's own logs leave the value out.
const GRANT_HEADER: &str = "x-tidewire-auth-grant";

/// Carries whose key a call came with.
const PUBLISHER_HEADER: &str = "x-tidewire-publisher";

/// Says that a connection may bring the space into being. An object that holds nothing yet answers
/// with it to a connection that may not.
const NEW_SPACE_HEADER: &str = "x-tidewire-new-space";

/// Carries who wants to bring a space into being.
const OWNER_HEADER: &str = "x-tidewire-owner";

/// Carries the number of the first line of a piece of an import.
const LINE_HEADER: &str = "x-tidewire-line";

/// Headers that mean something inside. The app Worker takes them from every request.
pub(super) const INTERNAL_HEADERS: [&str; 6] = [
    GRANT_HEADER,
    PUBLISHER_HEADER,
    NEW_SPACE_HEADER,
    OWNER_HEADER,
    LINE_HEADER,
    super::gateway::ORIGIN_HEADER,
];

/// The header of the HTTP contract that makes a publish happen once.
pub(super) const IDEMPOTENCY_HEADER: &str = "idempotency-key";

/// Offered by WebSocket clients; the first one offered is chosen.
pub(super) const SUBPROTOCOL_HEADER: &str = "sec-websocket-protocol";

thread_local! {
    /// The binding, if there is one: it cannot change while an isolate lives, and to look for it costs as much as
    /// a statement of SQL.
    static OBJECTS: OnceCell<Option<JsValue>> = const { OnceCell::new() };
}

/// What the object can be asked.
#[derive(Debug, Clone, Copy)]
pub(super) enum Route {
    Connect,
    Session,
    Read,
    Write,
    Members,
    Stats,
    Metrics,
    Inspect,
    NewSpace,
    Export,
    Import,
    Restore,
    Restart,
    Doctor,
    Call(Call),
    #[cfg(feature = "faults")]
    Faults,
}

impl Route {
    fn path(self) -> &'static str {
        match self {
            Self::Connect => "/connect",
            Self::Session => "/session",
            Self::Read => "/read",
            Self::Write => "/write",
            Self::Members => "/presence",
            Self::Stats => "/stats",
            Self::Metrics => "/metrics",
            Self::Inspect => "/inspect",
            Self::NewSpace => "/new-space",
            Self::Export => "/export",
            Self::Import => "/import",
            Self::Restore => "/restore",
            Self::Restart => "/restart",
            Self::Doctor => "/doctor",
            Self::Call(call) => call.path(),
            #[cfg(feature = "faults")]
            Self::Faults => "/faults",
        }
    }

    /// What a request asks of the object that got it.
    pub(super) fn of(request: &Request) -> Option<Self> {
        let url = request.url();
        let path = url.strip_prefix(ORIGIN)?;
        [
            // What an object is asked most.
            Self::Call(Call::Broadcast),
            Self::Connect,
            Self::Session,
            Self::Read,
            Self::Write,
            Self::Members,
            Self::Stats,
            Self::Metrics,
            Self::Inspect,
            Self::NewSpace,
            Self::Export,
            Self::Import,
            Self::Restore,
            Self::Restart,
            Self::Doctor,
            #[cfg(feature = "faults")]
            Self::Faults,
        ]
        .into_iter()
        .find(|route| route.path() == path)
        .or_else(|| Call::of_path(path).map(Self::Call))
    }
}

/// The grant that the router verified.
pub(super) fn grant_of(request: &Request) -> Option<Grant> {
    Grant::from_header(&header(request, GRANT_HEADER)?)
}

/// Whose key the router found a call to come with.
pub(super) fn publisher_of(request: &Request) -> Option<Publisher> {
    let value = header(request, PUBLISHER_HEADER)?;
    match value.split_once(' ') {
        None => (value == UNSCOPED).then_some(Publisher::Unscoped),
        Some((NAMED, name)) => Some(Publisher::Named(name.into())),
        Some(_) => None,
    }
}

const UNSCOPED: &str = "unscoped";
const NAMED: &str = "named";

/// Headers of a request to an object, as they cross to JavaScript: names and values by turns, a line each.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn of(publisher: &Publisher) -> Result<Self> {
        match publisher {
            Publisher::Unscoped => Self::default().with(PUBLISHER_HEADER, UNSCOPED),
            Publisher::Named(name) => {
                Self::default().with(PUBLISHER_HEADER, &format!("{NAMED} {name}"))
            }
        }
    }

    fn of_call(publisher: &Publisher, idempotency_key: Option<&str>) -> Result<Self> {
        let headers = Self::of(publisher)?;
        match idempotency_key {
            Some(key) => headers.with(IDEMPOTENCY_HEADER, key),
            None => Ok(headers),
        }
    }

    /// A value of more than one line would be another header: it is refused.
    fn with(mut self, name: &str, value: &str) -> Result<Self> {
        if value.contains('\n') {
            return Err(format!("the header {name} is more than one line").into());
        }
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.extend([name, "\n", value]);
        Ok(self)
    }
}

/// The same as an object of the platform, for what takes many requests.
fn headers_of(publisher: &Publisher) -> Result<Headers> {
    let headers = Headers::new();
    let lines = Lines::of(publisher)?.0;
    if let Some((name, value)) = lines.split_once('\n') {
        headers.set(name, value)?;
    }
    Ok(headers)
}

/// Who wants to bring a space into being.
pub(super) fn owner_of(request: &Request) -> Option<String> {
    header(request, OWNER_HEADER)
}

/// The number of the first line of a piece of an import.
pub(super) fn line_of(request: &Request) -> Option<u64> {
    header(request, LINE_HEADER)?.parse().ok()
}

/// Whether a connection may bring the space into being.
pub(super) fn may_create(request: &Request) -> bool {
    header(request, NEW_SPACE_HEADER).is_some()
}

/// What a visitor with a verified grant asks for.
pub(super) enum Visit<'a> {
    /// A WebSocket.
    Connect { subprotocol: Option<&'a str> },
    /// A page, or a reader that stays: a request as [`crate::protocol::ReadRequest::to_json`] writes it.
    Read(String),
    /// Mutations, after a line with the token of a channel.
    Write(String),
}

/// The answer of an object that holds nothing yet to a connection that may not change that.
pub(super) fn not_created() -> Result<Response> {
    let response = Response::new()?;
    response.headers().set(NEW_SPACE_HEADER, "ask")?;
    Ok(response)
}

/// The object of a space.
pub(super) struct Object {
    objects: JsValue,
    space: Space,
}

impl Object {
    /// Whether this is the Worker that has the objects.
    pub(super) fn is_bound(env: &Env) -> bool {
        env.durable_object(NAMESPACE).is_ok()
    }

    pub(super) fn of(env: &Env, space: Space) -> Result<Self> {
        let find = || {
            let objects = glue::binding(env, NAMESPACE);
            objects.is_object().then_some(objects)
        };
        match OBJECTS.with(|objects| objects.get_or_init(find).clone()) {
            Some(objects) => Ok(Self { objects, space }),
            None => Err(format!("the binding {NAMESPACE} is missing").into()),
        }
    }

    /// Passes on what a visitor asks for. The response must be returned unchanged; `None` where the
    /// space holds nothing yet and `may_create` is false.
    pub(super) async fn visit(
        &self,
        grant: &Grant,
        visit: &Visit<'_>,
        may_create: bool,
    ) -> Result<Option<Response>> {
        let mut headers = Lines::default().with(GRANT_HEADER, &grant.to_header()?)?;
        if may_create {
            headers = headers.with(NEW_SPACE_HEADER, "yes")?;
        }
        let (route, body) = match visit {
            Visit::Connect { subprotocol } => {
                headers = headers.with("upgrade", "websocket")?;
                if let Some(subprotocol) = subprotocol {
                    headers = headers.with(SUBPROTOCOL_HEADER, subprotocol)?;
                }
                (Route::Connect, None)
            }
            Visit::Read(request) => (Route::Read, Some(request.as_str())),
            Visit::Write(mutations) => (Route::Write, Some(mutations.as_str())),
        };
        let response = self.fetch(route, headers, body).await?;
        let created = may_create || !response.headers().has(NEW_SPACE_HEADER)?;
        Ok(created.then_some(response))
    }

    /// Asks the default space, which keeps count, whether somebody may bring one more space into
    /// being. 200, or a refusal.
    pub(super) async fn count_new_space(env: &Env, owner: &str) -> Result<Response> {
        let headers = Lines::default().with(OWNER_HEADER, owner)?;
        let object = Self::of(env, Space::default_space())?;
        object.fetch(Route::NewSpace, headers, None).await
    }

    pub(super) async fn session(&self, grant: &Grant) -> Result<Response> {
        let headers = Lines::default().with(GRANT_HEADER, &grant.to_header()?)?;
        self.fetch(Route::Session, headers, None).await
    }

    pub(super) async fn call(
        &self,
        call: Call,
        publisher: &Publisher,
        body: &str,
        idempotency_key: Option<&str>,
    ) -> Result<Response> {
        let headers = Lines::of_call(publisher, idempotency_key)?;
        self.fetch(Route::Call(call), headers, Some(body)).await
    }

    /// As [`Self::call`] with a body that is a text or a stream of JavaScript: the answer to a request to this
    /// Worker.
    pub(super) fn pass_on(
        &self,
        call: Call,
        publisher: &Publisher,
        body: &JsValue,
        idempotency_key: Option<&str>,
    ) -> Result<Promise> {
        let headers = Lines::of_call(publisher, idempotency_key)?;
        Ok(self.ask(Route::Call(call), &headers, body, true))
    }

    /// Asks who is present in a channel. Its name is the body: in an URL it could not be told from
    /// what surrounds it.
    pub(super) async fn members(
        &self,
        channel: &Channel,
        publisher: &Publisher,
    ) -> Result<Response> {
        let body = Some(channel.as_str());
        self.fetch(Route::Members, Lines::of(publisher)?, body)
            .await
    }

    pub(super) async fn stats(&self) -> Result<Response> {
        self.fetch(Route::Stats, Lines::default(), None).await
    }

    pub(super) async fn metrics(&self) -> Result<Response> {
        self.fetch(Route::Metrics, Lines::default(), None).await
    }

    /// Looks into the object; `since` is the number of the last event that was seen.
    pub(super) async fn inspect(&self, since: u64) -> Result<Response> {
        let body = since.to_string();
        self.fetch(Route::Inspect, Lines::default(), Some(&body))
            .await
    }

    /// The space as a file, streamed.
    pub(super) async fn export(&self, publisher: &Publisher) -> Result<Response> {
        let headers = headers_of(publisher)?;
        let url = url_of(Route::Export);
        response_of(glue::exported(&self.objects, self.space.as_str(), &url, &headers.0).await)
    }

    /// Passes the lines of a file on, from `line` on.
    pub(super) async fn import(
        &self,
        publisher: &Publisher,
        request: &Request,
        line: u64,
    ) -> Result<Response> {
        let headers = headers_of(publisher)?;
        let url = url_of(Route::Import);
        let answer = glue::imported(
            &self.objects,
            self.space.as_str(),
            &url,
            &headers.0,
            LINE_HEADER,
            request,
            line as f64,
            limits::IMPORT_CHUNK_BYTES as u32,
        );
        response_of(answer.await)
    }

    /// Asks for the state of another time, which is there when the object is made anew.
    pub(super) async fn restore(&self, publisher: &Publisher, body: &str) -> Result<Response> {
        self.fetch(Route::Restore, Lines::of(publisher)?, Some(body))
            .await
    }

    /// Ends the object, which the next question makes anew. It breaks off, and so does an answer that
    /// never reached it: only another [`Self::instance`] tells that it has ended.
    pub(super) async fn restart(&self, publisher: &Publisher) -> Result<()> {
        let answer = self.fetch(Route::Restart, Lines::of(publisher)?, None);
        answer.await.map(drop)
    }

    /// The name of the object's life.
    pub(super) async fn instance(&self) -> Result<String> {
        let answer = self.stats().await?;
        let stats = http::text(&answer).await?;
        let fields = Fields::parse(&stats).unwrap_or_default();
        let name = fields.get("instance").map(|name| name.get().to_owned());
        name.ok_or_else(|| "the object does not say which one it is".into())
    }

    /// What the doctor sees in the rows of the channels after this one.
    pub(super) async fn doctor(&self, publisher: &Publisher, after: &str) -> Result<Response> {
        self.fetch(Route::Doctor, Lines::of(publisher)?, Some(after))
            .await
    }

    /// Arms a fault, see `faults`.
    #[cfg(feature = "faults")]
    pub(super) async fn arm_fault(&self, at: &str) -> Result<Response> {
        let headers = Lines::default().with(super::faults::AT_HEADER, at)?;
        self.fetch(Route::Faults, headers, None).await
    }

    async fn fetch(&self, route: Route, headers: Lines, body: Option<&str>) -> Result<Response> {
        let body = body.map_or(JsValue::UNDEFINED, JsValue::from);
        response_of(JsFuture::from(self.ask(route, &headers, &body, false)).await)
    }

    fn ask(&self, route: Route, headers: &Lines, body: &JsValue, is_passed_on: bool) -> Promise {
        let mut head = [self.space.as_str(), "\n", ORIGIN, route.path()].concat();
        if !headers.0.is_empty() {
            head.extend(["\n", &headers.0]);
        }
        let deadline = limits::DEADLINE_MS as u32;
        glue::fetch_object(&self.objects, &head, body, deadline, is_passed_on)
    }
}

/// What stands before the path of a request to an object.
const ORIGIN: &str = "https://sync-engine";

fn url_of(route: Route) -> String {
    format!("{ORIGIN}{}", route.path())
}

/// Fetches from a Worker, an object, or (`fetcher` undefined) the network, in bounded time.
pub(super) async fn within(
    fetcher: &wasm_bindgen::JsValue,
    request: &worker::worker_sys::web_sys::Request,
) -> Result<Response> {
    response_of(glue::fetch_within(fetcher, request, limits::DEADLINE_MS as u32).await)
}
