//! A grant on its way from the sync Worker to the object.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::audience::Topics;
use crate::names::{Identity, Millis};
use crate::session::Grant;

/// The header's content: JSON, in Base64 because a header's text is Latin-1. Nobody outside can
/// set it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Carried {
    identity: Option<Identity>,
    topics: Vec<String>,
    issued_at: Millis,
    expires_at: Option<Millis>,
    visitor: Option<String>,
    context: Option<String>,
    claims: Option<String>,
    handshake: Option<String>,
}

impl Grant {
    /// The grant as a header's value.
    ///
    /// # Errors
    /// Only if the encoder fails, which it does not for these types.
    pub fn to_header(&self) -> Result<String, serde_json::Error> {
        let carried = Carried {
            identity: self.identity.clone(),
            topics: self.granted_topics(),
            issued_at: self.issued_at,
            expires_at: self.expires_at,
            visitor: self.visitor.as_deref().map(str::to_owned),
            context: self.context.as_deref().map(str::to_owned),
            claims: self.claims.as_deref().map(str::to_owned),
            handshake: self.handshake.as_deref().map(str::to_owned),
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
            visitor: carried.visitor.map(Into::into),
            context: carried.context.map(Into::into),
            claims: carried.claims.map(Into::into),
            handshake: carried.handshake.map(Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_cross_a_header_unchanged() {
        let identity = Identity::parse("ålice 🌊").unwrap();
        let grant = Grant {
            topics: Topics::granted(Some(&identity), ["t"]).unwrap(),
            identity: Some(identity),
            issued_at: Millis(1),
            expires_at: Some(Millis(2)),
            visitor: Some("v".into()),
            context: Some(r#"{"plan":"ünï"}"#.into()),
            claims: Some(r#"{"sub":"ålice"}"#.into()),
            handshake: Some(r#"{"url":"https://a/ü","headers":{}}"#.into()),
        };
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
}
