//! What a name meant before: order, bounds, what a crash leaves, and `NAME@{N}`.

use std::fs;
use std::path::PathBuf;

use carrack_image::{Error, Image, ImageRecord, ImageStore, MatchedBy};
use carrack_oci::Digest;
use carrack_testkit::ImageFixture;
use tempfile::TempDir;

fn record(name: Option<&str>, content: &str) -> ImageRecord {
    let fixture = ImageFixture::new().layer(&format!("/file \"{content}\""));
    let image =
        Image::parse(&fixture.manifest(), &fixture.manifest_bytes(), &fixture.config_bytes()).unwrap();
    ImageRecord::new(name.map(|name| name.parse().unwrap()), fixture.manifest(), &image)
}

fn store() -> (TempDir, ImageStore) {
    let folder = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&folder.path().join("images")).unwrap();
    (folder, store)
}

fn ids(store: &ImageStore, name: &str) -> Vec<Digest> {
    let log = store.log(&name.parse().unwrap()).unwrap();
    log.into_iter().map(|entry| entry.record.config_digest).collect()
}

fn log_file(folder: &TempDir) -> Option<PathBuf> {
    let entries = fs::read_dir(folder.path().join("images/log")).ok()?;
    entries.flatten().map(|entry| entry.path()).next()
}

#[test]
fn a_name_remembers_what_it_meant() {
    let (_folder, store) = store();
    for content in ["one", "two", "two", "three"] {
        store.put(&record(Some("app"), content)).unwrap();
    }
    let expected: Vec<_> =
        ["three", "two", "one"].map(|content| record(None, content).config_digest).to_vec();
    assert_eq!(ids(&store, "app:latest"), expected);
    let log = store.log(&"app".parse().unwrap()).unwrap();
    assert_eq!(log[0].replaced, None);
    for pair in log.windows(2) {
        assert_eq!(pair[1].replaced, pair[0].record.tagged, "one meaning ends when the next begins");
    }
    for (text, content, matched_by) in [
        ("app@{0}", "three", MatchedBy::Name),
        ("app:latest@{1}", "two", MatchedBy::Id),
        ("docker.io/library/app@{2}", "one", MatchedBy::Id),
    ] {
        let found = store.find(text).unwrap();
        assert_eq!(found.record.id(), record(None, content).id(), "{text}");
        assert_eq!(found.matched_by, matched_by, "{text}");
    }
    let beyond = store.find("app@{3}").unwrap_err().to_string();
    assert!(beyond.contains("app@{0} to app@{2}"), "{beyond}");
    assert!(matches!(store.find("other@{1}"), Err(Error::NotFound { .. })));
    assert!(matches!(store.find("app@{x}"), Err(Error::NotFound { .. })));
}

#[test]
fn a_name_of_one_meaning_has_no_log_and_a_deleted_one_has_none_left() {
    let (folder, store) = store();
    store.put(&record(Some("app"), "one")).unwrap();
    assert_eq!((ids(&store, "app").len(), log_file(&folder)), (1, None));
    assert!(matches!(store.find("app@{1}"), Err(Error::Past { .. })));
    store.put(&record(Some("app"), "two")).unwrap();
    assert!(log_file(&folder).is_some());
    store.delete(&record(Some("app"), "two")).unwrap();
    assert_eq!(log_file(&folder), None);
    store.put(&record(Some("app"), "three")).unwrap();
    assert_eq!(ids(&store, "app").len(), 1);
}

#[test]
fn a_removed_image_stays_in_the_log_and_is_said_to_be_removed() {
    let (_folder, store) = store();
    store.put(&record(Some("app"), "one")).unwrap();
    store.put(&record(Some("app"), "two")).unwrap();
    store.delete(&record(None, "one")).unwrap();
    let error = store.find("app@{1}").unwrap_err().to_string();
    assert!(error.contains("was removed") && error.contains(record(None, "one").id().as_str()), "{error}");
    assert_eq!(ids(&store, "app").len(), 2);
}

#[test]
fn the_log_is_bounded() {
    let (folder, store) = store();
    let store = store.with_history(3);
    for number in 0..8 {
        store.put(&record(Some("app"), &number.to_string())).unwrap();
    }
    let expected: Vec<_> = ["7", "6", "5", "4"].map(|content| record(None, content).config_digest).to_vec();
    assert_eq!(ids(&store, "app"), expected);
    store.with_history(0).put(&record(Some("app"), "8")).unwrap();
    assert_eq!(log_file(&folder), None);
}

#[test]
fn a_crash_between_log_and_record_is_not_seen() {
    let (folder, store) = store();
    store.put(&record(Some("app"), "one")).unwrap();
    store.put(&record(Some("app"), "two")).unwrap();
    let at_two = fs::read(log_file(&folder).unwrap()).unwrap();
    let records = |folder: &TempDir| {
        let entries = fs::read_dir(folder.path().join("images")).unwrap().flatten();
        let files = entries.map(|entry| entry.path()).filter(|path| path.is_file());
        files.map(|path| (fs::read(&path).unwrap(), path)).collect::<Vec<_>>()
    };
    let before = records(&folder);
    store.put(&record(Some("app"), "three")).unwrap();
    let at_three = fs::read(log_file(&folder).unwrap()).unwrap();
    assert_ne!(at_two, at_three);
    // The log has been written, the record has not.
    for (_, path) in records(&folder) {
        fs::remove_file(path).unwrap();
    }
    for (bytes, path) in &before {
        fs::write(path, bytes).unwrap();
    }
    let expected: Vec<_> = ["two", "one"].map(|content| record(None, content).config_digest).to_vec();
    assert_eq!(ids(&store, "app"), expected);
    store.put(&record(Some("app"), "three")).unwrap();
    assert_eq!(ids(&store, "app").len(), 3, "the repeated change is noted once");
}

#[test]
fn an_old_record_without_a_time_has_a_log_all_the_same() {
    let (folder, store) = store();
    store.put(&record(Some("app"), "one")).unwrap();
    let mut files = fs::read_dir(folder.path().join("images")).unwrap().flatten().map(|entry| entry.path());
    let file = files.find(|path| path.extension().is_some_and(|ending| ending == "json")).unwrap();
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    json.as_object_mut().unwrap().remove("tagged").expect("it has a time");
    fs::write(&file, json.to_string()).unwrap();
    store.put(&record(Some("app"), "two")).unwrap();
    let log = store.log(&"app".parse().unwrap()).unwrap();
    assert_eq!((log.len(), log[1].record.tagged), (2, None));
    assert!(log[1].replaced.is_some());
}
