//! One header block: its fields as numbers and names.
//!
//! Invariant: a number is either read exactly or refused; none wraps or is cut.

use super::BLOCK_BYTES;

/// Bytes that were not checked beyond the checksum of the block.
pub(super) struct Header<'block>(&'block [u8; BLOCK_BYTES]);

type Result<T> = std::result::Result<T, &'static str>;

impl<'block> Header<'block> {
    /// Takes a block whose checksum is right.
    pub fn new(block: &'block [u8; BLOCK_BYTES]) -> Result<Self> {
        let header = Self(block);
        let stored = header.number(148, 8)?;
        // Historical writers summed signed bytes.
        let right = stored == checksum(block, i32::from)
            || stored == checksum(block, |byte| i32::from(byte.cast_signed()));
        if right { Ok(header) } else { Err("wrong header checksum") }
    }

    /// Takes a block that has no checksum of its own: an extension of a sparse file's header.
    pub fn unchecked(block: &'block [u8; BLOCK_BYTES]) -> Self {
        Self(block)
    }

    /// A number of 12 bytes that is not negative.
    pub fn unsigned(&self, start: usize) -> Result<u64> {
        u64::try_from(self.number(start, 12)?).map_err(|_| "a negative number")
    }

    /// Whether bytes are all zero.
    pub fn is_empty_at(&self, start: usize, length: usize) -> bool {
        self.0[start..start + length].iter().all(|byte| *byte == 0)
    }

    /// Whether the fields after the link target are those of GNU tar's own format.
    pub fn is_gnu(&self) -> bool {
        &self.0[257..265] == b"ustar  \0"
    }

    pub fn type_flag(&self) -> u8 {
        self.0[156]
    }

    pub fn mode(&self) -> Result<u32> {
        Ok(u32::try_from(self.number(100, 8)? & 0o7777).unwrap_or_default())
    }

    pub fn uid(&self) -> Result<i64> {
        self.number(108, 8)
    }

    pub fn gid(&self) -> Result<i64> {
        self.number(116, 8)
    }

    pub fn size_bytes(&self) -> Result<u64> {
        u64::try_from(self.number(124, 12)?).map_err(|_| "negative size")
    }

    pub fn mtime(&self) -> Result<i64> {
        self.number(136, 12)
    }

    pub fn device(&self) -> Result<(u32, u32)> {
        let part = |start| u32::try_from(self.number(start, 8)?).map_err(|_| "device number out of range");
        Ok((part(329)?, part(337)?))
    }

    /// The name with the prefix that POSIX (155 bytes) and star (131 bytes) put in a field of its own.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.0[..100]);
        let prefix = match (&self.0[257..263], &self.0[508..]) {
            (b"ustar\0", b"tar\0") => text(&self.0[345..476]),
            (b"ustar\0", _) => text(&self.0[345..500]),
            _ => &[],
        };
        if prefix.is_empty() { name.to_vec() } else { [prefix, name].join(&b'/') }
    }

    pub fn link_target(&self) -> &'block [u8] {
        text(&self.0[157..257])
    }

    /// Octal digits, or GNU's base 256 when the top bit is set.
    fn number(&self, start: usize, length: usize) -> Result<i64> {
        let field = &self.0[start..start + length];
        if field[0] & 0x80 != 0 {
            return base_256(field);
        }
        let is_filler = |byte: &u8| matches!(byte, b' ' | 0);
        let begin = field.iter().position(|byte| !is_filler(byte)).unwrap_or(length);
        let digits = field[begin..].iter().take_while(|byte| !is_filler(byte));
        let mut value = 0i64;
        let mut count = 0;
        for digit in digits {
            if !(b'0'..=b'7').contains(digit) {
                return Err("a number that is not octal");
            }
            value = value * 8 + i64::from(digit - b'0'); // at most 12 digits: 36 bits
            count += 1;
        }
        match field[begin + count..].iter().all(is_filler) {
            true => Ok(value),
            false => Err("a number followed by other bytes"),
        }
    }
}

/// The sum of a block's bytes, those of the checksum taken as blanks.
fn checksum(block: &[u8; BLOCK_BYTES], value: impl Fn(u8) -> i32) -> i64 {
    // 512 bytes do not overflow; checks of that would keep the sum from being done many bytes at a time.
    let sum = |bytes: &[u8]| bytes.iter().fold(0i32, |sum, byte| sum.wrapping_add(value(*byte)));
    i64::from(sum(block) - sum(&block[148..156]) + 8 * i32::from(b' '))
}

fn base_256(field: &[u8]) -> Result<i64> {
    let negative = field[0] & 0x40 != 0;
    let mut value = if negative { -1i128 } else { 0 };
    for (index, byte) in field.iter().enumerate() {
        let byte = if index == 0 && !negative { byte & 0x7f } else { *byte };
        value = (value << 8) | i128::from(byte); // at most 12 bytes: 96 bits
    }
    i64::try_from(value).map_err(|_| "a number out of range")
}

/// The bytes before the first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}
