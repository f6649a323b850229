//! Channel rules: who may read and write a channel, and who sees its rows.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::audience::Audience;
use crate::limits;
use crate::names::{Channel, Identity, Topic};
use crate::protocol::{Code, Fields, Problem, from_object, text_of};
use crate::session::{Asker, ChannelPass};
use crate::small_map::SmallMap;
use crate::source::{Authorize, Home, Source};

/// Who may do something with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everyone, also without a token.
    Anyone,
    /// A verified identity.
    User,
    /// A connection that holds a topic equal to the channel's name.
    Topic,
    /// A connection that subscribed with a token of the channel, made by the app's backend.
    Token,
    /// Nobody from outside; publishers only.
    None,
}

/// Whose eyes a new row is for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scope {
    /// Everyone who may read the channel.
    #[default]
    All,
    /// Those whom a field of the row names.
    Field(FieldScope),
}

/// A field whose value, a text or a list of texts, is the row's audience.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FieldScope {
    /// The field's name.
    pub field: String,
    /// The prefix that makes a topic of a text: `user:` unless given.
    #[serde(rename = "as", default = "user_prefix")]
    pub prefix: String,
    /// Whether a client may write a row out of its own sight, e.g. give it to somebody else.
    #[serde(default)]
    pub leave: bool,
}

fn user_prefix() -> String {
    "user:".to_owned()
}

/// What a channel keeps for those who are away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// The latest state of every row.
    #[default]
    Latest,
    /// Every change, in order: an event channel (chat, feed).
    Every,
}

/// For how long an event channel keeps its events; the stricter bound wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retain {
    /// The newest so many.
    pub count: Option<u32>,
    /// Those of the last so many days.
    pub days: Option<u32>,
}

impl Retain {
    /// The age at which an event is trimmed.
    #[must_use]
    pub fn age_ms(&self) -> Option<u64> {
        self.days.map(|days| u64::from(days) * limits::DAY_MS)
    }
}

/// What one entry of `SYNC_CHANNELS` says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rule {
    /// Who may subscribe.
    pub read: Access,
    /// Who may mutate.
    pub write: Access,
    /// Whose eyes a new row is for.
    #[serde(deserialize_with = "scope")]
    pub scope: Scope,
    /// Whether the latest state or every change is kept.
    pub keep: Keep,
    /// Bounds of an event channel.
    #[serde(deserialize_with = "retain")]
    pub retain: Retain,
    /// Whether events may be edited and deleted, as events themselves.
    pub edits: bool,
    /// The field whose value orders writes: an older one is refused with the current row.
    pub timestamp: Option<String>,
    /// Whether subscribers may show their presence.
    pub presence: bool,
    /// Whether subscribers may send signals.
    pub signals: bool,
    /// Where the rows live, if not in the object.
    pub source: Option<Source>,
}

impl Default for Rule {
    /// Closed unless opened: authenticated reads, no writes.
    fn default() -> Self {
        Self {
            read: Access::User,
            write: Access::None,
            scope: Scope::All,
            keep: Keep::Latest,
            retain: Retain::default(),
            edits: false,
            timestamp: None,
            presence: false,
            signals: false,
            source: None,
        }
    }
}

fn scope<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Scope, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    if text_of(raw).is_some_and(|word| word == "all") {
        return Ok(Scope::All);
    }
    from_object(raw.get()).map(Scope::Field).map_err(|error| {
        let what = r#"scope must be "all" or {"field": …, "as": …, "leave": …}"#;
        D::Error::custom(format!("{what}: {error}"))
    })
}

fn retain<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Retain, D::Error> {
    let raw = <&RawValue>::deserialize(deserializer)?;
    from_object(raw.get()).map_err(|error| D::Error::custom(format!("retain: {error}")))
}

impl Access {
    /// `opens` says whether a pass is good for what is asked.
    fn allows(self, channel: &Channel, who: &Asker<'_>, opens: fn(ChannelPass) -> bool) -> bool {
        match self {
            Self::Anyone => true,
            Self::User => who.identity.is_some(),
            Self::Topic => who.topics.holds(channel.as_str()),
            Self::Token => who.pass.is_some_and(opens),
            Self::None => false,
        }
    }
}

/// The answer to somebody who may not: whether signing in could help is all it tells.
fn refusal(identity: Option<&Identity>) -> Problem {
    match identity {
        None => Problem::new(Code::Unauthorized, "this channel needs a token"),
        Some(_) => Problem::new(Code::Forbidden, "not allowed on this channel"),
    }
}

impl Rule {
    /// Whether somebody may subscribe, or otherwise see what the channel holds.
    ///
    /// # Errors
    /// `unauthorized` without an identity, `forbidden` with one.
    pub fn may_read(&self, channel: &Channel, who: &Asker<'_>) -> Result<(), Problem> {
        let allowed = self.read.allows(channel, who, |_| true);
        allowed.then_some(()).ok_or_else(|| refusal(who.identity))
    }

    /// Whether somebody may mutate.
    ///
    /// # Errors
    /// `read_only` where no client may, else as [`Self::may_read`].
    pub fn may_write(&self, channel: &Channel, who: &Asker<'_>) -> Result<(), Problem> {
        if self.write == Access::None {
            return Err(Problem::new(
                Code::ReadOnly,
                "clients may not write to this channel",
            ));
        }
        let allowed = self.write.allows(channel, who, |pass| pass.write);
        allowed.then_some(()).ok_or_else(|| refusal(who.identity))
    }

    /// What the channel's source is asked to authorize, if it has one.
    #[must_use]
    pub fn asks(&self) -> Option<Authorize> {
        self.source.as_ref().map(|source| source.authorize)
    }

    /// Whether a token of the channel opens anything here.
    #[must_use]
    pub fn takes_pass(&self) -> bool {
        self.read == Access::Token || self.write == Access::Token
    }

    /// The audience that a row, given as JSON, has by its own fields; `None` where the scoping
    /// field is missing.
    ///
    /// # Errors
    /// `invalid` with the field's name when its value is no text and no list of 1–64 texts, with
    /// `data` when the row is no object without doubled fields.
    pub fn audience(&self, row: &str) -> Result<Option<Audience>, Problem> {
        let fields = Fields::parse(row)
            .map_err(|_| Problem::invalid("data", "must be an object without doubled fields"))?;
        self.audience_of(&fields)
    }

    /// As [`Self::audience`], of fields that have been read.
    pub(crate) fn audience_of(&self, row: &Fields<'_>) -> Result<Option<Audience>, Problem> {
        let Scope::Field(scope) = &self.scope else {
            return Ok(Some(Audience::All));
        };
        let Some(value) = row.get(&scope.field) else {
            return Ok(None);
        };
        scope.audience(value).map(Some).ok_or_else(|| {
            Problem::invalid(&scope.field, "must be a text or a list of 1 to 64 texts")
        })
    }
}

impl FieldScope {
    fn audience(&self, value: &RawValue) -> Option<Audience> {
        let texts: Vec<String> = match text_of(value) {
            Some(text) => vec![text.into_owned()],
            None => serde_json::from_str(value.get()).ok()?,
        };
        let topic = |text: &String| {
            (!text.is_empty()).then(|| Topic::parse(&format!("{}{text}", self.prefix)).ok())?
        };
        Audience::of(texts.iter().map(topic).collect::<Option<Vec<_>>>()?)
    }
}

/// What `SYNC_CHANNELS` says, looked up by a channel's name.
#[derive(Debug, Clone, Default)]
pub struct Rules {
    exact: SmallMap<String, Rule>,
    /// Longest prefix first.
    prefixes: Vec<(String, Rule)>,
}

impl Rules {
    /// Reads `SYNC_CHANNELS`, a JSON object from name or `prefix*` to rule.
    ///
    /// # Errors
    /// A text that names the entry and what is wrong with it.
    pub fn parse(json: &str) -> Result<Self, String> {
        let fields = Fields::parse(json).map_err(|e| format!("must be a JSON object: {e}"))?;
        let mut rules = Self::default();
        for (name, value) in fields.iter() {
            let rule = Self::entry(name, value).map_err(|what| format!("{name:?}: {what}"))?;
            match name.strip_suffix('*') {
                Some(prefix) => rules.prefixes.push((prefix.to_owned(), rule)),
                None => _ = rules.exact.insert(name.to_owned(), rule),
            }
        }
        rules
            .prefixes
            .sort_unstable_by_key(|(prefix, _)| std::cmp::Reverse(prefix.len()));
        Ok(rules)
    }

    fn entry(name: &str, value: &RawValue) -> Result<Rule, String> {
        let stem = name.strip_suffix('*').unwrap_or(name);
        if stem.contains('*') {
            return Err("a pattern has one `*`, at its end".to_owned());
        }
        if name != "*" {
            Channel::parse(stem).map_err(|e| format!("the name {e}"))?;
        }
        let rule: Rule = from_object(value.get()).map_err(|e| e.to_string())?;
        if let Scope::Field(scope) = &rule.scope
            && scope.field.is_empty()
        {
            return Err("scope.field must not be empty".to_owned());
        }
        if rule.keep == Keep::Latest && (rule.edits || rule.retain != Retain::default()) {
            return Err("edits and retain need keep: \"every\"".to_owned());
        }
        if rule.keep == Keep::Every && rule.timestamp.is_some() {
            return Err("timestamp does not go with keep: \"every\"".to_owned());
        }
        if rule.source.is_some() && (rule.keep == Keep::Every || rule.timestamp.is_some()) {
            return Err("source does not go with keep: \"every\", nor with timestamp".to_owned());
        }
        if let Some(Home::D1(table)) = rule.source.as_ref().map(|source| &source.home) {
            if stem != name && table.channel.is_none() {
                let what = "source.channel must name a column, or a pattern's channels would have \
                    the same rows";
                return Err(what.to_owned());
            }
            if let Scope::Field(scope) = &rule.scope
                && !table.can_scope(&scope.field)
            {
                return Err("scope.field must be a text or json among source.columns".to_owned());
            }
        }
        if rule.retain.count == Some(0) || rule.retain.days == Some(0) {
            return Err("retain must be at least 1".to_owned());
        }
        Ok(rule)
    }

    /// All entries, by name or pattern: exact names first.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (String, &Rule)> {
        let exact = self.exact.iter().map(|(name, rule)| (name.clone(), rule));
        let prefixes = self.prefixes.iter();
        exact.chain(prefixes.map(|(prefix, rule)| (format!("{prefix}*"), rule)))
    }

    /// Who keeps the rows of some channel, beside the object itself.
    fn homes(&self) -> impl Iterator<Item = &Home> {
        let rules = self.entries().filter_map(|(_, rule)| rule.source.as_ref());
        rules.map(|source| &source.home)
    }

    /// Whether some channel's source is told who asks.
    pub(crate) fn tell_who(&self) -> bool {
        self.homes().any(Home::is_told_who)
    }

    /// Whether some channel's rows are the app's, which is asked over HTTP.
    pub(crate) fn have_hooks(&self) -> bool {
        self.homes().any(|home| matches!(home, Home::Hooks(_)))
    }

    /// The name or pattern of a channel's rule.
    pub(crate) fn pattern_of(&self, channel: &Channel) -> Option<String> {
        let name = channel.as_str();
        if self.exact.contains_key(name) {
            return Some(name.to_owned());
        }
        let mut prefixes = self.prefixes.iter();
        let found = prefixes.find(|(prefix, _)| name.starts_with(prefix));
        found.map(|(prefix, _)| format!("{prefix}*"))
    }

    /// The rule of a channel: an exact name wins over the longest matching prefix.
    ///
    /// # Errors
    /// `unknown_channel` when nothing matches: unknown channels are refused.
    pub fn find(&self, channel: &Channel) -> Result<&Rule, Problem> {
        let name = channel.as_str();
        let by_prefix = || {
            self.prefixes
                .iter()
                .find(|(prefix, _)| name.starts_with(prefix))
        };
        self.exact
            .get(name)
            .or_else(|| by_prefix().map(|(_, rule)| rule))
            .ok_or_else(|| Problem::new(Code::UnknownChannel, "no rule matches this channel"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::Topics;

    fn channel(name: &str) -> Channel {
        Channel::parse(name).unwrap()
    }

    fn audience(rule: &str, row: &str) -> Result<Option<Audience>, Problem> {
        let rules = Rules::parse(&format!(r#"{{"c":{rule}}}"#)).unwrap();
        rules.find(&channel("c")).unwrap().audience(row)
    }

    #[test]
    fn exact_names_win_over_the_longest_prefix() {
        let rules = Rules::parse(
            r#"{"a*":{"read":"anyone"},"a:b*":{"read":"topic"},"a:b:c":{"read":"none"}}"#,
        )
        .unwrap();
        let read = |name: &str| rules.find(&channel(name)).map(|rule| rule.read);
        assert_eq!(read("a:b:c"), Ok(Access::None));
        assert_eq!(read("a:b:d"), Ok(Access::Topic));
        assert_eq!(read("a:x"), Ok(Access::Anyone));
        assert_eq!(read("b").unwrap_err().code, Code::UnknownChannel);
    }

    #[test]
    fn an_empty_rule_is_closed() {
        let rules = Rules::parse(r#"{"c":{}}"#).unwrap();
        let rule = rules.find(&channel("c")).unwrap();
        assert_eq!(*rule, Rule::default());
        let nobody = Asker {
            identity: None,
            topics: &Topics::default(),
            pass: None,
        };
        let read = rule.may_read(&channel("c"), &nobody).unwrap_err();
        assert_eq!(read.code, Code::Unauthorized);
        let write = rule.may_write(&channel("c"), &nobody).unwrap_err();
        assert_eq!(write.code, Code::ReadOnly);
    }

    #[test]
    fn mistakes_are_named_and_open_nothing() {
        for (json, named) in [
            ("[]", "object"),
            ("{", "object"),
            (r#"{"a":{"raed":"anyone"}}"#, "raed"),
            (r#"{"a":{"read":"everyone"}}"#, "everyone"),
            (r#"{"a":{"scope":"some"}}"#, "scope"),
            (r#"{"a":{"scope":{"feld":"x"}}}"#, "scope"),
            (r#"{"a":{"scope":{"field":""}}}"#, "scope.field"),
            (r#"{"a":{"presence":"yes"}}"#, "\"a\""),
            (r#"{"a*b":{}}"#, "`*`"),
            (r#"{"":{}}"#, "empty"),
            (r#"{"a":{"edits":true}}"#, "edits"),
            (r#"{"a":{"retain":{"count":1}}}"#, "retain"),
            (r#"{"a":{"keep":"every","retain":{"count":0}}}"#, "retain"),
            (r#"{"a":{"keep":"every","timestamp":"t"}}"#, "timestamp"),
            (
                r#"{"a":{"scope":{"field":"o"},"source":{"d1":"DB","table":"t","key":"id",
                    "updatedAt":"u","columns":["o:number"]}}}"#,
                "scope.field",
            ),
            (r#"{"a":{},"a":{}}"#, "twice"),
            // Serde alone would take fields by their places.
            (r#"{"a":["anyone"]}"#, "object"),
            (r#"{"a":{"scope":["o"]}}"#, "scope"),
            (r#"{"a":{"keep":"every","retain":[1,1]}}"#, "retain"),
        ] {
            let error = Rules::parse(json).unwrap_err();
            assert!(error.contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn the_channels_of_a_pattern_do_not_have_the_same_rows_in_d1() {
        let parse = |name: &str, more: &str| {
            let source = r#""d1":"DB","table":"t","key":"id","updatedAt":"u","columns":["o"]"#;
            Rules::parse(&format!(r#"{{"{name}":{{"source":{{{source}{more}}}}}}}"#))
        };
        for name in ["todos:*", "t*", "*"] {
            for more in ["", r#","space":"s""#] {
                let error = parse(name, more).unwrap_err();
                assert!(
                    error.contains(name) && error.contains("source.channel"),
                    "{error}"
                );
            }
            assert!(parse(name, r#","channel":"c""#).is_ok());
        }
        assert!(parse("todos", "").is_ok() && parse("todos", r#","channel":"c""#).is_ok());
        let hooks = r#"{"todos:*":{"source":{"service":"APP"}}}"#;
        assert!(Rules::parse(hooks).is_ok());
    }

    #[test]
    fn a_field_gives_the_audience_with_its_prefix() {
        let of = |topics: &[&str]| Audience::of(topics.iter().map(|t| Topic::parse(t).unwrap()));
        let owner = r#"{"scope":{"field":"o"}}"#;
        assert_eq!(audience(owner, r#"{"o":"alice"}"#), Ok(of(&["user:alice"])));
        assert_eq!(
            audience(owner, r#"{"o":["a","b"]}"#),
            Ok(of(&["user:a", "user:b"]))
        );
        assert_eq!(audience(owner, r#"{"x":1}"#), Ok(None));
        let team = r#"{"scope":{"field":"o","as":"team:"}}"#;
        assert_eq!(audience(team, r#"{"o":"7"}"#), Ok(of(&["team:7"])));
        for bad in ["1", "null", "[]", "[1]", "\"\"", "{}", "[\"\"]"] {
            let row = format!(r#"{{"o":{bad}}}"#);
            assert_eq!(
                audience(owner, &row).unwrap_err().field.as_deref(),
                Some("o"),
                "{bad}"
            );
        }
        let bare = r#"{"scope":{"field":"o","as":""}}"#;
        assert!(audience(bare, r#"{"o":"all"}"#).is_err());
    }
}
