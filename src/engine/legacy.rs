//! What clients without a hello (@sveltebase/sync 1.4) say differently: times instead of cursors.

use chrono::{DateTime, NaiveDate, NaiveTime};
use serde_json::value::RawValue;

use crate::limits;
use crate::names::Millis;
use crate::protocol::text_of;

/// The `id` of a `reject` that refuses a subscription.
pub(super) const REFUSED_SUBSCRIPTION: &str = "subscribe";

/// How far behind the server's clock a client's newest row may have been stamped.
pub(super) const SINCE_MARGIN_MS: u64 = 60_000;

/// Reads `since`: milliseconds, or an ISO date with or without a time. `None` for anything else,
/// which asks for everything.
pub(super) fn since(raw: &RawValue) -> Option<Millis> {
    if let Some(text) = text_of(raw) {
        let millis = match DateTime::parse_from_rfc3339(&text) {
            Ok(time) => time.timestamp_millis(),
            Err(_) => {
                let date = text.parse::<NaiveDate>().ok()?;
                date.and_time(NaiveTime::MIN).and_utc().timestamp_millis()
            }
        };
        return u64::try_from(millis).ok().map(Millis);
    }
    let millis: f64 = serde_json::from_str(raw.get()).ok()?;
    let known = (0.0..=limits::SAFE_INTEGER as f64).contains(&millis);
    known.then_some(Millis(millis as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Option<u64> {
        since(&RawValue::from_string(json.to_owned()).unwrap()).map(|at| at.0)
    }

    #[test]
    fn since_is_milliseconds_or_an_iso_date() {
        assert_eq!(read("1780790400000"), Some(1_780_790_400_000));
        assert_eq!(read("1780790400000.75"), Some(1_780_790_400_000));
        assert_eq!(
            read("\"2026-06-07T00:00:00.000Z\""),
            Some(1_780_790_400_000)
        );
        assert_eq!(
            read("\"2026-06-07T02:00:00+02:00\""),
            Some(1_780_790_400_000)
        );
        assert_eq!(read("\"2026-06-07\""), Some(1_780_790_400_000));
    }

    #[test]
    fn anything_else_asks_for_everything() {
        for json in [
            "null",
            "-1",
            "1e300",
            "\"\"",
            "\"yesterday\"",
            "{}",
            "\"1780790400000\"",
            "\"1969-01-01\"",
        ] {
            assert_eq!(read(json), None, "{json}");
        }
    }
}
