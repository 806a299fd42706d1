//! Layers that behave, and the corners of the layer format.

mod support;

use std::ffi::OsStr;
use std::io::{BufReader, Cursor, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use carrack_layer::{ApplyOptions, Error, IndexOptions, Limits, apply, index, index_file, index_or_skim};
use carrack_oci::Digest;
use rustix::process::umask;
use support::{Raw, Tar, fixture, lines};

#[test]
fn applies_every_kind_with_its_metadata() {
    let fixture = fixture();
    let device = ("1", "3");
    let tar = Tar::default()
        .dir("bin/")
        .raw(&Raw { name: b"bin/su", mode: "4755", uid: b"12", data: b"su", ..Raw::default() })
        .hardlink("bin/link", "bin/su")
        .symlink("bin/sh", "su")
        .raw(&Raw { name: b"null", flag: b'3', mode: "666", device, ..Raw::default() })
        .raw(&Raw { name: b"pipe", flag: b'6', mode: "622", ..Raw::default() })
        .raw(&Raw { name: b"tmp/", flag: b'5', mode: "1777", uid: b"17", ..Raw::default() })
        .raw(&Raw { name: b"group/", flag: b'5', mode: "2755", uid: b"17", ..Raw::default() })
        .file("group/file", "x")
        .end();
    let applied = fixture.apply(&tar).unwrap();
    assert_eq!(applied.diff_id.0, Digest::of(&tar));
    assert_eq!(applied.size_bytes, tar.len() as u64);
    assert_eq!(applied.implicit_dirs, [Path::new("")]);
    assert_eq!(applied.usage.inodes, 8);
    assert_eq!(
        fixture.listing(),
        lines([
            ("bin", "folder"),
            ("bin/su", "\"su\""),
            ("bin/link", "\"su\""),
            ("bin/sh", "-> su"),
            ("null", "CharacterDevice 259"),
            ("pipe", "Fifo 0"),
            ("tmp", "folder"),
            ("group", "folder"),
            ("group/file", "\"x\""),
        ])
    );
    let metadata = |name: &str| {
        let metadata = fixture.path(name).symlink_metadata().unwrap();
        (metadata.mode() & 0o7777, metadata.uid(), metadata.mtime())
    };
    assert_eq!(metadata("bin/su"), (0o4755, 10, 1_000_000_000));
    assert_eq!(metadata("bin"), (0o755, 0, 1_000_000_000), "entries in a folder do not change its time");
    assert_eq!(metadata("bin/sh"), (0o777, 0, 1_000_000_000));
    assert_eq!(metadata("null"), (0o666, 0, 1_000_000_000));
    assert_eq!(metadata("pipe"), (0o622, 0, 1_000_000_000));
    assert_eq!(metadata("tmp"), (0o1777, 15, 1_000_000_000));
    assert_eq!(metadata("group"), (0o2755, 15, 1_000_000_000));
    assert_eq!(
        fixture.path("bin/link").metadata().unwrap().ino(),
        fixture.path("bin/su").metadata().unwrap().ino()
    );
}

#[test]
fn the_umask_of_the_caller_does_not_matter() {
    let fixture = fixture();
    umask(rustix::fs::Mode::from_raw_mode(0o077));
    fixture.apply(&Tar::default().dir("a/").file("a/b", "").file("c/d", "").end()).unwrap();
    for (name, mode) in [("a", 0o755), ("a/b", 0o644), ("c", 0o755), ("c/d", 0o644)] {
        assert_eq!(fixture.path(name).metadata().unwrap().mode() & 0o7777, mode, "{name}");
    }
}

#[test]
fn whiteouts_act_on_lower_layers_only_whatever_the_order() {
    let whiteout_first =
        Tar::default().file(".wh.a", "").file("a", "new").file(".wh.d", "").dir("d").file("d/f", "");
    let whiteout_last =
        Tar::default().file("a", "new").file(".wh.a", "").dir("d").file("d/f", "").file(".wh.d", "");
    let implicit = Tar::default().file("a", "new").file(".wh.a", "").file(".wh.d", "").file("d/f", "");
    for tar in [whiteout_first, whiteout_last, implicit] {
        let fixture = fixture();
        fixture.apply(&tar.end()).unwrap();
        assert_eq!(fixture.listing(), lines([("a", "\"new\""), ("d", "opaque"), ("d/f", "\"\"")]));
    }
}

#[test]
fn whiteouts_of_names_that_the_layer_does_not_bring() {
    let fixture = fixture();
    let tar = Tar::default().file("a/.wh.b", "").file("a/.wh..wh..opq", "").hardlink(".wh.c", ".wh..wh.aufs");
    let applied = fixture.apply(&tar.file(".wh..wh.plnk/1.2", "").end()).unwrap();
    assert_eq!(fixture.listing(), lines([("a", "opaque"), ("a/b", "whiteout"), ("c", "whiteout")]));
    assert_eq!(applied.implicit_dirs, [Path::new(""), Path::new("a")]);
    assert!(!applied.is_opaque);
}

#[test]
fn later_entries_replace_earlier_ones() {
    let fixture = fixture();
    let tar = Tar::default()
        .file("a", "1")
        .file("a", "2")
        .file("b", "1")
        .dir("b")
        .dir("c")
        .file("c/x", "")
        .file("c", "2")
        .dir("d")
        .file("d/x", "")
        .dir("d")
        .file("e", "1")
        .hardlink("f", "e")
        .file("f", "2")
        .symlink("g", "a")
        .file("g", "3")
        .hardlink("h", "e")
        .hardlink("h", "e");
    fixture.apply(&tar.end()).unwrap();
    assert_eq!(
        fixture.listing(),
        lines([
            ("a", "\"2\""),
            ("b", "opaque"), // the file hid what is below, so does the folder in its place
            ("c", "\"2\""),
            ("d", "folder"),
            ("d/x", "\"\""),
            ("e", "\"1\""),
            ("f", "\"2\""),
            ("g", "\"3\""),
            ("h", "\"1\""),
        ])
    );
}

#[test]
fn names_of_any_bytes_and_form() {
    let fixture = fixture();
    let long = "long/".repeat(60) + "name";
    let tar = Tar::default()
        .raw(&Raw { name: b"\xff\xfe\x01", ..Raw::default() })
        .file("./dot/./file", "")
        .file("/absolute", "")
        .pax(&[("path", long.as_bytes()), ("mtime", b"-1.25")])
        .file("short", "pax")
        .raw(&Raw { name: b"././@LongLink", flag: b'L', data: b"gnu/long\0", ..Raw::default() })
        .file("short", "gnu")
        .raw(&Raw { name: b"old/", flag: 0, ..Raw::default() })
        .raw(&Raw {
            name: b"global",
            flag: b'g',
            data: &support::pax_record("comment", b"x"),
            ..Raw::default()
        });
    fixture.apply(&tar.end()).unwrap();
    let listing = fixture.listing();
    assert_eq!(listing["\\xff\\xfe\\x01"], "\"\"");
    assert_eq!(listing["dot/file"], "\"\"");
    assert_eq!(listing["absolute"], "\"\"");
    assert_eq!(listing[long.as_str()], "\"pax\"");
    assert_eq!(listing["gnu/long"], "\"gnu\"");
    assert_eq!(listing["old"], "folder");
    assert!(!listing.contains_key("short"));
    let metadata = fixture.path(&long).metadata().unwrap();
    assert_eq!((metadata.mtime(), metadata.mtime_nsec()), (-2, 750_000_000));
}

#[test]
fn only_harmless_attributes_pass() {
    let fixture = fixture();
    let capability = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let records: [(&str, &[u8]); 7] = [
        ("SCHILY.xattr.user.mine", b"value"),
        ("SCHILY.xattr.security.capability", &capability),
        ("SCHILY.xattr.trusted.overlay.redirect", b"/etc"),
        ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
        ("SCHILY.xattr.user.overlay.opaque", b"y"),
        ("SCHILY.xattr.security.ima", b"x"),
        ("SCHILY.xattr.security.selinux", b"x"),
    ];
    let file = Raw { name: b"file", uid: b"12", ..Raw::default() };
    let tar = Tar::default().pax(&records).raw(&file).pax(&records[2..]).dir("folder");
    fixture.apply(&tar.end()).unwrap();
    let place = fixture.root.at("file").unwrap();
    assert_eq!(place.xattr_names().unwrap(), ["security.capability", "user.mine"]);
    assert_eq!(place.xattr(OsStr::new("security.capability")).unwrap().unwrap(), capability);
    assert!(fixture.root.at("folder").unwrap().xattr_names().unwrap().is_empty());
}

#[test]
fn large_owners_are_kept() {
    let fixture = fixture();
    let base_256 = Raw { name: b"b", uid: &[0x80, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe], ..Raw::default() };
    fixture.apply(&Tar::default().pax(&[("uid", b"3000000000")]).file("a", "").raw(&base_256).end()).unwrap();
    assert_eq!(fixture.path("a").metadata().unwrap().uid(), 3_000_000_000);
    assert_eq!(fixture.path("b").metadata().unwrap().uid(), u32::MAX - 1);
}

#[test]
fn what_follows_the_end_is_hashed_and_ignored() {
    let fixture = fixture();
    let mut tar = Tar::default().file("a", "").end();
    tar.extend_from_slice(&Tar::default().file("b", "").end());
    tar.extend_from_slice(b"garbage");
    let applied = fixture.apply(&tar).unwrap();
    assert_eq!(applied.diff_id.0, Digest::of(&tar));
    assert_eq!(fixture.listing(), lines([("a", "\"\"")]));
}

#[test]
fn what_follows_the_end_has_a_bound() {
    let tar = Tar::default().file("a", "").end();
    let with = |count| tar.as_slice().chain(std::io::repeat(0).take(count));
    let options = IndexOptions::new(Path::new("/tmp"));
    for read in [
        &|count| apply(with(count), &fixture().root, &ApplyOptions::default()).map(drop) as _,
        &|count| index(BufReader::new(with(count)), &mut Cursor::new(Vec::new()), &options).map(drop),
        &|count| {
            let options = IndexOptions { limits: Limits { entries: 2, ..Limits::default() }, ..options };
            let indexed = index_or_skim(BufReader::new(with(count)), &mut Cursor::new(Vec::new()), &options)?;
            assert_eq!(indexed, None, "it has one entry too many");
            Ok(())
        },
        &|count| {
            let file = tempfile::tempfile().unwrap();
            (&file).write_all(&tar).unwrap();
            file.set_len(tar.len() as u64 + count).unwrap();
            index_file(&file, &mut Cursor::new(Vec::new()), &options).map(drop)
        },
    ] as [&dyn Fn(u64) -> Result<(), Error>; 4]
    {
        read(1 << 20).unwrap();
        // It ends there, and not with the stream.
        let error = read(1 << 40).unwrap_err().to_string();
        assert!(error.contains("67108864 bytes follow the archive's end"), "{error}");
    }
}

#[test]
fn an_archive_may_end_without_its_end_mark() {
    fixture().apply(&Tar::default().file("a", "data").0).unwrap();
    fixture().apply(b"").unwrap();
}

#[test]
fn the_bound_on_the_size_holds() {
    let fixture = fixture();
    let tar = Tar::default().file("a", &"x".repeat(100_000)).end();
    let bound = |max_size_bytes| {
        let options = ApplyOptions { max_size_bytes, ..ApplyOptions::default() };
        apply(tar.as_slice(), &fixture.root, &options)
    };
    assert!(bound(tar.len() as u64).is_ok());
    let error = bound(tar.len() as u64 - 1).unwrap_err();
    assert!(matches!(error, Error::TooLarge { .. }), "{error}");
}
