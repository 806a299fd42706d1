//! One index of a stack of layers, beside overlayfs over the same layers applied to folders, and over their indexes.

#[path = "support/mounted.rs"]
mod mounted;
mod support;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;

use carrack_layer::tar::{Entry, EntryKind, Writer};
use carrack_layer::{ApplyOptions, Error, IndexOptions, Indexed, Limits, apply, index, merge};
use carrack_sys::rooted::Root;
use mounted::{file, mount, seen, stack};
use proptest::prelude::*;
use support::{Raw, Tar};

type Seen = BTreeMap<String, String>;

fn index_of(tar: &[u8]) -> File {
    let mut out = Cursor::new(Vec::new());
    index(tar, &mut out, &IndexOptions::new(Path::new("/tmp"))).unwrap();
    file(&out.into_inner())
}

fn merged(tars: &[Vec<u8>]) -> Result<Root, Error> {
    let mut out = Cursor::new(Vec::new());
    merge(tars.iter().map(|tar| index_of(tar).into()).collect(), &[], &mut out, Limits::default())?;
    let devices: Vec<_> = tars.iter().map(|tar| file(tar)).collect();
    Ok(mount(&file(&out.into_inner()), &devices))
}

fn summary(tar: &[u8]) -> Indexed {
    index(tar, &mut Cursor::new(Vec::new()), &IndexOptions::new(Path::new("/tmp"))).unwrap()
}

/// Overlayfs over folders, or over single indexes; it does not know that a whole layer can be opaque.
fn stacked(tars: &[Vec<u8>], of_indexes: bool) -> Seen {
    let visible = tars.iter().rposition(|tar| summary(tar).is_opaque).unwrap_or(0);
    let folders: Vec<_> = tars.iter().map(|_| tempfile::tempdir().unwrap()).collect();
    let layer = |(folder, tar): (&tempfile::TempDir, &Vec<u8>)| {
        if of_indexes {
            return mount(&index_of(tar), &[file(tar)]);
        }
        let root = Root::open(folder.path()).unwrap();
        apply(tar.as_slice(), &root, &ApplyOptions::default()).unwrap();
        root
    };
    let layers: Vec<_> = folders.iter().zip(tars).skip(visible).map(layer).collect();
    seen(&stack(&layers.iter().collect::<Vec<_>>()), false)
}

/// Where no folder is implied, all is the same; implied folders hide the metadata of those below from overlayfs.
fn assert_same(tars: &[Vec<u8>]) {
    let has_implied = tars.iter().any(|tar| summary(tar).implicit_dirs > 0);
    let compared = |mut lines: Seen| {
        let folders = lines.values_mut().filter(|line| line.starts_with("Directory"));
        folders.filter(|_| has_implied).for_each(|line| line.truncate("Directory".len()));
        lines.values_mut().for_each(|line| *line = line.replace(" trusted.overlay.opaque=y", ""));
        lines
    };
    let found = compared(seen(&merged(tars).unwrap(), false));
    assert_eq!(found, compared(stacked(tars, false)));
    assert_eq!(found, compared(stacked(tars, true)));
}

#[test]
fn a_stack_as_overlayfs_shows_it() {
    let base = Tar::default()
        .dir("./")
        .dir("a")
        .file("a/kept", "1")
        .file("a/gone", "2")
        .file("a/changed", "3")
        .hardlink("a/other", "a/changed")
        .dir("opaque")
        .file("opaque/hidden", "4")
        .dir("becomes-file")
        .file("becomes-file/x", "5")
        .file("becomes-dir", "6")
        .symlink("link", "a")
        .raw(&Raw { name: b"implied/", flag: b'5', mode: "1700", uid: b"7", ..Raw::default() })
        .end();
    let middle = Tar::default()
        .file("a/.wh.gone", "")
        .file("a/changed", "new")
        .file("opaque/.wh..wh..opq", "")
        .file("opaque/new", "7")
        .file("becomes-file", "8")
        .dir("becomes-dir")
        .file("becomes-dir/y", "9")
        .file("implied/file", "10")
        .end();
    let top = Tar::default().file(".wh.becomes-dir", "").file("a/gone", "back").file(".wh.nothing", "").end();
    let tars = [base, middle, top];
    assert_same(&tars);
    let root = merged(&tars).unwrap();
    let implied = root.metadata("implied").unwrap().unwrap();
    assert_eq!((implied.mode, implied.uid), (0o1700, 7), "as the base describes it");
    assert_eq!(root.metadata("a/other").unwrap().unwrap().links, 1, "its other name was replaced");
    assert_eq!(root.at("opaque").unwrap().xattr_names().unwrap().len(), 0);
}

#[test]
fn hardlinks_to_files_of_lower_layers() {
    let base =
        Tar::default().dir("usr").dir("usr/lib").file("usr/lib/a", "text").symlink("lib", "usr/lib").end();
    let top = Tar::default()
        .hardlink("b", "lib/a")
        .hardlink("usr/c", "/usr/lib/a")
        .file(".wh.lib", "")
        .file("usr/lib/.wh.a", "")
        .end();
    let root = merged(&[base.clone(), top]).unwrap();
    assert_eq!(root.read_small("b", 10).unwrap().unwrap(), b"text");
    let metadata = root.metadata("usr/c").unwrap().unwrap();
    assert_eq!((metadata.links, metadata.inode), (2, root.metadata("b").unwrap().unwrap().inode));
    assert!(root.metadata("usr/lib/a").unwrap().is_none());
    let lost = Tar::default().hardlink("b", "usr/lib/none").end();
    let error = merged(&[base.clone(), lost]).unwrap_err().to_string();
    assert!(error.contains("usr/lib/none") && error.contains("hardlink"), "{error}");
    for folder in ["usr/lib", "usr"] {
        let error = merged(&[base.clone(), Tar::default().hardlink("b", folder).end()]).unwrap_err();
        assert!(error.to_string().contains(folder), "{error}");
    }
}

#[test]
fn as_many_layers_as_there_may_be() {
    let tar = |number: usize| {
        let link = format!("{number}");
        let tar = Tar::default().dir("./").file(&link, &link).file("last", &link);
        if number > 0 { tar.file(&format!(".wh.{}", number - 1), "").end() } else { tar.end() }
    };
    let tars: Vec<_> = (0..127).map(tar).collect();
    let root = merged(&tars).unwrap();
    assert_eq!(seen(&root, false).len(), 3, "the root and two files");
    assert_eq!(root.read_small("last", 10).unwrap().unwrap(), b"126");
    let error = merge(
        (0..128).map(|number| index_of(&tar(number)).into()).collect(),
        &[],
        &mut Cursor::new(Vec::new()),
        Limits::default(),
    );
    assert!(is_too_large(&error.unwrap_err()));
}

fn is_too_large(error: &Error) -> bool {
    matches!(error, Error::Index(carrack_erofs::Error::TooLarge { .. }))
}

#[test]
fn too_many_names_are_told_apart_from_damage() {
    let limits = Limits { entries: 100, ..Limits::default() };
    let tar = |start: usize| {
        (start..start + 60).fold(Tar::default(), |tar, number| tar.file(&number.to_string(), "")).end()
    };
    let error = merge(
        vec![index_of(&tar(0)).into(), index_of(&tar(60)).into()],
        &[],
        &mut Cursor::new(Vec::new()),
        limits,
    );
    let error = error.unwrap_err();
    assert!(is_too_large(&error), "{error}");
    assert!(error.to_string().contains("100 entries"), "{error}");
}

#[test]
fn a_damaged_index_is_an_error() {
    let tar = Tar::default()
        .dir("d")
        .file("d/.wh..wh..opq", "")
        .file("d/f", "x")
        .hardlink("d/g", "d/f")
        .symlink("l", "d")
        .symlink("m", &"x".repeat(99))
        .file(".wh.w", "")
        .hardlink("h", "below")
        .end();
    let below = Tar::default().file("below", "").end();
    let mut out = Cursor::new(Vec::new());
    index(tar.as_slice(), &mut out, &IndexOptions::new(Path::new("/tmp"))).unwrap();
    let bytes = out.into_inner();
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= [1, 0x80, 0xff][index % 3];
        // It may be another good index, but must be decided without a panic.
        let layers = vec![index_of(&below).into(), file(&damaged).into()];
        let result = merge(layers, &[], &mut Cursor::new(Vec::new()), Limits::default());
        assert!(result.is_err() || !(1024..1536).contains(&index), "{index}: it is under the checksum");
    }
    for length in (0..bytes.len()).step_by(100) {
        merge(vec![file(&bytes[..length]).into()], &[], &mut Cursor::new(Vec::new()), Limits::default())
            .unwrap_err();
    }
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        12 => "[a-d]".prop_map(String::into_bytes),
        1 => "[!-.]{1,2}".prop_map(|name| format!("-{name}").into_bytes()),
        1 => prop::collection::vec(128u8..=255, 1..4),
        1 => (250usize..=255).prop_map(|length| vec![b'n'; length]),
    ]
}

fn path() -> impl Strategy<Value = std::path::PathBuf> {
    prop::collection::vec(name(), 1..4).prop_map(|names| {
        use std::os::unix::ffi::OsStringExt;
        names.into_iter().map(std::ffi::OsString::from_vec).collect()
    })
}

/// What an entry is, and where; whiteouts and opaque folders among them.
fn entry() -> impl Strategy<Value = Entry> {
    let kind = prop_oneof![
        4 => Just(EntryKind::File),
        4 => Just(EntryKind::Directory),
        1 => "[a-d/.]{1,5}".prop_map(|target| EntryKind::Symlink { target: target.into() }),
        2 => path().prop_map(|target| EntryKind::Hardlink { target }),
        1 => Just(EntryKind::Fifo),
        1 => (1u32..4096, 0u32..=0xf_ffff).prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
    ];
    let mtime = (-(1i64 << 30)..1 << 33, 0u32..1_000_000_000);
    let meaning = prop_oneof![6 => Just(""), 2 => Just(".wh."), 1 => Just(".wh..wh..opq")];
    (path(), kind, meaning, 0u32..0o7777, (0u32..1 << 31, mtime)).prop_map(
        |(path, kind, meaning, mode, (uid, mtime))| {
            let (path, kind) = match (meaning, path.file_name()) {
                (".wh.", Some(name)) if name.len() < 250 => {
                    let mut whiteout = std::ffi::OsString::from(".wh.");
                    whiteout.push(name);
                    (path.with_file_name(whiteout), EntryKind::File)
                }
                (".wh..wh..opq", _) => (path.with_file_name(".wh..wh..opq"), EntryKind::File),
                _ => (path, kind),
            };
            let size_bytes = if kind == EntryKind::File { u64::from(mode) * 3 } else { 0 };
            let xattrs = match kind {
                EntryKind::File | EntryKind::Directory if mode % 3 == 0 => {
                    vec![("user.x".into(), vec![7; mode as usize % 50])]
                }
                _ => Vec::new(),
            };
            Entry { path, kind, mode, uid, gid: uid / 2, mtime, size_bytes, xattrs }
        },
    )
}

/// Whether `apply` takes the entries, and the layer needs no other to be understood.
fn is_whole(entries: &[Entry]) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let root = Root::open(folder.path()).unwrap();
    let applied = apply(tar_of(entries).as_slice(), &root, &ApplyOptions::default());
    applied.is_ok_and(|applied| applied.links_below.is_empty())
}

/// A layer as `apply` takes it: entries that it refuses are left out.
fn layer() -> impl Strategy<Value = Vec<Entry>> {
    prop::collection::vec(entry(), 0..14).prop_map(|entries| {
        let mut good: Vec<Entry> = Vec::new();
        for entry in entries {
            good.push(entry);
            if !is_whole(&good) {
                good.pop();
            }
        }
        good
    })
}

/// The entries, and one for each folder that they need; what cannot be applied then is left out.
fn described(entries: Vec<Entry>) -> Vec<Entry> {
    let folder = |path: &Path| {
        let (path, kind) = (path.to_owned(), EntryKind::Directory);
        Entry { path, kind, mode: 0o750, uid: 7, gid: 8, mtime: (9, 10), size_bytes: 0, xattrs: Vec::new() }
    };
    let mut described = vec![folder(Path::new("."))];
    for entry in entries {
        let mut above: Vec<_> =
            entry.path.ancestors().skip(1).filter(|path| *path != Path::new("")).collect();
        above.reverse();
        let before = described.len();
        described.extend(above.into_iter().map(folder));
        described.push(entry);
        if !is_whole(&described) {
            described.truncate(before);
        }
    }
    described
}

fn tar_of(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let data = vec![entry.mode as u8; usize::try_from(entry.size_bytes).unwrap()];
        writer.append(entry, &mut data.as_slice()).unwrap();
    }
    writer.finish().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_layer_is_what_apply_makes_of_it(layer in layer()) {
        let tar = tar_of(&layer);
        let folder = tempfile::tempdir().unwrap();
        let root = Root::open(folder.path()).unwrap();
        let applied = apply(tar.as_slice(), &root, &ApplyOptions::default()).unwrap();
        let mut found = seen(&mount(&index_of(&tar), &[file(&tar)]), true);
        let mut expected = seen(&root, true);
        for lines in [&mut found, &mut expected] {
            // All whiteouts are one inode; the root has the owner of the folder that was there.
            lines.values_mut().filter(|line| line.starts_with("CharacterDevice 0 0:")).for_each(String::clear);
            if applied.implicit_dirs.iter().any(|path| path == Path::new("")) {
                lines.remove("");
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn any_stack_is_what_overlayfs_shows(layers in prop::collection::vec(layer(), 1..5)) {
        assert_same(&layers.iter().map(|layer| tar_of(layer)).collect::<Vec<_>>());
    }

    #[test]
    fn a_stack_that_implies_nothing_is_the_same_to_the_last_bit(layers in prop::collection::vec(layer(), 1..5)) {
        let layers: Vec<_> = layers.into_iter().map(|layer| tar_of(&described(layer))).collect();
        assert_same(&layers);
    }
}
