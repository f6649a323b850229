//! The sync Worker's part: public routes, tokens and keys, and which object a request is for.

use std::rc::Rc;

use js_sys::Promise;
use worker::worker_sys::web_sys;
use worker::{Env, Method, Request, Response, Result, Url};

use super::gateway::{HOST_HEADER, host_of};
use super::internal::{IDEMPOTENCY_HEADER, Object, SUBPROTOCOL_HEADER};
use super::{glue, respond};
use crate::config::{Config, ConfigError};
use crate::engine;
use crate::limits;
use crate::names::{Millis, Space};
use crate::protocol::{Code, Problem, PublishBody};
use crate::session::Grant;

thread_local! {
    /// The settings of this deployment: they cannot change while an isolate lives.
    static CONFIG: std::cell::OnceCell<core::result::Result<Rc<Config>, ConfigError>> =
        const { std::cell::OnceCell::new() };
}

/// The settings, read once. A mistake is logged when it is found, and told to every request.
///
/// # Errors
/// The setting that is missing or wrong.
pub(super) fn config(env: &Env) -> core::result::Result<Rc<Config>, ConfigError> {
    let read = || {
        let config = Config::read(|name| glue::setting(env, name).ok().flatten());
        if let Err(error) = &config {
            worker::console_error!("configuration: {error}");
        }
        config.map(Rc::new)
    };
    CONFIG.with(|config| config.get_or_init(read).clone())
}

/// The time by the server's clock.
pub(super) fn now() -> Millis {
    Millis(js_sys::Date::now() as u64)
}

/// The sync Worker's `fetch`, which must be exported under that name. A panic anywhere in the
/// isolate ends the requests of all its spaces: each of them is then answered 503 at once.
///
/// `#[event(fetch)]` cannot do that: it has no hold on the promise that it makes.
pub fn serve(request: web_sys::Request, env: Env) -> Promise {
    let answer = wasm_bindgen_futures::future_to_promise(async move {
        let response = fetch(request.into(), &env).await?;
        Ok(web_sys::Response::from(response).into())
    });
    glue::answered(&answer)
}

/// Answers every request to the sync Worker.
///
/// # Errors
/// Only if a response cannot be made. Refusals and failures are responses.
async fn fetch(request: Request, env: &Env) -> Result<Response> {
    let url = request.url()?;
    let path = url.path();
    let route = match path {
        "/healthz" => Route::Health,
        "/stats" => Route::Stats,
        #[cfg(feature = "faults")]
        "/faults" => Route::Faults,
        "/api/sync/session" => Route::Session,
        "/api/sync" => Route::Connect(None),
        _ => match (engine::Call::of_path(path), path.strip_prefix("/api/sync/")) {
            (Some(call), _) => Route::Call(call),
            (None, Some("changes" | "mutate") | None) => return respond::not_found(),
            (None, Some(space)) => Route::Connect(Some(space)),
        },
    };
    if request.method() != route.method() {
        return respond::wrong_method(route.allowed());
    }
    let config = match config(env) {
        Ok(config) => config,
        Err(error) => return respond::problem(&(&error).into()),
    };
    let call = Call {
        request: &request,
        url: &url,
        env,
        config: &config,
    };
    let answer = match route {
        Route::Health => respond::json(200, "{\"ok\":true}".to_owned()).map_err(Refusal::from),
        Route::Connect(space) => call.connect(space).await,
        Route::Session => call.session().await,
        Route::Call(what) => call.call(what).await,
        Route::Stats => call.stats().await,
        #[cfg(feature = "faults")]
        Route::Faults => call.arm_fault().await,
    };
    match answer {
        Ok(response) => Ok(response),
        Err(Refusal::Peer(problem)) => respond::problem(&problem),
        Err(Refusal::Platform(error)) => {
            respond::unavailable("the object did not answer", &error.to_string())
        }
    }
}

enum Route<'a> {
    Health,
    Connect(Option<&'a str>),
    Session,
    Call(engine::Call),
    Stats,
    #[cfg(feature = "faults")]
    Faults,
}

impl Route<'_> {
    fn method(&self) -> Method {
        match self {
            Self::Call(_) => Method::Post,
            Self::Health | Self::Connect(_) | Self::Session | Self::Stats => Method::Get,
            #[cfg(feature = "faults")]
            Self::Faults => Method::Get,
        }
    }

    fn allowed(&self) -> &'static str {
        match self {
            Self::Call(_) => "POST",
            Self::Health | Self::Connect(_) | Self::Session | Self::Stats => "GET",
            #[cfg(feature = "faults")]
            Self::Faults => "GET",
        }
    }
}

/// Why a request is not answered as asked: the peer's fault, or the platform's.
enum Refusal {
    Peer(Problem),
    Platform(worker::Error),
}

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self::Peer(problem)
    }
}

impl From<worker::Error> for Refusal {
    fn from(error: worker::Error) -> Self {
        Self::Platform(error)
    }
}

type Answer = core::result::Result<Response, Refusal>;

struct Call<'a> {
    request: &'a Request,
    url: &'a Url,
    env: &'a Env,
    config: &'a Config,
}

impl Call<'_> {
    fn header(&self, name: &str) -> Option<String> {
        self.request.headers().get(name).ok().flatten()
    }

    fn query(&self, name: &str) -> Option<String> {
        let mut pairs = self.url.query_pairs();
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    }

    fn bearer(&self) -> Option<String> {
        let header = self.header("authorization")?;
        // Without a token after it the scheme is still present, and decides: an empty token is bad.
        let (scheme, token) = header.split_once(' ').unwrap_or((&header, ""));
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned())
    }

    fn cookie(&self) -> Option<String> {
        let header = self.header("cookie")?;
        let mut pairs = header.split(';').filter_map(|pair| pair.split_once('='));
        let name = self.config.session_cookie();
        pairs.find_map(|(key, value)| {
            (key.trim() == name).then(|| value.trim().trim_matches('"').to_owned())
        })
    }

    /// The token: the first source that is present decides.
    fn token(&self) -> Option<String> {
        self.bearer()
            .or_else(|| self.query("token"))
            .or_else(|| self.cookie())
    }

    /// What the peer's token allows in a space. Before that, a page of another origin that lets
    /// the browser add its cookies is turned away.
    fn admit(&self, space: &Space) -> core::result::Result<Grant, Problem> {
        let origin = self.header("origin");
        let carries_cookie = self.header("cookie").is_some();
        if let Some(origin) = origin.filter(|_| carries_cookie) {
            let host = self.header(HOST_HEADER);
            let host = host.unwrap_or_else(|| host_of(self.url));
            self.config.check_origin(&origin, &host)?;
        }
        self.config.admit(self.token().as_deref(), space, now())
    }

    async fn connect(&self, space: Option<&str>) -> Answer {
        let space = space_named(space)?;
        let grant = self.admit(&space)?;
        let upgrade = self.header("upgrade");
        if !upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
            let message = "this path is for WebSockets: an upgrade is missing";
            return Ok(respond::problem_with(426, Code::Invalid, message)?);
        }
        let subprotocol = self.header(SUBPROTOCOL_HEADER);
        Ok(Object::of(self.env, space)?
            .connect(&grant, subprotocol)
            .await?)
    }

    async fn session(&self) -> Answer {
        let space = space_named(self.query("space").as_deref())?;
        let grant = self.admit(&space)?;
        Ok(Object::of(self.env, space)?.session(&grant).await?)
    }

    async fn call(&self, call: engine::Call) -> Answer {
        self.config.check_publisher(self.bearer().as_deref())?;
        let bytes = limits::BODY_BYTES as u32;
        let body = glue::body_text(self.request.inner(), bytes).await;
        let body = body.map_err(worker::Error::from)?;
        if body.is_null() {
            let message = "the body must be at most 8 MiB";
            return Err(Problem::new(Code::FrameTooLarge, message).into());
        }
        let not_utf8 = || Problem::malformed("the body is no UTF-8");
        let body = body.as_string().ok_or_else(not_utf8)?;
        let space = self.space_of_call(&body)?;
        let object = Object::of(self.env, space)?;
        Ok(object
            .call(call, &body, self.header(IDEMPOTENCY_HEADER))
            .await?)
    }

    /// The space of a call: by query or by body. The body is read for it only where the word
    /// occurs; the object checks again.
    fn space_of_call(&self, body: &str) -> core::result::Result<Space, Problem> {
        let by_query = self.query("space");
        let by_body = match body.contains("\"space\"") {
            true => PublishBody::space_of(body)?,
            false => None,
        };
        match (by_query, by_body) {
            (Some(query), Some(body)) if query != body => {
                Err(Problem::invalid("space", "the query names another space"))
            }
            (query, body) => space_named(query.or(body).as_deref()),
        }
    }

    #[cfg(feature = "faults")]
    async fn arm_fault(&self) -> Answer {
        self.config.check_publisher(self.bearer().as_deref())?;
        let space = space_named(self.query("space").as_deref())?;
        let at = self.query("at").unwrap_or_default();
        Ok(Object::of(self.env, space)?.arm_fault(&at).await?)
    }

    async fn stats(&self) -> Answer {
        self.config.check_publisher(self.bearer().as_deref())?;
        let space = space_named(self.query("space").as_deref())?;
        Ok(Object::of(self.env, space)?.stats().await?)
    }
}

fn space_named(name: Option<&str>) -> core::result::Result<Space, Problem> {
    match name {
        None => Ok(Space::default_space()),
        Some(name) => {
            Space::parse(name).map_err(|error| Problem::invalid("space", error.to_string()))
        }
    }
}
