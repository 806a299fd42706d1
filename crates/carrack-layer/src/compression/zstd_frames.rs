//! zstd (RFC 8878) in frames of a fixed size. Each is decoded alone and says how large it is, so no frame asks for a
//! larger window than it has bytes.

use std::io::{self, Read, Write};

use zstd::bulk::Compressor;
use zstd::zstd_safe;

use super::parallel::{self, Block, Cut, Encoder};

/// The largest window that is read back, which a frame of a high level may use whole.
const FRAME_BYTES: usize = 8 << 20;

pub(super) fn compress(
    level: u32,
    source: &mut dyn Read,
    sink: &mut dyn Write,
    threads: usize,
) -> io::Result<()> {
    let level = i32::try_from(level).map_err(io::Error::other)?;
    let encoder = || Ok(Frames(Compressor::new(level)?));
    let mut is_empty = true;
    let cut = Cut { block_bytes: FRAME_BYTES, dictionary_bytes: 0 };
    parallel::encode(source, &cut, threads, &encoder, |block: &Block<()>| {
        is_empty = false;
        sink.write_all(&block.encoded)
    })?;
    if is_empty {
        let mut block = Block::default();
        encoder()?.encode(&mut block)?;
        sink.write_all(&block.encoded)?;
    }
    Ok(())
}

struct Frames(Compressor<'static>);

impl Encoder<()> for Frames {
    fn encode(&mut self, block: &mut Block<()>) -> io::Result<()> {
        block.encoded.clear();
        block.encoded.reserve(zstd_safe::compress_bound(block.data.len()));
        self.0.compress_to_buffer(&block.data, &mut block.encoded).map(|_| ())
    }
}
