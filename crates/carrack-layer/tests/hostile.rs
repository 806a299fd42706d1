//! Archives made to break out, to be read in two ways, or to use everything up. `Fixture::apply` checks after each
//! that nothing outside the target has changed.

mod support;

use std::io::{self, Read};
use std::path::Path;

use carrack_layer::{ApplyOptions, Error, ExtractOptions, apply, extract};
use carrack_sys::rooted::FileType;
use support::{Raw, Tar, fixture, lines};

/// The reason why a layer is refused.
fn refusal(tar: Tar) -> String {
    fixture().apply(&tar.end()).expect_err("the layer was applied").to_string()
}

#[test]
fn paths_that_leave_the_root_are_refused() {
    for name in ["..", "../outside/new", "a/../../outside/new", "a/..", "/../outside/new"] {
        assert!(refusal(Tar::default().file(name, "x")).contains("`..`"), "{name}");
        assert!(refusal(Tar::default().dir(name)).contains("`..`"), "{name}");
        assert!(refusal(Tar::default().file("a", "").hardlink("b", name)).contains("`..`"), "{name}");
    }
    assert!(refusal(Tar::default().symlink(".", "../outside")).contains("root"));
    assert!(refusal(Tar::default().symlink("/", "../outside")).contains("root"));
}

#[test]
fn links_out_of_the_root_lead_nowhere() {
    for target in ["../outside", "/../outside", "../../../../../../tmp"] {
        let fixture = fixture();
        let absolute = fixture.folder.path().join("outside");
        for target in [target, absolute.to_str().unwrap()] {
            let tar = Tar::default().symlink("link", target).file("link/new", "x").file("link/secret", "x");
            fixture.apply(&tar.end()).unwrap();
        }
    }
}

#[test]
fn a_link_is_replaced_not_written_through() {
    let fixture = fixture();
    let secret = fixture.folder.path().join("outside/secret");
    let tar = Tar::default().symlink("file", secret.to_str().unwrap()).file("file", "new");
    let tar = tar.symlink("folder", "../outside").dir("folder").file("folder/secret", "new");
    fixture.apply(&tar.end()).unwrap();
    let expected = [("file", "\"new\""), ("folder", "opaque"), ("folder/secret", "\"new\"")];
    assert_eq!(fixture.listing(), lines(expected));
}

#[test]
fn a_folder_swapped_for_a_link_by_a_later_entry() {
    let fixture = fixture();
    let tar = Tar::default().dir("a").file("a/x", "1").symlink("a", "../outside").file("a/secret", "2");
    fixture.apply(&tar.end()).unwrap();
    assert!(fixture.path("outside/secret").is_file(), "the link was resolved below the root");
}

#[test]
fn hardlinks_reach_entries_of_the_layer_only() {
    let fixture = fixture();
    let secret = fixture.folder.path().join("outside/secret");
    // They may lead to a layer below, whose root the path is within: here it is nothing yet.
    let direct = Tar::default().hardlink("a", secret.to_str().unwrap()).end();
    let through_link = Tar::default().symlink("out", "../outside").hardlink("b", "out/secret").end();
    for (tar, name, target) in
        [(direct, "a", secret.strip_prefix("/").unwrap()), (through_link, "b", Path::new("outside/secret"))]
    {
        let applied = fixture.apply(&tar).unwrap();
        let stand_in = fixture.root.at(name).unwrap().metadata().unwrap().unwrap();
        assert_eq!((stand_in.kind, stand_in.links), (FileType::Socket, 1), "{name}");
        assert_eq!(applied.links_below.target(&stand_in), Some(target));
    }
    let link_itself =
        Tar::default().symlink("link", secret.to_str().unwrap()).hardlink("a", "link").file("a", "x");
    fixture.apply(&link_itself.end()).unwrap();
    assert!(
        refusal(Tar::default().file(".wh.gone", "").hardlink("a", "gone")).contains("not in this archive")
    );
    assert!(refusal(Tar::default().dir("d").hardlink("a", "d")).contains("hardlink"));
    assert!(refusal(Tar::default().hardlink("a", "a")).contains("not in this archive"));
}

#[test]
fn hardlinks_to_lower_layers_are_remembered_up_to_a_bound() {
    let long = "a/".repeat(2000);
    let tar = (0..2200).fold(Tar::default(), |tar, number| {
        let name = format!("l{number}");
        let target = format!("{long}{number}");
        tar.pax(&[("linkpath", target.as_bytes())]).hardlink(&name, "short")
    });
    let refused = fixture().apply(&tar.end()).unwrap_err().to_string();
    assert!(refused.contains("paths have more than 8388608 bytes"), "{refused}");
}

#[test]
fn whiteout_tricks_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "a/.wh..", "a/.wh..."] {
        assert!(refusal(Tar::default().file(name, "")).contains("whiteout"), "{name}");
    }
    assert!(refusal(Tar::default().file(".wh.a/b", "")).contains("below a whiteout"));
    let device = Raw { name: b"a", flag: b'3', device: ("0", "0"), ..Raw::default() };
    assert!(refusal(Tar::default().raw(&device)).contains("0:0"), "only `.wh.` makes a whiteout");
    let fixture = fixture();
    fixture.apply(&Tar::default().symlink("out", "../outside").file("out/.wh.secret", "").end()).unwrap();
    fixture.apply(&Tar::default().symlink("out2", "../outside").file("out2/.wh..wh..opq", "").end()).unwrap();
}

#[test]
fn a_file_is_no_folder() {
    let error = refusal(Tar::default().file("a", "").file("a/b", ""));
    assert!(error.contains("a/b"), "{error}");
    let fifo = Raw { name: b"a", flag: b'6', ..Raw::default() };
    refusal(Tar::default().raw(&fifo).file("a/b", ""));
}

#[test]
fn headers_that_can_be_read_in_two_ways_are_refused() {
    let two_sizes = Tar::default().pax(&[("size", b"0")]).file("a", "data");
    assert!(refusal(two_sizes).contains("two sizes"));
    let two_sizes = Tar::default().pax(&[("size", b"1024")]).file("a", &"x".repeat(512));
    assert!(refusal(two_sizes).contains("two sizes"));
    let twice = Tar::default().pax(&[("path", b"a"), ("path", b"b")]).file("c", "");
    assert!(refusal(twice).contains("comes twice"));
    let twice = Tar::default().pax(&[("path", b"a")]).pax(&[("path", b"b")]).file("c", "");
    assert!(refusal(twice).contains("two extended headers"));
    let data_of_link = Raw { name: b"a", flag: b'2', target: b"b", data: b"data", ..Raw::default() };
    assert!(refusal(Tar::default().raw(&data_of_link)).contains("without data"));
    let global = Raw { name: b"g", flag: b'g', data: &support::pax_record("size", b"1"), ..Raw::default() };
    assert!(refusal(Tar::default().raw(&global).file("a", "")).contains("global"));
    let mut lone_zero = Tar::default().file("a", "");
    lone_zero.0.resize(lone_zero.0.len() + 512, 0);
    assert!(refusal(lone_zero.file("b", "")).contains("zero block"));
}

#[test]
fn broken_headers_are_refused() {
    let mut checksum = Tar::default().file("a", "").end();
    checksum[0] = b'b';
    assert!(fixture().apply(&checksum).unwrap_err().to_string().contains("checksum"));
    for (size, reason) in [("9", "octal"), ("1 1", "other bytes"), ("-1", "octal")] {
        let raw = Raw { name: b"a", size: Some(size), ..Raw::default() };
        assert!(refusal(Tar::default().raw(&raw)).contains(reason), "{size}");
    }
    for flag in [b'S', b'D', b'M', b'V', b'8', b'Z', 0xff] {
        refusal(Tar::default().raw(&Raw { name: b"a", flag, ..Raw::default() }));
    }
    let malformed: [&[u8]; 7] = [b"x", b"5 ab\n", b"99 a=b\n", b"6 =bc\n", b"06 a=b", b"+7 a=b\n", b"0 \n"];
    for data in malformed {
        let raw = Raw { name: b"p", flag: b'x', data, ..Raw::default() };
        assert!(refusal(Tar::default().raw(&raw).file("a", "")).contains("PAX"), "{}", data.escape_ascii());
    }
    for (key, value) in
        [("path", "a\0b"), ("size", "-1"), ("uid", "0x1"), ("mtime", "1.x"), ("size", "99999999999999999999")]
    {
        assert!(
            refusal(Tar::default().pax(&[(key, value.as_bytes())]).file("a", "")).contains("PAX"),
            "{key}"
        );
    }
    for uid in ["4294967295", "4294967296", "18446744073709551615"] {
        refusal(Tar::default().pax(&[("uid", uid.as_bytes())]).file("a", ""));
    }
}

#[test]
fn sparse_files_and_lies_about_sizes_end_at_once() {
    assert!(
        refusal(Tar::default().pax(&[("GNU.sparse.realsize", b"1125899906842624")]).file("a", ""))
            .contains("sparse")
    );
    assert!(
        refusal(Tar::default().pax(&[("SCHILY.realsize", b"1125899906842624")]).file("a", ""))
            .contains("sparse")
    );
    for size in ["1125899906842624", "9223372036854775807"] {
        let fixture = fixture();
        fixture.apply(&Tar::default().pax(&[("size", size.as_bytes())]).file("a", "").end()).unwrap_err();
        assert!(fixture.path("a").metadata().map_or(0, |metadata| metadata.len()) < 4096);
    }
}

#[test]
fn truncated_archives_are_errors_wherever_they_end() {
    let tar = Tar::default().pax(&[("path", b"name")]).file("a", &"x".repeat(700)).0;
    for length in (1..tar.len()).step_by(97).chain([512, 1024, 1536, 2048]) {
        let result = fixture().apply(&tar[..length]);
        assert!(matches!(result, Err(Error::Truncated { .. })), "{length}: {result:?}");
    }
}

#[test]
fn long_names_and_long_extended_headers_are_bounded() {
    assert!(
        refusal(Tar::default().pax(&[("path", "a/".repeat(3000).as_bytes())]).file("a", "")).contains("4095")
    );
    assert!(
        refusal(Tar::default().pax(&[("path", "a".repeat(300).as_bytes())]).file("a", "")).contains("long")
    );
    let bomb = Raw { name: b"p", flag: b'x', size: Some("17777777777"), ..Raw::default() };
    assert!(refusal(Tar::default().raw(&bomb)).contains("extended header of"));
    let bomb = Raw { name: b"p", flag: b'L', size: Some("17777777777"), ..Raw::default() };
    assert!(refusal(Tar::default().raw(&bomb)).contains("extended header of"));
}

#[test]
fn the_deepest_folders_that_a_path_can_name() {
    let fixture = fixture();
    let path = "a/".repeat(2040) + "file";
    fixture.apply(&Tar::default().pax(&[("path", path.as_bytes())]).file("a", "deep").end()).unwrap();
    assert_eq!(std::fs::read(fixture.path(&path)).unwrap_or_default(), b"", "longer than a path of the host");
    assert_eq!(fixture.root.read_small(&path, 10).unwrap().unwrap(), b"deep");
    carrack_sys::tree::remove_tree(&fixture.path("a")).unwrap();
}

#[test]
fn implicit_folders_without_end_are_an_error() {
    struct Endless(u64, Vec<u8>);
    impl Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.1.is_empty() {
                // One more folder each time, with the longest path there can be.
                let path = format!("{}{}/file", ("a".repeat(250) + "/").repeat(16), self.0);
                self.1 = Tar::default().pax(&[("path", path.as_bytes())]).file("a", "").0;
                self.0 += 1;
            }
            let count = buffer.len().min(self.1.len());
            buffer[..count].copy_from_slice(&self.1[..count]);
            self.1.drain(..count);
            Ok(count)
        }
    }
    let fixture = fixture();
    let error = apply(Endless(0, Vec::new()), &fixture.root, &ApplyOptions::default()).unwrap_err();
    assert!(error.to_string().contains("no entry describes"), "{error}");
}

#[test]
fn extraction_stays_below_the_root_and_gives_whiteouts_no_meaning() {
    let fixture = fixture();
    std::os::unix::fs::symlink("../outside", fixture.path("out")).unwrap();
    std::fs::create_dir(fixture.path("to")).unwrap();
    let tar = Tar::default()
        .file(".wh.a", "x")
        .file("dir/file", "y")
        .file("f", "1")
        .hardlink("g", "f")
        .symlink("l", "/to");
    let tar = tar.file("l/through", "z").end();
    let into = |folder: &str| ExtractOptions { folder: folder.into(), chown: Some((5, 6)) };
    extract(tar.as_slice(), &fixture.root, &into("to")).unwrap();
    assert!(
        extract(tar.as_slice(), &fixture.root, &into("out")).is_err(),
        "there is no such folder below the root"
    );
    let up = Tar::default().file("../../outside/new", "x").end();
    assert!(extract(up.as_slice(), &fixture.root, &into("to")).is_err());
    fixture.assert_outside_is_untouched();
    assert_eq!(
        fixture.listing(),
        lines([
            ("out", "-> ../outside"),
            ("to", "folder"),
            ("to/.wh.a", "\"x\""),
            ("to/dir", "folder"),
            ("to/dir/file", "\"y\""),
            ("to/f", "\"1\""),
            ("to/g", "\"1\""),
            ("to/l", "-> /to"),
            ("to/through", "\"z\""),
        ])
    );
    let owner = fixture.root.metadata("to/f").unwrap().unwrap();
    assert_eq!((owner.uid, owner.gid), (5, 6));
}
