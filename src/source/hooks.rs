//! The app as the home of a channel's rows, asked over HTTP: requests, signatures, answers.
//!
//! Questions are signed by the scheme of Standard Webhooks. Nothing that the app answers is trusted
//! further than what it is asked: an answer that is not of the documented shape is the app's fault,
//! which goes to the log, and its client learns no more than that.

mod answer;
mod body;
mod signature;

use crate::config::is_safe_url;
use crate::names::{Millis, Space};

use super::{Ask, Question};

pub use answer::{Reading, read_answer};
pub use signature::Signer;

/// The version of the wire format between sync Worker and app.
const VERSION: u64 = 1;

/// Where the app is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// By the name of a service binding.
    Service(String),
    /// By its origin, and a path before `/sync-hooks`, without a slash at the end.
    Url(String),
}

impl Target {
    pub(super) fn service(binding: String) -> Self {
        Self::Service(binding)
    }

    pub(super) fn url(url: &str) -> Result<Self, String> {
        if !is_safe_url(url) || url.contains(['?', '#']) {
            let what = "url must be an https URL, or http on this machine, without user, password \
                and query";
            return Err(what.to_owned());
        }
        Ok(Self::Url(url.trim_end_matches('/').to_owned()))
    }

    /// Where an operation is asked for. Behind a binding the host means nothing.
    fn address(&self, operation: &str) -> String {
        let base = match self {
            Self::Service(_) => "https://app",
            Self::Url(base) => base,
        };
        format!("{base}/sync-hooks/{operation}")
    }
}

impl Ask {
    /// The operation's name on the wire.
    #[must_use]
    pub fn operation(&self) -> &'static str {
        match self {
            Self::Authorize(_) => "authorize",
            Self::Fetch(_) => "fetch",
            Self::Write(write) => write.action.as_str(),
        }
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn is_write(&self) -> bool {
        match self {
            Self::Write(_) => true,
            Self::Authorize(_) | Self::Fetch(_) => false,
        }
    }
}

/// A request to the app, signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookCall {
    /// Where it goes.
    pub url: String,
    /// Its headers.
    pub headers: [(&'static str, String); 4],
    /// Its body, as JSON.
    pub body: String,
}

impl HookCall {
    /// A `POST` that puts a question to the app. `id` is a text that no other request has.
    #[must_use]
    pub fn new(
        target: &Target,
        question: &Question,
        space: &Space,
        signer: &Signer,
        id: String,
        now: Millis,
    ) -> Self {
        let body = body::write(question, space);
        let seconds = (now.0 / 1000).to_string();
        let signature = signer.sign(&id, &seconds, &body);
        Self {
            url: target.address(question.what.operation()),
            headers: [
                ("content-type", "application/json".to_owned()),
                ("webhook-id", id),
                ("webhook-timestamp", seconds),
                ("webhook-signature", signature),
            ],
            body,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::body::tests::question;
    use super::*;
    use crate::auth::Secret;

    #[test]
    fn an_app_is_asked_over_https_or_on_this_machine() {
        for (good, base) in [
            ("https://app.example.com", "https://app.example.com"),
            ("https://app.example.com/", "https://app.example.com"),
            (
                "https://app.example.com:8443/a/b//",
                "https://app.example.com:8443/a/b",
            ),
            ("http://127.0.0.1:8787", "http://127.0.0.1:8787"),
            ("http://localhost/x", "http://localhost/x"),
        ] {
            assert_eq!(Target::url(good), Ok(Target::Url(base.to_owned())));
        }
        for bad in [
            "",
            "app.example.com",
            "http://app.example.com",
            "http://localhost.evil.com",
            "https://user:pw@app.example.com",
            "https://app.example.com/?x=1",
            "https://app.example.com/#x",
            "https://app.example.com/a b",
            "ftp://localhost",
        ] {
            let error = Target::url(bad).unwrap_err();
            assert!(error.starts_with("url"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_question_goes_to_the_path_of_its_operation_signed() {
        let signer = Signer::new(vec![Secret::new("s".to_owned())]);
        let space = Space::default_space();
        let call = |target: &Target| {
            let question = question(Ask::Authorize(body::tests::operation()));
            let now = Millis(1_700_000_000_999);
            HookCall::new(target, &question, &space, &signer, "m".to_owned(), now)
        };
        let bound = call(&Target::service("APP".to_owned()));
        assert_eq!(bound.url, "https://app/sync-hooks/authorize");
        let remote = call(&Target::url("https://a.test/base/").unwrap());
        assert_eq!(remote.url, "https://a.test/base/sync-hooks/authorize");
        let [kind, id, seconds, signature] = bound.headers;
        assert_eq!(kind.1, "application/json");
        assert_eq!(id, ("webhook-id", "m".to_owned()));
        assert_eq!(seconds, ("webhook-timestamp", "1700000000".to_owned()));
        let expected = signer.sign("m", "1700000000", &bound.body);
        assert_eq!(signature, ("webhook-signature", expected));
    }
}
