//! Lists of names and `prefix*`, as several settings have them.

/// Names, prefixes with one `*` at their end, or `*` for all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Patterns(Vec<String>);

impl Patterns {
    /// Takes patterns whose stems `is_name` accepts; `None` where one of them is not accepted.
    pub(super) fn parse<'a>(
        patterns: impl IntoIterator<Item = &'a str>,
        is_name: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let good = |pattern: &&str| {
            let stem = pattern.strip_suffix('*').unwrap_or(pattern);
            *pattern == "*" || (!stem.contains('*') && is_name(stem))
        };
        let checked = |pattern: &'a str| good(&pattern).then(|| pattern.to_owned());
        let patterns: Option<Vec<String>> = patterns.into_iter().map(checked).collect();
        patterns.map(Self)
    }

    pub(super) fn matches(&self, name: &str) -> bool {
        let one = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == pattern,
        };
        self.0.iter().any(one)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_exactly_and_prefixes_at_the_beginning() {
        let patterns = Patterns::parse(["a", "b:*"], |_| true).unwrap();
        for (name, matches) in [
            ("a", true),
            ("ab", false),
            ("b:", true),
            ("b:1", true),
            ("b", false),
        ] {
            assert_eq!(patterns.matches(name), matches, "{name}");
        }
        assert!(
            Patterns::parse(["*"], |_| false)
                .unwrap()
                .matches("anything")
        );
        assert!(!Patterns::default().matches(""));
        for bad in ["a*b", "**", "a**"] {
            assert_eq!(Patterns::parse([bad], |_| true), None, "{bad}");
        }
        assert_eq!(Patterns::parse(["a", "B"], |name| name == "a"), None);
    }
}
