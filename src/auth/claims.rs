//! What a token whose signature held says, and whether it holds here and now.

use serde::Deserialize;

use super::jwt::{self, Verified};
use super::{AuthError, Claims, Pass};
use crate::audience::Topics;
use crate::limits;
use crate::names::{Channel, Identity, Millis, Space};
use crate::session::Grant;

/// Whose tokens count, and for whom they must be. Empty lists demand nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// `JWT_ISSUER`: one of them must be the token's `iss`.
    pub issuers: Vec<String>,
    /// `JWT_AUDIENCE`: one of them must be among the token's `aud`.
    pub audiences: Vec<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Payload {
    sub: Option<String>,
    exp: Option<f64>,
    nbf: Option<f64>,
    iat: Option<f64>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
    topics: Option<Vec<String>>,
    space: Option<String>,
    channel: Option<String>,
    write: Option<bool>,
}

/// A claim of time, in seconds since 1970.
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
    fn read(token: &Verified) -> Result<Self, AuthError> {
        jwt::read(&token.0)
    }

    /// Whether the token is of our issuer, for us, and in force; until when it is.
    fn check(&self, expected: &Expected, now: Millis) -> Result<Millis, AuthError> {
        let ends = time("exp", self.exp)?.ok_or(AuthError::Claim("exp"))?;
        if ends <= now {
            return Err(AuthError::Expired);
        }
        let latest = now.plus(limits::TOKEN_LEEWAY_MS);
        if time("nbf", self.nbf)?.is_some_and(|at| at > latest) {
            return Err(AuthError::NotYet);
        }
        // A time that has not come could never be held against the token by `/disconnect`.
        if time("iat", self.iat)?.is_some_and(|at| at > latest) {
            return Err(AuthError::NotYet);
        }
        let listed = |list: &[String], text: &String| list.is_empty() || list.contains(text);
        if !expected.issuers.is_empty()
            && !(self.iss.as_ref()).is_some_and(|iss| listed(&expected.issuers, iss))
        {
            return Err(AuthError::Claim("iss"));
        }
        let audiences: &[String] = match &self.aud {
            None => &[],
            Some(OneOrMany::One(one)) => std::slice::from_ref(one),
            Some(OneOrMany::Many(many)) => many,
        };
        if !expected.audiences.is_empty()
            && !audiences.iter().any(|aud| listed(&expected.audiences, aud))
        {
            return Err(AuthError::Claim("aud"));
        }
        Ok(ends)
    }
}

impl Verified {
    /// What the token says of a connection.
    ///
    /// # Errors
    /// [`AuthError`] names the claim that is missing, wrong, or not met.
    pub fn claims(&self, expected: &Expected, now: Millis) -> Result<Claims, AuthError> {
        let payload = Payload::read(self)?;
        if payload.channel.is_some() {
            // A token for one channel opens no connection, although the same key signed it.
            return Err(AuthError::Claim("channel"));
        }
        let identity = payload.sub.as_deref().map(Identity::parse);
        let Some(Ok(identity)) = identity else {
            return Err(AuthError::Claim("sub"));
        };
        let expires_at = payload.check(expected, now)?;
        let granted = payload.topics.unwrap_or_default();
        let topics = Topics::granted(Some(&identity), granted.iter().map(String::as_str))?;
        let space = payload.space.as_deref().map(Space::parse).transpose();
        Ok(Claims {
            grant: Grant {
                identity: Some(identity),
                topics,
                // An issuer whose clock is ahead must not escape a refusal.
                issued_at: time("iat", payload.iat)?.unwrap_or_default().min(now),
                expires_at: Some(expires_at),
                visitor: None,
                context: None,
                claims: std::str::from_utf8(&self.0).ok().map(Into::into),
                handshake: None,
            },
            space: space.map_err(|_| AuthError::Claim("space"))?,
        })
    }

    /// What the token says of one channel.
    ///
    /// # Errors
    /// [`AuthError`] names the claim that is missing, wrong, or not met.
    pub fn pass(&self, expected: &Expected, now: Millis) -> Result<Pass, AuthError> {
        let payload = Payload::read(self)?;
        let channel = payload.channel.as_deref().map(Channel::parse);
        let Some(Ok(channel)) = channel else {
            return Err(AuthError::Claim("channel"));
        };
        let holder = payload.sub.as_deref().map(Identity::parse).transpose();
        let space = payload.space.as_deref().map(Space::parse).transpose();
        Ok(Pass {
            channel,
            space: space.map_err(|_| AuthError::Claim("space"))?,
            holder: holder.map_err(|_| AuthError::Claim("sub"))?,
            write: payload.write.unwrap_or_default(),
            issued_at: time("iat", payload.iat)?.unwrap_or_default().min(now),
            expires_at: payload.check(expected, now)?,
        })
    }
}
