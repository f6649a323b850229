//! `SYNC_CHANNELS`: a rule set that parses says of every channel and row what its text says. The
//! input's last line is a row, the lines before it are the setting.

#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};
use tidewire::protocol::Code;
use tidewire::{Access, Audience, Channel, Keep, Retain, Rule, Rules, Scope, limits};

fuzz_target!(|text: &str| {
    let (json, row) = text.rsplit_once('\n').unwrap_or((text, "{}"));
    let rules = match Rules::parse(json) {
        Ok(rules) => rules,
        Err(what) => {
            assert!(!what.is_empty());
            return;
        }
    };
    let written: Map<String, Value> = serde_json::from_str(json).unwrap();
    for name in written.keys() {
        let stem = name.strip_suffix('*').unwrap_or(name);
        for probe in [
            stem.to_owned(),
            format!("{stem}:1"),
            stem.chars().rev().collect(),
        ] {
            if let Ok(channel) = Channel::parse(&probe) {
                judge(&rules, &written, &channel, row);
            }
        }
    }
});

/// The entry that counts for a channel: its own name, else the longest prefix.
fn entry<'a>(written: &'a Map<String, Value>, channel: &str) -> Option<&'a Value> {
    // A name with a star is a pattern, even where a channel is called so.
    let own = written.get(channel).filter(|_| !channel.ends_with('*'));
    let prefixes = written.iter().filter_map(|(name, rule)| {
        let prefix = name.strip_suffix('*')?;
        channel.starts_with(prefix).then_some((prefix.len(), rule))
    });
    own.or_else(|| Some(prefixes.max_by_key(|(bytes, _)| *bytes)?.1))
}

fn judge(rules: &Rules, written: &Map<String, Value>, channel: &Channel, row: &str) {
    let (rule, entry) = match (rules.find(channel), entry(written, channel.as_str())) {
        (Ok(rule), Some(entry)) => (rule, entry),
        (Err(problem), None) => return assert_eq!(problem.code, Code::UnknownChannel),
        (found, entry) => panic!("{found:?} for {entry:?}"),
    };
    assert!(entry.is_object());
    let word = |field| match &entry[field] {
        Value::Null => None,
        // Serde takes a name in this form, too.
        Value::Object(long) => long.keys().next().map(String::as_str),
        word => Some(word.as_str().unwrap()),
    };
    let access = |access: Access| match access {
        Access::Anyone => "anyone",
        Access::User => "user",
        Access::Topic => "topic",
        Access::Token => "token",
        Access::None => "none",
    };
    assert_eq!(access(rule.read), word("read").unwrap_or("user"));
    assert_eq!(access(rule.write), word("write").unwrap_or("none"));
    assert_eq!(rule.keep == Keep::Every, word("keep") == Some("every"));
    match &rule.scope {
        Scope::All => assert!(word("scope").is_none_or(|word| word == "all")),
        Scope::Field(scope) => assert_eq!(entry["scope"]["field"], scope.field),
    }
    let retain = [rule.retain.count, rule.retain.days].map(|bound| bound.map(u64::from));
    assert_eq!(
        retain,
        ["count", "days"].map(|bound| entry["retain"][bound].as_u64())
    );
    assert_eq!(
        rule.takes_pass(),
        rule.read == Access::Token || rule.write == Access::Token
    );
    assert!(rule.keep == Keep::Every || (!rule.edits && rule.retain == Retain::default()));
    judge_audience(rule, row);
}

fn judge_audience(rule: &Rule, row: &str) {
    let audience = rule.audience(row);
    let Ok(Value::Object(fields)) = serde_json::from_str(row) else {
        // What only serde's `Value` refuses is the row's own affair.
        return;
    };
    let Scope::Field(scope) = &rule.scope else {
        assert!(matches!(audience, Ok(Some(Audience::All)) | Err(_)));
        return;
    };
    assert!(!scope.field.is_empty());
    match (audience, fields.get(&scope.field)) {
        (Ok(Some(Audience::Topics(topics))), Some(value)) => {
            assert!((1..=limits::TOPICS).contains(&topics.len()));
            let list = value.as_array();
            let named = list.map_or(std::slice::from_ref(value), Vec::as_slice);
            let topic = |text: &Value| format!("{}{}", scope.prefix, text.as_str().unwrap());
            assert!(
                named
                    .iter()
                    .all(|text| topics.contains(topic(text).as_str()))
            );
            assert!(topics.len() <= named.len());
        }
        (Ok(None), None) | (Err(_), _) => {}
        (audience, value) => panic!("{audience:?} of {value:?}"),
    }
}
