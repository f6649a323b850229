//! The sync Worker's part: public routes, tokens and keys, and which object a request is for.

use std::rc::Rc;

use worker::{Env, Method, Request, Response, Result, Url};

use super::gateway::HOST_HEADER;
use super::internal::{IDEMPOTENCY_HEADER, Object, SUBPROTOCOL_HEADER};
use super::{glue, respond};
use crate::config::{Config, ConfigError};
use crate::engine::PublishCall;
use crate::limits;
use crate::names::{Identity, Millis, Space};
use crate::protocol::{self, Code, Problem, PublishBody};
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

/// Answers every request to the sync Worker.
///
/// # Errors
/// Only if a response cannot be made. Refusals and failures are responses.
pub async fn fetch(request: Request, env: &Env) -> Result<Response> {
    let url = request.url()?;
    let path = url.path();
    let route = match path {
        "/healthz" => Route::Health,
        "/broadcast" => Route::Publish(PublishCall::One),
        "/broadcast-batch" => Route::Publish(PublishCall::Batch),
        "/stats" => Route::Stats,
        "/api/sync/session" => Route::Session,
        "/api/sync" => Route::Connect(None),
        _ => match path.strip_prefix("/api/sync/") {
            Some("changes" | "mutate") | None => return respond::not_found(),
            Some(space) => Route::Connect(Some(space)),
        },
    };
    if request.method() != route.method() {
        return respond::wrong_method(route.allowed());
    }
    if matches!(route, Route::Health) {
        return respond::json(200, "{\"ok\":true}".to_owned());
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
        Route::Health => return respond::not_found(),
        Route::Connect(space) => call.connect(space).await,
        Route::Session => call.session(),
        Route::Publish(publish) => call.publish(publish).await,
        Route::Stats => call.stats().await,
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
    Publish(PublishCall),
    Stats,
}

impl Route<'_> {
    fn method(&self) -> Method {
        match self {
            Self::Publish(_) => Method::Post,
            Self::Health | Self::Connect(_) | Self::Session | Self::Stats => Method::Get,
        }
    }

    fn allowed(&self) -> &'static str {
        match self {
            Self::Publish(_) => "POST",
            Self::Health | Self::Connect(_) | Self::Session | Self::Stats => "GET",
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
            let host = self.header(HOST_HEADER).or_else(|| {
                let port = self
                    .url
                    .port()
                    .map(|port| format!(":{port}"))
                    .unwrap_or_default();
                Some(format!("{}{port}", self.url.host_str()?))
            });
            self.config
                .check_origin(&origin, &host.unwrap_or_default())?;
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

    fn session(&self) -> Answer {
        let space = space_named(self.query("space").as_deref())?;
        let grant = self.admit(&space)?;
        let body = protocol::object(|o| {
            o.opt_text("identity", grant.identity.as_ref().map(Identity::as_str));
            match grant.expires_at {
                Some(at) => o.number("expiresAt", at.0),
                None => o.raw("expiresAt", "null"),
            }
            o.text("space", space.as_str());
        });
        Ok(respond::json(200, body)?)
    }

    async fn publish(&self, publish: PublishCall) -> Answer {
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
        let space = self.space_of_publish(&body)?;
        let object = Object::of(self.env, space)?;
        Ok(object
            .publish(publish, &body, self.header(IDEMPOTENCY_HEADER))
            .await?)
    }

    /// The space of a publish: by query or by body. The body is read for it only where the word
    /// occurs; the object checks again.
    fn space_of_publish(&self, body: &str) -> core::result::Result<Space, Problem> {
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
