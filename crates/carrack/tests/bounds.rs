//! Images that are made to cost: whatever they hold, a pull decides within 30 seconds, and takes at most 64 MiB of
//! memory and 8 MiB for each layer that it fetches at once.
//!
//! Which class of hostile input is tested where: docs/security-tests.md.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use carrack_oci::{Descriptor, DiffId, Digest, Index, media_type};
use carrack_testkit::{FixtureLayer, ImageFixture, LayerFormat, Store, TarWriter};

#[path = "it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;

use kit::empty_store;

const TIME_LIMIT: Duration = Duration::from_secs(30);
const PARALLEL_LAYERS: u64 = 4;
const MEMORY_LIMIT_BYTES: u64 = (64 << 20) + PARALLEL_LAYERS * (8 << 20);
const MEGABYTE: usize = 1 << 20;

/// What a pull must make of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// It fails, and says this.
    Refused(&'static str),
    /// It is an image like any other, only large.
    Taken,
}

/// The most memory that a process has had, looked at until it ends.
fn peak_bytes(child: &mut Child) -> (u64, i32) {
    let status = format!("/proc/{}/status", child.id());
    let deadline = Instant::now() + TIME_LIMIT;
    let mut peak = 0;
    loop {
        let text = fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or(0) * 1024);
        if let Some(status) = child.try_wait().unwrap() {
            return (peak, status.code().unwrap_or(-1));
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("undecided after {TIME_LIMIT:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Pulls what lies in the store's folder `layout` as an OCI layout.
#[track_caller]
fn assert_bounded(store: &Store, verdict: Verdict) {
    assert_bounded_under(store, &[], verdict);
}

/// The same with further `flags`.
#[track_caller]
fn assert_bounded_under(store: &Store, flags: &[&str], verdict: Verdict) {
    let source = format!("oci:{}:evil", store.path().join("layout").display());
    let mut command = store.command();
    let log = store.path().join("log");
    command
        .args(flags)
        .args(["pull", "--quiet", &source])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap());
    let (peak, code) = peak_bytes(&mut command.spawn().unwrap());
    let said = fs::read_to_string(log).unwrap();
    match verdict {
        Verdict::Taken => assert_eq!(code, 0, "{said}"),
        Verdict::Refused(text) => {
            assert!(code == 1 && said.starts_with("error: cannot pull "), "{code}: {said}");
            assert!(said.contains(text), "{text:?} is not in: {said}");
        }
    }
    assert!(said.len() < 8192, "{} bytes of message", said.len());
    assert!(peak > MEGABYTE as u64, "the peak was not seen");
    assert!(peak <= MEMORY_LIMIT_BYTES, "{} MiB", peak >> 20);
    let run = store.carrack(flags.iter().copied().chain(["system", "check"]));
    assert!(run.code == 0 && !run.stdout.contains("Leftovers"), "{}", run.stdout);
}

#[track_caller]
fn assert_image(image: &ImageFixture, verdict: Verdict) {
    let store = empty_store();
    image.write_layout(&store.path().join("layout"), "evil");
    assert_bounded(&store, verdict);
}

fn image(tar: &[u8]) -> ImageFixture {
    ImageFixture::new().push(FixtureLayer::of_tar(tar, LayerFormat::Gzip))
}

/// A layer of bytes as they are, with a diff ID that nobody will come to compare.
fn raw(media_type: &str, bytes: Vec<u8>) -> ImageFixture {
    let descriptor = Descriptor::of(media_type, &bytes);
    ImageFixture::new().push(FixtureLayer { descriptor, bytes, diff_id: DiffId(Digest::of(b"nothing")) })
}

/// A tar whose first header is changed, with a right checksum.
fn patched(mut tar: Vec<u8>, patch: impl FnOnce(&mut [u8])) -> Vec<u8> {
    patch(&mut tar[..512]);
    tar[148..156].copy_from_slice(b"        ");
    let sum: u32 = tar[..512].iter().map(|byte| u32::from(*byte)).sum();
    tar[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    tar
}

#[test]
fn a_bomb_of_one_file_is_written_as_it_is() {
    assert_image(&image(&TarWriter::new().file("zeros", &vec![0; 192 * MEGABYTE]).finish()), Verdict::Taken);
}

#[test]
fn bombs_of_extended_headers_and_long_names() {
    for kind in *b"xgLK" {
        let tar = TarWriter::new().file("bomb", &vec![b'a'; 96 * MEGABYTE]).file("end", b"").finish();
        assert_image(&image(&patched(tar, |header| header[156] = kind)), Verdict::Refused("layer 1 of 1"));
    }
}

#[test]
fn sizes_of_a_pebibyte() {
    let tar = || TarWriter::new().file("sparse", b"x").finish();
    let with_size = patched(tar(), |header| {
        header[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0]);
    });
    assert_image(&image(&with_size), Verdict::Refused("layer 1 of 1"));
    assert_image(&image(&patched(tar(), |header| header[156] = b'S')), Verdict::Refused("sparse"));
}

#[test]
fn windows_of_zstd_that_no_layer_needs() {
    // Frame header: window of 2 GiB, no size; then one last block without content.
    let window = |exponent: u8| vec![0x28, 0xb5, 0x2f, 0xfd, 0, (exponent - 10) << 3, 1, 0, 0];
    for exponent in [31, 28] {
        assert_image(&raw(media_type::OCI_LAYER_ZSTD, window(exponent)), Verdict::Refused("layer 1 of 1"));
    }
}

#[test]
fn a_frame_that_repeats_one_byte_for_ever() {
    // Blocks of 128 KiB of one byte each, 4 bytes long: 1 GiB in 32 KiB, refused as soon as it is no tar.
    let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    for _ in 0..8192 {
        let header: u32 = (0x2_0000 << 3) | (1 << 1);
        bytes.write_all(&header.to_le_bytes()[..3]).unwrap();
        bytes.push(b'a');
    }
    bytes.extend([1, 0, 0]);
    assert_image(&raw(media_type::OCI_LAYER_ZSTD, bytes), Verdict::Refused("layer 1 of 1"));
}

#[test]
fn very_many_entries() {
    let mut tar = TarWriter::new();
    for number in 0..10_000 {
        tar.file(&format!("{}/{number}", "folder-with-a-long-name".repeat(4)), b"");
    }
    assert_image(&image(&tar.finish()), Verdict::Taken);
    let mut tar = TarWriter::new();
    for number in 0..20_000 {
        tar.file("again", number.to_string().as_bytes());
    }
    assert_image(&image(&tar.finish()), Verdict::Taken);
}

/// As many entries as an index can have, and more, in four layers at once and in one.
#[test]
fn a_million_entries() {
    let tar = |range: std::ops::Range<u32>| {
        let mut tar = TarWriter::new();
        for number in range {
            tar.file(&format!("{}/{number}", number / 1000), b"");
        }
        tar.finish()
    };
    let quarters = (0..4).fold(ImageFixture::new(), |image, quarter| {
        let tar = tar(quarter * 250_000..(quarter + 1) * 250_000);
        image.push(FixtureLayer::of_tar(&tar, LayerFormat::Gzip))
    });
    assert_image(&quarters, Verdict::Taken);
    assert_image(&image(&tar(0..1_100_000)), Verdict::Refused("entries"));
}

/// A million names of one file, of the same layer and of one below.
#[test]
fn a_million_hardlinks() {
    let links = |target: &str| {
        let mut tar = TarWriter::new();
        tar.file("own", b"x");
        for number in 0..1_000_000 {
            tar.hardlink(&format!("{}/{number}", number / 1000), target);
        }
        FixtureLayer::of_tar(&tar.finish(), LayerFormat::Gzip)
    };
    assert_image(&ImageFixture::new().push(links("own")), Verdict::Taken);
    assert_image(&ImageFixture::new().layer("/below \"x\"").push(links("below")), Verdict::Taken);
}

/// Headers of nearly a mebibyte for each entry, and attributes as large as one can be for many.
#[test]
fn very_many_large_extended_headers() {
    let mut tar = TarWriter::new();
    let comment = format!("1000000 comment={}\n", "c".repeat(1_000_000 - 17));
    for number in 0..200 {
        tar.file("pax", comment.as_bytes()).file(&number.to_string(), b"");
    }
    let mut tar = tar.finish();
    let mut offset = 0;
    while offset + 512 < tar.len() {
        if tar[offset..].starts_with(b"pax\0") {
            let header = patched(tar[offset..offset + 512].to_vec(), |header| header[156] = b'x');
            tar[offset..offset + 512].copy_from_slice(&header);
            offset += comment.len().next_multiple_of(512);
        }
        offset += 512;
    }
    assert_image(&image(&tar), Verdict::Taken);
    let value = "v".repeat(50_000);
    let lines: String =
        (0..1000).map(|number| format!("/{number} \"\" user.a{number}=\"{value}\"\n")).collect();
    assert_image(&image(&ImageFixture::tar(&lines)), Verdict::Taken);
}

/// Zeros end an archive, and a few bytes of a compressed stream are a terabyte of them; four such layers at once.
#[test]
fn what_follows_the_end_of_an_archive() {
    let mut zeros = vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x38];
    for _ in 0..1 << 23 {
        let header: u32 = (0x2_0000 << 3) | (1 << 1);
        zeros.extend_from_slice(&header.to_le_bytes()[..3]);
        zeros.push(0);
    }
    zeros.extend([1, 0, 0]);
    assert_image(
        &raw(media_type::OCI_LAYER_ZSTD, zeros.clone()),
        Verdict::Refused("bytes follow the archive's end"),
    );
    let four = (0..4u8).fold(ImageFixture::new(), |image, number| {
        // A skippable frame makes the layers differ.
        let bytes = [&[0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, number], &zeros[..]].concat();
        let descriptor = Descriptor::of(media_type::OCI_LAYER_ZSTD, &bytes);
        image.push(FixtureLayer { descriptor, bytes, diff_id: DiffId(Digest::of(&[number])) })
    });
    assert_image(&four, Verdict::Refused("bytes follow the archive's end"));
}

/// To unpack layers instead of indexing them takes no more.
#[test]
fn layers_that_are_unpacked() {
    let mut many = TarWriter::new();
    for number in 0..20_000 {
        many.hardlink(&format!("links/{}/{number}", number / 1000), &format!("below/{number}"));
    }
    let mut deep = TarWriter::new();
    for number in 0..1000 {
        deep.file(&format!("{number}/{}file", "folder-that-nothing-describes/".repeat(8)), b"");
    }
    for (driver, tar, verdict) in [
        ("overlay", many.finish(), Verdict::Refused("cannot accept links/")),
        ("overlay", deep.finish(), Verdict::Taken),
    ] {
        let store = empty_store();
        image(&tar).write_layout(&store.path().join("layout"), "evil");
        assert_bounded_under(&store, &["--storage-driver", driver], verdict);
    }
}

#[test]
fn very_deep_folders() {
    let deep = |depth: usize| TarWriter::new().file(&format!("{}file", "d/".repeat(depth)), b"x").finish();
    assert_image(&image(&deep(2000)), Verdict::Taken);
    assert_image(&image(&deep(4096)), Verdict::Refused("layer 1 of 1"));
    // Folders that no entry describes: to unpack them, each must be remembered; an index has them all.
    let mut tar = TarWriter::new();
    for number in 0..200 {
        tar.file(&format!("{number}/{}file", "e/".repeat(1000)), b"");
    }
    let store = empty_store();
    image(&tar.finish()).write_layout(&store.path().join("layout"), "evil");
    assert_bounded(&store, Verdict::Taken);
}

#[test]
fn very_many_attributes() {
    let attributes: String =
        (0..600).map(|number| format!(" user.a{number}=\"{}\"", "v".repeat(1500))).collect();
    let tar = ImageFixture::tar(&format!("/file \"x\"{attributes}"));
    let store = empty_store();
    image(&tar).write_layout(&store.path().join("layout"), "evil");
    assert_bounded(&store, Verdict::Refused("layer 1 of 1"));
}

#[test]
fn the_same_layer_very_many_times() {
    let layer = FixtureLayer::of_tar(&ImageFixture::tar("/a \"1\""), LayerFormat::Gzip);
    let many = |count: usize| (0..count).fold(ImageFixture::new(), |image, _| image.push(layer.clone()));
    assert_image(&many(127), Verdict::Taken);
    assert_image(&many(5000), Verdict::Refused("expected at most"));
}

/// Documents of nearly 4 MiB, and more.
#[test]
fn very_large_documents() {
    let nested = |count: usize| format!("{}{}", "[".repeat(count), "]".repeat(count));
    let good = || ImageFixture::new().layer("/a \"1\"");
    for (config, verdict) in [
        (
            good().configure(|config| config.config.env = vec!["A=".to_owned() + &"x".repeat(3 << 20)]),
            Verdict::Taken,
        ),
        (good().configure(|config| config.config.env = vec!["A=x".to_owned(); 300_000]), Verdict::Taken),
        (
            good().configure(|config| config.config.env = vec!["A=x".to_owned(); 900_000]),
            Verdict::Refused("bytes"),
        ),
    ] {
        assert_image(&config, verdict);
    }
    let entry = good().manifest();
    for count in [20_000, 60_000] {
        let store = empty_store();
        let index = serde_json::to_vec(&Index::oci(vec![entry.clone(); count])).unwrap();
        write_root(&store, media_type::OCI_INDEX, &index);
        assert_bounded(&store, Verdict::Refused(if count > 20_000 { "bytes" } else { "expected at most" }));
    }
    let store = empty_store();
    write_root(&store, media_type::OCI_MANIFEST, nested(1_000_000).as_bytes());
    assert_bounded(&store, Verdict::Refused("recursion"));
}

/// A layout whose one image is any document.
fn write_root(store: &Store, kind: &str, bytes: &[u8]) {
    let layout = store.path().join("layout");
    ImageFixture::new().layer("/a \"1\"").write_layout(&layout, "evil");
    let mut root = Descriptor::of(kind, bytes);
    fs::write(layout.join("blobs/sha256").join(root.digest.hex()), bytes).unwrap();
    root.annotations = Some([("org.opencontainers.image.ref.name".to_owned(), "evil".to_owned())].into());
    fs::write(layout.join("index.json"), serde_json::to_vec(&Index::oci(vec![root])).unwrap()).unwrap();
}
