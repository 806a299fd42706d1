//! Layouts and archives that lie, and writes that are cut short.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Path, PathBuf};

use carrack_content::ContentStore;
use carrack_image::transport::{
    self, ArchiveFormat, ArchiveWriter, Destination, LayoutWriter, Location, Root, Source,
};
use carrack_image::{Error, Result};
use carrack_layer::compression::Method;
use carrack_oci::{Descriptor, Digest};
use carrack_testkit::{ImageFixture, LayerFormat, TarWriter};
use serde_json::json;
use tempfile::TempDir;

fn fixture() -> ImageFixture {
    ImageFixture::new().format(LayerFormat::Tar).layer("/a \"1\"").layer("/b \"2\"")
}

fn layout() -> (TempDir, ImageFixture) {
    let folder = tempfile::tempdir().unwrap();
    let image = fixture();
    image.write_layout(folder.path(), "tag");
    (folder, image)
}

fn blob_path(folder: &Path, digest: &Digest) -> PathBuf {
    folder.join("blobs/sha256").join(digest.hex())
}

fn content(folder: &Path) -> ContentStore {
    ContentStore::open(folder).unwrap()
}

fn open(path: &Path) -> Result<Box<dyn Source>> {
    transport::open(path, &content(tempfile::tempdir().unwrap().path()))
}

fn error(path: &Path) -> String {
    match open(path) {
        Err(error) => error.to_string(),
        Ok(source) => source.root().expect_err("it was accepted").to_string(),
    }
}

fn write_all(destination: &mut dyn Destination, image: &ImageFixture) {
    for (descriptor, bytes) in image.blobs() {
        match descriptor == image.manifest() {
            true => destination.put_manifest(&descriptor, &bytes).unwrap(),
            false => destination.put_blob(&descriptor, &mut bytes.as_slice()).unwrap(),
        }
    }
}

fn root(image: &ImageFixture) -> Root {
    Root { descriptor: image.manifest(), names: Vec::new() }
}

#[test]
fn a_layout_says_what_it_is() {
    let (folder, _) = layout();
    let path = folder.path();
    let index = fs::read(path.join("index.json")).unwrap();
    for (name, bytes, expected) in [
        ("oci-layout", &br#"{"imageLayoutVersion":"2.0.0"}"#[..], "expected version 1.0.0"),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0","imageLayoutVersion":"1.0.0"}"#, "duplicate"),
        ("index.json", br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#, "both a manifest and an index"),
        ("index.json", br#"{"schemaVersion":2}"#, "manifests"),
        ("index.json", &vec![b' '; 5 << 20], "at most 4194304 bytes"),
        ("index.json", br#"{"schemaVersion":2,"manifests":[]}"#, "got none"),
    ] {
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        fs::write(path.join("index.json"), &index).unwrap();
        fs::write(path.join(name), bytes).unwrap();
        assert!(error(path).contains(expected), "{name}: {}", error(path));
    }
}

#[test]
fn a_digest_in_an_index_is_never_a_path() {
    let (folder, _) = layout();
    let path = folder.path().join("index.json");
    let index = fs::read_to_string(&path).unwrap();
    let evil = index.replace("\"digest\":\"sha256:", "\"digest\":\"sha256:../../../");
    fs::write(&path, evil).unwrap();
    assert!(error(folder.path()).contains("invalid digest"), "{}", error(folder.path()));
}

#[test]
fn a_manifest_is_verified_and_a_blob_has_its_size() {
    let (folder, image) = layout();
    let manifest = image.manifest();
    let mut bytes = image.manifest_bytes();
    bytes[10] ^= 1;
    fs::write(blob_path(folder.path(), &manifest.digest), &bytes).unwrap();
    assert!(matches!(open(folder.path()).unwrap().root(), Err(Error::Mismatch { .. })));
    let layer = &image.layers()[0];
    fs::write(blob_path(folder.path(), &layer.descriptor.digest), b"short").unwrap();
    let source = open(folder.path()).unwrap();
    assert!(matches!(source.blob(&layer.descriptor), Err(Error::Mismatch { got_bytes: 5, .. })));
    fs::remove_file(blob_path(folder.path(), &layer.descriptor.digest)).unwrap();
    assert!(matches!(source.blob(&layer.descriptor), Err(Error::BlobNotFound { .. })));
}

#[test]
fn a_blob_is_a_regular_file_inside() {
    let (folder, image) = layout();
    let outside = tempfile::tempdir().unwrap();
    let layer = &image.layers()[0];
    fs::write(outside.path().join("secret"), &layer.bytes).unwrap();
    let path = blob_path(folder.path(), &layer.descriptor.digest);
    fs::remove_file(&path).unwrap();
    symlink(outside.path().join("secret"), &path).unwrap();
    assert!(open(folder.path()).unwrap().blob(&layer.descriptor).is_err(), "a link out was followed");
    fs::remove_file(&path).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    assert!(open(folder.path()).unwrap().blob(&layer.descriptor).is_err(), "a FIFO was opened");
}

/// An archive of the form that `docker save` had for long: layers in folders, equal ones as links.
fn old_archive(change: impl FnOnce(&mut TarWriter, &ImageFixture)) -> (TempDir, PathBuf, ImageFixture) {
    let image = fixture();
    let mut tar = TarWriter::new();
    tar.file("config.json", &image.config_bytes());
    tar.file("one/layer.tar", &image.layers()[0].bytes);
    tar.file("two/layer.tar", &image.layers()[1].bytes);
    change(&mut tar, &image);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    fs::write(&path, tar.finish()).unwrap();
    (folder, path, image)
}

fn manifest_json(layers: serde_json::Value) -> Vec<u8> {
    json!([{"Config": "config.json", "RepoTags": ["app:1"], "Layers": layers}]).to_string().into_bytes()
}

#[test]
fn an_old_archive_gets_a_manifest_of_its_layers() {
    let (_folder, path, image) = old_archive(|tar, _| {
        tar.symlink("linked/layer.tar", "../two/layer.tar");
        tar.file("manifest.json", &manifest_json(json!(["one/layer.tar", "linked/layer.tar"])));
    });
    let source = open(&path).unwrap();
    assert_eq!(source.name().unwrap().familiar(), "app:1");
    let (descriptor, bytes) = source.root().unwrap();
    assert_eq!((descriptor, bytes), (image.manifest(), image.manifest_bytes()));
    let mut layer = Vec::new();
    source.blob(&image.layers()[1].descriptor).unwrap().read_to_end(&mut layer).unwrap();
    assert_eq!(layer, image.layers()[1].bytes);
}

#[test]
fn an_archive_may_be_compressed_or_a_pipe() {
    let (folder, path, image) = old_archive(|tar, _| {
        tar.file("manifest.json", &manifest_json(json!(["one/layer.tar", "two/layer.tar"])));
    });
    let tar = fs::read(&path).unwrap();
    let mut compressed = fs::File::create(&path).unwrap();
    Method::DEFAULT_GZIP.compress(&mut &tar[..], &mut compressed, 1).unwrap();
    let store = tempfile::tempdir().unwrap();
    let content = content(store.path());
    assert_eq!(transport::open(&path, &content).unwrap().root().unwrap().0, image.manifest());
    let (reader, mut writer) = io::pipe().unwrap();
    let thread = std::thread::spawn(move || writer.write_all(&tar));
    let file = fs::File::from(std::os::fd::OwnedFd::from(reader));
    let source = transport::open_file(file, Path::new("standard input"), &content).unwrap();
    assert_eq!(source.root().unwrap().0, image.manifest());
    thread.join().unwrap().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(content.list().unwrap(), [], "what is small stays in memory");
}

#[test]
fn a_layer_of_a_stream_is_written_once_as_its_blob() {
    let line = format!("/a \"{}\"", "1".repeat(100_000));
    let image = ImageFixture::new().format(LayerFormat::Tar).layer(&line);
    let layer = &image.layers()[0];
    let mut tar = TarWriter::new();
    let manifest = json!([{"Config": "config.json", "RepoTags": null, "Layers": ["layer.tar"]}]);
    tar.file("layer.tar", &layer.bytes).file("config.json", &image.config_bytes());
    tar.file("manifest.json", &serde_json::to_vec(&manifest).unwrap());
    let tar = tar.finish();
    let read = |bytes: &[u8], content: &ContentStore| {
        let (reader, mut writer) = io::pipe().unwrap();
        let bytes = bytes.to_vec();
        let thread = std::thread::spawn(move || writer.write_all(&bytes));
        let file = fs::File::from(std::os::fd::OwnedFd::from(reader));
        let source = transport::open_file(file, Path::new("standard input"), content);
        let _ = thread.join().unwrap();
        source
    };
    let store = tempfile::tempdir().unwrap();
    let content = content(store.path());
    let source = read(&tar, &content).unwrap();
    assert_eq!(content.list().unwrap(), [(layer.descriptor.digest.clone(), layer.descriptor.size)]);
    let mut bytes = Vec::new();
    source.blob(&layer.descriptor).unwrap().read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, layer.bytes);
    let cut = read(&tar[..tar.len() - 2048], &content).map(drop).unwrap_err().to_string();
    assert!(cut.contains("standard input"), "{cut}");
}

#[test]
fn an_archive_that_lies_is_refused() {
    let both = json!(["one/layer.tar", "two/layer.tar"]);
    type Change = Box<dyn FnOnce(&mut TarWriter)>;
    let manifest = |layers| -> Change {
        Box::new(move |tar| {
            tar.file("manifest.json", &manifest_json(layers));
        })
    };
    let twice = both.clone();
    let cases: [(Change, &str); 8] = [
        (Box::new(|_| ()), "no file oci-layout"),
        (manifest(json!(["one/layer.tar"])), "as many layers as diff IDs, got 1 and 2"),
        (manifest(json!(null)), "as many layers as diff IDs, got 0 and 2"),
        (manifest(json!(["one/layer.tar", "../../../etc/passwd"])), "no file"),
        (manifest(json!(["one/layer.tar", "/etc/passwd"])), "no file"),
        (
            Box::new(move |tar| {
                tar.file("manifest.json", &manifest_json(twice.clone()));
                tar.file("./manifest.json", &manifest_json(twice));
            }),
            "two files named",
        ),
        (
            Box::new(|tar| {
                tar.symlink("x", "../../etc/passwd").symlink("y", "z").symlink("z", "y");
                tar.file("manifest.json", &manifest_json(json!(["x", "y"])));
            }),
            "no file",
        ),
        (
            Box::new(|tar| {
                tar.symlink("y", "z").symlink("z", "y");
                tar.file("manifest.json", &manifest_json(json!(["one/layer.tar", "y"])));
            }),
            "more than 8 links",
        ),
    ];
    for (change, expected) in cases {
        let (_folder, path, _) = old_archive(|tar, _| change(tar));
        assert!(error(&path).contains(expected), "expected {expected}, got {}", error(&path));
    }
}

#[test]
fn a_cut_archive_is_refused() {
    let (_folder, path, _) = old_archive(|tar, _| {
        tar.file("manifest.json", &manifest_json(json!(["one/layer.tar", "two/layer.tar"])));
        tar.file("tail", &[1; 2000]);
    });
    let bytes = fs::read(&path).unwrap();
    // Within the data of the last file, and within its header.
    for left in [bytes.len() - 2048, bytes.len() - 1024 - 2048 - 100] {
        fs::write(&path, &bytes[..left]).unwrap();
        let error = error(&path);
        assert!(error.contains("within") || error.contains("checksum"), "{error}");
    }
}

#[test]
fn a_wrong_blob_is_not_named() {
    let folder = tempfile::tempdir().unwrap();
    let descriptor = Descriptor::of("application/octet-stream", b"right");
    let layout = folder.path().join("layout");
    let mut writer = LayoutWriter::create(&layout, None).unwrap();
    for wrong in [&b"wrong"[..], b"righ", b"right and more"] {
        assert!(matches!(writer.put_blob(&descriptor, &mut { wrong }), Err(Error::Mismatch { .. })));
    }
    assert!(!blob_path(&layout, &descriptor.digest).exists());
    let mut left: Vec<_> = fs::read_dir(&layout).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["blobs", "oci-layout"], "no temporary file stays");
}

#[test]
fn writers_of_one_layout_all_succeed() {
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let path = folder.path();
            scope.spawn(move || {
                let image = fixture().layer(&format!("/own \"{number}\""));
                let mut writer = LayoutWriter::create(path, Some(&format!("tag-{number}"))).unwrap();
                write_all(&mut writer, &image);
                Box::new(writer).finish(&[root(&image)]).unwrap();
            });
        }
    });
    assert_eq!(open(folder.path()).unwrap().roots().len(), 8);
}

#[test]
fn a_layout_keeps_other_tags_and_unknown_keys() {
    let (folder, image) = layout();
    let path = folder.path().join("index.json");
    let index = fs::read_to_string(&path).unwrap();
    fs::write(&path, index.replacen('{', r#"{"org.example.key":{"a":1},"#, 1)).unwrap();
    let write = |image: &ImageFixture, tag| {
        let mut writer = LayoutWriter::create(folder.path(), Some(tag)).unwrap();
        write_all(&mut writer, image);
        Box::new(writer).finish(&[root(image)]).unwrap();
    };
    let other = fixture().layer("/c \"3\"");
    write(&other, "other");
    assert!(fs::read_to_string(&path).unwrap().contains("org.example.key"));
    let digest = |tag: &str| {
        let location = format!("oci:{}:{tag}", folder.path().display()).parse::<Location>().unwrap();
        location.source(folder.path()).unwrap().root().unwrap().0.digest
    };
    assert_eq!((digest("tag"), digest("other")), (image.manifest().digest, other.manifest().digest));
    write(&other, "tag");
    assert_eq!(digest("tag"), other.manifest().digest);
    let choice = format!("oci:{}:none", folder.path().display()).parse::<Location>().unwrap();
    let error = choice.source(folder.path()).err().unwrap().to_string();
    assert!(error.contains("\"tag\"") && error.contains("\"other\""), "{error}");
    assert!(self::error(folder.path()).contains("one image"));
}

#[test]
fn foreign_folders_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("thesis.txt"), "years of work").unwrap();
    for transport in ["oci", "dir"] {
        let location = format!("{transport}:{}", folder.path().display()).parse::<Location>().unwrap();
        assert!(location.destination().is_err(), "{transport}");
    }
    assert!(folder.path().join("thesis.txt").exists());
}

#[test]
fn an_image_folder_is_replaced_as_a_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image");
    let location = format!("dir:{}", path.display()).parse::<Location>().unwrap();
    for image in [fixture(), fixture().layer("/c \"3\"")] {
        let mut abandoned = location.destination().unwrap();
        write_all(&mut *abandoned, &image);
        drop(abandoned);
        let mut writer = location.destination().unwrap();
        write_all(&mut *writer, &image);
        writer.finish(&[root(&image)]).unwrap();
        assert_eq!(open(&path).unwrap().root().unwrap().0, image.manifest());
        assert_eq!(fs::read_dir(&path).unwrap().count(), 3 + image.layers().len());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing stays beside it");
    }
}

#[test]
fn an_archive_is_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("image.tar");
    let format = ArchiveFormat::Docker { reference: None };
    let mut writer = ArchiveWriter::create(&path, format.clone()).unwrap();
    write_all(&mut writer, &fixture());
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    let write = || {
        let image = fixture();
        let mut writer = ArchiveWriter::create(&path, format.clone()).unwrap();
        write_all(&mut writer, &image);
        let names = vec!["app:1".parse().unwrap(), "host.example/app:2".parse().unwrap()];
        Box::new(writer).finish(&[Root { descriptor: image.manifest(), names }]).unwrap();
        fs::read(&path).unwrap()
    };
    assert_eq!(write(), write(), "the same image makes the same bytes");
    let source = open(&path).unwrap();
    assert_eq!(source.root().unwrap().0, fixture().manifest(), "the manifest of the layout is kept");
    assert_eq!(source.roots()[0].names.len(), 2);
}

#[test]
fn a_device_is_written_to_and_not_replaced() {
    use rustix::fs::{CWD, FileType, makedev, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("null");
    if mknodat(CWD, &path, FileType::CharacterDevice, 0o600.into(), makedev(1, 3)).is_err() {
        let _ = writeln!(io::stderr(), "skipped: only root makes devices");
        return;
    }
    let mut writer = ArchiveWriter::create(&path, ArchiveFormat::Oci { tag: None }).unwrap();
    write_all(&mut writer, &fixture());
    Box::new(writer).finish(&[root(&fixture())]).unwrap();
    assert!(fs::metadata(&path).unwrap().file_type().is_char_device());
}

#[test]
fn locations_are_read_and_shown() {
    for (text, shown) in [
        ("docker://app", "docker.io/library/app:latest"),
        ("app", "docker.io/library/app:latest"),
        ("host.example:5000/app:1", "host.example:5000/app:1"),
        ("oci:/a/b", "oci:/a/b"),
        ("oci:/a/b:tag", "oci:/a/b:tag"),
        ("oci:b:host.example:5000/app:1", "oci:b:host.example:5000/app:1"),
        ("oci-archive:/a.tar:x", "oci-archive:/a.tar:x"),
        ("docker-archive:/a.tar:app", "docker-archive:/a.tar:docker.io/library/app:latest"),
        ("dir:/a:b", "dir:/a:b"),
    ] {
        let location: Location = text.parse().unwrap();
        assert_eq!(location.to_string(), shown);
        assert_eq!(shown.parse::<Location>().unwrap(), location);
    }
    for text in
        ["", "oci:", "oci:/a:", "dir:", "docker-archive:/a:A B", "docker-daemon:app:1", "docker://", "App"]
    {
        assert!(text.parse::<Location>().is_err(), "{text:?} was accepted");
    }
}
