//! Who somebody is: from a signed text, or from the app's own answer, to what it grants, given
//! the time. Nothing here does I/O: keys and answers are fetched by `workers`.
//!
//! - `secret` — secrets, compared in constant time.
//! - `jwt` — a token's shape and signature.
//! - `jwks` — the public keys of an identity provider, and when to ask for them again.
//! - `claims` — what a verified token says.
//! - `answer` — what the app's endpoint answers of a session that is no token.
//! - `carried` — a grant on its way to the object.

mod answer;
mod carried;
mod claims;
mod jwks;
mod jwt;
mod secret;

use serde_json::value::RawValue;

use crate::audience::{Topics, TopicsError};
use crate::limits;
use crate::names::{Channel, Identity, Millis, Space};
use crate::protocol::{Code, Problem, from_object};
use crate::session::Grant;

pub use answer::read_answer;
pub use claims::Expected;
pub use jwks::{Jwk, Jwks, JwksError, KeyCache, Lookup};
pub use jwt::{Algorithm, Jwt, Verified};
pub use secret::Secret;

/// Why a token or a session is refused. Holds nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It is no token that this server trusts.
    #[error("the token is not valid")]
    Invalid,
    /// It lacks a claim that is required, or has one that is wrong here.
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
    /// Handlers are told its payload, and that is too long.
    #[error(
        "the token's claims, which handlers are told, have more than {0} bytes; it must carry less"
    )]
    Claims(usize),
    /// It was issued before its identity was sent away.
    #[error("the token has been revoked")]
    Revoked,
    /// It is for another channel, or for another identity than the connection's.
    #[error("the token is not for this channel and connection")]
    Channel,
    /// The app's endpoint answered something that is no session.
    #[error("the answer of the authentication endpoint is not of the documented shape")]
    Answer,
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        let code = match error {
            AuthError::Topics(_) | AuthError::Space | AuthError::Channel | AuthError::Claims(_) => {
                Code::Forbidden
            }
            AuthError::Invalid
            | AuthError::Claim(_)
            | AuthError::Expired
            | AuthError::NotYet
            | AuthError::Revoked
            | AuthError::SpaceNeedsToken => Code::Unauthorized,
            AuthError::Answer => Code::Unavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// What somebody may do, and where: a verified token's words, or an authenticator's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claims {
    /// Who, what and until when.
    pub grant: Grant,
    /// The only space that it opens.
    pub space: Option<Space>,
}

impl Claims {
    /// Somebody until then, in the default space and those of `SYNC_SPACES`, who holds the topic
    /// `user:<identity>` and no other. Counts as issued in 1970: once `/disconnect` was called, it
    /// is refused for 30 days, unless [`Claims::issued_at`] says that it is younger.
    #[must_use]
    pub fn new(identity: Identity, expires_at: Millis) -> Self {
        Self {
            grant: Grant {
                topics: Topics::own(&identity),
                identity: Some(identity),
                issued_at: Millis(0),
                expires_at: Some(expires_at),
                visitor: None,
                context: None,
                claims: None,
                handshake: None,
            },
            space: None,
        }
    }

    /// Says when somebody has signed in, or was last vouched for.
    #[must_use]
    pub fn issued_at(mut self, at: Millis) -> Self {
        self.grant.issued_at = at;
        self
    }

    /// Opens this space and no other.
    #[must_use]
    pub fn in_space(mut self, space: Space) -> Self {
        self.space = Some(space);
        self
    }

    /// Grants these topics beside the identity's own.
    ///
    /// # Errors
    /// [`AuthError::Topics`] for more than fit, and for topics that cannot be granted.
    pub fn with_topics<'a>(
        mut self,
        topics: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, AuthError> {
        self.grant.topics = Topics::granted(self.grant.identity.as_ref(), topics)?;
        Ok(self)
    }

    /// Adds the claims that handlers are told where a channel's rows live with them, as JSON.
    ///
    /// # Errors
    /// [`AuthError::Claims`] for more than [`limits::CLAIMS_BYTES`], [`AuthError::Claim`] for what is
    /// no JSON object.
    pub fn with_claims(mut self, json: &str) -> Result<Self, AuthError> {
        if json.len() > limits::CLAIMS_BYTES {
            return Err(AuthError::Claims(limits::CLAIMS_BYTES));
        }
        from_object::<&RawValue>(json).map_err(|_| AuthError::Claim("claims"))?;
        self.grant.claims = Some(json.into());
        Ok(self)
    }

    /// Adds what every handler is handed, as JSON.
    ///
    /// # Errors
    /// [`AuthError::Claim`] for what is no JSON of at most [`limits::CONTEXT_BYTES`].
    pub fn with_context(mut self, json: &str) -> Result<Self, AuthError> {
        let is_json = serde_json::from_str::<&RawValue>(json).is_ok();
        if !is_json || json.len() > limits::CONTEXT_BYTES {
            return Err(AuthError::Claim("context"));
        }
        self.grant.context = Some(json.into());
        Ok(self)
    }
}

/// A token for one channel, made by the app's backend with `JWT_SECRET`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The claim `channel`.
    pub channel: Channel,
    /// The claim `sub`: whose connection may use it. Anyone's where it is missing.
    pub holder: Option<Identity>,
    /// The claim `write`: whether it opens the channel for mutations, too.
    pub write: bool,
    /// The claim `space`: the only space where it counts; the default one where it is missing.
    pub space: Option<Space>,
    /// The claim `iat`; 0 where it is missing.
    pub issued_at: Millis,
    /// The claim `exp`.
    pub expires_at: Millis,
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use hmac::Mac;

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

    fn verify_with(token: &str, secret: &Secret) -> Result<Claims, AuthError> {
        let verified = Jwt::parse(token)?.verify(std::slice::from_ref(secret))?;
        verified.claims(&Expected::default(), NOW)
    }

    fn verify(payload: &str) -> Result<Claims, AuthError> {
        verify_with(&sign(r#"{"alg":"HS256","typ":"JWT"}"#, payload), &secret())
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
        let payload = r#"{"sub":"alice","exp":1700000060, "plan":{"a":[1.50]}}"#;
        let claims = verify(payload).unwrap();
        assert_eq!(
            claims.grant.claims.as_deref(),
            Some(payload),
            "word for word"
        );
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
        assert!(verify(r#"{"sub":"a","exp":1800000000,"iat":1700000030}"#).is_ok());
        let early = verify(r#"{"sub":"a","exp":1800000000,"iat":1700000031}"#);
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
            // Serde alone would take fields by their places.
            (
                r#"["a",1800000000,null,null,null,null,null,null,null,null]"#,
                AuthError::Invalid,
            ),
        ] {
            assert_eq!(verify(payload), Err(error), "{payload}");
        }
    }

    #[test]
    fn only_our_algorithm_and_our_signature_count() {
        let payload = r#"{"sub":"a","exp":1800000000}"#;
        let good = sign(r#"{"alg":"HS256"}"#, payload);
        assert!(verify_with(&good, &secret()).is_ok());
        for header in [
            r#"{"alg":"none"}"#,
            r#"{"alg":"hs256"}"#,
            r#"{"alg":"HS512"}"#,
            r#"{"alg":"RS256"}"#,
            r#"{"alg":"HS256","crit":["exp"]}"#,
            r#"["HS256",null,null]"#,
            r#"{}"#,
        ] {
            let token = sign(header, payload);
            assert_eq!(
                verify_with(&token, &secret()),
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
                verify_with(bad, &secret()),
                Err(AuthError::Invalid),
                "{bad}"
            );
        }
        let other = Secret::new("another secret".to_owned());
        assert_eq!(verify_with(&good, &other), Err(AuthError::Invalid));
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
        assert!(verify_with(&largest, &secret()).is_ok());
        let larger = format!(
            "{largest}{}",
            "x".repeat(limits::TOKEN_BYTES + 1 - largest.len())
        );
        assert_eq!(verify_with(&larger, &secret()), Err(AuthError::Invalid));
    }

    #[test]
    fn claims_of_an_authenticators_own_are_bounded_like_those_of_a_token() {
        let claims = || Claims::new(Identity::parse("a").unwrap(), Millis(1));
        let granted = claims().with_topics(["team:a"]).unwrap().grant;
        assert!(granted.topics.holds("user:a") && granted.topics.holds("team:a"));
        assert!(claims().grant.topics.holds("user:a"));
        let reserved = Err(AuthError::Topics(TopicsError::Reserved));
        assert_eq!(claims().with_topics(["user:b"]), reserved);
        let context = |bytes: usize| claims().with_context(&format!("{:bytes$}", 1));
        assert!(context(limits::CONTEXT_BYTES).is_ok());
        assert!(context(limits::CONTEXT_BYTES + 1).is_err());
        assert!(claims().with_context("{").is_err());
        let told = |bytes: usize| claims().with_claims(&format!("{:bytes$}", "{}"));
        assert!(told(limits::CLAIMS_BYTES).is_ok());
        assert!(told(limits::CLAIMS_BYTES + 1).is_err());
        for bad in ["{", "[]", "1"] {
            assert_eq!(claims().with_claims(bad), Err(AuthError::Claim("claims")));
        }
    }

    const BOUND: &str = r#""sub":"a","exp":1800000000"#;

    #[test]
    fn issuer_and_audience_must_be_ours_where_they_are_set() {
        let both = Expected {
            issuers: vec!["https://id.test/".to_owned(), "us".to_owned()],
            audiences: vec!["tidewire".to_owned()],
        };
        let judge = |claims: &str| {
            let token = sign(r#"{"alg":"HS256"}"#, &format!("{{{BOUND}{claims}}}"));
            let verified = Jwt::parse(&token).unwrap().verify(&[secret()]).unwrap();
            verified.claims(&both, NOW).map(|_| ())
        };
        for good in [
            r#","iss":"us","aud":"tidewire""#,
            r#","iss":"https://id.test/","aud":["other","tidewire"]"#,
        ] {
            assert_eq!(judge(good), Ok(()), "{good}");
        }
        for (bad, claim) in [
            (r#","aud":"tidewire""#, "iss"),
            (r#","iss":"https://id.test","aud":"tidewire""#, "iss"),
            (r#","iss":null,"aud":"tidewire""#, "iss"),
            (r#","iss":"us""#, "aud"),
            (r#","iss":"us","aud":[]"#, "aud"),
            (r#","iss":"us","aud":["other"]"#, "aud"),
            (r#","iss":"us","aud":"Tidewire""#, "aud"),
        ] {
            assert_eq!(judge(bad), Err(AuthError::Claim(claim)), "{bad}");
        }
        assert_eq!(
            judge(r#","iss":["us"],"aud":"tidewire""#),
            Err(AuthError::Invalid)
        );
        assert!(
            verify(&format!("{{{BOUND},\"aud\":\"x\"}}")).is_ok(),
            "not demanded"
        );
    }

    #[test]
    fn each_secret_in_force_judges_and_no_other() {
        let token = sign(r#"{"alg":"HS256"}"#, &format!("{{{BOUND}}}"));
        let (new, old) = (Secret::new("new".to_owned()), secret());
        let judge = |secrets: &[Secret]| Jwt::parse(&token).unwrap().verify(secrets).is_ok();
        assert!(judge(&[new.clone(), old.clone()]) && judge(&[old, new.clone()]));
        assert!(!judge(&[new]) && !judge(&[]));
    }

    #[test]
    fn what_is_signed_verifies_with_the_same_secret_and_no_other() {
        let claims = serde_json::json!({ "sub": "a", "exp": 1_800_000_000 });
        let token = Jwt::sign(&secret(), &claims).unwrap();
        assert_eq!(
            token,
            sign(r#"{"alg":"HS256","typ":"JWT"}"#, &claims.to_string())
        );
        let judge = |secret: Secret| Jwt::parse(&token).unwrap().verify(&[secret]).is_ok();
        assert!(judge(secret()) && !judge(Secret::new("new".to_owned())));
    }

    #[test]
    fn a_key_judges_only_tokens_of_its_own_algorithm() {
        let key = r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"X"}]}"#;
        let keys = Jwks::parse(key).unwrap();
        let key = keys.find(Algorithm::EdDsa, None).unwrap();
        let token = |header: &str| sign(header, &format!("{{{BOUND}}}"));
        for (header, holds, accepted) in [
            (r#"{"alg":"EdDSA"}"#, true, true),
            (r#"{"alg":"EdDSA"}"#, false, false),
            (r#"{"alg":"ES256"}"#, true, false),
            (r#"{"alg":"RS256"}"#, true, false),
            (r#"{"alg":"HS256"}"#, true, false),
        ] {
            let token = token(header);
            let verified = Jwt::parse(&token).unwrap().verified_by(key, holds);
            assert_eq!(verified.is_ok(), accepted, "{header}");
        }
        // The public key as a secret, the classic confusion: there is no way to ask for it.
        let public = Secret::new(key.json().to_owned());
        let token = token(r#"{"alg":"HS256"}"#);
        assert!(Jwt::parse(&token).unwrap().verify(&[public]).is_err());
    }

    #[test]
    fn headers_that_bring_a_key_of_their_own_are_not_read() {
        let header = r#"{"alg":"HS256","jku":"https://evil.test","x5u":1,"x5c":[],
            "jwk":{"kty":"oct","k":"AA"}}"#;
        let token = sign(header, &format!("{{{BOUND}}}"));
        assert!(verify_with(&token, &secret()).is_ok());
        let evil = Secret::new("\0".to_owned());
        assert!(verify_with(&token, &evil).is_err());
    }

    #[test]
    fn a_token_for_a_channel_is_no_token_for_a_connection_nor_the_other_way_round() {
        let judge = |claims: &str| {
            let token = sign(r#"{"alg":"HS256"}"#, claims);
            let verified = Jwt::parse(&token).unwrap().verify(&[secret()]).unwrap();
            let expected = Expected::default();
            (
                verified.claims(&expected, NOW).map(|_| ()),
                verified.pass(&expected, NOW),
            )
        };
        let (claims, pass) = judge(&format!(r#"{{{BOUND},"channel":"room:1","write":true}}"#));
        assert_eq!(claims, Err(AuthError::Claim("channel")));
        let pass = pass.unwrap();
        assert_eq!((pass.channel.as_str(), pass.write), ("room:1", true));
        assert_eq!(pass.holder.unwrap().as_str(), "a");
        assert_eq!(pass.expires_at, Millis(1_800_000_000_000));
        let (claims, pass) = judge(&format!("{{{BOUND}}}"));
        assert_eq!(claims, Ok(()));
        assert_eq!(pass, Err(AuthError::Claim("channel")));
        for (bad, error) in [
            (r#"{"channel":"c"}"#, AuthError::Claim("exp")),
            (r#"{"channel":"c","exp":1700000000}"#, AuthError::Expired),
            (
                r#"{"channel":"","exp":1800000000}"#,
                AuthError::Claim("channel"),
            ),
            (
                r#"{"channel":"c","exp":1800000000,"sub":""}"#,
                AuthError::Claim("sub"),
            ),
            (
                r#"{"channel":"c","exp":1800000000,"write":1}"#,
                AuthError::Invalid,
            ),
        ] {
            assert_eq!(judge(bad).1, Err(error), "{bad}");
        }
        let (_, anyones) = judge(r#"{"channel":"c","exp":1800000000}"#);
        let anyones = anyones.unwrap();
        assert_eq!((anyones.holder, anyones.write), (None, false));
    }
}
