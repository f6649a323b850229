//! Who somebody is: tokens, their claims, key sets and the app's answers. Nothing counts that was
//! not signed, and what counts says what its text says.
//!
//! An input is tried as each of them; for a token that is signed, its first line is the header and
//! the rest the payload.

#![no_main]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use sha2::Sha256;
use tidewire::{
    Algorithm, Claims, Expected, Identity, Jwks, Jwt, Millis, Secret, Space, limits, read_answer,
};

const NOW: Millis = Millis(1_800_000_000_000);
const SECRET: &str = "a secret of this target";

const ALGORITHMS: [Algorithm; 4] = [
    Algorithm::Hs256,
    Algorithm::Rs256,
    Algorithm::Es256,
    Algorithm::EdDsa,
];

fuzz_target!(|text: &str| {
    let keys = key_set(text);
    unsigned(text, &keys);
    if let Some((header, payload)) = text.split_once('\n') {
        signed(header, payload, &keys);
    }
    answer(text);
});

/// One public key of each algorithm that has them.
fn keys() -> Jwks {
    let n = "n".repeat(342);
    let json = format!(
        r#"{{"keys":[{{"kty":"RSA","n":"{n}","e":"AQAB"}},
        {{"kty":"EC","crv":"P-256","x":"X","y":"Y"}},{{"kty":"OKP","crv":"Ed25519","x":"X"}}]}}"#
    );
    Jwks::parse(&json).unwrap()
}

fn key_set(text: &str) -> Jwks {
    let Ok(set) = Jwks::parse(text) else {
        return keys();
    };
    assert!(text.len() <= limits::JWKS_BYTES);
    let document: Value = serde_json::from_str(text).unwrap_or_default();
    let written = document["keys"].as_array().cloned().unwrap_or_default();
    assert!(written.len() <= limits::JWKS_KEYS);
    let kids = written.iter().map(|key| key["kid"].as_str());
    for kid in kids.chain([None]) {
        assert_eq!(set.find(Algorithm::Hs256, kid), None);
        for algorithm in ALGORITHMS {
            let Some(key) = set.find(algorithm, kid) else {
                continue;
            };
            assert_eq!(key.algorithm(), algorithm);
            let json: Value = serde_json::from_str(key.json()).unwrap();
            let public = ["kty", "crv", "n", "e", "x", "y"];
            let mut members = json.as_object().unwrap().iter();
            assert!(
                members.all(|(name, value)| public.contains(&name.as_str()) && value.is_string())
            );
        }
    }
    set
}

/// What nobody has signed is not verified, whichever key is asked.
fn unsigned(text: &str, keys: &Jwks) {
    let Ok(jwt) = Jwt::parse(text) else {
        return;
    };
    assert!(text.len() <= limits::TOKEN_BYTES && text.starts_with(jwt.signed()));
    assert!(jwt.verify(&[Secret::new(SECRET.to_owned())]).is_err());
    refused_by_keys(text, keys);
}

/// A public key judges tokens of its own algorithm alone, and only those whose signature held.
fn refused_by_keys(token: &str, keys: &Jwks) {
    let jwt = || Jwt::parse(token).unwrap();
    let own = jwt().algorithm();
    for key in ALGORITHMS.iter().filter_map(|of| keys.find(*of, None)) {
        assert!(jwt().verified_by(key, false).is_err());
        if key.algorithm() != own || own == Algorithm::Hs256 {
            assert!(jwt().verified_by(key, true).is_err());
        }
    }
}

fn signed(header: &str, payload: &str, keys: &Jwks) {
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(header), part(payload));
    let mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    let tag = mac.chain_update(signed.as_bytes()).finalize().into_bytes();
    let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag));
    let Ok(jwt) = Jwt::parse(&token) else {
        return;
    };
    let secret = || Secret::new(SECRET.to_owned());
    let other = Secret::new("another".to_owned());
    let names: Value = serde_json::from_str(header).unwrap_or_default();
    if let Some(alg) = names["alg"].as_str() {
        assert_eq!(alg == "HS256", jwt.algorithm() == Algorithm::Hs256);
        assert_eq!(names["kid"].as_str(), jwt.kid());
        assert_eq!(names["crit"], Value::Null);
    }
    refused_by_keys(&token, keys);
    assert!(Jwt::parse(&token).unwrap().verify(&[other]).is_err());
    // Neither another payload nor a header of its own goes with the signature.
    let tag = URL_SAFE_NO_PAD.encode(tag);
    for forged in [
        format!("{signed}AAAA.{tag}"),
        format!("{}.{}.{tag}", part(r#"{"alg":"HS256" }"#), part(payload)),
    ] {
        if let Ok(jwt) = Jwt::parse(&forged) {
            assert!(jwt.verify(&[secret()]).is_err());
        }
    }
    let is_ours = jwt.algorithm() == Algorithm::Hs256;
    let verified = jwt.verify(&[secret()]);
    assert_eq!(verified.is_ok(), is_ours);
    let Ok(verified) = verified else {
        return;
    };
    let (claims, pass) = (
        verified.claims(&Expected::default(), NOW),
        verified.pass(&Expected::default(), NOW),
    );
    assert!(
        claims.is_err() || pass.is_err(),
        "for a connection or for a channel"
    );
    let strict = Expected {
        issuers: vec!["us".to_owned()],
        audiences: vec!["here".to_owned()],
    };
    let Ok(said) = serde_json::from_str::<Value>(payload) else {
        return;
    };
    if verified.claims(&strict, NOW).is_ok() {
        assert!(claims.is_ok() && said["iss"] == "us");
        assert!(said["aud"] == "here" || said["aud"].as_array().unwrap().contains(&"here".into()));
    }
    if let Ok(claims) = claims {
        assert_eq!(said["channel"], Value::Null);
        granted(&claims, &said["sub"], &said);
        let expires_at = claims.grant.expires_at.unwrap();
        assert!(said["exp"].as_f64().unwrap() * 1000.0 >= expires_at.0 as f64);
    }
    if let Ok(pass) = pass {
        assert_eq!(said["channel"], pass.channel.as_str());
        assert_eq!(
            said["sub"].as_str(),
            pass.holder.as_ref().map(Identity::as_str)
        );
        assert_eq!(said["write"].as_bool().unwrap_or_default(), pass.write);
        assert_eq!(
            said["space"].as_str(),
            pass.space.as_ref().map(Space::as_str)
        );
        assert!(pass.expires_at > NOW);
    }
}

/// What was granted is what was said, and within its bounds.
fn granted(claims: &Claims, identity: &Value, said: &Value) {
    let grant = &claims.grant;
    let user = grant.identity.as_ref().unwrap();
    assert_eq!(*identity, user.as_str());
    assert!(grant.topics.holds(user.topic().as_str()));
    let named = said["topics"].as_array().cloned().unwrap_or_default();
    let own = user.topic();
    let mut others = grant.topics.iter().filter(|topic| **topic != own);
    assert!(others.all(|topic| named.iter().any(|name| name == topic.as_str())));
    assert!(
        named
            .iter()
            .all(|name| grant.topics.holds(name.as_str().unwrap()))
    );
    let reserved = |name: &str| name == "all" || name.starts_with("user:");
    assert!(!named.iter().any(|name| reserved(name.as_str().unwrap())));
    assert!(grant.topics.iter().count() <= limits::TOPICS + 1);
    assert!(grant.issued_at <= NOW && grant.expires_at.unwrap() > NOW);
    assert!(grant.expires_at.unwrap().0 <= limits::SAFE_INTEGER);
    assert_eq!(
        said["space"].as_str(),
        claims.space.as_ref().map(Space::as_str)
    );
}

fn answer(text: &str) {
    let Ok(Some(claims)) = read_answer(text, NOW) else {
        return;
    };
    assert!(text.len() <= limits::AUTH_ANSWER_BYTES);
    let context = claims.grant.context.as_deref().unwrap_or_default();
    assert!(context.len() <= limits::CONTEXT_BYTES);
    if let Ok(said) = serde_json::from_str::<Value>(text) {
        granted(&claims, &said["identity"], &said);
        assert_eq!(
            said["expiresAt"].as_u64(),
            claims.grant.expires_at.map(|at| at.0)
        );
        if !context.is_empty() {
            assert_eq!(
                said["context"],
                serde_json::from_str::<Value>(context).unwrap()
            );
        }
    }
}
