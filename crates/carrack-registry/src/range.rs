//! Byte ranges: what a client asks of a blob (RFC 9110, section 14) and what it says a chunk is (distribution-spec,
//! "Pushing a blob in chunks").

/// Which bytes of a blob to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Selection {
    /// No range was asked, or one that RFC 9110 lets a server ignore (other units, several ranges).
    Whole,
    /// `length` bytes from `start`, inside the blob.
    Part {
        /// The first byte.
        start: u64,
        /// How many, at least one.
        length: u64,
    },
    /// Begins behind the blob's end.
    Unsatisfiable,
}

/// Reads a `Range` header for a blob of `size_bytes`.
pub(crate) fn select(header: Option<&str>, size_bytes: u64) -> Selection {
    let Some(set) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Selection::Whole;
    };
    let Some((first, last)) = set.trim().split_once('-') else { return Selection::Whole };
    let bounds = match (number(first), number(last)) {
        (Some(start), None) if last.is_empty() => (start, size_bytes.saturating_sub(1)),
        (Some(start), Some(last)) if start <= last => (start, last.min(size_bytes.saturating_sub(1))),
        (None, Some(0)) if first.is_empty() => return Selection::Unsatisfiable,
        (None, Some(suffix)) if first.is_empty() => {
            (size_bytes.saturating_sub(suffix), size_bytes.saturating_sub(1))
        }
        _ => return Selection::Whole,
    };
    let (start, last) = bounds;
    if start >= size_bytes {
        Selection::Unsatisfiable
    } else {
        Selection::Part { start, length: last - start + 1 }
    }
}

/// Reads the `Content-Range` of a chunk, `<first>-<last>`: the first byte's position and the number of bytes.
pub(crate) fn parse_chunk(text: &str) -> Option<(u64, u64)> {
    let (first, last) = text.trim().split_once('-')?;
    let (first, last) = (number(first)?, number(last)?);
    Some((first, last.checked_sub(first)?.checked_add(1)?))
}

/// Digits only: `+1` and ` 1`, which `parse` would take, are not numbers here.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects_by_rfc_9110() {
        let part = |start, length| Selection::Part { start, length };
        for (header, selection) in [
            ("bytes=0-0", part(0, 1)),
            ("bytes=2-", part(2, 8)),
            ("bytes=-3", part(7, 3)),
            ("bytes=-99", part(0, 10)),
            ("bytes=5-99", part(5, 5)),
            ("bytes=0-18446744073709551615", part(0, 10)),
            ("bytes=10-", Selection::Unsatisfiable),
            ("bytes=10-11", Selection::Unsatisfiable),
            ("bytes=-0", Selection::Unsatisfiable),
            ("bytes=5-4", Selection::Whole),
            ("bytes=0-1,3-4", Selection::Whole),
            ("bytes=+1-2", Selection::Whole),
            ("bytes=99999999999999999999-", Selection::Whole),
            ("bytes=-", Selection::Whole),
            ("lines=0-1", Selection::Whole),
        ] {
            assert_eq!(select(Some(header), 10), selection, "{header}");
        }
        assert_eq!(select(Some("bytes=0-"), 0), Selection::Unsatisfiable);
        assert_eq!(select(Some("bytes=-1"), 0), Selection::Unsatisfiable);
        assert_eq!(select(None, 10), Selection::Whole);
    }

    #[test]
    fn reads_chunks() {
        assert_eq!(parse_chunk("0-9"), Some((0, 10)));
        assert_eq!(parse_chunk("10-10"), Some((10, 1)));
        for text in ["", "-", "5-4", "0-18446744073709551615", "-1-2", "1", "a-b", "bytes 0-1/2"] {
            assert_eq!(parse_chunk(text), None, "{text}");
        }
    }
}
