//! `HOOK_SECRET`: what the sync Worker signs its questions to the app with.

use super::{ConfigError, Settings, error};
use crate::auth::Secret;
use crate::channel::Rules;
use crate::source::Signer;

const SECRET: &str = "HOOK_SECRET";
const PREVIOUS: &str = "HOOK_SECRET_PREVIOUS";

/// `known` are the other secrets, which it must differ from.
pub(super) fn read(
    settings: &Settings<'_>,
    rules: &Rules,
    known: &[&Secret],
) -> Result<Signer, ConfigError> {
    let one = |name: &'static str| -> Result<Option<Secret>, ConfigError> {
        let Some(text) = settings.secret_text(name)? else {
            return Ok(None);
        };
        let secret = Secret::of_webhooks(&text);
        let secret = secret.ok_or_else(|| error(name, "after `whsec_` it must be Base64"))?;
        // As it is written, and as it counts.
        if known.contains(&&secret) || known.contains(&&Secret::new(text)) {
            let what = "is the same as JWT_SECRET or a publish key; it must be one of its own";
            return Err(error(name, what));
        }
        Ok(Some(secret))
    };
    match (one(SECRET)?, one(PREVIOUS)?) {
        (None, Some(_)) => Err(error(SECRET, format!("is not set, but {PREVIOUS} is"))),
        (None, None) if rules.have_hooks() => {
            let what = "is not set; the app must know by it that it is the sync Worker who asks";
            Err(error(SECRET, what))
        }
        (secret, previous) => Ok(Signer::new(secret.into_iter().chain(previous).collect())),
    }
}

#[cfg(test)]
mod tests {
    use crate::config::tests::{read, refused};

    const HOOKED: (&str, &str) = (
        "SYNC_CHANNELS",
        r#"{"a":{},"b*":{"source":{"service":"APP"}}}"#,
    );
    const OWN: (&str, &str) = ("HOOK_SECRET", "a secret of the hooks");

    #[test]
    fn hooks_need_a_secret_and_nothing_else_does() {
        let message = refused(&[HOOKED]);
        assert!(message.starts_with("HOOK_SECRET: is not set"), "{message}");
        assert!(refused(&[HOOKED, ("HOOK_SECRET", "")]).starts_with("HOOK_SECRET:"));
        assert!(read(&[HOOKED, OWN]).is_ok());
        let other = r#"{"b":{"source":{"handler":"h"}}}"#;
        assert!(read(&[("SYNC_CHANNELS", other)]).is_ok());
        let lonely = refused(&[HOOKED, ("HOOK_SECRET_PREVIOUS", "x")]);
        assert!(
            lonely.starts_with("HOOK_SECRET: is not set, but"),
            "{lonely}"
        );
        assert!(read(&[HOOKED, OWN, ("HOOK_SECRET_PREVIOUS", "x")]).is_ok());
    }

    #[test]
    fn a_secret_of_hooks_is_no_other_secret_as_well() {
        for (own, name, other) in [
            ("hush", "JWT_SECRET", "hush"),
            ("hush", "PUBLISH_KEY", "hush"),
            ("whsec_aHVzaA==", "JWT_SECRET", "hush"),
            ("whsec_aHVzaA==", "PUBLISH_KEY", "whsec_aHVzaA=="),
        ] {
            let message = refused(&[HOOKED, ("HOOK_SECRET", own), (name, other)]);
            assert!(message.starts_with("HOOK_SECRET: is the same"), "{message}");
            assert!(!message.contains("hush") && !message.contains("aHVza"));
        }
        let message = refused(&[HOOKED, ("HOOK_SECRET", "whsec_hush!")]);
        assert!(message.starts_with("HOOK_SECRET:") && !message.contains("hush"));
    }
}
