//! gzip (RFC 1952) in blocks, as pigz does it: one member, whose deflate blocks begin with the 32 KiB before them as
//! their dictionary and end at a byte.

use std::io::{self, Read, Write};

use flate2::{Compress, Compression as Level, Crc, FlushCompress};

use super::parallel::{self, Block, Cut};

/// Large enough that the ends of blocks cost nothing, small enough that small layers have work for several threads.
const BLOCK_BYTES: usize = 512 << 10;
/// The window of deflate (RFC 1951, 2).
const WINDOW_BYTES: usize = 32 << 10;
/// Deflate, no flags, no time, no extra flags, an unknown system: nothing of this machine.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
/// An empty last block with fixed codes: what stands before it ends at a byte.
const LAST_BLOCK: [u8; 2] = [0x03, 0x00];

pub(super) fn compress(
    level: u32,
    source: &mut dyn Read,
    sink: &mut dyn Write,
    threads: usize,
) -> io::Result<()> {
    let mut whole = Crc::new();
    let cut = Cut { block_bytes: BLOCK_BYTES, dictionary_bytes: WINDOW_BYTES };
    let encoder = || Ok(Deflate { level: Level::new(level) });
    sink.write_all(&HEADER)?;
    parallel::encode(source, &cut, threads, &encoder, |block| {
        whole.combine(&block.summary);
        sink.write_all(&block.encoded)
    })?;
    sink.write_all(&LAST_BLOCK)?;
    sink.write_all(&whole.sum().to_le_bytes())?;
    // The size modulo 2^32 (RFC 1952, 2.3.1), which is what this type counts.
    sink.write_all(&whole.amount().to_le_bytes())
}

/// Every block has a compressor of its own: one that is reset keeps, in zlib-rs 0.6, something that changes which
/// matches it finds, and the bytes would depend on who encoded which block.
struct Deflate {
    level: Level,
}

impl parallel::Encoder<Crc> for Deflate {
    fn encode(&mut self, block: &mut Block<Crc>) -> io::Result<()> {
        let Block { data, dictionary, encoded, summary } = block;
        summary.reset();
        summary.update(data);
        let mut deflate = Compress::new(self.level, false);
        if !dictionary.is_empty() {
            deflate.set_dictionary(dictionary).map_err(io::Error::other)?;
        }
        encoded.clear();
        // More than deflate ever adds, so that one call does all.
        encoded.reserve(data.len() + data.len() / 8 + 1024);
        deflate.compress_vec(data, encoded, FlushCompress::Sync).map_err(io::Error::other)?;
        match deflate.total_in() == (data.len() as u64) && encoded.len() < encoded.capacity() {
            true => Ok(()),
            false => Err(io::Error::other("deflate left a part of its block")),
        }
    }
}
