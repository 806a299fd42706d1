//! Durations as Go writes them (`time.ParseDuration`): `5m`, `1h30m`, `1.5s`, `300ms`.

/// Nanoseconds of a duration; `None` when the text is none, or is negative or too long for Docker's 64-bit field.
pub(crate) fn nanoseconds(text: &str) -> Option<u64> {
    if text == "0" {
        return Some(0);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return None;
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(unit_at);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total = total.checked_add(scaled(number, unit_nanoseconds(unit)?)?)?;
        rest = after;
    }
    i64::try_from(total).ok().map(i64::unsigned_abs)
}

fn unit_nanoseconds(unit: &str) -> Option<u128> {
    Some(match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

fn scaled(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || number.len() > 38 {
        return None;
    }
    let parse = |digits: &str| if digits.is_empty() { Some(0) } else { digits.parse::<u128>().ok() };
    let fraction = &fraction[..fraction.len().min(15)];
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    parse(whole)?.checked_mul(unit)?.checked_add(parse(fraction)?.checked_mul(unit)? / divisor)
}

#[cfg(test)]
mod tests {
    use super::nanoseconds;

    #[test]
    fn reads_what_go_reads() {
        for (text, expected) in [
            ("0", Some(0)),
            ("5m", Some(300_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5s", Some(1_500_000_000)),
            (".5s", Some(500_000_000)),
            ("300ms", Some(300_000_000)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("-5s", None),
            ("1.2.3s", None),
            ("5 s", None),
            ("9999999999h", None),
        ] {
            assert_eq!(nanoseconds(text), expected, "{text}");
        }
    }
}
