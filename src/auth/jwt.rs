//! A token's outer shape: which algorithm and key it names, and whether its signature holds.
//!
//! The algorithm decides which kind of key may judge, and a [`Verified`] payload comes from
//! nowhere else than from a signature that held: `none` has no variant, a public key can never
//! be taken for a secret, and the headers `jku`, `jwk`, `x5u` and `x5c` are not even read.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::Mac;
use serde::{Deserialize, Serialize};

use super::jwks::Jwk;
use super::{AuthError, Secret};
use crate::limits;
use crate::protocol::from_object;

/// The signature algorithms that tokens may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// HMAC with SHA-256, by `JWT_SECRET`.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256, by a key of `JWKS_URL`.
    Rs256,
    /// ECDSA on P-256 with SHA-256, by a key of `JWKS_URL`.
    Es256,
    /// Ed25519, by a key of `JWKS_URL`.
    EdDsa,
}

impl Algorithm {
    /// Reads a header's `alg`.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name {
            "HS256" => Some(Self::Hs256),
            "RS256" => Some(Self::Rs256),
            "ES256" => Some(Self::Es256),
            "EdDSA" | "Ed25519" => Some(Self::EdDsa),
            _ => None,
        }
    }

    /// The algorithm's name in Web Crypto.
    #[must_use]
    pub fn web_crypto_name(self) -> &'static str {
        match self {
            Self::Hs256 => "HMAC",
            Self::Rs256 => "RSASSA-PKCS1-v1_5",
            Self::Es256 => "ECDSA",
            Self::EdDsa => "Ed25519",
        }
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    /// Extensions that the verifier must understand; this one understands none.
    crit: Option<serde::de::IgnoredAny>,
}

/// A token whose signature has not been judged yet. It tells nothing of its payload.
#[derive(Debug)]
pub struct Jwt<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    signed: &'a str,
    payload: &'a str,
    signature: Vec<u8>,
}

/// The payload of a token whose signature held.
#[derive(Debug)]
pub struct Verified(pub(super) Vec<u8>);

fn decode(part: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthError::Invalid)
}

/// Reads a part of a token: a JSON object.
pub(super) fn read<'a, T: Deserialize<'a>>(part: &'a [u8]) -> Result<T, AuthError> {
    let json = std::str::from_utf8(part).map_err(|_| AuthError::Invalid)?;
    from_object(json).map_err(|_| AuthError::Invalid)
}

impl<'a> Jwt<'a> {
    /// Reads the shape of a token.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] for what is no token of at most [`limits::TOKEN_BYTES`], or wants
    /// an algorithm or an extension that this server does not know.
    pub fn parse(token: &'a str) -> Result<Self, AuthError> {
        if token.len() > limits::TOKEN_BYTES {
            return Err(AuthError::Invalid);
        }
        let (signed, signature) = token.rsplit_once('.').ok_or(AuthError::Invalid)?;
        let (header, payload) = signed.split_once('.').ok_or(AuthError::Invalid)?;
        let header = decode(header)?;
        let header: Header = read(&header)?;
        if header.crit.is_some() {
            return Err(AuthError::Invalid);
        }
        Ok(Self {
            algorithm: Algorithm::parse(&header.alg).ok_or(AuthError::Invalid)?,
            kid: header.kid,
            signed,
            payload,
            signature: decode(signature)?,
        })
    }

    /// The algorithm that the token names. It chooses the kind of key, never the key.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The id of the key that signed it, if it says.
    #[must_use]
    pub fn kid(&self) -> Option<&str> {
        self.kid.as_deref()
    }

    /// What was signed.
    #[must_use]
    pub fn signed(&self) -> &'a str {
        self.signed
    }

    /// The signature.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Judges an HS256 token by the secrets that are in force. Only a secret can do that.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] unless it is HS256 and one of the secrets signed it.
    pub fn verify(self, secrets: &[Secret]) -> Result<Verified, AuthError> {
        let signed_by = |secret: &Secret| {
            let mac = secret.mac()?.chain_update(self.signed.as_bytes());
            mac.verify_slice(&self.signature).ok()
        };
        let known = secrets.iter().any(|secret| signed_by(secret).is_some());
        if self.algorithm != Algorithm::Hs256 || !known {
            return Err(AuthError::Invalid);
        }
        decode(self.payload).map(Verified)
    }

    /// Takes the platform's judgement: whether `key` made the signature. Only a public key of the
    /// token's own algorithm can do that.
    ///
    /// # Errors
    /// [`AuthError::Invalid`] if it did not, or if the key is of another algorithm.
    pub fn verified_by(self, key: &Jwk, holds: bool) -> Result<Verified, AuthError> {
        if !holds || key.algorithm() != self.algorithm || self.algorithm == Algorithm::Hs256 {
            return Err(AuthError::Invalid);
        }
        decode(self.payload).map(Verified)
    }
    /// A token of these claims, signed with a secret: what `parse` and `verify` read. For the sign-in
    /// of the demo; tokens of an app are made by its own backend. `None` only if the claims are no JSON.
    #[must_use]
    pub fn sign(secret: &Secret, claims: &impl Serialize) -> Option<String> {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
        let payload = URL_SAFE_NO_PAD.encode(serde_json::to_string(claims).ok()?);
        let signed = format!("{header}.{payload}");
        let signature = secret.mac()?.chain_update(&signed).finalize().into_bytes();
        Some(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
    }
}
