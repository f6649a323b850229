//! `HANDSHAKE_HEADERS` and `HANDSHAKE_COOKIES`: what a session remembers of its upgrade for handlers.

use std::borrow::Cow;
use std::rc::Rc;

use super::{ConfigError, Settings, error};
use crate::limits;
use crate::protocol::{Code, Problem, object};

/// What of an upgrade is kept beside its URL.
#[derive(Debug, Clone)]
pub(super) struct Handshake {
    /// Names of headers, in lower case.
    headers: Vec<String>,
    /// Names of cookies; all of them where nothing is named.
    cookies: Option<Vec<String>>,
}

/// Query parameters that hold a token. What is verified already is not handed on.
const TOKENS: [&str; 2] = ["token", "channelToken"];

impl Handshake {
    pub(super) fn read(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        // Not sorted: code that sorts texts weighs more than all else here.
        let mut headers = Vec::new();
        for name in settings.headers("HANDSHAKE_HEADERS", &["cookie", "authorization"])? {
            if !headers.contains(&name) {
                headers.push(name);
            }
        }
        let cookies = settings.list("HANDSHAKE_COOKIES");
        if cookies.iter().any(|name| name.contains(['=', ';'])) {
            let what = "is a list of names of cookies, separated by commas";
            return Err(error("HANDSHAKE_COOKIES", what));
        }
        Ok(Self {
            headers,
            cookies: Some(cookies).filter(|names| !names.is_empty()),
        })
    }

    /// `{"url","headers"}`, without the tokens of the query.
    pub(super) fn of(
        &self,
        url: &str,
        header: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Rc<str>, Problem> {
        let cookie = header("cookie").map(|all| self.kept(&all));
        let json = object(|o| {
            o.text("url", &without_tokens(url));
            o.name("headers").object(|o| {
                if let Some(cookie) = cookie.filter(|kept| !kept.is_empty()) {
                    o.text("cookie", &cookie);
                }
                for name in &self.headers {
                    if let Some(value) = header(name) {
                        o.text(name, &value);
                    }
                }
            });
        });
        if json.len() > limits::HANDSHAKE_BYTES {
            const MOST: usize = limits::HANDSHAKE_BYTES;
            let message = format!(
                "URL, cookies and named headers, which handlers are told, have more than {MOST} \
                 bytes; HANDSHAKE_COOKIES and HANDSHAKE_HEADERS say which ones they need"
            );
            return Err(Problem::new(Code::Forbidden, message));
        }
        Ok(json.into())
    }

    /// The cookies that are kept.
    fn kept(&self, all: &str) -> String {
        let Some(names) = &self.cookies else {
            return all.to_owned();
        };
        let name = |pair: &str| pair.split('=').next().unwrap_or_default().trim().to_owned();
        let pairs = all.split(';').map(str::trim);
        let kept: Vec<&str> = pairs.filter(|pair| names.contains(&name(pair))).collect();
        kept.join("; ")
    }
}

/// The URL less the query parameters that hold a token, however they are escaped.
fn without_tokens(url: &str) -> Cow<'_, str> {
    let Some((path, query)) = url.split_once('?') else {
        return url.into();
    };
    let secret = |pair: &&str| {
        let name = unescaped(pair.split('=').next().unwrap_or_default());
        TOKENS.iter().any(|token| name == token.as_bytes())
    };
    let kept: Vec<&str> = query.split('&').filter(|pair| !secret(pair)).collect();
    match kept.is_empty() {
        true => path.into(),
        false => format!("{path}?{}", kept.join("&")).into(),
    }
}

/// A query parameter's name as whoever parses the query reads it.
fn unescaped(name: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|b| char::from(*b).to_digit(16));
        let escaped = match (byte, digit(0), digit(1)) {
            (b'%', Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        out.push(escaped.unwrap_or(byte));
        rest = match escaped {
            Some(_) => after.get(2..).unwrap_or_default(),
            None => after,
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{read, refused};

    const HANDLED: (&str, &str) = ("SYNC_CHANNELS", r#"{"c":{"source":{"handler":"h"}}}"#);

    const REQUEST: [(&str, &str); 4] = [
        ("cookie", "session=s1; theme=dark;other=a=b"),
        ("authorization", "Bearer t"),
        ("x-plan", "\"pro\""),
        ("x-team", "7"),
    ];

    fn header(name: &str) -> Option<String> {
        let found = REQUEST.iter().find(|(header, _)| *header == name);
        found.map(|(_, value)| (*value).to_owned())
    }

    fn kept(settings: &[(&str, &str)], url: &str) -> String {
        let settings: Vec<_> = settings.iter().copied().chain([HANDLED]).collect();
        let config = read(&settings).unwrap();
        let kept = config.handshake(url, &header).unwrap();
        kept.unwrap().to_string()
    }

    #[test]
    fn nothing_is_kept_of_an_upgrade_where_no_source_is_told_who_asks() {
        for channels in ["{}", r#"{"c":{"source":{"d1":"DB","table":"t"}}}"#] {
            let Ok(config) = read(&[("SYNC_CHANNELS", channels)]) else {
                continue; // A table may need more settings than these.
            };
            assert_eq!(config.handshake("https://a/", &header), Ok(None));
        }
    }

    #[test]
    fn url_cookies_and_named_headers_are_kept_and_no_others() {
        let url = "https://app.test/api/sync?room=7";
        assert_eq!(
            kept(&[], url),
            r#"{"url":"https://app.test/api/sync?room=7","headers":{"cookie":"session=s1; theme=dark;other=a=b"}}"#
        );
        let named = [
            ("HANDSHAKE_HEADERS", "X-Plan, x-none x-plan"),
            ("HANDSHAKE_COOKIES", "other, session, sess"),
        ];
        assert_eq!(
            kept(&named, "https://a/"),
            r#"{"url":"https://a/","headers":{"cookie":"session=s1; other=a=b","x-plan":"\"pro\""}}"#
        );
        let none = [("HANDSHAKE_COOKIES", "nobody-has-this")];
        assert_eq!(
            kept(&none, "https://a/"),
            r#"{"url":"https://a/","headers":{}}"#
        );
    }

    #[test]
    fn no_token_of_the_query_is_kept() {
        for (url, rest) in [
            ("https://a/b", "https://a/b"),
            ("https://a/b?", "https://a/b?"),
            ("https://a/b?token=t", "https://a/b"),
            ("https://a/b?token", "https://a/b"),
            ("https://a/b?x=1&token=t&y=2", "https://a/b?x=1&y=2"),
            ("https://a/b?channelToken=t&x=%26", "https://a/b?x=%26"),
            ("https://a/b?%74oken=t&to%6ben=t&x", "https://a/b?x"),
            (
                "https://a/b?tokens=1&x=token=",
                "https://a/b?tokens=1&x=token=",
            ),
            ("https://a/b?%zz=%&%7", "https://a/b?%zz=%&%7"),
        ] {
            assert_eq!(without_tokens(url), rest);
        }
    }

    #[test]
    fn what_is_kept_is_bounded_and_never_cut() {
        let config = read(&[HANDLED]).unwrap();
        let around = kept(&[], "").len();
        let of = |bytes: usize| config.handshake(&"u".repeat(bytes - around), &header);
        let most = of(limits::HANDSHAKE_BYTES).unwrap().unwrap();
        assert_eq!(most.len(), limits::HANDSHAKE_BYTES);
        let problem = of(limits::HANDSHAKE_BYTES + 1).unwrap_err();
        assert_eq!(problem.code, Code::Forbidden);
        assert!(problem.message.contains("HANDSHAKE_COOKIES"), "{problem}");
    }

    #[test]
    fn credentials_and_our_own_headers_cannot_be_named() {
        for bad in [
            "cookie",
            "Authorization",
            "x-tidewire-auth-grant",
            "a:b",
            "ü",
        ] {
            let message = refused(&[HANDLED, ("HANDSHAKE_HEADERS", bad)]);
            assert!(message.starts_with("HANDSHAKE_HEADERS:"), "{message}");
        }
        let message = refused(&[HANDLED, ("HANDSHAKE_COOKIES", "a=b")]);
        assert!(message.starts_with("HANDSHAKE_COOKIES:"), "{message}");
    }
}
