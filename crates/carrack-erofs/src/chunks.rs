//! Where the data of a file are: equally long chunks, each at a block of a device or a hole.
//!
//! Invariant: a map of any file costs at most [`MAX_CHUNKS`] numbers, however long it says the file is.

use crate::inode::NO_BLOCK;
use crate::{BLOCK_BYTES, Error, Result};

/// The most chunks of one file: 512 KiB of an index.
const MAX_CHUNKS: u64 = 1 << 16;
/// The format has 5 bits for the size of a chunk in blocks.
const MAX_CHUNK_BITS: u32 = 40;

/// The data of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunks<'a> {
    /// The length of the file.
    pub size_bytes: u64,
    /// The length of a chunk as a power of two.
    pub bits: u8,
    /// The block at which each chunk begins.
    pub blocks: &'a [u32],
}

/// A part of a file that has data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where it is in the file.
    pub offset: u64,
    /// How long it is; not 0.
    pub size_bytes: u64,
}

/// Finds the chunks of a file of `size_bytes` whose `segments` lie one after the other at `start` of the device. `None`
/// is a file without holes. The chunks are put into `blocks`.
pub fn place<'b>(
    size_bytes: u64,
    segments: Option<&[Segment]>,
    start: u64,
    blocks: &'b mut Vec<u32>,
) -> Result<Chunks<'b>> {
    blocks.clear();
    let whole = [Segment { offset: 0, size_bytes }];
    let segments = segments.unwrap_or(if size_bytes == 0 { &[] } else { &whole });
    let bits = chunk_bits(size_bytes, segments)?;
    let count = size_bytes.div_ceil(1 << bits);
    if count > MAX_CHUNKS {
        let reason = format!("a file that needs {count} chunks, more than {MAX_CHUNKS}");
        return Err(Error::Unsupported { reason });
    }
    blocks.resize(usize::try_from(count).unwrap_or_default(), NO_BLOCK);
    let mut block = start / BLOCK_BYTES;
    for segment in segments {
        let first = segment.offset >> bits;
        for chunk in first..(segment.offset + segment.size_bytes).div_ceil(1 << bits) {
            let place = u32::try_from(block + ((chunk - first) << bits) / BLOCK_BYTES);
            let place = place.ok().filter(|place| *place < NO_BLOCK);
            let slot = usize::try_from(chunk).ok().and_then(|chunk| blocks.get_mut(chunk));
            *slot.ok_or_else(unaligned)? =
                place.ok_or(Error::TooLarge { what: "bytes of a layer", limit: BLOCK_BYTES << 32 })?;
        }
        block += segment.size_bytes.div_ceil(BLOCK_BYTES);
    }
    let bits = u8::try_from(bits).unwrap_or_default();
    Ok(Chunks { size_bytes, bits, blocks })
}

/// The largest chunk whose multiples all segments begin and end at; where the file ends is free.
fn chunk_bits(size_bytes: u64, segments: &[Segment]) -> Result<u32> {
    let covering = size_bytes.max(BLOCK_BYTES).next_power_of_two().trailing_zeros();
    let last_end = segments.last().map_or(0, |last| last.offset + last.size_bytes);
    let mut edges = 0;
    for segment in segments {
        edges |= segment.offset;
        let end = segment.offset + segment.size_bytes;
        if end != last_end {
            edges |= end;
        }
    }
    // What follows the last segment is a hole, which must not be read from the device.
    if last_end != size_bytes {
        edges |= last_end;
    }
    let bits = covering.min(if edges == 0 { MAX_CHUNK_BITS } else { edges.trailing_zeros() });
    if bits < BLOCK_BYTES.trailing_zeros() {
        return Err(unaligned());
    }
    Ok(bits.min(MAX_CHUNK_BITS))
}

fn unaligned() -> Error {
    Error::Unsupported {
        reason: format!("a sparse file whose parts are no multiples of {BLOCK_BYTES} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn placed(size_bytes: u64, segments: &[(u64, u64)]) -> (u32, Vec<u32>) {
        let segments: Vec<_> = segments
            .iter()
            .map(|(offset, size_bytes)| Segment { offset: *offset, size_bytes: *size_bytes })
            .collect();
        let mut blocks = Vec::new();
        let bits = place(size_bytes, Some(&segments), 1024, &mut blocks).unwrap().bits;
        (bits.into(), blocks)
    }

    #[test]
    fn a_file_without_holes_is_one_chunk() {
        let mut blocks = Vec::new();
        for size in [1, 511, 512, 513, 1 << 20, (1 << 40) - 1, 1 << 40] {
            assert_eq!(place(size, None, 1 << 30, &mut blocks).unwrap().blocks, [1 << 21], "{size}");
        }
        assert_eq!(place(0, None, 512, &mut blocks).unwrap().blocks, []);
        assert_eq!(place(1 << 41, None, 0, &mut blocks).unwrap().blocks, [0, 1 << 31]);
        assert!(place(1, None, 1 << 41, &mut blocks).is_err(), "a place beyond 32 bits");
    }

    #[test]
    fn holes_are_chunks_of_their_own() {
        assert_eq!(placed(1 << 20, &[]), (20, vec![NO_BLOCK]));
        assert_eq!(placed(8192, &[(4096, 4096)]), (12, vec![NO_BLOCK, 2]));
        assert_eq!(placed(16384, &[(0, 4096), (8192, 4096)]), (12, vec![2, NO_BLOCK, 10, NO_BLOCK]));
        assert_eq!(placed(5000, &[(4096, 904)]), (12, vec![NO_BLOCK, 2]));
        assert_eq!(placed(1536, &[(512, 512)]), (9, vec![NO_BLOCK, 2, NO_BLOCK]));
    }

    #[test]
    fn what_cannot_be_mapped_is_refused() {
        let mut blocks = Vec::new();
        let odd = [Segment { offset: 0, size_bytes: 100 }, Segment { offset: 1024, size_bytes: 512 }];
        assert!(place(1536, Some(&odd), 0, &mut blocks).unwrap_err().to_string().contains("multiples"));
        let early_end = [Segment { offset: 0, size_bytes: 100 }];
        assert!(place(512, Some(&early_end), 0, &mut blocks).is_err());
        let bomb = [Segment { offset: 512, size_bytes: 512 }];
        assert!(place(1 << 50, Some(&bomb), 0, &mut blocks).unwrap_err().to_string().contains("chunks"));
        assert_eq!(place(1 << 50, Some(&[]), 0, &mut blocks).unwrap().blocks.len(), 1024);
    }
}
