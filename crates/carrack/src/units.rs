//! Sizes, durations and times as people write and read them.

use jiff::Timestamp;

/// Parses `512m`, `1.5g`, `64MiB`, `1000`: binary units, as Docker reads memory sizes.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: expected a number with b, k, m, g or t, as in 512m");
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|symbol: char| !symbol.is_ascii_digit() && symbol != '.').unwrap_or(lower.len());
    let number: f64 = lower[..digits].parse().map_err(|_| wrong())?;
    let power = match lower[digits..].trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024_f64.powi(power);
    if bytes.is_finite() && bytes < i64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// Parses the number of CPUs (`1.5`) into billionths of a CPU.
pub fn parse_cpus(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no number of CPUs: expected one above 0, as in 1.5");
    let cpus: f64 = text.parse().map_err(|_| wrong())?;
    if cpus > 0.0 && cpus < 1e6 { Ok((cpus * 1e9) as u64) } else { Err(wrong()) }
}

/// `12.3MB`: decimal units with three significant digits, as Docker shows the size of an image.
pub fn format_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "kB", "MB", "GB", "TB", "PB", "EB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1000.0 {
            break;
        }
        (value, unit) = (value / 1000.0, next);
    }
    let decimals = if unit == "B" || value >= 100.0 {
        0
    } else if value >= 10.0 {
        1
    } else {
        2
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// `12.3MiB`: binary units with four significant digits, as Docker shows memory.
pub fn format_binary(bytes: u64) -> String {
    let mut value = bytes as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    for next in units {
        if value < 1024.0 {
            break;
        }
        (value, unit) = (value / 1024.0, next);
    }
    let decimals = match value {
        ..10.0 => 3,
        ..100.0 => 2,
        ..1000.0 => 1,
        _ => 0,
    };
    let text = format!("{value:.decimals$}");
    let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{text}{unit}")
}

/// `3 hours`: how long something has lasted, in Docker's words.
pub fn format_duration(seconds: i64) -> String {
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    match seconds {
        ..=0 => "Less than a second".to_owned(),
        1 => "1 second".to_owned(),
        2..60 => format!("{seconds} seconds"),
        60..120 => "About a minute".to_owned(),
        120..2760 => format!("{minutes} minutes"),
        2760..5400 => "About an hour".to_owned(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 14 => format!("{} days", hours / 24),
        _ if hours < 24 * 60 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

/// `3 hours ago`
pub fn format_ago(then: Timestamp) -> String {
    format!("{} ago", format_duration(Timestamp::now().as_second() - then.as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_sizes() {
        for (text, bytes) in [
            ("0", 0),
            ("1000", 1000),
            ("1k", 1024),
            ("512m", 512 << 20),
            ("1.5g", 3 << 29),
            ("64MiB", 64 << 20),
            ("2gb", 2 << 30),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes));
        }
        for text in ["", "m", "-1", "1x", "1e400", "99999999999t"] {
            assert!(parse_bytes(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn writes_sizes_and_durations_as_docker() {
        let sizes = [0, 999, 1000, 1234, 12_345, 123_456, 4_260_000, 999_900_000].map(format_bytes);
        assert_eq!(sizes, ["0B", "999B", "1kB", "1.23kB", "12.3kB", "123kB", "4.26MB", "1000MB"]);
        let sizes = [0, 512, 1024, 1_572_864, 16 << 20, 1_111_111_111].map(format_binary);
        assert_eq!(sizes, ["0B", "512B", "1KiB", "1.5MiB", "16MiB", "1.035GiB"]);
        let durations = [0, 1, 59, 60, 150, 3600, 7200, 86400 * 3, 86400 * 30].map(format_duration);
        let expected = [
            "Less than a second",
            "1 second",
            "59 seconds",
            "About a minute",
            "2 minutes",
            "About an hour",
            "2 hours",
            "3 days",
            "4 weeks",
        ];
        assert_eq!(durations, expected);
    }
}
