//! What every snapshotter must do, as checks that any implementation can be run through.
//!
//! A check panics when its store breaks the contract; each wants an empty store of its own.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use carrack_content::ContentStore;
use carrack_layer::DiffOptions;
use carrack_layer::tar::{Entry, EntryKind, Writer};
use carrack_oci::{ChainId, Digest};
use carrack_sys::rooted::{Metadata, Root};

use crate::{Error, Kept, SnapshotKey, SnapshotName, Snapshots};

/// A store that can do all that is checked here.
pub trait Store: Snapshots {}

impl<S: Snapshots> Store for S {}

/// A check and its name. It gets a store, and the content store that this one has its tars in.
pub type Check = (&'static str, fn(&dyn Store, &ContentStore));

/// All checks.
pub const CHECKS: &[Check] = &[
    ("changes of an active snapshot are committed and seen by its children", commit_and_build_on),
    ("an active snapshot without parent is empty and writable", prepare_on_nothing),
    ("a view shows its parent and cannot be written to", view_is_read_only),
    ("a key is taken until it is discarded or committed", keys_are_exclusive),
    ("what does not exist is named in the error, or removed already", absent_snapshots),
    ("a snapshot that others stand on is not removed", removal_keeps_parents),
    ("layers unpacked in any order are stacked in theirs", unpack_then_stack),
    ("a layer removes and hides what is below it, also a single one", whiteouts),
    ("a layer opaque at its root hides all below it", opaque_root),
    ("folders that a layer does not describe look like those below", implicit_folders),
    ("the root looks like that of the parent", root_metadata),
    ("stacking and committing what exists already changes nothing", idempotence),
    ("a layer that is broken leaves nothing", broken_layer),
    ("a stack of 127 layers shows all of them", many_layers),
    ("changes are written as the same bytes by all kinds of stores", equal_diffs),
    ("other content of the same length and time is a change", change_without_trace),
    ("names of one file, attributes and times are kept", file_metadata),
    ("a hardlink to a file of a lower layer is that file, with all its names", links_to_lower_files),
    ("a hardlink that leads to no file below is refused", links_that_lead_nowhere),
    ("snapshots come and go in several threads at once", concurrency),
    ("a collection spares what is kept, and nothing else", collection),
];

/// The digest of what every kind of store makes of the changes in [`equal_diffs`].
const CHANGES: &str = "sha256:23c9d9af49c911de9f73a47cf92c0f59df68ad8570b63aa4d06d78f20e7be7bc";

/// Makes an entry of a test layer: `path/` is a folder, anything else a file that holds its own path.
pub fn entry(path: &str) -> Entry {
    let (kind, mode) = match path.ends_with('/') {
        true => (EntryKind::Directory, 0o755),
        false => (EntryKind::File, 0o644),
    };
    let size_bytes = if kind == EntryKind::File { path.len() as u64 } else { 0 };
    let path = PathBuf::from(path.trim_end_matches('/'));
    Entry { path, kind, mode, uid: 0, gid: 0, mtime: (1_000_000_000, 0), size_bytes, xattrs: Vec::new() }
}

/// Commits an active snapshot with the layer of its changes.
fn commit(store: &dyn Store, tars: &ContentStore, key: &SnapshotKey, id: &ChainId) -> crate::Result<()> {
    let mut writer = tars.writer()?;
    let summary = store.diff(key, &DiffOptions::default(), &mut writer)?;
    writer.commit()?;
    store.commit(key, id, &summary.diff_id)
}

/// Writes entries as a layer.
pub fn layer(entries: &[Entry]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for entry in entries {
        let text = entry.path.to_str().expect("test paths are text");
        let data: &mut dyn Read = if entry.size_bytes > 0 { &mut text.as_bytes() } else { &mut io::empty() };
        writer.append(entry, data).expect("memory takes everything");
    }
    writer.finish().expect("memory takes everything")
}

fn key(text: &str) -> SnapshotKey {
    SnapshotKey::new(text).expect("test keys are valid")
}

fn chain_id(text: &str) -> ChainId {
    ChainId(Digest::of(text.as_bytes()))
}

/// Unpacks and stacks one layer; its id is that of `name`.
fn add_layer(store: &dyn Store, parent: Option<&ChainId>, name: &str, entries: &[Entry]) -> ChainId {
    let id = chain_id(name);
    let unpacked = store.unpack(&key("layer"), &mut layer(entries).as_slice(), None).unwrap();
    store.stack(unpacked, parent, &id).unwrap();
    id
}

fn paths(paths: &[&str]) -> Vec<Entry> {
    paths.iter().map(|path| entry(path)).collect()
}

/// All names that a snapshot shows, sorted.
fn shown(root: &Root) -> Vec<String> {
    let mut names = Vec::new();
    carrack_sys::tree::walk(root, |place| {
        names.push(place.path().to_str().expect("test paths are text").to_owned());
        Ok::<_, carrack_sys::Error>(true)
    })
    .unwrap();
    names
}

/// What a view of a committed snapshot shows.
fn content(store: &dyn Store, id: &ChainId) -> Vec<String> {
    let key = SnapshotKey::unique("view");
    let names = shown(&store.view(&key, id).unwrap().open_root().unwrap());
    store.discard(&key).unwrap();
    names
}

fn commit_and_build_on(store: &dyn Store, tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["etc/", "etc/hosts", "etc/passwd"]));
    let root = store.prepare(&key("work"), Some(&base)).unwrap().open_root().unwrap();
    root.at("etc/new").unwrap().create_file(0o600).unwrap();
    root.at("etc/hosts").unwrap().remove().unwrap();
    assert_eq!(shown(&root), ["etc", "etc/new", "etc/passwd"]);
    drop(root);
    let child = chain_id("child");
    commit(store, tars, &key("work"), &child).unwrap();
    assert!(store.contains(&child).unwrap());
    assert_eq!(content(store, &child), ["etc", "etc/new", "etc/passwd"]);
    assert_eq!(content(store, &base), ["etc", "etc/hosts", "etc/passwd"], "the parent is as it was");
    store.prepare(&key("work"), Some(&child)).unwrap();
}

fn prepare_on_nothing(store: &dyn Store, tars: &ContentStore) {
    let root = store.prepare(&key("scratch"), None).unwrap().open_root().unwrap();
    assert!(shown(&root).is_empty());
    root.create_dir_all("a/b", 0o755).unwrap();
    drop(root);
    let again = store.mount(&key("scratch")).unwrap().open_root().unwrap();
    assert_eq!(shown(&again), ["a", "a/b"], "it can be mounted again");
    assert_eq!(again.metadata("/").unwrap().unwrap().mode, 0o755);
    drop(again);
    commit(store, tars, &key("scratch"), &chain_id("scratch")).unwrap();
    assert_eq!(content(store, &chain_id("scratch")), ["a", "a/b"]);
}

fn view_is_read_only(store: &dyn Store, tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["file"]));
    let root = store.view(&key("view"), &base).unwrap().open_root().unwrap();
    assert_eq!(shown(&root), ["file"]);
    assert!(root.at("new").unwrap().create_file(0o600).is_err());
    assert!(root.at("file").unwrap().remove().is_err());
    assert!(root.at("file").unwrap().set_mode(0o777).is_err());
    assert!(matches!(commit(store, tars, &key("view"), &chain_id("x")), Err(Error::ReadOnly { .. })));
}

fn keys_are_exclusive(store: &dyn Store, tars: &ContentStore) {
    store.prepare(&key("one"), None).unwrap();
    assert!(matches!(store.prepare(&key("one"), None), Err(Error::Exists { .. })));
    store.discard(&key("one")).unwrap();
    store.prepare(&key("one"), None).unwrap();
    commit(store, tars, &key("one"), &chain_id("one")).unwrap();
    store.prepare(&key("one"), None).unwrap();
}

fn absent_snapshots(store: &dyn Store, tars: &ContentStore) {
    let absent = chain_id("absent");
    assert!(!store.contains(&absent).unwrap());
    assert!(matches!(store.prepare(&key("a"), Some(&absent)), Err(Error::NotFound { .. })));
    assert!(matches!(store.view(&key("a"), &absent), Err(Error::NotFound { .. })));
    assert!(matches!(store.usage(&absent), Err(Error::NotFound { .. })));
    assert!(matches!(store.mount(&key("a")), Err(Error::NotActive { .. })));
    assert!(matches!(commit(store, tars, &key("a"), &absent), Err(Error::NotActive { .. })));
    let unpacked = store.unpack(&key("layer"), &mut layer(&[]).as_slice(), None).unwrap();
    assert!(matches!(store.stack(unpacked, Some(&absent), &chain_id("b")), Err(Error::NotFound { .. })));
    store.discard(&key("a")).unwrap();
    store.remove(&absent).unwrap();
    assert!(store.list().unwrap().is_empty());
}

fn removal_keeps_parents(store: &dyn Store, _tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["a"]));
    let top = add_layer(store, Some(&base), "top", &paths(&["b"]));
    store.prepare(&key("work"), Some(&top)).unwrap();
    let names: Vec<_> = store.list().unwrap().into_iter().map(|info| info.name).collect();
    let expected = [&top, &base].map(|id| SnapshotName::Committed(id.clone()));
    assert_eq!(names, [&[SnapshotName::Key(key("work"))], &expected[..]].concat(), "children come first");
    assert!(matches!(store.remove(&base), Err(Error::InUse { .. })));
    assert!(matches!(store.remove(&top), Err(Error::InUse { .. })));
    store.discard(&key("work")).unwrap();
    store.remove(&top).unwrap();
    store.remove(&base).unwrap();
    assert!(store.list().unwrap().is_empty());
}

fn unpack_then_stack(store: &dyn Store, _tars: &ContentStore) {
    let mut unpacked: Vec<_> = ["three", "two", "one"]
        .into_iter()
        .map(|name| {
            store.unpack(&key("layer"), &mut layer(&paths(&["same", name])).as_slice(), None).unwrap()
        })
        .collect();
    let mut parent = None;
    for name in ["one", "two", "three"] {
        let id = chain_id(name);
        store.stack(unpacked.pop().unwrap(), parent.as_ref(), &id).unwrap();
        parent = Some(id);
    }
    let top = parent.unwrap();
    store.seal(&top).unwrap();
    assert_eq!(content(store, &top), ["one", "same", "three", "two"]);
    assert_eq!(store.usage(&top).unwrap(), crate::Usage { size_bytes: 9, inodes: 2 });
}

fn whiteouts(store: &dyn Store, _tars: &ContentStore) {
    let base =
        add_layer(store, None, "base", &paths(&["keep", "gone", "hidden/", "hidden/old", ".wh.never-there"]));
    assert_eq!(content(store, &base), ["gone", "hidden", "hidden/old", "keep"]);
    let changes = paths(&["hidden/", "hidden/.wh..wh..opq", "hidden/new", ".wh.gone"]);
    let top = add_layer(store, Some(&base), "top", &changes);
    assert_eq!(content(store, &top), ["hidden", "hidden/new", "keep"]);
}

fn opaque_root(store: &dyn Store, _tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["old"]));
    let middle = add_layer(store, Some(&base), "middle", &paths(&[".wh..wh..opq", "new"]));
    let top = add_layer(store, Some(&middle), "top", &paths(&["newer"]));
    assert_eq!(content(store, &middle), ["new"]);
    assert_eq!(content(store, &top), ["new", "newer"]);
}

fn implicit_folders(store: &dyn Store, _tars: &ContentStore) {
    let mut described = entry("tmp/");
    (described.mode, described.uid, described.gid) = (0o1777, 7, 8);
    let base = add_layer(store, None, "base", &[described]);
    let top = add_layer(store, Some(&base), "top", &paths(&["tmp/a/file"]));
    let root = store.view(&key("view"), &top).unwrap().open_root().unwrap();
    let tmp = root.metadata("tmp").unwrap().unwrap();
    assert_eq!((tmp.mode, tmp.uid, tmp.gid, tmp.mtime), (0o1777, 7, 8, (1_000_000_000, 0)));
    let new = root.metadata("tmp/a").unwrap().unwrap();
    assert_eq!((new.mode, new.uid, new.gid), (0o755, 0, 0));
}

fn root_metadata(store: &dyn Store, _tars: &ContentStore) {
    let mut described = entry("./");
    (described.mode, described.uid) = (0o711, 5);
    let base = add_layer(store, None, "base", &[described]);
    let top = add_layer(store, Some(&base), "top", &paths(&["file"]));
    let root = store.prepare(&key("work"), Some(&top)).unwrap().open_root().unwrap();
    let metadata = root.metadata("/").unwrap().unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.mtime), (0o711, 5, (1_000_000_000, 0)));
}

fn idempotence(store: &dyn Store, tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["first"]));
    add_layer(store, None, "base", &paths(&["second"]));
    assert_eq!(content(store, &base), ["first"]);
    store.prepare(&key("work"), None).unwrap();
    commit(store, tars, &key("work"), &base).unwrap();
    assert_eq!(content(store, &base), ["first"]);
    assert_eq!(store.list().unwrap().len(), 1, "the active snapshot is gone");
}

fn broken_layer(store: &dyn Store, _tars: &ContentStore) {
    let bytes = layer(&paths(&["a", "b"]));
    assert!(store.unpack(&key("layer"), &mut &bytes[..700], None).is_err());
    drop(store.unpack(&key("layer"), &mut bytes.as_slice(), None).unwrap());
    assert!(store.list().unwrap().is_empty());
}

fn many_layers(store: &dyn Store, _tars: &ContentStore) {
    let mut parent = None;
    for number in 0..127 {
        let name = format!("layer-{number:03}");
        parent = Some(add_layer(store, parent.as_ref(), &name, &paths(&[&name])));
    }
    store.seal(parent.as_ref().unwrap()).unwrap();
    let root = store.prepare(&key("work"), parent.as_ref()).unwrap().open_root().unwrap();
    assert_eq!(shown(&root).len(), 127);
    assert!(root.metadata(Path::new("layer-000")).unwrap().is_some());
}

fn equal_diffs(store: &dyn Store, _tars: &ContentStore) {
    let names = ["etc/", "etc/a", "etc/b", "etc/c", "usr/", "usr/bin/", "usr/bin/x", "var/", "var/old"];
    let base = add_layer(store, None, "base", &paths(&names));
    let mount = store.prepare(&key("work"), Some(&base)).unwrap();
    let root = mount.open_root().unwrap();
    root.at("etc/a").unwrap().remove().unwrap();
    root.at("etc/b").unwrap().set_mode(0o4600).unwrap();
    root.at("etc/c").unwrap().remove().unwrap();
    root.at("etc/c").unwrap().create_dir(0o700).unwrap();
    root.at("etc/c/inside").unwrap().create_symlink("../b").unwrap();
    root.create_dir_all("new/deep", 0o755).unwrap();
    let mut file = root.at("new/deep/file").unwrap().create_file(0o640).unwrap();
    file.write_all(b"content").unwrap();
    root.at("new/link").unwrap().create_hardlink(&root.at("new/deep/file").unwrap()).unwrap();
    root.at("usr/bin/x").unwrap().set_owner(7, 8).unwrap();
    root.at("var").unwrap().remove_all().unwrap();
    drop((file, root));
    let mut bytes = Vec::new();
    let options = DiffOptions { max_mtime: Some(1), ..DiffOptions::default() };
    let summary = store.diff(&key("work"), &options, &mut bytes).unwrap();
    let again = store.diff(&key("work"), &options, &mut io::sink()).unwrap();
    assert_eq!(summary, again);
    assert_eq!(summary.diff_id.to_string(), CHANGES, "{:#?}", entries_of(&bytes));
}

fn change_without_trace(store: &dyn Store, _tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["changed", "same"]));
    let root = store.prepare(&key("work"), Some(&base)).unwrap().open_root().unwrap();
    let place = root.at("changed").unwrap();
    let Metadata { mode, mtime, .. } = place.metadata().unwrap().unwrap();
    place.remove().unwrap();
    place.create_file(mode).unwrap().write_all(b"CHANGED").unwrap();
    place.set_mtime(mtime).unwrap();
    let mut bytes = Vec::new();
    store.diff(&key("work"), &DiffOptions::default(), &mut bytes).unwrap();
    assert_eq!(entries_of(&bytes), [("changed".into(), EntryKind::File)]);
}

/// Path and kind of each entry of a layer.
fn entries_of(mut layer: &[u8]) -> Vec<(PathBuf, EntryKind)> {
    let mut reader = carrack_layer::tar::Reader::new(&mut layer);
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        entries.push((entry.path, entry.kind));
    }
    entries
}

fn file_metadata(store: &dyn Store, _tars: &ContentStore) {
    let mut file = entry("file");
    (file.mode, file.uid, file.gid, file.mtime) = (0o4750, 70_000, 80_000, (1_234_567_890, 123_456_789));
    file.xattrs.push(("user.note".into(), b"kept".to_vec()));
    let link = Entry { kind: EntryKind::Hardlink { target: "file".into() }, size_bytes: 0, ..entry("other") };
    let base = add_layer(store, None, "base", &[file, link]);
    let root = store.prepare(&key("work"), Some(&base)).unwrap().open_root().unwrap();
    let metadata = root.metadata("file").unwrap().unwrap();
    assert_eq!((metadata.mode, metadata.uid, metadata.gid), (0o4750, 70_000, 80_000));
    assert_eq!(metadata.mtime, (1_234_567_890, 123_456_789));
    assert_eq!(root.at("file").unwrap().xattr("user.note".as_ref()).unwrap().unwrap(), b"kept");
    let other = root.metadata("other").unwrap().unwrap();
    assert_eq!((metadata.links, metadata.inode.1), (2, other.inode.1));
    assert_eq!(root.read_small("other", 100).unwrap().unwrap(), b"file");
}

fn hardlink(path: &str, target: &str) -> Entry {
    Entry { kind: EntryKind::Hardlink { target: target.into() }, size_bytes: 0, ..entry(path) }
}

fn symlink(path: &str, target: &str) -> Entry {
    Entry { kind: EntryKind::Symlink { target: target.into() }, size_bytes: 0, ..entry(path) }
}

fn links_to_lower_files(store: &dyn Store, _tars: &ContentStore) {
    let mut file = entry("etc/file");
    (file.mode, file.uid) = (0o4711, 7);
    let own = [symlink("lib", "usr/lib"), hardlink("etc/other", "etc/file"), symlink("etc/sym", "file")];
    let rest = paths(&["usr/lib/x", "gone", "kept/", "kept/y", "hidden/", "hidden/z"]);
    let base = add_layer(store, None, "base", &[&[entry("etc/"), file][..], &own, &rest].concat());
    let links = [
        hardlink("link", "etc/file"),
        hardlink("again", "link"),
        hardlink("etc/copy", "etc/sym"),
        // A rename, as tools write it that know the layers below.
        hardlink("moved", "/gone"),
        entry(".wh.gone"),
        hardlink("through", "lib/x"),
        hardlink("replaced", "kept/y"),
        entry("kept/y"),
        entry("replaced"),
        hardlink("saved", "hidden/z"),
        entry("hidden/.wh..wh..opq"),
    ];
    let top = add_layer(store, Some(&base), "top", &links);
    store.seal(&top).unwrap();
    let root = store.prepare(&key("work"), Some(&top)).unwrap().open_root().unwrap();
    let names = "again etc etc/copy etc/file etc/other etc/sym hidden kept kept/y lib link moved replaced saved \
                 through usr usr/lib usr/lib/x";
    assert_eq!(shown(&root).join(" "), names);
    let look = |path: &str| root.at(path).unwrap().metadata().unwrap().unwrap();
    for (names, links) in [
        (&["etc/file", "etc/other", "link", "again"][..], 4),
        (&["etc/sym", "etc/copy"], 2),
        (&["usr/lib/x", "through"], 2),
        (&["moved"], 1),
        (&["saved"], 1),
        (&["kept/y"], 1),
        (&["replaced"], 1),
    ] {
        let first = look(names[0]);
        for name in names {
            let own = look(name);
            assert_eq!((own.inode.1, own.links), (first.inode.1, links), "{name} is {}", names[0]);
        }
    }
    let link = look("link");
    assert_eq!((link.mode, link.uid, link.mtime), (0o4711, 7, (1_000_000_000, 0)));
    for (name, text) in
        [("link", "etc/file"), ("moved", "gone"), ("saved", "hidden/z"), ("replaced", "replaced")]
    {
        assert_eq!(root.read_small(name, 100).unwrap().unwrap(), text.as_bytes(), "{name}");
    }
    assert_eq!(root.at("etc/copy").unwrap().read_link().unwrap(), Path::new("file"));
    for folder in ["etc", "kept"] {
        assert_eq!((look(folder).mode, look(folder).mtime), (0o755, (1_000_000_000, 0)), "{folder}");
    }
    assert_eq!(store.usage(&top).unwrap().inodes, 2, "what comes from below is not the layer's own");
}

fn links_that_lead_nowhere(store: &dyn Store, _tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["file", "folder/", "folder/inner"]));
    let middle = add_layer(store, Some(&base), "middle", &paths(&[".wh.file"]));
    let refusal = |parent: Option<&ChainId>, entries: &[Entry]| {
        let id = chain_id("refused");
        let unpacked = store.unpack(&key("layer"), &mut layer(entries).as_slice(), None);
        let refused = unpacked.and_then(|unpacked| store.stack(unpacked, parent, &id));
        let text = refused.and_then(|()| store.seal(&id)).expect_err("it leads nowhere").to_string();
        store.remove(&id).unwrap();
        assert!(text.contains("hardlink"), "{text}");
        text
    };
    let link = |target: &str| [hardlink("link", target)];
    assert!(refusal(Some(&base), &link("absent")).contains("absent"));
    assert!(refusal(None, &link("file")).contains("file"), "a layer without others below it");
    assert!(refusal(Some(&middle), &link("file")).contains("file"), "a layer between has removed it");
    assert!(refusal(Some(&base), &link("folder")).contains("folder"));
    assert!(refusal(Some(&base), &link("file/inner")).contains("file"));
    let removed = [entry(".wh.file"), hardlink("link", "file")];
    assert!(refusal(Some(&base), &removed).contains("not in this archive"), "the same layer has removed it");
    let hidden = [entry("folder/.wh..wh..opq"), hardlink("link", "folder/inner")];
    assert!(refusal(Some(&base), &hidden).contains("not in this archive"));
    assert_eq!(content(store, &base), ["file", "folder", "folder/inner"]);
}

fn concurrency(store: &dyn Store, _tars: &ContentStore) {
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..10 {
                    let base = add_layer(store, None, "base", &paths(&["a/b/file"]));
                    let work = SnapshotKey::unique("work");
                    // Another thread may have removed the layer, but what was prepared keeps it.
                    if let Ok(mount) = store.prepare(&work, Some(&base)) {
                        assert!(mount.open_root().unwrap().metadata("a/b/file").unwrap().is_some());
                        assert!(matches!(store.remove(&base), Err(Error::InUse { .. })));
                        store.discard(&work).unwrap();
                    }
                    let _ = store.remove(&base);
                }
            });
        }
    });
    store.collect(&Kept::default()).unwrap();
    assert!(store.list().unwrap().is_empty());
}

fn collection(store: &dyn Store, _tars: &ContentStore) {
    let base = add_layer(store, None, "base", &paths(&["a"]));
    let kept = add_layer(store, Some(&base), "kept", &paths(&["b"]));
    let lost = add_layer(store, Some(&base), "lost", &paths(&["c"]));
    store.prepare(&key("lost"), Some(&lost)).unwrap();
    store.view(&key("kept"), &kept).unwrap();
    let chains = [base, kept.clone()].into();
    store.collect(&Kept { chains, keys: [key("kept")].into() }).unwrap();
    let names: Vec<_> = store.list().unwrap().into_iter().map(|info| info.name.to_string()).collect();
    assert_eq!(names.len(), 3);
    assert!(!names.contains(&lost.to_string()) && !names.contains(&"lost".to_owned()), "{names:?}");
    assert_eq!(content(store, &kept), ["a", "b"]);
    store.collect(&Kept::default()).unwrap();
    assert!(store.list().unwrap().is_empty());
}
