//! Signatures of questions to the app: <https://www.standardwebhooks.com>, version 1.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::Mac;

use crate::auth::Secret;

/// Signs by `HOOK_SECRET`, and by the one that it replaces for a while.
#[derive(Debug, Clone, Default)]
pub struct Signer(Vec<Secret>);

impl Signer {
    pub(crate) fn new(secrets: Vec<Secret>) -> Self {
        Self(secrets)
    }

    /// The header `webhook-signature`: a signature by each secret, whichever the app has.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: &str, body: &str) -> String {
        let one = |secret: &Secret| {
            let mut mac = secret.mac()?;
            for part in [id, ".", seconds, ".", body] {
                mac.update(part.as_bytes());
            }
            let tag = STANDARD.encode(mac.finalize().into_bytes());
            Some(format!("v1,{tag}"))
        };
        let signatures: Vec<String> = self.0.iter().filter_map(one).collect();
        signatures.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signatures_are_those_of_standard_webhooks() {
        // The example of the scheme's own libraries.
        let secret = Secret::of_webhooks("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, seconds) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330");
        let sign = |signer: &Signer| signer.sign(id, seconds, r#"{"test": 2432232314}"#);
        let expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        assert_eq!(sign(&Signer::new(vec![secret.clone()])), expected);
        let both = sign(&Signer::new(vec![Secret::new("other".to_owned()), secret]));
        let (other, old) = both.split_once(' ').unwrap();
        assert_eq!(old, expected);
        assert!(other.starts_with("v1,") && other != expected);
        assert_eq!(sign(&Signer::default()), "");
    }
}
