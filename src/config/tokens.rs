//! Settings that say whose word counts for who somebody is: `JWT_*`, `JWKS_URL`, `AUTH_*`,
//! `SESSION_COOKIE`.

use super::{ConfigError, Settings, error};
use crate::auth::{Algorithm, AuthError, Claims, Expected, Jwt, Pass, Secret};
use crate::names::{Channel, Identity, Millis};
use crate::protocol::Problem;

/// What a connection shows of who it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    /// The token: `Authorization: Bearer`, else the query's, or that of an `auth` message.
    pub token: Option<String>,
    /// The whole `Cookie` header.
    pub cookie: Option<String>,
    /// The headers that `AUTH_HEADERS` names, lower-case, as far as the upgrade had them.
    pub headers: Vec<(String, String)>,
}

impl Credentials {
    /// Those of an `auth` message.
    #[must_use]
    pub fn of_token(token: &str) -> Self {
        Self {
            token: Some(token.to_owned()),
            ..Self::default()
        }
    }

    /// The value of a cookie.
    #[must_use]
    pub fn cookie(&self, name: &str) -> Option<&str> {
        let pairs = self.cookie.as_deref()?.split(';');
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key.trim() == name).then(|| value.trim().trim_matches('"')))
    }
}

/// What there is to say of credentials without asking anybody.
#[derive(Debug)]
pub enum Judgement<'a> {
    /// All: who it is, nobody (`None`), or why not.
    Done(Result<Option<Claims>, Problem>),
    /// A key of `JWKS_URL` must judge the signature, see [`Tokens::claims`].
    ByKey(Jwt<'a>),
    /// The app's endpoint, or a team's own authenticator, must be asked.
    Elsewhere,
}

/// Where the app answers for sessions that are no tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// The service binding `AUTH_SERVICE`, at this path.
    Service(String),
    /// `AUTH_URL`.
    Url(String),
}

/// Whose word counts.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    /// `JWT_SECRET` and `JWT_SECRET_PREVIOUS`.
    secrets: Vec<Secret>,
    keys_url: Option<String>,
    expected: Expected,
    endpoint: Option<Endpoint>,
    headers: Vec<String>,
    session_cookie: String,
    /// Whether a team's own authenticator decides everything.
    own: bool,
}

/// The path of `AUTH_SERVICE`, unless `AUTH_PATH` names another.
const AUTH_PATH: &str = "/sync-auth";

/// Whether an URL may be asked for secrets: over TLS, or on this machine.
pub(crate) fn is_safe_url(url: &str) -> bool {
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => authority,
    };
    let of_loopback = host
        .strip_prefix("127.")
        .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_digit() || b == b'.'));
    let loopback = of_loopback || matches!(host, "localhost" | "[::1]");
    let plain = !authority.contains('@') && !host.is_empty();
    let visible = url.bytes().all(|byte| byte.is_ascii_graphic());
    plain && visible && (scheme == "https" || scheme == "http" && loopback)
}

impl Tokens {
    pub(super) fn read(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        let url = |name: &'static str| match settings.text(name) {
            Some(url) if !is_safe_url(&url) => {
                Err(error(name, "must be an https URL, or http on this machine"))
            }
            url => Ok(url),
        };
        let keys_url = url("JWKS_URL")?;
        let path = settings.text("AUTH_PATH");
        if path.as_ref().is_some_and(|path| !path.starts_with('/')) {
            return Err(error("AUTH_PATH", "must begin with a slash"));
        }
        let endpoint = match (settings.is_bound("AUTH_SERVICE"), url("AUTH_URL")?) {
            (true, Some(_)) => {
                return Err(error(
                    "AUTH_URL",
                    "is set beside AUTH_SERVICE; keep one of them",
                ));
            }
            (true, None) => Some(Endpoint::Service(
                path.unwrap_or_else(|| AUTH_PATH.to_owned()),
            )),
            (false, Some(url)) => Some(Endpoint::Url(url)),
            (false, None) => None,
        };
        let secrets = settings.secret_and_previous("JWT_SECRET", "JWT_SECRET_PREVIOUS")?;
        let headers = settings.headers("AUTH_HEADERS", &[])?;
        Ok(Self {
            secrets,
            keys_url,
            expected: Expected {
                issuers: settings.list("JWT_ISSUER"),
                audiences: settings.list("JWT_AUDIENCE"),
            },
            endpoint,
            headers,
            session_cookie: settings
                .text("SESSION_COOKIE")
                .unwrap_or_else(|| "session".to_owned()),
            own: false,
        })
    }

    /// Leaves every decision to a team's own authenticator.
    pub(super) fn own(mut self) -> Self {
        self.own = true;
        self
    }

    /// The secrets that sign tokens.
    pub(super) fn secrets(&self) -> &[Secret] {
        &self.secrets
    }

    /// Where the public keys are.
    #[must_use]
    pub fn keys_url(&self) -> Option<&str> {
        self.keys_url.as_deref()
    }

    /// Whom to ask for sessions that are no tokens.
    #[must_use]
    pub fn endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.as_ref()
    }

    /// The headers of an upgrade that the endpoint is shown beside the cookies.
    #[must_use]
    pub fn headers(&self) -> &[String] {
        &self.headers
    }

    /// Judges credentials as far as that needs nobody else.
    #[must_use]
    pub fn judge<'a>(&self, credentials: &'a Credentials, now: Millis) -> Judgement<'a> {
        if self.own {
            return Judgement::Elsewhere;
        }
        let takes_tokens = !self.secrets.is_empty() || self.keys_url.is_some();
        if !takes_tokens && self.endpoint.is_none() {
            let what = "is not set; connections are refused until it is, or JWKS_URL, \
                AUTH_SERVICE or AUTH_URL";
            return Judgement::Done(Err((&error("JWT_SECRET", what)).into()));
        }
        let token = credentials.token.as_deref();
        let cookie = match &self.endpoint {
            // The app knows its cookies; a token, if there is one, decides before them.
            Some(_) => None,
            None => credentials.cookie(&self.session_cookie),
        };
        match token.or(cookie) {
            Some(token) if takes_tokens => self.judge_token(token, now),
            Some(_) => Judgement::Elsewhere,
            None if self.endpoint.is_some()
                && (credentials.cookie.is_some() || !credentials.headers.is_empty()) =>
            {
                Judgement::Elsewhere
            }
            None => Judgement::Done(Ok(None)),
        }
    }

    fn judge_token<'a>(&self, token: &'a str, now: Millis) -> Judgement<'a> {
        let claims = match Jwt::parse(token) {
            Ok(jwt) if jwt.algorithm() != Algorithm::Hs256 && self.keys_url.is_some() => {
                return Judgement::ByKey(jwt);
            }
            Ok(jwt) => jwt.verify(&self.secrets),
            Err(error) => Err(error),
        };
        let claims = claims.and_then(|verified| verified.claims(&self.expected, now));
        Judgement::Done(claims.map(Some).map_err(Problem::from))
    }

    /// What a token says whose signature a key of `JWKS_URL` has judged.
    ///
    /// # Errors
    /// [`AuthError`] says why it does not count.
    pub fn claims(
        &self,
        verified: &crate::auth::Verified,
        now: Millis,
    ) -> Result<Claims, AuthError> {
        verified.claims(&self.expected, now)
    }

    /// What a token of one channel opens: for that channel, for its holder, and only if
    /// `JWT_SECRET` made it.
    ///
    /// # Errors
    /// `unauthorized` for a token that does not count (any more): get another one. `forbidden` for
    /// one of another channel or identity. A [`ConfigError`] as `internal` without `JWT_SECRET`.
    pub fn pass(
        &self,
        token: &str,
        channel: &Channel,
        identity: Option<&Identity>,
        now: Millis,
    ) -> Result<Pass, Problem> {
        if self.secrets.is_empty() {
            let what = "is not set; it signs the tokens of channels";
            return Err((&error("JWT_SECRET", what)).into());
        }
        let verified = Jwt::parse(token)?.verify(&self.secrets)?;
        let pass = verified.pass(&self.expected, now)?;
        let held = pass
            .holder
            .as_ref()
            .is_none_or(|holder| Some(holder) == identity);
        if pass.channel != *channel || !held {
            return Err(AuthError::Channel.into());
        }
        Ok(pass)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{read, refused};
    use crate::protocol::Code;

    const CHANNELS: (&str, &str) = ("SYNC_CHANNELS", "{}");
    const SECRET: (&str, &str) = ("JWT_SECRET", "a secret of this test");
    const KEYS: (&str, &str) = ("JWKS_URL", "https://id.test/keys");
    const AUTH: (&str, &str) = ("AUTH_URL", "https://app.test/session");

    /// What is left of a judgement, in a word.
    fn judged(settings: &[(&str, &str)], credentials: &Credentials) -> String {
        let settings: Vec<_> = settings.iter().copied().chain([CHANNELS]).collect();
        match read(&settings)
            .unwrap()
            .tokens
            .judge(credentials, Millis(0))
        {
            Judgement::Done(Ok(None)) => "nobody".to_owned(),
            Judgement::Done(Ok(Some(_))) => "somebody".to_owned(),
            Judgement::Done(Err(problem)) => problem.code.as_str().to_owned(),
            Judgement::ByKey(_) => "by key".to_owned(),
            Judgement::Elsewhere => "elsewhere".to_owned(),
        }
    }

    #[test]
    fn urls_that_are_asked_are_https_or_on_this_machine() {
        for good in [
            "https://id.example.com/keys?x=1",
            "http://localhost:8080/keys",
            "http://127.0.0.1/keys",
            "http://[::1]:1/k",
        ] {
            assert!(is_safe_url(good), "{good}");
        }
        for bad in [
            "",
            "id.example.com",
            "http://id.example.com/keys",
            "http://localhost.evil.com",
            "http://127.0.0.1.evil.com",
            "http://localhost@evil.com",
            "https://user@id.example.com",
            "https://",
            "https:///keys",
            "ftp://localhost",
            "https://id.example.com/a b",
        ] {
            assert!(!is_safe_url(bad), "{bad}");
        }
        for name in ["JWKS_URL", "AUTH_URL"] {
            assert!(refused(&[CHANNELS, (name, "http://id.example.com")]).starts_with(name));
        }
    }

    #[test]
    fn mistakes_are_refused_by_the_settings_name() {
        let both = refused(&[CHANNELS, AUTH, ("AUTH_SERVICE", "{}")]);
        assert!(both.starts_with("AUTH_URL"), "{both}");
        assert!(refused(&[CHANNELS, ("AUTH_PATH", "x")]).starts_with("AUTH_PATH"));
        for bad in ["a b:c", "x-tidewire-auth-grant"] {
            let message = refused(&[CHANNELS, ("AUTH_HEADERS", bad)]);
            assert!(message.starts_with("AUTH_HEADERS"), "{message}");
        }
        let lonely = refused(&[CHANNELS, ("JWT_SECRET_PREVIOUS", "x")]);
        assert!(lonely.starts_with("JWT_SECRET:"), "{lonely}");
    }

    #[test]
    fn the_first_source_decides_and_the_settings_say_who_judges_it() {
        let none = Credentials::default();
        let junk = Credentials::of_token("junk");
        let rs256 = Credentials::of_token("eyJhbGciOiJSUzI1NiJ9.e30.AA");
        let cookie = |text: &str| Credentials {
            cookie: Some(text.to_owned()),
            ..Credentials::default()
        };
        let header = Credentials {
            headers: vec![("x-session".to_owned(), "s".to_owned())],
            ..Credentials::default()
        };
        for (settings, credentials, expected) in [
            (&[][..], &none, "internal"),
            (&[SECRET], &none, "nobody"),
            (&[SECRET], &junk, "unauthorized"),
            (&[SECRET], &rs256, "unauthorized"),
            (&[SECRET], &cookie("session=junk"), "unauthorized"),
            (
                &[SECRET],
                &cookie("other=1; session=\"junk\""),
                "unauthorized",
            ),
            (&[SECRET], &cookie("other=junk"), "nobody"),
            (
                &[SECRET, ("SESSION_COOKIE", "other")],
                &cookie("other=junk"),
                "unauthorized",
            ),
            (&[SECRET], &header, "nobody"),
            (&[KEYS], &none, "nobody"),
            (&[KEYS], &rs256, "by key"),
            (&[KEYS], &junk, "unauthorized"),
            (&[SECRET, KEYS], &rs256, "by key"),
            (&[AUTH], &none, "nobody"),
            (&[AUTH], &junk, "elsewhere"),
            (&[AUTH], &cookie("anything=1"), "elsewhere"),
            (&[AUTH], &header, "elsewhere"),
            (&[AUTH, SECRET], &junk, "unauthorized"),
            (&[AUTH, SECRET], &cookie("session=junk"), "elsewhere"),
            (&[("AUTH_SERVICE", "{}")], &junk, "elsewhere"),
        ] {
            assert_eq!(
                judged(settings, credentials),
                expected,
                "{settings:?} {credentials:?}"
            );
        }
    }

    #[test]
    fn channel_tokens_need_the_secret() {
        let config = read(&[CHANNELS, KEYS]).unwrap();
        let channel = Channel::parse("c").unwrap();
        let problem = config
            .tokens
            .pass("x", &channel, None, Millis(0))
            .unwrap_err();
        assert!(problem.code == Code::Internal && problem.message.starts_with("JWT_SECRET"));
        let config = read(&[CHANNELS, SECRET]).unwrap();
        let problem = config
            .tokens
            .pass("x", &channel, None, Millis(0))
            .unwrap_err();
        assert_eq!(problem.code, Code::Unauthorized);
    }
}
