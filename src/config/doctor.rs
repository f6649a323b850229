//! The doctor: reads settings as a deployment would and says what is wrong or risky, and the way
//! out. It knows what `Config::read` takes; what that refuses is wrong, what else it finds is not.

use super::{Config, DEV_SECRETS, Settings};
use crate::auth::Secret;
use crate::channel::{Access, Keep, Retain, Rule, Scope};
use crate::names::Space;
use crate::protocol::JsonWriter;
use crate::source::{Home, Target};

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does not work, or protects nothing.
    Wrong,
    /// It works, and may open, cost or lose more than meant.
    Risky,
    /// Worth knowing.
    Hint,
}

impl Severity {
    /// The worst first.
    const ALL: [Self; 3] = [Self::Wrong, Self::Risky, Self::Hint];

    /// In lower case.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wrong => "wrong",
            Self::Risky => "risky",
            Self::Hint => "hint",
        }
    }
}

/// Something that the doctor found. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// The setting, e.g. `SYNC_CHANNELS todos`.
    pub setting: String,
    /// What it is, goes on after the setting's name.
    pub what: String,
    /// What to do.
    pub way_out: String,
}

impl Finding {
    /// Makes one.
    pub fn new(
        severity: Severity,
        setting: impl Into<String>,
        what: impl Into<String>,
        way_out: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            setting: setting.into(),
            what: what.into(),
            way_out: way_out.into(),
        }
    }

    pub(crate) fn write(&self, out: &mut JsonWriter) {
        out.object(|o| {
            o.text("severity", self.severity.as_str());
            o.text("setting", &self.setting);
            o.text("what", &self.what);
            o.text("wayOut", &self.way_out);
        });
    }
}

/// Examines the settings of a sync Worker, the worst findings first. `get` gives a setting's text;
/// `own` says that a team's own authenticator tells who somebody is.
#[must_use]
pub fn examine(get: &dyn Fn(&str) -> Option<String>, own: bool) -> Vec<Finding> {
    let settings = Settings { dev: false, get };
    let mut found = Vec::new();
    let mut read = Config::read(get);
    if let Err(error) = read {
        // The file of a Worker holds no secret. What it says of its channels can be judged all the same.
        let stand_in: &dyn Fn(&str) -> Option<String> = &|name| match name {
            "HOOK_SECRET" => Some("a stand-in".to_owned()),
            "HOOK_SECRET_PREVIOUS" => None,
            name => get(name),
        };
        read = match error.setting {
            "HOOK_SECRET" => Config::read(stand_in),
            _ => Err(error.clone()),
        };
        found.push(Finding::new(
            Severity::Wrong,
            error.setting,
            error.what,
            "mend it: until then every request is refused; docs/configuration.md has all settings",
        ));
    }
    if let Ok(config) = read {
        for (name, rule) in config.rules.entries() {
            found.extend(of_rule(&name, rule));
            found.extend(of_hooks(&name, rule, &settings));
            found.extend(of_d1(&name, rule, &settings));
        }
    }
    of_secrets(&settings, own, &mut found);
    of_versions(&settings, &mut found);
    if settings.list("SYNC_SPACES").iter().any(|name| name == "*") {
        found.push(Finding::new(
            Severity::Risky,
            "SYNC_SPACES",
            "opens every space to whoever connects",
            "name spaces or a prefix, or let tokens carry a `space` claim",
        ));
    }
    let mut worst_first = Vec::with_capacity(found.len());
    for severity in Severity::ALL {
        worst_first.extend(found.extract_if(.., |finding| finding.severity == severity));
    }
    worst_first
}

fn of_rule(name: &str, rule: &Rule) -> Vec<Finding> {
    let setting = format!("SYNC_CHANNELS {name}");
    let risky = |what: &str, way_out: &str| Finding::new(Severity::Risky, &setting, what, way_out);
    let mut found = Vec::new();
    if rule.write == Access::Anyone {
        found.push(risky(
            "lets everyone write, without a token",
            "say \"write\": \"user\", or \"none\" where only your backend publishes",
        ));
    }
    if name == "*" && (rule.read != Access::None || rule.write != Access::None) {
        found.push(risky(
            "makes a channel of every name",
            "declare the channels that there are, or a prefix of theirs",
        ));
    }
    if rule.read == Access::Anyone && rule.scope != Scope::All {
        found.push(Finding::new(
            Severity::Hint,
            &setting,
            "may be read by everyone, but scoped rows are seen by their owners only",
            "say \"read\": \"user\" if no row of it is for everyone",
        ));
    }
    if rule.keep == Keep::Every && rule.retain == Retain::default() {
        found.push(risky(
            "keeps every event for ever",
            "bound it, e.g. \"retain\": {\"count\": 1000, \"days\": 30}",
        ));
    }
    found
}

/// Where the app is asked for a channel's rows.
fn of_hooks(name: &str, rule: &Rule, settings: &Settings<'_>) -> Option<Finding> {
    let Some(Home::Hooks(target)) = rule.source.as_ref().map(|source| &source.home) else {
        return None;
    };
    let (severity, what, way_out) = match target {
        Target::Service(binding) if settings.is_bound(binding) => return None,
        Target::Service(binding) => (
            Severity::Wrong,
            format!("asks the service binding {binding}, and there is none"),
            "add it to `services` of wrangler.sync.jsonc",
        ),
        Target::Url(url) if url.starts_with("http://") => (
            Severity::Risky,
            "asks an URL of this machine, where a deployed Worker finds nothing".to_owned(),
            "take a service binding, or an https URL",
        ),
        Target::Url(_) => (
            Severity::Hint,
            "asks the app over the network".to_owned(),
            "take a service binding if the app is a Worker: it is faster, and a request less",
        ),
    };
    let setting = format!("SYNC_CHANNELS {name}");
    Some(Finding::new(severity, setting, what, way_out))
}

/// A table that cannot tell spaces apart is the default space's alone.
fn of_d1(name: &str, rule: &Rule, settings: &Settings<'_>) -> Option<Finding> {
    let Some(Home::D1(table)) = rule.source.as_ref().map(|source| &source.home) else {
        return None;
    };
    let default = Space::default_space();
    let spaces = settings.list("SYNC_SPACES");
    let others = spaces.iter().any(|space| space != default.as_str());
    (others && !table.serves_all()).then(|| {
        Finding::new(
            Severity::Risky,
            format!("SYNC_CHANNELS {name}"),
            format!("is answered by D1 in {default} alone, but SYNC_SPACES opens more spaces"),
            "name the column that says which space a row is of: \"space\" in its source",
        )
    })
}

/// Settings that hold a secret.
const SECRETS: [&str; 6] = [
    "JWT_SECRET",
    "JWT_SECRET_PREVIOUS",
    "PUBLISH_KEY",
    "PUBLISH_KEY_PREVIOUS",
    "HOOK_SECRET",
    "HOOK_SECRET_PREVIOUS",
];

/// What brute force cannot find out: 32 bytes for a signature of HS256 (RFC 7518), 16 for a key.
fn least_bytes(name: &str) -> usize {
    if name.starts_with("JWT_SECRET") {
        32
    } else {
        16
    }
}

fn of_secrets(settings: &Settings<'_>, own: bool, found: &mut Vec<Finding>) {
    let is_set = |name: &str| settings.text(name).is_some();
    if is_set("DEV") {
        found.push(Finding::new(
            Severity::Wrong,
            "DEV",
            "is set: published secrets pass",
            "remove it; `make dev` sets it by itself on your own machine",
        ));
    }
    let sources = ["JWT_SECRET", "JWKS_URL", "AUTH_SERVICE", "AUTH_URL"];
    if !own && !sources.into_iter().any(is_set) {
        found.push(Finding::new(
            Severity::Wrong,
            "JWT_SECRET",
            "is not set, and no other setting says who somebody is: nobody can connect",
            "`wrangler secret put JWT_SECRET -c wrangler.sync.jsonc`, or set JWKS_URL, \
             AUTH_SERVICE or AUTH_URL",
        ));
    }
    if !is_set("PUBLISH_KEY") && !is_set("PUBLISH_KEYS") {
        found.push(Finding::new(
            Severity::Risky,
            "PUBLISH_KEY",
            "is not set: nobody can publish, operate or export",
            "`wrangler secret put PUBLISH_KEY -c wrangler.sync.jsonc`",
        ));
    }
    for name in SECRETS {
        let Some(secret) = settings.text(name) else {
            continue;
        };
        if name.ends_with("_PREVIOUS") {
            found.push(Finding::new(
                Severity::Hint,
                name,
                "still opens what the secret before it opened",
                "remove it when nobody uses the old one any more",
            ));
        }
        let published = DEV_SECRETS.contains(&secret.as_str());
        // What `Config::read` says of the first, unless DEV=true has silenced it.
        let told =
            |finding: &Finding| finding.setting == name && finding.severity == Severity::Wrong;
        if published && !found.iter().any(told) {
            found.push(Finding::new(
                Severity::Wrong,
                name,
                "is the published development secret",
                format!("`wrangler secret put {name} -c wrangler.sync.jsonc` with one of your own"),
            ));
        }
        let least = least_bytes(name);
        let bytes = match name.starts_with("HOOK_SECRET") {
            true => Secret::of_webhooks(&secret).map_or(least, |secret| secret.bytes()),
            false => secret.len(),
        };
        if !published && bytes < least {
            found.push(Finding::new(
                Severity::Risky,
                name,
                format!("is shorter than {least} bytes: it can be guessed"),
                "take a random one, e.g. of `openssl rand -hex 32`",
            ));
        }
    }
    if is_set("JWKS_URL") && !is_set("JWT_AUDIENCE") {
        found.push(Finding::new(
            Severity::Risky,
            "JWT_AUDIENCE",
            "is not set: a token that the provider made for another app counts here",
            "set it to what your provider writes into `aud`",
        ));
    }
}

fn of_versions(settings: &Settings<'_>, found: &mut Vec<Finding>) {
    let is_set = |name: &str| settings.text(name).is_some();
    if is_set("SYNC_SCHEMA_MIN") && !is_set("SYNC_SCHEMA_VERSION") {
        found.push(Finding::new(
            Severity::Risky,
            "SYNC_SCHEMA_VERSION",
            "is not set, but SYNC_SCHEMA_MIN is: clients are turned away and not told what is new",
            "set it to the version that your app has now",
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const JWT: (&str, &str) = ("JWT_SECRET", "0123456789abcdef0123456789abcdef");
    const KEY: (&str, &str) = ("PUBLISH_KEY", "0123456789abcdef");
    const CHANNELS: (&str, &str) = ("SYNC_CHANNELS", "{}");

    fn examined(settings: &[(&str, &str)]) -> Vec<Finding> {
        let get = |name: &str| {
            let found = settings.iter().find(|(setting, _)| *setting == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        examine(&get, false)
    }

    /// The findings of sound settings with some in place of theirs, in short.
    #[track_caller]
    fn found(more: &[(&str, &str)]) -> Vec<String> {
        let mut settings = more.to_vec();
        settings.extend([JWT, KEY, CHANNELS]);
        let findings = examined(&settings);
        for finding in &findings {
            assert!(!finding.what.is_empty() && !finding.way_out.is_empty());
        }
        let short = |f: &Finding| format!("{} {}", f.severity.as_str(), f.setting);
        findings.iter().map(short).collect()
    }

    #[test]
    fn sound_settings_are_left_alone() {
        assert_eq!(found(&[]), [""; 0]);
        let channels = r#"{
            "todos": {"write": "user"}, "feed": {"read": "anyone"},
            "chat:*": {"keep": "every", "retain": {"days": 7}},
            "*": {"read": "none"}
        }"#;
        let sound = [
            ("SYNC_CHANNELS", channels),
            ("SYNC_SPACES", "team-*"),
            ("SYNC_SCHEMA_VERSION", "3"),
            ("SYNC_SCHEMA_MIN", "2"),
        ];
        assert_eq!(found(&sound), [""; 0]);
    }

    #[test]
    fn each_risk_of_a_rule_is_told_by_its_channel() {
        for (rule, channel, finding) in [
            (r#"{"a":{"write":"anyone"}}"#, "a", "risky"),
            (r#"{"*":{}}"#, "*", "risky"),
            (r#"{"a*":{"keep":"every"}}"#, "a*", "risky"),
            (
                r#"{"a":{"read":"anyone","scope":{"field":"o"}}}"#,
                "a",
                "hint",
            ),
        ] {
            let expected = format!("{finding} SYNC_CHANNELS {channel}");
            assert_eq!(found(&[("SYNC_CHANNELS", rule)]), [expected], "{rule}");
        }
    }

    #[test]
    fn each_risk_of_a_setting_is_told_by_its_name() {
        for (settings, finding) in [
            (&[("SYNC_CHANNELS", "[]")][..], "wrong SYNC_CHANNELS"),
            (&[("SYNC_SCHEMA_VERSION", "x")], "wrong SYNC_SCHEMA_VERSION"),
            (&[("JWT_SECRET", "")], "wrong JWT_SECRET"),
            (&[("PUBLISH_KEY", "")], "risky PUBLISH_KEY"),
            (&[("DEV", "true")], "wrong DEV"),
            (&[("DEV", "1")], "wrong DEV"),
            (&[("JWT_SECRET", DEV_SECRETS[0])], "wrong JWT_SECRET"),
            (&[("PUBLISH_KEY", DEV_SECRETS[1])], "wrong PUBLISH_KEY"),
            (&[("JWT_SECRET", &JWT.1[1..])], "risky JWT_SECRET"),
            (&[("PUBLISH_KEY", &KEY.1[1..])], "risky PUBLISH_KEY"),
            (&[("HOOK_SECRET", DEV_SECRETS[2])], "wrong HOOK_SECRET"),
            (&[("HOOK_SECRET", "fifteen bytes..")], "risky HOOK_SECRET"),
            (
                &[("HOOK_SECRET", "whsec_AAAAAAAAAAAAAAAAAAAA")],
                "risky HOOK_SECRET",
            ),
            (&[("HOOK_SECRET", "whsec_no base64")], "wrong HOOK_SECRET"),
            (&[("SYNC_SPACES", "a, *")], "risky SYNC_SPACES"),
            (&[("SYNC_SCHEMA_MIN", "2")], "risky SYNC_SCHEMA_VERSION"),
            (&[("JWKS_URL", "https://a.test/jwks")], "risky JWT_AUDIENCE"),
            (
                &[("PUBLISH_KEY_PREVIOUS", "fedcba9876543210")],
                "hint PUBLISH_KEY_PREVIOUS",
            ),
        ] {
            assert_eq!(found(settings), [finding], "{settings:?}");
        }
    }

    #[test]
    fn a_channel_with_hooks_is_judged_by_where_its_app_is() {
        let secret = ("HOOK_SECRET", "fedcba9876543210");
        for (home, finding) in [
            (r#""service":"APP""#, Some("wrong SYNC_CHANNELS a")),
            (r#""service":"BOUND""#, None),
            (
                r#""url":"http://localhost:1""#,
                Some("risky SYNC_CHANNELS a"),
            ),
            (r#""url":"https://a.test""#, Some("hint SYNC_CHANNELS a")),
        ] {
            let channels = format!(r#"{{"a":{{"source":{{{home}}}}}}}"#);
            let channels = ("SYNC_CHANNELS", channels.as_str());
            let expected: Vec<&str> = finding.into_iter().collect();
            assert_eq!(
                found(&[channels, secret, ("BOUND", "{}")]),
                expected,
                "{home}"
            );
            let mut unsigned = vec!["wrong HOOK_SECRET"];
            unsigned.extend(finding);
            assert_eq!(found(&[channels, ("BOUND", "{}")]), unsigned, "{home}");
        }
    }

    #[test]
    fn a_table_that_cannot_tell_spaces_apart_is_told_where_there_are_more() {
        let space = r#","space":"team""#;
        for (spaces, column, finding) in [
            ("team-*", "", Some("risky SYNC_CHANNELS a")),
            ("global, b", "", Some("risky SYNC_CHANNELS a")),
            ("team-*", space, None),
            ("global", "", None),
            ("", "", None),
        ] {
            let source = r#""d1":"DB","table":"t","key":"id","updatedAt":"u","columns":["x"]"#;
            let channels = format!(r#"{{"a":{{"source":{{{source}{column}}}}}}}"#);
            let expected: Vec<&str> = finding.into_iter().collect();
            let settings = [
                ("SYNC_CHANNELS", channels.as_str()),
                ("SYNC_SPACES", spaces),
            ];
            assert_eq!(found(&settings), expected, "{spaces}{column}");
        }
    }

    #[test]
    fn with_dev_the_published_secrets_are_wrong_too_and_the_worst_comes_first() {
        let settings = [
            ("SYNC_CHANNELS", r#"{"a":{"write":"anyone"}}"#),
            ("DEV", "true"),
            ("JWT_SECRET", DEV_SECRETS[0]),
            ("PUBLISH_KEY", DEV_SECRETS[1]),
        ];
        let expected = [
            "wrong DEV",
            "wrong JWT_SECRET",
            "wrong PUBLISH_KEY",
            "risky SYNC_CHANNELS a",
        ];
        assert_eq!(found(&settings), expected);
    }

    #[test]
    fn no_secret_is_told() {
        let settings = [
            CHANNELS,
            ("JWT_SECRET", "hush-1"),
            ("PUBLISH_KEY", "hush-2"),
            ("PUBLISH_KEYS", r#"{"a":{"key":"hush-3"}}"#),
        ];
        let findings = examined(&settings);
        assert!(findings.len() >= 3);
        assert!(!format!("{findings:?}").contains("hush"));
    }

    #[test]
    fn a_teams_own_authenticator_needs_no_secret() {
        let get = |name: &str| match name {
            "SYNC_CHANNELS" => Some("{}".to_owned()),
            "PUBLISH_KEY" => Some(KEY.1.to_owned()),
            _ => None,
        };
        assert_eq!(examine(&get, true), []);
        assert_eq!(examine(&get, false).len(), 1);
    }
}
