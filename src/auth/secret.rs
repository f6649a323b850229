//! Secret settings: compared in constant time, shown nowhere.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ctutils::CtEq as _;
use hmac::{Hmac, KeyInit};
use sha2::Sha256;

/// A secret setting. Nothing of it shows up anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Wraps the text of a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text.into_bytes())
    }

    /// A secret as Standard Webhooks writes it: Base64 after `whsec_`; any other text is its bytes.
    /// `None` for what is no Base64 there, or nothing.
    #[must_use]
    pub fn of_webhooks(text: &str) -> Option<Self> {
        let bytes = match text.strip_prefix("whsec_") {
            Some(base64) => STANDARD.decode(base64).ok()?,
            None => text.as_bytes().to_vec(),
        };
        (!bytes.is_empty()).then_some(Self(bytes))
    }

    /// How many bytes it has.
    pub(crate) fn bytes(&self) -> usize {
        self.0.len()
    }

    /// The HMAC-SHA-256 under this secret, before any text.
    pub(crate) fn mac(&self) -> Option<Hmac<Sha256>> {
        Hmac::new_from_slice(&self.0).ok()
    }

    /// Whether `given` is this secret, in a time that depends on nothing but their
    /// lengths.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
        self.0.as_slice().ct_eq(given.as_bytes()).to_bool()
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

    #[test]
    fn secrets_of_webhooks_are_base64_after_their_prefix() {
        let of = |text: &str| Secret::of_webhooks(text);
        assert_eq!(of("whsec_a2V5"), Some(Secret::new("key".to_owned())));
        assert_eq!(of("a2V5"), Some(Secret::new("a2V5".to_owned())));
        for bad in ["", "whsec_", "whsec_a2V", "whsec_a2V5!", "whsec_a2V5\n"] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
