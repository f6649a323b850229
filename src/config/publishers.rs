//! Keys of publishers and operators: `PUBLISH_KEY` opens everything, `PUBLISH_KEYS` what each says.

use std::rc::Rc;

use serde::Deserialize;

use super::pattern::Patterns;
use super::{ConfigError, Settings, error};
use crate::auth::Secret;
use crate::engine::Call;
use crate::limits;
use crate::names::{Channel, Space};
use crate::protocol::{Code, Fields, Problem, from_object};
use crate::small_map::SmallMap;

/// Whose key a call came with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Publisher {
    /// `PUBLISH_KEY`, or a Worker that holds the object's binding: it may do everything.
    Unscoped,
    /// A key of `PUBLISH_KEYS`, by its name.
    Named(Rc<str>),
}

impl Publisher {
    /// The name for the log; never the key.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Unscoped => "PUBLISH_KEY",
            Self::Named(name) => name,
        }
    }
}

/// One entry of `PUBLISH_KEYS`.
#[derive(Debug, Clone)]
struct Scoped {
    keys: Vec<Secret>,
    channels: Patterns,
    spaces: Patterns,
    operate: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    key: String,
    previous: Option<String>,
    channels: Vec<String>,
    #[serde(default = "default_space")]
    spaces: Vec<String>,
    #[serde(default)]
    operate: bool,
}

fn default_space() -> Vec<String> {
    vec![Space::default_space().to_string()]
}

/// Who may publish what.
#[derive(Debug, Clone, Default)]
pub(super) struct Publishers {
    /// `PUBLISH_KEY` and `PUBLISH_KEY_PREVIOUS`.
    unscoped: Vec<Secret>,
    scoped: SmallMap<Rc<str>, Scoped>,
}

impl Publishers {
    pub(super) fn read(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        let mut publishers = Self {
            unscoped: settings.secret_and_previous("PUBLISH_KEY", "PUBLISH_KEY_PREVIOUS")?,
            scoped: SmallMap::new(),
        };
        let Some(json) = settings.text("PUBLISH_KEYS") else {
            return Ok(publishers);
        };
        let wrong = |what: String| error("PUBLISH_KEYS", what);
        // Nothing of it is quoted, no name either: somebody may have put a key in its place.
        let fields = Fields::parse(&json)
            .map_err(|_| wrong("must be a JSON object from name to key".to_owned()))?;
        for (index, (name, value)) in fields.iter().enumerate() {
            let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
            let named =
                (1..=limits::PUBLISHER_BYTES).contains(&name.len()) && name.bytes().all(plain);
            if !named || name == Publisher::Unscoped.name() {
                let what = "a key's name is 1 to 64 letters, digits, - and _, not PUBLISH_KEY";
                return Err(wrong(format!("entry {index}: {what}")));
            }
            let scoped = Scoped::read(value.get(), settings)
                .map_err(|what| wrong(format!("entry {index}: {what}")))?;
            publishers.scoped.insert(name.into(), scoped);
        }
        let unscoped = (Publisher::Unscoped.name(), &publishers.unscoped);
        let scoped = publishers.scoped.iter();
        let scoped = scoped.map(|(name, scoped)| (name.as_ref(), &scoped.keys));
        let mut seen: Vec<(&str, &Secret)> = Vec::new();
        for (name, keys) in std::iter::once(unscoped).chain(scoped) {
            for key in keys {
                // One publisher may have the same key twice: in the midst of a rotation it does.
                let other = seen
                    .iter()
                    .find(|(other, held)| *other != name && *held == key);
                if other.is_some() {
                    let what = "two entries, or one and PUBLISH_KEY, have the same key";
                    return Err(wrong(what.to_owned()));
                }
                seen.push((name, key));
            }
        }
        Ok(publishers)
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Secret> {
        let scoped = self.scoped.values().flat_map(|scoped| &scoped.keys);
        self.unscoped.iter().chain(scoped)
    }

    /// Whose key this is. All are compared, so that the time tells nothing.
    pub(super) fn find(&self, key: Option<&str>) -> Result<Publisher, Problem> {
        if self.unscoped.is_empty() && self.scoped.is_empty() {
            let what = "is not set; publishing is refused until it is, or PUBLISH_KEYS";
            return Err((&error("PUBLISH_KEY", what)).into());
        }
        let is = |keys: &[Secret]| {
            let matches = |secret: &Secret| key.is_some_and(|key| secret.is(key));
            keys.iter()
                .fold(false, |found, secret| found | matches(secret))
        };
        let mut found = is(&self.unscoped).then_some(Publisher::Unscoped);
        for (name, scoped) in &self.scoped {
            if is(&scoped.keys) {
                found = Some(Publisher::Named(Rc::clone(name)));
            }
        }
        let refused = || Problem::new(Code::Unauthorized, "the publish key is missing or wrong");
        found.ok_or_else(refused)
    }

    fn scope(&self, publisher: &Publisher) -> Result<Option<&Scoped>, Problem> {
        match publisher {
            Publisher::Unscoped => Ok(None),
            Publisher::Named(name) => self.scoped.get(name).map(Some).ok_or_else(refusal),
        }
    }

    pub(super) fn check_space(
        &self,
        publisher: &Publisher,
        call: Option<Call>,
        space: &Space,
    ) -> Result<(), Problem> {
        let publishes = call.is_some_and(Call::publishes);
        let may = self.scope(publisher)?.is_none_or(|scoped| {
            scoped.spaces.matches(space.as_str()) && (publishes || scoped.operate)
        });
        may.then_some(()).ok_or_else(refusal)
    }

    pub(super) fn check_channel(
        &self,
        publisher: &Publisher,
        channel: &Channel,
    ) -> Result<(), Problem> {
        let scope = self.scope(publisher)?;
        let may = scope.is_none_or(|scoped| scoped.channels.matches(channel.as_str()));
        may.then_some(()).ok_or_else(refusal)
    }
}

fn refusal() -> Problem {
    Problem::new(Code::Forbidden, "this publish key does not open that")
}

impl Scoped {
    fn read(json: &str, settings: &Settings<'_>) -> Result<Self, &'static str> {
        const SHAPE: &str =
            "must be {\"key\", \"previous\"?, \"channels\", \"spaces\"?, \"operate\"?}";
        // The parser's own words would quote what it read.
        let written: Written = from_object(json).map_err(|_| SHAPE)?;
        let keys: Vec<String> = [Some(written.key), written.previous]
            .into_iter()
            .flatten()
            .collect();
        if keys.iter().any(String::is_empty) {
            return Err("the key must not be empty");
        }
        if keys.iter().any(|key| settings.is_published(key)) {
            return Err("the key is a published development secret");
        }
        let channel = |name: &str| Channel::parse(name).is_ok();
        let space = |name: &str| Space::parse(name).is_ok();
        let list = |list: &[String], is_name: &dyn Fn(&str) -> bool| {
            Patterns::parse(list.iter().map(String::as_str), is_name)
        };
        Ok(Self {
            keys: keys.into_iter().map(Secret::new).collect(),
            channels: list(&written.channels, &channel)
                .ok_or("channels must be names or `prefix*`")?,
            spaces: list(&written.spaces, &space)
                .ok_or("spaces must be names or `prefix*`, of [a-z0-9_-]")?,
            operate: written.operate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{read, refused};

    const CHANNELS: (&str, &str) = ("SYNC_CHANNELS", "{}");
    const KEYS: (&str, &str) = (
        "PUBLISH_KEYS",
        r#"{"bills":{"key":"b1","previous":"b0","channels":["bills","bill:*"]},
            "ops":{"key":"o","channels":[],"spaces":["*"],"operate":true},
            "team":{"key":"t","channels":["*"],"spaces":["team-*"]}}"#,
    );

    #[test]
    fn a_publisher_needs_a_key() {
        let config = read(&[
            CHANNELS,
            ("PUBLISH_KEY", "new"),
            ("PUBLISH_KEY_PREVIOUS", "old"),
            KEYS,
        ]);
        let config = config.unwrap();
        for (key, name) in [
            ("new", "PUBLISH_KEY"),
            ("old", "PUBLISH_KEY"),
            ("b1", "bills"),
            ("b0", "bills"),
            ("o", "ops"),
        ] {
            assert_eq!(config.publisher(Some(key)).unwrap().name(), name);
        }
        for key in [None, Some(""), Some("wrong"), Some("bills"), Some("New")] {
            let refused = config.publisher(key).unwrap_err();
            assert_eq!(refused.code, Code::Unauthorized, "{key:?}");
        }
    }

    #[test]
    fn without_a_key_nobody_publishes() {
        let config = read(&[CHANNELS]).unwrap();
        let refused = config.publisher(Some("")).unwrap_err();
        assert!(refused.message.starts_with("PUBLISH_KEY"));
        assert_eq!(refused.code.status(), 500);
        let scoped = read(&[CHANNELS, KEYS]).unwrap();
        assert_eq!(
            scoped.publisher(Some("")).unwrap_err().code,
            Code::Unauthorized
        );
        assert!(scoped.publisher(Some("t")).is_ok());
    }

    #[test]
    fn a_scoped_key_opens_its_channels_and_spaces_and_nothing_else() {
        let config = read(&[CHANNELS, ("PUBLISH_KEY", "all"), KEYS]).unwrap();
        let publisher = |key| config.publisher(Some(key)).unwrap();
        let channel = |key, name: &str| {
            config
                .check_publishes(&publisher(key), &Channel::parse(name).unwrap())
                .is_ok()
        };
        let space = |key, call, name: &str| {
            config
                .check_call(&publisher(key), call, &Space::parse(name).unwrap())
                .is_ok()
        };
        let (publish, operate) = (Some(Call::Broadcast), Some(Call::Epoch));
        assert!(channel("all", "x") && space("all", operate, "x") && space("all", None, "x"));
        assert!(channel("b1", "bills") && channel("b0", "bill:7"));
        assert!(!channel("b1", "bill") && !channel("b1", "todos") && !channel("o", "todos"));
        assert!(space("b1", publish, "global") && !space("b1", publish, "team-1"));
        assert!(space("t", publish, "team-1") && !space("t", publish, "global"));
        assert!(!space("b1", operate, "global") && !space("b1", None, "global"));
        assert!(space("o", operate, "team-1") && space("o", None, "global"));
        let unknown = Publisher::Named("gone".into());
        let refused = config.check_publishes(&unknown, &Channel::parse("bills").unwrap());
        assert_eq!(
            refused.unwrap_err().code,
            Code::Forbidden,
            "the names may have changed"
        );
    }

    #[test]
    fn mistakes_are_named_and_quote_no_key() {
        for (json, named) in [
            ("[]", "object"),
            (r#"{"a":"hush"}"#, "entry 0: must be"),
            (r#"{"a":{"key":"hush"}}"#, "entry 0: must be"),
            // Serde alone would take fields by their places.
            (
                r#"{"a":["hush",null,["x"],["*"],true]}"#,
                "entry 0: must be",
            ),
            (
                r#"{"a":{"key":"hush","channels":["x"],"chanels":[]}}"#,
                "entry 0: must be",
            ),
            (r#"{"a":{"key":"","channels":[]}}"#, "empty"),
            (
                r#"{"a":{"key":"hush","previous":"","channels":[]}}"#,
                "empty",
            ),
            (r#"{"a":{"key":"hush","channels":["x*y"]}}"#, "channels"),
            (
                r#"{"a":{"key":"hush","channels":[],"spaces":["X"]}}"#,
                "spaces",
            ),
            (r#"{"a b":{"key":"hush","channels":[]}}"#, "name"),
            (r#"{"hush":"a"}"#, "entry 0"),
            (r#"{"PUBLISH_KEY":{"key":"hush","channels":[]}}"#, "name"),
            (
                r#"{"a":{"key":"hush","channels":[]},"b":{"key":"hush","channels":[]}}"#,
                "have the same key",
            ),
        ] {
            let message = refused(&[CHANNELS, ("PUBLISH_KEYS", json)]);
            assert!(
                message.starts_with("PUBLISH_KEYS") && message.contains(named),
                "{message}"
            );
            assert!(!message.contains("hush"), "{message}");
        }
        let twice = refused(&[CHANNELS, ("PUBLISH_KEY", "b1"), KEYS]);
        assert!(twice.contains("same key"), "{twice}");
        let rotating = [("PUBLISH_KEY", "x"), ("PUBLISH_KEY_PREVIOUS", "x")];
        assert!(read(&[CHANNELS, rotating[0], rotating[1], KEYS]).is_ok());
        let same = r#"{"a":{"key":"k","previous":"k","channels":[]}}"#;
        assert!(read(&[CHANNELS, ("PUBLISH_KEYS", same)]).is_ok());
        let known = r#"{"a":{"key":"dev-publish-key","channels":[]}}"#;
        let known = [CHANNELS, ("PUBLISH_KEYS", known)];
        assert!(refused(&known).contains("development secret"));
        assert!(read(&[known[0], known[1], ("DEV", "true")]).is_ok());
        let shared = refused(&[CHANNELS, ("JWT_SECRET", "b0"), KEYS]);
        assert!(shared.starts_with("PUBLISH_KEY:"), "{shared}");
        let lonely = refused(&[CHANNELS, ("PUBLISH_KEY_PREVIOUS", "x")]);
        assert!(lonely.starts_with("PUBLISH_KEY:"), "{lonely}");
    }
}
