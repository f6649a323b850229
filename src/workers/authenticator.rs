//! Who somebody is, where that cannot be told from a text alone: keys of `JWKS_URL`, and the
//! app's own endpoint. A team may put an authenticator of its own in place of this one.

use std::cell::RefCell;

use worker::worker_sys::web_sys;
use worker::{Env, Fetcher, Headers, Method, Request, RequestInit};

use super::glue;
use super::router::now;
use crate::auth::{AuthError, Claims, Jwks, Jwt, KeyCache, Lookup, read_answer};
use crate::config::{Config, Credentials, Endpoint, Judgement};
use crate::limits;
use crate::names::Space;
use crate::protocol::{Code, Problem};

/// Says who somebody is. The stock one is [`Configured`]; a team's own is handed to
/// [`super::router::serve_with`] and [`super::Host::wake_with`], to both, because a session is
/// renewed inside the object. See `examples/rust-auth`.
pub trait Authenticator: 'static {
    /// Whether the settings about tokens are left alone: true for a team's own.
    const OWN: bool = true;

    /// Judges what a connection to `space` shows of who it is. `None` is a visitor without an
    /// identity. Must end in bounded time; nobody waits longer than 30 s.
    ///
    /// # Errors
    /// `unauthorized` for who is not let in, `unavailable` where that cannot be told now.
    fn authenticate(
        &self,
        credentials: &Credentials,
        space: &Space,
        env: &Env,
        config: &Config,
    ) -> impl Future<Output = Result<Option<Claims>, Problem>>;
}

/// The authenticator that the settings describe: `JWT_SECRET`, `JWKS_URL`, `AUTH_SERVICE` and
/// `AUTH_URL`.
#[derive(Debug, Clone, Copy, Default)]
pub struct Configured;

impl Authenticator for Configured {
    const OWN: bool = false;

    async fn authenticate(
        &self,
        credentials: &Credentials,
        space: &Space,
        env: &Env,
        config: &Config,
    ) -> Result<Option<Claims>, Problem> {
        match config.tokens.judge(credentials, now()) {
            Judgement::Done(answer) => answer,
            Judgement::ByKey(jwt) => by_key(jwt, config).await.map(Some),
            Judgement::Elsewhere => elsewhere(credentials, space, env, config).await,
        }
    }
}

thread_local! {
    /// The keys of `JWKS_URL`, for all requests and objects of this isolate.
    static KEYS: RefCell<KeyCache> = RefCell::default();
}

/// How often somebody who waits for another's question looks for its answer.
const LOOK_AGAIN_MS: u32 = 20;

async fn by_key(jwt: Jwt<'_>, config: &Config) -> Result<Claims, Problem> {
    let unknown = || Problem::new(Code::Unauthorized, "the token is signed by an unknown key");
    let unavailable = || Problem::new(Code::Unavailable, "the keys of JWKS_URL cannot be had now");
    let ends = now().plus(2 * limits::AUTH_TIMEOUT_MS);
    let key = loop {
        let look_up = |keys: &RefCell<KeyCache>| {
            let now = now();
            let found = keys.borrow().look_up(jwt.algorithm(), jwt.kid(), now);
            if found == Lookup::Fetch {
                keys.borrow_mut().begin(now);
            }
            found
        };
        match KEYS.with(look_up) {
            Lookup::Key(key) => break key,
            Lookup::Fetch => fetch_keys(config).await,
            // One request's promises may not be awaited in another: it looks again by itself.
            Lookup::Wait if now() < ends => glue::sleep(LOOK_AGAIN_MS).await,
            Lookup::Wait | Lookup::Unavailable => return Err(unavailable()),
            Lookup::Unknown => return Err(unknown()),
        }
    };
    let name = key.algorithm().web_crypto_name();
    let held = glue::verify(name, key.json(), jwt.signature(), jwt.signed()).await;
    // A key that the platform cannot read judges nothing.
    let held = held.is_ok_and(|held| held.is_truthy());
    let verified = jwt.verified_by(&key, held)?;
    Ok(config.tokens.claims(&verified, now())?)
}

/// Asks for the keys. A failure leaves those of before.
async fn fetch_keys(config: &Config) {
    let keys = async {
        let url = config.tokens.keys_url().ok_or("JWKS_URL is not set")?;
        let request = Request::new(url, Method::Get).map_err(|error| error.to_string())?;
        let none = wasm_bindgen::JsValue::UNDEFINED;
        match known(&none, request.inner(), limits::JWKS_BYTES).await? {
            (200, json) => Jwks::parse(&json).map_err(|error| error.to_string()),
            (status, _) => Err(format!("status {status}")),
        }
    };
    let keys = keys.await;
    if let Err(error) = &keys {
        worker::console_error!("JWKS_URL: {error}");
    }
    KEYS.with(|cache| cache.borrow_mut().end(keys.ok(), now()));
}

/// Asks the app's endpoint, as a GET with the visitor's cookies and the named headers.
async fn elsewhere(
    credentials: &Credentials,
    space: &Space,
    env: &Env,
    config: &Config,
) -> Result<Option<Claims>, Problem> {
    let unavailable = |cause: String| {
        worker::console_error!("authentication endpoint: {cause}");
        let message = "the app's authentication endpoint did not answer";
        Problem::new(Code::Unavailable, message)
    };
    let (fetcher, url) = match config.tokens.endpoint() {
        Some(Endpoint::Service(path)) => {
            let service = env.service("AUTH_SERVICE");
            let service = service.map_err(|error| unavailable(error.to_string()))?;
            (Fetcher::into_rpc(service), format!("https://app{path}"))
        }
        Some(Endpoint::Url(url)) => (wasm_bindgen::JsValue::UNDEFINED, url.clone()),
        None => return Err(unavailable("there is none".to_owned())),
    };
    let request = question(&url, credentials, space);
    // What no header can carry is nobody's token.
    let request = request.map_err(|_| Problem::from(AuthError::Invalid))?;
    let answer = known(&fetcher, request.inner(), limits::AUTH_ANSWER_BYTES).await;
    match answer.map_err(unavailable)? {
        (200, json) => read_answer(&json, now()).map_err(|error| match error {
            // What the app says wrong is no fault of its visitor.
            AuthError::Answer | AuthError::Claim(_) => unavailable(error.to_string()),
            error => error.into(),
        }),
        (401, _) => Err(Problem::new(Code::Unauthorized, "the session is not valid")),
        (403, _) => Err(Problem::new(
            Code::Forbidden,
            "the session is not allowed here",
        )),
        (status, _) => Err(unavailable(format!("status {status}"))),
    }
}

fn question(url: &str, credentials: &Credentials, space: &Space) -> worker::Result<Request> {
    let headers = Headers::new();
    for (name, value) in &credentials.headers {
        headers.set(name, value)?;
    }
    if let Some(cookie) = &credentials.cookie {
        headers.set("cookie", cookie)?;
    }
    if let Some(token) = &credentials.token {
        headers.set("authorization", &format!("Bearer {token}"))?;
    }
    headers.set("accept", "application/json")?;
    let url = glue::Address::new(url)?;
    url.add("space", space.as_str());
    let mut init = RequestInit::new();
    init.with_method(Method::Get).with_headers(headers);
    Request::new_with_init(&url.text(), &init)
}

/// The status and the text of an answer to who somebody is.
async fn known(
    fetcher: &wasm_bindgen::JsValue,
    request: &web_sys::Request,
    most: usize,
) -> Result<(u16, String), String> {
    let ms = limits::AUTH_TIMEOUT_MS;
    let (status, text) = answer_of(fetcher, request, ms, most).await?;
    Ok((status, text.ok_or("the answer is too long, or no UTF-8")?))
}

/// The status and the text of an answer, within `ms` and `most` bytes; no text where it is longer, or
/// no UTF-8. No redirect is followed.
pub(super) async fn answer_of(
    fetcher: &wasm_bindgen::JsValue,
    request: &web_sys::Request,
    ms: u64,
    most: usize,
) -> Result<(u16, Option<String>), String> {
    let answer = glue::ask(fetcher, request, ms as u32, most as u32).await;
    let answer = answer.map_err(|error| glue::thrown(&error))?;
    let answer: js_sys::Array = answer.into();
    let status = answer.get(0).as_f64().unwrap_or_default();
    Ok((status as u16, answer.get(1).as_string()))
}
