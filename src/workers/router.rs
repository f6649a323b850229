//! The sync Worker's part: public routes, tokens and keys, and which object a request is for.

use std::net::{IpAddr, Ipv6Addr};
use std::rc::Rc;

use js_sys::Promise;
use wasm_bindgen::{JsValue, closure::Closure};
use wasm_bindgen_futures::{JsFuture, future_to_promise};
use worker::{Env, Result};

use super::authenticator::{Authenticator, Configured};
use super::gateway::ORIGIN_HEADER;
use super::http::{self, Request, Response, check_body};
use super::internal::{Object, SUBPROTOCOL_HEADER, Visit};
use super::keep::Keeping;
use super::route::Route;
use super::{glue, log, respond};
use crate::auth::AuthError;
use crate::config::{Config, ConfigError, Credentials, Finding, Publisher, Severity, examine};
use crate::digest::{self, hex};
use crate::engine;
use crate::limits;
use crate::names::{Channel, Millis, Space};
use crate::observe::{Event, Outcome};
use crate::plain_url::PlainUrl;
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
    let call = match Call::of(request, env, authenticator) {
        Ok(call) => call,
        Err(answer) => return promise_of(answer),
    };
    match call.route {
        Route::Call(what) => call.pass_on(what),
        _ => glue::answered(&future_to_promise(async move {
            let answer = call.answer().await;
            Ok(call.response(answer)?.into())
        })),
    }
}

/// The answer to a request that failed before it was answered: the object did not answer, or the wasm
/// instance was reset.
///
/// # Errors
/// Only if a response cannot be made.
pub fn unanswered<A: Authenticator>(
    request: Request,
    env: Env,
    authenticator: A,
    error: JsValue,
) -> core::result::Result<Response, JsValue> {
    // Settings come with the runtime's own requests alone.
    if CONFIG.with(|config| config.get().is_none()) {
        return Ok(respond::unavailable("no answer", &glue::thrown(&error))?);
    }
    Ok(match Call::of(request, env, authenticator) {
        Ok(call) => call.response(Err(worker::Error::from(error).into()))?,
        Err(answer) => answer?,
    })
}

fn promise_of(answer: Result<Response>) -> Promise {
    match answer {
        Ok(response) => Promise::resolve(&JsValue::from(response)),
        Err(error) => Promise::reject(&error.into()),
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

/// A request whose path and method are known.
pub(super) struct Call<A> {
    pub(super) request: Request,
    url: String,
    /// The header `authorization`, empty where there is none.
    authorization: String,
    /// Bytes of its body, where it says so.
    length: Option<usize>,
    idempotency_key: Option<String>,
    pub(super) env: Env,
    pub(super) config: Rc<Config>,
    authenticator: A,
    route: Route,
    /// When the request came.
    began: Millis,
}

/// The header by which Cloudflare tells a visitor's address. Nobody outside can set it there.
const ADDRESS_HEADER: &str = "cf-connecting-ip";

impl<A: Authenticator> Call<A> {
    /// Reads where a request goes; the answer where that is nowhere.
    fn of(
        request: Request,
        env: Env,
        authenticator: A,
    ) -> core::result::Result<Self, Result<Response>> {
        let began = now();
        let head = glue::head_of(&request);
        let mut lines = head.split('\n');
        let mut line = || lines.next().unwrap_or_default();
        let (first, authorization, length) = (line(), line(), line());
        let (method, url) = first.split_once(' ').unwrap_or((first, ""));
        let route = match PlainUrl::of(url) {
            Some(plain) => Route::of(plain.path),
            None => {
                let url = glue::Address::new(url).map_err(|error| Err(error.into()))?;
                Route::of(&url.path())
            }
        };
        let route = route.ok_or_else(respond::not_found)?;
        if method != route.method() {
            return Err(respond::wrong_method(route.method()));
        }
        match config::<A>(&env) {
            Ok(config) => Ok(Self {
                request,
                url: url.to_owned(),
                authorization: authorization.to_owned(),
                length: length.parse().ok(),
                idempotency_key: lines.next().map(str::to_owned),
                env,
                config,
                authenticator,
                route,
                began,
            }),
            Err(error) => Err(respond::problem(&(&error).into())),
        }
    }

    async fn answer(&self) -> Answer {
        match &self.route {
            Route::Health => Ok(respond::json(200, "{\"ok\":true}".to_owned())?),
            Route::Connect(space) => self.connect(space.as_deref()).await,
            Route::Session => self.session().await,
            Route::Changes => self.changes().await,
            Route::Mutate => self.mutate().await,
            Route::Call(_) => Ok(respond::not_found()?),
            Route::Members => self.members().await,
            Route::Stats => self.stats().await,
            Route::Metrics => self.metrics().await,
            Route::Inspect => self.inspect().await,
            Route::Export => self.kept(Keeping::Export).await,
            Route::Import => self.kept(Keeping::Import).await,
            Route::Restore => self.kept(Keeping::Restore).await,
            Route::Doctor => self.kept(Keeping::Doctor).await,
            #[cfg(feature = "faults")]
            Route::Faults => self.arm_fault().await,
        }
    }

    /// The response to a request. A refusal is logged, and so is what the platform failed at.
    fn response(&self, answer: Answer) -> Result<Response> {
        match answer {
            Ok(response) => Ok(response),
            Err(Refusal::Peer(problem)) => {
                self.tell_refused(problem.code);
                respond::problem(&problem)
            }
            Err(Refusal::Platform(error)) => {
                self.tell_refused(Code::Unavailable);
                respond::unavailable("the object did not answer", &error.to_string())
            }
        }
    }

    /// Passes a publisher's call on to the object of its space. Nothing but the body is awaited: a future
    /// would cost as much as the rest of it. Whoever exports this has [`unanswered`] answer where it fails.
    ///
    /// Where the query names the space, the object reads a short body as it comes. Whoever is refused has all
    /// of it read before, see `uploaded` in `glue.js`.
    fn pass_on(self, what: engine::Call) -> Promise {
        let publisher = match self.publisher() {
            Ok(publisher) => publisher,
            Err(problem) => return promise_of(self.response(Err(problem.into()))),
        };
        let is_short = self
            .length
            .is_some_and(|length| length <= limits::SHORT_BODY_BYTES);
        if is_short
            && let Some(space) = self.query("space")
            && let Some(body) = self.request.body()
            && let Ok(object) = self.object_of_call(what, &publisher, space_named(Some(&space)))
        {
            return self.passed(what, &publisher, Ok(object), &body);
        }
        let coming = self.upload();
        let answer = move |body: JsValue| {
            let space = check_body(&body).and_then(|()| self.space_of_call(&body));
            let object = self.object_of_call(what, &publisher, space);
            self.passed(what, &publisher, object, &body)
        };
        let answer = Closure::once_into_js(answer);
        glue::with_body(&coming, &answer)
    }

    /// The object that a call is for.
    fn object_of_call(
        &self,
        what: engine::Call,
        publisher: &Publisher,
        space: core::result::Result<Space, Problem>,
    ) -> core::result::Result<Object, Refusal> {
        let space = space?;
        // Also inside the object. Here it keeps a key from spaces that it has no business in.
        self.config.check_call(publisher, Some(what), &space)?;
        Ok(Object::of(&self.env, space)?)
    }

    /// A promise of what the object makes of a call.
    fn passed(
        &self,
        what: engine::Call,
        publisher: &Publisher,
        object: core::result::Result<Object, Refusal>,
        body: &JsValue,
    ) -> Promise {
        let key = self.idempotency_key.as_deref();
        let answer = object.and_then(|object| Ok(object.pass_on(what, publisher, body, key)?));
        answer.unwrap_or_else(|refusal| promise_of(self.response(Err(refusal))))
    }

    fn header(&self, name: &'static str) -> Option<String> {
        http::header(&self.request, name)
    }

    /// The URL as the platform reads it; one that it could not read would have no route.
    fn address(&self) -> Option<glue::Address> {
        glue::Address::new(&self.url).ok()
    }

    pub(super) fn query(&self, name: &str) -> Option<String> {
        match PlainUrl::of(&self.url) {
            Some(plain) => plain.query(name).map(str::to_owned),
            None => self.address()?.query(name),
        }
    }

    fn bearer(&self) -> Option<String> {
        let header = &self.authorization;
        // Without a token after it the scheme is still present, and decides: an empty token is bad.
        let (scheme, token) = header.split_once([' ', '\t']).unwrap_or((header, ""));
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
            .filter_map(|name| Some((name.clone(), http::header_named(&self.request, name)?)))
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
        let own = || self.address().map(|url| url.origin());
        told.or_else(own).unwrap_or_default()
    }

    /// The URL that the browser asked for.
    fn asked_for(&self) -> String {
        let path = self.address().map(|url| url.path() + &url.search());
        self.own_origin() + &path.unwrap_or_default()
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
            .authenticate(&credentials, space, &self.env, &self.config);
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
        let header = |name: &str| http::header_named(&self.request, name);
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
        let object = Object::of(&self.env, space)?;
        if let Some(response) = object.visit(grant, visit, may_create).await? {
            return Ok(response);
        }
        let counted = Object::count_new_space(&self.env, &self.owner(grant)).await?;
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
        Ok(Object::of(&self.env, space)?.session(&grant).await?)
    }

    /// Whose key the call comes with.
    pub(super) fn publisher(&self) -> core::result::Result<Publisher, Problem> {
        self.config.publisher(self.bearer().as_deref())
    }

    /// A promise of the body, see `uploaded` in `glue.js`.
    fn upload(&self) -> Promise {
        let (most, short) = (limits::BODY_BYTES as u32, limits::SHORT_BODY_BYTES as u32);
        glue::uploaded(&self.request, most, short, limits::DEADLINE_MS as u32)
    }

    pub(super) async fn body(&self) -> core::result::Result<String, Refusal> {
        let body = JsFuture::from(self.upload()).await;
        let body = body.map_err(worker::Error::from)?;
        check_body(&body)?;
        Ok(body.as_string().unwrap_or_default())
    }

    /// The space of a call: by query or by body. The body, a text that need not cross into wasm, is
    /// read for it only where the word occurs; the object checks again.
    fn space_of_call(&self, body: &JsValue) -> core::result::Result<Space, Problem> {
        let by_query = self.query("space");
        let by_body = match glue::mentions_space(body) {
            true => PublishBody::space_of(&body.as_string().unwrap_or_default())?,
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
        Ok(Object::of(&self.env, space)?.arm_fault(&at).await?)
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
        let object = Object::of(&self.env, space)?;
        Ok(object.members(&channel, &publisher).await?)
    }

    async fn stats(&self) -> Answer {
        let space = self.space_of_operator()?;
        Ok(Object::of(&self.env, space)?.stats().await?)
    }

    async fn metrics(&self) -> Answer {
        let space = self.space_of_operator()?;
        Ok(Object::of(&self.env, space)?.metrics().await?)
    }

    /// What the inspector shows.
    async fn inspect(&self) -> Answer {
        let space = self.space_of_operator()?;
        let whole = || Problem::invalid("since", "must be a whole number");
        let since = self.query("since").map(|since| since.parse());
        let since = since.transpose().map_err(|_| whole())?.unwrap_or_default();
        Ok(Object::of(&self.env, space)?.inspect(since).await?)
    }

    /// Tells the log of what never reached an object.
    fn tell_refused(&self, code: Code) {
        self.tell(Outcome::Refused(code));
    }

    pub(super) fn tell(&self, outcome: Outcome) {
        let (route, began) = (&self.route, self.began);
        let Some(operation) = route.operation() else {
            return;
        };
        let space = match route {
            Route::Connect(space) => space.clone(),
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
        log::write(self.config.log, glue::dataset(&self.env).as_ref(), &[event]);
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
