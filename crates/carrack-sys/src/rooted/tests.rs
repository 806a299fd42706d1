use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::*;

/// A folder with `inside/` as root and `outside/secret` that no path below `inside/` may reach.
fn fixture() -> (tempfile::TempDir, Root) {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("inside")).unwrap();
    fs::create_dir(folder.path().join("outside")).unwrap();
    fs::write(folder.path().join("outside/secret"), "secret").unwrap();
    let root = Root::open(&folder.path().join("inside")).unwrap();
    (folder, root)
}

#[test]
fn links_and_dots_stay_below_the_root() {
    let (folder, root) = fixture();
    let outside = folder.path().join("outside");
    symlink(&outside, folder.path().join("inside/absolute")).unwrap();
    symlink("../outside", folder.path().join("inside/relative")).unwrap();
    for path in ["absolute/secret", "relative/secret", "../outside/secret", "/../../outside/secret"] {
        assert!(root.open_file(path).unwrap_err().is_not_found(), "{path} was reached");
        assert_eq!(root.read_small(path, 100).unwrap(), None);
        assert_eq!(root.metadata(path).unwrap(), None);
        assert!(root.at(path).map(|place| place.metadata().unwrap().is_none()).unwrap_or(true));
    }
}

#[test]
fn folders_are_made_below_the_root_through_dangling_links() {
    let (folder, root) = fixture();
    symlink("/usr/lib", folder.path().join("inside/lib")).unwrap();
    let made = root.create_dir_all("lib/a/../b", 0o755).unwrap();
    assert_eq!(
        made,
        [Path::new("usr"), Path::new("usr/lib"), Path::new("usr/lib/a"), Path::new("usr/lib/b")]
    );
    assert_eq!(root.canonical_dir("lib/b").unwrap(), Path::new("usr/lib/b"));
    let made = root.create_dir_all("../../outside/new", 0o755).unwrap();
    assert_eq!(made, [Path::new("outside"), Path::new("outside/new")]);
    assert!(!folder.path().join("outside/new").exists());
}

#[test]
fn a_ring_of_links_ends() {
    let (folder, root) = fixture();
    symlink("two", folder.path().join("inside/one")).unwrap();
    symlink("one", folder.path().join("inside/two")).unwrap();
    assert_eq!(root.create_dir_all("one/x", 0o755).unwrap_err().source.raw_os_error(), Some(libc::ELOOP));
    assert!(root.open_file("one").is_err());
}

#[test]
fn operations_on_a_place_do_not_follow_its_link() {
    let (folder, root) = fixture();
    let secret = folder.path().join("outside/secret");
    symlink(&secret, folder.path().join("inside/link")).unwrap();
    let before = fs::metadata(&secret).unwrap();
    let place = root.at("link").unwrap();
    assert!(place.set_mode(0o777).is_err(), "a link has no mode");
    place.set_owner(1234, 1234).unwrap();
    place.set_mtime((1, 0)).unwrap();
    assert!(place.set_xattr(OsStr::new("user.x"), b"1").is_err());
    assert!(place.open_file().is_err());
    assert!(place.create_file(0o600).is_err());
    place.remove_all().unwrap();
    let after = fs::metadata(&secret).unwrap();
    assert_eq!(
        (before.mode(), before.uid(), before.mtime_nsec()),
        (after.mode(), after.uid(), after.mtime_nsec())
    );
    assert_eq!(fs::read(&secret).unwrap(), b"secret");
}

#[test]
fn small_files_are_regular_bounded_and_no_links() {
    let (folder, root) = fixture();
    let inside = folder.path().join("inside");
    fs::write(inside.join("passwd"), "root").unwrap();
    symlink("passwd", inside.join("link")).unwrap();
    root.at("fifo").unwrap().create_node(FileType::Fifo, 0o644, 0).unwrap();
    assert_eq!(root.read_small("passwd", 4).unwrap().unwrap(), b"root");
    assert!(root.read_small("passwd", 3).is_err());
    assert!(root.read_small("link", 100).is_err());
    assert!(root.read_small("fifo", 100).is_err(), "and it does not wait for a writer");
    assert!(root.read_small("/", 100).is_err());
}

#[test]
fn owners_that_mean_unchanged_to_the_kernel_are_refused() {
    let (_folder, root) = fixture();
    root.at("file").unwrap().create_file(0o4755).unwrap();
    assert!(root.at("file").unwrap().set_owner(u32::MAX, 0).is_err());
    assert_eq!(root.metadata("file").unwrap().unwrap().mode, 0o4755);
}
