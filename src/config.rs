//! Settings: read once from the environment, refused by name when they are missing or wrong.

pub(crate) mod doctor;
mod handshake;
mod hooks;
mod origins;
mod pattern;
mod publishers;
mod tokens;

use std::rc::Rc;

use crate::auth::{AuthError, Claims, Secret};
use crate::channel::Rules;
use crate::engine::Call;
use crate::limits::{self, Limits};
use crate::names::{Channel, Space};
use crate::observe::Event;
use crate::protocol::{Code, Problem};
use crate::session::Grant;
use crate::source::Signer;
use handshake::Handshake;
use origins::Origins;
use pattern::Patterns;
use publishers::Publishers;

pub use doctor::{Finding, Severity, examine};
pub use publishers::Publisher;
pub(crate) use tokens::is_safe_url;
pub use tokens::{Credentials, Endpoint, Judgement, Tokens};

/// The secrets of `.dev.vars.example`. Everybody knows them, so only `DEV=true` may use them.
const DEV_SECRETS: [&str; 3] = [
    "dev-jwt-secret-not-for-production",
    "dev-publish-key",
    "dev-hook-secret-not-for-production",
];

/// A setting that is missing or wrong. The text names it and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{setting}: {what}")]
pub struct ConfigError {
    /// The setting's name.
    pub setting: &'static str,
    /// What is wrong, and what to do.
    pub what: String,
}

impl From<&ConfigError> for Problem {
    fn from(error: &ConfigError) -> Self {
        Self::new(Code::Internal, error.to_string())
    }
}

fn error(setting: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        what: what.into(),
    }
}

/// The environment, as settings are read from it.
struct Settings<'a> {
    get: &'a dyn Fn(&str) -> Option<String>,
    dev: bool,
}

impl Settings<'_> {
    /// A setting's text; an empty one counts as not set.
    fn text(&self, name: &str) -> Option<String> {
        (self.get)(name).filter(|text| !text.is_empty())
    }

    /// Whether there is a binding of this name.
    fn is_bound(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn list(&self, name: &str) -> Vec<String> {
        let text = self.text(name).unwrap_or_default();
        let items = text.split([',', ' ']).filter(|item| !item.is_empty());
        items.map(str::to_owned).collect()
    }

    /// Names of headers, in lower case. Tidewire's own cannot be named, nor those in `never`.
    fn headers(&self, name: &'static str, never: &[&str]) -> Result<Vec<String>, ConfigError> {
        let list = self.list(name).into_iter();
        let list: Vec<String> = list.map(|header| header.to_ascii_lowercase()).collect();
        let named = |header: &String| {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            let ours = header.starts_with("x-tidewire");
            header.bytes().all(plain) && !ours && !never.contains(&header.as_str())
        };
        if !list.iter().all(named) {
            let mut what = "is a list of header names, separated by commas".to_owned();
            if !never.is_empty() {
                what = format!("{what}, without {}", never.join(" and "));
            }
            return Err(error(name, what));
        }
        Ok(list)
    }

    fn number(&self, name: &'static str) -> Result<Option<u64>, ConfigError> {
        let parsed = self.text(name).map(|text| text.parse().ok());
        match parsed.map(|number| number.filter(|number| *number <= limits::SAFE_INTEGER)) {
            None => Ok(None),
            Some(Some(number)) => Ok(Some(number)),
            Some(None) => Err(error(name, "must be a whole number")),
        }
    }

    /// Whether a secret is one that everybody knows, and this is not a machine of one's own.
    fn is_published(&self, secret: &str) -> bool {
        !self.dev && DEV_SECRETS.contains(&secret)
    }

    fn secret(&self, name: &'static str) -> Result<Option<Secret>, ConfigError> {
        Ok(self.secret_text(name)?.map(Secret::new))
    }

    fn secret_text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        let text = self.text(name);
        if text.as_deref().is_some_and(|text| self.is_published(text)) {
            let what = "is the published development secret; set one of your own \
                (`wrangler secret put`), or DEV=true on your own machine";
            return Err(error(name, what));
        }
        Ok(text)
    }

    /// A secret, and the one that it replaces for a while.
    fn secret_and_previous(
        &self,
        name: &'static str,
        previous: &'static str,
    ) -> Result<Vec<Secret>, ConfigError> {
        match (self.secret(name)?, self.secret(previous)?) {
            (None, Some(_)) => Err(error(name, format!("is not set, but {previous} is"))),
            (secret, previous) => Ok(secret.into_iter().chain(previous).collect()),
        }
    }
}

/// `SYNC_LOG`: which operations have a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Log {
    /// All of them.
    All,
    /// Refused ones.
    Errors,
    /// None of them.
    None,
}

impl Log {
    fn read(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        match settings.text("SYNC_LOG").as_deref() {
            None | Some("all") => Ok(Self::All),
            Some("errors") => Ok(Self::Errors),
            Some("none") => Ok(Self::None),
            Some(_) => Err(error("SYNC_LOG", "must be all, errors or none")),
        }
    }

    /// Whether an operation has a line.
    #[must_use]
    pub fn takes(self, event: &Event) -> bool {
        match self {
            Self::All => true,
            Self::Errors => event.outcome.code().is_some(),
            Self::None => false,
        }
    }
}

/// The settings of a sync Worker, see `docs/configuration.md`.
#[derive(Debug, Clone)]
pub struct Config {
    /// `SYNC_CHANNELS`: the channels and their rules.
    pub rules: Rules,
    /// `SYNC_LIMITS`: the bounds that can be set.
    pub limits: Limits,
    /// Whose word counts for who somebody is.
    pub tokens: Tokens,
    /// `SYNC_LOG`: which operations have a line in the log.
    pub log: Log,
    publishers: Publishers,
    /// Spaces that open without a `space` claim.
    spaces: Patterns,
    origins: Origins,
    /// What handlers are told of an upgrade; nothing where no channel has any.
    handshake: Option<Handshake>,
    /// Signs what the app is asked where it keeps rows.
    hooks: Signer,
    schema_version: Option<u64>,
    schema_min: Option<u64>,
}

impl Config {
    /// Reads the settings. `get` gives a setting's text; JSON settings as JSON text.
    ///
    /// # Errors
    /// The first setting that is wrong. Nothing is open then.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let settings = Settings {
            dev: get("DEV").as_deref() == Some("true"),
            get: &get,
        };
        let tokens = Tokens::read(&settings)?;
        let publishers = Publishers::read(&settings)?;
        if publishers.keys().any(|key| tokens.secrets().contains(key)) {
            let what = "is the same as JWT_SECRET: whoever may publish could be anybody";
            return Err(error("PUBLISH_KEY", what));
        }
        let known: Vec<&Secret> = tokens.secrets().iter().chain(publishers.keys()).collect();
        let channels = settings
            .text("SYNC_CHANNELS")
            .ok_or_else(|| error("SYNC_CHANNELS", "is not set; declare your channels"))?;
        let spaces = settings.list("SYNC_SPACES");
        let is_space = |name: &str| Space::parse(name).is_ok();
        let spaces = Patterns::parse(spaces.iter().map(String::as_str), is_space);
        let spaces = spaces.ok_or_else(|| {
            let what = "is a list of names or `prefix*`, separated by commas, of [a-z0-9_-]";
            error("SYNC_SPACES", what)
        })?;
        let (version, min) = ("SYNC_SCHEMA_VERSION", "SYNC_SCHEMA_MIN");
        let (schema_version, schema_min) = (settings.number(version)?, settings.number(min)?);
        if schema_version.is_some_and(|version| schema_min.is_some_and(|min| min > version)) {
            let what = "is above SYNC_SCHEMA_VERSION: no client could connect";
            return Err(error("SYNC_SCHEMA_MIN", what));
        }
        let limits = settings.text("SYNC_LIMITS");
        let limits = limits.map(|json| Limits::parse(&json)).transpose();
        let rules = Rules::parse(&channels).map_err(|what| error("SYNC_CHANNELS", what))?;
        let handshake = Handshake::read(&settings)?;
        Ok(Self {
            hooks: hooks::read(&settings, &rules, &known)?,
            handshake: rules.tell_who().then_some(handshake),
            rules,
            limits: limits
                .map_err(|what| error("SYNC_LIMITS", what))?
                .unwrap_or_default(),
            tokens,
            log: Log::read(&settings)?,
            publishers,
            spaces,
            origins: Origins::read(&settings)?,
            schema_version,
            schema_min,
        })
    }

    /// Leaves it to a team's own authenticator who somebody is, see `workers::Authenticator`. No
    /// `JWT_*`, `JWKS_URL` or `AUTH_*` setting counts then, but `JWT_SECRET` for channel tokens.
    #[must_use]
    pub fn with_own_authenticator(mut self) -> Self {
        self.tokens = self.tokens.own();
        self
    }

    /// Whether a page of this origin may use its visitor's cookies. `own` is the origin that the
    /// browser used for the app Worker.
    ///
    /// # Errors
    /// `forbidden` for an origin that is neither the app's own nor in `ALLOWED_ORIGINS`.
    pub fn check_origin(&self, origin: &str, own: &str) -> Result<(), Problem> {
        self.origins.check(origin, own)
    }

    /// The version of the app's data model, told in `welcome`.
    #[must_use]
    pub fn schema_version(&self) -> Option<u64> {
        self.schema_version
    }

    /// Whether a client's data model is recent enough. One that says none is the oldest there is.
    #[must_use]
    pub fn takes_schema(&self, schema: Option<u64>) -> bool {
        self.schema_min <= Some(schema.unwrap_or_default())
    }

    /// Whose key a call came with.
    ///
    /// # Errors
    /// `unauthorized` for a wrong key or none; a [`ConfigError`] as `internal` where no key is
    /// configured: publishing never falls open.
    pub fn publisher(&self, key: Option<&str>) -> Result<Publisher, Problem> {
        self.publishers.find(key)
    }

    /// Whether a publisher's key opens a call (`None`: an operator's question) in a space.
    ///
    /// # Errors
    /// `forbidden` if it does not.
    pub fn check_call(
        &self,
        publisher: &Publisher,
        call: Option<Call>,
        space: &Space,
    ) -> Result<(), Problem> {
        self.publishers.check_space(publisher, call, space)
    }

    /// Whether a publisher's key opens a channel.
    ///
    /// # Errors
    /// `forbidden` if it does not.
    pub fn check_publishes(&self, publisher: &Publisher, channel: &Channel) -> Result<(), Problem> {
        self.publishers.check_channel(publisher, channel)
    }

    /// Whether a publisher's key lets it see who is present in a channel: whoever may publish there
    /// may.
    ///
    /// # Errors
    /// `forbidden` if it does not.
    pub fn check_sees(
        &self,
        publisher: &Publisher,
        channel: &Channel,
        space: &Space,
    ) -> Result<(), Problem> {
        self.check_call(publisher, Some(Call::Broadcast), space)?;
        self.check_publishes(publisher, channel)
    }

    /// Whether a publisher's key may move a space as a whole: export, import, restore. Only
    /// `PUBLISH_KEY` may: it is all rows of all channels.
    ///
    /// # Errors
    /// `forbidden` if it may not.
    pub fn check_keeps(&self, publisher: &Publisher) -> Result<(), Problem> {
        match publisher {
            Publisher::Unscoped => Ok(()),
            Publisher::Named(_) => {
                let message = "only PUBLISH_KEY opens that, no key of PUBLISH_KEYS";
                Err(Problem::new(Code::Forbidden, message))
            }
        }
    }

    /// What a session remembers of its upgrade, or a request over HTTP, for handlers: nothing where
    /// no channel has any. `url` is what the browser asked for.
    ///
    /// # Errors
    /// `forbidden` for more than [`limits::HANDSHAKE_BYTES`]: it is never cut.
    pub fn handshake(
        &self,
        url: &str,
        header: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Option<Rc<str>>, Problem> {
        let handshake = self.handshake.as_ref();
        handshake.map(|kept| kept.of(url, header)).transpose()
    }

    /// Signs what the app is asked where it keeps a channel's rows.
    #[must_use]
    pub fn hooks(&self) -> &Signer {
        &self.hooks
    }

    /// What somebody may do in a space. The claims stay with it only where handlers are told them.
    ///
    /// # Errors
    /// `unauthorized` or `forbidden` where the space does not open to it, or the claims are too long
    /// to be told.
    pub fn admit(&self, claims: Option<Claims>, space: &Space) -> Result<Grant, AuthError> {
        let claimed = claims.as_ref().and_then(|claims| claims.space.as_ref());
        let open = *space == Space::default_space() || self.spaces.matches(space.as_str());
        match claimed {
            Some(claimed) if claimed == space => {}
            Some(_) => return Err(AuthError::Space),
            None if open => {}
            None if claims.is_some() => return Err(AuthError::Space),
            None => return Err(AuthError::SpaceNeedsToken),
        }
        let mut grant = claims.map(|claims| claims.grant).unwrap_or_default();
        if self.handshake.is_none() {
            grant.claims = None;
        }
        let told = grant.claims.as_ref().map_or(0, |claims| claims.len());
        if told > limits::CLAIMS_BYTES {
            return Err(AuthError::Claims(limits::CLAIMS_BYTES));
        }
        Ok(grant)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::Millis;

    pub(super) fn read(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(|name| {
            let found = settings.iter().find(|(setting, _)| *setting == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    pub(super) fn refused(settings: &[(&str, &str)]) -> String {
        read(settings).unwrap_err().to_string()
    }

    #[test]
    fn mistakes_are_refused_by_the_settings_name() {
        assert!(refused(&[]).starts_with("SYNC_CHANNELS"));
        let typo = refused(&[("SYNC_CHANNELS", r#"{"todos":{"raed":"anyone"}}"#)]);
        assert!(
            typo.starts_with("SYNC_CHANNELS") && typo.contains("todos"),
            "{typo}"
        );
        let spaces = refused(&[("SYNC_CHANNELS", "{}"), ("SYNC_SPACES", "Team")]);
        assert!(spaces.starts_with("SYNC_SPACES"));
    }

    #[test]
    fn the_log_has_all_errors_or_no_lines_and_other_words_are_refused() {
        use crate::observe::{Operation, Outcome};
        let done = Event::new(Operation::Mutate, None);
        let refused = Event {
            outcome: Outcome::Refused(Code::Conflict),
            ..done.clone()
        };
        for (word, takes) in [
            ("", [true, true]),
            ("all", [true, true]),
            ("errors", [false, true]),
            ("none", [false, false]),
        ] {
            let log = read(&[("SYNC_CHANNELS", "{}"), ("SYNC_LOG", word)]).map(|c| c.log);
            let log = log.unwrap();
            assert_eq!([log.takes(&done), log.takes(&refused)], takes, "{word}");
        }
        for word in ["true", "ALL", "error", "all,errors"] {
            let message = refused_word(word);
            assert!(message.starts_with("SYNC_LOG:"), "{message}");
        }
    }

    fn refused_word(word: &str) -> String {
        refused(&[("SYNC_CHANNELS", "{}"), ("SYNC_LOG", word)])
    }

    #[test]
    fn schemas_are_numbers_in_order() {
        let with = |version: &str, min: &str| {
            read(&[
                ("SYNC_CHANNELS", "{}"),
                ("SYNC_SCHEMA_VERSION", version),
                ("SYNC_SCHEMA_MIN", min),
            ])
        };
        for (version, min) in [("x", ""), ("-1", ""), ("1.5", ""), ("9007199254740992", "")] {
            let message = with(version, min).unwrap_err().to_string();
            assert!(message.starts_with("SYNC_SCHEMA_VERSION"), "{message}");
        }
        let message = with("2", "3").unwrap_err().to_string();
        assert!(message.starts_with("SYNC_SCHEMA_MIN"), "{message}");
        let config = with("3", "2").unwrap();
        assert_eq!(config.schema_version(), Some(3));
        let taken = [None, Some(1), Some(2), Some(4)].map(|schema| config.takes_schema(schema));
        assert_eq!(taken, [false, false, true, true]);
        assert!(with("", "").unwrap().takes_schema(None));
    }

    #[test]
    fn published_secrets_need_dev() {
        for (setting, current) in [
            ("JWT_SECRET", None),
            ("PUBLISH_KEY", None),
            ("HOOK_SECRET", None),
            ("JWT_SECRET_PREVIOUS", Some(("JWT_SECRET", "x"))),
            ("PUBLISH_KEY_PREVIOUS", Some(("PUBLISH_KEY", "x"))),
            ("HOOK_SECRET_PREVIOUS", Some(("HOOK_SECRET", "x"))),
        ] {
            for value in DEV_SECRETS {
                let with = |dev: Option<&'static str>| {
                    let dev = dev.map(|dev| ("DEV", dev));
                    let all = [("SYNC_CHANNELS", "{}"), (setting, value)].into_iter();
                    read(&all.chain(current).chain(dev).collect::<Vec<_>>())
                };
                for dev in [None, Some("1"), Some("TRUE"), Some("false"), Some("")] {
                    let message = with(dev).unwrap_err().to_string();
                    assert!(message.starts_with(&format!("{setting}:")), "{message}");
                    assert!(!message.contains(value));
                }
                assert!(with(Some("true")).is_ok());
            }
        }
    }

    #[test]
    fn without_a_setting_that_says_who_is_who_nobody_connects() {
        let config = read(&[("SYNC_CHANNELS", "{}")]).unwrap();
        let nobody = Credentials::default();
        let Judgement::Done(Err(problem)) = config.tokens.judge(&nobody, Millis(0)) else {
            panic!("not refused");
        };
        assert!(problem.message.starts_with("JWT_SECRET"));
        assert_eq!(problem.code.status(), 500);
    }

    #[test]
    fn a_teams_own_authenticator_needs_no_other_setting() {
        let config = read(&[("SYNC_CHANNELS", "{}")]).unwrap();
        let tokens = config.with_own_authenticator().tokens;
        for credentials in [Credentials::default(), Credentials::of_token("x")] {
            let judgement = tokens.judge(&credentials, Millis(0));
            assert!(matches!(judgement, Judgement::Elsewhere));
        }
    }

    #[test]
    fn claims_stay_only_where_handlers_are_told_them_and_only_whole() {
        let handled = r#"{"a":{},"b*":{"source":{"handler":"h"}}}"#;
        let admit = |channels: &str, bytes: usize| {
            let grant = Grant {
                claims: Some("c".repeat(bytes).into()),
                ..Grant::default()
            };
            let config = read(&[("SYNC_CHANNELS", channels)]).unwrap();
            let claims = Claims { grant, space: None };
            let grant = config.admit(Some(claims), &Space::default_space())?;
            Ok(grant.claims.map(|claims| claims.len()))
        };
        let most = limits::CLAIMS_BYTES;
        assert_eq!(admit(handled, most), Ok(Some(most)));
        assert_eq!(admit(handled, most + 1), Err(AuthError::Claims(most)));
        assert_eq!(admit(r#"{"a":{}}"#, most + 1), Ok(None));
        let problem = Problem::from(AuthError::Claims(most));
        assert_eq!(
            (problem.code, problem.code.status()),
            (Code::Forbidden, 403)
        );
    }

    #[test]
    fn spaces_open_by_claim_or_by_pattern() {
        let config = read(&[("SYNC_CHANNELS", "{}"), ("SYNC_SPACES", "team-*, demo")]).unwrap();
        let space = |name: &str| Space::parse(name).unwrap();
        let claims = |named: Option<&str>| Claims {
            grant: Grant::default(),
            space: named.map(space),
        };
        let admit = |claims: Option<Claims>, name| config.admit(claims, &space(name)).map(|_| ());
        for open in ["global", "team-7", "demo"] {
            assert_eq!(admit(None, open), Ok(()));
            assert_eq!(admit(Some(claims(None)), open), Ok(()));
            assert_eq!(admit(Some(claims(Some("x"))), open), Err(AuthError::Space));
        }
        assert_eq!(admit(None, "x"), Err(AuthError::SpaceNeedsToken));
        assert_eq!(admit(Some(claims(None)), "x"), Err(AuthError::Space));
        assert_eq!(admit(Some(claims(Some("x"))), "x"), Ok(()));
    }
}
