//! Compressed streams: which kind a stream is, and readers whose memory is bounded whatever the stream asks for.
//!
//! Invariant: decompression is streaming; nothing is ever held whole. What follows the end of a compressed stream is
//! another member of it or an error.

mod gzip;
mod method;
mod parallel;
mod zstd_frames;

use std::io::{self, BufRead, BufReader, Cursor, Read};

pub use method::{ENCODER, Method, MethodError};

/// The largest zstd window that is accepted, 2^23 = 8 MiB: what RFC 8878 (3.1.1.1.2) recommends that every decoder
/// supports, and so that of the levels up to 19.
const MAX_ZSTD_WINDOW_LOG: u32 = 23;
/// The most memory that an xz stream may ask for: dictionaries up to 64 MiB (that of level 9) and some more.
const MAX_XZ_MEMORY_KIB: u32 = 80 * 1024;
const BUFFER_BYTES: usize = 64 * 1024;
/// As many first bytes as tell every kind apart.
const MAGIC_BYTES: usize = 6;

/// How a stream is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// RFC 1952; several members in a row are one stream.
    Gzip,
    /// RFC 8878; several frames in a row are one stream, skippable frames are skipped.
    Zstd,
    /// bzip2, as `docker load` and `ADD` take it.
    Bzip2,
    /// xz, as `docker load` and `ADD` take it.
    Xz,
}

impl Compression {
    /// Tells the kind by the first bytes of a stream.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, 0x08, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame, with which zstd:chunked and seekable files may begin.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0x00, ..] => Self::Xz,
            _ => Self::None,
        }
    }
}

/// A stream that gives decompressed bytes.
pub type Decompressed<'source> = Box<dyn Read + Send + 'source>;

/// Decompresses `source`, which is of the given kind.
pub fn reader<'source>(
    compression: Compression,
    source: impl Read + Send + 'source,
) -> io::Result<Decompressed<'source>> {
    buffered(compression, BufReader::with_capacity(BUFFER_BYTES, source))
}

/// Decompresses `source`, whose kind its first bytes tell.
pub fn auto<'source>(
    mut source: impl Read + Send + 'source,
) -> io::Result<(Compression, Decompressed<'source>)> {
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    source.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
    let compression = Compression::detect(&start);
    Ok((compression, reader(compression, Cursor::new(start).chain(source))?))
}

/// [`auto`] of a source that has a buffer: its bytes are not copied into another.
pub fn auto_buffered<'source>(
    mut source: impl BufRead + Send + 'source,
) -> io::Result<(Compression, Decompressed<'source>)> {
    let mut start = Vec::with_capacity(MAGIC_BYTES);
    source.by_ref().take(MAGIC_BYTES as u64).read_to_end(&mut start)?;
    let compression = Compression::detect(&start);
    Ok((compression, buffered(compression, Cursor::new(start).chain(source))?))
}

fn buffered<'source>(
    compression: Compression,
    source: impl BufRead + Send + 'source,
) -> io::Result<Decompressed<'source>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
            decoder.window_log_max(MAX_ZSTD_WINDOW_LOG)?;
            Box::new(ZstdReader(decoder))
        }
        Compression::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Compression::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(source, true, MAX_XZ_MEMORY_KIB)),
    })
}

/// Says of the one limit of zstd that a valid stream can break what it is: the library's own words name no number.
struct ZstdReader<R>(R);

impl<R: Read> Read for ZstdReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|error| match error.to_string().contains("requires too much memory") {
            true => io::Error::new(
                io::ErrorKind::InvalidData,
                "the zstd stream needs a window of more than 8 MiB: expected at most 8 MiB (zstd levels up to 19, without --long)",
            ),
            false => error,
        })
    }
}
