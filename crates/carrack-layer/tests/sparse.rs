//! Sparse files in the four forms that GNU tar has written, unpacked and indexed.

#[path = "support/mounted.rs"]
mod mounted;
mod support;

use std::io::Cursor;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use carrack_layer::{IndexOptions, index};
use mounted::{file, mount};
use support::{Raw, Tar, fixture};

const KIB: u64 = 1024;
/// Data at 4 KiB and at 12 KiB of a file of 20 KiB.
const SEGMENTS: [(u64, u64); 2] = [(4 * KIB, 4 * KIB), (12 * KIB, KIB)];
const SIZE: u64 = 20 * KIB;

fn data() -> Vec<u8> {
    [vec![b'a'; 4096], vec![b'b'; 1024]].concat()
}

fn expected() -> Vec<u8> {
    let mut content = vec![0; 20 * 1024];
    content[4096..8192].fill(b'a');
    content[12288..13312].fill(b'b');
    content
}

/// An entry of the old form, its map in the header and, from the fifth part on, in blocks that follow.
fn old_gnu(tar: Tar, segments: &[(u64, u64)], size: u64, data: &[u8]) -> Tar {
    let mut bytes = Tar::default().raw(&Raw { name: b"file", flag: b'S', data, ..Raw::default() }).0;
    bytes[257..265].copy_from_slice(b"ustar  \0");
    let put_map = |block: &mut [u8], start: usize, segments: &[(u64, u64)]| {
        for (index, (offset, length)) in segments.iter().enumerate() {
            let at = start + index * 24;
            block[at..at + 24].copy_from_slice(format!("{offset:011o}\0{length:011o}\0").as_bytes());
        }
    };
    let (first, rest) = segments.split_at(segments.len().min(4));
    put_map(&mut bytes, 386, first);
    bytes[482] = u8::from(!rest.is_empty());
    bytes[483..494].copy_from_slice(format!("{size:011o}").as_bytes());
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut extensions = Vec::new();
    let mut rest = rest.chunks(21).peekable();
    while let Some(segments) = rest.next() {
        let mut block = [0; 512];
        put_map(&mut block, 0, segments);
        block[504] = u8::from(rest.peek().is_some());
        extensions.extend_from_slice(&block);
    }
    Tar([tar.0, bytes[..512].to_vec(), extensions, bytes[512..].to_vec()].concat())
}

fn pax(records: &[(&str, &str)], data: &[u8]) -> Tar {
    let records: Vec<_> = records.iter().map(|(key, value)| (*key, value.as_bytes())).collect();
    Tar::default().pax(&records).raw(&Raw { name: b"GNUSparseFile.0/file", data, ..Raw::default() })
}

/// The same file in each form.
fn forms() -> [(&'static str, Tar); 4] {
    let map = "4096,4096,12288,1024";
    let mut with_map = b"2\n4096\n4096\n12288\n1024\n".to_vec();
    with_map.resize(512, 0);
    with_map.extend(data());
    let version_0_0 = [
        ("GNU.sparse.size", "20480"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.offset", "4096"),
        ("GNU.sparse.numbytes", "4096"),
        ("GNU.sparse.offset", "12288"),
        ("GNU.sparse.numbytes", "1024"),
        ("path", "file"),
    ];
    let version_0_1 = [
        ("GNU.sparse.size", "20480"),
        ("GNU.sparse.numblocks", "2"),
        ("GNU.sparse.map", map),
        ("GNU.sparse.name", "file"),
    ];
    let version_1_0 = [
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "file"),
        ("GNU.sparse.realsize", "20480"),
    ];
    [
        ("old", old_gnu(Tar::default(), &SEGMENTS, SIZE, &data())),
        ("0.0", pax(&version_0_0, &data())),
        ("0.1", pax(&version_0_1, &data())),
        ("1.0", pax(&version_1_0, &with_map)),
    ]
}

fn indexed(tar: &[u8]) -> Result<Vec<u8>, String> {
    let mut out = Cursor::new(Vec::new());
    let result = index(tar, &mut out, &IndexOptions::new(Path::new("/tmp")));
    result.map(|_| out.into_inner()).map_err(|error| error.to_string())
}

#[test]
fn every_form_is_unpacked_with_holes_and_mapped() {
    for (form, tar) in forms() {
        let tar = tar.file("after", "it").end();
        let fixture = fixture();
        fixture.apply(&tar).unwrap_or_else(|error| panic!("{form}: {error}"));
        assert!(std::fs::read(fixture.path("file")).unwrap() == expected(), "{form}");
        assert!(fixture.path("file").metadata().unwrap().blocks() * 512 < SIZE, "{form}: holes");
        assert_eq!(std::fs::read(fixture.path("after")).unwrap(), b"it", "{form}");
        let root = mount(&file(&indexed(&tar).unwrap()), &[file(&tar)]);
        assert!(root.read_small("file", 1 << 20).unwrap().unwrap() == expected(), "{form}");
        assert_eq!(root.read_small("after", 10).unwrap().unwrap(), b"it", "{form}");
    }
}

#[test]
fn a_map_of_many_blocks() {
    let segments: Vec<_> = (0..100).map(|part| (part * 1024, 512)).collect();
    let data: Vec<u8> = (0..100).flat_map(|part| [part; 512]).collect();
    let tar = old_gnu(Tar::default(), &segments, 100 * 1024, &data).end();
    let fixture = fixture();
    fixture.apply(&tar).unwrap();
    let content = std::fs::read(fixture.path("file")).unwrap();
    let is_part = |part: u8| {
        let at = usize::from(part) * 1024;
        content[at] == part && content[at + 512] == 0
    };
    assert!((0..100).all(is_part));
    let root = mount(&file(&indexed(&tar).unwrap()), &[file(&tar)]);
    assert!(root.read_small("file", 1 << 20).unwrap().unwrap() == content);
}

#[test]
fn maps_that_lie_are_refused() {
    type Lie<'a> = (&'a str, &'a [(u64, u64)], u64, usize);
    let lies: [Lie<'_>; 5] = [
        ("in order", &[(4096, 512), (0, 512)], 8192, 1024),
        ("in order", &[(0, 1024), (512, 512)], 8192, 1536),
        ("with data up to", &[(8192, 512)], 8192, 512),
        ("in an entry of", &[(0, 512)], 8192, 1024),
        ("in an entry of", &[(0, 1024)], 8192, 512),
    ];
    for (reason, segments, size, stored) in lies {
        let tar = old_gnu(Tar::default(), segments, size, &vec![1; stored]).end();
        let error = indexed(&tar).expect_err(reason);
        assert!(error.contains(reason), "{reason}: {error}");
        fixture().apply(&tar).expect_err(reason);
    }
    let map = format!("{},1", u64::MAX);
    let records = [("GNU.sparse.size", "1"), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", map.as_str())];
    assert!(indexed(&pax(&records, b"x").end()).unwrap_err().contains("in order"));
}

#[test]
fn a_petabyte_without_data_costs_nothing_or_is_refused() {
    let bomb = |size: &str, map: &str| {
        let records = [("GNU.sparse.size", size), ("GNU.sparse.numblocks", "1"), ("GNU.sparse.map", map)];
        pax(&records, if map == "0,0" { b"" } else { &[1; 512] }).end()
    };
    let hole = bomb("1125899906842624", "0,0");
    assert!(indexed(&hole).unwrap().len() < 20_000);
    let root = mount(&file(&indexed(&hole).unwrap()), &[file(&hole)]);
    assert_eq!(root.metadata("GNUSparseFile.0/file").unwrap().unwrap().size_bytes, 1 << 50);
    let fragment = bomb("1125899906842624", "512,512");
    assert!(indexed(&fragment).unwrap_err().contains("chunks"));
    let unaligned = bomb("8192", "100,512");
    assert!(indexed(&unaligned).unwrap_err().contains("multiples of 512"));
    let fixture = fixture();
    fixture.apply(&unaligned).unwrap();
    assert_eq!(std::fs::read(fixture.path("GNUSparseFile.0/file")).unwrap()[99..101], [0, 1]);
}
