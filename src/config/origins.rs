//! `ALLOWED_ORIGINS`: whose pages may use their visitors' cookies.

use super::{ConfigError, Settings, error};
use crate::protocol::{Code, Problem};

/// Origins beside the app's own.
#[derive(Debug, Clone, Default)]
pub(super) struct Origins(Vec<String>);

impl Origins {
    pub(super) fn read(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        let origins = settings.list("ALLOWED_ORIGINS");
        for origin in &origins {
            let host = origin.split_once("://").map_or("", |(_, host)| host);
            let stem = host.strip_prefix("*.").unwrap_or(host);
            if stem.is_empty() || stem.contains(['*', '/']) {
                let what = "is a list of origins, e.g. https://app.example.com or \
                    https://*.example.com, separated by commas";
                return Err(error("ALLOWED_ORIGINS", what));
            }
        }
        Ok(Self(origins))
    }

    /// `null` is the origin of nobody: it equals none.
    pub(super) fn check(&self, origin: &str, own: &str) -> Result<(), Problem> {
        let is = |allowed: &String| match allowed.split_once("://*.") {
            Some((scheme, domain)) => origin
                .strip_prefix(scheme)
                .and_then(|rest| rest.strip_prefix("://"))
                .and_then(|host| host.strip_suffix(domain))
                .is_some_and(|sub| sub.ends_with('.') && sub.len() > 1),
            None => origin == allowed,
        };
        let is_own = origin == own && own.contains("://");
        if is_own || self.0.iter().any(is) {
            return Ok(());
        }
        let message = "cookies are not taken from pages of this origin";
        Err(Problem::new(Code::Forbidden, message))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{read, refused};

    const CHANNELS: (&str, &str) = ("SYNC_CHANNELS", "{}");

    #[test]
    fn cookies_come_from_the_apps_own_pages_or_from_listed_origins() {
        let listed = "https://a.example.com, https://*.example.org";
        let config = read(&[CHANNELS, ("ALLOWED_ORIGINS", listed)]).unwrap();
        let own = "https://app.test:8787";
        let allowed = |origin: &str| config.check_origin(origin, own).is_ok();
        for origin in [
            own,
            "https://a.example.com",
            "https://x.example.org",
            "https://x.y.example.org",
        ] {
            assert!(allowed(origin), "{origin}");
        }
        for origin in [
            "null",
            "",
            "http://app.test:8787",
            "https://app.test",
            "https://app.test:8787.evil.com",
            "http://a.example.com",
            "https://a.example.com.evil.com",
            "https://a.example.com:8443",
            "https://example.org",
            "https://.example.org",
            "https://evilexample.org",
            "http://x.example.org",
        ] {
            assert!(!allowed(origin), "{origin}");
        }
        for nobody in ["", "null"] {
            assert!(config.check_origin(nobody, nobody).is_err(), "{nobody}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused() {
        for bad in [
            "*",
            "https://*",
            "example.com",
            "https://*.a.*",
            "https://a.com/x",
        ] {
            let message = refused(&[CHANNELS, ("ALLOWED_ORIGINS", bad)]);
            assert!(message.starts_with("ALLOWED_ORIGINS"), "{bad}");
        }
    }
}
