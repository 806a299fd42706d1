//! Indexes as the kernel shows them, beside the same layers applied to folders.

#[path = "support/mounted.rs"]
mod mounted;
mod support;

use std::io::Cursor;
use std::path::Path;

use carrack_layer::{ApplyOptions, Error, IndexOptions, Indexed, apply, index, index_file};
use carrack_sys::rooted::Root;
use mounted::{file, mount, seen};
use support::{Raw, Tar};

fn indexed(tar: &[u8]) -> Result<(Vec<u8>, Indexed), Error> {
    let mut out = Cursor::new(Vec::new());
    let summary = index(tar, &mut out, &IndexOptions::new(Path::new("/tmp")))?;
    Ok((out.into_inner(), summary))
}

/// What an index of the tar shows is what unpacking it makes.
fn assert_equal_to_apply(tar: &[u8]) {
    let (bytes, summary) = indexed(tar).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path()).unwrap();
    let applied = apply(tar, &root, &ApplyOptions::default()).unwrap();
    assert_eq!((summary.usage, summary.is_opaque), (applied.usage, applied.is_opaque));
    assert_eq!(summary.implicit_dirs, applied.implicit_dirs.len() as u64);
    assert_eq!((summary.tar_bytes, summary.index_bytes), (tar.len() as u64, bytes.len() as u64));
    let index = file(&bytes);

    let mut expected = seen(&root, true);
    let mut found = seen(&mount(&index, &[file(tar)]), true);
    if !applied.implicit_dirs.is_empty() {
        (expected.remove(""), found.remove(""));
    }
    assert_eq!(found, expected);
    let mut again = Cursor::new(Vec::new());
    assert_eq!(
        index_file(Cursor::new(tar), &mut again, &IndexOptions::new(Path::new("/tmp"))).unwrap(),
        summary
    );
    assert!(again.into_inner() == bytes, "without reading data it is another index");
}

#[test]
fn every_kind_with_its_metadata() {
    let device = ("1", "3");
    let long = "n".repeat(99);
    let mut tar = Tar::default()
        .dir("bin/")
        .pax(&[
            ("mtime", b"1.000000007"),
            ("SCHILY.xattr.user.a", b"b"),
            (
                "SCHILY.xattr.security.capability",
                &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            ),
        ])
        .raw(&Raw { name: b"bin/su", mode: "4755", uid: b"12", data: &[7; 70000], ..Raw::default() })
        .hardlink("bin/link", "bin/su")
        .symlink("bin/sh", "su")
        .pax(&[("linkpath", "l/".repeat(400).as_bytes())])
        .symlink("bin/long", "x")
        .raw(&Raw { name: b"null", flag: b'3', mode: "666", device, ..Raw::default() })
        .raw(&Raw { name: b"block", flag: b'4', mode: "600", device: ("10", "377777"), ..Raw::default() })
        .raw(&Raw { name: b"pipe", flag: b'6', mode: "622", ..Raw::default() })
        .raw(&Raw { name: b"tmp/", flag: b'5', mode: "1777", uid: b"17", ..Raw::default() })
        .pax(&[("mtime", b"-7.5"), ("uid", b"4294967294")])
        .file("tmp/old", "x")
        .file("tmp/empty", "")
        .file("implicit/deep/file", "y")
        .file(&long, "z");
    for number in 0..300 {
        tar = tar.file(&format!("many/{number}"), &number.to_string());
    }
    assert_equal_to_apply(&tar.end());
}
