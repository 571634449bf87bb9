//! Instants as people write them: after a beginning, in UTC, or in milliseconds since 1970.

use std::str::FromStr;

use proffer_daemon::config::parse_span;
use proffer_model::{Duration, Timestamp};

/// A day in milliseconds.
const DAY_MS: u64 = Duration::DAY.0;
/// Days from 0000-03-01 to 1970-01-01, in the calendar that has always been ours.
const DAYS_BEFORE_1970: i64 = 719_468;
/// Days of 400 years.
const DAYS_OF_ERA: i64 = 146_097;

/// An instant, perhaps counted from a beginning that is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Instant {
    /// By the clock.
    At(Timestamp),
    /// After the beginning.
    After(Duration),
}

impl Instant {
    /// The instant, if that is the beginning.
    pub(crate) fn from(self, beginning: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::After(span) => beginning + span,
        }
    }
}

impl FromStr for Instant {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(span) = text.strip_prefix('+') {
            return parse_span(span).map(Self::After).map_err(str::to_owned);
        }
        if let Ok(milliseconds) = text.parse() {
            return Ok(Self::At(Timestamp(milliseconds)));
        }
        parse_utc(text).map(|at| Self::At(Timestamp(at))).ok_or_else(|| {
            "wanted +SPAN as in +90s, a time in UTC as in 2026-01-31T12:00:00Z, or milliseconds since 1970"
                .to_owned()
        })
    }
}

/// `2026-01-31T12:00:00.250Z`; seconds may have no fraction.
fn parse_utc(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let (time, fraction) = time.split_once('.').unwrap_or((time, "000"));
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time, ':')?;
    let milliseconds = number(fraction).filter(|_| fraction.len() == 3)?;
    let valid = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let of_day = ((hour * 60 + minute) * 60 + second) * 1_000 + milliseconds;
    let days = days_since_1970(year, month, day).filter(|_| valid)?;
    Some(days * DAY_MS + of_day)
}

fn numbers(text: &str, separator: char) -> Option<[u64; 3]> {
    let parts: Option<Vec<u64>> = text.split(separator).map(number).collect();
    parts?.try_into().ok()
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u64> {
    let digits = text.len() <= 4 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// Howard Hinnant's `days_from_civil`: years begin in March, so that a leap day is a year's last.
fn days_since_1970(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = i64::try_from(year).ok()? - i64::from(month <= 2);
    let (month, day) = (i64::try_from(month).ok()?, i64::try_from(day).ok()?);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let (era, year) = (year / 400, year % 400);
    let of_era = year * 365 + year / 4 - year / 100 + of_year;
    u64::try_from(era * DAYS_OF_ERA + of_era - DAYS_BEFORE_1970).ok()
}

/// An instant in UTC, to the millisecond.
pub(crate) fn utc(at: Timestamp) -> String {
    let (days, of_day) = (at.0 / DAY_MS, at.0 % DAY_MS);
    let days = i64::try_from(days).unwrap_or(0) + DAYS_BEFORE_1970;
    let (era, of_era) = (days / DAYS_OF_ERA, days % DAYS_OF_ERA);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (seconds, milliseconds) = (of_day / 1_000, of_day % 1_000);
    let (hour, minute, second) = (seconds / 3_600, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milliseconds:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_are_read_as_they_are_written() {
        for (text, at) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2000-02-29T23:59:59.999Z", 951_868_799_999),
            ("2026-11-23T02:13:00.000Z", 1_795_399_980_000),
            ("2100-03-01T00:00:00.250Z", 4_107_542_400_250),
        ] {
            assert_eq!(text.parse(), Ok(Instant::At(Timestamp(at))), "{text}");
            assert_eq!(utc(Timestamp(at)), text);
        }
        assert_eq!(
            "2000-02-29T00:00:00Z".parse(),
            Ok(Instant::At(Timestamp(951_782_400_000)))
        );
        assert_eq!("1500".parse(), Ok(Instant::At(Timestamp(1_500))));
        assert_eq!("+1m".parse(), Ok(Instant::After(Duration(60_000))));
        let after: Instant = "+1m".parse().unwrap();
        assert_eq!(after.from(Timestamp(5)), Timestamp(60_005));
        for bad in [
            "",
            "soon",
            "+",
            "+5",
            "2026-01-31",
            "2026-13-01T00:00:00Z",
            "2026-01-01T00:00Z",
            "2026-01-01T00:00:00.5Z",
            "2026-01-01T24:00:00Z",
            "-5",
            "2026-01-01T00:00:00",
        ] {
            bad.parse::<Instant>().unwrap_err();
        }
    }
}
