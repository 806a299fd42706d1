//! Compressed streams: every kind is told apart and read; hostile ones are refused in constant memory.

use std::io::{self, Read, Write};

use carrack_layer::compression::{Compression, GzipWriter, auto, reader};

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut writer = GzipWriter::new(Vec::new());
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

fn read(bytes: &[u8]) -> io::Result<(Compression, Vec<u8>)> {
    let (compression, mut reader) = auto(bytes)?;
    let mut data = Vec::new();
    reader.read_to_end(&mut data)?;
    Ok((compression, data))
}

fn samples() -> Vec<(Compression, Vec<u8>)> {
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
    bzip2.write_all(b"data").unwrap();
    let options = lzma_rust2::XzOptions::with_preset(6);
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    xz.write_all(b"data").unwrap();
    vec![
        (Compression::None, b"data".to_vec()),
        (Compression::Gzip, gzip(b"data")),
        (Compression::Zstd, zstd::encode_all(b"data".as_slice(), 3).unwrap()),
        (Compression::Bzip2, bzip2.finish().unwrap()),
        (Compression::Xz, xz.finish().unwrap()),
    ]
}

#[test]
fn every_kind_is_detected_and_read() {
    for (compression, bytes) in samples() {
        assert_eq!(read(&bytes).unwrap(), (compression, b"data".to_vec()));
    }
    assert_eq!(read(b"").unwrap(), (Compression::None, Vec::new()));
    assert_eq!(read(b"\x1f\x8b").unwrap().0, Compression::None, "two bytes are no gzip header");
}

#[test]
fn several_members_are_one_stream() {
    for (compression, bytes) in samples() {
        let expected: &[u8] = b"datadata";
        assert_eq!(read(&[bytes.clone(), bytes].concat()).unwrap(), (compression, expected.to_vec()));
    }
}

#[test]
fn skippable_frames_of_zstd_are_skipped() {
    let frame = zstd::encode_all(b"data".as_slice(), 3).unwrap();
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0][..], b"skip"].concat();
    let data = read(&[skippable.clone(), frame, skippable].concat()).unwrap();
    assert_eq!(data, (Compression::Zstd, b"data".to_vec()));
}

#[test]
fn truncated_streams_are_errors() {
    for (compression, bytes) in samples().into_iter().skip(1) {
        for length in 7..bytes.len() {
            let mut data = Vec::new();
            let result =
                reader(compression, &bytes[..length]).and_then(|mut reader| reader.read_to_end(&mut data));
            assert!(result.is_err(), "{compression:?} cut at {length}");
        }
    }
}

#[test]
fn what_would_take_much_memory_is_refused() {
    // A zstd frame whose header says window log 31 (2 GiB), the largest there is.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
    assert!(read(&zstd).is_err());
    let mut options = lzma_rust2::XzOptions::with_preset(6);
    options.lzma_options.dict_size = 512 << 20;
    let mut xz = lzma_rust2::XzWriter::new(Vec::new(), options).unwrap();
    xz.write_all(b"data").unwrap();
    assert!(read(&xz.finish().unwrap()).is_err());
}

#[test]
fn bombs_are_read_in_constant_memory() {
    let zeros = vec![0; 1 << 20];
    for mut bomb in [
        Box::new(flate2::read::GzEncoder::new(io::repeat(0).take(1 << 28), flate2::Compression::fast()))
            as Box<dyn Read + Send>,
        Box::new(zstd::stream::read::Encoder::new(io::repeat(0).take(1 << 28), 1).unwrap()),
    ] {
        let mut start = Vec::new();
        bomb.by_ref().take(6).read_to_end(&mut start).unwrap();
        let compression = Compression::detect(&start);
        let mut data = reader(compression, io::Cursor::new(start).chain(bomb)).unwrap();
        let before = peak_memory_kib();
        let mut buffer = vec![1; zeros.len()];
        let mut total = 0;
        while let Ok(count @ 1..) = data.read(&mut buffer) {
            total += count;
        }
        assert_eq!(total, 1 << 28);
        assert!(peak_memory_kib() - before < 16 * 1024);
    }
}

fn peak_memory_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn gzip_depends_on_the_data_only() {
    assert_eq!(gzip(b"data"), gzip(b"data"));
    assert_eq!(&gzip(b"data")[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
}
