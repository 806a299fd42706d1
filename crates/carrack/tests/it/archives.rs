//! `save`, `load` and `history`: what one store saves another loads, with names and IDs; hostile and broken archives
//! leave nothing.

use std::fs;
use std::process::Command;

use carrack_testkit::{ImageFixture, LayerFormat, Store, TarWriter};
use serde_json::json;

use crate::kit::{IMAGE, assert_nothing_is_left, busybox, digest, empty_store, host, id, store, with_input};

const TWO: &str = "localhost/two:1";

/// A store with [`IMAGE`], and [`TWO`] of one more layer.
fn two_images() -> Store {
    let store = store();
    store.load(&busybox().layer("/srv/\n/srv/two \"2\""), TWO);
    store
}

fn at(store: &Store, name: &str) -> String {
    store.path().join(name).display().to_string()
}

fn names_in(archive: &str) -> Vec<String> {
    host("tar", ["-tf", archive]).success().stdout.lines().map(str::to_owned).collect()
}

#[test]
fn several_images_share_their_layers_in_one_archive() {
    let (here, there) = (two_images(), empty_store());
    let file = at(&here, "both.tar");
    here.carrack(["save", "--output", &file, IMAGE, TWO]).success();
    let mut blobs = names_in(&file);
    blobs.retain(|name| name.starts_with("blobs/"));
    assert_eq!(blobs.len(), 2 + 2 + 2, "layers, configs and manifests, each once: {blobs:?}");
    let loaded = there.carrack(["load", "--quiet", "--input", &file]).success().stdout;
    assert_eq!(loaded, format!("Loaded image: {IMAGE}\nLoaded image: {TWO}\n"));
    assert_eq!((id(&there, IMAGE), id(&there, TWO)), (id(&here, IMAGE), id(&here, TWO)));
    assert_eq!(there.carrack(["run", "--rm", "--network", "none", TWO, "cat", "/srv/two"]).line(), "2");
}

#[test]
fn an_archive_of_a_stream_is_that_of_a_file() {
    let store = two_images();
    let (file, stream) = (at(&store, "file.tar"), at(&store, "stream.tar"));
    store.carrack(["save", "--output", &file, TWO]).success();
    let mut command = store.command();
    command.args(["save", TWO]).stdout(fs::File::create(&stream).unwrap());
    assert!(command.status().unwrap().success());
    let pipe = format!("{} save --quiet {TWO} | cat", shell(&store));
    let piped = Command::new("sh").args(["-c", &pipe]).output().unwrap();
    assert!(fs::read(&file).unwrap() == fs::read(&stream).unwrap());
    assert!(piped.stdout == fs::read(&stream).unwrap());
}

/// The program with its store as words of a shell.
fn shell(store: &Store) -> String {
    let command = store.command();
    let words = [command.get_program()].into_iter().chain(command.get_args());
    words.map(|word| word.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
}

#[test]
fn formats_of_oci_keep_the_digest_of_the_manifest() {
    let here = empty_store();
    here.load(&ImageFixture::new().format(LayerFormat::Tar).layer("/a \"1\""), TWO);
    for (format, name) in [("oci-archive", "oci.tar"), ("oci-dir", "layout")] {
        let (there, place) = (empty_store(), at(&here, name));
        here.carrack(["save", "--format", format, "--output", &place, TWO]).success();
        assert_eq!(there.carrack(["load", "-q", "-i", &place]).line(), format!("Loaded image: {TWO}"));
        assert_eq!(digest(&there, TWO), digest(&here, TWO), "{format}");
    }
    let (there, place) = (empty_store(), at(&here, "folder"));
    here.carrack(["save", "--format", "docker-dir", "--output", &place, TWO]).success();
    let loaded = there.carrack(["load", "-q", "-i", &place]).line();
    assert_eq!(loaded, format!("Loaded image ID: {}", id(&here, TWO)));
}

#[test]
fn a_repository_means_all_its_tags_and_an_id_no_name() {
    let (here, there) = (store(), empty_store());
    here.carrack(["tag", IMAGE, "localhost/busybox:2"]).success();
    let file = at(&here, "all.tar");
    here.carrack(["save", "-o", &file, "localhost/busybox"]).success();
    let loaded = there.carrack(["load", "-q", "-i", &file]).success().stdout;
    assert_eq!(loaded, "Loaded image: localhost/busybox:1\nLoaded image: localhost/busybox:2\n");
    here.carrack(["save", "-o", &file, &id(&here, IMAGE)]).success();
    let loaded = there.carrack(["load", "-q", "-i", &file]).line();
    assert_eq!(loaded, format!("Loaded image ID: {}", id(&here, IMAGE)));
}

#[test]
fn a_name_that_another_image_had_is_taken_and_said() {
    let (here, there) = (two_images(), store());
    here.carrack(["tag", TWO, IMAGE]).success();
    let file = at(&here, "one.tar");
    here.carrack(["save", "-o", &file, IMAGE]).success();
    let old = id(&there, IMAGE);
    let said = there.carrack(["load", "-q", "-i", &file]).success().stdout;
    assert!(said.contains(&format!("{IMAGE} already exists, renaming the old one with ID {old}")), "{said}");
    assert_eq!(id(&there, IMAGE), id(&here, TWO));
    assert!(there.carrack(["images", "--quiet", "--no-trunc"]).line().contains(&old), "the old one stays");
}

#[test]
fn every_compression_is_loaded_from_a_file_and_from_standard_input() {
    let here = two_images();
    let file = at(&here, "two.tar");
    here.carrack(["save", "-o", &file, TWO]).success();
    for (program, suffix) in [("gzip", "gz"), ("zstd", "zst"), ("xz", "xz"), ("bzip2", "bz2"), ("true", "")] {
        if !suffix.is_empty() {
            host(program, ["-q", "-k", "-1", &file]).success();
        }
        let compressed = format!("{file}.{suffix}");
        let compressed = compressed.trim_end_matches('.');
        let there = empty_store();
        let said = there.carrack(["load", "-q", "-i", compressed]).line();
        assert_eq!(said, format!("Loaded image: {TWO}"), "{program}");
        let there = empty_store();
        let (code, said, errors) =
            with_input(there.command().args(["load", "-q"]), &fs::read(compressed).unwrap());
        assert_eq!((code, said.trim()), (0, format!("Loaded image: {TWO}").as_str()), "{errors}");
        assert_eq!(id(&there, TWO), id(&here, TWO));
        assert_eq!(there.carrack(["run", "--rm", "--network", "none", TWO, "cat", "/srv/two"]).line(), "2");
    }
}

#[test]
fn an_input_that_is_cut_short_leaves_nothing() {
    let here = two_images();
    let file = at(&here, "two.tar");
    here.carrack(["save", "-o", &file, TWO]).success();
    host("gzip", ["-q", "-k", "-1", &file]).success();
    for name in [file.clone(), format!("{file}.gz")] {
        let bytes = fs::read(&name).unwrap();
        for length in [0, 100, 600, bytes.len() / 2, bytes.len() - 2000] {
            let there = empty_store();
            let (code, said, errors) = with_input(there.command().arg("load"), &bytes[..length]);
            assert_eq!((code, said.as_str()), (1, ""), "{name} at {length}");
            assert!(errors.contains("cannot load standard input"), "{errors}");
            assert_nothing_is_left(&there);
        }
    }
}

/// An archive in the older form of Docker's, whose files `change` may alter.
fn old_archive(change: impl FnOnce(&mut TarWriter, &ImageFixture)) -> Vec<u8> {
    let image = ImageFixture::new().format(LayerFormat::Tar).layer("/etc/ 0755\n/etc/motd \"ahoy\"");
    let mut tar = TarWriter::new();
    change(&mut tar, &image);
    tar.finish()
}

fn manifest(layer: &str) -> Vec<u8> {
    let image = json!([{"Config": "config.json", "RepoTags": ["old:1"], "Layers": [layer]}]);
    serde_json::to_vec(&image).unwrap()
}

#[test]
fn an_archive_of_older_docker_is_loaded() {
    let bytes = old_archive(|tar, image| {
        tar.file("abc/VERSION", b"1.0").file("abc/layer.tar", &image.layers()[0].bytes);
        tar.symlink("def/layer.tar", "../abc/layer.tar").file("config.json", &image.config_bytes());
        tar.file("manifest.json", &manifest("def/layer.tar"));
    });
    let store = empty_store();
    let (code, said, errors) = with_input(store.command().args(["load", "-q"]), &bytes);
    assert_eq!((code, said.as_str()), (0, "Loaded image: old:1\n"), "{errors}");
}

#[test]
fn hostile_archives_are_refused_and_leave_nothing() {
    type Case = (&'static str, Vec<u8>);
    let complete = |tar: &mut TarWriter, image: &ImageFixture, layer: &str| {
        tar.file("layer.tar", &image.layers()[0].bytes).file("config.json", &image.config_bytes());
        tar.file("manifest.json", &manifest(layer));
    };
    let cases: [Case; 9] = [
        ("no file \"absent.tar\"", old_archive(|tar, image| complete(tar, image, "absent.tar"))),
        ("no file \"../../etc/passwd\"", old_archive(|tar, image| complete(tar, image, "../../etc/passwd"))),
        ("no file \"/etc/passwd\"", old_archive(|tar, image| complete(tar, image, "/etc/passwd"))),
        (
            "two files named layer.tar",
            old_archive(|tar, image| {
                tar.file("layer.tar", b"other");
                complete(tar, image, "layer.tar");
            }),
        ),
        (
            "links lead to one file",
            old_archive(|tar, image| {
                tar.symlink("a", "b").symlink("b", "a");
                complete(tar, image, "a");
            }),
        ),
        (
            "no file \"out\"",
            old_archive(|tar, image| {
                tar.symlink("out", "../../etc/passwd");
                complete(tar, image, "out");
            }),
        ),
        (
            "at most 4194304 bytes",
            old_archive(|tar, image| {
                tar.file("layer.tar", &image.layers()[0].bytes);
                tar.file("config.json", &image.config_bytes());
                tar.file("manifest.json", &vec![b' '; 8 << 20]);
            }),
        ),
        (
            "mismatch",
            old_archive(|tar, image| {
                tar.file("layer.tar", b"these bytes are not those of the diff ID");
                tar.file("config.json", &image.config_bytes()).file("manifest.json", &manifest("layer.tar"));
            }),
        ),
        (
            "no file oci-layout",
            old_archive(|tar, _| {
                tar.file("readme", b"nothing here");
            }),
        ),
    ];
    for (said, bytes) in &cases {
        let store = empty_store();
        let file = store.path().join("evil.tar");
        fs::write(&file, bytes).unwrap();
        let run = store.carrack(["load", "-i", file.to_str().unwrap()]).code(1);
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
        assert_nothing_is_left(&store);
        let (code, _, errors) = with_input(store.command().arg("load"), bytes);
        assert!(code == 1 && errors.contains(said), "{said}: {errors}");
        assert_nothing_is_left(&store);
    }
}

#[test]
fn a_save_that_fails_leaves_no_file() {
    let store = store();
    let folder = store.path().join("out");
    fs::create_dir(&folder).unwrap();
    let file = folder.join("a.tar").display().to_string();
    for (arguments, said) in [
        (&["save", "-o", &file, IMAGE, "absentee"][..], "absentee"),
        (&["save", "-o", &file, "--platform", "linux/s390x", IMAGE], "linux/s390x"),
        (&["save", "--format", "oci-dir", IMAGE], "--output"),
    ] {
        let run = store.carrack(arguments).code(1);
        assert!(run.stderr.contains(said), "{}", run.stderr);
        assert_eq!(run.stdout, "");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
}

#[test]
fn history_shows_the_last_step_first() {
    let store = empty_store();
    let long = "RUN ".to_owned() + &"x".repeat(60);
    let image = ImageFixture::new().layer("/a \"12345\"").layer("/b \"1\"").configure(|config| {
        config.history[0].created = Some("2020-01-02T03:04:05Z".to_owned());
        config.history[1].created_by = Some(long.clone());
        config.history[1].comment = Some("second".to_owned());
        let empty = carrack_oci::History { empty_layer: true, ..config.history[0].clone() };
        config.history.insert(1, empty);
    });
    store.load(&image, TWO);
    let id = id(&store, TWO);
    let list = |flags: &[&str]| store.carrack([&["history"], flags, &[TWO]].concat()).success().stdout;
    assert_eq!(list(&["-q"]), format!("{}\n<missing>\n<missing>\n", &id[7..19]));
    assert!(list(&["-q", "--no-trunc"]).starts_with(&id));
    let lines = list(&["--human=false", "--format", "{{.CreatedBy}}|{{.CreatedSince}}|{{.Comment}}"]);
    let cut = long.chars().take(44).collect::<String>();
    let expected =
        format!("{cut}…|N/A|second\nlayer 1|2020-01-02T03:04:05Z|\nlayer 1|2020-01-02T03:04:05Z|\n");
    assert_eq!(lines, expected);
    assert!(list(&["--no-trunc", "--format", "{{.CreatedBy}}"]).starts_with(&long));
    let sizes = list(&["--human=false", "--format", "{{.Size}}"]);
    let sizes: Vec<u64> = sizes.lines().map(|line| line.parse().unwrap()).collect();
    assert!(sizes[0] > 0 && sizes[1] == 0 && sizes[2] > 0, "{sizes:?}");
    assert!(list(&[]).starts_with("IMAGE"), "a table with headings");
    let first: serde_json::Value =
        serde_json::from_str(list(&["--format", "json"]).lines().next().unwrap()).unwrap();
    assert_eq!(first["Comment"], "second");
    store.carrack(["history", "absentee"]).code(1);
}
