//! The public keys of an identity provider (RFC 7517), and when to ask for them again.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::jwt::Algorithm;
use crate::limits;
use crate::names::Millis;
use crate::protocol::{from_object, object};

/// One public key, of one algorithm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Jwk {
    kid: Option<String>,
    algorithm: Algorithm,
    json: String,
}

impl Jwk {
    /// The only algorithm that this key judges.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The key's public numbers and nothing else, as a JWK for Web Crypto.
    #[must_use]
    pub fn json(&self) -> &str {
        &self.json
    }
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(borrow)]
    keys: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
struct Written {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

impl Written {
    /// The key, if it is one that judges signatures by an algorithm of ours. A document holds
    /// others, too: for encryption, or of kinds that nobody here knows.
    fn key(self) -> Option<Jwk> {
        let signs = self.purpose.as_deref().is_none_or(|used| used == "sig")
            && (self.key_ops.as_ref()).is_none_or(|ops| ops.iter().any(|op| op == "verify"));
        let crv = self.crv.as_deref();
        let (algorithm, members) = match (self.kty.as_str(), crv) {
            ("RSA", None) => {
                // Zeros before it make no modulus larger.
                let size = |n: &String| n.trim_start_matches('A').len();
                let n = self.n.filter(|n| size(n) >= limits::RSA_MODULUS_CHARS)?;
                (Algorithm::Rs256, vec![("n", n), ("e", self.e?)])
            }
            ("EC", Some("P-256")) => {
                let numbers = vec![("crv", "P-256".to_owned()), ("x", self.x?), ("y", self.y?)];
                (Algorithm::Es256, numbers)
            }
            ("OKP", Some("Ed25519")) => {
                let numbers = vec![("crv", "Ed25519".to_owned()), ("x", self.x?)];
                (Algorithm::EdDsa, numbers)
            }
            _ => return None,
        };
        let fits = (self.alg.as_deref()).is_none_or(|alg| Algorithm::parse(alg) == Some(algorithm));
        (signs && fits).then(|| Jwk {
            kid: self.kid,
            algorithm,
            json: object(|o| {
                o.text("kty", &self.kty);
                members.iter().for_each(|(name, text)| o.text(name, text));
            }),
        })
    }
}

/// Why a document is no key set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JwksError {
    /// It is larger than [`limits::JWKS_BYTES`] or holds more than [`limits::JWKS_KEYS`] keys.
    #[error("the key set is too large")]
    TooLarge,
    /// It is no JSON object with a list `keys`.
    #[error("the key set is no JSON object with a list `keys`")]
    Shape,
    /// None of its keys judges signatures by RS256, ES256 or EdDSA.
    #[error("the key set holds no key for RS256, ES256 or EdDSA signatures")]
    NoKey,
}

/// A set of public keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Jwks(Vec<Jwk>);

impl Jwks {
    /// Reads a key set. Keys that are not for signatures of a known algorithm are left out.
    ///
    /// # Errors
    /// [`JwksError`] says why nothing of it can be used.
    pub fn parse(json: &str) -> Result<Self, JwksError> {
        if json.len() > limits::JWKS_BYTES {
            return Err(JwksError::TooLarge);
        }
        let document: Document<'_> = from_object(json).map_err(|_| JwksError::Shape)?;
        if document.keys.len() > limits::JWKS_KEYS {
            return Err(JwksError::TooLarge);
        }
        let key = |raw: &&RawValue| from_object::<Written>(raw.get()).ok()?.key();
        let keys: Vec<Jwk> = document.keys.iter().filter_map(key).collect();
        if keys.is_empty() {
            return Err(JwksError::NoKey);
        }
        Ok(Self(keys))
    }

    /// The key that a token names. One that names none is judged by the only key of its algorithm;
    /// where there are several, by none.
    #[must_use]
    pub fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Option<&Jwk> {
        let fits =
            |key: &&Jwk| key.algorithm == algorithm && (kid.is_none() || key.kid.as_deref() == kid);
        let mut found = self.0.iter().filter(fits);
        match (found.next(), found.next()) {
            (Some(key), None) => Some(key),
            _ => None,
        }
    }
}

/// What to do for a token that names a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Judge it by this key.
    Key(Jwk),
    /// Ask for the key set: call [`KeyCache::begin`], then [`KeyCache::end`], and look again.
    Fetch,
    /// Somebody else is asking: look again soon.
    Wait,
    /// There is no such key, and it was asked for just now.
    Unknown,
    /// The key set cannot be had.
    Unavailable,
}

/// The key set of `JWKS_URL` as it was last seen.
///
/// Fresh for [`limits::JWKS_FRESH_MS`]; a key that is not in it has it asked for again, but not
/// more than once in [`limits::JWKS_PAUSE_MS`], whatever tokens claim. While the provider cannot be
/// reached, the keys hold for [`limits::JWKS_STALE_MS`].
#[derive(Debug, Default)]
pub struct KeyCache {
    keys: Jwks,
    /// When the keys came.
    seen_at: Option<Millis>,
    /// When they were last asked for: when that began, then when it ended.
    asked_at: Option<Millis>,
    /// Whether the last question is still open.
    asking: bool,
}

impl KeyCache {
    /// What to do for a token that names a key.
    #[must_use]
    pub fn look_up(&self, algorithm: Algorithm, kid: Option<&str>, now: Millis) -> Lookup {
        let since = |at: Option<Millis>| at.map_or(u64::MAX, |at| now.0.saturating_sub(at.0));
        let (age, pause) = (since(self.seen_at), since(self.asked_at));
        let key = self.keys.find(algorithm, kid);
        let key = key.filter(|_| age < limits::JWKS_STALE_MS);
        let asking = self.asking && pause < limits::JWKS_ASKER_MS;
        let wait_ms = match self.seen_at {
            Some(_) => limits::JWKS_PAUSE_MS,
            None => limits::JWKS_RETRY_MS,
        };
        match key {
            Some(key) if age < limits::JWKS_FRESH_MS || asking || pause < wait_ms => {
                Lookup::Key(key.clone())
            }
            _ if asking => Lookup::Wait,
            _ if pause >= wait_ms => Lookup::Fetch,
            _ if age < limits::JWKS_STALE_MS => Lookup::Unknown,
            _ => Lookup::Unavailable,
        }
    }

    /// Notes that the key set is being asked for.
    pub fn begin(&mut self, now: Millis) {
        (self.asked_at, self.asking) = (Some(now), true);
    }

    /// Notes what came of it. After a failure the keys of before stay.
    pub fn end(&mut self, keys: Option<Jwks>, now: Millis) {
        // From now: a question that was slow to fail is not asked again at once.
        (self.asked_at, self.asking) = (Some(now), false);
        if let Some(keys) = keys {
            (self.keys, self.seen_at) = (keys, Some(now));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = r#"{"kty":"RSA","kid":"r","use":"sig","alg":"RS256","n":"N","e":"AQAB"}"#;
    const EC: &str = r#"{"kty":"EC","kid":"e","crv":"P-256","x":"X","y":"Y"}"#;
    const ED: &str = r#"{"kty":"OKP","kid":"d","crv":"Ed25519","x":"X","key_ops":["verify"]}"#;

    fn with_modulus(json: &str) -> String {
        json.replace(
            "\"N\"",
            &format!("\"{}\"", "n".repeat(limits::RSA_MODULUS_CHARS)),
        )
    }

    fn set(keys: &[&str]) -> Result<Jwks, JwksError> {
        Jwks::parse(&with_modulus(&format!(
            r#"{{"keys":[{}],"public_cert":{{}}}}"#,
            keys.join(",")
        )))
    }

    #[test]
    fn a_key_is_found_by_algorithm_and_id_and_carries_nothing_but_public_numbers() {
        let keys = set(&[RSA, EC, ED]).unwrap();
        for (algorithm, kid) in [
            (Algorithm::Rs256, "r"),
            (Algorithm::Es256, "e"),
            (Algorithm::EdDsa, "d"),
        ] {
            assert_eq!(
                keys.find(algorithm, Some(kid)).unwrap().algorithm(),
                algorithm
            );
            assert_eq!(keys.find(algorithm, None), keys.find(algorithm, Some(kid)));
            assert_eq!(keys.find(Algorithm::Hs256, Some(kid)), None);
            assert_eq!(keys.find(algorithm, Some("other")), None);
        }
        assert_eq!(
            keys.find(Algorithm::Rs256, Some("e")),
            None,
            "another key's id"
        );
        let leaky = EC.replace("\"x\"", "\"d\":\"private\",\"ext\":true,\"x\"");
        let keys = set(&[&leaky]).unwrap();
        let key = keys.find(Algorithm::Es256, None).unwrap();
        assert_eq!(key.json(), r#"{"kty":"EC","crv":"P-256","x":"X","y":"Y"}"#);
    }

    #[test]
    fn without_an_id_only_a_single_key_judges() {
        let keys = set(&[EC, &EC.replace("\"e\"", "\"f\"")]).unwrap();
        assert_eq!(keys.find(Algorithm::Es256, None), None);
        assert!(keys.find(Algorithm::Es256, Some("f")).is_some());
        let doubled = set(&[EC, EC]).unwrap();
        assert_eq!(doubled.find(Algorithm::Es256, Some("e")), None);
    }

    #[test]
    fn keys_for_other_things_are_left_out() {
        for other in [
            RSA.replace("\"sig\"", "\"enc\""),
            RSA.replace("RS256", "RS512"),
            RSA.replace("RS256", "HS256"),
            RSA.replace("\"N\"", "\"short\""),
            RSA.replace("\"N\"", &format!("\"{}short\"", "A".repeat(400))),
            EC.replace("P-256", "P-384"),
            EC.replace(",\"y\":\"Y\"", ""),
            ED.replace("Ed25519", "X25519"),
            ED.replace("verify", "sign"),
            r#"{"kty":"oct","kid":"e","k":"secret"}"#.to_owned(),
            r#"["OKP",null,null,null,null,"Ed25519",null,null,"X",null]"#.to_owned(),
            "{}".to_owned(),
            "1".to_owned(),
        ] {
            assert_eq!(set(&[&other]), Err(JwksError::NoKey), "{other}");
            assert!(set(&[&other, EC]).is_ok(), "{other}");
        }
    }

    #[test]
    fn a_document_is_bounded() {
        // Serde alone would take fields by their places.
        let by_place = format!("[[{EC}]]");
        for shape in [
            "",
            "[]",
            "{}",
            r#"{"keys":{}}"#,
            r#"{"keys":null}"#,
            &by_place,
        ] {
            assert_eq!(Jwks::parse(shape), Err(JwksError::Shape), "{shape}");
        }
        let many = |n: usize| {
            set(&vec!["{}"; n - 1]
                .into_iter()
                .chain([EC])
                .collect::<Vec<_>>())
        };
        assert!(many(limits::JWKS_KEYS).is_ok());
        assert_eq!(many(limits::JWKS_KEYS + 1), Err(JwksError::TooLarge));
        let long = |n: usize| {
            let bare = format!(r#"{{"keys":[{EC}],"p":""}}"#);
            let pad = "x".repeat(n - bare.len());
            Jwks::parse(&bare.replace("\"p\":\"", &format!("\"p\":\"{pad}")))
        };
        assert!(long(limits::JWKS_BYTES).is_ok());
        assert_eq!(long(limits::JWKS_BYTES + 1), Err(JwksError::TooLarge));
    }

    #[test]
    fn keys_are_asked_for_once_and_again_when_they_are_old() {
        let mut cache = KeyCache::default();
        let look = |cache: &KeyCache, at| cache.look_up(Algorithm::Es256, Some("e"), Millis(at));
        assert_eq!(look(&cache, 0), Lookup::Fetch);
        cache.begin(Millis(0));
        assert_eq!(look(&cache, 1), Lookup::Wait);
        assert_eq!(look(&cache, limits::JWKS_ASKER_MS - 1), Lookup::Wait);
        assert_eq!(
            look(&cache, limits::JWKS_ASKER_MS),
            Lookup::Fetch,
            "its asker died"
        );
        cache.end(set(&[EC]).ok(), Millis(5));
        assert!(matches!(look(&cache, 6), Lookup::Key(_)));
        let old = 5 + limits::JWKS_FRESH_MS;
        assert!(matches!(look(&cache, old - 1), Lookup::Key(_)));
        assert_eq!(look(&cache, old), Lookup::Fetch);
        cache.begin(Millis(old));
        assert!(
            matches!(look(&cache, old + 1), Lookup::Key(_)),
            "nobody waits for what is there"
        );
    }

    #[test]
    fn an_unknown_key_is_asked_for_at_most_once_a_minute() {
        let mut cache = KeyCache::default();
        cache.begin(Millis(0));
        cache.end(set(&[EC]).ok(), Millis(0));
        let look = |cache: &KeyCache, at| cache.look_up(Algorithm::EdDsa, Some("d"), Millis(at));
        assert_eq!(look(&cache, limits::JWKS_PAUSE_MS - 1), Lookup::Unknown);
        assert_eq!(look(&cache, limits::JWKS_PAUSE_MS), Lookup::Fetch);
        cache.begin(Millis(limits::JWKS_PAUSE_MS));
        assert_eq!(look(&cache, limits::JWKS_PAUSE_MS), Lookup::Wait);
        cache.end(set(&[EC, ED]).ok(), Millis(limits::JWKS_PAUSE_MS));
        assert!(matches!(
            look(&cache, limits::JWKS_PAUSE_MS),
            Lookup::Key(_)
        ));
    }

    #[test]
    fn a_provider_that_lets_everybody_wait_is_left_alone_for_a_while() {
        let mut cache = KeyCache::default();
        let look = |cache: &KeyCache, at| cache.look_up(Algorithm::Es256, Some("e"), Millis(at));
        cache.begin(Millis(0));
        let failed = limits::AUTH_TIMEOUT_MS.max(limits::JWKS_RETRY_MS);
        cache.end(None, Millis(failed));
        assert_eq!(look(&cache, failed), Lookup::Unavailable);
        assert_eq!(look(&cache, failed + limits::JWKS_RETRY_MS), Lookup::Fetch);
    }

    #[test]
    fn while_the_provider_is_away_its_keys_hold_for_a_while() {
        let mut cache = KeyCache::default();
        cache.begin(Millis(0));
        cache.end(None, Millis(0));
        let look = |cache: &KeyCache, at| cache.look_up(Algorithm::Es256, Some("e"), Millis(at));
        assert_eq!(look(&cache, limits::JWKS_RETRY_MS - 1), Lookup::Unavailable);
        assert_eq!(look(&cache, limits::JWKS_RETRY_MS), Lookup::Fetch);
        cache.end(set(&[EC]).ok(), Millis(10_000));
        let mut at = 10_000 + limits::JWKS_FRESH_MS;
        while at < 10_000 + limits::JWKS_STALE_MS {
            assert_eq!(look(&cache, at), Lookup::Fetch);
            cache.begin(Millis(at));
            cache.end(None, Millis(at));
            assert!(matches!(look(&cache, at), Lookup::Key(_)));
            at += limits::JWKS_PAUSE_MS;
        }
        cache.begin(Millis(at));
        cache.end(None, Millis(at));
        assert_eq!(look(&cache, at), Lookup::Unavailable);
    }
}
