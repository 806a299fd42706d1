//! The store as a whole: what it takes on disk, what is wrong with it and how that is repaired, what prune takes, and
//! the size cap.

use std::fs;
use std::path::{Path, PathBuf};

use carrack_testkit::{ImageFixture, Run, Store};

#[path = "it/kit.rs"]
#[allow(dead_code, reason = "each suite uses its own part of the kit")]
mod kit;
#[path = "system/repairs.rs"]
mod repairs;

use kit::{IMAGE, busybox, empty_store, files_below, host, id, store, with_input};

const MEGABYTE: usize = 1 << 20;

/// A layer of one file; equal fillings are one layer.
fn big_layer(image: ImageFixture, name: &str, megabytes: usize) -> ImageFixture {
    let text: String =
        (0..megabytes * MEGABYTE / 64).map(|line| format!("{name:>20} {line:>42}\n")).collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("content");
    fs::write(&path, text).unwrap();
    image.layer(&format!("/{name} <({})", path.display()))
}

fn pull_layout(store: &Store, image: &ImageFixture, tag: &str) -> (PathBuf, String) {
    let folder = store.path().join(format!("layout-{}", tag.replace(':', "-")));
    image.write_layout(&folder, "image");
    let source = format!("oci:{}:image", folder.display());
    store.carrack(["pull", "--quiet", &source]).success();
    store.carrack(["tag", image.id().as_str(), tag]).success();
    (folder, source)
}

fn check(store: &Store, flags: &[&str]) -> Run {
    store.carrack([&["system", "check"], flags].concat())
}

#[track_caller]
fn assert_clean(store: &Store) {
    let run = check(store, &[]).success();
    assert!(run.stdout.contains("Problems: 0"), "{}", run.stdout);
}

/// The bytes that the lines of `system df` add up to.
fn df_bytes(store: &Store) -> u64 {
    let lines = store.carrack(["system", "df", "--format", "{{.RawSize}}"]).line();
    lines.lines().map(|line| line.parse::<u64>().unwrap()).sum()
}

fn du_bytes(store: &Store) -> u64 {
    let run = host("du", ["-s", "-B1", store.root().to_str().unwrap()]).line();
    run.split('\t').next().unwrap().parse().unwrap()
}

#[test]
fn df_adds_up_to_what_du_says() {
    let store = empty_store();
    let base = big_layer(busybox(), "base", 8);
    pull_layout(&store, &big_layer(base.clone(), "one", 4), "app:1");
    pull_layout(&store, &big_layer(base, "two", 2), "app:2");
    store
        .carrack(["run", "--network", "none", "app:1", "dd", "if=/dev/zero", "of=/file", "bs=1M", "count=3"])
        .success();
    fs::write(store.root().join("content/ingest/sha256-00"), vec![1; MEGABYTE]).unwrap();
    let (df, du) = (df_bytes(&store) as f64, du_bytes(&store) as f64);
    assert!((df - du).abs() / du < 0.01, "df {df}, du {du}");

    let table = store.carrack(["system", "df"]).success().stdout;
    let heading: Vec<&str> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(heading, ["TYPE", "TOTAL", "ACTIVE", "SIZE", "RECLAIMABLE"]);
    let words = |kind: &str| -> Vec<String> {
        let line =
            table.lines().find(|line| line.starts_with(kind)).unwrap_or_else(|| panic!("{kind}: {table}"));
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words("Images")[1..3], ["2", "1"]);
    assert_eq!(words("Containers")[1..3], ["1", "0"]);
    assert!(words("Containers")[3].starts_with("3."), "{table}");
    assert_eq!(words("Local")[2..4], ["0", "0"]);
    assert!(words("Leftovers")[3].ends_with("MB"), "{table}");
}

#[test]
fn df_tells_shared_from_unique() {
    let store = empty_store();
    let base = big_layer(busybox(), "base", 8);
    pull_layout(&store, &base, "app:base");
    pull_layout(&store, &big_layer(base, "one", 4), "app:1");
    let details = store.carrack(["system", "df", "--verbose"]).success().stdout;
    assert!(details.contains("SHARED SIZE   UNIQUE SIZE   CONTAINERS"), "{details}");
    let megabytes = |tag: &str, column: usize| -> f64 {
        let line = details
            .lines()
            .find(|line| line.starts_with("app") && line.split_whitespace().nth(1) == Some(tag));
        let size =
            line.unwrap().rsplit("  ").filter(|cell| !cell.trim().is_empty()).nth(column).unwrap().trim();
        let digits = size.trim_end_matches(|symbol: char| !symbol.is_ascii_digit());
        digits.parse::<f64>().unwrap() * if size.ends_with("kB") { 0.001 } else { 1.0 }
    };
    // From the right: containers, unique, shared, size.
    assert_eq!(megabytes("1", 2), megabytes("base", 2), "what is shared is shared by both: {details}");
    assert!(megabytes("base", 2) > 8.0 && megabytes("base", 1) < 0.1, "{details}");
    assert!(megabytes("1", 1) > 4.0 && megabytes("1", 1) < 6.0, "{details}");
}

/// Version NUMBER of an app: one large file that all have, and one of its own.
fn version(number: usize) -> ImageFixture {
    let folder = tempfile::tempdir().unwrap();
    let text = |seed: usize, length: usize| -> String {
        (0..length / 64).map(|line| format!("{seed:>20} {line:>42}\n")).collect()
    };
    fs::write(folder.path().join("common"), text(0, 8 * MEGABYTE)).unwrap();
    fs::write(folder.path().join("own"), text(number, MEGABYTE)).unwrap();
    let path = |name| folder.path().join(name).display().to_string();
    busybox().layer(&format!("/common <({})\n/own <({})", path("common"), path("own")))
}

#[test]
fn versions_of_an_app_take_the_files_that_they_share_once() {
    let store = empty_store();
    let images: Vec<_> = (1..=3).map(version).collect();
    let (_, first) = pull_layout(&store, &images[0], "app:1");
    let one = du_bytes(&store);
    pull_layout(&store, &images[1], "app:2");
    pull_layout(&store, &images[2], "app:3");
    let three = du_bytes(&store);
    assert!(three - one < 4 * MEGABYTE as u64, "{one} {three}");
    assert!(df_bytes(&store).abs_diff(three) < three / 100);
    assert_clean(&store);
    let sums = |number: usize| {
        let run = ["run", "--rm", "--network", "none", &format!("app:{number}"), "md5sum", "/common", "/own"];
        store.carrack(run).line()
    };
    let (second_sums, third_sums) = (sums(2), sums(3));
    assert_eq!(second_sums.lines().next(), third_sums.lines().next());
    assert_ne!(second_sums.lines().last(), third_sums.lines().last());

    // What leaves the store is whole, whatever it is made of here.
    let archive = store.path().join("app.tar");
    let archive = archive.to_str().unwrap();
    store.carrack(["save", "--output", archive, "app:2"]).success();
    let other = empty_store();
    other.carrack(["load", "--quiet", "--input", archive]).success();
    assert_clean(&other);
    assert_eq!(id(&other, "app:2"), id(&store, "app:2"));

    // The lender goes; what it lent stays, and nothing else of it.
    store.carrack(["rmi", "app:1"]).success();
    assert!(du_bytes(&store) < one + 3 * MEGABYTE as u64);
    assert!(df_bytes(&store).abs_diff(du_bytes(&store)) < three / 100);
    assert_clean(&store);
    assert_eq!((sums(2), sums(3)), (second_sums.clone(), third_sums));
    store.carrack(["pull", "--quiet", &first]).success();
    assert_clean(&store);
    store.carrack(["rmi", "app:3", images[0].id().as_str()]).success();
    assert_eq!(sums(2), second_sums);
    store.carrack(["rmi", "app:2"]).success();
    assert!(du_bytes(&store) < MEGABYTE as u64);
}

#[test]
fn damage_of_one_version_is_not_that_of_the_next() {
    let store = empty_store();
    pull_layout(&store, &version(1), "app:1");
    pull_layout(&store, &version(2), "app:2");
    let layer = version(1).layers().last().unwrap().diff_id.clone();
    let tar = blob(&store, layer.0.hex());
    let mut bytes = fs::read(&tar).unwrap();
    let own = format!("\n{:>20} ", 1);
    let place = bytes.windows(own.len()).position(|window| window == own.as_bytes()).unwrap();
    bytes[place] ^= 1;
    fs::write(&tar, bytes).unwrap();
    let run = check(&store, &[]).code(1);
    assert!(run.stdout.contains(layer.0.hex()), "{}", run.stdout);
    check(&store, &["--repair"]);
    assert_clean(&store);
    let sum = ["run", "--rm", "--network", "none", "app:2", "wc", "-c", "/common", "/own"];
    assert!(store.carrack(sum).success().stdout.contains("9437184 total"));
}

/// The one folder of a store's snapshots that holds the committed ones, wherever its driver keeps it.
fn find_below(folder: &Path, is_meant: &dyn Fn(&Path) -> bool) -> Vec<PathBuf> {
    files_below(folder).into_iter().filter(|path| is_meant(path)).collect()
}

fn blob(store: &Store, hex: &str) -> PathBuf {
    store.root().join("content/blobs/sha256").join(hex)
}

fn flip_byte(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
}

/// Breaks one thing in a store of [`damaged_image`].
type Break = (&'static str, fn(&Store, &ImageFixture), &'static [&'static str]);

fn damaged_image() -> ImageFixture {
    busybox().layer("/one \"1\"").layer("/two \"2\"")
}

/// Of each: what is done, and what the check must say. Layers are damaged as the store has them: in a blob by their
/// own digest or by their diff ID.
const BREAKS: &[Break] = &[
    (
        "other bytes in a layer",
        |store, image| {
            let layer = &image.layers()[1];
            let paths = [layer.descriptor.digest.hex(), layer.diff_id.0.hex()].map(|hex| blob(store, hex));
            flip_byte(paths.iter().find(|path| path.exists()).unwrap());
        },
        &["blob sha256:", "digest mismatch"],
    ),
    (
        "a layer that is gone",
        |store, image| {
            let layer = &image.layers()[2];
            for hex in [layer.descriptor.digest.hex(), layer.diff_id.0.hex()] {
                let _ = fs::remove_file(blob(store, hex));
            }
        },
        &["image ", "layer 3 of 3"],
    ),
    (
        "other bytes in the config",
        |store, image| flip_byte(&blob(store, image.id().hex())),
        &["digest mismatch"],
    ),
    (
        "a manifest that is gone",
        |store, image| {
            fs::remove_file(blob(store, image.manifest().digest.hex())).unwrap();
        },
        &["image ", "not in the store"],
    ),
    (
        "an image record of half its length",
        |store, _| {
            let records = find_below(&store.root().join("images"), &|path| {
                path.extension().is_some_and(|kind| kind == "json")
            });
            let bytes = fs::read(&records[0]).unwrap();
            fs::write(&records[0], &bytes[..bytes.len() / 2]).unwrap();
        },
        &["file ", "image record"],
    ),
    (
        "a file among the blobs",
        |store, _| fs::write(blob(store, "notes.txt"), "x").unwrap(),
        &["notes.txt", "no blob"],
    ),
    (
        "a snapshot without its record",
        |store, _| {
            let records = find_below(&store.root().join("snapshots"), &|path| {
                path.ends_with("record.json") && path.to_str().unwrap().contains("committed")
            });
            fs::remove_file(&records[1]).unwrap();
        },
        &["snapshot "],
    ),
];

#[test]
fn damage_is_found_repaired_and_pulled_again() {
    for (what, break_it, said) in BREAKS {
        let (store, image) = (empty_store(), damaged_image());
        let (_, source) = pull_layout(&store, &image, "app");
        store.load(&ImageFixture::new().layer("/other \"x\""), "localhost/other:1");
        assert_clean(&store);
        break_it(&store, &image);
        let run = check(&store, &[]).code(1);
        for word in *said {
            assert!(run.stdout.contains(word), "{what}: {word:?} is not in: {}", run.stdout);
        }
        assert!(run.stdout.contains("hint: "), "{what}: {}", run.stdout);
        let repaired = check(&store, &["--repair"]);
        assert_eq!(repaired.code, 0, "{what}: {}{}", repaired.stdout, repaired.stderr);
        assert!(repaired.stdout.contains("Repaired: "), "{what}: {}", repaired.stdout);
        assert_clean(&store);
        store.carrack(["pull", "--quiet", &source]).success();
        let output =
            store.carrack(["run", "--rm", "--network", "none", image.id().as_str(), "cat", "/one", "/two"]);
        assert_eq!(output.line(), "12", "{what}");
        assert_clean(&store);
        if *what != "an image record of half its length" {
            store.carrack(["inspect", "localhost/other:1"]).success();
        }
    }
}

/// What a driver has made of a layer is compared with the layer: its files, or its index.
#[test]
fn a_snapshot_is_made_anew_from_its_layer() {
    let (store, image) = (empty_store(), damaged_image());
    pull_layout(&store, &image, "app");
    let find = |found: &dyn Fn(&Path) -> bool| find_below(&store.root().join("snapshots"), found).pop();
    let (file, said) = match find(&|path| path.ends_with("fs/one")) {
        Some(file) => (file, "one: other content from byte 0 on"),
        None => {
            let index = find(&|path| path.ends_with("index")).expect("a driver keeps files or indexes");
            (index, "its index is not that of its layers")
        }
    };
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 3;
    fs::write(&file, &bytes).unwrap();
    check(&store, &["--quick"]).success();
    let run = check(&store, &[]).code(1);
    assert!(run.stdout.contains(said), "{}", run.stdout);
    check(&store, &["--repair"]).success();
    assert_clean(&store);
    assert_ne!(fs::read(&file).unwrap(), bytes, "{} is made again", file.display());
    assert_eq!(
        store.carrack(["run", "--rm", "--network", "none", "app", "cat", "/one", "/two"]).line(),
        "12"
    );
}

#[test]
fn damaged_containers_are_removed_by_force_only() {
    let store = store();
    store.carrack(["create", "--name", "broken", IMAGE, "true"]).success();
    store.carrack(["create", "--name", "bare", IMAGE, "true"]).success();
    let id = store.carrack(["inspect", "--format", "{{.Id}}", "broken"]).line();
    let bare = store.carrack(["inspect", "--format", "{{.Id}}", "bare"]).line();
    fs::write(store.root().join("containers").join(&id).join("container.json"), "{").unwrap();
    for folder in find_folders(&store.root().join("snapshots"), &format!("container-{bare}")) {
        fs::remove_dir_all(folder).unwrap();
    }
    let run = check(&store, &["--quick"]).code(1);
    assert!(
        run.stdout.contains(&id[..12]) && run.stdout.contains("container bare: its snapshot"),
        "{}",
        run.stdout
    );
    check(&store, &["--quick", "--repair"]).code(1);
    // What a container has written is not garbage because its record cannot be read.
    store.carrack(["system", "prune", "--force"]).success();
    assert_eq!(find_folders(&store.root().join("snapshots"), &format!("container-{id}")).len(), 1);
    check(&store, &["--repair", "--force"]).success();
    assert_clean(&store);
    assert_eq!(store.carrack(["ps", "--all", "--quiet"]).line(), "");
    store.carrack(["create", "--name", "broken", IMAGE, "true"]).success();
}

fn find_folders(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().unwrap().is_dir() {
            match entry.file_name().to_str() == Some(name) {
                true => found.push(entry.path()),
                false => found.extend(find_folders(&entry.path(), name)),
            }
        }
    }
    found
}

#[test]
fn what_crashes_leave_is_no_problem_and_goes_with_prune() {
    let store = store();
    let root = store.root();
    let files = || {
        let mut files = files_below(&root);
        files.retain(|path| !path.to_str().unwrap().ends_with("lock"));
        files
    };
    let before = files();
    fs::write(root.join("content/ingest/sha256-00"), "partial").unwrap();
    fs::write(root.join("images/.record.json.1.0.tmp"), "x").unwrap();
    fs::write(blob(&store, &"0".repeat(64)), "").unwrap();
    fs::create_dir(root.join("containers").join("0".repeat(64))).unwrap();
    // The id of 32 bytes 0x11 in Base64.
    let id = "ER".repeat(21) + "E";
    std::os::unix::fs::symlink(id, root.join("container-names/gone")).unwrap();
    let run = check(&store, &["--quick"]).success();
    assert!(run.stdout.contains("Leftovers: 5 ("), "{}", run.stdout);
    let pruned = store.carrack(["system", "prune", "--force"]).success();
    assert!(pruned.stdout.starts_with("Total reclaimed space: "), "{}", pruned.stdout);
    assert_eq!(files(), before);
    assert!(!check(&store, &[]).success().stdout.contains("Leftovers"));
    assert_eq!(kit::run(&store, &[], "echo fine").line(), "fine");
}

#[test]
fn prune_takes_what_is_not_in_use() {
    let store = store();
    store.load(&busybox().layer("/one \"1\""), "localhost/unused:1");
    store.load(&busybox().layer("/two \"2\""), "localhost/used:1");
    store.carrack(["untag", "localhost/unused:1"]).success();
    store
        .carrack([
            "run",
            "--network",
            "none",
            "--label",
            "keep=1",
            "--name",
            "kept",
            "localhost/used:1",
            "true",
        ])
        .success();
    store.carrack(["run", "--network", "none", "--name", "gone", IMAGE, "true"]).success();

    let mut asked = store.command();
    let (code, stdout, _) = with_input(asked.args(["system", "prune"]), b"n\n");
    assert!(code == 0 && stdout.contains("all dangling images") && stdout.contains("[y/N]"), "{stdout}");
    let names = |store: &Store| store.carrack(["ps", "--all", "--format", "{{.Names}}"]).line();
    assert_eq!(names(&store), "gone\nkept");

    let run = store.carrack(["system", "prune", "--force", "--filter", "label=keep"]).success();
    assert!(run.stdout.contains("Deleted Containers:"), "{}", run.stdout);
    assert_eq!(names(&store), "gone");
    // The containers are new, the images are not.
    let run = store.carrack(["system", "prune", "--force", "--filter", "until=1h"]).success();
    assert!(run.stdout.contains("deleted: sha256:"), "{}", run.stdout);
    assert_eq!(names(&store), "gone");
    store.carrack(["system", "prune", "--force", "--filter", "colour=red"]).code(1);

    let (code, stdout, _) = with_input(store.command().args(["system", "prune"]), b"y\n");
    assert!(
        code == 0 && stdout.contains("Deleted Containers:") && stdout.contains("Total reclaimed space: "),
        "{stdout}"
    );
    assert_eq!(names(&store), "");
    let images = |store: &Store| store.carrack(["images", "--format", "{{.Repository}}"]).line();
    assert_eq!(images(&store).lines().count(), 2, "named images stay");
    store.carrack(["system", "prune", "--all", "--force"]).success();
    assert_eq!(images(&store), "");
    kit::assert_nothing_is_left(&store);
}

#[test]
fn the_size_cap_evicts_what_was_not_used_for_longest() {
    let store = empty_store();
    let names = ["first", "second", "third", "fourth"];
    let images = names.map(|name| big_layer(busybox(), name, 6));
    for (name, image) in names.iter().zip(&images).take(3) {
        pull_layout(&store, image, name);
    }
    store.carrack(["create", "--name", "user", "first", "true"]).success();
    // A use counts as much as a pull.
    store.carrack(["run", "--rm", "--network", "none", "second", "true"]).success();
    let settings = store.path().join("carrack.toml");
    let cap = du_bytes(&store);
    fs::write(&settings, format!("[storage]\nmax_size = {cap}\n")).unwrap();
    let folder = store.path().join("layout-fourth");
    images[3].write_layout(&folder, "fourth");
    let source = format!("oci:{}:fourth", folder.display());
    let run = store.carrack(["--settings", settings.to_str().unwrap(), "pull", &source]).success();
    assert!(run.stderr.contains("Removed third:latest (last used "), "{}", run.stderr);
    let listed = store.carrack(["images", "--format", "{{.Repository}}"]).line();
    assert!(!listed.contains("third") && listed.contains("first") && listed.contains("second"), "{listed}");
    assert!(du_bytes(&store) <= cap, "{} > {cap}", du_bytes(&store));
    store.carrack(["inspect", images[3].id().as_str()]).success();

    fs::write(&settings, "[storage]\nmax_size = \"1MB\"\n").unwrap();
    let run = store.carrack(["--settings", settings.to_str().unwrap(), "pull", &source]).success();
    assert!(run.stderr.contains("warning: the store takes"), "{}", run.stderr);
    store.carrack(["start", "user"]).success();
    store.carrack(["inspect", images[3].id().as_str()]).success();
    assert_eq!(store.carrack(["images", "--quiet"]).line().lines().count(), 2);
    assert_clean(&store);
}
