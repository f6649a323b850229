//! `/restore`: to which time, or to which bookmark of the platform's history.

use chrono::DateTime;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::codec::{from_object, text_of};
use super::error::Problem;
use crate::limits;
use crate::names::Millis;

/// What a space is restored to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreBody {
    /// As it was at a time of the last 30 days.
    Time(Millis),
    /// A bookmark that an earlier restore answered with.
    Bookmark(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    at: Option<&'a RawValue>,
    bookmark: Option<String>,
}

impl RestoreBody {
    /// Reads `{"at": <milliseconds, or text after RFC 3339>}` or `{"bookmark": …}`.
    ///
    /// # Errors
    /// `malformed` for anything else, `invalid` for a time that cannot be gone back to.
    pub fn read(body: &str, now: Millis) -> Result<Self, Problem> {
        let shape = || Problem::malformed("the body must be {\"at\": …} or {\"bookmark\": …}");
        let written: Written<'_> = from_object(body).map_err(|_| shape())?;
        match (written.at, written.bookmark) {
            (Some(at), None) => {
                let at = time_of(at).ok_or_else(|| {
                    let what = "must be milliseconds, or a time such as 2026-06-07T12:00:00Z";
                    Problem::invalid("at", what)
                })?;
                if at > now || at < now.minus(limits::RESTORE_MS) {
                    return Err(Problem::invalid("at", "must be in the last 30 days"));
                }
                Ok(Self::Time(at))
            }
            (None, Some(bookmark)) => {
                let plain = bookmark.bytes().all(|byte| byte.is_ascii_graphic());
                if !plain || !(1..=limits::BOOKMARK_BYTES).contains(&bookmark.len()) {
                    return Err(Problem::invalid("bookmark", "is none"));
                }
                Ok(Self::Bookmark(bookmark))
            }
            (Some(_), Some(_)) | (None, None) => Err(shape()),
        }
    }
}

fn time_of(at: &RawValue) -> Option<Millis> {
    let Some(text) = text_of(at) else {
        return serde_json::from_str(at.get()).ok().map(Millis);
    };
    let time = DateTime::parse_from_rfc3339(&text).ok()?;
    u64::try_from(time.timestamp_millis()).ok().map(Millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-06-07T00:00:00Z.
    const NOW: Millis = Millis(1_780_790_400_000);

    fn read(body: &str) -> Result<RestoreBody, Problem> {
        RestoreBody::read(body, NOW)
    }

    #[test]
    fn a_time_is_milliseconds_or_text_of_the_last_30_days() {
        let hour = NOW.minus(3_600_000);
        let oldest = NOW.minus(limits::RESTORE_MS);
        for (at, time) in [
            (hour.0.to_string(), hour),
            ("\"2026-06-06T23:00:00Z\"".to_owned(), hour),
            ("\"2026-06-07T01:00:00.000+02:00\"".to_owned(), hour),
            (NOW.0.to_string(), NOW),
            (oldest.0.to_string(), oldest),
        ] {
            let body = format!("{{\"at\":{at}}}");
            assert_eq!(read(&body), Ok(RestoreBody::Time(time)), "{at}");
        }
        for at in [
            (NOW.0 + 1).to_string(),
            (oldest.0 - 1).to_string(),
            "-1".to_owned(),
            "1.5".to_owned(),
            "\"yesterday\"".to_owned(),
            "\"1969-01-01T00:00:00Z\"".to_owned(),
            "[]".to_owned(),
        ] {
            let problem = read(&format!("{{\"at\":{at}}}")).unwrap_err();
            assert_eq!(problem.field.as_deref(), Some("at"), "{at}");
        }
    }

    #[test]
    fn a_bookmark_is_plain_text_up_to_its_bound() {
        let longest = "b".repeat(limits::BOOKMARK_BYTES);
        let of = |bookmark: &str| read(&format!("{{\"bookmark\":{bookmark:?}}}"));
        assert_eq!(of(&longest), Ok(RestoreBody::Bookmark(longest.clone())));
        for bad in ["", "a b", "ü", &format!("{longest}b")] {
            assert_eq!(of(bad).unwrap_err().field.as_deref(), Some("bookmark"));
        }
    }

    #[test]
    fn it_is_one_of_the_two_and_nothing_else() {
        for body in [
            "",
            "[]",
            "{}",
            r#"{"at":null}"#,
            r#"{"at":1,"bookmark":"b"}"#,
            r#"{"bookmark":1}"#,
            r#"{"at":1,"x":1}"#,
        ] {
            assert!(read(body).is_err(), "{body}");
        }
    }
}
