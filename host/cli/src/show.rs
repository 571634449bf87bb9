//! Values as people read them.

use proffer_model::{Bundle, Duration, Timestamp};

/// `1m02s`, `3.4s`, `250ms`.
pub(crate) fn span(span: Duration) -> String {
    let milliseconds = span.0;
    let seconds = milliseconds / 1_000;
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..=59 => format!("{seconds}.{}s", milliseconds % 1_000 / 100),
        60..=3_599 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3_600..=86_399 => format!("{}h{:02}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// How long ago; `-` if never.
pub(crate) fn ago(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "-".to_owned(), |then| span(now.since(then)))
}

/// Thousandths as a percentage.
pub(crate) fn share(milli: u32) -> String {
    format!("{}.{}%", milli / 10, milli % 10)
}

/// What is used of each kind: `cpus 1.5/4  mem 256/8192`.
pub(crate) fn used_of(used: &Bundle, total: &Bundle) -> String {
    let parts = total.amounts().map(|(kind, all)| {
        let own = used.amounts().find(|(own, _)| *own == kind);
        let own = own.map_or_else(|| "0".to_owned(), |(_, amount)| amount.to_string());
        format!("{kind} {own}/{all}")
    });
    parts.collect::<Vec<_>>().join("  ")
}

/// The beginning of a digest, as much as tells components apart.
pub(crate) fn short_digest(digest: &str) -> String {
    match digest.strip_prefix("sha256:") {
        Some(hex) => format!("sha256:{}", hex.get(..12).unwrap_or(hex)),
        None if digest.is_empty() => "native".to_owned(),
        None => digest.to_owned(),
    }
}

/// `1.2 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut tenths = count.saturating_mul(10);
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths /= 1_024;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count} B");
    }
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// Reads `64KiB`, `1MiB`, `1000`.
pub(crate) fn parse_bytes(text: &str) -> Result<u64, String> {
    let wanted = || format!("'{text}' is not a size: wanted bytes, as in 4096, 64KiB or 1MiB");
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wanted())?;
    let scale: u64 = match unit.trim() {
        "" | "B" => 1,
        "KiB" | "K" => 1 << 10,
        "MiB" | "M" => 1 << 20,
        "GiB" | "G" => 1 << 30,
        _ => return Err(wanted()),
    };
    number.checked_mul(scale).ok_or_else(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_sizes_and_shares_are_short() {
        let shown =
            [0, 250, 1_000, 3_456, 62_000, 3_725_000, 90_000_000].map(|ms| span(Duration(ms)));
        assert_eq!(
            shown,
            ["0ms", "250ms", "1.0s", "3.4s", "1m02s", "1h02m", "1d01h"]
        );
        let sizes = [0, 1_023, 1_024, 1_300_000, u64::MAX].map(bytes);
        assert_eq!(
            sizes,
            ["0 B", "1023 B", "1.0 KiB", "1.2 MiB", "1677721.5 TiB"]
        );
        assert_eq!(
            [0, 5, 333, 1_000].map(share),
            ["0.0%", "0.5%", "33.3%", "100.0%"]
        );
        assert_eq!(
            short_digest(&format!("sha256:{}", "ab".repeat(32))),
            "sha256:abababababab"
        );
    }

    #[test]
    fn sizes_are_read_with_their_units() {
        for (text, size) in [
            ("0", 0),
            ("1KiB", 1_024),
            ("64KiB", 65_536),
            ("2 MiB", 2 << 20),
            ("1G", 1 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(size));
        }
        for bad in ["", "KiB", "1kb", "-1", "1.5MiB", "99999999999G"] {
            assert!(parse_bytes(bad).unwrap_err().contains("64KiB"));
        }
    }

    #[test]
    fn use_is_shown_per_kind() {
        let total: Bundle = "cpus:4;mem:100".parse().unwrap();
        let used: Bundle = "cpus:1.5".parse().unwrap();
        assert_eq!(used_of(&used, &total), "cpus 1.5/4  mem 0/100");
    }
}
