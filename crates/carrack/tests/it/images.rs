//! Images as users see them: lists and filters, all details, trees, removal, prune, and what a name meant before.

use carrack_testkit::{ImageFixture, Store};
use serde_json::{Value, json};

use crate::kit::{IMAGE, empty_store, id, store, with_input};

/// An image with one file and any config, under `name`.
fn load(store: &Store, name: &str, content: &str, created: &str) -> String {
    let image = ImageFixture::new().layer(&format!("/file \"{content}\"")).configure(|config| {
        config.created = Some(created.to_owned());
        config.config.labels = Some([("content".to_owned(), content.to_owned())].into());
    });
    store.load(&image, name);
    image.id().to_string()
}

/// Three images: old and new have a name, the middle one has lost its own.
fn three() -> (Store, [String; 3]) {
    let store = empty_store();
    let old = load(&store, "host.example/team/old:1", "old", "2020-01-01T00:00:00Z");
    let middle = load(&store, "app", "middle", "2021-01-01T00:00:00Z");
    let new = load(&store, "app", "new", "2022-01-01T00:00:00Z");
    (store, [old, middle, new])
}

fn ids(store: &Store, flags: &[&str]) -> Vec<String> {
    let listed = store.carrack([&["images", "--quiet", "--no-trunc"], flags].concat()).line();
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn filters_choose_images() {
    let (store, [old, middle, new]) = three();
    let all = || vec![new.clone(), middle.clone(), old.clone()];
    for (flags, expected) in [
        (&[][..], all()),
        (&["--all"], all()),
        (&["--filter", "dangling=true"], vec![middle.clone()]),
        (&["--filter", "dangling=false"], vec![new.clone(), old.clone()]),
        (&["--filter", "label=content=old"], vec![old.clone()]),
        (&["--filter", "label=content"], all()),
        (&["--filter", "label!=content=old"], vec![new.clone(), middle.clone()]),
        (&["--filter", "before=app"], vec![middle.clone(), old.clone()]),
        (&["--filter", "since=host.example/team/old:1"], vec![new.clone(), middle.clone()]),
        (&["--filter", "until=2020-06-01T00:00:00Z"], vec![old.clone()]),
        (&["--filter", "reference=host.example/*/old"], vec![old.clone()]),
        (&["--filter", "reference=app:lat*", "--filter", "reference=x"], vec![new.clone()]),
        (&["--filter", "id=sha256:", "--filter", "readonly=true"], vec![]),
        (&["--filter", "containers=true"], vec![]),
        (&["app"], vec![new.clone()]),
        (&["host.example/team/old:2"], vec![]),
    ] {
        assert_eq!(ids(&store, flags), expected, "{flags:?}");
    }
    assert_eq!(ids(&store, &["--filter", &format!("id={}", &old["sha256:".len()..][..12])]), [old]);
    for wrong in ["dangling", "dangling=maybe", "until=yesterday", "colour=red", "reference=["] {
        let run = store.carrack(["images", "--filter", wrong]).code(1);
        assert!(run.stderr.contains(wrong), "{}", run.stderr);
    }
}

#[test]
fn lists_are_sorted_and_formatted() {
    let (store, _) = three();
    let tags =
        |sort: &str| store.carrack(["images", "--sort", sort, "--format", "{{.Repository}}:{{.Tag}}"]).line();
    assert_eq!(tags("created"), "app:latest\n<none>:<none>\nhost.example/team/old:1");
    assert_eq!(tags("repository"), "app:latest\nhost.example/team/old:1\n<none>:<none>");
    assert_eq!(tags("tag"), "<none>:<none>\nhost.example/team/old:1\napp:latest");
    let plain = store.carrack(["images", "--noheading"]).success().stdout;
    assert_eq!((plain.lines().count(), plain.contains("REPOSITORY")), (3, false), "{plain}");
    let table =
        store.carrack(["images", "--format", "table {{.ID}}\\t{{.CreatedAt}}\\t{{.UniqueSize}}"]).line();
    assert!(table.starts_with("IMAGE ID       CREATEDAT"), "{table}");
    assert!(table.contains("2022-01-01 00:00:00 +0000 UTC   3B"), "{table}");
    let line = store.carrack(["images", "--format", "json", "app"]).line();
    let row: Value = serde_json::from_str(&line).unwrap();
    for (field, expected) in
        [("Repository", "app"), ("Tag", "latest"), ("Size", "3B"), ("SharedSize", "0B"), ("Containers", "0")]
    {
        assert_eq!(row[field], expected, "{row}");
    }
}

#[test]
fn inspect_has_dockers_fields() {
    let store = empty_store();
    let image = ImageFixture::new().layer("/a \"12345\"").layer("/b \"1\"").configure(|config| {
        config.author = Some("captain".to_owned());
        config.variant = Some("v2".to_owned());
        config.history[1].comment = Some("the last step".to_owned());
        config.config.env = vec!["A=1".to_owned()];
    });
    store.load(&image, "host.example/app:1");
    let one: Value = serde_json::from_str(&store.carrack(["image", "inspect", "host.example/app:1"]).line())
        .expect("it is JSON");
    let one = &one[0];
    let manifest = image.manifest();
    for (field, expected) in [
        ("Id", json!(image.id())),
        ("RepoTags", json!(["host.example/app:1"])),
        ("RepoDigests", json!([format!("host.example/app@{}", manifest.digest)])),
        ("Parent", json!("")),
        ("Comment", json!("the last step")),
        ("Created", json!("2020-02-02T02:02:02Z")),
        ("Container", json!("")),
        ("DockerVersion", json!("")),
        ("Author", json!("captain")),
        ("Variant", json!("v2")),
        ("Os", json!("linux")),
        ("Size", json!(6)),
        ("VirtualSize", json!(6)),
        (
            "RootFS",
            json!({"Type": "layers", "Layers": image.layers().iter().map(|layer| &layer.diff_id).collect::<Vec<_>>()}),
        ),
    ] {
        assert_eq!(one[field], expected, "{field}");
    }
    assert_eq!(one["Config"]["Env"], json!(["A=1"]));
    assert!(one["GraphDriver"]["Name"].is_string() && one["GraphDriver"]["Data"].is_null(), "{one}");
    let tagged = one["Metadata"]["LastTagTime"].as_str().unwrap();
    assert!(tagged.parse::<jiff::Timestamp>().unwrap().as_second() > 1_700_000_000, "{tagged}");
}

#[test]
fn inspect_shows_what_is_there_and_fails_for_the_rest() {
    let store = store();
    let missing = store.carrack(["image", "inspect", "absentee"]).code(1);
    assert_eq!(missing.stdout.trim(), "[]");
    assert!(missing.stderr.contains("absentee"), "{}", missing.stderr);
    let both = store.carrack(["inspect", "--type", "image", "absentee", IMAGE]).code(1);
    let shown: Value = serde_json::from_str(&both.stdout).unwrap();
    assert_eq!(shown.as_array().map(Vec::len), Some(1));
    assert_eq!(store.carrack(["image", "inspect", "-f", "{{.Os}}", IMAGE, IMAGE]).line(), "linux\nlinux");
}

#[test]
fn a_tree_shows_shared_layers_and_waste() {
    let store = empty_store();
    let base = || ImageFixture::new().layer("/a \"12345\"\n/d/\n/d/x \"1234567890\"");
    let app = base().layer("/a \"1\"\n/d whiteout\n/c \"123\"");
    store.load(&base().layer("/other \"1\""), "other:1");
    store.load(&app, "app:1");
    let tree: Value =
        serde_json::from_str(&store.carrack(["image", "tree", "--format", "json", "app:1"]).line()).unwrap();
    assert_eq!(tree["Names"], json!(["app:1"]));
    assert_eq!((&tree["Size"], &tree["Wasted"], &tree["WastedFiles"]), (&json!(19), &json!(15), &json!(2)));
    let layers = tree["Layers"].as_array().unwrap();
    assert_eq!((&layers[0]["Wasted"], &layers[0]["SharedWith"]), (&json!(15), &json!(["other:1"])));
    assert_eq!((&layers[1]["Wasted"], &layers[1]["SharedWith"]), (&json!(0), &json!([])));
    assert_eq!(layers[1]["CreatedBy"], "layer 2");
    let text = store.carrack(["image", "tree", "app:1"]).line();
    for part in ["Wasted:   15B (78.9%)", "15B wasted in 2 files", "shared with [other:1]", "layer 1"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    let missing = store.carrack(["image", "tree", "absentee"]).code(1);
    assert!(missing.stderr.contains("absentee"), "{}", missing.stderr);
}

#[test]
fn prune_asks_and_tells_the_bytes_it_freed() {
    let (store, [old, middle, new]) = three();
    let (code, output, errors) = with_input(store.command().args(["image", "prune"]), b"n\n");
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains("all dangling images") && output.ends_with("[y/N] "), "{output}");
    assert_eq!(ids(&store, &[]).len(), 3);
    let before = disk_bytes(&store);
    let (code, output, errors) = with_input(store.command().args(["image", "prune"]), b"y\n");
    assert_eq!(code, 0, "{errors}");
    assert!(output.contains(&format!("Deleted Images:\ndeleted: {middle}\n")), "{output}");
    let freed = before - disk_bytes(&store);
    assert!((1..10_000).contains(&freed), "so small that the line says nearly every byte, got {freed}");
    let kilobytes = format!("{:.2}", freed as f64 / 1000.0);
    let kilobytes = kilobytes.trim_end_matches('0').trim_end_matches('.');
    let shown = if freed < 1000 { format!("{freed}B") } else { format!("{kilobytes}kB") };
    assert!(output.ends_with(&format!("\nTotal reclaimed space: {shown}\n")), "{freed}: {output}");
    assert_eq!(ids(&store, &[]), [new.clone(), old.clone()]);
    store.carrack(["create", "--name", "user", "--network", "none", "app", "x"]).success();
    let kept = store.carrack(["image", "prune", "-af", "--filter", "label=content=none"]).line();
    assert!(kept.starts_with("Total reclaimed space: 0B"), "{kept}");
    let pruned = store.carrack(["image", "prune", "--all", "--force"]).line();
    assert!(pruned.contains("untagged: host.example/team/old:1") && pruned.contains(&old), "{pruned}");
    assert_eq!(ids(&store, &[]), [new], "an image with a container stays");
}

/// The length of all blobs and all files of layers.
fn disk_bytes(store: &Store) -> u64 {
    let blobs = crate::kit::files_below(&store.root().join("content/blobs"));
    let folders = crate::kit::snapshot_folders(store, "committed");
    let files = folders.iter().flat_map(|folder| crate::kit::files_below(folder));
    let files = files.filter(|path| !path.ends_with("record.json"));
    blobs.into_iter().chain(files).map(|path| path.symlink_metadata().unwrap().len()).sum()
}

#[test]
fn exists_answers_by_exit_code() {
    let store = store();
    store.carrack(["image", "exists", IMAGE]).success();
    store.carrack(["image", "exists", &id(&store, IMAGE)[..20]]).success();
    let run = store.carrack(["image", "exists", "absentee"]).code(1);
    assert_eq!((run.stdout, run.stderr), (String::new(), String::new()));
}

#[test]
fn rmi_knows_all_force_ignore_and_no_prune() {
    let (store, _) = three();
    let blobs = || crate::kit::files_below(&store.root().join("content/blobs")).len();
    let run = store.carrack(["rmi", "--force", "absentee"]).code(0);
    assert!(run.stderr.contains("absentee"), "{}", run.stderr);
    let run = store.carrack(["rmi", "--ignore", "absentee"]).code(0);
    assert_eq!(run.stderr, "");
    let before = blobs();
    store.carrack(["rmi", "--no-prune", "host.example/team/old:1"]).success();
    assert_eq!((blobs(), ids(&store, &[]).len()), (before, 2));
    store.carrack(["rmi", "--all"]).success();
    crate::kit::assert_nothing_is_left(&store);
}

#[test]
fn an_ambiguous_id_lists_the_candidates() {
    let store = empty_store();
    let mut by_digit = std::collections::BTreeMap::<String, Vec<String>>::new();
    let twins = loop {
        let number: usize = by_digit.values().map(Vec::len).sum();
        let id = load(&store, &format!("app:{number}"), &number.to_string(), "2020-01-01T00:00:00Z");
        let hex = id["sha256:".len()..].to_owned();
        let same = by_digit.entry(hex[..1].to_owned()).or_default();
        same.push(hex);
        if same.len() == 2 {
            break same.clone();
        }
    };
    let run = store.carrack(["image", "inspect", &twins[0][..1]]).code(1);
    for twin in &twins {
        assert!(run.stderr.contains(&twin[..12]), "{}", run.stderr);
    }
    store.carrack(["image", "inspect", &format!("sha256:{}", &twins[0][..20])]).success();
}

#[test]
fn a_name_knows_what_it_meant_before() {
    let (store, [old, middle, new]) = three();
    let log =
        store.carrack(["image", "log", "--no-trunc", "--format", "{{.Name}} {{.ID}} {{.State}}", "app"]);
    assert_eq!(log.line(), format!("app:latest@{{0}} {new} here\napp:latest@{{1}} {middle} here"));
    let line = store.carrack(["image", "log", "--limit", "1", "--format", "json", "app"]).line();
    let entry: Value = serde_json::from_str(&line).unwrap();
    assert!(entry["Since"].as_str().unwrap().ends_with('Z') && entry["Until"] == "", "{entry}");
    assert_eq!(id(&store, "app@{1}"), middle);
    let beyond = store.carrack(["image", "inspect", "app@{2}"]).code(1);
    assert!(beyond.stderr.contains("app@{0} to app@{1}"), "{}", beyond.stderr);
    store.carrack(["create", "--network", "none", "app@{1}", "x"]).success();
    store.carrack(["tag", "app@{1}", "app"]).success();
    assert_eq!((id(&store, "app"), id(&store, "app@{1}")), (middle.clone(), new));
    // The old image loses its only name to the log of another one, and then that one too.
    store.carrack(["tag", "host.example/team/old:1", "app"]).success();
    store.carrack(["tag", "app@{1}", "app"]).success();
    let untagged = store.carrack(["rmi", "host.example/team/old:1"]).line();
    assert_eq!(untagged, "Untagged: host.example/team/old:1", "the log of app has it");
    assert_eq!(id(&store, "app@{1}"), old);
    store.carrack(["rmi", "app@{1}"]).success();
    let gone = store.carrack(["run", "--rm", "app@{1}"]).code(125);
    assert!(gone.stderr.contains("was removed"), "{}", gone.stderr);
    let states = store.carrack(["image", "log", "--format", "{{.State}}", "app"]).line();
    assert_eq!(states, "here\nremoved\nhere\nhere\nhere");
}

#[test]
fn the_length_of_the_log_is_a_setting() {
    let store = empty_store();
    let settings = store.path().join("carrack.toml");
    std::fs::write(&settings, "[images]\nhistory = 1\n").unwrap();
    for content in ["one", "two", "three", "four"] {
        let fixture = load(&store, content, content, "2020-01-01T00:00:00Z");
        store.carrack(["--settings", settings.to_str().unwrap(), "tag", &fixture, "app"]).success();
    }
    assert_eq!(store.carrack(["image", "log", "--format", "{{.Number}}", "app"]).line(), "0\n1");
}

#[test]
fn what_is_made_here_is_not_called_by_a_digest() {
    let store = store();
    let name = format!("evil@sha256:{}", "a".repeat(64));
    let tar = store.path().join("tree.tar");
    std::fs::write(&tar, ImageFixture::tar("/one \"1\"")).unwrap();
    let context = store.path().join("context");
    std::fs::create_dir(&context).unwrap();
    std::fs::write(context.join("Dockerfile"), format!("FROM {IMAGE}\n")).unwrap();
    let (tar, context) = (tar.to_str().unwrap(), context.to_str().unwrap());
    for words in [vec!["import", tar, &name], vec!["build", "-t", &name, context], vec!["tag", IMAGE, &name]]
    {
        let run = store.carrack(&words).code(1);
        assert!(run.stderr.contains("expected a name with a tag"), "{words:?}: {}", run.stderr);
    }
    assert_eq!(store.carrack(["images", "--quiet"]).line().lines().count(), 1);
}

#[test]
fn rmi_takes_the_image_of_a_stopped_container_by_force() {
    let store = store();
    store.carrack(["run", "--network", "none", "--name", "one", IMAGE, "touch", "/made"]).success();
    let run = store.carrack(["rmi", IMAGE]).code(1);
    assert!(run.stderr.contains("in use by container one"), "{}", run.stderr);
    store.carrack(["start", "one"]).success();
    store.carrack(["wait", "one"]).success();
    store.carrack(["rmi", "--force", IMAGE]).success();
    assert_eq!(store.carrack(["images", "--quiet"]).line(), "");
    assert_eq!(store.carrack(["start", "--attach", "one"]).code(0).stdout, "", "it keeps its layers");
    assert!(store.carrack(["ps", "--all"]).success().stdout.contains("one"));
    store.carrack(["rm", "one"]).success();
    store.carrack(["system", "prune", "--force"]).success();
    crate::kit::assert_nothing_is_left(&store);

    let store = crate::kit::store();
    store.carrack(["run", "-d", "--network", "none", "--name", "one", IMAGE, "sleep", "1000"]).success();
    let run = store.carrack(["rmi", "--force", IMAGE]).code(1);
    assert!(run.stderr.contains("stop and remove the container"), "{}", run.stderr);
    store.carrack(["rm", "--force", "one"]).success();
}

#[test]
fn groups_know_the_second_names_of_their_commands() {
    let store = store();
    assert_eq!(
        store.carrack(["image", "list", "--quiet"]).line(),
        store.carrack(["images", "--quiet"]).line()
    );
    assert_eq!(store.carrack(["container", "list", "--quiet"]).line(), "");
    assert_eq!(store.carrack(["volume", "list", "--quiet"]).line(), "");
    store.carrack(["image", "remove", IMAGE]).success();
}
