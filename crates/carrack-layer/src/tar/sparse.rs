//! Sparse files in their four forms: GNU's old header, and PAX records of GNU versions 0.0, 0.1 and 1.0 (GNU tar
//! manual, "Sparse Formats").
//!
//! Invariant: the parts of a file are in order, do not overlap, lie within the file, and are together as long as the
//! data in the archive; there are at most [`MAX_SEGMENTS`].

use carrack_erofs::Segment;

use super::BLOCK_BYTES;
use super::header::Header;

/// The most parts of one file: 1 MiB of memory.
const MAX_SEGMENTS: usize = 1 << 16;
/// Files of Linux are no longer.
const MAX_SIZE: u64 = i64::MAX.cast_unsigned() - BLOCK_BYTES as u64;

type Result<T> = std::result::Result<T, String>;

/// The parts of a file, as they are read.
#[derive(Debug, Default)]
pub(super) struct Map {
    segments: Vec<Segment>,
    end: u64,
    count: usize,
}

impl Map {
    /// Takes the next part; one without data says nothing but where the file ends.
    pub fn add(&mut self, offset: u64, size_bytes: u64) -> Result<()> {
        let end = offset.checked_add(size_bytes).filter(|end| *end <= MAX_SIZE);
        let end = end.filter(|_| offset >= self.end).ok_or("a sparse file whose parts are not in order")?;
        self.count += 1;
        if self.count > MAX_SEGMENTS {
            return Err(format!("a sparse file of more than {MAX_SEGMENTS} parts"));
        }
        self.end = end;
        if size_bytes > 0 {
            self.segments.push(Segment { offset, size_bytes });
        }
        Ok(())
    }

    /// The parts of a file of `size_bytes`, of which `stored_bytes` are in the archive.
    pub fn finish(self, size_bytes: u64, stored_bytes: u64) -> Result<Vec<Segment>> {
        let sum: u64 = self.segments.iter().map(|segment| segment.size_bytes).sum(); // at most `end`
        if self.end > size_bytes || size_bytes > MAX_SIZE {
            return Err(format!("a sparse file of {size_bytes} bytes with data up to {}", self.end));
        }
        if sum != stored_bytes {
            return Err(format!("a sparse file whose parts have {sum} bytes, in an entry of {stored_bytes}"));
        }
        Ok(self.segments)
    }
}

/// What PAX records say of a sparse file.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub name: Option<Vec<u8>>,
    size_bytes: Option<u64>,
    version: (Option<u64>, Option<u64>),
    count: Option<u64>,
    offset: Option<u64>,
    map: Map,
}

impl Records {
    /// Takes a record whose key begins with `GNU.sparse.`, by the rest of the key.
    pub fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let number = || decimal(value).ok_or_else(|| format!("invalid PAX value of {}", key.escape_ascii()));
        match key {
            b"name" => self.name = Some(value.to_vec()).filter(|name| !name.is_empty() && !name.contains(&0)),
            b"major" => self.version.0 = Some(number()?),
            b"minor" => self.version.1 = Some(number()?),
            b"numblocks" => self.count = Some(number()?),
            b"size" | b"realsize" if self.size_bytes.is_some() => {
                return Err("two sizes of a sparse file".to_owned());
            }
            b"size" | b"realsize" => self.size_bytes = Some(number()?),
            b"offset" if self.offset.is_none() => self.offset = Some(number()?),
            b"numbytes" if self.offset.is_some() => {
                self.map.add(self.offset.take().unwrap_or_default(), number()?)?;
            }
            b"map" if self.map.count == 0 => {
                let mut numbers = value.split(|byte| *byte == b',');
                while let Some(offset) = numbers.next() {
                    let pair = decimal(offset).zip(numbers.next().and_then(decimal));
                    let (offset, size_bytes) = pair.ok_or("invalid PAX value of GNU.sparse.map")?;
                    self.map.add(offset, size_bytes)?;
                }
            }
            _ => return Err("sparse file of an unknown form".to_owned()),
        }
        Ok(())
    }

    /// Whether the map is at the beginning of the data (version 1.0).
    pub fn is_map_in_data(&self) -> Result<bool> {
        match self.version {
            (Some(1), Some(0)) if self.map.count == 0 && self.count.is_none() => Ok(true),
            (None, None) | (Some(0), Some(0 | 1)) if self.count.is_some() => Ok(false),
            _ => Err("sparse file of an unknown version".to_owned()),
        }
    }

    /// The length of the file.
    pub fn size_bytes(&self) -> Result<u64> {
        self.size_bytes.ok_or_else(|| "a sparse file without its size".to_owned())
    }

    /// The map that the records have themselves.
    pub fn into_map(self) -> Result<Map> {
        let is_complete =
            self.offset.is_none() && self.count.is_none_or(|count| count == self.map.count as u64);
        if is_complete { Ok(self.map) } else { Err("a sparse file whose map is not complete".to_owned()) }
    }
}

/// Adds the parts that a GNU header, or an extension of one, has; whether an extension follows.
pub(super) fn add_gnu(map: &mut Map, header: &Header<'_>, is_extension: bool) -> Result<bool> {
    let (start, count, flag) = if is_extension { (0, 21, 504) } else { (386, 4, 482) };
    for index in 0..count {
        let at = start + index * 24;
        if header.is_empty_at(at, 24) {
            break;
        }
        map.add(header.unsigned(at)?, header.unsigned(at + 12)?)?;
    }
    Ok(!header.is_empty_at(flag, 1))
}

/// A map at the beginning of data: decimal numbers, each with a line feed; how many parts, then these.
#[derive(Default)]
pub(super) struct DataMap {
    number: Option<u64>,
    offset: Option<u64>,
    /// Parts that are still to come; `None` before their number.
    left: Option<u64>,
    pub map: Map,
}

impl DataMap {
    /// Takes a block; whether it was the last one.
    pub fn take(&mut self, block: &[u8]) -> Result<bool> {
        for byte in block {
            match byte {
                b'0'..=b'9' => {
                    let next = self.number.unwrap_or(0).checked_mul(10);
                    self.number = next.and_then(|next| next.checked_add(u64::from(byte - b'0')));
                    self.number.ok_or("a number out of range in the map of a sparse file")?;
                }
                b'\n' => {
                    let number = self.number.take().ok_or("an empty line in the map of a sparse file")?;
                    if self.take_number(number)? {
                        return Ok(true);
                    }
                }
                _ => return Err("a map of a sparse file that is no number".to_owned()),
            }
        }
        Ok(false)
    }

    fn take_number(&mut self, number: u64) -> Result<bool> {
        match (self.left, self.offset.take()) {
            (None, _) => self.left = Some(number),
            (_, None) => {
                self.offset = Some(number);
                return Ok(false);
            }
            (Some(left), Some(offset)) => {
                self.map.add(offset, number)?;
                self.left = Some(left - 1);
            }
        }
        Ok(self.left == Some(0))
    }
}

fn decimal(value: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(value).ok()?;
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}
