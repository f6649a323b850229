//! Tokens: a signed text becomes a grant, given the time. And the constant-time check of keys.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::audience::{Topics, TopicsError};
use crate::limits;
use crate::names::{Identity, Millis, Space};
use crate::protocol::{Code, Problem};
use crate::session::Grant;

/// A secret setting. Its text shows up nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps the text of a secret.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    fn mac(&self) -> Option<Hmac<Sha256>> {
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

/// Why a token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is no token that this server trusts.
    #[error("the token is not valid")]
    Invalid,
    /// It lacks a claim that is required, or has one of a wrong kind.
    #[error("the token's claim `{0}` is missing or not valid")]
    Claim(&'static str),
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYet,
    /// It grants topics that cannot be granted.
    #[error("{0}")]
    Topics(#[from] TopicsError),
    /// It does not open this space.
    #[error("the token does not open this space")]
    Space,
    /// The space opens only to a token.
    #[error("this space needs a token")]
    SpaceNeedsToken,
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Topics(_) | AuthError::Space => Code::Forbidden,
            AuthError::Invalid
            | AuthError::Claim(_)
            | AuthError::Expired
            | AuthError::NotYet
            | AuthError::SpaceNeedsToken => Code::Unauthorized,
        };
        Self::new(code, error.to_string())
    }
}

/// What a verified token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who, what and until when.
    pub grant: Grant,
    /// The only space that the token opens.
    pub space: Option<Space>,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    /// Extensions that the verifier must understand; this one understands none.
    crit: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
struct Payload {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    topics: Option<Vec<String>>,
    space: Option<String>,
}

/// How far the issuer's clock may be ahead of ours, for `nbf`.
const LEEWAY_MS: u64 = 30_000;

/// Verifies an HS256 token. The algorithm is the verifier's choice, never the token's.
///
/// # Errors
/// [`AuthError`] says why; it holds nothing of the token.
pub fn verify_hs256(token: &str, secret: &Secret, now: Millis) -> Result<Claims, AuthError> {
    if token.len() > limits::TOKEN_BYTES {
        return Err(AuthError::Invalid);
    }
    let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Invalid)?;
    let (header, payload) = signed.split_once('.').ok_or(AuthError::Invalid)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Invalid);
    let header: Header =
        serde_json::from_slice(&decode(header)?).map_err(|_| AuthError::Invalid)?;
    if header.alg != "HS256" || header.crit.is_some() {
        return Err(AuthError::Invalid);
    }
    let mac = secret.mac().ok_or(AuthError::Invalid)?;
    mac.chain_update(signed.as_bytes())
        .verify_slice(&decode(signature)?)
        .map_err(|_| AuthError::Invalid)?;
    let payload: Payload =
        serde_json::from_slice(&decode(payload)?).map_err(|_| AuthError::Invalid)?;
    payload.claims(now)
}

fn time(claim: &'static str, seconds: Option<f64>) -> Result<Option<Millis>, AuthError> {
    let Some(seconds) = seconds else {
        return Ok(None);
    };
    let millis = seconds * 1000.0;
    if !(0.0..=limits::SAFE_INTEGER as f64).contains(&millis) {
        return Err(AuthError::Claim(claim));
    }
    Ok(Some(Millis(millis as u64)))
}

impl Payload {
    fn claims(self, now: Millis) -> Result<Claims, AuthError> {
        let identity = self.sub.as_deref().map(Identity::parse);
        let Some(Ok(identity)) = identity else {
            return Err(AuthError::Claim("sub"));
        };
        let expires_at = time("exp", self.exp)?.ok_or(AuthError::Claim("exp"))?;
        if expires_at <= now {
            return Err(AuthError::Expired);
        }
        if time("nbf", self.nbf)?.is_some_and(|at| at > now.plus(LEEWAY_MS)) {
            return Err(AuthError::NotYet);
        }
        let granted = self.topics.unwrap_or_default();
        let topics = Topics::granted(Some(&identity), granted.iter().map(String::as_str))?;
        let space = self.space.as_deref().map(Space::parse).transpose();
        Ok(Claims {
            grant: Grant {
                identity: Some(identity),
                topics,
                // An issuer whose clock is ahead must not escape a refusal.
                issued_at: time("iat", self.iat)?.unwrap_or_default().min(now),
                expires_at: Some(expires_at),
            },
            space: space.map_err(|_| AuthError::Claim("space"))?,
        })
    }
}

/// A grant on its way from the sync Worker to the object, in a header that nobody outside can
/// set. Base64, because a header's text is Latin-1.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Carried {
    identity: Option<Identity>,
    topics: Vec<String>,
    issued_at: Millis,
    expires_at: Option<Millis>,
}

impl Grant {
    /// The grant as a header's value.
    ///
    /// # Errors
    /// Only if the encoder fails, which it does not for these types.
    pub fn to_header(&self) -> Result<String, serde_json::Error> {
        let own = self.identity.as_ref().map(Identity::topic);
        let granted = self
            .topics
            .iter()
            .filter(|topic| own.as_ref() != Some(*topic));
        let carried = Carried {
            identity: self.identity.clone(),
            topics: granted.map(ToString::to_string).collect(),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
        };
        Ok(URL_SAFE_NO_PAD.encode(serde_json::to_vec(&carried)?))
    }

    /// Reads a header's value; `None` if it holds no grant.
    #[must_use]
    pub fn from_header(value: &str) -> Option<Self> {
        let carried: Carried = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(value).ok()?).ok()?;
        let granted = carried.topics.iter().map(String::as_str);
        Some(Self {
            topics: Topics::granted(carried.identity.as_ref(), granted).ok()?,
            identity: carried.identity,
            issued_at: carried.issued_at,
            expires_at: carried.expires_at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Millis = Millis(1_700_000_000_000);

    fn secret() -> Secret {
        Secret::new("a secret of this test".to_owned())
    }

    fn sign(header: &str, payload: &str) -> String {
        let signed = format!(
            "{}.{}",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(payload)
        );
        let tag = secret()
            .mac()
            .unwrap()
            .chain_update(signed.as_bytes())
            .finalize();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.into_bytes()))
    }

    fn verify(payload: &str) -> Result<Claims, AuthError> {
        verify_hs256(
            &sign(r#"{"alg":"HS256","typ":"JWT"}"#, payload),
            &secret(),
            NOW,
        )
    }

    #[test]
    fn a_good_token_grants_what_it_says() {
        let claims = verify(
            r#"{"sub":"alice","exp":1700000060,"iat":1699999999.5,"topics":["team:a"],"space":"x"}"#,
        )
        .unwrap();
        assert_eq!(claims.grant.identity.as_ref().unwrap().as_str(), "alice");
        assert!(claims.grant.topics.holds("user:alice") && claims.grant.topics.holds("team:a"));
        assert_eq!(claims.grant.expires_at, Some(Millis(1_700_000_060_000)));
        assert_eq!(claims.grant.issued_at, Millis(1_699_999_999_500));
        assert_eq!(claims.space.unwrap().as_str(), "x");
    }

    #[test]
    fn a_token_ends_at_its_exp() {
        assert!(verify(r#"{"sub":"a","exp":1700000000.001}"#).is_ok());
        assert_eq!(
            verify(r#"{"sub":"a","exp":1700000000}"#),
            Err(AuthError::Expired)
        );
        assert!(verify(r#"{"sub":"a","exp":1800000000,"nbf":1700000030}"#).is_ok());
        let early = verify(r#"{"sub":"a","exp":1800000000,"nbf":1700000031}"#);
        assert_eq!(early, Err(AuthError::NotYet));
    }

    #[test]
    fn claims_are_required_and_checked() {
        for (payload, error) in [
            (r#"{"exp":1800000000}"#, AuthError::Claim("sub")),
            (r#"{"sub":"","exp":1800000000}"#, AuthError::Claim("sub")),
            (r#"{"sub":"a"}"#, AuthError::Claim("exp")),
            (r#"{"sub":"a","exp":-1}"#, AuthError::Claim("exp")),
            (r#"{"sub":"a","exp":1e300}"#, AuthError::Claim("exp")),
            (r#"{"sub":1,"exp":1800000000}"#, AuthError::Invalid),
            (r#"{"sub":"a","exp":"1800000000"}"#, AuthError::Invalid),
            (
                r#"{"sub":"a","exp":1800000000,"space":"A"}"#,
                AuthError::Claim("space"),
            ),
            (
                r#"{"sub":"a","exp":1800000000,"topics":["all"]}"#,
                AuthError::Topics(TopicsError::Reserved),
            ),
            (
                r#"{"sub":"a","exp":1800000000,"topics":["user:b"]}"#,
                AuthError::Topics(TopicsError::Reserved),
            ),
            ("[]", AuthError::Invalid),
        ] {
            assert_eq!(verify(payload), Err(error), "{payload}");
        }
    }

    #[test]
    fn only_our_algorithm_and_our_signature_count() {
        let payload = r#"{"sub":"a","exp":1800000000}"#;
        let good = sign(r#"{"alg":"HS256"}"#, payload);
        assert!(verify_hs256(&good, &secret(), NOW).is_ok());
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"{}"#,
        ] {
            let token = sign(header, payload);
            assert_eq!(
                verify_hs256(&token, &secret(), NOW),
                Err(AuthError::Invalid),
                "{header}"
            );
        }
        let (signed, signature) = good.rsplit_once('.').unwrap();
        let unsigned = format!("{signed}.");
        let cut = &good[..good.len() - 1];
        let resigned = format!("{}.{signature}", signed.replace("ey", "eY"));
        let extra = format!("{good}.x");
        for bad in ["", "a", "a.b", "..", &unsigned, cut, &resigned, &extra] {
            assert_eq!(
                verify_hs256(bad, &secret(), NOW),
                Err(AuthError::Invalid),
                "{bad}"
            );
        }
        let other = Secret::new("another secret".to_owned());
        assert_eq!(verify_hs256(&good, &other, NOW), Err(AuthError::Invalid));
    }

    #[test]
    fn tokens_hold_at_their_bound_and_not_past_it() {
        let of = |bytes: usize| {
            let pad = |n: usize| {
                let payload = format!(r#"{{"sub":"a","exp":1800000000,"p":"{}"}}"#, "x".repeat(n));
                sign(r#"{"alg":"HS256"}"#, &payload)
            };
            (0..bytes)
                .rev()
                .map(pad)
                .find(|token| token.len() <= bytes)
                .unwrap()
        };
        let largest = of(limits::TOKEN_BYTES);
        assert!(largest.len() >= limits::TOKEN_BYTES - 1);
        assert!(verify_hs256(&largest, &secret(), NOW).is_ok());
        let larger = format!(
            "{largest}{}",
            "x".repeat(limits::TOKEN_BYTES + 1 - largest.len())
        );
        assert_eq!(
            verify_hs256(&larger, &secret(), NOW),
            Err(AuthError::Invalid)
        );
    }

    #[test]
    fn grants_cross_a_header_unchanged() {
        let grant = verify(r#"{"sub":"ålice 🌊","exp":1800000000,"topics":["t"]}"#)
            .unwrap()
            .grant;
        let header = grant.to_header().unwrap();
        assert!(header.is_ascii());
        assert_eq!(Grant::from_header(&header), Some(grant));
        let nobody = Grant::default();
        assert_eq!(
            Grant::from_header(&nobody.to_header().unwrap()),
            Some(nobody)
        );
        assert_eq!(Grant::from_header("garbage"), None);
    }

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
