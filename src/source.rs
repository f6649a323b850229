//! Channels whose rows live elsewhere: what their source is asked, and what it answers.
//!
//! The engine keeps the log of changes and serves whoever comes back from it. It asks a source for
//! what the log does not hold, and has it write: a question is an effect, the answer a later input.

pub mod d1;
mod handler;
mod hooks;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::audience::Audience;
use crate::limits;
use crate::names::{Channel, Key, Millis, RequestId, SessionId};
use crate::protocol::{Action, Code, Fields, Problem, text_of};
use crate::session::{Asker, ChannelPass, Grant};

pub use d1::Table;
pub use handler::{Rows, Scoped, Stored};
pub use hooks::{HookCall, Reading, Signer, Target, read_answer};

/// What `source` of a channel's rule says: where its rows live.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Who keeps the rows.
    pub home: Home,
    /// What the source is asked to authorize, beside what the rule says.
    pub authorize: Authorize,
    /// How long it may take to answer.
    pub timeout_ms: u64,
}

/// Who keeps the rows of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Home {
    /// A table in D1.
    D1(Table),
    /// The app, asked over HTTP.
    Hooks(Target),
    /// A handler in Rust, by the name that the sync Worker gave it.
    Handler(String),
}

impl Home {
    /// Whether it is told who asks: claims, and what the upgrade brought along.
    #[must_use]
    pub fn is_told_who(&self) -> bool {
        match self {
            Self::D1(_) => false,
            Self::Hooks(_) | Self::Handler(_) => true,
        }
    }
}

/// Which operations a source is asked to authorize.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Authorize {
    /// Subscribing.
    pub subscribe: bool,
    /// Mutations.
    pub mutate: bool,
    /// Joining, updating and watching presence.
    pub presence: bool,
    /// Signals.
    pub signal: bool,
}

impl Authorize {
    const ALL: Self = Self {
        subscribe: true,
        mutate: true,
        presence: true,
        signal: true,
    };

    fn read(raw: &RawValue) -> Result<Self, String> {
        const WHAT: &str = "authorize must be true, false, or a list of subscribe, mutate, \
            presence, signal";
        let words: Vec<String> = match raw.get() {
            "true" => return Ok(Self::ALL),
            "false" => return Ok(Self::default()),
            list => serde_json::from_str(list).map_err(|_| WHAT)?,
        };
        let mut asked = Self::default();
        for word in words {
            *match word.as_str() {
                "subscribe" => &mut asked.subscribe,
                "mutate" => &mut asked.mutate,
                "presence" => &mut asked.presence,
                "signal" => &mut asked.signal,
                _ => return Err(WHAT.to_owned()),
            } = true;
        }
        Ok(asked)
    }
}

/// The fields of `source`, taken one by one: what is left over is a mistake.
pub(crate) struct Settings<'a> {
    fields: Vec<(String, &'a RawValue)>,
}

impl<'a> Settings<'a> {
    fn parse(json: &'a str) -> Result<Self, String> {
        let fields = Fields::parse(json).map_err(|error| format!("must be an object: {error}"))?;
        let fields = fields.iter();
        Ok(Self {
            fields: fields.map(|(name, raw)| (name.to_owned(), raw)).collect(),
        })
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let place = self.fields.iter().position(|(field, _)| field == name)?;
        Some(self.fields.swap_remove(place).1)
    }

    /// A text that is not empty.
    pub(crate) fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(raw) = self.take(name) else {
            return Ok(None);
        };
        let text = text_of(raw).filter(|text| !text.is_empty());
        let text = text.ok_or_else(|| format!("{name} must be a text"))?;
        Ok(Some(text.into_owned()))
    }
}

impl Source {
    fn parse(json: &str) -> Result<Self, String> {
        const HOMES: &str = "needs one of d1, service, url, handler";
        let mut settings = Settings::parse(json)?;
        let homes = [
            settings.text("d1")?.map(HomeKind::D1),
            settings.text("service")?.map(HomeKind::Service),
            settings.text("url")?.map(HomeKind::Url),
            settings.text("handler")?.map(HomeKind::Handler),
        ];
        let mut homes = homes.into_iter().flatten();
        let (Some(home), None) = (homes.next(), homes.next()) else {
            return Err(HOMES.to_owned());
        };
        let authorize = settings
            .take("authorize")
            .map(Authorize::read)
            .transpose()?;
        let timeout = settings.take("timeout").map(seconds).transpose()?;
        let (home, asked) = match home {
            HomeKind::D1(binding) if authorize.is_none() => (
                Home::D1(Table::read(binding, &mut settings)?),
                Authorize::default(),
            ),
            HomeKind::D1(_) => return Err("authorize does not go with d1".to_owned()),
            HomeKind::Service(binding) => (Home::Hooks(Target::service(binding)), Authorize::ALL),
            HomeKind::Url(url) => (Home::Hooks(Target::url(&url)?), Authorize::ALL),
            HomeKind::Handler(name) => (Home::Handler(name), Authorize::ALL),
        };
        if let Some((unknown, _)) = settings.fields.first() {
            return Err(format!("{unknown:?} is no setting of such a source"));
        }
        Ok(Self {
            home,
            authorize: authorize.unwrap_or(asked),
            timeout_ms: timeout.unwrap_or(limits::SOURCE_TIMEOUT_MS),
        })
    }
}

enum HomeKind {
    D1(String),
    Service(String),
    Url(String),
    Handler(String),
}

/// A timeout, in milliseconds.
fn seconds(raw: &RawValue) -> Result<u64, String> {
    let seconds = serde_json::from_str::<u64>(raw.get()).ok();
    let bounded = seconds.filter(|seconds| (1..=limits::SOURCE_TIMEOUT_SECONDS).contains(seconds));
    let most = limits::SOURCE_TIMEOUT_SECONDS;
    bounded
        .map(|seconds| seconds * 1000)
        .ok_or_else(|| format!("timeout must be 1 to {most} seconds"))
}

impl<'de> Deserialize<'de> for Source {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::parse(raw.get()).map_err(|what| D::Error::custom(format!("source {what}")))
    }
}

/// The number of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct AskId(pub u64);

/// What a channel's source is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Its number, which comes with the answer.
    pub id: AskId,
    /// The channel.
    pub channel: Channel,
    /// The session that asks.
    pub session: SessionId,
    /// What it was granted.
    pub grant: Grant,
    /// What a token of the channel opened.
    pub pass: Option<ChannelPass>,
    /// What is asked.
    pub what: Ask,
}

impl Question {
    /// The session as somebody who asks for something of the channel.
    #[must_use]
    pub fn asker(&self) -> Asker<'_> {
        Asker {
            identity: self.grant.identity.as_ref(),
            topics: &self.grant.topics,
            pass: self.pass,
        }
    }
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// Whether the session may do something.
    Authorize(Operation),
    /// A page of rows.
    Fetch(Fetch),
    /// To write a row.
    Write(Write),
}

/// What a session wants to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Operation {
    /// What it is.
    pub kind: Kind,
    /// The row, of a mutation.
    pub key: Option<Key>,
    /// The row or the fields of a mutation, the state of presence, the data of a signal, as JSON.
    pub data: Option<String>,
}

/// What a session may want to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Subscribe, or read over HTTP.
    Subscribe,
    /// Create a row.
    Create,
    /// Update a row.
    Update,
    /// Delete a row.
    Delete,
    /// Join, update or watch presence.
    Presence,
    /// Send a signal.
    Signal,
}

impl Kind {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Subscribe => "subscribe",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Presence => "presence",
            Self::Signal => "signal",
        }
    }
}

impl Operation {
    /// To subscribe.
    #[must_use]
    pub fn subscribe() -> Self {
        Self {
            kind: Kind::Subscribe,
            key: None,
            data: None,
        }
    }
}

impl Write {
    /// The write as an operation that may need leave.
    #[must_use]
    pub fn operation(&self) -> Operation {
        Operation {
            kind: self.action.into(),
            key: Some(self.key.clone()),
            data: self.data.clone(),
        }
    }
}

impl From<Action> for Kind {
    fn from(action: Action) -> Self {
        match action {
            Action::Create => Self::Create,
            Action::Update => Self::Update,
            Action::Delete => Self::Delete,
        }
    }
}

/// A page of rows is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// Only what was changed at this time or later; everything if there is none.
    pub since: Option<Millis>,
    /// Where the page before ended, in the source's own words.
    pub token: Option<String>,
    /// Rows and deleted keys at most.
    pub limit: usize,
    /// Whether the source is to authorize the subscription first.
    pub authorize: bool,
}

/// A row is to be written. The shape is checked, the rule has let the writer through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The mutation's id: the same for every repeat.
    pub id: RequestId,
    /// Whose id it is: ids of different owners never meet.
    pub owner: String,
    /// The digest of the mutation's content: a repeat has the same.
    pub hash: String,
    /// What to do.
    pub action: Action,
    /// The row's key.
    pub key: Key,
    /// The row of a create with its `id`, the fields of an update, nothing for a delete; as JSON.
    pub data: Option<String>,
    /// Whether the source is to authorize the mutation first.
    pub authorize: bool,
}

/// What a source answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The session may.
    Allowed,
    /// A page.
    Page(Page),
    /// It is written.
    Written(Written),
}

/// A page of rows, as the session may see them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The rows, each with its key.
    pub rows: Vec<(Key, String)>,
    /// Keys that are gone since the time asked for.
    pub deleted: Vec<Key>,
    /// Where the next page begins, in the source's own words; nothing after the last.
    pub next: Option<String>,
    /// Whether these are all rows, whatever time was asked for: the client replaces what it has.
    pub full: bool,
}

/// A row that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The full row as it is now; of a delete the row as it was, or nothing.
    pub row: Option<String>,
    /// Who may see it now; of a deleted one, who could.
    pub scope: Scope,
    /// Who could see it before, where the source knows.
    pub before: Option<Audience>,
    /// Whether the source had executed the mutation before.
    pub repeated: bool,
}

/// Who may see a row that a source has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Whoever the channel's rule says.
    ByRule,
    /// The source says who.
    Of(Audience),
    /// The source could not say: nobody is told.
    Unknown,
}

/// Why a source did not answer as asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// What the asker is told.
    pub problem: Problem,
    /// Whether a write may have been executed all the same.
    pub may_be_done: bool,
}

impl From<Problem> for Failed {
    /// A clear refusal: nothing was done.
    fn from(problem: Problem) -> Self {
        Self {
            problem,
            may_be_done: false,
        }
    }
}

/// What an asker is told of a source whose settings are wrong. What is wrong with them is for the log
/// alone: it names bindings, tables and columns.
pub(crate) fn not_set_up() -> Problem {
    Problem::new(
        Code::Internal,
        "SYNC_CHANNELS: the channel's source is not set up; the log of the sync Worker says how",
    )
}

/// What an asker is told whose source does not answer in time.
pub(crate) fn unanswered() -> Problem {
    Problem {
        retry_after_ms: Some(limits::SOURCE_RETRY_MS),
        ..Problem::new(
            Code::Unavailable,
            "the channel's source did not answer in time",
        )
    }
}

/// What comes of a question.
pub type Answered = Result<Answer, Failed>;

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(json: &str) -> String {
        Source::parse(json).unwrap_err()
    }

    #[test]
    fn a_source_has_one_home_and_no_unknown_setting() {
        for json in ["{}", r#"{"service":"A","url":"https://a"}"#, r#"{"d1":""}"#] {
            let error = refused(json);
            assert!(error.contains("d1"), "{json}: {error}");
        }
        let error = refused(r#"{"handler":"h","table":"t"}"#);
        assert!(error.contains("\"table\""), "{error}");
        assert!(refused("[]").contains("object"));
    }

    #[test]
    fn everything_is_authorized_unless_said_otherwise() {
        let read = |rest: &str| {
            let json = format!(r#"{{"handler":"h"{rest}}}"#);
            Source::parse(&json).map(|source| source.authorize)
        };
        assert_eq!(read(""), Ok(Authorize::ALL));
        assert_eq!(read(r#","authorize":true"#), Ok(Authorize::ALL));
        assert_eq!(read(r#","authorize":false"#), Ok(Authorize::default()));
        let some = Authorize {
            mutate: true,
            signal: true,
            ..Authorize::default()
        };
        assert_eq!(read(r#","authorize":["mutate","signal"]"#), Ok(some));
        for bad in ["1", "null", r#""mutate""#, r#"["create"]"#] {
            let error = read(&format!(r#","authorize":{bad}"#)).unwrap_err();
            assert!(error.starts_with("authorize"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_timeout_is_bounded() {
        let read = |seconds: &str| {
            let json = format!(r#"{{"handler":"h","timeout":{seconds}}}"#);
            Source::parse(&json).map(|source| source.timeout_ms)
        };
        assert_eq!(read("1"), Ok(1_000));
        let most = limits::SOURCE_TIMEOUT_SECONDS;
        assert_eq!(read(&most.to_string()), Ok(most * 1000));
        for bad in ["0", "1.5", "-1", "\"5\"", &(most + 1).to_string()] {
            assert!(read(bad).unwrap_err().starts_with("timeout"), "{bad}");
        }
        let stock = Source::parse(r#"{"handler":"h"}"#).unwrap();
        assert_eq!(stock.timeout_ms, limits::SOURCE_TIMEOUT_MS);
    }
}
