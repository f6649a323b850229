//! The sync Worker's part: public routes, tokens and keys, and which object a request is for.

use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use js_sys::Promise;
use worker::{Env, Result};

use super::authenticator::{Authenticator, Configured};
use super::gateway::ORIGIN_HEADER;
use super::http::{self, Request, Response};
use super::internal::{IDEMPOTENCY_HEADER, Object, SUBPROTOCOL_HEADER, Visit};
use super::keep::Keeping;
use super::{glue, log, respond};
use crate::auth::AuthError;
use crate::config::{Config, ConfigError, Credentials, Finding, Publisher, Severity, examine};
use crate::digest::{self, hex};
use crate::engine;
use crate::limits;
use crate::names::{Channel, Millis, Space};
use crate::observe::{Event, Operation, Outcome};
use crate::protocol::{Code, Problem, PublishBody, ReadRequest};
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
pub(super) fn config<A: Authenticator>(env: &Env) -> core::result::Result<Rc<Config>, ConfigError> {
    let read = || {
        let get: &dyn Fn(&str) -> Option<String> = &|name| glue::setting(env, name).ok().flatten();
        let mut config = Config::read(get);
        if A::OWN {
            config = config.map(Config::with_own_authenticator);
        }
        match &config {
            Err(error) => worker::console_error!("configuration: {error}"),
            Ok(_) => warn(&examine(get, A::OWN)),
        }
        config.map(Rc::new)
    };
    CONFIG.with(|config| config.get_or_init(read).clone())
}

/// Says what is risky at start, once an isolate. On a machine of one's own it is meant so.
fn warn(findings: &[Finding]) {
    if findings.iter().any(|finding| finding.setting == "DEV") {
        return;
    }
    for finding in findings.iter().filter(|f| f.severity != Severity::Hint) {
        let Finding {
            setting,
            what,
            way_out,
            ..
        } = finding;
        worker::console_warn!("{}: {setting} {what}; {way_out}", finding.severity.as_str());
    }
}

/// The time by the server's clock.
pub(super) fn now() -> Millis {
    Millis(js_sys::Date::now() as u64)
}

/// The sync Worker's `fetch`, which must be exported under that name. A panic anywhere in the
/// isolate ends the requests of all its spaces: each of them is then answered 503 at once.
///
/// `#[event(fetch)]` cannot do that: it has no hold on the promise that it makes.
pub fn serve(request: Request, env: Env) -> Promise {
    serve_with(request, env, Configured)
}

/// As [`serve`], with a team's own authenticator. The object needs the same one, see
/// [`super::Host::wake_with`].
pub fn serve_with<A: Authenticator + 'static>(
    request: Request,
    env: Env,
    authenticator: A,
) -> Promise {
    let answer = wasm_bindgen_futures::future_to_promise(async move {
        Ok(fetch(request, &env, &authenticator).await?.into())
    });
    glue::answered(&answer)
}

/// Answers every request to the sync Worker.
///
/// # Errors
/// Only if a response cannot be made. Refusals and failures are responses.
async fn fetch<A: Authenticator>(
    request: Request,
    env: &Env,
    authenticator: &A,
) -> Result<Response> {
    let began = now();
    let url = glue::Address::new(&request.url())?;
    let path = url.path();
    let path = path.as_str();
    let route = match path {
        "/healthz" => Route::Health,
        "/stats" => Route::Stats,
        "/metrics" => Route::Metrics,
        "/inspect" => Route::Inspect,
        "/presence" => Route::Members,
        "/export" => Route::Export,
        "/import" => Route::Import,
        "/restore" => Route::Restore,
        "/doctor" => Route::Doctor,
        #[cfg(feature = "faults")]
        "/faults" => Route::Faults,
        "/api/sync/session" => Route::Session,
        "/api/sync/changes" => Route::Changes,
        "/api/sync/mutate" => Route::Mutate,
        "/api/sync" => Route::Connect(None),
        _ => match (engine::Call::of_path(path), path.strip_prefix("/api/sync/")) {
            (Some(call), _) => Route::Call(call),
            (None, None) => return respond::not_found(),
            (None, Some(space)) => Route::Connect(Some(space)),
        },
    };
    if request.method() != route.method() {
        return respond::wrong_method(route.method());
    }
    let config = match config::<A>(env) {
        Ok(config) => config,
        Err(error) => return respond::problem(&(&error).into()),
    };
    let call = Call {
        request: &request,
        url: &url,
        env,
        config: &config,
        authenticator,
        route,
        began,
    };
    let answer = match route {
        Route::Health => respond::json(200, "{\"ok\":true}".to_owned()).map_err(Refusal::from),
        Route::Connect(space) => call.connect(space).await,
        Route::Session => call.session().await,
        Route::Changes => call.changes().await,
        Route::Mutate => call.mutate().await,
        Route::Call(what) => call.call(what).await,
        Route::Members => call.members().await,
        Route::Stats => call.stats().await,
        Route::Metrics => call.metrics().await,
        Route::Inspect => call.inspect().await,
        Route::Export => call.kept(Keeping::Export).await,
        Route::Import => call.kept(Keeping::Import).await,
        Route::Restore => call.kept(Keeping::Restore).await,
        Route::Doctor => call.kept(Keeping::Doctor).await,
        #[cfg(feature = "faults")]
        Route::Faults => call.arm_fault().await,
    };
    match answer {
        Ok(response) => Ok(response),
        Err(Refusal::Peer(problem)) => {
            call.tell_refused(problem.code);
            respond::problem(&problem)
        }
        Err(Refusal::Platform(error)) => {
            call.tell_refused(Code::Unavailable);
            respond::unavailable("the object did not answer", &error.to_string())
        }
    }
}

#[derive(Clone, Copy)]
enum Route<'a> {
    Health,
    Connect(Option<&'a str>),
    Session,
    Changes,
    Mutate,
    Call(engine::Call),
    Members,
    Stats,
    Metrics,
    Inspect,
    Export,
    Import,
    Restore,
    Doctor,
    #[cfg(feature = "faults")]
    Faults,
}

impl Route<'_> {
    fn method(&self) -> &'static str {
        match self {
            Self::Call(_) | Self::Mutate | Self::Import | Self::Restore => "POST",
            Self::Health
            | Self::Connect(_)
            | Self::Session
            | Self::Changes
            | Self::Members
            | Self::Stats
            | Self::Metrics
            | Self::Inspect
            | Self::Export
            | Self::Doctor => "GET",
            #[cfg(feature = "faults")]
            Self::Faults => "GET",
        }
    }

    /// The path of a call or question, which needs a key.
    fn path(&self) -> Option<&'static str> {
        match self {
            Self::Call(call) => Some(call.path()),
            Self::Members => Some("/presence"),
            Self::Stats => Some("/stats"),
            Self::Metrics => Some("/metrics"),
            Self::Inspect => Some("/inspect"),
            Self::Export => Some("/export"),
            Self::Import => Some("/import"),
            Self::Restore => Some("/restore"),
            Self::Doctor => Some("/doctor"),
            Self::Health | Self::Session | Self::Connect(_) | Self::Changes | Self::Mutate => None,
            #[cfg(feature = "faults")]
            Self::Faults => None,
        }
    }

    /// What observers are told that it is; nothing of what nobody's rights depend on.
    fn operation(&self) -> Option<Operation> {
        match self {
            Self::Connect(_) => Some(Operation::Connect),
            Self::Call(call) => Some(call.operation()),
            Self::Export | Self::Import | Self::Restore | Self::Doctor => Some(Operation::Operate),
            Self::Members | Self::Stats | Self::Metrics | Self::Inspect => Some(Operation::Ask),
            Self::Changes => Some(Operation::Subscribe),
            Self::Mutate => Some(Operation::Mutate),
            Self::Health | Self::Session => None,
            #[cfg(feature = "faults")]
            Self::Faults => None,
        }
    }
}

/// Why a request is not answered as asked: the peer's fault, or the platform's.
pub(super) enum Refusal {
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

pub(super) type Answer = core::result::Result<Response, Refusal>;

pub(super) struct Call<'a, A> {
    pub(super) request: &'a Request,
    url: &'a glue::Address,
    pub(super) env: &'a Env,
    pub(super) config: &'a Config,
    pub(super) authenticator: &'a A,
    route: Route<'a>,
    /// When the request came.
    began: Millis,
}

/// The header by which Cloudflare tells a visitor's address. Nobody outside can set it there.
const ADDRESS_HEADER: &str = "cf-connecting-ip";

impl<A: Authenticator> Call<'_, A> {
    fn header(&self, name: &str) -> Option<String> {
        http::header(self.request, name)
    }

    pub(super) fn query(&self, name: &str) -> Option<String> {
        self.url.query(name)
    }

    fn bearer(&self) -> Option<String> {
        let header = self.header("authorization")?;
        // Without a token after it the scheme is still present, and decides: an empty token is bad.
        let (scheme, token) = header.split_once([' ', '\t']).unwrap_or((&header, ""));
        scheme
            .eq_ignore_ascii_case("bearer")
            .then(|| token.trim().to_owned())
    }

    /// What the peer shows of who it is. Before that, a page of another origin that lets the
    /// browser add its cookies is turned away.
    fn credentials(&self) -> core::result::Result<Credentials, Problem> {
        let cookie = self.header("cookie");
        let named = self.config.tokens.headers().iter();
        let headers: Vec<(String, String)> = named
            .filter_map(|name| Some((name.clone(), self.header(name)?)))
            .collect();
        // What a browser may add by itself, whatever page asks it to.
        let ambient = cookie.is_some() || !headers.is_empty();
        if let Some(origin) = self.origin().filter(|_| ambient) {
            self.config.check_origin(&origin, &self.own_origin())?;
        }
        Ok(Credentials {
            token: self.bearer().or_else(|| self.query("token")),
            cookie,
            headers,
        })
    }

    /// The origin that the browser used for the app.
    fn own_origin(&self) -> String {
        let told = self.header(ORIGIN_HEADER);
        told.unwrap_or_else(|| self.url.origin())
    }

    /// The URL that the browser asked for.
    fn asked_for(&self) -> String {
        self.own_origin() + &self.url.path() + &self.url.search()
    }

    /// Whose page asks. A browser does not say so where a page of another site has it fetch an image,
    /// or the like: then it is nobody's.
    fn origin(&self) -> Option<String> {
        let site = self.header("sec-fetch-site");
        let foreign = matches!(site.as_deref(), Some("cross-site" | "same-site"));
        let origin = self.header("origin");
        origin.or_else(|| foreign.then(|| "null".to_owned()))
    }

    /// What the peer may do in a space, and whether its token names that space.
    async fn admit(&self, space: &Space) -> core::result::Result<(Grant, bool), Problem> {
        let credentials = self.credentials()?;
        let answer = self
            .authenticator
            .authenticate(&credentials, space, self.env, self.config);
        let claims = answer.await?;
        let end = claims.as_ref().and_then(|claims| claims.grant.expires_at);
        if end.is_some_and(|end| end <= now()) {
            return Err(AuthError::Expired.into());
        }
        let named = claims.as_ref().is_some_and(|claims| claims.space.is_some());
        let mut grant = self.config.admit(claims, space)?;
        if grant.identity.is_none()
            && let Some(address) = self.header(ADDRESS_HEADER)
        {
            // Addresses of people need not be kept as they are.
            grant.visitor = Some(digest::content(&[&network(&address)]).into());
        }
        let header = |name: &str| self.header(name);
        grant.handshake = self.config.handshake(&self.asked_for(), &header)?;
        Ok((grant, named))
    }

    async fn connect(&self, space_name: Option<&str>) -> Answer {
        let space = space_named(space_name)?;
        let (grant, named) = self.admit(&space).await?;
        let upgrade = self.header("upgrade");
        if !upgrade.is_some_and(|upgrade| upgrade.eq_ignore_ascii_case("websocket")) {
            let message = "this path is for WebSockets: an upgrade is missing";
            return Ok(respond::problem_with(426, Code::Invalid, message)?);
        }
        let subprotocol = self.header(SUBPROTOCOL_HEADER);
        let subprotocol = subprotocol.as_deref();
        self.visit(space, &grant, named, &Visit::Connect { subprotocol })
            .await
    }

    /// Passes on what a visitor asks of a space, which comes into being by it if it is new and may be
    /// made.
    async fn visit(&self, space: Space, grant: &Grant, named: bool, visit: &Visit<'_>) -> Answer {
        // Whoever made the token has decided on the space; otherwise a visitor chose its name.
        let may_create = named || space == Space::default_space();
        let object = Object::of(self.env, space)?;
        if let Some(response) = object.visit(grant, visit, may_create).await? {
            return Ok(response);
        }
        let counted = Object::count_new_space(self.env, &self.owner(grant)).await?;
        let may_create = counted.status() == 200;
        match object.visit(grant, visit, may_create).await? {
            Some(response) => Ok(response),
            None if may_create => Err(worker::Error::from("the space cannot be made").into()),
            // Unless somebody else has made it meanwhile.
            None => {
                let code = match counted.status() {
                    429 => Code::RateLimited,
                    _ => Code::Unavailable,
                };
                self.tell_refused(code);
                Ok(counted)
            }
        }
    }

    /// A page, a page that waits for news, or a stream of events.
    async fn changes(&self) -> Answer {
        let space = space_named(self.query("space").as_deref())?;
        let accept = self.header("accept").unwrap_or_default();
        let streams = accept.to_ascii_lowercase().contains("text/event-stream");
        let last_event_id = self.header("last-event-id");
        let request =
            ReadRequest::from_query(|name| self.query(name), streams, last_event_id.as_deref())?;
        let request = request.to_json().map_err(worker::Error::from)?;
        let (grant, named) = self.admit(&space).await?;
        self.visit(space, &grant, named, &Visit::Read(request))
            .await
    }

    async fn mutate(&self) -> Answer {
        let space = space_named(self.query("space").as_deref())?;
        let (grant, named) = self.admit(&space).await?;
        let token = self.query("channelToken").unwrap_or_default();
        let token = token.lines().next().unwrap_or_default();
        let mutations = format!("{token}\n{}", self.body().await?);
        self.visit(space, &grant, named, &Visit::Write(mutations))
            .await
    }

    /// Who brings a space into being: the identity, or the address of a visitor without one.
    fn owner(&self, grant: &Grant) -> String {
        match &grant.identity {
            // In hexadecimal, because a header's text is Latin-1.
            Some(identity) => format!("identity {}", hex(identity.as_str().as_bytes())),
            None => {
                let address = self.header(ADDRESS_HEADER).unwrap_or_default();
                format!("address {}", network(&address))
            }
        }
    }

    async fn session(&self) -> Answer {
        let space = space_named(self.query("space").as_deref())?;
        let (grant, _) = self.admit(&space).await?;
        Ok(Object::of(self.env, space)?.session(&grant).await?)
    }

    /// Whose key the call comes with.
    pub(super) fn publisher(&self) -> core::result::Result<Publisher, Problem> {
        self.config.publisher(self.bearer().as_deref())
    }

    async fn call(&self, call: engine::Call) -> Answer {
        let publisher = self.publisher()?;
        let body = self.body().await?;
        let space = self.space_of_call(&body)?;
        // Also inside the object. Here it keeps a key from spaces that it has no business in.
        self.config.check_call(&publisher, Some(call), &space)?;
        let object = Object::of(self.env, space)?;
        let once = self.header(IDEMPOTENCY_HEADER);
        Ok(object.call(call, &publisher, &body, once).await?)
    }

    pub(super) async fn body(&self) -> core::result::Result<String, Refusal> {
        let bytes = limits::BODY_BYTES as u32;
        let body = glue::body_text(self.request, bytes).await;
        let body = body.map_err(worker::Error::from)?;
        if body.is_null() {
            let message = "the body must be at most 8 MiB";
            return Err(Problem::new(Code::FrameTooLarge, message).into());
        }
        let not_utf8 = || Problem::malformed("the body is no UTF-8");
        Ok(body.as_string().ok_or_else(not_utf8)?)
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
        let space = self.space_of_operator()?;
        let at = self.query("at").unwrap_or_default();
        Ok(Object::of(self.env, space)?.arm_fault(&at).await?)
    }

    /// Who is present in a channel.
    async fn members(&self) -> Answer {
        let publisher = self.publisher()?;
        let space = space_named(self.query("space").as_deref())?;
        let invalid = |what: String| Problem::invalid("channel", what);
        let channel = self.query("channel");
        let channel = channel.ok_or_else(|| invalid("is missing".to_owned()))?;
        let channel = Channel::parse(&channel).map_err(|error| invalid(error.to_string()))?;
        // Also inside the object, which is not bothered with what a key may not ask.
        self.config.check_sees(&publisher, &channel, &space)?;
        let object = Object::of(self.env, space)?;
        Ok(object.members(&channel, &publisher).await?)
    }

    async fn stats(&self) -> Answer {
        let space = self.space_of_operator()?;
        Ok(Object::of(self.env, space)?.stats().await?)
    }

    async fn metrics(&self) -> Answer {
        let space = self.space_of_operator()?;
        Ok(Object::of(self.env, space)?.metrics().await?)
    }

    /// What the inspector shows.
    async fn inspect(&self) -> Answer {
        let space = self.space_of_operator()?;
        let whole = || Problem::invalid("since", "must be a whole number");
        let since = self.query("since").map(|since| since.parse());
        let since = since.transpose().map_err(|_| whole())?.unwrap_or_default();
        Ok(Object::of(self.env, space)?.inspect(since).await?)
    }

    /// Tells the log of what never reached an object.
    fn tell_refused(&self, code: Code) {
        self.tell(Outcome::Refused(code));
    }

    pub(super) fn tell(&self, outcome: Outcome) {
        let (route, began) = (self.route, self.began);
        let Some(operation) = route.operation() else {
            return;
        };
        let space = match route {
            Route::Connect(space) => space.map(str::to_owned),
            _ => self.query("space"),
        };
        let path = route.path();
        let publisher = path.and_then(|_| self.publisher().ok());
        let event = Event {
            outcome,
            at: began,
            publisher,
            path,
            duration_ms: now().0.saturating_sub(began.0),
            ..Event::new(operation, space_named(space.as_deref()).ok())
        };
        log::write(self.config.log, glue::dataset(self.env).as_ref(), &[event]);
    }

    /// The space that an operator asks about, whose key must open that.
    fn space_of_operator(&self) -> core::result::Result<Space, Problem> {
        let publisher = self.publisher()?;
        let space = space_named(self.query("space").as_deref())?;
        self.config.check_call(&publisher, None, &space)?;
        Ok(space)
    }
}

/// What of an address a visitor cannot choose: with IPv6 it has a network of 2^64 to itself.
fn network(address: &str) -> String {
    match address
        .parse()
        .map(|address: IpAddr| address.to_canonical())
    {
        Ok(IpAddr::V6(address)) => {
            let network = u128::from(address) & !u128::from(u64::MAX);
            Ipv6Addr::from(network).to_string()
        }
        Ok(IpAddr::V4(address)) => address.to_string(),
        Err(_) => address.to_owned(),
    }
}

pub(super) fn space_named(name: Option<&str>) -> core::result::Result<Space, Problem> {
    match name {
        None => Ok(Space::default_space()),
        Some(name) => {
            Space::parse(name).map_err(|error| Problem::invalid("space", error.to_string()))
        }
    }
}
