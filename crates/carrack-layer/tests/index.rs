//! Indexes as the kernel shows them, beside the same layers applied to folders.

#[path = "support/mounted.rs"]
mod mounted;
mod support;

use std::io::Cursor;
use std::path::Path;

use carrack_layer::{ApplyOptions, Error, IndexOptions, Indexed, Limits, apply, index, index_file};
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
        expected.remove("");
        found.remove("");
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

#[test]
fn what_replaces_what() {
    assert_equal_to_apply(&Tar::default().end());
    let tar = Tar::default()
        .dir("./")
        .file("file", "1")
        .file("file", "2")
        .hardlink("second", "file")
        .file("file", "3")
        .dir("d")
        .dir("d/e")
        .file("d/e/f", "4")
        .hardlink("kept", "d/e/f")
        .file("d", "5")
        .dir("g")
        .pax(&[("SCHILY.xattr.user.a", b"1")])
        .dir("h")
        .pax(&[("SCHILY.xattr.user.b", b"2")])
        .dir("h")
        .file("g/.wh.h", "")
        .file("g/h/i", "6")
        .symlink("link", "g/h")
        .file("link/through", "7")
        .symlink("dangling", "/new")
        .file("dangling/made", "8")
        .symlink("up", "../../g")
        .file("up/j", "9")
        .file(".wh.gone", "")
        .file(".wh.d", "")
        .file(".wh.h", "")
        .file("back/.wh..wh..opq", "")
        .file("back/.wh.x", "")
        .file("back/x", "new")
        .file("back/.wh..wh.plnk/y", "")
        .symlink("g", "link")
        .file("k", "10");
    let tar = tar.end();
    let found = seen(&mount(&file(&indexed(&tar).unwrap().0), &[file(&tar)]), false);
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path()).unwrap();
    apply(tar.as_slice(), &root, &ApplyOptions::default()).unwrap();
    // Whiteouts are one inode here, and have no time.
    let without_whiteouts = |mut lines: std::collections::BTreeMap<String, String>| {
        lines.values_mut().filter(|line| line.starts_with("CharacterDevice 0 0:0")).for_each(String::clear);
        lines
    };
    assert_eq!(without_whiteouts(found.clone()), without_whiteouts(seen(&root, false)));
    assert!(found["h"].contains("user.a=1") && found["h"].contains("user.b=2"), "{}", found["h"]);
}

#[test]
fn what_apply_refuses_is_refused() {
    let device = Raw { name: b"a", flag: b'3', device: ("0", "0"), ..Raw::default() };
    let refused: [(&str, Tar); 12] = [
        ("`..`", Tar::default().file("a/../../b", "")),
        ("`..`", Tar::default().file("a", "").hardlink("b", "../a")),
        ("root", Tar::default().symlink("/", "x")),
        ("whiteout", Tar::default().file(".wh.", "")),
        ("below a whiteout", Tar::default().file(".wh.a/b", "")),
        ("0:0", Tar::default().raw(&device)),
        ("no folder", Tar::default().file("a", "").file("a/b", "")),
        ("symbolic links", Tar::default().symlink("a", "a").file("a/b", "")),
        ("folder", Tar::default().dir("a").hardlink("b", "a")),
        ("not in this archive", Tar::default().file(".wh.a", "").hardlink("b", "a")),
        ("not in this archive", Tar::default().hardlink("a", "a")),
        ("long", Tar::default().pax(&[("path", "n".repeat(256).as_bytes())]).file("a", "")),
    ];
    for (reason, tar) in refused {
        let error = indexed(&tar.end()).expect_err(reason).to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
    let hidden = Tar::default().file("d/.wh..wh..opq", "").hardlink("b", "d/below").end();
    assert!(indexed(&hidden).unwrap_err().to_string().contains("not in this archive"));
    assert!(indexed(&Tar::default().hardlink("b", "below").end()).unwrap().1.needs_below);
}

#[test]
fn bounds_are_kept() {
    let tar = Tar::default().file("a", "1").file("a", "2").file("a", "3").end();
    let bounded = |options: IndexOptions<'_>| index(tar.as_slice(), &mut Cursor::new(Vec::new()), &options);
    let options = IndexOptions::new(Path::new("/tmp"));
    let error = bounded(IndexOptions { limits: Limits { entries: 3, ..Limits::default() }, ..options });
    assert!(matches!(error, Err(Error::Index(carrack_erofs::Error::TooLarge { limit: 3, .. }))), "{error:?}");
    let error = bounded(IndexOptions { max_size_bytes: 2000, ..options });
    assert!(matches!(error, Err(Error::TooLarge { limit_bytes: 2000 })), "{error:?}");
    let error = index_file(Cursor::new(&tar[..1500]), &mut Cursor::new(Vec::new()), &options);
    assert!(matches!(error, Err(Error::Truncated { .. })), "{error:?}");
    let big = Tar::default().file("a", &"x".repeat(1 << 20)).end();
    let error = index_file(Cursor::new(&big[..1 << 19]), &mut Cursor::new(Vec::new()), &options);
    assert!(matches!(error, Err(Error::Truncated { .. })), "{error:?}");
}

#[test]
fn a_hundred_thousand_names() {
    let mut tar = Vec::new();
    for number in 0..100_000u32 {
        let name = format!("{}/{}", number % 7, number.wrapping_mul(0x9e37_79b1));
        tar.extend_from_slice(&Tar::default().file(&name, "").0);
    }
    tar.resize(tar.len() + 1024, 0);
    let (bytes, summary) = indexed(&tar).unwrap();
    assert_eq!((summary.entries, summary.implicit_dirs), (100_000, 8));
    let root = mount(&file(&bytes), &[file(&tar)]);
    let mut names = 0;
    carrack_sys::tree::walk(&root, |place| {
        names += 1;
        assert!(place.metadata()?.is_some());
        Ok::<_, carrack_sys::Error>(true)
    })
    .unwrap();
    assert_eq!(names, 100_007);
    assert!(indexed(&tar).unwrap().0 == bytes, "the same tar gives the same bytes");
}

#[test]
fn fsck_accepts_what_is_written() {
    let tar =
        Tar::default().dir("d").file("d/f", "x").symlink("l", &"n".repeat(90)).hardlink("h", "d/f").end();
    let folder = tempfile::tempdir().unwrap();
    let (image, device) = (folder.path().join("index"), folder.path().join("tar"));
    std::fs::write(&image, indexed(&tar).unwrap().0).unwrap();
    std::fs::write(&device, &tar).unwrap();
    let device = format!("--device={}", device.display());
    let output =
        std::process::Command::new("fsck.erofs").arg(device).arg(&image).output().expect("erofs-utils");
    let said = String::from_utf8_lossy(&output.stderr) + String::from_utf8_lossy(&output.stdout);
    // Before version 1.6 it knows blocks of 4096 bytes only, and says so.
    let is_too_old = said.contains("blksize 512 isn't supported");
    assert!(output.status.success() || is_too_old, "{said}");
}
