//! Times as a table keeps them.

use chrono::DateTime;
use serde_json::value::RawValue;

use crate::limits::{DAY_MS, SAFE_INTEGER};
use crate::names::Millis;
use crate::protocol::text_of;

/// How a column keeps times, by its declared type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clock {
    /// Milliseconds since the epoch: a type with INT in it.
    Millis,
    /// `2026-01-31T12:00:00.000Z`: any other.
    Iso,
}

impl Clock {
    pub(super) fn of(declared: &str) -> Self {
        match declared.to_ascii_uppercase().contains("INT") {
            true => Self::Millis,
            false => Self::Iso,
        }
    }

    /// A time, to be bound.
    pub(super) fn at(self, time: Millis) -> String {
        match self {
            Self::Millis => time.0.to_string(),
            Self::Iso => format!("\"{}T{}Z\"", date(time), of_day(time, true)),
        }
    }

    /// The time now, but later than the one that a row has: whoever has read the row can tell.
    pub(super) fn after(self, held: &RawValue, now: Millis) -> String {
        let held = match self {
            Self::Millis => serde_json::from_str(held.get()).ok(),
            Self::Iso => text_of(held).and_then(|text| {
                let time = DateTime::parse_from_rfc3339(&text).ok()?;
                u64::try_from(time.timestamp_millis()).ok()
            }),
        };
        // What is no time cannot be equal to one.
        let held = held.filter(|held| *held < SAFE_INTEGER);
        self.at(held.map_or(now, |held| now.max(Millis(held + 1))))
    }

    /// What no time from then on is less than. `CURRENT_TIMESTAMP` writes whole seconds, and a space
    /// that comes before any `T`: so of texts it is the whole rest of the day.
    pub(super) fn since(self, time: Millis) -> String {
        match self {
            Self::Millis => self.at(time),
            Self::Iso => format!("\"{} {}\"", date(time), of_day(time, false)),
        }
    }
}

/// The date of a time in UTC, by Hinnant's `civil_from_days`.
fn date(time: Millis) -> String {
    let days = time.0 / DAY_MS + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

fn of_day(time: Millis, with_millis: bool) -> String {
    let (seconds, millis) = (time.0 / 1000, time.0 % 1000);
    let (hour, minute) = (seconds / 3600 % 24, seconds / 60 % 60);
    let text = format!("{hour:02}:{minute:02}:{:02}", seconds % 60);
    match with_millis {
        true => format!("{text}.{millis:03}"),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(json: &str) -> Box<RawValue> {
        RawValue::from_string(json.to_owned()).unwrap()
    }

    #[test]
    fn dates_are_those_of_the_calendar() {
        for day in (0..80_000)
            .step_by(13)
            .chain([11_016, 11_017, 47_540, 47_541])
        {
            let time = Millis(day * DAY_MS + 3_723_004);
            let iso = Clock::Iso.at(time);
            let text = iso.trim_matches('"');
            assert_eq!(text.len(), 24);
            let read = DateTime::parse_from_rfc3339(text).unwrap();
            assert_eq!(read.timestamp_millis() as u64, time.0, "{text}");
        }
        assert_eq!(
            Clock::Iso.at(Millis(951_782_400_000)),
            "\"2000-02-29T00:00:00.000Z\""
        );
        assert_eq!(Clock::Millis.at(Millis(5)), "5");
    }

    #[test]
    fn the_declared_type_tells_how_times_are_kept() {
        for (declared, clock) in [
            ("INTEGER", Clock::Millis),
            ("bigint", Clock::Millis),
            ("TEXT", Clock::Iso),
            ("DATETIME", Clock::Iso),
            ("", Clock::Iso),
        ] {
            assert_eq!(Clock::of(declared), clock, "{declared}");
        }
    }

    #[test]
    fn a_row_gets_a_later_time_whatever_it_has() {
        let now = Millis(1_000);
        for (clock, held, after) in [
            (Clock::Millis, "999", "1000"),
            (Clock::Millis, "1000", "1001"),
            (Clock::Millis, "5000", "5001"),
            (Clock::Millis, "9007199254740991", "1000"),
            (Clock::Millis, "-1", "1000"),
            (Clock::Millis, "\"x\"", "1000"),
            (
                Clock::Iso,
                "\"1970-01-01T00:00:01.000Z\"",
                "\"1970-01-01T00:00:01.001Z\"",
            ),
            (
                Clock::Iso,
                "\"1970-01-01 00:00:01\"",
                "\"1970-01-01T00:00:01.000Z\"",
            ),
            (Clock::Iso, "\"\"", "\"1970-01-01T00:00:01.000Z\""),
            (Clock::Iso, "7", "\"1970-01-01T00:00:01.000Z\""),
        ] {
            assert_eq!(clock.after(&raw(held), now), after, "{held}");
        }
    }

    #[test]
    fn nothing_that_was_written_since_is_less() {
        let then = Millis(1_700_000_000_123);
        let since = Clock::Iso.since(then);
        assert_eq!(since, "\"2023-11-14 22:13:20\"");
        assert!(since <= Clock::Iso.at(then));
        assert_eq!(Clock::Millis.since(then), "1700000000123");
    }
}
