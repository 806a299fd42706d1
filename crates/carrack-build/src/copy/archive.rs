//! `ADD` of an archive: whether a file is one, told by its content alone.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

use carrack_layer::compression::{Decompressed, auto};
use carrack_sys::IoContext;

use crate::Result;

/// A tar header block: its magic stands at this offset.
const HEADER_BYTES: usize = 512;
const MAGIC_AT: usize = 257;

/// The tar in `file`, decompressed; `None` when it is no archive. The file is then at its begin again.
pub(crate) fn open_archive<'f>(file: &'f File, path: &Path) -> Result<Option<Decompressed<'f>>> {
    let mut start = Vec::with_capacity(HEADER_BYTES);
    let read = auto(file).and_then(|(_, reader)| reader.take(HEADER_BYTES as u64).read_to_end(&mut start));
    let mut file = file;
    file.seek(SeekFrom::Start(0)).during("read", path)?;
    // What only begins as a compressed file does is copied as it is.
    if read.is_err() || !is_header(&start) {
        return Ok(None);
    }
    let (_, reader) = auto(file).during("read", path)?;
    Ok(Some(reader))
}

/// Whether a block is a tar header: `ustar` at its place, or (as in archives older than POSIX) a right checksum.
fn is_header(block: &[u8]) -> bool {
    if block.len() != HEADER_BYTES || block.iter().all(|byte| *byte == 0) {
        return false;
    }
    let field = String::from_utf8_lossy(&block[148..156]);
    let stored = u32::from_str_radix(field.trim_matches(|c: char| c == '\0' || c.is_whitespace()), 8).ok();
    let summed =
        |(index, byte): (usize, &u8)| if (148..156).contains(&index) { 32 } else { u32::from(*byte) };
    let sum: u32 = block.iter().enumerate().map(summed).sum();
    block[MAGIC_AT..].starts_with(b"ustar") || stored == Some(sum)
}
