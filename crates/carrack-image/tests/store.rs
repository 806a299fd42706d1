//! Records: names, IDs, and what becomes of an image whose name goes to another.

use std::fs;

use carrack_content::ContentStore;
use carrack_image::{Error, Image, ImageRecord, ImageStore, MatchedBy, ShortNames, reachable_blobs};
use carrack_oci::{Descriptor, Index, media_type};
use carrack_testkit::ImageFixture;
use tempfile::TempDir;

fn fixture(text: &str) -> ImageFixture {
    ImageFixture::new().layer(&format!("/file \"{text}\""))
}

fn image(fixture: &ImageFixture) -> Image {
    Image::parse(&fixture.manifest(), &fixture.manifest_bytes(), &fixture.config_bytes()).unwrap()
}

fn record(name: Option<&str>, fixture: &ImageFixture) -> ImageRecord {
    ImageRecord::new(name.map(|name| name.parse().unwrap()), fixture.manifest(), &image(fixture))
}

fn store() -> (TempDir, ImageStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&folder.path().join("images")).unwrap();
    (folder, store)
}

/// A record as it was before the store noted the time.
fn untimed(record: ImageRecord) -> ImageRecord {
    assert!(record.tagged.is_some());
    ImageRecord { tagged: None, ..record }
}

fn names(store: &ImageStore) -> Vec<String> {
    let name = |record: ImageRecord| record.reference.map_or("<none>".to_owned(), |name| name.familiar());
    store.list().unwrap().into_iter().map(name).collect()
}

#[test]
fn keeps_what_was_put() {
    let (folder, store) = store();
    let record = record(Some("host.example/app:1"), &fixture("a"));
    assert_eq!((record.created_unix, record.size_bytes > 0), (1_580_608_922, true));
    store.put(&record).unwrap();
    let again = ImageStore::open(&folder.path().join("images")).unwrap();
    let got = again.get(record.reference.as_ref().unwrap()).unwrap();
    assert_eq!(got.map(untimed), Some(record.clone()));
    let listed: Vec<_> = again.list().unwrap().into_iter().map(untimed).collect();
    assert_eq!(listed, std::slice::from_ref(&record));
    assert!(again.delete(&record).unwrap());
    assert!(!again.delete(&record).unwrap());
    assert!(again.list().unwrap().is_empty());
}

#[test]
fn an_image_that_loses_its_last_name_stays_without_one() {
    let (_folder, store) = store();
    let (old, new) = (fixture("old"), fixture("new"));
    store.put(&record(Some("app"), &old)).unwrap();
    store.put(&record(Some("app"), &new)).unwrap();
    assert_eq!(names(&store), ["app:latest", "<none>"]);
    assert_eq!(store.find(old.id().short()).unwrap().record.reference, None);
    store.put(&record(Some("kept"), &old)).unwrap();
    assert_eq!(names(&store), ["app:latest", "kept:latest"], "an image with a name is not listed without");
    store.put(&record(Some("app"), &old)).unwrap();
    store.put(&record(Some("app"), &new)).unwrap();
    assert_eq!(names(&store), ["app:latest", "kept:latest"], "old has another name, new has its name back");
}

#[test]
fn deletes_only_what_the_caller_saw() {
    let (_folder, store) = store();
    let seen = record(Some("app"), &fixture("old"));
    store.put(&seen).unwrap();
    store.put(&record(Some("app"), &fixture("new"))).unwrap();
    assert!(!store.delete(&seen).unwrap());
    assert_eq!(names(&store)[0], "app:latest");
}

#[test]
fn finds_by_name_digest_and_id() {
    let (_folder, store) = store();
    let (one, two) = (fixture("one"), fixture("two"));
    let local = record(Some("localhost/team/built:1"), &two);
    for record in [&record(Some("app"), &one), &record(Some("host.example/app:2"), &one), &local] {
        store.put(record).unwrap();
    }
    let (id, digest) = (one.id(), one.manifest().digest);
    for (text, matched_by) in [
        ("app", MatchedBy::Name),
        ("app:latest", MatchedBy::Name),
        ("docker.io/library/app", MatchedBy::Name),
        ("host.example/app:2", MatchedBy::Name),
        (&format!("app@{digest}"), MatchedBy::Digest),
        (&format!("host.example/app:other@{digest}"), MatchedBy::Digest),
        (id.as_str(), MatchedBy::Id),
        (id.hex(), MatchedBy::Id),
        (id.short(), MatchedBy::Id),
        (&format!("sha256:{}", id.short()), MatchedBy::Id),
    ] {
        let found = store.find(text).unwrap();
        assert_eq!((found.record.id(), found.matched_by), (&id, matched_by), "{text}");
        assert_eq!(found.names.len(), 2, "{text}");
    }
    assert_eq!(untimed(store.find("team/built:1").unwrap().record), local, "podman's name of a local image");
    for text in
        ["", "other", "app:2", "host.example/app", "sha256:", "SHA256", "..", &format!("other@{digest}")]
    {
        assert!(matches!(store.find(text), Err(Error::NotFound { .. })), "{text:?}");
    }
}

#[test]
fn a_short_id_that_fits_two_images_is_an_error() {
    let (_folder, store) = store();
    // Of 17 images, two begin with the same digit.
    let images: Vec<_> = (0..17).map(|number| fixture(&number.to_string())).collect();
    for image in &images {
        store.put(&record(None, image)).unwrap();
    }
    let digit = |image: &ImageFixture| image.id().hex()[..1].to_owned();
    let shared =
        images.iter().map(digit).find(|own| images.iter().filter(|other| digit(other) == *own).count() > 1);
    match store.find(&shared.unwrap()) {
        Err(Error::Ambiguous { candidates, .. }) => assert!(candidates.len() > 1),
        other => panic!("{other:?}"),
    }
    for image in &images {
        assert_eq!(store.find(image.id().short()).unwrap().record.id(), &image.id());
    }
}

#[test]
fn a_name_comes_before_an_id() {
    let (_folder, store) = store();
    let (by_id, by_name) = (fixture("id"), fixture("name"));
    let short = by_id.id().short().to_owned();
    store.put(&record(None, &by_id)).unwrap();
    assert_eq!(store.find(&short).unwrap().record.id(), &by_id.id());
    store.put(&record(Some(&short), &by_name)).unwrap();
    assert_eq!(store.find(&short).unwrap().record.id(), &by_name.id());
    assert_eq!(store.find(&format!("sha256:{short}")).unwrap().record.id(), &by_id.id());
}

#[test]
fn refuses_a_record_that_is_not_its_own() {
    let (folder, store) = store();
    store.put(&record(Some("app"), &fixture("a"))).unwrap();
    let root = folder.path().join("images");
    let is_record = |path: &std::path::PathBuf| path.extension().is_some_and(|extension| extension == "json");
    let path = fs::read_dir(&root).unwrap().map(|entry| entry.unwrap().path()).find(is_record).unwrap();
    let good = fs::read_to_string(&path).unwrap();
    let twice = good.replacen('{', "{\"created_unix\":1,", 1);
    let unknown = good.replacen('{', "{\"unknown\":1,", 1);
    let other_name = good.replace("library/app", "library/other");
    let long = good.clone() + &" ".repeat(9 << 20);
    for bad in [&good[..good.len() - 1], "", &(good.clone() + "x"), &twice, &unknown, &other_name, &long] {
        fs::write(&path, bad).unwrap();
        let error = store.list().unwrap_err();
        assert!(matches!(&error, Error::Record { path: named, .. } if *named == path), "{error}");
        assert!(store.find("app").is_err());
    }
    fs::write(&path, good).unwrap();
    assert_eq!(names(&store), ["app:latest"]);
}

#[test]
fn writers_of_one_name_lose_no_image() {
    const WRITERS: u32 = 16;
    let (folder, store) = store();
    std::thread::scope(|scope| {
        for number in 0..WRITERS {
            let root = folder.path().join("images");
            scope.spawn(move || {
                let store = ImageStore::open(&root).unwrap();
                store.put(&record(Some("app"), &fixture(&number.to_string()))).unwrap();
            });
        }
    });
    let named = names(&store).iter().filter(|name| *name != "<none>").count();
    assert_eq!((store.list().unwrap().len(), named), (WRITERS as usize, 1), "each that lost the name stays");
}

#[test]
fn a_record_reaches_its_index_and_the_images_that_are_here() {
    let folder = tempfile::tempdir().unwrap();
    let content = ContentStore::open(folder.path()).unwrap();
    let (here, absent) = (fixture("here"), fixture("absent"));
    for (descriptor, bytes) in here.blobs() {
        assert_eq!(content.put(&bytes).unwrap(), descriptor.digest);
    }
    let index = serde_json::to_vec(&Index::oci(vec![absent.manifest(), here.manifest()])).unwrap();
    content.put(&index).unwrap();
    let target = Descriptor::of(media_type::OCI_INDEX, &index);
    let record = ImageRecord { target: target.clone(), ..record(Some("app"), &here) };
    let reached = reachable_blobs(&content, &record).unwrap();
    let mut expected: Vec<_> = here.blobs().into_iter().map(|(descriptor, _)| descriptor.digest).collect();
    expected.push(target.digest);
    expected.sort();
    assert_eq!(reached.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn an_image_is_its_manifest_and_config_agreeing() {
    let fixture = fixture("a").layer("/b \"b\"");
    let image = image(&fixture);
    assert_eq!(image.id(), &fixture.id());
    let layers = image.layers();
    assert_eq!(layers[1].diff_id, &fixture.layers()[1].diff_id);
    assert_eq!(image.chain_id().as_ref(), Some(&layers[1].chain_id));
    assert_eq!(image.created().unwrap().as_second(), 1_580_608_922);
    let one_layer = self::fixture("a").config_bytes();
    let error = Image::parse(&fixture.manifest(), &fixture.manifest_bytes(), &one_layer).unwrap_err();
    assert!(error.to_string().contains("1 diff IDs, its manifest has 2 layers"), "{error}");
    let index = serde_json::to_vec(&Index::oci(vec![])).unwrap();
    let descriptor = Descriptor::of(media_type::OCI_INDEX, &index);
    let error = Image::parse(&descriptor, &index, &one_layer).unwrap_err();
    assert!(error.to_string().contains("expected one image, got an index"), "{error}");
}

#[test]
fn a_short_name_is_an_alias_when_no_image_has_it() {
    let (_folder, store) = store();
    let (own, other) = (fixture("own"), fixture("other"));
    store.put(&record(Some("host.example/team/app:1"), &other)).unwrap();
    let store = store.with_short_names(ShortNames::new(|text| match text.starts_with("broken") {
        true => Err("no configuration".to_owned()),
        false => Ok(vec![format!("host.example/team/{text}").parse().unwrap()]),
    }));
    assert_eq!(store.find("app:1").unwrap().record.id(), &other.id());
    assert!(matches!(store.find("app:2"), Err(Error::NotFound { .. })));
    assert!(matches!(store.find("other.example/app:1"), Err(Error::NotFound { .. })), "not a short name");
    store.put(&record(Some("app:1"), &own)).unwrap();
    assert_eq!(store.find("app:1").unwrap().record.id(), &own.id(), "an own name comes first");
    let error = store.find("broken").unwrap_err().to_string();
    assert_eq!(error, "cannot look up the short name broken: no configuration");
}
