//! Compressed streams: every kind is told apart and read; hostile ones are refused in constant memory.

use std::io::{self, Read, Write};

use std::process::{Command, Stdio};

use carrack_layer::compression::{Compression, ENCODER, Method, auto, reader};
use carrack_oci::Digest;
use proptest::prelude::*;

fn compress(method: Method, data: &[u8], threads: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    method.compress(&mut &*data, &mut bytes, threads).unwrap();
    bytes
}

fn gzip(data: &[u8]) -> Vec<u8> {
    compress(Method::DEFAULT_GZIP, data, 1)
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
fn what_follows_a_stream_is_another_member_or_refused() {
    for (compression, bytes) in samples().into_iter().skip(1) {
        for garbage in [&b"garbage!"[..], &[0; 512], b"x"] {
            // The xz format has a padding of zeros.
            if compression == Compression::Xz && garbage.iter().all(|byte| *byte == 0) {
                continue;
            }
            let result = read(&[&bytes, garbage].concat());
            assert!(result.is_err(), "{compression:?} followed by {garbage:?} was read");
        }
    }
}

#[test]
fn what_would_take_much_memory_is_refused() {
    // A zstd frame whose header says window log 31 (2 GiB), the largest there is.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (31 - 10) << 3, 0x01, 0x00, 0x00];
    assert!(read(&zstd).unwrap_err().to_string().contains("more than 8 MiB"));
    // Window log 24: one more than is accepted.
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (24 - 10) << 3, 0x01, 0x00, 0x00];
    assert!(read(&zstd).unwrap_err().to_string().contains("expected at most 8 MiB"));
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0x00, (23 - 10) << 3, 0x01, 0x00, 0x00];
    assert_eq!(read(&zstd).unwrap(), (Compression::Zstd, Vec::new()));
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

/// Text-like bytes of some megabytes that are the same everywhere.
fn sample(size_bytes: usize) -> Vec<u8> {
    let mut state: u32 = 1;
    let mut data = Vec::with_capacity(size_bytes + 16);
    while data.len() < size_bytes {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        data.extend_from_slice(format!("{:x} ", state >> 18).as_bytes());
    }
    data.truncate(size_bytes);
    data
}

/// A recipe that is kept somewhere makes the same bytes with a later carrack: when this fails after an update of a
/// library, raise `ENCODER` and put the new digests here.
#[test]
fn the_encoder_makes_the_bytes_of_its_revision() {
    assert_eq!(ENCODER, 1);
    let data = sample(9 << 20);
    for (method, digest) in [
        ("gzip:6", "d1301ee30e52d17d08506707cb08ee010f201d9e41223a4b4f8577eb1c065bb9"),
        ("gzip:1", "7e9c6a9437f8485f2acd22cb91fe34a2dc0fec36c3ac4b6ed0ba08f37a4ea033"),
        ("zstd:3", "808c6d25b5b7d7e685e2bafa24be11ae0c4798dc44df3659b0bad5ca8a7b32ef"),
        ("zstd:9", "86a4e1aa23cc212e419c952a7e0d4cdfd2c5c7e72d0d928f9aaf972d6bef8009"),
    ] {
        for threads in [1, 2, 5] {
            let bytes = compress(method.parse().unwrap(), &data, threads);
            assert_eq!(Digest::of(&bytes).hex(), digest, "{method} on {threads} threads");
        }
    }
}

#[test]
fn peers_decode_what_is_compressed_here() {
    let data = sample(9 << 20);
    for (method, program) in [("gzip:6", "gzip"), ("gzip:9", "gzip"), ("zstd:3", "zstd"), ("zstd:22", "zstd")]
    {
        let large = if method == "zstd:22" { 100_000 } else { data.len() };
        for data in [&data[..large], &data[..100], b""] {
            let bytes = compress(method.parse().unwrap(), data, 3);
            let command =
                Command::new(program).args(["-d", "-c"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
            let mut child = command.unwrap_or_else(|error| panic!("{program} is installed: {error}"));
            let mut stdin = child.stdin.take().unwrap();
            let output = std::thread::scope(|scope| {
                scope.spawn(move || stdin.write_all(&bytes).unwrap());
                child.wait_with_output().unwrap()
            });
            assert!(
                output.status.success() && output.stdout == data,
                "{program} of {method}, {} bytes",
                data.len()
            );
        }
    }
}

#[test]
fn gzip_has_nothing_of_this_machine_in_its_header() {
    assert_eq!(&gzip(b"data")[..10], [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255]);
}

#[test]
fn an_error_of_either_side_ends_the_compression() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
    }
    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::Error::other("no more"))
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    for method in [Method::DEFAULT_GZIP, Method::DEFAULT_ZSTD] {
        let mut source = io::repeat(7).take(20 << 20).chain(Broken);
        let error = method.compress(&mut source, &mut io::sink(), 2).unwrap_err();
        assert_eq!(error.to_string(), "no more");
        let error = method.compress(&mut io::repeat(7).take(20 << 20), &mut Broken, 2).unwrap_err();
        assert_eq!(error.to_string(), "no more");
    }
}

/// Runs of random length, some of random bytes, some repeated, over several blocks of gzip.
fn any_data() -> impl Strategy<Value = Vec<u8>> {
    let run = (any::<u64>(), 1_usize..400_000, any::<bool>());
    proptest::collection::vec(run, 0..8).prop_map(|runs| {
        let mut data = Vec::new();
        for (seed, length, is_random) in runs {
            let mut state = seed | 1;
            data.extend((0..length).map(|index| {
                state = if is_random {
                    state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1)
                } else {
                    state
                };
                (state >> 33) as u8 ^ if is_random { 0 } else { (index % 17) as u8 }
            }));
        }
        data
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_number_of_threads_does_not_change_the_bytes(data in any_data(), level in 1_u32..=9) {
        for method in [Method::DEFAULT_GZIP, Method::DEFAULT_ZSTD] {
            let method = method.at_level(level).unwrap();
            let one = compress(method, &data, 1);
            for threads in [2, 5] {
                prop_assert!(compress(method, &data, threads) == one, "{} by {} threads", method, threads);
            }
            prop_assert!(read(&one).unwrap().1 == data, "{} does not come back", method);
        }
    }
}
