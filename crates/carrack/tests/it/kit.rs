//! What the tests of the binary share: the program itself, one small image, and looking into a store.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use carrack_testkit::{ImageFixture, Run, Store};

/// The binary that users get.
pub const CARRACK: &str = env!("CARGO_BIN_EXE_carrack");
/// The name of the image in [`store`].
pub const IMAGE: &str = "localhost/busybox:1";
/// The longest that any one program may take; only a broken test comes near it.
pub const LIMIT: Duration = Duration::from_secs(60);

/// An image of one static busybox.
pub fn busybox() -> ImageFixture {
    ImageFixture::busybox(Path::new("/bin/busybox"))
}

/// A store without images.
pub fn empty_store() -> Store {
    Store::new(CARRACK)
}

/// A store with [`IMAGE`].
pub fn store() -> Store {
    let store = empty_store();
    store.load(&busybox(), IMAGE);
    store
}

/// Runs a program of the host to its end.
#[track_caller]
pub fn host<A: AsRef<std::ffi::OsStr>>(program: &str, arguments: impl IntoIterator<Item = A>) -> Run {
    Run::of(Command::new(program).args(arguments), LIMIT)
}

/// `carrack run --rm --network none IMAGE sh -c SCRIPT` with `flags` before the image.
#[track_caller]
pub fn run(store: &Store, flags: &[&str], script: &str) -> Run {
    store.carrack([&["run", "--rm", "--network", "none"], flags, &[IMAGE, "sh", "-c", script]].concat())
}

/// Runs `command` with `input` on its standard input; returns exit code, standard output and standard error.
#[track_caller]
pub fn with_input(command: &mut Command, input: &[u8]) -> (i32, String, String) {
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program starts");
    // A program may end without reading all of it.
    let _ = child.stdin.take().expect("piped").write_all(input);
    let output = child.wait_with_output().expect("the program ends");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
}

/// The names below `folder` of everything that is not a folder; an absent folder has none.
pub fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            files.extend(files_below(&entry.path()));
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    files
}

/// The digest of the manifest that the store has under `name`.
#[track_caller]
pub fn digest(store: &Store, name: &str) -> String {
    store.carrack(["inspect", "--type", "image", "--format", "{{.Descriptor.digest}}", name]).line()
}

/// The image ID, with its algorithm, that the store has under `name`.
#[track_caller]
pub fn id(store: &Store, name: &str) -> String {
    store.carrack(["inspect", "--type", "image", "--format", "{{.Id}}", name]).line()
}

/// The folders `name` of the stores that storage drivers have made.
pub fn snapshot_folders(store: &Store, name: &str) -> Vec<PathBuf> {
    let drivers =
        ["erofs", "overlay", "vfs"].map(|driver| store.root().join("snapshots").join(driver).join(name));
    drivers.into_iter().filter(|folder| folder.is_dir()).collect()
}

/// The store is as empty as it was before: no image, no snapshot finished or not, no blob or part of one.
#[track_caller]
pub fn assert_nothing_is_left(store: &Store) {
    assert_eq!(store.carrack(["images", "--quiet"]).line(), "");
    assert_eq!(files_below(&store.root().join("content")), Vec::<PathBuf>::new());
    for name in ["active", "committed", "layers", "merged", "staging"] {
        for folder in snapshot_folders(store, name) {
            let left: Vec<_> = fs::read_dir(folder).unwrap().collect();
            assert!(left.is_empty(), "{left:?}");
        }
    }
}
