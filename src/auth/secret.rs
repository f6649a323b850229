//! Secret settings: compared in constant time, shown nowhere.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// A secret setting. Its text shows up nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text of a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The HMAC-SHA-256 under this secret, before any text.
    pub(super) fn mac(&self) -> Option<Hmac<Sha256>> {
        Hmac::new_from_slice(self.0.as_bytes()).ok()
    }

    /// Whether `given` is this secret, in a time that does not depend on where they differ.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        let tag = |text: &str| Some(self.mac()?.chain_update(text.as_bytes()));
        let (Some(own), Some(given)) = (tag(&self.0), tag(given)) else {
            return false;
        };
        given.verify(&own.finalize().into_bytes()).is_ok()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_compare_by_content() {
        let key = Secret::new("key".to_owned());
        assert!(key.is("key"));
        for other in ["", "ke", "kez", "key "] {
            assert!(!key.is(other), "{other}");
        }
        assert_eq!(format!("{key:?}"), "Secret(…)");
    }
}
