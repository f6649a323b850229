//! URLs that need no parser: nothing in them is escaped, and nothing is to be resolved.

/// A URL in plain characters, as publishers write them. The platform's own reader, which knows all
/// others, would say the same of it, and costs as much as a quarter of the engine's turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainUrl<'a> {
    /// With its slash.
    pub(crate) path: &'a str,
    query: &'a str,
}

impl<'a> PlainUrl<'a> {
    /// Reads a URL; `None` where it has anything that is not plain.
    pub(crate) fn of(url: &'a str) -> Option<Self> {
        let rest = url
            .strip_prefix("https://")
            .or_else(|| url.strip_prefix("http://"))?;
        let (host, rest) = rest.split_at(rest.find('/')?);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let is_plain = !host.is_empty()
            && host.bytes().all(|byte| is_plain(byte) || matches!(byte, b'.' | b':'))
            // With dots there may be something to resolve.
            && path.bytes().all(|byte| is_plain(byte) || byte == b'/')
            && query.bytes().all(|byte| is_plain(byte) || matches!(byte, b'.' | b':' | b'&' | b'='));
        is_plain.then_some(Self { path, query })
    }

    /// The first value of a parameter.
    pub(crate) fn query(&self, name: &str) -> Option<&'a str> {
        let pairs = self.query.split('&').filter(|pair| !pair.is_empty());
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find_map(|(found, value)| (found == name).then_some(value))
    }
}

fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_and_the_parameters_of_a_plain_url() {
        let url =
            PlainUrl::of("https://sync-engine/broadcast?space=a:b.c&space=d&&x&y==z=").unwrap();
        assert_eq!(url.path, "/broadcast");
        for (name, value) in [
            ("space", Some("a:b.c")),
            ("x", Some("")),
            ("y", Some("=z=")),
            ("", None),
            ("spac", None),
        ] {
            assert_eq!(url.query(name), value, "{name}");
        }
        let url = PlainUrl::of("http://127.0.0.1:8787/api//sync/?").unwrap();
        assert_eq!((url.path, url.query("a")), ("/api//sync/", None));
    }

    #[test]
    fn what_a_parser_would_read_otherwise_is_not_plain() {
        for other in [
            "",
            "https://",
            "https:///path",
            "https://host",
            "https://host?a=b",
            "HTTPS://host/",
            "ftp://host/",
            "https://user@host/",
            "https://hóst/",
            "https://host/a/../b",
            "https://host/%61",
            "https://host/a b",
            "https://host/a\\b",
            "https://host/a\tb",
            "https://host/a#b",
            "https://host/?a=%62",
            "https://host/?a=b+c",
            "https://host/?a=b#c",
            "https://host/?a=ü",
            " https://host/",
        ] {
            assert_eq!(PlainUrl::of(other), None, "{other}");
        }
    }
}
