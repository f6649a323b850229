//! Settings: read once from the environment, refused by name when they are missing or wrong.

use crate::auth::{AuthError, Claims, Secret, verify_hs256};
use crate::channel::Rules;
use crate::limits;
use crate::names::{Millis, Space};
use crate::protocol::{Code, Problem};
use crate::session::Grant;

/// The secrets of `.dev.vars.example`. Everybody knows them, so only `DEV=true` may use them.
const DEV_SECRETS: [(&str, &str); 2] = [
    ("JWT_SECRET", "dev-jwt-secret-not-for-production"),
    ("PUBLISH_KEY", "dev-publish-key"),
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

/// The settings of a sync Worker, see `docs/configuration.md`.
#[derive(Debug, Clone)]
pub struct Config {
    /// `SYNC_CHANNELS`: the channels and their rules.
    pub rules: Rules,
    jwt_secret: Option<Secret>,
    publish_key: Option<Secret>,
    session_cookie: String,
    /// Patterns of spaces that open without a `space` claim.
    spaces: Vec<String>,
    /// Origins beside the app's own whose pages may use the visitor's cookies.
    origins: Vec<String>,
    schema_version: Option<u64>,
    schema_min: Option<u64>,
}

impl Config {
    /// Reads the settings. `get` gives a setting's text; JSON settings as JSON text.
    ///
    /// # Errors
    /// The first setting that is wrong. Nothing is open then.
    pub fn read(get: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let given = |name: &str| get(name).filter(|text| !text.is_empty());
        let dev = given("DEV").as_deref() == Some("true");
        for (setting, known) in DEV_SECRETS {
            if !dev && given(setting).as_deref() == Some(known) {
                let what = "is the published development secret; set one of your own \
                    (`wrangler secret put`), or DEV=true on your own machine";
                return Err(error(setting, what));
            }
        }
        let channels = given("SYNC_CHANNELS")
            .ok_or_else(|| error("SYNC_CHANNELS", "is not set; declare your channels"))?;
        let list = |name| -> Vec<String> {
            let text = given(name).unwrap_or_default();
            let items = text.split([',', ' ']).filter(|item| !item.is_empty());
            items.map(str::to_owned).collect()
        };
        let (spaces, origins) = (list("SYNC_SPACES"), list("ALLOWED_ORIGINS"));
        for pattern in &spaces {
            let stem = pattern.strip_suffix('*').unwrap_or(pattern);
            if pattern != "*" && Space::parse(stem).is_err() {
                let what = "is a list of names or `prefix*`, separated by commas, of [a-z0-9_-]";
                return Err(error("SYNC_SPACES", what));
            }
        }
        for origin in &origins {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            let stem = host.strip_prefix("*.").unwrap_or(host);
            if stem.is_empty() || stem.contains(['*', '/']) {
                let what = "is a list of origins, e.g. https://app.example.com or \
                    https://*.example.com, separated by commas";
                return Err(error("ALLOWED_ORIGINS", what));
            }
        }
        let number = |name: &'static str| -> Result<Option<u64>, ConfigError> {
            let parsed = given(name).map(|text| text.parse().ok());
            match parsed.map(|number| number.filter(|number| *number <= limits::SAFE_INTEGER)) {
                None => Ok(None),
                Some(Some(number)) => Ok(Some(number)),
                Some(None) => Err(error(name, "must be a whole number")),
            }
        };
        let (schema_version, schema_min) =
            (number("SYNC_SCHEMA_VERSION")?, number("SYNC_SCHEMA_MIN")?);
        if schema_version.is_some_and(|version| schema_min.is_some_and(|min| min > version)) {
            let what = "is above SYNC_SCHEMA_VERSION: no client could connect";
            return Err(error("SYNC_SCHEMA_MIN", what));
        }
        Ok(Self {
            rules: Rules::parse(&channels).map_err(|what| error("SYNC_CHANNELS", what))?,
            jwt_secret: given("JWT_SECRET").map(Secret::new),
            publish_key: given("PUBLISH_KEY").map(Secret::new),
            session_cookie: given("SESSION_COOKIE").unwrap_or_else(|| "session".to_owned()),
            spaces,
            origins,
            schema_version,
            schema_min,
        })
    }

    /// Whether a page of this origin may use its visitor's cookies. `own_host` is the host (with
    /// port) that the browser used for the app Worker.
    ///
    /// # Errors
    /// `forbidden` for an origin that is neither the app's own nor in `ALLOWED_ORIGINS`.
    pub fn check_origin(&self, origin: &str, own_host: &str) -> Result<(), Problem> {
        let own = origin
            .split_once("://")
            .is_some_and(|(_, host)| host == own_host);
        let listed = self
            .origins
            .iter()
            .any(|allowed| match allowed.split_once("://*.") {
                Some((scheme, domain)) => origin
                    .strip_prefix(scheme)
                    .and_then(|rest| rest.strip_prefix("://"))
                    .and_then(|host| host.strip_suffix(domain))
                    .is_some_and(|sub| sub.ends_with('.') && sub.len() > 1),
                None => origin == allowed,
            });
        let allowed = !own_host.is_empty() && own || listed;
        allowed.then_some(()).ok_or_else(|| {
            Problem::new(
                Code::Forbidden,
                "cookies are not taken from pages of this origin",
            )
        })
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

    /// The cookie that may carry a token.
    #[must_use]
    pub fn session_cookie(&self) -> &str {
        &self.session_cookie
    }

    /// Whether a publisher's key is right.
    ///
    /// # Errors
    /// `unauthorized` for a wrong key or none; a [`ConfigError`] as `internal` where no key is
    /// configured: publishing never falls open.
    pub fn check_publisher(&self, key: Option<&str>) -> Result<(), Problem> {
        let Some(expected) = &self.publish_key else {
            let what = "is not set; publishing is refused until it is";
            return Err((&error("PUBLISH_KEY", what)).into());
        };
        if key.is_some_and(|key| expected.is(key)) {
            Ok(())
        } else {
            Err(Problem::new(
                Code::Unauthorized,
                "the publish key is missing or wrong",
            ))
        }
    }

    /// What a connection with this token (or none) may do in a space.
    ///
    /// # Errors
    /// `unauthorized` or `forbidden` by the token; a [`ConfigError`] as `internal` where tokens
    /// cannot be verified.
    pub fn admit(&self, token: Option<&str>, space: &Space, now: Millis) -> Result<Grant, Problem> {
        let Some(secret) = &self.jwt_secret else {
            let what = "is not set; connections are refused until it is";
            return Err((&error("JWT_SECRET", what)).into());
        };
        let claims = token
            .map(|token| verify_hs256(token, secret, now))
            .transpose()?;
        self.check_space(claims.as_ref(), space)?;
        Ok(claims.map(|claims| claims.grant).unwrap_or_default())
    }

    fn check_space(&self, claims: Option<&Claims>, space: &Space) -> Result<(), AuthError> {
        let claimed = claims.and_then(|claims| claims.space.as_ref());
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => space.as_str().starts_with(prefix),
            None => space.as_str() == pattern,
        };
        let open = *space == Space::default_space() || self.spaces.iter().any(matches);
        match claimed {
            Some(claimed) if claimed == space => Ok(()),
            Some(_) => Err(AuthError::Space),
            None if open => Ok(()),
            None if claims.is_some() => Err(AuthError::Space),
            None => Err(AuthError::SpaceNeedsToken),
        }
    }
}

fn error(setting: &'static str, what: impl Into<String>) -> ConfigError {
    ConfigError {
        setting,
        what: what.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::read(|name| {
            let found = settings.iter().find(|(setting, _)| *setting == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    fn refused(settings: &[(&str, &str)]) -> String {
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
        for (setting, value) in DEV_SECRETS {
            let settings = [("SYNC_CHANNELS", "{}"), (setting, value)];
            let message = refused(&settings);
            assert!(message.starts_with(setting), "{message}");
            assert!(!message.contains(value));
            for dev in ["1", "TRUE", "false", ""] {
                assert!(read(&[settings[0], settings[1], ("DEV", dev)]).is_err());
            }
            assert!(read(&[settings[0], settings[1], ("DEV", "true")]).is_ok());
        }
    }

    #[test]
    fn without_a_secret_nobody_connects_and_nobody_publishes() {
        let config = read(&[("SYNC_CHANNELS", "{}")]).unwrap();
        let connect = config
            .admit(None, &Space::default_space(), Millis(0))
            .unwrap_err();
        assert!(connect.message.starts_with("JWT_SECRET"));
        assert_eq!(connect.code.status(), 500);
        let publish = config.check_publisher(Some("")).unwrap_err();
        assert!(publish.message.starts_with("PUBLISH_KEY"));
        assert_eq!(publish.code.status(), 500);
    }

    #[test]
    fn a_publisher_needs_the_key() {
        let config = read(&[("SYNC_CHANNELS", "{}"), ("PUBLISH_KEY", "right")]).unwrap();
        assert!(config.check_publisher(Some("right")).is_ok());
        for key in [None, Some(""), Some("wrong")] {
            assert_eq!(
                config.check_publisher(key).unwrap_err().code,
                Code::Unauthorized
            );
        }
    }

    #[test]
    fn cookies_come_from_the_apps_own_pages_or_from_listed_origins() {
        let config = read(&[
            ("SYNC_CHANNELS", "{}"),
            (
                "ALLOWED_ORIGINS",
                "https://a.example.com, https://*.example.org",
            ),
        ])
        .unwrap();
        let allowed = |origin: &str| config.check_origin(origin, "app.test:8787").is_ok();
        for origin in [
            "http://app.test:8787",
            "https://a.example.com",
            "https://x.example.org",
            "https://x.y.example.org",
        ] {
            assert!(allowed(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://app.test",
            "http://app.test:8787.evil.com",
            "http://a.example.com",
            "https://a.example.com.evil.com",
            "https://example.org",
            "https://.example.org",
            "https://evilexample.org",
            "http://x.example.org",
        ] {
            assert!(!allowed(origin), "{origin}");
        }
        assert!(config.check_origin("http://", "").is_err());
        for bad in [
            "*",
            "https://*",
            "example.com",
            "https://*.a.*",
            "https://a.com/x",
        ] {
            assert!(
                refused(&[("SYNC_CHANNELS", "{}"), ("ALLOWED_ORIGINS", bad)])
                    .starts_with("ALLOWED_ORIGINS"),
                "{bad}"
            );
        }
    }

    #[test]
    fn spaces_open_by_claim_or_by_pattern() {
        let config = read(&[("SYNC_CHANNELS", "{}"), ("SYNC_SPACES", "team-*, demo")]).unwrap();
        let space = |name: &str| Space::parse(name).unwrap();
        let claims = |named: Option<&str>| Claims {
            grant: Grant::default(),
            space: named.map(space),
        };
        let check = |claims: Option<&Claims>, name| config.check_space(claims, &space(name));
        for open in ["global", "team-7", "demo"] {
            assert_eq!(check(None, open), Ok(()));
            assert_eq!(check(Some(&claims(None)), open), Ok(()));
            assert_eq!(check(Some(&claims(Some("x"))), open), Err(AuthError::Space));
        }
        assert_eq!(check(None, "x"), Err(AuthError::SpaceNeedsToken));
        assert_eq!(check(Some(&claims(None)), "x"), Err(AuthError::Space));
        assert_eq!(check(Some(&claims(Some("x"))), "x"), Ok(()));
    }
}
