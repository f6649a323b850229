//! Where a page ends: the time and the key of its last row, on their way through a client's cursor.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;

use super::cell::is_bindable;
use super::sql::text;
use crate::limits;
use crate::protocol::text_of;

/// What a row is compared with, as JSON to be bound. Whoever forges one moves where a page begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) time: String,
    pub(super) key: String,
}

impl Place {
    /// The place of a row; none where its time is no time.
    pub(super) fn of(time: &RawValue, key: &RawValue) -> Option<Self> {
        Self::checked(time.get(), key.get())
    }

    fn checked(time: &str, key: &str) -> Option<Self> {
        let is_time = time.len() <= limits::D1_TIME_BYTES && is_bindable(time) && time != "null";
        is_time.then(|| Self {
            time: time.to_owned(),
            key: key.to_owned(),
        })
    }

    pub(super) fn to_token(&self) -> String {
        let key = serde_json::from_str::<&RawValue>(&self.key).ok();
        let token = match key.and_then(text_of) {
            Some(key) => format!("{}\n{key}", self.time),
            // The number of a row.
            None => format!("{}\t{}", self.time, self.key),
        };
        URL_SAFE_NO_PAD.encode(token)
    }

    /// Reads what [`Self::to_token`] wrote; nothing else is a place.
    pub(super) fn read(token: &str, is_number: bool) -> Option<Self> {
        let token = String::from_utf8(URL_SAFE_NO_PAD.decode(token).ok()?).ok()?;
        let between = if is_number { '\t' } else { '\n' };
        let (time, key) = token.split_once(between)?;
        serde_json::from_str::<&RawValue>(time).ok()?;
        let key = match is_number {
            true => key.parse::<i64>().ok()?.to_string(),
            false => text(key),
        };
        Self::checked(time, &key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    fn of(time: &str, key: &str) -> Option<Place> {
        Place::of(&raw(time), &raw(key))
    }

    #[test]
    fn a_token_leads_back_and_is_bounded() {
        let time = format!("\"{}\"", "t".repeat(limits::D1_TIME_BYTES - 2));
        let key = text(&"\"".repeat(limits::KEY_BYTES));
        for (time, key, is_number) in [
            ("1700000000000", "\"k\\n\"", false),
            (r#""2026-01-31T12:00:00.000Z""#, "\"é\"", false),
            ("5", "-7", true),
            (time.as_str(), key.as_str(), false),
        ] {
            let place = of(time, key).unwrap();
            let token = place.to_token();
            assert!(token.len() <= limits::SOURCE_TOKEN_BYTES, "{time}");
            assert_eq!(Place::read(&token, is_number), Some(place));
            assert_eq!(Place::read(&token, !is_number), None);
        }
        assert_eq!(
            of(
                &format!("\"{}\"", "t".repeat(limits::D1_TIME_BYTES - 1)),
                "\"k\""
            ),
            None
        );
    }

    #[test]
    fn what_is_no_time_is_no_place() {
        for time in ["null", "[1]", "true", "{}"] {
            assert_eq!(of(time, "\"k\""), None, "{time}");
            let forged = URL_SAFE_NO_PAD.encode(format!("{time}\nk"));
            assert_eq!(Place::read(&forged, false), None, "{time}");
        }
        for forged in ["", "!", "eA", &URL_SAFE_NO_PAD.encode("1, 2\nk")] {
            assert_eq!(Place::read(forged, false), None, "{forged}");
        }
    }
}
