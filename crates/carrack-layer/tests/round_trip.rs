//! Property: what the writer writes is read and applied, and the diff of that is the same archive.

mod support;

use std::collections::BTreeSet;
use std::path::PathBuf;

use carrack_layer::tar::{Entry, EntryKind, Reader, Writer};
use carrack_layer::{
    ApplyOptions, ArchiveOptions, DiffOptions, ExtractOptions, apply, archive, diff, extract,
};
use carrack_sys::rooted::Root;
use proptest::prelude::*;

/// A name: often short, sometimes not UTF-8, sometimes so long that it needs a PAX header.
fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-c]{1,2}".prop_map(String::into_bytes),
        1 => prop::collection::vec(128u8..=255, 1..4),
        1 => "[a-z]{120,200}".prop_map(String::into_bytes),
    ]
}

fn kind() -> impl Strategy<Value = EntryKind> {
    prop_oneof![
        3 => Just(EntryKind::File),
        3 => Just(EntryKind::Directory),
        1 => "[a-z/.]{1,130}".prop_map(|target| EntryKind::Symlink { target: target.into() }),
        1 => Just(EntryKind::Fifo),
        1 => (1u32..4096, 0u32..256).prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
    ]
}

prop_compose! {
    fn entry()(
        parts in prop::collection::vec(name(), 1..4),
        kind in kind(),
        mode in prop_oneof![Just(0o644), 0u32..0o7777],
        uid in prop_oneof![Just(0), 0u32..u32::MAX],
        mtime in prop_oneof![Just(1_500_000_000), -1000i64..10_000_000_000],
        data in prop_oneof![Just(0u64), 0u64..3000],
        attribute in prop::option::of(prop::collection::vec(any::<u8>(), 1..20)),
    ) -> Entry {
        use std::os::unix::ffi::OsStringExt;
        let path = parts.into_iter().map(std::ffi::OsString::from_vec).collect::<PathBuf>();
        let size_bytes = if kind == EntryKind::File { data } else { 0 };
        let has_xattrs = matches!(kind, EntryKind::File | EntryKind::Directory);
        let xattrs = attribute.filter(|_| has_xattrs).map(|value| ("user.test".into(), value)).into_iter().collect();
        let mode = if matches!(kind, EntryKind::Symlink { .. }) { 0o777 } else { mode };
        Entry { path, kind, mode, uid, gid: uid / 2, mtime: (mtime, 0), size_bytes, xattrs }
    }
}

/// Drops entries of names that are taken or lie below something that is no folder, so that the order does not matter.
fn consistent(entries: Vec<Entry>) -> Vec<Entry> {
    let mut folders = BTreeSet::from([PathBuf::new()]);
    let mut others = BTreeSet::new();
    let mut kept = Vec::new();
    for entry in entries {
        let parents: Vec<_> = entry.path.ancestors().skip(1).map(PathBuf::from).collect();
        let is_taken = folders.contains(&entry.path) || others.contains(&entry.path);
        if is_taken || parents.iter().any(|parent| others.contains(parent)) {
            continue;
        }
        folders.extend(parents);
        let names = if entry.kind == EntryKind::Directory { &mut folders } else { &mut others };
        names.insert(entry.path.clone());
        kept.push(entry);
    }
    kept
}

fn written(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        writer.append(entry, std::io::repeat(b'x')).unwrap();
    }
    writer.finish().unwrap()
}

fn read_back(tar: &[u8]) -> Vec<Entry> {
    let mut reader = Reader::new(tar);
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

#[test]
fn a_folder_without_a_name_keeps_having_none() {
    let root = Entry {
        path: PathBuf::new(),
        kind: EntryKind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: (0, 0),
        size_bytes: 0,
        xattrs: Vec::new(),
    };
    assert_eq!(read_back(&written(std::slice::from_ref(&root))), [root]);
}

fn diff_of(root: &Root) -> Vec<u8> {
    let mut tar = Vec::new();
    diff(root, &DiffOptions::default(), &mut tar).unwrap();
    tar
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(entries in prop::collection::vec(entry(), 0..8)) {
        prop_assert_eq!(read_back(&written(&entries)), entries);
    }

    #[test]
    fn the_diff_of_an_applied_layer_is_that_layer(entries in prop::collection::vec(entry(), 0..12)) {
        let entries = consistent(entries);
        let one = support::fixture();
        let applied = apply(written(&entries).as_slice(), &one.root, &ApplyOptions::default()).unwrap();
        let first = diff_of(&one.root);
        for entry in read_back(&first) {
            match entries.iter().find(|original| original.path == entry.path) {
                Some(original) => prop_assert_eq!(original, &entry),
                None => prop_assert!(applied.implicit_dirs.contains(&entry.path)),
            }
        }
        prop_assert_eq!(read_back(&first).len(), entries.len() + applied.implicit_dirs.len() - 1);
        let two = support::fixture();
        two.apply(&first).unwrap();
        prop_assert_eq!(diff_of(&two.root), first, "applied again, it is the same to the byte");
        carrack_sys::tree::remove_tree(one.folder.path()).unwrap();
    }

    #[test]
    fn hostile_bytes_do_not_panic(
        mut tar in prop::collection::vec(entry(), 1..4).prop_map(|entries| written(&entries)),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        for (index, byte) in changes {
            let index = index.index(tar.len());
            tar[index] = byte;
            let header = index / 512 * 512;
            let block = &mut tar[header..header + 512];
            block[148..156].fill(b' ');
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
        let fixture = support::fixture();
        let _ = fixture.apply(&tar);
    }
}

#[test]
fn whiteouts_hardlinks_and_sockets_in_a_diff() {
    let fixture = support::fixture();
    let tar = support::Tar::default()
        .file("a", "x")
        .hardlink("d/b", "a")
        .file("d/.wh.c", "")
        .file("d/.wh..wh..opq", "");
    fixture.apply(&tar.end()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(fixture.path("socket")).unwrap());
    let entries = read_back(&diff_of(&fixture.root));
    let paths: Vec<_> = entries.iter().map(|entry| entry.path.to_str().unwrap()).collect();
    assert_eq!(paths, ["a", "d", "d/.wh..wh..opq", "d/b", "d/.wh.c"]);
    assert_eq!(entries[3].kind, EntryKind::Hardlink { target: "a".into() });
}

#[test]
fn an_upper_folder_that_is_not_all_is_refused() {
    for name in ["trusted.overlay.redirect", "trusted.overlay.metacopy"] {
        let fixture = support::fixture();
        fixture.apply(&support::Tar::default().file("a", "").end()).unwrap();
        fixture.root.at("a").unwrap().set_xattr(name.as_ref(), b"x").unwrap();
        assert!(diff(&fixture.root, &DiffOptions::default(), std::io::sink()).is_err(), "{name}");
    }
}

#[test]
fn times_are_clamped() {
    let fixture = support::fixture();
    fixture.apply(&support::Tar::default().file("a", "").end()).unwrap();
    for (max_mtime, expected) in [(Some(5), 5), (Some(2_000_000_000), 1_000_000_000), (None, 1_000_000_000)] {
        let mut tar = Vec::new();
        diff(&fixture.root, &DiffOptions { max_mtime, ..DiffOptions::default() }, &mut tar).unwrap();
        assert_eq!(read_back(&tar)[0].mtime, (expected, 0));
    }
}

#[test]
fn mount_points_are_left_out_unless_they_hold_something() {
    let fixture = support::fixture();
    let tar =
        support::Tar::default().file("etc/hosts", "").file("data/bind/own", "x").file("run/empty/hosts", "");
    fixture.apply(&tar.file("full", "x").end()).unwrap();
    let names = ["etc", "etc/hosts", "data", "data/bind", "run", "run/empty", "full"];
    let mount_points = names.iter().map(PathBuf::from).collect();
    let mut tar = Vec::new();
    diff(&fixture.root, &DiffOptions { mount_points, ..DiffOptions::default() }, &mut tar).unwrap();
    let paths: Vec<_> = read_back(&tar).into_iter().map(|entry| entry.path).collect();
    let expected = ["data", "data/bind", "data/bind/own", "full", "run", "run/empty", "run/empty/hosts"];
    assert_eq!(paths, expected.map(PathBuf::from));
}

#[test]
fn a_tree_is_archived_and_extracted() {
    let fixture = support::fixture();
    fixture.apply(&support::Tar::default().file("top/a/.wh..wh..opq", "").file("top/b", "x").end()).unwrap();
    let mut tar = Vec::new();
    let whole = ArchiveOptions { path: "top".into(), name: "new".into() };
    let summary = archive(&fixture.root, &whole, &mut tar).unwrap();
    assert_eq!((summary.entries, summary.size_bytes), (3, tar.len() as u64));
    let single = ArchiveOptions { path: "/top/b".into(), name: "c".into() };
    let mut one_file = Vec::new();
    archive(&fixture.root, &single, &mut one_file).unwrap();
    extract(tar.as_slice(), &fixture.root, &ExtractOptions::default()).unwrap();
    extract(one_file.as_slice(), &fixture.root, &ExtractOptions { folder: "new".into(), chown: None })
        .unwrap();
    let listing = fixture.listing();
    assert_eq!(listing["new/a"], "folder");
    assert_eq!((listing["new/b"].as_str(), listing["new/c"].as_str()), ("\"x\"", "\"x\""));
    let absent = ArchiveOptions { path: "absent".into(), name: "x".into() };
    assert!(archive(&fixture.root, &absent, std::io::sink()).is_err());
}
