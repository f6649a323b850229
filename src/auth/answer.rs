//! What the app's own endpoint answers of a session: `AUTH_SERVICE` or `AUTH_URL`.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{AuthError, Claims};
use crate::limits;
use crate::names::{Identity, Millis, Space};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer<'a> {
    identity: Option<String>,
    #[serde(default)]
    topics: Vec<String>,
    space: Option<String>,
    expires_at: Option<u64>,
    issued_at: Option<u64>,
    #[serde(borrow)]
    context: Option<&'a RawValue>,
}

/// Reads `{"identity","topics"?,"space"?,"expiresAt","issuedAt"?,"context"?}`, times in
/// milliseconds. `identity: null` is a visitor without a session.
///
/// Where the answer does not say when the session began, it counts as begun now: the app has just
/// vouched for it, so a `/disconnect` of before does not hold against it.
///
/// # Errors
/// [`AuthError`] names the field that is missing or wrong.
pub fn read_answer(json: &str, now: Millis) -> Result<Option<Claims>, AuthError> {
    if json.len() > limits::AUTH_ANSWER_BYTES {
        return Err(AuthError::Answer);
    }
    let answer: Answer<'_> = serde_json::from_str(json).map_err(|_| AuthError::Answer)?;
    let Some(identity) = &answer.identity else {
        return Ok(None);
    };
    let identity = Identity::parse(identity).map_err(|_| AuthError::Claim("identity"))?;
    let known = |at: &u64| *at <= limits::SAFE_INTEGER;
    let expires_at = answer.expires_at.filter(known).map(Millis);
    let expires_at = expires_at.ok_or(AuthError::Claim("expiresAt"))?;
    if expires_at <= now {
        return Err(AuthError::Expired);
    }
    let topics = answer.topics.iter().map(String::as_str);
    let mut claims = Claims::new(identity, expires_at)
        .issued_at(answer.issued_at.map_or(now, Millis).min(now))
        .with_topics(topics)?;
    if let Some(context) = answer.context {
        claims = claims.with_context(context.get())?;
    }
    if let Some(space) = &answer.space {
        claims = claims.in_space(Space::parse(space).map_err(|_| AuthError::Claim("space"))?);
    }
    Ok(Some(claims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audience::TopicsError;

    const NOW: Millis = Millis(1_700_000_000_000);

    #[test]
    fn an_answer_grants_what_it_says() {
        let answer = r#"{"identity":"alice","topics":["team:a"],"space":"x",
            "expiresAt":1700000000001,"issuedAt":1600000000000,"context":{"plan": "pro"}}"#;
        let claims = read_answer(answer, NOW).unwrap().unwrap();
        assert_eq!(claims.grant.identity.as_ref().unwrap().as_str(), "alice");
        assert!(claims.grant.topics.holds("user:alice") && claims.grant.topics.holds("team:a"));
        assert_eq!(claims.grant.expires_at, Some(Millis(1_700_000_000_001)));
        assert_eq!(claims.grant.issued_at, Millis(1_600_000_000_000));
        assert_eq!(claims.grant.context.as_deref(), Some(r#"{"plan": "pro"}"#));
        assert_eq!(claims.space.unwrap().as_str(), "x");
        let fresh = read_answer(r#"{"identity":"a","expiresAt":1800000000000}"#, NOW);
        assert_eq!(fresh.unwrap().unwrap().grant.issued_at, NOW);
    }

    #[test]
    fn a_visitor_without_a_session_is_nobody() {
        assert_eq!(read_answer(r#"{"identity":null}"#, NOW), Ok(None));
        assert_eq!(read_answer("{}", NOW), Ok(None));
    }

    #[test]
    fn a_wrong_answer_opens_nothing() {
        let of = |json: &str| read_answer(json, NOW).unwrap_err();
        for json in [
            "",
            "[]",
            "null",
            "1",
            r#"{"identity":1}"#,
            r#"{"identity":"a","identity":"b"}"#,
        ] {
            assert_eq!(of(json), AuthError::Answer, "{json}");
        }
        for (rest, error) in [
            ("", AuthError::Claim("expiresAt")),
            (r#","expiresAt":null"#, AuthError::Claim("expiresAt")),
            (
                r#","expiresAt":9007199254740992"#,
                AuthError::Claim("expiresAt"),
            ),
            (r#","expiresAt":"2030-01-01""#, AuthError::Answer),
            (r#","expiresAt":1700000000000"#, AuthError::Expired),
            (
                r#","expiresAt":1800000000000,"space":"A""#,
                AuthError::Claim("space"),
            ),
            (
                r#","expiresAt":1800000000000,"topics":["user:b"]"#,
                AuthError::Topics(TopicsError::Reserved),
            ),
        ] {
            assert_eq!(of(&format!(r#"{{"identity":"a"{rest}}}"#)), error, "{rest}");
        }
        let empty = r#"{"identity":"","expiresAt":1800000000000}"#;
        assert_eq!(of(empty), AuthError::Claim("identity"));
    }

    #[test]
    fn context_and_answer_hold_at_their_bounds_and_not_past_them() {
        let with = |bytes: usize, pad: usize| {
            let context = format!("\"{}\"", "x".repeat(bytes - 2));
            let pad = " ".repeat(pad);
            format!(r#"{{"identity":"a","expiresAt":1800000000000,"context":{context}}}{pad}"#)
        };
        assert!(read_answer(&with(limits::CONTEXT_BYTES, 0), NOW).is_ok());
        let past = read_answer(&with(limits::CONTEXT_BYTES + 1, 0), NOW);
        assert_eq!(past, Err(AuthError::Claim("context")));
        let room = limits::AUTH_ANSWER_BYTES - with(2, 0).len();
        assert!(read_answer(&with(2, room), NOW).is_ok());
        assert_eq!(read_answer(&with(2, room + 1), NOW), Err(AuthError::Answer));
    }
}
